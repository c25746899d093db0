//! Writing a shard.
//!
//! Comes in: pieces of fields, in any order, and a pool to encode them on. Goes out: the file, and a summary with its
//! digest. What must hold: chunks lie in the file in the order of the pieces, whatever the number of threads; every
//! byte of every field is given exactly once, or [`ShardWriter::finish`] refuses; no more than a few chunks for each
//! thread are held; index and footer are written last, so that a file that was left half-written is no shard; after the
//! first error nothing more is written, and no call waits for anything but the one write that the system is at.
//!
//! A thread of the writer's own does nothing but write: chunks are encoded and copied into its next buffer meanwhile.

use super::codec::{Compression, Encoded, Encoder};
use super::layout::{ChunkRecord, Footer, HEADER_BYTES, Header, IndexHead, LARGEST_CHUNK_BYTES, LONGEST_NAME};
use super::layout::{RECORD_BYTES, SMALLEST_CHUNK_BYTES};
use super::shelf::Shelf;
use super::{Codec, Grain, ShardError, ShardIdentity};
use crate::medium::{DIRECT_ALIGNMENT, Medium, MediumWrite};
use crate::state::Outline;
use memmap2::{MmapMut, MmapOptions};
use rayon::ThreadPool;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// The raw bytes of a chunk, unless the options say otherwise.
///
/// Measured with 256 KiB to 4 MiB on nine kinds of data (`cargo bench --bench codec`): the ratio differs by less than 2
/// %; encoding is fastest from 512 KiB to 1 MiB, and decoding up to 512 KiB, since larger chunks and their planes fall
/// out of the second-level cache (4 MiB: 0.9 × the speed of both, noise 0.75 ×).
pub const DEFAULT_CHUNK_BYTES: usize = 512 << 10;

/// How many bytes the writing thread is given at once, and how many such buffers there are: one being written, one
/// ready, one being filled.
const BUFFER_BYTES: usize = 4 << 20;
const BUFFERS: usize = 3;
/// Encoded chunks that wait for their turn, for each thread of the pool.
const AHEAD: usize = 3;

static SPARE_BUFFERS: Shelf<Buffer> = Shelf::new(2 * BUFFERS);
static SPARE_ENCODERS: Shelf<Encoder> = Shelf::new(16);
static SPARE_OUTPUTS: Shelf<Vec<u8>> = Shelf::new(16 * AHEAD);

/// How a shard is to be encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodeOptions {
    /// Whether and how chunks are compressed.
    pub compression: Compression,
    /// Raw bytes of a chunk: a multiple of 64, at most 16 MiB.
    pub chunk_bytes: usize,
    /// The time that the header gives as that of the shard's creation; `None`: now.
    pub created: Option<SystemTime>,
}

impl Default for EncodeOptions {
    fn default() -> Self {
        Self { compression: Compression::Auto, chunk_bytes: DEFAULT_CHUNK_BYTES, created: None }
    }
}

/// Bytes of a field, to be written.
#[derive(Debug, Clone, Copy)]
pub struct Piece<'a> {
    /// The number of the field in the outline.
    pub field: usize,
    /// Where in the field's raw bytes they start: a multiple of the chunk size.
    pub offset: u64,
    /// The bytes. They end at a multiple of the chunk size, or where the field does.
    pub bytes: &'a [u8],
}

/// How many chunks each codec was taken for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CodecCounts {
    /// Stored as they are.
    pub raw: u64,
    /// Of one value.
    pub constant: u64,
    /// Stored as byte planes.
    pub planes: u64,
}

/// What became of a shard.
#[derive(Debug, Clone, PartialEq)]
pub struct ShardSummary {
    /// The length of the file.
    pub bytes: u64,
    /// The bytes of all fields before compression.
    pub raw_bytes: u64,
    /// The bytes of all chunks as stored.
    pub stored_bytes: u64,
    /// XXH3-128 of header, index and footer, which hold the checksums of everything else.
    pub digest: u128,
    /// What encoding took, summed over the threads of the pool.
    pub encode_seconds: f64,
    /// What writing and syncing took on the writing thread.
    pub write_seconds: f64,
    /// How many chunks each codec was taken for.
    pub codecs: CodecCounts,
}

