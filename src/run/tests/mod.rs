//! What the pure core of a run must do, in tables; the scenes that they are made of.

mod ending;
mod network;
mod pod;
mod pod_view;
mod queue;
mod settled;
mod simulator;
mod waiting;
mod with_pod;

use jiff::{SignedDuration, Timestamp};

use super::pod_view::Main;
use super::{
    Facts, Observed, Plan, PodPhase, PodSeen, PodView, Problem, Refusal, Resolution, Run, SecretCopy, SecretFact,
    State, Step, plan, wants_secrets,
};
use crate::api::{Delivery, Phase, Reason, SecretReference, SecretRemoval, names};

/// `seconds` after the moment at which every scene's object is made.
fn t(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn seconds(seconds: i64) -> SignedDuration {
    SignedDuration::from_secs(seconds)
}

fn reference(name: &str) -> SecretReference {
    SecretReference {
        team: None,
        name: name.into(),
        env_var: None,
        field: None,
        version: None,
        optional: false,
        store: None,
    }
}

/// A Sandbox `demo` with one secret, delivered as a variable, and short times.
fn run() -> Run {
    Run {
        namespace: "research".into(),
        owner_kind: "Sandbox",
        owner_name: "demo".into(),
        owner_uid: "uid-1".into(),
        benchmark: String::new(),
        attempt: 1,
        name: names::run_name("demo", "uid-1", "", 1),
        deleting: false,
        ends: None,
        service_account: "default".into(),
        references: vec![reference("API_KEY")],
        delivery: Delivery::Env,
        removal: SecretRemoval::AfterStart,
        network: false,
        gated: false,
        lifetime: seconds(3600),
        lifetime_field: "spec.activeDeadlineSeconds",
        secrets_timeout: seconds(300),
        missing_ends: false,
        startup_timeout: seconds(600),
        grace: seconds(10),
        ttl: None,
    }
}

/// The run's own Pod, made at 0, of which nobody has reported anything.
fn pending() -> PodView {
    PodView {
        uid: "pod-1".into(),
        created: t(0),
        injected: Some(t(0)),
        versions: Some(vec![Some("3".into())]),
        ..PodView::default()
    }
}

fn waiting(reason: &str, message: &str) -> PodView {
    PodView { main: Main::Waiting(reason.into(), message.into()), ..pending() }
}

/// As a kubelet tells that the run Secret is not there.
fn without_its_secret() -> PodView {
    waiting("CreateContainerConfigError", &format!("secret \"{}\" not found", run().name))
}

fn started() -> PodView {
    PodView { phase: PodPhase::Running, main: Main::Running(Some(t(2))), ..pending() }
}

/// The program ended at 60.
fn ended(code: i32, reason: &str) -> PodView {
    PodView {
        phase: if code == 0 { PodPhase::Succeeded } else { PodPhase::Failed },
        main: Main::Ended { code, reason: reason.into(), started: Some(t(2)), finished: Some(t(60)) },
        ..pending()
    }
}

fn deleted(pod: PodView, at: i64) -> PodView {
    PodView { deleting: Some(t(at)), ..pod }
}

/// What one plan is made from, in words.
struct Scene {
    run: Run,
    recorded: State,
    pod: PodSeen,
    facts: Facts,
    secrets: Resolution,
    revoked: Vec<String>,
    newer: bool,
    guarded: bool,
}

/// A new object, seen by a process that knows nothing of it, whose secrets resolve.
fn scene() -> Scene {
    Scene {
        run: run(),
        recorded: State::default(),
        pod: PodSeen::Absent,
        facts: Facts::default(),
        secrets: Resolution::Ready(vec![Some("3".into())]),
        revoked: Vec::new(),
        newer: false,
        guarded: true,
    }
}

impl Scene {
    fn shape(mut self, change: impl FnOnce(&mut Run)) -> Self {
        change(&mut self.run);
        self
    }

    fn no_secrets(self) -> Self {
        let mut scene = self.shape(|run| run.references.clear());
        scene.secrets = Resolution::Ready(Vec::new());
        scene
    }

    fn after_finish(self) -> Self {
        self.shape(|run| run.removal = SecretRemoval::AfterFinish)
    }

    fn stop(self) -> Self {
        self.shape(|run| run.ends = Some(Reason::Stopped))
    }

    fn deleting(self) -> Self {
        self.shape(|run| run.deleting = true)
    }

    fn ttl(self, after: i64) -> Self {
        self.shape(|run| run.ttl = Some(seconds(after)))
    }

    fn revoked(mut self) -> Self {
        self.revoked = vec!["API_KEY".into()];
        self
    }

    fn unguarded(mut self) -> Self {
        self.guarded = false;
        self
    }

    fn newer_version(mut self) -> Self {
        self.newer = true;
        self
    }

    fn asked_nobody(mut self) -> Self {
        self.secrets = Resolution::NotAsked;
        self
    }

    /// Something stands in the way of the first secret.
    fn problem(mut self, reason: Reason, waits: bool) -> Self {
        let problem = Problem { reference: Some(0), reason, message: format!("{reason} it is"), waits };
        match &mut self.secrets {
            Resolution::Problems(problems) => problems.push(problem),
            _ => self.secrets = Resolution::Problems(vec![problem]),
        }
        self
    }

    fn secret(mut self, fact: SecretFact) -> Self {
        self.facts.secret = fact;
        self
    }

    fn made(self, at: i64) -> Self {
        self.secret(SecretFact::Made(t(at)))
    }

    fn gone(self, at: i64) -> Self {
        self.secret(SecretFact::Gone(t(at)))
    }

    fn removal_fails_since(mut self, at: i64) -> Self {
        self.facts.removal_fails_since = Some(t(at));
        self
    }

    fn refused(mut self, refusal: Refusal) -> Self {
        self.facts.refusal = Some(refusal);
        self
    }

    fn quota(self, again: i64) -> Self {
        self.refused(Refusal::Quota("no room".into(), t(again)))
    }

    fn pod(mut self, pod: PodView) -> Self {
        self.pod = PodSeen::Ours(Box::new(pod));
        self
    }

    fn foreign_pod(mut self) -> Self {
        self.pod = PodSeen::Foreign;
        self
    }

    /// The Pod is gone, and this is what was last seen of it.
    fn last_seen(mut self, pod: PodView) -> Self {
        self.facts.pod = Some(pod);
        self
    }

    fn ended_for(mut self, reason: Reason) -> Self {
        self.facts.ended_for = Some(reason);
        self
    }

    fn recorded(mut self, phase: Phase, reason: Reason, copy: SecretCopy) -> Self {
        self.recorded = State {
            phase,
            reason,
            copy,
            pod: matches!(phase, Phase::Running | Phase::Terminating),
            completed: phase.is_terminal().then(|| t(60)),
            ..State::default()
        };
        self
    }

    fn status(mut self, change: impl FnOnce(&mut State)) -> Self {
        change(&mut self.recorded);
        self
    }

    fn observed(&self) -> Observed<'_> {
        Observed {
            run: &self.run,
            recorded: &self.recorded,
            pod: self.pod.clone(),
            facts: &self.facts,
            secrets: self.secrets.clone(),
            revoked: self.revoked.clone(),
            newer_version: self.newer,
            guarded: self.guarded,
        }
    }

    fn plan(&self, at: i64) -> Plan {
        plan(&self.observed(), t(at))
    }

    fn wants_secrets(&self, at: i64) -> bool {
        wants_secrets(&self.observed(), t(at))
    }
}

