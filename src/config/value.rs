//! What values settings take: reading them from text, and writing them as one would write them.
//!
//! What must hold: what [`FormValue::show`] writes, [`FormValue::parse`] reads as the same value.

use crate::ids::CheckpointSelector;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Whether to go on from a checkpoint, and from which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResumeRequest {
    /// Start at the beginning; refused where there are committed checkpoints.
    #[default]
    Off,
    /// From the newest checkpoint; from the beginning only where none was ever committed.
    Latest,
    /// From the newest checkpoint; an error where there is none.
    Required,
    /// From this checkpoint.
    Checkpoint(CheckpointSelector),
}

impl fmt::Display for ResumeRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Latest => f.write_str("latest"),
            Self::Required => f.write_str("required"),
            Self::Checkpoint(selector) => selector.fmt(f),
        }
    }
}

/// How hard to compress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// As the data itself suggests.
    #[default]
    Auto,
    /// Not at all.
    Raw,
    /// With this level of zstd, 1 to 19.
    Level(u8),
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Raw => f.write_str("raw"),
            Self::Level(level) => level.fmt(f),
        }
    }
}

/// How far what works in the background gives way to the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Nice {
    /// As costs the application least.
    #[default]
    Auto,
    /// With this priority, 0 to [`Nice::MOST`].
    Fixed(u8),
}

impl Nice {
    /// The lowest priority.
    pub const MOST: u8 = 19;
}

impl fmt::Display for Nice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Fixed(nice) => nice.fmt(f),
        }
    }
}

/// How many files a checkpoint is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Files {
    /// One for each rank.
    #[default]
    Rank,
    /// One for all ranks in a row that run on the same node.
    Node,
}

impl fmt::Display for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rank => "rank",
            Self::Node => "node",
        })
    }
}

/// Where the boards of nodes lie.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BoardPlace {
    /// In the node's memory, or else where temporary files lie.
    #[default]
    Auto,
    /// Nowhere: ranks are not seen.
    Off,
    /// In this folder.
    Folder(PathBuf),
}

impl fmt::Display for BoardPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Off => f.write_str("off"),
            Self::Folder(folder) => write!(f, "{}", folder.display()),
        }
    }
}

/// Where a server of HTTP listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Listen {
    /// There is none.
    #[default]
    Off,
    /// There; port 0 takes any that is free.
    At(SocketAddr),
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::At(address) => write!(f, "{address}"),
        }
    }
}

/// What the library prints to standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Log {
    /// Nothing.
    Quiet,
    /// Problems, and one line for each resume.
    #[default]
    Normal,
    /// Every event.
    Verbose,
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Quiet => "quiet",
            Self::Normal => "normal",
            Self::Verbose => "verbose",
        })
    }
}

/// Which processors something runs on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Processors {
    /// All that the job may use.
    #[default]
    All,
    /// Those of the rank.
    Own,
    /// These, by the system's numbers.
    List(Vec<u32>),
}

impl fmt::Display for Processors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = match self {
            Self::All => return f.write_str("auto"),
            Self::Own => return f.write_str("own"),
            Self::List(list) => list,
        };
        for (place, run) in list.chunk_by(|a, b| a + 1 == *b).enumerate() {
            let comma = if place == 0 { "" } else { "," };
            match run {
                [first, .., last] => write!(f, "{comma}{first}-{last}")?,
                one => write!(f, "{comma}{}", one[0])?,
            }
        }
        Ok(())
    }
}

/// The largest number of a processor that is taken.
const MOST_PROCESSORS: u32 = 8192;

impl FormValue for Processors {
    fn parse(form: &Form, text: &str) -> Result<Self, String> {
        match text {
            "auto" => return Ok(Self::All),
            "own" => return Ok(Self::Own),
            _ => {}
        }
        let mut list = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            match (first.trim().parse::<u32>(), last.trim().parse::<u32>()) {
                (Ok(first), Ok(last)) if first <= last && last < MOST_PROCESSORS => list.extend(first..=last),
                _ => return expected(form),
            }
        }
        list.sort_unstable();
        list.dedup();
        Ok(Self::List(list))
    }

    fn show(&self, _: &Form) -> String {
        self.to_string()
    }
}

