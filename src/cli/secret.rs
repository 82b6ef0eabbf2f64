//! A team's secrets: set, rotate, list, delete.

use jiff::Timestamp;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use serde::Serialize;
use serde_json::json;

use super::args::{DeleteArgs, HistoryArgs, ListArgs, RotateArgs, SetArgs};
use super::ask::confirm;
use super::connect::Cluster;
use super::elsewhere::{self, Values};
use super::env_file;
use super::error::{CliError, Exit, Needs, Result, api_error, is_conflict, is_not_found};
use super::look;
use super::manifest::{check_name, manifest, new_secret, rotated, store_and_name, variable_note};
use super::output::{Format, Table, age};
use super::public_keys::{SealingKey, newest_id};
use super::{Session, store, value};
use crate::api::names::{DEFAULT_STORE, team_secret_object};
use crate::api::{SealedVersion, TeamSecret, TeamSecretSpec};
use crate::secret::SecretValue;
use crate::stores::sealed::seal::Binding;

/// The largest `.env` file, in bytes.
const MAX_ENV_FILE: usize = 1024 * 1024;

/// `secret set`.
pub async fn set(session: &mut Session, args: &SetArgs) -> Result<()> {
    let mut values: Vec<(String, SecretValue)> = Vec::new();
    if let Some(path) = &args.from_env_file {
        let text = value::read_file(path, MAX_ENV_FILE)?;
        if text.expose().len() > MAX_ENV_FILE {
            return Err(CliError::usage(format!("{} is larger than 1 MiB", path.display())));
        }
        values = env_file::parse(&text).map_err(|problems| {
            CliError::usage(format!("{}: nothing was set.\n  {}", path.display(), problems.join("\n  ")))
        })?;
    }
    let (store, name) = match &args.name {
        Some(name) => {
            let (store, name) = store_and_name(name, args.store.as_deref())?;
            (store, Some(name.to_owned()))
        }
        None => (args.store.as_deref().unwrap_or(DEFAULT_STORE), None),
    };
    let mut names: Vec<String> = values.iter().map(|(name, _)| name.clone()).collect();
    names.extend(name.clone());

    let cluster = session.cluster().await?;
    let has_store = match elsewhere::find(session, &cluster, store).await? {
        Values::Sealed { set_up } => set_up,
        Values::Elsewhere(backend) => {
            if let Some(name) = name {
                let value = value::read(&args.value, &name, session.ask.as_mut())?;
                values.push((name, value));
            }
            return backend.set(session, &cluster, &values).await;
        }
    };
    names.iter().try_for_each(|name| check_name(name))?;
    check_new(&cluster, &names).await?;
    let key = SealingKey::newest(&cluster).await?;
    if let Some(name) = &name {
        values.push((name.clone(), value::read(&args.value, name, session.ask.as_mut())?));
    }
    for note in names.iter().filter_map(|name| variable_note(name)) {
        session.out.note(&note);
    }

    let team = cluster.namespace.clone();
    if session.out.format() != Format::Table {
        let mut manifests = Vec::new();
        for (name, value) in &values {
            let secret =
                new_secret(&team, name, |version| key.seal(&Binding { namespace: &team, name, version }, value, None))?;
            manifests.push(manifest(&team, &secret.spec));
        }
        session.out.note("Nothing was applied: `kubectl apply` or Git does it.");
        if !has_store {
            session.out.note(&format!(
                "Team {team} is not set up: its own runs are refused until `daypass store init -n {team}` was done."
            ));
        }
        return session.out.manifests(&manifests);
    }

    let by = cluster.whoami().await;
    if !has_store {
        init_first(session, &cluster).await?;
    }
    let mut done = Vec::new();
    for (name, value) in &values {
        let secret = new_secret(&team, name, |version| {
            key.seal(&Binding { namespace: &team, name, version }, value, by.as_deref())
        })?;
        if let Err(error) = secrets(&cluster).create(&PostParams::default(), &secret).await {
            let error = match error {
                error if is_conflict(&error) => exists(&team, name),
                error => api_error(&format!("set {name} of team {team}"), Needs::TeamAdmin(&team), &error),
            };
            return Err(if done.is_empty() { error } else { after(error, &done) });
        }
        done.push(name.clone());
        session.out.text(&format!("Set {name} of team {team}, version 1, sealed to key {}.\n", key.id()))?;
    }
    Ok(())
}

