//! π by throwing darts, with rayon alone: no MPI, no grid.
//!
//! Every throw is a pure function of its number: throw `n` of task `t` takes block `n` of the stream with key `t` of
//! Philox 4×32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011). There is no generator whose
//! state could be shared or lost: a resumed run needs only to know how many throws each task has behind it. Hits are
//! whole numbers, and a dart hits or misses exactly, so every digit is the same for any number of threads and for any
//! restart.

#[path = "common/mod.rs"]
mod common;

use common::{Arguments, Between, Example, Failure, Fingerprint, World};
use rayon::prelude::*;
use std::process::ExitCode;

const EXAMPLE: Example = Example {
    name: "pi",
    summary: "Finds digits of pi by throwing darts with rayon; protected by Piton.",
    size: None,
    step_is: "4 194 304 darts",
    steps: 500,
    own: &[],
    try_these: &[
        "cargo run --release --example pi",
        "cargo run --release --example pi -- --inject kill-rank=0@step=260",
        "cargo run --release --example pi -- --resume",
    ],
};

/// Streams of darts. More than any machine's cores, and part of the result: do not change it between attempts.
const TASKS: usize = 256;
/// Blocks that a task draws in a step; a block is two darts.
const BLOCKS: u64 = 8192;

/// What was thrown so far.
#[derive(piton::State)]
struct Darts {
    /// Blocks that each task has drawn.
    drawn: Vec<u64>,
    /// Darts of each task that hit.
    hits: Vec<u64>,
}

impl Darts {
    fn new() -> Self {
        Self { drawn: vec![0; TASKS], hits: vec![0; TASKS] }
    }

    fn advance(&mut self, blocks: u64) {
        self.drawn.par_iter_mut().zip(&mut self.hits).enumerate().for_each(|(task, (drawn, hits))| {
            *hits += (*drawn..*drawn + blocks).map(|block| hits_of(task as u64, block)).sum::<u64>();
            *drawn += blocks;
        });
    }

    /// The estimate and its standard error.
    fn estimate(&self) -> (f64, f64) {
        let darts = 2.0 * self.drawn.iter().sum::<u64>() as f64;
        let share = self.hits.iter().sum::<u64>() as f64 / darts;
        (4.0 * share, 4.0 * (share * (1.0 - share) / darts).sqrt())
    }
}

/// How many of the two darts of a block hit the quarter disc.
fn hits_of(task: u64, block: u64) -> u64 {
    let counter = [block as u32, (block >> 32) as u32, 0, 0];
    let [a, b, c, d] = philox(counter, [task as u32, (task >> 32) as u32]);
    u64::from(is_hit(a, b)) + u64::from(is_hit(c, d))
}

/// Whether a dart at the middle of cell (x, y) of a 2³¹ × 2³¹ board is within the radius; in whole numbers, so exactly.
fn is_hit(x: u32, y: u32) -> bool {
    let [x, y] = [x, y].map(|cell| u64::from(cell | 1));
    x * x <= u64::MAX - y * y
}

/// Ten rounds of Philox 4×32: a bijection of the counter that no statistical test has told from noise.
fn philox(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let ([mut a, mut b, mut c, mut d], [mut k, mut l]) = (counter, key);
    for _ in 0..10 {
        let (p, q) = (u64::from(a) * 0xD251_1F53, u64::from(c) * 0xCD9E_8D57);
        [a, b, c, d] = [(q >> 32) as u32 ^ b ^ k, q as u32, (p >> 32) as u32 ^ d ^ l, p as u32];
        k = k.wrapping_add(0x9E37_79B9);
        l = l.wrapping_add(0xBB67_AE85);
    }
    [a, b, c, d]
}

fn throw(arguments: &Arguments, world: &World) -> Result<(), Failure> {
    let mut darts = Darts::new();
    let mut between = Between::new(arguments, world);

    let mut checkpointer =
        piton::Checkpointer::builder("pi").args(arguments.for_piton()).open(piton::comm::Solo::default())?;
    let mut step = checkpointer.resume(&mut darts)?.map_or(0, |at| at.step);
    while step < arguments.steps {
        darts.advance(BLOCKS);
        step += 1;
        if checkpointer.tick(step, &mut darts).should_stop() {
            break;
        }
        between.after(step);
    }
    let saved = checkpointer.finish(&mut darts);

    if step > 0 {
        let (estimate, error) = darts.estimate();
        println!("pi = {estimate:.9} ± {error:.9} after {} darts", 2 * darts.drawn.iter().sum::<u64>());
    }
    Fingerprint::new().integers(&darts.drawn).integers(&darts.hits).announce(step);
    // The result stands, even where the end of the job cannot be saved.
    saved?;
    Ok(())
}

fn main() -> ExitCode {
    common::run_alone(&EXAMPLE, throw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn philox_gives_the_published_answers() {
        // Known answers of Random123, the authors' own implementation.
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox([!0; 4], [!0; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        assert_eq!(
            philox([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn the_rim_of_the_disc_is_exact() {
        assert!(is_hit(0, 0));
        assert!(is_hit(0, u32::MAX));
        assert!(!is_hit(u32::MAX, u32::MAX));
        // 2^31.5 is the coordinate of the rim on the diagonal.
        let rim = 3_037_000_499;
        assert!(is_hit(rim, rim) && !is_hit(rim + 2, rim));
    }

    #[test]
    fn the_hits_do_not_depend_on_threads_or_restarts() {
        let run = |threads: usize, parts: &[usize]| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            let mut darts = Darts::new();
            for &steps in parts {
                let (drawn, hits) = (darts.drawn.clone(), darts.hits.clone());
                darts = Darts { drawn, hits };
                pool.install(|| (0..steps).for_each(|_| darts.advance(64)));
            }
            (darts.hits, darts.drawn)
        };
        let whole = run(1, &[2]);
        assert_eq!(run(2, &[1, 1]), whole);
        assert_eq!(run(5, &[2]), whole);
        let darts = Darts { hits: whole.0, drawn: whole.1 };
        let (estimate, error) = darts.estimate();
        assert!((estimate - std::f64::consts::PI).abs() < 5.0 * error, "{estimate} ± {error}");
    }
}
