use daypass::stores::sealed::key::PrivateKey;

fn main() {
    println!("{:?}", PrivateKey::generate());
}
