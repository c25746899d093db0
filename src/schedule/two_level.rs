//! Two places for checkpoints: a near one that is cheap and that some failures take away, and a far one that outlives all.
//!
//! Comes in: what a checkpoint costs in each place, and how often failures strike that need it. Goes out: how often to take
//! one, and how many of them go to the far place. What must hold: never worse than the far place alone.
//!
//! To first order each level has an interval of its own, √(2C/λ), λ being the rate of the failures that need that level, and wastes
//! √(2Cλ) (A. Benoit, A. Cavelan, V. Le Fèvre, Y. Robert, H. Sun, *Towards optimal multi-level checkpointing*, IEEE TC 66, 2017).
//! Here every n-th checkpoint is a far one, n whole.

use serde::{Deserialize, Serialize};

/// One place.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Level {
    /// What a checkpoint there costs the application, seconds.
    pub cost: f64,
    /// Mean time between the failures that need a checkpoint of this place, seconds: of the near one, those that leave it
    /// intact; of the far one, all others.
    pub mtbf: f64,
    /// From the call until a checkpoint there is durable, seconds; where it is less than the cost, the cost counts.
    pub latency: f64,
    /// Bringing the state back from there, seconds.
    pub restart: f64,
}

impl Level {
    /// What a failure that needs this place costs besides the work between two checkpoints.
    fn each(&self) -> f64 {
        (self.latency - self.cost).max(0.0) + self.restart
    }
}

/// What to do with two places.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TwoLevel {
    /// Seconds of work between two checkpoints, whichever.
    pub work: f64,
    /// Every so many of them is a far one; 1: all.
    pub far_every: u32,
    /// The expected share of the time wasted, to first order.
    pub waste: f64,
}

/// More checkpoints in a row than this are never kept near alone.
const MOST: u32 = 10_000;

/// What wastes least.
///
/// ```
/// use piton::schedule::{Level, two_level};
/// let near = Level { cost: 5.0, mtbf: 4.0 * 3600.0, latency: 5.0, restart: 5.0 };
/// let far = Level { cost: 200.0, mtbf: 100.0 * 3600.0, latency: 200.0, restart: 200.0 };
/// let both = two_level(near, far);
/// assert!(both.far_every > 20 && both.waste < 0.08);
/// // A near place that is no better in anything is of no use.
/// assert_eq!(two_level(Level { mtbf: near.mtbf, ..far }, far).far_every, 1);
/// ```
#[must_use]
pub fn two_level(near: Level, far: Level) -> TwoLevel {
    let at = |far_every: u32| {
        let (n, near_rate, far_rate) = (f64::from(far_every), 1.0 / near.mtbf, 1.0 / far.mtbf);
        // With n = 1 there is no near checkpoint to come back from.
        let near_each = if far_every == 1 { far.each() } else { near.each() };
        let cost = (near.cost * (n - 1.0) + far.cost) / n;
        let rate = near_rate + n * far_rate;
        let work = (2.0 * cost / rate).sqrt();
        let waste = cost / work + work * rate / 2.0 + near_rate * near_each + far_rate * far.each();
        TwoLevel { work, far_every, waste }
    };
    let ideal = ((far.cost - near.cost).max(0.0) * far.mtbf / (near.cost * near.mtbf)).sqrt();
    let whole = |n: f64| if n >= f64::from(MOST) { MOST } else { n.max(1.0) as u32 };
    let candidates = [1, 2, whole(ideal.floor()), whole(ideal.ceil())].map(at);
    candidates.into_iter().min_by(|a, b| a.waste.total_cmp(&b.waste)).unwrap_or_else(|| at(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_other_pattern_wastes_less(
            near_cost in 0.1..100.0f64, far_cost in 0.1..1000.0f64, near_hours in 0.5..100.0f64, far_hours in 1.0..1000.0f64,
        ) {
            let near = Level { cost: near_cost, mtbf: near_hours * 3600.0, latency: 2.0 * near_cost, restart: near_cost };
            let far = Level { cost: far_cost, mtbf: far_hours * 3600.0, latency: 3.0 * far_cost, restart: far_cost };
            let best = two_level(near, far);
            let (a, b) = (1.0 / near.mtbf, 1.0 / far.mtbf);
            for n in 1..=400_u32 {
                let count = f64::from(n);
                let cost = (near.cost * (count - 1.0) + far.cost) / count;
                let each = if n == 1 { far.each() } else { near.each() };
                for scale in [0.7, 1.0, 1.4] {
                    let work = scale * best.work;
                    let waste = cost / work + work / 2.0 * (a + count * b) + a * each + b * far.each();
                    prop_assert!(best.waste <= waste * (1.0 + 1e-9), "n = {}: {} against {:?}", n, waste, best);
                }
            }
        }
    }
}
