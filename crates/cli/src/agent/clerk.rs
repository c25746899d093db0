//! Work on the store, on a thread of its own.
//!
//! Comes in: what is to be done there. Goes out: nothing. What must hold: whoever watches never waits for a file system, which may hang for minutes: a supervisor
//! would take its node for lost.

use std::sync::mpsc::{Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

type Work = Box<dyn FnOnce() + Send>;

/// A thread that does one thing after the other.
pub struct Clerk {
    work: Sender<Work>,
    thread: JoinHandle<()>,
}

impl Clerk {
    /// Starts it.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn start() -> std::io::Result<Self> {
        let (work, works) = channel::<Work>();
        let thread =
            Builder::new().name("piton-store".to_owned()).spawn(move || works.into_iter().for_each(|work| work()))?;
        Ok(Self { work, thread })
    }

    /// Has something done, some time.
    pub fn later(&self, work: impl FnOnce() + Send + 'static) {
        // It ends after this does.
        let _ = self.work.send(Box::new(work));
    }

    /// Waits until everything is done, `within` at most; what hangs is left to itself.
    pub fn finish(self, within: Duration) {
        let Self { work, thread } = self;
        drop(work);
        let until = Instant::now() + within;
        while !thread.is_finished() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
