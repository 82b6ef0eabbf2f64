//! The CustomResourceDefinitions as they are installed: what the derives give, plus what they cannot say.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::{Value, json};

use super::{EvalJob, Sandbox, TeamSecret, TeamSecretStore};

/// All CustomResourceDefinitions, in the order of their names.
pub fn crds() -> Vec<CustomResourceDefinition> {
    [
        with_default_status(EvalJob::crd(), true),
        with_default_status(Sandbox::crd(), true),
        TeamSecret::crd(),
        with_default_status(TeamSecretStore::crd(), false),
    ]
    .into_iter()
    .map(finish)
    .collect()
}

/// A new object shows a row at once and costs no write: the defaults exist on reading only.
fn with_default_status(crd: CustomResourceDefinition, run: bool) -> CustomResourceDefinition {
    edit(crd, |schema| {
        let condition = json!({
            "type": if run { "Accepted" } else { "Ready" },
            "status": "Unknown",
            "reason": "WaitingForController",
            "message": "Waiting for the Daypass operator",
            "lastTransitionTime": "1970-01-01T00:00:00Z",
        });
        let status = &mut schema["properties"]["status"];
        status["default"] = json!({});
        status["properties"]["conditions"]["default"] = json!([condition]);
        if run {
            status["properties"]["phase"]["default"] = json!("Pending");
            status["properties"]["reason"]["default"] = json!("WaitingForController");
        }
    })
}

/// Kept on uninstall; lists typed for merging; nothing but structure in the schema.
fn finish(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    crd.metadata.annotations.get_or_insert_default().insert("helm.sh/resource-policy".into(), "keep".into());
    crd.metadata.labels.get_or_insert_default().insert("app.kubernetes.io/name".into(), "daypass".into());
    edit(crd, |schema| {
        for (path, list_type, keys) in [
            ("/properties/status/properties/conditions", "map", Some(["type"])),
            ("/properties/spec/properties/env", "map", Some(["name"])),
            ("/properties/spec/properties/secrets", "atomic", None),
            ("/properties/spec/properties/benchmarks", "atomic", None),
            ("/properties/spec/properties/graders", "atomic", None),
            ("/properties/spec/properties/versions", "atomic", None),
            ("/properties/spec/properties/revoked", "map", Some(["name"])),
        ] {
            if let Some(list) = schema.pointer_mut(path) {
                list["x-kubernetes-list-type"] = json!(list_type);
                if let Some(keys) = keys {
                    list["x-kubernetes-list-map-keys"] = json!(keys);
                }
            }
        }
        tidy(schema);
    })
}

fn edit(mut crd: CustomResourceDefinition, change: impl Fn(&mut Value)) -> CustomResourceDefinition {
    for version in &mut crd.spec.versions {
        let Some(validation) = version.schema.as_mut() else { continue };
        let Some(schema) = validation.open_api_v3_schema.as_mut() else { continue };
        // A schema is plain data in both forms: it always converts.
        let Ok(mut value) = serde_json::to_value(&*schema) else { continue };
        change(&mut value);
        if let Ok(changed) = serde_json::from_value(value) {
            *schema = changed;
        }
    }
    crd
}

/// Takes out what Kubernetes does not read (integer formats of Rust) and unwraps the lines of descriptions.
fn tidy(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            if map.get("type").is_some_and(|kind| kind == "integer") {
                map.remove("format");
            }
            // Without it an explicit null is as good as absent; with it, it would be a value of its own.
            map.remove("nullable");
            if let Some(Value::String(text)) = map.get_mut("description") {
                *text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            }
            map.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every text, list and map below `schema` that may grow without end. A map's keys cannot be bounded in a schema.
    fn unbounded(schema: &Value, path: &str, found: &mut Vec<String>) {
        let has = |keyword: &str| !schema[keyword].is_null();
        let bounded = match schema["type"].as_str() {
            Some("string") => has("maxLength") || has("enum") || schema["format"] == "date-time",
            Some("array") => has("maxItems"),
            Some("object") => !has("additionalProperties") || has("maxProperties"),
            Some(_) => true,
            None => has("x-kubernetes-int-or-string") && has("maxLength"),
        };
        if !bounded {
            found.push(path.to_owned());
        }
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            unbounded(field, &format!("{path}.{name}"), found);
        }
        for (part, name) in [("items", "[]"), ("additionalProperties", "{}")] {
            if has(part) {
                unbounded(&schema[part], &format!("{path}{name}"), found);
            }
        }
    }

    #[test]
    fn every_text_list_and_map_is_bounded() {
        let mut found = Vec::new();
        for crd in crds() {
            for version in json!(crd.spec.versions).as_array().unwrap() {
                let fields = &version["schema"]["openAPIV3Schema"]["properties"];
                for part in ["spec", "status"].into_iter().filter(|part| !fields[part].is_null()) {
                    unbounded(&fields[part], &format!("{}.{part}", crd.spec.names.kind), &mut found);
                }
            }
        }
        assert!(found.is_empty(), "without a bound:\n{}", found.join("\n"));
    }
}
