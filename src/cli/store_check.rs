//! `store check`: the operator looks at a store, and what it saw is shown step by step.
//!
//! It is the operator that looks: whether its network reaches the backend, and whether the backend lets it in, is what
//! counts. So this needs no rights on the backend.

use std::time::Duration;

use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::Session;
use super::connect::Cluster;
use super::error::{CliError, Exit, Result};
use super::output::{Format, Table};
use super::store::{api, get};
use crate::api::names::DEFAULT_STORE;
use crate::api::{
    BackendKind, BreakerState, CHECK_REQUESTED, ConditionStatus, ConditionType, TeamSecretStore, TeamSecretStoreStatus,
};

/// How long the operator may take: its own deadline for a backend, and some.
const PATIENCE: Duration = Duration::from_secs(45);
const POLL: Duration = Duration::from_millis(300);

/// `store check`.
pub async fn run(session: &mut Session, name: &str) -> Result<()> {
    let cluster = session.cluster().await?;
    let store = existing(&cluster, name).await?;
    let store = look_anew(session, &cluster, name, store).await?;
    let team = &cluster.namespace;
    let backend = store.spec.backend().map_or("unknown", BackendKind::as_str);
    let status = store.status.unwrap_or_default();
    let ready = status.conditions.iter().find(|condition| condition.type_ == ConditionType::Ready);
    let state = ready.map_or(ConditionStatus::Unknown, |condition| condition.status);
    let reason = ready.map(|condition| condition.reason.to_string()).unwrap_or_default();
    let message = ready.map(|condition| condition.message.clone()).unwrap_or_default();
    let data = json!({
        "team": team, "store": name, "backend": backend, "ready": state, "reason": reason, "message": message,
        "secretCount": status.secret_count, "lastCheck": status.last_check, "breaker": status.breaker,
        "checks": status.checks, "names": status.names,
        "revoked": store.spec.revoked.iter().map(|revoked| &revoked.name).collect::<Vec<_>>(),
    });
    session.out.result(&data, || table(name, backend, &status, state, &message))?;
    if let (Some(BreakerState::Open | BreakerState::HalfOpen), Format::Table) = (status.breaker, session.out.format()) {
        session
            .out
            .note("The backend has failed several times in a row: the operator asks it every half minute at most.");
    }
    if state == ConditionStatus::True {
        return Ok(());
    }
    let error = CliError::new(Exit::Failure, format!("the store {name} of team {team} is not ready: {reason}"));
    Err(match state {
        ConditionStatus::Unknown => error.hint("the operator has not looked at it yet: is it running and ready?"),
        _ => error.hint(message),
    })
}

fn table(name: &str, backend: &str, status: &TeamSecretStoreStatus, ready: ConditionStatus, message: &str) -> Table {
    let mut table = Table::new(["STORE", "BACKEND", "STEP", "STATE", "MESSAGE"]);
    let word = |state: ConditionStatus| match state {
        ConditionStatus::True => "passed",
        ConditionStatus::False => "failed",
        ConditionStatus::Unknown => "not tried",
    };
    for check in &status.checks {
        let message = check.message.clone().unwrap_or_default();
        table.row([name.into(), backend.into(), format!("{:?}", check.step), word(check.state).into(), message]);
    }
    let count = status.secret_count.map(|count| format!("{count} secrets. ")).unwrap_or_default();
    table.row([name.into(), backend.into(), "Ready".into(), word(ready).into(), format!("{count}{message}")]);
    table
}

async fn existing(cluster: &Cluster, name: &str) -> Result<TeamSecretStore> {
    let team = &cluster.namespace;
    let found = get(cluster, name).await?;
    found.ok_or_else(|| {
        let error = CliError::not_found(format!("team {team} has no store {name}"));
        if name == DEFAULT_STORE {
            error.hint(format!("`daypass store init -n {team}` makes it"))
        } else {
            error.hint(format!("`kubectl get teamsecretstores -n {team}` lists those that are there"))
        }
    })
}

/// Asks the operator for a look, and waits for it. Who may not ask, or waits in vain, sees the last one.
async fn look_anew(
    session: &mut Session,
    cluster: &Cluster,
    name: &str,
    store: TeamSecretStore,
) -> Result<TeamSecretStore> {
    // Any text that was not there before.
    let request = Timestamp::now().to_string();
    let stamp = json!({"metadata": {"annotations": {CHECK_REQUESTED: request}}});
    if api(cluster).patch(name, &PatchParams::default(), &Patch::Merge(stamp)).await.is_err() {
        session
            .out
            .note("You may not ask for a new look (that needs the right to change the store): this is the last one.");
        return Ok(store);
    }
    let started = tokio::time::Instant::now();
    loop {
        let store = existing(cluster, name).await?;
        let answered = store.status.as_ref().and_then(|status| status.check_requested.as_ref());
        if answered == Some(&request) {
            return Ok(store);
        }
        if started.elapsed() > PATIENCE {
            session.out.note("The operator has not looked again: is it running and ready? This is its last look.");
            return Ok(store);
        }
        tokio::time::sleep(POLL).await;
    }
}
