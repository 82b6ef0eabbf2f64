//! Conditions, as Kubernetes knows them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Reason, Time};

/// What a condition is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ConditionType {
    /// The operator has taken up the object.
    Accepted,
    /// All named secrets were found and may be used.
    SecretsResolved,
    /// The run has its values.
    SecretsInjected,
    /// The run Secret is proven gone.
    SecretsRemoved,
    /// The run holds the newest versions.
    SecretsCurrent,
    /// The run's container has started and runs; of a store: it can be read.
    Ready,
    /// Nothing runs any more.
    Finished,
    /// Of an evaluation: every benchmark succeeded.
    Complete,
    /// Of an evaluation: not every benchmark succeeded.
    Failed,
    /// Of an evaluation: every result that there is was stored where `results` asks for.
    ResultsStored,
    /// Of an evaluation: every number is what `expect` asks for.
    ExpectationsMet,
    /// Of an evaluation, only where it does not hold: the catalog that it was checked with is the newest.
    CatalogCurrent,
    /// Of a store: it works, and another kind would be safer.
    Discouraged,
}

/// A condition's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// It cannot be told yet.
    Unknown,
}

impl From<bool> for ConditionStatus {
    fn from(value: bool) -> Self {
        if value { Self::True } else { Self::False }
    }
}

/// One statement about the object, in the form of `metav1.Condition`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What the condition is about.
    #[serde(rename = "type")]
    pub type_: ConditionType,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// Why, in one word.
    pub reason: Reason,
    /// Why, for people.
    #[schemars(length(max = 32768))]
    pub message: String,
    /// When `status` last changed.
    pub last_transition_time: Time,
    /// The generation of the object that this is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

impl Condition {
    /// Whether an operator wrote it. A condition of a new object that nobody has looked at is the kind's default, from the
    /// beginning of time.
    pub fn is_written(&self) -> bool {
        self.last_transition_time.0 != jiff::Timestamp::UNIX_EPOCH
    }
}

/// Puts `condition` into the list; the time of the last transition is kept while the status stays.
pub fn set_condition(conditions: &mut Vec<Condition>, mut condition: Condition) {
    match conditions.iter_mut().find(|old| old.type_ == condition.type_) {
        Some(old) => {
            if old.status == condition.status {
                condition.last_transition_time = old.last_transition_time;
            }
            *old = condition;
        }
        None => conditions.push(condition),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(status: ConditionStatus, at: &str) -> Condition {
        Condition {
            type_: ConditionType::Ready,
            status,
            reason: Reason::Started,
            message: at.into(),
            last_transition_time: Time(at.parse().unwrap()),
            observed_generation: Some(1),
        }
    }

    #[test]
    fn the_time_moves_only_with_the_status() {
        let mut list = vec![condition(ConditionStatus::True, "2026-01-01T00:00:00Z")];
        set_condition(&mut list, condition(ConditionStatus::True, "2026-01-01T00:00:05Z"));
        assert_eq!(list[0].last_transition_time.to_string(), "2026-01-01T00:00:00Z");
        assert_eq!(list[0].message, "2026-01-01T00:00:05Z");
        set_condition(&mut list, condition(ConditionStatus::False, "2026-01-01T00:00:09Z"));
        assert_eq!(list[0].last_transition_time.to_string(), "2026-01-01T00:00:09Z");
        assert_eq!(list.len(), 1);
    }
}
