//! Who submits must hold what he names, and what an object says about people is true.

use anyhow::{Result, ensure};
use daypass_testcluster::poll;
use kube::Client;
use serde_json::{Value, json};

use super::{SOON, World, runs, set};
use crate::ask::{Verdict, delete, get, patch, post};

const USE: &str = "daypass-use-sandbox";
const SUBMITTED: &str = "daypass-submitted-by";
const AUTHORS: &str = "daypass-secret-authors";

fn sandbox(secrets: &Value) -> Value {
    json!({
        "apiVersion": "daypass.dev/v1alpha1", "kind": "Sandbox", "metadata": {"name": "run"},
        "spec": {"secrets": secrets},
    })
}

/// A team lets somebody use secrets by their access names; none: all.
pub async fn grant(admin: &Client, team: &str, user: &str, names: &[&str]) -> Result<()> {
    let rbac = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{team}");
    let name = format!("grant-{user}-{}", names.len());
    let mut use_rule = json!({"apiGroups": ["daypass.dev"], "resources": ["teamsecrets"], "verbs": ["use"]});
    if !names.is_empty() {
        use_rule["resourceNames"] = json!(names);
    }
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": name}, "rules": [use_rule],
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [{"kind": "User", "name": user}],
    });
    for (path, object) in [("roles", role), ("rolebindings", binding)] {
        let answer = post(admin, &format!("{rbac}/{path}"), &object).await?;
        ensure!(answer.code == 201, "{}", answer.message());
    }
    Ok(())
}

#[tokio::test]
async fn every_named_secret_needs_its_own_grant() -> Result<()> {
    let world = World::new().await?;
    let mut verdict = Verdict::default();
    let (home, away) = (&world.home, &world.away);
    let path = format!("{}?dryRun=All", runs(away));
    let all: Vec<_> = (0..12).map(|index| json!({"team": home, "name": format!("S{index}")})).collect();
    let only = |index: usize| json!([all[index]]);

    // Members use their own team's secrets, said or unsaid, in whatever store; strangers need a grant for each.
    let own = format!("{}?dryRun=All", runs(home));
    verdict.code("a member, 12", &post(&world.member, &own, &sandbox(&json!(all))).await?, 201);
    let unsaid = json!([{"name": "A"}, {"name": "B", "store": "vault"}, {"name": "C", "store": "default"}]);
    verdict.code("a member, team unsaid", &post(&world.member, &own, &sandbox(&unsaid)).await?, 201);
    verdict.code("a stranger at home", &post(&world.stranger, &path, &sandbox(&unsaid)).await?, 201);
    verdict.code("no secrets", &post(&world.stranger, &path, &sandbox(&json!([]))).await?, 201);
    let rule = format!(
        "spec.secrets[0]: you may not use S0 of team {home}; an admin of that team grants it: daypass secret grant S0 -n {home} --to-user stranger"
    );
    verdict.refused("a stranger", &post(&world.stranger, &path, &sandbox(&only(0))).await?, USE, &rule);
    let nowhere = json!([{"team": "no-such-team", "name": "A"}]);
    let answer = post(&world.member, &own, &sandbox(&nowhere)).await?;
    verdict.refused("no such team", &answer, USE, "spec.secrets[0]: you may not use A of team no-such-team");

    // All but one, for each of the twelve.
    let names: Vec<_> = (0..12).map(|index| format!("S{index}")).collect();
    let granted: Vec<_> = names.iter().take(11).map(String::as_str).collect();
    grant(&world.admin, home, "stranger", &granted).await?;
    poll(SOON, "the grant is seen", async || {
        let answer = post(&world.stranger, &path, &sandbox(&only(10))).await?;
        ensure!(answer.code == 201, "{}", answer.message());
        Ok(())
    })
    .await?;
    for place in 0..12 {
        let mut secrets = all.clone();
        secrets.swap(place, 11);
        let rule = format!("spec.secrets[{place}]: you may not use S11 of team {home}");
        let answer = post(&world.stranger, &path, &sandbox(&json!(secrets))).await?;
        verdict.refused(&format!("the one without a grant at {place}"), &answer, USE, &rule);
    }
    verdict.code("eleven", &post(&world.stranger, &path, &sandbox(&json!(all[..11]))).await?, 201);

    // A grant is for an access name: the same name in another store is another secret, in both directions.
    let vault = json!([{"team": home, "name": "S0", "store": "vault"}]);
    let rule = format!(
        "spec.secrets[0]: you may not use vault.S0 of team {home}; an admin of that team grants it: daypass secret grant vault.S0 -n {home} --to-user stranger"
    );
    verdict.refused("another store", &post(&world.stranger, &path, &sandbox(&vault)).await?, USE, &rule);
    let said = json!([{"team": home, "name": "S0", "store": "default"}]);
    verdict.code("the store said", &post(&world.stranger, &path, &sandbox(&said)).await?, 201);
    verdict.code(
        "a field and a version",
        &post(
            &world.stranger,
            &path,
            &sandbox(
                &json!([{"team": home, "name": "S0", "field": "f", "version": "1", "envVar": "E", "optional": true}]),
            ),
        )
        .await?,
        201,
    );
    let answer = post(&world.stranger, &path, &sandbox(&json!([{"team": home, "name": "s0"}]))).await?;
    verdict.refused("another case", &answer, USE, "spec.secrets[0]: you may not use s0");
    grant(&world.admin, home, "other", &["vault.S0"]).await?;
    let other = json!({"kind": "User", "name": "other"});
    super::bind(&world.admin, away, "edit", &other).await?;
    let other = world.cluster.client_as("other", &[])?;
    poll(SOON, "the grant is seen", async || {
        let answer = post(&other, &path, &sandbox(&vault)).await?;
        ensure!(answer.code == 201, "{}", answer.message());
        Ok(())
    })
    .await?;
    let answer = post(&other, &path, &sandbox(&only(0))).await?;
    verdict.refused("the default store", &answer, USE, "spec.secrets[0]: you may not use S0");

    // A grant without names is for all.
    grant(&world.admin, home, "other", &[]).await?;
    poll(SOON, "the grant is seen", async || {
        let answer = post(&other, &path, &sandbox(&json!(all))).await?;
        ensure!(answer.code == 201, "{}", answer.message());
        Ok(())
    })
    .await?;
    verdict.end();
    Ok(())
}

