//! Asking something that may never answer, without waiting for it for ever.
//!
//! Comes in: a question that blocks: `statvfs` of a file system whose server is gone, a driver whose device is. Goes out: the answer, or
//! since when there is none. What must hold: nobody waits longer than it was said; whatever hangs, there is one thread for it, and
//! never a second one; once the answer comes after all, it is asked again.
//!
//! A thread that hangs in the kernel can't be ended. It also keeps its process from being gone once that has exited: a program that must
//! end for certain asks from a child process.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// A question with a thread of its own that asks it.
#[derive(Debug)]
pub(super) struct Patient<T> {
    ask: SyncSender<()>,
    answers: Receiver<(T, Duration)>,
    /// Since when an answer is waited for.
    asked: Option<Instant>,
    /// It was waited for before, in vain.
    given_up: bool,
}

/// What became of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer<T> {
    /// The answer, and how long it took.
    Given(T, Duration),
    /// None for so long.
    Hanging(Duration),
    /// There is nobody to ask: the question is over, or its thread could not be started.
    Nobody,
}

impl<T: Send + 'static> Patient<T> {
    /// Asks on a thread with this name. The question is over once it answers `None`. Nobody is asked where no thread can be started.
    pub(super) fn new(name: &str, mut question: impl FnMut() -> Option<T> + Send + 'static) -> Self {
        let (ask, asked) = sync_channel::<()>(1);
        let (answer, answers) = sync_channel(1);
        let asking = move || {
            while asked.recv().is_ok() {
                let since = Instant::now();
                let Some(given) = question() else { break };
                // Whoever asked may be gone.
                if answer.send((given, since.elapsed())).is_err() {
                    break;
                }
            }
        };
        // Where it fails, both channels are closed: nobody.
        let _ = thread::Builder::new().name(name.into()).spawn(asking);
        Self { ask, answers, asked: None, given_up: false }
    }

    /// Asks, unless the last question is still open.
    pub(super) fn ask(&mut self) {
        if self.asked.is_some() {
            // It may have been answered long after everybody had stopped waiting: what it said then is old.
            match self.answers.try_recv() {
                Ok(_) => self.asked = None,
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => {
                    self.given_up = true;
                    return;
                }
            }
        }
        self.given_up = false;
        if self.ask.try_send(()).is_ok() {
            self.asked = Some(Instant::now());
        }
    }

    /// The answer, which is waited for until `deadline` at the most, and not at all where that was in vain before.
    pub(super) fn answer(&mut self, deadline: Instant) -> Answer<T> {
        let Some(asked) = self.asked else { return Answer::Nobody };
        let patience = deadline.saturating_duration_since(Instant::now());
        match self.answers.recv_timeout(if self.given_up { Duration::ZERO } else { patience }) {
            Ok((answer, took)) => {
                self.asked = None;
                Answer::Given(answer, took)
            }
            Err(RecvTimeoutError::Timeout) => Answer::Hanging(asked.elapsed()),
            Err(RecvTimeoutError::Disconnected) => {
                self.asked = None;
                Answer::Nobody
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::channel;

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(5)
    }

    fn late() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[test]
    fn who_hangs_is_asked_once_and_again_when_it_answers() {
        let (release, gate) = channel::<u32>();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let mut patient = Patient::new("test-patient", move || {
            count.fetch_add(1, Ordering::SeqCst);
            gate.recv().ok()
        });
        assert_eq!(patient.answer(late()), Answer::Nobody, "not asked yet");
        patient.ask();
        assert!(matches!(patient.answer(soon()), Answer::Hanging(_)));
        for _ in 0..100 {
            patient.ask();
            // That nobody waits for a minute a hundred times is what the test's end shows.
            assert!(matches!(patient.answer(late()), Answer::Hanging(_)));
        }
        assert!(asked.load(Ordering::SeqCst) <= 1);
        release.send(1).unwrap();
        release.send(2).unwrap();
        // The old answer may come before or after it is asked anew; the new one comes in any case.
        loop {
            patient.ask();
            match patient.answer(late()) {
                Answer::Given(2, _) => break,
                Answer::Given(1, _) | Answer::Hanging(_) => thread::yield_now(),
                other => panic!("{other:?}"),
            }
        }
        // The question is over.
        drop(release);
        for _ in 0..2 {
            patient.ask();
            assert_eq!(patient.answer(late()), Answer::Nobody);
        }
        assert_eq!(asked.load(Ordering::SeqCst), 3);
    }

    #[test]
    fn nobody_waits_for_a_question_that_is_over() {
        let mut patient: Patient<u32> = Patient::new("test-patient", || None);
        for _ in 0..3 {
            patient.ask();
            assert_eq!(patient.answer(late()), Answer::Nobody);
        }
    }
}
