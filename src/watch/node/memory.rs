//! Memory, swap, and what the kernel does when there is too little of it.
//!
//! Comes in: `/proc/meminfo` and `/proc/vmstat`. Goes out: `node_memory_*_bytes` and `node_vmstat_*`.

use super::Roots;
use super::files::{parse_count, text};
use super::sink::Sink;

/// Of some fifty entries, those that tell how a node is.
const MEMORY: [(&str, &str); 20] = [
    ("MemTotal", "node_memory_MemTotal_bytes"),
    ("MemFree", "node_memory_MemFree_bytes"),
    ("MemAvailable", "node_memory_MemAvailable_bytes"),
    ("Buffers", "node_memory_Buffers_bytes"),
    ("Cached", "node_memory_Cached_bytes"),
    ("SwapCached", "node_memory_SwapCached_bytes"),
    ("SwapTotal", "node_memory_SwapTotal_bytes"),
    ("SwapFree", "node_memory_SwapFree_bytes"),
    ("Dirty", "node_memory_Dirty_bytes"),
    ("Writeback", "node_memory_Writeback_bytes"),
    ("AnonPages", "node_memory_AnonPages_bytes"),
    ("Mapped", "node_memory_Mapped_bytes"),
    ("Shmem", "node_memory_Shmem_bytes"),
    ("Slab", "node_memory_Slab_bytes"),
    ("SUnreclaim", "node_memory_SUnreclaim_bytes"),
    ("PageTables", "node_memory_PageTables_bytes"),
    ("Committed_AS", "node_memory_Committed_AS_bytes"),
    ("CommitLimit", "node_memory_CommitLimit_bytes"),
    // Pages that are no longer used because their memory is broken.
    ("HardwareCorrupted", "node_memory_HardwareCorrupted_bytes"),
    ("Hugetlb", "node_memory_Hugetlb_bytes"),
];

const VMSTAT: [(&str, &str); 8] = [
    ("oom_kill", "node_vmstat_oom_kill"),
    ("pgfault", "node_vmstat_pgfault"),
    ("pgmajfault", "node_vmstat_pgmajfault"),
    ("pgpgin", "node_vmstat_pgpgin"),
    ("pgpgout", "node_vmstat_pgpgout"),
    ("pswpin", "node_vmstat_pswpin"),
    ("pswpout", "node_vmstat_pswpout"),
    ("allocstall_normal", "node_vmstat_allocstall_normal"),
];

pub(super) fn sample(roots: &Roots, sink: &mut Sink) {
    if let Some(text) = text(&roots.proc("meminfo")) {
        for line in text.lines() {
            let Some((key, value)) = line.split_once(':') else { continue };
            let Some((_, name)) = MEMORY.iter().find(|(known, _)| *known == key) else { continue };
            let kibibytes = value.trim().strip_suffix("kB").and_then(|value| parse_count(value.trim()));
            sink.gauge_of(name, &[], kibibytes.map(|kibibytes| kibibytes * 1024.0));
        }
    }
    if let Some(text) = text(&roots.proc("vmstat")) {
        for (key, value) in text.lines().filter_map(|line| line.split_once(' ')) {
            if let Some((_, name)) = VMSTAT.iter().find(|(known, _)| *known == key) {
                sink.counter_of(name, &[], parse_count(value));
            }
        }
    }
}
