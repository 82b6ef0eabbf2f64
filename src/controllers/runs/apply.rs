//! The only writer of a run's objects. Notes what every answer proves.

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::Api;
use kube::api::{DeleteParams, PostParams, Preconditions, PropagationPolicy};

use super::super::memory::Remembered;
use super::super::{Context, audit};
use super::{Error, observe, report};
use crate::api::{Network, Reason, SUBMITTED_BY, Sandbox};
use crate::kube_ext::{ApiAnswer, CallError, Class, Deleted, call, classify, create_run_secret, delete_run_secret};
use crate::run::{
    PodInput, PodSeen, PodView, Refusal, Resolution, Run, SecretFact, Step, network_policy, run_pod, run_secret,
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
    pub(super) sandbox: &'a Sandbox,
    pub(super) run: &'a Run,
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
            Step::DeleteOwner => self.delete_owner().await,
        }
    }

    async fn create_network_policy(&self, known: &mut Remembered) -> Result<Went, Error> {
        let none = Network::default();
        let network = self.sandbox.spec.network.as_ref().unwrap_or(&none);
        let policies = Api::<NetworkPolicy>::namespaced(self.ctx.client.clone(), &self.run.namespace);
        let policy = network_policy(self.run, network);
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
            .run
            .references
            .iter()
            .zip(self.values)
            .filter_map(|(reference, value)| Some((reference.variable(), value.as_ref()?)))
            .collect();
        let run = self.run;
        // Until an answer is in, the Secret may be there: an answer that is lost must not be forgotten.
        let before = std::mem::replace(&mut known.facts.secret, SecretFact::Unknown);
        match create_run_secret(&self.ctx.client, &run.namespace, &run_secret(run), &values).await? {
            Ok(uid) => {
                let now = self.ctx.clock.now();
                known.secret_uid = Some(uid);
                known.facts.secret = SecretFact::Made(now);
                known.facts.versions = Some(versions.clone());
                known.facts.refusal = None;
                self.ctx.metrics.time_to_secret(now.duration_since(run.created));
                audit::of_run(run, self.submitter(), audit::Action::Inject, "allowed", Reason::Injected, versions);
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

    /// A Secret stands under the run's name: left by a lost answer or a crash, or foreign. Only without a Pod may it go.
    async fn make_room(&self, known: &mut Remembered) -> Result<Went, Error> {
        known.facts.fresh = false;
        if matches!(observe::live_pod(self.run, self.ctx, known).await?, PodSeen::Absent) {
            match delete_run_secret(&self.ctx.client, &self.run.namespace, &self.run.name, None).await? {
                Deleted::Gone | Deleted::Replaced => known.facts.secret = SecretFact::NotMade,
                Deleted::Foreign => known.facts.secret = SecretFact::Foreign,
                Deleted::Held => return Err(Error::SecretHeld),
            }
        }
        Ok(Went::Differently)
    }

    async fn create_pod(&self, known: &mut Remembered, dry_run: bool) -> Result<Went, Error> {
        let Resolution::Ready(resolved) = self.resolution else { return Ok(Went::Differently) };
        let injected = match known.facts.secret {
            SecretFact::Made(at) => Some(at),
            _ => None,
        };
        let input = PodInput {
            spec: &self.sandbox.spec,
            defaults: &self.ctx.defaults,
            versions: known.facts.versions.as_ref().unwrap_or(resolved),
            injected,
        };
        let pod = run_pod(self.run, &input);
        let pods = Api::<Pod>::namespaced(self.ctx.client.clone(), &self.run.namespace);
        let parameters = PostParams { dry_run, ..PostParams::default() };
        known.pod_uncertain |= !dry_run;
        match call("create the run's Pod", pods.create(&parameters, &pod)).await? {
            Ok(_) if dry_run => known.facts.refusal = None,
            Ok(pod) => {
                known.facts.refusal = None;
                known.pod_uncertain = false;
                known.facts.pod = Some(PodView::of(&pod));
                self.ctx.metrics.time_to_pod(self.ctx.clock.now().duration_since(self.run.created));
                self.ctx
                    .event(&report::reference(self.sandbox), false, Reason::Starting, "The run's Pod was made")
                    .await;
            }
            Err(answer) if classify(&answer) == Class::Exists => {
                known.facts.fresh = false;
                observe::live_pod(self.run, self.ctx, known).await?;
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
        let run = self.run;
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
                audit::of_run(run, self.submitter(), audit::Action::Remove, "proven", Reason::Removed, &versions);
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
            self.ctx.event(&report::reference(self.sandbox), true, Reason::RemovalFailing, note).await;
        }
        Err(error)
    }

    async fn delete_pod(&self, known: &mut Remembered, uid: &str, reason: Reason) -> Result<Went, Error> {
        let parameters = delete_parameters(uid);
        let pods = Api::<Pod>::namespaced(self.ctx.client.clone(), &self.run.namespace);
        let what = "delete the run's Pod";
        match call(what, pods.delete(&self.run.name, &parameters)).await? {
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

    async fn delete_owner(&self) -> Result<Went, Error> {
        let sandboxes = Api::<Sandbox>::namespaced(self.ctx.client.clone(), &self.run.namespace);
        let what = "delete the Sandbox whose time is over";
        match call(what, sandboxes.delete(&self.run.owner_name, &delete_parameters(&self.run.owner_uid))).await? {
            Ok(_) => {}
            Err(answer) if matches!(answer.code, 404 | 409) => {}
            Err(answer) => return Err(CallError::Api { what, code: answer.code, reason: answer.reason }.into()),
        }
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

    fn submitter(&self) -> Option<&str> {
        self.sandbox.metadata.annotations.as_ref()?.get(SUBMITTED_BY).map(String::as_str)
    }
}

/// Exactly this object, and its dependents with it.
fn delete_parameters(uid: &str) -> DeleteParams {
    DeleteParams {
        propagation_policy: Some(PropagationPolicy::Background),
        preconditions: Some(Preconditions { uid: Some(uid.to_owned()), resource_version: None }),
        ..DeleteParams::default()
    }
}
