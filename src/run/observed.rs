//! What a plan is made from.

use jiff::{SignedDuration, Timestamp};

use super::{PodView, State};
use crate::api::{Delivery, Reason, SecretReference, SecretRemoval};

/// One run: one attempt of a Sandbox, or of one benchmark of an EvalJob. What was asked for, never what became of it.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a wish of its own")]
pub struct Run {
    /// The namespace of the run and all its objects.
    pub namespace: String,
    /// The kind of the object that the run belongs to.
    pub owner_kind: &'static str,
    /// That object's name.
    pub owner_name: String,
    /// That object's UID: what is ours is known by it.
    pub owner_uid: String,
    /// The benchmark; empty for a Sandbox.
    pub benchmark: String,
    /// Counts from 1.
    pub attempt: u32,
    /// The derived name of the run's Secret and Pod.
    pub name: String,
    /// The object is being deleted.
    pub deleting: bool,
    /// The object asks for the run's end, for this reason.
    pub ends: Option<Reason>,
    /// The ServiceAccount that the run is.
    pub service_account: String,
    /// The secrets that it names.
    pub references: Vec<SecretReference>,
    /// How they are delivered.
    pub delivery: Delivery,
    /// When the run Secret is removed.
    pub removal: SecretRemoval,
    /// Whether a NetworkPolicy goes with the run: it denies something.
    pub network: bool,
    /// Whether its Pod waits for a queue: it is made without a Secret, behind a gate that the operator lifts.
    pub gated: bool,
    /// How long the run may last, from the making of its Pod.
    pub lifetime: SignedDuration,
    /// The field that says so.
    pub lifetime_field: &'static str,
    /// How long missing secrets, and stores that do not answer, are waited for.
    pub secrets_timeout: SignedDuration,
    /// Whether a missing secret ends the run at once.
    pub missing_ends: bool,
    /// How long the Pod may take to start.
    pub startup_timeout: SignedDuration,
    /// How long the program has to end.
    pub grace: SignedDuration,
    /// How long the object stays after the run's end.
    pub ttl: Option<SignedDuration>,
}

/// Everything that a plan may depend on, besides the time.
#[derive(Debug)]
pub struct Observed<'a> {
    /// What was asked for.
    pub run: &'a Run,
    /// What the object's status says became of it: the answer to this process' last patch, or what is newer.
    pub recorded: &'a State,
    /// The Pod under the run's name: as a watch shows it, or until it does, as the API server has acknowledged it.
    pub pod: PodSeen,
    /// What this process knows that no object shows (yet).
    pub facts: &'a Facts,
    /// The answer of authorization and stores.
    pub secrets: Resolution,
    /// Access names of this run's secrets that are revoked.
    pub revoked: Vec<String>,
    /// Whether a newer version exists of a secret that the run holds.
    pub newer_version: bool,
    /// Whether the admission policies are proven in force.
    pub guarded: bool,
}

/// What stands under the name of the run's Pod.
#[derive(Clone, Debug)]
pub enum PodSeen {
    /// Nothing.
    Absent,
    /// A Pod that belongs to somebody else.
    Foreign,
    /// The run's own.
    Ours(Box<PodView>),
}

/// The answer to the question for the run's secrets. Versions and problems; the values travel elsewhere.
#[derive(Clone, Debug, PartialEq)]
pub enum Resolution {
    /// Nobody asked: the run does not need them now.
    NotAsked,
    /// Every secret may be used and was found; per reference its version, none where it is absent and optional.
    Ready(Vec<Option<String>>),
    /// Everything that stands in the way.
    Problems(Vec<Problem>),
}

/// One thing that stands in the way of a run's secrets.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// Which reference it is about; none where it is about all of them.
    pub reference: Option<usize>,
    /// Why, in one word.
    pub reason: Reason,
    /// Why, for people, with what mends it.
    pub message: String,
    /// Whether waiting may help.
    pub waits: bool,
}

impl Problem {
    /// Whether it ends the run at once.
    pub fn ends(&self, run: &Run) -> bool {
        !self.waits || run.missing_ends && self.reason == Reason::SecretNotFound
    }
}

/// What this process knows of a run from its own calls. Lost with the process, so nothing may depend on it alone.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The run Secret.
    pub secret: SecretFact,
    /// What was last seen of the Pod, in an answer or by a watch. Beside [`PodSeen::Absent`] it says that the Pod is
    /// gone; while a watch has not shown it yet, [`Observed::pod`] holds it too.
    pub pod: Option<PodView>,
    /// The versions that the run Secret was made from.
    pub versions: Option<Vec<Option<String>>>,
    /// A value among them was older than its store's TTL, because the store failed.
    pub stale: bool,
    /// The API server's refusal of the Secret or the Pod.
    pub refusal: Option<Refusal>,
    /// Since when the Secret's removal fails.
    pub removal_fails_since: Option<Timestamp>,
    /// The NetworkPolicy is there.
    pub network_made: bool,
    /// Nobody else can have made anything for this run: it appeared while this process led.
    pub fresh: bool,
    /// The Pod was deleted by this process, for this reason: set by the API server's answer, never before it.
    pub ended_for: Option<Reason>,
}

/// What is known of the run Secret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SecretFact {
    /// Nothing: it may be there.
    #[default]
    Unknown,
    /// It was never made.
    NotMade,
    /// It was made, at that time.
    Made(Timestamp),
    /// It is proven gone, since that time at the latest.
    Gone(Timestamp),
    /// Something foreign stands under its name: the policies, not RBAC, refused its deletion.
    Foreign,
}

/// Why the API server would not take the run's Secret or Pod.
#[derive(Clone, Debug, PartialEq)]
pub enum Refusal {
    /// A policy, Pod Security or an invalid Pod: trying again does not help.
    Refused(String),
    /// A quota has no room; tried again from that time on.
    Quota(String, Timestamp),
    /// The namespace is going away.
    NamespaceTerminating,
}
