//! What people type, word for word, as a team's admin on an empty namespace who is no cluster admin.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use daypass::api::{Sandbox, TeamSecret, TeamSecretStore};
use daypass::stores::sealed::key::{KeyId, PrivateKey};
use daypass::stores::sealed::seal::open;
use daypass_testcluster::{Cluster, poll};
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::chart;

const SOON: Duration = Duration::from_secs(30);

/// A team of its own: an empty namespace, its admin, and a key to seal to.
struct Team {
    cluster: &'static Cluster,
    namespace: String,
    system: String,
    admin: String,
    kubeconfig: PathBuf,
    key: PrivateKey,
    key_id: String,
}

/// What a command left behind.
#[derive(Debug)]
struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Ran {
    fn ok(self) -> Result<String> {
        ensure!(self.code == 0, "{self:?}");
        Ok(self.out)
    }

    fn fails(self, code: i32, told: &str) -> Result<()> {
        ensure!(self.code == code && self.err.contains(told), "expected {code} and {told:?}: {self:?}");
        Ok(())
    }
}

fn daypass(kubeconfig: &PathBuf, arguments: &[&str], stdin: &str) -> Result<Ran> {
    let mut child = Command::new(env!("CARGO_BIN_EXE_daypass"))
        .args(arguments)
        .env("KUBECONFIG", kubeconfig)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut input = child.stdin.take().context("standard input")?;
    // A command that needs no input may be over already.
    let _ = input.write_all(stdin.as_bytes());
    drop(input);
    let output = child.wait_with_output()?;
    Ok(Ran {
        code: output.status.code().context("ended by a signal")?,
        out: String::from_utf8(output.stdout)?,
        err: String::from_utf8(output.stderr)?,
    })
}

/// Makes an object as the cluster's admin.
async fn make<K>(cluster: &Cluster, namespace: &str, object: Value) -> Result<K>
where
    K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + serde::Serialize
        + serde::de::DeserializeOwned
        + Clone
        + std::fmt::Debug,
{
    let api = Api::<K>::namespaced(cluster.admin()?, namespace);
    Ok(api.create(&PostParams::default(), &serde_json::from_value(object)?).await?)
}

/// Gives a `ClusterRole` in a namespace.
async fn bind(cluster: &Cluster, namespace: &str, role: &str, user: &str) -> Result<()> {
    let binding = json!({
        "metadata": {"name": format!("{role}-{user}")},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
    });
    make::<RoleBinding>(cluster, namespace, binding).await.map(drop)
}

/// Whether somebody may, by the API server's own word.
async fn may(cluster: &Cluster, user: &str, groups: &[&str], attributes: Value) -> Result<bool> {
    let review = json!({"spec": {"user": user, "groups": groups, "resourceAttributes": attributes}});
    let review: SubjectAccessReview = serde_json::from_value(review)?;
    let review = Api::<SubjectAccessReview>::all(cluster.admin()?).create(&PostParams::default(), &review).await?;
    Ok(review.status.context("a status")?.allowed)
}

