//! What AWS says when it does not answer a question. Decided by its codes: its own statuses are the same for most of
//! them. Its texts end here.

use std::error::Error;
use std::time::Duration;

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use crate::stores::http::trouble_of;
use crate::stores::{Stage, StoreError};

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The store's credentials are none, or no more.
    SignIn,
    /// Nothing is under the name.
    Missing,
    /// The secret is there, the asked version or stage of it is not.
    NoVersion,
    /// The secret is in a state that forbids this: it is marked for deletion, as a rule.
    State,
    /// The name is taken.
    Exists,
    /// The store's role may not do this.
    Denied,
    /// It may not use the key that the value is encrypted with, or that key is off.
    Key,
    /// A question that AWS cannot take.
    Invalid,
    /// A quota of the secret or the account is used up.
    Limit,
    /// AWS as such is in the way.
    Backend(StoreError),
    /// What came is no answer of AWS.
    Lies,
}

impl Trouble {
    pub(super) fn of<E>(error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        // Our own client has found words already.
        if let Some(own) = own(error) {
            return match own {
                StoreError::Malformed(_) => Self::Lies,
                other => Self::Backend(other.clone()),
            };
        }
        let response = error.raw_response();
        let retry_after =
            response.and_then(|response| response.headers().get("retry-after")?.parse().ok()).map(Duration::from_secs);
        match error {
            SdkError::ServiceError(refused) => {
                let meta = refused.err().meta();
                let known = meta.code().and_then(|code| Self::of_code(code, meta.message(), retry_after));
                known.unwrap_or_else(|| {
                    let status = response.map_or(0, |response| response.status().as_u16());
                    trouble_of(status, retry_after).map_or(Self::Lies, Self::Backend)
                })
            }
            SdkError::ResponseError(_) => Self::Lies,
            SdkError::TimeoutError(_) | SdkError::DispatchFailure(_) => {
                Self::Backend(StoreError::unavailable(Stage::Answer, "the question to AWS broke off"))
            }
            // The question was never sent.
            _ => Self::Invalid,
        }
    }

    /// What a code means; none where it is not known. The message decides between words only.
    pub(super) fn of_code(code: &str, message: Option<&str>, retry_after: Option<Duration>) -> Option<Self> {
        Some(match code {
            "ResourceNotFoundException" => {
                let of_version =
                    message.is_some_and(|text| text.contains("staging label") || text.contains("VersionId"));
                if of_version { Self::NoVersion } else { Self::Missing }
            }
            "InvalidRequestException" => Self::State,
            "ResourceExistsException" => Self::Exists,
            "AccessDeniedException" | "AccessDenied" | "NotAuthorized" => Self::Denied,
            "DecryptionFailure" | "DecryptionFailureException" | "EncryptionFailure" | "KMSAccessDeniedException" => {
                Self::Key
            }
            "InvalidParameterException" | "ValidationException" | "ValidationError" | "InvalidNextTokenException" => {
                Self::Invalid
            }
            "LimitExceededException" => Self::Limit,
            "ThrottlingException"
            | "Throttling"
            | "ThrottledException"
            | "RequestLimitExceeded"
            | "TooManyRequestsException"
            | "SlowDown" => Self::Backend(StoreError::Throttled { retry_after }),
            "InternalServiceError"
            | "InternalServiceErrorException"
            | "InternalFailure"
            | "InternalServerError"
            | "ServiceUnavailable"
            | "ServiceUnavailableException" => Self::Backend(StoreError::unavailable(
                Stage::Answer,
                "AWS failed at this question, not at what it asks",
            )),
            "ExpiredTokenException"
            | "ExpiredToken"
            | "UnrecognizedClientException"
            | "InvalidClientTokenId"
            | "InvalidSignatureException"
            | "SignatureDoesNotMatch"
            | "IncompleteSignature"
            | "IncompleteSignatureException"
            | "MissingAuthenticationToken"
            | "MissingAuthenticationTokenException"
            | "RequestExpired"
            | "OptInRequired"
            | "AuthFailure" => Self::SignIn,
            _ => return None,
        })
    }

    /// The batch call as such is no use, and the single one may be.
    pub(super) const fn is_of_batch(&self) -> bool {
        !matches!(self, Self::SignIn | Self::Backend(_))
    }

