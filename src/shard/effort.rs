//! How much work to spend on making a shard small.
//!
//! Comes in: for each field what a sample of its chunks cost and took with every effort, and what is known of storage,
//! processors and the job. Goes out: an effort for each field, and how many threads are worth their while. What must hold:
//! the choice depends on nothing but these figures; writing the bytes as they are is always among the efforts, so that
//! nothing costs more than that by the figures.
//!
//! What is made least is the expected waste, as a share of the job's time,
//!
//! ```text
//!     b · (C + min(S / w, c · S)) / P + (L + R) / M        L = max(C / n, S / w) + (1 + b) / 2 · min(C / n, S / w, c · S)
//! ```
//!
//! for processor seconds C of encoding, stored bytes S, n threads and storage that takes w bytes a second: the application
//! is slowed by b seconds for each of encoding and writing (0 where processors are idle, 1 where none is), once in an interval P,
//! and a failure, once in M, costs the latency L more, and the way back R = S / w. A latency beyond the interval lengthens that, and counts in full.
//! Where processors are idle, encoding and writing go on side by side, but not for nothing (with 78 ms
//! of encoding and 55 of writing a commit took 95): half of the shorter one counts. Where none is idle, they go on in turn. With no processor free,
//! 256 MiB a rank that were only hashed and written slowed steps by 270 ms, of which hashing took 64, and 59 ms of encoding
//! beside 42 of writing took 95: writing disturbs like encoding. On slow storage it mostly waits, and disturbs no more than
//! as many bytes do on fast storage (c, [`WRITING_SECONDS`]).
//!
//! Where the best effort for all chunks would leave the storage waiting, and less work would make it the bottleneck, the best lies in
//! between: [`Circumstances::in_haste`] says what to do instead while the storage has nothing to write, so that both end
//! together whatever the figures are worth. Among what is about as good, that with the fewest bytes is
//! taken: the measurements are no better than that, and room is worth something.

use super::codec::{Compression, Encoder};
use super::{Codec, Grain};
use nix::time::{ClockId, clock_gettime};

/// What may be chosen, from the least work to the most.
const CHOICES: [Compression; 5] =
    [Compression::Raw, Compression::Fastest, Compression::Auto, Compression::Thorough, Compression::Smallest];

/// Processor seconds that writing takes from the application for each byte: (270 − 64) ms for 256 MiB, above.
const WRITING_SECONDS: f64 = 0.77e-9;

/// What wastes no more than this times the least is about as good: surveys of the same field differ by as much.
const ABOUT_AS_GOOD: f64 = 1.2;

/// Surveys are wrong by up to this factor.
const ERROR: f64 = 1.3;

/// Encoding is to be faster than the storage by so much, or one would wait for the other now and then.
const HEADROOM: f64 = 1.4;

/// One chunk of so many is looked at, at least [`SAMPLE_LEAST`] and at most [`SAMPLE_MOST`] of a field: parts of a field differ,
/// and the first chunk alone was taken for all of one of 51 MiB, wrongly.
const SAMPLE_SHARE: usize = 16;
const SAMPLE_LEAST: usize = 4;
const SAMPLE_MOST: usize = 16;

/// What an effort costs and gives, for each raw byte.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Price {
    /// Processor seconds of one thread.
    pub seconds: f64,
    /// Stored bytes.
    pub stored: f64,
}

/// What each effort costs and gives on one field.
#[derive(Debug, Clone, PartialEq)]
pub struct Prices {
    /// Raw bytes of the field.
    pub bytes: u64,
    prices: [Price; CHOICES.len()],
}

/// What else the choice depends on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Circumstances {
    /// Threads that encode.
    pub threads: usize,
    /// What the storage takes, bytes per second.
    pub storage: f64,
    /// Seconds that the application loses for each second of encoding and writing, 0 to 1.
    pub busy: f64,
    /// Seconds between checkpoints.
    pub interval: f64,
    /// Mean time between failures of the job, seconds.
    pub mtbf: f64,
}

/// Processor seconds of this thread: what else runs on the machine does not show in them.
fn processor_seconds() -> f64 {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .map_or(0.0, |time| time.tv_sec() as f64 + time.tv_nsec() as f64 * 1e-9)
}

