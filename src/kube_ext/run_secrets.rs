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
    use std::sync::{Arc, Mutex};

    use http::{Method, Response};
    use kube::client::Body;

    use super::*;

    /// What an API server was sent: method, path with its query, the header `Accept`, and the body.
    type Sent = (Method, String, String, Value);

    /// An API server that has one answer for everything, and what it is sent.
    fn answering(code: u16, answer: Value) -> (Client, Arc<Mutex<Vec<Sent>>>) {
        let sent = Arc::new(Mutex::new(Vec::new()));
        let log = sent.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let (log, answer) = (log.clone(), answer.to_string());
            async move {
                let (parts, body) = request.into_parts();
                let accept = parts.headers[http::header::ACCEPT].to_str().unwrap().to_owned();
                let body = serde_json::from_slice(&body.collect_bytes().await?).unwrap();
                log.lock().unwrap().push((parts.method, parts.uri.to_string(), accept, body));
                Response::builder().status(code).body(Body::from(answer.into_bytes())).map_err(kube::Error::HttpError)
            }
        });
        (Client::new(service, "default"), sent)
    }

    fn status(code: u16, reason: &str, message: &str) -> Value {
        let outcome = if code < 300 { "Success" } else { "Failure" };
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": outcome, "code": code, "reason": reason,
            "message": message,
        })
    }

    #[tokio::test]
    async fn a_creation_asks_for_metadata_and_gives_the_uid() {
        let made = json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": {"uid": "u"}});
        let (client, sent) = answering(201, made);
        let skeleton = json!({"kind": "Secret", "immutable": true});
        let value = SecretValue::new(b"v".to_vec());
        let answer = create_run_secret(&client, "team", &skeleton, &[("A", &value)]).await.unwrap();
        assert_eq!(answer.unwrap(), "u");
        let body = json!({"kind": "Secret", "immutable": true, "data": {"A": "dg=="}});
        let path = "/api/v1/namespaces/team/secrets?fieldManager=daypass";
        assert_eq!(*sent.lock().unwrap(), [(Method::POST, path.into(), METADATA_ONLY.into(), body)]);

        let (client, _) = answering(409, status(409, "AlreadyExists", "secrets \"n\" already exists"));
        let answer = create_run_secret(&client, "team", &skeleton, &[]).await.unwrap();
        assert_eq!(crate::kube_ext::classify(&answer.unwrap_err()), crate::kube_ext::Class::Exists);
    }

    #[tokio::test]
    async fn a_deletion_is_told_only_when_it_is_proven() {
        let object = |kind| json!({"kind": kind, "metadata": {"uid": "u", "finalizers": ["example.com/hold"]}});
        let policy = "denied request: the operator deletes run Secrets only";
        for (uid, code, body, outcome) in [
            (None, 200, status(200, "", ""), Some(Deleted::Gone)),
            (Some("u"), 200, status(200, "", ""), Some(Deleted::Gone)),
            (Some("u"), 200, object("PartialObjectMetadata"), Some(Deleted::Held)),
            (Some("u"), 200, object("Secret"), Some(Deleted::Held)),
            (Some("u"), 202, object("PartialObjectMetadata"), Some(Deleted::Held)),
            (Some("u"), 404, status(404, "NotFound", ""), Some(Deleted::Gone)),
            (Some("u"), 409, status(409, "Conflict", "the UID in the precondition"), Some(Deleted::Replaced)),
            // Without a UID a conflict says nothing of the Secret.
            (None, 409, status(409, "Conflict", ""), None),
            (None, 403, status(403, "Forbidden", policy), Some(Deleted::Foreign)),
            // RBAC's word, or another policy's, proves nothing.
            (None, 403, status(403, "Forbidden", "cannot delete resource \"secrets\""), None),
            (None, 429, status(429, "TooManyRequests", ""), None),
            (None, 500, status(500, "InternalError", ""), None),
            (None, 503, json!("no API server"), None),
        ] {
            let (client, sent) = answering(code, body.clone());
            let answer = delete_run_secret(&client, "team", "daypass-run-a", uid).await;
            assert_eq!(answer.ok(), outcome, "{code} {body}");
            let mut options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"});
            if let Some(uid) = uid {
                options["preconditions"] = json!({"uid": uid});
            }
            let path = "/api/v1/namespaces/team/secrets/daypass-run-a";
            assert_eq!(*sent.lock().unwrap(), [(Method::DELETE, path.into(), METADATA_ONLY.into(), options)]);
        }
    }

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
