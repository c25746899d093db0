//! From what the user gives to what is computed with.
//!
//! What must hold: what is given wins over what a journal says, and that over what is derived from sizes; every value that
//! was assumed is told.

use anyhow::{Context, bail, ensure};
use piton::config::{read_mean_time, read_size, read_time};
use piton::schedule::simulate::{Law, Repair, Repeats, TraceFile, TraceKind, read_trace};
use piton::schedule::{Belief, Costs, History, Level, NODE_MTBF_SECONDS};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Bytes a second that a node copies its state with, where nobody says what a checkpoint costs: two ranks' memcpy.
const COPY_BYTES_PER_SECOND: f64 = 8e9;
/// Failures that leave the copies on nodes intact, where nobody says.
const NEAR_SURVIVES: f64 = 0.85;
/// How repair times are distributed: log-normal, as those of LANL's systems, whose spread this is (B. Schroeder, G. Gibson 2006, and
/// their data computed once more).
const REPAIR: Law = Law::LogNormal(1.4);
/// A node that fails again does so within a day.
const REPEATS_WITHIN: f64 = 86_400.0;
/// No trace is longer.
const TRACE_LIMIT: u64 = 1 << 30;

/// A time on the command line, in seconds.
fn time(text: &str) -> Result<f64, String> {
    read_time(text).map(|time| time.as_secs_f64())
}

/// A mean time between failures, or a rate, in seconds.
fn mean_time(text: &str) -> Result<f64, String> {
    read_mean_time(text).map(|time| time.as_secs_f64())
}

/// A size, or a size a second (`/s` may follow), in bytes.
fn bytes(text: &str) -> Result<f64, String> {
    let text = text.strip_suffix("/s").unwrap_or(text);
    match read_size(text)? {
        0 => Err("it must be more than nothing".to_owned()),
        bytes => Ok(bytes as f64),
    }
}

/// A share: `85%` or `0.85`.
fn share(text: &str) -> Result<f64, String> {
    let (number, whole) = text.strip_suffix('%').map_or((text, 1.0), |number| (number, 100.0));
    match number.trim().parse::<f64>() {
        Ok(number) if (0.0..=whole).contains(&number) => Ok(number / whole),
        _ => Err("it takes a share, as in `85%` or `0.85`".to_owned()),
    }
}

/// How failures are distributed.
fn law(text: &str) -> Result<Law, String> {
    let (name, shape) = text.split_once(':').map_or((text, None), |(name, shape)| (name, Some(shape)));
    let number = |least: f64, most: f64| {
        let shape = shape.and_then(|shape| shape.parse::<f64>().ok()).filter(|shape| (least..=most).contains(shape));
        shape.ok_or_else(|| format!("`{name}` takes a number from {least} to {most}, as in `{name}:0.7`"))
    };
    match name {
        "exponential" if shape.is_none() => Ok(Law::Exponential),
        "weibull" => number(0.2, 10.0).map(Law::Weibull),
        "lognormal" => number(0.01, 4.0).map(Law::LogNormal),
        _ => Err("it takes `exponential`, `weibull:SHAPE` or `lognormal:SIGMA`".to_owned()),
    }
}

/// What may be given on the command line.
#[derive(Debug, Clone, clap::Args)]
pub struct Given {
    /// How often the whole job fails: a time between failures (8h) or failures in a time (3/day)
    #[arg(long, value_name = "TIME|RATE", value_parser = mean_time, conflicts_with = "node_mtbf", help_heading = "Failures")]
    pub mtbf: Option<f64>,
    /// How often one node fails [once in 300 days]
    #[arg(long, value_name = "TIME|RATE", value_parser = mean_time, help_heading = "Failures")]
    pub node_mtbf: Option<f64>,
    /// Nodes of the job [1; of a trace of nodes: all of them]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000), help_heading = "Failures")]
    pub nodes: Option<u32>,
    /// How the times between failures are distributed: exponential, weibull:SHAPE or lognormal:SIGMA
    #[arg(long, value_name = "LAW", value_parser = law, default_value = "exponential", help_heading = "Failures")]
    pub law: Law,
    /// Failures that happened: one time in seconds a line, or the InfiniteHBD fault trace (JSON)
    #[arg(long, value_name = "FILE", help_heading = "Failures")]
    pub trace: Option<PathBuf>,
    /// Nodes that a trace of nodes was recorded on, also those that never failed
    #[arg(long, value_name = "N", default_value_t = 400, value_parser = clap::value_parser!(u32).range(1..=10_000_000), help_heading = "Failures")]
    pub trace_nodes: u32,

