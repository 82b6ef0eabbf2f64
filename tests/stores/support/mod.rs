//! Servers and proofs that the tests of this tier own.

pub mod azure;
mod canned;
pub mod double;
pub mod google;
mod proofs;

pub use canned::{Canned, Reply};
pub use proofs::{ApiTokens, FixedProofs};
