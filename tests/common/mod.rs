//! How tests find programs and run them: with a bound on their time, and none left behind.

#![allow(dead_code, reason = "every test uses a part of it")]

#[cfg(feature = "mpi")]
pub mod cluster;
#[path = "../support/skip.rs"]
mod skip;

#[allow(unused_imports, reason = "every test uses a part of it")]
pub use skip::skipped;
use std::io::Read;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

/// More than any program of the tests takes, on a busy machine.
pub const BOUND: Duration = Duration::from_secs(120);

/// Whether the long counts are wanted: `make prove` sets it.
pub fn is_long() -> bool {
    std::env::var_os("PITON_TEST_LONG").is_some_and(|value| value == "1")
}

/// A program that is running. Dropped, it is ended.
#[derive(Debug)]
pub struct Running {
    child: Child,
    what: String,
    stdout: Receiver<Vec<u8>>,
    stderr: Receiver<Vec<u8>>,
}

fn drain(mut pipe: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (send, receive) = channel();
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(len @ 1..) = pipe.read(&mut buffer) {
            if send.send(buffer[..len].to_vec()).is_err() {
                break;
            }
        }
    });
    receive
}

fn collect(from: &Receiver<Vec<u8>>) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Bounded, for a grandchild that outlives its parent keeps the pipe open.
    while let Ok(more) = from.recv_timeout(Duration::from_secs(5)) {
        bytes.extend(more);
    }
    bytes
}

impl Running {
    /// Starts `command`, in a process group of its own.
    pub fn start(mut command: Command) -> Self {
        let what = format!("{command:?}");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{what}: {error}"));
        let stdout = drain(child.stdout.take().expect("piped"));
        let stderr = drain(child.stderr.take().expect("piped"));
        Self { child, what, stdout, stderr }
    }

    /// The process's id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its exit status, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap_or_else(|error| panic!("{}: {error}", self.what))
    }

    /// Waits for its end, and panics with its output where that takes longer than `bound`.
    pub fn wait(mut self, bound: Duration) -> Output {
        let start = Instant::now();
        loop {
            if let Some(status) = self.ended() {
                return Output { status, stdout: collect(&self.stdout), stderr: collect(&self.stderr) };
            }
            if start.elapsed() > bound {
                self.end();
                let text = |from| String::from_utf8_lossy(&collect(from)).into_owned();
                let (stdout, stderr) = (text(&self.stdout), text(&self.stderr));
                panic!("{} took longer than {bound:?}\nstdout:\n{stdout}\nstderr:\n{stderr}", self.what);
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends it: politely first, so that a launcher can end its ranks, then for certain.
    pub fn end(&mut self) {
        use nix::sys::signal::{Signal, kill, killpg};
        if self.ended().is_some() {
            return;
        }
        let Ok(id) = i32::try_from(self.child.id()) else { return };
        let id = nix::unistd::Pid::from_raw(id);
        // It may end between the look and the signal; its id is not given away again before it is waited for.
        let _ = kill(id, Signal::SIGTERM);
        let start = Instant::now();
        while self.ended().is_none() && start.elapsed() < Duration::from_secs(5) {
            thread::sleep(Duration::from_millis(5));
        }
        if self.ended().is_none() {
            let _ = killpg(id, Signal::SIGKILL);
            let _ = self.child.wait();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// Runs `command` to its end, within `bound`.
pub fn run(command: Command, bound: Duration) -> Output {
    Running::start(command).wait(bound)
}

/// The family of MPI libraries that a program is linked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    OpenMpi,
    Mpich,
    Unknown,
}

/// Asks the loader which MPI `program` uses.
pub fn family(program: &Path) -> Family {
    let mut ldd = Command::new("ldd");
    ldd.arg(program);
    let text = String::from_utf8_lossy(&run(ldd, BOUND).stdout).into_owned();
    if text.contains("libmpich") {
        Family::Mpich
    } else if text.contains("libmpi.so") || text.contains("libopen-rte") {
        Family::OpenMpi
    } else {
        Family::Unknown
    }
}

/// The command that runs `program` with `ranks` ranks: the launcher is `PITON_TEST_MPIRUN`, or that of the MPI which the
/// program is linked to. Append the program's own arguments.
pub fn mpirun_command(ranks: usize, program: &Path) -> Command {
    let exists = |name: &str| {
        std::env::var_os("PATH")
            .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(name).exists()))
    };
    let launcher = std::env::var("PITON_TEST_MPIRUN").unwrap_or_else(|_| {
        let own = match family(program) {
            Family::OpenMpi => "mpirun.openmpi",
            Family::Mpich => "mpirun.mpich",
            Family::Unknown => "mpirun",
        };
        if exists(own) { own.to_owned() } else { "mpirun".to_owned() }
    });
    let mut words = launcher.split_whitespace();
    let mut command = Command::new(words.next().unwrap_or("mpirun"));
    command.args(words).arg("-n").arg(ranks.to_string()).arg(program);
    // Test machines have few cores, and containers run as root.
    command.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
    command.env("OMPI_MCA_rmaps_base_oversubscribe", "1");
    command
}

/// Runs `program` with `ranks` ranks to its end, within [`BOUND`].
pub fn mpirun(ranks: usize, program: &Path, arguments: &[&str]) -> Output {
    let mut command = mpirun_command(ranks, program);
    command.args(arguments);
    run(command, BOUND)
}

/// The example `name`, built with the features and the profile of this test, in its target folder.
pub fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    // <target>/<profile>/deps/<test>
    let profile_folder = test.ancestors().nth(2).expect("in a target folder");
    let features: Vec<&str> = [("mpi", cfg!(feature = "mpi")), ("ndarray", cfg!(feature = "ndarray"))]
        .into_iter()
        .filter_map(|(name, is_on)| is_on.then_some(name))
        .collect();
    build_example(name, profile_folder, &features.join(","))
}

/// The example `name`, built with these features in `<target>/<profile>`.
pub fn build_example(name: &str, profile_folder: &Path, features: &str) -> PathBuf {
    let target = profile_folder.parent().expect("in a target folder");
    let profile = match profile_folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(profile) => profile,
    };
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
    cargo.args(["build", "--quiet", "--example", name, "--profile", profile]).arg("--target-dir").arg(target);
    cargo.arg("--features").arg(features);
    // It may be there already, but nothing says that it is up to date; then this takes no time.
    let output = run(cargo, Duration::from_secs(1200));
    assert!(output.status.success(), "building {name}:\n{}", String::from_utf8_lossy(&output.stderr));
    profile_folder.join("examples").join(name)
}

