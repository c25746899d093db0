//! What checkpoints cost, smoothed from what each one did.
//!
//! Comes in: of each checkpoint, how long the application stood still, what its steps lost, and when it was durable; of each
//! resume, how long it took; how long steps take. Goes out: means to compute with, and how much they scatter.
//! What must hold: the first measurement counts at once; later ones move the mean by an eighth at the least, since jobs change;
//! one that is no number changes nothing.

use super::young_daly::Growth;
use std::collections::VecDeque;

/// How much of a new measurement is believed once there are many.
const NEWEST: f64 = 0.125;

/// A mean that follows what is measured, and its spread.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Smoothed {
    count: u32,
    mean: f64,
    variance: f64,
}

impl Smoothed {
    /// Adds a measurement.
    pub fn add(&mut self, value: f64) {
        if !value.is_finite() {
            return;
        }
        self.count = self.count.saturating_add(1);
        let share = NEWEST.max(1.0 / f64::from(self.count));
        let off = value - self.mean;
        self.mean += share * off;
        self.variance = (1.0 - share) * (self.variance + share * off * off);
    }

    /// The mean, or `None` where nothing was measured.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then_some(self.mean)
    }

    /// The standard deviation; 0 of one measurement.
    #[must_use]
    pub fn spread(&self) -> f64 {
        self.variance.max(0.0).sqrt()
    }

    /// What the next one will hardly exceed: the mean and three standard deviations, and a quarter more than the mean at the
    /// least, since few measurements don't show the spread.
    #[must_use]
    pub fn at_most(&self) -> Option<f64> {
        self.mean().map(|mean| (mean + 3.0 * self.spread()).max(1.25 * mean))
    }
}

/// How long the application's steps take, from spans of several.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct StepTimes {
    mean: Smoothed,
    /// Of one step, from spans of n: the variance of their sum is n times as large.
    variance: Smoothed,
}

impl StepTimes {
    /// Adds `steps` steps that took `seconds`.
    pub fn add(&mut self, steps: u64, seconds: f64) {
        if steps == 0 || !seconds.is_finite() || seconds < 0.0 {
            return;
        }
        let each = seconds / steps as f64;
        if let Some(mean) = self.mean.mean() {
            self.variance.add((each - mean).powi(2) * steps as f64);
        }
        self.mean.add(each);
    }

    /// The mean of a step, seconds; 0 before any.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.mean.mean().unwrap_or(0.0)
    }

    /// The standard deviation of one step, seconds.
    #[must_use]
    pub fn spread(&self) -> f64 {
        self.variance.mean().unwrap_or(0.0).max(0.0).sqrt()
    }

    /// By how much a threshold is passed on average where it is looked at every `steps` steps: E\[X²\]/(2 E\[X\]) of the time X
    /// between two looks (renewal theory; W. Feller, *An Introduction to Probability Theory* II, XI.4). Seconds.
    #[must_use]
    pub fn overshoot(&self, steps: u64) -> f64 {
        let mean = self.mean();
        if mean <= 0.0 {
            return 0.0;
        }
        steps as f64 * mean / 2.0 + self.spread().powi(2) / (2.0 * mean)
    }
}

/// Checkpoints that growth is fitted to.
const REMEMBERED: usize = 32;
/// Fewer say nothing.
const FEWEST: usize = 6;
/// Checkpoints between two fits.
const FIT_EVERY: u32 = 8;
/// Costs that differ by less than this from their mean need no explanation.
const ALIKE: f64 = 0.02;
/// Intervals must differ by so much at the least, and the fit must leave less than this of the variance.
const RANGE: f64 = 1.5;
const UNEXPLAINED: f64 = 0.3;

/// The costs of the last checkpoints with the time since the one before each, to see whether they grow with it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GrowthFit {
    seen: VecDeque<(f64, f64)>,
    until_fit: u32,
    fit: Option<Growth>,
}

impl GrowthFit {
    /// Adds a checkpoint that cost `cost` seconds, `period` seconds after the one before it.
    pub fn add(&mut self, period: f64, cost: f64) {
        if !(period > 0.0 && period.is_finite() && cost.is_finite()) {
            return;
        }
        self.seen.push_back((period, cost));
        if self.seen.len() > REMEMBERED {
            self.seen.pop_front();
        }
        match self.until_fit.checked_sub(1) {
            Some(left) => self.until_fit = left,
            None => {
                self.until_fit = FIT_EVERY - 1;
                self.fit = self.fit_now();
            }
        }
    }

    /// C(P) = a + b (1 − e^(−P/θ)), where that explains the costs seen; `None` where they do not grow with the interval, or all
    /// intervals are alike so that nobody can know.
    #[must_use]
    pub fn growth(&self) -> Option<Growth> {
        self.fit
    }

