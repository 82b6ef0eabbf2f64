//! Who holds what, as far as the asker sees.

use std::collections::BTreeMap;

use anyhow::Result;
use daypass::api::Sandbox;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::team::{Team, make};

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

    team.types("secret holders a", "")?.fails(3, "but A")?;
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
