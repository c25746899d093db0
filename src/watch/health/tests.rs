//! Whole nodes, and the lines between well and ill.

use super::*;
use crate::watch::Series;
use crate::watch::node::{Probe, Roots, Sampler, Space};
use proptest::prelude::*;
use std::path::Path;
use std::time::Duration;

fn samples(node: &str, space: Space) -> Vec<Sample> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/node").join(node);
    let probe = Probe::new(move |_| Ok(space));
    let sampler = Sampler::new(Roots::below(root), vec!["/scratch".into()]).with_probe(&probe);
    sampler.with_patience(Duration::from_secs(60)).sample()
}

const ROOMY: Space = Space { size: 1000, free: 600, available: 500, files: 0, files_free: 0, read_only: false };

fn checked(samples: &[Sample]) -> Vec<Check> {
    check(samples, None, &Limits::default())
}

fn tokens(checks: &[Check], outcome: Outcome) -> Vec<String> {
    checks.iter().filter(|check| check.outcome == outcome).map(Check::token).collect()
}

fn gauge(name: &'static str, value: f64) -> Sample {
    Sample::gauge(Series::new(name), value)
}

/// What one check says of these.
fn says(name: &str, samples: &[Sample]) -> Vec<(Outcome, String)> {
    said(name, &checked(samples))
}

fn said(name: &str, checks: &[Check]) -> Vec<(Outcome, String)> {
    let of = checks.iter().filter(|check| check.name == name);
    of.map(|check| (check.outcome, check.token())).collect()
}

#[test]
fn a_healthy_node_has_nothing_wrong_but_a_port_without_a_cable() {
    let checks = checked(&samples("healthy", ROOMY));
    assert_eq!(tokens(&checks, Outcome::Failed), Vec::<String>::new());
    assert_eq!(tokens(&checks, Outcome::Warning), ["infiniband_link device=mlx5_0 port=2 state=1"]);
    // Inodes are not counted here, one sample tells of no storm, and there are no GPUs; the clock is not the tree's.
    let gpus = ["gpu_driver_hung", "gpu_missing", "gpu_uncorrected", "gpu_memory_repair", "gpu_temperature"];
    let absent = [&["filesystem_inodes", "power"][..], &gpus, &["swap_storm", "clock"]].concat();
    assert_eq!(tokens(&checks, Outcome::Absent), absent);
}

#[test]
fn a_sick_node_says_all_that_is_wrong() {
    let checks = checked(&samples("sick", ROOMY));
    let failed = [
        "filesystem_corrupt device=nvme0n1p2 count=4",
        "filesystem_corrupt device=1 type=corruption uuid=6b8062f1-4d3a-4b1f-9a1e-000000000001 count=1",
        "disk_state device=sdb",
        "ecc_uncorrected dimm=A1 count=2",
        "temperature chip=platform_coretemp_1 label=Package_id_1 sensor=temp1 celsius=101",
        "voltage chip=platform_nct6775_656 label=Vcore sensor=in0 volts=1.41",
        "fan chip=platform_nct6775_656 sensor=fan1 rpm=0",
        "pcie_errors device=0000:3b:00.0 severity=fatal count=1",
        "infiniband_link device=mlx5_0 port=1 state=1",
        "infiniband_link device=mlx5_0 port=2 state=1",
        "memory_available ratio=0.017",
    ];
    assert_eq!(tokens(&checks, Outcome::Failed), failed);
    let warnings = [
        "disk_state device=md127 count=1",
        "ecc_corrected dimm=A1 count=1500",
        "memory_corrupted bytes=4096",
        "pcie_errors device=0000:3b:00.0 severity=nonfatal count=2",
        "network_link device=eno1",
        "network_link device=ib0",
        "hung_tasks count=6",
    ];
    assert_eq!(tokens(&checks, Outcome::Warning), warnings);
}

#[test]
fn a_bare_machine_is_healthy() {
    let checks = checked(&samples("bare", ROOMY));
    assert!(checks.iter().all(|check| !check.is_wrong()), "{checks:?}");
    let ok = checks.iter().filter(|check| check.outcome == Outcome::Ok).count();
    assert!(ok >= 7 && checks.len() == names().count(), "{ok}");
}

