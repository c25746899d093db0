//! What became of nodes in earlier runs: one file a store, for all jobs in it.
//!
//! Comes in: failures of nodes, and that somebody has cleared one. Goes out: how often each has failed since. What must hold: writers of several jobs
//! append together, a line at once; a line that was cut off or that nobody can read is left out, and never ends a job; what is read is
//! bounded; a file that is not there says nothing.

use piton::journal::WallTime;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The file's name, in the store's folder.
const NAME: &str = "nodes.jsonl";
/// Most that is read: the newest part of the file.
const MOST: u64 = 1 << 20;
/// The longest name of a node, and the longest reason.
const LONGEST: usize = 300;

/// A line of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When.
    pub at: WallTime,
    /// Which node.
    pub node: String,
    /// What became of it.
    pub what: What,
    /// Why; of a failure, its class.
    #[serde(default)]
    pub why: String,
}

/// What became of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// An attempt failed by its doing.
    Failed,
    /// Somebody says that it is good again.
    Cleared,
}

/// How a node fared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fared {
    /// Failures that count.
    pub failures: u32,
    /// When the last one was.
    pub last: WallTime,
    /// What it was.
    pub why: String,
}

/// Where a store has it.
#[must_use]
pub fn path(store: &Path) -> PathBuf {
    store.join(NAME)
}

/// Appends a line.
///
/// # Errors
/// Those of the system.
pub fn append(store: &Path, line: &Entry) -> io::Result<()> {
    let mut line = line.clone();
    line.why = line.why.chars().take(LONGEST).collect();
    let mut text = serde_json::to_string(&line).map_err(io::Error::other)?;
    // Another writer may have been cut off.
    text.insert(0, '\n');
    text.push('\n');
    let mut file = OpenOptions::new().append(true).create(true).open(path(store))?;
    file.write_all(text.as_bytes())
}

/// The failures of each node that count at `now`: since it was cleared last, and not longer ago than `count_for`.
///
/// # Errors
/// Those of the system; a file that is not there is none.
pub fn read(store: &Path, now: WallTime, count_for: Duration) -> io::Result<BTreeMap<String, Fared>> {
    let mut file = match File::open(path(store)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(error),
    };
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(MOST)))?;
    let mut bytes = Vec::new();
    file.take(MOST).read_to_end(&mut bytes)?;
    Ok(count(&String::from_utf8_lossy(&bytes), now, count_for))
}

fn count(text: &str, now: WallTime, count_for: Duration) -> BTreeMap<String, Fared> {
    let mut nodes: BTreeMap<String, Fared> = BTreeMap::new();
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Entry>(line).ok());
    for line in lines.filter(|line| !line.node.is_empty() && line.node.len() <= LONGEST) {
        match line.what {
            What::Cleared => drop(nodes.remove(&line.node)),
            What::Failed if line.at.until(now) > count_for => {}
            What::Failed => {
                let fared = nodes.entry(line.node).or_insert(Fared { failures: 0, last: line.at, why: String::new() });
                fared.failures = fared.failures.saturating_add(1);
                (fared.last, fared.why) = (line.at, line.why);
            }
        }
    }
    nodes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(at: &str, node: &str, what: What) -> Entry {
        Entry { at: at.parse().expect("a time"), node: node.to_owned(), what, why: "RankDied".to_owned() }
    }

    #[test]
    fn what_counts_is_counted() {
        let folder = tempfile::tempdir().expect("a folder");
        let now: WallTime = "2026-11-26T12:00:00.000Z".parse().expect("a time");
        let day = Duration::from_secs(86_400);
        assert_eq!(read(folder.path(), now, day).expect("nothing"), BTreeMap::new());
        for (at, node, what) in [
            ("2026-11-20T12:00:00.000Z", "n1", What::Failed),
            ("2026-11-26T09:00:00.000Z", "n1", What::Failed),
            ("2026-11-26T09:00:00.000Z", "n2", What::Failed),
            ("2026-11-26T09:30:00.000Z", "n2", What::Cleared),
            ("2026-11-26T10:00:00.000Z", "n3", What::Failed),
            ("2026-11-26T11:00:00.000Z", "n3", What::Failed),
        ] {
            append(folder.path(), &entry(at, node, what)).expect("appended");
        }
        // Somebody else was cut off, or is newer than this program.
        let mut file = OpenOptions::new().append(true).open(path(folder.path())).expect("it is there");
        file.write_all(b"{\"at\":\"2026-11-26T10:00:00.000Z\",\"node\":\"n4\",\"wh").expect("written");
        append(folder.path(), &entry("2026-11-26T11:30:00.000Z", "n5", What::Failed)).expect("appended");
        file.write_all(b"{\"at\":\"2026-11-26T10:00:00.000Z\",\"node\":\"n6\",\"what\":\"painted\"}\n")
            .expect("written");
        let counted: Vec<(String, u32)> = read(folder.path(), now, day)
            .expect("it is there")
            .into_iter()
            .map(|(node, fared)| (node, fared.failures))
            .collect();
        assert_eq!(counted, [("n1".to_owned(), 1), ("n3".to_owned(), 2), ("n5".to_owned(), 1)]);
        assert_eq!(read(folder.path(), now, 30 * day).expect("it is there")["n1"].failures, 2);
    }

    #[test]
    fn a_file_of_any_size_is_read_within_bounds() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = File::create(path(folder.path())).expect("a file");
        file.set_len(1 << 40).expect("a large one");
        append(folder.path(), &entry("2026-11-26T09:00:00.000Z", "n1", What::Failed)).expect("appended");
        let now: WallTime = "2026-11-26T12:00:00.000Z".parse().expect("a time");
        assert_eq!(read(folder.path(), now, Duration::from_secs(86_400)).expect("it is read").len(), 1);
    }
}
