//! Errors on PCI Express links, by how bad they are.
//!
//! Comes in: `/sys/bus/pci/devices/*/aer_dev_*` (Advanced Error Reporting). Goes out: `piton_node_pcie_errors_total` with the labels `device`
//! and `severity`.

use super::Roots;
use super::files::{attribute, entries, parse_count};
use super::sink::Sink;
use std::path::PathBuf;

/// Severity, file, and the line that holds the sum.
const SEVERITIES: [(&str, &str, &str); 3] = [
    ("correctable", "aer_dev_correctable", "TOTAL_ERR_COR"),
    ("nonfatal", "aer_dev_nonfatal", "TOTAL_ERR_NONFATAL"),
    ("fatal", "aer_dev_fatal", "TOTAL_ERR_FATAL"),
];
/// After so many samples it is looked again which devices report errors: hundreds don't, and hardly any ever comes.
const REFRESH: u32 = 60;

#[derive(Debug, Default)]
pub(super) struct Pcie {
    devices: Vec<(String, PathBuf)>,
    age: u32,
}

impl Pcie {
    pub(super) fn sample(&mut self, roots: &Roots, sink: &mut Sink) {
        if self.age.is_multiple_of(REFRESH) {
            let folder = roots.sys("bus/pci/devices");
            let devices = entries(&folder).into_iter().map(|name| (folder.join(&name), name));
            let report = devices.filter(|(folder, _)| folder.join(SEVERITIES[0].1).exists());
            self.devices = report.map(|(folder, name)| (name, folder)).collect();
        }
        self.age = self.age.wrapping_add(1);
        for (device, folder) in &self.devices {
            for (severity, file, total) in SEVERITIES {
                let text = attribute(&folder.join(file)).unwrap_or_default();
                let line = text.lines().find_map(|line| line.strip_prefix(total)?.strip_prefix(' '));
                let labels = &[("device", device.as_str()), ("severity", severity)];
                sink.counter_of("piton_node_pcie_errors_total", labels, line.and_then(parse_count));
            }
        }
    }
}
