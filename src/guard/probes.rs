//! The policies and their rules, word for word as in the chart, and the dry-runs that prove those which bind the operator.

use http::Method;
use kube::Client;
use serde_json::{Value, json};

use super::request::{Answer, Call, send};
use super::{Finding, GuardConfig, mend};

/// The Secret that deletions are tried on. The chart makes it, empty.
pub const PROBE_SECRET: &str = "daypass-probe";
/// What Pods and Secrets that are tried are called: no object can derive this name.
const PROBE_RUN: &str = "daypass-run-probe";

/// A policy of the chart; its binding has the same name.
#[derive(Debug)]
pub struct Policy {
    /// The name.
    pub name: &'static str,
    /// What the message of each validation begins with, in order.
    pub rules: &'static [&'static str],
}

macro_rules! rules {
    ($($name:ident = $message:literal;)*) => { $(const $name: &str = $message;)* };
}

rules! {
    SECRET_UNCHANGED = "the operator does not change Secrets";
    SECRET_BY_NAME = "the operator deletes Secrets by name only";
    SECRET_BACKGROUND = "the operator deletes Secrets in the background only";
    SECRET_OWN_KIND = "the operator deletes run Secrets only";
    SECRET_TYPE = "the operator makes Secrets of type daypass.dev/run only, named daypass-run-...";
    SECRET_IMMUTABLE = "a run Secret is immutable";
    SECRET_OWNER = "a run Secret has one owner: the Sandbox or EvalJob that controls it";
    SECRET_FINALIZER = "a run Secret has no finalizer";
    SECRET_ANNOTATIONS = "a run Secret has annotations of daypass.dev only";
    SECRET_KEYS = "a run Secret has at most 24 keys";
    POD_UNCHANGED = "the operator changes a run's Pod only to lift its own scheduling gate";
    POD_DELETED = "the operator deletes the Pods of runs only";
    POD_OWNER = "the operator makes Pods named daypass-run-... only, owned by the Sandbox or EvalJob that controls them";
    POD_VARIABLES = "a run's Pod takes variables from its own run Secret only";
    POD_VOLUMES = "volumes of a run's Pod: emptyDir, persistentVolumeClaim, downwardAPI and its own run Secret";
    POD_TOKEN = "a run's Pod has no service account token but of the chart's policies.allowedTokenAudiences";
    POD_HOST = "a run's Pod has no access to its host, no fixed node and no privilege";
    POD_RESTART = "a run's Pod never restarts";
    USE = "spec.secrets[";
    USE_NAMED = "a team secret that the job names";
}

const SECRETS: &str = "daypass-operator-secrets";
const PODS: &str = "daypass-operator-pods";

/// One rule for each of 24 secrets, after those about their number and about autoBind.
const USE_EVALJOB: [&str; 26] = {
    let mut rules = [USE_NAMED; 26];
    rules[0] = "an EvalJob names at most 24 different team secrets";
    rules[1] = "spec.autoBind: you may not use all secrets of ";
    rules
};

/// All policies, in the order in which they are reported: the operator's own box first.
pub const POLICIES: &[Policy] = &[
    Policy {
        name: SECRETS,
        rules: &[
            SECRET_UNCHANGED,
            SECRET_BY_NAME,
            SECRET_BACKGROUND,
            SECRET_OWN_KIND,
            SECRET_TYPE,
            SECRET_IMMUTABLE,
            SECRET_OWNER,
            SECRET_FINALIZER,
            SECRET_ANNOTATIONS,
            SECRET_KEYS,
        ],
    },
    Policy {
        name: PODS,
        rules: &[POD_UNCHANGED, POD_DELETED, POD_OWNER, POD_VARIABLES, POD_TOKEN, POD_VOLUMES, POD_HOST, POD_RESTART],
    },
    Policy {
        name: "daypass-operator-tokens",
        rules: &[
            "the operator asks for tokens of exactly one audience",
            "the operator asks for no token that the API server takes",
            "the operator asks for tokens of at most an hour",
        ],
    },
    Policy {
        name: "daypass-reserve-run-secrets",
        rules: &["Secrets of type daypass.dev/run and names that begin with daypass-run- are Daypass's"],
    },
    Policy {
        name: "daypass-keep-run-secrets-mortal",
        rules: &["no finalizer may be added to a run Secret", "the owner of a run Secret may not be changed"],
    },
    Policy { name: "daypass-reserve-run-pods", rules: &["Pods with names that begin with daypass-run- are Daypass's"] },
    Policy {
        name: "daypass-pods-naming-run-secrets",
        rules: &[
            "a run Secret is for the variables of its own run only",
            "a run Secret is not for ephemeral containers",
            "a run Secret is for the volumes of its own run only",
            "a run Secret is not for image pulls",
        ],
    },
    Policy {
        name: "daypass-run-pods-fixed",
        rules: &[
            "the image of a run's Pod may not be changed",
            "the annotations daypass.dev/... of a run's Pod may not be changed",
            "the labels daypass.dev/... of a run's Pod may not be changed",
            "the owner of a run's Pod may not be changed",
        ],
    },
    Policy {
        name: "daypass-run-pods-bound",
        rules: &["a binding may not change the annotations and labels daypass.dev/... of a run's Pod"],
    },
    Policy { name: "daypass-exec-denied", rules: &["this namespace has the label daypass.dev/exec=deny"] },
    Policy {
        name: "daypass-no-orphans",
        rules: &[
            "a run may not be deleted with orphaned dependents",
            "the finalizer orphan is refused: the run's Secret would stay behind",
        ],
    },
    Policy {
        name: "daypass-submitted-by",
        rules: &[
            "the annotation daypass.dev/submitted-by must be your own user name",
            "the annotation daypass.dev/submitted-by is set at creation and does not change",
        ],
    },
    Policy {
        name: "daypass-secret-authors",
        rules: &[
            "spec.versions[].by of a new version must be your own user name",
            "spec.versions[].by of a version that stands does not change",
        ],
    },
    Policy {
        name: "daypass-use-sandbox",
        rules: &["a Sandbox names at most 12 team secrets", USE, USE, USE, USE, USE, USE, USE, USE, USE, USE, USE, USE],
    },
    Policy { name: "daypass-use-evaljob", rules: &USE_EVALJOB },
];

