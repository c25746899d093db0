//! `piton health`: whether this node is fit to compute.
//!
//! What must hold: it ends, whatever hangs. The node is looked at in a child process: a thread that hangs in the kernel would keep this
//! process from being gone. The child is killed and left behind; nobody waits for it.

use crate::Common;
use crate::exit;
use crate::output::{Cell, Output, Style, Table, human};
use anyhow::{Context, bail};
use clap::builder::PossibleValuesParser;
use piton::watch::health::{Check, Limits, Outcome, check, names};
use piton::watch::node::{Roots, Sampler};
use piton_cli::slurm;
use serde::Serialize;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// How long the look at the node may take.
const DEADLINE_SECONDS: u64 = 30;
/// How long it waits for file systems and drivers.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between the two samples.
const INTERVAL: Duration = Duration::from_millis(500);
/// Most failures that are named in the one line.
const MOST_NAMED: usize = 4;
/// Most that is read of what the child has found.
const LONGEST: u64 = 16 << 20;

/// Tell whether this node is fit to compute: file systems, memory, sensors, links, GPUs
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  piton health\n  piton health --all --tier /scratch --tier /dev/shm\n  \
    piton health --json | jq -r '.checks[] | select(.outcome == \"failed\").reason'\n  \
    piton health --gpus 4 --skip voltage --drain\n\n\
    As Slurm's HealthCheckProgram, in a script of its own, since that takes no arguments:\n  \
    #!/bin/sh\n  exec piton health --tier /scratch --drain\n\n\
    It ends within 60 s, whatever hangs. A failure leaves one line such as `piton:ecc_uncorrected dimm=A1 count=2`,\n\
    which is also the reason that --drain gives; a node that somebody else has drained keeps its reason.\n\n\
    Exit status: 0 healthy, also with warnings; 1 not healthy; 2 wrongly called, or could not tell or not drain")]
pub struct Health {
    /// A file system to check, by any path in it, besides / and /tmp; can be given more than once
    #[arg(long = "tier", value_name = "DIR")]
    tiers: Vec<PathBuf>,
    /// Show every check, also what is fine and what is not there
    #[arg(long, short = 'v')]
    all: bool,
    /// Warnings are failures
    #[arg(long)]
    warnings_fail: bool,
    /// Leave a check out, where it is known to be wrong about this node; can be given more than once
    #[arg(long, value_name = "CHECK", hide_possible_values = true, value_parser = PossibleValuesParser::new(names()))]
    skip: Vec<String>,
    /// Fail where there are fewer GPUs
    #[arg(long, value_name = "N")]
    gpus: Option<u32>,
    /// Have Slurm drain the node on a failure; without a name, the one that Slurm or the system has for it
    #[arg(long, value_name = "NODENAME", num_args = 0..=1, default_missing_value = "")]
    drain: Option<String>,
    /// Where proc, sys, and the file systems are, for tests
    #[arg(long, value_name = "PREFIX", hide = true)]
    root: Option<PathBuf>,
    /// How long the look at the node may take, for tests
    #[arg(long, value_name = "SECONDS", hide = true, default_value_t = DEADLINE_SECONDS)]
    deadline: u64,
    /// Look, and print what was found in one line: the child process of this command
    #[arg(long, hide = true)]
    look: bool,
}

#[derive(Debug, Serialize)]
struct Shown<'a> {
    node: &'a str,
    outcome: Outcome,
    /// The one line, where the node is not healthy.
    reason: Option<&'a str>,
    /// Whether this call has drained the node.
    drained: bool,
    checks: &'a [Check],
}

