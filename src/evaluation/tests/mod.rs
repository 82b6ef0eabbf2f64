//! What the pure core of an evaluation must do, in tables.

mod bind;
mod catalog;
mod config;
mod expect;
mod report;
mod schedule;
mod shape;

use serde_json::{Value, json};

use super::*;
use crate::api::EvalJobSpec;

/// A job of one benchmark whose model needs a key, after a change.
fn spec(change: impl FnOnce(&mut Value)) -> EvalJobSpec {
    let mut spec = json!({
        "model": {"name": "m", "baseURL": "https://models.test/v1", "apiKey": {"name": "MODEL_KEY"}},
        "benchmarks": [{"task": "gsm8k"}],
    });
    change(&mut spec);
    serde_json::from_value(spec).unwrap()
}

fn tasks(names: &[&str]) -> Value {
    names.iter().map(|name| json!({"task": name})).collect()
}

/// A judge with a key of its own.
fn grader(role: &str) -> Value {
    json!({"role": role, "model": "j", "baseURL": "https://judge.test/v1", "apiKey": {"name": "JUDGE_KEY"}})
}
