//! The NetworkPolicy of a run.

use serde_json::{Value, json};

use super::*;
use crate::api::Network;
use crate::run::{RUN_LABEL, network_policy};

fn spec_of(network: Value) -> Value {
    let network: Network = serde_json::from_value(network).unwrap();
    serde_json::to_value(network_policy(&run(), &network)).unwrap()["spec"].clone()
}

#[test]
fn it_denies_what_was_asked_and_nothing_else() {
    let rows = [
        (json!({"denyIngress": true}), json!({"policyTypes": ["Ingress"]})),
        (json!({"denyEgress": true}), json!({"policyTypes": ["Egress"]})),
        (json!({"denyIngress": true, "denyEgress": true}), json!({"policyTypes": ["Ingress", "Egress"]})),
        // An empty list of types would be read as `Ingress`, without a rule: deny all.
        (json!({}), json!({"policyTypes": ["Ingress"], "ingress": [{}]})),
        (
            json!({"denyEgress": true, "egress": [
                {"cidr": "203.0.113.0/24", "except": ["203.0.113.7/32"], "ports": [{"port": 443}]},
                {"namespaceLabels": {}, "podLabels": {"k8s-app": "kube-dns"}, "ports": [{"port": 53, "protocol": "UDP"}]},
                {"podLabels": {"app": "proxy"}, "ports": [{"port": 8000, "endPort": 8080}]},
                {"namespaceLabels": {"team": "a"}},
            ]}),
            json!({"policyTypes": ["Egress"], "egress": [
                {
                    "to": [{"ipBlock": {"cidr": "203.0.113.0/24", "except": ["203.0.113.7/32"]}}],
                    "ports": [{"port": 443}],
                },
                {
                    "to": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}],
                    "ports": [{"port": 53, "protocol": "UDP"}],
                },
                {
                    "to": [{"podSelector": {"matchLabels": {"app": "proxy"}}}],
                    "ports": [{"port": 8000, "endPort": 8080}],
                },
                {"to": [{"namespaceSelector": {"matchLabels": {"team": "a"}}}]},
            ]}),
        ),
    ];
    for (asked, mut made) in rows {
        made["podSelector"] = json!({"matchLabels": {RUN_LABEL: run().name}});
        assert_eq!(spec_of(asked.clone()), made, "{asked}");
    }
}

#[test]
fn it_belongs_to_the_run() {
    let metadata = network_policy(&run(), &Network::default()).metadata;
    assert_eq!(metadata.name, Some(run().name));
    assert_eq!(metadata.namespace, Some(run().namespace));
    let owners = metadata.owner_references.unwrap();
    assert_eq!(owners.len(), 1);
    assert_eq!((owners[0].uid.as_str(), owners[0].controller), ("uid-1", Some(true)));
}
