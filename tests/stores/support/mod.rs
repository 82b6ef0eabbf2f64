//! What the tests of all backends share.

pub mod azure;
pub mod double;
pub mod google;
