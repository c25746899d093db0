//! Whole nodes, from trees of files that stand in for procfs and sysfs (`tests/data/node`).

use super::*;
use crate::watch::Kind;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/node").join(name)
}

/// A node whose file systems all have this to say.
fn space(path: &Path) -> std::io::Result<Space> {
    match path.exists() {
        true => Ok(Space { size: 1000, free: 600, available: 500, files: 100, files_free: 50, read_only: false }),
        false => Err(std::io::ErrorKind::NotFound.into()),
    }
}

/// A sampler of the node `name` whose file systems are made up.
pub(crate) fn sampler(root: &Path) -> Sampler {
    let tiers = vec!["/scratch".into(), "/local".into()];
    Sampler::new(Roots::below(root), tiers).with_probe(&Probe::new(space)).with_patience(Duration::from_secs(60))
}

fn values(samples: &[Sample]) -> BTreeMap<String, f64> {
    samples.iter().map(|sample| (sample.series.to_string(), sample.value)).collect()
}

#[test]
fn a_large_node_is_known_in_all_its_parts() {
    let samples = sampler(&fixture("healthy")).sample();
    let values = values(&samples);
    let group = "/sys/fs/cgroup/system.slice/slurmstepd.scope/job_4711";
    let own = format!("{group}/step_0/user/task_0");
    for (series, value) in [
        (r#"node_cpu_seconds_total{mode="user"}"#, 64_000.0),
        (r#"node_cpu_seconds_total{mode="steal"}"#, 0.0),
        ("node_load1", 61.25),
        ("node_processes_threads", 2048.0),
        ("node_procs_blocked", 1.0),
        ("node_boot_time_seconds", 1.76e9),
        ("piton_node_cpus", 64.0),
        (r#"node_cpu_core_throttles_total{core="1",package="1"}"#, 0.0),
        ("node_memory_MemAvailable_bytes", 310_000_000.0 * 1024.0),
        ("node_vmstat_pgmajfault", 1234.0),
        ("node_vmstat_oom_kill", 0.0),
        ("node_pressure_cpu_waiting_seconds_total", 123.456_789),
        ("node_pressure_io_stalled_seconds_total", 44.0),
        (r#"piton_node_pressure_waiting_ratio{resource="cpu"}"#, 0.125),
        (r#"piton_node_pressure_stalled_ratio{resource="io"}"#, 0.0075),
        (&format!("piton_node_cgroup_memory_limit_bytes{{group={group:?}}}"), 274_877_906_944.0),
        (&format!("piton_node_cgroup_memory_usage_bytes{{group={own:?}}}"), 137_438_953_472.0),
        (&format!("piton_node_cgroup_oom_kills_total{{group={own:?}}}"), 0.0),
        (&format!("piton_node_cgroup_cpu_throttled_seconds_total{{group={own:?}}}"), 1.5),
        (&format!("piton_node_cgroup_memory_stalled_seconds_total{{group={own:?}}}"), 0.125),
        (&format!("piton_node_cgroup_processes{{group={own:?}}}"), 66.0),
        (r#"node_disk_written_bytes_total{device="nvme0n1"}"#, 80_000_000.0 * 512.0),
        (r#"node_disk_io_now{device="nvme0n1"}"#, 2.0),
        (r#"node_disk_write_time_seconds_total{device="nvme0n1"}"#, 340.0),
        (r#"node_disk_flush_requests_total{device="nvme0n1"}"#, 4000.0),
        (r#"piton_node_scsi_io_errors_total{device="sdb"}"#, 2.0),
        (r#"piton_node_scsi_running{device="sdb"}"#, 1.0),
        (r#"piton_node_nvme_live{device="nvme0"}"#, 1.0),
        (r#"node_md_degraded{device="md127"}"#, 0.0),
        (r#"piton_node_md_device_errors_total{device="md127",disk="sdd"}"#, 0.0),
        (r#"piton_node_ext4_errors_total{device="nvme0n1p2"}"#, 0.0),
        (r#"piton_node_filesystem_hung{path="/scratch"}"#, 0.0),
        (r#"node_filesystem_avail_bytes{path="/scratch"}"#, 500.0),
        (r#"node_filesystem_readonly{path="/tmp"}"#, 0.0),
        (
            r#"piton_node_filesystem_info{device="10.0.0.1@o2ib:/scratch",fstype="lustre",mountpoint="/scratch",path="/scratch"}"#,
            1.0,
        ),
        (r#"piton_node_filesystem_info{device="/dev/nvme0n1p2",fstype="ext4",mountpoint="/",path="/tmp"}"#, 1.0),
        (r#"node_network_receive_drop_total{device="eno1"}"#, 12.0),
        (r#"node_network_transmit_bytes_total{device="ib0"}"#, 44_444_444.0),
        (r#"node_network_speed_bytes{device="eno1"}"#, 3.125e9),
        (r#"node_network_up{device="eno1"}"#, 1.0),
        (r#"node_network_carrier_changes_total{device="eno1"}"#, 1.0),
        ("node_netstat_Tcp_RetransSegs", 9000.0),
        ("node_netstat_TcpExt_TCPTimeouts", 40.0),
        (r#"node_infiniband_state_id{device="mlx5_0",port="1"}"#, 4.0),
        (r#"node_infiniband_rate_bytes_per_second{device="mlx5_0",port="1"}"#, 25e9),
        (r#"node_infiniband_port_data_transmitted_bytes_total{device="mlx5_0",port="1"}"#, 2e6),
        (r#"piton_node_infiniband_errors_total{device="mlx5_0",port="1",type="out_of_sequence"}"#, 7.0),
        (r#"node_hwmon_temp_celsius{chip="platform_coretemp_1",sensor="temp1"}"#, 61.0),
        (r#"node_hwmon_temp_crit_celsius{chip="platform_coretemp_1",sensor="temp1"}"#, 100.0),
        (r#"node_hwmon_temp_celsius{chip="platform_nct6775_656",sensor="temp1"}"#, -5.0),
        (r#"node_hwmon_in_volts{chip="platform_nct6775_656",sensor="in2"}"#, 12.096),
        (r#"node_hwmon_fan_rpm{chip="platform_nct6775_656",sensor="fan1"}"#, 8400.0),
        (r#"node_hwmon_power_average_watt{chip="platform_nct6775_656",sensor="power1"}"#, 350.0),
        (r#"node_hwmon_curr_amps{chip="platform_nct6775_656",sensor="curr1"}"#, 29.0),
        (r#"node_hwmon_chip_names{chip="platform_nct6775_656",chip_name="nct6779"}"#, 1.0),
        (r#"piton_node_hwmon_limit_alarm{chip="platform_coretemp_0",limit="crit",sensor="temp1"}"#, 0.0),
        (r#"node_thermal_zone_temp{type="x86_pkg_temp",zone="0"}"#, 60.0),
        (r#"piton_node_thermal_zone_crit_celsius{type="x86_pkg_temp",zone="0"}"#, 105.0),
        (r#"node_edac_correctable_errors_total{controller="1"}"#, 0.0),
        (r#"piton_node_edac_dimm_uncorrectable_errors_total{controller="0",dimm="dimm0",label="A1"}"#, 0.0),
        (r#"piton_node_pcie_errors_total{device="0000:3b:00.0",severity="fatal"}"#, 0.0),
        (r#"piton_node_boot_info{boot_id="11111111-2222-3333-4444-555555555555"}"#, 1.0),
        ("piton_node_kernel_tainted", 0.0),
        ("node_kernel_hung_tasks_total", 0.0),
        ("node_filefd_allocated", 9120.0),
    ] {
        let found = values.get(series).unwrap_or_else(|| panic!("{series} is missing"));
        assert!((found - value).abs() <= 1e-9 * value.abs(), "{series}: {found}, not {value}");
    }
    // A clock and GPUs are those of this machine, not of the tree.
    let absent = [
        "\"lo\"",
        "veth",
        "loop0",
        "io_now{device=\"nvme0n1p2",
        "0000:00:1f.0",
        "task_0\",limit",
        "timex",
        "gpu",
        "features",
    ];
    for absent in absent {
        let found = values.keys().find(|series| series.contains(absent));
        assert!(found.is_none_or(|series| series.contains("filesystem_info")), "{absent}: {found:?}");
    }
    assert!(!values.contains_key(&format!("piton_node_cgroup_memory_limit_bytes{{group={own:?}}}")), "no limit");
}

#[test]
fn every_series_is_there_once_and_a_counter_says_so() {
    for name in ["healthy", "sick", "bare"] {
        let samples = sampler(&fixture(name)).sample();
        let series: BTreeSet<_> = samples.iter().map(|sample| &sample.series).collect();
        assert_eq!(series.len(), samples.len(), "{name}");
        for sample in &samples {
            let name = &sample.series.name;
            assert!(name.starts_with("node_") || name.starts_with("piton_node_"), "{name}");
            if name.ends_with("_total") {
                assert_eq!(sample.kind, Kind::Counter, "{name}");
            }
        }
    }
}

#[test]
fn what_a_small_node_lacks_is_absent() {
    let samples = sampler(&fixture("bare")).sample();
    let values = values(&samples);
    let job = "/sys/fs/cgroup/memory/slurm/uid_1000/job_7";
    for (series, value) in [
        (r#"node_cpu_seconds_total{mode="steal"}"#.to_owned(), 80.0),
        (format!("piton_node_cgroup_memory_limit_bytes{{group={job:?}}}"), 2_147_483_648.0),
        (format!("piton_node_cgroup_oom_kills_total{{group={job:?}}}"), 1.0),
        (format!("piton_node_cgroup_memory_limit_hits_total{{group={job:?}}}"), 44.0),
        (
            r#"piton_node_cgroup_cpu_throttled_seconds_total{group="/sys/fs/cgroup/cpu,cpuacct/slurm/uid_1000/job_7"}"#
                .to_owned(),
            2.5,
        ),
        (r#"node_disk_reads_completed_total{device="vda"}"#.to_owned(), 100.0),
        // The tiers are asked for by name and are not there; /tmp is.
        (r#"node_filesystem_device_error{path="/scratch"}"#.to_owned(), 1.0),
        (r#"node_filesystem_device_error{path="/tmp"}"#.to_owned(), 0.0),
    ] {
        assert_eq!(values.get(&series), Some(&value), "{series}");
    }
    let unlimited = "piton_node_cgroup_memory_limit_bytes{group=\"/sys/fs/cgroup/memory/slurm/uid_1000\"}";
    assert!(!values.contains_key(unlimited));
    for absent in
        ["hwmon", "thermal", "edac", "infiniband", "pcie", "pressure", "oom_kill{", "throttles", "md", "hung_tasks"]
    {
        let found = values.keys().find(|series| series.split('{').next().unwrap_or_default().contains(absent));
        assert_eq!(found.filter(|series| !series.contains("cgroup")), None, "{absent}");
    }
    assert_eq!(
        sampler(Path::new("/nowhere")).sample().iter().filter(|s| !s.series.name.contains("filesystem")).count(),
        0
    );
}

#[test]
fn the_groups_of_another_process_are_found_by_its_number() {
    let folder = tempfile::tempdir().unwrap();
    copy(&fixture("bare"), folder.path());
    fs::create_dir_all(folder.path().join("proc/42")).unwrap();
    fs::write(folder.path().join("proc/42/cgroup"), "4:memory:/slurm/uid_1000\n").unwrap();
    let samples = control_groups_of(&Roots::below(folder.path()), 42);
    let groups: BTreeSet<_> = samples.iter().filter_map(|sample| sample.series.label("group")).collect();
    assert!(groups.contains("/sys/fs/cgroup/memory/slurm/uid_1000") && groups.len() == 1, "{groups:?}");
    assert!(control_groups_of(&Roots::below(folder.path()), 43).is_empty());
}

/// Copies a tree, links and all.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        let kind = entry.file_type().unwrap();
        if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(entry.path()).unwrap(), target).unwrap();
        } else if kind.is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The files of a tree, and none by two ways.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()).collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            files(&entry.path(), found);
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
}

/// Samples that make sense, whatever the files hold.
fn sensible(samples: &[Sample]) {
    for sample in samples {
        assert!(sample.value.is_finite(), "{}", sample.series);
        for (label, value) in &sample.series.labels {
            assert!(value.chars().count() <= 200 && !value.contains(char::is_control), "{label}: {value:?}");
        }
        // Of what may lie below zero there is nothing but temperatures, voltages, and currents.
        let signed = ["celsius", "_volts", "_amps", "_temp"].iter().any(|unit| sample.series.name.contains(unit));
        assert!(sample.value >= 0.0 || signed, "{} {}", sample.series, sample.value);
    }
}

#[test]
fn files_full_of_nonsense_are_left_out() {
    let folder = tempfile::tempdir().unwrap();
    copy(&fixture("sick"), folder.path());
    let mut paths = Vec::new();
    files(folder.path(), &mut paths);
    let huge = vec![b'7'; 2 << 20];
    let lines = "cpu 1 2 3\neth0: 9 9 9\nTcp: a b\n 8 0 sda 1 1 1\n".repeat(60_000);
    let contents: [&[u8]; 12] = [
        b"",
        b"\n\n\n",
        b"\0\xff\xfe\x80\n\x1b[31m",
        b"-9223372036854775808\n",
        b"-1",
        b"18446744073709551616\n",
        b"1e308 1e309 inf nan NaN -inf\n",
        b"0x\n0xffffffffffffffffff\n",
        b": : : = = / ( ) - - 1: 2: 3:\n",
        b"some avg10=nan total=-1\nfull avg10=1e999 total=x\n",
        &huge,
        lines.as_bytes(),
    ];
    for content in contents {
        for path in &paths {
            // An attribute of sysfs is too long by far at that length.
            let longest = if path.starts_with(folder.path().join("proc")) { content.len() } else { 8192 };
            fs::write(path, &content[..content.len().min(longest)]).unwrap();
        }
        let samples = sampler(folder.path()).sample();
        sensible(&samples);
        // Whatever is no count is none: what is left are file systems, states, and names.
        if content == b"" {
            let counters = samples.iter().filter(|sample| sample.kind == Kind::Counter).count();
            assert_eq!(counters, 0);
        }
    }
    // Folders where files should be, and files where folders should be.
    for path in &paths {
        fs::remove_file(path).unwrap();
        fs::create_dir(path).unwrap();
    }
    sensible(&sampler(folder.path()).sample());
    fs::remove_dir_all(folder.path().join("sys")).unwrap();
    fs::create_dir_all(folder.path().join("sys/class")).unwrap();
    for path in ["class/net", "class/hwmon", "class/infiniband", "block", "fs", "devices", "bus"] {
        fs::write(folder.path().join("sys").join(path), "a file").unwrap();
    }
    sensible(&sampler(folder.path()).sample());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_mangled_node_is_still_sampled(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>(), 0_u8..4), 1..400)
    ) {
        let folder = tempfile::tempdir().unwrap();
        copy(&fixture("sick"), folder.path());
        let mut paths = Vec::new();
        files(folder.path(), &mut paths);
        for (which, place, byte, how) in changes {
            let path = which.get(&paths);
            let mut bytes = fs::read(path).unwrap();
            let at = if bytes.is_empty() { 0 } else { place.index(bytes.len()) };
            match how {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, byte),
                2 if !bytes.is_empty() => bytes[at] = byte,
                _ => bytes.extend_from_within(at..),
            }
            fs::write(path, bytes).unwrap();
        }
        sensible(&sampler(folder.path()).sample());
    }
}

#[test]
fn a_file_system_that_hangs_hangs_nobody() {
    let (release, gate) = channel::<()>();
    let gate = Mutex::new(gate);
    let asked = Arc::new(Mutex::new(BTreeMap::<PathBuf, usize>::new()));
    let count = Arc::clone(&asked);
    let root = fixture("healthy");
    let scratch = root.join("scratch");
    let probe = Probe::new(move |path| {
        *count.lock().unwrap().entry(path.to_owned()).or_default() += 1;
        if path == scratch {
            // Until the test lets it go; at once when the test is over.
            let _ = gate.lock().unwrap().recv();
        }
        space(path)
    });
    let hung = r#"piton_node_filesystem_hung{path="/scratch"}"#;
    let tiers = vec!["/scratch".into()];
    let mut sampler =
        Sampler::new(Roots::below(&root), tiers).with_probe(&probe).with_patience(Duration::from_millis(200));
    for _ in 0..20 {
        let values = values(&sampler.sample());
        assert_eq!(values[hung], 1.0);
        assert_eq!(values[r#"piton_node_filesystem_hung{path="/tmp"}"#], 0.0);
        assert!(!values.contains_key(r#"node_filesystem_avail_bytes{path="/scratch"}"#));
        assert!(values.contains_key(r#"piton_node_filesystem_probe_seconds{path="/scratch"}"#));
    }
    let times = |path: &str| asked.lock().unwrap().get(&root.join(path)).copied();
    assert_eq!((times("scratch"), times("tmp")), (Some(1), Some(20)), "one question, and one thread, while it hangs");
    // It comes back, and stays.
    drop(release);
    loop {
        let values = values(&sampler.sample());
        if values[hung] == 0.0 {
            assert_eq!(values[r#"node_filesystem_avail_bytes{path="/scratch"}"#], 500.0);
            break;
        }
        std::thread::yield_now();
    }
    assert_eq!(values(&sampler.sample())[hung], 0.0);
}

#[test]
fn this_machine_is_sampled_cheaply() {
    let mut sampler = Sampler::new(Roots::default(), vec!["/".into()]).with_patience(Duration::from_secs(60));
    let first = sampler.sample();
    sensible(&first);
    let values = values(&first);
    if cfg!(target_os = "linux") {
        for series in ["node_load1", "node_memory_MemTotal_bytes", "node_timex_maxerror_seconds"] {
            assert!(values.contains_key(series), "{series}");
        }
    }
    assert!(values[r#"node_filesystem_size_bytes{path="/"}"#] > 0.0);
    let clock = || {
        let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap();
        time.tv_sec() as f64 + time.tv_nsec() as f64 * 1e-9
    };
    let (since, times) = (clock(), 50);
    let count: usize = (0..times).map(|_| sampler.sample().len()).sum();
    let seconds = (clock() - since) / f64::from(times);
    println!("{} values in {:.3} ms of processor time", count / times as usize, seconds * 1e3);
    // Of this thread, so that it does not depend on what else runs; a debug build takes a few times as long.
    assert!(seconds < 0.050, "{seconds} s for one sample");
}

/// The stand-in for NVIDIA's library; `None` where there is no C compiler.
fn library(folder: &Path, flags: &[&str]) -> Option<PathBuf> {
    let library = folder.join("libnvidia-ml.so");
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .arg(&library)
        .args(flags)
        .arg(fixture("gpu/fake_nvml.c"))
        .status();
    assert!(built.is_err() || built.as_ref().is_ok_and(std::process::ExitStatus::success), "{built:?}");
    built.ok().map(|_| library)
}

fn gpus(flags: &[&str]) -> Option<BTreeMap<String, f64>> {
    let folder = tempfile::tempdir().unwrap();
    let library = library(folder.path(), flags)?;
    let mut sampler = Sampler::new(Roots::below("/nowhere"), Vec::new())
        .with_gpu_library(&library)
        .with_patience(Duration::from_secs(60));
    let values = values(&sampler.sample());
    Some(values.into_iter().filter(|(series, _)| series.contains("gpu")).collect())
}

#[test]
fn gpus_are_asked_by_their_library() {
    let Some(well) = gpus(&[]) else { return };
    for (series, value) in [
        ("piton_node_gpus", 2.0),
        ("piton_node_gpu_driver_hung", 0.0),
        (r#"piton_node_gpu_lost{gpu="GPU-0000-1"}"#, 0.0),
        (r#"piton_node_gpu_temperature_celsius{gpu="GPU-0000-1"}"#, 56.0),
        (r#"piton_node_gpu_slowdown_temperature_celsius{gpu="GPU-0000-1"}"#, 92.0),
        (r#"piton_node_gpu_power_watts{gpu="GPU-0000-0"}"#, 350.5),
        (r#"piton_node_gpu_memory_total_bytes{gpu="GPU-0000-0"}"#, (80_u64 << 30) as f64),
        (r#"piton_node_gpu_memory_used_bytes{gpu="GPU-0000-0"}"#, (20_u64 << 30) as f64),
        (r#"piton_node_gpu_busy_ratio{gpu="GPU-0000-0"}"#, 0.87),
        (r#"piton_node_gpu_memory_busy_ratio{gpu="GPU-0000-0"}"#, 0.4),
        (r#"piton_node_gpu_ecc_corrected_errors_total{gpu="GPU-0000-0"}"#, 7.0),
        (r#"piton_node_gpu_ecc_uncorrected_errors_total{gpu="GPU-0000-0"}"#, 0.0),
        (r#"piton_node_gpu_throttled{gpu="GPU-0000-0",reason="hw_thermal"}"#, 0.0),
        (r#"piton_node_gpu_row_remap_pending{gpu="GPU-0000-0"}"#, 0.0),
    ] {
        assert_eq!(well.get(series), Some(&value), "{series}: {well:?}");
    }
    let named = well.keys().find(|series| series.starts_with("piton_node_gpu_info")).unwrap();
    assert!(named.contains(&"x".repeat(96)), "a name without an end is read to the end of its room: {named}");
    assert!(!well.keys().any(|series| series.contains("retired")), "not supported is not there");
}

#[test]
fn gpus_that_are_sick_or_gone_say_so() {
    let Some(sick) = gpus(&["-DSICK"]) else { return };
    assert_eq!(sick[r#"piton_node_gpu_ecc_uncorrected_errors_total{gpu="GPU-0000-0"}"#], 3.0);
    assert_eq!(sick[r#"piton_node_gpu_throttled{gpu="GPU-0000-0",reason="hw_thermal"}"#], 1.0);
    assert_eq!(sick[r#"piton_node_gpu_row_remap_pending{gpu="GPU-0000-0"}"#], 1.0);
    assert_eq!(sick[r#"piton_node_gpu_lost{gpu="1"}"#], 1.0);
    assert!(!sick.contains_key(r#"piton_node_gpu_temperature_celsius{gpu="1"}"#));
}

#[test]
fn an_old_library_or_none_leaves_out_what_it_does_not_know() {
    let Some(old) = gpus(&["-DOLD"]) else { return };
    assert!(old.contains_key(r#"piton_node_gpu_power_watts{gpu="GPU-0000-0"}"#));
    assert!(!old.keys().any(|series| series.contains("throttled") || series.contains("remap")));
    assert_eq!(gpus(&["-DABSENT"]), Some(BTreeMap::new()), "a library without a driver");
    let mut sampler = Sampler::new(Roots::below("/nowhere"), Vec::new()).with_gpu_library("/nowhere/libnvidia-ml.so");
    for _ in 0..2 {
        assert!(!sampler.sample().iter().any(|sample| sample.series.name.contains("gpu")));
    }
}
