//! What only the leader does: watch, reconcile, keep the keys.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use kube::Client;
use kube::runtime::Controller;
use kube::runtime::controller::Config as ControllerConfig;
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::reflector::ObjectRef;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{UnboundedReceiverStream, WatchStream};
use tokio_util::sync::CancellationToken;

use super::config::Config;
use crate::api::names::access_name;
use crate::api::{CHANGED, TeamSecretStore, Time};
use crate::controllers::watches::{Trigger, Watches, uids};
use crate::controllers::{
    Clock, Context, Lanes, Memory, SystemClock, WAITING_CREATIONS, audit, catalog, eval_job, sandbox, store,
};
use crate::metrics::Metrics;
use crate::resolve::Resolver;
use crate::resolve::front::WAITING;
use crate::run::SecretFact;
use crate::stores::open::Opener;
use crate::stores::sealed::key_keeper::{KeyKeeper, Settings};

/// How often memory of objects that are gone is dropped, and gauges are set.
const HOUSEKEEPING: Duration = Duration::from_secs(30);
/// How many runs are worked on at a time, and how many evaluations: above how many may wait for stores and for a place to
/// make something, so that stores which hang and slow creations leave room for all others.
const AT_ONCE: u16 = 448;
const _: () = assert!(WAITING.1 + WAITING_CREATIONS + 64 <= AT_ONCE as usize);

