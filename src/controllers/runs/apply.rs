//! The only writer of a run's objects. Notes what every answer proves.

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;

use super::super::memory::Remembered;
use super::super::{Context, audit};
use super::{Error, Task, delete_parameters, observe};
use crate::api::{Network, Reason};
use crate::kube_ext::{ApiAnswer, CallError, Class, Deleted, call, classify, create_run_secret, delete_run_secret};
use crate::run::{
    GATE, PodInput, PodSeen, PodView, Refusal, Resolution, SecretFact, Step, network_policy, run_pod, run_secret,
};
use crate::secret::SecretValue;

/// How long a run waits before it asks a quota again.
const QUOTA_RETRY: SignedDuration = SignedDuration::from_secs(10);

/// Whether a step went as planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Went {
    AsPlanned,
    /// The world is different: a new plan is due before the next step.
    Differently,
}

pub(super) struct Applier<'a> {
    pub(super) task: &'a Task<'a>,
    pub(super) ctx: &'a Context,
    pub(super) values: &'a [Option<SecretValue>],
    pub(super) resolution: &'a Resolution,
}

impl Applier<'_> {
    pub(super) async fn apply(&self, step: &Step, known: &mut Remembered) -> Result<Went, Error> {
        match step {
            Step::CreateNetworkPolicy => self.create_network_policy(known).await,
            Step::TryPod => self.create_pod(known, true).await,
            Step::CreateSecret => self.create_secret(known).await,
            Step::CreatePod => self.create_pod(known, false).await,
            Step::DeleteSecret => self.delete_secret(known).await,
            Step::DeletePod { uid, reason } => self.delete_pod(known, uid, *reason).await,
            Step::LiftGate => self.lift_gate(known).await,
            // The object is its controller's.
            Step::DeleteOwner => Ok(Went::Differently),
        }
    }

    async fn create_network_policy(&self, known: &mut Remembered) -> Result<Went, Error> {
        let none = Network::default();
        let network = self.task.shape.network.as_ref().unwrap_or(&none);
        let policies = Api::<NetworkPolicy>::namespaced(self.ctx.client.clone(), &self.task.run.namespace);
        let policy = network_policy(self.task.run, network);
        match call("create the NetworkPolicy", policies.create(&PostParams::default(), &policy)).await? {
            Ok(_) => known.facts.network_made = true,
            Err(answer) if classify(&answer) == Class::Exists => known.facts.network_made = true,
            Err(answer) => return self.refused("create the NetworkPolicy", &answer, known),
        }
        Ok(Went::AsPlanned)
    }

    async fn create_secret(&self, known: &mut Remembered) -> Result<Went, Error> {
        let Resolution::Ready(versions) = self.resolution else { return Ok(Went::Differently) };
        let values: Vec<(&str, &SecretValue)> = self
            .task
            .run
            .references
            .iter()
            .zip(self.values)
            .filter_map(|(reference, value)| Some((reference.variable(), value.as_ref()?)))
            .collect();
        let run = self.task.run;
        // Until an answer is in, the Secret may be there: an answer that is lost must not be forgotten.
        let before = std::mem::replace(&mut known.facts.secret, SecretFact::Unknown);
        match create_run_secret(&self.ctx.client, &run.namespace, &run_secret(run), &values).await? {
            Ok(uid) => {
                let now = self.ctx.clock.now();
                known.secret_uid = Some(uid);
                known.facts.secret = SecretFact::Made(now);
                known.facts.versions = Some(versions.clone());
                known.facts.refusal = None;
                self.ctx.metrics.time_to_secret(now.duration_since(known.first_look.unwrap_or(now)));
                audit::of_run(run, self.task.submitter, audit::Action::Inject, "allowed", Reason::Injected, versions);
                Ok(Went::AsPlanned)
            }
            Err(answer) if classify(&answer) == Class::Exists => self.make_room(known).await,
            Err(answer) => {
                // Admission answers before storage does: what was there before the call may still be.
                known.facts.secret = before;
                self.refused("create the run Secret", &answer, known)
            }
        }
    }

    /// A Secret stands under the run's name: left by a lost answer or a crash, or foreign. Only without a Pod
    /// that could have read it may it go.
    async fn make_room(&self, known: &mut Remembered) -> Result<Went, Error> {
        known.facts.fresh = false;
        let seen = observe::live_pod(self.task.run, self.ctx, known).await?;
        // Behind its gate no kubelet has seen the Pod, nor read the Secret.
        let unread = match &seen {
            PodSeen::Absent => true,
            PodSeen::Ours(pod) => pod.gates.iter().any(|gate| gate == GATE),
            PodSeen::Foreign => false,
        };
        if unread {
            match delete_run_secret(&self.ctx.client, &self.task.run.namespace, &self.task.run.name, None).await? {
                Deleted::Gone | Deleted::Replaced => known.facts.secret = SecretFact::NotMade,
                Deleted::Foreign => known.facts.secret = SecretFact::Foreign,
                Deleted::Held => return Err(Error::SecretHeld),
            }
        }
        Ok(Went::Differently)
    }

    async fn create_pod(&self, known: &mut Remembered, dry_run: bool) -> Result<Went, Error> {
        let resolved: &[Option<String>] = match self.resolution {
            Resolution::Ready(resolved) => resolved,
            // A Pod that waits for its queue stands before its Secret.
            Resolution::NotAsked if self.task.run.gated => &[],
            _ => return Ok(Went::Differently),
        };
        let injected = match known.facts.secret {
            SecretFact::Made(at) => Some(at),
            _ => None,
        };
        let input = PodInput {
            spec: self.task.shape,
            defaults: &self.ctx.defaults,
            versions: known.facts.versions.as_deref().unwrap_or(resolved),
            injected,
            extras: self.task.extras,
        };
        let pod = run_pod(self.task.run, &input);
        let pods = Api::<Pod>::namespaced(self.ctx.client.clone(), &self.task.run.namespace);
        let parameters = PostParams { dry_run, ..PostParams::default() };
        known.pod_uncertain |= !dry_run;
        match call("create the run's Pod", pods.create(&parameters, &pod)).await? {
            Ok(_) if dry_run => known.facts.refusal = None,
            Ok(pod) => {
                known.facts.refusal = None;
                known.pod_uncertain = false;
                known.facts.pod = Some(PodView::of(&pod));
                let now = self.ctx.clock.now();
                self.ctx.metrics.time_to_pod(now.duration_since(known.first_look.unwrap_or(now)));
                self.ctx.event(self.task.about, false, Reason::Starting, "The run's Pod was made").await;
            }
            Err(answer) if classify(&answer) == Class::Exists => {
                known.facts.fresh = false;
                observe::live_pod(self.task.run, self.ctx, known).await?;
                return Ok(Went::Differently);
            }
            Err(answer) => {
                known.pod_uncertain = false;
                return self.refused("create the run's Pod", &answer, known);
            }
        }
        Ok(Went::AsPlanned)
    }

    async fn delete_secret(&self, known: &mut Remembered) -> Result<Went, Error> {
        let due = self.ctx.clock.now();
        let run = self.task.run;
        let answer = delete_run_secret(&self.ctx.client, &run.namespace, &run.name, known.secret_uid.as_deref()).await;
        match answer {
            Ok(Deleted::Gone | Deleted::Replaced) => {
                let now = self.ctx.clock.now();
                if let SecretFact::Made(made) = known.facts.secret {
                    self.ctx.metrics.secret_exposure(now.duration_since(made));
                }
                known.facts.secret = SecretFact::Gone(now);
                let due = known.facts.removal_fails_since.take().unwrap_or(due);
                self.ctx.metrics.secret_removal(now.duration_since(due));
                let versions = known.facts.versions.clone().unwrap_or_default();
                audit::of_run(run, self.task.submitter, audit::Action::Remove, "proven", Reason::Removed, &versions);
                Ok(Went::AsPlanned)
            }
            Ok(Deleted::Foreign) => {
                known.facts.secret = SecretFact::Foreign;
                Ok(Went::Differently)
            }
            Ok(Deleted::Held) => self.removal_fails(known, due, Error::SecretHeld).await,
            Err(error) => self.removal_fails(known, due, error.into()).await,
        }
    }

    async fn removal_fails(&self, known: &mut Remembered, now: jiff::Timestamp, error: Error) -> Result<Went, Error> {
        let since = *known.facts.removal_fails_since.get_or_insert(now);
        if since == now {
            let note = "The run Secret cannot be removed; it is tried again";
            self.ctx.event(self.task.about, true, Reason::RemovalFailing, note).await;
        }
        Err(error)
    }

    async fn delete_pod(&self, known: &mut Remembered, uid: &str, reason: Reason) -> Result<Went, Error> {
        let parameters = delete_parameters(uid);
        let pods = Api::<Pod>::namespaced(self.ctx.client.clone(), &self.task.run.namespace);
        let what = "delete the run's Pod";
        match call(what, pods.delete(&self.task.run.name, &parameters)).await? {
            // A conflict is another Pod under the name: ours is gone.
            Ok(_) => {}
            Err(answer) if matches!(answer.code, 404 | 409) => {}
            Err(answer) => return Err(CallError::Api { what, code: answer.code, reason: answer.reason }.into()),
        }
        known.facts.ended_for = Some(reason);
        if let Some(pod) = &mut known.facts.pod {
            pod.deleting.get_or_insert(self.ctx.clock.now());
        }
        Ok(Went::AsPlanned)
    }

    /// Takes the operator's own gate away, and no other.
    async fn lift_gate(&self, known: &mut Remembered) -> Result<Went, Error> {
        let run = self.task.run;
        let Some(uid) = known.facts.pod.as_ref().map(|pod| pod.uid.clone()) else { return Ok(Went::Differently) };
        let pods = Api::<Pod>::namespaced(self.ctx.client.clone(), &run.namespace);
        let patch = Patch::Strategic(json!({
            "metadata": {"uid": uid},
            "spec": {"schedulingGates": [{"name": GATE, "$patch": "delete"}]},
        }));
        let what = "lift the gate of the run's Pod";
        match call(what, pods.patch(&run.name, &PatchParams::default(), &patch)).await? {
            Ok(pod) => known.facts.pod = Some(PodView::of(&pod)),
            // Gone, or another one: the next look tells.
            Err(answer) if matches!(answer.code, 404 | 409) => return Ok(Went::Differently),
            Err(answer) => return Err(CallError::Api { what, code: answer.code, reason: answer.reason }.into()),
        }
        known.gate_lifted = true;
        Ok(Went::AsPlanned)
    }

    /// Notes a refusal for the next plan, or gives the failure back where trying again may help.
    fn refused(&self, what: &'static str, answer: &ApiAnswer, known: &mut Remembered) -> Result<Went, Error> {
        let refusal = match classify(answer) {
            Class::Quota => {
                let text = "The namespace's quota has no room for the run; it starts when there is";
                Refusal::Quota(
                    text.into(),
                    self.ctx.clock.now().saturating_add(QUOTA_RETRY).unwrap_or(jiff::Timestamp::MAX),
                )
            }
            Class::NamespaceGone => Refusal::NamespaceTerminating,
            // A Pod names its secrets and holds no value, so the server's words on it are safe to show.
            Class::Refused => {
                Refusal::Refused(format!("{what}: {}", answer.message.chars().take(1000).collect::<String>()))
            }
            Class::Exists | Class::Transient => {
                return Err(CallError::Api { what, code: answer.code, reason: answer.reason.clone() }.into());
            }
        };
        known.facts.refusal = Some(refusal);
        Ok(Went::Differently)
    }
}