/// Whether a freeze copies only the pages of a [`PagedVec`](crate::PagedVec) that were written since the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tracking {
    /// Where the kernel can tell them, and nothing is open that could write to memory unseen.
    #[default]
    Auto,
    /// Where the kernel can tell them: the user asserts that no device, and no other process, writes to them.
    On,
    /// Never.
    Off,
}

impl fmt::Display for Tracking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::On => "on",
            Self::Off => "off",
        })
    }
}

/// How much memory the copy of the state may take. What is given in numbers is obeyed whatever is free, up to the memory that
/// the job may use on the node at all, shared by its ranks there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StagingMax {
    /// As much as the state, and never more than the node has room for.
    #[default]
    Auto,
    /// So many bytes for each rank.
    Bytes(u64),
    /// This share of the memory that the job may use on the node, in hundredths of a per cent, for all its ranks there.
    Share(u16),
}

impl StagingMax {
    /// All of the memory, as a share of it.
    pub(crate) const WHOLE: u128 = 10_000;
}

impl FormValue for StagingMax {
    fn parse(form: &Form, text: &str) -> Result<Self, String> {
        let Form::Staging { least, most } = *form else { return expected(form) };
        if let Some(percent) = text.trim().strip_suffix('%') {
            return match scaled(percent.trim_end(), 100).and_then(|share| Some((share, u16::try_from(share).ok()?))) {
                Some((1..=Self::WHOLE, share)) => Ok(Self::Share(share)),
                _ => expected(form),
            };
        }
        let bytes = Form::Size { least, most, zero: Some("auto"), power_of_two: false };
        match u64::parse(&bytes, text) {
            Ok(0) => Ok(Self::Auto),
            Ok(bytes) => Ok(Self::Bytes(bytes)),
            // A unit without its end has a better hint than a list of what is taken.
            Err(problem) if problem.starts_with("write ") => Err(problem),
            Err(_) => expected(form),
        }
    }

    fn show(&self, _: &Form) -> String {
        self.to_string()
    }
}

impl fmt::Display for StagingMax {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Auto => f.write_str("auto"),
            Self::Bytes(bytes) => f.write_str(&show_size(bytes)),
            Self::Share(share) => match (share / 100, share % 100) {
                (whole, 0) => write!(f, "{whole}%"),
                (whole, part) if part % 10 == 0 => write!(f, "{whole}.{}%", part / 10),
                (whole, part) => write!(f, "{whole}.{part:02}%"),
            },
        }
    }
}

