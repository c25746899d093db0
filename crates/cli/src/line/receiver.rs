//! The supervisor's end of the line: all agents of a job, on the one thread that calls it.
//!
//! Comes in: connections and what agents say. Goes out: [`Event`]s, a turn at a time. What must hold: a turn never waits for one peer: what is
//! read of a connection before others have theirs is bounded, and so is what is kept for it; a peer that has not proved itself
//! costs a socket for a few seconds, and makes room for others; silence is judged only when nothing waits to be read, and more
//! patiently after a turn that came late.

use super::confirm::{Asker, Confirm, Suspect, Verdict};
use super::connection::{Broken, Connection, Found};
use super::message::{FromAgent, Join, Report, ToAgent};
use super::silence::{LearnedGaps, Silence};
use super::{Refusal, Secret};
use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token, Waker};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use piton::watch::Change;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

const LISTENER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);
/// How often what depends on time is looked at.
const TICK: f64 = 0.25;
/// What is read of a connection with one call; a report of 64 ranks has some 2 KiB.
const SCRATCH: usize = 64 << 10;
/// How often, before others are read.
const ROUNDS: usize = 4;
/// Connections that are taken in between two looks at the others.
const ACCEPTED_AT_ONCE: usize = 256;
/// Connections that wait to be taken in.
const BACKLOG: i32 = 4096;
/// The seconds after which the observer's own lateness counts a third as much.
const LATENESS_FADES: f64 = 10.0;
/// Refusals that a turn tells; all are counted.
const REFUSALS_TOLD: usize = 256;

/// Bounds of what peers may cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Connections at a time. Each takes a descriptor: see [`raise_descriptor_limit`].
    pub connections: usize,
    /// Of them, those that have not proved themselves: of more, the oldest goes.
    pub pending: usize,
    /// Seconds that one may take to prove itself and say who it is.
    pub handshake: f64,
    /// Bytes that wait to be sent to one agent.
    pub unsent: usize,
    /// Nodes that are remembered.
    pub nodes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 16_384, pending: 2048, handshake: 5.0, unsent: 64 << 10, nodes: 32_768 }
    }
}

/// Makes what judges the silence of a node's agent, by the node's name.
pub type NewSilence = Box<dyn FnMut(&str) -> Box<dyn Silence> + Send>;

/// How the supervisor's end behaves.
pub struct Options {
    /// What peers may cost.
    pub limits: Limits,
    /// How often agents are asked for a sign of life, seconds: they know by it that the supervisor is there.
    pub ping_every: f64,
    /// How silence of a node's agent is judged.
    pub silence: NewSilence,
    /// A second way to ask before a node is called lost, and how many seconds it has.
    pub confirm: Option<(Confirm, f64)>,
    /// A node whose agent says nothing for so many seconds is lost although a second way says that it is up.
    pub silent_most: f64,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Default for Options {
    fn default() -> Self {
        let silence: NewSilence = Box::new(|_| Box::new(LearnedGaps::new(1.0)));
        Self { limits: Limits::default(), ping_every: 10.0, silence, confirm: None, silent_most: 60.0 }
    }
}

/// What happened. Times are in seconds; those called `at` count from when the receiver was made, see [`Receiver::now`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// An agent said who it is. All that it has found follows as [`Self::Standing`].
    Joined {
        /// Its node.
        node: Arc<str>,
        /// Who it is.
        join: Join,
        /// Where it is.
        from: SocketAddr,
        /// Whether the node has run without a break since it was here before: the same boot. `None`: it was not here before.
        same_boot: Option<bool>,
    },
    /// All that an agent has found and not taken back; whatever else it said before is over.
    Standing {
        /// Its node.
        node: Arc<str>,
        /// What it found.
        changes: Vec<Change>,
    },
    /// More of what an agent found.
    Changes {
        /// Its node.
        node: Arc<str>,
        /// What it found.
        changes: Vec<Change>,
    },
    /// How a node and its ranks are.
    Report {
        /// The node.
        node: Arc<str>,
        /// What it says.
        report: Report,
        /// When it was read.
        at: f64,
    },
    /// A rank's stack, which was asked for.
    Stacks {
        /// Its node.
        node: Arc<str>,
        /// The rank.
        rank: u32,
        /// One line a frame.
        text: String,
    },
    /// An agent answered a ping.
    Round {
        /// Its node.
        node: Arc<str>,
        /// How long that took.
        seconds: f64,
    },
    /// A connection of an agent ended. Where that was not in order, it may come back before it is missed.
    Left {
        /// Its node.
        node: Arc<str>,
        /// Whether it had said so.
        orderly: bool,
    },
    /// An agent is silent for longer than it may be, but a second way says that the node is up.
    Silent {
        /// Its node.
        node: Arc<str>,
        /// How long it has been silent.
        seconds: f64,
        /// How long it may be.
        limit: f64,
    },
    /// A node is lost: its agent is silent for longer than it may be, and no second way says that the node is up, or for as long as that is
    /// believed.
    Lost {
        /// The node.
        node: Arc<str>,
        /// How long it has been silent.
        seconds: f64,
        /// How long it may be.
        limit: f64,
        /// Whether a second way says that it is gone.
        confirmed: bool,
    },
    /// A node that was lost, or an agent that was silent, is back.
    Back {
        /// The node.
        node: Arc<str>,
        /// How long nothing was heard.
        seconds: f64,
    },
    /// A connection was refused.
    Refused {
        /// Whose.
        from: SocketAddr,
        /// Why.
        reason: Refusal,
    },
}

