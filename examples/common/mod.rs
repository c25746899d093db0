//! What the examples share: the ranks of a run, the command line, and the closing line that scripts compare.
//!
//! Comes in: the arguments of the process and, with feature `mpi`, the MPI that started it. Goes out: a [`World`] to
//! compute in, [`Arguments`], and a [`Fingerprint`]. What must hold: results never depend on how many ranks or threads
//! there are; every rank reads the same arguments and so refuses them alike.

// Each example compiles this module for itself and uses only what it needs of it.
#![allow(dead_code, unused_imports)]

mod arguments;
mod fingerprint;
mod world;

pub use arguments::{Arguments, Example, Own, Stop};
pub use fingerprint::Fingerprint;
pub use world::{Rows, World};

use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Whatever ends an example early, as text for people.
pub type Failure = Box<dyn std::error::Error>;

/// Reads the arguments, starts the threads, runs `body`, and turns its outcome into an exit status: 0 for success and
/// `--help`, 1 for a failure, 2 for arguments that make no sense. Rank 0 speaks for all about what all ranks see alike.
pub fn run(example: &Example, body: impl FnOnce(&Arguments, &World) -> Result<(), Failure>) -> ExitCode {
    run_in(example, World::new, body)
}

/// [`run`] in a world of one rank, whatever started the process.
pub fn run_alone(example: &Example, body: impl FnOnce(&Arguments, &World) -> Result<(), Failure>) -> ExitCode {
    run_in(example, World::alone, body)
}

fn run_in(
    example: &Example,
    world: impl FnOnce() -> World,
    body: impl FnOnce(&Arguments, &World) -> Result<(), Failure>,
) -> ExitCode {
    let world = world();
    let arguments = Arguments::parse(example, std::env::args().skip(1));
    let outcome = match arguments {
        Ok(arguments) => {
            let threads = arguments.threads.unwrap_or_else(|| world.fair_threads());
            rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .thread_name(|index| format!("compute-{index}"))
                .build_global()
                .map_err(|error| Stop::Failed(format!("cannot start {threads} threads: {error}")))
                .and_then(|()| body(&arguments, &world).map_err(Stop::from))
        }
        Err(stop) => Err(stop),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Stop::Help(text)) => {
            if world.rank() == 0 {
                println!("{text}");
            }
            ExitCode::SUCCESS
        }
        Err(Stop::Refused(message)) => {
            if world.rank() == 0 {
                eprintln!("{}: {message}\nTry --help.", example.name);
            }
            ExitCode::from(2)
        }
        Err(Stop::Agreed(message)) => {
            if world.rank() == 0 {
                eprintln!("{}: {message}", example.name);
            }
            ExitCode::FAILURE
        }
        Err(Stop::Failed(message)) => {
            eprintln!("{}: rank {}: {message}", example.name, world.rank());
            // The others would wait for this rank for ever.
            world.abandon();
            ExitCode::FAILURE
        }
    }
}

/// What happens between two steps for the sake of a demonstration: `--pace` and `--inject`.
#[derive(Debug)]
pub struct Between {
    pace: Duration,
    next: Instant,
    kill_at: Option<u64>,
}

impl Between {
    /// From the arguments, for this rank; the first time slot begins now.
    pub fn new(arguments: &Arguments, world: &World) -> Self {
        let kill_at = arguments.kill.filter(|kill| kill.rank == world.rank()).map(|kill| kill.step);
        Self { pace: arguments.pace, next: Instant::now() + arguments.pace, kill_at }
    }

    /// Called when `step` was computed and the checkpointer knows of it: dies here if told to, else waits for the end
    /// of the step's time slot.
    pub fn after(&mut self, step: u64) {
        if self.kill_at == Some(step) {
            // Nothing of this process runs after it: no destructor, no flush, exactly as when a node loses power.
            let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL);
        }
        if !self.pace.is_zero() {
            std::thread::sleep(self.next.saturating_duration_since(Instant::now()));
            self.next = Instant::now().max(self.next) + self.pace;
        }
    }
}
