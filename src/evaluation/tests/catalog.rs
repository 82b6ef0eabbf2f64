use super::*;

#[test]
fn the_built_in_catalog_is_whole() {
    let catalog = Catalog::parse(include_str!("../benchmarks.yaml")).unwrap();
    assert_eq!(*Catalog::built_in(), catalog);
    assert_eq!(catalog.version, "inspect_evals-0.26.0+2");
    assert_eq!(catalog.entries().count(), 105);
    assert_eq!(catalog.entries().filter(|entry| entry.exists).count(), 104);
    let hle = catalog.find("hle").unwrap();
    assert_eq!(catalog.find("inspect_evals/hle"), Some(hle));
    let needs: Vec<_> = hle.env.iter().map(|need| (need.name.as_str(), need.reason)).collect();
    assert_eq!(
        needs,
        [
            ("OPENROUTER_API_KEY", NeedReason::Judge),
            ("OPENROUTER_API_KEY", NeedReason::Judge),
            ("HF_TOKEN", NeedReason::GatedDataset)
        ]
    );
    for entry in catalog.entries().filter(|entry| entry.exists) {
        assert!(entry.task.starts_with("inspect_evals/"), "{}", entry.name);
        assert!(entry.samples.is_none_or(|samples| samples > 0), "{}", entry.name);
        assert!(!entry.title.is_empty() && !entry.description.is_empty(), "{}", entry.name);
    }
}

#[test]
fn a_catalog_of_the_cluster_admins_lies_over_the_built_in_one() {
    let own = Catalog::parse(
        "catalogVersion: mine\nbenchmarks:\n- {name: gsm8k, task: mine/gsm8k, env: [{name: A_KEY, reason: judge}]}\n- {name: new, task: mine/new}\n",
    )
    .unwrap();
    let both = Catalog::built_in().with(&own);
    assert_eq!(both.version, "mine over inspect_evals-0.26.0+2");
    assert_eq!(both.find("gsm8k").unwrap().task, "mine/gsm8k");
    assert!(both.find("new").unwrap().exists && both.find("boolq").is_some());
}

#[test]
fn what_is_no_catalog_is_refused() {
    let benchmark = |text: &str| format!("catalogVersion: v\nbenchmarks: [{text}]");
    for (case, text, says) in [
        ("nothing", String::new(), "cannot be read"),
        ("no list", "catalogVersion: v\nbenchmarks: 3".into(), "cannot be read"),
        ("one twice", benchmark("{name: a, task: p/a}, {name: a, task: p/b}"), "a stands there twice"),
        ("a reason", benchmark("{name: a, task: p/a, env: [{name: K, reason: fun}]}"), "cannot be read"),
        ("a variable", benchmark("{name: a, task: p/a, env: [{name: 'K;rm', reason: judge}]}"), "in capitals"),
        ("an alias", benchmark("{name: a, task: p/a, env: [{name: K, reason: judge, aliases: [ld]}]}"), "in capitals"),
        (
            "a loader's",
            benchmark("{name: a, task: p/a, env: [{name: LD_PRELOAD, reason: judge}]}"),
            "LD_PRELOAD steers",
        ),
        (
            "the runner's",
            benchmark("{name: a, task: p/a, env: [{name: K, reason: judge, aliases: [HF_ENDPOINT]}]}"),
            "HF_ENDPOINT steers",
        ),
        ("a name", benchmark("{name: 'a b', task: p/a}"), "letters, digits"),
        ("self-grading", benchmark("{name: a, task: p/a, selfGrading: {by: role}}"), "selfGrading needs the name"),
        ("too much", "#".repeat((1 << 20) + 1), "larger than"),
    ] {
        let error = Catalog::parse(&text).expect_err(case).to_string();
        assert!(error.contains(says), "{case}: {error}");
    }
}

#[test]
fn a_name_that_is_nearly_right_finds_the_right_one() {
    let catalog = Catalog::built_in();
    assert_eq!(catalog.similar("gsm-8k").first(), Some(&"gsm8k"));
    assert_eq!(catalog.similar("boolk").first(), Some(&"boolq"));
    assert!(catalog.similar("healthbench").contains(&"healthbench"));
    assert_eq!(catalog.similar("nothing_like_it_at_all"), Vec::<&str>::new());
}
