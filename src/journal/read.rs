//! Reading journals, of which nothing is trusted.
//!
//! What must hold: memory is bounded whatever the files hold; a line that is damaged is counted, and never hides the
//! next.

use super::{LINE_LIMIT, Record, VERSION, WallTime, writer_of};
use crate::medium::{EntryKind, Medium, MediumRead};
use std::io;
use std::path::Path;
use std::time::SystemTime;

/// Most bytes of journals that [`read`] takes into memory, of all writers together.
const READ_LIMIT: u64 = 64 << 20;

const BLOCK: usize = 64 << 10;

/// The records of an attempt, of all its writers.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Journal {
    /// By the wall clock; those of one writer in the order in which it wrote them, even where its clock was set back.
    pub records: Vec<Record>,
    /// Lines that are no records: torn, altered, or too long.
    pub damaged_lines: u64,
    /// Lines of a newer version of the format.
    pub newer_lines: u64,
    /// Bytes at the beginning of the files that were left out because there are too many of them.
    pub left_out_bytes: u64,
}

/// Streams the records of one writer's file.
#[derive(Debug)]
pub struct Reader {
    file: Box<dyn MediumRead>,
    // Where the next block starts, and where the file ended when it was opened.
    offset: u64,
    len: u64,
    block: Vec<u8>,
    used: usize,
    line: Vec<u8>,
    too_long: bool,
    damaged_lines: u64,
    newer_lines: u64,
}

enum Parsed {
    Record(Box<Record>),
    Newer,
    Damaged,
    Empty,
}

fn parse(line: &[u8]) -> Parsed {
    let line = line.trim_ascii();
    if line.is_empty() {
        return Parsed::Empty;
    }
    if line.len() > LINE_LIMIT {
        return Parsed::Damaged;
    }
    match serde_json::from_slice::<Record>(line) {
        Ok(record) if record.v == VERSION => Parsed::Record(Box::new(record)),
        Ok(record) if record.v > VERSION => Parsed::Newer,
        Ok(_) => Parsed::Damaged,
        Err(_) => {
            #[derive(serde::Deserialize)]
            struct Version {
                v: u32,
            }
            match serde_json::from_slice::<Version>(line) {
                Ok(version) if version.v > VERSION => Parsed::Newer,
                _ => Parsed::Damaged,
            }
        }
    }
}

impl Reader {
    /// Opens the journal `path`.
    ///
    /// # Errors
    /// Those of the system.
    pub fn open(medium: &dyn Medium, path: &Path) -> io::Result<Self> {
        Self::open_at_end(medium, path, u64::MAX).map(|(reader, _)| reader)
    }

    /// Opens the journal `path` at its last `most` bytes, and says how many before them were left out.
    fn open_at_end(medium: &dyn Medium, path: &Path, most: u64) -> io::Result<(Self, u64)> {
        let file = medium.open(path)?;
        let len = file.len()?;
        let offset = len.saturating_sub(most);
        let mut reader = Self {
            file,
            offset,
            len,
            block: Vec::new(),
            used: 0,
            line: Vec::new(),
            too_long: false,
            damaged_lines: 0,
            newer_lines: 0,
        };
        if offset > 0 {
            // One byte earlier, so that a line that starts just here is not taken for the rest of one.
            reader.offset -= 1;
            reader.next_line()?;
            reader.line.clear();
            reader.too_long = false;
        }
        Ok((reader, offset))
    }

    /// The next record, or `None` at the end of what the file held when it was opened.
    ///
    /// # Errors
    /// Those of the system.
    pub fn next_record(&mut self) -> io::Result<Option<Record>> {
        while self.next_line()? {
            let parsed = if self.too_long { Parsed::Damaged } else { parse(&self.line) };
            self.line.clear();
            self.too_long = false;
            match parsed {
                Parsed::Record(record) => return Ok(Some(*record)),
                Parsed::Newer => self.newer_lines += 1,
                Parsed::Damaged => self.damaged_lines += 1,
                Parsed::Empty => {}
            }
        }
        Ok(None)
    }

    /// Puts the next line into `self.line`, or nothing but the news that it is too long. `false` at the end.
    fn next_line(&mut self) -> io::Result<bool> {
        let mut found = false;
        loop {
            if self.used == self.block.len() {
                let left = usize::try_from(self.len - self.offset).unwrap_or(usize::MAX);
                self.used = 0;
                self.block.resize(left.min(BLOCK), 0);
                if self.block.is_empty() {
                    return Ok(found);
                }
                if let Err(error) = self.file.read_at(self.offset, &mut self.block) {
                    self.block.clear();
                    let len = self.file.len()?;
                    if error.kind() == io::ErrorKind::UnexpectedEof && len < self.len {
                        // Its writer cut off what an error had left behind its last whole line.
                        self.len = len.max(self.offset);
                        continue;
                    }
                    return Err(error);
                }
                self.offset += self.block.len() as u64;
            }
            found = true;
            let rest = &self.block[self.used..];
            let end = rest.iter().position(|byte| *byte == b'\n');
            let part = &rest[..end.unwrap_or(rest.len())];
            self.used += part.len() + usize::from(end.is_some());
            if self.line.len() + part.len() > LINE_LIMIT {
                self.too_long = true;
                self.line.clear();
            } else if !self.too_long {
                self.line.extend_from_slice(part);
            }
            if end.is_some() {
                return Ok(true);
            }
        }
    }