impl Prices {
    /// Tries every effort on a sample of `field`, on this thread.
    #[must_use]
    pub fn survey(field: &[u8], grain: Grain, chunk_bytes: usize) -> Self {
        let chunks = field.len().div_ceil(chunk_bytes.max(1));
        let count = (chunks / SAMPLE_SHARE).clamp(SAMPLE_LEAST, SAMPLE_MOST).min(chunks);
        let sample: Vec<&[u8]> =
            (0..count).filter_map(|number| field.chunks(chunk_bytes.max(1)).nth(number * chunks / count)).collect();
        let raw: usize = sample.iter().map(|chunk| chunk.len()).sum();
        let (mut encoder, mut stored) = (Encoder::default(), Vec::new());
        let prices = CHOICES.map(|effort| {
            // Memory and tables are touched before the clock runs.
            if let Some(first) = sample.first() {
                encoder.encode(first, grain, effort, &mut stored);
            }
            let start = processor_seconds();
            let bytes: usize = sample
                .iter()
                .map(|chunk| {
                    let encoded = encoder.encode(chunk, grain, effort, &mut stored);
                    if encoded.codec == Codec::Raw { chunk.len() } else { encoded.stored_len }
                })
                .sum();
            let seconds = (processor_seconds() - start).max(0.0);
            Price { seconds: seconds / raw.max(1) as f64, stored: bytes as f64 / raw.max(1) as f64 }
        });
        Self { bytes: field.len() as u64, prices }
    }

    /// What `effort` costs and gives; `None` where it is none of those that are chosen among.
    #[must_use]
    pub fn of(&self, effort: Compression) -> Option<Price> {
        CHOICES.iter().position(|choice| *choice == effort).map(|place| self.prices[place])
    }
}

impl Circumstances {
    /// The waste of a checkpoint of so many processor seconds and stored bytes, as a share of the job's time.
    #[must_use]
    pub fn waste(&self, seconds: f64, stored: f64) -> f64 {
        let writing = stored / self.storage.max(1.0);
        let encoding = seconds / self.threads.max(1) as f64;
        let at_work = writing.min(stored * WRITING_SECONDS);
        let latency = encoding.max(writing) + (1.0 + self.busy) / 2.0 * encoding.min(at_work);
        let (overdue, interval) = ((latency - self.interval).max(0.0), self.interval.max(1e-3));
        self.busy * (seconds + at_work) / interval + (latency + writing) / self.mtbf.max(1.0) + overdue / interval
    }

    /// How many threads, up to those there are, encode as fast as the storage takes what comes of it. More would only make
    /// the application's processors and caches serve what then waits for the storage.
    #[must_use]
    pub fn threads_for(&self, seconds: f64, stored: f64) -> usize {
        let writing = stored / self.storage.max(1.0);
        let wanted = (seconds * HEADROOM / writing.max(1e-9)).ceil();
        // A value beyond the range of the type becomes its largest.
        (wanted as usize).clamp(1, self.threads.max(1))
    }

    /// What a checkpoint of `fields` costs where each is encoded with its effort: processor seconds, and stored bytes.
    #[must_use]
    pub fn cost(fields: &[Prices], efforts: &[Compression]) -> (f64, f64) {
        let of = |(field, effort): (&Prices, &Compression)| {
            let bytes = field.bytes as f64;
            field.of(*effort).map_or((0.0, bytes), |price| (price.seconds * bytes, price.stored * bytes))
        };
        fields.iter().zip(efforts).map(of).fold((0.0, 0.0), |sum, cost| (sum.0 + cost.0, sum.1 + cost.1))
    }

    /// The effort for each field that makes the waste of a checkpoint of all of them least.
    #[must_use]
    pub fn choose(&self, fields: &[Prices]) -> Vec<Compression> {
        let figures = |efforts: Vec<Compression>| {
            let (seconds, stored) = Self::cost(fields, &efforts);
            (self.waste(seconds, stored), stored, efforts)
        };
        let all: Vec<_> = candidates(fields).map(figures).collect();
        let least = all.iter().map(|(waste, ..)| *waste).fold(f64::INFINITY, f64::min);
        let good = all.into_iter().filter(|(waste, ..)| *waste <= least * ABOUT_AS_GOOD);
        let best = good.min_by(|(_, a, _), (_, b, _)| a.total_cmp(b));
        best.map(|(_, _, efforts)| efforts).unwrap_or_default()
    }

