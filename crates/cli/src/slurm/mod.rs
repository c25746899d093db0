//! Slurm's own programs, called with a limit, and what they say.
//!
//! Comes in: names of nodes and jobs. Goes out: what Slurm knows of them, and what it was asked to do. What must hold: none of its programs is waited
//! for longer than it was said, whether Slurm's controller answers or not; arguments never pass a shell; what can't be read is said, never
//! guessed.

pub mod script;

use crate::bounded;
use anyhow::{Context, bail};
use std::ffi::OsStr;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long one call may take. Two of them and a look at the node end before slurmd kills its health check, after 60 seconds.
const PATIENCE: Duration = Duration::from_secs(10);
/// Seconds.
const NEAR_THE_LIMIT: u64 = 5;
/// Most that is read of what one prints.
const LONGEST: usize = 4 << 20;

/// What names of nodes, jobs and the like are made of, besides letters and digits.
pub(crate) const NAMES: &str = "._-";

/// Whether it is one word of letters, digits and what else is allowed; one that begins with a dash would be an option.
pub(crate) fn is_word(text: &str, allowed: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || allowed.contains(c);
    !text.is_empty() && !text.starts_with('-') && text.chars().all(good)
}

/// What `program` prints, where it ends well and in time.
///
/// # Errors
/// It is missing, fails, or takes too long.
pub fn ask(program: &str, arguments: &[&OsStr]) -> anyhow::Result<String> {
    let mut command = Command::new(program);
    command.args(arguments);
    let ran = bounded::run(command, Vec::new(), PATIENCE, LONGEST)
        .with_context(|| format!("{program} can't be run: is it on the PATH?"))?;
    match ran.status {
        Some(status) if status.success() => Ok(String::from_utf8_lossy(&ran.printed).into_owned()),
        Some(status) => bail!("{program} failed ({status}): {}", String::from_utf8_lossy(&ran.complained).trim()),
        None => bail!("{program} has not answered for {} s", PATIENCE.as_secs()),
    }
}

fn scontrol(arguments: &[&str]) -> anyhow::Result<String> {
    ask("scontrol", &arguments.iter().map(OsStr::new).collect::<Vec<_>>())
}

/// The value of `NAME=value` in a line of `scontrol --oneliner show`.
fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.split_ascii_whitespace().find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
}

/// Takes a node out of service, unless somebody else has done so already, whose reason then stays. Whether it did.
///
/// # Errors
/// As of [`ask`]; the name is not that of one node.
pub fn drain(node: &str, reason: &str) -> anyhow::Result<bool> {
    if !is_word(node, NAMES) {
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
    let state = field(said, "State")?;
    if !["DRAIN", "DOWN", "FAIL"].iter().any(|out| state.contains(out)) {
        return None;
    }
    // `Reason=disk full [root@2026-01-01T00:00:00]`
    let reason = said.split_once(" Reason=").map_or("", |(_, reason)| reason);
    Some(reason.split(" [").next().unwrap_or_default().trim())
}

/// Whether Slurm takes the node for lost.
///
/// # Errors
/// As of [`ask`].
pub fn is_down(node: &str) -> anyhow::Result<bool> {
    let said = scontrol(&["--oneliner", "show", "node", node])?;
    let state = field(&said, "State").with_context(|| format!("scontrol says nothing of node {node}"))?;
    Ok(state.contains("DOWN"))
}

/// The names of the nodes that a list such as `n[1-3,7]` stands for.
///
/// # Errors
/// As of [`ask`]; it stands for none.
pub fn nodes_of(list: &str) -> anyhow::Result<Vec<String>> {
    let names = scontrol(&["show", "hostnames", list])?;
    let nodes: Vec<String> = names.split_ascii_whitespace().map(str::to_owned).collect();
    if nodes.is_empty() { bail!("Slurm names no nodes of this job ({list})") } else { Ok(nodes) }
}

/// A job as Slurm sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobSeen {
    /// `RUNNING`, `COMPLETING`, `PENDING` and others.
    pub state: String,
    /// How often it was started again.
    pub restarts: u32,
    /// Where its script runs.
    pub batch_host: Option<String>,
}

impl JobSeen {
    fn of_line(line: &str) -> Option<Self> {
        Some(Self {
            state: field(line, "JobState")?.to_owned(),
            restarts: field(line, "Restarts")?.parse().ok()?,
            batch_host: field(line, "BatchHost").map(str::to_owned),
        })
    }
}

