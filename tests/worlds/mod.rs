//! Small jobs whose ranks are threads, on a recording medium: what the tests of crashes and kills have in common.
//!
//! Comes in: a medium, ranks, and what to run. Goes out: what each rank saw, and what was promised by then ([`Facts`]).
//! [`violation`] says what of a promise an image breaks; [`recover`] tries whether a job can go on from it.

#![allow(dead_code, reason = "each test binary uses its part of it")]

use piton::comm::{Communicator, threads::Threads, threads::ThreadsRank};
use piton::ids::{CheckpointId, CheckpointName, Epoch};
use piton::journal::{self, Event};
use piton::medium::Medium;
use piton::medium::recording::{Image, KillSwitch, RecordingMedium};
use piton::shard::ShardReader;
use piton::store::{JobFolder, Pin, Store, sealed};
use piton::{Builder, Checkpointer, Fields, Settled, State};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

/// Nothing in these tests may take longer.
pub const BOUND: Duration = Duration::from_secs(90);

pub const JOB: &str = "walk";
pub const STORE: &str = "/scratch/store";
pub const KEEP: usize = 2;

/// The state of one rank: a field that grows, one that does not, one of which little changes, so that checkpoints build on others,
/// a value and a constant; all follow from rank and step.
#[derive(Debug, Clone, PartialEq)]
pub struct Walk {
    pub places: Vec<f64>,
    pub counts: [u32; 4],
    pub ground: Vec<u64>,
    pub seed: u64,
    pub width: u64,
}

impl State for Walk {
    fn describe<'a>(&'a mut self, fields: &mut Fields<'a>) {
        fields.array("places", &mut self.places);
        fields.slice("counts", &mut self.counts);
        fields.array("ground", &mut self.ground);
        fields.value("seed", &mut self.seed);
        fields.constant("width", &self.width);
    }
}

impl Walk {
    pub fn new(rank: usize) -> Self {
        Self {
            places: vec![0.5; 4 + rank],
            counts: [0; 4],
            ground: vec![rank as u64; 8 * 512],
            seed: rank as u64 + 1,
            width: 7,
        }
    }

    pub fn advance(&mut self) {
        for place in &mut self.places {
            self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *place += (self.seed >> 11) as f64 / (1u64 << 53) as f64 - 0.5;
        }
        self.counts[(self.seed >> 33) as usize % 4] += 1;
        let place = (self.seed >> 40) as usize % self.ground.len();
        self.ground[place] = self.seed;
        self.places.push(self.width as f64);
    }

    pub fn after(rank: usize, steps: u64) -> Self {
        let mut walk = Self::new(rank);
        (0..steps).for_each(|_| walk.advance());
        walk
    }
}

/// A session as these tests want it: quiet in the background, private of the environment.
pub fn builder(medium: Arc<dyn Medium>, arguments: &[&str]) -> Builder {
    Checkpointer::builder(JOB)
        .dir(Path::new(STORE))
        .medium(medium)
        .every_steps(3)
        .keep(KEEP as u32)
        .threads(1)
        .set("log", "quiet")
        // Thousands of lives, of which nobody needs to watch any.
        .set("board", "off")
        .set("take_over", true)
        .set("request_poll", "1h")
        .set("journal_beat", "1h")
        // A round whenever one may be due, whatever the machine's speed.
        .set("round_ticks_max", 1)
        .args(arguments.iter().copied())
}

/// Runs `body` as every rank, each in a thread. `Err` where one panics or does not come back in time.
pub fn each_rank<T: Send + 'static>(
    ranks: Vec<ThreadsRank>,
    body: impl Fn(ThreadsRank) -> T + Send + Sync + 'static,
) -> Result<Vec<T>, String> {
    let (send, receive) = mpsc::channel();
    let (size, body) = (ranks.len(), Arc::new(body));
    for rank in ranks {
        let (send, body) = (send.clone(), Arc::clone(&body));
        std::thread::spawn(move || {
            let number = rank.rank();
            let result = catch_unwind(AssertUnwindSafe(|| body(rank)));
            let _ = send.send((number, result));
        });
    }
    let mut results = BTreeMap::new();
    for _ in 0..size {
        let (rank, result) = receive.recv_timeout(BOUND).map_err(|_| "a rank hangs".to_owned())?;
        let result = result.map_err(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            format!("rank {rank} panicked: {}", text.unwrap_or_default())
        })?;
        results.insert(rank, result);
    }
    Ok(results.into_values().collect())
}

