use daypass::secret::SecretValue;

fn main() {
    let value = SecretValue::new(vec![1]);
    assert!(value == SecretValue::new(vec![1]));
}
