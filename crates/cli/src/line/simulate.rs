//! Many agents in one process: to measure the supervisor's end, and to test it.
//!
//! Comes in: how many agents there are, what they have to say, and which of them fail when. Goes out: what they did. What must hold: they
//! speak the protocol by the same code as real agents; reports are spread over the period, as those of agents that don't know
//! each other are; an agent that is late says so, as real ones do.

use super::handshake::Keys;
use super::message::{FromAgent, Join, Life, RankRecord, Report, ToAgent};
use super::{Secret, sender};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};
use nix::time::{ClockId, clock_gettime};
use piton::watch::Kind;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How agents fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// It says nothing more; its connection stays open, as that of a node that lost its power.
    Silent,
    /// Its connection is closed, as that of an agent that was killed.
    Closed,
}

/// What is simulated.
#[derive(Debug, Clone)]
pub struct Simulation {
    /// Where the supervisor listens.
    pub address: SocketAddr,
    /// How many agents.
    pub agents: usize,
    /// Ranks of each.
    pub ranks: u32,
    /// From one report to the next.
    pub period: Duration,
    /// How many periods the agents run.
    pub periods: u32,
    /// Threads that share the agents.
    pub threads: usize,
    /// Agents that fail, by their number, in which period.
    pub failures: Vec<(usize, u32, Failure)>,
    /// Ends it early, after the period that runs.
    pub stop: Arc<AtomicBool>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Simulated {
    /// Reports sent.
    pub reports: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// By how much a report was late at the most, seconds.
    pub latest: f64,
    /// Failed agents: the number, and when it gave its last report by the node's monotonic clock, in nanoseconds.
    pub failed: Vec<(usize, u64)>,
}

/// The name of the node that agent `number` is on.
#[must_use]
pub fn node(number: usize) -> String {
    format!("node{number:05}")
}

/// Now, in nanoseconds of the node's monotonic clock.
#[must_use]
pub fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

struct Agent {
    number: usize,
    stream: Option<(TcpStream, Keys)>,
    failure: Option<(u32, Failure)>,
    last: u64,
    inbox: Vec<u8>,
}

/// Runs the agents until their periods are over.
///
/// # Errors
/// Those of the system and the network: no agent may fail but as it is told to.
pub fn run(simulation: &Simulation, secret: &Secret) -> io::Result<Simulated> {
    let threads = simulation.threads.clamp(1, simulation.agents.max(1));
    let parts: Vec<io::Result<Simulated>> = thread::scope(|scope| {
        let parts: Vec<_> =
            (0..threads).map(|part| scope.spawn(move || run_part(simulation, secret, part, threads))).collect();
        let lost = || Err(io::Error::other("a thread of the simulator panicked"));
        parts.into_iter().map(|part| part.join().unwrap_or_else(|_| lost())).collect()
    });
    let mut all = Simulated::default();
    for part in parts {
        let part = part?;
        all.reports += part.reports;
        all.bytes += part.bytes;
        all.latest = all.latest.max(part.latest);
        all.failed.extend(part.failed);
    }
    all.failed.sort_unstable();
    Ok(all)
}

fn run_part(simulation: &Simulation, secret: &Secret, part: usize, threads: usize) -> io::Result<Simulated> {
    let failure = |number: usize| {
        simulation.failures.iter().find(|(of, _, _)| *of == number).map(|(_, period, failure)| (*period, *failure))
    };
    let numbers = (part..simulation.agents).step_by(threads);
    let mut agents: Vec<Agent> = numbers
        .map(|number| Agent { number, stream: None, failure: failure(number), last: 0, inbox: Vec::new() })
        .collect();
    let mut done = Simulated::default();
    let (start, mut frame, mut scratch) = (Instant::now(), Vec::new(), vec![0; 4096]);
    for period in 0..=simulation.periods {
        if simulation.stop.load(Ordering::Relaxed) {
            break;
        }
        let count = agents.len().max(1);
        for (place, agent) in agents.iter_mut().enumerate() {
            let share = (place as f64 + part as f64 / threads as f64) / count as f64;
            let due = simulation.period.mul_f64(f64::from(period) + share);
            let early = due.saturating_sub(start.elapsed());
            // Shorter ones are not worth a call.
            if early > Duration::from_micros(500) {
                thread::sleep(early);
            }
            let late = start.elapsed().saturating_sub(due).as_secs_f64();
            if period == 0 {
                agent.stream = Some(join(simulation.address, secret, agent.number)?);
            } else if let Some((_, failure)) = agent.failure.filter(|(at, _)| *at <= period) {
                if failure == Failure::Closed {
                    agent.stream = None;
                }
                continue;
            }
            let Some((stream, keys)) = &mut agent.stream else { continue };
            agent.last = monotonic_ns();
            let report = FromAgent::Report(report(agent.number, simulation.ranks, period, late, agent.last));
            frame.clear();
            let body = report.to_bytes().map_err(io::Error::other)?;
            keys.sealer.seal(&body, &mut frame).map_err(io::Error::other)?;
            stream.write_all(&frame)?;
            done.reports += 1;
            done.bytes += frame.len() as u64;
            done.latest = done.latest.max(late);
            answer(stream, keys, &mut agent.inbox, &mut scratch)?;
        }
    }
    done.failed =
        agents.iter().filter(|agent| agent.failure.is_some()).map(|agent| (agent.number, agent.last)).collect();
    Ok(done)
}

/// Answers the pings that have come.
fn answer(mut stream: &TcpStream, keys: &mut Keys, inbox: &mut Vec<u8>, scratch: &mut [u8]) -> io::Result<()> {
    match recv(stream.as_raw_fd(), scratch, MsgFlags::MSG_DONTWAIT) {
        Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the supervisor closed a line")),
        Ok(count) => inbox.extend_from_slice(&scratch[..count]),
        Err(Errno::EAGAIN) => {}
        Err(error) => return Err(error.into()),
    }
    let (mut used, mut answers) = (0, Vec::new());
    while let Some((body, whole)) = keys.opener.open(&inbox[used..]).map_err(io::Error::other)? {
        used += whole;
        if let ToAgent::Ping { token } = ToAgent::from_bytes(body).map_err(io::Error::other)? {
            let pong = FromAgent::Pong { token }.to_bytes().map_err(io::Error::other)?;
            keys.sealer.seal(&pong, &mut answers).map_err(io::Error::other)?;
        }
    }
    inbox.drain(..used);
    stream.write_all(&answers)
}

fn join(address: SocketAddr, secret: &Secret, number: usize) -> io::Result<(TcpStream, Keys)> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.set_write_timeout(Some(Duration::from_secs(30)))?;
    let mut keys = sender::shake(&stream, secret)?;
    let (boot_id, version) = (format!("boot{number}"), env!("CARGO_PKG_VERSION").to_owned());
    let join = Join { node: node(number), boot_id, pid: std::process::id(), port: 0, version };
    let mut frame = Vec::new();
    keys.sealer
        .seal(&FromAgent::Join(join).to_bytes().map_err(io::Error::other)?, &mut frame)
        .map_err(io::Error::other)?;
    (&stream).write_all(&frame)?;
    Ok((stream, keys))
}

fn report(number: usize, ranks: u32, period: u32, late: f64, mono_ns: u64) -> Report {
    let record = |place: u32| RankRecord {
        rank: u32::try_from(number).unwrap_or(0).saturating_mul(ranks) + place,
        pid: 100_000 + place,
        life: Life::Alive,
        age_ms: 10 + place,
        step: 1_000_000 + u64::from(period),
        steps: u64::from(period),
        phase: 1,
        step_seconds: 0.25 + place as f32 * 1e-3,
        compute_seconds: 0.2,
    };
    Report {
        sequence: u64::from(period),
        mono_ns,
        late: late as f32,
        attempt: None,
        ranks: (0..ranks).map(record).collect(),
        changes: Vec::new(),
        samples: vec![
            ("node_memory_MemAvailable_bytes".to_owned(), Kind::Gauge, 1e9),
            ("node_load1".to_owned(), Kind::Gauge, 64.0),
        ],
    }
}

/// An address of this machine that nobody else reaches, with a free port.
#[must_use]
pub fn loopback() -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0)
}
