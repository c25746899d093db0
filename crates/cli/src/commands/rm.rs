//! `piton rm`: removes checkpoints that the user names.

use crate::exit::Outcome;
use crate::output::{Output, human};
use crate::{Common, jobs};
use anyhow::bail;
use piton::ids::CheckpointName;
use piton::store::{Catalogue, CheckpointEntry};
use serde::Serialize;
use std::collections::BTreeSet;

/// Remove checkpoints
///
/// Refused, unless forced: what is pinned or labelled, what others hold chunks of, the last committed checkpoint of the job, and
/// what belongs to an attempt that still runs. Then nothing is removed at all.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  piton rm tsunami 3 4\n  piton rm 1/3\n  piton rm tsunami 14 --force")]
pub struct Rm {
    /// The job, which may be left out where the store holds one, and checkpoints: ID or EPOCH/ID
    #[arg(value_names = ["JOB", "ID"], num_args = 1.., required = true)]
    words: Vec<String>,
    /// Whatever speaks against it
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Serialize)]
struct Gone {
    job: String,
    removed: Vec<String>,
}

impl Rm {
    /// Removes them.
    ///
    /// # Errors
    /// What is wrong with the configuration or the store, or speaks against it.
    pub fn run(&self, common: &Common, output: &mut Output) -> anyhow::Result<Outcome> {
        let (job, words) = jobs::split(&self.words);
        if words.is_empty() {
            bail!("name the checkpoints as well: ID or EPOCH/ID");
        }
        let (reader, _) = jobs::open(common, job)?;
        let catalogue = reader.catalogue()?;
        let mut names = BTreeSet::new();
        for word in words {
            names.insert(reader.find_in(&catalogue, jobs::selection(word)?)?);
        }
        let folder = reader.job();
        if !self.force {
            if let Some(reason) = objection(&catalogue, &names) {
                bail!("{reason}; use --force to remove it all the same");
            }
            let epochs = names.iter().map(|name| name.epoch).collect();
            if let Some((epoch, evidence)) = jobs::running_among(folder, &epochs)?.pop_last() {
                bail!("attempt {epoch} seems to run still ({evidence}); use --force to remove what is its own");
            }
        }
        let mut removed = Vec::new();
        // Those that refer to others before these.
        for name in names.into_iter().rev() {
            folder.remove(name)?;
            // A pin of what is not there would pin whatever gets its name.
            folder.unpin(name)?;
            removed.push(format!("{}/{}", name.epoch, name.id));
        }
        removed.reverse();
        if output.is_json() {
            output.json(&Gone { job: folder.name().to_owned(), removed })?;
        } else {
            let what = human::count(removed.len(), "checkpoint");
            output.line(format!("{}: removed {what}: {}", folder.name(), removed.join(", ")))?;
        }
        Ok(Outcome::Done)
    }
}

/// What speaks against removing these, as far as the catalogue knows.
fn objection(catalogue: &Catalogue, names: &BTreeSet<CheckpointName>) -> Option<String> {
    let (going, staying): (Vec<&CheckpointEntry>, Vec<_>) =
        catalogue.entries.iter().partition(|entry| names.contains(&entry.name));
    for entry in &going {
        let name = entry.name;
        if entry.pinned {
            return Some(format!("checkpoint {name} is pinned"));
        }
        if let Some(label) = entry.manifest().and_then(|manifest| manifest.label.as_ref()) {
            return Some(format!("checkpoint {name} has the label {label:?}"));
        }
        if let Some(other) = catalogue.dependents(name).into_iter().find(|other| !names.contains(other)) {
            return Some(format!("checkpoint {name} holds chunks of checkpoint {other}"));
        }
    }
    let usable = |entries: &[&CheckpointEntry]| {
        entries.iter().any(|entry| {
            entry.manifest().is_some() && entry.set_aside.is_none() && entry.name.epoch >= catalogue.lineage
        })
    };
    (usable(&going) && !usable(&staying)).then(|| "no committed checkpoint would be left to resume from".to_owned())
}
