//! A proxy between a client and a real server, that fails in one way at a time until it is told another.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// What it does with a connection.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// Hands everything on.
    None,
    /// Hands the question on after a while.
    Delay(Duration),
    /// Breaks the connection off (RST) as soon as something is asked.
    Reset,
    /// Hands on so many bytes of the answer, then ends the connection.
    Truncate(usize),
    /// Answers itself: a status line and headers, without a body.
    Answer(&'static str),
    /// Never a word.
    Hang,
}

/// The proxy. It ends with the runtime.
pub struct FaultProxy {
    address: String,
    fault: Arc<Mutex<Fault>>,
    connections: Arc<Mutex<JoinSet<()>>>,
}

impl FaultProxy {
    /// A proxy before the server at an address (`http://HOST:PORT`), without a fault.
    pub async fn start(server: &str) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = format!("http://{}", listener.local_addr()?);
        let server = server.trim_start_matches("http://").to_owned();
        let fault = Arc::new(Mutex::new(Fault::None));
        let connections = Arc::new(Mutex::new(JoinSet::new()));
        let (current, open) = (fault.clone(), connections.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let fault = *current.lock().unwrap_or_else(PoisonError::into_inner);
                let server = server.clone();
                open.lock().unwrap_or_else(PoisonError::into_inner).spawn(async move {
                    // A client that has gone has got what it deserved.
                    let _ = relay(client, &server, fault).await;
                });
            }
        });
        Ok(Self { address, fault, connections })
    }

    /// Where it listens.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// From now on this happens, to the connections that are open too.
    pub fn set(&self, fault: Fault) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
        self.connections.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }
}

async fn relay(mut client: TcpStream, server: &str, fault: Fault) -> std::io::Result<()> {
    // What is asked tells that somebody is there.
    let mut first = vec![0; 16 * 1024];
    let read = client.read(&mut first).await?;
    match fault {
        Fault::Reset => return client.set_zero_linger(),
        Fault::Hang => std::future::pending::<()>().await,
        Fault::Answer(head) => {
            client
                .write_all(format!("HTTP/1.1 {head}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").as_bytes())
                .await?;
            return Ok(());
        }
        Fault::Delay(time) => tokio::time::sleep(time).await,
        Fault::None | Fault::Truncate(_) => {}
    }
    let mut upstream = TcpStream::connect(server).await?;
    upstream.write_all(&first[..read]).await?;
    if let Fault::Truncate(bytes) = fault {
        let mut answer = vec![0; bytes];
        let read = upstream.read(&mut answer).await?;
        return client.write_all(&answer[..read]).await;
    }
    tokio::io::copy_bidirectional(&mut client, &mut upstream).await.map(drop)
}
