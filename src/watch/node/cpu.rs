//! Processors: what their time goes to, how many wait, how often they are throttled.
//!
//! Comes in: `/proc/stat`, `/proc/loadavg`, sysfs of the processors. Goes out: `node_cpu_seconds_total` summed over all
//! processors (hundreds of series a node tell nobody more), load, counts of processes, and throttling by core and package.

use super::Roots;
use super::files::{attribute, count, numbered, parse_count, text};
use super::sink::Sink;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// In the order of `/proc/stat`; guests' time is in `user` and `nice` already.
const MODES: [&str; 8] = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"];

/// Where throttling is counted. Which processors share a core is looked up once: it takes four files a processor.
#[derive(Debug)]
pub(super) struct Cpu {
    ticks_per_second: f64,
    cores: Vec<Core>,
    packages: Vec<(PathBuf, String)>,
}

#[derive(Debug)]
struct Core {
    path: PathBuf,
    core: String,
    package: String,
}

impl Cpu {
    pub(super) fn new(roots: &Roots) -> Self {
        let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten();
        let mut cpu = Self {
            ticks_per_second: ticks.filter(|ticks| *ticks > 0).map_or(100.0, |ticks| ticks as f64),
            cores: Vec::new(),
            packages: Vec::new(),
        };
        let mut seen = BTreeSet::new();
        let folder = roots.sys("devices/system/cpu");
        for (_, name) in numbered(&folder, "cpu") {
            let throttle = folder.join(&name).join("thermal_throttle");
            if !throttle.is_dir() {
                continue;
            }
            let topology = folder.join(&name).join("topology");
            let (package, core) = (topology.join("physical_package_id"), topology.join("core_id"));
            let (Some(package), Some(core)) = (attribute(&package), attribute(&core)) else { continue };
            if seen.insert((package.clone(), None)) {
                cpu.packages.push((throttle.join("package_throttle_count"), package.clone()));
            }
            if seen.insert((package.clone(), Some(core.clone()))) {
                cpu.cores.push(Core { path: throttle.join("core_throttle_count"), core, package });
            }
        }
        cpu
    }

    pub(super) fn sample(&self, roots: &Roots, sink: &mut Sink) {
        if let Some(text) = text(&roots.proc("stat")) {
            self.stat(&text, sink);
        }
        if let Some(text) = attribute(&roots.proc("loadavg")) {
            let loads = text.split(' ').map(|load| load.parse::<f64>().ok().filter(|load| *load >= 0.0));
            for (name, load) in ["node_load1", "node_load5", "node_load15"].into_iter().zip(loads) {
                sink.gauge_of(name, &[], load);
            }
            let threads = text.split(' ').nth(3).and_then(|part| parse_count(part.split_once('/')?.1));
            sink.gauge_of("node_processes_threads", &[], threads);
        }
        for Core { path, core, package } in &self.cores {
            sink.counter_of("node_cpu_core_throttles_total", &[("core", core), ("package", package)], count(path));
        }
        for (path, package) in &self.packages {
            sink.counter_of("node_cpu_package_throttles_total", &[("package", package)], count(path));
        }
    }

    fn stat(&self, text: &str, sink: &mut Sink) {
        let mut processors = 0_u32;
        for line in text.lines() {
            let Some((key, values)) = line.split_once(' ') else { continue };
            let counts: [(&str, &'static str); 3] = [
                ("ctxt", "node_context_switches_total"),
                ("processes", "node_forks_total"),
                ("intr", "node_intr_total"),
            ];
            match key {
                "cpu" => {
                    let ticks = values.split_ascii_whitespace().map(parse_count);
                    for (mode, ticks) in MODES.into_iter().zip(ticks) {
                        let seconds = ticks.map(|ticks| ticks / self.ticks_per_second);
                        sink.counter_of("node_cpu_seconds_total", &[("mode", mode)], seconds);
                    }
                }
                "btime" => sink.gauge_of("node_boot_time_seconds", &[], parse_count(values)),
                "procs_running" => sink.gauge_of("node_procs_running", &[], parse_count(values)),
                "procs_blocked" => sink.gauge_of("node_procs_blocked", &[], parse_count(values)),
                _ if key.strip_prefix("cpu").is_some_and(|number| number.parse::<u32>().is_ok()) => processors += 1,
                _ => {
                    if let Some((_, name)) = counts.iter().find(|(count, _)| *count == key) {
                        sink.counter_of(name, &[], values.split(' ').next().and_then(parse_count));
                    }
                }
            }
        }
        if processors > 0 {
            sink.gauge("piton_node_cpus", &[], f64::from(processors));
        }
    }
}
