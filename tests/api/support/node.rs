//! The node's part in a Pod's life: there is none in this tier, so the test plays it.

use anyhow::Result;
use jiff::Timestamp;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Request};
use serde_json::{Value, json};

use super::Team;

impl Team {
    /// Writes a Pod's status. `main` is the state of the run's own container.
    pub async fn play_node(&self, run: &str, phase: &str, main: Value) -> Result<()> {
        self.play_status(run, json!({"phase": phase, "containerStatuses": [container("main", main)]})).await
    }

    /// Writes any status of a Pod.
    pub async fn play_status(&self, run: &str, status: Value) -> Result<()> {
        let patch = Patch::Strategic(json!({"status": status}));
        self.pods().patch_status(run, &PatchParams::default(), &patch).await?;
        Ok(())
    }

    /// The node starts the container.
    pub async fn play_start(&self, run: &str) -> Result<()> {
        self.play_node(run, "Running", running()).await
    }

    /// The container waits.
    pub async fn play_waiting(&self, run: &str, reason: &str, message: &str) -> Result<()> {
        self.play_node(run, "Pending", json!({"waiting": {"reason": reason, "message": message}})).await
    }

    /// The container ends.
    pub async fn play_exit(&self, run: &str, code: i32) -> Result<()> {
        self.play_end(run, code, if code == 0 { "Completed" } else { "Error" }).await
    }

    /// The container ends, and the runtime says how.
    pub async fn play_end(&self, run: &str, code: i32, reason: &str) -> Result<()> {
        self.play_node(run, if code == 0 { "Succeeded" } else { "Failed" }, ended(code, reason)).await
    }

    /// The scheduler gives the Pod to a node. Only then does its deletion take as long as its grace. The node is the run's
    /// own: the controller manager takes Pods of nodes that are not there away, 40 s after it has first seen such a node.
    pub async fn play_bind(&self, run: &str) -> Result<()> {
        let binding = json!({
            "apiVersion": "v1", "kind": "Binding", "metadata": {"name": run},
            "target": {"apiVersion": "v1", "kind": "Node", "name": run},
        });
        let pods = Request::new(format!("/api/v1/namespaces/{}/pods", self.namespace));
        let request = pods.create_subresource("binding", run, &PostParams::default(), serde_json::to_vec(&binding)?)?;
        self.root.request::<Value>(request).await?;
        Ok(())
    }

    /// The kubelet's last word on a Pod that is being deleted.
    pub async fn play_vanish(&self, run: &str) -> Result<()> {
        self.pods().delete(run, &DeleteParams::default().grace_period(0)).await?;
        Ok(())
    }
}

/// What a kubelet says of one container.
pub fn container(name: &str, state: Value) -> Value {
    let ready = state.get("running").is_some();
    let mut status = json!({"name": name, "image": "i", "imageID": "", "ready": ready, "restartCount": 0});
    status["state"] = state;
    status
}

/// It runs since now.
pub fn running() -> Value {
    json!({"running": {"startedAt": now()}})
}

/// It ended just now.
pub fn ended(code: i32, reason: &str) -> Value {
    json!({"terminated": {"exitCode": code, "reason": reason, "startedAt": now(), "finishedAt": now()}})
}

fn now() -> String {
    daypass::api::Time(Timestamp::now()).to_second().to_string()
}
