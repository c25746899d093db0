//! Medians of what was measured, and how they are printed.

use super::Outcome;
use super::arguments::{Arguments, Data, Pattern};
use super::common::World;
use piton::shard::Compression;
use serde_json::{Map, Value, json};

/// What was measured under which name, in the order of first mention.
#[derive(Debug, Default)]
pub struct Report {
    series: Vec<(&'static str, Vec<f64>)>,
    memory: Option<[f64; 3]>,
}

/// One rank's memory in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    pub state: u64,
    /// Resident before the checkpointer was opened.
    pub before: u64,
    /// The most that was resident until it was closed again.
    pub peak: u64,
}

/// What the report is about.
pub struct About<'a> {
    pub ranks: usize,
    pub threads: usize,
    pub mpi: &'static str,
    pub arguments: &'a Arguments,
}

impl About<'_> {
    /// Of the targets for a state of which everything, a tenth and a hundredth changes, the one that applies.
    fn by_share(&self, [all, tenth, hundredth]: [Option<f64>; 3]) -> Option<f64> {
        let targets = [(1.0, all), (0.1, tenth), (0.01, hundredth)];
        targets.into_iter().find(|(share, _)| (share - self.arguments.changed).abs() < 1e-9)?.1
    }

    /// The most that a commit should take, in raw writes.
    fn commit_target(&self) -> Option<f64> {
        match self.arguments.data {
            Data::Tsunami => Some(0.9),
            Data::Random => Some(1.05),
            Data::Zeros => None,
        }
    }

    /// The most that should be written of what a complete checkpoint takes.
    fn bytes_target(&self) -> Option<f64> {
        let tenth = (self.arguments.pattern == Pattern::Scattered).then_some(0.15);
        self.by_share([None, tenth, None])
    }

    /// Whether chunks are stored as they are.
    fn stores_raw(&self) -> bool {
        self.arguments.data == Data::Random || self.arguments.compression() == Compression::Raw
    }

    fn json(&self) -> Value {
        let Self { ranks, threads, mpi, arguments } = self;
        json!({
            "ranks": ranks,
            "mib": arguments.mib,
            "data": arguments.data.name(),
            "threads": threads,
            "runs": arguments.runs,
            "mpi": mpi,
            "changed": arguments.changed,
            "pattern": arguments.pattern.name(),
            "limit_mbps": arguments.limit_mbps,
            "staging_max": arguments.staging_max,
            "busy": arguments.busy,
        })
    }

    fn print(&self) {
        let Self { ranks, threads, mpi, arguments } = self;
        let Arguments { mib, runs, changed, data, pattern, .. } = arguments;
        println!("{ranks} ranks ({mpi}), {mib} MiB each of {}, {threads} threads a rank, {runs} runs", data.name());
        println!("{changed} of the pages change from checkpoint to checkpoint ({})", pattern.name());
        if let Some(limit) = arguments.limit_mbps {
            println!("storage that takes {limit} MB/s");
        }
        if let Some(size) = &arguments.staging_max {
            println!("at most {size} of memory for the copy (a size is that of each rank)");
        }
        if arguments.busy {
            println!("no core left free");
        }
    }
}

/// A figure that the issue sets a target for: its name, its value, and the most that it should be with these options.
type Ratio = (&'static str, f64, Option<f64>);

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => 0.5 * (sorted[n / 2 - 1] + sorted[n / 2]),
    }
}

impl Report {
    pub fn add(&mut self, name: &'static str, value: f64) {
        match self.series.iter_mut().find(|(own, _)| *own == name) {
            Some((_, values)) => values.push(value),
            None => self.series.push((name, vec![value])),
        }
    }

    /// Only what comes from now on counts.
    pub fn forget_rounds(&mut self) {
        self.series.clear();
    }

    /// Keeps the largest of all ranks. Collective.
    pub fn note_memory(&mut self, world: &World, memory: Memory) {
        let mut most = [memory.state, memory.before, memory.peak].map(|bytes| bytes as f64 / f64::from(1 << 20));
        world.max(&mut most);
        self.memory = Some(most);
    }

    fn of(&self, name: &str) -> &[f64] {
        self.series.iter().find(|(own, _)| *own == name).map_or(&[], |(_, values)| values)
    }

