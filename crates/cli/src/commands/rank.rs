//! `piton rank`: a thin parent that a launcher puts before each rank, so that how it ended is known.

use crate::Common;
use crate::exit::Outcome;
use anyhow::{Context, bail};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, kill, raise, sigaction};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use piton::watch::board::folder;
use piton::watch::{exit_record, process};
use std::ffi::OsString;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicI32, Ordering};

/// Run one rank, and note how it ended for whoever watches the node
///
/// Put it between the launcher and the program. It passes signals on and ends as the program did. Linux from 6.15 on tells watchers by itself
/// how processes end; on older systems this does.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  piton rank -- ./heat --size 512x512\n  mpirun -n 4 piton rank -- ./tsunami --resume\n  srun piton rank -- ./tsunami --resume\n\n\
                        Exit status: that of the program; where a signal ended it, the same signal ends this"
)]
pub struct Rank {
    /// The program, with its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// The rank, for the handler of signals.
static CHILD: AtomicI32 = AtomicI32::new(0);

/// What is passed on to the rank.
const PASSED: [Signal; 8] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGCONT,
];

extern "C" fn pass_on(signal: nix::libc::c_int) {
    let child = CHILD.load(Ordering::Relaxed);
    if let (true, Ok(signal)) = (child > 0, Signal::try_from(signal)) {
        // One system call, as a handler may make; the rank may have ended.
        let _ = kill(Pid::from_raw(child), signal);
    }
}

impl Rank {
    /// Runs the program to its end.
    ///
    /// # Errors
    /// Where it can't be started.
    pub fn run(&self, common: &Common) -> anyhow::Result<Outcome> {
        let settings = common.settings(None)?;
        let Some((program, arguments)) = self.command.split_first() else { bail!("which program?") };
        let mut command = Command::new(program);
        command.args(arguments);
        let passed: SigSet = PASSED.into_iter().collect();
        // What comes before there is a rank to pass it on to waits.
        let before = passed.thread_swap_mask(SigmaskHow::SIG_BLOCK).context("cannot hold signals back")?;
        // SAFETY: between fork and exec it only makes two system calls.
        unsafe {
            command.pre_exec(move || {
                before.thread_set_mask()?;
                // A rank must not outlive what the launcher takes for it.
                nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(Into::into)
            });
        }
        let child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        let id = Pid::from_raw(i32::try_from(child.id()).context("a strange process number")?);
        CHILD.store(id.as_raw(), Ordering::Relaxed);
        let action = SigAction::new(SigHandler::Handler(pass_on), SaFlags::SA_RESTART, SigSet::empty());
        for signal in PASSED {
            // SAFETY: the handler makes one system call and touches one atomic number.
            unsafe { sigaction(signal, &action) }.with_context(|| format!("cannot pass {signal} on"))?;
        }
        before.thread_set_mask().context("cannot let signals through")?;
        let status = wait(id)?;
        // It is still there, as a zombie.
        let started = process::look(child.id()).map(|process| process.start_ticks);
        // What the watcher asks for is there before it can see the end of the process: it is still to be waited for.
        if let (Some(folder), Some(started)) = (folder(&settings.board), started) {
            let path = exit_record(&folder, child.id(), started);
            let partial = path.with_extension("part");
            let _ = std::fs::write(&partial, status.to_string()).and_then(|()| std::fs::rename(&partial, &path));
        }
        waitpid(id, None).context("the rank is gone")?;
        end_alike(ExitStatus::from_raw(status))
    }
}

/// Waits until the rank has ended, and leaves it as it is. The wait status comes back.
fn wait(id: Pid) -> anyhow::Result<i32> {
    loop {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        match nix::sys::wait::waitid(nix::sys::wait::Id::Pid(id), flags) {
            Ok(WaitStatus::Exited(_, status)) => return Ok(status << 8),
            Ok(WaitStatus::Signaled(_, signal, core)) => return Ok(signal as i32 | if core { 0x80 } else { 0 }),
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error).context("cannot wait for the rank"),
        }
    }
}

/// Ends as the rank did.
fn end_alike(status: ExitStatus) -> anyhow::Result<Outcome> {
    if let Some(signal) = status.signal().and_then(|signal| Signal::try_from(signal).ok()) {
        let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
        // No core of ours beside that of the rank.
        let _ = nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 0, 0);
        if !matches!(signal, Signal::SIGKILL | Signal::SIGSTOP) {
            // SAFETY: the default handler.
            let _ = unsafe { sigaction(signal, &default) };
        }
        let _ = raise(signal);
    }
    std::process::exit(status.code().unwrap_or(1));
}
