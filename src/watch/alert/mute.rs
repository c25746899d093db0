//! Inhibition and silences: what is not told although it is so.
//!
//! Comes in: all alerts that fire. Goes out: which of them another one explains, and which somebody does not want to hear of. What
//! must hold: an alert never inhibits itself; whatever a source lacks in a label that must be equal explains nothing; muting hides
//! nothing from the journal; no action is lost because something is not told.
//!
//! # What becomes of a muted alert's action
//!
//! A *silence* says that nobody wants to hear of it, not that nothing should be done: its action comes due all the same. An *inhibited*
//! alert is one that its source explains; its action is withheld only while the source takes care of it: by the same
//! action, by ending the attempt where a checkpoint is asked for, or because the rule says `actions = true` (after
//! the end of the attempt there is nothing left to stop). Otherwise a node that must be left out would stay in because the rank on it
//! died, too. Where the inhibition ends and the alert fires still, its action comes due then.

use super::fingerprint::{Alert, Fingerprint};
use super::matcher::{self, Matcher};
use crate::watch::Action;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

/// While a source fires, its targets are not told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InhibitRule {
    /// What an alert must be to explain others.
    pub source: Vec<Matcher>,
    /// What others must be to be explained; an alert that could be a source itself never is.
    pub target: Vec<Matcher>,
    /// The labels that both must have, with the same value.
    #[serde(default)]
    pub equal: Vec<String>,
    /// Whether the targets' actions are withheld, too, whatever they are.
    #[serde(default)]
    pub actions: bool,
}

/// For a while, what matches is not told. Its actions come due all the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Silence {
    /// All of these must match; none: everything does.
    pub matchers: Vec<Matcher>,
    /// From when on, in seconds of the caller's clock; `None`: at once.
    pub from: Option<f64>,
    /// Until when; `None`: until it is taken back.
    pub until: Option<f64>,
}

impl Silence {
    /// Whether it keeps `alert` from being told at `now`.
    #[must_use]
    pub fn covers(&self, alert: &Alert, now: f64) -> bool {
        self.from.is_none_or(|from| from <= now) && !self.is_over(now) && all(&self.matchers, alert)
    }

    pub(super) fn is_over(&self, now: f64) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

/// What another alert explains of this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Inhibited {
    /// It is not told.
    pub told: bool,
    /// Its action is taken care of.
    pub action: bool,
}

fn all(matchers: &[Matcher], alert: &Alert) -> bool {
    matchers.iter().all(|matcher| matcher.matches(&alert.finding))
}

impl InhibitRule {
    /// The values that must be equal; `None` where one is missing.
    fn values<'a>(&self, alert: &'a Alert) -> Option<Vec<&'a str>> {
        let values = self.equal.iter().map(|label| matcher::value(&alert.finding, label));
        values.map(|value| (!value.is_empty()).then_some(value)).collect()
    }
}

/// Whether a source that does `own` takes care of what `wanted` asks for.
fn takes_care(own: Action, wanted: Action) -> bool {
    own == wanted || (own, wanted) == (Action::StopAttempt, Action::Checkpoint)
}

/// What is inhibited among the alerts that fire; those that are not are left out.
pub(super) fn inhibited<'a>(
    rules: &[InhibitRule],
    firing: impl Iterator<Item = &'a Alert> + Clone,
) -> BTreeMap<Fingerprint, Inhibited> {
    // By rule and equal values, the sources: looked up by each target, so that many of both cost no product.
    let mut sources: Vec<HashMap<Vec<&str>, Vec<&Alert>>> = rules.iter().map(|_| HashMap::new()).collect();
    for alert in firing.clone() {
        for (rule, sources) in rules.iter().zip(&mut sources) {
            if all(&rule.source, alert)
                && let Some(values) = rule.values(alert)
            {
                let same = sources.entry(values).or_default();
                // Of many that do the same one says it all.
                if !same.iter().any(|source| source.finding.action == alert.finding.action) {
                    same.push(alert);
                }
            }
        }
    }
    let mut found: BTreeMap<Fingerprint, Inhibited> = BTreeMap::new();
    let mut cares: Vec<(Fingerprint, Fingerprint)> = Vec::new();
    for alert in firing {
        for (rule, sources) in rules.iter().zip(&sources) {
            if sources.is_empty() || !all(&rule.target, alert) || all(&rule.source, alert) {
                continue;
            }
            let Some(same) = rule.values(alert).and_then(|values| sources.get(&values)) else { continue };
            let entry = found.entry(alert.fingerprint).or_default();
            entry.told = true;
            entry.action |= rule.actions;
            let taken = same.iter().filter(|source| takes_care(source.finding.action, alert.finding.action));
            cares.extend(taken.map(|source| (alert.fingerprint, source.fingerprint)));
        }
    }
    // A source that is explained away itself may never act.
    let explained: Vec<Fingerprint> = found.iter().filter(|(_, by)| by.told).map(|(of, _)| *of).collect();
    for (target, source) in cares {
        if explained.binary_search(&source).is_err()
            && let Some(entry) = found.get_mut(&target)
        {
            entry.action = true;
        }
    }
    found
}
