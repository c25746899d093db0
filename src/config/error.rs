//! What can be wrong with what the user set, and the nearest thing that is right.

use super::{Origin, SETTINGS};
use std::path::PathBuf;
use std::sync::Arc;

/// A setting that cannot be meant, and where it stands.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A name that is no setting's.
    #[error("{origin}: there is no setting `{key}`{}; `piton config` lists them all", did_you_mean(.suggestion))]
    Unknown {
        /// The name.
        key: String,
        /// Where it stands.
        origin: Origin,
        /// A setting of a similar name.
        suggestion: Option<String>,
    },
    /// A value that a setting does not take.
    #[error("{origin}: `{key}` cannot be `{value}`: {expected}")]
    Invalid {
        /// The setting.
        key: &'static str,
        /// The value.
        value: String,
        /// Where it stands.
        origin: Origin,
        /// What is expected.
        expected: String,
    },
    /// An argument or a variable that must have a value, or be text, and is not.
    #[error("{origin}: {expected}")]
    Malformed {
        /// Where it stands.
        origin: Origin,
        /// What is expected.
        expected: String,
    },
    /// A start afresh and a resume are asked for in one breath.
    #[error("{fresh} asks for a start afresh, and {resume} for a resume: leave one of them out")]
    Contradiction {
        /// Where the start afresh is asked for.
        fresh: Origin,
        /// Where the resume is asked for.
        resume: Origin,
    },
    /// The least that a setting allows is more than the most that another does.
    #[error(
        "{least} asks for no less than {least_value}, and {most} for no more than {most_value}: change one of them"
    )]
    Bounds {
        /// Where the least is set.
        least: Origin,
        /// It.
        least_value: String,
        /// Where the most is set.
        most: Origin,
        /// It.
        most_value: String,
    },
    /// A configuration file that is not TOML.
    #[error("{}, line {line}: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What the parser says.
        message: String,
    },
    /// A configuration file that cannot be read.
    #[error("the configuration file {} cannot be read: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Arc<std::io::Error>,
    },
}

impl ConfigError {
    pub(super) fn unknown_key(key: String, origin: Origin) -> Self {
        let suggestion = nearest(&key, SETTINGS.iter().map(|setting| setting.key)).map(str::to_owned);
        Self::Unknown { key, origin, suggestion }
    }
}

fn did_you_mean(suggestion: &Option<String>) -> String {
    suggestion.as_ref().map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
}

/// The candidate that `name` was most likely meant to be, if any is near enough.
pub(super) fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // The distance takes time in the product of the lengths, and no setting has a long name.
    if name.len() > 64 {
        return None;
    }
    let name = name.to_ascii_lowercase().replace('-', "_");
    let near = |candidate: &'a str| {
        let distance = distance(&name, &candidate.to_ascii_lowercase());
        (distance <= (candidate.len().min(name.len()) / 3).max(1)).then_some((distance, candidate))
    };
    candidates.filter_map(near).min_by_key(|(distance, _)| *distance).map(|(_, candidate)| candidate)
}

/// The least number of letters put in, left out, changed, or swapped with their neighbour that makes `a` into `b`.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let change = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = change.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_the_textbook() {
        for (a, b, expected) in [("", "", 0), ("", "abc", 3), ("kitten", "sitting", 3), ("evrey", "every", 1)] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
            assert_eq!(distance(b, a), expected, "{b} {a}");
        }
    }

    #[test]
    fn only_what_is_near_is_suggested() {
        let keys = || SETTINGS.iter().map(|setting| setting.key);
        assert_eq!(nearest("evry", keys()), Some("every"));
        assert_eq!(nearest("every-steps", keys()), Some("every_steps"));
        assert_eq!(nearest("KEEP", keys()), Some("keep"));
        assert_eq!(nearest("interval", keys()), None);
        assert_eq!(nearest("x", keys()), None);
    }
}
