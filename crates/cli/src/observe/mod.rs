//! What a job looks like from outside: while it runs, and afterwards.
//!
//! Comes in: the journals of a job's attempts. Goes out: its story, and from that reports, pages and metrics. What must hold: everything is drawn from what
//! the journals and boards say, and nothing is kept twice; what they do not say is said to be missing, never made up; whatever a file holds is
//! text, and is never taken for markup.
//!
//! | file | what for |
//! | --- | --- |
//! | `story.rs` | everything that is known of a job, in one value |
//! | `faults.rs` | what failed: class, place, evidence, and how long each step of the way back took |
//! | `report/` | one page to read afterwards |

pub mod faults;
pub mod report;
pub mod story;

pub use faults::Fault;
use piton::schedule::Ending;
pub use story::{Alert, AttemptStory, NodeStory, Parts, State, Story};

/// How an attempt ended, in words; `running`: whether it is the one that runs.
#[must_use]
pub fn ending_words(ending: Ending, running: bool) -> &'static str {
    match ending {
        Ending::Open if running => "runs",
        Ending::Open => "without a word",
        Ending::Finished => "finished",
        Ending::Halted => "halted",
        Ending::AllocationEnded => "with its allocation",
        Ending::Requeued => "requeued",
        Ending::NoFailure => "without a failure",
        Ending::Failed => "failed",
    }
}

#[cfg(test)]
mod tests;
