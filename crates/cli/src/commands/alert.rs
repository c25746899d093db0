//! `piton alert`: whether receivers of alerts can be told.

use crate::Common;
use crate::exit::Outcome;
use crate::output::{Cell, Output, Style, Table, human};
use anyhow::bail;
use piton::watch::alert::{Alert, Fingerprint, Notification, Settings, Why};
use piton::watch::process::host_name;
use piton::watch::{Action, Finding, Labels, Rules, Severity};
use piton_cli::notify::{self, Notified, Notifier};
use serde::Serialize;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

/// Try out who is told of alerts
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  piton alert test --rules rules.toml\n  piton alert test --rules rules.toml --receiver pager\n\n\
                  Exit status: 0 all were told; 1 one was not; 2 could not be done"
)]
pub struct AlertCommand {
    #[command(subcommand)]
    command: Subcommand,
}

#[derive(Debug, clap::Subcommand)]
enum Subcommand {
    Test(Test),
}

/// Send a test alert to each receiver of a rule file, and say what came of it
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  piton alert test --rules rules.toml")]
struct Test {
    /// The rule file, whose [alerts] section names the receivers
    #[arg(long, value_name = "FILE")]
    rules: PathBuf,
    /// Only this receiver; may be given several times
    #[arg(long, value_name = "NAME")]
    receiver: Vec<String>,
}

/// What came of telling one, as programs get it.
#[derive(Debug, Serialize)]
struct Row {
    receiver: String,
    /// What it is, without secrets.
    place: String,
    told: bool,
    outcome: String,
}

impl AlertCommand {
    /// Tells the receivers.
    ///
    /// # Errors
    /// What is wrong with the rule file.
    pub fn run(&self, _: &Common, output: &mut Output) -> anyhow::Result<Outcome> {
        let Subcommand::Test(test) = &self.command;
        let settings = Rules::read(&test.rules)?.alerts;
        let mut names: Vec<String> = settings.receivers.iter().map(|receiver| receiver.name.clone()).collect();
        if let Some(unknown) = test.receiver.iter().find(|name| !names.contains(name)) {
            bail!("{} has no receiver {unknown:?}; it has: {}", test.rules.display(), names.join(", "));
        }
        names.retain(|name| test.receiver.is_empty() || test.receiver.contains(name));
        if names.is_empty() {
            bail!(
                "{} names no receivers: add [[alerts.receivers]] with a name, and a command, webhook or mail",
                test.rules.display()
            );
        }
        let outcomes = tell(&settings, &names)?;
        let row = |name: &String| {
            let found = outcomes.iter().find(|notified| notified.receiver == *name);
            let told = found.is_some_and(|notified| matches!(notified.outcome, notify::Outcome::Told { .. }));
            let outcome = found.map_or_else(|| "no answer in time".to_owned(), |notified| notified.outcome.to_string());
            let place = settings.receiver(name).map_or_else(String::new, |receiver| receiver.place());
            Row { receiver: name.clone(), place, told, outcome }
        };
        let rows: Vec<Row> = names.iter().map(row).collect();
        print(&rows, output)?;
        Ok(if rows.iter().all(|row| row.told) { Outcome::Done } else { Outcome::No })
    }
}

/// Tells all of them, each for as long as it may take.
fn tell(settings: &Settings, names: &[String]) -> anyhow::Result<Vec<Notified>> {
    let mut labels = Labels::from([("node".to_owned(), host_name())]);
    let finding = Finding {
        rule: "PitonTest".to_owned(),
        severity: Severity::Info,
        labels: labels.clone(),
        summary: "this is a test: nothing is wrong".to_owned(),
        action: Action::Nothing,
        lasts: None,
    };
    let fingerprint = Fingerprint::of(&finding.rule, &labels);
    let alert = Alert { fingerprint, finding, since: 0.0, seen: 0.0, ended: None, times: 1 };
    labels.insert("rule".to_owned(), "PitonTest".to_owned());
    let (receivers, key) = (names.to_vec(), "{}:{rule=\"PitonTest\"}".to_owned());
    let notification = Notification {
        at: 0.0,
        why: Why::New,
        receivers,
        key,
        group: labels,
        firing: vec![alert],
        resolved: Vec::new(),
    };
    let (send, outcomes) = mpsc::channel();
    let notifier = Notifier::start(settings, move |notified| {
        // Nobody listens any more when all had their time.
        let _ = send.send(notified);
    })?;
    let slowest = settings.receivers.iter().map(|receiver| receiver.timeout).fold(0.0, f64::max);
    notifier.send(notification);
    // A webhook is tried three times.
    notifier.finish(Duration::from_secs_f64(3.0 * slowest + 5.0));
    Ok(outcomes.try_iter().collect())
}

fn print(rows: &[Row], output: &mut Output) -> anyhow::Result<()> {
    #[derive(Serialize)]
    struct Receivers<'a> {
        receivers: &'a [Row],
    }
    if output.is_json() {
        return Ok(output.json(&Receivers { receivers: rows })?);
    }
    let mut table = Table::new(&["receiver", "what", "outcome"]);
    for row in rows {
        let style = if row.told { Style::Good } else { Style::Bad };
        table.row([Cell::new(&row.receiver), Cell::new(&row.place), Cell::new(&row.outcome).styled(style)]);
    }
    output.table(&table)?;
    let failed = rows.iter().filter(|row| !row.told).count();
    if failed > 0 {
        output.line(format!("{} could not be told", human::count(failed, "receiver")))?;
    }
    Ok(())
}
