//! Real ranks under `piton run` and a real `mpirun`: one of them is killed, stopped, or the launcher is; the job is launched again at once and ends
//! with the bits of an undisturbed run.
//!
//! `PITON_TEST_LONG=1` strikes 60 times instead of 3. `PITON_TEST_PITON` names the program `piton`; without it, it is looked for in `target`.
#![cfg(feature = "mpi")]

mod common;

use common::{Family, Running, descendants, example, family, is_long, mpirun_command, said};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use piton::journal::{self, Event};
use piton::medium::RealMedium;
use piton::store::{JobFolder, Store};
use piton::watch::board::Board;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// From the strike on: a rank of a hung job is found within this, whatever a step takes.
const HANGS: Duration = Duration::from_secs(2);
/// One test at a time measures.
static MEASURING: Mutex<()> = Mutex::new(());
/// Until all ranks compute again once a failure is known, besides restoring.
const AGAIN: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Strike {
    KillRank,
    StopRank,
    KillLauncher,
}

impl Strike {
    const ALL: [Self; 3] = [Self::KillRank, Self::StopRank, Self::KillLauncher];
}

struct Job {
    name: &'static str,
    running: Running,
    boards: PathBuf,
    store: PathBuf,
    ranks: usize,
}

fn arguments(store: &Path, steps: u64) -> Vec<String> {
    // Slow enough that checkpoints keep up with the steps, whatever MPI.
    let fixed = ["--size", "512x384", "--every", "7", "--threads", "1", "--pace", "2", "--dir"];
    let mut all: Vec<String> = fixed.iter().map(|&argument| argument.to_owned()).collect();
    all.extend([store.display().to_string(), "--steps".into(), steps.to_string()]);
    all
}

impl Job {
    fn start(name: &'static str, program: &Path, folder: &Path, ranks: usize, arguments: &[String]) -> Self {
        let [boards, store] = ["boards", "store"].map(|name| folder.join(name));
        std::fs::create_dir_all(&boards).expect("a folder");
        // The launcher, and what it needs here, as the other tests have it.
        let plain = mpirun_command(ranks, program);
        let mut command = Command::new(common::piton());
        command.arg("run").args(["--ranks", &ranks.to_string(), "--launcher"]).arg(plain.get_program());
        for (name, value) in plain.get_envs() {
            command.env(name, value.expect("set"));
        }
        command.env("PITON_BOARD", &boards).env("PITON_LAUNCHES_PER_HOUR", "off");
        command.arg("--").arg(program).args(arguments);
        Self { name, running: Running::start(command), boards, store, ranks }
    }

    fn job(&self) -> JobFolder {
        Store::new(Arc::new(RealMedium::default()), &self.store).job(self.name).expect("a good name")
    }

