//! `piton status`: how a job is, on one screen.

use crate::exit::Outcome;
use crate::output::{Cell, Output, Style, Table, human};
use crate::{Common, jobs};
use piton::config::Settings;
use piton::reader::Reader;
use piton_cli::observe::{Now, RankNow, State};
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

fn look(reader: &Reader, settings: &Settings) -> anyhow::Result<Option<Now>> {
    let running = jobs::running_epoch(reader.job())?;
    Now::of(reader, settings, running, None)
}

fn print(shown: &Now, output: &mut Output) -> anyhow::Result<()> {
    let style = match shown.state {
        State::Running | State::Finished => Style::Good,
        State::Halted | State::Restarting => Style::Plain,
        _ => Style::Bad,
    };
    let title = output.paint(&format!("{}, attempt {}", shown.job, shown.epoch), Style::Bold);
    let state = output.paint(shown.state.words(), style);
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
    if shown.watched == Some(false) && shown.state == State::Running {
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

fn print_ranks(shown: &Now, output: &mut Output) -> anyhow::Result<()> {
    let mut table =
        Table::new(&["rank", "process", "state", "step", "for", "phase", "last beat", "step takes", "waits"]);
    let mut rows: Vec<&RankNow> = shown.ranks.iter().collect();
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
            Cell::new(row.presence.name()).styled(style),
            Cell::new(row.step.to_string()).right(),
            Cell::new(row.step_seconds.map_or_else(String::new, human::short)).right(),
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
