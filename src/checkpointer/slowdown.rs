//! What a checkpoint costs the application after the copy: how much slower its steps are while the shard is encoded and
//! written.
//!
//! Comes in: the times of freezes, and of the first tick after a shard is done. Goes out: for each checkpoint, the time that its
//! steps took more than those outside of any, and how many processors this rank keeps busy while nothing is written. What must hold: only whole steps are counted, from tick to tick, on one
//! clock; time that the application spends waiting for us is no step.

use crate::ids::CheckpointId;
use nix::time::{ClockId, clock_gettime};
use std::time::{Duration, Instant};

/// A point in time, and how long processors had worked for this process until then.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub time: Instant,
    processors: Duration,
}

impl Moment {
    pub(super) fn now() -> Self {
        let processors = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map_or(Duration::ZERO, Duration::from);
        Self { time: Instant::now(), processors }
    }
}

/// What the steps during one checkpoint took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Slowed {
    pub id: CheckpointId,
    /// From the end of the copy to the first tick after the shard was done.
    pub during: Duration,
    /// Steps in that time.
    pub steps: u64,
    /// Seconds of a step outside of checkpoints.
    pub step_seconds: f64,
    /// How much longer they took than as many steps outside; negative where they were faster.
    pub lost_seconds: f64,
}

/// Times the steps of one rank.
#[derive(Debug, Default)]
pub(super) struct Slowdown {
    /// The checkpoint that is being written, and since when, at which step.
    open: Option<(CheckpointId, Instant, u64)>,
    /// Since when nothing is written, and at which step that was.
    quiet: Option<(Moment, u64)>,
    /// Seconds of a step when nothing is written, as measured last.
    step_seconds: Option<f64>,
    /// Processors that were busy then, on average.
    processors: Option<f64>,
}

impl Slowdown {
    /// How many processors this rank keeps busy, on average, while nothing is written.
    pub(super) fn processors(&self) -> Option<f64> {
        self.processors
    }

    /// The application goes on at `step` after it was resumed or had waited: nothing is written.
    pub(super) fn begin(&mut self, now: Moment, step: u64) {
        self.open = None;
        self.quiet = Some((now, step));
    }

    /// A freeze at `step` lasted from `start` to `end`.
    pub(super) fn frozen(&mut self, id: CheckpointId, start: Moment, end: Instant, step: u64) {
        if let Some((since, from)) = self.quiet.take()
            && step > from
        {
            let seconds = start.time.saturating_duration_since(since.time).as_secs_f64();
            self.step_seconds = Some(seconds / (step - from) as f64);
            let worked = start.processors.saturating_sub(since.processors).as_secs_f64();
            self.processors = (seconds > 0.0).then(|| worked / seconds).or(self.processors);
        }
        self.open = Some((id, end, step));
    }

    /// This is the first tick after the shard was done.
    pub(super) fn over(&mut self, now: Moment, step: u64) -> Option<Slowed> {
        let (id, since, from) = self.open.take()?;
        self.quiet = Some((now, step));
        let (step_seconds, steps) = (self.step_seconds?, step.checked_sub(from).filter(|steps| *steps > 0)?);
        let during = now.time.saturating_duration_since(since);
        let lost_seconds = during.as_secs_f64() - step_seconds * steps as f64;
        Some(Slowed { id, during, steps, step_seconds, lost_seconds })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_during_a_checkpoint_are_compared_with_those_before() {
        let start = Instant::now();
        let time = |ms: u64| start + Duration::from_millis(ms);
        // Three of four processors work all the time.
        let at = |ms: u64| Moment { time: time(ms), processors: Duration::from_millis(3 * ms) };
        let mut slowdown = Slowdown::default();
        slowdown.begin(at(0), 0);
        assert_eq!(slowdown.processors(), None);
        // Ten steps of 10 ms, a copy of 5 ms, then three steps of 15 ms.
        slowdown.frozen(CheckpointId(1), at(100), time(105), 10);
        assert!((slowdown.processors().unwrap() - 3.0).abs() < 1e-9);
        let slowed = slowdown.over(at(150), 13).unwrap();
        assert_eq!((slowed.id, slowed.steps, slowed.during), (CheckpointId(1), 3, Duration::from_millis(45)));
        assert!((slowed.step_seconds - 0.010).abs() < 1e-9 && (slowed.lost_seconds - 0.015).abs() < 1e-9);
        assert_eq!(slowdown.over(at(160), 14), None, "told once");
        // What is quiet began with that tick: four steps of 12 ms.
        slowdown.frozen(CheckpointId(2), at(198), time(200), 17);
        assert!((slowdown.over(at(212), 18).unwrap().step_seconds - 0.012).abs() < 1e-9);
    }

    #[test]
    fn without_a_step_to_compare_with_nothing_is_said() {
        let now = Moment::now();
        let mut slowdown = Slowdown::default();
        slowdown.frozen(CheckpointId(1), now, now.time, 5);
        assert_eq!(slowdown.over(now, 6), None, "nothing was timed before");
        slowdown.frozen(CheckpointId(2), now, now.time, 7);
        slowdown.begin(now, 7);
        assert_eq!(slowdown.over(now, 8), None, "the application waited");
    }
}