    fn better<'a>(&self, names: [&'a str; 2]) -> &'a str {
        if median(self.of(names[0])) <= median(self.of(names[1])) { names[0] } else { names[1] }
    }

    /// What the targets are about.
    fn ratios(&self, about: &About<'_>) -> [Ratio; 9] {
        let of = |name| median(self.of(name));
        let raw = of(self.better(["raw_buffered_ms", "raw_direct_ms"]));
        let stored = of(self.better(["stored_buffered_ms", "stored_direct_ms"]));
        let (blocked, copy) = (of("blocked_ms"), of("memcpy_ms"));
        let (commit, warm) = (of("commit_ms"), of("restore_warm_ms"));
        let (blocked_targets, fault_targets) = ([Some(1.1), Some(0.25), Some(0.08)], [None, Some(0.6), Some(0.15)]);
        [
            ("blocked_over_memcpy", blocked / copy, about.by_share(blocked_targets)),
            ("blocked_and_faults_over_memcpy", (blocked + of("fault_ms")) / copy, about.by_share(fault_targets)),
            ("commit_over_raw_write", commit / raw, about.commit_target()),
            ("commit_over_stored_write_or_encode", commit / stored.max(of("encode_ms")), Some(1.15)),
            ("bytes_over_full", of("bytes_written") / of("full_bytes"), about.bytes_target()),
            ("lost_over_raw_write", of("lost_ms") / raw, Some(0.75)),
            ("restore_cold_over_stored_read", of("restore_cold_ms") / of("stored_read_ms"), Some(1.1)),
            ("restore_warm_over_decode", warm / of("decode_ms"), Some(1.5)),
            ("restore_warm_over_memcpy", warm / copy, about.stores_raw().then_some(1.5)),
        ]
    }

    pub fn print(&self, about: &About<'_>, as_json: bool) {
        if as_json { println!("{}", self.json(about)) } else { self.table(about) }
    }

    fn json(&self, about: &About<'_>) -> Value {
        let mut all = Map::new();
        all.insert("job".into(), about.json());
        let entry = |values: &[f64]| {
            let least = values.iter().copied().fold(f64::INFINITY, f64::min);
            json!({ "median": rounded(median(values)), "min": rounded(least), "n": values.len() })
        };
        for (name, values) in &self.series {
            all.insert((*name).into(), entry(values));
        }
        for (name, from) in [
            ("raw_write_fsync_ms", ["raw_buffered_ms", "raw_direct_ms"]),
            ("stored_write_fsync_ms", ["stored_buffered_ms", "stored_direct_ms"]),
        ] {
            let better = self.better(from);
            let mut value = entry(self.of(better));
            value["how"] = if better == from[0] { "buffered".into() } else { "direct".into() };
            all.insert(name.into(), value);
        }
        for (name, ratio, target) in self.ratios(about) {
            all.insert(name.into(), json!({ "value": rounded(ratio), "target": target }));
        }
        if let Some([state, before, peak]) = self.memory {
            let memory =
                [("state", state), ("before", before), ("peak", peak)].map(|(k, v)| (k.to_owned(), rounded(v)));
            all.insert("memory_mib".into(), Value::Object(memory.into_iter().collect()));
        }
        Value::Object(all)
    }

    fn table(&self, about: &About<'_>) {
        about.print();
        println!();
        println!("{:<20} {:>12} {:>12}", "", "median", "min");
        for (name, values) in &self.series {
            let least = values.iter().copied().fold(f64::INFINITY, f64::min);
            println!("{name:<20} {:>12.2} {least:>12.2}", median(values));
        }
        println!();
        for (name, ratio, target) in self.ratios(about) {
            match target {
                Some(target) => println!("{name:<36} {ratio:>6.2}  (at most {target})"),
                None => println!("{name:<36} {ratio:>6.2}"),
            }
        }
        if let Some([state, before, peak]) = self.memory {
            println!("resident: {before:.0} MiB before, {peak:.0} at most, with a state of {state:.0}");
        }
    }
}

fn rounded(value: f64) -> Value {
    json!((value * 1000.0).round() / 1000.0)
}

/// A figure of `/proc/self/status` in bytes.
fn status(key: &str) -> Outcome<u64> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix(key)).ok_or_else(|| format!("no {key} in the status"))?;
    let number = line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<u64>()?;
    Ok(number * 1024)
}

/// What is resident now.
pub fn resident() -> Outcome<u64> {
    status("VmRSS")
}

/// The most that was resident since [`forget_peak`].
pub fn peak() -> Outcome<u64> {
    status("VmHWM")
}

/// Lets the peak begin anew.
pub fn forget_peak() -> Outcome<()> {
    Ok(std::fs::write("/proc/self/clear_refs", "5")?)
}
