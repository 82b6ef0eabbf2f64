//! EvalJobs: what is refused, who may submit one, and how one lives.

mod catalog;
mod commands;
mod life;
mod refused;
mod submitters;

use serde_json::{Value, json};

/// A job that can be, after a change.
fn spec(change: impl FnOnce(&mut Value)) -> Value {
    let mut spec = json!({
        "model": {"name": "m", "baseURL": "https://models.test/v1", "apiKey": {"name": "MODEL_KEY"}},
        "benchmarks": [{"task": "gsm8k"}],
    });
    change(&mut spec);
    spec
}
