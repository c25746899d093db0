//! Telling a program, by a text on its standard input.
//!
//! Comes in: the program and its arguments, the text, variables. Goes out: the start of what it printed, or why it did not do its work. What
//! must hold: no shell is in between; the program does not learn the job's secret.

use super::{DeliveryError, shortened};
use crate::bounded;
use crate::line::Secret;
use std::process::Command;
use std::time::Duration;

/// Bytes that are kept of each of both outputs.
const OUTPUT_MOST: usize = 4096;

/// Runs it; what it printed, shortened.
pub(super) fn run(
    words: &[String],
    input: Vec<u8>,
    variables: &[(&'static str, String)],
    limit: Duration,
) -> Result<String, DeliveryError> {
    let (program, arguments) = words.split_first().map_or(("", &[][..]), |(program, rest)| (program.as_str(), rest));
    let named = || program.to_owned();
    let mut command = Command::new(program);
    command.args(arguments).envs(variables.iter().map(|(name, value)| (name, value))).env_remove(Secret::VARIABLE);
    let ran = bounded::run(command, input, limit, OUTPUT_MOST)
        .map_err(|error| DeliveryError::Start { program: named(), reason: error.to_string() })?;
    let output = shortened(&[ran.printed, ran.complained].join(&b' '));
    match ran.status {
        Some(status) if status.success() => Ok(output),
        Some(status) => Err(DeliveryError::Status { program: named(), status: status.to_string(), output }),
        None => Err(DeliveryError::Late { program: named(), seconds: limit.as_secs_f64() }),
    }
}
