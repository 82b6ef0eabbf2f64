//! A Google service account's key file: it signs a statement, which Google trades for a token.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use serde::Deserialize;
use serde_json::json;
use zeroize::Zeroizing;

use crate::secret::SecretValue;
use crate::stores::StoreError;
use crate::stores::answered::Text;
use crate::stores::bearer::refused;

/// The one place that a statement is made for. A file that names another is refused: whoever wrote it would get the
/// statements.
const TOKEN_URI: &str = "https://oauth2.googleapis.com/token";
/// How long a statement holds, in seconds.
const LIFE: i64 = 600;

/// A key file that was read.
pub(super) struct KeyFile {
    email: String,
    key_id: String,
    key: RsaKeyPair,
}

impl KeyFile {
    /// Reads the JSON that Google gives out.
    pub(super) fn read(file: &SecretValue) -> Result<Self, StoreError> {
        let wrong =
            |what: &str| refused(format!("the team secret that the store signs in with is no key file: {what}"));
        let written: Written =
            serde_json::from_slice(file.expose()).map_err(|_| wrong("it is not the JSON that Google gives out"))?;
        if written.kind != "service_account" {
            return Err(wrong("its type is not service_account"));
        }
        if written.token_uri.is_some_and(|uri| uri != TOKEN_URI) {
            return Err(wrong("its token_uri is another than https://oauth2.googleapis.com/token"));
        }
        let der = der(&written.private_key.0).ok_or_else(|| wrong("its private_key is no PEM of a PRIVATE KEY"))?;
        let key =
            RsaKeyPair::from_pkcs8(&der).map_err(|_| wrong("its private_key is no RSA key of 2048 bits or more"))?;
        Ok(Self { email: written.client_email, key_id: written.private_key_id, key })
    }

    /// A signed statement (RFC 7523) that its bearer may have a token for `scope`.
    pub(super) fn assertion(&self, scope: &str, now: i64) -> Result<SecretValue, StoreError> {
        let header = json!({"alg": "RS256", "typ": "JWT", "kid": self.key_id});
        let claims =
            json!({"iss": self.email, "scope": scope, "aud": TOKEN_URI, "iat": now, "exp": now.saturating_add(LIFE)});
        let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(header), part(claims));
        let mut signature = vec![0; self.key.public().modulus_len()];
        self.key
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
            .map_err(|_| refused("the key file's key does not sign"))?;
        Ok(SecretValue::new(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)).into_bytes()))
    }
}

/// The bytes within the PEM.
fn der(pem: &SecretValue) -> Option<Zeroizing<Vec<u8>>> {
    let text = std::str::from_utf8(pem.expose()).ok()?.trim();
    let body = text.strip_prefix("-----BEGIN PRIVATE KEY-----")?.strip_suffix("-----END PRIVATE KEY-----")?;
    let mut bare = Zeroizing::new(String::with_capacity(body.len()));
    bare.extend(body.chars().filter(|c| !c.is_ascii_whitespace()));
    STANDARD.decode(bare.as_bytes()).ok().map(Zeroizing::new)
}

#[derive(Deserialize)]
struct Written {
    #[serde(rename = "type")]
    kind: String,
    client_email: String,
    #[serde(default)]
    private_key_id: String,
    private_key: Text,
    token_uri: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(file: &str) -> String {
        KeyFile::read(&SecretValue::new(file.into())).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn what_is_no_key_file_is_refused_without_a_word_of_it() {
        let pem = "-----BEGIN PRIVATE KEY-----\\nc2VjcmV0LWJ5dGVz\\n-----END PRIVATE KEY-----\\n";
        let file = |kind: &str, uri: &str, key: &str| {
            format!(r#"{{"type":"{kind}","client_email":"a@b","private_key":"{key}","token_uri":"{uri}"}}"#)
        };
        for (file, wrong) in [
            ("secret-bytes".to_owned(), "not the JSON"),
            (file("authorized_user", TOKEN_URI, pem), "type"),
            (file("service_account", "https://evil.example.com/secret-bytes", pem), "token_uri"),
            (file("service_account", TOKEN_URI, "secret-bytes"), "no PEM"),
            (file("service_account", TOKEN_URI, pem), "no RSA key"),
        ] {
            let why = why(&file);
            assert!(why.contains(wrong) && !why.contains("secret-bytes") && !why.contains("evil"), "{why}");
        }
    }
}
