//! An in-memory [`Medium`] for tests: it remembers what is durable, so that every crash can be played.
//!
//! Comes in: the calls of the code under test, from any number of threads and ranks. Goes out: the bytes of a live file
//! system; a log of all operations with the tests' own notes between them; for every point of that log the states that a
//! crash there may leave ([`Image`]), each of which makes a new medium ([`RecordingMedium::from_image`]).
//! What must hold: only [`MediumWrite::sync`] makes a file's bytes durable, and only [`Medium::sync_dir`] its name, however
//! kind real file systems may be; operations are atomic to each other.
//!
//! Tests can let operations fail ([`RecordingMedium::fail_when`]), hang ([`RecordingMedium::hold`]) or be left out
//! ([`RecordingMedium::sabotage`]), fill the medium up ([`RecordingMedium::set_capacity`]), and kill ranks
//! ([`RecordingMedium::for_rank`]).
//!
//! ```
//! use piton::medium::{Medium, recording::RecordingMedium};
//! use std::path::Path;
//!
//! let medium = RecordingMedium::with_folder("/store");
//! let mut file = medium.create(Path::new("/store/file.tmp"))?;
//! file.write_at(0, b"precious")?;
//! file.sync()?;
//! medium.rename(Path::new("/store/file.tmp"), Path::new("/store/file"))?;
//! medium.sync_dir(Path::new("/store"))?;
//! medium.note("promised");
//! medium.for_each_crash(256, 1, |point, image| {
//!     // Torn, it is never seen under its final name; promised, it is there.
//!     assert!(image.file("/store/file").is_none_or(|bytes| bytes == b"precious"));
//!     assert!(point.notes().is_empty() || image.file("/store/file").is_some());
//! });
//! # std::io::Result::Ok(())
//! ```

use super::{Entry, EntryKind, Medium, MediumRead, MediumWrite, Stat};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

mod crash;
mod kill;
mod tree;

pub use crash::{Image, Snapshot};
pub use kill::KillSwitch;

use crash::{Enumeration, ImageEntry};
use tree::{Change, Content, FileNode, FolderNode, NameChange, Node, NodeId, Tree, error};

/// What an operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "named after the methods of the traits")]
pub enum OperationKind {
    CreateDir,
    Create,
    Append,
    Open,
    Rename,
    Link,
    RemoveFile,
    RemoveDir,
    SyncDir,
    List,
    Stat,
    Room,
    Write,
    SetLen,
    Sync,
    Read,
}

impl OperationKind {
    /// Whether it changes what is stored, or what of it is durable.
    #[must_use]
    pub fn is_change(self) -> bool {
        !matches!(self, Self::Open | Self::List | Self::Stat | Self::Room | Self::Read)
    }
}

/// One call of a method of the medium or of its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// What it does.
    pub kind: OperationKind,
    /// To which path; of a file's methods, that under which it was opened.
    pub path: PathBuf,
    /// The second path of [`OperationKind::Rename`] and [`OperationKind::Link`].
    pub to: Option<PathBuf>,
    /// Where, of [`OperationKind::Read`] and [`OperationKind::Write`]; the length, of [`OperationKind::SetLen`].
    pub offset: u64,
    /// How many bytes.
    pub len: u64,
    /// The rank that called, of handles made by [`RecordingMedium::for_rank`].
    pub rank: Option<usize>,
    /// Its number among all operations on this medium, from 0.
    pub index: u64,
    /// How it failed, if it did.
    pub failed: Option<io::ErrorKind>,
}

impl Operation {
    fn new(kind: OperationKind, path: &Path) -> Self {
        Self { kind, path: path.to_owned(), to: None, offset: 0, len: 0, rank: None, index: 0, failed: None }
    }

