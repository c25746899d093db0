//! Ranks that are slower than the others, or fall behind them.
//!
//! Comes in: of each rank, how many steps it made, how long they took, and how long of that it waited for others. Goes out: who is slow, by
//! how much. What must hold: it is the time apart from waiting that is compared: in a coupled job all steps take equally long;
//! a tenth more than the median, several windows in a row, and far outside of how the others scatter; few ranks accuse nobody.
//!
//! The tenth is that of the field (Greyhound, ATC 2025; NVRx scores below 0.75); scatter is the median absolute deviation times
//! 1.4826, at least 2 % of the median.

use crate::watch::threshold::median_and_spread;
use std::collections::BTreeMap;

/// How far one rank has come.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// Which.
    pub rank: u32,
    /// Steps that were timed, since it began.
    pub steps: u64,
    /// What they took, seconds.
    pub seconds: f64,
    /// How long of that it waited for others, seconds.
    pub waiting: f64,
    /// Its step.
    pub step: u64,
}

/// Somebody is slow.
#[derive(Debug, Clone, PartialEq)]
pub struct Slow {
    /// Who.
    pub rank: u32,
    /// Seconds for a step apart from waiting.
    pub seconds: f64,
    /// What the median rank takes.
    pub median: f64,
}

/// What a window shows.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Window {
    /// Ranks that take longer for a step than the others.
    pub slow: Vec<Slow>,
    /// Ranks whose steps are far behind the median's, with by how many: ranks of a coupled job can't be.
    pub behind: Vec<(u32, u64)>,
}

/// Windows of at least so many seconds,
const WINDOW: f64 = 10.0;
/// and so many steps of every rank.
const LEAST_STEPS: u64 = 5;
/// So many in a row make a straggler.
const WINDOWS: u32 = 3;
/// Fewer ranks have no median to speak of.
const LEAST_RANKS: usize = 3;
/// So much more than the median is slow,
const SHARE: f64 = 1.10;
/// where it is so many deviations off, too.
const DEVIATIONS: f64 = 4.0;
/// A rank is behind where the median made as many steps as that in two windows,
const BEHIND_WINDOWS: u64 = 2;
/// but no fewer than so many.
const LEAST_BEHIND: u64 = 10;
/// The least deviation, as a share of the median.
const LEAST_SPREAD: f64 = 0.02;

/// Compares ranks, window by window.
#[derive(Debug, Clone, Default)]
pub struct Stragglers {
    began: Option<f64>,
    at: BTreeMap<u32, Pace>,
    /// How many windows in a row a rank was slow.
    slow: BTreeMap<u32, u32>,
}

impl Stragglers {
    /// Looks at all ranks. At the end of a window comes back what it shows, all there is.
    pub fn look(&mut self, now: f64, ranks: &[Pace]) -> Option<Window> {
        let began = *self.began.get_or_insert(now);
        if self.at.is_empty() {
            self.at = ranks.iter().map(|pace| (pace.rank, *pace)).collect();
            return None;
        }
        let since = |pace: &Pace| {
            let from = self.at.get(&pace.rank)?;
            let steps = pace.steps.checked_sub(from.steps).filter(|steps| *steps >= LEAST_STEPS)?;
            let seconds = (pace.seconds - from.seconds) - (pace.waiting - from.waiting);
            Some((pace.rank, seconds.max(0.0) / steps as f64))
        };
        if now - began < WINDOW {
            return None;
        }
        let times: Option<Vec<(u32, f64)>> = ranks.iter().map(since).collect();
        // A rank that has made too few steps makes the window longer.
        let times = times.filter(|times| times.len() >= LEAST_RANKS)?;
        let behind = self.behind(ranks);
        self.began = Some(now);
        self.at = ranks.iter().map(|pace| (pace.rank, *pace)).collect();
        let (middle, spread) = median_and_spread(times.iter().map(|(_, time)| *time))?;
        let limit = (SHARE * middle).max(middle + DEVIATIONS * spread.max(LEAST_SPREAD * middle));
        let mut window = Window { behind, ..Window::default() };
        for (rank, seconds) in times {
            if middle <= 0.0 || seconds <= limit {
                self.slow.remove(&rank);
                continue;
            }
            let windows = self.slow.entry(rank).or_default();
            *windows += 1;
            if *windows >= WINDOWS {
                window.slow.push(Slow { rank, seconds, median: middle });
            }
        }
        Some(window)
    }

