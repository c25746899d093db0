//! One rule as a user writes it, and what is wrong with it.
//!
//! Comes in: a `[[log]]` table of a rule file. Goes out: the rule with its patterns compiled, or an error that names the rule and says what
//! to change. What must hold: nothing of a rule is ignored silently; a compiled pattern is bounded in size and runs in linear time.
//!
//! ```toml
//! [[log]]
//! name = "DiskErrors"               # of the alert, in CamelCase
//! source = "kernel"                 # or "application", "any"
//! class = "storage"
//! severity = "critical"             # "info", "warning", "critical"
//! action = "mark_node"              # "nothing" (the default), "checkpoint", "stop_attempt", "mark_node"
//! regex = 'I/O error, dev (?P<device>\w+), sector (?P<sector>\d+)'     # or a list of patterns, any of which fires
//! unless = 'dev fd\d'               # what looks alike and is harmless
//! labels = ["device"]               # the captures that tell one alert from another; missing: all of them
//! summary = "{device} has an I/O error at sector {sector}"
//! lasts = 3600                      # seconds until it is over by itself; missing: until it is cleared
//! examples = ["I/O error, dev sda, sector 5"]       # must fire it: `LogRules::check`
//! near_misses = ["I/O error, dev fd0, sector 0"]    # must not
//!
//! [[log.cases]]                     # the first whose capture has one of these values changes what is said
//! capture = "device"
//! values = ["sda"]
//! severity = "warning"
//! action = "nothing"
//! ```

use super::template::Template;
use crate::watch::{Action, Severity};
use regex::bytes::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

/// The longest pattern, in bytes.
const LONGEST_PATTERN: usize = 4 << 10;
/// Most patterns of one rule.
const MOST_PATTERNS: usize = 32;
/// What a compiled pattern may take, in bytes: repetitions of repetitions are refused, not swallowed.
pub(super) const PATTERN_BYTES: usize = 1 << 20;
/// The longest time that a finding lasts, in seconds: ten years.
const LONGEST_LASTS: f64 = 315_360_000.0;
/// The label that carries the class; no capture may have its name.
pub(super) const CLASS: &str = "class";

/// Where a line comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LogSource {
    /// The kernel.
    Kernel,
    /// What the ranks, their libraries and their launcher print.
    Application,
}

/// The lines that a rule is held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogSources {
    /// Those of the kernel.
    Kernel,
    /// Those of the application.
    Application,
    /// All.
    Any,
}

impl LogSources {
    /// Whether lines of `source` are among them.
    #[must_use]
    pub fn has(self, source: LogSource) -> bool {
        match self {
            Self::Kernel => source == LogSource::Kernel,
            Self::Application => source == LogSource::Application,
            Self::Any => true,
        }
    }
}

/// What is at fault. It becomes the label `class` of the finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultClass {
    /// A processor, a bus, a board.
    Hardware,
    /// Main memory: its chips, or that there is too little of it.
    Memory,
    /// A GPU or another accelerator, its memory and its driver.
    Accelerator,
    /// A disk or a file system, local or shared.
    Storage,
    /// A network card, a link, the fabric.
    Network,
    /// The node as a whole: its kernel, its temperature.
    Node,
    /// A process was ended.
    Process,
    /// The application's own doing.
    Application,
    /// The batch system, the launcher.
    Scheduler,
}

impl FaultClass {
    /// As rule files and labels have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Hardware => "hardware",
            Self::Memory => "memory",
            Self::Accelerator => "accelerator",
            Self::Storage => "storage",
            Self::Network => "network",
            Self::Node => "node",
            Self::Process => "process",
            Self::Application => "application",
            Self::Scheduler => "scheduler",
        }
    }
}

impl fmt::Display for FaultClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A rule: which lines say that something is wrong, and what they say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogRule {
    /// The name of the alert: letters and digits, the first a capital.
    pub name: String,
    /// The lines that it is held against.
    pub source: LogSources,
    /// What is at fault.
    pub class: FaultClass,
    /// How bad it is.
    pub severity: Severity,
    /// What is done about it.
    #[serde(default)]
    pub action: Action,
    /// Patterns, any of which fires the rule. Named captures become labels. They are looked for anywhere in the line, as bytes: classes such
    /// as `\d` and `\w` are ASCII's, and `.` is any byte.
    #[serde(deserialize_with = "one_or_more")]
    pub regex: Vec<String>,
    /// Patterns of lines that don't fire it after all.
    #[serde(default, deserialize_with = "one_or_more")]
    pub unless: Vec<String>,
    /// The captures that become labels, and so tell one alert from another; missing: all. Process numbers and addresses should not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Vec<String>>,
    /// What is wrong, in one line; `{name}` stands for a capture.
    pub summary: String,
    /// Seconds after which it is over by itself; missing: until it is cleared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lasts: Option<f64>,
    /// What is said instead where a capture has one of some values; the first that fits counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cases: Vec<LogCase>,
    /// Lines that must fire it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub examples: Vec<String>,
    /// Lines that look alike and must not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub near_misses: Vec<String>,
}

