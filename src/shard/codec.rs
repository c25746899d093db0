//! How the bytes of one chunk become stored bytes, and back.
//!
//! Comes in: the raw bytes of a chunk and the grain of its field. Goes out: what to store, and the checksums. What must
//! hold: decoding gives the raw bytes back; no chunk is stored in more bytes than it has; what is chosen depends on
//! nothing but the bytes, the grain and the options; the decoder survives any input.
//!
//! A chunk of one value costs nothing. For others a sample tells the entropy of each byte plane, of the scalars
//! and of their differences: the better of the two is taken. Of the planes that promise a gain, those that mostly are
//! runs of one value become a Zstandard frame that is made here, of nothing but runs and bytes as they are; zstd is
//! spent on the others only where its time is worth what it saves; and if all of that saves too little, the chunk is
//! stored as it is.

use super::checksum::checksum;
use super::filter::{self, Histograms};
use std::fmt;
use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::{self, CParameter};

/// What the elements of a field look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grain {
    /// Bytes from one element to the next: a multiple of `lane`.
    pub stride: usize,
    /// Bytes of one scalar: 1, 2, 4 or 8; 1 where there is none.
    pub lane: usize,
}

impl Grain {
    /// Of bytes that no more is known of.
    pub const BYTES: Self = Self { stride: 1, lane: 1 };
}

/// Whether and how chunks are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// What costs next to nothing: planes of one value, and runs. For storage that takes more than 0.5 GB/s from each core
    /// that encodes: above that, what the next effort saves costs more time than writing it. Measured with a whole writer
    /// (ratio at GB/s of raw bytes that one core encodes): smooth f64 1.33 at 2.8, noisy f64 1.33 at 2.8, rounded f64 2.6 at
    /// 2.6, water of the tsunami 9.4 at 3.3.
    Fastest,
    /// Where it is fast and pays, judged chunk by chunk: smooth f64 1.45 at 2.0 GB/s, noisy f64 1.44 at 2.1, rounded f64 4.1
    /// at 1.6, tsunami 9.6 at 3.2.
    #[default]
    Auto,
    /// Twice the time for what zstd finds quickly in all planes that promise anything. For storage that takes less than
    /// 0.1 to 0.2 GB/s from each core: smooth f64 1.55 at 1.4 GB/s, noisy f64 1.44 at 2.1, rounded f64 5.2 at 1.0, tsunami 13.9 at
    /// 1.3.
    Thorough,
    /// Whatever zstd's level 3 makes smaller: smooth f64 1.56 at 1.4 GB/s, noisy f64 1.44 at 1.0, rounded f64 5.3 at 0.65,
    /// tsunami 13.9 at 1.3, smooth f32 3.1 at 0.6 (and 2.2 at 1.4 if only thoroughly).
    Smallest,
    /// Not at all: only checksums.
    Raw,
    /// Whatever saves space, with zstd at this level.
    Zstd(i32),
}

impl Compression {
    /// The efforts among which a caller may go up where it measures that storage is slow, and down where it is fast:
    /// from the fastest to the one that saves most.
    pub const EFFORTS: [Self; 4] = [Self::Fastest, Self::Auto, Self::Thorough, Self::Smallest];
}

/// How a chunk is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Codec {
    /// As it is.
    Raw,
    /// Not at all: its bytes repeat this pattern.
    Constant {
        /// The first 8 bytes; of a shorter last repetition, its start counts.
        pattern: [u8; 8],
    },
    /// As byte planes, each as it is, or compressed by zstd, or of one value.
    Planes {
        /// Bytes of one scalar: 1, 2, 4 or 8.
        lane: u8,
        /// Bytes back to the scalar from which the difference was taken; 0 where the scalars are as they were.
        stride: u32,
    },
}

impl Codec {
    /// The codec's name: `raw`, `constant` or `planes`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Constant { .. } => "constant",
            Self::Planes { .. } => "planes",
        }
    }
}

/// Every plane starts, in the head of the stored bytes, with a word: its kind in the upper two bits, and in the others
/// how many bytes are stored of it (of kind `ONE_VALUE`: the value, and none is).
const KIND_SHIFT: u32 = 30;
const AS_IT_IS: u32 = 0;
const ZSTD: u32 = 1;
const ONE_VALUE: u32 = 2;
/// The same bytes as a lower plane, whose number the length gives.
const AS_ANOTHER: u32 = 3;

/// Chunks up to this size are not sampled: zstd may see in them what a count of bytes does not, and costs little.
const SMALL: usize = 16 << 10;

/// How zstd is to look for repetitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Search {
    /// Hardly: what it saves comes from the bytes' frequencies.
    Skipping,
    /// Only for long ones, and with a small table.
    Quick,
    /// As zstd does at this level.
    Level(i32),
}

impl Search {
    fn compressor(self) -> Option<Compressor<'static>> {
        let mut compressor = Compressor::new(if let Self::Level(level) = self { level } else { 1 }).ok()?;
        let parameters: &[CParameter] = match self {
            Self::Skipping => &SKIPPING,
            Self::Quick => &QUICK,
            Self::Level(_) => &[],
        };
        for parameter in parameters {
            compressor.set_parameter(*parameter).ok()?;
        }
        Some(compressor)
    }
}

