//! What a tick costs when nothing is due.
//!
//! `cargo bench --bench tick` for one rank without MPI; for MPI, build with `--features mpi` and start the program that cargo
//! names with `mpirun -n 2 PROGRAM`. Prints one JSON line from the first rank: the median, 99th percentile and mean of each
//! call in nanoseconds, the clock's own cost taken away, and the slowest rank's median where there are several.

#[cfg(feature = "mpi")]
use mpi::traits::{Communicator, CommunicatorCollectives};
use piton::comm::IntoCommunicator;
use piton::{Checkpointer, State};
use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

const CALLS: usize = 1_000_000;

#[derive(State)]
struct Small {
    field: Vec<f64>,
}

/// The median of what two readings of the clock take.
fn clock() -> u32 {
    let mut costs: Vec<u32> = (0..100_000).map(|_| nanoseconds(Instant::now())).collect();
    costs.sort_unstable();
    costs[costs.len() / 2]
}

fn nanoseconds(since: Instant) -> u32 {
    u32::try_from(since.elapsed().as_nanos()).unwrap_or(u32::MAX)
}

/// The median, the 99th percentile and the mean of a tick.
fn measure(world: impl IntoCommunicator, folder: &std::path::Path) -> Result<(u32, u32, f64), Box<dyn Error>> {
    let mut state = Small { field: vec![0.0; 1000] };
    let builder = Checkpointer::builder("tick").dir(folder).every(std::time::Duration::ZERO).set("log", "quiet");
    let mut checkpointer = builder.open(world)?;
    checkpointer.resume(&mut state)?;
    let mut costs = Vec::with_capacity(CALLS);
    let (clock, started) = (clock(), Instant::now());
    for step in 1..=CALLS as u64 {
        state.field[0] += 1.0;
        let before = Instant::now();
        black_box(checkpointer.tick(step, &mut state).should_stop());
        costs.push(nanoseconds(before).saturating_sub(clock));
    }
    let mean = started.elapsed().as_nanos() as f64 / CALLS as f64 - f64::from(clock);
    checkpointer.finish(&mut state)?;
    costs.sort_unstable();
    Ok((costs[CALLS / 2], costs[CALLS * 99 / 100], mean))
}

#[cfg(not(feature = "mpi"))]
fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let (median, p99, mean) = measure(piton::comm::Solo::default(), folder.path())?;
    println!(r#"{{"ranks":1,"calls":{CALLS},"median_ns":{median},"p99_ns":{p99},"mean_ns":{mean:.1}}}"#);
    Ok(())
}

#[cfg(feature = "mpi")]
fn main() -> Result<(), Box<dyn Error>> {
    let universe = mpi::initialize().ok_or("MPI runs already")?;
    let world = universe.world();
    // Every rank must name the same folder.
    let folder = std::env::temp_dir().join(format!("piton-tick-{}", nix::unistd::getppid()));
    let (median, p99, mean) = measure(&world, &folder)?;
    let mut slowest = 0u32;
    world.all_reduce_into(&median, &mut slowest, mpi::collective::SystemOperation::max());
    if world.rank() == 0 {
        let ranks = world.size();
        println!(
            r#"{{"ranks":{ranks},"calls":{CALLS},"median_ns":{median},"slowest_median_ns":{slowest},"p99_ns":{p99},"mean_ns":{mean:.1}}}"#
        );
        std::fs::remove_dir_all(&folder)?;
    }
    Ok(())
}