impl Health {
    /// Looks at the node, and prints what is wrong with it.
    ///
    /// # Errors
    /// The node could not be looked at, or not be drained.
    pub fn run(&self, _: &Common, output: &mut Output) -> anyhow::Result<exit::Outcome> {
        if self.look {
            return self.look();
        }
        let mut checks = match ask(self.child()?, Duration::from_secs(self.deadline))? {
            Some(checks) => checks,
            None => vec![hung(self.deadline)],
        };
        checks.retain(|check| !self.skip.iter().any(|name| *name == check.name));
        let worst = checks.iter().map(|check| check.outcome).max().unwrap_or(Outcome::Absent);
        let fails = if self.warnings_fail { Outcome::Warning } else { Outcome::Failed };
        let reason = reason(&checks, fails);
        let node = self.node();
        let drained = match (&self.drain, &reason) {
            (Some(_), Some(reason)) => Some(slurm::drain(&node, reason)),
            _ => None,
        };
        if output.is_json() {
            let drained = matches!(drained, Some(Ok(true)));
            let reason = reason.as_deref();
            output.json(&Shown { node: &node, outcome: worst, reason, drained, checks: &checks })?;
        } else {
            self.print(&node, &checks, reason.as_deref(), output)?;
            match &drained {
                Some(Ok(true)) => output.line(format!("{node} is drained"))?,
                Some(Ok(false)) => output.line(format!("{node} was out of service already; its reason is kept"))?,
                _ => {}
            }
        }
        if let Some(Err(error)) = drained {
            output.flush()?;
            return Err(error.context(format!("{node} could not be drained")));
        }
        Ok(if reason.is_some() { exit::Outcome::No } else { exit::Outcome::Done })
    }

    /// What the node is called.
    fn node(&self) -> String {
        let given = self.drain.clone().filter(|name| !name.is_empty());
        given.or_else(|| std::env::var("SLURMD_NODENAME").ok().filter(|name| !name.is_empty())).unwrap_or_else(|| {
            let file = self.roots().proc.join("sys/kernel/hostname");
            let name = std::fs::read_to_string(file).unwrap_or_default();
            // Slurm knows nodes by their short names.
            name.trim().split('.').next().filter(|name| !name.is_empty()).unwrap_or("localhost").to_owned()
        })
    }

    fn roots(&self) -> Roots {
        self.root.as_ref().map_or_else(Roots::default, Roots::below)
    }

    /// The child process that looks.
    fn child(&self) -> anyhow::Result<Child> {
        // The file that runs, whatever has become of its name.
        let program = PathBuf::from("/proc/self/exe");
        let program = if program.exists() { program } else { std::env::current_exe()? };
        let mut command = Command::new(program);
        command.args(["health", "--look"]);
        for tier in &self.tiers {
            command.arg("--tier").arg(tier);
        }
        if let Some(gpus) = self.gpus {
            command.arg("--gpus").arg(gpus.to_string());
        }
        if let Some(root) = &self.root {
            command.arg("--root").arg(root);
        }
        // It may stay behind, and must not hold what whoever called us reads to the end.
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        command.spawn().context("the process that looks at the node can't be started")
    }

    /// The child's part: two samples, and one line.
    fn look(&self) -> anyhow::Result<exit::Outcome> {
        let mut sampler = Sampler::new(self.roots(), self.tiers.clone()).with_patience(PATIENCE);
        let earlier = sampler.sample();
        let since = Instant::now();
        thread::sleep(INTERVAL);
        let now = sampler.sample();
        let mut limits = Limits::default();
        limits.gpus = self.gpus;
        let checks = check(&now, Some((&earlier, since.elapsed().as_secs_f64())), &limits);
        let mut line = serde_json::to_vec(&checks)?;
        line.push(b'\n');
        std::io::stdout().write_all(&line)?;
        std::io::stdout().flush()?;
        Ok(exit::Outcome::Done)
    }

