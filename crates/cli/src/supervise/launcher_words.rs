//! Whom a launcher names as the process that ended first.
//!
//! Comes in: lines that a launcher printed. Goes out: the rank, or the process, that it names. What must hold: a line that names nobody, or several, says
//! nothing; numbers are bounded by their types.

/// Who is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Named {
    /// A rank.
    Rank(u32),
    /// A process of a node, as far as the launcher knows it.
    Process {
        /// Its number.
        pid: u32,
        /// The node.
        node: String,
    },
}

/// What a line says: OpenMPI's `mpirun noticed that process rank 3 with PID 12345 on node n1 exited on signal 9`, MPICH's `=   PID 12345 RUNNING AT n1`,
/// Slurm's `srun: error: n1: task 3: Killed`.
pub(super) fn named(line: &str) -> Option<Named> {
    let after = |mark: &str| line.split_once(mark).map(|(_, rest)| rest);
    let number = |text: &str| text.split(|c: char| !c.is_ascii_digit()).next()?.parse::<u32>().ok();
    if let Some(rest) = after("that process rank ").filter(|rest| rest.contains(" exited on")) {
        return number(rest).map(Named::Rank);
    }
    if let Some((before, node)) = line.split_once(" RUNNING AT ") {
        let pid = number(before.rsplit_once("PID ")?.1)?;
        if let Some((_, rest)) = before.split_once("RANK ") {
            return number(rest).map(Named::Rank);
        }
        return Some(Named::Process { pid, node: node.split_whitespace().next()?.to_owned() });
    }
    // `tasks 0-3` names several.
    let (_, rest) = after("srun: error: ")?.split_once(": task ")?;
    let (task, _) = rest.split_once(": ")?;
    task.parse().ok().map(Named::Rank)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_each_launcher_are_understood() {
        let process = Named::Process { pid: 24_361, node: "n2".into() };
        for (line, wanted) in [
            (
                "mpirun noticed that process rank 3 with PID 12345 on node n1 exited on signal 9 (Killed).",
                Some(Named::Rank(3)),
            ),
            ("prterun noticed that process rank 1 with PID 5 on node n2 exited on signal 11.", Some(Named::Rank(1))),
            ("=   PID 24361 RUNNING AT n2", Some(process)),
            ("=   RANK 7 PID 24361 RUNNING AT n2", Some(Named::Rank(7))),
            ("srun: error: n2: task 1: Killed", Some(Named::Rank(1))),
            ("srun: error: n2: tasks 0-1: Killed", None),
            ("srun: error: n2: task 99999999999: Killed", None),
            ("=   PID  RUNNING AT n2", None),
            ("=   PID 5 RUNNING AT ", None),
            ("mpirun: that process rank 3 sleeps", None),
            ("step 3: task 4: done", None),
            ("", None),
        ] {
            assert_eq!(named(line), wanted, "{line}");
        }
    }
}
