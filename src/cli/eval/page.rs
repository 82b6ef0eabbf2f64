//! One page with an evaluation's results: no script, nothing loaded from anywhere, every text escaped.

use std::fmt::Write as _;

use crate::api::{EvalJob, Metric};

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem;color:#1b1f24}\
table{border-collapse:collapse;width:100%;margin:1rem 0}th,td{text-align:left;padding:.35rem .6rem;border-bottom:1px solid #d8dee4;\
vertical-align:top}th{font-weight:600}td.n{text-align:right;font-variant-numeric:tabular-nums}small{color:#57606a}\
.Completed{color:#116329}.Failed,.Terminated,.Skipped{color:#a40e26}";

/// The page.
pub(super) fn page(job: &EvalJob) -> String {
    let status = job.status.clone().unwrap_or_default();
    let name = job.metadata.name.clone().unwrap_or_default();
    let mut out = String::new();
    let _ = write!(
        out,
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta http-equiv=\"Content-Security-Policy\" \
         content=\"default-src 'none'; style-src 'unsafe-inline'\"><title>{0}</title><style>{STYLE}</style><h1>{0}</h1>\
         <p>{1} at {2}<br><b class=\"{3:?}\">{3:?}</b>: {4}<br><small>catalog {5}; started {6}, ended {7}</small></p>",
        escaped(&name),
        escaped(&job.spec.model.name),
        escaped(&job.spec.model.base_url),
        status.phase,
        escaped(status.message.as_deref().unwrap_or("-")),
        escaped(status.catalog_version.as_deref().unwrap_or("-")),
        status.start_time.map(|time| time.to_string()).unwrap_or_default(),
        status.completion_time.map(|time| time.to_string()).unwrap_or_default(),
    );
    let scores: Vec<(&str, &Metric)> =
        status.benchmarks.iter().filter_map(|told| Some((told.name.as_str(), told.score.as_ref()?))).collect();
    out.push_str(&plot(&scores));
    out.push_str(
        "<h2>Benchmarks</h2><table><tr><th>benchmark<th>score<th>&plusmn;<th>samples<th>tokens in<th>tokens out<th>\
         attempts<th>state",
    );
    for told in &status.benchmarks {
        let score = told.score.as_ref();
        let _ = write!(
            out,
            "<tr><td>{}<br><small>{}</small><td class=n>{}<br><small>{}</small><td class=n>{}<td class=n>{}<td class=n>{}\
             <td class=n>{}<td class=n>{}<td><span class=\"{:?}\">{:?}</span> {}<br><small>{}</small>",
            escaped(&told.name),
            escaped(&told.task),
            score.and_then(|score| score.value).map(number).unwrap_or_default(),
            escaped(score.map(|score| score.metric.as_str()).unwrap_or_default()),
            score.and_then(|score| score.error).map(number).unwrap_or_default(),
            told.samples.map(|samples| format!("{}/{}", samples.done, samples.total)).unwrap_or_default(),
            told.tokens.map(|tokens| tokens.input.to_string()).unwrap_or_default(),
            told.tokens.map(|tokens| tokens.output.to_string()).unwrap_or_default(),
            told.attempt,
            told.phase,
            told.phase,
            escaped(&told.cause.clone().or_else(|| Some(told.reason?.to_string())).unwrap_or_default()),
            escaped(&[told.message.clone().unwrap_or_default(), told.unmet.join(", ")].join(" ")),
        );
    }
    out.push_str("</table><h2>All numbers</h2><table><tr><th>benchmark<th>scorer<th>metric<th>value<th>&plusmn;");
    for told in &status.benchmarks {
        for metric in &told.metrics {
            let _ = write!(
                out,
                "<tr><td>{}<td>{}<td>{}<td class=n>{}<td class=n>{}",
                escaped(&told.name),
                escaped(&metric.scorer),
                escaped(&metric.metric),
                metric.value.map(number).unwrap_or_default(),
                metric.error.map(number).unwrap_or_default(),
            );
        }
    }
    out.push_str("</table></html>\n");
    out
}

/// The ends of a bar's scale: most numbers are shares of one, some are percentages, and what is neither fills its bar.
fn scale(value: f64, error: f64) -> (f64, f64) {
    let high = [1.0, 100.0].into_iter().find(|&end| value <= end).unwrap_or(value + error);
    (if value < 0.0 { value - error } else { 0.0 }, high)
}

/// Scores with their errors, each on the scale of its own kind.
fn plot(scores: &[(&str, &Metric)]) -> String {
    let values: Vec<(&str, f64, f64)> = scores
        .iter()
        .filter_map(|(name, score)| Some((*name, score.value?, score.error.unwrap_or(0.0).abs())))
        .collect();
    if values.is_empty() {
        return String::new();
    }
    let height = values.len() * 28 + 30;
    let mut out = format!("<h2>Scores</h2><svg viewBox=\"0 0 800 {height}\" role=\"img\" aria-label=\"scores\">");
    for (index, (name, value, error)) in values.iter().enumerate() {
        let y = index * 28 + 8;
        let middle = y + 9;
        let (low, high) = scale(*value, *error);
        let x = |value: f64| 170.0 + (value.clamp(low, high) - low) / (high - low) * 560.0;
        let (zero, end) = (x(0.0), x(*value));
        let _ = write!(
            out,
            "<text x=\"160\" y=\"{}\" text-anchor=\"end\" font-size=\"13\">{}</text><rect x=\"{:.1}\" y=\"{y}\" width=\"{:.1}\" \
             height=\"18\" fill=\"#54aeff\"/><text x=\"740\" y=\"{}\" font-size=\"13\">{}</text>",
            y + 14,
            escaped(name),
            zero.min(end),
            (end - zero).abs(),
            y + 14,
            number(*value),
        );
        if *error > 0.0 {
            let (from, to) = (x(value - error), x(value + error));
            let _ = write!(
                out,
                "<path d=\"M{from:.1} {middle}H{to:.1}M{from:.1} {}v10M{to:.1} {}v10\" stroke=\"#0a3069\" fill=\"none\"/>",
                middle - 5,
                middle - 5
            );
        }
    }
    out.push_str("</svg>");
    out
}

fn number(value: f64) -> String {
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_page_is_whole_and_nothing_in_it_is_code() {
        let job: EvalJob = serde_json::from_value(json!({
            "apiVersion": "daypass.dev/v1alpha1", "kind": "EvalJob", "metadata": {"name": "<script>alert(1)</script>"},
            "spec": {"model": {"name": "m\" onload=\"x", "baseURL": "https://m.test", "auth": "None"}, "benchmarks": [{"task": "gsm8k"}]},
            "status": {"phase": "Completed", "benchmarks": [{
                "name": "gsm8k", "task": "inspect_evals/gsm8k", "phase": "Completed", "attempt": 1,
                "message": "'<img src=x>'", "score": {"scorer": "s", "metric": "accuracy", "value": 0.8, "error": 0.05},
                "metrics": [{"scorer": "<b>", "metric": "accuracy", "value": 0.8}],
                "samples": {"done": 9, "total": 10}, "tokens": {"input": 51, "output": 62},
            }, {
                "name": "boolq", "task": "inspect_evals/boolq", "phase": "Failed", "attempt": 1,
                "cause": "ModelAuthFailed", "reason": "ModelAuthFailed",
            }, {
                "name": "hle", "task": "inspect_evals/hle", "phase": "Failed", "attempt": 1, "reason": "OOMKilled",
            }]},
        }))
        .unwrap();
        let page = page(&job);
        for part in [
            "default-src 'none'",
            ">0.8<",
            "9/10",
            ">51<",
            ">62<",
            "</span> ModelAuthFailed<",
            "</span> OOMKilled<",
            "&lt;script&gt;",
            "&quot; onload=&quot;",
            "&lt;img",
        ] {
            assert!(page.contains(part), "{part:?} is not in {page}");
        }
        for part in ["<script", "<img", "<b>", "onload=\"", "http-equiv=\"refresh"] {
            assert!(!page.contains(part), "{part:?} is in {page}");
        }
        assert_eq!((scale(0.8, 0.3), scale(25.0, 0.0), scale(-2.0, 0.5)), ((0.0, 1.0), (0.0, 100.0), (-2.5, 1.0)));
        assert!(page.contains("<svg") && page.contains("<path d="), "the score has its error");
    }
}
