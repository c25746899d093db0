//! Real ranks under a real `mpirun`, killed at random moments: the next `--resume` comes back from a committed, verified
//! checkpoint, all ranks at one step, and the job ends with the bits of an uninterrupted run.
//!
//! Runs with feature `mpi`, under the MPI that the build is linked to. `PITON_TEST_LONG=1` kills 30 times instead of a few.
#![cfg(feature = "mpi")]

mod common;

use common::{Family, Running, descendants, example, family, mpirun, mpirun_command, said};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use piton::journal::{self, Event};
use piton::medium::RealMedium;
use piton::store::{CheckpointState, JobFolder, Store};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

const STEPS: u64 = 600;
/// Shards are written so slowly that half of the kills, which wait for one, meet it.
const ARGUMENTS: [&str; 9] =
    ["--size", "1024x768", "--steps", "600", "--every", "7", "--threads", "1", "--piton.bandwidth_max=4MiB"];

fn ranks(program: &Path) -> usize {
    // MPICH's ranks spin while they wait: more of them than processors crawl.
    if family(program) == Family::Mpich { 2 } else { 4 }
}

fn job(store: &Path) -> JobFolder {
    Store::new(Arc::new(RealMedium::default()), store).job("heat").expect("a good name")
}

/// The `final state` line of a run.
fn final_state(stdout: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(stdout).into_owned();
    text.lines().rfind(|line| line.starts_with("final state: ")).map(str::to_owned)
}

fn start(program: &Path, store: &Path, resume: bool) -> Running {
    let mut command = mpirun_command(ranks(program), program);
    command.args(ARGUMENTS).arg("--dir").arg(store);
    if resume {
        command.arg("--resume");
    }
    Running::start(command)
}

/// The shards that are being written, or were when their writer died.
fn unfinished(job: &JobFolder) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for epoch in std::fs::read_dir(job.folder()).into_iter().flatten().flatten() {
        for checkpoint in std::fs::read_dir(epoch.path()).into_iter().flatten().flatten() {
            for file in std::fs::read_dir(checkpoint.path()).into_iter().flatten().flatten() {
                if file.file_name().to_string_lossy().ends_with(".shard.tmp") {
                    found.push(file.path());
                }
            }
        }
    }
    found
}

/// The newest committed step, and the epoch of the newest claim.
fn standing(job: &JobFolder) -> (Option<u64>, u64) {
    let catalogue = job.catalogue().expect("the store can be read");
    let committed = catalogue.entries.iter().filter_map(|entry| match &entry.state {
        CheckpointState::Committed(manifest) => Some(manifest.step),
        _ => None,
    });
    (committed.max(), catalogue.epochs.last().map_or(0, |epoch| epoch.0))
}

/// Where the attempt `epoch` resumed, as all its ranks say.
fn resumed_at(job: &JobFolder, epoch: u64) -> Vec<u64> {
    let folder = job.epoch_folder(piton::ids::Epoch(epoch));
    let journal = journal::read(&RealMedium::default(), &folder).expect("the journal can be read");
    let steps = journal.records.iter().filter_map(|record| match record.event {
        Event::Resumed { step, .. } => Some(step),
        _ => None,
    });
    steps.collect()
}

/// Kills one rank of `running`: at a random moment, or as soon as a shard is being written. `None` where the job came to its
/// end before; otherwise whether a shard was being written then.
fn kill_one(
    running: &mut Running,
    program: &Path,
    job: &JobFolder,
    epoch: u64,
    dice: &mut fastrand::Rng,
    while_writing: bool,
) -> Option<bool> {
    let after = Duration::from_millis(dice.u64(..1500));
    // From when all ranks have come through MPI's own start: launchers hang where a rank dies before.
    let before = Instant::now();
    while standing(job).1 == epoch {
        if running.ended().is_some() {
            return None;
        }
        assert!(before.elapsed() < common::BOUND, "no new attempt");
        thread::yield_now();
    }
    let begun = Instant::now();
    let mut victims = Vec::new();
    loop {
        if running.ended().is_some() {
            return None;
        }
        // Looked up before the moment comes: writing a shard takes less time than this.
        if victims.len() < ranks(program) {
            victims = descendants(running.id(), program);
        }
        // Not what earlier victims left. Looked at before the kill: a launcher gives the other ranks a second, in which they may finish.
        let own = job.epoch_folder(piton::ids::Epoch(epoch + 1));
        let is_writing = || unfinished(job).iter().any(|path| path.starts_with(&own));
        let due = if while_writing { is_writing() } else { begun.elapsed() >= after };
        if due && !victims.is_empty() {
            let victim = victims[dice.usize(..victims.len())];
            let meets = is_writing();
            return kill(Pid::from_raw(victim), Signal::SIGKILL).is_ok().then_some(meets);
        }
        assert!(begun.elapsed() < common::BOUND, "nothing to kill");
        thread::yield_now();
    }
}

