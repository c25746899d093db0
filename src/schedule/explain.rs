//! The decision in a sentence: when the next checkpoint is due, and what that follows from.
//!
//! Comes in: a [`Schedule`]. Goes out: one line for people. What must hold: it says no more than what the schedule holds, and
//! names what was guessed.

use crate::journal::{Rule, Schedule};

/// A time in the unit that tells most: `350 ms`, `2.1 s`, `5 min 05 s`, `6.2 h`, `12 d`.
fn span(seconds: f64) -> String {
    let whole = seconds.round();
    match seconds {
        seconds if seconds < 0.0995 => format!("{:.1} ms", seconds * 1e3),
        seconds if seconds < 0.9995 => format!("{:.0} ms", seconds * 1e3),
        seconds if seconds < 9.95 => format!("{seconds:.1} s"),
        seconds if seconds < 59.5 => format!("{seconds:.0} s"),
        _ if whole < 3600.0 => format!("{:.0} min {:02.0} s", (whole / 60.0).floor(), whole % 60.0),
        seconds if seconds < 2.0 * 86_400.0 => format!("{:.1} h", seconds / 3600.0),
        seconds if seconds < 99.5 * 86_400.0 => format!("{:.1} d", seconds / 86_400.0),
        seconds => format!("{:.0} d", seconds / 86_400.0),
    }
}

/// `3 failures in 18.7 h`.
fn seen(failures: f64, seconds: f64) -> String {
    let plural = if failures == 1.0 { "" } else { "s" };
    match failures {
        0.0 => format!("no failure in {}", span(seconds)),
        failures => format!("{failures:.0} failure{plural} in {}", span(seconds)),
    }
}

/// A schedule as one line.
///
/// ```
/// use piton::schedule::{Belief, Guess, Rules, Scheduler, sentence};
/// let mut scheduler = Scheduler::new(Rules::default(), Belief::Job(6.2 * 3600.0), 1.0, Guess::default());
/// scheduler.started(0.0);
/// scheduler.taken(0.0);
/// scheduler.cost(1.6, 0.5);
/// scheduler.committed(4.0);
/// let line = sentence(&scheduler.explain(10.0));
/// assert!(line.starts_with("next in 4 min 57 s: C = 2.1 s (1.6 s blocked + 500 ms slow-down), M = 6.2 h (90 %: "), "{line}");
/// assert!(line.ends_with("no failure in 10 s), Daly 5 min 05 s, expected waste 1.4 % + restarts"), "{line}");
/// ```
#[must_use]
pub fn sentence(schedule: &Schedule) -> String {
    let mut text = match schedule.next_seconds {
        Some(next) if next <= 0.0 => "next now: ".to_owned(),
        Some(next) => format!("next in {}: ", span(next)),
        None => "none by time: ".to_owned(),
    };
    let interval = schedule.interval_seconds.map(span).unwrap_or_default();
    text.push_str(&match (schedule.blocked_seconds, schedule.slowed_seconds) {
        (Some(blocked), Some(slowed)) => format!(
            "C = {} ({} blocked + {} slow-down), ",
            span(schedule.cost_seconds),
            span(blocked),
            span(slowed.max(0.0))
        ),
        _ => format!("C = {} (guessed from the size of the state), ", span(schedule.cost_seconds)),
    });
    let (low, high) = (span(schedule.mtbf_low_seconds), span(schedule.mtbf_high_seconds));
    let seen = seen(schedule.failures, schedule.observed_seconds);
    text.push_str(&format!("M = {} (90 %: {low} to {high}; {seen})", span(schedule.mtbf_seconds)));
    if let Some(now) = schedule.mtbf_now_seconds
        && (now / schedule.mtbf_seconds - 1.0).abs() > 0.05
    {
        let when = if now < schedule.mtbf_seconds { "so soon" } else { "so long" };
        text.push_str(&format!(", {} {when} after a failure", span(now)));
    }
    if let Some(optimum) = schedule.optimum_seconds {
        let name = if schedule.rule == Rule::Growing { "least waste at" } else { "Daly" };
        text.push_str(&format!(", {name} {}", span(optimum)));
    }
    if schedule.recall > 0.0 {
        text.push_str(&format!(", {:.0} % of failures foreseen", schedule.recall * 100.0));
    }
    let why = match schedule.rule {
        Rule::Daly | Rule::Growing => String::new(),
        Rule::Probe => format!(", {interval} to measure what one costs"),
        Rule::Latency => format!(", but {interval} as a commit takes so long"),
        Rule::MinInterval => format!(", but {interval} by min_interval"),
        Rule::MaxInterval => format!(", but {interval} by max_interval"),
        Rule::Fixed => format!(", {interval} by every"),
        Rule::Off => ", as every = off says".to_owned(),
        Rule::Remaining => format!(", {interval} to spread evenly over what is left of the allocation"),
        Rule::Last => ", the last before the allocation ends".to_owned(),
        Rule::TooLate => ", as the allocation ends before one could pay off".to_owned(),
    };
    text.push_str(&why);
    if let Some(waste) = schedule.waste {
        text.push_str(&format!(", expected waste {} + restarts", percent(waste)));
    }
    text
}

/// A share in per cent, with two digits that count.
fn percent(share: f64) -> String {
    match share * 100.0 {
        percent if percent >= 9.95 => format!("{percent:.0} %"),
        percent if percent >= 0.095 => format!("{percent:.1} %"),
        percent => format!("{percent:.2} %"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_what_matters() {
        let spans = [0.00042, 0.35, 2.1, 42.0, 59.7, 305.2, 3599.9, 22_320.0, 4e5, 3e7].map(span);
        let texts =
            ["0.4 ms", "350 ms", "2.1 s", "42 s", "1 min 00 s", "5 min 05 s", "1.0 h", "6.2 h", "4.6 d", "347 d"];
        assert_eq!(spans, texts);
        assert_eq!([0.0004, 0.014, 0.31].map(percent), ["0.04 %", "1.4 %", "31 %"]);
        assert_eq!(
            [seen(0.0, 5.0), seen(1.0, 60.0), seen(3.0, 7.2e3)].join("; "),
            "no failure in 5.0 s; 1 failure in 1 min 00 s; 3 failures in 2.0 h"
        );
    }
}
