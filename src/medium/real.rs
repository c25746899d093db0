//! The operating system's files.
//!
//! What must hold: every open refuses a symbolic link in the last component (`O_NOFOLLOW`), every created file is
//! exclusive (`O_EXCL`), and group access does not depend on the user's umask.

use super::{DIRECT_ALIGNMENT, Entry, EntryKind, Medium, MediumRead, MediumWrite, Stat};
use std::fs::{self, File, FileType, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Who may look into a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Access {
    /// Only the user: folders 0700, files 0600.
    #[default]
    Private,
    /// The user's group may read: folders 0750, files 0640.
    Group,
}

impl Access {
    const fn folder_mode(self) -> u32 {
        match self {
            Self::Private => 0o700,
            Self::Group => 0o750,
        }
    }

    const fn file_mode(self) -> u32 {
        match self {
            Self::Private => 0o600,
            Self::Group => 0o640,
        }
    }
}

/// The file systems of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealMedium {
    access: Access,
}

impl RealMedium {
    /// Files and folders made through it are open to `access`.
    #[must_use]
    pub fn new(access: Access) -> Self {
        Self { access }
    }

    fn options(self) -> OpenOptions {
        let mut options = OpenOptions::new();
        options.custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_CLOEXEC).mode(self.access.file_mode());
        options
    }

    fn open_or_make(self, path: &Path) -> io::Result<File> {
        // Not `O_APPEND`: positions are the writers' own.
        let file = self.options().write(true).create(true).truncate(false).open(path)?;
        self.set_mode(&file)?;
        Ok(file)
    }

    fn set_mode(self, file: &File) -> io::Result<()> {
        // The mode given at creation passes through the umask; a group that was promised access must get it.
        match self.access {
            Access::Private => Ok(()),
            Access::Group => file.set_permissions(fs::Permissions::from_mode(self.access.file_mode())),
        }
    }
}

fn kind_of(kind: FileType) -> EntryKind {
    if kind.is_file() {
        EntryKind::File
    } else if kind.is_dir() {
        EntryKind::Folder
    } else {
        EntryKind::Other
    }
}

