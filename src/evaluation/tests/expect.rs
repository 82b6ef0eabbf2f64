use super::*;
use crate::api::Metric;

fn metric(scorer: &str, metric: &str, value: f64) -> Metric {
    Metric { scorer: scorer.into(), metric: metric.into(), value: Some(value), error: None }
}

#[test]
fn numbers_are_what_is_expected_or_it_is_told() {
    let score = metric("match", "accuracy", 0.8);
    let all = [score.clone(), metric("match", "stderr", 0.05), metric("other", "accuracy", 0.2)];
    for (expectation, holds) in [
        ("accuracy >= 0.8", true),
        ("accuracy>=0.8", true),
        ("accuracy > 0.8", false),
        ("accuracy <= 0.8", true),
        ("accuracy < 0.8", false),
        ("accuracy == 0.8", true),
        ("accuracy == 0.81", false),
        ("other/accuracy < 0.5", true),
        ("match/stderr <= 0.05", true),
        ("stderr > -1", true),
        ("f1 >= 0", false),
        ("nonsense", false),
    ] {
        let unmet = unmet(&[expectation.to_owned()], Some(&score), &all);
        assert_eq!(unmet.is_empty(), holds, "{expectation}: {unmet:?}");
    }
    assert_eq!(unmet(&["accuracy >= 0.9".into()], Some(&score), &all), ["accuracy >= 0.9: it is 0.8"]);
    assert_eq!(unmet(&["f1 >= 0.9".into()], Some(&score), &all), ["f1 >= 0.9: there is no such number"]);
    assert_eq!(unmet(&["accuracy >= 0.9".into()], None, &[]).len(), 1, "no numbers are not enough");
}

#[test]
fn a_number_of_any_size_fits_into_the_status() {
    for value in [1e300, -1e300, 5e-324, f64::MAX, 0.1, 0.0, 123_456.789] {
        let score = Metric { metric: "m".into(), value: Some(value), ..Metric::default() };
        let unmet = unmet(&["m == 7".into()], Some(&score), &[]);
        let shown = unmet[0].strip_prefix("m == 7: it is ").unwrap();
        assert_eq!(shown.parse(), Ok(value));
        assert!(shown.len() < 30, "{shown}");
    }
}
