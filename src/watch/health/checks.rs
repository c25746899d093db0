//! The checks, one a function: what each looks at, and where it draws the line.

use super::Outcome::{Failed, Warning};
use super::view::{View, labels};
use super::{Limits, Measured, Report, figure};
use crate::watch::{Action, Labels, Sample};

type Function = fn(&View<'_>, &Limits, &mut Report);

/// Name, what is to be done besides telling when it fails, and the check.
pub(super) const CHECKS: [(&str, Action, Function); 31] = [
    ("filesystem_hung", Action::Nothing, filesystem_hung),
    ("filesystem_error", Action::Nothing, filesystem_error),
    ("filesystem_read_only", Action::Nothing, filesystem_read_only),
    ("filesystem_space", Action::Nothing, filesystem_space),
    ("filesystem_inodes", Action::Nothing, filesystem_inodes),
    ("filesystem_corrupt", Action::Checkpoint, filesystem_corrupt),
    ("disk_state", Action::Checkpoint, disk_state),
    ("ecc_uncorrected", Action::MarkNode, ecc_uncorrected),
    ("ecc_corrected", Action::Nothing, ecc_corrected),
    ("memory_corrupted", Action::Nothing, memory_corrupted),
    ("temperature", Action::Checkpoint, temperature),
    ("voltage", Action::Checkpoint, voltage),
    ("fan", Action::Checkpoint, fan),
    ("power", Action::Nothing, power),
    ("throttling", Action::Nothing, throttling),
    ("pcie_errors", Action::MarkNode, pcie_errors),
    ("infiniband_link", Action::MarkNode, infiniband_link),
    ("infiniband_errors", Action::Nothing, infiniband_errors),
    ("network_link", Action::Nothing, network_link),
    ("network_errors", Action::Nothing, network_errors),
    ("gpu_driver_hung", Action::MarkNode, gpu_driver_hung),
    ("gpu_missing", Action::MarkNode, gpu_missing),
    ("gpu_uncorrected", Action::MarkNode, gpu_uncorrected),
    ("gpu_memory_repair", Action::MarkNode, gpu_memory_repair),
    ("gpu_temperature", Action::Nothing, gpu_temperature),
    ("memory_available", Action::Checkpoint, memory_available),
    ("swap_storm", Action::Nothing, swap_storm),
    ("oom_kills", Action::Nothing, oom_kills),
    ("hung_tasks", Action::Checkpoint, hung_tasks),
    ("load", Action::Nothing, load),
    ("clock", Action::Nothing, clock),
];

pub(super) fn action(name: &str) -> Action {
    CHECKS.iter().find(|(known, ..)| *known == name).map_or(Action::Nothing, |(_, action, _)| *action)
}

fn count(value: f64) -> Measured {
    Measured("count", value, Some(0.0))
}

/// `1 error`, `2 errors`; with what kind of errors they are.
fn errors(number: f64, kind: &str) -> String {
    let (space, plural) = (if kind.is_empty() { "" } else { " " }, if number == 1.0 { "" } else { "s" });
    format!("{number}{space}{kind} error{plural}")
}

/// What a thing is called by one of its labels.
fn name<'a>(sample: &'a Sample, label: &str) -> &'a str {
    sample.series.label(label).unwrap_or("?")
}

/// What is not 1 of this gauge, or not 0.
fn state(view: &View<'_>, report: &mut Report, series: &str, well: f64, mut wrong: impl FnMut(&mut Report, &Sample)) {
    for sample in view.all(series) {
        report.see();
        if sample.value != well {
            wrong(report, sample);
        }
    }
}

fn filesystem_hung(view: &View<'_>, _: &Limits, report: &mut Report) {
    state(view, report, "piton_node_filesystem_hung", 0.0, |report, sample| {
        let seconds = view.beside(sample, "piton_node_filesystem_probe_seconds").unwrap_or(0.0);
        let reason = format!("{} has not answered for {seconds:.1} s", name(sample, "path"));
        report.wrong(Failed, labels(sample), Measured("seconds", seconds, None), reason);
    });
}

fn filesystem_error(view: &View<'_>, _: &Limits, report: &mut Report) {
    state(view, report, "node_filesystem_device_error", 0.0, |report, sample| {
        let reason = format!("{} is missing, or its file system answers with an error", name(sample, "path"));
        report.wrong(Failed, labels(sample), Measured("", 1.0, None), reason);
    });
}

