//! The operator's box for Secrets and for tokens.

use anyhow::{Result, ensure};
use daypass_testcluster::poll;
use http::Method;
use serde_json::{Value, json};

use super::{RUN, SOON, World, bind, set};
use crate::ask::{Verdict, ask, delete, get, post, put};
use crate::chart::SYSTEM;

const BOX: &str = "daypass-operator-secrets";
const TOKENS: &str = "daypass-operator-tokens";

#[tokio::test]
async fn the_operator_makes_run_secrets_and_its_keys_only() -> Result<()> {
    let world = World::new().await?;
    let mut verdict = Verdict::default();
    let good = world.secret();
    let owner = |change: &[(&str, Value)]| {
        change.iter().fold(good.clone(), |secret, (field, value)| {
            set(&secret, &format!("/metadata/ownerReferences/0/{field}"), value.clone())
        })
    };
    let keys = |count: usize| {
        let data = (0..count).map(|index| (format!("K{index}"), json!(""))).collect::<serde_json::Map<_, _>>();
        set(&good, "/data", data.into())
    };
    let keys_secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "daypass.dev/keys", "metadata": {"name": "daypass-keys"},
        "data": {"k": ""},
    });
    let home = world.core("secrets?dryRun=All");
    let system = format!("/api/v1/namespaces/{SYSTEM}/secrets?dryRun=All");

    for (case, path, secret) in [
        ("owned by a Sandbox", &home, good.clone()),
        ("owned by an EvalJob", &home, owner(&[("kind", json!("EvalJob"))])),
        ("stringData", &home, set(&good, "/stringData", json!({"MORE": "x"}))),
        ("24 keys", &home, keys(24)),
        ("no keys", &home, set(&good, "/data", Value::Null)),
        ("an annotation of ours", &home, set(&good, "/metadata/annotations", json!({"daypass.dev/x": "y"}))),
        ("a label", &home, set(&good, "/metadata/labels", json!({"a": "b"}))),
        ("in its own namespace", &system, good.clone()),
        ("the keys", &system, keys_secret.clone()),
    ] {
        verdict.code(case, &post(&world.operator, path, &secret).await?, 201);
    }

    let kind = "the operator makes Secrets of type daypass.dev/run only, named daypass-run-...";
    let one_owner = "a run Secret has one owner";
    for (case, path, rule, secret) in [
        ("Opaque", &home, kind, set(&good, "/type", json!("Opaque"))),
        ("no type", &home, kind, set(&good, "/type", Value::Null)),
        ("a token", &home, kind, token_secret(&good)),
        ("another name", &home, kind, set(&good, "/metadata/name", json!("other"))),
        ("a prefix of the prefix", &home, kind, set(&good, "/metadata/name", json!("daypass-runs"))),
        ("the keys elsewhere", &home, kind, keys_secret.clone()),
        ("other keys", &system, kind, set(&keys_secret, "/metadata/name", json!("daypass-keys-2"))),
        ("keys of another type", &system, kind, set(&keys_secret, "/type", json!("Opaque"))),
        ("not immutable", &home, "a run Secret is immutable", set(&good, "/immutable", json!(false))),
        ("immutable unset", &home, "a run Secret is immutable", set(&good, "/immutable", Value::Null)),
        ("no owner", &home, one_owner, set(&good, "/metadata/ownerReferences", Value::Null)),
        ("two owners", &home, one_owner, two_owners(&good)),
        ("a ConfigMap's", &home, one_owner, owner(&[("kind", json!("ConfigMap")), ("apiVersion", json!("v1"))])),
        ("a Pod's", &home, one_owner, owner(&[("kind", json!("Pod")), ("apiVersion", json!("v1"))])),
        ("a Job's", &home, one_owner, owner(&[("kind", json!("Job")), ("apiVersion", json!("batch/v1"))])),
        ("not controlled", &home, one_owner, owner(&[("controller", json!(false))])),
        ("not blocking", &home, one_owner, owner(&[("blockOwnerDeletion", Value::Null)])),
        ("a finalizer", &home, "a run Secret has no finalizer", set(&good, "/metadata/finalizers", json!(["a.b/c"]))),
        (
            "keys with a finalizer",
            &system,
            "a run Secret has no finalizer",
            set(&keys_secret, "/metadata/finalizers", json!(["a.b/c"])),
        ),
        (
            "a foreign annotation",
            &home,
            "a run Secret has annotations of daypass.dev only",
            set(&good, "/metadata/annotations", json!({"example.com/copy-to": "y"})),
        ),
        ("25 keys", &home, "a run Secret has at most 24 keys", keys(25)),
    ] {
        verdict.refused(case, &post(&world.operator, path, &secret).await?, BOX, rule);
    }
    verdict.end();
    Ok(())
}

