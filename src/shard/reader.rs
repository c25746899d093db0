//! Reading a shard.
//!
//! Comes in: a file that anybody may have altered. Goes out: the fields' bytes as they were written, or an error that
//! says what is wrong and where. What must hold: what is handed out has passed the checksums of stored and of raw
//! bytes; memory for the index is bounded by the file's length, and for chunks by a few of them for each thread; only
//! `pread` is used, because a truncated file under a memory map kills the process.

use super::checksum::checksum;
use super::codec::{Codec, DecodeError, Decoder, grow};
use super::layout::{self, ChunkRecord, FOOTER_BYTES, FORMAT_VERSION, Fault, Footer, HEADER_BYTES, Header};
use super::layout::{INDEX_HEAD_BYTES, IndexHead, LARGEST_HEADER_BYTES, RECORD_BYTES};
use super::shelf::Shelf;
use super::{ShardError, ShardIdentity};
use crate::medium::{Medium, MediumRead};
use crate::state::Outline;
use rayon::ThreadPool;
use rayon::prelude::*;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

static SPARE_DECODERS: Shelf<Decoder> = Shelf::new(16);

/// A chunk that is not what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokenChunk {
    /// The name of its field.
    pub field: String,
    /// Where its raw bytes start in the field.
    pub offset: u64,
    /// Where its stored bytes start in the file.
    pub place: u64,
    /// What is wrong with it.
    pub what: String,
}

impl fmt::Display for BrokenChunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, offset, place, what } = self;
        write!(f, "the chunk at offset {offset} of field `{}`, byte {place} of the file: {what}", field.escape_debug())
    }
}

/// One field's place in the list of chunks.
#[derive(Debug, Clone, Copy)]
struct FieldChunks {
    bytes: u64,
    first: usize,
    count: usize,
}

/// An open shard whose header, index and footer have been checked.
pub struct ShardReader {
    path: PathBuf,
    file: Box<dyn MediumRead>,
    header: Header,
    outline: Outline,
    digest: u128,
    file_bytes: u64,
    raw_bytes: u64,
    /// In the order of the file.
    records: Vec<ChunkRecord>,
    fields: Vec<FieldChunks>,
    /// The number of the record of each chunk, the chunks of all fields counted in order.
    order: Vec<u32>,
}

impl fmt::Debug for ShardReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShardReader")
            .field("path", &self.path)
            .field("identity", &self.header.identity)
            .field("chunks", &self.records.len())
            .finish_non_exhaustive()
    }
}

/// What one chunk can fail with.
enum ChunkFault {
    Broken(String),
    Unknown(String),
    Unread(io::Error),
    Memory,
}

impl From<DecodeError> for ChunkFault {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::Malformed(what) => Self::Broken(what),
            DecodeError::Unknown(what) => Self::Unknown(what),
            DecodeError::Memory => Self::Memory,
        }
    }
}

/// Turns what the layout found wrong, or what the system refused, into errors about one file.
#[derive(Clone, Copy)]
struct About<'a>(&'a Path);

impl About<'_> {
    fn damaged(self, what: impl Into<String>) -> ShardError {
        ShardError::Damaged { path: self.0.to_owned(), what: what.into() }
    }

    fn fault(self, fault: Fault) -> ShardError {
        match fault {
            Fault::Damaged(what) => self.damaged(what),
            Fault::Unsupported(what) => ShardError::Unsupported { path: self.0.to_owned(), what },
        }
    }

    fn unread(self, doing: &str, source: io::Error) -> ShardError {
        if source.kind() == io::ErrorKind::UnexpectedEof {
            return self.damaged(format!("it ended while it was being read ({doing})"));
        }
        ShardError::Read { path: self.0.to_owned(), doing: doing.to_owned(), source }
    }

    fn memory(self, what: &str, bytes: u64) -> ShardError {
        ShardError::Memory { path: self.0.to_owned(), what: what.to_owned(), bytes }
    }

    fn reserved<T>(self, what: &str, count: usize) -> Result<Vec<T>, ShardError> {
        let mut list = Vec::new();
        let bytes = (count as u64).saturating_mul(size_of::<T>() as u64);
        list.try_reserve_exact(count).map_err(|_| self.memory(what, bytes))?;
        Ok(list)
    }
}

