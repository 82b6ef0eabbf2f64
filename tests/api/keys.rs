//! The life of the sealed stores' keys on a real API server. There is no kubelet here: the test brings the key files up
//! to date, when a case wants it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use daypass::api::{SealedVersion, TeamSecret, TeamSecretSpec};
use daypass::secret::SecretValue;
use daypass::stores::sealed::backup;
use daypass::stores::sealed::key::{KeyId, PrivateKey, PublicKey};
use daypass::stores::sealed::key_keeper::{KeyKeeper, Settings};
use daypass::stores::sealed::keyring::load_folder;
use daypass::stores::sealed::seal::{Binding, seal};
use daypass::stores::sealed::{Health, KeyState, SealedStore};
use daypass::stores::{Query, SecretStore, StoreError};
use daypass_testcluster::{Cluster, Options, poll};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::client::Body;
use kube::{Api, Client};
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::chart::{self, SYSTEM};

const OPERATOR: &str = "system:serviceaccount:daypass-system:daypass-operator";
const SECRET: &str = "daypass-keys";
const LIST: &str = "daypass-public-keys";
const SOON: Duration = Duration::from_secs(30);
/// How late a file may be in these tests.
const GRACE: Duration = Duration::from_secs(1);

/// One operator process, as far as keys go.
struct Operator {
    files: TempDir,
    state: watch::Receiver<KeyState>,
    task: AbortOnDropHandle<()>,
}

impl Operator {
    fn start(client: Client, namespace: &str) -> Result<Self> {
        Ok(Self::start_with(client, namespace, tempfile::tempdir()?))
    }

    fn start_with(client: Client, namespace: &str, files: TempDir) -> Self {
        let settings =
            Settings { poll: Duration::from_millis(50), grace: GRACE, ..Settings::new(namespace, files.path()) };
        let (keeper, state) = KeyKeeper::new(client, settings);
        Self { files, state, task: AbortOnDropHandle::new(tokio::spawn(keeper.run())) }
    }

    /// Ends it with no further word, and leaves its files.
    fn kill(self) -> TempDir {
        self.task.abort();
        self.files
    }

    /// Waits until the health is as asked, and gives the IDs that are live then.
    async fn becomes(&mut self, what: &str, wanted: impl Fn(&Health) -> bool) -> Result<Vec<String>> {
        let waiting = self.state.wait_for(|state| wanted(&state.health));
        if let Ok(state) = tokio::time::timeout(SOON, waiting).await {
            return Ok(state?.keys.ids().map(ToString::to_string).collect());
        }
        bail!("{what}: still {:?}", self.state.borrow().health)
    }

    async fn ready(&mut self) -> Result<Vec<String>> {
        self.becomes("not ready", |health| *health == Health::Ready).await
    }

    async fn lost(&mut self, words: &str) -> Result<()> {
        self.becomes("not lost", |health| matches!(health, Health::KeyLost(text) if text.contains(words))).await?;
        Ok(())
    }

    async fn waits(&mut self, words: &str) -> Result<()> {
        self.becomes("does not wait", |health| matches!(health, Health::Waiting(text) if text.contains(words))).await?;
        Ok(())
    }
}

/// The operator's namespace, seen with an admin's eyes.
struct System {
    secrets: Api<Secret>,
    maps: Api<ConfigMap>,
}

impl System {
    fn new(admin: &Client, namespace: &str) -> Self {
        Self { secrets: Api::namespaced(admin.clone(), namespace), maps: Api::namespaced(admin.clone(), namespace) }
    }

    /// The private keys as they are stored.
    async fn stored(&self) -> Result<BTreeMap<String, Vec<u8>>> {
        let data = self.secrets.get_opt(SECRET).await?.and_then(|secret| secret.data).unwrap_or_default();
        Ok(data.into_iter().map(|(id, bytes)| (id, bytes.0)).collect())
    }

    async fn stored_ids(&self) -> Result<Vec<String>> {
        Ok(self.stored().await?.into_keys().collect())
    }

    async fn listed(&self) -> Result<BTreeMap<String, String>> {
        Ok(self.maps.get_opt(LIST).await?.and_then(|map| map.data).unwrap_or_default())
    }

    async fn lists(&self, ids: &[String]) -> Result<()> {
        poll(SOON, "the list of public keys", async || {
            let listed: Vec<String> = self.listed().await?.into_keys().collect();
            ensure!(listed == ids, "{listed:?} are listed, not {ids:?}");
            Ok(())
        })
        .await
    }

    /// Does what a kubelet does some time after a change of the Secret.
    async fn bring_files(&self, folder: &Path) -> Result<()> {
        let stored = self.stored().await?;
        for entry in std::fs::read_dir(folder)? {
            std::fs::remove_file(entry?.path())?;
        }
        for (id, bytes) in stored {
            // Never half a file, as the kubelet's own swap of a link.
            std::fs::write(folder.join(".new"), bytes)?;
            std::fs::rename(folder.join(".new"), folder.join(id))?;
        }
        Ok(())
    }

