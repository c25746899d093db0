//! `piton schedule`: when the next checkpoint is due, and why.

use crate::exit::Outcome;
use crate::output::{Cell, Output, Style, Table, human};
use crate::{Common, jobs};
use piton::journal::WallTime;
use piton::schedule::{Account, Ending, sentence};
use piton_cli::observe::{brought_forward, ending_words};
use serde::Serialize;

/// Attempts that are listed, the newest ones.
const MOST_ATTEMPTS: usize = 12;

/// Show when the next checkpoint is due and what that follows from, and what failures and checkpoints have cost so far
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  piton schedule\n  piton schedule tsunami\n  \
                        piton schedule tsunami --json | jq '.schedule.mtbf_seconds, .account.lost'\n\n\
                        Exit status: 0 done; 1 no attempt of the job has said anything; 2 could not be done")]
pub struct Schedule {
    /// The job, which may be left out where the store holds one
    job: Option<String>,
}

#[derive(Debug, Serialize)]
struct Shown {
    job: String,
    /// Of the newest attempt.
    epoch: u64,
    running: bool,
    /// Seconds until the next checkpoint by time is due; none where none is, or the job does not run.
    next_seconds: Option<f64>,
    /// What the newest attempt said last, and when.
    schedule: Option<piton::schedule::Schedule>,
    said_at: Option<WallTime>,
    attempts: Vec<Row>,
    account: Account,
    waste: f64,
}

#[derive(Debug, Serialize)]
struct Row {
    epoch: u64,
    started: WallTime,
    seconds: f64,
    ending: Ending,
    checkpoints: usize,
    restart_seconds: Option<f64>,
}

impl Schedule {
    /// Prints it.
    ///
    /// # Errors
    /// What is wrong with the configuration or the store.
    pub fn run(&self, common: &Common, output: &mut Output) -> anyhow::Result<Outcome> {
        let (reader, _) = jobs::open(common, self.job.as_deref())?;
        let history = reader.job().history();
        let Some(newest) = history.attempts().last() else {
            eprintln!("piton: no attempt of job {:?} has left a journal", reader.job().name());
            return Ok(Outcome::No);
        };
        let running = jobs::running(reader.job())?.is_some_and(|(epoch, _)| epoch == newest.epoch());
        let said = newest.schedule();
        let next = said.filter(|_| running).and_then(|(at, schedule)| {
            brought_forward(schedule, at, newest.last_checkpoint(), WallTime::now()).next_seconds
        });
        let attempts = history.attempts().iter().enumerate().map(|(place, attempt)| Row {
            epoch: attempt.epoch().0,
            started: attempt.started(),
            seconds: attempt.seconds(),
            ending: history.ending(place),
            checkpoints: attempt.checkpoints(),
            restart_seconds: attempt.restart_seconds(),
        });
        let account = history.account();
        let shown = Shown {
            job: reader.job().name().to_owned(),
            epoch: newest.epoch().0,
            running,
            next_seconds: next,
            schedule: said.map(|(_, schedule)| schedule.clone()),
            said_at: said.map(|(at, _)| at),
            attempts: attempts.collect(),
            account,
            waste: account.waste(),
        };
        if output.is_json() {
            output.json(&shown)?;
        } else {
            print(&shown, output)?;
        }
        Ok(Outcome::Done)
    }
}

fn print(shown: &Shown, output: &mut Output) -> anyhow::Result<()> {
    let state = if shown.running { "running" } else { "not running" };
    let title = output.paint(&format!("{}, attempt {}", shown.job, shown.epoch), Style::Bold);
    output.text(&format!("{title} ({state})\n"))?;
    match &shown.schedule {
        Some(schedule) => {
            let mut schedule = schedule.clone();
            // What was said is older than what is shown.
            if shown.next_seconds.is_some() {
                schedule.next_seconds = shown.next_seconds;
            }
            let line = sentence(&schedule);
            let line = match shown.running {
                true => line,
                false => format!("at {}: {line}", shown.said_at.map_or_else(String::new, |at| at.to_string())),
            };
            output.line(line)?;
        }
        None => output.line("it has not said when checkpoints are due (only versions from 0.2 on do)")?,
    }
    output.text("\n")?;
    let mut table = Table::new(&["attempt", "started", "ran", "checkpoints", "came back in", "ended"]);
    let hidden = shown.attempts.len().saturating_sub(MOST_ATTEMPTS);
    for row in &shown.attempts[hidden..] {
        let style = match row.ending {
            Ending::Open if shown.running => Style::Good,
            Ending::Open => Style::Warning,
            Ending::Finished => Style::Good,
            Ending::Failed => Style::Bad,
            Ending::Halted | Ending::AllocationEnded | Ending::Requeued | Ending::NoFailure => Style::Plain,
        };
        table.row([
            Cell::new(row.epoch.to_string()).right(),
            Cell::new(row.started.to_string()),
            Cell::new(human::short(row.seconds)).right(),
            Cell::new(row.checkpoints.to_string()).right(),
            Cell::new(row.restart_seconds.map_or_else(String::new, human::short)).right(),
            Cell::new(ending_words(row.ending, shown.running)).styled(style),
        ]);
    }
    output.table(&table)?;
    if hidden > 0 {
        output.line(format!("and {hidden} earlier ones; --json lists all"))?;
    }
    let account = &shown.account;
    let parts = [
        ("blocked", account.blocked),
        ("slowed", account.slowed.max(0.0)),
        ("lost to failures", account.lost),
        ("detecting", account.detecting),
        ("restarting", account.restarts),
        ("down", account.down),
        ("waiting", account.waiting),
    ];
    let share = |seconds: f64| format!("{:.2} %", 100.0 * seconds / account.time.max(1e-9));
    let parts: Vec<String> = parts.iter().map(|(what, seconds)| format!("{what} {}", share(*seconds))).collect();
    output.line(format!(
        "wasted so far: {} of {}: {}",
        share(shown.waste * account.time),
        human::short(account.time),
        parts.join(", ")
    ))?;
    Ok(())
}
