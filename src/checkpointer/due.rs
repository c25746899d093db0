//! Why this rank wants a checkpoint: steps, time, requests, predictions.
//!
//! Comes in: the settings, the history of the job, and what happens. Goes out: what this rank says in a round. What must hold: only
//! the first rank reads a clock for it, or ranks would disagree; the decision itself is the scheduler's, which the simulator runs too;
//! nothing here is called in a tick in which no round is due.

use super::agreement::{Verdict, Wants};
use crate::config::{AllocationEnd, Every, Origin, Settings};
use crate::journal::{Event, Rule, Schedule, WallTime};
use crate::schedule::{Attempt, Belief, END_SLACK, Guess, History, NODE_MTBF_SECONDS, Period, Plan, Rules, Scheduler};
use std::time::{Duration, Instant};

/// An interval that differs by more than this from the one that was told is told.
const NOTABLE: f64 = 0.1;

/// What one rank waits for.
#[derive(Debug)]
pub(super) struct Due {
    every_steps: u64,
    /// The step at which the next checkpoint by steps is due.
    step: u64,
    /// Asked for, and not yet taken.
    pub requested: bool,
    pub halt: bool,
    /// A failure that somebody foresees here and the other ranks don't know of, with the time until then.
    pub predicted: Option<Option<Duration>>,
    /// How long the application stood still for the last checkpoint, in seconds, until what its steps lost is known as well.
    blocked: Option<f64>,
    /// The first rank's.
    clock: Option<Clock>,
}

/// The first rank's scheduler, and the clock that it lives by.
#[derive(Debug)]
struct Clock {
    scheduler: Scheduler,
    /// The scheduler's time at `since`.
    offset: f64,
    since: Instant,
    /// What was said last of the next checkpoint's time.
    told: Option<(Rule, f64)>,
    /// Since when, and from which tick on, steps are timed.
    steps_since: (Instant, u64),
}

impl Clock {
    fn at(&self, time: Instant) -> f64 {
        self.offset + time.saturating_duration_since(self.since).as_secs_f64()
    }
}

/// What the scheduler starts with: one that has lived through the job's earlier attempts.
#[derive(Debug)]
pub(super) struct Evidence {
    scheduler: Scheduler,
    /// When the scheduler's time began; it begins now where this is missing.
    began: Option<WallTime>,
}

impl Evidence {
    /// `nodes`: how many the job is believed to have.
    pub(super) fn new(belief: Belief, nodes: f64, history: &History) -> Self {
        let mut scheduler = Scheduler::new(Rules::default(), belief, nodes, Guess::default());
        history.teach(&mut scheduler);
        Self { scheduler, began: history.attempts().first().map(Attempt::started) }
    }

    /// The mean time between failures that follows from it, seconds.
    pub(super) fn mtbf(&self) -> f64 {
        self.scheduler.rate(0.0).mtbf()
    }
}

/// What the settings say of the failures to expect; `site`: what the site's nodes have seen.
pub(super) fn belief(settings: &Settings, site: Option<(f64, f64)>) -> Belief {
    match (settings.mtbf.seconds(), site, settings.node_mtbf.seconds()) {
        (Some(mtbf), ..) => Belief::Job(mtbf),
        (None, Some((failures, node_seconds)), None) => Belief::Site(failures, node_seconds),
        (None, _, Some(mtbf)) => Belief::Node(mtbf, true),
        (None, None, None) => Belief::Node(NODE_MTBF_SECONDS, false),
    }
}

/// When the allocation ends, where that is known. `slurm`: what Slurm says.
pub(super) fn allocation_end(settings: &Settings, now: WallTime, slurm: Option<&str>) -> Option<WallTime> {
    let second = |second: u64| i64::try_from(second).ok()?.checked_mul(1000).map(WallTime::from_unix_ms);
    match settings.allocation_end {
        AllocationEnd::Off => None,
        AllocationEnd::At(unix) => second(unix),
        AllocationEnd::After(time) => {
            Some(WallTime::from_unix_ms(now.unix_ms().saturating_add(i64::try_from(time.as_millis()).ok()?)))
        }
        // An end that has passed is of another job: a variable that was handed on by mistake.
        AllocationEnd::Auto => second(slurm?.parse().ok()?).filter(|end| *end > now),
    }
}

/// What lies between two checkpoints. Whoever only says how many steps does not expect others in between.
fn period(settings: &Settings) -> Period {
    let by_default = settings.origin("every").is_none_or(|origin| *origin == Origin::Default);
    match settings.every {
        _ if by_default && settings.every_steps > 0 => Period::Off,
        Every::Auto => Period::Auto,
        Every::Off => Period::Off,
        Every::Fixed(time) => Period::Fixed(time.as_secs_f64()),
    }
}

