//! Exit statuses.
//!
//! What must hold: a script can tell "no" (something is damaged, nothing was found) from "could not tell" (an error).

use std::io;
use std::process::ExitCode;

/// What the help says about them.
pub const HELP: &str = "Exit status: 0 done, or sound; 1 damaged, or not found; 2 could not be done, or could not tell";

/// How a command ended that could do its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is done, or what was asked about is sound.
    Done,
}

/// The status that says so; an error goes to standard error.
#[must_use]
pub fn code(result: anyhow::Result<Outcome>) -> ExitCode {
    match result {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        // Whoever reads our output has seen enough: `piton ls | head -1`.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("piton: {}", crate::output::safe(&format!("{error:#}")));
            ExitCode::from(2)
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
