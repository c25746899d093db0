//! The bytes of header, chunk records, parents, index head and footer.
//!
//! Comes in: numbers, or byte arrays of fixed size from a file. Goes out: the other of the two. What must hold: every
//! number is little-endian and at the place that `SHARD.md` gives; whatever is reserved is written as zero and refused
//! as anything else, so that no byte is without meaning; nothing here allocates by a length from a file.

use super::base::Parent;
use super::codec::Codec;
use super::{ShardIdentity, patch};
use crate::ids::{CheckpointId, Epoch};
use xxhash_rust::xxh3::xxh3_64;

/// The newest version of the format: shards that may refer to others.
pub const FORMAT_VERSION: u32 = 2;
/// The version of shards that are complete in themselves.
pub(super) const COMPLETE_VERSION: u32 = 1;
/// No chunk is larger than this many raw bytes; readers refuse files that say so.
pub const LARGEST_CHUNK_BYTES: usize = 16 << 20;
/// Chunk sizes are multiples of this many bytes.
pub const SMALLEST_CHUNK_BYTES: usize = 64;

pub(super) const HEADER_BYTES: usize = 512;
pub(super) const INDEX_HEAD_BYTES: usize = 32;
pub(super) const RECORD_BYTES: usize = 64;
pub(super) const PARENT_BYTES: usize = 32;
pub(super) const FOOTER_BYTES: usize = 88;
/// Headers of all versions, present and future, are at most this long.
pub(super) const LARGEST_HEADER_BYTES: usize = 4096;

/// The first byte is not ASCII and the last is a line end, so that transfers that take the file for text show.
const HEADER_MAGIC: [u8; 8] = *b"\x89PTNSHD\n";
const INDEX_MAGIC: [u8; 8] = *b"PTNINDEX";
const FOOTER_MAGIC: [u8; 8] = *b"PTNSHEND";

const NAME_AT: usize = 80;
const NAME_BYTES: usize = 256;
const NAME_END: usize = NAME_AT + NAME_BYTES;

/// What is wrong with bytes of a file.
#[derive(Debug)]
pub(super) enum Fault {
    Damaged(String),
    Unsupported(String),
}

/// Where one chunk is, or a part of it, and how to undo and check it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkRecord {
    /// The number of its field in the outline.
    pub field: u32,
    /// Where its raw bytes start in the field.
    pub offset: u64,
    /// Which file holds its stored bytes: 0 the shard itself, others the number in the list of parents, from 1.
    pub parent: u8,
    /// Where its stored bytes start in that file.
    pub place: u64,
    /// How many raw bytes the chunk has.
    pub raw_len: u32,
    /// How many of them this record replaces in what those before it give; 0: it holds the chunk as a whole.
    pub patched: u32,
    /// How many bytes of the file it takes.
    pub stored_len: u32,
    /// How it is stored.
    pub codec: Codec,
    /// XXH3-64 of the chunk's raw bytes, as they are with this record.
    pub raw_checksum: u64,
    /// XXH3-64 of the stored bytes.
    pub stored_checksum: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub version: u32,
    pub identity: ShardIdentity,
    /// Nanoseconds since 1970 UTC.
    pub created: u64,
    pub chunk_bytes: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct IndexHead {
    pub outline_bytes: u64,
    pub records: u64,
    pub fields: u32,
    pub parents: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Footer {
    pub version: u32,
    pub index_place: u64,
    pub index_bytes: u64,
    pub index_checksum: u64,
    pub records: u64,
    pub raw_bytes: u64,
    pub file_bytes: u64,
    /// Ties the footer to the header of the same file.
    pub header_checksum: u64,
}

/// Lays numbers one after the other into an array.
struct Layer<'a> {
    bytes: &'a mut [u8],
    at: usize,
}

impl<'a> Layer<'a> {
    fn new(bytes: &'a mut [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn put(&mut self, part: &[u8]) {
        self.bytes[self.at..self.at + part.len()].copy_from_slice(part);
        self.at += part.len();
    }

    fn u32(&mut self, value: u32) {
        self.put(&value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.put(&value.to_le_bytes());
    }
}

/// Takes numbers one after the other out of an array. The callers' arrays are of fixed size, and every take is inside
/// it.
struct Taker<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Taker<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut part = [0; N];
        part.copy_from_slice(&self.bytes[self.at..self.at + N]);
        self.at += N;
        part
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }
}

fn damaged<T>(what: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Damaged(what.into()))
}

/// What the first 16 bytes of any version say: version and length of the header.
pub(super) fn header_prefix(bytes: &[u8; 16]) -> Result<(u32, u32), Fault> {
    let mut taker = Taker::new(bytes);
    if taker.take() != HEADER_MAGIC {
        return damaged("it does not start as a shard does");
    }
    Ok((taker.u32(), taker.u32()))
}

