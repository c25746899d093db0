//! What the tests of faults share: a small simulation, a world of ranks, a medium that fails or hangs on demand, and a way to
//! say that a test could not be run here.

#![allow(dead_code, reason = "each test program uses a part of it")]

mod skip;

#[allow(unused_imports, reason = "each test program uses a part of it")]
pub use skip::skipped as skip;

use piton::comm::threads::{Threads, ThreadsRank};
use piton::journal::Event;
use piton::medium::{Entry, Medium, MediumRead, MediumWrite, RealMedium, Stat};
use piton::{Builder, Checkpointer, State};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The name of the job in every test.
pub const JOB: &str = "walk";

/// A simulation whose state after a step follows from its rank and the step alone. Its second array grows; of the third and
/// largest only the first page changes, so that checkpoints after the first two build on those before.
#[derive(State, Clone, PartialEq, Debug)]
pub struct Walk {
    pub places: Vec<f64>,
    pub counts: Vec<[u32; 2]>,
    pub land: Vec<u64>,
    pub seed: u64,
}

/// Land beside what moves: some pages more than that takes, of noise that differs between ranks.
pub fn land(rank: usize, size: usize) -> Vec<u64> {
    let mut random = fastrand::Rng::with_seed(rank as u64);
    (0..size + 2048).map(|_| random.u64(..)).collect()
}

impl Walk {
    pub fn new(rank: usize, size: usize) -> Self {
        Self { places: vec![0.0; size], counts: vec![[0, 1]; 3], land: land(rank, size), seed: 1 + rank as u64 }
    }

    pub fn advance(&mut self) {
        for place in &mut self.places {
            self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *place += (self.seed >> 11) as f64 / (1u64 << 53) as f64 - 0.5;
        }
        if self.places.is_empty() || self.seed.is_multiple_of(2) {
            self.counts.push([9, (self.seed >> 40) as u32]);
        }
        self.land[self.counts.len() % 512] ^= self.seed;
    }

    pub fn after(rank: usize, size: usize, steps: u64) -> Self {
        let mut walk = Self::new(rank, size);
        (0..steps).for_each(|_| walk.advance());
        walk
    }
}

/// A session over the store `folder` that resumes what is there.
pub fn builder(folder: &Path) -> Builder {
    Checkpointer::builder(JOB)
        .dir(folder)
        .threads(1)
        .set("log", "quiet")
        .set("agent", false)
        .set("resume", "latest")
        // All attempts of a test are of one process, which lives on.
        .set("take_over", true)
        .set("chunk", "64KiB")
}

/// Runs `rank` in a thread for each rank of a world. What one of them panics with, this panics with.
pub fn world<T: Send>(size: usize, run: impl Fn(ThreadsRank) -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let run = &run;
        let threads: Vec<_> = Threads::world(size).into_iter().map(|rank| scope.spawn(move || run(rank))).collect();
        let results: Vec<_> = threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        results.into_iter().map(|result| result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}

/// The journal of attempt `epoch`.
pub fn journal(folder: &Path, epoch: u64) -> Vec<Event> {
    let folder = folder.join(JOB).join(format!("{epoch:06}"));
    let journal = piton::journal::read(&RealMedium::default(), &folder).unwrap();
    assert_eq!(journal.damaged_lines, 0);
    journal.records.into_iter().map(|record| record.event).collect()
}

/// The folder of checkpoint `id` of attempt `epoch`.
pub fn checkpoint(folder: &Path, epoch: u64, id: u64) -> PathBuf {
    folder.join(JOB).join(format!("{epoch:06}")).join(format!("{id:06}"))
}

/// A copy of the folder `from` with all that is in it, but for what is removed meanwhile.
pub fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    let Some(entries) = unless_gone(std::fs::read_dir(from)) else { return };
    for entry in entries {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match unless_gone(entry.file_type()) {
            Some(kind) if kind.is_dir() => copy_folder(&entry.path(), &target),
            Some(_) => drop(unless_gone(std::fs::copy(entry.path(), target))),
            None => {}
        }
    }
}

fn unless_gone<T>(result: io::Result<T>) -> Option<T> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        result => Some(result.unwrap()),
    }
}

/// Where the ranks of a test wait for each other. Unlike that of the standard library it does not wait for ever for one that has
/// panicked.
pub struct Barrier {
    size: usize,
    /// How many wait, and how often all have met.
    state: Mutex<(usize, u64)>,
    moved: Condvar,
}

