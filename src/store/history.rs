//! What a job's attempts tell of its failures and costs.
//!
//! Comes in: the journals of each attempt's first rank. Goes out: a [`History`], oldest attempt first. What must hold: it costs no more than
//! reading so many bytes, however long the job has lived; a journal that can't be read now is left out.

use super::JobFolder;
use crate::ids::Epoch;
use crate::journal::Reader;
use crate::schedule::{Attempt, History};
use std::collections::BTreeSet;

/// Most attempts that are looked at, the newest ones.
const ATTEMPTS: usize = 1000;
/// Most bytes of journals that are read for it, of the newest attempts.
const BYTES: u64 = 256 << 20;

impl JobFolder {
    /// The job's attempts, as far as their journals tell.
    #[must_use]
    pub fn history(&self) -> History {
        let claimed = self.claims().unwrap_or_default().into_iter().map(|(epoch, _)| epoch);
        let epochs: BTreeSet<Epoch> = claimed.chain(self.epoch_folders().unwrap_or_default()).collect();
        let mut attempts = Vec::new();
        let mut left = BYTES;
        for epoch in epochs.into_iter().rev().take(ATTEMPTS) {
            let bytes = self.medium().stat(&self.first_journal(epoch)).map_or(0, |stat| stat.len);
            let Some(rest) = left.checked_sub(bytes) else { break };
            left = rest;
            attempts.extend(self.attempt(epoch));
        }
        attempts.reverse();
        History::new(attempts)
    }

    /// One attempt; `None` where none of the application began, or nothing of it can be read.
    #[must_use]
    pub fn attempt(&self, epoch: Epoch) -> Option<Attempt> {
        let mut reader = Reader::open(&**self.medium(), &self.first_journal(epoch)).ok()?;
        // What can't be read any further ends it.
        Attempt::of(std::iter::from_fn(|| reader.next_record().ok().flatten()))
    }
}
