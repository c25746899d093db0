//! What the library says: to the journal, to the board where something is wrong, and to standard error as far as the user wants it.
//!
//! What must hold: saying something never fails and never waits for another rank or for a file system, since the
//! application's own thread does so in its ticks: a thread of the journal's own writes it; nothing is printed that the
//! setting `log` does not allow.

use crate::config::Log;
use crate::journal::{Event, JournalWriter};
use crate::watch::board::Place;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

/// One rank's voice.
#[derive(Debug)]
pub(super) struct Recorder {
    scribe: Arc<Scribe>,
    /// `None` where the system gave no thread, and after [`Recorder::close`].
    thread: Mutex<Option<JoinHandle<()>>>,
    log: Log,
    rank: usize,
    /// The rank's place on the board, once it has one.
    place: OnceLock<Place>,
}

/// What the recorder and its thread share.
#[derive(Debug)]
struct Scribe {
    journal: JournalWriter,
    state: Mutex<Orders>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Orders {
    /// Something was said that is not yet written.
    pending: bool,
    end: bool,
    /// The thread writes no more.
    ended: bool,
}

impl Scribe {
    fn lock(&self) -> MutexGuard<'_, Orders> {
        // Three flags can't be left in disorder.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut orders = self.lock();
        loop {
            let end = orders.end;
            if !std::mem::take(&mut orders.pending) && !end {
                orders = self.changed.wait(orders).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            drop(orders);
            self.journal.flush();
            if end {
                // The journal keeps count of what it could not write.
                let _ = self.journal.sync();
            }
            orders = self.lock();
            if end && !orders.pending {
                break;
            }
        }
        orders.ended = true;
        drop(orders);
        self.changed.notify_all();
    }
}

impl Recorder {
    pub(super) fn new(journal: JournalWriter, log: Log, rank: usize) -> Self {
        let scribe = Arc::new(Scribe { journal, state: Mutex::default(), changed: Condvar::new() });
        let own = Arc::clone(&scribe);
        let thread = std::thread::Builder::new().name("piton-journal".into()).spawn(move || own.run());
        // Without a thread whoever says something writes it.
        Self { scribe, thread: Mutex::new(thread.ok()), log, rank, place: OnceLock::new() }
    }

    /// What goes wrong is said here, too, from now on.
    pub(super) fn tell_on(&self, place: Place) {
        // A rank has one board for as long as it lives.
        let _ = self.place.set(place);
    }

    /// Has `event` written to the journal, and prints it where the user wants to see such.
    pub(super) fn record(&self, event: Event) {
        let line = self.line(&event);
        if self.log >= Log::Normal
            && let Some(line) = &line
        {
            eprintln!("piton: {line}");
        }
        let is_wrong = matches!(event, Event::Problem { .. } | Event::Dropped { .. } | Event::ValuesOutOfRange { .. });
        self.scribe.journal.note(event);
        let mut orders = self.scribe.lock();
        // Under the lock: two threads would mix their words.
        if let Some((place, line)) = self.place.get().zip(line.filter(|_| is_wrong)) {
            place.error(&line);
        }
        orders.pending = true;
        let ended = orders.ended;
        drop(orders);
        self.scribe.changed.notify_all();
        if ended || self.thread.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
            self.scribe.journal.flush();
        }
    }

    /// What a person at the terminal is told.
    fn line(&self, event: &Event) -> Option<String> {
        let rank = self.rank;
        let line = match event {
            Event::Problem { what, detail } => format!("rank {rank}: {what}: {detail}"),
            Event::Dropped { id, reason } => format!("checkpoint {id} is dropped, the one before it stands: {reason}"),
            Event::ValuesOutOfRange { id, field, index, value, count, bounds, .. } => format!(
                "rank {rank}: checkpoint {id}: {field:?} has {value} at [{index}], and should be {bounds} ({count} numbers are not); it is kept"
            ),
            Event::SetAside { epoch, id, reason } => {
                format!("checkpoint {id} (epoch {epoch}) is damaged and set aside: {reason}")
            }
            Event::CandidateRejected { epoch, id, reason } => {
                format!("checkpoint {id} (epoch {epoch}) is passed over: {reason}")
            }
            Event::TrackingOff { reason } => format!("rank {rank}: everything is copied from now on: {reason}"),
            Event::AlertFiring { severity, summary, .. } if severity != "info" => format!("{severity}: {summary}"),
            // Every rank notes it; one says it.
            Event::AgreementStopped { reason } if rank == 0 => format!("no more checkpoints in this attempt: {reason}"),
            Event::Resumed { epoch, id, step, seconds, .. } if rank == 0 => {
                format!("resumed from checkpoint {id} (epoch {epoch}) at step {step} in {seconds:.2} s")
            }
            _ if self.log < Log::Verbose => return None,
            event => format!("rank {rank}: {}", serde_json::to_string(event).unwrap_or_default()),
        };
        Some(line)
    }

    /// Makes durable what was said, and ends the thread; where the file system hangs, it is left behind at `deadline`.
    pub(super) fn close(&self, deadline: Instant) {
        let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            let _ = self.scribe.journal.sync();
            return;
        };
        let mut orders = self.scribe.lock();
        orders.end = true;
        self.scribe.changed.notify_all();
        while !orders.ended {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            orders = self.scribe.changed.wait_timeout(orders, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(orders);
        // It does nothing more than to return; a panic of it is not the application's concern.
        let _ = thread.join();
    }
}

impl Drop for Recorder {
    /// Waits for nothing: the thread writes what is left, if it can, and ends.
    fn drop(&mut self) {
        self.scribe.lock().end = true;
        self.scribe.changed.notify_all();
    }
}
