//! The chart's rights of the operator equal the verbs that it uses: no more, no less.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use daypass::api::{Phase, Reason, TeamSecretStore};
use daypass::stores::sealed::key::{KeyId, PrivateKey};
use daypass_testcluster::poll;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Role};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use crate::support::{NAMESPACE, Operator, Team, operator, sandbox};

/// One right, or one request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Right {
    verb: String,
    group: String,
    /// With `/subresource`.
    resource: String,
    /// Of a right: the only name that it is for, or none. Of a request: the name that it is about.
    name: Option<String>,
    /// Of a right: in the operator's own namespace only. Of a request: there.
    at_home: bool,
}

impl Right {
    fn allows(&self, request: &Self) -> bool {
        (&self.verb, &self.group, &self.resource) == (&request.verb, &request.group, &request.resource)
            && (self.name.is_none() || self.name == request.name)
            && (!self.at_home || request.at_home)
    }
}

fn granted(rules: Option<&[PolicyRule]>, at_home: bool) -> Vec<Right> {
    let mut rights = Vec::new();
    for rule in rules.unwrap_or_default() {
        let names = rule.resource_names.iter().flatten().cloned().map(Some);
        let names: Vec<_> = if rule.resource_names.is_none() { vec![None] } else { names.collect() };
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                for verb in &rule.verbs {
                    rights.extend(names.iter().cloned().map(|name| Right {
                        verb: verb.clone(),
                        group: group.clone(),
                        resource: resource.clone(),
                        name,
                        at_home,
                    }));
                }
            }
        }
    }
    rights
}

/// What the operator did so far. What was answered 404 or 409 counts: the right was used. Dry-runs are the guard's:
/// it tries with the rights that it has.
async fn used(operator: &Operator) -> Result<BTreeSet<Right>> {
    operator.cluster.audit_settled().await?;
    let entries = operator.cluster.audit().all()?.into_iter();
    let entries = entries.filter(|entry| entry.user == "system:serviceaccount:daypass-system:daypass-operator");
    let entries = entries.filter(|entry| !entry.dry_run && !entry.resource.is_empty());
    Ok(entries
        .map(|entry| {
            let slash = if entry.subresource.is_empty() { "" } else { "/" };
            Right {
                resource: format!("{}{slash}{}", entry.resource, entry.subresource),
                verb: entry.verb,
                group: entry.api_group,
                name: Some(entry.name),
                at_home: entry.namespace == NAMESPACE,
            }
        })
        .collect())
}

#[tokio::test]
async fn rights_equal_use() -> Result<()> {
    let operator = operator().await?;
    everything_once(operator).await?;
    let root = operator.cluster.admin()?;
    let everywhere = Api::<ClusterRole>::all(root.clone()).get("daypass-operator").await?;
    let at_home = Api::<Role>::namespaced(root, NAMESPACE).get("daypass-operator").await?;
    let everywhere = granted(everywhere.rules.as_deref(), false);
    let at_home = granted(at_home.rules.as_deref(), true);
    poll(Duration::from_secs(30), "the operator has used what it may, and nothing else", async || {
        let used = used(operator).await?;
        // A right of all namespaces that is used at home only should be a right at home.
        let needed =
            |right: &&Right| used.iter().any(|request| right.allows(request) && right.at_home == request.at_home);
        let more: Vec<_> = everywhere.iter().chain(&at_home).filter(|right| !needed(right)).collect();
        let allowed = |request: &&Right| everywhere.iter().chain(&at_home).any(|right| right.allows(request));
        let less: Vec<_> = used.iter().filter(|request| !allowed(request)).collect();
        ensure!(
            more.is_empty() && less.is_empty(),
            "granted and never used: {more:#?}; used and not granted: {less:#?}"
        );
        Ok(())
    })
    .await
}

