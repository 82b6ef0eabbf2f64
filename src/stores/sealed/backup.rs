//! The keys as a file that only a passphrase opens: argon2id makes a key of the passphrase, ChaCha20-Poly1305 encrypts.
//!
//! The header says how, and which keys are inside, in plain text. It is authenticated with the ciphertext, so a file
//! whose header was changed does not open.

use std::sync::Arc;

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{ChaCha20Poly1305, KeyInit, Nonce};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::key::{KEY_BYTES, PrivateKey};
use super::keyring::KeyRing;
use crate::secret::SecretValue;

const FORMAT: &str = "daypass-keys/v1";
const SALT_BYTES: usize = 16;
const NONCE_BYTES: usize = 12;
/// The shortest passphrase, in bytes, that is taken for a new backup.
pub const MIN_PASSPHRASE_BYTES: usize = 12;

/// What argon2id may cost. RFC 9106's second choice: 64 MiB, 3 passes, 4 lanes.
const COST: Cost = Cost { memory_kib: 64 * 1024, passes: 3, lanes: 4 };
/// The most that a file may ask for: it is not known to be ours before it opens.
const MAX_COST: Cost = Cost { memory_kib: 1024 * 1024, passes: 16, lanes: 16 };

// What is written today can be read tomorrow.
const _: () =
    assert!(COST.memory_kib <= MAX_COST.memory_kib && COST.passes <= MAX_COST.passes && COST.lanes <= MAX_COST.lanes);

