//! All rules on all series of all nodes.
//!
//! Comes in: the samples of one node at a time. Goes out: what is wrong now, and what no longer is. What must hold: memory is bounded
//! by a number of series; what is no longer measured is not wrong for ever; a value that is no number changes nothing; no clock is
//! read.

use super::adaptive::{Detector, Verdict};
use super::alarm::{Alarm, State, Turn};
use super::rule::{Condition, Measure, Threshold};
use super::statistics::Growth;
use crate::watch::{Action, Change, Finding, Kind, Labels, Sample, Series, Severity};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Series that are watched at the most, of all nodes together, where nobody says anything else.
pub const SERIES_MOST: usize = 20_000;
/// After how many seconds without a value a series is gone (Prometheus's staleness).
const GONE: f64 = 300.0;
/// How often one looks whether any is, seconds.
const SWEEP: f64 = 60.0;
/// Notes that wait to be read, at the most; the newest.
const NOTES: usize = 100;
/// The rule that says that there are too many series.
const TOO_MANY: &str = "TooManySeries";

type SeriesLabels = BTreeMap<Cow<'static, str>, String>;

/// What a rule takes of one series, over time.
#[derive(Debug, Clone)]
struct Meter {
    measure: Measure,
    growth: Growth,
}

impl Meter {
    fn new(measure: Measure) -> Self {
        let window = match measure {
            Measure::Value => 0.0,
            Measure::Rate(window) | Measure::Increase(window) => window,
        };
        Self { measure, growth: Growth::over(window) }
    }

    fn add(&mut self, now: f64, value: f64) -> Option<f64> {
        match self.measure {
            Measure::Value => Some(value),
            Measure::Rate(_) => self.growth.add(now, value).map(|(grown, seconds)| grown / seconds),
            Measure::Increase(_) => self.growth.add(now, value).map(|(grown, _)| grown),
        }
    }
}

/// One series by one rule.
#[derive(Debug)]
struct Slot {
    rule: usize,
    meter: Meter,
    divisor: Option<Meter>,
    detector: Option<Box<Detector>>,
    alarm: Alarm,
    /// The newest value, and when that was; at first when the series was seen.
    shown: Option<f64>,
    shown_at: f64,
}

impl Slot {
    fn new(rule: usize, threshold: &Threshold, now: f64) -> Self {
        let detector = match threshold.condition {
            Condition::Adaptive(adaptive) => Some(Box::new(Detector::new(adaptive))),
            Condition::Limits { .. } | Condition::Peers(_) => None,
        };
        Self {
            rule,
            meter: Meter::new(threshold.measure),
            divisor: threshold.ratio_to.as_ref().map(|_| Meter::new(threshold.measure)),
            detector,
            alarm: Alarm::default(),
            shown: None,
            shown_at: now,
        }
    }

    /// What the rule takes of the series now.
    fn measure(&mut self, now: f64, value: f64, divisor: Option<(Kind, f64)>) -> Option<f64> {
        let value = self.meter.add(now, value);
        let Some(meter) = &mut self.divisor else { return value };
        let divisor = match divisor? {
            (Kind::Counter, divisor) => meter.add(now, divisor)?,
            (Kind::Gauge, divisor) => divisor,
        };
        // Nothing of nothing is no share, and a limit below nothing none that was meant.
        (divisor > 0.0).then_some(value? / divisor).filter(|ratio| ratio.is_finite())
    }
}

#[derive(Debug)]
struct Watched {
    seen: f64,
    slots: Vec<Slot>,
}

#[derive(Debug, Default)]
struct Node {
    series: HashMap<Series, Watched>,
    /// Of each rule, how many series it watches.
    watched: Vec<usize>,
}

/// Evaluates rules.
///
/// ```
/// use piton::watch::threshold::Evaluator;
/// use piton::watch::{Change, Rules, Sample, Series};
///
/// let mut evaluator = Evaluator::new(Rules::defaults().thresholds);
/// let killed = |count| [Sample::counter(Series::new("node_vmstat_oom_kill"), count)];
/// assert!(evaluator.evaluate(0.0, "n1", &killed(3.0)).is_empty());
/// let changes = evaluator.evaluate(15.0, "n1", &killed(4.0));
/// assert!(matches!(&changes[..], [Change::Raised(finding)] if finding.rule == "ProcessKilledForMemory"));
/// ```
#[derive(Debug)]
pub struct Evaluator {
    rules: Vec<Threshold>,
    by_name: HashMap<String, Vec<usize>>,
    divisors: BTreeSet<String>,
    compares: bool,
    nodes: BTreeMap<String, Node>,
    series: usize,
    most: usize,
    refused: bool,
    swept: Option<f64>,
    notes: Vec<String>,
}

