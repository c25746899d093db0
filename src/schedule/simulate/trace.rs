//! Failures that really happened, from files.
//!
//! Comes in: the text of a file, of which nothing is trusted. Goes out: when which node failed.
//! What must hold: a file that is not understood is refused with the line, and memory is bounded by the file's own size.
//!
//! Two forms are read: plain CSV, one failure of the job a line, its time in seconds (`#` begins a comment); and the fault trace of the
//! InfiniteHBD project (StepFun, 400 nodes, 348 days), JSON whose `fault_start` events have a node and a time in days.

use serde::Deserialize;
use std::collections::HashMap;
use thiserror::Error;

/// What a file holds.
#[derive(Debug, Clone, PartialEq)]
pub enum TraceKind {
    /// Failures of the job.
    Job,
    /// Faults of nodes, of which so many had one.
    Nodes(usize),
}

/// Failures, in ascending order.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceFile {
    /// Whose they are.
    pub kind: TraceKind,
    /// Seconds from the beginning, and the node (0 in a trace of a job).
    pub faults: Vec<(f64, usize)>,
    /// How long was watched, seconds: up to the last event, of whatever kind.
    pub span: f64,
}

/// Why a trace can't be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TraceError {
    /// A line is no time.
    #[error("line {line}: {text:?} is no time in seconds; write one failure a line, from 0 on, as in 3600.5")]
    Line {
        /// Counted from 1.
        line: usize,
        /// The line, shortened.
        text: String,
    },
    /// The JSON is not that of a fault trace.
    #[error("not a fault trace of InfiniteHBD: {0}")]
    Json(String),
    /// There is no failure in it.
    #[error("it holds no failure")]
    Empty,
}

impl TraceFile {
    /// When a job on the nodes for which `is_on` says so fails: a fault of any of its nodes, several at the same moment being one.
    pub fn failures(&self, is_on: impl Fn(usize) -> bool) -> Vec<f64> {
        let mut times: Vec<f64> = self.faults.iter().filter(|(_, node)| is_on(*node)).map(|(time, _)| *time).collect();
        times.dedup();
        times
    }
}

/// Reads a trace of either form.
///
/// ```
/// let trace = piton::schedule::simulate::read_trace("# seconds\n10\n7.5\n")?;
/// assert_eq!(trace.failures(|_| true), [7.5, 10.0]);
/// # Ok::<(), piton::schedule::simulate::TraceError>(())
/// ```
///
/// # Errors
/// [`TraceError`].
pub fn read_trace(text: &str) -> Result<TraceFile, TraceError> {
    let mut trace = match text.trim_start().starts_with('[') {
        true => read_json(text)?,
        false => read_csv(text)?,
    };
    if trace.faults.is_empty() {
        return Err(TraceError::Empty);
    }
    trace.faults.sort_by(|a, b| a.0.total_cmp(&b.0));
    Ok(trace)
}

fn read_csv(text: &str) -> Result<TraceFile, TraceError> {
    let mut faults = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let value = line.split('#').next().unwrap_or_default().trim();
        if value.is_empty() {
            continue;
        }
        match value.parse::<f64>() {
            Ok(seconds) if seconds >= 0.0 && seconds.is_finite() => faults.push((seconds, 0)),
            _ => return Err(TraceError::Line { line: index + 1, text: value.chars().take(40).collect() }),
        }
    }
    let span = faults.iter().map(|(time, _)| *time).fold(0.0, f64::max);
    Ok(TraceFile { kind: TraceKind::Job, faults, span })
}

#[derive(Deserialize)]
struct HbdEvent<'a> {
    #[serde(borrow)]
    node_id: std::borrow::Cow<'a, str>,
    event_time: f64,
    #[serde(borrow)]
    event_type: std::borrow::Cow<'a, str>,
}

fn read_json(text: &str) -> Result<TraceFile, TraceError> {
    const DAY: f64 = 86_400.0;
    let events: Vec<HbdEvent<'_>> = serde_json::from_str(text).map_err(|error| TraceError::Json(error.to_string()))?;
    let mut nodes: HashMap<&str, usize> = HashMap::new();
    let (mut faults, mut span) = (Vec::new(), 0.0_f64);
    for event in &events {
        if !(event.event_time >= 0.0 && event.event_time.is_finite()) {
            return Err(TraceError::Json(format!("{} is no time in days", event.event_time)));
        }
        span = span.max(event.event_time * DAY);
        if event.event_type == "fault_start" {
            let next = nodes.len();
            let node = *nodes.entry(&event.node_id).or_insert(next);
            faults.push((event.event_time * DAY, node));
        }
    }
    Ok(TraceFile { kind: TraceKind::Nodes(nodes.len()), faults, span })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_are_no_times_are_named() {
        let line = |text| read_trace(text).map_err(|error| error.to_string());
        assert!(line("1\n2 # two\n\nthree\n").unwrap_err().starts_with("line 4: \"three\""));
        for bad in ["-1", "nan", "inf", "1,2"] {
            assert!(line(bad).is_err(), "{bad}");
        }
        assert_eq!(read_trace("# nothing\n"), Err(TraceError::Empty));
    }

    #[test]
    fn faults_of_nodes_that_start_together_are_one_failure() {
        let event = |node: &str, day: f64, kind: &str| {
            format!(r#"{{"node_id":"{node}","event_time":{day},"event_type":"{kind}","fault_type":{{"Level":"x"}}}}"#)
        };
        let events = [
            event("a", 2.0, "fault_start"),
            event("b", 1.0, "fault_start"),
            event("a", 2.5, "fault_end"),
            event("c", 2.0, "fault_start"),
        ];
        let trace = read_trace(&format!("[{}]", events.join(","))).unwrap();
        assert_eq!((trace.kind.clone(), trace.span), (TraceKind::Nodes(3), 216_000.0));
        assert_eq!(trace.failures(|_| true), [86_400.0, 172_800.0]);
        assert_eq!(trace.failures(|node| node == 1), [86_400.0]);
        assert!(read_trace("[{\"a\": 1}]").is_err() && read_trace("[1").is_err());
    }
}