    /// How long a node is away that failed, on average: without a spare the job waits for it [there is always another node]
    #[arg(long, value_name = "TIME", value_parser = time, help_heading = "Failures")]
    pub repair: Option<f64>,
    /// Nodes that stand ready to take the place of one that is being repaired
    #[arg(long, value_name = "N", default_value_t = 0, requires = "repair", help_heading = "Failures")]
    pub spares: u32,
    /// The share of failures that the same node repeats within a day [none; LANL's systems: 8%]
    #[arg(long, value_name = "SHARE", value_parser = share, conflicts_with = "trace", help_heading = "Failures")]
    pub repeats: Option<f64>,

    /// C: what one checkpoint takes from the application: standing still, and steps that are slower while it is written
    #[arg(long, value_name = "TIME", value_parser = time, help_heading = "Costs")]
    pub checkpoint_cost: Option<f64>,
    /// L: from the call until the checkpoint is durable [as long as it costs]
    #[arg(long, value_name = "TIME", value_parser = time, help_heading = "Costs")]
    pub latency: Option<f64>,
    /// R: bringing the state back [as long as it takes to write]
    #[arg(long, value_name = "TIME", value_parser = time, help_heading = "Costs")]
    pub restart_cost: Option<f64>,
    /// D: from a failure until the state begins to be brought back [1min]
    #[arg(long, value_name = "TIME", value_parser = time, help_heading = "Costs")]
    pub downtime: Option<f64>,
    /// State of the whole job: costs follow from it and the bandwidths, where they are not given
    #[arg(long, value_name = "SIZE", value_parser = bytes, help_heading = "Costs")]
    pub state: Option<f64>,
    /// Of the parallel file system, for the whole job, a second
    #[arg(long, value_name = "SIZE", value_parser = bytes, requires = "state", help_heading = "Costs")]
    pub bandwidth: Option<f64>,
    /// Of storage on each node, a second: a second, nearer place for checkpoints
    #[arg(long, value_name = "SIZE", value_parser = bytes, requires = "bandwidth", help_heading = "Costs")]
    pub near_bandwidth: Option<f64>,
    /// The share of failures that leave the copies on nodes intact [85%]
    #[arg(long, value_name = "SHARE", value_parser = share, requires = "near_bandwidth", help_heading = "Costs")]
    pub near_survives: Option<f64>,

    /// Work to be done: how long the job would take without failures and checkpoints [30 days; of a trace: all its time]
    #[arg(long, value_name = "TIME", value_parser = time, help_heading = "Job")]
    pub work: Option<f64>,
    /// How long one allocation lasts at the most
    #[arg(long, value_name = "TIME", value_parser = time, help_heading = "Job")]
    pub walltime: Option<f64>,
    /// Intervals to compare with
    #[arg(long, value_name = "TIME", value_parser = time, value_delimiter = ',', default_value = "15min,1h,4h", help_heading = "Job")]
    pub fixed: Vec<f64>,
}

/// What is computed with. Times are in seconds.
#[derive(Debug, Clone, Serialize)]
pub struct Inputs {
    pub mtbf_seconds: f64,
    pub nodes: f64,
    pub law: Law,
    pub costs: Costs,
    pub work_seconds: f64,
    pub walltime_seconds: Option<f64>,
    pub fixed_seconds: Vec<f64>,
    /// A near and a far place.
    pub levels: Option<(Level, Level)>,
    /// How long writing to the far place takes.
    pub far_latency_seconds: f64,
    /// Nodes are repaired.
    pub repair: Option<Repair>,
    /// Nodes that failed fail again.
    pub repeats: Option<Repeats>,
    /// What was not given, and what was taken instead.
    pub assumed: Vec<String>,
    #[serde(skip)]
    pub belief: Belief,
    #[serde(skip)]
    pub failures: Option<(Vec<f64>, f64)>,
}

