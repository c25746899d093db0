//! A batch script for a job under `piton run`, from a few words.
//!
//! Comes in: how many nodes and ranks, for how long, and what is to happen when the time is up or a node is lost. Goes out: a script of `sbatch`, with
//! the reason of each line in it. What must hold: whatever is given stands in the script as one word, or is refused: nothing that is meant as a
//! name becomes an option or a command; the script works as it is, and the ready ones in `slurm/` are what this prints.

use super::{NAMES, days_and_parts, is_word};
use std::fmt::Write;

/// What the job is to be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wanted {
    /// The job's name.
    pub name: String,
    /// Nodes, spares among them.
    pub nodes: u32,
    /// Ranks on each.
    pub ranks_per_node: u32,
    /// Processors of each rank; 0: nobody says.
    pub cpus_per_rank: u32,
    /// The time limit, as Slurm takes it.
    pub time: String,
    /// Nodes that stand by.
    pub spares: u32,
    /// What happens when the time is up.
    pub again: Again,
    /// How long before that the last checkpoint is asked for, seconds; 0: what fits the time.
    pub lead: u64,
    /// Others may take the nodes away.
    pub preemptible: bool,
    /// Few nodes get more ranks.
    pub oversubscribe: bool,
    /// Tasks of an array, as Slurm takes them.
    pub array: Option<String>,
    /// Whom the time is charged to.
    pub account: Option<String>,
    /// The partition.
    pub partition: Option<String>,
    /// The quality of service.
    pub qos: Option<String>,
    /// The kind of MPI, for `srun`.
    pub mpi: Option<String>,
    /// Other options of `sbatch`, each as `--name` or `--name=value`.
    pub options: Vec<String>,
    /// Lines before the start, such as `module load openmpi`.
    pub setup: Vec<String>,
    /// The program with its arguments; none: those of the script.
    pub command: Vec<String>,
}

/// What happens when the time is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Again {
    /// The job is given back to Slurm, which starts it again.
    #[default]
    Requeue,
    /// The next one of a chain goes on: the script is submitted several times.
    Chain,
    /// Nothing.
    Never,
}

/// What is wrong with what was asked for.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ScriptError {
    /// It would not be one word of the script.
    #[error("{what} {value:?}: letters, digits and {allowed} are allowed")]
    Word {
        /// Which.
        what: &'static str,
        /// What was given.
        value: String,
        /// What else may be in it.
        allowed: &'static str,
    },
    /// A time that Slurm does not take.
    #[error(
        "time {0:?}: Slurm takes MINUTES, MINUTES:SECONDS, HOURS:MINUTES:SECONDS, DAYS-HOURS, DAYS-HOURS:MINUTES and DAYS-HOURS:MINUTES:SECONDS"
    )]
    Time(String),
    /// Not an option of `sbatch`.
    #[error("{0:?} is no option of sbatch: --NAME or --NAME=VALUE, without spaces")]
    Option(String),
    /// More than a line.
    #[error("{0:?} is more than one line")]
    Lines(String),
    /// A word that no shell can hold.
    #[error("the program's argument {0:?} holds a character that no script can")]
    Argument(String),
    /// Spares that leave no node.
    #[error("{spares} spare nodes of {nodes} leave none to compute on")]
    Spares {
        /// Spares.
        spares: u32,
        /// Nodes.
        nodes: u32,
    },
    /// The last checkpoint would be asked for before the start.
    #[error("{lead} s before its end, a job of {seconds} s has not begun")]
    Lead {
        /// The lead.
        lead: u64,
        /// The time limit.
        seconds: u64,
    },
}

/// Slurm looks at time limits twice a minute, and says so up to a minute early.
const SLACK: u64 = 60;
/// The usual time for the last checkpoint, seconds.
const LEAD: u64 = 300;

/// A time limit in seconds, as Slurm takes it.
fn seconds(text: &str) -> Option<u64> {
    let (days, parts) = days_and_parts(text)?;
    let of = |hours: u64, minutes: u64, seconds: u64| 3600 * hours + 60 * minutes + seconds;
    let total = match (days, parts.as_slice()) {
        (None, [minutes]) => of(0, *minutes, 0),
        (None, [minutes, seconds]) => of(0, *minutes, *seconds),
        (None, [hours, minutes, seconds]) => of(*hours, *minutes, *seconds),
        (Some(days), [hours]) => 86_400 * days + of(*hours, 0, 0),
        (Some(days), [hours, minutes]) => 86_400 * days + of(*hours, *minutes, 0),
        (Some(days), [hours, minutes, seconds]) => 86_400 * days + of(*hours, *minutes, *seconds),
        _ => return None,
    };
    (total > 0).then_some(total)
}

