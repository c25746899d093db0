//! Copying the state while the application waits, and nothing longer than that.
//!
//! Comes in: the bytes of every field, borrowed from the application. Goes out: a [`Frozen`] copy that belongs to us, from
//! which background threads encode.
//! What must hold: when [`Frozen::copy`] returns, every byte given is in the copy, and the application may change its own; memory
//! for the copy is mapped once, pre-faulted before it is needed, and kept; it never exceeds the limit that was set or that
//! the machine sets ([`Budget`]), the rest of a larger state being left to the caller to write while the application waits
//! ([`Plan::streamed`]).
//!
//! What the last copy left in the arena need not be copied again, where the kernel says that it was not written since:
//!
//! ```text
//! PagedVec ─ its map ─ Mark ──look──► Written pages, number of this look and of the one before     (paged, tracking)
//!                                        │ not where a device may write, nor where too much was written (session, policy)
//!                                        ▼
//! Arena: field n holds look 41  ──41 = the one before?──► only the written pages are copied, else all
//! ```
//!
//! The order is what makes it sound: pages are asked for and protected again in one step, then copied, all while the
//! application stands still; what it writes afterwards counts for the next time. Every look has a number of its own, so
//! that what the arena holds is never taken for another map, another time, or a copy that was not completed.

mod arena;
mod budget;
mod devices;
mod memory;
mod paged;
mod pages;
mod policy;
mod session;
mod stream;
mod tracking;

pub(crate) use arena::{Arena, Staging};
pub(crate) use budget::Budget;
pub(crate) use memory::{Memory, PAGES, untouched};
pub use paged::PagedVec;
pub(crate) use pages::PageMap;
pub(crate) use session::Session;
pub(crate) use tracking::Mark;
pub use tracking::{TrackingUnavailable, tracking_available};

use arena::Held;
use pages::PAGE;
use rayon::prelude::*;
use std::io;
use tracking::Written;

/// What one thread copies at a time: large enough to stream, small enough to share out evenly.
const COPY_PIECE: usize = 2 << 20;
/// As much of a field of which only some pages are copied.
const TRACKED_PIECE: usize = 512 << 10;

/// Why a state could not be copied.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FreezeError {
    #[error("no memory for a copy of {bytes} bytes: {source}; see `staging_max`")]
    Memory { bytes: u64, source: io::Error },
    #[error("the state changed its size while it was described")]
    Sizes,
}

/// Where the bytes of each field go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    extents: Vec<Extent>,
    arena_bytes: u64,
}

/// The place of one field in the arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Extent {
    /// How many bytes of the field, from its start, do not go into the arena.
    streamed: u64,
    /// Where the rest starts in the arena.
    place: u64,
    /// The length of the rest.
    length: u64,
}

/// Fields start on cache lines in the arena.
const ALIGNMENT: u64 = 64;

impl Plan {
    /// Places fields of `sizes` bytes in an arena of at most `limit` bytes. What does not fit is cut off the front of the
    /// fields, in multiples of `chunk`.
    pub(crate) fn new(sizes: &[u64], chunk: u64, limit: u64) -> Self {
        let mut over = sizes.iter().map(|size| size.next_multiple_of(ALIGNMENT)).sum::<u64>().saturating_sub(limit);
        let mut place = 0;
        let extents = sizes.iter().map(|&size| {
            let streamed = over.next_multiple_of(chunk).min(size);
            over = over.saturating_sub(streamed);
            let extent = Extent { streamed, place, length: size - streamed };
            place += extent.length.next_multiple_of(ALIGNMENT);
            extent
        });
        let extents = extents.collect();
        Self { extents, arena_bytes: place }
    }

    /// How large an arena it needs.
    pub(crate) fn arena_bytes(&self) -> u64 {
        self.arena_bytes
    }

    /// How many bytes of the state do not go there.
    pub(crate) fn streamed_bytes(&self) -> u64 {
        self.extents.iter().map(|extent| extent.streamed).sum()
    }

    /// How many bytes of field `field`, from its start, the caller has to write itself before it lets the application go.
    pub(crate) fn streamed(&self, field: usize) -> u64 {
        self.extents[field].streamed
    }
}