impl Evaluator {
    /// Of these rules, for [`SERIES_MOST`] series at the most.
    #[must_use]
    pub fn new(rules: Vec<Threshold>) -> Self {
        let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
        for (place, rule) in rules.iter().enumerate() {
            by_name.entry(rule.series.clone()).or_default().push(place);
        }
        Self {
            by_name,
            divisors: rules.iter().filter_map(|rule| rule.ratio_to.clone()).collect(),
            compares: rules.iter().any(|rule| matches!(rule.condition, Condition::Peers(_))),
            rules,
            nodes: BTreeMap::new(),
            series: 0,
            most: SERIES_MOST,
            refused: false,
            swept: None,
            notes: Vec::new(),
        }
    }

    /// The same for another number of series.
    #[must_use]
    pub fn most_series(self, most: usize) -> Self {
        Self { most, ..self }
    }

    /// How many series are watched, of all nodes.
    #[must_use]
    pub fn watched(&self) -> usize {
        self.series
    }

    /// What happened besides, for people, since this was asked the last time: alarms that ended because nothing is measured any more.
    pub fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    /// Takes what was measured on `node` at `now`, seconds of any clock that does not go back, and tells what has changed.
    pub fn evaluate(&mut self, now: f64, node: &str, samples: &[Sample]) -> Vec<Change> {
        let mut changes = Vec::new();
        if !now.is_finite() {
            return changes;
        }
        if self.swept.is_none_or(|swept| now - swept >= SWEEP) {
            self.swept = Some(now);
            self.sweep(now, &mut changes);
        }
        // Only what some rule divides by is looked up.
        let none = BTreeMap::new();
        let divisors: HashMap<(&str, &SeriesLabels), (Kind, f64)> = samples
            .iter()
            .filter(|sample| self.divisors.contains(sample.series.name.as_ref()) && sample.value.is_finite())
            .map(|sample| ((sample.series.name.as_ref(), &sample.series.labels), (sample.kind, sample.value)))
            .collect();
        for sample in samples.iter().filter(|sample| sample.value.is_finite()) {
            let Some(rules) = self.by_name.get(sample.series.name.as_ref()) else { continue };
            let known = self.nodes.get(node).is_some_and(|node| node.series.contains_key(&sample.series));
            if !known {
                let fits = |place: &&usize| fits(&self.rules[**place], sample);
                let slots: Vec<Slot> =
                    rules.iter().filter(fits).map(|place| Slot::new(*place, &self.rules[*place], now)).collect();
                if slots.is_empty() {
                    continue;
                }
                if self.series >= self.most {
                    if !self.refused {
                        self.refused = true;
                        changes.push(Change::Raised(self.too_many(node)));
                    }
                    continue;
                }
                let count = self.rules.len();
                let of_node = self.nodes.entry(node.to_owned()).or_default();
                of_node.watched.resize(count, 0);
                slots.iter().for_each(|slot| of_node.watched[slot.rule] += 1);
                of_node.series.insert(sample.series.clone(), Watched { seen: now, slots });
                self.series += 1;
            }
            let Some(of_node) = self.nodes.get_mut(node) else { continue };
            let Some(watched) = of_node.series.get_mut(&sample.series) else { continue };
            watched.seen = now;
            for slot in &mut watched.slots {
                let rule = &self.rules[slot.rule];
                let of = |labels| divisors.get(&(rule.ratio_to.as_deref()?, labels)).copied();
                let divisor = of(&sample.series.labels).or_else(|| of(&none));
                let Some(value) = slot.measure(now, sample.value, divisor) else { continue };
                (slot.shown, slot.shown_at) = (Some(value), now);
                let Some((state, value, limit)) = judge(rule, slot, now, value, of_node.watched[slot.rule]) else {
                    continue;
                };
                let turn = slot.alarm.step(now, state, rule.hold, rule.clear_hold);
                changes.extend(turn.map(|turn| change(rule, turn, node, &sample.series, value, limit)));
            }
        }
        changes
    }

    /// Compares nodes with each other, by what each showed last; to be called when all that are to be compared have been evaluated.
    pub fn compare(&mut self, now: f64) -> Vec<Change> {
        let mut changes = Vec::new();
        if !self.compares || !now.is_finite() {
            return changes;
        }
        for (place, rule) in self.rules.iter().enumerate() {
            let Condition::Peers(comparison) = rule.condition else { continue };
            let mut groups: BTreeMap<Series, Vec<(&str, &mut Slot)>> = BTreeMap::new();
            for (node, of_node) in &mut self.nodes {
                for (series, watched) in &mut of_node.series {
                    // What is as old as a sweep is not of this moment.
                    if now - watched.seen > SWEEP {
                        continue;
                    }
                    let slot = watched.slots.iter_mut().find(|slot| slot.rule == place && slot.shown.is_some());
                    if let Some(slot) = slot {
                        groups.entry(series.clone()).or_default().push((node, slot));
                    }
                }
            }
            for (series, mut slots) in groups {
                let values: Vec<f64> = slots.iter().map(|(_, slot)| slot.shown.unwrap_or(f64::NAN)).collect();
                let scores = comparison.scores(&values);
                for (place, (node, slot)) in slots.iter_mut().enumerate() {
                    // What too few show is not wrong any more.
                    let (state, value, limit) = match scores.as_ref().map(|scores| scores[place]) {
                        Some(compared) => (by_score(compared.score, comparison.k), compared.value, compared.limit),
                        None => (State::Right, values[place], values[place]),
                    };
                    let turn = slot.alarm.step(now, state, rule.hold, rule.clear_hold);
                    changes.extend(turn.map(|turn| change(rule, turn, node, &series, value, limit)));
                }
            }
        }
        changes
    }

