//! Hands to act on EvalJobs, and a volume for their results.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use daypass::api::{EvalJob, EvalJobStatus, names};
use daypass_testcluster::poll;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use kube::api::{Api, PostParams};
use serde_json::{Value, json};

use super::Team;

/// A runner takes seconds to import what it needs, and several share the machine.
const LONG: Duration = Duration::from_mins(4);

impl Team {
    /// The team's EvalJobs, as its member.
    pub fn evaljobs(&self) -> Api<EvalJob> {
        Api::namespaced(self.member.clone(), &self.namespace)
    }

    /// Creates an EvalJob as the member: a model behind an address, with the secret `MODEL_KEY` as its key. Tries of the
    /// client's and the framework's own would each wait, so there are none.
    pub async fn evaluate(&self, name: &str, model: &str, address: &str, mut spec: Value) -> Result<EvalJob> {
        spec["model"] = json!({
            "name": model, "baseURL": format!("{address}/v1"), "apiKey": {"name": "MODEL_KEY"},
            "args": {"max_retries": "0"}, "generation": {"maxRetries": 0, "maxConnections": 1},
        });
        let object = json!({
            "apiVersion": "daypass.dev/v1alpha1", "kind": "EvalJob", "metadata": {"name": name}, "spec": spec,
        });
        Ok(self.evaljobs().create(&PostParams::default(), &serde_json::from_value(object)?).await?)
    }

    /// Waits until an EvalJob is over.
    pub async fn wait_job_over(&self, name: &str) -> Result<EvalJobStatus> {
        poll(LONG, "the job is over", async || {
            let status = self.evaljobs().get(name).await?.status.unwrap_or_default();
            ensure!(status.phase.is_terminal(), "{}", serde_json::to_string(&status)?);
            Ok(status)
        })
        .await
    }

    /// The Pod of an attempt, once it is there.
    pub async fn attempt(&self, job: &EvalJob, benchmark: &str, attempt: u32) -> Result<Pod> {
        let run = names::run_name(&job.name_any(), &job.uid().unwrap_or_default(), benchmark, attempt);
        poll(LONG, "the attempt has a Pod", async || Ok(self.pods().get(&run).await?)).await
    }

    /// Proves that no run Secret is left in the namespace.
    pub async fn assert_no_copies(&self) -> Result<()> {
        let left = self.secrets().list_metadata(&kube::api::ListParams::default()).await?;
        let left: Vec<_> =
            left.iter().map(ResourceExt::name_any).filter(|name| name.starts_with("daypass-run-")).collect();
        ensure!(left.is_empty(), "{left:?} are still there");
        Ok(())
    }

    /// Makes the claim `results`, and gives the folder of the node that it is.
    pub async fn results_volume(&self) -> Result<PathBuf> {
        let folder = self.cluster.state().join("volumes").join(&self.namespace);
        fs::create_dir_all(&folder)?;
        // The runner is nobody in particular.
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777))?;
        let volume: PersistentVolume = serde_json::from_value(json!({
            "metadata": {"name": self.namespace},
            "spec": {
                "accessModes": ["ReadWriteMany"], "capacity": {"storage": "1Gi"}, "storageClassName": "",
                "claimRef": {"namespace": self.namespace, "name": "results"}, "hostPath": {"path": folder},
            },
        }))?;
        Api::all(self.root.clone()).create(&PostParams::default(), &volume).await?;
        let claim: PersistentVolumeClaim = serde_json::from_value(json!({
            "metadata": {"name": "results"},
            "spec": {
                "accessModes": ["ReadWriteMany"], "storageClassName": "",
                "resources": {"requests": {"storage": "1Gi"}},
            },
        }))?;
        Api::namespaced(self.root.clone(), &self.namespace).create(&PostParams::default(), &claim).await?;
        Ok(folder)
    }
}
