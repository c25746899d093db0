//! Whatever is altered in a store is noticed, and the job goes on from the newest checkpoint that is as it was written.

mod support;

use piton::comm::{Communicator, Solo};
use piton::journal::Event;
use piton::medium::RealMedium;
use piton::shard::{ChunkRecord, ShardReader};
use piton::{Fields, ResumeError, Resumed, Settled, State};
use std::fs;
use std::path::{Path, PathBuf};
use support::{JOB, Walk, builder, checkpoint, copy_folder, fast_folder, journal, land, world};

const RANKS: usize = 2;
/// Elements of the larger array of [`Walk`] on each rank.
const SIZE: usize = 600;

/// Commits checkpoints at `steps` in a new attempt, and goes away without a word.
fn commit_at(folder: &Path, ranks: usize, size: usize, steps: &[u64]) {
    world(ranks, |rank| {
        let number = rank.rank();
        let mut walk = Walk::new(number, size);
        let mut checkpointer = builder(folder).set("every", "off").open(rank).unwrap();
        let mut step = checkpointer.resume(&mut walk).unwrap().map_or(0, |at| at.step);
        for &next in steps {
            while step < next {
                walk.advance();
                step += 1;
                assert_eq!(checkpointer.tick(step, &mut walk).problem(), None);
            }
            let id = checkpointer.checkpoint_now(step, None, &mut walk).unwrap();
            assert_eq!(checkpointer.wait(), Settled::Committed(id));
        }
    });
}

/// Resumes with `ranks` ranks, and checks that the outcome is the same on all; then goes away without a word.
fn resume(folder: &Path, ranks: usize, size: usize) -> Result<Option<Resumed>, String> {
    let mut outcomes = world(ranks, |rank| {
        let number = rank.rank();
        let mut walk = Walk::new(number, size);
        let mut checkpointer = builder(folder).open(rank).unwrap();
        let resumed = checkpointer.resume(&mut walk).map_err(|error| error.to_string());
        if let Ok(Some(at)) = &resumed {
            assert!(walk == Walk::after(number, size, at.step), "rank {number} has an altered state");
        }
        resumed
    });
    let first = outcomes.swap_remove(0);
    assert!(outcomes.iter().all(|outcome| *outcome == first), "{first:?}, but elsewhere {outcomes:?}");
    first
}

fn step_of(outcome: &Result<Option<Resumed>, String>) -> u64 {
    match outcome {
        Ok(Some(at)) => at.step,
        other => panic!("not resumed: {other:?}"),
    }
}

/// The checkpoints that attempt `epoch` says it set aside, as (epoch, id).
fn set_aside(folder: &Path, epoch: u64) -> Vec<(u64, u64)> {
    let events = journal(folder, epoch).into_iter();
    let aside = events.filter_map(|event| match event {
        Event::SetAside { epoch, id, .. } => Some((epoch.0, id.0)),
        _ => None,
    });
    aside.collect()
}

fn shard(folder: &Path, epoch: u64, id: u64, rank: usize) -> PathBuf {
    checkpoint(folder, epoch, id).join(format!("rank-{rank:05}.shard"))
}

fn manifest(folder: &Path, epoch: u64, id: u64) -> PathBuf {
    checkpoint(folder, epoch, id).join("manifest.json")
}

fn rewrite(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    let before = bytes.clone();
    change(&mut bytes);
    assert_ne!(bytes, before, "nothing was altered");
    fs::write(path, bytes).unwrap();
}

/// The newest two checkpoints of attempt 1.
#[derive(Clone, Copy)]
struct Newest {
    /// All steps at which a checkpoint was taken.
    steps: &'static [u64],
    /// Whether the newest builds on the one before it.
    builds: bool,
}

impl Newest {
    /// What every test of damage is done to: checkpoints that hold all, and those that share with others.
    const BOTH: [Self; 2] = [Self { steps: &[10, 20], builds: false }, Self { steps: &[3, 6, 10, 20], builds: true }];

    const fn id(self) -> u64 {
        self.steps.len() as u64
    }

