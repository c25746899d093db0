//! A job that checkpoints and fails, simulated from event to event.
//!
//! Comes in: what checkpoints cost, when failures strike, and a policy: a fixed interval, or the [`Scheduler`] of the real thing.
//! Goes out: where the time went. What must hold: the policy learns what it would learn in a real job, when it would, and nothing
//! else; the same seed gives the same outcome; the parts of the time add up to all of it.
//!
//! The model is the one of [`stretch`](super::stretch): the application stands still for C at a checkpoint's call and loses nothing
//! else; the checkpoint counts from L after its call on; one is written at a time; a failure costs D, in which there
//! are no others, then R, in which there are.

mod failures;
mod trace;

pub use failures::{Failures, Law, Renewal, Repeats, Trace};
pub use trace::{TraceError, TraceFile, TraceKind, read_trace};

use super::scheduler::Scheduler;
use super::young_daly::Costs;
use fastrand::Rng;
use serde::{Deserialize, Serialize};

/// Decides when a simulated job takes checkpoints, and is told what happens to it. Times are seconds.
pub trait Policy {
    /// An attempt begins, bringing the state back first.
    fn started(&mut self, _now: f64) {}
    /// It computes from now on; bringing the state back took so long, where there was one.
    fn computing(&mut self, _now: f64, _restart: Option<f64>) {}
    /// When the next checkpoint is due, as things stand at `now`.
    fn due(&self, now: f64) -> f64;
    /// Whether one is wanted at the end of a step.
    fn wants(&self, now: f64) -> bool {
        now >= self.due(now)
    }
    /// A step took so many seconds.
    fn step(&mut self, _seconds: f64) {}
    /// A checkpoint is called for.
    fn taken(&mut self, _now: f64) {}
    /// What it cost.
    fn cost(&mut self, _seconds: f64) {}
    /// It is durable, so long after its call.
    fn committed(&mut self, _latency: f64) {}
    /// The attempt ends by a failure, which takes so long until the next begins.
    fn failed(&mut self, _now: f64, _downtime: f64) {}
    /// The time from a checkpoint's call to the next one's, where that never changes.
    fn period(&self) -> Option<f64> {
        None
    }
}

/// Checkpoints at a fixed interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fixed {
    period: f64,
    /// Of it, what is no work.
    cost: f64,
    last: f64,
}

impl Fixed {
    /// `period` seconds from one call to the next.
    #[must_use]
    pub fn new(period: f64) -> Self {
        Self { period, cost: 0.0, last: 0.0 }
    }

    /// `work` seconds of work between checkpoints that cost `cost` seconds.
    #[must_use]
    pub fn after_work(work: f64, cost: f64) -> Self {
        Self { period: work + cost, cost, last: 0.0 }
    }
}

impl Policy for Fixed {
    fn computing(&mut self, now: f64, _: Option<f64>) {
        // The first stretch of work has no checkpoint before it.
        self.last = now - self.cost;
    }
    fn due(&self, _: f64) -> f64 {
        self.last + self.period
    }
    fn taken(&mut self, now: f64) {
        self.last = now;
    }
    fn period(&self) -> Option<f64> {
        Some(self.period)
    }
}

impl Policy for Scheduler {
    fn started(&mut self, now: f64) {
        Scheduler::started(self, now);
    }
    fn computing(&mut self, now: f64, restart: Option<f64>) {
        Scheduler::computing(self, now);
        if let Some(seconds) = restart {
            self.restarted(seconds);
        }
    }
    fn due(&self, now: f64) -> f64 {
        self.plan(now).due
    }
    fn wants(&self, now: f64) -> bool {
        Scheduler::wants(self, now)
    }
    fn step(&mut self, seconds: f64) {
        self.steps(1, seconds);
    }
    fn taken(&mut self, now: f64) {
        Scheduler::taken(self, now);
    }
    fn cost(&mut self, seconds: f64) {
        Scheduler::cost(self, seconds, 0.0);
    }
    fn committed(&mut self, latency: f64) {
        Scheduler::committed(self, latency);
    }
    fn failed(&mut self, now: f64, downtime: f64) {
        self.over(now, true, 1.0);
        self.was_down(downtime);
    }
}

