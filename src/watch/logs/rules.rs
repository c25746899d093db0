//! All rules together: which of them a line fires.
//!
//! Comes in: rules in an order, and lines. Goes out: for each line at most one finding. What must hold: of the rules that a line fires, the
//! first in order counts; a line that fires none, which is nearly every line, costs one pass of one automaton over all patterns.
//!
//! Measured on one of two busy cores (`cargo test --release --lib watch::logs -- --ignored --nocapture`), the 56 shipped rules: 3.0 million
//! ordinary lines a second (170 MB/s), 47 000 a second of lines that all fire something. That automaton is why it is the crate `regex` and not
//! `regex-lite`, which has no sets of patterns and none of its speed; without Unicode's tables and its searches for literals it
//! brings two small crates.

use super::LONGEST_LINE;
use super::rule::{CLASS, Compiled, LogRule, LogRulesError, LogSource};
use super::template::{Template, clean};
use crate::watch::{Finding, Labels};
use regex::bytes::{RegexSet, RegexSetBuilder};
use serde::Deserialize;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, OnceLock};

/// Most rules.
const MOST_RULES: usize = 1000;
/// A rule file is not longer, in bytes.
const LONGEST_FILE: u64 = 1 << 20;
/// What all patterns together may take when compiled, and what the automaton over them may keep of itself while it runs, in bytes.
const SET_BYTES: usize = 32 << 20;
const AUTOMATON_BYTES: usize = 8 << 20;

/// A rule file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    log: Vec<LogRule>,
}

/// Rules that lines are held against, in an order: the first that a line fires counts. A copy is cheap, and shares them.
///
/// ```
/// use piton::watch::{LogRules, LogSource};
/// let rules = LogRules::defaults();
/// let line = "Out of memory: Killed process 4711 (solver) total-vm:16384000kB, anon-rss:15900000kB";
/// let finding = rules.look(LogSource::Kernel, line).expect("it is a fault");
/// assert_eq!((finding.rule.as_str(), finding.labels["process"].as_str()), ("OutOfMemoryKill", "solver"));
/// assert_eq!(rules.look(LogSource::Kernel, "eth0: link becomes ready"), None);
/// ```
#[derive(Debug, Clone)]
pub struct LogRules {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    rules: Vec<Compiled>,
    kernel: Patterns,
    application: Patterns,
}

/// The patterns of all rules for one source.
#[derive(Debug)]
struct Patterns {
    set: RegexSet,
    /// The rule of each, and its number there; in the order of the rules.
    owners: Vec<(usize, usize)>,
}

/// A sample line of a rule that does not do what it is there for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokenSample {
    /// The rule.
    pub rule: String,
    /// The line.
    pub line: String,
    /// What is wrong, for people.
    pub what: String,
}

impl LogRules {
    /// The shipped rules.
    #[must_use]
    pub fn defaults() -> Self {
        static DEFAULTS: OnceLock<LogRules> = OnceLock::new();
        let read = || Self::from_toml(include_str!("defaults.toml")).expect("a test reads the shipped rules");
        DEFAULTS.get_or_init(read).clone()
    }

    /// The rules in the text of a rule file: its `[[log]]` tables.
    ///
    /// # Errors
    /// [`LogRulesError`]: the first thing that is wrong.
    pub fn from_toml(text: &str) -> Result<Self, LogRulesError> {
        if text.len() as u64 > LONGEST_FILE {
            return Err(LogRulesError::TooMuch(format!(
                "a rule file has at most {LONGEST_FILE} bytes, this has {}",
                text.len()
            )));
        }
        let document: Document = toml::from_str(text).map_err(|error| LogRulesError::Toml(error.to_string()))?;
        Self::new(document.log)
    }

    /// Rules in this order.
    ///
    /// # Errors
    /// [`LogRulesError::Rule`] where one is wrong or has another's name, [`LogRulesError::TooMuch`] where they are too many.
    pub fn new(rules: Vec<LogRule>) -> Result<Self, LogRulesError> {
        if rules.len() > MOST_RULES {
            return Err(LogRulesError::TooMuch(format!(
                "{} log rules are too many: at most {MOST_RULES}",
                rules.len()
            )));
        }
        let mut names = BTreeSet::new();
        for rule in &rules {
            if !names.insert(rule.name.as_str()) {
                let what = "another has its name; give `regex` a list of patterns, or name them apart".into();
                return Err(LogRulesError::Rule { rule: rule.name.clone(), what });
            }
        }
        let rules = rules.into_iter().map(Compiled::new).collect::<Result<Vec<_>, _>>()?;
        let (kernel, application) =
            (Patterns::of(&rules, LogSource::Kernel)?, Patterns::of(&rules, LogSource::Application)?);
        Ok(Self { inner: Arc::new(Inner { rules, kernel, application }) })
    }

    /// These before the shipped ones: a shipped rule of the same name is left out, so that a site can change or silence it.
    ///
    /// # Errors
    /// [`LogRulesError::TooMuch`].
    pub fn before_defaults(&self) -> Result<Self, LogRulesError> {
        let own: BTreeSet<&str> = self.rules().map(|rule| rule.name.as_str()).collect();
        let defaults = Self::defaults();
        let shipped = defaults.rules().filter(|rule| !own.contains(rule.name.as_str()));
        Self::new(self.rules().chain(shipped).cloned().collect())
    }