    /// Commits them all, and checks that they are what they should be.
    fn commit(self, folder: &Path, ranks: usize, size: usize) {
        commit_at(folder, ranks, size, self.steps);
        for rank in 0..ranks {
            let reader = ShardReader::open(&RealMedium::default(), &shard(folder, 1, self.id(), rank)).unwrap();
            let parents: Vec<u64> = reader.parents().iter().map(|parent| parent.id.0).collect();
            assert_eq!(parents.contains(&(self.id() - 1)), self.builds, "{parents:?}");
        }
    }
}

/// A job of one rank with checkpoints, the newest at steps 10 and 20, which is damaged and mended again and again.
struct Patient {
    _scratch: tempfile::TempDir,
    folder: PathBuf,
    newest: u64,
    trials: u64,
}

impl Patient {
    const SIZE: usize = 40;

    fn each() -> [Self; 2] {
        Newest::BOTH.map(|newest| {
            let scratch = fast_folder();
            let folder = scratch.path().to_owned();
            newest.commit(&folder, 1, Self::SIZE);
            Self { _scratch: scratch, folder, newest: newest.id(), trials: 0 }
        })
    }

    fn shard(&self) -> PathBuf {
        shard(&self.folder, 1, self.newest, 0)
    }

    fn manifest(&self) -> PathBuf {
        manifest(&self.folder, 1, self.newest)
    }

    /// Resumes and checks that this is the older checkpoint, that the newer one was set aside and that its state is not
    /// altered. Then takes back what the attempt left in the store.
    fn expect_the_older(&mut self, what: &str) {
        self.trials += 1;
        let mut walk = Walk::new(0, Self::SIZE);
        let mut checkpointer = builder(&self.folder).open(Solo::default()).unwrap();
        let resumed = checkpointer.resume(&mut walk);
        drop(checkpointer);
        let step = resumed.unwrap_or_else(|error| panic!("{what}: {error}")).map(|at| at.step);
        assert_eq!(step, Some(10), "{what}");
        assert!(walk == Walk::after(0, Self::SIZE, 10), "{what}: the state is altered");
        assert_eq!(set_aside(&self.folder, 2), [(1, self.newest)], "{what}");
        let epoch = self.folder.join(JOB).join("000002");
        assert!(epoch.join(format!("aside-000001-{:06}.json", self.newest)).exists(), "{what}");
        fs::remove_dir_all(epoch).unwrap();
        fs::remove_file(self.folder.join(JOB).join("claims/000002.json")).unwrap();
    }

    /// Alters the file at `path` in each of these ways, one after the other.
    fn suffer(&mut self, path: &Path, ways: impl IntoIterator<Item = (String, Vec<u8>)>) {
        let sound = fs::read(path).unwrap();
        for (what, altered) in ways {
            assert_ne!(altered, sound, "{what} alters nothing");
            fs::write(path, altered).unwrap();
            self.expect_the_older(&what);
        }
        fs::write(path, sound).unwrap();
    }

    fn flips(path: &Path, places: impl IntoIterator<Item = usize>) -> Vec<(String, Vec<u8>)> {
        let sound = fs::read(path).unwrap();
        let mut random = fastrand::Rng::with_seed(7);
        let flip = |place: usize| {
            let mut altered = sound.clone();
            // One bit, several, or all of the byte.
            altered[place] ^= [1 << random.usize(..8), 1 + random.usize(..255) as u8, 0xff][random.usize(..3)];
            (format!("byte {place} of {}", path.display()), altered)
        };
        places.into_iter().map(flip).collect()
    }
}

/// The chunks whose bytes are in the shard itself.
fn own(shard: &ShardReader) -> impl Iterator<Item = &ChunkRecord> {
    shard.chunks().filter(|chunk| chunk.parent == 0)
}

#[test]
fn every_byte_of_a_manifest_counts() {
    for mut patient in Patient::each() {
        let path = patient.manifest();
        let length = fs::read(&path).unwrap().len();
        patient.suffer(&path, Patient::flips(&path, 0..length));
        println!("manifest: {} bytes altered, one at a time", patient.trials);
        assert_eq!(patient.trials, length as u64);
    }
}

