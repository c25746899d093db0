//! Looking at what is encoded, for whoever wants to know.
//!
//! Comes in: the bytes of chunks, on the threads that encode, just before they are. Goes out: nothing; whoever looks keeps what it
//! sees. What must hold: fields that nobody wants to look at cost nothing.

use std::fmt;

/// Looks at the bytes of fields while they are in the processor's cache anyway.
pub trait Inspect: fmt::Debug + Send + Sync {
    /// Whether it wants to see this field, by its number in the outline.
    fn wants(&self, field: usize) -> bool;

    /// Sees `bytes` of a field, which begin at `offset`: one chunk at a time, each at most once, in no order, from several threads. Chunks that did
    /// not change since the base of the shard are left out.
    fn look(&self, field: usize, offset: u64, bytes: &[u8]);
}
