//! `piton journal`: what happened, across attempts.

use crate::exit::Outcome;
use crate::output::{Output, Style, events};
use crate::{Common, jobs};
use anyhow::Context;
use piton::ids::Epoch;
use piton::journal::{self, Event, Record};
use std::io;

/// Show what happened, across all attempts or in one
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  piton journal\n  piton journal tsunami --epoch 2\n  piton journal tsunami --kind resumed\n  \
                  piton journal tsunami --json | jq -c 'select(.event.kind == \"committed\")'\n\n\
                  Exit status: 0 something was found; 1 nothing was found; 2 could not be done"
)]
pub struct Journal {
    /// The job, which may be left out where the store holds one
    job: Option<String>,
    /// Only this attempt
    #[arg(long, value_name = "N")]
    epoch: Option<u64>,
    /// Only events of this kind, as the journal names them: committed, resumed, …; may be given several times
    #[arg(long, value_name = "KIND")]
    kind: Vec<String>,
    /// Beats and measurements as well, which come all the time, and what other ranks say just as the first does
    #[arg(long)]
    all: bool,
}

impl Journal {
    /// Prints the lines; with `--json`, all of them, each as the journal has it.
    ///
    /// # Errors
    /// What is wrong with the configuration or the store.
    pub fn run(&self, common: &Common, output: &mut Output) -> anyhow::Result<Outcome> {
        let (reader, _) = jobs::open(common, self.job.as_deref())?;
        let job = reader.job();
        let mut epochs = reader.epochs()?;
        epochs.retain(|epoch| self.epoch.is_none_or(|wanted| Epoch(wanted) == *epoch));
        let mut found = false;
        for epoch in epochs {
            let folder = job.epoch_folder(epoch);
            let journal = match journal::read(&**job.medium(), &folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                result => result.with_context(|| format!("cannot read the journals in {}", folder.display()))?,
            };
            if !output.is_json() {
                output.text(&output.paint(&format!("{}, attempt {epoch}\n", job.name()), Style::Bold))?;
            }
            for record in journal.records {
                if !self.wants(&record, output.is_json()) {
                    continue;
                }
                found = true;
                if output.is_json() {
                    output.json_line(&record)?;
                    continue;
                }
                let (text, style) = events::sentence(&record.event);
                let rank = record.rank.map_or_else(String::new, |rank| format!("rank {rank}"));
                let when = output.paint(&format!("{}  {rank:<7}", record.at), Style::Dim);
                // One line each, whatever a journal's text holds.
                let text = output.paint(&text.replace('\n', " "), style);
                output.text(&format!("{when}  {text}\n"))?;
            }
            for (number, what) in [
                (journal.damaged_lines, "damaged lines"),
                (journal.newer_lines, "lines of a newer version of Piton"),
                (journal.left_out_bytes, "bytes at the beginning left out"),
            ] {
                if number > 0 {
                    eprintln!("piton: attempt {epoch}: {number} {what}");
                }
            }
        }
        if !found {
            eprintln!("piton: the journal of job {:?} has no such event", job.name());
            return Ok(Outcome::No);
        }
        Ok(Outcome::Done)
    }

    fn wants(&self, record: &Record, json: bool) -> bool {
        if !self.kind.is_empty() {
            return self.kind.contains(&record.event.kind());
        }
        let other_rank = record.rank.is_some_and(|rank| rank > 0);
        let repeated = match &record.event {
            Event::Beat { .. } | Event::Sampled { .. } => true,
            Event::AttemptStarted { .. }
            | Event::Configuration { .. }
            | Event::Plan { .. }
            | Event::StagingPlan { streamed_bytes: 0, .. }
            | Event::Resumed { .. }
            | Event::FreshStart { .. }
            | Event::AlreadyFinished { .. }
            | Event::CheckpointStarted { .. }
            | Event::Skipped { .. }
            | Event::Halted { .. }
            | Event::Finished { .. } => other_rank,
            _ => false,
        };
        self.all || json || !repeated
    }
}
