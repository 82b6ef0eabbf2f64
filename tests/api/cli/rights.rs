//! Stores, grants, revocations, and what is refused.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use daypass::api::TeamSecretStore;
use daypass_testcluster::poll;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::Api;
use kube::api::ListParams;
use serde_json::{Value, json};

use super::team::{SOON, Team, bind, daypass, make};

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
    team.types_as(&nowhere.path().to_owned(), "secret list", "")?.fails(6, "cannot read the store")?;
    team.types_as(&PathBuf::from("/nonexistent"), "secret list", "")?.fails(2, "--kubeconfig")?;
    team.types("secret list --system-namespace-typo", "")?.fails(2, "unexpected argument")?;
    daypass(&team.kubeconfig, &["secret", "set", "B", "-n", &team.namespace, "--system-namespace", "default"], "1")?
        .fails(4, "--system-namespace")
}
