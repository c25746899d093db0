//! One rule: which series, which of their values are wrong, and for how long.
//!
//! Comes in: a `[[threshold]]` table of a rule file. Goes out: a [`Threshold`] to evaluate. What must hold: whatever is nonsense is
//! refused with the name of the rule and of the key; what is accepted can be evaluated for ever.

use super::adaptive::{Adaptive, Direction, RELEARN_DEFAULT, Scale, Tolerance};
use super::pattern::{Filter, Pattern, Template};
use super::peers::Comparison;
use crate::config::{parse_time, show_time};
use crate::watch::{Action, Severity};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// Longer texts are none that were meant.
const TEXT_MOST: usize = 500;
/// More patterns in one rule are none that were meant.
const PATTERNS_MOST: usize = 64;
const DAY: Duration = Duration::from_secs(86_400);

/// What is taken of a series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Measure {
    /// The value as it is.
    Value,
    /// By how much a counter grows in a second, over so many seconds; 0: since the value before.
    Rate(f64),
    /// By how much a counter grew in so many seconds.
    Increase(f64),
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    /// A value outside of fixed limits.
    Limits {
        /// More is wrong.
        above: Option<f64>,
        /// Less is wrong.
        below: Option<f64>,
        /// By how much better than the limit it must be to be right again.
        clear: Option<f64>,
    },
    /// A value that is not what it was.
    Adaptive(Adaptive),
    /// A value that is not as on the other nodes.
    Peers(Comparison),
}

/// A rule of which nothing is left to check.
#[derive(Debug, Clone, PartialEq)]
pub struct Threshold {
    /// What its alerts are called.
    pub name: String,
    /// The name of the series.
    pub series: String,
    /// Which of them.
    pub filter: Filter,
    /// What is taken of them.
    pub measure: Measure,
    /// What that is divided by: the same of the series of this name that has the same labels, or else of the one without any; the value
    /// itself of one that is no counter.
    pub ratio_to: Option<String>,
    /// What is wrong.
    pub condition: Condition,
    /// For how many seconds it must be wrong.
    pub hold: f64,
    /// For how many seconds it must then be right.
    pub clear_hold: f64,
    /// How bad it is.
    pub severity: Severity,
    /// What is done about it.
    pub action: Action,
    /// What people are told.
    pub summary: Template,
}

/// Why a rule is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("threshold {rule:?}: `{key}`: {expected}")]
pub struct InvalidThreshold {
    /// The rule's name; its place in the file where it has none that can be one.
    pub rule: String,
    /// The key.
    pub key: &'static str,
    /// What is expected of it.
    pub expected: String,
}