#[test]
fn file_systems_fail_when_they_are_full_or_read_only() {
    let full = Space { available: 29, files: 1000, files_free: 40, read_only: true, ..ROOMY };
    let checks = checked(&samples("bare", full));
    let of = |name: &str| said(name, &checks);
    let failed = |path: &str| (Outcome::Failed, format!("filesystem_space path={path} ratio=0.029"));
    assert_eq!(of("filesystem_space"), ["/scratch", "/", "/tmp"].map(failed));
    let warning = |path: &str| (Outcome::Warning, format!("filesystem_inodes path={path} ratio=0.04"));
    assert_eq!(of("filesystem_inodes"), ["/scratch", "/", "/tmp"].map(warning));
    let read_only = |path: &str, outcome| (outcome, format!("filesystem_read_only path={path}"));
    let outcomes = [("/scratch", Outcome::Failed), ("/", Outcome::Warning), ("/tmp", Outcome::Failed)]
        .map(|(p, o)| read_only(p, o));
    assert_eq!(of("filesystem_read_only"), outcomes);
    let hung = Series::new("piton_node_filesystem_hung").with("path", "/scratch");
    assert_eq!(
        says("filesystem_hung", &[Sample::gauge(hung, 1.0)]),
        [(Outcome::Failed, "filesystem_hung path=/scratch seconds=0".into())]
    );
}

#[test]
fn limits_that_nobody_has_set_are_none() {
    let sensor =
        |name: &'static str, value| Sample::gauge(Series::new(name).with("chip", "c").with("sensor", "s1"), value);
    let volts = |value, low, high| {
        let samples = [
            sensor("node_hwmon_in_volts", value),
            sensor("node_hwmon_in_min_volts", low),
            sensor("node_hwmon_in_max_volts", high),
        ];
        says("voltage", &samples)[0].0
    };
    assert_eq!([volts(3.3, 0.0, 0.0), volts(3.3, 4.0, 3.0)], [Outcome::Ok; 2], "not set");
    assert_eq!([volts(3.3, 3.4, 3.6), volts(3.7, 3.4, 3.6)], [Outcome::Failed; 2]);
    assert_eq!([volts(3.4, 3.4, 3.6), volts(3.6, 3.4, 3.6)], [Outcome::Ok; 2], "at the limit");
    let heat = |value, limit, fault| {
        let samples = [
            sensor("node_hwmon_temp_celsius", value),
            sensor("node_hwmon_temp_crit_celsius", limit),
            sensor("node_hwmon_temp_fault", fault),
        ];
        says("temperature", &samples)[0].0
    };
    assert_eq!([heat(50.0, 0.0, 0.0), heat(50.0, -273.15, 0.0), heat(105.0, 100.0, 1.0)], [Outcome::Ok; 3]);
    assert_eq!([heat(100.0, 100.0, 0.0), heat(99.9, 100.0, 0.0)], [Outcome::Failed, Outcome::Ok]);
    let fan =
        |rpm, alarm| says("fan", &[sensor("node_hwmon_fan_rpm", rpm), sensor("node_hwmon_fan_alarm", alarm)])[0].0;
    assert_eq!([fan(0.0, 0.0), fan(0.0, 1.0), fan(300.0, 1.0)], [Outcome::Ok, Outcome::Failed, Outcome::Warning]);
}

#[test]
fn a_chips_own_alarm_is_heard_once() {
    let alarm = |limit: &str| {
        let series = Series::new("piton_node_hwmon_limit_alarm").with("chip", "c").with("sensor", "temp1");
        Sample::gauge(series.with("limit", limit), 1.0)
    };
    let outcome = |limit: &str| {
        let samples = [Sample::gauge(Series::new("node_hwmon_temp_celsius"), 20.0), alarm(limit)];
        says("temperature", &samples)[0].0
    };
    assert_eq!(["crit", "max", "min"].map(outcome), [Outcome::Failed, Outcome::Warning, Outcome::Ok]);
}