/// Leads until `stop`, or until a watch or a task ends by itself.
pub(super) async fn lead(
    client: Client,
    config: Config,
    namespace: String,
    guarded: watch::Receiver<bool>,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    tracing::info!("leading");
    metrics.lead(true);
    let settings = Settings { create: config.keys.create, ..Settings::new(&namespace, &config.keys.folder) };
    let (keeper, keys) = KeyKeeper::new(client.clone(), settings);
    let mut keeper = tokio::spawn(keeper.run());

    let memory = Arc::new(Memory::default());
    let evaluations = Arc::new(Memory::default());
    let Watches { sandboxes, mut deleted, evaljobs, mut deleted_evaljobs, pods, stores, team_secrets } =
        Watches::new(&client, memory.clone(), evaluations.clone());
    let (catalog_tx, catalog) = watch::channel(catalog::built_in());
    let (wake_evaluations, woken_evaluations) = mpsc::unbounded_channel();
    let operator = (namespace.clone(), config.service_account());
    let opener = Opener::new(client.clone(), keys.clone(), config.stores.clone(), operator);
    let (wake_runs, woken_runs) = mpsc::unbounded_channel();
    let reporter = Reporter { controller: "daypass".into(), instance: config.pod_name() };
    let context = Arc::new(Context {
        clock: Arc::new(SystemClock) as Arc<dyn Clock>,
        memory,
        sandboxes: sandboxes.0.clone(),
        evaljobs: evaljobs.0.clone(),
        evaluations,
        catalog,
        evaluation_settings: config.evaluations.settings(),
        wake_evaluations,
        pods: pods.0.clone(),
        stores: stores.0.clone(),
        team_secrets: team_secrets.0.clone(),
        resolver: Resolver::new(client.clone(), stores.0.clone(), keys.clone(), opener, metrics.clone()),
        guarded: guarded.clone(),
        defaults: config.defaults(),
        events: config.events,
        recorder: Recorder::new(client.clone(), reporter),
        metrics: metrics.clone(),
        lanes: Lanes::new(config.concurrency.creations, config.concurrency.removals),
        wake_runs,
        client,
    });

    // The other watches are polled by tasks of their own, so that their caches fill before a Sandbox is looked at.
    let (wake_stores, woken_stores) = mpsc::unbounded_channel();
    let (pods_out, pods_in) = mpsc::unbounded_channel();
    let mut tasks = tokio::task::JoinSet::new();
    let (evaluated_out, evaluated_in) = mpsc::unbounded_channel();
    tasks.spawn(forward(pods.1, move |pod| {
        let _ = evaluated_out.send(Ok(pod.clone()));
        let _ = pods_out.send(Ok(pod));
    }));
    tasks.spawn(catalog::watch(context.client.clone(), namespace, catalog_tx, context.clone()));
    tasks.spawn(watch_stores(stores.1, context.clone(), wake_stores.clone()));
    tasks.spawn(watch_team_secrets(team_secrets.1, context.clone(), wake_stores.clone()));
    tasks.spawn(housekeep(context.clone(), wake_stores));
    let cleaning = context.clone();
    tasks.spawn(async move {
        while let Some(gone) = deleted.recv().await {
            tokio::spawn(sandbox::clean_up_after(gone, cleaning.clone()));
        }
    });
    let cleaning = context.clone();
    tasks.spawn(async move {
        while let Some(gone) = deleted_evaljobs.recv().await {
            tokio::spawn(eval_job::clean_up_after(gone, cleaning.clone()));
        }
    });

    let synced = context.clone();
    let first = async move {
        // Without the Pods and stores of others' time a plan would see less than there is.
        let _ = tokio::join!(
            synced.pods.wait_until_ready(),
            synced.stores.wait_until_ready(),
            synced.team_secrets.wait_until_ready()
        );
    };
    let (sandbox_store, sandbox_trigger) = sandboxes;
    let (evaljob_store, evaljob_trigger) = evaljobs;
    let graceful = stop.clone();
    let evaluated = Controller::for_stream(evaljob_trigger, evaljob_store)
        .with_config(ControllerConfig::default().concurrency(AT_ONCE))
        .owns_stream(UnboundedReceiverStream::new(evaluated_in))
        .reconcile_on(UnboundedReceiverStream::new(woken_evaluations))
        .reconcile_all_on(WatchStream::from_changes(guarded.clone()).map(|_| ()))
        .reconcile_all_on(WatchStream::from_changes(keys.clone()).map(|_| ()))
        .graceful_shutdown_on(async move { graceful.cancelled().await })
        .run(eval_job::reconcile, eval_job::error_policy, context.clone())
        .for_each(|_| std::future::ready(()));
    let graceful = stop.clone();
    let runs = Controller::for_stream(sandbox_trigger, sandbox_store)
        .with_config(ControllerConfig::default().concurrency(AT_ONCE))
        .owns_stream(UnboundedReceiverStream::new(pods_in))
        .reconcile_on(UnboundedReceiverStream::new(woken_runs))
        .reconcile_all_on(WatchStream::from_changes(guarded).map(|_| ()))
        .reconcile_all_on(WatchStream::from_changes(keys).map(|_| ()))
        .graceful_shutdown_on(async move { graceful.cancelled().await })
        .run(sandbox::reconcile, sandbox::error_policy, context.clone())
        .for_each(|_| std::future::ready(()));
    let graceful = stop.clone();
    let stores = Controller::for_stream(
        futures::stream::pending::<Result<TeamSecretStore, kube::runtime::watcher::Error>>(),
        context.stores.clone(),
    )
    // A look at a store may hold values for a moment, and a few stores may hang: so many at a time.
    .with_config(ControllerConfig::default().concurrency(16))
    .reconcile_on(UnboundedReceiverStream::new(woken_stores))
    .graceful_shutdown_on(async move { graceful.cancelled().await })
    .run(store::reconcile, store::error_policy, context.clone())
    .for_each(|_| std::future::ready(()));

    first.await;
    let outcome = tokio::select! {
        _ = async { tokio::join!(runs, evaluated, stores) } => Ok(()),
        _ = &mut keeper => Err(anyhow::anyhow!("the keeper of the keys ended")),
        ended = tasks.join_next() => Err(anyhow::anyhow!("a watch ended: {ended:?}")),
    };
    keeper.abort();
    metrics.lead(false);
    if stop.is_cancelled() { Ok(()) } else { outcome }
}

/// Polls a watch and hands its objects on. A watch mends itself, with back-off, so its errors only go to the log.
async fn forward<K>(mut trigger: Trigger<K>, mut hand_on: impl FnMut(K)) {
    while let Some(event) = trigger.next().await {
        match event {
            Ok(object) => hand_on(object),
            Err(error) => tracing::warn!(%error, "a watch failed; it is started again"),
        }
    }
}

type WakeStores = mpsc::UnboundedSender<ObjectRef<TeamSecretStore>>;

