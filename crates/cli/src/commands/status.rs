//! `piton status`: how a job is, on one screen.

use crate::exit::Outcome;
use crate::output::{Cell, Output, Style, Table, human};
use crate::{Common, jobs};
use piton::config::Settings;
use piton::journal::{self, Event, WallTime};
use piton::reader::Reader;
use piton::schedule::sentence;
use piton::watch::board::{Board, Presence, folder, now_ns, store_path};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Duration;

/// Ranks that are listed; of more, those that are behind.
const MOST_RANKS: usize = 32;

/// Show how a job is: its attempt, ranks, checkpoints, and what is wrong
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  piton status\n  piton status tsunami --watch\n  piton status tsunami --watch 10\n  \
                        piton status tsunami --json | jq '.ranks[] | select(.silent_seconds > 5)'\n\n\
                        Ranks are seen where they run: on other nodes, only what the journal tells of them is shown.\n\
                        Exit status: 0 all is well; 1 something critical is wrong, or the job has no attempt; 2 could not be done"
)]
pub struct Status {
    /// The job, which may be left out where the store holds one
    job: Option<String>,
    /// Show it again and again, every so many seconds
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2", value_parser = clap::value_parser!(u64).range(1..=3600))]
    watch: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Shown {
    job: String,
    at: WallTime,
    epoch: u64,
    state: &'static str,
    host: Option<String>,
    world: Option<u32>,
    started: Option<WallTime>,
    step: Option<u64>,
    /// The ranks of this node.
    ranks: Vec<RankRow>,
    watched: Option<bool>,
    checkpoint: Option<CheckpointRow>,
    checkpoints: usize,
    schedule: Option<String>,
    alerts: Vec<AlertRow>,
}

#[derive(Debug, Serialize)]
struct RankRow {
    rank: u32,
    pid: u32,
    presence: &'static str,
    step: u64,
    /// Since its step changed.
    step_seconds: f64,
    phase: Option<String>,
    /// Since it last gave a sign of life.
    silent_seconds: f64,
    mean_step_seconds: Option<f64>,
    waiting_share: Option<f64>,
    error: Option<String>,
}

#[derive(Debug, Serialize)]
struct CheckpointRow {
    epoch: u64,
    id: u64,
    step: u64,
    age_seconds: f64,
}

#[derive(Debug, Clone, Serialize)]
struct AlertRow {
    since: WallTime,
    rule: String,
    severity: String,
    summary: String,
    labels: BTreeMap<String, String>,
}

impl Status {
    /// Prints it, once or again and again.
    ///
    /// # Errors
    /// What is wrong with the configuration or the store.
    pub fn run(&self, common: &Common, output: &mut Output) -> anyhow::Result<Outcome> {
        loop {
            let (reader, settings) = jobs::open(common, self.job.as_deref())?;
            let Some(shown) = look(&reader, &settings)? else {
                eprintln!("piton: no attempt of job {:?} was ever made", reader.job().name());
                return Ok(Outcome::No);
            };
            let clears = self.watch.is_some() && std::io::stdout().is_terminal() && !output.is_json();
            if clears {
                output.text("\u{1b}[2J\u{1b}[H")?;
            }
            match (output.is_json(), self.watch) {
                (true, None) => output.json(&shown)?,
                (true, Some(_)) => output.json_line(&shown)?,
                (false, _) => print(&shown, output)?,
            }
            let Some(pause) = self.watch else {
                let critical = shown.alerts.iter().any(|alert| alert.severity == "critical");
                return Ok(if critical { Outcome::No } else { Outcome::Done });
            };
            output.flush()?;
            std::thread::sleep(Duration::from_secs(pause));
        }
    }
}

fn look(reader: &Reader, settings: &Settings) -> anyhow::Result<Option<Shown>> {
    let job = reader.job();
    // The newest that the application has made: programs take numbers, too.
    let Some(attempt) = reader.epochs()?.into_iter().rev().find_map(|epoch| job.attempt(epoch)) else {
        return Ok(None);
    };
    let epoch = attempt.epoch();
    let records =
        journal::read(&**job.medium(), &job.epoch_folder(epoch)).map(|journal| journal.records).unwrap_or_default();
    let running = jobs::running(job)?.is_some_and(|(running, _)| running == epoch);
    let ended = records.iter().rev().find_map(|record| match &record.event {
        Event::AttemptEnded { how, .. } if record.rank == Some(0) => Some(*how),
        _ => None,
    });
    let state = match ended {
        Some(journal::End::Finished) => "finished",
        Some(journal::End::Halted) => "halted",
        Some(journal::End::Dropped | journal::End::Panicked) => "failed",
        None if running => "running",
        None => "gone without a word",
    };
    let (mut host, mut world) = (None, None);
    let mut step = None;
    let mut alerts: BTreeMap<String, AlertRow> = BTreeMap::new();
    for record in &records {
        match &record.event {
            Event::AttemptStarted { host: on, world: ranks, .. } if record.rank == Some(0) => {
                (host, world) = (Some(on.clone()), Some(*ranks));
            }
            Event::Beat { step: at } | Event::AttemptEnded { step: at, .. } => step = step.max(Some(*at)),
            Event::Resumed { step: at, .. } | Event::CheckpointStarted { step: at, .. } => step = step.max(Some(*at)),
            Event::AlertFiring { fingerprint, rule, severity, labels, summary, .. } => {
                let row = AlertRow {
                    since: record.at,
                    rule: rule.clone(),
                    severity: severity.clone(),
                    summary: summary.clone(),
                    labels: labels.clone(),
                };
                alerts.insert(fingerprint.clone(), row);
            }
            Event::AlertResolved { fingerprint, .. } => {
                alerts.remove(fingerprint);
            }
            _ => {}
        }
    }
    // What was wrong with an attempt that came to a good end is history.
    if matches!(state, "finished" | "halted") {
        alerts.clear();
    }
    let boards = folder(&settings.board)
        .map(|folder| Board::find(&folder, Some((job.name(), &store_path(&settings.dir)))))
        .unwrap_or_default();
    let board = boards.into_iter().map(|(_, board)| board).find(|board| board.epoch() == epoch);
    let ranks: Vec<RankRow> = board.as_ref().map(rank_rows).unwrap_or_default();
    let step = ranks.iter().map(|rank| rank.step).min().max(step);
    let catalogue = reader.catalogue()?;
    // One that is complete and not yet committed may still come to nothing.
    let newest = catalogue.candidates().find_map(|entry| {
        let manifest = entry.manifest()?;
        Some(CheckpointRow {
            epoch: entry.name.epoch.0,
            id: entry.name.id.0,
            step: manifest.step,
            age_seconds: jobs::age(manifest.created_unix_ms).as_secs_f64(),
        })
    });
    let watched = board.as_ref().map(|board| {
        board.watcher().is_some_and(|(_, at)| {
            now_ns().saturating_sub(at) < 3 * u64::try_from(settings.watch_period.as_nanos()).unwrap_or(u64::MAX)
        })
    });
    Ok(Some(Shown {
        job: job.name().to_owned(),
        at: WallTime::now(),
        epoch: epoch.0,
        state,
        host,
        world,
        started: Some(attempt.started()),
        step,
        ranks,
        watched,
        checkpoint: newest,
        checkpoints: catalogue.candidates().count(),
        schedule: attempt.schedule().filter(|_| running).map(|(_, schedule)| sentence(schedule)),
        alerts: alerts.into_values().collect(),
    }))
}

fn rank_rows(board: &Board) -> Vec<RankRow> {
    let now = now_ns();
    let since = |moment: u64| now.saturating_sub(moment) as f64 * 1e-9;
    let rows = (0..board.slots()).filter_map(|slot| {
        let rank = board.rank(slot)?;
        let steps = rank.steps;
        Some(RankRow {
            rank: rank.rank,
            pid: rank.pid,
            presence: match rank.presence {
                Presence::Absent | Presence::Arrived => "starting",
                Presence::Computing => "computing",
                Presence::Left => "left",
            },
            step: rank.step,
            step_seconds: since(rank.stepped_at),
            phase: rank.phase.and_then(|phase| board.phase(slot, phase)).map(|phase| phase.name),
            silent_seconds: since(rank.beat_at),
            mean_step_seconds: (steps.count > 0).then(|| steps.total / steps.count as f64),
            waiting_share: (steps.total > 0.0 && rank.waiting > 0.0).then(|| (rank.waiting / steps.total).min(1.0)),
            error: board.error(slot),
        })
    });
    rows.collect()
}

fn print(shown: &Shown, output: &mut Output) -> anyhow::Result<()> {
    let style = match shown.state {
        "running" | "finished" => Style::Good,
        "halted" => Style::Plain,
        _ => Style::Bad,
    };
    let title = output.paint(&format!("{}, attempt {}", shown.job, shown.epoch), Style::Bold);
    let state = output.paint(shown.state, style);
    let ranks = shown.world.map_or_else(String::new, |world| format!(", {}", human::count(world as usize, "rank")));
    let step = shown.step.map_or_else(String::new, |step| format!(", step {step}"));
    let since = shown.started.map_or_else(String::new, |at| format!(", for {}", human::span(at.until(shown.at))));
    output.text(&format!("{title}  {state}{ranks}{step}{since}\n"))?;
    match &shown.checkpoint {
        Some(checkpoint) => output.line(format!(
            "newest checkpoint: {}/{} at step {}, {} ago ({} kept)",
            checkpoint.epoch,
            checkpoint.id,
            checkpoint.step,
            human::span(Duration::try_from_secs_f64(checkpoint.age_seconds).unwrap_or_default()),
            shown.checkpoints
        ))?,
        None => output.line("no checkpoint yet")?,
    }
    if let Some(schedule) = &shown.schedule {
        output.line(schedule)?;
    }
    if shown.watched == Some(false) && shown.state == "running" {
        output.text(&format!("{}\n", output.paint("nobody watches the ranks of this node", Style::Warning)))?;
    }
    output.text("\n")?;
    if !shown.ranks.is_empty() {
        print_ranks(shown, output)?;
    }
    if shown.alerts.is_empty() {
        output.text(&format!("{}\n", output.paint("nothing is known to be wrong", Style::Good)))?;
    }
    for alert in &shown.alerts {
        let style = if alert.severity == "critical" { Style::Bad } else { Style::Warning };
        let text =
            output.paint(&format!("{} {}: {}", alert.severity, alert.rule, alert.summary.replace('\n', " ")), style);
        output.text(&format!("{text}  ({} ago)\n", human::span(alert.since.until(shown.at))))?;
    }
    Ok(())
}

fn print_ranks(shown: &Shown, output: &mut Output) -> anyhow::Result<()> {
    let mut table =
        Table::new(&["rank", "process", "state", "step", "for", "phase", "last beat", "step takes", "waits"]);
    let mut rows: Vec<&RankRow> = shown.ranks.iter().collect();
    if rows.len() > MOST_RANKS {
        rows.sort_by(|a, b| a.step.cmp(&b.step).then(b.silent_seconds.total_cmp(&a.silent_seconds)));
        rows.truncate(MOST_RANKS);
    }
    for row in rows {
        let blamed = shown.alerts.iter().any(|alert| alert.labels.get("rank") == Some(&row.rank.to_string()));
        let style = if blamed { Style::Bad } else { Style::Plain };
        table.row([
            Cell::new(row.rank.to_string()).right(),
            Cell::new(row.pid.to_string()).right(),
            Cell::new(row.presence).styled(style),
            Cell::new(row.step.to_string()).right(),
            Cell::new(human::short(row.step_seconds)).right(),
            Cell::new(row.phase.as_deref().unwrap_or_default()),
            Cell::new(human::short(row.silent_seconds)).right(),
            Cell::new(row.mean_step_seconds.map_or_else(String::new, human::short)).right(),
            Cell::new(row.waiting_share.map_or_else(String::new, |share| format!("{:.0} %", 100.0 * share))).right(),
        ]);
    }
    output.table(&table)?;
    let hidden = shown.ranks.len().saturating_sub(MOST_RANKS);
    if hidden > 0 {
        output.line(format!("and {hidden} more, further ahead; --json lists all"))?;
    }
    let elsewhere = shown.world.map_or(0, |world| (world as usize).saturating_sub(shown.ranks.len()));
    if elsewhere > 0 {
        output.line(format!("{} on other nodes", human::count(elsewhere, "rank")))?;
    }
    Ok(())
}
