//! `piton run`: a job that is launched again whatever befalls it, and ends as if nothing had.

mod common;

use common::{Walk, piton, walk_open};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(120);

/// What the tests below let `piton run` launch: a job of one rank of so many steps, with a fault of its own if the test says so.
#[test]
#[ignore = "a program of the other tests, which run it by name"]
fn a_job() {
    let Some(folder) = std::env::var_os("PITON_TEST_STORE") else { return };
    let folder = Path::new(&folder);
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let (steps, faulty) = (number("PITON_TEST_STEPS").unwrap(), number("PITON_TEST_FAULTY_STEP"));
    if number("PITON_TEST_STATUS_AT_START").is_some() {
        eprintln!("error: no such flag");
        std::process::exit(3);
    }
    let mut state = Walk::new();
    let mut checkpointer = walk_open(folder, &["--piton.every_steps=10", "--piton.keep=3"]);
    let mut step = checkpointer.resume(&mut state).unwrap().map_or(0, |at| at.step);
    while step < steps {
        // What comes out depends on every step.
        state.places.iter_mut().for_each(|place| *place = (*place * 1.25 + step as f64).sin());
        std::thread::sleep(Duration::from_millis(3));
        step += 1;
        if number("PITON_TEST_HANGING_STEP") == Some(step) {
            loop {
                std::thread::park();
            }
        }
        if faulty == Some(step) {
            panic!("a fault of the program at step {step}");
        }
        if checkpointer.tick(step, &mut state).should_stop() {
            break;
        }
    }
    let summary = checkpointer.finish(&mut state).unwrap();
    if !summary.halted {
        std::fs::write(folder.join("result"), bytes_of(&state.places)).unwrap();
    }
}

fn bytes_of(places: &[f64]) -> Vec<u8> {
    places.iter().flat_map(|place| place.to_bits().to_le_bytes()).collect()
}

/// What comes out where nothing happens.
fn undisturbed(steps: u64) -> Vec<u8> {
    let mut state = Walk::new();
    for step in 0..steps {
        state.places.iter_mut().for_each(|place| *place = (*place * 1.25 + step as f64).sin());
    }
    bytes_of(&state.places)
}

/// A supervisor that is running the job.
struct Supervised {
    child: Child,
    folder: tempfile::TempDir,
}

impl Drop for Supervised {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Supervised {
    fn start(steps: u64, variables: &[(&str, &str)]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), steps, variables, &[])
    }

    fn start_in(folder: tempfile::TempDir, steps: u64, variables: &[(&str, &str)], arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_piton"));
        command.current_dir(&folder).arg("run").args(arguments).arg("--").arg(std::env::current_exe().unwrap());
        command.args(["--exact", "a_job", "--ignored", "--nocapture"]);
        command.env("PITON_TEST_STORE", folder.path()).env("PITON_TEST_STEPS", steps.to_string());
        command.envs(variables.iter().copied()).stdout(Stdio::null()).stderr(Stdio::piped()).stdin(Stdio::null());
        Self { child: command.spawn().unwrap(), folder }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The rank, once it has come to `step` in a launch whose process is not `other_than`.
    fn rank_at(&mut self, step: u64, other_than: u64) -> u64 {
        let since = Instant::now();
        loop {
            let output = piton(self.path(), &["status", "walk", "--json"]);
            let shown: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
            let rank = &shown["ranks"][0];
            if rank["step"].as_u64() >= Some(step) && rank["pid"].as_u64() != Some(other_than) {
                return rank["pid"].as_u64().unwrap();
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("{status}: {}", self.said());
            }
            assert!(since.elapsed() < PATIENCE, "step {step} does not come: {shown}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    fn said(&mut self) -> String {
        let mut text = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            stderr.read_to_string(&mut text).unwrap();
        }
        text
    }

    fn wait(&mut self) -> (ExitStatus, String) {
        let text = self.said();
        let since = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status, text);
            }
            assert!(since.elapsed() < PATIENCE, "it does not end: {text}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn result(&self) -> Vec<u8> {
        std::fs::read(self.path().join("result")).unwrap()
    }

    /// What the journal says of this kind.
    fn events(&self, kind: &str) -> Vec<Value> {
        let output = piton(self.path(), &["journal", "walk", "--json"]);
        let records: Vec<Value> = String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
            .collect();
        records.into_iter().map(|record| record["event"].clone()).filter(|event| event["kind"] == kind).collect()
    }
}

