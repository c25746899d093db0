//! The scheduler: decides, as the job runs, when the next checkpoint is due.
//!
//! Comes in: what happens, told by whoever runs it: attempts that begin and end, steps, checkpoints taken and what they cost,
//! predictions; and the user's bounds. Goes out: how long until the next checkpoint, whether one is wanted now, and why.
//! What must hold: it reads no clock and no file, so that the job and the simulator run the same code, each in a time of its own;
//! asking changes nothing; the user's bounds win over everything else; nothing is due that could not complete before the end.
//!
//! ```text
//! M  ◄── belief (setting, site, default) + failures and time survived        mtbf
//! C  ◄── stood still + steps lost, smoothed; grows with the interval?        cost
//!          │
//!          ▼
//!   Daly's interval ─► no shorter than a commit takes ─► user's bounds ─► spread evenly over what is left ─► due
//! ```

use super::cost::{GrowthFit, Smoothed, StepTimes};
use super::mtbf::{Belief, FailureRate, mtbf_after};
use super::prediction::{TrackRecord, unforeseen, worth_acting};
use super::young_daly::{Costs, daly, waste_parts, young};
use crate::journal::{Rule, Schedule};
use serde::{Deserialize, Serialize};

/// The first checkpoint, which shows what one costs, is due when it costs this share of the work before it, as far as can be guessed,
const PROBE_SHARE: f64 = 0.01;
/// but not before so many seconds, which it takes to know how long steps are,
const PROBE_SOONEST: f64 = 1.0;
/// and after so many at the latest.
const PROBE_LATEST: f64 = 60.0;

/// Seconds that a commit before the end of the allocation gets besides what commits take.
pub(crate) const END_SLACK: f64 = 1.0;

/// What the user wants between two checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    /// What wastes least.
    #[default]
    Auto,
    /// So many seconds.
    Fixed(f64),
    /// None by time.
    Off,
}

/// The user's bounds. Times are in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rules {
    /// What lies between two checkpoints.
    pub period: Period,
    /// No less between two of them, whoever foresees a failure.
    pub min_interval: f64,
    /// And no more.
    pub max_interval: f64,
    /// When the allocation ends, in the scheduler's own time; infinite where it is not known.
    pub end: f64,
    /// Whether a last checkpoint is taken before that, also where none is by time otherwise.
    pub last: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self { period: Period::Auto, min_interval: 0.0, max_interval: f64::INFINITY, end: f64::INFINITY, last: true }
    }
}

/// What is assumed before anything is measured.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Guess {
    /// What a checkpoint costs, seconds.
    pub cost: f64,
    /// How long until it is durable, seconds.
    pub latency: f64,
}

impl Guess {
    /// That of a state of `bytes`: a copy at 4 GB/s, the pace of one slow core, and storage at 200 MB/s, that of a busy parallel
    /// file system. The first checkpoint replaces it.
    #[must_use]
    pub fn of_state(bytes: u64) -> Self {
        let bytes = bytes as f64;
        Self { cost: 1e-3 + bytes / 4e9, latency: 0.1 + bytes / 2e8 }
    }
}

/// When the next checkpoint is due, and why then.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plan {
    /// In the scheduler's own time; infinite: never.
    pub due: f64,
    /// Seconds from the last one's call to the next one's; infinite: none.
    pub interval: f64,
    /// What the formula says without bounds, seconds of work; 0 where none was asked.
    pub optimum: f64,
    /// What decided.
    pub rule: Rule,
}

