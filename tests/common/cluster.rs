//! A real Slurm cluster of several nodes (`slurm/testbed/cluster.sh`), and jobs on it.

use super::{BOUND, Family, example, family, mpirun_command, piton, run, said, skipped};
use piton::journal::{self, Event};
use piton::medium::RealMedium;
use piton::store::{JobFolder, Store};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Clusters of this process so far.
static CLUSTERS: AtomicU32 = AtomicU32::new(0);
/// Final states of undisturbed jobs, by steps.
static UNDISTURBED: Mutex<BTreeMap<u64, String>> = Mutex::new(BTreeMap::new());

/// A cluster of four nodes, which is taken down at the end.
pub struct Cluster {
    folder: PathBuf,
    name: String,
    network: String,
    /// The MPI that jobs are linked with.
    pub family: Family,
    heat: PathBuf,
}

/// What is submitted.
#[derive(Clone, Copy, Default)]
pub struct Order<'a> {
    /// The job's name, and that of its store.
    pub name: &'a str,
    /// The program with its options, in the folder that all nodes share; empty: `heat`, by what follows.
    pub program: &'a str,
    /// How far it is to compute.
    pub steps: u64,
    /// Steps between two checkpoints.
    pub every: u64,
    /// The least time of a step, milliseconds.
    pub pace: u64,
    /// Ranks of a launch, and nodes that they are on.
    pub shape: (usize, usize),
    /// Nodes that the job gets; 0: all.
    pub nodes: usize,
    /// More options of `sbatch`, in the script; further lines are commands before the start.
    pub sbatch: &'a str,
    /// Options of `piton run`.
    pub options: &'a str,
}

impl Cluster {
    /// One that is up; `None`, with the reason written down, where this machine can't have one.
    pub fn up() -> Option<Self> {
        let (process, number) = (std::process::id(), CLUSTERS.fetch_add(1, Ordering::Relaxed));
        let heat = example("heat");
        let cluster = Self {
            folder: PathBuf::from(format!("/tmp/piton-testbed-{process}-{number}")),
            name: format!("pb{process}x{number}"),
            network: format!("10.{}.{}", 20 + process / 200 % 200, (process + number) % 200),
            family: family(&heat),
            heat,
        };
        let can = cluster.script(&["can"]);
        if !can.status.success() {
            skipped("a Slurm cluster of namespaces", String::from_utf8_lossy(&can.stderr).trim());
            return None;
        }
        let up = cluster.script(&["up"]);
        assert!(up.status.success(), "{}", said(&up));
        // The nodes see no /tmp and no folder of the host's below it.
        std::fs::create_dir_all(cluster.work()).expect("a shared folder");
        cluster.bring("heat", &cluster.heat);
        cluster.bring("piton", &piton());
        Some(cluster)
    }

    /// Brings a file to where all nodes see it.
    pub fn bring(&self, name: &str, from: &Path) {
        std::fs::copy(from, self.work().join(name)).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    }

    /// The folder that all nodes share, in which jobs are submitted.
    pub fn work(&self) -> PathBuf {
        self.folder.join("shared/work")
    }

