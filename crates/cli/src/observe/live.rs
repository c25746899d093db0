//! What a supervisor knows of ranks and nodes at this moment, for whoever shows it.
//!
//! Comes in: reports of agents, as the supervisor hears them. Goes out: a copy, whenever somebody asks. What must hold: neither side waits for the other
//! longer than a copy takes; only the newest launch's ranks are shown.

use crate::line::{Life, RankRecord};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// How a rank is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RankState {
    /// It has computed no step yet.
    Starting,
    /// It computes.
    Computing,
    /// Its process is stopped, or waits in the kernel for long.
    Stuck,
    /// Its process has ended.
    Ended,
    /// It has ended its session in order.
    Left,
}

impl RankState {
    /// As JSON has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Computing => "computing",
            Self::Stuck => "stuck",
            Self::Ended => "ended",
            Self::Left => "left",
        }
    }
}

/// How a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// It has ranks of the newest launch.
    Computing,
    /// It has none.
    Spare,
    /// Its agent says nothing, and it is there.
    Silent,
    /// Nothing is heard of it.
    Lost,
}

impl NodeState {
    /// As JSON has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Computing => "computing",
            Self::Spare => "spare",
            Self::Silent => "silent",
            Self::Lost => "lost",
        }
    }
}

/// A rank.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RankNow {
    /// Its number.
    pub rank: u32,
    /// Its node.
    pub node: Option<String>,
    /// Its process.
    pub pid: u32,
    /// How it is.
    pub presence: RankState,
    /// The step that it has reached.
    pub step: u64,
    /// Since its step changed; none: it can't be seen from here.
    pub step_seconds: Option<f64>,
    /// What it is doing, by its own words.
    pub phase: Option<String>,
    /// Since it last gave a sign of life.
    pub silent_seconds: f64,
    /// How long a step takes; none: it has computed none yet.
    pub mean_step_seconds: Option<f64>,
    /// How much of that it waits for others, 0 to 1, where it says so.
    pub waiting_share: Option<f64>,
    /// The last problem that it told of.
    pub error: Option<String>,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeNow {
    /// Its name.
    pub name: String,
    /// How it is.
    pub state: NodeState,
    /// Why, where it is not well.
    pub reason: Option<String>,
    /// Ranks that it has.
    pub ranks: usize,
    /// Since its agent was heard.
    pub heard_seconds: Option<f64>,
}

#[derive(Debug, Clone)]
struct Node {
    launch: u32,
    ranks: Vec<RankRecord>,
    heard: Instant,
    trouble: Option<(NodeState, String)>,
}

#[derive(Debug, Default)]
struct Told {
    job: Option<(String, PathBuf)>,
    launch: u32,
    nodes: BTreeMap<String, Option<Node>>,
}

/// Shared by the supervisor and those who show what it knows.
#[derive(Debug, Clone, Default)]
pub struct Live(Arc<Mutex<Told>>);

/// A copy of what is known.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Snapshot {
    /// The ranks of the newest launch.
    pub ranks: Vec<RankNow>,
    /// The nodes at hand.
    pub nodes: Vec<NodeNow>,
}

impl Live {
    fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It is this job, in this store.
    pub fn of_job(&self, job: &str, store: &str) {
        self.told().job.get_or_insert_with(|| (job.to_owned(), PathBuf::from(store)));
    }

    /// The job and its store, once the ranks have said so.
    #[must_use]
    pub fn job(&self) -> Option<(String, PathBuf)> {
        self.told().job.clone()
    }

    /// These nodes are at hand.
    pub fn nodes(&self, names: impl IntoIterator<Item = String>) {
        self.told().nodes.extend(names.into_iter().map(|name| (name, None)));
    }

    /// The ranks of an earlier launch are none of this one's.
    pub fn launched(&self, launch: u32) {
        self.told().launch = launch;
    }

    /// An agent has reported.
    pub fn reported(&self, node: &str, launch: u32, ranks: Vec<RankRecord>) {
        let seen = Node { launch, ranks, heard: Instant::now(), trouble: None };
        self.told().nodes.insert(node.to_owned(), Some(seen));
    }

    /// A node is silent or lost, and why one thinks so.
    pub fn trouble(&self, node: &str, state: NodeState, reason: String) {
        let mut told = self.told();
        let place = told.nodes.entry(node.to_owned()).or_default();
        let unheard = || Node { launch: 0, ranks: Vec::new(), heard: Instant::now(), trouble: None };
        place.get_or_insert_with(unheard).trouble = Some((state, reason));
    }