impl Team {
    async fn new() -> Result<Self> {
        let cluster = chart::installed().await?;
        let namespace = cluster.namespace("team").await?;
        // Keys of its own, so that tests do not meet.
        let system = cluster.namespace("system").await?;
        let key = PrivateKey::generate();
        let key_id = KeyId::new("2026-01-02T03:04:05Z".parse()?, &key.public()).to_string();
        let map = json!({"metadata": {"name": "daypass-public-keys"}, "data": {&key_id: key.public().to_base64()}});
        make::<ConfigMap>(cluster, &system, map).await?;
        // As the chart does in the operator's namespace.
        let reader = json!({"metadata": {"name": "public-keys"}, "rules": [
            {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["daypass-public-keys"], "verbs": ["get"]},
        ]});
        make::<Role>(cluster, &system, reader).await?;
        let everyone = json!({
            "metadata": {"name": "public-keys"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "public-keys"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:authenticated"}],
        });
        make::<RoleBinding>(cluster, &system, everyone).await?;

        let admin = format!("amy-{namespace}");
        bind(cluster, &namespace, "admin", &admin).await?;
        poll(SOON, "the roles of the chart are part of `admin`", async || {
            let write =
                json!({"namespace": namespace, "group": "daypass.dev", "resource": "teamsecrets", "verb": "create"});
            ensure!(may(cluster, &admin, &[], write).await?, "not yet");
            Ok(())
        })
        .await?;
        let kubeconfig = cluster.kubeconfig_as(&admin, &[])?;
        Ok(Self { cluster, namespace, system, admin, kubeconfig, key, key_id })
    }

    fn types(&self, line: &str, stdin: &str) -> Result<Ran> {
        self.types_as(&self.kubeconfig, line, stdin)
    }

    fn types_as(&self, kubeconfig: &PathBuf, line: &str, stdin: &str) -> Result<Ran> {
        let mut arguments: Vec<&str> = line.split(' ').collect();
        arguments.extend(["-n", &self.namespace, "--system-namespace", &self.system]);
        daypass(kubeconfig, &arguments, stdin)
    }

    fn secrets(&self) -> Result<Api<TeamSecret>> {
        Ok(Api::namespaced(self.cluster.admin()?, &self.namespace))
    }

    /// The values of all versions, the newest first.
    async fn values(&self, name: &str) -> Result<Vec<(i64, String)>> {
        let secret = self.secrets()?.get(&name.to_lowercase().replace('_', "-")).await?;
        let opened = secret.spec.versions.iter().map(|version| {
            let value = open(&self.key, &self.namespace, name, version)?;
            Ok((version.version, String::from_utf8(value.expose().to_vec())?))
        });
        opened.collect()
    }

    async fn uses(&self, user: &str, groups: &[&str], name: &str) -> Result<bool> {
        let attributes = json!({
            "namespace": self.namespace, "group": "daypass.dev", "resource": "teamsecrets", "verb": "use", "name": name,
        });
        may(self.cluster, user, groups, attributes).await
    }

    async fn uses_soon(&self, user: &str, groups: &[&str], name: &str, expected: bool) -> Result<()> {
        poll(SOON, "the authorizer has seen the change", async || {
            ensure!(self.uses(user, groups, name).await? == expected, "{user} {groups:?} {name}: not {expected}");
            Ok(())
        })
        .await
    }

    /// The groups of a ServiceAccount of the namespace.
    fn account(namespace: &str) -> (String, [String; 3]) {
        (
            format!("system:serviceaccount:{namespace}:default"),
            [
                "system:serviceaccounts".into(),
                format!("system:serviceaccounts:{namespace}"),
                "system:authenticated".into(),
            ],
        )
    }
}

#[tokio::test]
async fn a_secret_lives_from_set_to_delete() -> Result<()> {
    let team = Team::new().await?;
    team.types("secret list", "")?.ok()?;
    team.types("secret rotate HF_TOKEN", "x")?.fails(3, "daypass secret set HF_TOKEN")?;

    let ran = team.types("secret set HF_TOKEN", "one")?;
    assert!(ran.err.contains("Made the store `default`") && ran.err.contains("as strong as"), "{ran:?}");
    assert!(ran.ok()?.contains("version 1"));
    assert_eq!(team.values("HF_TOKEN").await?, [(1, "one".into())]);
    let (account, groups) = Team::account(&team.namespace);
    let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
    team.uses_soon(&account, &groups, "HF_TOKEN", true).await?;

    let again = team.types("secret set HF_TOKEN", "two")?;
    again.fails(5, "daypass secret rotate HF_TOKEN")?;
    team.types("secret set hf_token", "two")?.fails(5, "differs from hf_token in case only")?;
    team.types("secret rotate hf_token", "two")?.fails(3, "but HF_TOKEN")?;
    team.types("secret rotate HF_TOKEN", "two\n")?.fails(2, "--trim-newline")?;
    team.types("secret rotate HF_TOKEN", "")?.fails(2, "at least 1 byte")?;
    assert_eq!(team.values("HF_TOKEN").await?, [(1, "one".into())]);

    team.types("secret rotate HF_TOKEN --trim-newline", "two\n")?.ok()?;
    assert_eq!(team.values("HF_TOKEN").await?, [(2, "two".into())]);
    team.types("secret rotate HF_TOKEN --keep", "three")?.ok()?;
    assert_eq!(team.values("HF_TOKEN").await?, [(3, "three".into()), (2, "two".into())]);
    for number in 4..=11 {
        team.types("secret rotate HF_TOKEN --keep", &number.to_string())?.ok()?;
    }
    let versions: Vec<i64> = team.values("HF_TOKEN").await?.into_iter().map(|(version, _)| version).collect();
    assert_eq!(versions, [11, 10, 9, 8, 7, 6, 5, 4]);

    let table = team.types("secret list", "")?.ok()?;
    assert!(table.starts_with("NAME ") && table.contains(&team.admin) && !table.contains("(old)"), "{table}");
    let list: Value = serde_json::from_str(&team.types("secret list -o json", "")?.ok()?)?;
    let item = &list["items"][0];
    assert_eq!(item["name"], "HF_TOKEN");
    assert_eq!((item["version"].as_i64(), item["versions"].as_i64()), (Some(11), Some(8)));
    assert_eq!((item["by"].as_str(), item["oldKey"].as_bool()), (Some(team.admin.as_str()), Some(false)));
    assert_eq!(item["keyId"], team.key_id.as_str());

    team.types("secret delete HF_TOKEN", "")?.fails(2, "--yes")?;
    team.types("secret delete HF_TOKEN", "y\n")?.fails(2, "--yes")?;
    team.types("secret delete HF_TOKEN --yes", "")?.ok()?;
    team.types("secret delete HF_TOKEN --yes", "")?.fails(3, "no secret HF_TOKEN")?;
    assert!(team.secrets()?.list(&ListParams::default()).await?.items.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_manifest_goes_to_git_and_an_old_one_does_not_come_back() -> Result<()> {
    let team = Team::new().await?;
    let first = team.types("secret set API_KEY -o yaml", "one")?.ok()?;
    assert!(!first.contains("by:"), "{first}");
    assert!(team.secrets()?.list(&ListParams::default()).await?.items.is_empty(), "something was applied");
    assert!(
        Api::<TeamSecretStore>::namespaced(team.cluster.admin()?, &team.namespace).get_opt("default").await?.is_none()
    );

    let apply = |manifest: &str| -> Result<(bool, String)> {
        let mut child = team
            .cluster
            .kubectl_command()
            .args(["apply", "-f", "-"])
            .env("KUBECONFIG", &team.kubeconfig)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        child.stdin.take().context("standard input")?.write_all(manifest.as_bytes())?;
        let output = child.wait_with_output()?;
        Ok((output.status.success(), String::from_utf8(output.stderr)?))
    };
    assert!(apply(&first)?.0);
    assert_eq!(team.values("API_KEY").await?, [(1, "one".into())]);
    let second = team.types("secret rotate API_KEY -o yaml", "two")?.ok()?;
    assert_eq!(team.values("API_KEY").await?, [(1, "one".into())]);
    assert!(apply(&second)?.0);
    assert_eq!(team.values("API_KEY").await?, [(2, "two".into())]);
    let (applied, told) = apply(&first)?;
    assert!(!applied && told.contains("cannot come back"), "{told}");
    // What was set directly bears a name, and a manifest that keeps it has to leave it as it stands.
    team.types("secret rotate API_KEY", "three")?.ok()?;
    assert!(apply(&team.types("secret rotate API_KEY --keep -o yaml", "four")?.ok()?)?.0);
    assert_eq!(team.values("API_KEY").await?, [(4, "four".into()), (3, "three".into())]);
    Ok(())
}

#[tokio::test]
async fn an_env_file_is_set_as_a_whole_or_not_at_all() -> Result<()> {
    let team = Team::new().await?;
    let file = tempfile::NamedTempFile::new()?;
    let path = file.path().to_str().context("a path")?;
    std::fs::write(file.path(), "A=1\nB='2'\nC=$HOME\n_D=4\n")?;
    team.types(&format!("secret set --from-env-file {path}"), "")?.fails(2, "line 3")?;
    assert!(team.secrets()?.list(&ListParams::default()).await?.items.is_empty());

    std::fs::write(file.path(), "# a team's\nA=1\nexport B='2'\n")?;
    team.types(&format!("secret set --from-env-file {path}"), "")?.ok()?;
    assert_eq!((team.values("A").await?, team.values("B").await?), (vec![(1, "1".into())], vec![(1, "2".into())]));

    std::fs::write(file.path(), "C=3\nA=1\nB=2\n")?;
    team.types(&format!("secret set --from-env-file {path}"), "")?.fails(5, "already: A, B")?;
    assert_eq!(team.secrets()?.list(&ListParams::default()).await?.items.len(), 2);
    Ok(())
}

#[tokio::test]
async fn sizes_are_as_promised() -> Result<()> {
    let team = Team::new().await?;
    let file = tempfile::NamedTempFile::new()?;
    let line = format!("secret set BIG --from-file {}", file.path().display());
    std::fs::write(file.path(), "x".repeat(64 * 1024 + 1))?;
    team.types(&line, "")?.fails(2, "64 KiB")?;
    let most = "x".repeat(64 * 1024);
    std::fs::write(file.path(), &most)?;
    team.types(&line, "")?.ok()?;
    assert_eq!(team.values("BIG").await?, [(1, most)]);
    Ok(())
}

#[tokio::test]
async fn a_team_is_set_up_strictly_or_not() -> Result<()> {
    let team = Team::new().await?;
    let (account, groups) = Team::account(&team.namespace);
    let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
    team.types("store check", "")?.fails(3, "daypass store init")?;
    let ran = team.types("store init --strict", "")?;
    assert!(ran.err.contains("as strong as") && ran.err.contains("Granted nothing"), "{ran:?}");
    ran.ok()?;
    assert!(!team.uses(&account, &groups, "X").await?);
    team.types("store init", "")?.ok()?;
    team.uses_soon(&account, &groups, "X", true).await?;
    let again: Value = serde_json::from_str(&team.types("store init -o json", "")?.ok()?)?;
    assert_eq!((again["changed"].as_bool(), again["granted"].as_bool()), (Some(false), Some(false)));
    // No operator runs here, so nobody has looked at it.
    let check = team.types("store check -o json", "")?;
    let told: Value = serde_json::from_str(&check.out)?;
    assert_eq!((told["backend"].as_str(), told["ready"].as_str()), (Some("sealed"), Some("Unknown")));
    check.fails(1, "not ready: WaitingForController")
}

#[tokio::test]
async fn grants_hold_and_are_taken_back() -> Result<()> {
    let team = Team::new().await?;
    let other = team.cluster.namespace("other").await?;
    let (account, groups) = Team::account(&other);
    let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
    team.types("secret set A", "1")?.ok()?;
    team.types("secret set B", "2")?.ok()?;
    team.types("secret grant a --to-user bob", "")?.fails(3, "but A")?;

    for (to, user, user_groups) in [
        (format!("--to-namespace {other}"), account.as_str(), groups.as_slice()),
        (format!("--to-serviceaccount {other}/default"), account.as_str(), groups.as_slice()),
        ("--to-user https://id.example/bob".into(), "https://id.example/bob", &[]),
        ("--to-group evaluators".into(), "carol", &["evaluators"]),
    ] {
        ensure!(!team.uses(user, user_groups, "A").await?, "{to}: before");
        team.types(&format!("secret grant A {to}"), "")?.ok()?;
        team.uses_soon(user, user_groups, "A", true).await?;
        ensure!(!team.uses(user, user_groups, "B").await?, "{to}: another secret");
        assert!(team.types(&format!("secret grant A {to}"), "")?.ok()?.contains("already"));
        team.types(&format!("secret ungrant A {to}"), "")?.ok()?;
        team.uses_soon(user, user_groups, "A", false).await?;
        team.types(&format!("secret ungrant A {to}"), "")?.fails(3, "no grant")?;
    }
    team.types("secret grant vault.X --to-user dave", "")?.ok()?;
    team.uses_soon("dave", &[], "vault.X", true).await?;
    team.types("secret grant --all --to-user dave", "")?.ok()?;
    team.uses_soon("dave", &[], "B", true).await?;

    // Of all that was made, what is left is what still holds: of the team itself, and dave's two.
    let roles = Api::<Role>::namespaced(team.cluster.admin()?, &team.namespace).list(&ListParams::default()).await?;
    let mut names: Vec<_> = roles.items.into_iter().filter_map(|role| role.metadata.name).collect();
    names.sort();
    assert_eq!(names, ["daypass:use:*", "daypass:use:vault.X"]);
    Ok(())
}

#[tokio::test]
async fn roles_of_others_are_not_touched() -> Result<()> {
    let team = Team::new().await?;
    team.types("secret set A", "1")?.ok()?;
    let rules = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]);
    let foreign = json!({"metadata": {"name": "daypass:use:A"}, "rules": rules});
    make::<Role>(team.cluster, &team.namespace, foreign).await?;
    team.types("secret grant A --to-user bob", "")?.fails(5, "not Daypass's")?;
    let binding = json!({
        "metadata": {"name": "daypass:use:A:user:bob"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "daypass:use:A"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "bob"}],
    });
    make::<RoleBinding>(team.cluster, &team.namespace, binding).await?;
    team.types("secret ungrant A --to-user bob", "")?.fails(5, "not Daypass's")?;
    let admin = team.cluster.admin()?;
    let role = Api::<Role>::namespaced(admin.clone(), &team.namespace).get("daypass:use:A").await?;
    assert_eq!(serde_json::to_value(role.rules)?, rules);
    Api::<RoleBinding>::namespaced(admin, &team.namespace).get("daypass:use:A:user:bob").await?;
    Ok(())
}

