use daypass::secret::SecretValue;

fn main() {
    let value = SecretValue::new(vec![1]);
    serde_json::to_string(&value).unwrap();
}
