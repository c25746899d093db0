//! What is reported of failures on a real Slurm cluster, held against what was done: `tsunami` under `piton run`, struck in five ways; class,
//! rank, node and times of each failure are as injected, and where the time went agrees with an account that shares no code with ours.
//!
//! `PITON_TEST_LONG=1` strikes 13 times, otherwise once in each way. `PITON_TEST_PICTURES=FOLDER` keeps the report there. Where namespaces are not permitted,
//! or Slurm is not installed, it is skipped.
#![cfg(feature = "mpi")]

mod common;

use common::cluster::{Cluster, Order, SlurmJob, final_state};
use common::{Family, example, is_long, mpirun_command, reported};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use piton::journal::WallTime;
use std::path::Path;
use std::process::Command;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Strike {
    Killed,
    Stopped,
    Crashed,
    PowerLost,
    CutOff,
}

impl Strike {
    /// So often in each way that can be repeated, and at last a node's power is lost: Slurm gives a node that was started anew no more of the same job.
    fn all(rounds: usize) -> Vec<Self> {
        let round = [Self::Killed, Self::Stopped, Self::Crashed, Self::CutOff];
        (0..rounds).flat_map(|_| round).chain([Self::PowerLost]).collect()
    }

    fn class(self) -> &'static str {
        match self {
            Self::Killed | Self::Crashed => "RankDied",
            Self::Stopped => "RankStopped",
            Self::PowerLost | Self::CutOff => "NodeLost",
        }
    }

    /// How long it may take until it is known, seconds.
    fn known_within(self) -> f64 {
        // Beside other tests a machine is late.
        let bound = match self {
            Self::Killed | Self::Crashed => 1.0,
            Self::Stopped => 4.0,
            Self::PowerLost | Self::CutOff => 10.0,
        };
        if is_long() { bound } else { 3.0 * bound }
    }
}

/// What was done.
#[derive(Debug)]
struct Injected {
    what: Strike,
    rank: Option<u64>,
    node: &'static str,
    at: WallTime,
}

/// The number that the launcher gave a rank's process.
fn rank_of(pid: i32) -> u64 {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).expect("a process of ours");
    let environment = String::from_utf8_lossy(&environment).into_owned();
    let mut pairs = environment.split('\0').filter_map(|pair| pair.split_once('='));
    let (_, number) = pairs.find(|(name, _)| *name == "SLURM_PROCID").expect("srun says it");
    number.parse().expect("a number")
}

fn strike(cluster: &Cluster, job: &SlurmJob<'_>, what: Strike, dice: &mut fastrand::Rng) -> Injected {
    // A node that has ranks, and not the one that the supervisor is on.
    let nodes: Vec<&str> = ["n2", "n3", "n4"].into_iter().filter(|node| !job.ranks_on(node).is_empty()).collect();
    let node = nodes[dice.usize(..nodes.len())];
    let ranks = job.ranks_on(node);
    let pid = ranks[dice.usize(..ranks.len())];
    let rank = rank_of(pid);
    let signal = |signal| kill(Pid::from_raw(pid), signal).expect("a rank of ours");
    let at = WallTime::now();
    match what {
        Strike::Killed => signal(Signal::SIGKILL),
        Strike::Stopped => signal(Signal::SIGSTOP),
        Strike::Crashed => signal(Signal::SIGABRT),
        Strike::PowerLost => drop(cluster.ok(&["power-off", node])),
        Strike::CutOff => drop(cluster.ok(&["cut", node])),
    }
    let is_of_a_rank = what.class() != "NodeLost";
    Injected { what, rank: is_of_a_rank.then_some(rank), node, at }
}

