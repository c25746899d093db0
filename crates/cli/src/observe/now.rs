//! How a job is at this moment.
//!
//! Comes in: the journal of its newest attempt, its checkpoints, the board of this node; where a supervisor runs, what the agents of all nodes told it. Goes
//! out: a [`Now`]. What must hold: what can't be seen from here is missing, never made up; numbers of ranks are bounded by the boards'.

use super::chain::{Kept, chain};
use super::live::{Live, NodeNow, RankNow, RankState};
use super::story::State;
use piton::config::Settings;
use piton::ids::Epoch;
use piton::journal::{self, Event, Schedule, WallTime};
use piton::reader::Reader;
use piton::schedule::sentence;
use piton::store::unix_milliseconds;
use piton::watch::board::{Board, Presence, folder, now_ns, store_path};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How a job is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Now {
    /// The job.
    pub job: String,
    /// When this was so.
    pub at: WallTime,
    /// The newest attempt.
    pub epoch: u64,
    /// How that is.
    pub state: State,
    /// The node of its first rank.
    pub host: Option<String>,
    /// How many ranks it has.
    pub world: Option<u32>,
    /// When it started.
    pub started: Option<WallTime>,
    /// The step that all ranks have reached, as far as is known.
    pub step: Option<u64>,
    /// The ranks that are seen from here.
    pub ranks: Vec<RankNow>,
    /// The nodes, where a supervisor knows them.
    pub nodes: Vec<NodeNow>,
    /// Whether somebody watches the ranks of this node.
    pub watched: Option<bool>,
    /// The newest checkpoint.
    pub checkpoint: Option<CheckpointNow>,
    /// How many are kept that one can go on from.
    pub checkpoints: usize,
    /// The checkpoints in the store, newest first.
    pub chain: Vec<Kept>,
    /// When the next one is due, and why then.
    pub schedule: Option<String>,
    /// What is wrong.
    pub alerts: Vec<AlertNow>,
}

/// A checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckpointNow {
    /// The attempt that took it.
    pub epoch: u64,
    /// Its number.
    pub id: u64,
    /// The application's step.
    pub step: u64,
    /// How old it is.
    pub age_seconds: f64,
}

/// An alert that fires.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AlertNow {
    /// Since when.
    pub since: WallTime,
    /// The rule.
    pub rule: String,
    /// `info`, `warning` or `critical`.
    pub severity: String,
    /// In words.
    pub summary: String,
    /// What it is about.
    pub labels: BTreeMap<String, String>,
}

/// What the newest attempt's records say.
#[derive(Debug, Default)]
struct Said {
    host: Option<String>,
    world: Option<u32>,
    step: Option<u64>,
    ended: Option<journal::End>,
    alerts: BTreeMap<String, AlertNow>,
}

impl Said {
    fn note(&mut self, record: &journal::Record) {
        match &record.event {
            Event::AttemptStarted { host, world, .. } if record.rank == Some(0) => {
                (self.host, self.world) = (Some(host.clone()), Some(*world));
            }
            Event::Beat { step } | Event::Resumed { step, .. } | Event::CheckpointStarted { step, .. } => {
                self.step = self.step.max(Some(*step));
            }
            Event::AttemptEnded { how, step } => {
                self.step = self.step.max(Some(*step));
                if record.rank == Some(0) {
                    self.ended = Some(*how);
                }
            }
            Event::AlertFiring { fingerprint, rule, severity, labels, summary, .. } => {
                let alert = AlertNow {
                    since: record.at,
                    rule: rule.clone(),
                    severity: severity.clone(),
                    summary: summary.clone(),
                    labels: labels.clone(),
                };
                self.alerts.insert(fingerprint.clone(), alert);
            }
            Event::AlertResolved { fingerprint, .. } => {
                self.alerts.remove(fingerprint);
            }
            _ => {}
        }
    }
}

