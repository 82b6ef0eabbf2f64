//! Whole lives of runs against a cluster in memory, with every fault at every point.
//!
//! The cluster here is small on purpose: it explores orders of events. What real API servers and kubelets do is tested
//! on real ones.

mod operator;
mod scenarios;
mod world;

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use operator::{Fault, Operator, Stopped};
use scenarios::{Event, Scenario, scenarios};
use world::{Whose, World};

/// How a life went.
struct Life {
    world: World,
    points: usize,
}

/// Lives through a scenario until nothing happens any more.
fn live(scenario: &Scenario, faults: &[(usize, Fault)]) -> Life {
    let mut world = World::new();
    (scenario.given)(&mut world);
    let before = (world.secret, world.foreign_pod);
    let mut events: Vec<(Timestamp, Event)> = scenario.events.iter().map(|(at, event)| (t(*at), *event)).collect();
    let mut operator = Operator::new(faults);
    operator.watch(&world);
    let mut back_off = 1;
    for _ in 0..400 {
        let wake = if world.object {
            match operator.session(&mut world) {
                Ok(wake) => {
                    back_off = 1;
                    wake
                }
                Err(Stopped::Failed) => {
                    back_off *= 2;
                    Some(world.now + seconds(back_off / 2))
                }
                Err(Stopped::Crashed) => {
                    operator.restart();
                    Some(world.now + seconds(1))
                }
            }
        } else {
            None
        };
        let event = events.first().map(|(at, _)| *at);
        let Some(next) = [wake, event, world.next_change()].into_iter().flatten().min() else {
            assert_settled(&world, before);
            return Life { points: operator.points, world };
        };
        world.now = next.max(world.now);
        world.tick();
        while events.first().is_some_and(|(at, _)| *at <= world.now) {
            let (_, event) = events.remove(0);
            event(&mut world);
        }
        operator.watch(&world);
    }
    panic!("the run never ends: {:?}", world.writes);
}

/// What must hold when nothing happens any more, whatever went wrong before.
fn assert_settled(world: &World, (secret, foreign_pod): (Option<Whose>, bool)) {
    let state = &world.status;
    if world.object && !world.run.deleting {
        assert!(state.phase.is_terminal(), "the run is not over: {state:?}");
        let proven = matches!(state.copy, SecretCopy::NoSecrets | SecretCopy::Gone | SecretCopy::NotMade);
        assert!(proven, "the removal is not proven: {state:?}");
    }
    assert_ne!(world.secret, Some(Whose::Ours), "a Secret is left");
    if secret == Some(Whose::Foreign) {
        assert_eq!(world.secret, secret, "a foreign Secret was touched");
    }
    assert_eq!(world.foreign_pod, foreign_pod, "a foreign Pod was touched");
    let over = |pod: &PodView| pod.has_ended() || pod.deleting.is_some() && !world.surroundings.node_alive;
    assert!(world.pod.as_ref().is_none_or(over), "a Pod is left: {:?}", world.pod);
}

/// Panics of a life, with the story that led there.
fn told(scenario: &Scenario, faults: &[(usize, Fault)]) -> Life {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| live(scenario, faults)))
        .unwrap_or_else(|_| panic!("{}: with {faults:?}", scenario.name))
}

#[test]
fn every_life_costs_the_writes_that_it_must() {
    let mut wrong = Vec::new();
    for scenario in scenarios() {
        let life = told(&scenario, &[]);
        let writes = life.world.writes.join(" ");
        let wanted = scenario.writes.join(" ");
        if writes != wanted {
            wrong.push(format!("{}:\n     got {writes}\n  wanted {wanted}", scenario.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The end, as people see it; none where the object is gone.
fn end(life: &Life) -> Option<Reason> {
    (life.world.object && !life.world.run.deleting).then_some(life.world.status.reason)
}

/// Writes that are not tried over and over while a removal fails.
fn costly(life: &Life) -> usize {
    life.world.writes.iter().filter(|write| !write.ends_with("Secret")).count()
}

/// Lives through every scenario with these faults, and checks that the end is one that people can understand.
fn check_faults(of: impl Fn(usize) -> Vec<Vec<(usize, Fault)>>) -> usize {
    let mut lives = 0;
    let mut wrong = BTreeMap::new();
    for scenario in scenarios() {
        let whole = told(&scenario, &[]);
        let mut ends: BTreeSet<Option<Reason>> = scenario.also.iter().map(|reason| Some(*reason)).collect();
        ends.insert(end(&whole));
        for faults in of(whole.points) {
            let life = told(&scenario, &faults);
            lives += 1;
            if !ends.contains(&end(&life)) {
                wrong.entry((scenario.name, end(&life))).or_insert(faults.clone());
            }
            let most = costly(&whole) + 3 * faults.len();
            assert!(costly(&life) <= most, "{} with {faults:?}: {:?}", scenario.name, life.world.writes);
        }
    }
    assert!(wrong.is_empty(), "unexpected ends, and what led there: {wrong:#?}");
    lives
}

const FAULTS: [Fault; 4] = [Fault::CrashBefore, Fault::CrashAfter, Fault::Fails, Fault::AnswerLost];

#[test]
fn one_fault_anywhere_heals() {
    let lives = check_faults(|points| (0..points + 2).flat_map(|at| FAULTS.map(|fault| vec![(at, fault)])).collect());
    assert!(lives > 1000, "{lives}");
}

#[test]
fn two_faults_anywhere_heal() {
    let kinds = [
        (Fault::CrashAfter, Fault::CrashAfter),
        (Fault::CrashAfter, Fault::AnswerLost),
        (Fault::AnswerLost, Fault::CrashAfter),
        (Fault::AnswerLost, Fault::Fails),
    ];
    let lives = check_faults(|points| {
        let pairs = (0..points).flat_map(|first| (first + 1..first + 20).map(move |second| (first, second)));
        pairs.flat_map(|(first, second)| kinds.map(|(a, b)| vec![(first, a), (second, b)])).collect()
    });
    assert!(lives > 10_000, "{lives}");
}
