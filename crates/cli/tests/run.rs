//! `piton run`: a job that is launched again whatever befalls it, and ends as if nothing had.

mod common;

use common::piton;
use common::supervised::{PATIENCE, Supervised, gone, lives, strike, undisturbed};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A program of the tests below.
#[test]
#[ignore = "a program of the other tests, which run it by name"]
fn a_job() {
    common::supervised::job();
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
fn ranks_that_hang_when_all_is_done_are_ended() {
    let lingers = [("PITON_TEST_LINGERS", "1"), ("PITON_LINGER_MAX", "1s")];
    let mut run = Supervised::start(60, &lingers);
    let (status, said) = run.wait();
    assert!(status.success(), "{status}: {said}");
    assert!(
        said.contains("the job has finished ") && said.contains(" s ago, and its ranks have not ended: they are ended"),
        "{said}"
    );
    assert_eq!(run.result(), undisturbed(60));
    assert_eq!(run.events("supervisor_ended")[0]["outcome"], "finished");
    assert_eq!(run.events("failure_detected").len(), 0);
    // Those that were to stop, too: the job can go on another time.
    let mut run = Supervised::start(60_000, &lingers);
    run.rank_at(20, 0);
    run.signal(Signal::SIGTERM);
    let (status, said) = run.wait();
    assert_eq!(status.code(), Some(75), "{said}");
    assert!(said.contains("the job has stopped with a checkpoint ") && said.contains("they are ended"), "{said}");
}

#[test]
fn ranks_that_hang_are_ended_although_nobody_saw_them_leave() {
    let lingers = [("PITON_TEST_LINGERS", "1"), ("PITON_LINGER_MAX", "1s"), ("PITON_TEST_KILLS_ITS_AGENT", "1")];
    let mut run = Supervised::start(60, &lingers);
    let (status, said) = run.wait();
    assert!(status.success(), "{status}: {said}");
    assert!(
        said.contains("the agent has ended") && said.contains("its ranks have not ended: they are ended"),
        "{said}"
    );
    assert_eq!(run.result(), undisturbed(60));
    assert_eq!(run.events("failure_detected").len(), 0);
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