#[derive(Clone, Copy)]
struct Cost {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

/// Why a backup cannot be made or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackupError {
    /// There is nothing to back up.
    #[error("there is no key to back up")]
    NoKeys,
    /// Too short to guard every secret of the cluster.
    #[error("the passphrase needs at least 12 characters: it guards every sealed secret of the cluster")]
    WeakPassphrase,
    /// No backup at all, or cut.
    #[error("this is not a whole backup of Daypass keys")]
    NotABackup,
    /// Of a later version.
    #[error("the backup has a format that this version does not know")]
    UnknownFormat,
    /// It asks for more memory or time than any backup of ours.
    #[error("the backup asks for more memory or time than Daypass ever does: it was changed")]
    TooCostly,
    /// Wrong passphrase, or changed.
    #[error("the backup does not open: the passphrase is wrong, or the file was changed")]
    Refused,
    /// The system gave no random numbers or no memory.
    #[error("the system gave no {0}")]
    System(&'static str),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    header: Header,
    ciphertext: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Header {
    format: String,
    key_ids: Vec<String>,
    argon2id_memory_kib: u32,
    argon2id_passes: u32,
    argon2id_lanes: u32,
    salt: String,
    nonce: String,
}

/// Makes a backup of `keys`.
pub fn encode(keys: &KeyRing, passphrase: &SecretValue) -> Result<String, BackupError> {
    encode_at(COST, keys, passphrase)
}

fn encode_at(cost: Cost, keys: &KeyRing, passphrase: &SecretValue) -> Result<String, BackupError> {
    if keys.is_empty() {
        return Err(BackupError::NoKeys);
    }
    if passphrase.expose().len() < MIN_PASSPHRASE_BYTES {
        return Err(BackupError::WeakPassphrase);
    }
    let mut random = [0; SALT_BYTES + NONCE_BYTES];
    getrandom::fill(&mut random).map_err(|_| BackupError::System("random numbers"))?;
    let (salt, nonce) = random.split_at(SALT_BYTES);
    let header = Header {
        format: FORMAT.into(),
        key_ids: keys.ids().map(ToString::to_string).collect(),
        argon2id_memory_kib: cost.memory_kib,
        argon2id_passes: cost.passes,
        argon2id_lanes: cost.lanes,
        salt: STANDARD.encode(salt),
        nonce: STANDARD.encode(nonce),
    };
    let mut plain = Zeroizing::new(Vec::with_capacity(KEY_BYTES * header.key_ids.len()));
    for (_, key) in keys.iter() {
        plain.extend_from_slice(key.to_secret().expose());
    }
    let aad = authenticated(&header);
    let ciphertext = cipher(cost, passphrase, salt)?
        .encrypt(&nonce_of(nonce)?, Payload { msg: &plain, aad: &aad })
        .map_err(|_| BackupError::Refused)?;
    let file = File { header, ciphertext: STANDARD.encode(ciphertext) };
    serde_json::to_string_pretty(&file).map(|text| text + "\n").map_err(|_| BackupError::NotABackup)
}

/// Opens a backup. Every key in it is proven by its ID.
pub fn decode(text: &str, passphrase: &SecretValue) -> Result<KeyRing, BackupError> {
    let value: serde_json::Value = serde_json::from_str(text).map_err(|_| BackupError::NotABackup)?;
    match value["header"]["format"].as_str() {
        Some(FORMAT) => {}
        Some(_) => return Err(BackupError::UnknownFormat),
        None => return Err(BackupError::NotABackup),
    }
    let File { header, ciphertext } = serde_json::from_value(value).map_err(|_| BackupError::NotABackup)?;
    let cost =
        Cost { memory_kib: header.argon2id_memory_kib, passes: header.argon2id_passes, lanes: header.argon2id_lanes };
    if cost.memory_kib > MAX_COST.memory_kib || cost.passes > MAX_COST.passes || cost.lanes > MAX_COST.lanes {
        return Err(BackupError::TooCostly);
    }
    let bytes = |text: &str| STANDARD.decode(text).map_err(|_| BackupError::NotABackup);
    let (salt, nonce, ciphertext) = (bytes(&header.salt)?, bytes(&header.nonce)?, bytes(&ciphertext)?);
    let plain = cipher(cost, passphrase, &salt)?
        .decrypt(&nonce_of(&nonce)?, Payload { msg: &ciphertext, aad: &authenticated(&header) })
        .map(Zeroizing::new)
        .map_err(|_| BackupError::Refused)?;
    if plain.len() != KEY_BYTES * header.key_ids.len() {
        return Err(BackupError::NotABackup);
    }
    let mut keys = KeyRing::default();
    for (id, bytes) in header.key_ids.iter().zip(plain.chunks(KEY_BYTES)) {
        let key = PrivateKey::from_bytes(bytes).map_err(|_| BackupError::NotABackup)?;
        let id = id.parse().map_err(|_| BackupError::NotABackup)?;
        keys.insert(id, Arc::new(key)).map_err(|_| BackupError::NotABackup)?;
    }
    Ok(keys)
}

/// The header as it is authenticated: always written the same way, whatever the file's layout.
fn authenticated(header: &Header) -> Vec<u8> {
    // Strings and numbers only: nothing in it can fail to be written.
    serde_json::to_vec(header).unwrap_or_default()
}

fn nonce_of(bytes: &[u8]) -> Result<Nonce, BackupError> {
    <[u8; NONCE_BYTES]>::try_from(bytes).map(Nonce::from).map_err(|_| BackupError::NotABackup)
}

fn cipher(cost: Cost, passphrase: &SecretValue, salt: &[u8]) -> Result<ChaCha20Poly1305, BackupError> {
    let params =
        Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(KEY_BYTES)).map_err(|_| BackupError::NotABackup)?;
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.expose(), salt, key.as_mut_slice())
        .map_err(|error| match error {
            argon2::Error::OutOfMemory => BackupError::System("memory"),
            _ => BackupError::NotABackup,
        })?;
    ChaCha20Poly1305::new_from_slice(key.as_slice()).map_err(|_| BackupError::NotABackup)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::stores::sealed::key::KeyId;

    /// Cheap: what is tested is the format, not the cost.
    const CHEAP: Cost = Cost { memory_kib: 64, passes: 1, lanes: 2 };

    fn keys() -> KeyRing {
        let mut keys = KeyRing::default();
        for second in [1_000, 2_000] {
            let key = PrivateKey::generate();
            let id = KeyId::new(jiff::Timestamp::from_second(second).unwrap(), &key.public());
            keys.insert(id, Arc::new(key)).unwrap();
        }
        keys
    }

    fn passphrase(text: &str) -> SecretValue {
        SecretValue::new(text.into())
    }

    fn error_of(text: &str, words: &str) -> BackupError {
        decode(text, &passphrase(words)).err().unwrap()
    }

    const RIGHT: &str = "correct horse battery";

    #[test]
    fn a_backup_gives_the_same_keys_back() {
        let keys = keys();
        let text = encode_at(CHEAP, &keys, &passphrase(RIGHT)).unwrap();
        assert_eq!(decode(&text, &passphrase(RIGHT)).ok().unwrap().public(), keys.public());
        // A file that was formatted anew is the same file.
        let compact = serde_json::from_str::<Value>(&text).unwrap().to_string();
        assert_eq!(decode(&compact, &passphrase(RIGHT)).ok().unwrap().public(), keys.public());
    }