/// Byte planes have few long matches, and what zstd finds of short ones costs more time than it saves room; their bytes' own
/// frequencies do the rest. Measured against level 1 (ratio at GB/s of one core): rounded f64 5.33 at 0.44 → 5.24 at 0.87,
/// uniformly random f64 1.14 at 1.4 → 1.14 at 2.1, smooth f32 2.00 at 1.5 → 2.00 at 2.4.
const QUICK: [CParameter; 3] =
    [CParameter::Strategy(zstd_safe::Strategy::ZSTD_fast), CParameter::MinMatch(7), CParameter::HashLog(8)];

/// The steps between the places where a match is looked for are zstd's "target length"; with one, it would store all else
/// as it is, unless told. Measured against [`QUICK`], with everything else as it is now: smooth f64 1.56 at 1.6 → 1.45 at
/// 2.5, rounded f64 5.1 at 1.0 → 4.1 at 1.7.
const SKIPPING: [CParameter; 5] = [
    CParameter::Strategy(zstd_safe::Strategy::ZSTD_fast),
    CParameter::MinMatch(7),
    CParameter::HashLog(6),
    CParameter::TargetLength(1024),
    CParameter::LiteralCompressionMode(zstd_safe::ParamSwitch::Enable),
];

/// How much is done for a gain.
#[derive(Debug, Clone, Copy)]
struct Effort {
    /// Planes of more bits of entropy for a byte are not given to zstd.
    limit: f32,
    /// Planes of more bits are not searched for runs either. Half of a plane at rest leaves 5 bits if the other is noise, a
    /// quarter 6.8.
    limit_of_runs: f32,
    /// The same where there is but one plane: words that repeat are not seen in a count of bytes.
    limit_alone: f32,
    /// Of a plane's bytes, the part down to which runs must bring it for zstd not to be tried.
    enough: f32,
    /// For planes without runs, for those with some, and for bytes that are no planes.
    searches: Option<[Search; 3]>,
    /// Part of the chunk that must be saved: less is not worth decoding.
    least: f32,
}

impl Effort {
    /// `None`: none.
    fn of(compression: Compression) -> Option<Self> {
        let least = 1.0 / 32.0;
        Some(match compression {
            Compression::Raw => return None,
            Compression::Fastest => {
                Self { limit: 7.0, limit_of_runs: 7.0, limit_alone: 7.0, enough: 1.0, searches: None, least }
            }
            // Measured for the limit on planes of smooth pairs of f64, by zstd alone (ratio at GB/s of one core): 1.42 at 0.8 with
            // 7.2, 1.37 at 1.0 with 6.5, 1.32 at 1.4 with 5. Planes above it cost more time than disks take for what they save.
            // What is enough, on the water of the tsunami: 10.9 at 2.2 with a fifth, 9.6 at 3.7 with a half.
            Compression::Auto => Self {
                limit: 5.0,
                limit_of_runs: 7.0,
                limit_alone: 7.2,
                enough: 0.5,
                searches: Some([Search::Skipping, Search::Quick, Search::Quick]),
                least,
            },
            Compression::Thorough => Self {
                limit: 7.2,
                limit_of_runs: 7.2,
                limit_alone: 7.5,
                enough: 1.0 / 64.0,
                searches: Some([Search::Quick, Search::Quick, Search::Level(1)]),
                least,
            },
            // Between the runs there mostly is noise, in which level 3 finds short matches that cost more than they save: the
            // water of the tsunami becomes 2 % larger.
            Compression::Smallest => {
                Self { searches: Some([Search::Level(3), Search::Quick, Search::Level(3)]), ..Self::level(3) }
            }
            Compression::Zstd(level) => Self::level(level),
        })
    }

    fn level(level: i32) -> Self {
        Self {
            limit: 7.9,
            limit_of_runs: 7.9,
            limit_alone: 7.9,
            enough: 0.0,
            searches: Some([Search::Level(level); 3]),
            least: 0.0,
        }
    }
}

/// Runs that save less than a plane's length by this are not worth the blocks that a reader has to go through.
const SOME_RUNS: usize = 4;

/// The outcome of [`Encoder::encode`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Encoded {
    pub codec: Codec,
    /// How many bytes of the output to store; for [`Codec::Raw`] it is the chunk itself that is stored.
    pub stored_len: usize,
    pub raw_checksum: u64,
    pub stored_checksum: u64,
}

/// Encodes one chunk after the other and keeps its buffers.
pub(super) struct Encoder {
    planes: Vec<u8>,
    contexts: Contexts,
    plain: Box<Histograms>,
    differences: Box<Histograms>,
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder").field("planes", &self.planes.len()).finish_non_exhaustive()
    }
}

impl Default for Encoder {
    fn default() -> Self {
        Self {
            planes: Vec::new(),
            contexts: Contexts::default(),
            plain: Box::new([[0; 256]; 8]),
            differences: Box::new([[0; 256]; 8]),
        }
    }
}