/// Memory that the page cache may be bypassed from: of huge pages where the system has them, since a device takes a few
/// large pieces in less time than a thousand small ones.
enum Buffer {
    Mapped(MmapMut),
    /// Where nothing could be mapped: the memory, and where in it the buffer starts.
    Allocated(Vec<u8>, usize),
    None,
}

impl Default for Buffer {
    fn default() -> Self {
        match MmapOptions::new().len(BUFFER_BYTES).map_anon() {
            Ok(map) => {
                #[cfg(target_os = "linux")]
                {
                    // Only a wish.
                    let _ = map.advise(memmap2::Advice::HugePage);
                }
                Self::Mapped(map)
            }
            Err(_) => {
                let memory = vec![0; BUFFER_BYTES + DIRECT_ALIGNMENT];
                let start = memory.as_ptr().align_offset(DIRECT_ALIGNMENT).min(DIRECT_ALIGNMENT);
                Self::Allocated(memory, start)
            }
        }
    }
}

impl Buffer {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Allocated(memory, start) => &memory[*start..*start + BUFFER_BYTES],
            Self::None => &[],
        }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Allocated(memory, start) => &mut memory[*start..*start + BUFFER_BYTES],
            Self::None => &mut [],
        }
    }
}

enum Order {
    Write { offset: u64, buffer: Buffer, from: usize, to: usize },
    Sync,
}

/// What the writing thread failed at.
type WriteFailure = (&'static str, io::Error);

/// The writing thread as seen from the encoding side: bytes go in, in order.
struct Output {
    /// Being filled.
    current: Buffer,
    filled: usize,
    /// Where `current` belongs in the file.
    offset: u64,
    orders: Option<Sender<Order>>,
    empty: Receiver<Buffer>,
    abandoned: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Duration, WriteFailure>>>,
}

fn carry_out(
    mut file: Box<dyn MediumWrite>,
    orders: &Receiver<Order>,
    empty: &Sender<Buffer>,
    abandoned: &AtomicBool,
) -> Result<Duration, WriteFailure> {
    let mut busy = Duration::ZERO;
    for order in orders {
        if abandoned.load(Ordering::Relaxed) {
            break;
        }
        let start = Instant::now();
        match order {
            Order::Write { offset, buffer, from, to } => {
                file.write_at(offset, &buffer.bytes()[from..to]).map_err(|error| ("writing", error))?;
                // Nobody takes it any more once all is written.
                let _ = empty.send(buffer);
            }
            Order::Sync => file.sync().map_err(|error| ("making it durable", error))?,
        }
        busy += start.elapsed();
    }
    Ok(busy)
}

impl Output {
    fn start(file: Box<dyn MediumWrite>) -> io::Result<Self> {
        let (orders, received) = mpsc::channel();
        let (emptied, empty) = mpsc::channel();
        for _ in 1..BUFFERS {
            let _ = emptied.send(SPARE_BUFFERS.take());
        }
        let abandoned = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&abandoned);
        let thread = thread::Builder::new()
            .name("piton-write".into())
            .spawn(move || carry_out(file, &received, &emptied, &seen))?;
        Ok(Self {
            current: SPARE_BUFFERS.take(),
            filled: 0,
            offset: 0,
            orders: Some(orders),
            empty,
            abandoned,
            thread: Some(thread),
        })
    }

    fn place(&self) -> u64 {
        self.offset + self.filled as u64
    }

    /// Waits until the thread has ended.
    fn join(&mut self) -> Result<Duration, WriteFailure> {
        self.orders = None;
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(("writing", io::Error::other("the writing thread panicked"))),
            None => Err(("writing", io::Error::other("an earlier write failed"))),
        }
    }

    /// What the thread failed at, now that a channel to it is closed.
    fn failure(&mut self) -> WriteFailure {
        match self.join() {
            Err(failure) => failure,
            Ok(_) => ("writing", io::Error::other("the writing thread ended too early")),
        }
    }

    fn order(&mut self, order: Order) -> Result<(), WriteFailure> {
        match &self.orders {
            Some(orders) if orders.send(order).is_ok() => Ok(()),
            _ => Err(self.failure()),
        }
    }

    fn put(&mut self, mut bytes: &[u8]) -> Result<(), WriteFailure> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BUFFER_BYTES - self.filled));
            self.current.bytes_mut()[self.filled..self.filled + now.len()].copy_from_slice(now);
            self.filled += now.len();
            bytes = later;
            if self.filled == BUFFER_BYTES {
                self.flush(0)?;
            }
        }
        Ok(())
    }

    /// Hands over what is filled from `from` on.
    fn flush(&mut self, from: usize) -> Result<(), WriteFailure> {
        let Ok(next) = self.empty.recv() else { return Err(self.failure()) };
        let buffer = std::mem::replace(&mut self.current, next);
        let (offset, to) = (self.offset + from as u64, self.filled);
        self.offset += self.filled as u64;
        self.filled = 0;
        self.order(Order::Write { offset, buffer, from, to })
    }

    /// Writes the rest, makes all durable, and tells how long the thread was busy.
    fn finish(mut self) -> Result<Duration, WriteFailure> {
        // One unaligned write makes all of a small file go through the page cache; of a large one, only its last bytes.
        let aligned = if self.offset == 0 { 0 } else { self.filled / DIRECT_ALIGNMENT * DIRECT_ALIGNMENT };
        if aligned > 0 {
            let mut rest = match self.empty.recv() {
                Ok(buffer) => buffer,
                Err(_) => return Err(self.failure()),
            };
            rest.bytes_mut()[aligned..self.filled].copy_from_slice(&self.current.bytes()[aligned..self.filled]);
            let buffer = std::mem::replace(&mut self.current, rest);
            self.order(Order::Write { offset: self.offset, buffer, from: 0, to: aligned })?;
        }
        if self.filled > aligned {
            self.flush(aligned)?;
        }
        self.order(Order::Sync)?;
        self.join()
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.abandoned.store(true, Ordering::Relaxed);
            // Whoever gave up on the file must not find it changing afterwards.
            let _ = self.join();
        }
        for buffer in self.empty.try_iter() {
            SPARE_BUFFERS.put(buffer);
        }
        SPARE_BUFFERS.put(std::mem::replace(&mut self.current, Buffer::None));
    }
}

