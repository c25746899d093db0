use super::*;
use crate::comm::threads::{Threads, ThreadsRank};
use crate::medium::{Access, RealMedium};
use crate::{Checkpointer, Settled};
use std::path::Path;

/// A rank's part of an 8 × 6 array with a halo above and below it, and one that is only its own.
#[derive(Clone)]
struct Part {
    rank: usize,
    sea: Vec<f64>,
    own: Vec<[i32; 3]>,
}

const GLOBAL: [usize; 2] = [8, 6];

impl Part {
    fn new(rank: usize) -> Self {
        // Layers 4 * rank - 1 to 4 * rank + 4, those of the neighbours marked.
        let value = |index: usize| {
            let (layer, column) = (index / 6, index % 6);
            if layer == 0 || layer == 5 { f64::NAN } else { ((4 * rank + layer - 1) * 6 + column) as f64 }
        };
        Self { rank, sea: (0..36).map(value).collect(), own: vec![[rank as i32, -5, 7]; 10 + rank] }
    }
}

impl crate::State for Part {
    fn describe<'a>(&'a mut self, fields: &mut crate::Fields<'a>) {
        fields.array("sea", &mut self.sea).block_of(GLOBAL, [4 * self.rank, 0], [4, 6]).halo([[1, 1], [0, 0]]);
        fields.array("own", &mut self.own);
        fields.constant("ranks", &2u8);
    }
}

fn run(rank: ThreadsRank, folder: &Path) {
    let mut part = Part::new(crate::comm::Communicator::rank(&rank));
    let mut checkpointer =
        Checkpointer::builder("sea").dir(folder).set("log", "quiet").set("chunk", "64KiB").open(rank).unwrap();
    checkpointer.resume(&mut part).unwrap();
    checkpointer.checkpoint_now(3, None, &mut part).unwrap();
    assert!(matches!(checkpointer.wait(), Settled::Committed(_)));
    checkpointer.finish(&mut part).unwrap();
}

fn made() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for rank in Threads::world(2) {
            scope.spawn(|| run(rank, folder.path()));
        }
    });
    let store = Store::new(Arc::new(RealMedium::new(Access::Private)), folder.path());
    (folder, store)
}

fn latest(store: &Store) -> (Reader, Checkpoint) {
    let reader = Reader::open(store, "sea").unwrap();
    let checkpoint = reader.checkpoint(reader.find(Selection::Latest).unwrap()).unwrap();
    (reader, checkpoint)
}

#[test]
fn an_array_of_all_ranks_comes_without_halos() {
    let (_folder, store) = made();
    let (_, checkpoint) = latest(&store);
    let sea = checkpoint.global("sea").unwrap();
    assert_eq!((sea.shape(), sea.bytes(), sea.kind().to_string().as_str()), (&[8, 6][..], 384, "f64"));
    let expected: Vec<u8> = (0..48).flat_map(|place| f64::from(place).to_le_bytes()).collect();
    assert_eq!(sea.read().unwrap(), expected);
    // A rank's own memory has its halo.
    assert_eq!(checkpoint.local(1, "sea").unwrap().len(), 36 * 8);
    let mut streamed = Vec::new();
    checkpoint
        .stream_local(1, "own", &mut |part| {
            streamed.extend_from_slice(part);
            Ok(())
        })
        .unwrap();
    assert_eq!(streamed, bytemuck::cast_slice::<[i32; 3], u8>(&[[1, -5, 7]; 11]));
    let error = checkpoint.global("own").unwrap_err();
    assert!(error.to_string().contains("rank by rank"), "{error}");
    assert!(checkpoint.kind("ranks").is_err());
    assert!(checkpoint.field("see").unwrap_err().to_string().contains("sea, own, ranks"));
    assert!(matches!(checkpoint.shard(2), Err(ReadError::NoSuchRank { world: 2, .. })));
}

#[test]
fn statistics_leave_halos_out_and_tell_components_apart() {
    let (_folder, store) = made();
    let (_, checkpoint) = latest(&store);
    let sea = checkpoint.statistics("sea").unwrap();
    assert_eq!(sea.len(), 1);
    assert_eq!((sea[0].count, sea[0].nan), (48, 0));
    assert_eq!((sea[0].min, sea[0].max, sea[0].mean), (Some(0.0), Some(47.0), Some(23.5)));
    assert_eq!(sea[0].histogram, [3; 16]);
    let own = checkpoint.statistics("own").unwrap();
    assert_eq!(own[0].mean, Some(11.0 / 21.0));
    assert_eq!((own[1].component.as_str(), own[1].min, own[1].max), ("[1]", Some(-5.0), Some(-5.0)));
    assert_eq!(own[1].histogram[0], 21);
}

