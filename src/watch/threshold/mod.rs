//! Thresholds: which measured values are wrong.
//!
//! Comes in: [`Sample`](super::Sample)s of a node with their time, and rules ([`Threshold`], from a rule file by way of
//! [`Rules`](super::Rules)). Goes out: [`Change`](super::Change)s, what is wrong now and what no longer is. What must hold: no clock is
//! read; memory is bounded; a value that is no number changes nothing; what is right for long enough, or no longer measured, raises no alarm
//! any more; an adaptive limit raises no more false alarms than it may (the tests hold it to that on simulated days).
//!
//! | for | see |
//! | --- | --- |
//! | rules on samples | [`Evaluator`] |
//! | limits that a series's past sets | [`Detector`] |
//! | how far is too far | [`normal_k`], [`student_k`], [`Tail`] |
//! | one node against the others | [`Comparison`] |
//! | one series as long as it is wrong | [`Alarm`] |
//!
//! In order of what is worth more: a limit that the hardware or the rule gives, a change of the series, a difference from the other nodes.

mod adaptive;
mod alarm;
mod evaluator;
mod false_alarms;
mod pattern;
mod peers;
mod rule;
mod statistics;

pub use adaptive::{Adaptive, Detector, Direction, Scale, Tolerance, Verdict};
pub use alarm::{Alarm, State, Turn};
pub use evaluator::{Evaluator, SERIES_MOST};
pub use false_alarms::{Tail, normal_k, probability, student_k};
pub use pattern::{Filter, Pattern, Template};
pub use peers::{Compared, Comparison};
pub use rule::{Condition, FALSE_ALARMS_DEFAULT, InvalidThreshold, Measure, Threshold};
pub use statistics::{Autocorrelation, Growth, Moments, Moving, WINDOW_MOST, Window, median, median_and_spread, share};

pub(super) use rule::Table;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