struct FieldState {
    bytes: u64,
    /// The number of its first chunk if the chunks of all fields are counted in order.
    first: u64,
    grain: Grain,
}

/// Writes one shard.
///
/// A writer that is dropped without [`ShardWriter::finish`] leaves a file that no reader takes for a shard.
pub struct ShardWriter {
    path: PathBuf,
    options: EncodeOptions,
    outline: Vec<u8>,
    fields: Vec<FieldState>,
    chunks: u64,
    given: Vec<u64>,
    records: Vec<ChunkRecord>,
    header_checksum: u64,
    hasher: Box<Xxh3>,
    output: Output,
    encoding: Duration,
    raw_bytes: u64,
    stored_bytes: u64,
    codecs: CodecCounts,
    failed: bool,
}

impl fmt::Debug for ShardWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShardWriter").field("path", &self.path).field("chunks", &self.chunks).finish_non_exhaustive()
    }
}

/// A chunk to be encoded.
#[derive(Clone, Copy)]
struct Task<'a> {
    field: u32,
    offset: u64,
    grain: Grain,
    raw: &'a [u8],
}

/// A chunk that is encoded.
struct Done<'a> {
    task: Task<'a>,
    /// `None`: the encoder panicked.
    encoded: Option<Encoded>,
    stored: Vec<u8>,
    took: Duration,
}

fn encode<'a>(task: Task<'a>, compression: Compression) -> Done<'a> {
    let start = Instant::now();
    let (mut encoder, mut stored) = (SPARE_ENCODERS.take(), SPARE_OUTPUTS.take());
    // A panic on another thread would leave the caller waiting for this chunk.
    let encoded =
        catch_unwind(AssertUnwindSafe(|| encoder.encode(task.raw, task.grain, compression, &mut stored))).ok();
    if encoded.is_some() {
        SPARE_ENCODERS.put(encoder);
    }
    Done { task, encoded, stored, took: start.elapsed() }
}

