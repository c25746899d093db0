//! Real jobs on a real Slurm cluster of several nodes (`slurm/testbed/cluster.sh`), under `piton run`: a rank is killed or stopped, a node loses its
//! power or its network. The job goes on by itself, and ends with the bits of an undisturbed run.
//!
//! `PITON_TEST_LONG=1` strikes 20 times in each way instead of once. Where namespaces are not permitted, or Slurm is not installed, all of it is
//! skipped.
#![cfg(feature = "mpi")]

mod common;

use common::cluster::{Cluster, Order, SlurmJob};
use common::{Family, is_long};
use std::thread;
use std::time::{Duration, Instant};

/// How soon a job is to compute again, by what was done to it.
const KILLED: Duration = Duration::from_secs(2);
/// Known within two seconds, and computing within two.
const STOPPED: Duration = Duration::from_secs(4);
const LOST: Duration = Duration::from_secs(10);

/// How long it took, in seconds; where that is more than wanted, all that is known of it is printed, whether or not the test fails by it.
fn explained(job: &SlurmJob<'_>, took: Duration, bound: Duration) -> f64 {
    let seconds = took.as_secs_f64();
    if took > bound {
        println!("computing again after {seconds:.1} s, where {:.0} are wanted:\n{}", bound.as_secs_f64(), job.story());
    }
    seconds
}

fn tell(what: &str, family: Family, mut seconds: Vec<f64>, bound: Duration) {
    seconds.sort_by(f64::total_cmp);
    let (median, most) = (seconds[seconds.len() / 2], seconds[seconds.len() - 1]);
    println!("{family:?}, {what} × {}: computing again after {median:.1} s (median; most {most:.1} s)", seconds.len());
    // Beside other tests time says less.
    let allowed = if is_long() { bound } else { 3 * bound };
    assert!(median <= allowed.as_secs_f64(), "{what}: {seconds:?}");
}

#[test]
fn a_job_on_several_nodes_goes_on_whatever_is_lost() {
    let Some(cluster) = Cluster::up() else { return };
    let rounds = if is_long() { 20 } else { 1 };
    let (mut killed, mut stopped, mut lost, mut cut) = (vec![], vec![], vec![], vec![]);
    for round in 0..rounds {
        let steps = if cluster.family == Family::Mpich { 45_000 } else { 2500 };
        // MPICH's ranks spin while they wait. A node that is struck again and again is no worse than the others.
        let shape = if cluster.family == Family::Mpich { (2, 2) } else { (6, 3) };
        let sbatch = "--no-kill --export=ALL,PITON_QUARANTINE_AFTER=off";
        let name = format!("job-{round}");
        let job = cluster.submit(Order { name: &name, steps, every: 7, shape, sbatch, ..Order::default() });
        let strike = |times: &mut Vec<f64>, bound: Duration, what: &dyn Fn()| {
            let before = job.computing();
            what();
            let since = Instant::now();
            job.recovered(before);
            times.push(explained(&job, since.elapsed(), bound));
        };
        let signal = |node: &str, signal: nix::sys::signal::Signal| {
            let rank = *job.ranks_on(node).first().unwrap_or_else(|| panic!("no rank on {node}: {}", job.printed()));
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(rank), signal).expect("a rank of ours");
        };
        strike(&mut killed, KILLED, &|| signal("n2", nix::sys::signal::Signal::SIGKILL));
        strike(&mut stopped, STOPPED, &|| signal("n2", nix::sys::signal::Signal::SIGSTOP));
        strike(&mut lost, LOST, &|| drop(cluster.ok(&["power-off", "n2"])));
        job.ends_well();
        cluster.ok(&["power-on", "n2"]);
        cluster.rests();
        // A node that can't be reached, and comes back while its old ranks are still there.
        let name = format!("cut-{round}");
        let job = cluster.submit(Order { name: &name, steps, every: 7, shape, sbatch, ..Order::default() });
        let before = job.computing();
        let old = job.ranks_on("n2");
        assert!(!old.is_empty(), "{}", job.printed());
        cluster.ok(&["cut", "n2"]);
        let since = Instant::now();
        job.recovered(before);
        cut.push(explained(&job, since.elapsed(), LOST));
        cluster.ok(&["mend", "n2"]);
        job.ends_well();
        let since = Instant::now();
        while old.iter().any(|rank| piton::watch::process::start_ticks(rank.unsigned_abs()).is_some()) {
            assert!(since.elapsed() < common::BOUND, "ranks that were given up live on: {:?}", job.ranks_on("n2"));
            thread::sleep(Duration::from_millis(50));
        }
        cluster.rests();
    }
    tell("a rank killed", cluster.family, killed, KILLED);
    tell("a rank stopped", cluster.family, stopped, STOPPED);
    tell("a node's power lost", cluster.family, lost, LOST);
    tell("a node cut off", cluster.family, cut, LOST);
}
