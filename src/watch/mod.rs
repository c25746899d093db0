//! Watching: whether ranks live and get on, how their nodes are, and what is wrong.
//!
//! Comes in: what ranks leave on their node's board, what the kernel tells of processes and nodes, lines of logs. Goes out:
//! findings, and from them alerts. What must hold: nothing here is ever called by way of MPI, so that a hung MPI library
//! cannot hide a hang; whoever watches late stretches its own limits before it accuses others; what a node does not
//! have is absent, never zero; a file system that hangs hangs nobody here.
//!
//! | for | see |
//! | --- | --- |
//! | what ranks say of themselves | [`board`] |
//! | who watches the ranks of a node | [`Agent`] |
//! | everything that watches a node, together | [`Guard`] |
//! | how it is told who died, hangs, or is slow | [`detect`] |
//! | processes of this node | [`process`] |
//! | what is measured | [`Series`], [`Sample`] |
//! | what a node's kernel tells | [`node`] |
//! | whether a node is fit to compute | [`health`] |
//! | what is wrong | [`Finding`], [`Change`] |
//! | what logs say | [`LogRules`], [`KernelLog`], [`LogFile`] |
//! | which values are wrong | [`threshold`] |
//! | the rule file | [`Rules`] |
//! | who is told, and what is done | [`alert`] |

mod agent;
pub mod alert;
pub mod board;
pub mod detect;
mod finding;
mod guard;
pub mod health;
mod logs;
pub mod node;
mod pidfd;
pub mod process;
mod rules;
mod series;
pub mod threshold;
mod values;

pub use agent::{Agent, Observation};
pub use finding::{Action, Change, Finding, Labels, Severity};
pub use guard::{Guard, GuardOptions, Round};
pub use logs::{
    BrokenSample, FaultClass, KernelLog, LONGEST_LINE, LogCase, LogFile, LogRule, LogRules, LogRulesError, LogSource,
    LogSources,
};
pub use pidfd::{Exit, ProcessHandle, exit_record};
pub use rules::{DEFAULT_RULES, Rules, RulesError};
pub use series::{Kind, NotASeries, Sample, Series};

pub(crate) use values::{OutOfRange, Values};