impl ShardReader {
    /// Opens the shard `path` and checks all of it but the chunks themselves.
    ///
    /// # Errors
    /// [`ShardError::Damaged`] where it is no shard, or no longer the one that was written; [`ShardError::Unsupported`]
    /// where a later version wrote it; [`ShardError::Read`] and [`ShardError::Memory`] where it cannot be read now.
    pub fn open(medium: &dyn Medium, path: &Path) -> Result<Self, ShardError> {
        let about = About(path);
        let file = medium.open(path).map_err(|source| about.unread("opening it", source))?;
        let file_bytes = file.len().map_err(|source| about.unread("asking for its length", source))?;

        let header_bytes = read_header(about, &*file, file_bytes)?;
        let header = Header::from_bytes(&header_bytes).map_err(|fault| about.fault(fault))?;

        let mut bytes = [0; FOOTER_BYTES];
        let footer_place = file_bytes - FOOTER_BYTES as u64;
        file.read_at(footer_place, &mut bytes).map_err(|source| about.unread("reading its footer", source))?;
        let footer_bytes = bytes;
        let footer = Footer::from_bytes(&footer_bytes).map_err(|fault| about.fault(fault))?;
        let fits = footer.file_bytes == file_bytes
            && footer.index_place >= HEADER_BYTES as u64
            && footer.index_bytes >= INDEX_HEAD_BYTES as u64
            && footer.index_place.checked_add(footer.index_bytes) == Some(footer_place);
        if !fits {
            return Err(about.damaged("its footer does not belong to a file of this length"));
        }
        if footer.header_checksum != xxh3_64(&header_bytes) {
            return Err(about.damaged("its header is not the one that it was written with"));
        }

        let mut hasher = Xxh3::new();
        hasher.update(&header_bytes);
        let (outline, records) = read_index(about, &*file, &footer, &mut hasher)?;
        hasher.update(&footer_bytes);

        let (fields, order) = arrange(about, &header, &footer, &outline, &records)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            header,
            outline,
            digest: hasher.digest128(),
            file_bytes,
            raw_bytes: footer.raw_bytes,
            records,
            fields,
            order,
        })
    }

    /// Whose state it is.
    #[must_use]
    pub fn identity(&self) -> &ShardIdentity {
        &self.header.identity
    }

    /// When it was created, by the clock of the node that wrote it.
    #[must_use]
    pub fn created(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(self.header.created)
    }

    /// What fields it holds.
    #[must_use]
    pub fn outline(&self) -> &Outline {
        &self.outline
    }

    /// XXH3-128 of header, index and footer; the same that [`super::ShardSummary`] gave.
    #[must_use]
    pub fn digest(&self) -> u128 {
        self.digest
    }

    /// The length of the file in bytes.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// The bytes of all fields together.
    #[must_use]
    pub fn raw_bytes(&self) -> u64 {
        self.raw_bytes
    }

    /// The raw bytes of a chunk, but for the last of each field, which may hold fewer.
    #[must_use]
    pub fn chunk_bytes(&self) -> usize {
        self.header.chunk_bytes as usize
    }

    /// All chunks, in the order of the file.
    pub fn chunks(&self) -> impl ExactSizeIterator<Item = &ChunkRecord> {
        self.records.iter()
    }

    /// Reads fields into `targets` (number of the field, and where its bytes go), in parallel on `pool`.
    ///
    /// After an error the targets' content is unknown.
    ///
    /// # Errors
    /// [`ShardError::Misuse`] where a target's length is not its field's, or a field is named twice;
    /// [`ShardError::Damaged`] where a chunk is not what was written; others as for [`ShardReader::open`].
    pub fn read(&self, pool: &ThreadPool, targets: &mut [(usize, &mut [u8])]) -> Result<(), ShardError> {
        let misuse = |what: String| Err(ShardError::Misuse { path: self.path.clone(), what });
        let size = self.chunk_bytes();
        let mut named = vec![false; self.fields.len()];
        let mut count = 0;
        for (field, target) in targets.iter() {
            let (Some(chunks), Some(named)) = (self.fields.get(*field), named.get_mut(*field)) else {
                return misuse(format!("there is no field number {field}"));
            };
            if chunks.bytes != target.len() as u64 {
                return misuse(format!(
                    "field `{}` has {} bytes, and would be read into {}",
                    self.field_name(*field),
                    chunks.bytes,
                    target.len()
                ));
            }
            if std::mem::replace(named, true) {
                return misuse(format!("field `{}` would be read twice", self.field_name(*field)));
            }
            count += chunks.count;
        }
        let mut tasks = About(&self.path).reserved("the list of chunks", count)?;
        for (field, target) in targets {
            let chunks = self.fields[*field];
            let numbers = &self.order[chunks.first..chunks.first + chunks.count];
            tasks.extend(target.chunks_mut(size).zip(numbers).map(|(part, &number)| (number, part)));
        }
        // As they lie in the file, so that storage sees sequential reads.
        tasks.sort_unstable_by_key(|(number, _)| *number);
        pool.install(|| {
            tasks.into_par_iter().try_for_each(|(number, part)| {
                let record = &self.records[number as usize];
                let mut decoder = SPARE_DECODERS.take();
                let result = self.read_chunk(record, part, &mut decoder);
                SPARE_DECODERS.put(decoder);
                result.map_err(|fault| self.chunk_error(record, fault))
            })
        })
    }

    /// Reads the bytes of one field from `offset` on, as many as `target` takes, in parallel on `pool`. Chunks of which only
    /// a part is wanted are decoded and checked as a whole.
    ///
    /// After an error the target's content is unknown.
    ///
    /// # Errors
    /// [`ShardError::Misuse`] where the field does not hold those bytes; others as for [`ShardReader::read`].
    pub fn read_part(&self, pool: &ThreadPool, field: usize, offset: u64, target: &mut [u8]) -> Result<(), ShardError> {
        let end = offset.checked_add(target.len() as u64);
        let Some((chunks, end)) = self.fields.get(field).zip(end).filter(|(chunks, end)| *end <= chunks.bytes) else {
            let what = format!("field number {field} does not hold {} bytes at offset {offset}", target.len());
            return Err(ShardError::Misuse { path: self.path.clone(), what });
        };
        let size = self.chunk_bytes() as u64;
        let mut tasks = Vec::new();
        let (mut rest, mut at) = (target, offset);
        while at < end {
            let skip = at % size;
            // At most a chunk's length.
            let (part, behind) = rest.split_at_mut((size - skip).min(end - at) as usize);
            let number = self.order[chunks.first + (at / size) as usize];
            at += part.len() as u64;
            tasks.push((number, skip as usize, part));
            rest = behind;
        }
        pool.install(|| {
            tasks.into_par_iter().try_for_each(|(number, skip, part)| {
                let record = &self.records[number as usize];
                let mut decoder = SPARE_DECODERS.take();
                let result = if part.len() == record.raw_len as usize {
                    self.read_chunk(record, part, &mut decoder)
                } else {
                    let mut raw = std::mem::take(&mut decoder.raw);
                    grow(&mut raw, record.raw_len as usize);
                    let whole = &mut raw[..record.raw_len as usize];
                    let result = self.read_chunk(record, whole, &mut decoder);
                    part.copy_from_slice(&whole[skip..skip + part.len()]);
                    decoder.raw = raw;
                    result
                };
                SPARE_DECODERS.put(decoder);
                result.map_err(|fault| self.chunk_error(record, fault))
            })
        })
    }

    /// Reads one field into memory of its own.
    ///
    /// # Errors
    /// As [`ShardReader::read`]; [`ShardError::Memory`] where there is not enough.
    pub fn read_field(&self, pool: &ThreadPool, field: usize) -> Result<Vec<u8>, ShardError> {
        let Some(chunks) = self.fields.get(field) else {
            return Err(ShardError::Misuse {
                path: self.path.clone(),
                what: format!("there is no field number {field}"),
            });
        };
        let about = About(&self.path);
        let what = format!("field `{}`", self.field_name(field));
        let len = usize::try_from(chunks.bytes).map_err(|_| about.memory(&what, chunks.bytes))?;
        let mut bytes = about.reserved(&what, len)?;
        bytes.resize(len, 0);
        self.read(pool, &mut [(field, &mut bytes)])?;
        Ok(bytes)
    }

    /// Reads and decodes every chunk, in parallel on `pool`, and returns those that are broken, in the order of the
    /// file. `progress` is told the raw bytes of every chunk that has been looked at.
    ///
    /// # Errors
    /// [`ShardError::Read`] and [`ShardError::Memory`] where it could not be told; [`ShardError::Unsupported`] where a
    /// part of a chunk is not known here.
    pub fn verify(&self, pool: &ThreadPool, progress: &(dyn Fn(u64) + Sync)) -> Result<Vec<BrokenChunk>, ShardError> {
        let mut broken: Vec<BrokenChunk> = pool.install(|| {
            self.records
                .par_iter()
                .map(|record| {
                    let mut decoder = SPARE_DECODERS.take();
                    let mut raw = std::mem::take(&mut decoder.raw);
                    grow(&mut raw, record.raw_len as usize);
                    let result = self.read_chunk(record, &mut raw[..record.raw_len as usize], &mut decoder);
                    decoder.raw = raw;
                    SPARE_DECODERS.put(decoder);
                    progress(u64::from(record.raw_len));
                    match result {
                        Ok(()) => Ok(None),
                        Err(ChunkFault::Broken(what)) => Ok(Some(self.broken(record, what))),
                        Err(fault) => Err(self.chunk_error(record, fault)),
                    }
                })
                .filter_map(Result::transpose)
                .collect::<Result<_, _>>()
        })?;
        broken.sort_by_key(|chunk| chunk.place);
        Ok(broken)
    }

    /// Reads one chunk into `raw`, which is as long as it.
    fn read_chunk(&self, record: &ChunkRecord, raw: &mut [u8], decoder: &mut Decoder) -> Result<(), ChunkFault> {
        let unread = |error: io::Error| match error.kind() {
            io::ErrorKind::UnexpectedEof => ChunkFault::Broken("the file ends before it does".into()),
            _ => ChunkFault::Unread(error),
        };
        let altered = |what: &str| Err(ChunkFault::Broken(format!("its {what} bytes do not match their checksum")));
        if record.codec == Codec::Raw {
            self.file.read_at(record.place, raw).map_err(unread)?;
            let checksum = checksum(raw);
            if checksum != record.stored_checksum {
                return altered("stored");
            }
            return if checksum == record.raw_checksum { Ok(()) } else { altered("raw") };
        }
        let mut stored = std::mem::take(&mut decoder.stored);
        let len = record.stored_len as usize;
        grow(&mut stored, len);
        let result = (|| {
            self.file.read_at(record.place, &mut stored[..len]).map_err(unread)?;
            if checksum(&stored[..len]) != record.stored_checksum {
                return altered("stored");
            }
            decoder.decode(record.codec, &stored[..len], raw)?;
            if checksum(raw) == record.raw_checksum { Ok(()) } else { altered("raw") }
        })();
        decoder.stored = stored;
        result
    }

    fn field_name(&self, field: usize) -> String {
        self.outline.fields.get(field).map_or_else(String::new, |field| field.name.escape_debug().to_string())
    }

    fn broken(&self, record: &ChunkRecord, what: String) -> BrokenChunk {
        let field = self.outline.fields.get(record.field as usize).map_or_else(String::new, |field| field.name.clone());
        BrokenChunk { field, offset: record.offset, place: record.place, what }
    }

    fn chunk_error(&self, record: &ChunkRecord, fault: ChunkFault) -> ShardError {
        let path = self.path.clone();
        let chunk =
            || format!("chunk at offset {} of field `{}`", record.offset, self.field_name(record.field as usize));
        match fault {
            ChunkFault::Broken(what) => ShardError::Damaged { path, what: self.broken(record, what).to_string() },
            ChunkFault::Unknown(what) => ShardError::Unsupported { path, what: format!("{}: {what}", chunk()) },
            ChunkFault::Unread(source) => {
                ShardError::Read { path, doing: format!("reading the {}, byte {}", chunk(), record.place), source }
            }
            ChunkFault::Memory => ShardError::Memory { path, what: chunk(), bytes: u64::from(record.raw_len) },
        }
    }
}