    /// Stores one more key, as a cluster admin does.
    async fn add_key(&self, second: i64) -> Result<String> {
        let key = PrivateKey::generate();
        let id = KeyId::new(jiff::Timestamp::from_second(second)?, &key.public()).to_string();
        let bytes = ByteString(key.to_secret().expose().to_vec());
        let patch = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "daypass.dev/keys",
            "metadata": {"name": SECRET}, "data": {&id: bytes},
        });
        match self.secrets.get_opt(SECRET).await? {
            Some(_) => self.secrets.patch(SECRET, &PatchParams::default(), &Patch::Merge(patch)).await?,
            None => self.secrets.create(&PostParams::default(), &serde_json::from_value(patch)?).await?,
        };
        Ok(id)
    }

    async fn lose_secret(&self) -> Result<()> {
        self.secrets.delete(SECRET, &DeleteParams::default()).await?;
        Ok(())
    }

    async fn lose_list(&self) -> Result<()> {
        self.maps.delete(LIST, &DeleteParams::default()).await?;
        Ok(())
    }
}

/// All cases use one control plane of their own, one after the other: whether there is any `TeamSecret` in the cluster
/// decides, so those that need some come last.
#[tokio::test(flavor = "multi_thread")]
async fn keys_live_as_designed() -> Result<()> {
    let cluster = Cluster::start(Options::control_plane()).await?;
    chart::install(&cluster, &[]).await?;
    first_start_as_the_operator_itself(&cluster).await.context("first start")?;
    a_lost_answer_heals(&cluster).await.context("lost answer")?;
    a_crash_between_store_and_list_heals(&cluster).await.context("crash")?;
    two_replicas_make_one_key(&cluster).await.context("two replicas")?;
    a_late_file_is_waited_for(&cluster).await.context("late file")?;
    a_second_key_is_listed(&cluster).await.context("second key")?;
    a_lost_key_is_not_replaced_and_comes_back_from_a_backup(&cluster).await.context("lost, public part there")?;
    values_open_and_a_restore_into_an_empty_cluster_works(&cluster).await.context("with TeamSecrets")?;
    Ok(())
}

/// With the chart's own rights and policies: one Secret, one ConfigMap, and nothing read of any Secret.
async fn first_start_as_the_operator_itself(cluster: &Cluster) -> Result<()> {
    let system = System::new(&cluster.admin()?, SYSTEM);
    let mark = cluster.audit().mark()?;
    let mut operator = Operator::start(chart::operator(cluster).await?, SYSTEM)?;
    let live = operator.ready().await?;
    ensure!(live.len() == 1, "{live:?}");
    system.lists(&live).await?;
    ensure!(system.stored_ids().await? == live);
    let listed = system.listed().await?;
    let public = PublicKey::from_base64(&listed[&live[0]])?;
    ensure!(live[0].parse::<KeyId>()?.names(&public), "the list has another key under this ID");

    system.bring_files(operator.files.path()).await?;
    // The file takes over from memory: without it the key is seen to be gone.
    let file = operator.files.path().join(&live[0]);
    let moved = operator.files.path().join(".moved");
    poll(SOON, "memory is given up", async || {
        std::fs::rename(&file, &moved)?;
        let seen = operator.becomes("memory is still used", |health| matches!(health, Health::Waiting(_)));
        let seen = tokio::time::timeout(GRACE, seen).await;
        std::fs::rename(&moved, &file)?;
        seen.context("memory is still used")??;
        Ok(())
    })
    .await?;
    ensure!(operator.ready().await? == live);

    cluster.audit_settled().await?;
    let entries = cluster.audit().since(mark)?;
    let mine: Vec<_> = entries.iter().filter(|entry| entry.user == OPERATOR).collect();
    let secrets: Vec<_> = mine.iter().filter(|entry| entry.resource == "secrets" && !entry.dry_run).collect();
    ensure!(secrets.len() == 1 && secrets[0].verb == "create" && secrets[0].code == 201, "{secrets:?}");
    let writes: Vec<_> = mine.iter().filter(|entry| entry.is_write()).collect();
    ensure!(writes.len() == 2, "one Secret and one ConfigMap, not {writes:?}");
    Ok(())
}

/// The first create of a Secret is carried out, but its answer never comes.
fn losing_one_answer(inner: Client) -> Client {
    let lost = Arc::new(AtomicBool::new(false));
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let (inner, lost) = (inner.clone(), lost.clone());
        async move {
            let create = request.method() == http::Method::POST && request.uri().path().ends_with("/secrets");
            let answer = inner.send(request).await?;
            if create && !lost.swap(true, Ordering::Relaxed) {
                bail!("the connection broke");
            }
            Ok(answer)
        }
    });
    Client::new(service, "default")
}

