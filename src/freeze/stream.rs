//! Copies past the cache.
//!
//! The copy of a state is much larger than the caches and is not read before the application computes on. Ordinary stores
//! would first read every line that they overwrite; streaming stores do not, which measured 1.8 times as fast for all of a
//! state, and 2 times for single pages with the next one fetched ahead. The C library's `memcpy` does the same, but only
//! from about 100 MiB on.

/// Below this length ordinary copies are as good, in bytes.
const LEAST: usize = 1024;

/// Copies `from` to `to`, as much as the shorter of them has. Other threads see it for certain only after [`finish`].
pub(super) fn copy(to: &mut [u8], from: &[u8]) {
    let length = to.len().min(from.len());
    let (to, from) = (&mut to[..length], &from[..length]);
    #[cfg(target_arch = "x86_64")]
    if length >= LEAST {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has AVX-512.
            return unsafe { wide::copy_avx512(to, from) };
        }
        if is_x86_feature_detected!("avx") {
            // SAFETY: the processor has AVX.
            return unsafe { wide::copy_avx(to, from) };
        }
    }
    to.copy_from_slice(from);
}

/// Makes what this thread copied visible before whatever it does next. Once for many copies: it waits for all of them, which
/// after each page took half as long again as the page.
pub(super) fn finish() {
    #[cfg(target_arch = "x86_64")]
    wide::finish();
}

/// Has the processor fetch the beginning of what will be copied next, up to a page.
pub(super) fn prefetch(from: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    wide::prefetch(&from[..from.len().min(super::PAGE)]);
    #[cfg(not(target_arch = "x86_64"))]
    let _ = from;
}

#[cfg(target_arch = "x86_64")]
mod wide {
    use std::arch::x86_64::{
        _MM_HINT_T0, _mm_prefetch, _mm_sfence, _mm256_loadu_si256, _mm256_stream_si256, _mm512_loadu_si512,
        _mm512_stream_si512,
    };

    macro_rules! copy {
        ($name:ident, $feature:literal, $bytes:literal, $load:ident, $store:ident) => {
            #[target_feature(enable = $feature)]
            pub(super) fn $name(to: &mut [u8], from: &[u8]) {
                // Streaming stores want aligned places.
                let head = to.as_ptr().align_offset($bytes).min(to.len()).min(from.len());
                let (to_head, to) = to.split_at_mut(head);
                let (from_head, from) = from.split_at(head);
                to_head.copy_from_slice(from_head);
                let (to_blocks, to_tail) = to.as_chunks_mut::<$bytes>();
                let (from_blocks, from_tail) = from.as_chunks::<$bytes>();
                for (to, from) in to_blocks.iter_mut().zip(from_blocks) {
                    // SAFETY: both are blocks of as many bytes as are read and written, and that of `to` is aligned.
                    unsafe { $store(to.as_mut_ptr().cast(), $load(from.as_ptr().cast())) };
                }
                to_tail.copy_from_slice(from_tail);
            }
        };
    }

    copy!(copy_avx512, "avx512f", 64, _mm512_loadu_si512, _mm512_stream_si512);
    copy!(copy_avx, "avx", 32, _mm256_loadu_si256, _mm256_stream_si256);

    pub(super) fn finish() {
        // SAFETY: SSE, which it needs, is part of x86-64.
        unsafe { _mm_sfence() };
    }

    pub(super) fn prefetch(from: &[u8]) {
        for line in from.chunks(64) {
            // SAFETY: a hint that reads nothing the program can see; the address is one of a slice.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_copies_every_byte_and_no_other(length in 0usize..10_000, to_skew in 0usize..70, from_skew in 0usize..70) {
            let from: Vec<u8> = (0..length + from_skew).map(|index| ((index * 31) >> 3) as u8).collect();
            let from = &from[from_skew..];
            let mut to = vec![0xEE; to_skew + length + 70];
            prefetch(from);
            copy(&mut to[to_skew..to_skew + length], from);
            finish();
            prop_assert!(to[to_skew..to_skew + length] == *from);
            prop_assert!(to[..to_skew].iter().chain(&to[to_skew + length..]).all(|byte| *byte == 0xEE));
            #[cfg(target_arch = "x86_64")]
            if is_x86_feature_detected!("avx") {
                to.fill(0xEE);
                // SAFETY: the processor has AVX.
                unsafe { wide::copy_avx(&mut to[to_skew..to_skew + length], from) };
                prop_assert!(to[to_skew..to_skew + length] == *from);
                prop_assert!(to[..to_skew].iter().chain(&to[to_skew + length..]).all(|byte| *byte == 0xEE));
            }
        }
    }
}
