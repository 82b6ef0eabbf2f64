use daypass::secret::SecretValue;

fn main() {
    let value = SecretValue::new(vec![1]);
    println!("{value:?}");
}
