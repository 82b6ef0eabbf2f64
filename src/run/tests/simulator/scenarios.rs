//! The lives that are tried.

use super::super::*;
use super::world::{Whose, World};

/// Something that happens to the cluster.
pub(super) type Event = fn(&mut World);

pub(super) struct Scenario {
    pub(super) name: &'static str,
    pub(super) given: Event,
    /// What happens at which second.
    pub(super) events: Vec<(i64, Event)>,
    /// All writes of a life in which nothing goes wrong.
    pub(super) writes: &'static [&'static str],
    /// Other ends that a fault may bring about.
    pub(super) also: Vec<Reason>,
}

fn scenario(name: &'static str, given: Event) -> Scenario {
    Scenario { name, given, events: Vec::new(), writes: &[], also: Vec::new() }
}

impl Scenario {
    fn at(mut self, second: i64, event: Event) -> Self {
        self.events.push((second, event));
        self
    }

    fn writes(mut self, writes: &'static [&'static str]) -> Self {
        self.writes = writes;
        self
    }

    /// A crash may leave the end unseen (`PodLost`), or the Pod unknown to the status: then the run is made anew.
    fn or(mut self, reasons: &[Reason]) -> Self {
        self.also.extend(reasons);
        self
    }
}

/// The Secret is gone as soon as everything runs, and the status says so.
const STARTED: &str = "+Secret +Pod -Secret Running/Started(Gone)";

fn nothing(_: &mut World) {}

fn long_running(world: &mut World) {
    world.surroundings.runs_for = None;
}

fn stop(world: &mut World) {
    world.run.ends = Some(Reason::Stopped);
}

fn missing(world: &mut World) {
    world.surroundings.problem = Some((Reason::SecretNotFound, true));
}

fn delete_object(world: &mut World) {
    world.object = false;
}

/// Somebody else's finalizer keeps the object.
fn delete_object_held(world: &mut World) {
    world.run.deleting = true;
}

/// Every life, with the writes that it costs while nothing goes wrong.
pub(super) fn scenarios() -> Vec<Scenario> {
    let mut all = undisturbed();
    all.extend(waiting());
    all.extend(ended());
    all.extend(disturbed());
    all
}

fn undisturbed() -> Vec<Scenario> {
    vec![
        scenario("AfterStart", nothing).writes(&[STARTED, "Completed/Succeeded(Gone)"]),
        scenario("AfterFinish", |world| world.run.removal = SecretRemoval::AfterFinish)
            .writes(&["+Secret +Pod Running/Started(Present) -Secret Completed/Succeeded(Gone)"]),
        scenario("over at once", |world| world.surroundings.runs_for = Some(0))
            .writes(&[STARTED, "Completed/Succeeded(Gone)"]),
        scenario("no secrets", |world| world.run.references.clear())
            .writes(&["+Pod Running/Started(NoSecrets) Completed/Succeeded(NoSecrets)"]),
        scenario("network", |world| world.run.network = true).writes(&[
            "+Network",
            STARTED,
            "Completed/Succeeded(Gone)",
        ]),
        scenario("fails", |world| world.surroundings.exit_code = 7).writes(&[STARTED, "Failed/NonZeroExit(Gone)"]),
        scenario("injected proxy", |world| world.surroundings.proxy = true)
            .writes(&[STARTED, "Completed/Succeeded(Gone)"]),
        scenario("injected proxy that starts late", |world| {
            world.surroundings.proxy = true;
            world.surroundings.proxy_late_by = 5;
        })
        .writes(&[STARTED, "Completed/Succeeded(Gone)"]),
        scenario("slow start", |world| world.surroundings.starts_after = Some(40)).writes(&[
            "+Secret +Pod Pending/Starting(Present) -Secret Running/Started(Gone)",
            "Completed/Succeeded(Gone)",
        ]),
        scenario("TTL", |world| world.run.ttl = Some(seconds(30)))
            .writes(&[STARTED, "Completed/Succeeded(Gone) -object"]),
    ]
}