/// One field to be copied.
#[derive(Debug)]
pub(crate) struct Source<'a> {
    bytes: &'a [u8],
    /// Its pages that were written since the last look at them, where that is known.
    written: Option<Written>,
}

/// How much of tracked fields is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Way {
    /// What was written since the last copy.
    #[default]
    Written,
    /// That, and the rest is compared.
    Compared,
    /// Everything.
    Whole,
}

/// Which pages of a field, counted from its start, may have changed since the last copy of the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Changed {
    /// Any.
    Unknown,
    /// At most these.
    Pages(PageMap),
}

impl Changed {
    /// Adds what may have changed before.
    pub(crate) fn union(&mut self, before: &Self) {
        match (&mut *self, before) {
            (Self::Pages(pages), Self::Pages(before)) => pages.union(before),
            _ => *self = Self::Unknown,
        }
    }

    /// The pages as bits, where they are known.
    pub(crate) fn words(&self) -> Option<&[u64]> {
        match self {
            Self::Unknown => None,
            Self::Pages(pages) => Some(pages.words()),
        }
    }
}

/// A copy of the state.
#[derive(Debug)]
pub(crate) struct Frozen {
    arena: Arena,
    plan: Plan,
    changed: Vec<Changed>,
    copied_bytes: u64,
    /// Whether anything was left as it lay in the arena.
    partial: bool,
    /// The first field that had changed outside its written pages. All fields were copied whole then.
    untrue: Option<usize>,
}

/// A part of a field, and where it goes.
struct Part<'a> {
    field: usize,
    to: &'a mut [u8],
    from: &'a [u8],
    /// Where the part starts in the field, in bytes, and the field's written pages, where only those are copied.
    written: Option<(usize, &'a PageMap)>,
}

impl Part<'_> {
    fn copy(self) {
        match self.written {
            None => stream::copy(self.to, self.from),
            Some((start, pages)) => copy_pages(self.to, self.from, start, pages),
        }
        stream::finish();
    }

    /// How many bytes [`Self::copy`] moves.
    fn copied_bytes(&self) -> u64 {
        let Some((start, pages)) = self.written else { return self.from.len() as u64 };
        let runs = pages.runs_in(page_range(start, self.from.len()));
        runs.map(|run| bytes_of(&run, start, self.from.len()).len() as u64).sum()
    }

    /// Whether what will not be copied is the same on both sides.
    fn is_true(&self) -> bool {
        let Some((start, pages)) = self.written else { return true };
        pages.gaps_in(page_range(start, self.from.len())).all(|gap| {
            let bytes = bytes_of(&gap, start, self.from.len());
            self.to[bytes.clone()] == self.from[bytes]
        })
    }
}

/// Copies what `pages` has of the bytes that start in a field at `start`.
fn copy_pages(to: &mut [u8], from: &[u8], start: usize, pages: &PageMap) {
    let runs = pages.runs_in(page_range(start, from.len()));
    let mut runs = runs.map(|run| bytes_of(&run, start, from.len())).peekable();
    while let Some(bytes) = runs.next() {
        // Pages that are far apart are no pattern that the processor would fetch ahead by itself.
        if let Some(next) = runs.peek() {
            stream::prefetch(&from[next.clone()]);
        }
        stream::copy(&mut to[bytes.clone()], &from[bytes]);
    }
}

/// The pages that `length` bytes from `start` on touch.
fn page_range(start: usize, length: usize) -> std::ops::Range<usize> {
    start / PAGE..(start + length).div_ceil(PAGE)
}

/// The bytes of `pages`, cut to `length` bytes from `start` on and counted from there.
fn bytes_of(pages: &std::ops::Range<usize>, start: usize, length: usize) -> std::ops::Range<usize> {
    let cut = |page: usize| (page * PAGE).clamp(start, start + length) - start;
    cut(pages.start)..cut(pages.end)
}