#[tokio::test]
async fn a_revocation_is_written_once_and_lifted() -> Result<()> {
    let team = Team::new().await?;
    let stores = Api::<TeamSecretStore>::namespaced(team.cluster.admin()?, &team.namespace);
    team.types("secret revoke LEAKED", "")?.fails(2, "--yes")?;
    assert!(stores.get_opt("default").await?.is_none());
    team.types("secret revoke LEAKED --yes", "")?.ok()?;
    let names = async || -> Result<Vec<String>> {
        Ok(stores.get("default").await?.spec.revoked.into_iter().map(|revoked| revoked.name).collect())
    };
    assert_eq!(names().await?, ["LEAKED"]);
    assert!(team.types("secret revoke LEAKED --yes", "")?.ok()?.contains("since"));
    team.types("secret set OTHER", "x")?.ok()?;
    team.types("secret revoke other --yes", "")?.fails(3, "but OTHER")?;
    team.types("secret revoke OTHER --yes", "")?.ok()?;
    assert_eq!(names().await?, ["LEAKED", "OTHER"]);
    assert!(team.types("secret list", "")?.ok()?.contains("revoked"));
    team.types("secret revoke LEAKED --lift", "")?.ok()?;
    assert_eq!(names().await?, ["OTHER"]);
    assert!(team.types("secret revoke LEAKED --lift", "")?.ok()?.contains("not revoked"));
    team.types("secret revoke X --store vault --yes", "")?.fails(3, "no store vault")
}

