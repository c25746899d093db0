//! `piton rules`: rule files, and what was measured through them.

mod common;

use common::{fails, json, ok, piton};
use piton::ids::Epoch;
use piton::journal::{Event, Record, VERSION, WallTime};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

const RULES: &str = r#"defaults = false
[[threshold]]
name = "ScratchFull"
series = "node_filesystem_avail_bytes"
ratio_to = "node_filesystem_size_bytes"
labels = { path = "/scratch*" }
below = 0.1
clear = 0.2
for = "30s"
clear_for = "0s"
severity = "critical"
action = "checkpoint"
summary = "{path} has {value%} left"

[[threshold]]
name = "Killed"
series = "node_vmstat_oom_kill"
measure = "increase"
window = "10min"
above = 0
severity = "warning"
summary = "{value} processes were killed"
"#;

/// A journal of two hours, a sample every 30 s: the file system is full from the 100th to the 120th, a process is killed at the 200th.
fn journal(folder: &Path, writer: &str, node: &str) {
    let mut text = String::new();
    for place in 0..240_u64 {
        let avail = if (100..120).contains(&place) { 5.0 } else { 50.0 };
        let gauges = BTreeMap::from([
            (r#"node_filesystem_avail_bytes{path="/scratch/a"}"#.to_owned(), avail),
            (r#"node_filesystem_size_bytes{path="/scratch/a"}"#.to_owned(), 100.0),
            ("no series {".to_owned(), 1.0),
        ]);
        let counters = BTreeMap::from([("node_vmstat_oom_kill".to_owned(), if place >= 200 { 4.0 } else { 3.0 })]);
        let record = Record {
            v: VERSION,
            at: WallTime::from_unix_ms(1_795_327_811_000 + 30_000 * i64::try_from(place).unwrap()),
            mono_ns: 30_000_000_000 * place,
            epoch: Epoch(1),
            rank: None,
            seq: 2 * place,
            event: Event::Sampled { node: node.to_owned(), gauges, counters },
        };
        writeln!(text, "{}", serde_json::to_string(&record).unwrap()).unwrap();
        let beat = Record { event: Event::Beat { step: place }, seq: 2 * place + 1, ..record };
        writeln!(text, "{}", serde_json::to_string(&beat).unwrap()).unwrap();
    }
    fs::write(folder.join(format!("journal.{writer}.jsonl")), text).unwrap();
}

#[test]
fn what_is_shown_is_sound() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let rules = ok(folder, &["rules", "show"]);
    assert!(rules.starts_with("# What Piton takes for wrong"), "{rules}");
    fs::write(folder.join("rules.toml"), rules).unwrap();
    let text = ok(folder, &["rules", "check", "rules.toml"]);
    assert!(
        text.starts_with("rules.toml is sound: ")
            && text.ends_with(" receivers; the built-in rules hold beside them\n"),
        "{text}"
    );
    assert!(json(folder, &["rules", "check", "rules.toml"])["thresholds"].as_u64().unwrap() > 30);
}

#[test]
fn what_is_wrong_with_a_rule_file_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join("a.toml"), RULES.replace("below = 0.1", "below = 0.3")).unwrap();
    let (text, complaint) = fails(folder, &["rules", "check", "a.toml"], 1);
    assert_eq!(text, "");
    assert!(
        complaint.starts_with("piton: a.toml: threshold \"ScratchFull\": `clear`: a value that is right"),
        "{complaint}"
    );
    fs::write(folder.join("b.toml"), RULES.replace("below", "beneath")).unwrap();
    let (_, complaint) = fails(folder, &["rules", "check", "b.toml"], 1);
    assert!(complaint.contains("b.toml, line 7: unknown field `beneath`"), "{complaint}");
    let checked = json(folder, &["rules", "check", "b.toml"]);
    assert_eq!((&checked["sound"], &checked["thresholds"]), (&false.into(), &0.into()));
    // A log rule that does not do what its lines say.
    let log = "\n[[log]]\nname = \"Quota\"\nregex = \"quota exceeded\"\nclass = \"storage\"\nseverity = \"warning\"\nsource = \"application\"\nsummary = \"s\"\n\
               examples = [\"the quota is exceeded\"]\n";
    fs::write(folder.join("c.toml"), format!("{RULES}{log}")).unwrap();
    let (_, complaint) = fails(folder, &["rules", "check", "c.toml"], 1);
    assert!(
        complaint.contains("log \"Quota\": the example does not fire it: \"the quota is exceeded\""),
        "{complaint}"
    );
    fs::write(folder.join("d.toml"), format!("{RULES}{}", log.replace("the quota is exceeded", "disk quota exceeded")))
        .unwrap();
    let text = ok(folder, &["rules", "check", "d.toml"]);
    assert_eq!(text, "d.toml is sound: 2 thresholds, 1 log rule, 0 receivers; the built-in rules do not hold\n");
    let (_, complaint) = fails(folder, &["rules", "check", "none.toml"], 2);
    assert!(complaint.contains("none.toml cannot be read"), "{complaint}");
    let (_, complaint) = fails(folder, &["rules", "test", "b.toml", "--replay", "none"], 2);
    assert!(complaint.contains("unknown field"), "{complaint}");
}

