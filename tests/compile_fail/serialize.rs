use daypass::secret::SecretValue;

fn write_out<T: serde::Serialize>(_: T) {}

fn main() {
    write_out(SecretValue::new(vec![1]));
}
