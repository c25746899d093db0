//! A whole job: what a checkpoint costs it, and the way back, beside what the machine could do at best in the same run.
//!
//! `cargo bench --features mpi --bench job -- [--ranks N] [--mib N] [--dir DIR] [--runs N] [--json] …` (`--help` lists
//! the rest). The process that cargo starts launches itself with as many ranks under the launcher of the MPI that it is
//! linked to; rank 0 prints one table, or one JSON line.
//!
//! Every figure is that of the slowest rank, all of which begin together. Controls are measured in turn with what they
//! are compared to, so that what else goes on in the machine touches both. `RESULTS.md` beside this folder says what
//! each figure is.
//!
//! | file | what is in it |
//! | --- | --- |
//! | `arguments.rs` | the command line, and the launch of the ranks |
//! | `grown.rs` | the state: the tsunami's own, grown to size |
//! | `controls.rs` | what the machine does at best |
//! | `report.rs` | medians, and how they are printed |

// The solver is the example's, which finds its parts at the crate's root. Cargo says `test` for benchmarks, too.
#[path = "../../examples/tsunami/bathymetry.rs"]
#[allow(dead_code, unused_imports, reason = "the example draws as well")]
mod bathymetry;
#[path = "../../examples/common/mod.rs"]
mod common;
#[path = "../../examples/tsunami/riemann.rs"]
#[allow(dead_code, unused_imports, reason = "the example's tests use the rest")]
mod riemann;
#[path = "../../examples/tsunami/solver.rs"]
#[allow(dead_code, unused_imports, reason = "the example draws as well")]
mod solver;

mod arguments;
mod controls;
mod grown;
mod report;

use arguments::{Arguments, Command};
use common::World;
use controls::{Controls, Writing};
use grown::{Grown, Ocean};
use piton::ids::CheckpointName;
use piton::medium::RealMedium;
use piton::store::{JobFolder, Store};
use piton::{Checkpointer, Settled};
use report::{Memory, Report};
use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

type Outcome<T> = Result<T, Box<dyn Error>>;

const JOB: &str = "bench";
/// Steps that the state is computed for before anything is measured.
const FIRST_STEPS: u64 = 500;
/// The least time over which steps without a checkpoint are averaged.
const QUIET: Duration = Duration::from_millis(500);

/// Milliseconds that `body` takes on the slowest rank, all beginning together. Collective.
fn timed<T>(world: &World, body: impl FnOnce() -> Outcome<T>) -> Outcome<(f64, T)> {
    world.max(&mut [0.0]);
    let start = Instant::now();
    let outcome = body();
    let mut slowest = [start.elapsed().as_secs_f64() * 1e3];
    // A rank that leaves early would leave the others waiting; MPI ends them when it is gone.
    let value = outcome?;
    world.max(&mut slowest);
    Ok((slowest[0], value))
}

/// One rank's part of the benchmark.
struct Job<'a> {
    arguments: &'a Arguments,
    world: &'a World,
    threads: usize,
    store: &'a Path,
    folder: JobFolder,
    ocean: Ocean,
    state: Grown,
    step: u64,
    report: Report,
}