#[test]
fn every_byte_of_a_shard_counts() {
    for mut patient in Patient::each() {
        let path = patient.shard();
        let sound = ShardReader::open(&RealMedium::default(), &path).unwrap();
        let chunks_end = own(&sound).map(|chunk| chunk.place + u64::from(chunk.stored_len)).max().unwrap() as usize;
        let chunks_start = own(&sound).map(|chunk| chunk.place).min().unwrap() as usize;
        let length = sound.file_bytes() as usize;
        drop(sound);
        assert!(chunks_start < chunks_end && chunks_end < length);
        let mut random = fastrand::Rng::with_seed(11);
        let sample: Vec<usize> = (0..100).map(|_| chunks_start + random.usize(..chunks_end - chunks_start)).collect();
        let ends = [chunks_start, chunks_end - 1];
        let places = (0..chunks_start).chain(sample).chain(ends).chain(chunks_end..length);
        patient.suffer(&path, Patient::flips(&path, places));
        println!(
            "shard: {} bytes altered, one at a time ({length} bytes, {chunks_start}..{chunks_end} chunks)",
            patient.trials
        );
        assert!(patient.trials as usize >= length - (chunks_end - chunks_start));
    }
}

#[test]
fn what_is_cut_off_or_added_is_noticed() {
    for mut patient in Patient::each() {
        for path in [patient.shard(), patient.manifest()] {
            let sound = fs::read(&path).unwrap();
            let length = sound.len();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let mut random = fastrand::Rng::with_seed(13);
            let cuts = [0, 1, 7, 8, 16, 88, 511, 512, 513, 600, length / 2, length - 89, length - 88, length - 1];
            let cuts = cuts.into_iter().chain((0..12).map(|_| random.usize(..length))).filter(|cut| *cut < length);
            let cut = cuts.map(|cut| (format!("{name} cut to {cut} bytes"), sound[..cut].to_vec()));
            let tail = &sound[length - 88..];
            let junk: [(&str, &[u8]); 5] = [
                ("a zero", &[0]),
                ("a line end", b"\n"),
                ("zeros", &[0; 4096]),
                ("its end again", tail),
                ("itself", &sound),
            ];
            let added = junk.iter().map(|(what, junk)| (format!("{name} and {what}"), [&sound[..], junk].concat()));
            let other = [
                (format!("{name} of zeros"), vec![0; length]),
                (format!("{name} moved by one"), [&[0][..], &sound[..length - 1]].concat()),
            ];
            patient.suffer(&path, cut.chain(added).chain(other).collect::<Vec<_>>());
        }
        println!("cut off, added, replaced: {}", patient.trials);
    }
}

