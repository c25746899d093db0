//! The lines that a file grows by.
//!
//! Comes in: the path of a log. Goes out: whole lines, as far as they were written since the last look, in order.
//! What must hold: one look reads at most [`MOST_BYTES`], and is then at the file's end: of a storm the first and the last half of that is
//! read, since the first lines tell the cause and the last the end, and what lies between is counted; no more than one cut line is
//! kept; nothing but a regular file is read, since a pipe or a device could make the reader wait.
//!
//! A file that was renamed is read to its end before the new one of its name. One that was cut short is read from its start. One that was
//! cut short and has grown beyond where it was since the last look cannot be told from one that only grew.

use super::LONGEST_LINE;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Most bytes that one look reads of a file: what takes some 10 ms where ordinary lines are held against the shipped rules, and a quarter of a
/// second where every one of them fires.
pub(super) const MOST_BYTES: u64 = 1 << 20;
/// Most files that one look goes through when they are renamed faster than it reads.
const MOST_FILES: usize = 4;
/// Bytes that are read at once.
const PIECE: usize = 64 << 10;

/// A file that is followed.
#[derive(Debug)]
pub(super) struct Tail {
    path: PathBuf,
    open: Option<Open>,
    /// The beginning of a line whose end is not written yet.
    partial: Vec<u8>,
    /// The rest of the present line is not wanted.
    discarding: bool,
    /// Why there is no file to read, where there is none.
    absent: Option<String>,
    skipped: u64,
    cut: u64,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Open {
    file: File,
    /// What was read.
    offset: u64,
    /// What tells the file from another of the same name.
    device: u64,
    inode: u64,
}

impl Tail {
    /// Follows `path`: from its end on, or from its start. One that is not there yet is read from its start when it is.
    pub(super) fn new(path: &Path, from_start: bool) -> Self {
        let mut tail = Self {
            path: path.to_owned(),
            open: None,
            partial: Vec::new(),
            discarding: false,
            absent: None,
            skipped: 0,
            cut: 0,
            buffer: vec![0; PIECE],
        };
        tail.reopen(!from_start);
        tail
    }

    /// Why there is nothing to read, where that is so.
    pub(super) fn absent(&self) -> Option<&str> {
        self.absent.as_deref()
    }

    /// Bytes that were passed over since too many came at once.
    pub(super) fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Lines that were longer than is looked at.
    pub(super) fn cut(&self) -> u64 {
        self.cut
    }

    /// Opens what has the path now. `at_end`: what it holds already is not wanted.
    fn reopen(&mut self, at_end: bool) {
        match open_regular(&self.path) {
            Ok((file, metadata)) => {
                let offset = if at_end { metadata.len() } else { 0 };
                self.open = Some(Open { file, offset, device: metadata.dev(), inode: metadata.ino() });
                self.absent = None;
            }
            Err(error) => self.absent = Some(format!("{}: {error}", self.path.display())),
        }
    }

    /// Gives `take` every line that was completed since the last call.
    pub(super) fn poll(&mut self, take: &mut dyn FnMut(&[u8])) {
        let mut left = MOST_BYTES;
        for _ in 0..MOST_FILES {
            if self.open.is_none() {
                self.reopen(false);
            }
            let Some(mut open) = self.open.take() else { return };
            let read = self.catch_up(&mut open, &mut left, take);
            if let Err(error) = read {
                // It may be readable again, or be another file by then.
                self.absent = Some(format!("{}: {error}", self.path.display()));
                self.open = Some(open);
                return;
            }
            self.absent = None;
            if !self.is_replaced(&open) {
                self.open = Some(open);
                return;
            }
            // Whoever writes may have written more of it before the change was seen; nobody does any longer.
            // Where it cannot be read any more, that is all there is of it.
            let _ = self.catch_up(&mut open, &mut left, take);
            self.finish(take);
        }
    }

    /// Whether the path leads to another file by now. While it leads nowhere, the old one counts.
    fn is_replaced(&self, open: &Open) -> bool {
        std::fs::metadata(&self.path).is_ok_and(|now| (now.dev(), now.ino()) != (open.device, open.inode))
    }

    /// Takes what was written of the last line as if it were all, since no more will come.
    pub(super) fn finish(&mut self, take: &mut dyn FnMut(&[u8])) {
        let last = std::mem::take(&mut self.partial);
        if !last.is_empty() {
            take(without_return(&last));
        }
        self.discarding = false;
    }

    fn catch_up(&mut self, open: &mut Open, left: &mut u64, take: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        let length = open.file.metadata()?.len();
        if length < open.offset {
            open.offset = 0;
            self.partial.clear();
            self.discarding = false;
        }
        if length - open.offset > *left {
            let half = *left / 2;
            let first = open.offset + half;
            self.read_until(open, first, take)?;
            // From one byte before, so that a line that begins right there is not taken for the rest of one.
            let resume = (length - half).saturating_sub(1).max(open.offset);
            self.skipped += resume - open.offset;
            self.finish(take);
            open.offset = resume;
            self.discarding = true;
            *left = half + 1;
        }
        *left = left.saturating_sub(length - open.offset);
        self.read_until(open, length, take)
    }

