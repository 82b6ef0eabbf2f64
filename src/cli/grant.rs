//! Granting and taking back: writing the objects of [`grants`](super::grants), touching none that are not Daypass's.

use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams, Preconditions};
use serde_json::json;

use super::Session;
use super::args::GrantArgs;
use super::connect::Cluster;
use super::error::{CliError, Needs, Result, api_error, is_conflict, is_not_found};
use super::grants::{MANAGED_BY, What, Whom, is_ours};
use super::{secret, store};

/// `secret grant`.
pub async fn grant(session: &mut Session, args: &GrantArgs) -> Result<()> {
    let what = What::from_args(args)?;
    let cluster = session.cluster().await?;
    let whom = Whom::from_args(args, &cluster.namespace)?;
    if let Some(note) = spelling(&cluster, &what).await? {
        session.out.note(&note);
    }
    let new = ensure(&cluster, &what, &whom).await?;
    let team = &cluster.namespace;
    let data = json!({"team": team, "secret": access(&what), "to": whom.subject(), "binding": what.binding_name(&whom), "changed": new});
    let sentence = if new {
        format!("{} may use {what} of team {team}.", capital(&whom.to_string()))
    } else {
        format!("{} may use {what} of team {team} already: nothing was changed.", capital(&whom.to_string()))
    };
    session.out.done(&data, &sentence)
}

/// `secret ungrant`.
pub async fn ungrant(session: &mut Session, args: &GrantArgs) -> Result<()> {
    let what = What::from_args(args)?;
    let cluster = session.cluster().await?;
    let team = &cluster.namespace;
    let whom = Whom::from_args(args, team)?;
    let bindings = Api::<RoleBinding>::namespaced(cluster.client.clone(), team);
    let name = what.binding_name(&whom);
    let doing = format!("take the grant of {what} back from {whom}");
    let needs = Needs::Grants(team);
    let found = bindings.get_opt(&name).await.map_err(|error| api_error(&doing, needs, &error))?;
    let found = found.ok_or_else(|| {
        CliError::not_found(format!("{whom} has no grant of {what} in team {team} that `daypass secret grant` made")).hint(
            format!(
                "others may let them use it: `kubectl get rolebindings -n {team} -o wide`, and everybody with `edit` in {team} may"
            ),
        )
    })?;
    check_ours(&found.metadata, "RoleBinding", &name)?;
    bindings.delete(&name, &unchanged(found.metadata.uid)).await.map_err(|error| api_error(&doing, needs, &error))?;
    drop_unused_role(&cluster, &what).await?;
    let data = json!({"team": team, "secret": access(&what), "from": whom.subject(), "binding": name});
    session.out.done(
        &data,
        &format!(
            "The grant of {what} of team {team} to {whom} is gone. Runs that have a copy keep it: `daypass secret holders`."
        ),
    )
}

/// Makes the Role and the `RoleBinding` where they are not there. Whether anything was made.
pub async fn ensure(cluster: &Cluster, what: &What, whom: &Whom) -> Result<bool> {
    let team = &cluster.namespace;
    let doing = format!("grant {what} of team {team} to {whom}");
    let needs = Needs::Grants(team);
    let roles = Api::<Role>::namespaced(cluster.client.clone(), team);
    let role = what.role(team);
    let new_role = match roles.create(&PostParams::default(), &role).await {
        Ok(_) => true,
        Err(error) if is_conflict(&error) => {
            let name = what.role_name();
            let found = roles.get(&name).await.map_err(|error| api_error(&doing, needs, &error))?;
            check_ours(&found.metadata, "Role", &name)?;
            if found.rules != role.rules {
                return Err(CliError::conflict(format!(
                    "Role {name} in {team} was changed: it grants something else than {what}"
                ))
                .hint(format!("look at it, then delete it: kubectl delete role '{name}' -n {team}")));
            }
            false
        }
        Err(error) => return Err(api_error(&doing, needs, &error)),
    };
    let bindings = Api::<RoleBinding>::namespaced(cluster.client.clone(), team);
    let binding = what.binding(team, whom);
    match bindings.create(&PostParams::default(), &binding).await {
        Ok(_) => Ok(true),
        Err(error) if is_conflict(&error) => {
            let name = what.binding_name(whom);
            let found = bindings.get(&name).await.map_err(|error| api_error(&doing, needs, &error))?;
            check_ours(&found.metadata, "RoleBinding", &name)?;
            if found.subjects != binding.subjects || found.role_ref != binding.role_ref {
                return Err(CliError::conflict(format!(
                    "RoleBinding {name} in {team} was changed: it binds somebody else"
                ))
                .hint(format!("look at it, then delete it: kubectl delete rolebinding '{name}' -n {team}")));
            }
            Ok(new_role)
        }
        Err(error) => Err(api_error(&doing, needs, &error)),
    }
}

/// A Role that nothing binds any more is only in the way.
async fn drop_unused_role(cluster: &Cluster, what: &What) -> Result<()> {
    let team = &cluster.namespace;
    let needs = Needs::Grants(team);
    let doing = "take away the Role that nothing binds any more";
    let name = what.role_name();
    let bindings = Api::<RoleBinding>::namespaced(cluster.client.clone(), team);
    let all = bindings.list(&ListParams::default()).await.map_err(|error| api_error(doing, needs, &error))?;
    if all.iter().any(|binding| binding.role_ref.kind == "Role" && binding.role_ref.name == name) {
        return Ok(());
    }
    let roles = Api::<Role>::namespaced(cluster.client.clone(), team);
    match roles.get_opt(&name).await.map_err(|error| api_error(doing, needs, &error))? {
        Some(role) if is_ours(&role.metadata) => match roles.delete(&name, &unchanged(role.metadata.uid)).await {
            Err(error) if !is_not_found(&error) => Err(api_error(doing, needs, &error)),
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}

fn unchanged(uid: Option<String>) -> DeleteParams {
    DeleteParams::default().preconditions(Preconditions { uid, resource_version: None })
}

fn check_ours(metadata: &kube::api::ObjectMeta, kind: &str, name: &str) -> Result<()> {
    if is_ours(metadata) {
        return Ok(());
    }
    Err(CliError::conflict(format!(
        "{kind} {name} lacks the label {}={}: it is not Daypass's, and nothing was changed",
        MANAGED_BY.0, MANAGED_BY.1
    )))
}

/// A grant of a name that is not there works once it is. A name that is there in other letters is a slip.
async fn spelling(cluster: &Cluster, what: &What) -> Result<Option<String>> {
    let What::One(name) = what else { return Ok(None) };
    let team = &cluster.namespace;
    if name.contains('.') || !store::is_sealed_default(cluster).await? {
        return Ok(None);
    }
    Ok(secret::find(cluster, name).await?.is_none().then(|| {
        format!("Team {team} has no secret {name} yet: the grant holds once `daypass secret set {name} -n {team}` has made it.")
    }))
}

fn access(what: &What) -> &str {
    match what {
        What::One(access) => access,
        What::All => "*",
    }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_ascii_uppercase().to_string() + chars.as_str()).unwrap_or_default()
}
