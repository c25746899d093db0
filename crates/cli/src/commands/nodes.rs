//! `piton nodes`: which nodes have failed, and which of them are left out.

use crate::exit::Outcome;
use crate::output::{Cell, Output, Style, Table, human};
use crate::{Common, jobs};
use anyhow::Context;
use piton::journal::WallTime;
use piton_cli::supervise::node_file::{self, Entry, What};
use serde::Serialize;

/// List the nodes on which ranks died or hung, and clear them once they are good again
///
/// `piton run` leaves out a node that has failed as often as the setting `quarantine_after` says, within the time that `quarantine_for` says, unless there
/// is no other one. The record is kept in the store, for all jobs that have their checkpoints there.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  piton nodes\n  piton nodes clear n17 n18\n  piton nodes --json | jq -r '.[] | select(.quarantined) | .node'\n\n\
                  Exit status: 0 no node is left out; 1 some are; 2 could not tell"
)]
pub struct Nodes {
    #[command(subcommand)]
    command: Option<Subcommand>,
}

#[derive(Debug, clap::Subcommand)]
enum Subcommand {
    /// Let nodes be used again
    #[command(after_help = "Examples:\n  piton nodes clear n17 n18")]
    Clear {
        /// The nodes
        #[arg(required = true, value_name = "NODE")]
        nodes: Vec<String>,
    },
}

#[derive(Debug, Serialize)]
struct Listed {
    node: String,
    failures: u32,
    /// It gets no ranks any more where there are others.
    quarantined: bool,
    last: WallTime,
    why: String,
}

impl Nodes {
    /// Lists or clears.
    ///
    /// # Errors
    /// What is wrong with the configuration or the store.
    pub fn run(&self, common: &Common, output: &mut Output) -> anyhow::Result<Outcome> {
        let (store, settings) = jobs::store(common, None)?;
        let store = store.root();
        let now = WallTime::now();
        if let Some(Subcommand::Clear { nodes }) = &self.command {
            for node in nodes {
                let entry = Entry { at: now, node: node.clone(), what: What::Cleared, why: jobs::who() };
                node_file::append(store, &entry)
                    .with_context(|| format!("{} can't be written", node_file::path(store).display()))?;
            }
        }
        let fared = node_file::read(store, now, settings.quarantine_for)
            .with_context(|| format!("{} can't be read", node_file::path(store).display()))?;
        let enough = settings.quarantine_after;
        let listed: Vec<Listed> = fared
            .into_iter()
            .map(|(node, fared)| Listed {
                node,
                failures: fared.failures,
                quarantined: enough > 0 && fared.failures >= enough,
                last: fared.last,
                why: fared.why,
            })
            .collect();
        let outcome = if listed.iter().any(|node| node.quarantined) { Outcome::No } else { Outcome::Done };
        if output.is_json() {
            output.json(&listed)?;
        } else if listed.is_empty() {
            output.line("no node has failed")?;
        } else {
            let mut table = Table::new(&["node", "failures", "", "last", "what"]);
            for node in &listed {
                let left_out = if node.quarantined { Cell::new("left out").styled(Style::Bad) } else { Cell::new("") };
                let last = format!("{} ago", human::span(node.last.until(now)));
                let failures = Cell::new(node.failures.to_string()).right();
                table.row([Cell::new(&node.node), failures, left_out, Cell::new(last), Cell::new(&node.why)]);
            }
            output.table(&table)?;
        }
        Ok(outcome)
    }
}
