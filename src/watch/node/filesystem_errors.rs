//! Errors that file systems count themselves.
//!
//! Comes in: sysfs of ext4 and btrfs. Goes out: `piton_node_ext4_*` and `node_btrfs_device_errors_total`. XFS counts none: once it has shut itself
//! down, `statvfs` fails, which `node_filesystem_device_error` tells.

use super::Roots;
use super::files::{attribute, count, entries, parse_count};
use super::sink::Sink;

pub(super) fn sample(roots: &Roots, sink: &mut Sink) {
    let ext4 = roots.sys("fs/ext4");
    for device in entries(&ext4) {
        let folder = ext4.join(&device);
        let labels = &[("device", device.as_str())];
        // Kept in the superblock: it outlives a reboot, until the file system is checked.
        sink.counter_of("piton_node_ext4_errors_total", labels, count(&folder.join("errors_count")));
        sink.counter_of("piton_node_ext4_warnings_total", labels, count(&folder.join("warning_count")));
        let last = count(&folder.join("last_error_time")).filter(|time| *time > 0.0);
        sink.gauge_of("piton_node_ext4_last_error_timestamp_seconds", labels, last);
    }
    let btrfs = roots.sys("fs/btrfs");
    for uuid in entries(&btrfs) {
        let devices = btrfs.join(&uuid).join("devinfo");
        for device in entries(&devices) {
            let stats = attribute(&devices.join(&device).join("error_stats")).unwrap_or_default();
            for (kind, value) in stats.lines().filter_map(|line| line.split_once(' ')) {
                let Some(kind) = kind.strip_suffix("_errs") else { continue };
                let labels = &[("uuid", uuid.as_str()), ("device", &device), ("type", kind)];
                sink.counter_of("node_btrfs_device_errors_total", labels, parse_count(value.trim()));
            }
        }
    }
}
