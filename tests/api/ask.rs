//! Requests as they go over the wire, and tables of what must come back.

use anyhow::{Context, Result};
use http::{Method, Request};
use kube::Client;
use kube::client::Body;
use serde_json::Value;

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub code: u16,
    pub body: Value,
}

impl Answer {
    /// The message of a `Status`, else the body's kind.
    pub fn message(&self) -> &str {
        self.body["message"].as_str().or(self.body["kind"].as_str()).unwrap_or_default()
    }
}

/// Sends one request with a JSON body. A PATCH is a merge patch, or a server-side apply where the path names a field
/// manager.
pub async fn ask(client: &Client, method: Method, path: &str, body: Option<&Value>) -> Result<Answer> {
    let kind = match method {
        Method::PATCH if path.contains("fieldManager=") => "application/apply-patch+yaml",
        Method::PATCH => "application/merge-patch+json",
        _ => "application/json",
    };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("accept", "application/json")
        .header("content-type", kind)
        .body(Body::from(body.map(ToString::to_string).unwrap_or_default().into_bytes()))?;
    let response = client.send(request).await.with_context(|| path.to_owned())?;
    let code = response.status().as_u16();
    let bytes = response.into_body().collect_bytes().await?;
    Ok(Answer { code, body: serde_json::from_slice(&bytes).unwrap_or(Value::Null) })
}

/// POST.
pub async fn post(client: &Client, path: &str, body: &Value) -> Result<Answer> {
    ask(client, Method::POST, path, Some(body)).await
}

/// PATCH.
pub async fn patch(client: &Client, path: &str, body: &Value) -> Result<Answer> {
    ask(client, Method::PATCH, path, Some(body)).await
}

/// PUT.
pub async fn put(client: &Client, path: &str, body: &Value) -> Result<Answer> {
    ask(client, Method::PUT, path, Some(body)).await
}

/// DELETE.
pub async fn delete(client: &Client, path: &str, options: Option<&Value>) -> Result<Answer> {
    ask(client, Method::DELETE, path, options).await
}

/// GET.
pub async fn get(client: &Client, path: &str) -> Result<Answer> {
    ask(client, Method::GET, path, None).await
}

/// Collects what went otherwise than a table says, so that one run shows all of it.
#[derive(Default)]
pub struct Verdict {
    wrong: Vec<String>,
    seen: usize,
}

impl Verdict {
    /// The answer must be a refusal by a policy's rule.
    pub fn refused(&mut self, case: &str, answer: &Answer, policy: &str, rule: &str) {
        self.seen += 1;
        let expected = format!("ValidatingAdmissionPolicy '{policy}' with binding '{policy}' denied request: {rule}");
        if answer.code != 403 || !answer.message().contains(&expected) {
            self.wrong.push(format!("{case}: expected 403 {expected:?}, got {} {:?}", answer.code, answer.message()));
        }
    }

    /// The answer must have this status code.
    pub fn code(&mut self, case: &str, answer: &Answer, code: u16) {
        self.seen += 1;
        if answer.code != code {
            self.wrong.push(format!("{case}: expected {code}, got {} {:?}", answer.code, answer.message()));
        }
    }

    /// Fails with everything that went wrong, or when nothing was asked.
    pub fn end(self) {
        assert!(self.seen > 0, "nothing was asked");
        assert!(self.wrong.is_empty(), "{} of {} went wrong:\n{}", self.wrong.len(), self.seen, self.wrong.join("\n"));
    }
}