fn token_secret(secret: &Value) -> Value {
    let secret = set(secret, "/type", json!("kubernetes.io/service-account-token"));
    set(&secret, "/metadata/annotations", json!({"kubernetes.io/service-account.name": "default"}))
}

fn two_owners(secret: &Value) -> Value {
    let mut other = secret["metadata"]["ownerReferences"][0].clone();
    other["uid"] = json!("00000000-0000-0000-0000-000000000000");
    other["controller"] = json!(false);
    set(secret, "/metadata/ownerReferences", json!([secret["metadata"]["ownerReferences"][0], other]))
}

#[tokio::test]
async fn the_operator_deletes_run_secrets_only_and_sees_no_data() -> Result<()> {
    let world = World::new().await?;
    let mut verdict = Verdict::default();
    let foreign = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "foreign"}, "data": {"a": "Yg=="}});
    verdict.code("foreign", &post(&world.member, &world.core("secrets"), &foreign).await?, 201);
    world.start_run().await?;
    let run = world.core(&format!("secrets/{RUN}"));
    let foreign = world.core("secrets/foreign");
    let options = |fields: Value| set(&fields, "/kind", json!("DeleteOptions"));

    let background = "the operator deletes Secrets in the background only";
    let run_only = "the operator deletes run Secrets only";
    for (case, path, body, rule) in [
        ("Foreground", format!("{run}?propagationPolicy=Foreground"), None, background),
        ("Foreground, dry", format!("{run}?propagationPolicy=Foreground&dryRun=All"), None, background),
        ("Orphan, dry", format!("{run}?propagationPolicy=Orphan&dryRun=All"), None, background),
        ("orphanDependents", format!("{run}?orphanDependents=true&dryRun=All"), None, background),
        ("orphanDependents=false", format!("{run}?orphanDependents=false&dryRun=All"), None, background),
        ("Foreground in the body", run.clone(), Some(options(json!({"propagationPolicy": "Foreground"}))), background),
        ("orphanDependents in the body", run.clone(), Some(options(json!({"orphanDependents": true}))), background),
        ("foreign", foreign.clone(), None, run_only),
        ("foreign, dry", format!("{foreign}?dryRun=All"), None, run_only),
        ("foreign, Foreground", format!("{foreign}?propagationPolicy=Foreground&dryRun=All"), None, background),
    ] {
        let answer = delete(&world.operator, &path, body.as_ref()).await?;
        verdict.refused(case, &answer, BOX, rule);
        ensure!(answer.body["data"].is_null(), "{case} showed data");
    }

    let wrong_uid = options(json!({"preconditions": {"uid": "00000000-0000-0000-0000-000000000000"}}));
    verdict.code("another UID", &delete(&world.operator, &run, Some(&wrong_uid)).await?, 409);
    let dry = delete(&world.operator, &format!("{run}?dryRun=All"), None).await?;
    verdict.code("dry", &dry, 200);
    let uid = get(&world.admin, &run).await?.body["metadata"]["uid"].clone();
    let right = options(json!({"preconditions": {"uid": uid}, "propagationPolicy": "Background"}));
    let gone = delete(&world.operator, &run, Some(&right)).await?;
    verdict.code("by UID", &gone, 200);
    for answer in [dry, gone] {
        ensure!(answer.body["kind"] == "Status" && answer.body["data"].is_null(), "{:?}", answer.body["kind"]);
    }
    verdict.code("gone", &get(&world.admin, &run).await?, 404);
    verdict.end();
    Ok(())
}