impl Barrier {
    pub fn new(size: usize) -> Self {
        Self { size, state: Mutex::new((0, 0)), moved: Condvar::new() }
    }

    pub fn wait(&self) {
        const BOUND: Duration = Duration::from_secs(120);
        let mut state = self.state.lock().unwrap();
        let met = state.1;
        state.0 += 1;
        if state.0 == self.size {
            *state = (0, met + 1);
            self.moved.notify_all();
            return;
        }
        let (state, waited) = self.moved.wait_timeout_while(state, BOUND, |state| state.1 == met).unwrap();
        drop(state);
        assert!(!waited.timed_out(), "the other ranks do not come");
    }
}

/// A scratch folder in memory where there is such a place: tests that resume thousands of times wait for no disk.
pub fn fast_folder() -> tempfile::TempDir {
    let shm = Path::new("/dev/shm");
    if shm.is_dir()
        && let Ok(folder) = tempfile::tempdir_in(shm)
    {
        return folder;
    }
    tempfile::tempdir().unwrap()
}

/// Says that the test `name` is left to `make prove`. Not a skip: nothing is missing on this machine.
pub fn leave(name: &str, reason: &str) {
    println!("LEFT TO `make prove`: {name}: {reason}; PITON_TEST_LONG=1 runs it");
}

/// Whether tests that take minutes or gigabytes are wanted.
pub fn long() -> bool {
    std::env::var_os("PITON_TEST_LONG").is_some_and(|value| value == "1")
}

/// What is asked of a medium.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    CreateDir,
    Create,
    Append,
    Open,
    Read,
    Write,
    SetLen,
    Sync,
    Rename,
    Link,
    RemoveFile,
    RemoveDir,
    SyncDir,
    List,
    Stat,
}

/// What happens to a call instead.
enum Fault {
    /// It fails with this error, so many times.
    Error { errno: i32, times: u64 },
    /// It waits until the fault is taken away.
    Hang,
    /// Something is done first, once.
    Before(Option<Box<dyn FnOnce() + Send>>),
}

type Matches = Box<dyn Fn(Call, &Path) -> bool + Send>;

#[derive(Default)]
struct Script {
    faults: Vec<(Matches, Fault)>,
    hits: u64,
    hanging: u64,
    expired: bool,
}

/// What goes wrong on a [`Faulty`] medium, and when.
#[derive(Clone, Default)]
pub struct Faults(Arc<(Mutex<Script>, Condvar)>);

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faults")
    }
}

/// No call hangs longer than this: a test that waits for one fails instead of hanging.
const HANG_BOUND: Duration = Duration::from_secs(30);

