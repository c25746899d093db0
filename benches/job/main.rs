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
//! How a round goes: caches dropped → session, `resume` (cold) → session ended → files read into the page cache →
//! session, `resume` (warm) → steps until the arena is mapped → checkpoints, each after a change of the state, until
//! tracking has settled; the first of them is complete, and decoded alone → change, copy → checkpoint, `wait` → the next
//! change, made twice → encoding alone → steps alone, checkpoint with steps meanwhile, steps alone → session ended →
//! plain writes and reads. Whatever comes back is compared with what was saved last. The disk is synced before
//! everything that is timed on it. The first round warms up and does not count.
//!
//! | file | what is in it |
//! | --- | --- |
//! | `arguments.rs` | the command line, and the launch of the ranks |
//! | `grown.rs` | the state: the tsunami's own, grown to size, and how it changes |
//! | `controls.rs` | what the machine does at best |
//! | `busy.rs` | threads that leave no core free |
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

#[path = "../medium/mod.rs"]
mod medium;
#[path = "../threads/mod.rs"]
mod threads;

mod arguments;
mod busy;
mod controls;
mod grown;
mod report;

use arguments::{Arguments, Command};
use common::World;
use controls::{Controls, What, Writing};
use grown::{Grown, Ocean};
use piton::ids::{CheckpointId, CheckpointName, Epoch};
use piton::journal::Event;
use piton::medium::RealMedium;
use piton::shard::Compression;
use piton::store::{JobFolder, Store};
use piton::{Checkpointer, Settled};
use report::{Memory, Report};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

type Outcome<T> = Result<T, Box<dyn Error>>;

const JOB: &str = "bench";
/// Steps that the state is computed for before anything is measured.
const FIRST_STEPS: u64 = 500;
/// The least time over which steps without a checkpoint are averaged, before one and again after it.
const QUIET: Duration = Duration::from_millis(400);
/// Checkpoints of a session before one that is measured, where the whole state changes between them: a complete one, and
/// one in which it is seen that tracking does not pay.
const WARM_UPS: usize = 2;
/// The same where less changes: a complete one, one that is compared with it, and some until only what was written is copied.
const TRACKED_WARM_UPS: usize = 4;

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

/// Milliseconds that `body` takes on this rank.
fn timed_alone(body: impl FnOnce()) -> f64 {
    let start = Instant::now();
    body();
    start.elapsed().as_secs_f64() * 1e3
}

/// Steps of the application.
#[derive(Debug, Clone, Copy)]
struct Steps {
    count: u64,
    /// Milliseconds of one, of the slowest rank.
    mean: f64,
}

impl Steps {
    fn and(self, others: Self) -> Self {
        let (count, total) = (self.count + others.count, self.total() + others.total());
        Self { count, mean: total / count as f64 }
    }

    /// Milliseconds of all.
    fn total(self) -> f64 {
        self.mean * self.count as f64
    }
}

/// A checkpoint that was committed.
struct Taken {
    /// How long the application waited for the copy, in milliseconds.
    blocked: f64,
    /// From then until it was committed.
    commit: f64,
    name: CheckpointName,
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
    /// How often the state has changed.
    changes: u64,
    /// The newest checkpoint that was committed, and what the state was then.
    newest: Option<CheckpointName>,
    saved: u64,
    report: Report,
}