impl ShardWriter {
    /// Makes the file `path`, which must not exist, for the fields of `outline` with one of `grains` each.
    ///
    /// # Errors
    /// [`ShardError::Misuse`] where `identity`, `grains` or `options` make no sense; [`ShardError::Write`] where the
    /// file cannot be made.
    pub fn create(
        medium: &dyn Medium,
        path: &Path,
        identity: &ShardIdentity,
        outline: &Outline,
        grains: &[Grain],
        options: &EncodeOptions,
    ) -> Result<Self, ShardError> {
        let misuse = |what: String| Err(ShardError::Misuse { path: path.to_owned(), what });
        if identity.job.len() > LONGEST_NAME {
            return misuse(format!("the job's name is longer than {LONGEST_NAME} bytes"));
        }
        let size = options.chunk_bytes;
        if size == 0 || size > LARGEST_CHUNK_BYTES || !size.is_multiple_of(SMALLEST_CHUNK_BYTES) {
            return misuse(format!(
                "chunks of {size} bytes: the size must be a multiple of {SMALLEST_CHUNK_BYTES} up to {LARGEST_CHUNK_BYTES}"
            ));
        }
        if grains.len() != outline.fields.len() {
            return misuse(format!("{} fields, but the grains of {}", outline.fields.len(), grains.len()));
        }
        if u32::try_from(outline.fields.len()).is_err() {
            return misuse(format!("{} fields are too many", outline.fields.len()));
        }
        let mut fields = Vec::with_capacity(grains.len());
        let (mut chunks, mut raw_bytes) = (0u64, 0u64);
        for (field, &grain) in outline.fields.iter().zip(grains) {
            let sound = matches!(grain.lane, 1 | 2 | 4 | 8) && grain.stride > 0 && grain.stride % grain.lane == 0;
            if !sound {
                return misuse(format!(
                    "field `{}`: no elements of {} bytes consist of scalars of {}",
                    field.name, grain.stride, grain.lane
                ));
            }
            fields.push(FieldState { bytes: field.bytes, first: chunks, grain });
            chunks += field.bytes.div_ceil(size as u64);
            match raw_bytes.checked_add(field.bytes) {
                Some(sum) => raw_bytes = sum,
                None => return misuse(format!("field `{}` has {} bytes", field.name, field.bytes)),
            }
        }
        let marks = usize::try_from(chunks.div_ceil(64)).unwrap_or(usize::MAX);
        let mut given = Vec::new();
        if given.try_reserve_exact(marks).is_err() {
            let what = "the list of chunks".into();
            return Err(ShardError::Memory { path: path.to_owned(), what, bytes: chunks / 8 });
        }
        given.resize(marks, 0);
        let outline = match serde_json::to_vec(outline) {
            Ok(outline) => outline,
            Err(error) => return misuse(format!("the outline cannot be written as JSON: {error}")),
        };
        let created = options.created.unwrap_or_else(SystemTime::now).duration_since(UNIX_EPOCH).unwrap_or_default();
        let header = Header {
            identity: identity.clone(),
            created: u64::try_from(created.as_nanos()).unwrap_or(u64::MAX),
            chunk_bytes: size as u32,
        }
        .to_bytes();

        let write_error = |doing, source| ShardError::Write { path: path.to_owned(), doing, source };
        let file = medium.create(path).map_err(|source| write_error("creating it", source))?;
        let mut output = Output::start(file).map_err(|source| write_error("starting the writing thread", source))?;
        output.put(&header).map_err(|(doing, source)| write_error(doing, source))?;
        let mut hasher = Box::new(Xxh3::new());
        hasher.update(&header);
        Ok(Self {
            path: path.to_owned(),
            options: options.clone(),
            outline,
            fields,
            chunks,
            given,
            records: Vec::new(),
            header_checksum: xxh3_64(&header),
            hasher,
            output,
            encoding: Duration::ZERO,
            raw_bytes,
            stored_bytes: 0,
            codecs: CodecCounts::default(),
            failed: false,
        })
    }

    fn misuse(&self, what: String) -> ShardError {
        ShardError::Misuse { path: self.path.clone(), what }
    }

    fn write_error(&self, (doing, source): WriteFailure) -> ShardError {
        ShardError::Write { path: self.path.clone(), doing, source }
    }