    /// Lets go of series that are no longer measured.
    fn sweep(&mut self, now: f64, changes: &mut Vec<Change>) {
        let (rules, notes, count) = (&self.rules, &mut self.notes, &mut self.series);
        let mut over = Vec::new();
        for (node, of_node) in &mut self.nodes {
            let on_rule = &mut of_node.watched;
            of_node.series.retain(|series, watched| {
                // A ratio has no value where there is nothing to divide by.
                for slot in watched.slots.iter_mut().filter(|slot| now - slot.shown_at > GONE) {
                    if slot.alarm.fires() {
                        let rule = &rules[slot.rule];
                        let note = format!("{} is over on {node}: {series} is no longer measured", rule.name);
                        over.push((rule.name.clone(), labels(node, series), note));
                    }
                    slot.alarm = Alarm::default();
                }
                let gone = now - watched.seen > GONE;
                if gone {
                    *count -= 1;
                    watched.slots.iter().for_each(|slot| on_rule[slot.rule] -= 1);
                }
                !gone
            });
        }
        // Hashed series come in any order.
        over.sort();
        for (rule, labels, note) in over {
            changes.push(Change::Cleared { rule, labels });
            notes.push(note);
        }
        self.nodes.retain(|_, node| !node.series.is_empty());
        let surplus = self.notes.len().saturating_sub(NOTES);
        self.notes.drain(..surplus);
    }

    fn too_many(&self, node: &str) -> Finding {
        Finding {
            rule: TOO_MANY.to_owned(),
            severity: Severity::Info,
            labels: Labels::from([("node".to_owned(), node.to_owned())]),
            summary: format!(
                "{} series are watched, and no more: filter some out with `labels` or `except` in the rule file",
                self.most
            ),
            action: Action::Nothing,
            lasts: Some(86_400.0),
        }
    }
}

/// Whether a rule is about this series.
fn fits(rule: &Threshold, sample: &Sample) -> bool {
    // The rate of what goes up and down is nonsense.
    let counts = matches!(rule.measure, Measure::Value) || sample.kind == Kind::Counter;
    counts && rule.filter.fits(|label| sample.series.label(label))
}

fn by_score(score: f64, k: f64) -> State {
    match score {
        score if score > k => State::Wrong,
        score if score < k / 2.0 => State::Right,
        _ => State::Between,
    }
}

/// What a value is by its rule, with what people are told of it and the limit; `None` where that can't be told here or yet.
fn judge(rule: &Threshold, slot: &mut Slot, now: f64, value: f64, series: usize) -> Option<(State, f64, f64)> {
    match &rule.condition {
        Condition::Limits { above, below, clear } => {
            let too_much = above.filter(|above| value > *above);
            let too_little = below.filter(|below| value < *below);
            let limit = too_much.or(too_little).or(*above).or(*below)?;
            let right = match (clear, above) {
                (None, _) => true,
                (Some(clear), Some(_)) => value <= *clear,
                (Some(clear), None) => value >= *clear,
            };
            let state = match (too_much.or(too_little), right) {
                (Some(_), _) => State::Wrong,
                (None, true) => State::Right,
                (None, false) => State::Between,
            };
            Some((state, value, limit))
        }
        Condition::Adaptive(_) => {
            let detector = slot.detector.as_mut()?;
            let verdict = detector.add(now, value, series);
            // It has hysteresis of its own. One that has begun to learn anew has nothing against the value.
            match verdict {
                Some(Verdict { value, limit, alarming: true, .. }) => Some((State::Wrong, value, limit)),
                Some(Verdict { value, limit, .. }) => Some((State::Right, value, limit)),
                None => (!detector.alarms()).then_some((State::Right, value, value)),
            }
        }
        Condition::Peers(_) => None,
    }
}

fn labels(node: &str, series: &Series) -> Labels {
    let labels = series.labels.iter().map(|(label, value)| (label.to_string(), value.clone()));
    // The series' own label `node` would say which node it is about, not who measured it: that of the samples wins.
    labels.chain([("node".to_owned(), node.to_owned())]).collect()
}

fn change(rule: &Threshold, turn: Turn, node: &str, series: &Series, value: f64, limit: f64) -> Change {
    let labels = labels(node, series);
    match turn {
        Turn::Ends => Change::Cleared { rule: rule.name.clone(), labels },
        Turn::Begins => Change::Raised(Finding {
            rule: rule.name.clone(),
            severity: rule.severity,
            summary: rule.summary.fill(value, limit, &labels),
            labels,
            action: rule.action,
            lasts: None,
        }),
    }
}
