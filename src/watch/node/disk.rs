//! Disks: what is read and written, how long it takes, what waits; and what their drivers and md count as errors.
//!
//! Comes in: `/proc/diskstats` and sysfs of block devices. Goes out: `node_disk_*` of whole disks, and `piton_node_scsi_*`, `_nvme_*`,
//! `_md_*`. Partitions, loop devices, and memory disks are left out, as the node exporter leaves them out.

use super::Roots;
use super::files::{attribute, count, entries, parse_count, text};
use super::sink::Sink;
use std::path::Path;

/// As `/proc/diskstats` has it, whatever the sectors of the device.
const SECTOR: f64 = 512.0;
const MILLISECOND: f64 = 1e-3;

/// Columns of `/proc/diskstats` after the device's name (Documentation/admin-guide/iostats.rst), and what one of them is.
const COLUMNS: [(usize, &str, f64); 12] = [
    (0, "node_disk_reads_completed_total", 1.0),
    (2, "node_disk_read_bytes_total", SECTOR),
    (3, "node_disk_read_time_seconds_total", MILLISECOND),
    (4, "node_disk_writes_completed_total", 1.0),
    (6, "node_disk_written_bytes_total", SECTOR),
    (7, "node_disk_write_time_seconds_total", MILLISECOND),
    (8, "node_disk_io_now", 1.0),
    (9, "node_disk_io_time_seconds_total", MILLISECOND),
    (10, "node_disk_io_time_weighted_seconds_total", MILLISECOND),
    (11, "node_disk_discards_completed_total", 1.0),
    (15, "node_disk_flush_requests_total", 1.0),
    (16, "node_disk_flush_requests_time_seconds_total", MILLISECOND),
];

pub(super) fn sample(roots: &Roots, sink: &mut Sink) {
    for line in text(&roots.proc("diskstats")).unwrap_or_default().lines() {
        let mut parts = line.split_ascii_whitespace().skip(2);
        let Some(device) = parts.next().filter(|device| is_disk(device)) else { continue };
        let values: Vec<Option<f64>> = parts.map(parse_count).collect();
        let labels = &[("device", device)];
        for (column, name, unit) in COLUMNS {
            let value = values.get(column).copied().flatten().map(|value| value * unit);
            match name {
                "node_disk_io_now" => sink.gauge_of(name, labels, value),
                _ => sink.counter_of(name, labels, value),
            }
        }
    }
    for device in entries(&roots.sys("block")).into_iter().filter(|device| is_disk(device)) {
        let folder = roots.sys("block").join(&device);
        if device.starts_with("sd") {
            scsi(&folder.join("device"), &device, sink);
        } else if device.starts_with("md") {
            md(&folder.join("md"), &device, sink);
        }
    }
    for device in entries(&roots.sys("class/nvme")) {
        let state = attribute(&roots.sys("class/nvme").join(&device).join("state"));
        let live = state.map(|state| f64::from(u8::from(state == "live")));
        sink.gauge_of("piton_node_nvme_live", &[("device", &device)], live);
    }
}

/// Whether it is a whole disk that is not made of memory or of a file.
fn is_disk(device: &str) -> bool {
    let after = |prefix: &str| device.strip_prefix(prefix);
    if ["loop", "ram", "zram", "fd", "sr", "nbd"].into_iter().filter_map(after).any(is_number) {
        return false;
    }
    // sda1, vdb2, xvda1, hda1.
    if ["sd", "vd", "xvd", "hd"].into_iter().filter_map(after).any(|rest| rest.ends_with(|c: char| c.is_ascii_digit()))
    {
        return false;
    }
    // nvme0n1p1, mmcblk0p1.
    let numbered = ["nvme", "mmcblk"].into_iter().filter_map(after).find_map(|rest| rest.rsplit_once('p'));
    !numbered.is_some_and(|(_, partition)| is_number(partition))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn scsi(folder: &Path, device: &str, sink: &mut Sink) {
    let labels = &[("device", device)];
    // Written as 0x1f.
    let hexadecimal = |name: &str| {
        let text = attribute(&folder.join(name))?;
        u64::from_str_radix(text.strip_prefix("0x")?, 16).ok().map(|count| count as f64)
    };
    // Commands that a disk does not know count as errors: some are there after every boot.
    sink.counter_of("piton_node_scsi_io_errors_total", labels, hexadecimal("ioerr_cnt"));
    sink.counter_of("piton_node_scsi_io_timeouts_total", labels, hexadecimal("iotmo_cnt"));
    let running = attribute(&folder.join("state")).map(|state| f64::from(u8::from(state == "running")));
    sink.gauge_of("piton_node_scsi_running", labels, running);
}

fn md(folder: &Path, device: &str, sink: &mut Sink) {
    let labels = &[("device", device)];
    sink.gauge_of("node_md_degraded", labels, count(&folder.join("degraded")));
    sink.gauge_of("node_md_raid_disks", labels, count(&folder.join("raid_disks")));
    sink.gauge_of("piton_node_md_mismatches", labels, count(&folder.join("mismatch_cnt")));
    for member in entries(folder).iter().filter(|name| name.starts_with("dev-")) {
        let errors = count(&folder.join(member).join("errors"));
        let disk = member.trim_start_matches("dev-");
        sink.counter_of("piton_node_md_device_errors_total", &[("device", device), ("disk", disk)], errors);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_disks_are_measured() {
        for device in ["sda", "sdaa", "vda", "nvme0n1", "nvme10n2", "dm-0", "md127", "mmcblk0", "pmem0", "xvdf"] {
            assert!(is_disk(device), "{device}");
        }
        for device in ["sda1", "vdb12", "nvme0n1p1", "mmcblk0p2", "loop0", "ram15", "zram0", "sr0", "fd0", "xvda1"] {
            assert!(!is_disk(device), "{device}");
        }
    }
}
