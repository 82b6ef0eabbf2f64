use super::*;
use crate::api::{BoundBy, Reason, Runner};

/// What each benchmark gets: `VARIABLE <- TEAM/NAME how`, in the order of the variables.
fn bound(spec: &EvalJobSpec) -> Vec<Vec<String>> {
    let bindings = bind_each(spec, &Catalog::built_in());
    assert_eq!(bindings.problems, [], "nothing stands in the way");
    bindings.benchmarks.iter().map(told).collect()
}

fn told(binding: &Binding) -> Vec<String> {
    let mut all: Vec<_> = binding
        .secrets
        .iter()
        .map(|bound| {
            let (team, name) = (bound.reference.team.as_deref().unwrap_or_default(), bound.reference.access_name());
            format!("{} <- {team}/{name} {:?}", bound.reference.variable(), bound.by)
        })
        .collect();
    all.sort();
    all
}

fn problems(spec: &EvalJobSpec) -> Vec<(Reason, String)> {
    let bindings = bind_each(spec, &Catalog::built_in());
    bindings.problems.into_iter().map(|problem| (problem.reason, problem.message)).collect()
}

/// Exactly one thing stands in the way, and its message says all of `says`.
#[track_caller]
fn refused(case: &str, spec: &EvalJobSpec, reason: Reason, says: &[&str]) {
    let found = problems(spec);
    assert_eq!(found.iter().map(|(reason, _)| *reason).collect::<Vec<_>>(), [reason], "{case}: {found:?}");
    for part in says {
        assert!(found[0].1.contains(part), "{case}: {part:?} is not in {:?}", found[0].1);
    }
}

#[test]
fn three_benchmarks_get_three_sets_of_keys() {
    let job = spec(|spec| {
        spec["benchmarks"] = json!([
            {"task": "gsm8k"},
            {"task": "xstest", "secrets": [{"name": "SCORER", "envVar": "OPENAI_API_KEY", "team": "evals"}]},
            {"task": "inspect_evals/make_me_pay", "secrets": [{"name": "EXTRA"}]},
        ]);
        spec["secrets"] = json!([{"name": "HUB", "envVar": "HF_TOKEN", "store": "vault"}]);
    });
    let model = "TARGET_API_KEY <- /MODEL_KEY Model";
    assert_eq!(
        bound(&job),
        [
            vec![model],
            vec!["HF_TOKEN <- /vault.HUB Job", "OPENAI_API_KEY <- evals/SCORER Benchmark", model],
            vec!["EXTRA <- /EXTRA Benchmark", "GOOGLE_API_KEY <- /GOOGLE_API_KEY AutoBind", model],
        ]
    );
}

#[test]
fn the_benchmarks_own_comes_before_the_jobs_and_that_before_auto_bind() {
    let own = json!([{"name": "OWN", "envVar": "HF_TOKEN"}]);
    let job = json!([{"name": "JOB", "envVar": "HF_TOKEN"}]);
    let lingoly = |secrets: &Value, offers: &Value| {
        spec(|spec| {
            spec["benchmarks"] = json!([{"task": "lingoly", "secrets": secrets}, {"task": "lingoly_too"}]);
            spec["secrets"] = offers.clone();
        })
    };
    let first = |spec: &EvalJobSpec| bound(spec)[0][0].clone();
    assert_eq!(first(&lingoly(&own, &job)), "HF_TOKEN <- /OWN Benchmark");
    assert_eq!(first(&lingoly(&json!([]), &job)), "HF_TOKEN <- /JOB Job");
    assert_eq!(first(&lingoly(&json!([]), &json!([]))), "HF_TOKEN <- /HF_TOKEN AutoBind");
}

#[test]
fn one_secret_fills_every_name_of_its_variable() {
    let job = spec(|spec| {
        spec["benchmarks"] = tasks(&["mask"]);
        spec["graders"] = json!([grader("grader")]);
    });
    assert_eq!(
        bound(&job)[0],
        [
            "HF_TOKEN <- /HF_TOKEN AutoBind",
            "HUGGINGFACE_TOKEN <- /HF_TOKEN AutoBind",
            "JUDGE_API_KEY <- /JUDGE_KEY Grader",
            "TARGET_API_KEY <- /MODEL_KEY Model"
        ]
    );
}

