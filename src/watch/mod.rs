//! Watching: whether ranks live and get on, how their nodes are, and what is wrong.
//!
//! Comes in: what ranks leave on their node's board, what the kernel tells of processes and nodes, lines of logs. Goes out:
//! findings, and from them alerts. What must hold: nothing here is ever called by way of MPI, so that a hung MPI library
//! cannot hide a hang; whoever watches late stretches its own limits before it accuses others; what a node does not
//! have is absent, never zero; a file system that hangs hangs nobody here.
//!
//! | for | see |
//! | --- | --- |
//! | what is measured | [`Series`], [`Sample`] |
//! | what is wrong | [`Finding`], [`Change`] |
//! | which values are wrong | [`Rules`], [`threshold`] |

mod finding;
mod rules;
mod series;
pub mod threshold;

pub use finding::{Action, Change, Finding, Labels, Severity};
pub use rules::{DEFAULT_RULES, Rules, RulesError};
pub use series::{Kind, NotASeries, Sample, Series};