    fn print(&self, node: &str, checks: &[Check], reason: Option<&str>, output: &mut Output) -> anyhow::Result<()> {
        let shown: Vec<&Check> = checks.iter().filter(|check| self.all || check.is_wrong()).collect();
        if !shown.is_empty() {
            let mut table = Table::new(&["check", "outcome", "where", "value", "limit", "what it says"]);
            for check in shown {
                table.row(row(check));
            }
            output.table(&table)?;
        }
        let count = |outcome: Outcome| checks.iter().filter(|check| check.outcome == outcome).count();
        let (healthy, style) = match reason {
            None if count(Outcome::Warning) == 0 => ("healthy", Style::Good),
            None => ("healthy", Style::Warning),
            Some(_) => ("not healthy", Style::Bad),
        };
        let verdict = output.paint(&format!("{node} is {healthy}"), style);
        output.text(&format!(
            "{verdict}: {} failed, {}, {} ok, {} absent\n",
            count(Outcome::Failed),
            human::count(count(Outcome::Warning), "warning"),
            count(Outcome::Ok),
            count(Outcome::Absent)
        ))?;
        if let Some(reason) = reason {
            output.line(reason)?;
        }
        Ok(())
    }
}

/// What the child has found; `None` where it has not by then.
fn ask(mut child: Child, deadline: Duration) -> anyhow::Result<Option<Vec<Check>>> {
    let Some(pipe) = child.stdout.take() else { bail!("the process that looks at the node can't be heard") };
    let (line, lines) = mpsc::channel();
    thread::spawn(move || {
        // To the end of the line, not of the file: that comes when the last of the child's threads is gone.
        let mut bytes = Vec::new();
        let read = BufReader::new(pipe.take(LONGEST)).read_until(b'\n', &mut bytes);
        let _ = line.send(read.map(|_| bytes));
    });
    let found = lines.recv_timeout(deadline);
    // It has nothing more to say. Where a thread of it hangs, it is gone when that comes back.
    let _ = child.kill();
    match found {
        Ok(bytes) => {
            let bytes = bytes.context("what the node tells can't be read")?;
            let checks = serde_json::from_slice(&bytes).context("the process that looks at the node has failed")?;
            Ok(Some(checks))
        }
        Err(mpsc::RecvTimeoutError::Timeout) => Ok(None),
        Err(mpsc::RecvTimeoutError::Disconnected) => bail!("what the node tells can't be read"),
    }
}

/// The node did not tell in time.
fn hung(seconds: u64) -> Check {
    Check {
        name: "health_hung".into(),
        outcome: Outcome::Failed,
        labels: piton::watch::Labels::new(),
        quantity: "seconds".into(),
        value: Some(seconds as f64),
        limit: Some(seconds as f64),
        reason: format!("to look at the node takes more than {seconds} s: something in its kernel or a driver hangs"),
    }
}

/// The one line for batch systems, where something is as bad as that: the worst first.
fn reason(checks: &[Check], fails: Outcome) -> Option<String> {
    let mut failures: Vec<&Check> = checks.iter().filter(|check| check.outcome >= fails).collect();
    failures.sort_by_key(|check| std::cmp::Reverse(check.outcome));
    let more = failures.len().saturating_sub(MOST_NAMED);
    let mut tokens: Vec<String> = failures.into_iter().take(MOST_NAMED).map(Check::token).collect();
    if more > 0 {
        tokens.push(format!("{more} more"));
    }
    (!tokens.is_empty()).then(|| format!("piton:{}", tokens.join("; ")))
}

fn row(check: &Check) -> [Cell; 6] {
    let (outcome, style) = match check.outcome {
        Outcome::Failed => ("failed", Style::Bad),
        Outcome::Warning => ("warning", Style::Warning),
        Outcome::Ok => ("ok", Style::Good),
        Outcome::Absent => ("absent", Style::Dim),
    };
    let labels: Vec<String> = check.labels.iter().map(|(label, value)| format!("{label}={value}")).collect();
    let number = |value: Option<f64>| match (value, &*check.quantity) {
        (_, "") | (None, _) => String::new(),
        (Some(value), _) => human::number(value),
    };
    [
        Cell::new(&check.name),
        Cell::new(outcome).styled(style),
        Cell::new(labels.join(" ")),
        Cell::new(number(check.value)).right(),
        Cell::new(number(check.limit)).right(),
        Cell::new(&check.reason),
    ]
}
