//! Servers and proofs that the tests of this tier own.

mod canned;
mod proofs;

pub use canned::{Canned, Reply};
pub use proofs::{ApiTokens, FixedProofs};
