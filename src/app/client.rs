//! The operator's client, which counts what it asks.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use http::{Method, Request, Response};
use kube::Client;
use kube::client::{Body, ClientBuilder};
use tower::{BoxError, Layer, Service};

use crate::metrics::Metrics;

/// Every resource that the operator asks for. Others would be labels that are not static.
const RESOURCES: [&str; 12] = [
    "secrets",
    "pods",
    "networkpolicies",
    "sandboxes",
    "evaljobs",
    "teamsecrets",
    "teamsecretstores",
    "subjectaccessreviews",
    "events",
    "leases",
    "configmaps",
    "validatingadmissionpolicies",
];

/// A client for the API server that the process is configured for.
///
/// # Errors
/// None is configured, or its configuration cannot be read.
pub(super) async fn client(metrics: &Arc<Metrics>) -> Result<Client, kube::Error> {
    let config = kube::Config::infer().await.map_err(kube::Error::InferConfig)?;
    let builder = ClientBuilder::try_from(config)?;
    Ok(builder.with_layer(&Counted(metrics.clone())).build())
}

/// Counts requests by verb, resource and code.
struct Counted(Arc<Metrics>);

impl<S> Layer<S> for Counted {
    type Service = Counting<S>;

    fn layer(&self, inner: S) -> Counting<S> {
        Counting { inner, metrics: self.0.clone() }
    }
}

#[derive(Clone)]
struct Counting<S> {
    inner: S,
    metrics: Arc<Metrics>,
}

impl<S, B> Service<Request<Body>> for Counting<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = Response<B>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<B>, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (verb, resource) = label(request.method(), request.uri().path(), request.uri().query().unwrap_or_default());
        let metrics = self.metrics.clone();
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            metrics.requested(verb, resource, answer.as_ref().map_or(0, |answer| answer.status().as_u16()));
            answer
        })
    }
}

fn label(method: &Method, path: &str, query: &str) -> (&'static str, &'static str) {
    let segments: Vec<&str> = path.split('/').collect();
    let named = segments.iter().enumerate().find_map(|(index, segment)| {
        RESOURCES.iter().find(|resource| *resource == segment).map(|resource| (index, *resource))
    });
    let whole = named.is_some_and(|(index, _)| index + 1 == segments.len());
    let verb = match *method {
        Method::GET if query.contains("watch=") => "watch",
        Method::GET if whole => "list",
        Method::GET => "get",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "other",
    };
    (verb, named.map_or("other", |(_, resource)| resource))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_labelled_without_names() {
        for (method, path, query, expected) in [
            (Method::GET, "/api/v1/pods", "watch=true&x", ("watch", "pods")),
            (Method::GET, "/api/v1/pods", "limit=5", ("list", "pods")),
            (Method::GET, "/api/v1/namespaces/a/pods/daypass-run-x", "", ("get", "pods")),
            (Method::POST, "/api/v1/namespaces/a/secrets", "", ("create", "secrets")),
            (Method::PATCH, "/apis/daypass.dev/v1alpha1/namespaces/a/sandboxes/x/status", "", ("patch", "sandboxes")),
            (Method::GET, "/version", "", ("get", "other")),
        ] {
            assert_eq!(label(&method, path, query), expected, "{path}");
        }
    }
}