/// A team without a store is set up first. A caller who may not grant sets the secret all the same.
async fn init_first(session: &mut Session, cluster: &Cluster) -> Result<()> {
    match store::init(session, cluster, false).await {
        Err(error) if error.exit == Exit::Denied && store::get(cluster, DEFAULT_STORE).await?.is_some() => {
            session.out.note(&format!(
                "The team's own ServiceAccounts were granted nothing: {error}\n  Its runs are refused until `daypass store init -n \
                 {}` was done by someone who may.",
                cluster.namespace
            ));
            Ok(())
        }
        other => other.map(|_| ()),
    }
}

fn after(error: CliError, done: &[String]) -> CliError {
    CliError { message: format!("{}\n  Set before that: {}", error.message, done.join(", ")), ..error }
}

fn exists(team: &str, name: &str) -> CliError {
    CliError::conflict(format!("team {team} has a secret {name} already"))
        .hint(format!("`daypass secret rotate {name} -n {team}` gives it a new value"))
}

/// All names are looked at before anything is written, and all that are taken are told.
async fn check_new(cluster: &Cluster, names: &[String]) -> Result<()> {
    let team = &cluster.namespace;
    let mut taken = Vec::new();
    for name in names {
        let found = secrets(cluster)
            .get_opt(&team_secret_object(name))
            .await
            .map_err(|error| api_error(&format!("read the secrets of team {team}"), Needs::Member(team), &error))?;
        match found {
            Some(found) if found.spec.name == *name => taken.push(name.clone()),
            Some(found) => {
                return Err(CliError::conflict(format!(
                    "team {team} has a secret {} already, which differs from {name} in case only",
                    found.spec.name
                )));
            }
            None => {}
        }
    }
    match taken.as_slice() {
        [] => Ok(()),
        [name] => Err(exists(team, name)),
        _ => Err(CliError::conflict(format!("team {team} has these secrets already: {}", taken.join(", ")))
            .hint("`daypass secret rotate NAME` gives one a new value; nothing was set")),
    }
}

fn secrets(cluster: &Cluster) -> Api<TeamSecret> {
    Api::namespaced(cluster.client.clone(), &cluster.namespace)
}

/// Reads a secret by its exact name.
async fn existing(cluster: &Cluster, name: &str) -> Result<TeamSecret> {
    let team = &cluster.namespace;
    let missing = || CliError::not_found(format!("team {team} has no secret {name}"));
    match find(cluster, name).await? {
        Some(secret) => Ok(secret),
        None => Err(missing().hint(format!(
            "`daypass secret set {name} -n {team}` makes it; `daypass secret list -n {team}` lists those that are there"
        ))),
    }
}

/// Looks for a secret. One that differs in case only is a slip that must not pass: it would name nothing.
pub async fn find(cluster: &Cluster, name: &str) -> Result<Option<TeamSecret>> {
    let team = &cluster.namespace;
    let found = secrets(cluster)
        .get_opt(&team_secret_object(name))
        .await
        .map_err(|error| api_error(&format!("read the secret {name} of team {team}"), Needs::Member(team), &error))?;
    match found {
        Some(secret) if secret.spec.name != name => Err(CliError::not_found(format!(
            "team {team} has no secret {name}, but {}: names are told apart by case",
            secret.spec.name
        ))),
        other => Ok(other),
    }
}

