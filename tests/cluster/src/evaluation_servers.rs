//! The servers that an evaluation talks to: models that check keys, and a Hub with data sets, some of them gated. They are
//! those of the runner's own tests (`images/runner/tests/`), in a process of their own.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::json;

use crate::cluster::choose_cryptography;
use crate::python;

/// Some model servers and a Hub. They end when this is dropped, and when this process ends in whatever way.
pub struct EvaluationServers {
    process: Child,
    addresses: Addresses,
    client: reqwest::Client,
}

#[derive(Deserialize)]
struct Addresses {
    models: Vec<String>,
    hub: String,
}

/// What a model server was asked so far.
#[derive(Debug, Default, Deserialize)]
pub struct Asked {
    /// How often each model was asked.
    pub calls: BTreeMap<String, u64>,
    /// The SHA-256, in hexadecimal digits, of the keys that each model was asked with.
    pub keys: BTreeMap<String, Vec<String>>,
}

impl EvaluationServers {
    /// Starts them at an address of this machine: a model server for each item of `keys`, which takes those keys, and a
    /// Hub that takes the tokens. It blocks.
    pub fn start(host: &str, keys: &[&[&str]], tokens: &[&str]) -> Result<Self> {
        choose_cryptography();
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../images/runner/tests/serve.py");
        let mut process = Command::new(python::program()?)
            .arg("-B")
            .arg(&program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        let wanted = json!({"host": host, "models": keys, "tokens": tokens});
        // Left open: its end is the servers' end.
        writeln!(process.stdin.as_mut().context("standard input")?, "{wanted}")?;
        let mut line = String::new();
        BufReader::new(process.stdout.take().context("standard output")?).read_line(&mut line)?;
        let addresses = serde_json::from_str(&line).with_context(|| format!("{} has not begun", program.display()))?;
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build()?;
        Ok(Self { process, addresses, client })
    }

    /// A model server's address.
    pub fn model(&self, index: usize) -> &str {
        &self.addresses.models[index]
    }

    /// The Hub's address.
    pub fn hub(&self) -> &str {
        &self.addresses.hub
    }

    /// What a model server was asked so far.
    pub async fn asked(&self, index: usize) -> Result<Asked> {
        let answer = self.client.get(format!("{}/stats", self.model(index))).send().await?;
        ensure!(answer.status().is_success(), "{}", answer.status());
        Ok(serde_json::from_str(&answer.text().await?)?)
    }
}

impl Drop for EvaluationServers {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