/// Something that happens to a checkpoint of attempt 1.
type Damage = (&'static str, Box<dyn Fn(&Path)>);

fn flip(id: u64, rank: usize, place: impl Fn(&ShardReader) -> u64 + 'static) -> Box<dyn Fn(&Path)> {
    Box::new(move |folder| {
        let path = shard(folder, 1, id, rank);
        let reader = ShardReader::open(&RealMedium::default(), &path).unwrap();
        let place = place(&reader) as usize;
        rewrite(&path, |bytes| bytes[place] ^= 0x10);
    })
}

#[test]
fn all_ranks_go_back_to_the_same_older_checkpoint() {
    for newest in Newest::BOTH {
        go_back(newest);
    }
}

/// Damages the newest checkpoint in every way.
fn go_back(newest: Newest) {
    let (older, id) = (newest.id() - 1, newest.id());
    let scratch = fast_folder();
    let sound = scratch.path().join("sound");
    newest.commit(&sound, RANKS, SIZE);
    // The same steps in a later attempt of another store.
    let later = scratch.path().join("later");
    commit_at(&later, RANKS, SIZE, &[]);
    commit_at(&later, RANKS, SIZE, newest.steps);
    assert!(shard(&later, 2, id, 0).exists());
    let last_chunk = |reader: &ShardReader| own(reader).last().map(|chunk| chunk.place + 1).unwrap();
    let copy = |from: PathBuf, to: Box<dyn Fn(&Path) -> PathBuf>| -> Box<dyn Fn(&Path)> {
        Box::new(move |folder| {
            let from = fs::read(&from).unwrap();
            rewrite(&to(folder), |bytes| *bytes = from.clone());
        })
    };
    let other_job: Box<dyn Fn(&Path)> = Box::new(move |folder| {
        // The name stands in the header, which is sealed anew: it is a sound shard, of another job.
        let path = shard(folder, 1, id, 1);
        rewrite(&path, |bytes| {
            let place = bytes.windows(JOB.len()).position(|window| window == JOB.as_bytes()).unwrap();
            bytes[place..place + JOB.len()].copy_from_slice(b"talk");
            let header = xxhash_rust::xxh3::xxh3_64(&bytes[..504]);
            bytes[504..512].copy_from_slice(&header.to_le_bytes());
            let footer = bytes.len() - 88;
            let header = xxhash_rust::xxh3::xxh3_64(&bytes[..512]);
            bytes[footer + 64..footer + 72].copy_from_slice(&header.to_le_bytes());
            let end = xxhash_rust::xxh3::xxh3_64(&bytes[footer..footer + 80]);
            bytes[footer + 80..].copy_from_slice(&end.to_le_bytes());
        });
        match ShardReader::open(&RealMedium::default(), &path) {
            Ok(reader) => assert_eq!(reader.identity().job, "talk"),
            // No shard of another job is built on, either.
            Err(error) => assert!(newest.builds && error.to_string().contains("it needs"), "{error}"),
        }
    });
    let damages: Vec<Damage> = vec![
        ("a header of rank 0", flip(id, 0, |_| 100)),
        ("a header of rank 1", flip(id, 1, |_| 9)),
        ("a chunk of rank 0", flip(id, 0, last_chunk)),
        ("the first chunk of rank 1", flip(id, 1, |_| 513)),
        ("the last chunk of rank 1", flip(id, 1, last_chunk)),
        ("an index of rank 1", flip(id, 1, |reader| reader.file_bytes() - 88 - 30)),
        ("a footer of rank 1", flip(id, 1, |reader| reader.file_bytes() - 20)),
        (
            "a shard of rank 1 cut in half",
            Box::new(move |folder| rewrite(&shard(folder, 1, id, 1), |bytes| bytes.truncate(bytes.len() / 2))),
        ),
        ("an empty shard of rank 0", Box::new(move |folder| rewrite(&shard(folder, 1, id, 0), Vec::clear))),
        ("no shard of rank 0", Box::new(move |folder| fs::remove_file(shard(folder, 1, id, 0)).unwrap())),
        ("no shard of rank 1", Box::new(move |folder| fs::remove_file(shard(folder, 1, id, 1)).unwrap())),
        (
            "swapped shards",
            Box::new(move |folder| {
                let (a, b, aside) = (shard(folder, 1, id, 0), shard(folder, 1, id, 1), folder.join("aside"));
                fs::rename(&a, &aside).unwrap();
                fs::rename(&b, &a).unwrap();
                fs::rename(&aside, &b).unwrap();
            }),
        ),
        (
            "rank 0's shard twice",
            Box::new(move |folder| {
                fs::copy(shard(folder, 1, id, 0), shard(folder, 1, id, 1)).unwrap();
            }),
        ),
        ("the older manifest", copy(manifest(&sound, 1, older), Box::new(move |folder| manifest(folder, 1, id)))),
        (
            "a manifest of another attempt",
            copy(manifest(&later, 2, id), Box::new(move |folder| manifest(folder, 1, id))),
        ),
        ("an empty manifest", Box::new(move |folder| rewrite(&manifest(folder, 1, id), Vec::clear))),
        (
            "trailing junk behind the manifest",
            Box::new(move |folder| rewrite(&manifest(folder, 1, id), |bytes| bytes.extend_from_slice(b"{}\n"))),
        ),
        ("an older shard of rank 1", copy(shard(&sound, 1, older, 1), Box::new(move |folder| shard(folder, 1, id, 1)))),
        ("a shard of another attempt", copy(shard(&later, 2, id, 1), Box::new(move |folder| shard(folder, 1, id, 1)))),
        ("a shard of another job", other_job),
    ];
    for (what, damage) in &damages {
        let folder = scratch.path().join("store");
        copy_folder(&sound, &folder);
        damage(&folder);
        assert_eq!(step_of(&resume(&folder, RANKS, SIZE)), 10, "{what}");
        assert_eq!(set_aside(&folder, 2), [(1, id)], "{what}");
        // Not tried again, not even where it has become sound meanwhile: nobody knows how often it changes.
        fs::remove_dir_all(checkpoint(&folder, 1, id)).unwrap();
        copy_folder(&checkpoint(&sound, 1, id), &checkpoint(&folder, 1, id));
        assert_eq!(step_of(&resume(&folder, RANKS, SIZE)), 10, "{what}: tried again");
        assert_eq!(set_aside(&folder, 3), [], "{what}: tried again");
        // And the job goes on from there.
        commit_at(&folder, RANKS, SIZE, &[15]);
        assert_eq!(step_of(&resume(&folder, RANKS, SIZE)), 15, "{what}");
        fs::remove_dir_all(&folder).unwrap();
    }
    println!("kinds of damage to a world of {RANKS} ranks: {}", damages.len());
    assert_eq!(step_of(&resume(&sound, RANKS, SIZE)), 20, "without damage");
}

#[test]
fn a_job_whose_checkpoints_are_all_damaged_is_never_started_afresh() {
    let folder = fast_folder();
    let folder = folder.path();
    commit_at(folder, RANKS, SIZE, &[10, 20]);
    rewrite(&manifest(folder, 1, 1), Vec::clear);
    flip(2, 1, |reader| own(reader).next().map(|chunk| chunk.place).unwrap())(folder);
    for attempt in 2..5 {
        let message = resume(folder, RANKS, SIZE).unwrap_err();
        assert!(message.contains("damaged") && message.contains("--fresh"), "{message}");
        let expected: &[_] = if attempt == 2 { &[(1, 1), (1, 2)] } else { &[] };
        let mut aside = set_aside(folder, attempt);
        aside.sort_unstable();
        assert_eq!(aside, expected);
    }
    // Only who says so starts anew.
    let fresh = builder(folder).set("resume", "off").set("fresh", true).open(Solo::default()).unwrap();
    drop(fresh);
}

/// All files below `folder` that are neither shards nor manifests.
fn small_records(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            small_records(&path, found);
        } else if !name.ends_with(".shard") && name != "manifest.json" {
            found.push(path);
        }
    }
}

