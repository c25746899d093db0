//! One rank without MPI, over the real file system: the life of a job from its first step to its end.

use piton::comm::Solo;
use piton::{Checkpointer, OpenError, Refusal, Resumed, Settled, State};
use std::path::Path;

#[derive(State, Clone, PartialEq, Debug)]
struct Walk {
    places: Vec<f64>,
    counts: Vec<[u32; 2]>,
    seed: u64,
}

impl Walk {
    fn new() -> Self {
        Self { places: vec![0.0; 10_000], counts: vec![[0, 1]; 100], seed: 1 }
    }

    fn advance(&mut self) {
        for place in &mut self.places {
            self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *place += (self.seed >> 11) as f64 / (1u64 << 53) as f64 - 0.5;
        }
        self.counts[(self.seed >> 33) as usize % 100][0] += 1;
        if self.seed.is_multiple_of(2) {
            self.counts.push([9, 9]);
        }
    }

    fn after(steps: u64) -> Self {
        let mut walk = Self::new();
        (0..steps).for_each(|_| walk.advance());
        walk
    }
}

fn open(folder: &Path, arguments: &[&str]) -> Result<Checkpointer, OpenError> {
    Checkpointer::builder("walk")
        .dir(folder)
        .every_steps(10)
        .set("log", "quiet")
        .args(arguments.iter().copied())
        .open(Solo::default())
}

/// Runs until `until`, then goes away without a word (or finishes). Returns the state.
fn run(folder: &Path, arguments: &[&str], until: u64, finish: bool) -> (Walk, Option<Resumed>) {
    let mut walk = Walk::new();
    let mut checkpointer = open(folder, arguments).unwrap();
    let resumed = checkpointer.resume(&mut walk).unwrap();
    let mut step = resumed.map_or(0, |at| at.step);
    while step < until {
        walk.advance();
        step += 1;
        let tick = checkpointer.tick(step, &mut walk);
        assert_eq!(tick.problem(), None);
        if tick.frozen().is_some() {
            assert!(step.is_multiple_of(10));
            assert!(matches!(checkpointer.wait(), Settled::Committed(_)));
        }
    }
    if finish {
        let summary = checkpointer.finish(&mut walk).unwrap();
        assert_eq!(summary.step, until);
        assert!(!summary.halted);
    }
    (walk, resumed)
}

#[test]
fn a_job_that_died_goes_on_as_if_it_had_not() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(run(folder.path(), &["--resume"], 37, false).1, None);
    let (walk, resumed) = run(folder.path(), &["--resume"], 64, false);
    assert_eq!(resumed.map(|at| at.step), Some(30));
    assert_eq!(walk, Walk::after(64));
    let (walk, resumed) = run(folder.path(), &["--resume=required"], 100, true);
    assert_eq!(resumed.map(|at| (at.step, at.finished)), Some((60, false)));
    assert_eq!(walk, Walk::after(100));
    let (walk, resumed) = run(folder.path(), &["--resume"], 100, true);
    assert_eq!(resumed.map(|at| (at.step, at.finished)), Some((100, true)));
    assert_eq!(walk, Walk::after(100));
    let (walk, resumed) = run(folder.path(), &["--resume"], 120, true);
    assert_eq!(resumed.map(|at| (at.step, at.finished)), Some((100, true)), "also after finishing twice");
    assert_eq!(walk, Walk::after(120));
}

#[test]
fn checkpoints_are_never_passed_over_by_mistake() {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), &[], 25, false);
    let Err(OpenError::Refused { refusal, message }) = open(folder.path(), &[]) else { panic!("refused") };
    assert_eq!(refusal, Refusal::CheckpointsPresent);
    assert!(message.contains("--resume") && message.contains("--fresh") && message.contains("step 20"), "{message}");
    // Started anew, the old ones stay until there are enough new ones, and are still resumed from when they are named.
    assert_eq!(run(folder.path(), &["--fresh"], 15, false).1, None);
    let (_, resumed) = run(folder.path(), &["--resume"], 16, false);
    assert_eq!(resumed.map(|at| at.step), Some(10));
    let (_, resumed) = run(folder.path(), &["--resume=1/2"], 21, false);
    assert_eq!(resumed.map(|at| at.step), Some(20));
    assert!(folder.path().join("walk/000001/000002/manifest.json").exists());
    run(folder.path(), &["--resume"], 60, false);
    assert!(!folder.path().join("walk/000001/000002").exists());
}

