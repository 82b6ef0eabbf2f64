//! What an error answer of the API server means.

use std::time::Duration;

use kube::core::Status;

/// An error answer: its code and the server's own words.
#[derive(Clone, Debug)]
pub struct ApiAnswer {
    /// The HTTP status.
    pub code: u16,
    /// The machine-readable reason.
    pub reason: String,
    /// The server's words. They name fields and policies; a request's body is never repeated in them but for Pods.
    pub message: String,
    /// How long the server wants to be left alone, where it said so.
    pub retry_after: Option<Duration>,
}

impl From<Status> for ApiAnswer {
    fn from(status: Status) -> Self {
        let retry_after = retry_after(&status);
        Self { code: status.code, reason: status.reason, message: status.message, retry_after }
    }
}

/// How long the server wants to be left alone, where it said so.
pub fn retry_after(status: &Status) -> Option<Duration> {
    let seconds = status.details.as_ref()?.retry_after_seconds;
    (seconds > 0).then(|| Duration::from_secs(seconds.into()))
}

/// What is to be done about an error answer to a create.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Something stands under the name already.
    Exists,
    /// A quota has no room.
    Quota,
    /// The namespace is going away, or gone.
    NamespaceGone,
    /// Trying again does not help.
    Refused,
    /// Trying again may help.
    Transient,
}

/// Sorts an error answer to a create.
pub fn classify(answer: &ApiAnswer) -> Class {
    match (answer.code, answer.reason.as_str()) {
        (409, "AlreadyExists") => Class::Exists,
        // A quota that was just made has not counted yet.
        (403, _) if ["exceeded quota", "status unknown for quota"].iter().any(|text| answer.message.contains(text)) => {
            Class::Quota
        }
        // Every namespace gets it; a new one a moment after what came with it.
        (403, _) if answer.message.contains("serviceaccount \"default\" not found") => Class::Transient,
        // An API server that has just started, while an admission plugin has not read what it needs.
        (403, _) if answer.message.contains("not yet ready to handle request") => Class::Transient,
        (403, _) if answer.message.contains("because it is being terminated") => Class::NamespaceGone,
        (404, _) => Class::NamespaceGone,
        (400 | 403 | 422, _) => Class::Refused,
        _ => Class::Transient,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_apart() {
        let answer = |code, reason: &str, message: &str| ApiAnswer {
            code,
            reason: reason.into(),
            message: message.into(),
            retry_after: None,
        };
        for (given, class) in [
            (answer(409, "AlreadyExists", "pods \"x\" already exists"), Class::Exists),
            (answer(409, "Conflict", "the object has been modified"), Class::Transient),
            (answer(403, "Forbidden", "pods \"x\" is forbidden: exceeded quota: q, requested: pods=1"), Class::Quota),
            (
                answer(403, "Forbidden", "pods \"x\" is forbidden: status unknown for quota: q, resources: pods"),
                Class::Quota,
            ),
            (
                answer(
                    403,
                    "Forbidden",
                    "error looking up service account a/default: serviceaccount \"default\" not found",
                ),
                Class::Transient,
            ),
            (
                answer(403, "Forbidden", "error looking up service account a/bot: serviceaccount \"bot\" not found"),
                Class::Refused,
            ),
            (
                answer(403, "Forbidden", "unable to create new content in namespace a because it is being terminated"),
                Class::NamespaceGone,
            ),
            (answer(403, "Forbidden", "pods \"x\" is forbidden: not yet ready to handle request"), Class::Transient),
            (answer(404, "NotFound", "namespaces \"a\" not found"), Class::NamespaceGone),
            (answer(403, "Forbidden", "violates PodSecurity \"restricted:latest\""), Class::Refused),
            (answer(422, "Invalid", "spec.containers[0].image: Required value"), Class::Refused),
            (answer(500, "InternalError", "etcd"), Class::Transient),
            (answer(429, "TooManyRequests", "slow down"), Class::Transient),
        ] {
            assert_eq!(classify(&given), class, "{given:?}");
        }
    }
}
