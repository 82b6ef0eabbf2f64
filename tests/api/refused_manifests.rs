//! Manifests that the API server refuses by itself, each with the field and the mend in its answer.

use anyhow::Result;
use serde_json::{Map, Value, json};

use crate::ask::{Answer, post};
use crate::support::{Team, operator};

/// What is wrong, the manifest's spec, and what the refusal must say: the field and the mend.
pub type Refused<'a> = (&'a str, Value, &'a [&'a str]);

/// Collects what went otherwise, so that one run shows all of it.
#[derive(Default)]
pub struct Verdict {
    wrong: Vec<String>,
}

impl Verdict {
    pub fn refused(&mut self, case: &str, answer: &Answer, says: &[&str]) {
        let message = answer.message();
        if ![400, 422].contains(&answer.code) || !says.iter().all(|part| message.contains(part)) {
            self.wrong.push(format!("{case}: expected a refusal with {says:?}, got {} {message:?}", answer.code));
        }
    }

    pub fn accepted(&mut self, case: &str, answer: &Answer) {
        if ![200, 201].contains(&answer.code) {
            self.wrong.push(format!("{case}: expected to pass, got {} {:?}", answer.code, answer.message()));
        }
    }

    pub fn end(self) {
        assert!(self.wrong.is_empty(), "{} went wrong:\n{}", self.wrong.len(), self.wrong.join("\n"));
    }
}

pub fn path(team: &Team, plural: &str) -> String {
    // As kubectl asks: unknown and doubled fields are errors.
    format!("/apis/daypass.dev/v1alpha1/namespaces/{}/{plural}?fieldValidation=Strict&dryRun=All", team.namespace)
}

pub fn object(kind: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "daypass.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

pub fn many(count: usize, item: impl Fn(usize) -> Value) -> Value {
    Value::Array((0..count).map(item).collect())
}

fn secrets(reference: &Value) -> Value {
    json!({"secrets": [reference]})
}

fn file(path: &str, content: &str) -> Value {
    json!({"files": [{"path": path, "content": content}]})
}

#[tokio::test]
async fn a_sandbox_that_cannot_be_is_refused_with_its_mend() -> Result<()> {
    let team = Team::new(operator().await?, "refused").await?;
    let mut verdict = Verdict::default();
    for (case, spec, says) in references().into_iter().chain(pod_fields()).chain(bounds()) {
        let answer = post(&team.member, &path(&team, "sandboxes"), &object("Sandbox", "refused", &spec)).await?;
        verdict.refused(case, &answer, says);
    }
    let long = "x".repeat(64);
    let answer = post(&team.member, &path(&team, "sandboxes"), &object("Sandbox", &long, &json!({}))).await?;
    verdict.refused("a name of 64 letters", &answer, &["metadata.name must be at most 63 characters"]);
    verdict.end();
    Ok(())
}

fn references() -> Vec<Refused<'static>> {
    vec![
        (
            "two secrets for one variable",
            json!({"secrets": [{"name": "KEY"}, {"name": "OTHER", "envVar": "KEY"}]}),
            &["spec.secrets", "every secret needs an envVar of its own"],
        ),
        (
            "a secret twice",
            json!({"secrets": [{"name": "KEY"}, {"name": "KEY"}]}),
            &["spec.secrets", "every secret needs an envVar of its own"],
        ),
        (
            "a variable in env and in secrets",
            json!({"env": [{"name": "KEY", "value": "v"}], "secrets": [{"name": "KEY"}]}),
            &["spec.env", "take it out of env, or give the secret another envVar"],
        ),
        (
            "the same by envVar",
            json!({"env": [{"name": "KEY", "value": "v"}], "secrets": [{"name": "OTHER", "envVar": "KEY"}]}),
            &["spec.env", "take it out of env, or give the secret another envVar"],
        ),
        ("13 secrets", json!({"secrets": many(13, |i| json!({"name": format!("KEY_{i}")}))}), &["spec.secrets", "12"]),
        ("no name", secrets(&json!({"envVar": "KEY"})), &["spec.secrets[0].name", "Required"]),
        ("an empty name", secrets(&json!({"name": ""})), &["spec.secrets[0].name"]),
        ("a name with a hyphen", secrets(&json!({"name": "HF-TOKEN"})), &["spec.secrets[0].name", "^[A-Za-z0-9_]+$"]),
        ("a name of 129", secrets(&json!({"name": "K".repeat(129)})), &["spec.secrets[0].name", "128"]),
        (
            "a name that no variable can have",
            secrets(&json!({"name": "2CAPTCHA_KEY"})),
            &["spec.secrets[0].envVar", "set envVar"],
        ),
        (
            "a variable that begins with a digit",
            secrets(&json!({"name": "KEY", "envVar": "2KEY"})),
            &["spec.secrets[0].envVar", "should match"],
        ),
        (
            "LD_PRELOAD by envVar",
            secrets(&json!({"name": "KEY", "envVar": "LD_PRELOAD"})),
            &["spec.secrets[0].envVar", "set envVar to another name"],
        ),
        (
            "LD_PRELOAD by name",
            secrets(&json!({"name": "LD_PRELOAD"})),
            &["spec.secrets[0].envVar", "set envVar to another name"],
        ),
        ("PATH", secrets(&json!({"name": "PATH"})), &["spec.secrets[0].envVar", "set envVar to another name"]),
        (
            "PYTHONSTARTUP",
            secrets(&json!({"name": "PYTHONSTARTUP"})),
            &["spec.secrets[0].envVar", "set envVar to another name"],
        ),
        (
            "a team that no namespace can be",
            secrets(&json!({"name": "KEY", "team": "Team A"})),
            &["spec.secrets[0].team"],
        ),
        ("a store in capitals", secrets(&json!({"name": "KEY", "store": "VAULT"})), &["spec.secrets[0].store"]),
        ("an empty field", secrets(&json!({"name": "KEY", "field": ""})), &["spec.secrets[0].field"]),
        (
            "a version as a number",
            secrets(&json!({"name": "KEY", "version": 3})),
            &["spec.secrets[0].version", "string"],
        ),
        ("an unknown field of a reference", secrets(&json!({"name": "KEY", "value": "v"})), &["spec.secrets[0].value"]),
    ]
}

