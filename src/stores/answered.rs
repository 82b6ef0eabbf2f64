//! Values inside of JSON answers.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::secret::SecretValue;

/// A value as a backend's JSON holds it: a string's text, anything else as JSON.
pub struct Answered(pub SecretValue);

impl<'de> Deserialize<'de> for Answered {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(SecretValue::new(match Value::deserialize(deserializer)? {
            // The buffer itself moves on, so nothing is left of it.
            Value::String(text) => text.into_bytes(),
            other => other.to_string().into_bytes(),
        })))
    }
}

/// A value that is text in the backend's JSON, and nothing else.
pub struct Text(pub SecretValue);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(SecretValue::new(text.into_bytes())))
    }
}

impl Text {
    /// The bytes behind base64 text; none where it is no base64.
    pub fn decoded(self) -> Option<SecretValue> {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.decode(self.0.expose()).ok().map(SecretValue::new)
    }
}
