//! Adaptive limits on simulated days, and rules on samples.

use super::simulation::{Law, PERIOD, Simulated, delay, false_alarms, normal, quantile};
use super::*;
use crate::watch::{Change, Rules, Sample, Series};

/// Those that false alarms must not be raised on, whatever is assumed of them.
const LAWS: [Law; 10] = [
    Law::Normal,
    Law::Autoregressive(0.9),
    Law::Autoregressive(0.99),
    Law::Student3,
    Law::LogNormal(1.0),
    Law::Exponential,
    Law::Daily(1.0),
    Law::Daily(5.0),
    Law::Wandering,
    Law::Bursts,
];

fn long() -> bool {
    std::env::var_os("PITON_TEST_LONG").is_some_and(|value| value == "1")
}

fn adaptive(per_day: f64, direction: Direction) -> Adaptive {
    let tolerance = Tolerance::FalseAlarms(per_day);
    Adaptive { tolerance, direction, scale: Scale::Auto, least_spread: 0.0, relearn: 4.0 * 3600.0 }
}

#[test]
fn false_alarms_stay_below_their_target_whatever_the_distribution() {
    for (per_day, direction, days) in
        [(0.1, Direction::Both, 40), (1.0, Direction::Both, 10), (0.1, Direction::Above, 20)]
    {
        let days = if long() { 10 * days } else { days };
        for law in LAWS {
            let alarms: usize = (0..days).map(|seed| false_alarms(adaptive(per_day, direction), law, seed)).sum();
            println!("{law:?}, {direction:?}: {alarms} in {days} days for {per_day} a day");
            assert!(alarms as f64 <= per_day * days as f64, "{law:?}: {alarms} in {days} days for {per_day} a day");
        }
    }
}

#[test]
fn fewer_false_alarms_are_had_where_fewer_are_asked_for() {
    let days = if long() { 300 } else { 8 };
    let count = |per_day| {
        let rule = adaptive(per_day, Direction::Both);
        LAWS.iter().flat_map(|law| (0..days).map(|seed| false_alarms(rule, *law, seed))).sum::<usize>()
    };
    let (many, few) = (count(20.0), count(0.1));
    assert!(many > 4 * few.max(1), "{many} and {few}");
}

#[test]
fn a_shift_by_three_deviations_is_found_within_two_minutes() {
    let runs = if long() { 400 } else { 60 };
    let rule = adaptive(0.1, Direction::Both);
    for law in [LAWS.as_slice(), &[Law::Autoregressive(0.999), Law::Daily(20.0)]].concat() {
        for deviations in [3.0, 5.0, 10.0] {
            if !long() && (law != Law::Normal || deviations > 3.0) {
                continue;
            }
            let mut delays: Vec<_> = (0..runs).map(|seed| delay(rule, law, deviations, 6.0, 1000 + seed)).collect();
            let in_time = delays.iter().filter(|delay| delay.is_some_and(|delay| delay <= 120.0)).count();
            let (half, most) = (quantile(&mut delays, 0.5), quantile(&mut delays, 0.95));
            println!("{law:?}, {deviations} σ: {in_time} of {runs} within 2 min, half in {half} s, 95 % in {most} s");
            if law == Law::Normal {
                assert!(in_time * 100 >= 95 * runs as usize, "{deviations}: {in_time} of {runs}");
            }
        }
    }
}

#[test]
fn an_alarm_lasts_as_long_as_the_shift_and_then_the_series_is_known_again() {
    let mut detector = Detector::new(adaptive(0.1, Direction::Above));
    let mut series = Simulated::new(Law::Normal, 3);
    let (mut began, mut ended) = (None, None);
    for place in 0..10_000 {
        let shifted = (5000..6000).contains(&place);
        let value = series.next() + if shifted { 6.0 } else { 0.0 };
        let Some(verdict) = detector.add(f64::from(place) * PERIOD, value, 1) else { continue };
        if verdict.alarming {
            began.get_or_insert(place);
            assert!(ended.is_none(), "once: {place}");
            assert!((9.0..11.0).contains(&verdict.expected), "the shift is not learnt: {verdict:?}");
        } else if began.is_some() {
            ended.get_or_insert(place);
        }
    }
    assert!(began.is_some_and(|began| (5003..5015).contains(&began)), "{began:?}");
    assert!(ended.is_some_and(|ended| (6010..6040).contains(&ended)), "{ended:?}");
}

