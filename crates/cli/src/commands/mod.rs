//! The commands, a file each: what they take, and how what the library says is shown.

pub mod config;
