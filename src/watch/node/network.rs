//! The network: what is carried, what is lost, whether the links are there.
//!
//! Comes in: `/proc/net/{dev,snmp,netstat}` and sysfs of the interfaces. Goes out: `node_network_*` and `node_netstat_*`. What must hold:
//! interfaces that containers and virtual machines make for themselves by the hundred are left out, as is the loop-back one.

use super::Roots;
use super::files::{attribute, count, entries, number, parse_count, text};
use super::sink::Sink;

/// What the names of interfaces begin with that are no links of the node.
const VIRTUAL: [&str; 17] = [
    "veth", "docker", "br-", "virbr", "vnet", "cali", "flannel", "cni", "lxc", "lxd", "tap", "tun", "dummy", "ifb",
    "gre", "sit", "kube",
];

/// Columns of `/proc/net/dev`.
const COLUMNS: [(usize, &str); 11] = [
    (0, "node_network_receive_bytes_total"),
    (1, "node_network_receive_packets_total"),
    (2, "node_network_receive_errs_total"),
    (3, "node_network_receive_drop_total"),
    (5, "node_network_receive_frame_total"),
    (8, "node_network_transmit_bytes_total"),
    (9, "node_network_transmit_packets_total"),
    (10, "node_network_transmit_errs_total"),
    (11, "node_network_transmit_drop_total"),
    (13, "node_network_transmit_colls_total"),
    (14, "node_network_transmit_carrier_total"),
];

/// Of some hundred counts of the protocols, those that tell of loss.
const PROTOCOLS: [(&str, &str, &str); 15] = [
    ("Tcp", "InSegs", "node_netstat_Tcp_InSegs"),
    ("Tcp", "OutSegs", "node_netstat_Tcp_OutSegs"),
    ("Tcp", "RetransSegs", "node_netstat_Tcp_RetransSegs"),
    ("Tcp", "InErrs", "node_netstat_Tcp_InErrs"),
    ("Tcp", "OutRsts", "node_netstat_Tcp_OutRsts"),
    ("Tcp", "AttemptFails", "node_netstat_Tcp_AttemptFails"),
    ("Tcp", "EstabResets", "node_netstat_Tcp_EstabResets"),
    ("Udp", "InErrors", "node_netstat_Udp_InErrors"),
    ("Udp", "RcvbufErrors", "node_netstat_Udp_RcvbufErrors"),
    ("TcpExt", "TCPTimeouts", "node_netstat_TcpExt_TCPTimeouts"),
    ("TcpExt", "TCPSynRetrans", "node_netstat_TcpExt_TCPSynRetrans"),
    ("TcpExt", "TCPLostRetransmit", "node_netstat_TcpExt_TCPLostRetransmit"),
    ("TcpExt", "TCPAbortOnTimeout", "node_netstat_TcpExt_TCPAbortOnTimeout"),
    ("TcpExt", "ListenOverflows", "node_netstat_TcpExt_ListenOverflows"),
    ("TcpExt", "ListenDrops", "node_netstat_TcpExt_ListenDrops"),
];

pub(super) fn sample(roots: &Roots, sink: &mut Sink) {
    for line in text(&roots.proc("net/dev")).unwrap_or_default().lines() {
        // `eth0:1234` where the count is long.
        let Some((device, values)) = line.rsplit_once(':') else { continue };
        let device = device.trim();
        if !is_link(device) {
            continue;
        }
        let values: Vec<Option<f64>> = values.split_ascii_whitespace().map(parse_count).collect();
        for (column, name) in COLUMNS {
            sink.counter_of(name, &[("device", device)], values.get(column).copied().flatten());
        }
    }
    let interfaces = roots.sys("class/net");
    for device in entries(&interfaces).iter().filter(|device| is_link(device)) {
        let folder = interfaces.join(device);
        let labels = &[("device", device.as_str())];
        // `unknown` is what drivers say that never know better.
        let up = attribute(&folder.join("operstate")).map(|state| f64::from(u8::from(state == "up")));
        sink.gauge_of("node_network_up", labels, up);
        // Not to be read while the interface is not in use.
        let carrier = count(&folder.join("carrier")).filter(|carrier| *carrier <= 1.0);
        sink.gauge_of("node_network_carrier", labels, carrier);
        sink.counter_of("node_network_carrier_changes_total", labels, count(&folder.join("carrier_changes")));
        // Mbit/s; −1 while there is no link.
        let speed = number::<i64>(&folder.join("speed")).filter(|speed| *speed > 0);
        sink.gauge_of("node_network_speed_bytes", labels, speed.map(|speed| speed as f64 * 125_000.0));
    }
    for path in ["net/snmp", "net/netstat"] {
        protocols(&text(&roots.proc(path)).unwrap_or_default(), sink);
    }
}

/// Pairs of lines: `Tcp: NAME…`, and below it `Tcp: VALUE…`.
fn protocols(text: &str, sink: &mut Sink) {
    let mut names: Option<(&str, &str)> = None;
    for (protocol, rest) in text.lines().filter_map(|line| line.split_once(": ")) {
        match names.take().filter(|(of, _)| *of == protocol) {
            None => names = Some((protocol, rest)),
            Some((_, names)) => {
                for (key, value) in names.split(' ').zip(rest.split(' ')) {
                    let known = PROTOCOLS.iter().find(|(of, name, _)| *of == protocol && *name == key);
                    if let Some((_, _, name)) = known {
                        sink.counter_of(name, &[], parse_count(value));
                    }
                }
            }
        }
    }
}

fn is_link(device: &str) -> bool {
    device != "lo" && !VIRTUAL.iter().any(|prefix| device.starts_with(prefix))
}