    /// What the operation is for, whatever the ids of rank, epoch and checkpoint: every number in its names is a `#`.
    ///
    /// ```
    /// # use piton::medium::{Medium, recording::RecordingMedium};
    /// # use std::path::Path;
    /// let medium = RecordingMedium::with_folder("/store/job/3/17");
    /// medium.create(Path::new("/store/job/3/17/rank-00003.shard.tmp"))?.sync()?;
    /// medium.sync_dir(Path::new("/store/job/3/17"))?;
    /// let roles: Vec<String> = medium.operations().iter().map(|operation| operation.role()).collect();
    /// assert_eq!(roles, ["create file rank-#.shard.tmp", "sync file rank-#.shard.tmp", "sync folder #/#"]);
    /// # std::io::Result::Ok(())
    /// ```
    #[must_use]
    pub fn role(&self) -> String {
        let file = || file_role(&self.path);
        let to = || self.to.as_deref().map(file_role).unwrap_or_default();
        match self.kind {
            OperationKind::CreateDir => format!("create folder {}", folder_role(&self.path)),
            OperationKind::Create => format!("create file {}", file()),
            OperationKind::Append => format!("append file {}", file()),
            OperationKind::Open => format!("open file {}", file()),
            OperationKind::Rename => format!("rename {} -> {}", file(), to()),
            OperationKind::Link => format!("link {} -> {}", file(), to()),
            OperationKind::RemoveFile => format!("remove file {}", file()),
            OperationKind::RemoveDir => format!("remove folder {}", folder_role(&self.path)),
            OperationKind::SyncDir => format!("sync folder {}", folder_role(&self.path)),
            OperationKind::List => format!("list folder {}", folder_role(&self.path)),
            OperationKind::Stat => format!("stat {}", file()),
            OperationKind::Room => "room".to_owned(),
            OperationKind::Write => format!("write file {}", file()),
            OperationKind::SetLen => format!("set length of file {}", file()),
            OperationKind::Sync => format!("sync file {}", file()),
            OperationKind::Read => format!("read file {}", file()),
        }
    }

    /// Whether leaving it out takes away durability or atomicity only: a sync of a file or folder, or a rename.
    #[must_use]
    pub fn is_safeguard(&self) -> bool {
        matches!(self.kind, OperationKind::Sync | OperationKind::SyncDir | OperationKind::Rename)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{} {:?} {}", self.index, self.kind, self.path.display())?;
        if let Some(to) = &self.to {
            write!(f, " -> {}", to.display())?;
        }
        if self.len > 0 {
            write!(f, " [{} B at {}]", self.len, self.offset)?;
        }
        if let Some(rank) = self.rank {
            write!(f, " by rank {rank}")?;
        }
        if let Some(kind) = self.failed {
            write!(f, " failed: {kind:?}")?;
        }
        Ok(())
    }
}

/// A name with every run of digits replaced.
fn pattern(name: &str) -> String {
    let mut pattern = String::new();
    for letter in name.chars() {
        match letter {
            '0'..='9' if pattern.ends_with('#') => {}
            '0'..='9' => pattern.push('#'),
            other => pattern.push(other),
        }
    }
    pattern
}

fn last_names(path: &Path, count: usize) -> String {
    let names: Vec<String> = path
        .components()
        .filter_map(|component| match component {
            std::path::Component::Normal(name) => Some(pattern(&name.to_string_lossy())),
            _ => None,
        })
        .collect();
    names[names.len().saturating_sub(count)..].join("/")
}

/// The file's name; with its folder's where it is only a number, which says nothing.
fn file_role(path: &Path) -> String {
    let name = last_names(path, 1);
    if name.starts_with("#.") || name == "#" { last_names(path, 2) } else { name }
}

fn folder_role(path: &Path) -> String {
    last_names(path, 2)
}

/// What the log of a medium consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A call.
    Operation(Operation),
    /// A test's own [`note`](RecordingMedium::note).
    Note(String),
}

#[derive(Debug, Clone)]
struct Record {
    event: Event,
    before: Snapshot,
}

/// A moment at which the run may have crashed: just before an operation, or at the end.
#[derive(Debug, Clone)]
pub struct CrashPoint {
    snapshot: Snapshot,
    before: Option<Operation>,
    notes: Arc<[String]>,
}

impl CrashPoint {
    /// What was and was not durable.
    #[must_use]
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The operation that did not happen any more; none at the end of the log.
    #[must_use]
    pub fn before(&self) -> Option<&Operation> {
        self.before.as_ref()
    }

    /// The notes made up to this moment: what had been promised.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
}

/// What an enumeration went through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CrashCount {
    /// Moments.
    pub points: usize,
    /// Distinct states (of bytes, names and notes) that were handed out.
    pub images: usize,
    /// States left out because they had been handed out before.
    pub repeated: usize,
}

type Predicate = Box<dyn Fn(&Operation) -> bool + Send>;

struct Fault {
    matches: Predicate,
    errno: i32,
    left: u64,
}

struct Held {
    id: u64,
    matches: Predicate,
}

#[derive(Debug)]
struct LiveFile {
    bytes: Vec<u8>,
    modified: SystemTime,
    handles: usize,
}

struct State {
    tree: Arc<Tree>,
    live: BTreeMap<NodeId, LiveFile>,
    records: Vec<Record>,
    silent: bool,
    count: u64,
    faults: Vec<Fault>,
    holds: Vec<Held>,
    next_hold: u64,
    held: usize,
    sabotage: Option<Predicate>,
    room: Option<u64>,
    capacity: Option<u64>,
}