/// Reads the header and checks that it is a sound one of this version, and the file long enough to be a shard.
fn read_header(about: About<'_>, file: &dyn MediumRead, file_bytes: u64) -> Result<[u8; HEADER_BYTES], ShardError> {
    let unread = |source| about.unread("reading its header", source);
    let mut prefix = [0; 16];
    if file_bytes < prefix.len() as u64 {
        return Err(about.damaged(format!("it is only {file_bytes} bytes long")));
    }
    file.read_at(0, &mut prefix).map_err(unread)?;
    let (version, header_len) = layout::header_prefix(&prefix).map_err(|fault| about.fault(fault))?;
    let header_len = header_len as usize;
    // In every version the header ends with its own checksum: an altered version number is damage, not a later version.
    if header_len < prefix.len() + 8 || header_len > LARGEST_HEADER_BYTES || header_len as u64 > file_bytes {
        return Err(about.damaged(format!("its header says of itself that it is {header_len} bytes long")));
    }
    let mut bytes = [0; LARGEST_HEADER_BYTES];
    file.read_at(0, &mut bytes[..header_len]).map_err(unread)?;
    if !layout::header_is_sound(&bytes[..header_len]) {
        return Err(about.damaged("its header does not match its checksum"));
    }
    if version != FORMAT_VERSION {
        let what = format!("it is a shard of format version {version}, and versions up to {FORMAT_VERSION} are known");
        return Err(ShardError::Unsupported { path: about.0.to_owned(), what });
    }
    if header_len != HEADER_BYTES {
        return Err(about.damaged(format!("its header is {header_len} bytes long")));
    }
    if file_bytes < (HEADER_BYTES + INDEX_HEAD_BYTES + FOOTER_BYTES) as u64 {
        return Err(about.damaged(format!("it is only {file_bytes} bytes long")));
    }
    let mut header = [0; HEADER_BYTES];
    header.copy_from_slice(&bytes[..HEADER_BYTES]);
    Ok(header)
}

