//! What every store promises, whatever its backend. A new one passes this and needs nothing else to be used.

use std::sync::Arc;

use daypass::secret::SecretValue;
use daypass::stores::{Query, SecretStore, StoreError, Write};

/// One backend, as three people see the secrets of one team.
pub struct Subject {
    /// Signed in as the team's stores are.
    pub reader: Arc<dyn SecretStore>,
    /// With the rights of the team's admin.
    pub admin: Arc<dyn SecretStore>,
    /// Signed in as another team's store, and asked for this team's names.
    pub stranger: Arc<dyn SecretStore>,
    /// What the backend can.
    pub can: Can,
}

/// What not every backend can.
#[derive(Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "each is a property of its own")]
pub struct Can {
    /// Keeps older versions, to be pinned.
    pub pin: bool,
    /// Takes older versions away when a value is replaced.
    pub destroy: bool,
    /// Lists names to the team's sign-in.
    pub list: bool,
    /// Holds bytes that are no text.
    pub binary: bool,
    /// Lets a deleted name be set again at once.
    pub set_again: bool,
}

/// Every kind of name that must never steer a path.
pub const STEERING: [&str; 10] =
    ["../OTHER", "..", "%2e%2e%2fOTHER", "A/B", "A?version=1", "A#B", "A\0B", "A\nB", "\u{0410}PI_KEY", ""];

/// Asks for one secret.
pub async fn get(store: &dyn SecretStore, name: &str, version: Option<&str>) -> Result<(Vec<u8>, String), StoreError> {
    let query = [Query { name: name.into(), version: version.map(str::to_owned) }];
    let mut answers = store.get_many(&query).await;
    assert_eq!(answers.len(), 1);
    answers.remove(0).map(|fetched| (fetched.value.expose().to_vec(), fetched.version))
}

async fn put(store: &dyn SecretStore, name: &str, value: &[u8], write: Write) -> Result<String, StoreError> {
    store.put(name, &SecretValue::new(value.to_vec()), write).await
}

/// Proves all of it.
pub async fn holds(subject: &Subject) {
    lives_and_dies(subject).await;
    answers_in_order(subject).await;
    keeps_strangers_out(subject).await;
    takes_any_value(subject).await;
    no_name_steers(subject).await;
}

async fn lives_and_dies(Subject { reader, admin, can, .. }: &Subject) {
    let name = "HF_TOKEN";
    assert!(matches!(get(&**reader, name, None).await, Err(StoreError::NotFound(_))), "before it is set");
    assert!(matches!(put(&**admin, name, b"x", Write::Keep).await, Err(StoreError::NotFound(_))));

    let first = put(&**admin, name, b"one", Write::New).await.unwrap();
    assert_eq!(get(&**reader, name, None).await.unwrap(), (b"one".to_vec(), first.clone()));
    assert!(matches!(put(&**admin, name, b"x", Write::New).await, Err(StoreError::Conflict(_))), "set twice");

    let second = put(&**admin, name, b"two", Write::Keep).await.unwrap();
    assert_eq!(get(&**reader, name, None).await.unwrap(), (b"two".to_vec(), second.clone()));
    if can.pin {
        assert_ne!(first, second);
        assert_eq!(get(&**reader, name, Some(&first)).await.unwrap(), (b"one".to_vec(), first.clone()));
    } else {
        assert!(get(&**reader, name, Some(&first)).await.is_err(), "a pin that cannot hold is refused");
    }

    let third = put(&**admin, name, b"three", Write::Replace).await.unwrap();
    assert_eq!(get(&**reader, name, None).await.unwrap(), (b"three".to_vec(), third.clone()));
    if can.pin && can.destroy {
        for old in [&first, &second] {
            assert!(matches!(get(&**reader, name, Some(old)).await, Err(StoreError::NotFound(_))), "replaced");
        }
    }
    if can.pin {
        let history = admin.history(name).await.unwrap();
        assert_eq!(history[0].version, third, "the newest stands first");
        assert_eq!(history[0].state, "current");
        assert!(matches!(get(&**reader, name, Some("no-version")).await, Err(StoreError::NotFound(_))));
    }
    let listed = if can.list { reader.list().await } else { admin.list().await };
    assert_eq!(listed.unwrap().iter().map(|listed| listed.name.as_str()).collect::<Vec<_>>(), [name]);

    admin.delete(name).await.unwrap();
    assert!(matches!(get(&**reader, name, None).await, Err(StoreError::NotFound(_))), "after its deletion");
    assert!(matches!(admin.delete(name).await, Err(StoreError::NotFound(_))));
    if can.set_again {
        put(&**admin, name, b"again", Write::New).await.unwrap();
        assert_eq!(get(&**reader, name, None).await.unwrap().0, b"again");
        admin.delete(name).await.unwrap();
    }
}