fn filesystem_read_only(view: &View<'_>, _: &Limits, report: &mut Report) {
    state(view, report, "node_filesystem_readonly", 0.0, |report, sample| {
        let path = name(sample, "path");
        // Some systems never write to their root; where an error made it so, `filesystem_corrupt` fails.
        let outcome = if path == "/" { Warning } else { Failed };
        report.wrong(outcome, labels(sample), Measured("", 1.0, None), format!("{path} can only be read"));
    });
}

fn filesystem_space(view: &View<'_>, limits: &Limits, report: &mut Report) {
    let series = ("node_filesystem_avail_bytes", "node_filesystem_size_bytes");
    left(view, limits, report, series, "space");
}

fn filesystem_inodes(view: &View<'_>, limits: &Limits, report: &mut Report) {
    let series = ("node_filesystem_files_free", "node_filesystem_files");
    left(view, limits, report, series, "inodes");
}

fn left(view: &View<'_>, limits: &Limits, report: &mut Report, series: (&str, &str), what: &str) {
    for sample in view.all(series.0) {
        // Those that count none, as btrfs does of inodes, have no limit.
        let Some(total) = view.beside(sample, series.1).filter(|total| *total > 0.0) else { continue };
        report.see();
        let ratio = sample.value / total;
        let (outcome, limit) = match ratio {
            ratio if ratio < limits.space_failed => (Failed, limits.space_failed),
            ratio if ratio < limits.space_warning => (Warning, limits.space_warning),
            _ => continue,
        };
        let reason = format!("{:.1} % of the {what} of {} is left", ratio * 100.0, name(sample, "path"));
        report.wrong(outcome, labels(sample), Measured("ratio", ratio, Some(limit)), reason);
    }
}

fn filesystem_corrupt(view: &View<'_>, _: &Limits, report: &mut Report) {
    state(view, report, "piton_node_ext4_errors_total", 0.0, |report, sample| {
        let reason = format!(
            "ext4 on {} has met {} since it was checked last: run e2fsck",
            name(sample, "device"),
            errors(sample.value, "")
        );
        report.wrong(Failed, labels(sample), count(sample.value), reason);
    });
    state(view, report, "node_btrfs_device_errors_total", 0.0, |report, sample| {
        let (uuid, kind) = (name(sample, "uuid"), name(sample, "type"));
        let reason = format!("btrfs {uuid} has met {}: see btrfs device stats", errors(sample.value, kind));
        report.wrong(Failed, labels(sample), count(sample.value), reason);
    });
}

fn disk_state(view: &View<'_>, _: &Limits, report: &mut Report) {
    for series in ["piton_node_scsi_running", "piton_node_nvme_live"] {
        state(view, report, series, 1.0, |report, sample| {
            let reason = format!("the system has given up on disk {}", name(sample, "device"));
            report.wrong(Failed, labels(sample), Measured("", 0.0, None), reason);
        });
    }
    state(view, report, "node_md_degraded", 0.0, |report, sample| {
        let reason = format!("{} lacks {} of its disks", name(sample, "device"), sample.value);
        report.wrong(Warning, labels(sample), count(sample.value), reason);
    });
}

/// What a memory module is called: by its label, or by its place where it has none of its own.
fn module(sample: &Sample) -> Labels {
    let (label, dimm) = (name(sample, "label"), name(sample, "dimm"));
    let place = || format!("mc{}_{dimm}", name(sample, "controller"));
    let label = if label == dimm { place() } else { label.to_owned() };
    [("dimm".to_owned(), label)].into()
}

fn ecc_uncorrected(view: &View<'_>, _: &Limits, report: &mut Report) {
    let modules = view.all("piton_node_edac_dimm_uncorrectable_errors_total");
    state(view, report, "piton_node_edac_dimm_uncorrectable_errors_total", 0.0, |report, sample| {
        let labels = module(sample);
        let reason =
            format!("memory module {} had {} that can't be corrected", labels["dimm"], errors(sample.value, ""));
        report.wrong(Failed, labels, count(sample.value), reason);
    });
    state(view, report, "node_edac_uncorrectable_errors_total", 0.0, |report, sample| {
        let controller = sample.series.label("controller");
        let of = modules.iter().filter(|module| module.series.label("controller") == controller);
        // Said already, module by module.
        if of.map(|module| module.value).sum::<f64>() >= sample.value {
            return;
        }
        let controller = name(sample, "controller");
        let reason = format!("memory controller {controller} had {} that can't be corrected", errors(sample.value, ""));
        report.wrong(Failed, labels(sample), count(sample.value), reason);
    });
}