#[test]
fn no_other_record_is_needed_to_resume() {
    let scratch = fast_folder();
    let sound = scratch.path().join("sound");
    commit_at(&sound, RANKS, SIZE, &[10]);
    commit_at(&sound, RANKS, SIZE, &[20, 30]);
    let mut records = Vec::new();
    small_records(&sound, &mut records);
    let names: Vec<_> = records.iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    for expected in ["000001.json", "000002.json", "resumed.json", "journal.rank-00000.jsonl"] {
        assert!(names.iter().any(|name| name == expected), "no {expected} in {names:?}");
    }
    type Way = (&'static str, fn(&mut Vec<u8>));
    let ways: [Way; 4] = [
        ("emptied", Vec::clear),
        ("cut", |bytes| bytes.truncate(bytes.len() / 2)),
        ("altered", |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0x80;
        }),
        ("overwritten", |bytes| bytes.fill(0xff)),
    ];
    for record in &records {
        for (what, way) in ways {
            let folder = scratch.path().join("store");
            copy_folder(&sound, &folder);
            rewrite(&folder.join(record.strip_prefix(&sound).unwrap()), way);
            assert_eq!(step_of(&resume(&folder, RANKS, SIZE)), 30, "{} {what}", record.display());
            fs::remove_dir_all(&folder).unwrap();
        }
    }
    println!("other records damaged: {} in {} ways", records.len(), ways.len());
}

/// Resumes and goes away: dropped, or without any word as when it is killed.
fn give_up(folder: &Path, killed: bool) -> Result<u64, String> {
    let mut walk = Walk::new(0, SIZE);
    let mut checkpointer = builder(folder).open(Solo::default()).unwrap();
    let resumed = checkpointer.resume(&mut walk).map_err(|error| error.to_string())?;
    if killed {
        // Its threads are idle and write nothing but beats.
        std::mem::forget(checkpointer);
    }
    Ok(resumed.map_or(0, |at| at.step))
}

