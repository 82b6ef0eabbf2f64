//! The EvalJob's reconcile: check what its benchmarks need, give them their turns, drive their attempts, tell the sum.
//!
//! The status is the recorded state of every attempt. It is written before an attempt's objects are made: what may hold
//! a secret can always be told from it.

mod attempt;
mod check;
mod report;
#[cfg(feature = "wandb")]
mod results;

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, ResourceExt};

use super::Context;
use super::memory::Remembered;
use super::runs::{Error, delete_parameters, rest};
use crate::api::{BenchmarkPhase, BenchmarkStatus, ConditionType, EvalJob, EvalJobStatus, EvaluationPhase, Reason};
use crate::evaluation::{
    Bindings, bind_each, order, recorded_secrets, refuse, rerun, set_catalog, set_resolved, sum_of, summarize, turn,
};
use crate::kube_ext::{CallError, call};
use attempt::Advanced;
pub use attempt::part;
use check::Checked;

/// More rounds than any life takes in one reconcile; past it the queue gives others their turn.
const ROUNDS: usize = 16;
/// How soon a job that waits for a store is looked at again.
const POLL: SignedDuration = SignedDuration::from_secs(5);

/// Brings a job one stretch further.
///
/// # Errors
/// A call failed; what was done before it stands, and the next reconcile goes on from there.
pub async fn reconcile(job: Arc<EvalJob>, ctx: Arc<Context>) -> Result<Action, Error> {
    let started = std::time::Instant::now();
    let uid = job.uid().unwrap_or_default();
    let mut known = ctx.evaluations.of(&uid);
    let result = Box::pin(run_to_rest(&job, &ctx, &mut known)).await;
    if result.is_ok() {
        known.failures = 0;
    }
    ctx.evaluations.keep(&uid, known);
    ctx.metrics.reconciled("EvalJob", result.is_ok(), started.elapsed());
    if is_gone(&job, &ctx) {
        // Its deletion may have been told before this reconcile had made what is there now.
        clean_up_after(EvalJob::clone(&job), ctx).await;
        return Ok(Action::await_change());
    }
    result
}

/// Whether the watch has seen the job go.
fn is_gone(job: &EvalJob, ctx: &Context) -> bool {
    ctx.evaljobs.get(&ObjectRef::from_obj(job)).is_none_or(|now| now.metadata.uid != job.metadata.uid)
}

/// How long to wait after a failure.
#[expect(clippy::needless_pass_by_value, reason = "the signature is the controller's")]
pub fn error_policy(job: Arc<EvalJob>, error: &Error, ctx: Arc<Context>) -> Action {
    let delay = ctx.evaluations.back_off(&job.uid().unwrap_or_default());
    tracing::warn!(
        namespace = job.namespace(), name = job.name_any(), %error, retry_in_ms = delay.as_millis(), "reconcile failed"
    );
    Action::requeue(delay)
}

/// The status as this process last wrote it, else as the watch shows it, with an entry for each benchmark.
fn status_of(job: &EvalJob, known: &Remembered) -> EvalJobStatus {
    let mut status = match &known.evaluation {
        Some(written) => EvalJobStatus::clone(written),
        None => job.status.clone().unwrap_or_default(),
    };
    if status.benchmarks.len() != job.spec.benchmarks.len() {
        status.benchmarks = job
            .spec
            .benchmarks
            .iter()
            .map(|benchmark| BenchmarkStatus {
                name: benchmark.effective_name().to_owned(),
                task: benchmark.task.clone(),
                ..BenchmarkStatus::default()
            })
            .collect();
    }
    status
}

