//! The life of the keys as a pure decision: from what can be observed of them to the one next step and to what runs are
//! told. No client and no clock in it.
//!
//! A key is listed once it opens: from its file, or from the memory of the process that made it and was told that it is
//! stored. So whatever is listed was stored once, and a listed key that does not open is late or lost. What is lost is
//! never replaced by itself: new keys would hide the loss and open nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use super::key::{KeyId, PublicKey};
use super::keyring::BadFile;

/// The Secret that holds the private keys.
pub const KEYS_SECRET: &str = "daypass-keys";
/// Its type.
pub const KEYS_SECRET_TYPE: &str = "daypass.dev/keys";
/// The ConfigMap that lists the public keys.
pub const PUBLIC_KEYS: &str = "daypass-public-keys";

/// Whether sealed values can be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Not all keys are known yet. What is live opens; the rest is to be asked again. The text says what is awaited.
    Waiting(String),
    /// Every listed key opens.
    Ready,
    /// A key is gone. Sealed stores are closed until somebody mends it. The text says how.
    KeyLost(String),
}

/// What became of the attempt to store a key that this process made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Create {
    /// Not tried yet.
    NotTried,
    /// The API server said that it is stored.
    Created,
    /// There is such a Secret already: another's, or our own whose answer was lost.
    Exists,
    /// No answer came, or one that says nothing: it may be stored or not.
    Lost,
    /// The API server refused, with this HTTP status.
    Refused(u16),
}

/// The key that this process made and holds in memory.
#[derive(Clone, Debug)]
pub struct Made {
    /// Its name.
    pub id: KeyId,
    /// Its public half.
    pub public: PublicKey,
    /// Whether it is stored.
    pub create: Create,
}

/// What is known of the keys at one moment.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The keys whose files open.
    pub files: BTreeMap<KeyId, PublicKey>,
    /// The files that are no keys.
    pub bad: Vec<BadFile>,
    /// The key in memory.
    pub made: Option<Made>,
    /// What the ConfigMap lists: nothing where there is none. `None`: it could not be read.
    pub listed: Option<BTreeMap<String, String>>,
    /// Whether there is any `TeamSecret` at all. `None`: not asked, or not answered.
    pub team_secrets: Option<bool>,
    /// For how long something has been missing, with no break.
    pub missing_for: Duration,
}

/// The one next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// There is none: look again later.
    Nothing,
    /// Ask whether there is any `TeamSecret`.
    AskForTeamSecrets,
    /// Store the key in memory, which is made first if there is none.
    CreateKey,
    /// Put these entries into the ConfigMap; what else it has stays.
    Publish(BTreeMap<String, String>),
}

/// What is to be done, and what to say meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The step.
    pub step: Step,
    /// What runs are told.
    pub health: Health,
    /// Something is missing that may still come: its time counts.
    pub missing: bool,
    /// The key in memory is no longer needed: files have come.
    pub forget_made: bool,
}

/// Decides. `grace` is for how long files may be late: a kubelet brings a volume up to date within about 2 minutes.
pub fn plan(observed: &Observed, grace: Duration) -> Plan {
    let Observed { files, made, .. } = observed;
    let late = observed.missing_for >= grace;
    let mut live = files.clone();
    // Before the files show, a stored key counts as if they had. Afterwards only files do, so that a loss is seen.
    let forget_made = made.is_some() && !files.is_empty();
    if let Some(Made { id, public, create: Create::Created }) = made
        && !forget_made
    {
        live.insert(id.clone(), public.clone());
    }
    let stay = |health, missing| Plan { step: Step::Nothing, health, missing, forget_made };

    let Some(listed) = &observed.listed else {
        return stay(Health::Waiting(format!("the ConfigMap {PUBLIC_KEYS} cannot be read")), false);
    };
    let unlisted: BTreeMap<String, String> = live
        .iter()
        .map(|(id, public)| (id.to_string(), public.to_base64()))
        // A value that is not ours under our ID is put right: what is sealed to it would not open.
        .filter(|(id, public)| listed.get(id) != Some(public))
        .collect();
    let publish = if unlisted.is_empty() { Step::Nothing } else { Step::Publish(unlisted) };
    let missing: Vec<&str> =
        listed.keys().map(String::as_str).filter(|id| !live.keys().any(|live| live.as_str() == *id)).collect();

    if !missing.is_empty() {
        let ids = missing.join(", ");
        let health = if late { lost(&ids, observed) } else { awaited(&ids) };
        return Plan { step: publish, health, missing: true, forget_made };
    }
    if !live.is_empty() {
        return Plan { step: publish, health: Health::Ready, missing: false, forget_made };
    }
    nothing_known(observed, late)
}

