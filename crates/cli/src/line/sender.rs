//! The agent's end of the line.
//!
//! Comes in: reports, from the agent's loop. Goes out: the same to the supervisor, and its orders to the agent. What must hold: whoever
//! hands in a report never waits: not for the network, not for a supervisor that is gone; what waits to be sent is bounded, and
//! of too much the oldest reports go while their findings stay; after a break the supervisor is told all that stands.

use super::frame::FRAME_LIMIT;
use super::handshake::{ANSWER, Keys};
use super::message::{FromAgent, Join, Report, ToAgent};
use super::{Secret, handshake, secret};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token, Waker};
use piton::watch::alert::Fingerprint;
use piton::watch::{Change, Finding};
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read, Write};
use std::net::ToSocketAddrs;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const STREAM: Token = Token(0);
const WAKER: Token = Token(1);
/// Messages that wait; an agent makes one a second.
const QUEUE_MOST: usize = 64;
/// Findings of reports that were dropped, and those that stand.
const FINDINGS_MOST: usize = 1000;
/// Findings in a message of their own, and their bytes.
const MESSAGE_FINDINGS: usize = 500;
const MESSAGE_BYTES: usize = 128 << 10;
/// Sealed bytes that wait for the network.
const UNSENT_MOST: usize = FRAME_LIMIT;

/// How the agent's end behaves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SenderOptions {
    /// How long connecting, and then the handshake, may take.
    pub connect: Duration,
    /// Where nothing comes from the supervisor for so long (it asks for signs of life more often), the line is taken for dead.
    pub quiet: Duration,
    /// Before the second try to connect; twice as long before each further one.
    pub retry_first: Duration,
    /// No longer than this. Each wait is half of what is said here to all of it, so that not all agents come at once.
    pub retry_most: Duration,
}

impl Default for SenderOptions {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            connect: seconds(5),
            quiet: seconds(35),
            retry_first: Duration::from_millis(500),
            retry_most: seconds(30),
        }
    }
}

/// How the line is.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SenderState {
    /// Whether the supervisor is connected and has proved that it is ours.
    pub connected: bool,
    /// How often it has been.
    pub connections: u64,
    /// Messages that were dropped unsent: reports since newer ones came, and what did not fit in a frame.
    pub dropped: u64,
    /// Why the last connection ended, or was none.
    pub problem: Option<String>,
}

#[derive(Debug, Default)]
struct Queue {
    messages: VecDeque<FromAgent>,
    /// Findings of reports that were dropped.
    orphans: Vec<Change>,
    standing: BTreeMap<Fingerprint, Finding>,
    closing: bool,
    state: SenderState,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    waker: Waker,
}

