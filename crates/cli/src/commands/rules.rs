//! `piton rules`: what is taken for wrong with a node, and what it would have said about what was measured.

use crate::Common;
use crate::exit::Outcome;
use crate::jobs;
use crate::output::{Cell, Output, Style, Table, human};
use anyhow::{Context, bail};
use piton::journal::{self, Event, Record, WallTime};
use piton::medium::{Access, Medium, RealMedium};
use piton::watch::threshold::Evaluator;
use piton::watch::{Change, DEFAULT_RULES, Labels, Rules, Sample, Series, Severity};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Changes that are listed, the newest ones.
const MOST_LISTED: usize = 200;
/// Records of measurements that are taken into memory, of all files.
const MOST_RECORDS: usize = 200_000;
/// Nodes are measured at moments of their own; so many seconds apart they are compared.
const COMPARE_EVERY: f64 = 10.0;

/// Show, check and try the rules that say what is wrong with a node
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  piton rules show > rules.toml\n  piton rules check rules.toml\n  \
                  piton rules test rules.toml --replay piton/tsunami/000003\n  \
                  piton rules test --job tsunami --json | jq '.rules[] | select(.raised_per_day > 1)'\n\n\
                  Exit status: 0 done, or sound; 1 the rules are not sound, or nothing was measured; 2 could not be done")]
pub struct RulesCommand {
    #[command(subcommand)]
    command: Subcommand,
}

#[derive(Debug, clap::Subcommand)]
enum Subcommand {
    /// Print the rules that are built in, with what every key means: a file to start from
    Show,
    /// Say whether a rule file is sound, and what is wrong with it where it is not
    #[command(after_help = "Examples:\n  piton rules check rules.toml")]
    Check {
        /// The rule file
        file: PathBuf,
    },
    /// Tell which alerts rules would have raised, from what journals say was measured
    #[command(after_help = "Examples:\n  piton rules test rules.toml --replay piton/tsunami\n  \
                            piton rules test --replay journal.agent.jsonl\n  piton rules test rules.toml --job tsunami")]
    Test {
        /// The rule file: its rules, and the built-in ones unless it says `defaults = false`; without one, those that are built in
        file: Option<PathBuf>,
        /// A journal, the folder of an attempt, or that of a job; may be given several times
        #[arg(long, value_name = "PATH", required_unless_present = "job")]
        replay: Vec<PathBuf>,
        /// The journals of this job in the store
        #[arg(long)]
        job: Option<String>,
    },
}

/// One alert that began or ended.
#[derive(Debug, Serialize)]
struct Told {
    at: WallTime,
    /// `raised` or `cleared`.
    change: &'static str,
    rule: String,
    severity: Option<Severity>,
    labels: Labels,
    summary: Option<String>,
}

/// What a rule did.
#[derive(Debug, Default, Serialize)]
struct Account {
    rule: String,
    raised: usize,
    raised_per_day: f64,
    still: usize,
}

#[derive(Debug, Serialize)]
struct Replayed {
    rules_file: Option<PathBuf>,
    from: WallTime,
    until: WallTime,
    days: f64,
    samples: usize,
    series: usize,
    nodes: usize,
    raised: usize,
    raised_per_day: f64,
    rules: Vec<Account>,
    changes: Vec<Told>,
    notes: Vec<String>,
}

impl RulesCommand {
    /// Does it.
    ///
    /// # Errors
    /// Files that can't be read, and what is wrong with the configuration or the store.
    pub fn run(&self, common: &Common, output: &mut Output) -> anyhow::Result<Outcome> {
        match &self.command {
            Subcommand::Show => {
                if output.is_json() {
                    bail!("the rules are TOML; leave --json out");
                }
                output.text(DEFAULT_RULES)?;
                Ok(Outcome::Done)
            }
            Subcommand::Check { file } => check(file, output),
            Subcommand::Test { file, replay, job } => {
                let rules = match file {
                    Some(file) => Rules::in_force(file)?,
                    None => Rules::defaults(),
                };
                let mut records = Vec::new();
                let medium = RealMedium::new(Access::Private);
                for path in replay {
                    read(&medium, path, &mut records).with_context(|| format!("cannot replay {}", path.display()))?;
                }
                if let Some(job) = job {
                    let (reader, _) = jobs::open(common, Some(job))?;
                    read(&medium, reader.job().folder(), &mut records)?;
                }
                test(rules, file.clone(), records, output)
            }
        }
    }
}