#[test]
fn a_new_level_is_taken_for_normal_after_hours() {
    let mut detector = Detector::new(adaptive(0.1, Direction::Both));
    let mut series = Simulated::new(Law::Normal, 4);
    let mut alarming = Vec::new();
    for place in 0..12_000 {
        let value = series.next() + if place >= 5000 { 6.0 } else { 0.0 };
        if detector.add(f64::from(place) * PERIOD, value, 1).is_some_and(|verdict| verdict.alarming) {
            alarming.push(place);
        }
    }
    let seconds = |place: Option<&i32>| f64::from(*place.unwrap()) * PERIOD;
    let lasted = seconds(alarming.last()) - seconds(alarming.first());
    assert!((lasted - 4.0 * 3600.0).abs() < 120.0, "{lasted}");
    assert!(alarming.windows(2).all(|two| two[1] == two[0] + 1));
}

#[test]
fn what_never_changed_or_is_no_number_raises_nothing() {
    let mut constant = Detector::new(adaptive(0.1, Direction::Both));
    let mut alarms = 0;
    for place in 0..4000 {
        let value = match place {
            0..3000 => 0.0,
            3000..3500 => [f64::NAN, f64::INFINITY][place % 2],
            _ => 1.0,
        };
        let verdict = constant.add(place as f64 * PERIOD, value, 1);
        alarms += usize::from(verdict.is_some_and(|verdict| verdict.alarming));
    }
    assert_eq!(alarms, 0);
    // With a least spread there is a scale.
    let mut scaled = Detector::new(Adaptive { least_spread: 0.01, ..adaptive(0.1, Direction::Above) });
    let found = (0..4000).any(|place| {
        let value = if place < 3000 { 0.0 } else { 1.0 };
        scaled.add(f64::from(place) * PERIOD, value, 1).is_some_and(|verdict| verdict.alarming)
    });
    assert!(found);
}

fn rules(text: &str) -> Evaluator {
    let rule = "severity = \"warning\"\nsummary = \"{value} beyond {limit}: {labels}\"\n";
    let text: String = text.split("---").map(|part| format!("[[threshold]]\n{rule}{part}\n")).collect();
    Evaluator::new(Rules::parse(&text, "test.toml".as_ref()).unwrap().thresholds)
}

fn of(name: &'static str, label: &str, value: f64) -> Sample {
    Sample::gauge(Series::new(name).with("device", label), value)
}

/// What was raised (`+`) and cleared (`-`), by rule and device.
fn told(changes: &[Change]) -> Vec<String> {
    let device = |labels: &crate::watch::Labels| labels.get("device").cloned().unwrap_or_default();
    let tell = |change: &Change| match change {
        Change::Raised(finding) => format!("+{} {}", finding.rule, device(&finding.labels)),
        Change::Cleared { rule, labels } => format!("-{rule} {}", device(labels)),
    };
    changes.iter().map(tell).collect()
}

#[test]
fn limits_hold_with_their_hysteresis_and_durations() {
    let mut evaluator =
        rules("name = \"Hot\"\nseries = \"t\"\nabove = 90\nclear = 80\nfor = \"10s\"\nclear_for = \"5s\"");
    let values = [95.0, 95.0, 85.0, 95.0, 95.0, 95.0, 85.0, 79.0, 85.0, 79.0, 79.0, 95.0];
    let mut all = Vec::new();
    for (place, value) in values.iter().enumerate() {
        let changes = evaluator.evaluate(place as f64 * 5.0, "n1", &[of("t", "a", *value)]);
        all.extend(told(&changes).into_iter().map(|told| format!("{place}{told}")));
        if let [Change::Raised(finding)] = &changes[..] {
            assert_eq!(finding.summary, "95 beyond 90: device a, node n1");
        }
    }
    assert_eq!(all, ["5+Hot a", "10-Hot a"]);
}

