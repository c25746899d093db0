//! Exit statuses.
//!
//! What must hold: a script can tell "no" (something is damaged, nothing was found) from "could not tell" (an error).

use piton::reader::ReadError;
use std::io;
use std::process::ExitCode;

/// What the help says about them.
pub const HELP: &str = "Exit status: 0 done, or sound; 1 damaged, or not found; 2 could not be done, or could not tell";

/// How a command ended that could do its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// It is done, or what was asked about is sound.
    Done,
    /// It could not be told.
    Unknown,
    /// No: it is damaged, or not there.
    No,
}

/// The status that says so; an error goes to standard error.
#[must_use]
pub fn code(result: anyhow::Result<Outcome>) -> ExitCode {
    match result {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::No) => ExitCode::from(1),
        Ok(Outcome::Unknown) => ExitCode::from(2),
        // Whoever reads our output has seen enough: `piton ls | head -1`.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("piton: {}", crate::output::safe(&piton_cli::human::whole(&error)));
            ExitCode::from(if is_no(&error) { 1 } else { 2 })
        }
    }
}

/// Whether the error says that what was asked for is not there, or damaged.
fn is_no(error: &anyhow::Error) -> bool {
    error.downcast_ref::<ReadError>().is_some_and(|error| error.is_absence() || error.is_damage())
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
