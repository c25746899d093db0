//! What a job's attempts tell of its failures and costs.
//!
//! Comes in: the journals of each attempt's first rank, and of its supervisor, where it had one. Goes out: a [`History`], oldest attempt first. What must hold: it costs no more than
//! reading so many bytes, however long the job has lived; a journal that can't be read now is left out.

use super::JobFolder;
use crate::ids::Epoch;
use crate::journal::{self, Reader};
use crate::schedule::{Attempt, History};
use std::collections::BTreeSet;
use std::path::PathBuf;

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
            let bytes = |path: PathBuf| self.medium().stat(&path).map_or(0, |stat| stat.len);
            let bytes = bytes(self.first_journal(epoch)) + bytes(self.supervisors_journal(epoch));
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
        let records = |path: PathBuf| {
            let mut reader = Reader::open(&**self.medium(), &path).ok()?;
            // What can't be read any further ends it.
            Some(std::iter::from_fn(move || reader.next_record().ok().flatten()))
        };
        let mut attempt = Attempt::of(records(self.first_journal(epoch))?)?;
        let supervisor = records(self.supervisors_journal(epoch));
        supervisor.into_iter().flatten().for_each(|record| attempt.supervised(&record));
        Some(attempt)
    }

    fn supervisors_journal(&self, epoch: Epoch) -> PathBuf {
        self.epoch_folder(epoch).join(journal::file_name(journal::SUPERVISOR))
    }
}

#[cfg(test)]
mod tests {
    use crate::ids::Epoch;
    use crate::journal::{Event, JournalWriter, SUPERVISOR};
    use crate::medium::RealMedium;
    use crate::schedule::Ending;
    use crate::store::{JobFolder, Store};
    use std::sync::Arc;

    fn started(job: &JobFolder, epoch: u64, restarts: u32) {
        let folder = job.epoch_folder(Epoch(epoch));
        std::fs::create_dir_all(&folder).expect("a folder");
        let journal = JournalWriter::open(Arc::clone(job.medium()), &folder, Epoch(epoch), 0).expect("a journal");
        journal.note(Event::AttemptStarted {
            job: "walk".into(),
            host: "n1".into(),
            pid: 1,
            world: 1,
            program: String::new(),
            version: String::new(),
            request: "latest".into(),
            boot_id: None,
            batch_job: Some("7".into()),
            batch_restarts: Some(restarts),
            allocation_end: None,
            nodes: Some(1),
        });
        journal.flush();
    }

    #[test]
    fn a_supervisor_is_believed_on_how_an_attempt_ended() {
        let folder = tempfile::tempdir().expect("a folder");
        let job = Store::new(Arc::new(RealMedium::default()), folder.path()).job("walk").expect("a good name");
        started(&job, 1, 0);
        started(&job, 2, 1);
        // Slurm started it again, which is no failure of the job's, as far as ranks know.
        assert_eq!(job.history().ending(0), Ending::Requeued);
        let first = Epoch(1);
        let journal = JournalWriter::of_writer(Arc::clone(job.medium()), &job.epoch_folder(first), first, SUPERVISOR);
        journal.note(Event::EndExplained { epoch: first, failure: true, reason: "a node was lost".into() });
        journal.flush();
        assert_eq!(job.history().ending(0), Ending::Failed);
    }
}