impl Medium for RealMedium {
    fn create_dir(&self, path: &Path) -> io::Result<bool> {
        match fs::DirBuilder::new().mode(self.access.folder_mode()).create(path) {
            Ok(()) => {
                if self.access == Access::Group {
                    fs::set_permissions(path, fs::Permissions::from_mode(self.access.folder_mode()))?;
                }
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                // Not `Path::is_dir`, which would follow a link that somebody put there.
                if fs::symlink_metadata(path)?.is_dir() { Ok(false) } else { Err(error) }
            }
            Err(error) => Err(error),
        }
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn MediumWrite>> {
        let buffered = self.options().write(true).create_new(true).open(path)?;
        self.set_mode(&buffered)?;
        Ok(Box::new(RealWrite { direct: open_direct(path, &buffered), buffered }))
    }

    fn append(&self, path: &Path) -> io::Result<(Box<dyn MediumWrite>, u64)> {
        let buffered = self.open_or_make(path)?;
        let len = buffered.metadata()?.len();
        Ok((Box::new(RealWrite { buffered, direct: None }), len))
    }

    fn share(&self, path: &Path) -> io::Result<Box<dyn MediumWrite>> {
        let buffered = self.open_or_make(path)?;
        Ok(Box::new(RealWrite { direct: open_direct(path, &buffered), buffered }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn MediumRead>> {
        // Non-blocking, so that a pipe put in a file's place cannot hold us up.
        let flags = nix::libc::O_NOFOLLOW | nix::libc::O_CLOEXEC | nix::libc::O_NONBLOCK;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        Ok(Box::new(RealRead { file }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let flags = nix::libc::O_NOFOLLOW | nix::libc::O_CLOEXEC | nix::libc::O_DIRECTORY;
        OpenOptions::new().read(true).custom_flags(flags).open(path)?.sync_all()
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            entries.push(Entry { name, kind: kind_of(entry.file_type()?) });
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        let metadata = fs::symlink_metadata(path)?;
        Ok(Stat { kind: kind_of(metadata.file_type()), len: metadata.len(), modified: metadata.modified().ok() })
    }

    fn room(&self, path: &Path) -> io::Result<Option<u64>> {
        let stat = nix::sys::statvfs::statvfs(path)?;
        // `fsblkcnt_t` is narrower on macOS.
        #[allow(clippy::unnecessary_cast, reason = "the types differ between systems")]
        Ok(Some((stat.blocks_available() as u64).saturating_mul(stat.fragment_size() as u64)))
    }
}

/// A second descriptor of the file just opened that bypasses the page cache, where the file system has that.
#[cfg(target_os = "linux")]
fn open_direct(path: &Path, created: &File) -> Option<File> {
    let flags = nix::libc::O_NOFOLLOW | nix::libc::O_CLOEXEC | nix::libc::O_DIRECT;
    let direct = OpenOptions::new().write(true).custom_flags(flags).open(path).ok()?;
    // Somebody may have put another file under the name meanwhile.
    let (a, b) = (direct.metadata().ok()?, created.metadata().ok()?);
    (a.ino() == b.ino() && a.dev() == b.dev()).then_some(direct)
}

#[cfg(not(target_os = "linux"))]
fn open_direct(_: &Path, _: &File) -> Option<File> {
    None
}

#[derive(Debug)]
struct RealWrite {
    buffered: File,
    direct: Option<File>,
}

impl MediumWrite for RealWrite {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let aligned = bytes.as_ptr().addr().is_multiple_of(DIRECT_ALIGNMENT)
            && bytes.len().is_multiple_of(DIRECT_ALIGNMENT)
            && offset.is_multiple_of(DIRECT_ALIGNMENT as u64);
        if aligned && let Some(direct) = &self.direct {
            match direct.write_all_at(bytes, offset) {
                // Refused by the file system for this file: never again, and all of it once more.
                Err(error) if error.raw_os_error() == Some(nix::libc::EINVAL) => self.direct = None,
                result => return result,
            }
        }
        self.buffered.write_all_at(bytes, offset)
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.buffered.set_len(len)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.buffered.sync_all()
    }
}

#[derive(Debug)]
struct RealRead {
    file: File,
}

impl MediumRead for RealRead {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_link_is_followed_and_nothing_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let medium = RealMedium::default();
        let (target, link) = (folder.path().join("target"), folder.path().join("link"));
        fs::write(&target, b"precious").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert!(medium.open(&link).is_err());
        assert!(medium.append(&link).is_err());
        assert_eq!(medium.create(&target).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(medium.create(&link).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(medium.stat(&link).unwrap().kind, EntryKind::Other);
        let folder_link = folder.path().join("folder-link");
        std::os::unix::fs::symlink(folder.path(), &folder_link).unwrap();
        assert!(medium.create_dir(&folder_link).is_err());
        assert!(medium.sync_dir(&folder_link).is_err());
        assert_eq!(fs::read(&target).unwrap(), b"precious");
    }

    #[test]
    fn modes_are_what_the_setting_says() {
        let folder = tempfile::tempdir().unwrap();
        for (access, folder_mode, file_mode) in [(Access::Private, 0o700, 0o600), (Access::Group, 0o750, 0o640)] {
            let medium = RealMedium::new(access);
            let inner = folder.path().join(format!("{access:?}"));
            assert!(medium.create_dir(&inner).unwrap());
            assert!(!medium.create_dir(&inner).unwrap());
            drop(medium.create(&inner.join("file")).unwrap());
            assert_eq!(fs::metadata(&inner).unwrap().permissions().mode() & 0o777, folder_mode);
            assert_eq!(fs::metadata(inner.join("file")).unwrap().permissions().mode() & 0o777, file_mode);
        }
    }

    #[test]
    fn aligned_and_unaligned_writes_make_one_file() {
        let folder = tempfile::tempdir().unwrap();
        let medium = RealMedium::default();
        let path = folder.path().join("file");
        let mut backing = vec![7u8; 3 * DIRECT_ALIGNMENT];
        let start = backing.as_ptr().align_offset(DIRECT_ALIGNMENT);
        backing[start] = 1;
        let mut file = medium.create(&path).unwrap();
        file.write_at(0, &backing[start..start + DIRECT_ALIGNMENT]).unwrap();
        file.write_at(DIRECT_ALIGNMENT as u64, b"tail").unwrap();
        file.sync().unwrap();
        let bytes = fs::read(&path).unwrap();
        assert_eq!((bytes.len(), bytes[0], &bytes[DIRECT_ALIGNMENT..]), (DIRECT_ALIGNMENT + 4, 1, &b"tail"[..]));
        let read = medium.open(&path).unwrap();
        let mut tail = [0; 4];
        read.read_at(DIRECT_ALIGNMENT as u64, &mut tail).unwrap();
        assert_eq!(&tail, b"tail");
        let past = read.read_at(DIRECT_ALIGNMENT as u64 + 1, &mut tail);
        assert_eq!(past.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