/// What the sample promised.
struct Plan {
    /// In lanes; 0: no differences.
    distance: usize,
    planes: [Promise; 8],
}

/// Of one plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Promise {
    /// Nothing.
    None,
    /// Only what runs there may be.
    Runs,
    /// A gain that zstd finds, too.
    Gain,
}

impl Encoder {
    /// Encodes `raw`; what is to be stored is in `stored`, which grows as needed. `grain` must be sound: see [`Grain`].
    pub(super) fn encode(
        &mut self,
        raw: &[u8],
        grain: Grain,
        compression: Compression,
        stored: &mut Vec<u8>,
    ) -> Encoded {
        let raw_checksum = checksum(raw);
        let as_it_is =
            Encoded { codec: Codec::Raw, stored_len: raw.len(), raw_checksum, stored_checksum: raw_checksum };
        let Some(effort) = Effort::of(compression) else { return as_it_is };
        if let Some(pattern) = pattern_of(raw) {
            let codec = Codec::Constant { pattern };
            return Encoded { codec, stored_len: 0, raw_checksum, stored_checksum: checksum(&[]) };
        }
        let Some(plan) = self.plan(raw, grain, &effort) else { return as_it_is };
        let Some(stored_len) = self.encode_planes(raw, grain.lane, &plan, &effort, stored) else { return as_it_is };
        if stored_len + (raw.len() as f32 * effort.least) as usize >= raw.len() {
            return as_it_is;
        }
        // Distances are below the number of lanes, and chunks below 2³² bytes.
        let codec = Codec::Planes { lane: grain.lane as u8, stride: (plan.distance * grain.lane) as u32 };
        Encoded { codec, stored_len, raw_checksum, stored_checksum: checksum(&stored[..stored_len]) }
    }

    fn plan(&mut self, raw: &[u8], grain: Grain, effort: &Effort) -> Option<Plan> {
        let lane = grain.lane;
        let lanes = raw.len() / lane;
        // Bytes of no known structure have no neighbours to differ from. Elements larger than half the chunk: at least
        // their scalars may be alike.
        let distance = match grain.stride / lane {
            1 if lane == 1 => 0,
            distance if distance <= lanes / 2 => distance,
            _ => 1,
        };
        let seen = filter::sample(lane, raw, distance, &mut self.plain, &mut self.differences);
        let differences = filter::entropies(lane, seen, &self.differences);
        let plain = filter::entropies(lane, seen, &self.plain);
        let (limit, limit_of_runs) =
            if lane == 1 { (effort.limit_alone, effort.limit_alone) } else { (effort.limit, effort.limit_of_runs) };
        let promise = |bits: &[f32; 8]| {
            bits.iter().take(lane).filter(|&&bits| bits < limit_of_runs).map(|b| 8.0 - b).sum::<f32>()
        };
        let (bits, distance) =
            if promise(&differences) >= promise(&plain) { (differences, distance) } else { (plain, 0) };
        if raw.len() <= SMALL {
            return Some(Plan { distance, planes: [Promise::Gain; 8] });
        }
        (promise(&bits) > effort.least * 8.0 * lane as f32).then(|| Plan {
            distance,
            planes: bits.map(|bits| match bits {
                _ if bits < limit => Promise::Gain,
                _ if bits < limit_of_runs => Promise::Runs,
                _ => Promise::None,
            }),
        })
    }

    /// Fills `stored`; `None` where that would take as many bytes as `raw`.
    fn encode_planes(
        &mut self,
        raw: &[u8],
        lane: usize,
        plan: &Plan,
        effort: &Effort,
        stored: &mut Vec<u8>,
    ) -> Option<usize> {
        let lanes = raw.len() / lane;
        if lanes == 0 {
            return None;
        }
        let (whole, tail) = raw.split_at(lanes * lane);
        let head = 4 * lane;
        grow(&mut self.planes, raw.len());
        grow(stored, raw.len());
        // The lowest planes of floating-point numbers are noise: they need no copy on their way.
        let ready = plan.planes.iter().take(lane).take_while(|promise| **promise == Promise::None).count();
        let (_, rest) = stored[..raw.len()].split_at_mut_checked(head)?;
        let (direct, _) = rest.split_at_mut_checked(ready * lanes)?;
        let mut cuts = direct.chunks_mut(lanes).chain(self.planes.chunks_mut(lanes));
        let mut outs: [&mut [u8]; 8] = [(); 8].map(|()| cuts.next().unwrap_or_default());
        filter::split(lane, whole, plan.distance, &mut outs);
        let stored = &mut stored[..raw.len()];
        for word in stored[..4 * ready].chunks_exact_mut(4) {
            word.copy_from_slice(&(AS_IT_IS << KIND_SHIFT | lanes as u32).to_le_bytes());
        }
        let mut at = head + ready * lanes;
        let planes = &self.planes[..];
        for (number, promise) in plan.planes.iter().enumerate().take(lane).skip(ready) {
            let plane = &planes[(number - ready) * lanes..(number - ready + 1) * lanes];
            let (kind, len) = if let Some(value) = one_value(plane) {
                (ONE_VALUE, u32::from(value))
            } else if let Some(other) =
                (ready..number).find(|other| planes[(other - ready) * lanes..(other - ready + 1) * lanes] == *plane)
            {
                // The lowest planes of numbers that were rounded differ by nothing but the sign of the difference.
                (AS_ANOTHER, other as u32)
            } else {
                let room = stored.get_mut(at..)?;
                let compressed = compress(&mut self.contexts, effort, *promise, lane == 1, plane, room);
                let len = match compressed {
                    Some(len) => len,
                    None => {
                        room.get_mut(..lanes)?.copy_from_slice(plane);
                        lanes
                    }
                };
                at += len;
                (if compressed.is_some() { ZSTD } else { AS_IT_IS }, len as u32)
            };
            let word = kind << KIND_SHIFT | len;
            stored.get_mut(4 * number..4 * number + 4)?.copy_from_slice(&word.to_le_bytes());
        }
        stored.get_mut(at..at + tail.len())?.copy_from_slice(tail);
        at += tail.len();
        (at < raw.len()).then_some(at)
    }
}

