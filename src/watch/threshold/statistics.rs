//! Statistics of a stream, in constant memory.
//!
//! Comes in: numbers, one after the other. Goes out: mean, variance, median, correlation, rate. What must hold: a value that is no
//! finite number changes nothing; nothing here reads a clock or grows.

use std::cmp::Ordering;
use std::collections::VecDeque;

/// A mean that forgets, and the variance about it.
///
/// The share α of a new value is 1 − e^(−Δ/τ) for values Δ apart and a memory of τ, but 1/n at the least for the n-th: until the
/// memory is full these are Welford's mean and variance of all values so far, so that nothing is biased towards a start at zero
/// (B. P. Welford, *Note on a method for calculating corrected sums of squares and products*, Technometrics 4(3), 1962; T. Finch,
/// *Incremental calculation of weighted mean and variance*, 2009):
///
/// d = x − m, m ← m + αd, v ← (1 − α)(v + αd²); unbiased v/(1 − Σw²) with the weights' Σw² ← (1 − α)²Σw² + α².
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Moving {
    count: f64,
    mean: f64,
    variance: f64,
    squared_weights: f64,
}

impl Moving {
    /// Adds a value, of which the share is `share` once there are enough of them.
    pub fn add(&mut self, value: f64, share: f64) {
        if !value.is_finite() {
            return;
        }
        self.count += 1.0;
        let share = share.max(1.0 / self.count).min(1.0);
        let off = value - self.mean;
        self.mean += share * off;
        self.variance = (1.0 - share) * (self.variance + share * off * off);
        self.squared_weights = (1.0 - share).powi(2) * self.squared_weights + share * share;
    }

    /// How many values there were.
    #[must_use]
    pub fn count(&self) -> f64 {
        self.count
    }

    /// The mean; 0 of nothing.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.mean
    }

    /// The variance, unbiased for independent values; 0 of fewer than two.
    #[must_use]
    pub fn variance(&self) -> f64 {
        if self.squared_weights < 1.0 { self.variance / (1.0 - self.squared_weights) } else { 0.0 }
    }
}

/// Moments of deviations from what was expected, that forget as [`Moving`] does.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Moments {
    count: f64,
    square: f64,
    cube: f64,
    fourth: f64,
}

impl Moments {
    /// Adds a deviation; see [`Moving::add`] for `share`.
    pub fn add(&mut self, off: f64, share: f64) {
        if !off.is_finite() {
            return;
        }
        self.count += 1.0;
        let share = share.max(1.0 / self.count).min(1.0);
        let square = off * off;
        self.square += share * (square - self.square);
        self.cube += share * (square * off - self.cube);
        self.fourth += share * (square * square - self.fourth);
    }

    /// How many deviations there were.
    #[must_use]
    pub fn count(&self) -> f64 {
        self.count
    }

    /// √E\[d²\]; 0 of nothing.
    #[must_use]
    pub fn deviation(&self) -> f64 {
        self.square.max(0.0).sqrt()
    }

    /// E\[d³\]/E\[d²\]^(3/2): 0 where either side is alike.
    #[must_use]
    pub fn skewness(&self) -> f64 {
        let skewness = self.cube / self.deviation().powi(3);
        if skewness.is_finite() { skewness } else { 0.0 }
    }

    /// E\[d⁴\]/E\[d²\]² − 3: 0 of normal deviations, more where some are far out.
    #[must_use]
    pub fn kurtosis(&self) -> f64 {
        let kurtosis = self.fourth / self.square.powi(2) - 3.0;
        if kurtosis.is_finite() { kurtosis } else { 0.0 }
    }
}

/// The share α = 1 − e^(−Δ/τ) of a value that comes `seconds` after the one before, for a memory of `memory` seconds.
#[must_use]
pub fn share(seconds: f64, memory: f64) -> f64 {
    -(-seconds.max(0.0) / memory).exp_m1()
}

/// Most values of a [`Window`].
pub const WINDOW_MOST: usize = 15;

/// The last few values, kept in order for their median.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Window {
    // By age, from `next` on, and by size; `len` of each are used.
    arrived: [f64; WINDOW_MOST],
    sorted: [f64; WINDOW_MOST],
    len: usize,
    next: usize,
    size: usize,
}

impl Window {
    /// Of `size` values, an odd number up to [`WINDOW_MOST`]; another number becomes the next such.
    #[must_use]
    pub fn new(size: usize) -> Self {
        let size = (size | 1).min(WINDOW_MOST);
        Self { arrived: [0.0; WINDOW_MOST], sorted: [0.0; WINDOW_MOST], len: 0, next: 0, size }
    }

