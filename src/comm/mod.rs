//! How the ranks of a job agree: the [`Communicator`] trait and its kinds.
//!
//! Comes in: small contributions of every rank. Goes out: the same answer on every rank, or an error.
//! What must hold: no call blocks longer than its deadline; every rank enters the same collective calls in the same order;
//! all calls are made from the application's own thread; after [`CommError::Lost`] nothing collective is entered again.

use std::time::Duration;
use thiserror::Error;

#[cfg(feature = "mpi")]
pub mod mpi;
mod solo;
pub mod threads;
pub use solo::Solo;

/// How many numbers one reduction carries.
pub const ROUND_WIDTH: usize = 20;

/// What every rank contributes to a reduction, and what comes out of it: the greatest of each number over all ranks.
pub type Round = [i64; ROUND_WIDTH];

/// Why a collective call had no answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CommError {
    /// A rank did not take part in time: it died, hangs, or is further behind than the deadline allows. Nothing
    /// collective may follow on this communicator.
    #[error(
        "rank {rank} of {size} had no answer from the others within {waited:?} in {what}; a rank has died or hangs"
    )]
    Lost {
        /// The rank that waited.
        rank: usize,
        /// The number of ranks.
        size: usize,
        /// What it waited for.
        what: &'static str,
        /// How long.
        waited: Duration,
    },
    /// The communication library refused a call.
    #[error("rank {rank}: {call} failed: {message} (code {code})")]
    Refused {
        /// The rank that called.
        rank: usize,
        /// The call.
        call: &'static str,
        /// Its return code.
        code: i32,
        /// What the library says about the code.
        message: String,
    },
    /// The communication library is not running: not yet initialised, or already finalised.
    #[error("{0}; open the checkpointer after MPI is initialised and finish it before MPI is finalised")]
    NotRunning(&'static str),
}

/// The ranks of a job, as one of them sees the others.
///
/// A communicator belongs to the thread that made it. At most one reduction is in flight.
pub trait Communicator: std::fmt::Debug {
    /// This rank, from 0.
    fn rank(&self) -> usize;

    /// The number of ranks.
    fn size(&self) -> usize;

    /// The ranks that run on this rank's node, itself among them, in order.
    fn node_ranks(&self) -> &[usize];

    /// How many ranks run on this rank's node, itself among them.
    fn ranks_on_node(&self) -> usize {
        self.node_ranks().len()
    }

    /// How many nodes the ranks run on.
    fn nodes(&self) -> usize;

    /// Starts a reduction to the greatest of each number over all ranks. Collective; returns at once.
    ///
    /// # Errors
    /// [`CommError`] where it could not be started.
    fn start_max(&mut self, contribution: Round) -> Result<(), CommError>;

    /// The result of the reduction in flight, or `None` where it is not there yet.
    ///
    /// # Errors
    /// [`CommError`].
    fn test_max(&mut self) -> Result<Option<Round>, CommError>;

    /// Waits for the reduction in flight, at most `deadline` long.
    ///
    /// # Errors
    /// [`CommError::Lost`] at the deadline, and others.
    fn wait_max(&mut self, deadline: Duration) -> Result<Round, CommError>;

    /// Gives every rank the bytes of rank `root`. Collective.
    ///
    /// # Errors
    /// [`CommError::Lost`] at the deadline, and others.
    fn broadcast(&mut self, root: usize, bytes: Vec<u8>, deadline: Duration) -> Result<Vec<u8>, CommError>;

    /// Gives back what the communicator holds of the communication library. Collective; called once, last.
    ///
    /// # Errors
    /// [`CommError`].
    fn release(&mut self) -> Result<(), CommError>;

    /// A reduction from start to result. Collective.
    ///
    /// # Errors
    /// [`CommError::Lost`] at the deadline, and others.
    fn max(&mut self, contribution: Round, deadline: Duration) -> Result<Round, CommError> {
        self.start_max(contribution)?;
        self.wait_max(deadline)
    }
}

/// What `Checkpointer::builder(…).open` takes: anything that a communicator of ours can be made from.
pub trait IntoCommunicator {
    /// The communicator made.
    type Communicator: Communicator + 'static;

    /// Makes it. Collective over the ranks.
    ///
    /// # Errors
    /// [`CommError`].
    fn into_communicator(self) -> Result<Self::Communicator, CommError>;
}
