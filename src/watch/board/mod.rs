//! The board: what the ranks of a node say of themselves, in memory that outlives their hanging.
//!
//! Comes in: of each rank, who it is, that it lives (a thread's beat), and how far it is (steps and phases). Goes out: the same, to whoever
//! watches: an agent, `piton status`. What must hold: saying something is a few stores to memory, no system call and no lock;
//! a rank that never calls the library again is still seen; a board is one file of the user's own for each node and attempt, and what is
//! in it is believed no further than its bounds; where there is no room for a file, the job runs on without being seen.
//!
//! Boards lie in memory (`/dev/shm`) and are named `piton-<user>-<job>-<store>-<epoch>-<token>.board`.

mod layout;
mod own;

pub use own::{Phase, Place};

use crate::config::BoardPlace;
use crate::ids::Epoch;
use crate::supervised::Supervised;
use layout::{HEADER_BYTES, MAGIC, MOST_SLOTS, Memory, PHASES, VERSION, WAITS};
use nix::fcntl::{OFlag, posix_fallocate};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use thiserror::Error;
use xxhash_rust::xxh3::xxh3_64;

/// Most files of a folder that are looked at for boards.
const MOST_FILES: usize = 100_000;

/// Nanoseconds of the node's monotonic clock, as boards have them: to within some milliseconds, since a tick has no time to look closer.
#[must_use]
pub fn now_ns() -> u64 {
    #[cfg(target_os = "linux")]
    const CLOCK: nix::time::ClockId = nix::time::ClockId::CLOCK_MONOTONIC_COARSE;
    #[cfg(not(target_os = "linux"))]
    const CLOCK: nix::time::ClockId = nix::time::ClockId::CLOCK_MONOTONIC;
    // The clock is there on every system that this is built for.
    nix::time::clock_gettime(CLOCK)
        .map_or(0, |time| (time.tv_sec() as u64).wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec() as u64))
}

/// A board can't be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BoardError {
    /// The system refuses something.
    #[error("{}: cannot {what}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// It is not what it should be.
    #[error("{}: {what}; remove it if no job of yours uses it", path.display())]
    Strange {
        /// The file.
        path: PathBuf,
        /// What is strange about it.
        what: String,
    },
}

/// Which board: of which attempt of which job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoardName {
    /// The job.
    pub job: String,
    /// The store, as a path: two jobs of one name in different stores are two.
    pub store: PathBuf,
    /// The attempt.
    pub epoch: Epoch,
    /// Tells it from another attempt of that number, in a store that was removed and made anew.
    pub token: u64,
    /// The supervisor's launch that the ranks belong to, where there is one.
    pub supervised: Supervised,
}

impl BoardName {
    /// What the names of all attempts' boards of this job begin with.
    fn prefix(&self) -> String {
        prefix(&self.job, &self.store)
    }

    /// The name of the file.
    #[must_use]
    pub fn file_name(&self) -> String {
        format!("{}{}-{:016x}.board", self.prefix(), self.epoch, self.token)
    }
}

fn prefix(job: &str, store: &Path) -> String {
    let store = xxh3_64(store.as_os_str().as_encoded_bytes()) as u32;
    format!("piton-{}-{job}-{store:08x}-", nix::unistd::geteuid())
}

/// Where boards lie where nobody says otherwise: memory, or else the folder for temporary files.
#[must_use]
pub fn default_folder() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    if memory.is_dir() { memory } else { std::env::temp_dir() }
}

/// Where boards lie by the setting `board`; `None`: nowhere.
#[must_use]
pub fn folder(place: &BoardPlace) -> Option<PathBuf> {
    match place {
        BoardPlace::Off => None,
        BoardPlace::Auto => Some(default_folder()),
        BoardPlace::Folder(folder) => Some(folder.clone()),
    }
}

/// The path by which boards name a store: the same for everybody, wherever they stand.
#[must_use]
pub fn store_path(store: &Path) -> PathBuf {
    fs::canonicalize(store).or_else(|_| std::path::absolute(store)).unwrap_or_else(|_| store.to_owned())
}

/// Whether a rank is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Presence {
    /// It has not come yet.
    Absent,
    /// It is there, and brings back its state or does something else before its first step.
    Arrived,
    /// It computes.
    Computing,
    /// It has ended its session by itself.
    Left,
}

