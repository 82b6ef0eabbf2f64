//! One request and what the API server said to it. A body is looked at only when it is a refusal.

use std::time::Duration;

use http::{Method, Request, header};
use kube::Client;
use kube::client::Body;
use serde::Deserialize;

/// Metadata only, wherever the API server would answer with an object.
const METADATA_ONLY: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";
/// Longer refusals are cut: they are shown to people.
const LONGEST_MESSAGE: usize = 400;

/// A request, ready to be sent any number of times.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) method: Method,
    /// Path and query.
    pub(super) path: String,
    pub(super) body: Option<serde_json::Value>,
    /// Added to the headers.
    pub(super) headers: Vec<(&'static str, String)>,
}

impl Call {
    pub(super) fn new(method: Method, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), body: None, headers: Vec::new() }
    }

    pub(super) fn body(mut self, body: serde_json::Value) -> Self {
        self.body = Some(body);
        self
    }

    pub(super) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It was done, or would have been.
    Passed { code: u16 },
    /// It was not, with the API server's words.
    Refused { code: u16, message: String },
    /// There was no answer in time.
    None { why: String },
}

/// The part of a `Status` that matters. Anything else in the body is dropped unread.
#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    message: String,
}

/// Sends a call and reads the answer, both within the deadline.
pub(super) async fn send(client: &Client, call: &Call, deadline: Duration) -> Answer {
    match tokio::time::timeout(deadline, exchange(client, call)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(why)) => Answer::None { why },
        Err(_) => Answer::None { why: format!("no answer within {} s", deadline.as_secs_f32()) },
    }
}

async fn exchange(client: &Client, call: &Call) -> Result<Answer, String> {
    let patch = call.method == Method::PATCH;
    let mut request = Request::builder()
        .method(call.method.clone())
        .uri(&call.path)
        .header(header::ACCEPT, METADATA_ONLY)
        .header(header::CONTENT_TYPE, if patch { "application/merge-patch+json" } else { "application/json" });
    for (name, value) in &call.headers {
        request = request.header(*name, value);
    }
    let body = call.body.as_ref().map(ToString::to_string).unwrap_or_default();
    let request = request.body(Body::from(body.into_bytes())).map_err(|error| format!("no request: {error}"))?;
    let response = client.send(request).await.map_err(|_| "the API server cannot be reached".to_owned())?;
    let code = response.status().as_u16();
    if response.status().is_success() {
        return Ok(Answer::Passed { code });
    }
    let bytes = response.into_body().collect_bytes().await.map_err(|_| "the answer broke off".to_owned())?;
    let message = serde_json::from_slice::<Refusal>(&bytes)
        .ok()
        .filter(|refusal| refusal.kind == "Status")
        .map_or_else(String::new, |refusal| refusal.message.chars().take(LONGEST_MESSAGE).collect());
    Ok(Answer::Refused { code, message })
}
