//! Piton: coordinated, asynchronous, verified checkpoints for parallel jobs.

pub mod comm;
pub mod config;
pub mod ids;
pub mod journal;
pub mod medium;
pub mod reader;
pub mod shard;
pub mod state;
pub mod store;

mod checkpointer;
mod freeze;