    /// For each field an effort of less work than the `chosen` one, to be taken while the storage has nothing to write; `None` where
    /// that gains nothing: the storage does not wait, or would wait all the same.
    #[must_use]
    pub fn in_haste(&self, fields: &[Prices], chosen: &[Compression]) -> Option<Vec<Compression>> {
        let times =
            |(seconds, stored): (f64, f64)| (seconds / self.threads.max(1) as f64, stored / self.storage.max(1.0));
        let chosen = Self::cost(fields, chosen);
        let (encoding, writing) = times(chosen);
        if encoding * ERROR <= writing {
            return None;
        }
        // Where both take about as long, it may well be encoding that takes longer.
        let error = (ERROR * writing / encoding).max(1.0);
        let (slow_encoding, slow) = (encoding * error, (chosen.0 * error, chosen.1));
        let mixed = |efforts: Vec<Compression>| {
            let (seconds, stored) = Self::cost(fields, &efforts);
            let fast = (seconds * error, stored);
            let (fast_encoding, fast_writing) = times(fast);
            // The part of the state at which encoding and writing take as long, if it gets the chosen efforts.
            let ahead = fast_writing - fast_encoding;
            let part = ahead / (ahead + slow_encoding - writing);
            let of = |slow: f64, fast: f64| fast + part * (slow - fast);
            (ahead > 0.0).then(|| (self.waste(of(slow.0, fast.0), of(slow.1, fast.1)), efforts))
        };
        let best = candidates(fields).filter_map(mixed).min_by(|(a, _), (b, _)| a.total_cmp(b));
        best.filter(|(waste, _)| *waste < self.waste(slow.0, slow.1)).map(|(_, efforts)| efforts)
    }
}

