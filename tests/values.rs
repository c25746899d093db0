//! Values that cannot be: they are told of with their place, and the checkpoint that holds them is kept and marked.

use piton::comm::Solo;
use piton::ids::{CheckpointId, CheckpointName, Epoch};
use piton::journal::Event;
use piton::medium::RealMedium;
use piton::store::Store;
use piton::watch::board::Board;
use piton::{Fields, Settled, State};
use std::path::Path;
use std::sync::Arc;
use support::{JOB, builder, journal, world};

mod support;

/// Two rows of the global array on each rank, with a layer of halo above and below.
const COLUMNS: usize = 3000;

struct Fluid {
    rank: usize,
    pressure: Vec<f64>,
    share: Vec<[f32; 2]>,
    unwatched: Vec<f64>,
    watched: bool,
}

impl Fluid {
    fn new(rank: usize, watched: bool) -> Self {
        Self {
            rank,
            pressure: (0..4 * COLUMNS).map(|number| number as f64).collect(),
            share: vec![[0.25, 0.75]; 5000],
            unwatched: vec![f64::NAN; 100],
            watched,
        }
    }
}

impl State for Fluid {
    fn describe<'a>(&'a mut self, fields: &mut Fields<'a>) {
        let block = ([4, COLUMNS], [2 * self.rank, 0], [2, COLUMNS]);
        let pressure =
            fields.array("pressure", &mut self.pressure).block_of(block.0, block.1, block.2).halo([[1, 1], [0, 0]]);
        if self.watched {
            pressure.finite();
        }
        let share = fields.array("share", &mut self.share);
        if self.watched {
            share.within(0.0..=1.0);
        }
        fields.array("unwatched", &mut self.unwatched);
    }
}

/// Checkpoints after steps 1, 2 and 3, with `change` before the second.
fn run(folder: &Path, settings: &[(&'static str, &str)], mut fluid: Fluid, change: impl FnOnce(&mut Fluid)) {
    let mut builder = builder(folder);
    for (key, value) in settings {
        builder = builder.set(key, *value);
    }
    let mut checkpointer = builder.open(Solo::default()).unwrap();
    checkpointer.resume(&mut fluid).unwrap();
    let mut change = Some(change);
    for step in 1..=3 {
        if step == 2
            && let Some(change) = change.take()
        {
            change(&mut fluid);
        }
        fluid.unwatched[0] = step as f64;
        checkpointer.checkpoint_now(step, None, &mut fluid).unwrap();
        assert!(matches!(checkpointer.wait(), Settled::Committed(_)), "it is kept");
    }
    checkpointer.finish(&mut fluid).unwrap();
}

/// What the journal says of values: checkpoint, field, index, number in it, global place, value, count.
type Told = (u64, String, u64, Option<u64>, Option<Vec<u64>>, String, u64);

fn told(folder: &Path) -> Vec<Told> {
    let of = |event| match event {
        Event::ValuesOutOfRange { id, field, index, component, global, value, count, .. } => {
            Some((id.0, field, index, component, global, value, count))
        }
        _ => None,
    };
    let mut told: Vec<Told> = journal(folder, 1).into_iter().filter_map(of).collect();
    told.sort();
    told
}

fn suspects(folder: &Path) -> Vec<u64> {
    let job = Store::new(Arc::new(RealMedium::default()), folder).job(JOB).unwrap();
    let is_suspect = |id: &u64| job.suspect(CheckpointName { epoch: Epoch(1), id: CheckpointId(*id) }).is_some();
    (1..=4).filter(is_suspect).collect()
}

fn spoil(fluid: &mut Fluid) {
    // The first row is halo: the third row of the local array is the second of the global one.
    fluid.pressure[2 * COLUMNS + 17] = f64::NAN;
    fluid.pressure[4 * COLUMNS - 1] = f64::INFINITY;
    fluid.share[4999][1] = 1.5;
}

#[test]
fn a_value_that_cannot_be_is_told_of_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    // Every checkpoint complete: each is looked at as a whole.
    run(folder.path(), &[("chain", "1")], Fluid::new(0, true), spoil);
    let of = |id| {
        let index = 2 * COLUMNS as u64 + 17;
        [
            (id, "pressure".to_owned(), index, None, Some(vec![1, 17]), "NaN".to_owned(), 2),
            (id, "share".to_owned(), 4999, Some(1), None, "1.5".to_owned(), 1),
        ]
    };
    assert_eq!(told(folder.path()), [of(2), of(3)].concat());
    assert_eq!(suspects(folder.path()), [2, 3]);
    // Who writes it once more takes the mark along.
    let job = Store::new(Arc::new(RealMedium::default()), folder.path()).job(JOB).unwrap();
    let name = |epoch, id| CheckpointName { epoch: Epoch(epoch), id: CheckpointId(id) };
    let (from, to) = (name(1, 3), name(2, 4));
    std::fs::create_dir_all(job.epoch_folder(to.epoch)).unwrap();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    job.compact(&job.manifest(from).unwrap(), to, &pool, &|_| {}).unwrap();
    let (before, after) = (job.suspect(from).unwrap(), job.suspect(to).unwrap());
    assert_eq!((after.checkpoint, &after.reason), (to, &before.reason));
}

#[test]
fn nothing_is_said_where_nobody_asked() {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), &[("chain", "1")], Fluid::new(0, false), spoil);
    assert_eq!((told(folder.path()), suspects(folder.path())), (vec![], vec![]));
}

