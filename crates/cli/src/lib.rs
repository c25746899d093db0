//! What the program `piton` does besides its commands, for benches and tests to use as well.
//!
//! Comes in: alerts to tell people of; reports of agents on other nodes; journals. Goes out: mails, posts and started commands; what the
//! supervisor sees of the nodes; what became of a job. What must hold: nothing here knows a command line or prints; whoever hangs at the other end
//! delays nobody here; everything that comes from a network is bounded before it is believed.
//!
//! | room | what for |
//! | --- | --- |
//! | [`bounded`] | running a program for a limited time |
//! | [`clerk`] | work on the store, on a thread of its own |
//! | [`human`] | numbers and errors as people read them |
//! | [`leftovers`] | what ended jobs have left on a node |
//! | [`mod@line`] | the connections between the agents and the supervisor of a job |
//! | [`notify`] | telling people of alerts |
//! | [`observe`] | what a job looks like from outside |
//! | [`picture`] | drawings that any browser shows |
//! | [`signals`] | signals as something that happens |
//! | [`slurm`] | Slurm's own programs, and what they say |
//! | [`supervise`] | launching a job, and launching it again |

pub mod bounded;
pub mod clerk;
pub mod human;
pub mod leftovers;
pub mod line;
pub mod notify;
pub mod observe;
pub mod picture;
pub mod signals;
pub mod slurm;
pub mod supervise;
