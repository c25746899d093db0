//! Checkpoints that build on others: what did not change is not written again, and whatever is lost of a chain costs exactly the
//! checkpoints that need it.

use piton::ids::{CheckpointId, CheckpointName, Epoch};
use piton::journal::Event;
use piton::medium::RealMedium;
use piton::reader::{Reader, Selection};
use piton::store::{Manifest, Store};
use piton::{Checkpointer, PagedVec, Resumed, Settled, State};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use support::{Call, Faults, Faulty, JOB, checkpoint, journal, world};

mod support;

const PAGE: usize = 4096;
const PAGES: usize = 200;

/// A state of which a step changes one page in `PAGES / changing`, here and there.
#[derive(State, PartialEq, Debug)]
struct Grid {
    cells: Vec<f64>,
    noise: PagedVec<u64>,
    time: f64,
    #[piton(skip)]
    changing: usize,
}

impl Grid {
    fn new(rank: usize, changing: usize) -> Self {
        let mut random = fastrand::Rng::with_seed(rank as u64);
        let cells = (0..PAGES * PAGE / 8).map(|i| (i as f64 * 0.003 + rank as f64).sin()).collect();
        let noise: Vec<u64> = (0..PAGES * PAGE / 8).map(|_| random.u64(..)).collect();
        let noise = PagedVec::from_slice(&noise).unwrap();
        Self { cells, noise, time: 0.0, changing }
    }

    fn advance(&mut self) {
        self.time += 0.5;
        let mut random = fastrand::Rng::with_seed(self.time.to_bits());
        for _ in 0..self.changing {
            self.cells[random.usize(..PAGES) * PAGE / 8 + random.usize(..PAGE / 8)] += 0.25;
            self.noise[random.usize(..PAGES) * PAGE / 8 + random.usize(..PAGE / 8)] ^= 1;
        }
    }

    fn after(rank: usize, changing: usize, steps: u64) -> Self {
        let mut grid = Self::new(rank, changing);
        (0..steps).for_each(|_| grid.advance());
        grid
    }
}

const RANKS: usize = 2;

/// Runs a world to step `until` with a checkpoint after each step, and goes away without a word. Returns what was resumed.
fn run(folder: &Path, changing: usize, until: u64, set: &[(&'static str, &str)], faults: &Faults) -> Option<Resumed> {
    let resumed = world(RANKS, |rank| {
        let number = piton::comm::Communicator::rank(&rank);
        let mut grid = Grid::new(number, changing);
        let mut builder = support::builder(folder).medium(Faulty::medium(faults));
        for (key, value) in set {
            builder = builder.set(key, value);
        }
        let mut session: Checkpointer = builder.every(std::time::Duration::ZERO).open(rank).unwrap();
        let resumed = session.resume(&mut grid).unwrap();
        let mut step = resumed.map_or(0, |at| at.step);
        assert!(grid == Grid::after(number, changing, step), "what came back at step {step}");
        while step < until {
            grid.advance();
            step += 1;
            session.checkpoint_now(step, None, &mut grid).unwrap();
            session.wait();
        }
        resumed
    });
    assert!(resumed.iter().all(|one| *one == resumed[0]));
    resumed[0]
}

fn reader(folder: &Path) -> Reader {
    Reader::open(&Store::new(Arc::new(RealMedium::default()), folder), JOB).unwrap()
}

/// The manifests that are there, oldest first.
fn manifests(folder: &Path) -> Vec<Manifest> {
    let catalogue = reader(folder).catalogue().unwrap();
    catalogue.entries.iter().filter_map(|entry| entry.manifest().cloned()).collect()
}

fn family(manifest: &Manifest) -> BTreeSet<u64> {
    manifest.family().map(|name| name.id.0).collect()
}

fn all_are_sound(folder: &Path) {
    let reader = reader(folder);
    for manifest in manifests(folder) {
        let verdict = reader.verify(manifest.name(), &|_| {});
        assert!(verdict.problems.is_empty(), "{:?}", verdict.problems);
    }
}

#[test]
fn little_is_written_of_what_changes_little_and_two_stay_that_share_nothing() {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), 4, 20, &[], &Faults::default());
    all_are_sound(folder.path());
    let manifests = manifests(folder.path());
    let newest = manifests.last().unwrap();
    assert_eq!((newest.id, newest.step), (CheckpointId(20), 20));
    // Complete ones are 1, 2, 10 and 18: chains of eight after the first.
    let full = |manifest: &&Manifest| manifest.parents.is_empty();
    let complete: Vec<_> = manifests.iter().filter(full).map(|manifest| manifest.id.0).collect();
    assert_eq!(complete, [10, 18]);
    let full_bytes = manifests.iter().find(full).unwrap().stored_bytes;
    for manifest in manifests.iter().filter(|manifest| !full(manifest)) {
        assert!(manifest.stored_bytes < full_bytes / 10, "{} of {full_bytes}", manifest.stored_bytes);
    }
    // What is there: two chains, the newer one's end, and all that they need.
    let apart = manifests.iter().rev().find(|other| family(other).is_disjoint(&family(newest))).unwrap();
    assert_eq!(apart.id.0, 17);
    let there: BTreeSet<u64> = manifests.iter().map(|manifest| manifest.id.0).collect();
    assert!(manifests.iter().all(|manifest| family(manifest).is_subset(&there)));
    // Another attempt goes on from it, with a complete one.
    let resumed = run(folder.path(), 4, 22, &[], &Faults::default()).unwrap();
    assert_eq!(resumed.step, 20);
    let newest = reader(folder.path()).find(Selection::Latest).unwrap();
    let manifest = reader(folder.path()).job().manifest(newest).unwrap();
    assert_eq!((manifest.step, manifest.parents.as_slice()), (22, &[CheckpointId(21)][..]));
    assert!(
        manifests.iter().all(|old| reader(folder.path()).job().manifest(old.name()).is_ok()),
        "not yet enough of its own"
    );
}

