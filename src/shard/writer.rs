//! Writing a shard.
//!
//! Comes in: pieces of fields, in any order, and a pool to encode them on. Goes out: the file, and a summary with its
//! digest. What must hold: where chunks lie in the file does not depend on the number of threads; every
//! byte of every field is given exactly once, or [`ShardWriter::finish`] refuses; no more than a few chunks for each
//! thread are held; what did not change since the base is referred to and not written again, and the checksum of every chunk
//! is that of what it holds now; index and footer are written last, so that a file that was left half-written is no shard; after the
//! first error nothing more is written, and no call waits for anything but the one write that the system is at.
//!
//! A thread of the writer's own does nothing but write: chunks are encoded and copied into its next buffer meanwhile.

use super::base::{Base, BaseChunk, BaseField, Layer, Parent};
use super::checksum::checksum;
use super::codec::{Compression, Encoded, Encoder, grow};
use super::joint::ShardPlace;
use super::layout::{COMPLETE_VERSION, FORMAT_VERSION, RECORD_BYTES, SMALLEST_CHUNK_BYTES};
use super::layout::{ChunkRecord, Footer, HEADER_BYTES, Header, IndexHead, LARGEST_CHUNK_BYTES, LONGEST_NAME};
use super::shelf::Shelf;
use super::{Codec, Grain, Inspect, ShardError, ShardIdentity, patch};
use crate::ids::CheckpointId;
use crate::medium::{DIRECT_ALIGNMENT, Medium, MediumWrite};
use crate::state::Outline;
use memmap2::{MmapMut, MmapOptions};
use rayon::ThreadPool;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::num::NonZeroU64;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
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
/// While the writing thread has nothing to do, it is given less than a full buffer, too, from this many bytes on.
const EAGER_BYTES: usize = 1 << 20;
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
    /// The same for each field, where they differ; empty: as `compression` says.
    pub by_field: Vec<Compression>,
    /// For each field what is done instead while the storage has nothing to write; empty: the same.
    pub in_haste: Vec<Compression>,
    /// How many threads of the pool may encode at a time; `None`: all.
    pub threads: Option<usize>,
    /// Bytes per second that are written at most.
    pub bandwidth: Option<NonZeroU64>,
    /// Raw bytes of a chunk: a multiple of 64, at most 16 MiB.
    pub chunk_bytes: usize,
    /// The time that the header gives as that of the shard's creation; `None`: now.
    pub created: Option<SystemTime>,
}

impl Default for EncodeOptions {
    fn default() -> Self {
        Self {
            compression: Compression::Auto,
            by_field: Vec::new(),
            in_haste: Vec::new(),
            threads: None,
            bandwidth: None,
            chunk_bytes: DEFAULT_CHUNK_BYTES,
            created: None,
        }
    }
}

/// Of which chunks digests are taken, by which the next shard finds what changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Digests {
    /// Of none: nothing can build on the shard.
    #[default]
    None,
    /// Of every sixteenth: enough to see that less changes than did.
    Sampled,
    /// Of all.
    All,
}

impl Digests {
    fn wanted(self, chunk: u64) -> bool {
        match self {
            Self::None => false,
            Self::Sampled => chunk.is_multiple_of(16),
            Self::All => true,
        }
    }
}

/// What a shard builds on, and what is kept for the one after it.
#[derive(Debug, Clone, Default)]
pub struct Lineage {
    /// A shard of the same rank and attempt, whose checkpoint is committed: what did not change since is not stored again.
    pub base: Option<Arc<Base>>,
    /// What the next shard shall know of this one.
    pub digests: Digests,
}

/// A patch that replaces more than this share of a chunk's pages (in percent) costs more on the way back than it saves.
const PATCH_AT_MOST_PERCENT: usize = 60;