fn ecc_corrected(view: &View<'_>, limits: &Limits, report: &mut Report) {
    // They hardly ever foretell one that can't be corrected (0.1 to 2.3 %): a warning, however many they are.
    for sample in view.all("piton_node_edac_dimm_correctable_errors_total") {
        report.see();
        if sample.value >= limits.corrected_errors {
            let labels = module(sample);
            let reason = format!("memory module {} had {} errors that were corrected", labels["dimm"], sample.value);
            let measured = Measured("count", sample.value, Some(limits.corrected_errors));
            report.wrong(Warning, labels, measured, reason);
        }
    }
}

fn memory_corrupted(view: &View<'_>, _: &Limits, report: &mut Report) {
    state(view, report, "node_memory_HardwareCorrupted_bytes", 0.0, |report, sample| {
        let reason = format!("{} KiB of broken memory were taken out of use", sample.value / 1024.0);
        report.wrong(Warning, labels(sample), Measured("bytes", sample.value, Some(0.0)), reason);
    });
}

fn temperature(view: &View<'_>, _: &Limits, report: &mut Report) {
    let pairs = [
        ("node_hwmon_temp_celsius", "node_hwmon_temp_crit_celsius"),
        ("node_thermal_zone_temp", "piton_node_thermal_zone_crit_celsius"),
    ];
    for (series, limit) in pairs {
        for sample in view.all(series) {
            report.see();
            // Drivers that know no limit give nonsense: 0, −273, 65261.
            let limit = view.beside(sample, limit).filter(|limit| (20.0..=200.0).contains(limit));
            let faulty = view.beside(sample, "node_hwmon_temp_fault").is_some_and(|fault| fault != 0.0);
            let Some(limit) = limit.filter(|limit| sample.value >= *limit && sample.value < 300.0 && !faulty) else {
                continue;
            };
            let reason = format!("{:.1} °C, and {limit:.0} °C is critical", sample.value);
            let measured = Measured("celsius", sample.value, Some(limit));
            report.wrong(Failed, view.sensor(sample), measured, reason);
        }
    }
    for sample in view.all("piton_node_hwmon_limit_alarm") {
        let (sensor, limit) = (name(sample, "sensor"), name(sample, "limit"));
        // `temp1_min_alarm`, `in1_crit_alarm` are not about heat.
        if !sensor.starts_with("temp") || !["crit", "emergency", "max"].contains(&limit) || sample.value == 0.0 {
            continue;
        }
        let said = |check: &super::Check| {
            check.labels.get("sensor").map(String::as_str) == Some(sensor)
                && check.labels.get("chip").map(String::as_str) == sample.series.label("chip")
        };
        if !report.found.iter().any(said) {
            let outcome = if limit == "max" { Warning } else { Failed };
            let reason = format!("the chip raises its alarm for {sensor}: {limit}");
            report.wrong(outcome, view.sensor(sample), Measured("", 1.0, None), reason);
        }
    }
}

fn voltage(view: &View<'_>, _: &Limits, report: &mut Report) {
    for sample in view.all("node_hwmon_in_volts") {
        report.see();
        let low = view.beside(sample, "node_hwmon_in_min_volts");
        let high = view.beside(sample, "node_hwmon_in_max_volts");
        // Limits that nobody has set are 0, or the other way round.
        let set = low.is_none_or(|low| high.is_none_or(|high| low < high && high > 0.0));
        let below = low.filter(|low| sample.value < *low);
        let above = high.filter(|high| sample.value > *high && *high > 0.0);
        if let (true, Some(limit)) = (set, below.or(above)) {
            let reason = format!("{} V, and {} V is the limit", figure(sample.value), figure(limit));
            report.wrong(Failed, view.sensor(sample), Measured("volts", sample.value, Some(limit)), reason);
        } else if view.beside(sample, "node_hwmon_in_alarm").is_some_and(|alarm| alarm != 0.0) {
            // Inputs that nothing is connected to raise alarms too.
            let reason = format!("{} V is within its limits, and the chip raises its alarm", figure(sample.value));
            report.wrong(Warning, view.sensor(sample), Measured("volts", sample.value, None), reason);
        }
    }
}

