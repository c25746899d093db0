//! Which checkpoints may go.
//!
//! Comes in: all checkpoints of a job, and a policy. Goes out: those to remove, oldest first.
//! What must hold: of the attempt that asks, the newest `keep` committed checkpoints stay, and so many more that among those
//! that stay are `keep` which share no chunk, or all of them; with each checkpoint that stays, whatever for, every one stays that holds
//! chunks of it; pinned and labelled ones stay; nothing of other epochs goes before the attempt has `keep`
//! commits of its own, and nothing at all once another attempt has a newer claim, since that may be reading it; what is in
//! flight stays.

use super::{Catalogue, CheckpointState, JobFolder, Manifest, StoreError};
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

    /// Of `commits`, newest first: those that stay, and how many of them share no chunk (at most `keep`).
    fn kept_of<'a>(&self, commits: impl Iterator<Item = &'a Manifest>) -> (BTreeSet<CheckpointName>, usize) {
        let keep = self.keep.max(1);
        let (mut kept, mut apart, mut families) = (BTreeSet::new(), BTreeSet::new(), 0);
        for (age, manifest) in commits.enumerate() {
            let is_apart = families < keep && manifest.family().all(|name| !apart.contains(&name));
            if is_apart {
                families += 1;
                apart.extend(manifest.family());
            }
            if is_apart || age < keep {
                kept.extend(manifest.family());
            }
        }
        (kept, families)
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
        let (kept, families) = self.kept_of(own().rev().filter_map(|entry| entry.manifest()));
        let needed = self.needed_for_ever(catalogue);
        let others_may_go = families >= self.keep.max(1);
        let goes = |entry: &&super::CheckpointEntry| {
            let CheckpointName { epoch: of, id } = entry.name;
            if needed.contains(&entry.name) {
                return false;
            }
            match of.cmp(&epoch) {
                std::cmp::Ordering::Less => others_may_go,
                // What is newer than the last commit is in flight.
                std::cmp::Ordering::Equal => id < newest && !kept.contains(&entry.name),
                std::cmp::Ordering::Greater => false,
            }
        };
        catalogue.entries.iter().filter(goes).map(|entry| entry.name).collect()
    }

    /// What stays whatever is newer: pinned and labelled ones, every so-manieth, and what they refer to.
    fn needed_for_ever(&self, catalogue: &Catalogue) -> BTreeSet<CheckpointName> {
        let mut needed = BTreeSet::new();
        for entry in &catalogue.entries {
            let manifest = entry.manifest();
            if entry.is_kept() || (manifest.is_some() && self.keeps_for_ever(entry.name.id)) {
                needed.insert(entry.name);
                needed.extend(manifest.into_iter().flat_map(Manifest::family));
            }
        }
        needed
    }

    /// What may be removed where no attempt asks: of the present lineage all but the newest `keep` committed checkpoints,
    /// those that hold chunks of theirs, and `sound`, the newest that is known to be whole; older lineages only once the
    /// present one has `keep` of its own. Pinned and labelled ones stay, and so does what can't be read now, and what is complete
    /// and newer than every committed one. Partial ones go: the caller must know that their attempts don't run.
    #[must_use]
    pub fn prunable(&self, catalogue: &Catalogue, sound: Option<CheckpointName>) -> Vec<CheckpointName> {
        let usable = |entry: &&super::CheckpointEntry| entry.name.epoch >= catalogue.lineage && entry.is_candidate();
        let commits: Vec<_> =
            catalogue.entries.iter().rev().filter(usable).filter_map(|entry| entry.manifest()).collect();
        let newest = commits.first().map(|manifest| manifest.name());
        let (mut kept, families) = self.kept_of(commits.iter().copied());
        kept.extend(self.needed_for_ever(catalogue));
        let sound = commits.iter().filter(|manifest| Some(manifest.name()) == sound);
        kept.extend(sound.flat_map(|manifest| manifest.family()));
        let goes = |entry: &&super::CheckpointEntry| {
            let older_lineage = entry.name.epoch < catalogue.lineage;
            if kept.contains(&entry.name) || (older_lineage && families < self.keep.max(1)) {
                return false;
            }
            match &entry.state {
                CheckpointState::Committed(_) => true,
                CheckpointState::Complete { .. } => newest.is_some_and(|newest| entry.name < newest),
                CheckpointState::Partial { .. } | CheckpointState::Damaged(_) => true,
                CheckpointState::Unreadable(_) => false,
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
        // Those that refer to others before these: a crash in between leaves whole ones.
        for name in policy.retired(&catalogue, epoch, newest, newest_claim).into_iter().rev() {
            match self.remove(name) {
                Ok(()) => gone.push(name),
                Err(error) => problem = problem.or(Some(error)),
            }
        }
        Ok((gone, problem))
    }
}

#[cfg(test)]
mod tests {
    use super::super::CheckpointEntry;
    use super::*;

    fn manifest(name: CheckpointName, label: Option<&str>, parents: &[u64]) -> Manifest {
        Manifest {
            job: "j".into(),
            epoch: name.epoch,
            id: name.id,
            tick: 0,
            step: name.id.0,
            world: 0,
            created_unix_ms: 0,
            library: String::new(),
            program: String::new(),
            reason: String::new(),
            label: label.map(str::to_owned),
            parents: parents.iter().map(|id| CheckpointId(*id)).collect(),
            raw_bytes: 0,
            stored_bytes: 0,
            fields: Vec::new(),
            shards: Vec::new(),
        }
    }

    fn name(epoch: u64, id: u64) -> CheckpointName {
        CheckpointName { epoch: Epoch(epoch), id: CheckpointId(id) }
    }

    fn committed(epoch: u64, id: u64) -> CheckpointEntry {
        with(epoch, id, CheckpointState::Committed(Box::new(manifest(name(epoch, id), None, &[]))))
    }

    fn with(epoch: u64, id: u64, state: CheckpointState) -> CheckpointEntry {
        CheckpointEntry { name: name(epoch, id), state, set_aside: None, pinned: false }
    }

    fn prunable(
        keep: usize,
        lineage: u64,
        entries: Vec<CheckpointEntry>,
        sound: Option<CheckpointName>,
    ) -> Vec<String> {
        let catalogue = Catalogue { entries, lineage: Epoch(lineage), epochs: BTreeSet::new() };
        let policy = RetentionPolicy { keep, keep_every: 0 };
        let names = policy.prunable(&catalogue, sound);
        names.iter().map(|name| format!("{}/{}", name.epoch, name.id)).collect()
    }

    #[test]
    fn the_newest_and_what_they_need_stay() {
        let four = || vec![committed(1, 1), committed(1, 2), committed(2, 3), committed(2, 4)];
        assert_eq!(prunable(2, 0, four(), None), ["1/1", "1/2"]);
        assert_eq!(prunable(1, 0, four(), Some(name(1, 2))), ["1/1", "2/3"], "the newest sound one stays");
        let mut entries = four();
        entries[0].pinned = true;
        entries[1].state = CheckpointState::Committed(Box::new(manifest(name(1, 2), Some("spin-up"), &[])));
        entries[3].state = CheckpointState::Committed(Box::new(manifest(name(2, 4), None, &[3])));
        assert!(prunable(1, 0, entries, None).is_empty());
        let mut entries = four();
        entries[3].set_aside = Some("damaged".into());
        assert_eq!(prunable(1, 0, entries, None), ["1/1", "1/2", "2/4"], "what is set aside does not count");
    }

    fn both(mut older: Vec<CheckpointEntry>, newer: Vec<CheckpointEntry>) -> Vec<CheckpointEntry> {
        older.extend(newer);
        older
    }

    fn refers(epoch: u64, id: u64, parents: &[u64]) -> CheckpointEntry {
        with(epoch, id, CheckpointState::Committed(Box::new(manifest(name(epoch, id), None, parents))))
    }

    fn retired(keep: usize, entries: Vec<CheckpointEntry>) -> Vec<String> {
        let newest = entries.last().unwrap().name;
        let catalogue = Catalogue { entries, lineage: Epoch(0), epochs: BTreeSet::new() };
        let policy = RetentionPolicy { keep, keep_every: 0 };
        let names = policy.retired(&catalogue, newest.epoch, newest.id, true);
        names.iter().map(|name| format!("{}/{}", name.epoch, name.id)).collect()
    }

    #[test]
    fn two_that_share_no_chunk_stay_with_all_that_they_refer_to() {
        let chain = || vec![committed(1, 9), refers(1, 10, &[9]), refers(1, 11, &[9]), refers(1, 12, &[9, 11])];
        assert_eq!(retired(2, chain()), ["1/10"], "12 and 11 are the newest two, 10 is of no use to them");
        let two_chains = || both(vec![committed(1, 7), refers(1, 8, &[7])], chain());
        assert_eq!(retired(2, two_chains()), ["1/10"], "8 shares no chunk with 12");
        assert_eq!(retired(1, two_chains()), ["1/7", "1/8", "1/10"]);
        let older = || both(vec![committed(0, 5), committed(0, 6)], chain());
        assert_eq!(retired(2, older()), ["1/10"], "only one of the own chains is there so far");
        assert_eq!(retired(2, both(older(), vec![committed(1, 13)])), ["0/5", "0/6", "1/10"]);
        let mut pinned = both(vec![committed(1, 1), refers(1, 2, &[1])], vec![committed(1, 3), committed(1, 4)]);
        pinned[1].pinned = true;
        assert!(retired(2, pinned).is_empty(), "what a pinned one refers to");
    }

    #[test]
    fn what_nobody_can_use_goes_and_what_is_not_known_stays() {
        let entries = vec![
            with(1, 1, CheckpointState::Partial { shards: 1 }),
            with(1, 2, CheckpointState::Complete { world: 1, step: 2 }),
            with(1, 3, CheckpointState::Damaged("x".into())),
            with(1, 4, CheckpointState::Unreadable("x".into())),
            committed(1, 5),
            with(1, 6, CheckpointState::Complete { world: 1, step: 6 }),
        ];
        assert_eq!(prunable(1, 0, entries, None), ["1/1", "1/2", "1/3"]);
        // Nothing is committed: what is complete is all there is.
        let entries = vec![with(1, 2, CheckpointState::Complete { world: 1, step: 2 })];
        assert!(prunable(1, 0, entries, None).is_empty());
    }

    #[test]
    fn an_older_lineage_goes_only_after_enough_commits_of_the_new_one() {
        let entries = || vec![committed(1, 1), committed(1, 2), committed(2, 3)];
        assert!(prunable(2, 2, entries(), None).is_empty());
        assert_eq!(prunable(1, 2, entries(), None), ["1/1", "1/2"]);
    }
}
