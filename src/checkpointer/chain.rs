//! What the next checkpoint builds on.
//!
//! Comes in: what this rank's writer left of the shards it wrote, and which checkpoint was committed last, as all ranks know
//! it. Goes out: this rank's vote whether the next one must be complete in itself, and the [`Lineage`] of its shard.
//!
//! What must hold: only a committed checkpoint is built on; from the second checkpoint of a job on there are two that share no
//! chunk, so that no single fault of the storage costs all; all ranks make the same one complete, or chains would never
//! end; no chain is longer than the setting allows, and none takes more room, and time on the way back, than twice what its
//! first checkpoint took (whoever waits for the cost of going on to reach that of starting anew pays at most twice the
//! best that could be done, as with renting and buying).

use super::pipeline::Written;
use crate::freeze::Changed;
use crate::ids::CheckpointId;
use crate::shard::{Base, Digests, Lineage};
use std::sync::Arc;

/// Where more than this share of the state changes from one checkpoint to the next, only a sample of it is watched.
const NEARLY_ALL: f64 = 0.8;

/// So many checkpoints that share no chunk there are as early as possible, and from then on.
const APART: u32 = 2;

/// One rank's part of the chain of checkpoints.
#[derive(Debug)]
pub(super) struct Chain {
    /// How many checkpoints it may have; 1: all are complete in themselves.
    most: u32,
    /// Checkpoints whose id is a multiple of this are complete, since they are kept for ever; 0: none.
    keep_every: u64,
    /// The newest shard whose checkpoint is known to be committed.
    committed: Option<Arc<Base>>,
    /// How many more complete checkpoints are to be committed before one builds on another.
    complete_first: u32,
    digests: Digests,
    /// The last freeze, and what may have changed of each field from the newest committed checkpoint before it until then.
    frozen: Option<(CheckpointId, Vec<Changed>)>,
}

impl Chain {
    pub(super) fn new(most: u32, keep_every: u64) -> Self {
        Self { most, keep_every, committed: None, complete_first: APART, digests: Digests::All, frozen: None }
    }

    /// The job goes on from a checkpoint of an earlier attempt, which shares no chunk with those of this one.
    pub(super) fn goes_on(&mut self) {
        self.complete_first = APART - 1;
    }

    /// Whether this rank wants checkpoint `id` to be complete. `written`: the newest shard that it wrote, which it takes to be
    /// committed.
    pub(super) fn wants_full(&self, id: CheckpointId, written: Option<&Written>) -> bool {
        let newest = written.and_then(|written| written.base.as_ref()).or(self.committed.as_ref());
        let ends = |base: &Arc<Base>| base.depth() >= self.most || base.chain_bytes() > base.full_bytes();
        let is_new = |written: &&Written| self.committed.as_ref().is_none_or(|base| base.id() != written.id);
        let complete =
            written.filter(is_new).and_then(|written| written.base.as_ref()).filter(|base| base.depth() == 1);
        let to_come = self.complete_first.saturating_sub(u32::from(complete.is_some()));
        to_come > 0 || id.0.checked_rem(self.keep_every) == Some(0) || newest.is_none_or(ends)
    }

    /// What the shard of the next checkpoint builds on, now that `committed` is the newest that is committed (0: none).
    pub(super) fn next(&mut self, written: Option<Written>, committed: u64, full: bool) -> Lineage {
        if self.most <= 1 {
            return Lineage::default();
        }
        if let Some(Written { id, base, changed_share }) = written {
            let is_new = self.committed.as_ref().is_none_or(|base| base.id() != id);
            if id.0 == committed && is_new {
                if base.as_ref().is_some_and(|base| base.depth() == 1) {
                    self.complete_first = self.complete_first.saturating_sub(1);
                }
                self.committed = base;
            }
            if let Some(share) = changed_share {
                self.digests = if share > NEARLY_ALL { Digests::Sampled } else { Digests::All };
            }
        }
        let usable = |base: &Arc<Base>| !full && base.id().0 == committed && base.depth() < self.most;
        Lineage { base: self.committed.clone().filter(usable), digests: self.digests }
    }

    /// What may have changed of each field since checkpoint `committed`, now that it was frozen as `id` and `changed` since the
    /// freeze before. What was dropped in between is carried along.
    pub(super) fn since_committed(&mut self, id: CheckpointId, changed: &[Changed], committed: u64) -> Vec<Changed> {
        let mut since = changed.to_vec();
        if let Some((before, carried)) = &self.frozen
            && before.0 != committed
        {
            match carried.len() == since.len() {
                true => since.iter_mut().zip(carried).for_each(|(since, carried)| since.union(carried)),
                false => since.fill(Changed::Unknown),
            }
        }
        self.frozen = Some((id, since.clone()));
        since
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::freeze::PageMap;

    fn pages(list: &[usize]) -> Changed {
        let mut map = PageMap::of_bytes(10 * 4096);
        list.iter().for_each(|page| map.set_range(*page..*page + 1));
        Changed::Pages(map)
    }

    #[test]
    fn what_changed_before_a_dropped_checkpoint_is_carried_along() {
        let mut chain = Chain::new(8, 0);
        let mut freeze = |id: u64, changed: Changed, committed: u64| {
            chain.since_committed(CheckpointId(id), &[changed], committed).remove(0)
        };
        assert_eq!(freeze(1, Changed::Unknown, 0), Changed::Unknown);
        assert_eq!(freeze(2, pages(&[1]), 1), pages(&[1]));
        assert_eq!(freeze(3, pages(&[2]), 2), pages(&[2]));
        // 3 was dropped, then 4 as well.
        assert_eq!(freeze(4, pages(&[3]), 2), pages(&[2, 3]));
        assert_eq!(freeze(5, pages(&[4]), 2), pages(&[2, 3, 4]));
        assert_eq!(freeze(6, pages(&[5]), 5), pages(&[5]));
        assert_eq!(freeze(7, Changed::Unknown, 5), Changed::Unknown);
        assert_eq!(freeze(8, pages(&[6]), 5), Changed::Unknown);
        assert_eq!(freeze(9, pages(&[7]), 8), pages(&[7]));
        assert_eq!(
            chain.since_committed(CheckpointId(10), &[pages(&[1]), pages(&[2])], 8),
            [Changed::Unknown, Changed::Unknown]
        );
    }
}
