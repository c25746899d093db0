//! What settings say about when checkpoints are taken.
//!
//! What must hold: as for all values: what is shown reads as the same.

use super::value::{Form, FormValue, expected, parse_time, scaled, show_time};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// The time between two checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Every {
    /// What wastes least, by what checkpoints cost and how often the job fails.
    #[default]
    Auto,
    /// None by time.
    Off,
    /// This long.
    Fixed(Duration),
}

impl Every {
    pub(super) const MOST: Duration = Duration::from_secs(365 * 24 * 3600);
}

impl fmt::Display for Every {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Off => f.write_str("off"),
            Self::Fixed(time) => f.write_str(&show_time(*time)),
        }
    }
}

impl FormValue for Every {
    fn parse(form: &Form, text: &str) -> Result<Self, String> {
        match text {
            "auto" => return Ok(Self::Auto),
            "off" => return Ok(Self::Off),
            _ => {}
        }
        match parse_time(text) {
            Ok(time) if time.is_zero() => Ok(Self::Off),
            Ok(time) if time <= Self::MOST => Ok(Self::Fixed(time)),
            Ok(_) => expected(form),
            Err(problem) => Err(format!("{problem}; it takes {form}")),
        }
    }

    fn show(&self, _: &Form) -> String {
        self.to_string()
    }
}

/// When the nodes are taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AllocationEnd {
    /// When the batch system says so (Slurm's `SLURM_JOB_END_TIME`); never where there is none.
    #[default]
    Auto,
    /// Not as far as checkpoints are concerned.
    Off,
    /// So long after the attempt's start.
    After(Duration),
    /// At this time, in seconds since the start of 1970.
    At(u64),
}

/// The last second of the year 9999.
const LAST_SECOND: u64 = 253_402_300_799;

impl fmt::Display for AllocationEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Off => f.write_str("off"),
            Self::After(time) => f.write_str(&show_time(*time)),
            Self::At(second) => write!(f, "@{second}"),
        }
    }
}

impl FormValue for AllocationEnd {
    fn parse(form: &Form, text: &str) -> Result<Self, String> {
        match text {
            "auto" => return Ok(Self::Auto),
            "off" => return Ok(Self::Off),
            _ => {}
        }
        if let Some(second) = text.strip_prefix('@') {
            let digits = !second.is_empty() && second.bytes().all(|byte| byte.is_ascii_digit());
            return match second.parse() {
                Ok(second) if digits && second <= LAST_SECOND => Ok(Self::At(second)),
                _ => expected(form),
            };
        }
        match parse_time(text) {
            Ok(time) if !time.is_zero() && time <= Every::MOST => Ok(Self::After(time)),
            Ok(_) => expected(form),
            Err(problem) => Err(format!("{problem}; it takes {form}")),
        }
    }

    fn show(&self, _: &Form) -> String {
        self.to_string()
    }
}

/// A mean time between failures; none where nobody gave one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MeanTime(pub Option<Duration>);

impl MeanTime {
    const LEAST: Duration = Duration::from_millis(1);
    /// Ten thousand years.
    const MOST: Duration = Duration::from_secs(10_000 * 365 * 24 * 3600);

    /// In seconds.
    #[must_use]
    pub fn seconds(self) -> Option<f64> {
        self.0.map(|time| time.as_secs_f64())
    }
}

impl FormValue for MeanTime {
    /// A time between failures, or a number of failures in a time: `3/day` is 8 h.
    fn parse(form: &Form, text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self(None));
        }
        let time = match text.split_once('/') {
            None => parse_time(text).map_err(|problem| format!("{problem}; it takes {form}"))?,
            Some((number, time)) => {
                // `3/day` means `3/1day`.
                let time = time.trim();
                if time.is_empty() {
                    return expected(form);
                }
                let one = if time.starts_with(|c: char| c.is_ascii_digit()) { "" } else { "1" };
                let time =
                    parse_time(&format!("{one}{time}")).map_err(|problem| format!("{problem}; it takes {form}"))?;
                // In billionths of a failure, so that the division is exact enough for any number with a point.
                let billionths = scaled(number.trim(), 1_000_000_000).filter(|number| *number > 0);
                let Some(billionths) = billionths else { return expected(form) };
                let nanoseconds = time.as_nanos().checked_mul(1_000_000_000).map(|time| time / billionths);
                match nanoseconds.and_then(|time| u64::try_from(time).ok()) {
                    Some(time) => Duration::from_nanos(time),
                    None => return expected(form),
                }
            }
        };
        if (Self::LEAST..=Self::MOST).contains(&time) { Ok(Self(Some(time))) } else { expected(form) }
    }

    fn show(&self, _: &Form) -> String {
        self.0.map_or_else(|| "auto".to_owned(), show_time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_rates_are_never_mixed() {
        let read = |text| MeanTime::parse(&Form::MeanTime, text).map(|time| time.0);
        for (text, hours) in
            [("8h", 8), ("3/day", 8), ("3/d", 8), ("0.125/h", 8), ("4 / 1000 days", 6000), ("5/1000d", 4800)]
        {
            assert_eq!(read(text), Ok(Some(Duration::from_secs(hours * 3600))), "{text}");
        }
        assert_eq!(read("auto"), Ok(None));
        for text in ["", "0", "off", "/d", "3/", "0/d", "-3/d", "3/d/h", "3 per day", "1/0s", "3/parsec", "d"] {
            assert!(read(text).is_err(), "{text}");
        }
        let hint = read("3 per day").unwrap_err();
        assert!(hint.contains("`8h`") && hint.contains("`3/day`"), "{hint}");
    }

    #[test]
    fn what_is_shown_reads_as_the_same() {
        for text in ["auto", "off", "90s", "10min", "365d"] {
            let every = Every::parse(&Form::Every, text).unwrap();
            assert_eq!(Every::parse(&Form::Every, &every.show(&Form::Every)), Ok(every));
        }
        assert_eq!(Every::parse(&Form::Every, "0"), Ok(Every::Off));
        assert!(Every::parse(&Form::Every, "366d").is_err());
        for text in ["auto", "off", "2h", "@1800000000"] {
            let form = Form::AllocationEnd;
            let end = AllocationEnd::parse(&form, text).unwrap();
            assert_eq!(AllocationEnd::parse(&form, &end.show(&form)), Ok(end));
        }
        for text in ["", "0", "@", "@-1", "@1e9", "@999999999999", "tomorrow", "2400h30"] {
            assert!(AllocationEnd::parse(&Form::AllocationEnd, text).is_err(), "{text}");
        }
    }
}
