//! The proof that the policies are in force: it holds with the chart, and shows each hole.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use daypass::guard::probes::{POLICIES, PROBE_SECRET};
use daypass::guard::{GuardConfig, digest, prove, refused_reads, table};
use daypass_testcluster::{Cluster, Options, Tools, poll};
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding, ValidatingAdmissionPolicySpec,
};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde::Deserialize;
use serde_json::json;

use crate::ask::{Verdict, get, post};
use crate::chart::{self, SYSTEM};

/// How long the API server may take until a changed policy acts.
const ENFORCED: Duration = Duration::from_secs(30);

/// What the chart renders, as JSON objects.
fn rendered() -> Result<Vec<serde_json::Value>> {
    let output = std::process::Command::new(Tools::helm()?)
        .args(["template", "daypass"])
        .arg(chart::folder())
        .args(["--namespace", SYSTEM, "--kube-version", "1.35.0"])
        .output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut objects = Vec::new();
    for document in serde_yaml::Deserializer::from_slice(&output.stdout) {
        let value = serde_json::Value::deserialize(document)?;
        if !value.is_null() {
            objects.push(value);
        }
    }
    Ok(objects)
}

fn of_kind<K: serde::de::DeserializeOwned>(objects: &[serde_json::Value], kind: &str) -> Result<Vec<K>> {
    let of_kind = objects.iter().filter(|object| object["kind"] == kind);
    Ok(of_kind.map(|object| serde_json::from_value(object.clone())).collect::<Result<_, _>>()?)
}

#[test]
fn chart_and_operator_know_the_same_policies() -> Result<()> {
    let objects = rendered()?;
    let policies: Vec<ValidatingAdmissionPolicy> = of_kind(&objects, "ValidatingAdmissionPolicy")?;
    let bindings: Vec<ValidatingAdmissionPolicyBinding> = of_kind(&objects, "ValidatingAdmissionPolicyBinding")?;
    let known: BTreeSet<_> = POLICIES.iter().map(|policy| policy.name.to_owned()).collect();
    assert_eq!(policies.iter().map(ResourceExt::name_any).collect::<BTreeSet<_>>(), known);
    assert_eq!(bindings.iter().map(ResourceExt::name_any).collect::<BTreeSet<_>>(), known);
    for policy in &policies {
        let name = policy.name_any();
        let spec = policy.spec.as_ref().context("a spec")?;
        let rules = POLICIES.iter().find(|known| known.name == name).context("known")?.rules;
        let validations = spec.validations.as_deref().unwrap_or_default();
        assert_eq!(validations.len(), rules.len(), "{name}");
        for (validation, rule) in validations.iter().zip(rules) {
            let message = validation.message.as_deref().unwrap_or_default();
            assert!(message.starts_with(rule), "{name}: {message:?} does not begin with {rule:?}");
        }
        assert_eq!(policy.annotations().get("daypass.dev/digest"), Some(&digest(spec)), "{name}");
    }
    let roles: Vec<ClusterRole> = of_kind(&objects, "ClusterRole")?;
    let role = roles.iter().find(|role| role.name_any() == "daypass-operator").context("the operator's role")?;
    let read =
        role.rules.iter().flatten().find_map(|rule| rule.resource_names.as_ref()).context("a rule with names")?;
    assert_eq!(read.iter().cloned().collect::<BTreeSet<_>>(), known, "what the operator may read is what it checks");
    Ok(())
}

#[test]
fn values_are_closed() -> Result<()> {
    for values in ["image.tga=x", "config.evnets=all", "events=all", "policies.apiServerAudiences=null", "replicas=two"]
    {
        let output = std::process::Command::new(Tools::helm()?)
            .args(["template", "daypass"])
            .arg(chart::folder())
            .args(["--kube-version", "1.35.0", "--set", values])
            .output()?;
        assert!(!output.status.success(), "{values} was taken");
    }
    Ok(())
}

/// The names of what is found missing.
async fn found(operator: &Client) -> BTreeSet<String> {
    let report = prove(operator, &GuardConfig::new(SYSTEM)).await;
    assert_eq!(report.refuted(), !report.in_force(), "{report}");
    report.missing.into_iter().map(|finding| finding.policy).collect()
}