async fn run_to_rest(job: &EvalJob, ctx: &Context, known: &mut Remembered) -> Result<Action, Error> {
    let spec = &job.spec;
    let deleting = job.metadata.deletion_timestamp.is_some();
    let mut status = status_of(job, known);
    for _ in 0..ROUNDS {
        if is_gone(job, ctx) {
            return Ok(Action::await_change());
        }
        let now = ctx.clock.now();
        let (catalog, broken) = &*ctx.catalog.borrow().clone();
        let bindings = bind_each(spec, catalog);
        if deleting {
            let (advanced, failed) = advance_all(job, ctx, &mut status, &bindings).await;
            let wake = advanced.iter().filter_map(|advanced| advanced.wake).min();
            return failed.map_or_else(|| Ok(rest(wake, false, now).unwrap_or_else(Action::await_change)), Err);
        }
        let over = status.phase.is_terminal();
        if over && spec.rerun > status.rerun && !spec.stop {
            rerun(spec, &mut status);
            status.phase = EvaluationPhase::Pending;
            report::write(job, ctx, known, &status).await?;
            continue;
        }
        let ends = order(spec, &status, now);
        if !over && !is_resolved(&status) && ends.is_none_or(|reason| reason == Reason::Suspended) {
            let checked = check::check(job, ctx, &status, &bindings, now).await?;
            set_catalog(&mut status, broken.is_some(), &catalog.version, job.metadata.generation, now);
            match checked {
                Checked::Ready => {
                    set_resolved(&mut status, None, job.metadata.generation, now);
                    status.catalog_version = Some(catalog.version.clone());
                    record(job, &mut status, &bindings);
                }
                Checked::Waits(reason, message) => {
                    set_resolved(&mut status, Some((reason, &message)), job.metadata.generation, now);
                    summarize(spec, &mut status, None, job.metadata.generation, now);
                    status.reason = Some(reason);
                    status.message = Some(message);
                    report::write(job, ctx, known, &status).await?;
                    return Ok(Action::requeue(Duration::try_from(POLL).unwrap_or(Duration::from_secs(5))));
                }
                Checked::Refused(problems) => {
                    let (reason, message) = sum_of(&problems);
                    record(job, &mut status, &bindings);
                    refuse(&mut status, &problems, now);
                    set_resolved(&mut status, Some((reason, &message)), job.metadata.generation, now);
                    summarize(spec, &mut status, Some((reason, &message)), job.metadata.generation, now);
                    status.rerun = spec.rerun;
                    report::write(job, ctx, known, &status).await?;
                    continue;
                }
            }
        }
        let mut wake = None;
        if !over {
            let turn = turn(spec, &mut status, now);
            for &index in &turn.begun {
                begin(job, &mut status.benchmarks[index], &bindings, index, now);
            }
            wake = turn.wake;
            summarize(spec, &mut status, None, job.metadata.generation, now);
            // Before any object of an attempt is there.
            report::write(job, ctx, known, &status).await?;
        }
        let (advanced, failed) = advance_all(job, ctx, &mut status, &bindings).await;
        if !over || advanced.iter().any(|advanced| advanced.told) {
            summarize_kept(job, &mut status, over, ctx.clock.now());
            report::write(job, ctx, known, &status).await?;
        }
        if let Some(error) = failed {
            return Err(error);
        }
        if over && expired(job, &status, ctx.clock.now()) {
            let _place = ctx.lanes.removal().await;
            delete(job, ctx).await?;
            return Ok(Action::await_change());
        }
        // An attempt that has ended makes way for the next one; one that was told may have more to do.
        let more = advanced.iter().any(|advanced| advanced.concluded);
        if !more {
            let ttl = due(job, &status).filter(|_| status.phase.is_terminal());
            let wake = advanced.iter().filter_map(|advanced| advanced.wake).chain(wake).chain(ttl).min();
            let told = advanced.iter().any(|advanced| advanced.told);
            if let Some(action) = rest(wake, told, ctx.clock.now()) {
                return Ok(action);
            }
        }
    }
    Ok(Action::requeue(Duration::from_millis(100)))
}

/// Sums up anew; of a job that is over, only what the removal of copies changes.
fn summarize_kept(job: &EvalJob, status: &mut EvalJobStatus, over: bool, now: Timestamp) {
    let told = (status.phase, status.reason, status.message.clone());
    let refused = (over && !is_resolved(status) && status.phase == EvaluationPhase::Failed)
        .then(|| (status.reason.unwrap_or(Reason::Unknown), status.message.clone().unwrap_or_default()));
    let refused = refused.as_ref().map(|(reason, message)| (*reason, message.as_str()));
    summarize(&job.spec, status, refused, job.metadata.generation, now);
    if over {
        (status.phase, status.reason, status.message) = told;
    }
}

fn is_resolved(status: &EvalJobStatus) -> bool {
    status.conditions.iter().any(|condition| {
        condition.type_ == ConditionType::SecretsResolved && condition.status == crate::api::ConditionStatus::True
    })
}

