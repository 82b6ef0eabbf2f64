use super::*;
use crate::api::Framework;

fn told(spec: &EvalJobSpec, settings: &Settings) -> (Value, Vec<(String, String)>) {
    // A task whose arguments are not known takes all.
    let own = Catalog::parse(
        "catalogVersion: own\nbenchmarks:\n- {name: judged, task: p/judged, env: [{name: K, reason: judge, override: {arg: judge_llm}}]}\n",
    );
    let bindings = bind_each(spec, &Catalog::built_in().with(&own.unwrap()));
    assert_eq!(bindings.problems, []);
    let (benchmark, binding) = (&spec.benchmarks[0], &bindings.benchmarks[0]);
    let document = configuration(spec, benchmark, binding, Attempt { job: "job", uid: "uid-1", number: 2 });
    let variables = environment(spec, binding, settings, &document);
    (document, variables.into_iter().map(|variable| (variable.name, variable.value)).collect())
}

#[test]
fn the_document_says_all_that_a_runner_must_know() {
    let job = spec(|spec| {
        spec["benchmarks"] = json!([{
            "task": "judged", "name": "sr", "args": {"n": "5", "on": "true", "text": "five", "quoted": "\"5\""},
            "epochs": 2, "secrets": [{"name": "EXTRA", "optional": true}],
        }]);
        spec["graders"] = json!([grader("grader")]);
        spec["sampleLimit"] = json!(10);
        spec["model"]["generation"] = json!({"temperature": 0.5, "maxTokens": 100});
        spec["model"]["args"] = json!({"a": "1"});
        spec["results"] = json!({"wandb": {"entity": "e", "project": "p"}});
    });
    let (document, variables) = told(&job, &Settings::default());
    assert_eq!(
        document,
        json!({
            "version": 1, "framework": "Inspect", "task": "p/judged", "job": "job", "uid": "uid-1",
            "benchmark": "sr", "attempt": 2,
            "args": {"n": 5, "on": true, "text": "five", "quoted": "5", "judge_llm": "openai-api/judge/j"},
            "model": {
                "name": "openai-api/target/m", "args": {"a": 1},
                "generation": {"temperature": 0.5, "max_tokens": 100},
            },
            "roles": {},
            "requires": ["TARGET_API_KEY", "JUDGE_API_KEY", "WANDB_API_KEY"],
            "secretEnv": ["TARGET_API_KEY", "EXTRA", "JUDGE_API_KEY", "WANDB_API_KEY"],
            "terminationGracePeriodSeconds": 30,
            "results": {"folder": "/results", "wandb": {"entity": "e", "project": "p"}},
            "sampleLimit": 10, "epochs": 2,
        })
    );
    let value = |name: &str| variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    assert_eq!(value("TARGET_BASE_URL"), Some("https://models.test/v1"));
    assert_eq!(value("JUDGE_BASE_URL"), Some("https://judge.test/v1"));
    assert_eq!(value("TARGET_API_KEY"), None, "a key is never a plain variable");
    assert_eq!(serde_json::from_str::<Value>(value("DAYPASS_RUN").unwrap()).unwrap(), document);
}

#[test]
fn no_value_is_put_into_a_plain_variable() {
    let job = spec(|spec| {
        spec["benchmarks"] = json!([{"task": "p/t", "args": {"text": "$(TARGET_API_KEY) $$ $HOME"}}]);
        spec["model"]["baseURL"] = json!("https://models.test/$(TARGET_API_KEY)");
    });
    let (_, variables) = told(&job, &Settings::default());
    for (name, value) in variables {
        // As the kubelet reads it: `$$` is a dollar, and nothing is left that it would expand.
        assert!(!value.replace("$$", "").contains('$'), "{name}: {value}");
    }
}

#[test]
fn the_cluster_admin_says_where_data_come_from() {
    let settings = Settings {
        hub_endpoint: Some("http://hub.test".into()),
        wandb_endpoint: Some("http://wandb.test".into()),
        ..Settings::default()
    };
    let (_, variables) = told(&spec(|_| ()), &settings);
    assert!(variables.contains(&("HF_ENDPOINT".into(), "http://hub.test".into())));
    assert!(!variables.iter().any(|(name, _)| name == "WANDB_BASE_URL"), "nothing goes there");
    let uploads = spec(|spec| spec["results"] = json!({"wandb": {"entity": "e", "project": "p"}}));
    let public = told(&uploads, &Settings::default()).1;
    assert!(public.contains(&("WANDB_BASE_URL".into(), "https://api.wandb.ai".into())), "not what an image may say");
    assert!(told(&uploads, &settings).1.contains(&("WANDB_BASE_URL".into(), "http://wandb.test".into())));
    assert!(!told(&spec(|_| ()), &Settings::default()).1.iter().any(|(name, _)| name == "HF_ENDPOINT"));
}

#[test]
fn a_server_without_keys_gets_a_word_that_is_none() {
    let job = spec(|spec| spec["model"] = json!({"name": "m", "baseURL": "http://m", "auth": "None"}));
    assert!(told(&job, &Settings::default()).1.contains(&("TARGET_API_KEY".into(), "unused".into())));
}

#[test]
fn the_jobs_own_image_comes_before_the_cluster_admins() {
    let settings = Settings { images: [(Framework::Inspect, "set:1".into())].into(), ..Settings::default() };
    assert_eq!(settings.image(&spec(|_| ())), Some("set:1"));
    assert_eq!(settings.image(&spec(|spec| spec["runner"] = json!({"image": "own:1"}))), Some("own:1"));
    assert_eq!(settings.image(&spec(|spec| spec["runner"] = json!({"framework": "LMEval"}))), None);
    assert_eq!(Settings::default().image(&spec(|_| ())), None);
}
