//! `piton plan`: what failures and checkpoints will cost a job on paper.

use crate::exit::Outcome;
use crate::output::{Cell, Output, Style, Table, progress};
use crate::plan::chart::{self, percent, span};
use crate::plan::{Given, Inputs, Study};
use crate::{Common, jobs};
use anyhow::Context;
use piton::schedule::simulate::Law;
use std::path::PathBuf;

/// Columns of the plot in a terminal.
const COLUMNS: usize = 76;

/// Tell what failures and checkpoints will cost a job: which interval wastes least, what others waste, how long it takes
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  piton plan --checkpoint-cost 300s --restart-cost 300s --downtime 120s --latency 0s --mtbf 8h\n  \
    piton plan --nodes 1000 --state 50TiB --bandwidth 200GB/s --near-bandwidth 2GB/s --work 10d --walltime 24h\n  \
    piton plan --nodes 1000000 --node-mtbf 2000d --checkpoint-cost 5s --svg plan.svg\n  \
    piton plan --trace infinitehbd-fault-trace.json --checkpoint-cost 5min --json | jq .online_waste\n  \
    piton plan tsunami                    # with what that job's journal says\n\n\
    Times are from one checkpoint's call to the next one's. Waste is the share of the time that is not first-time useful work."
)]
pub struct Plan {
    /// A job that has run: costs and failures are those of its journal, where they are not given
    job: Option<String>,
    #[command(flatten)]
    given: Given,
    /// Draw waste over the interval into this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Jobs that are simulated for the time to solution, at the most
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    paths: u32,
    /// Of the random numbers: the same seed gives the same answer
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

impl Plan {
    /// Studies the job and prints what was found.
    ///
    /// # Errors
    /// What is missing or makes no sense, and files that can't be read or written.
    pub fn run(&self, common: &Common, output: &mut Output) -> anyhow::Result<Outcome> {
        let history = match &self.job {
            Some(job) => Some(jobs::open(common, Some(job))?.0.job().history()),
            None => None,
        };
        let inputs = Inputs::new(&self.given, history.as_ref(), self.seed)?;
        let bar = progress::of_steps(1000);
        let study =
            Study::new(inputs, self.paths as usize, self.seed, &mut |share| bar.set_position((share * 1e3) as u64));
        bar.finish_and_clear();
        if let Some(path) = &self.svg {
            let title = format!(
                "Waste over the interval: C = {}, M = {}",
                span(study.inputs.costs.cost),
                span(study.inputs.mtbf_seconds)
            );
            std::fs::write(path, chart::svg(&study, &title)).with_context(|| format!("--svg {}", path.display()))?;
        }
        if output.is_json() {
            output.json(&study)?;
        } else {
            print(&study, output)?;
            if let Some(path) = &self.svg {
                output.line(format!("picture: {}", path.display()))?;
            }
        }
        Ok(Outcome::Done)
    }
}

fn law(law: Law) -> String {
    match law {
        Law::Exponential => "exponential".to_owned(),
        Law::Weibull(shape) => format!("Weibull, shape {shape}"),
        Law::LogNormal(sigma) => format!("log-normal, σ {sigma}"),
    }
}

fn print(study: &Study, output: &mut Output) -> anyhow::Result<()> {
    let inputs = &study.inputs;
    let costs = &inputs.costs;
    let failures = match &inputs.failures {
        Some((times, length)) => format!("{} in {}, as the trace has them", times.len(), span(*length)),
        None => law(inputs.law),
    };
    let mut facts = vec![
        ("failures", format!("every {} on average ({failures})", span(inputs.mtbf_seconds))),
        (
            "costs",
            format!(
                "C = {} a checkpoint, durable after {}, restart {}, down {}",
                span(costs.cost),
                span(costs.latency),
                span(costs.restart),
                span(costs.downtime)
            ),
        ),
    ];
    facts.extend((!inputs.assumed.is_empty()).then(|| ("assumed", inputs.assumed.join("; "))));
    for (what, text) in facts {
        output.text(&output.paint(&format!("{what:<10}"), Style::Dim))?;
        output.line(text)?;
    }
    let parts = &study.parts;
    let interval = output.paint(&span(study.interval_seconds), Style::Bold);
    output.text(&format!("\na checkpoint every {interval}"))?;
    output.line(format!(
        " (Young {}, Daly {} of work between two)",
        span(study.young_seconds),
        span(study.daly_seconds)
    ))?;
    output.line(format!(
        "expected waste {}: {} checkpoints, {} lost work, {} restarts",
        percent(study.expected_waste),
        percent(parts.checkpoints),
        percent(parts.lost),
        percent(parts.restarts)
    ))?;
    if let Some(two) = &study.two_level {
        output.line(match two.far_every {
            1 => "all checkpoints to the far place: the near one is of no use".to_owned(),
            every => format!(
                "with a near place: {} of work between two, every {every}th to the far place; expected waste {}",
                span(two.work),
                percent(two.waste)
            ),
        })?;
    }
    let Some(online) = study.online_waste else {
        output.text("\n")?;
        output.line("a job that wastes so much never comes to its end: fewer nodes, cheaper checkpoints, or other nodes are needed")?;
        return Ok(());
    };
    output.text("\n")?;
    output.text(&chart::text(study, COLUMNS))?;
    output.text("\n")?;
    let mut table = Table::new(&["checkpoints every", "waste", ""]);
    let mut add = |interval: String, waste: Option<f64>, what: &str| {
        let waste = waste.map_or_else(String::new, percent);
        table.row([Cell::new(interval).right(), Cell::new(waste).right(), Cell::new(what).styled(Style::Dim)]);
    };
    add("as it learns".to_owned(), Some(online), &format!("Piton, {} failures simulated", study.failures));
    add(span(study.interval_seconds), study.young_daly_waste, "Daly, knowing the mean");
    add(
        study.best_fixed_interval_s.map_or_else(String::new, span),
        study.best_fixed_waste,
        "the best fixed one, in hindsight",
    );
    for row in &study.fixed {
        add(span(row.interval_seconds), Some(row.waste), "fixed");
    }
    output.table(&table)?;
    if let Some(times) = &study.time_to_solution {
        let allocations = times.allocations.map_or_else(String::new, |count| match count {
            1 => ", in one allocation".to_owned(),
            count => format!(", in {count} allocations (waiting for them not counted)"),
        });
        output.text("\n")?;
        output.line(format!(
            "time to solution for {} of work: {} (median; 5 % {}, 95 % {}; {} simulated){allocations}",
            span(inputs.work_seconds),
            span(times.median),
            span(times.p5),
            span(times.p95),
            times.paths
        ))?;
    }
    output.text("\n")?;
    let mut table = Table::new(&["with half or twice the", "interval", "", "waste", ""]);
    for row in &study.sensitivity {
        let cell = |text: String| Cell::new(text).right();
        table.row([
            Cell::new(row.input),
            cell(span(row.half.interval_seconds)),
            cell(span(row.twice.interval_seconds)),
            cell(percent(row.half.waste)),
            cell(percent(row.twice.waste)),
        ]);
    }
    output.table(&table)?;
    Ok(())
}
