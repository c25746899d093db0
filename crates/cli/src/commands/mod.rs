//! The commands, a file each: what they take, and how what the library says is shown.

pub mod config;
pub mod ls;
pub mod show;
pub mod verify;
