//! Running a program for a limited time.
//!
//! Comes in: a command, a text for its standard input, and bounds. Goes out: how it ended, and the start of what it printed. What must hold: after the
//! time the program is killed with all that it started; neither a program that does not read nor one that prints without end, nor
//! a child of it that keeps its output open, delays us or takes memory.

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// How long the rest of the output may take after the program's end.
const AFTER_END: Duration = Duration::from_millis(500);

/// What became of a program.
#[derive(Debug)]
pub struct Ran {
    /// How it ended; `None`: it did not in time, and was killed.
    pub status: Option<ExitStatus>,
    /// The start of what it printed on its standard output.
    pub printed: Vec<u8>,
    /// The start of what it printed on standard error.
    pub complained: Vec<u8>,
}

/// Runs `command` for `limit` at the most, with `input` on its standard input. Of each of its outputs `kept` bytes are kept.
///
/// # Errors
/// Where it can't be started.
pub fn run(mut command: Command, input: Vec<u8>, limit: Duration, kept: usize) -> io::Result<Ran> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A group of its own, so that all that it starts can be ended with it.
    let mut child = command.process_group(0).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // It may never read; this thread ends with the pipe.
        thread::spawn(move || stdin.write_all(&input));
    }
    let printed = child.stdout.take().map(|output| keep_start(output, kept));
    let complained = child.stderr.take().map(|output| keep_start(output, kept));
    let status = wait(&mut child, limit);
    let end = Instant::now() + AFTER_END;
    let take = |output: Option<mpsc::Receiver<Vec<u8>>>| {
        output.and_then(|output| output.recv_timeout(end.saturating_duration_since(Instant::now())).ok())
    };
    Ok(Ran { status, printed: take(printed).unwrap_or_default(), complained: take(complained).unwrap_or_default() })
}

/// Waits for the end; `None`: it did not come in time, and was brought about.
fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let start = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        if start.elapsed() >= limit {
            break;
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
    // Its number is its group's as well; it can't be another's before we have waited for it.
    if let Ok(group) = i32::try_from(child.id()) {
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
    let _ = child.kill();
    // Where the kernel holds on to it, it is left to the kernel.
    for _ in 0..50 {
        if !matches!(child.try_wait(), Ok(None)) {
            break;
        }
        thread::sleep(Duration::from_millis(10));
    }
    None
}

/// Reads all, and keeps the start; it comes when the other end is closed.
fn keep_start(mut output: impl Read + Send + 'static, most: usize) -> mpsc::Receiver<Vec<u8>> {
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        let (mut kept, mut piece) = (Vec::new(), [0; 4096]);
        while let Ok(count @ 1..) = output.read(&mut piece) {
            let room = most.saturating_sub(kept.len());
            kept.extend_from_slice(&piece[..count.min(room)]);
        }
        let _ = send.send(kept);
    });
    receive
}
