//! `piton pin`: keeps a checkpoint from retention.

use crate::exit::Outcome;
use crate::output::Output;
use crate::{Common, jobs};
use anyhow::bail;
use piton::store::{CheckpointState, Pin as Record};
use serde::Serialize;

/// Keep a checkpoint until the pin is removed, however many newer ones there are
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  piton pin tsunami 14 --note 'before the second wave'\n  piton pin 2/14\n  \
                  piton pin tsunami 14 --remove")]
pub struct Pin {
    /// The job, which may be left out where the store holds one, and the checkpoint: ID, EPOCH/ID or latest
    #[arg(value_names = ["JOB", "ID"], num_args = 1..=2, required = true)]
    words: Vec<String>,
    /// Why
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// Remove the pin
    #[arg(long, conflicts_with = "note")]
    remove: bool,
}

#[derive(Debug, Serialize)]
struct Pinned {
    job: String,
    epoch: u64,
    id: u64,
    pinned: bool,
    /// Whether this command changed it.
    changed: bool,
}

impl Pin {
    /// Sets or removes the pin.
    ///
    /// # Errors
    /// What is wrong with the configuration or the store.
    pub fn run(&self, common: &Common, output: &mut Output) -> anyhow::Result<Outcome> {
        let (job, word) = jobs::split_one(&self.words);
        let Some(word) = word else { bail!("name the checkpoint as well: ID, EPOCH/ID or latest") };
        let selection = jobs::selection(word)?;
        let (reader, _) = jobs::open(common, job)?;
        let catalogue = reader.catalogue()?;
        let name = reader.find_in(&catalogue, selection)?;
        let folder = reader.job();
        let before = folder.is_pinned(name)?;
        if self.remove {
            folder.unpin(name)?;
        } else {
            let partial = |entry: &piton::store::CheckpointEntry| {
                entry.name == name && matches!(entry.state, CheckpointState::Partial { .. })
            };
            if catalogue.entries.iter().any(partial) {
                bail!("checkpoint {name} is partial: there is nothing to keep");
            }
            folder.pin(&Record { checkpoint: name, note: self.note.clone() })?;
        }
        let pinned = !self.remove;
        if output.is_json() {
            output.json(&Pinned {
                job: folder.name().to_owned(),
                epoch: name.epoch.0,
                id: name.id.0,
                pinned,
                changed: before != pinned,
            })?;
        } else {
            let what = match (pinned, before) {
                (true, _) => "pinned",
                (false, true) => "no longer pinned",
                (false, false) => "was not pinned",
            };
            output.line(format!("{} {}/{}: {what}", folder.name(), name.epoch, name.id))?;
        }
        Ok(Outcome::Done)
    }
}