/// Decides when checkpoints are due. All times are seconds of one clock of the caller's, which never goes back.
///
/// ```
/// use piton::schedule::{Belief, Guess, Rules, Scheduler};
/// let mut scheduler = Scheduler::new(Rules::default(), Belief::Job(3600.0), 1.0, Guess::default());
/// scheduler.started(0.0);
/// scheduler.computing(0.0);
/// scheduler.taken(60.0);
/// scheduler.cost(1.5, 0.5);
/// scheduler.committed(8.0);
/// // √(2 · 2 s · 1 h) = 120 s, and as much as Daly's terms of higher order add.
/// let plan = scheduler.plan(61.5);
/// assert!((plan.interval - 121.0).abs() < 1.5, "{plan:?}");
/// assert!(!scheduler.wants(170.0) && scheduler.wants(190.0));
/// ```
#[derive(Debug, Clone)]
pub struct Scheduler {
    rules: Rules,
    rate: FailureRate,
    guess: Guess,
    blocked: Smoothed,
    slowed: Smoothed,
    latency: Smoothed,
    restart: Smoothed,
    downtime: Smoothed,
    growth: GrowthFit,
    steps: StepTimes,
    record: TrackRecord,
    /// When the last failure struck.
    failed: Option<f64>,
    /// Since when the attempt runs; none does where this is missing.
    started: Option<f64>,
    /// The call of the last checkpoint, or since when the application computes.
    last: f64,
    /// Whether no checkpoint was taken since the application computes.
    fresh: bool,
    /// From the one before the last checkpoint to the last.
    period: Option<f64>,
    /// When the failure is expected that was predicted last; infinite: nobody said.
    predicted: Option<f64>,
}

impl Scheduler {
    /// One that knows no more than what is believed of the nodes, of which the job has `nodes`.
    #[must_use]
    pub fn new(rules: Rules, belief: Belief, nodes: f64, guess: Guess) -> Self {
        Self {
            rules,
            rate: belief.rate(nodes),
            guess,
            blocked: Smoothed::default(),
            slowed: Smoothed::default(),
            latency: Smoothed::default(),
            restart: Smoothed::default(),
            downtime: Smoothed::default(),
            growth: GrowthFit::default(),
            steps: StepTimes::default(),
            record: TrackRecord::default(),
            failed: None,
            started: None,
            last: 0.0,
            fresh: true,
            period: None,
            predicted: None,
        }
    }

    // ---- what happened ----

    /// The size of the state is known now.
    pub fn guess(&mut self, guess: Guess) {
        self.guess = guess;
    }

    /// The user's bounds from now on.
    pub fn bound(&mut self, rules: Rules) {
        self.rules = rules;
    }

    /// An attempt begins.
    pub fn started(&mut self, now: f64) {
        self.started = Some(now);
        self.computing(now);
        self.period = None;
        self.predicted = None;
    }

    /// The state is there, and the application computes from now on.
    pub fn computing(&mut self, now: f64) {
        self.last = now;
        self.fresh = true;
    }

    /// The attempt is over, by a failure or not. `size`: on how many nodes it ran, as a share of those that the job has now.
    pub fn over(&mut self, now: f64, failed: bool, size: f64) {
        if failed {
            self.failed = Some(now);
        }
        if let Some(started) = self.started.take() {
            self.observe(f64::from(u8::from(failed)), size * (now - started));
        }
    }

    /// Failures in so many seconds that this scheduler did not see itself.
    pub fn observe(&mut self, failures: f64, seconds: f64) {
        self.rate.observe(failures, seconds);
    }

    /// How predictions did before.
    pub fn remember(&mut self, record: TrackRecord) {
        self.record = record;
    }

    /// So many steps took so many seconds.
    pub fn steps(&mut self, steps: u64, seconds: f64) {
        self.steps.add(steps, seconds);
    }

    /// A checkpoint was called for at `now`.
    pub fn taken(&mut self, now: f64) {
        self.period = Some(now - self.last);
        self.last = now;
        self.fresh = false;
        self.predicted = None;
    }

    /// What the last checkpoint took from the application: seconds that it stood still, and that its steps lost (less than 0 where
    /// they were faster).
    pub fn cost(&mut self, blocked: f64, slowed: f64) {
        self.blocked.add(blocked);
        self.slowed.add(slowed);
        if let Some(period) = self.period {
            self.growth.add(period, blocked + slowed.max(0.0));
        }
    }

