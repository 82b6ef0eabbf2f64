//! Sandboxes that get their values from a real OpenBao, through the operator with the chart's own rights.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use daypass::api::{
    BreakerState, CHANGED, ConditionStatus, ConditionType, Phase, Reason, Sandbox, SandboxStatus, TeamSecretStore,
    TeamSecretStoreStatus,
};
use daypass::resolve::front::WAITING;
use daypass_testcluster::{OpenBao, poll};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::cluster::{Team, sandbox};
use crate::support::{Canned, Fault, FaultProxy, Reply, operator};

/// A team with a store `vault` in a server that lets it sign in.
pub async fn team_with_vault(prefix: &str) -> Result<(Team, OpenBao)> {
    let operator = operator().await?;
    let team = Team::new(operator, prefix).await?;
    let server = OpenBao::start().await?;
    set_up(&team, &server).await?;
    let sign_in = json!({"serviceAccount": {"name": "default"}});
    make_store(&team, "vault", &server.address(), &sign_in, json!({})).await?;
    let_mint(&team).await?;
    Ok((team, server))
}

/// What an admin of Vault does for the team.
async fn set_up(team: &Team, server: &OpenBao) -> Result<()> {
    server.trust(team.cluster).await?;
    server.let_read(&team.namespace, "default", "60s").await
}

async fn make_store(team: &Team, name: &str, address: &str, sign_in: &Value, more: Value) -> Result<()> {
    let mut spec = json!({"vault": {
        "address": address, "role": team.namespace, "connection": {"insecure": true}, "signIn": sign_in,
    }});
    if let (Value::Object(spec), Value::Object(more)) = (&mut spec, more) {
        spec.extend(more);
    }
    let store = json!({"apiVersion": "daypass.dev/v1alpha1", "kind": "TeamSecretStore", "metadata": {"name": name}, "spec": spec});
    team.apply(store).await
}

/// The Role that the team grants for its one ServiceAccount.
async fn let_mint(team: &Team) -> Result<()> {
    team.apply(json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "mint"},
        "rules": [{"apiGroups": [""], "resources": ["serviceaccounts/token"], "resourceNames": ["default"], "verbs": ["create"]}],
    }))
    .await?;
    team.apply(json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "mint"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "mint"},
        "subjects": [{"kind": "ServiceAccount", "name": "daypass-operator", "namespace": crate::cluster::NAMESPACE}],
    }))
    .await
}

async fn put(team: &Team, server: &OpenBao, name: &str, value: &str) -> Result<()> {
    let path = format!("secret/data/daypass/{}/{name}", team.namespace);
    server.must("POST", &path, json!({"data": {"value": value}})).await?;
    Ok(())
}

fn naming(secret: &str) -> Value {
    json!({"secrets": [{"name": secret, "store": "vault"}]})
}

async fn store_status(
    team: &Team,
    name: &str,
    what: &str,
    fits: impl Fn(&TeamSecretStoreStatus) -> bool,
) -> Result<TeamSecretStoreStatus> {
    let stores = Api::<TeamSecretStore>::namespaced(team.root.clone(), &team.namespace);
    poll(Duration::from_secs(60), what, async || {
        let status = stores.get(name).await?.status.context("no status yet")?;
        ensure!(fits(&status), "{}", serde_json::to_string(&status)?);
        Ok(status)
    })
    .await
}

fn ready(status: &TeamSecretStoreStatus) -> Option<(ConditionStatus, Reason)> {
    let ready = status.conditions.iter().find(|condition| condition.type_ == ConditionType::Ready)?;
    Some((ready.status, ready.reason))
}