#[test]
fn memory_errors_are_told_by_module_or_by_controller() {
    let controller =
        |count| Sample::counter(Series::new("node_edac_uncorrectable_errors_total").with("controller", "0"), count);
    let module = |label: &str, count| {
        let series = Series::new("piton_node_edac_dimm_uncorrectable_errors_total").with("controller", "0");
        Sample::counter(series.with("dimm", "dimm3").with("label", label), count)
    };
    let tokens =
        |samples: &[Sample]| says("ecc_uncorrected", samples).into_iter().map(|(_, token)| token).collect::<Vec<_>>();
    assert_eq!(tokens(&[controller(2.0), module("A1", 2.0)]), ["ecc_uncorrected dimm=A1 count=2"]);
    assert_eq!(tokens(&[controller(2.0), module("A1", 0.0)]), ["ecc_uncorrected controller=0 count=2"]);
    // A module that the firmware has no name for is called by its place.
    assert_eq!(tokens(&[module("dimm3", 1.0)]), ["ecc_uncorrected dimm=mc0_dimm3 count=1"]);
    assert_eq!(tokens(&[controller(0.0), module("A1", 0.0)]), ["ecc_uncorrected"]);
}

#[test]
fn what_only_grows_is_judged_by_two_samples() {
    let counter = |name: &'static str, value| Sample::counter(Series::new(name), value);
    let node = |swaps: f64, kills: f64, hung: f64| {
        vec![
            counter("node_vmstat_pswpin", swaps),
            counter("node_vmstat_pswpout", swaps),
            counter("node_vmstat_oom_kill", kills),
            counter("node_kernel_hung_tasks_total", hung),
        ]
    };
    let outcomes = |now: &[Sample], earlier: Option<&[Sample]>| {
        let checks = check(now, earlier.map(|earlier| (earlier, 0.5)), &Limits::default());
        ["swap_storm", "oom_kills", "hung_tasks"].map(|name| said(name, &checks)[0].0)
    };
    let (before, after) = (node(1000.0, 3.0, 2.0), node(1300.0, 4.0, 3.0));
    assert_eq!(outcomes(&after, None), [Outcome::Absent, Outcome::Ok, Outcome::Warning], "long ago");
    assert_eq!(outcomes(&before, Some(&before)), [Outcome::Ok, Outcome::Ok, Outcome::Warning]);
    // 600 pages in half a second.
    assert_eq!(outcomes(&after, Some(&before)), [Outcome::Warning, Outcome::Warning, Outcome::Failed]);
    let network = |errors, packets| {
        let of = |name: &'static str, value| Sample::counter(Series::new(name).with("device", "eth0"), value);
        vec![of("node_network_receive_errs_total", errors), of("node_network_receive_packets_total", packets)]
    };
    let outcome = |errors, packets| {
        let now = network(100.0 + errors, 1e6 + packets);
        let checks = check(&now, Some((&network(100.0, 1e6), 1.0)), &Limits::default());
        said("network_errors", &checks)[0].0
    };
    assert_eq!([outcome(3.0, 3.0), outcome(10.0, 10_000.0)], [Outcome::Ok; 2]);
    assert_eq!(outcome(200.0, 10_000.0), Outcome::Warning);
}

#[test]
fn a_port_that_was_up_is_missed() {
    let port = |port: &str, state: f64, physical: f64, downs: f64| {
        let of = |name: &'static str, value| {
            Sample::gauge(Series::new(name).with("device", "hfi1_0").with("port", port.to_owned()), value)
        };
        vec![
            of("node_infiniband_state_id", state),
            of("node_infiniband_physical_state_id", physical),
            of("node_infiniband_link_downed_total", downs),
        ]
    };
    let second = |state, physical, downs| {
        let samples = [port("1", 4.0, 5.0, 0.0), port("2", state, physical, downs)].concat();
        says("infiniband_link", &samples)[0].0
    };
    assert_eq!(second(1.0, 2.0, 1.0), Outcome::Failed, "it has been up");
    assert_eq!(second(1.0, 2.0, 0.0), Outcome::Warning, "it never has");
    assert_eq!(second(2.0, 5.0, 0.0), Outcome::Failed, "no subnet manager");
    assert_eq!(second(1.0, 3.0, 1.0), Outcome::Ok, "switched off");
    assert_eq!(says("infiniband_link", &port("1", 1.0, 2.0, 0.0))[0].0, Outcome::Failed, "the only one");
}