/// Asks for a job.
///
/// # Errors
/// As of [`ask`]; the answer can't be read.
pub fn job(id: &str) -> anyhow::Result<JobSeen> {
    let said = scontrol(&["--oneliner", "show", "job", id])?;
    JobSeen::of_line(&said).with_context(|| format!("scontrol says nothing that can be read of job {id}"))
}

/// Gives a job back to Slurm, which starts it again when it can.
///
/// # Errors
/// As of [`ask`].
pub fn requeue(id: &str) -> anyhow::Result<()> {
    scontrol(&["requeue", id]).map(drop)
}

/// When the job's time is up, in seconds since the start of 1970; `None`: never.
///
/// # Errors
/// As of [`ask`].
pub fn end_of(id: &str) -> anyhow::Result<Option<u64>> {
    let said = ask("squeue", &["--noheader", "--jobs", id, "--format", "%L"].map(OsStr::new))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    Ok(seconds_of(said.trim()).map(|left| now + left))
}

/// Whether the job has used up its time limit, as it is now: somebody may have changed it since the job began.
///
/// # Errors
/// As of [`ask`]; the answer can't be read.
pub fn is_time_up(id: &str) -> anyhow::Result<bool> {
    let said = ask("squeue", &["--noheader", "--jobs", id, "--format", "%M %l"].map(OsStr::new))?;
    is_used_up(&said).with_context(|| format!("squeue says nothing that can be read of job {id}"))
}

/// By the time used and the time limit; the signal may come a moment before the limit is reached.
fn is_used_up(said: &str) -> Option<bool> {
    let (used, limit) = said.trim().split_once(' ')?;
    let used = seconds_of(used)?;
    Some(seconds_of(limit.trim()).is_some_and(|limit| used + NEAR_THE_LIMIT >= limit))
}

/// A time as `squeue` shows it: `2-03:04:05`, `3:04:05`, `4:05`; `None` where that is no time, as for `UNLIMITED`.
fn seconds_of(text: &str) -> Option<u64> {
    let (days, parts) = days_and_parts(text)?;
    let seconds = (2..=3).contains(&parts.len()).then(|| parts.into_iter().fold(0, |sum, part| 60 * sum + part))?;
    Some(86_400 * days.unwrap_or(0) + seconds)
}

/// The numbers of a time such as `2-03:04:05`: days, where it has a dash, and what stands between colons.
fn days_and_parts(text: &str) -> Option<(Option<u64>, Vec<u64>)> {
    let number = |text: &str| {
        let digits = !text.is_empty() && text.len() <= 9 && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<u64>().ok()).flatten()
    };
    let (days, rest) = match text.split_once('-') {
        Some((days, rest)) => (Some(number(days)?), rest),
        None => (None, text),
    };
    Some((days, rest.split(':').map(number).collect::<Option<_>>()?))
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

    #[test]
    fn a_job_is_read() {
        let line = "JobId=7 JobName=sea UserId=root(0) JobState=RUNNING Reason=None Requeue=1 Restarts=2 BatchFlag=1 \
                    NodeList=n[1-4] BatchHost=n1 NumNodes=4\n";
        let seen = JobSeen { state: "RUNNING".into(), restarts: 2, batch_host: Some("n1".into()) };
        assert_eq!(JobSeen::of_line(line), Some(seen));
        assert_eq!(JobSeen::of_line("JobState=PENDING Restarts=0").map(|seen| seen.batch_host), Some(None));
        for line in ["", "JobState=RUNNING", "JobState=RUNNING Restarts=many"] {
            assert_eq!(JobSeen::of_line(line), None, "{line}");
        }
    }

    #[test]
    fn times_are_read() {
        for (text, seconds) in
            [("0:59", 59), ("4:05", 245), ("3:04:05", 11_045), ("2-03:04:05", 2 * 86_400 + 11_045), ("1-00:00", 86_400)]
        {
            assert_eq!(seconds_of(text), Some(seconds), "{text}");
        }
        assert_eq!(is_used_up("1:02 1:00\n"), Some(true));
        assert_eq!(is_used_up("59:50 1:00:00\n"), Some(false));
        assert_eq!(is_used_up("59:50 UNLIMITED\n"), Some(false));
        assert_eq!((is_used_up(""), is_used_up("INVALID 1:00")), (None, None));
        for text in ["UNLIMITED", "NOT_SET", "INVALID", "", "5", "1:2:3:4", "x-1:00", "-0:05"] {
            assert_eq!(seconds_of(text), None, "{text}");
        }
    }
}
