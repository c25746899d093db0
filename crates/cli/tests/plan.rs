//! `piton plan` and `piton schedule`.

mod common;

use common::{fails, json, ok, sea};
use serde_json::Value;

const TEXTBOOK: [&str; 13] = [
    "plan",
    "--checkpoint-cost",
    "300s",
    "--restart-cost",
    "300s",
    "--downtime",
    "120s",
    "--latency",
    "0s",
    "--mtbf",
    "8h",
    "--paths",
    "60",
];

fn number(value: &Value, key: &str) -> f64 {
    value[key].as_f64().unwrap_or_else(|| panic!("{key} in {value}"))
}

#[test]
fn a_job_on_paper_has_its_interval_and_its_waste() {
    let folder = tempfile::tempdir().unwrap();
    let plan = json(folder.path(), &TEXTBOOK);
    assert_eq!(number(&plan, "young_seconds").round(), 4157.0);
    assert!((number(&plan, "daly_seconds") - 3959.3).abs() < 0.1, "{}", plan["daly_seconds"]);
    let expected = number(&plan, "expected_waste");
    for key in ["online_waste", "young_daly_waste", "best_fixed_waste"] {
        assert!((number(&plan, key) / expected - 1.0).abs() < 0.05, "{key}: {} for {expected}", plan[key]);
    }
    assert!(
        (2000.0..8000.0).contains(&number(&plan, "best_fixed_interval_s")) && number(&plan, "failures") >= 10_000.0
    );
    let parts = &plan["parts"];
    let sum: f64 = ["checkpoints", "lost", "restarts"].iter().map(|part| number(parts, part)).sum();
    assert!((sum - expected).abs() < 1e-9);
    let times = &plan["time_to_solution"];
    assert!(number(times, "p5") < number(times, "median") && number(times, "median") < number(times, "p95"));
    assert_eq!(plan, json(folder.path(), &TEXTBOOK), "the same seed, the same answer");

    let picture = folder.path().join("plan.svg");
    let text = ok(folder.path(), &[&TEXTBOOK[..], &["--svg", picture.to_str().unwrap()]].concat());
    for part in ["a checkpoint every 1 h 10 min", "Piton, 10000 failures simulated", "▲ 1 h 10 min", "checkpoint cost"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    let picture = std::fs::read_to_string(picture).unwrap();
    assert!(picture.starts_with("<svg ") && picture.ends_with("</svg>\n") && picture.contains("Daly: 1 h 10 min"));
}

#[test]
fn a_trace_is_played_with_the_real_scheduler() {
    let folder = tempfile::tempdir().unwrap();
    let trace = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/infinitehbd-fault-trace.json");
    let arguments = ["plan", "--trace", trace, "--checkpoint-cost", "5min", "--downtime", "2min"];
    let plan = json(folder.path(), &arguments);
    assert_eq!(number(&plan, "failures"), 503.0);
    assert!(number(&plan, "online_waste") / number(&plan, "best_fixed_waste") < 1.05, "{plan}");
    let half = json(folder.path(), &[&arguments[..], &["--nodes", "200"]].concat());
    assert!((150.0..350.0).contains(&number(&half, "failures")), "{}", half["failures"]);

    let own = folder.path().join("failures.csv");
    std::fs::write(&own, "# seconds\n3600\n9000.5\n40000\n").unwrap();
    let plan = json(folder.path(), &["plan", "--trace", own.to_str().unwrap(), "--checkpoint-cost", "10s"]);
    assert_eq!(number(&plan, "failures"), 2.0, "the trace ends with the last");
    std::fs::write(&own, "3600\nsoon\n").unwrap();
    let (_, complaint) =
        fails(folder.path(), &["plan", "--trace", own.to_str().unwrap(), "--checkpoint-cost", "10s"], 2);
    assert!(complaint.contains("failures.csv") && complaint.contains("line 2: \"soon\""), "{complaint}");
}

#[test]
fn sizes_and_bandwidths_do_as_well_and_what_makes_no_sense_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let sizes = ["plan", "--nodes", "1000", "--state", "50TiB", "--bandwidth", "200GB/s", "--near-bandwidth", "2GB/s"];
    let plan = json(folder, &[&sizes[..], &["--work", "2d", "--walltime", "12h", "--paths", "60"]].concat());
    let inputs = &plan["inputs"];
    // A node's share of 55 GB at 8 GB/s; near at 2 GB/s.
    assert!(
        (number(&inputs["costs"], "cost") - 6.87).abs() < 0.01
            && (number(&inputs["costs"], "latency") - 27.5).abs() < 0.1
    );
    assert!(plan["two_level"]["far_every"].as_u64().is_some());
    assert_eq!(plan["time_to_solution"]["allocations"], 5);
    let hopeless = json(folder, &["plan", "--nodes", "1000000", "--checkpoint-cost", "10min"]);
    assert_eq!(hopeless["online_waste"], Value::Null);
    assert!(number(&hopeless, "expected_waste") > 0.98);
    let million = json(
        folder,
        &["plan", "--nodes", "1000000", "--node-mtbf", "2000d", "--checkpoint-cost", "1s", "--paths", "10"],
    );
    assert!(
        number(&million, "expected_waste") < 0.5 && number(&million, "online_waste") < 0.6,
        "{}",
        million["online_waste"]
    );

    for (arguments, part) in [
        (&["plan"][..], "what does a checkpoint cost?"),
        (&["plan", "--checkpoint-cost", "0s"], "--checkpoint-cost must be more than 0"),
        (&["plan", "--checkpoint-cost", "1m"], "a time is a number with a unit"),
        (&["plan", "--checkpoint-cost", "1s", "--mtbf", "3 per day"], "as in `3/day`"),
        (&["plan", "--checkpoint-cost", "1s", "--law", "weibull"], "as in `weibull:0.7`"),
        (&["plan", "--checkpoint-cost", "1s", "--nodes", "0"], "1..=1000000"),
        (&["plan", "--checkpoint-cost", "1h", "--walltime", "1h"], "--walltime is 3600 s"),
        (&["plan", "--checkpoint-cost", "1s", "--trace", "/nowhere.csv"], "/nowhere.csv"),
    ] {
        let (_, complaint) = fails(folder, arguments, 2);
        assert!(complaint.contains(part), "{arguments:?}: {complaint}");
    }
}

#[test]
fn a_schedule_tells_how_attempts_ended_and_where_the_time_went() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    sea(folder, &[], 25);
    sea(folder, &["--resume"], 35);
    let shown = json(folder, &["schedule", "sea"]);
    let endings: Vec<&Value> = shown["attempts"].as_array().unwrap().iter().map(|row| &row["ending"]).collect();
    assert_eq!(shown["epoch"], 2, "{shown}");
    assert_eq!(endings.len(), 2, "{shown}");
    assert_eq!((&shown["running"], &shown["next_seconds"]), (&Value::Bool(false), &Value::Null));
    assert!(number(&shown["schedule"], "mtbf_seconds") > 0.0 && number(&shown["account"], "time") >= 0.0);
    let text = ok(folder, &["schedule"]);
    for part in ["sea, attempt 2 (not running)", "M = ", "attempt", "wasted so far: "] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // A job that has run can be planned on.
    let plan = json(folder, &["plan", "sea", "--mtbf", "8h"]);
    assert!(number(&plan, "expected_waste") > 0.0);
    let (_, complaint) = fails(folder, &["schedule", "lake"], 1);
    assert!(complaint.contains("no job \"lake\""), "{complaint}");
}
