//! XXH3-64, with the widest registers that the processor at hand has.
//!
//! Comes in: bytes. Goes out: the same number that `xxhash_rust::xxh3::xxh3_64` gives, which is compiled for what every
//! x86-64 has. What must hold: the two never differ; tests compare them over lengths and contents.
//!
//! Every chunk is hashed twice on its way to the file and twice on its way back. Measured from the second-level cache, in
//! GB/s of one core: 20 with what every x86-64 has, 17 with what the compiler makes of the portable loop for AVX-512, 33
//! with it written out. From memory, fetching is what takes the time: 8, and 10 where it is asked for ahead.

use xxhash_rust::xxh3::xxh3_64;

/// Shorter inputs go another way, on which there is nothing to gain.
const LONG: usize = 1024;

const STRIPE: usize = 64;
const STRIPES_OF_A_BLOCK: usize = 16;
/// The specification's default secret.
const SECRET: [u8; 192] = [
    0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe, 0x7c, 0x01, 0x81, 0x2c, 0xf7, 0x21, 0xad, 0x1c, 0xde, 0xd4, 0x6d,
    0xe9, 0x83, 0x90, 0x97, 0xdb, 0x72, 0x40, 0xa4, 0xa4, 0xb7, 0xb3, 0x67, 0x1f, 0xcb, 0x79, 0xe6, 0x4e, 0xcc, 0xc0,
    0xe5, 0x78, 0x82, 0x5a, 0xd0, 0x7d, 0xcc, 0xff, 0x72, 0x21, 0xb8, 0x08, 0x46, 0x74, 0xf7, 0x43, 0x24, 0x8e, 0xe0,
    0x35, 0x90, 0xe6, 0x81, 0x3a, 0x26, 0x4c, 0x3c, 0x28, 0x52, 0xbb, 0x91, 0xc3, 0x00, 0xcb, 0x88, 0xd0, 0x65, 0x8b,
    0x1b, 0x53, 0x2e, 0xa3, 0x71, 0x64, 0x48, 0x97, 0xa2, 0x0d, 0xf9, 0x4e, 0x38, 0x19, 0xef, 0x46, 0xa9, 0xde, 0xac,
    0xd8, 0xa8, 0xfa, 0x76, 0x3f, 0xe3, 0x9c, 0x34, 0x3f, 0xf9, 0xdc, 0xbb, 0xc7, 0xc7, 0x0b, 0x4f, 0x1d, 0x8a, 0x51,
    0xe0, 0x4b, 0xcd, 0xb4, 0x59, 0x31, 0xc8, 0x9f, 0x7e, 0xc9, 0xd9, 0x78, 0x73, 0x64, 0xea, 0xc5, 0xac, 0x83, 0x34,
    0xd3, 0xeb, 0xc3, 0xc5, 0x81, 0xa0, 0xff, 0xfa, 0x13, 0x63, 0xeb, 0x17, 0x0d, 0xdd, 0x51, 0xb7, 0xf0, 0xda, 0x49,
    0xd3, 0x16, 0x55, 0x26, 0x29, 0xd4, 0x68, 0x9e, 0x2b, 0x16, 0xbe, 0x58, 0x7d, 0x47, 0xa1, 0xfc, 0x8f, 0xf8, 0xb8,
    0xd1, 0x7a, 0xd0, 0x31, 0xce, 0x45, 0xcb, 0x3a, 0x8f, 0x95, 0x16, 0x04, 0x28, 0xaf, 0xd7, 0xfb, 0xca, 0xbb, 0x4b,
    0x40, 0x7e,
];
const PRIME32_1: u64 = 0x9E37_79B1;
const PRIME32_2: u64 = 0x85EB_CA77;
const PRIME32_3: u64 = 0xC2B2_AE3D;
const PRIME64_1: u64 = 0x9E37_79B1_85EB_CA87;
const PRIME64_2: u64 = 0xC2B2_AE3D_27D4_EB4F;
const PRIME64_3: u64 = 0x1656_67B1_9E37_79F9;
const PRIME64_4: u64 = 0x85EB_CA77_C2B2_AE63;
const PRIME64_5: u64 = 0x27D4_EB2F_1656_67C5;

/// Eight numbers, which are one register of AVX-512 or two of AVX2.
type Lanes = [u64; 8];