#[tokio::test]
async fn the_mend_names_whoever_asked() -> Result<()> {
    let world = World::new().await?;
    let mut verdict = Verdict::default();
    let (home, away) = (&world.home, &world.away);
    let path = format!("{}?dryRun=All", runs(away));
    let secrets = json!([{"team": home, "name": "S"}]);
    let account = format!("system:serviceaccount:{away}:runner");
    for (user, subject, mend) in [
        (
            account.clone(),
            json!({"kind": "ServiceAccount", "name": "runner", "namespace": away}),
            format!("--to-serviceaccount {away}/runner"),
        ),
        (
            "ann@example.com".to_owned(),
            json!({"kind": "User", "name": "ann@example.com"}),
            "--to-user ann@example.com".to_owned(),
        ),
        // Nothing that a shell would read may come from a name.
        ("ann; rm -rf ~".to_owned(), json!({"kind": "User", "name": "ann; rm -rf ~"}), "--to-user USER".to_owned()),
    ] {
        super::bind(&world.admin, away, "edit", &subject).await?;
        let client = world.cluster.client_as(&user, &[])?;
        poll(SOON, "they may submit", async || {
            let answer = post(&client, &path, &sandbox(&json!([]))).await?;
            ensure!(answer.code == 201, "{}", answer.message());
            Ok(())
        })
        .await?;
        let rule = format!(
            "spec.secrets[0]: you may not use S of team {home}; an admin of that team grants it: daypass secret grant S -n {home} {mend}"
        );
        let answer = post(&client, &path, &sandbox(&secrets)).await?;
        verdict.refused(&user, &answer, USE, &rule);
        ensure!(answer.message().ends_with(&mend), "{}", answer.message());
    }
    verdict.end();
    Ok(())
}

