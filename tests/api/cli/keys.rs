//! The operator's keys, with a cluster admin's rights.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result};
use daypass::stores::sealed::key::{KeyId, PrivateKey};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use super::team::Team;

#[tokio::test]
async fn keys_are_added_backed_up_and_brought_back() -> Result<()> {
    let team = Team::new().await?;
    let admin = team.cluster.kubeconfig();
    let secrets = Api::<Secret>::namespaced(team.cluster.admin()?, &team.system);
    let data = async || -> Result<BTreeMap<String, Vec<u8>>> {
        let data = secrets.get("daypass-keys").await?.data.unwrap_or_default();
        Ok(data.into_iter().map(|(id, bytes)| (id, bytes.0)).collect())
    };
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("keys.backup");
    let words = folder.path().join("passphrase");
    std::fs::write(&words, "correct horse battery staple\n")?;
    let (file_name, words_name) = (file.display(), words.display());
    let backup = format!("key backup {file_name} --passphrase-file {words_name}");
    let restore = format!("key restore {file_name} --passphrase-file {words_name}");

    team.types_as(&admin, &backup, "")?.fails(3, "no Secret daypass-keys")?;
    // The team's key is listed, and no Secret holds it: giving it up is asked about.
    team.types_as(&admin, "key add", "")?.fails(2, "--yes")?;
    assert!(secrets.get_opt("daypass-keys").await?.is_none());
    team.types_as(&admin, "key add --yes", "")?.ok()?;
    let map = Api::<ConfigMap>::namespaced(team.cluster.admin()?, &team.system).get("daypass-public-keys").await?;
    assert!(map.data.unwrap_or_default().is_empty());
    assert_eq!(secrets.get("daypass-keys").await?.type_.as_deref(), Some("daypass.dev/keys"));
    team.types_as(&admin, "key add", "")?.ok()?;
    let both = data().await?;
    assert_eq!(both.len(), 2);
    for (id, key) in &both {
        let public = PrivateKey::from_bytes(key)?.public();
        assert!(id.parse::<KeyId>()?.names(&public), "{id}");
    }

    team.types_as(&admin, &backup, "")?.ok()?;
    assert_eq!(std::fs::metadata(&file)?.permissions().mode() & 0o777, 0o600);
    team.types_as(&admin, &backup, "")?.fails(5, "there already")?;
    assert!(team.types_as(&admin, &restore, "")?.ok()?.contains("nothing was changed"));

    // An empty cluster, and one that lacks one key and has another.
    secrets.delete("daypass-keys", &DeleteParams::default()).await?;
    team.types_as(&admin, &restore, "")?.ok()?;
    assert_eq!(data().await?, both);
    team.types_as(&admin, "key add", "")?.ok()?;
    let first = both.keys().next().context("a key")?;
    let patch = Patch::Merge(json!({"data": {first: null}}));
    secrets.patch("daypass-keys", &PatchParams::default(), &patch).await?;
    team.types_as(&admin, &restore, "")?.ok()?;
    let after = data().await?;
    assert_eq!(after.len(), 3);
    assert!(both.iter().all(|(id, key)| after.get(id) == Some(key)));

    std::fs::write(&words, "another horse battery staple\n")?;
    team.types_as(&admin, &restore, "")?.fails(2, "does not open")
}
