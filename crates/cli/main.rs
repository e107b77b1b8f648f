//! The `ocib` command.
fn main() {}