#[inline(always)]
fn lanes(bytes: &[u8; STRIPE]) -> Lanes {
    let mut lanes = [0; 8];
    for (lane, part) in lanes.iter_mut().zip(bytes.as_chunks::<8>().0) {
        *lane = u64::from_le_bytes(*part);
    }
    lanes
}

/// The secret from `at` on.
#[inline(always)]
fn key(at: usize) -> Lanes {
    let mut bytes = [0; STRIPE];
    bytes.copy_from_slice(&SECRET[at..at + STRIPE]);
    lanes(&bytes)
}

#[inline(always)]
fn accumulate(sums: &mut Lanes, stripe: &[u8; STRIPE], key: &Lanes) {
    let data = lanes(stripe);
    let mut swapped = [0; 8];
    for lane in 0..8 {
        swapped[lane] = data[lane ^ 1];
    }
    for lane in 0..8 {
        let keyed = data[lane] ^ key[lane];
        let product = (keyed & 0xffff_ffff).wrapping_mul(keyed >> 32);
        sums[lane] = sums[lane].wrapping_add(swapped[lane]).wrapping_add(product);
    }
}

#[inline(always)]
fn scramble(sums: &mut Lanes, key: &Lanes) {
    for (sum, key) in sums.iter_mut().zip(key) {
        *sum = (*sum ^ (*sum >> 47) ^ key).wrapping_mul(PRIME32_1);
    }
}

fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

const FIRST_SUMS: Lanes = [PRIME32_3, PRIME64_1, PRIME64_2, PRIME64_3, PRIME64_4, PRIME32_2, PRIME64_5, PRIME32_1];
/// Where in the secret the keys lie that are not those of a stripe of a block.
const KEY_OF_SCRAMBLING: usize = SECRET.len() - STRIPE;
const KEY_OF_LAST: usize = SECRET.len() - STRIPE - 7;
const KEY_OF_MERGING: usize = 11;

/// The whole stripes before the last byte, as blocks and what is over, and the last bytes, which overlap them.
#[inline(always)]
#[allow(clippy::type_complexity, reason = "three parts of one slice")]
fn parts(bytes: &[u8]) -> Option<(&[[[u8; STRIPE]; STRIPES_OF_A_BLOCK]], &[[u8; STRIPE]], &[u8; STRIPE])> {
    let last = bytes.last_chunk::<STRIPE>()?;
    let (blocks, rest) = bytes[..bytes.len() - 1].as_chunks::<STRIPE>().0.as_chunks::<STRIPES_OF_A_BLOCK>();
    Some((blocks, rest, last))
}

fn merge(sums: &Lanes, len: usize) -> u64 {
    let key = key(KEY_OF_MERGING);
    let mut hash = (len as u64).wrapping_mul(PRIME64_1);
    for pair in 0..4 {
        hash = hash.wrapping_add(fold(sums[2 * pair] ^ key[2 * pair], sums[2 * pair + 1] ^ key[2 * pair + 1]));
    }
    hash = (hash ^ (hash >> 37)).wrapping_mul(0x1656_6791_9E37_79F9);
    hash ^ (hash >> 32)
}

/// Of more than 240 bytes.
#[inline(always)]
fn long(bytes: &[u8]) -> u64 {
    let Some((blocks, rest, last)) = parts(bytes) else { return xxh3_64(bytes) };
    let mut sums = FIRST_SUMS;
    for block in blocks {
        for (number, stripe) in block.iter().enumerate() {
            accumulate(&mut sums, stripe, &key(8 * number));
        }
        scramble(&mut sums, &key(KEY_OF_SCRAMBLING));
    }
    for (number, stripe) in rest.iter().enumerate() {
        accumulate(&mut sums, stripe, &key(8 * number));
    }
    accumulate(&mut sums, last, &key(KEY_OF_LAST));
    merge(&sums, bytes.len())
}

#[cfg(target_arch = "x86_64")]
mod wide {
    use super::{FIRST_SUMS, KEY_OF_LAST, KEY_OF_SCRAMBLING, Lanes, PRIME32_1, SECRET, STRIPE};
    use std::arch::x86_64::*;

    #[target_feature(enable = "avx2")]
    pub(super) fn long_avx2(bytes: &[u8]) -> u64 {
        super::long(bytes)
    }

    /// Bytes between what is hashed and what is fetched.
    const AHEAD: usize = 4096;

    #[target_feature(enable = "avx512f")]
    fn load(bytes: &[u8; STRIPE]) -> __m512i {
        // SAFETY: there are 64 bytes, and the instruction takes them from anywhere.
        unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
    }