    fn fit_now(&self) -> Option<Growth> {
        if self.seen.len() < FEWEST {
            return None;
        }
        let periods = self.seen.iter().map(|(period, _)| *period);
        let (shortest, longest) = (periods.clone().fold(f64::INFINITY, f64::min), periods.fold(0.0, f64::max));
        if longest < RANGE * shortest {
            return None;
        }
        let n = self.seen.len() as f64;
        let mean = self.seen.iter().map(|(_, cost)| cost).sum::<f64>() / n;
        let total: f64 = self.seen.iter().map(|(_, cost)| (cost - mean).powi(2)).sum();
        if total < n * (ALIKE * mean).powi(2) {
            return None;
        }
        // For each θ the rest is linear; θ itself is searched over all that the intervals could show.
        let at = |place: u32| shortest / 8.0 * (64.0 * longest / shortest).powf(f64::from(place) / 48.0);
        let fits = (0..=48).filter_map(|place| self.fit_with(at(place), mean));
        let (left, growth) = fits.min_by(|a, b| a.0.total_cmp(&b.0))?;
        (left < UNEXPLAINED * total).then_some(growth)
    }

    /// The least squares with this θ, and what they leave; `None` where costs would be negative or shrink.
    fn fit_with(&self, time: f64, mean_cost: f64) -> Option<(f64, Growth)> {
        let x = |period: f64| -(-period / time).exp_m1();
        let n = self.seen.len() as f64;
        let mean_x = self.seen.iter().map(|(period, _)| x(*period)).sum::<f64>() / n;
        let (mut xx, mut xy) = (0.0, 0.0);
        for (period, cost) in &self.seen {
            xx += (x(*period) - mean_x).powi(2);
            xy += (x(*period) - mean_x) * (cost - mean_cost);
        }
        if xx <= 0.0 {
            return None;
        }
        let more = xy / xx;
        let growth = Growth { least: mean_cost - more * mean_x, more, time };
        if growth.more <= 0.0 || growth.least < 0.0 {
            return None;
        }
        let left = self.seen.iter().map(|(period, cost)| (cost - growth.cost(*period)).powi(2)).sum();
        Some((left, growth))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_counts_at_once_and_the_last_never_little() {
        let mut smoothed = Smoothed::default();
        assert_eq!((smoothed.mean(), smoothed.at_most()), (None, None));
        smoothed.add(4.0);
        assert_eq!((smoothed.mean(), smoothed.at_most()), (Some(4.0), Some(5.0)));
        smoothed.add(6.0);
        assert_eq!((smoothed.mean(), smoothed.spread()), (Some(5.0), 1.0));
        smoothed.add(f64::NAN);
        assert_eq!(smoothed.mean(), Some(5.0));
        for _ in 0..40 {
            smoothed.add(1.0);
        }
        assert!((smoothed.mean().unwrap() - 1.0).abs() < 0.05);
    }

    #[test]
    fn spans_of_steps_tell_the_spread_of_one() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut steps = StepTimes::default();
        for _ in 0..4000 {
            // Uniform on 0.5 to 1.5: a standard deviation of 0.2887.
            let seconds = (0..10).map(|_| 0.5 + random.f64()).sum();
            steps.add(10, seconds);
        }
        assert!((steps.mean() - 1.0).abs() < 0.1, "{steps:?}");
        assert!((0.12..0.6).contains(&steps.spread()), "{steps:?}");
        let even = StepTimes { mean: Smoothed { count: 1, mean: 2.0, variance: 0.0 }, variance: Smoothed::default() };
        assert_eq!((even.overshoot(1), even.overshoot(3)), (1.0, 3.0));
    }

    #[test]
    fn growth_is_found_where_there_is_some() {
        let truth = Growth { least: 0.5, more: 4.0, time: 300.0 };
        let mut fit = GrowthFit::default();
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..30 {
            let period = 60.0 + 900.0 * random.f64();
            fit.add(period, truth.cost(period) * (0.97 + 0.06 * random.f64()));
        }
        let growth = fit.growth().expect("it is plain to see");
        for period in [100.0, 300.0, 900.0] {
            assert!((growth.cost(period) / truth.cost(period) - 1.0).abs() < 0.1, "{growth:?}");
        }
        let mut flat = GrowthFit::default();
        let mut alike = GrowthFit::default();
        for _ in 0..30 {
            flat.add(60.0 + 900.0 * random.f64(), 2.0 + random.f64());
            alike.add(300.0 + random.f64(), 2.0 + random.f64());
        }
        assert_eq!((flat.growth(), alike.growth()), (None, None));
    }
}