/// Makes `buffer` at least `len` long. It is never shortened, so that no chunk pays for clearing it again.
pub(super) fn grow(buffer: &mut Vec<u8>, len: usize) {
    if buffer.len() < len {
        buffer.resize(len, 0);
    }
}

/// The 8 bytes that all of `raw` repeats.
fn pattern_of(raw: &[u8]) -> Option<[u8; 8]> {
    let pattern = raw.first_chunk::<8>()?;
    (raw[8..] == raw[..raw.len() - 8]).then_some(*pattern)
}

fn one_value(plane: &[u8]) -> Option<u8> {
    let first = *plane.first()?;
    (plane[1..] == plane[..plane.len() - 1]).then_some(first)
}

/// zstd's states, each for one way to search; the latest first.
#[derive(Default)]
struct Contexts(Vec<(Search, Compressor<'static>)>);

impl Contexts {
    /// As many as one effort needs.
    const MOST: usize = 3;

    fn compress(&mut self, search: Search, plane: &[u8], room: &mut [u8]) -> Option<usize> {
        let at = match self.0.iter().position(|(of, _)| *of == search) {
            Some(at) => at,
            None => {
                self.0.truncate(Self::MOST - 1);
                self.0.insert(0, (search, search.compressor()?));
                0
            }
        };
        self.0.get_mut(at)?.1.compress_to_buffer(plane, room).ok()
    }
}

/// Makes a Zstandard frame of `plane` in `room`, if that saves anything. A failure of zstd is none of ours: the plane is
/// stored raw, then.
fn compress(
    contexts: &mut Contexts,
    effort: &Effort,
    promise: Promise,
    alone: bool,
    plane: &[u8],
    room: &mut [u8],
) -> Option<usize> {
    if promise == Promise::None {
        return None;
    }
    let limit = plane.len().saturating_sub(plane.len() / 32).min(room.len());
    let room = &mut room[..limit];
    let few = (plane.len() - plane.len() / SOME_RUNS).min(room.len());
    let by_runs = runs(plane, &mut room[..few]);
    let Some([search, of_runs, of_bytes]) = effort.searches else { return by_runs };
    let enough = by_runs.is_some_and(|len| len as f32 <= plane.len() as f32 * effort.enough);
    if enough || promise == Promise::Runs {
        return by_runs;
    }
    let search = match by_runs {
        _ if alone => of_bytes,
        Some(_) => of_runs,
        None => search,
    };
    let by_zstd = contexts.compress(search, plane, room);
    match by_runs {
        // zstd has written over them.
        Some(len) if by_zstd.is_none_or(|by_zstd| by_zstd >= len) => runs(plane, room),
        _ => by_zstd.filter(|len| *len < plane.len()),
    }
}

/// A Zstandard frame (RFC 8878) that is made of blocks without any entropy coding.
struct Frame<'a> {
    room: &'a mut [u8],
    at: usize,
    /// Where the head of the latest block is.
    latest: usize,
}

impl<'a> Frame<'a> {
    const LARGEST_BLOCK: usize = 128 << 10;
    const AS_IT_IS: u32 = 0;
    const RUN: u32 = 1;

    /// Of `len` bytes, in one segment; `None` where there is no room.
    fn start(len: usize, room: &'a mut [u8]) -> Option<Self> {
        let mut frame = Self { room, at: 0, latest: 0 };
        let len = u32::try_from(len).ok()?;
        frame.put(&0xfd2f_b528_u32.to_le_bytes())?;
        // One segment, so that no window need be told; its length follows in four bytes.
        frame.put(&[0b1010_0000])?;
        frame.put(&len.to_le_bytes())?;
        Some(frame)
    }

    fn put(&mut self, bytes: &[u8]) -> Option<()> {
        self.room.get_mut(self.at..self.at + bytes.len())?.copy_from_slice(bytes);
        self.at += bytes.len();
        Some(())
    }

    fn head(&mut self, kind: u32, len: usize) -> Option<()> {
        self.latest = self.at;
        self.put(&((len as u32) << 3 | kind << 1).to_le_bytes()[..3])
    }

    fn as_it_is(&mut self, bytes: &[u8]) -> Option<()> {
        for part in bytes.chunks(Self::LARGEST_BLOCK) {
            self.head(Self::AS_IT_IS, part.len())?;
            self.put(part)?;
        }
        Some(())
    }

    fn run(&mut self, value: u8, mut len: usize) -> Option<()> {
        while len > 0 {
            let part = len.min(Self::LARGEST_BLOCK);
            self.head(Self::RUN, part)?;
            self.put(&[value])?;
            len -= part;
        }
        Some(())
    }

    /// The frame's length, now that the latest block is the last; `None` where there is none.
    fn finish(self) -> Option<usize> {
        if self.latest == 0 {
            return None;
        }
        *self.room.get_mut(self.latest)? |= 1;
        Some(self.at)
    }
}

/// A run takes four bytes, and three more for the head of what follows: it must save some time, too. Measured on the water
/// of the tsunami (ratio at GB/s of encoding, and of decoding): 9.21 at 3.4 and 9.6 with 32, 9.61 at 3.7 and 9.7 with 12, 9.59
/// at 3.8 and 9.5 with 8.
const SHORTEST_RUN: usize = 12;
/// Bytes that each run of a plane must save on average.
const WORTHWHILE_RUN: usize = 16;

/// Makes a frame of the runs in `plane`, and of what lies between them; `None` where there is not room enough.
///
/// Fields that are still at rest somewhere, or masked, or cut off, have planes of which most is one value and the rest is noise:
/// zstd would search that in vain. Measured on such planes: 0.09 ns for each byte, and zstd's quick search 0.7 to 1.
fn runs(plane: &[u8], room: &mut [u8]) -> Option<usize> {
    let mut frame = Frame::start(plane.len(), room)?;
    let (words, _) = plane.as_chunks::<8>();
    let flat = |word: &[u8; 8]| u64::from_le_bytes(*word) == u64::from_le_bytes(*word).rotate_left(8);
    // Where what is not written yet starts.
    let mut start = 0;
    let (mut number, mut found) = (0, 0);
    while let Some(word) = words.get(number) {
        if !flat(word) {
            number += 1;
            continue;
        }
        let (value, bits) = (word[0], u64::from_le_bytes(*word));
        let differs = |other: &[u8; 8]| u64::from_le_bytes(*other) ^ bits;
        // Eight at once, with no jump among them: a run is long if it is worth anything.
        let (eights, _) = words[number..].as_chunks::<8>();
        let alike =
            8 * eights.iter().take_while(|eight| eight.iter().fold(0, |all, one| all | differs(one)) == 0).count();
        let alike = alike + words[number + alike..].iter().take_while(|other| differs(other) == 0).count();
        let (from, to) = (number * 8, (number + alike) * 8);
        let from = from - plane[start..from].iter().rev().take_while(|byte| **byte == value).count();
        let to = to + plane[to..].iter().take_while(|byte| **byte == value).count();
        if to - from >= SHORTEST_RUN {
            frame.as_it_is(&plane[start..from])?;
            frame.run(value, to - from)?;
            start = to;
            found += 1;
            // Many short runs take their time, and others' ways save more.
            if found % 64 == 0 && start.saturating_sub(frame.at) < WORTHWHILE_RUN * found {
                return None;
            }
        }
        // A word that a run reaches into is none of one value: it would belong to the run.
        number = to.div_ceil(8);
    }
    frame.as_it_is(&plane[start..])?;
    frame.finish()
}

/// Decodes one chunk after the other and keeps its buffers.
#[derive(Default)]
pub(super) struct Decoder {
    /// Where the reader puts what it reads.
    pub(super) stored: Vec<u8>,
    /// Where a chunk is decoded that nobody wants but to check it.
    pub(super) raw: Vec<u8>,
    planes: Vec<u8>,
    zstd: Option<Decompressor<'static>>,
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder").field("planes", &self.planes.len()).finish_non_exhaustive()
    }
}

