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
//! | `chain.rs` | the checkpoints in the store, and which build on which |
//! | `live.rs` | what a supervisor knows of ranks and nodes |
//! | `now.rs` | how a job is at this moment |
//! | `view.rs` | what a live view shows, in few bytes |
//! | `top.rs` | the same on one screen of text |
//! | `metrics.rs` | for Prometheus |
//! | `http/` | queries, metrics and the live page for whoever may ask |
//! | `page/` | the live page |
//! | `report/` | one page to read afterwards |

pub mod chain;
pub mod faults;
pub mod http;
pub mod live;
pub mod metrics;
pub mod now;
pub mod report;
pub mod story;
pub mod top;
pub mod view;

pub use chain::Kept;
pub use faults::Fault;
pub use live::{Live, NodeNow, NodeState, RankNow, RankState};
pub use now::{AlertNow, CheckpointNow, Now, brought_forward};
use piton::schedule::Ending;
pub use story::{Alert, AttemptStory, Mtbf, NodeStory, Parts, State, Story, Taken};
pub use view::{Heat, View};

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
