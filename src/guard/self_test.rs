//! What `helm test` prints: every way to read a Secret that the operator must not have, tried on this very cluster.
//! Any refusal will do here, RBAC's or a policy's; what matters is that there is one. Answers that are no refusals are
//! not read, so that nothing could be shown.

use std::fmt::Write as _;

use http::Method;
use kube::Client;
use serde_json::{Value, json};

use super::GuardConfig;
use super::probes::{PROBE_SECRET, delete_probe_secret, foreign_variable, run_pod};
use super::request::{Answer, Call, send};

/// One way, and how it went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// What was tried.
    pub what: &'static str,
    /// The API server's answer.
    pub answer: String,
    /// Whether it was refused.
    pub refused: bool,
}

/// Tries each read in turn. Changes nothing: what could change something is a dry-run.
pub async fn refused_reads(client: &Client, config: &GuardConfig) -> Vec<Row> {
    let mut rows = Vec::new();
    for (what, call) in attempts(config) {
        let (answer, refused) = match send(client, &call, config.deadline).await {
            Answer::Refused { code: code @ 403, message } => (format!("{code} {message}"), true),
            Answer::Refused { code, message } => (format!("{code} {message}"), false),
            Answer::Passed { code } => (format!("{code}"), false),
            Answer::None { why } => (why, false),
        };
        rows.push(Row { what, answer, refused });
    }
    rows
}

/// A table for eyes: what was tried, whether it was refused, and the answer.
pub fn table(rows: &[Row]) -> String {
    let width = rows.iter().map(|row| row.what.chars().count()).max().unwrap_or(0).max(4);
    let mut text = format!("{:<width$}  {:<7}  ANSWER\n", "READ", "REFUSED");
    for row in rows {
        let refused = if row.refused { "yes" } else { "NO" };
        let _ = writeln!(text, "{:<width$}  {refused:<7}  {}", row.what, row.answer);
    }
    text
}

fn attempts(config: &GuardConfig) -> Vec<(&'static str, Call)> {
    let namespace = &config.namespace;
    let account = &config.service_account;
    let secrets = format!("/api/v1/namespaces/{namespace}/secrets");
    let probe = format!("{secrets}/{PROBE_SECRET}");
    let get = |path: String| Call::new(Method::GET, path);
    let pod = |change: &dyn Fn(&mut Value)| {
        let mut pod = run_pod(account);
        change(&mut pod);
        Call::new(Method::POST, format!("/api/v1/namespaces/{namespace}/pods?dryRun=All")).body(pod)
    };
    let volume = |volume: Value| pod(&|pod| pod["spec"]["volumes"] = json!([volume]));
    let token = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": {"audiences": ["https://kubernetes.default.svc"], "expirationSeconds": 600},
    });
    vec![
        ("get a Secret", get(probe.clone())),
        ("get the keys of sealed stores", get(format!("{secrets}/daypass-keys"))),
        ("list the Secrets of a namespace", get(secrets.clone())),
        ("list the Secrets of all namespaces", get("/api/v1/secrets".to_owned())),
        ("watch the Secrets of all namespaces", get("/api/v1/secrets?watch=true&timeoutSeconds=1".to_owned())),
        (
            "patch a Secret, which answers with it",
            Call::new(Method::PATCH, format!("{probe}?dryRun=All")).body(json!({"metadata": {"labels": {"probe": "x"}}})),
        ),
        (
            "update a Secret, which answers with it",
            Call::new(Method::PUT, format!("{probe}?dryRun=All"))
                .body(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": PROBE_SECRET}})),
        ),
        ("delete a Secret in the foreground, which answers with it", delete_probe_secret(config, "Foreground")),
        ("delete a Secret and orphan, which answers with it", delete_probe_secret(config, "Orphan")),
        (
            "the same, asked for in the body",
            Call::new(Method::DELETE, probe.clone()).body(
                json!({"apiVersion": "v1", "kind": "DeleteOptions", "dryRun": ["All"], "orphanDependents": true}),
            ),
        ),
        ("delete a Secret that is no run's", delete_probe_secret(config, "Background")),
        ("delete all Secrets, which answers with them", Call::new(Method::DELETE, format!("{secrets}?dryRun=All"))),
        (
            "make a Secret that is filled with a token",
            Call::new(Method::POST, format!("{secrets}?dryRun=All")).body(json!({
                "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
                "metadata": {"name": "daypass-run-probe", "annotations": {"kubernetes.io/service-account.name": account}},
            })),
        ),
        (
            "make a Pod with a foreign Secret as a variable",
            pod(&|pod| pod["spec"]["containers"][0]["env"] = foreign_variable()),
        ),
        (
            "make a Pod with a foreign Secret as all variables",
            pod(&|pod| {
                pod["spec"]["containers"][0]["envFrom"] = json!([{"secretRef": {"name": PROBE_SECRET}}]);
            }),
        ),
        (
            "make a Pod with a foreign Secret as a volume",
            volume(json!({"name": "v", "secret": {"secretName": PROBE_SECRET}})),
        ),
        (
            "make a Pod with a foreign Secret in a projected volume",
            volume(json!({"name": "v", "projected": {"sources": [{"secret": {"name": PROBE_SECRET}}]}})),
        ),
        (
            "make a Pod with a token of its ServiceAccount",
            pod(&|pod| pod["spec"]["automountServiceAccountToken"] = json!(true)),
        ),
        (
            "make a Pod with a token in a projected volume",
            volume(json!({"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}})),
        ),
        ("make a Pod with the host's files", volume(json!({"name": "v", "hostPath": {"path": "/"}}))),
        (
            "mint a token of its own for the API server",
            Call::new(Method::POST, format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token?dryRun=All"))
                .body(token),
        ),
        ("act as an admin", get(probe).header("impersonate-user", "admin").header("impersonate-group", "system:masters")),
        (
            "give itself more rights",
            Call::new(Method::POST, "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings?dryRun=All").body(json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
                "metadata": {"name": "daypass-probe"},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
                "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
            })),
        ),
        (
            "change a policy that binds it",
            Call::new(
                Method::PATCH,
                "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/daypass-operator-secrets?dryRun=All",
            )
            .body(json!({"spec": {"failurePolicy": "Ignore"}})),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_change_something_is_a_dry_run() {
        for (what, call) in attempts(&GuardConfig::new("system")) {
            let in_body = call.body.as_ref().is_some_and(|body| body["dryRun"] == json!(["All"]));
            assert!(call.method == Method::GET || call.path.contains("dryRun=All") || in_body, "{what}");
        }
    }

    #[test]
    fn the_table_shouts_what_was_not_refused() {
        let row = |what, refused| Row { what, answer: "403 no".to_owned(), refused };
        let text = table(&[row("one thing", true), row("other", false)]);
        assert_eq!(text, "READ       REFUSED  ANSWER\none thing  yes      403 no\nother      NO       403 no\n");
    }
}
