//! What a controller does around the plan: observe, act, learn from answers; and what may go wrong with it.

use super::super::*;
use super::world::World;

/// What goes wrong at one point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The process dies before the call.
    CrashBefore,
    /// The process dies after the call.
    CrashAfter,
    /// The call fails and has done nothing.
    Fails,
    /// The call has done its work; its answer is lost.
    AnswerLost,
}

/// Why a session stopped half-way.
#[derive(Debug)]
pub(super) enum Stopped {
    Crashed,
    Failed,
}

/// How a call went.
#[derive(PartialEq, Eq)]
enum Went {
    AsPlanned,
    /// The world is different from what the plan took it for.
    Differently,
    /// The API server did not do it.
    Wrong,
}

/// One process: what it knows, and the faults that await it and its successors.
pub(super) struct Operator<'a> {
    facts: Facts,
    /// The Pod as its watch shows it.
    cache: Option<PodView>,
    pod_watched: bool,
    pod_foreign: bool,
    /// Points passed so far: observations, calls and status writes.
    pub(super) points: usize,
    faults: &'a [(usize, Fault)],
    pub(super) plans: usize,
}

impl<'a> Operator<'a> {
    /// A process that led already when the object was made.
    pub(super) fn new(faults: &'a [(usize, Fault)]) -> Self {
        let facts = Facts { fresh: true, secret: SecretFact::NotMade, ..Facts::default() };
        Self { facts, cache: None, pod_watched: false, pod_foreign: false, points: 0, faults, plans: 0 }
    }

    /// Another process takes over. It knows nothing, and its watch is behind.
    pub(super) fn restart(&mut self) {
        self.facts = Facts::default();
        self.pod_watched = false;
        self.pod_foreign = false;
        self.cache = None;
    }

    /// The watch catches up. Within a session it does not: it is late.
    pub(super) fn watch(&mut self, world: &World) {
        self.cache.clone_from(&world.pod);
    }

    fn fault(&mut self) -> Option<Fault> {
        let point = self.points;
        self.points += 1;
        self.faults.iter().find(|(at, _)| *at == point).map(|(_, fault)| *fault)
    }

    /// Plans and acts until nothing is left to do now. Gives the time of the next look.
    pub(super) fn session(&mut self, world: &mut World) -> Result<Option<Timestamp>, Stopped> {
        for _ in 0..12 {
            if matches!(self.fault(), Some(Fault::CrashBefore | Fault::CrashAfter)) {
                return Err(Stopped::Crashed);
            }
            let plan = self.plan(world);
            self.plans += 1;
            if plan.steps.is_empty() {
                if plan.write {
                    self.call(world, |_, world| {
                        world.write_status(&plan.state);
                        Went::AsPlanned
                    })?;
                }
                match plan.wake {
                    Some(wake) if wake <= world.now => assert!(plan.write, "spins: {plan:?}"),
                    wake => return Ok(wake),
                }
            }
            for step in &plan.steps {
                if self.call(world, |operator, world| operator.apply(step, world))? == Went::Differently {
                    break;
                }
                if *step == Step::DeleteOwner {
                    return Ok(None);
                }
            }
        }
        panic!("never comes to rest: {:?}", world.writes);
    }

    fn call(&mut self, world: &mut World, act: impl FnOnce(&mut Self, &mut World) -> Went) -> Result<Went, Stopped> {
        match self.fault() {
            Some(Fault::CrashBefore) => Err(Stopped::Crashed),
            Some(Fault::CrashAfter) => {
                act(self, world);
                Err(Stopped::Crashed)
            }
            Some(Fault::Fails) => {
                self.unsure();
                Err(Stopped::Failed)
            }
            Some(Fault::AnswerLost) => {
                let known = self.facts.clone();
                act(self, world);
                self.facts = known;
                self.unsure();
                Err(Stopped::Failed)
            }
            None => match act(self, world) {
                Went::Wrong => Err(Stopped::Failed),
                went => Ok(went),
            },
        }
    }

    /// Without an answer nobody knows whether the Secret is there.
    fn unsure(&mut self) {
        if !matches!(self.facts.secret, SecretFact::Made(_) | SecretFact::Foreign) {
            self.facts.secret = SecretFact::Unknown;
        }
    }

    fn plan(&mut self, world: &World) -> Plan {
        let now = world.now;
        let pod = self.pod_seen(world);
        let mut secrets = Resolution::NotAsked;
        if wants_secrets(&self.observed(world, pod.clone(), Resolution::NotAsked), now) {
            secrets = match world.surroundings.problem {
                None => Resolution::Ready(vec![Some("3".into()); world.run.references.len()]),
                Some((reason, waits)) => Resolution::Problems(vec![Problem {
                    reference: Some(0),
                    reason,
                    message: "in the way".into(),
                    waits,
                }]),
            };
        }
        plan(&self.observed(world, pod, secrets), now)
    }