#[test]
fn a_judge_takes_the_place_of_the_tasks_own() {
    let with = |task: &str, graders: Value| {
        spec(|spec| {
            spec["benchmarks"] = json!([{"task": task}]);
            spec["graders"] = graders;
        })
    };
    let binding = |spec: &EvalJobSpec| {
        let bindings = bind_each(spec, &Catalog::built_in());
        assert_eq!(bindings.problems, []);
        bindings.benchmarks.into_iter().next().unwrap()
    };
    // By role, by argument, by several arguments.
    let sosbench = binding(&with("sosbench", json!([grader("grader")])));
    assert_eq!(sosbench.roles["grader"], "openai-api/judge/j");
    let strong_reject = binding(&with("strong_reject", json!([grader("judge_llm")])));
    assert_eq!(strong_reject.judge_args["judge_llm"], "openai-api/judge/j");
    let agentharm = binding(&with("agentharm", json!([grader("grader")])));
    assert_eq!(agentharm.judge_args.keys().collect::<Vec<_>>(), ["refusal_judge", "semantic_judge"]);
    for binding in [&sosbench, &strong_reject, &agentharm] {
        let secrets = told(binding);
        assert!(secrets.contains(&"JUDGE_API_KEY <- /JUDGE_KEY Grader".into()), "{secrets:?}");
        assert!(!secrets.iter().any(|secret| secret.starts_with("OPENAI_API_KEY")), "{secrets:?}");
        assert_eq!(binding.addresses["JUDGE_BASE_URL"], "https://judge.test/v1");
        assert_eq!(binding.addresses["TARGET_BASE_URL"], "https://models.test/v1");
    }
    // Two judges have two aliases, and share nothing.
    let other = json!({"role": "grader_2", "model": "k", "baseURL": "https://other.test", "auth": "None"});
    let hle = binding(&with("hle", json!([grader("grader"), other])));
    assert_eq!(hle.roles["grader"], "openai-api/judge/j");
    assert_eq!(hle.roles["grader_2"], "openai-api/judge2/k");
    assert_eq!(
        told(&hle),
        ["HF_TOKEN <- /HF_TOKEN AutoBind", "JUDGE_API_KEY <- /JUDGE_KEY Grader", "TARGET_API_KEY <- /MODEL_KEY Model"]
    );
    // One judge for all: one key, whatever it judges.
    let hle = binding(&with("hle", json!([grader("grader")])));
    assert_eq!((&*hle.roles["grader"], &*hle.roles["grader_2"]), ("openai-api/judge/j", "openai-api/judge/j"));
}

#[test]
fn an_argument_that_names_a_judge_asks_for_its_key() {
    let judged = |model: &str| {
        spec(|spec| spec["benchmarks"] = json!([{"task": "strong_reject", "args": {"judge_llm": model}}]))
    };
    let keys = |spec: &EvalJobSpec| bound(spec)[0].clone();
    let model = "TARGET_API_KEY <- /MODEL_KEY Model";
    assert_eq!(keys(&judged("anthropic/c")), ["ANTHROPIC_API_KEY <- /ANTHROPIC_API_KEY AutoBind", model]);
    assert_eq!(keys(&judged("hf/local")), [model]);
}

#[test]
fn what_nothing_fills_is_refused_with_its_mend() {
    let lone = |task: &str| {
        spec(|spec| {
            spec["benchmarks"] = json!([{"task": task}]);
            spec["autoBind"] = json!(false);
        })
    };
    refused(
        "a gated data set",
        &lone("lingoly"),
        Reason::KeyMissing,
        &[
            "benchmarks[0] (lingoly)",
            "HF_TOKEN",
            "https://huggingface.co/datasets/ambean/lingOly",
            "benchmarks[0].secrets or secrets",
        ],
    );
    refused(
        "a judge",
        &lone("strong_reject"),
        Reason::KeyMissing,
        &["OPENAI_API_KEY", "its judge openai/gpt-4o", "or graders[] with role: judge_llm"],
    );
    let wandb = spec(|spec| {
        spec["autoBind"] = json!(false);
        spec["results"] = json!({"wandb": {"entity": "e", "project": "p"}});
    });
    refused("W&B", &wandb, Reason::KeyMissing, &["WANDB_API_KEY", "results.wandb.apiKey"]);
}