    /// Encodes `pieces` on `pool` and writes them in their order. They may be longer than a chunk, and are then cut.
    ///
    /// Returns when all are encoded; the last of them may still be on their way to the file. Called on a thread of
    /// `pool` itself, it encodes on that thread alone.
    ///
    /// # Errors
    /// [`ShardError::Misuse`] where a piece is not inside its field, does not start and end where chunks do, or was
    /// given before; [`ShardError::Write`] where the system refuses a write, which may be one of an earlier call. After
    /// an error the writer is of no use any more.
    pub fn write(&mut self, pool: &ThreadPool, pieces: &[Piece<'_>]) -> Result<(), ShardError> {
        if self.failed {
            return Err(self.misuse("it is written to after an error".into()));
        }
        // Until the end of this call says otherwise.
        self.failed = true;
        for piece in pieces {
            self.claim(piece)?;
        }
        let size = self.options.chunk_bytes;
        let grains: Vec<Grain> = self.fields.iter().map(|field| field.grain).collect();
        let tasks = pieces.iter().flat_map(|piece| {
            let grain = grains[piece.field];
            piece.bytes.chunks(size).zip(0u64..).map(move |(raw, number)| Task {
                // All of this was checked when the piece was claimed.
                field: piece.field as u32,
                offset: piece.offset + number * size as u64,
                grain,
                raw,
            })
        });
        let compression = self.options.compression;
        if pool.current_thread_index().is_some() {
            for task in tasks {
                self.append(encode(task, compression))?;
            }
        } else {
            self.write_on(pool, tasks, compression)?;
        }
        self.failed = false;
        Ok(())
    }

    fn write_on<'a>(
        &mut self,
        pool: &ThreadPool,
        mut tasks: impl Iterator<Item = Task<'a>> + Send,
        compression: Compression,
    ) -> Result<(), ShardError> {
        let ahead = AHEAD * pool.current_num_threads();
        // This thread gives out the tasks and takes what comes back; the threads of the pool wait for nothing.
        pool.in_place_scope(|scope| {
            let (done, results) = mpsc::channel();
            let mut early = BTreeMap::new();
            let (mut started, mut appended) = (0usize, 0usize);
            loop {
                while started - appended < ahead
                    && let Some(task) = tasks.next()
                {
                    let (done, number) = (done.clone(), started);
                    started += 1;
                    scope.spawn(move |_| {
                        // Nobody listens where the write has failed.
                        let _ = done.send((number, encode(task, compression)));
                    });
                }
                if started == appended {
                    return Ok(());
                }
                let Ok((number, result)) = results.recv() else { return Ok(()) };
                early.insert(number, result);
                while let Some(result) = early.remove(&appended) {
                    self.append(result)?;
                    appended += 1;
                }
            }
        })
    }

    /// Checks that a piece fits, and marks its chunks as given.
    fn claim(&mut self, piece: &Piece<'_>) -> Result<(), ShardError> {
        let size = self.options.chunk_bytes as u64;
        let refused = |what: &str| {
            let (path, field) = (self.path.clone(), piece.field);
            Err(ShardError::Misuse {
                path,
                what: format!("piece at offset {} of field number {field} {what}", piece.offset),
            })
        };
        let Some(field) = self.fields.get(piece.field) else { return refused("belongs to no field of the outline") };
        let end = piece.offset.checked_add(piece.bytes.len() as u64).filter(|&end| end <= field.bytes);
        let Some(end) = end else { return refused("reaches past the field's end") };
        if piece.bytes.is_empty() {
            return Ok(());
        }
        if !piece.offset.is_multiple_of(size) || !(end.is_multiple_of(size) || end == field.bytes) {
            return refused("does not start and end where chunks do");
        }
        for chunk in field.first + piece.offset / size..field.first + end.div_ceil(size) {
            // `given` has a bit for every chunk of every field, so this fits.
            let (word, bit) = ((chunk / 64) as usize, 1u64 << (chunk % 64));
            if self.given[word] & bit != 0 {
                return refused("was given before");
            }
            self.given[word] |= bit;
        }
        Ok(())
    }

