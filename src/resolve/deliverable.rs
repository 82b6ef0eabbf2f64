//! Whether a value can reach the container as it was asked for.

use serde_json::Value;

use crate::api::{Delivery, Reason, SecretReference};
use crate::run::Problem;
use crate::secret::SecretValue;
use crate::stores::StoreError;

/// Why a reference does not become a value.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// The store gives none.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store's value has no such field.
    #[error("the value has no field {0:?}")]
    FieldNotFound(String),
    /// No delivery can carry it as asked.
    #[error("{0}")]
    Undeliverable(&'static str),
}

/// Linux takes no longer `NAME=value` (with its final NUL) than this.
const MOST_IN_ENV: usize = 128 * 1024;
/// Kubernetes takes no larger Secret than this.
const MOST_IN_SECRET: usize = 1024 * 1024;

/// Takes the asked field out of the value, and checks that the delivery can carry it.
pub(super) fn deliverable(
    reference: &SecretReference,
    value: &SecretValue,
    delivery: Delivery,
) -> Result<SecretValue, Fault> {
    let value = match &reference.field {
        Some(field) => field_of(field, value)?,
        // A copy of the run's own: the one in memory serves others too.
        None => SecretValue::new(value.expose().to_vec()),
    };
    if delivery == Delivery::File {
        return Ok(value);
    }
    let bytes = value.expose();
    let fault = if std::str::from_utf8(bytes).is_err() {
        "the value is not UTF-8, so no variable can hold it: use `delivery: File`"
    } else if bytes.contains(&0) {
        "the value holds a NUL byte, so no variable can hold it: use `delivery: File`"
    } else if reference.variable().len() + bytes.len() + 2 > MOST_IN_ENV {
        "the value is too large for a variable (128 KiB with its name): use `delivery: File`"
    } else {
        return Ok(value);
    };
    Err(Fault::Undeliverable(fault))
}

fn field_of(field: &str, value: &SecretValue) -> Result<SecretValue, Fault> {
    // The parser's own error would repeat parts of the value.
    let Ok(Value::Object(mut object)) = serde_json::from_slice::<Value>(value.expose()) else {
        return Err(Fault::Undeliverable("`field` is set, but the value is no JSON object"));
    };
    match object.remove(field) {
        None => Err(Fault::FieldNotFound(field.to_owned())),
        Some(Value::String(text)) => Ok(SecretValue::new(text.into_bytes())),
        Some(other) => Ok(SecretValue::new(other.to_string().into_bytes())),
    }
}

/// Whether the values fit into one Secret.
pub(super) fn fits_together(values: &[Option<SecretValue>]) -> Option<Problem> {
    let sum: usize = values.iter().flatten().map(|value| value.expose().len()).sum();
    (sum > MOST_IN_SECRET).then(|| Problem {
        reference: None,
        reason: Reason::SecretMalformed,
        message: "the secrets of one run may hold 1 MiB together: name fewer, or take single fields".into(),
        waits: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(field: Option<&str>) -> SecretReference {
        SecretReference {
            team: None,
            name: "KEY".into(),
            env_var: None,
            field: field.map(str::to_owned),
            version: None,
            optional: false,
            store: None,
        }
    }

    fn ask(field: Option<&str>, value: &[u8], delivery: Delivery) -> Result<Vec<u8>, Fault> {
        deliverable(&reference(field), &SecretValue::new(value.to_vec()), delivery).map(|value| value.expose().to_vec())
    }

    #[test]
    fn a_field_is_taken_out_of_a_json_object() {
        let json = br#"{"user":"u","port":5432,"on":true,"deep":{"a":[1]}}"#;
        assert_eq!(ask(Some("user"), json, Delivery::Env).unwrap(), b"u");
        assert_eq!(ask(Some("port"), json, Delivery::Env).unwrap(), b"5432");
        assert_eq!(ask(Some("deep"), json, Delivery::Env).unwrap(), br#"{"a":[1]}"#);
        assert!(matches!(ask(Some("none"), json, Delivery::Env), Err(Fault::FieldNotFound(_))));
        assert!(matches!(ask(Some("user"), b"sk-no-json", Delivery::Env), Err(Fault::Undeliverable(_))));
    }

    #[test]
    fn what_no_variable_can_hold_goes_as_a_file() {
        for value in [&b"\xff\xfe"[..], b"a\0b", &vec![b'x'; 128 * 1024]] {
            let Err(Fault::Undeliverable(text)) = ask(None, value, Delivery::Env) else { panic!("must be refused") };
            assert!(text.contains("delivery: File"));
            assert_eq!(ask(None, value, Delivery::File).unwrap(), value);
        }
        assert!(ask(None, &vec![b'x'; 128 * 1024 - 5], Delivery::Env).is_ok());
        assert!(ask(None, &vec![b'x'; 128 * 1024 - 4], Delivery::Env).is_err());
    }

    #[test]
    fn the_sum_is_bounded() {
        let values = |count| (0..count).map(|_| Some(SecretValue::new(vec![0; 64 * 1024]))).collect::<Vec<_>>();
        assert!(fits_together(&values(16)).is_none());
        assert!(fits_together(&values(17)).is_some());
    }
}
