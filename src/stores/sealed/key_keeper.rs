//! Carries out what [`super::key_life`] decides: reads the key files, makes and stores the first key, lists public keys.
//!
//! Run it in the leader only. A second one at the same time does no harm: the create of the Secret and the resource
//! version of the ConfigMap let one of them win.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ListParams, ObjectMeta, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use zeroize::Zeroizing;

use super::KeyState;
use super::key::{KeyId, PrivateKey};
use super::key_life::{Create, Health, KEYS_SECRET, KEYS_SECRET_TYPE, Made, Observed, PUBLIC_KEYS, Plan, Step, plan};
use super::keyring::{BadFile, KeyRing, Loaded, load_folder};
use crate::api::TeamSecret;

/// How long one call to the API server may take. The client itself has no limit.
const CALL_DEADLINE: Duration = Duration::from_secs(10);
/// How often the list of public keys is read while all is well.
const LIST_INTERVAL: Duration = Duration::from_mins(1);

/// Where the keys are and how patient to be.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The operator's own namespace.
    pub namespace: String,
    /// The folder of key files.
    pub folder: PathBuf,
    /// Whether the first key may be made. Not where the files come from elsewhere.
    pub create: bool,
    /// How often the folder is read.
    pub poll: Duration,
    /// For how long a key may be missing before it counts as lost.
    pub grace: Duration,
}

impl Settings {
    /// The usual patience: a look every 3 s, and 150 s for a kubelet to bring a volume up to date.
    pub fn new(namespace: impl Into<String>, folder: impl Into<PathBuf>) -> Self {
        Self {
            namespace: namespace.into(),
            folder: folder.into(),
            create: true,
            poll: Duration::from_secs(3),
            grace: Duration::from_secs(150),
        }
    }
}

struct InMemory {
    id: KeyId,
    key: Arc<PrivateKey>,
    create: Create,
}

/// Keeps the keys of the sealed stores.
pub struct KeyKeeper {
    client: Client,
    settings: Settings,
    state: watch::Sender<KeyState>,
    made: Option<InMemory>,
    listed: Option<(Instant, BTreeMap<String, String>)>,
    team_secrets: Option<bool>,
    missing_since: Option<Instant>,
    bad: Vec<BadFile>,
}

impl KeyKeeper {
    /// A keeper that knows nothing yet, and where its findings are to be had.
    pub fn new(client: Client, settings: Settings) -> (Self, watch::Receiver<KeyState>) {
        let (state, receiver) = watch::channel(KeyState::default());
        let keeper = Self {
            client,
            settings,
            state,
            made: None,
            listed: None,
            team_secrets: None,
            missing_since: None,
            bad: Vec::new(),
        };
        (keeper, receiver)
    }