impl Job<'_> {
    fn open(&self) -> Outcome<Checkpointer> {
        let threads = u32::try_from(self.threads)?;
        let builder = Checkpointer::builder(JOB).dir(self.store).every(Duration::ZERO).threads(threads);
        let mut builder = builder.set("resume", "latest").set("log", "quiet").args(self.arguments.for_piton());
        if let Some(limit) = self.arguments.bytes_per_second() {
            builder = builder.set("bandwidth_max", format!("{limit}B"));
        }
        if let Some(size) = &self.arguments.staging_max {
            builder = builder.set("staging_max", size);
        }
        Ok(builder.open(self.world)?)
    }

    /// Steps of the application until `done`, which is asked after each. All ranks make as many. Collective.
    fn compute_until(&mut self, session: &mut Checkpointer, mut done: impl FnMut() -> bool) -> Outcome<Steps> {
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
                let count = self.step - first;
                let mut mean = [start.elapsed().as_secs_f64() * 1e3 / count as f64];
                self.world.max(&mut mean);
                return Ok(Steps { count, mean: mean[0] });
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

    /// Steps while nothing is written. Collective.
    fn compute_quietly(&mut self, session: &mut Checkpointer) -> Outcome<Steps> {
        let start = Instant::now();
        self.compute_until(session, || start.elapsed() >= QUIET)
    }

    /// Steps until the arena is there: the thread that maps it would slow what is measured next.
    fn compute_until_mapped(&mut self, session: &mut Checkpointer) -> Outcome<()> {
        self.compute_until(session, || !threads::has_thread("piton-prefault")).map(drop)
    }

    /// Changes as much of the state as was asked for; the number of pages.
    fn change(&mut self) -> u64 {
        self.changes += 1;
        self.state.change(self.arguments.changed, self.arguments.pattern, self.changes)
    }

    /// Changes the state right after a checkpoint, and once more alike: how much longer the first time took, on the slowest
    /// rank. Both find the pages in the cache, since they were read when the change was planned. Collective.
    fn faults(&mut self) -> f64 {
        self.changes += 1;
        let change = self.state.plan(self.arguments.changed, self.arguments.pattern, self.changes);
        self.world.max(&mut [0.0]);
        let first = timed_alone(|| self.state.apply(&change));
        let again = timed_alone(|| self.state.apply(&change));
        let mut longer = [first - again];
        self.world.max(&mut longer);
        longer[0]
    }

    /// Notes what the next resume has to bring back.
    fn note_committed(&mut self, id: CheckpointId, settled: &Settled, epoch: Epoch) -> Outcome<CheckpointName> {
        match settled {
            Settled::Committed(committed) if *committed == id => {
                let name = CheckpointName { epoch, id };
                (self.newest, self.saved) = (Some(name), self.state.fingerprint());
                Ok(name)
            }
            other => Err(format!("checkpoint {id} was not committed: {other:?}").into()),
        }
    }

    /// Freezes the state and waits until it is committed. Collective.
    fn checkpoint(&mut self, session: &mut Checkpointer) -> Outcome<Taken> {
        self.step += 1;
        let (step, epoch) = (self.step, session.epoch());
        let (blocked, id) = timed(self.world, || Ok(session.checkpoint_now(step, None, &mut self.state)?))?;
        // Not from a barrier: the wait begins when the call returns.
        let start = Instant::now();
        let settled = session.wait();
        let mut commit = [start.elapsed().as_secs_f64() * 1e3];
        self.world.max(&mut commit);
        let name = self.note_committed(id, &settled, epoch)?;
        Ok(Taken { blocked, commit: commit[0], name })
    }

    /// Freezes the state and goes on computing until it is committed: the steps meanwhile. Collective.
    fn checkpoint_at_work(&mut self, session: &mut Checkpointer) -> Outcome<Steps> {
        self.step += 1;
        let id = session.checkpoint_now(self.step, None, &mut self.state)?;
        let (folder, name) = (self.folder.clone(), CheckpointName { id, epoch: session.epoch() });
        let steps = self.compute_until(session, || folder.has_manifest(name).unwrap_or(false))?;
        let settled = session.wait();
        self.note_committed(id, &settled, name.epoch)?;
        Ok(steps)
    }

    /// A session that resumes, with a state of which nothing is left; how long opening and resuming took.
    fn resumed(&mut self) -> Outcome<(Checkpointer, f64, f64)> {
        self.state.spoil();
        let (opened, mut session) = timed(self.world, || self.open())?;
        let (restored, resumed) = timed(self.world, || Ok(session.resume(&mut self.state)?))?;
        if resumed.is_none() || self.state.fingerprint() != self.saved {
            return Err("what was restored is not what was saved".into());
        }
        Ok((session, opened, restored))
    }

    /// The first checkpoint, for which nothing is warm; it shows how much memory one takes.
    fn first(&mut self) -> Outcome<()> {
        let mut memory = Memory { state: self.state.bytes(), before: report::resident()?, peak: 0 };
        report::forget_peak()?;
        let mut session = self.open()?;
        session.resume(&mut self.state)?;
        self.checkpoint(&mut session)?;
        drop(session);
        memory.peak = report::peak()?;
        self.report.note_memory(self.world, memory);
        Ok(())
    }

    /// The lengths of all ranks' shards.
    fn bytes_of(&self, name: CheckpointName) -> Outcome<u64> {
        let shards = (0..self.world.size()).map(|rank| self.folder.shard_path(name, rank));
        Ok(shards.map(|path| std::fs::metadata(path).map(|data| data.len())).sum::<Result<_, _>>()?)
    }

    /// This rank's files of the newest checkpoint and of those that it refers to.
    fn newest_files(&self) -> Outcome<Vec<PathBuf>> {
        let newest = self.newest.ok_or("nothing was committed")?;
        let family = self.folder.manifest(newest)?;
        Ok(family.family().map(|name| self.folder.shard_path(name, self.world.rank())).collect())
    }

    /// One round: the way back cold and warm, a checkpoint, one while steps go on, and the controls of all of them.
    fn round(&mut self, controls: &mut Controls) -> Outcome<()> {
        let mut session = self.way_back()?;
        self.compute_until_mapped(&mut session)?;
        self.warm_up(&mut session, controls)?;
        self.checkpoints(&mut session, controls)?;
        drop(session);
        self.plain_files(controls)
    }

    /// Resumes with nothing in the page cache, then with everything; the second session goes on.
    fn way_back(&mut self) -> Outcome<Checkpointer> {
        let files = self.newest_files()?;
        self.settle();
        controls::forget(&files, self.world)?;
        let (mut session, _, cold) = self.resumed()?;
        self.report.add("restore_cold_ms", cold);
        self.compute_until_mapped(&mut session)?;
        drop(session);

        controls::recall(&files)?;
        let (session, opened, warm) = self.resumed()?;
        self.report.add("restore_warm_ms", warm);
        self.report.add("open_ms", opened);
        Ok(session)
    }

    /// Checkpoints of a new session until they are as all later ones will be. The first, a complete one, is decoded alone.
    fn warm_up(&mut self, session: &mut Checkpointer, controls: &mut Controls) -> Outcome<()> {
        let count = if self.arguments.changed < 1.0 { TRACKED_WARM_UPS } else { WARM_UPS };
        for number in 0..count {
            self.change();
            let taken = self.checkpoint(session)?;
            if number == 0 {
                self.report.add("full_bytes", self.bytes_of(taken.name)? as f64);
                controls.take_shard(&self.folder.shard_path(taken.name, self.world.rank()))?;
                self.report.add("decode_ms", timed(self.world, || controls.decode(&self.state))?.0);
            }
        }
        Ok(())
    }

    /// A checkpoint alone, the change after it, and a checkpoint with the application at work.
    fn checkpoints(&mut self, session: &mut Checkpointer, controls: &mut Controls) -> Outcome<()> {
        let pages = self.change();
        self.report.add("changed_pages", pages as f64);
        self.settle();
        self.report.add("memcpy_ms", timed(self.world, || controls.copy(&self.state))?.0);
        let Taken { blocked, commit, name } = self.checkpoint(session)?;
        self.report.add("blocked_ms", blocked);
        self.report.add("commit_ms", commit);
        self.report.add("bytes_written", self.bytes_of(name)? as f64);
        let faults = self.faults();
        self.report.add("fault_ms", faults);
        if self.arguments.changed >= 1.0 {
            // It shares nothing: what it took is what the controls write and decode.
            controls.take_shard(&self.folder.shard_path(name, self.world.rank()))?;
        }
        controls.encode_as(self.efforts(name));
        self.report.add("encode_ms", timed(self.world, || controls.encode(&self.state))?.0);

        self.settle();
        let before = self.compute_quietly(session)?;
        let busy = self.checkpoint_at_work(session)?;
        let quiet = before.and(self.compute_quietly(session)?);
        let slower = (busy.mean - quiet.mean) * busy.count as f64;
        self.report.add("commit_at_work_ms", busy.total());
        self.report.add("step_slowdown", busy.mean / quiet.mean);
        self.report.add("step_ms", quiet.mean);
        self.report.add("slower_ms", slower);
        self.report.add("lost_ms", blocked + slower + faults);
        Ok(())
    }

    /// How hard this rank tried on each field of a checkpoint, by its journal; empty where nothing was chosen.
    fn efforts(&self, name: CheckpointName) -> Vec<Compression> {
        let rank = u32::try_from(self.world.rank()).ok();
        let folder = self.folder.epoch_folder(name.epoch);
        let Ok(journal) = piton::journal::read(&RealMedium::default(), &folder) else { return Vec::new() };
        let chosen =
            journal.records.into_iter().filter(|record| record.rank == rank).find_map(|record| match record.event {
                Event::Encoding { id, efforts, .. } if id == name.id => Some(efforts),
                _ => None,
            });
        let Some(chosen) = chosen else { return Vec::new() };
        let effort_of = |field: &str| {
            let named = |effort: &&Compression| {
                let fields = chosen.get(&format!("{effort:?}").to_lowercase());
                fields.is_some_and(|fields| fields.split(", ").any(|other| other == field))
            };
            [Compression::Raw].iter().chain(&Compression::EFFORTS).find(named).copied().unwrap_or_default()
        };
        self.state.fields().map(|(field, _)| effort_of(field)).collect()
    }

    /// Plain writes and reads of the state and of the complete shard.
    fn plain_files(&mut self, controls: &mut Controls) -> Outcome<()> {
        let world = self.world;
        for (series, writing, what, reads) in [
            ("raw_buffered_ms", Writing::Buffered, What::Raw, None),
            ("raw_direct_ms", Writing::Direct, What::Raw, Some(["raw_read_ms", "raw_read_warm_ms"])),
            ("stored_buffered_ms", Writing::Buffered, What::Stored, None),
            ("stored_direct_ms", Writing::Direct, What::Stored, Some(["stored_read_ms", "stored_read_warm_ms"])),
        ] {
            self.settle();
            let took = timed(world, || controls.write(writing, what))?.0;
            self.report.add(series, took);
            if let Some([cold, warm]) = reads {
                controls.forget_raw(world)?;
                self.report.add(cold, timed(world, || controls.read(what))?.0);
                self.report.add(warm, timed(world, || controls.read(what))?.0);
            }
            controls.remove_raw()?;
        }
        Ok(())
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
    let state = Grown::new(&ocean, arguments.data, arguments.mib << 20, world.rank())?;
    if arguments.busy {
        busy::occupy(world, threads)?;
    }
    let mut job = Job {
        arguments,
        world,
        threads,
        store,
        folder: Store::new(Arc::new(RealMedium::default()), store).job(JOB)?,
        ocean,
        state,
        step: FIRST_STEPS,
        changes: 0,
        newest: None,
        saved: 0,
        report: Report::default(),
    };
    job.first()?;
    let raw = scratch.join(format!("raw-{}", world.rank()));
    let mut controls = Controls::new(&job.state, threads, raw, arguments)?;
    // The first round warms up what the controls use.
    for run in 0..=arguments.runs {
        job.round(&mut controls)?;
        if run == 0 {
            job.report.forget_rounds();
        }
    }
    // What the last round saved is compared as well.
    drop(job.resumed()?);
    if world.rank() == 0 {
        let about = report::About { ranks: world.size(), threads, mpi: arguments::family_of_this_program(), arguments };
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