#[tokio::test]
async fn holders_are_shown_as_far_as_the_asker_sees() -> Result<()> {
    let team = Team::new().await?;
    let cluster = team.cluster;
    let other = cluster.namespace("other").await?;
    team.types("secret set A", "1")?.ok()?;
    team.types(&format!("secret grant A --to-namespace {other}"), "")?.ok()?;
    let sandbox = |name: &str, owner: Option<&str>| {
        let mut secret = json!({"name": "A"});
        if let Some(owner) = owner {
            secret["team"] = json!(owner);
        }
        json!({"apiVersion": "daypass.dev/v1alpha1", "kind": "Sandbox", "metadata": {"name": name},
            "spec": {"secrets": [secret]}})
    };
    make::<Sandbox>(cluster, &team.namespace, sandbox("new", None)).await?;
    make::<Sandbox>(cluster, &team.namespace, sandbox("over", None)).await?;
    make::<Sandbox>(cluster, &team.namespace, sandbox("runs", None)).await?;
    make::<Sandbox>(cluster, &other, sandbox("far", Some(&team.namespace))).await?;
    let sandboxes = Api::<Sandbox>::namespaced(cluster.admin()?, &team.namespace);
    for (name, phase, removed) in [("over", "Completed", true), ("runs", "Running", false)] {
        let mut status = json!({"phase": phase, "secretInjectedAt": "2026-01-01T00:00:00Z"});
        if removed {
            status["secretRemovedAt"] = json!("2026-01-01T00:00:01Z");
        }
        let patch = Patch::Merge(json!({ "status": status }));
        sandboxes.patch_status(name, &PatchParams::default(), &patch).await?;
    }

    let runs = |told: &Value| -> BTreeMap<String, String> {
        let items = told["items"].as_array().cloned().unwrap_or_default();
        items.iter().map(|item| (item["run"].to_string(), item["copy"].to_string())).collect()
    };
    let expected =
        |pairs: &[(&str, &str)]| pairs.iter().map(|(run, copy)| (format!("{run:?}"), format!("{copy:?}"))).collect();
    let ran = team.types("secret holders A -o json", "")?;
    assert!(ran.err.contains(&format!("You may not see the runs of: {other}")), "{ran:?}");
    let told: Value = serde_json::from_str(&ran.ok()?)?;
    assert_eq!(runs(&told), expected(&[("new", "possible"), ("runs", "present")]));
    assert_eq!(told["complete"], false);
    assert_eq!(told["refusedNamespaces"], json!([other]));

    let ran = team.types_as(&cluster.kubeconfig(), "secret holders A -o json", "")?;
    let told: Value = serde_json::from_str(&ran.ok()?)?;
    assert_eq!(runs(&told), expected(&[("far", "possible"), ("new", "possible"), ("runs", "present")]));
    assert_eq!(told["complete"], true);
    let table = team.types_as(&cluster.kubeconfig(), "secret holders -A", "")?.ok()?;
    assert!(table.contains("far") && table.contains("may hold"), "{table}");

    // What is about to change shows them first.
    for line in ["secret rotate A --from-stdin", "secret delete A", "secret revoke A"] {
        let ran = team.types(line, "")?;
        assert!(ran.err.contains("2 live runs hold") && ran.err.contains("not started"), "{ran:?}");
        assert_eq!(ran.code, 2, "{ran:?}");
    }
    Ok(())
}