struct Shared {
    state: Mutex<State>,
    /// A hold begins to wait, or ends.
    moved: Condvar,
}

#[derive(Debug, Clone)]
struct Origin {
    rank: usize,
    switch: Arc<KillSwitch>,
}

/// The double. Clones are handles of one medium.
///
/// Paths are absolute; a relative one is taken from `/`. The root folder exists. See the [module](self) for what it is for.
#[derive(Clone)]
pub struct RecordingMedium {
    shared: Arc<Shared>,
    origin: Option<Origin>,
}

impl fmt::Debug for RecordingMedium {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordingMedium")
            .field("rank", &self.origin.as_ref().map(|origin| origin.rank))
            .finish_non_exhaustive()
    }
}

impl Default for RecordingMedium {
    fn default() -> Self {
        Self::of(Tree::default(), BTreeMap::new())
    }
}

/// What becomes of an operation.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Done,
    /// Sabotaged: it is said to have been done.
    LeftOut,
    /// A fault: it is said to have failed.
    Failed,
}

/// Operations are waiting until this is dropped.
#[derive(Debug)]
#[must_use = "dropped, it lets go"]
pub struct Hold {
    medium: RecordingMedium,
    id: u64,
}

impl Hold {
    /// Waits until some operation waits in a hold of this medium; `false` where none did within `bound`.
    #[must_use]
    pub fn wait_until_reached(&self, bound: Duration) -> bool {
        let state = self.medium.lock();
        let (state, _) = self
            .medium
            .shared
            .moved
            .wait_timeout_while(state, bound, |state| state.held == 0)
            .unwrap_or_else(PoisonError::into_inner);
        state.held > 0
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.medium.lock().holds.retain(|held| held.id != self.id);
        self.medium.shared.moved.notify_all();
    }
}

impl RecordingMedium {
    /// An empty medium.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A medium in which only the folder `path`, with those above it, exists, durably.
    #[must_use]
    pub fn with_folder(path: impl AsRef<Path>) -> Self {
        let entries = path.as_ref().ancestors().map(|folder| (folder.to_owned(), ImageEntry::Folder)).collect();
        Self::from_entries(&entries)
    }

    /// A medium that shows what is in `image`, all of it durable.
    #[must_use]
    pub fn from_image(image: &Image) -> Self {
        Self::from_entries(&image.entries)
    }

    fn from_entries(entries: &BTreeMap<PathBuf, ImageEntry>) -> Self {
        let (mut tree, mut live, mut known) = (Tree::default(), BTreeMap::new(), BTreeMap::new());
        // Sorted by path, so that a folder comes before what is in it.
        for (path, entry) in entries {
            let Ok((parent, name)) = tree.find_parent(path) else { continue };
            let node = match entry {
                ImageEntry::Folder => tree.add(Node::Folder(FolderNode::default())),
                ImageEntry::File { node, content } => *known.entry(*node).or_insert_with(|| {
                    let file = FileNode { durable: Arc::clone(content), ..FileNode::default() };
                    let id = tree.add(Node::File(file));
                    live.insert(id, LiveFile::new(content.bytes.clone()));
                    id
                }),
            };
            if let Ok(folder) = tree.folder_mut(parent, path) {
                folder.durable.insert(name.to_owned(), node);
                folder.live.insert(name.to_owned(), node);
            }
        }
        Self::of(tree, live)
    }

    fn of(tree: Tree, live: BTreeMap<NodeId, LiveFile>) -> Self {
        let state = State {
            tree: Arc::new(tree),
            live,
            records: Vec::new(),
            silent: false,
            count: 0,
            faults: Vec::new(),
            holds: Vec::new(),
            next_hold: 0,
            held: 0,
            sabotage: None,
            room: None,
            capacity: None,
        };
        Self { shared: Arc::new(Shared { state: Mutex::new(state), moved: Condvar::new() }), origin: None }
    }

    /// The handle that rank `rank` works with: once `switch` is thrown, no call through it, or on a file opened through it,
    /// has an effect.
    #[must_use]
    pub fn for_rank(&self, rank: usize, switch: Arc<KillSwitch>) -> Arc<dyn Medium> {
        Arc::new(Self { shared: Arc::clone(&self.shared), origin: Some(Origin { rank, switch }) })
    }

    /// Appends a fact to the log: what the code under test has promised to its caller by now.
    pub fn note(&self, note: impl Into<String>) {
        self.lock().record(Event::Note(note.into()));
    }

