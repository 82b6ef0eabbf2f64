//! Reading a policy and its binding by name, and comparing them with what the chart wrote.

use std::fmt::Debug;

use k8s_openapi::api::admissionregistration::v1::{
    MatchResources, ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use kube::{Api, Client};
use serde::de::DeserializeOwned;

use super::probes::Policy;
use super::{Finding, GuardConfig, digest, mend};

/// The annotation with the chart's own digest.
const DIGEST: &str = "daypass.dev/digest";

/// None when policy and binding are as the chart wrote them.
pub(super) async fn check(client: &Client, config: &GuardConfig, policy: &Policy) -> Option<Finding> {
    let wrong = match get::<ValidatingAdmissionPolicy>(client, config, policy.name).await {
        Err(trouble) => Err(trouble),
        Ok(None) => Ok(Some("the policy is missing".to_owned())),
        Ok(Some(found)) => match wrong_policy(&found, policy) {
            Some(wrong) => Ok(Some(wrong)),
            None => match get::<ValidatingAdmissionPolicyBinding>(client, config, policy.name).await {
                Err(trouble) => Err(trouble),
                Ok(None) => Ok(Some("the policy's binding is missing".to_owned())),
                Ok(Some(found)) => Ok(wrong_binding(&found, policy)),
            },
        },
    };
    let (saw, answered) = match wrong {
        Ok(None) => return None,
        Ok(Some(wrong)) => (wrong, true),
        Err(trouble) => (trouble.saw, trouble.answered),
    };
    Some(Finding { policy: policy.name.to_owned(), rule: None, saw, mend: mend(config), answered })
}

/// Why an object could not be read.
struct Trouble {
    saw: String,
    answered: bool,
}

async fn get<K>(client: &Client, config: &GuardConfig, name: &str) -> Result<Option<K>, Trouble>
where
    K: kube::Resource<Scope = kube::core::ClusterResourceScope> + Clone + DeserializeOwned + Debug,
    K: k8s_openapi::Resource,
    <K as kube::Resource>::DynamicType: Default,
{
    let api = Api::<K>::all(client.clone());
    match tokio::time::timeout(config.deadline, api.get_opt(name)).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(kube::Error::Api(status))) => {
            Err(Trouble { saw: format!("it cannot be read: {}", status.message), answered: true })
        }
        Ok(Err(_)) => Err(Trouble { saw: "the API server cannot be reached".to_owned(), answered: false }),
        Err(_) => {
            Err(Trouble { saw: format!("no answer within {} s", config.deadline.as_secs_f32()), answered: false })
        }
    }
}

/// What is wrong with a policy, if anything is.
fn wrong_policy(found: &ValidatingAdmissionPolicy, policy: &Policy) -> Option<String> {
    let Some(spec) = &found.spec else { return Some("the policy is empty".to_owned()) };
    if spec.failure_policy.as_deref() != Some("Fail") {
        return Some("its failurePolicy is not Fail".to_owned());
    }
    if spec.param_kind.is_some() || spec.match_constraints.as_ref().is_none_or(narrowed) {
        return Some("it was narrowed".to_owned());
    }
    let messages: Vec<_> = spec
        .validations
        .as_deref()
        .unwrap_or_default()
        .iter()
        .map(|validation| validation.message.as_deref().unwrap_or_default())
        .collect();
    if messages.len() != policy.rules.len()
        || !policy.rules.iter().zip(&messages).all(|(rule, message)| message.starts_with(rule))
    {
        return Some(
            "its rules are not those that this operator knows: chart and operator are of different versions".to_owned(),
        );
    }
    let written = found.metadata.annotations.as_ref().and_then(|annotations| annotations.get(DIGEST));
    if written != Some(&digest(spec)) {
        return Some("it was changed by hand".to_owned());
    }
    None
}

/// What is wrong with a binding, if anything is.
fn wrong_binding(found: &ValidatingAdmissionPolicyBinding, policy: &Policy) -> Option<String> {
    let Some(spec) = &found.spec else { return Some("its binding is empty".to_owned()) };
    if spec.policy_name.as_deref() != Some(policy.name) {
        return Some("its binding binds another policy".to_owned());
    }
    if !spec.validation_actions.as_deref().unwrap_or_default().iter().any(|action| action == "Deny") {
        return Some("its binding does not deny".to_owned());
    }
    if spec.param_ref.is_some() || spec.match_resources.as_ref().is_some_and(narrows_binding) {
        return Some("its binding was narrowed".to_owned());
    }
    None
}

/// Whether a policy matches less than its resource rules say, but for the namespaces' labels, which the digest covers.
fn narrowed(matches: &MatchResources) -> bool {
    let expressions = |selector: &Option<_>| -> bool {
        selector.as_ref().is_some_and(|selector: &k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector| {
            selector.match_expressions.as_deref().is_some_and(|list| !list.is_empty())
        })
    };
    let labels = matches.object_selector.as_ref().and_then(|selector| selector.match_labels.as_ref());
    expressions(&matches.namespace_selector)
        || expressions(&matches.object_selector)
        || labels.is_some_and(|labels| !labels.is_empty())
        || matches.exclude_resource_rules.as_deref().is_some_and(|rules| !rules.is_empty())
        || matches.match_policy.as_deref().is_some_and(|policy| policy != "Equivalent")
        || matches.resource_rules.as_deref().unwrap_or_default().iter().any(|rule| {
            rule.resource_names.as_deref().is_some_and(|names| !names.is_empty())
                || rule.scope.as_deref().is_some_and(|scope| scope != "*")
        })
}

