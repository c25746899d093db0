//! What one process and its threads are doing, for when one is suspected to hang.
//!
//! Comes in: `/proc/PID/{stat,wchan,task}`. Goes out: states, processor time, and where in the kernel each thread waits. What must hold: at most
//! [`MOST_THREADS`] threads are looked at; a process that ends meanwhile is not known, never an error. Nothing here can hang on the memory of the process, as `ps`
//! can that reads command lines.
//!
//! | state | a step that does not come |
//! | --- | --- |
//! | `R`, and processor time grows | a loop without end |
//! | `S`, and it does not grow | waits for another process, or for a file system in user space (`wchan` tells) |
//! | `D` | waits for a disk, a file system, or a frozen control group |
//! | `T`, `t` | was stopped, or is traced |
//! | `Z`, `X` | is dead |

use super::Roots;
use super::files::{attribute, entries};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Most threads that are looked at, those with the lowest numbers.
pub const MOST_THREADS: usize = 64;

/// What a process is doing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its program's name, as the kernel has it: 15 characters.
    pub comm: String,
    /// The state of its first thread, by proc_pid_stat(5): `R`, `S`, `D`, `T`, `Z` and so on.
    pub state: char,
    /// Seconds of processor time in the program itself, of all threads.
    pub user_seconds: f64,
    /// In the kernel on its behalf.
    pub system_seconds: f64,
    /// When it was started, in ticks since boot: a number that is used again has another.
    pub started_ticks: u64,
    /// Page faults that had to read from a disk.
    pub major_faults: u64,
    /// How many threads it has.
    pub threads: u64,
    /// Where in the kernel its first thread waits; none where it does not, or that is hidden.
    pub wchan: Option<String>,
    /// What they do, up to [`MOST_THREADS`] of them.
    pub tasks: Vec<Thread>,
}

/// What one thread is doing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Thread {
    /// Its number.
    pub tid: u32,
    /// Its name.
    pub comm: String,
    /// Its state, as of a process.
    pub state: char,
    /// Seconds of processor time, in the program and in the kernel.
    pub cpu_seconds: f64,
    /// Where in the kernel it waits.
    pub wchan: Option<String>,
}

/// A line of `stat`, as far as it is used.
#[derive(Debug)]
struct Stat {
    comm: String,
    state: char,
    major_faults: u64,
    user_ticks: u64,
    system_ticks: u64,
    threads: u64,
    started_ticks: u64,
}

impl Stat {
    fn read(folder: &Path) -> Option<Self> {
        Self::parse(&attribute(&folder.join("stat"))?)
    }

    fn parse(text: &str) -> Option<Self> {
        // PID (COMM) STATE …: the name may hold anything, brackets too.
        let (before, after) = text.rsplit_once(')')?;
        let (_, comm) = before.split_once('(')?;
        let mut fields = after.split_ascii_whitespace();
        let mut state = fields.next()?.chars();
        let (state, None) = (state.next()?, state.next()) else { return None };
        // From the fourth field on, as proc_pid_stat(5) counts them.
        let fields: Vec<&str> = fields.collect();
        let field = |number: usize| fields.get(number - 4)?.parse::<u64>().ok();
        Some(Self {
            comm: comm.chars().take(64).collect(),
            state,
            major_faults: field(12)?,
            user_ticks: field(14)?,
            system_ticks: field(15)?,
            threads: field(20)?,
            started_ticks: field(22)?,
        })
    }
}

/// Where the kernel says that it waits: `0` is nowhere, or not for us to know.
fn wchan(folder: &Path) -> Option<String> {
    attribute(&folder.join("wchan")).filter(|wchan| wchan != "0").map(|wchan| wchan.chars().take(64).collect())
}

