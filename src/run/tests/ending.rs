//! How a run ended, told from its Pod or from the Pod's absence.

use super::*;
use Phase::{Completed, Failed, Terminated};
use SecretCopy::{Gone, NotMade, Present, RemovalFailing};
use Step::DeleteSecret;

/// The run's Secret is proven gone.
fn after(pod: PodView) -> Scene {
    scene().gone(3).pod(pod)
}

fn failed_by(reason: &str) -> PodView {
    PodView { phase: PodPhase::Failed, reason: reason.into(), ..pending() }
}

#[test]
fn the_pod_tells_how_the_run_ended() {
    let rows = vec![
        ("well", after(ended(0, "Completed")), Completed, Reason::Succeeded, Some(0)),
        ("badly", after(ended(7, "Error")), Failed, Reason::NonZeroExit, Some(7)),
        ("memory", after(ended(137, "OOMKilled")), Failed, Reason::OOMKilled, Some(137)),
        ("no such program", after(ended(128, "StartError")), Failed, Reason::ContainerCreateFailed, Some(128)),
        ("the node lost sight of it", after(ended(137, "ContainerStatusUnknown")), Failed, Reason::PodLost, Some(137)),
        ("lifetime", after(failed_by("DeadlineExceeded")), Failed, Reason::DeadlineExceeded, None),
        (
            "lifetime, with a code",
            after(PodView { reason: "DeadlineExceeded".into(), ..ended(143, "Error") }),
            Failed,
            Reason::DeadlineExceeded,
            None,
        ),
        ("evicted", after(failed_by("Evicted")), Failed, Reason::Evicted, None),
        ("node shut down", after(failed_by("Terminated")), Failed, Reason::Evicted, None),
        ("disrupted", after(PodView { disrupted: true, ..ended(143, "Error") }), Failed, Reason::Evicted, None),
        ("the node says no", after(failed_by("NodeAffinity")), Failed, Reason::PodRefused, None),
        ("node lost", after(failed_by("NodeLost")), Failed, Reason::PodLost, None),
        ("nobody knows", after(failed_by("")), Failed, Reason::PodLost, None),
        ("deleted by hand", after(deleted(ended(143, "Error"), 55)), Terminated, Reason::PodDeleted, None),
        ("ended, deleted later", after(deleted(ended(0, "Completed"), 61)), Completed, Reason::Succeeded, Some(0)),
        ("stopped", after(deleted(ended(143, "Error"), 55)).stop(), Terminated, Reason::Stopped, None),
        ("stopped too late", after(ended(0, "Completed")).stop(), Completed, Reason::Succeeded, Some(0)),
        (
            "stopped, and the Pod deleted, too late",
            after(deleted(ended(7, "Error"), 61)).stop().ended_for(Reason::Stopped),
            Failed,
            Reason::NonZeroExit,
            Some(7),
        ),
        (
            "revoked, then lifted",
            after(deleted(ended(143, "Error"), 55)).ended_for(Reason::Revoked),
            Terminated,
            Reason::Revoked,
            None,
        ),
    ];
    for (name, scene, phase, reason, exit_code) in rows {
        let plan = scene.plan(70);
        assert_eq!(Does::of(&plan), writes(phase, reason, Gone, 70), "{name}");
        assert_eq!(plan.state.exit_code, exit_code, "{name}");
        assert!(!plan.state.message.is_empty() && !plan.state.message.contains("because  "), "{name}");
        assert_eq!(plan.state.expires, None, "{name}");
    }
}

#[test]
fn the_end_is_told_with_the_proof_of_the_removal() {
    let done = || scene().made(0).pod(ended(0, "Completed"));
    check(vec![
        ("Secret first", done(), 61, calls([DeleteSecret])),
        ("nothing is known", scene().pod(ended(0, "Completed")), 61, calls([DeleteSecret])),
        ("fails for a moment", done().removal_fails_since(61), 62, calls([DeleteSecret])),
        ("fails for 2 s", done().removal_fails_since(61), 63, {
            writes(Completed, Reason::Succeeded, RemovalFailing, 63)
        }),
        (
            "the status proves it",
            scene().pod(ended(0, "Completed")).recorded(Phase::Running, Reason::Started, Gone),
            61,
            writes(Completed, Reason::Succeeded, Gone, 61),
        ),
        ("the object goes", scene().pod(ended(0, "Completed")).deleting().gone(61), 61, Does::Rests(None)),
    ]);
    let state = scene().gone(62).pod(ended(0, "Completed")).plan(62).state;
    assert_eq!((state.started, state.completed), (Some(t(2)), Some(t(60))), "the program's own times");
    assert_eq!((state.injected, state.removed), (Some(t(0)), Some(t(62))));
}