#[test]
fn ratios_are_of_the_same_labels_and_filters_leave_out() {
    let mut evaluator = rules(
        "name = \"Full\"\nseries = \"avail\"\nratio_to = \"size\"\nbelow = 0.1\nexcept = { device = [\"loop*\"] }\n---\n\
         name = \"Only\"\nseries = \"avail\"\nbelow = 1e9\nlabels = { device = \"b\" }\n---\n\
         name = \"Busy\"\nseries = \"busy\"\nratio_to = \"cpus\"\nmeasure = \"rate\"\nabove = 0.5",
    );
    let pair = |label: &str, avail: f64| [of("avail", label, avail), of("size", label, 100.0)];
    let samples = [pair("a", 50.0), pair("b", 5.0), pair("loop0", 5.0)].concat();
    let changes = evaluator.evaluate(0.0, "n", &samples);
    assert_eq!(told(&changes), ["+Full b", "+Only b"]);
    assert!(matches!(&changes[0], Change::Raised(finding) if finding.summary.starts_with("0.05 beyond 0.1: device b")));
    // Of nothing there is no share, and a missing size is none.
    let samples = [of("avail", "c", 0.0), of("size", "c", 0.0), of("avail", "d", 0.0)];
    assert!(evaluator.evaluate(5.0, "n", &samples).is_empty());
    // A counter by a gauge without labels.
    let busy = |at, count| {
        let busy = Sample::counter(Series::new("busy").with("device", "x"), count);
        (at, [busy, Sample::gauge(Series::new("cpus"), 4.0)])
    };
    let all = [busy(10.0, 0.0), busy(20.0, 15.0), busy(30.0, 36.0)]
        .map(|(at, samples)| told(&evaluator.evaluate(at, "n", &samples)).join(" "));
    assert_eq!(all, ["", "", "+Busy x"]);
}

#[test]
fn counters_count_over_resets_and_gauges_have_no_rate() {
    let mut evaluator = rules(
        "name = \"Errors\"\nseries = \"errors\"\nmeasure = \"increase\"\nwindow = \"1min\"\nabove = 0\n---\n\
         name = \"Fast\"\nseries = \"load\"\nmeasure = \"rate\"\nabove = 0",
    );
    let mut at = |now: f64, errors: f64| {
        let errors = Sample::counter(Series::new("errors"), errors);
        told(&evaluator.evaluate(now, "n", &[errors, of("load", "a", now)])).join(" ")
    };
    // What was there before is no news; a reset is none; what was counted after it is.
    let all = [at(0.0, 7.0), at(10.0, 7.0), at(20.0, 0.0), at(30.0, 1.0), at(80.0, 1.0), at(95.0, 1.0)];
    assert_eq!(all, ["", "", "", "+Errors ", "", "-Errors "]);
}

#[test]
fn series_that_vanish_are_let_go_with_a_note_and_too_many_are_refused_once() {
    let mut evaluator = rules("name = \"High\"\nseries = \"x\"\nabove = 1").most_series(3);
    let samples: Vec<Sample> = ["a", "b", "c", "d", "e"].map(|label| of("x", label, 2.0)).into();
    let changes = evaluator.evaluate(0.0, "n", &samples);
    assert_eq!(told(&changes), ["+High a", "+High b", "+High c", "+TooManySeries "]);
    assert!(evaluator.evaluate(5.0, "n", &samples).is_empty());
    assert_eq!(evaluator.watched(), 3);
    assert!(evaluator.evaluate(250.0, "n", &samples[..1]).is_empty());
    let changes = evaluator.evaluate(400.0, "other", &[]);
    assert_eq!(told(&changes), ["-High b", "-High c"]);
    let notes = evaluator.take_notes();
    assert!(notes.len() == 2 && notes.iter().all(|note| note.contains("is no longer measured")), "{notes:?}");
    assert!(evaluator.take_notes().is_empty());
    assert_eq!(evaluator.watched(), 1);
    assert_eq!(told(&evaluator.evaluate(405.0, "n", &samples)), ["+High b", "+High c"]);
}

#[test]
fn what_can_no_longer_be_told_is_over() {
    // No packets, no share of damaged ones; the counters themselves are there.
    let mut evaluator =
        rules("name = \"Damaged\"\nseries = \"errors\"\nratio_to = \"packets\"\nmeasure = \"rate\"\nabove = 0.1");
    let mut all = Vec::new();
    for place in 0..60 {
        let count = |name: &'static str| Sample::counter(Series::new(name), f64::from(place.min(10)));
        let changes = evaluator.evaluate(f64::from(place) * 15.0, "n", &[count("errors"), count("packets")]);
        all.extend(told(&changes).into_iter().map(|told| (place, told)));
    }
    assert!(
        matches!(&all[..], [(1, raised), (31..36, over)] if raised == "+Damaged " && over == "-Damaged "),
        "{all:?}"
    );

    let mut evaluator = rules("name = \"Hotter\"\nseries = \"t\"\npeers = {}\nfor = \"0s\"");
    let mut show = |nodes: std::ops::Range<u8>, now: f64| {
        for node in nodes {
            evaluator.evaluate(now, &format!("n{node}"), &[of("t", "cpu", if node == 0 { 90.0 } else { 60.0 })]);
        }
        told(&evaluator.compare(now))
    };
    assert_eq!((show(0..6, 0.0), show(0..6, 10.0)), (vec!["+Hotter cpu".to_owned()], vec![]));
    assert_eq!(show(0..3, 120.0), ["-Hotter cpu"]);
}

