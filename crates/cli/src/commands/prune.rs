//! `piton prune`: removes what retention would, where no attempt does it.

use crate::exit::Outcome;
use crate::output::{Output, human, progress};
use crate::{Common, jobs};
use piton::ids::CheckpointName;
use piton::reader::{Reader, Soundness};
use piton::store::{Catalogue, CheckpointEntry, CheckpointState, RetentionPolicy};
use serde::Serialize;
use std::io::{self, IsTerminal, Write};

/// Remove old checkpoints, and what attempts that died left half-done
///
/// The newest checkpoints of the present lineage stay, as many as --keep or the settings say; so do pinned and labelled ones,
/// and always the newest that was verified: it is read before anything is removed. Checkpoints of an attempt that still runs
/// are left to it.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  piton prune --dry-run\n  piton prune tsunami --keep 1 --yes\n  piton prune tsunami --json"
)]
pub struct Prune {
    /// The job, which may be left out where the store holds one
    job: Option<String>,
    /// How many of the newest stay, in place of what the settings say
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    keep: Option<u32>,
    /// Only say what would be removed
    #[arg(long)]
    dry_run: bool,
    /// Also touch what belongs to an attempt that still seems to run
    #[arg(long)]
    force: bool,
    /// Don't ask
    #[arg(long, short)]
    yes: bool,
}

#[derive(Debug, Serialize)]
struct Pruned {
    job: String,
    dry_run: bool,
    removed: Vec<Removed>,
    /// Left to an attempt that still seems to run.
    left: Vec<Removed>,
    problems: Vec<String>,
}

#[derive(Debug, Clone, Serialize)]
struct Removed {
    epoch: u64,
    id: u64,
    state: &'static str,
    stored_bytes: u64,
}

impl Prune {
    /// Removes, or says what it would.
    ///
    /// # Errors
    /// What is wrong with the configuration or the store.
    pub fn run(&self, common: &Common, output: &mut Output) -> anyhow::Result<Outcome> {
        let (reader, settings) = jobs::open(common, self.job.as_deref())?;
        let policy =
            RetentionPolicy { keep: self.keep.unwrap_or(settings.keep) as usize, keep_every: settings.keep_every };
        let catalogue = reader.catalogue()?;
        let mut names = policy.prunable(&catalogue, None);
        let mut problems = Vec::new();
        if names.iter().any(|name| of(&catalogue, *name).is_some_and(|entry| entry.manifest().is_some())) {
            let sound = newest_sound(&reader, &catalogue);
            names = policy.prunable(&catalogue, sound);
            if sound.is_none() {
                problems.push("no checkpoint could be verified, so no committed one is removed".to_owned());
                names.retain(|name| of(&catalogue, *name).is_some_and(|entry| entry.manifest().is_none()));
            }
        }
        let mut left: Vec<CheckpointName> = Vec::new();
        if !self.force {
            let epochs = names.iter().map(|name| name.epoch).collect();
            let running = jobs::running_among(reader.job(), &epochs)?;
            (left, names) = names.into_iter().partition(|name| running.contains_key(&name.epoch));
            for (epoch, evidence) in running {
                problems.push(format!("attempt {epoch} seems to run ({evidence}): what is its own is left to it"));
            }
        }
        let about = |names: &[CheckpointName]| -> Vec<Removed> {
            names.iter().filter_map(|name| of(&catalogue, *name)).map(|entry| removed(&reader, entry)).collect()
        };
        let (mut list, left) = (about(&names), about(&left));
        let bytes = |list: &[Removed]| human::size(list.iter().map(|removed| removed.stored_bytes).sum());
        let job = reader.job().name();
        if !output.is_json() {
            for row in &list {
                let Removed { epoch, id, state, stored_bytes } = row;
                output.line(format!("{job} {epoch}/{id}: {state}, {}", human::size(*stored_bytes)))?;
            }
            problems.iter().try_for_each(|problem| output.line(problem))?;
        }
        if !self.dry_run && !names.is_empty() {
            output.flush()?;
            let question = format!("Remove {} ({})?", human::count(names.len(), "checkpoint"), bytes(&list));
            if !self.yes && io::stdin().is_terminal() && !agreed(&question)? {
                names.clear();
            }
            list.clear();
            // Those that refer to others before these.
            for name in names.into_iter().rev() {
                let row = about(&[name]);
                match reader.job().remove(name) {
                    Ok(()) => list.extend(row),
                    Err(error) => problems.push(error.to_string()),
                }
            }
        }
        let failed = problems.iter().any(|problem| problem.starts_with("cannot "));
        if output.is_json() {
            output.json(&Pruned { job: job.to_owned(), dry_run: self.dry_run, removed: list, left, problems })?;
        } else {
            let would = if self.dry_run { "would remove" } else { "removed" };
            let what = human::count(list.len(), "checkpoint");
            output.line(match list.is_empty() {
                true if self.dry_run => format!("{job}: nothing to remove"),
                true => format!("{job}: nothing removed"),
                false => format!("{job}: {would} {what}, {}", bytes(&list)),
            })?;
            for problem in problems.iter().filter(|problem| problem.starts_with("cannot ")) {
                output.line(problem)?;
            }
        }
        Ok(if failed { Outcome::Unknown } else { Outcome::Done })
    }
}

/// Asks on the terminal.
fn agreed(question: &str) -> io::Result<bool> {
    eprint!("{question} [y/N] ");
    io::stderr().flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn of(catalogue: &Catalogue, name: CheckpointName) -> Option<&CheckpointEntry> {
    catalogue.entries.iter().find(|entry| entry.name == name)
}

/// The newest checkpoint of which every byte is what was written.
fn newest_sound(reader: &Reader, catalogue: &Catalogue) -> Option<CheckpointName> {
    let mut committed = catalogue.candidates().filter(|entry| entry.manifest().is_some());
    let sound = committed.find(|entry| {
        let bar = progress::of_bytes(Reader::bytes_to_verify(entry));
        let verdict = reader.verify(entry.name, &|bytes| bar.inc(bytes));
        bar.finish_and_clear();
        verdict.soundness() == Soundness::Sound
    });
    sound.map(|entry| entry.name)
}

fn removed(reader: &Reader, entry: &CheckpointEntry) -> Removed {
    let state = match (&entry.state, &entry.set_aside) {
        (_, Some(_)) => "set aside",
        (CheckpointState::Committed(_), _) => "committed",
        (CheckpointState::Complete { .. }, _) => "complete",
        (CheckpointState::Partial { .. }, _) => "partial",
        (CheckpointState::Damaged(_), _) => "damaged",
        (CheckpointState::Unreadable(_), _) => "unreadable",
    };
    let stored_bytes = match entry.manifest() {
        Some(manifest) => manifest.stored_bytes,
        None => {
            let medium = reader.job().medium();
            let folder = reader.job().checkpoint_folder(entry.name);
            let files = medium.list(&folder).unwrap_or_default();
            files.iter().filter_map(|file| medium.stat(&folder.join(&file.name)).ok()).map(|stat| stat.len).sum()
        }
    };
    Removed { epoch: entry.name.epoch.0, id: entry.name.id.0, state, stored_bytes }
}
