//! `TeamSecret` objects as the tool writes them. Pure: sealing is handed in.

use kube::api::ObjectMeta;
use serde_json::{Value, json};

use super::error::{CliError, Result};
use crate::api::names::{DEFAULT_STORE, team_secret_object};
use crate::api::{API_VERSION, SealedVersion, TeamSecret, TeamSecretSpec};

/// How many versions a secret has at most.
pub const MAX_VERSIONS: usize = 8;

/// Whether the sealed store can have a secret of this name.
pub fn check_name(name: &str) -> Result<()> {
    let bytes = name.as_bytes();
    let good = (1..=128).contains(&bytes.len())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_')
        && !name.starts_with('_')
        && !name.ends_with('_');
    if good {
        return Ok(());
    }
    Err(CliError::usage(format!("`{name}` cannot be a secret's name"))
        .hint("a name has 1 to 128 letters, digits and `_`, and begins and ends with a letter or digit"))
}

/// The store and name of a secret, however it was written: `NAME`, `NAME` with a `--store`, or the access name
/// `STORE.NAME`, as refusals show it. A store may have names that the sealed one cannot, such as one that begins with `_`.
pub fn store_and_name<'a>(name: &'a str, store: Option<&'a str>) -> Result<(&'a str, &'a str)> {
    let (store, bare) = match (name.split_once('.'), store) {
        (Some((store, bare)), None) => (store, bare),
        (Some((prefix, bare)), Some(store)) if prefix == store => (store, bare),
        (_, store) => (store.unwrap_or(DEFAULT_STORE), name),
    };
    let good = (1..=128).contains(&bare.len()) && bare.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !good {
        return Err(CliError::usage(format!("`{name}` cannot be a secret's name"))
            .hint("a name has 1 to 128 letters, digits and `_`; another store than `default` is named with --store"));
    }
    if !is_label(store) {
        return Err(CliError::usage(format!("`{store}` cannot be a store's name")));
    }
    Ok((store, bare))
}

fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// A hint where a name is fine for a secret but for no variable.
pub fn variable_note(name: &str) -> Option<String> {
    name.starts_with(|c: char| c.is_ascii_digit())
        .then(|| format!("no variable can be called {name}: whoever uses it needs an `envVar` beside the name"))
}

/// A new secret with its first version. `seal` is given the version.
pub fn new_secret(namespace: &str, name: &str, seal: impl FnOnce(i64) -> Result<SealedVersion>) -> Result<TeamSecret> {
    let metadata = ObjectMeta {
        name: Some(team_secret_object(name)),
        namespace: Some(namespace.to_owned()),
        ..ObjectMeta::default()
    };
    let spec = TeamSecretSpec { name: name.to_owned(), versions: vec![seal(1)?] };
    Ok(TeamSecret { metadata, spec })
}

/// The versions after a rotation: the new one first; with `keep` as many older ones behind it as there is room for.
pub fn rotated(
    old: &[SealedVersion],
    keep: bool,
    seal: impl FnOnce(i64) -> Result<SealedVersion>,
) -> Result<Vec<SealedVersion>> {
    let newest = old.iter().map(|version| version.version).max().unwrap_or(0);
    let mut versions = vec![seal(newest + 1)?];
    if keep {
        versions.extend(old.iter().take(MAX_VERSIONS - 1).cloned());
    }
    Ok(versions)
}

/// The manifest for Git: what has to be said and no more. A new version in it bears no `by`, since whoever applies it is
/// not who sealed it; versions that stand stay as they stand, or the API server would refuse them.
pub fn manifest(namespace: &str, spec: &TeamSecretSpec) -> Value {
    json!({
        "apiVersion": API_VERSION,
        "kind": "TeamSecret",
        "metadata": {"name": team_secret_object(&spec.name), "namespace": namespace},
        "spec": spec,
    })
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A version that is told by its number.
    pub fn version(version: i64) -> SealedVersion {
        SealedVersion {
            version,
            key_id: "20260301120000-0123456789ab".into(),
            enc: format!("enc{version}"),
            ciphertext: format!("text{version}"),
            by: Some("amy".into()),
        }
    }

    fn numbers(versions: &[SealedVersion]) -> Vec<i64> {
        versions.iter().map(|version| version.version).collect()
    }

    #[test]
    fn a_name_is_what_the_kind_admits() {
        for name in ["A", "HF_TOKEN", "2CAPTCHA_KEY", "a__b", &"x".repeat(128)] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in ["", "_A", "A_", "A-B", "A.B", "\u{e4}", &"x".repeat(129)] {
            assert!(check_name(name).is_err(), "{name}");
        }
        assert!(variable_note("2CAPTCHA_KEY").is_some());
        assert!(variable_note("HF_TOKEN").is_none());
    }

    #[test]
    fn a_secret_may_be_written_as_refusals_show_it() {
        for (name, store, expected) in [
            ("X", None, ("default", "X")),
            ("X", Some("vault"), ("vault", "X")),
            ("vault.X", None, ("vault", "X")),
            ("vault.X", Some("vault"), ("vault", "X")),
            ("_X_", Some("vault"), ("vault", "_X_")),
        ] {
            assert_eq!(store_and_name(name, store).unwrap(), expected);
        }
        for (name, store) in [("", None), ("a b", None), ("a.b.c", None), ("vault.X", Some("aws")), ("X", Some("A"))] {
            assert!(store_and_name(name, store).is_err(), "{name} {store:?}");
        }
    }

    #[test]
    fn a_new_secret_begins_with_version_1_under_the_derived_name() {
        let secret = new_secret("ml", "HF_TOKEN", |number| Ok(version(number))).unwrap();
        assert_eq!(secret.metadata.name.as_deref(), Some("hf-token"));
        assert_eq!(secret.metadata.namespace.as_deref(), Some("ml"));
        assert_eq!(secret.spec.name, "HF_TOKEN");
        assert_eq!(numbers(&secret.spec.versions), [1]);
    }

    #[test]
    fn a_rotation_replaces_and_keeps_only_when_told() {
        let old = [version(4), version(2)];
        assert_eq!(numbers(&rotated(&old, false, |number| Ok(version(number))).unwrap()), [5]);
        assert_eq!(numbers(&rotated(&old, true, |number| Ok(version(number))).unwrap()), [5, 4, 2]);
        let full: Vec<_> = (1..=8).rev().map(version).collect();
        let kept = rotated(&full, true, |number| Ok(version(number))).unwrap();
        assert_eq!(numbers(&kept), [9, 8, 7, 6, 5, 4, 3, 2]);
        assert_eq!(kept[1], full[0]);
    }

    #[test]
    fn a_manifest_for_git_holds_the_spec_and_where_it_belongs() {
        let mut first = version(2);
        first.by = None;
        let spec = TeamSecretSpec { name: "HF_TOKEN".into(), versions: vec![first, version(1)] };
        let manifest = manifest("ml", &spec);
        assert_eq!(manifest["metadata"], json!({"name": "hf-token", "namespace": "ml"}));
        assert_eq!(manifest["apiVersion"], "daypass.dev/v1alpha1");
        assert_eq!(manifest["kind"], "TeamSecret");
        assert!(manifest["spec"]["versions"][0].get("by").is_none());
        assert_eq!(serde_json::from_value::<TeamSecretSpec>(manifest["spec"].clone()).unwrap(), spec);
    }
}
