//! What watching costs: a step and a phase of a rank, and one look of the agent at 128 ranks.
//!
//! `cargo bench --bench watch`. Prints one JSON line: nanoseconds of a step and of a phase; of a look, the processor time and the share of one
//! core at one look a second and at the five of the default; the memory that the agent added; the control is a copy of the board's bytes.

use piton::ids::Epoch;
use piton::supervised::Supervised;
use piton::watch::Agent;
use piton::watch::board::{Board, BoardName, Place};
use piton::watch::detect::HangRules;
use std::error::Error;
use std::hint::black_box;
use std::time::{Duration, Instant};

const RANKS: u32 = 128;
const CALLS: u64 = 5_000_000;
const LOOKS: u32 = 2_000;

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The thread's processor time, seconds.
fn processor_time() -> f64 {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID)
        .map_or(0.0, |time| time.tv_sec() as f64 + time.tv_nsec() as f64 * 1e-9)
}

/// Resident memory, KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

fn nanoseconds(mut call: impl FnMut(u64)) -> f64 {
    median(
        (0..7)
            .map(|_| {
                let started = Instant::now();
                (1..=CALLS).for_each(&mut call);
                started.elapsed().as_nanos() as f64 / CALLS as f64
            })
            .collect(),
    )
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir())?;
    let name = BoardName {
        job: "bench".into(),
        store: folder.path().into(),
        epoch: Epoch(1),
        token: 1,
        supervised: Supervised::default(),
    };
    let beat = Duration::from_millis(100);
    let board = Board::make(folder.path(), &name, RANKS as usize, RANKS, beat)?;
    let places: Vec<Place> = (0..RANKS).map(|rank| board.place(rank as usize, rank)).collect();
    let place = &places[0];
    place.computing(0);
    let mut at = 0;
    let step_ns = nanoseconds(|_| {
        at += 1;
        black_box(place).step(at);
    });
    let phase_ns = nanoseconds(|_| drop(black_box(black_box(place).enter("halo exchange", true))));

    places.iter().for_each(|place| place.computing(0));
    let before = resident();
    let path = board.path().ok_or("no file")?;
    let mut agent = Agent::new(Board::open(path)?, HangRules::default());
    let mut times = Vec::new();
    let mut said = 0;
    for step in 1..=LOOKS {
        for place in &places {
            // Several steps and beats between two looks.
            (0..5).for_each(|more| place.step(u64::from(step) * 5 + more));
            (0..2).for_each(|_| place.beat(Duration::ZERO));
            let _phase = place.enter("halo exchange", true);
        }
        let started = processor_time();
        said += agent.look().len();
        times.push(processor_time() - started);
    }
    if said > 0 {
        return Err(format!("{said} findings of ranks that are well").into());
    }
    let look = median(times);
    let bytes = std::fs::read(path)?;
    let mut copy = vec![0; bytes.len()];
    let control = median(
        (0..LOOKS)
            .map(|_| {
                let started = Instant::now();
                copy.copy_from_slice(black_box(&bytes));
                black_box(&mut copy);
                started.elapsed().as_secs_f64()
            })
            .collect(),
    );
    println!(
        r#"{{"ranks":{RANKS},"step_ns":{step_ns:.1},"phase_ns":{phase_ns:.1},"look_us":{:.1},"copy_of_the_board_us":{:.1},"core_share_at_1_hz":{:.6},"core_share_at_5_hz":{:.6},"memory_kib":{}}}"#,
        look * 1e6,
        control * 1e6,
        look,
        5.0 * look,
        resident().saturating_sub(before)
    );
    Ok(())
}
