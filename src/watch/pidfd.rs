//! A handle on a process of this node, by which its end is known at once.
//!
//! Comes in: a process number. Goes out: a descriptor that can be polled for the end of just that process, and how it ended, where
//! the kernel tells (Linux 6.15 and newer tell it to others than the parent). What must hold: the handle never means another process that
//! got the same number.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this status.
    Status(i32),
    /// By this signal.
    Signal(i32),
}

impl Exit {
    /// From a wait status, as `waitpid` has it.
    #[must_use]
    pub fn of_wait_status(status: i32) -> Self {
        match status & 0x7f {
            0 => Self::Status((status >> 8) & 0xff),
            signal => Self::Signal(signal),
        }
    }

    /// Whether it is what a program returns when all went well.
    #[must_use]
    pub fn is_success(self) -> bool {
        self == Self::Status(0)
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Self::Status(status) => write!(f, "exit status {status}"),
            Self::Signal(number) => match nix::sys::signal::Signal::try_from(number) {
                Ok(signal) => write!(f, "signal {number} ({signal})"),
                Err(_) => write!(f, "signal {number}"),
            },
        }
    }
}

/// `struct pidfd_info` of `linux/pidfd.h`, as it was first.
#[repr(C)]
#[derive(Debug, Default)]
struct Info {
    mask: u64,
    control_group: u64,
    ids: [u32; 11],
    exit_code: i32,
}

const _: () = assert!(size_of::<Info>() == 64);

/// `PIDFD_INFO_EXIT`.
const INFO_EXIT: u64 = 1 << 3;
/// `PIDFD_GET_INFO`: `_IOWR(0xff, 11, struct pidfd_info)`.
const GET_INFO: u64 = 0xc040_ff0b;

/// The file in which a parent notes how a process of this node ended, for those whom the kernel does not tell.
#[must_use]
pub fn exit_record(folder: &Path, pid: u32, start_ticks: u64) -> PathBuf {
    folder.join(format!("piton-{}-{pid}-{start_ticks}.exit", nix::unistd::geteuid()))
}

/// What such a file says; it is taken away.
#[must_use]
pub fn take_exit_record(folder: &Path, pid: u32, start_ticks: u64) -> Option<Exit> {
    let path = exit_record(folder, pid, start_ticks);
    let text = std::fs::read_to_string(&path).ok()?;
    let _ = std::fs::remove_file(path);
    Some(Exit::of_wait_status(text.trim().parse().ok()?))
}

/// A process.
#[derive(Debug)]
pub struct ProcessHandle(OwnedFd);

impl ProcessHandle {
    /// That of the process `pid`.
    ///
    /// # Errors
    /// Where there is none, or the system has no such handles.
    pub fn open(pid: u32) -> io::Result<Self> {
        let pid = i32::try_from(pid).map_err(io::Error::other)?;
        // SAFETY: the call takes two numbers and gives a new descriptor, or -1.
        let descriptor = unsafe { nix::libc::syscall(nix::libc::SYS_pidfd_open, pid, 0) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        let descriptor = i32::try_from(descriptor).map_err(io::Error::other)?;
        // SAFETY: it was just given to us, and nobody else has it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(descriptor) }))
    }

    /// Sends the process a signal; nothing where it has ended.
    ///
    /// # Errors
    /// It is another user's.
    pub fn signal(&self, signal: nix::sys::signal::Signal) -> io::Result<()> {
        let none = std::ptr::null::<nix::libc::siginfo_t>();
        // SAFETY: the call takes a descriptor of ours, a number, no structure, and no flags.
        let outcome = unsafe {
            nix::libc::syscall(
                nix::libc::SYS_pidfd_send_signal,
                self.0.as_raw_fd(),
                signal as nix::libc::c_int,
                none,
                0,
            )
        };
        match outcome {
            0 => Ok(()),
            _ => match io::Error::last_os_error() {
                error if error.raw_os_error() == Some(nix::libc::ESRCH) => Ok(()),
                error => Err(error),
            },
        }
    }

    /// How the process ended; `None` where it has not, where its parent has not yet taken note of it, or where the kernel tells nobody else.
    #[must_use]
    pub fn exit(&self) -> Option<Exit> {
        let mut info = Info { mask: INFO_EXIT, ..Info::default() };
        // SAFETY: the kernel writes at most the 64 bytes that the request's number names.
        let outcome = unsafe { nix::libc::ioctl(self.0.as_raw_fd(), GET_INFO as _, &mut info) };
        (outcome == 0 && info.mask & INFO_EXIT != 0).then(|| Exit::of_wait_status(info.exit_code))
    }
}

impl AsFd for ProcessHandle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::process::Command;

    #[test]
    fn the_end_of_a_process_is_seen() {
        for (script, expected) in
            [("exit 7", Exit::Status(7)), ("kill -KILL $$", Exit::Signal(9)), ("exit 0", Exit::Status(0))]
        {
            let mut child = Command::new("sh")
                .args(["-c", &format!("read line; {script}")])
                .stdin(std::process::Stdio::piped())
                .spawn()
                .expect("a shell");
            let handle = ProcessHandle::open(child.id()).expect("a handle");
            assert_eq!(handle.exit(), None);
            drop(child.stdin.take());
            let mut polled = [PollFd::new(handle.as_fd(), PollFlags::POLLIN)];
            assert_eq!(poll(&mut polled, PollTimeout::NONE), Ok(1));
            let status = child.wait().expect("ours");
            // Older kernels tell nobody but the parent.
            if let Some(exit) = handle.exit() {
                assert_eq!(exit, expected, "{status:?}");
            }
        }
        assert!(ProcessHandle::open(u32::MAX >> 1).is_err());
    }

    #[test]
    fn what_a_parent_notes_is_taken_once() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(exit_record(folder.path(), 7, 9), "9\n").expect("a file");
        assert_eq!(take_exit_record(folder.path(), 7, 8), None);
        assert_eq!(take_exit_record(folder.path(), 7, 9), Some(Exit::Signal(9)));
        assert_eq!(take_exit_record(folder.path(), 7, 9), None);
    }

    #[test]
    fn ends_are_told_in_words() {
        assert_eq!(Exit::of_wait_status(9).to_string(), "signal 9 (SIGKILL)");
        assert_eq!(Exit::of_wait_status(3 << 8).to_string(), "exit status 3");
        assert!(Exit::of_wait_status(0).is_success() && !Exit::of_wait_status(11).is_success());
    }
}
