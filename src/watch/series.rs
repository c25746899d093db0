//! What is measured, and of what.
//!
//! Comes in: a name and labels. Goes out: a series that can be compared, sorted, and written down. What must hold: names and units are
//! Prometheus's: base units (seconds, bytes, celsius, volts, ratios from 0 to 1), `_total` for what only grows; where the
//! node exporter has the same thing, its name.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// A text that is longer names no series.
const LONGEST: usize = 8 << 10;

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

/// A text does not name a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a series of the form name{{label=\"value\"}}, at byte {at}")]
pub struct NotASeries {
    /// Up to where it does.
    pub at: usize,
}

/// Reads what [`Series`] displays.
///
/// ```
/// use piton::watch::Series;
/// let series: Series = r#"node_filesystem_avail_bytes{mountpoint="/"}"#.parse()?;
/// assert_eq!(series.label("mountpoint"), Some("/"));
/// # Ok::<(), piton::watch::NotASeries>(())
/// ```
impl FromStr for Series {
    type Err = NotASeries;

    fn from_str(text: &str) -> Result<Self, NotASeries> {
        if text.len() > LONGEST {
            return Err(NotASeries { at: LONGEST });
        }
        let mut reading = Reading { text, at: 0 };
        let mut series = Self::new(reading.name(true)?.to_owned());
        if reading.text.len() == reading.at {
            return Ok(series);
        }
        reading.expect('{')?;
        loop {
            let start = reading.at;
            let label = reading.name(false)?.to_owned();
            reading.expect('=')?;
            if series.labels.insert(label.into(), reading.quoted()?).is_some() {
                return Err(NotASeries { at: start });
            }
            match reading.next()? {
                ',' => {}
                '}' if reading.at == text.len() => return Ok(series),
                _ => return reading.fail(),
            }
        }
    }
}

/// How far a text is read.
#[derive(Debug)]
struct Reading<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reading<'a> {
    fn fail<T>(&self) -> Result<T, NotASeries> {
        Err(NotASeries { at: self.at })
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn next(&mut self) -> Result<char, NotASeries> {
        let next = self.rest().chars().next().ok_or(NotASeries { at: self.at })?;
        self.at += next.len_utf8();
        Ok(next)
    }

    fn expect(&mut self, expected: char) -> Result<(), NotASeries> {
        if self.rest().starts_with(expected) {
            self.at += expected.len_utf8();
            return Ok(());
        }
        self.fail()
    }

    /// A name of Prometheus's: letters, digits and `_`, in a metric's `:` as well.
    fn name(&mut self, metric: bool) -> Result<&'a str, NotASeries> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || (metric && c == ':');
        let rest = self.rest();
        let end = rest.find(|c| !allowed(c)).unwrap_or(rest.len());
        if end == 0 || rest.starts_with(|c: char| c.is_ascii_digit()) {
            return self.fail();
        }
        self.at += end;
        Ok(&rest[..end])
    }

    /// A text in quotes, as Rust writes it for debugging.
    fn quoted(&mut self) -> Result<String, NotASeries> {
        self.expect('"')?;
        let mut value = String::new();
        loop {
            match self.next()? {
                '"' => return Ok(value),
                '\\' => value.push(match self.next()? {
                    'n' => '\n',
                    't' => '\t',
                    'r' => '\r',
                    '0' => '\0',
                    plain @ ('"' | '\\' | '\'') => plain,
                    'u' => {
                        self.expect('{')?;
                        let digits = self.rest().split('}').next().filter(|digits| digits.len() <= 6).unwrap_or("");
                        let code = u32::from_str_radix(digits, 16).ok().and_then(char::from_u32);
                        let code = code.ok_or(NotASeries { at: self.at })?;
                        self.at += digits.len();
                        self.expect('}')?;
                        code
                    }
                    _ => return self.fail(),
                }),
                plain => value.push(plain),
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_names_no_series_is_refused_by_place() {
        for (text, at) in [
            ("", 0),
            ("1up", 0),
            ("up{", 3),
            ("up{}", 3),
            ("up{a}", 4),
            ("up{a=b}", 5),
            (r#"up{a="b"#, 7),
            (r#"up{a="b""#, 8),
            (r#"up{a="b"} "#, 9),
            (r#"up{a="b",}"#, 9),
            (r#"up{a="b",a="c"}"#, 9),
            (r#"up{a="\q"}"#, 8),
            (r#"up{a="\u{110000}"}"#, 9),
            ("\u{e9}", 0),
        ] {
            assert_eq!(text.parse::<Series>(), Err(NotASeries { at }), "{text}");
        }
        assert!(format!("up{{a={:?}}}", "x".repeat(9000)).parse::<Series>().is_err());
    }

    proptest! {
        #[test]
        fn every_series_reads_as_it_is_shown(
            name in "[a-zA-Z_:][a-zA-Z0-9_:]{0,20}",
            labels in proptest::collection::btree_map("[a-zA-Z_][a-zA-Z0-9_]{0,9}", any::<String>(), 0..5),
        ) {
            let labels = labels.into_iter().map(|(label, value)| (label.into(), value)).collect();
            let series = Series { name: name.into(), labels };
            prop_assert_eq!(series.to_string().parse(), Ok(series));
        }

        #[test]
        fn any_text_is_read_or_refused(text: String, inner in r#"[a-z"{}=,\\u0-9]{0,40}"#) {
            let _ = text.parse::<Series>();
            let _ = format!("a{{{inner}").parse::<Series>();
        }
    }
}
