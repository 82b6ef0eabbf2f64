//! While the Pod is there: it starts, runs, loses its Secret, and is ended on order.

use super::*;
use Phase::{Failed, Pending, Running, Terminated, Terminating};
use SecretCopy::{Gone, NoSecrets, Present, RemovalFailing};
use Step::DeleteSecret;

/// Past the lifetime and what the kubelet gets to notice it.
const EXPIRED: i64 = 3605;

fn runs() -> Scene {
    scene().pod(started()).recorded(Running, Reason::Started, Gone)
}

#[test]
fn a_pod_that_starts_in_time_costs_no_write() {
    check(vec![
        ("just made", scene().made(0).pod(pending()), 1, rests(10)),
        ("not yet", scene().made(0).pod(pending()), 9, rests(10)),
        ("10 s", scene().made(0).pod(pending()), 10, writes(Pending, Reason::Starting, Present, 600)),
        (
            "said once",
            scene().pod(pending()).recorded(Pending, Reason::Starting, Present).status(|state| state.pod = true),
            11,
            rests(600),
        ),
        (
            "another reason",
            scene()
                .pod(waiting("ImagePullBackOff", "Back-off"))
                .recorded(Pending, Reason::Starting, Present)
                .status(|state| state.pod = true),
            20,
            writes(Pending, Reason::ImagePullFailed, Present, 600),
        ),
        (
            "the same reason in other words",
            scene()
                .pod(waiting("ErrImagePull", "rpc error"))
                .recorded(Pending, Reason::ImagePullFailed, Present)
                .status(|state| state.pod = true),
            20,
            rests(600),
        ),
        ("a short life comes first", scene().pod(pending()).shape(|run| run.lifetime = seconds(2)), 1, rests(7)),
        ("no secrets", scene().no_secrets().pod(pending()), 10, writes(Pending, Reason::Starting, NoSecrets, 600)),
    ]);
}

#[test]
fn a_pod_that_does_not_start_ends_for_what_kept_it() {
    let scheduled_nowhere = || PodView { unschedulable: Some("0/3 nodes".into()), ..pending() };
    let order = |reason| calls([DeleteSecret, delete_pod(reason)]);
    check(vec![
        ("unknown", scene().pod(pending()), 600, order(Reason::StartupTimeout)),
        ("image", scene().pod(waiting("ErrImagePull", "")), 600, order(Reason::ImagePullFailed)),
        ("no node", scene().pod(scheduled_nowhere()), 600, order(Reason::Unschedulable)),
        ("container", scene().pod(waiting("CreateContainerError", "")), 600, order(Reason::StartupTimeout)),
        // The kubelet may be late by a moment: a Secret that is newer than its cache.
        ("the Secret is missing", scene().pod(without_its_secret()), 9, rests(10)),
        ("and stays missing", scene().pod(without_its_secret()), 10, order(Reason::SecretLost)),
        ("its Secret is known to be gone", scene().gone(5).pod(without_its_secret()), 10, {
            calls([delete_pod(Reason::SecretLost)])
        }),
        ("a key is missing", scene().pod(waiting("CreateContainerConfigError", "couldn't find key API_KEY")), 10, {
            writes(Pending, Reason::ContainerCreateFailed, Present, 600)
        }),
    ]);
}

#[test]
fn what_a_pod_waits_for_is_told_with_its_mend() {
    let rows = [
        ("ErrImagePull", "spec.imagePullSecrets", Reason::ImagePullFailed),
        ("ImagePullBackOff", "spec.image", Reason::ImagePullFailed),
        ("InvalidImageName", "InvalidImageName", Reason::ImagePullFailed),
        ("ErrImageNeverPull", "spec.image", Reason::ImagePullFailed),
        ("CreateContainerConfigError", "configured: text of the kubelet", Reason::ContainerCreateFailed),
        ("CreateContainerError", "kubectl describe pod daypass-run-demo-1-", Reason::ContainerCreateFailed),
        ("RunContainerError", "kubectl describe pod daypass-run-demo-1-", Reason::ContainerCreateFailed),
        ("ContainerCreating", "is starting", Reason::Starting),
        ("PodInitializing", "is starting", Reason::Starting),
    ];
    for (word, told, reason) in rows {
        let state = scene().pod(waiting(word, "text of the kubelet")).plan(20).state;
        assert_eq!(state.reason, reason, "{word}");
        assert!(state.message.contains(told), "{word}: {}", state.message);
        // A runtime may repeat the command line, and with it a value.
        let repeated = state.message.contains("text of the kubelet");
        assert_eq!(repeated, word == "CreateContainerConfigError", "{word}");
    }
    let long = scene().pod(waiting("CreateContainerConfigError", &"x".repeat(10_000))).plan(20).state;
    assert!(long.message.len() < 400, "{}", long.message.len());
}

