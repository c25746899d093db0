//! When a simulated job fails.
//!
//! Comes in: a distribution and a seed, or the times of a trace. Goes out: the moments of failures, ever later ones.
//! What must hold: the same seed gives the same failures, whatever the policy does in between.

use fastrand::Rng;
use serde::{Deserialize, Serialize};

/// How the time between two failures is distributed. All have the mean that they are given, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Law {
    /// Without memory.
    Exponential,
    /// Weibull with this shape; below 1, as in real traces, failures come in bunches.
    Weibull(f64),
    /// Log-normal; the standard deviation of the logarithm.
    LogNormal(f64),
}

impl Law {
    /// A time with mean `mean`.
    pub fn draw(self, mean: f64, random: &mut Rng) -> f64 {
        // Never 0, of which there is no logarithm.
        let exponential = -(1.0 - random.f64()).ln();
        match self {
            Self::Exponential => mean * exponential,
            Self::Weibull(shape) => {
                mean / statrs::function::gamma::gamma(1.0 + 1.0 / shape) * exponential.powf(1.0 / shape)
            }
            Self::LogNormal(sigma) => mean * (sigma * normal(random) - sigma * sigma / 2.0).exp(),
        }
    }
}

/// A standard normal number (G. E. P. Box, M. E. Muller 1958).
fn normal(random: &mut Rng) -> f64 {
    let radius = (-2.0 * (1.0 - random.f64()).ln()).sqrt();
    radius * (std::f64::consts::TAU * random.f64()).cos()
}

/// Where failures come from.
pub trait Failures {
    /// The first failure after `now`, in seconds; infinite: there is none. `now` never goes back.
    fn after(&mut self, now: f64) -> f64;
}

/// Failures a random time after each other, for ever.
#[derive(Debug, Clone)]
pub struct Renewal {
    law: Law,
    mean: f64,
    random: Rng,
    next: f64,
    repeats: Option<Repeats>,
    /// Failures that an earlier one brings after it.
    coming: Vec<f64>,
}

/// Nodes that fail again: in LANL's data 8 % do within a day.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Repeats {
    /// The probability that a failure is followed by one of the same node.
    pub probability: f64,
    /// Within so many seconds, anywhen in them.
    pub within: f64,
}

impl Renewal {
    /// Failures with a mean time `mean` between them.
    #[must_use]
    pub fn new(law: Law, mean: f64, seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let next = law.draw(mean, &mut random);
        Self { law, mean, random, next, repeats: None, coming: Vec::new() }
    }

    /// The same, where nodes that failed may fail again besides.
    #[must_use]
    pub fn repeating(self, repeats: Repeats) -> Self {
        Self { repeats: Some(repeats), ..self }
    }
}

impl Failures for Renewal {
    fn after(&mut self, now: f64) -> f64 {
        while self.next <= now {
            let failure = self.next;
            self.next += self.law.draw(self.mean, &mut self.random);
            if let Some(Repeats { probability, within }) = self.repeats
                && self.random.f64() < probability
            {
                self.coming.push(failure + within * self.random.f64());
            }
        }
        self.coming.retain(|again| *again > now);
        self.coming.iter().copied().fold(self.next, f64::min)
    }
}

/// Failures at known times.
#[derive(Debug, Clone, Copy)]
pub struct Trace<'a> {
    times: &'a [f64],
    at: usize,
}

impl<'a> Trace<'a> {
    /// Those times, in seconds, in ascending order.
    #[must_use]
    pub fn new(times: &'a [f64]) -> Self {
        Self { times, at: 0 }
    }
}

impl Failures for Trace<'_> {
    fn after(&mut self, now: f64) -> f64 {
        while self.times.get(self.at).is_some_and(|time| *time <= now) {
            self.at += 1;
        }
        self.times.get(self.at).copied().unwrap_or(f64::INFINITY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_law_has_the_mean_it_is_given() {
        for law in [Law::Exponential, Law::Weibull(0.5), Law::Weibull(1.0), Law::LogNormal(1.4)] {
            let mut random = Rng::with_seed(5);
            let mean = (0..2_000_000).map(|_| law.draw(7.0, &mut random)).sum::<f64>() / 2e6;
            assert!((mean / 7.0 - 1.0).abs() < 0.02, "{law:?}: {mean}");
        }
    }

    #[test]
    fn failures_do_not_depend_on_when_one_asks() {
        let all = |step: f64| {
            let repeats = Repeats { probability: 0.3, within: 50.0 };
            let mut failures = Renewal::new(Law::Weibull(0.7), 10.0, 3).repeating(repeats);
            let (mut now, mut seen) = (0.0, Vec::new());
            while now < 1000.0 {
                let next = failures.after(now);
                if next < (now + step).min(1000.0) {
                    seen.push(next);
                    now = next;
                } else {
                    now += step;
                }
            }
            seen
        };
        let often = all(0.5);
        assert_eq!(often, all(1e9));
        assert!(often.windows(2).all(|pair| pair[0] < pair[1]) && (90..170).contains(&often.len()), "{}", often.len());
    }

    #[test]
    fn a_trace_ends() {
        let mut trace = Trace::new(&[1.0, 2.0, 2.0, 5.0]);
        assert_eq!([0.0, 1.0, 1.5, 2.0, 6.0].map(|now| trace.after(now)), [1.0, 2.0, 2.0, 5.0, f64::INFINITY]);
    }
}