/// Why stored bytes could not be decoded.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum DecodeError {
    /// They are not what an encoder makes.
    Malformed(String),
    /// They have a part that is not known here.
    Unknown(String),
    /// zstd found no memory for its state.
    Memory,
}

impl Decoder {
    /// Decodes `stored` into all of `raw`.
    pub(super) fn decode(&mut self, codec: Codec, stored: &[u8], raw: &mut [u8]) -> Result<(), DecodeError> {
        match codec {
            Codec::Raw => {
                if stored.len() != raw.len() {
                    return Err(DecodeError::Malformed("its length is wrong".into()));
                }
                raw.copy_from_slice(stored);
                Ok(())
            }
            Codec::Constant { pattern } => {
                if pattern == [pattern[0]; 8] {
                    raw.fill(pattern[0]);
                } else {
                    let (words, rest) = raw.as_chunks_mut::<8>();
                    words.fill(pattern);
                    rest.copy_from_slice(&pattern[..rest.len()]);
                }
                Ok(())
            }
            Codec::Planes { lane, stride } => self.decode_planes(usize::from(lane), stride as usize, stored, raw),
        }
    }

    fn decode_planes(&mut self, lane: usize, stride: usize, stored: &[u8], raw: &mut [u8]) -> Result<(), DecodeError> {
        let malformed = |what: &str| Err(DecodeError::Malformed(what.to_owned()));
        if !matches!(lane, 1 | 2 | 4 | 8) || !stride.is_multiple_of(lane) {
            return malformed("its lanes make no sense");
        }
        let lanes = raw.len() / lane;
        let (whole, tail) = raw.split_at_mut(lanes * lane);
        let Some((head, mut rest)) = stored.split_at_checked(4 * lane) else {
            return malformed("its head is cut short");
        };
        grow(&mut self.planes, lanes * lane);
        let mut parts: [&[u8]; 8] = [&[]; 8];
        let mut free = &mut self.planes[..];
        for (number, word) in head.chunks_exact(4).enumerate() {
            let word = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
            let (kind, len) = (word >> KIND_SHIFT, (word & ((1 << KIND_SHIFT) - 1)) as usize);
            let taken = if matches!(kind, ONE_VALUE | AS_ANOTHER) { 0 } else { len };
            let Some((own, others)) = rest.split_at_checked(taken) else {
                return malformed("a plane is cut short");
            };
            rest = others;
            if kind == AS_IT_IS {
                if len != lanes {
                    return malformed("a plane has the wrong length");
                }
                parts[number] = own;
                continue;
            }
            if kind == AS_ANOTHER {
                let Some(&other) = parts[..number].get(len) else {
                    return malformed("a plane is the same as one that is not lower");
                };
                parts[number] = other;
                continue;
            }
            let (plane, others) = free.split_at_mut(lanes);
            free = others;
            match kind {
                ONE_VALUE => {
                    let Ok(value) = u8::try_from(len) else { return malformed("a plane's one value is no byte") };
                    plane.fill(value);
                }
                ZSTD => {
                    let decompressor = match &mut self.zstd {
                        Some(decompressor) => decompressor,
                        none => none.insert(Decompressor::new().map_err(|_| DecodeError::Memory)?),
                    };
                    // Never more than the plane's own length is written, whatever the frame says of itself.
                    match decompressor.decompress_to_buffer(own, plane) {
                        Ok(len) if len == lanes => {}
                        Ok(_) => return malformed("a plane comes out of zstd too short"),
                        Err(error) => return Err(DecodeError::Malformed(format!("zstd: {error}"))),
                    }
                }
                _ => return Err(DecodeError::Unknown(format!("the unknown kind of plane {kind}"))),
            }
            parts[number] = plane;
        }
        if rest.len() != tail.len() {
            return malformed("its length is wrong");
        }
        filter::merge(lane, &parts, stride / lane, whole);
        tail.copy_from_slice(rest);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use xxhash_rust::xxh3::xxh3_64;

    struct Noise(u64);

    impl Noise {
        fn next(&mut self) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0
        }

        fn bytes(&mut self, len: usize) -> Vec<u8> {
            (0..len.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).take(len).collect()
        }
    }

