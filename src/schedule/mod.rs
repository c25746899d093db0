//! When to take checkpoints.
//!
//! Comes in: what checkpoints cost and how often the job fails, as measured while it runs. Goes out: when the next one is due, and
//! why; and, for jobs on paper, what any interval would waste. What must hold: nothing here reads a clock, a file or a
//! setting; all times are in seconds; the simulator runs the scheduler of the real thing.
//!
//! | file | what is in it |
//! | --- | --- |
//! | `young_daly.rs` | the formulas: intervals, waste, costs that grow with the interval |
//! | `mtbf.rs` | how often the job fails, from belief and from what it saw |
//! | `prediction.rs` | failures that somebody foresees |
//! | `two_level.rs` | a near and a far place for checkpoints |
//! | `cost.rs` | what checkpoints cost, smoothed |
//! | `scheduler.rs` | the decision |
//! | `explain.rs` | the decision in a sentence |
//! | `history.rs` | what earlier attempts tell: failures, costs, and where the time went |
//! | `simulate/` | a job that fails, on paper |

mod cost;
mod explain;
mod history;
mod mtbf;
mod prediction;
mod scheduler;
pub mod simulate;
mod two_level;
mod young_daly;

pub use crate::journal::{Rule, Schedule};
pub use cost::{GrowthFit, Smoothed, StepTimes};
pub use explain::sentence;
pub use history::{Account, Attempt, Ending, History, Moments, Taken};
pub use mtbf::{
    Belief, DEFAULT_WEIGHT, FailureRate, GIVEN_WEIGHT, NODE_MTBF_SECONDS, SHAPE, SITE_WEIGHT_MOST, SiteError,
    mtbf_after, mtbf_bounds, read_site,
};
pub use prediction::{TrackRecord, worth_acting, young_with_prediction};
pub(crate) use scheduler::END_SLACK;
pub use scheduler::{Guess, Period, Plan, Rules, Scheduler};
pub use two_level::{Level, TwoLevel, two_level};
pub use young_daly::{Costs, Growth, WasteParts, daly, optimum, stretch, waste, waste_first_order, waste_parts, young};
