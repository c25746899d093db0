//! Chooses, checkpoint by checkpoint, how much work a rank spends on making its shard small.
//!
//! Comes in: what the last shards took to encode and to write, what they cost the application's steps, and now and then a
//! survey of the state. Goes out: an effort for each field, and the figures that it was chosen by. What must hold: it runs on
//! the background's threads alone; before anything is measured, and where the user chose, nothing is tuned.

use super::pipeline::Work;
use crate::shard::{Circumstances, Compression, Prices, ShardSummary};
use rayon::ThreadPool;
use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::time::Instant;

/// Checkpoints between two surveys of the state: it changes as a simulation goes on, and slowly.
const SURVEY_EVERY: u32 = 16;
/// Smaller shards say nothing of the storage's speed.
const TELLING_BYTES: u64 = 4 << 20;
/// How much of a new measurement is believed.
const NEWEST: f64 = 0.5;

/// What a choice was made by.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Choice {
    /// By field; empty where nothing was chosen.
    pub efforts: Vec<Compression>,
    /// The same while the storage has nothing to write.
    pub in_haste: Vec<Compression>,
    /// How many threads encode.
    pub threads: usize,
    pub circumstances: Circumstances,
    /// What is expected of it: processor seconds, and stored bytes.
    pub seconds: f64,
    pub stored: f64,
}

impl Choice {
    /// The fields of each effort, for people.
    pub(super) fn by_effort(&self, names: &[&str]) -> BTreeMap<String, String> {
        by_effort(names.iter().zip(&self.efforts))
    }

    /// The same of the fields that get another effort while the storage waits.
    pub(super) fn by_effort_in_haste(&self, names: &[&str]) -> BTreeMap<String, String> {
        let others = names.iter().zip(&self.efforts).zip(&self.in_haste).filter(|((_, effort), haste)| effort != haste);
        by_effort(others.map(|((name, _), haste)| (name, haste)))
    }
}

fn by_effort<'a>(fields: impl Iterator<Item = (&'a &'a str, &'a Compression)>) -> BTreeMap<String, String> {
    let mut list: BTreeMap<String, String> = BTreeMap::new();
    for (name, effort) in fields {
        let fields = list.entry(format!("{effort:?}").to_lowercase()).or_default();
        if !fields.is_empty() {
            fields.push_str(", ");
        }
        fields.push_str(name);
    }
    list
}

/// One rank's measurements.
#[derive(Debug, Default)]
pub(super) struct Tuner {
    /// Seconds between failures of the job, as the attempt began; the choice changes little with it.
    mtbf: f64,
    prices: Vec<Prices>,
    until_survey: u32,
    /// Bytes per second that the storage took.
    storage: Option<f64>,
    /// Seconds that steps lost for each second of encoding and writing.
    busy: Option<f64>,
    work_seconds: f64,
    /// When the last checkpoint was begun, and the seconds from the one before it.
    begun: Option<Instant>,
    interval: Option<f64>,
}

fn blend(old: &mut Option<f64>, new: f64) {
    *old = Some(old.map_or(new, |old| old + NEWEST * (new - old)));
}

impl Tuner {
    /// One for a job that fails every `mtbf` seconds.
    pub(super) fn new(mtbf: f64) -> Self {
        Self { mtbf, ..Self::default() }
    }

    /// Chooses for the shard of `work`. `lost_seconds`: what the last shard cost the application's steps, where that is known
    /// since this was called last. `bandwidth`: the bytes a second that the user allows, which do not show in the time of
    /// writing as long as encoding is no faster.
    pub(super) fn choose(
        &mut self,
        work: &Work<'_>,
        chunk_bytes: usize,
        pool: &ThreadPool,
        lost_seconds: Option<f64>,
        bandwidth: Option<NonZeroU64>,
    ) -> Option<Choice> {
        let now = Instant::now();
        if let Some(begun) = self.begun.replace(now) {
            blend(&mut self.interval, now.saturating_duration_since(begun).as_secs_f64());
        }
        if let Some(lost) = lost_seconds
            && self.work_seconds > 0.0
        {
            blend(&mut self.busy, (lost / self.work_seconds).clamp(0.0, 1.0));
        }
        self.survey(work, chunk_bytes, pool);
        let circumstances = Circumstances {
            threads: pool.current_num_threads(),
            storage: self.storage?.min(bandwidth.map_or(f64::INFINITY, |most| most.get() as f64)),
            busy: self.busy.unwrap_or(0.0),
            interval: self.interval?,
            mtbf: self.mtbf,
        };
        let efforts = circumstances.choose(&self.prices);
        let (seconds, stored) = Circumstances::cost(&self.prices, &efforts);
        let threads = circumstances.threads_for(seconds, stored);
        let in_haste = circumstances.in_haste(&self.prices, &efforts).unwrap_or_default();
        Some(Choice { efforts, in_haste, threads, circumstances, seconds, stored })
    }

    fn survey(&mut self, work: &Work<'_>, chunk_bytes: usize, pool: &ThreadPool) {
        let fields = work.fields();
        let same = self.prices.len() == fields.len()
            && self.prices.iter().zip(&fields).all(|(prices, (bytes, _))| prices.bytes == bytes.len() as u64);
        if same && self.until_survey > 0 {
            self.until_survey -= 1;
            return;
        }
        self.until_survey = SURVEY_EVERY;
        self.prices = pool
            .install(|| fields.into_iter().map(|(bytes, grain)| Prices::survey(bytes, grain, chunk_bytes)).collect());
    }

    /// What came of it.
    pub(super) fn learn(&mut self, summary: &ShardSummary) {
        self.work_seconds = summary.encode_seconds + summary.write_seconds;
        if summary.bytes >= TELLING_BYTES && summary.write_seconds > 0.0 {
            blend(&mut self.storage, summary.bytes as f64 / summary.write_seconds);
        }
    }
}