    /// Stops (or resumes) keeping the log, which costs memory in long runs.
    pub fn set_recording(&self, recording: bool) {
        self.lock().silent = !recording;
    }

    /// The log so far.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.lock().records.iter().map(|record| record.event.clone()).collect()
    }

    /// The operations in the log.
    #[must_use]
    pub fn operations(&self) -> Vec<Operation> {
        let operation = |event| match event {
            Event::Operation(operation) => Some(operation),
            Event::Note(_) => None,
        };
        self.events().into_iter().filter_map(operation).collect()
    }

    /// The [roles](Operation::role) of all syncs and renames in the log: what [`sabotage_role`](Self::sabotage_role) can
    /// take away.
    #[must_use]
    pub fn safeguards(&self) -> BTreeSet<String> {
        self.operations().iter().filter(|operation| operation.is_safeguard()).map(Operation::role).collect()
    }

    /// The state now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot(Arc::clone(&self.lock().tree))
    }

    /// What a crash now may leave; see [`Snapshot::crash_images`].
    #[must_use]
    pub fn crash_images(&self, bound: usize, seed: u64) -> Vec<Image> {
        self.snapshot().crash_images(bound, seed)
    }

    /// Every moment of the log at which something differs: before each operation that changed something, and the end.
    #[must_use]
    pub fn crash_points(&self) -> Vec<CrashPoint> {
        let state = self.lock();
        let mut points: Vec<CrashPoint> = Vec::new();
        let mut notes: Arc<[String]> = Arc::new([]);
        for record in &state.records {
            match &record.event {
                Event::Note(note) => notes = notes.iter().chain([note]).cloned().collect(),
                Event::Operation(operation) if operation.kind.is_change() => points.push(CrashPoint {
                    snapshot: record.before.clone(),
                    before: Some(operation.clone()),
                    notes: Arc::clone(&notes),
                }),
                Event::Operation(_) => {}
            }
        }
        points.push(CrashPoint { snapshot: Snapshot(Arc::clone(&state.tree)), before: None, notes });
        points.dedup_by(|later, earlier| {
            Arc::ptr_eq(&later.snapshot.0, &earlier.snapshot.0) && later.notes.len() == earlier.notes.len()
        });
        points
    }

    /// Calls `check` with every state that a crash at any moment of the log may leave: at each, as many as
    /// [`Snapshot::crash_images`] gives for `bound` and `seed`. A state is handed out once for the same notes.
    pub fn for_each_crash(&self, bound: usize, seed: u64, mut check: impl FnMut(&CrashPoint, &Image)) -> CrashCount {
        let (mut seen, mut count, mut enumeration) = (HashSet::new(), CrashCount::default(), Enumeration::default());
        for point in self.crash_points() {
            count.points += 1;
            for image in enumeration.images(&point.snapshot.0, bound, seed.wrapping_add(count.points as u64)) {
                if seen.insert((image.digest(), point.notes.len())) {
                    count.images += 1;
                    check(&point, &image);
                } else {
                    count.repeated += 1;
                }
            }
        }
        count
    }

    /// Leaves out operations for which `matches` holds, without telling the caller; in place of an earlier call's choice.
    ///
    /// - A sync makes nothing durable.
    /// - A rename is what code does that knows nothing of renaming: the final name is created, or what has it is emptied
    ///   and rewritten in place; the bytes are written there and not synced; the old name is removed. A crash may come
    ///   between any two of these.
    /// - Anything else has no effect.
    ///
    /// `matches` is called with the medium locked, and must not use it.
    pub fn sabotage(&self, matches: impl Fn(&Operation) -> bool + Send + 'static) {
        self.lock().sabotage = Some(Box::new(matches));
    }

    /// [Leaves out](Self::sabotage) the syncs and renames of one [role](Operation::role).
    pub fn sabotage_role(&self, role: &str) {
        let role = role.to_owned();
        self.sabotage(move |operation| operation.is_safeguard() && operation.role() == role);
    }

    /// Has the next `times` operations (`u64::MAX`: all) for which `matches` holds fail with `errno`.
    ///
    /// A failed write has written its first half. After a failed sync, all later syncs of that file succeed and make nothing
    /// durable. `matches` is called with the medium locked, and must not use it.
    pub fn fail_when(&self, errno: i32, times: u64, matches: impl Fn(&Operation) -> bool + Send + 'static) {
        self.lock().faults.push(Fault { matches: Box::new(matches), errno, left: times });
    }

    /// Has the operation `index` fail with `errno`, as [`fail_when`](Self::fail_when) does; and all later ones, if `lasting`.
    pub fn fail_at(&self, index: u64, errno: i32, lasting: bool) {
        let times = if lasting { u64::MAX } else { 1 };
        self.fail_when(errno, times, move |operation| operation.index >= index);
    }

    /// Takes back all [faults](Self::fail_when) and [sabotage](Self::sabotage).
    pub fn heal(&self) {
        let mut state = self.lock();
        state.faults.clear();
        state.sabotage = None;
    }

    /// Has operations for which `matches` holds hang until the guard is dropped: a hung file system. They have no effect
    /// before. `matches` is called with the medium locked, and must not use it.
    pub fn hold(&self, matches: impl Fn(&Operation) -> bool + Send + 'static) -> Hold {
        let mut state = self.lock();
        let id = state.next_hold;
        state.next_hold += 1;
        state.holds.push(Held { id, matches: Box::new(matches) });
        drop(state);
        Hold { medium: self.clone(), id }
    }

    /// What [`Medium::room`] says; `None` is what the capacity leaves.
    pub fn set_room(&self, room: Option<u64>) {
        self.lock().room = room;
    }

    /// How many bytes fit, in all files together; more is refused with "no space left on device".
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.lock().capacity = bytes;
    }

    /// How many operations there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.lock().count
    }

    /// The bytes of the file `path`, without the log, faults, or anything else noticing.
    #[must_use]
    pub fn bytes(&self, path: impl AsRef<Path>) -> Option<Vec<u8>> {
        let state = self.lock();
        let node = state.tree.find(path.as_ref()).ok()?;
        state.live.get(&node).map(|file| file.bytes.clone())
    }

    /// Alters the bytes of the file `path` durably, behind everybody's back: bit rot. `false` where there is none.
    pub fn alter(&self, path: impl AsRef<Path>, alter: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut state = self.lock();
        let Ok(node) = state.tree.find(path.as_ref()) else { return false };
        let Some(live) = state.live.get_mut(&node) else { return false };
        alter(&mut live.bytes);
        let content = Arc::new(Content::new(live.bytes.clone()));
        let Ok(file) = Arc::make_mut(&mut state.tree).file_mut(node) else { return false };
        file.durable = content;
        file.pending.clear();
        true
    }

    /// Takes the file or folder `path`, with all that is in it, away durably and behind everybody's back. `false` where
    /// there is none.
    pub fn erase(&self, path: impl AsRef<Path>) -> bool {
        let path = path.as_ref();
        let mut state = self.lock();
        let Ok((parent, name)) = state.tree.find_parent(path) else { return false };
        let Ok(folder) = state.tree().folder_mut(parent, path) else { return false };
        folder.pending.clear();
        let found = folder.live.remove(name).is_some();
        folder.durable = folder.live.clone();
        found
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A test's predicate may have panicked; what it looked at is whole nevertheless.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn killed(&self) -> Option<io::Error> {
        let origin = self.origin.as_ref().filter(|origin| origin.switch.is_thrown())?;
        Some(io::Error::other(format!("rank {} was killed by the test", origin.rank)))
    }

    /// Every operation goes through here.
    fn perform<T>(
        &self,
        mut operation: Operation,
        effect: impl FnOnce(&mut State, Fate) -> io::Result<T>,
    ) -> io::Result<T> {
        if let Some(origin) = &self.origin {
            operation.rank = Some(origin.rank);
            // The answer is not needed: it is asked for again under the lock.
            origin.switch.call(|| operation.role());
        }
        let mut state = self.lock();
        if state.holds.iter().any(|held| (held.matches)(&operation)) {
            state.held += 1;
            self.shared.moved.notify_all();
            while self.killed().is_none() && state.holds.iter().any(|held| (held.matches)(&operation)) {
                // The bound is for the kill switch, which doesn't know of this condition.
                let waited = self.shared.moved.wait_timeout(state, Duration::from_millis(5));
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
            state.held -= 1;
        }
        if let Some(error) = self.killed() {
            return Err(error);
        }
        operation.index = state.count;
        state.count += 1;
        let fault = state.faults.iter_mut().find(|fault| fault.left > 0 && (fault.matches)(&operation));
        let errno = fault.map(|fault| {
            fault.left -= u64::from(fault.left != u64::MAX);
            fault.errno
        });
        let (fate, error) = match errno {
            Some(errno) => (Fate::Failed, Some(io::Error::from_raw_os_error(errno))),
            None if state.sabotage.as_ref().is_some_and(|matches| matches(&operation)) => (Fate::LeftOut, None),
            None => (Fate::Done, None),
        };
        let at = state.records.len();
        state.record(Event::Operation(operation));
        let result = effect(&mut state, fate);
        let result = match error {
            Some(error) => Err(error),
            None => result,
        };
        if let Err(error) = &result
            && let Some(Record { event: Event::Operation(operation), .. }) = state.records.get_mut(at)
        {
            operation.failed = Some(error.kind());
        }
        result
    }

    fn handle(&self, state: &mut State, node: NodeId, path: &Path) -> RecordingFile {
        if let Some(file) = state.live.get_mut(&node) {
            file.handles += 1;
        }
        RecordingFile { medium: self.clone(), node, path: path.to_owned() }
    }
}

