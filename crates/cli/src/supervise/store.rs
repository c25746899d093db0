//! What the job's store says of an attempt, and what is written there: requests to the ranks, and the account of failures.
//!
//! Comes in: which attempt each launch is, once its ranks have said so; events. Goes out: how an attempt ended; whether a run has committed anything. What
//! must hold: a thread of its own does all of it, since parallel file systems hang for minutes at times, and whoever supervises must go on being
//! heard; what it says in time is believed, otherwise the careful answer is taken; an event that comes before its attempt is known is kept for
//! it, some thousands at the most.

use super::node_file::{self, Entry};
use super::policy::Mark;
use crate::clerk::Clerk;
use crate::line::Attempt;
use piton::ids::Epoch;
use piton::journal::{Event, JournalWriter, SUPERVISOR};
use piton::medium::{Access, RealMedium};
use piton::store::{JobFolder, Request, RequestKind, Store, StoreError};
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// Events that wait for their attempt.
const WAITING: usize = 4096;
/// Journals that are kept open: events of a launch come a little after its end.
const OPEN: usize = 4;
/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// The store of a job, as a supervisor sees it: a thread that works for it.
#[derive(Debug)]
pub struct JobStore {
    clerk: Clerk<Books>,
    attempts: BTreeMap<u32, Epoch>,
}

impl JobStore {
    /// Starts the thread.
    ///
    /// # Errors
    /// Where the system gives none.
    pub fn start() -> std::io::Result<Self> {
        Ok(Self { clerk: Clerk::start(Books::default(), Books::close)?, attempts: BTreeMap::new() })
    }

    /// What `question` comes to, or `otherwise` where the store does not answer.
    fn ask_in_time<T: Send + 'static>(
        &self,
        otherwise: T,
        question: impl FnOnce(&mut Books) -> T + Send + 'static,
    ) -> T {
        let (answer, answered) = channel();
        self.clerk.later(move |books| drop(answer.send(question(books))));
        answered.recv_timeout(PATIENCE).unwrap_or(otherwise)
    }

    /// The ranks of a launch have said which attempt they are. `failed` is called where its store can't be used.
    pub fn learn(&mut self, attempt: Attempt, failed: impl FnOnce(StoreError) + Send + 'static) {
        self.attempts.insert(attempt.launch, Epoch(attempt.epoch));
        self.clerk.later(move |books| books.learn(&attempt).unwrap_or_else(failed));
    }

    /// Writes an event to the journal of a launch's attempt, as of now.
    pub fn tell(&self, launch: u32, event: Event) {
        let at = Instant::now();
        self.clerk.later(move |books| books.tell(Waiting { launch, event, at }));
    }

    /// Writes down what became of a node, in the store that the settings name.
    pub fn remember(&self, store: PathBuf, entry: Entry) {
        // What can't be written is not known the next time, no more.
        self.clerk.later(move |_| drop(node_file::append(&store, &entry)));
    }

    /// The attempt of a launch.
    #[must_use]
    pub fn epoch(&self, launch: u32) -> Option<Epoch> {
        self.attempts.get(&launch).copied()
    }

    /// What the store says of how the attempt of a launch ended. Where it says nothing in time, the job is launched again, and finds out itself.
    #[must_use]
    pub fn mark(&self, launch: u32) -> Mark {
        self.epoch(launch)
            .map_or(Mark::Nothing, |epoch| self.ask_in_time(Mark::Nothing, move |books| books.mark(epoch)))
    }

    /// Whether a checkpoint of this run is committed. Where it does not say in time, one may be.
    #[must_use]
    pub fn has_committed(&self) -> bool {
        let first = self.attempts.values().min().copied();
        first.is_some_and(|first| self.ask_in_time(true, move |books| books.has_committed(first)))
    }

    /// Asks the ranks for a checkpoint, and to stop then; `failed` is called where that can't be.
    pub fn ask(&self, halt: bool, by: String, failed: impl FnOnce(String) + Send + 'static) {
        self.clerk.later(move |books| match books.ask(halt, by) {
            Ok(true) => {}
            Ok(false) => failed("their store is not known".to_owned()),
            Err(error) => failed(error.to_string()),
        });
    }

    /// Writes what is left to be written, if that takes no longer than `within`.
    pub fn close(self, within: Duration) {
        self.clerk.finish(within);
    }
}

/// An event of a launch, and when it happened.
#[derive(Debug)]
struct Waiting {
    launch: u32,
    event: Event,
    at: Instant,
}

/// What the thread has.
#[derive(Debug, Default)]
struct Books {
    job: Option<JobFolder>,
    journals: BTreeMap<u32, JournalWriter>,
    waiting: VecDeque<Waiting>,
    /// What the ranks were asked for.
    asked: Vec<String>,
}

