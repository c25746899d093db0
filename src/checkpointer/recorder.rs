//! What the library says: to the journal, and to standard error as far as the user wants it.
//!
//! What must hold: saying something never fails and never waits for another rank, and in a tick not for a file system
//! either; nothing is printed that the setting `log` does not allow.

use crate::config::Log;
use crate::journal::{Event, JournalWriter};

/// One rank's voice.
#[derive(Debug)]
pub(super) struct Recorder {
    journal: JournalWriter,
    log: Log,
    rank: usize,
}

impl Recorder {
    pub(super) fn new(journal: JournalWriter, log: Log, rank: usize) -> Self {
        Self { journal, log, rank }
    }

    /// Writes `event` to the journal, and prints it where the user wants to see such. May wait for the file system: not for
    /// ticks.
    pub(super) fn record(&self, event: Event) {
        self.note(event);
        self.flush();
    }

    /// As [`Self::record`], but leaves the writing to the next [`Self::flush`] by another thread.
    pub(super) fn note(&self, event: Event) {
        if self.log >= Log::Normal
            && let Some(line) = self.line(&event)
        {
            eprintln!("piton: {line}");
        }
        self.journal.note(event);
    }

    /// Writes what was noted.
    pub(super) fn flush(&self) {
        self.journal.flush();
    }

    /// What a person at the terminal is told.
    fn line(&self, event: &Event) -> Option<String> {
        let rank = self.rank;
        let line = match event {
            Event::Problem { what, detail } => format!("rank {rank}: {what}: {detail}"),
            Event::Dropped { id, reason } => format!("checkpoint {id} is dropped, the one before it stands: {reason}"),
            Event::SetAside { epoch, id, reason } => {
                format!("checkpoint {id} (epoch {epoch}) is damaged and set aside: {reason}")
            }
            Event::CandidateRejected { epoch, id, reason } => {
                format!("checkpoint {id} (epoch {epoch}) is passed over: {reason}")
            }
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

    /// Makes durable what was said.
    pub(super) fn sync(&self) {
        // The journal keeps count of what it could not write.
        let _ = self.journal.sync();
    }
}
