//! The record whose presence commits a checkpoint.
//!
//! Comes in: the summaries of all shards of a checkpoint. Goes out: `manifest.json` in its folder, or an error and nothing.
//! What must hold: it is written only when every shard is there under its final name and they agree on job, epoch, id,
//! tick, step and world; it is durable when [`super::JobFolder::commit`] returns; its digests cover every byte of
//! every shard.

use crate::ids::{CheckpointId, CheckpointName, Epoch};
use crate::state::{Block, FieldClass};
use serde::{Deserialize, Serialize};

/// The newest version of the manifest format: shards may share a file.
pub const MANIFEST_VERSION: u32 = 2;

/// What a committed checkpoint consists of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The job.
    pub job: String,
    /// The attempt that wrote it.
    pub epoch: Epoch,
    /// Its number within the job.
    pub id: CheckpointId,
    /// The tick of the attempt at which all ranks froze.
    pub tick: u64,
    /// The application's step at that tick.
    pub step: u64,
    /// The number of ranks.
    pub world: u32,
    /// When it was committed, in milliseconds since 1970 (UTC).
    pub created_unix_ms: u64,
    /// The version of the library that wrote it.
    pub library: String,
    /// A fingerprint of the program that wrote it.
    pub program: String,
    /// Why it was taken.
    pub reason: String,
    /// The name that the application gave it; labelled ones are never retired.
    pub label: Option<String>,
    /// Checkpoints of the same epoch that hold chunks of this one, all of them, oldest first; none where it is complete in
    /// itself.
    pub parents: Vec<CheckpointId>,
    /// Bytes of the state, before compression.
    pub raw_bytes: u64,
    /// Bytes of all shards.
    pub stored_bytes: u64,
    /// The fields of all ranks, by name.
    pub fields: Vec<FieldSummary>,
    /// One entry a rank, in order.
    pub shards: Vec<ShardEntry>,
}

/// What is common to all ranks about a field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldSummary {
    /// Its name.
    pub name: String,
    /// What kind of field it is.
    pub class: FieldClass,
    /// Its element type.
    pub kind: String,
    /// The shape of the global array that the ranks hold blocks of, where the application said so.
    pub global: Option<Vec<u64>>,
    /// Bytes over all ranks, before compression.
    pub bytes: u64,
}

/// One rank's file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardEntry {
    /// The rank.
    pub rank: u32,
    /// The file's name, in the checkpoint's folder.
    pub file: String,
    /// The file's length; of one that ranks share, that of this rank's part.
    pub bytes: u64,
    /// Bytes of the rank's state, before compression.
    pub raw_bytes: u64,
    /// XXH3-128 of the shard's header, index and footer, which in turn hold the checksums of its chunks. Hexadecimal.
    pub xxh3_128: String,
    /// Where the rank's arrays stand in the global ones.
    pub blocks: Vec<NamedBlock>,
}

/// The place of one rank's part of a field in the global array.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedBlock {
    /// The field.
    pub field: String,
    /// Its place.
    pub block: Block,
}

impl Manifest {
    /// The checkpoint's place in the history of the job.
    #[must_use]
    pub fn name(&self) -> CheckpointName {
        CheckpointName { epoch: self.epoch, id: self.id }
    }

    /// The entry of `rank`.
    #[must_use]
    pub fn shard(&self, rank: usize) -> Option<&ShardEntry> {
        self.shards.get(rank)
    }

    /// The version that it is written as: the first, where every shard has a file of its own, since older readers know that one.
    #[must_use]
    pub(super) fn version(&self) -> u32 {
        let is_shared = |shard: &ShardEntry| super::RankGroup::from_file(&shard.file).is_some();
        if self.shards.iter().any(is_shared) { MANIFEST_VERSION } else { 1 }
    }

    /// It and all checkpoints without which it can't be read.
    pub fn family(&self) -> impl Iterator<Item = CheckpointName> {
        let epoch = self.epoch;
        self.parents.iter().copied().chain([self.id]).map(move |id| CheckpointName { epoch, id })
    }

    /// What is wrong with it in itself, if anything: ranks out of order, file names that lead elsewhere, parents that are not
    /// older.
    #[must_use]
    pub fn inconsistency(&self) -> Option<String> {
        if self.shards.len() != self.world as usize {
            return Some(format!("it names {} shards for {} ranks", self.shards.len(), self.world));
        }
        for (rank, shard) in self.shards.iter().enumerate() {
            let shared = super::RankGroup::from_file(&shard.file);
            let is_its = shared.map_or_else(|| shard.file == super::shard_file(rank), |group| group.has(rank));
            if shard.rank as usize != rank || !is_its {
                return Some(format!("its entry {rank} is that of rank {} in file {:?}", shard.rank, shard.file));
            }
        }
        if self.parents.iter().zip(self.family().skip(1)).any(|(older, newer)| *older >= newer.id) {
            return Some(format!("its parents are not older than it, each than the next: {:?}", self.parents));
        }
        None
    }
}
