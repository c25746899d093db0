//! The rule file: what is wrong with a node, in TOML.
//!
//! Comes in: a file of the user's, or the one that is built in. Goes out: [`Rules`] of which nothing is left to check. What must hold: a
//! file with anything unknown or nonsensical is refused with its name, the line or the rule, and the key; files are bounded.
//!
//! ```
//! let rules = piton::watch::Rules::parse(
//!     r#"
//!     [[threshold]]
//!     name = "ScratchFull"
//!     series = "node_filesystem_avail_bytes"
//!     ratio_to = "node_filesystem_size_bytes"
//!     labels = { mountpoint = "/scratch*" }
//!     below = 0.05
//!     clear = 0.08
//!     for = "5min"
//!     severity = "critical"
//!     action = "checkpoint"
//!     summary = "{mountpoint} has {value%} of its space left"
//!     "#,
//!     "rules.toml".as_ref(),
//! )?;
//! assert_eq!(rules.thresholds[0].name, "ScratchFull");
//! # Ok::<(), piton::watch::RulesError>(())
//! ```

use super::alert::{Section, Settings, SettingsError};
use super::logs::{LogRule, LogRules, LogRulesError};
use super::threshold::{Condition, InvalidThreshold, Table, Threshold};
use crate::config::{self, line_at, read_text};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A rule file that is longer is none.
const FILE_LIMIT: u64 = 1 << 20;
/// More rules are none that anybody wrote.
const MOST: usize = 1000;

/// The rules that hold where the user has none, as a file to start from.
pub const DEFAULT_RULES: &str = include_str!("threshold/defaults.toml");

/// What a rule file says.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Of its `[[threshold]]` tables.
    pub thresholds: Vec<Threshold>,
    /// Of its `[[log]]` tables.
    pub logs: LogRules,
    /// Who is told of what, by its `[alerts]`.
    pub alerts: Settings,
    /// Whether the built-in rules hold as well, where none of these has their names.
    pub with_defaults: bool,
}

impl Default for Rules {
    /// [`Self::defaults`].
    fn default() -> Self {
        Self::defaults()
    }
}

/// The file as it stands there.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleFile {
    #[serde(default)]
    threshold: Vec<Table>,
    #[serde(default)]
    log: Vec<LogRule>,
    #[serde(default)]
    alerts: Section,
    defaults: Option<bool>,
}

/// Why a rule file is refused.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum RulesError {
    /// It cannot be read.
    #[error("the rule file {} cannot be read: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Arc<io::Error>,
    },
    /// It is not TOML, or holds a table or key that is none of a rule file's.
    #[error("{}, line {line}: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What the parser says.
        message: String,
    },
    /// A threshold makes no sense.
    #[error("{}: {invalid}", path.display())]
    Threshold {
        /// The file.
        path: PathBuf,
        /// Which, and why.
        invalid: InvalidThreshold,
    },
    /// A log rule makes no sense.
    #[error("{}: {invalid}", path.display())]
    Log {
        /// The file.
        path: PathBuf,
        /// Which, and why.
        invalid: Arc<LogRulesError>,
    },
    /// What is said of alerts makes no sense.
    #[error("{}: [alerts] {invalid}", path.display())]
    Alerts {
        /// The file.
        path: PathBuf,
        /// What, and why.
        invalid: Arc<SettingsError>,
    },
    /// Two rules have one name, so that their alerts could not be told apart.
    #[error("{}: two rules are called {rule:?}: give one of them another name", path.display())]
    Twice {
        /// The file.
        path: PathBuf,
        /// The name.
        rule: String,
    },
    /// There are too many rules.
    #[error("{}: {count} rules are more than {MOST}", path.display())]
    TooMany {
        /// The file.
        path: PathBuf,
        /// How many.
        count: usize,
    },
}

impl Rules {
    /// The rules that are built in: [`DEFAULT_RULES`].
    #[must_use]
    pub fn defaults() -> Self {
        // A test reads them.
        let thresholds = Self::parse(DEFAULT_RULES, "defaults.toml".as_ref()).map(|rules| rules.thresholds);
        let thresholds = thresholds.unwrap_or_default();
        Self { thresholds, logs: LogRules::defaults(), alerts: Settings::defaults(), with_defaults: true }
    }

    /// Those of the file `path`.
    ///
    /// # Errors
    /// [`RulesError`].
    pub fn read(path: &Path) -> Result<Self, RulesError> {
        let text = read_text(path, FILE_LIMIT, "rule file")
            .map_err(|source| RulesError::File { path: path.to_owned(), source: source.into() })?;
        Self::parse(&text, path)
    }

