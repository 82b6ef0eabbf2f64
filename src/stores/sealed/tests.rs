//! The store without a client: what an object and the live keys give.

use std::sync::Arc;

use super::key::{KeyId, PrivateKey};
use super::seal::{Binding, seal};
use super::*;
use crate::api::TeamSecretSpec;
use crate::secret::SecretValue;

const TEAM: &str = "ml-team";

struct Key {
    id: KeyId,
    private: Arc<PrivateKey>,
}

fn key() -> Key {
    let private = PrivateKey::generate();
    Key { id: KeyId::new("2026-01-02T03:04:05Z".parse().unwrap(), &private.public()), private: Arc::new(private) }
}

fn version(key: &Key, name: &str, number: i64, value: &str) -> SealedVersion {
    let binding = Binding { namespace: TEAM, name, version: number };
    seal(&key.id, &key.private.public(), &binding, &SecretValue::new(value.into())).unwrap()
}

fn object(name: &str, versions: Vec<SealedVersion>) -> TeamSecret {
    TeamSecret::new(&team_secret_object(name), TeamSecretSpec { name: name.into(), versions })
}

fn state(live: &[&Key], health: Health) -> KeyState {
    let mut keys = KeyRing::default();
    for key in live {
        keys.insert(key.id.clone(), key.private.clone()).unwrap();
    }
    KeyState { keys, health }
}

fn ask(name: &str, version: Option<&str>, object: Option<&TeamSecret>, state: &KeyState) -> Result<String, StoreError> {
    let query = Query { name: name.into(), version: version.map(Into::into) };
    fetch(TEAM, &query, object, state)
        .map(|fetched| format!("{} {}", fetched.version, String::from_utf8(fetched.value.expose().to_vec()).unwrap()))
}

#[test]
fn the_newest_version_is_given_unless_one_is_pinned() {
    let (old, new) = (key(), key());
    let object = object("HF_TOKEN", vec![version(&new, "HF_TOKEN", 3, "three"), version(&old, "HF_TOKEN", 2, "two")]);
    let state = state(&[&old, &new], Health::Ready);
    let ask = |pinned| ask("HF_TOKEN", pinned, Some(&object), &state);
    assert_eq!(ask(None), Ok("3 three".into()));
    assert_eq!(ask(Some("2")), Ok("2 two".into()));
    for gone in ["1", "4", "", "02", "latest"] {
        assert!(matches!(ask(Some(gone)), Err(StoreError::NotFound(_))), "{gone}");
    }
}

#[test]
fn only_the_exact_name_is_there() {
    let key = key();
    let object = object("HF_TOKEN", vec![version(&key, "HF_TOKEN", 1, "value")]);
    let state = state(&[&key], Health::Ready);
    assert_eq!(ask("HF_TOKEN", None, Some(&object), &state), Ok("1 value".into()));
    assert!(matches!(ask("hf_token", None, Some(&object), &state), Err(StoreError::NotFound(_))));
    assert!(matches!(ask("HF_TOKEN", None, None, &state), Err(StoreError::NotFound(_))));
}

#[test]
fn a_version_of_an_unknown_key_fails_by_itself() {
    let (lost, live) = (key(), key());
    let object = object("HF_TOKEN", vec![version(&live, "HF_TOKEN", 2, "two"), version(&lost, "HF_TOKEN", 1, "one")]);
    let state = state(&[&live], Health::Ready);
    assert_eq!(ask("HF_TOKEN", None, Some(&object), &state), Ok("2 two".into()));
    let Err(StoreError::KeyLost(message)) = ask("HF_TOKEN", Some("1"), Some(&object), &state) else {
        panic!("opened without its key");
    };
    assert!(message.contains(lost.id.as_str()), "{message}");
}

#[test]
fn a_key_that_may_still_come_is_waited_for() {
    let (late, live) = (key(), key());
    let object = object("HF_TOKEN", vec![version(&late, "HF_TOKEN", 2, "two"), version(&live, "HF_TOKEN", 1, "one")]);
    let state = state(&[&live], Health::Waiting("soon".into()));
    assert_eq!(ask("HF_TOKEN", Some("1"), Some(&object), &state), Ok("1 one".into()));
    assert_eq!(ask("HF_TOKEN", None, Some(&object), &state), Err(StoreError::unavailable(Stage::Answer, "soon")));
}

#[test]
fn a_moved_ciphertext_is_malformed_and_its_text_holds_none_of_it() {
    let key = key();
    let moved = version(&key, "OTHER", 1, "value");
    let object = object("HF_TOKEN", vec![moved.clone()]);
    let Err(StoreError::Malformed(message)) = ask("HF_TOKEN", None, Some(&object), &state(&[&key], Health::Ready))
    else {
        panic!("a moved ciphertext opened");
    };
    assert!(!message.contains(&moved.ciphertext) && !message.contains(&moved.enc), "{message}");
}

#[test]
fn the_api_servers_words_stay_here() {
    let status = |code: u16, retry: u32| {
        let mut status = kube::core::Status::failure("canary-message", "canary-reason").with_code(code);
        status.details = serde_json::from_value(serde_json::json!({"retryAfterSeconds": retry})).unwrap();
        refused_read(&kube::Error::Api(Box::new(status)))
    };
    assert_eq!(status(429, 7), StoreError::Throttled { retry_after: Some(Duration::from_secs(7)) });
    assert_eq!(status(429, 0), StoreError::Throttled { retry_after: None });
    for code in [403, 500, 503] {
        let StoreError::Unavailable { why: message, .. } = status(code, 0) else { panic!("{code}") };
        assert!(!message.contains("canary"), "{message}");
    }
}
