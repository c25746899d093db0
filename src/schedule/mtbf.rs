//! How often the job fails, as far as is known: a gamma distribution of its failure rate.
//!
//! Comes in: what is believed before (a setting, the site's experience, or the default), how many nodes there are, and what the
//! job itself has seen: failures, and time survived. Goes out: the mean time between failures to compute with, and how sure that is.
//! What must hold: times are in seconds, rates per second; the estimate is positive and finite whatever was seen, also with no
//! failure at all.
//!
//! Failures at a rate λ make a gamma distribution of λ its own conjugate: Gamma(a, b), b in seconds, becomes Gamma(a + n, b + T)
//! after n failures in T seconds (A. Gelman et al., *Bayesian Data Analysis*, 3rd edition, section 2.6). The interval
//! that makes the expected waste E\[C/P + λP/2\] least is √(2C/E\[λ\]), so that M = 1/E\[λ\] = (b + T)/(a + n) is what to compute with.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Gamma};

/// Until anything else is known: a node fails once in 300 days.
///
/// Published figures lie between 2.3 and 6.5 failures in 1000 node-days (Meta's RSC clusters), 4.2 in the InfiniteHBD trace: 150
/// to 430 node-days for each.
pub const NODE_MTBF_SECONDS: f64 = 300.0 * 86_400.0;

/// How much that counts, in failures: little, so that the job's own first failure says twice as much.
pub const DEFAULT_WEIGHT: f64 = 0.5;

/// How much a mean time that the user gives counts, in failures.
pub const GIVEN_WEIGHT: f64 = 1.0;

/// How much a site's own record counts at the most, in failures: other jobs on other nodes are not this one.
pub const SITE_WEIGHT_MOST: f64 = 5.0;

/// What is known of a job's failure rate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct FailureRate {
    shape: f64,
    exposure: f64,
    failures: f64,
    observed: f64,
}

impl FailureRate {
    /// A belief in the mean time `mtbf` (seconds, of the whole job) that counts as much as `weight` failures seen.
    ///
    /// ```
    /// use piton::schedule::FailureRate;
    /// let mut rate = FailureRate::prior(3600.0, 1.0);
    /// assert_eq!(rate.mtbf(), 3600.0);
    /// rate.observe(3.0, 10.0 * 3600.0);
    /// assert_eq!(rate.mtbf(), 11.0 * 3600.0 / 4.0);
    /// ```
    #[must_use]
    pub fn prior(mtbf: f64, weight: f64) -> Self {
        let mtbf = if mtbf.is_finite() { mtbf.clamp(1e-3, 1e15) } else { 1e15 };
        Self { shape: weight, exposure: weight * mtbf, failures: 0.0, observed: 0.0 }
    }

    /// Adds `failures` seen in `seconds` of the job's running.
    pub fn observe(&mut self, failures: f64, seconds: f64) {
        self.failures += failures.max(0.0);
        self.observed += seconds.max(0.0);
    }

    /// 1/E\[λ\], seconds: the mean time between failures to compute with.
    #[must_use]
    pub fn mtbf(&self) -> f64 {
        (self.exposure + self.observed) / (self.shape + self.failures)
    }

    /// How many failures the job has seen.
    #[must_use]
    pub fn failures(&self) -> f64 {
        self.failures
    }

    /// In how many seconds.
    #[must_use]
    pub fn observed(&self) -> f64 {
        self.observed
    }

    /// Between which bounds the mean time between failures lies with probability `level` (0.9, say), as much of the rest on
    /// either side; seconds.
    #[must_use]
    pub fn credible(&self, level: f64) -> (f64, f64) {
        let tail = (1.0 - level) / 2.0;
        let Ok(gamma) = Gamma::new(self.shape + self.failures, 1.0) else { return (self.mtbf(), self.mtbf()) };
        let seconds = self.exposure + self.observed;
        (seconds / gamma.inverse_cdf(1.0 - tail), seconds / gamma.inverse_cdf(tail).max(f64::MIN_POSITIVE))
    }
}

