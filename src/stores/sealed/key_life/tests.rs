//! The case table of the keys' life.

use super::*;
use crate::stores::sealed::key::PrivateKey;

const GRACE: Duration = Duration::from_mins(2);

struct Keys {
    ids: Vec<KeyId>,
    public: Vec<PublicKey>,
}

impl Keys {
    fn new() -> Self {
        let public: Vec<PublicKey> = (0..3).map(|_| PrivateKey::generate().public()).collect();
        let at = |second: i64| jiff::Timestamp::from_second(1_800_000_000 + second).unwrap();
        Self { ids: (0i64..).zip(&public).map(|(n, key)| KeyId::new(at(n), key)).collect(), public }
    }
    fn files(&self, of: &[usize]) -> BTreeMap<KeyId, PublicKey> {
        of.iter().map(|&n| (self.ids[n].clone(), self.public[n].clone())).collect()
    }
    fn listed(&self, of: &[usize]) -> BTreeMap<String, String> {
        of.iter().map(|&n| (self.ids[n].to_string(), self.public[n].to_base64())).collect()
    }
    fn made(&self, n: usize, create: Create) -> Made {
        Made { id: self.ids[n].clone(), public: self.public[n].clone(), create }
    }
}

/// What a case expects of the health: the variant, and words that its text must have.
enum Told {
    Ready,
    Waiting(&'static str),
    Lost(&'static str),
}

struct Case {
    name: &'static str,
    observed: Observed,
    step: Step,
    told: Told,
    forget: bool,
}

#[test]
fn every_case_of_the_life_of_the_keys() {
    let keys = &Keys::new();
    let first = Box::leak(keys.ids[0].to_string().into_boxed_str());
    let second = Box::leak(keys.ids[1].to_string().into_boxed_str());
    let none = || Some(BTreeMap::new());
    let publish = |of: &[usize]| Step::Publish(keys.listed(of));
    let bad = || vec![BadFile { name: "x".into(), why: "not a key".into() }];
    let late = GRACE;
    let case = |name, observed, step, told| Case { name, observed, step, told, forget: false };
    let cases = [
        case(
            "first start: ask before a key is made",
            Observed { listed: none(), ..Observed::default() },
            Step::AskForTeamSecrets,
            Told::Waiting("being made"),
        ),
        case(
            "first start: nothing is anywhere",
            Observed { listed: none(), team_secrets: Some(false), ..Observed::default() },
            Step::CreateKey,
            Told::Waiting("being made"),
        ),
        case(
            "first start: the key is made, not stored",
            Observed { listed: none(), made: Some(keys.made(0, Create::NotTried)), ..Observed::default() },
            Step::CreateKey,
            Told::Waiting("being made"),
        ),
        case(
            "first start: stored, works from memory",
            Observed { listed: none(), made: Some(keys.made(0, Create::Created)), ..Observed::default() },
            publish(&[0]),
            Told::Ready,
        ),
        case(
            "first start: listed, files still to come, however late",
            Observed {
                listed: Some(keys.listed(&[0])),
                made: Some(keys.made(0, Create::Created)),
                missing_for: late,
                ..Observed::default()
            },
            Step::Nothing,
            Told::Ready,
        ),
        Case {
            name: "first start: the files have come",
            observed: Observed {
                files: keys.files(&[0]),
                listed: Some(keys.listed(&[0])),
                made: Some(keys.made(0, Create::Created)),
                ..Observed::default()
            },
            step: Step::Nothing,
            told: Told::Ready,
            forget: true,
        },
        case(
            "first start: refused",
            Observed { listed: none(), made: Some(keys.made(0, Create::Refused(403))), ..Observed::default() },
            Step::CreateKey,
            Told::Waiting("403"),
        ),
        case(
            "lost answer: the same key is sent again",
            Observed { listed: none(), made: Some(keys.made(0, Create::Lost)), ..Observed::default() },
            Step::CreateKey,
            Told::Waiting("being made"),
        ),
        case(
            "lost answer, then 409: whose it is shows with the files",
            Observed { listed: none(), made: Some(keys.made(0, Create::Exists)), ..Observed::default() },
            Step::Nothing,
            Told::Waiting("not yet"),
        ),
        Case {
            name: "lost answer: it was ours",
            observed: Observed {
                files: keys.files(&[0]),
                listed: none(),
                made: Some(keys.made(0, Create::Exists)),
                ..Observed::default()
            },
            step: publish(&[0]),
            told: Told::Ready,
            forget: true,
        },
        Case {
            name: "two replicas at once: it was the other's, ours is forgotten and never listed",
            observed: Observed {
                files: keys.files(&[1]),
                listed: none(),
                made: Some(keys.made(0, Create::Exists)),
                ..Observed::default()
            },
            step: publish(&[1]),
            told: Told::Ready,
            forget: true,
        },
        case(
            "two replicas at once: the other has listed its key, our files are late",
            Observed {
                listed: Some(keys.listed(&[1])),
                made: Some(keys.made(0, Create::Exists)),
                ..Observed::default()
            },
            Step::Nothing,
            Told::Waiting(second),
        ),
        case(
            "a Secret that never shows",
            Observed {
                listed: none(),
                made: Some(keys.made(0, Create::Exists)),
                missing_for: late,
                ..Observed::default()
            },
            Step::Nothing,
            Told::Waiting("is it mounted"),
        ),
        case(
            "a Secret with nothing but bad files: no create",
            Observed { listed: none(), bad: bad(), team_secrets: Some(false), ..Observed::default() },
            Step::Nothing,
            Told::Waiting("x: not a key"),
        ),
        case(
            "key file late",
            Observed { listed: Some(keys.listed(&[0])), ..Observed::default() },
            Step::Nothing,
            Told::Waiting(first),
        ),
        case(
            "key file late: one second before it counts as lost",
            Observed {
                listed: Some(keys.listed(&[0])),
                missing_for: GRACE.checked_sub(Duration::from_secs(1)).unwrap(),
                ..Observed::default()
            },
            Step::Nothing,
            Told::Waiting(first),
        ),
        case(
            "key file late: it has come",
            Observed {
                files: keys.files(&[0]),
                listed: Some(keys.listed(&[0])),
                missing_for: late,
                ..Observed::default()
            },
            Step::Nothing,
            Told::Ready,
        ),
        case(
            "key lost, its public part listed: no key is made",
            Observed {
                listed: Some(keys.listed(&[0])),
                team_secrets: Some(false),
                missing_for: late,
                ..Observed::default()
            },
            Step::Nothing,
            Told::Lost(first),
        ),
        case(
            "key lost, its file is bad: named",
            Observed { listed: Some(keys.listed(&[0])), bad: bad(), missing_for: late, ..Observed::default() },
            Step::Nothing,
            Told::Lost("x: not a key"),
        ),
        case(
            "key lost with its public part: TeamSecrets are there, perhaps the files come",
            Observed { listed: none(), team_secrets: Some(true), ..Observed::default() },
            Step::AskForTeamSecrets,
            Told::Waiting("awaited"),
        ),
        case(
            "key lost with its public part: no key is made",
            Observed { listed: none(), team_secrets: Some(true), missing_for: late, ..Observed::default() },
            Step::AskForTeamSecrets,
            Told::Lost("daypass key restore"),
        ),
        case(
            "second key: listed beside the first",
            Observed { files: keys.files(&[0, 1]), listed: Some(keys.listed(&[0])), ..Observed::default() },
            publish(&[1]),
            Told::Ready,
        ),
        case(
            "second key: its file is late at another replica",
            Observed { files: keys.files(&[0]), listed: Some(keys.listed(&[0, 1])), ..Observed::default() },
            Step::Nothing,
            Told::Waiting(second),
        ),
        case(
            "second key lost: closed, though the first opens",
            Observed {
                files: keys.files(&[0]),
                listed: Some(keys.listed(&[0, 1])),
                missing_for: late,
                ..Observed::default()
            },
            Step::Nothing,
            Told::Lost(second),
        ),
        case(
            "a new key beside a lost one: listed, the loss stays",
            Observed {
                files: keys.files(&[1]),
                listed: Some(keys.listed(&[0])),
                missing_for: late,
                ..Observed::default()
            },
            publish(&[1]),
            Told::Lost(first),
        ),
        case(
            "backup and restore into an empty cluster: TeamSecrets are there, the key is too",
            Observed {
                files: keys.files(&[0, 1]),
                listed: none(),
                team_secrets: Some(true),
                missing_for: late,
                ..Observed::default()
            },
            publish(&[0, 1]),
            Told::Ready,
        ),
        case(
            "somebody else's public key under our ID: put right",
            Observed {
                files: keys.files(&[0]),
                listed: Some([(first.to_owned(), keys.public[2].to_base64())].into()),
                ..Observed::default()
            },
            publish(&[0]),
            Told::Ready,
        ),
        case(
            "an entry that is no key ID counts as a key that does not open",
            Observed {
                files: keys.files(&[0]),
                listed: Some(
                    [keys.listed(&[0]), [("zzz".into(), "AAAA".into())].into()].into_iter().flatten().collect(),
                ),
                missing_for: late,
                ..Observed::default()
            },
            Step::Nothing,
            Told::Lost("zzz"),
        ),
        case(
            "the list cannot be read: nothing is decided",
            Observed { files: keys.files(&[0]), team_secrets: Some(false), ..Observed::default() },
            Step::Nothing,
            Told::Waiting("cannot be read"),
        ),
    ];
    for Case { name, observed, step, told, forget } in cases {
        let plan = plan(&observed, GRACE);
        assert_eq!(plan.step, step, "{name}");
        assert_eq!(plan.forget_made, forget, "{name}");
        match (&plan.health, told) {
            (Health::Ready, Told::Ready) => {}
            (Health::Waiting(text), Told::Waiting(words)) | (Health::KeyLost(text), Told::Lost(words))
                if text.contains(words) => {}
            (health, _) => panic!("{name}: {health:?}"),
        }
    }
}

#[test]
fn a_key_is_made_only_where_nothing_at_all_is() {
    let keys = Keys::new();
    let (all_files, all_listed) =
        ([keys.files(&[]), keys.files(&[0])], [None, Some(keys.listed(&[])), Some(keys.listed(&[0]))]);
    for files in &all_files {
        for listed in &all_listed {
            for team_secrets in [None, Some(false), Some(true)] {
                for missing_for in [Duration::ZERO, GRACE] {
                    let observed = Observed {
                        files: files.clone(),
                        listed: listed.clone(),
                        team_secrets,
                        missing_for,
                        ..Observed::default()
                    };
                    let empty = files.is_empty()
                        && listed.as_ref().is_some_and(BTreeMap::is_empty)
                        && team_secrets == Some(false);
                    assert_eq!(plan(&observed, GRACE).step == Step::CreateKey, empty, "{observed:?}");
                }
            }
        }
    }
}
