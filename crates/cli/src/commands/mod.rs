//! The commands, a file each: what they take, and how what the library says is shown.

pub mod compact;
pub mod config;
pub mod export;
pub mod journal;
pub mod ls;
pub mod pin;
pub mod plan;
pub mod prune;
pub mod request;
pub mod rm;
pub mod rules;
pub mod schedule;
pub mod show;
pub mod verify;
