//! The command line, and the launch of the ranks.

use super::Outcome;
use piton::shard::Compression;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Set for the ranks: the folder that all of them use.
const SCRATCH: &str = "PITON_BENCH_SCRATCH";

const HELP: &str = "\
What a checkpoint costs a job, and the way back.

  --ranks N             MPI ranks [2]
  --mib N               state of each rank in MiB [256]
  --dir DIR             where checkpoints and controls are written, in a folder that is removed again [target/tmp]
  --runs N              how often everything is measured [7]
  --threads N           threads of a rank that copy, encode and compute [cores shared among ranks]
  --data KIND           tsunami, random or zeros [tsunami]
  --changed SHARE       share of the state's pages that change from one checkpoint to the next: 1.0, 0.1, 0.01 [1.0]
  --pattern KIND        where these are: scattered evenly, or a band of neighbours that moves on [scattered]
  --size NXxNY          cells of the sea that is computed, and grown to --mib [1024x776]
  --limit-mbps N        storage of all ranks together that takes N MB/s at most: the setting bandwidth_max of each is
                        its share of that, and the controls write no faster [no limit]
  --staging-max SIZE    the setting staging_max: memory for the copy of the state, such as 16MiB for each rank,
                        or 25% of the node's for all of them [auto]
  --busy                leave no core free: threads that only keep busy run on those that ranks do not compute on
  --json                one JSON line instead of a table
  --piton.KEY=VALUE     any setting of Piton";

/// What the state is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Data {
    Tsunami,
    Random,
    Zeros,
}

impl Data {
    pub fn name(self) -> &'static str {
        match self {
            Self::Tsunami => "tsunami",
            Self::Random => "random",
            Self::Zeros => "zeros",
        }
    }
}

/// Where the pages are that change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pattern {
    /// Neighbours, at a place that moves on.
    Band,
    /// Anywhere, evenly spread.
    Scattered,
}

impl Pattern {
    pub fn name(self) -> &'static str {
        match self {
            Self::Band => "band",
            Self::Scattered => "scattered",
        }
    }
}

#[derive(Debug)]
pub struct Arguments {
    pub ranks: usize,
    pub mib: usize,
    pub runs: usize,
    pub threads: Option<usize>,
    pub data: Data,
    pub size: [usize; 2],
    /// Of the pages, from one checkpoint to the next.
    pub changed: f64,
    pub pattern: Pattern,
    /// MB/s of the storage of all ranks together.
    pub limit_mbps: Option<usize>,
    pub staging_max: Option<String>,
    pub busy: bool,
    pub json: bool,
    dir: PathBuf,
    piton: Vec<String>,
}

/// What the process is to do.
pub enum Command {
    Help(&'static str),
    /// Start the ranks.
    Launch(Arguments),
    /// Be one of them.
    Measure(Arguments, PathBuf),
}

impl Command {
    pub fn of_process() -> Outcome<Self> {
        let mut arguments = Arguments {
            ranks: 2,
            mib: 256,
            runs: 7,
            threads: None,
            data: Data::Tsunami,
            size: [1024, 776],
            changed: 1.0,
            pattern: Pattern::Scattered,
            limit_mbps: None,
            staging_max: None,
            busy: false,
            json: false,
            dir: PathBuf::from(env!("CARGO_TARGET_TMPDIR")),
            piton: Vec::new(),
        };
        let mut list = std::env::args().skip(1);
        while let Some(flag) = list.next() {
            let mut value = || list.next().ok_or_else(|| format!("{flag} needs a value"));
            match flag.as_str() {
                "--ranks" => arguments.ranks = count(&flag, &value()?)?,
                "--mib" => arguments.mib = count(&flag, &value()?)?,
                "--runs" => arguments.runs = count(&flag, &value()?)?,
                "--threads" => arguments.threads = Some(count(&flag, &value()?)?),
                "--dir" => arguments.dir = value()?.into(),
                "--json" => arguments.json = true,
                "--busy" => arguments.busy = true,
                "--limit-mbps" => arguments.limit_mbps = Some(count(&flag, &value()?)?),
                "--staging-max" => arguments.staging_max = Some(value()?),
                "--changed" => arguments.changed = share(&flag, &value()?)?,
                "--pattern" => {
                    arguments.pattern = match value()?.as_str() {
                        "band" => Pattern::Band,
                        "scattered" => Pattern::Scattered,
                        other => return Err(format!("--pattern wants band or scattered, not '{other}'").into()),
                    }
                }
                "--size" => {
                    let text = value()?;
                    let [nx, ny] = text.split('x').collect::<Vec<_>>()[..] else {
                        return Err(format!("--size wants NXxNY, not '{text}'").into());
                    };
                    arguments.size = [count(&flag, nx)?, count(&flag, ny)?];
                }
                "--data" => {
                    arguments.data = match value()?.as_str() {
                        "tsunami" => Data::Tsunami,
                        "random" => Data::Random,
                        "zeros" => Data::Zeros,
                        other => return Err(format!("--data wants tsunami, random or zeros, not '{other}'").into()),
                    }
                }
                "--help" => return Ok(Self::Help(HELP)),
                // What cargo adds.
                "--bench" => {}
                _ if flag.starts_with("--piton.") => arguments.piton.push(flag),
                _ => return Err(format!("unknown argument {flag}; try --help").into()),
            }
        }
        Ok(match std::env::var_os(SCRATCH) {
            Some(scratch) => Self::Measure(arguments, scratch.into()),
            None => Self::Launch(arguments),
        })
    }
}

impl Arguments {
    /// The settings of Piton among the arguments.
    pub fn for_piton(&self) -> &[String] {
        &self.piton
    }

