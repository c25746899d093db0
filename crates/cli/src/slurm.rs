//! Slurm's own programs, called with a limit.
//!
//! What must hold: none of them is waited for longer than it was said, whether Slurm's controller answers or not; arguments never pass a shell.

use anyhow::{Context, bail};
use piton_cli::bounded;
use std::process::Command;
use std::time::Duration;

/// How long one call may take. Two of them and a look at the node end before slurmd kills its health check, after 60 seconds.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most that is read of what it prints.
const LONGEST: usize = 1 << 20;

/// Takes a node out of service, unless somebody else has done so already, whose reason then stays. Whether it did.
///
/// # Errors
/// `scontrol` is missing, fails, or takes too long.
pub fn drain(node: &str, reason: &str) -> anyhow::Result<bool> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if node.is_empty() || node.starts_with('-') || !node.chars().all(plain) {
        bail!("{node:?} is not the name of one node");
    }
    // An administrator's reason, or one that we have given before, is left as it is.
    if let Ok(said) = scontrol(&["--oneliner", "show", "node", node])
        && let Some(given) = given_up(&said)
        && (!given.starts_with("piton:") || given == reason)
    {
        return Ok(false);
    }
    scontrol(&["update", &format!("NodeName={node}"), "State=DRAIN", &format!("Reason={reason}")])?;
    Ok(true)
}

/// The reason why the node is out of service, where it is, by what `scontrol show node` prints.
fn given_up(said: &str) -> Option<&str> {
    let state = said.split_ascii_whitespace().find_map(|part| part.strip_prefix("State="))?;
    if !["DRAIN", "DOWN", "FAIL"].iter().any(|out| state.contains(out)) {
        return None;
    }
    // `Reason=disk full [root@2026-01-01T00:00:00]`
    let reason = said.split_once(" Reason=").map_or("", |(_, reason)| reason);
    Some(reason.split(" [").next().unwrap_or_default().trim())
}

/// What `scontrol` prints.
fn scontrol(arguments: &[&str]) -> anyhow::Result<String> {
    let mut command = Command::new("scontrol");
    command.args(arguments);
    let ran = bounded::run(command, Vec::new(), PATIENCE, LONGEST)
        .context("scontrol can't be started; is Slurm on the PATH?")?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match ran.status {
        None => bail!("scontrol has not answered for {} s", PATIENCE.as_secs()),
        Some(status) if !status.success() => {
            bail!("scontrol {} failed ({status}): {}", arguments[0], text(&ran.complained).trim())
        }
        Some(_) => Ok(text(&ran.printed)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_took_a_node_out_of_service_is_read() {
        let line =
            |state: &str, reason: &str| format!("NodeName=n7 Arch=x86_64 State={state} ThreadsPerCore=1{reason}\n");
        assert_eq!(given_up(&line("IDLE", "")), None);
        assert_eq!(given_up(&line("ALLOCATED", " Reason=old [root@2026]")), None);
        assert_eq!(given_up(&line("IDLE+DRAIN", " Reason=disk full [root@2026]")), Some("disk full"));
        assert_eq!(given_up(&line("MIXED+DRAIN", " Reason=piton:load load=9 [slurm@2026]")), Some("piton:load load=9"));
        assert_eq!(given_up(&line("DOWN*", "")), Some(""));
        assert_eq!(given_up(""), None);
    }

    #[test]
    fn only_one_node_is_ever_drained() {
        for node in ["", "n[1-9]", "a,b", "n 7", "-h", "ALL nodes"] {
            assert!(drain(node, "piton:x").unwrap_err().to_string().contains("not the name of one node"), "{node}");
        }
    }
}