/// What a plan comes to.
#[derive(Debug, PartialEq)]
enum Does {
    /// These calls, in this order.
    Calls(Vec<Step>),
    /// A status patch with this in it, and another look at that second.
    Writes(Phase, Reason, SecretCopy, Option<i64>),
    /// Nothing until that second.
    Rests(Option<i64>),
}

fn calls<const N: usize>(steps: [Step; N]) -> Does {
    Does::Calls(steps.into())
}

fn writes(phase: Phase, reason: Reason, copy: SecretCopy, wake: i64) -> Does {
    Does::Writes(phase, reason, copy, Some(wake))
}

fn rests(wake: i64) -> Does {
    Does::Rests(Some(wake))
}

fn delete_pod(reason: Reason) -> Step {
    Step::DeletePod { uid: "pod-1".into(), reason }
}

impl Does {
    fn of(plan: &Plan) -> Self {
        let wake = plan.wake.map(|wake| wake.duration_since(t(0)).as_secs());
        match (plan.steps.is_empty(), plan.write) {
            (false, _) => Self::Calls(plan.steps.clone()),
            (true, true) => Self::Writes(plan.state.phase, plan.state.reason, plan.state.copy, wake),
            (true, false) => Self::Rests(wake),
        }
    }
}

/// A row: what it says, the scene, the second at which the plan is made, what it comes to.
type Row = (&'static str, Scene, i64, Does);

/// Checks a table and tells every row that does not hold.
fn check(rows: Vec<Row>) {
    let wrong: Vec<String> = rows
        .into_iter()
        .filter_map(|(name, scene, at, expected)| {
            let done = Does::of(&scene.plan(at));
            (done != expected).then(|| format!("{name}:\n     got {done:?}\n  wanted {expected:?}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{} rows do not hold:\n{}", wrong.len(), wrong.join("\n"));
}
