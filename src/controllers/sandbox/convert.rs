//! Between a Sandbox and a run: what it asks for, and what its status says.

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use crate::api::{
    Condition, ConditionStatus, ConditionType, Phase, Reason, Sandbox, SandboxStatus, SecretState, SecretStatus, Time,
    names, set_condition,
};
use crate::run::{Run, SecretCopy, State};

/// The run that a Sandbox asks for.
pub(super) fn run_of(sandbox: &Sandbox) -> Run {
    let spec = &sandbox.spec;
    let owner_uid = sandbox.uid().unwrap_or_default();
    let owner_name = sandbox.name_any();
    let seconds = SignedDuration::from_secs;
    Run {
        namespace: sandbox.namespace().unwrap_or_default(),
        owner_kind: "Sandbox",
        name: names::run_name(&owner_name, &owner_uid, "", 1),
        owner_name,
        owner_uid,
        benchmark: String::new(),
        attempt: 1,
        deleting: sandbox.metadata.deletion_timestamp.is_some(),
        ends: spec.stop.then_some(Reason::Stopped),
        service_account: spec.service_account().to_owned(),
        references: spec.secrets.clone(),
        delivery: spec.delivery(),
        removal: spec.secret_removal(),
        network: spec.network.as_ref().is_some_and(|network| network.deny_egress || network.deny_ingress),
        gated: false,
        lifetime: seconds(spec.active_deadline_seconds),
        lifetime_field: "spec.activeDeadlineSeconds",
        secrets_timeout: seconds(spec.secrets_timeout_seconds),
        missing_ends: false,
        startup_timeout: seconds(spec.startup_timeout_seconds),
        grace: seconds(spec.termination_grace_period_seconds),
        ttl: spec.ttl_seconds_after_finished.map(seconds),
    }
}

/// What a Sandbox's status says of its run.
pub(super) fn state_of(status: &SandboxStatus) -> State {
    let condition = |kind: ConditionType| status.conditions.iter().find(|condition| condition.type_ == kind);
    let resolved = condition(ConditionType::SecretsResolved);
    let got_values =
        status.secrets.iter().any(|secret| !matches!(secret.state, SecretState::Waiting | SecretState::Denied));
    State {
        phase: status.phase,
        reason: status.reason.unwrap_or(Reason::WaitingForController),
        message: status.message.clone().unwrap_or_default(),
        pod: status.pod_name.is_some(),
        copy: status.secrets_state.as_deref().map(SecretCopy::parse).unwrap_or_default(),
        versions: if got_values {
            status.secrets.iter().map(|secret| secret.version.clone()).collect()
        } else {
            Vec::new()
        },
        denied: (0..status.secrets.len()).filter(|&i| status.secrets[i].state == SecretState::Denied).collect(),
        waiting_since: resolved
            .filter(|condition| condition.status == ConditionStatus::False)
            .map(|condition| condition.last_transition_time.0),
        started: status.start_time.map(|time| time.0),
        completed: status.completion_time.map(|time| time.0),
        expires: status.expires_at.map(|time| time.0),
        exit_code: status.exit_code,
        injected: status.secret_injected_at.map(|time| time.0),
        removed: status.secret_removed_at.map(|time| time.0),
        outdated: condition(ConditionType::SecretsCurrent).is_some_and(|c| c.status == ConditionStatus::False),
        stale: condition(ConditionType::SecretsCurrent).is_some_and(|c| c.reason == Reason::ServedStale),
    }
}

/// The status that says where a run stands.
pub(super) fn status_of(
    run: &Run,
    state: &State,
    old: &[Condition],
    generation: Option<i64>,
    now: Timestamp,
) -> SandboxStatus {
    let time = |time: Option<Timestamp>| time.map(Time);
    SandboxStatus {
        phase: state.phase,
        conditions: conditions(state, old, generation, now),
        pod_name: state.pod.then(|| run.name.clone()),
        start_time: time(state.started),
        completion_time: time(state.completed),
        expires_at: time(state.expires),
        exit_code: state.exit_code,
        reason: Some(state.reason),
        message: Some(state.message.clone()),
        secrets: secrets(run, state),
        secrets_state: Some(state.copy.as_str().into()),
        secret_injected_at: time(state.injected),
        secret_removed_at: time(state.removed.filter(|_| state.injected.is_some())),
        secret_exposure_milliseconds: state
            .injected
            .zip(state.removed)
            .map(|(from, to)| i64::try_from(to.duration_since(from).as_millis()).unwrap_or(i64::MAX).max(0)),
        observed_generation: generation,
    }
}

