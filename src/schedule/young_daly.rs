//! How long to compute between two checkpoints, and what that wastes: the formulas.
//!
//! Comes in: what a checkpoint costs, and the mean time between failures. Goes out: intervals and waste.
//! What must hold: all times are in seconds; `mtbf` is always the mean *time* between failures of the whole job (M), never a
//! rate; for every finite, positive argument the result is finite and positive.
//!
//! | symbol | here | meaning |
//! | --- | --- | --- |
//! | M | `mtbf` | mean time between failures of the job |
//! | C | [`Costs::cost`] | what a checkpoint costs the application: the time it stands still, and what its steps lose meanwhile |
//! | L | [`Costs::latency`] | from the call until the checkpoint is durable |
//! | R, D | [`Costs::restart`], [`Costs::downtime`] | reading a checkpoint back; from a failure until that begins |
//! | τ | work | seconds of work between two checkpoints |
//! | P | period | from one checkpoint's call to the next: τ + C |

use serde::{Deserialize, Serialize};

/// What checkpoints and failures cost, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Costs {
    /// C: what one checkpoint takes from the application.
    pub cost: f64,
    /// L: from the call that takes a checkpoint until it is durable. Where it is less than the cost, the cost counts.
    pub latency: f64,
    /// R: bringing the state back.
    pub restart: f64,
    /// D: from a failure until the state begins to be brought back.
    pub downtime: f64,
}

impl Costs {
    /// How much longer a checkpoint is at risk than the application stands still for it: L − C.
    fn exposed(&self) -> f64 {
        (self.latency - self.cost).max(0.0)
    }
}

/// Young's interval √(2CM): the first-order optimum of the work between two checkpoints.
///
/// J. W. Young, *A first order approximation to the optimum checkpoint interval*, CACM 17 (1974), equation 3. M is the mean
/// *time* between failures; texts that call it a failure rate have it upside down.
///
/// ```
/// // Five minutes a checkpoint, a failure every eight hours: 69 minutes.
/// assert_eq!(piton::schedule::young(300.0, 8.0 * 3600.0).round(), 4157.0);
/// ```
#[must_use]
pub fn young(cost: f64, mtbf: f64) -> f64 {
    (2.0 * cost * mtbf).sqrt()
}

/// Daly's interval: work between two checkpoints, to a higher order.
///
/// J. T. Daly, *A higher order estimate of the optimum checkpoint interval for restart dumps*, FGCS 22 (2006), equation 37:
/// τ = √(2CM) · [1 + ⅓ √(C/2M) + ⅑ (C/2M)] − C for C < 2M, and τ = M beyond. It is meant for C < M/2; the waste at it is within
/// 0.1 % of that at [`optimum`] up to C = 0.3 M.
///
/// ```
/// use piton::schedule::{daly, optimum};
/// assert!((daly(300.0, 28_800.0) / optimum(300.0, 28_800.0) - 1.0).abs() < 1e-4);
/// ```
#[must_use]
pub fn daly(cost: f64, mtbf: f64) -> f64 {
    let half = cost / (2.0 * mtbf);
    if half >= 1.0 {
        return mtbf;
    }
    young(cost, mtbf) * (1.0 + half.sqrt() / 3.0 + half / 9.0) - cost
}

/// The optimum itself for exponentially distributed failures: τ = M (1 + W₀(−e^(−C/M−1))), W₀ Lambert's function.
///
/// It is where the derivative of [`stretch`] with respect to τ vanishes (M. Bougeret et al., *Checkpointing strategies for
/// parallel jobs*, SC 2011, have the same form). Latency, restart and downtime don't move it.
#[must_use]
pub fn optimum(cost: f64, mtbf: f64) -> f64 {
    // With 1 + W₀ = 1 − e^(−v) the equation is v + e^(−v) − 1 = C/M: convex, so that Newton's steps from the right never
    // pass the root, and well-conditioned near the branch point, where Lambert's function itself is not.
    let x = cost / mtbf;
    let mut v = (2.0 * x).sqrt() + x;
    for _ in 0..64 {
        let step = (v + (-v).exp_m1() - x) / -(-v).exp_m1();
        v -= step;
        if step.abs() <= 1e-16 * v {
            break;
        }
    }
    mtbf * -(-v).exp_m1()
}

