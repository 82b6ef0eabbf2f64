//! Small helpers over kube.

mod api_error;
mod run_secrets;
mod status;

use std::time::Duration;

pub use api_error::{ApiAnswer, Class, classify, retry_after};
pub use run_secrets::{Deleted, create_run_secret, delete_run_secret};
pub use status::patch_status;

/// How long one call to the API server may take. The client itself has no read timeout.
pub const CALL_DEADLINE: Duration = Duration::from_secs(15);

/// A call to the API server that failed, told without anything that a server or a value could put into it.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The API server refused the call.
    #[error("{what}: the API server answered {code} {reason}")]
    Api {
        /// What was tried.
        what: &'static str,
        /// The HTTP status.
        code: u16,
        /// The machine-readable reason.
        reason: String,
    },
    /// No answer came in time.
    #[error("{what}: no answer within {} s", CALL_DEADLINE.as_secs())]
    Timeout {
        /// What was tried.
        what: &'static str,
    },
    /// The connection failed, or the answer could not be read.
    #[error("{what}: the API server could not be reached or understood")]
    Transport {
        /// What was tried.
        what: &'static str,
    },
}

/// Awaits a call for [`CALL_DEADLINE`] at most.
pub async fn call<T>(
    what: &'static str,
    future: impl Future<Output = Result<T, kube::Error>>,
) -> Result<Result<T, ApiAnswer>, CallError> {
    match tokio::time::timeout(CALL_DEADLINE, future).await {
        Err(_) => Err(CallError::Timeout { what }),
        Ok(Ok(value)) => Ok(Ok(value)),
        Ok(Err(kube::Error::Api(status))) => Ok(Err(ApiAnswer::from(*status))),
        Ok(Err(error)) => {
            tracing::debug!(what, kind = error_kind(&error), "call failed");
            Err(CallError::Transport { what })
        }
    }
}

/// Awaits a call whose every refusal is a failure.
pub async fn must<T>(what: &'static str, future: impl Future<Output = Result<T, kube::Error>>) -> Result<T, CallError> {
    call(what, future).await?.map_err(|answer| CallError::Api { what, code: answer.code, reason: answer.reason })
}

fn error_kind(error: &kube::Error) -> &'static str {
    match error {
        kube::Error::HyperError(_) => "connection",
        kube::Error::Service(_) => "service",
        kube::Error::SerdeError(_) => "answer",
        _ => "other",
    }
}
