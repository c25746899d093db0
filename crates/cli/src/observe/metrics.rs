//! What is known of a job, for Prometheus.
//!
//! Comes in: how a job is, and its story. Goes out: its text format 0.0.4, or OpenMetrics 1.0. What must hold: names and units are Prometheus's (base units, `_total`
//! for what only grows, one prefix); no label has a value for each rank; what is not known is left out, never 0; whatever journals hold is escaped.
//!
//! The names are documented, with what each is good for, in `docs/monitoring.md`.

use super::story::{State, Story};
use super::{AlertNow, Now, RankNow, RankState};
use piton::journal::WallTime;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// How it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus's text format 0.0.4.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// The one that whoever sends this `Accept` wants: OpenMetrics where it is named before, or weighs more than, plain text.
    #[must_use]
    pub fn accepted(accept: &str) -> Self {
        let (mut best, mut chosen) = (0.0, Self::Text);
        for part in accept.split(',') {
            let mut words = part.split(';').map(str::trim);
            let kind = match words.next() {
                Some("application/openmetrics-text") => Self::OpenMetrics,
                Some("text/plain" | "text/*" | "*/*") => Self::Text,
                _ => continue,
            };
            let weight = words.find_map(|word| word.strip_prefix("q=")?.parse::<f64>().ok()).unwrap_or(1.0);
            if weight > best {
                (best, chosen) = (weight, kind);
            }
        }
        chosen
    }

    /// As HTTP names it.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Gauge,
    Counter,
    Info,
}

/// A sample: its labels, and its value where that is known.
type Labelled<'a> = (&'a [(&'a str, &'a str)], Option<f64>);

/// Writes families, each with all its samples together.
struct Writer<'a> {
    text: String,
    format: Format,
    job: &'a str,
}

impl Writer<'_> {
    /// A family; `name` has no `_total` and no `_info`. Nothing is written of one without samples.
    fn family(&mut self, name: &str, kind: Kind, help: &str, samples: &[Labelled<'_>]) {
        if samples.iter().all(|(_, value)| value.is_none()) {
            return;
        }
        let suffix = match kind {
            Kind::Gauge => "",
            Kind::Counter => "_total",
            Kind::Info => "_info",
        };
        let (family, word) = match (self.format, kind) {
            (Format::OpenMetrics, Kind::Gauge) => (name.to_owned(), "gauge"),
            (Format::OpenMetrics, Kind::Counter) => (name.to_owned(), "counter"),
            (Format::OpenMetrics, Kind::Info) => (name.to_owned(), "info"),
            (Format::Text, Kind::Counter) => (format!("{name}{suffix}"), "counter"),
            (Format::Text, _) => (format!("{name}{suffix}"), "gauge"),
        };
        let _ = writeln!(self.text, "# HELP {family} {}", help.replace('\\', "\\\\").replace('\n', "\\n"));
        let _ = writeln!(self.text, "# TYPE {family} {word}");
        for (labels, value) in samples {
            let Some(value) = value else { continue };
            let _ = write!(self.text, "{name}{suffix}{{job_name=\"{}\"", escape(self.job));
            for (label, text) in *labels {
                let _ = write!(self.text, ",{label}=\"{}\"", escape(text));
            }
            let _ = writeln!(self.text, "}} {}", number(*value));
        }
    }

    fn gauge(&mut self, name: &str, help: &str, value: Option<f64>) {
        self.family(name, Kind::Gauge, help, &[(&[], value)]);
    }

    fn counter(&mut self, name: &str, help: &str, value: Option<f64>) {
        self.family(name, Kind::Counter, help, &[(&[], value)]);
    }

    /// One sample for each value of one label.
    fn each(&mut self, name: &str, kind: Kind, help: &str, label: &str, samples: &[(&str, Option<f64>)]) {
        let labels: Vec<[(&str, &str); 1]> = samples.iter().map(|(text, _)| [(label, *text)]).collect();
        let samples: Vec<Labelled<'_>> =
            labels.iter().zip(samples).map(|(labels, (_, value))| (labels.as_slice(), *value)).collect();
        self.family(name, kind, help, &samples);
    }
}

