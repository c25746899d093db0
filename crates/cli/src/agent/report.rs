//! What the agent tells the supervisor, and what it is told.
//!
//! Comes in: each round's findings, and the ranks on the board; orders. Goes out: reports, and stacks where they are asked for. What must hold: the
//! supervisor delays nothing here; what it orders is done once, and at once; a supervisor that is gone is not worked for: its ranks
//! are ended where this agent belongs to its run.

use super::{PATIENCE, end_ranks, stacks};
use crate::jobs;
use anyhow::Context;
use nix::sys::signal::Signal;
use piton::store::{JobFolder, ProcessIdentity};
use piton::watch::board::{Board, Presence, RankSeen, now_ns};
use piton::watch::{Change, Guard, Kind, ProcessHandle, Round, Rules, Sample, process};
use piton_cli::line::{Attempt, Join, Life, RankRecord, Report, Secret, Sender, SenderOptions, ToAgent};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// A report is made as often as this, and whenever something is found.
const EVERY: Duration = Duration::from_secs(1);
/// While ranks have not all computed a step, so often: whoever waits for them learns of it soon.
const EVERY_AT_FIRST: Duration = Duration::from_millis(100);
/// A supervisor that can't be reached for so long is gone, and so are its ranks to be. One that only hangs, with a file system say, comes back before.
const ORPHANED: Duration = Duration::from_secs(60);

/// Most that is told of what was measured, in letters of the names: a report has its bounds.
const SAMPLES_LONGEST: usize = 64 << 10;

/// When reports are due. It begins anew with each board: what is on it is news, whether or not its ranks compute already.
#[derive(Debug, Default)]
struct Cadence {
    /// When the last one was made.
    last: Option<Instant>,
    /// When that was, ranks had yet to compute a step.
    at_first: bool,
}

impl Cadence {
    fn is_time(&self, every: Duration) -> bool {
        self.last.is_none_or(|last| last.elapsed() >= every)
    }

    /// Whether one is due after a look; `new`: something was found; `at_first`: ranks have yet to compute a step.
    fn is_due(&mut self, new: bool, at_first: bool) -> bool {
        // That all compute is news as well.
        let began = std::mem::replace(&mut self.at_first, at_first) && !at_first;
        new || began || self.is_time(if at_first { EVERY_AT_FIRST } else { EVERY })
    }
}

/// The run of a supervisor that an agent belongs to.
#[derive(Debug, Clone)]
pub struct Run {
    /// Its number.
    pub number: u64,
    /// Where the boards of its ranks are.
    pub boards: PathBuf,
}

impl Run {
    /// The boards of its launches from `least` on, in their order.
    pub fn boards(&self, least: u32) -> impl DoubleEndedIterator<Item = Board> {
        let number = self.number;
        let mut found: Vec<Board> = Board::find(&self.boards, None)
            .into_iter()
            .map(|(_, board)| board)
            .filter(|board| board.supervised().run == number && board.supervised().launch >= least)
            .collect();
        found.sort_by_key(|board| board.supervised().launch);
        found.into_iter()
    }
}

/// Reports to a supervisor.
pub struct Reporter {
    sender: Sender,
    orders: Receiver<ToAgent>,
    woken: UnixStream,
    run: Option<Run>,
    /// Names of series that the supervisor compares nodes by.
    compared: BTreeSet<String>,
    /// What was measured of them since the last report.
    samples: Vec<(String, Kind, f64)>,
    sequence: u64,
    cadence: Cadence,
    /// Ranks of launches up to this one were to be ended.
    stopped: u32,
    heard: Instant,
    /// A signal asked for it.
    asked: bool,
    leaves: bool,
    /// The supervisor is gone without a word.
    orphaned: bool,
}

/// A handle that lets the agent of this process leave.
pub struct Leave(UnixStream);

impl Leave {
    /// It leaves as soon as there is no supervisor.
    pub fn ask(&self) {
        let _ = (&self.0).write_all(b"L");
    }
}