/// The program `piton`, built without MPI.
pub fn piton() -> PathBuf {
    let named = std::env::var_os("PITON_TEST_PITON").map(PathBuf::from);
    let usual = || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/debug/piton");
    let path = named.unwrap_or_else(usual);
    assert!(
        path.exists(),
        "{} is not there: `cargo build -p piton-cli`, or name it in PITON_TEST_PITON",
        path.display()
    );
    path
}

/// What a program said, for messages.
pub fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}\nstdout:\n{}\nstderr:\n{}", output.status, text(&output.stdout), text(&output.stderr))
}

/// The processes of `program` that descend from `ancestor`.
pub fn descendants(ancestor: u32, program: &Path) -> Vec<i32> {
    let mut parents = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("a /proc").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        let parent =
            stat.rsplit_once(')').and_then(|(_, rest)| rest.split_ascii_whitespace().nth(1)?.parse::<u32>().ok());
        parents.extend(parent.map(|parent| (pid, parent)));
    }
    let mut family = vec![ancestor];
    let mut seen = 0;
    while seen < family.len() {
        let of = family[seen];
        family.extend(parents.iter().filter(|(_, parent)| *parent == of).map(|(pid, _)| *pid));
        seen += 1;
    }
    let runs = |pid: &u32| std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == program);
    family.into_iter().filter(runs).filter_map(|pid| i32::try_from(pid).ok()).collect()
}

/// What `piton report` tells of the job, and that an account which shares no code with it comes to the same.
pub fn reported(store: &Path, job: &str) -> serde_json::Value {
    let mut command = Command::new(piton());
    command.args(["--json", "--dir"]).arg(store).args(["report", job]);
    let output = run(command, BOUND);
    assert!(output.status.success(), "{}", said(&output));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let mut command = Command::new("python3");
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/account.py")).arg(store).arg(job);
    let output = run(command, BOUND);
    assert!(output.status.success(), "{}", said(&output));
    let other: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let part = |of: &serde_json::Value, name: &str| of["parts"][name].as_f64().expect("a number");
    let all = part(&report, "all");
    let names = ["useful", "blocked", "slowed", "lost", "detecting", "restarting", "waiting"];
    for name in names {
        let (ours, theirs) = (part(&report, name), part(&other, name));
        assert!((ours - theirs).abs() <= 1e-3 * all, "{name}: {ours} and {theirs} of {all}");
    }
    let sum: f64 = names.iter().map(|name| part(&report, name)).sum();
    assert!((sum - all).abs() <= 1e-3 * all, "{sum} of {all}");
    report
}
