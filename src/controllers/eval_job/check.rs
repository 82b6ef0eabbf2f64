//! The check before anything is made: every need of every benchmark is bound, authorized and found. Values are dropped.

use std::collections::BTreeMap;

use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use super::super::runs::Error;
use super::super::{Context, audit, submitter};
use crate::api::{BenchmarkStatus, BoundBy, ConditionStatus, ConditionType, EvalJob, EvalJobStatus, Reason};
use crate::evaluation::{Binding, Bindings, Bound, Problem, WANDB_KEY, run_of, sum_of};
use crate::run::{self, Resolution, Run};
use crate::secret::SecretValue;

/// How long a job waits for a store that does not answer.
const PATIENCE: SignedDuration = SignedDuration::from_secs(300);
/// How many benchmarks are asked for at once.
const AT_ONCE: usize = 4;

/// What a check came to.
pub(super) enum Checked {
    /// Everything is there.
    Ready,
    /// Only stores that do not answer stand in the way.
    Waits(Reason, String),
    /// Something stands in the way that waiting does not mend.
    Refused(Vec<Problem>),
}

/// Checks a job.
pub(super) async fn check(
    job: &EvalJob,
    ctx: &Context,
    status: &EvalJobStatus,
    bindings: &Bindings,
    now: Timestamp,
) -> Result<Checked, Error> {
    if !*ctx.guarded.borrow() {
        let message = "The operator hands out nothing until the admission policies are proven in force".to_owned();
        return Ok(Checked::Waits(Reason::OperatorNotReady, message));
    }
    let mut found = bindings.problems.clone();
    if ctx.evaluation_settings.image(&job.spec).is_none() {
        let framework = job.spec.framework().as_str();
        found.push(Problem {
            benchmarks: Vec::new(),
            reason: Reason::RunnerImageUnset,
            message: format!(
                "no image runs {framework}: the cluster admin sets config.evaluations.images.{framework} of the chart, or set runner.image"
            ),
        });
    }
    let (passing, lasting): (Vec<_>, Vec<_>) =
        resolve_all(job, ctx, bindings).await?.into_iter().partition(|(_, waits)| *waits);
    found.extend(lasting.into_iter().map(|(problem, _)| problem));
    let may_pass = found.is_empty();
    found.extend(passing.into_iter().map(|(problem, _)| problem));
    if found.is_empty() {
        return Ok(Checked::Ready);
    }
    let since = status
        .conditions
        .iter()
        .find(|c| c.type_ == ConditionType::SecretsResolved && c.status == ConditionStatus::False)
        .map_or(now, |condition| condition.last_transition_time.0);
    let late = since.saturating_add(PATIENCE).is_ok_and(|until| until <= now);
    if may_pass && !late {
        let (reason, message) = sum_of(&found);
        return Ok(Checked::Waits(reason, message));
    }
    if may_pass {
        for problem in &mut found {
            problem.message = format!("{}; waited {} s", problem.message, PATIENCE.as_secs());
        }
    }
    Ok(Checked::Refused(found))
}

/// Asks for the secrets of every benchmark. The same problem of several is told once, with whether waiting may mend it.
async fn resolve_all(job: &EvalJob, ctx: &Context, bindings: &Bindings) -> Result<Vec<(Problem, bool)>, Error> {
    let mut answers = Vec::new();
    let mut keys = Vec::new();
    for some in bindings.benchmarks.chunks(AT_ONCE) {
        let asked: Vec<_> = some.iter().map(|binding| ask(job, ctx, binding)).collect();
        for (binding, answer) in some.iter().zip(join_all(asked).await) {
            let (problems, key) = answer?;
            answers.push((binding, problems));
            keys.extend(key.map(|(bound, key)| (binding.benchmark.as_str(), bound, key)));
        }
    }
    let mut told: BTreeMap<String, (Reason, bool, Vec<String>)> = BTreeMap::new();
    let mut order: Vec<String> = Vec::new();
    for (binding, problems) in answers {
        for problem in problems {
            let text = sentence(binding, &problem);
            let waits = problem.waits
                && matches!(problem.reason, Reason::StoreUnavailable | Reason::StoreThrottled | Reason::KeyLost);
            let entry = told.entry(text.clone()).or_insert_with(|| {
                order.push(text);
                (problem.reason, waits, Vec::new())
            });
            entry.2.push(binding.benchmark.clone());
        }
    }
    // Not while stores are waited for: all of it is asked again then.
    let waits = told.values().any(|(_, waits, _)| *waits);
    let denied = if waits { Vec::new() } else { results_denied(job, ctx, &keys).await };
    Ok(order
        .into_iter()
        .filter_map(|text| {
            let (reason, waits, benchmarks) = told.remove(&text)?;
            let message = format!("{}: {text}", benchmarks.join(", "));
            Some((Problem { benchmarks, reason, message }, waits))
        })
        .chain(denied.into_iter().map(|problem| (problem, false)))
        .collect())
}

