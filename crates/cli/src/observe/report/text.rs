//! The report as text for a terminal.

use super::{PARTS, blocked, interval, maybe, median, mtbf, node_time, offset, percent, spacings, span, taken};
use crate::human;
use crate::observe::Story;
use std::fmt::Write as _;

/// Rows of a table; the page and `--json` have all.
const ROWS: usize = 20;
/// Columns of the bar.
const BAR: usize = 40;

/// The report; it may hold anything that journals do.
#[must_use]
pub fn text(story: &Story) -> String {
    let mut text = String::new();
    let ran = story.started.until(story.last).as_secs_f64();
    let _ = writeln!(text, "{}: {} at step {}", story.job, story.state.words(), story.step);
    let _ =
        writeln!(text, "{}, {} from {} on", human::count(story.attempts.len(), "attempt"), span(ran), story.started);
    for doubt in &story.doubts {
        let _ = writeln!(text, "note: {doubt}");
    }
    let _ = writeln!(text, "\nWhere {} went", node_time(story.parts.all));
    for (name, seconds) in story.parts.named() {
        let share = story.parts.share(seconds);
        let bar = "█".repeat((share.clamp(0.0, 1.0) * BAR as f64).round() as usize);
        let _ = writeln!(text, "  {name:<10} {:>9}  {bar:<BAR$}  {}", percent(share), span(seconds));
    }
    let _ = writeln!(text);
    let taken = taken(story);
    let _ = writeln!(
        text,
        "checkpoints: {taken}, each blocked {}, one every {} (medians)",
        maybe(blocked(story)),
        maybe(median(spacings(story)))
    );
    if let Some((used, optimum, cost)) = interval(story) {
        let _ = writeln!(
            text,
            "interval: {} used last, {} optimal, for checkpoints that cost {}",
            maybe(used),
            maybe(optimum),
            span(cost)
        );
    }
    let _ = writeln!(text, "mean time between failures: {}", mtbf(story));
    if story.faults.is_empty() {
        let _ = writeln!(text, "\nNothing failed.");
    } else {
        let _ = writeln!(
            text,
            "\n{:<13} {:>8} {:>7} {:<16} {:>5} {:<12} {:>9} {:>9} {:>9} {:>9}  what",
            "Failures", "at", "attempt", "class", "rank", "node", "detected", "handled", "recovered", "lost"
        );
        let hidden = story.faults.len().saturating_sub(ROWS);
        for (number, fault) in story.faults.iter().enumerate().skip(hidden) {
            let at = fault.at();
            let _ = writeln!(
                text,
                "{:<13} {:>8} {:>7} {:<16} {:>5} {:<12} {:>9} {:>9} {:>9} {:>9}  {}",
                number + 1,
                offset(story, at),
                fault.epoch,
                fault.class,
                fault.rank.map_or_else(|| "–".to_owned(), |rank| rank.to_string()),
                fault.node.as_deref().unwrap_or("–"),
                maybe(fault.detect_seconds),
                maybe(fault.handle_seconds),
                maybe(fault.recover_seconds),
                maybe(fault.lost_seconds),
                fault.summary
            );
        }
        if hidden > 0 {
            let _ = writeln!(text, "and {hidden} earlier ones (--html, --json)");
        }
    }
    let suspicious: Vec<String> = story
        .nodes
        .iter()
        .filter(|node| node.failures > 0 || node.alerts > 0)
        .take(ROWS)
        .map(|node| format!("{} ({})", node.name, node.reasons.join(", ")))
        .collect();
    if !suspicious.is_empty() {
        let _ = writeln!(text, "\nNodes to look at: {}", suspicious.join("; "));
    }
    let right = story.alerts.iter().filter(|alert| alert.borne_out == Some(true)).count();
    let wrong = story.alerts.iter().filter(|alert| alert.borne_out == Some(false)).count();
    if !story.alerts.is_empty() {
        let _ = writeln!(
            text,
            "{}: {right} borne out by a failure, {wrong} not",
            human::count(story.alerts.len(), "alert")
        );
    }
    let _ = writeln!(text, "\nThe parts of the time:");
    for (name, what) in PARTS {
        let _ = writeln!(text, "  {name:<10} {what}");
    }
    text
}
