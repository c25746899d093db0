//! Real jobs on a real Slurm cluster of several nodes (`slurm/testbed/cluster.sh`), under `piton run`: a rank is killed or stopped, a node loses its
//! power or its network, time runs out. The job goes on by itself, and ends with the bits of an undisturbed run.
//!
//! `PITON_TEST_LONG=1` strikes 20 times in each way instead of once. Where namespaces are not permitted, or Slurm is not installed, all of it is
//! skipped.
#![cfg(feature = "mpi")]

mod common;

use common::{Family, example, family, mpirun_command, run, said};
use piton::journal::{self, Event};
use piton::medium::RealMedium;
use piton::store::{JobFolder, Store};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

fn is_long() -> bool {
    std::env::var_os("PITON_TEST_LONG").is_some_and(|value| value == "1")
}

/// A cluster of four nodes, which is taken down at the end.
struct Cluster {
    folder: PathBuf,
    name: String,
    network: String,
    family: Family,
    heat: PathBuf,
    undisturbed: OnceLock<(u64, String)>,
}

impl Cluster {
    /// One that is up; `None`, with the reason written down, where this machine can't have one.
    fn up() -> Option<Self> {
        let number = std::process::id();
        let heat = example("heat");
        let cluster = Self {
            folder: PathBuf::from(format!("/tmp/piton-testbed-{number}")),
            name: format!("pb{number}"),
            network: format!("10.{}.{}", 20 + number / 200 % 200, number % 200),
            family: family(&heat),
            heat,
            undisturbed: OnceLock::new(),
        };
        let can = cluster.script(&["can"]);
        if !can.status.success() {
            common::skipped("a Slurm cluster of namespaces", String::from_utf8_lossy(&can.stderr).trim());
            return None;
        }
        let up = cluster.script(&["up"]);
        assert!(up.status.success(), "{}", said(&up));
        // The nodes see no /tmp and no folder of the host's below it.
        std::fs::create_dir_all(cluster.work()).expect("a shared folder");
        for (from, name) in [(cluster.heat.clone(), "heat"), (common::piton(), "piton")] {
            std::fs::copy(&from, cluster.work().join(name))
                .unwrap_or_else(|error| panic!("{}: {error}", from.display()));
        }
        Some(cluster)
    }

    fn work(&self) -> PathBuf {
        self.folder.join("shared/work")
    }

    fn script(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("slurm/testbed/cluster.sh"));
        command
            .args(arguments)
            .env("TESTBED", &self.folder)
            .env("TESTBED_NAME", &self.name)
            .env("TESTBED_NET", &self.network);
        run(command, common::BOUND)
    }

    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.script(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Ranks of a launch, and nodes that they are on.
    fn shape(&self) -> (usize, usize) {
        // MPICH's ranks spin while they wait.
        if self.family == Family::Mpich { (2, 2) } else { (6, 3) }
    }

    /// What comes out of so many steps where nothing happens; computed once.
    fn undisturbed(&self, steps: u64) -> String {
        let state = self.undisturbed.get_or_init(|| {
            let mut plain = mpirun_command(self.shape().0, &self.heat);
            plain.args(["--size", "512x384", "--every", "1000000", "--threads", "1", "--dir"]);
            plain.arg(self.work().join("undisturbed")).args(["--steps", &steps.to_string()]);
            let output = run(plain, 3 * common::BOUND);
            let state = final_state(&String::from_utf8_lossy(&output.stdout));
            (steps, state.unwrap_or_else(|| panic!("{}", said(&output))))
        });
        assert_eq!(state.0, steps, "one length for all jobs");
        state.1.clone()
    }

    /// Submits a job of all four nodes, of which those that a launch does not need are spares.
    fn submit(&self, name: &str, steps: u64, sbatch: &str, options: &str) -> SlurmJob<'_> {
        let (ranks, nodes) = self.shape();
        let (work, spares) = (self.work(), 4 - nodes);
        let script = format!(
            "#!/bin/bash\n#SBATCH -N4 --ntasks-per-node={per_node} -t 10 --no-kill --open-mode=append {sbatch}\n\
             export OMPI_MCA_btl=tcp,self,vader OMPI_MCA_pml=ob1 OMPI_MCA_btl_tcp_if_include=eth0\n\
             export OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_mpi_yield_when_idle=1\n\
             export PITON_QUARANTINE_AFTER=off\n             cd {work}\nexec ./piton run --ranks {ranks} --spares {spares} {options} -- \
             ./heat --size 512x384 --every 7 --threads 1 --dir {name} --steps {steps}\n",
            per_node = ranks / nodes,
            work = work.display(),
        );
        let (path, out) = (work.join(format!("{name}.sh")), work.join(format!("{name}.out")));
        std::fs::write(&path, script).expect("a script");
        let id = self.ok(&[
            "exec",
            "ctl",
            "sbatch",
            "--parsable",
            "-o",
            &out.display().to_string(),
            &path.display().to_string(),
        ]);
        SlurmJob { cluster: self, id: id.trim().to_owned(), store: work.join(name), out, steps }
    }
}

/// The line with the final state, where there is one.
fn final_state(text: &str) -> Option<String> {
    text.lines().rfind(|line| line.contains("final state: ")).map(str::to_owned)
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::env::var_os("PITON_TEST_KEEP").is_none() {
            let _ = self.script(&["down", "--purge"]);
        }
    }
}

struct SlurmJob<'a> {
    cluster: &'a Cluster,
    id: String,
    store: PathBuf,
    out: PathBuf,
    steps: u64,
}

