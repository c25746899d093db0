//! What a tick costs when nothing is due.
//!
//! `cargo bench --bench tick` for one rank without MPI; for MPI, build with `--features mpi` and start the program that cargo
//! names with `mpirun -n 2 PROGRAM`. Prints one JSON line from the first rank: the median, 99th percentile and mean of each
//! call in nanoseconds, the clock's own cost taken away, and the slowest rank's median where there are several; then the mean of as many calls
//! without a clock in between, and what they allocated (a round of the ranks, every 10,000 calls, may).

#[cfg(feature = "mpi")]
use mpi::traits::{Communicator, CommunicatorCollectives};
use piton::comm::IntoCommunicator;
use piton::{Checkpointer, State};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
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

/// What a tick takes, in nanoseconds.
struct Cost {
    median: u32,
    p99: u32,
    mean: f64,
    /// The mean over many without a look at the clock in between.
    unwatched: f64,
    /// Of those, on the application's own thread.
    allocations: u64,
}

/// Counts what the thread that asks for it allocates.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: everything is the system's allocator's doing; counting neither allocates nor panics.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // A thread that is ending has no counter any more.
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps the contract of `alloc`, which is the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: from `alloc` above, so from the system's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn measure(world: impl IntoCommunicator, folder: &std::path::Path) -> Result<Cost, Box<dyn Error>> {
    let mut state = Small { field: vec![0.0; 1000] };
    // As by default: the scheduler decides, and has nothing due for as long as this lasts.
    let builder = Checkpointer::builder("tick").dir(folder).set("min_interval", "1h").set("log", "quiet");
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
    let (before, started) = (ALLOCATIONS.get(), Instant::now());
    for step in CALLS as u64 + 1..=2 * CALLS as u64 {
        black_box(&mut state);
        black_box(checkpointer.tick(step, &mut state).should_stop());
    }
    let unwatched = started.elapsed().as_nanos() as f64 / CALLS as f64;
    let allocations = ALLOCATIONS.get() - before;
    checkpointer.finish(&mut state)?;
    costs.sort_unstable();
    Ok(Cost { median: costs[CALLS / 2], p99: costs[CALLS * 99 / 100], mean, unwatched, allocations })
}

#[cfg(not(feature = "mpi"))]
fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let Cost { median, p99, mean, unwatched, allocations } = measure(piton::comm::Solo::default(), folder.path())?;
    println!(
        r#"{{"ranks":1,"calls":{CALLS},"median_ns":{median},"p99_ns":{p99},"mean_ns":{mean:.1},"unwatched_ns":{unwatched:.1},"allocations":{allocations}}}"#
    );
    Ok(())
}

#[cfg(feature = "mpi")]
fn main() -> Result<(), Box<dyn Error>> {
    let universe = mpi::initialize().ok_or("MPI runs already")?;
    let world = universe.world();
    // Every rank must name the same folder.
    let folder = std::env::temp_dir().join(format!("piton-tick-{}", nix::unistd::getppid()));
    let Cost { median, p99, mean, unwatched, allocations } = measure(&world, &folder)?;
    let mut slowest = 0u32;
    world.all_reduce_into(&median, &mut slowest, mpi::collective::SystemOperation::max());
    if world.rank() == 0 {
        let ranks = world.size();
        println!(
            r#"{{"ranks":{ranks},"calls":{CALLS},"median_ns":{median},"slowest_median_ns":{slowest},"p99_ns":{p99},"mean_ns":{mean:.1},"unwatched_ns":{unwatched:.1},"allocations":{allocations}}}"#
        );
        std::fs::remove_dir_all(&folder)?;
    }
    Ok(())
}