#[test]
fn what_changes_as_a_whole_is_written_as_a_whole() {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), 2000, 6, &[], &Faults::default());
    all_are_sound(folder.path());
    let shares: Vec<f64> = journal(folder.path(), 1)
        .iter()
        .filter_map(|event| match event {
            Event::ShardDurable { changed_share, .. } => *changed_share,
            _ => None,
        })
        .collect();
    assert!(!shares.is_empty() && shares.iter().all(|share| *share > 0.9), "{shares:?}");
    assert_eq!(run(folder.path(), 2000, 7, &[], &Faults::default()).unwrap().step, 6);
}

#[test]
fn a_chain_of_one_shares_nothing() {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), 1, 4, &[("chain", "1")], &Faults::default());
    assert!(manifests(folder.path()).iter().all(|manifest| manifest.parents.is_empty()));
    assert_eq!(manifests(folder.path()).len(), 2);
}

/// What is dropped is built on by nobody, and what changed meanwhile is in the next one.
#[test]
fn after_a_checkpoint_that_was_dropped_nothing_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let faults = Faults::default();
    // The shards of checkpoints 3 and 4 of rank 1, and the manifest of 6.
    for (id, file, call) in [
        ("000003", "rank-00001", Call::Sync),
        ("000004", "rank-00001", Call::Create),
        ("000006", "manifest", Call::Create),
    ] {
        faults.fail(5, 1, move |met, path| {
            let path = path.to_string_lossy();
            met == call && path.contains(&format!("/{id}/")) && path.contains(file)
        });
    }
    run(folder.path(), 3, 8, &[("keep", "20")], &faults);
    assert_eq!(faults.hits(), 3);
    all_are_sound(folder.path());
    let there: Vec<u64> = manifests(folder.path()).iter().map(|manifest| manifest.id.0).collect();
    assert_eq!(there, [1, 2, 5, 7, 8]);
    // Every one of them gives its own state.
    for manifest in manifests(folder.path()) {
        let opened = reader(folder.path()).checkpoint(manifest.name()).unwrap();
        for rank in 0..RANKS as u32 {
            let grid = Grid::after(rank as usize, 3, manifest.step);
            assert!(opened.local(rank, "noise").unwrap() == bytemuck::cast_slice::<u64, u8>(&grid.noise));
            assert!(opened.local(rank, "cells").unwrap() == bytemuck::cast_slice::<f64, u8>(&grid.cells));
        }
    }
    assert_eq!(run(folder.path(), 3, 9, &[], &Faults::default()).unwrap().step, 8);
}

