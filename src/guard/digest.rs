//! What a policy does, as one hash. The chart computes the same (`daypass.policyDigest`) and writes it beside the policy.

use std::fmt::Write as _;

use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicySpec;
use sha2::{Digest, Sha256};

/// SHA-256, in hexadecimal, over the lines that decide what a policy does, in the chart's order.
pub fn digest(spec: &ValidatingAdmissionPolicySpec) -> String {
    let mut lines = Vec::new();
    if let Some(matches) = &spec.match_constraints {
        let list = |items: &Option<Vec<String>>| items.as_deref().unwrap_or_default().join(",");
        for rule in matches.resource_rules.as_deref().unwrap_or_default() {
            lines.push(format!(
                "rule {} {} {} {}",
                list(&rule.api_groups),
                list(&rule.api_versions),
                list(&rule.resources),
                list(&rule.operations)
            ));
        }
        let labels = matches.namespace_selector.as_ref().and_then(|selector| selector.match_labels.as_ref());
        for (key, value) in labels.into_iter().flatten() {
            lines.push(format!("namespaces {key}={value}"));
        }
    }
    for condition in spec.match_conditions.as_deref().unwrap_or_default() {
        lines.push(format!("condition {} {}", condition.name, condition.expression));
    }
    for variable in spec.variables.as_deref().unwrap_or_default() {
        lines.push(format!("variable {} {}", variable.name, variable.expression));
    }
    for validation in spec.validations.as_deref().unwrap_or_default() {
        lines.push(format!(
            "validation {}|{}|{}",
            validation.expression,
            validation.message.as_deref().unwrap_or_default(),
            validation.message_expression.as_deref().unwrap_or_default()
        ));
    }
    Sha256::digest(lines.join("\n")).iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
