//! The job's append-only record of everything that happened, as JSON lines.
//!
//! Comes in: [`Event`]s of one attempt, from any thread. Goes out: the [`Record`]s of all writers of an attempt, merged
//! by time.
//! What must hold: one writer a file, `journal.<writer>.jsonl` in the attempt's folder; a line is written with one
//! call, and a torn or damaged one costs that line only; a journal that cannot be written never stops or fails the job,
//! and says later how many lines it lost; readers accept kinds of events that they do not know, and trust no length.
//!
//! A line:
//!
//! ```json
//! {"v":1,"at":"2026-11-22T06:10:11.123Z","mono_ns":1,"epoch":3,"rank":0,"seq":0,"event":{"kind":"beat","step":7}}
//! ```

use crate::ids::Epoch;
use serde::{Deserialize, Serialize};

mod event;
mod read;
mod schedule;
mod time;
mod write;

pub use event::{End, Event};
pub use read::{Journal, Reader, Tail, read, tail, tails, writers};
pub use schedule::{Rule, Schedule};
pub use time::{NotATime, WallTime};
pub use write::JournalWriter;

/// The version of the lines written, and the newest that is read.
pub const VERSION: u32 = 1;

/// A line that is longer (without its end) is damaged.
pub const LINE_LIMIT: usize = 64 << 10;

/// One line of a journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The version of the format.
    pub v: u32,
    /// When it happened, by the wall clock of the writer's node.
    pub at: WallTime,
    /// The same by the node's monotonic clock, in nanoseconds: comparable between the processes of one boot of one
    /// node.
    pub mono_ns: u64,
    /// The attempt.
    pub epoch: Epoch,
    /// The rank, where the writer is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank: Option<u32>,
    /// Counts the records of one writer, without gaps unless lines were lost.
    pub seq: u64,
    /// What happened.
    pub event: Event,
}

/// The name of the writer that is a rank, as it stands in the name of its file.
#[must_use]
pub fn rank_writer(rank: u32) -> String {
    format!("rank-{rank:05}")
}

/// Whether a writer is a rank.
#[must_use]
pub fn is_rank(writer: &str) -> bool {
    writer.strip_prefix("rank-").is_some_and(|number| number.parse::<u32>().is_ok())
}

/// What a supervisor calls itself as a writer.
pub const SUPERVISOR: &str = "supervisor";

/// The name of a writer's file in the folder of its attempt.
#[must_use]
pub fn file_name(writer: &str) -> String {
    format!("journal.{writer}.jsonl")
}

/// The writer whose file has this name, or `None` where it is no journal's.
#[must_use]
pub fn writer_of(file_name: &str) -> Option<&str> {
    file_name.strip_prefix("journal.")?.strip_suffix(".jsonl").filter(|writer| !writer.is_empty())
}

#[cfg(test)]
mod tests;
