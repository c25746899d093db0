//! Writing one writer's file, whatever the file system does.
//!
//! What must hold: nobody waits for another's write but [`JournalWriter::sync`]; memory is bounded; lines stand in the
//! order of their sequence numbers; after an error nothing is trusted behind the last line that was written whole.

use super::time::monotonic_ns;
use super::{Event, LINE_LIMIT, Record, VERSION, WallTime, file_name, rank_writer, tail};
use crate::ids::Epoch;
use crate::medium::{Medium, MediumWrite};
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

/// Most lines that wait to be written.
const BACKLOG_LINES: usize = 1000;
/// Most bytes that wait to be written.
const BACKLOG_BYTES: usize = 1 << 20;

/// Writes the journal of one rank of one attempt, or of somebody else who has something to say of it.
///
/// Dropping it writes nothing and waits for nothing.
#[derive(Debug)]
pub struct JournalWriter {
    epoch: Epoch,
    rank: Option<u32>,
    queue: Mutex<Queue>,
    // Never locked while `queue` is.
    file: Mutex<Output>,
}

#[derive(Debug)]
struct Line {
    // Without the end of the line.
    text: Vec<u8>,
    stamp: Stamp,
}

/// What a record that tells of lost lines takes over from the last of them.
#[derive(Debug, Clone, Copy)]
struct Stamp {
    at: WallTime,
    mono_ns: u64,
    seq: u64,
}

#[derive(Debug, Default)]
struct Queue {
    next: u64,
    lines: VecDeque<Line>,
    bytes: usize,
    lost: Option<(u64, Stamp)>,
}

impl Queue {
    fn push_back(&mut self, line: Line) {
        self.bytes += line.text.len();
        self.lines.push_back(line);
        // The newest lines say how the attempt ended; the oldest go.
        while self.lines.len() > BACKLOG_LINES || self.bytes > BACKLOG_BYTES {
            let Some(line) = self.pop_front() else { return };
            self.lose(line.stamp);
        }
    }

    fn pop_front(&mut self) -> Option<Line> {
        let line = self.lines.pop_front()?;
        self.bytes -= line.text.len();
        Some(line)
    }

    /// Takes back a line that could not be written.
    fn push_front(&mut self, line: Line) {
        if self.lines.len() >= BACKLOG_LINES || self.bytes + line.text.len() > BACKLOG_BYTES || self.lost.is_some() {
            self.lose(line.stamp);
        } else {
            self.bytes += line.text.len();
            self.lines.push_front(line);
        }
    }

    fn lose(&mut self, stamp: Stamp) {
        let (count, last) = self.lost.unwrap_or((0, stamp));
        let last = if stamp.seq > last.seq { stamp } else { last };
        self.lost = Some((count + 1, last));
    }
}

#[derive(Debug)]
struct Output {
    medium: Arc<dyn Medium>,
    folder: PathBuf,
    path: PathBuf,
    file: Option<Box<dyn MediumWrite>>,
    // How far the file is known to hold whole lines of ours; `None` before it was opened for the first time.
    end: Option<u64>,
    named_durably: bool,
}

impl Output {
    fn open(&mut self) -> io::Result<()> {
        if self.file.is_some() {
            return Ok(());
        }
        let (mut file, len) = self.medium.append(&self.path)?;
        let end = match self.end {
            // What an error left behind our last whole line.
            Some(end) if len > end => {
                file.set_len(end)?;
                end
            }
            // The file was removed or cut meanwhile: what is there may end within a line.
            _ => {
                let mut last = [b'\n'];
                if len > 0 {
                    self.medium.open(&self.path)?.read_at(len - 1, &mut last)?;
                }
                if last != *b"\n" {
                    file.write_at(len, b"\n")?;
                }
                len + u64::from(last != *b"\n")
            }
        };
        self.end = Some(end);
        self.named_durably = false;
        self.file = Some(file);
        Ok(())
    }