fn fan(view: &View<'_>, _: &Limits, report: &mut Report) {
    for sample in view.all("node_hwmon_fan_rpm") {
        report.see();
        let raised = |series: &str| view.beside(sample, series).is_some_and(|raised| raised != 0.0);
        if !raised("node_hwmon_fan_alarm") && !raised("node_hwmon_fan_fault") {
            // A socket without a fan turns at 0 as well.
            continue;
        }
        let limit = view.beside(sample, "node_hwmon_fan_min_rpm");
        let (outcome, reason) = match sample.value {
            0.0 => (Failed, "the fan stands still, and the chip raises its alarm".to_owned()),
            rpm => (Warning, format!("the fan turns at {rpm} rpm, and the chip raises its alarm")),
        };
        report.wrong(outcome, view.sensor(sample), Measured("rpm", sample.value, limit), reason);
    }
}

fn power(view: &View<'_>, _: &Limits, report: &mut Report) {
    for series in ["node_hwmon_power_alarm", "node_hwmon_curr_alarm"] {
        state(view, report, series, 0.0, |report, sample| {
            let reason = format!("the chip raises its alarm for {}", name(sample, "sensor"));
            report.wrong(Warning, view.sensor(sample), Measured("", 1.0, None), reason);
        });
    }
}

fn throttling(view: &View<'_>, _: &Limits, report: &mut Report) {
    for sample in view.all("node_cpu_package_throttles_total") {
        report.see();
        if let Some(times) = view.growth(sample).filter(|times| *times > 0.0) {
            let package = name(sample, "package");
            let reason = format!("the processors of package {package} are being slowed down for heat");
            report.wrong(Warning, labels(sample), count(times), reason);
        }
    }
}

fn pcie_errors(view: &View<'_>, _: &Limits, report: &mut Report) {
    for sample in view.all("piton_node_pcie_errors_total") {
        report.see();
        let outcome = match name(sample, "severity") {
            "fatal" => Failed,
            "nonfatal" => Warning,
            // Links correct errors all the time.
            _ => continue,
        };
        if sample.value > 0.0 {
            let (device, severity) = (name(sample, "device"), name(sample, "severity"));
            let reason = format!("{} on the link of PCI device {device}", errors(sample.value, severity));
            report.wrong(outcome, labels(sample), count(sample.value), reason);
        }
    }
}

fn infiniband_link(view: &View<'_>, _: &Limits, report: &mut Report) {
    const ACTIVE: f64 = 4.0;
    const DISABLED: f64 = 3.0;
    const LINK_UP: f64 = 5.0;
    let ports = view.all("node_infiniband_state_id");
    let any_active = ports.iter().any(|port| port.value == ACTIVE);
    for sample in ports {
        report.see();
        let physical = view.beside(sample, "node_infiniband_physical_state_id");
        // Somebody has switched it off.
        if sample.value == ACTIVE || physical == Some(DISABLED) {
            continue;
        }
        let downs = view.beside(sample, "node_infiniband_link_downed_total");
        // Adapters with two ports often have one cable: then the other port has never been up.
        let (outcome, why) = if physical == Some(LINK_UP) {
            (Failed, "has a link and is not active: is there a subnet manager?")
        } else if !any_active {
            (Failed, "is down, and no other is up")
        } else if downs.is_none_or(|downs| downs > 0.0) {
            (Failed, "is down, and has been up")
        } else {
            (Warning, "is down, and has not been up since boot")
        };
        let reason = format!("port {} of {} {why}", name(sample, "port"), name(sample, "device"));
        report.wrong(outcome, labels(sample), Measured("state", sample.value, Some(ACTIVE)), reason);
    }
}

