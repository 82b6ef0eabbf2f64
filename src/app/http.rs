//! Probes and metrics.

use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::sync::watch;

use super::config::Http;
use crate::metrics::Metrics;

#[derive(Clone)]
struct Served {
    guarded: watch::Receiver<bool>,
    metrics: Arc<Metrics>,
}

/// Serves until the process ends.
pub(super) async fn serve(config: Http, guarded: watch::Receiver<bool>, metrics: Arc<Metrics>) -> anyhow::Result<()> {
    let app = Router::new()
        // Alive means that the runtime answers; ready means that work could be done safely.
        .route("/livez", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(show_metrics))
        .with_state(Served { guarded, metrics });
    let listener = tokio::net::TcpListener::bind(config.address)
        .await
        .with_context(|| format!("http.address: listen on {}", config.address))?;
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "serving probes and metrics");
    }
    axum::serve(listener, app).await.context("serve probes and metrics")
}

async fn ready(State(served): State<Served>) -> impl IntoResponse {
    if *served.guarded.borrow() {
        (StatusCode::OK, "ok")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the admission policies are not proven in force; the log names them")
    }
}

async fn show_metrics(State(served): State<Served>) -> impl IntoResponse {
    let kind = [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")];
    match served.metrics.render() {
        Ok(text) => (StatusCode::OK, kind, text),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, kind, String::new()),
    }
}
