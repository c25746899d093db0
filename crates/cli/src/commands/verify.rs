//! `piton verify`: whether every byte is what was written.

use crate::exit::Outcome;
use crate::output::{Output, Style, human, progress};
use crate::{Common, jobs};
use anyhow::bail;
use piton::reader::{Reader, Soundness, Verdict, Wrong};
use piton::store::{CheckpointEntry, CheckpointState};
use serde::Serialize;
use std::time::Instant;

/// Read every byte of checkpoints and say whether it is what was written
///
/// Without an ID, all checkpoints that are committed, complete or damaged are read; partial ones are being written, or were
/// left by an attempt that died, and hold nothing. Nothing is written.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  piton verify\n  piton verify tsunami latest\n  piton verify tsunami 2/14 --json\n\n\
                  Exit status: 0 all are sound; 1 one is damaged, or not found; 2 could not tell"
)]
pub struct Verify {
    /// The job, which may be left out where the store holds one, and the checkpoint: ID, EPOCH/ID or latest
    #[arg(value_names = ["JOB", "ID"], num_args = 0..=2)]
    words: Vec<String>,
    /// All checkpoints, as without an ID
    #[arg(long)]
    all: bool,
}

#[derive(Debug, Serialize)]
struct Answer {
    job: String,
    /// `sound`, `damaged` or `unknown`.
    result: &'static str,
    checkpoints: Vec<Checked>,
}

#[derive(Debug, Serialize)]
struct Checked {
    epoch: u64,
    id: u64,
    result: &'static str,
    raw_bytes: u64,
    problems: Vec<Problem>,
}

#[derive(Debug, Serialize)]
struct Problem {
    rank: Option<u32>,
    region: Option<String>,
    /// Where the chunk starts in the region, in raw bytes.
    offset: Option<u64>,
    /// Where it starts in the shard.
    place: Option<u64>,
    damaged: bool,
    what: String,
}

fn word(soundness: Soundness) -> &'static str {
    match soundness {
        Soundness::Sound => "sound",
        Soundness::Damaged => "damaged",
        Soundness::Unknown => "unknown",
    }
}

fn outcome(soundness: Soundness) -> Outcome {
    match soundness {
        Soundness::Sound => Outcome::Done,
        Soundness::Damaged => Outcome::No,
        Soundness::Unknown => Outcome::Unknown,
    }
}

fn checked(verdict: &Verdict) -> Checked {
    let problem = |problem: &piton::reader::ShardProblem| {
        let (chunk, what) = match &problem.wrong {
            Wrong::Chunk(chunk) => (Some(chunk), chunk.what.clone()),
            Wrong::File(what) | Wrong::Unreadable(what) => (None, what.clone()),
        };
        Problem {
            rank: problem.rank,
            region: chunk.map(|chunk| chunk.field.clone()),
            offset: chunk.map(|chunk| chunk.offset),
            place: chunk.map(|chunk| chunk.place),
            damaged: !matches!(problem.wrong, Wrong::Unreadable(_)),
            what,
        }
    };
    Checked {
        epoch: verdict.name.epoch.0,
        id: verdict.name.id.0,
        result: word(verdict.soundness()),
        raw_bytes: verdict.raw_bytes,
        problems: verdict.problems.iter().map(problem).collect(),
    }
}

impl Verify {
    /// Reads, and prints what was found.
    ///
    /// # Errors
    /// What is wrong with the configuration or the store.
    pub fn run(&self, common: &Common, output: &mut Output) -> anyhow::Result<Outcome> {
        let (job, checkpoint) = jobs::split_one(&self.words);
        if self.all && checkpoint.is_some() {
            bail!("--all and one checkpoint exclude each other");
        }
        let (reader, _) = jobs::open(common, job)?;
        let catalogue = reader.catalogue()?;
        let chosen: Vec<&CheckpointEntry> = match checkpoint {
            Some(word) => {
                let name = reader.find_in(&catalogue, jobs::selection(word)?)?;
                catalogue.entries.iter().filter(|entry| entry.name == name).collect()
            }
            None => {
                let whole = |entry: &&CheckpointEntry| !matches!(entry.state, CheckpointState::Partial { .. });
                catalogue.entries.iter().filter(whole).collect()
            }
        };
        let bar = progress::of_bytes(chosen.iter().map(|entry| Reader::bytes_to_verify(entry)).sum());
        let (mut worst, mut answers) = (Outcome::Done, Vec::new());
        for entry in chosen {
            let started = Instant::now();
            let verdict = reader.verify(entry.name, &|bytes| bar.inc(bytes));
            let soundness = verdict.soundness();
            worst = worst.max(outcome(soundness));
            if !output.is_json() {
                let seconds = started.elapsed().as_secs_f64();
                // Nothing of the table may be drawn into the bar.
                bar.suspend(|| print(&reader, &verdict, seconds, output))?;
            }
            answers.push(checked(&verdict));
        }
        bar.finish_and_clear();
        let result = match worst {
            Outcome::Done => "sound",
            Outcome::No => "damaged",
            Outcome::Unknown => "unknown",
        };
        if output.is_json() {
            output.json(&Answer { job: reader.job().name().to_owned(), result, checkpoints: answers })?;
        } else if answers.is_empty() {
            output.line(format!("{}: no checkpoint to verify", reader.job().name()))?;
        }
        Ok(worst)
    }
}

fn print(reader: &Reader, verdict: &Verdict, seconds: f64, output: &mut Output) -> std::io::Result<()> {
    let name = format!("{} {}/{}: ", reader.job().name(), verdict.name.epoch, verdict.name.id);
    let (text, style) = match verdict.soundness() {
        Soundness::Sound => ("sound", Style::Good),
        Soundness::Damaged => ("damaged", Style::Bad),
        Soundness::Unknown => ("could not tell", Style::Warning),
    };
    let text = output.paint(text, style);
    let rate = (verdict.raw_bytes as f64 / seconds.max(1e-9)) as u64;
    let read = format!(", {} in {} ({}/s)", human::size(verdict.raw_bytes), human::short(seconds), human::size(rate));
    output.text(&format!("{name}{text}{}\n", if verdict.problems.is_empty() { read } else { String::new() }))?;
    for problem in &verdict.problems {
        output.line(format!("  {problem}"))?;
    }
    output.flush()
}
