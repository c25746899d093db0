//! What failed in a job, and how long each step of the way back took.
//!
//! Comes in: what supervisors journalled, what ranks and agents found wrong, and how attempts ended. Goes out: one [`Fault`] for each failure, in order. What must hold: a failure is told once,
//! whether a supervisor saw it or not; times that nobody measured are missing.

use piton::ids::Epoch;
use piton::journal::{Event, WallTime};
use piton::schedule::{Ending, History};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Pieces of evidence that are kept of a failure.
const EVIDENCE: usize = 32;

/// A failure. Times in seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fault {
    /// The attempt that failed; where none had come of the launch, the next one.
    pub epoch: u64,
    /// The supervisor's number of it; none: no supervisor saw it.
    pub number: Option<u32>,
    /// What it was: the rule that found it, or what the launcher did.
    pub class: String,
    /// In words.
    pub summary: String,
    /// Which rank, where that is known.
    pub rank: Option<u32>,
    /// Which node, where that is known.
    pub node: Option<String>,
    /// What speaks for it.
    pub evidence: Vec<String>,
    /// What was done about it.
    pub action: Option<String>,
    /// When the attempt had computed last.
    pub computed_until: WallTime,
    /// When it was known, where anybody knew.
    pub detected: Option<WallTime>,
    /// When the job computed again, where it did.
    pub recovered: Option<WallTime>,
    /// The step that it computed first then.
    pub recovered_step: Option<u64>,
    /// From the last step until it was known.
    pub detect_seconds: Option<f64>,
    /// From there until the rank or node was known.
    pub locate_seconds: Option<f64>,
    /// From there until it was decided what to do.
    pub handle_seconds: Option<f64>,
    /// From there until the job computed again.
    pub recover_seconds: Option<f64>,
    /// The work that it undid, where a later attempt says what it went on from; of several failures of one attempt, the first has it.
    pub lost_seconds: Option<f64>,
}

/// A supervisor's event, as it stands in the journal of an attempt.
#[derive(Debug, Clone)]
pub(super) struct Told {
    pub epoch: Epoch,
    pub at: WallTime,
    pub event: Event,
}

/// Something that a rank or an agent found to be critically wrong.
#[derive(Debug, Clone)]
pub(super) struct Sighted {
    pub epoch: Epoch,
    pub at: WallTime,
    pub rule: String,
    pub summary: String,
    pub labels: BTreeMap<String, String>,
    pub evidence: Vec<String>,
}

/// What a supervisor has said of one failure so far.
#[derive(Debug, Clone)]
struct Open {
    epoch: Epoch,
    detected: WallTime,
    class: String,
    summary: String,
    located: Option<WallTime>,
    rank: Option<u32>,
    node: Option<String>,
    evidence: Vec<String>,
    handled: Option<WallTime>,
    action: Option<String>,
    recovered: Option<(WallTime, u64)>,
}

impl Fault {
    /// When it was known; where nobody knew, when the attempt had computed last.
    #[must_use]
    pub fn at(&self) -> WallTime {
        self.detected.unwrap_or(self.computed_until)
    }
}