/// Whether the header's own checksum, its last 8 bytes in every version, holds.
pub(super) fn header_is_sound(bytes: &[u8]) -> bool {
    let Some(split) = bytes.len().checked_sub(8) else { return false };
    let (body, checksum) = bytes.split_at(split);
    xxh3_64(body).to_le_bytes() == checksum
}

impl Header {
    /// The name must have been checked to fit.
    pub(super) fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let name = &self.identity.job.as_bytes()[..self.identity.job.len().min(NAME_BYTES - 1)];
        let mut layer = Layer::new(&mut bytes);
        layer.put(&HEADER_MAGIC);
        layer.u32(self.version);
        layer.u32(HEADER_BYTES as u32);
        layer.u32(0); // flags
        layer.u32(self.chunk_bytes);
        layer.u64(self.identity.epoch.0);
        layer.u64(self.identity.id.0);
        layer.u64(self.identity.tick);
        layer.u64(self.identity.step);
        layer.u32(self.identity.rank);
        layer.u32(self.identity.world);
        layer.u64(self.created);
        layer.u32(name.len() as u32);
        layer.u32(0); // reserved
        layer.put(name);
        let checksum = xxh3_64(&bytes[..HEADER_BYTES - 8]);
        bytes[HEADER_BYTES - 8..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// The checksum must have been checked.
    pub(super) fn from_bytes(bytes: &[u8; HEADER_BYTES]) -> Result<Self, Fault> {
        let mut taker = Taker::new(bytes);
        taker.take::<8>();
        let (version, _) = (taker.u32(), taker.u32());
        let flags = taker.u32();
        if flags != 0 {
            return Err(Fault::Unsupported(format!("its header has the unknown flags {flags:#x}")));
        }
        let chunk_bytes = taker.u32();
        let size = chunk_bytes as usize;
        if size == 0 || size > LARGEST_CHUNK_BYTES || !size.is_multiple_of(SMALLEST_CHUNK_BYTES) {
            return damaged(format!("its header gives the chunk size {size}, which no shard has"));
        }
        let (epoch, id) = (Epoch(taker.u64()), CheckpointId(taker.u64()));
        let (tick, step, rank, world) = (taker.u64(), taker.u64(), taker.u32(), taker.u32());
        let (created, name_bytes, reserved) = (taker.u64(), taker.u32() as usize, taker.u32());
        if name_bytes >= NAME_BYTES {
            return damaged(format!("its header gives a job name of {name_bytes} bytes"));
        }
        let (name, rest) = bytes[NAME_AT..HEADER_BYTES - 8].split_at(name_bytes);
        if reserved != 0 || rest.iter().any(|&byte| byte != 0) {
            return damaged("reserved bytes of its header are not zero");
        }
        let Ok(job) = std::str::from_utf8(name) else { return damaged("the job name in its header is not UTF-8") };
        let identity = ShardIdentity { job: job.to_owned(), epoch, id, tick, step, rank, world };
        Ok(Self { version, identity, created, chunk_bytes })
    }
}

/// The longest job name that a header holds.
pub(super) const LONGEST_NAME: usize = NAME_BYTES - 1;
const _: () = assert!(NAME_END <= HEADER_BYTES - 8);

impl IndexHead {
    pub(super) fn to_bytes(self) -> [u8; INDEX_HEAD_BYTES] {
        let mut bytes = [0; INDEX_HEAD_BYTES];
        let mut layer = Layer::new(&mut bytes);
        layer.put(&INDEX_MAGIC);
        layer.u64(self.outline_bytes);
        layer.u64(self.records);
        layer.u32(self.fields);
        layer.u32(self.parents);
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8; INDEX_HEAD_BYTES]) -> Result<Self, Fault> {
        let mut taker = Taker::new(bytes);
        if taker.take() != INDEX_MAGIC {
            return damaged("its index does not start as one");
        }
        Ok(Self {
            outline_bytes: taker.u64(),
            records: taker.u64(),
            fields: taker.u32(),
            // What was the upper half of the number of fields in version 1, in which it is refused unless it is 0.
            parents: taker.u32(),
        })
    }
}

impl Parent {
    pub(super) fn to_bytes(self) -> [u8; PARENT_BYTES] {
        let mut bytes = [0; PARENT_BYTES];
        let mut layer = Layer::new(&mut bytes);
        layer.u64(self.id.0);
        layer.u64(self.file_bytes);
        layer.u64(self.header_checksum);
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8; PARENT_BYTES]) -> Result<Self, Fault> {
        let mut taker = Taker::new(bytes);
        let parent = Self { id: CheckpointId(taker.u64()), file_bytes: taker.u64(), header_checksum: taker.u64() };
        if taker.u64() != 0 {
            return damaged("reserved bytes of its list of parents are not zero");
        }
        Ok(parent)
    }
}