impl Inputs {
    /// From the command line and, where one is named, the history of a job.
    ///
    /// # Errors
    /// What is missing, or makes no sense.
    pub fn new(given: &Given, history: Option<&History>, seed: u64) -> anyhow::Result<Self> {
        let mut assumed = Vec::new();
        let trace = given.trace.as_deref().map(|path| failures(path, given, seed)).transpose()?;
        let (trace_nodes, failures) = trace.map_or((None, None), |(nodes, times, span)| (nodes, Some((times, span))));
        let nodes = given.nodes.map(f64::from).or(trace_nodes).unwrap_or(1.0);
        let belief = match (given.mtbf, given.node_mtbf) {
            (Some(mtbf), _) => Belief::Job(mtbf),
            (None, Some(mtbf)) => Belief::Node(mtbf, true),
            (None, None) => Belief::Node(NODE_MTBF_SECONDS, false),
        };
        let mut rate = belief.rate(nodes);
        if let (Some(history), None) = (history, &failures) {
            let account = history.account();
            let seconds = account.time - account.down - account.waiting;
            rate.observe(account.failures as f64, seconds);
            assumed.push(format!("the job's journal: {} failures in {:.1} h", account.failures, seconds / 3600.0));
        }
        let mtbf = match &failures {
            Some((times, span)) => span / times.len().max(1) as f64,
            None => rate.mtbf(),
        };
        if given.mtbf.is_none() && given.node_mtbf.is_none() && failures.is_none() {
            assumed.push(format!("a node fails once in {:.0} days", NODE_MTBF_SECONDS / 86_400.0));
        }
        let Priced { costs, levels, far_latency } = costs(given, nodes, mtbf, history, &mut assumed)?;
        let work = match (given.work, &failures) {
            (Some(work), _) => work,
            (None, Some((_, span))) => *span,
            (None, None) => 30.0 * 86_400.0,
        };
        let inputs = Self {
            mtbf_seconds: mtbf,
            nodes,
            law: given.law,
            costs,
            work_seconds: work,
            walltime_seconds: given.walltime,
            fixed_seconds: given.fixed.clone(),
            levels,
            far_latency_seconds: far_latency,
            repair: given.repair.map(|mean| Repair { law: REPAIR, mean, spares: given.spares }),
            repeats: given.repeats.map(|probability| Repeats { probability, within: REPEATS_WITHIN }),
            assumed,
            belief,
            failures,
        };
        inputs.check()?;
        Ok(inputs)
    }

    fn check(&self) -> anyhow::Result<()> {
        ensure!(
            self.costs.cost > 0.0,
            "--checkpoint-cost must be more than 0: without a cost, there is no best interval"
        );
        ensure!(self.work_seconds > 0.0, "--work must be more than 0");
        ensure!(self.fixed_seconds.iter().all(|time| *time > 0.0), "--fixed takes times of more than 0");
        if let Some(walltime) = self.walltime_seconds {
            let needed = self.costs.restart + self.costs.latency + self.costs.cost;
            ensure!(
                walltime > needed,
                "--walltime is {walltime:.0} s, but coming back and writing one checkpoint takes {needed:.0} s"
            );
        }
        Ok(())
    }
}

/// What checkpoints cost.
struct Priced {
    costs: Costs,
    /// The two places, where there are two.
    levels: Option<(Level, Level)>,
    /// How long writing to the far one takes.
    far_latency: f64,
}

