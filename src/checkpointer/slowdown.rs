//! What a checkpoint costs the application after the copy: how much slower its steps are while the shard is encoded and
//! written.
//!
//! Comes in: the times of freezes, and of the first tick after a shard is done. Goes out: for each checkpoint, the time that its
//! steps took more than those outside of any. What must hold: only whole steps are counted, from tick to tick, on one
//! clock; time that the application spends waiting for us is no step.

use crate::ids::CheckpointId;
use std::time::{Duration, Instant};

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
    quiet: Option<(Instant, u64)>,
    /// Seconds of a step when nothing is written, as measured last.
    step_seconds: Option<f64>,
}

impl Slowdown {
    /// The application goes on at `step` after it was resumed or had waited: nothing is written.
    pub(super) fn begin(&mut self, now: Instant, step: u64) {
        self.open = None;
        self.quiet = Some((now, step));
    }

    /// A freeze at `step` lasted from `start` to `end`.
    pub(super) fn frozen(&mut self, id: CheckpointId, start: Instant, end: Instant, step: u64) {
        if let Some((since, from)) = self.quiet.take()
            && step > from
        {
            self.step_seconds = Some(start.saturating_duration_since(since).as_secs_f64() / (step - from) as f64);
        }
        self.open = Some((id, end, step));
    }

    /// This is the first tick after the shard was done.
    pub(super) fn over(&mut self, now: Instant, step: u64) -> Option<Slowed> {
        let (id, since, from) = self.open.take()?;
        self.quiet = Some((now, step));
        let (step_seconds, steps) = (self.step_seconds?, step.checked_sub(from).filter(|steps| *steps > 0)?);
        let during = now.saturating_duration_since(since);
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
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut slowdown = Slowdown::default();
        slowdown.begin(at(0), 0);
        // Ten steps of 10 ms, a copy of 5 ms, then three steps of 15 ms.
        slowdown.frozen(CheckpointId(1), at(100), at(105), 10);
        let slowed = slowdown.over(at(150), 13).unwrap();
        assert_eq!((slowed.id, slowed.steps, slowed.during), (CheckpointId(1), 3, Duration::from_millis(45)));
        assert!((slowed.step_seconds - 0.010).abs() < 1e-9 && (slowed.lost_seconds - 0.015).abs() < 1e-9);
        assert_eq!(slowdown.over(at(160), 14), None, "told once");
        // What is quiet began with that tick: four steps of 12 ms.
        slowdown.frozen(CheckpointId(2), at(198), at(200), 17);
        assert!((slowdown.over(at(212), 18).unwrap().step_seconds - 0.012).abs() < 1e-9);
    }

    #[test]
    fn without_a_step_to_compare_with_nothing_is_said() {
        let now = Instant::now();
        let mut slowdown = Slowdown::default();
        slowdown.frozen(CheckpointId(1), now, now, 5);
        assert_eq!(slowdown.over(now, 6), None, "nothing was timed before");
        slowdown.frozen(CheckpointId(2), now, now, 7);
        slowdown.begin(now, 7);
        assert_eq!(slowdown.over(now, 8), None, "the application waited");
    }
}
