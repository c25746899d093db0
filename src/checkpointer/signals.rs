//! Signals that ask for a checkpoint: what batch systems send before they take the nodes away.
//!
//! Comes in: SIGTERM (a checkpoint, then the application is to stop) and SIGUSR1 (a checkpoint). Goes out: what each session has not yet acted
//! on. What must hold: a signal that the application, or MPI, handles or ignores is left to it; a handler only counts; where the
//! last session of the process has ended, signals do again what they did before; a rank that does not come to act on SIGTERM ends by it after all,
//! so that one which hangs does not outlive the others for as long as a batch system takes to kill.

use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

/// What is listened to.
const HEARD: [Signal; 2] = [Signal::SIGTERM, Signal::SIGUSR1];

/// How often each came.
static COUNTS: [AtomicU32; 2] = [const { AtomicU32::new(0) }; 2];
/// How many SIGTERMs were acted on.
static ACTED_ON: AtomicU32 = AtomicU32::new(0);
/// How many sessions listen.
static SESSIONS: Mutex<usize> = Mutex::new(0);

extern "C" fn count(number: libc::c_int) {
    for (signal, count) in HEARD.iter().zip(&COUNTS) {
        if *signal as libc::c_int == number {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The action that stands for `signal`, unchanged.
fn standing(signal: Signal) -> Option<usize> {
    // SAFETY: all zeroes is a value of this plain structure; the call only writes to it.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        (libc::sigaction(signal as libc::c_int, std::ptr::null(), &mut action) == 0).then_some(action.sa_sigaction)
    }
}

/// Puts `to` in the place of `from`, and nothing in that of anything else.
fn replace(signal: Signal, from: usize, to: SigHandler) {
    if standing(signal) != Some(from) {
        return;
    }
    let action = SigAction::new(to, SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: the handler does nothing but count in atomic numbers; the default one is the system's. Where it can't be put in place, signals do
    // what they did before.
    let _ = unsafe { sigaction(signal, &action) };
}

/// One session's ear.
#[derive(Debug)]
pub(super) struct Signals {
    seen: [u32; 2],
}

/// What signals ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asked {
    /// The signal.
    pub signal: &'static str,
    /// Whether the application is to stop after the checkpoint.
    pub halt: bool,
}

impl Signals {
    /// Listens from now on.
    pub fn listen() -> Self {
        let mut sessions = SESSIONS.lock().unwrap_or_else(PoisonError::into_inner);
        *sessions += 1;
        if *sessions == 1 {
            HEARD.iter().for_each(|signal| replace(*signal, libc::SIG_DFL, SigHandler::Handler(count)));
        }
        Self { seen: COUNTS.each_ref().map(|count| count.load(Ordering::Relaxed)) }
    }

    /// What came since the last call.
    pub fn take(&mut self) -> impl Iterator<Item = Asked> {
        let came = COUNTS.each_ref().map(|count| count.load(Ordering::Relaxed));
        let new = [came[0] != self.seen[0], came[1] != self.seen[1]];
        self.seen = came;
        ACTED_ON.store(came[0], Ordering::Relaxed);
        let asked = |signal: &'static str, halt| Asked { signal, halt };
        [asked("SIGTERM", true), asked("SIGUSR1", false)]
            .into_iter()
            .zip(new)
            .filter_map(|(asked, new)| new.then_some(asked))
    }
}

/// Whether SIGTERM came and nobody has acted on it.
pub(super) fn is_unheeded() -> bool {
    COUNTS[0].load(Ordering::Relaxed) != ACTED_ON.load(Ordering::Relaxed)
}

/// Ends this process by SIGTERM, unless somebody else handles it.
pub(super) fn heed() {
    replace(Signal::SIGTERM, count as extern "C" fn(libc::c_int) as usize, SigHandler::SigDfl);
    let _ = nix::sys::signal::kill(nix::unistd::Pid::this(), Signal::SIGTERM);
}

impl Drop for Signals {
    fn drop(&mut self) {
        let mut sessions = SESSIONS.lock().unwrap_or_else(PoisonError::into_inner);
        *sessions -= 1;
        if *sessions == 0 {
            let own = count as extern "C" fn(libc::c_int) as usize;
            HEARD.iter().for_each(|signal| replace(*signal, own, SigHandler::SigDfl));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::signal::raise;

    #[test]
    fn each_session_hears_a_signal_once_and_what_was_before_comes_back() {
        // The only test of this process that listens to SIGUSR1 and sends it.
        let before = standing(Signal::SIGUSR1);
        let (mut one, mut other) = (Signals::listen(), Signals::listen());
        assert_ne!(standing(Signal::SIGUSR1), before);
        assert_eq!(one.take().count(), 0);
        raise(Signal::SIGUSR1).expect("a signal to oneself");
        let asked = Asked { signal: "SIGUSR1", halt: false };
        assert_eq!(one.take().collect::<Vec<_>>(), [asked]);
        assert_eq!(one.take().count(), 0);
        drop(one);
        assert_eq!(other.take().collect::<Vec<_>>(), [asked]);
    }
}