impl Presence {
    fn number(self) -> u64 {
        match self {
            Self::Absent => 0,
            Self::Arrived => 1,
            Self::Computing => 2,
            Self::Left => 3,
        }
    }

    fn of(number: u64) -> Self {
        match number {
            1 => Self::Arrived,
            2 => Self::Computing,
            3 => Self::Left,
            _ => Self::Absent,
        }
    }
}

/// How long something takes that happens again and again; times in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Taken {
    /// How often it happened.
    pub count: u64,
    /// How long that took, all in all.
    pub total: f64,
    /// The second longest time, slowly forgotten: one that was long once says nothing.
    pub long: f64,
}

/// A phase, as a board has it.
#[derive(Debug, Clone, PartialEq)]
pub struct PhaseSeen {
    /// What the application calls it.
    pub name: String,
    /// Whether the rank waits for others in it.
    pub waits: bool,
    /// How long it takes.
    pub taken: Taken,
}

/// What one rank says of itself. Moments are [`now_ns`].
#[derive(Debug, Clone, PartialEq)]
pub struct RankSeen {
    /// Which rank.
    pub rank: u32,
    /// Whether it is there.
    pub presence: Presence,
    /// Its process,
    pub pid: u32,
    /// and when that started, in clock ticks since boot: another process of the same number started at another time.
    pub start_ticks: u64,
    /// The thread that ticks.
    pub thread: u32,
    /// How often it beat,
    pub beats: u64,
    /// and when, last.
    pub beat_at: u64,
    /// How late its last beat was, nanoseconds.
    pub late_ns: u64,
    /// Its step,
    pub step: u64,
    /// and since when.
    pub stepped_at: u64,
    /// The phase that it is in, by its place among its phases.
    pub phase: Option<usize>,
    /// How long its steps take.
    pub steps: Taken,
    /// How long of that it waited for others, seconds, all in all.
    pub waiting: f64,
    /// How many problems it told of.
    pub errors: u64,
}

/// A node's board, mapped.
#[derive(Debug)]
pub struct Board {
    memory: Arc<Memory>,
    path: Option<PathBuf>,
}

