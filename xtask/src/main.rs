//! Tasks of the project: `cargo xtask --help`.

mod generate;

fn main() -> anyhow::Result<()> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(std::path::Path::new("."));
    generate::run(root, false)
}