    /// Keeps the keys for as long as it is polled.
    pub async fn run(mut self) {
        let mut ticks = interval(self.settings.poll);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            // A key is made on a fresh answer only: TeamSecrets may have come since.
            self.team_secrets = self.team_secrets.filter(|any| *any);
            // Steps that follow at once from another: ask, create, publish, look again.
            for _ in 0..4 {
                if !self.step().await {
                    break;
                }
            }
        }
    }

    /// Looks once and does the one next step. Says whether another look is worth it at once.
    async fn step(&mut self) -> bool {
        let folder = self.settings.folder.clone();
        let loaded = match tokio::task::spawn_blocking(move || load_folder(&folder)).await {
            Ok(Ok(loaded)) => loaded,
            Ok(Err(error)) => {
                tracing::warn!(kind = %error.kind(), "the folder of key files cannot be read");
                return false;
            }
            Err(_) => return false,
        };
        self.report_bad_files(&loaded.bad);
        self.read_listed(&loaded.keys).await;
        let observed = self.observed(&loaded);
        let mut plan = plan(&observed, self.settings.grace);
        if plan.step == Step::CreateKey && !self.settings.create {
            plan.step = Step::Nothing;
            plan.health = Health::Waiting(
                "no key file is there, and the configuration's keys.create is false: put one into the volume".into(),
            );
        }
        if plan.missing {
            self.missing_since.get_or_insert_with(Instant::now);
        } else {
            self.missing_since = None;
        }
        if plan.forget_made {
            self.made = None;
        }
        self.tell(loaded.keys, &plan);
        match plan.step {
            Step::Nothing => false,
            Step::AskForTeamSecrets => self.ask_for_team_secrets().await,
            Step::CreateKey => self.create_key().await,
            Step::Publish(entries) => self.publish(entries).await,
        }
    }

    fn observed(&self, loaded: &Loaded) -> Observed {
        Observed {
            files: loaded.keys.public(),
            bad: loaded.bad.clone(),
            made: self.made.as_ref().map(|made| Made {
                id: made.id.clone(),
                public: made.key.public(),
                create: made.create,
            }),
            listed: self.listed.as_ref().map(|(_, listed)| listed.clone()),
            team_secrets: self.team_secrets,
            missing_for: self.missing_since.map(|since| since.elapsed()).unwrap_or_default(),
        }
    }

    fn tell(&self, mut keys: KeyRing, plan: &Plan) {
        if let Some(made) = &self.made
            && made.create == Create::Created
        {
            // The name was made from this key: it proves it.
            let _ = keys.insert(made.id.clone(), made.key.clone());
        }
        self.state.send_if_modified(|state| {
            let changed = state.health != plan.health || !state.keys.ids().eq(keys.ids());
            if changed {
                log_change(&state.health, &plan.health, &keys);
                *state = KeyState { keys, health: plan.health.clone() };
            }
            changed
        });
    }

    fn report_bad_files(&mut self, bad: &[BadFile]) {
        if self.bad != bad {
            for BadFile { name, why } in bad {
                tracing::warn!(file = name, why, "a key file is no key");
            }
            self.bad = bad.to_vec();
        }
    }

    /// Reads the list while anything is open, when the files have changed, and now and then.
    async fn read_listed(&mut self, files: &KeyRing) {
        let settled = {
            let state = self.state.borrow();
            state.health == Health::Ready && (self.made.is_some() || state.keys.ids().eq(files.ids()))
        };
        if settled && self.listed.as_ref().is_some_and(|(at, _)| at.elapsed() < LIST_INTERVAL) {
            return;
        }
        match timeout(CALL_DEADLINE, self.config_maps().get_opt(PUBLIC_KEYS)).await {
            Ok(Ok(found)) => {
                self.listed = Some((Instant::now(), found.and_then(|map| map.data).unwrap_or_default()));
            }
            // What was read before is still the best knowledge.
            Ok(Err(error)) => tracing::warn!(answer = answer(&error), "the public keys cannot be read"),
            Err(_) => tracing::warn!("the public keys cannot be read in time"),
        }
    }

    async fn ask_for_team_secrets(&mut self) -> bool {
        let before = self.team_secrets;
        let api: Api<TeamSecret> = Api::all(self.client.clone());
        match timeout(CALL_DEADLINE, api.list_metadata(&ListParams::default().limit(1))).await {
            Ok(Ok(found)) => self.team_secrets = Some(!found.items.is_empty()),
            Ok(Err(error)) => tracing::warn!(answer = answer(&error), "TeamSecrets cannot be listed"),
            Err(_) => tracing::warn!("TeamSecrets cannot be listed in time"),
        }
        self.team_secrets != before
    }

    async fn create_key(&mut self) -> bool {
        let made = self.made.get_or_insert_with(|| {
            let key = PrivateKey::generate();
            InMemory {
                id: KeyId::new(jiff::Timestamp::now(), &key.public()),
                key: Arc::new(key),
                create: Create::NotTried,
            }
        });
        let id = made.id.clone();
        let request = store_request(&self.settings.namespace, &id, &made.key);
        let outcome = match request {
            Err(_) => Create::Refused(0),
            Ok(request) => match timeout(CALL_DEADLINE, self.client.request::<serde_json::Value>(request)).await {
                Ok(Ok(_)) => Create::Created,
                Ok(Err(kube::Error::Api(status))) if status.code == 409 => Create::Exists,
                Ok(Err(kube::Error::Api(status))) if status.code < 500 => Create::Refused(status.code),
                Ok(Err(_)) | Err(_) => Create::Lost,
            },
        };
        tracing::info!(key = %id, secret = KEYS_SECRET, ?outcome, "tried to store the first key");
        made.create = outcome;
        // Others are tried again with the next tick.
        matches!(outcome, Create::Created | Create::Exists)
    }

    async fn publish(&mut self, entries: BTreeMap<String, String>) -> bool {
        let ids: Vec<String> = entries.keys().cloned().collect();
        let done = timeout(CALL_DEADLINE, publish(&self.config_maps(), entries)).await;
        // Whatever came of it, what is listed now is to be read.
        self.listed = None;
        match done {
            Ok(Ok(())) => {
                tracing::info!(keys = ?ids, "listed public keys");
                true
            }
            Ok(Err(error)) => {
                tracing::warn!(answer = answer(&error), "public keys cannot be listed");
                // Another writer was faster: look again at once.
                matches!(error, kube::Error::Api(status) if status.code == 409)
            }
            Err(_) => {
                tracing::warn!("public keys cannot be listed in time");
                false
            }
        }
    }

    fn config_maps(&self) -> Api<ConfigMap> {
        Api::namespaced(self.client.clone(), &self.settings.namespace)
    }
}