async fn watch_stores(trigger: Trigger<TeamSecretStore>, ctx: Arc<Context>, stores: WakeStores) {
    let mut changes = HashMap::new();
    let mut revoked = HashMap::new();
    forward(trigger, move |store| {
        let (team, name) = names(&store.metadata);
        let change = store.metadata.annotations.as_ref().and_then(|all| all.get(CHANGED)).cloned();
        let known = changes.insert((team.clone(), name.clone()), change.clone());
        if let (Some(known), Some(change)) = (known, &change)
            && known.as_ref() != Some(change)
        {
            // Anything but a name means all of them.
            let secret = change.split_whitespace().next().filter(|secret| *secret != "*");
            ctx.resolver.flush(&team, &name, secret);
            audit::of_secret("changed", &team, &access_name(&name, secret.unwrap_or("*")), None, None);
        }
        let seen = revoked.insert((team.clone(), name.clone()), revoked_names(&store));
        let first = seen.is_none();
        for secret in newly_revoked(&store, seen.as_ref()) {
            audit::of_secret("revoked", &team, &access_name(&name, &secret), None, None);
        }
        if !first && ctx.stores.get(&ObjectRef::from_obj(&store)).is_none() {
            changes.remove(&(team.clone(), name.clone()));
            revoked.remove(&(team.clone(), name.clone()));
        }
        ctx.wake_users_of_store(&team, &name);
        let _ = stores.send(ObjectRef::from_obj(&store));
    })
    .await;
}

fn revoked_names(store: &TeamSecretStore) -> HashSet<String> {
    store.spec.revoked.iter().map(|revoked| revoked.name.clone()).collect()
}

/// The names that the store revokes since it was `seen` last. At a leader's first look those that the status tells of
/// were recorded by an earlier one: a revocation that nobody was there to see is still recorded.
fn newly_revoked(store: &TeamSecretStore, seen: Option<&HashSet<String>>) -> Vec<String> {
    let told: HashSet<String> =
        store.status.iter().flat_map(|status| &status.revoked).map(|revoked| revoked.name.clone()).collect();
    let before = seen.unwrap_or(&told);
    let names = store.spec.revoked.iter().map(|revoked| &revoked.name);
    names.filter(|name| !before.contains(*name)).cloned().collect()
}

async fn watch_team_secrets(trigger: Trigger<crate::api::TeamSecret>, ctx: Arc<Context>, stores: WakeStores) {
    let mut seen = HashMap::new();
    forward(trigger, move |secret| {
        let (team, _) = names(&secret.metadata);
        let newest = secret.spec.versions.first();
        let version = newest.map(|newest| newest.version);
        let known = seen.insert((team.clone(), secret.spec.name.clone()), version);
        // While the first list comes in, the cache shows nothing of it yet.
        let gone = known.is_some() && ctx.team_secrets.get(&ObjectRef::from_obj(&secret)).is_none();
        if gone || known.is_some_and(|known| known != version) {
            let action = if gone { "deleted" } else { "changed" };
            audit::of_secret(action, &team, &secret.spec.name, version, newest.and_then(|newest| newest.by.as_deref()));
        }
        if gone {
            seen.remove(&(team.clone(), secret.spec.name.clone()));
        }
        ctx.wake_users_of_secret(&team, &secret.spec.name);
        for store in ctx.stores.state() {
            if store.metadata.namespace.as_deref() == Some(&team) && store.spec.sealed.is_some() {
                let _ = stores.send(ObjectRef::from_obj(&*store));
            }
        }
    })
    .await;
}

async fn housekeep(ctx: Arc<Context>, stores: WakeStores) {
    let mut interval = tokio::time::interval(HOUSEKEEPING);
    loop {
        interval.tick().await;
        // Never by the cache's own wait: it wakes one waiter only, and that must be the controller.
        if ctx.memory.is_ready() {
            ctx.memory.retain(|| uids(&ctx.sandboxes).union(&uids(&ctx.stores)).cloned().collect());
        }
        if ctx.evaluations.is_ready() {
            ctx.evaluations.retain(|| uids(&ctx.evaljobs));
        }
        ctx.resolver.housekeep();
        count(&ctx);
        for store in ctx.stores.state() {
            let _ = stores.send(ObjectRef::from_obj(&*store));
        }
    }
}

