//! The life of jobs under Slurm, from submission to requeue, on a real cluster of several nodes (`slurm/testbed/cluster.sh`): time runs out, others
//! take the nodes, the script's node is lost, the controller is away, failures follow each other, the supervisor is killed, a chain of
//! allocations does the work of one. Each job ends with the bits of an undisturbed run. The scripts are those of `slurm/` where it says so.
//!
//! `PITON_TEST_LONG=1` plays each 20 times, `PITON_TEST_ROUNDS=N` N times. Where namespaces are not permitted, or Slurm is not installed, all of it is
//! skipped.
#![cfg(feature = "mpi")]

mod common;

use common::cluster::{Cluster, Order, SlurmJob};
use common::{Family, is_long};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use piton::journal::Event;
use std::thread;
use std::time::{Duration, Instant};

fn rounds() -> usize {
    let said = std::env::var("PITON_TEST_ROUNDS").ok().and_then(|rounds| rounds.parse().ok());
    said.unwrap_or(if is_long() { 20 } else { 1 })
}

/// Plays a scene on a cluster of its own. Some, which wait for Slurm most of their time or look at what Slurm does, `make test` plays with OpenMPI alone.
fn play(is_slow: bool, scene: impl Fn(&Cluster, &str)) {
    let Some(cluster) = Cluster::up() else { return };
    if is_slow && cluster.family == Family::Mpich && !is_long() {
        return;
    }
    for round in 0..rounds() {
        scene(&cluster, &format!("job-{round}"));
        cluster.rests();
    }
}

/// Half a minute of computing, most of which processors have for others.
const STEPS: u64 = 3000;

fn order(name: &str) -> Order<'_> {
    let (sbatch, options) = ("--no-kill --requeue", "--requeue");
    Order { name, steps: STEPS, every: 20, pace: 10, shape: (2, 2), sbatch, options, ..Order::default() }
}