impl LiveFile {
    fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, modified: SystemTime::now(), handles: 0 }
    }
}

impl State {
    fn tree(&mut self) -> &mut Tree {
        Arc::make_mut(&mut self.tree)
    }

    fn record(&mut self, event: Event) {
        if !self.silent {
            self.records.push(Record { event, before: Snapshot(Arc::clone(&self.tree)) });
        }
    }

    /// Makes an empty file under a name that does not exist.
    fn add_file(&mut self, path: &Path) -> io::Result<NodeId> {
        let (parent, name) = self.tree.find_parent(path)?;
        let name = name.to_owned();
        let node = self.tree().add(Node::File(FileNode::default()));
        self.tree().change_names(parent, NameChange::Give { name, node }, path)?;
        self.live.insert(node, LiveFile::new(Vec::new()));
        Ok(node)
    }

    /// How many bytes the files that have a name hold.
    fn used(&self) -> u64 {
        self.tree.named().iter().filter_map(|node| self.live.get(node)).map(|file| file.bytes.len() as u64).sum()
    }

    fn change_bytes(&mut self, node: NodeId, change: Change) -> io::Result<()> {
        let end = match &change {
            Change::Write { offset, bytes } => offset.saturating_add(bytes.len() as u64),
            Change::SetLen(len) => *len,
        };
        let now = self.live.get(&node).map_or(0, |file| file.bytes.len() as u64);
        if let Some(capacity) = self.capacity
            && end > now
            && self.used().saturating_add(end - now) > capacity
        {
            return Err(io::Error::from_raw_os_error(nix::libc::ENOSPC));
        }
        let file = self.live.get_mut(&node).ok_or(io::ErrorKind::NotFound)?;
        change.apply(&mut file.bytes)?;
        file.modified = SystemTime::now();
        self.tree().file_mut(node)?.pending.push(change);
        Ok(())
    }