/// How many seconds a second of work takes, with `work` seconds of it between two checkpoints and failures that are exponentially
/// distributed: (M + D) e^((R + L − C)/M) (e^((τ + C)/M) − 1) / τ.
///
/// Exact under these assumptions: failures strike at any time but while the job is down (D); what is computed after a checkpoint's
/// call is lost with a failure before L has passed. With L = C and D = 0 it is Daly's equation 20. Infinite where it
/// would be larger than any number.
#[must_use]
pub fn stretch(work: f64, costs: &Costs, mtbf: f64) -> f64 {
    let grown = ((work + costs.cost) / mtbf).exp_m1();
    (mtbf + costs.downtime) * ((costs.restart + costs.exposed()) / mtbf).exp() * grown / work
}

/// The share of the time that is wasted, 0 to 1: 1 − 1 / [`stretch`].
#[must_use]
pub fn waste(work: f64, costs: &Costs, mtbf: f64) -> f64 {
    let stretch = stretch(work, costs, mtbf);
    // Differences of nearly equal numbers would cost digits where little is wasted.
    (stretch - 1.0) / stretch
}

/// The first-order waste W ≈ C/P + (P/2 + L − C + D + R)/M of the period P: valid where all of these are much less than M.
///
/// T. Hérault, Y. Robert (eds.), *Fault-Tolerance Techniques for High-Performance Computing* (2015), chapter 1, with the
/// latency of a checkpoint that is written in the background added.
#[must_use]
pub fn waste_first_order(period: f64, costs: &Costs, mtbf: f64) -> f64 {
    costs.cost / period + (period / 2.0 + costs.exposed() + costs.downtime + costs.restart) / mtbf
}

/// What the waste consists of, as shares of the time.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct WasteParts {
    /// Taking checkpoints that were of use.
    pub checkpoints: f64,
    /// Work that failures undid, and checkpoints of it.
    pub lost: f64,
    /// Down, and bringing the state back.
    pub restarts: f64,
}

impl WasteParts {
    /// All of it.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.checkpoints + self.lost + self.restarts
    }
}

/// What [`waste`] consists of.
#[must_use]
pub fn waste_parts(work: f64, costs: &Costs, mtbf: f64) -> WasteParts {
    // From one failure that ends computing to the next: down and restarting, then M seconds of computing on average.
    let cycle = (mtbf + costs.downtime) * (costs.restart / mtbf).exp();
    let useful = cycle / stretch(work, costs, mtbf);
    let checkpoints = useful * costs.cost / work;
    WasteParts {
        checkpoints: checkpoints / cycle,
        lost: (mtbf - useful - checkpoints) / cycle,
        restarts: (cycle - mtbf) / cycle,
    }
}

/// The cost of a checkpoint that grows with the time since the one before it, as incremental ones do:
/// C(P) = a + b (1 − e^(−P/θ)).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Growth {
    /// a: what it costs at the least, seconds.
    pub least: f64,
    /// b: how much more where everything has changed, seconds.
    pub more: f64,
    /// θ: how fast it grows, seconds.
    pub time: f64,
}

impl Growth {
    /// The cost of a checkpoint `period` seconds after the one before, in seconds.
    #[must_use]
    pub fn cost(&self, period: f64) -> f64 {
        self.least - self.more * (-period / self.time).exp_m1()
    }

    /// The work between two checkpoints, in seconds, with the least waste; found numerically.
    ///
    /// ```
    /// let growth = piton::schedule::Growth { least: 1.0, more: 9.0, time: 600.0 };
    /// let work = growth.optimum(36_000.0);
    /// // More often than if each cost 10 s, more seldom than if each cost 1 s.
    /// assert!(work < piton::schedule::daly(10.0, 36_000.0) && work > piton::schedule::daly(1.0, 36_000.0));
    /// ```
    #[must_use]
    pub fn optimum(&self, mtbf: f64) -> f64 {
        let stretched = |work: f64| {
            let costs = Costs { cost: self.cost(work), ..Costs::default() };
            stretch(work, &costs, mtbf)
        };
        let (least, most) = (self.cost(0.0).max(1e-9 * mtbf), self.cost(f64::INFINITY).max(1e-9 * mtbf));
        // Two valleys are possible: one where checkpoints are cheap since little has changed yet, one where all has. Look
        // over the whole range first.
        let (low, high) = ((optimum(least, mtbf) / 4.0).ln(), (optimum(most, mtbf) * 2.0).ln());
        let at = |place: f64| (low + (high - low) * place / 64.0).exp();
        let best = (0..=64).map(f64::from).min_by(|a, b| stretched(at(*a)).total_cmp(&stretched(at(*b))));
        let best = best.unwrap_or(32.0);
        minimise(stretched, at((best - 1.0).max(0.0)), at((best + 1.0).min(64.0)))
    }
}

