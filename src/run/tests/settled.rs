//! After the end: what is left is the proof of the removal, and the object's own end.

use super::*;
use Phase::{Completed, Failed, Terminated};
use SecretCopy::{Gone, NoSecrets, NotMade, Present, RemovalFailing};
use Step::{DeleteOwner, DeleteSecret};

fn over(copy: SecretCopy) -> Scene {
    scene().recorded(Completed, Reason::Succeeded, copy)
}

#[test]
fn a_restart_over_settled_runs_does_nothing() {
    let rows = [
        ("completed", over(Gone)),
        ("its Pod stays for its logs", over(Gone).pod(ended(0, "Completed"))),
        ("no secrets", over(NoSecrets).no_secrets()),
        ("never made", scene().recorded(Failed, Reason::AccessDenied, NotMade)),
        ("a foreign Pod", scene().recorded(Failed, Reason::NameConflict, NotMade).foreign_pod()),
        ("stopped", over(Gone).stop()),
        ("revoked since", over(Gone).revoked()),
        ("rotated since", over(Gone).newer_version()),
        ("unguarded", over(Gone).unguarded()),
        ("a lost node", scene().recorded(Failed, Reason::PodLost, Gone).pod(deleted(started(), 20))),
        // `main` has ended; what a webhook has put beside it may take its time.
        ("a proxy runs on", over(Gone).pod(PodView { phase: PodPhase::Running, ..ended(0, "Completed") })),
    ];
    for (name, scene) in rows {
        let plan = scene.plan(100);
        assert_eq!(Does::of(&plan), Does::Rests(None), "{name}");
        assert_eq!(plan.state, scene.recorded, "{name}");
    }
}

#[test]
fn the_removal_is_tried_until_it_is_proven() {
    check(vec![
        ("there", over(Present), 100, calls([DeleteSecret])),
        ("failing", over(RemovalFailing), 100, calls([DeleteSecret])),
        ("failing for long", over(RemovalFailing).removal_fails_since(0), 100, calls([DeleteSecret])),
        ("proven", over(RemovalFailing).gone(99), 100, writes(Completed, Reason::Succeeded, Gone, 100)),
        ("before the TTL", over(RemovalFailing).ttl(1), 100, calls([DeleteSecret])),
        // Ours cannot be there while something foreign bears its name.
        ("foreign", over(RemovalFailing).secret(SecretFact::Foreign), 100, {
            writes(Completed, Reason::Succeeded, Gone, 100)
        }),
        ("the object goes", over(RemovalFailing).deleting(), 100, calls([DeleteSecret])),
    ]);
    assert_eq!(over(RemovalFailing).gone(99).plan(100).state.removed, Some(t(99)));
    assert_eq!(over(RemovalFailing).secret(SecretFact::Foreign).plan(100).state.removed, Some(t(100)));
}

#[test]
fn the_object_goes_when_its_time_is_over() {
    check(vec![
        ("not yet", over(Gone).ttl(60), 100, rests(120)),
        ("now", over(Gone).ttl(60), 120, calls([DeleteOwner])),
        ("at once", over(Gone).ttl(0), 60, calls([DeleteOwner])),
        ("it goes already", over(Gone).ttl(60).deleting(), 121, Does::Rests(None)),
        ("never", over(Gone), 100_000, Does::Rests(None)),
    ]);
}

#[test]
fn a_terminal_state_never_changes() {
    let ends = [(Completed, Reason::Succeeded), (Failed, Reason::NonZeroExit), (Terminated, Reason::Stopped)];
    for (phase, reason) in ends {
        let over =
            || scene().recorded(phase, reason, RemovalFailing).gone(90).status(|state| state.exit_code = Some(7));
        let now = [
            over(),
            over().pod(ended(3, "Error")),
            over().stop(),
            over().revoked(),
            over().foreign_pod(),
            over().problem(Reason::AccessDenied, false),
            over().refused(Refusal::NamespaceTerminating),
            over().ended_for(Reason::DeadlineExceeded),
        ];
        for scene in now {
            let state = scene.plan(100).state;
            let told = State { copy: Gone, removed: Some(t(90)), ..scene.recorded.clone() };
            assert_eq!(state, told);
        }
    }
}

#[test]
fn a_pod_that_shows_up_after_the_end_is_ended() {
    // Its create had been given up as failed, or another leader's cache did not know it yet.
    let late = || scene().recorded(Terminated, Reason::Stopped, Gone);
    check(vec![
        ("starting", late().pod(pending()), 100, calls([delete_pod(Reason::Stopped)])),
        ("running", late().pod(started()), 100, calls([delete_pod(Reason::Stopped)])),
        ("being deleted", late().pod(deleted(started(), 90)), 100, Does::Rests(None)),
        ("deleted, unseen", late().pod(started()).ended_for(Reason::Stopped), 100, Does::Rests(None)),
        ("its Secret first", scene().recorded(Terminated, Reason::Stopped, RemovalFailing).pod(started()), 100, {
            calls([DeleteSecret, delete_pod(Reason::Stopped)])
        }),
    ]);
}