impl Due {
    /// `evidence`: on the first rank; `end`: when the allocation ends.
    pub(super) fn new(settings: &Settings, evidence: Option<Evidence>, end: Option<WallTime>) -> Self {
        let clock = evidence.map(|evidence| Clock::start(settings, evidence, end));
        Self {
            every_steps: settings.every_steps,
            step: settings.every_steps,
            requested: false,
            halt: false,
            predicted: None,
            blocked: None,
            clock,
        }
    }

    /// The application has come to `step` with a checkpoint: by steps, none is due for a while.
    pub(super) fn passed(&mut self, step: u64) {
        if let Some(rest) = step.checked_rem(self.every_steps) {
            self.step = step.saturating_sub(rest).saturating_add(self.every_steps);
        }
    }

    /// The application computes from now on, with a state of `bytes`; bringing it back took so long.
    pub(super) fn computing(&mut self, bytes: u64, restart: Option<f64>) {
        let now = Instant::now();
        if let Some(clock) = &mut self.clock {
            clock.scheduler.guess(Guess::of_state(bytes));
            clock.scheduler.computing(clock.at(now));
            if let Some(seconds) = restart {
                clock.scheduler.restarted(seconds);
            }
            clock.steps_since = (now, 0);
        }
    }

    /// A checkpoint is taken, which was begun at `begun`.
    pub(super) fn taken(&mut self, begun: Instant, step: u64) {
        self.requested = false;
        self.predicted = None;
        self.passed(step);
        if let Some(clock) = &mut self.clock {
            clock.scheduler.taken(clock.at(begun));
        }
    }

    /// The application stood still for it so long, and goes on at `tick`.
    pub(super) fn blocked(&mut self, seconds: f64, tick: u64) {
        self.blocked = Some(seconds);
        if let Some(clock) = &mut self.clock {
            clock.steps_since = (Instant::now(), tick);
        }
    }

    /// What its steps lost meanwhile; none where that can't be told.
    ///
    /// The first rank's own count: ranks wait for each other in their steps, so that its steps show what the slowest one's checkpoint costs.
    /// The greatest of all ranks' would grow with their number by noise alone (0.10 for 0.03 s with two ranks).
    pub(super) fn slowed(&mut self, seconds: Option<f64>) {
        if let (Some(blocked), Some(clock)) = (self.blocked.take(), &mut self.clock) {
            clock.scheduler.cost(blocked, seconds.unwrap_or(0.0));
        }
    }

    /// The application has waited for the last checkpoint, and goes on at `tick`: what its steps would have lost can't be told.
    pub(super) fn waited(&mut self, tick: u64) {
        self.slowed(None);
        if let Some(clock) = &mut self.clock {
            clock.steps_since = (Instant::now(), tick);
        }
    }

    /// The last checkpoint was durable so long after its call.
    pub(super) fn committed(&mut self, latency: f64) {
        if let Some(clock) = &mut self.clock {
            clock.scheduler.committed(latency);
        }
    }

    /// What this rank wants at the verdict of a round that is held at `tick`, `lag` ticks later; and the time until the scheduler's
    /// next checkpoint, where this is the first rank. `busy`: one is still being written, so that none can be taken.
    pub(super) fn wants(&mut self, step: u64, tick: u64, lag: u64, busy: bool) -> (Wants, Option<Duration>) {
        // The application will be as many steps further then.
        let step_then = step.saturating_add(lag);
        let mut wants = Wants {
            steps: self.every_steps > 0 && step_then >= self.step,
            time: false,
            request: self.requested,
            prediction: false,
        };
        let Some(clock) = &mut self.clock else { return (wants, None) };
        let now = Instant::now();
        let (since, from) = clock.steps_since;
        clock.scheduler.steps(tick.saturating_sub(from), now.saturating_duration_since(since).as_secs_f64());
        clock.steps_since = (now, tick);
        // Never skipped, only put off: a commit that is slower than the interval lengthens it.
        if busy {
            return (wants, None);
        }
        let then = clock.at(now) + lag as f64 * clock.scheduler.step_seconds();
        wants.time = clock.scheduler.wants_within(then, lag + 1);
        wants.prediction = clock.scheduler.wants_early(then);
        let until = clock.scheduler.until_due(clock.at(now));
        (wants, Duration::try_from_secs_f64(until).ok())
    }