    fn there_and_back(raw: &[u8], grain: Grain, compression: Compression) -> Encoded {
        let (mut encoder, mut decoder, mut stored) = (Encoder::default(), Decoder::default(), Vec::new());
        let encoded = encoder.encode(raw, grain, compression, &mut stored);
        assert!(encoded.stored_len <= raw.len());
        let stored = if encoded.codec == Codec::Raw { raw } else { &stored[..encoded.stored_len] };
        assert_eq!(xxh3_64(stored), encoded.stored_checksum);
        let mut back = vec![0x55; raw.len()];
        assert_eq!(decoder.decode(encoded.codec, stored, &mut back), Ok(()));
        assert!(back == raw);
        encoded
    }

    fn compressions() -> impl Strategy<Value = Compression> {
        prop_oneof![
            4 => prop::sample::select(&Compression::EFFORTS[..]),
            1 => Just(Compression::Raw),
            1 => (1..6).prop_map(Compression::Zstd),
        ]
    }

    fn grains() -> impl Strategy<Value = Grain> {
        (0u32..4, prop_oneof![1usize..5, 1usize..5000])
            .prop_map(|(exponent, count)| Grain { stride: count << exponent, lane: 1 << exponent })
    }

    proptest! {
        #[test]
        fn random_bytes_come_back(
            raw in prop::collection::vec(any::<u8>(), 1..40_000),
            grain in grains(),
            compression in compressions(),
        ) {
            there_and_back(&raw, grain, compression);
        }

        #[test]
        fn smooth_values_come_back(
            len in 1usize..60_000,
            slope in -1e-3f64..1e-3,
            grain in grains(),
            compression in compressions(),
        ) {
            let raw: Vec<u8> = (0..len / 8 + 1).flat_map(|i| (1.0 + slope * i as f64).to_le_bytes()).take(len).collect();
            there_and_back(&raw, grain, compression);
        }

        #[test]
        fn runs_come_back(
            parts in prop::collection::vec((any::<u8>(), prop_oneof![1usize..80, 1usize..9000], any::<bool>()), 1..40),
            grain in grains(),
            compression in compressions(),
        ) {
            let mut noise = Noise(1);
            let raw: Vec<u8> = parts
                .iter()
                .flat_map(|&(value, len, noisy)| {
                    let bytes = if noisy { noise.bytes(len) } else { Vec::new() };
                    bytes.into_iter().chain(std::iter::repeat_n(value, if noisy { 0 } else { len }))
                })
                .collect();
            there_and_back(&raw, grain, compression);
            let mut frame = vec![0; raw.len() + 1000];
            if let Some(len) = runs(&raw, &mut frame) {
                let mut back = vec![0x55; raw.len()];
                let decoded = Decompressor::new().unwrap().decompress_to_buffer(&frame[..len], &mut back);
                prop_assert_eq!(decoded.map_err(|error| error.to_string()), Ok(raw.len()));
                prop_assert!(back == raw);
                // What they are given is all they write to.
                prop_assert_eq!(runs(&raw, &mut frame[..len]), Some(len));
                prop_assert_eq!(runs(&raw, &mut frame[..len - 1]), None);
            }
        }

        #[test]
        fn garbage_is_refused_or_decoded_but_harms_nothing(
            stored in prop::collection::vec(any::<u8>(), 0..300),
            kinds in prop::collection::vec((0u32..4, 0u32..40), 8),
            lane in 0u8..10,
            stride in 0u32..100,
            raw_len in 0usize..300,
            planted in any::<bool>(),
        ) {
            let mut stored = stored;
            if planted {
                for (word, (kind, len)) in stored.chunks_exact_mut(4).zip(kinds) {
                    word.copy_from_slice(&(kind << KIND_SHIFT | len).to_le_bytes());
                }
            }
            let mut raw = vec![0; raw_len];
            let _ = Decoder::default().decode(Codec::Planes { lane, stride }, &stored, &mut raw);
        }

        #[test]
        fn altered_stored_bytes_harm_nothing(at in any::<prop::sample::Index>(), flip in 1u8..) {
            let raw: Vec<u8> = (0..5000u64).flat_map(|i| (i * i).to_le_bytes()).collect();
            let mut stored = Vec::new();
            let grain = Grain { stride: 8, lane: 8 };
            let encoded = Encoder::default().encode(&raw, grain, Compression::Auto, &mut stored);
            stored.truncate(encoded.stored_len);
            let at = at.index(stored.len());
            stored[at] ^= flip;
            let _ = Decoder::default().decode(encoded.codec, &stored, &mut vec![0; raw.len()]);
        }
    }