#[test]
fn gpus_memory_load_and_clock_have_their_lines() {
    let gpu = |name: &'static str, value| Sample::gauge(Series::new(name).with("gpu", "GPU-1"), value);
    let samples = [
        gpu("piton_node_gpu_lost", 1.0),
        gpu("piton_node_gpu_ecc_uncorrected_errors_total", 3.0),
        gpu("piton_node_gpu_row_remap_failed", 1.0),
        gpu("piton_node_gpu_temperature_celsius", 95.0),
        gpu("piton_node_gpu_slowdown_temperature_celsius", 92.0),
        gauge("piton_node_gpus", 1.0),
        gauge("piton_node_gpu_driver_hung", 0.0),
    ];
    assert_eq!(says("gpu_missing", &samples), [(Outcome::Failed, "gpu_missing gpu=GPU-1".into())]);
    assert_eq!(says("gpu_uncorrected", &samples)[0].0, Outcome::Failed);
    assert_eq!(says("gpu_memory_repair", &samples)[0].0, Outcome::Failed);
    assert_eq!(says("gpu_temperature", &samples)[0].0, Outcome::Warning);
    let wanting = Limits { gpus: Some(4), ..Limits::default() };
    assert_eq!(said("gpu_missing", &check(&[], None, &wanting)), [(Outcome::Failed, "gpu_missing count=0".into())]);

    let memory = |available| {
        let samples = [gauge("node_memory_MemTotal_bytes", 1e9), gauge("node_memory_MemAvailable_bytes", available)];
        says("memory_available", &samples)[0].0
    };
    assert_eq!([memory(1.9e7), memory(4.9e7), memory(5e7)], [Outcome::Failed, Outcome::Warning, Outcome::Ok]);
    let load = |load| says("load", &[gauge("piton_node_cpus", 4.0), gauge("node_load1", load)])[0].0;
    assert_eq!([load(8.0), load(8.1)], [Outcome::Ok, Outcome::Warning]);
    let clock = |status, error| {
        let samples = [gauge("node_timex_sync_status", status), gauge("node_timex_maxerror_seconds", error)];
        says("clock", &samples)[0].0
    };
    assert_eq!([clock(0.0, 16.0), clock(0.0, 0.1), clock(1.0, 16.0)], [Outcome::Warning, Outcome::Ok, Outcome::Ok]);
}

#[test]
fn what_is_wrong_makes_a_finding() {
    let checks = checked(&samples("sick", ROOMY));
    let findings: Vec<Finding> = checks.iter().filter_map(Check::finding).collect();
    assert_eq!(findings.len(), checks.iter().filter(|check| check.is_wrong()).count());
    let memory = findings.iter().find(|finding| finding.rule == "NodeEccUncorrected").unwrap();
    assert_eq!((memory.severity, memory.action), (Severity::Critical, Action::MarkNode));
    assert_eq!(memory.labels["dimm"], "A1");
    let degraded = findings.iter().find(|finding| finding.severity == Severity::Warning).unwrap();
    assert_eq!((degraded.rule.as_str(), degraded.action), ("NodeDiskState", Action::Nothing));
    // Rule and labels tell one from another.
    let keys: std::collections::BTreeSet<_> = findings.iter().map(|f| (f.rule.clone(), f.labels.clone())).collect();
    assert_eq!(keys.len(), findings.len());
}

proptest! {
    #[test]
    fn a_token_is_one_word_after_another(name in "[a-z_]{1,10}", label: String, value: String, number: f64) {
        let check = Check {
            name: name.into(),
            outcome: Outcome::Failed,
            labels: [(label, value)].into(),
            quantity: "count".into(),
            value: Some(number),
            limit: None,
            reason: String::new(),
        };
        let token = check.token();
        prop_assert!(token.split(' ').count() == 3 && token.is_ascii(), "{}", token);
        prop_assert!(!token.contains(['"', '\'', ';', ',', '\n', '\\', '$']), "{}", token);
    }

    #[test]
    fn any_samples_give_each_check_an_answer(values in prop::collection::vec(prop::num::f64::NORMAL | prop::num::f64::ZERO, 400)) {
        let now = samples("sick", ROOMY);
        let mangled: Vec<Sample> = now.iter().zip(values.iter().cycle())
            .map(|(sample, value)| Sample { value: *value, ..sample.clone() })
            .collect();
        let checks = check(&mangled, Some((&now, 0.5)), &Limits::default());
        for name in names() {
            prop_assert!(checks.iter().any(|check| check.name == name));
        }
        for check in &checks {
            prop_assert!(check.is_wrong() == check.finding().is_some());
        }
    }
}
