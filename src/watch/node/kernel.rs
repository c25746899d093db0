//! The kernel: which one, since when, and what it complains about.
//!
//! Comes in: `/proc/sys`. Goes out: the boot's id (another one is a reboot that nobody announced), taint, hung tasks, and file handles.

use super::Roots;
use super::files::{attribute, count, parse_count};
use super::sink::Sink;

pub(super) fn sample(roots: &Roots, sink: &mut Sink) {
    let file = |name: &str| roots.proc("sys/kernel").join(name);
    if let Some(boot) = attribute(&file("random/boot_id")) {
        sink.gauge("piton_node_boot_info", &[("boot_id", &boot)], 1.0);
    }
    let text = |name: &str| attribute(&file(name));
    if let (Some(name), Some(release)) = (text("hostname"), text("osrelease")) {
        let version = text("version").unwrap_or_default();
        let labels = [("nodename", name.as_str()), ("release", &release), ("version", &version)];
        sink.gauge("node_uname_info", &labels, 1.0);
    }
    // A mask: Documentation/admin-guide/tainted-kernels.rst.
    sink.gauge_of("piton_node_kernel_tainted", &[], count(&file("tainted")));
    sink.counter_of("node_kernel_hung_tasks_total", &[], count(&file("hung_task_detect_count")));
    if let Some(text) = attribute(&roots.proc("sys/fs/file-nr")) {
        let mut counts = text.split_ascii_whitespace().map(parse_count);
        sink.gauge_of("node_filefd_allocated", &[], counts.next().flatten());
        sink.gauge_of("node_filefd_maximum", &[], counts.nth(1).flatten());
    }
}