/// What the receiver has seen in all.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Counts {
    /// Connections taken in.
    pub accepted: u64,
    /// Reports.
    pub reports: u64,
    /// Refusals, by their reason in words.
    pub refused: BTreeMap<String, u64>,
    /// By how much the receiver itself was late at the most, seconds.
    pub latest: f64,
}

/// Why an order was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OrderError {
    /// No agent of the node is connected.
    #[error("no agent of that node is connected")]
    NotConnected,
    /// The connection broke; the agent may come back.
    #[error("the connection to the node's agent broke")]
    Broken,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    /// It is heard of, or not missed yet.
    Live,
    /// A second way is asked; whether the agent was said to be silent before.
    Suspected {
        since: f64,
        said: bool,
    },
    /// The node is up, its agent silent.
    Silent {
        since: f64,
    },
    Lost,
    /// It left in order: nothing is expected of it.
    Gone,
}

#[derive(Debug)]
struct Node {
    name: Arc<str>,
    boot_id: String,
    address: Option<SocketAddr>,
    connection: Option<usize>,
    silence: Box<dyn Silence>,
    heard: f64,
    /// Whether the next gap is a usual one, to learn from.
    usual: bool,
    late: f64,
    state: State,
}

/// The supervisor's end of the line.
#[derive(Debug)]
pub struct Receiver {
    poll: Poll,
    events: Events,
    waker: Arc<Waker>,
    listener: TcpListener,
    address: SocketAddr,
    secret: Secret,
    options: Options,
    asker: Option<(Asker, f64)>,
    start: Instant,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    /// Those that have not said who they are, oldest first, with their generations; some may be gone.
    pending: VecDeque<(usize, u64)>,
    waiting: usize,
    /// Those that may have more to read.
    more: VecDeque<(usize, u64)>,
    accept_more: bool,
    generation: u64,
    nodes: Vec<Node>,
    by_name: HashMap<Arc<str>, usize>,
    scratch: Vec<u8>,
    found: Vec<FromAgent>,
    told: Vec<Event>,
    refusals: usize,
    looked: f64,
    ticked: f64,
    /// Which share of the agents was asked last.
    pinged: usize,
    lateness: f64,
    counts: Counts,
}

/// Lets this process have as many descriptors as the system allows it; how many those are.
///
/// # Errors
/// Those of the system.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}

