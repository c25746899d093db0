//! Frames: the length of a message, its number, the message, and a seal over all of it.
//!
//! Comes in: messages to send, or bytes as they arrive. Goes out: sealed bytes, or messages that the other end sealed, each once and in
//! order. What must hold: nothing of a frame is looked at before its seal was checked, but its length, which is bounded; nothing is
//! allocated here; a frame opens at its own place of its own connection only.

use super::Refusal;

/// A body is no longer than this.
pub const BODY_LIMIT: usize = 256 << 10;
/// What stands before the body.
pub const HEADER: usize = 16;
/// What stands behind it.
pub const SEAL: usize = 32;
/// A whole frame is no longer than this.
pub const FRAME_LIMIT: usize = HEADER + BODY_LIMIT + SEAL;

/// Seals frames of one direction of one connection.
pub struct Sealer {
    key: [u8; 32],
    counter: u64,
}

/// Opens frames of one direction of one connection.
pub struct Opener {
    key: [u8; 32],
    counter: u64,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealer").field("counter", &self.counter).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Opener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opener").field("counter", &self.counter).finish_non_exhaustive()
    }
}

impl Sealer {
    /// For a connection's direction, whose key this is.
    #[must_use]
    pub fn new(key: [u8; 32]) -> Self {
        Self { key, counter: 0 }
    }

    /// Appends the next frame to `out`.
    ///
    /// # Errors
    /// [`Refusal::TooLong`]; `out` is then as it was.
    pub fn seal(&mut self, body: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
        let length = u32::try_from(body.len()).ok().filter(|_| body.len() <= BODY_LIMIT).ok_or(Refusal::TooLong)?;
        let start = out.len();
        out.reserve(HEADER + body.len() + SEAL);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.counter.to_le_bytes());
        out.extend_from_slice(body);
        let seal = blake3::keyed_hash(&self.key, &out[start..]);
        out.extend_from_slice(seal.as_bytes());
        self.counter += 1;
        Ok(())
    }
}

impl Opener {
    /// For a connection's direction, whose key this is.
    #[must_use]
    pub fn new(key: [u8; 32]) -> Self {
        Self { key, counter: 0 }
    }

    /// The body of the frame that `bytes` begin with, and how long the frame is; `None` where it is not complete yet.
    ///
    /// # Errors
    /// [`Refusal::TooLong`], [`Refusal::Seal`], [`Refusal::Counter`]: the connection is of no use then.
    pub fn open<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<(&'a [u8], usize)>, Refusal> {
        let Some(length) = bytes.first_chunk().map(|length| u32::from_le_bytes(*length) as usize) else {
            return Ok(None);
        };
        if length > BODY_LIMIT {
            return Err(Refusal::TooLong);
        }
        let whole = HEADER + length + SEAL;
        let Some(frame) = bytes.get(..whole) else { return Ok(None) };
        let Some((sealed, seal)) = frame.split_last_chunk::<SEAL>() else { return Ok(None) };
        // This compares in constant time.
        if blake3::keyed_hash(&self.key, sealed) != *seal {
            return Err(Refusal::Seal);
        }
        if sealed[4..8] != [0; 4] || sealed[8..HEADER] != self.counter.to_le_bytes() {
            return Err(Refusal::Counter);
        }
        self.counter += 1;
        Ok(Some((&sealed[HEADER..], whole)))
    }
}
