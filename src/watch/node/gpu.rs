//! GPUs: whether they are there, how warm they are, what their memory counts as errors.
//!
//! Comes in: NVIDIA's management library, where there is one. Goes out: `piton_node_gpu_*` with the label `gpu`, which is the device's UUID where it has
//! one: numbers change when one falls off the bus. What must hold: a driver that hangs hangs nobody here, as a file system does not.

use super::nvml::{Nvml, Reading};
use super::patient::{Answer, Patient};
use super::sink::Sink;
use std::ffi::OsString;
use std::time::{Duration, Instant};

/// Below it the driver is slow rather than hung: to initialise eight devices that nobody uses takes seconds.
const HANGS: Duration = Duration::from_secs(10);

/// Why a device runs slower than it could, as far as it is a sign of trouble: `nvmlClocksThrottleReason*`.
const REASONS: [(u64, &str); 5] =
    [(0x04, "power_cap"), (0x08, "hw_slowdown"), (0x20, "sw_thermal"), (0x40, "hw_thermal"), (0x80, "power_brake")];

/// Asks NVIDIA's library.
#[derive(Debug)]
pub(super) struct Gpus {
    patient: Patient<Vec<Reading>>,
}

impl Gpus {
    /// By the library at `path`, a name or a file. Where there is none, the thread that looked for it ends.
    pub(super) fn new(path: OsString) -> Self {
        let mut nvml = None;
        let question = move || {
            if nvml.is_none() {
                nvml = Nvml::load(&path);
            }
            nvml.as_ref()?.read()
        };
        Self { patient: Patient::new("piton-nvml", question) }
    }

    pub(super) fn ask(&mut self) {
        self.patient.ask();
    }

    pub(super) fn sample(&mut self, deadline: Instant, sink: &mut Sink) {
        match self.patient.answer(deadline) {
            Answer::Given(readings, _) => {
                sink.gauge("piton_node_gpus", &[], readings.len() as f64);
                sink.gauge("piton_node_gpu_driver_hung", &[], 0.0);
                for (index, reading) in readings.iter().enumerate() {
                    sample_one(index, reading, sink);
                }
            }
            Answer::Hanging(since) if since >= HANGS => sink.gauge("piton_node_gpu_driver_hung", &[], 1.0),
            Answer::Hanging(_) | Answer::Nobody => {}
        }
    }
}

fn sample_one(index: usize, reading: &Reading, sink: &mut Sink) {
    let index = index.to_string();
    let gpu = reading.uuid.as_deref().unwrap_or(&index);
    let labels = &[("gpu", gpu)];
    let yes = |said: bool| f64::from(u8::from(said));
    sink.gauge("piton_node_gpu_lost", labels, yes(reading.lost));
    if let Some(name) = &reading.name {
        sink.gauge("piton_node_gpu_info", &[("gpu", gpu), ("index", &index), ("name", name)], 1.0);
    }
    sink.gauge_of("piton_node_gpu_temperature_celsius", labels, reading.celsius);
    sink.gauge_of("piton_node_gpu_slowdown_temperature_celsius", labels, reading.slowdown_celsius);
    sink.gauge_of("piton_node_gpu_power_watts", labels, reading.watts);
    sink.gauge_of("piton_node_gpu_memory_total_bytes", labels, reading.memory_total);
    sink.gauge_of("piton_node_gpu_memory_used_bytes", labels, reading.memory_used);
    sink.gauge_of("piton_node_gpu_busy_ratio", labels, reading.busy);
    sink.gauge_of("piton_node_gpu_memory_busy_ratio", labels, reading.memory_busy);
    sink.counter_of("piton_node_gpu_ecc_corrected_errors_total", labels, reading.corrected);
    sink.counter_of("piton_node_gpu_ecc_uncorrected_errors_total", labels, reading.uncorrected);
    sink.gauge_of("piton_node_gpu_retired_pages_pending", labels, reading.retirement_pending.map(yes));
    sink.gauge_of("piton_node_gpu_row_remap_pending", labels, reading.remap_pending.map(yes));
    sink.gauge_of("piton_node_gpu_row_remap_failed", labels, reading.remap_failed.map(yes));
    if let Some(mask) = reading.throttled {
        for (bit, reason) in REASONS {
            sink.gauge("piton_node_gpu_throttled", &[("gpu", gpu), ("reason", reason)], yes(mask & bit != 0));
        }
    }
}