#[test]
fn what_is_written_while_the_application_waits_is_looked_at_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let mut large = Fluid::new(0, true);
    large.share.resize(400_000, [0.5; 2]);
    run(folder.path(), &[("chain", "1"), ("staging_max", "1MiB")], large, spoil);
    let streamed = journal(folder.path(), 1)
        .into_iter()
        .any(|event| matches!(event, Event::StagingPlan { streamed_bytes: 2_000_000.., .. }));
    assert!(streamed, "most of it");
    let counts: Vec<(u64, u64)> = told(folder.path()).into_iter().map(|told| (told.0, told.6)).collect();
    assert_eq!(counts, [(2, 2), (2, 1), (3, 2), (3, 1)]);
}

#[test]
fn of_ranks_each_tells_of_its_own_and_a_resume_takes_the_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let found = world(2, |rank| {
        let number = piton::comm::Communicator::rank(&rank);
        let mut fluid = Fluid::new(number, true);
        let mut checkpointer = builder(folder.path()).open(rank).unwrap();
        checkpointer.resume(&mut fluid).unwrap();
        fluid.pressure[COLUMNS] = if number == 1 { f64::NAN } else { 0.0 };
        checkpointer.checkpoint_now(1, None, &mut fluid).unwrap();
        assert!(matches!(checkpointer.wait(), Settled::Committed(_)));
        drop(checkpointer);
        number
    });
    assert_eq!(found, [0, 1]);
    let told = told(folder.path());
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].4, Some(vec![2, 0]), "the first row of the second rank");
    assert_eq!(suspects(folder.path()), [1]);
    let nan = world(2, |rank| {
        let mut fluid = Fluid::new(piton::comm::Communicator::rank(&rank), true);
        let mut checkpointer = builder(folder.path()).open(rank).unwrap();
        assert_eq!(checkpointer.resume(&mut fluid).unwrap().map(|at| at.step), Some(1));
        fluid.pressure[COLUMNS].is_nan()
    });
    assert_eq!(nan, [false, true]);
}

#[test]
fn whoever_watches_the_rank_sees_what_was_wrong_last() {
    let (folder, boards) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut fluid = Fluid::new(0, true);
    let mut checkpointer = builder(folder.path())
        .set("board", boards.path().display().to_string())
        .set("agent", "false")
        .open(Solo::default())
        .unwrap();
    checkpointer.resume(&mut fluid).unwrap();
    fluid.share[7] = [f32::INFINITY, 0.0];
    checkpointer.checkpoint_now(1, None, &mut fluid).unwrap();
    assert!(matches!(checkpointer.wait(), Settled::Committed(_)));
    let (_, board) = Board::find(boards.path(), None).into_iter().next().expect("a board");
    let error = board.error(0).expect("something was wrong");
    assert!(error.contains("\"share\" has inf"), "{error}");
    assert_eq!(board.rank(0).map(|rank| rank.errors), Some(1));
    checkpointer.finish(&mut fluid).unwrap();
}
