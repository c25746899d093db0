//! The few durable file operations that everything in a store goes through.
//!
//! Comes in: paths below the store. Goes out: bytes, and the certainty that what was synced survives.
//! What must hold: no code of the store, of shards or of the journal touches files in any other way, so that a recording
//! double sees every operation and can play every crash between two of them; no symbolic link is followed
//! in the last component of a path; files and folders are private unless a setting says group.
//!
//! The order that makes a file durable under its name is: write, [`MediumWrite::sync`], [`Medium::rename`],
//! [`Medium::sync_dir`].

use std::fmt;
use std::io;
use std::path::Path;
use std::time::SystemTime;

mod real;
pub mod recording;

pub use real::{Access, RealMedium};

/// What a name in a folder stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// Anything else: a symbolic link, a device. Never followed.
    Other,
}

/// One name in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name, without the folder. Names that are not UTF-8 are left out of listings: the store makes none.
    pub name: String,
    /// What it stands for.
    pub kind: EntryKind,
}

/// What is known of a path without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// What it is.
    pub kind: EntryKind,
    /// Its length in bytes (of a file).
    pub len: u64,
    /// When it was last changed, where the file system says so.
    pub modified: Option<SystemTime>,
}

/// A place where checkpoints live.
///
/// All methods may be called from any thread. Errors are those of the operating system; a method that fails has had no
/// effect that a reader could take for success.
pub trait Medium: Send + Sync + fmt::Debug {
    /// Makes the folder `path`, whose parent exists. `false` where it was there already.
    ///
    /// # Errors
    /// Those of the system; `AlreadyExists` where something else has that name.
    fn create_dir(&self, path: &Path) -> io::Result<bool>;

    /// Makes the file `path` for writing. It must not exist.
    ///
    /// # Errors
    /// `AlreadyExists`, and those of the system.
    fn create(&self, path: &Path) -> io::Result<Box<dyn MediumWrite>>;

    /// Opens `path` for writing at its end, and makes it where it does not exist. Returns its length as well.
    ///
    /// # Errors
    /// Those of the system.
    fn append(&self, path: &Path) -> io::Result<(Box<dyn MediumWrite>, u64)>;

    /// Opens `path` for writing anywhere, and makes it where it does not exist: others may be writing other parts of it.
    ///
    /// # Errors
    /// Those of the system.
    fn share(&self, path: &Path) -> io::Result<Box<dyn MediumWrite>> {
        self.append(path).map(|(file, _)| file)
    }

    /// Opens the file `path` for reading.
    ///
    /// # Errors
    /// `NotFound`, and those of the system; an error where it is a symbolic link.
    fn open(&self, path: &Path) -> io::Result<Box<dyn MediumRead>>;

    /// Gives the file `from` the name `to`, in place of what had it, in one step.
    ///
    /// # Errors
    /// Those of the system.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Gives the file `from` the second name `to`, which must not exist: exclusive creation that holds on network file
    /// systems too.
    ///
    /// # Errors
    /// `AlreadyExists`, and those of the system.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes the file `path`.
    ///
    /// # Errors
    /// Those of the system.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes the empty folder `path`.
    ///
    /// # Errors
    /// Those of the system.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in the folder `path` durable: what was created, renamed, linked and removed in it.
    ///
    /// # Errors
    /// Those of the system.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// The names in the folder `path`, sorted.
    ///
    /// # Errors
    /// Those of the system.
    fn list(&self, path: &Path) -> io::Result<Vec<Entry>>;

    /// What `path` is; a symbolic link is not followed.
    ///
    /// # Errors
    /// `NotFound`, and those of the system.
    fn stat(&self, path: &Path) -> io::Result<Stat>;

    /// How many bytes may still be written below `path`, where the file system says so.
    ///
    /// # Errors
    /// Those of the system.
    fn room(&self, path: &Path) -> io::Result<Option<u64>>;

    /// Whether `path` exists.
    ///
    /// # Errors
    /// Those of the system, other than `NotFound`.
    fn exists(&self, path: &Path) -> io::Result<bool> {
        match self.stat(path) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Buffers that start and end on multiples of this many bytes, at such file offsets, may bypass the page cache.
pub const DIRECT_ALIGNMENT: usize = 4096;

/// A file being written.
pub trait MediumWrite: Send + fmt::Debug {
    /// Writes all of `bytes` at `offset`. Where address, length and offset are multiples of [`DIRECT_ALIGNMENT`], the page
    /// cache may be bypassed.
    ///
    /// # Errors
    /// Those of the system. After an error the file's content is unknown, and it must not be synced and trusted.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Cuts or extends the file to `len` bytes.
    ///
    /// # Errors
    /// Those of the system.
    fn set_len(&mut self, len: u64) -> io::Result<()>;

    /// Makes all that was written durable. An error is final: what was written may be lost, and a second call may lie.
    ///
    /// # Errors
    /// Those of the system.
    fn sync(&mut self) -> io::Result<()>;
}

/// A file being read.
pub trait MediumRead: Send + Sync + fmt::Debug {
    /// Fills `buffer` from `offset`.
    ///
    /// # Errors
    /// `UnexpectedEof` where the file is shorter, and those of the system.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// The file's length in bytes.
    ///
    /// # Errors
    /// Those of the system.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file is empty.
    ///
    /// # Errors
    /// Those of the system.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// Reads the whole file `path`, which must not be longer than `limit` bytes.
///
/// # Errors
/// `InvalidData` where it is longer, and those of the system.
pub fn read_bounded(medium: &dyn Medium, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let file = medium.open(path)?;
    let len = file.len()?;
    if len > limit {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{} is {len} bytes long; at most {limit} are expected of such a file", path.display()),
        ));
    }
    let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
    file.read_at(0, &mut bytes)?;
    Ok(bytes)
}