    /// What the ranks said of failures to come. What is to be told to the journal comes back.
    pub(super) fn learn(&mut self, verdict: &Verdict) -> Vec<Event> {
        let mut events = Vec::new();
        let Some(clock) = &mut self.clock else { return events };
        let now = clock.at(Instant::now());
        if let Some(lead) = verdict.predicted {
            let lead_seconds = lead.map(|lead| lead.as_secs_f64());
            clock.scheduler.predicted(now, lead_seconds);
            events.push(Event::Predicted { lead_seconds, what: "said by a rank".to_owned() });
        }
        events.extend(clock.news(now).map(|schedule| Event::Scheduled(Box::new(schedule))));
        events
    }
}

impl Clock {
    fn start(settings: &Settings, evidence: Evidence, end: Option<WallTime>) -> Self {
        let (since, wall) = (Instant::now(), WallTime::now());
        let Evidence { mut scheduler, began } = evidence;
        let offset = began.map_or(0.0, |began| began.until(wall).as_secs_f64());
        let bound = |time: Duration, none: f64| if time.is_zero() { none } else { time.as_secs_f64() };
        let rules = Rules {
            period: period(settings),
            min_interval: bound(settings.min_interval, 0.0),
            max_interval: bound(settings.max_interval, f64::INFINITY),
            end: end.map_or(f64::INFINITY, |end| offset + wall.until(end).as_secs_f64()),
            // Whoever wants none at all wants no last one.
            last: settings.every != Every::Off || settings.every_steps > 0,
        };
        scheduler.bound(rules);
        scheduler.started(offset);
        Self { scheduler, offset, since, told: None, steps_since: (since, 0) }
    }

    /// The schedule, where it is not what was said last.
    fn news(&mut self, now: f64) -> Option<Schedule> {
        let Plan { rule, interval, .. } = self.scheduler.plan(now);
        let same = self.told.is_some_and(|(told_rule, told)| {
            // The last call moves with every step that takes longer: what stays within the second kept free is no news.
            let notable = NOTABLE * if rule == Rule::Last { told.max(END_SLACK) } else { told };
            told_rule == rule && (told == interval || (told.is_finite() && (interval - told).abs() <= notable))
        });
        if same {
            return None;
        }
        self.told = Some((rule, interval));
        Some(self.scheduler.explain(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Layer;
    use std::ffi::OsString;

    fn settings(arguments: &[&str]) -> Settings {
        let folder = std::env::temp_dir();
        let none: [(OsString, OsString); 0] = [];
        Settings::load(None, &Layer::default(), arguments, none, &folder).unwrap()
    }

    #[test]
    fn the_period_is_what_the_user_says() {
        for (arguments, expected) in [
            (vec![], Period::Auto),
            (vec!["--piton.every_steps=5"], Period::Off),
            (vec!["--piton.every_steps=5", "--piton.every=auto"], Period::Auto),
            (vec!["--piton.every=5s"], Period::Fixed(5.0)),
            (vec!["--piton.every=off"], Period::Off),
        ] {
            assert_eq!(period(&settings(&arguments)), expected, "{arguments:?}");
        }
    }

    #[test]
    fn what_is_said_of_the_job_goes_before_what_is_said_of_nodes() {
        let site = Some((10.0, 1e9));
        for (arguments, site, expected) in [
            (vec![], None, Belief::Node(NODE_MTBF_SECONDS, false)),
            (vec![], site, Belief::Site(10.0, 1e9)),
            (vec!["--piton.node_mtbf=1/100d"], site, Belief::Node(8_640_000.0, true)),
            (vec!["--piton.node_mtbf=100d", "--piton.mtbf=3/day"], site, Belief::Job(28_800.0)),
        ] {
            assert_eq!(belief(&settings(&arguments), site), expected, "{arguments:?}");
        }
    }

    #[test]
    fn the_end_is_slurms_or_the_users() {
        let now = WallTime::from_unix_ms(1_800_000_000_000);
        let end = |argument: &str, slurm| {
            let arguments: Vec<&str> = Some(argument).filter(|argument| !argument.is_empty()).into_iter().collect();
            allocation_end(&settings(&arguments), now, slurm).map(|end| end.unix_ms() / 1000)
        };
        assert_eq!(end("", None), None);
        assert_eq!(end("", Some("1800003600")), Some(1_800_003_600));
        assert_eq!(end("", Some("1700000000")), None, "passed");
        assert_eq!(end("", Some("NONE")), None);
        assert_eq!(end("--piton.allocation_end=off", Some("1800003600")), None);
        assert_eq!(end("--piton.allocation_end=2h", Some("1800003600")), Some(1_800_007_200));
        assert_eq!(end("--piton.allocation_end=@1800000060", None), Some(1_800_000_060));
    }
}