#[test]
fn values_that_are_no_numbers_change_nothing() {
    let mut evaluator = rules("name = \"High\"\nseries = \"x\"\nabove = 1\nfor = \"10s\"");
    for (now, value) in [(0.0, f64::NAN), (5.0, f64::INFINITY), (f64::NAN, 2.0), (10.0, 2.0), (15.0, f64::NAN)] {
        assert!(evaluator.evaluate(now, "n", &[of("x", "a", value)]).is_empty());
    }
    assert_eq!(told(&evaluator.evaluate(20.0, "n", &[of("x", "a", 2.0)])), ["+High a"]);
}

#[test]
fn one_node_among_others_is_found_without_a_past() {
    let mut evaluator = rules("name = \"Hotter\"\nseries = \"t\"\npeers = { direction = \"above\" }\nfor = \"30s\"");
    let mut random = fastrand::Rng::with_seed(5);
    let mut all = Vec::new();
    for round in 0..10 {
        let now = f64::from(round) * 10.0;
        for node in 0..8 {
            let value = 60.0 + normal(&mut random) + if node == 3 { 25.0 } else { 0.0 };
            assert!(evaluator.evaluate(now, &format!("n{node}"), &[of("t", "cpu", value)]).is_empty());
        }
        for change in evaluator.compare(now) {
            let Change::Raised(finding) = &change else { panic!("{change:?}") };
            all.push((round, finding.labels["node"].clone()));
        }
    }
    assert_eq!(all, [(3, "n3".to_owned())]);
}

#[test]
fn an_adaptive_rule_finds_a_disk_that_becomes_slow() {
    let mut evaluator = Evaluator::new(Rules::defaults().thresholds);
    let mut random = fastrand::Rng::with_seed(6);
    let (mut seconds, mut writes) = (0.0, 0.0);
    let mut all = Vec::new();
    for place in 0..2000 {
        let now = f64::from(place) * 15.0;
        let latency = 0.004 * (0.5 * normal(&mut random)).exp() * if place >= 1500 { 30.0 } else { 1.0 };
        writes += 100.0;
        seconds += 100.0 * latency;
        let count = |name: &'static str, value| Sample::counter(Series::new(name).with("device", "sda"), value);
        let samples =
            [count("node_disk_write_time_seconds_total", seconds), count("node_disk_writes_completed_total", writes)];
        let changes = evaluator.evaluate(now, "n", &samples);
        all.extend(told(&changes).into_iter().map(|told| (place, told)));
    }
    // Two or three values until the median has moved, and two minutes that the rule waits.
    assert!(matches!(&all[..], [(1509..1515, told), ..] if told == "+DiskWritesSlow sda"), "{all:?}");
}

#[test]
fn the_built_in_rules_are_silent_where_nothing_is_wrong_or_nothing_is_there() {
    let mut evaluator = Evaluator::new(Rules::defaults().thresholds);
    let plain = |name: &'static str, value| Sample::gauge(Series::new(name), value);
    for place in 0..400 {
        let samples = [
            plain("node_memory_MemAvailable_bytes", 50e9),
            plain("node_memory_MemTotal_bytes", 64e9),
            plain("node_timex_offset_seconds", -1e-5),
            of("node_filesystem_avail_bytes", "sda", 4e11),
            of("node_filesystem_size_bytes", "sda", 1e12),
            of("node_filesystem_readonly", "sda", 0.0),
            of("node_hwmon_temp_celsius", "cpu", 60.0),
            Sample::counter(Series::new("node_vmstat_oom_kill"), 12.0),
            Sample::counter(Series::new("node_edac_uncorrectable_errors_total"), 1.0),
        ];
        assert_eq!(told(&evaluator.evaluate(f64::from(place) * 15.0, "n", &samples)), [""; 0]);
        assert!(evaluator.evaluate(f64::from(place) * 15.0, "bare", &[]).is_empty());
    }
}
