//! The only two calls on run Secrets: create and delete. Neither can bring a value back.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Request;
use kube::Client;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{ApiAnswer, CallError, call};
use crate::secret::SecretValue;

/// Asks for nothing but metadata in the answer.
const METADATA_ONLY: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

/// Makes a run Secret: `skeleton` is the object without its data. Gives its UID.
pub async fn create_run_secret(
    client: &Client,
    namespace: &str,
    skeleton: &Value,
    values: &[(&str, &SecretValue)],
) -> Result<Result<String, ApiAnswer>, CallError> {
    let what = "create the run Secret";
    let body = body(skeleton, values);
    let request = Request::post(format!("/api/v1/namespaces/{namespace}/secrets?fieldManager=daypass"))
        .header(http::header::CONTENT_TYPE, "application/json")
        .header(http::header::ACCEPT, METADATA_ONLY)
        .body(body)
        .map_err(|_| CallError::Transport { what })?;
    let answer = call(what, client.request::<Value>(request)).await?;
    Ok(answer.map(|object| object["metadata"]["uid"].as_str().unwrap_or_default().to_owned()))
}

/// The object as JSON. Written by hand so that the values pass through as few buffers as can be, each wiped.
fn body(skeleton: &Value, values: &[(&str, &SecretValue)]) -> Vec<u8> {
    let head = skeleton.to_string();
    let room = values.iter().map(|(key, value)| key.len() + value.expose().len() * 4 / 3 + 16).sum::<usize>();
    let mut text = Vec::with_capacity(head.len() + room + 16);
    text.extend_from_slice(head.trim_end_matches('}').as_bytes());
    // The skeleton's last field is a plain one, so its object ends with exactly one brace.
    debug_assert!(head.ends_with('}') && !head.ends_with("}}"));
    text.extend_from_slice(b",\"data\":{");
    for (index, (key, value)) in values.iter().enumerate() {
        if index > 0 {
            text.push(b',');
        }
        text.extend_from_slice(json!(key).to_string().as_bytes());
        text.extend_from_slice(b":\"");
        let encoded = Zeroizing::new(STANDARD.encode(value.expose()));
        text.extend_from_slice(encoded.as_bytes());
        text.push(b'"');
    }
    text.extend_from_slice(b"}}");
    text
}

/// What came of a deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deleted {
    /// Proven: it is gone, or was not there.
    Gone,
    /// The API server holds it (a finalizer): it can still be read.
    Held,
    /// A policy does not let it go: it is no run Secret, so it is not ours.
    Foreign,
    /// Another object stands under the name now; the one that was meant is gone.
    Replaced,
}

/// Deletes a run Secret in the background and says what is proven. `uid` where it is known.
pub async fn delete_run_secret(
    client: &Client,
    namespace: &str,
    name: &str,
    uid: Option<&str>,
) -> Result<Deleted, CallError> {
    let what = "delete the run Secret";
    let mut options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"});
    if let Some(uid) = uid {
        options["preconditions"] = json!({"uid": uid});
    }
    let request = Request::delete(format!("/api/v1/namespaces/{namespace}/secrets/{name}"))
        .header(http::header::CONTENT_TYPE, "application/json")
        .header(http::header::ACCEPT, METADATA_ONLY)
        .body(options.to_string().into_bytes())
        .map_err(|_| CallError::Transport { what })?;
    match call(what, client.request::<Value>(request)).await? {
        // Only a Status says that the object is gone; the object itself says that something holds it.
        Ok(answer) if answer["kind"] == "Status" => Ok(Deleted::Gone),
        Ok(_) => Ok(Deleted::Held),
        Err(answer) if answer.code == 404 => Ok(Deleted::Gone),
        Err(answer) if answer.code == 409 && uid.is_some() => Ok(Deleted::Replaced),
        Err(answer) if answer.code == 403 && answer.message.contains("run Secrets only") => Ok(Deleted::Foreign),
        Err(answer) => Err(CallError::Api { what, code: answer.code, reason: answer.reason }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_is_the_skeleton_with_its_data() {
        let skeleton =
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "n"}, "type": "t", "immutable": true});
        let value = SecretValue::new(b"a\"\n\xff".to_vec());
        let body = body(&skeleton, &[("A", &value), ("B", &value)]);
        let read: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(read["data"], json!({"A": "YSIK/w==", "B": "YSIK/w=="}));
        assert_eq!(read["metadata"], skeleton["metadata"]);
        assert_eq!(read["immutable"], true);
    }
}