impl Board {
    /// Makes the board of `slots` ranks in `folder`, or joins it where another rank of the node has made it.
    ///
    /// # Errors
    /// [`BoardError`]: no room, no permission, another user's file of that name.
    pub fn make(folder: &Path, name: &BoardName, slots: usize, world: u32, beat: Duration) -> Result<Self, BoardError> {
        let path = folder.join(name.file_name());
        let failed = |what| {
            let path = path.clone();
            move |source| BoardError::Io { path, what, source }
        };
        let slots = slots.clamp(1, MOST_SLOTS);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .mode(0o600)
            .custom_flags(OFlag::O_NOFOLLOW.bits())
            .open(&path)
            .map_err(failed("open it"))?;
        check_owner(&file, &path)?;
        // What is mapped and has no memory behind it would kill whoever touches it.
        let bytes = i64::try_from(layout::bytes(slots)).unwrap_or(i64::MAX);
        posix_fallocate(&file, 0, bytes).map_err(|error| failed("give it memory")(error.into()))?;
        let memory = Memory::of_file(&file, slots).map_err(failed("map it"))?;
        let header = memory.header();
        // All ranks of the node say the same.
        header.version.store(VERSION, Ordering::Relaxed);
        header.slots.store(slots as u64, Ordering::Relaxed);
        header.world.store(u64::from(world), Ordering::Relaxed);
        header.epoch.store(name.epoch.0, Ordering::Relaxed);
        header.token.store(name.token, Ordering::Relaxed);
        header.run.store(name.supervised.run, Ordering::Relaxed);
        header.launch.store(u64::from(name.supervised.launch), Ordering::Relaxed);
        header.beat_ns.store(u64::try_from(beat.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        header.job.set(&name.job);
        header.host.set(&super::process::host_name());
        header.store.set(&name.store.to_string_lossy());
        header.magic.store(MAGIC, Ordering::Release);
        Ok(Self { memory: Arc::new(memory), path: Some(path) })
    }

    /// One that no other process sees: where no file can be had, ranks say things all the same.
    ///
    /// # Errors
    /// Where there is no memory.
    pub fn unseen(slots: usize) -> io::Result<Self> {
        Ok(Self { memory: Arc::new(Memory::private(slots.clamp(1, MOST_SLOTS))?), path: None })
    }

    /// Opens a board that is there.
    ///
    /// # Errors
    /// [`BoardError`], also where it is not complete yet.
    pub fn open(path: &Path) -> Result<Self, BoardError> {
        let failed = |what| move |source| BoardError::Io { path: path.to_owned(), what, source };
        let strange = |what: String| BoardError::Strange { path: path.to_owned(), what };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(OFlag::O_NOFOLLOW.bits())
            .open(path)
            .map_err(failed("open it"))?;
        let length = check_owner(&file, path)?;
        let room = usize::try_from(length).unwrap_or(0).saturating_sub(HEADER_BYTES) / layout::SLOT_BYTES;
        if room == 0 {
            return Err(strange("it is no board, or not complete yet".into()));
        }
        let memory = Memory::of_file(&file, room.min(MOST_SLOTS)).map_err(failed("map it"))?;
        let header = memory.header();
        if header.magic.load(Ordering::Acquire) != MAGIC {
            return Err(strange("it is no board, or not complete yet".into()));
        }
        let version = header.version.load(Ordering::Relaxed);
        if version != VERSION {
            return Err(strange(format!("it is a board of version {version}, and this reads version {VERSION}")));
        }
        if header.slots.load(Ordering::Relaxed) != memory.slots() as u64 {
            return Err(strange("its length is not what it says".into()));
        }
        Ok(Self { memory: Arc::new(memory), path: Some(path.to_owned()) })
    }

    /// The boards in `folder` that are of the job (of any where it is `None`), with their files; what is no board of this user's is left out.
    #[must_use]
    pub fn find(folder: &Path, job: Option<(&str, &Path)>) -> Vec<(PathBuf, Self)> {
        let beginning = match job {
            Some((job, store)) => prefix(job, store),
            None => format!("piton-{}-", nix::unistd::geteuid()),
        };
        let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
        let names = entries.take(MOST_FILES).flatten().filter(|entry| {
            entry.file_name().to_str().is_some_and(|name| name.starts_with(&beginning) && name.ends_with(".board"))
        });
        let mut found: Vec<(PathBuf, Self)> =
            names.filter_map(|entry| Some((entry.path(), Self::open(&entry.path()).ok()?))).collect();
        found.sort_by_key(|(_, board)| board.epoch());
        found
    }

    /// Removes the boards of earlier attempts of the same job whose ranks are gone.
    pub fn clean(folder: &Path, name: &BoardName) {
        for (path, board) in Self::find(folder, Some((&name.job, &name.store))) {
            let gone =
                |rank: &RankSeen| rank.presence == Presence::Left || !super::process::lives(rank.pid, rank.start_ticks);
            if board.epoch() < name.epoch && board.ranks().iter().all(gone) {
                let _ = fs::remove_file(path);
            }
        }
    }

    /// Removes the file; who has it mapped keeps it.
    pub fn remove(&self) {
        if let Some(path) = &self.path {
            let _ = fs::remove_file(path);
        }
    }

    /// The file, where there is one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The place of the rank `rank`, which is this process, in slot `slot`.
    ///
    /// # Panics
    /// Where there is no such slot.
    #[must_use]
    pub fn place(&self, slot: usize, rank: u32) -> Place {
        Place::take(Arc::clone(&self.memory), slot, rank)
    }

    /// The job.
    #[must_use]
    pub fn job(&self) -> String {
        self.memory.header().job.get()
    }

    /// The node.
    #[must_use]
    pub fn host(&self) -> String {
        self.memory.header().host.get()
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.memory.header().store.get().into()
    }

    /// The attempt.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        Epoch(self.memory.header().epoch.load(Ordering::Relaxed))
    }

    /// The supervisor's launch that the ranks belong to, where there is one.
    #[must_use]
    pub fn supervised(&self) -> Supervised {
        let header = self.memory.header();
        let launch = u32::try_from(header.launch.load(Ordering::Relaxed)).unwrap_or(u32::MAX);
        Supervised { run: header.run.load(Ordering::Relaxed), launch }
    }

    /// How many ranks the job has.
    #[must_use]
    pub fn world(&self) -> u32 {
        u32::try_from(self.memory.header().world.load(Ordering::Relaxed)).unwrap_or(u32::MAX)
    }

    /// How often ranks beat.
    #[must_use]
    pub fn beat(&self) -> Duration {
        Duration::from_nanos(self.memory.header().beat_ns.load(Ordering::Relaxed))
    }

    /// How many ranks there is place for.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.memory.slots()
    }

