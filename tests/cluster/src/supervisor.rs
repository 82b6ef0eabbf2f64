//! The line to a cluster's supervisor process (see `kubernetes/supervisor`): a request and an answer at a time, as JSON.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::progress;

/// A running supervisor. The cluster ends with it, unless it was detached.
#[derive(Debug)]
pub(crate) struct Supervisor {
    process: Child,
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    log: PathBuf,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Request<'a> {
    Start(&'a Part),
    Stop(&'a str),
    Exits(bool),
    Node(&'a NodeRequest),
    Detach(bool),
    End(bool),
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Answer {
    error: String,
    pid: u32,
    exits: BTreeMap<String, String>,
    network: Option<Network>,
}

/// One process of a cluster. Its output goes to `logs/NAME.log` in the state folder.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) argv: Vec<String>,
    /// `NAME=value`, on top of this process' environment.
    pub(crate) env: Vec<String>,
}

/// What the supervisor must know to prepare the machine for a kubelet.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NodeRequest {
    /// Unique for each cluster: names the bridge and the control group.
    pub(crate) id: String,
    /// The service address of the API server, as Pods know it.
    pub(crate) service_address: String,
    /// The port on 127.0.0.1 where it really listens.
    pub(crate) apiserver_port: u16,
}

/// What the supervisor prepared.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Network {
    pub(crate) bridge: String,
    pub(crate) subnet: String,
    pub(crate) gateway: String,
    pub(crate) cgroup: String,
    pub(crate) shim_cgroup: String,
}

impl Supervisor {
    /// Starts a supervisor for a state folder, which it locks.
    pub(crate) fn spawn(program: &Path, state: &Path) -> Result<Self> {
        let log = state.join("logs/supervisor.log");
        let mut process = Command::new(program)
            .arg("run")
            .arg(state)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&log)?)
            .spawn()
            .with_context(|| format!("run {}", program.display()))?;
        let requests = process.stdin.take();
        let answers = BufReader::new(process.stdout.take().context("no output")?);
        let mut supervisor = Self { process, requests, answers, log };
        supervisor.answer()?;
        Ok(supervisor)
    }

    /// Starts a part and returns its process ID.
    pub(crate) fn start(&mut self, part: &Part) -> Result<u32> {
        Ok(self.call(&Request::Start(part))?.pid)
    }

    pub(crate) fn stop(&mut self, part: &str) -> Result<()> {
        self.call(&Request::Stop(part)).map(drop)
    }

    /// The parts that have ended by themselves, and how.
    pub(crate) fn exits(&mut self) -> Result<BTreeMap<String, String>> {
        Ok(self.call(&Request::Exits(true))?.exits)
    }

    pub(crate) fn prepare_node(&mut self, request: &NodeRequest) -> Result<Network> {
        self.call(&Request::Node(request))?.network.context("the supervisor prepared no network")
    }

    /// Lets the cluster live on when this process ends.
    pub(crate) fn detach(&mut self) -> Result<()> {
        self.call(&Request::Detach(true))?;
        self.requests = None;
        Ok(())
    }

    /// Ends all parts and removes everything they left on the machine.
    pub(crate) fn end(&mut self) -> Result<()> {
        if self.requests.is_none() {
            return Ok(());
        }
        let ended = self.call(&Request::End(true)).map(drop);
        self.requests = None;
        self.process.wait()?;
        ended
    }

    fn call(&mut self, request: &Request) -> Result<Answer> {
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        let Some(requests) = &mut self.requests else { bail!("the cluster is detached") };
        // Where the write fails the supervisor is dead, and reading says more.
        let _ = requests.write_all(&line);
        self.answer()
    }

    fn answer(&mut self) -> Result<Answer> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            let log = File::open(&self.log).map_err(Into::into).and_then(|mut file| progress::tail(&mut file));
            bail!("the cluster's supervisor has ended: {}", log.unwrap_or_default());
        }
        let answer: Answer = serde_json::from_str(&line).context("the supervisor's answer")?;
        if !answer.error.is_empty() {
            bail!("{}", answer.error);
        }
        Ok(answer)
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        // Closing the input would do, but then nobody waits for the end of the processes.
        if let Err(error) = self.end() {
            eprintln!("end of the cluster: {error:#}");
        }
    }
}
