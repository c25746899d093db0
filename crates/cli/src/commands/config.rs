//! `piton config`: the value in force of every setting, and where it came from.

use crate::Common;
use crate::exit::Outcome;
use crate::output::{Cell, Output, Style, Table};
use piton::config::Origin;

/// Show the value in force of every setting, and where it came from
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  piton config\n  piton config tsunami --json\n  piton config --sample > piton.toml"
)]
pub struct Config {
    /// Settings of this job, where piton.toml has some of its own
    job: Option<String>,
    /// Print a configuration file with every setting and what it means, at its default
    #[arg(long, conflicts_with_all = ["job", "json"])]
    sample: bool,
}

impl Config {
    /// Prints the table.
    ///
    /// # Errors
    /// What is wrong with the configuration.
    pub fn run(&self, common: &Common, output: &mut Output) -> anyhow::Result<Outcome> {
        if self.sample {
            output.text(&piton::config::sample())?;
            return Ok(Outcome::Done);
        }
        let rows = common.settings(self.job.as_deref())?.table();
        if output.is_json() {
            output.json(&rows)?;
            return Ok(Outcome::Done);
        }
        let mut table = Table::new(&["setting", "value", "from", "meaning"]);
        for row in rows {
            let changed = row.origin != Origin::Default;
            let style = if changed { Style::Plain } else { Style::Dim };
            table.row([
                Cell::new(row.key),
                Cell::new(row.value),
                Cell::new(row.origin.to_string()).styled(style),
                Cell::new(row.doc).styled(Style::Dim),
            ]);
        }
        output.table(&table)?;
        output.text(&match piton::tracking_available() {
            Ok(()) => {
                "\nThis machine's kernel tells which pages were written: `tracking` can copy only those.\n".into()
            }
            Err(reason) => format!("\n`tracking` does nothing on this machine, everything is copied: {reason}.\n"),
        })?;
        Ok(Outcome::Done)
    }
}
