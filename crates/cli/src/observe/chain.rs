//! The checkpoints in the store: what each is worth, and which others it builds on.
//!
//! Comes in: a job's catalogue. Goes out: its newest checkpoints, newest first. What must hold: nothing is read but what the catalogue has read; rows are bounded.

use piton::reader::Reader;
use piton::store::{Catalogue, CheckpointEntry, CheckpointState, unix_milliseconds};
use serde::{Deserialize, Serialize};

/// Most that are shown, the newest ones.
const MOST: usize = 64;

/// A checkpoint in the store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// The attempt that took it.
    pub epoch: u64,
    /// Its number.
    pub id: u64,
    /// The application's step, where it is known.
    pub step: Option<u64>,
    /// How old it is, seconds.
    pub age_seconds: Option<f64>,
    /// What it takes in the store.
    pub bytes: Option<u64>,
    /// `committed`, `complete` (not committed yet), `partial`, `damaged` or `unreadable`.
    pub state: String,
    /// What is wrong with it, why it was set aside, or why its values are suspect.
    pub detail: Option<String>,
    /// Those of the same attempt that it builds on; none: it is complete in itself.
    pub builds_on: Vec<u64>,
    /// How many others build on it.
    pub needed_by: usize,
    /// Whether a user pinned it.
    pub pinned: bool,
    /// The application's name for it.
    pub label: Option<String>,
}

/// The newest checkpoints of a job, newest first.
#[must_use]
pub fn chain(reader: &Reader, catalogue: &Catalogue) -> Vec<Kept> {
    catalogue.entries.iter().rev().take(MOST).map(|entry| kept(reader, catalogue, entry)).collect()
}

fn kept(reader: &Reader, catalogue: &Catalogue, entry: &CheckpointEntry) -> Kept {
    let (state, problem, step) = match &entry.state {
        CheckpointState::Committed(manifest) => ("committed", None, Some(manifest.step)),
        CheckpointState::Complete { step, .. } => ("complete", None, Some(*step)),
        CheckpointState::Partial { shards } => ("partial", Some(format!("{shards} shards are there")), None),
        CheckpointState::Damaged(what) => ("damaged", Some(what.clone()), None),
        CheckpointState::Unreadable(what) => ("unreadable", Some(what.clone()), None),
    };
    let manifest = entry.manifest();
    let aside = entry.set_aside.as_ref().map(|why| format!("set aside: {why}"));
    let suspect = reader.job().suspect(entry.name).map(|suspect| format!("suspect: {}", suspect.reason));
    Kept {
        epoch: entry.name.epoch.0,
        id: entry.name.id.0,
        step,
        age_seconds: manifest
            .map(|manifest| unix_milliseconds().saturating_sub(manifest.created_unix_ms) as f64 / 1000.0),
        bytes: manifest.map(|manifest| manifest.stored_bytes),
        state: state.to_owned(),
        detail: aside.or(problem).or(suspect),
        builds_on: manifest.map_or_else(Vec::new, |manifest| manifest.parents.iter().map(|parent| parent.0).collect()),
        needed_by: catalogue.dependents(entry.name).len(),
        pinned: entry.pinned,
        label: manifest.and_then(|manifest| manifest.label.clone()),
    }
}