/// Waits until the proof finds exactly this.
async fn finds(operator: &Client, expected: &[&str]) -> Result<()> {
    let expected: BTreeSet<_> = expected.iter().map(|&name| name.to_owned()).collect();
    poll(ENFORCED, &format!("the proof finds {expected:?}"), async || {
        let found = found(operator).await;
        ensure!(found == expected, "it finds {found:?}");
        Ok(())
    })
    .await
}

/// One control plane for all that breaks the policies, so that no other test meets them broken.
#[tokio::test]
async fn every_hole_shows() -> Result<()> {
    let cluster = Cluster::start(Options::control_plane()).await?;
    chart::install(&cluster, &[]).await?;
    let (admin, operator) = (cluster.admin()?, chart::operator(&cluster).await?);
    finds(&operator, &[]).await?;
    a_missing_policy_or_binding_shows(&admin, &operator).await?;
    a_binding_that_only_audits_shows(&admin, &operator).await?;
    a_rule_that_does_not_bite_shows(&admin, &operator).await?;
    a_missing_probe_secret_shows(&admin, &operator).await?;
    // The line that the findings name mends it all.
    Api::<ValidatingAdmissionPolicy>::all(admin).delete("daypass-no-orphans", &DeleteParams::default()).await?;
    finds(&operator, &["daypass-no-orphans"]).await?;
    chart::install(&cluster, &[]).await?;
    audiences_pass_by_name(&cluster, &operator).await?;
    uninstalling_keeps_keys_and_objects(&cluster).await
}

/// A cloud's webhook may inject a token for the cloud; for the API server nothing may, not even the chart's values.
async fn audiences_pass_by_name(cluster: &Cluster, operator: &Client) -> Result<()> {
    let cloud = "sts.amazonaws.com";
    let api_server = "https://kubernetes.default.svc";
    let values = format!("policies.allowedTokenAudiences={{{cloud},{api_server}}}");
    chart::install(cluster, &["--set", &values]).await?;
    let pod = |audience: &str, source: serde_json::Value| {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "daypass-run-a", "ownerReferences": [{
                "apiVersion": "daypass.dev/v1alpha1", "kind": "Sandbox", "name": "a", "uid": "a", "controller": true,
                "blockOwnerDeletion": true,
            }]},
            "spec": {
                "serviceAccountName": "daypass-operator", "automountServiceAccountToken": false, "restartPolicy": "Never",
                "containers": [{"name": "main", "image": "i"}],
                "volumes": [{"name": "v", "projected": {"sources": [
                    {"serviceAccountToken": {"path": "token", "audience": audience}}, source,
                ]}}],
            },
        })
    };
    let path = format!("/api/v1/namespaces/{SYSTEM}/pods?dryRun=All");
    let same = json!({"serviceAccountToken": {"path": "again", "audience": cloud}});
    let mut verdict = Verdict::default();
    // The changed rule acts a moment after it is acknowledged, and no proof tells the old one from it.
    poll(ENFORCED, "the cloud's token passes", async || {
        let answer = post(operator, &path, &pod(cloud, same.clone())).await?;
        ensure!(answer.code == 201, "it does not: {} {}", answer.code, answer.message());
        Ok(())
    })
    .await?;
    for (case, pod, rule) in [
        ("the API server's", pod(api_server, same), "a run's Pod has no service account token"),
        (
            "no audience",
            pod(cloud, json!({"serviceAccountToken": {"path": "t"}})),
            "a run's Pod has no service account token",
        ),
        ("a Secret beside it", pod(cloud, json!({"secret": {"name": "x"}})), "volumes of a run's Pod"),
    ] {
        verdict.refused(case, &post(operator, &path, &pod).await?, "daypass-operator-pods", rule);
    }
    verdict.end();
    Ok(())
}