/// `secret rotate`.
pub async fn rotate(session: &mut Session, args: &RotateArgs) -> Result<()> {
    let (store, name) = store_and_name(&args.name, args.store.as_deref())?;
    let cluster = session.cluster().await?;
    let team = cluster.namespace.clone();
    if let Values::Elsewhere(backend) = elsewhere::find(session, &cluster, store).await? {
        return backend.rotate(session, &cluster, name, args).await;
    }
    check_name(name)?;
    let old = existing(&cluster, name).await?;
    let key = SealingKey::newest(&cluster).await?;
    let report = look::show(session, &cluster, DEFAULT_STORE, name).await?;
    if !report.items.is_empty() {
        session.out.note("They keep the value that they have; new runs get the new one.");
    }
    let value = value::read(&args.value, name, session.ask.as_mut())?;
    let seal = |version, by: Option<&str>| key.seal(&Binding { namespace: &team, name, version }, &value, by);

    if session.out.format() != Format::Table {
        let versions = rotated(&old.spec.versions, args.keep, |version| seal(version, None))?;
        session.out.note("Nothing was applied: `kubectl apply` or Git does it.");
        return session.out.manifests(&[manifest(&team, &TeamSecretSpec { name: name.to_owned(), versions })]);
    }

    let by = cluster.whoami().await;
    let write = async |old: &TeamSecret| -> Result<Vec<SealedVersion>> {
        let versions = rotated(&old.spec.versions, args.keep, |version| seal(version, by.as_deref()))?;
        let patch = json!({
            "metadata": {"resourceVersion": old.metadata.resource_version},
            "spec": {"versions": versions},
        });
        let object = team_secret_object(name);
        match secrets(&cluster).patch(&object, &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(_) => Ok(versions),
            Err(error) if is_conflict(&error) => {
                Err(CliError::conflict(format!("{name} of team {team} was changed at the same time, by somebody else"))
                    .hint("look at it with `daypass secret list`, then type this again"))
            }
            Err(error) => Err(api_error(&format!("rotate {name} of team {team}"), Needs::TeamAdmin(&team), &error)),
        }
    };
    let versions = match write(&old).await {
        // The version is sealed in: it is counted and sealed anew.
        Err(error) if error.exit == Exit::Conflict => write(&existing(&cluster, name).await?).await?,
        other => other?,
    };
    let kept = match versions.len() {
        1 => "Older versions resolve no more.".to_owned(),
        all => format!("{} kept for runs that pin one.", look::count(all - 1, "older version")),
    };
    let version = versions.first().map_or(0, |version| version.version);
    session.out.text(&format!("Rotated {name} of team {team}: version {version}, sealed to key {}. {kept}\n", key.id()))
}

/// One line of `secret list`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    name: String,
    version: i64,
    versions: usize,
    #[serde(rename = "keyID")]
    key_id: String,
    /// Whether a version is sealed to an older key than the newest; none where the newest is not known.
    old_key: Option<bool>,
    by: Option<String>,
    revoked: bool,
    created: Option<Timestamp>,
}

/// `secret list`.
pub async fn list(session: &mut Session, args: &ListArgs) -> Result<()> {
    let cluster = session.cluster().await?;
    let team = cluster.namespace.clone();
    let store = args.store.as_deref().unwrap_or(DEFAULT_STORE);
    if let Values::Elsewhere(backend) = elsewhere::find(session, &cluster, store).await? {
        return backend.list(session, &cluster).await;
    }
    let found = secrets(&cluster)
        .list(&ListParams::default())
        .await
        .map_err(|error| api_error(&format!("list the secrets of team {team}"), Needs::Member(&team), &error))?;
    let store = store::get(&cluster, store).await?;
    let newest = newest_id(&cluster).await;
    let revoked: Vec<String> =
        store.iter().flat_map(|store| &store.spec.revoked).map(|revoked| revoked.name.clone()).collect();
    let items = listed(&found.items, newest.as_deref(), &revoked);
    if items.is_empty() && session.out.format() == Format::Table {
        session.out.note(&format!("Team {team} has no secrets: `daypass secret set NAME -n {team}` makes one."));
        return Ok(());
    }
    session.out.result(&json!({"team": team, "newestKeyID": newest, "items": items}), || {
        list_table(&items, Timestamp::now())
    })?;
    if newest.is_none() {
        session
            .out
            .note("The public keys cannot be read: whether a key is the newest is not shown (--system-namespace?).");
    }
    if items.iter().any(|item| item.old_key == Some(true)) {
        session.out.note("(old): sealed to an older key; `daypass secret rotate NAME` seals a value to the newest.");
    }
    Ok(())
}

fn listed(secrets: &[TeamSecret], newest: Option<&str>, revoked: &[String]) -> Vec<Listed> {
    secrets
        .iter()
        .filter_map(|secret| {
            let first = secret.spec.versions.first()?;
            Some(Listed {
                name: secret.spec.name.clone(),
                version: first.version,
                versions: secret.spec.versions.len(),
                key_id: first.key_id.clone(),
                old_key: newest.map(|newest| secret.spec.versions.iter().any(|version| version.key_id != newest)),
                by: first.by.clone(),
                revoked: revoked.contains(&secret.spec.name),
                created: secret.metadata.creation_timestamp.as_ref().map(|time| time.0),
            })
        })
        .collect()
}

fn list_table(items: &[Listed], now: Timestamp) -> Table {
    let mut table = Table::new(["NAME", "VERSION", "VERSIONS", "KEY", "BY", "STATE", "AGE"]);
    for item in items {
        table.row([
            item.name.clone(),
            item.version.to_string(),
            item.versions.to_string(),
            format!("{}{}", item.key_id, if item.old_key == Some(true) { " (old)" } else { "" }),
            item.by.clone().unwrap_or_default(),
            if item.revoked { "revoked" } else { "set" }.into(),
            age(item.created, now),
        ]);
    }
    table
}

