//! `piton run`: launches a job, and launches it again when something happens to it.

use super::serve::{self, Whose};
use crate::Common;
use crate::exit::Outcome;
use crate::output::Output;
use anyhow::{Context, bail};
use piton::config::{Listen, Settings};
use piton::watch::{Rules, process};
use piton_cli::observe::Live;
use piton_cli::observe::http::Server;
use piton_cli::slurm;
use piton_cli::supervise::allocation::{Allocation, nodes_in, nodes_of_site, srun_mpi};
use piton_cli::supervise::launcher::{AgentStarter, Launcher};
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
/// Inside of a Slurm job its nodes are used, and `srun` starts the ranks, or, of a job of one rank without MPI, nothing does; otherwise, without --ranks, the program is started as it is: one rank. With it, the `mpirun` on the PATH starts the ranks (OpenMPI's and MPICH's are told
/// apart), or what --launcher names. Once interrupted (Ctrl-C, SIGTERM, SIGHUP, SIGUSR1) it asks for a checkpoint and ends; interrupted once more it ends
/// at once. SIGUSR2 asks for a checkpoint only.
///
/// It gives up where the program itself fails three times in a row at the same step, or before its first step, and where the settings
/// `launches_max` and `launches_per_hour` say so.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  piton run -- ./heat --size 512x512\n  piton run --ranks 4 --resume -- ./tsunami --steps 100000\n  \
                        piton run --ranks 4 --label --log-dir logs -- ./tsunami\n  \
                        piton run --nodes 4 --ranks-per-node 32 --requeue -- ./tsunami\n  \
                        piton run --ranks 8 --launcher 'flux run -n {ranks} {command}' -- ./tsunami\n  \
                        piton run --ranks 64 --hosts n1,n2,n3 --spares 1 -- ./tsunami\n\n\
                        Exit status: 0 the application came to its end (or its own status, where that is another); 75 it stopped with a checkpoint, \
                        run it again; 130 it was stopped at once; 127 it can't be started; 2 the command line or the configuration \
                        is wrong; otherwise it failed for good, with the program's own status or 1"
)]
pub struct Run {
    /// How many ranks
    #[arg(long, short = 'n', value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    ranks: Option<u32>,
    /// How many nodes of the allocation compute; the others are spares
    #[arg(long, short = 'N', value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=1_000_000), conflicts_with = "spares")]
    nodes: Option<u32>,
    /// How many ranks each of them gets, in place of --ranks
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=100_000), conflicts_with = "ranks")]
    ranks_per_node: Option<u32>,
    /// `direct`, the launcher's program, or a template with {ranks}, {hosts} and {command}; with --ranks `mpirun`
    #[arg(long, value_name = "LAUNCHER")]
    launcher: Option<String>,
    /// Nodes of the allocation that stand by until another one is lost
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    spares: u32,
    /// The nodes, where that is not Slurm's to say (PBS and LSF are asked by themselves): NODE,NODE... or @FILE with one a line; the spares last
    #[arg(long, value_name = "NODES")]
    hosts: Option<String>,
    /// What starts an agent on each node, where neither `srun` nor `mpirun` does: a template with {hosts}, {nodes} and {command}
    #[arg(long, value_name = "TEMPLATE")]
    agents: Option<String>,
    /// Where too few nodes are left, give those that are left more ranks, in place of giving up
    #[arg(long)]
    oversubscribe: bool,
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

/// How many ranks a launch has, on how many nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shape {
    ranks: u32,
    nodes: usize,
    /// Somebody said how many ranks.
    is_said: bool,
}

impl Run {
    /// By what the user says, and the nodes and tasks that the batch system gave; no nodes: this one alone.
    fn shape(&self, (available, tasks): (usize, Option<u32>)) -> anyhow::Result<Shape> {
        let all = available.max(1);
        let nodes = match self.nodes {
            Some(nodes) if nodes as usize > all => bail!("--nodes {nodes}, and {all} are there"),
            Some(nodes) => nodes as usize,
            None if self.spares > 0 && self.spares as usize >= all => {
                bail!("{} spare nodes of {all} leave none to compute on", self.spares)
            }
            None => all - self.spares as usize,
        };
        let count = u32::try_from(nodes).context("too many nodes")?;
        let many = |each: u32| each.checked_mul(count).context("too many ranks");
        let said = match (self.ranks, self.ranks_per_node, tasks) {
            (Some(ranks), ..) => Some(ranks),
            (None, Some(each), _) => Some(many(each)?),
            // What was asked for is of all nodes, spares among them.
            (None, None, Some(tasks)) if nodes < all => Some(many(tasks / u32::try_from(all).unwrap_or(u32::MAX))?),
            (None, None, tasks) => tasks,
        };
        if said == Some(0) {
            bail!(
                "{} tasks on {all} nodes are less than one each: say by --ranks how many there are to be",
                tasks.unwrap_or(0)
            );
        }
        Ok(Shape { ranks: said.unwrap_or(1), nodes, is_said: said.is_some() })
    }

