//! That the shipped rules find what they should, and nothing else; that rules of users are refused with a reason where they are wrong; and
//! that no line does any harm.

use super::*;
use crate::watch::{Action, Finding, Rules, Severity};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::time::Instant;

/// Lines of one rule that another, later one would take as well if it stood first: the particular before the general.
const KNOWN_TO_SHARE: [(&str, &str); 12] = [
    ("AllocationFailed", "CppTerminate"),
    ("FilesystemReadOnly", "FilesystemError"),
    ("FortranError", "ProcessCrashed"),
    ("InputOutputError", "PythonError"),
    ("LustreEvicted", "LustreError"),
    ("LustreConnectionLost", "LustreError"),
    ("MpiAbort", "MpiError"),
    ("MpiProcessDied", "ProcessCrashed"),
    ("SlurmNodeFailure", "SlurmCancelled"),
    ("SlurmOutOfMemory", "TaskFailed"),
    ("TaskFailed", "ProcessCrashed"),
    ("CudaError", "AllocationFailed"),
];

fn sources(rule: &LogRule) -> impl Iterator<Item = LogSource> {
    [LogSource::Kernel, LogSource::Application].into_iter().filter(|source| rule.source.has(*source))
}

#[test]
fn every_shipped_rule_fires_on_its_examples_and_not_on_near_misses() {
    let rules = LogRules::defaults();
    assert_eq!(rules.check(), []);
    for rule in rules.rules() {
        assert!(rule.examples.len() >= 2 && rule.near_misses.len() >= 2, "{} needs two of each", rule.name);
    }
    assert!(rules.rules().count() >= 50);
}

#[test]
fn every_pattern_of_the_shipped_rules_has_an_example() {
    let rules = LogRules::defaults();
    let mut without = Vec::new();
    for rule in rules.rules() {
        for pattern in &rule.regex {
            let alone = LogRule {
                regex: vec![pattern.clone()],
                labels: None,
                summary: "found".into(),
                cases: Vec::new(),
                ..rule.clone()
            };
            let alone = LogRules::new(vec![alone]).unwrap();
            if !rule.examples.iter().any(|line| sources(rule).any(|source| alone.look(source, line).is_some())) {
                without.push(format!("{}: {pattern}", rule.name));
            }
        }
    }
    assert!(without.is_empty(), "{without:#?}");
}

#[test]
fn a_shipped_example_fires_no_other_rule_but_those_that_are_known_to_share() {
    let rules = LogRules::defaults();
    let mut shared = BTreeSet::new();
    for rule in rules.rules() {
        for (source, line) in sources(rule).flat_map(|source| rule.examples.iter().map(move |line| (source, line))) {
            for other in rules.all_that_fire(source, line) {
                if other != rule.name {
                    shared.insert((rule.name.clone(), other.to_owned(), line.clone()));
                }
            }
        }
    }
    let unknown: Vec<_> =
        shared.iter().filter(|(rule, other, _)| !KNOWN_TO_SHARE.contains(&(rule.as_str(), other.as_str()))).collect();
    assert!(unknown.is_empty(), "{unknown:#?}");
}

#[test]
fn lines_in_the_files_of_system_loggers_fire_as_well() {
    let rules = LogRules::defaults();
    for rule in rules.rules().filter(|rule| rule.source == LogSources::Kernel) {
        for line in &rule.examples {
            let line = format!("2026-11-22T06:10:11.123456+00:00 node01 kernel: [12345.678901] {line}");
            let finding = rules.look(LogSource::Kernel, &line);
            assert_eq!(finding.map(|finding| finding.rule).as_deref(), Some(rule.name.as_str()), "{line}");
        }
    }
}

#[test]
fn ordinary_lines_fire_nothing() {
    let rules = LogRules::defaults();
    for line in ORDINARY {
        for source in [LogSource::Kernel, LogSource::Application] {
            assert_eq!(rules.look(source, line), None, "{line}");
        }
    }
}

/// What healthy systems and programs print.
const ORDINARY: [&str; 24] = [
    "step 4711  t = 1.2345e-01  dt = 3.2e-05  residual = 4.56e-09  mass = 1.000000000",
    "Iteration 120: norm 0.00345, 12 inner iterations, 0.34 s",
    "usb 1-1: new high-speed USB device number 2 using xhci_hcd",
    "IPv6: ADDRCONF(NETDEV_CHANGE): eth0: link becomes ready",
    "EXT4-fs (nvme0n1p2): mounted filesystem 7f2c-1a with ordered data mode. Quota mode: none.",
    "perf: interrupt took too long (2509 > 2500), lowering kernel.perf_event_max_sample_rate to 79500",
    "TCP: request_sock_TCP: Possible SYN flooding on port 8080. Sending cookies.",
    "audit: type=1400 audit(1767323045.123:45): apparmor=\"STATUS\" operation=\"profile_load\"",
    "writing checkpoint 12 at step 4000",
    "piton: resumed from checkpoint 12 (epoch 3) at step 4000 in 0.42 s",
    "0: rank 0 of 128 on node01, 64 threads",
    "[INFO] epoch 3/100 loss 0.1234 accuracy 0.9876 lr 1.0e-4 (23.4 it/s)",
    "warning: unused variable: `x`",
    "Total wall-clock time: 1234.5 s, 87.3 % in MPI",
    "MPI version 3.1, library Open MPI v5.0.3, package: Open MPI node01 Distribution",
    "srun: job 12345 has been allocated resources",
    "Reading mesh from /scratch/project/mesh.h5 ... 12000000 cells done",
    "systemd[1]: Started Session 42 of User user.",
    "Memory usage: 12.3 GiB of 256 GiB; 0 errors, 0 warnings",
    "error estimate 1.2e-3 below the tolerance, refining 1200 of 48000 cells",
    "md: data-check of RAID array md0",
    "nfs: server nfs01 OK",
    "the maximum number of iterations was reached in 3 of 1000 cells",
    "CPU23: Package temperature/speed normal",
];

