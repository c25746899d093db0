//! How long the application stands still in a freeze that copies only the written pages, and what the first writes after it cost.
//!
//! `cargo bench --bench freeze -- [--mib N] [--repeats N]` (256 MiB, 9 times). Every measurement is taken beside that of a
//! session with `tracking = "off"` on memory of the same kind, in turns. Prints a table of medians; ratios are to the plain copy.
//! Checkpoints go to memory where there is `/dev/shm`.

use piton::comm::Solo;
use piton::{Checkpointer, PagedVec, State};
use std::error::Error;
use std::fs::DirEntry;
use std::path::Path;
use std::time::{Duration, Instant};

mod threads;

const PAGE: usize = 4096 / size_of::<f64>();

type Failure = Box<dyn Error>;

#[derive(State)]
struct Field {
    values: PagedVec<f64>,
}

/// A job with one large field.
struct Job {
    checkpointer: Checkpointer,
    field: Field,
    step: u64,
    name: String,
    // Its checkpoints go when it goes.
    store: tempfile::TempDir,
}

impl Job {
    fn open(name: &str, mib: usize, settings: &[(&'static str, &str)]) -> Result<Self, Failure> {
        let memory = Path::new("/dev/shm");
        let store = if memory.is_dir() { tempfile::tempdir_in(memory)? } else { tempfile::tempdir()? };
        let mut field = Field { values: PagedVec::new((mib << 20) / size_of::<f64>())? };
        field.values.iter_mut().enumerate().for_each(|(index, value)| *value = index as f64);
        let builder = Checkpointer::builder(name).dir(store.path()).every(Duration::ZERO).set("log", "normal");
        // Encoding is not what is measured, and of what is kept there is always one.
        let builder = builder.keep(1).set("chain", 1).set("compression", "raw").set("tracking_check", "never");
        let builder = settings.iter().fold(builder, |builder, (key, value)| builder.set(key, value));
        let mut checkpointer = builder.open(Solo::default())?;
        checkpointer.resume(&mut field)?;
        // Memory for the copy is touched in the background meanwhile.
        wait_until(|| Ok(!threads::has_thread("piton-prefault")))?;
        Ok(Self { checkpointer, field, step: 0, name: name.to_owned(), store })
    }

    /// The blocked time of a checkpoint, taken while nothing is in flight.
    fn freeze(&mut self) -> Result<f64, Failure> {
        self.step += 1;
        let started = Instant::now();
        self.checkpointer.checkpoint_now(self.step, None, &mut self.field)?;
        let blocked = started.elapsed();
        self.checkpointer.wait();
        // The one before is removed then, which takes a processor for a while.
        let attempt = self.store.path().join(&self.name).join(self.checkpointer.epoch().folder());
        let is_folder = |entry: &std::io::Result<DirEntry>| entry.as_ref().is_ok_and(|entry| entry.path().is_dir());
        wait_until(|| Ok(std::fs::read_dir(&attempt)?.filter(is_folder).count() <= 1))?;
        Ok(milliseconds(blocked))
    }

    /// How long it takes to write one number into each of these pages.
    fn write(&mut self, pages: &[usize]) -> f64 {
        let started = Instant::now();
        for &page in pages {
            self.field.values[page * PAGE + page % PAGE] += 1.0;
        }
        milliseconds(started.elapsed())
    }
}

fn wait_until(mut done: impl FnMut() -> std::io::Result<bool>) -> Result<(), Failure> {
    let started = Instant::now();
    while !done()? {
        if started.elapsed() > Duration::from_secs(60) {
            return Err("the background does not come to an end".into());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_unstable_by(f64::total_cmp);
    times[times.len() / 2]
}

/// So many of all pages, in a different place each time: neighbours, or spread.
fn choose(pages: usize, count: usize, scattered: bool, turn: usize) -> Vec<usize> {
    let first = turn * 7919 % pages;
    match scattered {
        false => (0..count).map(|index| (first + index) % pages).collect(),
        // One in each stretch of equal length, anywhere in it.
        true => {
            let place = |index: usize| {
                let stretch = index * pages / count..(index + 1) * pages / count;
                stretch.start + (index * 2_654_435_761 + first) % stretch.len()
            };
            (0..count).map(place).collect()
        }
    }
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |name: &str, default: usize| -> Result<usize, Failure> {
        match arguments.iter().position(|argument| argument == name) {
            Some(at) => Ok(arguments.get(at + 1).ok_or("a number is missing")?.parse()?),
            None => Ok(default),
        }
    };
    let (mib, repeats) = (number("--mib", 256)?, number("--repeats", 9)?.max(7));
    if let Err(reason) = piton::tracking_available() {
        println!("SKIPPED: {reason}");
        return Ok(());
    }
    let open = |name: &str, settings: &[(&'static str, &str)]| Job::open(name, mib, settings);
    let mut plain = open("plain", &[("tracking", "off")])?;
    plain.freeze()?;
    let pages = (mib << 20) / 4096;
    println!("{mib} MiB in one field, median of {repeats}; milliseconds");
    println!("written    |        | copy of all |  frozen | ratio |  writes | ratio | both | writes, plain");
    let report = |name: &str, way: &str, copy: &mut [f64], frozen: &mut [f64], own: &mut [f64], writes: &mut [f64]| {
        let (copy, frozen, own, writes) = (median(copy), median(frozen), median(own), median(writes));
        // What tracking adds to the writes.
        let faults = (writes - own).max(0.0);
        println!(
            "{name:10} | {way:6} | {copy:11.2} | {frozen:7.2} | {:5.3} | {faults:7.2} | {:5.3} | {:4.2} | {own:8.3}",
            frozen / copy,
            faults / copy,
            (frozen + faults) / copy,
        );
    };
    for (percent, scattered) in [(20, false), (20, true), (10, false), (10, true), (1, false), (1, true)] {
        let way = if scattered { "spread" } else { "band" };
        let mut tracked = open("tracked", &[("tracking", "on")])?;
        tracked.freeze()?;
        let [mut copy, mut frozen, mut own, mut writes] = [const { Vec::new() }; 4];
        for turn in 0..repeats {
            let chosen = choose(pages, pages * percent / 100, scattered, turn);
            writes.push(tracked.write(&chosen));
            frozen.push(tracked.freeze()?);
            own.push(plain.write(&chosen));
            copy.push(plain.freeze()?);
        }
        report(&format!("{percent} %"), way, &mut copy, &mut frozen, &mut own, &mut writes);
    }
    // Above the break-even tracking ends with the freeze that notices, so each turn has its own session.
    let all: Vec<usize> = (0..pages).collect();
    let [mut copy, mut first, mut frozen, mut own, mut writes] = [const { Vec::new() }; 5];
    for _ in 0..repeats {
        let mut tracked = open("tracked", &[("tracking", "on")])?;
        first.push(tracked.freeze()?);
        writes.push(tracked.write(&all));
        frozen.push(tracked.freeze()?);
        own.push(plain.write(&all));
        copy.push(plain.freeze()?);
    }
    let mut nothing = vec![0.0; repeats];
    report("first", "all", &mut copy.clone(), &mut first, &mut nothing.clone(), &mut nothing);
    report("100 %, off", "all", &mut copy, &mut frozen, &mut own, &mut writes);
    // What a comparison of all that is not copied costs.
    let mut tracked = open("compared", &[("tracking", "on"), ("tracking_check", "1")])?;
    tracked.freeze()?;
    let [mut copy, mut frozen, mut own, mut writes] = [const { Vec::new() }; 4];
    for turn in 0..repeats {
        let chosen = choose(pages, pages / 100, true, turn);
        writes.push(tracked.write(&chosen));
        frozen.push(tracked.freeze()?);
        own.push(plain.write(&chosen));
        copy.push(plain.freeze()?);
    }
    report("1 %, check", "spread", &mut copy, &mut frozen, &mut own, &mut writes);
    Ok(())
}