    /// The nodes that the user names, or another batch system than Slurm; none: this one, or Slurm's.
    fn hosts(&self, in_slurm: bool) -> anyhow::Result<Vec<String>> {
        let hosts = match &self.hosts {
            Some(list) => match list.strip_prefix('@') {
                Some(file) => {
                    nodes_in(&std::fs::read_to_string(file).with_context(|| format!("{file} can't be read"))?)?
                }
                None => nodes_in(&list.replace(',', "\n"))?,
            },
            None if in_slurm => Vec::new(),
            None => nodes_of_site()?,
        };
        if self.hosts.is_some() && hosts.is_empty() {
            bail!("--hosts names no node");
        }
        // Alone, this node is as good as none.
        let here = process::host_name();
        let short = |name: &str| name.split('.').next().unwrap_or_default().to_owned();
        let alone = self.hosts.is_none() && hosts.len() == 1 && short(&hosts[0]) == short(&here);
        Ok(if alone { Vec::new() } else { hosts })
    }

    /// What is to start the ranks.
    fn launcher(&self, in_slurm: bool, available: usize, shape: &Shape) -> anyhow::Result<Launcher> {
        if let Some(name) = &self.launcher {
            return Ok(Launcher::named(name)?);
        }
        if !in_slurm {
            if available > 0 && !shape.is_said {
                bail!(
                    "how many ranks are there to be on these {available} nodes? Say it by --ranks or --ranks-per-node"
                );
            }
            return Ok(if shape.is_said { Launcher::named("mpirun")? } else { Launcher::Direct });
        }
        let linked = || self.command.first().and_then(|program| srun_mpi(program));
        match self.mpi.as_deref().or_else(linked) {
            Some(mpi) => Ok(Launcher::Srun(mpi.to_owned())),
            None if shape.ranks == 1 && available == 1 => Ok(Launcher::Direct),
            None if shape.ranks == 1 => Ok(Launcher::Srun("none".to_owned())),
            None => bail!(
                "{} names no MPI library that is known: say by --mpi which kind `srun` is to start (pmix for OpenMPI, pmi2 for MPICH, none)",
                self.command.first().map(|program| program.display().to_string()).unwrap_or_default()
            ),
        }
    }

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
        if self.requeue && allocation.is_none() {
            bail!("--requeue gives a Slurm job back, and this is none");
        }
        let hosts = self.hosts(allocation.is_some())?;
        let in_slurm = allocation.is_some() && hosts.is_empty();
        let (nodes, tasks) = match &allocation {
            Some(allocation) if in_slurm => (allocation.nodes.clone(), allocation.tasks),
            _ => (hosts, None),
        };
        let shape = self.shape((nodes.len(), tasks))?;
        let launcher = self.launcher(in_slurm, nodes.len(), &shape)?;
        // Whatever starts processes on this node only needs no nodes.
        let nodes = if launcher == Launcher::Direct { Vec::new() } else { nodes };
        let agents = match &self.agents {
            Some(template) => Some(AgentStarter::named(template)?),
            None if in_slurm => Some(AgentStarter::srun()),
            None => AgentStarter::beside(&launcher),
        };
        if !nodes.is_empty() && agents.is_none() {
            bail!(
                "how is an agent started on each node? Say it by --agents, as in 'pdsh -w {{hosts}} {{command}}', with {{nodes}} for their number"
            );
        }
        if launcher == Launcher::Direct && shape.ranks > 1 {
            bail!("{} ranks need a launcher: `direct` starts one process", shape.ranks);
        }
        let options = Options {
            command: self.command.clone(),
            ranks: shape.ranks,
            exactly: launcher != Launcher::Direct && shape.is_said,
            launcher,
            agents,
            rescue: self.requeue && in_slurm && nodes.len() > 1,
            nodes,
            nodes_per_launch: shape.nodes,
            oversubscribe: self.oversubscribe,
            in_batch: allocation.is_some(),
            end: allocation.as_ref().and_then(|allocation| allocation.end),
            resume: self.resume || allocation.as_ref().is_some_and(|allocation| allocation.restarts > 0),
            label: self.label,
            logs: self.log_dir.clone(),
            limits: Limits {
                launches: settings.launches_max,
                launches_per_hour: settings.launches_per_hour,
                linger: Some(settings.linger_max).filter(|most| !most.is_zero()),
            },
            quarantine_after: settings.quarantine_after,
            store: settings.dir.clone(),
            quarantine_for: settings.quarantine_for,
            piton: std::env::current_exe().context("this program can't be found")?,
            rules: Rules::by(&settings)?,
            live: Live::default(),
        };
        let _server = server(&settings, &options.live);
        let status = match run(options)? {
            policy::Outcome::Finished(status) => status,
            policy::Outcome::Again { why, soon } => {
                // At its time limit Slurm says no more than whoever cancels a job: SIGTERM.
                let is_due = |given: &Allocation| soon || slurm::is_time_up(&given.job).unwrap_or(false);
                match allocation.filter(|given| self.requeue && is_due(given)) {
                    Some(allocation) => match slurm::requeue(&allocation.job) {
                        Ok(()) => eprintln!("piton run: {why}; Slurm starts job {} again when it can", allocation.job),
                        Err(error) => eprintln!(
                            "piton run: {why}; it can't be given back to Slurm: {}",
                            piton_cli::human::whole(&error)
                        ),
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

/// The server that the settings ask for. The job does not depend on it.
fn server(settings: &Settings, live: &Live) -> Option<Server> {
    let Listen::At(listen) = settings.http else { return None };
    match serve::start(listen, &settings.http_token, settings.clone(), Whose::Run(live.clone())) {
        Ok(server) => {
            eprintln!("piton run: {} shows how the job is", server.url());
            Some(server)
        }
        Err(error) => {
            eprintln!("piton run: no page, queries or metrics: {}", piton_cli::human::whole(&error));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Words {
        #[command(flatten)]
        run: Run,
    }

    fn run(words: &str) -> Run {
        let words = std::iter::once("run").chain(words.split_ascii_whitespace()).chain(["--", "/bin/true"]);
        Words::try_parse_from(words).map(|words| words.run).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn ranks_and_nodes_follow_from_what_is_said_and_given() {
        let shape = |words: &str, given| run(words).shape(given).map(|shape| (shape.ranks, shape.nodes, shape.is_said));
        assert_eq!(shape("", (0, None)).unwrap(), (1, 1, false));
        assert_eq!(shape("-n 4", (0, None)).unwrap(), (4, 1, true));
        assert_eq!(shape("--ranks-per-node 3", (0, None)).unwrap(), (3, 1, true));
        assert_eq!(shape("", (4, Some(8))).unwrap(), (8, 4, true));
        assert_eq!(shape("--spares 1", (4, Some(8))).unwrap(), (6, 3, true), "spares have no ranks");
        assert_eq!(shape("--nodes 2", (4, Some(8))).unwrap(), (4, 2, true));
        assert_eq!(shape("--nodes 2 --ranks-per-node 8", (4, Some(8))).unwrap(), (16, 2, true));
        assert_eq!(shape("--ranks 5 --spares 2", (4, Some(8))).unwrap(), (5, 2, true));
        assert_eq!(shape("--spares 3", (4, None)).unwrap(), (1, 1, false));
        for (words, given) in [("--nodes 5", (4, None)), ("--spares 4", (4, Some(4))), ("--spares 1", (4, Some(2)))] {
            assert!(shape(words, given).is_err(), "{words}");
        }
    }

    #[test]
    fn a_job_of_one_rank_without_mpi_needs_no_launcher() {
        let launcher = |words: &str, given: (usize, Option<u32>)| {
            let run = run(words);
            run.launcher(given.0 > 0, given.0, &run.shape(given).unwrap()).map(|launcher| launcher.name())
        };
        assert_eq!(launcher("", (0, None)).unwrap(), "the program itself");
        assert_eq!(launcher("", (1, Some(1))).unwrap(), "the program itself");
        assert_eq!(launcher("--spares 1", (2, Some(2))).unwrap(), "srun --mpi=none");
        assert_eq!(launcher("--mpi pmix", (2, Some(2))).unwrap(), "srun --mpi=pmix");
        assert!(launcher("", (2, Some(2))).unwrap_err().to_string().contains("--mpi"));
        let hosts = run("--hosts n1,n2");
        assert_eq!(hosts.hosts(false).unwrap(), ["n1", "n2"]);
        let shape = hosts.shape((2, None)).unwrap();
        assert!(hosts.launcher(false, 2, &shape).unwrap_err().to_string().contains("--ranks"), "nobody guesses");
        assert!(run("--hosts ,").hosts(false).is_err() && run("--hosts a;b").hosts(false).is_err());
    }
}