    #[test]
    fn a_plane_may_be_that_of_another() {
        // Rounded: the lowest planes of the differences are all sign.
        let raw: Vec<u8> =
            (0..40_000).flat_map(|i| f64::from((f64::from(i) * 0.01).sin() as f32).to_le_bytes()).collect();
        let grain = Grain { stride: 8, lane: 8 };
        there_and_back(&raw, grain, Compression::Auto);
        let mut stored = Vec::new();
        let encoded = Encoder::default().encode(&raw, grain, Compression::Auto, &mut stored);
        let kinds: Vec<u32> =
            stored[..32].chunks_exact(4).map(|word| u32::from(word[3]) >> (KIND_SHIFT - 24)).collect();
        assert!(kinds.contains(&AS_ANOTHER), "{kinds:?}");
        // Of itself, or of one that comes later: refused.
        let at = kinds.iter().position(|kind| *kind == AS_ANOTHER).unwrap();
        for other in [at as u8, 7, 8, 200] {
            let mut altered = stored[..encoded.stored_len].to_vec();
            altered[4 * at] = other;
            let result = Decoder::default().decode(encoded.codec, &altered, &mut vec![0; raw.len()]);
            assert!(matches!(result, Err(DecodeError::Malformed(_))), "{result:?}");
        }
    }

    #[test]
    fn each_kind_of_data_gets_its_codec() {
        let eight = Grain { stride: 8, lane: 8 };
        assert_eq!(there_and_back(&[0; 100_001], eight, Compression::Auto).stored_len, 0);
        let constant: Vec<u8> = 1.5f64.to_le_bytes().repeat(10_000);
        assert_eq!(there_and_back(&constant, eight, Compression::Auto).codec.name(), "constant");
        let smooth: Vec<u8> = (0..100_000).flat_map(|i| (f64::from(i) * 1e-3).sin().to_le_bytes()).collect();
        let encoded = there_and_back(&smooth, eight, Compression::Auto);
        assert_eq!(encoded.codec, Codec::Planes { lane: 8, stride: 8 });
        assert!(encoded.stored_len < smooth.len() * 8 / 10);
        let noise = Noise(1).bytes(800_000);
        assert_eq!(there_and_back(&noise, eight, Compression::Auto).codec, Codec::Raw);
        assert_eq!(there_and_back(&noise, eight, Compression::Zstd(3)).codec, Codec::Raw);
        assert_eq!(there_and_back(&smooth, eight, Compression::Raw).codec, Codec::Raw);
        let text = b"the same words again and again, ".repeat(1000);
        assert!(there_and_back(&text, Grain::BYTES, Compression::Auto).stored_len < text.len() / 10);
        assert_eq!(there_and_back(b"short", Grain::BYTES, Compression::Auto).codec, Codec::Raw);
    }

