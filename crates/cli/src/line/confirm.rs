//! Asking a second way before a node is called lost: its agent may have died, or only its line.
//!
//! Comes in: suspects. Goes out: what the second way says of them. What must hold: it may take its time, but on a thread of its own; whoever
//! waits for it waits no longer than it wants to.

use mio::Waker;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

/// An agent that has said nothing for longer than it may.
#[derive(Debug, Clone, PartialEq)]
pub struct Suspect {
    /// Its node.
    pub node: Arc<str>,
    /// Where it can be asked: the address that its connection had, with the port that it named; without a port there is none.
    pub address: Option<SocketAddr>,
    /// How long it has been silent, seconds.
    pub seconds: f64,
}

/// What a second way says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The node is gone.
    Gone,
    /// The node answers: its agent, or the line, is what is wrong.
    Up,
    /// It can't be told.
    Unknown,
}

/// A second way: `scontrol show node`, or [`by_connecting`]. All that are suspected together are asked about together; the answers
/// are in the same order, and missing ones mean [`Verdict::Unknown`].
pub type Confirm = Box<dyn FnMut(&[Suspect]) -> Vec<Verdict> + Send>;

/// Connects to the agents, some at a time, for at most `time` in all: a node that refuses the connection is up, one that the
/// network cannot reach is gone; no answer says nothing, since it may be a wall of the site.
#[must_use]
pub fn by_connecting(time: Duration) -> Confirm {
    const AT_ONCE: usize = 8;
    Box::new(move |suspects| {
        let start = Instant::now();
        let ask = |suspect: &Suspect| {
            let Some(address) = suspect.address else { return Verdict::Unknown };
            let left = time.saturating_sub(start.elapsed()).min(Duration::from_secs(1));
            if left.is_zero() {
                return Verdict::Unknown;
            }
            match TcpStream::connect_timeout(&address, left).map_err(|error| error.kind()) {
                Ok(_) | Err(io::ErrorKind::ConnectionRefused) => Verdict::Up,
                Err(io::ErrorKind::HostUnreachable) => Verdict::Gone,
                Err(_) => Verdict::Unknown,
            }
        };
        let each = suspects.len().div_ceil(AT_ONCE).max(1);
        thread::scope(|scope| {
            let parts: Vec<_> = suspects
                .chunks(each)
                .map(|part| (part.len(), scope.spawn(move || part.iter().map(ask).collect::<Vec<_>>())))
                .collect();
            parts
                .into_iter()
                .flat_map(|(length, part)| part.join().unwrap_or_else(|_| vec![Verdict::Unknown; length]))
                .collect()
        })
    })
}

/// The thread that asks.
#[derive(Debug)]
pub(super) struct Asker {
    questions: Sender<Vec<Suspect>>,
    answers: Receiver<(Arc<str>, Verdict)>,
}

impl Asker {
    /// `waker` is woken when there are answers.
    pub fn start(mut confirm: Confirm, waker: Arc<Waker>) -> io::Result<Self> {
        let (questions, asked) = mpsc::channel::<Vec<Suspect>>();
        let (answer, answers) = mpsc::channel();
        thread::Builder::new().name("piton-confirm".to_owned()).spawn(move || {
            while let Ok(mut suspects) = asked.recv() {
                suspects.extend(asked.try_iter().flatten());
                let verdicts = confirm(&suspects);
                let verdicts = verdicts.into_iter().chain(std::iter::repeat(Verdict::Unknown));
                for (suspect, verdict) in suspects.into_iter().zip(verdicts) {
                    if answer.send((suspect.node, verdict)).is_err() {
                        return;
                    }
                }
                // Without it the answers are seen a little later.
                let _ = waker.wake();
            }
        })?;
        Ok(Self { questions, answers })
    }

    /// Asks; what was asked before and not answered yet comes first. Never waits.
    pub fn ask(&self, suspects: Vec<Suspect>) {
        // A hook that panicked has taken its thread along: there is no second way any more, and the time to answer runs out.
        let _ = self.questions.send(suspects);
    }

    pub fn answers(&self) -> impl Iterator<Item = (Arc<str>, Verdict)> {
        self.answers.try_iter()
    }
}