impl Job<'_> {
    fn open(&self) -> Outcome<Checkpointer> {
        let threads = u32::try_from(self.threads)?;
        let builder = Checkpointer::builder(JOB).dir(self.store).every(Duration::ZERO).threads(threads);
        let builder = builder.set("resume", "latest").set("log", "quiet").args(self.arguments.for_piton());
        Ok(builder.open(self.world)?)
    }

    /// Steps of the application until `done`, which is asked after each; the mean time of one in milliseconds. All ranks
    /// make as many. Collective.
    fn compute_until(&mut self, session: &mut Checkpointer, mut done: impl FnMut() -> bool) -> Outcome<f64> {
        let (start, first) = (Instant::now(), self.step);
        loop {
            self.ocean.advance(self.world);
            self.step += 1;
            if let Some(problem) = session.tick(self.step, &mut self.state).problem() {
                return Err(problem.into());
            }
            let mut open = [f64::from(u8::from(!done()))];
            self.world.max(&mut open);
            if open == [0.0] {
                let mut mean = [start.elapsed().as_secs_f64() * 1e3 / (self.step - first) as f64];
                self.world.max(&mut mean);
                return Ok(mean[0]);
            }
        }
    }

    /// What is written so far is on its way no longer.
    fn settle(&self) {
        if self.world.rank() == 0 {
            nix::unistd::sync();
        }
        self.world.max(&mut [0.0]);
    }

    /// Freezes the state and waits until it is committed: how long the call took, and how long the wait.
    fn checkpoint(&mut self, session: &mut Checkpointer) -> Outcome<(f64, f64, CheckpointName)> {
        self.step += 1;
        let (step, epoch) = (self.step, session.epoch());
        let (blocked, id) = timed(self.world, || Ok(session.checkpoint_now(step, None, &mut self.state)?))?;
        // Not from a barrier: the wait begins when the call returns.
        let start = Instant::now();
        let settled = session.wait();
        let mut commit = [start.elapsed().as_secs_f64() * 1e3];
        self.world.max(&mut commit);
        match settled {
            Settled::Committed(committed) if committed == id => Ok((blocked, commit[0], CheckpointName { epoch, id })),
            other => Err(format!("checkpoint {id} was not committed: {other:?}").into()),
        }
    }

    /// A session that resumes, with a state of which nothing is left; how long opening and resuming took.
    fn resumed(&mut self, what_is: u64) -> Outcome<(Checkpointer, f64, f64)> {
        self.state.spoil();
        let (opened, mut session) = timed(self.world, || self.open())?;
        let (restored, resumed) = timed(self.world, || Ok(session.resume(&mut self.state)?))?;
        if resumed.is_none() || self.state.fingerprint() != what_is {
            return Err("what was restored is not what was saved".into());
        }
        Ok((session, opened, restored))
    }

    /// The first checkpoint, for which nothing is warm; it shows how much memory one takes.
    fn first(&mut self) -> Outcome<CheckpointName> {
        let mut memory = Memory { state: self.state.bytes(), before: report::resident()?, peak: 0 };
        report::forget_peak()?;
        let mut session = self.open()?;
        session.resume(&mut self.state)?;
        let (_, _, name) = self.checkpoint(&mut session)?;
        drop(session);
        memory.peak = report::peak()?;
        self.report.note_memory(self.world, memory);
        Ok(name)
    }

    /// One round: the way back cold and warm, a checkpoint, one while steps go on, and the controls of all of them.
    fn round(&mut self, controls: &mut Controls, newest: CheckpointName) -> Outcome<CheckpointName> {
        let (world, what_is) = (self.world, self.state.fingerprint());
        let shard = self.folder.shard_path(newest, world.rank());

        self.settle();
        controls::forget(&shard, world)?;
        let (mut session, _, cold) = self.resumed(what_is)?;
        self.report.add("restore_cold_ms", cold);
        // Its arena's thread would slow what is measured next.
        self.compute_until(&mut session, || !report::has_thread("piton-prefault"))?;
        drop(session);

        controls.take_shard(&shard)?;
        self.report.add("decode_ms", timed(world, || controls.decode(&self.state))?.0);
        let (mut session, opened, warm) = self.resumed(what_is)?;
        self.report.add("restore_warm_ms", warm);
        self.report.add("open_ms", opened);

        // Until the arena is there: its thread would slow the steps that are compared.
        self.compute_until(&mut session, || !report::has_thread("piton-prefault"))?;
        let quiet = Instant::now();
        let quiet_step = self.compute_until(&mut session, || quiet.elapsed() >= QUIET)?;
        self.settle();
        self.report.add("memcpy_ms", timed(world, || controls.copy(&self.state))?.0);
        let (blocked, commit, name) = self.checkpoint(&mut session)?;
        self.report.add("blocked_ms", blocked);
        self.report.add("commit_ms", commit);
        let bytes: u64 = (0..world.size())
            .map(|rank| std::fs::metadata(self.folder.shard_path(name, rank)).map(|data| data.len()))
            .sum::<Result<_, _>>()?;
        self.report.add("bytes_written", bytes as f64);
        self.report.add("encode_ms", timed(world, || controls.encode(&self.state))?.0);

        // The same once more, with the application at work meanwhile.
        self.settle();
        self.step += 1;
        let id = session.checkpoint_now(self.step, None, &mut self.state)?;
        let name = CheckpointName { id, ..name };
        let folder = self.folder.clone();
        let committed = || folder.has_manifest(name).unwrap_or(false);
        let busy_step = self.compute_until(&mut session, committed)?;
        session.wait();
        self.report.add("step_slowdown", busy_step / quiet_step);
        self.report.add("step_ms", quiet_step);
        drop(session);

        for (series, writing, bytes) in [
            ("raw_buffered_ms", Writing::Buffered, controls.raw_bytes()),
            ("raw_direct_ms", Writing::Direct, controls.raw_bytes()),
            ("stored_buffered_ms", Writing::Buffered, controls.stored_bytes()),
            ("stored_direct_ms", Writing::Direct, controls.stored_bytes()),
        ] {
            self.settle();
            let took = timed(world, || controls.write(writing, bytes))?.0;
            self.report.add(series, took);
            if series == "raw_direct_ms" {
                controls.forget_raw(world)?;
                self.report.add("raw_read_ms", timed(world, || controls.read_raw())?.0);
                self.report.add("raw_read_warm_ms", timed(world, || controls.read_raw())?.0);
            }
            controls.remove_raw()?;
        }
        Ok(name)
    }
}

