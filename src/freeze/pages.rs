//! Sets of pages of one field, counted from its start.

use std::ops::Range;

/// The size of a page in a [`PageMap`], in bytes. Systems with larger pages report several of these at once.
pub(crate) const PAGE: usize = 4096;

const BITS: usize = u64::BITS as usize;

/// A set of pages, one bit each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PageMap {
    // Bits behind the last page are clear.
    words: Vec<u64>,
    pages: usize,
}

impl PageMap {
    /// No page, of as many as `bytes` have.
    pub(crate) fn of_bytes(bytes: usize) -> Self {
        let pages = bytes.div_ceil(PAGE);
        Self { words: vec![0; pages.div_ceil(BITS)], pages }
    }

    /// How many pages there are, in the set or not.
    pub(crate) fn pages(&self) -> usize {
        self.pages
    }

    /// The set as bits, the first page's the lowest of the first word.
    pub(crate) fn words(&self) -> &[u64] {
        &self.words
    }

    /// How many are in the set.
    pub(crate) fn count(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Adds the pages of `range`, as far as there are such.
    #[cfg(any(test, target_os = "linux"))]
    pub(crate) fn set_range(&mut self, range: Range<usize>) {
        let (mut at, end) = (range.start, range.end.min(self.pages));
        while at < end {
            let bit = at % BITS;
            let count = (end - at).min(BITS - bit);
            self.words[at / BITS] |= (u64::MAX >> (BITS - count)) << bit;
            at += count;
        }
    }

    /// Adds those of `other`. Where it has more pages than this one, so has this one afterwards.
    pub(crate) fn union(&mut self, other: &Self) {
        if other.words.len() > self.words.len() {
            self.words.resize(other.words.len(), 0);
        }
        self.pages = self.pages.max(other.pages);
        for (own, other) in self.words.iter_mut().zip(&other.words) {
            *own |= other;
        }
    }

    /// Whether a page of `range` is in the set.
    pub(crate) fn any(&self, range: Range<usize>) -> bool {
        self.runs_in(range).next().is_some()
    }

    /// The longest ranges of neighbours in the set, in ascending order.
    #[cfg(test)]
    pub(crate) fn runs(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        self.runs_in(0..self.pages)
    }

    /// As [`Self::runs`], cut to `range`.
    pub(crate) fn runs_in(&self, range: Range<usize>) -> impl Iterator<Item = Range<usize>> + '_ {
        self.alternating(range, 0)
    }

    /// The ranges of `range` that are not in the set.
    pub(crate) fn gaps_in(&self, range: Range<usize>) -> impl Iterator<Item = Range<usize>> + '_ {
        self.alternating(range, u64::MAX)
    }

    /// The runs of set bits once every word was combined with `flip`.
    fn alternating(&self, range: Range<usize>, flip: u64) -> impl Iterator<Item = Range<usize>> + '_ {
        let (mut at, end) = (range.start, range.end.min(self.pages));
        std::iter::from_fn(move || {
            let start = self.first(at, end, flip)?;
            at = self.first(start, end, !flip).unwrap_or(end);
            Some(start..at)
        })
    }

    /// The first bit from `at` to `end` that is set once its word was combined with `flip`.
    fn first(&self, at: usize, end: usize, flip: u64) -> Option<usize> {
        if at >= end {
            return None;
        }
        let mut index = at / BITS;
        let mut word = (self.words[index] ^ flip) & (u64::MAX << (at % BITS));
        while word == 0 {
            index += 1;
            if index * BITS >= end {
                return None;
            }
            word = self.words[index] ^ flip;
        }
        let found = index * BITS + word.trailing_zeros() as usize;
        (found < end).then_some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn pages_are_counted_from_bytes() {
        assert_eq!([0, 1, PAGE, PAGE + 1].map(|bytes| PageMap::of_bytes(bytes).pages()), [0, 1, 1, 2]);
        let mut map = PageMap::of_bytes(70 * PAGE);
        map.set_range(60..1000);
        assert!(map.count() == 10 && map.runs().eq(std::iter::once(60..70)));
        assert!(map.any(69..200) && !map.any(0..60) && !map.any(70..80) && !map.any(65..65));
    }

    proptest! {
        #[test]
        fn it_is_a_set(
            pages in 0usize..300,
            ranges in proptest::collection::vec((0usize..300, 0usize..140), 0..6),
            others in proptest::collection::vec((0usize..300, 0usize..10), 0..6),
            cut in (0usize..320, 0usize..320),
        ) {
            let fill = |ranges: &[(usize, usize)], pages: usize| {
                let (mut map, mut plain) = (PageMap::of_bytes(pages * PAGE), vec![false; pages]);
                for &(start, length) in ranges {
                    map.set_range(start..start + length);
                    plain.iter_mut().skip(start).take(length).for_each(|page| *page = true);
                }
                (map, plain)
            };
            let (mut map, mut plain) = fill(&ranges, pages);
            let (other, other_plain) = fill(&others, 200);
            map.union(&other);
            plain.resize(plain.len().max(200), false);
            plain.iter_mut().zip(other_plain).for_each(|(own, other)| *own |= other);

            let listed: Vec<usize> = map.runs().flatten().collect();
            let expected: Vec<usize> = (0..plain.len()).filter(|&page| plain[page]).collect();
            prop_assert_eq!(&listed, &expected);
            prop_assert_eq!(map.count(), expected.len());
            prop_assert!(map.runs().zip(map.runs().skip(1)).all(|(first, second)| first.end < second.start));
            let range = cut.0..cut.1;
            let within: Vec<usize> = expected.into_iter().filter(|page| range.contains(page)).collect();
            prop_assert_eq!(map.any(range.clone()), !within.is_empty());
            prop_assert_eq!(map.runs_in(range.clone()).flatten().collect::<Vec<_>>(), within);
            let mut both: Vec<usize> = map.runs_in(range.clone()).chain(map.gaps_in(range.clone())).flatten().collect();
            both.sort_unstable();
            prop_assert_eq!(both, range.filter(|&page| page < map.pages()).collect::<Vec<_>>());
        }
    }
}
