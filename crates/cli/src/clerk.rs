//! Work on the store, on a thread of its own.
//!
//! Comes in: what is to be done there. Goes out: nothing. What must hold: whoever watches or supervises never waits for a file system, which may hang
//! for minutes: the others would take it for lost.

use std::sync::mpsc::{Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

type Work<S> = Box<dyn FnOnce(&mut S) + Send>;

/// A thread that does one thing after the other with what it keeps.
#[derive(Debug)]
pub struct Clerk<S = ()> {
    work: Sender<Work<S>>,
    thread: JoinHandle<()>,
}

impl<S: Send + 'static> Clerk<S> {
    /// Starts it with what it keeps; `close` is called with that at the end.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn start(mut keeps: S, close: impl FnOnce(S) + Send + 'static) -> std::io::Result<Self> {
        let (work, works) = channel::<Work<S>>();
        let run = move || {
            works.into_iter().for_each(|work| work(&mut keeps));
            close(keeps);
        };
        let thread = Builder::new().name("piton-store".to_owned()).spawn(run)?;
        Ok(Self { work, thread })
    }

    /// Has something done, some time.
    pub fn later(&self, work: impl FnOnce(&mut S) + Send + 'static) {
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
