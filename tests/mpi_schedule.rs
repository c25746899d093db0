//! A real job that is killed again and again, against the simulator: does the time go where it is said to go?
//!
//! `tsunami` under a real `mpirun`, no interval set; one rank is killed at random moments of a seeded exponential clock, and the
//! same command with `--resume` follows, as a shell loop would do. What was wasted, and by what, stands in the journals; the simulator is fed
//! with the very moments of the failures and with what a checkpoint, a commit, a restart and a launch took on average.
//!
//! `PITON_TEST_LONG=1` kills 55 times, 20 s apart on average, and holds the simulator to a tenth; `PITON_TEST_KILLS=N` kills N times.
#![cfg(feature = "mpi")]

mod common;

use common::{Running, descendants, example, family, mpirun_command, said};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use piton::journal::WallTime;
use piton::medium::RealMedium;
use piton::schedule::simulate::{Model, Simulation, Steps, Trace, Until};
use piton::schedule::{Belief, Costs, Guess, History, Rules, Scheduler, sentence};
use piton::store::{JobFolder, Store};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

const RANKS: usize = 2;

struct Campaign {
    kills: usize,
    mean_seconds: f64,
    size: &'static str,
}

fn command(program: &Path, store: &Path, campaign: &Campaign, resume: bool) -> Command {
    let mut command = mpirun_command(RANKS, program);
    command.args(["--size", campaign.size, "--steps", "1000000000", "--threads", "1"]);
    command.args(["--piton.journal_beat=100ms", "--piton.threads=1"]);
    command.arg(format!("--piton.mtbf={}s", campaign.mean_seconds)).arg("--dir").arg(store);
    command.arg("--gauges").arg(store.join("gauges.csv")).arg("--picture").arg(store.join("picture.png"));
    if resume {
        command.arg("--resume");
    }
    command
}

/// How many attempts have begun, all ranks being through MPI's own start: launchers hang where a rank dies before.
fn begun(job: &JobFolder) -> usize {
    job.history().attempts().len()
}

/// Runs the job and kills it; when each kill struck.
fn play(program: &Path, store: &Path, job: &JobFolder, campaign: &Campaign) -> Vec<WallTime> {
    let mut dice = fastrand::Rng::with_seed(0x5eed);
    let mut killed = Vec::new();
    std::fs::create_dir_all(store).expect("a folder");
    while killed.len() < campaign.kills {
        let mut running = Running::start(command(program, store, campaign, !killed.is_empty()));
        let patience = Instant::now();
        while begun(job) <= killed.len() {
            if running.ended().is_some() || patience.elapsed() > common::BOUND {
                panic!("no attempt begins:\n{}", said(&running.wait(Duration::from_secs(1))));
            }
            std::thread::yield_now();
        }
        let victims = descendants(running.id(), program);
        let victim = victims[dice.usize(..victims.len())];
        // An exponential clock: the time to the next failure does not depend on the past.
        let after = Duration::from_secs_f64(-campaign.mean_seconds * (1.0 - dice.f64()).ln());
        let status = wait_until(&mut running, Instant::now() + after);
        assert!(!status, "the job ended by itself");
        killed.push(WallTime::now());
        kill(Pid::from_raw(victim), Signal::SIGKILL).expect("a rank of ours");
        running.wait(common::BOUND);
    }
    killed
}

/// Waits for `moment`; whether the program ended before. What is waited for is the moment itself.
fn wait_until(running: &mut Running, moment: Instant) -> bool {
    while let Some(left) = moment.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        if running.ended().is_some() {
            return true;
        }
        std::thread::park_timeout(left.min(Duration::from_millis(20)));
    }
    false
}