/// The combinations that are worth a look: those that are best for some exchange rate between seconds and bytes (most
/// others lie inside their convex hull), and each effort for all fields alike.
fn candidates(fields: &[Prices]) -> impl Iterator<Item = Vec<Compression>> {
    /// Exchange rates from bytes at 10 MB/s to bytes at 100 GB/s.
    const RATES: i32 = 80;
    let at_rate = |step: i32| {
        let bytes_a_second = 10f64.powf(7.0 + 4.0 * f64::from(step) / f64::from(RATES));
        let best_of = move |field: &Prices| {
            let cost = |place: &usize| field.prices[*place].seconds + field.prices[*place].stored / bytes_a_second;
            CHOICES[(0..CHOICES.len()).min_by(|a, b| cost(a).total_cmp(&cost(b))).unwrap_or_default()]
        };
        fields.iter().map(best_of).collect()
    };
    CHOICES.into_iter().map(|effort| vec![effort; fields.len()]).chain((0..=RATES).map(at_rate))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A field as the benchmark finds the tsunami's: GB/s of one core, and ratio.
    fn tsunami() -> Prices {
        prices(1 << 28, [(6.0, 1.0), (3.3, 9.4), (3.2, 9.6), (1.4, 13.9), (1.3, 13.9)])
    }

    fn noise() -> Prices {
        prices(1 << 28, [(6.0, 1.0), (5.9, 1.0), (5.9, 1.0), (5.0, 1.0), (1.0, 1.0)])
    }

    fn prices(bytes: u64, of: [(f64, f64); CHOICES.len()]) -> Prices {
        Prices { bytes, prices: of.map(|(speed, ratio)| Price { seconds: 1e-9 / speed, stored: 1.0 / ratio }) }
    }

    fn circumstances(storage: f64, busy: f64) -> Circumstances {
        Circumstances { threads: 1, storage, busy, interval: 600.0, mtbf: 86_400.0 }
    }

    #[test]
    fn slow_storage_gets_small_shards_and_busy_processors_little_work() {
        let choose = |storage: f64, busy: f64| circumstances(storage, busy).choose(&[tsunami(), noise()]);
        // Idle processors: as much work as the storage leaves time for.
        assert_eq!(choose(20e6, 0.0)[0], Compression::Thorough);
        assert!(matches!(choose(2e9, 0.0)[0], Compression::Fastest | Compression::Auto));
        // Whatever is busy, what does not shrink is not worked on, where the storage is fast.
        assert_eq!(choose(20e9, 1.0), [Compression::Raw, Compression::Raw]);
        assert!(matches!(choose(1e9, 1.0)[0], Compression::Fastest | Compression::Auto));
        for storage in [1e6, 1e8, 1e10] {
            assert_ne!(choose(storage, 0.0)[1], Compression::Smallest, "nothing is gained by it");
        }
    }

    #[test]
    fn a_survey_finds_what_compresses() {
        let smooth: Vec<u8> = (0..300_000).flat_map(|i| (f64::from(i) * 1e-3).sin().to_le_bytes()).collect();
        let prices = Prices::survey(&smooth, Grain { stride: 8, lane: 8 }, 64 << 10);
        assert_eq!(prices.bytes, 2_400_000);
        let of = |effort| prices.of(effort).unwrap();
        assert_eq!(of(Compression::Raw).stored, 1.0);
        assert!(
            of(Compression::Auto).stored < 0.9 && of(Compression::Thorough).stored <= of(Compression::Fastest).stored
        );
        assert_eq!(prices.of(Compression::Zstd(3)), None);
        assert_eq!(Prices::survey(&[], Grain::BYTES, 64 << 10).bytes, 0);
        assert!(circumstances(1e9, 0.0).choose(&[]).is_empty());
    }

    #[test]
    fn no_more_threads_encode_than_the_storage_keeps_up_with() {
        let about = |storage: f64| Circumstances { threads: 8, ..circumstances(storage, 0.0) };
        let (seconds, stored) = Circumstances::cost(&[tsunami()], &[Compression::Auto]);
        assert!((0.08..0.09).contains(&seconds) && (2.7e7..2.9e7).contains(&stored), "{seconds} {stored}");
        // 84 ms of encoding beside 140 ms of writing, and beside 28.
        assert_eq!(about(200e6).threads_for(seconds, stored), 1);
        assert_eq!(about(1e9).threads_for(seconds, stored), 5);
        assert_eq!(about(1e12).threads_for(seconds, stored), 8);
        assert_eq!(about(1e9).threads_for(0.0, 0.0), 1);
    }

    #[test]
    fn slow_storage_beside_idle_processors_is_worth_all_the_work_that_it_hides() {
        let about = Circumstances { threads: 2, ..circumstances(100e6, 0.0) };
        let chosen = about.choose(&[tsunami()]);
        assert!(matches!(chosen[..], [Compression::Thorough | Compression::Smallest]), "{chosen:?}");
    }

    #[test]
    fn where_the_storage_would_wait_some_chunks_get_less_work() {
        // 2 × 256 MiB at 100 MB/s each: 192 ms of encoding beside 193 of writing would be the best; what is measured is not.
        let slow = |thorough: f64| prices(1 << 28, [(6.0, 1.0), (3.3, 9.4), (3.2, 9.6), (thorough, 13.9), (1.3, 13.9)]);
        let about = circumstances(100e6, 0.0);
        let haste = |field: Prices| {
            let chosen = about.choose(std::slice::from_ref(&field));
            (chosen[0], about.in_haste(&[field], &chosen).map(|efforts| efforts[0]))
        };
        assert_eq!(haste(slow(1.05)), (Compression::Thorough, Some(Compression::Auto)));
        assert_eq!(haste(slow(1.45)), (Compression::Thorough, Some(Compression::Auto)), "as far as can be known");
        assert_eq!(haste(slow(3.0)), (Compression::Thorough, None), "the storage is behind as it is");
        assert_eq!(haste(noise()).1, None);
        // Whatever is done, this storage waits.
        let about = circumstances(1e12, 0.0);
        assert_eq!(about.in_haste(&[tsunami()], &[Compression::Auto]), None);
    }

    proptest! {
        /// Nothing is worse than raw, or than one effort for all, by the figures that the choice is made from.
        #[test]
        fn no_single_effort_is_better(
            fields in prop::collection::vec((1u64..1 << 30, prop::array::uniform5((0.1f64..10.0, 1.0f64..20.0))), 1..5),
            storage in 6.0f64..10.5, busy in 0.0f64..1.0, interval in 0.0f64..4.0,
        ) {
            let fields: Vec<Prices> = fields.into_iter().map(|(bytes, of)| prices(bytes, of)).collect();
            let about =
                Circumstances { interval: 10f64.powf(interval), ..circumstances(10f64.powf(storage), busy) };
            let waste = |efforts: &dyn Fn(usize) -> Compression| {
                let (mut seconds, mut stored) = (0.0, 0.0);
                for (number, field) in fields.iter().enumerate() {
                    let price = field.of(efforts(number)).unwrap();
                    seconds += price.seconds * field.bytes as f64;
                    stored += price.stored * field.bytes as f64;
                }
                about.waste(seconds, stored)
            };
            let chosen = about.choose(&fields);
            let own = waste(&|number| chosen[number]);
            for effort in CHOICES {
                prop_assert!(own <= waste(&|_| effort) * (ABOUT_AS_GOOD + 1e-9), "{effort:?}: {own} and {}", waste(&|_| effort));
            }
            prop_assert!(own.is_finite());
        }
    }
}