#[test]
fn what_was_measured_is_replayed() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let attempt = folder.join("sea/000001");
    fs::create_dir_all(&attempt).unwrap();
    journal(&attempt, "agent", "n1");
    fs::write(folder.join("rules.toml"), RULES).unwrap();

    let file = attempt.join("journal.agent.jsonl");
    let text = ok(folder, &["rules", "test", "rules.toml", "--replay", file.to_str().unwrap()]);
    for part in [
        "720 samples of 1 node, 2 series watched, 2026-11-22T06:10:11.000Z to ",
        "raised   critical  ScratchFull  n1    /scratch/a has 5 % left",
        "cleared            ScratchFull  n1    path /scratch/a",
        "raised   warning   Killed       n1    1 processes were killed",
        "2 alerts raised, 24.1 a day; 0 rules silent",
        "240 values were left out, whose names are no series",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }

    // The folders of the attempt and of the job hold the same; a second node has alerts of its own.
    journal(&attempt, "other", "n2");
    for path in ["sea", "sea/000001"] {
        let replayed = json(folder, &["rules", "test", "rules.toml", "--replay", path]);
        assert_eq!((&replayed["nodes"], &replayed["raised"]), (&2.into(), &4.into()), "{path}");
        let changes = replayed["changes"].as_array().unwrap();
        let of: Vec<_> = changes.iter().filter(|change| change["labels"]["node"] == "n2").collect();
        // The value after which it has been wrong for 30 s, the first that is right again, the first after the kill.
        let at = |place: i64| serde_json::to_value(WallTime::from_unix_ms(1_795_327_811_000 + 30_000 * place)).unwrap();
        let told: Vec<_> =
            of.iter().map(|change| (change["rule"].as_str().unwrap(), &change["change"], &change["at"])).collect();
        let expected = [
            ("ScratchFull", &"raised".into(), &at(101)),
            ("ScratchFull", &"cleared".into(), &at(120)),
            ("Killed", &"raised".into(), &at(200)),
            ("Killed", &"cleared".into(), &at(220)),
        ];
        assert_eq!(told, expected);
        assert_eq!(replayed["rules"][0]["still"], 0);
    }
    // The rules that are built in, too.
    let replayed = json(folder, &["rules", "test", "--replay", "sea"]);
    assert!(
        replayed["rules"]
            .as_array()
            .unwrap()
            .iter()
            .any(|rule| rule["rule"] == "ProcessKilledForMemory" && rule["raised"] == 2)
    );
}

#[test]
fn without_samples_there_is_nothing_to_tell() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::create_dir(folder.join("empty")).unwrap();
    let (_, complaint) = fails(folder, &["rules", "test", "--replay", "empty"], 1);
    assert!(complaint.contains("of nothing that it was measured"), "{complaint}");
    let (_, complaint) = fails(folder, &["rules", "test", "--replay", "none"], 2);
    assert!(complaint.starts_with("piton: cannot replay none: "), "{complaint}");
    assert_eq!(piton(folder, &["rules", "test"]).status.code(), Some(2));
    let (_, complaint) = fails(folder, &["rules", "show", "--json"], 2);
    assert!(complaint.contains("leave --json out"), "{complaint}");
}
