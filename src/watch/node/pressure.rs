//! Pressure: the share of the time in which somebody (`some`, waiting) or everybody (`full`, stalled) waits for a resource.
//!
//! Comes in: `/proc/pressure/*`. Goes out: the node exporter's counters of seconds, and the kernel's own mean over 10 seconds as a ratio.
//! See Documentation/accounting/psi.rst of the kernel.

use super::Roots;
use super::files::{parse_count, text};
use super::sink::Sink;

/// Resource, kind, counter. That `full` means nothing for the processors of a whole node, the kernel's documentation says.
const COUNTERS: [(&str, &str, &str); 5] = [
    ("cpu", "some", "node_pressure_cpu_waiting_seconds_total"),
    ("memory", "some", "node_pressure_memory_waiting_seconds_total"),
    ("memory", "full", "node_pressure_memory_stalled_seconds_total"),
    ("io", "some", "node_pressure_io_waiting_seconds_total"),
    ("io", "full", "node_pressure_io_stalled_seconds_total"),
];

pub(super) fn sample(roots: &Roots, sink: &mut Sink) {
    for resource in ["cpu", "memory", "io"] {
        let Some(text) = text(&roots.proc("pressure").join(resource)) else { continue };
        for line in text.lines() {
            let mut parts = line.split(' ');
            let Some(kind) = parts.next() else { continue };
            let counter = COUNTERS.iter().find(|(of, which, _)| *of == resource && *which == kind);
            let Some((_, _, counter)) = counter else { continue };
            let gauge = match kind {
                "some" => "piton_node_pressure_waiting_ratio",
                _ => "piton_node_pressure_stalled_ratio",
            };
            for (key, value) in parts.filter_map(|part| part.split_once('=')) {
                match key {
                    "avg10" => {
                        let percent = value.parse::<f64>().ok().filter(|percent| (0.0..=100.0).contains(percent));
                        sink.gauge_of(gauge, &[("resource", resource)], percent.map(|percent| percent / 100.0));
                    }
                    "total" => sink.counter_of(counter, &[], parse_count(value).map(|micros| micros / 1e6)),
                    _ => {}
                }
            }
        }
    }
}
