//! How the bytes of one chunk become stored bytes, and back.
//!
//! Comes in: the raw bytes of a chunk and the grain of its field. Goes out: what to store, and the checksums. What must
//! hold: decoding gives the raw bytes back; no chunk is stored in more bytes than it has; what is chosen depends on
//! nothing but the bytes, the grain and the options; the decoder survives any input.
//!
//! A chunk of one value costs nothing. For others a sample tells the entropy of each byte plane, of the scalars
//! and of their differences: the better of the two is taken, zstd is spent on those planes only where it promises a
//! gain, and if all of that saves too little, the chunk is stored as it is.

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
    /// Where it is fast and pays, judged chunk by chunk.
    #[default]
    Auto,
    /// Not at all: only checksums.
    Raw,
    /// Whatever saves space, with zstd at this level.
    Zstd(i32),
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

/// A plane of more bits of entropy for a byte than this is stored as it is where speed counts. Measured on planes of
/// smooth pairs of f64 (ratio at GB/s of one core): 1.42 at 0.8 with a limit of 7.2, 1.37 at 1.0 with 6.5, 1.32 at 1.4
/// with 5; uniformly random f64 1.18 at 1.3, 1.18 at 1.5, 1.14 at 1.8. Planes above it cost more time than disks take
/// for what they save.
const WORTHWHILE_BITS: f32 = 5.0;

/// The level that stands for [`QUICK_PARAMETERS`]: none of zstd's own.
const QUICK: i32 = i32::MIN;
/// Byte planes have few long matches, and what zstd finds of short ones costs more time than it saves room; their bytes' own
/// frequencies do the rest. Measured against level 1 (ratio at GB/s of one core): rounded f64 5.33 at 0.44 → 5.24 at 0.87,
/// uniformly random f64 1.14 at 1.4 → 1.14 at 2.1, smooth f32 2.00 at 1.5 → 2.00 at 2.4, water of the tsunami 7.8 at 1.3 → 7.8
/// at 1.5.
const QUICK_PARAMETERS: [CParameter; 3] =
    [CParameter::Strategy(zstd_safe::Strategy::ZSTD_fast), CParameter::MinMatch(7), CParameter::HashLog(8)];

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
    zstd: Option<(i32, Compressor<'static>)>,
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
        Self { planes: Vec::new(), zstd: None, plain: Box::new([[0; 256]; 8]), differences: Box::new([[0; 256]; 8]) }
    }
}

/// What the sample promised.
struct Plan {
    /// In lanes; 0: no differences.
    distance: usize,
    /// Which planes to give to zstd.
    promising: [bool; 8],
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
        let (level, floor) = match compression {
            Compression::Raw => return as_it_is,
            // Saving less than that is not worth decoding.
            Compression::Auto => (QUICK, raw.len() - raw.len() / 32),
            Compression::Zstd(level) => (level, raw.len()),
        };
        if let Some(pattern) = pattern_of(raw) {
            let codec = Codec::Constant { pattern };
            return Encoded { codec, stored_len: 0, raw_checksum, stored_checksum: checksum(&[]) };
        }
        let Some(plan) = self.plan(raw, grain, compression) else { return as_it_is };
        let Some(stored_len) = self.encode_planes(raw, grain.lane, &plan, level, stored) else { return as_it_is };
        if stored_len >= floor {
            return as_it_is;
        }
        // Distances are below the number of lanes, and chunks below 2³² bytes.
        let codec = Codec::Planes { lane: grain.lane as u8, stride: (plan.distance * grain.lane) as u32 };
        Encoded { codec, stored_len, raw_checksum, stored_checksum: checksum(&stored[..stored_len]) }
    }

    fn plan(&mut self, raw: &[u8], grain: Grain, compression: Compression) -> Option<Plan> {
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
        let limit = match compression {
            Compression::Zstd(_) => 7.9,
            // All or nothing: words that repeat are not seen in a count of bytes.
            _ if lane == 1 => 7.2,
            _ => WORTHWHILE_BITS,
        };
        let promise =
            |bits: &[f32; 8]| bits.iter().take(lane).filter(|&&bits| bits < limit).map(|b| 8.0 - b).sum::<f32>();
        let (bits, distance) =
            if promise(&differences) >= promise(&plain) { (differences, distance) } else { (plain, 0) };
        if raw.len() <= SMALL {
            return Some(Plan { distance, promising: [true; 8] });
        }
        let least = if compression == Compression::Auto { 0.03 } else { 0.0 };
        (promise(&bits) > least * 8.0 * lane as f32)
            .then(|| Plan { distance, promising: bits.map(|bits| bits < limit) })
    }

    /// Fills `stored`; `None` where that would take as many bytes as `raw`.
    fn encode_planes(
        &mut self,
        raw: &[u8],
        lane: usize,
        plan: &Plan,
        level: i32,
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
        let ready = plan.promising.iter().take(lane).take_while(|promising| !**promising).count();
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
        for (number, promising) in plan.promising.iter().enumerate().take(lane).skip(ready) {
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
                let compressed = if *promising { compress(&mut self.zstd, level, plane, room) } else { None };
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

/// Compresses `plane` into `room`, if that saves anything. A failure of zstd is none of ours: the plane is stored raw.
fn compress(
    context: &mut Option<(i32, Compressor<'static>)>,
    level: i32,
    plane: &[u8],
    room: &mut [u8],
) -> Option<usize> {
    if context.as_ref().is_none_or(|(of, _)| *of != level) {
        let mut compressor = Compressor::new(if level == QUICK { 1 } else { level }).ok()?;
        if level == QUICK {
            for parameter in QUICK_PARAMETERS {
                compressor.set_parameter(parameter).ok()?;
            }
        }
        *context = Some((level, compressor));
    }
    let (_, compressor) = context.as_mut()?;
    let limit = plane.len().saturating_sub(plane.len() / 32).min(room.len());
    let len = compressor.compress_to_buffer(plane, &mut room[..limit]).ok()?;
    (len < plane.len()).then_some(len)
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
                    for part in raw.chunks_mut(8) {
                        part.copy_from_slice(&pattern[..part.len()]);
                    }
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
        prop_oneof![Just(Compression::Auto), Just(Compression::Raw), (1..6).prop_map(Compression::Zstd)]
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
        let mut state = 1u64;
        let noise: Vec<u8> = (0..100_000)
            .flat_map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_le_bytes()
            })
            .collect();
        assert_eq!(there_and_back(&noise, eight, Compression::Auto).codec, Codec::Raw);
        assert_eq!(there_and_back(&noise, eight, Compression::Zstd(3)).codec, Codec::Raw);
        assert_eq!(there_and_back(&smooth, eight, Compression::Raw).codec, Codec::Raw);
        let text = b"the same words again and again, ".repeat(1000);
        assert!(there_and_back(&text, Grain::BYTES, Compression::Auto).stored_len < text.len() / 10);
        assert_eq!(there_and_back(b"short", Grain::BYTES, Compression::Auto).codec, Codec::Raw);
    }
}
