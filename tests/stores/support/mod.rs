//! Servers and proofs that the tests of this tier own.

#[cfg(feature = "aws")]
pub mod aws_faults;
pub mod azure;
mod canned;
pub mod double;
pub mod google;
#[cfg(feature = "aws")]
pub mod moto;
mod proofs;

pub use canned::{Canned, Reply};
pub use proofs::{ApiTokens, FixedProofs};
