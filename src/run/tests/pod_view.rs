//! What is read from a Pod.

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::*;
use crate::run::pod_view::Main;

fn view(metadata: &Value, status: &Value) -> PodView {
    let mut pod = json!({"metadata": {"uid": "pod-1", "creationTimestamp": t(0)}, "status": status});
    for (key, value) in metadata.as_object().unwrap() {
        pod["metadata"][key] = value.clone();
    }
    PodView::of(&serde_json::from_value::<Pod>(pod).unwrap())
}

fn main_in(state: Value) -> PodView {
    let container = |name: &str, state: Value| json!({"name": name, "image": "", "imageID": "", "ready": true, "restartCount": 0, "state": state});
    let status = json!({"phase": "Running", "containerStatuses": [
        container("proxy", json!({"running": {}})),
        container("main", state),
        container("log", json!({"terminated": {"exitCode": 3}})),
    ]});
    view(&json!({}), &status)
}

#[test]
fn the_state_of_main_is_read_whatever_stands_beside_it() {
    let rows = [
        (json!({"running": {"startedAt": t(2)}}), Main::Running(Some(t(2)))),
        (
            json!({"waiting": {"reason": "ErrImagePull", "message": "m"}}),
            Main::Waiting("ErrImagePull".into(), "m".into()),
        ),
        (json!({"waiting": {}}), Main::Waiting(String::new(), String::new())),
        (json!({}), Main::Unreported),
        (
            json!({"terminated": {"exitCode": 7, "reason": "Error", "startedAt": t(2), "finishedAt": t(60)}}),
            Main::Ended { code: 7, reason: "Error".into(), started: Some(t(2)), finished: Some(t(60)) },
        ),
    ];
    for (state, main) in rows {
        let view = main_in(state.clone());
        assert_eq!(view.main, main, "{state}");
        assert_eq!(view.others, ["proxy"], "only what still runs");
    }
    assert_eq!(view(&json!({}), &json!({})).main, Main::Unreported);
}

#[test]
fn the_secret_is_needed_until_the_phase_says_that_all_have_started() {
    let rows = [
        (json!("Pending"), PodPhase::Pending, false),
        (json!("Running"), PodPhase::Running, true),
        (json!("Succeeded"), PodPhase::Succeeded, true),
        (json!("Failed"), PodPhase::Failed, true),
        (json!("Unknown"), PodPhase::Unknown, false),
        (json!("Invented"), PodPhase::Pending, false),
        (Value::Null, PodPhase::Pending, false),
    ];
    for (phase, read, started) in rows {
        let view = view(&json!({}), &json!({"phase": phase}));
        assert_eq!((view.phase, view.has_started()), (read, started), "{phase}");
    }
}

#[test]
fn the_end_is_the_end_of_main() {
    assert!(ended(0, "Completed").has_ended());
    assert!(PodView { phase: PodPhase::Pending, ..ended(0, "Completed") }.has_ended());
    assert!(PodView { phase: PodPhase::Failed, ..pending() }.has_ended());
    assert!(!started().has_ended());
    let by_itself = [
        ("running", started(), false),
        ("ended", ended(1, "Error"), true),
        ("deleted after its end", deleted(ended(1, "Error"), 61), true),
        ("deleted in the same second", deleted(ended(1, "Error"), 60), false),
        ("deleted before", deleted(ended(1, "Error"), 50), false),
        ("never started, deleted", deleted(PodView { phase: PodPhase::Failed, ..pending() }, 50), false),
    ];
    for (name, pod, expected) in by_itself {
        assert_eq!(pod.ended_by_itself(), expected, "{name}");
    }
}

#[test]
fn a_deletion_counts_from_when_it_was_asked_for() {
    let asked = |grace: Value| {
        view(&json!({"deletionTimestamp": t(40), "deletionGracePeriodSeconds": grace}), &json!({})).deleting
    };
    assert_eq!(asked(json!(30)), Some(t(10)));
    assert_eq!(asked(json!(0)), Some(t(40)));
    assert_eq!(asked(Value::Null), Some(t(40)));
    assert_eq!(view(&json!({}), &json!({})).deleting, None);
}

#[test]
fn conditions_tell_of_disruption_and_of_no_node() {
    let with = |condition: Value| view(&json!({}), &json!({"conditions": [condition]}));
    let scheduled = |status: &str, reason: &str| {
        with(json!({"type": "PodScheduled", "status": status, "reason": reason, "message": "0/3 nodes"})).unschedulable
    };
    assert_eq!(scheduled("False", "Unschedulable").as_deref(), Some("0/3 nodes"));
    assert_eq!(scheduled("False", "SchedulingGated"), None);
    assert_eq!(scheduled("True", ""), None);
    assert!(with(json!({"type": "DisruptionTarget", "status": "True"})).disrupted);
    assert!(!with(json!({"type": "DisruptionTarget", "status": "False"})).disrupted);
    assert!(!with(json!({"type": "Ready", "status": "True"})).disrupted);
    assert_eq!(view(&json!({}), &json!({"reason": "Evicted"})).reason, "Evicted");
}

#[test]
fn annotations_that_do_not_parse_tell_nothing() {
    let annotated = |key: &str, value: &str| view(&json!({"annotations": {key: value}}), &json!({}));
    assert_eq!(annotated("daypass.dev/secrets", "{").versions, None);
    assert_eq!(annotated("daypass.dev/injected-at", "yesterday").injected, None);
    assert_eq!(annotated("daypass.dev/injected-at", "2027-01-15T08:00:01Z").injected, Some(t(1)));
}
