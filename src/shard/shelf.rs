//! Buffers and compressor states that outlive a checkpoint.
//!
//! Comes in: what somebody has done with. Goes out: the one put back last, which is the likeliest to be in the cache,
//! or a new one. What must hold: at most `room` of them are kept, so that an idle process holds little. The first touch
//! of fresh memory costs more than anything that is done with it here, which is why they are kept at all.

use std::sync::{Mutex, MutexGuard, PoisonError};

pub(super) struct Shelf<T> {
    room: usize,
    kept: Mutex<Vec<T>>,
}

impl<T: Default> Shelf<T> {
    pub(super) const fn new(room: usize) -> Self {
        Self { room, kept: Mutex::new(Vec::new()) }
    }

    /// What is kept is sound at any moment, so a panic elsewhere while it was locked is of no concern.
    fn kept(&self) -> MutexGuard<'_, Vec<T>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn take(&self) -> T {
        let kept = self.kept().pop();
        kept.unwrap_or_default()
    }

    pub(super) fn put(&self, item: T) {
        let mut kept = self.kept();
        if kept.len() < self.room {
            kept.push(item);
        }
    }
}
