//! Proof that the admission policies are in force.
//!
//! The operator's rights on Secrets are `create` and `delete`, and each of them leaves a read open that only admission
//! closes. So it does nothing until it has seen the API server refuse: rules that bind the operator are tried by
//! dry-runs, each of which must be refused by the very rule that it is for. Rules that bind other people, and those of
//! the operator that RBAC refuses first, are proven by reading policy and binding and comparing them with what the
//! chart wrote.

mod digest;
mod policies;
pub mod probes;
mod request;
mod self_test;

use std::fmt;
use std::time::Duration;

use futures::stream::{self, StreamExt};
use kube::Client;

pub use digest::digest;
pub use self_test::{Row, refused_reads, table};

/// How many requests of one proof are under way at once.
const CONCURRENCY: usize = 4;

/// Who proves what.
#[derive(Clone, Debug)]
pub struct GuardConfig {
    /// The operator's namespace, which holds the Secret that deletions are tried on.
    pub namespace: String,
    /// The operator's `ServiceAccount`. Pods are tried with it: it is there, which no other is for certain.
    pub service_account: String,
    /// The operator's own Pod, to try a deletion on. None where it runs as a process: that rule is read only.
    pub pod_name: Option<String>,
    /// How long one request may take.
    pub deadline: Duration,
}

impl GuardConfig {
    /// The chart's names in `namespace`, and 5 s a request.
    pub fn new(namespace: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            service_account: "daypass-operator".to_owned(),
            pod_name: None,
            deadline: Duration::from_secs(5),
        }
    }
}

/// A rule that is not proven to be in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The policy's name, or the Secret's that deletions are tried on.
    pub policy: String,
    /// The rule's message, where one rule is meant and not the policy.
    pub rule: Option<&'static str>,
    /// What was seen instead.
    pub saw: String,
    /// What to type.
    pub mend: String,
    /// Whether the API server answered at all. No answer proves nothing, but nothing is known to be missing either.
    pub answered: bool,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.policy)?;
        if let Some(rule) = self.rule {
            write!(f, " (rule: {rule})")?;
        }
        write!(f, ": {}", self.saw)?;
        if self.answered { write!(f, "; {}", self.mend) } else { Ok(()) }
    }
}

/// What a proof came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GuardReport {
    /// Every rule that is not proven, policies in the chart's order.
    pub missing: Vec<Finding>,
}

impl GuardReport {
    /// Whether every rule is proven to be in force.
    pub fn in_force(&self) -> bool {
        self.missing.is_empty()
    }

    /// Whether something is known to be missing, and not only unknown because the API server did not answer.
    pub fn refuted(&self) -> bool {
        self.missing.iter().any(|finding| finding.answered)
    }
}

impl fmt::Display for GuardReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, finding) in self.missing.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{finding}")?;
        }
        Ok(())
    }
}

/// Asks for every proof. Changes nothing: reads by name, and dry-runs. Never fails: what cannot be asked is a finding.
pub async fn prove(client: &Client, config: &GuardConfig) -> GuardReport {
    let read: Vec<_> = probes::POLICIES.iter().map(|policy| policies::check(client, config, policy)).collect();
    let read = findings(read).await;
    // A policy that is known to be missing needs no proof that it does not act.
    let absent = |policy| read.iter().any(|finding: &Finding| finding.policy == policy);
    let tried: Vec<_> = probes::probes(config)
        .into_iter()
        .filter(|probe| !absent(probe.policy))
        .map(|probe| probes::attempt(client, config, probe))
        .collect();
    let tried = findings(tried).await;
    GuardReport { missing: read.into_iter().chain(tried).collect() }
}

/// Asks a few at a time, and keeps their order.
async fn findings<F: Future<Output = Option<Finding>>>(asked: Vec<F>) -> Vec<Finding> {
    stream::iter(asked).buffered(CONCURRENCY).filter_map(std::future::ready).collect().await
}

/// The line that writes the chart's objects anew, over what was changed by hand.
fn mend(config: &GuardConfig) -> String {
    format!("write it anew: helm upgrade daypass CHART -n {} --reuse-values --force-conflicts", config.namespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_can_be_a_task() {
        fn task<T: Send>(_: impl FnOnce(Client, GuardConfig) -> T) {}
        task(|client, config| async move { prove(&client, &config).await });
    }
}