/// Bytes of a field, to be written.
#[derive(Debug, Clone, Copy)]
pub struct Piece<'a> {
    /// The number of the field in the outline.
    pub field: usize,
    /// Where in the field's raw bytes they start: a multiple of the chunk size.
    pub offset: u64,
    /// The bytes. They end at a multiple of the chunk size, or where the field does.
    pub bytes: &'a [u8],
    /// Which of the field's pages of 4 KiB may differ from the base, a bit for each from the field's start; `None`: any.
    pub changed: Option<&'a [u64]>,
}

/// How many chunks each codec was taken for, and how many were not stored at all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CodecCounts {
    /// The same as in the base.
    pub unchanged: u64,
    /// Of those that are stored: only the pages that changed.
    pub patches: u64,
    /// Stored as they are.
    pub raw: u64,
    /// Of one value.
    pub constant: u64,
    /// Stored as byte planes.
    pub planes: u64,
}

/// What became of a shard.
#[derive(Debug, Clone)]
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
    /// The share of the pages that differ from the base, 0 to 1, of those that could be compared; `None`: none could.
    pub changed_share: Option<f64>,
    /// What the next shard may build on, once this one's checkpoint is committed.
    pub base: Option<Arc<Base>>,
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
    Write { offset: u64, buffer: Buffer, len: usize },
    Sync,
}