/// A dry-run that must be refused by one rule.
#[derive(Debug)]
pub(super) struct Probe {
    pub(super) policy: &'static str,
    pub(super) rule: &'static str,
    call: Call,
}

/// Every probe. Each breaks its own rule and none before it; Pods keep to restricted Pod Security, which would answer
/// first where the namespace enforces it. Rules about verbs that RBAC does not give are not here: they are read.
pub(super) fn probes(config: &GuardConfig) -> Vec<Probe> {
    let mut probes = Vec::new();
    let core = format!("/api/v1/namespaces/{}", config.namespace);
    let mut add = |policy, rule, call| probes.push(Probe { policy, rule, call });

    for propagation in ["Foreground", "Orphan"] {
        add(SECRETS, SECRET_BACKGROUND, delete_probe_secret(config, propagation));
    }
    add(SECRETS, SECRET_OWN_KIND, delete_probe_secret(config, "Background"));
    let mut create = |rule, change: &dyn Fn(&mut Value)| {
        let mut secret = run_secret();
        change(&mut secret);
        add(SECRETS, rule, Call::new(Method::POST, format!("{core}/secrets?dryRun=All")).body(secret));
    };
    create(SECRET_TYPE, &|secret| secret["type"] = json!("Opaque"));
    create(SECRET_TYPE, &|secret| secret["metadata"]["name"] = json!(PROBE_SECRET));
    create(SECRET_IMMUTABLE, &|secret| secret["immutable"] = json!(false));
    create(SECRET_OWNER, &|secret| secret["metadata"]["ownerReferences"] = json!([]));
    create(SECRET_FINALIZER, &|secret| secret["metadata"]["finalizers"] = json!(["daypass.dev/probe"]));
    create(SECRET_ANNOTATIONS, &|secret| secret["metadata"]["annotations"] = json!({"example.com/probe": ""}));
    create(SECRET_KEYS, &|secret| {
        secret["data"] = (0..25).map(|key| (format!("K{key}"), json!(""))).collect::<serde_json::Map<_, _>>().into();
    });

    if let Some(pod) = &config.pod_name {
        add(PODS, POD_DELETED, Call::new(Method::DELETE, format!("{core}/pods/{pod}?dryRun=All")));
        let change = json!({"metadata": {"labels": {"daypass.dev/probe": "probe"}}});
        add(PODS, POD_UNCHANGED, Call::new(Method::PATCH, format!("{core}/pods/{pod}?dryRun=All")).body(change));
    }
    let mut create = |rule, change: &dyn Fn(&mut Value)| {
        let mut pod = run_pod(&config.service_account);
        change(&mut pod);
        add(PODS, rule, Call::new(Method::POST, format!("{core}/pods?dryRun=All")).body(pod));
    };
    create(POD_OWNER, &|pod| pod["metadata"]["name"] = json!("daypass-probe"));
    create(POD_OWNER, &|pod| pod["metadata"]["ownerReferences"] = json!([]));
    create(POD_VARIABLES, &|pod| pod["spec"]["containers"][0]["env"] = foreign_variable());
    create(POD_VARIABLES, &|pod| {
        pod["spec"]["containers"][0]["envFrom"] = json!([{"secretRef": {"name": PROBE_SECRET}}]);
    });
    create(POD_VOLUMES, &|pod| pod["spec"]["volumes"] = json!([{"name": "v", "secret": {"secretName": PROBE_SECRET}}]));
    create(POD_VOLUMES, &|pod| {
        pod["spec"]["volumes"] = json!([{"name": "v", "projected": {"sources": [{"secret": {"name": PROBE_SECRET}}]}}]);
    });
    create(POD_TOKEN, &|pod| pod["spec"]["automountServiceAccountToken"] = json!(true));
    create(POD_TOKEN, &|pod| {
        pod["spec"]["volumes"] =
            json!([{"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}]);
    });
    create(POD_HOST, &|pod| pod["spec"]["nodeName"] = json!("probe"));
    create(POD_RESTART, &|pod| pod["spec"]["restartPolicy"] = json!("Always"));
    probes
}

/// Sends a probe. None when the rule that it is for refused it.
pub(super) async fn attempt(client: &Client, config: &GuardConfig, probe: Probe) -> Option<Finding> {
    let answer = send(client, &probe.call, config.deadline).await;
    if proves(&answer, probe.policy, probe.rule) {
        return None;
    }
    let deletion = probe.call.path.contains(&format!("/secrets/{PROBE_SECRET}"));
    let (policy, rule, saw) = match &answer {
        Answer::Refused { code: 404, .. } if deletion => {
            (PROBE_SECRET, None, "the Secret that deletions are tried on is missing".to_owned())
        }
        Answer::Refused { message, .. } => (
            probe.policy,
            Some(probe.rule),
            format!("something else refused the probe first, which proves nothing: {message}"),
        ),
        Answer::Passed { .. } => {
            (probe.policy, Some(probe.rule), "the API server does not refuse what breaks it".to_owned())
        }
        Answer::None { why } => (probe.policy, Some(probe.rule), why.clone()),
    };
    let answered = !matches!(answer, Answer::None { .. });
    Some(Finding { policy: policy.to_owned(), rule, saw, mend: mend(config), answered })
}

/// Whether an answer is the refusal of this very rule. RBAC's, another policy's or another rule's are not.
fn proves(answer: &Answer, policy: &str, rule: &str) -> bool {
    match answer {
        Answer::Refused { code: 403, message } => message
            .contains(&format!("ValidatingAdmissionPolicy '{policy}' with binding '{policy}' denied request: {rule}")),
        _ => false,
    }
}

/// A dry-run deletion of the probe Secret.
pub(super) fn delete_probe_secret(config: &GuardConfig, propagation: &str) -> Call {
    Call::new(
        Method::DELETE,
        format!(
            "/api/v1/namespaces/{}/secrets/{PROBE_SECRET}?dryRun=All&propagationPolicy={propagation}",
            config.namespace
        ),
    )
}

/// A variable from a Secret that is no run's.
pub(super) fn foreign_variable() -> Value {
    json!([{"name": "V", "valueFrom": {"secretKeyRef": {"name": PROBE_SECRET, "key": "k", "optional": true}}}])
}

/// An owner as a run's objects have it. Nothing is created, so it need not exist.
fn owner() -> Value {
    json!([{
        "apiVersion": crate::api::API_VERSION, "kind": "Sandbox", "name": "probe",
        "uid": "00000000-0000-0000-0000-000000000000", "controller": true, "blockOwnerDeletion": true,
    }])
}

/// A run Secret that breaks no rule.
fn run_secret() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": crate::api::RUN_SECRET_TYPE, "immutable": true,
        "metadata": {"name": PROBE_RUN, "ownerReferences": owner()},
    })
}