impl Reporter {
    /// Connects, and again whenever the line breaks. `secret`: a file; the environment has it where there is none. `rules`: what they compare
    /// nodes by is reported.
    ///
    /// # Errors
    /// Where there is no secret, or the system gives no thread.
    pub fn start(
        address: &str,
        secret: Option<&Path>,
        run: Option<Run>,
        rules: &Rules,
    ) -> anyhow::Result<(Self, Leave)> {
        let secret = match secret {
            Some(path) => Secret::read(path)?,
            None => Secret::from_environment()?.with_context(|| {
                format!(
                    "no secret to report to {address} with: name its file by --secret, or give it in {}",
                    Secret::VARIABLE
                )
            })?,
        };
        let own = ProcessIdentity::current();
        let join = Join {
            node: process::host_name(),
            boot_id: own.boot_id.unwrap_or_default(),
            pid: own.pid,
            port: door().unwrap_or(0),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let (order, orders) = channel();
        let (wake, woken) = UnixStream::pair().context("no pair of sockets")?;
        woken.set_nonblocking(true)?;
        wake.set_nonblocking(true)?;
        let leave = Leave(wake.try_clone()?);
        let on_order = move |told| {
            // Whoever ends meanwhile does nothing more.
            let _ = order.send(told);
            let _ = (&wake).write_all(b"O");
        };
        let options = match run {
            // Ranks must not compute for long for nobody.
            Some(_) => SenderOptions {
                quiet: ORPHANED,
                retry_first: Duration::from_millis(100),
                retry_most: Duration::from_secs(2),
                ..SenderOptions::default()
            },
            None => SenderOptions::default(),
        };
        let sender = Sender::start(address.to_owned(), secret, join, options, on_order)
            .with_context(|| format!("cannot report to {address}"))?;
        let heard = Instant::now();
        Ok((
            Self {
                sender,
                orders,
                woken,
                run,
                compared: rules.compared().map(str::to_owned).collect(),
                samples: Vec::new(),
                sequence: 0,
                cadence: Cadence::default(),
                stopped: 0,
                heard,
                asked: false,
                leaves: false,
                orphaned: false,
            },
            leave,
        ))
    }

    /// Ends waits when an order comes.
    pub fn wake(&self) -> BorrowedFd<'_> {
        self.woken.as_fd()
    }

    /// Whether the agent is to leave: the supervisor said so, or is gone.
    pub fn leaves(&self) -> bool {
        self.leaves
    }

    /// Whether it leaves since nothing was heard of the supervisor for long.
    pub fn is_orphaned(&self) -> bool {
        self.orphaned
    }

    /// Whether the ranks on this board are to be ended.
    pub fn ends(&self, board: &Board) -> bool {
        self.leaves || board.supervised().launch <= self.stopped
    }

    /// Does what was ordered.
    pub fn obey(&mut self, watched: Option<(&Board, &JobFolder)>) {
        let mut bytes = [0; 64];
        while let Ok(count @ 1..) = (&self.woken).read(&mut bytes) {
            self.asked |= bytes[..count].contains(&b'L');
        }
        while let Ok(order) = self.orders.try_recv() {
            self.obey_one(&order, watched);
        }
        if self.sender.state().connected {
            self.heard = Instant::now();
        } else if self.asked {
            // A batch system that takes the nodes away gives its signal to all: as long as there is a supervisor, ranks get the time for their last
            // checkpoint.
            self.leaves = true;
        } else if self.run.is_some() && self.heard.elapsed() > ORPHANED && !self.leaves {
            eprintln!(
                "piton agent: nothing is heard of the supervisor for {} s: its ranks are ended",
                ORPHANED.as_secs()
            );
            (self.leaves, self.orphaned) = (true, true);
        }
        let ended = if self.leaves { u32::MAX } else { self.stopped };
        if ended > 0
            && let Some(run) = &self.run
        {
            // Ranks that came to a board only after they were to be ended, too.
            run.boards(0).filter(|board| board.supervised().launch <= ended).for_each(|board| end_ranks(&board));
        }
    }