    /// All ranks that have come, in the order of their slots.
    #[must_use]
    pub fn ranks(&self) -> Vec<RankSeen> {
        (0..self.slots()).filter_map(|slot| self.rank(slot)).collect()
    }

    /// What the rank in a slot says; `None` where none has come.
    #[must_use]
    pub fn rank(&self, slot: usize) -> Option<RankSeen> {
        let slot = self.memory.slot(slot);
        let presence = Presence::of(slot.presence.load(Ordering::Acquire));
        if presence == Presence::Absent {
            return None;
        }
        let word = |word: &std::sync::atomic::AtomicU64| word.load(Ordering::Relaxed);
        let small = |value| u32::try_from(word(value)).unwrap_or(u32::MAX);
        Some(RankSeen {
            rank: small(&slot.rank),
            presence,
            pid: small(&slot.pid),
            start_ticks: word(&slot.start_ticks),
            thread: small(&slot.thread),
            beats: word(&slot.beats),
            beat_at: word(&slot.beat_at),
            late_ns: word(&slot.late_ns),
            step: word(&slot.step),
            stepped_at: word(&slot.stepped_at),
            phase: usize::try_from(word(&slot.phase)).ok().and_then(|phase| phase.checked_sub(1)),
            steps: Taken {
                count: word(&slot.steps),
                total: seconds(word(&slot.steps_ns)),
                long: seconds(word(&slot.second_ns)),
            },
            waiting: seconds(word(&slot.waiting_ns)),
            errors: word(&slot.errors),
        })
    }

    /// A phase of the rank in a slot.
    #[must_use]
    pub fn phase(&self, slot: usize, phase: usize) -> Option<PhaseSeen> {
        let slot = self.memory.slot(slot);
        let known = (slot.phases.load(Ordering::Acquire) as usize).min(PHASES);
        let phase = slot.named[..known].get(phase)?;
        let word = |word: &std::sync::atomic::AtomicU64| word.load(Ordering::Relaxed);
        Some(PhaseSeen {
            name: phase.name.get(),
            waits: word(&phase.flags) & WAITS != 0,
            taken: Taken {
                count: word(&phase.count),
                total: seconds(word(&phase.total_ns)),
                long: seconds(word(&phase.second_ns)),
            },
        })
    }

    /// The last problem that the rank in a slot told of.
    #[must_use]
    pub fn error(&self, slot: usize) -> Option<String> {
        Some(self.memory.slot(slot).error.get()).filter(|error| !error.is_empty())
    }

    /// Says that the process `pid` watches now.
    pub fn watched_by(&self, pid: u32) {
        let header = self.memory.header();
        header.agent_at.store(now_ns(), Ordering::Relaxed);
        header.agent_pid.store(u64::from(pid), Ordering::Release);
    }

    /// Who watches, and when it last looked.
    #[must_use]
    pub fn watcher(&self) -> Option<(u32, u64)> {
        self.memory.header().watcher()
    }
}

fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 * 1e-9
}

/// Nobody else may have a hand in it: the folder is everybody's. The length comes back.
fn check_owner(file: &File, path: &Path) -> Result<u64, BoardError> {
    let strange = |what: &str| BoardError::Strange { path: path.to_owned(), what: what.to_owned() };
    let meta =
        file.metadata().map_err(|source| BoardError::Io { path: path.to_owned(), what: "look at it", source })?;
    if !meta.is_file() {
        return Err(strange("it is no ordinary file"));
    }
    if meta.uid() != nix::unistd::geteuid().as_raw() {
        return Err(strange("it belongs to another user"));
    }
    if meta.mode() & 0o077 != 0 {
        return Err(strange("others than its owner may use it"));
    }
    Ok(meta.len())
}

#[cfg(test)]
mod tests;