/// What each thing took on average, as the journals have it.
fn costs(history: &History, killed: &[WallTime]) -> (Costs, f64) {
    let account = history.account();
    let attempts = history.attempts().len() as f64;
    // From the kill on: the ranks that are left take a while to notice.
    let down: Vec<f64> = killed
        .iter()
        .zip(&history.attempts()[1..])
        .map(|(killed, next)| killed.until(next.started()).as_secs_f64())
        .collect();
    let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len() as f64;
    let all = || history.attempts().iter();
    let costs = Costs {
        cost: mean(all().flat_map(|attempt| attempt.costs()).collect()),
        latency: mean(all().flat_map(|attempt| attempt.latencies()).collect()),
        restart: account.restarts / attempts,
        downtime: mean(down),
    };
    (costs, mean(all().filter_map(|attempt| attempt.step_seconds()).collect()))
}

#[test]
fn the_time_goes_where_the_simulator_says() {
    let program = example("tsunami");
    let long = std::env::var_os("PITON_TEST_LONG").is_some();
    let kills = std::env::var("PITON_TEST_KILLS").ok().and_then(|kills| kills.parse().ok());
    let campaign = match long {
        true => Campaign { kills: kills.unwrap_or(55), mean_seconds: 20.0, size: "1024x776" },
        false => Campaign { kills: kills.unwrap_or(6), mean_seconds: 6.0, size: "1024x776" },
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = folder.path().join("store");
    let job = Store::new(Arc::new(RealMedium::default()), &store).job("tsunami").expect("a good name");
    let killed = play(&program, &store, &job, &campaign);

    let history = job.history();
    assert_eq!(history.attempts().len(), campaign.kills);
    let measured = history.account();
    let (costs, step) = costs(&history, &killed);
    // The last kill ends what is looked at.
    let failures: Vec<f64> = killed[..killed.len() - 1].iter().map(|at| history.clock(*at)).collect();
    // Checkpoints strike at one phase or another: the average over many starts that differ by less than an interval.
    let mut simulated = [0.0; 4];
    let starts = 200;
    for start in 0..starts {
        let shift = 3.0 * (f64::from(start) / f64::from(starts) - 0.5);
        let failures: Vec<f64> = failures.iter().map(|at| (at + shift).max(0.0)).collect();
        let mut scheduler = Scheduler::new(Rules::default(), Belief::Job(campaign.mean_seconds), 1.0, Guess::default());
        scheduler.guess(Guess { cost: costs.cost, latency: costs.latency });
        let model = Model { costs, steps: Some(Steps { mean: step, spread: 0.0 }), ..Model::default() };
        let mut job = Simulation::new(model, Trace::new(&failures), scheduler, 1);
        let outcome = job.run(Until::time(measured.time));
        let parts = [outcome.checkpoints, outcome.lost, outcome.down + outcome.restarts, outcome.time - outcome.useful];
        for (sum, part) in simulated.iter_mut().zip(parts) {
            *sum += part / outcome.time / f64::from(starts);
        }
    }
    let parts = [
        measured.blocked + measured.slowed,
        measured.lost,
        measured.detecting + measured.down + measured.restarts,
        measured.time - measured.useful,
    ];
    println!(
        "{:?}, {RANKS} ranks, {} kills in {:.0} s, {} checkpoints; C {:.3} s, L {:.3} s, R {:.3} s, D {:.3} s, step {:.4} s",
        family(&program),
        campaign.kills,
        measured.time,
        measured.taken,
        costs.cost,
        costs.latency,
        costs.restart,
        costs.downtime,
        step
    );
    if let Some((_, schedule)) = history.attempts().last().and_then(|attempt| attempt.schedule()) {
        println!("{}", sentence(schedule));
    }
    // A few failures say little of where in an interval they strike, and a few checkpoints of a young job little of their cost.
    let tolerance = if long { 0.10 } else { 0.9 };
    let mut off = Vec::new();
    for (what, (part, simulated)) in ["checkpoints", "lost work", "down and restarting", "all waste"]
        .into_iter()
        .zip(parts.map(|part| part / measured.time).into_iter().zip(simulated))
    {
        let ratio = part / simulated;
        println!("{what}: {:.2} % measured, {:.2} % simulated, ratio {ratio:.3}", part * 100.0, simulated * 100.0);
        if (ratio - 1.0).abs() >= tolerance {
            off.push(what);
        }
    }
    assert!(off.is_empty(), "not as simulated, by more than {tolerance}: {off:?}");
}