impl ChunkRecord {
    pub(super) fn to_bytes(self) -> [u8; RECORD_BYTES] {
        let mut bytes = [0; RECORD_BYTES];
        let (codec, lane, stride, parameter) = match self.codec {
            Codec::Raw => (0, 0, 0, 0),
            Codec::Constant { pattern } => (1, 0, 0, u64::from_le_bytes(pattern)),
            Codec::Planes { lane, stride } => (2, lane, stride, 0),
        };
        let mut layer = Layer::new(&mut bytes);
        layer.u32(self.field);
        layer.put(&[codec, lane, self.parent, 0]);
        layer.u64(self.offset);
        layer.u64(self.place);
        layer.u32(self.raw_len);
        layer.u32(self.stored_len);
        layer.u32(stride);
        layer.u32(self.patched);
        layer.u64(parameter);
        layer.u64(self.raw_checksum);
        layer.u64(self.stored_checksum);
        bytes
    }

    /// Checks what can be checked of a record alone.
    pub(super) fn from_bytes(bytes: &[u8; RECORD_BYTES]) -> Result<Self, Fault> {
        let mut taker = Taker::new(bytes);
        let field = taker.u32();
        let [codec, lane, parent, zero] = taker.take();
        let (offset, place, raw_len, stored_len) = (taker.u64(), taker.u64(), taker.u32(), taker.u32());
        let (stride, patched, parameter) = (taker.u32(), taker.u32(), taker.u64());
        let (raw_checksum, stored_checksum) = (taker.u64(), taker.u64());
        // Of what is stored, the map of pages is no part of what the codec made.
        let (made_of, made) = match patched {
            0 => (raw_len, Some(stored_len)),
            // Chunks of a file that is read are bounded by 16 MiB; a larger one is refused when it is compared with its field.
            _ => (patched, stored_len.checked_sub(patch::map_bytes(raw_len as usize) as u32)),
        };
        let parameters = match (codec, made) {
            (0..=2, None) => None,
            (0, Some(made)) => (lane == 0 && stride == 0 && parameter == 0 && made == made_of).then_some(Codec::Raw),
            (1, Some(made)) => {
                (lane == 0 && stride == 0 && made == 0).then_some(Codec::Constant { pattern: parameter.to_le_bytes() })
            }
            (2, Some(made)) => (matches!(lane, 1 | 2 | 4 | 8)
                && stride.is_multiple_of(u32::from(lane))
                && parameter == 0
                && made > 0
                && made < made_of)
                .then_some(Codec::Planes { lane, stride }),
            _ => {
                let what =
                    format!("the chunk at offset {offset} of field number {field} has the unknown codec {codec}");
                return Err(Fault::Unsupported(what));
            }
        };
        let Some(codec) = parameters.filter(|_| zero == 0 && raw_len > 0 && patched <= raw_len) else {
            return damaged(format!(
                "the record of the chunk at offset {offset} of field number {field} contradicts itself"
            ));
        };
        Ok(Self { field, offset, parent, place, raw_len, patched, stored_len, codec, raw_checksum, stored_checksum })
    }

    /// How many of the stored bytes the codec made; the others are the map of pages of a patch.
    pub(super) fn made_len(&self) -> usize {
        let map = if self.patched > 0 { patch::map_bytes(self.raw_len as usize) } else { 0 };
        (self.stored_len as usize).saturating_sub(map)
    }
}

impl Footer {
    pub(super) fn to_bytes(self) -> [u8; FOOTER_BYTES] {
        let mut bytes = [0; FOOTER_BYTES];
        let mut layer = Layer::new(&mut bytes);
        layer.put(&FOOTER_MAGIC);
        layer.u32(self.version);
        layer.u32(FOOTER_BYTES as u32);
        layer.u64(self.index_place);
        layer.u64(self.index_bytes);
        layer.u64(self.index_checksum);
        layer.u64(self.records);
        layer.u64(self.raw_bytes);
        layer.u64(self.file_bytes);
        layer.u64(self.header_checksum);
        layer.u64(0); // reserved
        let checksum = xxh3_64(&bytes[..FOOTER_BYTES - 8]);
        bytes[FOOTER_BYTES - 8..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8; FOOTER_BYTES], version: u32) -> Result<Self, Fault> {
        let mut taker = Taker::new(bytes);
        if taker.take() != FOOTER_MAGIC {
            return damaged("it does not end as a shard does: it is cut short, or something was added to it");
        }
        if !header_is_sound(bytes) {
            return damaged("its footer does not match its checksum");
        }
        if (taker.u32(), taker.u32()) != (version, FOOTER_BYTES as u32) {
            return damaged("its footer is of another version than its header");
        }
        let footer = Self {
            version,
            index_place: taker.u64(),
            index_bytes: taker.u64(),
            index_checksum: taker.u64(),
            records: taker.u64(),
            raw_bytes: taker.u64(),
            file_bytes: taker.u64(),
            header_checksum: taker.u64(),
        };
        if taker.u64() != 0 {
            return damaged("reserved bytes of its footer are not zero");
        }
        Ok(footer)
    }
}