/// How long a node is away, and how many can take its place.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Repair {
    /// How repair times are distributed.
    pub law: Law,
    /// Their mean, seconds.
    pub mean: f64,
    /// Nodes that stand ready. Where all are away, the job waits for the first that comes back.
    pub spares: u32,
}

/// How long the application's steps take.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Steps {
    /// Seconds on average.
    pub mean: f64,
    /// Standard deviation, seconds; steps are drawn from a log-normal distribution.
    pub spread: f64,
}

/// A second place for checkpoints, which outlives what takes the first one away.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct FarTier {
    /// Every so many checkpoints goes there.
    pub every: u32,
    /// What those cost, in place of [`Costs`]: cost, latency, restart.
    pub costs: Costs,
    /// The share of failures that need one of them, 0 to 1.
    pub needed: f64,
}

/// The job that is simulated.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Model {
    /// What checkpoints and failures cost.
    pub costs: Costs,
    /// Checkpoints are taken between steps; missing: anywhen.
    pub steps: Option<Steps>,
    /// Nodes are repaired; missing: there is always another.
    pub repair: Option<Repair>,
    /// A second place for checkpoints.
    pub far: Option<FarTier>,
}

/// When to stop; whatever comes first.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Until {
    /// After so many failures.
    pub failures: u64,
    /// At this time, seconds.
    pub time: f64,
    /// When so much work is done, seconds.
    pub work: f64,
}

impl Until {
    /// For ever.
    pub const NEVER: Self = Self { failures: u64::MAX, time: f64::INFINITY, work: f64::INFINITY };

    /// After so many failures.
    #[must_use]
    pub fn failures(failures: u64) -> Self {
        Self { failures, ..Self::NEVER }
    }

    /// At that time.
    #[must_use]
    pub fn time(time: f64) -> Self {
        Self { time, ..Self::NEVER }
    }

    /// When so much work is done.
    #[must_use]
    pub fn work(work: f64) -> Self {
        Self { work, ..Self::NEVER }
    }
}

/// Where the time went, seconds.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// All of it.
    pub time: f64,
    /// Work that was not lost.
    pub useful: f64,
    /// Standing still for checkpoints, those that were of no use in the end included.
    pub checkpoints: f64,
    /// Work that failures undid.
    pub lost: f64,
    /// Down.
    pub down: f64,
    /// Bringing the state back, also where that was struck by another failure.
    pub restarts: f64,
    /// Failures that struck.
    pub failures: u64,
    /// Checkpoints called for.
    pub taken: u64,
}

impl Outcome {
    /// The share of the time that was not useful, 0 to 1.
    #[must_use]
    pub fn waste(&self) -> f64 {
        (self.time - self.useful) / self.time
    }

    /// What came since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            time: self.time - earlier.time,
            useful: self.useful - earlier.useful,
            checkpoints: self.checkpoints - earlier.checkpoints,
            lost: self.lost - earlier.lost,
            down: self.down - earlier.down,
            restarts: self.restarts - earlier.restarts,
            failures: self.failures - earlier.failures,
            taken: self.taken - earlier.taken,
        }
    }
}

/// A checkpoint that was called for.
#[derive(Debug, Clone, Copy)]
struct Pending {
    called: f64,
    durable: f64,
    work: f64,
    far: bool,
}

/// A job on its way.
///
/// ```
/// use piton::schedule::{Costs, daly, simulate::{Fixed, Law, Model, Renewal, Simulation, Until}, waste};
/// let costs = Costs { cost: 30.0, latency: 60.0, restart: 30.0, downtime: 60.0 };
/// let (mtbf, work) = (3600.0, daly(30.0, 3600.0));
/// let failures = Renewal::new(Law::Exponential, mtbf, 1);
/// let mut job = Simulation::new(Model { costs, ..Model::default() }, failures, Fixed::after_work(work, 30.0), 2);
/// let outcome = job.run(Until::failures(100_000));
/// assert!((outcome.waste() / waste(work, &costs, mtbf) - 1.0).abs() < 0.02);
/// ```
#[derive(Debug)]
pub struct Simulation<F, P> {
    model: Model,
    failures: F,
    policy: P,
    random: Rng,
    now: f64,
    /// The failure that strikes next.
    fail: f64,
    /// Work done, and of it what checkpoints hold, near and far.
    work: f64,
    saved: f64,
    saved_far: f64,
    pending: Option<Pending>,
    /// When nodes that are away come back.
    away: Vec<f64>,
    outcome: Outcome,
    began: bool,
}