fn word(what: &'static str, value: &str, allowed: &'static str) -> Result<(), ScriptError> {
    match is_word(value, allowed) {
        true => Ok(()),
        false => Err(ScriptError::Word { what, value: value.to_owned(), allowed }),
    }
}

impl Wanted {
    fn check(&self) -> Result<u64, ScriptError> {
        word("name", &self.name, NAMES)?;
        for (what, value, allowed) in [
            ("account", &self.account, NAMES),
            ("partition", &self.partition, "._-,"),
            ("quality of service", &self.qos, NAMES),
            ("kind of MPI", &self.mpi, NAMES),
            ("array", &self.array, ",-:%"),
        ] {
            value.as_ref().map_or(Ok(()), |value| word(what, value, allowed))?;
        }
        for option in &self.options {
            let good = option.starts_with("--")
                && option.len() > 2
                && option.chars().all(|c| !c.is_whitespace() && !c.is_control());
            if !good {
                return Err(ScriptError::Option(option.clone()));
            }
        }
        if let Some(line) = self.setup.iter().find(|line| line.contains(['\n', '\r', '\0'])) {
            return Err(ScriptError::Lines(line.clone()));
        }
        if let Some(argument) = self.command.iter().find(|argument| argument.contains('\0')) {
            return Err(ScriptError::Argument(argument.clone()));
        }
        if self.spares >= self.nodes {
            return Err(ScriptError::Spares { spares: self.spares, nodes: self.nodes });
        }
        let seconds = seconds(&self.time).ok_or_else(|| ScriptError::Time(self.time.clone()))?;
        if self.lead > 0 && self.lead >= seconds {
            return Err(ScriptError::Lead { lead: self.lead, seconds });
        }
        Ok(seconds)
    }