/// Runs that need each right at least once.
async fn everything_once(operator: &'static Operator) -> Result<()> {
    let team = Team::new(operator, "rights").await?;
    let stores = Api::<TeamSecretStore>::namespaced(team.admin.clone(), &team.namespace);
    let store = json!({
        "apiVersion": "daypass.dev/v1alpha1", "kind": "TeamSecretStore", "metadata": {"name": "default"},
        "spec": {"sealed": {}},
    });
    team.apply(store.clone()).await?;
    team.set_secret("TOKEN", b"value").await?;

    // A whole life: NetworkPolicy, Secret, Pod, status, and the end of its time.
    let spec = json!({"secrets": [{"name": "TOKEN"}], "network": {"denyEgress": true}, "ttlSecondsAfterFinished": 0});
    let run = team.submit(&sandbox("whole", spec)?).await?;
    team.pod(&run).await?;
    team.play_start(&run).await?;
    team.wait("whole", "it runs", |status| status.phase == Phase::Running).await?;
    team.play_exit(&run, 0).await?;
    poll(Duration::from_secs(30), "it is gone", async || {
        ensure!(team.sandboxes().get_opt("whole").await?.is_none(), "it is there");
        Ok(())
    })
    .await?;

    // One that is stopped: the operator deletes its Pod.
    let run = team.submit(&sandbox("stopped", json!({}))?).await?;
    team.pod(&run).await?;
    let stop = Patch::Merge(json!({"spec": {"stop": true}}));
    team.sandboxes().patch("stopped", &PatchParams::default(), &stop).await?;
    team.wait_finished("stopped").await?;

    // An evaluation that waits for a queue: its gate is lifted, and its time ends.
    let spec = json!({
        "benchmarks": [{"task": "boolq"}], "queueName": "q", "ttlSecondsAfterFinished": 0,
        "model": {"name": "m", "baseURL": "https://models.test/v1", "apiKey": {"name": "TOKEN"}},
    });
    let job = team.evaluate("queued", spec).await?;
    let run = team.attempt(&job, "boolq", 1).await?;
    team.starts(&job, "boolq", &run).await?;
    team.play_score(&run, 0.5).await?;
    poll(Duration::from_secs(30), "the evaluation is gone", async || {
        ensure!(team.evaljobs().get_opt("queued").await?.is_none(), "it is there");
        Ok(())
    })
    .await?;

    // Trouble twice of the same kind: an event, and the same event again.
    let elsewhere = json!({"secrets": [{"name": "ABSENT", "store": "other"}]});
    team.submit(&sandbox("troubled", elsewhere)?).await?;
    let mut other = store;
    other["metadata"]["name"] = json!("other");
    // It may not sign in as the operator: no call is made.
    other["spec"] = json!({"vault": {"address": "https://vault.example", "signIn": {"operator": {}}}});
    for _ in 0..2 {
        let waits = |reason| move |status: &daypass::api::SandboxStatus| status.reason == Some(reason);
        team.wait("troubled", "no store", waits(Reason::StoreNotFound)).await?;
        team.apply(other.clone()).await?;
        team.wait("troubled", "another reason", |status| status.reason != Some(Reason::StoreNotFound)).await?;
        stores.delete("other", &DeleteParams::default()).await?;
    }

    // A second key, as `daypass key add` makes it: the operator lists it once its file opens.
    let key = PrivateKey::generate();
    let id = KeyId::new(jiff::Timestamp::now(), &key.public());
    let data = json!({"data": {id.as_str(): STANDARD.encode(key.to_secret().expose())}});
    let root = operator.cluster.admin()?;
    let secrets = Api::<Secret>::namespaced(root.clone(), NAMESPACE);
    secrets.patch("daypass-keys", &PatchParams::default(), &Patch::Merge(data)).await?;
    poll(Duration::from_secs(60), "the second key is listed", async || {
        let keys = Api::<ConfigMap>::namespaced(root.clone(), NAMESPACE).get("daypass-public-keys").await?;
        ensure!(keys.data.unwrap_or_default().contains_key(id.as_str()), "it is not");
        Ok(())
    })
    .await
}
