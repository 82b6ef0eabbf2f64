//! The embedded store: ciphertext in `TeamSecret` objects, private keys in files of the operator.

pub mod key;
pub mod keyring;
pub mod seal;
