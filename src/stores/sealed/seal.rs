//! Sealing one value to a public key, and opening it: HPKE (RFC 9180), base mode, X25519-HKDF-SHA256, HKDF-SHA256,
//! ChaCha20-Poly1305.
//!
//! What the value belongs to is bound as associated data, so a ciphertext that is moved to another namespace, name,
//! version or key does not open. Base mode does not say who sealed: that is for Kubernetes' RBAC and audit log.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hpke::{Deserializable, OpModeR, OpModeS, Serializable};

use super::key::{KeyId, PrivateKey, PublicKey};
use crate::api::{GROUP, SealedVersion};
use crate::secret::SecretValue;

pub(super) type Kem = hpke::kem::X25519HkdfSha256;
type Kdf = hpke::kdf::HkdfSha256;
type Aead = hpke::aead::ChaCha20Poly1305;

/// The longest value that can be sealed, in bytes.
pub const MAX_VALUE_BYTES: usize = 64 * 1024;

/// Tells this use of a key from any other, and this encoding from a later one.
const INFO: &[u8] = b"daypass.dev/sealed/v1";

/// What a sealed value belongs to.
#[derive(Clone, Copy, Debug)]
pub struct Binding<'a> {
    /// The team: the namespace of the `TeamSecret`.
    pub namespace: &'a str,
    /// The secret's name, as `spec.name` has it.
    pub name: &'a str,
    /// The version, as `spec.versions[].version` has it.
    pub version: i64,
}

impl Binding<'_> {
    /// Every part with its length before it, so that no two bindings read the same.
    fn associated_data(&self, key_id: &str) -> Vec<u8> {
        let version = self.version.to_string();
        let mut data = Vec::new();
        for part in [GROUP, "TeamSecret", self.namespace, self.name, &version, key_id] {
            data.extend_from_slice(&(part.len() as u64).to_be_bytes());
            data.extend_from_slice(part.as_bytes());
        }
        data
    }
}

/// Why a value cannot be sealed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// No bytes at all.
    #[error("the value is empty: a secret has at least 1 byte")]
    Empty,
    /// More than [`MAX_VALUE_BYTES`].
    #[error("the value is too long: a secret has at most 65536 bytes (64 KiB)")]
    TooLong,
    /// The public key is not usable.
    #[error("the public key `{0}` cannot be sealed to")]
    BadKey(KeyId),
}

/// Why a sealed value does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Not base64, or too short or long to be a sealed value.
    #[error("the entry is not a sealed value")]
    Malformed,
    /// Changed, or moved from another namespace, name, version or key.
    #[error("the value does not open: it was changed, or sealed for another namespace, name, version or key")]
    Refused,
}

/// Seals `value` for `binding` to the key `id`.
pub fn seal(
    id: &KeyId,
    public: &PublicKey,
    binding: &Binding<'_>,
    value: &SecretValue,
) -> Result<SealedVersion, SealError> {
    match value.expose().len() {
        0 => return Err(SealError::Empty),
        1..=MAX_VALUE_BYTES => {}
        _ => return Err(SealError::TooLong),
    }
    let bad_key = |_| SealError::BadKey(id.clone());
    let (enc, ciphertext) = hpke::single_shot_seal::<Aead, Kdf, Kem>(
        &OpModeS::Base,
        &public.hpke().map_err(bad_key)?,
        INFO,
        value.expose(),
        &binding.associated_data(id.as_str()),
    )
    .map_err(bad_key)?;
    Ok(SealedVersion {
        version: binding.version,
        key_id: id.to_string(),
        enc: STANDARD.encode(enc.to_bytes()),
        ciphertext: STANDARD.encode(ciphertext),
        by: None,
    })
}

/// Opens `sealed`, which must belong to this namespace and name. `private` is the key that `sealed.key_id` names.
pub fn open(
    private: &PrivateKey,
    namespace: &str,
    name: &str,
    sealed: &SealedVersion,
) -> Result<SecretValue, OpenError> {
    let enc = STANDARD.decode(&sealed.enc).map_err(|_| OpenError::Malformed)?;
    let ciphertext = STANDARD.decode(&sealed.ciphertext).map_err(|_| OpenError::Malformed)?;
    let binding = Binding { namespace, name, version: sealed.version };
    let value = open_raw(private, &enc, INFO, &binding.associated_data(&sealed.key_id), &ciphertext)?;
    match value.expose().len() {
        1..=MAX_VALUE_BYTES => Ok(value),
        _ => Err(OpenError::Malformed),
    }
}

