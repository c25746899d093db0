//! What the agent tells the supervisor, and what it is told.
//!
//! Comes in: each round's findings, and the ranks on the board; orders. Goes out: reports, and stacks where they are asked for. What must hold: the
//! supervisor delays nothing here; what it orders is done once.

use super::stacks;
use crate::jobs;
use anyhow::Context;
use piton::store::{JobFolder, ProcessIdentity};
use piton::watch::board::{Board, Presence, RankSeen, now_ns};
use piton::watch::{Guard, Round, process};
use piton_cli::line::{Join, Life, RankRecord, Report, Secret, Sender, SenderOptions, ToAgent};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// A report is made as often as this, and whenever something is found.
const EVERY: Duration = Duration::from_secs(1);

/// Reports to a supervisor.
pub struct Reporter {
    sender: Sender,
    orders: Receiver<ToAgent>,
    job: JobFolder,
    sequence: u64,
    last: Option<Instant>,
}

impl Reporter {
    /// Connects, and again whenever the line breaks. `secret`: a file; the environment has it where there is none.
    ///
    /// # Errors
    /// Where there is no secret, or the system gives no thread.
    pub fn start(address: &str, secret: Option<&Path>, board: &Board, job: &JobFolder) -> anyhow::Result<Self> {
        let secret = match secret {
            Some(path) => Secret::read(path)?,
            None => Secret::from_environment()?.with_context(|| {
                format!(
                    "no secret to report to {address} with: name its file by --secret, or give it in {}",
                    Secret::VARIABLE
                )
            })?,
        };
        let own = ProcessIdentity::current();
        let join = Join {
            node: board.host(),
            boot_id: own.boot_id.unwrap_or_default(),
            pid: own.pid,
            port: 0,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let (order, orders) = channel();
        let on_order = move |told| {
            // Whoever ends meanwhile does nothing more.
            let _ = order.send(told);
        };
        let sender = Sender::start(address.to_owned(), secret, join, SenderOptions::default(), on_order)
            .with_context(|| format!("cannot report to {address}"))?;
        Ok(Self { sender, orders, job: job.clone(), sequence: 0, last: None })
    }

    /// Tells how things are, where it is time or something was found; and does what was ordered.
    pub fn report(&mut self, guard: &Guard, round: &Round) {
        while let Ok(order) = self.orders.try_recv() {
            self.obey(&order, guard.agent().board());
        }
        let new = !round.seen.is_empty() || !round.turn.is_empty();
        if !new && self.last.is_some_and(|last| last.elapsed() < EVERY) {
            return;
        }
        self.last = Some(Instant::now());
        self.sequence += 1;
        let board = guard.agent().board();
        let samples = round.samples.iter().flatten().map(|sample| (sample.series.to_string(), sample.value));
        self.sender.report(Report {
            sequence: self.sequence,
            mono_ns: now_ns(),
            late: guard.agent().late() as f32,
            ranks: board.ranks().iter().map(record).collect(),
            changes: round.seen.iter().map(|seen| seen.change.clone()).collect(),
            samples: samples.collect(),
        });
    }

    fn obey(&self, order: &ToAgent, board: &Board) {
        match order {
            ToAgent::Checkpoint { reason } => {
                // A store that can't be written now gets no checkpoint either.
                let _ = self.job.request(&super::checkpoint(format!("the supervisor, {}: {reason}", jobs::who())));
            }
            ToAgent::DumpStacks { rank } => {
                for seen in board.ranks().iter().filter(|seen| rank.is_none_or(|rank| rank == seen.rank)) {
                    let text = stacks(seen.pid).map_or_else(|why| why, |(_, lines)| lines.join("\n"));
                    self.sender.stacks(seen.rank, text);
                }
            }
            // Pings are answered by the line; whoever ends an attempt started it.
            _ => {}
        }
    }

    /// Says goodbye.
    pub fn close(self, within: Duration) {
        self.sender.close(within);
    }
}

fn record(seen: &RankSeen) -> RankRecord {
    let age_ms = now_ns().saturating_sub(seen.beat_at) / 1_000_000;
    let mean = |seconds: f64| (seconds / seen.steps.count.max(1) as f64) as f32;
    RankRecord {
        rank: seen.rank,
        pid: seen.pid,
        life: match seen.presence {
            Presence::Left => Life::Ended,
            _ if process::lives(seen.pid, seen.start_ticks) => Life::Alive,
            _ => Life::Ended,
        },
        age_ms: u32::try_from(age_ms).unwrap_or(u32::MAX),
        step: seen.step,
        phase: seen.phase.map_or(0, |phase| u16::try_from(phase + 1).unwrap_or(u16::MAX)),
        step_seconds: mean(seen.steps.total),
        compute_seconds: mean((seen.steps.total - seen.waiting).max(0.0)),
    }
}