fn waiting() -> Vec<Scenario> {
    vec![
        scenario("denied", |world| world.surroundings.problem = Some((Reason::AccessDenied, false)))
            .writes(&["Failed/AccessDenied(NotMade)"]),
        scenario("missing, then found", missing)
            .writes(&["Pending/SecretNotFound(NotMade)", STARTED, "Completed/Succeeded(Gone)"])
            .at(20, |world| world.surroundings.problem = None),
        scenario("missing for ever", missing)
            .writes(&["Pending/SecretNotFound(NotMade) Failed/SecretNotFound(NotMade)"]),
        scenario("missing, then denied", missing)
            .writes(&["Pending/SecretNotFound(NotMade) Failed/AccessDenied(NotMade)"])
            .at(20, |world| world.surroundings.problem = Some((Reason::AccessDenied, false))),
        scenario("quota", |world| world.surroundings.quota_full = true)
            .writes(&[
                "+Secret !+Pod -Secret Pending/QuotaExceeded(NotMade) ?Pod ?Pod ?Pod",
                STARTED,
                "Completed/Succeeded(Gone)",
            ])
            .at(25, |world| world.surroundings.quota_full = false),
        scenario("quota, then stopped", |world| world.surroundings.quota_full = true)
            .writes(&["+Secret !+Pod -Secret Pending/QuotaExceeded(NotMade) ?Pod ?Pod", "Terminated/Stopped(Gone)"])
            .at(25, stop),
        scenario("refused", |world| world.surroundings.pod_refused = true)
            .writes(&["+Secret !+Pod -Secret Failed/PodRefused(Gone)"]),
        scenario("unguarded at first", |world| world.surroundings.guarded = false)
            .writes(&["Pending/OperatorNotReady(NotMade)", STARTED, "Completed/Succeeded(Gone)"])
            .at(7, |world| world.surroundings.guarded = true),
    ]
}

fn ended() -> Vec<Scenario> {
    vec![
        scenario("stopped before anything", stop).writes(&["Terminated/Stopped(NotMade)"]),
        scenario("stopped while it waits", missing)
            .writes(&["Pending/SecretNotFound(NotMade) Terminated/Stopped(NotMade)"])
            .at(20, stop),
        scenario("stopped while it starts", long_running)
            .writes(&["+Secret +Pod -Secret -Pod(Stopped) Terminated/Stopped(Gone)"])
            .at(1, stop),
        scenario("stopped while it runs", long_running)
            .writes(&[STARTED, "-Pod(Stopped) Terminated/Stopped(Gone)"])
            .at(20, stop),
        scenario("stopped, AfterFinish", |world| {
            long_running(world);
            world.run.removal = SecretRemoval::AfterFinish;
        })
        .writes(&["+Secret +Pod Running/Started(Present) -Secret -Pod(Stopped)", "Terminated/Stopped(Gone)"])
        .at(20, stop),
        scenario("stopped, ends slowly", |world| {
            long_running(world);
            world.run.grace = seconds(60);
            world.surroundings.ends_after = 30;
        })
        .writes(&[STARTED, "-Pod(Stopped) Terminating/Stopped(Gone) Terminated/Stopped(Gone)"])
        .at(20, stop),
        scenario("revoked while it runs", long_running)
            .writes(&[STARTED, "-Pod(Revoked) Terminated/Revoked(Gone)"])
            .at(20, |world| world.surroundings.revoked = true),
        scenario("revoked while it starts", long_running)
            .writes(&["+Secret +Pod -Secret -Pod(Revoked) Terminated/Revoked(Gone)"])
            .at(1, |world| world.surroundings.revoked = true),
        scenario("revoked, lifted while it ends", |world| {
            long_running(world);
            world.surroundings.ends_after = 5;
        })
        .writes(&[STARTED, "-Pod(Revoked) Terminated/Revoked(Gone)"])
        .at(20, |world| world.surroundings.revoked = true)
        .at(22, |world| world.surroundings.revoked = false)
        // Two crashes may sleep through all of it.
        .or(&[Reason::PodDeleted, Reason::PodLost, Reason::DeadlineExceeded]),
        scenario("lifetime", long_running).writes(&[STARTED, "Failed/DeadlineExceeded(Gone)"]),
        scenario("image", |world| world.surroundings.starts_after = None).or(&[Reason::PodLost]).writes(&[
            "+Secret +Pod Pending/ImagePullFailed(Present)",
            "-Secret -Pod(ImagePullFailed) Failed/ImagePullFailed(Gone)",
        ]),
    ]
}