#[test]
fn damage_is_told_from_what_cannot_be_read() {
    let (folder, store) = made();
    let (reader, checkpoint) = latest(&store);
    let name = checkpoint.name();
    let seen = std::sync::atomic::AtomicU64::new(0);
    let count = |bytes| {
        seen.fetch_add(bytes, std::sync::atomic::Ordering::Relaxed);
    };
    let verdict = reader.verify(name, &count);
    assert_eq!((verdict.soundness(), verdict.raw_bytes), (Soundness::Sound, checkpoint.manifest().raw_bytes));
    assert_eq!(seen.into_inner(), checkpoint.manifest().raw_bytes);

    let path = folder.path().join(format!("sea/000001/{}/rank-00001.shard", name.id.folder()));
    let sound = std::fs::read(&path).unwrap();
    let place = checkpoint.shard(1).unwrap().chunks().find(|chunk| chunk.field == 1).unwrap().place;
    let mut altered = sound.clone();
    altered[place as usize] ^= 1;
    std::fs::write(&path, &altered).unwrap();
    let verdict = reader.verify(name, &|_| ());
    assert_eq!(verdict.soundness(), Soundness::Damaged);
    let [problem] = verdict.problems.as_slice() else { panic!("{verdict:?}") };
    assert!(matches!(&problem.wrong, Wrong::Chunk(chunk) if chunk.field == "own" && chunk.place == place));
    assert!(problem.to_string().starts_with("rank 1: region \"own\", offset 0: "), "{problem}");

    // The shard of the other rank, and of another checkpoint, in its place.
    let other = folder.path().join(format!("sea/000001/{}/rank-00000.shard", name.id.folder()));
    std::fs::copy(other, &path).unwrap();
    let verdict = reader.verify(name, &|_| ());
    assert!(matches!(&verdict.problems[..], [ShardProblem { rank: Some(1), wrong: Wrong::File(_) }]), "{verdict:?}");
    std::fs::remove_file(&path).unwrap();
    let verdict = reader.verify(name, &|_| ());
    assert_eq!(verdict.soundness(), Soundness::Damaged);
    assert!(verdict.problems[0].to_string().ends_with("is missing"), "{}", verdict.problems[0]);
    std::fs::create_dir(&path).unwrap();
    assert_eq!(reader.verify(name, &|_| ()).soundness(), Soundness::Unknown);
}

#[test]
fn what_is_not_committed_is_read_if_it_is_complete() {
    let (folder, store) = made();
    let (reader, checkpoint) = latest(&store);
    let name = checkpoint.name();
    let checkpoint_folder = folder.path().join(format!("sea/000001/{}", name.id.folder()));
    std::fs::remove_file(checkpoint_folder.join("manifest.json")).unwrap();
    let complete = reader.checkpoint(name).unwrap();
    assert!(!complete.is_committed());
    assert_eq!(complete.global("sea").unwrap().read().unwrap().len(), 384);
    assert_eq!(reader.verify(name, &|_| ()).soundness(), Soundness::Sound);
    std::fs::remove_file(checkpoint_folder.join("rank-00000.shard")).unwrap();
    assert!(matches!(reader.checkpoint(name), Err(ReadError::Partial { shards: 1, .. })));
    assert!(Reader::open(&store, "lake").unwrap_err().is_absence());
    let none = reader.find("7".parse().unwrap()).unwrap_err();
    assert!(none.is_absence() && none.to_string().contains("1/1"), "{none}");
}

/// One of four ranks that share out the last two dimensions of an array, with layers of halo that differ on all sides.
struct Quarter {
    rank: usize,
    global: [usize; 3],
    halo: [[usize; 2]; 3],
    cells: Vec<i32>,
}

impl Quarter {
    fn new(rank: usize, global: [usize; 3], halo: [[usize; 2]; 3]) -> Self {
        let mut quarter = Self { rank, global, halo, cells: Vec::new() };
        let (offset, extent) = quarter.place();
        let local: Vec<usize> = (0..3).map(|d| halo[d][0] + extent[d] + halo[d][1]).collect();
        quarter.cells = vec![-1; local.iter().product()];
        for i in 0..extent[0] {
            for j in 0..extent[1] {
                for k in 0..extent[2] {
                    let at = ((halo[0][0] + i) * local[1] + halo[1][0] + j) * local[2] + halo[2][0] + k;
                    let place = ((offset[0] + i) * global[1] + offset[1] + j) * global[2] + offset[2] + k;
                    quarter.cells[at] = place as i32;
                }
            }
        }
        quarter
    }

    fn place(&self) -> ([usize; 3], [usize; 3]) {
        let part = |dimension: usize, second: bool| {
            let (all, split) = (self.global[dimension], self.global[dimension] / 3);
            if second { (split, all - split) } else { (0, split) }
        };
        let (j, k) = (part(1, self.rank >= 2), part(2, self.rank % 2 == 1));
        ([0, j.0, k.0], [self.global[0], j.1, k.1])
    }
}

impl crate::State for Quarter {
    fn describe<'a>(&'a mut self, fields: &mut crate::Fields<'a>) {
        let (offset, extent) = self.place();
        fields.array("cells", &mut self.cells).block_of(self.global, offset, extent).halo(self.halo);
    }
}

#[test]
fn blocks_of_three_dimensions_come_together() {
    let none = [[0, 0]; 3];
    let cases = [
        ([5, 6, 9], [[1, 2], [0, 1], [3, 0]]),
        ([7, 3, 30], none),
        ([2, 9, 4], [[0, 0], [2, 2], [0, 0]]),
        // The first ranks have no part of the second dimension.
        ([4, 2, 8], [[0, 0], [1, 1], [1, 1]]),
    ];
    for (global, halo) in cases {
        let folder = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for rank in Threads::world(4) {
                let folder = folder.path();
                scope.spawn(move || {
                    let mut quarter = Quarter::new(crate::comm::Communicator::rank(&rank), global, halo);
                    let mut checkpointer =
                        Checkpointer::builder("sea").dir(folder).set("log", "quiet").open(rank).unwrap();
                    checkpointer.resume(&mut quarter).unwrap();
                    checkpointer.finish(&mut quarter).unwrap();
                });
            }
        });
        let store = Store::new(Arc::new(RealMedium::new(Access::Private)), folder.path());
        let (_, checkpoint) = latest(&store);
        let cells = checkpoint.global("cells").unwrap();
        let expected: Vec<u8> = (0..global.iter().product::<usize>() as i32).flat_map(i32::to_le_bytes).collect();
        assert_eq!(cells.read().unwrap(), expected, "{global:?} {halo:?}");
        assert_eq!(checkpoint.statistics("cells").unwrap()[0].min, Some(0.0), "no halo: {global:?} {halo:?}");
    }
}