    /// The last checkpoint is durable, so many seconds after it was called for.
    pub fn committed(&mut self, latency: f64) {
        self.latency.add(latency);
    }

    /// Bringing the state back took so many seconds.
    pub fn restarted(&mut self, seconds: f64) {
        self.restart.add(seconds);
    }

    /// From a failure to the next attempt it took so many seconds.
    pub fn was_down(&mut self, seconds: f64) {
        self.downtime.add(seconds);
    }

    /// Somebody foresees a failure, `lead` seconds from now where that is known.
    pub fn predicted(&mut self, now: f64, lead: Option<f64>) {
        let at = lead.map_or(f64::INFINITY, |lead| now + lead);
        self.predicted = Some(self.predicted.map_or(at, |earlier| earlier.min(at)));
    }

    // ---- what follows ----

    /// What a step takes, seconds; 0 before any.
    #[must_use]
    pub fn step_seconds(&self) -> f64 {
        self.steps.mean()
    }

    /// What is known of failures, with the time that the present attempt has survived so far.
    #[must_use]
    pub fn rate(&self, now: f64) -> FailureRate {
        let mut rate = self.rate;
        if let Some(started) = self.started {
            rate.observe(0.0, now - started);
        }
        rate
    }

    /// The mean time between failures for the interval after the last checkpoint: less so soon after a failure.
    fn present_mtbf(&self, mtbf: f64, cost: f64) -> f64 {
        match self.failed {
            // In the middle of the interval.
            Some(failed) => mtbf_after(mtbf, self.last - failed + young(cost, mtbf) / 2.0),
            None => mtbf,
        }
    }

    /// C, L, R and D as measured, or as guessed before that.
    #[must_use]
    pub fn costs(&self) -> Costs {
        let cost = self.felt().unwrap_or(self.guess.cost);
        Costs {
            cost,
            latency: self.latency.mean().unwrap_or(self.guess.latency),
            restart: self.restart.mean().unwrap_or(0.0),
            downtime: self.downtime.mean().unwrap_or(0.0),
        }
    }

    fn felt(&self) -> Option<f64> {
        Some(self.blocked.mean()? + self.slowed.mean().unwrap_or(0.0).max(0.0))
    }

    /// When the next checkpoint is due as things stand at `now`.
    #[must_use]
    pub fn plan(&self, now: f64) -> Plan {
        let (interval, optimum, rule) = self.interval(now);
        // The first stretch of work has no checkpoint before it.
        let spared = if self.fresh && matches!(rule, Rule::Daly | Rule::Growing) { interval - optimum } else { 0.0 };
        self.within_what_is_left(now, Plan { due: self.last + interval - spared, interval, optimum, rule })
    }

    /// Seconds from one call to the next, what the formula says, and what decided; before the end of the allocation is looked at.
    fn interval(&self, now: f64) -> (f64, f64, Rule) {
        match self.rules.period {
            Period::Off => return (f64::INFINITY, 0.0, Rule::Off),
            Period::Fixed(seconds) => return (seconds, 0.0, Rule::Fixed),
            Period::Auto => {}
        }
        let cost = self.costs().cost.max(1e-9);
        let mtbf = unforeseen(self.present_mtbf(self.rate(now).mtbf(), cost), self.record.recall());
        let measured = self.felt().is_some();
        let (optimum, period, mut rule) = match self.growth.growth() {
            Some(growth) => {
                let work = growth.optimum(mtbf);
                (work, work + growth.cost(work), Rule::Growing)
            }
            None => {
                let work = daly(cost, mtbf);
                (work, work + cost, Rule::Daly)
            }
        };
        let mut interval = period;
        if !measured {
            rule = Rule::Probe;
        }
        let mut bound = |bounded: f64, by: Rule| {
            if bounded != interval {
                (interval, rule) = (bounded, by);
            }
            interval
        };
        let probe = (self.guess.cost / PROBE_SHARE).clamp(PROBE_SOONEST, PROBE_LATEST);
        let wanted = if measured { period } else { bound(period.min(probe), Rule::Probe) };
        // One that is called for while the last is still being written would have to wait.
        let latency = self.latency.mean().unwrap_or(0.0);
        let longer = bound(wanted.max(latency), Rule::Latency);
        let shorter = bound(longer.min(self.rules.max_interval), Rule::MaxInterval);
        bound(shorter.max(self.rules.min_interval), Rule::MinInterval);
        (interval, optimum, rule)
    }

