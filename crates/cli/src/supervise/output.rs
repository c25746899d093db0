//! What a job prints: passed on at once, kept in a file of its launch, and looked at for messages of failures.
//!
//! Comes in: the launcher's two outputs. Goes out: the same bytes on ours and in the file; the last lines that a log rule takes for a sign of something wrong.
//! What must hold: nothing waits for the end of a line; a file that can't be written costs the file only; of endless lines only the beginning is looked at.

use super::launcher_words::{Named, named};
use piton::watch::{LogRules, LogSource, Severity};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// Telling lines that are kept.
const KEPT: usize = 8;
/// What is looked at of a line, and kept of it.
const LONGEST: usize = 4096;
const SHOWN: usize = 300;

/// What a launch has printed that tells of something wrong.
#[derive(Debug, Clone, Default)]
pub struct Telling(Arc<Mutex<Told>>);

#[derive(Debug, Default)]
struct Told {
    lines: VecDeque<String>,
    /// Whom the launcher named first, until somebody asks.
    named: Option<(Named, String)>,
    /// It has named somebody.
    has_named: bool,
}

impl Telling {
    /// The lines, the newest last.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).lines.iter().cloned().collect()
    }

    /// Whom the launcher named first as the process that ended, with its words; said once.
    pub(super) fn take_named(&self) -> Option<(Named, String)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).named.take()
    }

    fn look(&self, line: &[u8], rules: &LogRules) {
        let text = String::from_utf8_lossy(line);
        if let Some(first) = named(&text) {
            let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if !std::mem::replace(&mut told.has_named, true) {
                told.named = Some((first, text.trim().chars().take(SHOWN).collect()));
            }
        }
        self.add(line, rules);
    }

    fn add(&self, line: &[u8], rules: &LogRules) {
        let Some(finding) = rules.look(LogSource::Application, line) else { return };
        if finding.severity < Severity::Warning {
            return;
        }
        let text: String = String::from_utf8_lossy(line).trim_end().chars().take(SHOWN).collect();
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.lines.len() >= KEPT {
            told.lines.pop_front();
        }
        told.lines.push_back(format!("{}: {text}", finding.rule));
    }
}

/// Splits what comes into lines.
#[derive(Debug, Default)]
struct Lines(Vec<u8>);

impl Lines {
    fn take(&mut self, bytes: &[u8], mut line: impl FnMut(&[u8])) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = LONGEST.saturating_sub(self.0.len());
            self.0.extend_from_slice(&piece[..piece.len().min(room)]);
            if piece.ends_with(b"\n") {
                line(&self.0);
                self.0.clear();
            }
        }
    }
}

/// Passes `from` on to `to` and to `file`, on a thread of its own, until it is closed.
///
/// # Errors
/// Where the system gives no thread.
pub fn pass_on(
    mut from: impl Read + Send + 'static,
    mut to: impl Write + Send + 'static,
    file: Option<Arc<File>>,
    rules: LogRules,
    telling: Telling,
) -> io::Result<thread::JoinHandle<()>> {
    let run = move || {
        let (mut bytes, mut lines) = (vec![0; 64 << 10], Lines::default());
        loop {
            let bytes = match from.read(&mut bytes) {
                Ok(count @ 1..) => &bytes[..count],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Ok(0) | Err(_) => break,
            };
            // Whoever reads ours may be gone, and the disk full: the job goes on.
            let _ = to.write_all(bytes).and_then(|()| to.flush());
            if let Some(file) = &file {
                let _ = (&**file).write_all(bytes);
            }
            lines.take(bytes, |line| telling.look(line, &rules));
        }
    };
    thread::Builder::new().name("piton-output".to_owned()).spawn(run)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_passed_on_whole_and_failures_are_noticed() {
        let text = b"step 1\nthread 'main' panicked at src/main.rs:3:5:\nboom\nno end".to_vec();
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log");
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("sockets");
        let telling = Telling::default();
        let file = Arc::new(File::create(&path).expect("a file"));
        let thread = pass_on(io::Cursor::new(text.clone()), ours, Some(file), LogRules::defaults(), telling.clone())
            .expect("a thread");
        thread.join().expect("it ends");
        let mut passed = Vec::new();
        { theirs }.read_to_end(&mut passed).expect("closed");
        assert_eq!(passed, text);
        assert_eq!(std::fs::read(path).expect("written"), text);
        let lines = telling.lines();
        assert!(lines.len() == 1 && lines[0].contains("panicked at src/main.rs"), "{lines:?}");
        assert_eq!(telling.take_named(), None);
    }

    #[test]
    fn whom_the_launcher_names_first_is_said_once() {
        let (telling, rules) = (Telling::default(), LogRules::defaults());
        telling.look(b"=   PID 7 RUNNING AT n2\n", &rules);
        telling.look(b"=   PID 8 RUNNING AT n3\n", &rules);
        let first = Named::Process { pid: 7, node: "n2".into() };
        assert_eq!(telling.take_named(), Some((first, "=   PID 7 RUNNING AT n2".to_owned())));
        assert_eq!(telling.take_named(), None);
    }

    #[test]
    fn endless_lines_are_cut() {
        let mut lines = Lines::default();
        let mut seen = Vec::new();
        for _ in 0..10 {
            lines.take(&[b'x'; 1000], |line| seen.push(line.len()));
        }
        lines.take(b"\nab\n", |line| seen.push(line.len()));
        assert_eq!(seen, [LONGEST, 3]);
    }
}