/// `cargo test --release --lib watch::logs -- --ignored --nocapture`
#[test]
#[ignore = "measures and proves nothing: run it by name"]
fn measure_lines_per_second() {
    let rules = LogRules::defaults();
    let bytes: usize = ORDINARY.iter().map(|line| line.len()).sum();
    for source in [LogSource::Kernel, LogSource::Application] {
        let begun = Instant::now();
        let rounds = 50_000;
        for _ in 0..rounds {
            for line in ORDINARY {
                assert!(rules.look(source, line).is_none());
            }
        }
        let seconds = begun.elapsed().as_secs_f64();
        println!(
            "{source:?}: {:.0} lines/s, {:.0} MB/s",
            (rounds * ORDINARY.len()) as f64 / seconds,
            (rounds * bytes) as f64 / seconds / 1e6
        );
    }
    let lines: Vec<&String> = rules.rules().flat_map(|rule| &rule.examples).collect();
    let begun = Instant::now();
    for _ in 0..500 {
        for line in &lines {
            std::hint::black_box(rules.look(LogSource::Kernel, line));
        }
    }
    println!("of the examples: {:.0} lines/s", 500.0 * lines.len() as f64 / begun.elapsed().as_secs_f64());
    let begun = Instant::now();
    let again = LogRules::new(rules.rules().cloned().collect()).unwrap();
    println!("compiled {} rules in {:.1} ms", again.rules().count(), begun.elapsed().as_secs_f64() * 1e3);
}

fn look(line: &str) -> Finding {
    LogRules::defaults().look(LogSource::Kernel, line).expect("it fires")
}

#[test]
fn what_a_code_means_decides_how_bad_it_is() {
    let xid = |code: u32| look(&format!("NVRM: Xid (PCI:0000:3b:00): {code}, pid=12345, name=solver, some text"));
    let off_bus = xid(79);
    assert_eq!(
        (off_bus.severity, off_bus.action, off_bus.labels["class"].as_str()),
        (Severity::Critical, Action::MarkNode, "accelerator")
    );
    assert_eq!((off_bus.labels["device"].as_str(), off_bus.labels["code"].as_str()), ("0000:3b:00", "79"));
    let program = xid(31);
    assert_eq!(
        (program.severity, program.action, program.labels["class"].as_str()),
        (Severity::Warning, Action::Nothing, "application")
    );
    assert!(program.summary.contains("a program's kernel"), "{}", program.summary);
    assert_eq!(xid(63).severity, Severity::Info);
    assert_eq!(xid(999).severity, Severity::Warning);
}

#[test]
fn labels_tell_places_apart_and_not_processes() {
    let one = look("INFO: task solver:12345 blocked for more than 120 seconds.");
    let two = look("INFO: task solver:12346 blocked for more than 241 seconds.");
    assert_eq!(one.labels, two.labels);
    assert!(two.summary.contains("12346") && two.summary.contains("241"), "{}", two.summary);
}

const OWN: &str = r#"
[[log]]
name = "PumpFailed"
source = "any"
class = "node"
severity = "critical"
action = "mark_node"
regex = ['coolant pump (?P<pump>\d+) (?P<what>failed|stopped)', 'pump alarm']
unless = 'test run'
summary = "pump {pump} has {what}"
lasts = 60
examples = ["coolant pump 3 failed", "pump alarm"]
near_misses = ["coolant pump 3 failed in a test run"]

[[log]]
name = "LinkDown"
source = "kernel"
class = "network"
severity = "info"
regex = 'NIC Link is Down'
summary = "a link is down, which is usual here"
"#;

#[test]
fn a_site_has_rules_of_its_own_and_changes_shipped_ones() {
    let own = LogRules::from_toml(OWN).unwrap();
    assert_eq!(own.check(), []);
    let rules = own.before_defaults().unwrap();
    let finding = rules.look(LogSource::Application, "coolant pump 3 stopped").unwrap();
    assert_eq!(
        (finding.summary.as_str(), finding.lasts, finding.labels["pump"].as_str()),
        ("pump 3 has stopped", Some(60.0), "3")
    );
    assert_eq!(rules.look(LogSource::Kernel, "pump alarm").unwrap().summary, "pump ? has ?");
    assert_eq!(rules.look(LogSource::Kernel, "coolant pump 3 failed in a test run"), None);
    let link = rules.look(LogSource::Kernel, "ixgbe 0000:03:00.0 eth0: NIC Link is Down").unwrap();
    assert_eq!((link.rule.as_str(), link.severity), ("LinkDown", Severity::Info));
    assert_eq!(rules.rules().count(), LogRules::defaults().rules().count() + 1);
}