fn measure(arguments: &Arguments, scratch: &Path) -> Outcome<()> {
    let world = &World::new();
    let threads = arguments.threads.unwrap_or_else(|| world.fair_threads());
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    let store = &scratch.join("store");
    let mut ocean = Ocean::new(arguments.size, world)?;
    for _ in 0..FIRST_STEPS {
        ocean.advance(world);
    }
    let state = Grown::new(&ocean, arguments.data, arguments.mib << 20, world.rank());
    let mut job = Job {
        arguments,
        world,
        threads,
        store,
        folder: Store::new(Arc::new(RealMedium::default()), store).job(JOB)?,
        ocean,
        state,
        step: FIRST_STEPS,
        report: Report::default(),
    };
    let mut newest = job.first()?;
    let raw = scratch.join(format!("raw-{}", world.rank()));
    let mut controls = Controls::new(&job.state, threads, raw, arguments.compression())?;
    // The first round warms up what the controls use.
    for run in 0..=arguments.runs {
        newest = job.round(&mut controls, newest)?;
        if run == 0 {
            job.report.forget_rounds();
        }
    }
    if world.rank() == 0 {
        let about = report::About {
            ranks: world.size(),
            mib: arguments.mib,
            data: arguments.data.name(),
            threads,
            runs: arguments.runs,
            mpi: arguments::family_of_this_program(),
        };
        job.report.print(&about, arguments.json);
    }
    // So that no rank removes what others still use.
    world.max(&mut [0.0]);
    Ok(())
}

fn main() -> ExitCode {
    let outcome = match Command::of_process() {
        Ok(Command::Help(text)) => {
            println!("{text}");
            return ExitCode::SUCCESS;
        }
        Ok(Command::Measure(arguments, scratch)) => measure(&arguments, &scratch),
        Ok(Command::Launch(arguments)) => return arguments::launch(&arguments),
        Err(error) => Err(error),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("job: {error}");
            // Not a return, which would wait in `MPI_Finalize` for ranks that wait for this one.
            std::process::exit(1);
        }
    }
}