async fn a_lost_answer_heals(cluster: &Cluster) -> Result<()> {
    let (admin, namespace) = (cluster.admin()?, cluster.namespace("keys").await?);
    let system = System::new(&admin, &namespace);
    let mut operator = Operator::start(losing_one_answer(admin), &namespace)?;
    operator.waits("is there").await?;
    ensure!(system.listed().await?.is_empty(), "a key was listed before it was known to be stored");
    let stored = system.stored_ids().await?;
    system.bring_files(operator.files.path()).await?;
    ensure!(operator.ready().await? == stored);
    system.lists(&stored).await
}

async fn a_crash_between_store_and_list_heals(cluster: &Cluster) -> Result<()> {
    let (admin, namespace) = (cluster.admin()?, cluster.namespace("keys").await?);
    let system = System::new(&admin, &namespace);
    let stored = system.add_key(1_800_000_000).await?;
    let mut operator = Operator::start(admin, &namespace)?;
    operator.waits("is there").await?;
    system.bring_files(operator.files.path()).await?;
    let stored = [stored];
    ensure!(operator.ready().await? == stored);
    system.lists(&stored).await
}

async fn two_replicas_make_one_key(cluster: &Cluster) -> Result<()> {
    let (admin, namespace) = (cluster.admin()?, cluster.namespace("keys").await?);
    let system = System::new(&admin, &namespace);
    let mut operators = [
        Operator::start(admin.clone(), &namespace)?,
        Operator::start(admin.clone(), &namespace)?,
        Operator::start(admin.clone(), &namespace)?,
    ];
    let stored = poll(SOON, "a key is stored", async || {
        let stored = system.stored_ids().await?;
        ensure!(stored.len() == 1, "{stored:?}");
        Ok(stored)
    })
    .await?;
    for operator in &mut operators {
        system.bring_files(operator.files.path()).await?;
        ensure!(operator.ready().await? == stored);
    }
    system.lists(&stored).await
}

async fn a_late_file_is_waited_for(cluster: &Cluster) -> Result<()> {
    let (admin, namespace) = (cluster.admin()?, cluster.namespace("keys").await?);
    let system = System::new(&admin, &namespace);
    let mut maker = Operator::start(admin.clone(), &namespace)?;
    let live = maker.ready().await?;
    system.lists(&live).await?;
    // The maker dies before its files have come; so did its memory.
    let files = maker.kill();
    let mut next = Operator::start_with(admin, &namespace, files);
    next.waits(&live[0]).await?;
    system.bring_files(next.files.path()).await?;
    ensure!(next.ready().await? == live);
    ensure!(system.stored_ids().await? == live, "another key was made");
    Ok(())
}

async fn a_second_key_is_listed(cluster: &Cluster) -> Result<()> {
    let (admin, namespace) = (cluster.admin()?, cluster.namespace("keys").await?);
    let system = System::new(&admin, &namespace);
    let first = system.add_key(1_800_000_000).await?;
    let mut operator = Operator::start(admin, &namespace)?;
    system.bring_files(operator.files.path()).await?;
    operator.ready().await?;
    system.lists(std::slice::from_ref(&first)).await?;

    let second = system.add_key(1_800_000_001).await?;
    system.lists(std::slice::from_ref(&first)).await?;
    system.bring_files(operator.files.path()).await?;
    let both = [first, second];
    system.lists(&both).await?;
    ensure!(operator.ready().await? == both);
    Ok(())
}

async fn a_lost_key_is_not_replaced_and_comes_back_from_a_backup(cluster: &Cluster) -> Result<()> {
    let (admin, namespace) = (cluster.admin()?, cluster.namespace("keys").await?);
    let system = System::new(&admin, &namespace);
    let mut operator = Operator::start(admin.clone(), &namespace)?;
    let live = operator.ready().await?;
    system.lists(&live).await?;
    system.bring_files(operator.files.path()).await?;
    let saved = backup_of(operator.files.path())?;

    system.lose_secret().await?;
    system.bring_files(operator.files.path()).await?;
    operator.lost(&live[0]).await?;
    // So it is for one that starts now.
    let mut next = Operator::start(admin, &namespace)?;
    next.lost(&live[0]).await?;
    ensure!(system.stored().await?.is_empty(), "a lost key was replaced");

    restore(&system, &saved).await?;
    for operator in [&mut operator, &mut next] {
        system.bring_files(operator.files.path()).await?;
        ensure!(operator.ready().await? == live);
    }
    system.lists(&live).await
}

