//! A job under `piton run`, for tests to strike.

use super::{Walk, piton, walk_open};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Longer than anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// What tests let `piton run` launch, as the ignored test `a_job` of their own file: a job of one rank of so many steps, with a fault of its own if
/// the test says so.
pub fn job() {
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
    if number("PITON_TEST_KILLS_ITS_AGENT").is_some() {
        // Only once the supervisor knows of this attempt: it says so in its journal then.
        let since = Instant::now();
        while events_in(folder, "launched").is_empty() {
            assert!(since.elapsed() < PATIENCE, "the supervisor does not come to know of it");
            std::thread::sleep(Duration::from_millis(10));
        }
        kill(agent_beside_this(), Signal::SIGKILL).unwrap();
    }
    let summary = checkpointer.finish(&mut state).unwrap();
    if !summary.halted {
        std::fs::write(folder.join("result"), bytes_of(&state.places)).unwrap();
    }
    while number("PITON_TEST_LINGERS").is_some() {
        std::thread::park();
    }
}

/// The agent that was started by whoever started this process.
fn agent_beside_this() -> Pid {
    let beside = |pid: &i32| {
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        // The name, which may hold blanks, is in brackets.
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)?.parse().ok());
        parent == Some(std::os::unix::process::parent_id().cast_signed())
            && words.split(|byte| *byte == 0).nth(1) == Some(b"agent")
    };
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pid = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find(beside);
    Pid::from_raw(pid.expect("an agent"))
}

pub fn bytes_of(places: &[f64]) -> Vec<u8> {
    places.iter().flat_map(|place| place.to_bits().to_le_bytes()).collect()
}

/// What comes out where nothing happens.
pub fn undisturbed(steps: u64) -> Vec<u8> {
    let mut state = Walk::new();
    for step in 0..steps {
        state.places.iter_mut().for_each(|place| *place = (*place * 1.25 + step as f64).sin());
    }
    bytes_of(&state.places)
}

/// A supervisor that is running the job.
pub struct Supervised {
    pub child: Child,
    pub folder: tempfile::TempDir,
}

impl Drop for Supervised {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Supervised {
    pub fn start(steps: u64, variables: &[(&str, &str)]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), steps, variables, &[])
    }

    pub fn start_in(folder: tempfile::TempDir, steps: u64, variables: &[(&str, &str)], arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_piton"));
        command.current_dir(&folder).arg("run").args(arguments).arg("--").arg(std::env::current_exe().unwrap());
        command.args(["--exact", "a_job", "--ignored", "--nocapture"]);
        command.env("PITON_TEST_STORE", folder.path()).env("PITON_TEST_STEPS", steps.to_string());
        command.envs(variables.iter().copied()).stdout(Stdio::null()).stderr(Stdio::piped()).stdin(Stdio::null());
        Self { child: command.spawn().unwrap(), folder }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The rank, once it has come to `step` in a launch whose process is not `other_than`.
    pub fn rank_at(&mut self, step: u64, other_than: u64) -> u64 {
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

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    pub fn said(&mut self) -> String {
        let mut text = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            stderr.read_to_string(&mut text).unwrap();
        }
        text
    }

    pub fn wait(&mut self) -> (ExitStatus, String) {
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

    pub fn result(&self) -> Vec<u8> {
        std::fs::read(self.path().join("result")).unwrap()
    }

    /// What the journal says of this kind.
    pub fn events(&self, kind: &str) -> Vec<Value> {
        events_in(self.path(), kind)
    }
}

/// What the journals of the job in `folder` say of this kind.
fn events_in(folder: &Path, kind: &str) -> Vec<Value> {
    let output = piton(folder, &["journal", "walk", "--json"]);
    let records: Vec<Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    records.into_iter().map(|record| record["event"].clone()).filter(|event| event["kind"] == kind).collect()
}

pub fn strike(pid: u64, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal).unwrap();
}

pub fn lives(pid: u64) -> bool {
    piton::watch::process::start_ticks(u32::try_from(pid).unwrap()).is_some()
}

pub fn gone(pid: u64) {
    let since = Instant::now();
    while lives(pid) {
        assert!(since.elapsed() < PATIENCE, "process {pid} lives on");
        std::thread::sleep(Duration::from_millis(5));
    }
}
