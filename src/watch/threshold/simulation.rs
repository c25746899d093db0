//! Series as nodes make them, from seeds.

use super::adaptive::{Adaptive, Detector};
use fastrand::Rng;
use std::f64::consts::TAU;

/// Between two values, seconds.
pub const PERIOD: f64 = 5.0;
const DAY: usize = 17_280;

/// A standard normal number (G. E. P. Box, M. E. Muller 1958).
pub fn normal(random: &mut Rng) -> f64 {
    let radius = (-2.0 * (1.0 - random.f64()).ln()).sqrt();
    radius * (TAU * random.f64()).cos()
}

/// How a series behaves when all is well. The standard deviation is 1, but of what has none that tells.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Law {
    /// Independent normal numbers about 10.
    Normal,
    /// Normal, with this correlation of one value with the next.
    Autoregressive(f64),
    /// Independent, of Student's t with 3 degrees of freedom: now and then far away.
    Student3,
    /// Independent, the exponentials of normal numbers with this standard deviation.
    LogNormal(f64),
    /// A daily cycle of this amplitude, and normal noise on it.
    Daily(f64),
    /// A random walk that hardly comes back, seen through noise.
    Wandering,
    /// A minute of much more, at random every 20 minutes or so.
    Bursts,
    /// Independent exponential numbers.
    Exponential,
}

/// A series of that law.
#[derive(Debug, Clone)]
pub struct Simulated {
    law: Law,
    random: Rng,
    state: f64,
    phase: f64,
    place: usize,
}

impl Simulated {
    pub fn new(law: Law, seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let (state, phase) = (normal(&mut random), random.f64());
        Self { law, random, state, phase, place: 0 }
    }

    fn autoregress(&mut self, rho: f64) -> f64 {
        self.state = rho * self.state + (1.0 - rho * rho).sqrt() * normal(&mut self.random);
        self.state
    }

    pub fn next(&mut self) -> f64 {
        self.place += 1;
        let noise = normal(&mut self.random);
        match self.law {
            Law::Normal => 10.0 + noise,
            Law::Autoregressive(rho) => 10.0 + self.autoregress(rho),
            Law::Student3 => {
                let squares: f64 = (0..3).map(|_| normal(&mut self.random).powi(2)).sum();
                // Its variance is 3.
                10.0 + noise / (squares / 3.0).sqrt() / 3.0_f64.sqrt()
            }
            Law::LogNormal(sigma) => (sigma * noise).exp(),
            Law::Daily(amplitude) => {
                let turn = self.place as f64 / DAY as f64 + self.phase;
                25.0 + amplitude * (TAU * turn).sin() + noise
            }
            Law::Wandering => 20.0 + self.autoregress(0.9995) + 0.3 * noise,
            Law::Bursts => {
                self.state -= PERIOD;
                if self.state < -60.0 {
                    self.state = -1200.0 * (1.0 - self.random.f64()).ln();
                }
                10.0 + noise + if self.state < 0.0 { 20.0 } else { 0.0 }
            }
            Law::Exponential => -(1.0 - self.random.f64()).ln(),
        }
    }

    /// What a shift of `deviations` standard deviations makes of `value`; of what has no such, the same by its quantiles.
    pub fn shifted(&self, value: f64, deviations: f64) -> f64 {
        match self.law {
            Law::LogNormal(sigma) => value * (sigma * deviations).exp(),
            // One standard deviation is 1, but on top of which nothing negative stands.
            _ => value + deviations,
        }
    }
}

/// How often a series of `law` alarms in a day in which all is well.
pub fn false_alarms(rule: Adaptive, law: Law, seed: u64) -> usize {
    let (mut series, mut detector) = (Simulated::new(law, seed), Detector::new(rule));
    let mut before = false;
    (0..DAY)
        .filter(|place| {
            let verdict = detector.add(*place as f64 * PERIOD, series.next(), 1);
            let alarming = verdict.is_some_and(|verdict| verdict.alarming);
            let new = alarming && !before;
            before = alarming;
            new
        })
        .count()
}

/// After how many seconds a lasting shift by `deviations` is found that comes `hours` after the start; `None`: not within two hours.
pub fn delay(rule: Adaptive, law: Law, deviations: f64, hours: f64, seed: u64) -> Option<f64> {
    let (mut series, mut detector) = (Simulated::new(law, seed), Detector::new(rule));
    let shift = (hours * 3600.0 / PERIOD) as usize;
    let mut alarming = false;
    for place in 0..shift + 1440 {
        let value = series.next();
        let value = if place >= shift { series.shifted(value, deviations) } else { value };
        let now = detector.add(place as f64 * PERIOD, value, 1).is_some_and(|verdict| verdict.alarming);
        if place >= shift && now && !alarming {
            return Some((place - shift + 1) as f64 * PERIOD);
        }
        alarming = now;
    }
    None
}

/// The share `quantile` of what was found within; infinite where less was found.
pub fn quantile(delays: &mut [Option<f64>], quantile: f64) -> f64 {
    let mut sorted: Vec<f64> = delays.iter().map(|delay| delay.unwrap_or(f64::INFINITY)).collect();
    sorted.sort_by(f64::total_cmp);
    let place = (quantile * sorted.len() as f64).ceil() as usize;
    sorted.get(place.saturating_sub(1)).copied().unwrap_or(f64::INFINITY)
}