    /// Of how many values.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// Adds a value, for which the oldest goes once there are enough.
    pub fn add(&mut self, value: f64) {
        if !value.is_finite() {
            return;
        }
        if self.len == self.size {
            let old = self.arrived[self.next];
            let at = self.sorted[..self.len].partition_point(|other| *other < old);
            self.sorted.copy_within(at + 1..self.len, at);
            self.len -= 1;
        }
        let at = self.sorted[..self.len].partition_point(|other| *other < value);
        self.sorted.copy_within(at..self.len, at + 1);
        self.sorted[at] = value;
        self.len += 1;
        self.arrived[self.next] = value;
        self.next = (self.next + 1) % self.size;
    }

    /// The median, once there are enough values.
    #[must_use]
    pub fn median(&self) -> Option<f64> {
        (self.len == self.size).then(|| self.sorted[self.size / 2])
    }
}

/// The median of `values`, whose order is changed; `None` of nothing. None of them may be NaN.
#[must_use]
pub fn median(values: &mut [f64]) -> Option<f64> {
    let middle = values.len() / 2;
    let order = |a: &f64, b: &f64| a.partial_cmp(b).unwrap_or(Ordering::Equal);
    let even = values.len().is_multiple_of(2);
    if values.is_empty() {
        return None;
    }
    let (below, upper, _) = values.select_nth_unstable_by(middle, order);
    let upper = *upper;
    if !even {
        return Some(upper);
    }
    let lower = below.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    Some(lower / 2.0 + upper / 2.0)
}

/// The median of `values` and 1.4826 times the median distance from it, which is the standard deviation where they are normal and
/// stays near it while fewer than half of them are not (P. J. Rousseeuw, C. Croux, *Alternatives to the median absolute
/// deviation*, JASA 88(424), 1993). Values that are no finite numbers are left out.
#[must_use]
pub fn median_and_spread(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    let mut values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
    let middle = median(&mut values)?;
    for value in &mut values {
        *value = (*value - middle).abs();
    }
    Some((middle, 1.4826 * median(&mut values)?))
}

/// How much of a value one finds again in the next: ρ = E\[x y\]/E\[x²\] of a series whose mean is 0, for values x and the y
/// before each.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Autocorrelation {
    before: Option<f64>,
    product: Moving,
    square: Moving,
}

impl Autocorrelation {
    /// Adds the next value; see [`Moving::add`] for `share`.
    pub fn add(&mut self, value: f64, share: f64) {
        if !value.is_finite() {
            return;
        }
        if let Some(before) = self.before {
            self.product.add(value * before, share);
            self.square.add(value.mul_add(value, before * before) / 2.0, share);
        }
        self.before = Some(value);
    }

    /// ρ, corrected for what the estimate from n values is too low by, about (1 + 3ρ)/n (M. G. Kendall, *Note on bias in the
    /// estimation of autocorrelation*, Biometrika 41, 1954); 0 to 0.999, or `None` of nothing, and of what never changes.
    #[must_use]
    pub fn estimate(&self) -> Option<f64> {
        let square = self.square.mean();
        if square <= 0.0 {
            return None;
        }
        let raw = (self.product.mean() / square).clamp(-1.0, 1.0);
        Some((raw + (1.0 + 3.0 * raw.max(0.0)) / self.square.count()).clamp(0.0, 0.999))
    }
}

/// What a counter has counted, over its resets: one that falls has started anew at 0, as Prometheus takes it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Counter {
    last: Option<f64>,
    total: f64,
}

impl Counter {
    /// What was counted since the first value.
    fn add(&mut self, value: f64) -> f64 {
        self.total += match self.last {
            None => 0.0,
            Some(last) if value >= last => value - last,
            Some(_) => value,
        };
        self.last = Some(value);
        self.total
    }
}

/// Most points that a window of a counter keeps.
const POINTS: f64 = 60.0;

/// How much a counter grew in a window that ends now, and per second.
#[derive(Debug, Clone, PartialEq)]
pub struct Growth {
    counter: Counter,
    window: f64,
    points: VecDeque<(f64, f64)>,
}

impl Growth {
    /// Over `window` seconds; 0: since the value before.
    #[must_use]
    pub fn over(window: f64) -> Self {
        Self { counter: Counter::default(), window, points: VecDeque::new() }
    }

    /// Adds what the counter shows at `now`. Gives what it grew by, and in how many seconds; `None` for the first value, and
    /// where no time has passed.
    pub fn add(&mut self, now: f64, value: f64) -> Option<(f64, f64)> {
        if !value.is_finite() || value < 0.0 {
            return None;
        }
        let total = self.counter.add(value);
        // The newest point that is as old as the window, so that nothing within it is missed.
        while self.points.len() > 1 && self.points[1].0 <= now - self.window {
            self.points.pop_front();
        }
        let grown = self.points.front().and_then(|(then, from)| (now > *then).then_some((total - from, now - then)));
        if self.points.back().is_none_or(|(then, _)| now - then >= self.window / POINTS && now > *then) {
            self.points.push_back((now, total));
        }
        grown
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn two_pass(values: &[f64]) -> (f64, f64) {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        (mean, values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0))
    }