/// Tells what each benchmark that has yet to begin gets. What others got stands.
fn record(job: &EvalJob, status: &mut EvalJobStatus, bindings: &Bindings) {
    for (benchmark, binding) in status.benchmarks.iter_mut().zip(&bindings.benchmarks) {
        if !benchmark.phase.is_terminal() && !benchmark.is_active() && !benchmark.is_unsettled() {
            benchmark.task.clone_from(&binding.task);
            benchmark.secrets = recorded_secrets(job, binding);
        }
    }
}

/// The attempt's references are in the status before its Secret is. What cannot be bound any more has failed.
fn begin(job: &EvalJob, benchmark: &mut BenchmarkStatus, bindings: &Bindings, index: usize, now: Timestamp) {
    let problem = bindings.problems.iter().find(|problem| problem.benchmarks.contains(&benchmark.name));
    match (problem, bindings.benchmarks.get(index)) {
        (None, Some(binding)) => benchmark.secrets = recorded_secrets(job, binding),
        (problem, _) => {
            benchmark.phase = BenchmarkPhase::Failed;
            benchmark.reason = problem.map(|problem| problem.reason);
            benchmark.message = problem.map(|problem| problem.message.clone());
            benchmark.completion_time = Some(crate::api::Time(now).to_second());
        }
    }
}

/// Drives every attempt that is under way or has left something, all at once.
async fn advance_all(
    job: &EvalJob,
    ctx: &Context,
    status: &mut EvalJobStatus,
    bindings: &Bindings,
) -> (Vec<Advanced>, Option<Error>) {
    let ends = order(&job.spec, status, ctx.clock.now());
    let driven: Vec<usize> = (0..status.benchmarks.len())
        .filter(|&index| attempt::is_driven(job, ctx, &status.benchmarks[index], ends))
        .collect();
    let mut attempts = Vec::new();
    for &index in &driven {
        let (benchmark, binding) = (&status.benchmarks[index], bindings.benchmarks.get(index));
        attempts.push(attempt::advance(job, ctx, index, benchmark, binding, ends));
    }
    let results = join_all(attempts).await;
    let (mut all, mut failed) = (Vec::new(), None);
    for (index, result) in driven.into_iter().zip(results) {
        match result {
            Ok(advanced) => all.push(attempt::tell(job, ctx, &mut status.benchmarks[index], index, advanced)),
            // The others' results stand: the first failure is told after they are written.
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    (all, failed)
}

fn due(job: &EvalJob, status: &EvalJobStatus) -> Option<Timestamp> {
    let ttl = SignedDuration::from_secs(job.spec.ttl_seconds_after_finished?);
    Some(status.completion_time?.0.saturating_add(ttl).unwrap_or(Timestamp::MAX))
}

fn expired(job: &EvalJob, status: &EvalJobStatus, now: Timestamp) -> bool {
    status.benchmarks.iter().all(|benchmark| !benchmark.is_unsettled())
        && due(job, status).is_some_and(|due| due <= now)
}

async fn delete(job: &EvalJob, ctx: &Context) -> Result<(), Error> {
    let jobs = Api::<EvalJob>::namespaced(ctx.client.clone(), &job.namespace().unwrap_or_default());
    let what = "delete the EvalJob whose time is over";
    let parameters = delete_parameters(&job.uid().unwrap_or_default());
    match call(what, jobs.delete(&job.name_any(), &parameters)).await? {
        Ok(_) => Ok(()),
        Err(answer) if matches!(answer.code, 404 | 409) => Ok(()),
        Err(answer) => Err(CallError::Api { what, code: answer.code, reason: answer.reason }.into()),
    }
}

/// Removes what a deleted job has left, faster than the garbage collector comes by.
pub async fn clean_up_after(job: EvalJob, ctx: Arc<Context>) {
    let uid = job.uid().unwrap_or_default();
    let known = ctx.evaluations.forget(&uid).unwrap_or_default();
    let status = status_of(&job, &known);
    for benchmark in status.benchmarks.iter().filter(|benchmark| benchmark.attempt > 0) {
        attempt::clean_up(&job, &ctx, benchmark).await;
    }
    ctx.evaluations.forget_parts(&uid);
}
