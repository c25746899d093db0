//! `piton slurm`: what a job needs to run under Slurm.

use crate::Common;
use crate::exit::Outcome;
use crate::output::Output;
use piton_cli::slurm::script::{Again, Wanted};
use serde::Serialize;
use std::time::Duration;

/// Write batch scripts for jobs that come back by themselves
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  piton slurm script --nodes 5 --ranks-per-node 32 --time 24:00:00 --spares 1 > job.sh\n  \
                  sbatch job.sh ./tsunami --steps 100000\n\n\
                  The walk-through is docs/running.md, ready scripts are in slurm/."
)]
pub struct SlurmCommand {
    #[command(subcommand)]
    command: Subcommand,
}

#[derive(Debug, clap::Subcommand)]
enum Subcommand {
    Script(Box<Script>),
}

/// Print a commented batch script for `sbatch`
///
/// The job runs under `piton run`: it goes on from its newest checkpoint when a rank or a node is lost, and, unless told otherwise, is given back
/// to Slurm when its time is up.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  piton slurm script --nodes 5 --ranks-per-node 32 --time 24:00:00 --spares 1 -- ./tsunami --steps 100000 > job.sh\n  \
                  piton slurm script --cpus-per-rank 64 --time 2-0 --account physics -- ./rayon-code > job.sh\n  \
                  piton slurm script --nodes 4 --chain --setup 'module load openmpi' -- ./tsunami > link.sh\n  \
                  piton slurm script --array 1-100%10 --cpus-per-rank 8 > sweep.sh; sbatch sweep.sh ./walk"
)]
struct Script {
    /// The job's name
    #[arg(long, default_value = "job", value_name = "NAME")]
    name: String,
    /// Nodes, spares among them
    #[arg(long, short = 'N', default_value_t = 1, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    nodes: u32,
    /// Ranks on each node
    #[arg(long, default_value_t = 1, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    ranks_per_node: u32,
    /// Processors of each rank, for rayon and OpenMP
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    cpus_per_rank: Option<u32>,
    /// The time limit, as Slurm takes it: 30, 12:00:00, 2-00:00:00
    #[arg(long, short, default_value = "24:00:00", value_name = "TIME")]
    time: String,
    /// Nodes that stand by until another one is lost
    #[arg(long, default_value_t = 0, value_name = "COUNT")]
    spares: u32,
    /// When the time is up, the next job of the same name goes on: for sites where jobs can't be requeued. Submit it several times
    #[arg(long, conflicts_with_all = ["no_requeue", "preemptible"])]
    chain: bool,
    /// When the time is up, end with status 75 and nothing else
    #[arg(long)]
    no_requeue: bool,
    /// Other jobs may take the nodes away
    #[arg(long, conflicts_with = "no_requeue")]
    preemptible: bool,
    /// Where too few nodes are left, give those that are left more ranks
    #[arg(long)]
    oversubscribe: bool,
    /// How long before the time is up the last checkpoint is asked for; by itself 5min, of short jobs a quarter
    #[arg(long, value_name = "TIME", value_parser = lead)]
    lead: Option<Duration>,
    /// Tasks of a job array, as Slurm takes them
    #[arg(long, value_name = "TASKS")]
    array: Option<String>,
    /// Whom the time is charged to
    #[arg(long, short = 'A')]
    account: Option<String>,
    /// The partition
    #[arg(long, short)]
    partition: Option<String>,
    /// The quality of service
    #[arg(long)]
    qos: Option<String>,
    /// What `srun` is to start ranks for: `pmix` (OpenMPI), `pmi2` (MPICH), `none`; by itself, what the program is linked with
    #[arg(long, value_name = "KIND")]
    mpi: Option<String>,
    /// Another option of `sbatch`; may be given several times
    #[arg(long = "option", value_name = "--NAME[=VALUE]", allow_hyphen_values = true)]
    options: Vec<String>,
    /// A line before the start, such as 'module load openmpi'; may be given several times
    #[arg(long, value_name = "LINE")]
    setup: Vec<String>,
    /// The program, with its arguments; without it the script takes them: `sbatch SCRIPT PROGRAM ARGUMENTS...`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<String>,
}

fn lead(text: &str) -> Result<Duration, String> {
    let time = piton::config::parse_time(text)?;
    if time.as_secs() == 0 { Err("a second at the least is wanted".to_owned()) } else { Ok(time) }
}

#[derive(Debug, Serialize)]
struct Answer {
    script: String,
}

impl SlurmCommand {
    /// Prints what was asked for.
    ///
    /// # Errors
    /// What is wrong with the command line; where nothing can be printed.
    pub fn run(&self, _: &Common, output: &mut Output) -> anyhow::Result<Outcome> {
        let Subcommand::Script(asked) = &self.command;
        let again = match (asked.chain, asked.no_requeue) {
            (true, _) => Again::Chain,
            (false, true) => Again::Never,
            (false, false) => Again::Requeue,
        };
        let wanted = Wanted {
            name: asked.name.clone(),
            nodes: asked.nodes,
            ranks_per_node: asked.ranks_per_node,
            cpus_per_rank: asked.cpus_per_rank.unwrap_or(0),
            time: asked.time.clone(),
            spares: asked.spares,
            again,
            lead: asked.lead.map_or(0, |lead| lead.as_secs()),
            preemptible: asked.preemptible,
            oversubscribe: asked.oversubscribe,
            array: asked.array.clone(),
            account: asked.account.clone(),
            partition: asked.partition.clone(),
            qos: asked.qos.clone(),
            mpi: asked.mpi.clone(),
            options: asked.options.clone(),
            setup: asked.setup.clone(),
            command: asked.command.clone(),
        };
        let script = wanted.script()?;
        if output.is_json() {
            output.json(&Answer { script })?;
        } else {
            output.text(&script)?;
        }
        Ok(Outcome::Done)
    }
}
