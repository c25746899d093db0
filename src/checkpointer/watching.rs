//! This rank on its node's board, and the watch over the node where nobody else keeps it.
//!
//! Comes in: the rank's steps and phases. Goes out: its place on the board, beats from a thread, and what the agent finds, to the journal and to
//! standard error. What must hold: nothing of it ever ends or delays the application: without a board the rank is just not seen;
//! one rank of a node watches at a time, and another one takes over where that one stands still itself; a `piton agent` goes before all of
//! them.

use super::recorder::Recorder;
use super::signals;
use crate::config::Settings;
use crate::journal::Event;
use crate::watch::board::{Board, BoardName, Phase, Place, folder, now_ns};
use crate::watch::{Action, Guard, GuardOptions, Round, Rules, process};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

/// A watch that was not kept for so long is taken over, by the first rank; by the others in turn, each a little later.
const UNWATCHED: Duration = Duration::from_millis(600);
const TURN: Duration = Duration::from_millis(200);

/// A rank acts on SIGTERM within this, or three times its longest step, or ends by it.
const HEEDED_WITHIN: Duration = Duration::from_secs(10);

/// Which ranks share the board.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node {
    /// This rank's place among those of the node.
    pub slot: usize,
    /// How many they are.
    pub ranks: usize,
    pub rank: u32,
    pub world: u32,
}

/// This rank's place on the board, and its threads.
#[derive(Debug)]
pub(super) struct Watching {
    place: Place,
    board: Board,
    /// Dropped to end the thread.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
    asks: Arc<AtomicBool>,
}

/// Marks where a rank is in its code, for whoever watches it: a handle that can be kept anywhere.
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// # let mut checkpointer = piton::Checkpointer::builder("example").dir(folder.path()).open(piton::comm::Solo::default())?;
/// let phases = checkpointer.phases();
/// {
///     let _phase = phases.waiting("halo exchange");
///     // sends and receives
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Phases(Place);

impl Phases {
    /// The rank is in this phase until what comes back is dropped. Up to 16 phases of a rank are told apart, by their first 32 bytes.
    pub fn phase(&self, name: &'static str) -> Phase {
        self.0.enter(name, false)
    }

    /// As [`Self::phase`], for a phase in which the rank only waits for others: it is not to blame where it gets no further there,
    /// and how slow it is does not count this time.
    pub fn waiting(&self, name: &'static str) -> Phase {
        self.0.enter(name, true)
    }
}

impl Watching {
    /// Takes this rank's place, and begins to beat. What went wrong comes with it.
    pub(super) fn start(
        settings: &Settings,
        name: &BoardName,
        node: Node,
        recorder: &Arc<Recorder>,
    ) -> std::io::Result<(Self, Option<String>)> {
        let (board, problem) = match folder(&settings.board).map(|folder| make(&folder, name, node, settings.beat)) {
            None => (Board::unseen(1)?, None),
            Some(Ok(board)) => (board, None),
            Some(Err(problem)) => (Board::unseen(1)?, Some(problem)),
        };
        let slot = if board.path().is_some() { node.slot } else { 0 };
        let place = board.place(slot, node.rank);
        let asks = Arc::new(AtomicBool::new(false));
        let mut watching = Self { place, board, stop: None, thread: None, asks };
        if let Some(path) = watching.board.path() {
            let (stop, stopped) = channel();
            let keeper = Keeper {
                place: watching.place.clone(),
                path: path.to_owned(),
                slot,
                rank: node.rank,
                settings: settings.clone(),
                recorder: Arc::clone(recorder),
                asks: Arc::clone(&watching.asks),
            };
            watching.thread = Some(Builder::new().name("piton-beat".into()).spawn(move || keeper.run(&stopped))?);
            watching.stop = Some(stop);
        }
        Ok((watching, problem))
    }

    /// This rank's place.
    #[inline]
    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    pub(super) fn phases(&self) -> Phases {
        Phases(self.place.clone())
    }

    /// Whether whoever watches asks for a checkpoint, once.
    pub(super) fn take_request(&self) -> bool {
        self.asks.load(Ordering::Relaxed) && self.asks.swap(false, Ordering::Relaxed)
    }

    /// The session is over: the rank leaves, and the last one of the node takes the board away.
    pub(super) fn end(&mut self) {
        self.place.leave();
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It does nothing that waits.
            let _ = thread.join();
        }
        if self.place.is_last() {
            self.board.remove();
        }
    }
}

