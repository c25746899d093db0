//! InfiniBand and the like (Omni-Path, RoCE): whether the ports are up, how fast, and what they lose.
//!
//! Comes in: `/sys/class/infiniband/*/ports/*`. Goes out: `node_infiniband_*` with the labels `device` and `port`, and the drivers' own
//! error counters as `piton_node_infiniband_errors_total` with the label `type`.

use super::Roots;
use super::files::{attribute, count, entries};
use super::sink::Sink;
use std::path::Path;

/// Files of `counters`, what the node exporter calls them, and what one of them is.
const COUNTERS: [(&str, &str, f64); 15] = [
    ("link_downed", "node_infiniband_link_downed_total", 1.0),
    ("link_error_recovery", "node_infiniband_link_error_recovery_total", 1.0),
    ("symbol_error", "node_infiniband_symbol_error_total", 1.0),
    ("local_link_integrity_errors", "node_infiniband_local_link_integrity_errors_total", 1.0),
    ("excessive_buffer_overrun_errors", "node_infiniband_excessive_buffer_overrun_errors_total", 1.0),
    ("port_rcv_errors", "node_infiniband_port_errors_received_total", 1.0),
    ("port_rcv_remote_physical_errors", "node_infiniband_port_receive_remote_physical_errors_total", 1.0),
    ("port_rcv_constraint_errors", "node_infiniband_port_constraint_errors_received_total", 1.0),
    ("port_xmit_constraint_errors", "node_infiniband_port_constraint_errors_transmitted_total", 1.0),
    ("port_xmit_discards", "node_infiniband_port_discards_transmitted_total", 1.0),
    ("port_xmit_wait", "node_infiniband_port_transmit_wait_total", 1.0),
    // In words of four octets.
    ("port_rcv_data", "node_infiniband_port_data_received_bytes_total", 4.0),
    ("port_xmit_data", "node_infiniband_port_data_transmitted_bytes_total", 4.0),
    ("port_rcv_packets", "node_infiniband_port_packets_received_total", 1.0),
    ("port_xmit_packets", "node_infiniband_port_packets_transmitted_total", 1.0),
];

/// Files of `hw_counters` that count what went wrong.
const ERRORS: [&str; 10] = [
    "local_ack_timeout_err",
    "out_of_buffer",
    "out_of_sequence",
    "packet_seq_err",
    "rnr_nak_retry_err",
    "implied_nak_seq_err",
    "req_cqe_error",
    "resp_cqe_error",
    "req_remote_access_errors",
    "roce_slow_restart",
];

pub(super) fn sample(roots: &Roots, sink: &mut Sink) {
    let devices = roots.sys("class/infiniband");
    for device in entries(&devices) {
        let ports = devices.join(&device).join("ports");
        for port in entries(&ports) {
            sample_port(&ports.join(&port), &[("device", &device), ("port", &port)], sink);
        }
    }
}

fn sample_port(folder: &Path, labels: &[(&'static str, &str); 2], sink: &mut Sink) {
    // `4: ACTIVE`.
    let id = |name: &str| {
        let text = attribute(&folder.join(name))?;
        text.split_once(':')?.0.parse::<u8>().ok().map(f64::from)
    };
    sink.gauge_of("node_infiniband_state_id", labels, id("state"));
    sink.gauge_of("node_infiniband_physical_state_id", labels, id("phys_state"));
    // `100 Gb/sec (4X EDR)`.
    let rate = attribute(&folder.join("rate")).and_then(|text| {
        let (number, unit) = text.split_once(' ')?;
        let gigabits = number.parse::<f64>().ok().filter(|rate| *rate > 0.0)?;
        unit.starts_with("Gb/sec").then_some(gigabits * 1e9 / 8.0)
    });
    sink.gauge_of("node_infiniband_rate_bytes_per_second", labels, rate);
    for (file, name, unit) in COUNTERS {
        let value = count(&folder.join("counters").join(file));
        sink.counter_of(name, labels, value.map(|value| value * unit));
    }
    let [device, port] = *labels;
    for error in ERRORS {
        let value = count(&folder.join("hw_counters").join(error));
        sink.counter_of("piton_node_infiniband_errors_total", &[device, port, ("type", error)], value);
    }
}
