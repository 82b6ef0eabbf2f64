//! Where a run stands: what a plan reports, and what the object's status gives back after a restart.

use jiff::Timestamp;

use crate::api::{Phase, Reason};

/// Where a run stands.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// The summary.
    pub phase: Phase,
    /// Why, in one word.
    pub reason: Reason,
    /// Why, for people.
    pub message: String,
    /// Whether a Pod was made.
    pub pod: bool,
    /// The run Secret.
    pub copy: SecretCopy,
    /// Per reference the version that the run got.
    pub versions: Vec<Option<String>>,
    /// References that stand in the way because the run may not use them.
    pub denied: Vec<usize>,
    /// Since when the run waits for its secrets.
    pub waiting_since: Option<Timestamp>,
    /// When the container had started.
    pub started: Option<Timestamp>,
    /// When the run was over.
    pub completed: Option<Timestamp>,
    /// When the run will be ended at the latest.
    pub expires: Option<Timestamp>,
    /// The program's exit code.
    pub exit_code: Option<i32>,
    /// When the run Secret was made.
    pub injected: Option<Timestamp>,
    /// When the run Secret was proven gone.
    pub removed: Option<Timestamp>,
    /// A newer version of a secret exists.
    pub outdated: bool,
    /// The store failed, and an older value was served as it allows.
    pub stale: bool,
}

impl Default for State {
    fn default() -> Self {
        Self {
            phase: Phase::Pending,
            reason: Reason::WaitingForController,
            message: String::new(),
            pod: false,
            copy: SecretCopy::NotMade,
            versions: Vec::new(),
            denied: Vec::new(),
            waiting_since: None,
            started: None,
            completed: None,
            expires: None,
            exit_code: None,
            injected: None,
            removed: None,
            outdated: false,
            stale: false,
        }
    }
}

/// The API server's copy of the run's values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SecretCopy {
    /// The run names no secrets.
    NoSecrets,
    /// None was made.
    #[default]
    NotMade,
    /// It is there.
    Present,
    /// It is due to go, and its removal fails.
    RemovalFailing,
    /// It is proven gone.
    Gone,
}

impl SecretCopy {
    /// The summary that people see.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoSecrets => "None",
            Self::NotMade => "Waiting",
            Self::Present => "Injected",
            Self::RemovalFailing => "RemovalFailing",
            Self::Gone => "Removed",
        }
    }

    /// Reads the summary back.
    pub fn parse(text: &str) -> Self {
        [Self::NoSecrets, Self::Present, Self::RemovalFailing, Self::Gone]
            .into_iter()
            .find(|copy| copy.as_str() == text)
            .unwrap_or_default()
    }

    /// Whether nothing of it can be left in the API server.
    pub const fn is_settled(self) -> bool {
        matches!(self, Self::NoSecrets | Self::Gone)
    }
}
