//! Secrets of stores that keep their values elsewhere: written with the caller's own credentials, through the same trait
//! that the operator reads by. The operator is then told to forget what it has in memory.

use std::sync::Arc;

use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::args::{DeleteArgs, RotateArgs};
use super::ask::confirm;
use super::connect::Cluster;
use super::error::{CliError, Exit, Result};
use super::output::{Format, Table, age};
use super::{Session, look, store, value};
use crate::api::{BackendKind, CHANGED, TeamSecretStore};
use crate::secret::SecretValue;
use crate::stores::{SecretStore, StoreError, Write, own};

/// A store that keeps its values elsewhere.
pub struct Elsewhere {
    name: String,
    kind: BackendKind,
    backend: Arc<dyn SecretStore>,
}

/// Where a team's values are.
pub enum Values {
    /// In `TeamSecret` objects; whether a store's object says so.
    Sealed {
        /// Whether the store's object is there. The store `default` needs none.
        set_up: bool,
    },
    /// In a backend.
    Elsewhere(Elsewhere),
}

/// Where the values of a store of the team are. Signs in to nothing yet.
///
/// # Errors
/// The team has no such store, or the caller has no credentials for its backend.
pub async fn find(session: &mut Session, cluster: &Cluster, name: &str) -> Result<Values> {
    let team = &cluster.namespace;
    let Some(object) = store::get(cluster, name).await? else {
        if name == crate::api::names::DEFAULT_STORE {
            return Ok(Values::Sealed { set_up: false });
        }
        return Err(CliError::not_found(format!("team {team} has no store {name}"))
            .hint(format!("`kubectl get teamsecretstores -n {team}` lists those that are there")));
    };
    match object.spec.backend() {
        Some(BackendKind::Sealed) => Ok(Values::Sealed { set_up: true }),
        kind => {
            check_addresses(session, name, &object)?;
            Ok(Values::Elsewhere(open(cluster, name, kind, &object).await?))
        }
    }
}

/// The store's object says where the caller's own credentials go, and others may have written it.
fn check_addresses(session: &mut Session, name: &str, object: &TeamSecretStore) -> Result<()> {
    for address in own::addresses(&object.spec) {
        if own::is_trusted(&address) {
            continue;
        }
        let agreed = session.ask.is_terminal()
            && session.ask.yes(&format!("The store {name} sends your own credentials to {address}. Is that right?"))?;
        if !agreed {
            return Err(CliError::new(
                Exit::Declined,
                format!("the store {name} would send your own credentials to {address}: nothing was sent"),
            )
            .hint(format!(
                "if that is right, put the address into $DAYPASS_TRUSTED_ADDRESSES (for Vault $VAULT_ADDR does): \
                 `export DAYPASS_TRUSTED_ADDRESSES={address}`"
            )));
        }
    }
    Ok(())
}

async fn open(cluster: &Cluster, name: &str, kind: Option<BackendKind>, object: &TeamSecretStore) -> Result<Elsewhere> {
    let backend = own::open(cluster.client.clone(), &cluster.namespace, &object.spec).await;
    let backend = backend.map_err(|error| told(&format!("the store {name} of team {}", cluster.namespace), &error))?;
    Ok(Elsewhere { name: name.to_owned(), kind: kind.unwrap_or(BackendKind::Sealed), backend })
}

