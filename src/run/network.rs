//! The NetworkPolicy of a run.

use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
    NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::ObjectMeta;

use super::{RUN_LABEL, Run, owner_reference};
use crate::api::{EgressRule, Network};

/// What the run may reach and who may reach it, as an object that goes away with the run's owner.
pub fn network_policy(run: &Run, network: &Network) -> NetworkPolicy {
    let mut types = Vec::new();
    if network.deny_ingress {
        types.push("Ingress".to_owned());
    }
    if network.deny_egress {
        types.push("Egress".to_owned());
    }
    // Without types the API server means `Ingress`, and would shut out everybody where nothing was to be denied.
    let open = types.is_empty();
    if open {
        types.push("Ingress".to_owned());
    }
    NetworkPolicy {
        metadata: ObjectMeta {
            name: Some(run.name.clone()),
            namespace: Some(run.namespace.clone()),
            owner_references: Some(vec![owner_reference(run)]),
            ..ObjectMeta::default()
        },
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(LabelSelector {
                match_labels: Some([(RUN_LABEL.to_owned(), run.name.clone())].into()),
                ..LabelSelector::default()
            }),
            policy_types: Some(types),
            egress: (!network.egress.is_empty()).then(|| network.egress.iter().map(egress_rule).collect()),
            ingress: open.then(|| vec![NetworkPolicyIngressRule::default()]),
        }),
    }
}

fn egress_rule(rule: &EgressRule) -> NetworkPolicyEgressRule {
    let labels = |labels: &std::collections::BTreeMap<String, String>| LabelSelector {
        match_labels: (!labels.is_empty()).then(|| labels.clone()),
        ..LabelSelector::default()
    };
    NetworkPolicyEgressRule {
        to: Some(vec![NetworkPolicyPeer {
            ip_block: rule
                .cidr
                .clone()
                .map(|cidr| IPBlock { cidr, except: (!rule.except.is_empty()).then(|| rule.except.clone()) }),
            namespace_selector: rule.namespace_labels.as_ref().map(labels),
            pod_selector: rule.pod_labels.as_ref().map(labels),
        }]),
        ports: (!rule.ports.is_empty()).then(|| {
            rule.ports
                .iter()
                .map(|port| NetworkPolicyPort {
                    port: Some(IntOrString::Int(port.port)),
                    end_port: port.end_port,
                    protocol: port.protocol.clone(),
                })
                .collect()
        }),
    }
}