    #[target_feature(enable = "avx512f")]
    fn key(at: usize) -> __m512i {
        let mut bytes = [0; STRIPE];
        bytes.copy_from_slice(&SECRET[at..at + STRIPE]);
        load(&bytes)
    }

    #[target_feature(enable = "avx512f")]
    fn accumulate(sums: __m512i, stripe: &[u8; STRIPE], key: __m512i) -> __m512i {
        // Here is where a chunk is read first, and what the processor fetches by itself comes too late.
        _mm_prefetch::<_MM_HINT_T0>(stripe.as_ptr().wrapping_add(AHEAD).cast());
        let data = load(stripe);
        let keyed = _mm512_xor_si512(data, key);
        let product = _mm512_mul_epu32(keyed, _mm512_srli_epi64::<32>(keyed));
        let swapped = _mm512_shuffle_epi32::<0b01_00_11_10>(data);
        _mm512_add_epi64(_mm512_add_epi64(sums, swapped), product)
    }

    /// Written out, since the compiler makes of the portable loop one that gathers every eighth number of a block:
    /// 17 GB/s from the first-level cache.
    #[target_feature(enable = "avx512f")]
    pub(super) fn long_avx512(bytes: &[u8]) -> u64 {
        let Some((blocks, rest, last)) = super::parts(bytes) else { return super::long(bytes) };
        let mut first = [0; STRIPE];
        for (bytes, sum) in first.as_chunks_mut::<8>().0.iter_mut().zip(FIRST_SUMS) {
            *bytes = sum.to_le_bytes();
        }
        let mut sums = load(&first);
        let prime = _mm512_set1_epi64(PRIME32_1 as i64);
        for block in blocks {
            for (number, stripe) in block.iter().enumerate() {
                sums = accumulate(sums, stripe, key(8 * number));
            }
            let mixed = _mm512_xor_si512(sums, _mm512_srli_epi64::<47>(sums));
            let mixed = _mm512_xor_si512(mixed, key(KEY_OF_SCRAMBLING));
            let upper = _mm512_slli_epi64::<32>(_mm512_mul_epu32(_mm512_srli_epi64::<32>(mixed), prime));
            sums = _mm512_add_epi64(_mm512_mul_epu32(mixed, prime), upper);
        }
        for (number, stripe) in rest.iter().enumerate() {
            sums = accumulate(sums, stripe, key(8 * number));
        }
        sums = accumulate(sums, last, key(KEY_OF_LAST));
        let mut lanes: Lanes = [0; 8];
        // SAFETY: there is room for 64 bytes, and the instruction puts them anywhere.
        unsafe { _mm512_storeu_si512(lanes.as_mut_ptr().cast(), sums) };
        super::merge(&lanes, bytes.len())
    }
}

/// XXH3-64 of `bytes`, with seed 0.
pub(super) fn checksum(bytes: &[u8]) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if bytes.len() >= LONG {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has been asked whether it has what this was compiled for.
            return unsafe { wide::long_avx512(bytes) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: as above.
            return unsafe { wide::long_avx2(bytes) };
        }
    }
    xxh3_64(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_same_number() {
        let mut state = 1u64;
        let bytes: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .take(70_000)
        .collect();
        for len in (0..6000).chain([65_535, 65_536, 65_537, 70_000]) {
            let expected = xxh3_64(&bytes[..len]);
            assert_eq!(checksum(&bytes[..len]), expected, "{len} bytes");
            if len > 240 {
                assert_eq!(long(&bytes[..len]), expected, "{len} bytes, portably");
            }
            #[cfg(target_arch = "x86_64")]
            if len > 240 && is_x86_feature_detected!("avx2") {
                // SAFETY: the processor has been asked.
                assert_eq!(unsafe { wide::long_avx2(&bytes[..len]) }, expected, "{len} bytes, AVX2");
            }
            #[cfg(target_arch = "x86_64")]
            if len > 240 && is_x86_feature_detected!("avx512f") {
                // SAFETY: the processor has been asked.
                assert_eq!(unsafe { wide::long_avx512(&bytes[..len]) }, expected, "{len} bytes, AVX-512");
            }
        }
        assert_eq!(checksum(&bytes[1..]), xxh3_64(&bytes[1..]), "unaligned");
        assert_eq!(checksum(&[0xff; 5000]), xxh3_64(&[0xff; 5000]));
    }
}