impl Elsewhere {
    /// `secret set`: each value under a new name, up to the first that fails.
    ///
    /// # Errors
    /// A name is taken, or the backend does not take the value.
    pub async fn set(&self, session: &mut Session, cluster: &Cluster, values: &[(String, SecretValue)]) -> Result<()> {
        no_manifest(session)?;
        let team = &cluster.namespace;
        let mut done: Vec<&str> = Vec::new();
        for (name, value) in values {
            match self.backend.put(name, value, Write::New).await {
                Ok(version) => {
                    self.tell_operator(session, cluster, name).await;
                    session
                        .out
                        .text(&format!("Set {name} of team {team} in {}, version {version}.\n", self.place()))?;
                    done.push(name);
                }
                Err(error) => {
                    let mut error = told(&format!("set {name} of team {team} in {}", self.place()), &error);
                    if error.exit == Exit::Conflict {
                        let flags = self.flags(cluster);
                        error = error.hint(format!("`daypass secret rotate {name} {flags}` gives it a new value"));
                    }
                    if !done.is_empty() {
                        error.message = format!("{}\n  Set before that: {}", error.message, done.join(", "));
                    }
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// `secret rotate`.
    ///
    /// # Errors
    /// There is no such secret, it was changed meanwhile, or the backend does not take the value.
    pub async fn rotate(&self, session: &mut Session, cluster: &Cluster, name: &str, args: &RotateArgs) -> Result<()> {
        no_manifest(session)?;
        let team = &cluster.namespace;
        let report = look::show(session, cluster, &self.name, name).await?;
        if !report.items.is_empty() {
            session.out.note("They keep the value that they have; new runs get the new one.");
        }
        let value = value::read(&args.value, name, session.ask.as_mut())?;
        let write = if args.keep { Write::Keep } else { Write::Replace };
        let written = self.backend.put(name, &value, write).await;
        // After an error too: the change may have come half way.
        self.tell_operator(session, cluster, name).await;
        let version =
            written.map_err(|error| told(&format!("rotate {name} of team {team} in {}", self.place()), &error))?;
        let kept = match write {
            Write::Keep => "Older versions are kept for runs that pin one, as far as the backend keeps them.",
            _ => "Older versions resolve no more, as far as the backend takes them away.",
        };
        session.out.text(&format!("Rotated {name} of team {team} in {}: version {version}. {kept}\n", self.place()))
    }

    /// `secret list`.
    ///
    /// # Errors
    /// The backend does not list.
    pub async fn list(&self, session: &mut Session, cluster: &Cluster) -> Result<()> {
        let team = &cluster.namespace;
        let listed = self.backend.list().await;
        let items = listed.map_err(|error| told(&format!("list the secrets of team {team}"), &error))?;
        if items.is_empty() && session.out.format() == Format::Table {
            let flags = self.flags(cluster);
            session.out.note(&format!(
                "{} lists no secrets of team {team}: `daypass secret set NAME {flags}` makes one.",
                self.place()
            ));
            return Ok(());
        }
        let data = json!({
            "team": team, "store": self.name, "backend": self.kind.as_str(),
            "items": items.iter().map(|item| json!({"name": item.name, "changed": item.changed})).collect::<Vec<_>>(),
        });
        session.out.result(&data, || {
            let mut table = Table::new(["NAME", "CHANGED"]);
            for item in &items {
                table.row([item.name.clone(), age(item.changed, Timestamp::now())]);
            }
            table
        })
    }

    /// `secret history`.
    ///
    /// # Errors
    /// There is no such secret, or the backend keeps no versions.
    pub async fn history(&self, session: &mut Session, cluster: &Cluster, name: &str) -> Result<()> {
        let team = &cluster.namespace;
        let versions = self.backend.history(name).await;
        let versions = versions.map_err(|error| told(&format!("the versions of {name} of team {team}"), &error))?;
        let data = json!({
            "team": team, "store": self.name, "secret": name,
            "versions": versions.iter().map(|version| json!({
                "version": version.version, "state": version.state, "created": version.created,
            })).collect::<Vec<_>>(),
        });
        session.out.result(&data, || {
            let mut table = Table::new(["VERSION", "STATE", "AGE"]);
            for version in &versions {
                table.row([version.version.clone(), version.state.clone(), age(version.created, Timestamp::now())]);
            }
            table
        })
    }

    /// `secret delete`.
    ///
    /// # Errors
    /// There is no such secret, or the backend does not delete it.
    pub async fn delete(&self, session: &mut Session, cluster: &Cluster, name: &str, args: &DeleteArgs) -> Result<()> {
        let team = &cluster.namespace;
        let report = look::show(session, cluster, &self.name, name).await?;
        let question = format!("Delete {name} of team {team} in {}, all versions?", self.place());
        confirm(session.ask.as_mut(), args.yes, &question)?;
        let deleted = self.backend.delete(name).await;
        // After an error too: a backend may keep a deleted secret for a while, and says so.
        self.tell_operator(session, cluster, name).await;
        deleted.map_err(|error| told(&format!("delete {name} of team {team} in {}", self.place()), &error))?;
        let runs = if report.items.is_empty() {
            String::new()
        } else {
            format!("\nRuns that have it keep it: `daypass secret revoke {name} {}` ends them.", self.flags(cluster))
        };
        let data = json!({"team": team, "store": self.name, "secret": name, "deleted": true});
        session.out.done(&data, &format!("Deleted {name} of team {team} in {}.{runs}", self.place()))
    }

    /// Stamps the store's object: the operator then forgets what it has of that name. Failing to is no failure of the
    /// change, which holds within the store's TTL anyhow.
    async fn tell_operator(&self, session: &mut Session, cluster: &Cluster, name: &str) {
        let stamp = json!({"metadata": {"annotations": {CHANGED: format!("{name} {}", Timestamp::now())}}});
        let patch = Patch::Merge(stamp);
        if store::api(cluster).patch(&self.name, &PatchParams::default(), &patch).await.is_err() {
            session.out.note("The operator could not be told: new runs get the change when the store's cache.ttlSeconds (30) are over.");
        }
    }

    fn place(&self) -> String {
        format!("the store {} ({})", self.name, self.kind.as_str())
    }

    fn flags(&self, cluster: &Cluster) -> String {
        format!("--store {} -n {}", self.name, cluster.namespace)
    }
}

/// A manifest for Git would have to hold the value in clear.
fn no_manifest(session: &Session) -> Result<()> {
    match session.out.format() {
        Format::Table => Ok(()),
        _ => Err(CliError::usage("this store keeps values elsewhere, so there is no manifest to write: leave -o out")),
    }
}

/// A backend's answer, as people see it.
fn told(doing: &str, error: &StoreError) -> CliError {
    let exit = match error {
        StoreError::NotFound(_) => Exit::NotFound,
        StoreError::Conflict(_) => Exit::Conflict,
        StoreError::Denied(_) => Exit::Denied,
        StoreError::Unsupported(_) => Exit::Usage,
        _ => Exit::Failure,
    };
    CliError::new(exit, format!("{doing}: {error}"))
}
