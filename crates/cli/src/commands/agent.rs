//! `piton agent`: watches the ranks of a job on this node from outside of them.

use crate::exit::Outcome;
use crate::output::{Output, Style};
use crate::{Common, agent, jobs};
use anyhow::bail;
use piton::journal::{JournalWriter, WallTime};
use piton::watch::board::{Board, folder, store_path};
use piton::watch::detect::HangRules;
use piton::watch::{Agent as Watcher, Change, Observation, Severity};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How often it looks for a board while there is none.
const LOOK: Duration = Duration::from_millis(100);

/// Watch the ranks of a job on this node: who died, hangs, is stopped or slow
///
/// A rank of each node does so by itself; this goes before it, sees what befalls all ranks, and shows the stacks of those that hang (by
/// eu-stack or gdb, where one of them is installed). What it finds goes to the job's journal, too.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  piton agent tsunami\n  piton agent tsunami --until-over --json\n  \
                        srun --overlap --ntasks-per-node=1 piton agent tsunami --until-over &\n\n\
                        Exit status: 0 the ranks have ended, and nothing was found; 1 something was found; 2 could not be done")]
pub struct Agent {
    /// The job, which may be left out where the store holds one
    job: Option<String>,
    /// End when the ranks of an attempt have ended, in place of waiting for the next attempt
    #[arg(long)]
    until_over: bool,
}

impl Agent {
    /// Watches; with `--json`, what it sees comes a line each, as the journal has it.
    ///
    /// # Errors
    /// What is wrong with the configuration or the store.
    pub fn run(&self, common: &Common, output: &mut Output) -> anyhow::Result<Outcome> {
        let (store, settings) = jobs::store(common, self.job.as_deref())?;
        let job = match &self.job {
            Some(job) => store.job(job)?,
            None => jobs::open(common, None)?.0.job().clone(),
        };
        let Some(folder) = folder(&settings.board) else {
            bail!("the setting `board` is `off`: ranks are not to be seen");
        };
        let mut outcome = Outcome::Done;
        let mut over: Option<PathBuf> = None;
        loop {
            let board = newest(&folder, job.name(), store.root(), over.as_deref());
            let epoch = board.epoch();
            let mut watcher = Watcher::new(board, HangRules::default());
            let path = watcher.board().path().map(Path::to_path_buf);
            let writer = format!("agent-{}", watcher.board().host());
            let journal = JournalWriter::of_writer(Arc::clone(job.medium()), &job.epoch_folder(epoch), epoch, &writer);
            if !output.is_json() {
                let (slots, host) = (watcher.board().slots(), watcher.board().host());
                output.line(format!("watching {slots} ranks of {}, attempt {epoch}, on {host}", job.name()))?;
                output.flush()?;
            }
            loop {
                for seen in watcher.look() {
                    let seen = agent::with_stacks(seen, watcher.board());
                    if matches!(seen.change, Change::Raised(_)) {
                        outcome = Outcome::No;
                    }
                    print(&seen, output)?;
                    journal.write(seen.into());
                }
                if watcher.is_over() {
                    break;
                }
                let _ = watcher.wait(settings.watch_period, None);
            }
            // Whatever could not be written stays unsaid.
            let _ = journal.sync();
            if self.until_over {
                return Ok(outcome);
            }
            over = path;
        }
    }
}

/// The board of the newest attempt that has ranks on this node; waits for one that is not `over`.
fn newest(folder: &Path, job: &str, store: &Path, over: Option<&Path>) -> Board {
    loop {
        // The store may come into being only now.
        let found = Board::find(folder, Some((job, &store_path(store))));
        if let Some((_, board)) = found.into_iter().rev().find(|(path, _)| Some(path.as_path()) != over) {
            return board;
        }
        std::thread::sleep(LOOK);
    }
}

fn print(seen: &Observation, output: &mut Output) -> anyhow::Result<()> {
    if output.is_json() {
        output.json_line(&piton::journal::Event::from(seen.clone()))?;
    } else {
        let (text, style) = match &seen.change {
            Change::Raised(finding) => {
                let style = if finding.severity == Severity::Critical { Style::Bad } else { Style::Warning };
                (format!("{}: {}", finding.rule, finding.summary), style)
            }
            Change::Cleared { rule, labels } => {
                let rank = labels.get("rank").map_or_else(String::new, |rank| format!(" (rank {rank})"));
                (format!("{rule}{rank} is over"), Style::Good)
            }
        };
        let when = output.paint(&WallTime::now().to_string(), Style::Dim);
        let text = output.paint(&text, style);
        output.text(&format!("{when}  {text}\n"))?;
        for line in &seen.evidence {
            output.line(format!("    {line}"))?;
        }
    }
    output.flush()?;
    Ok(())
}