    #[test]
    fn a_moving_mean_forgets_at_the_pace_of_its_memory() {
        let mut moving = Moving::default();
        (0..2000).for_each(|_| moving.add(1.0, share(5.0, 500.0)));
        (0..100).for_each(|_| moving.add(0.0, share(5.0, 500.0)));
        assert!((moving.mean() - (-1.0_f64).exp()).abs() < 1e-9, "{}", moving.mean());
        // Two values, one of which weighs e⁻¹.
        let p = (-1.0_f64).exp();
        assert!((moving.variance() - p * (1.0 - p)).abs() < 2e-3, "{}", moving.variance());
        moving.add(f64::NAN, 0.5);
        moving.add(f64::INFINITY, 0.5);
        assert_eq!(moving.count(), 2100.0);
    }

    #[test]
    fn correlation_is_found_again() {
        let mut random = fastrand::Rng::with_seed(1);
        for rho in [0.0, 0.5, 0.9] {
            let (mut value, mut correlation) = (0.0, Autocorrelation::default());
            for _ in 0..50_000 {
                value = rho * value + random.f64() - 0.5;
                correlation.add(value, 0.0);
            }
            let estimate = correlation.estimate().unwrap();
            assert!((estimate - rho).abs() < 0.02, "{rho}: {estimate}");
        }
        assert_eq!(Autocorrelation::default().estimate(), None);
    }

    #[test]
    fn counters_grow_over_their_resets() {
        let mut growth = Growth::over(0.0);
        let counts = [(0.0, 5.0), (5.0, 15.0), (10.0, 15.0), (20.0, 3.0), (20.0, 4.0), (25.0, 5.0)];
        let grown: Vec<_> = counts.iter().map(|(now, value)| growth.add(*now, *value)).collect();
        let expected = [None, Some((10.0, 5.0)), Some((0.0, 5.0)), Some((3.0, 10.0)), None, Some((2.0, 5.0))];
        assert_eq!(grown, expected);
        assert_eq!(growth.add(30.0, f64::NAN), None);

        let mut hour = Growth::over(3600.0);
        let mut most = 0;
        for second in 0..20_000 {
            let now = f64::from(second);
            let value = if second >= 10_000 { 7.0 } else { 0.0 };
            let (grown, seconds) = hour.add(now, value).unwrap_or((0.0, 1.0));
            // Nothing within the hour is missed, and nothing counts longer than a sixtieth of the hour after it.
            let within = (10_000..=13_600).contains(&second);
            assert!(
                if within { grown == 7.0 } else { grown == 0.0 || second <= 13_660 },
                "{second}: {grown} in {seconds}"
            );
            most = most.max(hour.points.len());
        }
        assert!(most <= 62, "{most}");
    }

    proptest! {
        #[test]
        fn until_memory_is_full_all_values_count_alike(values in proptest::collection::vec(-1e6..1e6f64, 2..200)) {
            let mut moving = Moving::default();
            values.iter().for_each(|value| moving.add(*value, 1e-9));
            let (mean, variance) = two_pass(&values);
            prop_assert!((moving.mean() - mean).abs() < 1e-6 * (1.0 + mean.abs()));
            prop_assert!((moving.variance() - variance).abs() < 1e-6 * (1.0 + variance), "{} {}", moving.variance(), variance);
        }

        #[test]
        fn the_windows_median_is_that_of_its_values(
            values in proptest::collection::vec(-5i32..5, 1..60), size in 1usize..20,
        ) {
            let mut window = Window::new(size);
            for (place, value) in values.iter().enumerate() {
                window.add(f64::from(*value));
                let from = (place + 1).checked_sub(window.size());
                let expected = from.and_then(|from| {
                    median(&mut values[from..=place].iter().map(|value| f64::from(*value)).collect::<Vec<_>>())
                });
                prop_assert_eq!(window.median(), expected);
            }
        }

        #[test]
        fn a_few_outliers_change_the_robust_spread_little(outlier in 1e3..1e9f64) {
            let values = (0..20).map(f64::from).chain([outlier; 3]);
            let (middle, spread) = median_and_spread(values).unwrap();
            prop_assert!((9.0..13.0).contains(&middle) && (5.0..11.0).contains(&spread), "{} {}", middle, spread);
        }
    }
}
