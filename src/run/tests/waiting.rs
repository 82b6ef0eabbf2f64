//! Before the Pod: resolve all or nothing, then the Secret, then the Pod; wait, or be refused.

use super::*;
use Phase::{Failed, Pending, Terminated};
use SecretCopy::{Gone, NoSecrets, NotMade, Present, RemovalFailing};
use Step::{CreateNetworkPolicy, CreatePod, CreateSecret, DeleteSecret, TryPod};

fn fresh() -> Scene {
    scene().secret(SecretFact::NotMade)
}

fn waits_for_secret() -> Scene {
    fresh()
        .problem(Reason::SecretNotFound, true)
        .recorded(Pending, Reason::SecretNotFound, NotMade)
        .status(|state| state.waiting_since = Some(t(0)))
}

#[test]
fn the_secret_comes_before_the_pod() {
    check(vec![
        ("new", fresh(), 0, calls([CreateSecret, CreatePod])),
        ("nothing is known: the name decides", scene(), 0, calls([CreateSecret, CreatePod])),
        ("a network goes first", fresh().shape(|run| run.network = true), 0, {
            calls([CreateNetworkPolicy, CreateSecret, CreatePod])
        }),
        ("the Secret is acknowledged", scene().made(0), 1, calls([CreatePod])),
        ("made, removed while it waited, resolved again", scene().gone(0), 1, calls([CreateSecret, CreatePod])),
        ("no secrets", scene().no_secrets(), 0, calls([CreatePod])),
        ("nobody asked yet", fresh().asked_nobody(), 0, rests(0)),
    ]);
    let mut networked = fresh().shape(|run| run.network = true);
    networked.facts.network_made = true;
    check(vec![("the network is there", networked, 0, calls([CreateSecret, CreatePod]))]);
}

#[test]
fn a_run_waits_for_what_may_still_come() {
    check(vec![
        ("missing", fresh().problem(Reason::SecretNotFound, true), 0, {
            writes(Pending, Reason::SecretNotFound, NotMade, 5)
        }),
        ("still missing", waits_for_secret(), 10, rests(15)),
        ("the last look is at the deadline", waits_for_secret(), 298, rests(300)),
        ("too long", waits_for_secret(), 300, writes(Failed, Reason::SecretNotFound, NotMade, 300)),
        ("another reason", waits_for_secret().asked_nobody().problem(Reason::StoreUnavailable, true), 10, {
            writes(Pending, Reason::StoreUnavailable, NotMade, 15)
        }),
        ("it came", Scene { secrets: scene().secrets, ..waits_for_secret() }, 10, calls([CreateSecret, CreatePod])),
        (
            "no patience",
            fresh().problem(Reason::SecretNotFound, true).shape(|run| run.secrets_timeout = seconds(0)),
            0,
            { writes(Failed, Reason::SecretNotFound, NotMade, 0) },
        ),
        // An answer was lost, or another process made it.
        ("a copy may be left", scene().problem(Reason::SecretNotFound, true), 0, calls([DeleteSecret])),
        ("the copy that was left is gone", scene().problem(Reason::SecretNotFound, true).gone(0), 1, {
            writes(Pending, Reason::SecretNotFound, NotMade, 6)
        }),
        ("its removal fails", scene().problem(Reason::SecretNotFound, true).removal_fails_since(0), 1, {
            calls([DeleteSecret])
        }),
        ("and goes on failing", scene().problem(Reason::SecretNotFound, true).removal_fails_since(0), 2, {
            writes(Pending, Reason::SecretNotFound, RemovalFailing, 2)
        }),
        (
            "which is told once, and tried again",
            scene().problem(Reason::SecretNotFound, true).removal_fails_since(0).recorded(
                Pending,
                Reason::SecretNotFound,
                RemovalFailing,
            ),
            3,
            calls([DeleteSecret]),
        ),
        (
            "until it works, which is told too",
            scene().problem(Reason::SecretNotFound, true).gone(4).recorded(
                Pending,
                Reason::SecretNotFound,
                RemovalFailing,
            ),
            4,
            writes(Pending, Reason::SecretNotFound, NotMade, 9),
        ),
    ]);
}