impl Frozen {
    /// Copies `sources`, one a field, as `plan` says, with the threads of `pool`.
    ///
    /// # Errors
    /// Gives the arena back where the plan is not one for these sources and this arena.
    pub(crate) fn copy(
        mut arena: Arena,
        plan: Plan,
        mut sources: Vec<Source<'_>>,
        way: Way,
        pool: Option<&rayon::ThreadPool>,
    ) -> Result<Self, Arena> {
        let sizes_match = plan.extents.len() == sources.len()
            && plan.extents.iter().zip(&sources).all(|(e, s)| e.streamed + e.length == s.bytes.len() as u64);
        if !sizes_match || (arena.bytes().len() as u64) < plan.arena_bytes {
            return Err(arena);
        }
        // Until the copy is complete, the arena holds nothing that can be relied on.
        let held = std::mem::take(&mut arena.holds);
        let holds = plan.extents.iter().zip(&sources).map(|(&extent, source)| {
            let written = source.written.as_ref()?;
            Some(Held { extent, look: written.look })
        });
        let holds: Vec<Option<Held>> = holds.collect();
        // What was written is known only since the look before: that one must be what the arena holds.
        for (field, (&extent, source)) in plan.extents.iter().zip(&mut sources).enumerate() {
            let before = source.written.as_ref().and_then(|written| Some(Held { extent, look: written.since? }));
            if before.is_none() || held.get(field) != Some(&before) {
                source.written = None;
            }
        }
        let mut parts: Vec<Part<'_>> = Vec::new();
        let mut rest = arena.bytes_mut();
        let mut at = 0;
        for (field, (extent, source)) in plan.extents.iter().zip(&sources).enumerate() {
            // Lengths were compared with those of slices above, so they fit in usize.
            let skip = (extent.place - at) as usize;
            let (own, behind) = std::mem::take(&mut rest)[skip..].split_at_mut(extent.length as usize);
            rest = behind;
            at = extent.place + extent.length;
            let streamed = extent.streamed as usize;
            let pages = source.written.as_ref().filter(|_| way != Way::Whole).map(|written| &written.pages);
            let size = if pages.is_some() { TRACKED_PIECE } else { COPY_PIECE };
            let pieces = own.chunks_mut(size).zip(source.bytes[streamed..].chunks(size)).enumerate();
            parts.extend(pieces.map(|(index, (to, from))| {
                let written = pages.map(|pages| (streamed + index * size, pages));
                Part { field, to, from, written }
            }));
        }
        let partial = parts.iter().any(|part| part.written.is_some());
        // One thread: the caller's own is there already, and waits anyway.
        let pool = pool.filter(|_| parts.len() > 1);
        let untrue = match way {
            Way::Compared => match pool {
                Some(pool) => {
                    pool.install(|| parts.par_iter().find_map_any(|part| (!part.is_true()).then_some(part.field)))
                }
                None => parts.iter().find_map(|part| (!part.is_true()).then_some(part.field)),
            },
            _ => None,
        };
        if untrue.is_some() {
            parts.iter_mut().for_each(|part| part.written = None);
        }
        // Pages that were written are often neighbours: parts without any would leave some threads without work.
        parts.retain(|part| part.written.is_none_or(|(start, pages)| pages.any(page_range(start, part.from.len()))));
        let copied_bytes = parts.iter().map(Part::copied_bytes).sum();
        match pool {
            Some(pool) => pool.install(|| parts.into_par_iter().with_max_len(1).for_each(Part::copy)),
            None => parts.into_iter().for_each(Part::copy),
        }
        arena.holds = holds;
        let changed = sources.into_iter().map(|source| match source.written {
            Some(written) if untrue.is_none() => Changed::Pages(written.pages),
            _ => Changed::Unknown,
        });
        let changed = changed.collect();
        Ok(Self { arena, plan, changed, copied_bytes, partial: partial && untrue.is_none(), untrue })
    }

    /// Which pages of each field may have changed since the copy before this one; of the whole field, also of the part that
    /// was streamed.
    pub(crate) fn changed(&self) -> &[Changed] {
        &self.changed
    }

    /// The bytes of field `field` that were copied: those behind [`Plan::streamed`].
    pub(crate) fn bytes(&self, field: usize) -> &[u8] {
        let Extent { place, length, .. } = self.plan.extents[field];
        &self.arena.bytes()[place as usize..(place + length) as usize]
    }

    /// How many bytes were really copied: the others were in the arena already.
    pub(crate) fn copied_bytes(&self) -> u64 {
        self.copied_bytes
    }

    /// The plan by which it was copied.
    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The memory, for the next copy.
    pub(crate) fn into_arena(self) -> Arena {
        self.arena
    }
}

#[cfg(test)]
mod tests;
