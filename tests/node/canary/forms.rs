//! A value that nobody else has, and the forms in which it could leak.

use std::fmt::Write as _;
use std::io::Read as _;

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

/// A value to look for.
pub struct Canary {
    text: String,
    forms: Vec<(&'static str, Vec<u8>)>,
}

impl Canary {
    /// A new value, with characters that look different in each form.
    pub fn new() -> Result<Self> {
        let mut random = [0; 12];
        std::fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
        Ok(Self::of(format!("canary-{}\"/+&=%\\>-{}", hexadecimal(&random[..6]), hexadecimal(&random[6..]))))
    }

    fn of(text: String) -> Self {
        let value = text.as_bytes();
        let quoted = |text: &str| text.as_bytes()[1..text.len() - 1].to_vec();
        let mut forms = vec![
            ("plain", value.to_vec()),
            ("hexadecimal", hexadecimal(value).into_bytes()),
            ("hexadecimal-upper", hexadecimal(value).to_uppercase().into_bytes()),
            ("url", percent(value, false)),
            ("url-lower", percent(value, true)),
            ("json", quoted(&serde_json::Value::from(text.clone()).to_string())),
            ("debug", quoted(&format!("{text:?}"))),
            ("debug-bytes", quoted(&format!("{value:?}"))),
        ];
        for (engine, names) in [
            (&STANDARD, ["base64-0", "base64-1", "base64-2"]),
            (&URL_SAFE, ["base64url-0", "base64url-1", "base64url-2"]),
        ] {
            for (before, name) in names.into_iter().enumerate() {
                forms.push((name, inside_base64(engine, value, before)));
            }
        }
        Self { text, forms }
    }

    /// The value.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The value.
    pub fn value(&self) -> &[u8] {
        self.text.as_bytes()
    }

    /// All forms with their names.
    pub fn forms(&self) -> &[(&'static str, Vec<u8>)] {
        &self.forms
    }

    /// The forms that a content has.
    pub fn find(&self, content: &[u8]) -> Vec<&'static str> {
        self.forms.iter().filter(|(_, form)| contains(content, form)).map(|(name, _)| *name).collect()
    }
}

fn contains(content: &[u8], form: &[u8]) -> bool {
    let (first, rest) = (form[0], &form[1..]);
    let mut from = content;
    while let Some(at) = from.iter().position(|&byte| byte == first) {
        from = &from[at + 1..];
        if from.starts_with(rest) {
            return true;
        }
    }
    false
}

/// The characters that only the value decides, where it stands `before` bytes (modulo 3) inside of something longer.
fn inside_base64(engine: &impl base64::Engine, value: &[u8], before: usize) -> Vec<u8> {
    let longer = [&vec![0; before], value].concat();
    let text = engine.encode(&longer);
    let start = [0, 2, 3][before];
    let end = longer.len() / 3 * 4;
    text.as_bytes()[start..end].to_vec()
}

fn percent(value: &[u8], lower: bool) -> Vec<u8> {
    let mut text = String::new();
    for &byte in value {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else if lower {
            write!(text, "%{byte:02x}").unwrap();
        } else {
            write!(text, "%{byte:02X}").unwrap();
        }
    }
    text.into_bytes()
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

#[test]
fn every_form_is_found_inside_of_more() {
    let canary = Canary::of("a \"b\"/+ c%".into());
    for around in ["", "x", "xy", "xyz"] {
        let whole = [around.as_bytes(), canary.value(), around.as_bytes()].concat();
        let encoded = STANDARD.encode(&whole);
        let found = canary.find(encoded.as_bytes());
        assert!(found.iter().any(|form| form.starts_with("base64-")), "{around}: {found:?}");
    }
    assert!(canary.find(br#"{"x":"a \"b\"/+ c%"}"#).contains(&"json"));
    assert!(canary.find(b"?q=a%20%22b%22%2F%2B%20c%25").contains(&"url"));
    assert!(canary.find(b"b: [97, 32, 34, 98, 34, 47, 43, 32, 99, 37]").contains(&"debug-bytes"));
    assert!(canary.find(b"a \"b\"/+ c").is_empty(), "most of it is not it");
}
