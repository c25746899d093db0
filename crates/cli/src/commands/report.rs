//! `piton report`: what failures and checkpoints cost a job, and why.

use crate::exit::Outcome;
use crate::output::Output;
use crate::{Common, jobs};
use anyhow::Context;
use piton_cli::observe::{Story, report};
use std::path::PathBuf;

/// Tell what happened to a job: where its time went, what failed and why, and what each failure cost
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  piton report\n  piton report tsunami --html report.html\n  \
                        piton report tsunami --json | jq '.faults[] | {class, rank, node, detect_seconds, lost_seconds}'\n  \
                        piton report tsunami --json | jq '.parts'\n\n\
                        The HTML file needs nothing else: mail it, or open it in any browser.\n\
                        Exit status: 0 done; 1 no attempt of the job has said anything; 2 could not be done")]
pub struct Report {
    /// The job, which may be left out where the store holds one
    job: Option<String>,
    /// Write it to this file, as a page for a browser; a file that is there is replaced
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    html: Option<PathBuf>,
}

impl Report {
    /// Prints it, or writes it.
    ///
    /// # Errors
    /// What is wrong with the configuration or the store; the file can't be written.
    pub fn run(&self, common: &Common, output: &mut Output) -> anyhow::Result<Outcome> {
        let (reader, _) = jobs::open(common, self.job.as_deref())?;
        let running = jobs::running_epoch(reader.job())?;
        let Some(story) = Story::of(&reader, running)? else {
            eprintln!("piton: no attempt of job {:?} has left a journal", reader.job().name());
            return Ok(Outcome::No);
        };
        match &self.html {
            Some(path) => {
                report::write(path, &report::html(&story))
                    .with_context(|| format!("cannot write {}", path.display()))?;
                output.line(format!("written to {}", path.display()))?;
            }
            None if output.is_json() => output.json(&story)?,
            None => report::text(&story).lines().try_for_each(|line| output.line(line))?,
        }
        Ok(Outcome::Done)
    }
}
