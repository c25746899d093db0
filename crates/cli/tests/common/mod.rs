//! Stores to look at, and the program to look with.

#![allow(dead_code, reason = "not every test file needs all of it")]

pub mod browser;
#[path = "../../../../tests/support/skip.rs"]
mod skip;
pub mod supervised;

#[allow(unused_imports, reason = "not every test file needs all of it")]
pub use skip::skipped;

use piton::comm::Solo;
use piton::comm::threads::{Threads, ThreadsRank};
use piton::{Checkpointer, Fields, Settled, State};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The global array `sea` of job `sea`, whose two ranks have half of the columns each.
pub const GLOBAL: [usize; 2] = [60, 500];

/// What stands at `row`, `column` of it after `step` steps.
pub fn sea_at(row: usize, column: usize, step: u64) -> f64 {
    (row as f64 * 0.1).sin() * (column as f64 * 0.01).cos() + step as f64 * 1e-3
}

/// One of two ranks, with one layer of halo to all sides.
pub struct Sea {
    pub rank: usize,
    pub sea: Vec<f64>,
    pub drops: Vec<[f32; 2]>,
    pub time: f64,
}

impl Sea {
    pub fn new(rank: usize) -> Self {
        Self { rank, sea: Vec::new(), drops: Vec::new(), time: 0.0 }.after(0)
    }

    pub fn after(self, step: u64) -> Self {
        let rank = self.rank;
        let value = |index: usize| {
            let (row, column) = (index / 252, index % 252);
            let halo = row == 0 || row == 61 || column == 0 || column == 251;
            // Halos hold what must not be seen in the assembled array.
            if halo { 1e9 } else { sea_at(row - 1, 250 * rank + column - 1, step) }
        };
        let drop = |index: u64| [index as f32 * 0.5, ((index * index + step) % 97) as f32];
        Self {
            sea: (0..62 * 252).map(value).collect(),
            drops: (0..1000 + 10 * rank as u64).map(drop).collect(),
            time: step as f64,
            ..self
        }
    }
}

impl State for Sea {
    fn describe<'a>(&'a mut self, fields: &mut Fields<'a>) {
        fields.array("sea", &mut self.sea).block_of(GLOBAL, [0, 250 * self.rank], [60, 250]).halo([[1, 1], [1, 1]]);
        fields.array("drops", &mut self.drops);
        fields.value("time", &mut self.time);
        fields.constant("dx", &0.25f64);
    }
}

fn sail(rank: ThreadsRank, folder: &Path, arguments: &[&str], until: u64) {
    let mut sea = Sea::new(piton::comm::Communicator::rank(&rank));
    let mut checkpointer = Checkpointer::builder("sea")
        .dir(folder)
        .every_steps(10)
        .set("log", "quiet")
        .set("chunk", "64KiB")
        .set("keep", 3)
        // Each complete in itself: what is broken of one is not broken of another.
        .set("chain", 1)
        .args(arguments.iter().copied())
        .open(rank)
        .unwrap();
    let mut step = checkpointer.resume(&mut sea).unwrap().map_or(0, |at| at.step);
    while step < until {
        step += 1;
        sea = sea.after(step);
        if checkpointer.tick(step, &mut sea).frozen().is_some() {
            assert!(matches!(checkpointer.wait(), Settled::Committed(_)));
        }
    }
}

/// Runs job `sea` of two ranks, which then goes away without a word.
pub fn sea(folder: &Path, arguments: &[&str], until: u64) {
    std::thread::scope(|scope| {
        for rank in Threads::world(2) {
            scope.spawn(|| sail(rank, folder, arguments, until));
        }
    });
}

/// A random walk of one rank, without global shape.
pub struct Walk {
    pub places: Vec<f64>,
    pub counts: Vec<u16>,
}

impl Walk {
    pub fn new() -> Self {
        Self { places: (0..30_000).map(|i| (f64::from(i) * 0.37).sin()).collect(), counts: (0..500).collect() }
    }
}

impl State for Walk {
    fn describe<'a>(&'a mut self, fields: &mut Fields<'a>) {
        fields.array("places", &mut self.places);
        fields.array("counts", &mut self.counts);
    }
}

pub fn walk_open(folder: &Path, arguments: &[&str]) -> Checkpointer {
    Checkpointer::builder("walk")
        .dir(folder)
        .every_steps(1)
        .set("log", "quiet")
        .set("chunk", "64KiB")
        .set("request_poll", "10ms")
        .set("round_target", "1ms")
        .set("keep", 100)
        .set("chain", 1)
        .args(arguments.iter().copied())
        .open(Solo::default())
        .unwrap()
}

/// Runs job `walk` for `checkpoints` steps with a checkpoint each.
pub fn walk(folder: &Path, arguments: &[&str], checkpoints: u64) {
    let mut walk = Walk::new();
    let mut checkpointer = walk_open(folder, arguments);
    let first = checkpointer.resume(&mut walk).unwrap().map_or(0, |at| at.step);
    for step in first + 1..=first + checkpoints {
        walk.places[0] = step as f64;
        assert!(checkpointer.tick(step, &mut walk).frozen().is_some());
        assert!(matches!(checkpointer.wait(), Settled::Committed(_)));
    }
}

/// The program, with the store in `folder` and nothing from the environment.
pub fn piton(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_piton"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PITON") {
            command.env_remove(name);
        }
    }
    command.current_dir(folder).arg("--dir").arg(folder).args(arguments).output().unwrap()
}

pub fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// What it printed, where it said that all is well.
pub fn ok(folder: &Path, arguments: &[&str]) -> String {
    let output = piton(folder, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    text(&output)
}

/// What it printed and complained about, where it ended with `status`.
pub fn fails(folder: &Path, arguments: &[&str], status: i32) -> (String, String) {
    let output = piton(folder, arguments);
    let complaint = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(status), "{arguments:?}: {}{complaint}", text(&output));
    (text(&output), complaint)
}

pub fn json(folder: &Path, arguments: &[&str]) -> serde_json::Value {
    let mut all = arguments.to_vec();
    all.push("--json");
    serde_json::from_slice(&piton(folder, &all).stdout).unwrap()
}

/// The folder of a checkpoint.
pub fn checkpoint(folder: &Path, job: &str, epoch: u64, id: u64) -> PathBuf {
    folder.join(format!("{job}/{epoch:06}/{id:06}"))
}
