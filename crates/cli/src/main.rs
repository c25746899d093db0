//! The program `piton`.
fn main() {}