    /// What holds by the setting `rules`: the built-in rules, or what [`Self::in_force`] makes of the file.
    ///
    /// # Errors
    /// [`RulesError`].
    pub fn by(settings: &config::Settings) -> Result<Self, RulesError> {
        match settings.rules.as_os_str().is_empty() {
            true => Ok(Self::defaults()),
            false => Self::in_force(&settings.rules),
        }
    }

    /// What holds by the file `path`: its rules, and the built-in ones that it neither replaces nor forbids (`defaults = false`).
    ///
    /// # Errors
    /// [`RulesError`].
    pub fn in_force(path: &Path) -> Result<Self, RulesError> {
        let mut rules = Self::read(path)?;
        if !rules.with_defaults {
            return Ok(rules);
        }
        let own: BTreeSet<String> = rules.thresholds.iter().map(|rule| rule.name.clone()).collect();
        let built_in = Self::defaults().thresholds;
        rules.thresholds.extend(built_in.into_iter().filter(|rule| !own.contains(&rule.name)));
        rules.logs = rules
            .logs
            .before_defaults()
            .map_err(|invalid| RulesError::Log { path: path.to_owned(), invalid: invalid.into() })?;
        Ok(rules)
    }

    /// Those of `text`, which is the file `path`.
    ///
    /// # Errors
    /// [`RulesError`], but for [`RulesError::File`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, RulesError> {
        let path = path.to_owned();
        let file: RuleFile = match toml::from_str(text) {
            Ok(file) => file,
            Err(error) => {
                let line = line_at(text, error.span().map_or(0, |span| span.start));
                return Err(RulesError::Syntax { path, line, message: error.message().to_owned() });
            }
        };
        let count = file.threshold.len();
        if count > MOST {
            return Err(RulesError::TooMany { path, count });
        }
        let mut names = BTreeSet::new();
        if let Some(twice) = file.threshold.iter().find(|table| !names.insert(&table.name)) {
            return Err(RulesError::Twice { path, rule: twice.name.clone() });
        }
        let thresholds: Result<Vec<_>, _> = file.threshold.into_iter().map(Table::check).collect();
        let thresholds = thresholds.map_err(|invalid| RulesError::Threshold { path: path.clone(), invalid })?;
        let logs = LogRules::new(file.log)
            .map_err(|invalid| RulesError::Log { path: path.clone(), invalid: invalid.into() })?;
        let alerts = file.alerts.settings().map_err(|invalid| RulesError::Alerts { path, invalid: invalid.into() })?;
        Ok(Self { thresholds, logs, alerts, with_defaults: file.defaults.unwrap_or(true) })
    }

    /// The thresholds that compare nodes with each other: whoever has the samples of all of them evaluates these, and nobody else can.
    ///
    /// ```
    /// let rules = piton::watch::Rules::defaults();
    /// assert!(rules.comparisons().any(|threshold| threshold.name == "HotterThanOthers"));
    /// assert!(rules.compared().any(|series| series == "node_hwmon_temp_celsius"));
    /// ```
    pub fn comparisons(&self) -> impl Iterator<Item = &Threshold> {
        self.thresholds.iter().filter(|threshold| matches!(threshold.condition, Condition::Peers(_)))
    }

    /// The names of the series that those need.
    pub fn compared(&self) -> impl Iterator<Item = &str> {
        self.comparisons()
            .flat_map(|threshold| [Some(threshold.series.as_str()), threshold.ratio_to.as_deref()])
            .flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RULE: &str = "[[threshold]]\nname = \"A\"\nseries = \"x\"\nseverity = \"info\"\nsummary = \"s\"\n";

    fn parse(more: &str) -> Result<Rules, RulesError> {
        Rules::parse(&format!("{RULE}{more}"), "r.toml".as_ref())
    }

    #[test]
    fn the_built_in_rules_are_read() {
        let rules = Rules::parse(DEFAULT_RULES, "defaults.toml".as_ref());
        let thresholds = rules.map(|rules| rules.thresholds).map_err(|error| error.to_string());
        assert_eq!(thresholds, Ok(Rules::defaults().thresholds));
        assert!(Rules::defaults().thresholds.len() >= 30);
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_rule_and_key() {
        for (more, key) in [
            ("", "above"),
            ("above = nan", "above"),
            ("above = 1\nbelow = 2", "below"),
            ("above = 1\nclear = 2", "clear"),
            ("below = 1\nclear = 0.5", "clear"),
            ("above = 1\nfor = \"5 parsecs\"", "for"),
            ("above = 1\nfor = \"2days\"", "for"),
            ("above = 1\nclear_for = \"x\"", "clear_for"),
            ("above = 1\nwindow = \"1h\"", "window"),
            ("above = 1\nmeasure = \"increase\"", "window"),
            ("above = 1\nmeasure = \"increase\"\nwindow = \"0s\"", "window"),
            ("above = 1\nratio_to = \"x\"", "ratio_to"),
            ("above = 1\nratio_to = \"a b\"", "ratio_to"),
            ("above = 1\nlabels = { \"a b\" = \"c\" }", "labels"),
            ("above = 1\nadaptive = {}", "above"),
            ("adaptive = {}\npeers = {}", "peers"),
            ("adaptive = { k = 0.5 }", "adaptive"),
            ("adaptive = { k = 4, false_alarms_per_day = 1 }", "adaptive"),
            ("adaptive = { false_alarms_per_day = 0 }", "adaptive"),
            ("adaptive = { least_spread = -1 }", "adaptive"),
            ("adaptive = { relearn = \"1s\" }", "adaptive"),
            ("adaptive = {}\nmeasure = \"increase\"\nwindow = \"1h\"", "measure"),
            ("peers = { k = inf }", "peers"),
        ] {
            match parse(more) {
                Err(RulesError::Threshold { invalid, .. }) => {
                    assert_eq!((invalid.rule.as_str(), invalid.key), ("A", key), "{more}");
                }
                other => panic!("{more}: {other:?}"),
            }
        }
        let error = parse("above = 1\nfor = \"5 parsecs\"").unwrap_err().to_string();
        assert!(error.starts_with("r.toml: threshold \"A\": `for`: a time is a number with a unit"), "{error}");
    }

    #[test]
    fn what_is_unknown_is_refused_by_line() {
        for (more, line) in
            [("abov = 1", 6), ("above = 1\n\n[alarm]\n", 8), ("above = 1\nabove = 2", 7), ("above = [", 6)]
        {
            match parse(more) {
                Err(RulesError::Syntax { line: at, .. }) => assert_eq!(at, line, "{more}"),
                other => panic!("{more}: {other:?}"),
            }
        }
        let twice = format!("{RULE}above = 1\n{RULE}above = 1\n");
        assert!(matches!(Rules::parse(&twice, "r".as_ref()), Err(RulesError::Twice { .. })));
        let many: String = (0..=MOST).map(|n| RULE.replace("\"A\"", &format!("\"A{n}\"")) + "above = 1\n").collect();
        assert!(matches!(Rules::parse(&many, "r".as_ref()), Err(RulesError::TooMany { count: 1001, .. })));
    }

    #[test]
    fn files_are_bounded_and_must_be_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rules.toml");
        std::fs::write(&path, format!("{RULE}above = 1")).unwrap();
        assert_eq!(Rules::read(&path).unwrap().thresholds.len(), 1);
        std::fs::write(&path, " ".repeat(FILE_LIMIT as usize + 1)).unwrap();
        for path in [path.as_path(), folder.path(), &folder.path().join("none")] {
            let error = Rules::read(path).unwrap_err();
            assert!(matches!(error, RulesError::File { .. }), "{error}");
        }
    }

    #[test]
    fn a_file_has_all_three_kinds_and_goes_before_what_is_built_in() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("rules.toml");
        let first = Rules::defaults().thresholds[0].name.clone();
        let text = format!(
            "{}above = 1\n[[log]]\nname = \"Own\"\nsource = \"application\"\nregex = \"(?i)odd parity\"\nclass = \"application\"\n\
             severity = \"info\"\nsummary = \"odd\"\n\n[[alerts.receivers]]\nname = \"pager\"\ncommand = [\"page\"]\n",
            RULE.replace("\"A\"", &format!("{first:?}"))
        );
        std::fs::write(&path, &text).expect("a file");
        let own = Rules::read(&path).expect("good rules");
        assert_eq!((own.thresholds.len(), own.logs.rules().count(), own.alerts.receivers.len()), (1, 1, 1));
        let all = Rules::in_force(&path).expect("good rules");
        let defaults = Rules::defaults();
        assert_eq!(all.thresholds.len(), defaults.thresholds.len(), "one replaces another");
        assert_eq!(all.thresholds[0].series, "x");
        assert_eq!(all.logs.rules().count(), defaults.logs.rules().count() + 1);
        std::fs::write(&path, format!("defaults = false\n{text}")).expect("a file");
        assert_eq!(Rules::in_force(&path).expect("good rules").thresholds.len(), 1);
        std::fs::write(&path, "[alerts]\ngroup_wait = \"soon\"").expect("a file");
        assert!(Rules::read(&path).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text: String, number: f64, time in "[0-9a-z. ]{0,8}") {
            let _ = Rules::parse(&text, "r".as_ref());
            let _ = parse(&format!("above = {number:?}\nfor = {time:?}"));
            let _ = parse(&format!("adaptive = {{ k = {number:?}, relearn = {time:?} }}"));
        }
    }
}