    /// The script.
    ///
    /// # Errors
    /// What is wrong with what was asked for.
    pub fn script(&self) -> Result<String, ScriptError> {
        let seconds = self.check()?;
        let lead = if self.lead > 0 { self.lead } else { LEAD.min(seconds / 4) };
        let mut text = String::from("#!/bin/bash\n");
        let mut put = |line: &str| {
            text.push_str(line);
            text.push('\n');
        };
        let arguments = if self.command.is_empty() { " PROGRAM ARGUMENTS..." } else { "" };
        put("# A job that comes back by itself, under `piton run`. Made by `piton slurm script`.");
        match self.again {
            Again::Chain => {
                put("# Submit as many as it may take; each goes on where the one before it stopped:");
                put(&format!("#   for i in 1 2 3; do sbatch SCRIPT{arguments}; done"));
            }
            Again::Requeue | Again::Never => put(&format!("# Submit it: sbatch SCRIPT{arguments}")),
        }
        put("");
        let option = |name: &str, value: &dyn std::fmt::Display| format!("#SBATCH --{name}={value}");
        put(&option("job-name", &self.name));
        for (name, value) in [("account", &self.account), ("partition", &self.partition), ("qos", &self.qos)] {
            value.iter().for_each(|value| put(&option(name, value)));
        }
        match self.spares {
            0 => {}
            1 => put("# One of the nodes stands by, and computes where another one is lost."),
            spares => put(&format!("# {spares} of the nodes stand by, and compute where others are lost.")),
        }
        put(&option("nodes", &self.nodes));
        put(&option("ntasks-per-node", &self.ranks_per_node));
        if self.cpus_per_rank > 0 {
            put(&option("cpus-per-task", &self.cpus_per_rank));
        }
        put(&option("time", &self.time));
        if let Some(array) = &self.array {
            put(&option("array", array));
        }
        put("# One file for all starts of the job: without `append` each start would empty it.");
        put(&option("output", if self.array.is_some() { &"%x-%A_%a.out" } else { &"%x-%j.out" }));
        put("#SBATCH --open-mode=append");
        if self.nodes > 1 && (self.spares > 0 || self.again == Again::Requeue) {
            put(
                "# Where a node is lost, the script lives on: piton launches the job again within seconds, and does not wait for Slurm to notice.",
            );
            put("#SBATCH --no-kill");
        }
        match self.again {
            Again::Requeue => {
                put(
                    "# Slurm may start the job again: after the loss of this script's node, a preemption, and when piton gives it back.",
                );
                put("#SBATCH --requeue");
            }
            Again::Chain => {
                put("# Of all jobs with this name one runs at a time.");
                put("#SBATCH --dependency=singleton");
                put("#SBATCH --no-requeue");
            }
            Again::Never => {}
        }
        put(&format!(
            "# {lead} s before the time is up, and up to {SLACK} s earlier, piton is told: it has a last checkpoint taken, and ends with status 75{}.",
            if self.again == Again::Requeue { " after it has given the job back" } else { "" }
        ));
        put(&format!("#SBATCH --signal=B:USR1@{lead}"));
        if self.preemptible {
            put(
                "# A job that comes first may take the nodes: Slurm tells the ranks by SIGTERM, they take a checkpoint within the partition's GraceTime, and",
            );
            put(
                "# piton gives the job back. Where GraceTime is shorter than that takes, the newest checkpoint before it counts.",
            );
        }
        if !self.options.is_empty() {
            put("# As asked for.");
            self.options.iter().for_each(|option| put(&format!("#SBATCH {option}")));
        }
        put("");
        if !self.setup.is_empty() {
            self.setup.iter().for_each(|line| put(line));
            put("");
        }
        if self.cpus_per_rank > 0 {
            put(
                "# srun does not pass on by itself how many processors a rank has; rayon and OpenMP do as they are told.",
            );
            put("export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK");
            put("export RAYON_NUM_THREADS=$SLURM_CPUS_PER_TASK OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK");
            put("");
        }
        if self.array.is_some() {
            put("# Each task of the array has checkpoints of its own.");
            put("export PITON_DIR=${PITON_DIR:-piton}/$SLURM_ARRAY_TASK_ID");
            put("");
        }
        if self.mpi.as_deref() == Some("pmi2") {
            put(
                "# MPICH before 4.2 hangs in MPI_Finalize now and then. Ranks that live on so long after the job has finished are ended; give them longer",
            );
            put("# where the program itself has more to do then.");
            put("export PITON_LINGER_MAX=${PITON_LINGER_MAX:-10min}");
            put("");
        }
        let mut line = String::from("exec piton run");
        // Never fails, into a text.
        let _ = (self.spares > 0).then(|| write!(line, " --spares {}", self.spares));
        line += if self.again == Again::Requeue { " --requeue" } else { "" };
        line += if self.oversubscribe { " --oversubscribe" } else { "" };
        let _ = self.mpi.as_ref().map(|mpi| write!(line, " --mpi {mpi}"));
        line += " --resume -- ";
        if self.command.is_empty() {
            line += "\"$@\"";
            put("[ $# -gt 0 ] || { echo \"sbatch SCRIPT PROGRAM ARGUMENTS...\" >&2; exit 2; }");
        } else {
            line += &shell_words::join(&self.command);
        }
        put(
            "# It takes the script's place, so that Slurm's signals come to it; --resume goes on from the newest checkpoint, where there is one.",
        );
        put(&line);
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> Wanted {
        Wanted {
            name: "tsunami".into(),
            nodes: 5,
            ranks_per_node: 32,
            time: "24:00:00".into(),
            spares: 1,
            ..Wanted::default()
        }
    }

    #[test]
    fn each_wish_has_its_lines() {
        let script = |change: fn(&mut Wanted)| {
            let mut wanted = wanted();
            change(&mut wanted);
            wanted.script().unwrap_or_else(|error| panic!("{error}"))
        };
        let usual = script(|_| ());
        for line in [
            "#SBATCH --nodes=5",
            "#SBATCH --ntasks-per-node=32",
            "#SBATCH --time=24:00:00",
            "#SBATCH --no-kill",
            "#SBATCH --requeue",
            "#SBATCH --open-mode=append",
            "#SBATCH --signal=B:USR1@300",
            "exec piton run --spares 1 --requeue --resume -- \"$@\"",
        ] {
            assert!(usual.lines().any(|found| found == line), "{line}:\n{usual}");
        }
        let chain = script(|wanted| wanted.again = Again::Chain);
        assert!(chain.contains("--dependency=singleton") && !chain.contains("--requeue "), "{chain}");
        let array = script(|wanted| wanted.array = Some("0-9%4".into()));
        assert!(array.contains("#SBATCH --array=0-9%4\n") && array.contains("export PITON_DIR="), "{array}");
        let one = script(|wanted| (wanted.nodes, wanted.spares, wanted.cpus_per_rank) = (1, 0, 16));
        assert!(
            !one.contains("--no-kill") && one.contains("RAYON_NUM_THREADS=") && one.contains("--cpus-per-task=16"),
            "{one}"
        );
        // The signal of a short job comes when a quarter of it is left.
        assert!(script(|wanted| wanted.time = "10".into()).contains("--signal=B:USR1@150\n"));
        let command = script(|wanted| wanted.command = ["./sea", "--title", "it's $5"].map(str::to_owned).to_vec());
        assert!(command.ends_with("--resume -- ./sea --title 'it'\\''s $5'\n"), "{command}");
        let asked = script(|wanted| wanted.options = vec!["--mem=0".into(), "--exclusive".into()]);
        assert!(asked.contains("#SBATCH --mem=0\n#SBATCH --exclusive\n"), "{asked}");
        // Options after the first command are none for Slurm.
        for script in [usual, chain, array, one, command, asked] {
            let first = script.lines().position(|line| !line.is_empty() && !line.starts_with('#')).expect("a command");
            assert!(script.lines().skip(first).all(|line| !line.starts_with("#SBATCH")), "{script}");
        }
    }

    #[test]
    fn nothing_that_is_given_becomes_more_than_it_is() {
        let refused = |change: fn(&mut Wanted)| {
            let mut wanted = wanted();
            change(&mut wanted);
            wanted.script().expect_err("it is wrong")
        };
        assert!(matches!(refused(|wanted| wanted.name = "a b".into()), ScriptError::Word { what: "name", .. }));
        assert!(matches!(
            refused(|wanted| wanted.account = Some("x\n#SBATCH --uid=0".into())),
            ScriptError::Word { .. }
        ));
        assert!(matches!(refused(|wanted| wanted.partition = Some("-h".into())), ScriptError::Word { .. }));
        assert!(matches!(refused(|wanted| wanted.options = vec!["--mem=0 --uid=0".into()]), ScriptError::Option(_)));
        assert!(matches!(refused(|wanted| wanted.setup = vec!["a\nb".into()]), ScriptError::Lines(_)));
        assert!(matches!(refused(|wanted| wanted.spares = 5), ScriptError::Spares { spares: 5, nodes: 5 }));
        assert!(matches!(refused(|wanted| (wanted.time, wanted.lead) = ("5".into(), 300)), ScriptError::Lead { .. }));
        assert!(matches!(refused(|wanted| wanted.command = vec!["a\0b".into()]), ScriptError::Argument(_)));
    }

    #[test]
    fn times_are_read_as_slurm_reads_them() {
        for (text, expected) in [
            ("30", 1800),
            ("1:30", 90),
            ("2:00:00", 7200),
            ("1-12", 129_600),
            ("1-12:30", 131_400),
            ("1-00:00:01", 86_401),
        ] {
            assert_eq!(seconds(text), Some(expected), "{text}");
        }
        for text in ["", "0", "x", "1:2:3:4", "-5", "1-", "1-2:3:4:5", "+3", "1h", "99999999999"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }

    /// The scripts in `slurm/` of the repository, and what they are made from.
    fn ready() -> Vec<(&'static str, Wanted)> {
        let base = || Wanted {
            name: "job".into(),
            nodes: 5,
            ranks_per_node: 32,
            time: "24:00:00".into(),
            ..Wanted::default()
        };
        vec![
            ("openmpi.sh", Wanted { spares: 1, mpi: Some("pmix".into()), ..base() }),
            ("mpich.sh", Wanted { spares: 1, mpi: Some("pmi2".into()), ..base() }),
            ("rayon.sh", Wanted { nodes: 1, ranks_per_node: 1, cpus_per_rank: 32, ..base() }),
            (
                "array.sh",
                Wanted { nodes: 1, ranks_per_node: 1, cpus_per_rank: 8, array: Some("1-100%10".into()), ..base() },
            ),
            ("preemptible.sh", Wanted { spares: 1, preemptible: true, partition: Some("low".into()), ..base() }),
            ("chain.sh", Wanted { spares: 1, again: Again::Chain, ..base() }),
        ]
    }

    #[test]
    fn the_ready_scripts_are_what_this_prints() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../slurm");
        for (name, wanted) in ready() {
            let path = folder.join(name);
            let script = wanted.script().unwrap_or_else(|error| panic!("{name}: {error}"));
            let found = std::fs::read_to_string(&path).unwrap_or_default();
            assert_eq!(found, script, "{name}: `cargo test -p piton-cli --lib write_the_ready -- --ignored` writes it");
        }
    }

    #[test]
    #[ignore = "writes slurm/*.sh: run it by name when scripts have changed"]
    fn write_the_ready_scripts() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../slurm");
        for (name, wanted) in ready() {
            let script = wanted.script().unwrap_or_else(|error| panic!("{name}: {error}"));
            std::fs::write(folder.join(name), script).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }
}