/// Between which bounds the mean time between failures lies with confidence `level` (0.95, say), by `failures` seen in `seconds` and nothing else; the
/// upper one is unknown where none was seen.
///
/// The exact interval of a test that ends at a given time: 2T/χ²(1 − α/2; 2n + 2) to 2T/χ²(α/2; 2n) (B. Epstein, M. Sobel, *Life testing*, Journal of
/// the American Statistical Association 48, 1953). χ² with 2k degrees of freedom is twice a gamma distribution of shape k.
///
/// ```
/// // Ten failures: the mean lies between 0.054 and 0.21 times the whole time.
/// let (low, high) = piton::schedule::mtbf_bounds(10, 1.0, 0.95);
/// assert!((low - 0.0544).abs() < 1e-3 && (high.unwrap_or_default() - 0.2085).abs() < 1e-3);
/// assert_eq!(piton::schedule::mtbf_bounds(0, 1.0, 0.95).1, None);
/// ```
#[must_use]
pub fn mtbf_bounds(failures: u32, seconds: f64, level: f64) -> (f64, Option<f64>) {
    let tail = (1.0 - level) / 2.0;
    let quantile = |shape: f64, share: f64| Gamma::new(shape, 1.0).ok().map(|gamma| gamma.inverse_cdf(share));
    let low = quantile(f64::from(failures) + 1.0, 1.0 - tail).map_or(0.0, |quantile| seconds / quantile);
    let high = quantile(f64::from(failures), tail).filter(|_| failures > 0);
    (low, high.map(|quantile| seconds / quantile.max(f64::MIN_POSITIVE)))
}

/// The shape of the Weibull distribution that is assumed of the time between failures.
///
/// Failures come in bunches: fits to real traces have shapes of 0.5 to 0.9 (LANL's systems 0.65 to 0.89, the InfiniteHBD trace 0.62), where 1
/// would be without memory. Assuming 0.8 wastes 0.4 % more (of the waste) where failures have no memory after all, and 0.7 to 4 %
/// less where their shape is 0.8 to 0.5; on the InfiniteHBD trace it is 1 to 2 % less. A smaller shape gains little more there and loses more elsewhere
/// (`docs/schedule.md` has the table). B. Schroeder, G. Gibson, *A large-scale study of failures in high-performance computing systems*,
/// DSN 2006.
pub const SHAPE: f64 = 0.8;

/// 1/h: the mean time between failures as it stands `age` seconds after one, where it is `mtbf` seconds on the whole and the hazard h
/// falls as that of a Weibull distribution of shape [`SHAPE`] does.
///
/// ```
/// use piton::schedule::mtbf_after;
/// // Soon after a failure the next is likelier than later on.
/// assert!(mtbf_after(3600.0, 36.0) < 0.6 * 3600.0 && mtbf_after(3600.0, 36_000.0) > 1.5 * 3600.0);
/// ```
#[must_use]
pub fn mtbf_after(mtbf: f64, age: f64) -> f64 {
    // Γ(1 + 1/0.8), so that the mean is `mtbf`; a test has it from the function.
    const GAMMA: f64 = 1.133_003_096_319_346;
    let scale = mtbf / GAMMA;
    scale / SHAPE * (age / scale).max(1e-9).powf(1.0 - SHAPE)
}

/// What is believed of a job before it has run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Belief {
    /// The user gave the mean time between failures of the whole job, seconds.
    Job(f64),
    /// Of one node, seconds; whether the user gave it.
    Node(f64, bool),
    /// The site's nodes have seen so many failures in so many node-seconds.
    Site(f64, f64),
}

impl Belief {
    /// The rate of a job on `nodes` nodes.
    #[must_use]
    pub fn rate(self, nodes: f64) -> FailureRate {
        match self {
            Self::Job(mtbf) => FailureRate::prior(mtbf, GIVEN_WEIGHT),
            Self::Node(mtbf, given) => {
                FailureRate::prior(mtbf / nodes, if given { GIVEN_WEIGHT } else { DEFAULT_WEIGHT })
            }
            Self::Site(failures, node_seconds) => {
                // What the site saw, on top of the default; then no more weight than other nodes deserve.
                let mut site = FailureRate::prior(NODE_MTBF_SECONDS, DEFAULT_WEIGHT);
                site.observe(failures, node_seconds);
                FailureRate::prior(site.mtbf() / nodes, (DEFAULT_WEIGHT + failures).min(SITE_WEIGHT_MOST))
            }
        }
    }
}

/// Why a site's record can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SiteError {
    /// A line is not `nodes, days, failures`.
    #[error("line {line}: {text:?} is not `nodes, days, failures`, as in `400, 348, 584`")]
    Line {
        /// Counted from 1.
        line: usize,
        /// The line, shortened.
        text: String,
    },
    /// There is no line in it.
    #[error("it holds no line of `nodes, days, failures`")]
    Empty,
}