fn check(file: &Path, output: &mut Output) -> anyhow::Result<Outcome> {
    /// What is in a file, and what is wrong with it.
    #[derive(Debug, Default, Serialize)]
    struct Checked {
        file: PathBuf,
        sound: bool,
        thresholds: usize,
        logs: usize,
        receivers: usize,
        /// Whether the built-in rules hold beside them.
        defaults: bool,
        problems: Vec<String>,
    }
    let mut checked = Checked { file: file.to_owned(), ..Checked::default() };
    match Rules::read(file) {
        Ok(rules) => {
            let of = |kind: &str, rule: &str, line: &str, what: &str| format!("{kind} {rule:?}: {what}: {line:?}");
            checked.thresholds = rules.thresholds.len();
            checked.logs = rules.logs.rules().count();
            checked.receivers = rules.alerts.receivers.len();
            checked.defaults = rules.with_defaults;
            let broken = rules.logs.check();
            checked.problems.extend(broken.iter().map(|sample| of("log", &sample.rule, &sample.line, &sample.what)));
            // Together with the built-in ones they may be too many.
            checked.problems.extend(Rules::in_force(file).err().map(|error| error.to_string()));
        }
        // Whoever can't read the file can't tell.
        Err(error @ piton::watch::RulesError::File { .. }) => return Err(error.into()),
        Err(error) => checked.problems.push(error.to_string()),
    }
    checked.sound = checked.problems.is_empty();
    let outcome = if checked.sound { Outcome::Done } else { Outcome::No };
    if output.is_json() {
        output.json(&checked)?;
    } else if checked.sound {
        output.line(format!(
            "{} is sound: {}, {}, {}; the built-in rules {}",
            file.display(),
            human::count(checked.thresholds, "threshold"),
            human::count(checked.logs, "log rule"),
            human::count(checked.receivers, "receiver"),
            if checked.defaults { "hold beside them" } else { "do not hold" }
        ))?;
    }
    if !output.is_json() {
        for problem in &checked.problems {
            eprintln!("piton: {}", crate::output::safe(problem));
        }
    }
    Ok(outcome)
}

/// Adds what was measured by the journals at `path`: one file, or all of a folder and of the folders of attempts in it.
fn read(medium: &dyn Medium, path: &Path, records: &mut Vec<Record>) -> anyhow::Result<()> {
    let is_sampled = |record: &Record| matches!(record.event, Event::Sampled { .. });
    if std::fs::metadata(path)?.is_file() {
        let mut reader = journal::Reader::open(medium, path)?;
        while let Some(record) = reader.next_record()? {
            records.extend(Some(record).filter(is_sampled));
            if records.len() > MOST_RECORDS {
                bail!("it holds more than {MOST_RECORDS} records of measurements: replay a part of it");
            }
        }
        return Ok(());
    }
    let mut folders = vec![path.to_path_buf()];
    for entry in medium.list(path)? {
        if piton::ids::Epoch::from_folder(&entry.name).is_some() {
            folders.push(path.join(&entry.name));
        }
    }
    for folder in folders {
        let journal = journal::read(medium, &folder)?;
        if journal.left_out_bytes > 0 {
            eprintln!(
                "piton: {}: {} at the beginning of the journals left out",
                crate::output::safe(&folder.display().to_string()),
                human::size(journal.left_out_bytes)
            );
        }
        records.extend(journal.records.into_iter().filter(is_sampled));
    }
    Ok(())
}

/// The samples of an event; what names no series is left out and counted.
fn samples(gauges: &BTreeMap<String, f64>, counters: &BTreeMap<String, f64>) -> (Vec<Sample>, usize) {
    let mut samples = Vec::with_capacity(gauges.len() + counters.len());
    let mut nameless = 0;
    for (values, sample) in [(gauges, Sample::gauge as fn(Series, f64) -> Sample), (counters, Sample::counter)] {
        for (name, value) in values {
            match name.parse() {
                Ok(series) => samples.push(sample(series, *value)),
                Err(_) => nameless += 1,
            }
        }
    }
    (samples, nameless)
}

