//! W&B as far as the operator asks it before an evaluation: whose key this is, and which entities that person belongs to.

use std::sync::OnceLock;

use anyhow::Result;
use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde_json::json;

/// `api:key-of-amy`, as a client sends it.
const AMY: &str = "Basic YXBpOmtleS1vZi1hbXk=";

static ADDRESS: OnceLock<String> = OnceLock::new();

/// Its address. It knows amy by the key `key-of-amy`, who is in the team `ml`.
pub fn wandb() -> Result<&'static str> {
    if let Some(address) = ADDRESS.get() {
        return Ok(address);
    }
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
    listener.set_nonblocking(true)?;
    let address = format!("http://{}", listener.local_addr()?);
    // It outlives the runtime of whichever test came first.
    std::thread::spawn(move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        runtime.block_on(async move {
            let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
            let _ = axum::serve(listener, Router::new().route("/graphql", post(viewer))).await;
        });
    });
    Ok(ADDRESS.get_or_init(|| address))
}

async fn viewer(headers: HeaderMap) -> (StatusCode, String) {
    if headers.get("authorization").is_none_or(|value| value != AMY) {
        return (StatusCode::UNAUTHORIZED, String::new());
    }
    let viewer = json!({"username": "amy", "entity": "amy", "teams": {"edges": [{"node": {"name": "ml"}}]}});
    (StatusCode::OK, json!({"data": {"viewer": viewer}}).to_string())
}