/// The failures and the node-seconds of a site's record: lines of `nodes, days, failures`, `#` begins a comment.
///
/// ```
/// let (failures, node_seconds) = piton::schedule::read_site("# nodes, days, failures\n400, 348, 584\n")?;
/// assert_eq!((failures, node_seconds), (584.0, 400.0 * 348.0 * 86_400.0));
/// # Ok::<(), piton::schedule::SiteError>(())
/// ```
///
/// # Errors
/// [`SiteError`].
pub fn read_site(text: &str) -> Result<(f64, f64), SiteError> {
    let (mut failures, mut node_seconds) = (0.0, 0.0);
    for (index, line) in text.lines().enumerate() {
        let value = line.split('#').next().unwrap_or_default().trim();
        if value.is_empty() {
            continue;
        }
        let numbers: Vec<f64> = value.split(',').filter_map(|number| number.trim().parse().ok()).collect();
        match (&numbers[..], value.split(',').count()) {
            (&[nodes, days, seen], 3)
                if (0.0..=1e9).contains(&nodes) && (0.0..=1e6).contains(&days) && (0.0..=1e9).contains(&seen) =>
            {
                failures += seen;
                node_seconds += nodes * days * 86_400.0;
            }
            _ => return Err(SiteError::Line { line: index + 1, text: value.chars().take(40).collect() }),
        }
    }
    if node_seconds > 0.0 { Ok((failures, node_seconds)) } else { Err(SiteError::Empty) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn credible_intervals_are_those_of_the_tables() {
        // With as good as no prior: [2T/χ²(0.975; 2n), 2T/χ²(0.025; 2n)], n = 5: χ²₁₀ = 20.483, 3.247.
        let mut rate = FailureRate::prior(1.0, 1e-9);
        rate.observe(5.0, 100.0);
        let (low, high) = rate.credible(0.95);
        assert!((low - 200.0 / 20.483).abs() < 1e-3 && (high - 200.0 / 3.247).abs() < 1e-2, "{low} {high}");
    }

    #[test]
    fn a_site_counts_as_far_as_it_goes() {
        let day = 86_400.0;
        let none = Belief::Site(0.0, 0.0).rate(10.0);
        assert!((none.mtbf() - 30.0 * day).abs() < 1.0);
        let many = Belief::Site(584.0, 400.0 * 348.0 * day).rate(400.0);
        assert!((many.mtbf() / 3600.0 - 14.3).abs() < 0.1, "{}", many.mtbf() / 3600.0);
        assert!((Belief::Node(NODE_MTBF_SECONDS, false).rate(300.0).mtbf() - day).abs() < 1e-6);
        assert_eq!(Belief::Job(5.0).rate(300.0).mtbf(), 5.0);
    }

    #[test]
    fn a_sites_record_is_read_or_refused_by_line() {
        assert_eq!(read_site("10,1,2\n\n 5 , 2 , 1 # the other cluster\n"), Ok((3.0, 20.0 * 86_400.0)));
        for (text, line) in [("1,2", 1), ("#\n1,2,3,4", 2), ("1,2,-3", 1), ("a,2,3", 1), ("1,2,inf", 1), ("1,,2", 1)] {
            assert!(matches!(read_site(text), Err(SiteError::Line { line: at, .. }) if at == line), "{text}");
        }
        assert_eq!(read_site("# nothing"), Err(SiteError::Empty));
    }

    #[test]
    fn the_hazard_has_the_mean_that_it_is_given() {
        // The mean is the integral of the survival, exp(−∫h).
        let (mut survival, mut mean, step) = (1.0_f64, 0.0, 1e-3);
        for place in 0..20_000_000_u32 {
            let age = (f64::from(place) + 0.5) * step;
            survival *= (-step / mtbf_after(100.0, age)).exp();
            mean += survival * step;
            if survival < 1e-9 {
                break;
            }
        }
        assert!((mean - 100.0).abs() < 0.1, "{mean}");
        assert!((statrs::function::gamma::gamma(1.0 + 1.0 / SHAPE) - 1.133_003_096_319_346).abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn whatever_is_seen_it_is_a_number(mtbf in 1e-3..1e12f64, n in 0.0..1e4f64, seconds in 0.0..1e10f64) {
            let mut rate = FailureRate::prior(mtbf, DEFAULT_WEIGHT);
            rate.observe(n, seconds);
            let (low, high) = rate.credible(0.9);
            prop_assert!(rate.mtbf() > 0.0 && rate.mtbf().is_finite());
            prop_assert!(low > 0.0 && low < high && low <= rate.mtbf() * 1.5, "{} {} {}", low, rate.mtbf(), high);
        }
    }
}