/// What a setting takes. `zero` is the word that stands for 0, which is taken besides the range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Folder,
    File { none: &'static str },
    Every,
    AllocationEnd,
    MeanTime,
    Resume,
    Switch,
    Compression,
    Processors,
    Files,
    BoardPlace,
    Listen,
    Log,
    Nice,
    Tracking,
    Count { least: u64, most: u64, zero: Option<&'static str> },
    Size { least: u64, most: u64, zero: Option<&'static str>, power_of_two: bool },
    Staging { least: u64, most: u64 },
    Time { least: Duration, most: Duration, zero: Option<&'static str> },
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_zero = |f: &mut fmt::Formatter<'_>, zero: Option<&str>| match zero {
            Some(word) => write!(f, ", or `{word}` (0)"),
            None => Ok(()),
        };
        match *self {
            Self::Folder => f.write_str("a folder"),
            Self::File { none } => write!(f, "a file, or `{none}`"),
            Self::Every => write!(f, "`auto`, a time up to {}, or `off` (0)", show_time(super::Every::MOST)),
            Self::AllocationEnd => f.write_str("`auto`, a time from the start as in `2h`, a moment in seconds since 1970 as in `@1800000000`, or `off`"),
            Self::MeanTime => f.write_str("`auto`, a time between failures as in `8h`, or failures in a time as in `3/day`"),
            Self::Resume => f.write_str("`off`, `latest`, `required`, `ID` or `EPOCH/ID`"),
            Self::Switch => f.write_str("`true` or `false`"),
            Self::Compression => f.write_str("`auto`, `raw`, or a level from 1 to 19"),
            Self::Processors => f.write_str("`auto`, `own`, or numbers and ranges with commas between"),
            Self::Files => f.write_str("`rank` or `node`"),
            Self::BoardPlace => f.write_str("`auto`, `off`, or a folder"),
            Self::Listen => f.write_str("an address with a port as in `127.0.0.1:9464`, or `off`"),
            Self::Log => f.write_str("`quiet`, `normal` or `verbose`"),
            Self::Nice => write!(f, "`auto`, or a whole number from 0 to {}", Nice::MOST),
            Self::Tracking => f.write_str("`auto`, `on` or `off`"),
            Self::Count { least, most: u64::MAX, zero } => {
                match least {
                    0 => f.write_str("a whole number")?,
                    _ => write!(f, "a whole number, at least {least}")?,
                }
                or_zero(f, zero)
            }
            Self::Count { least, most, zero } => {
                write!(f, "a whole number from {least} to {most}")?;
                or_zero(f, zero)
            }
            Self::Size { least, most, zero, power_of_two } => {
                let what = if power_of_two { "a power of two" } else { "a size" };
                write!(f, "{what} from {} to {}", show_size(least), show_size(most))?;
                or_zero(f, zero)
            }
            Self::Staging { least, most } => write!(
                f,
                "a size from {} to {}, a percentage up to 100%, or `auto` (0)",
                show_size(least),
                show_size(most)
            ),
            Self::Time { least, most, zero } => {
                if least.is_zero() {
                    write!(f, "a time up to {}", show_time(most))?;
                } else {
                    write!(f, "a time from {} to {}", show_time(least), show_time(most))?;
                }
                or_zero(f, zero)
            }
        }
    }
}

/// A value that can be read from text in a certain form. The error says what is expected.
pub(super) trait FormValue: Sized {
    fn parse(form: &Form, text: &str) -> Result<Self, String>;
    fn show(&self, form: &Form) -> String;
}

pub(super) fn expected<T>(form: &Form) -> Result<T, String> {
    Err(format!("it takes {form}"))
}

impl FormValue for u64 {
    fn parse(form: &Form, text: &str) -> Result<Self, String> {
        let (value, least, most, zero, power_of_two) = match *form {
            Form::Count { least, most, zero } => {
                let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
                (digits.then(|| text.parse().ok()).flatten(), least, most, zero, false)
            }
            Form::Size { least, most, zero, power_of_two } => (parse_size(text)?, least, most, zero, power_of_two),
            _ => (None, 0, 0, None, false),
        };
        match value {
            _ if zero == Some(text) => Ok(0),
            Some(0) if zero.is_some() => Ok(0),
            Some(value) if value >= least && value <= most && (!power_of_two || value.is_power_of_two()) => Ok(value),
            _ => expected(form),
        }
    }

    fn show(&self, form: &Form) -> String {
        match form {
            Form::Count { zero: Some(word), .. } | Form::Size { zero: Some(word), .. } if *self == 0 => {
                (*word).to_owned()
            }
            Form::Size { .. } => show_size(*self),
            _ => self.to_string(),
        }
    }
}

impl FormValue for u32 {
    fn parse(form: &Form, text: &str) -> Result<Self, String> {
        Self::try_from(u64::parse(form, text)?).or_else(|_| expected(form))
    }

    fn show(&self, form: &Form) -> String {
        u64::from(*self).show(form)
    }
}

impl FormValue for Duration {
    fn parse(form: &Form, text: &str) -> Result<Self, String> {
        let Form::Time { least, most, zero } = *form else { return expected(form) };
        if zero == Some(text) {
            return Ok(Self::ZERO);
        }
        match parse_time(text) {
            Ok(time) if time.is_zero() && zero.is_some() => Ok(time),
            Ok(time) if time >= least && time <= most => Ok(time),
            Ok(_) => expected(form),
            Err(problem) => Err(format!("{problem}; it takes {form}")),
        }
    }

    fn show(&self, form: &Form) -> String {
        match form {
            Form::Time { zero: Some(word), .. } if self.is_zero() => (*word).to_owned(),
            _ => show_time(*self),
        }
    }
}

impl FormValue for bool {
    fn parse(form: &Form, text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Ok(true),
            "false" | "no" | "off" | "0" => Ok(false),
            _ => expected(form),
        }
    }

    fn show(&self, _: &Form) -> String {
        self.to_string()
    }
}

impl FormValue for PathBuf {
    fn parse(form: &Form, text: &str) -> Result<Self, String> {
        match form {
            Form::File { none } if *none == text => Ok(Self::new()),
            _ if text.is_empty() || text.contains('\0') => expected(form),
            _ => Ok(Path::new(text).to_path_buf()),
        }
    }