fn strike(pid: u64, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal).unwrap();
}

fn lives(pid: u64) -> bool {
    piton::watch::process::start_ticks(u32::try_from(pid).unwrap()).is_some()
}

fn gone(pid: u64) {
    let since = Instant::now();
    while lives(pid) {
        assert!(since.elapsed() < PATIENCE, "process {pid} lives on");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_killed_and_a_stopped_rank_cost_a_moment_and_change_nothing() {
    let mut run = Supervised::start(500, &[]);
    let first = run.rank_at(40, 0);
    strike(first, Signal::SIGKILL);
    let second = run.rank_at(120, first);
    gone(first);
    strike(second, Signal::SIGSTOP);
    let third = run.rank_at(200, second);
    gone(second);
    let (status, text) = run.wait();
    assert!(status.success(), "{status}: {text}");
    assert!(!lives(third));
    assert_eq!(run.result(), undisturbed(500), "bit for bit");
    let detected: Vec<Value> = run.events("failure_detected").iter().map(|event| event["class"].clone()).collect();
    assert_eq!(detected, ["RankDied", "RankStopped"], "{text}");
    let located = run.events("failure_located");
    assert!(located.len() == 2 && located.iter().all(|event| event["rank"] == 0), "{located:?}");
    let recovered = run.events("failure_recovered");
    assert_eq!(recovered.len(), 2, "{text}");
    for event in &recovered {
        println!("computing again {:.2} s after the failure was known", event["seconds"].as_f64().unwrap());
    }
    assert_eq!(run.events("launched").len(), 3);
    assert_eq!(run.events("supervisor_ended")[0]["outcome"], "finished");
    // Whoever was ended on purpose has not died once more.
    assert_eq!(run.events("found").iter().filter(|event| event["rule"] == "RankDied").count(), 1);
    assert_eq!(run.events("end_explained").len(), 2);
}

#[test]
fn asked_to_stop_it_stops_with_a_checkpoint_and_goes_on_another_time() {
    let mut run = Supervised::start(400, &[]);
    run.rank_at(50, 0);
    run.signal(Signal::SIGINT);
    let (status, text) = run.wait();
    assert_eq!(status.code(), Some(75), "{text}");
    assert_eq!(run.events("halted").len(), 1, "{text}");
    let folder = std::mem::replace(&mut run.folder, tempfile::tempdir().unwrap());
    assert_eq!(piton(folder.path(), &["should-resume", "walk"]).status.code(), Some(0));
    let mut run = Supervised::start_in(folder, 400, &[], &["--resume", "--log-dir", "logs"]);
    let (status, text) = run.wait();
    assert!(status.success(), "{status}: {text}");
    assert_eq!(run.result(), undisturbed(400));
    let answer = piton(run.path(), &["should-resume", "walk"]);
    assert_eq!((answer.status.code(), answer.stdout.as_slice()), (Some(1), b"no: the job has finished\n".as_slice()));
    assert_eq!(piton(run.path(), &["should-resume", "other"]).status.code(), Some(1));
    let latest = piton(run.path(), &["latest", "walk"]);
    assert!(String::from_utf8_lossy(&latest.stdout).contains("step 400, the job's end"), "{latest:?}");
    assert!(std::fs::read_to_string(run.path().join("logs/launch-0001.log")).unwrap().contains("running 1 test"));
}

#[test]
fn interrupted_twice_it_ends_at_once() {
    let mut run = Supervised::start(1_000_000, &[]);
    let rank = run.rank_at(20, 0);
    // A rank that can't hear: it would never stop by itself.
    strike(rank, Signal::SIGSTOP);
    run.signal(Signal::SIGINT);
    run.signal(Signal::SIGINT);
    let (status, text) = run.wait();
    // Two signals may come as one; then the stopped rank is found, and not launched again.
    assert!(matches!(status.code(), Some(130 | 75)), "{status}: {text}");
    gone(rank);
}

#[test]
fn what_fails_by_itself_again_and_again_is_given_up() {
    let mut run = Supervised::start(400, &[("PITON_TEST_FAULTY_STEP", "35")]);
    let (status, text) = run.wait();
    assert_eq!(status.code(), Some(101), "{text}");
    assert!(text.contains("given up: the program itself has ended 3 times in a row at step 34"), "{text}");
    assert!(text.contains("panicked at"), "its own words are among the evidence: {text}");
    assert_eq!(run.events("launched").len(), 3);
}

#[test]
fn what_never_starts_is_not_tried_for_ever() {
    let mut run = Supervised::start(400, &[("PITON_TEST_STATUS_AT_START", "1")]);
    let (status, text) = run.wait();
    assert_eq!(status.code(), Some(3), "{text}");
    assert!(text.contains("before its first step"), "{text}");
    let folder = tempfile::tempdir().unwrap();
    let output = piton(folder.path(), &["run", "--", "./no-such-program"]);
    assert_eq!(output.status.code(), Some(127), "{output:?}");
    let output = piton(folder.path(), &["run", "--ranks", "4", "--launcher", "direct", "--", "true"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    // What is no job of ours is launched once, and its status passed on.
    assert_eq!(piton(folder.path(), &["run", "--", "true"]).status.code(), Some(0));
}

#[test]
fn nothing_outlives_a_supervisor_that_is_killed() {
    let mut run = Supervised::start(1_000_000, &[]);
    let rank = run.rank_at(20, 0);
    let agents = children(run.child.id());
    assert!(agents.len() >= 2, "an agent and a rank: {agents:?}");
    run.child.kill().unwrap();
    let _ = run.child.wait();
    gone(rank);
    agents.into_iter().for_each(gone);
    // Another one goes on.
    let folder = std::mem::replace(&mut run.folder, tempfile::tempdir().unwrap());
    let mut run = Supervised::start_in(folder, 100, &[], &["--resume"]);
    let (status, text) = run.wait();
    assert!(status.success(), "{status}: {text}");
}

fn children(pid: u32) -> Vec<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    text.split_ascii_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

#[test]
fn a_rank_without_a_supervisor_takes_sigterm_for_the_wish_to_stop() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "a_job", "--ignored"]).stdout(Stdio::null()).stderr(Stdio::piped());
    command.env("PITON_TEST_STORE", folder.path()).env("PITON_TEST_STEPS", "1000000");
    let mut run = Supervised { child: command.spawn().unwrap(), folder };
    let rank = run.rank_at(20, 0);
    strike(rank, Signal::SIGUSR1);
    let since = Instant::now();
    while !run.events("request_seen").iter().any(|event| event["what"] == "signal SIGUSR1") {
        assert!(since.elapsed() < PATIENCE, "it does not hear");
        std::thread::sleep(Duration::from_millis(5));
    }
    strike(rank, Signal::SIGTERM);
    let (status, text) = run.wait();
    assert!(status.success(), "{status}: {text}");
    assert_eq!(run.events("halted").len(), 1);
}

#[test]
fn a_rank_that_hangs_ends_by_sigterm_after_all() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "a_job", "--ignored", "--nocapture"]).stdout(Stdio::null()).stderr(Stdio::piped());
    command.env("PITON_TEST_STORE", folder.path()).env("PITON_TEST_STEPS", "1000").env("PITON_TEST_HANGING_STEP", "31");
    let mut run = Supervised { child: command.spawn().unwrap(), folder };
    let rank = run.rank_at(30, 0);
    strike(rank, Signal::SIGTERM);
    let (status, text) = run.wait();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(15), "{status}: {text}");
    assert!(text.contains("rank 0 has not come to act on SIGTERM, and ends"), "{text}");
}