/// What was promised to somebody before a crash, so that it must hold after it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Facts {
    /// Checkpoints said to be committed, with their steps.
    pub committed: BTreeMap<CheckpointName, u64>,
    /// Which ranks said that their part of a checkpoint is durable.
    pub durable: BTreeMap<CheckpointName, BTreeSet<u32>>,
    /// Checkpoints that were begun, with their steps.
    pub begun: BTreeMap<CheckpointName, u64>,
    /// Checkpoints said to be given up.
    pub dropped: BTreeSet<CheckpointName>,
    /// Attempts that were opened, and whether they start a new lineage.
    pub opened: BTreeMap<Epoch, bool>,
    /// What attempts said they resumed from.
    pub resumed: BTreeMap<Epoch, CheckpointName>,
    /// What attempts said they finished with.
    pub finished: BTreeMap<Epoch, CheckpointId>,
    /// Attempts whose end was told.
    pub ended: BTreeSet<Epoch>,
    /// Checkpoints that a user was told are pinned.
    pub pinned: BTreeSet<CheckpointName>,
}

impl Facts {
    /// What all journals that are visible in `live` say, which is what anybody could have read by then, and `notes`. What was
    /// `heard` before is not looked at again.
    pub fn learn(&mut self, live: &Image, notes: &[String], heard: &mut HashSet<u64>) {
        let mut is_new = |what: &[u8]| {
            let mut hasher = DefaultHasher::new();
            what.hash(&mut hasher);
            heard.insert(hasher.finish())
        };
        for (path, bytes) in live.files() {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if journal::writer_of(name).is_some() {
                for line in bytes.split(|byte| *byte == b'\n').filter(|line| is_new(line)) {
                    if let Ok(record) = serde_json::from_slice::<journal::Record>(line) {
                        self.hear(record.epoch, record.rank.unwrap_or(u32::MAX), record.event);
                    }
                }
            }
        }
        for note in notes.iter().filter(|note| is_new(note.as_bytes())) {
            let mut words = note.split(' ');
            let kind = words.next().unwrap_or_default();
            let numbers: Vec<u64> = words.map(|word| word.parse().expect("a number in a note")).collect();
            match (kind, numbers.as_slice()) {
                ("committed", &[epoch, id, step]) => {
                    self.committed.insert(name(epoch, id), step);
                }
                ("opened", &[epoch, fresh]) => {
                    self.opened.insert(Epoch(epoch), fresh > 0);
                }
                ("ended", &[epoch]) => {
                    self.ended.insert(Epoch(epoch));
                }
                ("pinned", &[epoch, id]) => {
                    self.pinned.insert(name(epoch, id));
                }
                _ => {}
            }
        }
    }

    fn hear(&mut self, epoch: Epoch, rank: u32, event: Event) {
        let of = |id| CheckpointName { epoch, id };
        match event {
            Event::AttemptStarted { request, .. } => {
                self.opened.insert(epoch, request == "fresh");
            }
            Event::CheckpointStarted { id, step, .. } => {
                self.begun.insert(of(id), step);
            }
            Event::ShardDurable { id, .. } => {
                self.durable.entry(of(id)).or_default().insert(rank);
            }
            Event::Committed { id, step, .. } => {
                self.committed.insert(of(id), step);
            }
            Event::Dropped { id, .. } => {
                self.dropped.insert(of(id));
            }
            // No rank leaves `resume` before rank 0 says so.
            Event::Resumed { epoch: from, id, .. } if rank == 0 => {
                self.resumed.insert(epoch, CheckpointName { epoch: from, id });
            }
            Event::Finished { id: Some(id), .. } => {
                self.finished.insert(epoch, id);
            }
            _ => {}
        }
    }

    /// The newest checkpoint of the lineage that starts with `lineage` that must be resumed, unless there is a newer one.
    pub fn newest(&self, lineage: Epoch, world: usize) -> Option<CheckpointName> {
        let complete = self.durable.iter().filter(|(name, ranks)| ranks.len() == world && !self.dropped.contains(name));
        // What was once resumed from must not be fallen behind again.
        let names = self.committed.keys().chain(complete.map(|(name, _)| name)).chain(self.resumed.values());
        names.filter(|name| name.epoch >= lineage).max().copied()
    }

