//! The operator's private keys: adding one, backing them up, bringing them back. A cluster admin's work.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Api;
use kube::api::{ObjectMeta, PartialObjectMeta, Patch, PatchParams};
use serde_json::json;
use zeroize::{Zeroize, Zeroizing};

use super::Session;
use super::args::KeyCommand;
use super::ask::{Ask, confirm};
use super::connect::Cluster;
use super::error::{CliError, Needs, Result, api_error, is_conflict, is_not_found};
use super::value::read_file;
use crate::secret::SecretValue;
use crate::stores::sealed::backup::{MIN_PASSPHRASE_BYTES, decode, encode};
use crate::stores::sealed::key::{KeyId, PrivateKey};
use crate::stores::sealed::key_life::{KEYS_SECRET, KEYS_SECRET_TYPE, PUBLIC_KEYS};
use crate::stores::sealed::keyring::KeyRing;

/// More than any backup has: 64 keys take 8 KiB.
const MAX_BACKUP: usize = 1024 * 1024;
const MAX_PASSPHRASE: usize = 4096;

/// `key ...`.
pub async fn run(session: &mut Session, command: &KeyCommand) -> Result<()> {
    match command {
        KeyCommand::Add { yes } => add(session, *yes).await,
        KeyCommand::Backup { file, passphrase_file } => backup(session, file, passphrase_file.as_deref()).await,
        KeyCommand::Restore { file, passphrase_file } => restore(session, file, passphrase_file.as_deref()).await,
    }
}

async fn add(session: &mut Session, yes: bool) -> Result<()> {
    let cluster = session.cluster().await?;
    let stored = stored(&cluster).await?.unwrap_or_default();
    let listed = listed(&cluster).await?;
    let lost = lost(&listed, &stored);
    if !lost.is_empty() {
        session.out.note(&format!(
            "The Secret {KEYS_SECRET} lacks keys that the operator has listed: {}.\nA backup brings them back: `daypass key \
             restore FILE`. Without them what is sealed to them never opens again, and has to be set anew.\nWhere the chart's \
             `keys.volume` takes the keys from elsewhere, this is no loss: answer no, and add the new key there.",
            lost.join(", ")
        ));
        confirm(session.ask.as_mut(), yes, "Give these keys up and start anew?")?;
    }
    let private = PrivateKey::generate();
    let id = KeyId::new(Timestamp::now(), &private.public());
    write(&cluster, &[(id.to_string(), private.to_secret())]).await?;
    if !lost.is_empty() {
        give_up(&cluster, &lost).await?;
    }
    session.out.done(
        &json!({"key": id.as_str(), "givenUp": lost}),
        &format!(
            "Added key {id}. Values are sealed to it once the operator lists it, which takes about 2 minutes.\nOlder keys stay \
             for what is sealed to them: `daypass secret list` marks it.\nMake a new backup: `daypass key backup FILE`."
        ),
    )
}

async fn backup(session: &mut Session, file: &Path, passphrase_file: Option<&Path>) -> Result<()> {
    // Before anything is asked: a passphrase typed twice for nothing is a nuisance.
    if file.exists() {
        return Err(CliError::conflict(format!("{} is there already: a backup never replaces a file", file.display())));
    }
    let cluster = session.cluster().await?;
    let namespace = cluster.system_namespace.clone();
    let Some(stored) = stored(&cluster).await? else {
        return Err(CliError::not_found(format!("there is no Secret {KEYS_SECRET} in {namespace}")).hint(
            "where the chart's `keys.volume` takes the keys from elsewhere, back them up there; another namespace is named with \
             --system-namespace",
        ));
    };
    let (keys, bad) = keyring(&stored);
    for problem in bad {
        session.out.note(&format!("Left out: {problem}"));
    }
    let passphrase = passphrase(session.ask.as_mut(), passphrase_file, true)?;
    let text = encode(&keys, &passphrase).map_err(|error| CliError::failure(error.to_string()))?;
    let unwritable =
        |error: std::io::Error| CliError::failure(format!("{} cannot be written: {error}", file.display()));
    let mut made =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file).map_err(unwritable)?;
    made.write_all(text.as_bytes()).and_then(|()| made.sync_all()).map_err(|error| {
        // Half a backup looks like one.
        let _ = std::fs::remove_file(file);
        unwritable(error)
    })?;
    let ids: Vec<String> = keys.ids().map(ToString::to_string).collect();
    session.out.done(
        &json!({"file": file, "keys": ids}),
        &format!(
            "Wrote {} to {}. It opens with the passphrase only: keep both, and not in one place.",
            super::look::count(ids.len(), "key"),
            file.display()
        ),
    )
}