    /// Calls `cluster.sh`.
    pub fn script(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("slurm/testbed/cluster.sh"));
        command.args(arguments);
        command.env("TESTBED", &self.folder).env("TESTBED_NAME", &self.name).env("TESTBED_NET", &self.network);
        // What a user's modules would set; Slurm passes it on to jobs.
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", self.work().display()));
        for (name, value) in [
            ("btl", "tcp,self,vader"),
            ("pml", "ob1"),
            ("btl_tcp_if_include", "eth0"),
            ("hwloc_base_binding_policy", "none"),
            ("mpi_yield_when_idle", "1"),
        ] {
            command.env(format!("OMPI_MCA_{name}"), value);
        }
        run(command, BOUND)
    }

    /// Calls `cluster.sh`, which must do it; what it prints.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let output = self.script(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Waits until the controller has written down all that has happened so far: it does so within some seconds, and knows no more when it comes back.
    pub fn has_saved(&self, job: &SlurmJob<'_>) {
        let saved = || std::fs::metadata(self.folder.join("state/job_state")).and_then(|data| data.modified()).ok();
        let before = std::time::SystemTime::now();
        self.ok(&["exec", "ctl", "scontrol", "update", &format!("JobId={}", job.id), "Comment=seen"]);
        job.until("the controller's notes", |_| saved().filter(|at| *at > before).map(drop));
    }

    /// Waits until all nodes are idle.
    pub fn rests(&self) {
        assert!(self.script(&["idle", "120"]).status.success(), "the cluster does not come to rest");
    }

    /// What comes out of so many steps where nothing happens; computed once.
    pub fn undisturbed(&self, steps: u64) -> String {
        let mut states = UNDISTURBED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let state = states.entry(steps).or_insert_with(|| {
            let mut plain = mpirun_command(2, &self.heat);
            plain.args(["--size", "512x384", "--every", "1000000", "--threads", "1", "--dir"]);
            plain.arg(self.work().join(format!("undisturbed-{steps}"))).args(["--steps", &steps.to_string()]);
            let output = run(plain, 3 * BOUND);
            let state = final_state(&String::from_utf8_lossy(&output.stdout));
            state.unwrap_or_else(|| panic!("{}", said(&output)))
        });
        state.clone()
    }

    /// Submits a job with a script of its own; nodes that a launch does not need are spares.
    pub fn submit(&self, order: Order<'_>) -> SlurmJob<'_> {
        let Order { name, steps, shape: (ranks, on), sbatch, options, .. } = order;
        let all = if order.nodes == 0 { 4 } else { order.nodes };
        let script = format!(
            "#!/bin/bash\n#SBATCH -N{all} --ntasks-per-node={each} -t 10 --open-mode=append {sbatch}\n\
             exec piton run --ranks {ranks} --spares {spares} {options} -- {program}\n",
            program = Self::program(&order).join(" "),
            each = ranks / on,
            spares = all - on,
        );
        let path = self.work().join(format!("{name}.sh"));
        std::fs::write(&path, script).expect("a script");
        self.sbatch(name, steps, Self::program(&order).swap_remove(0), &[&path.display().to_string()])
    }

    /// Submits a ready script of `slurm/`: `sbatch` has its options, which go before those of the script.
    pub fn submit_ready(&self, script: &str, order: Order<'_>) -> SlurmJob<'_> {
        self.bring(script, &Path::new(env!("CARGO_MANIFEST_DIR")).join("slurm").join(script));
        let mut words: Vec<String> = order.sbatch.split_ascii_whitespace().map(str::to_owned).collect();
        words.push(script.to_owned());
        words.extend(Self::program(&order));
        let program = Self::program(&order).swap_remove(0);
        self.sbatch(order.name, order.steps, program, &words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn program(order: &Order<'_>) -> Vec<String> {
        if !order.program.is_empty() {
            return order.program.split(' ').map(str::to_owned).collect();
        }
        let [steps, every, pace] = [order.steps, order.every, order.pace].map(|number| number.to_string());
        let words =
            ["./heat", "--size", "512x384", "--every", &every, "--threads", "1", "--steps", &steps, "--pace", &pace];
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn sbatch(&self, name: &str, steps: u64, program: String, words: &[&str]) -> SlurmJob<'_> {
        let work = self.work();
        let out = work.join(format!("{name}.out"));
        let (folder, file) = (work.display().to_string(), out.display().to_string());
        // Slurm hands on what `sbatch` has in its environment.
        let store = format!("PITON_DIR={name}");
        // MPICH 4.0 hangs in `MPI_Finalize` now and then.
        let linger = "PITON_LINGER_MAX=20s";
        let env = ["exec", "ctl", "env", &store, linger, "sbatch", "--parsable", "-D", &folder, "-o", &file];
        let all = [&env[..], words].concat();
        let id = self.ok(&all);
        SlurmJob { cluster: self, id: id.trim().to_owned(), store: work.join(name), out, program, steps }
    }
}

/// The line with the final state, where there is one.
pub fn final_state(text: &str) -> Option<String> {
    text.lines().rfind(|line| line.contains("final state: ")).map(str::to_owned)
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::env::var_os("PITON_TEST_KEEP").is_none() {
            let _ = self.script(&["down", "--purge"]);
        }
    }
}

/// A job that was submitted.
pub struct SlurmJob<'a> {
    cluster: &'a Cluster,
    /// Slurm's number of it.
    pub id: String,
    store: PathBuf,
    out: PathBuf,
    /// `./NAME`, where `NAME` is also what the program calls its job.
    program: String,
    steps: u64,
}

impl SlurmJob<'_> {
    fn job_name(&self) -> &str {
        self.program.trim_start_matches("./")
    }

    /// Its store.
    pub fn store(&self) -> &Path {
        &self.store
    }

    /// What it has printed.
    pub fn printed(&self) -> String {
        std::fs::read_to_string(&self.out).unwrap_or_default()
    }

    /// Its checkpoints.
    pub fn job(&self) -> JobFolder {
        Store::new(Arc::new(RealMedium::default()), &self.store).job(self.job_name()).expect("a good name")
    }

    /// What it has printed, and its journals with their times.
    pub fn story(&self) -> String {
        let mut journal = Command::new(piton());
        journal.args(["journal", self.job_name(), "--dir"]).arg(&self.store);
        format!("{}\n{}", self.printed(), said(&run(journal, BOUND)))
    }

    /// What its journals say.
    pub fn events(&self) -> Vec<Event> {
        let job = self.job();
        let claims = job.claims().unwrap_or_default();
        let journal = |epoch| journal::read(&RealMedium::default(), &job.epoch_folder(epoch));
        let journals = claims.into_iter().filter_map(|(epoch, _)| journal(epoch).ok());
        journals.flat_map(|journal| journal.records).map(|record| record.event).collect()
    }

    /// Waits until the newest attempt is writing a checkpoint.
    pub fn until_writing(&self) {
        let since = Instant::now();
        let job = self.job();
        let newest = || job.claims().ok()?.pop();
        let (epoch, _) = newest().expect("an attempt");
        let folder = job.epoch_folder(epoch);
        let is_open = |path: std::path::PathBuf| {
            let named = path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.parse::<u64>().is_ok());
            named && path.is_dir() && !path.join("manifest.json").exists()
        };
        let is_writing = || {
            let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
            entries.map(|entry| entry.path()).any(is_open)
        };
        while !is_writing() {
            assert!(since.elapsed() < BOUND, "no checkpoint is begun: {}", self.printed());
            thread::yield_now();
        }
    }

    /// Waits for something in its journals.
    pub fn until<T>(&self, what: &str, found: impl Fn(&[Event]) -> Option<T>) -> T {
        let since = Instant::now();
        loop {
            let look = Instant::now();
            if let Some(found) = found(&self.events()) {
                return found;
            }
            assert!(since.elapsed() < 2 * BOUND, "{what} does not come: {}", self.printed());
            // What is looked for must not starve for the looking.
            thread::sleep((3 * look.elapsed()).clamp(Duration::from_millis(10), Duration::from_millis(300)));
        }
    }

    /// Waits until it has printed something.
    pub fn until_printed(&self, text: &str) {
        self.until(text, |_| self.printed().contains(text).then_some(()));
    }

    /// How often Slurm has started it again, by what it prints.
    pub fn starts(&self) -> usize {
        self.printed().matches("piton run: launch 1: ").count()
    }

    /// Waits until Slurm has started it so many times.
    pub fn until_started(&self, times: usize) {
        self.until("another start", |_| (self.starts() >= times).then_some(()));
    }

    /// What Slurm says of it; empty where it knows it no more.
    pub fn state(&self) -> String {
        let said = self.cluster.script(&["exec", "ctl", "squeue", "-h", "-j", &self.id, "-o", "%T"]);
        String::from_utf8_lossy(&said.stdout).trim().to_owned()
    }

    /// How many failures were detected, and whether the job has computed since the last one.
    fn failures(events: &[Event]) -> (usize, bool) {
        let detected = |event: &Event| matches!(event, Event::FailureDetected { .. });
        let recovered = |event: &Event| matches!(event, Event::FailureRecovered { .. });
        // Those that follow each other before it has computed are recovered from together.
        let is_over = events.iter().rposition(recovered) >= events.iter().rposition(detected);
        (events.iter().filter(|event| detected(event)).count(), is_over)
    }

    /// Waits until the newest attempt computes and has committed a checkpoint, and no failure is open; how many there were.
    pub fn computing(&self) -> usize {
        self.until("a checkpoint of the newest attempt", |events| {
            let job = self.job();
            let (epoch, _) = job.claims().ok()?.pop()?;
            let catalogue = job.catalogue().ok()?;
            let committed = catalogue.candidates().any(|entry| entry.name.epoch == epoch && entry.manifest().is_some());
            let (detected, is_over) = Self::failures(events);
            (committed && is_over).then_some(detected)
        })
    }

    /// Waits until a failure after the first `before` was detected, and the job has computed again after it.
    pub fn recovered(&self, before: usize) {
        self.until("the recovery", |events| {
            let after =
                |event: &Event| matches!(event, Event::FailureRecovered { failure, .. } if *failure as usize > before);
            events.iter().any(after).then_some(())
        });
    }

    /// The numbers on the host of the ranks on a node.
    pub fn ranks_on(&self, node: &str) -> Vec<i32> {
        // Launchers have its name among their words.
        let name = format!("/{}", self.job_name());
        self.processes_on(node, |command| command.split(' ').next().is_some_and(|program| program.ends_with(&name)))
    }

    /// The numbers on the host of a node's processes with such command lines; none where it is off.
    pub fn processes_on(&self, node: &str, is: impl Fn(&str) -> bool) -> Vec<i32> {
        let first = self.cluster.folder.join("nodes").join(node).join("first");
        let first = std::fs::read_to_string(first).unwrap_or_default();
        let space = |number: &str| std::fs::read_link(format!("/proc/{number}/ns/pid")).ok();
        let Some(of_node) = space(first.trim()) else { return Vec::new() };
        let entries = std::fs::read_dir("/proc").expect("a /proc").flatten();
        let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let in_it = numbers.filter(|number| space(&number.to_string()).as_ref() == Some(&of_node));
        let command = |number: i32| {
            let words = std::fs::read(format!("/proc/{number}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&words).replace('\0', " ")
        };
        in_it.filter(|number| is(&command(*number))).collect()
    }

    /// Waits for the end; the line with the final state.
    pub fn ends(&self) -> Option<String> {
        let since = Instant::now();
        // One that was stopped tells its state, too.
        let at_the_end = format!("(step {})", self.steps);
        while !final_state(&self.printed()).is_some_and(|line| line.ends_with(&at_the_end)) {
            assert!(since.elapsed() < 3 * BOUND, "it does not end ({}): {}", self.state(), self.printed());
            thread::sleep(Duration::from_millis(50));
        }
        final_state(&self.printed())
    }

    /// Waits for the end, and holds what came out against an undisturbed run.
    pub fn ends_well(&self) {
        let (state, expected) = (self.ends(), self.cluster.undisturbed(self.steps));
        assert_eq!(state, Some(expected), "bit for bit: {}", self.printed());
    }
}

impl Drop for SlurmJob<'_> {
    fn drop(&mut self) {
        // Whatever a test that failed has left.
        self.cluster.script(&["exec", "ctl", "scancel", &self.id]);
    }
}
