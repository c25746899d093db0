//! `piton ls`: the checkpoints of a job, or the jobs of a store.

use crate::exit::Outcome;
use crate::output::{Cell, Output, Style, Table, human};
use crate::{Common, jobs};
use piton::ids::{CheckpointName, Epoch};
use piton::reader::Reader;
use piton::store::{Catalogue, CheckpointEntry, CheckpointState, Liveness, ProcessIdentity};
use serde::Serialize;
use std::time::{Duration, UNIX_EPOCH};

/// List the checkpoints of a job, or the jobs of a store
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  piton ls\n  piton ls tsunami\n  piton ls tsunami --json | jq '.checkpoints[-1].step'"
)]
pub struct Ls {
    /// The job; without one, that of the store, or a table of all jobs where there are several
    job: Option<String>,
}

/// One checkpoint, as programs get it.
#[derive(Debug, Serialize)]
pub struct Row {
    epoch: u64,
    id: u64,
    step: Option<u64>,
    age_seconds: Option<f64>,
    ranks: Option<u32>,
    raw_bytes: Option<u64>,
    stored_bytes: Option<u64>,
    ratio: Option<f64>,
    /// `committed`, `complete`, `partial`, `writing`, `damaged` or `unreadable`.
    state: &'static str,
    /// What is wrong, where something is.
    detail: Option<String>,
    set_aside: Option<String>,
    /// Why its values are suspect, where they are; it may be resumed all the same.
    suspect: Option<String>,
    pinned: bool,
    label: Option<String>,
}

#[derive(Debug, Serialize)]
struct JobList<'a> {
    job: &'a str,
    checkpoints: &'a [Row],
}

#[derive(Debug, Serialize)]
struct JobRow {
    job: String,
    /// `running`, `finished` or `stopped`, as far as it can be told from here at once; `unknown` where not.
    state: &'static str,
    attempts: usize,
    checkpoints: usize,
    newest: Option<Row>,
    problem: Option<String>,
}

impl Ls {
    /// Prints the table.
    ///
    /// # Errors
    /// What is wrong with the configuration or the store.
    pub fn run(&self, common: &Common, output: &mut Output) -> anyhow::Result<Outcome> {
        if self.job.is_none() {
            let (store, _) = jobs::store(common, None)?;
            let names = jobs::names(&store)?;
            if names.len() > 1 {
                let rows: Vec<JobRow> =
                    names.into_iter().map(|name| job_row(Reader::open(&store, &name), name)).collect();
                return print_jobs(&rows, &store.root().display().to_string(), output);
            }
        }
        let (reader, _) = jobs::open(common, self.job.as_deref())?;
        let catalogue = reader.catalogue()?;
        let rows: Vec<Row> = catalogue.entries.iter().map(|entry| row(&reader, entry)).collect();
        if output.is_json() {
            output.json(&JobList { job: reader.job().name(), checkpoints: &rows })?;
            return Ok(Outcome::Done);
        }
        print_checkpoints(&reader, &catalogue, &rows, output)
    }
}

/// The state of an attempt, as far as it can be told at once.
fn attempt_state(reader: &Reader, epoch: Epoch) -> &'static str {
    let job = reader.job();
    if job.finished(epoch).is_some() {
        return "finished";
    }
    if job.has_ended(epoch) {
        return "stopped";
    }
    let claim =
        job.claims().unwrap_or_default().into_iter().find_map(|(of, claim)| (of == epoch).then_some(claim.ok()?));
    match claim.map(|claim| claim.process.liveness(&ProcessIdentity::current())) {
        Some(Liveness::Alive) => "running",
        Some(Liveness::Gone) => "stopped",
        Some(Liveness::Unknown) | None => "unknown",
    }
}

fn ratio(raw: u64, stored: u64) -> Option<f64> {
    (stored > 0).then(|| raw as f64 / stored as f64)
}