/// The chart's bindings match all that their policy does.
fn narrows_binding(matches: &MatchResources) -> bool {
    let labels = matches.namespace_selector.as_ref().and_then(|selector| selector.match_labels.as_ref());
    narrowed(matches)
        || labels.is_some_and(|labels| !labels.is_empty())
        || matches.resource_rules.as_deref().is_some_and(|rules| !rules.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::probes::POLICIES;
    use serde_json::{Value, json};

    fn policy() -> &'static Policy {
        POLICIES.iter().find(|policy| policy.name == "daypass-reserve-run-pods").unwrap()
    }

    /// A policy as the chart writes it, after a change.
    fn checked(change: impl FnOnce(&mut Value)) -> Option<String> {
        let mut object = json!({
            "metadata": {"name": policy().name},
            "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": {
                    "matchPolicy": "Equivalent",
                    "namespaceSelector": {}, "objectSelector": {},
                    "resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"], "scope": "*"}],
                },
                "matchConditions": [{"name": "run", "expression": "true"}],
                "validations": [{"expression": "false", "message": policy().rules[0]}],
            },
        });
        let untouched: ValidatingAdmissionPolicy = serde_json::from_value(object.clone()).unwrap();
        object["metadata"]["annotations"] = json!({DIGEST: digest(&untouched.spec.unwrap())});
        change(&mut object);
        wrong_policy(&serde_json::from_value(object).unwrap(), policy())
    }

    #[test]
    fn a_policy_as_written_passes_and_every_change_shows() {
        type Change = fn(&mut Value);
        assert_eq!(checked(|_| ()), None);
        let cases: [(&str, Change); 11] = [
            ("failurePolicy", |o| o["spec"]["failurePolicy"] = json!("Ignore")),
            ("narrowed", |o| o["spec"]["paramKind"] = json!({"apiVersion": "v1", "kind": "ConfigMap"})),
            ("narrowed", |o| o["spec"]["matchConstraints"]["objectSelector"] = json!({"matchLabels": {"a": "b"}})),
            ("narrowed", |o| {
                o["spec"]["matchConstraints"]["namespaceSelector"] =
                    json!({"matchExpressions": [{"key": "a", "operator": "Exists"}]});
            }),
            ("narrowed", |o| {
                o["spec"]["matchConstraints"]["excludeResourceRules"] = json!([{"resources": ["pods"]}]);
            }),
            ("narrowed", |o| o["spec"]["matchConstraints"]["resourceRules"][0]["resourceNames"] = json!(["x"])),
            ("by hand", |o| o["spec"]["matchConstraints"]["namespaceSelector"] = json!({"matchLabels": {"a": "b"}})),
            ("by hand", |o| o["spec"]["matchConditions"][0]["expression"] = json!("1 == 2")),
            ("by hand", |o| o["spec"]["validations"][0]["expression"] = json!("true")),
            ("by hand", |o| o["spec"]["matchConstraints"]["resourceRules"][0]["operations"] = json!(["UPDATE"])),
            ("versions", |o| o["spec"]["validations"][0]["message"] = json!("no")),
        ];
        for (expected, change) in cases {
            let wrong = checked(change);
            assert!(wrong.as_deref().is_some_and(|wrong| wrong.contains(expected)), "{expected}: {wrong:?}");
        }
    }

    #[test]
    fn a_binding_must_deny_everything_that_its_policy_matches() {
        let binding = |spec: Value| {
            wrong_binding(&serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap(), policy())
        };
        let name = policy().name;
        assert_eq!(binding(json!({"policyName": name, "validationActions": ["Deny", "Audit"]})), None);
        assert_eq!(
            binding(
                json!({"policyName": name, "validationActions": ["Deny"], "matchResources": {"matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {}}})
            ),
            None
        );
        for (expected, spec) in [
            ("another", json!({"policyName": "x", "validationActions": ["Deny"]})),
            ("deny", json!({"policyName": name, "validationActions": ["Warn", "Audit"]})),
            ("narrowed", json!({"policyName": name, "validationActions": ["Deny"], "paramRef": {"name": "x"}})),
            (
                "narrowed",
                json!({"policyName": name, "validationActions": ["Deny"], "matchResources": {"namespaceSelector": {"matchLabels": {"a": "b"}}}}),
            ),
            (
                "narrowed",
                json!({"policyName": name, "validationActions": ["Deny"], "matchResources": {"resourceRules": [{"apiGroups": ["x"]}]}}),
            ),
        ] {
            let wrong = binding(spec);
            assert!(wrong.as_deref().is_some_and(|wrong| wrong.contains(expected)), "{expected}: {wrong:?}");
        }
    }
}