    /// The rules, in order.
    pub fn rules(&self) -> impl Iterator<Item = &LogRule> {
        self.inner.rules.iter().map(|compiled| &compiled.rule)
    }

    /// What a line says: the finding of the first rule, in order, that it fires. Of a line that is longer than
    /// [`LONGEST_LINE`] the beginning is looked at.
    #[must_use]
    pub fn look(&self, source: LogSource, line: impl AsRef<[u8]>) -> Option<Finding> {
        let line = line.as_ref();
        let line = &line[..line.len().min(LONGEST_LINE)];
        let patterns = match source {
            LogSource::Kernel => &self.inner.kernel,
            LogSource::Application => &self.inner.application,
        };
        // Nearly always the answer, and sooner had than which of them.
        if !patterns.set.is_match(line) {
            return None;
        }
        patterns.set.matches(line).into_iter().find_map(|pattern| {
            let &(rule, number) = patterns.owners.get(pattern)?;
            self.inner.rules.get(rule)?.finding(number, line)
        })
    }

    /// The sample lines that do not do what they are there for: examples that don't fire their rule, or are taken by an earlier one;
    /// near misses that do fire it. Empty where all is well.
    #[must_use]
    pub fn check(&self) -> Vec<BrokenSample> {
        let mut broken = Vec::new();
        for compiled in &self.inner.rules {
            let rule = &compiled.rule;
            let mut found = |line: &str, what: String| {
                broken.push(BrokenSample { rule: rule.name.clone(), line: line.to_owned(), what });
            };
            let sources =
                [LogSource::Kernel, LogSource::Application].into_iter().filter(|source| rule.source.has(*source));
            for source in sources {
                for line in &rule.examples {
                    match self.look(source, line) {
                        None => found(line, "the example does not fire it".into()),
                        Some(finding) if finding.rule != rule.name => {
                            found(line, format!("the example fires {}, which comes before", finding.rule));
                        }
                        Some(_) => {}
                    }
                }
            }
            for line in &rule.near_misses {
                if compiled.fires(line.as_bytes()) {
                    found(line, "the near miss fires it".into());
                }
            }
        }
        broken
    }

    /// The names of all rules that would fire on a line if they were alone.
    #[cfg(test)]
    pub(super) fn all_that_fire(&self, source: LogSource, line: &str) -> Vec<&str> {
        let fires = |compiled: &&Compiled| compiled.rule.source.has(source) && compiled.fires(line.as_bytes());
        self.inner.rules.iter().filter(fires).map(|compiled| compiled.rule.name.as_str()).collect()
    }
}

impl Patterns {
    fn of(rules: &[Compiled], source: LogSource) -> Result<Self, LogRulesError> {
        let (mut owners, mut texts) = (Vec::new(), Vec::new());
        for (place, compiled) in rules.iter().enumerate().filter(|(_, compiled)| compiled.rule.source.has(source)) {
            for (number, pattern) in compiled.rule.regex.iter().enumerate() {
                owners.push((place, number));
                texts.push(pattern.as_str());
            }
        }
        let set = RegexSetBuilder::new(texts)
            .unicode(false)
            .size_limit(SET_BYTES)
            .dfa_size_limit(AUTOMATON_BYTES)
            .build()
            .map_err(|error| LogRulesError::TooMuch(format!("the patterns of all log rules together: {error}")))?;
        Ok(Self { set, owners })
    }
}

impl Compiled {
    fn fires(&self, line: &[u8]) -> bool {
        (0..self.patterns.len()).any(|number| self.finding(number, line).is_some())
    }

    /// What pattern `number` makes of a line, if it matches and nothing speaks against it.
    fn finding(&self, number: usize, line: &[u8]) -> Option<Finding> {
        let pattern = self.patterns.get(number)?;
        let found = pattern.captures(line)?;
        if self.unless.iter().any(|unless| unless.is_match(line)) {
            return None;
        }
        let captured: HashMap<&str, String> = pattern
            .capture_names()
            .flatten()
            .filter_map(|name| Some((name, clean(found.name(name)?.as_bytes()))))
            .filter(|(_, text)| !text.is_empty())
            .collect();
        let rule = &self.rule;
        let fits =
            |case: &super::LogCase| captured.get(case.capture.as_str()).is_some_and(|text| case.values.contains(text));
        let place = rule.cases.iter().position(fits);
        let case = place.and_then(|place| rule.cases.get(place));
        let own_summary: Option<&Template> = place.and_then(|place| self.case_summaries.get(place)?.as_ref());
        let summary = own_summary.unwrap_or(&self.summary).fill(|name| captured.get(name).map(String::as_str));
        let is_label = |name: &str| rule.labels.as_ref().is_none_or(|labels| labels.iter().any(|label| label == name));
        let mut labels: Labels = captured
            .iter()
            .filter(|(name, _)| is_label(name))
            .map(|(name, text)| ((*name).to_owned(), text.clone()))
            .collect();
        let class = case.and_then(|case| case.class).unwrap_or(rule.class);
        labels.insert(CLASS.to_owned(), class.name().to_owned());
        Some(Finding {
            rule: rule.name.clone(),
            severity: case.and_then(|case| case.severity).unwrap_or(rule.severity),
            labels,
            summary,
            action: case.and_then(|case| case.action).unwrap_or(rule.action),
            lasts: rule.lasts,
        })
    }
}
