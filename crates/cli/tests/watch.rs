//! Watching from outside: `piton status`, `piton agent`, `piton rank`.

mod common;

use common::{Walk, piton, walk, walk_open};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

fn status(folder: &Path) -> Value {
    let output = piton(folder, &["status", "walk", "--json"]);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// What a process of its own does that the tests below start: a job of one rank that never ends.
#[test]
#[ignore = "a program of the other tests, which run it by name"]
fn an_endless_job() {
    let Some(folder) = std::env::var_os("PITON_TEST_STORE") else { return };
    let mut state = Walk::new();
    let mut checkpointer = walk_open(Path::new(&folder), &["--piton.every_steps=1000000"]);
    let phases = checkpointer.phases();
    checkpointer.resume(&mut state).unwrap();
    for step in 1.. {
        let _phase = phases.phase("walking");
        std::thread::sleep(Duration::from_millis(2));
        let _ = checkpointer.tick(step, &mut state);
    }
}

/// Ended when it goes.
struct Job(Child);

impl Drop for Job {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Job {
    /// One that is on its way.
    fn start(folder: &Path) -> Self {
        let program = std::env::current_exe().expect("a test has a path");
        let mut command = Command::new(program);
        command.args(["--exact", "an_endless_job", "--ignored"]).env("PITON_TEST_STORE", folder);
        let job = Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("this test"));
        let since = Instant::now();
        loop {
            let output = piton(folder, &["status", "walk", "--json"]);
            let shown: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
            if shown["ranks"][0]["step"].as_u64() > Some(20) {
                return job;
            }
            assert!(since.elapsed() < PATIENCE, "{output:?}");
        }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.0.id()).expect("a process number")), signal).expect("ours");
    }
}

/// The lines that `piton agent` prints.
struct Lines(BufReader<std::process::ChildStdout>);

impl Lines {
    fn next(&mut self) -> Option<Value> {
        let mut line = String::new();
        let length = self.0.read_line(&mut line).expect("it can be read");
        (length > 0).then(|| serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}")))
    }

    /// The next line, which must be of this kind and rule.
    fn expect(&mut self, kind: &str, rule: &str) -> Value {
        let line = self.next().unwrap_or_else(|| panic!("no {kind} of {rule}"));
        assert_eq!((&line["kind"], &line["rule"]), (&kind.into(), &rule.into()), "{line}");
        line
    }
}