fn costs(
    given: &Given,
    nodes: f64,
    mtbf: f64,
    history: Option<&History>,
    assumed: &mut Vec<String>,
) -> anyhow::Result<Priced> {
    let known = history.map(|history| {
        let mut scheduler =
            piton::schedule::Scheduler::new(Default::default(), Belief::Job(mtbf), 1.0, Default::default());
        history.teach(&mut scheduler);
        scheduler.costs()
    });
    let known = known.filter(|costs| costs.cost > 0.0);
    let copy = given.state.map(|state| state / nodes / COPY_BYTES_PER_SECOND);
    let write = given.state.zip(given.bandwidth).map(|(state, bandwidth)| state / bandwidth);
    let near_write = given.state.zip(given.near_bandwidth).map(|(state, bandwidth)| state / nodes / bandwidth);
    let cost = match (given.checkpoint_cost, known, copy) {
        (Some(cost), ..) => cost,
        (None, Some(known), _) => known.cost,
        (None, None, Some(copy)) => {
            assumed.push(format!("C = {copy:.2} s: copying a node's share of the state at 8 GB/s"));
            copy
        }
        (None, None, None) => bail!(
            "what does a checkpoint cost? Give --checkpoint-cost, or --state and --bandwidth, or the name of a job that has run"
        ),
    };
    let far_latency = write.unwrap_or(0.0).max(cost);
    let near_latency = near_write.unwrap_or(0.0).max(cost);
    let latency = given.latency.or(near_write).or(write).or(known.map(|known| known.latency)).unwrap_or(cost).max(cost);
    let restart =
        given.restart_cost.or(near_write).or(write).or(known.map(|known| known.restart)).unwrap_or_else(|| {
            assumed.push("R = C".to_owned());
            cost
        });
    let downtime = given.downtime.or(known.map(|known| known.downtime)).unwrap_or_else(|| {
        assumed.push("D = 1 min".to_owned());
        60.0
    });
    let costs = Costs { cost, latency, restart, downtime };
    let levels = near_write.map(|near| {
        let survives = given.near_survives.unwrap_or_else(|| {
            assumed.push("85 % of failures leave the copies on nodes intact".to_owned());
            NEAR_SURVIVES
        });
        let level =
            |share: f64, latency: f64, restart: f64| Level { cost, mtbf: mtbf / share.max(1e-9), latency, restart };
        (level(survives, near_latency, near), level(1.0 - survives, far_latency, write.unwrap_or(restart)))
    });
    Ok(Priced { costs, levels, far_latency })
}

/// The nodes of the job, when it fails, and for how long that was watched.
fn failures(path: &Path, given: &Given, seed: u64) -> anyhow::Result<(Option<f64>, Vec<f64>, f64)> {
    let name = path.display();
    let length = std::fs::metadata(path).with_context(|| format!("--trace {name}"))?.len();
    ensure!(length <= TRACE_LIMIT, "--trace {name}: longer than 1 GiB, which no trace is");
    let text = std::fs::read_to_string(path).with_context(|| format!("--trace {name}"))?;
    let trace: TraceFile = read_trace(&text).with_context(|| format!("--trace {name}"))?;
    let (nodes, times) = match trace.kind {
        TraceKind::Job => (None, trace.failures(|_| true)),
        TraceKind::Nodes(seen) => {
            let all = given.trace_nodes as usize;
            ensure!(seen <= all, "--trace {name}: {seen} nodes failed, which is more than --trace-nodes {all}");
            let wanted = given.nodes.map_or(all, |nodes| nodes as usize);
            ensure!(wanted <= all, "--nodes {wanted} is more than the trace has (--trace-nodes {all})");
            let mut nodes: Vec<usize> = (0..all).collect();
            fastrand::Rng::with_seed(seed).shuffle(&mut nodes);
            let mut is_on = vec![false; all];
            nodes.iter().take(wanted).for_each(|node| is_on[*node] = true);
            (Some(wanted as f64), trace.failures(|node| is_on[node]))
        }
    };
    ensure!(!times.is_empty(), "--trace {name}: none of the {} nodes chosen failed", nodes.unwrap_or(1.0));
    Ok((nodes, times, trace.span))
}

/// Seconds as a span that can be shown.
pub fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)
}
