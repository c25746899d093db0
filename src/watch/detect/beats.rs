//! Whether something that gives a sign of life again and again has fallen silent: a phi-accrual detector.
//!
//! Comes in: when each sign came, and how late the observer itself was. Goes out: how unlikely the silence is, and the time after which it is
//! taken for death. What must hold: few signs accuse nobody; a silence that ended teaches nothing; an observer that was late gives
//! others as much more time.
//!
//! N. Hayashibara, X. Défago, R. Yared, T. Katayama: "The φ accrual failure detector", SRDS 2004: φ = −log₁₀ P(a sign comes later than this).
//! The gaps between signs are taken to be normal, with their mean, which is given a pause, and spread, which has a floor; the tail by
//! its logistic approximation, as in Akka (1 − F(y) ≈ e/(1+e), e = exp(−y(1.5976 + 0.070566 y²))).

use std::collections::VecDeque;

/// What silence is measured by. Times are in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BeatRules {
    /// How often signs should come.
    pub period: f64,
    /// φ from which on silence is death.
    pub threshold: f64,
    /// The least spread of gaps.
    pub least_spread: f64,
    /// What every gap may take longer, whatever was seen.
    pub pause: f64,
    /// No shorter silence is death,
    pub floor: f64,
    /// and every longer one is.
    pub ceiling: f64,
    /// How many gaps are remembered.
    pub window: usize,
}

impl BeatRules {
    /// For signs that should come so often: φ = 8 (once in 10⁸ gaps, were they normal), a pause of three periods and a second, at least five
    /// periods and 1.5 s, at most half a minute or thirty periods.
    #[must_use]
    pub fn every(period: f64) -> Self {
        Self {
            period,
            threshold: 8.0,
            least_spread: (period / 10.0).max(0.1),
            pause: 3.0 * period,
            floor: (5.0 * period).max(1.5),
            ceiling: (30.0 * period).max(30.0),
            window: 200,
        }
    }
}

/// Watches over one source of signs.
///
/// ```
/// use piton::watch::detect::{BeatRules, Beats};
/// let mut beats = Beats::new(BeatRules::every(1.0), 0.0);
/// for second in 1..60 {
///     beats.seen(f64::from(second));
/// }
/// assert!(!beats.is_silent(62.0, 0.0));
/// assert!(beats.is_silent(66.0, 0.0));
/// // The observer itself was three seconds late.
/// assert!(!beats.is_silent(66.0, 3.0));
/// ```
#[derive(Debug, Clone)]
pub struct Beats {
    rules: BeatRules,
    gaps: VecDeque<f64>,
    sum: f64,
    squares: f64,
    last: f64,
    suspected: bool,
}

impl Beats {
    /// One that is there since `now`.
    #[must_use]
    pub fn new(rules: BeatRules, now: f64) -> Self {
        let mut beats = Self { rules, gaps: VecDeque::new(), sum: 0.0, squares: 0.0, last: now, suspected: false };
        // As Akka starts: two gaps a quarter of the period off.
        beats.learn(rules.period * 0.75);
        beats.learn(rules.period * 1.25);
        beats
    }

    fn learn(&mut self, gap: f64) {
        self.gaps.push_back(gap);
        (self.sum, self.squares) = (self.sum + gap, self.squares + gap * gap);
        if self.gaps.len() > self.rules.window {
            let old = self.gaps.pop_front().unwrap_or(0.0);
            (self.sum, self.squares) = (self.sum - old, self.squares - old * old);
        }
    }

    /// A sign came at `at`.
    pub fn seen(&mut self, at: f64) {
        let gap = at - self.last;
        if gap <= 0.0 || !gap.is_finite() {
            return;
        }
        // The end of a silence is no measure of gaps.
        if !std::mem::take(&mut self.suspected) {
            self.learn(gap);
        }
        self.last = at;
    }

    /// When the last sign came.
    #[must_use]
    pub fn last(&self) -> f64 {
        self.last
    }

    fn mean_and_spread(&self) -> (f64, f64) {
        let count = self.gaps.len().max(1) as f64;
        let mean = self.sum / count;
        let spread = (self.squares / count - mean * mean).max(0.0).sqrt();
        (mean + self.rules.pause, spread.max(self.rules.least_spread))
    }

