//! Refusing a secret from now on: copies are deleted, runs that name it are ended. The operator does it.

use jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;

use super::Session;
use super::args::RevokeArgs;
use super::ask::confirm;
use super::connect::Cluster;
use super::error::{CliError, Needs, Result, api_error, is_conflict};
use super::look;
use super::manifest::store_and_name;
use super::{secret, store};
use crate::api::names::{DEFAULT_STORE, access_name};
use crate::api::{RevokedSecret, Time};

/// How many names a store can have revoked, by its kind.
const MAX_REVOKED: usize = 64;

/// What has to be written, or that nothing has.
#[derive(Debug, PartialEq, Eq)]
enum Change {
    Write(Vec<RevokedSecret>),
    Already(Time),
    NotRevoked,
}

/// `secret revoke`.
pub async fn run(session: &mut Session, args: &RevokeArgs) -> Result<()> {
    let (store, name) = store_and_name(&args.name, args.store.as_deref())?;
    let cluster = session.cluster().await?;
    let team = cluster.namespace.clone();
    let access = access_name(store, name);
    if !args.lift {
        // A name in other letters would refuse nothing, and its sender would think that all is well.
        if store == DEFAULT_STORE
            && store::is_sealed_default(&cluster).await?
            && secret::find(&cluster, name).await?.is_none()
        {
            session.out.note(&format!("Team {team} has no secret {name} now; the name can be revoked all the same."));
        }
        look::show(session, &cluster, store, name).await?;
        confirm(
            session.ask.as_mut(),
            args.yes,
            &format!("Revoke {access} of team {team}: refuse it, delete its copies and end every run that names it?"),
        )?;
    }
    let now = Time(Timestamp::now()).to_second();
    // A second try: somebody may have changed the store between reading and writing.
    let written = match write(&cluster, store, name, args.lift, now).await {
        Err(error) if error.exit == super::error::Exit::Conflict => write(&cluster, store, name, args.lift, now).await,
        other => other,
    }?;
    let data = json!({"team": team, "store": store, "secret": name, "revoked": !args.lift,
        "changed": matches!(written, Change::Write(_))});
    let sentence = match (written, args.lift) {
        (Change::Write(_), false) => format!(
            "Revoked {access} of team {team}. The operator now ends the runs that name it: `daypass secret holders {access} -n \
             {team}` shows what is left.\nThe value still opens whatever it opened: change it there first, then set the new \
             one, and only then end this with `daypass secret revoke {access} -n {team} --lift`."
        ),
        (Change::Already(since), false) => {
            format!("{access} of team {team} is revoked since {since}: nothing was changed.")
        }
        (Change::Write(_), true) => format!("{access} of team {team} may be used again."),
        (_, _) => format!("{access} of team {team} is not revoked: nothing was changed."),
    };
    session.out.done(&data, &sentence)
}

async fn write(cluster: &Cluster, store: &str, name: &str, lift: bool, now: Time) -> Result<Change> {
    let team = &cluster.namespace;
    let doing = format!("revoke {} of team {team}", access_name(store, name));
    let found = match store::get(cluster, store).await? {
        Some(found) => found,
        None if lift => return Ok(Change::NotRevoked),
        None if store == DEFAULT_STORE => {
            let mut made = store::sealed_default(team);
            made.spec.revoked = vec![RevokedSecret { name: name.to_owned(), since: now }];
            return match store::api(cluster).create(&PostParams::default(), &made).await {
                Ok(_) => Ok(Change::Write(made.spec.revoked)),
                Err(error) => Err(api_error(&doing, Needs::TeamAdmin(team), &error)),
            };
        }
        None => {
            return Err(CliError::not_found(format!("team {team} has no store {store}"))
                .hint(format!("`kubectl get teamsecretstores -n {team}` lists those that are there")));
        }
    };
    let change = change(&found.spec.revoked, name, lift, now)?;
    let Change::Write(revoked) = &change else { return Ok(change) };
    // The resource version makes it a conflict where the list was changed meanwhile, so that no revocation gets lost.
    let patch = json!({"metadata": {"resourceVersion": found.metadata.resource_version}, "spec": {"revoked": revoked}});
    match store::api(cluster).patch(store, &PatchParams::default(), &Patch::Merge(patch)).await {
        Ok(_) => Ok(change),
        Err(error) if is_conflict(&error) => {
            Err(CliError::conflict(format!("cannot {doing}: the store was changed at the same time"))
                .hint("type it again"))
        }
        Err(error) => Err(api_error(&doing, Needs::TeamAdmin(team), &error)),
    }
}

fn change(old: &[RevokedSecret], name: &str, lift: bool, now: Time) -> Result<Change> {
    let found = old.iter().find(|revoked| revoked.name == name);
    match (found, lift) {
        (Some(revoked), false) => Ok(Change::Already(revoked.since)),
        (None, true) => Ok(Change::NotRevoked),
        (Some(_), true) => Ok(Change::Write(old.iter().filter(|revoked| revoked.name != name).cloned().collect())),
        (None, false) if old.len() >= MAX_REVOKED => {
            Err(CliError::failure(format!("a store has at most {MAX_REVOKED} revoked names"))
                .hint("lift one that is out of use: `daypass store check -o json` lists them"))
        }
        (None, false) => {
            let added = RevokedSecret { name: name.to_owned(), since: now };
            Ok(Change::Write(old.iter().cloned().chain([added]).collect()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Time {
        Time(text.parse().unwrap())
    }

    fn revoked(name: &str) -> RevokedSecret {
        RevokedSecret { name: name.into(), since: at("2026-01-01T00:00:00Z") }
    }

    #[test]
    fn a_name_is_added_once_and_taken_away_alone() {
        let now = at("2026-02-01T00:00:00Z");
        let old = [revoked("A"), revoked("B")];
        let new = RevokedSecret { name: "C".into(), since: now };
        assert_eq!(change(&old, "C", false, now).unwrap(), Change::Write(vec![revoked("A"), revoked("B"), new]));
        assert_eq!(change(&old, "A", false, now).unwrap(), Change::Already(at("2026-01-01T00:00:00Z")));
        assert_eq!(change(&old, "A", true, now).unwrap(), Change::Write(vec![revoked("B")]));
        assert_eq!(change(&old, "C", true, now).unwrap(), Change::NotRevoked);
        let full: Vec<_> = (0..MAX_REVOKED).map(|number| revoked(&format!("N{number}"))).collect();
        assert!(change(&full, "C", false, now).is_err());
        assert!(change(&full, "N1", true, now).is_ok());
    }
}
