//! Key pairs of the sealed store and the IDs that name them.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hpke::{Deserializable, Serializable};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use sha2::{Digest, Sha256};

use super::seal::Kem;
use crate::secret::SecretValue;

/// Length of a raw key, public or private, in bytes.
pub const KEY_BYTES: usize = 32;

/// The name of a key: the UTC time it was made, then the first 12 hex digits of the SHA-256 of its public half. So the
/// newest sorts last, and a name proves which key it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(String);

/// Why a key or its name cannot be used. Never holds a part of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not `<14 digits>-<12 hex digits>`.
    #[error("the name is not a key ID (14 digits, `-`, 12 hex digits)")]
    BadId,
    /// Not 32 bytes.
    #[error("a key has exactly 32 bytes")]
    BadLength,
    /// A public key that is not base64.
    #[error("a public key is written in base64")]
    BadBase64,
    /// The key is another one than its name says.
    #[error("the key is not the one that its ID names")]
    WrongId,
}

const TIME_DIGITS: usize = 14;
const HASH_DIGITS: usize = 12;

impl KeyId {
    /// The name of the key pair of `public` that was made at `at`.
    pub fn new(at: Timestamp, public: &PublicKey) -> Self {
        Self(format!("{}-{}", at.to_zoned(TimeZone::UTC).strftime("%Y%m%d%H%M%S"), fingerprint(public)))
    }

    /// Whether this name belongs to `public`.
    pub fn names(&self, public: &PublicKey) -> bool {
        self.0[TIME_DIGITS + 1..] == fingerprint(public)
    }

    /// The name as it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn fingerprint(public: &PublicKey) -> String {
    let digest = Sha256::digest(public.0);
    digest.iter().take(HASH_DIGITS / 2).fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

impl FromStr for KeyId {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let (time, hash) = text.split_once('-').ok_or(KeyError::BadId)?;
        let time_is_valid = time.len() == TIME_DIGITS && time.bytes().all(|b| b.is_ascii_digit());
        let hash_is_valid =
            hash.len() == HASH_DIGITS && hash.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if time_is_valid && hash_is_valid { Ok(Self(text.to_owned())) } else { Err(KeyError::BadId) }
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The half that values are sealed to. Anyone may know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey([u8; KEY_BYTES]);

impl PublicKey {
    /// Reads what [`PublicKey::to_base64`] wrote.
    pub fn from_base64(text: &str) -> Result<Self, KeyError> {
        let bytes = STANDARD.decode(text.trim()).map_err(|_| KeyError::BadBase64)?;
        bytes.try_into().map(Self).map_err(|_| KeyError::BadLength)
    }

    /// As the ConfigMap of public keys has it.
    pub fn to_base64(&self) -> String {
        STANDARD.encode(self.0)
    }

    pub(super) fn hpke(&self) -> Result<<Kem as hpke::Kem>::PublicKey, hpke::HpkeError> {
        <Kem as hpke::Kem>::PublicKey::from_bytes(&self.0)
    }
}

/// The half that opens. It cannot be printed; its memory is overwritten on drop, as far as that goes.
pub struct PrivateKey(<Kem as hpke::Kem>::PrivateKey);

impl PrivateKey {
    /// Makes a key from the system's random numbers.
    ///
    /// # Panics
    /// Where the system gives none: nothing that needs a key can go on then.
    pub fn generate() -> Self {
        Self(<Kem as hpke::Kem>::gen_keypair().0)
    }

    /// Takes a raw key of 32 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        <Kem as hpke::Kem>::PrivateKey::from_bytes(bytes).map(Self).map_err(|_| KeyError::BadLength)
    }

    /// The half that may be known.
    pub fn public(&self) -> PublicKey {
        PublicKey(<Kem as hpke::Kem>::sk_to_pk(&self.0).to_bytes().into())
    }

    /// The raw key, to be stored.
    pub fn to_secret(&self) -> SecretValue {
        let mut bytes = vec![0; KEY_BYTES];
        self.0.write_exact(&mut bytes);
        SecretValue::new(bytes)
    }

    pub(super) fn hpke(&self) -> &<Kem as hpke::Kem>::PrivateKey {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_bears_the_time_and_proves_the_key() {
        let public = PrivateKey::generate().public();
        let id = KeyId::new("2026-01-02T03:04:05.9Z".parse().unwrap(), &public);
        assert!(id.as_str().starts_with("20260102030405-"), "{id}");
        assert_eq!(id.as_str().parse::<KeyId>().unwrap(), id);
        assert!(id.names(&public));
        assert!(!id.names(&PrivateKey::generate().public()));
    }

    #[test]
    fn the_fingerprint_is_that_of_sha256() {
        // `head -c 32 /dev/zero | sha256sum` begins with this.
        assert_eq!(fingerprint(&PublicKey([0; 32])), "66687aadf862");
    }

    #[test]
    fn newer_ids_sort_last() {
        let public = PrivateKey::generate().public();
        let [old, new] =
            ["2026-09-30T00:00:00Z", "2026-10-01T00:00:00Z"].map(|t| KeyId::new(t.parse().unwrap(), &public));
        assert!(old < new);
    }

    #[test]
    fn other_names_are_no_ids() {
        for bad in [
            "",
            "key",
            "2026010203040-66687aadf862",
            "20260102030405-66687aadf86",
            "20260102030405-66687AADF862",
            "20260102030405_66687aadf862",
            "2026010203040x-66687aadf862",
            "20260102030405-66687aadf862.bak",
        ] {
            assert_eq!(bad.parse::<KeyId>(), Err(KeyError::BadId), "{bad}");
        }
    }

    #[test]
    fn keys_are_read_back_and_other_lengths_refused() {
        let key = PrivateKey::generate();
        let again = PrivateKey::from_bytes(key.to_secret().expose()).ok().unwrap();
        assert_eq!(again.public(), key.public());
        assert_eq!(PublicKey::from_base64(&key.public().to_base64()), Ok(key.public()));
        assert_eq!(PrivateKey::from_bytes(&[1; 31]).err(), Some(KeyError::BadLength));
        assert_eq!(PrivateKey::from_bytes(&[1; 33]).err(), Some(KeyError::BadLength));
        assert_eq!(PublicKey::from_base64("AAAA"), Err(KeyError::BadLength));
        assert_eq!(PublicKey::from_base64("?"), Err(KeyError::BadBase64));
    }
}
