//! `store grant-sign-in`: the right to mint tokens of one ServiceAccount, which a team gives to the operator.

use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{PolicyRule, Role, RoleBinding, RoleRef, Subject};
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use serde_json::json;

use super::Session;
use super::error::{CliError, Needs, Result, api_error, is_conflict};
use super::grants::MANAGED_BY;

/// The operator's ServiceAccount, as the chart names it.
const OPERATOR: &str = "daypass-operator";

/// `store grant-sign-in`.
pub async fn grant(session: &mut Session, account: &str) -> Result<()> {
    let cluster = session.cluster().await?;
    let team = &cluster.namespace;
    let needs = Needs::Grants(team);
    let accounts = Api::<ServiceAccount>::namespaced(cluster.client.clone(), team);
    let found = accounts.get_opt(account).await;
    if found.map_err(|error| api_error("look for the ServiceAccount", Needs::Member(team), &error))?.is_none() {
        return Err(CliError::not_found(format!("team {team} has no ServiceAccount {account}"))
            .hint(format!("`kubectl create serviceaccount {account} -n {team}` makes it")));
    }
    let doing = format!("let the operator mint tokens of {team}/{account}");
    let (role, binding) = objects(account, &cluster.system_namespace);
    let roles = Api::<Role>::namespaced(cluster.client.clone(), team);
    let bindings = Api::<RoleBinding>::namespaced(cluster.client.clone(), team);
    let mut new = false;
    for made in [
        roles.create(&PostParams::default(), &role).await.map(|_| ()),
        bindings.create(&PostParams::default(), &binding).await.map(|_| ()),
    ] {
        match made {
            Ok(()) => new = true,
            Err(error) if is_conflict(&error) => {}
            Err(error) => return Err(api_error(&doing, needs, &error)),
        }
    }
    let sentence = if new {
        format!(
            "The operator may mint tokens of ServiceAccount {team}/{account}, of one audience each, never the API server's."
        )
    } else {
        format!("The operator may mint tokens of ServiceAccount {team}/{account} already.")
    };
    session.out.done(&json!({"team": team, "serviceAccount": account, "changed": new}), &sentence)
}

fn objects(account: &str, system: &str) -> (Role, RoleBinding) {
    let metadata = ObjectMeta {
        name: Some(format!("daypass-sign-in-{account}")),
        labels: Some([(MANAGED_BY.0.to_owned(), MANAGED_BY.1.to_owned())].into()),
        ..ObjectMeta::default()
    };
    let role = Role {
        metadata: metadata.clone(),
        rules: Some(vec![PolicyRule {
            api_groups: Some(vec![String::new()]),
            resources: Some(vec!["serviceaccounts/token".into()]),
            resource_names: Some(vec![account.to_owned()]),
            verbs: vec!["create".into()],
            ..PolicyRule::default()
        }]),
    };
    let binding = RoleBinding {
        role_ref: RoleRef {
            api_group: "rbac.authorization.k8s.io".into(),
            kind: "Role".into(),
            name: metadata.name.clone().unwrap_or_default(),
        },
        subjects: Some(vec![Subject {
            kind: "ServiceAccount".into(),
            name: OPERATOR.into(),
            namespace: Some(system.to_owned()),
            ..Subject::default()
        }]),
        metadata,
    };
    (role, binding)
}