fn infiniband_errors(view: &View<'_>, _: &Limits, report: &mut Report) {
    let series = [
        "node_infiniband_link_downed_total",
        "node_infiniband_link_error_recovery_total",
        "node_infiniband_symbol_error_total",
        "node_infiniband_port_errors_received_total",
        "node_infiniband_local_link_integrity_errors_total",
        "node_infiniband_excessive_buffer_overrun_errors_total",
    ];
    for series in series {
        for sample in view.all(series) {
            report.see();
            if let Some(errors) = view.growth(sample).filter(|errors| *errors > 0.0) {
                let what = series.trim_start_matches("node_infiniband_").trim_end_matches("_total");
                let (port, device) = (name(sample, "port"), name(sample, "device"));
                let reason = format!("{what} of port {port} of {device} is growing");
                let mut labels = labels(sample);
                labels.insert("type".into(), what.into());
                report.wrong(Warning, labels, count(errors), reason);
            }
        }
    }
}

fn network_link(view: &View<'_>, _: &Limits, report: &mut Report) {
    state(view, report, "node_network_carrier", 1.0, |report, sample| {
        let reason = format!("{} is in use and has no link", name(sample, "device"));
        report.wrong(Warning, labels(sample), Measured("", 0.0, None), reason);
    });
}

fn network_errors(view: &View<'_>, limits: &Limits, report: &mut Report) {
    let pairs = [
        ("node_network_receive_errs_total", "node_network_receive_packets_total", "receives"),
        ("node_network_transmit_errs_total", "node_network_transmit_packets_total", "sends"),
    ];
    for (errors, packets, does) in pairs {
        for sample in view.all(errors) {
            report.see();
            let beside = |other: &&&Sample| other.series.labels == sample.series.labels;
            let packets = view.all(packets).iter().find(beside).and_then(|packets| view.growth(packets));
            let (Some(errors), Some(packets)) = (view.growth(sample), packets) else { continue };
            let ratio = errors / packets.max(1.0);
            // One lost packet of three says nothing.
            if errors >= 10.0 && ratio > limits.network_errors {
                let device = name(sample, "device");
                let reason = format!("{:.1} % of the packets that {device} {does} have errors", ratio * 100.0);
                let measured = Measured("ratio", ratio, Some(limits.network_errors));
                report.wrong(Warning, labels(sample), measured, reason);
            }
        }
    }
}

fn gpu_driver_hung(view: &View<'_>, _: &Limits, report: &mut Report) {
    state(view, report, "piton_node_gpu_driver_hung", 0.0, |report, sample| {
        report.wrong(Failed, labels(sample), Measured("", 1.0, None), "the driver of the GPUs does not answer");
    });
}

fn gpu_missing(view: &View<'_>, limits: &Limits, report: &mut Report) {
    state(view, report, "piton_node_gpu_lost", 0.0, |report, sample| {
        let reason = format!("GPU {} fell off the bus", name(sample, "gpu"));
        report.wrong(Failed, labels(sample), Measured("", 1.0, None), reason);
    });
    if let Some(wanted) = limits.gpus.map(f64::from) {
        report.see();
        let there = view.value("piton_node_gpus").unwrap_or(0.0);
        if there < wanted {
            let measured = Measured("count", there, Some(wanted));
            report.wrong(Failed, Labels::new(), measured, format!("{there} of {wanted} GPUs are there"));
        }
    }
}

fn gpu_uncorrected(view: &View<'_>, _: &Limits, report: &mut Report) {
    state(view, report, "piton_node_gpu_ecc_uncorrected_errors_total", 0.0, |report, sample| {
        let (gpu, errors) = (name(sample, "gpu"), errors(sample.value, ""));
        let reason = format!("the memory of GPU {gpu} had {errors} that can't be corrected");
        report.wrong(Failed, labels(sample), count(sample.value), reason);
    });
}

fn gpu_memory_repair(view: &View<'_>, _: &Limits, report: &mut Report) {
    state(view, report, "piton_node_gpu_row_remap_failed", 0.0, |report, sample| {
        let reason = format!("GPU {} has no rows left to replace broken memory", name(sample, "gpu"));
        report.wrong(Failed, labels(sample), Measured("", 1.0, None), reason);
    });
    for series in ["piton_node_gpu_row_remap_pending", "piton_node_gpu_retired_pages_pending"] {
        state(view, report, series, 0.0, |report, sample| {
            let reason = format!("GPU {} waits for a reset to stop using broken memory", name(sample, "gpu"));
            report.wrong(Warning, labels(sample), Measured("", 1.0, None), reason);
        });
    }
}