fn waits_for_the_store(status: &SandboxStatus) -> bool {
    status.phase == Phase::Pending && status.reason == Some(Reason::StoreUnavailable)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_gets_its_value_and_waits_out_a_server_that_is_down() -> Result<()> {
    let (team, mut server) = team_with_vault("from-vault").await?;
    put(&team, &server, "HF_TOKEN", "value from vault").await?;
    let run = team.run("one", naming("HF_TOKEN")).await?;
    team.pod(&run).await?;
    assert_eq!(team.copy(&run).await?, [("HF_TOKEN".to_owned(), "value from vault".to_owned())].into());
    let status = store_status(&team, "vault", "the store is ready", |status| {
        ready(status) == Some((ConditionStatus::True, Reason::Ready)) && status.secret_count == Some(1)
    })
    .await?;
    assert_eq!(status.names, ["HF_TOKEN"]);
    assert!(status.checks.iter().all(|check| check.state == ConditionStatus::True), "{status:?}");

    // The value of the first run is in memory: another name is not.
    server.kill()?;
    team.run("two", naming("OTHER")).await?;
    let status = team.wait("two", "the run says what it waits for", waits_for_the_store).await?;
    let message = status.message.unwrap_or_default();
    assert!(message.contains("store vault of team") && message.contains("daypass store check vault"), "{message}");
    store_status(&team, "vault", "the store says so too, and that it is left alone", |status| {
        ready(status) == Some((ConditionStatus::False, Reason::StoreUnavailable))
            && status.breaker == Some(BreakerState::Open)
    })
    .await?;

    server.start_again().await?;
    set_up(&team, &server).await?;
    put(&team, &server, "OTHER", "value after all").await?;
    let run = daypass_run(&team, "two").await?;
    poll(Duration::from_secs(90), "the run goes on by itself", async || {
        let copy = team.copy(&run).await?;
        ensure!(copy == [("OTHER".to_owned(), "value after all".to_owned())].into());
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_value_that_serves_is_told_in_the_status_and_in_the_audit() -> Result<()> {
    let operator = operator().await?;
    let (team, mut server) = team_with_vault("older").await?;
    let account = json!({"serviceAccount": {"name": "default"}});
    let cache = json!({"cache": {"ttlSeconds": 1, "staleIfErrorSeconds": 600}});
    make_store(&team, "vault", &server.address(), &account, cache).await?;
    put(&team, &server, "KEY", "value").await?;
    // What a new run is told of its value, once it has it.
    let told = async |name: &str| -> Result<(ConditionStatus, Reason)> {
        let run = team.run(name, naming("KEY")).await?;
        team.pod(&run).await?;
        ensure!(team.copy(&run).await?["KEY"] == "value");
        let current = |status: &SandboxStatus| {
            let current = status.conditions.iter().find(|condition| condition.type_ == ConditionType::SecretsCurrent);
            current.map(|condition| (condition.status, condition.reason))
        };
        let status = team.wait(name, "it has its value", |status| current(status).is_some()).await?;
        current(&status).context("the condition")
    };
    assert_eq!(told("before").await?, (ConditionStatus::True, Reason::Current));
    server.kill()?;
    let mut number = 0;
    let late = poll(Duration::from_secs(30), "the value is older than its TTL", async || {
        number += 1;
        let name = format!("late-{number}");
        let told = told(&name).await?;
        ensure!(told == (ConditionStatus::Unknown, Reason::ServedStale), "{told:?}");
        Ok(name)
    })
    .await?;
    let reasons = |name: &str| -> Result<Vec<String>> {
        let log = operator.replica.log()?;
        let records = log.lines().filter_map(|line| {
            let entry: Value = serde_json::from_str(line).ok().filter(|entry: &Value| entry["target"] == "audit")?;
            serde_json::from_str::<Value>(entry["record"].as_str()?).ok()
        });
        let of_run = records.filter(|record| record["namespace"] == *team.namespace && record["name"] == *name);
        let resolved = of_run.filter(|record| record["action"] == "resolve");
        Ok(resolved.map(|record| record["reason"].as_str().unwrap_or_default().to_owned()).collect())
    };
    assert_eq!((reasons("before")?, reasons(&late)?), (vec!["Resolved".to_owned()], vec!["ServedStale".to_owned()]));
    Ok(())
}

/// Authorization first, memory second.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_memory_answers_nobody_who_may_not_use_it() -> Result<()> {
    let (team, mut server) = team_with_vault("remembered").await?;
    let account = json!({"serviceAccount": {"name": "default"}});
    make_store(&team, "vault", &server.address(), &account, json!({"cache": {"ttlSeconds": 300}})).await?;
    put(&team, &server, "KEY", "value").await?;
    let run = team.run("ours", naming("KEY")).await?;
    team.pod(&run).await?;
    // From here on the value can come from memory alone.
    server.kill()?;
    // Submitted by somebody who may use everything, so that the refusal is the operator's own.
    let strangers = Team::new(operator().await?, "strangers").await?;
    let theirs = Api::<Sandbox>::namespaced(strangers.root.clone(), &strangers.namespace);
    let names = json!({"secrets": [{"name": "KEY", "store": "vault", "team": team.namespace}]});
    theirs.create(&PostParams::default(), &sandbox("theirs", names)?).await?;
    let status = strangers.wait_finished("theirs").await?;
    assert_eq!(status.reason, Some(Reason::AccessDenied), "{:?}", status.message);
    let run = team.run("ours-again", naming("KEY")).await?;
    team.pod(&run).await?;
    assert_eq!(team.copy(&run).await?["KEY"], "value", "it was there all the time");
    Ok(())
}

/// A real server behind a proxy that fails: each run says what it waits for, and goes on when the fault is over.
#[tokio::test(flavor = "multi_thread")]
async fn every_fault_between_operator_and_server_is_told_and_waited_out() -> Result<()> {
    let team = Team::new(operator().await?, "faults").await?;
    let server = OpenBao::start().await?;
    set_up(&team, &server).await?;
    let_mint(&team).await?;
    let proxy = FaultProxy::start(&server.address()).await?;
    make_store(&team, "vault", proxy.address(), &json!({"serviceAccount": {"name": "default"}}), json!({})).await?;
    put(&team, &server, "SLOW", "late").await?;
    proxy.set(Fault::Delay(Duration::from_secs(1)));
    let run = team.run("slow", naming("SLOW")).await?;
    team.pod(&run).await?;
    assert_eq!(team.copy(&run).await?["SLOW"], "late");

    for (name, fault, reason) in [
        ("reset", Fault::Reset, Reason::StoreUnavailable),
        ("cut", Fault::Truncate(60), Reason::StoreUnavailable),
        ("error", Fault::Answer("500 Internal Server Error"), Reason::StoreUnavailable),
        ("busy", Fault::Answer("429 Too Many Requests\r\nretry-after: 1"), Reason::StoreThrottled),
        ("hang", Fault::Hang, Reason::StoreUnavailable),
    ] {
        // Of each its own, so that no answer is in memory.
        let secret = format!("KEY_{}", name.to_uppercase());
        put(&team, &server, &secret, name).await?;
        proxy.set(fault);
        let run = team.run(name, naming(&secret)).await?;
        let waits = |status: &SandboxStatus| status.phase == Phase::Pending && status.reason == Some(reason);
        let status = team.wait(name, "the run says what it waits for", waits).await?;
        let message = status.message.unwrap_or_default();
        ensure!(message.contains("store vault of team"), "{message}");
        proxy.set(Fault::None);
        poll(Duration::from_secs(90), "the run goes on by itself", async || {
            let copy = team.copy(&run).await?;
            ensure!(copy.get(&secret).is_some_and(|value| value == name), "{name}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

async fn daypass_run(team: &Team, name: &str) -> Result<String> {
    let uid = team.sandboxes().get(name).await?.metadata.uid.unwrap_or_default();
    Ok(daypass::api::names::run_name(name, &uid, "", 1))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_value_reaches_new_runs_at_once_and_running_ones_are_told() -> Result<()> {
    let (team, server) = team_with_vault("rotates").await?;
    put(&team, &server, "KEY", "old").await?;
    put(&team, &server, "MODEL_KEY", "old").await?;
    let run = team.run("before", naming("KEY")).await?;
    team.pod(&run).await?;
    team.play_start(&run).await?;
    team.wait("before", "it runs", |status| status.phase == Phase::Running).await?;

    put(&team, &server, "KEY", "new").await?;
    // What the CLI writes after a change: without it the old value would serve until its TTL is over.
    let stores = Api::<TeamSecretStore>::namespaced(team.admin.clone(), &team.namespace);
    let changed = async |name: &str| {
        let stamp = json!({"metadata": {"annotations": {CHANGED: format!("{name} {}", jiff::Timestamp::now())}}});
        stores.patch("vault", &PatchParams::default(), &Patch::Merge(stamp)).await
    };
    changed("KEY").await?;
    team.wait("before", "the running run is told of the newer version", |status| {
        status.conditions.iter().any(|condition| condition.reason == Reason::NewerVersion)
    })
    .await?;
    let run = team.run("after", naming("KEY")).await?;
    team.pod(&run).await?;
    assert_eq!(team.copy(&run).await?["KEY"], "new");

    let key = json!({"name": "MODEL_KEY", "store": "vault"});
    let model = json!({"name": "m", "baseURL": "https://models.test/v1", "apiKey": key});
    let job = team.evaluate("job", json!({"model": model, "benchmarks": [{"task": "gsm8k"}]})).await?;
    let run = team.attempt(&job, "gsm8k", 1).await?;
    team.starts(&job, "gsm8k", &run).await?;
    put(&team, &server, "MODEL_KEY", "new").await?;
    changed("MODEL_KEY").await?;
    team.wait_job("job", "the evaluation is told too", |status| {
        status.conditions.iter().any(|condition| condition.reason == Reason::NewerVersion)
    })
    .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_mend_is_named() -> Result<()> {
    let operator = operator().await?;
    let team = Team::new(operator, "mends").await?;
    let server = OpenBao::start().await?;
    set_up(&team, &server).await?;
    let account = json!({"serviceAccount": {"name": "default"}});
    make_store(&team, "vault", &server.address(), &account, json!({})).await?;
    team.run("not-granted", naming("KEY")).await?;
    let status = team.wait("not-granted", "it waits", waits_for_the_store).await?;
    assert!(status.message.unwrap_or_default().contains("daypass store grant-sign-in default"));

    make_store(&team, "as-operator", &server.address(), &json!({"operator": {}}), json!({})).await?;
    team.run("as-operator", json!({"secrets": [{"name": "KEY", "store": "as-operator"}]})).await?;
    let status = team.wait("as-operator", "it waits", waits_for_the_store).await?;
    // The operator's own identity goes nowhere by a connection of the store's own.
    assert!(status.message.unwrap_or_default().contains("signIn.operator"));

    // Granted, it is there within the operator's next look; what is missing then is the secret.
    let_mint(&team).await?;
    let status =
        team.wait("not-granted", "now the secret is missing", |status| status.reason == Some(Reason::SecretNotFound));
    assert!(status.await?.message.unwrap_or_default().contains("daypass secret set KEY"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_hangs_delays_nobody_else() -> Result<()> {
    let (team, server) = team_with_vault("quick").await?;
    put(&team, &server, "KEY", "value").await?;
    let slow = Team::new(operator().await?, "hangs").await?;
    let_mint(&slow).await?;
    let hanging = Canned::start(vec![Reply::Hang]).await?;
    make_store(&slow, "vault", hanging.address(), &json!({"serviceAccount": {"name": "default"}}), json!({})).await?;
    // More than may wait for one store.
    many(&slow, WAITING.0 + 24, |number| format!("KEY_{number}")).await?;
    slow.wait("run-0", "a run of the bad store says so", waits_for_the_store).await?;
    many(&team, 200, |_| "KEY".to_owned()).await?;
    poll(Duration::from_secs(60), "all runs of the other team have their Pods", async || {
        let pods = team.pods().list_metadata(&ListParams::default()).await?.items.len();
        ensure!(pods == 200, "{pods} have");
        Ok(())
    })
    .await
}

/// So many runs, submitted a few at a time.
async fn many(team: &Team, runs: usize, secret: impl Fn(usize) -> String) -> Result<()> {
    let names: Vec<_> = (0..runs).map(|number| (format!("run-{number}"), naming(&secret(number)))).collect();
    let submitted = stream::iter(&names).map(|(name, spec)| team.run(name, spec.clone()));
    submitted.buffer_unordered(16).try_collect::<Vec<_>>().await?;
    Ok(())
}
