//! What the job's store says of an attempt, and what is written there: requests to the ranks, and the account of failures.
//!
//! Comes in: which attempt each launch is, once its ranks have said so; events. Goes out: how an attempt ended; whether a run has committed anything. What
//! must hold: an event that comes before its attempt is known is kept for it, some thousands at the most; a store that does not answer
//! costs the account, not the job.

use super::policy::Mark;
use crate::line::Attempt;
use piton::ids::Epoch;
use piton::journal::{Event, JournalWriter};
use piton::medium::{Access, RealMedium};
use piton::store::{JobFolder, Request, RequestKind, Store, StoreError};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

/// Events that wait for their attempt.
const WAITING: usize = 4096;
/// Journals that are kept open: events of a launch come a little after its end.
const OPEN: usize = 4;

/// An event that waits for the attempt of its launch, and when it happened.
#[derive(Debug)]
struct Waiting {
    launch: u32,
    event: Event,
    at: Instant,
}

/// The store of a job, as a supervisor sees it.
#[derive(Debug, Default)]
pub struct JobStore {
    job: Option<JobFolder>,
    /// The attempt of each launch.
    attempts: BTreeMap<u32, Epoch>,
    journals: BTreeMap<u32, JournalWriter>,
    waiting: VecDeque<Waiting>,
}

impl JobStore {
    /// The ranks of a launch have said which attempt they are.
    ///
    /// # Errors
    /// Where the job has no name that a store can have.
    pub fn learn(&mut self, attempt: &Attempt) -> Result<(), StoreError> {
        if self.attempts.contains_key(&attempt.launch) {
            return Ok(());
        }
        let store = Store::new(Arc::new(RealMedium::new(Access::Private)), &attempt.store);
        let job = store.job(&attempt.job)?;
        let epoch = Epoch(attempt.epoch);
        let journal = JournalWriter::of_writer(Arc::clone(job.medium()), &job.epoch_folder(epoch), epoch, "supervisor");
        self.attempts.insert(attempt.launch, epoch);
        self.journals.insert(attempt.launch, journal);
        while self.journals.len() > OPEN {
            self.journals.pop_first();
        }
        self.job = Some(job);
        // What befell launches that never came to an attempt is told with the first one that did.
        let waiting = std::mem::take(&mut self.waiting);
        let (due, later) = waiting.into_iter().partition(|waiting| waiting.launch <= attempt.launch);
        self.waiting = later;
        if let Some(journal) = self.journals.get(&attempt.launch) {
            write(journal, due);
        }
        Ok(())
    }

    /// Writes an event to the journal of a launch's attempt.
    pub fn tell(&mut self, launch: u32, event: Event) {
        match self.journals.get(&launch) {
            Some(journal) => journal.write(event),
            None => {
                if self.waiting.len() >= WAITING {
                    self.waiting.pop_front();
                }
                self.waiting.push_back(Waiting { launch, event, at: Instant::now() });
            }
        }
    }

    /// The attempt of a launch.
    #[must_use]
    pub fn epoch(&self, launch: u32) -> Option<Epoch> {
        self.attempts.get(&launch).copied()
    }

    /// What the store says of how the attempt of a launch ended.
    #[must_use]
    pub fn mark(&self, launch: u32) -> Mark {
        let Some((job, epoch)) = self.job.as_ref().zip(self.epoch(launch)) else { return Mark::Nothing };
        if job.finished(epoch).is_some() {
            return Mark::Finished;
        }
        let journal = piton::journal::read(&**job.medium(), &job.epoch_folder(epoch));
        let halted = journal
            .is_ok_and(|journal| journal.records.iter().any(|record| matches!(record.event, Event::Halted { .. })));
        if halted { Mark::Halted } else { Mark::Nothing }
    }

    /// Whether a checkpoint of this run is committed.
    #[must_use]
    pub fn has_committed(&self) -> bool {
        let Some((job, first)) = self.job.as_ref().zip(self.attempts.values().min()) else { return false };
        job.catalogue().is_ok_and(|catalogue| catalogue.candidates().any(|entry| entry.name.epoch >= *first))
    }

    /// Asks the ranks for a checkpoint, and to stop then; whether there was somebody to ask.
    ///
    /// # Errors
    /// The store can't be written.
    pub fn ask(&self, halt: bool, by: String) -> Result<bool, StoreError> {
        let Some(job) = &self.job else { return Ok(false) };
        let kind = if halt { RequestKind::Halt } else { RequestKind::Checkpoint };
        job.request(&Request { kind, by })?;
        Ok(true)
    }

    /// What waits is written with the last attempt that is known; where there never was one, there is no journal to write it to.
    pub fn close(mut self) {
        if let Some(journal) = self.journals.values().next_back() {
            write(journal, std::mem::take(&mut self.waiting));
        }
        // Whatever could not be written stays unsaid.
        self.journals.values().for_each(|journal| drop(journal.sync()));
    }
}

fn write(journal: &JournalWriter, waiting: VecDeque<Waiting>) {
    waiting.into_iter().for_each(|waiting| journal.note_since(waiting.event, waiting.at.elapsed()));
    journal.flush();
}
