//! What ended jobs have left on a node: boards, shared memory of MPI libraries, session folders of launchers.
//!
//! Comes in: the node's memory file system, `/tmp` and `/proc`. Goes out: what was removed. What must hold: only files of this user, by names that are
//! known, go; never one that a process is seen to have open or mapped, nor one that was made just now.

use nix::unistd::{Uid, geteuid};
use piton::watch::board::Board;
use piton::watch::process;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Shared memory of MPI libraries: OpenMPI 4 and 5, MPICH, UCX, PSM.
const SHARED: [&str; 6] =
    ["vader_segment.", "sm_segment.", "mpich_shar_tmp", "ucx_shm_posix_", "psm2_shm.", "psm3_shm."];
/// Session folders of OpenMPI's launchers, in `/tmp`; in them one for each launcher, `pid.<number>`.
const SESSIONS: &str = "ompi.";
/// Younger ones may be of a job that is just starting.
const SETTLED: Duration = Duration::from_secs(10);
/// Entries of a folder that are looked at.
const MOST: usize = 100_000;

/// Where to look.
#[derive(Debug, Clone)]
pub struct Places {
    /// Boards.
    pub boards: Option<PathBuf>,
    /// Shared memory.
    pub memory: PathBuf,
    /// Temporary files.
    pub temporary: PathBuf,
}

impl Places {
    /// Those of this node.
    #[must_use]
    pub fn of_node(boards: Option<PathBuf>) -> Self {
        Self { boards, memory: PathBuf::from("/dev/shm"), temporary: PathBuf::from("/tmp") }
    }
}

/// Removes what ended jobs of this user have left; what was removed.
#[must_use]
pub fn remove(places: &Places) -> Vec<PathBuf> {
    let mut removed = Vec::new();
    for (path, board) in places.boards.iter().flat_map(|folder| Board::find(folder, None)) {
        if board.ranks().iter().all(|rank| !process::lives(rank.pid, rank.start_ticks)) && is_settled(&path) {
            removed.extend(fs::remove_file(&path).is_ok().then_some(path));
        }
    }
    removed.extend(shared_memory(&places.memory));
    removed.extend(sessions(&places.temporary));
    removed
}

/// The entries of a folder that are this user's and begin so.
fn entries(folder: &Path, begins: &[&str]) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let named = entries.take(MOST).flatten().filter(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        begins.iter().any(|begin| name.starts_with(begin))
    });
    named.map(|entry| entry.path()).filter(|path| is_own(path)).collect()
}

fn is_own(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|data| Uid::from_raw(data.uid()) == geteuid() && !data.is_symlink())
}

fn is_settled(path: &Path) -> bool {
    let modified = fs::symlink_metadata(path).and_then(|data| data.modified());
    modified.is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age >= SETTLED))
}

fn shared_memory(folder: &Path) -> Vec<PathBuf> {
    let candidates: Vec<PathBuf> =
        entries(folder, &SHARED).into_iter().filter(|path| path.is_file() && is_settled(path)).collect();
    if candidates.is_empty() {
        return candidates;
    }
    let used = in_use();
    candidates.into_iter().filter(|path| !used.contains(path) && fs::remove_file(path).is_ok()).collect()
}

/// Files that processes of this user have mapped or open. One that can't be looked into, which ranks are not, keeps what it has mapped anyway.
fn in_use() -> BTreeSet<PathBuf> {
    let mut used = BTreeSet::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        if !entry.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()) || !is_own(&entry.path()) {
            continue;
        }
        if let Ok(maps) = fs::read(entry.path().join("maps")) {
            // The sixth field, which may hold spaces.
            let maps = String::from_utf8_lossy(&maps).into_owned();
            used.extend(maps.lines().filter_map(|line| line.find('/').map(|at| PathBuf::from(&line[at..]))));
        }
        let open = fs::read_dir(entry.path().join("fd")).into_iter().flatten().flatten();
        used.extend(open.filter_map(|file| fs::read_link(file.path()).ok()));
    }
    used
}

/// Session folders of launchers that run no more.
fn sessions(folder: &Path) -> Vec<PathBuf> {
    let mut removed = Vec::new();
    let begin = format!("{SESSIONS}{}.{}", process::host_name(), geteuid());
    for session in entries(folder, &[&begin]).into_iter().filter(|path| path.is_dir()) {
        for own in entries(&session, &["pid."]) {
            let number = own.file_name().and_then(|name| name.to_str()?.strip_prefix("pid.")?.parse().ok());
            let is_over = number.is_some_and(|pid: u32| process::start_ticks(pid).is_none());
            if is_over && is_settled(&own) && fs::remove_dir_all(&own).is_ok() {
                removed.push(own);
            }
        }
        // Only where nothing is left in it.
        let _ = fs::remove_dir(&session);
    }
    removed
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    fn old(path: &Path) {
        let then = SystemTime::now() - Duration::from_secs(60);
        File::open(path)
            .and_then(|file| file.set_modified(then))
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    #[test]
    fn only_what_is_left_behind_goes() {
        let folder = tempfile::tempdir().expect("a folder");
        let (memory, temporary) = (folder.path().join("shm"), folder.path().join("tmp"));
        let session = temporary.join(format!("ompi.{}.{}", process::host_name(), geteuid()));
        // A number that no process has.
        let dead = session.join("pid.4194304");
        let own = session.join(format!("pid.{}", std::process::id()));
        for path in [&memory, &dead.join("0/0"), &own] {
            fs::create_dir_all(path).expect("a folder");
        }
        let files: Vec<PathBuf> = ["vader_segment.n1.0.1", "vader_segment.open", "vader_segment.young", "notes.txt"]
            .map(|name| memory.join(name))
            .to_vec();
        for path in &files {
            fs::write(path, b"x").expect("a file");
        }
        let open = File::open(&files[1]).expect("it is there");
        for path in [&files[0], &files[1], &files[3], &dead, &own] {
            old(path);
        }
        let places = Places { boards: Some(memory.clone()), memory: memory.clone(), temporary };
        let mut removed = remove(&places);
        removed.sort();
        assert_eq!(removed, [files[0].clone(), dead.clone()]);
        assert!(files[1..].iter().all(|path| path.exists()) && own.exists() && !dead.exists());
        drop(open);
        assert_eq!(remove(&places), [files[1].clone()], "nobody has it open any more");
    }
}