#[test]
fn no_model_judges_itself_unless_that_is_wanted() {
    let job = |task: &str, change: &dyn Fn(&mut Value)| {
        spec(|spec| {
            spec["benchmarks"] = json!([{"task": task}]);
            change(spec);
        })
    };
    let nothing = |_: &mut Value| ();
    refused("by role", &job("simpleqa", &nothing), Reason::SelfGrading, &["graders[] with role: grader"]);
    refused("by argument", &job("sycophancy", &nothing), Reason::SelfGrading, &["graders[] with role: scorer_model"]);
    refused(
        "always",
        &job("air_bench", &nothing),
        Reason::SelfGrading,
        &["it knows no other judge", "allowSelfGrading"],
    );
    let itself = json!([{"model": "m", "baseURL": "https://models.test/v1", "auth": "None", "role": "grader"}]);
    refused(
        "the model as its own judge",
        &job("simpleqa", &|spec| spec["graders"] = itself.clone()),
        Reason::SelfGrading,
        &["graders[0] is the evaluated model itself"],
    );
    let slash = json!([{"model": "m", "baseURL": "https://models.test/v1/", "auth": "None", "role": "grader"}]);
    let judged_by = |model: &str| {
        let args = json!({"scorer_model": model});
        job("sycophancy", &move |spec| spec["benchmarks"][0]["args"] = args.clone())
    };
    refused(
        "the same place, written otherwise",
        &job("simpleqa", &|spec| spec["graders"] = slash.clone()),
        Reason::SelfGrading,
        &["graders[0] is the evaluated model itself"],
    );
    for itself in ["openai-api/target/m", "\"openai-api/target/m\""] {
        refused(itself, &judged_by(itself), Reason::SelfGrading, &["args.scorer_model is the evaluated model itself"]);
    }
    for nobody in ["null", "", " ", "\"\""] {
        refused(nobody, &judged_by(nobody), Reason::InvalidSpec, &["args.scorer_model names no judge"]);
    }
    for elsewhere in ["openai-api/judge/j", "openai-api/other/j"] {
        let mend = "graders[] with role: scorer_model";
        refused(elsewhere, &judged_by(elsewhere), Reason::InvalidSpec, &["has no address", mend]);
    }
    let mut wanted = judged_by("openai-api/target/m");
    wanted.allow_self_grading = true;
    bound(&wanted);
    for task in ["simpleqa", "sycophancy", "air_bench"] {
        bound(&job(task, &|spec| spec["allowSelfGrading"] = json!(true)));
    }
    for task in ["simpleqa", "sycophancy"] {
        bound(&job(task, &|spec| spec["graders"] = json!([grader("grader")])));
    }
}

#[test]
fn an_offer_that_nobody_takes_is_refused() {
    let secret = spec(|spec| spec["secrets"] = json!([{"name": "HF_TOKEN"}]));
    refused(
        "a secret",
        &secret,
        Reason::NotNeeded,
        &["secrets[0]: no benchmark needs HF_TOKEN", "benchmarks[].secrets"],
    );
    let judge = spec(|spec| spec["graders"] = json!([grader("grader")]));
    refused("a judge", &judge, Reason::NotNeeded, &["graders[0]: no benchmark asks for a judge grader"]);
}

#[test]
fn a_task_that_cannot_run_is_refused() {
    let task = |name: &str| spec(|spec| spec["benchmarks"] = json!([{"task": name}]));
    refused("a typing error", &task("gsm9k"), Reason::UnknownTask, &["the catalog has no gsm9k", "is it gsm8k"]);
    refused("nothing like it", &task("no_such_thing"), Reason::UnknownTask, &["daypass eval benchmarks"]);
    refused("a task that was", &task("ahb"), Reason::UnknownTask, &["task: inspect_evals/anima has taken its place"]);
    refused("torch", &task("bold"), Reason::RunnerUnsuitable, &["(torch)", "set runner.image"]);
    let own = spec(|spec| {
        spec["benchmarks"] = json!([{"task": "bold"}]);
        spec["runner"] = json!({"image": "own:1"});
    });
    bound(&own);
    // What the catalog does not know needs what it is given.
    assert_eq!(bound(&task("my_package/my_task")), [["TARGET_API_KEY <- /MODEL_KEY Model"]]);
    let other = spec(|spec| {
        spec["benchmarks"] = json!([{"task": "strong_reject", "secrets": [{"name": "A"}]}]);
        spec["runner"] = json!({"framework": "LMEval"});
        spec["model"] = json!({"name": "m", "baseURL": "http://m", "auth": "None"});
    });
    assert_eq!(bound(&other), [["A <- /A Benchmark"]]);
    let mut epochs = other.clone();
    epochs.benchmarks[0].epochs = Some(2);
    refused(
        "LMEval's epochs",
        &epochs,
        Reason::InvalidSpec,
        &["benchmarks[0] (strong_reject)", "LMEval knows no epochs"],
    );
    let judged = EvalJobSpec { graders: serde_json::from_value(json!([grader("grader")])).unwrap(), ..other };
    refused("LMEval's judges", &judged, Reason::NotNeeded, &["graders[0]", "LMEval knows no judges"]);
}

