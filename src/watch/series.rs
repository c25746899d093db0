//! What is measured, and of what.
//!
//! Comes in: a name and labels. Goes out: a series that can be compared, sorted, and written down. What must hold: names and units are
//! Prometheus's: base units (seconds, bytes, celsius, volts, ratios from 0 to 1), `_total` for what only grows; where the
//! node exporter has the same thing, its name.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

/// What is measured, of what.
///
/// ```
/// use piton::watch::Series;
/// let series = Series::new("node_hwmon_temp_celsius").with("chip", "coretemp").with("sensor", "temp1");
/// assert_eq!(series.to_string(), r#"node_hwmon_temp_celsius{chip="coretemp",sensor="temp1"}"#);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Series {
    /// What is measured.
    pub name: Cow<'static, str>,
    /// Of what: of which device, rank, node.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<Cow<'static, str>, String>,
}

impl Series {
    /// A series without labels.
    #[must_use]
    pub fn new(name: impl Into<Cow<'static, str>>) -> Self {
        Self { name: name.into(), labels: BTreeMap::new() }
    }

    /// The same with another label.
    #[must_use]
    pub fn with(mut self, label: impl Into<Cow<'static, str>>, value: impl Into<String>) -> Self {
        self.labels.insert(label.into(), value.into());
        self
    }

    /// What a label says.
    #[must_use]
    pub fn label(&self, label: &str) -> Option<&str> {
        self.labels.get(label).map(String::as_str)
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        for (place, (label, value)) in self.labels.iter().enumerate() {
            write!(f, "{}{label}={value:?}", if place == 0 { '{' } else { ',' })?;
        }
        if self.labels.is_empty() { Ok(()) } else { f.write_str("}") }
    }
}

/// How a series behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// It goes up and down.
    Gauge,
    /// It only grows, until whatever counts starts anew.
    Counter,
}

/// One value at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Of what.
    pub series: Series,
    /// How the series behaves.
    pub kind: Kind,
    /// In the unit that the series' name tells.
    pub value: f64,
}

impl Sample {
    /// A value that goes up and down.
    #[must_use]
    pub fn gauge(series: Series, value: f64) -> Self {
        Self { series, kind: Kind::Gauge, value }
    }

    /// A count that only grows.
    #[must_use]
    pub fn counter(series: Series, value: f64) -> Self {
        Self { series, kind: Kind::Counter, value }
    }
}