#[tokio::test]
async fn submitted_by_is_true_and_stays() -> Result<()> {
    let world = World::new().await?;
    let mut verdict = Verdict::default();
    let path = runs(&world.home);
    let by = |name: &str, user: &str| {
        let run = set(&sandbox(&json!([])), "/metadata/name", json!(name));
        set(&run, "/metadata/annotations", json!({"daypass.dev/submitted-by": user}))
    };
    let own =
        "the annotation daypass.dev/submitted-by must be your own user name, member: leave it out or set it right";
    verdict.refused("another's", &post(&world.member, &path, &by("a", "lord")).await?, SUBMITTED, own);
    verdict.refused("nobody's", &post(&world.member, &path, &by("a", "")).await?, SUBMITTED, own);
    verdict.code("one's own", &post(&world.member, &path, &by("a", "member")).await?, 201);
    let (signed, unsigned) = (format!("{path}/a"), format!("{path}/demo"));
    let change = |value: Value| json!({"metadata": {"annotations": {"daypass.dev/submitted-by": value}}});
    for (who, client, name) in [("member", &world.member, "member"), ("lord", &world.lord, "lord")] {
        for (what, path, value) in [
            ("changed", &signed, json!("other")),
            ("taken off", &signed, Value::Null),
            ("added", &unsigned, json!(name)),
        ] {
            let answer = patch(client, path, &change(value)).await?;
            let rule = "the annotation daypass.dev/submitted-by is set at creation and does not change";
            verdict.refused(&format!("{who}: {what}"), &answer, SUBMITTED, rule);
        }
        // Whoever it was, others may still stop the run, and annotate it.
        let stop = json!({"spec": {"stop": true}, "metadata": {"annotations": {"note": who}}});
        verdict.code(&format!("{who}: stop"), &patch(client, &signed, &stop).await?, 200);
    }
    verdict.end();
    Ok(())
}

#[tokio::test]
async fn who_set_a_version_is_true_and_stays() -> Result<()> {
    let world = World::new().await?;
    let mut verdict = Verdict::default();
    for user in ["ann", "ben"] {
        super::bind(&world.admin, &world.home, "admin", &json!({"kind": "User", "name": user})).await?;
    }
    let (ann, ben) = (world.cluster.client_as("ann", &[])?, world.cluster.client_as("ben", &[])?);
    let path = format!("/apis/daypass.dev/v1alpha1/namespaces/{}/teamsecrets", world.home);
    for client in [&ann, &ben] {
        poll(SOON, "they are team admins", async || {
            let answer = get(client, &path).await?;
            ensure!(answer.code == 200, "{}", answer.message());
            Ok(())
        })
        .await?;
    }
    let entry = |number: i64, by: Option<&str>| {
        let entry = json!({"version": number, "keyID": "k", "enc": "YQ==", "ciphertext": "YQ=="});
        by.map_or(entry.clone(), |by| set(&entry, "/by", json!(by)))
    };
    let secret = |versions: Value| {
        json!({
            "apiVersion": "daypass.dev/v1alpha1", "kind": "TeamSecret", "metadata": {"name": "token"},
            "spec": {"name": "TOKEN", "versions": versions},
        })
    };
    let versions = |versions: Value| json!({"spec": {"versions": versions}});
    let own = "spec.versions[].by of a new version must be your own user name, ";
    let stays = "spec.versions[].by of a version that stands does not change";
    let one = format!("{path}/token");

    verdict.code("a member may not", &post(&world.member, &path, &secret(json!([entry(1, None)]))).await?, 403);
    verdict.refused("another's", &post(&ann, &path, &secret(json!([entry(1, Some("ben"))]))).await?, AUTHORS, own);
    verdict.code("nobody's", &post(&ann, &format!("{path}?dryRun=All"), &secret(json!([entry(1, None)]))).await?, 201);
    verdict.code("one's own", &post(&ann, &path, &secret(json!([entry(1, Some("ann"))]))).await?, 201);
    for (what, list, rule) in [
        ("a new one of another's", json!([entry(2, Some("ann")), entry(1, Some("ann"))]), own),
        ("a standing one, mine now", json!([entry(1, Some("ben"))]), stays),
        ("a standing one, nobody's now", json!([entry(1, None)]), stays),
        ("a new one of mine, and the old one too", json!([entry(2, Some("ben")), entry(1, Some("ben"))]), stays),
    ] {
        verdict.refused(what, &patch(&ben, &one, &versions(list)).await?, AUTHORS, rule);
    }
    let both = json!([entry(2, Some("ben")), entry(1, Some("ann"))]);
    verdict.code("rotated and kept", &patch(&ben, &one, &versions(both)).await?, 200);
    verdict.code("rotated from Git", &patch(&ann, &one, &versions(json!([entry(3, None)]))).await?, 200);
    let claimed = json!([entry(3, Some("ann"))]);
    verdict.refused("claimed later", &patch(&ann, &one, &versions(claimed)).await?, AUTHORS, stays);
    verdict.code("deleted", &delete(&ben, &one, None).await?, 200);
    verdict.end();
    Ok(())
}
