//! Reads everything that a plan depends on, from caches where they can be trusted.

use kube::Api;
use kube::runtime::reflector::ObjectRef;

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Pod;

use super::super::Context;
use super::super::memory::Remembered;
use super::Error;
use crate::kube_ext::must;
use crate::run::{Facts, GATE, Observed, PodSeen, PodView, Resolution, Run, State};

/// How long the watch may take to show a Pod that was just made, before the API server is asked.
const WATCH_LAG: SignedDuration = SignedDuration::from_secs(5);

/// What was read for one round.
pub(super) struct Seen {
    pub(super) pod: PodSeen,
    revoked: Vec<String>,
    newer_version: bool,
    guarded: bool,
}

impl Seen {
    /// All that a plan may depend on.
    pub(super) fn observed<'a>(
        &self,
        run: &'a Run,
        recorded: &'a State,
        facts: &'a Facts,
        secrets: Resolution,
    ) -> Observed<'a> {
        Observed {
            run,
            recorded,
            pod: self.pod.clone(),
            facts,
            secrets,
            revoked: self.revoked.clone(),
            newer_version: self.newer_version,
            guarded: self.guarded,
        }
    }
}

pub(super) async fn see(run: &Run, recorded: &State, ctx: &Context, known: &mut Remembered) -> Result<Seen, Error> {
    let pod = pod(run, recorded, ctx, known).await?;
    let newer_version = matches!(pod, PodSeen::Ours(_)) && newer_version(run, recorded, ctx, known);
    Ok(Seen { pod, revoked: revoked(run, ctx), newer_version, guarded: *ctx.guarded.borrow() })
}

async fn pod(run: &Run, recorded: &State, ctx: &Context, known: &mut Remembered) -> Result<PodSeen, Error> {
    let key = ObjectRef::<Pod>::new(&run.name).within(&run.namespace);
    if let Some(pod) = ctx.pods.get(&key) {
        if !is_ours(&pod, run) {
            return Ok(PodSeen::Foreign);
        }
        let mut view = PodView::of(&pod);
        known.pod_watched = true;
        if known.gate_lifted {
            // The API server has acknowledged it: the watch is late.
            view.gates.retain(|gate| gate != GATE);
        }
        known.facts.pod = Some(view.clone());
        return Ok(PodSeen::Ours(Box::new(view)));
    }
    if known.pod_foreign {
        return Ok(PodSeen::Foreign);
    }
    match &known.facts.pod {
        // The watch has shown it and shows it no more: it is gone.
        Some(_) if known.pod_watched => Ok(PodSeen::Absent),
        Some(made) if ctx.clock.now().duration_since(made.created) < WATCH_LAG => {
            Ok(PodSeen::Ours(Box::new(made.clone())))
        }
        Some(_) => live_pod(run, ctx, known).await,
        // After a take-over the cache of Pods may be behind that of Sandboxes; after a lost answer it may be behind us.
        None if known.pod_uncertain || recorded.pod && !recorded.phase.is_terminal() => live_pod(run, ctx, known).await,
        None => Ok(PodSeen::Absent),
    }
}

/// Asks the API server itself for the Pod.
pub(super) async fn live_pod(run: &Run, ctx: &Context, known: &mut Remembered) -> Result<PodSeen, Error> {
    let pods = Api::<Pod>::namespaced(ctx.client.clone(), &run.namespace);
    match must("look at the run's Pod", pods.get_opt(&run.name)).await? {
        Some(pod) if is_ours(&pod, run) => {
            let view = PodView::of(&pod);
            known.facts.pod = Some(view.clone());
            Ok(PodSeen::Ours(Box::new(view)))
        }
        Some(_) => {
            known.pod_foreign = true;
            Ok(PodSeen::Foreign)
        }
        None => {
            known.pod_watched = known.facts.pod.is_some();
            Ok(PodSeen::Absent)
        }
    }
}

/// A Pod is ours only by its owner's UID.
fn is_ours(pod: &Pod, run: &Run) -> bool {
    pod.metadata.owner_references.iter().flatten().any(|owner| owner.uid == run.owner_uid)
}

/// Access names of the run's secrets that their stores list as revoked.
fn revoked(run: &Run, ctx: &Context) -> Vec<String> {
    run.references
        .iter()
        .filter(|reference| {
            let key = ObjectRef::new(reference.store()).within(reference.team(&run.namespace));
            ctx.stores
                .get(&key)
                .is_some_and(|store| store.spec.revoked.iter().any(|revoked| revoked.name == reference.name))
        })
        .map(|reference| format!("{} of team {}", reference.access_name(), reference.team(&run.namespace)))
        .collect()
}

/// Whether a secret that the run holds, unpinned, has a newer version now.
fn newer_version(run: &Run, recorded: &State, ctx: &Context, known: &Remembered) -> bool {
    let from_pod = known.facts.pod.as_ref().and_then(|pod| pod.versions.as_ref());
    let held = known.facts.versions.as_ref().or(from_pod).unwrap_or(&recorded.versions);
    run.references.iter().zip(held).any(|(reference, version)| {
        let Some(version) = version else { return false };
        if reference.version.is_some() {
            return false;
        }
        let team = reference.team(&run.namespace);
        let store = ctx.stores.get(&ObjectRef::new(reference.store()).within(team));
        if store.is_some_and(|store| store.spec.sealed.is_none()) {
            // Backends' versions have no order that holds for all: another one than the run's was read after it.
            let newest = ctx.resolver.newest(team, reference.store(), &reference.name);
            return newest.is_some_and(|newest| *newest != **version);
        }
        let object = crate::api::names::team_secret_object(&reference.name);
        ctx.team_secrets
            .get(&ObjectRef::new(&object).within(team))
            .and_then(|secret| secret.spec.versions.first().map(|newest| newest.version))
            .is_some_and(|newest| version.parse::<i64>().is_ok_and(|held| newest > held))
    })
}