    /// Writes a line with its end, or none of it as far as this writer is concerned.
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        self.open()?;
        let (Some(file), Some(end)) = (&mut self.file, self.end) else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let result = file.write_at(end, line);
        match result {
            Ok(()) => self.end = Some(end + line.len() as u64),
            // The descriptor itself may have become useless.
            Err(_) => self.file = None,
        }
        result
    }

    fn sync(&mut self) -> io::Result<()> {
        // A file that was removed under us takes lines for ever without an error.
        let gone = match self.medium.stat(&self.path) {
            Ok(stat) => Some(stat.len) < self.end,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        if gone {
            self.file = None;
            self.end = None;
        }
        self.open()?;
        if let Some(file) = &mut self.file
            && let Err(error) = file.sync()
        {
            self.file = None;
            return Err(error);
        }
        if !self.named_durably {
            self.medium.sync_dir(&self.folder)?;
            self.named_durably = true;
        }
        Ok(())
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl JournalWriter {
    /// Opens the journal of `rank` in `folder`, the folder of the attempt `epoch`, which exists. Goes on behind what is
    /// there.
    ///
    /// # Errors
    /// Those of the system. [`Self::open_later`] has none.
    pub fn open(medium: Arc<dyn Medium>, folder: &Path, epoch: Epoch, rank: u32) -> io::Result<Self> {
        let writer = Self::open_later(medium, folder, epoch, rank);
        {
            let mut output = locked(&writer.file);
            output.open()?;
            // Only the end is looked at: a damaged last line costs the continuity of the numbers, nothing else.
            if output.end > Some(0)
                && let Some(record) = tail(&*output.medium, &output.path)?.record
            {
                locked(&writer.queue).next = record.seq.saturating_add(1);
            }
        }
        Ok(writer)
    }

    /// As [`Self::open`], but the file is opened with the first write that succeeds; until then lines are kept as after
    /// any other error.
    #[must_use]
    pub fn open_later(medium: Arc<dyn Medium>, folder: &Path, epoch: Epoch, rank: u32) -> Self {
        Self { rank: Some(rank), ..Self::of_writer(medium, folder, epoch, &rank_writer(rank)) }
    }

    /// As [`Self::open_later`], for a writer that is no rank: nobody else may write under that name at the time.
    #[must_use]
    pub fn of_writer(medium: Arc<dyn Medium>, folder: &Path, epoch: Epoch, writer: &str) -> Self {
        let path = folder.join(file_name(writer));
        let folder = folder.to_path_buf();
        let output = Output { medium, folder, path, file: None, end: None, named_durably: false };
        Self { epoch, rank: None, queue: Mutex::default(), file: Mutex::new(output) }
    }

    /// Records that `event` happened now, and writes it with all that waits to be written.
    ///
    /// Never fails: what cannot be written is kept (at most 1000 lines or 1 MiB, the newest) and tried again with the
    /// next write. It waits for the file system, unless another thread does so already; see [`Self::note`].
    pub fn write(&self, event: Event) {
        self.note(event);
        self.flush();
    }

    /// Records that `event` happened now, in memory only: for threads that must never wait for a file system. Another
    /// thread's [`Self::write`] or [`Self::flush`] writes it.
    pub fn note(&self, event: Event) {
        self.note_since(event, Duration::ZERO);
    }

    /// As [`Self::note`], of an event that happened so long ago.
    pub fn note_since(&self, event: Event, ago: Duration) {
        let mut queue = locked(&self.queue);
        let at = WallTime::from_unix_ms(WallTime::now().unix_ms().saturating_sub_unsigned(milliseconds(ago)));
        let mono_ns = monotonic_ns().saturating_sub(u64::try_from(ago.as_nanos()).unwrap_or(u64::MAX));
        let stamp = Stamp { at, mono_ns, seq: queue.next };
        queue.next = queue.next.saturating_add(1);
        let text = self.line(event, stamp);
        queue.push_back(Line { text, stamp });
    }

    fn line(&self, event: Event, stamp: Stamp) -> Vec<u8> {
        let Stamp { at, mono_ns, seq } = stamp;
        let mut record = Record { v: VERSION, at, mono_ns, epoch: self.epoch, rank: self.rank, seq, event };
        let mut line = serde_json::to_vec(&record).unwrap_or_default();
        if line.is_empty() || line.len() > LINE_LIMIT {
            let detail = format!("a record of kind {} had {} bytes", record.event.kind(), line.len());
            record.event = Event::Problem { what: "a record does not fit in a journal's line".to_owned(), detail };
            line = serde_json::to_vec(&record).unwrap_or_default();
        }
        line
    }

    /// Writes what waits to be written, unless another thread does so already. Errors as in [`Self::write`].
    pub fn flush(&self) {
        loop {
            {
                let mut output = match self.file.try_lock() {
                    Ok(output) => output,
                    Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                    Err(TryLockError::WouldBlock) => return,
                };
                if self.drain(&mut output).is_err() {
                    return;
                }
            }
            // A thread that came between the last look and the unlocking has left its line to us.
            let queue = locked(&self.queue);
            if queue.lines.is_empty() && queue.lost.is_none() {
                return;
            }
        }
    }

    fn drain(&self, output: &mut Output) -> io::Result<()> {
        loop {
            let mut queue = locked(&self.queue);
            if let Some((lost, stamp)) = queue.lost.take() {
                drop(queue);
                let mut text = self.line(Event::JournalGap { lost }, stamp);
                text.push(b'\n');
                if let Err(error) = output.write(&text) {
                    let mut queue = locked(&self.queue);
                    let (more, last) = queue.lost.unwrap_or((0, stamp));
                    queue.lost = Some((lost.saturating_add(more), last));
                    return Err(error);
                }
                continue;
            }
            let Some(mut line) = queue.pop_front() else { return Ok(()) };
            drop(queue);
            line.text.push(b'\n');
            if let Err(error) = output.write(&line.text) {
                line.text.pop();
                locked(&self.queue).push_front(line);
                return Err(error);
            }
        }
    }

    /// Writes what waits to be written and makes the journal durable. Waits for other threads' writes.
    ///
    /// # Errors
    /// Those of the system; what could not be written is kept as in [`Self::write`].
    pub fn sync(&self) -> io::Result<()> {
        let mut output = locked(&self.file);
        self.drain(&mut output)?;
        output.sync()
    }

    /// How many lines wait to be written.
    #[must_use]
    pub fn waiting(&self) -> usize {
        locked(&self.queue).lines.len()
    }
}