/// No key opens and none is listed: the first start, or a loss with the public part.
fn nothing_known(observed: &Observed, late: bool) -> Plan {
    let plan = |step, health, missing| Plan { step, health, missing, forget_made: false };
    let making = || Health::Waiting("the first key of the sealed store is being made".into());
    match observed.made.as_ref().map(|made| made.create) {
        Some(Create::NotTried | Create::Lost) => return plan(Step::CreateKey, making(), false),
        Some(Create::Refused(code)) => {
            let why = format!("the Secret {KEYS_SECRET} cannot be created: the API server answered {code}");
            return plan(Step::CreateKey, Health::Waiting(why), false);
        }
        // Whose key it is shows with the files; until then ours must not be used.
        Some(Create::Exists | Create::Created) => {
            let why = if late {
                format!(
                    "the Secret {KEYS_SECRET} is there, but no key of it shows: is it mounted, and does it hold \
                     keys?{}",
                    named(&observed.bad)
                )
            } else {
                format!("the Secret {KEYS_SECRET} is there, its files are not yet")
            };
            return plan(Step::Nothing, Health::Waiting(why), true);
        }
        None => {}
    }
    if !observed.bad.is_empty() {
        // Where files are a Secret is: a create would only answer that.
        let why = format!("no file of the Secret {KEYS_SECRET} is a key{}", named(&observed.bad));
        return plan(Step::Nothing, Health::Waiting(why), false);
    }
    match observed.team_secrets {
        None => plan(Step::AskForTeamSecrets, making(), false),
        Some(false) => plan(Step::CreateKey, making(), false),
        Some(true) if late => plan(
            Step::AskForTeamSecrets,
            Health::KeyLost(format!(
                "there are TeamSecrets, but neither a private key nor a listed public one: `daypass key restore FILE` \
                 brings the Secret {KEYS_SECRET} back, `daypass key add` starts anew (every value must be set again)"
            )),
            true,
        ),
        Some(true) => plan(
            Step::AskForTeamSecrets,
            Health::Waiting(format!("there are TeamSecrets: the files of the Secret {KEYS_SECRET} are awaited")),
            true,
        ),
    }
}

fn awaited(ids: &str) -> Health {
    Health::Waiting(format!("the files of these keys are awaited: {ids}"))
}

fn lost(ids: &str, observed: &Observed) -> Health {
    Health::KeyLost(format!(
        "the ConfigMap {PUBLIC_KEYS} lists keys that no file opens: {ids}. `daypass key restore FILE` brings them back, \
         `daypass key add` starts anew (values under a lost key must be set again){}",
        named(&observed.bad)
    ))
}

/// The bad files, as an addition to a message: the first few of them.
fn named(bad: &[BadFile]) -> String {
    if bad.is_empty() {
        return String::new();
    }
    let mut names: Vec<String> = bad.iter().take(3).map(|file| format!("{}: {}", file.name, file.why)).collect();
    if bad.len() > names.len() {
        names.push(format!("{} more", bad.len() - names.len()));
    }
    format!(" (bad files: {})", names.join("; "))
}

#[cfg(test)]
mod tests;
