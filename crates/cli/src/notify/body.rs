//! What is said of alerts, in each form.
//!
//! Comes in: a letter. Goes out: the body of Alertmanager's webhook, version 4; a text as chat services take it; lines for a mail;
//! variables for a command. What must hold: the webhook's body has all fields that Alertmanager's has, of the same types, and no other, so that
//! whatever takes those takes ours; no body tells more than a hundred alerts, and each says how many it leaves out.

use super::Letter;
use piton::watch::alert::Alert;
use piton::watch::{Action, Severity};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Alerts that one body tells.
pub const ALERTS_MOST: usize = 100;

/// What Alertmanager says of an end that has not come.
const NEVER: &str = "0001-01-01T00:00:00Z";

const fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Critical => "critical",
    }
}

const fn action(action: Action) -> Option<&'static str> {
    match action {
        Action::Nothing => None,
        Action::Checkpoint => Some("a checkpoint is taken early"),
        Action::StopAttempt => Some("the attempt is ended"),
        Action::MarkNode => Some("the node is left out from now on"),
    }
}

fn labels(alert: &Alert) -> BTreeMap<&str, &str> {
    let own = alert.labels().iter().map(|(label, value)| (label.as_str(), value.as_str()));
    let more = [("alertname", alert.finding.rule.as_str()), ("severity", severity(alert.finding.severity))];
    own.chain(more).collect()
}

fn annotations(alert: &Alert) -> BTreeMap<&str, &str> {
    let summary = std::iter::once(("summary", alert.finding.summary.as_str()));
    summary.chain(action(alert.finding.action).map(|action| ("action", action))).collect()
}

/// What all have in common.
fn common<'a>(mut all: impl Iterator<Item = BTreeMap<&'a str, &'a str>>) -> BTreeMap<&'a str, &'a str> {
    let mut common = all.next().unwrap_or_default();
    for one in all {
        common.retain(|key, value| one.get(key) == Some(value));
    }
    common
}

fn told(letter: &Letter) -> impl Iterator<Item = &Alert> {
    letter.notification.firing.iter().chain(&letter.notification.resolved)
}

/// Whether anything fires still.
fn status(letter: &Letter) -> &'static str {
    if letter.notification.firing.is_empty() { "resolved" } else { "firing" }
}

/// The body of Alertmanager's webhook, version 4.
///
/// The labels have `alertname` and `severity` besides the alert's own; the annotations have `summary`, and `action` where something
/// is done about it.
#[must_use]
pub fn alertmanager(letter: &Letter, receiver: &str, external_url: &str) -> Value {
    let alerts = told(letter).take(ALERTS_MOST).map(|alert| {
        json!({
            "status": if alert.fires() { "firing" } else { "resolved" },
            "labels": labels(alert),
            "annotations": annotations(alert),
            "startsAt": letter.wall(alert.since).to_string(),
            "endsAt": alert.ended.map_or_else(|| NEVER.to_owned(), |ended| letter.wall(ended).to_string()),
            "generatorURL": external_url,
            "fingerprint": alert.fingerprint.to_string(),
        })
    });
    let alerts: Vec<Value> = alerts.collect();
    let group = letter.notification.group.iter();
    let group: Map<String, Value> = group
        .map(|(label, value)| (if label == "rule" { "alertname".to_owned() } else { label.clone() }, json!(value)))
        .collect();
    json!({
        "version": "4",
        "groupKey": letter.notification.key,
        "truncatedAlerts": told(letter).count() - alerts.len(),
        "status": status(letter),
        "receiver": receiver,
        "groupLabels": group,
        "commonLabels": common(told(letter).map(labels)),
        "commonAnnotations": common(told(letter).map(annotations)),
        "externalURL": external_url,
        "alerts": alerts,
    })
}

/// What chat services take: `{"text": …}`.
#[must_use]
pub fn plain(letter: &Letter, external_url: &str) -> Value {
    json!({ "text": format!("{}\n{}", subject(letter), lines(letter, external_url)) })
}

/// One line that says it all: `firing: NodeLost (2), critical, job sea`.
#[must_use]
pub fn subject(letter: &Letter) -> String {
    let group = &letter.notification.group;
    let mut rules: Vec<&str> = told(letter).map(|alert| alert.finding.rule.as_str()).collect();
    rules.sort_unstable();
    rules.dedup();
    let count =
        if letter.notification.firing.is_empty() { told(letter).count() } else { letter.notification.firing.len() };
    let rules = if rules.len() > 3 {
        format!("{} and {} others", rules[..2].join(", "), rules.len() - 2)
    } else {
        rules.join(", ")
    };
    let count = if count > 1 { format!(" ({count})") } else { String::new() };
    let worst = letter.notification.firing.iter().map(|alert| alert.finding.severity).max();
    let worst = worst.map_or_else(String::new, |worst| format!(", {}", severity(worst)));
    let job = group.get("job").map_or_else(String::new, |job| format!(", job {job}"));
    format!("{}: {rules}{count}{worst}{job}", status(letter))
}

/// A line for each alert, then how many are left out, and where to look.
#[must_use]
pub fn lines(letter: &Letter, external_url: &str) -> String {
    let mut text = String::new();
    for alert in told(letter).take(ALERTS_MOST) {
        let labels: Vec<String> = alert.labels().iter().map(|(label, value)| format!("{label}={value}")).collect();
        let labels = if labels.is_empty() { String::new() } else { format!(" ({})", labels.join(", ")) };
        let finding = &alert.finding;
        let when = match alert.ended {
            None => format!("{}, since {}", severity(finding.severity), letter.wall(alert.since)),
            Some(ended) => format!("over since {}", letter.wall(ended)),
        };
        text.push_str(&format!("{}{labels}: {} [{when}]", finding.rule, finding.summary.replace(['\n', '\r'], " ")));
        if let Some(action) = action(finding.action).filter(|_| alert.fires()) {
            text.push_str(&format!("; {action}"));
        }
        text.push('\n');
    }
    let left = told(letter).count().saturating_sub(ALERTS_MOST);
    if left > 0 {
        text.push_str(&format!("and {left} more\n"));
    }
    if !external_url.is_empty() {
        text.push_str(external_url);
        text.push('\n');
    }
    text
}

/// What a command finds in its environment besides the JSON on its standard input.
///
/// | variable | what |
/// | --- | --- |
/// | `ALERT_STATUS` | `firing` or `resolved` |
/// | `ALERT_NAME` | the rule of the first alert |
/// | `ALERT_SEVERITY` | the worst that fires: `info`, `warning`, `critical`; empty where nothing does |
/// | `ALERT_JOB` | the job, where it is known |
/// | `ALERT_SUMMARY` | one line for people |
#[must_use]
pub fn variables(letter: &Letter) -> Vec<(&'static str, String)> {
    let worst = letter.notification.firing.iter().map(|alert| alert.finding.severity).max();
    let first = told(letter).next();
    let job = first.and_then(|alert| alert.labels().get("job")).cloned().unwrap_or_default();
    vec![
        ("ALERT_STATUS", status(letter).to_owned()),
        ("ALERT_NAME", first.map(|alert| alert.finding.rule.clone()).unwrap_or_default()),
        ("ALERT_SEVERITY", worst.map(severity).unwrap_or_default().to_owned()),
        ("ALERT_JOB", job),
        ("ALERT_SUMMARY", subject(letter)),
    ]
    .into_iter()
    // A null character can't stand in a variable.
    .map(|(name, value)| (name, value.replace('\0', " ")))
    .collect()
}