#[test]
fn whatever_rank_is_killed_whenever_the_job_comes_back() {
    let program = example("heat");
    let kills = if std::env::var_os("PITON_TEST_LONG").is_some() { 30 } else { 6 };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let reference = folder.path().join("reference");
    let mut arguments = ARGUMENTS.to_vec();
    let path = reference.display().to_string();
    arguments.extend(["--dir", &path]);
    let output = mpirun(ranks(&program), &program, &arguments);
    let expected = final_state(&output.stdout).unwrap_or_else(|| panic!("{}", said(&output)));
    assert!(expected.ends_with(&format!("(step {STEPS})")), "{expected}");

    let mut dice = fastrand::Rng::with_seed(0x00c0_ffee);
    let (mut killed, mut writing, mut resumes, mut jobs) = (0, 0, 0, 0);
    while killed < kills {
        jobs += 1;
        let store = folder.path().join(format!("job-{jobs}"));
        let job = job(&store);
        let mut resume = false;
        loop {
            let (committed, epoch) = if resume { standing(&job) } else { (None, 0) };
            let mut running = start(&program, &store, resume);
            let struck = (killed < kills)
                .then(|| kill_one(&mut running, &program, &job, epoch, &mut dice, killed % 2 == 0))
                .flatten();
            let hit = struck.is_some();
            let output = running.wait(common::BOUND);
            if resume {
                let (_, epoch) = standing(&job);
                let at = resumed_at(&job, epoch);
                let agree = at.windows(2).all(|pair| pair[0] == pair[1]);
                assert!(agree && at.iter().all(|step| Some(*step) >= committed), "{at:?} after {committed:?}");
                if committed.is_some() && (!hit || !at.is_empty()) {
                    assert!(!at.is_empty(), "committed {committed:?}, not resumed:\n{}", said(&output));
                    resumes += 1;
                }
            }
            if !hit {
                assert_eq!(final_state(&output.stdout).as_ref(), Some(&expected), "{}", said(&output));
                break;
            }
            assert!(!output.status.success() || final_state(&output.stdout).is_some(), "{}", said(&output));
            killed += 1;
            writing += usize::from(struck == Some(true));
            resume = true;
        }
    }
    println!(
        "{:?}, {} ranks: {killed} kills in {jobs} jobs, {writing} of them while a shard was being written, {resumes} resumes",
        family(&program),
        ranks(&program)
    );
    assert!(writing * 3 >= killed, "too few kills met a shard being written: {writing} of {killed}");
}

#[test]
fn a_stopped_attempt_that_goes_on_harms_nothing() {
    let program = example("heat");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = folder.path().join("store");
    let job = job(&store);
    let mut old = start(&program, &store, false);
    let begun = Instant::now();
    while job.catalogue().is_ok_and(|catalogue| catalogue.entries.iter().all(|entry| entry.manifest().is_none())) {
        assert!(begun.elapsed() < common::BOUND && old.ended().is_none(), "the old attempt committed nothing");
        thread::yield_now();
    }
    let ranks_of_old = descendants(old.id(), &program);
    assert_eq!(ranks_of_old.len(), ranks(&program));
    let signal_all = |signal| {
        for pid in &ranks_of_old {
            kill(Pid::from_raw(*pid), signal).expect("a rank of ours");
        }
    };
    signal_all(Signal::SIGSTOP);

    // Without being told to take over, the new attempt sees that the old one is there.
    let mut command = mpirun_command(ranks(&program), &program);
    command.args(ARGUMENTS).arg("--dir").arg(&store).arg("--resume");
    let refused = common::run(command, common::BOUND);
    assert!(
        !refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("--take-over"),
        "{}",
        said(&refused)
    );

    let mut command = mpirun_command(ranks(&program), &program);
    command.args(ARGUMENTS).arg("--dir").arg(&store).args(["--resume", "--take-over"]);
    let mut new = Running::start(command);
    let begun = Instant::now();
    while standing(&job).1 < 2 {
        assert!(begun.elapsed() < common::BOUND && new.ended().is_none(), "no new attempt");
        thread::yield_now();
    }
    signal_all(Signal::SIGCONT);
    let new = new.wait(common::BOUND);
    let old = old.wait(common::BOUND);
    // Both came to the same end; only the new one's is on record.
    let expected = final_state(&new.stdout).unwrap_or_else(|| panic!("{}", said(&new)));
    assert!(!old.status.success() || final_state(&old.stdout).as_ref() == Some(&expected), "{}", said(&old));
    let finished = job.finished(piton::ids::Epoch(2)).expect("the new attempt finished");
    assert_eq!(finished.step, STEPS);
    let catalogue = job.catalogue().expect("the store can be read");
    let newest = catalogue.candidates().next().and_then(|entry| entry.manifest()).expect("a committed checkpoint");
    assert_eq!((newest.name(), newest.step), (finished.checkpoint, STEPS));
    let mut again = mpirun_command(ranks(&program), &program);
    again.args(ARGUMENTS).arg("--dir").arg(&store).arg("--resume");
    let again = common::run(again, common::BOUND);
    assert_eq!(final_state(&again.stdout).as_ref(), Some(&expected), "{}", said(&again));
}
