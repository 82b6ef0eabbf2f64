//! A cluster in memory: the API server's objects of one run, a kubelet, the garbage collector, and people.

use super::super::*;
use crate::run::pod_view::Main;

/// What stands under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    Ours,
    Foreign,
}

pub(super) struct World {
    pub(super) now: Timestamp,
    pub(super) run: Run,
    /// The object is there.
    pub(super) object: bool,
    pub(super) status: State,
    pub(super) secret: Option<Whose>,
    pub(super) pod: Option<PodView>,
    pub(super) foreign_pod: bool,
    /// Every write that the API server was asked for: `+` made, `-` deleted, `?` dry run, `!` refused; else a status.
    pub(super) writes: Vec<String>,
    pub(super) surroundings: Surroundings,
    pods_made: u32,
}

/// What is as it is, until an event changes it.
#[derive(Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Surroundings {
    /// What stands in the way of the run's secrets, and whether waiting may help.
    pub(super) problem: Option<(Reason, bool)>,
    pub(super) revoked: bool,
    pub(super) guarded: bool,
    pub(super) quota_full: bool,
    /// A policy refuses the Pod.
    pub(super) pod_refused: bool,
    /// Deletions of the run Secret fail.
    pub(super) removal_fails: bool,
    pub(super) node_alive: bool,
    /// Seconds from the Pod to its start; none where its image cannot be pulled.
    pub(super) starts_after: Option<i64>,
    /// Seconds that the program runs; none: until it is ended.
    pub(super) runs_for: Option<i64>,
    /// Seconds that the program takes to end when told to.
    pub(super) ends_after: i64,
    pub(super) exit_code: i32,
    /// A webhook has put a container beside `main` that runs on.
    pub(super) proxy: bool,
    /// Seconds that its image takes to come after `main` has started; it reads the run Secret too.
    pub(super) proxy_late_by: i64,
}

impl World {
    pub(super) fn new() -> Self {
        Self {
            now: t(0),
            // Short, so that a life has few looks in vain.
            run: Run { secrets_timeout: seconds(30), ..run() },
            object: true,
            status: State::default(),
            secret: None,
            pod: None,
            foreign_pod: false,
            writes: Vec::new(),
            surroundings: Surroundings {
                problem: None,
                revoked: false,
                guarded: true,
                quota_full: false,
                pod_refused: false,
                removal_fails: false,
                node_alive: true,
                starts_after: Some(2),
                runs_for: Some(60),
                ends_after: 1,
                exit_code: 0,
                proxy: false,
                proxy_late_by: 0,
            },
            pods_made: 0,
        }
    }

    pub(super) fn create_secret(&mut self) -> bool {
        self.writes.push("+Secret".into());
        let free = self.secret.is_none();
        if free && self.object {
            self.secret = Some(Whose::Ours);
        }
        free
    }

    /// Whether what stood there was ours or nothing; none where the call failed.
    pub(super) fn delete_secret(&mut self) -> Option<bool> {
        // The policies let the operator delete only run Secrets.
        let foreign = self.secret == Some(Whose::Foreign);
        let refused = foreign || self.surroundings.removal_fails;
        // How often a removal is tried is the controller's back-off.
        if !refused || self.writes.last().is_none_or(|last| last != "!-Secret") {
            self.writes.push(if refused { "!-Secret" } else { "-Secret" }.into());
        }
        if refused {
            return foreign.then_some(false);
        }
        self.secret = None;
        Some(true)
    }

    pub(super) fn create_pod(&mut self) -> PodView {
        self.writes.push("+Pod".into());
        assert!(self.pod.is_none() && !self.foreign_pod, "the caller has looked");
        self.pods_made += 1;
        let pod = PodView { uid: format!("pod-{}", self.pods_made), created: self.now, ..pending() };
        if self.object {
            self.pod = Some(pod.clone());
        }
        pod
    }

    pub(super) fn delete_pod(&mut self, uid: &str, reason: Reason) {
        self.writes.push(format!("-Pod({reason})"));
        if let Some(pod) = self.pod.as_mut().filter(|pod| pod.uid == uid) {
            assert!(pod.deleting.is_none(), "the Pod is deleted twice");
            pod.deleting = Some(self.now);
        }
    }

