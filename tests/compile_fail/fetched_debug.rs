use daypass::stores::Fetched;

fn show(fetched: Fetched) {
    println!("{fetched:?}");
}

fn main() {}
