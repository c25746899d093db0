//! `piton run`: launches a job, and launches it again when something happens to it.

use crate::Common;
use crate::exit::Outcome;
use crate::output::Output;
use anyhow::{Context, bail};
use piton::watch::Rules;
use piton_cli::supervise::allocation::{Allocation, srun_mpi};
use piton_cli::supervise::launcher::Launcher;
use piton_cli::supervise::policy::{self, Limits};
use piton_cli::supervise::{Options, run};
use std::ffi::OsString;
use std::path::PathBuf;

/// The status that says: it stopped with a checkpoint, run it again. `EX_TEMPFAIL` of sysexits.h.
const AGAIN: i32 = 75;
/// As shells have it for whoever was interrupted.
const STOPPED: i32 = 130;

/// Launch a job, watch it, and launch it again from its newest checkpoint whenever a rank dies or hangs
///
/// Inside of a Slurm job its nodes are used, and `srun` starts the ranks; otherwise, without --ranks, the program is started as it is: one rank. With it, the `mpirun` on the PATH starts the ranks (OpenMPI's and MPICH's are told
/// apart), or what --launcher names. Once interrupted (Ctrl-C, SIGTERM, SIGHUP, SIGUSR1) it asks for a checkpoint and ends; interrupted once more it ends
/// at once. SIGUSR2 asks for a checkpoint only.
///
/// It gives up where the program itself fails three times in a row at the same step, or before its first step, and where the settings
/// `launches_max` and `launches_per_hour` say so.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  piton run -- ./heat --size 512x512\n  piton run --ranks 4 --resume -- ./tsunami --steps 100000\n  \
                        piton run --ranks 4 --label --log-dir logs -- ./tsunami\n  \
                        piton run --ranks 8 --launcher 'flux run -n {ranks} {command}' -- ./tsunami\n\n\
                        Exit status: 0 the application came to its end (or its own status, where that is another); 75 it stopped with a checkpoint, \
                        run it again; 130 it was stopped at once; 127 it can't be started; 2 the command line or the configuration \
                        is wrong; otherwise it failed for good, with the program's own status or 1"
)]
pub struct Run {
    /// How many ranks
    #[arg(long, short = 'n', value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    ranks: Option<u32>,
    /// `direct`, the launcher's program, or a template with {ranks}, {hosts} and {command}; with --ranks `mpirun`
    #[arg(long, value_name = "LAUNCHER")]
    launcher: Option<String>,
    /// Nodes of the allocation that stand by until another one is lost
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    spares: u32,
    /// What `srun` is to start ranks for: `pmix` (OpenMPI), `pmi2` (MPICH), `none`; by itself, what the program is linked with
    #[arg(long, value_name = "KIND")]
    mpi: Option<String>,
    /// Where time or nodes run out, give the Slurm job back, to be started again
    #[arg(long)]
    requeue: bool,
    /// Go on from the newest checkpoint, where there is one; after a failure that is so anyway
    #[arg(long)]
    resume: bool,
    /// Begin each line that the job prints with its rank, where the launcher can
    #[arg(long)]
    label: bool,
    /// Keep what each launch prints there, in a file of its own
    #[arg(long, value_name = "DIR")]
    log_dir: Option<PathBuf>,
    /// The program, with its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

impl Run {
    /// Runs the job to its end.
    ///
    /// # Errors
    /// What is wrong with the configuration, the rule file or the launcher; where there are no sockets or threads.
    pub fn execute(&self, common: &Common, output: &Output) -> anyhow::Result<Outcome> {
        if output.is_json() {
            bail!("the output is the job's own; `piton status --json` and `piton journal --json` tell of it");
        }
        let settings = common.settings(None)?;
        let allocation = Allocation::of_process()?;
        let launcher = match (&self.launcher, &allocation, self.ranks) {
            (Some(name), ..) => Launcher::named(name)?,
            (None, Some(_), _) => Launcher::Srun(match (&self.mpi, self.command.first()) {
                (Some(mpi), _) => mpi.clone(),
                (None, Some(program)) => srun_mpi(program)?.to_owned(),
                (None, None) => bail!("which program?"),
            }),
            (None, None, Some(_)) => Launcher::named("mpirun")?,
            (None, None, None) => Launcher::Direct,
        };
        // Whatever starts processes on this node only needs no nodes.
        let nodes = match &allocation {
            Some(allocation) if launcher != Launcher::Direct => allocation.nodes.clone(),
            _ => Vec::new(),
        };
        let spares = self.spares as usize;
        if spares > 0 && spares >= nodes.len() {
            bail!("{spares} spare nodes of {} leave none to compute on", nodes.len().max(1));
        }
        let nodes_per_launch = nodes.len().max(1) - spares;
        let tasks = allocation.as_ref().and_then(|allocation| allocation.tasks).filter(|_| !nodes.is_empty());
        let per_node = |tasks: u32| tasks / u32::try_from(nodes.len()).unwrap_or(u32::MAX);
        let ranks = match (self.ranks, tasks) {
            (Some(ranks), _) => ranks,
            // What was asked for is of all nodes, spares among them.
            (None, Some(tasks)) if spares > 0 => per_node(tasks) * u32::try_from(nodes_per_launch).unwrap_or(u32::MAX),
            (None, Some(tasks)) => tasks,
            (None, None) => 1,
        };
        if launcher == Launcher::Direct && ranks > 1 {
            bail!("{ranks} ranks need a launcher: `direct` starts one process");
        }
        let options = Options {
            command: self.command.clone(),
            ranks,
            exactly: launcher != Launcher::Direct && (self.ranks.is_some() || tasks.is_some()),
            launcher,
            nodes,
            nodes_per_launch,
            resume: self.resume || allocation.as_ref().is_some_and(|allocation| allocation.restarts > 0),
            label: self.label,
            logs: self.log_dir.clone(),
            limits: Limits { launches: settings.launches_max, launches_per_hour: settings.launches_per_hour },
            quarantine_after: settings.quarantine_after,
            piton: std::env::current_exe().context("this program can't be found")?,
            rules: Rules::by(&settings)?.logs,
        };
        let status = match run(options)? {
            policy::Outcome::Finished(status) => status,
            policy::Outcome::Again { why, soon } => {
                match allocation.filter(|_| soon && self.requeue) {
                    Some(allocation) => match allocation.requeue() {
                        Ok(()) => eprintln!("piton run: {why}; Slurm starts job {} again when it can", allocation.job),
                        Err(error) => eprintln!("piton run: {why}; it can't be given back to Slurm: {error:#}"),
                    },
                    None => eprintln!("piton run: {why}; run it again to go on"),
                }
                AGAIN
            }
            policy::Outcome::Stopped => STOPPED,
            policy::Outcome::Failed { why, status } => {
                eprintln!("piton run: given up: {}", crate::output::safe(&why));
                match status {
                    Some(status) if status != 0 && status != AGAIN => status,
                    _ => 1,
                }
            }
        };
        // Nothing is left to do: the library has no such statuses.
        std::process::exit(status)
    }
}
