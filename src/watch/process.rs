//! Processes of this node, as `/proc` shows them.
//!
//! Comes in: a process number, and when that process started. Goes out: whether it lives, and what it does. What must hold: a process is told
//! from another of the same number by its start; what can't be read is not known, never an error.

use super::node::Roots;
use super::node::files::text;
use super::node::groups::{Version, groups};
use std::fs;
use std::path::Path;

/// Most threads of a process that are looked at.
const MOST_THREADS: usize = 64;

/// What a process or a thread is doing, as the kernel has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It runs, or would if it had a processor.
    Running,
    /// It waits for something.
    Sleeping,
    /// It waits in the kernel for something that can't be interrupted, as a rule for storage.
    Blocked,
    /// A signal or a debugger has stopped it.
    Stopped,
    /// It has ended.
    Ended,
}

impl State {
    fn of(letter: &str) -> Option<Self> {
        Some(match letter {
            "R" => Self::Running,
            "S" | "I" | "P" => Self::Sleeping,
            "D" => Self::Blocked,
            "T" | "t" => Self::Stopped,
            "Z" | "X" | "x" => Self::Ended,
            _ => return None,
        })
    }
}

/// A thread at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Thread {
    /// Its number.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// What it does.
    pub state: State,
    /// Processor time that it has used, seconds.
    pub used: f64,
    /// How long it was ready and had no processor, seconds; where the kernel counts that.
    pub waited: Option<f64>,
    /// Where in the kernel it waits.
    pub waits_in: Option<String>,
}

/// What a process has read and written by system calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Transferred {
    /// Bytes.
    pub bytes: u64,
    /// Calls.
    pub calls: u64,
}

/// So many bytes between two looks are work,
const MUCH: u64 = 1 << 20;
/// where a call has so many on average: whoever polls a file reads as often as it can, and little.
const AT_ONCE: u64 = 1 << 10;

impl Transferred {
    /// Whether what came since `earlier` shows that the process gets on with reading or writing.
    #[must_use]
    pub fn is_work_since(&self, earlier: &Self) -> bool {
        let (bytes, calls) = (self.bytes.saturating_sub(earlier.bytes), self.calls.saturating_sub(earlier.calls));
        bytes > MUCH && bytes / calls.max(1) >= AT_ONCE
    }
}

/// A process at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Process {
    /// What its first thread does.
    pub state: State,
    /// When it started, clock ticks since boot.
    pub start_ticks: u64,
    /// Its threads, the first ones.
    pub threads: Vec<Thread>,
    /// What it has read and written by system calls, where we may know.
    pub transferred: Option<Transferred>,
    /// Its control group is frozen.
    pub frozen: bool,
}

/// What stands behind the name in a `stat` file, and the name: it is in parentheses and may hold anything.
fn fields(stat: &str) -> Option<(&str, Vec<&str>)> {
    let (before, after) = stat.rsplit_once(')')?;
    Some((before.split_once('(')?.1, after.split_ascii_whitespace().collect()))
}

/// When the process `pid` started, in clock ticks since boot; `None` where there is none that still runs.
#[must_use]
pub fn start_ticks(pid: u32) -> Option<u64> {
    let stat = text(format!("/proc/{pid}/stat").as_ref())?;
    let (_, fields) = fields(&stat)?;
    // Fields 3 (state) and 22 (starttime) of proc_pid_stat(5). A zombie runs no more.
    if State::of(fields.first()?)? == State::Ended {
        return None;
    }
    fields.get(19)?.parse().ok()
}

/// Whether the process `pid` that started then still runs. Where the system has no `/proc` it is taken to.
#[must_use]
pub fn lives(pid: u32, started: u64) -> bool {
    !Path::new("/proc/self/stat").exists() || start_ticks(pid) == Some(started)
}

/// The node's name.
#[must_use]
pub fn host_name() -> String {
    nix::unistd::gethostname().map_or_else(|_| "unknown".into(), |name| name.to_string_lossy().into_owned())
}

/// The number of the calling thread.
#[must_use]
pub fn own_thread() -> u64 {
    #[cfg(target_os = "linux")]
    {
        u64::try_from(nix::unistd::gettid().as_raw()).unwrap_or(0)
    }
    #[cfg(not(target_os = "linux"))]
    {
        0
    }
}