#[test]
fn the_secret_goes_when_every_container_has_started() {
    check(vec![
        ("started", scene().made(0).pod(started()), 3, calls([DeleteSecret])),
        ("nothing is known", scene().pod(started()), 3, calls([DeleteSecret])),
        ("proven gone", scene().made(0).gone(3).pod(started()), 3, writes(Running, Reason::Started, Gone, EXPIRED)),
        ("said once", runs(), 4, rests(EXPIRED)),
        ("said once, in the process that did it", runs().gone(3), 4, rests(EXPIRED)),
        ("no secrets", scene().no_secrets().pod(started()), 3, writes(Running, Reason::Started, NoSecrets, EXPIRED)),
        // One container of the Pod still waits: phase Pending, though `main` runs.
        ("not all", scene().made(0).pod(PodView { phase: PodPhase::Pending, ..started() }), 3, rests(10)),
        ("not sure", scene().made(0).pod(PodView { phase: PodPhase::Unknown, ..started() }), 3, rests(10)),
        ("AfterFinish", scene().after_finish().made(0).pod(started()), 3, {
            writes(Running, Reason::Started, Present, EXPIRED)
        }),
        (
            "AfterFinish, said once",
            scene().after_finish().pod(started()).recorded(Running, Reason::Started, Present),
            4,
            rests(EXPIRED),
        ),
        (
            "it waited before",
            scene().gone(30).pod(started()).recorded(Pending, Reason::ImagePullFailed, Present),
            30,
            { writes(Running, Reason::Started, Gone, EXPIRED) },
        ),
    ]);
    let told = scene().made(0).gone(3).pod(started()).plan(3).state;
    assert_eq!((told.injected, told.removed), (Some(t(0)), Some(t(3))), "the Pod's annotation says when it was made");
    assert_eq!((told.started, told.expires), (Some(t(2)), Some(t(3600))));
    assert_eq!(told.versions, [Some("3".to_owned())]);
}

#[test]
fn a_removal_that_fails_is_told_after_2_s_and_goes_on() {
    let fails = || scene().made(0).pod(started()).removal_fails_since(3);
    check(vec![
        ("a moment", fails(), 4, calls([DeleteSecret])),
        // Tried again at once: the status alone must not put the run to sleep.
        ("2 s", fails(), 5, writes(Running, Reason::Started, RemovalFailing, 5)),
        ("goes on", fails().recorded(Running, Reason::Started, RemovalFailing), 6, calls([DeleteSecret])),
        ("after a restart", scene().pod(started()).recorded(Running, Reason::Started, RemovalFailing), 6, {
            calls([DeleteSecret])
        }),
        ("works", scene().gone(9).pod(started()).recorded(Running, Reason::Started, RemovalFailing), 9, {
            writes(Running, Reason::Started, Gone, EXPIRED)
        }),
        ("AfterFinish asks for none", fails().after_finish(), 5, writes(Running, Reason::Started, Present, EXPIRED)),
    ]);
}

#[test]
fn a_running_run_stays_running() {
    let away = || PodView { phase: PodPhase::Unknown, ..started() };
    check(vec![
        ("the node is silent", runs().pod(away()), 700, rests(EXPIRED)),
        ("a newer version", runs().newer_version(), 4, writes(Running, Reason::Started, Gone, EXPIRED)),
        ("said once", runs().newer_version().status(|state| state.outdated = true), 5, rests(EXPIRED)),
        ("a shorter life", runs().shape(|run| run.lifetime = seconds(100)).status(|s| s.expires = Some(t(3600))), 9, {
            writes(Running, Reason::Started, Gone, 105)
        }),
        (
            "a shorter life, said once",
            runs().shape(|run| run.lifetime = seconds(100)).status(|s| s.expires = Some(t(100))),
            9,
            rests(105),
        ),
    ]);
}

