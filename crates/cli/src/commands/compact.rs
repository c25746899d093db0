//! `piton compact`: makes the newest checkpoint complete in itself.

use crate::exit::Outcome;
use crate::output::{Output, human, progress};
use crate::{Common, jobs};
use anyhow::bail;
use piton::ids::CheckpointName;
use piton::journal::{Event, JournalWriter};
use piton::reader::Selection;
use piton::store::{Claim, Finished};
use serde::Serialize;
use std::sync::Arc;

/// Write the newest checkpoint once more, complete in itself
///
/// A checkpoint that builds on others needs them all. This reads it, verifies every byte, and writes it as the first of an attempt
/// of its own, which the next resume takes. Nothing is removed: `piton prune` does that. Refused while the job runs.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  piton compact\n  piton compact tsunami && piton prune tsunami --keep 1 --yes")]
pub struct Compact {
    /// The job, which may be left out where the store holds one
    job: Option<String>,
}

#[derive(Debug, Serialize)]
struct Compacted {
    job: String,
    /// As it was.
    from: Named,
    /// The checkpoint that is complete: the same where it was so already.
    to: Named,
    stored_bytes: u64,
    /// Whether anything had to be written.
    changed: bool,
}

#[derive(Debug, Serialize)]
struct Named {
    epoch: u64,
    id: u64,
}

impl From<CheckpointName> for Named {
    fn from(name: CheckpointName) -> Self {
        Self { epoch: name.epoch.0, id: name.id.0 }
    }
}

impl Compact {
    /// Writes it.
    ///
    /// # Errors
    /// What is wrong with the configuration or the store, or speaks against it.
    pub fn run(&self, common: &Common, output: &mut Output) -> anyhow::Result<Outcome> {
        let (reader, _) = jobs::open(common, self.job.as_deref())?;
        let folder = reader.job();
        let catalogue = reader.catalogue()?;
        let name = reader.find_in(&catalogue, Selection::Latest)?;
        if let Some((epoch, evidence)) = jobs::running_among(folder, &catalogue.epochs)?.pop_last() {
            bail!("attempt {epoch} seems to run ({evidence}): it would be taken over from");
        }
        let checkpoint = reader.checkpoint(name)?;
        let manifest = checkpoint.manifest();
        let (to, stored_bytes) = if manifest.parents.is_empty() && checkpoint.is_committed() {
            (name, manifest.stored_bytes)
        } else {
            let claim = folder.claim(|epoch| Claim::of_program(epoch, folder.name(), manifest.world))?;
            let to = CheckpointName { epoch: claim.epoch, id: catalogue.next_id() };
            let bar = progress::of_bytes(manifest.raw_bytes);
            let written = folder.compact(manifest, to, reader.pool(), &|bytes| bar.inc(bytes));
            bar.finish_and_clear();
            let written = match written {
                Ok(written) => written,
                Err(error) => {
                    // What is there of it is of no use to anybody.
                    let _ = folder.remove(to);
                    return Err(error.into());
                }
            };
            // A help only: the checkpoint is there without it.
            let epoch_folder = folder.epoch_folder(to.epoch);
            JournalWriter::open_later(Arc::clone(folder.medium()), &epoch_folder, to.epoch, 0).write(
                Event::Compacted { from_epoch: name.epoch, from: name.id, id: to.id, bytes: written.stored_bytes },
            );
            if folder.is_end(catalogue.epochs.iter().copied(), name) {
                folder.note_finished(to.epoch, &Finished { checkpoint: to, step: manifest.step })?;
            }
            (to, written.stored_bytes)
        };
        let changed = to != name;
        if output.is_json() {
            let job = folder.name().to_owned();
            output.json(&Compacted { job, from: name.into(), to: to.into(), stored_bytes, changed })?;
        } else if changed {
            output.line(format!(
                "{} {}/{}: written as {}/{}, complete in itself, {}",
                folder.name(),
                name.epoch,
                name.id,
                to.epoch,
                to.id,
                human::size(stored_bytes)
            ))?;
        } else {
            output.line(format!("{} {}/{}: complete in itself already", folder.name(), name.epoch, name.id))?;
        }
        Ok(Outcome::Done)
    }
}