fn make(folder: &Path, name: &BoardName, node: Node, beat: Duration) -> Result<Board, String> {
    if node.slot == 0 {
        Board::clean(folder, name);
    }
    Board::make(folder, name, node.ranks, node.world, beat).map_err(|error| error.to_string())
}

/// The thread that beats for a rank, and sees to it that somebody watches.
struct Keeper {
    place: Place,
    path: PathBuf,
    slot: usize,
    rank: u32,
    settings: Settings,
    recorder: Arc<Recorder>,
    asks: Arc<AtomicBool>,
}

/// An agent in this process.
struct Sentry {
    /// Dropped to end it.
    _wake: UnixStream,
    thread: JoinHandle<()>,
}

impl Keeper {
    fn run(self, stopped: &Receiver<()>) {
        let beat = self.settings.beat;
        let (began, mut due) = (Instant::now(), Instant::now() + beat);
        let mut sentry: Option<Sentry> = None;
        let mut tracer = None;
        let mut unheeded = None;
        let pause = |due: Instant| due.saturating_duration_since(Instant::now());
        while stopped.recv_timeout(pause(due)) == Err(RecvTimeoutError::Timeout) {
            let now = Instant::now();
            self.place.beat(now.saturating_duration_since(due));
            // After a pause of the whole process, no beat is made up for.
            due = (due + beat).max(now);
            // A signal that comes while another one waits to be acted on is that one.
            unheeded = if signals::is_unheeded() { unheeded.or(Some(now)) } else { None };
            let patience = HEEDED_WITHIN.max(3 * self.place.longest_step());
            if self.settings.signals && unheeded.is_some_and(|since| now.saturating_duration_since(since) > patience) {
                eprintln!("piton: rank {} has not come to act on SIGTERM, and ends", self.rank);
                signals::heed();
            }
            let watcher = self.place.watcher();
            if watcher != tracer {
                tracer = watcher;
                if let Some(pid) = watcher.filter(|pid| *pid != std::process::id()) {
                    process::allow_tracing_by(pid);
                }
            }
            if sentry.as_ref().is_some_and(|sentry| sentry.thread.is_finished()) {
                sentry = None;
            }
            if sentry.is_none() && self.settings.agent && self.is_unwatched(began) {
                sentry = self.stand_watch();
            }
        }
        if let Some(Sentry { _wake, thread }) = sentry {
            drop(_wake);
            let _ = thread.join();
        }
    }

    /// Whether nobody has watched for so long that it is this rank's turn.
    fn is_unwatched(&self, began: Instant) -> bool {
        let turn = TURN * u32::try_from(self.slot).unwrap_or(u32::MAX);
        match self.place.watched() {
            None => self.slot == 0 || began.elapsed() > UNWATCHED + turn,
            Some((_, at)) => Duration::from_nanos(now_ns().saturating_sub(at)) > UNWATCHED + turn,
        }
    }

    fn stand_watch(&self) -> Option<Sentry> {
        let board = Board::open(&self.path).ok()?;
        let (wake, woken) = UnixStream::pair().ok()?;
        let (recorder, asks, settings) = (Arc::clone(&self.recorder), Arc::clone(&self.asks), self.settings.clone());
        let watch = move || {
            // Read only by whoever watches: compiling them takes tens of milliseconds.
            let rules = Rules::by(&settings).unwrap_or_else(|error| {
                let what = "the built-in rules hold alone".to_owned();
                recorder.record(Event::Problem { what, detail: error.to_string() });
                Rules::defaults()
            });
            let mut guard = Guard::new(board, GuardOptions::by(&settings, rules));
            // Once the other end is closed there is always something to read.
            while !is_closed(&woken) && !guard.agent().is_relieved() {
                tell(&guard.look(|seen, _| seen), &recorder, &asks);
                let _ = guard.wait(settings.watch_period, Some(woken.as_fd()));
            }
        };
        let thread = Builder::new().name("piton-agent".into()).spawn(watch).ok()?;
        Some(Sentry { _wake: wake, thread })
    }
}

fn is_closed(stream: &UnixStream) -> bool {
    use std::io::Read;
    let mut stream = stream;
    let _ = stream.set_nonblocking(true);
    matches!(stream.read(&mut [0]), Ok(0))
}

fn tell(round: &Round, recorder: &Recorder, asks: &AtomicBool) {
    if round.turn.actions.iter().any(|due| due.action == Action::Checkpoint) {
        asks.store(true, Ordering::Relaxed);
    }
    for event in round.events() {
        recorder.record(event);
    }
}
