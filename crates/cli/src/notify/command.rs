//! Running a program with a text on its standard input, for a limited time.
//!
//! Comes in: the program and its arguments, the text, variables. Goes out: the start of what it printed, or why it did not do its work. What
//! must hold: no shell is in between; after the time the program is killed with all that it started; neither a program that does
//! not read nor one that prints without end, nor a child of it that keeps its output open, delays us or takes memory.

use super::{DeliveryError, shortened};
use crate::line::Secret;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// Bytes that are kept of each of both outputs.
const OUTPUT_MOST: usize = 4096;
/// How long the rest of the output may take after the program's end.
const AFTER_END: Duration = Duration::from_millis(500);

/// Runs it; what it printed, shortened.
pub(super) fn run(
    words: &[String],
    input: Vec<u8>,
    variables: &[(&'static str, String)],
    limit: Duration,
) -> Result<String, DeliveryError> {
    let (program, arguments) = words.split_first().map_or(("", &[][..]), |(program, rest)| (program.as_str(), rest));
    let named = || program.to_owned();
    let mut child = Command::new(program)
        .args(arguments)
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .env_remove(Secret::VARIABLE)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A group of its own, so that all that it starts can be ended with it.
        .process_group(0)
        .spawn()
        .map_err(|error| DeliveryError::Start { program: named(), reason: error.to_string() })?;
    if let Some(mut stdin) = child.stdin.take() {
        // It may never read; this thread ends with the pipe.
        thread::spawn(move || stdin.write_all(&input));
    }
    let output = [child.stdout.take().map(keep_start), child.stderr.take().map(keep_start)];
    let status = wait(&mut child, limit);
    let end = Instant::now() + AFTER_END;
    let kept: Vec<Vec<u8>> = output
        .into_iter()
        .flatten()
        .filter_map(|kept| kept.recv_timeout(end.saturating_duration_since(Instant::now())).ok())
        .collect();
    let output = shortened(&kept.join(&b' '));
    match status {
        Some(status) if status.success() => Ok(output),
        Some(status) => Err(DeliveryError::Status { program: named(), status: status.to_string(), output }),
        None => Err(DeliveryError::Late { program: named(), seconds: limit.as_secs_f64() }),
    }
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
fn keep_start(mut output: impl Read + Send + 'static) -> mpsc::Receiver<Vec<u8>> {
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        let (mut kept, mut piece) = (Vec::new(), [0; 4096]);
        while let Ok(count @ 1..) = output.read(&mut piece) {
            let room = OUTPUT_MOST.saturating_sub(kept.len());
            kept.extend_from_slice(&piece[..count.min(room)]);
        }
        let _ = send.send(kept);
    });
    receive
}
