//! A log in a file: what the ranks of an attempt print.
//!
//! Comes in: the path of a file that grows. Goes out: what the rules say of the lines that it grew by.
//! What must hold: as for all [logs](super); which rank a line is of is told where the launcher says so in front of it.

use super::gather::Gathered;
use super::rules::LogRules;
use super::tail::Tail;
use super::{LogSource, rule};
use crate::watch::{Finding, Labels};
use std::path::Path;

/// A log that is followed, whatever happens to it: it may come later, be renamed and begun anew, or be cut short.
///
/// It has no thread: [`LogFile::poll`] looks at what was written since, and waits for nothing but the file system. On one that hangs it
/// hangs too, so that whoever watches others should not be the one who calls it.
///
/// ```
/// use piton::watch::{LogFile, LogRules};
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("rank-3.err");
/// let mut log = LogFile::follow(&path, &LogRules::defaults()).with("rank", "3");
/// std::fs::write(&path, "step 41\nmemory allocation of 1073741824 bytes failed\n")?;
/// let findings = log.poll();
/// assert_eq!((findings[0].rule.as_str(), findings[0].labels["rank"].as_str()), ("AllocationFailed", "3"));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct LogFile {
    rules: LogRules,
    tail: Tail,
    labels: Labels,
    dropped: u64,
}

impl LogFile {
    /// Follows the file at `path` from its present end on; one that is not there yet, from its start.
    #[must_use]
    pub fn follow(path: &Path, rules: &LogRules) -> Self {
        Self::new(path, rules, false)
    }

    /// Follows the file at `path` from its start on.
    #[must_use]
    pub fn from_start(path: &Path, rules: &LogRules) -> Self {
        Self::new(path, rules, true)
    }

    fn new(path: &Path, rules: &LogRules, from_start: bool) -> Self {
        Self { rules: rules.clone(), tail: Tail::new(path, from_start), labels: Labels::new(), dropped: 0 }
    }

    /// The same with a label for all that is found in it, unless a line itself says otherwise.
    #[must_use]
    pub fn with(mut self, label: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(label.into(), value.into());
        self
    }

    /// What the lines say that were written since the last call.
    pub fn poll(&mut self) -> Vec<Finding> {
        let Self { rules, tail, labels, .. } = self;
        let mut gathered = Gathered::default();
        tail.poll(&mut |line| gathered.extend(look(rules, labels, line)));
        self.told(gathered)
    }

    /// As [`Self::poll`], and the last line counts also where it has no end: nobody writes any more.
    pub fn finish(&mut self) -> Vec<Finding> {
        let Self { rules, tail, labels, .. } = self;
        let mut gathered = Gathered::default();
        let mut take = |line: &[u8]| gathered.extend(look(rules, labels, line));
        tail.poll(&mut take);
        tail.finish(&mut take);
        self.told(gathered)
    }

    fn told(&mut self, gathered: Gathered) -> Vec<Finding> {
        let (findings, dropped) = gathered.finish();
        self.dropped += dropped;
        findings
    }

    /// Why there is nothing to read, where that is so: there is no such file yet, or it may not be read.
    #[must_use]
    pub fn absent(&self) -> Option<&str> {
        self.tail.absent()
    }

    /// How many bytes were passed over, because more came between two polls than one looks at.
    #[must_use]
    pub fn skipped_bytes(&self) -> u64 {
        self.tail.skipped()
    }

    /// How many lines were longer than [`LONGEST_LINE`](super::LONGEST_LINE).
    #[must_use]
    pub fn cut_lines(&self) -> u64 {
        self.tail.cut()
    }

    /// How many findings were not given, because one poll had too many different ones.
    #[must_use]
    pub fn dropped_findings(&self) -> u64 {
        self.dropped
    }
}

fn look(rules: &LogRules, labels: &Labels, line: &[u8]) -> Option<Finding> {
    let mut finding = rules.look(LogSource::Application, line)?;
    let own = labels.iter().map(|(label, value)| (label.as_str(), value.as_str()));
    for (label, value) in rank_tag(line).map(|rank| ("rank", rank)).into_iter().chain(own) {
        if label != rule::CLASS && !finding.labels.contains_key(label) {
            finding.labels.insert(label.to_owned(), value.to_owned());
        }
    }
    Some(finding)
}

/// The rank in what Open MPI and PRRTE put in front of a line with `--tag-output` or `--output tag`: `[1,3]<stderr>:`,
/// `[prterun-node01-4711@1,3]<stderr>:`.
fn rank_tag(line: &[u8]) -> Option<&str> {
    let inner = line.strip_prefix(b"[")?;
    let end = inner.iter().take(256).position(|byte| *byte == b']')?;
    let (tag, rest) = inner.split_at(end);
    if !rest.starts_with(b"]<stdout>") && !rest.starts_with(b"]<stderr>") {
        return None;
    }
    let rank = std::str::from_utf8(tag).ok()?.rsplit_once(',')?.1;
    (!rank.is_empty() && rank.len() <= 9 && rank.bytes().all(|byte| byte.is_ascii_digit())).then_some(rank)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rank_is_told_where_the_launcher_tags_lines() {
        for (line, rank) in [
            ("[1,3]<stderr>:Segmentation fault", Some("3")),
            ("[prterun-node01-4711@1,12]<stderr>: x", Some("12")),
            ("[1,x]<stderr>:x", None),
            ("[1,3] x", None),
            ("[1,3]", None),
            ("", None),
        ] {
            assert_eq!(rank_tag(line.as_bytes()), rank, "{line}");
        }
    }

    #[test]
    fn findings_of_one_poll_are_told_once_and_by_rank() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("job.out");
        let mut log = LogFile::follow(&path, &LogRules::defaults()).with("rank", "?").with("node", "node01");
        let text = "[1,3]<stderr>:std::bad_alloc\n[1,3]<stderr>:std::bad_alloc\nfine\n[1,4]<stderr>:std::bad_alloc\nstd::bad_alloc";
        std::fs::write(&path, text).unwrap();
        let told = |findings: Vec<Finding>| -> Vec<(String, bool, String)> {
            let about = |finding: Finding| {
                let times = finding.summary.ends_with("(2 times)");
                (finding.labels["rank"].clone(), times, finding.labels["node"].clone())
            };
            findings.into_iter().map(about).collect()
        };
        let node = || "node01".to_owned();
        assert_eq!(told(log.poll()), [("3".into(), true, node()), ("4".into(), false, node())]);
        assert_eq!(told(log.finish()), [("?".into(), false, node())]);
        assert_eq!((log.poll(), log.skipped_bytes(), log.cut_lines(), log.dropped_findings()), (vec![], 0, 0, 0));
    }
}
