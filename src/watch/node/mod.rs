//! What a node's kernel tells of the node, without any privilege.
//!
//! Comes in: procfs, sysfs, `statvfs` of the tiers, `adjtimex`, and NVIDIA's library where there is one; or a tree of files in
//! place of the first two. Goes out: [`Sample`]s as they stand, gauges and counters with the node exporter's names and units
//! where it has the same thing, `piton_node_…` where not; rates are computed elsewhere. What must hold: what a node does not have
//! is absent, never zero; a file system or a driver that hangs hangs nobody here; no more is read than a large node can have,
//! and what is no number is left out.
//!
//! | topic | from | series |
//! | --- | --- | --- |
//! | `cpu` | `/proc/stat`, `/proc/loadavg`, sysfs | `node_cpu_*`, `node_load*`, `node_procs_*` |
//! | `memory` | `/proc/meminfo`, `/proc/vmstat` | `node_memory_*`, `node_vmstat_*` |
//! | `pressure` | `/proc/pressure` | `node_pressure_*`, `piton_node_pressure_*_ratio` |
//! | `control_group` | the groups of this process | `piton_node_cgroup_*` |
//! | `disk`, `filesystem_errors` | `/proc/diskstats`, sysfs | `node_disk_*`, `node_md_*`, `piton_node_scsi_*`, `piton_node_ext4_*` |
//! | `filesystem` | `statvfs`, `/proc/self/mountinfo` | `node_filesystem_*`, `piton_node_filesystem_*` |
//! | `network`, `infiniband` | `/proc/net`, sysfs | `node_network_*`, `node_netstat_*`, `node_infiniband_*` |
//! | `sensors` | hwmon, thermal zones | `node_hwmon_*`, `node_thermal_zone_temp` |
//! | `edac`, `pcie` | sysfs | `node_edac_*`, `piton_node_edac_dimm_*`, `piton_node_pcie_errors_total` |
//! | `clock`, `kernel` | `adjtimex`, `/proc/sys` | `node_timex_*`, `piton_node_boot_info`, `node_kernel_hung_tasks_total` |
//! | `gpu` | NVIDIA's library | `piton_node_gpu_*` |

mod clock;
mod control_group;
mod cpu;
mod disk;
mod edac;
pub(crate) mod files;
mod filesystem;
mod filesystem_errors;
mod gpu;
pub(crate) mod groups;
mod infiniband;
mod kernel;
mod memory;
mod network;
mod nvml;
mod patient;
mod pcie;
mod pressure;
mod sensors;
mod sink;
#[cfg(test)]
mod tests;

pub use control_group::control_groups_of;
pub use files::Roots;
pub use filesystem::{Probe, Space};

use super::Sample;
use control_group::ControlGroups;
use cpu::Cpu;
use filesystem::Filesystems;
use gpu::Gpus;
use pcie::Pcie;
use sink::Sink;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long a sample waits for file systems and drivers, unless it is told.
const PATIENCE: Duration = Duration::from_secs(2);
/// NVIDIA's library, as the loader finds it.
const NVML: &str = "libnvidia-ml.so.1";

/// Takes samples of the node that this process runs on.
///
/// ```
/// use piton::watch::node::{Roots, Sampler};
/// let mut sampler = Sampler::new(Roots::default(), vec!["/dev/shm".into()]);
/// for sample in sampler.sample() {
///     assert!(sample.value.is_finite(), "{}", sample.series);
/// }
/// ```
#[derive(Debug)]
pub struct Sampler {
    roots: Roots,
    tiers: Vec<PathBuf>,
    patience: Duration,
    cpu: Cpu,
    control_groups: ControlGroups,
    pcie: Pcie,
    filesystems: Filesystems,
    /// Only of this machine, unless a library is given.
    gpus: Option<Gpus>,
    /// How many values the last sample had.
    expected: usize,
}

impl Sampler {
    /// Of the node with these roots, and of the file systems at `tiers`, at `/`, and at `/tmp`. A tier that is missing is said to be in error.
    #[must_use]
    pub fn new(roots: Roots, tiers: Vec<PathBuf>) -> Self {
        Self {
            cpu: Cpu::new(&roots),
            control_groups: ControlGroups::new(&roots, "self"),
            pcie: Pcie::default(),
            filesystems: Filesystems::new(&roots, &tiers, &Probe::default()),
            gpus: roots.are_real().then(|| Gpus::new(NVML.into())),
            patience: PATIENCE,
            expected: 256,
            roots,
            tiers,
        }
    }

    /// Asks file systems this way in place of `statvfs`.
    #[must_use]
    pub fn with_probe(mut self, probe: &Probe) -> Self {
        self.filesystems = Filesystems::new(&self.roots, &self.tiers, probe);
        self
    }

    /// Waits for file systems and drivers this long, once each; 2 seconds unless it is told. After that they hang, until they come back.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Asks GPUs by this library in place of NVIDIA's as the loader finds it.
    #[must_use]
    pub fn with_gpu_library(self, path: impl Into<OsString>) -> Self {
        Self { gpus: Some(Gpus::new(path.into())), ..self }
    }

    /// Everything that is to be known now.
    #[must_use]
    pub fn sample(&mut self) -> Vec<Sample> {
        let deadline = Instant::now() + self.patience;
        let mut sink = Sink::with_capacity(self.expected + self.expected / 8);
        // What may take its time is asked first and heard last.
        self.filesystems.ask();
        if let Some(gpus) = &mut self.gpus {
            gpus.ask();
        }
        let roots = &self.roots;
        self.cpu.sample(roots, &mut sink);
        memory::sample(roots, &mut sink);
        pressure::sample(roots, &mut sink);
        self.control_groups.sample(&mut sink);
        disk::sample(roots, &mut sink);
        filesystem_errors::sample(roots, &mut sink);
        network::sample(roots, &mut sink);
        infiniband::sample(roots, &mut sink);
        sensors::sample(roots, &mut sink);
        edac::sample(roots, &mut sink);
        self.pcie.sample(roots, &mut sink);
        kernel::sample(roots, &mut sink);
        if roots.are_real() {
            clock::sample(&mut sink);
        }
        self.filesystems.sample(roots, deadline, &mut sink);
        if let Some(gpus) = &mut self.gpus {
            gpus.sample(deadline, &mut sink);
        }
        let samples = sink.into_samples();
        self.expected = samples.len();
        samples
    }
}