#[test]
fn so_many_secrets_and_no_more_are_named() {
    let job = |count: usize| {
        spec(|spec| {
            let name = |number| json!({"name": format!("KEY_{number}"), "envVar": format!("V_{number}")});
            // With the model's own key, and no run with more than it may have.
            let (some, more): (Vec<_>, Vec<_>) = (1..count)
                .map(name)
                .partition(|named| named["name"].as_str().is_some_and(|name| name.len() < "KEY_10".len()));
            spec["benchmarks"] = json!([{"task": "gsm8k", "secrets": some}, {"task": "boolq", "secrets": more}]);
        })
    };
    assert_eq!(problems(&job(24)), []);
    refused("25", &job(25), Reason::InvalidSpec, &["25 different team secrets, and 24 at most"]);
}

#[test]
fn an_argument_that_a_task_does_not_have_is_refused() {
    let own =
        Catalog::parse("catalogVersion: v\nbenchmarks: [{name: t, task: p/t, arguments: [fewshot, seed]}]").unwrap();
    let job = spec(|spec| spec["benchmarks"] = json!([{"task": "t", "args": {"fewshot": "5", "fewshots": "5"}}]));
    let bindings = bind_each(&job, &own);
    assert_eq!(bindings.problems.len(), 1);
    assert_eq!(bindings.problems[0].reason, Reason::UnknownArgument);
    assert_eq!(
        bindings.problems[0].message,
        "benchmarks[0].args.fewshots (t): t has no such argument; it has fewshot, seed"
    );
    // An image of one's own may have another package.
    let elsewhere =
        EvalJobSpec { runner: Some(Runner { image: Some("own/runner:1".into()), ..Runner::default() }), ..job };
    assert_eq!(bind_each(&elsewhere, &own).problems, []);
}

#[test]
fn one_variable_has_one_secret() {
    let wandb = spec(|spec| {
        spec["benchmarks"] = json!([{"task": "gsm8k", "secrets": [{"name": "WANDB_API_KEY"}]}]);
        spec["results"] = json!({"wandb": {"entity": "e", "project": "p", "apiKey": {"name": "W"}}});
    });
    refused("W&B twice", &wandb, Reason::EnvVarConflict, &["WANDB_API_KEY is set twice", "take one out"]);
    let judge = spec(|spec| {
        spec["benchmarks"] = json!([{"task": "strong_reject", "args": {"judge_llm": "openai/a"}}]);
        spec["graders"] = json!([grader("judge_llm")]);
    });
    refused("a judge twice", &judge, Reason::InvalidSpec, &["args.judge_llm and graders[] with role judge_llm"]);
}

#[test]
fn every_problem_of_every_benchmark_is_told_at_once() {
    let job = spec(|spec| {
        spec["benchmarks"] = tasks(&["lingoly", "strong_reject", "simpleqa", "gsm9k", "gsm8k"]);
        spec["autoBind"] = json!(false);
    });
    let bindings = bind_each(&job, &Catalog::built_in());
    let found: Vec<_> = bindings.problems.iter().map(|p| (p.benchmarks.join(", "), p.reason)).collect();
    assert_eq!(
        found,
        [
            ("lingoly".to_owned(), Reason::KeyMissing),
            ("strong_reject".to_owned(), Reason::KeyMissing),
            ("simpleqa".to_owned(), Reason::SelfGrading),
            ("gsm9k".to_owned(), Reason::UnknownTask)
        ]
    );
    // As much as could be bound is told all the same.
    assert_eq!(bindings.benchmarks.len(), 5);
    assert_eq!(bindings.benchmarks[4].secrets[0].by, BoundBy::Model);
}
