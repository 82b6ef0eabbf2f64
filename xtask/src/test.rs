//! `cargo xtask test`: all tests, from nothing, in tiers.
//!
//! The runner's tests run beside those of Rust that mostly wait, and end before those begin that load the machine.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use daypass_testcluster::{Tools, packages, python};

use crate::cargo::cargo;
use crate::{image, runner};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only these tiers
    #[arg(long, value_enum, value_delimiter = ',', default_value = "all")]
    tier: Vec<Choice>,
    /// Leave a tier out
    #[arg(long = "skip-tier", visible_alias = "skip", value_enum, value_name = "TIER")]
    skip: Vec<Tier>,
    /// Only tests whose name contains this
    filter: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Choice {
    Unit,
    Runner,
    Api,
    Stores,
    Node,
    All,
}

/// What tests need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Tier {
    /// Nothing
    Unit,
    /// Python; real Inspect against servers of the tests
    Runner,
    /// A real control plane; no root
    Api,
    /// A real control plane, and a server for each backend of stores; no root
    Stores,
    /// A real kubelet and containers; root
    Node,
}

impl Tier {
    const ALL: [Self; 5] = [Self::Unit, Self::Runner, Self::Api, Self::Stores, Self::Node];

    const fn name(self) -> &'static str {
        match self {
            Self::Unit => "unit",
            Self::Runner => "runner",
            Self::Api => "api",
            Self::Stores => "stores",
            Self::Node => "node",
        }
    }

    const fn chosen_by(self, choice: Choice) -> bool {
        matches!(
            (choice, self),
            (Choice::All, _)
                | (Choice::Unit, Self::Unit)
                | (Choice::Runner, Self::Runner)
                | (Choice::Api, Self::Api)
                | (Choice::Stores, Self::Stores)
                | (Choice::Node, Self::Node)
        )
    }
}

/// One call of `cargo test`, or of pytest.
struct Suite {
    tier: Tier,
    name: &'static str,
    /// None: pytest, for the runner.
    targets: &'static [&'static str],
    /// For the test programs themselves.
    arguments: &'static [&'static str],
    /// Only tests whose names begin with one of these. Empty: all.
    only: &'static [&'static str],
    /// It keeps the machine busy: nothing runs beside it.
    alone: bool,
}

impl Suite {
    /// The usual one.
    const fn new(tier: Tier, name: &'static str, targets: &'static [&'static str]) -> Self {
        Self { tier, name, targets, arguments: &[], only: &[], alone: false }
    }
}

const SUITES: [Suite; 9] = [
    Suite::new(Tier::Unit, "libraries and programs", &["--lib", "--bins"]),
    Suite::new(Tier::Runner, "evaluation runner", &[]),
    Suite::new(Tier::Unit, "what must not compile", &["--test", "compile_fail"]),
    Suite::new(Tier::Unit, "examples in the docs", &["--doc"]),
    Suite::new(Tier::Api, "the local cluster", &["--test", "control_plane"]),
    Suite { arguments: &["--test-threads=8"], ..Suite::new(Tier::Stores, "stores", &["--test", "stores"]) },
    Suite {
        // They mostly wait for the control plane.
        arguments: &["--test-threads=8", "--skip", "leader::", "--skip", "many::", "--skip", "keys::"],
        alone: true,
        ..Suite::new(Tier::Api, "control plane", &["--test", "api"])
    },
    Suite {
        // Fifty runs at once, or an operator that is killed over and over.
        arguments: &["--test-threads=2"],
        only: &["leader::", "many::", "keys::"],
        alone: true,
        ..Suite::new(Tier::Api, "load and take-overs", &["--test", "api"])
    },
    Suite { alone: true, ..Suite::new(Tier::Node, "node", &["--test", "node"]) },
];

/// What came of a suite.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    passed: u32,
    failed: u32,
}

struct Outcome {
    tier: Tier,
    name: &'static str,
    count: Count,
    took: Duration,
}

/// Runs the chosen tiers. A failed test is an error after all of them.
pub(crate) fn run(root: &Path, arguments: &Arguments) -> Result<()> {
    let started = Instant::now();
    let chosen = |tier: Tier| arguments.tier.iter().any(|&choice| tier.chosen_by(choice));
    let tiers: Vec<Tier> =
        Tier::ALL.into_iter().filter(|tier| chosen(*tier) && !arguments.skip.contains(tier)).collect();
    ensure!(!tiers.is_empty(), "every chosen tier is left out");
    let suites: Vec<&Suite> = SUITES.iter().filter(|suite| tiers.contains(&suite.tier)).collect();

    // What cannot work should not take minutes to say so.
    prepare(&tiers)?;
    build(root, &suites)?;
    let images =
        if tiers.contains(&Tier::Node) { vec![image::build(root)?, image::build_runner(root)?] } else { Vec::new() };

    let outcomes = run_all(&suites, |suite, show| run_suite(root, suite, arguments.filter.as_deref(), &images, show))?;
    let left_out: Vec<Tier> = Tier::ALL.into_iter().filter(|tier| !tiers.contains(tier)).collect();
    let total = summarize(&outcomes, &left_out, started.elapsed());
    let nothing = total == Count::default();
    ensure!(!nothing, "no test of these tiers has a name that contains {}", arguments.filter.as_deref().unwrap_or(""));
    if total.failed > 0 {
        // Without a word more: the sum is the last line, for programs too.
        std::process::exit(1);
    }
    Ok(())
}