    fn observed<'w>(&'w self, world: &'w World, pod: PodSeen, secrets: Resolution) -> Observed<'w> {
        Observed {
            run: &world.run,
            recorded: &world.status,
            pod,
            facts: &self.facts,
            secrets,
            revoked: if world.surroundings.revoked { vec!["API_KEY".into()] } else { Vec::new() },
            newer_version: false,
            guarded: world.surroundings.guarded,
        }
    }

    fn pod_seen(&mut self, world: &World) -> PodSeen {
        if let Some(pod) = &self.cache {
            self.pod_watched = true;
            self.facts.pod = Some(pod.clone());
        }
        match (&self.cache, &self.facts.pod) {
            (Some(pod), _) => PodSeen::Ours(Box::new(pod.clone())),
            (None, _) if self.pod_foreign => PodSeen::Foreign,
            (None, Some(made)) if !self.pod_watched => PodSeen::Ours(Box::new(made.clone())),
            // Another process may have made it.
            (None, None) if !self.facts.fresh && !world.status.phase.is_terminal() => self.live_pod(world),
            _ => PodSeen::Absent,
        }
    }

    /// Asks the API server itself.
    fn live_pod(&mut self, world: &World) -> PodSeen {
        if world.foreign_pod {
            self.pod_foreign = true;
            return PodSeen::Foreign;
        }
        if let Some(pod) = &world.pod {
            self.facts.pod = Some(pod.clone());
            return PodSeen::Ours(Box::new(pod.clone()));
        }
        PodSeen::Absent
    }

    /// One call, and what its answer teaches.
    fn apply(&mut self, step: &Step, world: &mut World) -> Went {
        match step {
            Step::CreateNetworkPolicy => {
                world.writes.push("+Network".into());
                self.facts.network_made = true;
            }
            Step::TryPod => {
                world.writes.push("?Pod".into());
                if self.refused(world) {
                    return Went::Differently;
                }
                self.facts.refusal = None;
            }
            Step::CreateSecret => {
                if !world.create_secret() {
                    return self.make_room(world);
                }
                self.facts.secret = SecretFact::Made(world.now);
                self.facts.versions = Some(vec![Some("3".into())]);
            }
            Step::CreatePod => {
                let acknowledged = matches!(self.facts.secret, SecretFact::Made(_));
                assert!(world.run.references.is_empty() || acknowledged, "a Pod before its Secret");
                if self.refused(world) {
                    world.writes.push("!+Pod".into());
                    return Went::Differently;
                }
                if world.foreign_pod || world.pod.is_some() {
                    self.facts.fresh = false;
                    self.live_pod(world);
                    return Went::Differently;
                }
                self.facts.refusal = None;
                self.facts.pod = Some(world.create_pod());
            }
            Step::DeleteSecret => match world.delete_secret() {
                None => {
                    self.facts.removal_fails_since.get_or_insert(world.now);
                    return Went::Wrong;
                }
                Some(false) => {
                    self.facts.secret = SecretFact::Foreign;
                    return Went::Differently;
                }
                Some(true) => {
                    self.facts.secret = SecretFact::Gone(world.now);
                    self.facts.removal_fails_since = None;
                }
            },
            Step::DeletePod { uid, reason } => {
                world.delete_pod(uid, *reason);
                self.facts.ended_for = Some(*reason);
            }
            Step::DeleteOwner => world.delete_object(),
            Step::LiftGate => unreachable!("no gate stands before a Sandbox's Pod"),
        }
        Went::AsPlanned
    }

    /// A Secret stands under the run's name. Only while no Pod is there may it go.
    fn make_room(&mut self, world: &mut World) -> Went {
        self.facts.fresh = false;
        if matches!(self.live_pod(world), PodSeen::Absent) {
            self.facts.secret = match world.delete_secret() {
                Some(true) => SecretFact::NotMade,
                Some(false) => SecretFact::Foreign,
                None => return Went::Wrong,
            };
        }
        Went::Differently
    }

    fn refused(&mut self, world: &World) -> bool {
        self.facts.refusal = if world.surroundings.pod_refused {
            Some(Refusal::Refused("violates a policy".into()))
        } else if world.surroundings.quota_full {
            Some(Refusal::Quota("no room".into(), world.now + seconds(10)))
        } else {
            return false;
        };
        true
    }
}
