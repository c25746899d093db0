//! The small records around checkpoints: what an attempt resumed from, what it set aside, what is suspect, that a job has finished, what
//! users pinned and asked for.
//!
//! What must hold: each is a sealed document, written once, under a name that says what it is about; an unreadable one is
//! reported and otherwise treated as absent, since none of them is needed to restore a checkpoint.

use crate::ids::CheckpointName;
use serde::{Deserialize, Serialize};

/// Version of all records here.
pub(super) const RECORD_VERSION: u32 = 1;

/// What an attempt resumed from. Written before its first step, in the attempt's own folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResumedFrom {
    /// The checkpoint.
    pub checkpoint: CheckpointName,
    /// Its step.
    pub step: u64,
}

/// A checkpoint that must not be restored any more. Written by the attempt that found it out, in its own folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetAside {
    /// The checkpoint.
    pub checkpoint: CheckpointName,
    /// What is wrong with it.
    pub reason: String,
}

/// That a checkpoint holds values that cannot be. Written by the first rank that finds some, in the checkpoint's own folder, with which
/// it goes. It changes nothing about what may be done with the checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Suspect {
    /// The checkpoint.
    pub checkpoint: CheckpointName,
    /// Who found it.
    pub rank: u32,
    /// What is wrong.
    pub reason: String,
}

/// That the application called `finish` at its end. Written in the attempt's own folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finished {
    /// The last checkpoint, which holds the final state.
    pub checkpoint: CheckpointName,
    /// Its step.
    pub step: u64,
}

/// That a user wants a checkpoint kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// The checkpoint.
    pub checkpoint: CheckpointName,
    /// Why, where the user said so.
    pub note: Option<String>,
}

/// What a user asks of a running job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestKind {
    /// A checkpoint at the next agreement.
    Checkpoint,
    /// A checkpoint at the next agreement, then an orderly stop.
    Halt,
}

/// A user's request to a running job: a file that the first rank looks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// What is asked for.
    pub kind: RequestKind,
    /// Who asked, as `user@host`.
    pub by: String,
}
