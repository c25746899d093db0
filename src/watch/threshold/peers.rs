//! One node against the others, at one moment.
//!
//! Comes in: the same series of several nodes, as each shows it now. Goes out: how far each is from the rest. What must hold: fewer
//! than half of the nodes may be wrong and are found all the same; no history is needed, so that what was wrong from the beginning is
//! found; a few nodes say nothing.

use super::adaptive::Direction;
use super::statistics::median_and_spread;

/// How nodes are compared.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Comparison {
    /// From how many standard deviations on a node is not like the others.
    pub k: f64,
    /// Which way is wrong.
    pub direction: Direction,
    /// A standard deviation less than this, in the series's unit, counts as this. One less than 2 % of the median counts as that.
    pub least_spread: f64,
}

impl Comparison {
    /// With this k, 2 % of the median for the spread at the least make a node 12 % off suspicious: what is slow by less than
    /// 10 % is not worth a word (the figure of published straggler detectors).
    pub const K_DEFAULT: f64 = 6.0;
    /// For how many seconds a node must be unlike the others.
    pub const HOLD_DEFAULT: f64 = 300.0;
    /// Fewer nodes have no median to speak of: with 5, two may be wrong.
    pub const NODES_LEAST: usize = 5;
    const SPREAD_SHARE: f64 = 0.02;

    /// The score of each of `values` that is a finite number, a robust z (B. Iglewicz, D. C. Hoaglin, *How to detect and handle
    /// outliers*, 1993): its distance from the median in units of 1.4826 times the median distance. With the value beyond which
    /// it is too far. `None` where there are too few, or all but a few are exactly alike and the rule has no `least_spread`.
    ///
    /// ```
    /// use piton::watch::threshold::{Comparison, Direction};
    /// let alike = Comparison { k: 6.0, direction: Direction::Above, least_spread: 0.0 };
    /// let scores = alike.scores(&[60.0, 61.0, 59.5, 85.0, 60.5, 60.0]).unwrap();
    /// let hot = scores.iter().filter(|of| of.score > 6.0).count();
    /// assert_eq!(hot, 1);
    /// ```
    #[must_use]
    pub fn scores(&self, values: &[f64]) -> Option<Vec<Compared>> {
        let finite = values.iter().copied().filter(|value| value.is_finite());
        if finite.clone().count() < Self::NODES_LEAST {
            return None;
        }
        let (median, spread) = median_and_spread(finite)?;
        let spread = spread.max(Self::SPREAD_SHARE * median.abs()).max(self.least_spread);
        if spread <= 0.0 {
            return None;
        }
        let compared = |value: &f64| {
            let off = (value - median) / spread;
            let (score, limit) = match self.direction {
                Direction::Above => (off, median + self.k * spread),
                Direction::Below => (-off, median - self.k * spread),
                Direction::Both => (off.abs(), median + self.k * spread.copysign(off)),
            };
            Compared { value: *value, median, limit, score: if score.is_finite() { score } else { 0.0 } }
        };
        Some(values.iter().map(compared).collect())
    }
}

/// One node among the others.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Compared {
    /// What it shows.
    pub value: f64,
    /// The median of all.
    pub median: f64,
    /// Beyond which value it is not like the others.
    pub limit: f64,
    /// How far it is from the median, in standard deviations.
    pub score: f64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BOTH: Comparison = Comparison { k: 6.0, direction: Direction::Both, least_spread: 0.0 };

    #[test]
    fn few_nodes_or_all_alike_say_nothing() {
        assert_eq!(BOTH.scores(&[1.0, 1.0, 1.0, 9.0]), None);
        assert_eq!(BOTH.scores(&[1.0, 1.0, 1.0, 9.0, f64::NAN]), None);
        assert_eq!(BOTH.scores(&[0.0, 0.0, 0.0, 0.0, 3.0]), None);
        // Nodes that are exactly alike: 2 % of the median are the spread.
        let scores = BOTH.scores(&[100.0, 100.0, 100.0, 100.0, 113.0]).unwrap();
        assert!((scores[4].score - 6.5).abs() < 1e-9 && scores[0].score == 0.0);
        assert_eq!((scores[4].median, scores[4].limit), (100.0, 112.0));
        let least = Comparison { least_spread: 1.0, ..BOTH };
        assert_eq!(least.scores(&[0.0, 0.0, 0.0, 0.0, 3.0]).unwrap()[4].score, 3.0);
        let below = Comparison { direction: Direction::Below, ..BOTH };
        assert!(below.scores(&[100.0, 100.0, 100.0, 100.0, 113.0]).unwrap()[4].score < 0.0);
    }

    proptest! {
        #[test]
        fn whoever_is_far_from_most_is_found(
            good in proptest::collection::vec(90.0..110.0f64, 6..40), bad in proptest::collection::vec(500.0..1e9f64, 0..5),
        ) {
            let all: Vec<f64> = good.iter().chain(&bad).copied().collect();
            let scores = BOTH.scores(&all).unwrap();
            // While the spread is that of the good ones.
            if bad.len() * 4 < good.len() {
                prop_assert!(scores[good.len()..].iter().all(|of| of.score > BOTH.k));
            }
            prop_assert!(scores.iter().all(|of| of.score.is_finite()));
        }
    }
}