#[test]
fn a_pod_is_ended_on_order() {
    check(vec![
        ("stop", runs().stop(), 5, calls([delete_pod(Reason::Stopped)])),
        ("stop before the start", scene().made(0).pod(pending()).stop(), 1, {
            calls([DeleteSecret, delete_pod(Reason::Stopped)])
        }),
        ("revoked", runs().revoked(), 5, calls([delete_pod(Reason::Revoked)])),
        (
            "revoked while its Secret is there",
            scene().after_finish().pod(started()).recorded(Running, Reason::Started, Present).revoked(),
            5,
            calls([DeleteSecret, delete_pod(Reason::Revoked)]),
        ),
        ("deleted", runs().deleting(), 5, calls([delete_pod(Reason::Deleting)])),
        ("lifetime", runs(), EXPIRED, calls([delete_pod(Reason::DeadlineExceeded)])),
        ("the kubelet's moment", runs(), EXPIRED - 1, rests(EXPIRED)),
        // A Secret that does not go must not keep the program alive.
        ("its Secret does not go", scene().made(0).pod(started()).stop().removal_fails_since(3), 4, {
            calls([delete_pod(Reason::Stopped), DeleteSecret])
        }),
        // The API server has acknowledged the deletion; the watch is late.
        ("ordered already", runs().stop().ended_for(Reason::Stopped), 5, rests(10)),
        (
            "ordered already, its Secret is there",
            scene().made(0).pod(started()).stop().ended_for(Reason::Stopped),
            5,
            { calls([DeleteSecret]) },
        ),
    ]);
}

#[test]
fn a_pod_that_is_being_deleted_loses_its_secret_at_once() {
    let by_hand = || deleted(started(), 20);
    check(vec![
        ("Secret first", scene().after_finish().made(0).pod(by_hand()), 20, calls([DeleteSecret])),
        ("quiet", runs().pod(by_hand()), 21, rests(30)),
        ("told when it takes long", runs().pod(by_hand()), 30, writes(Terminating, Reason::PodDeleted, Gone, 330)),
        ("said once", runs().pod(by_hand()).recorded(Terminating, Reason::PodDeleted, Gone), 31, rests(330)),
        ("evicted", runs().pod(PodView { disrupted: true, ..by_hand() }), 30, {
            writes(Terminating, Reason::Evicted, Gone, 330)
        }),
        ("stopped", runs().stop().ended_for(Reason::Stopped).pod(by_hand()), 30, {
            writes(Terminating, Reason::Stopped, Gone, 330)
        }),
        ("at its time", runs().shape(|run| run.lifetime = seconds(10)).pod(by_hand()), 30, {
            writes(Terminating, Reason::DeadlineExceeded, Gone, 330)
        }),
        ("by hand, then its time is over too", runs().shape(|run| run.lifetime = seconds(20)).pod(by_hand()), 30, {
            writes(Terminating, Reason::PodDeleted, Gone, 330)
        }),
        ("the object goes too", runs().deleting().pod(by_hand()), 30, rests(330)),
        ("lost node", runs().pod(by_hand()), 330, writes(Failed, Reason::PodLost, Gone, 330)),
        ("lost node, drained before", runs().pod(PodView { disrupted: true, ..by_hand() }), 330, {
            writes(Failed, Reason::Evicted, Gone, 330)
        }),
        ("lost node, Secret there", scene().after_finish().pod(by_hand()), 330, calls([DeleteSecret])),
    ]);
}

#[test]
fn the_order_survives_a_restart() {
    let terminating = |reason| scene().recorded(Terminating, reason, Gone);
    let killed = || deleted(ended(137, "Error"), 20);
    check(vec![
        // The Pod has not started by the look of it no more; only the status knows why it had to go.
        ("start-up", terminating(Reason::ImagePullFailed).pod(killed()), 40, {
            writes(Failed, Reason::ImagePullFailed, Gone, 40)
        }),
        ("start-up, Pod gone", terminating(Reason::StartupTimeout), 40, {
            writes(Failed, Reason::StartupTimeout, Gone, 40)
        }),
        ("lifetime, Pod gone", terminating(Reason::DeadlineExceeded), 40, {
            writes(Failed, Reason::DeadlineExceeded, Gone, 40)
        }),
        ("revoked and lifted, Pod gone", terminating(Reason::Revoked), 40, {
            writes(Terminated, Reason::Revoked, Gone, 40)
        }),
        ("by hand, Pod gone", terminating(Reason::PodDeleted), 40, writes(Terminated, Reason::PodDeleted, Gone, 40)),
        ("evicted, Pod gone", terminating(Reason::Evicted), 40, writes(Failed, Reason::Evicted, Gone, 40)),
    ]);
    let message = terminating(Reason::Revoked).plan(40).state.message;
    assert!(message.starts_with("Ended because a secret was revoked"), "{message}");
}