/// Gets what the tiers need, and fails where a tier cannot run here.
fn prepare(tiers: &[Tier]) -> Result<()> {
    if tiers.contains(&Tier::Runner) {
        runner::prepare().context("get the Python packages of the evaluation runner")?;
    }
    if tiers.contains(&Tier::Node) {
        ensure!(
            image::is_root(),
            "the tier node runs containers and needs root: run this as root, or leave it out with --skip-tier node"
        );
        python::environment_of_runner().context("get what reads Inspect's logs")?;
        packages::ensure(&[packages::NODE, packages::BUSYBOX, packages::BUILD_IMAGES].concat())?;
    }
    if tiers.iter().any(|tier| !matches!(tier, Tier::Unit | Tier::Runner)) {
        Tools::ensure().context("get the programs of the local cluster")?;
        Tools::helm().context("get helm")?;
    }
    Ok(())
}

/// How a suite's output is shown.
type Show<'a> = dyn FnMut(&str) + Send + 'a;

/// Runs one suite after the other. Only pytest, which comes first, runs beside those that follow, until one wants the
/// machine for itself; what it says is shown when it has ended.
fn run_all(suites: &[&Suite], run: impl Fn(&Suite, &mut Show<'_>) -> Result<Count> + Sync) -> Result<Vec<Outcome>> {
    let timed = |suite: &Suite, show: &mut Show<'_>| {
        let begun = Instant::now();
        let count = run(suite, show)?;
        anyhow::Ok(Outcome { tier: suite.tier, name: suite.name, count, took: begun.elapsed() })
    };
    let title = |suite: &Suite| println!("\n== {}: {}", suite.tier.name(), suite.name);
    let shown = |suite: &Suite| {
        title(suite);
        timed(suite, &mut |text| print!("{text}"))
    };
    let (mut beside, others): (Vec<&Suite>, Vec<&Suite>) = suites.iter().partition(|suite| suite.tier == Tier::Runner);
    let (mut alone, quiet): (Vec<&Suite>, Vec<&Suite>) = others.into_iter().partition(|suite| suite.alone);
    if quiet.is_empty() {
        // Nothing to run beside: it may be seen at work.
        alone.splice(0..0, beside.drain(..));
    }
    let mut outcomes = std::thread::scope(|scope| {
        let running: Vec<_> = beside
            .into_iter()
            .map(|suite| {
                println!("\n== {}: {} begins, beside the next ones", suite.tier.name(), suite.name);
                let kept = scope.spawn(move || {
                    let mut said = String::new();
                    let outcome = timed(suite, &mut |text| said.push_str(text));
                    (said, outcome)
                });
                (suite, kept)
            })
            .collect();
        let mut outcomes = quiet.into_iter().map(shown).collect::<Result<Vec<_>>>()?;
        for (suite, kept) in running {
            let (said, outcome) = kept.join().map_err(|_| anyhow::anyhow!("the thread of {} died", suite.name))?;
            title(suite);
            print!("{said}");
            outcomes.push(outcome?);
        }
        anyhow::Ok(outcomes)
    })?;
    for suite in alone {
        outcomes.push(shown(suite)?);
    }
    Ok(outcomes)
}

/// Builds all suites at once, so that no test waits for a compiler.
fn build(root: &Path, suites: &[&Suite]) -> Result<()> {
    let mut targets: Vec<&str> = Vec::new();
    // Examples in the docs are compiled when they are run.
    for suite in suites.iter().filter(|suite| suite.targets != ["--doc"]) {
        targets.extend(suite.targets);
    }
    if targets.is_empty() {
        return Ok(());
    }
    println!("== building the tests");
    let status = cargo(root, &["test", "--workspace", "--no-run"]).args(targets).status().context("run cargo")?;
    ensure!(status.success(), "the tests do not build");
    Ok(())
}

