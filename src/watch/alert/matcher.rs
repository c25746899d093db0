//! Which alerts are meant: conditions on labels.
//!
//! Comes in: text as people write it, `rule=Rank*`. Goes out: whether an alert is meant. What must hold: matching takes time in
//! proportion to the lengths of pattern and value at most for each `*`, whatever both hold.

use crate::watch::{Action, Finding, Severity};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// A longer one is not meant.
const LONGEST: usize = 1024;

/// A condition on one label: `node=n1`, `rule=Rank*`, `severity!=info`.
///
/// `*` stands for any text, also none. A label that an alert does not have is empty. Besides its labels an alert has `rule`
/// (also as `alertname`), `severity` (`info`, `warning`, `critical`) and `action` (`nothing`, `checkpoint`, `stop_attempt`,
/// `mark_node`). The value may stand in double quotes.
///
/// ```
/// use piton::watch::alert::Matcher;
/// let matcher: Matcher = "node != gpu*".parse()?;
/// assert_eq!(matcher.to_string(), r#"node!="gpu*""#);
/// # Ok::<(), piton::watch::alert::MatcherError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matcher {
    label: String,
    value: String,
    equal: bool,
}

/// A text is no condition on a label.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a condition such as `node=n1`, `rule=Rank*` or `severity!=info`")]
pub struct MatcherError {
    /// The text, shortened.
    text: String,
}

impl Matcher {
    /// Whether `finding` is meant.
    #[must_use]
    pub fn matches(&self, finding: &Finding) -> bool {
        like(&self.value, value(finding, &self.label)) == self.equal
    }
}

/// What `finding` has for `label`; empty where it has none.
pub(super) fn value<'a>(finding: &'a Finding, label: &str) -> &'a str {
    match label {
        "rule" | "alertname" => &finding.rule,
        "severity" => severity(finding.severity),
        "action" => action(finding.action),
        other => finding.labels.get(other).map_or("", String::as_str),
    }
}

/// As the journal and rule files name it.
pub(super) const fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Critical => "critical",
    }
}

/// As the journal and rule files name it.
pub(super) const fn action(action: Action) -> &'static str {
    match action {
        Action::Nothing => "nothing",
        Action::Checkpoint => "checkpoint",
        Action::StopAttempt => "stop_attempt",
        Action::MarkNode => "mark_node",
    }
}

/// Whether `text` is as `pattern` says, in which `*` stands for anything.
fn like(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(start) else { return false };
    let (middle, end) = rest.rsplit_once('*').unwrap_or(("", rest));
    // Each piece at the first place where it fits leaves the most for those after it.
    for piece in middle.split('*') {
        match text.find(piece) {
            Some(at) => text = &text[at + piece.len()..],
            None => return false,
        }
    }
    text.ends_with(end)
}

/// Whether `text` can be a label's name, as in Prometheus.
pub(super) fn is_label(text: &str) -> bool {
    let letters = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !text.is_empty()
        && text.len() <= 128
        && text.chars().all(letters)
        && !text.starts_with(|c: char| c.is_ascii_digit())
}

impl FromStr for Matcher {
    type Err = MatcherError;

    fn from_str(text: &str) -> Result<Self, MatcherError> {
        let problem = || MatcherError { text: text.chars().take(60).collect() };
        let (label, value) = text.split_once('=').filter(|_| text.len() <= LONGEST).ok_or_else(problem)?;
        let (label, equal) = label.strip_suffix('!').map_or((label, true), |label| (label, false));
        // `=~` is a regular expression elsewhere: it is refused instead of taken literally.
        let value = value.trim();
        let bare = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
        if !is_label(label.trim()) || bare.contains('"') || bare.starts_with(['~', '=']) {
            return Err(problem());
        }
        Ok(Self { label: label.trim().to_owned(), value: bare.to_owned(), equal })
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}\"{}\"", self.label, if self.equal { "=" } else { "!=" }, self.value)
    }
}

impl<'de> Deserialize<'de> for Matcher {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for Matcher {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The same by trying everything.
    fn slowly(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|at| slowly(rest, &text[at..])),
            Some((byte, rest)) => text.first() == Some(byte) && slowly(rest, &text[1..]),
        }
    }

    #[test]
    fn what_is_no_condition_is_refused() {
        for text in ["", "node", "=x", "no de=x", "node=~x.*", "node==x", "1node=x", "node=\"a\"b\"", &"a".repeat(2000)]
        {
            assert!(text.parse::<Matcher>().is_err(), "{text}");
        }
        for text in ["node=", "a!=b", " a = \"b c\" ", "a=b=c"] {
            assert!(text.parse::<Matcher>().is_ok(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn patterns_mean_what_they_say(pattern in "[ab*]{0,8}", text in "[ab]{0,10}") {
            prop_assert_eq!(like(&pattern, &text), slowly(pattern.as_bytes(), text.as_bytes()));
        }

        #[test]
        fn what_is_shown_reads_the_same(label in "[a-z_]{1,8}", value in "[a-z*!~= .]{0,8}", equal: bool) {
            let text = format!("{label}{}\"{value}\"", if equal { "=" } else { "!=" });
            if let Ok(matcher) = text.parse::<Matcher>() {
                prop_assert_eq!(matcher.to_string().parse::<Matcher>(), Ok(matcher));
            }
        }
    }
}