/// A benchmark's key for `results.wandb`, with what it is bound by.
type Key<'a> = (&'a str, &'a Bound, SecretValue);

/// What the place for results has against those who would bring them: each key is shown there once.
#[cfg(feature = "wandb")]
async fn results_denied(job: &EvalJob, ctx: &Context, keys: &[Key<'_>]) -> Vec<Problem> {
    let Some(wandb) = job.spec.results.as_ref().and_then(|results| results.wandb.as_ref()) else { return Vec::new() };
    let namespace = job.namespace().unwrap_or_default();
    let mut different: Vec<(&Bound, &SecretValue, Vec<String>)> = Vec::new();
    for (benchmark, bound, key) in keys {
        match different.iter_mut().find(|(other, ..)| other.reference == bound.reference) {
            Some((.., benchmarks)) => benchmarks.push((*benchmark).to_owned()),
            None => different.push((bound, key, vec![(*benchmark).to_owned()])),
        }
    }
    let endpoint = ctx.evaluation_settings.wandb();
    let asked = different.iter().map(|(bound, key, benchmarks)| {
        super::results::objection(endpoint, wandb, bound, bound.reference.team(&namespace), key, benchmarks)
    });
    join_all(asked).await.into_iter().flatten().collect()
}

/// Without the backend nothing can be asked; the runner does.
#[cfg(not(feature = "wandb"))]
#[expect(clippy::unused_async, reason = "the other one waits for an answer")]
async fn results_denied(_: &EvalJob, _: &Context, _: &[Key<'_>]) -> Vec<Problem> {
    Vec::new()
}

/// What stands in the way of one benchmark's secrets, and the key for its results. All other values are dropped here.
async fn ask<'a>(
    job: &EvalJob,
    ctx: &Context,
    binding: &'a Binding,
) -> Result<(Vec<run::Problem>, Option<(&'a Bound, SecretValue)>), Error> {
    let references = binding.secrets.iter().map(|bound| bound.reference.clone()).collect();
    let named = BenchmarkStatus { name: binding.benchmark.clone(), ..BenchmarkStatus::default() };
    let run = run_of(job, &named, references, None);
    let resolved = ctx.resolver.resolve(&run).await?;
    audited(job, ctx, &run, &resolved.resolution);
    let mut values = binding.secrets.iter().zip(resolved.values);
    let key = values.find(|(bound, _)| bound.reference.variable() == WANDB_KEY);
    let key = key.and_then(|(bound, value)| Some((bound, value?)));
    Ok(match resolved.resolution {
        Resolution::Problems(problems) => (problems, None),
        Resolution::Ready(_) | Resolution::NotAsked => (Vec::new(), key),
    })
}

/// What the resolver says of a reference, with the variable, what it is for, and the field that it comes from.
fn sentence(binding: &Binding, problem: &run::Problem) -> String {
    let Some((index, bound)) = problem.reference.and_then(|index| Some((index, binding.secrets.get(index)?))) else {
        return problem.message.clone();
    };
    let field = match bound.by {
        BoundBy::Model => "model.apiKey",
        BoundBy::Grader => "graders[].apiKey",
        BoundBy::Results => "results.wandb.apiKey",
        BoundBy::Benchmark => "benchmarks[].secrets",
        BoundBy::Job => "secrets",
        BoundBy::AutoBind => "autoBind",
    };
    let said = problem.message.strip_prefix(&format!("secrets[{index}]: ")).unwrap_or(&problem.message);
    format!("{}, {} (from {field}): {said}", bound.reference.variable(), bound.purpose)
}

/// One record a change: a job that polls for a store does not fill the log.
fn audited(job: &EvalJob, ctx: &Context, run: &Run, resolution: &Resolution) {
    let (decision, reason) = match resolution {
        Resolution::NotAsked => return,
        Resolution::Ready(_) => ("allowed", Reason::Resolved),
        Resolution::Problems(problems) => {
            let denied = problems.iter().find(|problem| problem.reason == Reason::AccessDenied);
            let reason = denied.or(problems.first()).map_or(Reason::SecretNotFound, |problem| problem.reason);
            (if denied.is_some() { "denied" } else { "unresolved" }, reason)
        }
    };
    let uid = job.uid().unwrap_or_default();
    let part = format!("{}/0", run.benchmark);
    let mut known = ctx.evaluations.of_part(&uid, &part);
    if !run.references.is_empty() && known.audited != Some(reason) {
        audit::of_run(run, submitter(&job.metadata), audit::Action::Resolve, decision, reason, &[]);
        known.audited = Some(reason);
        ctx.evaluations.keep_part(&uid, &part, known);
    }
}