async fn restore(session: &mut Session, file: &Path, passphrase_file: Option<&Path>) -> Result<()> {
    let text = read_file(file, MAX_BACKUP)?;
    let text = std::str::from_utf8(text.expose())
        .map_err(|_| CliError::usage(format!("{} is not a backup of Daypass keys", file.display())))?;
    let cluster = session.cluster().await?;
    let stored = stored(&cluster).await?.unwrap_or_default();
    let passphrase = passphrase(session.ask.as_mut(), passphrase_file, false)?;
    let keys = decode(text, &passphrase).map_err(|error| CliError::usage(format!("{}: {error}", file.display())))?;
    let (present, _) = keyring(&stored);
    // An entry that is not the key that its name says opens nothing: it counts as missing.
    let missing: Vec<(String, SecretValue)> = keys
        .iter()
        .filter(|(id, _)| present.get(id.as_str()).is_none())
        .map(|(id, key)| (id.to_string(), key.to_secret()))
        .collect();
    let ids: Vec<&str> = missing.iter().map(|(id, _)| id.as_str()).collect();
    if !missing.is_empty() {
        write(&cluster, &missing).await?;
    }
    let namespace = &cluster.system_namespace;
    let sentence = if ids.is_empty() {
        format!("Every key of the backup is in the Secret {KEYS_SECRET} of {namespace}: nothing was changed.")
    } else {
        format!(
            "Brought back into the Secret {KEYS_SECRET} of {namespace}: {}.\nThe operator uses them once its volume shows them, \
             which takes about 2 minutes.",
            ids.join(", ")
        )
    };
    session
        .out
        .done(&json!({"restored": ids, "present": present.ids().map(KeyId::as_str).collect::<Vec<_>>()}), &sentence)
}

/// What the Secret holds, by key ID. Its memory is overwritten on drop.
type Stored = BTreeMap<String, Zeroizing<Vec<u8>>>;

/// Reads the Secret.
async fn stored(cluster: &Cluster) -> Result<Option<Stored>> {
    let namespace = &cluster.system_namespace;
    let secret =
        Api::<Secret>::namespaced(cluster.client.clone(), namespace).get_opt(KEYS_SECRET).await.map_err(|error| {
            api_error(&format!("read the Secret {KEYS_SECRET} in {namespace}"), Needs::ClusterAdmin, &error)
        })?;
    Ok(secret.map(|secret| {
        let data = secret.data.unwrap_or_default();
        data.into_iter().map(|(id, ByteString(bytes))| (id, Zeroizing::new(bytes))).collect()
    }))
}

/// The IDs that the operator has listed.
async fn listed(cluster: &Cluster) -> Result<BTreeSet<String>> {
    let map = config_maps(cluster)
        .get_opt(PUBLIC_KEYS)
        .await
        .map_err(|error| api_error("read the public keys", Needs::ClusterAdmin, &error))?;
    Ok(map.and_then(|map| map.data).unwrap_or_default().into_keys().collect())
}

fn config_maps(cluster: &Cluster) -> Api<ConfigMap> {
    Api::namespaced(cluster.client.clone(), &cluster.system_namespace)
}

/// The listed keys that the Secret does not hold.
fn lost(listed: &BTreeSet<String>, stored: &Stored) -> Vec<String> {
    let (keys, _) = keyring(stored);
    listed.iter().filter(|id| keys.get(id).is_none()).cloned().collect()
}

/// The entries that are the keys that their names say, and what is wrong with the others.
fn keyring(stored: &Stored) -> (KeyRing, Vec<String>) {
    let mut keys = KeyRing::default();
    let mut bad = Vec::new();
    for (name, bytes) in stored {
        let added = name
            .parse()
            .and_then(|id| PrivateKey::from_bytes(bytes).map(|key| (id, key)))
            .and_then(|(id, key)| keys.insert(id, Arc::new(key)));
        if let Err(error) = added {
            bad.push(format!("{name}: {error}"));
        }
    }
    (keys, bad)
}

/// Writes entries beside those that are there; makes the Secret where it is not.
async fn write(cluster: &Cluster, entries: &[(String, SecretValue)]) -> Result<()> {
    let namespace = &cluster.system_namespace;
    let failed = |error: &kube::Error| {
        api_error(&format!("write the Secret {KEYS_SECRET} in {namespace}"), Needs::ClusterAdmin, error)
    };
    let mut data = serde_json::Map::new();
    for (id, key) in entries {
        data.insert(id.clone(), STANDARD.encode(key.expose()).into());
    }
    let secrets = Api::<Secret>::namespaced(cluster.client.clone(), namespace);
    let mut patch = json!({ "data": data });
    // The answer bears metadata only.
    let patched = secrets.patch_metadata(KEYS_SECRET, &PatchParams::default(), &Patch::Merge(&patch)).await;
    let result = match patched {
        Err(error) if is_not_found(&error) => match create(cluster, &patch["data"]).await {
            // The operator's first start was faster.
            Err(error) if is_conflict(&error) => secrets
                .patch_metadata(KEYS_SECRET, &PatchParams::default(), &Patch::Merge(&patch))
                .await
                .map(drop)
                .map_err(|error| failed(&error)),
            other => other.map_err(|error| failed(&error)),
        },
        other => other.map(drop).map_err(|error| failed(&error)),
    };
    for value in patch["data"].as_object_mut().into_iter().flatten().map(|(_, value)| value) {
        if let serde_json::Value::String(text) = value {
            text.zeroize();
        }
    }
    result
}