async fn values_open_and_a_restore_into_an_empty_cluster_works(cluster: &Cluster) -> Result<()> {
    let (admin, namespace) = (cluster.admin()?, cluster.namespace("keys").await?);
    let team = cluster.namespace("team").await?;
    let system = System::new(&admin, &namespace);
    let mut operator = Operator::start(admin.clone(), &namespace)?;
    let live = operator.ready().await?;
    system.lists(&live).await?;
    system.bring_files(operator.files.path()).await?;
    let saved = backup_of(operator.files.path())?;

    let (id, public) = system.listed().await?.pop_last().context("no public key")?;
    let (id, public): (KeyId, _) = (id.parse()?, PublicKey::from_base64(&public)?);
    let sealed = |name: &str, version: i64, value: &str| -> Result<SealedVersion> {
        let binding = Binding { namespace: &team, name, version };
        Ok(seal(&id, &public, &binding, &SecretValue::new(value.into()))?)
    };
    let objects: Api<TeamSecret> = Api::namespaced(admin.clone(), &team);
    for (name, versions) in [
        ("HF_TOKEN", vec![sealed("HF_TOKEN", 2, "two")?, sealed("HF_TOKEN", 1, "one")?]),
        // A ciphertext of another name, moved here.
        ("MOVED", vec![sealed("HF_TOKEN", 1, "one")?]),
    ] {
        let spec = TeamSecretSpec { name: name.into(), versions };
        let object = TeamSecret::new(&name.to_lowercase().replace('_', "-"), spec);
        objects.create(&PostParams::default(), &object).await?;
    }
    let store = SealedStore::new(admin.clone(), &team, operator.state.clone());
    let asked = [
        ("HF_TOKEN", None, Ok("2 two")),
        ("ABSENT", None, Err("NotFound")),
        ("HF_TOKEN", Some("1"), Ok("1 one")),
        ("hf_token", None, Err("NotFound")),
        ("MOVED", None, Err("Malformed")),
        ("HF_TOKEN", Some("3"), Err("NotFound")),
    ];
    answers(&store, &asked).await?;

    // Everything is gone but the teams' objects.
    system.lose_secret().await?;
    system.lose_list().await?;
    system.bring_files(operator.files.path()).await?;
    operator.lost("daypass key restore").await?;
    answers(&store, &[("HF_TOKEN", None, Err("KeyLost"))]).await?;
    let mut next = Operator::start(admin, &namespace)?;
    next.lost("daypass key restore").await?;
    ensure!(system.stored().await?.is_empty(), "a lost key was replaced");
    ensure!(system.listed().await?.is_empty());

    restore(&system, &saved).await?;
    system.bring_files(operator.files.path()).await?;
    ensure!(operator.ready().await? == live);
    system.lists(&live).await?;
    answers(&store, &asked).await
}

type Asked = (&'static str, Option<&'static str>, Result<&'static str, &'static str>);

/// Asks for all at once and compares each answer, in order.
async fn answers(store: &SealedStore, asked: &[Asked]) -> Result<()> {
    let queries: Vec<Query> = asked
        .iter()
        .map(|(name, version, _)| Query { name: (*name).into(), version: version.map(Into::into) })
        .collect();
    let answers = store.get_many(&queries).await;
    ensure!(answers.len() == asked.len());
    for ((name, version, expected), answer) in asked.iter().zip(answers) {
        let told = match answer {
            Ok(fetched) => {
                Ok(format!("{} {}", fetched.version, std::str::from_utf8(fetched.value.expose()).context("UTF-8")?))
            }
            Err(StoreError::NotFound(_)) => Err("NotFound"),
            Err(StoreError::Malformed(_)) => Err("Malformed"),
            Err(StoreError::KeyLost(_)) => Err("KeyLost"),
            Err(error) => bail!("{name} {version:?}: {error}"),
        };
        ensure!(
            told.as_ref().map(String::as_str) == expected.as_ref().map(|text| *text),
            "{name} {version:?}: {told:?}"
        );
    }
    Ok(())
}

const PASSPHRASE: &str = "correct horse battery";

/// The keys of a folder as a backup file.
fn backup_of(folder: &Path) -> Result<String> {
    Ok(backup::encode(&load_folder(folder)?.keys, &SecretValue::new(PASSPHRASE.into()))?)
}

/// Makes the Secret anew from a backup file.
async fn restore(system: &System, saved: &str) -> Result<()> {
    let keys = backup::decode(saved, &SecretValue::new(PASSPHRASE.into()))?;
    let data = keys.iter().map(|(id, key)| (id.to_string(), ByteString(key.to_secret().expose().to_vec()))).collect();
    let secret = Secret {
        metadata: ObjectMeta { name: Some(SECRET.into()), ..ObjectMeta::default() },
        type_: Some("daypass.dev/keys".into()),
        data: Some(data),
        ..Secret::default()
    };
    system.secrets.create(&PostParams::default(), &secret).await?;
    Ok(())
}