/// What is known of a checkpoint without reading all of it.
pub fn row(reader: &Reader, entry: &CheckpointEntry) -> Row {
    let CheckpointName { epoch, id } = entry.name;
    let mut row = Row {
        epoch: epoch.0,
        id: id.0,
        step: None,
        age_seconds: None,
        ranks: None,
        raw_bytes: None,
        stored_bytes: None,
        ratio: None,
        state: "committed",
        detail: None,
        set_aside: entry.set_aside.clone(),
        suspect: reader.job().suspect(entry.name).map(|suspect| suspect.reason),
        pinned: entry.pinned,
        label: None,
    };
    match &entry.state {
        CheckpointState::Committed(manifest) => {
            row.step = Some(manifest.step);
            row.age_seconds = Some(jobs::age(manifest.created_unix_ms).as_secs_f64());
            row.ranks = Some(manifest.world);
            row.raw_bytes = Some(manifest.raw_bytes);
            row.stored_bytes = Some(manifest.stored_bytes);
            row.ratio = ratio(manifest.raw_bytes, manifest.stored_bytes);
            row.label = manifest.label.clone();
        }
        CheckpointState::Complete { world, step } => {
            row.state = "complete";
            (row.ranks, row.step) = (Some(*world), Some(*step));
            match reader.checkpoint(entry.name) {
                Ok(checkpoint) => {
                    let manifest = checkpoint.manifest();
                    (row.raw_bytes, row.stored_bytes) = (Some(manifest.raw_bytes), Some(manifest.stored_bytes));
                    row.ratio = ratio(manifest.raw_bytes, manifest.stored_bytes);
                }
                Err(error) => row.detail = Some(error.to_string()),
            }
        }
        CheckpointState::Partial { shards } => {
            let writing = attempt_state(reader, epoch) == "running";
            row.state = if writing { "writing" } else { "partial" };
            row.detail = Some(format!("{} there", human::count(*shards, "shard")));
        }
        CheckpointState::Damaged(what) => (row.state, row.detail) = ("damaged", Some(what.clone())),
        CheckpointState::Unreadable(what) => (row.state, row.detail) = ("unreadable", Some(what.clone())),
    }
    if row.age_seconds.is_none() {
        let stat = reader.job().medium().stat(&reader.job().checkpoint_folder(entry.name)).ok();
        let since = stat.and_then(|stat| stat.modified?.duration_since(UNIX_EPOCH).ok());
        row.age_seconds = since.map(|since| jobs::age(u64::try_from(since.as_millis()).unwrap_or(0)).as_secs_f64());
    }
    row
}

impl Row {
    fn age(&self) -> String {
        self.age_seconds.map_or_else(String::new, |seconds| human::span(Duration::from_secs_f64(seconds.max(0.0))))
    }

    /// Step, age, ranks and sizes, as they stand in a table.
    fn figures(&self) -> [Cell; 6] {
        let number = |number: Option<u64>| number.map_or_else(String::new, |number| number.to_string());
        let size = |bytes: Option<u64>| bytes.map_or_else(String::new, human::size);
        let ratio =
            self.raw_bytes.zip(self.stored_bytes).map_or_else(String::new, |(raw, stored)| human::ratio(raw, stored));
        [
            number(self.step),
            self.age(),
            number(self.ranks.map(u64::from)),
            size(self.raw_bytes),
            size(self.stored_bytes),
            ratio,
        ]
        .map(|text| Cell::new(text).right())
    }

    fn state_text(&self) -> (String, Style) {
        let (mut text, mut style) = match self.state {
            "committed" => ("committed".to_owned(), Style::Good),
            "complete" => ("complete (not committed)".to_owned(), Style::Warning),
            "partial" => (format!("partial ({})", self.detail.as_deref().unwrap_or_default()), Style::Warning),
            "writing" => ("being written".to_owned(), Style::Plain),
            state => (state.to_owned(), Style::Bad),
        };
        if self.set_aside.is_some() {
            text.push_str(", set aside");
            style = Style::Bad;
        }
        if self.suspect.is_some() {
            text.push_str(", suspect");
            style = if style == Style::Bad { style } else { Style::Warning };
        }
        if self.pinned {
            text.push_str(", pinned");
        }
        (text, style)
    }
}