/// The agent's end of the line: a thread that keeps it up.
#[derive(Debug)]
pub struct Sender {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

fn locked(shared: &Shared) -> MutexGuard<'_, Queue> {
    shared.queue.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Queue {
    fn push(&mut self, message: FromAgent) {
        if self.messages.len() >= QUEUE_MOST {
            let oldest = self.messages.iter().position(|message| matches!(message, FromAgent::Report(_))).unwrap_or(0);
            if let Some(FromAgent::Report(report)) = self.messages.remove(oldest) {
                self.orphans.extend(report.changes);
                let over = self.orphans.len().saturating_sub(FINDINGS_MOST);
                self.orphans.drain(..over);
            }
            self.state.dropped += 1;
        }
        self.messages.push_back(message);
    }

    /// The next message; what dropped reports found comes before the others.
    fn pop(&mut self) -> Option<FromAgent> {
        if !self.orphans.is_empty() {
            return Some(FromAgent::Changes(as_many_as_fit(&mut self.orphans)));
        }
        self.messages.pop_front()
    }

    fn note(&mut self, changes: &[Change]) {
        for change in changes {
            match change {
                // What is over by itself would not be taken back by anybody.
                Change::Raised(finding) if finding.lasts.is_none() => {
                    let fingerprint = Fingerprint::of(&finding.rule, &finding.labels);
                    if self.standing.len() < FINDINGS_MOST || self.standing.contains_key(&fingerprint) {
                        self.standing.insert(fingerprint, finding.clone());
                    }
                }
                Change::Raised(_) => {}
                Change::Cleared { rule, labels } => {
                    self.standing.remove(&Fingerprint::of(rule, labels));
                }
            }
        }
    }
}

/// Takes off the front what fits in one message, one at the least.
fn as_many_as_fit(changes: &mut Vec<Change>) -> Vec<Change> {
    let (mut bytes, mut count) = (0, 0);
    for change in changes.iter() {
        let (labels, texts) = match change {
            Change::Raised(finding) => (&finding.labels, finding.rule.len() + finding.summary.len()),
            Change::Cleared { rule, labels } => (labels, rule.len()),
        };
        bytes += 32 + texts + labels.iter().map(|(label, value)| label.len() + value.len() + 8).sum::<usize>();
        if count > 0 && (bytes > MESSAGE_BYTES || count >= MESSAGE_FINDINGS) {
            break;
        }
        count += 1;
    }
    changes.drain(..count).collect()
}

impl Sender {
    /// Connects to the supervisor at `address` (`host:port`), and again whenever the line breaks. `on_order` is called on the line's
    /// own thread: it should hand on what takes time.
    ///
    /// # Errors
    /// Those of the system's polling and threads; none of the network's, which are in [`Self::state`].
    pub fn start(
        address: String,
        secret: Secret,
        join: Join,
        options: SenderOptions,
        on_order: impl FnMut(ToAgent) + Send + 'static,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let shared = Arc::new(Shared { queue: Mutex::default(), waker });
        let line = Line { shared: Arc::clone(&shared), poll, address, secret, join, options };
        let thread = thread::Builder::new().name("piton-line".to_owned()).spawn(move || line.keep_up(on_order))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Hands in a report. Never waits; of too many that wait, the oldest goes, and what it found goes with the next.
    pub fn report(&self, report: Report) {
        let mut queue = locked(&self.shared);
        queue.note(&report.changes);
        queue.push(FromAgent::Report(report));
        drop(queue);
        // Without it the line's thread sees the report a little later.
        let _ = self.shared.waker.wake();
    }

    /// Hands in a rank's stack, which was asked for.
    pub fn stacks(&self, rank: u32, text: String) {
        locked(&self.shared).push(FromAgent::Stacks { rank, text });
        let _ = self.shared.waker.wake();
    }

    /// How the line is.
    #[must_use]
    pub fn state(&self) -> SenderState {
        locked(&self.shared).state.clone()
    }

    /// Sends what waits, says goodbye and ends, if that takes no longer than `within`; whether it did.
    pub fn close(mut self, within: Duration) -> bool {
        locked(&self.shared).closing = true;
        let _ = self.shared.waker.wake();
        let Some(thread) = self.thread.take() else { return true };
        let start = Instant::now();
        while !thread.is_finished() {
            if start.elapsed() >= within {
                return false;
            }
            thread::sleep(Duration::from_millis(2));
        }
        thread.join().is_ok()
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        locked(&self.shared).closing = true;
        let _ = self.shared.waker.wake();
    }
}

struct Line {
    shared: Arc<Shared>,
    poll: Poll,
    address: String,
    secret: Secret,
    join: Join,
    options: SenderOptions,
}

impl Line {
    fn keep_up(mut self, mut on_order: impl FnMut(ToAgent)) {
        let mut wait = self.options.retry_first;
        loop {
            let since = Instant::now();
            let ended = self.connection(&mut on_order);
            {
                let mut queue = locked(&self.shared);
                let was = std::mem::replace(&mut queue.state.connected, false);
                let Err(error) = ended else { return };
                queue.state.problem = Some(error.to_string());
                if queue.closing {
                    return;
                }
                // A line that held for a while is worth trying at once.
                if was && since.elapsed() > self.options.retry_most {
                    wait = self.options.retry_first;
                }
            }
            if self.rest(wait) {
                return;
            }
            wait = (wait * 2).min(self.options.retry_most);
        }
    }

