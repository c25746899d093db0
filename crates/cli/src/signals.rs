//! Signals of this process, as something that happens and not as an interruption.
//!
//! Comes in: signals. Goes out: a call for each, on a thread of its own. What must hold: they are held back before the first other thread is
//! started, so that none of them is ended by one; processes that are started get them as ever ([`Signals::let_through`]).

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use std::io;
use std::thread;

/// Starts a thread that takes no signal of the process, whatever others hold back by then.
///
/// # Errors
/// Those of the system.
pub fn spawn_deaf(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<thread::JoinHandle<()>> {
    // A thread has the mask of the one that starts it.
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    let started = thread::Builder::new().name(name.to_owned()).spawn(run);
    before.thread_set_mask()?;
    started
}

/// Signals that are held back.
#[derive(Debug)]
pub struct Signals(SigSet);

impl Signals {
    /// Holds them back in this thread and in those that it starts from now on.
    ///
    /// # Errors
    /// Those of the system.
    pub fn hold(signals: &[Signal]) -> io::Result<Self> {
        let set: SigSet = signals.iter().copied().collect();
        set.thread_block()?;
        Ok(Self(set))
    }

    /// Calls `heard` with each that comes, as long as the process lives.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn listen(self, mut heard: impl FnMut(Signal) + Send + 'static) -> io::Result<()> {
        let wait = move || {
            while let Ok(signal) = self.0.wait() {
                heard(signal);
            }
        };
        thread::Builder::new().name("piton-signals".to_owned()).spawn(wait).map(drop)
    }

    /// Lets all signals through again: to be called in a process that is being started, between fork and exec.
    ///
    /// # Errors
    /// Those of the system.
    pub fn let_through() -> io::Result<()> {
        // One system call, no memory.
        Ok(nix::sys::signal::sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?)
    }
}
