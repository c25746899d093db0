//! Reading a shard.
//!
//! Comes in: a file that anybody may have altered. Goes out: the fields' bytes as they were written, or an error that
//! says what is wrong and where. What must hold: what is handed out has passed the checksums of stored and of raw
//! bytes; parents are the very files that it was written against; memory for the index is bounded by the file's length, and for chunks by a few of them for each thread; only
//! `pread` is used, because a truncated file under a memory map kills the process.

use super::checksum::checksum;
use super::codec::{Codec, DecodeError, Decoder, grow};
use super::joint::ShardPlace;
use super::layout::{self, COMPLETE_VERSION, ChunkRecord, FOOTER_BYTES, FORMAT_VERSION, Fault, Footer, HEADER_BYTES};
use super::layout::{Header, INDEX_HEAD_BYTES, IndexHead, LARGEST_HEADER_BYTES, PARENT_BYTES, RECORD_BYTES};
use super::shelf::Shelf;
use super::{Parent, ShardError, ShardIdentity, patch};
use crate::medium::{Medium, MediumRead};
use crate::state::Outline;
use rayon::prelude::*;
use rayon::{BroadcastContext, ThreadPool};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

static SPARE_DECODERS: Shelf<Decoder> = Shelf::new(16);
/// The pages of a patch.
static SPARE_PAGES: Shelf<Vec<u8>> = Shelf::new(16);

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
    /// The records of a chunk lie together; those of this file's own bytes are in its order.
    records: Vec<ChunkRecord>,
    fields: Vec<FieldChunks>,
    /// The records of each chunk, the chunks of all fields counted in order.
    order: Vec<Layers>,
    parents: Vec<Parent>,
    /// Their files.
    parent_files: Vec<(PathBuf, Box<dyn MediumRead>)>,
}

/// The records that one chunk is read from: the number of the first, and how many they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Layers {
    first: u32,
    count: u32,
}

