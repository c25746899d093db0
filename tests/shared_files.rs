//! One file for the ranks of a node: it holds what their own files would, and a rank that cannot write its part costs the checkpoint
//! and no more.

use piton::comm::Communicator;
use piton::comm::threads::Threads;
use piton::ids::{CheckpointId, CheckpointName, Epoch};
use piton::medium::RealMedium;
use piton::reader::{Reader, Selection};
use piton::store::Store;
use piton::{Resumed, Settled};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::{Call, Faults, Faulty, JOB, Walk, checkpoint};

mod support;

const RANKS: usize = 4;
const SIZE: usize = 3000;

/// Two nodes of two ranks each run to step `until` with a checkpoint after each step; `faults` strike rank 1. Returns what was
/// resumed, and what became of the checkpoints.
fn run(folder: &Path, files: &str, until: u64, faults: &Faults) -> (Option<Resumed>, Vec<Settled>) {
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let ranks: Vec<_> = Threads::world(RANKS)
            .into_iter()
            .map(|rank| {
                scope.spawn(move || {
                    let number = rank.rank();
                    let faults = if number == 1 { faults.clone() } else { Faults::default() };
                    let mut walk = Walk::new(number, SIZE);
                    let builder = support::builder(folder).medium(Faulty::medium(&faults)).set("files", files);
                    let mut session = builder.every(Duration::ZERO).open(rank.on_node_of(2)).unwrap();
                    let resumed = session.resume(&mut walk).unwrap();
                    let mut step = resumed.map_or(0, |at| at.step);
                    assert!(walk == Walk::after(number, SIZE, step), "what came back at step {step}");
                    let mut settled = Vec::new();
                    while step < until {
                        walk.advance();
                        step += 1;
                        // What this rank could not even begin is told by `wait`.
                        let _ = session.checkpoint_now(step, None, &mut walk);
                        settled.push(session.wait());
                    }
                    (resumed, settled)
                })
            })
            .collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    });
    assert!(outcomes.iter().all(|one| *one == outcomes[0]), "{outcomes:?}");
    outcomes.into_iter().next().unwrap()
}

fn committed(id: u64) -> Settled {
    Settled::Committed(CheckpointId(id))
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn reader(folder: &Path) -> Reader {
    Reader::open(&Store::new(Arc::new(RealMedium::default()), folder), JOB).unwrap()
}

#[test]
fn ranks_of_a_node_share_a_file_and_whatever_reads_finds_its_part() {
    let folder = tempfile::tempdir().unwrap();
    let (_, settled) = run(folder.path(), "node", 5, &Faults::default());
    assert_eq!(settled, (1..=5).map(committed).collect::<Vec<_>>());
    let there = names(&checkpoint(folder.path(), 1, 5));
    assert_eq!(there, ["manifest.json", "ranks-00000-00001.shards", "ranks-00002-00003.shards"]);
    let reader = reader(folder.path());
    let newest = reader.find(Selection::Latest).unwrap();
    let manifest = reader.job().manifest(newest).unwrap();
    assert!(!manifest.parents.is_empty(), "it builds on others");
    let version = |epoch, id| {
        let text = std::fs::read_to_string(checkpoint(folder.path(), epoch, id).join("manifest.json")).unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()["version"].as_u64().unwrap()
    };
    assert_eq!(version(1, 5), 2, "older readers don't know such files");
    let verdict = reader.verify(newest, &|_| {});
    assert!(verdict.problems.is_empty(), "{:?}", verdict.problems);
    // Another attempt goes on from it, be it with files of each rank; and the other way round.
    let (resumed, settled) = run(folder.path(), "rank", 7, &Faults::default());
    assert_eq!((resumed.unwrap().step, settled), (5, vec![committed(6), committed(7)]));
    assert_eq!((names(&checkpoint(folder.path(), 2, 7)).len(), version(2, 7)), (RANKS + 1, 1));
    let (resumed, _) = run(folder.path(), "node", 8, &Faults::default());
    assert_eq!(resumed.unwrap().step, 7);
    assert_eq!(names(&checkpoint(folder.path(), 3, 8)).len(), 3);
    // What builds on others in shared files can be written once more.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    std::fs::create_dir_all(checkpoint(folder.path(), 9, 9).parent().unwrap()).unwrap();
    let to = CheckpointName { epoch: Epoch(9), id: CheckpointId(9) };
    let compacted = reader.job().compact(&manifest, to, &pool, &|_| {}).unwrap();
    assert_eq!((compacted.step, compacted.parents.len()), (5, 0));
    assert!(reader.verify(to, &|_| {}).problems.is_empty());
}

/// Whether this rank leads its file (rank 0 does) or not: nobody waits for what will never come.
#[test]
fn what_one_rank_cannot_write_costs_this_checkpoint_only() {
    for call in [Call::Append, Call::Write, Call::Sync] {
        let folder = tempfile::tempdir().unwrap();
        let faults = Faults::default();
        let of = |path: &Path, id: &str| {
            let path = path.to_string_lossy();
            path.contains(&format!("/{id}/")) && path.contains("ranks-")
        };
        faults.fail(28, 1, move |met, path| met == call && of(path, "000002"));
        let start = Instant::now();
        let (_, settled) = run(folder.path(), "node", 4, &faults);
        assert_eq!(faults.hits(), 1);
        assert!(matches!(&settled[1], Settled::Dropped { id: CheckpointId(2), .. }), "{settled:?}");
        assert_eq!([&settled[0], &settled[2], &settled[3]], [&committed(1), &committed(3), &committed(4)]);
        // The timeout for commits is half an hour.
        assert!(start.elapsed() < Duration::from_secs(60), "{call:?}: somebody waited in vain");
        let (resumed, _) = run(folder.path(), "node", 5, &Faults::default());
        assert_eq!(resumed.unwrap().step, 4);
    }
}

/// Any byte of a seat's record, and some of all others: what is altered is never restored.
#[test]
fn a_flipped_byte_costs_the_checkpoint_or_nothing() {
    let pristine = tempfile::tempdir().unwrap();
    run(pristine.path(), "node", 4, &Faults::default());
    let mut random = fastrand::Rng::with_seed(11);
    for number in 0..60 {
        let folder = tempfile::tempdir().unwrap();
        support::copy_folder(pristine.path(), folder.path());
        let path = checkpoint(folder.path(), 1, 4).join("ranks-00002-00003.shards");
        let mut bytes = std::fs::read(&path).unwrap();
        // The records of both seats take 40 bytes each; most of the rest are gaps, which nobody reads.
        let at = if number < 40 { number + 4096 * (number % 2) } else { random.usize(..bytes.len()) };
        bytes[at] ^= 1 << random.usize(..8);
        std::fs::write(&path, bytes).unwrap();
        // That the state is the right one is checked in `run`.
        let (resumed, _) = run(folder.path(), "node", 5, &Faults::default());
        let step = resumed.unwrap().step;
        assert!(if number < 40 { step == 3 } else { step == 3 || step == 4 }, "byte {at}: resumed at {step}");
    }
}