    /// A copy.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let told = self.told();
        let mut snapshot = Snapshot::default();
        for (name, node) in &told.nodes {
            let of_launch = node.as_ref().filter(|node| node.launch == told.launch);
            let ranks: &[RankRecord] = of_launch.map_or(&[], |node| &node.ranks);
            let trouble = node.as_ref().and_then(|node| node.trouble.clone());
            let well = if ranks.is_empty() { NodeState::Spare } else { NodeState::Computing };
            snapshot.nodes.push(NodeNow {
                name: name.clone(),
                state: trouble.as_ref().map_or(well, |(state, _)| *state),
                reason: trouble.map(|(_, reason)| reason),
                ranks: ranks.len(),
                heard_seconds: node.as_ref().map(|node| node.heard.elapsed().as_secs_f64()),
            });
            let since = node.as_ref().map_or(0.0, |node| node.heard.elapsed().as_secs_f64());
            snapshot.ranks.extend(ranks.iter().map(|record| shown(record, name, since)));
        }
        snapshot.ranks.sort_by_key(|rank| rank.rank);
        snapshot
    }
}

/// An agent reports so often that what it told is no older than this, seconds: that much says nothing of a rank.
const REPORTED: f64 = 2.0;

/// A rank as its node's agent told of it `since` seconds ago.
fn shown(record: &RankRecord, node: &str, since: f64) -> RankNow {
    let (step, computed) = (f64::from(record.step_seconds), f64::from(record.compute_seconds));
    let has_computed = record.steps > 0;
    RankNow {
        rank: record.rank,
        node: Some(node.to_owned()),
        pid: record.pid,
        presence: match record.life {
            Life::Alive if has_computed => RankState::Computing,
            Life::Alive => RankState::Starting,
            Life::Stuck => RankState::Stuck,
            Life::Ended => RankState::Ended,
            Life::Left => RankState::Left,
        },
        step: record.step,
        step_seconds: None,
        phase: None,
        silent_seconds: f64::from(record.age_ms) / 1000.0 + (since - REPORTED).max(0.0),
        mean_step_seconds: has_computed.then_some(step),
        waiting_share: (has_computed && step > 0.0 && computed < step).then(|| (1.0 - computed / step).clamp(0.0, 1.0)),
        error: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(rank: u32, life: Life, steps: u64) -> RankRecord {
        RankRecord {
            rank,
            pid: 100 + rank,
            life,
            age_ms: 250,
            step: 40 + steps,
            steps,
            phase: 0,
            step_seconds: 0.5,
            compute_seconds: 0.25,
        }
    }

    #[test]
    fn only_ranks_of_the_newest_launch_are_shown_and_nodes_with_what_is_wrong() {
        let live = Live::default();
        live.nodes(["n1", "n2", "n3"].map(str::to_owned));
        live.launched(1);
        live.reported("n1", 1, vec![record(1, Life::Alive, 3), record(0, Life::Left, 3)]);
        live.reported("n2", 1, vec![record(2, Life::Alive, 0)]);
        let seen = live.snapshot();
        let ranks: Vec<(u32, &str)> = seen.ranks.iter().map(|rank| (rank.rank, rank.presence.name())).collect();
        assert_eq!(ranks, [(0, "left"), (1, "computing"), (2, "starting")]);
        assert!(seen.ranks[1].silent_seconds >= 0.25 && seen.ranks[1].waiting_share == Some(0.5));
        live.trouble("n2", NodeState::Lost, "it does not answer".into());
        live.launched(2);
        live.reported("n3", 2, vec![record(0, Life::Alive, 1)]);
        let seen = live.snapshot();
        let nodes: Vec<(&str, &str, usize)> =
            seen.nodes.iter().map(|node| (node.name.as_str(), node.state.name(), node.ranks)).collect();
        assert_eq!(nodes, [("n1", "spare", 0), ("n2", "lost", 0), ("n3", "computing", 1)]);
        assert_eq!((seen.ranks.len(), seen.nodes[1].reason.as_deref()), (1, Some("it does not answer")));
        live.reported("n2", 2, vec![]);
        assert_eq!(live.snapshot().nodes[1].state, NodeState::Spare, "it is back");
    }
}
