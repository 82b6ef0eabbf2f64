//! Servers and proofs that the tests of this tier own.

pub mod aws_faults;
pub mod azure;
mod canned;
mod clouds;
pub mod double;
mod fault_proxy;
pub mod google;
pub mod moto;
mod proofs;

pub use canned::{Canned, Reply};
pub use clouds::{clouds, operator};
pub use fault_proxy::{Fault, FaultProxy};
pub use proofs::{ApiTokens, FixedProofs};