    /// How many bytes a second one rank may write, where that is limited.
    pub fn bytes_per_second(&self) -> Option<u64> {
        self.limit_mbps.map(|all| (all as u64 * 1_000_000 / self.ranks as u64).max(1))
    }

    /// How the controls encode: as the checkpoints do.
    pub fn compression(&self) -> Compression {
        let set = self.piton.iter().rev().find_map(|argument| argument.strip_prefix("--piton.compression="));
        match set.map(|value| (value, value.parse())) {
            Some((_, Ok(level))) => Compression::Zstd(level),
            Some(("raw", _)) => Compression::Raw,
            _ => Compression::Auto,
        }
    }
}

fn count(flag: &str, text: &str) -> Outcome<usize> {
    match text.parse() {
        Ok(number @ 1..) => Ok(number),
        _ => Err(format!("{flag} wants a number, at least 1, not '{text}'").into()),
    }
}

fn share(flag: &str, text: &str) -> Outcome<f64> {
    match text.parse() {
        Ok(share) if share > 0.0 && share <= 1.0 => Ok(share),
        _ => Err(format!("{flag} wants a share above 0, at most 1, not '{text}'").into()),
    }
}

/// The family of MPI libraries that this program is linked to, as the loader says.
pub fn family_of_this_program() -> &'static str {
    let loaded = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    if loaded.contains("libmpich") {
        "MPICH"
    } else if loaded.contains("libmpi.so") {
        "OpenMPI"
    } else {
        "MPI"
    }
}

fn is_on_path(name: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(name).exists()))
}

/// Starts this program once more with ranks, and removes afterwards what they wrote.
pub fn launch(arguments: &Arguments) -> ExitCode {
    match run(arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("job: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Outcome<ExitCode> {
    std::fs::create_dir_all(&arguments.dir).map_err(|error| format!("{}: {error}", arguments.dir.display()))?;
    let scratch = tempfile::Builder::new().prefix("job-").tempdir_in(std::path::absolute(&arguments.dir)?)?;
    let own = match family_of_this_program() {
        "MPICH" => "mpirun.mpich",
        "OpenMPI" => "mpirun.openmpi",
        _ => "mpirun",
    };
    let launcher = if is_on_path(own) { own } else { "mpirun" };
    let mut command = std::process::Command::new(launcher);
    command.arg("-n").arg(arguments.ranks.to_string()).arg(std::env::current_exe()?).args(std::env::args_os().skip(1));
    command.env(SCRATCH, scratch.path());
    // OpenMPI refuses root, and more ranks than cores, unless it is told twice.
    command.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
    command.env("OMPI_MCA_rmaps_base_oversubscribe", "1");
    let status = command.status().map_err(|error| format!("{launcher}: {error}"))?;
    remove(scratch.path());
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Also tells where that does not work: what stays is large.
fn remove(folder: &Path) {
    if let Err(error) = std::fs::remove_dir_all(folder) {
        eprintln!("job: {} stays: {error}", folder.display());
    }
}
