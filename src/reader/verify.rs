//! Whether a checkpoint is what was written.
//!
//! Comes in: a checkpoint. Goes out: what is wrong with it, by rank, field and offset, after every byte of it was read.
//! What must hold: nothing is written; damage is told from what could not be read just now; a checkpoint that is removed
//! meanwhile is not called damaged.

use super::{Checkpoint, ReadError, Reader, is_missing};
use crate::ids::CheckpointName;
use crate::shard::BrokenChunk;
use crate::store::CheckpointEntry;
use std::fmt;

/// What can be said of a checkpoint after all of it was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Soundness {
    /// Every byte is what was written.
    Sound,
    /// Something is not.
    Damaged,
    /// Nothing is known to be damaged, but not everything could be read.
    Unknown,
}

/// What is wrong with a part of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wrong {
    /// A chunk is not what was written.
    Chunk(BrokenChunk),
    /// A file is missing, is another one, or its header or index is not what was written.
    File(String),
    /// It could not be read now, or needs a newer version of Piton.
    Unreadable(String),
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardProblem {
    /// In the shard of this rank; `None` for the manifest.
    pub rank: Option<u32>,
    /// What.
    pub wrong: Wrong,
}

impl fmt::Display for ShardProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.rank {
            Some(rank) => write!(f, "rank {rank}: ")?,
            None => f.write_str("manifest: ")?,
        }
        match &self.wrong {
            Wrong::Chunk(chunk) => write!(
                f,
                "region {:?}, offset {}: {} (byte {} of its shard)",
                chunk.field, chunk.offset, chunk.what, chunk.place
            ),
            Wrong::File(what) | Wrong::Unreadable(what) => f.write_str(what),
        }
    }
}

/// What was found in a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The checkpoint.
    pub name: CheckpointName,
    /// How many bytes of state, before compression, were decoded and checked.
    pub raw_bytes: u64,
    /// All that is wrong, by rank and then by place in the file.
    pub problems: Vec<ShardProblem>,
}

impl Verdict {
    /// What that means.
    #[must_use]
    pub fn soundness(&self) -> Soundness {
        let damaged = self.problems.iter().any(|problem| !matches!(problem.wrong, Wrong::Unreadable(_)));
        match (self.problems.is_empty(), damaged) {
            (true, _) => Soundness::Sound,
            (false, true) => Soundness::Damaged,
            (false, false) => Soundness::Unknown,
        }
    }

    fn of_manifest(name: CheckpointName, error: &ReadError) -> Self {
        let what = error.to_string();
        let wrong = if error.is_damage() { Wrong::File(what) } else { Wrong::Unreadable(what) };
        Self { name, raw_bytes: 0, problems: vec![ShardProblem { rank: None, wrong }] }
    }
}

impl Reader {
    /// Reads every byte of a checkpoint that is committed or complete, in parallel, and says what is wrong with it.
    /// `progress` is told the raw bytes that were looked at, as they are.
    #[must_use]
    pub fn verify(&self, name: CheckpointName, progress: &(dyn Fn(u64) + Sync)) -> Verdict {
        match self.checkpoint(name) {
            Ok(checkpoint) => checkpoint.verify(progress),
            Err(error) => Verdict::of_manifest(name, &error),
        }
    }

    /// How many raw bytes [`Self::verify`] will look at, where the catalogue says so.
    #[must_use]
    pub fn bytes_to_verify(entry: &CheckpointEntry) -> u64 {
        entry.manifest().map_or(0, |manifest| manifest.raw_bytes)
    }
}

impl Checkpoint {
    /// Reads every byte of every shard, in parallel, and says what is wrong. `progress` is told the raw bytes that were
    /// looked at, as they are.
    #[must_use]
    pub fn verify(&self, progress: &(dyn Fn(u64) + Sync)) -> Verdict {
        let mut verdict = Verdict { name: self.name(), raw_bytes: 0, problems: Vec::new() };
        for rank in 0..self.manifest().world {
            let mut add = |wrong| verdict.problems.push(ShardProblem { rank: Some(rank), wrong });
            let raw_bytes = self.manifest().shard(rank as usize).map_or(0, |entry| entry.raw_bytes);
            // Not one that is open already: what counts is what its name leads to now.
            let result = self.open_shard(rank).and_then(|shard| {
                shard.verify(&self.pool, progress).map_err(|source| ReadError::Shard { rank, source })
            });
            match result {
                Ok(broken) => {
                    verdict.raw_bytes += raw_bytes;
                    broken.into_iter().for_each(|chunk| add(Wrong::Chunk(chunk)));
                }
                Err(error) => {
                    let what = match &error {
                        ReadError::Shard { source, .. } if is_missing(source) => {
                            if self.committed && !self.job.has_manifest(self.name()).unwrap_or(true) {
                                add(Wrong::Unreadable("the checkpoint was removed while it was being read".into()));
                                return verdict;
                            }
                            format!("{} is missing", source.path().display())
                        }
                        ReadError::Shard { source, .. } => source.to_string(),
                        ReadError::OtherShard { path, what, .. } => {
                            format!("{} is not the shard that was committed: {what}", path.display())
                        }
                        error => error.to_string(),
                    };
                    add(if error.is_damage() { Wrong::File(what) } else { Wrong::Unreadable(what) });
                }
            }
        }
        verdict
    }
}
