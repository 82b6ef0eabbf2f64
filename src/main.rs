//! The `daypass` program.
fn main() {}