    /// Waits before the next try; whether it is over meanwhile.
    fn rest(&mut self, most: Duration) -> bool {
        let until = Instant::now() + most.mul_f64(0.5 + 0.5 * fastrand::f64());
        let mut events = Events::with_capacity(4);
        loop {
            if locked(&self.shared).closing {
                return true;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            if self.poll.poll(&mut events, Some(left)).is_err() {
                // Not a reason to spin.
                thread::sleep(left.min(Duration::from_millis(100)));
            }
        }
    }

    fn connect(&self) -> io::Result<(std::net::TcpStream, Keys)> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the supervisor's name has no address");
        for address in self.address.to_socket_addrs()? {
            match std::net::TcpStream::connect_timeout(&address, self.options.connect) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    stream.set_read_timeout(Some(self.options.connect))?;
                    stream.set_write_timeout(Some(self.options.connect))?;
                    let keys = shake(&stream, &self.secret)?;
                    return Ok((stream, keys));
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// One connection, until it breaks or all is said.
    fn connection(&mut self, on_order: &mut impl FnMut(ToAgent)) -> io::Result<()> {
        let (stream, mut keys) = self.connect()?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        self.poll.registry().register(&mut stream, STREAM, Interest::READABLE | Interest::WRITABLE)?;
        let (mut unsent, mut partial, mut scratch) = (Vec::new(), Vec::new(), vec![0; 16 << 10]);
        let shared = Arc::clone(&self.shared);
        let seal = |keys: &mut Keys, message: &FromAgent, unsent: &mut Vec<u8>| {
            // What does not fit in a frame is lost, not the line.
            let sealed = message.to_bytes().is_ok_and(|body| keys.sealer.seal(&body, unsent).is_ok());
            if !sealed {
                locked(&shared).state.dropped += 1;
            }
        };
        seal(&mut keys, &FromAgent::Join(self.join.clone()), &mut unsent);
        {
            let mut queue = locked(&self.shared);
            queue.state.connected = true;
            queue.state.connections += 1;
            let mut standing: Vec<Change> = queue.standing.values().cloned().map(Change::Raised).collect();
            drop(queue);
            seal(&mut keys, &FromAgent::Standing(as_many_as_fit(&mut standing)), &mut unsent);
            while !standing.is_empty() {
                seal(&mut keys, &FromAgent::Changes(as_many_as_fit(&mut standing)), &mut unsent);
            }
        }
        let mut events = Events::with_capacity(8);
        let (mut heard, mut bye) = (Instant::now(), false);
        loop {
            while unsent.len() < UNSENT_MOST {
                let Some(message) = locked(&self.shared).pop() else { break };
                seal(&mut keys, &message, &mut unsent);
            }
            let all_said = {
                let queue = locked(&self.shared);
                queue.closing && queue.messages.is_empty() && queue.orphans.is_empty()
            };
            if !bye && all_said {
                bye = true;
                seal(&mut keys, &FromAgent::Bye, &mut unsent);
            }
            flush(&mut stream, &mut unsent)?;
            if bye && unsent.is_empty() {
                return Ok(());
            }
            if read(&mut stream, &mut scratch, &mut partial)? {
                heard = Instant::now();
            }
            let mut used = 0;
            while let Some((body, whole)) = keys.opener.open(&partial[used..]).map_err(io::Error::other)? {
                match ToAgent::from_bytes(body).map_err(io::Error::other)? {
                    ToAgent::Ping { token } => seal(&mut keys, &FromAgent::Pong { token }, &mut unsent),
                    order => on_order(order),
                }
                used += whole;
            }
            partial.drain(..used);
            if used > 0 {
                continue;
            }
            let left = self.options.quiet.saturating_sub(heard.elapsed());
            if left.is_zero() {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the supervisor has been silent for too long"));
            }
            match self.poll.poll(&mut events, Some(left)) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
        }
    }
}

/// Both ends prove that they know the secret.
pub(super) fn shake(mut stream: &std::net::TcpStream, secret: &Secret) -> io::Result<Keys> {
    let nonce = secret::random()?;
    stream.write_all(&handshake::hello(&nonce))?;
    let mut answer = [0; ANSWER];
    stream.read_exact(&mut answer)?;
    let (proof, keys) = handshake::prove(secret, &nonce, &answer).map_err(io::Error::other)?;
    stream.write_all(&proof)?;
    Ok(keys)
}

fn flush(stream: &mut TcpStream, unsent: &mut Vec<u8>) -> io::Result<()> {
    let mut sent = 0;
    while sent < unsent.len() {
        match stream.write(&unsent[sent..]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => sent += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    unsent.drain(..sent);
    Ok(())
}

/// Reads what there is, up to two frames at a time; whether there was anything.
fn read(stream: &mut TcpStream, scratch: &mut [u8], partial: &mut Vec<u8>) -> io::Result<bool> {
    let mut any = false;
    while partial.len() < 2 * FRAME_LIMIT {
        match stream.read(scratch) {
            Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the supervisor closed the line")),
            Ok(count) => partial.extend_from_slice(&scratch[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        any = true;
    }
    Ok(any)
}