impl SlurmJob<'_> {
    fn printed(&self) -> String {
        std::fs::read_to_string(&self.out).unwrap_or_default()
    }

    fn job(&self) -> JobFolder {
        Store::new(Arc::new(RealMedium::default()), &self.store).job("heat").expect("a good name")
    }

    fn events(&self) -> Vec<Event> {
        let job = self.job();
        let claims = job.claims().unwrap_or_default();
        let journal = |epoch| journal::read(&RealMedium::default(), &job.epoch_folder(epoch));
        let journals = claims.into_iter().filter_map(|(epoch, _)| journal(epoch).ok());
        journals.flat_map(|journal| journal.records).map(|record| record.event).collect()
    }

    fn until<T>(&self, what: &str, found: impl Fn(&[Event]) -> Option<T>) -> T {
        let since = Instant::now();
        loop {
            if let Some(found) = found(&self.events()) {
                return found;
            }
            assert!(since.elapsed() < common::BOUND, "{what} does not come: {}", self.printed());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Failures that were detected, and those of them after which the job has computed again.
    fn failures(events: &[Event]) -> (usize, usize) {
        let count = |is: fn(&Event) -> bool| events.iter().filter(|event| is(event)).count();
        (
            count(|event| matches!(event, Event::FailureDetected { .. })),
            count(|event| matches!(event, Event::FailureRecovered { .. })),
        )
    }

    /// Waits until the newest attempt computes and has committed a checkpoint, and no failure is open; how many there were.
    fn computing(&self) -> usize {
        self.until("a checkpoint of the newest attempt", |events| {
            let job = self.job();
            let (epoch, _) = job.claims().ok()?.pop()?;
            let catalogue = job.catalogue().ok()?;
            let committed = catalogue.candidates().any(|entry| entry.name.epoch == epoch && entry.manifest().is_some());
            let (detected, recovered) = Self::failures(events);
            // Failures of launches that never came to a step are recovered from together.
            let open = detected > recovered
                && !events.iter().any(
                    |event| matches!(event, Event::FailureRecovered { failure, .. } if *failure as usize == detected),
                );
            (committed && !open).then_some(detected)
        })
    }

    /// Waits until a failure after the first `before` was detected, and the job has computed again after it.
    fn recovered(&self, before: usize) {
        self.until("the recovery", |events| {
            let after =
                |event: &Event| matches!(event, Event::FailureRecovered { failure, .. } if *failure as usize > before);
            events.iter().any(after).then_some(())
        });
    }

    /// The numbers on the host of the ranks on a node.
    fn ranks_on(&self, node: &str) -> Vec<i32> {
        let listed = self.cluster.ok(&["pids", node]);
        let of = |line: &str| {
            let (number, command) = line.split_once(' ')?;
            (command.contains("/heat ") && !command.contains("piton run")).then(|| number.parse().ok())?
        };
        listed.lines().filter_map(of).collect()
    }

    /// Waits for the end, and holds what came out against an undisturbed run.
    fn ends_well(&self) {
        let since = Instant::now();
        while !self.printed().contains("final state: ") {
            assert!(since.elapsed() < 3 * common::BOUND, "it does not end: {}", self.printed());
            thread::sleep(Duration::from_millis(50));
        }
        let expected = self.cluster.undisturbed(self.steps);
        assert_eq!(final_state(&self.printed()), Some(expected), "bit for bit: {}", self.printed());
    }
}

impl Drop for SlurmJob<'_> {
    fn drop(&mut self) {
        // Whatever a test that failed has left.
        self.cluster.script(&["exec", "ctl", "scancel", &self.id]);
    }
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
        let job = cluster.submit(&format!("job-{round}"), steps, "", "");
        let strike = |times: &mut Vec<f64>, what: &dyn Fn()| {
            let before = job.computing();
            what();
            let since = Instant::now();
            job.recovered(before);
            times.push(since.elapsed().as_secs_f64());
        };
        let signal = |node: &str, signal: nix::sys::signal::Signal| {
            let rank = *job.ranks_on(node).first().unwrap_or_else(|| panic!("no rank on {node}: {}", job.printed()));
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(rank), signal).expect("a rank of ours");
        };
        strike(&mut killed, &|| signal("n2", nix::sys::signal::Signal::SIGKILL));
        strike(&mut stopped, &|| signal("n2", nix::sys::signal::Signal::SIGSTOP));
        strike(&mut lost, &|| drop(cluster.ok(&["power-off", "n2"])));
        job.ends_well();
        cluster.ok(&["power-on", "n2"]);
        assert!(cluster.script(&["idle", "120"]).status.success(), "the cluster does not come to rest");
        // A node that can't be reached, and comes back while its old ranks are still there.
        let job = cluster.submit(&format!("cut-{round}"), steps, "", "");
        let before = job.computing();
        let old = job.ranks_on("n2");
        assert!(!old.is_empty(), "{}", job.printed());
        cluster.ok(&["cut", "n2"]);
        let since = Instant::now();
        job.recovered(before);
        cut.push(since.elapsed().as_secs_f64());
        cluster.ok(&["mend", "n2"]);
        job.ends_well();
        let since = Instant::now();
        while old.iter().any(|rank| piton::watch::process::start_ticks(rank.unsigned_abs()).is_some()) {
            assert!(since.elapsed() < common::BOUND, "ranks that were given up live on: {:?}", job.ranks_on("n2"));
            thread::sleep(Duration::from_millis(50));
        }
        assert!(cluster.script(&["idle", "120"]).status.success(), "the cluster does not come to rest");
    }
    let seconds = Duration::from_secs;
    tell("a rank killed", cluster.family, killed, seconds(2));
    tell("a rank stopped", cluster.family, stopped, seconds(4));
    tell("a node's power lost", cluster.family, lost, seconds(10));
    tell("a node cut off", cluster.family, cut, seconds(10));
}
