//! `piton metrics`: what is known of a job, for Prometheus.

use crate::exit::Outcome;
use crate::output::Output;
use crate::{Common, jobs};
use anyhow::{Context, bail};
use piton_cli::observe::{Now, Story, metrics, report};
use std::path::PathBuf;

/// Print a job's metrics for Prometheus, or write them where the node exporter finds them
///
/// `piton serve` and `piton run` answer Prometheus themselves at /metrics. Where no port may be opened, let cron or the batch script write a file for the
/// node exporter's textfile collector.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  piton metrics tsunami\n  piton metrics tsunami --openmetrics\n  \
                        piton metrics tsunami --textfile /var/lib/node_exporter/tsunami.prom\n\n\
                        Exit status: 0 done; 1 the job has made no attempt; 2 could not be done")]
pub struct Metrics {
    /// The job, which may be left out where the store holds one
    job: Option<String>,
    /// OpenMetrics 1.0 in place of Prometheus's text format
    #[arg(long, conflicts_with = "textfile")]
    openmetrics: bool,
    /// Write them to this file, whole or not at all; its name must end with .prom
    #[arg(long, value_name = "FILE")]
    textfile: Option<PathBuf>,
}

impl Metrics {
    /// Prints or writes them.
    ///
    /// # Errors
    /// What is wrong with the configuration or the store; the file can't be written.
    pub fn run(&self, common: &Common, output: &mut Output) -> anyhow::Result<Outcome> {
        if output.is_json() {
            bail!("metrics have formats of their own; `piton status --json` and `piton report --json` tell the same");
        }
        let (reader, settings) = jobs::open(common, self.job.as_deref())?;
        let running = jobs::running_epoch(reader.job())?;
        let Some(now) = Now::of(&reader, &settings, running, None)? else {
            eprintln!("piton: no attempt of job {:?} was ever made", reader.job().name());
            return Ok(Outcome::No);
        };
        let story = Story::of(&reader, running)?;
        let format = if self.openmetrics { metrics::Format::OpenMetrics } else { metrics::Format::Text };
        let text = metrics::text(Some(&now), story.as_ref(), format);
        match &self.textfile {
            Some(path) if path.extension().is_none_or(|extension| extension != "prom") => {
                bail!("{}: the node exporter reads only files whose names end with .prom", path.display());
            }
            Some(path) => report::write(path, &text).with_context(|| format!("cannot write {}", path.display()))?,
            // Labels are escaped; a control character in them would reach a terminal.
            None => text.lines().try_for_each(|line| output.line(line))?,
        }
        Ok(Outcome::Done)
    }
}