async fn answers_in_order(Subject { reader, admin, .. }: &Subject) {
    let names: Vec<String> = (0..23).map(|number| format!("KEY_{number}")).collect();
    for name in names.iter().filter(|name| *name != "KEY_7") {
        put(&**admin, name, name.as_bytes(), Write::New).await.unwrap();
    }
    let queries: Vec<Query> = names.iter().map(|name| Query { name: name.clone(), version: None }).collect();
    let answers = reader.get_many(&queries).await;
    assert_eq!(answers.len(), names.len());
    for (name, answer) in names.iter().zip(answers) {
        match answer {
            Ok(fetched) => assert_eq!(fetched.value.expose(), name.as_bytes()),
            Err(error) => {
                assert!(name == "KEY_7" && matches!(error, StoreError::NotFound(_)), "{name}: {error}");
            }
        }
    }
}

async fn keeps_strangers_out(Subject { admin, stranger, .. }: &Subject) {
    put(&**admin, "OURS", b"canary-of-the-contract", Write::New).await.unwrap();
    match get(&**stranger, "OURS", None).await {
        Err(StoreError::Denied(text)) => assert!(!text.contains("canary"), "{text}"),
        Err(other) => panic!("a stranger is told {other:?}"),
        Ok(_) => panic!("a stranger got the value"),
    }
}

async fn takes_any_value(Subject { reader, admin, can, .. }: &Subject) {
    let json = br#"{"user":"u","password":"p\"\n"}"#;
    let values: [(&str, Vec<u8>); 3] =
        [("LARGE", vec![b'x'; 24 * 1024]), ("JSON", json.to_vec()), ("LINES", b"a\nb\n\xc3\xa4".to_vec())];
    for (name, value) in &values {
        put(&**admin, name, value, Write::New).await.unwrap();
        assert_eq!(&get(&**reader, name, None).await.unwrap().0, value, "{name}");
    }
    let written = put(&**admin, "BINARY", b"\x00\xff\xfe", Write::New).await;
    if can.binary {
        written.unwrap();
        assert_eq!(get(&**reader, "BINARY", None).await.unwrap().0, b"\x00\xff\xfe");
    } else {
        assert!(matches!(written, Err(StoreError::Unsupported(_))), "refused before it is spoilt");
    }
}

async fn no_name_steers(Subject { reader, admin, .. }: &Subject) {
    put(&**admin, "PINNED", b"x", Write::New).await.unwrap();
    for version in STEERING.into_iter().chain(["0", "01", "+1", "-1", "1.0"]) {
        let answer = get(&**reader, "PINNED", Some(version)).await;
        assert!(matches!(answer, Err(StoreError::NotFound(_))), "{version:?}: {answer:?}");
    }
    let long = "A".repeat(300);
    for name in STEERING.into_iter().chain([long.as_str()]) {
        assert!(matches!(get(&**reader, name, None).await, Err(StoreError::NotFound(_))), "{name:?}");
        assert!(matches!(put(&**admin, name, b"x", Write::New).await, Err(StoreError::NotFound(_))), "{name:?}");
        assert!(matches!(admin.delete(name).await, Err(StoreError::NotFound(_))), "{name:?}");
    }
}