    /// Keeps what a status can say, and nothing else.
    pub(super) fn write_status(&mut self, state: &State) {
        self.writes.push(format!("{:?}/{}({:?})", state.phase, state.reason, state.copy));
        let old = &self.status;
        if old.phase.is_terminal() {
            let end = |s: &State| (s.phase, s.reason, s.message.clone(), s.exit_code, s.completed, s.started);
            assert_eq!(end(old), end(state), "a terminal state has changed");
            assert!(!matches!((old.copy, state.copy), (SecretCopy::Gone, SecretCopy::Present)), "gone is gone");
        }
        if state.phase.is_terminal() {
            assert!(state.completed.is_some() && !state.message.is_empty());
        }
        let micros = |time: Option<Timestamp>| time.map(|t| Timestamp::from_microsecond(t.as_microsecond()).unwrap());
        self.status = State {
            reason: serde_json::from_value(serde_json::to_value(state.reason).unwrap()).unwrap(),
            copy: SecretCopy::parse(state.copy.as_str()),
            // It travels as the transition time of a condition.
            waiting_since: state.waiting_since.map(|time| Timestamp::from_second(time.as_second()).unwrap()),
            started: micros(state.started),
            completed: micros(state.completed),
            injected: micros(state.injected),
            removed: micros(state.removed),
            ..state.clone()
        };
    }

    pub(super) fn delete_object(&mut self) {
        self.writes.push("-object".into());
        self.object = false;
    }

    /// When the kubelet or the garbage collector will do something next.
    pub(super) fn next_change(&self) -> Option<Timestamp> {
        if !self.object && (self.secret == Some(Whose::Ours) || self.pod.is_some()) {
            return Some(self.now + seconds(1));
        }
        let pod = self.pod.as_ref()?;
        let around = &self.surroundings;
        if !around.node_alive {
            return None;
        }
        let next = match (pod.deleting, &pod.main) {
            (Some(asked), Main::Running(_)) => Some(asked + seconds(around.ends_after)),
            (Some(_), _) => Some(self.now + seconds(1)),
            (None, Main::Running(Some(started))) if pod.phase == PodPhase::Pending => {
                Some(*started + seconds(around.proxy_late_by))
            }
            (None, Main::Running(Some(started))) => around.runs_for.map(|lasts| *started + seconds(lasts)),
            (None, Main::Unreported) => Some(pod.created + seconds(around.starts_after.unwrap_or(2))),
            (None, Main::Waiting(reason, _)) if reason == "CreateContainerConfigError" => Some(self.now + seconds(12)),
            _ => None,
        };
        let deadline = (!pod.has_ended()).then(|| pod.created + self.run.lifetime);
        next.into_iter().chain(deadline).min().map(|at| at.max(self.now + seconds(1)))
    }

    /// Brings the cluster to `now`.
    pub(super) fn tick(&mut self) {
        if !self.object {
            self.secret = self.secret.filter(|whose| *whose == Whose::Foreign);
            self.pod = None;
            return;
        }
        let around = self.surroundings.clone();
        let has_secret = self.run.references.is_empty() || self.secret == Some(Whose::Ours);
        let now = self.now;
        let Some(pod) = self.pod.as_mut().filter(|_| around.node_alive) else { return };
        let ended = |code: i32, started| Main::Ended {
            code,
            reason: if code == 0 { "Completed".into() } else { "Error".into() },
            started,
            finished: Some(now),
        };
        if let Some(asked) = pod.deleting {
            if let Main::Running(started) = pod.main {
                if asked + seconds(around.ends_after) <= now {
                    pod.main = ended(143, started);
                    pod.phase = PodPhase::Failed;
                }
            } else {
                self.pod = None;
            }
            return;
        }
        if !pod.has_ended() && pod.created + self.run.lifetime <= now {
            pod.main = ended(137, pod.started());
            pod.phase = PodPhase::Failed;
            pod.reason = "DeadlineExceeded".into();
            return;
        }
        match pod.main.clone() {
            Main::Running(Some(started)) if pod.phase == PodPhase::Pending => {
                if started + seconds(around.proxy_late_by) <= now && has_secret {
                    pod.phase = PodPhase::Running;
                }
            }
            Main::Running(started) => {
                let until = started.zip(around.runs_for).map(|(started, lasts)| started + seconds(lasts));
                if until.is_some_and(|until| until <= now) {
                    pod.main = ended(around.exit_code, started);
                    if !around.proxy {
                        pod.phase = if around.exit_code == 0 { PodPhase::Succeeded } else { PodPhase::Failed };
                    }
                }
            }
            Main::Ended { .. } => {}
            Main::Unreported | Main::Waiting(..) => match around.starts_after {
                None => pod.main = Main::Waiting("ErrImagePull".into(), String::new()),
                Some(after) if pod.created + seconds(after) > now => {}
                Some(_) if has_secret => {
                    pod.main = Main::Running(Some(now));
                    pod.phase = if around.proxy_late_by > 0 { PodPhase::Pending } else { PodPhase::Running };
                    pod.others = if around.proxy { vec!["proxy".into()] } else { Vec::new() };
                }
                Some(_) => pod.main = without_its_secret().main,
            },
        }
    }
}
