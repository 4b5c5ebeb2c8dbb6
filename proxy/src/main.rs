//! The `pgweir` binary.
fn main() {}