    fn show(&self, form: &Form) -> String {
        match form {
            Form::File { none } if self.as_os_str().is_empty() => (*none).to_owned(),
            _ => self.display().to_string(),
        }
    }
}

impl FormValue for ResumeRequest {
    fn parse(form: &Form, text: &str) -> Result<Self, String> {
        match text {
            "off" | "false" => Ok(Self::Off),
            "latest" | "true" => Ok(Self::Latest),
            "required" => Ok(Self::Required),
            _ => text.parse().map(Self::Checkpoint).or_else(|_| expected(form)),
        }
    }

    fn show(&self, _: &Form) -> String {
        self.to_string()
    }
}

impl FormValue for Compression {
    fn parse(form: &Form, text: &str) -> Result<Self, String> {
        match (text, text.parse()) {
            ("auto", _) => Ok(Self::Auto),
            ("raw", _) => Ok(Self::Raw),
            (_, Ok(level @ 1..=19)) => Ok(Self::Level(level)),
            _ => expected(form),
        }
    }

    fn show(&self, _: &Form) -> String {
        self.to_string()
    }
}

impl FormValue for Nice {
    fn parse(form: &Form, text: &str) -> Result<Self, String> {
        match (text, text.parse()) {
            ("auto", _) => Ok(Self::Auto),
            (_, Ok(nice @ 0..=Self::MOST)) if text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(Self::Fixed(nice)),
            _ => expected(form),
        }
    }

    fn show(&self, _: &Form) -> String {
        self.to_string()
    }
}

impl FormValue for Files {
    fn parse(form: &Form, text: &str) -> Result<Self, String> {
        match text {
            "rank" => Ok(Self::Rank),
            "node" => Ok(Self::Node),
            _ => expected(form),
        }
    }

    fn show(&self, _: &Form) -> String {
        self.to_string()
    }
}

impl FormValue for BoardPlace {
    fn parse(form: &Form, text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "off" => Ok(Self::Off),
            _ if text.is_empty() || text.contains('\0') => expected(form),
            _ => Ok(Self::Folder(PathBuf::from(text))),
        }
    }

    fn show(&self, _: &Form) -> String {
        self.to_string()
    }
}

impl FormValue for Listen {
    fn parse(form: &Form, text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            _ => text.parse().map(Self::At).or_else(|_| expected(form)),
        }
    }

    fn show(&self, _: &Form) -> String {
        self.to_string()
    }
}

impl FormValue for Log {
    fn parse(form: &Form, text: &str) -> Result<Self, String> {
        match text {
            "quiet" => Ok(Self::Quiet),
            "normal" => Ok(Self::Normal),
            "verbose" => Ok(Self::Verbose),
            _ => expected(form),
        }
    }

    fn show(&self, _: &Form) -> String {
        self.to_string()
    }
}

impl FormValue for Tracking {
    fn parse(form: &Form, text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "on" => Ok(Self::On),
            "off" => Ok(Self::Off),
            _ => expected(form),
        }
    }

    fn show(&self, _: &Form) -> String {
        self.to_string()
    }
}

const SIZES: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1_000),
    ("B", 1),
];

/// Longest first among the units of which one is another's ending or beginning, each in nanoseconds.
const TIMES: [(&str, u128); 10] = [
    ("days", 86_400_000_000_000),
    ("day", 86_400_000_000_000),
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("min", 60_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("µs", 1_000),
    ("ns", 1),
    ("s", 1_000_000_000),
];

/// A decimal number without sign or exponent, as its digits and how many of them stand behind the point. Exact, unlike
/// a floating-point number; `None` where it is none or is too long to be meant.
fn parse_decimal(text: &str) -> Option<(u128, u32)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = format!("{whole}{fraction}");
    let plain = !whole.is_empty() && digits.len() <= 24 && digits.bytes().all(|byte| byte.is_ascii_digit());
    let behind = u32::try_from(fraction.len()).ok()?;
    plain.then(|| digits.parse().ok().map(|number| (number, behind))).flatten()
}

/// `number` of `unit`, rounded down; `None` where it does not fit.
pub(super) fn scaled(number: &str, unit: u128) -> Option<u128> {
    let (digits, behind) = parse_decimal(number)?;
    Some(digits.checked_mul(unit)? / 10_u128.checked_pow(behind)?)
}