#[test]
fn a_controller_that_asks_about_nothing_does_not_spin() {
    let empty = Scene { secrets: Resolution::Problems(Vec::new()), ..fresh() };
    check(vec![("no problem, no answer", empty, 7, rests(12))]);
}

#[test]
fn what_waiting_does_not_mend_ends_the_run_at_once() {
    check(vec![
        ("denied", fresh().problem(Reason::AccessDenied, false), 0, writes(Failed, Reason::AccessDenied, NotMade, 0)),
        (
            "denied beside a missing one",
            fresh().problem(Reason::SecretNotFound, true).problem(Reason::AccessDenied, false),
            0,
            writes(Failed, Reason::AccessDenied, NotMade, 0),
        ),
        ("denied while a copy may be left", scene().problem(Reason::AccessDenied, false), 0, calls([DeleteSecret])),
        ("that copy is gone", scene().problem(Reason::AccessDenied, false).gone(1), 1, {
            writes(Failed, Reason::AccessDenied, Gone, 1)
        }),
        ("denied after the Secret was made", scene().made(0).problem(Reason::AccessDenied, false), 1, {
            calls([DeleteSecret])
        }),
        ("malformed", fresh().problem(Reason::SecretMalformed, false), 0, {
            writes(Failed, Reason::SecretMalformed, NotMade, 0)
        }),
    ]);
    let plan = fresh().problem(Reason::SecretNotFound, true).problem(Reason::AccessDenied, false).plan(0);
    assert_eq!(plan.state.message, "SecretNotFound it is; AccessDenied it is", "every problem is told");
    assert_eq!(plan.state.denied, [0]);
    assert_eq!(plan.state.completed, Some(t(0)));
}

#[test]
fn a_refused_pod_costs_its_secret_at_once() {
    let refused = || Refusal::Refused("violates PodSecurity".into());
    check(vec![
        ("refused", scene().made(0).refused(refused()), 1, calls([DeleteSecret])),
        ("then told", scene().gone(1).refused(refused()), 1, writes(Failed, Reason::PodRefused, Gone, 1)),
        ("no secrets", scene().no_secrets().refused(refused()), 1, writes(Failed, Reason::PodRefused, NoSecrets, 1)),
        ("the namespace goes", scene().refused(Refusal::NamespaceTerminating).secret(SecretFact::NotMade), 1, {
            writes(Failed, Reason::NamespaceTerminating, NotMade, 1)
        }),
        ("quota", scene().made(0).quota(10), 1, calls([DeleteSecret])),
        ("then waits without a Secret", scene().gone(1).quota(10), 1, {
            writes(Pending, Reason::QuotaExceeded, NotMade, 10)
        }),
        (
            "and says so once",
            scene().gone(1).quota(20).recorded(Pending, Reason::QuotaExceeded, NotMade),
            11,
            rests(20),
        ),
        ("tries without a Secret", scene().gone(1).quota(10), 10, calls([TryPod, CreateSecret, CreatePod])),
        (
            "also after a restart",
            scene().recorded(Pending, Reason::QuotaExceeded, NotMade),
            10,
            calls([TryPod, CreateSecret, CreatePod]),
        ),
    ]);
    assert_eq!(scene().gone(1).refused(refused()).plan(1).state.message, "violates PodSecurity");
    let waited = waits_for_secret().gone(1).quota(400).plan(390).state;
    assert_eq!(waited.waiting_since, None, "the secrets were there: their waiting begins anew");
}