/// Runs a suite, shows what it says line by line, and counts.
fn run_suite(
    root: &Path,
    suite: &Suite,
    filter: Option<&str>,
    images: &[image::Built],
    show: &mut Show<'_>,
) -> Result<Count> {
    let mut command = match suite.tier {
        // pytest's filters are expressions, in which a path of Rust has no meaning.
        Tier::Runner if filter.is_some_and(|filter| filter.contains("::")) => return Ok(Count::default()),
        Tier::Runner => {
            let mut command = runner::command(root)?;
            command.args(filter.map(|filter| ["-k", filter]).into_iter().flatten());
            command
        }
        // cargo's filters add up: each would choose more tests.
        _ if !suite.only.is_empty()
            && filter.is_some_and(|filter| {
                filter.contains("::") && !suite.only.iter().any(|only| filter.starts_with(only))
            }) =>
        {
            return Ok(Count::default());
        }
        Tier::Unit | Tier::Api | Tier::Stores | Tier::Node => cargo_test(root, suite, filter),
    };
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command.envs(images.iter().flat_map(image::Built::variables));
    let mut child = command.spawn().context("run the tests")?;
    let mut count = Count::default();
    let mut reader = BufReader::new(child.stdout.take().context("the tests' output")?);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        let text = String::from_utf8_lossy(&line);
        show(&text);
        if let Some(found) = parse(&text).or_else(|| parse_pytest(&text).filter(|_| suite.tier == Tier::Runner)) {
            count.passed += found.passed;
            count.failed += found.failed;
        }
        line.clear();
    }
    let status = child.wait()?;
    // pytest's way to say that a filter fits none of its tests.
    let none_chosen = suite.tier == Tier::Runner && filter.is_some() && status.code() == Some(5);
    if !status.success() && count.failed == 0 && !none_chosen {
        show(&format!("{}: {status}, and no test says why: it counts as one that failed\n", suite.name));
        count.failed = 1;
    }
    Ok(count)
}

/// Reads a line such as `test result: ok. 3 passed; 0 failed; 1 ignored; ...`.
fn parse(line: &str) -> Option<Count> {
    let (_, numbers) = line.trim().strip_prefix("test result: ")?.split_once(". ")?;
    let number = |what: &str| {
        let part = numbers.split("; ").find_map(|part| part.strip_suffix(what))?;
        part.trim().parse().ok()
    };
    Some(Count { passed: number(" passed")?, failed: number(" failed")? })
}

fn cargo_test(root: &Path, suite: &Suite, filter: Option<&str>) -> Command {
    let mut command = cargo(root, &["test", "--workspace", "--no-fail-fast"]);
    command.args(suite.targets).args(filter);
    command.arg("--").args(suite.arguments);
    if filter.is_none() {
        command.args(suite.only);
    }
    command
}

/// Reads pytest's last line, such as `1 failed, 3 passed, 1 error in 1.23s`. What could not be set up has failed.
fn parse_pytest(line: &str) -> Option<Count> {
    let (numbers, _) = line.trim().trim_matches('=').trim().rsplit_once(" in ")?;
    let mut count = Count::default();
    for part in numbers.split(", ") {
        let (number, what) = part.split_once(' ')?;
        let number: u32 = number.parse().ok()?;
        match what {
            "passed" => count.passed += number,
            "failed" | "error" | "errors" => count.failed += number,
            _ => {}
        }
    }
    Some(count)
}

fn summarize(outcomes: &[Outcome], left_out: &[Tier], took: Duration) -> Count {
    println!("\n== summary");
    let mut total = Count::default();
    for Outcome { tier, name, count, took } in outcomes {
        println!(
            "{:<8}{name:<26}{:>5} passed{:>5} failed{:>8.1} s",
            tier.name(),
            count.passed,
            count.failed,
            took.as_secs_f32()
        );
        total.passed += count.passed;
        total.failed += count.failed;
    }
    println!("all, with building: {:.0} s", took.as_secs_f32());
    for tier in left_out {
        println!("LEFT OUT, by the command line: the tier {}. Nothing was shown about it.", tier.name());
    }
    println!("{} passed, {} failed", total.passed, total.failed);
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_counted() {
        let line =
            "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 4 filtered out; finished in 1.23s\n";
        assert_eq!(parse(line), Some(Count { passed: 12, failed: 3 }));
        assert_eq!(parse("test result: ok. 1 passed; 0 failed; 0 ignored"), Some(Count { passed: 1, failed: 0 }));
        assert_eq!(parse("test results::parse ... ok"), None);
        assert_eq!(parse("running 3 tests"), None);
    }

    #[test]
    fn results_of_pytest_are_counted() {
        assert_eq!(parse_pytest("12 passed in 3.21s\n"), Some(Count { passed: 12, failed: 0 }));
        let line = "1 failed, 3 passed, 2 deselected, 1 warning, 2 errors in 61.23s (0:01:01)";
        assert_eq!(parse_pytest(line), Some(Count { passed: 3, failed: 3 }));
        assert_eq!(parse_pytest("tests/test_a.py ... in 3 places"), None);
        assert_eq!(parse_pytest("....   [100%]"), None);
    }

    #[test]
    fn every_tier_has_a_suite() {
        for tier in Tier::ALL {
            assert!(SUITES.iter().any(|suite| suite.tier == tier), "{tier:?}");
            assert!(tier.chosen_by(Choice::All), "{tier:?}");
        }
        assert!(!Tier::Api.chosen_by(Choice::Node));
    }
}
