//! Piton: coordinated, asynchronous, verified checkpoints for parallel jobs.

// The derive macros say `::piton`, in this crate's own tests too.
#[cfg(test)]
extern crate self as piton;

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

pub use checkpointer::{
    Builder, CheckpointError, Checkpointer, FinishError, OpenError, Refusal, ResumeError, Resumed, Settled, Summary,
    Tick,
};
pub use piton_derive::{Element, State};
pub use state::{
    Array, ArrayField, DescribeError, DescribeProblem, Element, Fields, Kind, KindError, Outline, OwnedKind, State,
    Unfit, UnfitRow,
};

/// The README's code is compiled with the documentation's.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
