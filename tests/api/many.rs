//! Fifty runs at once, and what they cost the API server.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};

use crate::support::{Fleet, Team, operator};

#[tokio::test]
async fn fifty_sandboxes_at_once_cost_five_writes_each() -> Result<()> {
    let team = Team::new(operator().await?, "fifty").await?;
    let mut fleet = Fleet::new(&team).await?;
    let mark = team.mark()?;
    fleet.submit(50).await?;
    let waited = fleet.start(0..50).await?;
    fleet.wait_running(0..50).await?;
    fleet.exit(0..50).await?;
    fleet.check_the_end().await?;

    let mut writes: BTreeMap<String, usize> = BTreeMap::new();
    let mut patches: BTreeMap<String, usize> = BTreeMap::new();
    for entry in team.operator_requests(mark).await? {
        if entry.namespace == team.namespace && entry.is_write() && entry.resource != "events" {
            ensure!(entry.code < 300, "{} {} was answered by {}", entry.verb, entry.uri, entry.code);
            *writes.entry(format!("{} {}", entry.verb, entry.resource)).or_default() += 1;
            if entry.resource == "sandboxes" {
                *patches.entry(entry.name).or_default() += 1;
            }
        }
    }
    for what in ["create secrets", "create pods", "delete secrets"] {
        assert_eq!(writes.get(what), Some(&50), "{what}: {writes:?}");
    }
    for (name, count) in patches {
        // A Pod that has not started within 10 s is told once: the node that is played here may be late.
        let told = usize::from(waited[&name] >= 10);
        ensure!(count <= 2 + told, "{name}: {count} patches, its Pod waited {} s", waited[&name]);
    }
    Ok(())
}

#[tokio::test]
async fn the_operator_never_reads_a_secret() -> Result<()> {
    let operator = operator().await?;
    let team = Team::new(operator, "blind").await?;
    let mut fleet = Fleet::new(&team).await?;
    fleet.submit(2).await?;
    fleet.start(0..2).await?;
    fleet.exit(0..2).await?;
    fleet.check_the_end().await?;
    // Over all that this control plane has seen, whatever test it was.
    operator.cluster.audit_settled().await?;
    let mut verbs: BTreeMap<String, usize> = BTreeMap::new();
    for entry in operator.cluster.audit().all()? {
        if entry.user == "system:serviceaccount:daypass-system:daypass-operator" && entry.resource == "secrets" {
            let tried = if entry.dry_run { "dry-run " } else { "" };
            *verbs.entry(format!("{tried}{}", entry.verb)).or_default() += 1;
        }
    }
    // The self-test tries what must be refused.
    let allowed = ["create", "delete", "dry-run create", "dry-run delete", "dry-run update"];
    ensure!(verbs.keys().all(|verb| allowed.contains(&verb.as_str())), "{verbs:?}");
    Ok(())
}