/// Kills a rank on a node, as soon as there is one.
fn strike(job: &SlurmJob<'_>, node: &str) {
    let since = Instant::now();
    // It may end by itself between the look and the signal.
    while job.ranks_on(node).first().is_none_or(|rank| kill(Pid::from_raw(*rank), Signal::SIGKILL).is_err()) {
        assert!(since.elapsed() < common::BOUND, "no rank on {node}: {}", job.printed());
        thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until no process of a job is left on any node.
fn nothing_is_left(job: &SlurmJob<'_>) {
    let since = Instant::now();
    for node in ["n1", "n2", "n3", "n4"] {
        let left = || job.processes_on(node, |command| command.contains("/heat ") || command.contains("piton agent"));
        while !left().is_empty() {
            assert!(since.elapsed() < common::BOUND, "on {node} lives on: {:#?}\n{}", told(&left()), job.story());
            thread::sleep(Duration::from_millis(50));
        }
    }
}

/// What processes do: their words, states, and where in the kernel their threads wait.
fn told(processes: &[i32]) -> Vec<String> {
    let read = |path: String| std::fs::read_to_string(path).unwrap_or_default();
    let told = |number: &i32| {
        let words = read(format!("/proc/{number}/cmdline")).replace('\0', " ");
        let status = read(format!("/proc/{number}/status"));
        let state = status.lines().find(|line| line.starts_with("State:")).unwrap_or("gone").to_owned();
        let threads = std::fs::read_dir(format!("/proc/{number}/task")).into_iter().flatten().flatten();
        let waits = threads.map(|thread| read(format!("{}/wchan", thread.path().display()))).collect::<Vec<_>>();
        format!("{number} {words}: {state}, {waits:?}")
    };
    processes.iter().map(told).collect()
}

fn has(events: &[Event], is: impl Fn(&Event) -> bool) -> bool {
    events.iter().any(is)
}

#[test]
fn time_that_runs_out_brings_a_checkpoint_and_another_start() {
    play(false, |cluster, name| {
        // The shortest limit that Slurm has; it gives its signal at once, or some seconds later.
        let sbatch = "--no-kill --requeue -t 1 --signal=B:USR1@50";
        let job = cluster.submit(Order { sbatch, ..order(name) });
        job.computing();
        job.until("a last checkpoint", |events| {
            has(events, |event| matches!(event, Event::Halted { .. })).then_some(())
        });
        job.until_started(2);
        cluster.script(&["exec", "ctl", "scontrol", "update", &format!("JobId={}", job.id), "TimeLimit=10"]);
        job.ends_well();
        assert!(job.printed().contains("piton: resumed from checkpoint"), "{}", job.printed());
        nothing_is_left(&job);
    });
}

#[test]
fn a_time_limit_without_a_word_before_it_leaves_time_for_a_checkpoint() {
    play(true, |cluster, name| {
        let job = cluster.submit(Order { sbatch: "--no-kill --requeue -t 1", steps: 10_000, ..order(name) });
        job.until_started(2);
        let halted = has(&job.events(), |event| matches!(event, Event::Halted { .. }));
        assert!(halted, "it stopped with a checkpoint: {}", job.printed());
        cluster.script(&["exec", "ctl", "scontrol", "update", &format!("JobId={}", job.id), "TimeLimit=30"]);
        job.ends_well();
    });
}

#[test]
fn a_job_that_is_cancelled_stays_so_with_a_checkpoint() {
    play(true, |cluster, name| {
        let job = cluster.submit(order(name));
        job.computing();
        cluster.ok(&["exec", "ctl", "scancel", &job.id]);
        job.until("a last checkpoint", |events| {
            has(events, |event| matches!(event, Event::Halted { .. })).then_some(())
        });
        // `srun` may take longer to end than Slurm gives the supervisor to say so.
        nothing_is_left(&job);
        job.until("the end of the job", |_| job.state().is_empty().then_some(()));
        assert_eq!(job.starts(), 1, "{}", job.printed());
        drop(job);
        cluster.rests();
        let job = cluster.submit(Order { options: "--resume", ..order(name) });
        job.ends_well();
    });
}

#[test]
fn a_job_that_comes_first_gets_the_nodes_after_a_checkpoint() {
    play(true, |cluster, name| {
        let sbatch = "-N4 --ntasks-per-node=1 --time=10 -p low";
        let job = cluster.submit_ready("preemptible.sh", Order { sbatch, ..order(name) });
        job.computing();
        let work = cluster.work().display().to_string();
        let first = ["sbatch", "--parsable", "-D", &work, "-p", "high", "-N4", "--exclusive", "--wrap", "sleep 1"];
        cluster.ok(&[&["exec", "ctl"][..], &first].concat());
        job.until("the word to its ranks", |events| {
            has(events, |event| matches!(event, Event::RequestSeen { what } if what == "signal SIGTERM")).then_some(())
        });
        job.until_started(2);
        let halted = has(&job.events(), |event| matches!(event, Event::Halted { .. }));
        assert!(halted, "it stopped with a checkpoint: {}", job.printed());
        job.ends_well();
        nothing_is_left(&job);
    });
}

#[test]
fn the_loss_of_the_scripts_node_brings_another_start() {
    play(true, |cluster, name| {
        // With `--no-kill` Slurm would hold the nodes without a script; without it, Slurm starts the job again.
        let ways = ["--no-kill --requeue", "--requeue"];
        for sbatch in &ways[..if is_long() { 2 } else { 1 }] {
            let name = format!("{name}-{}", sbatch.len());
            let order = Order { sbatch, nodes: 3, steps: 2 * STEPS, ..order(&name) };
            let job = cluster.submit(order);
            job.computing();
            cluster.ok(&["power-off", "n1"]);
            job.until_started(2);
            cluster.ok(&["power-on", "n1"]);
            job.ends_well();
            assert!(job.printed().contains("piton: resumed from checkpoint"), "{}", job.printed());
            cluster.rests();
        }
    });
}

#[test]
fn a_controller_that_is_away_disturbs_nobody() {
    play(false, |cluster, name| {
        let job = cluster.submit(order(name));
        job.computing();
        cluster.has_saved(&job);
        cluster.ok(&["power-off", "ctl"]);
        let committed = || {
            job.job()
                .catalogue()
                .map_or(0, |catalogue| catalogue.candidates().map(|entry| entry.name.id.0).max().unwrap_or(0))
        };
        let before = committed();
        job.until("more checkpoints", |_| (committed() > before + 5).then_some(()));
        cluster.ok(&["power-on", "ctl"]);
        job.ends_well();
        let failed = has(&job.events(), |event| matches!(event, Event::FailureDetected { .. }));
        assert!(!failed, "nothing has failed: {}", job.printed());
    });
}

#[test]
fn failures_that_follow_each_other_are_all_recovered_from() {
    play(false, |cluster, name| {
        let job = cluster.submit(order(name));
        let before = job.computing();
        strike(&job, "n2");
        // As soon as ranks of the next launch are there: most have not computed, some are still resuming.
        job.until_printed("piton run: launch 2: ");
        strike(&job, "n1");
        job.until_printed("piton run: launch 3: ");
        cluster.ok(&["power-off", "n2"]);
        job.recovered(before);
        job.computing();
        // While a checkpoint is being written.
        job.until_writing();
        strike(&job, "n1");
        job.ends_well();
        cluster.ok(&["power-on", "n2"]);
        nothing_is_left(&job);
    });
}

#[test]
fn an_agent_that_is_killed_is_replaced_before_its_node_is_missed() {
    play(false, |cluster, name| {
        let job = cluster.submit(order(name));
        let before = job.computing();
        let agents = || job.processes_on("n2", |command| command.contains("piton agent --supervisor"));
        let killed = agents();
        assert!(!killed.is_empty(), "{}", job.printed());
        killed.iter().for_each(|agent| kill(Pid::from_raw(*agent), Signal::SIGKILL).expect("an agent of ours"));
        job.until("another agent", |_| agents().iter().any(|agent| !killed.contains(agent)).then_some(()));
        job.until_printed("the agent of node n2 has ended");
        // The new one watches as the old one did, and the node was never missed.
        strike(&job, "n2");
        job.recovered(before);
        let lost =
            has(&job.events(), |event| matches!(event, Event::FailureDetected { class, .. } if class == "NodeLost"));
        assert!(!lost, "{}", job.printed());
        job.ends_well();
        nothing_is_left(&job);
    });
}

#[test]
fn an_agent_that_is_stopped_is_replaced_and_its_node_is_not_lost() {
    play(false, |cluster, name| {
        let job = cluster.submit(order(name));
        let before = job.computing();
        let agents = || job.processes_on("n2", |command| command.contains("piton agent --supervisor"));
        // What `srun` starts on the node may have a process of its own with the same words: all are stopped.
        let stopped = agents();
        assert!(!stopped.is_empty(), "{}", job.printed());
        stopped.iter().for_each(|agent| kill(Pid::from_raw(*agent), Signal::SIGSTOP).expect("an agent of ours"));
        job.until_printed("nothing is heard of the agent of node n2");
        // The one that comes ends the one before, so that the two do not take turns.
        job.until("the old agent's end", |_| {
            let now = agents();
            (!now.is_empty() && stopped.iter().all(|agent| !now.contains(agent))).then_some(())
        });
        let lost =
            has(&job.events(), |event| matches!(event, Event::FailureDetected { class, .. } if class == "NodeLost"));
        assert!(!lost, "{}", job.printed());
        // The new one watches as the old one did.
        strike(&job, "n2");
        job.recovered(before);
        job.ends_well();
        nothing_is_left(&job);
    });
}

#[test]
fn a_supervisor_that_is_killed_takes_its_ranks_along_and_the_next_one_goes_on() {
    play(false, |cluster, name| {
        let job = cluster.submit(order(name));
        job.computing();
        let supervisor = job.processes_on("n1", |command| command.starts_with("piton run "));
        assert_eq!(supervisor.len(), 1, "{}", job.printed());
        kill(Pid::from_raw(supervisor[0]), Signal::SIGKILL).expect("a supervisor of ours");
        nothing_is_left(&job);
        drop(job);
        cluster.rests();
        let job = cluster.submit(Order { options: "--resume", ..order(name) });
        job.ends_well();
        assert!(job.printed().contains("piton: resumed from checkpoint"), "{}", job.printed());
    });
}

#[test]
fn a_chain_of_allocations_with_failures_in_each_finishes_by_itself() {
    play(true, |cluster, name| {
        let base = "-N3 --ntasks-per-node=1 --signal=B:USR1@50 -J chain";
        let link = |minutes: u32| {
            let sbatch = format!("{base} --time={minutes}");
            cluster.submit_ready("chain.sh", Order { sbatch: &sbatch, steps: 2 * STEPS, ..order(name) })
        };
        let links: Vec<SlurmJob<'_>> = [1, 1, 10].map(link).into();
        // One file for all, by its name.
        let job = &links[2];
        for link in 1..=3 {
            job.until_started(link);
            strike(job, "n1");
        }
        job.ends_well();
        assert_eq!(job.starts(), 3, "{}", job.printed());
        assert!(job.printed().matches("run it again to go on").count() >= 2, "{}", job.printed());
    });
}

#[test]
fn without_a_spare_it_goes_on_with_more_ranks_a_node_or_waits_for_nodes() {
    play(true, |cluster, name| {
        // With leave, on the nodes that are left.
        let crowded = format!("{name}-crowded");
        let options = "--oversubscribe --requeue";
        let job = cluster.submit(Order { options, nodes: 2, ..order(&crowded) });
        let before = job.computing();
        cluster.ok(&["power-off", "n2"]);
        let since = Instant::now();
        job.recovered(before);
        let seconds = since.elapsed().as_secs_f64();
        println!("{:?}: computing again on fewer nodes after {seconds:.1} s", cluster.family);
        job.ends_well();
        drop(job);
        cluster.ok(&["power-on", "n2"]);
        cluster.rests();
        // Without, Slurm gives it others.
        let job = cluster.submit(Order { nodes: 2, ..order(name) });
        job.computing();
        cluster.ok(&["power-off", "n2"]);
        job.until_started(2);
        job.ends_well();
        cluster.ok(&["power-on", "n2"]);
    });
}

#[test]
fn a_sites_own_launchers_do_as_well() {
    play(true, |cluster, name| {
        // As where there is no Slurm: the nodes, and what starts ranks and agents on them, are given.
        let mpi = if cluster.family == Family::Mpich { "pmi2" } else { "pmix" };
        let options = format!(
            "--hosts n1,n2,n3 --launcher 'srun --overlap -K --mpi={mpi} -N 2 -w {{hosts}} -n {{ranks}} {{command}}' \
             --agents 'srun --overlap --mem=0 --mpi=none --no-kill -K0 -N {{nodes}} -n {{nodes}} -w {{hosts}} {{command}}'"
        );
        let sbatch = "--no-kill\nunset SLURM_JOB_NODELIST";
        let job = cluster.submit(Order { nodes: 3, sbatch, options: &options, ..order(name) });
        let before = job.computing();
        strike(&job, "n2");
        job.recovered(before);
        let before = job.computing();
        cluster.ok(&["power-off", "n2"]);
        job.recovered(before);
        job.ends_well();
        cluster.ok(&["power-on", "n2"]);
        nothing_is_left(&job);
    });
}

#[test]
fn ready_scripts_run_as_they_are() {
    play(false, |cluster, name| {
        let script = if cluster.family == Family::Mpich { "mpich.sh" } else { "openmpi.sh" };
        let sbatch = "-N3 --ntasks-per-node=1 --time=10";
        let job = cluster.submit_ready(script, Order { sbatch, ..order(name) });
        let before = job.computing();
        strike(&job, "n1");
        job.recovered(before);
        job.ends_well();
        drop(job);
        // One process for each task of an array, and one alone; neither knows of any MPI.
        cluster.bring("heat", &without_mpi());
        let (alone, tasks) = (format!("{name}-alone"), format!("{name}-tasks"));
        let few = Order { steps: 300, ..order(&alone) };
        let alone = cluster.submit_ready("rayon.sh", Order { sbatch: "--cpus-per-task=2 --time=10", ..few });
        alone.ends_well();
        let sbatch = "--cpus-per-task=1 --time=10 --array=1-3%2";
        let tasks = cluster.submit_ready("array.sh", Order { name: &tasks, sbatch, ..few });
        let finished = || tasks.printed().matches("final state: ").count();
        tasks.until("the end of all tasks", |_| (finished() == 3).then_some(()));
        cluster.bring("heat", &common::example("heat"));
    });
}

/// The example `heat`, built without MPI.
fn without_mpi() -> std::path::PathBuf {
    let debug = common::piton().parent().expect("in a target folder").to_path_buf();
    common::build_example("heat", &debug, "ndarray")
}
