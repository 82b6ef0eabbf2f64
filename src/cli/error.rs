//! What goes wrong, said so that people know what to type next, and the exit code that programs see.

use kube::core::Status;

/// The exit codes. They are part of the interface: `docs/cli.md` and `--help` list them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Something else went wrong.
    Failure = 1,
    /// The command line, or a value given to it, is not usable.
    Usage = 2,
    /// Something that was named is not there.
    NotFound = 3,
    /// The API server refused: no sign-in, no right, or an admission policy.
    Denied = 4,
    /// It exists already, or somebody changed it at the same time.
    Conflict = 5,
    /// The API server cannot be reached or is overloaded.
    Unreachable = 6,
    /// The question was answered with no.
    Declined = 7,
    /// An evaluation was refused, ended, or has benchmarks without a score.
    NotSucceeded = 8,
    /// An evaluation's numbers are not what its `expect` asks for.
    NotAsExpected = 9,
}

/// The exit codes as `--help` shows them.
pub const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failure (also: `store check` of a store that is not ready)
  2  usage: the command line or a value is not usable
  3  not found
  4  denied: not signed in, no right, or refused by an admission policy
  5  conflict: exists already, or was changed by somebody else
  6  the API server cannot be reached
  7  declined: the question was answered with no
  8  an evaluation did not succeed, or would be refused
  9  an evaluation's numbers are not what its `expect` asks for";

/// An error as people see it. Never holds a value of a secret.
#[derive(Debug)]
pub struct CliError {
    /// The exit code.
    pub exit: Exit,
    /// What is wrong.
    pub message: String,
    /// What to do about it, if that is known.
    pub hint: Option<String>,
}

/// The result of everything in the command line tool.
pub type Result<T, E = CliError> = std::result::Result<T, E>;

impl CliError {
    /// An error without a hint.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hint: None }
    }

    /// A failure of no special kind.
    pub fn failure(message: impl Into<String>) -> Self {
        Self::new(Exit::Failure, message)
    }

    /// The command line, or a value given to it, is not usable.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// Something that was named is not there.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Exit::NotFound, message)
    }

    /// It exists already, or somebody changed it at the same time.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(Exit::Conflict, message)
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl std::fmt::Display for CliError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\n  {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for CliError {}

/// The rights that a call needs, so that a refusal can name them.
#[derive(Clone, Copy, Debug)]
pub enum Needs<'a> {
    /// What members of the namespace have.
    Member(&'a str),
    /// What a team's admin has in the namespace.
    TeamAdmin(&'a str),
    /// Rights on Roles and their bindings in the namespace, and `use` to hand on.
    Grants(&'a str),
    /// What a cluster admin has.
    ClusterAdmin,
    /// What every signed-in user has.
    Nothing,
}

impl Needs<'_> {
    fn hint(self) -> Option<String> {
        match self {
            Self::Member(namespace) => Some(format!(
                "this needs the role `daypass-member` in namespace {namespace} (part of `edit` and `admin`): ask an admin \
                 of that namespace, or choose another with -n"
            )),
            Self::TeamAdmin(namespace) => Some(format!(
                "this needs the role `daypass-team-admin` in namespace {namespace} (part of `admin`): ask an admin of that \
                 namespace, or choose another with -n"
            )),
            Self::Grants(namespace) => Some(format!(
                "this needs the role `admin` in namespace {namespace} (Roles, RoleBindings, and `use` to hand on): ask an \
                 admin of that namespace, or choose another with -n"
            )),
            Self::ClusterAdmin => Some("this needs a cluster admin's rights".into()),
            Self::Nothing => None,
        }
    }
}

/// Says what a failed call means. `doing` completes "cannot ...".
pub fn api_error(doing: &str, needs: Needs<'_>, error: &kube::Error) -> CliError {
    match error {
        kube::Error::Api(status) => status_error(doing, needs, status),
        kube::Error::Auth(error) => CliError::new(Exit::Denied, format!("cannot sign in to the API server: {error}")),
        kube::Error::SerdeError(_) | kube::Error::FromUtf8(_) => {
            // The parser's text may quote the answer, and the answer may be a Secret.
            CliError::failure(format!("cannot {doing}: the API server's answer is not understood"))
        }
        other => CliError::new(Exit::Unreachable, format!("cannot {doing}: {}", causes(other)))
            .hint("check the address in your kubeconfig (`kubectl cluster-info`), or choose another with --context"),
    }
}

fn status_error(doing: &str, needs: Needs<'_>, status: &Status) -> CliError {
    let text = format!("cannot {doing}: {}", status.message);
    match status.code {
        401 => CliError::new(Exit::Denied, format!("cannot {doing}: the API server does not know you"))
            .hint("sign in again, or choose another context with --context"),
        403 | 422 if is_admission(status) => CliError::new(Exit::Denied, text),
        403 => {
            let error = CliError::new(Exit::Denied, text);
            match needs.hint() {
                Some(hint) => error.hint(hint),
                None => error,
            }
        }
        404 if is_unknown_kind(status) => {
            CliError::new(Exit::NotFound, format!("cannot {doing}: this cluster does not know Daypass's kinds"))
                .hint("ask a cluster admin to install Daypass (`helm install`), or choose another with --context")
        }
        404 => CliError::not_found(text),
        409 => CliError::conflict(text),
        429 | 500..=599 => CliError::new(Exit::Unreachable, text).hint("try again in a moment"),
        _ => CliError::failure(text),
    }
}

fn is_admission(status: &Status) -> bool {
    status.message.contains("ValidatingAdmissionPolicy") || status.message.contains("admission webhook")
}

/// A path that the API server does not serve is answered without naming any object.
fn is_unknown_kind(status: &Status) -> bool {
    status.details.as_ref().is_none_or(|details| details.name.is_empty())
}

/// The chain of causes in one line: "client error (Connect): tcp connect error: connection refused".
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

/// Whether the call failed because the object is not there.
pub fn is_not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404 && !is_unknown_kind(status))
}