    /// Lines passed so far that are no records: torn, altered, or too long.
    #[must_use]
    pub fn damaged_lines(&self) -> u64 {
        self.damaged_lines
    }

    /// Lines passed so far that are of a newer version of the format.
    #[must_use]
    pub fn newer_lines(&self) -> u64 {
        self.newer_lines
    }
}

/// The names of the journals in `folder`, sorted.
fn journals(medium: &dyn Medium, folder: &Path) -> io::Result<Vec<String>> {
    let entries = medium.list(folder)?.into_iter();
    let ours = entries.filter(|entry| entry.kind == EntryKind::File && writer_of(&entry.name).is_some());
    Ok(ours.map(|entry| entry.name).collect())
}

/// Who has written a journal of the attempt whose folder is `folder`, sorted.
///
/// # Errors
/// Those of the system.
pub fn writers(medium: &dyn Medium, folder: &Path) -> io::Result<Vec<String>> {
    let names = journals(medium, folder)?.into_iter();
    Ok(names.filter_map(|name| writer_of(&name).map(str::to_owned)).collect())
}

/// The journals of the attempt whose folder is `folder`, merged. Of more than 64 MiB, the newest part of each is read;
/// use [`Reader`] for all of it.
///
/// # Errors
/// Those of the system. A folder without journals gives an empty one, and a journal that vanishes meanwhile is left
/// out.
pub fn read(medium: &dyn Medium, folder: &Path) -> io::Result<Journal> {
    read_bounded(medium, folder, READ_LIMIT)
}

fn read_bounded(medium: &dyn Medium, folder: &Path, limit: u64) -> io::Result<Journal> {
    let names = journals(medium, folder)?;
    let each = (limit / names.len().max(1) as u64).max(BLOCK as u64);
    let mut journal = Journal::default();
    let mut keyed = Vec::new();
    for name in names {
        let (mut reader, left_out) = match Reader::open_at_end(medium, &folder.join(&name), each) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            opened => opened?,
        };
        journal.left_out_bytes += left_out;
        let mut latest: Option<WallTime> = None;
        while let Some(record) = reader.next_record()? {
            // A clock that is set back must not reorder what one writer wrote.
            let key = latest.map_or(record.at, |latest| latest.max(record.at));
            latest = Some(key);
            keyed.push((key, record));
        }
        journal.damaged_lines += reader.damaged_lines;
        journal.newer_lines += reader.newer_lines;
    }
    keyed.sort_by_key(|(key, _)| *key);
    journal.records = keyed.into_iter().map(|(_, record)| record).collect();
    Ok(journal)
}

/// The end of one writer's journal.
#[derive(Debug, Clone, PartialEq)]
pub struct Tail {
    /// The writer.
    pub writer: String,
    /// The last whole record within the last 128 KiB.
    pub record: Option<Record>,
    /// When the file was last changed, by the clock of the file system. Two tails of a file that still grows differ in
    /// this or in `len`.
    pub modified: Option<SystemTime>,
    /// The file's length in bytes.
    pub len: u64,
}

/// The end of the journal `path`, at a cost that does not depend on its length.
///
/// # Errors
/// Those of the system.
pub fn tail(medium: &dyn Medium, path: &Path) -> io::Result<Tail> {
    let stat = medium.stat(path)?;
    let (mut reader, _) = Reader::open_at_end(medium, path, 2 * BLOCK as u64)?;
    let mut last = None;
    while let Some(record) = reader.next_record()? {
        last = Some(record);
    }
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let writer = writer_of(name).unwrap_or(name).to_owned();
    Ok(Tail { writer, record: last, modified: stat.modified, len: stat.len })
}

/// The ends of all journals of the attempt whose folder is `folder`.
///
/// # Errors
/// Those of the system. A journal that vanishes meanwhile is left out.
pub fn tails(medium: &dyn Medium, folder: &Path) -> io::Result<Vec<Tail>> {
    let mut tails = Vec::new();
    for name in journals(medium, folder)? {
        match tail(medium, &folder.join(name)) {
            Ok(tail) => tails.push(tail),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(tails)
}

#[cfg(test)]
pub(super) fn read_at_most(medium: &dyn Medium, folder: &Path, limit: u64) -> io::Result<Journal> {
    read_bounded(medium, folder, limit)
}
