//! How long an agent may say nothing before something is wrong.
//!
//! Comes in: when it was heard. Goes out: after how long a silence it is suspected. What must hold: all times are in seconds; a limit
//! never leaves its bounds, whatever was heard; a silence that was suspected is no example of what is usual.

use std::fmt::Debug;

/// Learns from when an agent is heard how long it may be silent. Another detector can take the place of [`LearnedGaps`].
pub trait Silence: Debug + Send {
    /// It was heard `gap` seconds after the time before, as usual.
    fn heard(&mut self, gap: f64);

    /// After so many seconds of silence it is suspected.
    fn limit(&self) -> f64;
}

/// The mean of the gaps, a pause, and as many standard deviations as make a false suspicion rare.
///
/// limit = max(floor, min(ceiling, mean + pause + k·max(σ, σ_min))). With k = 5.61 the normal distribution has 10⁻⁸ beyond it, as a
/// φ-accrual detector has at φ = 8 (N. Hayashibara et al., *The φ accrual failure detector*, SRDS 2004); as there, and in Akka's
/// detector, which has a pause too, it starts from a guess of mean and spread.
#[derive(Debug, Clone, PartialEq)]
pub struct LearnedGaps {
    period: f64,
    mean: f64,
    variance: f64,
    count: u32,
}

impl LearnedGaps {
    /// So many gaps back they hardly count any more.
    const WINDOW: u32 = 200;
    const DEVIATIONS: f64 = 5.61;
    const CEILING: f64 = 30.0;

    /// Of an agent that reports every `period` seconds.
    #[must_use]
    pub fn new(period: f64) -> Self {
        let period = if period.is_finite() { period.clamp(1e-3, 60.0) } else { 1.0 };
        Self { period, mean: period, variance: (period / 4.0).powi(2), count: 2 }
    }
}

impl Silence for LearnedGaps {
    fn heard(&mut self, gap: f64) {
        if !gap.is_finite() || gap < 0.0 {
            return;
        }
        self.count = self.count.saturating_add(1).min(Self::WINDOW);
        let share = 1.0 / f64::from(self.count);
        let off = gap - self.mean;
        self.mean += share * off;
        self.variance = (1.0 - share) * (self.variance + share * off * off);
    }

    fn limit(&self) -> f64 {
        let spread = self.variance.max(0.0).sqrt().max(0.1).max(self.period / 10.0);
        let limit = self.mean + 3.0 * self.period + Self::DEVIATIONS * spread;
        limit.min(Self::CEILING.max(5.0 * self.period)).max(3.0 * self.period)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_steady_agent_is_missed_after_some_periods() {
        let mut gaps = LearnedGaps::new(1.0);
        assert!((gaps.limit() - (4.0 + 5.61 * 0.25)).abs() < 1e-9);
        for _ in 0..1000 {
            gaps.heard(1.0);
        }
        assert!((gaps.limit() - 4.561).abs() < 0.01, "{}", gaps.limit());
    }

    #[test]
    fn an_unsteady_one_gets_more_time() {
        let mut gaps = LearnedGaps::new(1.0);
        for round in 0..1000 {
            gaps.heard(if round % 10 == 0 { 4.0 } else { 0.7 });
        }
        assert!(gaps.limit() > 8.0, "{}", gaps.limit());
    }

    proptest! {
        #[test]
        fn limits_stay_within_their_bounds(period in 0.01..60.0f64, gaps in proptest::collection::vec(any::<f64>(), 0..300)) {
            let mut learned = LearnedGaps::new(period);
            for gap in gaps {
                learned.heard(gap);
                let limit = learned.limit();
                prop_assert!(limit >= 3.0 * period && limit <= 30.0f64.max(5.0 * period), "{}", limit);
            }
        }
    }
}
