//! What an agent of its own process can do besides watching: look into the processes that it suspects, and report to a supervisor.
//!
//! Comes in: what the watcher found. Goes out: the same with the stacks of the suspect's threads. What must hold: it takes a few seconds at the
//! most, whatever the suspect does, and changes nothing about it.

mod report;

pub use report::Reporter;

use piton::store::{Request, RequestKind};
use piton::watch::board::Board;
use piton::watch::{Change, Observation};
use piton_cli::bounded;
use std::process::Command;
use std::time::Duration;

/// A checkpoint that is asked for by `by`.
pub fn checkpoint(by: String) -> Request {
    Request { kind: RequestKind::Checkpoint, by }
}

/// How long a tool gets.
const PATIENCE: Duration = Duration::from_secs(5);
/// Most that is kept of what it says.
const LINES: usize = 120;
const BYTES: usize = 1 << 20;

/// The tools that show stacks, the first one that is there.
const TOOLS: [(&str, &[&str]); 2] = [
    ("eu-stack", &["-n", "24", "-p"]),
    ("gdb", &["-batch", "-nx", "-ex", "set pagination off", "-ex", "thread apply all bt 24", "-p"]),
];

/// Adds the stacks of the rank that is suspected to get no further.
pub fn with_stacks(mut seen: Observation, board: &Board) -> Observation {
    let Change::Raised(finding) = &seen.change else { return seen };
    if !matches!(
        finding.rule.as_str(),
        "RankStopped" | "RankLiveLocked" | "RankBlocked" | "RanksDeadLocked" | "RankSilent"
    ) {
        return seen;
    }
    let rank: Option<u32> = finding.labels.get("rank").and_then(|rank| rank.parse().ok());
    // Where all wait for each other, each of the first few shows where.
    let suspects = board.ranks().into_iter().filter(|seen| rank.is_none_or(|rank| rank == seen.rank)).take(2);
    for suspect in suspects {
        match stacks(suspect.pid) {
            Ok((tool, lines)) => {
                seen.evidence.push(format!("stacks of rank {} by {tool}:", suspect.rank));
                seen.evidence.extend(lines);
            }
            Err(why) => seen.evidence.push(format!("no stacks of rank {}: {why}", suspect.rank)),
        }
    }
    seen
}

/// The stacks of the process's threads, and the tool that showed them.
fn stacks(pid: u32) -> Result<(&'static str, Vec<String>), String> {
    for (tool, arguments) in TOOLS {
        let mut command = Command::new(tool);
        command.args(arguments).arg(pid.to_string());
        let Ok(ran) = bounded::run(command, Vec::new(), PATIENCE, BYTES) else { continue };
        if ran.status.is_none() {
            return Err(format!("{tool} took longer than {} s", PATIENCE.as_secs()));
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
