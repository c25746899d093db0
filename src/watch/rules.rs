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

use super::threshold::{InvalidThreshold, Table, Threshold};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A rule file that is longer is none.
const FILE_LIMIT: u64 = 1 << 20;
/// More rules are none that anybody wrote.
const MOST: usize = 1000;

/// The rules that hold where the user has none, as a file to start from.
pub const DEFAULT_RULES: &str = include_str!("threshold/defaults.toml");

/// What a rule file says.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rules {
    /// Of its `[[threshold]]` tables.
    pub thresholds: Vec<Threshold>,
}

/// The file as it stands there.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleFile {
    #[serde(default)]
    threshold: Vec<Table>,
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
        Self::parse(DEFAULT_RULES, "defaults.toml".as_ref()).unwrap_or_default()
    }

    /// Those of the file `path`.
    ///
    /// # Errors
    /// [`RulesError`].
    pub fn read(path: &Path) -> Result<Self, RulesError> {
        let text = read(path).map_err(|source| RulesError::File { path: path.to_owned(), source: source.into() })?;
        Self::parse(&text, path)
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
                let before = error.span().map_or("", |span| text.get(..span.start).unwrap_or_default());
                let line = before.matches('\n').count() + 1;
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
        let thresholds = thresholds.map_err(|invalid| RulesError::Threshold { path, invalid })?;
        Ok(Self { thresholds })
    }
}

fn read(path: &Path) -> io::Result<String> {
    // Before it is opened: opening a pipe would wait for a writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut text = String::new();
    let read = File::open(path)?.take(FILE_LIMIT + 1).read_to_string(&mut text)?;
    if read as u64 > FILE_LIMIT {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "longer than 1 MiB, which no rule file is"));
    }
    Ok(text)
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
        assert_eq!(rules.map_err(|error| error.to_string()), Ok(Rules::defaults()));
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

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text: String, number: f64, time in "[0-9a-z. ]{0,8}") {
            let _ = Rules::parse(&text, "r".as_ref());
            let _ = parse(&format!("above = {number:?}\nfor = {time:?}"));
            let _ = parse(&format!("adaptive = {{ k = {number:?}, relearn = {time:?} }}"));
        }
    }
}
