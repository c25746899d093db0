//! What an agent of its own process can do besides watching: look into the processes that it suspects, and report to a supervisor.
//!
//! Comes in: what the watcher found. Goes out: the same with the stacks of the suspect's threads. What must hold: it takes a few seconds at the
//! most, whatever the suspect does, and changes nothing about it.

mod report;

pub use report::{Reporter, Run};

use nix::sys::signal::Signal;
use piton::store::{Request, RequestKind};
use piton::watch::board::Board;
use piton::watch::{Change, Observation, ProcessHandle, process};
use piton_cli::bounded;
use std::process::Command;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A checkpoint that is asked for by `by`.
pub fn checkpoint(by: String) -> Request {
    Request { kind: RequestKind::Checkpoint, by }
}

/// Kills the ranks on a board that still live.
pub fn end_ranks(board: &Board) {
    for rank in board.ranks() {
        // The handle is of the process that has the number now: only then is looked whether that is the rank.
        if let Ok(handle) = ProcessHandle::open(rank.pid)
            && process::start_ticks(rank.pid) == Some(rank.start_ticks)
        {
            // One of another user's is none of ours.
            let _ = handle.signal(Signal::SIGKILL);
        }
    }
}

/// Whether all ranks on a board are gone; those that were just killed get a moment.
pub fn are_gone(board: &Board) -> bool {
    let until = Instant::now() + END;
    loop {
        if board.ranks().iter().all(|rank| !process::lives(rank.pid, rank.start_ticks)) {
            return true;
        }
        if Instant::now() >= until {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// How long ranks that were killed may take to be gone.
const END: Duration = Duration::from_secs(2);
/// How long tools get for one finding: nobody acts on it before, and the supervisor hears nothing meanwhile.
const PATIENCE: Duration = Duration::from_secs(2);
/// Most that is kept of what it says.
const LINES: usize = 120;
const BYTES: usize = 1 << 20;

/// The tools that show stacks, the first one that is there.
const TOOLS: [(&str, &[&str]); 2] = [
    ("eu-stack", &["-n", "24", "-p"]),
    ("gdb", &["-batch", "-nx", "-ex", "set pagination off", "-ex", "thread apply all bt 24", "-p"]),
];

/// Adds the stacks of the rank that is suspected to get no further; one that a signal stopped would stop the tool as well.
pub fn with_stacks(mut seen: Observation, board: &Board) -> Observation {
    let Change::Raised(finding) = &seen.change else { return seen };
    if !matches!(finding.rule.as_str(), "RankLiveLocked" | "RankBlocked" | "RanksDeadLocked" | "RankSilent") {
        return seen;
    }
    // Nobody is to take the watch over meanwhile, and the rank for one that a signal has stopped.
    let _watch = Watching::keep(board);
    let rank: Option<u32> = finding.labels.get("rank").and_then(|rank| rank.parse().ok());
    // Where all wait for each other, each of the first few shows where.
    let suspects = board.ranks().into_iter().filter(|seen| rank.is_none_or(|rank| rank == seen.rank)).take(2);
    let began = Instant::now();
    for suspect in suspects {
        match stacks(suspect.pid, PATIENCE.saturating_sub(began.elapsed())) {
            Ok((tool, lines)) => {
                seen.evidence.push(format!("stacks of rank {} by {tool}:", suspect.rank));
                seen.evidence.extend(lines);
            }
            Err(why) => seen.evidence.push(format!("no stacks of rank {}: {why}", suspect.rank)),
        }
    }
    seen
}

/// Says on the board that somebody watches, for as long as this lives.
struct Watching {
    /// Dropped to end the thread.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watching {
    fn keep(board: &Board) -> Self {
        let board = board.path().and_then(|path| Board::open(path).ok());
        let (stop, stopped) = channel::<()>();
        let run = move || {
            while let Some(board) = &board
                && stopped.recv_timeout(SAY_SO) == Err(RecvTimeoutError::Timeout)
            {
                board.watched_by(std::process::id());
            }
        };
        // Without a thread others watch as well: what they say then is told twice.
        let thread = std::thread::Builder::new().name("piton-watching".to_owned()).spawn(run).ok();
        Self { stop: Some(stop), thread }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().map(JoinHandle::join);
    }
}

/// How often whoever watches says so while a tool looks into a process.
const SAY_SO: Duration = Duration::from_millis(100);

/// The stacks of the process's threads, and the tool that showed them in the time that it has.
fn stacks(pid: u32, within: Duration) -> Result<(&'static str, Vec<String>), String> {
    for (tool, arguments) in TOOLS {
        let mut command = Command::new(tool);
        command.args(arguments).arg(pid.to_string());
        let Ok(ran) = bounded::run(command, Vec::new(), within, BYTES) else { continue };
        if ran.status.is_none() {
            return Err(format!("{tool} took longer than {:.1} s", within.as_secs_f64()));
        }
        let text = String::from_utf8_lossy(&ran.printed);
        let lines: Vec<String> =
            text.lines().filter(|line| !line.trim().is_empty()).take(LINES).map(str::to_owned).collect();
        return match lines.is_empty() {
            true => Err(format!("{tool} may not look, or found nothing")),
            false => Ok((tool, lines)),
        };
    }
    Err("neither eu-stack (of elfutils) nor gdb is installed".to_owned())
}