#[test]
fn the_run_is_its_own_container_whatever_was_injected() {
    let beside = |phase| PodView { phase, others: vec!["proxy".into()], ..ended(0, "Completed") };
    check(vec![
        ("the proxy runs on", after(beside(PodPhase::Running)), 61, writes(Completed, Reason::Succeeded, Gone, 61)),
        // The proxy's image cannot be pulled: the Pod's phase never leaves Pending.
        ("another never started", after(beside(PodPhase::Pending)), 61, {
            writes(Completed, Reason::Succeeded, Gone, 61)
        }),
        ("another failed", after(beside(PodPhase::Failed)), 61, writes(Completed, Reason::Succeeded, Gone, 61)),
        ("the Secret goes all the same", scene().made(0).pod(beside(PodPhase::Running)), 61, calls([DeleteSecret])),
    ]);
    let message = after(beside(PodPhase::Running)).plan(61).state.message;
    assert!(message.ends_with("other containers of the Pod still run: proxy"), "{message}");
}

#[test]
fn a_pod_that_vanished_is_told_by_what_was_last_seen() {
    let vanished = |last: PodView| scene().gone(3).last_seen(last);
    check(vec![
        ("deleted by hand", vanished(deleted(started(), 20)), 30, writes(Terminated, Reason::PodDeleted, Gone, 30)),
        ("drained", vanished(PodView { disrupted: true, ..started() }), 30, writes(Failed, Reason::Evicted, Gone, 30)),
        ("unseen", vanished(started()), 30, writes(Failed, Reason::PodLost, Gone, 30)),
        ("it had ended", vanished(ended(0, "Completed")), 61, writes(Completed, Reason::Succeeded, Gone, 61)),
        ("stopped", vanished(deleted(started(), 20)).stop(), 30, writes(Terminated, Reason::Stopped, Gone, 30)),
        ("for its image", vanished(waiting("ErrImagePull", "")).ended_for(Reason::ImagePullFailed), 700, {
            writes(Failed, Reason::ImagePullFailed, Gone, 700)
        }),
        ("it was due to go", vanished(without_its_secret()), 11, writes(Failed, Reason::SecretLost, Gone, 11)),
        ("its time was over", vanished(started()), 3605, writes(Failed, Reason::DeadlineExceeded, Gone, 3605)),
        ("its Secret goes first", scene().made(0).last_seen(started()), 30, calls([DeleteSecret])),
        ("known by the status", scene().recorded(Phase::Running, Reason::Started, Present), 30, calls([DeleteSecret])),
        ("and proven", scene().gone(30).recorded(Phase::Running, Reason::Started, Present), 30, {
            writes(Failed, Reason::PodLost, Gone, 30)
        }),
    ]);
    let state = vanished(ended(0, "Completed")).plan(70).state;
    assert!(state.pod, "a Pod was made");
    assert_eq!((state.started, state.completed), (Some(t(2)), Some(t(60))));
    assert_eq!(state.versions, [Some("3".to_owned())]);
    let message = vanished(waiting("ErrImagePull", "")).ended_for(Reason::ImagePullFailed).plan(700).state.message;
    assert!(message.contains("600 s") && message.contains("spec.image"), "{message}");
}

#[test]
fn a_foreign_secret_proves_that_ours_is_gone() {
    let state = scene().secret(SecretFact::Foreign).pod(ended(0, "Completed")).plan(61);
    assert_eq!(Does::of(&state), writes(Completed, Reason::Succeeded, Gone, 61));
    let never_made = scene().secret(SecretFact::Foreign).plan(1);
    assert_eq!(Does::of(&never_made), writes(Failed, Reason::NameConflict, NotMade, 1));
}

#[test]
fn a_long_message_fits_the_status() {
    let text = "x".repeat(100_000);
    let state = scene().gone(1).refused(Refusal::Refused(text.clone())).plan(1).state;
    assert!(state.message.chars().count() <= 32_768);
    let state = scene().gone(1).refused(Refusal::Quota(text, t(9))).plan(1).state;
    assert!(state.message.chars().count() <= 32_768);
}