fn disturbed() -> Vec<Scenario> {
    vec![
        scenario("Pod deleted while it runs", long_running)
            .or(&[Reason::PodLost])
            .writes(&[STARTED, "Terminated/PodDeleted(Gone)"])
            .at(20, |world| world.pod.iter_mut().for_each(|pod| pod.deleting = Some(world.now))),
        scenario("Pod deleted while it starts", nothing)
            .or(&[Reason::PodLost, Reason::Succeeded])
            .writes(&["+Secret +Pod -Secret Terminated/PodDeleted(Gone)"])
            .at(1, |world| world.pod.iter_mut().for_each(|pod| pod.deleting = Some(world.now))),
        scenario("Secret deleted before the start", nothing)
            .or(&[Reason::PodLost, Reason::Succeeded])
            .writes(&["+Secret +Pod -Secret -Pod(SecretLost) Failed/SecretLost(Gone)"])
            .at(1, |world| world.secret = None),
        scenario("Secret deleted after the start", |world| world.run.removal = SecretRemoval::AfterFinish)
            .writes(&["+Secret +Pod Running/Started(Present) -Secret Completed/Succeeded(Gone)"])
            .at(20, |world| world.secret = None),
        scenario("drained", long_running).or(&[Reason::PodLost]).writes(&[STARTED, "Failed/Evicted(Gone)"]).at(
            20,
            |world| {
                if let Some(pod) = &mut world.pod {
                    pod.disrupted = true;
                    pod.deleting = Some(world.now);
                }
            },
        ),
        scenario("node lost", long_running).writes(&[STARTED, "Terminating/PodDeleted(Gone) Failed/PodLost(Gone)"]).at(
            20,
            |world| {
                world.surroundings.node_alive = false;
                if let Some(pod) = &mut world.pod {
                    pod.deleting = Some(world.now);
                }
            },
        ),
        scenario("node silent past the lifetime", long_running)
            .writes(&[STARTED, "-Pod(DeadlineExceeded)", "Terminating/DeadlineExceeded(Gone) Failed/PodLost(Gone)"])
            .at(20, |world| world.surroundings.node_alive = false),
        scenario("foreign Secret", |world| world.secret = Some(Whose::Foreign))
            .writes(&["+Secret !-Secret Failed/NameConflict(NotMade)"]),
        scenario("foreign Pod", |world| world.foreign_pod = true)
            .writes(&["+Secret -Secret Failed/NameConflict(Gone)"]),
        scenario("removal fails for a while", |world| world.surroundings.removal_fails = true)
            .writes(&[
                "+Secret +Pod !-Secret Running/Started(RemovalFailing) !-Secret -Secret",
                "Running/Started(Gone) Completed/Succeeded(Gone)",
            ])
            .at(30, |world| world.surroundings.removal_fails = false),
        scenario("removal fails past the end", |world| world.surroundings.removal_fails = true)
            .writes(&[
                "+Secret +Pod !-Secret Running/Started(RemovalFailing) !-Secret",
                "Completed/Succeeded(RemovalFailing) !-Secret -Secret",
                "Completed/Succeeded(Gone)",
            ])
            .at(90, |world| world.surroundings.removal_fails = false),
        scenario("removal fails, stopped", |world| {
            long_running(world);
            world.surroundings.removal_fails = true;
        })
        .writes(&[
            "+Secret +Pod !-Secret Running/Started(RemovalFailing) !-Secret",
            "-Pod(Stopped) !-Secret Terminated/Stopped(RemovalFailing) !-Secret",
            "-Secret Terminated/Stopped(Gone)",
        ])
        .at(20, stop)
        .at(90, |world| world.surroundings.removal_fails = false),
        scenario("object deleted while it waits", missing)
            .writes(&["Pending/SecretNotFound(NotMade)"])
            .at(20, delete_object),
        scenario("object deleted while it starts", nothing).writes(&["+Secret +Pod"]).at(1, delete_object),
        scenario("object deleted while it runs", nothing).writes(&[STARTED]).at(20, delete_object),
        scenario("object deleted, held", long_running).writes(&[STARTED, "-Pod(Deleting)"]).at(20, delete_object_held),
        scenario("object deleted after its end", nothing)
            .writes(&[STARTED, "Completed/Succeeded(Gone)"])
            .at(90, delete_object),
    ]
}