    fn append(&mut self, done: Done<'_>) -> Result<(), ShardError> {
        let Done { task, encoded, stored, took } = done;
        let Some(encoded) = encoded else {
            return Err(self.misuse(format!(
                "the encoder panicked over the chunk at offset {} of field number {}",
                task.offset, task.field
            )));
        };
        let bytes = if encoded.codec == Codec::Raw { task.raw } else { &stored[..encoded.stored_len] };
        let record = ChunkRecord {
            field: task.field,
            offset: task.offset,
            place: self.output.place(),
            raw_len: task.raw.len() as u32,
            stored_len: bytes.len() as u32,
            codec: encoded.codec,
            raw_checksum: encoded.raw_checksum,
            stored_checksum: encoded.stored_checksum,
        };
        self.output.put(bytes).map_err(|failure| self.write_error(failure))?;
        self.records.push(record);
        self.encoding += took;
        self.stored_bytes += bytes.len() as u64;
        match encoded.codec {
            Codec::Raw => self.codecs.raw += 1,
            Codec::Constant { .. } => self.codecs.constant += 1,
            Codec::Planes { .. } => self.codecs.planes += 1,
        }
        SPARE_OUTPUTS.put(stored);
        Ok(())
    }

    /// Writes index and footer and makes the file durable (its name is the caller's affair).
    ///
    /// # Errors
    /// [`ShardError::Misuse`] where bytes of a field were not given; [`ShardError::Write`] where the system refuses.
    pub fn finish(mut self) -> Result<ShardSummary, ShardError> {
        if self.failed {
            return Err(self.misuse("it is finished after an error".into()));
        }
        if self.records.len() as u64 != self.chunks {
            let missing = (0..self.chunks).find(|chunk| self.given[(chunk / 64) as usize] & 1 << (chunk % 64) == 0);
            let missing = missing.unwrap_or_default();
            let field = self.fields.partition_point(|field| field.first <= missing).saturating_sub(1);
            let first = self.fields.get(field).map_or(0, |field| field.first);
            let offset = (missing - first) * self.options.chunk_bytes as u64;
            let missing = self.chunks - self.records.len() as u64;
            return Err(self.misuse(format!(
                "{missing} chunks were not given, the first of them at offset {offset} of field number {field}"
            )));
        }
        let head = IndexHead {
            outline_bytes: self.outline.len() as u64,
            chunks: self.chunks,
            fields: self.fields.len() as u64,
        };
        let index_place = self.output.place();
        let mut index = Xxh3::new();
        let outline = std::mem::take(&mut self.outline);
        let records = std::mem::take(&mut self.records);
        self.put_index(&mut index, &head.to_bytes())?;
        self.put_index(&mut index, &outline)?;
        let mut block = Vec::with_capacity(64 * RECORD_BYTES);
        for some in records.chunks(64) {
            block.clear();
            block.extend(some.iter().flat_map(|record| record.to_bytes()));
            self.put_index(&mut index, &block)?;
        }
        let index_bytes = self.output.place() - index_place;
        let bytes = self.output.place() + super::layout::FOOTER_BYTES as u64;
        let footer = Footer {
            index_place,
            index_bytes,
            index_checksum: index.digest(),
            chunks: self.chunks,
            raw_bytes: self.raw_bytes,
            file_bytes: bytes,
            header_checksum: self.header_checksum,
        }
        .to_bytes();
        self.hasher.update(&footer);
        self.output.put(&footer).map_err(|failure| self.write_error(failure))?;
        let Self { path, output, hasher, raw_bytes, stored_bytes, codecs, encoding, .. } = self;
        let writing = output.finish().map_err(|(doing, source)| ShardError::Write { path, doing, source })?;
        Ok(ShardSummary {
            bytes,
            raw_bytes,
            stored_bytes,
            digest: hasher.digest128(),
            encode_seconds: encoding.as_secs_f64(),
            write_seconds: writing.as_secs_f64(),
            codecs,
        })
    }

    fn put_index(&mut self, index: &mut Xxh3, bytes: &[u8]) -> Result<(), ShardError> {
        index.update(bytes);
        self.hasher.update(bytes);
        self.output.put(bytes).map_err(|failure| self.write_error(failure))
    }
}

const _: () = assert!(HEADER_BYTES <= BUFFER_BYTES && BUFFER_BYTES.is_multiple_of(DIRECT_ALIGNMENT));
