//! The commands, a file each: what they take, and how what the library says is shown.

pub mod agent;
pub mod alert;
pub mod clean;
pub mod compact;
pub mod config;
pub mod export;
pub mod health;
pub mod journal;
pub mod latest;
pub mod ls;
pub mod nodes;
pub mod pin;
pub mod plan;
pub mod prune;
pub mod rank;
pub mod report;
pub mod request;
pub mod rm;
pub mod rules;
pub mod run;
pub mod schedule;
pub mod show;
pub mod slurm;
pub mod status;
pub mod verify;