    /// φ: how unlikely it is that the next sign is still to come, as a power of ten.
    #[must_use]
    pub fn phi(&self, now: f64) -> f64 {
        let (mean, spread) = self.mean_and_spread();
        let y = (now - self.last - mean) / spread;
        let e = (-y * (1.5976 + 0.070566 * y * y)).exp();
        // For large y e is 0, and −log₁₀ e the same as its exponent.
        let phi = if y > 0.0 && e < 1e-12 {
            y * (1.5976 + 0.070566 * y * y) * std::f64::consts::LOG10_E
        } else {
            -(if y > 0.0 { e / (1.0 + e) } else { 1.0 - 1.0 / (1.0 + e) }).log10()
        };
        phi.max(0.0)
    }

    /// After how long a silence it is taken for dead, seconds.
    #[must_use]
    pub fn limit(&self) -> f64 {
        let (mean, spread) = self.mean_and_spread();
        // Where φ reaches the threshold: y(1.5976 + 0.070566 y²) = threshold · ln 10, by Newton's method.
        let goal = self.rules.threshold * std::f64::consts::LN_10;
        let mut y = goal / 1.5976;
        for _ in 0..20 {
            y -= (y * (1.5976 + 0.070566 * y * y) - goal) / (1.5976 + 3.0 * 0.070566 * y * y);
        }
        (mean + y * spread).clamp(self.rules.floor, self.rules.ceiling)
    }

    /// Whether it has been silent for too long at `now`. `late`: how late the observer itself was of late, seconds.
    #[must_use]
    pub fn is_silent(&self, now: f64, late: f64) -> bool {
        now - self.last > self.limit() + late.max(0.0)
    }

    /// As [`Self::is_silent`], and takes note of it: the gap that ends it will not be learnt.
    pub fn suspect(&mut self, now: f64, late: f64) -> bool {
        self.suspected |= self.is_silent(now, late);
        self.suspected
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regular(period: f64, count: u32) -> Beats {
        let mut beats = Beats::new(BeatRules::every(period), 0.0);
        for beat in 1..=count {
            beats.seen(f64::from(beat) * period);
        }
        beats
    }

    #[test]
    fn phi_is_what_the_normal_distribution_says() {
        // φ = 1, 3, 5, 8 at these many standard deviations (the approximation is off by a sixth far out).
        let beats = regular(1.0, 300);
        let (mean, spread) = beats.mean_and_spread();
        assert!((mean - 4.0).abs() < 1e-9 && spread == 0.1);
        for (deviations, phi) in [(1.28, 1.0), (3.09, 3.0), (4.26, 5.0), (5.61, 8.0)] {
            let found = beats.phi(beats.last() + mean + deviations * spread);
            assert!((found / phi - 1.0).abs() < 0.2, "{deviations}: {found}");
        }
        assert!(beats.phi(beats.last() + 1e6).is_finite());
        assert!(beats.phi(beats.last()) < 1e-6);
    }

    #[test]
    fn the_limit_follows_the_gaps_within_its_bounds() {
        assert_eq!(regular(0.1, 300).limit(), 1.5, "the floor");
        // Gaps of 50 ms on average that scatter by 100 ms, as measured on a machine with sixteen busy loops for each processor.
        let mut beats = Beats::new(BeatRules::every(0.05), 0.0);
        let (mut random, mut at) = (fastrand::Rng::with_seed(1), 0.0);
        for _ in 0..500 {
            at += if random.f64() < 0.05 { 0.5 } else { 0.03 };
            beats.seen(at);
        }
        assert!(beats.limit() >= 1.5 && beats.limit() < 3.0, "{}", beats.limit());
        let mut wild = Beats::new(BeatRules::every(1.0), 0.0);
        for beat in 1..300 {
            wild.seen(f64::from(beat * beat));
        }
        assert_eq!(wild.limit(), 30.0, "the ceiling");
    }

    #[test]
    fn a_silence_that_ended_teaches_nothing() {
        let mut beats = regular(1.0, 100);
        let before = beats.limit();
        assert!(beats.suspect(beats.last() + 20.0, 0.0));
        beats.seen(beats.last() + 25.0);
        assert_eq!(beats.limit(), before);
        assert!(!beats.suspect(beats.last() + 1.0, 0.0));
        // One that was not suspected does.
        beats.seen(beats.last() + 3.0);
        assert!(beats.limit() > before);
    }

    #[test]
    fn signs_from_the_past_change_nothing() {
        let mut beats = regular(1.0, 10);
        let before = beats.limit();
        beats.seen(3.0);
        beats.seen(f64::NAN);
        assert_eq!((beats.last(), beats.limit()), (10.0, before));
    }
}