fn test(rules: Rules, file: Option<PathBuf>, mut records: Vec<Record>, output: &mut Output) -> anyhow::Result<Outcome> {
    records.sort_by_key(|record| record.at);
    let (Some(first), Some(last)) = (records.first(), records.last()) else {
        eprintln!("piton: the journals say of nothing that it was measured");
        return Ok(Outcome::No);
    };
    let (from, until) = (first.at, last.at);
    let mut accounts: Vec<Account> =
        rules.thresholds.iter().map(|rule| Account { rule: rule.name.clone(), ..Account::default() }).collect();
    let (mut evaluator, mut changes, mut notes) = (Evaluator::new(rules.thresholds), Vec::new(), Vec::new());
    let (mut count, mut nameless, mut series) = (0, 0, 0);
    let mut compared = f64::NEG_INFINITY;
    let mut nodes = std::collections::BTreeSet::new();
    for record in &records {
        let Event::Sampled { node, gauges, counters } = &record.event else { continue };
        let (samples, without) = samples(gauges, counters);
        count += samples.len();
        nameless += without;
        nodes.insert(node);
        let now = record.at.unix_ms() as f64 / 1e3;
        let mut now_changed = evaluator.evaluate(now, node, &samples);
        if now - compared >= COMPARE_EVERY {
            compared = now;
            now_changed.extend(evaluator.compare(now));
        }
        series = series.max(evaluator.watched());
        changes.extend(now_changed.into_iter().map(|change| told(record.at, change)));
        notes.extend(evaluator.take_notes());
    }
    if nameless > 0 {
        notes.push(format!("{nameless} values were left out, whose names are no series"));
    }
    let days = from.until(until).as_secs_f64() / 86_400.0;
    // In less than an hour, what a day would bring can't be told.
    let per_day = |raised: usize| raised as f64 / days.max(1.0 / 24.0);
    for told in &changes {
        let Some(account) = accounts.iter_mut().find(|account| account.rule == told.rule) else { continue };
        match told.change {
            "raised" => (account.raised, account.still) = (account.raised + 1, account.still + 1),
            _ => account.still = account.still.saturating_sub(1),
        }
    }
    accounts.iter_mut().for_each(|account| account.raised_per_day = per_day(account.raised));
    let raised = changes.iter().filter(|told| told.change == "raised").count();
    let replayed = Replayed {
        rules_file: file,
        from,
        until,
        days,
        samples: count,
        series,
        nodes: nodes.len(),
        raised,
        raised_per_day: per_day(raised),
        rules: accounts,
        changes,
        notes,
    };
    if output.is_json() {
        output.json(&replayed)?;
    } else {
        print(&replayed, output)?;
    }
    Ok(Outcome::Done)
}

fn told(at: WallTime, change: Change) -> Told {
    match change {
        Change::Raised(finding) => Told {
            at,
            change: "raised",
            rule: finding.rule,
            severity: Some(finding.severity),
            labels: finding.labels,
            summary: Some(finding.summary),
        },
        Change::Cleared { rule, labels } => Told { at, change: "cleared", rule, severity: None, labels, summary: None },
    }
}

fn print(replayed: &Replayed, output: &mut Output) -> anyhow::Result<()> {
    output.line(format!(
        "{} of {}, {} series watched, {} to {} ({})",
        human::count(replayed.samples, "sample"),
        human::count(replayed.nodes, "node"),
        replayed.series,
        replayed.from,
        replayed.until,
        human::span(Duration::try_from_secs_f64(replayed.days * 86_400.0).unwrap_or_default())
    ))?;
    let hidden = replayed.changes.len().saturating_sub(MOST_LISTED);
    if hidden > 0 {
        output.line(format!("{hidden} earlier changes are not shown; --json lists all"))?;
    }
    if !replayed.changes.is_empty() {
        let mut table = Table::new(&["time", "", "severity", "rule", "node", "what"]);
        for told in &replayed.changes[hidden..] {
            let (severity, style) = match told.severity {
                Some(Severity::Critical) => ("critical", Style::Bad),
                Some(Severity::Warning) => ("warning", Style::Warning),
                Some(Severity::Info) => ("info", Style::Plain),
                None => ("", Style::Good),
            };
            let node = told.labels.get("node").map_or("", String::as_str);
            let others = told.labels.iter().filter(|(label, _)| *label != "node");
            let others: Vec<String> = others.map(|(label, value)| format!("{label} {value}")).collect();
            table.row([
                Cell::new(told.at.to_string()).styled(Style::Dim),
                Cell::new(told.change).styled(style),
                Cell::new(severity).styled(style),
                Cell::new(&told.rule),
                Cell::new(node),
                Cell::new(told.summary.clone().unwrap_or_else(|| others.join(", "))),
            ]);
        }
        output.table(&table)?;
        output.text("\n")?;
    }
    let mut table = Table::new(&["rule", "raised", "a day", "still"]);
    for account in replayed.rules.iter().filter(|account| account.raised > 0) {
        table.row([
            Cell::new(&account.rule),
            Cell::new(account.raised.to_string()).right(),
            Cell::new(human::number((account.raised_per_day * 100.0).round() / 100.0)).right(),
            Cell::new(if account.still > 0 { account.still.to_string() } else { String::new() }).right(),
        ]);
    }
    if replayed.raised > 0 {
        output.table(&table)?;
    }
    let silent = replayed.rules.iter().filter(|account| account.raised == 0).count();
    output.line(format!(
        "{} raised, {} a day; {} silent",
        human::count(replayed.raised, "alert"),
        human::number((replayed.raised_per_day * 100.0).round() / 100.0),
        human::count(silent, "rule")
    ))?;
    for note in &replayed.notes {
        output.line(note)?;
    }
    Ok(())
}