    fn read_until(&mut self, open: &mut Open, end: u64, take: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let result = loop {
            let wanted = usize::try_from(end - open.offset).unwrap_or(PIECE).min(PIECE);
            if wanted == 0 {
                break Ok(());
            }
            match open.file.read_at(&mut buffer[..wanted], open.offset) {
                // It was cut short meanwhile, which the next look sees.
                Ok(0) => break Ok(()),
                Ok(read) => {
                    open.offset += read as u64;
                    self.feed(&buffer[..read], take);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        self.buffer = buffer;
        result
    }

    fn feed(&mut self, mut bytes: &[u8], take: &mut dyn FnMut(&[u8])) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
            bytes = rest;
            if std::mem::take(&mut self.discarding) {
                self.partial.clear();
            } else if self.partial.is_empty() {
                if line.len() > LONGEST_LINE {
                    self.cut += 1;
                }
                take(without_return(&line[..line.len().min(LONGEST_LINE)]));
            } else {
                self.keep(line);
                let line = std::mem::take(&mut self.partial);
                take(without_return(&line));
                // Its memory is of use for the next.
                self.partial = line;
                self.partial.clear();
            }
        }
        if !self.discarding {
            self.keep(bytes);
        }
    }

    /// Adds to the line that has no end yet, as far as it is looked at.
    fn keep(&mut self, bytes: &[u8]) {
        let room = LONGEST_LINE - self.partial.len().min(LONGEST_LINE);
        if bytes.len() > room && room > 0 {
            self.cut += 1;
        }
        self.partial.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

fn without_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn open_regular(path: &Path) -> io::Result<(File, Metadata)> {
    // Without this flag a pipe that nobody writes to would make the opening wait.
    let file = OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY).open(path)?;
    let metadata = file.metadata()?;
    match metadata.is_file() {
        true => Ok((file, metadata)),
        false => Err(io::Error::new(ErrorKind::InvalidInput, "not a regular file")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn lines(tail: &mut Tail) -> Vec<String> {
        let mut lines = Vec::new();
        tail.poll(&mut |line| lines.push(String::from_utf8_lossy(line).into_owned()));
        lines
    }

    fn append(path: &Path, text: &str) {
        let mut file = OpenOptions::new().append(true).create(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn scratch() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.log");
        (folder, path)
    }

    #[test]
    fn lines_come_once_they_are_whole() {
        let (_folder, path) = scratch();
        append(&path, "before\n");
        let mut tail = Tail::new(&path, false);
        append(&path, "one\r\ntw");
        assert_eq!(lines(&mut tail), ["one"]);
        append(&path, "o\n\nthree");
        assert_eq!(lines(&mut tail), ["two", ""]);
        assert_eq!(lines(&mut tail), [""; 0]);
        tail.finish(&mut |line| assert_eq!(line, b"three"));
        assert_eq!(lines(&mut Tail::new(&path, true)), ["before", "one", "two", ""]);
    }

    #[test]
    fn a_file_may_come_later() {
        let (_folder, path) = scratch();
        let mut tail = Tail::new(&path, false);
        assert!(tail.absent().is_some_and(|why| why.contains("out.log")));
        assert_eq!(lines(&mut tail), [""; 0]);
        append(&path, "first\n");
        assert_eq!(lines(&mut tail), ["first"]);
        assert_eq!(tail.absent(), None);
    }

    #[test]
    fn a_renamed_file_is_read_to_its_end_before_the_new_one() {
        let (folder, path) = scratch();
        append(&path, "a\n");
        let mut tail = Tail::new(&path, true);
        assert_eq!(lines(&mut tail), ["a"]);
        let old = folder.path().join("out.log.1");
        std::fs::rename(&path, &old).unwrap();
        append(&old, "b\nrest");
        assert_eq!(lines(&mut tail), ["b"], "nothing has the name: whoever writes still writes to the old one");
        append(&old, " of c");
        append(&path, "d\n");
        assert_eq!(lines(&mut tail), ["rest of c", "d"]);
    }

    #[test]
    fn a_file_that_was_cut_short_is_read_from_its_start() {
        let (_folder, path) = scratch();
        append(&path, "a long line\nand part of");
        let mut tail = Tail::new(&path, true);
        assert_eq!(lines(&mut tail), ["a long line"]);
        std::fs::write(&path, "new\n").unwrap();
        assert_eq!(lines(&mut tail), ["new"]);
    }

    #[test]
    fn long_lines_are_cut_and_the_next_is_whole() {
        let (_folder, path) = scratch();
        append(&path, &format!("{}\nshort\n", "x".repeat(3 * PIECE)));
        let mut tail = Tail::new(&path, true);
        let found = lines(&mut tail);
        assert_eq!((found[0].len(), found[1].as_str(), tail.cut()), (LONGEST_LINE, "short", 1));
        append(&path, &format!("{}\n", "y".repeat(LONGEST_LINE + 1)));
        assert_eq!((lines(&mut tail)[0].len(), tail.cut()), (LONGEST_LINE, 2));
    }

    #[test]
    fn of_a_storm_the_first_and_the_last_lines_are_read() {
        let (_folder, path) = scratch();
        // 16 bytes each.
        let text: String = (0..300_000).map(|number| format!("line {number:010}\n")).collect();
        std::fs::write(&path, &text).unwrap();
        let mut tail = Tail::new(&path, true);
        let found = lines(&mut tail);
        assert_eq!((found[0].as_str(), found.last().unwrap().as_str()), ("line 0000000000", "line 0000299999"));
        let read = text.len() as u64 - tail.skipped();
        assert!(read <= MOST_BYTES + 1 && read > MOST_BYTES - 64, "{read}");
        assert!(found.iter().all(|line| line.len() == 15), "no line is torn");
        assert_eq!(found.len() as u64, MOST_BYTES / 16);
        append(&path, "after\n");
        assert_eq!(lines(&mut tail), ["after"]);
    }

    #[test]
    fn nothing_but_files_is_read() {
        let (folder, path) = scratch();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        let mut tail = Tail::new(&path, true);
        assert_eq!(lines(&mut tail), [""; 0]);
        assert!(tail.absent().is_some_and(|why| why.contains("not a regular file")));
        assert!(Tail::new(folder.path(), true).absent().is_some());
    }
}
