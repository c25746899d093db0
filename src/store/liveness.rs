//! Whether an attempt still runs, as far as it can be told from here.
//!
//! Comes in: an attempt's claim, its journal, and who asks. Goes out: what speaks for its running, in words, or nothing.
//! What must hold: it is a courtesy to users, who start or remove what still runs by mistake; safety rests on the epochs.

use super::{Claim, JobFolder, Liveness, ProcessIdentity};
use crate::ids::Epoch;
use crate::journal::{self, Event};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

impl JobFolder {
    /// Why the attempt of `claim` seems to run still, seen from the process `observer`; `None` where it does not. Takes as
    /// long as two beats of its journal, at most two minutes, where the process can't be seen from here.
    #[must_use]
    pub fn evidence_of_life(&self, claim: &Claim, observer: &ProcessIdentity) -> Option<String> {
        let process = &claim.process;
        match process.liveness(observer) {
            Liveness::Gone => return None,
            // The process may go on with other work after its session; its journal says so.
            Liveness::Alive if self.has_ended(claim.epoch) => return None,
            Liveness::Alive => return Some(format!("its process {} is there on {}", process.pid, process.host)),
            Liveness::Unknown if self.has_ended(claim.epoch) => return None,
            Liveness::Unknown => {}
        }
        // Somewhere else: does its journal advance? Only if it did lately is it worth watching.
        let path = self.first_journal(claim.epoch);
        let first = self.medium.stat(&path).ok()?;
        let beat = Duration::from_millis(claim.journal_beat_ms).min(Duration::from_secs(60));
        let age = first.modified.and_then(|at| SystemTime::now().duration_since(at).ok()).unwrap_or_default();
        if age > Duration::from_secs(600).max(beat * 20) {
            return None;
        }
        let (until, pause) = (Instant::now() + beat * 2 + Duration::from_secs(1), beat / 10);
        while Instant::now() < until {
            std::thread::sleep(pause.max(Duration::from_millis(10)));
            let now = self.medium.stat(&path).ok()?;
            if now.len != first.len {
                return Some(format!("its journal advances, written by process {} on {}", process.pid, process.host));
            }
        }
        None
    }

    /// Whether the attempt said that it ended.
    #[must_use]
    pub fn has_ended(&self, epoch: Epoch) -> bool {
        self.last_event(epoch).is_some_and(|event| matches!(event, Event::AttemptEnded { .. }))
    }

    /// The last thing that an attempt's first rank said.
    #[must_use]
    pub fn last_event(&self, epoch: Epoch) -> Option<Event> {
        let tail = journal::tail(&*self.medium, &self.first_journal(epoch)).ok()?;
        tail.record.map(|record| record.event)
    }

    /// The journal of an attempt's first rank.
    #[must_use]
    pub fn first_journal(&self, epoch: Epoch) -> PathBuf {
        self.epoch_folder(epoch).join(journal::file_name(&journal::rank_writer(0)))
    }
}
