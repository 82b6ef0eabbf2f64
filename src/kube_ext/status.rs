//! Writing a status.

use std::fmt::Debug;

use kube::api::{Api, Patch, PatchParams};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{ApiAnswer, CallError, call};

/// Patches an object's status. `optional` are the fields that it may be without: a merge patch takes one away only when
/// it is told to. With a `version` the patch is for that very object: another one under the same name, made anew, must
/// not get what became of this one.
///
/// # Errors
/// No answer came, or none that could be read. A refusal is an answer.
pub async fn patch_status<K>(
    what: &'static str,
    api: &Api<K>,
    name: &str,
    status: &impl Serialize,
    optional: &[&str],
    version: Option<&str>,
) -> Result<Result<K, ApiAnswer>, CallError>
where
    K: Clone + Debug + DeserializeOwned,
{
    let parameters = PatchParams { field_manager: Some("daypass".into()), ..PatchParams::default() };
    call(what, api.patch_status(name, &parameters, &Patch::Merge(body(status, optional, version)))).await
}

fn body(status: &impl Serialize, optional: &[&str], version: Option<&str>) -> Value {
    let mut status = json!(status);
    if let Value::Object(map) = &mut status {
        for field in optional {
            map.entry(*field).or_insert(Value::Null);
        }
    }
    match version {
        Some(version) => json!({"metadata": {"resourceVersion": version}, "status": status}),
        None => json!({"status": status}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_taken_away_and_what_is_there_stays() {
        let status = json!({"phase": "Running", "podName": "p"});
        assert_eq!(
            body(&status, &["podName", "reason"], Some("7")),
            json!({
                "metadata": {"resourceVersion": "7"},
                "status": {"phase": "Running", "podName": "p", "reason": null},
            })
        );
        assert_eq!(body(&status, &[], None), json!({"status": status}));
    }
}