/// RBAC refuses these first. Somebody may give the operator more than the chart does: the box holds all the same.
#[tokio::test]
async fn the_box_holds_for_an_operator_with_all_rights() -> Result<()> {
    let world = World::new().await?;
    let mut verdict = Verdict::default();
    world.start_run().await?;
    let run = world.core(&format!("secrets/{RUN}"));
    let pod = world.core(&format!("pods/{RUN}"));
    verdict.code("get", &get(&world.operator, &run).await?, 403);
    verdict.code("update", &put(&world.operator, &run, &world.secret()).await?, 403);
    verdict.code("all", &delete(&world.operator, &world.core("secrets"), None).await?, 403);

    let operator = json!({"kind": "ServiceAccount", "name": "daypass-operator", "namespace": SYSTEM});
    bind(&world.admin, &world.home, "cluster-admin", &operator).await?;
    poll(SOON, "the operator has all rights", async || {
        let answer = get(&world.operator, &run).await?;
        ensure!(answer.code == 200, "{}", answer.message());
        Ok(())
    })
    .await?;
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    let patched = ask(&world.operator, Method::PATCH, &run, Some(&label)).await?;
    verdict.refused("patch", &patched, BOX, "the operator does not change Secrets");
    let all = delete(&world.operator, &world.core("secrets"), None).await?;
    verdict.refused("all", &all, BOX, "the operator deletes Secrets by name only");
    let patched = ask(&world.operator, Method::PATCH, &pod, Some(&label)).await?;
    verdict.refused(
        "patch a Pod",
        &patched,
        "daypass-operator-pods",
        "the operator changes a run's Pod only to lift its own scheduling gate",
    );
    let all = delete(&world.operator, &world.core("pods"), None).await?;
    verdict.refused("all Pods", &all, "daypass-operator-pods", "the operator deletes the Pods of runs only");
    verdict.end();
    Ok(())
}

#[tokio::test]
async fn the_operator_mints_tokens_for_one_other_audience_and_an_hour() -> Result<()> {
    let world = World::new().await?;
    let mut verdict = Verdict::default();
    let path = world.core("serviceaccounts/default/token");
    let request = |audiences: Value, seconds: Value| {
        json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"audiences": audiences, "expirationSeconds": seconds},
        })
    };
    let vault = request(json!(["vault"]), json!(600));
    verdict.code("without a grant", &post(&world.operator, &path, &vault).await?, 403);

    // What a team grants: for one ServiceAccount.
    let rbac = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{}", world.home);
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "sign-in"},
        "rules": [{"apiGroups": [""], "resources": ["serviceaccounts/token"], "resourceNames": ["default"], "verbs": ["create"]}],
    });
    verdict.code("role", &post(&world.admin, &format!("{rbac}/roles"), &role).await?, 201);
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "sign-in"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "sign-in"},
        "subjects": [{"kind": "ServiceAccount", "name": "daypass-operator", "namespace": SYSTEM}],
    });
    verdict.code("binding", &post(&world.admin, &format!("{rbac}/rolebindings"), &binding).await?, 201);
    poll(SOON, "the grant is seen", async || {
        let answer = post(&world.operator, &path, &vault).await?;
        ensure!(answer.code == 201, "{}", answer.message());
        Ok(())
    })
    .await?;
    let hour = request(json!(["vault"]), json!(3600));
    verdict.code("an hour", &post(&world.operator, &path, &hour).await?, 201);
    let unset = request(json!(["vault"]), Value::Null);
    verdict.code("the default lifetime", &post(&world.operator, &path, &unset).await?, 201);

    let api = "the operator asks for no token that the API server takes";
    for (case, audiences, seconds, rule) in [
        ("the API server's", json!(["https://kubernetes.default.svc"]), 600, api),
        ("its longer name", json!(["https://kubernetes.default.svc.cluster.local"]), 600, api),
        ("no audience, which means the API server's", json!([]), 600, api),
        (
            "two",
            json!(["vault", "https://kubernetes.default.svc"]),
            600,
            "the operator asks for tokens of exactly one audience",
        ),
        ("two others", json!(["vault", "other"]), 600, "the operator asks for tokens of exactly one audience"),
        ("more than an hour", json!(["vault"]), 3601, "the operator asks for tokens of at most an hour"),
    ] {
        let answer = post(&world.operator, &path, &request(audiences, json!(seconds))).await?;
        verdict.refused(case, &answer, TOKENS, rule);
    }
    // It binds the operator only.
    let answer = post(&world.lord, &path, &request(json!([]), json!(7200))).await?;
    verdict.code("others", &answer, 201);
    verdict.end();
    Ok(())
}
