//! moto, a server that behaves like AWS Secrets Manager and STS as long as all is well.

use std::fs::File;
use std::io::Read as _;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use serde_json::Value;

/// moto keeps the secrets of a region in one table, and breaks off where that changes while it is walked. So tests that
/// run at the same time are each in a region of their own.
const REGIONS: [&str; 12] = [
    "us-east-1",
    "us-east-2",
    "us-west-1",
    "us-west-2",
    "eu-west-1",
    "eu-west-2",
    "eu-west-3",
    "eu-central-1",
    "eu-north-1",
    "ap-south-1",
    "ap-northeast-1",
    "ap-southeast-1",
];

/// Ends with its standard input, so that it never outlives the tests, however those end.
const SERVER: &str = "import os, sys, threading
threading.Thread(target=lambda: (sys.stdin.buffer.read(), os._exit(0)), daemon=True).start()
from moto.server import main
main(sys.argv[1:])";

/// A running server. Tests that run at the same time share one; each has a team of its own there.
pub struct Moto {
    address: String,
    child: Mutex<Child>,
    _stdin: Option<ChildStdin>,
    log: PathBuf,
    _folder: tempfile::TempDir,
}

impl Moto {
    /// The server that other tests use already, or a new one.
    pub async fn shared() -> Arc<Self> {
        static SHARED: tokio::sync::Mutex<Weak<Moto>> = tokio::sync::Mutex::const_new(Weak::new());
        let mut shared = SHARED.lock().await;
        if let Some(running) = shared.upgrade() {
            return running;
        }
        let started = Arc::new(Self::start().await.unwrap());
        *shared = Arc::downgrade(&started);
        started
    }

    async fn start() -> Result<Self> {
        let requirements = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/stores/requirements/moto.txt");
        let environment = tokio::task::spawn_blocking(move || {
            daypass_testcluster::python::environment_of(&[requirements], "moto, which stands for AWS")
        })
        .await??;
        let mut last = None;
        // Between the choice of a port and its use another process may take it.
        for _ in 0..3 {
            let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
            let folder = tempfile::tempdir()?;
            let log = folder.path().join("moto.log");
            let output = File::create(&log)?;
            let mut child = Command::new(environment.join("bin/python"))
                .args(["-I", "-c", SERVER, "-H", "127.0.0.1", "-p", &port.to_string()])
                .stdin(Stdio::piped())
                .stdout(output.try_clone()?)
                .stderr(output)
                .spawn()
                .context("start moto")?;
            let moto = Self {
                address: format!("http://127.0.0.1:{port}"),
                _stdin: child.stdin.take(),
                child: Mutex::new(child),
                log,
                _folder: folder,
            };
            match moto.ready().await {
                Ok(()) => return Ok(moto),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| anyhow!("no port is free")))
    }

    async fn ready(&self) -> Result<()> {
        let health = format!("{}/moto-api/", self.address);
        let up = daypass_testcluster::poll(Duration::from_secs(60), "moto answers", async || {
            let ended = self.child.lock().unwrap_or_else(PoisonError::into_inner).try_wait()?;
            if let Some(status) = ended {
                return Ok(Err(anyhow!("moto has ended: {status}")));
            }
            ensure!(client().get(&health).send().await?.status().is_success(), "moto is not ready");
            Ok(Ok(()))
        });
        up.await.flatten().with_context(|| format!("the end of moto's log:\n{}", self.log()))
    }

    /// Where it is.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// A region for a test alone.
    pub fn region() -> &'static str {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        REGIONS[NEXT.fetch_add(1, Ordering::Relaxed) % REGIONS.len()]
    }

    /// Does to Secrets Manager what somebody else would, without the code that is tested.
    pub async fn call(&self, region: &str, action: &str, body: &Value) -> Value {
        let credential = format!("Credential=somebody/20260101/{region}/secretsmanager/aws4_request");
        let answer = client()
            .post(&self.address)
            .header("x-amz-target", format!("secretsmanager.{action}"))
            .header("content-type", "application/x-amz-json-1.1")
            .header("authorization", format!("AWS4-HMAC-SHA256 {credential}, SignedHeaders=host, Signature=0"))
            .body(body.to_string())
            .send()
            .await
            .unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{action}: {status} {text}");
        serde_json::from_str(&text).unwrap()
    }

    fn log(&self) -> String {
        let mut text = String::new();
        if let Ok(mut file) = File::open(&self.log) {
            let _ = file.read_to_string(&mut text);
        }
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

impl Drop for Moto {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the end of moto's log:\n{}", self.log());
        }
        let child = self.child.get_mut().unwrap_or_else(PoisonError::into_inner);
        let _ = child.kill();
        let _ = child.wait();
    }
}