/// All failures, oldest first. `told` holds what supervisors said, in order; `sighted` what was found.
pub(super) fn faults(history: &History, told: &[Told], sighted: &[Sighted]) -> Vec<Fault> {
    let seen = by_supervisors(told);
    let place = |epoch: Epoch| history.attempts().iter().position(|attempt| attempt.epoch() == epoch);
    let mut faults: Vec<(WallTime, Fault)> = Vec::new();
    let mut accounted: BTreeMap<u64, usize> = BTreeMap::new();
    for (number, open) in seen {
        let at = place(open.epoch);
        // Of a launch that never came to an attempt, the next one tells.
        let own = at.filter(|at| history.attempts()[*at].started() <= open.detected);
        let moments = own.and_then(|at| history.moments(at));
        // Several in one attempt undo the work once.
        let count = own.map_or(0, |_| {
            let count = accounted.entry(open.epoch.0).or_default();
            *count += 1;
            *count
        });
        let lost = if count == 1 { own.and_then(|at| history.lost(at)) } else { Some(0.0) };
        faults.push((open.detected, open.into_fault(number, moments.map(|moments| moments.computed), lost)));
    }
    for (at, attempt) in history.attempts().iter().enumerate() {
        if history.ending(at) != Ending::Failed || accounted.contains_key(&attempt.epoch().0) {
            continue;
        }
        let Some(moments) = history.moments(at) else { continue };
        let next = history.attempts().get(at + 1);
        let recovered = next.and_then(piton::schedule::Attempt::computing);
        // What was found first is the cause, where anything was; what followed, its consequence.
        let found = sighted.iter().find(|sighted| sighted.epoch == attempt.epoch() && sighted.at >= moments.computing);
        let label = |name: &str| found.and_then(|found| found.labels.get(name));
        let detected = found.map(|found| found.at);
        let known = detected.unwrap_or(moments.known);
        let span = |from: WallTime, to: WallTime| from.until(to).as_secs_f64();
        faults.push((
            known,
            Fault {
                epoch: attempt.epoch().0,
                number: None,
                class: found.map_or_else(|| "Ended".to_owned(), |found| found.rule.clone()),
                summary: found.map_or_else(
                    || "the attempt ended without a word, and nobody saw why".to_owned(),
                    |found| found.summary.clone(),
                ),
                rank: label("rank").and_then(|rank| rank.parse().ok()),
                node: label("node").cloned(),
                evidence: found.map_or_else(Vec::new, |found| found.evidence.iter().take(EVIDENCE).cloned().collect()),
                action: None,
                computed_until: moments.computed,
                detected,
                recovered,
                recovered_step: None,
                detect_seconds: detected.map(|detected| span(moments.computed, detected)),
                locate_seconds: label("rank").or(label("node")).map(|_| 0.0),
                handle_seconds: None,
                recover_seconds: recovered.map(|recovered| span(known, recovered)),
                lost_seconds: history.lost(at),
            },
        ));
    }
    faults.sort_by_key(|(at, _)| *at);
    faults.into_iter().map(|(_, fault)| fault).collect()
}

/// What supervisors said, failure by failure. Their numbers start anew with each supervisor.
fn by_supervisors(told: &[Told]) -> Vec<(u32, Open)> {
    let mut all: Vec<(u32, Open)> = Vec::new();
    // The newest failure of each number: what follows is of that one.
    let find = |all: &[(u32, Open)], failure: u32| all.iter().rposition(|(number, _)| *number == failure);
    for Told { epoch, at, event } in told {
        match event {
            Event::FailureDetected { failure, class, summary } => {
                let (class, summary) = (class.clone(), summary.clone());
                let open = Open {
                    epoch: *epoch,
                    detected: *at,
                    class,
                    summary,
                    located: None,
                    rank: None,
                    node: None,
                    evidence: Vec::new(),
                    handled: None,
                    action: None,
                    recovered: None,
                };
                all.push((*failure, open));
            }
            Event::FailureLocated { failure, rank, node, evidence } => {
                if let Some(place) = find(&all, *failure) {
                    let open = &mut all[place].1;
                    (open.rank, open.node) = (*rank, node.clone());
                    open.located = (rank.is_some() || node.is_some()).then_some(*at);
                    open.evidence = evidence.iter().take(EVIDENCE).cloned().collect();
                }
            }
            Event::FailureHandled { failure, action, .. } => {
                if let Some(place) = find(&all, *failure) {
                    (all[place].1.handled, all[place].1.action) = (Some(*at), Some(action.clone()));
                }
            }
            Event::FailureRecovered { failure, step, .. } => {
                let Some(place) = find(&all, *failure) else { continue };
                // Those that followed it before the job computed are over with it.
                for (_, open) in all[place..].iter_mut().filter(|(_, open)| open.recovered.is_none()) {
                    open.recovered = Some((*at, *step));
                }
            }
            _ => {}
        }
    }
    all
}

impl Open {
    fn into_fault(self, number: u32, computed: Option<WallTime>, lost_seconds: Option<f64>) -> Fault {
        let span = |from: WallTime, to: WallTime| from.until(to).as_secs_f64();
        let known = self.located.unwrap_or(self.detected);
        Fault {
            epoch: self.epoch.0,
            number: Some(number),
            class: self.class,
            summary: self.summary,
            rank: self.rank,
            node: self.node,
            evidence: self.evidence,
            action: self.action,
            computed_until: computed.unwrap_or(self.detected).min(self.detected),
            detected: Some(self.detected),
            recovered: self.recovered.map(|(at, _)| at),
            recovered_step: self.recovered.map(|(_, step)| step),
            detect_seconds: computed.map(|computed| span(computed, self.detected)),
            locate_seconds: self.located.map(|located| span(self.detected, located)),
            handle_seconds: self.handled.map(|handled| span(known, handled)),
            recover_seconds: self.recovered.map(|(at, _)| span(self.handled.unwrap_or(known), at)),
            lost_seconds,
        }
    }
}
