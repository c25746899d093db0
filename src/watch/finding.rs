//! What is wrong, as whoever finds it says it.
//!
//! Comes in: from detectors, thresholds and log rules. Goes out: to the alerts. What must hold: rule and labels tell one finding from
//! another, so that what is found twice is one alert; what is no longer so is said, too.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// How bad something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Good to know.
    Info,
    /// Somebody should look at it in the next days.
    Warning,
    /// The job suffers, or will.
    Critical,
}

impl Severity {
    /// As journals and rule files name it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What is done about it besides telling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Nothing.
    #[default]
    Nothing,
    /// A checkpoint as soon as it pays: the job may fail.
    Checkpoint,
    /// The attempt is ended, so that the job comes back from its newest checkpoint.
    StopAttempt,
    /// The next attempt leaves the node out.
    MarkNode,
}

impl Action {
    /// As journals and rule files name it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Checkpoint => "checkpoint",
            Self::StopAttempt => "stop_attempt",
            Self::MarkNode => "mark_node",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What an alert is about: `node`, `rank`, `device`, and so on.
pub type Labels = BTreeMap<String, String>;

/// Something is wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// The rule or detector that says so, in Prometheus's manner: `RankHangs`.
    pub rule: String,
    /// How bad it is.
    pub severity: Severity,
    /// Where.
    #[serde(default)]
    pub labels: Labels,
    /// What is wrong, for people: one line.
    pub summary: String,
    /// What to do about it.
    #[serde(default)]
    pub action: Action,
    /// Seconds after which it is over by itself unless it is found again; missing: until it is cleared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lasts: Option<f64>,
}

/// What whoever watches has to say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It is so, for the first time or still.
    Raised(Finding),
    /// It is no longer so.
    Cleared {
        /// The rule that said so.
        rule: String,
        /// Where.
        labels: Labels,
    },
}
