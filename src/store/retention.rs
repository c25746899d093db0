//! Which checkpoints may go.
//!
//! Comes in: all checkpoints of a job, and a policy. Goes out: those to remove, oldest first.
//! What must hold: the newest `keep` committed checkpoints of the attempt that asks stay, and with them every checkpoint
//! that holds chunks of theirs; pinned and labelled ones stay; nothing of other epochs goes before the attempt has `keep`
//! commits of its own, and nothing at all once another attempt has a newer claim, since that may be reading it; what is in
//! flight stays.

use super::{Catalogue, CheckpointState, JobFolder, StoreError};
use crate::ids::{CheckpointId, CheckpointName, Epoch};
use std::collections::BTreeSet;

/// How many checkpoints are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetentionPolicy {
    /// The newest of them, at least this many.
    pub keep: usize,
    /// Besides, every one whose id is a multiple of this; 0: none.
    pub keep_every: u64,
}

impl RetentionPolicy {
    fn keeps_for_ever(&self, id: CheckpointId) -> bool {
        self.keep_every > 0 && id.0.is_multiple_of(self.keep_every)
    }

    /// What attempt `epoch` may remove after it committed `newest`. `newest_claim`: no other attempt came after it.
    #[must_use]
    pub fn retired(
        &self,
        catalogue: &Catalogue,
        epoch: Epoch,
        newest: CheckpointId,
        newest_claim: bool,
    ) -> Vec<CheckpointName> {
        if !newest_claim {
            return Vec::new();
        }
        let own = || catalogue.entries.iter().filter(|entry| entry.name.epoch == epoch);
        let commits: Vec<_> = own().rev().filter_map(|entry| entry.manifest()).collect();
        let mut kept: BTreeSet<CheckpointId> = BTreeSet::new();
        for manifest in commits.iter().take(self.keep.max(1)) {
            kept.insert(manifest.id);
            kept.extend(&manifest.parents);
        }
        let others_may_go = commits.len() >= self.keep.max(1);
        let goes = |entry: &&super::CheckpointEntry| {
            let CheckpointName { epoch: of, id } = entry.name;
            if entry.is_kept() {
                return false;
            }
            let committed = matches!(entry.state, CheckpointState::Committed(_));
            if committed && self.keeps_for_ever(id) {
                return false;
            }
            match of.cmp(&epoch) {
                std::cmp::Ordering::Less => others_may_go,
                // What is newer than the last commit is in flight.
                std::cmp::Ordering::Equal => id < newest && !kept.contains(&id),
                std::cmp::Ordering::Greater => false,
            }
        };
        catalogue.entries.iter().filter(goes).map(|entry| entry.name).collect()
    }
}

impl JobFolder {
    /// Removes what `policy` says may go after attempt `epoch` committed `newest`. Returns what went, and the first error
    /// with what could not be removed; what can't be removed now is tried again after the next commit.
    ///
    /// # Errors
    /// [`StoreError::Io`] where the store can't be listed.
    pub fn retire(
        &self,
        policy: &RetentionPolicy,
        epoch: Epoch,
        newest: CheckpointId,
    ) -> Result<(Vec<CheckpointName>, Option<StoreError>), StoreError> {
        let catalogue = self.catalogue()?;
        let newest_claim = catalogue.epochs.last().is_none_or(|last| *last <= epoch);
        let (mut gone, mut problem) = (Vec::new(), None);
        for name in policy.retired(&catalogue, epoch, newest, newest_claim) {
            match self.remove(name) {
                Ok(()) => gone.push(name),
                Err(error) => problem = problem.or(Some(error)),
            }
        }
        Ok((gone, problem))
    }
}