fn pod_fields() -> Vec<Refused<'static>> {
    vec![
        ("an unknown field", json!({"privileged": true}), &["unknown field", "spec.privileged"]),
        (
            "a privileged container",
            json!({"securityContext": {"privileged": true}}),
            &["spec.securityContext.privileged"],
        ),
        (
            "an added capability",
            json!({"securityContext": {"capabilities": {"drop": [], "add": ["NET_ADMIN"]}}}),
            &["spec.securityContext.capabilities.add"],
        ),
        (
            "a profile without its name",
            json!({"securityContext": {"seccompProfile": {"type": "Localhost"}}}),
            &["localhostProfile goes with type Localhost"],
        ),
        (
            "a profile that is none",
            json!({"securityContext": {"seccompProfile": {"type": "Unconfined"}}}),
            &["seccompProfile.type"],
        ),
        ("a variable with a hyphen", json!({"env": [{"name": "A-B", "value": "v"}]}), &["spec.env[0].name"]),
        ("a variable twice", json!({"env": [{"name": "A"}, {"name": "A"}]}), &["spec.env[1]", "Duplicate value"]),
        ("a relative file", file("etc/motd", "hi"), &["spec.files[0].path", "'^/'"]),
        ("a file with dots", file("/a/../etc/passwd", "hi"), &["spec.files[0].path", "without '.', '..'"]),
        (
            "a folder as a file",
            file("/etc/", "hi"),
            &["spec.files[0].path", "without '.', '..', '//' or a '/' at its end"],
        ),
        ("a file under /proc", file("/proc/1/environ", "hi"), &["spec.files[0].path", "choose another path"]),
        ("a file under /run/daypass", file("/run/daypass/KEY", "hi"), &["spec.files[0].path", "choose another path"]),
        (
            "a file as a service account's",
            file("/var/run/secrets/x", "hi"),
            &["spec.files[0].path", "choose another path"],
        ),
        (
            "a file's mode past 0777",
            json!({"files": [{"path": "/a", "content": "", "mode": 512}]}),
            &["spec.files[0].mode", "511"],
        ),
        (
            "two files at one path",
            json!({"files": [{"path": "/a", "content": "1"}, {"path": "/a", "content": "2"}]}),
            &["spec.files", "every file needs a path of its own"],
        ),
        ("one file past 200 KiB", file("/a", &"x".repeat(204_801)), &["spec.files[0].content", "204800"]),
        (
            "files past 200 KiB together",
            json!({"files": [{"path": "/a", "content": "x".repeat(150_000)}, {"path": "/b", "content": "x".repeat(60_000)}]}),
            &["spec.files", "at most 200 KiB together", "into the image or a volume"],
        ),
        ("a relative working folder", json!({"workingDir": "tmp"}), &["spec.workingDir", "'^/'"]),
        ("an empty image", json!({"image": ""}), &["spec.image"]),
        (
            "an amount that is none",
            json!({"resources": {"limits": {"memory": "lots"}}}),
            &["spec.resources.limits.memory"],
        ),
        ("a toleration's operator", json!({"tolerations": [{"operator": "Maybe"}]}), &["spec.tolerations[0].operator"]),
        (
            "a reserved label",
            json!({"podMetadata": {"labels": {"daypass.dev/run": "other"}}}),
            &["spec.podMetadata", "choose another prefix"],
        ),
        (
            "a reserved annotation",
            json!({"podMetadata": {"annotations": {"daypass.dev/secrets": "[]"}}}),
            &["spec.podMetadata", "choose another prefix"],
        ),
        (
            "exceptions from nothing",
            json!({"network": {"egress": [{"cidr": "10.0.0.0/8"}]}}),
            &["spec.network.egress", "it needs denyEgress: true"],
        ),
        (
            "an exception for addresses and Pods",
            json!({"network": {"denyEgress": true, "egress": [{"cidr": "10.0.0.0/8", "podLabels": {"a": "b"}}]}}),
            &["spec.network.egress[0]", "either a cidr or labels"],
        ),
        (
            "an exception for nobody",
            json!({"network": {"denyEgress": true, "egress": [{"ports": [{"port": 443}]}]}}),
            &["spec.network.egress[0]", "either a cidr or labels"],
        ),
        (
            "a port past the last",
            json!({"network": {"denyEgress": true, "egress": [{"cidr": "10.0.0.0/8", "ports": [{"port": 70_000}]}]}}),
            &["spec.network.egress[0].ports[0].port", "65535"],
        ),
    ]
}