#[test]
fn a_labelled_checkpoint_stays_and_only_the_newest_two_of_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let mut walk = Walk::new();
    let mut checkpointer = open(folder.path(), &[]).unwrap();
    assert_eq!(checkpointer.resume(&mut walk).unwrap(), None);
    for step in 1..=50 {
        walk.advance();
        let _ = checkpointer.tick(step, &mut walk);
        checkpointer.wait();
        if step == 15 {
            checkpointer.checkpoint_now(step, Some("spin-up done"), &mut walk).unwrap();
            assert!(matches!(checkpointer.wait(), Settled::Committed(_)));
        }
    }
    checkpointer.finish(&mut walk).unwrap();
    let epoch = folder.path().join("walk/000001");
    let mut left: Vec<_> = std::fs::read_dir(&epoch).unwrap().map(|entry| entry.unwrap().path()).collect();
    left.retain(|path| path.is_dir());
    left.sort();
    let names: Vec<_> = left.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["000002", "000005", "000006"]);
}

#[test]
fn a_request_halts_the_job_after_a_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let mut walk = Walk::new();
    let mut checkpointer = open(folder.path(), &[]).unwrap();
    let mut step = 0;
    checkpointer.resume(&mut walk).unwrap();
    loop {
        walk.advance();
        step += 1;
        if step == 7 {
            checkpointer.request_halt();
        }
        if checkpointer.tick(step, &mut walk).should_stop() {
            break;
        }
        assert!(step < 100_000, "never told to stop");
    }
    let summary = checkpointer.finish(&mut walk).unwrap();
    assert!(summary.halted);
    let (walk, resumed) = run(folder.path(), &["--resume"], step + 5, true);
    assert_eq!(resumed.map(|at| (at.step, at.finished)), Some((step, false)));
    assert_eq!(walk, Walk::after(step + 5));
}

#[test]
fn a_job_that_still_runs_is_not_started_twice() {
    let folder = tempfile::tempdir().unwrap();
    let mut walk = Walk::new();
    let mut first = open(folder.path(), &[]).unwrap();
    first.resume(&mut walk).unwrap();
    let Err(OpenError::Refused { refusal, message }) = open(folder.path(), &["--resume"]) else { panic!("refused") };
    assert_eq!(refusal, Refusal::StillRunning);
    assert!(message.contains("--take-over"), "{message}");
    let second = open(folder.path(), &["--resume", "--take-over"]).unwrap();
    assert!(second.epoch() > first.epoch());
}

#[test]
fn what_writing_cost_the_steps_is_in_the_journal() {
    let folder = tempfile::tempdir().unwrap();
    let mut walk = Walk::new();
    let mut checkpointer = open(folder.path(), &[]).unwrap();
    checkpointer.resume(&mut walk).unwrap();
    let slowed = || {
        let journal =
            piton::journal::read(&piton::medium::RealMedium::default(), &folder.path().join("walk/000001")).unwrap();
        let events = journal.records.into_iter().map(|record| record.event);
        events.filter(|event| matches!(event, piton::journal::Event::Slowed { .. })).collect::<Vec<_>>()
    };
    let (mut step, start) = (0, std::time::Instant::now());
    while slowed().is_empty() {
        assert!(start.elapsed().as_secs() < 60, "never said");
        walk.advance();
        step += 1;
        assert_eq!(checkpointer.tick(step, &mut walk).problem(), None);
    }
    let piton::journal::Event::Slowed { seconds, steps, step_seconds, lost_seconds, .. } = slowed()[0] else {
        panic!()
    };
    assert!(steps > 0 && step_seconds > 0.0);
    assert!((lost_seconds - (seconds - step_seconds * steps as f64)).abs() < 1e-9);
}