#[test]
fn nothing_is_made_without_the_proof_of_the_policies() {
    check(vec![
        ("told", fresh().unguarded(), 0, writes(Pending, Reason::OperatorNotReady, NotMade, 5)),
        ("once", fresh().unguarded().recorded(Pending, Reason::OperatorNotReady, NotMade), 5, rests(10)),
        ("a Secret is not held meanwhile", scene().unguarded().made(0), 1, calls([DeleteSecret])),
        ("nor one from before a restart", scene().unguarded(), 1, calls([DeleteSecret])),
        ("deletions go on", scene().unguarded().stop(), 1, calls([DeleteSecret])),
        ("a Pod that is there goes on", scene().unguarded().made(0).pod(started()), 3, calls([DeleteSecret])),
    ]);
}

#[test]
fn a_run_can_be_ended_before_it_has_a_pod() {
    let cases = [("stop", fresh().stop(), Reason::Stopped), ("revoked", fresh().revoked(), Reason::Revoked)];
    check(cases.map(|(name, scene, reason)| (name, scene, 0, writes(Terminated, reason, NotMade, 0))).into());
    check(vec![
        ("the Secret goes first", scene().made(0).stop(), 1, calls([DeleteSecret])),
        ("then the end is told", scene().made(0).gone(1).stop(), 1, writes(Terminated, Reason::Stopped, Gone, 1)),
        ("revoked between Secret and Pod", scene().made(0).revoked(), 1, calls([DeleteSecret])),
        ("nobody reads the status of what goes away", fresh().deleting(), 1, Does::Rests(None)),
        ("but its Secret goes", scene().made(0).deleting(), 1, calls([DeleteSecret])),
        ("however long that fails", scene().made(0).deleting().removal_fails_since(0), 60, calls([DeleteSecret])),
        ("a removal that fails is waited for", scene().made(0).stop().removal_fails_since(0), 1, calls([DeleteSecret])),
        ("for 2 s", scene().made(0).stop().removal_fails_since(0), 2, {
            writes(Terminated, Reason::Stopped, RemovalFailing, 2)
        }),
    ]);
}

#[test]
fn what_is_foreign_is_left_alone() {
    check(vec![
        ("Secret", scene().secret(SecretFact::Foreign), 0, writes(Failed, Reason::NameConflict, NotMade, 0)),
        ("Pod", fresh().foreign_pod(), 0, writes(Failed, Reason::NameConflict, NotMade, 0)),
        ("both", scene().secret(SecretFact::Foreign).foreign_pod(), 0, {
            writes(Failed, Reason::NameConflict, NotMade, 0)
        }),
        ("Pod, and a Secret of ours", scene().made(0).foreign_pod(), 0, calls([DeleteSecret])),
        ("while waiting", waits_for_secret().secret(SecretFact::Foreign), 5, {
            writes(Failed, Reason::NameConflict, NotMade, 5)
        }),
    ]);
}

#[test]
fn secrets_are_asked_for_only_when_the_answer_matters() {
    let asked = vec![
        ("new", scene(), true),
        ("waiting", waits_for_secret(), true),
        ("between Secret and Pod", scene().made(0), true),
        ("quota, now", scene().quota(10), true),
        ("quota, later", scene().quota(11), false),
        ("refused", scene().refused(Refusal::Refused(String::new())), false),
        ("namespace goes", scene().refused(Refusal::NamespaceTerminating), false),
        ("unguarded", scene().unguarded(), false),
        ("stopped", scene().stop(), false),
        ("revoked", scene().revoked(), false),
        ("deleting", scene().deleting(), false),
        ("foreign Secret", scene().secret(SecretFact::Foreign), false),
        ("foreign Pod", scene().foreign_pod(), false),
        ("with a Pod", scene().pod(pending()), false),
        ("Pod gone", scene().last_seen(started()), false),
        ("Pod gone, says the status", scene().recorded(Phase::Running, Reason::Started, Present), false),
        ("over", scene().recorded(Failed, Reason::AccessDenied, NotMade), false),
    ];
    for (name, scene, expected) in asked {
        assert_eq!(scene.wants_secrets(10), expected, "{name}");
        // Whoever is not asked must not be waited for.
        let spins = Does::of(&scene.asked_nobody().plan(10)) == rests(10);
        assert_eq!(spins, expected, "{name}: waits for an answer");
    }
}