/// A `[[threshold]]` table as it stands in the file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::watch) struct Table {
    pub name: String,
    series: String,
    #[serde(default)]
    labels: BTreeMap<String, Pattern>,
    #[serde(default)]
    except: BTreeMap<String, Pattern>,
    #[serde(default)]
    measure: MeasureName,
    window: Option<String>,
    ratio_to: Option<String>,
    above: Option<f64>,
    below: Option<f64>,
    clear: Option<f64>,
    adaptive: Option<AdaptiveTable>,
    peers: Option<PeersTable>,
    #[serde(rename = "for")]
    hold: Option<String>,
    clear_for: Option<String>,
    severity: Severity,
    #[serde(default)]
    action: Action,
    summary: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum MeasureName {
    #[default]
    Value,
    Rate,
    Increase,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct AdaptiveTable {
    false_alarms_per_day: Option<f64>,
    k: Option<f64>,
    #[serde(default)]
    direction: Direction,
    #[serde(default)]
    scale: Scale,
    #[serde(default)]
    least_spread: f64,
    relearn: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct PeersTable {
    k: Option<f64>,
    #[serde(default)]
    direction: Direction,
    #[serde(default)]
    least_spread: f64,
}

/// The false alarms a day, of all series of a rule on one node, where a rule says nothing else.
pub const FALSE_ALARMS_DEFAULT: f64 = 0.1;

/// Who refuses: the rule of this name.
#[derive(Debug, Clone, Copy)]
struct Checked<'a>(&'a str);

impl Checked<'_> {
    fn refuse<T>(self, key: &'static str, expected: impl Into<String>) -> Result<T, InvalidThreshold> {
        Err(InvalidThreshold { rule: self.0.chars().take(80).collect(), key, expected: expected.into() })
    }

    fn time(self, key: &'static str, text: Option<&str>, most: Duration) -> Result<Option<f64>, InvalidThreshold> {
        match text.map(parse_time) {
            None => Ok(None),
            Some(Ok(time)) if time <= most => Ok(Some(time.as_secs_f64())),
            Some(Ok(_)) => self.refuse(key, format!("no longer than {}", show_time(most))),
            Some(Err(expected)) => self.refuse(key, expected),
        }
    }

    /// Names and filters.
    fn names(self, table: &Table) -> Result<(), InvalidThreshold> {
        if !is_name(&table.name) {
            return self.refuse("name", "a word of letters, digits and _, as in `FilesystemFull`");
        }
        if !is_name(&table.series) {
            return self.refuse("series", "the name of a series, as in `node_load1`; labels are filtered by `labels`");
        }
        if table.ratio_to.as_ref().is_some_and(|name| !is_name(name) || *name == table.series) {
            return self.refuse("ratio_to", "the name of another series");
        }
        for (key, patterns) in [("labels", &table.labels), ("except", &table.except)] {
            let long = patterns.values().flat_map(Pattern::texts).any(|text| text.len() > TEXT_MOST);
            let many = patterns.values().map(|pattern| pattern.texts().len()).sum::<usize>() > PATTERNS_MOST;
            if long || many || !patterns.keys().all(|label| is_name(label)) {
                return self.refuse(key, "up to 64 texts by label, as in { mountpoint = \"/scratch*\" }");
            }
        }
        Ok(())
    }

    fn measure(self, table: &Table) -> Result<Measure, InvalidThreshold> {
        match (table.measure, self.time("window", table.window.as_deref(), DAY)?) {
            (MeasureName::Value, None) => Ok(Measure::Value),
            (MeasureName::Value, Some(_)) => self.refuse("window", "only with `measure` \"rate\" or \"increase\""),
            (MeasureName::Rate, window) => Ok(Measure::Rate(window.unwrap_or(0.0))),
            (MeasureName::Increase, Some(window)) if window > 0.0 => Ok(Measure::Increase(window)),
            (MeasureName::Increase, _) => self.refuse("window", "needed with `measure` \"increase\", as in \"1h\""),
        }
    }

    fn adaptive(self, table: &AdaptiveTable, measure: Measure) -> Result<Adaptive, InvalidThreshold> {
        let refuse = |expected: &str| self.refuse("adaptive", expected);
        if !within(table.k, 1.0, 1000.0) {
            return refuse("`k` is a number from 1 to 1000");
        }
        if !within(table.false_alarms_per_day, 1e-6, 100.0) {
            return refuse("`false_alarms_per_day` is a number from 0.000001 to 100");
        }
        if !within(Some(table.least_spread), 0.0, f64::MAX) {
            return refuse("`least_spread` is a finite number, and not negative");
        }
        if matches!(measure, Measure::Increase(_)) {
            return self.refuse("measure", "\"value\" or \"rate\" with `adaptive`");
        }
        let relearn = self.time("adaptive", table.relearn.as_deref(), 30 * DAY)?.unwrap_or(RELEARN_DEFAULT);
        if relearn < 60.0 {
            return refuse("`relearn` is a minute at the least");
        }
        let tolerance = match (table.k, table.false_alarms_per_day) {
            (Some(_), Some(_)) => return refuse("either `k` or `false_alarms_per_day`"),
            (Some(k), None) => Tolerance::Deviations(k),
            (None, rate) => Tolerance::FalseAlarms(rate.unwrap_or(FALSE_ALARMS_DEFAULT)),
        };
        let AdaptiveTable { direction, scale, least_spread, .. } = *table;
        Ok(Adaptive { tolerance, direction, scale, least_spread, relearn })
    }

    fn peers(self, table: &PeersTable) -> Result<Comparison, InvalidThreshold> {
        if !within(table.k, 1.0, 1000.0) {
            return self.refuse("peers", "`k` is a number from 1 to 1000");
        }
        if !within(Some(table.least_spread), 0.0, f64::MAX) {
            return self.refuse("peers", "`least_spread` is a finite number, and not negative");
        }
        let PeersTable { k, direction, least_spread } = *table;
        Ok(Comparison { k: k.unwrap_or(Comparison::K_DEFAULT), direction, least_spread })
    }

    fn condition(self, table: &Table, measure: Measure) -> Result<Condition, InvalidThreshold> {
        let Table { above, below, clear, .. } = *table;
        let limits = [("above", above), ("below", below), ("clear", clear)];
        let mut given = limits.iter().filter_map(|(key, limit)| Some((*key, (*limit)?)));
        if let Some((key, _)) = given.clone().find(|(_, limit)| !limit.is_finite()) {
            return self.refuse(key, "a finite number");
        }
        match (&table.adaptive, &table.peers) {
            (None, None) => {}
            (Some(_), Some(_)) => return self.refuse("peers", "a rule has `adaptive` or `peers`: make it two"),
            (adaptive, peers) => {
                if let Some((key, _)) = given.next() {
                    return self.refuse(key, "a rule has fixed limits, or `adaptive`, or `peers`: make it two");
                }
                if let Some(adaptive) = adaptive {
                    return self.adaptive(adaptive, measure).map(Condition::Adaptive);
                }
                if let Some(peers) = peers {
                    return self.peers(peers).map(Condition::Peers);
                }
            }
        }
        match (above, below) {
            (None, None) => return self.refuse("above", "a rule needs `above`, `below`, `adaptive` or `peers`"),
            (Some(above), Some(below)) if above < below => {
                return self.refuse("below", "with both limits, what lies between `below` and `above` is right");
            }
            (Some(_), Some(_)) if clear.is_some() => return self.refuse("clear", "with one limit only"),
            _ => {}
        }
        let wrong = |clear: f64| above.is_some_and(|above| clear > above) || below.is_some_and(|below| clear < below);
        if clear.is_some_and(wrong) {
            return self.refuse("clear", "a value that is right: no more than `above`, no less than `below`");
        }
        Ok(Condition::Limits { above, below, clear })
    }
}

