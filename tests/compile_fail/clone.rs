use daypass::secret::SecretValue;

fn main() {
    let value = SecretValue::new(vec![1]);
    let _copy = value.clone();
}