/// Reads outline and records, and checks the index against its checksum before it believes any of them.
fn read_index(
    about: About<'_>,
    file: &dyn MediumRead,
    footer: &Footer,
    hasher: &mut Xxh3,
) -> Result<(Outline, Vec<ChunkRecord>), ShardError> {
    let unread = |source| about.unread("reading its index", source);
    let mut index = Xxh3::new();
    let mut place = footer.index_place;
    let mut take = |bytes: &mut [u8]| -> Result<(), ShardError> {
        file.read_at(place, bytes).map_err(unread)?;
        place += bytes.len() as u64;
        index.update(bytes);
        hasher.update(bytes);
        Ok(())
    };
    let mut bytes = [0; INDEX_HEAD_BYTES];
    take(&mut bytes)?;
    let head = IndexHead::from_bytes(&bytes).map_err(|fault| about.fault(fault))?;
    let needed = head
        .chunks
        .checked_mul(RECORD_BYTES as u64)
        .and_then(|records| records.checked_add(head.outline_bytes))
        .and_then(|sum| sum.checked_add(INDEX_HEAD_BYTES as u64));
    if needed != Some(footer.index_bytes) || head.chunks != footer.chunks || u32::try_from(head.chunks).is_err() {
        return Err(about.damaged("the lengths in its index do not match its footer"));
    }
    // Both lengths are bounded by the file's now; a sparse file may still be longer than memory is.
    let outline_len = usize::try_from(head.outline_bytes).unwrap_or(usize::MAX);
    let mut outline = about.reserved("its outline", outline_len)?;
    outline.resize(outline_len, 0);
    take(&mut outline)?;
    let mut records: Vec<ChunkRecord> = about.reserved("its index", head.chunks as usize)?;
    let mut fault = None;
    let mut block = vec![0; RECORD_BYTES * 1024.min(head.chunks as usize)];
    while records.len() < head.chunks as usize && fault.is_none() {
        let len = block.len().min((head.chunks as usize - records.len()) * RECORD_BYTES);
        take(&mut block[..len])?;
        for bytes in block[..len].as_chunks::<RECORD_BYTES>().0 {
            match ChunkRecord::from_bytes(bytes) {
                Ok(record) => records.push(record),
                // A placeholder: the rest must be read for the checksum, which tells damage from what is only unknown.
                Err(found) => {
                    fault.get_or_insert(found);
                }
            }
        }
    }
    if let Some(fault) = fault {
        return Err(match rest_is_sound(file, footer).map_err(unread)? {
            true => about.fault(fault),
            false => about.damaged("its index does not match its checksum"),
        });
    }
    if index.digest() != footer.index_checksum {
        return Err(about.damaged("its index does not match its checksum"));
    }
    let outline: Outline = serde_json::from_slice(&outline)
        .map_err(|error| about.damaged(format!("its outline cannot be understood: {error}")))?;
    if outline.fields.len() as u64 != head.fields {
        return Err(about.damaged("its outline has another number of fields than its index says"));
    }
    Ok((outline, records))
}