    fn sync(&mut self, node: NodeId) -> io::Result<()> {
        let bytes = self.live.get(&node).ok_or(io::ErrorKind::NotFound)?.bytes.clone();
        let file = self.tree().file_mut(node)?;
        if !file.pending.is_empty() && !file.deceiving {
            file.durable = Arc::new(Content::new(bytes));
            file.pending.clear();
        }
        Ok(())
    }

    fn sweep(&mut self) {
        let open: Vec<NodeId> = self.live.iter().filter(|(_, file)| file.handles > 0).map(|(node, _)| *node).collect();
        for node in self.tree().sweep(open) {
            self.live.remove(&node);
        }
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let (parent, old) = self.tree.find_parent(from)?;
        let (new_parent, new) = self.tree.find_parent(to)?;
        let node = self.tree.find(from)?;
        if parent != new_parent {
            let what = "a rename from one folder into another, which is not atomic everywhere";
            return Err(error(io::ErrorKind::Unsupported, what, from));
        }
        if let Ok(replaced) = self.tree.find(to) {
            if replaced == node {
                return Ok(());
            }
            match (self.tree.is_folder(node), self.tree.is_folder(replaced)) {
                (false, true) => return Err(error(io::ErrorKind::IsADirectory, "a folder has that name", to)),
                (true, false) => return Err(error(io::ErrorKind::NotADirectory, "a file has that name", to)),
                (true, true) if !self.tree.folder(replaced, to)?.live.is_empty() => {
                    return Err(error(io::ErrorKind::DirectoryNotEmpty, "not empty", to));
                }
                _ => {}
            }
        }
        let change = NameChange::Move { from: old.to_owned(), to: new.to_owned(), node };
        self.tree().change_names(parent, change, from)
    }