#[test]
fn the_report_names_each_failure_as_it_was_injected() {
    let Some(cluster) = Cluster::up() else { return };
    // What is reported does not depend on the MPI: `make test` plays it with one.
    if cluster.family == Family::Mpich && !is_long() {
        return;
    }
    let program = example("tsunami");
    cluster.bring("tsunami", &program);
    cluster.bring("sea.xyz", &Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data/salish-sea.xyz"));
    let rounds = if is_long() { 3 } else { 1 };
    let steps = 300 * rounds as u64;
    let options = format!("--size 120x91 --sea-floor sea.xyz --threads 1 --steps {steps} --every 10");
    let words = format!("./tsunami {options} --pace 60");
    let shape = if cluster.family == Family::Mpich { (2, 2) } else { (6, 3) };
    let sbatch = "--no-kill --export=ALL,PITON_QUARANTINE_AFTER=off,PITON_JOURNAL_BEAT=200ms";
    let job = cluster.submit(Order { name: "seen", program: &words, steps, shape, sbatch, ..Order::default() });
    let mut dice = fastrand::Rng::with_seed(7);
    let mut injected: Vec<(Injected, WallTime)> = Vec::new();
    for what in Strike::all(rounds) {
        let before = job.computing();
        let done = strike(&cluster, &job, what, &mut dice);
        job.recovered(before);
        let node = done.node;
        injected.push((done, WallTime::now()));
        if what == Strike::CutOff {
            cluster.ok(&["mend", node]);
        }
    }
    let state = job.ends();
    let mut plain = mpirun_command(2, &program);
    let folder = cluster.work();
    plain.args(options.replace("sea.xyz", &folder.join("sea.xyz").display().to_string()).split(' '));
    plain.arg("--dir").arg(folder.join("undisturbed-tsunami"));
    plain.arg("--gauges").arg(folder.join("g.csv")).arg("--picture").arg(folder.join("p.png"));
    let undisturbed = common::run(plain, 3 * common::BOUND);
    assert_eq!(state, final_state(&String::from_utf8_lossy(&undisturbed.stdout)), "bit for bit");
    let report = reported(job.store(), "tsunami");
    let all = report["faults"].as_array().expect("failures");
    // Where much else runs, OpenMPI crashes or hangs at times while it starts, before there are ranks: those are failures, and none of ours.
    let at_start = |fault: &&serde_json::Value| fault["class"] == "LauncherEnded" || fault["class"] == "StartHangs";
    let faults: Vec<&serde_json::Value> = all.iter().filter(|fault| !at_start(fault)).collect();
    println!("{} starts failed by themselves", all.len() - faults.len());
    assert!(all.len() - faults.len() <= injected.len(), "{all:#?}");
    assert_eq!(faults.len(), injected.len(), "{faults:#?}");
    for ((done, computing), fault) in injected.iter().zip(faults) {
        println!(
            "{:?} on {}: known after {}, located {}, handled {}, recovered {}; lost {}",
            done.what,
            done.node,
            fault["detect_seconds"],
            fault["locate_seconds"],
            fault["handle_seconds"],
            fault["recover_seconds"],
            fault["lost_seconds"]
        );
        assert_eq!(fault["class"], done.what.class(), "{done:?}: {fault}");
        assert_eq!(fault["node"], done.node, "{done:?}: {fault}");
        assert_eq!(fault["rank"].as_u64(), done.rank, "{done:?}: {fault}");
        if done.what == Strike::Crashed {
            assert!(fault["summary"].as_str().is_some_and(|summary| summary.contains("SIGABRT")), "{fault}");
        }
        let at = |name: &str| {
            fault[name]
                .as_str()
                .and_then(|text| text.parse::<WallTime>().ok())
                .unwrap_or_else(|| panic!("{name}: {fault}"))
        };
        let since = |moment: WallTime| (moment.unix_ms() - done.at.unix_ms()) as f64 / 1000.0;
        // All of it is by one clock. The others compute on for a step, or until they wait.
        let (computed, detected, recovered) =
            (since(at("computed_until")), since(at("detected")), since(at("recovered")));
        assert!((-2.0..=done.what.known_within()).contains(&computed), "{computed}: {done:?}: {fault}");
        assert!((0.0..=done.what.known_within()).contains(&detected), "{detected}: {done:?}: {fault}");
        assert!(recovered > detected && recovered <= since(*computing), "{recovered}: {done:?}: {fault}");
        let parts = ["detect_seconds", "locate_seconds", "handle_seconds", "recover_seconds"];
        let sum: f64 =
            parts.iter().map(|part| fault[*part].as_f64().unwrap_or_else(|| panic!("{part}: {fault}"))).sum();
        assert!((sum - (recovered - computed)).abs() < 0.01, "{sum} of {}: {fault}", recovered - computed);
    }
    if let Some(folder) = std::env::var_os("PITON_TEST_PICTURES") {
        let mut command = Command::new(common::piton());
        command
            .arg("--dir")
            .arg(job.store())
            .args(["report", "tsunami", "--html"])
            .arg(Path::new(&folder).join("report.html"));
        assert!(common::run(command, common::BOUND).status.success());
    }
    if let Some((lost, _)) = injected.last() {
        cluster.ok(&["power-on", lost.node]);
    }
    cluster.rests();
}