/// Lets the process `pid` look at the stacks of this one's threads, where the system restricts that to parents.
pub fn allow_tracing_by(pid: u32) {
    #[cfg(target_os = "linux")]
    // SAFETY: the call takes numbers only. Where the system knows no such restriction it fails, and nothing is needed.
    unsafe {
        nix::libc::prctl(nix::libc::PR_SET_PTRACER, nix::libc::c_ulong::from(pid), 0, 0, 0);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = pid;
}

/// Clock ticks in a second.
fn ticks_per_second() -> f64 {
    nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten().map_or(100.0, |ticks| ticks as f64)
}

fn thread(folder: &Path, id: u32, ticks: f64) -> Option<Thread> {
    let stat = text(&folder.join("stat"))?;
    let (name, fields) = fields(&stat)?;
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    // Nanoseconds on a processor, and ready without one.
    let schedule: Option<Vec<u64>> = text(&folder.join("schedstat"))
        .map(|content| content.split_ascii_whitespace().map_while(|word| word.parse().ok()).collect());
    let used = (number(11)? + number(12)?) as f64 / ticks;
    let (used, waited) = match schedule.as_deref() {
        Some([ran, waited, ..]) => (*ran as f64 * 1e-9, Some(*waited as f64 * 1e-9)),
        _ => (used, None),
    };
    let waits_in = text(&folder.join("wchan"))
        .map(|content| content.trim().to_owned())
        .filter(|name| !name.is_empty() && name != "0");
    Some(Thread { id, name: name.to_owned(), state: State::of(fields.first()?)?, used, waited, waits_in })
}

/// Looks at a process.
#[must_use]
pub fn look(pid: u32) -> Option<Process> {
    let folder = format!("/proc/{pid}");
    let stat = text(format!("{folder}/stat").as_ref())?;
    let (_, fields) = fields(&stat)?;
    let ticks = ticks_per_second();
    let mut threads: Vec<Thread> = fs::read_dir(format!("{folder}/task"))
        .ok()?
        .flatten()
        .take(MOST_THREADS)
        .filter_map(|entry| thread(&entry.path(), entry.file_name().to_str()?.parse().ok()?, ticks))
        .collect();
    threads.sort_by_key(|thread| thread.id);
    let transferred = text(format!("{folder}/io").as_ref()).map(|content| {
        let of = |name: &str| {
            let line = content.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            line.and_then(|number| number.trim().parse::<u64>().ok()).unwrap_or(0)
        };
        Transferred { bytes: of("rchar").saturating_add(of("wchar")), calls: of("syscr").saturating_add(of("syscw")) }
    });
    Some(Process {
        state: State::of(fields.first()?)?,
        start_ticks: fields.get(19)?.parse().ok()?,
        threads,
        transferred,
        frozen: is_frozen(pid),
    })
}

/// Whether the control group of the process, or one above it, is frozen: all of it stands still, whatever its state says.
fn is_frozen(pid: u32) -> bool {
    let (cgroup, mountinfo) = (text(format!("/proc/{pid}/cgroup").as_ref()), text("/proc/self/mountinfo".as_ref()));
    let groups = groups(&Roots::default(), "freezer", &cgroup.unwrap_or_default(), &mountinfo.unwrap_or_default());
    groups.iter().any(|group| match group.version {
        Version::One => text(&group.folder.join("freezer.state")).is_some_and(|content| content.trim() != "THAWED"),
        Version::Two => text(&group.folder.join("cgroup.events"))
            .is_some_and(|content| content.lines().any(|line| line == "frozen 1")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polling_a_file_is_no_work() {
        let at = |bytes, calls| Transferred { bytes, calls };
        assert!(at(64 << 20, 1024).is_work_since(&at(1 << 20, 1000)));
        assert!(!at(2 << 20, 1024).is_work_since(&at(1 << 20, 1000)), "little");
        // A live-lock that looks at a file of ten bytes.
        assert!(!at(64 << 20, 6 << 20).is_work_since(&at(0, 0)));
        assert!(!at(5, 5).is_work_since(&at(9, 9)));
    }

    #[test]
    fn a_process_is_seen_to_live_to_stop_and_to_end() {
        let mut child = std::process::Command::new("sleep").arg("600").spawn().expect("a sleep");
        let pid = child.id();
        let started = start_ticks(pid).expect("it runs");
        assert!(lives(pid, started) && !lives(pid, started + 1));
        let process = look(pid).expect("it is there");
        assert_eq!((process.start_ticks, process.threads.len(), process.frozen), (started, 1, false));
        let own = nix::unistd::Pid::from_raw(i32::try_from(pid).expect("a process number"));
        nix::sys::signal::kill(own, nix::sys::signal::Signal::SIGSTOP).expect("ours");
        while look(pid).expect("it is there").state != State::Stopped {
            std::thread::yield_now();
        }
        nix::sys::signal::kill(own, nix::sys::signal::Signal::SIGKILL).expect("ours");
        child.wait().expect("ours");
        assert!(!lives(pid, started) && look(pid).is_none());
    }
}
