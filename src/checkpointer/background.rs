//! Keeping the background out of the application's way.
//!
//! Comes in: the settings `nice` and `cpus`, and how many processors a rank keeps busy. Goes out: threads of low priority, on
//! processors that the job may use.
//!
//! Priority is low only where that helps. Ranks that compute on all processors wait for each other in every step: whatever is taken
//! from one of them at a time is lost to all. With low priority the background takes its time here and there, and with that of
//! the application it takes it everywhere at once, and is done sooner. Measured (2 ranks on 2 processors, 256 MiB each, `cargo
//! bench --bench job`): all that a checkpoint cost was 0.64 times a raw write with priority 0, 0.85 with 5, 1.14 with 10. With one rank
//! beside an idle processor steps were 1.09 times as long with 0, 1.005 with 5; one rank on both lost 60 ms with 0, 49 with 5.
//!
//! What must hold: only the calling thread, and those that it starts afterwards, are changed; processors of other jobs are never
//! taken; where the system refuses, the thread runs as it would have.

use crate::config::{Nice, Processors};
#[cfg(target_os = "linux")]
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
#[cfg(target_os = "linux")]
use nix::unistd::Pid;

/// The priority beside idle processors, or where nobody waits for others.
const LOW: u8 = 5;
/// A processor of a rank that is idle for this part of the time counts as free.
const FREE: f64 = 0.5;

/// How the threads that encode and write run.
#[derive(Debug, Clone)]
pub(super) struct Background {
    nice: Nice,
    cpus: Processors,
    /// This rank's part of the processors that the background may use, where ranks share them and wait for each other.
    shared: Option<f64>,
}

impl Background {
    /// By the settings, on one of `ranks`, `ranks_on_node` of which are on its node.
    pub(super) fn new(nice: Nice, cpus: Processors, ranks: usize, ranks_on_node: usize) -> Self {
        let mut background = Self { nice, cpus, shared: None };
        if ranks > 1 {
            background.shared = background.part_of_processors(ranks_on_node);
        }
        background
    }

    fn part_of_processors(&self, ranks_on_node: usize) -> Option<f64> {
        match &self.cpus {
            // Named for the purpose.
            Processors::List(_) => None,
            Processors::Own => Some(own_part_of_processors(ranks_on_node)),
            Processors::All => {
                let own = allowed_processors();
                let count = || {
                    self.enter(0);
                    allowed_processors()
                };
                // A thread of its own: this one stays where it is.
                let all = std::thread::scope(|scope| {
                    let counting = std::thread::Builder::new().spawn_scoped(scope, count);
                    counting.ok().and_then(|counting| counting.join().ok())
                });
                Some(all.unwrap_or(own) as f64 / ranks_on_node.max(1) as f64)
            }
        }
    }

    /// The priority for the next shard, where this rank keeps `busy` processors at work on average.
    pub(super) fn nice(&self, busy: Option<f64>) -> u8 {
        match (self.nice, self.shared) {
            (Nice::Fixed(nice), _) => nice,
            // Until it is known, a rank has one thread.
            (Nice::Auto, Some(processors)) if processors - busy.unwrap_or(1.0) < FREE => 0,
            (Nice::Auto, _) => LOW,
        }
    }

    /// Makes the calling thread one of the background.
    pub(super) fn enter(&self, nice: u8) {
        #[cfg(target_os = "linux")]
        {
            give_way(nice);
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

/// How many processors this thread may run on.
fn allowed_processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// How many of the processors that it may run on are for this rank: one that is bound to some has them for itself; unbound ranks
/// share all.
pub(super) fn own_part_of_processors(ranks_on_node: usize) -> f64 {
    let own = allowed_processors();
    let is_bound = own < installed_processors().unwrap_or(own);
    if is_bound { own as f64 } else { own as f64 / ranks_on_node.max(1) as f64 }
}

/// The processors of the node, whether this process may use them or not.
fn installed_processors() -> Option<usize> {
    let count = nix::unistd::sysconf(nix::unistd::SysconfVar::_NPROCESSORS_ONLN).ok().flatten()?;
    usize::try_from(count).ok()
}

/// Lowers the priority of this thread.
#[cfg(target_os = "linux")]
fn give_way(nice: u8) {
    // The application's own priority, which may be a lower one: nothing is raised.
    if nice > 0 {
        // SAFETY: a plain system call; 0 names the calling thread, which on Linux has a priority of its own.
        let _ = unsafe { nix::libc::setpriority(nix::libc::PRIO_PROCESS, 0, nix::libc::c_int::from(nice)) };
    }
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
        // There is nothing below 19.
        let lower = (before + 3).min(19);
        let background = Background::new(Nice::Auto, Processors::All, 1, 1);
        let inside = std::thread::spawn(move || {
            background.enter(lower as u8);
            // What it starts gives way as well.
            (nice(), std::thread::spawn(nice).join().unwrap())
        });
        assert_eq!(inside.join().unwrap(), (lower, lower));
        assert_eq!(nice(), before);
    }

    #[test]
    fn a_thread_runs_on_the_processors_that_are_named() {
        let own = sched_getaffinity(Pid::from_raw(0)).unwrap();
        let first = (0..CpuSet::count()).find(|cpu| own.is_set(*cpu).unwrap()).unwrap();
        let on = |cpus: Processors| {
            std::thread::spawn(move || {
                Background::new(Nice::Auto, cpus, 1, 1).enter(0);
                sched_getaffinity(Pid::from_raw(0)).unwrap()
            })
        };
        let set = on(Processors::List(vec![first as u32, 100_000])).join().unwrap();
        assert!(set.is_set(first).unwrap() && count_of(&set) == 1);
        assert_eq!(on(Processors::Own).join().unwrap(), own);
    }

    #[test]
    fn priority_is_low_where_that_helps() {
        let of = |nice, shared| Background { nice, cpus: Processors::All, shared };
        assert_eq!(of(Nice::Fixed(7), Some(1.0)).nice(Some(1.0)), 7);
        assert_eq!(of(Nice::Auto, None).nice(Some(8.0)), LOW, "one rank, or processors of its own");
        assert_eq!(of(Nice::Auto, Some(1.0)).nice(None), 0);
        assert_eq!(of(Nice::Auto, Some(64.0 / 63.0)).nice(Some(1.0)), 0, "an idle one for 63 is none");
        assert_eq!(of(Nice::Auto, Some(2.0)).nice(None), LOW);
        assert_eq!(of(Nice::Auto, Some(2.0)).nice(Some(1.9)), 0, "two threads a rank");
        let own = Background::new(Nice::Auto, Processors::Own, 2, 1).shared.unwrap();
        assert!(own >= 1.0);
        assert_eq!(Background::new(Nice::Auto, Processors::List(vec![0]), 2, 1).shared, None);
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
