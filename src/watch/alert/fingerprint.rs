//! One alert, and what tells it from others.
//!
//! Comes in: a finding. Goes out: the alert that it is. What must hold: a fingerprint depends on the rule and the labels alone, so
//! that an alert stays the same when it gets worse or is put into other words; it is the same in every version and on every
//! machine, since journals and receivers keep it.

use crate::watch::{Finding, Labels};
use serde::{Serialize, Serializer};
use std::fmt;
use xxhash_rust::xxh3::Xxh3Default;

/// What tells one alert from another: a hash of its rule and labels.
///
/// XXH3 (64 bits, no seed) of the rule's name and then, sorted by name, of each label's name and value, each of all these followed by
/// the byte 0xff, which no text in UTF-8 contains: different labels never give the same bytes. Among 10,000 alerts two have the
/// same by chance with probability 3·10⁻¹².
///
/// ```
/// use piton::watch::{Labels, alert::Fingerprint};
/// let labels = Labels::from([("node".to_owned(), "n1".to_owned())]);
/// assert_eq!(Fingerprint::of("NodeLost", &labels).to_string(), "2ea7a3b832538ba4");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub u64);

impl Fingerprint {
    /// That of an alert of `rule` about `labels`.
    #[must_use]
    pub fn of(rule: &str, labels: &Labels) -> Self {
        let mut hash = Xxh3Default::new();
        let pairs = labels.iter().flat_map(|(label, value)| [label.as_str(), value.as_str()]);
        for text in std::iter::once(rule).chain(pairs) {
            hash.update(text.as_bytes());
            hash.update(&[0xff]);
        }
        Self(hash.digest())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Something that is wrong, or was until just now.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Alert {
    /// What tells it from others.
    pub fingerprint: Fingerprint,
    /// What was found, as it was put last.
    pub finding: Finding,
    /// Since when it fires, in seconds of the caller's clock.
    pub since: f64,
    /// When it was found last.
    pub seen: f64,
    /// Since when it is over; `None`: it fires.
    pub ended: Option<f64>,
    /// How often it was found since it fires.
    pub times: u64,
}

impl Alert {
    /// Whether it is so still.
    #[must_use]
    pub fn fires(&self) -> bool {
        self.ended.is_none()
    }

    /// Where it is.
    #[must_use]
    pub fn labels(&self) -> &Labels {
        &self.finding.labels
    }

    /// How long it has been firing at `now`, or fired in all; seconds.
    #[must_use]
    pub fn seconds(&self, now: f64) -> f64 {
        (self.ended.unwrap_or(now) - self.since).max(0.0)
    }
}
