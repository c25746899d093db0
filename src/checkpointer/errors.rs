//! What the calls of a [`super::Checkpointer`] may answer besides success.

use crate::comm::CommError;
use crate::ids::CheckpointId;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why a checkpointer could not be opened. The same on every rank.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The ranks can't talk to each other.
    #[error(transparent)]
    Communication(#[from] CommError),
    /// Rank 0 found a reason against it, which all ranks are told.
    #[error("{message}")]
    Refused {
        /// What kind of reason.
        refusal: Refusal,
        /// What it is, and what the user can do.
        message: String,
    },
    /// Not every rank could start its background threads.
    #[error("rank {rank} cannot start its background threads: {message}")]
    Threads {
        /// The first such rank.
        rank: usize,
        /// What the system said there.
        message: String,
    },
}

/// Why rank 0 refused to open a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Refusal {
    /// A setting is unknown or nonsense.
    Configuration,
    /// The store can't be used.
    Store,
    /// There are committed checkpoints, and neither `--resume` nor `--fresh` was given.
    CheckpointsPresent,
    /// An older attempt of the job still runs.
    StillRunning,
}

/// Why a job was not resumed. The same on every rank.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ResumeError {
    /// The ranks can't talk to each other any more.
    #[error(transparent)]
    Communication(#[from] CommError),
    /// The application's description of its state is at fault.
    #[error("rank {rank}: {message}")]
    Describe {
        /// The first rank that says so.
        rank: usize,
        /// What is wrong.
        message: String,
    },
    /// The state saved is not one that this application can take.
    #[error("checkpoint {id} does not fit this program on rank {rank}: {message}")]
    Unfit {
        /// The checkpoint.
        id: CheckpointId,
        /// The first rank on which it does not.
        rank: usize,
        /// What was expected, and what was found.
        message: String,
    },
    /// Checkpoints are there, but can't be read just now, or not by this program.
    #[error("{0}")]
    Refused(String),
}

/// Why a checkpoint that the application asked for was not taken.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The ranks can't talk to each other any more.
    #[error(transparent)]
    Communication(#[from] CommError),
    /// The ranks called at different steps.
    #[error("ranks asked for a checkpoint at different steps ({min} to {max}); ask at the same step on every rank")]
    OutOfStep {
        /// The lowest step of a rank.
        min: u64,
        /// The highest.
        max: u64,
    },
    /// Something is still in flight, and did not settle in time.
    #[error("checkpoint {0} is still being written; the file system may hang")]
    Busy(CheckpointId),
    /// This rank could not freeze its state.
    #[error("checkpoint {id} has no part of this rank: {message}")]
    Freeze {
        /// The checkpoint, which is dropped.
        id: CheckpointId,
        /// Why.
        message: String,
    },
}

/// Why the end of a job is not on record. The application's own results are not affected. The same on every rank, except
/// after [`FinishError::Communication`].
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FinishError {
    /// The ranks can't talk to each other any more.
    #[error("{0}; the final state was not saved, earlier checkpoints stand")]
    Communication(#[from] CommError),
    /// The final checkpoint was not committed.
    #[error("the final checkpoint was not committed: {0}; earlier checkpoints stand")]
    NotCommitted(String),
    /// The ranks ended at different steps.
    #[error(
        "the ranks ended at different steps ({min} to {max}): the final state was not saved, earlier checkpoints stand"
    )]
    OutOfStep {
        /// The lowest step of a rank.
        min: u64,
        /// The highest.
        max: u64,
    },
}