    /// What happens in place of a rename that is left out.
    fn copy_over(&mut self, operation: &Operation, from: &Path, to: &Path) -> io::Result<()> {
        let node = self.tree.find(from)?;
        let Some(bytes) = self.live.get(&node).map(|file| file.bytes.clone()) else {
            // A folder: there is no other way to rename one.
            return self.rename(from, to);
        };
        let step = |kind| {
            Event::Operation(Operation { kind, path: to.to_owned(), to: None, failed: None, ..operation.clone() })
        };
        let target = match self.tree.find(to) {
            Ok(target) => {
                self.change_bytes(target, Change::SetLen(0))?;
                target
            }
            Err(_) => self.add_file(to)?,
        };
        self.record(step(OperationKind::Write));
        self.change_bytes(target, Change::Write { offset: 0, bytes: bytes.into() })?;
        self.record(Event::Operation(Operation { kind: OperationKind::RemoveFile, ..operation.clone() }));
        self.take(from, false)
    }

    /// Removes the last name of `path`, that of a folder or not.
    fn take(&mut self, path: &Path, folder: bool) -> io::Result<()> {
        let (parent, name) = self.tree.find_parent(path)?;
        let node = self.tree.find(path)?;
        match (self.tree.is_folder(node), folder) {
            (true, false) => return Err(error(io::ErrorKind::IsADirectory, "a folder", path)),
            (false, true) => return Err(error(io::ErrorKind::NotADirectory, "not a folder", path)),
            (true, true) if !self.tree.folder(node, path)?.live.is_empty() => {
                return Err(error(io::ErrorKind::DirectoryNotEmpty, "not empty", path));
            }
            _ => {}
        }
        let change = NameChange::Take { name: name.to_owned() };
        self.tree().change_names(parent, change, path)
    }
}

