//! What the journal says of the next checkpoint's time.

use serde::{Deserialize, Serialize};

/// What decided about an interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Daly's formula.
    Daly,
    /// Least waste with costs that grow with the interval.
    Growing,
    /// The first: to measure what one costs.
    Probe,
    /// A commit takes as long.
    Latency,
    /// The setting `min_interval`.
    MinInterval,
    /// The setting `max_interval`.
    MaxInterval,
    /// The setting `every`.
    Fixed,
    /// The setting `every`, which is `off`: none by time.
    Off,
    /// Intervals of equal length up to the last checkpoint before the end of the allocation.
    Remaining,
    /// The last before the end of the allocation.
    Last,
    /// None would complete any more before the end of the allocation.
    TooLate,
}

/// When the next checkpoint is due, and everything that this follows from. Times are in seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// What decided.
    pub rule: Rule,
    /// From now until it is due; missing: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_seconds: Option<f64>,
    /// From the last one's call to the next one's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval_seconds: Option<f64>,
    /// What the formula says without any bounds: seconds of work between two checkpoints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optimum_seconds: Option<f64>,
    /// C: what a checkpoint costs the application; a guess where nothing was measured yet.
    pub cost_seconds: f64,
    /// Of it, the time that the application stands still, as measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked_seconds: Option<f64>,
    /// Of it, what steps lose while it is written; less than 0 where they were faster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slowed_seconds: Option<f64>,
    /// L: from the call until it is durable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_seconds: Option<f64>,
    /// R: bringing the state back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_seconds: Option<f64>,
    /// D: from a failure to the next attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub downtime_seconds: Option<f64>,
    /// A step of the application.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_seconds: Option<f64>,
    /// M: the mean time between failures that is computed with.
    pub mtbf_seconds: f64,
    /// It lies between these with a probability of nine tenths.
    pub mtbf_low_seconds: f64,
    /// As `mtbf_low_seconds`.
    pub mtbf_high_seconds: f64,
    /// M as it is taken for the present interval: less than on the whole so soon after a failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtbf_now_seconds: Option<f64>,
    /// Failures that the job has seen.
    pub failures: f64,
    /// In how many seconds of running.
    pub observed_seconds: f64,
    /// The share of failures that predictions foresee, 0 to 1.
    pub recall: f64,
    /// The share of the time that checkpoints and lost work are expected to take, 0 to 1, restarts not included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waste: Option<f64>,
}