/// A run's Pod that breaks no rule, nor restricted Pod Security.
pub(super) fn run_pod(service_account: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": PROBE_RUN, "ownerReferences": owner()},
        "spec": {
            "serviceAccountName": service_account, "automountServiceAccountToken": false, "restartPolicy": "Never",
            "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "main", "image": "probe",
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            }],
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_rule_itself_proves_the_rule() {
        let refused = |code, message: &str| Answer::Refused { code, message: message.to_owned() };
        let own = format!(
            "secrets \"x\" is forbidden: ValidatingAdmissionPolicy '{SECRETS}' with binding '{SECRETS}' denied request: {SECRET_BACKGROUND}"
        );
        assert!(proves(&refused(403, &own), SECRETS, SECRET_BACKGROUND));
        for answer in [
            refused(422, &own),
            refused(403, &own.replace(SECRET_BACKGROUND, SECRET_OWN_KIND)),
            refused(403, &own.replace(SECRETS, PODS)),
            refused(403, "secrets \"x\" is forbidden: User \"u\" cannot delete resource \"secrets\""),
            Answer::Passed { code: 200 },
            Answer::None { why: String::new() },
        ] {
            assert!(!proves(&answer, SECRETS, SECRET_BACKGROUND), "{answer:?}");
        }
    }

    #[test]
    fn every_probe_is_a_dry_run_for_a_rule_of_its_policy() {
        let mut config = GuardConfig::new("system");
        config.pod_name = Some("daypass-operator-0".to_owned());
        for probe in probes(&config) {
            assert!(probe.call.path.contains("dryRun=All"), "{probe:?}");
            let policy = POLICIES.iter().find(|policy| policy.name == probe.policy).unwrap();
            assert!(policy.rules.contains(&probe.rule), "{probe:?}");
        }
    }
}