/// Whether the index matches its checksum.
fn rest_is_sound(file: &dyn MediumRead, footer: &Footer) -> io::Result<bool> {
    let mut index = Xxh3::new();
    let mut block = [0; 4096];
    let mut left = footer.index_bytes;
    while left > 0 {
        let len = left.min(block.len() as u64) as usize;
        file.read_at(footer.index_place + footer.index_bytes - left, &mut block[..len])?;
        index.update(&block[..len]);
        left -= len as u64;
    }
    Ok(index.digest() == footer.index_checksum)
}

/// Checks that the chunks lie back to back between header and index and that every byte of every field is in exactly
/// one.
fn arrange(
    about: About<'_>,
    header: &Header,
    footer: &Footer,
    outline: &Outline,
    records: &[ChunkRecord],
) -> Result<(Vec<FieldChunks>, Vec<u32>), ShardError> {
    let size = u64::from(header.chunk_bytes);
    let mut fields: Vec<FieldChunks> = about.reserved("its fields", outline.fields.len())?;
    let (mut chunks, mut raw_bytes) = (0u64, 0u64);
    for field in &outline.fields {
        let count = field.bytes.div_ceil(size);
        let first = chunks;
        let sums = chunks.checked_add(count).zip(raw_bytes.checked_add(field.bytes));
        let Some(sums) = sums.filter(|(chunks, _)| *chunks <= records.len() as u64) else {
            return Err(about.damaged(format!("chunks of field `{}` are missing", field.name.escape_debug())));
        };
        (chunks, raw_bytes) = sums;
        // Both are at most the number of records.
        fields.push(FieldChunks { bytes: field.bytes, first: first as usize, count: count as usize });
    }
    if chunks != records.len() as u64 || raw_bytes != footer.raw_bytes {
        return Err(about.damaged("its chunks are not those of its fields"));
    }
    const NONE: u32 = u32::MAX;
    let mut order = about.reserved("its index", records.len())?;
    order.resize(records.len(), NONE);
    let mut place = HEADER_BYTES as u64;
    for (number, record) in records.iter().enumerate() {
        let wrong = |what: &str| {
            let ChunkRecord { field, offset, .. } = record;
            about.damaged(format!("the record of the chunk at offset {offset} of field number {field} {what}"))
        };
        if record.place != place {
            return Err(wrong("does not start where the one before it ends"));
        }
        // The sum is bounded by 2³² chunks of 2³² bytes.
        place = place.checked_add(u64::from(record.stored_len)).ok_or_else(|| wrong("is too long"))?;
        let Some(field) = fields.get(record.field as usize) else { return Err(wrong("belongs to no field")) };
        let inside = record.offset < field.bytes && record.offset.is_multiple_of(size);
        if !inside || u64::from(record.raw_len) != size.min(field.bytes - record.offset) {
            return Err(wrong("is not one of its field's chunks"));
        }
        let slot = &mut order[field.first + (record.offset / size) as usize];
        if *slot != NONE {
            return Err(wrong("repeats another one"));
        }
        *slot = number as u32;
    }
    if place != footer.index_place {
        return Err(about.damaged("its chunks do not end where its index starts"));
    }
    Ok((fields, order))
}