    fn behind(&self, ranks: &[Pace]) -> Vec<(u32, u64)> {
        let steps = |of: &[u64]| {
            let mut steps = of.to_vec();
            steps.sort_unstable();
            steps.get(steps.len() / 2).copied().unwrap_or(0)
        };
        let made: Vec<u64> =
            ranks.iter().filter_map(|pace| Some(pace.step.saturating_sub(self.at.get(&pace.rank)?.step))).collect();
        let far = (BEHIND_WINDOWS * steps(&made)).max(LEAST_BEHIND);
        let middle = steps(&ranks.iter().map(|pace| pace.step).collect::<Vec<_>>());
        let by = |pace: &Pace| Some((pace.rank, middle.checked_sub(pace.step).filter(|by| *by > far)?));
        ranks.iter().filter_map(by).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Eight coupled ranks: each step takes as long as the slowest one's work; `slow` says how much more rank 5 works. The windows that found
    /// somebody.
    fn play(slow: impl Fn(u32) -> f64, names_waiting: bool, windows: u32) -> Vec<(u32, Vec<u32>)> {
        let mut random = fastrand::Rng::with_seed(3);
        let mut ranks: Vec<Pace> =
            (0..8).map(|rank| Pace { rank, steps: 0, seconds: 0.0, waiting: 0.0, step: 0 }).collect();
        let mut stragglers = Stragglers::default();
        let mut found = Vec::new();
        for window in 0..windows {
            for _ in 0..100 {
                let work: Vec<f64> = (0..8)
                    .map(|rank| 0.1 * (1.0 + 0.02 * (random.f64() - 0.5)) * if rank == 5 { slow(window) } else { 1.0 })
                    .collect();
                let step = work.iter().copied().fold(0.0, f64::max);
                for (pace, work) in ranks.iter_mut().zip(work) {
                    pace.steps += 1;
                    pace.seconds += step;
                    pace.waiting += if names_waiting { step - work } else { 0.0 };
                }
            }
            let seen = stragglers.look(f64::from(window + 1) * 10.0, &ranks).unwrap_or_default();
            assert_eq!(seen.behind, []);
            if !seen.slow.is_empty() {
                found.push((window, seen.slow.iter().map(|slow| slow.rank).collect()));
            }
        }
        found
    }

    #[test]
    fn a_rank_that_works_longer_is_found_after_three_windows() {
        let found = play(|window| if window >= 10 { 1.15 } else { 1.0 }, true, 30);
        assert_eq!(found.first(), Some(&(12, vec![5])));
        assert_eq!(found.len(), 18);
    }

    #[test]
    fn little_or_short_slowness_is_let_be() {
        assert_eq!(play(|_| 1.05, true, 50), []);
        assert_eq!(play(|window| if window % 3 == 0 { 1.0 } else { 1.5 }, true, 50), []);
        // Where waiting has no name, all steps of a coupled job take equally long.
        assert_eq!(play(|_| 1.5, false, 50), []);
    }

    #[test]
    fn a_rank_that_falls_behind_is_found() {
        let mut stragglers = Stragglers::default();
        let mut behind = Vec::new();
        for window in 0..8u64 {
            let pace = |rank| {
                let step = window * if rank == 1 { 50 } else { 100 };
                Pace { rank, steps: step, seconds: window as f64 * 10.0, waiting: 0.0, step }
            };
            behind.extend(stragglers.look(window as f64 * 10.0, &[0, 1, 2, 3].map(pace)).map(|window| window.behind));
        }
        // 50 steps more in each window, of which the others make 100.
        assert_eq!(behind.iter().map(Vec::len).collect::<Vec<_>>(), [0, 0, 0, 0, 1, 1, 1]);
        assert_eq!(behind[6], [(1, 350)]);
    }

    #[test]
    fn two_ranks_have_no_median() {
        let pace = |rank, seconds| Pace { rank, steps: 1000, seconds, waiting: 0.0, step: 1000 };
        let mut stragglers = Stragglers::default();
        for window in 0..10 {
            let at = f64::from(window);
            let ranks = [0, 1].map(|rank| Pace {
                steps: 100 * u64::try_from(window).expect("small"),
                ..pace(rank, at * if rank == 0 { 10.0 } else { 20.0 })
            });
            assert_eq!(stragglers.look(at * 10.0, &ranks), None);
        }
    }
}