#[tokio::test]
async fn refusals_name_the_role_and_exit_codes_tell_causes_apart() -> Result<()> {
    let team = Team::new().await?;
    team.types("secret set A", "1")?.ok()?;
    let outsider = team.cluster.kubeconfig_as("outsider", &[])?;
    team.types_as(&outsider, "secret list", "")?.fails(4, "daypass-member")?;
    let member = format!("mel-{}", team.namespace);
    bind(team.cluster, &team.namespace, "edit", &member).await?;
    let member = team.cluster.kubeconfig_as(&member, &[])?;
    poll(SOON, "the member may list", async || team.types_as(&member, "secret list", "")?.ok().map(drop)).await?;
    team.types_as(&member, "secret set B", "1")?.fails(4, "daypass-team-admin")?;
    team.types_as(&member, "secret rotate A", "1")?.fails(4, "daypass-team-admin")?;
    team.types_as(&member, "secret delete A --yes", "")?.fails(4, "daypass-team-admin")?;
    team.types_as(&member, "secret revoke A --yes", "")?.fails(4, "daypass-team-admin")?;
    team.types_as(&member, "secret grant A --to-user bob", "")?.fails(4, "role `admin`")?;
    team.types("key add", "")?.fails(4, "cluster admin")?;
    assert_eq!(team.values("A").await?, [(1, "1".into())]);

    // The flag acts as kubectl's does.
    let ran = team.types_as(&team.cluster.kubeconfig(), "secret list --as outsider", "")?;
    ran.fails(4, "outsider")?;

    let nowhere = tempfile::NamedTempFile::new()?;
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": ""}}],
    });
    std::fs::write(nowhere.path(), kubeconfig.to_string())?;
    team.types_as(&nowhere.path().to_owned(), "secret list", "")?.fails(6, "cannot list")?;
    team.types_as(&PathBuf::from("/nonexistent"), "secret list", "")?.fails(2, "--kubeconfig")?;
    team.types("secret list --system-namespace-typo", "")?.fails(2, "unexpected argument")?;
    daypass(&team.kubeconfig, &["secret", "set", "B", "-n", &team.namespace, "--system-namespace", "default"], "1")?
        .fails(4, "--system-namespace")
}