impl<F: Failures, P: Policy> Simulation<F, P> {
    /// A job at its beginning. `seed` is for what is random besides the failures.
    pub fn new(model: Model, failures: F, policy: P, seed: u64) -> Self {
        Self {
            model,
            failures,
            policy,
            random: Rng::with_seed(seed),
            now: 0.0,
            fail: 0.0,
            work: 0.0,
            saved: 0.0,
            saved_far: 0.0,
            pending: None,
            away: Vec::new(),
            outcome: Outcome::default(),
            began: false,
        }
    }

    /// The policy, with what it has learnt.
    pub fn policy(&self) -> &P {
        &self.policy
    }

    /// Goes on until then. What was computed and not lost by then counts as useful; so it may be less in a later outcome.
    pub fn run(&mut self, until: Until) -> Outcome {
        if !self.began {
            self.began = true;
            self.fail = self.failures.after(f64::NEG_INFINITY);
            self.policy.started(0.0);
            self.policy.computing(0.0, None);
        }
        while self.outcome.failures < until.failures && self.now < until.time && self.work < until.work {
            let ended = match self.model.steps {
                None => self.compute(&until),
                Some(steps) => self.compute_steps(steps, &until),
            };
            if ended {
                break;
            }
            self.strike(&until);
        }
        Outcome { time: self.now, useful: self.work, ..self.outcome }
    }

    /// Computes until the next failure (`false`) or the end (`true`).
    fn compute(&mut self, until: &Until) -> bool {
        loop {
            self.skip_periods(until);
            let due = self.policy.due(self.now).max(self.now);
            // One at a time.
            let due = self.pending.map_or(due, |pending| due.max(pending.durable));
            let finished = self.now + (until.work - self.work);
            let next =
                due.min(self.pending.map_or(f64::INFINITY, |pending| pending.durable)).min(finished).min(until.time);
            if self.fail < next {
                self.advance(self.fail);
                return false;
            }
            self.advance(next);
            if next == until.time || next == finished {
                return true;
            }
            if self.settle() {
                continue;
            }
            // What was true when it was asked may have changed with the time that passed.
            let soon = self.now + 1e-3 * self.model.costs.cost;
            if self.policy.due(self.now) <= soon && !self.checkpoint(until.time) {
                return self.now >= until.time;
            }
        }
    }

    /// The same, with checkpoints between steps only.
    fn compute_steps(&mut self, steps: Steps, until: &Until) -> bool {
        let sigma = (1.0 + (steps.spread / steps.mean).powi(2)).ln().sqrt();
        loop {
            let step = match steps.spread > 0.0 {
                true => Law::LogNormal(sigma).draw(steps.mean, &mut self.random),
                false => steps.mean,
            };
            let finished = self.now + (until.work - self.work);
            let next = (self.now + step).min(finished).min(until.time);
            if self.fail < next {
                let durable = self.pending.is_some_and(|pending| pending.durable <= self.fail);
                self.advance(self.fail);
                if durable {
                    self.settle();
                }
                return false;
            }
            self.advance(next);
            self.settle();
            if next == until.time || next == finished {
                return true;
            }
            self.policy.step(step);
            if self.pending.is_none() && self.policy.wants(self.now) && !self.checkpoint(until.time) {
                return self.now >= until.time;
            }
        }
    }

    /// Works until then.
    fn advance(&mut self, to: f64) {
        self.work += to - self.now;
        self.now = to;
    }