impl Medium for RecordingMedium {
    fn create_dir(&self, path: &Path) -> io::Result<bool> {
        self.perform(Operation::new(OperationKind::CreateDir, path), |state, fate| {
            if fate != Fate::Done {
                return Ok(true);
            }
            if let Ok(node) = state.tree.find(path) {
                return if state.tree.is_folder(node) {
                    Ok(false)
                } else {
                    Err(error(io::ErrorKind::AlreadyExists, "a file has that name", path))
                };
            }
            let (parent, name) = state.tree.find_parent(path)?;
            let node = state.tree().add(Node::Folder(FolderNode::default()));
            state.tree().change_names(parent, NameChange::Give { name: name.to_owned(), node }, path)?;
            Ok(true)
        })
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn MediumWrite>> {
        self.perform(Operation::new(OperationKind::Create, path), |state, fate| {
            if fate == Fate::Failed {
                return Err(io::ErrorKind::Other.into());
            }
            if state.tree.find(path).is_ok() {
                return Err(error(io::ErrorKind::AlreadyExists, "it exists", path));
            }
            let node = state.add_file(path)?;
            Ok(Box::new(self.handle(state, node, path)) as Box<dyn MediumWrite>)
        })
    }

    fn append(&self, path: &Path) -> io::Result<(Box<dyn MediumWrite>, u64)> {
        self.perform(Operation::new(OperationKind::Append, path), |state, fate| {
            if fate == Fate::Failed {
                return Err(io::ErrorKind::Other.into());
            }
            let node = match state.tree.find(path) {
                Ok(node) if state.tree.is_folder(node) => {
                    return Err(error(io::ErrorKind::IsADirectory, "a folder", path));
                }
                Ok(node) => node,
                Err(_) => state.add_file(path)?,
            };
            let len = state.live.get(&node).map_or(0, |file| file.bytes.len() as u64);
            Ok((Box::new(self.handle(state, node, path)) as Box<dyn MediumWrite>, len))
        })
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn MediumRead>> {
        self.perform(Operation::new(OperationKind::Open, path), |state, fate| {
            if fate == Fate::Failed {
                return Err(io::ErrorKind::Other.into());
            }
            let node = state.tree.find(path)?;
            if state.tree.is_folder(node) {
                return Err(error(io::ErrorKind::InvalidInput, "not a regular file", path));
            }
            Ok(Box::new(self.handle(state, node, path)) as Box<dyn MediumRead>)
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let operation = Operation { to: Some(to.to_owned()), ..Operation::new(OperationKind::Rename, from) };
        self.perform(operation.clone(), |state, fate| match fate {
            Fate::Done => state.rename(from, to),
            Fate::LeftOut => state.copy_over(&operation, from, to),
            Fate::Failed => Ok(()),
        })
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let operation = Operation { to: Some(to.to_owned()), ..Operation::new(OperationKind::Link, from) };
        self.perform(operation, |state, fate| {
            if fate != Fate::Done {
                return Ok(());
            }
            let node = state.tree.find(from)?;
            if state.tree.is_folder(node) {
                return Err(error(io::ErrorKind::PermissionDenied, "a folder has one name only", from));
            }
            if state.tree.find(to).is_ok() {
                return Err(error(io::ErrorKind::AlreadyExists, "it exists", to));
            }
            let (parent, name) = state.tree.find_parent(to)?;
            let change = NameChange::Give { name: name.to_owned(), node };
            state.tree().change_names(parent, change, to)
        })
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.perform(Operation::new(OperationKind::RemoveFile, path), |state, fate| match fate {
            Fate::Done => state.take(path, false),
            _ => Ok(()),
        })
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.perform(Operation::new(OperationKind::RemoveDir, path), |state, fate| match fate {
            Fate::Done => state.take(path, true),
            _ => Ok(()),
        })
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.perform(Operation::new(OperationKind::SyncDir, path), |state, fate| {
            let node = state.tree.find(path)?;
            state.tree.folder(node, path)?;
            if fate == Fate::Done {
                let folder = state.tree().folder_mut(node, path)?;
                folder.durable = folder.live.clone();
                folder.pending.clear();
                state.sweep();
            }
            Ok(())
        })
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        self.perform(Operation::new(OperationKind::List, path), |state, _| {
            let folder = state.tree.folder(state.tree.find(path)?, path)?;
            let entry = |(name, node): (&String, &NodeId)| Entry {
                name: name.clone(),
                kind: if state.tree.is_folder(*node) { EntryKind::Folder } else { EntryKind::File },
            };
            Ok(folder.live.iter().map(entry).collect())
        })
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        self.perform(Operation::new(OperationKind::Stat, path), |state, _| {
            let node = state.tree.find(path)?;
            Ok(match state.live.get(&node) {
                Some(file) => {
                    Stat { kind: EntryKind::File, len: file.bytes.len() as u64, modified: Some(file.modified) }
                }
                None => Stat { kind: EntryKind::Folder, len: 0, modified: None },
            })
        })
    }

    fn room(&self, path: &Path) -> io::Result<Option<u64>> {
        self.perform(Operation::new(OperationKind::Room, path), |state, _| {
            Ok(state.room.or_else(|| state.capacity.map(|capacity| capacity.saturating_sub(state.used()))))
        })
    }
}

/// An open file, for reading or for writing.
#[derive(Debug)]
struct RecordingFile {
    medium: RecordingMedium,
    node: NodeId,
    path: PathBuf,
}

impl Drop for RecordingFile {
    fn drop(&mut self) {
        if let Some(file) = self.medium.lock().live.get_mut(&self.node) {
            file.handles = file.handles.saturating_sub(1);
        }
    }
}

impl MediumWrite for RecordingFile {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let new = Operation::new(OperationKind::Write, &self.path);
        let node = self.node;
        self.medium.perform(Operation { offset, len: bytes.len() as u64, ..new }, |state, fate| match fate {
            Fate::Done => state.change_bytes(node, Change::Write { offset, bytes: bytes.into() }),
            Fate::LeftOut => Ok(()),
            Fate::Failed => state.change_bytes(node, Change::Write { offset, bytes: bytes[..bytes.len() / 2].into() }),
        })
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        let operation = Operation { offset: len, ..Operation::new(OperationKind::SetLen, &self.path) };
        let node = self.node;
        self.medium.perform(operation, |state, fate| match fate {
            Fate::Done => state.change_bytes(node, Change::SetLen(len)),
            _ => Ok(()),
        })
    }

    fn sync(&mut self) -> io::Result<()> {
        let node = self.node;
        self.medium.perform(Operation::new(OperationKind::Sync, &self.path), |state, fate| match fate {
            Fate::Done => state.sync(node),
            Fate::LeftOut => Ok(()),
            Fate::Failed => {
                state.tree().file_mut(node)?.deceiving = true;
                Ok(())
            }
        })
    }
}

impl MediumRead for RecordingFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let new = Operation::new(OperationKind::Read, &self.path);
        let node = self.node;
        self.medium.perform(Operation { offset, len: buffer.len() as u64, ..new }, |state, _| {
            let file = state.live.get(&node).ok_or(io::ErrorKind::NotFound)?;
            let start = usize::try_from(offset).map_err(io::Error::other)?;
            let range = start..start.saturating_add(buffer.len());
            buffer.copy_from_slice(file.bytes.get(range).ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        })
    }

    fn len(&self) -> io::Result<u64> {
        let node = self.node;
        self.medium.perform(Operation::new(OperationKind::Stat, &self.path), |state, _| {
            Ok(state.live.get(&node).ok_or(io::ErrorKind::NotFound)?.bytes.len() as u64)
        })
    }
}

#[cfg(test)]
mod tests;