#[tokio::test]
async fn keys_are_added_backed_up_and_brought_back() -> Result<()> {
    let team = Team::new().await?;
    let admin = team.cluster.kubeconfig();
    let secrets = Api::<Secret>::namespaced(team.cluster.admin()?, &team.system);
    let data = async || -> Result<BTreeMap<String, Vec<u8>>> {
        let data = secrets.get("daypass-keys").await?.data.unwrap_or_default();
        Ok(data.into_iter().map(|(id, bytes)| (id, bytes.0)).collect())
    };
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("keys.backup");
    let words = folder.path().join("passphrase");
    std::fs::write(&words, "correct horse battery staple\n")?;
    let (file_name, words_name) = (file.display(), words.display());
    let backup = format!("key backup {file_name} --passphrase-file {words_name}");
    let restore = format!("key restore {file_name} --passphrase-file {words_name}");

    team.types_as(&admin, &backup, "")?.fails(3, "no Secret daypass-keys")?;
    // The team's key is listed, and no Secret holds it: giving it up is asked about.
    team.types_as(&admin, "key add", "")?.fails(2, "--yes")?;
    assert!(secrets.get_opt("daypass-keys").await?.is_none());
    team.types_as(&admin, "key add --yes", "")?.ok()?;
    let map = Api::<ConfigMap>::namespaced(team.cluster.admin()?, &team.system).get("daypass-public-keys").await?;
    assert!(map.data.unwrap_or_default().is_empty());
    assert_eq!(secrets.get("daypass-keys").await?.type_.as_deref(), Some("daypass.dev/keys"));
    team.types_as(&admin, "key add", "")?.ok()?;
    let both = data().await?;
    assert_eq!(both.len(), 2);
    for (id, key) in &both {
        let public = PrivateKey::from_bytes(key)?.public();
        assert!(id.parse::<KeyId>()?.names(&public), "{id}");
    }

    team.types_as(&admin, &backup, "")?.ok()?;
    assert_eq!(std::fs::metadata(&file)?.permissions().mode() & 0o777, 0o600);
    team.types_as(&admin, &backup, "")?.fails(5, "there already")?;
    assert!(team.types_as(&admin, &restore, "")?.ok()?.contains("nothing was changed"));

    // An empty cluster, and one that lacks one key and has another.
    secrets.delete("daypass-keys", &DeleteParams::default()).await?;
    team.types_as(&admin, &restore, "")?.ok()?;
    assert_eq!(data().await?, both);
    team.types_as(&admin, "key add", "")?.ok()?;
    let first = both.keys().next().context("a key")?;
    let patch = Patch::Merge(json!({"data": {first: null}}));
    secrets.patch("daypass-keys", &PatchParams::default(), &patch).await?;
    team.types_as(&admin, &restore, "")?.ok()?;
    let after = data().await?;
    assert_eq!(after.len(), 3);
    assert!(both.iter().all(|(id, key)| after.get(id) == Some(key)));

    std::fs::write(&words, "another horse battery staple\n")?;
    team.types_as(&admin, &restore, "")?.fails(2, "does not open")
}
