//! One rank's file of a checkpoint.
//!
//! Comes in: the bytes of a rank's fields with their [`Outline`], and who wrote them ([`ShardIdentity`]). Goes out: a
//! file of compressed, checksummed chunks, and from it the same bytes again.
//!
//! What must hold:
//! - one altered, missing or added byte anywhere in a shard is noticed by [`ShardReader::open`] together with
//!   [`ShardReader::verify`] or [`ShardReader::read`]; nothing altered is ever handed out as a field's content. The
//!   digest covers header, index and footer, and with the checksums in the index all of the file;
//! - every byte of every field is in exactly one chunk;
//! - a chunk that did not change since an earlier shard of the same rank and attempt is a reference to it, one that changed
//!   in part a patch to it; a shard whose parents are not those that it was written against is refused;
//! - a shard never stores more than the raw bytes would take (the index apart);
//! - memory is bounded, however large the state is: a few chunks for each encoding thread, and the index;
//! - a reader trusts nothing in the file: no panic, no overflow, no allocation that the file's length does not bound.
//!   It refuses versions, codecs and flags that it does not know, by name.
//!
//! `SHARD.md` beside this file specifies the format byte by byte.

mod base;
mod checksum;
mod codec;
mod effort;
mod filter;
mod inspect;
mod joint;
mod layout;
mod patch;
mod reader;
mod shelf;
mod writer;

#[cfg(test)]
mod tests;

pub use base::{Base, Parent};
pub use codec::{Codec, Compression, Grain};
pub use effort::{Circumstances, Price, Prices};
pub use inspect::Inspect;
pub use joint::{MOST_SEATS, ShardPlace};
pub use layout::{ChunkRecord, FORMAT_VERSION, LARGEST_CHUNK_BYTES, SMALLEST_CHUNK_BYTES};
pub use reader::{BrokenChunk, ShardReader};
pub use writer::{CodecCounts, DEFAULT_CHUNK_BYTES, Digests, EncodeOptions, Lineage, Piece, ShardSummary, ShardWriter};

use crate::ids::{CheckpointId, Epoch};
#[cfg(doc)]
use crate::state::Outline;
use std::io;
use std::path::{Path, PathBuf};

/// Whose state a shard holds, and of when. A checkpoint may be committed only where those of all its shards agree, but
/// for the rank.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardIdentity {
    /// The job's name, at most 255 bytes.
    pub job: String,
    /// The attempt that wrote it.
    pub epoch: Epoch,
    /// The checkpoint that it is part of.
    pub id: CheckpointId,
    /// How many ticks the attempt had counted at the freeze.
    pub tick: u64,
    /// The application's time step at the freeze.
    pub step: u64,
    /// The rank whose state it is, below `world`.
    pub rank: u32,
    /// The number of ranks of the attempt.
    pub world: u32,
}

/// Why a shard could not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShardError {
    /// The operating system refused a write; the file is not a shard and should be removed. It may work later.
    #[error("{}: {doing} failed: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The operating system refused a read. The file may be sound, and readable later.
    #[error("{}: {doing} failed: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What was being read.
        doing: String,
        /// What the system said.
        source: io::Error,
    },
    /// The file's content is not what was written: use another copy or an older checkpoint.
    #[error("{}: damaged: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong, with field and offset where they are known.
        what: String,
    },
    /// The file is sound, but a newer Piton than this one is needed to read it.
    #[error("{}: {what}; a newer version of Piton is needed to read it", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The version, codec or flag that is not known here.
        what: String,
    },
    /// There is not enough memory now for what was asked for.
    #[error("{}: no memory for {bytes} bytes of {what}", path.display())]
    Memory {
        /// The file.
        path: PathBuf,
        /// What it was for.
        what: String,
        /// How much was needed.
        bytes: u64,
    },
    /// The caller asked for something that makes no sense: a mistake in the program, not in the file.
    #[error("{}: {what}", path.display())]
    Misuse {
        /// The file.
        path: PathBuf,
        /// What was wrong with it.
        what: String,
    },
}

impl ShardError {
    /// Whether the file's content is known to be wrong, so that trying again is of no use.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. })
    }

    /// Whether it could not be read or written just now, and may work later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Write { .. } | Self::Read { .. } | Self::Memory { .. })
    }

    /// The file concerned.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Write { path, .. }
            | Self::Read { path, .. }
            | Self::Damaged { path, .. }
            | Self::Unsupported { path, .. }
            | Self::Memory { path, .. }
            | Self::Misuse { path, .. } => path,
        }
    }
}