    /// Whether the pending checkpoint is durable by now; it is then.
    fn settle(&mut self) -> bool {
        match self.pending {
            Some(pending) if pending.durable <= self.now => {
                self.saved = pending.work;
                if pending.far {
                    self.saved_far = pending.work;
                }
                self.pending = None;
                self.policy.committed(pending.durable - pending.called);
                true
            }
            _ => false,
        }
    }

    /// Takes a checkpoint. `false` where a failure or the end comes before the application goes on.
    fn checkpoint(&mut self, end: f64) -> bool {
        self.outcome.taken += 1;
        let far = self.model.far.filter(|far| self.outcome.taken.is_multiple_of(u64::from(far.every.max(1))));
        let costs = far.map_or(self.model.costs, |far| far.costs);
        self.policy.taken(self.now);
        let durable = self.now + costs.latency.max(costs.cost);
        let is_far = far.is_some() || self.model.far.is_none();
        self.pending = Some(Pending { called: self.now, durable, work: self.work, far: is_far });
        let goes_on = self.now + costs.cost;
        let stops = goes_on.min(self.fail).min(end);
        self.outcome.checkpoints += stops - self.now;
        self.now = stops;
        if stops < goes_on {
            return false;
        }
        self.policy.cost(costs.cost);
        true
    }

    /// With a fixed interval, all whole periods before the next failure in one go.
    fn skip_periods(&mut self, until: &Until) {
        let Some(period) = self.policy.period() else { return };
        let Costs { cost, latency, .. } = self.model.costs;
        let exposed = latency.max(cost);
        // From the start of computing on, and only where each is durable before the next.
        if self.model.far.is_some() || exposed > period || self.work > self.saved || self.pending.is_some() {
            return;
        }
        let first = self.policy.due(self.now) - self.now;
        let left = self.fail.min(until.time).min(self.now + (until.work - self.work));
        let whole = ((left - self.now - first - exposed) / period).floor();
        if !(2.0..1e15).contains(&whole) {
            return;
        }
        let work = period - cost;
        self.outcome.taken += whole as u64;
        self.outcome.checkpoints += whole * cost;
        self.work += first + (whole - 1.0) * work;
        let called = self.now + first + (whole - 1.0) * period;
        self.pending = Some(Pending { called, durable: called + exposed, work: self.work, far: true });
        self.saved = self.work - work;
        self.saved_far = self.saved;
        self.policy.taken(called);
        self.policy.cost(cost);
        self.now = called + cost;
    }

    /// A failure strikes; goes on when the state is back, or at the end.
    fn strike(&mut self, until: &Until) {
        loop {
            self.outcome.failures += 1;
            let far = self.model.far.filter(|far| self.random.f64() < far.needed);
            self.pending = None;
            if far.is_some() {
                self.saved = self.saved_far;
            }
            self.outcome.lost += self.work - self.saved;
            self.work = self.saved;
            let downtime = self.downtime();
            self.policy.failed(self.now, downtime);
            let up = (self.now + downtime).min(until.time);
            self.outcome.down += up - self.now;
            self.now = up;
            self.fail = self.failures.after(self.now);
            if self.now >= until.time {
                return;
            }
            self.policy.started(self.now);
            let restart = far.map_or(self.model.costs.restart, |far| far.costs.restart);
            let back = self.now + restart;
            let stops = back.min(self.fail).min(until.time);
            self.outcome.restarts += stops - self.now;
            self.now = stops;
            if stops == back {
                self.policy.computing(self.now, Some(restart));
                return;
            }
            if self.now >= until.time {
                return;
            }
        }
    }

    fn downtime(&mut self) -> f64 {
        let Some(repair) = self.model.repair else { return self.model.costs.downtime };
        self.away.retain(|back| *back > self.now);
        self.away.push(self.now + repair.law.draw(repair.mean, &mut self.random));
        if self.away.len() <= repair.spares as usize {
            return self.model.costs.downtime;
        }
        let first = self.away.iter().copied().fold(f64::INFINITY, f64::min);
        (first - self.now).max(self.model.costs.downtime)
    }
}

#[cfg(test)]
mod tests;