    /// The last moment at which a checkpoint may be called for, so that it is durable before the allocation ends.
    fn too_late(&self) -> f64 {
        let commit = self.latency.at_most().unwrap_or(2.0 * self.guess.latency).max(self.costs().cost);
        self.rules.end - commit - END_SLACK
    }

    /// From when on the last one is taken at the first chance.
    fn last_call(&self) -> f64 {
        // The step under way must end first, and the one after it may be longer.
        self.too_late() - 2.0 * (self.steps.mean() + 3.0 * self.steps.spread())
    }

    fn within_what_is_left(&self, now: f64, plan: Plan) -> Plan {
        if self.rules.end.is_infinite() || (plan.rule == Rule::Off && !self.rules.last) {
            return plan;
        }
        let last_call = self.last_call();
        let left = last_call - self.last;
        let cost = self.costs().cost;
        // The work since the last checkpoint is lost with the allocation: saving it must cost less, and can begin only once the last
        // one is durable. What stood still until after the last call comes too late, whatever was planned.
        let sooner = cost.max(self.latency.mean().unwrap_or(0.0)).max(self.rules.min_interval);
        if left <= sooner || now > self.too_late() {
            return Plan { due: f64::INFINITY, interval: f64::INFINITY, rule: Rule::TooLate, ..plan };
        }
        match plan.rule {
            Rule::Fixed | Rule::Off | Rule::MinInterval | Rule::MaxInterval | Rule::Latency | Rule::Probe => {
                // The user's own interval, or another that must be: only the last one is moved.
                if plan.due + cost < last_call {
                    plan
                } else {
                    Plan { due: last_call, interval: left, rule: Rule::Last, ..plan }
                }
            }
            _ => {
                // With n intervals of equal length over what is left, n C + left²/(2 n M) is wasted: n next to left / interval.
                let ideal = left / plan.interval;
                let waste = |n: f64| n + ideal * ideal / n;
                let (few, many) = (ideal.floor().max(1.0), ideal.ceil().max(1.0));
                let n = if waste(few) <= waste(many) { few } else { many };
                let n = n.max((left / self.rules.max_interval).ceil());
                let n = if n * self.rules.min_interval > left { (left / self.rules.min_interval).floor() } else { n };
                let interval = left / n;
                let rule = if n > 1.0 { Rule::Remaining } else { Rule::Last };
                // Where much is left, evenly spread is as before.
                if n > 8.0 { plan } else { Plan { due: self.last + interval, interval, rule, ..plan } }
            }
        }
    }

    /// Seconds from `now` until the next checkpoint is due; infinite: never.
    #[must_use]
    pub fn until_due(&self, now: f64) -> f64 {
        (self.plan(now).due - now).max(0.0)
    }

    /// Whether a checkpoint is wanted at `at`, where the application could take one, or only after `spacing` more steps.
    ///
    /// Checkpoints are taken between steps only. Waiting for the first chance after the interval would take them half a step late on
    /// average; a threshold that is earlier by [`StepTimes::overshoot`] makes the average interval the optimum (L. Han et al.,
    /// *Robustness of the Young/Daly formula for stochastic iterative applications*, ICPP 2020, prove the optimality of such
    /// thresholds).
    #[must_use]
    pub fn wants_within(&self, at: f64, spacing: u64) -> bool {
        let plan = self.plan(at);
        let early = match plan.rule {
            // Its time holds all that may come in between.
            Rule::Last => 0.0,
            _ => self.steps.overshoot(spacing).min(plan.interval),
        };
        at + early >= plan.due
    }

