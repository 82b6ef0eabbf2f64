//! What numbers must be: `accuracy >= 0.8`.

use crate::api::Metric;

/// One expectation.
#[derive(Clone, Debug, PartialEq)]
pub struct Expectation {
    metric: String,
    relation: Relation,
    bound: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    AtLeast,
    AtMost,
    Above,
    Below,
    Equal,
}

impl Expectation {
    /// Reads an expectation. The CRD has refused what is none.
    pub fn parse(text: &str) -> Option<Self> {
        let place = text.find(['>', '<', '='])?;
        let (metric, rest) = text.split_at(place);
        let (relation, rest) = [
            (">=", Relation::AtLeast),
            ("<=", Relation::AtMost),
            ("==", Relation::Equal),
            (">", Relation::Above),
            ("<", Relation::Below),
        ]
        .into_iter()
        .find_map(|(sign, relation)| Some((relation, rest.strip_prefix(sign)?)))?;
        let bound: f64 = rest.trim().parse().ok()?;
        let metric = metric.trim();
        (!metric.is_empty() && bound.is_finite()).then(|| Self { metric: metric.into(), relation, bound })
    }

    /// The number that it is about: `SCORER/METRIC`, or a metric's name alone, which means the headline score's where
    /// that is it, else the first.
    fn value(&self, score: Option<&Metric>, metrics: &[Metric]) -> Option<f64> {
        let full = |metric: &Metric| format!("{}/{}", metric.scorer, metric.metric) == self.metric;
        let short = |metric: &Metric| metric.metric == self.metric;
        let all = || score.into_iter().chain(metrics);
        all().find(|metric| full(metric)).or_else(|| all().find(|metric| short(metric)))?.value
    }

    fn holds(&self, value: f64) -> bool {
        match self.relation {
            Relation::AtLeast => value >= self.bound,
            Relation::AtMost => value <= self.bound,
            Relation::Above => value > self.bound,
            Relation::Below => value < self.bound,
            Relation::Equal => (value - self.bound).abs() < 1e-9,
        }
    }
}

/// The expectations that numbers do not meet, each with the number that is there.
pub fn unmet(expectations: &[String], score: Option<&Metric>, metrics: &[Metric]) -> Vec<String> {
    expectations
        .iter()
        .filter_map(|text| {
            let Some(expectation) = Expectation::parse(text) else { return Some(format!("{text}: cannot be read")) };
            match expectation.value(score, metrics) {
                Some(value) if expectation.holds(value) => None,
                Some(value) => Some(format!("{text}: it is {}", shown(value))),
                None => Some(format!("{text}: there is no such number")),
            }
        })
        .collect()
}

/// A number as people read it. Whoever reports it chooses it, and in full some have more than 300 digits.
fn shown(value: f64) -> String {
    if value == 0.0 || (1e-6..1e15).contains(&value.abs()) { value.to_string() } else { format!("{value:e}") }
}