#[test]
fn samples_that_do_not_hold_are_found() {
    let text = OWN
        .replace("\"pump alarm\"]", "\"no alarm\", \"coolant pump 3 failed in a test run\"]")
        .replace("near_misses = [\"coolant pump 3 failed in a test run\"]", "near_misses = [\"pump alarm\"]");
    let broken = LogRules::from_toml(&text).unwrap().check();
    let lines: BTreeSet<&str> = broken.iter().map(|sample| sample.line.as_str()).collect();
    assert_eq!(lines, BTreeSet::from(["coolant pump 3 failed in a test run", "no alarm", "pump alarm"]));
    assert!(broken.iter().all(|sample| sample.rule == "PumpFailed"));
}

#[test]
fn wrong_rules_are_refused_by_name() {
    let refused = |from: &str, to: &str, word: &str| {
        let text = OWN.replacen(from, to, 1);
        assert_ne!(text, OWN);
        let error = LogRules::from_toml(&text).unwrap_err().to_string();
        assert!(error.contains(word), "{word}: {error}");
    };
    refused("name = \"PumpFailed\"", "name = \"pump failed\"", "a capital");
    refused("\"PumpFailed\"", "\"LinkDown\"", "another has its name");
    refused("pump alarm'", "pump (alarm'", "PumpFailed");
    refused("'pump alarm'", "'(?:pump)?'", "every line");
    refused("'pump alarm'", "'(?:a{500}){500}'", "size limit");
    refused("(?P<pump>", "(?P<Pump>", "small letters");
    refused("(?P<pump>", "(?P<class>", "cannot be a label");
    refused("{pump}", "{pumps}", "does not capture");
    refused("lasts = 60", "lasts = -1", "`lasts`");
    refused("lasts = 60", "lasts = nan", "`lasts`");
    refused("lasts = 60", "last = 60", "last");
    refused("lasts = 60", "labels = [\"rank\"]", "`labels`");
    refused("source = \"any\"", "source = \"all\"", "all");
    refused("severity = \"critical\"", "severity = \"bad\"", "bad");
    refused("['coolant", "[5, 'coolant", "a pattern, or a list of patterns");
    refused("[[log]]", "[[logs]]", "logs");
    let case = "lasts = 60\ncases = [{ capture = \"what\", values = [\"failed\"], severity = \"info\" }]";
    assert!(LogRules::from_toml(&OWN.replacen("lasts = 60", case, 1)).is_ok());
    refused("lasts = 60", &case.replace("\"what\"", "\"why\""), "does not capture");
    refused("lasts = 60", &case.replace("[\"failed\"]", "[]"), "no `values`");
    refused("lasts = 60", &case.replace(", severity = \"info\"", ""), "changes nothing");
    let (folder, long) = (tempfile::tempdir().unwrap(), "#".repeat(2 << 20));
    assert!(LogRules::from_toml(&long).unwrap_err().to_string().contains("bytes"));
    let path = folder.path().join("rules.toml");
    assert!(Rules::read(&path).unwrap_err().to_string().contains("rules.toml"));
    std::fs::write(&path, "log = 5").unwrap();
    assert!(Rules::read(&path).unwrap_err().to_string().contains("rules.toml"));
    std::fs::write(&path, OWN).unwrap();
    assert_eq!(Rules::read(&path).unwrap().logs.rules().count(), 2);
}

/// The beginnings of shipped examples with anything around and in between.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let examples: Vec<String> = LogRules::defaults().rules().flat_map(|rule| rule.examples.clone()).collect();
    let piece = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..40),
        (proptest::sample::select(examples), any::<prop::sample::Index>()).prop_map(|(line, cut)| {
            let mut bytes = line.into_bytes();
            bytes.truncate(cut.index(bytes.len()) + 1);
            bytes
        }),
    ];
    proptest::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_line_does_harm(line in hostile()) {
        for source in [LogSource::Kernel, LogSource::Application] {
            if let Some(finding) = LogRules::defaults().look(source, &line) {
                prop_assert!(finding.summary.chars().count() <= 500 && !finding.summary.chars().any(char::is_control));
                for value in finding.labels.values() {
                    prop_assert!(value.chars().count() <= 121 && !value.chars().any(char::is_control));
                }
            }
        }
    }

    #[test]
    fn no_text_of_a_rule_file_makes_it_panic(text in "(\\[\\[log\\]\\]\n|name = \"A\"\n|regex = '[(a)*?\\[\\]{}1-9|]{0,12}'\n|[a-z= '\"\\[\\]\n]){0,20}") {
        let _ = LogRules::from_toml(&text);
    }
}
