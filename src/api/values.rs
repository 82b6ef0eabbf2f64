//! Small value types that Kubernetes writes in its own way.

use jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::json;

/// A moment, as RFC 3339 in UTC: to the microsecond, or to the second where it falls on one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub Timestamp);

impl Time {
    /// The same moment cut to whole seconds, as conditions show it.
    #[must_use]
    pub fn to_second(self) -> Self {
        Self(Timestamp::from_second(self.0.as_second()).unwrap_or(self.0))
    }
}

impl std::fmt::Display for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.subsec_nanosecond() == 0 { write!(f, "{:.0}", self.0) } else { write!(f, "{:.6}", self.0) }
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Time {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Time".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": "date-time"})
    }
}

/// An amount of a resource as Kubernetes writes it: `500m`, `2`, `4Gi`. A bare number is taken as text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Quantity(pub String);

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum IntOrString {
            Int(i64),
            String(String),
        }
        Ok(Self(match IntOrString::deserialize(deserializer)? {
            IntOrString::Int(number) => number.to_string(),
            IntOrString::String(text) => text,
        }))
    }
}

impl JsonSchema for Quantity {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Quantity".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "maxLength": 32,
            "pattern": r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$",
        })
    }
}

/// Bounds a map of texts, which a derive has no words for: so many entries, each value so long.
pub(super) fn text_map(entries: u32, value: u32) -> impl Fn(&mut Schema) {
    move |schema| {
        schema.insert("maxProperties".into(), entries.into());
        schema.insert("additionalProperties".into(), json!({"type": "string", "maxLength": value}));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_to_the_microsecond_and_read_back() {
        let time = Time("2026-03-01T12:00:00.123456Z".parse().unwrap());
        assert_eq!(serde_json::to_string(&time).unwrap(), "\"2026-03-01T12:00:00.123456Z\"");
        assert_eq!(time.to_second().to_string(), "2026-03-01T12:00:00Z");
        assert_eq!(serde_json::from_str::<Time>("\"1970-01-01T00:00:00Z\"").unwrap().0, Timestamp::UNIX_EPOCH);
    }

    #[test]
    fn a_quantity_may_be_a_number() {
        assert_eq!(serde_json::from_str::<Quantity>("2").unwrap().0, "2");
        assert_eq!(serde_json::from_str::<Quantity>("\"4Gi\"").unwrap().0, "4Gi");
    }
}