    #[test]
    fn no_key_stands_in_it_and_no_two_are_alike() {
        let keys = keys();
        let [one, two] = [(); 2].map(|()| encode_at(CHEAP, &keys, &passphrase(RIGHT)).unwrap());
        for (id, key) in keys.iter() {
            assert!(one.contains(id.as_str()));
            assert!(!one.contains(STANDARD.encode(key.to_secret().expose()).trim_end_matches('=')));
        }
        let part = |text: &str, part: &str| serde_json::from_str::<Value>(text).unwrap()["header"][part].clone();
        assert_ne!(part(&one, "salt"), part(&two, "salt"));
        assert_ne!(part(&one, "nonce"), part(&two, "nonce"));
    }

    #[test]
    fn a_wrong_passphrase_opens_nothing() {
        let text = encode_at(CHEAP, &keys(), &passphrase(RIGHT)).unwrap();
        for wrong in ["", "correct horse batterz", "correct horse battery "] {
            assert_eq!(error_of(&text, wrong), BackupError::Refused, "{wrong}");
        }
    }

    #[test]
    fn a_cut_file_is_told_as_such() {
        let text = encode_at(CHEAP, &keys(), &passphrase(RIGHT)).unwrap();
        for length in [0, 1, text.len() / 2, text.trim_end().len() - 1] {
            assert_eq!(error_of(&text[..length], RIGHT), BackupError::NotABackup, "{length}");
        }
    }

    #[test]
    fn a_changed_header_or_ciphertext_does_not_open() {
        let file: Value = serde_json::from_str(&encode_at(CHEAP, &keys(), &passphrase(RIGHT)).unwrap()).unwrap();
        let other: Value = serde_json::from_str(&encode_at(CHEAP, &keys(), &passphrase(RIGHT)).unwrap()).unwrap();
        let ids = file["header"]["keyIds"].as_array().unwrap();
        let cases = [
            ("/header/format", json!("daypass-keys/v2"), BackupError::UnknownFormat),
            ("/header/format", json!(1), BackupError::NotABackup),
            ("/header/keyIds", json!([ids[1], ids[0]]), BackupError::Refused),
            ("/header/keyIds", json!([ids[0]]), BackupError::Refused),
            ("/header/keyIds", other["header"]["keyIds"].clone(), BackupError::Refused),
            ("/header/argon2idMemoryKib", json!(65), BackupError::Refused),
            ("/header/argon2idMemoryKib", json!(1), BackupError::NotABackup),
            ("/header/argon2idMemoryKib", json!(u32::MAX), BackupError::TooCostly),
            ("/header/argon2idPasses", json!(2), BackupError::Refused),
            ("/header/argon2idPasses", json!(1_000_000), BackupError::TooCostly),
            ("/header/argon2idLanes", json!(1), BackupError::Refused),
            ("/header/salt", other["header"]["salt"].clone(), BackupError::Refused),
            ("/header/salt", json!(""), BackupError::NotABackup),
            ("/header/nonce", other["header"]["nonce"].clone(), BackupError::Refused),
            ("/header/nonce", json!("AAAA"), BackupError::NotABackup),
            ("/ciphertext", other["ciphertext"].clone(), BackupError::Refused),
            ("/ciphertext", json!(""), BackupError::Refused),
        ];
        for (field, value, expected) in cases {
            let mut changed = file.clone();
            *changed.pointer_mut(field).unwrap() = value.clone();
            assert_eq!(error_of(&changed.to_string(), RIGHT), expected, "{field} = {value}");
        }
        let mut more = file.clone();
        more["header"]["note"] = json!("not authenticated");
        assert_eq!(error_of(&more.to_string(), RIGHT), BackupError::NotABackup);
        assert!(decode(&file.to_string(), &passphrase(RIGHT)).is_ok(), "the control must open");
    }

    #[test]
    fn there_must_be_keys_and_a_long_passphrase() {
        let short = "x".repeat(MIN_PASSPHRASE_BYTES - 1);
        assert_eq!(encode(&KeyRing::default(), &passphrase(RIGHT)), Err(BackupError::NoKeys));
        assert_eq!(encode(&keys(), &passphrase(&short)), Err(BackupError::WeakPassphrase));
    }
}
