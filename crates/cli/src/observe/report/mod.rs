//! What failures and checkpoints cost a job, and why: to read afterwards.
//!
//! Comes in: a job's story. Goes out: one page that needs nothing else, or text for a terminal. What must hold: a page stays small and legible however long
//! the job has lived; it says what it leaves out; a number has the digits that are known.

pub(in crate::observe) mod charts;
mod html;
mod text;

pub use html::html;
pub use text::text;

use super::story::Story;
use crate::human;
use piton::journal::WallTime;
use std::path::Path;

/// What each part of the time is.
pub const PARTS: [(&str, &str); 7] = [
    ("useful", "computing what no failure undid"),
    ("blocked", "standing still while the state was copied for a checkpoint"),
    ("slowed", "what steps took longer while a checkpoint was written"),
    ("lost", "computing what a failure undid: from the checkpoint that the job went on from to its last step"),
    ("detecting", "from the last step of a failed attempt until that was known"),
    ("restarting", "from there until the next attempt computed; also the job's own start"),
    ("waiting", "no attempt ran and none was on its way: in a queue, or resting after repeated failures"),
];

/// A time in seconds, as long ones are read.
fn span(seconds: f64) -> String {
    match seconds {
        seconds if !seconds.is_finite() => "unknown".to_owned(),
        seconds if seconds < 5e-7 => "0 s".to_owned(),
        seconds => human::short(seconds),
    }
}

fn maybe(seconds: Option<f64>) -> String {
    seconds.map_or_else(|| "–".to_owned(), span)
}

/// Node time: `3.2 node-hours`.
fn node_time(seconds: f64) -> String {
    match seconds {
        seconds if seconds < 600.0 => format!("{} node-seconds", human::number((seconds * 10.0).round() / 10.0)),
        seconds if seconds < 100.0 * 3600.0 => format!("{:.2} node-hours", seconds / 3600.0),
        seconds => format!("{:.0} node-hours", seconds / 3600.0),
    }
}

fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}

/// How long after the job's start.
fn offset(story: &Story, at: WallTime) -> String {
    format!("+{}", span(story.started.until(at).as_secs_f64()))
}

/// What the mean time between failures is, in words.
fn mtbf(story: &Story) -> String {
    let mtbf = &story.mtbf;
    let high = mtbf.high_seconds.map_or_else(|| "unknown".to_owned(), span);
    match mtbf.seconds {
        Some(seconds) => format!("{} (95 %: {} to {high})", span(seconds), span(mtbf.low_seconds)),
        None => format!("no failure in {}: more than {} (97.5 %)", span(mtbf.observed_seconds), span(mtbf.low_seconds)),
    }
}

/// The interval between checkpoints that was used last, the optimum then, and what a checkpoint cost.
fn interval(story: &Story) -> Option<(Option<f64>, Option<f64>, f64)> {
    let last = story.attempts.iter().rev().find_map(|attempt| attempt.schedule.last())?;
    Some((last.interval, last.optimum, last.cost))
}

/// How many checkpoints the job took.
fn taken(story: &Story) -> u64 {
    story.attempts.iter().map(|attempt| attempt.taken).sum()
}

/// How long one blocked the application, seconds; the middle one.
fn blocked(story: &Story) -> Option<f64> {
    median(story.attempts.iter().flat_map(|attempt| &attempt.checkpoints).map(|taken| taken.blocked).collect())
}

/// Spans between the calls of two checkpoints, seconds, of all attempts.
fn spacings(story: &Story) -> Vec<f64> {
    let of = |attempt: &super::AttemptStory| {
        let pairs = attempt.checkpoints.windows(2);
        pairs.map(|pair| pair[0].at.until(pair[1].at).as_secs_f64()).collect::<Vec<_>>()
    };
    story.attempts.iter().flat_map(of).collect()
}

/// The middle one.
fn median(mut numbers: Vec<f64>) -> Option<f64> {
    numbers.retain(|number| number.is_finite());
    numbers.sort_by(f64::total_cmp);
    (!numbers.is_empty()).then(|| numbers[numbers.len() / 2])
}

/// Writes a file whole or not at all: whoever looks at it meanwhile sees the one before.
///
/// # Errors
/// Those of the file system.
pub fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let name = path.file_name().ok_or_else(|| std::io::Error::other("it is the name of no file"))?;
    let mut partial = std::ffi::OsString::from(".");
    partial.push(name);
    partial.push(format!(".{}", std::process::id()));
    let partial = path.with_file_name(partial);
    let written = std::fs::write(&partial, text).and_then(|()| std::fs::rename(&partial, path));
    if written.is_err() {
        // What could not be written whole is of no use.
        let _ = std::fs::remove_file(&partial);
    }
    written
}
