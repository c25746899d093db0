//! Piton: coordinated, asynchronous, verified checkpoints for parallel jobs.
//!
//! A simulation describes its state once ([`State`]), opens a session ([`Checkpointer`]), asks it where to start
//! ([`Checkpointer::resume`]) and calls [`Checkpointer::tick`] once a time step. The ranks agree on a step, copy their state
//! together, and go on computing while the copies are compressed, checksummed, written and committed behind them.
//!
//! ```no_run
//! use piton::{Checkpointer, State, comm::Solo};
//!
//! #[derive(State)]
//! struct Plate { temperature: Vec<f64>, time: f64 }
//! # impl Plate { fn advance(&mut self) {} }
//!
//! let mut plate = Plate { temperature: vec![0.0; 1 << 20], time: 0.0 };
//! let mut checkpointer = Checkpointer::builder("plate").args(std::env::args()).open(Solo::default())?;
//! let mut step = checkpointer.resume(&mut plate)?.map_or(0, |at| at.step);
//! while step < 100_000 {
//!     plate.advance();
//!     step += 1;
//!     if checkpointer.tick(step, &mut plate).should_stop() {
//!         break;
//!     }
//! }
//! checkpointer.finish(&mut plate)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Where to look
//!
//! | for | see |
//! | --- | --- |
//! | describing arrays, values, blocks of global arrays, files that grow | [`State`], [`Fields`], [`mod@state`] |
//! | arrays of which little changes between checkpoints | [`PagedVec`] |
//! | ranks of MPI (feature `mpi`), one process, ranks as threads for tests | [`comm`] |
//! | settings, and where each comes from | [`config`] |
//! | reading checkpoints without the application | [`reader`] |
//! | what happened to a job | [`journal`] |
//! | when checkpoints are taken, and what any interval wastes | [`schedule`] |
//! | where checkpoints live, and what a crash can't do to them | [`store`], [`medium`] |
//! | whether ranks and nodes are well | [`watch`] |
//! | what a supervisor hands to ranks | [`supervised`] |
//! | the bytes of a shard | [`shard`] |
//!
//! # Features
//!
//! - `mpi`: ranks of an MPI job, for OpenMPI or MPICH. Needs an MPI and libclang when it is built.
//! - `ndarray`: `ndarray::Array` as fields.

// The derive macros say `::piton`, in this crate's own tests too.
#[cfg(test)]
extern crate self as piton;

pub mod comm;
pub mod config;
pub mod ids;
pub mod journal;
pub mod medium;
pub mod reader;
pub mod schedule;
pub mod shard;
pub mod state;
pub mod store;
pub mod supervised;
pub mod watch;

mod checkpointer;
mod freeze;

pub use checkpointer::{
    Builder, CheckpointError, Checkpointer, FinishError, OpenError, Phases, Refusal, ResumeError, Resumed, Settled,
    Summary, Tick,
};
pub use freeze::{PagedVec, TrackingUnavailable, tracking_available};
pub use piton_derive::{Element, State};
pub use state::{
    Array, ArrayField, DescribeError, DescribeProblem, Element, Fields, Kind, KindError, Outline, OwnedKind, State,
    Unfit, UnfitRow,
};

/// The README's code is compiled with the documentation's.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