#[test]
fn three_attempts_that_come_to_nothing_count_against_a_checkpoint() {
    let folder = fast_folder();
    let folder = folder.path();
    commit_at(folder, 1, SIZE, &[10, 20]);
    for _ in 0..4 {
        assert_eq!(give_up(folder, true), Ok(20), "a killed attempt does not count");
    }
    for _ in 0..3 {
        assert_eq!(give_up(folder, false), Ok(20));
        assert_eq!(give_up(folder, true).map(|step| step % 10), Ok(0));
    }
    // The third of them was followed by a killed attempt on the older one already.
    for _ in 0..3 {
        assert_eq!(give_up(folder, false), Ok(10), "the older one after three");
    }
    for _ in 0..2 {
        let message = give_up(folder, false).unwrap_err();
        assert!(message.contains("--resume=1") && message.contains("--fresh"), "{message}");
        assert!(message.contains("no older one") && message.contains("application"), "{message}");
    }
    // Whoever names one gets it.
    let mut walk = Walk::new(0, SIZE);
    let mut checkpointer = builder(folder).set("resume", "2").open(Solo::default()).unwrap();
    assert_eq!(checkpointer.resume(&mut walk).unwrap().map(|at| at.step), Some(20));
}

#[test]
fn an_attempt_that_passed_its_step_does_not_count() {
    let folder = fast_folder();
    let folder = folder.path();
    commit_at(folder, 1, SIZE, &[10, 20]);
    for _ in 0..5 {
        let mut walk = Walk::new(0, SIZE);
        let mut checkpointer = builder(folder).open(Solo::default()).unwrap();
        assert_eq!(checkpointer.resume(&mut walk).unwrap().map(|at| at.step), Some(20));
        walk.advance();
        let _ = checkpointer.tick(21, &mut walk);
    }
}

#[test]
fn another_number_of_ranks_is_refused_on_all_ranks() {
    let folder = fast_folder();
    commit_at(folder.path(), RANKS, SIZE, &[10]);
    for ranks in [1, 3] {
        let message = resume(folder.path(), ranks, SIZE).unwrap_err();
        assert!(message.contains("2 ranks"), "{message}");
    }
    assert_eq!(step_of(&resume(folder.path(), RANKS, SIZE)), 10);
}

/// As [`Walk`], but for what the test changes.
#[derive(State, Clone, PartialEq, Debug)]
struct OtherType {
    places: Vec<f32>,
    counts: Vec<[u32; 2]>,
    land: Vec<u64>,
    seed: u64,
}

/// The same fields, one of them a part of a global array of fixed shape.
#[derive(Clone, PartialEq, Debug)]
struct OtherShape {
    places: Vec<f64>,
    counts: Vec<[u32; 2]>,
    land: Vec<u64>,
    seed: u64,
}

impl State for OtherShape {
    fn describe<'a>(&'a mut self, fields: &mut Fields<'a>) {
        let size = self.places.len();
        fields.array("places", &mut self.places).block_of([size], [0], [size]);
        fields.array("counts", &mut self.counts);
        fields.array("land", &mut self.land);
        fields.value("seed", &mut self.seed);
    }
}

fn refusal_of_misfit<S: State + Clone + PartialEq + Send + Sync>(folder: &Path, own: S) -> Vec<String> {
    world(RANKS, |rank| {
        let number = rank.rank();
        let mut checkpointer = builder(folder).open(rank).unwrap();
        let error = if number == 1 {
            let mut state = own.clone();
            let error = checkpointer.resume(&mut state).unwrap_err();
            assert!(state == own, "the state was touched");
            error
        } else {
            let mut walk = Walk::after(7, SIZE, 3);
            let error = checkpointer.resume(&mut walk).unwrap_err();
            assert!(walk == Walk::after(7, SIZE, 3), "the state was touched");
            error
        };
        assert!(matches!(error, ResumeError::Unfit { rank: 1, .. }), "{error}");
        error.to_string()
    })
}