    /// Since when the lineage lasts that was announced last.
    pub fn lineage(&self) -> Epoch {
        self.opened.iter().rev().find(|(_, fresh)| **fresh).map_or(Epoch(0), |(epoch, _)| *epoch)
    }
}

pub fn name(epoch: u64, id: u64) -> CheckpointName {
    CheckpointName { epoch: Epoch(epoch), id: CheckpointId(id) }
}

pub fn job(medium: &RecordingMedium) -> JobFolder {
    Store::new(Arc::new(medium.clone()), STORE).job(JOB).expect("a name")
}

/// What an attempt does.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub arguments: &'static [&'static str],
    pub until: u64,
    pub finish: bool,
}

/// What a rank saw of an attempt.
#[derive(Debug, Clone)]
pub struct Seen {
    pub epoch: Epoch,
    pub resumed: Option<(CheckpointName, u64, bool)>,
    /// The state right after the resume.
    pub restored: Walk,
    pub last: Walk,
    pub commits: Vec<CheckpointName>,
}

/// Runs one attempt on `medium` as one rank, and notes what it is told.
///
/// # Errors
/// What the session said.
pub fn attempt(
    builder: Builder,
    notes: &RecordingMedium,
    rank: ThreadsRank,
    plan: Plan,
    is_alive: impl Fn() -> bool,
) -> Result<Seen, String> {
    let number = rank.rank();
    let note = |text: String| {
        // Nobody hears what the dead say.
        if is_alive() {
            notes.note(text);
        }
    };
    let mut walk = Walk::new(number);
    let mut session = builder.open(rank).map_err(|error| format!("open: {error}"))?;
    let epoch = session.epoch();
    note(format!("opened {epoch} {}", u64::from(plan.arguments.contains(&"--fresh"))));
    let resumed = session.resume(&mut walk).map_err(|error| format!("resume: {error}"))?;
    let mut step = resumed.map_or(0, |at| at.step);
    let restored = walk.clone();
    let (mut commits, mut problem) = (Vec::new(), None);
    while step < plan.until {
        walk.advance();
        step += 1;
        let tick = session.tick(step, &mut walk);
        problem = problem.or(tick.problem().map(str::to_owned));
        if tick.frozen().is_some()
            && let Settled::Committed(id) = session.wait()
        {
            note(format!("committed {epoch} {id} {step}"));
            commits.push(CheckpointName { epoch, id });
        }
    }
    if plan.finish {
        let summary = session.finish(&mut walk).map_err(|error| format!("finish: {error}"))?;
        note(format!("committed {} {} {}", summary.checkpoint.epoch, summary.checkpoint.id, summary.step));
    } else {
        drop(session);
    }
    if number == 0 {
        note(format!("ended {epoch}"));
    }
    match problem {
        Some(problem) => Err(problem),
        None => Ok(Seen {
            epoch,
            resumed: resumed.map(|at| (at.checkpoint, at.step, at.finished)),
            restored,
            last: walk,
            commits,
        }),
    }
}

/// Runs one attempt of `world` ranks on `medium`, with time for everything.
///
/// # Errors
/// Where a rank panics, hangs, or is told of an error.
pub fn run(medium: &RecordingMedium, world: usize, plan: Plan) -> Result<Vec<Seen>, String> {
    let medium = medium.clone();
    let seen = each_rank(Threads::world(world), move |rank| {
        let own = medium.for_rank(rank.rank(), Arc::new(KillSwitch::new()));
        let builder = builder(own, plan.arguments);
        attempt(builder.set("agreement_timeout", "60s").set("commit_timeout", "60s"), &medium, rank, plan, || true)
    })?;
    seen.into_iter().enumerate().map(|(rank, seen)| seen.map_err(|error| format!("rank {rank}: {error}"))).collect()
}