fn bounds() -> Vec<Refused<'static>> {
    vec![
        ("a delivery to come", json!({"delivery": "Brokered"}), &["spec.delivery", "\"Env\", \"File\""]),
        (
            "a removal that is none",
            json!({"secretRemoval": "Never"}),
            &["spec.secretRemoval", "\"AfterStart\", \"AfterFinish\""],
        ),
        ("no lifetime", json!({"activeDeadlineSeconds": 0}), &["spec.activeDeadlineSeconds", "1"]),
        ("31 days", json!({"activeDeadlineSeconds": 2_678_400}), &["spec.activeDeadlineSeconds", "2592000"]),
        ("a negative wait", json!({"secretsTimeoutSeconds": -1}), &["spec.secretsTimeoutSeconds"]),
        ("no time to start", json!({"startupTimeoutSeconds": 0}), &["spec.startupTimeoutSeconds"]),
        (
            "two hours to end",
            json!({"terminationGracePeriodSeconds": 7200}),
            &["spec.terminationGracePeriodSeconds", "3600"],
        ),
        ("a negative TTL", json!({"ttlSecondsAfterFinished": -1}), &["spec.ttlSecondsAfterFinished"]),
        ("stop as a word", json!({"stop": "yes"}), &["spec.stop", "boolean"]),
        ("65 words of a command", json!({"command": many(65, |_| json!("x"))}), &["spec.command", "64"]),
        ("an empty pull secret", json!({"imagePullSecrets": [{"name": ""}]}), &["spec.imagePullSecrets[0].name"]),
        (
            "17 labels of a node",
            json!({"nodeSelector": (0..17).map(|i| (format!("l-{i}"), "x".into())).collect::<Map<_, _>>()}),
            &["spec.nodeSelector", "at most 16 items"],
        ),
        (
            "an annotation of 1025",
            json!({"podMetadata": {"annotations": {"note": "x".repeat(1025)}}}),
            &["spec.podMetadata.annotations.note", "1024"],
        ),
    ]
}

