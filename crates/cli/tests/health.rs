//! `piton health`, on trees of files that stand in for nodes.

mod common;

use common::{piton, text};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

fn node(name: &str) -> String {
    format!("{}/../../tests/data/node/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// How full the disk is that the tree lies on is not what is tested.
const NOT_THE_DISK: [&str; 6] =
    ["--skip", "filesystem_space", "--skip", "filesystem_inodes", "--skip", "filesystem_read_only"];

fn health(arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    piton(folder.path(), &[&["health"], &NOT_THE_DISK[..], arguments].concat())
}

fn complaint(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn a_healthy_node_is_passed_and_a_sick_one_says_why_in_one_line() {
    let output = health(&["--root", &node("bare")]);
    assert_eq!(output.status.code(), Some(0), "{}{}", text(&output), complaint(&output));
    assert!(text(&output).starts_with("bare01 is healthy: 0 failed, 0 warnings, "), "{}", text(&output));

    let output = health(&["--root", &node("sick"), "--tier", "/scratch"]);
    let printed = text(&output);
    assert_eq!(output.status.code(), Some(1), "{printed}");
    assert!(printed.contains("memory module A1 had 2 errors that can't be corrected"), "{printed}");
    assert!(printed.contains("sick01 is not healthy: 11 failed, 7 warnings, "), "{printed}");
    assert!(!printed.contains("absent  ") && !printed.contains(" ok  "), "only what is wrong: {printed}");
    let line = printed.lines().last().unwrap();
    assert!(
        line.starts_with("piton:filesystem_corrupt device=nvme0n1p2 count=4; ") && line.ends_with("; 7 more"),
        "{line}"
    );

    let all = text(&health(&["--root", &node("sick"), "--all"]));
    assert!(all.contains("gpu_uncorrected") && all.contains("absent"), "{all}");
}

#[test]
fn programs_get_every_check() {
    let output = health(&["--root", &node("sick"), "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((value["node"].as_str(), value["outcome"].as_str()), (Some("sick01"), Some("failed")));
    assert_eq!(value["drained"], false);
    let checks = value["checks"].as_array().unwrap();
    let memory = checks.iter().find(|check| check["name"] == "ecc_uncorrected").unwrap();
    assert_eq!((memory["labels"]["dimm"].as_str(), memory["value"].as_f64()), (Some("A1"), Some(2.0)));
    assert!(value["reason"].as_str().unwrap().starts_with("piton:"));

    let value: Value = serde_json::from_slice(&health(&["--root", &node("bare"), "--json"]).stdout).unwrap();
    assert_eq!((value["outcome"].as_str(), value["reason"].as_str()), (Some("ok"), None));
}

#[test]
fn warnings_fail_only_where_it_is_asked_and_checks_can_be_left_out() {
    let root = node("healthy");
    let output = health(&["--root", &root]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains("is healthy: 0 failed, 1 warning, "), "{}", text(&output));
    let output = health(&["--root", &root, "--warnings-fail"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).ends_with("piton:infiniband_link device=mlx5_0 port=2 state=1\n"), "{}", text(&output));
    let output = health(&["--root", &root, "--warnings-fail", "--skip", "infiniband_link"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
}

#[test]
fn a_tier_that_is_missing_is_a_failure_and_a_wrong_call_is_another() {
    let output = health(&["--root", &node("bare"), "--tier", "/scratch"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).ends_with("piton:filesystem_error path=/scratch\n"), "{}", text(&output));
    let output = health(&["--root", &node("bare"), "--gpus", "2"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).ends_with("piton:gpu_missing count=0\n"), "{}", text(&output));
    for wrong in [&["--skip", "nothing"][..], &["--gpus", "many"], &["--tier"]] {
        assert_eq!(health(wrong).status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn this_machine_can_be_looked_at() {
    let output = health(&["--json"]);
    assert!(matches!(output.status.code(), Some(0 | 1)), "{}", complaint(&output));
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    let root = value["checks"].as_array().unwrap().iter().find(|check| check["name"] == "filesystem_hung").unwrap();
    assert_eq!(root["outcome"], "ok", "{root}");
}

/// A node whose kernel never answers: to open one of its files takes for ever.
#[test]
fn it_ends_whatever_hangs() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("proc")).unwrap();
    let made = Command::new("mkfifo").arg(folder.path().join("proc/stat")).status().unwrap();
    assert!(made.success());
    let since = Instant::now();
    let output = health(&["--root", folder.path().to_str().unwrap(), "--deadline", "1"]);
    assert_eq!(output.status.code(), Some(1), "{}", complaint(&output));
    assert!(text(&output).ends_with("piton:health_hung seconds=1\n"), "{}", text(&output));
    assert!(since.elapsed() < Duration::from_secs(20), "{:?}", since.elapsed());
}

/// A folder with a `scontrol` that writes down how it is called, and shows the node like this.
fn scontrol(folder: &Path, shows: &str, update: &str) -> PathBuf {
    let program = folder.join("scontrol");
    let script = format!(
        "#!/bin/sh\nprintf '%s|' \"$@\" >> {calls}\necho >> {calls}\n\
         if [ \"$1\" = update ]; then {update}\nelse echo '{shows}'; fi\n",
        calls = folder.join("calls").display()
    );
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    program
}

/// Runs it with that `scontrol` first on the PATH; what it was called with.
fn drain(folder: &Path, arguments: &[&str]) -> (Output, Vec<String>) {
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    let output = Command::new(env!("CARGO_BIN_EXE_piton"))
        .current_dir(folder)
        .env("PATH", path)
        .env_remove("SLURMD_NODENAME")
        .arg("health")
        .args(NOT_THE_DISK)
        .args(arguments)
        .output()
        .unwrap();
    let calls = std::fs::read_to_string(folder.join("calls")).unwrap_or_default();
    (output, calls.lines().filter(|call| call.starts_with("update|")).map(str::to_owned).collect())
}

#[test]
fn a_node_is_drained_when_it_is_asked_and_on_a_failure_only() {
    let folder = tempfile::tempdir().unwrap();
    scontrol(folder.path(), "NodeName=sick01 State=IDLE ThreadsPerCore=1", "exit 0");
    let missing = ["--root", &node("bare"), "--tier", "/scratch"];
    let (output, calls) = drain(folder.path(), &missing);
    assert_eq!((output.status.code(), calls.len()), (Some(1), 0), "not asked");
    let (output, calls) = drain(folder.path(), &["--root", &node("bare"), "--drain"]);
    assert_eq!((output.status.code(), calls.len()), (Some(0), 0), "no failure");

    let (output, calls) = drain(folder.path(), &[&missing[..], &["--drain"]].concat());
    assert_eq!(output.status.code(), Some(1), "{}", complaint(&output));
    let reason = "Reason=piton:filesystem_error path=/scratch|";
    assert_eq!(calls, [format!("update|NodeName=bare01|State=DRAIN|{reason}")]);
    assert!(text(&output).ends_with("bare01 is drained\n"), "{}", text(&output));
    let (_, calls) = drain(folder.path(), &[&missing[..], &["--drain", "gpu-007"]].concat());
    assert_eq!(calls.last(), Some(&format!("update|NodeName=gpu-007|State=DRAIN|{reason}")));
}

#[test]
fn the_reason_of_whoever_drained_a_node_before_stays() {
    let shown = |reason: &str| format!("NodeName=bare01 State=IDLE+DRAIN ThreadsPerCore=1 Reason={reason} [root@2026]");
    let arguments = ["--root", &node("bare"), "--tier", "/scratch", "--drain"];
    for (reason, updates) in
        [("replace the disk", 0), ("piton:filesystem_error path=/scratch", 0), ("piton:load load=99", 1)]
    {
        let folder = tempfile::tempdir().unwrap();
        scontrol(folder.path(), &shown(reason), "exit 0");
        let (output, calls) = drain(folder.path(), &arguments);
        assert_eq!((output.status.code(), calls.len()), (Some(1), updates), "{reason}: {}", complaint(&output));
    }
}

#[test]
fn a_node_that_could_not_be_drained_is_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    scontrol(folder.path(), "NodeName=bare01 State=IDLE", "echo 'Invalid node name specified' >&2; exit 1");
    let arguments = ["--root", &node("bare"), "--tier", "/scratch", "--drain"];
    let (output, _) = drain(folder.path(), &arguments);
    assert_eq!(output.status.code(), Some(2));
    let said = complaint(&output);
    assert!(said.contains("bare01 could not be drained") && said.contains("Invalid node name"), "{said}");
    assert!(text(&output).contains("piton:filesystem_error path=/scratch"), "what is wrong is said all the same");
    let (output, _) = drain(folder.path(), &[&arguments[..], &["n[1-9]"]].concat());
    assert_eq!(output.status.code(), Some(2));
    assert!(complaint(&output).contains("not the name of one node"), "{}", complaint(&output));
}
