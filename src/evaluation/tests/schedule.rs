use jiff::{SignedDuration, Timestamp};

use super::*;
use crate::api::{
    BenchmarkPhase, BenchmarkStatus, ConditionStatus, ConditionType, EvalJob, EvalJobStatus, EvaluationPhase, Phase,
    Reason, Time,
};
use crate::run::{SecretCopy, State};

fn t(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

/// A job and the status that its attempts write.
struct Scene {
    job: EvalJob,
    status: EvalJobStatus,
}

impl Scene {
    fn new(change: impl FnOnce(&mut Value)) -> Self {
        let spec = spec(|spec| {
            spec["benchmarks"] =
                json!([{"task": "gsm8k", "expect": ["accuracy >= 0.8"]}, {"task": "boolq"}, {"task": "hle"}]);
            change(spec);
        });
        let benchmarks = spec
            .benchmarks
            .iter()
            .map(|benchmark| BenchmarkStatus {
                name: benchmark.effective_name().into(),
                task: benchmark.task.clone(),
                ..BenchmarkStatus::default()
            })
            .collect();
        let mut job = EvalJob::new("job", spec);
        job.metadata.uid = Some("uid-1".into());
        Self { job, status: EvalJobStatus { benchmarks, ..EvalJobStatus::default() } }
    }

    fn turn(&mut self, at: i64) -> Turn {
        let turn = turn(&self.job.spec, &mut self.status, t(at));
        summarize(&self.job.spec, &mut self.status, None, Some(1), t(at));
        turn
    }

    /// The attempt of a benchmark comes to this state.
    fn comes_to(&mut self, index: usize, at: i64, state: &State, report: Option<&str>) {
        let run = run_of(&self.job, &self.status.benchmarks[index], Vec::new(), None);
        let report = report.and_then(Report::parse);
        let spec = &self.job.spec;
        let benchmark = &spec.benchmarks[index];
        fold(&mut self.status.benchmarks[index], benchmark, spec, &run, state, report.as_ref(), t(at));
        summarize(&self.job.spec, &mut self.status, None, Some(1), t(at));
    }

    fn runs(&mut self, index: usize, at: i64) {
        let state = State { phase: Phase::Running, reason: Reason::Started, pod: true, ..State::default() };
        self.comes_to(index, at, &state, None);
    }

    fn scores(&mut self, index: usize, at: i64, score: f64) {
        let report = json!({"cause": "Succeeded", "score": {"scorer": "match", "metric": "accuracy", "value": score},
            "samples": {"done": 10, "total": 10}, "tokens": {"input": 5, "output": 2}});
        self.comes_to(index, at, &ended(0), Some(&report.to_string()));
    }

    fn fails(&mut self, index: usize, at: i64, code: i32, report: &Value) {
        self.comes_to(index, at, &ended(code), Some(&report.to_string()));
    }

    fn phases(&self) -> Vec<BenchmarkPhase> {
        self.status.benchmarks.iter().map(|benchmark| benchmark.phase).collect()
    }

    fn condition(&self, kind: ConditionType) -> (ConditionStatus, Reason) {
        let condition = self.status.conditions.iter().find(|condition| condition.type_ == kind).unwrap();
        (condition.status, condition.reason)
    }
}

fn ended(code: i32) -> State {
    State {
        phase: if code == 0 { Phase::Completed } else { Phase::Failed },
        reason: if code == 0 { Reason::Succeeded } else { Reason::NonZeroExit },
        message: format!("The program ended with exit code {code}"),
        pod: true,
        copy: SecretCopy::NoSecrets,
        exit_code: Some(code),
        ..State::default()
    }
}

fn failed(reason: Reason) -> State {
    State { phase: Phase::Failed, reason, message: "why".into(), copy: SecretCopy::NoSecrets, ..State::default() }
}

fn terminated(reason: Reason) -> State {
    State { phase: Phase::Terminated, ..failed(reason) }
}

#[test]
fn benchmarks_run_one_after_another_by_default() {
    let mut scene = Scene::new(|_| ());
    let deadline = t(0) + SignedDuration::from_secs(7 * 24 * 3600);
    assert_eq!(scene.turn(0), Turn { begun: vec![0], wake: Some(deadline) });
    assert_eq!(scene.status.phase, EvaluationPhase::Running);
    assert_eq!(scene.status.benchmarks[0].attempt, 1);
    assert_eq!(scene.status.benchmarks[1].reason, Some(Reason::WaitingForTurn));
    assert_eq!(scene.turn(1).begun, Vec::<usize>::new());
    scene.scores(0, 60, 0.85);
    assert_eq!(scene.status.progress.as_deref(), Some("1/3"));
    assert_eq!(scene.turn(60).begun, [1]);
    scene.scores(1, 90, 0.5);
    assert_eq!(scene.turn(90).begun, [2]);
    scene.scores(2, 120, 0.25);
    assert_eq!(scene.turn(120), Turn { begun: vec![], wake: Some(deadline) });
    assert_eq!(scene.status.phase, EvaluationPhase::Completed);
    assert_eq!(scene.status.headline.as_deref(), Some("0.85 0.5 0.25"));
    assert_eq!(scene.status.samples.unwrap().done, 30);
    assert_eq!(scene.status.tokens.unwrap().input, 15);
    for (kind, status) in [
        (ConditionType::Complete, ConditionStatus::True),
        (ConditionType::Failed, ConditionStatus::False),
        (ConditionType::Finished, ConditionStatus::True),
        (ConditionType::SecretsRemoved, ConditionStatus::True),
        (ConditionType::ExpectationsMet, ConditionStatus::True),
    ] {
        assert_eq!(scene.condition(kind).0, status, "{kind:?}");
    }
    assert_eq!((scene.status.expires_at, scene.status.completion_time), (None, Some(Time(t(120)))));
}

#[test]
fn as_many_run_at_once_as_are_allowed() {
    let mut scene = Scene::new(|spec| spec["parallelism"] = json!(2));
    assert_eq!(scene.turn(0).begun, [0, 1]);
    scene.scores(1, 10, 0.5);
    assert_eq!(scene.turn(10).begun, [2]);
}

#[test]
fn a_cause_decides_whether_to_try_again() {
    // Exit code, attempts that come of it at most.
    for (code, attempts) in [
        (10, 3),
        (11, 3),
        (12, 3),
        (13, 3),
        (40, 3),
        (143, 3),
        (137, 3),
        (20, 1),
        (22, 1),
        (23, 1),
        (25, 1),
        (27, 1),
        (31, 1),
    ] {
        let mut scene = Scene::new(|spec| spec["benchmarks"] = json!([{"task": "gsm8k"}]));
        let mut now = 0;
        let mut seen = 0;
        while scene.turn(now).begun == [0] {
            seen += 1;
            scene.fails(0, now, code, &json!({"message": "words"}));
            now += 1000;
        }
        assert_eq!(seen, attempts, "exit code {code}");
        assert_eq!(scene.status.phase, EvaluationPhase::Failed);
        let told = &scene.status.benchmarks[0];
        let cause = Cause::of_exit(code);
        assert_eq!(told.cause.as_deref(), cause.map(Cause::as_str));
        assert_eq!(told.reason, Some(cause.map_or(Reason::NonZeroExit, Cause::reason)));
        assert!(cause.is_none() || told.message.as_ref().unwrap().ends_with(": words"), "{:?}", told.message);
    }
}

#[test]
fn waits_between_attempts_double_and_a_providers_word_counts() {
    let mut scene = Scene::new(|spec| spec["benchmarks"] = json!([{"task": "gsm8k"}]));
    assert_eq!(scene.turn(0).begun, [0]);
    scene.fails(0, 5, 12, &json!({}));
    assert_eq!(scene.status.benchmarks[0].reason, Some(Reason::BackOff));
    assert_eq!(scene.turn(14), Turn { begun: vec![], wake: Some(t(15)) });
    assert_eq!(scene.turn(15).begun, [0]);
    assert_eq!(scene.status.benchmarks[0].attempt, 2);
    scene.fails(0, 20, 12, &json!({"retryAfterSeconds": 100}));
    assert_eq!(scene.turn(20).wake, Some(t(120)));
    assert_eq!(scene.turn(120).begun, [0]);
    scene.fails(0, 130, 12, &json!({"retryAfterSeconds": 100}));
    assert_eq!(scene.phases(), [BenchmarkPhase::Failed]);
}

#[test]
fn a_disruption_costs_nothing() {
    let mut scene = Scene::new(|spec| {
        spec["benchmarks"] = json!([{"task": "gsm8k"}]);
        spec["backoffLimit"] = json!(0);
    });
    for attempt in 1..5 {
        assert_eq!(scene.turn(attempt * 100).begun, [0]);
        scene.comes_to(0, attempt * 100, &failed(Reason::Evicted), None);
        assert_eq!(scene.status.benchmarks[0].failures, 0);
    }
    assert_eq!(scene.turn(600).begun, [0]);
    scene.comes_to(0, 600, &terminated(Reason::PodDeleted), None);
    assert_eq!(scene.phases(), [BenchmarkPhase::Failed], "somebody's deletion counts");
}

#[test]
fn one_failure_ends_all_where_that_is_wanted() {
    let mut scene = Scene::new(|spec| {
        spec["parallelism"] = json!(2);
        spec["failurePolicy"] = json!("FailFast");
    });
    assert_eq!(scene.turn(0).begun, [0, 1]);
    scene.runs(1, 5);
    scene.fails(0, 10, 22, &json!({}));
    assert_eq!(scene.turn(10).begun, Vec::<usize>::new());
    assert_eq!(order(&scene.job.spec, &scene.status, t(10)), Some(Reason::Skipped));
    scene.comes_to(1, 12, &terminated(Reason::Skipped), None);
    scene.turn(12);
    assert_eq!(scene.phases(), [BenchmarkPhase::Failed, BenchmarkPhase::Skipped, BenchmarkPhase::Skipped]);
    assert_eq!(scene.status.phase, EvaluationPhase::Failed);

    let mut scene = Scene::new(|spec| spec["failurePolicy"] = json!("FailFast"));
    scene.turn(0);
    scene.comes_to(0, 10, &failed(Reason::DeadlineExceeded), None);
    assert_eq!(scene.turn(10).begun, Vec::<usize>::new(), "one that ran out of its own time has failed too");
    assert_eq!(scene.phases(), [BenchmarkPhase::Failed, BenchmarkPhase::Skipped, BenchmarkPhase::Skipped]);
}

#[test]
fn no_copy_is_told_gone_while_an_attempt_may_hold_one() {
    let mut scene = Scene::new(|_| ());
    let secret = |scene: &mut Scene, index: usize| {
        let secret =
            json!({"team": "t", "name": "K", "store": "default", "envVar": "K", "bound": "Job", "state": "Waiting"});
        scene.status.benchmarks[index].secrets = vec![serde_json::from_value(secret).unwrap()];
    };
    let removed = |scene: &Scene| scene.condition(ConditionType::SecretsRemoved).0;
    let now = |scene: &mut Scene, at| summarize(&scene.job.spec, &mut scene.status, None, Some(1), t(at));
    scene.turn(0);
    secret(&mut scene, 0);
    now(&mut scene, 0);
    assert_eq!(removed(&scene), ConditionStatus::Unknown);
    let gone = State {
        copy: SecretCopy::Gone,
        versions: vec![Some("1".into())],
        injected: Some(t(1)),
        removed: Some(t(2)),
        ..ended(22)
    };
    scene.comes_to(0, 5, &gone, Some("{}"));
    assert_eq!(removed(&scene), ConditionStatus::True);
    assert_eq!(scene.condition(ConditionType::SecretsInjected).0, ConditionStatus::True);
    assert_eq!(scene.turn(6).begun, [1]);
    secret(&mut scene, 1);
    now(&mut scene, 6);
    assert_eq!(removed(&scene), ConditionStatus::Unknown, "the second one's is about to be made");
    scene.status.benchmarks[1].phase = BenchmarkPhase::Queued;
    now(&mut scene, 7);
    assert_eq!(removed(&scene), ConditionStatus::True, "a Pod in its queue has none");
}

#[test]
fn a_suspended_job_ends_what_runs_and_begins_anew_later() {
    let mut scene = Scene::new(|_| ());
    scene.turn(0);
    scene.runs(0, 5);
    scene.job.spec.suspend = true;
    assert_eq!(order(&scene.job.spec, &scene.status, t(10)), Some(Reason::Suspended));
    scene.comes_to(0, 12, &terminated(Reason::Suspended), None);
    assert_eq!(scene.turn(12).begun, Vec::<usize>::new());
    assert_eq!(scene.status.phase, EvaluationPhase::Suspended);
    assert_eq!(scene.status.active_since, None, "a suspension stops the clock");
    assert_eq!(scene.status.benchmarks[0].failures, 0);
    scene.job.spec.suspend = false;
    assert_eq!(scene.turn(1000).begun, [0]);
    assert_eq!(scene.status.benchmarks[0].attempt, 2, "a name is never used again");
    assert_eq!(scene.status.active_since, Some(Time(t(1000))));
}

#[test]
fn stop_and_the_jobs_deadline_end_everything() {
    let mut scene = Scene::new(|_| ());
    scene.turn(0);
    scene.scores(0, 5, 0.9);
    scene.turn(5);
    scene.job.spec.stop = true;
    scene.comes_to(1, 7, &terminated(Reason::Stopped), None);
    scene.turn(7);
    let ended = BenchmarkPhase::Terminated;
    assert_eq!(scene.phases(), [BenchmarkPhase::Completed, ended, ended]);
    assert_eq!((scene.status.phase, scene.status.reason), (EvaluationPhase::Terminated, Some(Reason::Stopped)));

    let mut scene = Scene::new(|spec| spec["activeDeadlineSeconds"] = json!(100));
    assert_eq!(scene.turn(0).wake, Some(t(100)));
    assert_eq!(order(&scene.job.spec, &scene.status, t(99)), None);
    assert_eq!(order(&scene.job.spec, &scene.status, t(100)), Some(Reason::DeadlineExceeded));
    scene.comes_to(0, 101, &failed(Reason::DeadlineExceeded), None);
    scene.turn(101);
    assert_eq!(scene.phases(), [BenchmarkPhase::Failed; 3]);
}

#[test]
fn a_rerun_runs_again_what_did_not_succeed() {
    let mut scene = Scene::new(|spec| spec["parallelism"] = json!(3));
    scene.turn(0);
    scene.scores(0, 5, 0.9);
    scene.scores(1, 5, 0.9);
    scene.fails(2, 5, 22, &json!({}));
    scene.turn(5);
    assert_eq!(scene.status.phase, EvaluationPhase::PartiallyFailed);
    assert_eq!(scene.condition(ConditionType::Failed), (ConditionStatus::True, Reason::PartiallyFailed));
    scene.job.spec.rerun = 1;
    rerun(&scene.job.spec, &mut scene.status);
    assert_eq!(scene.turn(100).begun, [2]);
    assert_eq!(scene.status.benchmarks[2].attempt, 2);
    assert_eq!(scene.status.rerun, 1);
    assert_eq!(scene.condition(ConditionType::Finished).0, ConditionStatus::False);
    scene.scores(2, 110, 0.4);
    scene.turn(110);
    assert_eq!(scene.status.phase, EvaluationPhase::Completed);
}

#[test]
fn a_result_that_could_not_be_stored_is_a_result() {
    let mut scene = Scene::new(|spec| {
        spec["benchmarks"] = json!([{"task": "gsm8k", "expect": ["accuracy >= 0.9"]}]);
        spec["results"] = json!({"wandb": {"entity": "e", "project": "p"}});
        spec["backoffLimit"] = json!(0);
    });
    scene.turn(0);
    let report = json!({"cause": "ResultsNotStored", "score": {"metric": "accuracy", "value": 0.7}});
    scene.fails(0, 5, 30, &report);
    scene.turn(5);
    assert_eq!(scene.status.phase, EvaluationPhase::Completed);
    assert_eq!(scene.condition(ConditionType::ResultsStored), (ConditionStatus::False, Reason::ResultsNotStored));
    assert_eq!(scene.condition(ConditionType::ExpectationsMet), (ConditionStatus::False, Reason::ExpectationsNotMet));
    assert_eq!(scene.status.headline.as_deref(), Some("0.7"));
}

#[test]
fn a_score_is_kept_whatever_becomes_of_the_attempts_to_store_it() {
    let scored = json!({"cause": "ResultsNotStored", "score": {"metric": "accuracy", "value": 0.7}});
    let results = |results: Value| {
        Scene::new(move |spec| {
            spec["benchmarks"] = json!([{"task": "gsm8k"}]);
            spec["results"] = results;
        })
    };
    let kept = |scene: &Scene| {
        let told = &scene.status.benchmarks[0];
        assert_eq!((told.phase, told.reason), (BenchmarkPhase::Completed, Some(Reason::ResultsNotStored)), "{told:?}");
        assert_eq!(scene.status.headline.as_deref(), Some("0.7"));
        assert_eq!(scene.status.phase, EvaluationPhase::Completed);
    };
    let wandb = json!({"entity": "e", "project": "p"});

    // Nothing is asked a second time only to bring the result once more.
    let mut scene = results(json!({"wandb": wandb}));
    scene.turn(0);
    scene.fails(0, 5, 30, &scored);
    assert_eq!(scene.turn(1000).begun, Vec::<usize>::new());
    kept(&scene);

    // A volume has what was finished, so that another attempt brings it at no cost.
    let volume = json!({"wandb": wandb, "persistentVolumeClaim": {"claimName": "c"}});
    let mut scene = results(volume.clone());
    for now in [0, 1000, 2000] {
        assert_eq!(scene.turn(now).begun, [0], "{now}");
        scene.fails(0, now, if now == 0 { 30 } else { 12 }, if now == 0 { &scored } else { &Value::Null });
    }
    scene.turn(3000);
    kept(&scene);
    let message = scene.status.benchmarks[0].message.clone().unwrap();
    assert!(message.contains("ended otherwise (ModelRateLimited)"), "{message}");

    let mut scene = results(volume);
    scene.turn(0);
    scene.fails(0, 5, 30, &scored);
    scene.job.spec.stop = true;
    scene.turn(6);
    kept(&scene);
}

#[test]
fn a_job_that_is_refused_tells_each_benchmark_what_it_lacks() {
    let mut scene = Scene::new(|_| ());
    let problem = |benchmarks: &[&str], reason, message: &str| Problem {
        benchmarks: benchmarks.iter().map(ToString::to_string).collect(),
        reason,
        message: message.into(),
    };
    let problems = [
        problem(&["gsm8k", "hle"], Reason::SecretNotFound, "no A"),
        problem(&[], Reason::NotNeeded, "secrets[0]"),
        problem(&["hle"], Reason::AccessDenied, "not B"),
    ];
    refuse(&mut scene.status, &problems, t(1));
    let (reason, message) = sum_of(&problems);
    summarize(&scene.job.spec, &mut scene.status, Some((reason, &message)), Some(1), t(1));
    assert_eq!((scene.status.phase, scene.status.reason), (EvaluationPhase::Failed, Some(Reason::SecretNotFound)));
    assert_eq!(scene.status.message.as_deref(), Some("no A\nsecrets[0]\nnot B"));
    let told: Vec<_> = scene.status.benchmarks.iter().map(|b| (b.phase, b.reason, b.message.as_deref())).collect();
    assert_eq!(
        told,
        [
            (BenchmarkPhase::Failed, Some(Reason::SecretNotFound), Some("no A")),
            (BenchmarkPhase::Skipped, Some(Reason::Skipped), Some("It did not begin, as the job was refused")),
            (BenchmarkPhase::Failed, Some(Reason::SecretNotFound), Some("no A\nnot B")),
        ]
    );
    // Once they are there, a rerun begins all of them.
    scene.job.spec.rerun = 1;
    rerun(&scene.job.spec, &mut scene.status);
    assert_eq!(scene.turn(2).begun, [0]);
}

#[test]
fn a_run_without_a_number_has_failed() {
    for (report, reason) in [
        (None, Reason::ResultUnreadable),
        (Some("not json"), Reason::ResultUnreadable),
        (Some("{}"), Reason::Unscored),
        (Some(r#"{"score": {"metric": "accuracy", "value": null}}"#), Reason::Unscored),
    ] {
        let mut scene = Scene::new(|spec| spec["benchmarks"] = json!([{"task": "gsm8k"}]));
        scene.turn(0);
        scene.comes_to(0, 5, &ended(0), report);
        assert_eq!((scene.phases(), scene.status.benchmarks[0].reason), (vec![BenchmarkPhase::Failed], Some(reason)));
    }
}

#[test]
fn the_next_attempt_waits_for_the_proof_that_the_last_copy_is_gone() {
    let mut scene = Scene::new(|spec| spec["benchmarks"] = json!([{"task": "gsm8k"}]));
    scene.turn(0);
    let held = State { copy: SecretCopy::RemovalFailing, injected: Some(t(1)), ..ended(11) };
    scene.comes_to(0, 5, &held, Some("{}"));
    assert_eq!(scene.turn(1000).begun, Vec::<usize>::new());
    assert_eq!(scene.condition(ConditionType::SecretsRemoved), (ConditionStatus::False, Reason::RemovalFailing));
    assert!(state_of(&scene.status.benchmarks[0]).phase.is_terminal());
    let gone = State { copy: SecretCopy::Gone, injected: Some(t(1)), removed: Some(t(1001)), ..ended(11) };
    scene.comes_to(0, 1001, &gone, None);
    assert_eq!(scene.turn(1001).begun, [0]);
}

#[test]
fn what_is_recorded_gives_the_state_back() {
    let mut scene = Scene::new(|_| ());
    scene.turn(0);
    let state = State {
        phase: Phase::Running,
        reason: Reason::Started,
        message: "The container runs".into(),
        pod: true,
        copy: SecretCopy::NoSecrets,
        started: Some(t(3)),
        expires: Some(t(100)),
        ..State::default()
    };
    scene.comes_to(0, 4, &state, None);
    assert_eq!(state_of(&scene.status.benchmarks[0]), state);
}