#[tokio::test]
async fn a_sandbox_that_can_be_passes() -> Result<()> {
    let team = Team::new(operator().await?, "passes").await?;
    let mut verdict = Verdict::default();
    for (case, spec) in [
        ("nothing at all", json!({})),
        ("12 secrets", json!({"secrets": many(12, |i| json!({"name": format!("KEY_{i}")}))})),
        ("a name that needs an envVar, with it", secrets(&json!({"name": "2CAPTCHA_KEY", "envVar": "CAPTCHA_KEY"}))),
        ("PATH under another name", secrets(&json!({"name": "PATH", "envVar": "MY_PATH"}))),
        ("one secret in two variables", json!({"secrets": [{"name": "KEY"}, {"name": "KEY", "envVar": "ALSO"}]})),
        ("PATH as a plain variable", json!({"env": [{"name": "PATH", "value": "/bin"}]})),
        ("200 KiB of files", file("/etc/a", &"x".repeat(204_800))),
        ("a file that only looks like /proc", file("/processed", "")),
        ("30 days", json!({"activeDeadlineSeconds": 2_592_000})),
        ("amounts as numbers", json!({"resources": {"limits": {"cpu": 2, "memory": "4Gi"}}})),
        (
            "an exception for Pods",
            json!({"network": {"denyEgress": true, "egress": [{"namespaceLabels": {}, "ports": [{"port": 53, "protocol": "UDP"}]}]}}),
        ),
    ] {
        // As the cluster's admin: what is tried here are shapes, not grants.
        let answer = post(&team.root, &path(&team, "sandboxes"), &object("Sandbox", "passes", &spec)).await?;
        verdict.accepted(case, &answer);
    }
    verdict.end();
    Ok(())
}

#[tokio::test]
async fn a_new_object_shows_a_row_before_anybody_has_looked() -> Result<()> {
    let team = Team::new(operator().await?, "row").await?;
    // A dry run is seen by no operator.
    let made = post(&team.member, &path(&team, "sandboxes"), &object("Sandbox", "new", &json!({}))).await?.body;
    assert_eq!(
        (&made["status"]["phase"], &made["status"]["reason"]),
        (&json!("Pending"), &json!("WaitingForController"))
    );
    let condition = &made["status"]["conditions"][0];
    assert_eq!((&condition["type"], &condition["status"]), (&json!("Accepted"), &json!("Unknown")), "{made}");
    assert_eq!(condition["message"], "Waiting for the Daypass operator");
    let store = object("TeamSecretStore", "default", &json!({"sealed": {}}));
    let made = post(&team.admin, &path(&team, "teamsecretstores"), &store).await?.body;
    assert_eq!(made["status"]["conditions"][0]["type"], "Ready", "{made}");
    Ok(())
}