fn open_raw(
    private: &PrivateKey,
    enc: &[u8],
    info: &[u8],
    associated_data: &[u8],
    ciphertext: &[u8],
) -> Result<SecretValue, OpenError> {
    let enc = <Kem as hpke::Kem>::EncappedKey::from_bytes(enc).map_err(|_| OpenError::Malformed)?;
    hpke::single_shot_open::<Aead, Kdf, Kem>(&OpModeR::Base, private.hpke(), &enc, info, ciphertext, associated_data)
        .map(SecretValue::new)
        .map_err(|_| OpenError::Refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEAM: &str = "ml-team";
    const NAME: &str = "HF_TOKEN";

    fn key() -> (KeyId, PrivateKey) {
        let private = PrivateKey::generate();
        (KeyId::new("2026-01-02T03:04:05Z".parse().unwrap(), &private.public()), private)
    }

    fn sealed_of(id: &KeyId, private: &PrivateKey, value: &[u8]) -> SealedVersion {
        let binding = Binding { namespace: TEAM, name: NAME, version: 3 };
        seal(id, &private.public(), &binding, &SecretValue::new(value.to_vec())).unwrap()
    }

    fn unhex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
    }

    /// RFC 9180, appendix A.2.1 (base mode) and A.2.1.1 (sequence number 0).
    #[test]
    fn the_suite_is_that_of_the_rfc() {
        let private =
            PrivateKey::from_bytes(&unhex("8057991eef8f1f1af18f4a9491d16a1ce333f695d4db8e38da75975c4478e0fb"));
        let value = open_raw(
            &private.ok().unwrap(),
            &unhex("1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a"),
            &unhex("4f6465206f6e2061204772656369616e2055726e"),
            &unhex("436f756e742d30"),
            &unhex("1c5250d8034ec2b784ba2cfd69dbdb8af406cfe3ff938e131f0def8c8b60b4db21993c62ce81883d2dd1b51a28"),
        );
        assert_eq!(value.ok().unwrap().expose(), b"Beauty is truth, truth beauty");
    }

    #[test]
    fn a_sealed_value_opens_and_never_looks_the_same_twice() {
        let (id, private) = key();
        let one = sealed_of(&id, &private, b"value");
        assert_eq!(open(&private, TEAM, NAME, &one).ok().unwrap().expose(), b"value");
        let two = sealed_of(&id, &private, b"value");
        assert_ne!(one.enc, two.enc);
        assert_ne!(one.ciphertext, two.ciphertext);
    }

    #[test]
    fn a_ciphertext_opens_at_its_own_place_only() {
        let (id, private) = key();
        let sealed = sealed_of(&id, &private, b"value");
        let refused = |namespace, name, sealed: &SealedVersion| {
            assert_eq!(open(&private, namespace, name, sealed).err(), Some(OpenError::Refused));
        };
        refused("other-team", NAME, &sealed);
        refused(TEAM, "HF_TOKEN_2", &sealed);
        refused(TEAM, "hf_token", &sealed);
        // Parts that read the same when they are joined.
        refused("ml-teamHF", "_TOKEN", &sealed);
        refused(TEAM, NAME, &SealedVersion { version: 4, ..sealed.clone() });
        refused(TEAM, NAME, &SealedVersion { version: -3, ..sealed.clone() });
        refused(TEAM, NAME, &SealedVersion { key_id: key().0.to_string(), ..sealed.clone() });
        assert!(open(&key().1, TEAM, NAME, &sealed).is_err(), "another key opened it");
        assert!(open(&private, TEAM, NAME, &sealed).is_ok(), "the control must open");
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let (id, private) = key();
        let sealed = sealed_of(&id, &private, b"value");
        // The top bit too: X25519 itself would leave that of the last byte out.
        let flipped = |text: &str, at: usize| {
            let mut bytes = STANDARD.decode(text).unwrap();
            bytes[at] ^= 0x80;
            STANDARD.encode(bytes)
        };
        for at in 0..32 {
            let changed = SealedVersion { enc: flipped(&sealed.enc, at), ..sealed.clone() };
            assert_eq!(open(&private, TEAM, NAME, &changed).err(), Some(OpenError::Refused), "enc byte {at}");
        }
        // 5 bytes of ciphertext, then 16 of the tag.
        for at in 0..21 {
            let changed = SealedVersion { ciphertext: flipped(&sealed.ciphertext, at), ..sealed.clone() };
            assert_eq!(open(&private, TEAM, NAME, &changed).err(), Some(OpenError::Refused), "ciphertext byte {at}");
        }
    }

    #[test]
    fn cut_swapped_and_foreign_text_is_refused() {
        let (id, private) = key();
        let (one, two) = (sealed_of(&id, &private, b"value"), sealed_of(&id, &private, b"value"));
        let cases = [
            (SealedVersion { enc: two.enc, ..one.clone() }, OpenError::Refused),
            (SealedVersion { ciphertext: two.ciphertext, ..one.clone() }, OpenError::Refused),
            (SealedVersion { ciphertext: STANDARD.encode([7; 20]), ..one.clone() }, OpenError::Refused),
            (SealedVersion { ciphertext: STANDARD.encode([7; 15]), ..one.clone() }, OpenError::Refused),
            (SealedVersion { ciphertext: String::new(), ..one.clone() }, OpenError::Refused),
            // The all-zero point of X25519: its shared secret is known to everyone.
            (SealedVersion { enc: STANDARD.encode([0; 32]), ..one.clone() }, OpenError::Refused),
            (SealedVersion { enc: STANDARD.encode([7; 31]), ..one.clone() }, OpenError::Malformed),
            (SealedVersion { enc: "not base64".into(), ..one.clone() }, OpenError::Malformed),
            (SealedVersion { ciphertext: format!("{}\n", one.ciphertext), ..one }, OpenError::Malformed),
        ];
        for (sealed, expected) in cases {
            assert_eq!(open(&private, TEAM, NAME, &sealed).err(), Some(expected), "{sealed:?}");
        }
    }

    #[test]
    fn a_value_has_1_byte_to_64_kib() {
        let (id, private) = key();
        let binding = Binding { namespace: TEAM, name: NAME, version: 1 };
        let sealed = |length: usize| seal(&id, &private.public(), &binding, &SecretValue::new(vec![7; length]));
        assert_eq!(sealed(0), Err(SealError::Empty));
        assert_eq!(sealed(MAX_VALUE_BYTES + 1), Err(SealError::TooLong));
        for length in [1, MAX_VALUE_BYTES] {
            let value = open(&private, TEAM, NAME, &sealed(length).unwrap());
            assert_eq!(value.ok().unwrap().expose().len(), length);
        }
        // The bounds of the kind leave room for the longest.
        assert!(sealed(MAX_VALUE_BYTES).unwrap().ciphertext.len() <= 90_000);
    }
}