impl Receiver {
    /// Listens at `address`; port 0 takes any that is free.
    ///
    /// # Errors
    /// Those of the system.
    pub fn bind(address: SocketAddr, secret: Secret, mut options: Options) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut listener = TcpListener::bind(address)?;
        // As many as a job's agents that connect at once, not 128.
        nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(BACKLOG)?)?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let asker = match options.confirm.take() {
            Some((confirm, within)) => Some((Asker::start(confirm, Arc::clone(&waker))?, within)),
            None => None,
        };
        Ok(Self {
            poll,
            events: Events::with_capacity(4096),
            waker,
            address: listener.local_addr()?,
            listener,
            secret,
            options,
            asker,
            start: Instant::now(),
            connections: Vec::new(),
            free: Vec::new(),
            pending: VecDeque::new(),
            waiting: 0,
            more: VecDeque::new(),
            accept_more: false,
            generation: 0,
            nodes: Vec::new(),
            by_name: HashMap::new(),
            scratch: vec![0; SCRATCH],
            found: Vec::new(),
            told: Vec::new(),
            refusals: 0,
            looked: 0.0,
            ticked: 0.0,
            pinged: 0,
            lateness: 0.0,
            counts: Counts::default(),
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends a turn early, from another thread.
    #[must_use]
    pub fn waker(&self) -> Arc<Waker> {
        Arc::clone(&self.waker)
    }

    /// Seconds since it was made.
    #[must_use]
    pub fn now(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    /// What it has seen in all.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// How many connections there are.
    #[must_use]
    pub fn connected(&self) -> usize {
        self.connections.len() - self.free.len()
    }

    /// Bytes that are kept of unfinished frames and of what waits to be sent.
    #[must_use]
    pub fn kept_bytes(&self) -> usize {
        self.connections.iter().flatten().map(Connection::kept).sum()
    }

    /// Waits until something happens, `timeout` at most, and says what did. To be called again and again, at least every quarter
    /// of a second: whoever comes late only makes it more patient.
    ///
    /// # Errors
    /// Those of the system's polling; not those of a connection.
    pub fn turn(&mut self, timeout: Duration) -> io::Result<Vec<Event>> {
        let tick = Duration::from_secs_f64((self.ticked + TICK - self.now()).clamp(0.0, TICK));
        let wait = if self.more.is_empty() && !self.accept_more { timeout.min(tick) } else { Duration::ZERO };
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        let polled = self.poll.poll(&mut events, Some(wait));
        let now = self.now();
        self.observe(now);
        let (mut accept, mut filled) = (std::mem::take(&mut self.accept_more), false);
        if polled.is_ok() {
            filled = events.iter().count() >= events.capacity();
            for event in &events {
                match event.token() {
                    LISTENER => accept = true,
                    WAKER => {}
                    Token(place) => {
                        if event.is_writable() {
                            self.with(place, |connection| connection.flush().map(|()| Found::Drained));
                        }
                        if event.is_readable() || event.is_read_closed() || event.is_error() {
                            self.read(place, event.is_read_closed());
                        }
                    }
                }
            }
        }
        self.events = events;
        for _ in 0..self.more.len() {
            let Some((place, generation)) = self.more.pop_front() else { break };
            if self.connections.get(place).is_some_and(|c| c.as_ref().is_some_and(|c| c.generation == generation)) {
                self.read(place, true);
            }
        }
        // After the events: none of them can mean a connection that has the place of another.
        if accept {
            self.accept(now);
        }
        if now - self.ticked >= TICK {
            self.tick(now, !filled && self.more.is_empty());
        }
        self.answers(now);
        self.refusals = 0;
        match polled {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(std::mem::take(&mut self.told)),
        }
    }

    /// Tells an agent to do something.
    ///
    /// # Errors
    /// [`OrderError`].
    pub fn order(&mut self, node: &str, order: &ToAgent) -> Result<(), OrderError> {
        let connection = self.by_name.get(node).and_then(|place| self.nodes[*place].connection);
        let place = connection.ok_or(OrderError::NotConnected)?;
        if self.send(place, order) { Ok(()) } else { Err(OrderError::Broken) }
    }

    /// Tells all agents to do something; how many that went to.
    pub fn order_all(&mut self, order: &ToAgent) -> usize {
        let places: Vec<usize> = self.nodes.iter().filter_map(|node| node.connection).collect();
        places.into_iter().filter(|place| self.send(*place, order)).count()
    }

    /// Notes by how much this turn is late: others' silence may be only our own.
    fn observe(&mut self, now: f64) {
        let gap = now - self.looked;
        let late = (gap - TICK).max(0.0);
        self.lateness = late.max(self.lateness * (-gap / LATENESS_FADES).exp());
        self.counts.latest = self.counts.latest.max(late);
        self.looked = now;
    }

    fn send(&mut self, place: usize, order: &ToAgent) -> bool {
        let most = self.options.limits.unsent;
        self.with(place, |connection| connection.send(order, most).map(|()| Found::Drained))
    }

    /// Does something with a connection; whether it still stands then.
    fn with(&mut self, place: usize, work: impl FnOnce(&mut Connection) -> Result<Found, Broken>) -> bool {
        let Some(connection) = self.connections.get_mut(place).and_then(Option::as_mut) else { return false };
        let generation = connection.generation;
        match work(connection) {
            Ok(Found::Drained) => true,
            Ok(Found::More) => {
                self.more.push_back((place, generation));
                true
            }
            Ok(Found::Closed) | Err(Broken::Failed) => {
                self.close(place);
                false
            }
            Err(Broken::Refused(reason)) => {
                self.refuse(place, reason);
                false
            }
        }
    }

    fn read(&mut self, place: usize, closed: bool) {
        let mut found = std::mem::take(&mut self.found);
        let Some(connection) = self.connections.get_mut(place).and_then(Option::as_mut) else { return };
        let generation = connection.generation;
        let result = connection.read(&self.secret, &mut self.scratch, ROUNDS, closed, |message| found.push(message));
        // What came before the line broke was said.
        for message in found.drain(..) {
            // One of them may have ended the connection.
            if self.connections[place].as_ref().is_some_and(|connection| connection.generation == generation) {
                self.take(place, message);
            }
        }
        self.found = found;
        self.with(place, |_| result);
    }

    fn take(&mut self, place: usize, message: FromAgent) {
        let Some(connection) = &self.connections[place] else { return };
        let (now, from) = (self.now(), connection.from);
        let node = match (connection.node, message) {
            (None, FromAgent::Join(join)) => return self.join(place, join, from, now),
            (None, _) | (Some(_), FromAgent::Join(_)) => return self.refuse(place, Refusal::OutOfTurn),
            (Some(node), message) => {
                let name = Arc::clone(&self.nodes[node].name);
                match message {
                    FromAgent::Report(report) => {
                        self.nodes[node].late = f64::from(report.late);
                        self.counts.reports += 1;
                        self.heard(node, now);
                        self.told.push(Event::Report { node: name, report, at: now });
                    }
                    FromAgent::Standing(changes) => self.told.push(Event::Standing { node: name, changes }),
                    FromAgent::Changes(changes) => self.told.push(Event::Changes { node: name, changes }),
                    FromAgent::Pong { token } => {
                        let seconds = now - f64::from_bits(token);
                        // A token of its own making is no round.
                        if (0.0..=now).contains(&seconds) {
                            self.told.push(Event::Round { node: name, seconds });
                        }
                    }
                    FromAgent::Stacks { rank, text } => self.told.push(Event::Stacks { node: name, rank, text }),
                    FromAgent::Bye => {
                        self.nodes[node].state = State::Gone;
                        return self.close(place);
                    }
                    _ => return self.refuse(place, Refusal::OutOfTurn),
                }
                node
            }
        };
        debug_assert!(self.nodes[node].connection == Some(place));
    }

    fn join(&mut self, place: usize, join: Join, from: SocketAddr, now: f64) {
        let name: Arc<str> = join.node.as_str().into();
        let address = (join.port != 0).then(|| SocketAddr::new(from.ip(), join.port));
        let (node, same_boot) = match self.by_name.get(&name) {
            Some(&node) => {
                if let Some(other) = self.nodes[node].connection.take() {
                    // It has not left: this is it.
                    if let Some(connection) = self.discard(other) {
                        self.tell_refusal(connection.from, Refusal::Replaced);
                    }
                }
                (node, Some(self.nodes[node].boot_id == join.boot_id))
            }
            None if self.nodes.len() >= self.options.limits.nodes => return self.refuse(place, Refusal::TooMany),
            None => {
                let silence = (self.options.silence)(&name);
                let (boot_id, state) = (String::new(), State::Live);
                self.nodes.push(Node {
                    name: Arc::clone(&name),
                    boot_id,
                    address,
                    connection: None,
                    silence,
                    heard: now,
                    usual: false,
                    late: 0.0,
                    state,
                });
                self.by_name.insert(Arc::clone(&name), self.nodes.len() - 1);
                (self.nodes.len() - 1, None)
            }
        };
        if let Some(connection) = &mut self.connections[place] {
            connection.node = Some(node);
            self.waiting = self.waiting.saturating_sub(1);
        }
        let entry = &mut self.nodes[node];
        (entry.boot_id, entry.address, entry.connection) = (join.boot_id.clone(), address, Some(place));
        self.told.push(Event::Joined { node: name, join, from, same_boot });
        self.heard(node, now);
        // The time until the first report is none of those between two.
        self.nodes[node].usual = false;
    }

    fn heard(&mut self, node: usize, now: f64) {
        let node = &mut self.nodes[node];
        let gap = now - node.heard;
        match node.state {
            // Where this end was late itself, the gap is its own doing.
            State::Live if node.usual && self.lateness < node.silence.limit() / 4.0 => node.silence.heard(gap),
            State::Silent { .. } | State::Suspected { said: true, .. } | State::Lost => {
                self.told.push(Event::Back { node: Arc::clone(&node.name), seconds: gap });
            }
            State::Live | State::Suspected { .. } | State::Gone => {}
        }
        (node.heard, node.usual, node.state) = (now, true, State::Live);
    }

    fn accept(&mut self, now: f64) {
        for _ in 0..ACCEPTED_AT_ONCE {
            match self.listener.accept() {
                Ok((stream, from)) => self.add(stream, from, now),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted) => {
                }
                // There are no descriptors, most likely: those who wait are taken in when some are free.
                Err(_) => return,
            }
        }
        self.accept_more = true;
    }

    fn add(&mut self, mut stream: mio::net::TcpStream, from: SocketAddr, now: f64) {
        self.counts.accepted += 1;
        if self.connected() >= self.options.limits.connections {
            return self.tell_refusal(from, Refusal::TooMany);
        }
        // Orders are short and urgent; where it does not work they are a little later.
        let _ = stream.set_nodelay(true);
        let place = self.free.pop().unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() - 1
        });
        let both = Interest::READABLE | Interest::WRITABLE;
        if self.poll.registry().register(&mut stream, Token(place), both).is_err() {
            self.free.push(place);
            return;
        }
        self.generation += 1;
        self.connections[place] = Some(Connection::new(stream, from, now, self.generation));
        self.pending.push_back((place, self.generation));
        self.waiting += 1;
        while self.waiting > self.options.limits.pending {
            let Some((place, generation)) = self.pending.pop_front() else { break };
            if self.is_pending(place, generation) {
                self.refuse(place, Refusal::Crowded);
            }
        }
    }

    /// Whether this connection still has not said who it is.
    fn is_pending(&self, place: usize, generation: u64) -> bool {
        self.connections[place].as_ref().is_some_and(|c| c.generation == generation && c.node.is_none())
    }

    fn refuse(&mut self, place: usize, reason: Refusal) {
        if let Some(from) = self.connections[place].as_ref().map(|connection| connection.from) {
            self.tell_refusal(from, reason);
        }
        self.close(place);
    }

    fn tell_refusal(&mut self, from: SocketAddr, reason: Refusal) {
        // Versions are the peer's to choose: they must not make the table grow.
        let words =
            if let Refusal::Version(_) = reason { "it speaks another version".into() } else { reason.to_string() };
        *self.counts.refused.entry(words).or_default() += 1;
        self.refusals += 1;
        if self.refusals <= REFUSALS_TOLD {
            self.told.push(Event::Refused { from, reason });
        }
    }

    fn discard(&mut self, place: usize) -> Option<Connection> {
        let mut connection = self.connections[place].take()?;
        // Closing takes it out as well.
        let _ = self.poll.registry().deregister(&mut connection.stream);
        self.free.push(place);
        Some(connection)
    }

    fn close(&mut self, place: usize) {
        let Some(connection) = self.discard(place) else { return };
        match connection.node {
            Some(node) => {
                let node = &mut self.nodes[node];
                node.connection = None;
                node.usual = false;
                self.told.push(Event::Left { node: Arc::clone(&node.name), orderly: node.state == State::Gone });
            }
            None => self.waiting = self.waiting.saturating_sub(1),
        }
    }

    fn tick(&mut self, now: f64, nothing_waits: bool) {
        self.ticked = now;
        // What could not be taken in for want of descriptors.
        self.accept_more = true;
        while let Some(&(place, generation)) = self.pending.front() {
            if self.is_pending(place, generation) {
                let since = self.connections[place].as_ref().map_or(now, |connection| connection.since);
                if now - since < self.options.limits.handshake {
                    break;
                }
                self.refuse(place, Refusal::TooSlow);
            }
            self.pending.pop_front();
        }
        self.ping(now);
        if nothing_waits {
            self.judge(now);
        }
    }

    /// Asks a share of the agents for a sign of life, so that all have been asked after the time that the options say.
    fn ping(&mut self, now: f64) {
        let shares = (self.options.ping_every / TICK).clamp(1.0, 1e6) as usize;
        self.pinged = (self.pinged + 1) % shares;
        let share = self.nodes.iter().skip(self.pinged).step_by(shares);
        let places: Vec<usize> = share.filter_map(|node| node.connection).collect();
        for place in places {
            self.send(place, &ToAgent::Ping { token: now.to_bits() });
        }
    }

    fn judge(&mut self, now: f64) {
        let (stretch, within) = (self.lateness, self.asker.as_ref().map(|(_, within)| *within));
        let mut suspects = Vec::new();
        for node in &mut self.nodes {
            let seconds = now - node.heard;
            let limit = node.silence.limit() + stretch + node.late;
            // Where there is a second way it is asked first, once.
            let ask = match node.state {
                State::Live if seconds > limit => true,
                State::Silent { .. } if seconds > self.options.silent_most => false,
                // Whoever was up may be gone meanwhile.
                State::Silent { since } if now - since > limit.max(10.0) => true,
                // The second way has had its time.
                State::Suspected { since, .. } if within.is_none_or(|within| now - since > within) => false,
                _ => continue,
            };
            let name = Arc::clone(&node.name);
            if ask && self.asker.is_some() {
                let said = matches!(node.state, State::Silent { .. });
                node.state = State::Suspected { since: now, said };
                suspects.push(Suspect { node: name, address: node.address, seconds });
            } else {
                node.state = State::Lost;
                self.told.push(Event::Lost { node: name, seconds, limit, confirmed: false });
            }
        }
        if let Some((asker, _)) = &self.asker
            && !suspects.is_empty()
        {
            asker.ask(suspects);
        }
    }

    fn answers(&mut self, now: f64) {
        let Some((asker, _)) = &self.asker else { return };
        for (name, verdict) in asker.answers() {
            let Some(node) = self.by_name.get(&name).map(|place| &mut self.nodes[*place]) else { continue };
            // It may have been heard meanwhile.
            let State::Suspected { said, .. } = node.state else { continue };
            let (seconds, limit) = (now - node.heard, node.silence.limit() + self.lateness + node.late);
            if verdict == Verdict::Up {
                node.state = State::Silent { since: now };
                if !said {
                    self.told.push(Event::Silent { node: name, seconds, limit });
                }
            } else {
                node.state = State::Lost;
                let confirmed = verdict == Verdict::Gone;
                self.told.push(Event::Lost { node: name, seconds, limit, confirmed });
            }
        }
    }
}
