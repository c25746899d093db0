//! Launching a job's ranks, and launching them again when something happens to them.
//!
//! Comes in: a command, what the agents of the nodes see, how the launcher ends, signals. Goes out: launches, each a new attempt of the job; what
//! the job prints; an account of every failure in the job's journal; how it all ended. What must hold: decisions are made in one place, without
//! processes or clocks ([`policy`]); whatever does not answer is not waited for: an attempt that was given up is harmless by the
//! store's epochs, and ended wherever it can be reached; nothing that was started here outlives this.
//!
//! | file | what for |
//! | --- | --- |
//! | `policy.rs` | what is done about what happens: a state machine |
//! | `nodes.rs` | which nodes are good, and which of them a launch gets |
//! | `node_file.rs` | what became of nodes in earlier runs |
//! | `launcher.rs` | the command lines of launchers |
//! | `allocation.rs` | the nodes that a batch system gave |
//! | `rescue.rs` | a job whose script's node is lost, given back |
//! | `agents.rs` | the agents of the nodes: started, and again where they end |
//! | `children.rs` | the processes that were started, and how they end |
//! | `output.rs` | what the job prints: passed on, kept, and looked at |
//! | `launcher_words.rs` | whom launchers name as the process that ended first |
//! | `outlook.rs` | what only whoever hears of all nodes can find, and who is told |
//! | `store.rs` | what the job's store says, and what is asked of the job and journalled there |
//! | `driver.rs` | everything together |

mod agents;
pub mod allocation;
mod children;
mod driver;
pub mod launcher;
mod launcher_words;
pub mod node_file;
pub mod nodes;
mod outlook;
mod output;
pub mod policy;
pub mod rescue;
mod store;

pub use driver::{Options, run};
