//! A secret's value in memory.

use zeroize::Zeroizing;

/// The bytes of a secret.
///
/// They cannot be printed, compared, copied or serialized, and [`SecretValue::expose`] is the only door to them, so a
/// search for its callers finds every place where a value is used. The memory is overwritten on drop. That is best
/// effort: the buffers of TLS, HTTP and JSON libraries keep copies that nothing here reaches.
pub struct SecretValue(Zeroizing<Vec<u8>>);

impl SecretValue {
    /// Takes the bytes over. A caller that built them piece by piece may have left copies behind where its buffer grew.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes, for the one use at hand. They must not reach a log, an error, a status or an argument list.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::SecretValue;

    #[test]
    fn a_value_is_the_bytes_that_were_given() {
        assert_eq!(SecretValue::new(vec![0, 255, b'x']).expose(), [0, 255, b'x']);
    }
}