impl Faults {
    fn lock(&self) -> MutexGuard<'_, Script> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, matches: impl Fn(Call, &Path) -> bool + Send + 'static, fault: Fault) {
        self.lock().faults.push((Box::new(matches), fault));
    }

    /// The next `times` calls that match fail with `errno`.
    pub fn fail(&self, errno: i32, times: u64, matches: impl Fn(Call, &Path) -> bool + Send + 'static) {
        self.add(matches, Fault::Error { errno, times });
    }

    /// Calls that match wait until [`Self::heal`].
    pub fn hang(&self, matches: impl Fn(Call, &Path) -> bool + Send + 'static) {
        self.add(matches, Fault::Hang);
    }

    /// Does something before the next call that matches.
    pub fn before(
        &self,
        matches: impl Fn(Call, &Path) -> bool + Send + 'static,
        action: impl FnOnce() + Send + 'static,
    ) {
        self.add(matches, Fault::Before(Some(Box::new(action))));
    }

    /// All is well from now on.
    pub fn heal(&self) {
        self.lock().faults.clear();
        self.0.1.notify_all();
    }

    /// How many calls met a fault.
    pub fn hits(&self) -> u64 {
        self.lock().hits
    }

    /// Whether a call hung until the bound.
    pub fn expired(&self) -> bool {
        self.lock().expired
    }

    /// Waits until a call hangs.
    pub fn wait_until_hanging(&self) {
        let until = Instant::now() + HANG_BOUND;
        let mut script = self.lock();
        while script.hanging == 0 {
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "nothing hangs");
            script = self.0.1.wait_timeout(script, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn meet(&self, call: Call, path: &Path) -> io::Result<()> {
        let until = Instant::now() + HANG_BOUND;
        let mut script = self.lock();
        loop {
            let Some(place) = script.faults.iter().position(|(matches, _)| matches(call, path)) else {
                return Ok(());
            };
            let expired = script.expired;
            match &mut script.faults[place].1 {
                Fault::Error { errno, times } => {
                    let errno = *errno;
                    *times -= 1;
                    if *times == 0 {
                        drop(script.faults.remove(place));
                    }
                    script.hits += 1;
                    return Err(io::Error::from_raw_os_error(errno));
                }
                Fault::Before(action) => {
                    let action = action.take();
                    drop(script.faults.remove(place));
                    script.hits += 1;
                    drop(script);
                    if let Some(action) = action {
                        action();
                    }
                    return Ok(());
                }
                Fault::Hang if expired => return Ok(()),
                Fault::Hang => {
                    script.hits += 1;
                    script.hanging += 1;
                    self.0.1.notify_all();
                    let left = until.saturating_duration_since(Instant::now());
                    script = self.0.1.wait_timeout(script, left).unwrap_or_else(PoisonError::into_inner).0;
                    script.hanging -= 1;
                    if Instant::now() >= until {
                        script.expired = true;
                        return Ok(());
                    }
                }
            }
        }
    }
}

/// The real file system, with faults.
#[derive(Debug)]
pub struct Faulty {
    real: RealMedium,
    faults: Faults,
}

impl Faulty {
    pub fn medium(faults: &Faults) -> Arc<dyn Medium> {
        Arc::new(Self { real: RealMedium::default(), faults: faults.clone() })
    }

    fn write(&self, path: &Path, real: Box<dyn MediumWrite>) -> Box<dyn MediumWrite> {
        Box::new(FaultyWrite { real, path: path.to_owned(), faults: self.faults.clone() })
    }
}

impl Medium for Faulty {
    fn create_dir(&self, path: &Path) -> io::Result<bool> {
        self.faults.meet(Call::CreateDir, path)?;
        self.real.create_dir(path)
    }
    fn create(&self, path: &Path) -> io::Result<Box<dyn MediumWrite>> {
        self.faults.meet(Call::Create, path)?;
        Ok(self.write(path, self.real.create(path)?))
    }
    fn append(&self, path: &Path) -> io::Result<(Box<dyn MediumWrite>, u64)> {
        self.faults.meet(Call::Append, path)?;
        let (real, len) = self.real.append(path)?;
        Ok((self.write(path, real), len))
    }
    fn open(&self, path: &Path) -> io::Result<Box<dyn MediumRead>> {
        self.faults.meet(Call::Open, path)?;
        Ok(Box::new(FaultyRead { real: self.real.open(path)?, path: path.to_owned(), faults: self.faults.clone() }))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.faults.meet(Call::Rename, to)?;
        self.real.rename(from, to)
    }
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.faults.meet(Call::Link, to)?;
        self.real.link(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.faults.meet(Call::RemoveFile, path)?;
        self.real.remove_file(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.faults.meet(Call::RemoveDir, path)?;
        self.real.remove_dir(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.faults.meet(Call::SyncDir, path)?;
        self.real.sync_dir(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        self.faults.meet(Call::List, path)?;
        self.real.list(path)
    }
    fn stat(&self, path: &Path) -> io::Result<Stat> {
        self.faults.meet(Call::Stat, path)?;
        self.real.stat(path)
    }
    fn room(&self, path: &Path) -> io::Result<Option<u64>> {
        self.faults.meet(Call::Stat, path)?;
        self.real.room(path)
    }
}

#[derive(Debug)]
struct FaultyWrite {
    real: Box<dyn MediumWrite>,
    path: PathBuf,
    faults: Faults,
}

impl MediumWrite for FaultyWrite {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.faults.meet(Call::Write, &self.path)?;
        self.real.write_at(offset, bytes)
    }
    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.faults.meet(Call::SetLen, &self.path)?;
        self.real.set_len(len)
    }
    fn sync(&mut self) -> io::Result<()> {
        self.faults.meet(Call::Sync, &self.path)?;
        self.real.sync()
    }
}

#[derive(Debug)]
struct FaultyRead {
    real: Box<dyn MediumRead>,
    path: PathBuf,
    faults: Faults,
}

impl MediumRead for FaultyRead {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.faults.meet(Call::Read, &self.path)?;
        self.real.read_at(offset, buffer)
    }
    fn len(&self) -> io::Result<u64> {
        self.real.len()
    }
}