/// Adds entries to the ConfigMap of public keys, or makes it.
async fn publish(api: &Api<ConfigMap>, entries: BTreeMap<String, String>) -> Result<(), kube::Error> {
    let Some(mut map) = api.get_opt(PUBLIC_KEYS).await? else {
        let map = ConfigMap {
            metadata: ObjectMeta {
                name: Some(PUBLIC_KEYS.into()),
                labels: Some([("app.kubernetes.io/managed-by".into(), "daypass".into())].into()),
                ..ObjectMeta::default()
            },
            data: Some(entries),
            ..ConfigMap::default()
        };
        return api.create(&PostParams::default(), &map).await.map(drop);
    };
    // The resource version that was read goes along: a change in between answers 409.
    map.data.get_or_insert_default().extend(entries);
    api.replace(PUBLIC_KEYS, &PostParams::default(), &map).await.map(drop)
}

/// The request that stores a key. Its answer bears metadata only. The body is a copy of the key that is not wiped.
fn store_request(namespace: &str, id: &KeyId, key: &PrivateKey) -> Result<http::Request<Vec<u8>>, http::Error> {
    let encoded = Zeroizing::new(STANDARD.encode(key.to_secret().expose()));
    let object = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": KEYS_SECRET, "labels": {"app.kubernetes.io/managed-by": "daypass"}},
        "type": KEYS_SECRET_TYPE,
        "data": {id.as_str(): encoded.as_str()},
    });
    http::Request::post(format!("/api/v1/namespaces/{namespace}/secrets"))
        .header(http::header::CONTENT_TYPE, "application/json")
        .header(http::header::ACCEPT, "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1")
        .body(object.to_string().into_bytes())
}

fn log_change(before: &Health, after: &Health, keys: &KeyRing) {
    let live: Vec<&str> = keys.ids().map(KeyId::as_str).collect();
    match after {
        Health::Ready => tracing::info!(?live, "the keys of the sealed store are ready"),
        Health::Waiting(why) if before != after => tracing::info!(?live, why, "waiting for keys of the sealed store"),
        Health::KeyLost(why) if before != after => tracing::error!(?live, why, "a key of the sealed store is lost"),
        Health::Waiting(_) | Health::KeyLost(_) => tracing::info!(?live, "other keys of the sealed store are live"),
    }
}

/// What of an error may be logged: the API server's own words could repeat what was sent.
fn answer(error: &kube::Error) -> u16 {
    match error {
        kube::Error::Api(status) => status.code,
        _ => 0,
    }
}
