//! Reading what the kernel tells in procfs and sysfs.
//!
//! Comes in: the roots of both, and paths. Goes out: text, numbers, names of entries. What must hold: no more is read of a file, and no
//! more entries of a folder are listed, than a large node can sensibly have; what can't be read or is no number is not known,
//! never an error and never zero.

use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

/// Most that is read of a table, in bytes. `/proc/stat` of a node with 256 processors has about 50 KiB.
const LONGEST: u64 = 1 << 20;
/// Most that is read of an attribute, in bytes: more than a page the kernel does not give.
const LONGEST_ATTRIBUTE: usize = 4096;
/// Most entries of one folder that are looked at.
const MOST_ENTRIES: usize = 4096;

/// Where the kernel's files are: of this machine, of a host that is mounted somewhere, or of a tree of files for tests.
///
/// ```
/// use piton::watch::node::Roots;
/// assert_eq!(Roots::default().proc, std::path::Path::new("/proc"));
/// assert_eq!(Roots::below("/host").sys, std::path::Path::new("/host/sys"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roots {
    /// In place of `/proc`.
    pub proc: PathBuf,
    /// In place of `/sys`.
    pub sys: PathBuf,
    /// In place of `/`, for file systems.
    pub root: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self::below("/")
    }
}

impl Roots {
    /// As if `root` were the root of the file system.
    #[must_use]
    pub fn below(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        Self { proc: root.join("proc"), sys: root.join("sys"), root }
    }

    /// Whether these are the files of the machine that this runs on. System calls tell of that one only.
    #[must_use]
    pub fn are_real(&self) -> bool {
        self.proc == Path::new("/proc") && self.sys == Path::new("/sys")
    }

    pub(super) fn proc(&self, path: &str) -> PathBuf {
        self.proc.join(path)
    }

    pub(super) fn sys(&self, path: &str) -> PathBuf {
        self.sys.join(path)
    }

    /// Where an absolute path is to be found; `None` where it leads upwards.
    pub(crate) fn at(&self, path: &Path) -> Option<PathBuf> {
        let plain = path.components().filter(|part| *part != Component::RootDir).map(|part| match part {
            Component::Normal(name) => Some(name),
            _ => None,
        });
        let plain = plain.collect::<Option<PathBuf>>()?;
        Some(match (plain.strip_prefix("sys"), plain.strip_prefix("proc")) {
            (Ok(below), _) => self.sys.join(below),
            (_, Ok(below)) => self.proc.join(below),
            // Without the slash that an empty path would leave at the end.
            _ if plain.as_os_str().is_empty() => self.root.clone(),
            _ => self.root.join(plain),
        })
    }
}

/// The text of a table, without a last line that is cut off.
pub(crate) fn text(path: &Path) -> Option<String> {
    let mut bytes = Vec::with_capacity(LONGEST_ATTRIBUTE);
    File::open(path).ok()?.take(LONGEST).read_to_end(&mut bytes).ok()?;
    if bytes.len() as u64 == LONGEST {
        let end = bytes.iter().rposition(|byte| *byte == b'\n')?;
        bytes.truncate(end);
    }
    Some(into_text(bytes))
}

/// The text of an attribute of sysfs, without the space around it; `None` where it is empty or too long to be one.
pub(super) fn attribute(path: &Path) -> Option<String> {
    let mut bytes = [0; LONGEST_ATTRIBUTE];
    // An attribute comes as a whole or not at all: one read, and no look at its size, which sysfs does not tell.
    let count = File::open(path).ok()?.read(&mut bytes).ok()?;
    if count == bytes.len() {
        return None;
    }
    let text = into_text(bytes[..count].to_vec());
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

fn into_text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// A number that an attribute of sysfs holds.
pub(super) fn number<T: FromStr>(path: &Path) -> Option<T> {
    attribute(path)?.parse().ok()
}

/// The count that an attribute of sysfs holds.
pub(super) fn count(path: &Path) -> Option<f64> {
    number::<u64>(path).map(|count| count as f64)
}

/// A count as text.
pub(super) fn parse_count(text: &str) -> Option<f64> {
    text.parse::<u64>().ok().map(|count| count as f64)
}

/// The number after `key` and blanks, at the beginning of a line.
pub(super) fn field(text: &str, key: &str) -> Option<f64> {
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix([' ', '\t', ':']))?;
    parse_count(value.trim())
}

/// The names in a folder, in order; none where it can't be listed. Names that are no text are left out.
pub(super) fn entries(folder: &Path) -> Vec<String> {
    let Ok(listing) = std::fs::read_dir(folder) else { return Vec::new() };
    let names = listing.take(MOST_ENTRIES).filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names.collect();
    names.sort_unstable();
    names
}

/// The names in a folder that are `prefix` and a number, as in `mc0`, by number.
pub(super) fn numbered(folder: &Path, prefix: &str) -> Vec<(u32, String)> {
    let numbered = |name: String| Some((name.strip_prefix(prefix)?.parse().ok()?, name));
    let mut names: Vec<(u32, String)> = entries(folder).into_iter().filter_map(numbered).collect();
    names.sort_unstable();
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn paths_are_found_below_their_roots() {
        let roots = Roots { proc: "/p".into(), sys: "/s".into(), root: "/r".into() };
        let at = |path: &str| roots.at(Path::new(path));
        assert_eq!(at("/sys/fs/cgroup"), Some("/s/fs/cgroup".into()));
        assert_eq!(at("/proc/self"), Some("/p/self".into()));
        assert_eq!((at("/"), at("/tmp/x")), (Some("/r".into()), Some("/r/tmp/x".into())));
        assert_eq!(at("/tmp/../etc"), None);
        assert!(!roots.are_real() && Roots::default().are_real());
    }

    #[test]
    fn no_more_is_read_than_a_file_can_sensibly_hold() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("table");
        fs::write(&path, "one line\n".repeat(1 << 20)).unwrap();
        let text = text(&path).unwrap();
        assert!(text.len() as u64 <= LONGEST && text.ends_with("one line"), "{}", text.len());
        assert_eq!(attribute(&path), None);
        assert_eq!(super::text(Path::new("/dev/zero")), None, "no line ever ends");
        assert_eq!(attribute(Path::new("/dev/zero")), None);
        assert_eq!(attribute(folder.path()), None, "a folder");
    }

    #[test]
    fn what_is_no_number_is_not_known() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("attribute");
        for bytes in [&b""[..], b"-1\n", b"many", b"1 2", b"0x10", b"99999999999999999999", b"\xff\xfe", b"1.5", b"1\0"]
        {
            fs::write(&path, bytes).unwrap();
            assert_eq!(count(&path), None, "{bytes:?}");
        }
        fs::write(&path, " 42 \n").unwrap();
        assert_eq!(count(&path), Some(42.0));
        assert_eq!(count(&folder.path().join("nowhere")), None);
        assert_eq!(field("oom 1\noom_kill 7\n", "oom_kill"), Some(7.0));
        assert_eq!(field("oom_kill_x 7\noom_kill", "oom_kill"), None);
    }

    #[test]
    fn entries_come_in_their_order() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["mc10", "mc2", "mcx", "power"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let names: Vec<String> = numbered(folder.path(), "mc").into_iter().map(|(_, name)| name).collect();
        assert_eq!(names, ["mc2", "mc10"]);
        assert!(entries(&folder.path().join("nowhere")).is_empty());
    }
}
