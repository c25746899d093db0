//! The report as one HTML file that needs nothing else.
//!
//! What must hold: whatever stands in a journal is escaped; rows are bounded, and the page says how many it leaves out; without scripts nothing is
//! missing but times in the reader's own zone.

use super::{PARTS, blocked, charts, interval, maybe, median, mtbf, node_time, offset, percent, spacings, span, taken};
use crate::human;
use crate::observe::{Alert, AttemptStory, Fault, Story, ending_words};
use crate::picture::escape;
use piton::journal::WallTime;
use std::fmt::Write as _;

/// Rows of each table, the newest ones.
const ROWS: usize = 400;
/// Pieces of evidence beside a failure.
const EVIDENCE: usize = 12;

const STYLE: &str = include_str!("page.css");
/// Times as the reader's own clock has them; the page has them in UTC.
const SCRIPT: &str = "for (const time of document.querySelectorAll('time')) {\
 const at = new Date(time.dateTime); if (isNaN(at)) continue;\
 const two = (number) => String(number).padStart(2, '0');\
 time.title = time.textContent + ' UTC';\
 time.textContent = [at.getFullYear(), two(at.getMonth() + 1), two(at.getDate())].join('-') + ' ' +\
 [two(at.getHours()), two(at.getMinutes()), two(at.getSeconds())].join(':'); }";

fn moment(at: WallTime) -> String {
    let text = at.to_string();
    let shown = text.get(..19).unwrap_or(&text).replace('T', " ");
    format!("<time datetime=\"{}\">{}</time>", escape(&text), escape(&shown))
}