    /// Waits until all ranks of launch `launch` have computed `steps` steps.
    fn computing(mut self, launch: u32, steps: u64) -> (Self, Board) {
        let since = Instant::now();
        loop {
            for (_, board) in Board::find(&self.boards, None) {
                let ranks = board.ranks();
                if board.supervised().launch == launch
                    && ranks.len() == self.ranks
                    && ranks.iter().all(|rank| rank.steps.count >= steps)
                {
                    return (self, board);
                }
            }
            if self.running.ended().is_some() {
                panic!("launch {launch} has not computed {steps} steps: {}", said(&self.running.wait(common::BOUND)));
            }
            assert!(since.elapsed() < common::BOUND, "launch {launch} does not compute");
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until the attempt has committed a checkpoint of its own, and is further than any before it.
    fn gets_further(&self, board: &Board, furthest: u64) {
        let since = Instant::now();
        let has_committed = || {
            let catalogue = self.job().catalogue().expect("a catalogue");
            catalogue.candidates().any(|entry| entry.name.epoch == board.epoch() && entry.manifest().is_some())
        };
        while board.ranks().iter().any(|rank| rank.step <= furthest + 10) || !has_committed() {
            assert!(since.elapsed() < common::BOUND, "it gets no further than step {furthest}");
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn events(&self) -> Vec<Event> {
        let job = self.job();
        let epochs = job.claims().expect("claims");
        let mut events = Vec::new();
        for (epoch, _) in epochs {
            let journal = journal::read(&RealMedium::default(), &job.epoch_folder(epoch)).expect("a journal");
            events.extend(journal.records.into_iter().map(|record| record.event));
        }
        events
    }
}

fn final_state(output: &std::process::Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().rfind(|line| line.contains("final state: ")).map(str::to_owned);
    line.unwrap_or_else(|| panic!("no final state: {}", said(output)))
}

/// Strikes; the rank that was struck, where it was one.
fn strike(what: Strike, job: &Job, program: &Path, board: &Board, dice: &mut fastrand::Rng) -> Option<u32> {
    let ranks = board.ranks();
    let rank = &ranks[dice.usize(..ranks.len())];
    let pid = match what {
        Strike::KillRank | Strike::StopRank => i32::try_from(rank.pid).expect("a process"),
        // The parent, or its parent's, of a rank; below the supervisor.
        Strike::KillLauncher => launcher(job.running.id(), program),
    };
    let signal = if what == Strike::StopRank { Signal::SIGSTOP } else { Signal::SIGKILL };
    kill(Pid::from_raw(pid), signal).expect("a process of ours");
    (what != Strike::KillLauncher).then_some(rank.rank)
}

/// The child of the supervisor that has ranks below it.
fn launcher(supervisor: u32, program: &Path) -> i32 {
    let path = format!("/proc/{supervisor}/task/{supervisor}/children");
    let children = std::fs::read_to_string(path).expect("a supervisor");
    let children = children.split_ascii_whitespace().map(|pid| pid.parse::<u32>().expect("a number"));
    let mut of = children.filter(|child| !descendants(*child, program).is_empty());
    i32::try_from(of.next().expect("a launcher")).expect("a process")
}

#[test]
fn whatever_strikes_the_job_it_ends_as_if_nothing_had() {
    let _alone = MEASURING.lock().unwrap_or_else(PoisonError::into_inner);
    let program = example("heat");
    let ranks = if family(&program) == Family::Mpich { 2 } else { 4 };
    let strikes = if is_long() { 60 } else { 3 };
    let steps = 400 + 300 * strikes;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let words = arguments(&folder.path().join("store"), steps);
    let mut job = Job::start("heat", &program, folder.path(), ranks, &words);
    let mut dice = fastrand::Rng::with_seed(6);
    let mut times: Vec<(Strike, f64)> = Vec::new();
    let mut struck = Vec::new();
    let mut furthest = 0;
    let mut launch = 1;
    for at in 0..strikes {
        let what = Strike::ALL[usize::try_from(at).expect("few") % Strike::ALL.len()];
        let steps = dice.u64(10..60);
        let board;
        (job, board) = job.computing(launch, steps);
        // A job that gets no further from launch to launch is made to rest.
        job.gets_further(&board, furthest);
        furthest = board.ranks().iter().map(|rank| rank.step).max().unwrap_or(0);
        struck.push((what, strike(what, &job, &program, &board, &mut dice)));
        let since = Instant::now();
        launch += 1;
        (job, _) = job.computing(launch, 1);
        times.push((what, since.elapsed().as_secs_f64()));
    }
    let events = job.events();
    let Job { running, store, .. } = job;
    let output = running.wait(common::BOUND * 10);
    assert!(output.status.success(), "{}", said(&output));
    for what in Strike::ALL {
        let mut of: Vec<f64> =
            times.iter().filter(|(strike, _)| *strike == what).map(|(_, seconds)| *seconds).collect();
        of.sort_by(f64::total_cmp);
        let (median, most) = (of[of.len() / 2], of[of.len() - 1]);
        println!(
            "{:?}, {ranks} ranks, {what:?} × {}: computing again after {median:.2} s (median; most {most:.2} s)",
            family(&program),
            of.len()
        );
        let bound = if what == Strike::StopRank { HANGS + AGAIN } else { AGAIN };
        // Beside other tests time says less.
        let allowed = if is_long() { bound } else { 3 * bound };
        assert!(median <= allowed.as_secs_f64(), "{what:?}: {of:?}");
    }
    let detected = events.iter().filter(|event| matches!(event, Event::FailureDetected { .. })).count();
    assert_eq!(detected as u64, strikes, "{}", said(&output));
    let report = common::reported(&store, "heat");
    let faults = report["faults"].as_array().expect("failures");
    assert_eq!(faults.len(), struck.len(), "{faults:?}");
    for ((what, rank), fault) in struck.iter().zip(faults) {
        let class = match what {
            Strike::KillRank => "RankDied",
            Strike::StopRank => "RankStopped",
            // Its ranks go with it: whatever is seen first.
            Strike::KillLauncher => continue,
        };
        assert_eq!(fault["class"], class, "{fault}");
        // MPICH's launcher kills the other ranks within a millisecond: then its own words tell who was first.
        assert_eq!(fault["rank"].as_u64(), rank.map(u64::from), "{fault}");
        for time in ["detect_seconds", "locate_seconds", "handle_seconds", "recover_seconds", "lost_seconds"] {
            assert!(fault[time].as_f64().is_some_and(|seconds| (0.0..60.0).contains(&seconds)), "{time}: {fault}");
        }
    }
    // The same without any of it.
    let mut plain = mpirun_command(ranks, &program);
    plain.args(arguments(&store.with_file_name("undisturbed"), steps));
    let undisturbed = common::run(plain, common::BOUND * 10);
    assert_eq!(final_state(&output), final_state(&undisturbed), "bit for bit");
    // Nothing is left of any launch.
    assert!(Board::find(&folder.path().join("boards"), None).is_empty(), "boards are left");
}

#[test]
fn ranks_that_wait_for_each_other_are_ended_and_go_on_in_the_next_launch() {
    let _alone = MEASURING.lock().unwrap_or_else(PoisonError::into_inner);
    let program = example("mpi-watched");
    let ranks = if family(&program) == Family::Mpich { 2 } else { 4 };
    let last = 400;
    let rounds = if is_long() { 20 } else { 1 };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let words = |folder: &Path| {
        let [store, control] = ["store", "control"].map(|name| folder.join(name));
        std::fs::create_dir_all(&control).expect("a folder");
        std::fs::write(control.join("end"), last.to_string()).expect("an order");
        let mut words: Vec<String> = [store.display().to_string(), "10".into(), control.display().to_string()].into();
        words.push("--piton.every_steps=7".into());
        words
    };
    let mut times = Vec::new();
    let mut state = None;
    for round in 0..rounds {
        let folder = folder.path().join(round.to_string());
        let job = Job::start("watched", &program, &folder, ranks, &words(&folder));
        let (job, _) = job.computing(1, 50);
        let order = folder.join("control").join("1");
        std::fs::write(&order, "dead-lock").expect("an order");
        let since = Instant::now();
        let detected =
            |event: &Event| matches!(event, Event::FailureDetected { class, .. } if class == "RanksDeadLocked");
        while !job.events().iter().any(detected) {
            assert!(since.elapsed() < common::BOUND, "it is not found");
            thread::sleep(Duration::from_millis(5));
        }
        // The next launch is to compute.
        std::fs::remove_file(&order).expect("an order");
        let (job, _) = job.computing(2, 1);
        times.push(since.elapsed().as_secs_f64());
        let output = job.running.wait(common::BOUND);
        assert!(output.status.success(), "{}", said(&output));
        let ended = final_state(&output);
        assert_eq!(state.get_or_insert_with(|| ended.clone()), &ended);
    }
    times.sort_by(f64::total_cmp);
    println!(
        "{:?}, {ranks} ranks, dead-lock × {rounds}: computing again after {:.2} s (median; most {:.2} s)",
        family(&program),
        times[times.len() / 2],
        times[times.len() - 1]
    );
    let undisturbed = folder.path().join("undisturbed");
    let mut plain = mpirun_command(ranks, &program);
    plain.args(words(&undisturbed));
    let undisturbed = common::run(plain, common::BOUND);
    assert_eq!(state, Some(final_state(&undisturbed)), "bit for bit");
}
