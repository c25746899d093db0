//! The memory that holds the copy: mapped once, pre-faulted in the background, kept.
//!
//! First touch of fresh memory costs tens of times as much as the copy itself, so it never happens while the application
//! waits, except where a checkpoint falls due before the background thread is done.

use super::session::Session;
use super::{Extent, FreezeError, Frozen, Mark, Plan};
use memmap2::{MmapMut, MmapOptions};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// How much is faulted in at a time, so that a thread that is no longer wanted ends soon.
const FAULT_PIECE: usize = 16 << 20;

/// Huge pages are of this size where there are such.
const HUGE: usize = 2 << 20;
/// A multiple of the page size of every system.
const PAGES: usize = 64 << 10;

/// How much to map for `bytes`: the kernel aligns to huge pages only what is a multiple of them. The rest is not touched.
pub(super) fn whole_pages(bytes: usize) -> usize {
    bytes.checked_next_multiple_of(if bytes >= HUGE { HUGE } else { PAGES }).unwrap_or(bytes)
}

/// Anonymous memory of our own.
#[derive(Debug)]
pub(crate) struct Arena {
    map: Option<MmapMut>,
    length: usize,
    /// By field: of which look at its pages, and where, the last copy lies here complete.
    pub(super) holds: Vec<Option<Held>>,
}

/// What an arena holds of one field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    pub extent: Extent,
    /// The number of the look that came before the copy: it tells the map and the time.
    pub look: u64,
}

impl Arena {
    /// Maps `bytes` of memory, with huge pages where the system has them; nothing is touched yet.
    ///
    /// # Errors
    /// Where there is not so much address space.
    pub(crate) fn map(bytes: u64) -> io::Result<Self> {
        if bytes == 0 {
            return Ok(Self { map: None, length: 0, holds: Vec::new() });
        }
        let length = usize::try_from(bytes).map_err(io::Error::other)?;
        let map = MmapOptions::new().len(whole_pages(length)).map_anon()?;
        #[cfg(target_os = "linux")]
        {
            // Only a wish: without huge pages the copy is a little slower.
            let _ = map.advise(memmap2::Advice::HugePage);
        }
        Ok(Self { map: Some(map), length, holds: Vec::new() })
    }

    /// Touches all pages, unless it is `unwanted` meanwhile: `false`.
    fn fault_in(&mut self, unwanted: &AtomicBool) -> bool {
        let Some(map) = &mut self.map else { return true };
        let length = self.length;
        for at in (0..length).step_by(FAULT_PIECE) {
            if unwanted.load(Ordering::Relaxed) {
                return false;
            }
            let piece = FAULT_PIECE.min(length - at);
            #[cfg(target_os = "linux")]
            if map.advise_range(memmap2::Advice::PopulateWrite, at, piece).is_ok() {
                continue;
            }
            // A kernel before 5.14, or another system.
            for page in map[at..at + piece].chunks_mut(4096) {
                page[0] = 0;
            }
        }
        true
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.map.as_deref().map_or(&[], |bytes| &bytes[..self.length])
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        self.map.as_deref_mut().map_or(&mut [], |bytes| &mut bytes[..self.length])
    }
}

/// The arena between two freezes.
#[derive(Debug, Default)]
pub(crate) struct Staging {
    ready: Option<Arena>,
    growing: Option<JoinHandle<io::Result<Arena>>>,
    /// Tells the thread that its arena will not be taken.
    unwanted: Arc<AtomicBool>,
    /// What is known of written pages; nothing where everything is copied every time.
    tracking: Option<Session>,
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Not waited for: nobody needs what it does, and it ends soon.
        self.unwanted.store(true, Ordering::Relaxed);
    }
}

impl Staging {
    /// Sees to it that an arena of `bytes` will be there: starts a background thread where there is none so large.
    pub(crate) fn prepare(&mut self, bytes: u64) {
        if self.growing.is_some() || self.ready.as_ref().is_some_and(|arena| arena.bytes().len() as u64 >= bytes) {
            return;
        }
        // Before the new one is mapped: never two at a time.
        self.ready = None;
        let unwanted = Arc::clone(&self.unwanted);
        let grow = move || {
            let mut arena = Arena::map(bytes)?;
            arena.fault_in(&unwanted);
            Ok(arena)
        };
        // Without a thread the memory is faulted in by the first copy.
        self.growing = std::thread::Builder::new().name("piton-prefault".into()).spawn(grow).ok();
    }

    /// How large the arena in hand is. Waits for the background thread where that is at work, so that all of it is in use.
    pub(crate) fn held(&mut self) -> u64 {
        if let Some(growing) = self.growing.take() {
            // Where it failed, or panicked, there is no arena: whoever needs one maps it, and hears why that can't be.
            self.ready = growing.join().ok().and_then(Result::ok);
        }
        self.ready.as_ref().map_or(0, |arena| arena.bytes().len() as u64)
    }