/// Breaks a chain in every way at each of its checkpoints: those that need what is broken are refused, no others.
#[test]
fn a_broken_parent_costs_exactly_those_that_need_it() {
    let pristine = tempfile::tempdir().unwrap();
    run(pristine.path(), 6, 13, &[("keep", "30")], &Faults::default());
    let manifests = manifests(pristine.path());
    assert_eq!(manifests.len(), 13);
    type Break = (&'static str, fn(&Path));
    let breaks: [Break; 3] = [
        ("shard removed", |folder| std::fs::remove_file(folder.join("rank-00001.shard")).unwrap()),
        ("shard cut", |folder| {
            let file = std::fs::File::options().write(true).open(folder.join("rank-00001.shard")).unwrap();
            file.set_len(file.metadata().unwrap().len() - 7).unwrap();
        }),
        ("folder removed", |folder| std::fs::remove_dir_all(folder).unwrap()),
    ];
    for broken in [1, 2, 5, 9, 10, 12, 13] {
        for (how, break_it) in breaks {
            let folder = tempfile::tempdir().unwrap();
            support::copy_folder(pristine.path(), folder.path());
            break_it(&checkpoint(folder.path(), 1, broken));
            let reader = reader(folder.path());
            let mut newest_sound = 0;
            for manifest in &manifests {
                let verdict = reader.verify(manifest.name(), &|_| {});
                let needs_it = family(manifest).contains(&broken);
                assert_eq!(!verdict.problems.is_empty(), needs_it, "{} with {how} of {broken}", manifest.id);
                newest_sound = if needs_it { newest_sound } else { manifest.step };
            }
            let resumed = run(folder.path(), 6, 14, &[], &Faults::default()).unwrap();
            assert_eq!(resumed.step, newest_sound, "{how} of {broken}");
            all_sound_of(folder.path(), 2);
        }
    }
}

fn all_sound_of(folder: &Path, epoch: u64) {
    let reader = reader(folder);
    for manifest in manifests(folder).iter().filter(|manifest| manifest.epoch == Epoch(epoch)) {
        assert!(reader.verify(manifest.name(), &|_| {}).problems.is_empty());
    }
}

/// A flipped byte in the chunks of a parent: whoever reads that byte falls back, and nobody gets altered data.
#[test]
fn a_flipped_byte_in_a_chain_is_never_restored() {
    let pristine = tempfile::tempdir().unwrap();
    run(pristine.path(), 6, 6, &[("keep", "30")], &Faults::default());
    let mut random = fastrand::Rng::with_seed(4);
    for _ in 0..40 {
        let folder = tempfile::tempdir().unwrap();
        support::copy_folder(pristine.path(), folder.path());
        let id = 1 + random.u64(..6);
        let path = checkpoint(folder.path(), 1, id).join(format!("rank-0000{}.shard", random.usize(..RANKS)));
        let mut bytes = std::fs::read(&path).unwrap();
        let at = random.usize(..bytes.len());
        bytes[at] ^= 1 << random.usize(..8);
        std::fs::write(&path, bytes).unwrap();
        // The state that comes back is compared in `run`.
        let resumed = run(folder.path(), 6, 7, &[], &Faults::default());
        match resumed {
            Some(resumed) => assert!(resumed.step <= 6),
            None => panic!("byte {at} of checkpoint {id} lost everything"),
        }
    }
}

#[test]
fn a_labelled_checkpoint_is_complete_in_itself() {
    let folder = tempfile::tempdir().unwrap();
    world(1, |rank| {
        let mut grid = Grid::new(0, 3);
        let mut session = support::builder(folder.path()).every(std::time::Duration::ZERO).open(rank).unwrap();
        session.resume(&mut grid).unwrap();
        for step in 1..=4 {
            grid.advance();
            session.checkpoint_now(step, (step == 3).then_some("spin-up"), &mut grid).unwrap();
            assert_eq!(session.wait(), Settled::Committed(CheckpointId(step)));
        }
    });
    let of = |id| {
        let name = CheckpointName { epoch: Epoch(1), id: CheckpointId(id) };
        reader(folder.path()).job().manifest(name).unwrap()
    };
    assert_eq!((of(3).parents.len(), of(4).parents.as_slice()), (0, &[CheckpointId(3)][..]));
}
