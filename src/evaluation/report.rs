//! The runner's report, read as what it is: the word of a program that a benchmark's data and others' servers talk to.

use serde::Deserialize;

use super::Cause;
use crate::api::{Metric, Samples, Tokens};

/// What a kubelet reads at most.
const LONGEST: usize = 4096;
/// What status shows at most.
const MOST_METRICS: usize = 32;
const LONGEST_TEXT: usize = 1000;
const LONGEST_NAME: usize = 128;
/// What a provider may ask to wait at most.
const LONGEST_WAIT: i64 = 3600;

/// A report within its bounds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// The cause, as the runner names it.
    pub cause: Option<Cause>,
    /// The runner's own words.
    pub message: String,
    /// The number that stands for the benchmark.
    pub score: Option<Metric>,
    /// All numbers.
    pub metrics: Vec<Metric>,
    /// Samples.
    pub samples: Option<Samples>,
    /// Tokens.
    pub tokens: Option<Tokens>,
    /// Where the log lies.
    pub log: Option<String>,
    /// Seconds that a provider asked to wait.
    pub retry_after: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    #[serde(default)]
    cause: Option<String>,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    score: Option<RawMetric>,
    #[serde(default)]
    metrics: Vec<RawMetric>,
    #[serde(default)]
    samples: Option<RawSamples>,
    #[serde(default)]
    tokens: Option<RawTokens>,
    #[serde(default)]
    log: Option<String>,
    #[serde(default)]
    retry_after_seconds: Option<f64>,
}

#[derive(Deserialize)]
struct RawMetric {
    #[serde(default)]
    scorer: Option<String>,
    #[serde(default)]
    metric: Option<String>,
    #[serde(default)]
    value: Option<f64>,
    #[serde(default)]
    error: Option<f64>,
}

#[derive(Deserialize)]
struct RawSamples {
    #[serde(default)]
    done: Option<f64>,
    #[serde(default)]
    total: Option<f64>,
}

#[derive(Deserialize)]
struct RawTokens {
    #[serde(default)]
    input: Option<f64>,
    #[serde(default)]
    output: Option<f64>,
}

impl Report {
    /// Reads a termination message. None where it is no report.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > LONGEST {
            return None;
        }
        let raw: Raw = serde_json::from_str(text.trim()).ok()?;
        Some(Self {
            cause: raw.cause.and_then(|cause| Cause::ALL.iter().copied().find(|known| known.as_str() == cause)),
            message: line(&raw.message.unwrap_or_default(), LONGEST_TEXT),
            score: raw.score.map(metric),
            metrics: raw.metrics.into_iter().take(MOST_METRICS).map(metric).collect(),
            samples: raw.samples.map(|samples| {
                let total = count(samples.total);
                Samples { done: count(samples.done).min(total), total }
            }),
            tokens: raw.tokens.map(|tokens| Tokens { input: count(tokens.input), output: count(tokens.output) }),
            log: raw.log.map(|log| line(&log, 256)).filter(|log| !log.is_empty()),
            retry_after: raw.retry_after_seconds.map(|wait| count(Some(wait)).clamp(1, LONGEST_WAIT)),
        })
    }
}

fn metric(raw: RawMetric) -> Metric {
    Metric {
        scorer: line(&raw.scorer.unwrap_or_default(), LONGEST_NAME),
        metric: line(&raw.metric.unwrap_or_default(), LONGEST_NAME),
        value: raw.value.filter(|value| value.is_finite()),
        error: raw.error.filter(|error| error.is_finite()),
    }
}

/// One line without control characters, nor those that turn text around or hide it.
fn line(text: &str, most: usize) -> String {
    let hides =
        |c: char| matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
    let clean: String = text.chars().map(|c| if c.is_control() || hides(c) { ' ' } else { c }).take(most).collect();
    clean.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A number of things: whole, and not below none.
fn count(value: Option<f64>) -> i64 {
    const MOST: f64 = 9_007_199_254_740_992.0;
    let value = value.filter(|value| value.is_finite()).unwrap_or_default().clamp(0.0, MOST);
    #[expect(clippy::cast_possible_truncation, reason = "clamped to what both types hold exactly")]
    let whole = value as i64;
    whole
}