/// Sets the gauges of both kinds.
fn count(ctx: &Context) {
    let now = ctx.clock.now();
    let (mut sandboxes, mut attempts) = (0, 0);
    let mut copies = Copies::default();
    for sandbox in ctx.sandboxes.state() {
        let Some(status) = &sandbox.status else { continue };
        sandboxes += usize::from(!status.phase.is_terminal());
        let known = ctx.memory.secret(sandbox.metadata.uid.as_deref().unwrap_or_default(), None);
        copies.count(now, known, status.secrets_state.as_deref(), status.secret_injected_at);
    }
    for job in ctx.evaljobs.state() {
        let uid = job.metadata.uid.as_deref().unwrap_or_default();
        for benchmark in job.status.iter().flat_map(|status| &status.benchmarks) {
            attempts += usize::from(benchmark.is_active());
            let known = ctx.evaluations.secret(uid, Some(&eval_job::part(benchmark)));
            copies.count(now, known, benchmark.secrets_state.as_deref(), benchmark.secret_injected_at);
        }
    }
    ctx.metrics.active("Sandbox", sandboxes);
    ctx.metrics.active("EvalJob", attempts);
    ctx.metrics.live(copies.present, copies.overdue, copies.oldest);
}

/// The run Secrets that there are, as far as this process can tell.
#[derive(Debug, Default, PartialEq, Eq)]
struct Copies {
    present: usize,
    overdue: usize,
    /// The age of the oldest, in seconds.
    oldest: i64,
}

impl Copies {
    /// Counts a run's. What this process did is newer than what the status shows: while a Pod starts, that shows nothing.
    fn count(&mut self, now: Timestamp, known: Option<SecretFact>, state: Option<&str>, injected: Option<Time>) {
        self.overdue += usize::from(state == Some("RemovalFailing"));
        let told = matches!(state, Some("Injected" | "RemovalFailing"));
        let made = match known {
            Some(SecretFact::Made(at)) => Some(at),
            Some(SecretFact::Unknown) | None if told => injected.map(|at| at.0),
            _ => return,
        };
        self.present += 1;
        self.oldest = self.oldest.max(made.map_or(0, |made| now.duration_since(made).as_secs()));
    }
}

fn names(metadata: &kube::api::ObjectMeta) -> (String, String) {
    (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn store(revoked: &[&str], told: &[&str]) -> TeamSecretStore {
        let revoked: Vec<_> =
            revoked.iter().map(|name| json!({"name": name, "since": "2026-01-01T00:00:00Z"})).collect();
        let told: Vec<_> = told.iter().map(|name| json!({"name": name, "runsEnded": 0, "runsEnding": 0})).collect();
        serde_json::from_value(json!({
            "apiVersion": "daypass.dev/v1alpha1", "kind": "TeamSecretStore", "metadata": {"name": "default"},
            "spec": {"sealed": {}, "revoked": revoked}, "status": {"revoked": told},
        }))
        .unwrap()
    }

    #[test]
    fn a_copy_counts_from_its_making_to_its_proven_end() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let injected = Some(Time(at(40)));
        for (what, known, state, injected, counted) in [
            ("made, and no status tells of it", Some(SecretFact::Made(at(90))), None, None, (1, 0, 10)),
            ("made and told", Some(SecretFact::Made(at(90))), Some("Injected"), injected, (1, 0, 10)),
            ("gone, and the status is late", Some(SecretFact::Gone(at(95))), Some("Injected"), injected, (0, 0, 0)),
            ("an earlier leader's", Some(SecretFact::Unknown), Some("Injected"), injected, (1, 0, 60)),
            ("one that nobody has looked at yet", None, Some("Injected"), injected, (1, 0, 60)),
            ("an earlier leader's that does not go", None, Some("RemovalFailing"), injected, (1, 1, 60)),
            ("an earlier leader's that has gone", None, Some("Removed"), injected, (0, 0, 0)),
            ("one that waits", Some(SecretFact::NotMade), Some("Waiting"), None, (0, 0, 0)),
        ] {
            let mut copies = Copies::default();
            copies.count(at(100), known, state, injected);
            assert_eq!((copies.present, copies.overdue, copies.oldest), counted, "{what}");
        }
    }

    #[test]
    fn a_revocation_is_new_once() {
        assert_eq!(newly_revoked(&store(&["A", "B"], &["A"]), None), ["B"], "an earlier leader has told of A");
        let seen = revoked_names(&store(&["A"], &[]));
        assert_eq!(newly_revoked(&store(&["A", "B"], &["B"]), Some(&seen)), ["B"]);
        assert_eq!(newly_revoked(&store(&["A"], &[]), Some(&seen)), [""; 0]);
        let lifted = revoked_names(&store(&[], &[]));
        assert_eq!(newly_revoked(&store(&["A"], &["A"]), Some(&lifted)), ["A"], "revoked, lifted, and revoked again");
    }
}
