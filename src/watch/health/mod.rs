//! Whether a node is fit to compute.
//!
//! Comes in: one sample of the node, or two some time apart, for what only grows. Goes out: for each named check whether it is ok, whether the
//! node lacks what it is about, or what is wrong, where, and by how much; and that as a [`Finding`], or in the one line that batch
//! systems keep as the reason of a drain. What must hold: pure: the same samples give the same answer; what a node does not
//! have is absent, never a failure; what is merely unusual is a warning, since a failure takes a node out of service.
//!
//! Limits are those of the node exporter's mixin and of LBNL's Node Health Check, where they have one.

mod checks;
#[cfg(test)]
mod tests;
mod view;

use super::{Action, Finding, Labels, Sample, Severity};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt::Write;
use view::View;

/// What a check came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The node does not have what it is about, or does not tell.
    Absent,
    /// All is well.
    Ok,
    /// Worth a look.
    Warning,
    /// The node is not fit.
    Failed,
}

/// What one check says about one thing, or about all of them where nothing is wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// Which check: `ecc_uncorrected`.
    pub name: Cow<'static, str>,
    /// What it came to.
    pub outcome: Outcome,
    /// Where.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// What [`Self::value`] is: `count`, `celsius`, `ratio`.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub quantity: Cow<'static, str>,
    /// What was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// What it should not have reached, or fallen below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<f64>,
    /// The same for people: one line.
    pub reason: String,
}

impl Check {
    /// Whether something is wrong.
    #[must_use]
    pub fn is_wrong(&self) -> bool {
        self.outcome >= Outcome::Warning
    }

    /// For programs: the name, where, and the value, without blanks in any of them.
    ///
    /// ```
    /// use piton::watch::{Sample, Series, health};
    /// let errors = Series::new("piton_node_edac_dimm_uncorrectable_errors_total")
    ///     .with("controller", "0").with("dimm", "dimm0").with("label", "A1");
    /// let checks = health::check(&[Sample::counter(errors, 2.0)], None, &health::Limits::default());
    /// let wrong = checks.iter().find(|check| check.is_wrong()).unwrap();
    /// assert_eq!(wrong.token(), "ecc_uncorrected dimm=A1 count=2");
    /// ```
    #[must_use]
    pub fn token(&self) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() || "._:/-".contains(c) { c } else { '_' };
        let plain = |text: &str| text.chars().map(plain).collect::<String>();
        let mut token = plain(&self.name);
        for (label, value) in &self.labels {
            let _ = write!(token, " {}={}", plain(label), plain(value));
        }
        if let (Some(value), false) = (self.value, self.quantity.is_empty()) {
            let _ = write!(token, " {}={}", plain(&self.quantity), plain(&figure(value)));
        }
        token
    }

    /// What is wrong, where something is, as an alert has it.
    #[must_use]
    pub fn finding(&self) -> Option<Finding> {
        let severity = match self.outcome {
            Outcome::Absent | Outcome::Ok => return None,
            Outcome::Warning => Severity::Warning,
            Outcome::Failed => Severity::Critical,
        };
        let action = match severity {
            Severity::Critical => checks::action(&self.name),
            _ => Action::Nothing,
        };
        // `ecc_uncorrected` → `NodeEccUncorrected`.
        let words = self.name.split('_').map(|word| {
            let mut letters = word.chars();
            letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect::<String>()
        });
        Some(Finding {
            rule: format!("Node{}", words.collect::<String>()),
            severity,
            labels: self.labels.clone(),
            summary: self.reason.clone(),
            action,
            lasts: None,
        })
    }
}

/// Where a check warns, and where it fails.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Limits {
    /// Share of the space or the inodes of a file system that is left, below which it is a warning.
    pub space_warning: f64,
    /// And below which it is a failure.
    pub space_failed: f64,
    /// Share of the memory that is available, below which it is a warning.
    pub memory_warning: f64,
    /// And below which it is a failure.
    pub memory_failed: f64,
    /// Corrected errors of one memory module since boot, from which on it is a warning.
    pub corrected_errors: f64,
    /// Seconds that an unsynchronised clock may be wrong by its own account. 16 is where the kernel stops counting.
    pub clock_error: f64,
    /// Load by processor.
    pub load: f64,
    /// Pages a second that are swapped in or out.
    pub swap: f64,
    /// Page faults a second that have to read from a disk.
    pub major_faults: f64,
    /// Share of the packets with an error.
    pub network_errors: f64,
    /// How many GPUs there should be.
    pub gpus: Option<u32>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            space_warning: 0.05,
            space_failed: 0.03,
            memory_warning: 0.05,
            memory_failed: 0.02,
            corrected_errors: 1000.0,
            clock_error: 16.0,
            load: 2.0,
            swap: 1000.0,
            major_faults: 500.0,
            network_errors: 0.01,
            gpus: None,
        }
    }
}

/// Checks a node by a sample, and where there is an earlier one by what has grown since then; the number is the seconds between them.
#[must_use]
pub fn check(now: &[Sample], earlier: Option<(&[Sample], f64)>, limits: &Limits) -> Vec<Check> {
    let view = View::new(now, earlier);
    checks::CHECKS
        .iter()
        .flat_map(|(name, _, check)| {
            let mut report = Report { name, seen: 0, found: Vec::new() };
            check(&view, limits, &mut report);
            report.into_checks()
        })
        .collect()
}

/// The names of all checks.
///
/// ```
/// assert!(piton::watch::health::names().any(|name| name == "filesystem_hung"));
/// ```
pub fn names() -> impl Iterator<Item = &'static str> {
    checks::CHECKS.iter().map(|(name, ..)| *name)
}

/// What one check has found so far.
#[derive(Debug)]
struct Report {
    name: &'static str,
    /// How many things were looked at.
    seen: usize,
    found: Vec<Check>,
}

/// A value, what it is, and its limit.
#[derive(Debug, Clone, Copy)]
struct Measured(&'static str, f64, Option<f64>);

impl Report {
    /// One more thing was looked at.
    fn see(&mut self) {
        self.seen += 1;
    }

    fn wrong(&mut self, outcome: Outcome, labels: Labels, measured: Measured, reason: impl Into<String>) {
        let Measured(quantity, value, limit) = measured;
        self.found.push(Check {
            name: self.name.into(),
            outcome,
            labels,
            quantity: quantity.into(),
            value: Some(value),
            limit,
            reason: reason.into(),
        });
    }

    fn into_checks(self) -> Vec<Check> {
        if !self.found.is_empty() {
            return self.found;
        }
        let (outcome, reason) = match self.seen {
            0 => (Outcome::Absent, "not there, or it does not tell".to_owned()),
            1 => (Outcome::Ok, "fine".to_owned()),
            seen => (Outcome::Ok, format!("{seen} looked at, all fine")),
        };
        let (labels, quantity) = (Labels::new(), "".into());
        vec![Check { name: self.name.into(), outcome, labels, quantity, value: None, limit: None, reason }]
    }
}

/// A value with at most three digits after the point.
fn figure(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
