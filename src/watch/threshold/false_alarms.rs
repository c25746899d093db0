//! How far from normal is too far, for as many false alarms as one is willing to have.
//!
//! Comes in: a rate of false alarms, and what is known of a series. Goes out: k, in standard deviations. What must hold: k is
//! finite and positive whatever comes in, and a smaller rate never gives a smaller k.

use super::statistics::share;
use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

const DAY: f64 = 86_400.0;

/// Beyond this nothing is told apart.
const K_MOST: f64 = 1e6;

/// The probability that one look may raise a false alarm, where a series is looked at every `period` seconds and all of its looks
/// may raise `per_day` a day.
#[must_use]
pub fn probability(per_day: f64, period: f64) -> f64 {
    let probability = per_day * period / DAY;
    if probability.is_finite() { probability.clamp(1e-15, 0.1) } else { 0.1 }
}

/// k = Q⁻¹(p): a normal number exceeds k with probability `probability`.
///
/// ```
/// use piton::watch::threshold::{normal_k, probability};
/// // Once in ten days, looking every 5 s.
/// assert!((normal_k(probability(0.1, 5.0)) - 4.39).abs() < 0.01);
/// // 20 series on each of 1000 nodes, once a day altogether.
/// assert!((normal_k(probability(1.0 / 20_000.0, 5.0)) - 5.82).abs() < 0.01);
/// ```
#[must_use]
pub fn normal_k(probability: f64) -> f64 {
    -Normal::standard().inverse_cdf(probability)
}

/// The same where the standard deviation is not known, but estimated from about `freedom` independent values: Student's t.
#[must_use]
pub fn student_k(probability: f64, freedom: f64) -> f64 {
    let freedom = if freedom.is_finite() { freedom.clamp(1.0, 1e4) } else { 1e4 };
    let k = StudentsT::new(0.0, 1.0, freedom).map_or(f64::NAN, |t| -t.inverse_cdf(probability));
    // From the left, so that nothing is lost to rounding; the series behind it fails at the very end of the tail.
    if k.is_finite() { k.clamp(normal_k(probability), K_MOST) } else { K_MOST }
}

/// Scores above this are the tail: of a normal series one value in 740.
const TAIL: f64 = 3.0;
/// Over which the tail is remembered, seconds.
const TAIL_MEMORY: f64 = DAY;
/// What is believed of the tail before anything was seen of it: that of a normal series, whose excess over 3 is 0.28 on average, and
/// that this counts as much as so many excursions.
const PRIOR_EXCESS: f64 = 0.28;
const PRIOR_EXCURSIONS: f64 = 4.0;

/// What a series's own excursions say about how far the next one may go.
///
/// Peaks over a threshold: what exceeds a high level u does so by an exponentially distributed excess, to first order (J. Pickands,
/// *Statistical inference using extreme order statistics*, Annals of Statistics 3, 1975, with shape 0), so that excursions beyond k
/// are λ e^(−(k − u)/β) a day, where λ a day exceed u and do so by β on average. One excursion lasts until the score is below u/2, and
/// counts by its peak. A series that bursts now and then, or whose tail is heavier than any model says, is learnt in this way after a
/// few excursions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tail {
    peak: Option<f64>,
    excursions: f64,
    excess: f64,
    seconds: f64,
}

impl Default for Tail {
    fn default() -> Self {
        // The prior's excursions came in the day before.
        Self { peak: None, excursions: PRIOR_EXCURSIONS, excess: PRIOR_EXCURSIONS * PRIOR_EXCESS, seconds: TAIL_MEMORY }
    }
}

impl Tail {
    /// Adds the next score, `seconds` after the one before; an excursion counts as `most` at the most, so that one great fault
    /// does not hide the next.
    pub fn add(&mut self, score: f64, seconds: f64, most: f64) {
        let keep = 1.0 - share(seconds, TAIL_MEMORY);
        self.seconds = self.seconds * keep + seconds;
        self.excursions *= keep;
        self.excess *= keep;
        match self.peak {
            Some(peak) if score < TAIL / 2.0 => {
                self.excursions += 1.0;
                self.excess += peak.min(most) - TAIL;
                self.peak = None;
            }
            Some(peak) => self.peak = Some(peak.max(score)),
            None if score > TAIL => self.peak = Some(score),
            None => {}
        }
    }

    /// k, beyond which `per_day` excursions are expected a day.
    #[must_use]
    pub fn k(&self, per_day: f64) -> f64 {
        let prior = PRIOR_EXCURSIONS * 1e-3;
        let excursions = self.excursions.max(prior);
        let mean = (self.excess / excursions).max(PRIOR_EXCESS / 2.0);
        let daily = excursions * DAY / self.seconds.max(1.0);
        TAIL + mean * (daily / per_day.max(1e-9)).ln().max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn k_is_that_of_the_tables() {
        for (per_day, period, k) in [(10.0, 5.0, 3.25), (1.0, 5.0, 3.85), (0.01, 60.0, 4.35), (0.1, 1.0, 4.72)] {
            assert!((normal_k(probability(per_day, period)) - k).abs() < 6e-3, "{per_day} {period}");
        }
        // Percentiles of Student's t.
        for (probability, freedom, t) in [(0.025, 1.0, 12.706), (0.0005, 5.0, 6.869), (0.0005, 60.0, 3.460)] {
            assert!((student_k(probability, freedom) - t).abs() < 2e-3, "{}", student_k(probability, freedom));
        }
        assert!((student_k(1e-6, 1e4) - normal_k(1e-6)).abs() < 0.01);
    }

    #[test]
    fn a_tail_is_learnt_and_forgotten() {
        let mut tail = Tail::default();
        let normal = tail.k(0.1);
        assert!((4.0..4.5).contains(&normal), "{normal}");
        // A burst every half hour, to 8.
        for place in 0..2880 {
            tail.add(if place % 60 == 0 { 8.0 } else { 0.0 }, 30.0, 20.0);
        }
        let bursts = tail.k(0.1);
        assert!(bursts > 15.0, "{bursts}");
        for _ in 0..10 * 2880 {
            tail.add(0.5, 30.0, 20.0);
        }
        assert!(tail.k(0.1) < 8.0, "{}", tail.k(0.1));
    }

    #[test]
    fn one_great_fault_does_not_hide_the_next() {
        let mut tail = Tail::default();
        (0..100).for_each(|_| tail.add(1e9, 5.0, 9.0));
        tail.add(0.0, 5.0, 9.0);
        assert!(tail.k(0.1) < 12.0, "{}", tail.k(0.1));
    }

    proptest! {
        #[test]
        fn fewer_false_alarms_never_cost_a_smaller_k(per_day in 1e-6..10.0f64, freedom in 0.0..1e5f64, period in 0.1..600.0f64) {
            let k = |per_day| student_k(probability(per_day, period), freedom);
            prop_assert!(k(per_day).is_finite() && k(per_day) > 0.0);
            prop_assert!(k(per_day / 2.0) >= k(per_day) - 1e-6, "{} {}", k(per_day / 2.0), k(per_day));
        }
    }
}