fn gpu_temperature(view: &View<'_>, _: &Limits, report: &mut Report) {
    for sample in view.all("piton_node_gpu_temperature_celsius") {
        report.see();
        let limit = view.beside(sample, "piton_node_gpu_slowdown_temperature_celsius");
        if let Some(limit) = limit.filter(|limit| *limit > 20.0 && sample.value >= *limit) {
            let reason = format!("{:.0} °C, and at {limit:.0} °C it slows down", sample.value);
            report.wrong(Warning, labels(sample), Measured("celsius", sample.value, Some(limit)), reason);
        }
    }
}

fn memory_available(view: &View<'_>, limits: &Limits, report: &mut Report) {
    let available = view.value("node_memory_MemAvailable_bytes");
    let total = view.value("node_memory_MemTotal_bytes").filter(|total| *total > 0.0);
    let (Some(available), Some(total)) = (available, total) else { return };
    report.see();
    let ratio = available / total;
    let (outcome, limit) = match ratio {
        ratio if ratio < limits.memory_failed => (Failed, limits.memory_failed),
        ratio if ratio < limits.memory_warning => (Warning, limits.memory_warning),
        _ => return,
    };
    let reason = format!("{:.1} % of the memory is available", ratio * 100.0);
    report.wrong(outcome, Labels::new(), Measured("ratio", ratio, Some(limit)), reason);
}

fn swap_storm(view: &View<'_>, limits: &Limits, report: &mut Report) {
    let swapped = view.rate("node_vmstat_pswpin").zip(view.rate("node_vmstat_pswpout"));
    let rates = [
        (swapped.map(|(read, written)| read + written), limits.swap, "pages a second are swapped in or out"),
        (view.rate("node_vmstat_pgmajfault"), limits.major_faults, "page faults a second read from a disk"),
    ];
    for (rate, limit, what) in rates {
        let Some(rate) = rate else { continue };
        report.see();
        if rate > limit {
            let reason = format!("{rate:.0} {what}");
            report.wrong(Warning, Labels::new(), Measured("rate", rate, Some(limit)), reason);
        }
    }
}

fn oom_kills(view: &View<'_>, _: &Limits, report: &mut Report) {
    for sample in view.all("node_vmstat_oom_kill") {
        report.see();
        if let Some(kills) = view.growth(sample).filter(|kills| *kills > 0.0) {
            let reason = "processes are being killed for want of memory";
            report.wrong(Warning, labels(sample), count(kills), reason);
        }
    }
}

fn hung_tasks(view: &View<'_>, _: &Limits, report: &mut Report) {
    state(view, report, "node_kernel_hung_tasks_total", 0.0, |report, sample| {
        // What hung once may have been a server that came back.
        let growing = view.growth(sample).is_some_and(|tasks| tasks > 0.0);
        let outcome = if growing { Failed } else { Warning };
        let reason = format!("since boot, tasks have hung in the kernel for minutes: {}", sample.value);
        report.wrong(outcome, labels(sample), count(sample.value), reason);
    });
}

fn load(view: &View<'_>, limits: &Limits, report: &mut Report) {
    let cpus = view.value("piton_node_cpus").filter(|cpus| *cpus > 0.0);
    let (Some(load), Some(cpus)) = (view.value("node_load1"), cpus) else { return };
    report.see();
    let limit = limits.load * cpus;
    if load > limit {
        let reason = format!("a load of {} on {cpus} processors", figure(load));
        report.wrong(Warning, Labels::new(), Measured("load", load, Some(limit)), reason);
    }
}

fn clock(view: &View<'_>, limits: &Limits, report: &mut Report) {
    let (status, error) = (view.value("node_timex_sync_status"), view.value("node_timex_maxerror_seconds"));
    let (Some(status), Some(error)) = (status, error) else { return };
    report.see();
    if status == 0.0 && error >= limits.clock_error {
        let reason = "nobody keeps the clock right: is there a time service?";
        report.wrong(Warning, Labels::new(), Measured("seconds", error, Some(limits.clock_error)), reason);
    }
}