/// Whether it can be the name of a rule, a series or a label.
fn is_name(name: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let fits = !name.is_empty() && name.len() <= 200 && name.chars().all(word);
    fits && !name.starts_with(|c: char| c.is_ascii_digit())
}

fn within(value: Option<f64>, least: f64, most: f64) -> bool {
    value.is_none_or(|value| (least..=most).contains(&value))
}

impl Table {
    /// The rule, checked.
    pub fn check(self) -> Result<Threshold, InvalidThreshold> {
        let checked = Checked(&self.name);
        checked.names(&self)?;
        let measure = checked.measure(&self)?;
        let condition = checked.condition(&self, measure)?;
        let hold = checked.time("for", self.hold.as_deref(), DAY)?;
        let clear_hold = checked.time("clear_for", self.clear_for.as_deref(), DAY)?;
        if self.summary.is_empty() || self.summary.len() > TEXT_MOST {
            return checked.refuse("summary", "a line for people, up to 500 characters");
        }
        let summary = match Template::parse(&self.summary) {
            Ok(summary) => summary,
            Err(expected) => return checked.refuse("summary", expected),
        };
        let hold = hold.unwrap_or(match condition {
            Condition::Peers(_) => Comparison::HOLD_DEFAULT,
            Condition::Limits { .. } | Condition::Adaptive(_) => 0.0,
        });
        Ok(Threshold {
            name: self.name,
            series: self.series,
            filter: Filter { labels: self.labels, except: self.except },
            measure,
            ratio_to: self.ratio_to,
            condition,
            hold,
            // What comes and goes is one alert, not many.
            clear_hold: clear_hold.unwrap_or(2.0 * hold),
            severity: self.severity,
            action: self.action,
            summary,
        })
    }
}
