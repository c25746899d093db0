//! A job on paper: what its failures and checkpoints will cost.
//!
//! Comes in: what checkpoints cost and how often the job fails, from flags, a trace or a finished job. Goes out: a [`Study`]: the
//! interval that wastes least, what others waste, how long the job will take; as text, JSON and pictures.
//! What must hold: the same inputs and the same seed give the same study; whatever the inputs, it ends within seconds.
//!
//! | file | what is in it |
//! | --- | --- |
//! | `inputs.rs` | from flags to what is computed with |
//! | `study.rs` | the computation |
//! | `chart.rs` | waste over the interval, as text and as SVG |

pub mod chart;
pub mod inputs;
pub mod study;

pub use inputs::{Given, Inputs};
pub use study::Study;
