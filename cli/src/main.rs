//! The keystead binary.

fn main() {}
