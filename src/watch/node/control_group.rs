//! What control groups allow a process, what they use of it, and what they took from it: kills for want of memory, throttling.
//!
//! Comes in: the folders of the groups, of version 1 and 2. Goes out: `piton_node_cgroup_*`, each with the label `group`. What must hold: a
//! group without a limit has no value for it.

use super::Roots;
use super::files::{attribute, count, field, parse_count, text};
use super::groups::{Group, Version, groups};
use super::sink::Sink;
use crate::watch::Sample;

/// A limit above it is none: version 1 says "unlimited" with the largest number that it can count.
const NO_LIMIT: f64 = (1_u64 << 60) as f64;

/// The groups of one process. They are looked up once: batch systems put processes into theirs before they start.
#[derive(Debug)]
pub(super) struct ControlGroups {
    memory: Vec<Group>,
    cpu: Vec<Group>,
    pids: Vec<Group>,
}

impl ControlGroups {
    /// Those of `process`, a number or `self`.
    pub(super) fn new(roots: &Roots, process: &str) -> Self {
        let cgroup = text(&roots.proc(process).join("cgroup")).unwrap_or_default();
        let mountinfo = text(&roots.proc("self/mountinfo")).unwrap_or_default();
        let groups = |controller| groups(roots, controller, &cgroup, &mountinfo);
        Self { memory: groups("memory"), cpu: groups("cpu"), pids: groups("pids") }
    }

    pub(super) fn sample(&self, sink: &mut Sink) {
        self.memory.iter().for_each(|group| memory(group, sink));
        self.cpu.iter().for_each(|group| cpu(group, sink));
        for group in &self.pids {
            let labels = &[("group", group.name.as_str())];
            sink.gauge_of("piton_node_cgroup_processes", labels, count(&group.folder.join("pids.current")));
            sink.gauge_of("piton_node_cgroup_processes_limit", labels, count(&group.folder.join("pids.max")));
        }
    }
}

fn memory(group: &Group, sink: &mut Sink) {
    let file = |name: &str| group.folder.join(name);
    let labels = &[("group", group.name.as_str())];
    let limit = |name: &str| count(&file(name)).filter(|limit| *limit < NO_LIMIT);
    let (limit, usage) = match group.version {
        Version::One => (limit("memory.limit_in_bytes"), count(&file("memory.usage_in_bytes"))),
        // Above `high` a process is not killed, but hardly runs any more.
        Version::Two => {
            let limits = [limit("memory.max"), limit("memory.high")].into_iter().flatten();
            (limits.reduce(f64::min), count(&file("memory.current")))
        }
    };
    sink.gauge_of("piton_node_cgroup_memory_limit_bytes", labels, limit);
    sink.gauge_of("piton_node_cgroup_memory_usage_bytes", labels, usage);
    match group.version {
        Version::One => {
            let events = attribute(&file("memory.oom_control")).unwrap_or_default();
            sink.counter_of("piton_node_cgroup_oom_kills_total", labels, field(&events, "oom_kill"));
            sink.counter_of("piton_node_cgroup_memory_limit_hits_total", labels, count(&file("memory.failcnt")));
        }
        Version::Two => {
            let events = attribute(&file("memory.events")).unwrap_or_default();
            sink.counter_of("piton_node_cgroup_oom_kills_total", labels, field(&events, "oom_kill"));
            sink.counter_of("piton_node_cgroup_ooms_total", labels, field(&events, "oom"));
            sink.counter_of("piton_node_cgroup_memory_limit_hits_total", labels, field(&events, "max"));
            sink.counter_of("piton_node_cgroup_memory_throttled_total", labels, field(&events, "high"));
            let stalled = attribute(&file("memory.pressure")).and_then(|text| {
                let line = text.lines().find(|line| line.starts_with("full "))?.rsplit_once("total=")?;
                Some(parse_count(line.1)? / 1e6)
            });
            sink.counter_of("piton_node_cgroup_memory_stalled_seconds_total", labels, stalled);
        }
    }
}

fn cpu(group: &Group, sink: &mut Sink) {
    let labels = &[("group", group.name.as_str())];
    let Some(stat) = attribute(&group.folder.join("cpu.stat")) else { return };
    let seconds = match group.version {
        Version::One => field(&stat, "throttled_time").map(|nanoseconds| nanoseconds / 1e9),
        Version::Two => field(&stat, "throttled_usec").map(|microseconds| microseconds / 1e6),
    };
    sink.counter_of("piton_node_cgroup_cpu_throttled_seconds_total", labels, seconds);
    sink.counter_of("piton_node_cgroup_cpu_throttled_periods_total", labels, field(&stat, "nr_throttled"));
}

/// Limits, usage and kills of the groups that the process `pid` is in, its own first.
///
/// ```
/// use piton::watch::node::{Roots, control_groups_of};
/// for sample in control_groups_of(&Roots::default(), std::process::id()) {
///     assert!(sample.series.name.starts_with("piton_node_cgroup_"), "{}", sample.series);
/// }
/// ```
#[must_use]
pub fn control_groups_of(roots: &Roots, pid: u32) -> Vec<Sample> {
    let mut sink = Sink::default();
    ControlGroups::new(roots, &pid.to_string()).sample(&mut sink);
    sink.into_samples()
}
