//! Wall-clock time as journals write it.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAY_MS: i64 = 24 * 3600 * 1000;

/// A moment by the wall clock, in milliseconds; written as RFC 3339 in UTC (`2026-11-22T06:10:11.123Z`).
///
/// ```
/// let time: piton::journal::WallTime = "2026-11-22T06:10:11.123Z".parse()?;
/// assert_eq!(time.to_string(), "2026-11-22T06:10:11.123Z");
/// # Ok::<(), piton::journal::NotATime>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WallTime {
    milliseconds: i64,
}

/// A text is no moment of the form `2026-11-22T06:10:11.123Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a time of the form 2026-11-22T06:10:11.123Z")]
pub struct NotATime;

impl WallTime {
    /// The present.
    #[must_use]
    pub fn now() -> Self {
        SystemTime::now().into()
    }

    /// The moment so many milliseconds after the start of 1970, limited to the years 0 to 9999.
    #[must_use]
    pub fn from_unix_ms(milliseconds: i64) -> Self {
        let (first, last) = (days_of(0, 1, 1) * DAY_MS, days_of(10_000, 1, 1) * DAY_MS - 1);
        Self { milliseconds: milliseconds.clamp(first, last) }
    }

    /// Milliseconds since the start of 1970.
    #[must_use]
    pub fn unix_ms(self) -> i64 {
        self.milliseconds
    }

    /// How long before `later` this was; zero where it was not before it.
    #[must_use]
    pub fn until(self, later: Self) -> Duration {
        Duration::from_millis(u64::try_from(later.milliseconds.saturating_sub(self.milliseconds)).unwrap_or(0))
    }
}

impl From<SystemTime> for WallTime {
    fn from(time: SystemTime) -> Self {
        let whole = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self::from_unix_ms(match time.duration_since(UNIX_EPOCH) {
            Ok(after) => whole(after),
            Err(before) => -whole(before.duration()),
        })
    }
}

/// Days since the start of 1970 in the Gregorian calendar. Years start in March here, so that the leap day comes last;
/// 400 years have 146 097 days.
const fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Year, month and day of a day since the start of 1970: [`days_of`] undone.
const fn date_of(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + if month <= 2 { 1 } else { 0 }, month, day)
}

impl fmt::Display for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = date_of(self.milliseconds.div_euclid(DAY_MS));
        let rest = self.milliseconds.rem_euclid(DAY_MS);
        let (hour, minute) = (rest / 3_600_000, rest / 60_000 % 60);
        let (second, millisecond) = (rest / 1000 % 60, rest % 1000);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millisecond:03}Z")
    }
}

impl FromStr for WallTime {
    type Err = NotATime;

    /// Reads what [`fmt::Display`] writes, with any number of digits of a second's fraction.
    fn from_str(text: &str) -> Result<Self, NotATime> {
        let text = text.strip_suffix('Z').ok_or(NotATime)?;
        let (text, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if text.len() != 19 || !text.is_ascii() || !digits(fraction) || fraction.len() > 9 {
            return Err(NotATime);
        }
        for (place, mark) in [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')] {
            if text.as_bytes()[place] != mark {
                return Err(NotATime);
            }
        }
        let number = |from: usize, to: usize, most: i64| {
            let part = &text[from..to];
            digits(part).then(|| part.parse().ok()).flatten().filter(|n: &i64| *n <= most).ok_or(NotATime)
        };
        let (year, month, day) = (number(0, 4, 9999)?, number(5, 7, 12)?, number(8, 10, 31)?);
        // The calendar itself says which months have 31 days; a leap second is read as the second after it.
        let days = days_of(year, month, day);
        if month == 0 || date_of(days) != (year, month, day) {
            return Err(NotATime);
        }
        let (hour, minute, second) = (number(11, 13, 23)?, number(14, 16, 59)?, number(17, 19, 60)?);
        let millisecond: i64 = format!("{fraction:0<3}")[..3].parse().map_err(|_| NotATime)?;
        let of_day = ((hour * 60 + minute) * 60 + second) * 1000 + millisecond;
        Ok(Self::from_unix_ms(days * DAY_MS + of_day))
    }
}

impl Serialize for WallTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for WallTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Nanoseconds of the node's monotonic clock, which all its processes share.
pub(super) fn monotonic_ns() -> u64 {
    // The call fails only for a clock that does not exist; a record without it is worth more than none.
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_moments_are_written_and_read() {
        for (milliseconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_000_000_000_123, "2001-09-09T01:46:40.123Z"),
            (1_709_210_096_789, "2024-02-29T12:34:56.789Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(WallTime::from_unix_ms(milliseconds).to_string(), text);
            assert_eq!(text.parse().map(WallTime::unix_ms), Ok(milliseconds));
        }
        assert_eq!("2001-09-09T01:46:40Z".parse().map(WallTime::unix_ms), Ok(1_000_000_000_000));
        assert_eq!("2001-09-09T01:46:40.1239Z".parse().map(WallTime::unix_ms), Ok(1_000_000_000_123));
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        for text in [
            "",
            "Z",
            "2023-02-29T00:00:00Z",
            "2100-02-29T00:00:00Z",
            "2024-13-01T00:00:00Z",
            "2024-00-01T00:00:00Z",
            "2024-01-00T00:00:00Z",
            "2024-01-01T24:00:00Z",
            "2024-01-01T00:00:00",
            "2024-01-01 00:00:00Z",
            "2024-01-01T00:00:00.Z",
            "2024-01-01T00:00:00.0000000000Z",
            "+024-01-01T00:00:00Z",
            "20\u{20ac}4-01-01T00:00:0Z",
        ] {
            assert_eq!(text.parse::<WallTime>(), Err(NotATime), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_moment_reads_as_it_is_written(milliseconds: i64) {
            let time = WallTime::from_unix_ms(milliseconds % 250_000_000_000_000);
            prop_assert_eq!(time.to_string().parse(), Ok(time));
        }

        #[test]
        fn any_text_is_read_or_refused(text: String) {
            let _ = text.parse::<WallTime>();
        }
    }
}