fn secrets(run: &Run, state: &State) -> Vec<SecretStatus> {
    run.references
        .iter()
        .enumerate()
        .map(|(index, reference)| {
            let version = state.versions.get(index).cloned().flatten();
            let injected = matches!(state.copy, SecretCopy::Present | SecretCopy::RemovalFailing | SecretCopy::Gone)
                && !state.versions.is_empty();
            SecretStatus {
                team: reference.team(&run.namespace).to_owned(),
                name: reference.name.clone(),
                store: reference.store().to_owned(),
                env_var: reference.variable().to_owned(),
                state: match (injected, &version) {
                    _ if state.denied.contains(&index) => SecretState::Denied,
                    (false, _) => SecretState::Waiting,
                    (true, None) => SecretState::Absent,
                    (true, Some(_)) if state.copy == SecretCopy::Gone => SecretState::Removed,
                    (true, Some(_)) => SecretState::Injected,
                },
                version,
            }
        })
        .collect()
}

fn conditions(state: &State, old: &[Condition], generation: Option<i64>, now: Timestamp) -> Vec<Condition> {
    use ConditionStatus::{False, True, Unknown};
    let mut conditions: Vec<Condition> = old.iter().filter(|condition| condition.is_written()).cloned().collect();
    let mut set = |type_, status: ConditionStatus, reason, message: &str, since: Option<Timestamp>| {
        set_condition(
            &mut conditions,
            Condition {
                type_,
                status,
                reason,
                message: message.into(),
                last_transition_time: Time(since.unwrap_or(now)).to_second(),
                observed_generation: generation,
            },
        );
    };
    let terminal = state.phase.is_terminal();
    set(ConditionType::Accepted, True, Reason::Accepted, "The operator has taken up the run", None);

    let why = (state.reason, state.message.as_str());
    let (status, reason, message) = match state.copy {
        SecretCopy::NoSecrets => (True, Reason::NoSecrets, "The run names no secrets"),
        SecretCopy::NotMade if state.waiting_since.is_some() || !state.denied.is_empty() => (False, why.0, why.1),
        SecretCopy::NotMade if terminal => (False, why.0, why.1),
        SecretCopy::NotMade => (Unknown, why.0, why.1),
        _ if state.versions.is_empty() => (False, why.0, why.1),
        _ => (True, Reason::Resolved, "All named secrets were found and may be used"),
    };
    set(ConditionType::SecretsResolved, status, reason, message, state.waiting_since.filter(|_| status == False));

    let injected = state.injected.is_some();
    let (status, reason, message) = match state.copy {
        SecretCopy::NoSecrets => (True, Reason::NoSecrets, "The run names no secrets"),
        _ if injected => (True, Reason::Injected, "The values were handed to the run"),
        _ => (False, why.0, why.1),
    };
    set(ConditionType::SecretsInjected, status, reason, message, None);

    let (status, reason, message) = match state.copy {
        SecretCopy::NoSecrets => (True, Reason::NoSecrets, "The run names no secrets"),
        SecretCopy::Gone => (True, Reason::Removed, "The API server holds no copy of the values any more"),
        SecretCopy::RemovalFailing => (
            False,
            Reason::RemovalFailing,
            "The run Secret is due to go and cannot be removed; it is tried again (a finalizer may hold it)",
        ),
        SecretCopy::Present => (False, Reason::InUse, "The run still needs its run Secret"),
        SecretCopy::NotMade if terminal => (True, Reason::Removed, "No run Secret was made"),
        SecretCopy::NotMade => (Unknown, why.0, "No run Secret was made yet"),
    };
    set(ConditionType::SecretsRemoved, status, reason, message, None);

    if injected {
        let (status, reason, message) = if state.outdated {
            (
                False,
                Reason::NewerVersion,
                "A newer version exists; this run keeps its copy, a new run gets the new value",
            )
        } else if state.stale {
            (
                Unknown,
                Reason::ServedStale,
                "The store failed, and the run got a value that was read before, as cache.staleIfErrorSeconds allows",
            )
        } else {
            (True, Reason::Current, "The run got the newest versions")
        };
        set(ConditionType::SecretsCurrent, status, reason, message, None);
    }
    set(ConditionType::Ready, (state.phase == Phase::Running).into(), why.0, why.1, None);
    set(ConditionType::Finished, terminal.into(), why.0, why.1, None);
    conditions
}
