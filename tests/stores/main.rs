//! The tier `stores`: backends against real servers, and against servers that fail on purpose.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[cfg(feature = "aws")]
mod aws;

mod support {
    #[cfg(feature = "aws")]
    pub mod aws_faults;
    #[cfg(feature = "aws")]
    pub mod moto;
}
