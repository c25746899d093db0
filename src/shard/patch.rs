//! Replacing some pages of a chunk: what a checkpoint stores of one that changed only in part.
//!
//! Comes in: the raw bytes of a chunk, and a map of its pages with a bit for each that changed. Goes out: those pages one after
//! the other, and back into a chunk. What must hold: [`scatter`] after [`gather`] with the same map changes exactly the pages of
//! the map; a map from a file is checked by [`patched_bytes`] before it is used.

use std::ops::Range;

/// The bytes of a page, which is the kernel's on nearly every machine: smaller ones cost more for the digests and the map
/// than they save.
pub(super) const PAGE: usize = 4096;

/// The length of the map of a chunk of `raw_len` bytes.
pub(super) fn map_bytes(raw_len: usize) -> usize {
    raw_len.div_ceil(PAGE).div_ceil(8)
}

/// The bytes of the pages in `map`; `None` where it is no map of a chunk of `raw_len` bytes, or has no page in it.
pub(super) fn patched_bytes(map: &[u8], raw_len: usize) -> Option<usize> {
    let pages = raw_len.div_ceil(PAGE);
    let stray = !pages.is_multiple_of(8) && map.last().is_some_and(|last| last >> (pages % 8) != 0);
    if map.len() != map_bytes(raw_len) || stray {
        return None;
    }
    let count: usize = map.iter().map(|byte| byte.count_ones() as usize).sum();
    let missing = pages * PAGE - raw_len;
    let has_last = pages > 0 && is_set(map, pages - 1);
    (count > 0).then(|| count * PAGE - if has_last { missing } else { 0 })
}

pub(super) fn is_set(map: &[u8], page: usize) -> bool {
    map[page / 8] & 1 << (page % 8) != 0
}

pub(super) fn set(map: &mut [u8], page: usize) {
    map[page / 8] |= 1 << (page % 8);
}

/// The runs of pages in `map`, as ranges of bytes of a chunk of `raw_len` bytes.
fn runs(map: &[u8], raw_len: usize) -> impl Iterator<Item = Range<usize>> {
    let pages = raw_len.div_ceil(PAGE);
    let mut page = 0;
    std::iter::from_fn(move || {
        while page < pages && !is_set(map, page) {
            page += 1;
        }
        let start = page;
        while page < pages && is_set(map, page) {
            page += 1;
        }
        (start < page).then(|| start * PAGE..(page * PAGE).min(raw_len))
    })
}

/// Puts the pages of `raw` that are in `map` one after the other at the start of `pages`; returns how many bytes these are.
pub(super) fn gather(raw: &[u8], map: &[u8], pages: &mut [u8]) -> usize {
    let mut at = 0;
    for run in runs(map, raw.len()) {
        let part = &raw[run];
        pages[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
    at
}

/// Undoes [`gather`] in `raw`. `pages` must be as long as [`patched_bytes`] says.
pub(super) fn scatter(pages: &[u8], map: &[u8], raw: &mut [u8]) {
    let mut rest = pages;
    for run in runs(map, raw.len()) {
        let (part, behind) = rest.split_at(run.len());
        raw[run].copy_from_slice(part);
        rest = behind;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn exactly_the_pages_of_the_map_are_replaced(
            len in 1usize..100_000,
            seed in any::<u64>(),
            share in 0u32..100,
        ) {
            let mut state = seed | 1;
            let mut random = || {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state
            };
            let old: Vec<u8> = (0..len).map(|_| random() as u8).collect();
            let new: Vec<u8> = (0..len).map(|_| random() as u8).collect();
            let mut map = vec![0; map_bytes(len)];
            for page in 0..len.div_ceil(PAGE) {
                if random() % 100 < u64::from(share) {
                    set(&mut map, page);
                }
            }
            let mut pages = vec![0; len];
            let taken = gather(&new, &map, &mut pages);
            prop_assert_eq!(patched_bytes(&map, len).unwrap_or_default(), taken);
            let mut back = old.clone();
            scatter(&pages[..taken], &map, &mut back);
            for (number, page) in back.chunks(PAGE).enumerate() {
                let from = if is_set(&map, number) { &new } else { &old };
                prop_assert_eq!(page, &from[number * PAGE..number * PAGE + page.len()]);
            }
        }

        #[test]
        fn no_map_from_a_file_makes_a_page_that_is_not_there(
            map in prop::collection::vec(any::<u8>(), 0..20), len in 1usize..200_000,
        ) {
            if let Some(bytes) = patched_bytes(&map, len) {
                prop_assert!(bytes > 0 && bytes <= len);
                scatter(&vec![1; bytes], &map, &mut vec![0; len]);
            }
        }
    }
}
