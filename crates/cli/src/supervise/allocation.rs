//! The nodes that a batch system gave the job.
//!
//! Comes in: the environment, and what Slurm's programs say. Goes out: the nodes, and which kind of MPI a program is linked with. What must hold: what can't be
//! found out is asked for by a clear message, never guessed.

use crate::bounded;
use anyhow::{Context, bail};
use std::ffi::OsStr;
use std::process::Command;
use std::time::Duration;

/// How long Slurm's programs, and the loader, may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);
const LONGEST: usize = 4 << 20;

/// What Slurm gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allocation {
    /// The batch job.
    pub job: String,
    /// Its nodes.
    pub nodes: Vec<String>,
    /// How many tasks it was submitted for, where that was said.
    pub tasks: Option<u32>,
    /// How often Slurm has started it again.
    pub restarts: u32,
}

fn ask(program: &str, arguments: &[&OsStr]) -> anyhow::Result<String> {
    let mut command = Command::new(program);
    command.args(arguments);
    let ran =
        bounded::run(command, Vec::new(), PATIENCE, LONGEST).with_context(|| format!("{program} can't be run"))?;
    match ran.status {
        Some(status) if status.success() => Ok(String::from_utf8_lossy(&ran.printed).into_owned()),
        Some(status) => bail!("{program} failed ({status}): {}", String::from_utf8_lossy(&ran.complained).trim()),
        None => bail!("{program} has not answered for {} s", PATIENCE.as_secs()),
    }
}

impl Allocation {
    /// The allocation that this process runs in; `None`: it is in none.
    ///
    /// # Errors
    /// It is in one, and its nodes can't be learnt.
    pub fn of_process() -> anyhow::Result<Option<Self>> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let (Some(job), Some(list)) = (variable("SLURM_JOB_ID"), variable("SLURM_JOB_NODELIST")) else {
            return Ok(None);
        };
        let number = |name: &str| variable(name).and_then(|value| value.parse().ok());
        let names = ask("scontrol", &["show".as_ref(), "hostnames".as_ref(), list.as_ref()])
            .context("the nodes of this Slurm job can't be learnt")?;
        let nodes: Vec<String> = names.split_ascii_whitespace().map(str::to_owned).collect();
        if nodes.is_empty() {
            bail!("Slurm names no nodes of this job ({list})");
        }
        Ok(Some(Self {
            job,
            nodes,
            tasks: number("SLURM_NTASKS"),
            restarts: number("SLURM_RESTART_COUNT").unwrap_or(0),
        }))
    }

    /// Gives the job back to Slurm, which starts it again when it can.
    ///
    /// # Errors
    /// `scontrol` fails, or takes too long.
    pub fn requeue(&self) -> anyhow::Result<()> {
        ask("scontrol", &["requeue".as_ref(), self.job.as_ref()]).map(drop)
    }
}

/// Which `--mpi` of `srun` fits the program: by the MPI library that it is linked with.
///
/// # Errors
/// The loader can't tell: the program is a script, or is linked statically.
pub fn srun_mpi(program: &OsStr) -> anyhow::Result<&'static str> {
    let said = ask("ldd", &[program]).unwrap_or_default();
    match () {
        () if said.contains("libmpich") || said.contains("libmpi.so.12") => Ok("pmi2"),
        () if said.contains("libmpi.so") || said.contains("libpmix") => Ok("pmix"),
        () => bail!(
            "{} names no MPI library that is known: say by --mpi which kind `srun` is to start (pmix for OpenMPI, pmi2 for MPICH, none)",
            program.display()
        ),
    }
}