/// Does `work` on `tasks`, in their order, with all threads of `pool`.
///
/// The system fetches ahead what is read in order. To ask it for more by `POSIX_FADV_WILLNEED`, 8 MiB ahead in pieces of 512 KiB,
/// made cold restores slower (133 to 152 ms instead of 109 to 112).
fn in_order<T: Send>(
    pool: &ThreadPool,
    tasks: Vec<T>,
    work: impl Fn(T) -> Result<(), ShardError> + Sync,
) -> Result<(), ShardError> {
    let queue = Mutex::new(tasks.into_iter());
    let failed = AtomicBool::new(false);
    let run = |_: BroadcastContext<'_>| {
        // Not held while a task is done. Taking the next one cannot panic and leave it half taken.
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
        while let Some(task) = next()
            && !failed.load(Ordering::Relaxed)
        {
            work(task).inspect_err(|_| failed.store(true, Ordering::Relaxed))?;
        }
        Ok(())
    };
    pool.broadcast(run).into_iter().collect()
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
        Self::open_at(medium, &ShardPlace::own(path))
    }

    /// As [`Self::open`], wherever the shard is.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_at(medium: &dyn Medium, place: &ShardPlace) -> Result<Self, ShardError> {
        let path = place.path();
        let about = About(path);
        let file = place.open(medium).map_err(|source| about.unread("opening it", source))?;
        let file_bytes = file.len().map_err(|source| about.unread("asking for its length", source))?;

        let header_bytes = read_header(about, &*file, file_bytes)?;
        let header = Header::from_bytes(&header_bytes).map_err(|fault| about.fault(fault))?;
        let header_checksum = xxh3_64(&header_bytes);

        let mut bytes = [0; FOOTER_BYTES];
        let footer_place = file_bytes - FOOTER_BYTES as u64;
        file.read_at(footer_place, &mut bytes).map_err(|source| about.unread("reading its footer", source))?;
        let footer_bytes = bytes;
        let footer = Footer::from_bytes(&footer_bytes, header.version).map_err(|fault| about.fault(fault))?;
        let fits = footer.file_bytes == file_bytes
            && footer.index_place >= HEADER_BYTES as u64
            && footer.index_bytes >= INDEX_HEAD_BYTES as u64
            && footer.index_place.checked_add(footer.index_bytes) == Some(footer_place);
        if !fits {
            return Err(about.damaged("its footer does not belong to a file of this length"));
        }
        if footer.header_checksum != header_checksum {
            return Err(about.damaged("its header is not the one that it was written with"));
        }

        let mut hasher = Xxh3::new();
        hasher.update(&header_bytes);
        let Index { outline, parents, records } = read_index(about, &*file, &footer, &mut hasher)?;
        hasher.update(&footer_bytes);

        let (fields, order) = arrange(about, &header, &footer, &outline, &parents, &records)?;
        let parent_files = parents
            .iter()
            .map(|parent| open_parent(medium, place, &header.identity, parent))
            .collect::<Result<_, _>>()?;
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
            parents,
            parent_files,
        })
    }

    /// The shards that this one refers to, in the order of their checkpoints; none where it is complete in itself.
    #[must_use]
    pub fn parents(&self) -> &[Parent] {
        &self.parents
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

    /// The records of all chunks: of one that others hold parts of there are several, each on top of those before it. Those
    /// whose bytes are in this file are in its order.
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
            tasks.extend(target.chunks_mut(size).zip(numbers).map(|(part, &layers)| (layers, part)));
        }
        // As they lie in the file, so that storage sees sequential reads.
        tasks.sort_unstable_by_key(|(layers, _)| *layers);
        in_order(pool, tasks, |(layers, part)| {
            let mut decoder = SPARE_DECODERS.take();
            let result = self.read_chunk(layers, part, &mut decoder);
            SPARE_DECODERS.put(decoder);
            result.map_err(|(record, fault)| self.chunk_error(record, fault))
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
            let layers = self.order[chunks.first + (at / size) as usize];
            at += part.len() as u64;
            tasks.push((layers, skip as usize, part));
            rest = behind;
        }
        pool.install(|| {
            tasks.into_par_iter().try_for_each(|(layers, skip, part)| {
                let raw_len = self.records[layers.first as usize].raw_len as usize;
                let mut decoder = SPARE_DECODERS.take();
                let result = if part.len() == raw_len {
                    self.read_chunk(layers, part, &mut decoder)
                } else {
                    let mut raw = std::mem::take(&mut decoder.raw);
                    grow(&mut raw, raw_len);
                    let whole = &mut raw[..raw_len];
                    let result = self.read_chunk(layers, whole, &mut decoder);
                    part.copy_from_slice(&whole[skip..skip + part.len()]);
                    decoder.raw = raw;
                    result
                };
                SPARE_DECODERS.put(decoder);
                result.map_err(|(record, fault)| self.chunk_error(record, fault))
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

    /// Reads and decodes every chunk, in parallel on `pool`, those parts that are in other shards included, and returns
    /// those that are broken, in the order of the file. `progress` is told the raw bytes of every chunk that has been looked at.
    ///
    /// # Errors
    /// [`ShardError::Read`] and [`ShardError::Memory`] where it could not be told; [`ShardError::Unsupported`] where a
    /// part of a chunk is not known here.
    pub fn verify(&self, pool: &ThreadPool, progress: &(dyn Fn(u64) + Sync)) -> Result<Vec<BrokenChunk>, ShardError> {
        let mut broken: Vec<BrokenChunk> = pool.install(|| {
            self.order
                .par_iter()
                .map(|layers| {
                    let raw_len = self.records[layers.first as usize].raw_len as usize;
                    let mut decoder = SPARE_DECODERS.take();
                    let mut raw = std::mem::take(&mut decoder.raw);
                    grow(&mut raw, raw_len);
                    let result = self.read_chunk(*layers, &mut raw[..raw_len], &mut decoder);
                    decoder.raw = raw;
                    SPARE_DECODERS.put(decoder);
                    progress(raw_len as u64);
                    match result {
                        Ok(()) => Ok(None),
                        Err((record, ChunkFault::Broken(what))) => Ok(Some(self.broken(record, what))),
                        Err((record, fault)) => Err(self.chunk_error(record, fault)),
                    }
                })
                .filter_map(Result::transpose)
                .collect::<Result<_, _>>()
        })?;
        broken.sort_by_key(|chunk| chunk.place);
        Ok(broken)
    }

    /// Reads one chunk into `raw`, which is as long as it. With a fault comes the record that it was found in.
    fn read_chunk(
        &self,
        layers: Layers,
        raw: &mut [u8],
        decoder: &mut Decoder,
    ) -> Result<(), (&ChunkRecord, ChunkFault)> {
        let mut stored = std::mem::take(&mut decoder.stored);
        let result = self.read_layers(layers, raw, decoder, &mut stored);
        decoder.stored = stored;
        result
    }

    fn read_layers(
        &self,
        layers: Layers,
        raw: &mut [u8],
        decoder: &mut Decoder,
        stored: &mut Vec<u8>,
    ) -> Result<(), (&ChunkRecord, ChunkFault)> {
        // Of a chunk in layers it is only the last checksum that is of the content asked for.
        let (mut expected, mut found) = (None, None);
        for record in self.layers(layers) {
            let read = match record.patched {
                0 => self.read_whole(record, raw, decoder, stored),
                _ => self.read_patch(record, raw, decoder, stored).map(|()| None),
            };
            (expected, found) = (Some(record), read.map_err(|fault| (record, fault))?);
        }
        match expected {
            Some(record) if found.unwrap_or_else(|| checksum(raw)) != record.raw_checksum => {
                Err((record, altered("raw")))
            }
            _ => Ok(()),
        }
    }

    /// The records that a chunk is read from.
    fn layers(&self, layers: Layers) -> &[ChunkRecord] {
        &self.records[layers.first as usize..][..layers.count as usize]
    }

    /// The file that holds the stored bytes of `record`.
    fn file_of(&self, record: &ChunkRecord) -> &dyn MediumRead {
        match usize::from(record.parent).checked_sub(1) {
            // `arrange` has refused records of files that there are not.
            Some(parent) => &*self.parent_files[parent].1,
            None => &*self.file,
        }
    }

    /// Reads the stored bytes of `record` into `stored`, which is as long as they are; returns their checksum.
    fn read_stored(&self, record: &ChunkRecord, stored: &mut [u8]) -> Result<u64, ChunkFault> {
        self.file_of(record).read_at(record.place, stored).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => ChunkFault::Broken("the file ends before it does".into()),
            _ => ChunkFault::Unread(error),
        })?;
        let checksum = checksum(stored);
        if checksum == record.stored_checksum { Ok(checksum) } else { Err(altered("stored")) }
    }

    /// Reads a record that holds all of its chunk. Returns the checksum of that where it is known already.
    fn read_whole(
        &self,
        record: &ChunkRecord,
        raw: &mut [u8],
        decoder: &mut Decoder,
        stored: &mut Vec<u8>,
    ) -> Result<Option<u64>, ChunkFault> {
        if record.codec == Codec::Raw {
            return self.read_stored(record, raw).map(Some);
        }
        let len = record.stored_len as usize;
        grow(stored, len);
        self.read_stored(record, &mut stored[..len])?;
        decoder.decode(record.codec, &stored[..len], raw)?;
        Ok(None)
    }

    /// Replaces the pages of a patch in what the records before it gave.
    fn read_patch(
        &self,
        record: &ChunkRecord,
        raw: &mut [u8],
        decoder: &mut Decoder,
        stored: &mut Vec<u8>,
    ) -> Result<(), ChunkFault> {
        let (len, patched) = (record.stored_len as usize, record.patched as usize);
        grow(stored, len);
        self.read_stored(record, &mut stored[..len])?;
        let (made, map) = stored[..len].split_at(record.made_len());
        if patch::patched_bytes(map, raw.len()) != Some(patched) {
            return Err(ChunkFault::Broken("its map of pages is not one of this patch".into()));
        }
        let mut pages = SPARE_PAGES.take();
        grow(&mut pages, patched);
        let decoded = decoder.decode(record.codec, made, &mut pages[..patched]);
        if decoded.is_ok() {
            patch::scatter(&pages[..patched], map, raw);
        }
        SPARE_PAGES.put(pages);
        Ok(decoded?)
    }

    fn field_name(&self, field: usize) -> String {
        self.outline.fields.get(field).map_or_else(String::new, |field| field.name.escape_debug().to_string())
    }

    fn broken(&self, record: &ChunkRecord, what: String) -> BrokenChunk {
        let what = match usize::from(record.parent).checked_sub(1).and_then(|parent| self.parent_files.get(parent)) {
            Some((path, _)) => format!("{what} (of the file {}, which it refers to)", path.display()),
            None => what,
        };
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

fn altered(what: &str) -> ChunkFault {
    ChunkFault::Broken(format!("its {what} bytes do not match their checksum"))
}

/// Opens the shard that `parent` names: the file of the same name in the folder of its checkpoint, beside this one's. Where
/// it is not the one that was referred to, this shard is of no use.
fn open_parent(
    medium: &dyn Medium,
    place: &ShardPlace,
    identity: &ShardIdentity,
    parent: &Parent,
) -> Result<(PathBuf, Box<dyn MediumRead>), ShardError> {
    let about = About(place.path());
    let beside = about.0.parent().and_then(Path::parent).zip(about.0.file_name());
    let Some((epoch_folder, file_name)) = beside else {
        return Err(about.damaged("it refers to other shards, and is in no folder beside which they could be"));
    };
    let path = epoch_folder.join(parent.id.folder()).join(file_name);
    let other = |what: &str| about.damaged(format!("it needs {}, which {what}", path.display()));
    let file = match place.in_file(&*path).open(medium) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(other("is not there")),
        result => result.map_err(|source| about.unread(&format!("opening {}", path.display()), source))?,
    };
    let unread = |source| about.unread(&format!("reading the header of {}", path.display()), source);
    let file_bytes = file.len().map_err(unread)?;
    if file_bytes != parent.file_bytes || file_bytes < HEADER_BYTES as u64 {
        return Err(other("is not the file that it was written against"));
    }
    let header = match read_header(About(&path), &*file, file_bytes) {
        Err(error) if error.is_damage() => return Err(other(&format!("is not sound: {error}"))),
        result => result?,
    };
    let same = Header::from_bytes(&header).is_ok_and(|header| {
        let ShardIdentity { job, epoch, id, rank, world, .. } = header.identity;
        id == parent.id && (&job, epoch, rank, world) == (&identity.job, identity.epoch, identity.rank, identity.world)
    });
    if !same || xxh3_64(&header) != parent.header_checksum {
        return Err(other("is not the file that it was written against"));
    }
    Ok((path, file))
}

/// Reads the header and checks that it is a sound one of a version that is known, and the file long enough to be a shard.
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
    if !(COMPLETE_VERSION..=FORMAT_VERSION).contains(&version) {
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

struct Index {
    outline: Outline,
    parents: Vec<Parent>,
    records: Vec<ChunkRecord>,
}

/// Reads outline, parents and records, and checks the index against its checksum before it believes any of them.
fn read_index(
    about: About<'_>,
    file: &dyn MediumRead,
    footer: &Footer,
    hasher: &mut Xxh3,
) -> Result<Index, ShardError> {
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
        .records
        .checked_mul(RECORD_BYTES as u64)
        .and_then(|records| records.checked_add(head.outline_bytes))
        .and_then(|sum| sum.checked_add(u64::from(head.parents) * PARENT_BYTES as u64))
        .and_then(|sum| sum.checked_add(INDEX_HEAD_BYTES as u64));
    let complete = footer.version == COMPLETE_VERSION;
    let fits = needed == Some(footer.index_bytes) && head.records == footer.records;
    if !fits || u32::try_from(head.records).is_err() || u8::try_from(head.parents).is_err() {
        return Err(about.damaged("the lengths in its index do not match its footer"));
    }
    if complete && head.parents > 0 {
        return Err(about.damaged("it is of a version that knows no parents, and names some"));
    }
    // Both lengths are bounded by the file's now; a sparse file may still be longer than memory is.
    let outline_len = usize::try_from(head.outline_bytes).unwrap_or(usize::MAX);
    let mut outline = about.reserved("its outline", outline_len)?;
    outline.resize(outline_len, 0);
    take(&mut outline)?;
    let mut fault = None;
    let mut parents = Vec::new();
    for _ in 0..head.parents {
        let mut bytes = [0; PARENT_BYTES];
        take(&mut bytes)?;
        match Parent::from_bytes(&bytes) {
            Ok(parent) => parents.push(parent),
            Err(found) => {
                fault.get_or_insert(found);
            }
        }
    }
    let mut records: Vec<ChunkRecord> = about.reserved("its index", head.records as usize)?;
    let mut block = vec![0; RECORD_BYTES * 1024.min(head.records as usize)];
    while records.len() < head.records as usize && fault.is_none() {
        let len = block.len().min((head.records as usize - records.len()) * RECORD_BYTES);
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
    if outline.fields.len() as u64 != u64::from(head.fields) {
        return Err(about.damaged("its outline has another number of fields than its index says"));
    }
    if complete && records.iter().any(|record| record.parent > 0 || record.patched > 0) {
        return Err(about.damaged("it is of a version that knows no parents, and refers to some"));
    }
    Ok(Index { outline, parents, records })
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

/// Checks that what the file holds itself lies back to back between header and index, that every byte of every field is in
/// exactly one chunk, and that the records of a chunk make one: the first holds all of it, the others replace pages.
fn arrange(
    about: About<'_>,
    header: &Header,
    footer: &Footer,
    outline: &Outline,
    parents: &[Parent],
    records: &[ChunkRecord],
) -> Result<(Vec<FieldChunks>, Vec<Layers>), ShardError> {
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
    if raw_bytes != footer.raw_bytes {
        return Err(about.damaged("its chunks are not those of its fields"));
    }
    let in_order = parents.windows(2).all(|pair| pair[0].id < pair[1].id);
    if !in_order || parents.last().is_some_and(|last| last.id >= header.identity.id) {
        return Err(about.damaged("its parents are not older than it, each than the next"));
    }
    const NONE: Layers = Layers { first: 0, count: 0 };
    // At most as many chunks as records.
    let mut order = about.reserved("its index", chunks as usize)?;
    order.resize(chunks as usize, NONE);
    let mut filled = 0;
    let mut place = HEADER_BYTES as u64;
    for (number, record) in records.iter().enumerate() {
        let wrong = |what: &str| {
            let ChunkRecord { field, offset, .. } = record;
            about.damaged(format!("the record of the chunk at offset {offset} of field number {field} {what}"))
        };
        match usize::from(record.parent).checked_sub(1) {
            None if record.place != place => return Err(wrong("does not start where the one before it ends")),
            // The sum is bounded by 2³² records of 2³² bytes.
            None => {
                let end = place.checked_add(u64::from(record.stored_len));
                place = end.ok_or_else(|| wrong("is too long"))?;
            }
            Some(parent) => {
                let Some(parent) = parents.get(parent) else { return Err(wrong("is in a file that it does not name")) };
                let end = record.place.checked_add(u64::from(record.stored_len));
                if record.place < HEADER_BYTES as u64 || end.is_none_or(|end| end > parent.file_bytes) {
                    return Err(wrong("is not inside the file that it refers to"));
                }
            }
        }
        let Some(field) = fields.get(record.field as usize) else { return Err(wrong("belongs to no field")) };
        let inside = record.offset < field.bytes && record.offset.is_multiple_of(size);
        if !inside || u64::from(record.raw_len) != size.min(field.bytes - record.offset) {
            return Err(wrong("is not one of its field's chunks"));
        }
        let slot = &mut order[field.first + (record.offset / size) as usize];
        let follows = slot.count > 0 && slot.first as usize + slot.count as usize == number;
        match (record.patched > 0, follows) {
            (false, _) if *slot == NONE => {
                *slot = Layers { first: number as u32, count: 1 };
                filled += 1;
            }
            (true, true) => slot.count += 1,
            (true, false) => return Err(wrong("replaces pages of nothing")),
            (false, _) => return Err(wrong("repeats another one")),
        }
    }
    if filled != chunks {
        return Err(about.damaged("its chunks are not those of its fields"));
    }
    if place != footer.index_place {
        return Err(about.damaged("its chunks do not end where its index starts"));
    }
    Ok((fields, order))
}
