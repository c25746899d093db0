//! The processes that a supervisor starts, and how they end.
//!
//! Comes in: commands. Goes out: running processes, each in a group of its own, and a call when one ends. What must hold: a signal goes to a
//! process that is ours, never to another one that got its number; whoever starts dies with the supervisor, however that ends.

use super::policy::Status;
use crate::signals::Signals;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus};
use std::thread;

/// A process that was started, with its group.
#[derive(Debug)]
pub struct Started {
    child: Child,
    ended: bool,
}

fn status_of(status: ExitStatus) -> Status {
    match (status.code(), status.signal()) {
        (Some(code), _) => Status::Exit(code),
        (None, signal) => Status::Signal(signal.unwrap_or(0)),
    }
}

/// Starts `command` in a group of its own; it gets SIGTERM when the thread that called this ends. `ended` is called once it has ended: then, and
/// not before, it is to be [reaped](Started::reap).
///
/// # Errors
/// Those of the system.
pub fn start(mut command: Command, ended: impl FnOnce() + Send + 'static) -> io::Result<Started> {
    command.process_group(0);
    // SAFETY: between fork and exec only two system calls are made, which take no memory.
    unsafe {
        command.pre_exec(|| {
            Signals::let_through()?;
            Ok(nix::sys::prctl::set_pdeathsig(Signal::SIGTERM)?)
        });
    }
    let child = command.spawn()?;
    let id = Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?);
    thread::Builder::new().name("piton-child".to_owned()).spawn(move || {
        // It stays a zombie, so that its number stays its own until it is reaped by whoever signals it.
        while matches!(
            waitid(Id::Pid(id), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT),
            Err(nix::Error::EINTR) | Ok(WaitStatus::StillAlive)
        ) {}
        ended();
    })?;
    Ok(Started { child, ended: false })
}

impl Started {
    /// Its outputs, where they are piped; once.
    pub fn outputs(&mut self) -> (Option<std::process::ChildStdout>, Option<std::process::ChildStderr>) {
        (self.child.stdout.take(), self.child.stderr.take())
    }

    /// Sends a signal to its group; nothing once it was reaped.
    pub fn signal(&self, signal: Signal) {
        if !self.ended
            && let Ok(group) = i32::try_from(self.child.id())
        {
            // All of them may have ended.
            let _ = killpg(Pid::from_raw(group), signal);
        }
    }

    /// Kills it alone, and leaves those that it started to themselves.
    pub fn kill_alone(&mut self) {
        if !self.ended {
            // It may have ended.
            let _ = self.child.kill();
        }
    }

    /// How it ended; `None` where it has not.
    pub fn reap(&mut self) -> Option<Status> {
        let status = self.child.try_wait().ok().flatten()?;
        self.ended = true;
        Some(status_of(status))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    #[test]
    fn ends_are_told_and_a_group_is_signalled_as_one() {
        let (tell, told) = channel();
        let mut command = Command::new("sh");
        // A child of its own in the same group: it has to go with it.
        command.args(["-c", "sleep 60 & echo $!; wait"]).stdout(std::process::Stdio::piped());
        let mut started = start(command, move || tell.send(()).expect("a test")).expect("a shell");
        let (stdout, _) = started.outputs();
        let mut line = String::new();
        io::BufRead::read_line(&mut io::BufReader::new(stdout.expect("piped")), &mut line).expect("a number");
        assert_eq!(started.reap(), None);
        started.signal(Signal::SIGKILL);
        told.recv_timeout(Duration::from_secs(20)).expect("it ends");
        assert_eq!(started.reap(), Some(Status::Signal(9)));
        let sleep = line.trim().parse().expect("a number");
        let since = std::time::Instant::now();
        while piton::watch::process::start_ticks(sleep).is_some() {
            assert!(since.elapsed() < Duration::from_secs(20), "the sleep lives on");
            thread::yield_now();
        }
        started.signal(Signal::SIGKILL);
        let mut command = Command::new("sh");
        command.args(["-c", "exit 7"]);
        let (tell, told) = channel();
        let mut started = start(command, move || tell.send(()).expect("a test")).expect("a shell");
        told.recv_timeout(Duration::from_secs(20)).expect("it ends");
        assert_eq!(started.reap(), Some(Status::Exit(7)));
    }
}