async fn uninstalling_keeps_keys_and_objects(cluster: &Cluster) -> Result<()> {
    let admin = cluster.admin()?;
    let core = format!("/api/v1/namespaces/{SYSTEM}");
    let keys =
        json!({"apiVersion": "v1", "kind": "Secret", "type": "daypass.dev/keys", "metadata": {"name": "daypass-keys"}});
    let public = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "daypass-public-keys"}});
    let runs = "/apis/daypass.dev/v1alpha1/namespaces/default/sandboxes";
    let run =
        json!({"apiVersion": "daypass.dev/v1alpha1", "kind": "Sandbox", "metadata": {"name": "kept"}, "spec": {}});
    let mut verdict = Verdict::default();
    for (path, object) in
        [(format!("{core}/secrets"), keys), (format!("{core}/configmaps"), public), (runs.into(), run)]
    {
        verdict.code(&path, &post(&admin, &path, &object).await?, 201);
    }
    cluster.helm(&["uninstall", "daypass", "--namespace", SYSTEM])?;
    for path in [
        format!("{core}/secrets/daypass-keys"),
        format!("{core}/configmaps/daypass-public-keys"),
        format!("{runs}/kept"),
    ] {
        verdict.code(&path, &get(&admin, &path).await?, 200);
    }
    let gone = "/apis/rbac.authorization.k8s.io/v1/clusterroles/daypass-operator";
    verdict.code(gone, &get(&admin, gone).await?, 404);
    verdict.end();
    // And it can come back to what was kept.
    chart::install(cluster, &[]).await
}

async fn a_missing_policy_or_binding_shows(admin: &Client, operator: &Client) -> Result<()> {
    let policies = Api::<ValidatingAdmissionPolicy>::all(admin.clone());
    let bindings = Api::<ValidatingAdmissionPolicyBinding>::all(admin.clone());
    for policy in POLICIES {
        let mut kept = policies.get(policy.name).await?;
        policies.delete(policy.name, &DeleteParams::default()).await?;
        finds(operator, &[policy.name]).await?;
        kept.metadata.resource_version = None;
        policies.create(&PostParams::default(), &kept).await?;
        let mut kept = bindings.get(policy.name).await?;
        bindings.delete(policy.name, &DeleteParams::default()).await?;
        finds(operator, &[policy.name]).await?;
        kept.metadata.resource_version = None;
        bindings.create(&PostParams::default(), &kept).await?;
    }
    finds(operator, &[]).await
}

async fn a_binding_that_only_audits_shows(admin: &Client, operator: &Client) -> Result<()> {
    let bindings = Api::<ValidatingAdmissionPolicyBinding>::all(admin.clone());
    for (actions, expected) in [(json!(["Audit"]), &["daypass-exec-denied"][..]), (json!(["Deny", "Audit"]), &[])] {
        let patch = Patch::Merge(json!({"spec": {"validationActions": actions}}));
        bindings.patch("daypass-exec-denied", &PatchParams::default(), &patch).await?;
        finds(operator, expected).await?;
    }
    Ok(())
}

/// A policy that reads well but does not act, rule by rule: only the dry-runs see it.
async fn a_rule_that_does_not_bite_shows(admin: &Client, operator: &Client) -> Result<()> {
    // What RBAC refuses before the policy is asked, and a deletion that needs a Pod of the operator's, are read only.
    let read_only = [
        "the operator does not change Secrets",
        "the operator deletes Secrets by name only",
        "the operator changes a run's Pod only to lift its own scheduling gate",
        "the operator deletes the Pods of runs only",
    ];
    let policies = Api::<ValidatingAdmissionPolicy>::all(admin.clone());
    for policy in
        POLICIES.iter().filter(|policy| ["daypass-operator-secrets", "daypass-operator-pods"].contains(&policy.name))
    {
        let written = policies.get(policy.name).await?;
        for (index, rule) in policy.rules.iter().enumerate().filter(|(_, rule)| !read_only.contains(rule)) {
            let mut broken = written.spec.clone().context("a spec")?;
            broken.validations.as_mut().context("validations")?[index].expression = "true".into();
            write(&policies, policy.name, &broken).await?;
            poll(ENFORCED, &format!("the proof misses {rule:?} alone"), async || {
                let report = prove(operator, &GuardConfig::new(SYSTEM)).await;
                ensure!(!report.missing.is_empty(), "it misses nothing");
                ensure!(report.missing.iter().all(|finding| finding.rule == Some(*rule)), "it misses {report}");
                Ok(())
            })
            .await?;
        }
        write(&policies, policy.name, written.spec.as_ref().context("a spec")?).await?;
    }
    finds(operator, &[]).await
}