    /// As [`Self::wants_within`], where the next chance is one step later.
    #[must_use]
    pub fn wants(&self, now: f64) -> bool {
        self.wants_within(now, 1)
    }

    /// Whether the failure that was predicted last, if any, is worth a checkpoint now.
    #[must_use]
    pub fn wants_early(&self, now: f64) -> bool {
        let Some(at) = self.predicted else { return false };
        let (costs, since) = (self.costs(), now - self.last);
        let lead = at.is_finite().then_some(at - now);
        let in_time = now <= self.too_late();
        since >= self.rules.min_interval
            && in_time
            && worth_acting(since, costs.cost, self.record.precision(), lead, costs.latency)
    }

    /// Everything that the next checkpoint's time follows from, for people.
    #[must_use]
    pub fn explain(&self, now: f64) -> Schedule {
        let plan = self.plan(now);
        let rate = self.rate(now);
        let (low, high) = rate.credible(0.9);
        let finite = |value: f64| value.is_finite().then_some(value);
        let costs = self.costs();
        let parts = finite(plan.interval)
            .map(|interval| waste_parts((interval - costs.cost).max(interval * 0.01).max(1e-9), &costs, rate.mtbf()));
        Schedule {
            rule: plan.rule,
            next_seconds: finite(plan.due).map(|due| (due - now).max(0.0)),
            interval_seconds: finite(plan.interval),
            optimum_seconds: (plan.optimum > 0.0).then_some(plan.optimum),
            cost_seconds: costs.cost,
            blocked_seconds: self.blocked.mean(),
            slowed_seconds: self.slowed.mean(),
            latency_seconds: self.latency.mean(),
            restart_seconds: self.restart.mean(),
            downtime_seconds: self.downtime.mean(),
            step_seconds: Some(self.steps.mean()).filter(|mean| *mean > 0.0),
            mtbf_seconds: rate.mtbf(),
            mtbf_low_seconds: low,
            mtbf_high_seconds: high,
            mtbf_now_seconds: Some(self.present_mtbf(rate.mtbf(), costs.cost.max(1e-9))),
            failures: rate.failures(),
            observed_seconds: rate.observed(),
            recall: self.record.recall(),
            waste: parts.map(|parts| parts.checkpoints + parts.lost).filter(|waste| waste.is_finite()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// One that has taken a checkpoint at 0 which cost 2 s and was durable after `latency`.
    fn measured(rules: Rules, mtbf: f64, latency: f64) -> Scheduler {
        let mut scheduler = Scheduler::new(rules, Belief::Job(mtbf), 1.0, Guess::default());
        scheduler.started(0.0);
        scheduler.taken(0.0);
        scheduler.cost(1.6, 0.4);
        scheduler.committed(latency);
        scheduler
    }

    #[test]
    fn the_first_is_early_and_the_next_follow_from_it() {
        let mut scheduler = Scheduler::new(Rules::default(), Belief::Job(86_400.0), 1.0, Guess::of_state(40 << 30));
        scheduler.started(0.0);
        scheduler.computing(10.0);
        let plan = scheduler.plan(10.0);
        assert_eq!((plan.due, plan.rule), (70.0, Rule::Probe));
        scheduler.taken(70.0);
        // Its cost is not known at once.
        assert_eq!(scheduler.plan(70.0).rule, Rule::Probe);
        scheduler.cost(3.0, 0.0);
        scheduler.committed(30.0);
        let plan = scheduler.plan(80.0);
        assert!(plan.rule == Rule::Daly && (plan.optimum - daly(3.0, 86_480.0)).abs() < 1e-9, "{plan:?}");
    }

    #[test]
    fn a_slow_commit_lengthens_the_interval() {
        let scheduler = measured(Rules::default(), 100.0, 45.0);
        let plan = scheduler.plan(50.0);
        assert_eq!((plan.interval, plan.rule), (45.0, Rule::Latency));
    }

    #[test]
    fn the_users_bounds_win() {
        let day = 86_400.0;
        let plan = |rules: Rules| measured(rules, day, 3.0).plan(5.0);
        let free = plan(Rules::default());
        assert!(free.rule == Rule::Daly && (580.0..600.0).contains(&free.interval), "{free:?}");
        let most = plan(Rules { max_interval: 60.0, ..Rules::default() });
        assert_eq!((most.interval, most.rule), (60.0, Rule::MaxInterval));
        let least = plan(Rules { min_interval: 3600.0, ..Rules::default() });
        assert_eq!((least.interval, least.rule), (3600.0, Rule::MinInterval));
        let fixed = plan(Rules { period: Period::Fixed(7.0), ..Rules::default() });
        assert_eq!((fixed.interval, fixed.rule), (7.0, Rule::Fixed));
        let off = plan(Rules { period: Period::Off, end: 50.0, last: false, ..Rules::default() });
        assert_eq!((off.due, off.rule), (f64::INFINITY, Rule::Off));
        // Only steps are wanted: the last before the end is taken all the same.
        let steps = plan(Rules { period: Period::Off, end: 50.0, ..Rules::default() });
        assert!(steps.rule == Rule::Last && (40.0..46.0).contains(&steps.due), "{steps:?}");
        // Spread over what is left, but within the bounds.
        let spread = plan(Rules { max_interval: 600.0, end: 800.0, ..Rules::default() });
        assert!(spread.rule == Rule::Remaining && spread.interval < 400.0, "{spread:?}");
        let wide = plan(Rules { min_interval: 560.0, end: 900.0, ..Rules::default() });
        assert!(wide.rule == Rule::Last && wide.interval > 890.0, "{wide:?}");
        // Also over a prediction.
        let mut hasty = measured(Rules { min_interval: 100.0, ..Rules::default() }, day, 3.0);
        hasty.predicted(50.0, Some(30.0));
        assert!(!hasty.wants_early(50.0));
        hasty.predicted(101.0, Some(30.0));
        assert!(!hasty.wants_early(90.0) && hasty.wants_early(101.0) == (30.0 - 51.0 > 3.0));
    }

    #[test]
    fn a_prediction_is_acted_on_where_it_saves_more_than_it_costs() {
        let mut scheduler = measured(Rules::default(), 86_400.0, 3.0);
        scheduler.predicted(3.0, Some(60.0));
        // C = 2 and p = ½ before anything is known.
        assert!(!scheduler.wants_early(3.0) && scheduler.wants_early(4.1));
        assert!(!scheduler.wants_early(61.0), "it would not be durable in time");
        scheduler.taken(10.0);
        assert!(!scheduler.wants_early(30.0), "acted on once");
        let before = scheduler.plan(20.0).optimum;
        scheduler.remember(TrackRecord { foreseen: 6, missed: 1, false_alarms: 2 });
        assert!((scheduler.plan(20.0).optimum / before - 2.0).abs() < 0.1, "√(1/(1−r)), r = ¾");
    }

    #[test]
    fn the_last_checkpoint_completes_before_the_end() {
        for end in [100.0, 500.0, 900.0, 1500.0, 10_000.0, 100_000.0] {
            let rules = Rules { end, ..Rules::default() };
            let mut scheduler = measured(rules, 86_400.0, 8.0);
            scheduler.steps(10, 5.0);
            let (mut now, mut calls) = (0.0, vec![]);
            loop {
                let plan = scheduler.plan(now);
                if plan.due.is_infinite() {
                    assert_eq!(plan.rule, Rule::TooLate);
                    break;
                }
                // Steps of half a second.
                now = (plan.due / 0.5).ceil() * 0.5;
                scheduler.taken(now);
                scheduler.cost(1.6, 0.4);
                scheduler.committed(8.0);
                calls.push(now);
            }
            let last = *calls.last().expect("one at least");
            // 8 s and a quarter, two steps, a second.
            assert!(last + 8.0 < end && last + 8.0 + 5.0 > end, "{end}: {calls:?}");
            // None that is not worth it: never two within much less than the optimum.
            assert!(calls.windows(2).all(|pair| pair[1] - pair[0] > 300.0 || end < 300.0), "{end}: {calls:?}");
        }
    }

    #[test]
    fn a_stall_over_the_last_call_is_owned_up_to() {
        let mut scheduler = measured(Rules { end: 100.0, ..Rules::default() }, 86_400.0, 8.0);
        scheduler.steps(100, 50.0);
        assert_eq!(scheduler.plan(80.0).rule, Rule::Last);
        // What stood still until now cannot be saved any more.
        for now in [92.0, 99.0, 200.0] {
            assert!(!scheduler.wants(now));
            assert_eq!((scheduler.plan(now).rule, scheduler.plan(now).due), (Rule::TooLate, f64::INFINITY), "{now}");
            assert_eq!(scheduler.explain(now).next_seconds, None);
        }
    }

    #[test]
    fn no_last_checkpoint_saves_less_work_than_writing_it_takes() {
        let rules = Rules { end: 100.0, ..Rules::default() };
        let mut scheduler = Scheduler::new(rules, Belief::Job(86_400.0), 1.0, Guess::default());
        scheduler.started(0.0);
        scheduler.steps(100, 50.0);
        for (taken, rule) in [(70.0, Rule::Last), (86.0, Rule::TooLate)] {
            scheduler.taken(taken);
            scheduler.cost(0.001, 0.0);
            scheduler.committed(8.0);
            assert_eq!(scheduler.plan(taken).rule, rule, "{taken}");
        }
    }

    #[test]
    fn the_average_interval_is_the_one_wanted_whatever_steps_take() {
        let mut random = fastrand::Rng::with_seed(11);
        for (mean, spread) in [(1.0, 0.0), (10.0, 0.0), (10.0, 6.0), (40.0, 10.0), (70.0, 0.0)] {
            let rules = Rules { period: Period::Fixed(100.0), ..Rules::default() };
            let mut scheduler = measured(rules, 86_400.0, 1.0);
            let (mut now, mut calls) = (0.0, 0.0);
            for _ in 0..200_000 {
                let step = mean + spread * 3f64.sqrt() * (2.0 * random.f64() - 1.0);
                now += step;
                scheduler.steps(1, step);
                if scheduler.wants(now) {
                    scheduler.taken(now);
                    calls += 1.0;
                }
            }
            let average = now / calls;
            // Steps of 70 s can't make 100: next to it is 70 or 140.
            let off = (average / 100.0 - 1.0_f64).abs();
            assert!(off < if mean < 50.0 { 0.05 } else { 0.41 }, "steps of {mean} ± {spread}: {average}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_told_a_plan_is_a_plan(
            mtbf in 1e-3..1e12f64, blocked in 0.0..1e6f64, slowed in -1e3..1e6f64, latency in 0.0..1e6f64, failures in 0.0..100.0f64,
            end in 0.0..1e6f64, min in 0.0..1e4f64, max in 1.0..1e5f64,
        ) {
            let rules = Rules { min_interval: min.min(max), max_interval: max, end, ..Rules::default() };
            let mut scheduler = measured(rules, mtbf, latency);
            scheduler.observe(failures, mtbf);
            scheduler.cost(blocked, slowed);
            let plan = scheduler.plan(1.0);
            prop_assert!(plan.interval > 0.0 && !plan.due.is_nan());
            if plan.due.is_finite() {
                prop_assert!(plan.due + latency <= end, "{:?}", plan);
                prop_assert!(plan.interval >= rules.min_interval && (plan.interval <= max || plan.rule != Rule::Daly));
            }
            let _ = scheduler.explain(1.0);
        }
    }
}