/// A label's value.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn number(value: f64) -> String {
    match value {
        value if value.is_nan() => "NaN".to_owned(),
        value if value.is_infinite() => if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned(),
        value => format!("{value}"),
    }
}

fn unix(at: WallTime) -> f64 {
    at.unix_ms() as f64 / 1000.0
}

/// The least, the middle and the largest of some numbers, under the label `agg`.
fn spread(numbers: impl Iterator<Item = f64>) -> [(&'static str, Option<f64>); 3] {
    let mut numbers: Vec<f64> = numbers.filter(|number| number.is_finite()).collect();
    numbers.sort_by(f64::total_cmp);
    [
        ("min", numbers.first().copied()),
        ("median", numbers.get(numbers.len() / 2).copied()),
        ("max", numbers.last().copied()),
    ]
}

/// Everything, in the format that is wanted; `now` and `story` where they are known.
#[must_use]
pub fn text(now: Option<&Now>, story: Option<&Story>, format: Format) -> String {
    let job = now.map(|now| now.job.as_str()).or(story.map(|story| story.job.as_str())).unwrap_or_default();
    let mut writer = Writer { text: String::new(), format, job };
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    writer.family("piton_build", Kind::Info, "The version of Piton that says this.", &[(&version, Some(1.0))]);
    if let Some(now) = now {
        of_now(&mut writer, now);
    }
    if let Some(story) = story {
        of_story(&mut writer, story);
    }
    if format == Format::OpenMetrics {
        writer.text.push_str("# EOF\n");
    }
    writer.text
}

fn of_now(writer: &mut Writer<'_>, now: &Now) {
    let states = [State::Running, State::Restarting, State::Finished, State::Halted, State::Failed, State::Gone];
    let states = states.map(|state| (state.name(), Some(f64::from(u8::from(state == now.state)))));
    writer.each("piton_job_state", Kind::Gauge, "How the job is: 1 for the state that it is in.", "state", &states);
    writer.gauge("piton_job_attempt", "The number of the newest attempt.", Some(now.epoch as f64));
    writer.gauge("piton_job_ranks", "How many ranks the job has.", now.world.map(f64::from));
    let started = now.started.map(unix);
    writer.gauge("piton_job_attempt_start_timestamp_seconds", "When the newest attempt started.", started);
    let help = "The application's step that all ranks have reached.";
    writer.gauge("piton_job_step", help, now.step.map(|step| step as f64));
    let mut present: BTreeMap<&str, f64> = BTreeMap::new();
    now.ranks.iter().for_each(|rank| *present.entry(rank.presence.name()).or_default() += 1.0);
    let present: Vec<(&str, Option<f64>)> = present.into_iter().map(|(name, count)| (name, Some(count))).collect();
    writer.each("piton_ranks", Kind::Gauge, "Ranks that are seen from here, by how they are.", "presence", &present);
    let computing = || now.ranks.iter().filter(|rank| matches!(rank.presence, RankState::Computing | RankState::Stuck));
    let of = |value: fn(&RankNow) -> Option<f64>| spread(computing().filter_map(value));
    let help = "Since ranks gave their last sign of life.";
    writer.each("piton_rank_heartbeat_age_seconds", Kind::Gauge, help, "agg", &of(|rank| Some(rank.silent_seconds)));
    let help = "Since the step of ranks changed.";
    writer.each("piton_rank_step_age_seconds", Kind::Gauge, help, "agg", &of(|rank| rank.step_seconds));
    let help = "How long ranks take for a step, on average over the attempt.";
    writer.each("piton_rank_step_duration_seconds", Kind::Gauge, help, "agg", &of(|rank| rank.mean_step_seconds));
    writer.each(
        "piton_rank_step",
        Kind::Gauge,
        "The steps that ranks have reached.",
        "agg",
        &of(|rank| Some(rank.step as f64)),
    );
    let worst = computing().min_by(|a, b| a.step.cmp(&b.step).then(b.silent_seconds.total_cmp(&a.silent_seconds)));
    if let Some(worst) = worst {
        let (rank, node) = (worst.rank.to_string(), worst.node.clone().unwrap_or_default());
        let labels = [("rank", rank.as_str()), ("node", node.as_str())];
        let help = "The rank that is furthest behind, and of several the one that is silent for longest.";
        writer.family("piton_rank_worst", Kind::Info, help, &[(&labels, Some(1.0))]);
    }
    let mut nodes: BTreeMap<&str, f64> = BTreeMap::new();
    now.nodes.iter().for_each(|node| *nodes.entry(node.state.name()).or_default() += 1.0);
    let nodes: Vec<(&str, Option<f64>)> = nodes.into_iter().map(|(name, count)| (name, Some(count))).collect();
    writer.each("piton_nodes", Kind::Gauge, "Nodes that the supervisor has, by how they are.", "state", &nodes);
    let firing = |severity: &str| {
        let of = |alert: &&AlertNow| alert.severity == severity;
        Some(now.alerts.iter().filter(of).count() as f64)
    };
    let alerts = ["info", "warning", "critical"].map(|severity| (severity, firing(severity)));
    writer.each("piton_alerts", Kind::Gauge, "Alerts that fire, by how bad they are.", "severity", &alerts);
    writer.gauge(
        "piton_checkpoints_kept",
        "Checkpoints in the store that one can go on from.",
        Some(now.checkpoints as f64),
    );
    let newest = now.checkpoint.as_ref();
    let taken = newest.map(|newest| unix(now.at) - newest.age_seconds);
    writer.gauge("piton_checkpoint_last_success_timestamp_seconds", "When the newest checkpoint was taken.", taken);
    writer.gauge(
        "piton_checkpoint_last_step",
        "The step of the newest checkpoint.",
        newest.map(|newest| newest.step as f64),
    );
}

fn of_story(writer: &mut Writer<'_>, story: &Story) {
    writer.gauge(
        "piton_job_start_timestamp_seconds",
        "When the job's first attempt started.",
        Some(unix(story.started)),
    );
    writer.gauge(
        "piton_job_last_sign_timestamp_seconds",
        "The job's last sign of life in its journals.",
        Some(unix(story.last)),
    );
    writer.counter("piton_attempts", "Launches of the ranks.", Some(story.attempts.len() as f64));
    let sum = |of: fn(&super::AttemptStory) -> f64| Some(story.attempts.iter().map(of).sum::<f64>());
    writer.counter("piton_checkpoints", "Checkpoints taken.", sum(|attempt| attempt.taken as f64));
    writer.counter(
        "piton_checkpoint_failures",
        "Checkpoints that came to nothing.",
        sum(|attempt| attempt.dropped as f64),
    );
    let recent = || story.attempts.iter().rev().flat_map(|attempt| attempt.checkpoints.iter().rev()).take(100);
    let help = "How long the newest hundred checkpoints kept the application standing.";
    writer.each(
        "piton_checkpoint_blocked_seconds",
        Kind::Gauge,
        help,
        "agg",
        &spread(recent().map(|taken| taken.blocked)),
    );
    let help = "How long the newest hundred checkpoints took until they were durable.";
    let latencies = spread(recent().filter_map(|taken| taken.latency));
    writer.each("piton_checkpoint_commit_seconds", Kind::Gauge, help, "agg", &latencies);
    let bytes = recent().find_map(|taken| taken.bytes).map(|bytes| bytes as f64);
    writer.gauge("piton_checkpoint_size_bytes", "What the newest checkpoint takes in the store.", bytes);
    let planned = story.attempts.iter().rev().find_map(|attempt| attempt.schedule.last());
    let intervals = [("used", planned.and_then(|of| of.interval)), ("optimal", planned.and_then(|of| of.optimum))];
    let help = "From one checkpoint to the next: as used, and as the formula has it without bounds.";
    writer.each("piton_checkpoint_interval_seconds", Kind::Gauge, help, "kind", &intervals);
    let help = "What a checkpoint costs the application, as the schedule takes it.";
    writer.gauge("piton_checkpoint_cost_seconds", help, planned.map(|of| of.cost));
    let mut classes: BTreeMap<&str, f64> = BTreeMap::new();
    story.faults.iter().for_each(|fault| *classes.entry(fault.class.as_str()).or_default() += 1.0);
    let classes: Vec<(&str, Option<f64>)> = classes.into_iter().map(|(name, count)| (name, Some(count))).collect();
    // One that nothing befell has this as well, so that an increase from nothing is seen.
    writer.counter("piton_failures", "Failures of the job.", Some(story.faults.len() as f64));
    writer.each("piton_faults", Kind::Counter, "Failures of the job, by their class.", "class", &classes);
    let recovered = || story.faults.iter().filter_map(|fault| fault.recover_seconds);
    writer.counter(
        "piton_recoveries",
        "Failures after which the job computed again.",
        Some(recovered().count() as f64),
    );
    let help = "From a failure's handling until the job computed again.";
    writer.each("piton_recovery_duration_seconds", Kind::Gauge, help, "agg", &spread(recovered()));
    let mtbf = &story.mtbf;
    let bounds = [("estimate", mtbf.seconds), ("low", Some(mtbf.low_seconds)), ("high", mtbf.high_seconds)];
    let help = "The mean time between failures from this job's own, with its 95 % bounds.";
    writer.each("piton_mtbf_seconds", Kind::Gauge, help, "bound", &bounds);
    let parts = &story.parts;
    let seconds: Vec<(&str, Option<f64>)> =
        parts.named().iter().map(|(name, seconds)| (*name, Some(*seconds))).collect();
    let help = "Where the time of the job's nodes went, node seconds.";
    writer.each("piton_job_node_seconds", Kind::Gauge, help, "part", &seconds);
    let shares: Vec<(&str, Option<f64>)> =
        parts.named().iter().map(|(name, seconds)| (*name, Some(parts.share(*seconds)))).collect();
    let help = "The same as shares of all of it, which add up to 1; whatever is not useful is waste.";
    writer.each("piton_job_node_time_ratio", Kind::Gauge, help, "part", &shares);
    let help = "How many doubts there are about what is said here; the report names them.";
    writer.gauge("piton_doubts", help, Some(story.doubts.len() as f64));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_follows_from_what_is_accepted() {
        for (accept, format) in [
            ("", Format::Text),
            ("text/plain", Format::Text),
            ("*/*", Format::Text),
            ("application/openmetrics-text; version=1.0.0", Format::OpenMetrics),
            (
                "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                Format::OpenMetrics,
            ),
            ("application/openmetrics-text;q=0.2, text/plain;q=0.9", Format::Text),
            ("application/vnd.google.protobuf;q=0.9,text/plain;q=0.5", Format::Text),
            (";;;q=,,", Format::Text),
        ] {
            assert_eq!(Format::accepted(accept), format, "{accept}");
        }
    }

    #[test]
    fn labels_are_escaped_and_what_is_unknown_is_left_out() {
        let mut writer = Writer { text: String::new(), format: Format::Text, job: "a\"b\\c\nd" };
        writer.gauge("nothing", "Not known.", None);
        writer.counter("things", "Things.", Some(3.0));
        writer.each("kinds", Kind::Gauge, "Kinds.", "kind", &[("x", Some(0.5)), ("y", None)]);
        assert_eq!(
            writer.text,
            "# HELP things_total Things.\n# TYPE things_total counter\nthings_total{job_name=\"a\\\"b\\\\c\\nd\"} 3\n\
             # HELP kinds Kinds.\n# TYPE kinds gauge\nkinds{job_name=\"a\\\"b\\\\c\\nd\",kind=\"x\"} 0.5\n"
        );
        let mut writer = Writer { text: String::new(), format: Format::OpenMetrics, job: "j" };
        writer.counter("things", "Things.", Some(3.0));
        assert_eq!(writer.text, "# HELP things Things.\n# TYPE things counter\nthings_total{job_name=\"j\"} 3\n");
    }

    #[test]
    fn a_spread_of_nothing_is_nothing() {
        assert_eq!(spread(std::iter::empty()).map(|(_, value)| value), [None; 3]);
        assert_eq!(
            spread([3.0, 1.0, f64::NAN, 2.0].into_iter()).map(|(_, value)| value),
            [Some(1.0), Some(2.0), Some(3.0)]
        );
    }
}
