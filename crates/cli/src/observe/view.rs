//! What a live view shows of a job, in few bytes however large the job is.
//!
//! Comes in: how the job is, and its story. Goes out: a [`View`]. What must hold: rows are bounded, and how many are left out is said; a rank takes a few bytes,
//! so that ten thousand are a matter of a tenth of a megabyte.

use super::{Alert, Fault, Mtbf, NodeStory, Now, Parts, RankNow, RankState, Story, Taken};
use piton::journal::WallTime;
use serde::{Deserialize, Serialize};

/// Rows of each kind, the newest ones.
const ROWS: usize = 50;

/// The ranks as columns, each with one entry a rank.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Heat {
    /// The numbers of the ranks; empty: 0, 1, 2 and so on.
    pub ranks: Vec<u32>,
    /// How each is, a letter: `s`tarting, `c`omputing, `S`tuck, `e`nded, `l`eft.
    pub presence: String,
    /// Steps behind the furthest rank.
    pub behind: Vec<u64>,
    /// Seconds since the last sign of life, in tenths.
    pub silent: Vec<f64>,
    /// The furthest rank's step.
    pub furthest: u64,
    /// The names of the nodes, and of each rank the place of its node among them.
    pub nodes: Vec<String>,
    /// As in `nodes`.
    pub node: Vec<u32>,
}

impl Heat {
    /// The number of the rank at this place.
    #[must_use]
    pub fn rank(&self, place: usize) -> Option<u32> {
        match self.ranks.as_slice() {
            [] => u32::try_from(place).ok(),
            ranks => ranks.get(place).copied(),
        }
    }

    /// The ranks, in their order.
    #[must_use]
    pub fn of(ranks: &[RankNow]) -> Self {
        let furthest = ranks.iter().map(|rank| rank.step).max().unwrap_or(0);
        let in_order = ranks.iter().enumerate().all(|(place, rank)| rank.rank as usize == place);
        let mut nodes: Vec<String> = ranks.iter().filter_map(|rank| rank.node.clone()).collect();
        nodes.sort();
        nodes.dedup();
        let place = |rank: &RankNow| nodes.binary_search(rank.node.as_ref()?).ok();
        let letter = |rank: &RankNow| match rank.presence {
            RankState::Starting => 's',
            RankState::Computing => 'c',
            RankState::Stuck => 'S',
            RankState::Ended => 'e',
            RankState::Left => 'l',
        };
        Self {
            ranks: if in_order { Vec::new() } else { ranks.iter().map(|rank| rank.rank).collect() },
            presence: ranks.iter().map(letter).collect(),
            behind: ranks.iter().map(|rank| furthest - rank.step).collect(),
            silent: ranks.iter().map(|rank| (rank.silent_seconds * 10.0).round() / 10.0).collect(),
            furthest,
            node: ranks.iter().map(|rank| u32::try_from(place(rank).unwrap_or(0)).unwrap_or(u32::MAX)).collect(),
            nodes,
        }
    }
}

/// An attempt in one row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttemptRow {
    /// Its number.
    pub epoch: u64,
    /// When it started.
    pub started: WallTime,
    /// How long it ran.
    pub seconds: f64,
    /// How it ended.
    pub ended: String,
    /// The step that it reached.
    pub last_step: u64,
    /// Checkpoints that it took.
    pub checkpoints: u64,
}

/// What a live view shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct View {
    /// How the job is, without its ranks.
    pub now: Now,
    /// Those.
    pub heat: Heat,
    /// Where the time went, node seconds.
    pub parts: Parts,
    /// How often it fails.
    pub mtbf: Option<Mtbf>,
    /// The newest attempts.
    pub attempts: Vec<AttemptRow>,
    /// The newest checkpoints.
    pub taken: Vec<Taken>,
    /// The newest failures.
    pub faults: Vec<Fault>,
    /// How many there were.
    pub failures: usize,
    /// Alerts that are over, the newest ones.
    pub alerts: Vec<Alert>,
    /// The nodes that something speaks against first.
    pub nodes: Vec<NodeStory>,
    /// How many there are.
    pub nodes_in_all: usize,
    /// What is not quite sure.
    pub doubts: Vec<String>,
}

fn newest<T: Clone>(all: &[T]) -> Vec<T> {
    all[all.len().saturating_sub(ROWS)..].to_vec()
}

impl View {
    /// Of how a job is, and what became of it.
    #[must_use]
    pub fn of(now: &Now, story: Option<&Story>) -> Self {
        let heat = Heat::of(&now.ranks);
        let now = Now { ranks: Vec::new(), ..now.clone() };
        let Some(story) = story else {
            return Self {
                now,
                heat,
                parts: Parts::default(),
                mtbf: None,
                attempts: Vec::new(),
                taken: Vec::new(),
                faults: Vec::new(),
                failures: 0,
                alerts: Vec::new(),
                nodes: Vec::new(),
                nodes_in_all: 0,
                doubts: Vec::new(),
            };
        };
        let last = story.attempts.len().saturating_sub(1);
        let runs = story.state == super::State::Running;
        let attempts: Vec<AttemptRow> = story
            .attempts
            .iter()
            .enumerate()
            .map(|(place, attempt)| AttemptRow {
                epoch: attempt.epoch,
                started: attempt.moments.started,
                seconds: attempt.moments.started.until(attempt.moments.known).as_secs_f64(),
                ended: super::ending_words(attempt.ending, runs && place == last).to_owned(),
                last_step: attempt.last_step,
                checkpoints: attempt.taken,
            })
            .collect();
        let recent =
            story.attempts.iter().rev().flat_map(|attempt| attempt.checkpoints.iter().rev().copied()).take(ROWS);
        let mut taken: Vec<Taken> = recent.collect();
        taken.reverse();
        let over: Vec<Alert> = story.alerts.iter().filter(|alert| alert.until.is_some()).cloned().collect();
        Self {
            now,
            heat,
            parts: story.parts,
            mtbf: Some(story.mtbf),
            attempts: newest(&attempts),
            taken,
            faults: newest(&story.faults),
            failures: story.faults.len(),
            alerts: newest(&over),
            nodes: story.nodes.iter().take(ROWS).cloned().collect(),
            nodes_in_all: story.nodes.len(),
            doubts: story.doubts.clone(),
        }
    }
}
