//! What an earlier shard of the same rank holds: what the next one need not store again.
//!
//! Comes in: the records of a shard as it was written, and a digest of each page of its fields. Goes out: for each chunk of
//! the next shard, which pages changed, and what the others can be read from. What must hold: it is given to another writer
//! only when the shard's checkpoint is committed, since what refers to it lives no longer than it does.
//!
//! A digest is 64 bits of XXH3. Two pages that differ and share one would be taken for the same: with 10⁹ changed pages the
//! chance is 5 · 10⁻¹¹, and the chunk's own checksum, which is of what it really held, shows it when it is read.

use super::layout::ChunkRecord;
use super::{Grain, ShardIdentity};
use crate::ids::CheckpointId;

/// A shard that others refer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parent {
    /// The checkpoint that it is part of.
    pub id: CheckpointId,
    /// The length of the file.
    pub file_bytes: u64,
    /// XXH3-64 of its header.
    pub header_checksum: u64,
}

/// One record that a chunk is read from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layer {
    /// The checkpoint in whose shard it lies.
    pub file: CheckpointId,
    pub record: ChunkRecord,
}

/// What a chunk consists of, and what it looked like.
#[derive(Debug, Clone, Default)]
pub(super) struct BaseChunk {
    /// The first holds all of it, the others replace pages.
    pub layers: Vec<Layer>,
    /// A digest of each page, where they were taken.
    pub pages: Option<Box<[u64]>>,
}

#[derive(Debug)]
pub(super) struct BaseField {
    pub name: String,
    pub bytes: u64,
    pub grain: Grain,
    pub chunks: Vec<BaseChunk>,
}

/// A shard that was written, as the next one of its rank may build on it.
#[derive(Debug)]
pub struct Base {
    pub(super) identity: ShardIdentity,
    pub(super) chunk_bytes: usize,
    pub(super) own: Parent,
    /// The shards that it refers to itself.
    pub(super) parents: Vec<Parent>,
    pub(super) fields: Vec<BaseField>,
    pub(super) depth: u32,
    pub(super) full_bytes: u64,
    pub(super) chain_bytes: u64,
}

impl Base {
    /// The checkpoint that it is part of.
    #[must_use]
    pub fn id(&self) -> CheckpointId {
        self.identity.id
    }

    /// How many checkpoints the chain has that ends with it: 1 where it refers to none.
    #[must_use]
    pub fn depth(&self) -> u32 {
        self.depth
    }

    /// The length of the file that the chain starts with.
    #[must_use]
    pub fn full_bytes(&self) -> u64 {
        self.full_bytes
    }

    /// The length of all files of the chain but the first.
    #[must_use]
    pub fn chain_bytes(&self) -> u64 {
        self.chain_bytes
    }

    /// Whether a shard of `identity` may refer to it: a later one of the same attempt and rank.
    pub(super) fn serves(&self, identity: &ShardIdentity, chunk_bytes: usize) -> bool {
        let ShardIdentity { job, epoch, id, rank, world, .. } = &self.identity;
        *job == identity.job
            && *epoch == identity.epoch
            && *rank == identity.rank
            && *world == identity.world
            && *id < identity.id
            && self.chunk_bytes == chunk_bytes
    }

    /// Field number `number`, where it is the same array still.
    pub(super) fn field(&self, number: usize, name: &str, bytes: u64, grain: Grain) -> Option<&BaseField> {
        self.fields.get(number).filter(|field| field.name == name && field.bytes == bytes && field.grain == grain)
    }
}