#[tokio::test]
async fn a_store_that_cannot_be_is_refused() -> Result<()> {
    let team = Team::new(operator().await?, "stores").await?;
    let sign_in = json!({"operator": {}});
    let vault = |address: &str| json!({"vault": {"address": address, "signIn": sign_in}});
    let mut verdict = Verdict::default();
    let cases: Vec<Refused> = vec![
        ("no backend", json!({}), &["spec", "a store has exactly one backend"]),
        ("two backends", json!({"sealed": {}, "kubernetes": {}}), &["spec", "a store has exactly one backend"]),
        ("an unknown backend", json!({"sealed": {}, "onepassword": {}}), &["unknown field", "spec.onepassword"]),
        ("an address that is none", vault("vault:8200"), &["spec.vault.address", "https?"]),
        ("an address with a password", vault("https://me:pw@vault"), &["spec.vault.address"]),
        (
            "a name to revoke that is none",
            json!({"sealed": {}, "revoked": [{"name": "A-B", "since": "2026-01-01T00:00:00Z"}]}),
            &["spec.revoked[0].name"],
        ),
        (
            "since no time",
            json!({"sealed": {}, "revoked": [{"name": "A", "since": "yesterday"}]}),
            &["spec.revoked[0].since", "date-time"],
        ),
        (
            "since a time with an offset",
            json!({"sealed": {}, "revoked": [{"name": "A", "since": "2026-01-01T00:00:00+99:99"}]}),
            &["spec.revoked[0].since", "should match"],
        ),
        (
            "since a time of ten digits",
            json!({"sealed": {}, "revoked": [{"name": "A", "since": "2026-01-01T00:00:00.0123456789Z"}]}),
            &["spec.revoked[0].since", "should match"],
        ),
        (
            "a second sealed store",
            json!({"sealed": {}}),
            &["a namespace has one sealed store, and its name is default"],
        ),
        (
            "a name revoked twice",
            json!({"sealed": {}, "revoked": [{"name": "A", "since": "2026-01-01T00:00:00Z"}, {"name": "A", "since": "2026-01-02T00:00:00Z"}]}),
            &["spec.revoked[1]", "Duplicate value"],
        ),
        (
            "a cache of two hours",
            json!({"sealed": {}, "cache": {"ttlSeconds": 7200}}),
            &["spec.cache.ttlSeconds", "3600"],
        ),
    ];
    for (case, spec, says) in cases {
        let answer =
            post(&team.admin, &path(&team, "teamsecretstores"), &object("TeamSecretStore", "s", &spec)).await?;
        verdict.refused(case, &answer, says);
    }
    let long = object("TeamSecretStore", &"x".repeat(64), &json!({"sealed": {}}));
    verdict.refused(
        "a name of 64",
        &post(&team.admin, &path(&team, "teamsecretstores"), &long).await?,
        &["metadata.name", "63"],
    );
    for (name, spec) in [("default", json!({"sealed": {}})), ("vault", vault("https://vault.example:8200"))] {
        let answer =
            post(&team.admin, &path(&team, "teamsecretstores"), &object("TeamSecretStore", name, &spec)).await?;
        verdict.accepted(name, &answer);
    }
    verdict.end();
    Ok(())
}

#[tokio::test]
async fn kubectl_explains_every_field() -> Result<()> {
    let team = Team::new(operator().await?, "explain").await?;
    let explain = |path: &str| -> Result<String> {
        let output = team.cluster.kubectl(&["explain", path])?;
        Ok(String::from_utf8_lossy(&output.stdout).split_whitespace().collect::<Vec<_>>().join(" "))
    };
    let text = explain("sandbox.spec.secrets")?;
    for part in [
        "FIELD: secrets <[]Object>",
        "Team secrets by name; each becomes a variable (or a file) of the container.",
        "name <string> -required- The secret's name in the team's store",
        "envVar <string> The variable (or, with `delivery: File`, the file) that gets the value. Defaults to `name`.",
        "optional <boolean>",
    ] {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
    for kind in ["sandbox", "evaljob", "teamsecretstore", "teamsecret"] {
        let schema = definition(kind);
        let bare = undescribed(&schema, kind);
        assert!(bare.is_empty(), "fields without a description: {bare:?}");
    }
    Ok(())
}

fn definition(kind: &str) -> Value {
    let crd = daypass::api::crds().into_iter().find(|crd| crd.spec.names.singular.as_deref() == Some(kind));
    assert!(crd.is_some(), "there is no {kind}");
    json!(crd)["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

fn undescribed(schema: &Value, path: &str) -> Vec<String> {
    let none = Map::new();
    let mut bare = Vec::new();
    for (name, field) in schema["properties"].as_object().unwrap_or(&none) {
        let path = format!("{path}.{name}");
        if field["description"].as_str().is_none_or(str::is_empty) {
            bare.push(path.clone());
        }
        bare.extend(undescribed(field, &path));
        bare.extend(undescribed(&field["items"], &path));
    }
    bare
}