/// What a rule says where one of its captures has one of these values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogCase {
    /// The name of the capture.
    pub capture: String,
    /// Its values, to the letter.
    pub values: Vec<String>,
    /// How bad it is then; missing: as ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// What is at fault then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<FaultClass>,
    /// What is done about it then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<Action>,
    /// What is wrong then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
}

/// A text, or a list of such.
fn one_or_more<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a pattern, or a list of patterns")]
    enum Texts {
        One(String),
        More(Vec<String>),
    }
    Ok(match Texts::deserialize(deserializer)? {
        Texts::One(text) => vec![text],
        Texts::More(texts) => texts,
    })
}

/// Why rules are refused. None of them is in force then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogRulesError {
    /// The text is no TOML, or its tables are no rules.
    #[error("not a file of log rules: {0}")]
    Toml(String),
    /// One rule is wrong.
    #[error("log rule {rule:?}: {what}")]
    Rule {
        /// Its name.
        rule: String,
        /// What is wrong with it, and what to do.
        what: String,
    },
    /// All of them together are too much.
    #[error("{0}")]
    TooMuch(String),
}

/// A rule that can be held against lines.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) rule: LogRule,
    pub(super) patterns: Vec<Regex>,
    pub(super) unless: Vec<Regex>,
    pub(super) summary: Template,
    /// Those of the cases that have one of their own.
    pub(super) case_summaries: Vec<Option<Template>>,
}

impl Compiled {
    /// # Errors
    /// [`LogRulesError::Rule`].
    pub(super) fn new(rule: LogRule) -> Result<Self, LogRulesError> {
        let name = rule.name.clone();
        Self::try_new(rule).map_err(|what| LogRulesError::Rule { rule: name, what })
    }

    fn try_new(rule: LogRule) -> Result<Self, String> {
        let is_camel = rule.name.starts_with(|c: char| c.is_ascii_uppercase())
            && rule.name.len() <= 64
            && rule.name.chars().all(|c| c.is_ascii_alphanumeric());
        if !is_camel {
            return Err("`name` is that of an alert: up to 64 letters and digits, the first a capital".into());
        }
        if rule.regex.is_empty() || rule.regex.len() > MOST_PATTERNS || rule.unless.len() > MOST_PATTERNS {
            return Err(format!("`regex` has 1 to {MOST_PATTERNS} patterns, `unless` up to as many"));
        }
        if rule.lasts.is_some_and(|lasts| !(lasts > 0.0 && lasts <= LONGEST_LASTS)) {
            return Err(format!("`lasts` is a number of seconds above 0, at most {LONGEST_LASTS}"));
        }
        let compile = |key: &str, patterns: &[String]| -> Result<Vec<Regex>, String> {
            patterns.iter().map(|pattern| compile(pattern).map_err(|what| format!("`{key}`: {what}"))).collect()
        };
        let (patterns, unless) = (compile("regex", &rule.regex)?, compile("unless", &rule.unless)?);
        let captures: BTreeSet<&str> = patterns.iter().flat_map(Regex::capture_names).flatten().collect();
        for capture in &captures {
            let is_label = capture.starts_with(|c: char| c.is_ascii_lowercase())
                && capture.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
            if !is_label || *capture == CLASS {
                return Err(format!(
                    "the capture {capture:?} cannot be a label: use small letters, digits and `_`, but not {CLASS:?}"
                ));
            }
        }
        let names: Vec<&str> = captures.iter().copied().collect();
        if let Some(label) = rule.labels.iter().flatten().find(|label| !captures.contains(label.as_str())) {
            return Err(format!("`labels` has {label:?}, which `regex` does not capture: it has {names:?}"));
        }
        let summary = Template::parse(&rule.summary, &names)?;
        let mut case_summaries = Vec::new();
        for case in &rule.cases {
            if !captures.contains(case.capture.as_str()) {
                return Err(format!(
                    "a case is about {:?}, which `regex` does not capture: it has {names:?}",
                    case.capture
                ));
            }
            if case.values.is_empty() {
                return Err(format!("a case of {:?} has no `values`", case.capture));
            }
            let changes = case.severity.is_some() || case.class.is_some() || case.action.is_some();
            if !changes && case.summary.is_none() {
                return Err(format!(
                    "a case of {:?} changes nothing: say `severity`, `class`, `action` or `summary`",
                    case.capture
                ));
            }
            case_summaries.push(case.summary.as_deref().map(|summary| Template::parse(summary, &names)).transpose()?);
        }
        Ok(Self { rule, patterns, unless, summary, case_summaries })
    }
}

fn compile(pattern: &str) -> Result<Regex, String> {
    if pattern.len() > LONGEST_PATTERN {
        return Err(format!("a pattern of {} bytes is too long: at most {LONGEST_PATTERN}", pattern.len()));
    }
    let regex = RegexBuilder::new(pattern)
        .unicode(false)
        .size_limit(PATTERN_BYTES)
        .build()
        .map_err(|error| format!("{pattern:?}: {error}"))?;
    // It would fire on every line.
    if regex.is_match(b"") {
        return Err(format!("{pattern:?} matches an empty line, and so every line"));
    }
    Ok(regex)
}