    /// Sees to it that an arena of at least `bytes` is in hand, and none larger than `limit`.
    ///
    /// # Errors
    /// Where the memory can't be had.
    pub(crate) fn reserve(&mut self, bytes: u64, limit: u64) -> io::Result<()> {
        let held = self.held();
        if self.ready.is_none() || held < bytes || held > limit {
            // Before the new one is mapped: never two at a time.
            self.ready = None;
            self.ready = Some(Arena::map(bytes)?);
        }
        Ok(())
    }

    /// How large an arena may be where the system does not give one of `bytes`: half of what it gives, since encoding needs some
    /// memory as well. None is in hand afterwards.
    pub(crate) fn half_of_what_is_given(&mut self, mut bytes: u64) -> u64 {
        self.ready = None;
        while bytes > 0 && Arena::map(bytes).is_err() {
            bytes /= 2;
        }
        bytes / 2
    }

    /// The arena, at least `bytes` large. Waits for the background thread where that is at work.
    ///
    /// # Errors
    /// Where the memory can't be had.
    pub(crate) fn take(&mut self, bytes: u64) -> io::Result<Arena> {
        self.reserve(bytes, u64::MAX)?;
        self.ready.take().map_or_else(|| Arena::map(bytes), Ok)
    }

    /// From now on, pages of the fields that allow it are tracked, or not.
    pub(crate) fn track(&mut self, tracking: Option<Session>) {
        self.tracking = tracking;
    }

    /// The background found that so large a share of the data really changed since the freeze before: from 0 to 1.
    // Tracking that was switched off because too much was written comes back by it.
    pub(crate) fn changed_share(&mut self, share: f64) {
        if let Some(tracking) = &mut self.tracking {
            tracking.changed_share(share);
        }
    }

    /// Copies the fields, `bytes` each, as `plan` says: of those with a mark only what was written since the last time, where
    /// that is known and pays. The application must not write meanwhile. A text says why tracking is off from now on.
    ///
    /// # Errors
    /// There is no memory for the copy, or the plan is one for other fields.
    pub(crate) fn freeze(
        &mut self,
        plan: Plan,
        bytes: &[&[u8]],
        marks: &[Option<&Mark>],
        pool: Option<&rayon::ThreadPool>,
    ) -> Result<(Frozen, Option<String>), FreezeError> {
        let arena_bytes = plan.arena_bytes();
        let arena = self.take(arena_bytes).map_err(|source| FreezeError::Memory { bytes: arena_bytes, source })?;
        let looked = match &mut self.tracking {
            Some(tracking) => tracking.look(bytes, marks),
            None => Default::default(),
        };
        let (way, mut off) = (looked.way, looked.off);
        let mut written = looked.written.into_iter();
        let sources = bytes.iter().map(|bytes| super::Source { bytes, written: written.next().flatten() });
        let frozen = match Frozen::copy(arena, plan, sources.collect(), way, pool) {
            Ok(frozen) => frozen,
            Err(arena) => {
                self.put(arena);
                return Err(FreezeError::Sizes);
            }
        };
        if let Some(tracking) = &mut self.tracking {
            off = off.or(tracking.copied(&frozen));
        }
        Ok((frozen, off))
    }

    /// Gives an arena back for the next freeze.
    pub(crate) fn put(&mut self, arena: Arena) {
        self.ready = Some(arena);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_nobody_wants_is_not_faulted_in() {
        let mut arena = Arena::map(4 << 20).unwrap();
        assert!(!arena.fault_in(&AtomicBool::new(true)));
        assert!(arena.fault_in(&AtomicBool::new(false)));
        assert!(arena.bytes().iter().all(|byte| *byte == 0));
    }

    #[test]
    fn the_arena_is_kept_and_grows() {
        let mut staging = Staging::default();
        staging.prepare(1 << 20);
        let arena = staging.take(1 << 20).unwrap();
        let address = arena.bytes().as_ptr();
        staging.put(arena);
        staging.prepare(1000);
        let arena = staging.take(1000).unwrap();
        assert_eq!(arena.bytes().as_ptr(), address, "kept");
        staging.put(arena);
        let arena = staging.take(3 << 20).unwrap();
        assert!(arena.bytes().len() >= 3 << 20);
        staging.put(arena);
        staging.reserve(1 << 20, 3 << 20).unwrap();
        assert_eq!(staging.held(), 3 << 20, "kept");
        staging.reserve(1 << 20, 2 << 20).unwrap();
        assert_eq!(staging.held(), 1 << 20, "given back");
        assert!(staging.reserve(u64::MAX, u64::MAX).is_err());
        staging.prepare(u64::MAX);
        assert_eq!(staging.held(), 0);
        let given = staging.half_of_what_is_given(u64::MAX);
        assert!(given > 3 << 20 && given < u64::MAX / 4);
        drop(staging.take(given).unwrap());
        assert!(staging.take(0).unwrap().bytes().is_empty());
    }
}