impl Books {
    fn learn(&mut self, attempt: &Attempt) -> Result<(), StoreError> {
        let store = Store::new(Arc::new(RealMedium::new(Access::Private)), &attempt.store);
        let job = store.job(&attempt.job)?;
        let epoch = Epoch(attempt.epoch);
        let journal = JournalWriter::of_writer(Arc::clone(job.medium()), &job.epoch_folder(epoch), epoch, SUPERVISOR);
        self.job = Some(job);
        // What befell launches that never came to an attempt is told with the first one that did.
        let waiting = std::mem::take(&mut self.waiting);
        let (due, later) = waiting.into_iter().partition(|waiting| waiting.launch <= attempt.launch);
        self.waiting = later;
        write(&journal, due);
        self.journals.insert(attempt.launch, journal);
        while self.journals.len() > OPEN {
            self.journals.pop_first();
        }
        Ok(())
    }

    fn tell(&mut self, waiting: Waiting) {
        match self.journals.get(&waiting.launch) {
            Some(journal) => write(journal, [waiting].into()),
            None => {
                if self.waiting.len() >= WAITING {
                    self.waiting.pop_front();
                }
                self.waiting.push_back(waiting);
            }
        }
    }

    fn mark(&self, epoch: Epoch) -> Mark {
        let Some(job) = &self.job else { return Mark::Nothing };
        if job.finished(epoch).is_some() {
            return Mark::Finished;
        }
        let Ok(journal) = piton::journal::read(&**job.medium(), &job.epoch_folder(epoch)) else { return Mark::Nothing };
        let any = |is: fn(&Event) -> bool| journal.records.iter().any(|record| is(&record.event));
        if !any(|event| matches!(event, Event::Halted { .. })) {
            return Mark::Nothing;
        }
        Mark::Halted { signalled: any(|event| event.is_of_signal("SIGTERM")) }
    }

    fn has_committed(&self, first: Epoch) -> bool {
        let Some(job) = &self.job else { return false };
        // What can't be read just now may be one.
        job.catalogue().map_or(true, |catalogue| catalogue.candidates().any(|entry| entry.name.epoch >= first))
    }

    fn ask(&mut self, halt: bool, by: String) -> Result<bool, StoreError> {
        let Some(job) = &self.job else { return Ok(false) };
        let kind = if halt { RequestKind::Halt } else { RequestKind::Checkpoint };
        self.asked.push(job.request(&Request { kind, by })?);
        Ok(true)
    }

    /// What waits is written with the last attempt that is known; where there never was one, there is no journal to write it to.
    fn close(mut self) {
        if let Some(journal) = self.journals.values().next_back() {
            write(journal, std::mem::take(&mut self.waiting));
        }
        // What no rank has taken up is not meant for the next attempt.
        for name in std::mem::take(&mut self.asked) {
            let _ = self.job.as_ref().map(|job| job.withdraw_request(&name));
        }
        // Whatever could not be written stays unsaid.
        self.journals.values().for_each(|journal| drop(journal.sync()));
    }
}

fn write(journal: &JournalWriter, waiting: VecDeque<Waiting>) {
    waiting.into_iter().for_each(|waiting| journal.note_since(waiting.event, waiting.at.elapsed()));
    journal.flush();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(store: &std::path::Path, launch: u32, epoch: u64) -> Attempt {
        Attempt { launch, job: "sea".into(), store: store.display().to_string(), epoch, world: 1 }
    }

    #[test]
    fn what_happens_before_the_attempt_is_known_is_told_with_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut store = JobStore::start().expect("a thread");
        let failure = |failure| Event::FailureDetected { failure, class: "x".into(), summary: "y".into() };
        store.tell(1, failure(1));
        assert_eq!((store.mark(1), store.has_committed()), (Mark::Nothing, false));
        let sea = Store::new(Arc::new(RealMedium::new(Access::Private)), folder.path()).job("sea").expect("a job");
        sea.prepare().expect("folders");
        let job = sea.epoch_folder(Epoch(2));
        std::fs::create_dir_all(&job).expect("an attempt");
        store.learn(attempt(folder.path(), 2, 2), |error| panic!("{error}"));
        store.tell(2, failure(2));
        store.tell(3, failure(3));
        store.ask(true, "a test".into(), |why| panic!("{why}"));
        assert_eq!(store.epoch(2), Some(Epoch(2)));
        assert_eq!((store.mark(2), store.has_committed()), (Mark::Nothing, false));
        store.close(Duration::from_secs(20));
        assert_eq!(
            sea.take_requests().expect("requests").len(),
            0,
            "nobody took it up, and the next attempt is not to"
        );
        let journal = piton::journal::read(&RealMedium::new(Access::Private), &job).expect("a journal");
        let told: Vec<u32> = journal
            .records
            .iter()
            .filter_map(|record| match record.event {
                Event::FailureDetected { failure, .. } => Some(failure),
                _ => None,
            })
            .collect();
        assert_eq!(told, [1, 2, 3], "what no attempt was left for comes last");
    }

    #[test]
    fn a_store_that_hangs_is_not_waited_for() {
        let store = JobStore::start().expect("a thread");
        let (release, held) = channel::<()>();
        store.clerk.later(move |_| {
            let _ = held.recv();
        });
        let began = Instant::now();
        assert!(store.ask_in_time(true, |_| false), "the careful answer");
        assert!(began.elapsed() >= PATIENCE && began.elapsed() < 3 * PATIENCE);
        drop(release);
        store.close(Duration::from_secs(20));
    }
}
