use super::*;
use crate::api::{Metric, Samples, Tokens};

#[test]
fn a_report_is_read() {
    let text = r#"{"version":1,"cause":"Succeeded","exitCode":0,"framework":"Inspect","attempt":1,"task":"inspect_evals/gsm8k",
        "model":"openai-api/target/m","durationSeconds":6.6,"samples":{"total":10,"done":10},
        "score":{"scorer":"match","metric":"accuracy","value":0.8,"error":0.1},
        "metrics":[{"scorer":"match","metric":"accuracy","value":0.8},{"scorer":"match","metric":"stderr","value":null}],
        "tokens":{"input":3828,"output":30},"log":"logs/a.eval","scrubbed":0,"retryAfterSeconds":12.7}      "#;
    let report = Report::parse(text).unwrap();
    assert_eq!(report.cause, Some(Cause::Succeeded));
    let score = Metric { scorer: "match".into(), metric: "accuracy".into(), value: Some(0.8), error: Some(0.1) };
    assert_eq!(report.score, Some(score));
    assert_eq!(report.metrics.len(), 2);
    assert_eq!(report.samples, Some(Samples { done: 10, total: 10 }));
    assert_eq!(report.tokens, Some(Tokens { input: 3828, output: 30 }));
    assert_eq!((report.log.as_deref(), report.retry_after), (Some("logs/a.eval"), Some(12)));
}

#[test]
fn what_cannot_be_a_report_is_none() {
    for text in ["", "OOM", "[1]", "{", "{\"metrics\": 3}", "null", &format!("\"{}\"", "x".repeat(5000))] {
        assert_eq!(Report::parse(text), None, "{text:.40}");
    }
    assert!(Report::parse("{}").is_some_and(|report| report == Report::default()));
}

#[test]
fn nothing_in_a_report_goes_past_its_bounds() {
    let many = json!({
        "cause": "Made up", "message": format!("a\u{1b}[31m\nb\u{202e}{}", "c".repeat(2000)),
        "metrics": (0..60).map(|_| json!({"metric": "m", "value": 1})).collect::<Vec<_>>(),
        "samples": {"done": 7, "total": -1}, "tokens": {"input": 1e300, "output": -4},
        "log": "\u{0}", "retryAfterSeconds": 1e9,
    });
    let report = Report::parse(&many.to_string()).unwrap();
    assert_eq!(report.cause, None);
    assert!(report.message.starts_with("a [31m b ccc") && report.message.chars().count() <= 1000, "{}", report.message);
    assert_eq!(report.metrics.len(), 32);
    assert_eq!((report.samples.unwrap().done, report.samples.unwrap().total), (0, 0));
    assert_eq!((report.tokens.unwrap().input, report.tokens.unwrap().output), (9_007_199_254_740_992, 0));
    assert_eq!((report.log, report.retry_after), (None, Some(3600)));
}

#[test]
fn every_cause_has_one_code_and_says_whether_to_try_again() {
    for cause in Cause::ALL {
        assert_eq!(Cause::of_exit(cause.exit_code()), Some(*cause));
    }
    let again: Vec<i32> = Cause::ALL.iter().filter(|c| c.may_pass_again()).map(|c| c.exit_code()).collect();
    assert_eq!(again, [10, 11, 12, 13, 30, 40, 143]);
    assert_eq!(Cause::of_exit(137), None);
}