async fn create(cluster: &Cluster, data: &serde_json::Value) -> Result<(), kube::Error> {
    let namespace = &cluster.system_namespace;
    let metadata = ObjectMeta {
        name: Some(KEYS_SECRET.into()),
        labels: Some([("app.kubernetes.io/managed-by".to_owned(), "daypass".to_owned())].into()),
        ..ObjectMeta::default()
    };
    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": KEYS_SECRET_TYPE, "data": data});
    let request = http::Request::post(format!("/api/v1/namespaces/{namespace}/secrets"))
        .header(http::header::CONTENT_TYPE, "application/json")
        .header(http::header::ACCEPT, "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1")
        .body(secret.to_string().into_bytes())
        .map_err(kube::Error::HttpError)?;
    cluster.client.request::<PartialObjectMeta<Secret>>(request).await.map(drop)
}

/// Takes lost keys from the list, so that the operator waits for them no longer.
async fn give_up(cluster: &Cluster, lost: &[String]) -> Result<()> {
    let data: BTreeMap<&str, Option<()>> = lost.iter().map(|id| (id.as_str(), None)).collect();
    config_maps(cluster)
        .patch(PUBLIC_KEYS, &PatchParams::default(), &Patch::Merge(json!({ "data": data })))
        .await
        .map(drop)
        .map_err(|error| {
            api_error(&format!("take lost keys from the ConfigMap {PUBLIC_KEYS}"), Needs::ClusterAdmin, &error)
        })
}

/// Reads the passphrase: a file's first line, or typed; twice where it is a new one.
fn passphrase(ask: &mut dyn Ask, file: Option<&Path>, new: bool) -> Result<SecretValue> {
    let passphrase = match file {
        Some(path) => {
            let text = read_file(path, MAX_PASSPHRASE)?;
            let line = text.expose().split(|byte| *byte == b'\n').next().unwrap_or_default();
            SecretValue::new(line.strip_suffix(b"\r").unwrap_or(line).to_vec())
        }
        None if !ask.is_terminal() => {
            return Err(CliError::usage("there is no terminal to type the passphrase at")
                .hint("give it in a file with --passphrase-file"));
        }
        None => {
            let typed = ask.hidden("Passphrase (not shown): ")?;
            if new && typed.expose().len() >= MIN_PASSPHRASE_BYTES {
                let again = ask.hidden("The same again: ")?;
                if typed.expose() != again.expose() {
                    return Err(CliError::usage("the two passphrases differ: nothing was written"));
                }
            }
            typed
        }
    };
    if new && passphrase.expose().len() < MIN_PASSPHRASE_BYTES {
        return Err(CliError::usage(format!(
            "the passphrase needs at least {MIN_PASSPHRASE_BYTES} characters: it guards every sealed secret of the cluster"
        )));
    }
    Ok(passphrase)
}

#[cfg(test)]
mod tests {
    use super::super::ask::tests::Script;
    use super::*;

    fn entry(at: &str) -> (String, Zeroizing<Vec<u8>>) {
        let private = PrivateKey::generate();
        let id = KeyId::new(at.parse().unwrap(), &private.public());
        (id.to_string(), Zeroizing::new(private.to_secret().expose().to_vec()))
    }

    #[test]
    fn a_listed_key_is_lost_where_the_secret_does_not_hold_that_very_key() {
        let (good, broken, absent) =
            (entry("2026-01-01T00:00:00Z"), entry("2026-02-01T00:00:00Z"), entry("2026-03-01T00:00:00Z"));
        let listed = BTreeSet::from([good.0.clone(), broken.0.clone(), absent.0.clone()]);
        let stored = Stored::from([good.clone(), (broken.0.clone(), good.1.clone()), ("note".into(), good.1)]);
        assert_eq!(lost(&listed, &stored), [broken.0.clone(), absent.0]);
        let (keys, bad) = keyring(&stored);
        assert_eq!(keys.ids().map(KeyId::as_str).collect::<Vec<_>>(), [good.0.as_str()]);
        assert_eq!(bad.len(), 2, "{bad:?}");
        assert!(lost(&BTreeSet::new(), &stored).is_empty());
    }

    #[test]
    fn a_new_passphrase_is_typed_twice_and_long() {
        let long = "correct horse battery";
        let typed = |words: &[&'static str], new: bool| {
            let mut script = Script { terminal: true, typed: words.iter().copied().collect(), ..Script::default() };
            passphrase(&mut script, None, new).map(|passphrase| passphrase.expose().to_vec()).ok()
        };
        assert_eq!(typed(&[long, long], true).as_deref(), Some(long.as_bytes()));
        assert_eq!(typed(&[long, "correct horse staple"], true), None);
        assert_eq!(typed(&["short"], true), None);
        assert_eq!(typed(&["short"], false).as_deref(), Some(&b"short"[..]));
        assert!(passphrase(&mut Script::default(), None, false).is_err());
    }

    #[test]
    fn a_passphrase_file_gives_its_first_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for text in ["correct horse\nmore", "correct horse\r\n", "correct horse"] {
            std::fs::write(file.path(), text).unwrap();
            let read = passphrase(&mut Script::default(), Some(file.path()), true).ok().unwrap();
            assert_eq!(read.expose(), b"correct horse");
        }
    }
}