#[test]
fn a_state_that_does_not_fit_is_refused_with_a_table_and_left_alone() {
    let folder = fast_folder();
    let folder = folder.path();
    commit_at(folder, RANKS, SIZE, &[10, 20]);
    let other = OtherType { places: vec![1.0; SIZE], counts: vec![[5, 6]; 4], land: land(0, SIZE), seed: 9 };
    for message in refusal_of_misfit(folder, other) {
        assert!(message.contains("described here") && message.contains("in the checkpoint"), "{message}");
        assert!(message.contains("f32") && message.contains("f64") && message.contains("places"), "{message}");
    }
    let other = OtherShape { places: vec![1.0; SIZE - 1], counts: vec![[5, 6]; 4], land: land(0, SIZE), seed: 9 };
    for message in refusal_of_misfit(folder, other) {
        assert!(message.contains("described here") && message.contains("places"), "{message}");
    }
    // Nothing is wrong with the checkpoint.
    assert_eq!(step_of(&resume(folder, RANKS, SIZE)), 20);
}

#[test]
fn a_finished_job_says_so_on_all_ranks() {
    let folder = fast_folder();
    let folder = folder.path();
    let finish = |until: u64| {
        world(RANKS, |rank| {
            let number = rank.rank();
            let mut walk = Walk::new(number, SIZE);
            let mut checkpointer = builder(folder).open(rank).unwrap();
            let resumed = checkpointer.resume(&mut walk).unwrap();
            for step in resumed.map_or(0, |at| at.step) + 1..=until {
                walk.advance();
                let _ = checkpointer.tick(step, &mut walk);
            }
            assert_eq!(checkpointer.finish(&mut walk).unwrap().step, until);
            assert!(walk == Walk::after(number, SIZE, until));
            resumed
        })
    };
    assert_eq!(finish(12), [None, None]);
    let again = finish(12);
    assert!(again.iter().flatten().filter(|at| at.finished && at.step == 12).count() == RANKS, "{again:?}");
    // The same job with more to do.
    let more = finish(14);
    assert!(more.iter().flatten().filter(|at| at.finished && at.step == 12).count() == RANKS, "{more:?}");
    let last = finish(14);
    assert!(last.iter().flatten().filter(|at| at.finished && at.step == 14).count() == RANKS, "{last:?}");
}

/// A simulation that writes a line for each step.
struct Logged {
    walk: Walk,
    log: PathBuf,
}

impl Logged {
    fn advance(&mut self, step: u64) {
        use std::io::Write;
        self.walk.advance();
        let mut log = fs::OpenOptions::new().append(true).create(true).open(&self.log).unwrap();
        writeln!(log, "{step},{}", self.walk.seed).unwrap();
    }
}

impl State for Logged {
    fn describe<'a>(&'a mut self, fields: &mut Fields<'a>) {
        fields.nest("walk", &mut self.walk);
        fields.append_file("log", &self.log);
    }
}

#[test]
fn an_output_file_repeats_no_line_after_a_restart() {
    let scratch = fast_folder();
    let folder = scratch.path().join("store");
    for (attempt, until) in [13, 17, 38, 39, 45].into_iter().enumerate() {
        world(RANKS, |rank| {
            let number = rank.rank();
            let log = scratch.path().join(format!("log-{number}.csv"));
            let mut state = Logged { walk: Walk::new(number, 10), log };
            let mut checkpointer = builder(&folder).every_steps(10).open(rank).unwrap();
            let resumed = checkpointer.resume(&mut state).unwrap().map_or(0, |at| at.step);
            assert_eq!(resumed, [0, 10, 10, 30, 30][attempt]);
            for step in resumed + 1..=until {
                state.advance(step);
                if checkpointer.tick(step, &mut state).frozen().is_some() {
                    assert!(matches!(checkpointer.wait(), Settled::Committed(_)));
                }
            }
            // Dropped in mid-run, with lines behind the last checkpoint.
        });
    }
    for number in 0..RANKS {
        let log = fs::read_to_string(scratch.path().join(format!("log-{number}.csv"))).unwrap();
        let mut walk = Walk::new(number, 10);
        let expected: String = (1..=45)
            .map(|step| {
                walk.advance();
                format!("{step},{}\n", walk.seed)
            })
            .collect();
        assert_eq!(log, expected);
    }
}