#[test]
fn the_state_of_a_job_is_on_one_screen() {
    let folder = tempfile::tempdir().expect("a folder");
    let nothing = piton(folder.path(), &["status", "walk"]);
    assert_eq!(nothing.status.code(), Some(2), "no store yet");
    walk(folder.path(), &[], 2);
    let gone = status(folder.path());
    assert_eq!((&gone["state"], gone["checkpoint"]["step"].as_u64()), (&Value::from("failed"), Some(2)), "{gone}");
    assert_eq!(gone["ranks"], Value::Array(Vec::new()));

    let mut state = Walk::new();
    let mut checkpointer = walk_open(folder.path(), &["--resume"]);
    assert_eq!(status(folder.path())["ranks"][0]["presence"], "starting");
    checkpointer.resume(&mut state).expect("a checkpoint");
    let _ = checkpointer.tick(3, &mut state);
    let phases = checkpointer.phases();
    let phase = phases.waiting("halo exchange");
    let shown = status(folder.path());
    let rank = &shown["ranks"][0];
    assert_eq!(
        (&shown["state"], &shown["world"], &shown["step"]),
        (&Value::from("running"), &1.into(), &3.into()),
        "{shown}"
    );
    assert_eq!((&rank["pid"], &rank["phase"]), (&std::process::id().into(), &"halo exchange".into()), "{shown}");
    drop(phase);
    let text = piton(folder.path(), &["status", "walk", "--color", "never"]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    for part in
        ["walk, attempt 2  running, 1 rank, step 3", "newest checkpoint:", "computing", "nothing is known to be wrong"]
    {
        assert!(text.contains(part), "{part}:\n{text}");
    }
    checkpointer.finish(&mut state).expect("room");
    let shown = status(folder.path());
    assert_eq!((&shown["state"], &shown["ranks"]), (&Value::from("finished"), &Value::Array(Vec::new())), "{shown}");
}

#[test]
fn an_agent_sees_a_rank_stop_go_on_and_die() {
    let folder = tempfile::tempdir().expect("a folder");
    let job = Job::start(folder.path());
    // Whatever this machine is like besides.
    let rules = folder.path().join("rules.toml");
    let told = folder.path().join("told.json");
    let receiver =
        format!("[[alerts.receivers]]\nname = \"file\"\ncommand = [\"sh\", \"-c\", \"cat >> {}\"]\n", told.display());
    let route = "[[alerts.routes]]\nreceivers = [\"file\"]\n";
    std::fs::write(&rules, format!("defaults = false\n{receiver}{route}")).expect("a file");
    let mut agent = Command::new(env!("CARGO_BIN_EXE_piton"))
        .args(["agent", "walk", "--until-over", "--json", "--record", "10ms", "--dir"])
        .arg(folder.path())
        .env("PITON_RULES", &rules)
        .env("PITON_SAMPLE", "50ms")
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program");
    let mut lines = Lines(BufReader::new(agent.stdout.take().expect("piped")));
    // It has taken over the watch from the rank itself.
    let since = Instant::now();
    while status(folder.path())["watched"] != Value::Bool(true) {
        assert!(since.elapsed() < PATIENCE);
    }
    job.signal(Signal::SIGSTOP);
    let stopped = lines.expect("found", "RankStopped");
    assert_eq!(stopped["labels"]["rank"], "0");
    assert!(stopped["summary"].as_str().is_some_and(|text| text.contains("walking")), "{stopped}");
    lines.expect("alert_firing", "RankStopped");
    let critical = piton(folder.path(), &["status", "walk"]);
    assert_eq!(critical.status.code(), Some(1), "{critical:?}");
    job.signal(Signal::SIGCONT);
    lines.expect("over", "RankStopped");
    lines.expect("alert_resolved", "RankStopped");
    job.signal(Signal::SIGKILL);
    let died = lines.expect("found", "RankDied");
    assert_eq!((&died["severity"], &died["action"]), (&"critical".into(), &"stop_attempt".into()));
    lines.expect("alert_firing", "RankDied");
    drop(job);
    assert!(lines.next().is_none());
    assert_eq!(agent.wait().expect("ours").code(), Some(1));
    // It is in the journal, for whoever comes later.
    let journal = piton(folder.path(), &["journal", "walk", "--kind", "found", "--json"]);
    let told = String::from_utf8_lossy(&journal.stdout).into_owned();
    assert!(told.contains("RankStopped") && told.contains("RankDied"), "{told}");
    let sampled = piton(folder.path(), &["journal", "walk", "--kind", "sampled", "--all", "--json"]);
    assert!(String::from_utf8_lossy(&sampled.stdout).contains("node_memory_MemTotal_bytes"), "{sampled:?}");
    let letters = std::fs::read_to_string(folder.path().join("told.json")).expect("somebody was told");
    assert!(letters.contains("RankDied"), "{letters}");
}

#[test]
fn a_thin_parent_ends_as_its_rank_and_notes_how() {
    let run = |script: &str, boards: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_piton"));
        command.args(["rank", "--", "sh", "-c", script]).env("PITON_BOARD", boards);
        command.stdout(Stdio::piped()).output().expect("the program")
    };
    let boards = tempfile::tempdir().expect("a folder");
    let output = run("echo $$; exit 7", boards.path());
    assert_eq!(output.status.code(), Some(7));
    let pid = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let notes: Vec<_> = std::fs::read_dir(boards.path()).expect("a folder").flatten().collect();
    let [note] = notes.as_slice() else { panic!("{notes:?}") };
    let name = note.file_name().into_string().expect("a name");
    assert!(name.contains(&format!("-{pid}-")) && name.ends_with(".exit"), "{name}");
    assert_eq!(std::fs::read_to_string(note.path()).expect("a note"), (7 << 8).to_string());

    let killed = run("kill -SEGV $$", boards.path());
    assert_eq!(killed.status.signal(), Some(Signal::SIGSEGV as i32));
    // Signals are passed on.
    let mut parent = Command::new(env!("CARGO_BIN_EXE_piton"))
        .args(["rank", "--", "sh", "-c", "trap 'exit 9' TERM; echo ready; while :; do sleep 0.01; done"])
        .env("PITON_BOARD", boards.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program");
    let mut line = String::new();
    BufReader::new(parent.stdout.take().expect("piped")).read_line(&mut line).expect("it says so");
    kill(Pid::from_raw(i32::try_from(parent.id()).expect("a process number")), Signal::SIGTERM).expect("ours");
    assert_eq!(parent.wait().expect("ours").code(), Some(9));
    let missing = run("exec /nowhere/at/all", boards.path());
    assert_eq!(missing.status.code(), Some(127));
}
