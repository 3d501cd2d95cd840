//! Generates the wire code.

fn main() {}
