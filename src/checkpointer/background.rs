//! Keeping the background out of the application's way.
//!
//! Comes in: the settings `nice` and `cpus`. Goes out: threads of low priority, on processors that the job may use. What must
//! hold: only the calling thread, and those that it starts afterwards, are changed; processors of other jobs are never
//! taken; where the system refuses, the thread runs as it would have.

use crate::config::Processors;
#[cfg(target_os = "linux")]
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
#[cfg(target_os = "linux")]
use nix::unistd::Pid;

/// How the threads that encode and write run.
#[derive(Debug, Clone)]
pub(super) struct Background {
    pub nice: u32,
    pub cpus: Processors,
}

impl Background {
    /// Makes the calling thread one of the background.
    pub(super) fn enter(&self) {
        #[cfg(target_os = "linux")]
        {
            give_way(self.nice);
            match &self.cpus {
                Processors::Own => {}
                Processors::All => widen(),
                Processors::List(list) => {
                    let mut set = CpuSet::new();
                    // Numbers that this system can't have are left out; where none is left, the kernel refuses.
                    for cpu in list {
                        let _ = set.set(*cpu as usize);
                    }
                    let _ = sched_setaffinity(Pid::from_raw(0), &set);
                }
            }
        }
    }
}

/// The processors of the node, whether this process may use them or not.
pub(super) fn installed_processors() -> Option<usize> {
    let count = nix::unistd::sysconf(nix::unistd::SysconfVar::_NPROCESSORS_ONLN).ok().flatten()?;
    usize::try_from(count).ok()
}

/// Lowers the priority of this thread.
#[cfg(target_os = "linux")]
fn give_way(nice: u32) {
    // SAFETY: a plain system call; 0 names the calling thread, which on Linux has a priority of its own.
    let _ = unsafe { nix::libc::setpriority(nix::libc::PRIO_PROCESS, 0, nice.min(19) as nix::libc::c_int) };
}

/// Lets this thread run on all processors that the job may use, and not only on those that its rank was bound to: idle ones
/// are found by the system.
#[cfg(target_os = "linux")]
fn widen() {
    let this = Pid::from_raw(0);
    let Ok(own) = sched_getaffinity(this) else { return };
    let mut all = CpuSet::new();
    for cpu in 0..CpuSet::count() {
        let _ = all.set(cpu);
    }
    // The kernel leaves of it what the control group allows.
    if sched_setaffinity(this, &all).is_err() {
        return;
    }
    let installed = installed_processors().unwrap_or(usize::MAX);
    let allowed = sched_getaffinity(this).map_or(0, |set| count_of(&set));
    let variable = |name: &str| std::env::var(name).ok();
    if !is_ours(allowed, installed, &variable) {
        let _ = sched_setaffinity(this, &own);
    }
}

#[cfg(target_os = "linux")]
fn count_of(set: &CpuSet) -> usize {
    (0..CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap_or(false)).count()
}

/// Whether `allowed` of `installed` processors are the job's own. Where a batch system does not confine jobs, all of a node are
/// allowed to each, and only a job that has the whole node may take them.
#[cfg(target_os = "linux")]
fn is_ours(allowed: usize, installed: usize, variable: &dyn Fn(&str) -> Option<String>) -> bool {
    let in_batch = ["SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID"].iter().any(|name| variable(name).is_some());
    if !in_batch || allowed < installed {
        return true;
    }
    let given = variable("SLURM_CPUS_ON_NODE").and_then(|count| count.trim().parse::<usize>().ok());
    given.is_some_and(|given| given >= installed)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn only_the_threads_that_enter_give_way() {
        fn nice() -> i32 {
            let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
            // Field 19 of proc(5); the second one ends with the last parenthesis.
            stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().nth(16).unwrap().parse().unwrap()
        }
        let before = nice();
        let background = Background { nice: (before + 3) as u32, cpus: Processors::All };
        let inside = std::thread::spawn(move || {
            background.enter();
            // What it starts gives way as well.
            (nice(), std::thread::spawn(nice).join().unwrap())
        });
        assert_eq!(inside.join().unwrap(), (before + 3, before + 3));
        assert_eq!(nice(), before);
    }

    #[test]
    fn a_thread_runs_on_the_processors_that_are_named() {
        let own = sched_getaffinity(Pid::from_raw(0)).unwrap();
        let first = (0..CpuSet::count()).find(|cpu| own.is_set(*cpu).unwrap()).unwrap();
        let on = |cpus: Processors| {
            std::thread::spawn(move || {
                Background { nice: 0, cpus }.enter();
                sched_getaffinity(Pid::from_raw(0)).unwrap()
            })
        };
        let set = on(Processors::List(vec![first as u32, 100_000])).join().unwrap();
        assert!(set.is_set(first).unwrap() && count_of(&set) == 1);
        assert_eq!(on(Processors::Own).join().unwrap(), own);
    }

    #[test]
    fn processors_of_other_jobs_are_not_taken() {
        let of = |pairs: &'static [(&str, &str)]| {
            move |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        assert!(is_ours(64, 64, &of(&[])), "a workstation");
        assert!(is_ours(8, 64, &of(&[("SLURM_JOB_ID", "1")])), "confined to what it was given");
        assert!(!is_ours(64, 64, &of(&[("SLURM_JOB_ID", "1")])));
        assert!(!is_ours(64, 64, &of(&[("SLURM_JOB_ID", "1"), ("SLURM_CPUS_ON_NODE", "8")])));
        assert!(is_ours(64, 64, &of(&[("SLURM_JOB_ID", "1"), ("SLURM_CPUS_ON_NODE", "64")])));
        assert!(!is_ours(64, 64, &of(&[("PBS_JOBID", "1")])));
    }
}
