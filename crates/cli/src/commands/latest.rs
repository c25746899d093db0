//! `piton latest` and `piton should-resume`: what scripts ask before they start a job themselves.

use crate::exit::Outcome;
use crate::output::Output;
use crate::{Common, jobs};
use piton::ids::Epoch;
use serde::Serialize;
use std::path::PathBuf;

/// Print the newest checkpoint that a resume would begin with
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  piton latest tsunami\n  piton latest tsunami --json | jq .step\n\n\
                        Exit status: 0 there is one; 1 there is none; 2 could not tell")]
pub struct Latest {
    /// The job, which may be left out where the store holds one
    job: Option<String>,
}

/// Say whether a job is to be started with --resume
///
/// For scripts that launch a job without `piton run`: yes where a checkpoint is committed and the application has not come to its end.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  piton should-resume tsunami --json | jq -r .why\n  \
                        if piton should-resume tsunami; then mpirun ./tsunami --resume; else mpirun ./tsunami; fi\n\n\
                        Exit status: 0 yes; 1 no, as nothing is committed or the job has finished; 2 could not tell")]
pub struct ShouldResume {
    /// The job
    job: String,
}

#[derive(Debug, Serialize)]
struct Newest {
    epoch: u64,
    id: u64,
    step: Option<u64>,
    path: PathBuf,
    /// The application has come to its end with it.
    finished: bool,
}

#[derive(Debug, Serialize)]
struct Answer {
    resume: bool,
    why: String,
    newest: Option<Newest>,
}

/// The newest checkpoint, where the job has one; a store or a job that is not there has none.
fn newest(common: &Common, job: Option<&str>) -> anyhow::Result<Option<Newest>> {
    let reader = match (job, jobs::open(common, job)) {
        (_, Ok((reader, _))) => reader,
        (Some(name), Err(error)) => {
            // Asked before the first start: that there is nothing yet is an answer.
            let (store, _) = jobs::store(common, Some(name))?;
            return if store.job(name)?.exists()? { Err(error) } else { Ok(None) };
        }
        (None, Err(error)) => return Err(error),
    };
    let (job, catalogue) = (reader.job(), reader.catalogue()?);
    let epochs: Vec<Epoch> = catalogue.epochs.iter().copied().collect();
    Ok(catalogue.candidates().next().map(|entry| Newest {
        epoch: entry.name.epoch.0,
        id: entry.name.id.0,
        step: entry.manifest().map(|manifest| manifest.step),
        path: job.checkpoint_folder(entry.name),
        finished: job.is_end(epochs, entry.name),
    }))
}

impl Latest {
    /// Prints it.
    ///
    /// # Errors
    /// What is wrong with the configuration or the store.
    pub fn run(&self, common: &Common, output: &mut Output) -> anyhow::Result<Outcome> {
        let newest = newest(common, self.job.as_deref())?;
        let outcome = if newest.is_some() { Outcome::Done } else { Outcome::No };
        if output.is_json() {
            output.json(&newest)?;
        } else if let Some(Newest { epoch, id, step, path, finished }) = newest {
            let step = step.map_or_else(|| "not sealed yet".to_owned(), |step| format!("step {step}"));
            let end = if finished { ", the job's end" } else { "" };
            output.line(format!("{epoch}/{id}  {step}{end}  {}", path.display()))?;
        }
        Ok(outcome)
    }
}

impl ShouldResume {
    /// Says so.
    ///
    /// # Errors
    /// What is wrong with the configuration or the store.
    pub fn run(&self, common: &Common, output: &mut Output) -> anyhow::Result<Outcome> {
        let newest = newest(common, Some(&self.job))?;
        let (resume, why) = match &newest {
            None => (false, "nothing is committed".to_owned()),
            Some(newest) if newest.finished => (false, "the job has finished".to_owned()),
            Some(Newest { epoch, id, .. }) => (true, format!("checkpoint {epoch}/{id} is there")),
        };
        if output.is_json() {
            output.json(&Answer { resume, why, newest })?;
        } else {
            output.line(format!("{}: {why}", if resume { "yes" } else { "no" }))?;
        }
        Ok(if resume { Outcome::Done } else { Outcome::No })
    }
}