    fn obey_one(&mut self, order: &ToAgent, watched: Option<(&Board, &JobFolder)>) {
        match order {
            ToAgent::Checkpoint { reason } => {
                if let Some((_, job)) = watched {
                    // A store that can't be written now gets no checkpoint either.
                    let _ = job.request(&super::checkpoint(format!("the supervisor, {}: {reason}", jobs::who())));
                }
            }
            ToAgent::StopAttempt { launch, .. } => {
                self.stopped = self.stopped.max(*launch);
                // What became of them is told with the next look.
                self.cadence.last = None;
            }
            ToAgent::DumpStacks { rank } => {
                let ranks = watched.map(|(board, _)| board.ranks()).unwrap_or_default();
                for seen in ranks.iter().filter(|seen| rank.is_none_or(|rank| rank == seen.rank)) {
                    let text = stacks(seen.pid, PATIENCE).map_or_else(|why| why, |(_, lines)| lines.join("\n"));
                    self.sender.stacks(seen.rank, text);
                }
            }
            ToAgent::Leave => self.leaves = true,
            ToAgent::Succeed { pid } => {
                if let Some(run) = &self.run {
                    end_predecessor(*pid, run.number);
                }
            }
            // Pings are answered by the line.
            _ => {}
        }
    }

    /// From now on another board is watched.
    pub fn begin(&mut self) {
        self.cadence = Cadence::default();
    }

    /// Tells how things are, where it is time or something was found.
    pub fn report(&mut self, guard: &Guard, round: &Round) {
        let new = !round.seen.is_empty() || !round.turn.is_empty();
        if let Some(samples) = &round.samples {
            self.samples = compared(samples, &self.compared);
        }
        let board = guard.agent().board();
        let ranks = board.ranks();
        let at_first = ranks.iter().any(|rank| rank.steps.count == 0 && rank.presence != Presence::Left);
        if !self.cadence.is_due(new, at_first) {
            return;
        }
        let samples = std::mem::take(&mut self.samples);
        let changes = round.seen.iter().map(|seen| seen.change.clone()).collect();
        self.send(guard.agent().late() as f32, Some(board), changes, samples);
    }

    /// Tells that the agent is there, and how the ranks are that it saw last.
    pub fn idle(&mut self, last: Option<&Board>) {
        if self.cadence.is_time(EVERY) {
            self.send(0.0, last, Vec::new(), Vec::new());
        }
    }

    /// Tells how ranks ended, and takes back what was found of them.
    pub fn ended(&mut self, board: &Board, changes: Vec<Change>) {
        self.send(0.0, Some(board), changes, Vec::new());
    }

    fn send(&mut self, late: f32, board: Option<&Board>, changes: Vec<Change>, samples: Vec<(String, Kind, f64)>) {
        self.cadence.last = Some(Instant::now());
        self.sequence += 1;
        self.sender.report(Report {
            sequence: self.sequence,
            mono_ns: now_ns(),
            late,
            attempt: board.map(attempt),
            ranks: board.map(|board| board.ranks().iter().map(record).collect()).unwrap_or_default(),
            changes,
            samples,
        });
    }

    /// Says goodbye.
    pub fn close(self, within: Duration) {
        self.sender.close(within);
    }
}