/// `secret history`.
pub async fn history(session: &mut Session, args: &HistoryArgs) -> Result<()> {
    let (store, name) = store_and_name(&args.name, args.store.as_deref())?;
    let cluster = session.cluster().await?;
    if let Values::Elsewhere(backend) = elsewhere::find(session, &cluster, store).await? {
        return backend.history(session, &cluster, name).await;
    }
    check_name(name)?;
    let versions = existing(&cluster, name).await?.spec.versions;
    let shown =
        |version: &SealedVersion| json!({"version": version.version, "keyID": version.key_id, "by": version.by});
    let data = json!({
        "team": cluster.namespace, "store": store, "secret": name,
        "versions": versions.iter().map(shown).collect::<Vec<_>>(),
    });
    session.out.result(&data, || {
        let mut table = Table::new(["VERSION", "KEY", "BY"]);
        for version in &versions {
            let by = version.by.clone().unwrap_or_default();
            table.row([version.version.to_string(), version.key_id.clone(), by]);
        }
        table
    })
}

/// `secret delete`.
pub async fn delete(session: &mut Session, args: &DeleteArgs) -> Result<()> {
    let (store, name) = store_and_name(&args.name, args.store.as_deref())?;
    let cluster = session.cluster().await?;
    let team = cluster.namespace.clone();
    if let Values::Elsewhere(backend) = elsewhere::find(session, &cluster, store).await? {
        return backend.delete(session, &cluster, name, args).await;
    }
    check_name(name)?;
    let secret = existing(&cluster, name).await?;
    let report = look::show(session, &cluster, DEFAULT_STORE, name).await?;
    confirm(
        session.ask.as_mut(),
        args.yes,
        &format!("Delete {name} of team {team}, all versions? Its value cannot be had again."),
    )?;
    // What was shown is what is deleted: not a secret that somebody has just rotated or made anew.
    let unchanged = DeleteParams::default()
        .preconditions(Preconditions { uid: secret.metadata.uid, resource_version: secret.metadata.resource_version });
    match secrets(&cluster).delete(&team_secret_object(name), &unchanged).await {
        Ok(_) => {}
        Err(error) if is_not_found(&error) => {}
        Err(error) if is_conflict(&error) => {
            return Err(CliError::conflict(format!(
                "{name} of team {team} was changed at the same time: nothing was deleted"
            ))
            .hint("look at it with `daypass secret list`, then type this again"));
        }
        Err(error) => {
            return Err(api_error(&format!("delete {name} of team {team}"), Needs::TeamAdmin(&team), &error));
        }
    }
    let runs = if report.items.is_empty() {
        String::new()
    } else {
        format!("\nRuns that have it keep it: `daypass secret revoke {name} -n {team}` ends them.")
    };
    let sentence =
        format!("Deleted {name} of team {team}. Grants of it stay: `daypass secret ungrant` takes them back.{runs}");
    session.out.done(&json!({"team": team, "secret": name, "deleted": true}), &sentence)
}

#[cfg(test)]
mod tests {
    use super::super::manifest::tests::version;
    use super::*;

    fn secret(name: &str, keys: &[&str]) -> TeamSecret {
        let versions = keys
            .iter()
            .enumerate()
            .map(|(index, key)| SealedVersion {
                key_id: (*key).into(),
                ..version(i64::try_from(keys.len() - index).unwrap())
            })
            .collect();
        let mut secret = TeamSecret::new(&team_secret_object(name), TeamSecretSpec { name: name.into(), versions });
        secret.metadata.creation_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time("2026-03-01T12:00:00Z".parse().unwrap()));
        secret
    }

    #[test]
    fn the_list_marks_what_is_sealed_to_an_older_key_and_what_is_revoked() {
        let secrets = [secret("A", &["k2"]), secret("B", &["k2", "k1"]), secret("C", &["k1"])];
        let items = listed(&secrets, Some("k2"), &["C".into()]);
        let table = list_table(&items, "2026-03-02T12:00:00Z".parse().unwrap()).to_string();
        let expected = "\
NAME   VERSION   VERSIONS   KEY        BY    STATE     AGE
A      1         1          k2         amy   set       1d
B      2         2          k2 (old)   amy   set       1d
C      1         1          k1 (old)   amy   revoked   1d
";
        assert_eq!(table, expected);
        assert!(listed(&secrets, None, &[]).iter().all(|item| item.old_key.is_none()));
    }
}