impl Now {
    /// How a job is; `running`: the attempt that runs, where one does; `live`: what a supervisor of this process knows. `None` where the application
    /// never made an attempt.
    ///
    /// # Errors
    /// Those of the store.
    pub fn of(
        reader: &Reader,
        settings: &Settings,
        running: Option<Epoch>,
        live: Option<&Live>,
    ) -> anyhow::Result<Option<Self>> {
        let job = reader.job();
        // The newest that the application has made: programs take numbers, too.
        let Some(attempt) = reader.epochs()?.into_iter().rev().find_map(|epoch| job.attempt(epoch)) else {
            return Ok(None);
        };
        let epoch = attempt.epoch();
        let records = journal::read(&**job.medium(), &job.epoch_folder(epoch)).map(|journal| journal.records);
        let mut said = Said::default();
        records.unwrap_or_default().iter().for_each(|record| said.note(record));
        let runs = running == Some(epoch);
        let state = match said.ended {
            Some(journal::End::Finished) => State::Finished,
            Some(journal::End::Halted) => State::Halted,
            Some(journal::End::Dropped | journal::End::Panicked) => State::Failed,
            None if runs => State::Running,
            None => State::Gone,
        };
        // Whoever has it in hand launches it again, or says at the end that it does not.
        let in_hand = live.is_some() && matches!(state, State::Failed | State::Gone);
        let state = if in_hand { State::Restarting } else { state };
        // What was wrong with an attempt that came to a good end is history.
        if matches!(state, State::Finished | State::Halted) {
            said.alerts.clear();
        }
        let boards = folder(&settings.board)
            .map(|folder| Board::find(&folder, Some((job.name(), &store_path(&settings.dir)))))
            .unwrap_or_default();
        let board = boards.into_iter().map(|(_, board)| board).find(|board| board.epoch() == epoch);
        let told = live.map(Live::snapshot).filter(|told| !told.ranks.is_empty()).unwrap_or_default();
        // The board is nearer than what an agent told of it.
        let mut ranks: BTreeMap<u32, RankNow> = told.ranks.into_iter().map(|rank| (rank.rank, rank)).collect();
        ranks.extend(board.iter().flat_map(on_board).map(|rank| (rank.rank, rank)));
        let ranks: Vec<RankNow> = ranks.into_values().collect();
        let step = ranks.iter().map(|rank| rank.step).min().max(said.step);
        let catalogue = reader.catalogue()?;
        // One that is complete and not yet committed may still come to nothing.
        let newest = catalogue.candidates().find_map(|entry| {
            let manifest = entry.manifest()?;
            Some(CheckpointNow {
                epoch: entry.name.epoch.0,
                id: entry.name.id.0,
                step: manifest.step,
                age_seconds: unix_milliseconds().saturating_sub(manifest.created_unix_ms) as f64 / 1000.0,
            })
        });
        let at = WallTime::now();
        let period = u64::try_from(settings.watch_period.as_nanos()).unwrap_or(u64::MAX);
        let is_watched = |board: &Board| {
            board.watcher().is_some_and(|(_, at)| now_ns().saturating_sub(at) < period.saturating_mul(3))
        };
        Ok(Some(Self {
            job: job.name().to_owned(),
            at,
            epoch: epoch.0,
            state,
            host: said.host,
            world: said.world,
            started: Some(attempt.started()),
            step,
            ranks,
            nodes: told.nodes,
            watched: board.as_ref().map(is_watched),
            checkpoint: newest,
            checkpoints: catalogue.candidates().count(),
            chain: chain(reader, &catalogue),
            schedule: attempt
                .schedule()
                .filter(|_| runs)
                .map(|(said, schedule)| sentence(&brought_forward(schedule, said, attempt.last_checkpoint(), at))),
            alerts: said.alerts.into_values().collect(),
        }))
    }
}

/// A schedule as it is `now`. It was said at `said`, and is said again only where it changes; the last checkpoint was taken at `taken`.
#[must_use]
pub fn brought_forward(schedule: &Schedule, said: WallTime, taken: Option<WallTime>, now: WallTime) -> Schedule {
    let seconds = |from: WallTime| from.until(now).as_secs_f64();
    let next = match taken.filter(|taken| *taken > said) {
        Some(taken) => schedule.interval_seconds.map(|interval| interval - seconds(taken)),
        None => schedule.next_seconds.map(|next| next - seconds(said)),
    };
    Schedule {
        next_seconds: next.map(|next| next.max(0.0)),
        observed_seconds: schedule.observed_seconds + seconds(said),
        ..schedule.clone()
    }
}

/// The ranks on a board.
fn on_board(board: &Board) -> Vec<RankNow> {
    let (now, node) = (now_ns(), board.host());
    let since = |moment: u64| now.saturating_sub(moment) as f64 * 1e-9;
    let rows = (0..board.slots()).filter_map(|slot| {
        let rank = board.rank(slot)?;
        let steps = rank.steps;
        Some(RankNow {
            rank: rank.rank,
            node: Some(node.clone()),
            pid: rank.pid,
            presence: match rank.presence {
                Presence::Absent | Presence::Arrived => RankState::Starting,
                Presence::Computing => RankState::Computing,
                Presence::Left => RankState::Left,
            },
            step: rank.step,
            step_seconds: Some(since(rank.stepped_at)),
            phase: rank.phase.and_then(|phase| board.phase(slot, phase)).map(|phase| phase.name),
            silent_seconds: since(rank.beat_at),
            mean_step_seconds: (steps.count > 0).then(|| steps.total / steps.count as f64),
            waiting_share: (steps.total > 0.0 && rank.waiting > 0.0).then(|| (rank.waiting / steps.total).min(1.0)),
            error: board.error(slot),
        })
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use piton::schedule::{Belief, Guess, Rules, Scheduler};

    #[test]
    fn the_next_checkpoint_comes_nearer_after_it_was_said_when_it_is_due() {
        let mut scheduler = Scheduler::new(Rules::default(), Belief::Job(6.2 * 3600.0), 1.0, Guess::default());
        scheduler.started(0.0);
        scheduler.taken(0.0);
        scheduler.cost(1.6, 0.5);
        scheduler.committed(4.0);
        let at = |second: i64| WallTime::from_unix_ms(1_800_000_000_000 + 1000 * second);
        let schedule = scheduler.explain(10.0);
        let interval = schedule.interval_seconds.unwrap();
        assert_eq!(schedule.next_seconds, Some(interval - 10.0));
        let next = |taken: Option<i64>, now: i64| {
            let schedule = brought_forward(&schedule, at(10), taken.map(at), at(now));
            (schedule.next_seconds.unwrap(), schedule.observed_seconds)
        };
        assert_eq!(next(None, 70), (interval - 10.0 - 60.0, 70.0));
        assert_eq!(next(Some(0), 70), next(None, 70));
        assert_eq!(next(Some(400), 450), (interval - 50.0, 450.0));
        assert_eq!(next(None, 100_000), (0.0, 100_000.0), "due");
        // None by time stays none.
        let none = Schedule { next_seconds: None, interval_seconds: None, ..schedule.clone() };
        assert_eq!(brought_forward(&none, at(10), Some(at(20)), at(70)).next_seconds, None);
    }
}
