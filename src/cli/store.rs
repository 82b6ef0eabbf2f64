//! A team's store: setting it up, and asking whether it is in order.

use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use serde_json::json;

use super::Session;
use super::args::StoreCommand;
use super::connect::Cluster;
use super::error::{Needs, Result, api_error, is_conflict};
use super::grant;
use super::grants::{What, Whom};
use super::{sign_in, store_check};
use crate::api::names::DEFAULT_STORE;
use crate::api::{BackendKind, SealedBackend, TeamSecretStore, TeamSecretStoreSpec};

/// What a team should know before it trusts the sealed store. Said at `store init`, and in the README.
const STRENGTH: &str = "\
The sealed store needs nothing else, and is as strong as two things: the Secret `daypass-keys` in the operator's
namespace, and the encryption of etcd. Whoever reads both reads every value, and an unencrypted backup of etcd holds both.
For production a cloud's secret manager or Vault is the better place: see examples/stores, and
`kubectl explain teamsecretstore.spec`.";

/// `store ...`.
pub async fn run(session: &mut Session, command: &StoreCommand) -> Result<()> {
    match command {
        StoreCommand::Init { strict } => {
            let cluster = session.cluster().await?;
            let (new, granted) = init(session, &cluster, *strict).await?;
            let data = json!({"team": cluster.namespace, "store": DEFAULT_STORE,
                "changed": new, "granted": granted});
            match session.out.format() {
                super::output::Format::Table => Ok(()),
                _ => session.out.data(&data),
            }
        }
        StoreCommand::Check { name } => store_check::run(session, name).await,
        StoreCommand::GrantSignIn { service_account } => sign_in::grant(session, service_account).await,
    }
}

/// Reads a store of the team.
pub async fn get(cluster: &Cluster, name: &str) -> Result<Option<TeamSecretStore>> {
    let team = &cluster.namespace;
    api(cluster)
        .get_opt(name)
        .await
        .map_err(|error| api_error(&format!("read the store {name} of team {team}"), Needs::Member(team), &error))
}

/// The team's stores.
pub fn api(cluster: &Cluster) -> Api<TeamSecretStore> {
    Api::namespaced(cluster.client.clone(), &cluster.namespace)
}

/// Whether the store `default` is the sealed one, said or unsaid.
pub async fn is_sealed_default(cluster: &Cluster) -> Result<bool> {
    let store = get(cluster, DEFAULT_STORE).await?;
    Ok(store.is_none_or(|store| store.spec.backend() == Some(BackendKind::Sealed)))
}

/// A new sealed store `default`.
pub fn sealed_default(namespace: &str) -> TeamSecretStore {
    TeamSecretStore {
        metadata: ObjectMeta {
            name: Some(DEFAULT_STORE.into()),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        spec: TeamSecretStoreSpec { sealed: Some(SealedBackend {}), ..TeamSecretStoreSpec::default() },
        status: None,
    }
}

/// Sets the team up, as far as it is not. Says what it does; returns whether the store is new and whether something was
/// granted to the team's own service accounts.
pub async fn init(session: &mut Session, cluster: &Cluster, strict: bool) -> Result<(bool, bool)> {
    let team = &cluster.namespace;
    let doing = format!("make the store {DEFAULT_STORE} of team {team}");
    let new = match api(cluster).create(&PostParams::default(), &sealed_default(team)).await {
        Ok(_) => true,
        Err(error) if is_conflict(&error) => false,
        Err(error) => return Err(api_error(&doing, Needs::TeamAdmin(team), &error)),
    };
    if new {
        session.out.note(&format!("Made the store `{DEFAULT_STORE}` of team {team}, backend sealed."));
        session.out.note(STRENGTH);
    } else {
        let backend = get(cluster, DEFAULT_STORE).await?.and_then(|store| store.spec.backend());
        let backend = backend.map_or("unknown", BackendKind::as_str);
        session.out.note(&format!("The store `{DEFAULT_STORE}` of team {team} is there already, backend {backend}."));
    }
    if strict {
        session.out.note(&format!(
            "Granted nothing (--strict): `daypass secret grant NAME -n {team} --to-namespace {team}` does it secret by secret."
        ));
        return Ok((new, false));
    }
    let own = Whom::Namespace(team.clone());
    let granted = grant::ensure(cluster, &What::All, &own).await?;
    session.out.note(&if granted {
        format!(
            "Granted `use` on all secrets of team {team} to its own ServiceAccounts, so that its own runs get them."
        )
    } else {
        format!("The team's own ServiceAccounts may use all secrets of team {team} already.")
    });
    Ok((new, granted))
}