/// What the writing thread failed at.
type WriteFailure = (&'static str, io::Error);

/// What the writing thread and the encoding side know of each other.
#[derive(Default)]
struct Seen {
    /// The file is given up.
    abandoned: AtomicBool,
    /// Buffers that were handed over and are not written yet.
    pending: AtomicUsize,
}

/// The writing thread as seen from the encoding side: bytes go in, in order.
struct Output {
    /// Being filled.
    current: Buffer,
    filled: usize,
    /// Where `current` belongs in the file.
    offset: u64,
    orders: Option<Sender<Order>>,
    empty: Receiver<Buffer>,
    seen: Arc<Seen>,
    thread: Option<JoinHandle<Result<Duration, WriteFailure>>>,
}

fn carry_out(
    mut file: Box<dyn MediumWrite>,
    orders: &Receiver<Order>,
    empty: &Sender<Buffer>,
    seen: &Seen,
    bandwidth: Option<NonZeroU64>,
) -> Result<Duration, WriteFailure> {
    let mut busy = Duration::ZERO;
    let (begun, mut written) = (Instant::now(), 0u64);
    for order in orders {
        if seen.abandoned.load(Ordering::Relaxed) {
            break;
        }
        let start = Instant::now();
        match order {
            Order::Write { offset, buffer, len } => {
                file.write_at(offset, &buffer.bytes()[..len]).map_err(|error| ("writing", error))?;
                written += len as u64;
                if let Some(bandwidth) = bandwidth {
                    hold_back(begun, written, bandwidth, &seen.abandoned);
                }
                // Nobody takes it any more once all is written.
                let _ = empty.send(buffer);
                seen.pending.fetch_sub(1, Ordering::Release);
            }
            Order::Sync => file.sync().map_err(|error| ("making it durable", error))?,
        }
        busy += start.elapsed();
    }
    Ok(busy)
}

/// Waits until so many bytes may have been written since `begun`.
fn hold_back(begun: Instant, written: u64, bandwidth: NonZeroU64, abandoned: &AtomicBool) {
    /// Whoever gives up on the file does not wait longer than this.
    const NAP: Duration = Duration::from_millis(20);
    let due = Duration::from_secs_f64(written as f64 / bandwidth.get() as f64);
    while let Some(left) = due.checked_sub(begun.elapsed()).filter(|left| !left.is_zero()) {
        if abandoned.load(Ordering::Relaxed) {
            return;
        }
        thread::sleep(left.min(NAP));
    }
}

impl Output {
    fn start(file: Box<dyn MediumWrite>, bandwidth: Option<NonZeroU64>) -> io::Result<Self> {
        let (orders, received) = mpsc::channel();
        let (emptied, empty) = mpsc::channel();
        for _ in 1..BUFFERS {
            let _ = emptied.send(SPARE_BUFFERS.take());
        }
        let seen = Arc::new(Seen::default());
        let theirs = Arc::clone(&seen);
        let thread = thread::Builder::new()
            .name("piton-write".into())
            .spawn(move || carry_out(file, &received, &emptied, &theirs, bandwidth))?;
        Ok(Self {
            current: SPARE_BUFFERS.take(),
            filled: 0,
            offset: 0,
            orders: Some(orders),
            empty,
            seen,
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

    /// Whether the thread waits for something to write.
    fn is_idle(&self) -> bool {
        self.seen.pending.load(Ordering::Acquire) == 0
    }

    fn order(&mut self, order: Order) -> Result<(), WriteFailure> {
        if matches!(order, Order::Write { .. }) {
            self.seen.pending.fetch_add(1, Ordering::Relaxed);
        }
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
                self.flush()?;
            }
        }
        if self.filled >= EAGER_BYTES && self.is_idle() {
            self.flush_aligned()?;
        }
        Ok(())
    }

    /// Hands over what is filled but for its last bytes, which would not be aligned.
    fn flush_aligned(&mut self) -> Result<(), WriteFailure> {
        let aligned = self.filled / DIRECT_ALIGNMENT * DIRECT_ALIGNMENT;
        let Ok(mut rest) = self.empty.recv() else { return Err(self.failure()) };
        let left = self.filled - aligned;
        rest.bytes_mut()[..left].copy_from_slice(&self.current.bytes()[aligned..self.filled]);
        let buffer = std::mem::replace(&mut self.current, rest);
        let offset = self.offset;
        self.offset += aligned as u64;
        self.filled = left;
        self.order(Order::Write { offset, buffer, len: aligned })
    }

    /// Hands over what is filled.
    fn flush(&mut self) -> Result<(), WriteFailure> {
        let Ok(next) = self.empty.recv() else { return Err(self.failure()) };
        let buffer = std::mem::replace(&mut self.current, next);
        let (offset, len) = (self.offset, self.filled);
        self.offset += len as u64;
        self.filled = 0;
        self.order(Order::Write { offset, buffer, len })
    }

    /// Writes the rest, makes all durable, and tells how long the thread was busy.
    fn finish(mut self) -> Result<Duration, WriteFailure> {
        // One unaligned write makes all of a small file go through the page cache; of a large one, only its last bytes.
        if self.offset > 0 && self.filled >= DIRECT_ALIGNMENT {
            self.flush_aligned()?;
        }
        if self.filled > 0 {
            self.flush()?;
        }
        self.order(Order::Sync)?;
        self.join()
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.seen.abandoned.store(true, Ordering::Relaxed);
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
    name: String,
    bytes: u64,
    /// The number of its first chunk if the chunks of all fields are counted in order.
    first: u64,
    grain: Grain,
}

/// A chunk in the order in which it was appended.
struct Appended {
    field: u32,
    offset: u64,
    chunk: BaseChunk,
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
    appended: Vec<Appended>,
    identity: ShardIdentity,
    lineage: Lineage,
    inspect: Option<Arc<dyn Inspect>>,
    version: u32,
    /// Pages that were compared with those of the base, and those of them that differ.
    compared: u64,
    changed: u64,
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
    compression: Compression,
    /// The same while the storage has nothing to write.
    in_haste: Compression,
    raw: &'a [u8],
    /// What the base holds of it.
    base: Option<&'a BaseChunk>,
    /// The field's pages that may differ from the base.
    may_differ: Option<&'a [u64]>,
    /// Whether digests of its pages are wanted.
    digests: bool,
    /// Who wants to look at it.
    inspect: Option<&'a dyn Inspect>,
}

/// How a chunk is stored.
enum Outcome {
    /// As in the base.
    Unchanged,
    /// The pages that changed, which are so many bytes; with the checksum of all of the chunk.
    Patch {
        encoded: Encoded,
        patched: usize,
        raw_checksum: u64,
    },
    Whole(Encoded),
}

/// A chunk that is encoded.
struct Done<'a> {
    task: Task<'a>,
    /// `None`: the encoder panicked.
    outcome: Option<(Outcome, Compared)>,
    stored: Vec<u8>,
    took: Duration,
}

/// What comparing a chunk with its base gave.
struct Compared {
    /// A digest of each page, where they were taken.
    pages: Option<Box<[u64]>>,
    /// Pages that were compared, and those of them that differ.
    compared: u64,
    changed: u64,
}

/// The map of the pages that differ, and how many they are.
type Differing = (Vec<u8>, u64);

impl Task<'_> {
    /// Whether page number `page` of the chunk may differ from the base.
    fn may_differ(&self, page: usize) -> bool {
        self.may_differ.is_none_or(|words| {
            let page = self.offset as usize / patch::PAGE + page;
            // A map that is too short says nothing of the rest.
            words.get(page / 64).is_none_or(|word| word & 1 << (page % 64) != 0)
        })
    }

    /// The digests of all pages, where the base has some, and the map of those that differ from it with their number; no map
    /// where that can't be told.
    fn compare(&self) -> (Option<Box<[u64]>>, Option<Differing>) {
        let count = self.raw.len().div_ceil(patch::PAGE);
        // Pages of chunks that start in the middle of one would not be those of the map.
        let aligned = (self.offset as usize).is_multiple_of(patch::PAGE);
        let known = self.base.and_then(|base| base.pages.as_deref()).filter(|pages| pages.len() == count);
        let is_told = self.base.is_some() && self.may_differ.is_some() && aligned;
        if known.is_none() && !is_told {
            return (None, None);
        }
        let mut map = vec![0; patch::map_bytes(self.raw.len())];
        let mut differing = 0;
        let mut differs = |page: usize| {
            patch::set(&mut map, page);
            differing += 1;
        };
        let Some(known) = known else {
            (0..count).filter(|page| self.may_differ(*page)).for_each(&mut differs);
            return (None, Some((map, differing)));
        };
        let mut pages = Box::<[u64]>::from(known);
        for (number, (page, bytes)) in pages.iter_mut().zip(self.raw.chunks(patch::PAGE)).enumerate() {
            if aligned && !self.may_differ(number) {
                continue;
            }
            let digest = checksum(bytes);
            if *page != digest {
                *page = digest;
                differs(number);
            }
        }
        (Some(pages), Some((map, differing)))
    }

    /// The pages in `map`, encoded into `stored`, and behind them the map; `None` where the chunk as a whole takes less.
    fn encode_patch(
        &self,
        map: &[u8],
        base: &BaseChunk,
        encoder: &mut Encoder,
        stored: &mut Vec<u8>,
    ) -> Option<Outcome> {
        let whole_now = base.layers.first()?.record.stored_len as usize;
        let mut pages = SPARE_OUTPUTS.take();
        grow(&mut pages, self.raw.len() + map.len());
        let patched = patch::gather(self.raw, map, &mut pages);
        let mut encoded = encoder.encode(&pages[..patched], self.grain, self.compression, stored);
        let made = encoded.stored_len;
        if encoded.codec == Codec::Raw {
            std::mem::swap(stored, &mut pages);
        }
        SPARE_OUTPUTS.put(pages);
        encoded.stored_len = made + map.len();
        grow(stored, encoded.stored_len);
        stored[made..encoded.stored_len].copy_from_slice(map);
        encoded.stored_checksum = checksum(&stored[..encoded.stored_len]);
        // More of it would be read on the way back than is saved now.
        let saves = encoded.stored_len * 4 < whole_now * 3;
        saves.then(|| Outcome::Patch { encoded, patched, raw_checksum: checksum(self.raw) })
    }

    fn encode(&self, encoder: &mut Encoder, stored: &mut Vec<u8>) -> (Outcome, Compared) {
        let (pages, differing) = self.compare();
        let count = self.raw.len().div_ceil(patch::PAGE);
        let mut compared = Compared { pages, compared: 0, changed: 0 };
        let changes = self.base.zip(differing);
        if let Some((_, (_, differing))) = &changes {
            (compared.compared, compared.changed) = (count as u64, *differing);
            if *differing == 0 {
                return (Outcome::Unchanged, compared);
            }
        }
        if let Some(inspect) = self.inspect {
            inspect.look(self.field as usize, self.offset, self.raw);
        }
        if let Some((base, (map, differing))) = changes
            && differing as usize * 100 <= count * PATCH_AT_MOST_PERCENT
            && let Some(patch) = self.encode_patch(&map, base, encoder, stored)
        {
            return (patch, compared);
        }
        if compared.pages.is_none() && self.digests {
            compared.pages = Some(self.raw.chunks(patch::PAGE).map(checksum).collect());
        }
        (Outcome::Whole(encoder.encode(self.raw, self.grain, self.compression, stored)), compared)
    }
}

fn encode(task: Task<'_>) -> Done<'_> {
    let start = Instant::now();
    let (mut encoder, mut stored) = (SPARE_ENCODERS.take(), SPARE_OUTPUTS.take());
    // A panic on another thread would leave the caller waiting for this chunk.
    let outcome = catch_unwind(AssertUnwindSafe(|| task.encode(&mut encoder, &mut stored))).ok();
    if outcome.is_some() {
        SPARE_ENCODERS.put(encoder);
    }
    Done { task, outcome, stored, took: start.elapsed() }
}

impl ShardWriter {
    /// Makes the file `path`, which must not exist, for the fields of `outline` with one of `grains` each. The shard is
    /// complete in itself, and none can build on it.
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
        Self::create_in(medium, &ShardPlace::own(path), identity, outline, grains, options, Lineage::default())
    }

    /// As [`Self::create`], at any place, for a shard that builds on another or that another may build on. A base that does not fit
    /// (it is of another rank or attempt, a later checkpoint's, of other chunks) is as good as none.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub fn create_in(
        medium: &dyn Medium,
        place: &ShardPlace,
        identity: &ShardIdentity,
        outline: &Outline,
        grains: &[Grain],
        options: &EncodeOptions,
        mut lineage: Lineage,
    ) -> Result<Self, ShardError> {
        let path = place.path();
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
            fields.push(FieldState { name: field.name.clone(), bytes: field.bytes, first: chunks, grain });
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
        lineage.base = lineage.base.filter(|base| base.serves(identity, size));
        // Readers of the first version can still read what is complete in itself.
        let version = if lineage.base.is_some() { FORMAT_VERSION } else { COMPLETE_VERSION };
        let created = options.created.unwrap_or_else(SystemTime::now).duration_since(UNIX_EPOCH).unwrap_or_default();
        let header = Header {
            version,
            identity: identity.clone(),
            created: u64::try_from(created.as_nanos()).unwrap_or(u64::MAX),
            chunk_bytes: size as u32,
        }
        .to_bytes();

        let write_error = |doing, source| ShardError::Write { path: path.to_owned(), doing, source };
        let file = place.create(medium).map_err(|source| write_error("creating it", source))?;
        let mut output = Output::start(file, options.bandwidth)
            .map_err(|source| write_error("starting the writing thread", source))?;
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
            appended: Vec::new(),
            identity: identity.clone(),
            lineage,
            inspect: None,
            version,
            compared: 0,
            changed: 0,
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

    /// Lets `inspect` look at what is written from now on.
    ///
    /// It is not among the [`EncodeOptions`], which are those of a whole attempt: what is found is found in one shard.
    pub fn inspect_with(&mut self, inspect: Arc<dyn Inspect>) {
        self.inspect = Some(inspect);
    }

    fn misuse(&self, what: String) -> ShardError {
        ShardError::Misuse { path: self.path.clone(), what }
    }

    fn write_error(&self, (doing, source): WriteFailure) -> ShardError {
        ShardError::Write { path: self.path.clone(), doing, source }
    }

    /// Encodes `pieces` on `pool` and writes them, chunks of all fields in turn. They may be longer than a chunk, and are then cut.
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
        let (base, digests) = (self.lineage.base.clone(), self.lineage.digests);
        let inspect = self.inspect.clone();
        // Grain, compression and first chunk of each field, and what the base holds of it.
        let fields: Vec<(Grain, Compression, Compression, u64, Option<&BaseField>)> = (self.fields.iter().enumerate())
            .map(|(number, field)| {
                let of_base = base.as_ref().and_then(|base| base.field(number, &field.name, field.bytes, field.grain));
                let own = self.options.by_field.get(number).copied().unwrap_or(self.options.compression);
                let in_haste = self.options.in_haste.get(number).copied().unwrap_or(own);
                (field.grain, own, in_haste, field.first, of_base)
            })
            .collect();
        let mut tasks: Vec<Task<'_>> = Vec::new();
        for piece in pieces {
            let (grain, compression, in_haste, first, of_base) = fields[piece.field];
            let before = piece.offset / size as u64;
            let inspect = inspect.as_deref().filter(|inspect| inspect.wants(piece.field));
            tasks.extend(
                piece.bytes.chunks(size).zip(before..).map(|(raw, number)| Task {
                    // All of this was checked when the piece was claimed.
                    field: piece.field as u32,
                    offset: number * size as u64,
                    grain,
                    compression,
                    in_haste,
                    raw,
                    base: of_base
                        .and_then(|field| field.chunks.get(number as usize))
                        .filter(|chunk| !chunk.layers.is_empty()),
                    may_differ: piece.changed,
                    digests: digests.wanted(first + number),
                    inspect,
                }),
            );
        }
        // Of all fields in turn: some need the processor and some the storage, and so both have work all the time.
        let share = |task: &Task<'_>| task.offset as f64 / self.fields[task.field as usize].bytes as f64;
        tasks.sort_by(|a, b| share(a).total_cmp(&share(b)));
        let tasks = tasks.into_iter();
        if pool.current_thread_index().is_some() {
            for task in tasks {
                let task = self.at_the_pace_of_the_storage(task);
                self.append(encode(task))?;
            }
        } else {
            self.write_on(pool, tasks)?;
        }
        self.failed = false;
        Ok(())
    }

    fn write_on<'a>(
        &mut self,
        pool: &ThreadPool,
        mut tasks: impl Iterator<Item = Task<'a>> + Send,
    ) -> Result<(), ShardError> {
        let all = pool.current_num_threads();
        let ahead = AHEAD * all;
        // Where not all may encode, none is given a task while so many are at work.
        let at_once = self.options.threads.filter(|threads| *threads < all).map_or(ahead, |threads| threads.max(1));
        // This thread gives out the tasks and takes what comes back; the threads of the pool wait for nothing.
        pool.in_place_scope(|scope| {
            let (done, results) = mpsc::channel();
            let mut early = BTreeMap::new();
            let (mut started, mut finished, mut appended) = (0usize, 0usize, 0usize);
            loop {
                while started - appended < ahead
                    && started - finished < at_once
                    && let Some(task) = tasks.next()
                {
                    let (done, number) = (done.clone(), started);
                    let task = self.at_the_pace_of_the_storage(task);
                    started += 1;
                    scope.spawn(move |_| {
                        // Nobody listens where the write has failed.
                        let _ = done.send((number, encode(task)));
                    });
                }
                if started == appended {
                    return Ok(());
                }
                let Ok((number, result)) = results.recv() else { return Ok(()) };
                early.insert(number, result);
                finished += 1;
                while let Some(result) = early.remove(&appended) {
                    self.append(result)?;
                    appended += 1;
                }
            }
        })
    }

    /// Less work where the storage has nothing to do meanwhile.
    fn at_the_pace_of_the_storage<'a>(&self, task: Task<'a>) -> Task<'a> {
        match self.output.is_idle() {
            true => Task { compression: task.in_haste, ..task },
            false => task,
        }
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
        let Done { task, outcome, stored, took } = done;
        let Some((outcome, Compared { pages, compared, changed })) = outcome else {
            return Err(self.misuse(format!(
                "the encoder panicked over the chunk at offset {} of field number {}",
                task.offset, task.field
            )));
        };
        let layers = task.base.map(|base| base.layers.as_slice()).unwrap_or_default();
        let layers = match outcome {
            Outcome::Unchanged => {
                self.codecs.unchanged += 1;
                layers.to_vec()
            }
            Outcome::Patch { encoded, patched, raw_checksum } => {
                self.codecs.patches += 1;
                let bytes = &stored[..encoded.stored_len];
                let own = self.put_record(&task, &encoded, bytes, patched as u32, raw_checksum)?;
                layers.iter().copied().chain([own]).collect()
            }
            Outcome::Whole(encoded) => {
                let bytes = if encoded.codec == Codec::Raw { task.raw } else { &stored[..encoded.stored_len] };
                vec![self.put_record(&task, &encoded, bytes, 0, encoded.raw_checksum)?]
            }
        };
        self.appended.push(Appended { field: task.field, offset: task.offset, chunk: BaseChunk { layers, pages } });
        self.compared += compared;
        self.changed += changed;
        self.encoding += took;
        SPARE_OUTPUTS.put(stored);
        Ok(())
    }

    /// Puts the stored bytes of a chunk, or of a patch to it, into the file.
    fn put_record(
        &mut self,
        task: &Task<'_>,
        encoded: &Encoded,
        bytes: &[u8],
        patched: u32,
        raw_checksum: u64,
    ) -> Result<Layer, ShardError> {
        let record = ChunkRecord {
            field: task.field,
            offset: task.offset,
            parent: 0,
            place: self.output.place(),
            raw_len: task.raw.len() as u32,
            patched,
            stored_len: bytes.len() as u32,
            codec: encoded.codec,
            raw_checksum,
            stored_checksum: encoded.stored_checksum,
        };
        self.output.put(bytes).map_err(|failure| self.write_error(failure))?;
        self.stored_bytes += bytes.len() as u64;
        match encoded.codec {
            Codec::Raw => self.codecs.raw += 1,
            Codec::Constant { .. } => self.codecs.constant += 1,
            Codec::Planes { .. } => self.codecs.planes += 1,
        }
        Ok(Layer { file: self.identity.id, record })
    }

    /// The shards that this one refers to, in the order of their checkpoints.
    fn parents(&self) -> Vec<Parent> {
        let Some(base) = &self.lineage.base else { return Vec::new() };
        let own = self.identity.id;
        let used: BTreeSet<CheckpointId> =
            self.appended.iter().flat_map(|appended| &appended.chunk.layers).map(|layer| layer.file).collect();
        let known = base.parents.iter().chain([&base.own]);
        known.filter(|parent| parent.id != own && used.contains(&parent.id)).copied().collect()
    }

    /// Writes index and footer and makes the file durable (its name is the caller's affair).
    ///
    /// # Errors
    /// [`ShardError::Misuse`] where bytes of a field were not given; [`ShardError::Write`] where the system refuses.
    pub fn finish(mut self) -> Result<ShardSummary, ShardError> {
        if self.failed {
            return Err(self.misuse("it is finished after an error".into()));
        }
        if self.appended.len() as u64 != self.chunks {
            let missing = (0..self.chunks).find(|chunk| self.given[(chunk / 64) as usize] & 1 << (chunk % 64) == 0);
            let missing = missing.unwrap_or_default();
            let field = self.fields.partition_point(|field| field.first <= missing).saturating_sub(1);
            let first = self.fields.get(field).map_or(0, |field| field.first);
            let offset = (missing - first) * self.options.chunk_bytes as u64;
            let missing = self.chunks - self.appended.len() as u64;
            return Err(self.misuse(format!(
                "{missing} chunks were not given, the first of them at offset {offset} of field number {field}"
            )));
        }
        let parents = self.parents();
        let appended = std::mem::take(&mut self.appended);
        let records: u64 = appended.iter().map(|appended| appended.chunk.layers.len() as u64).sum();
        let head = IndexHead {
            outline_bytes: self.outline.len() as u64,
            records,
            // `create` refuses more.
            fields: self.fields.len() as u32,
            parents: parents.len() as u32,
        };
        let index_place = self.output.place();
        let mut index = Xxh3::new();
        let outline = std::mem::take(&mut self.outline);
        self.put_index(&mut index, &head.to_bytes())?;
        self.put_index(&mut index, &outline)?;
        for parent in &parents {
            self.put_index(&mut index, &parent.to_bytes())?;
        }
        let mut block = Vec::with_capacity(64 * RECORD_BYTES);
        for some in appended.chunks(64) {
            block.clear();
            for layer in some.iter().flat_map(|appended| &appended.chunk.layers) {
                let number = match layer.file == self.identity.id {
                    true => 0,
                    false => parents.iter().position(|parent| parent.id == layer.file).map_or(0, |place| place + 1),
                };
                let Ok(parent) = u8::try_from(number) else {
                    return Err(self.misuse(format!("it would refer to {number} others, which are too many")));
                };
                block.extend(ChunkRecord { parent, ..layer.record }.to_bytes());
            }
            self.put_index(&mut index, &block)?;
        }
        let index_bytes = self.output.place() - index_place;
        let bytes = self.output.place() + super::layout::FOOTER_BYTES as u64;
        let footer = Footer {
            version: self.version,
            index_place,
            index_bytes,
            index_checksum: index.digest(),
            records,
            raw_bytes: self.raw_bytes,
            file_bytes: bytes,
            header_checksum: self.header_checksum,
        }
        .to_bytes();
        self.hasher.update(&footer);
        self.output.put(&footer).map_err(|failure| self.write_error(failure))?;
        let base = self.next_base(appended, parents, bytes);
        let changed_share = (self.compared > 0).then(|| self.changed as f64 / self.compared as f64);
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
            changed_share,
            base,
        })
    }

    /// What the next shard may build on.
    fn next_base(&self, appended: Vec<Appended>, parents: Vec<Parent>, file_bytes: u64) -> Option<Arc<Base>> {
        if self.lineage.digests == Digests::None {
            return None;
        }
        let size = self.options.chunk_bytes as u64;
        let mut fields: Vec<BaseField> = (self.fields.iter())
            .map(|field| BaseField {
                name: field.name.clone(),
                bytes: field.bytes,
                grain: field.grain,
                chunks: std::iter::repeat_with(BaseChunk::default).take(field.bytes.div_ceil(size) as usize).collect(),
            })
            .collect();
        for Appended { field, offset, chunk } in appended {
            // Every chunk was claimed as one of its field.
            fields[field as usize].chunks[(offset / size) as usize] = chunk;
        }
        // One that turned out to share nothing is as good as complete, and a chain may begin with it.
        let before = self.lineage.base.as_ref().filter(|_| !parents.is_empty());
        Some(Arc::new(Base {
            identity: self.identity.clone(),
            chunk_bytes: self.options.chunk_bytes,
            own: Parent { id: self.identity.id, file_bytes, header_checksum: self.header_checksum },
            parents,
            fields,
            depth: before.map_or(1, |base| base.depth + 1),
            full_bytes: before.map_or(file_bytes, |base| base.full_bytes),
            chain_bytes: before.map_or(0, |base| base.chain_bytes + file_bytes),
        }))
    }

    fn put_index(&mut self, index: &mut Xxh3, bytes: &[u8]) -> Result<(), ShardError> {
        index.update(bytes);
        self.hasher.update(bytes);
        self.output.put(bytes).map_err(|failure| self.write_error(failure))
    }
}

const _: () = assert!(HEADER_BYTES <= BUFFER_BYTES && BUFFER_BYTES.is_multiple_of(DIRECT_ALIGNMENT));
