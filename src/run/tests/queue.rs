//! A Pod that waits for a queue: it stands without a Secret, and gets one when it has passed.

use super::*;
use crate::run::GATE;

fn queued() -> Scene {
    scene().shape(|run| run.gated = true)
}

fn behind(gates: &[&str]) -> PodView {
    PodView { gates: gates.iter().map(|&gate| gate.to_owned()).collect(), injected: None, versions: None, ..pending() }
}

#[test]
fn a_pod_in_a_queue_stands_without_a_secret() {
    let queue = ["kueue.x-k8s.io/admission", GATE];
    let none = SecretCopy::NotMade;
    check(vec![
        ("the Pod comes first", queued().asked_nobody(), 0, calls([Step::CreatePod])),
        (
            "it stands in its queue",
            queued().asked_nobody().pod(behind(&queue)),
            1,
            writes(Phase::Pending, Reason::Queued, none, 301),
        ),
        (
            "for however long",
            queued().asked_nobody().pod(behind(&queue)).recorded(Phase::Pending, Reason::Queued, none).status(
                |state| {
                    state.pod = true;
                },
            ),
            999_999,
            rests(1_000_299),
        ),
        (
            "it has passed: first the Secret, then the gate",
            queued().pod(behind(&[GATE])),
            500,
            calls([Step::CreateSecret, Step::LiftGate]),
        ),
        ("the Secret is there", queued().pod(behind(&[GATE])).made(400), 500, calls([Step::LiftGate])),
        (
            "a store does not answer",
            queued().pod(behind(&[GATE])).problem(Reason::StoreUnavailable, true),
            500,
            writes(Phase::Pending, Reason::StoreUnavailable, none, 505),
        ),
        (
            "it waits on, and says nothing new",
            queued()
                .pod(behind(&[GATE]))
                .problem(Reason::StoreUnavailable, true)
                .recorded(Phase::Pending, Reason::StoreUnavailable, none)
                .status(|state| (state.pod, state.waiting_since) = (true, Some(t(500)))),
            700,
            rests(705),
        ),
        (
            "for as long as a run waits for its secrets",
            queued()
                .pod(behind(&[GATE]))
                .problem(Reason::StoreUnavailable, true)
                .recorded(Phase::Pending, Reason::StoreUnavailable, none)
                .status(|state| (state.pod, state.waiting_since) = (true, Some(t(500)))),
            801,
            calls([delete_pod(Reason::StoreUnavailable)]),
        ),
        (
            "a right was taken away meanwhile",
            queued().pod(behind(&[GATE])).problem(Reason::AccessDenied, false),
            500,
            calls([delete_pod(Reason::AccessDenied)]),
        ),
        (
            "nothing is handed out without the policies",
            queued().unguarded().asked_nobody().pod(behind(&[GATE])),
            500,
            writes(Phase::Pending, Reason::OperatorNotReady, none, 505),
        ),
        (
            "it is stopped in its queue",
            queued().asked_nobody().stop().pod(behind(&queue)).secret(SecretFact::NotMade),
            500,
            calls([delete_pod(Reason::Stopped)]),
        ),
    ]);
}

#[test]
fn secrets_are_asked_for_when_the_queue_is_passed_and_not_before() {
    for (name, scene, asks) in [
        ("no Pod yet", queued(), false),
        ("in the queue", queued().pod(behind(&["other", GATE])), false),
        ("passed", queued().pod(behind(&[GATE])), true),
        ("passed and lifted", queued().pod(behind(&[])), false),
        ("without a queue", scene(), true),
    ] {
        assert_eq!(scene.wants_secrets(1), asks, "{name}");
    }
}

#[test]
fn time_in_a_queue_is_not_the_runs() {
    // Made at 0, its Secret at 5000: the 600 s to start count from there.
    let lifted = |at: i64| queued().pod(behind(&[])).made(5000).asked_nobody().plan(at);
    assert!(lifted(5599).steps.is_empty());
    let late = calls([delete_pod(Reason::StartupTimeout)]);
    let Does::Calls(wanted) = late else { return };
    assert!(wanted.iter().all(|step| lifted(5600).steps.contains(step)), "{:?}", lifted(5600).steps);
}