/// `Ok(None)` where it is no size at all.
fn parse_size(text: &str) -> Result<Option<u64>, String> {
    let (number, unit) = split_unit(text);
    let unit = match unit {
        "" => 1,
        "k" | "K" | "M" | "G" | "T" => {
            let (binary, decimal) = if unit.eq_ignore_ascii_case("k") { ("KiB", "kB") } else { (unit, unit) };
            let (binary, decimal) = if binary == decimal {
                (format!("{unit}iB"), format!("{unit}B"))
            } else {
                (binary.into(), decimal.into())
            };
            return Err(format!("write {binary} (powers of 1024) or {decimal} (powers of 1000)"));
        }
        _ => match SIZES.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)) {
            Some((_, bytes)) => *bytes,
            None => return Ok(None),
        },
    };
    Ok(scaled(number, u128::from(unit)).and_then(|bytes| bytes.try_into().ok()))
}

fn split_unit(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

/// A time as settings and rule files have it: one or more numbers with units (`1h30min`), or bare seconds.
///
/// # Errors
/// What a time looks like, for people.
///
/// ```
/// use std::time::Duration;
/// assert_eq!(piton::config::parse_time("1min30s"), Ok(Duration::from_secs(90)));
/// ```
pub fn parse_time(text: &str) -> Result<Duration, String> {
    let mut rest = text.trim();
    let mut total: u128 = 0;
    let problem = || "a time is a number with a unit, as in `90s`, `250ms`, `5min` or `1h30min`".to_owned();
    let (number, unit) = split_unit(rest);
    if unit.is_empty() {
        total = scaled(number, 1_000_000_000).ok_or_else(problem)?;
        rest = "";
    } else if rest.is_empty() {
        return Err(problem());
    }
    while !rest.is_empty() {
        let (number, after) = split_unit(rest);
        let (name, unit) = TIMES.iter().find(|(name, _)| after.starts_with(name)).ok_or_else(problem)?;
        let part = scaled(number, *unit).ok_or_else(problem)?;
        total = total.checked_add(part).ok_or_else(problem)?;
        rest = after[name.len()..].trim_start();
    }
    u64::try_from(total).map(Duration::from_nanos).map_err(|_| "that is longer than a clock can count".to_owned())
}

fn show_size(bytes: u64) -> String {
    let exact = |(_, unit): &&(&str, u64)| bytes >= *unit && bytes.is_multiple_of(*unit);
    SIZES.iter().find(exact).map_or_else(|| format!("{bytes}B"), |(name, unit)| format!("{}{name}", bytes / unit))
}

pub(crate) fn show_time(time: Duration) -> String {
    let mut rest = time.as_nanos();
    let mut text = String::new();
    for unit in ["d", "h", "min", "s", "ms", "us", "ns"] {
        let Some((_, length)) = TIMES.iter().find(|(name, _)| *name == unit) else { continue };
        if rest >= *length {
            text.push_str(&format!("{}{unit}", rest / length));
            rest %= length;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ANY_SIZE: Form = Form::Size { least: 0, most: u64::MAX, zero: None, power_of_two: false };
    const ANY_TIME: Form =
        Form::Time { least: Duration::ZERO, most: Duration::from_nanos(u64::MAX), zero: Some("off") };

    #[test]
    fn sizes_are_read_exactly() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("64MiB", 64 << 20),
            ("1GB", 1_000_000_000),
            ("1.5 GiB", 3 << 29),
            ("2kB", 2000),
            ("3tib", 3 << 40),
            ("7B", 7),
        ] {
            assert_eq!(u64::parse(&ANY_SIZE, text), Ok(bytes), "{text}");
        }
        for text in ["", "MiB", "-1", "1e6", "1..5MiB", "1 parsec", "99999999999999999999TiB", "1MiB 2"] {
            assert!(u64::parse(&ANY_SIZE, text).is_err(), "{text}");
        }
        assert!(u64::parse(&ANY_SIZE, "64M").unwrap_err().contains("write MiB (powers of 1024) or MB"));
        assert!(u64::parse(&ANY_SIZE, "64k").unwrap_err().contains("write KiB (powers of 1024) or kB"));
    }

    #[test]
    fn times_are_read_exactly() {
        for (text, milliseconds) in [
            ("90s", 90_000),
            ("5min", 300_000),
            ("2h", 7_200_000),
            ("250ms", 250),
            ("90", 90_000),
            ("1.5", 1_500),
            ("1h30min", 5_400_000),
            ("1h 30min", 5_400_000),
            ("2 days", 172_800_000),
            ("off", 0),
        ] {
            assert_eq!(Duration::parse(&ANY_TIME, text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "s", "-1s", "5 fortnights", "1h30", "1e3s", "1m", "99999999999999d", "\u{b5}"] {
            assert!(Duration::parse(&ANY_TIME, text).is_err(), "{text}");
        }
    }

    #[test]
    fn ranges_hold() {
        let chunk = Form::Size { least: 64 << 10, most: 16 << 20, zero: None, power_of_two: true };
        assert_eq!(u64::parse(&chunk, "64KiB"), Ok(64 << 10));
        for text in ["32KiB", "32MiB", "1MB", "0"] {
            assert!(u64::parse(&chunk, text).unwrap_err().contains("from 64KiB to 16MiB"), "{text}");
        }
        let count = Form::Count { least: 1, most: 64, zero: None };
        assert_eq!(u32::parse(&count, "64"), Ok(64));
        for text in ["0", "65", "+1", "off", "1.0", ""] {
            assert!(u32::parse(&count, text).is_err(), "{text}");
        }
        for text in ["auto", "own", "3", "0-3,8", "1,3,5-6"] {
            assert_eq!(Processors::parse(&Form::Processors, text).unwrap().to_string(), text);
        }
        assert_eq!(Processors::parse(&Form::Processors, "5-6,1").unwrap(), Processors::List(vec![1, 5, 6]));
        for text in ["", "all", "3-1", "1,,2", "-1", "0-9999999999", "0-8192"] {
            assert!(Processors::parse(&Form::Processors, text).is_err(), "{text}");
        }
        assert_eq!(Compression::parse(&Form::Compression, "20").ok(), None);
        assert_eq!(Compression::parse(&Form::Compression, "19"), Ok(Compression::Level(19)));
    }

    #[test]
    fn staging_is_a_size_or_a_share() {
        let form = Form::Staging { least: 1 << 20, most: 1 << 50 };
        for (text, value, shown) in [
            ("auto", StagingMax::Auto, "auto"),
            ("0", StagingMax::Auto, "auto"),
            ("512MiB", StagingMax::Bytes(512 << 20), "512MiB"),
            ("1048576", StagingMax::Bytes(1 << 20), "1MiB"),
            ("25%", StagingMax::Share(2500), "25%"),
            ("12.5 %", StagingMax::Share(1250), "12.5%"),
            ("0.01%", StagingMax::Share(1), "0.01%"),
            ("3.05%", StagingMax::Share(305), "3.05%"),
            ("33.3333%", StagingMax::Share(3333), "33.33%"),
            ("100%", StagingMax::Share(10_000), "100%"),
        ] {
            assert_eq!(StagingMax::parse(&form, text), Ok(value), "{text}");
            assert_eq!(value.show(&form), shown);
        }
        for text in ["", "%", "0%", "0.001%", "101%", "100.01%", "-5%", "1e1%", "25%%", "% 25", "1kB", "25 per cent"] {
            assert!(StagingMax::parse(&form, text).unwrap_err().contains("a percentage up to 100%"), "{text}");
        }
        for text in ["999999999999999999999%", "6553700%", "2000TiB", "off"] {
            assert!(StagingMax::parse(&form, text).is_err(), "{text}");
        }
        assert!(StagingMax::parse(&form, "64M").unwrap_err().contains("write MiB"));
    }

    proptest! {
        #[test]
        fn shares_that_are_shown_read_as_the_same(share in 1..=10_000_u16) {
            let (form, value) = (Form::Staging { least: 1, most: 2 }, StagingMax::Share(share));
            prop_assert_eq!(StagingMax::parse(&form, &value.show(&form)), Ok(value));
        }

        #[test]
        fn what_is_shown_reads_as_the_same(bytes: u64, nanoseconds: u64) {
            prop_assert_eq!(u64::parse(&ANY_SIZE, &bytes.show(&ANY_SIZE)), Ok(bytes));
            let time = Duration::from_nanos(nanoseconds);
            prop_assert_eq!(Duration::parse(&ANY_TIME, &time.show(&ANY_TIME)), Ok(time));
        }

        #[test]
        fn any_text_is_read_or_refused(text: String) {
            for setting in super::super::SETTINGS {
                let _ = (setting.assign)(&mut super::super::Settings::default(), &text);
            }
        }
    }
}
