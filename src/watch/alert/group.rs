//! When a group of alerts is told, and what of it.
//!
//! Comes in: which alerts are in the group, and the time. Goes out: a notification, where there is something to say. What must hold: an
//! alert whose firing was told is told to be over, once; one whose firing was not told is never told to be over; where nothing
//! changed, nothing is told before the repeat interval has passed.
//!
//! A group is first told `wait` after its first alert, so that what comes together is told together; later changes wait until
//! `interval` after it was told last. For a critical alert both are shorter.

use super::fingerprint::{Alert, Fingerprint};
use crate::watch::{Labels, Severity};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// How long groups wait, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Times {
    /// Before a new group is told: others may follow.
    pub wait: f64,
    /// The same where a critical alert is in it.
    pub wait_critical: f64,
    /// Before a group that was told is told again, changed.
    pub interval: f64,
    /// The same where the change is a critical alert.
    pub interval_critical: f64,
    /// Before a group in which nothing changed is told again.
    pub repeat: f64,
}

/// Why somebody is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// There was nothing to tell of this group before.
    New,
    /// Alerts came, went, or got worse, and others fire still.
    Changed,
    /// Nothing changed for long, and it is still so.
    Repeat,
    /// The last of them is over.
    Resolved,
}

/// What to tell whom.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Notification {
    /// At this time of the caller's clock, in seconds; the times of the alerts are by the same clock.
    pub at: f64,
    /// Why.
    pub why: Why,
    /// The names of the receivers.
    pub receivers: Vec<String>,
    /// What tells the group from others; receivers may use it to replace what they were told before.
    pub key: String,
    /// The labels that its alerts have in common by the rules.
    pub group: Labels,
    /// All that fires and is not muted, oldest first.
    pub firing: Vec<Alert>,
    /// What was told to fire and is over, in the order of its end.
    pub resolved: Vec<Alert>,
}

/// A group is of one route, and of alerts with the same values of the labels that it groups by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct GroupKey {
    pub route: usize,
    pub labels: Labels,
}

/// Alerts that are told together.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// All that fire, and those that are over and were told to fire.
    pub members: BTreeSet<Fingerprint>,
    /// What was told to fire and not to be over, and how bad it was said to be.
    told: BTreeMap<Fingerprint, Severity>,
    /// When to look at it next.
    pub due: Option<f64>,
    /// When it was last looked at.
    looked: Option<f64>,
    /// When it was last told.
    said: f64,
}

/// What a look at a group found to be told.
pub(super) struct Said {
    pub why: Why,
    pub firing: Vec<Fingerprint>,
    pub resolved: Vec<Fingerprint>,
}

impl Group {
    pub fn was_told(&self, of: Fingerprint) -> bool {
        self.told.contains_key(&of)
    }

    /// An alert is new here, got worse, or may be told from now on: looks at the group in time.
    pub fn hasten(&mut self, of: Fingerprint, severity: Severity, times: &Times, now: f64) {
        if self.told.get(&of).is_some_and(|told| *told >= severity) {
            return;
        }
        let critical = severity == Severity::Critical;
        let due = match self.looked {
            None => now + if critical { times.wait_critical } else { times.wait },
            // Where nobody was told anything yet, nobody is bothered too often either.
            Some(_) if self.told.is_empty() && critical => now + times.wait_critical,
            Some(looked) => now.max(looked + if critical { times.interval_critical } else { times.interval }),
        };
        self.due = Some(self.due.map_or(due, |before| before.min(due)));
    }

    /// What there is to tell at `now`, which is noted as told; `audible` is what fires and is not muted, `over` what no longer
    /// fires, both with members only.
    pub fn look(
        &mut self,
        audible: &BTreeMap<Fingerprint, Severity>,
        over: &BTreeSet<Fingerprint>,
        times: &Times,
        now: f64,
    ) -> Option<Said> {
        self.looked = Some(now);
        self.due = Some(now + times.interval.min(times.repeat));
        let gone: Vec<Fingerprint> = self.told.keys().filter(|told| over.contains(told)).copied().collect();
        let news = audible.iter().any(|(of, severity)| self.told.get(of).is_none_or(|told| told < severity));
        let before = self.told.len();
        for fingerprint in &gone {
            self.told.remove(fingerprint);
        }
        let why = match (before, news, gone.is_empty()) {
            (0, true, _) => Why::New,
            (_, true, _) => Why::Changed,
            (_, false, false) if self.told.is_empty() => Why::Resolved,
            (_, false, false) => Why::Changed,
            (_, false, true) if !audible.is_empty() && now - self.said >= times.repeat => Why::Repeat,
            (_, false, true) => return None,
        };
        for (of, severity) in audible {
            let told = self.told.entry(*of).or_insert(*severity);
            *told = (*told).max(*severity);
        }
        self.said = now;
        Some(Said { why, firing: audible.keys().copied().collect(), resolved: gone })
    }
}