/// Writes a policy's rules, with the digest that belongs to them.
async fn write(
    policies: &Api<ValidatingAdmissionPolicy>,
    name: &str,
    spec: &ValidatingAdmissionPolicySpec,
) -> Result<()> {
    let annotations = json!({"daypass.dev/digest": digest(spec)});
    let patch = json!({"metadata": {"annotations": annotations}, "spec": {"validations": spec.validations}});
    policies.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}

async fn a_missing_probe_secret_shows(admin: &Client, operator: &Client) -> Result<()> {
    let secrets = Api::<Secret>::namespaced(admin.clone(), SYSTEM);
    let mut kept = secrets.get(PROBE_SECRET).await?;
    secrets.delete(PROBE_SECRET, &DeleteParams::default()).await?;
    finds(operator, &[PROBE_SECRET]).await?;
    kept.metadata.resource_version = None;
    secrets.create(&PostParams::default(), &kept).await?;
    finds(operator, &[]).await
}

#[tokio::test]
async fn no_answer_proves_nothing_and_refutes_nothing() -> Result<()> {
    // A port that was free a moment ago: nobody listens.
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut config = kube::Config::new(format!("http://127.0.0.1:{port}").parse()?);
    config.connect_timeout = Some(Duration::from_secs(1));
    let guard = GuardConfig { deadline: Duration::from_millis(500), ..GuardConfig::new(SYSTEM) };
    let report = prove(&Client::try_from(config)?, &guard).await;
    assert_eq!(report.missing.len(), POLICIES.len(), "{report}");
    assert!(!report.in_force() && !report.refuted(), "{report}");
    Ok(())
}

#[tokio::test]
async fn a_pod_of_the_operator_proves_the_rule_about_deletion() -> Result<()> {
    let cluster = chart::installed().await?;
    let pods = Api::<k8s_openapi::api::core::v1::Pod>::namespaced(cluster.admin()?, SYSTEM);
    let pod = serde_json::from_value(json!({
        "metadata": {"generateName": "daypass-operator-"},
        "spec": {"containers": [{"name": "operator", "image": "operator"}]},
    }))?;
    let pod = pods.create(&PostParams::default(), &pod).await?.name_any();
    let operator = chart::operator(cluster).await?;
    let guard = GuardConfig { pod_name: Some(pod), ..GuardConfig::new(SYSTEM) };
    let report = prove(&operator, &guard).await;
    assert!(report.in_force(), "{report}");
    // The positive control: a Pod that is not there answers 404, which proves nothing.
    let guard = GuardConfig { pod_name: Some("absent".to_owned()), ..GuardConfig::new(SYSTEM) };
    let report = prove(&operator, &guard).await;
    let rules: Vec<_> = report.missing.iter().filter_map(|finding| finding.rule).collect();
    let both = [
        "the operator deletes the Pods of runs only",
        "the operator changes a run's Pod only to lift its own scheduling gate",
    ];
    assert_eq!(rules, both, "{report}");
    Ok(())
}

#[tokio::test]
async fn every_read_is_refused_to_the_operator_and_the_table_knows_when_not() -> Result<()> {
    let cluster = chart::installed().await?;
    let guard = GuardConfig::new(SYSTEM);
    let rows = refused_reads(&chart::operator(cluster).await?, &guard).await;
    assert!(rows.len() > 20 && rows.iter().all(|row| row.refused), "{}", table(&rows));
    // An admin is refused nothing of it, but for what no one may: names of runs, and a Secret without a needed part.
    let rows = refused_reads(&cluster.admin()?, &guard).await;
    let passed = rows.iter().filter(|row| !row.refused).count();
    assert!(passed > 10, "{}", table(&rows));
    assert!(rows.iter().any(|row| row.what == "get a Secret" && row.answer == "200"), "{}", table(&rows));
    Ok(())
}
