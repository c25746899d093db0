//! Threads that do nothing but keep cores busy, so that what works in the background has to share.

use super::Outcome;
use super::common::World;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use std::num::NonZero;

/// Starts this rank's part of as many threads as there are cores beyond those that ranks of `threads` threads each compute
/// on. They run as long as the process does.
pub fn occupy(world: &World, threads: usize) -> Outcome<()> {
    // In a thread of its own: a rank may be bound to some of the cores, and is to stay there.
    let cores = std::thread::Builder::new().spawn(|| {
        widen();
        std::thread::available_parallelism().map_or(1, NonZero::get)
    })?;
    let cores = cores.join().map_err(|_| "the cores could not be counted")?;
    let free = cores.saturating_sub(world.size() * threads);
    let own = free / world.size() + usize::from(world.rank() < free % world.size());
    for _ in 0..own {
        std::thread::Builder::new().name("busy".into()).spawn(|| {
            widen();
            loop {
                std::hint::spin_loop();
            }
        })?;
    }
    Ok(())
}

/// Lets this thread run on all cores that the system allows.
fn widen() {
    let mut all = CpuSet::new();
    for core in 0..CpuSet::count() {
        // Numbers that there are not are left out.
        let _ = all.set(core);
    }
    // Only a wish: otherwise it runs where its rank does.
    let _ = sched_setaffinity(Pid::from_raw(0), &all);
}