/// A table; `columns` says of each its heading, and whether it holds numbers.
fn table(page: &mut String, caption: &str, columns: &[(&str, bool)], rows: &[Vec<String>]) {
    // Sentences need room, numbers do not.
    let class = |heading: &str, number: bool| match (number, heading.starts_with("what")) {
        (true, _) => " class=\"n\"",
        (false, true) => " class=\"t\"",
        (false, false) => "",
    };
    let _ = writeln!(page, "<div class=\"wide\"><table><caption>{}</caption><thead><tr>", escape(caption));
    for (heading, number) in columns {
        let _ = write!(page, "<th scope=\"col\"{}>{}</th>", class(heading, *number), escape(heading));
    }
    page.push_str("</tr></thead><tbody>\n");
    for row in rows {
        page.push_str("<tr>");
        for (cell, (heading, number)) in row.iter().zip(columns) {
            let _ = write!(page, "<td{}>{cell}</td>", class(heading, *number));
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</tbody></table></div>\n");
}

/// The newest rows, and how many are left out.
fn newest<T>(all: &[T]) -> (&[T], usize) {
    let hidden = all.len().saturating_sub(ROWS);
    (&all[hidden..], hidden)
}

fn caption(what: &str, hidden: usize) -> String {
    if hidden > 0 {
        format!("{what}; {hidden} earlier ones are left out (piton report --json has all)")
    } else {
        what.to_owned()
    }
}

fn evidence(lines: &[String], summary: &str) -> String {
    if lines.is_empty() {
        return escape(summary);
    }
    let kept: Vec<String> = lines.iter().take(EVIDENCE).map(|line| escape(line)).collect();
    format!("<details><summary>{}</summary><pre>{}</pre></details>", escape(summary), kept.join("\n"))
}

fn fault_row(story: &Story, number: usize, fault: &Fault) -> Vec<String> {
    let at = fault.at();
    vec![
        number.to_string(),
        format!("{}<br><span class=\"faint\">{}</span>", moment(at), escape(&offset(story, at))),
        fault.epoch.to_string(),
        escape(&fault.class),
        fault.rank.map_or_else(|| "–".to_owned(), |rank| rank.to_string()),
        fault.node.as_deref().map_or_else(|| "–".to_owned(), escape),
        maybe(fault.detect_seconds),
        maybe(fault.locate_seconds),
        maybe(fault.handle_seconds),
        maybe(fault.recover_seconds),
        maybe(fault.lost_seconds),
        evidence(&fault.evidence, &fault.summary),
        fault.action.as_deref().map_or_else(|| "–".to_owned(), escape),
    ]
}

fn attempt_row(story: &Story, attempt: &AttemptStory, runs: bool) -> Vec<String> {
    let at = &attempt.moments;
    let from =
        attempt.resumed_from.map_or_else(|| "the beginning".to_owned(), |from| format!("{}/{}", from.epoch, from.id));
    let batch = attempt.batch_job.as_deref().map_or_else(
        || "–".to_owned(),
        |job| match attempt.batch_restarts {
            Some(restarts @ 1..) => format!("{}, restart {restarts}", escape(job)),
            _ => escape(job),
        },
    );
    let nodes = match attempt.node_names.as_slice() {
        [] => attempt.nodes.map_or_else(|| escape(&attempt.host), |nodes| nodes.to_string()),
        names if names.len() <= 4 => escape(&names.join(", ")),
        names => names.len().to_string(),
    };
    vec![
        attempt.epoch.to_string(),
        format!("{}<br><span class=\"faint\">{}</span>", moment(at.started), escape(&offset(story, at.started))),
        span(at.started.until(at.known).as_secs_f64()),
        attempt.world.to_string(),
        nodes,
        batch,
        from,
        maybe(attempt.restore_seconds),
        attempt.taken.to_string(),
        attempt.last_step.to_string(),
        ending_words(attempt.ending, runs).to_owned(),
        percent(attempt.parts.share(attempt.parts.useful)),
    ]
}

fn alert_row(story: &Story, alert: &Alert) -> Vec<String> {
    let labels: Vec<String> = alert.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    vec![
        format!("{}<br><span class=\"faint\">{}</span>", moment(alert.since), escape(&offset(story, alert.since))),
        alert.until.map_or_else(|| "–".to_owned(), |until| span(alert.since.until(until).as_secs_f64())),
        escape(&alert.severity),
        escape(&alert.rule),
        escape(&labels.join(", ")),
        escape(&alert.summary),
        match alert.borne_out {
            Some(true) => "yes".to_owned(),
            Some(false) => "no".to_owned(),
            None => "–".to_owned(),
        },
    ]
}

fn figures(page: &mut String, story: &Story) {
    let mut figure = |value: &str, what: &str| {
        let _ = writeln!(page, "<li><b>{}</b>{}</li>", escape(value), escape(what));
    };
    let taken = taken(story);
    figure(&percent(story.parts.share(story.parts.useful)), &format!("of {} was useful", node_time(story.parts.all)));
    figure(
        &human::count(story.faults.len(), "failure"),
        &format!("in {}; mean time between failures {}", human::count(story.attempts.len(), "attempt"), mtbf(story)),
    );
    figure(
        &human::count(usize::try_from(taken).unwrap_or(usize::MAX), "checkpoint"),
        &format!("one every {}, each blocked {} (medians)", maybe(median(spacings(story))), maybe(blocked(story))),
    );
    if let Some((used, optimum, cost)) = interval(story) {
        figure(
            &used.map_or_else(|| "none by time".to_owned(), span),
            &format!(
                "from checkpoint to checkpoint, as used last; optimal: {}, for a cost of {}",
                maybe(optimum),
                span(cost)
            ),
        );
    }
    let recovered: Vec<f64> = story
        .faults
        .iter()
        .filter_map(|fault| Some(fault.computed_until.until(fault.recovered?).as_secs_f64()))
        .collect();
    if let Some(seconds) = median(recovered) {
        figure(&span(seconds), "from the last step before a failure to computing again (median)");
    }
}

/// The report as a page. At most some hundred rows of each kind.
#[must_use]
pub fn html(story: &Story) -> String {
    let job = escape(&story.job);
    let running = story.state == crate::observe::State::Running;
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\n\
         <title>{job}: report</title>\n<style>\n{STYLE}</style></head><body>\n<h1>{job}</h1>\n"
    );
    let name = story.state.words();
    let class = name.split(' ').next().unwrap_or_default();
    let ran = span(story.started.until(story.last).as_secs_f64());
    let _ = writeln!(
        page,
        "<p><span class=\"state {class}\">{name}</span> at step {}, from {} to {} ({ran}). \
         <span class=\"faint\">Store {}; told {}.</span></p>",
        story.step,
        moment(story.started),
        moment(story.last),
        escape(&story.store),
        moment(story.told)
    );
    if !story.doubts.is_empty() {
        page.push_str("<div class=\"doubts\"><p><b>Not quite sure</b></p><ul>\n");
        story.doubts.iter().for_each(|doubt| {
            let _ = writeln!(page, "<li>{}</li>", escape(doubt));
        });
        page.push_str("</ul></div>\n");
    }
    page.push_str("<ul class=\"figures\">\n");
    figures(&mut page, story);
    page.push_str("</ul>\n<h2>Where the time went</h2>\n<div class=\"wide\">\n");
    page.push_str(&charts::bar(story));
    page.push_str("</div>\n");
    let rows: Vec<Vec<String>> = story
        .parts
        .named()
        .iter()
        .zip(PARTS)
        .map(|((name, seconds), (_, what))| {
            vec![
                format!("<span class=\"key {name}\"></span>{name}"),
                percent(story.parts.share(*seconds)),
                escape(&node_time(*seconds)),
                escape(what),
            ]
        })
        .collect();
    let columns = [("part", false), ("share", true), ("time", true), ("what it is", false)];
    table(&mut page, "Of all the time of the job's nodes", &columns, &rows);
    page.push_str("<h2>What happened when</h2>\n<div class=\"wide\">\n");
    page.push_str(&charts::timeline(story));
    page.push_str(&charts::progress(story));
    page.push_str("</div>\n");
    if let Some(chart) = charts::intervals(story) {
        let _ = writeln!(page, "<h2>When checkpoints were due</h2>\n<div class=\"wide\">\n{chart}</div>");
    }
    page.push_str("<h2>Failures</h2>\n");
    if story.faults.is_empty() {
        page.push_str("<p>Nothing failed.</p>\n");
    } else {
        let (faults, hidden) = newest(&story.faults);
        let rows: Vec<Vec<String>> =
            faults.iter().enumerate().map(|(place, fault)| fault_row(story, hidden + place + 1, fault)).collect();
        let columns = [
            ("", true),
            ("known at", false),
            ("attempt", true),
            ("class", false),
            ("rank", true),
            ("node", false),
            ("detected", true),
            ("located", true),
            ("handled", true),
            ("recovered", true),
            ("work lost", true),
            ("what", false),
            ("done", false),
        ];
        let what = "How long each step of the way back took, one after the other, from the last step before it on";
        table(&mut page, &caption(what, hidden), &columns, &rows);
    }
    page.push_str("<h2>Attempts</h2>\n");
    let (attempts, hidden) = newest(&story.attempts);
    let last = attempts.len().saturating_sub(1);
    let rows: Vec<Vec<String>> = attempts
        .iter()
        .enumerate()
        .map(|(place, attempt)| attempt_row(story, attempt, running && place == last))
        .collect();
    let columns = [
        ("", true),
        ("started", false),
        ("ran", true),
        ("ranks", true),
        ("nodes", false),
        ("batch job", false),
        ("went on from", false),
        ("restored in", true),
        ("checkpoints", true),
        ("last step", true),
        ("ended", false),
        ("useful", true),
    ];
    table(&mut page, &caption("Every launch of the ranks", hidden), &columns, &rows);
    page.push_str("<h2>Nodes</h2>\n");
    let shown = &story.nodes[..story.nodes.len().min(ROWS)];
    let rows: Vec<Vec<String>> = shown
        .iter()
        .map(|node| {
            vec![
                escape(&node.name),
                node.attempts.to_string(),
                node.failures.to_string(),
                node.alerts.to_string(),
                escape(&node.reasons.join(", ")),
            ]
        })
        .collect();
    let columns =
        [("node", false), ("attempts", true), ("failures", true), ("alerts", true), ("what speaks against it", false)];
    let hidden = story.nodes.len() - shown.len();
    let what = "Those first that something speaks against";
    let what = if hidden > 0 { format!("{what}; {hidden} more") } else { what.to_owned() };
    table(&mut page, &what, &columns, &rows);
    if !story.alerts.is_empty() {
        page.push_str("<h2>Alerts</h2>\n");
        let (alerts, hidden) = newest(&story.alerts);
        let rows: Vec<Vec<String>> = alerts.iter().map(|alert| alert_row(story, alert)).collect();
        let columns = [
            ("since", false),
            ("for", true),
            ("severity", false),
            ("rule", false),
            ("about", false),
            ("what", false),
            ("a failure bore it out", false),
        ];
        table(&mut page, &caption("What was found wrong", hidden), &columns, &rows);
    }
    let _ = writeln!(
        page,
        "<p class=\"faint\">Piton {}</p>\n<script>{SCRIPT}</script></body></html>",
        env!("CARGO_PKG_VERSION")
    );
    page
}