/// Whether the caller has no right to the call.
pub fn is_forbidden(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 403)
}

/// Whether the object exists already (create) or was changed meanwhile (write with a resource version).
pub fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

#[cfg(test)]
mod tests {
    use kube::core::response::StatusDetails;

    use super::*;

    fn status(code: u16, message: &str, name: &str) -> kube::Error {
        let mut status = Status::failure(message, "");
        status.code = code;
        status.details = Some(StatusDetails {
            name: name.into(),
            group: String::new(),
            kind: String::new(),
            uid: String::new(),
            causes: Vec::new(),
            retry_after_seconds: 0,
        });
        kube::Error::Api(status.boxed())
    }

    #[test]
    fn each_answer_has_its_exit_code() {
        for (code, exit) in [
            (400, Exit::Failure),
            (401, Exit::Denied),
            (403, Exit::Denied),
            (404, Exit::NotFound),
            (409, Exit::Conflict),
            (422, Exit::Failure),
            (429, Exit::Unreachable),
            (503, Exit::Unreachable),
        ] {
            let error = api_error("read the secret", Needs::TeamAdmin("ml"), &status(code, "no", "x"));
            assert_eq!(error.exit, exit, "{code}");
        }
    }

    #[test]
    fn a_refusal_names_the_role_unless_a_policy_refused() {
        let plain = api_error("set the secret", Needs::TeamAdmin("ml"), &status(403, "forbidden", "x")).to_string();
        assert!(plain.contains("`daypass-team-admin` in namespace ml"), "{plain}");
        let policy = status(403, "ValidatingAdmissionPolicy 'daypass-by' denied request: by must be amy", "x");
        let policy = api_error("set the secret", Needs::TeamAdmin("ml"), &policy).to_string();
        assert!(policy.contains("by must be amy") && !policy.contains("daypass-team-admin"), "{policy}");
    }

    #[test]
    fn a_cluster_without_daypass_is_told_apart_from_a_missing_object() {
        let missing = api_error("read the secret", Needs::Nothing, &status(404, "not found", "x")).to_string();
        assert!(!missing.contains("helm install"), "{missing}");
        let unknown = api_error("read the secret", Needs::Nothing, &status(404, "not found", "")).to_string();
        assert!(unknown.contains("helm install"), "{unknown}");
        assert!(!is_not_found(&status(404, "not found", "")));
    }
}
