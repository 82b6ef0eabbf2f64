//! A server that answers every question with the same bytes, or does not answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What it does with a connection.
#[derive(Clone)]
pub enum Reply {
    /// A status, headers and a body.
    Answer(u16, &'static str, Vec<u8>),
    /// Bytes that may be no HTTP at all, then the end.
    Bytes(Vec<u8>),
    /// The head of a good answer, then a byte of its body every second.
    Drip,
    /// Never a word.
    Hang,
    /// The end, at once.
    Close,
}

/// The server. It ends with the runtime.
pub struct Canned {
    address: String,
    asked: Arc<AtomicUsize>,
}

impl Canned {
    /// A server that does the first of these, then the next, and at last always the last one.
    pub async fn start(replies: Vec<Reply>) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = format!("http://{}", listener.local_addr()?);
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = asked.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = counted.fetch_add(1, Ordering::Relaxed);
                let reply = replies[number.min(replies.len() - 1)].clone();
                tokio::spawn(serve(stream, reply));
            }
        });
        Ok(Self { address, asked })
    }

    /// Where it listens.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// How many connections there were.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

async fn serve(mut stream: TcpStream, reply: Reply) -> Option<()> {
    if matches!(reply, Reply::Close) {
        return None;
    }
    // The head of the question; its body, if any, may stay unread.
    let mut head = Vec::new();
    let mut chunk = [0; 1024];
    // A client that wants TLS sends no head at all.
    while !head.windows(4).any(|end| end == b"\r\n\r\n") && head.first() != Some(&0x16) {
        let read = stream.read(&mut chunk).await.ok().filter(|read| *read > 0)?;
        head.extend_from_slice(&chunk[..read]);
    }
    match reply {
        Reply::Drip => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n").await.ok()?;
            loop {
                stream.write_all(b" ").await.ok()?;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
        Reply::Hang => std::future::pending::<()>().await,
        Reply::Close => {}
        Reply::Bytes(bytes) => stream.write_all(&bytes).await.ok()?,
        Reply::Answer(status, headers, body) => {
            let head =
                format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n", body.len());
            stream.write_all(head.as_bytes()).await.ok()?;
            stream.write_all(&body).await.ok()?;
        }
    }
    stream.shutdown().await.ok()
}