/// A port that takes connections and closes them: whoever reaches it knows that the node is up, whatever this process does. `None`: the
/// system gives none.
fn door() -> Option<u16> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    let port = listener.local_addr().ok()?.port();
    let open = move || {
        for connection in listener.incoming() {
            if connection.is_err() {
                // Without descriptors, say: not a reason to spin.
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    };
    std::thread::Builder::new().name("piton-door".to_owned()).spawn(open).ok()?;
    Some(port)
}

/// Ends the agent of this run that had this process, where it is still there.
fn end_predecessor(pid: u32, run: u64) {
    // The handle is of the process that has the number now: only then is looked whether that is an agent of the run.
    let Ok(handle) = ProcessHandle::open(pid) else { return };
    let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    if pid != std::process::id() && is_agent(&command, run) {
        // It has gone by itself, at the worst.
        let _ = handle.signal(Signal::SIGKILL);
    }
}

/// Whether a command line, as the kernel shows it, is that of an agent of this run.
fn is_agent(command: &[u8], run: u64) -> bool {
    let words: Vec<&[u8]> = command.split(|byte| *byte == 0).collect();
    let number = format!("{run:x}");
    words.contains(&b"agent".as_slice()) && words.windows(2).any(|pair| pair == [b"--run", number.as_bytes()])
}

/// What of the samples nodes are compared by, as much as fits.
fn compared(samples: &[Sample], names: &BTreeSet<String>) -> Vec<(String, Kind, f64)> {
    let wanted = samples.iter().filter(|sample| names.contains(sample.series.name.as_ref()));
    let mut letters = 0;
    wanted
        .map(|sample| (sample.series.to_string(), sample.kind, sample.value))
        .take_while(|(series, ..)| {
            letters += series.len();
            letters <= SAMPLES_LONGEST
        })
        .collect()
}

fn attempt(board: &Board) -> Attempt {
    Attempt {
        launch: board.supervised().launch,
        job: board.job(),
        store: board.store().to_string_lossy().into_owned(),
        epoch: board.epoch().0,
        world: board.world(),
    }
}

fn record(seen: &RankSeen) -> RankRecord {
    let age_ms = now_ns().saturating_sub(seen.beat_at) / 1_000_000;
    let mean = |seconds: f64| (seconds / seen.steps.count.max(1) as f64) as f32;
    RankRecord {
        rank: seen.rank,
        pid: seen.pid,
        life: match seen.presence {
            Presence::Left => Life::Left,
            _ if process::lives(seen.pid, seen.start_ticks) => Life::Alive,
            _ => Life::Ended,
        },
        age_ms: u32::try_from(age_ms).unwrap_or(u32::MAX),
        step: seen.step,
        steps: seen.steps.count,
        phase: seen.phase.map_or(0, |phase| u16::try_from(phase + 1).unwrap_or(u16::MAX)),
        step_seconds: mean(seen.steps.total),
        compute_seconds: mean((seen.steps.total - seen.waiting).max(0.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use piton::watch::Series;

    #[test]
    fn only_an_agent_of_the_same_run_is_ended() {
        let line = |words: &[&str]| words.iter().flat_map(|word| word.bytes().chain([0])).collect::<Vec<u8>>();
        let agent = line(&["/usr/bin/piton", "agent", "--supervisor", "n1:4000", "--run", "2a", "--rescue"]);
        assert!(is_agent(&agent, 0x2a));
        assert!(!is_agent(&agent, 0x2b) && !is_agent(&agent, 0x2));
        assert!(!is_agent(&line(&["./simulation", "--run", "2a"]), 0x2a) && !is_agent(b"", 0x2a));
        let mut child = std::process::Command::new("sleep").arg("600").spawn().expect("a process");
        end_predecessor(child.id(), 0x2a);
        assert!(child.try_wait().expect("it can be asked").is_none(), "it is no agent");
        child.kill().and_then(|()| child.wait()).expect("it ends");
        end_predecessor(child.id(), 0x2a);
    }

    #[test]
    fn what_is_on_another_board_is_told_at_once_even_where_all_compute_already() {
        let just_now = Some(Instant::now());
        let mut cadence = Cadence { last: just_now, at_first: false };
        assert!(!cadence.is_due(false, false) && cadence.is_due(true, false));
        cadence = Cadence::default();
        assert!(cadence.is_due(false, false));
        cadence.last = just_now;
        assert!(!cadence.is_due(false, false));
        // Ranks that come only now, and compute then.
        assert!(!cadence.is_due(false, true) && cadence.is_due(false, false) && !cadence.is_due(false, false));
    }

    #[test]
    fn the_door_opens_and_shuts() {
        let port = door().expect("a port");
        for _ in 0..3 {
            let mut stream = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("it is open");
            assert_eq!(stream.read(&mut [0; 8]).expect("closed in order"), 0);
        }
    }

    #[test]
    fn what_nodes_are_compared_by_is_reported_and_no_more_than_fits() {
        let names = BTreeSet::from(["heat".to_owned()]);
        let of = |number: usize| Sample::gauge(Series::new("heat").with("sensor", format!("{number:0>500}")), 1.0);
        let mut samples = vec![Sample::gauge(Series::new("load"), 2.0)];
        assert!(compared(&samples, &names).is_empty());
        samples.extend((0..1000).map(of));
        let told = compared(&samples, &names);
        assert!(told.len() > 100 && told.iter().all(|(series, ..)| series.starts_with("heat")));
        assert!(told.iter().map(|(series, ..)| series.len()).sum::<usize>() <= SAMPLES_LONGEST);
    }
}