/// The place between `low` and `high` at which `value` is least, where it has one valley there (golden-section search).
pub(super) fn minimise(value: impl Fn(f64) -> f64, mut low: f64, mut high: f64) -> f64 {
    const GOLDEN: f64 = 0.618_033_988_749_894_8;
    let (mut a, mut b) = (high - GOLDEN * (high - low), low + GOLDEN * (high - low));
    let (mut at_a, mut at_b) = (value(a), value(b));
    for _ in 0..80 {
        if at_a <= at_b {
            (high, b, at_b) = (b, a, at_a);
            a = high - GOLDEN * (high - low);
            at_a = value(a);
        } else {
            (low, a, at_a) = (a, b, at_b);
            b = low + GOLDEN * (high - low);
            at_b = value(b);
        }
    }
    f64::midpoint(low, high)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sync(cost: f64) -> Costs {
        Costs { cost, latency: cost, restart: 0.0, downtime: 0.0 }
    }

    #[test]
    fn known_intervals() {
        // Daly's own example (2006, section 5): δ = 5 min, M = 24 h.
        assert!((young(300.0, 86_400.0) - 7200.0).abs() < 1e-9);
        assert!((daly(300.0, 86_400.0) - 7001.4).abs() < 0.1, "{}", daly(300.0, 86_400.0));
        assert_eq!(daly(10.0, 5.0), 5.0, "beyond its range");
        // W₀(−e^(−2)) = −0.158594339563…
        assert!((optimum(1.0, 1.0) - 0.841_405_660_436_96).abs() < 1e-12);
    }

    #[test]
    fn the_waste_at_dalys_interval_is_that_at_the_optimum() {
        let mut worst: f64 = 0.0;
        for exponent in 0..=90 {
            // C/M from 10⁻⁵ to 0.3.
            let cost = 1e-5 * 3e4_f64.powf(f64::from(exponent) / 90.0);
            let ratio = waste(daly(cost, 1.0), &sync(cost), 1.0) / waste(optimum(cost, 1.0), &sync(cost), 1.0);
            worst = worst.max(ratio - 1.0);
        }
        println!("waste at Daly's interval over waste at the optimum: at most 1 + {worst:.2e}");
        assert!((0.0..1e-3).contains(&worst), "{worst}");
    }

    #[test]
    fn the_first_order_is_the_limit_of_the_exact() {
        let costs = Costs { cost: 1.0, latency: 4.0, restart: 3.0, downtime: 20.0 };
        let (period, mtbf) = (1000.0, 1e6);
        let exact = waste(period - costs.cost, &costs, mtbf);
        assert!((waste_first_order(period, &costs, mtbf) / exact - 1.0).abs() < 2e-3);
    }

    proptest! {
        #[test]
        fn nothing_beats_the_optimum(x in -11.0..1.2f64, latency in 0.0..0.03f64, other in 0.05..20.0f64) {
            let cost = x.exp();
            let costs = Costs { cost, latency: cost + latency, restart: 0.1, downtime: 0.2 };
            let best = optimum(cost, 1.0);
            prop_assert!(best > 0.0 && best < 1.0);
            prop_assert!(stretch(best, &costs, 1.0) <= stretch(best * other, &costs, 1.0) * (1.0 + 1e-12));
            // Lambert's equation, as it stands in books.
            let w = best - 1.0;
            prop_assert!((w * w.exp() + (-cost - 1.0).exp()).abs() < 1e-12);
        }

        #[test]
        fn parts_make_the_whole(cost in 1e-5..0.5f64, latency in 0.0..0.5f64, restart in 0.0..0.5f64, work in 0.01..3.0f64) {
            let costs = Costs { cost, latency, restart, downtime: restart / 2.0 };
            let parts = waste_parts(work, &costs, 1.0);
            prop_assert!((parts.total() - waste(work, &costs, 1.0)).abs() < 1e-9, "{:?}", parts);
            prop_assert!(parts.checkpoints > 0.0 && parts.lost > 0.0 && parts.restarts >= 0.0);
        }

        #[test]
        fn growing_costs_have_their_optimum(least in 1e-4..0.1f64, more in 0.0..1.0f64, time in 0.001..10.0f64) {
            let growth = Growth { least, more, time };
            let at = |work: f64| stretch(work, &sync(growth.cost(work)), 1.0);
            let best = growth.optimum(1.0);
            for other in [0.2, 0.5, 0.8, 0.95, 1.05, 1.25, 2.0, 5.0] {
                prop_assert!(at(best) <= at(best * other) * (1.0 + 1e-9), "{} at {}", best, best * other);
            }
        }
    }
}
