//! Numbers and errors as people read them.

use std::time::Duration;

/// A size, with three digits that count: `1.23 MiB`.
#[must_use]
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    // Not 1023.9 rounded to 1024.
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{} {}", three_digits(value), UNITS[unit])
}

fn three_digits(value: f64) -> String {
    match value {
        value if value < 9.995 => format!("{value:.2}"),
        value if value < 99.95 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    }
}

/// How many raw bytes a stored one stands for: `1.28×`.
#[must_use]
pub fn ratio(raw: u64, stored: u64) -> String {
    if stored == 0 { String::new() } else { format!("{}×", three_digits(raw as f64 / stored as f64)) }
}

/// A time span in the two units that tell most: `3 min`, `2 h 5 min`, `4 d 3 h`.
#[must_use]
pub fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    let two = |large: u64, unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{large} {unit}"),
        small => format!("{large} {unit} {small} {small_unit}"),
    };
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{minutes} min"),
        3600..86400 => two(hours, "h", minutes % 60, "min"),
        _ => two(days, "d", hours % 24, "h"),
    }
}

/// A short time, in milliseconds or seconds, with three digits that count.
#[must_use]
pub fn short(seconds: f64) -> String {
    if seconds < 0.9995 {
        format!("{} ms", three_digits(seconds * 1e3))
    } else if seconds < 600.0 {
        format!("{} s", three_digits(seconds))
    } else {
        span(Duration::try_from_secs_f64(seconds).unwrap_or_default())
    }
}

/// A measured number, with five digits that count and no more zeros than needed.
#[must_use]
pub fn number(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return format!("{value}");
    }
    let magnitude = value.abs().log10().floor();
    if value.fract() == 0.0 && magnitude < 9.0 {
        return format!("{value}");
    }
    if (-4.0..7.0).contains(&magnitude) {
        let decimals = (4.0 - magnitude).max(0.0) as usize;
        let text = format!("{value:.decimals$}");
        return if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text };
    }
    format!("{value:.4e}")
}

/// `1 shard`, `2 shards`.
#[must_use]
pub fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

/// A bar for each number, the tallest for the largest; a space for none.
#[must_use]
pub fn sparkline(numbers: &[u64]) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = numbers.iter().copied().max().unwrap_or(0).max(1);
    let bar = |number: u64| match number {
        0 => ' ',
        number => BARS[((number as f64 / most as f64 * 8.0).ceil() as usize).clamp(1, 8) - 1],
    };
    numbers.iter().map(|number| bar(*number)).collect()
}

/// All that an error says in one line: with its causes, where it does not say them itself, as those of the library do.
#[must_use]
pub fn whole(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |mut told, cause| {
        let cause = cause.to_string();
        if told.is_empty() {
            told = cause;
        } else if !told.ends_with(&cause) {
            told.push_str(": ");
            told.push_str(&cause);
        }
        told
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;
    use std::io;

    #[test]
    fn an_error_says_its_cause_once() {
        let store = |path: &str| piton::store::StoreError::Io {
            action: "list",
            path: path.into(),
            source: io::Error::other("no such device"),
        };
        let once = "cannot list /a: no such device";
        assert_eq!(whole(&store("/a").into()), once);
        let result: anyhow::Result<()> = Err(store("/a")).context("the job is not known");
        assert_eq!(whole(&result.unwrap_err()), format!("the job is not known: {once}"));
        let result: anyhow::Result<()> = Err(io::Error::other("full")).context("cannot write");
        assert_eq!(whole(&result.unwrap_err()), "cannot write: full");
    }

    #[test]
    fn sizes_have_three_digits() {
        let sizes = [0, 1023, 1024, 10 << 10, 1023 << 10, 1 << 20, (1 << 30) - 1, 123 << 30, u64::MAX];
        let texts =
            ["0 B", "1023 B", "1.00 KiB", "10.0 KiB", "1.00 MiB", "1.00 MiB", "1.00 GiB", "123 GiB", "16.0 EiB"];
        assert_eq!(sizes.map(size), texts);
        assert_eq!((ratio(5, 4), ratio(5, 0)), ("1.25×".into(), String::new()));
    }

    #[test]
    fn times_are_told_in_what_matters() {
        let spans = [0, 59, 60, 3599, 3600, 7500, 86400, 100_000].map(|seconds| span(Duration::from_secs(seconds)));
        assert_eq!(spans, ["0 s", "59 s", "1 min", "59 min", "1 h", "2 h 5 min", "1 d", "1 d 3 h"]);
        assert_eq!([0.000_12, 0.0123, 1.0, 75.25].map(short), ["0.12 ms", "12.3 ms", "1.00 s", "75.2 s"]);
    }

    #[test]
    fn numbers_keep_what_they_tell() {
        let numbers = [0.0, 3.0, -0.5, 1.0 / 3.0, 123456.789, 1.5e-9, -2.25e12, 1e6].map(number);
        assert_eq!(numbers, ["0", "3", "-0.5", "0.33333", "123457", "1.5000e-9", "-2.2500e12", "1000000"]);
    }

    #[test]
    fn the_smallest_bar_is_not_nothing() {
        assert_eq!(sparkline(&[0, 1, 400, 800]), " ▁▄█");
        assert_eq!(sparkline(&[0, 0]), "  ");
    }
}
