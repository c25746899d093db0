//! The nodes that a batch system gave the job.
//!
//! Comes in: the environment, and what Slurm's programs say. Goes out: the nodes, and which kind of MPI a program is linked with. What must hold: what can't be
//! found out is asked for by a clear message, never guessed.

use crate::slurm;
use anyhow::{Context, bail};
use std::ffi::OsStr;

/// Where Slurm says when the job's time is up, in seconds since the start of 1970; older ones don't.
pub const END_VARIABLE: &str = "SLURM_JOB_END_TIME";

/// What Slurm gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allocation {
    /// The batch job; of an array, the one task.
    pub job: String,
    /// Its nodes.
    pub nodes: Vec<String>,
    /// How many tasks it was submitted for, where that was said.
    pub tasks: Option<u32>,
    /// How often Slurm has started it again.
    pub restarts: u32,
    /// When its time is up, in seconds since the start of 1970, where that is known.
    pub end: Option<u64>,
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The Slurm job that this process runs in, and how often Slurm has started it again.
#[must_use]
pub fn job_of_process() -> Option<(String, u32)> {
    let restarts = variable("SLURM_RESTART_COUNT").and_then(|count| count.parse().ok()).unwrap_or(0);
    Some((job_name(variable)?, restarts))
}

/// The last task of an array has the number of the whole array: by its own name no other task is meant.
fn job_name(variable: impl Fn(&str) -> Option<String>) -> Option<String> {
    let job = variable("SLURM_JOB_ID")?;
    Some(match (variable("SLURM_ARRAY_JOB_ID"), variable("SLURM_ARRAY_TASK_ID")) {
        (Some(array), Some(task)) => format!("{array}_{task}"),
        _ => job,
    })
}

impl Allocation {
    /// The allocation that this process runs in; `None`: it is in none.
    ///
    /// # Errors
    /// It is in one, and its nodes can't be learnt.
    pub fn of_process() -> anyhow::Result<Option<Self>> {
        let (Some((job, restarts)), Some(list)) = (job_of_process(), variable("SLURM_JOB_NODELIST")) else {
            return Ok(None);
        };
        let nodes = slurm::nodes_of(&list).context("the nodes of this Slurm job can't be learnt")?;
        let said = variable(END_VARIABLE).and_then(|end| end.parse().ok());
        // A controller that is down just now does not keep the job from its work.
        let end = said.or_else(|| slurm::end_of(&job).unwrap_or_default());
        let tasks = variable("SLURM_NTASKS").and_then(|tasks| tasks.parse().ok());
        Ok(Some(Self { job, nodes, tasks, restarts, end }))
    }
}

/// The nodes that another batch system gave, one after the other; none where it says nothing that is known: PBS by a file, LSF by a list.
///
/// # Errors
/// The file can't be read.
pub fn nodes_of_site() -> anyhow::Result<Vec<String>> {
    if let Some(file) = variable("PBS_NODEFILE") {
        let text = std::fs::read_to_string(&file).with_context(|| format!("{file} (PBS_NODEFILE) can't be read"))?;
        return nodes_in(&text);
    }
    // `host1 16 host2 16`
    let list = variable("LSB_MCPU_HOSTS").unwrap_or_default();
    let names: Vec<&str> = list.split_ascii_whitespace().step_by(2).collect();
    nodes_in(&names.join("\n"))
}

/// The nodes of a file such as a launcher takes: the first word of each line, each once.
///
/// # Errors
/// One of them is no name of a node.
pub fn nodes_in(text: &str) -> anyhow::Result<Vec<String>> {
    let mut nodes: Vec<String> = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        // `host`, `host slots=4`, `host:4`
        let name = line.split([' ', '\t', ':']).next().unwrap_or_default();
        if !slurm::is_word(name, slurm::NAMES) {
            bail!("{name:?} is no name of a node");
        }
        if !nodes.iter().any(|node| node == name) {
            nodes.push(name.to_owned());
        }
    }
    Ok(nodes)
}

/// Which `--mpi` of `srun` fits the program, by the MPI library that it is linked with; `None`: the loader names none. That may be a script, or a
/// program that is linked statically.
#[must_use]
pub fn srun_mpi(program: &OsStr) -> Option<&'static str> {
    let said = slurm::ask("ldd", &[program]).unwrap_or_default();
    match () {
        () if said.contains("libmpich") || said.contains("libmpi.so.12") => Some("pmi2"),
        () if said.contains("libmpi.so") || said.contains("libpmix") => Some("pmix"),
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_read_from_files_of_launchers() {
        let nodes = nodes_in("n1\nn1\n# spare\n\nn2 slots=4\nn3.site:16\n").expect("names");
        assert_eq!(nodes, ["n1", "n2", "n3.site"]);
        assert!(nodes_in("").expect("none").is_empty());
        for text in ["-h", "n1;rm", "a,b"] {
            assert!(nodes_in(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_task_of_an_array_is_never_taken_for_the_whole_array() {
        let named = |pairs: &[(&str, &str)]| {
            job_name(|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
        };
        assert_eq!(named(&[]), None);
        assert_eq!(named(&[("SLURM_JOB_ID", "7")]).as_deref(), Some("7"));
        let last = [("SLURM_JOB_ID", "7"), ("SLURM_ARRAY_JOB_ID", "7"), ("SLURM_ARRAY_TASK_ID", "3")];
        assert_eq!(named(&last).as_deref(), Some("7_3"));
    }
}