    #[test]
    fn a_frame_of_runs_may_be_of_many_blocks() {
        let (mut plane, mut noise) = (Noise(7).bytes(300_001), Noise(8));
        plane.extend([5; 400_003]);
        plane.extend(noise.bytes(9));
        plane.extend([6; 12]);
        plane.extend([7; 12]);
        let mut frame = vec![0; plane.len()];
        let len = runs(&plane, &mut frame).unwrap();
        assert!((300_001..300_200).contains(&len), "{len}");
        let back = Decompressor::new().unwrap().decompress(&frame[..len], plane.len()).unwrap();
        assert!(back == plane);
        for plane in [&[][..], &[1], &[2; 3], &[3; 100]] {
            let mut frame = [0; 200];
            let len = runs(plane, &mut frame);
            // There is no block to call the last where there is nothing in it.
            assert_eq!(len.is_some(), !plane.is_empty());
            if let Some(len) = len {
                assert_eq!(Decompressor::new().unwrap().decompress(&frame[..len], 100).unwrap(), plane);
            }
        }
    }

    /// Chunks like those of simulations.
    fn samples() -> Vec<(&'static str, Vec<u8>, Grain)> {
        let eight = Grain { stride: 8, lane: 8 };
        let lanes = 0..65_536u32;
        let wave = |i: u32| {
            let (x, y) = (f64::from(i % 1024), f64::from(i / 1024));
            10.0 + (x * 0.013).sin() * (y * 0.007).cos() + 0.3 * (x * 0.031 + y * 0.017).sin()
        };
        let mut noise = Noise(88_172_645_463_325_252);
        let mut unit = || (noise.next() >> 11) as f64 / (1u64 << 53) as f64;
        let floats = |values: Vec<f64>| -> Vec<u8> { values.into_iter().flat_map(f64::to_le_bytes).collect() };
        let pairs = (0..32_768).flat_map(|i| [wave(i), wave(i + 77) - 10.0]).collect();
        let noisy = lanes.clone().map(|i| wave(i) + 0.01 * unit()).collect();
        let random = lanes.clone().map(|_| unit()).collect();
        // Water that the wave has not reached everywhere yet.
        let partly = |reached| lanes.clone().map(|i| if i % 1024 < reached { wave(i) } else { 0.0 }).collect();
        let integers = lanes.clone().flat_map(|i| (u64::from(i) * 3 + noise.next() % 100).to_le_bytes()).collect();
        let text = b"the same words again and again, ".repeat(3000);
        vec![
            ("smooth", floats(lanes.clone().map(wave).collect()), eight),
            ("noisy", floats(noisy), eight),
            ("rounded", floats(lanes.clone().map(|i| f64::from(wave(i) as f32)).collect()), eight),
            ("random", floats(random), eight),
            ("pairs", floats(pairs), Grain { stride: 16, lane: 8 }),
            ("an eighth", floats(partly(128)), eight),
            ("half", floats(partly(512)), eight),
            ("most", floats(partly(900)), eight),
            ("f32", lanes.clone().flat_map(|i| (wave(i) as f32).to_le_bytes()).collect(), Grain { stride: 4, lane: 4 }),
            ("integers", integers, eight),
            ("mask", lanes.map(|i| u8::from(wave(i) > 10.0)).collect(), Grain { stride: 1, lane: 1 }),
            ("text", text, Grain::BYTES),
            ("random bytes", noise.bytes(100_000), Grain::BYTES),
        ]
    }

    #[test]
    fn more_effort_saves_no_less() {
        for (kind, raw, grain) in samples() {
            let stored = Compression::EFFORTS.map(|effort| there_and_back(&raw, grain, effort).stored_len);
            for pair in stored.windows(2) {
                assert!(pair[1] as f64 <= pair[0] as f64 * 1.01, "{kind}: {stored:?}");
            }
        }
    }

    #[test]
    fn fields_that_are_partly_at_rest_are_stored_as_what_is_not() {
        for (kind, raw, grain) in samples() {
            let share = match kind {
                "an eighth" => 1.0 / 8.0,
                "half" => 1.0 / 2.0,
                _ => continue,
            };
            for effort in Compression::EFFORTS {
                let stored = there_and_back(&raw, grain, effort).stored_len as f64 / raw.len() as f64;
                assert!(stored < share + 0.02, "{kind}, {effort:?}: {stored}");
            }
        }
    }
}
