//! Memory errors that were corrected, and those that could not be, by controller and by module.
//!
//! Comes in: `/sys/devices/system/edac/mc`. Goes out: `node_edac_*_errors_total` by controller, with those whose place is not known as csrow
//! `unknown`, and `piton_node_edac_dimm_*_errors_total` with the label of the module's socket.

use super::Roots;
use super::files::{attribute, count, entries, numbered};
use super::sink::Sink;

pub(super) fn sample(roots: &Roots, sink: &mut Sink) {
    let controllers = roots.sys("devices/system/edac/mc");
    for (controller, name) in numbered(&controllers, "mc") {
        let folder = controllers.join(name);
        let controller = controller.to_string();
        let labels = &[("controller", controller.as_str())];
        sink.counter_of("node_edac_correctable_errors_total", labels, count(&folder.join("ce_count")));
        sink.counter_of("node_edac_uncorrectable_errors_total", labels, count(&folder.join("ue_count")));
        let unknown = &[("controller", controller.as_str()), ("csrow", "unknown")];
        sink.counter_of("node_edac_csrow_correctable_errors_total", unknown, count(&folder.join("ce_noinfo_count")));
        sink.counter_of("node_edac_csrow_uncorrectable_errors_total", unknown, count(&folder.join("ue_noinfo_count")));
        // `rank` where the driver counts by chip select.
        for module in entries(&folder).iter().filter(|name| name.starts_with("dimm") || name.starts_with("rank")) {
            let folder = folder.join(module);
            let label = attribute(&folder.join("dimm_label")).unwrap_or_else(|| module.clone());
            let labels = &[("controller", controller.as_str()), ("dimm", module), ("label", &label)];
            let counts = |name: &str| count(&folder.join(name));
            sink.counter_of("piton_node_edac_dimm_correctable_errors_total", labels, counts("dimm_ce_count"));
            sink.counter_of("piton_node_edac_dimm_uncorrectable_errors_total", labels, counts("dimm_ue_count"));
        }
    }
}