/// A name in the list of invariants, and how it was broken.
pub type Violation = (&'static str, String);

/// What is broken in `image`, looking at its files only.
pub fn violation(image: &Image, facts: &Facts, world: usize) -> Option<Violation> {
    let medium = RecordingMedium::from_image(image);
    medium.set_recording(false);
    let job = job(&medium);
    // Every attempt that was opened has its claim, and its lineage is remembered.
    let claims = job.claims().unwrap_or_default();
    for (epoch, fresh) in &facts.opened {
        match claims.iter().find(|(claimed, _)| claimed == epoch) {
            Some((_, Ok(claim))) if claim.fresh == *fresh => {}
            other => return Some(("an opened attempt has its claim", format!("epoch {epoch}: {other:?}"))),
        }
    }
    // Every manifest is whole, and so is everything that it names.
    for (path, _) in image.files().filter(|(path, _)| path.ends_with("manifest.json")) {
        let numbers: Vec<u64> =
            path.iter().filter_map(|part| part.to_str()).filter_map(|part| part.parse().ok()).collect();
        let &[epoch, id] = numbers.as_slice() else { continue };
        let name = name(epoch, id);
        let whole = || -> Result<(), String> {
            let manifest = job.manifest(name).map_err(|error| error.to_string())?;
            if manifest.world as usize != world {
                return Err(format!("it is of {} ranks", manifest.world));
            }
            for rank in 0..world {
                let entry = manifest.shard(rank).ok_or("no entry")?;
                let shard = ShardReader::open_at(&medium, &job.place_of(name, entry)).map_err(|e| e.to_string())?;
                if entry.xxh3_128 != format!("{:032x}", shard.digest()) || entry.bytes != shard.file_bytes() {
                    return Err(format!("rank {rank} has another shard"));
                }
            }
            Ok(())
        };
        if let Err(why) = whole() {
            return Some(("a manifest names only what is there", format!("checkpoint {name}: {why}")));
        }
    }
    // The newest commits that were announced are committed, whatever is going on. What is committed is in force before the
    // journal's own thread announces it: so many newer ones may already have taken the place of one.
    let entries = job.catalogue().map(|catalogue| catalogue.entries).unwrap_or_default();
    let newer_than = |name| entries.iter().filter(|entry| entry.name > name && entry.manifest().is_some()).count();
    for name in facts.committed.keys().rev().take(KEEP) {
        if let Err(error) = job.manifest(*name)
            && newer_than(*name) < KEEP
        {
            return Some(("the newest announced commits are committed", format!("checkpoint {name}: {error}")));
        }
    }
    for name in &facts.pinned {
        let file = format!("pins/{}-{}.json", name.epoch.folder(), name.id.folder());
        let bytes = image.file(job.folder().join(file)).unwrap_or_default();
        let pin = sealed::open::<Pin>("pin", 1, bytes).map(|pin| pin.checkpoint);
        if pin.as_ref() != Ok(name) || job.manifest(*name).is_err() {
            return Some(("a pinned checkpoint is pinned and there", format!("checkpoint {name}: {pin:?}")));
        }
    }
    for (epoch, from) in &facts.resumed {
        let found = job.resumed_from(*epoch).map(|resumed| resumed.checkpoint);
        if found != Some(*from) {
            return Some(("what was resumed from is on record", format!("epoch {epoch}: {found:?}, not {from:?}")));
        }
    }
    for (epoch, with) in &facts.finished {
        if job.finished(*epoch).map(|finished| finished.checkpoint.id) != Some(*with) {
            return Some(("a job that finished is finished", format!("epoch {epoch}")));
        }
    }
    for epoch in &facts.ended {
        let path = job.epoch_folder(*epoch).join(journal::file_name(&journal::rank_writer(0)));
        let last = journal::tail(&medium, &path).ok().and_then(|tail| tail.record);
        if !last.is_some_and(|record| matches!(record.event, Event::AttemptEnded { .. })) {
            return Some(("an attempt's end is on record", format!("epoch {epoch}")));
        }
    }
    None
}

/// What became of a recovery.
#[derive(Debug)]
pub struct Recovery {
    /// The medium on which it ran, with its log from the crash on.
    pub medium: RecordingMedium,
    /// What it went on from.
    pub resumed: Option<CheckpointName>,
}

/// Lets a job go on from `image`: it must resume what was promised or newer, exactly, on all ranks, take its next checkpoint,
/// and be able to resume that.
///
/// # Errors
/// What is broken.
pub fn recover(image: &Image, facts: &Facts, world: usize) -> Result<Recovery, Violation> {
    let medium = RecordingMedium::from_image(image);
    let resumed = go_on(&medium, facts, world, None)?;
    Ok(Recovery { medium, resumed })
}

/// [`recover`] on a medium as it is; `until` the job's end, if one is given, otherwise for one more checkpoint.
///
/// # Errors
/// What is broken.
pub fn go_on(
    medium: &RecordingMedium,
    facts: &Facts,
    world: usize,
    until: Option<u64>,
) -> Result<Option<CheckpointName>, Violation> {
    // A claim that was under way may have started a new lineage.
    let claims = job(medium).claims().unwrap_or_default();
    let fresh = claims.iter().rev().find(|(_, claim)| claim.as_ref().is_ok_and(|claim| claim.fresh));
    let lineage = facts.lineage().max(fresh.map_or(Epoch(0), |(epoch, _)| *epoch));
    let promised = facts.newest(lineage, world);
    let step = |name| facts.committed.get(&name).or_else(|| facts.begun.get(&name)).copied();
    // Past two steps at which a checkpoint is due: the first may come before all ranks could agree on it.
    let next = until.unwrap_or_else(|| {
        let newest = facts.begun.keys().chain(facts.committed.keys()).filter(|name| name.epoch >= lineage);
        newest.filter_map(|name| step(*name)).max().unwrap_or(0) / 3 * 3 + 6
    });
    let plan = Plan { arguments: &["--resume"], until: next, finish: until.is_some() };
    let seen = run(medium, world, plan).map_err(|why| ("a job goes on after a crash", why))?;
    let resumed = seen[0].resumed;
    let describe = |what: &str| format!("{what}: resumed {resumed:?}, promised {promised:?}");
    if let Some(newest) = facts.opened.keys().next_back()
        && seen[0].epoch <= *newest
    {
        return Err(("epochs only grow", format!("{} after {newest}", seen[0].epoch)));
    }
    for (rank, one) in seen.iter().enumerate() {
        if one.resumed != resumed || one.epoch != seen[0].epoch {
            return Err(("all ranks resume the same", format!("rank {rank}: {one:?}")));
        }
        if one.restored != Walk::after(rank, resumed.map_or(0, |(_, step, _)| step)) {
            return Err(("what is restored is what was saved", describe(&format!("rank {rank}"))));
        }
        if one.last != Walk::after(rank, next.max(resumed.map_or(0, |(_, step, _)| step))) {
            return Err(("what is restored is what was saved", describe(&format!("rank {rank} at its end"))));
        }
    }
    let found = resumed.map(|(name, ..)| name);
    if found < promised || found.is_some_and(|name| name.epoch < lineage) {
        return Err(("the newest that was promised is resumed", describe("fell back")));
    }
    if let Some((name, at, finished)) = resumed {
        if step(name).is_some_and(|step| step != at) {
            return Err(("what is restored is what was saved", describe("another step")));
        }
        if facts.finished.values().any(|end| *end == name.id) && !finished {
            return Err(("a job that finished is finished", describe("it goes on")));
        }
    }
    let last = seen[0].commits.last().copied();
    if last.is_none() && until.is_none() && resumed.is_none_or(|(_, step, _)| step < next) {
        return Err(("the next checkpoint works", describe("none was committed")));
    }
    // That one can be resumed from.
    let again = run(medium, world, Plan { arguments: &["--resume=required"], until: 0, finish: false })
        .map_err(|why| ("the next checkpoint works", why))?;
    let at = again[0].resumed.map(|(name, step, _)| (name, step));
    let least = resumed.map_or(0, |(_, step, _)| step) + u64::from(until.is_none());
    for (rank, one) in again.iter().enumerate() {
        let exact = at.is_some_and(|(_, step)| step >= least && one.restored == Walk::after(rank, step));
        if one.resumed != again[0].resumed || !exact || (last.is_some() && at.map(|(name, _)| name) < last) {
            return Err(("the next checkpoint works", format!("rank {rank}: {one:?} after {last:?}")));
        }
    }
    Ok(found)
}

/// Whether the machine has time: `make prove` sets it.
pub fn is_long() -> bool {
    std::env::var_os("PITON_TEST_LONG").is_some_and(|value| value == "1")
}

/// Does `work` on all of `items`, `width` at a time, until one fails.
///
/// # Errors
/// The first failure.
pub fn all_of<T: Sync, E: Send>(items: &[T], width: usize, work: impl Fn(&T) -> Result<(), E> + Sync) -> Result<(), E> {
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(None));
    std::thread::scope(|scope| {
        for _ in 0..width {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(error) = work(item) {
                        next.store(items.len(), Ordering::Relaxed);
                        failed.lock().expect("no panic").get_or_insert(error);
                    }
                }
            });
        }
    });
    failed.into_inner().expect("no panic").map_or(Ok(()), Err)
}
