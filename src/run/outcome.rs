//! What a Pod's state says about the run: how it ended, or what it waits for.

use super::pod_view::Main;
use super::{PodPhase, PodView, Run};
use crate::api::{Phase, Reason};

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Outcome {
    pub(super) phase: Phase,
    pub(super) reason: Reason,
    pub(super) message: String,
    pub(super) exit_code: Option<i32>,
}

impl Outcome {
    pub(super) fn failed(reason: Reason, message: impl Into<String>) -> Self {
        Self { phase: Phase::Failed, reason, message: message.into(), exit_code: None }
    }

    fn terminated(reason: Reason, message: impl Into<String>) -> Self {
        Self { phase: Phase::Terminated, reason, message: message.into(), exit_code: None }
    }

    /// The end that somebody, or time, has asked for.
    pub(super) fn ordered(reason: Reason, run: &Run, detail: &str) -> Self {
        match reason {
            Reason::Stopped => Self::terminated(reason, "Stopped by spec.stop"),
            Reason::Suspended => Self::terminated(reason, "Ended because spec.suspend is set"),
            Reason::Skipped => {
                Self::terminated(reason, "Ended because another benchmark failed, and failurePolicy is FailFast")
            }
            Reason::Revoked => Self::terminated(
                reason,
                format!("Ended because {detail} was revoked; `daypass secret revoke --lift` makes it usable again"),
            ),
            Reason::Deleting => Self::terminated(reason, "The object is being deleted"),
            Reason::DeadlineExceeded => Self::failed(
                reason,
                match run.ends {
                    Some(Reason::DeadlineExceeded) => {
                        "The job's time is over; spec.activeDeadlineSeconds sets it".to_owned()
                    }
                    _ => format!("Ended after {} s; {} sets it", run.lifetime.as_secs(), run.lifetime_field),
                },
            ),
            Reason::SecretLost => Self::failed(
                reason,
                "The run Secret was deleted before the container had started; `kubectl replace --force -f FILE` starts a new run",
            ),
            _ => Self::failed(reason, detail),
        }
    }

    /// The end of a Pod that its node, or the cluster, had to give up.
    pub(super) fn evicted() -> Self {
        Self::failed(Reason::Evicted, "The Pod was evicted, preempted or drained")
    }

    /// The end of a Pod that somebody else has deleted.
    pub(super) fn deleted() -> Self {
        Self::terminated(Reason::PodDeleted, "Somebody deleted the run's Pod; set spec.stop to stop a run")
    }

    /// The end of a Pod that vanished. `last` is what was last seen of it.
    pub(super) fn vanished(last: Option<&PodView>) -> Self {
        match last {
            Some(pod) if pod.disrupted => Self::evicted(),
            Some(pod) if pod.deleting.is_some() => Self::deleted(),
            _ => Self::failed(Reason::PodLost, "The run's Pod is gone, and nobody saw it end"),
        }
    }

    /// The end that the Pod reports.
    pub(super) fn of(pod: &PodView, run: &Run) -> Self {
        if pod.reason == "DeadlineExceeded" {
            return Self::ordered(Reason::DeadlineExceeded, run, "");
        }
        if pod.disrupted || matches!(pod.reason.as_str(), "Evicted" | "Preempting" | "Terminated") {
            return Self::evicted();
        }
        if pod.deleting.is_some() && !pod.ended_by_itself() {
            return Self::deleted();
        }
        match &pod.main {
            Main::Ended { code, reason, .. } => Self::of_exit(*code, reason, pod),
            _ if pod.phase == PodPhase::Failed && pod.reason == "NodeLost" => {
                Self::failed(Reason::PodLost, "The run's node was lost")
            }
            _ if pod.phase == PodPhase::Failed && !pod.reason.is_empty() => Self::failed(
                Reason::PodRefused,
                format!("The node refused the Pod ({}); `kubectl describe pod {}` says more", pod.reason, run.name),
            ),
            _ => Self::failed(Reason::PodLost, "The run's Pod ended, and nobody saw how"),
        }
    }

    fn of_exit(code: i32, reason: &str, pod: &PodView) -> Self {
        let mut outcome = match (code, reason) {
            (0, _) => Self {
                phase: Phase::Completed,
                reason: Reason::Succeeded,
                message: "The program ended with exit code 0".into(),
                exit_code: None,
            },
            (_, "OOMKilled") => {
                Self::failed(Reason::OOMKilled, "The container ran out of memory; raise spec.resources.limits.memory")
            }
            // The runtime's own text may repeat the command line, and with it a value: it stays in the Pod.
            (_, "StartError" | "ContainerCannotRun") => Self::failed(
                Reason::ContainerCreateFailed,
                "The program could not be started; check that the image has what spec.command names",
            ),
            (_, "ContainerStatusUnknown") => Self::failed(Reason::PodLost, "The node lost sight of the container"),
            (code, _) => Self::failed(Reason::NonZeroExit, format!("The program ended with exit code {code}")),
        };
        outcome.exit_code = Some(code);
        if !pod.others.is_empty() {
            outcome.message =
                format!("{}; other containers of the Pod still run: {}", outcome.message, pod.others.join(", "));
        }
        outcome
    }
}

/// What a Pod that has not started waits for.
pub(super) fn waits_for(pod: &PodView, run: &Run) -> (Reason, String) {
    if let Main::Waiting(reason, message) = &pod.main {
        match reason.as_str() {
            "ImagePullBackOff"
            | "ErrImagePull"
            | "InvalidImageName"
            | "ErrImageNeverPull"
            | "ImageInspectError"
            | "RegistryUnavailable" => {
                return (
                    Reason::ImagePullFailed,
                    format!("The image cannot be pulled ({reason}); check spec.image and spec.imagePullSecrets"),
                );
            }
            // The kubelet's words on the configuration name keys and users, never values.
            "CreateContainerConfigError" => {
                return (
                    Reason::ContainerCreateFailed,
                    format!("The container cannot be configured: {}", cut(message, 300)),
                );
            }
            "CreateContainerError" | "RunContainerError" => {
                return (
                    Reason::ContainerCreateFailed,
                    format!(
                        "The container cannot be created ({reason}); `kubectl describe pod {}` says more",
                        run.name
                    ),
                );
            }
            _ => {}
        }
    }
    match &pod.unschedulable {
        Some(message) => (Reason::Unschedulable, format!("No node takes the Pod: {}", cut(message, 300))),
        None => (Reason::Starting, "The Pod is starting".into()),
    }
}

/// Whether the kubelet looked for the run Secret and found it gone.
pub(super) fn misses_secret(pod: &PodView, run: &Run) -> bool {
    matches!(&pod.main, Main::Waiting(reason, message)
        if reason == "CreateContainerConfigError"
            && message.contains(&run.name)
            && message.contains("not found"))
}

/// The first `most` characters.
pub(super) fn cut(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}