    /// What a reader is told.
    pub(super) fn of_read(self, id: &str) -> StoreError {
        match self {
            Self::Missing => StoreError::NotFound(format!("AWS has no secret {id:?}, or no value for it")),
            Self::NoVersion => StoreError::NotFound(format!(
                "AWS has the secret {id:?} without this version: it was never made, was deleted, or is still pending"
            )),
            Self::State => StoreError::NotFound(format!(
                "the secret {id:?} is scheduled for deletion in AWS: `aws secretsmanager restore-secret` brings it back"
            )),
            Self::Denied => StoreError::Denied(format!(
                "AWS does not let the store's role read {id:?}: allow it secretsmanager:GetSecretValue there"
            )),
            Self::Key => StoreError::Denied(format!(
                "the store's role cannot use the KMS key of {id:?}: allow it kms:Decrypt, and see that the key is on"
            )),
            Self::Invalid => StoreError::Malformed(format!("AWS does not take the question for {id:?}")),
            other => other.of_other(),
        }
    }

    /// What somebody who writes is told. `action` is the right that it takes.
    pub(super) fn of_write(self, id: &str, action: &str) -> StoreError {
        match self {
            Self::Missing | Self::NoVersion => StoreError::NotFound(format!("AWS has no secret {id:?}")),
            Self::State => StoreError::NotFound(format!(
                "the secret {id:?} is scheduled for deletion in AWS: restore it, or wait until it is gone"
            )),
            Self::Exists => StoreError::Conflict(format!("AWS has a secret {id:?} already")),
            Self::Denied => StoreError::Denied(format!("AWS does not let these credentials do {action} at {id:?}")),
            Self::Key => StoreError::Denied(format!("these credentials cannot use the KMS key of {id:?}")),
            Self::Invalid => StoreError::Malformed(format!("AWS does not take this for {id:?}")),
            other => other.of_other(),
        }
    }

    fn of_other(self) -> StoreError {
        match self {
            Self::SignIn => StoreError::unavailable(
                Stage::SignIn,
                "AWS refuses the store's credentials, fresh ones too: compare signIn, roleARN and region, and the \
                 operator's clock",
            ),
            Self::Backend(error) => error,
            Self::Limit => StoreError::Unsupported("a quota of AWS for this secret or account is used up".into()),
            _ => StoreError::Malformed("the answer is not one of AWS'".into()),
        }
    }
}

/// The error of our own client somewhere below the SDK's.
fn own<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a StoreError> {
    std::iter::successors(Some(error), |error| (*error).source()).find_map(|error| error.downcast_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_meaning_whatever_the_status() {
        let of =
            |code: &str| Trouble::of_code(code, None, Some(Duration::from_secs(3))).map(|found| found.of_read("x"));
        for (code, expected) in [
            ("ResourceNotFoundException", "NotFound"),
            ("InvalidRequestException", "NotFound"),
            ("AccessDeniedException", "Denied"),
            ("DecryptionFailure", "Denied"),
            ("ThrottlingException", "Throttled"),
            ("InternalServiceError", "Unavailable"),
            ("InvalidParameterException", "Malformed"),
            ("ExpiredTokenException", "Unavailable"),
            ("UnrecognizedClientException", "Unavailable"),
            ("InvalidClientTokenId", "Unavailable"),
            ("SignatureDoesNotMatch", "Unavailable"),
        ] {
            let found = format!("{:?}", of(code).unwrap());
            assert!(found.starts_with(expected), "{code}: {found}");
        }
        assert_eq!(
            of("ThrottlingException"),
            Some(StoreError::Throttled { retry_after: Some(Duration::from_secs(3)) })
        );
        assert_eq!(of("SomethingElse"), None);
    }

    #[test]
    fn a_refused_sign_in_is_the_stores_trouble() {
        let Some(Trouble::SignIn) = Trouble::of_code("ExpiredToken", None, None) else { panic!("not a sign-in") };
        assert!(matches!(Trouble::SignIn.of_read("x"), StoreError::Unavailable { stage: Stage::SignIn, .. }));
        assert!(!Trouble::SignIn.is_of_batch());
        assert!(Trouble::Denied.is_of_batch());
    }
}