fn print_checkpoints(
    reader: &Reader,
    catalogue: &Catalogue,
    rows: &[Row],
    output: &mut Output,
) -> anyhow::Result<Outcome> {
    let job = reader.job();
    output.line(format!("{}  {}", job.name(), job.folder().display()))?;
    if rows.is_empty() {
        output.line("no checkpoint yet")?;
        return Ok(Outcome::Done);
    }
    let several = catalogue.entries.windows(2).any(|two| two[0].name.epoch != two[1].name.epoch);
    let mut headings = vec!["id", "step", "age", "ranks", "raw", "stored", "ratio", "state", "label"];
    if several {
        headings.insert(0, "epoch");
    }
    let mut table = Table::new(&headings);
    for row in rows {
        let (state, style) = row.state_text();
        let older = Epoch(row.epoch) < catalogue.lineage;
        let state = if older { format!("{state}, archived") } else { state };
        let mut cells = vec![Cell::new(row.id.to_string()).right()];
        if several {
            cells.insert(0, Cell::new(row.epoch.to_string()).right());
        }
        cells.extend(row.figures());
        cells.push(Cell::new(state).styled(style));
        cells.push(Cell::new(row.label.as_deref().unwrap_or_default()));
        table.row(cells);
    }
    output.table(&table)?;
    for row in rows {
        let wrong = matches!(row.state, "damaged" | "unreadable" | "complete").then_some(row.detail.as_ref()).flatten();
        for what in wrong.into_iter().chain(&row.set_aside).chain(&row.suspect) {
            output.line(format!("{}/{}: {what}", row.epoch, row.id))?;
        }
    }
    Ok(Outcome::Done)
}

fn job_row(reader: Result<Reader, piton::reader::ReadError>, job: String) -> JobRow {
    let looked = reader.and_then(|reader| reader.catalogue().map(|catalogue| (reader, catalogue)));
    match looked {
        Ok((reader, catalogue)) => JobRow {
            job,
            state: catalogue.epochs.last().map_or("unknown", |epoch| attempt_state(&reader, *epoch)),
            attempts: catalogue.epochs.len(),
            checkpoints: catalogue.candidates().count(),
            newest: catalogue.candidates().next().map(|entry| row(&reader, entry)),
            problem: None,
        },
        Err(error) => JobRow {
            job,
            state: "unknown",
            attempts: 0,
            checkpoints: 0,
            newest: None,
            problem: Some(error.to_string()),
        },
    }
}

fn print_jobs(rows: &[JobRow], store: &str, output: &mut Output) -> anyhow::Result<Outcome> {
    #[derive(Serialize)]
    struct Jobs<'a> {
        store: &'a str,
        jobs: &'a [JobRow],
    }
    if output.is_json() {
        output.json(&Jobs { store, jobs: rows })?;
        return Ok(Outcome::Done);
    }
    output.line(format!("{} in {store}", human::count(rows.len(), "job")))?;
    let headings =
        ["job", "attempts", "checkpoints", "newest", "step", "age", "ranks", "raw", "stored", "ratio", "state"];
    let mut table = Table::new(&headings);
    for row in rows {
        let mut cells = vec![
            Cell::new(&row.job),
            Cell::new(row.attempts.to_string()).right(),
            Cell::new(row.checkpoints.to_string()).right(),
        ];
        match &row.newest {
            Some(newest) => {
                cells.push(Cell::new(format!("{}/{}", newest.epoch, newest.id)).right());
                cells.extend(newest.figures());
            }
            None => cells.extend((0..7).map(|_| Cell::new("").right())),
        }
        let style = if row.state == "running" { Style::Good } else { Style::Plain };
        cells.push(Cell::new(row.state).styled(style));
        table.row(cells);
    }
    output.table(&table)?;
    for row in rows {
        if let Some(problem) = &row.problem {
            output.line(format!("{}: {problem}", row.job))?;
        }
    }
    Ok(Outcome::Done)
}