/// What the process `pid` is doing; `None` where there is none.
///
/// ```
/// use piton::watch::node::{Roots, process};
/// let own = process(&Roots::default(), std::process::id()).expect("we are here");
/// assert!(own.threads >= 1 && own.tasks.iter().any(|thread| thread.tid == own.pid));
/// ```
#[must_use]
pub fn process(roots: &Roots, pid: u32) -> Option<Process> {
    let folder = roots.proc(&pid.to_string());
    let stat = Stat::read(&folder)?;
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten();
    let second = ticks.filter(|ticks| *ticks > 0).map_or(100.0, |ticks| ticks as f64);
    let tasks = folder.join("task");
    let mut numbers: Vec<u32> = entries(&tasks).iter().filter_map(|name| name.parse().ok()).collect();
    numbers.sort_unstable();
    let task = |tid: u32| {
        let folder = tasks.join(tid.to_string());
        let stat = Stat::read(&folder)?;
        Some(Thread {
            tid,
            comm: stat.comm,
            state: stat.state,
            cpu_seconds: stat.user_ticks.saturating_add(stat.system_ticks) as f64 / second,
            wchan: wchan(&folder),
        })
    };
    Some(Process {
        pid,
        comm: stat.comm,
        state: stat.state,
        user_seconds: stat.user_ticks as f64 / second,
        system_seconds: stat.system_ticks as f64 / second,
        started_ticks: stat.started_ticks,
        major_faults: stat.major_faults,
        threads: stat.threads,
        wchan: wchan(&folder),
        tasks: numbers.into_iter().take(MOST_THREADS).filter_map(task).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const STAT: &str =
        "42 (a) b (c)) S 1 42 42 0 -1 4194304 100 0 7 0 150 50 0 0 20 0 2 0 12345 1000 200 18446744073709551615 1 1 0";

    #[test]
    fn a_process_is_seen_with_its_threads() {
        let folder = tempfile::tempdir().unwrap();
        let process_folder = folder.path().join("proc/42");
        for tid in 42..42 + 2 * MOST_THREADS as u32 {
            let task = process_folder.join(format!("task/{tid}"));
            fs::create_dir_all(&task).unwrap();
            fs::write(task.join("stat"), STAT.replacen("42", &tid.to_string(), 1)).unwrap();
            fs::write(task.join("wchan"), if tid == 42 { "0" } else { "request_wait_answer" }).unwrap();
        }
        fs::write(process_folder.join("stat"), STAT).unwrap();
        fs::write(process_folder.join("wchan"), "futex_wait_queue").unwrap();
        // It ended between the listing and the look.
        fs::remove_file(process_folder.join("task/43/stat")).unwrap();

        let seen = process(&Roots::below(folder.path()), 42).unwrap();
        assert_eq!((seen.comm.as_str(), seen.state, seen.threads, seen.started_ticks), ("a) b (c)", 'S', 2, 12345));
        assert!(seen.user_seconds > 0.0 && (seen.user_seconds / seen.system_seconds - 3.0).abs() < 1e-9);
        assert_eq!((seen.major_faults, seen.wchan.as_deref()), (7, Some("futex_wait_queue")));
        assert_eq!(seen.tasks.len(), MOST_THREADS - 1);
        assert_eq!((seen.tasks[0].tid, seen.tasks[0].wchan.as_deref()), (42, None));
        assert_eq!((seen.tasks[1].tid, seen.tasks[1].wchan.as_deref()), (44, Some("request_wait_answer")));
        assert_eq!(process(&Roots::below(folder.path()), 43), None);
    }

    #[test]
    fn what_is_not_a_stat_is_not_known() {
        for text in ["", "42", "42 (a", "42 (a) ", "42 (a) SS 1 2", "42 (a) S 1 2 3", &STAT.replace("150", "-1")] {
            assert!(Stat::parse(text).is_none(), "{text}");
        }
        assert!(Stat::parse(STAT).is_some());
    }

    #[test]
    fn a_process_that_was_stopped_says_so() {
        let mut child = std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).unwrap();
        let stopped = nix::sys::wait::waitpid(pid, Some(nix::sys::wait::WaitPidFlag::WUNTRACED));
        let seen = process(&Roots::default(), child.id());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(matches!(stopped, Ok(nix::sys::wait::WaitStatus::Stopped(..))), "{stopped:?}");
        assert_eq!(seen.map(|seen| (seen.state, seen.tasks.len())), Some(('T', 1)));
    }
}
