//! One attempt of one benchmark, through the same engine as a Sandbox's run.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::reflector::ObjectRef;
use kube::{Resource, ResourceExt};

use super::super::runs::{self, Error, Stop, Task};
use super::super::{Context, submitter};
use super::is_gone;
use crate::api::{BenchmarkStatus, EvalJob, EvalJobSpec, Reason, SecretReference};
use crate::evaluation::{Binding, Report, extras_of, fold, run_of, shape_of, state_of};
use crate::run::{PodView, Run, State};

/// What came of an attempt in one reconcile.
pub(super) struct Advanced {
    /// The state that is worth a write, with the runner's report.
    state: Option<(Run, State, Option<Report>)>,
    /// When to look again at the latest.
    pub(super) wake: Option<Timestamp>,
    /// The status tells something new.
    pub(super) told: bool,
    /// The attempt has ended.
    pub(super) concluded: bool,
}

/// Whether something may be left to do: the attempt is under way, a copy is not proven gone, or a Pod still runs.
pub(super) fn is_driven(job: &EvalJob, ctx: &Context, benchmark: &BenchmarkStatus, ends: Option<Reason>) -> bool {
    if benchmark.attempt == 0 {
        return false;
    }
    let run = run_of(job, benchmark, Vec::new(), ends);
    let key = ObjectRef::<Pod>::new(&run.name).within(&run.namespace);
    let runs_on = ctx.pods.get(&key).is_some_and(|pod| {
        let view = PodView::of(&pod);
        !view.has_ended() && view.deleting.is_none()
    });
    benchmark.is_active() || benchmark.is_unsettled() || runs_on
}

/// What memory calls the attempt.
pub fn part(benchmark: &BenchmarkStatus) -> String {
    format!("{}/{}", benchmark.name, benchmark.attempt)
}

/// The references of an attempt as they are recorded, with what only the specification says of them: there too where the
/// catalog has changed since, and binds the benchmark otherwise.
fn references(benchmark: &BenchmarkStatus, binding: Option<&Binding>, spec: &EvalJobSpec) -> Vec<SecretReference> {
    let bound = || binding.into_iter().flat_map(|binding| &binding.secrets).map(|bound| &bound.reference);
    let own = || spec.benchmarks.iter().find(|named| named.effective_name() == benchmark.name);
    let named = || own().into_iter().flat_map(|named| &named.secrets).chain(&spec.secrets);
    benchmark
        .secrets
        .iter()
        .map(|secret| {
            let recorded = SecretReference {
                team: Some(secret.team.clone()),
                name: secret.name.clone(),
                env_var: Some(secret.env_var.clone()),
                field: None,
                version: None,
                optional: false,
                store: Some(secret.store.clone()),
            };
            let same = |reference: &&SecretReference| {
                reference.variable() == secret.env_var
                    && reference.name == secret.name
                    && reference.store() == secret.store
            };
            bound().chain(named()).find(same).map_or_else(
                || recorded.clone(),
                |reference| SecretReference { team: Some(secret.team.clone()), ..reference.clone() },
            )
        })
        .collect()
}

/// Brings an attempt to where nothing is left to do.
pub(super) async fn advance(
    job: &EvalJob,
    ctx: &Context,
    index: usize,
    benchmark: &BenchmarkStatus,
    binding: Option<&Binding>,
    ends: Option<Reason>,
) -> Result<Advanced, Error> {
    let run = run_of(job, benchmark, references(benchmark, binding, &job.spec), ends);
    let none = Binding { benchmark: benchmark.name.clone(), task: benchmark.task.clone(), ..Binding::default() };
    let shape =
        shape_of(job, &job.spec.benchmarks[index], binding.unwrap_or(&none), run.attempt, &ctx.evaluation_settings);
    let task = Task {
        run: &run,
        shape: &shape,
        extras: &extras_of(job, &benchmark.name),
        about: &job.object_ref(&()),
        submitter: submitter(&job.metadata),
        gone: &|| is_gone(job, ctx),
    };
    let (uid, part) = (job.uid().unwrap_or_default(), part(benchmark));
    let mut known = ctx.evaluations.of_part(&uid, &part);
    let recorded = state_of(benchmark);
    let stop = runs::advance(&task, &recorded, ctx, &mut known).await;
    let report = known.facts.pod.as_ref().and_then(|pod| Report::parse(pod.last_word.as_deref()?));
    ctx.evaluations.keep_part(&uid, &part, known);
    let now = ctx.clock.now();
    let wake = match stop? {
        Stop::Rest(plan) => {
            let state = plan.write.then_some((run, plan.state, report));
            return Ok(Advanced { state, wake: plan.wake, told: plan.write, concluded: false });
        }
        Stop::Crowded => Some(now.saturating_add(runs::CROWDED).unwrap_or(Timestamp::MAX)),
        Stop::Unfinished => Some(now),
        Stop::Gone | Stop::OwnerDue => None,
    };
    Ok(Advanced { state: None, wake, told: false, concluded: false })
}

/// Records what came of an attempt.
pub(super) fn tell(
    job: &EvalJob,
    ctx: &Context,
    benchmark: &mut BenchmarkStatus,
    index: usize,
    advanced: Advanced,
) -> Advanced {
    let Some((run, state, report)) = &advanced.state else { return advanced };
    let was_active = benchmark.is_active();
    fold(benchmark, &job.spec.benchmarks[index], &job.spec, run, state, report.as_ref(), ctx.clock.now());
    let concluded = was_active && !benchmark.is_active();
    if concluded {
        ctx.metrics.run_ended("EvalJob", state.phase);
        tracing::info!(
            namespace = run.namespace, name = run.owner_name, benchmark = run.benchmark, attempt = run.attempt,
            phase = ?benchmark.phase, reason = benchmark.reason.map(Reason::as_str), "attempt ended"
        );
    }
    Advanced { concluded, ..advanced }
}

/// Removes the Secret of an attempt whose job is gone.
pub(super) async fn clean_up(job: &EvalJob, ctx: &Context, benchmark: &BenchmarkStatus) {
    let run = run_of(job, benchmark, references(benchmark, None, &job.spec), None);
    let known = ctx.evaluations.of_part(&job.uid().unwrap_or_default(), &part(benchmark));
    runs::clean_up(&run, submitter(&job.metadata), Some(&known), &state_of(benchmark), ctx).await;
}
