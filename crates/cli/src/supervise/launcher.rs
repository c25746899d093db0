//! The command lines of launchers.
//!
//! Comes in: the program with its arguments, how many ranks, on which nodes, and what the ranks' environment is to say. Goes out: a command. What
//! must hold: arguments never pass a shell, but those of a template that asks for one by itself; a launcher is told from another by
//! what it says of itself, not by its name.

use crate::bounded;
use crate::line::Secret;
use std::ffi::OsString;
use std::process::Command;
use std::time::Duration;

/// How long a launcher may take to say what it is.
const PATIENCE: Duration = Duration::from_secs(10);
const LONGEST: usize = 64 << 10;

/// What starts the ranks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Launcher {
    /// Nothing: the program is the one rank.
    Direct,
    /// OpenMPI's `mpirun`, with its major version.
    OpenMpi(String, u32),
    /// MPICH's `mpiexec` (hydra).
    Mpich(String),
    /// Slurm's `srun`, with its kind of MPI (`--mpi`).
    Srun(String),
    /// A site's own, by a template: words with `{ranks}`, `{hosts}` and `{command}`.
    Template(Vec<String>),
}

/// Why there is no launcher.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum LauncherError {
    /// It can't be run.
    #[error("{0} can't be run: {1}; name another with --launcher")]
    Missing(String, String),
    /// It says nothing that is known.
    #[error(
        "{0} is neither OpenMPI's nor MPICH's: give a template with --launcher, as in 'my-mpirun -n {{ranks}} {{command}}'"
    )]
    Unknown(String),
    /// Without the program nothing runs.
    #[error("a template for a launcher has {{command}} as a word of its own, for the program with its arguments")]
    NoCommand,
    /// It names something that is not known.
    #[error("{{{0}}} stands for nothing; there are {{{1}}}, {{hosts}} and {{command}}")]
    Placeholder(String, &'static str),
}

/// What is launched.
#[derive(Debug, Clone, Copy)]
pub struct Order<'a> {
    /// The program with its arguments.
    pub command: &'a [OsString],
    /// How many ranks.
    pub ranks: u32,
    /// The nodes, where there is more than this one.
    pub nodes: &'a [String],
    /// What the ranks find in their environment.
    pub environment: &'a [(String, String)],
    /// Whether each line that the job prints begins with its rank.
    pub label: bool,
    /// Whether nodes may get more ranks than they have processors for.
    pub oversubscribe: bool,
}

impl Launcher {
    /// What a user names: `direct`, a program such as `mpirun`, or a template.
    ///
    /// # Errors
    /// [`LauncherError`].
    pub fn named(name: &str) -> Result<Self, LauncherError> {
        if name == "direct" {
            return Ok(Self::Direct);
        }
        let words: Vec<String> = name.split_ascii_whitespace().map(str::to_owned).collect();
        match words.as_slice() {
            [program] => Self::of_program(program),
            _ => Self::template(words),
        }
    }

    fn template(words: Vec<String>) -> Result<Self, LauncherError> {
        check_template(&words, "ranks").map(|()| Self::Template(words))
    }

    /// Asks a launcher what it is.
    fn of_program(program: &str) -> Result<Self, LauncherError> {
        let shown = program.to_owned();
        let mut command = Command::new(program);
        command.arg("--version");
        let ran = bounded::run(command, Vec::new(), PATIENCE, LONGEST)
            .map_err(|error| LauncherError::Missing(shown.clone(), error.to_string()))?;
        let said = String::from_utf8_lossy(&ran.printed).into_owned() + &String::from_utf8_lossy(&ran.complained);
        Self::of_words(program, &said).ok_or(LauncherError::Unknown(shown))
    }

    /// By what `--version` says.
    fn of_words(program: &str, said: &str) -> Option<Self> {
        let lower = said.to_lowercase();
        // `mpirun (Open MPI) 5.0.11`, `mpirun.openmpi (OpenRTE) 4.1.4`; `HYDRA build details:`
        if let Some((_, version)) = ["Open MPI)", "OpenRTE)", "PRRTE)"].iter().find_map(|name| said.split_once(name)) {
            let major = version.trim_start().split('.').next().and_then(|major| major.parse().ok()).unwrap_or(4);
            return Some(Self::OpenMpi(program.to_owned(), major));
        }
        lower.contains("hydra").then(|| Self::Mpich(program.to_owned()))
    }

    /// What it is, for people and the journal.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Direct => "the program itself".to_owned(),
            Self::OpenMpi(program, major) => format!("{program} (OpenMPI {major})"),
            Self::Mpich(program) => format!("{program} (MPICH)"),
            Self::Srun(mpi) => format!("srun --mpi={mpi}"),
            Self::Template(words) => words.first().cloned().unwrap_or_default(),
        }
    }

    /// The command that launches the ranks.
    #[must_use]
    pub fn command(&self, order: &Order<'_>) -> Command {
        let mut words: Vec<OsString> = Vec::new();
        let ranks = order.ranks.to_string();
        let hosts = order.nodes.join(",");
        let each = order.ranks.div_ceil(u32::try_from(order.nodes.len()).unwrap_or(u32::MAX).max(1));
        let seats = order.nodes.iter().map(|node| format!("{node}:{each}")).collect::<Vec<_>>().join(",");
        let mut push = |some: &[&str]| words.extend(some.iter().map(OsString::from));
        match self {
            Self::Direct => {}
            Self::OpenMpi(program, major) => {
                let new = *major >= 5;
                push(&[program, "-n", &ranks]);
                if !order.nodes.is_empty() {
                    push(&["--host", &seats]);
                    // Its own defaults notice a lost node after minutes.
                    for (name, value) in [("time", "2"), ("intvl", "1"), ("probes", "3")] {
                        push(&[if new { "--prtemca" } else { "--mca" }, &format!("oob_tcp_keepalive_{name}"), value]);
                    }
                }
                if order.oversubscribe {
                    push(&["--oversubscribe"]);
                }
                if order.label {
                    push(if new { &["--output", "tag"] } else { &["--tag-output"] });
                }
                order.environment.iter().for_each(|(name, _)| push(&["-x", name]));
            }
            Self::Mpich(program) => {
                push(&[program, "-n", &ranks]);
                if !order.nodes.is_empty() {
                    push(&["-hosts", &seats]);
                }
                if order.label {
                    push(&["-prepend-rank"]);
                }
            }
            Self::Srun(mpi) => {
                // One rank that dies would leave the others hanging; a step that is dead already still holds its processors.
                push(&["srun", "--kill-on-bad-exit=1", "--overlap", &format!("--mpi={mpi}"), "-n", &ranks]);
                if !order.nodes.is_empty() {
                    push(&["-N", &order.nodes.len().to_string(), "-w", &hosts]);
                    let nodes = u32::try_from(order.nodes.len()).unwrap_or(u32::MAX);
                    // By itself it fills the first node and leaves one for each other.
                    if order.ranks.is_multiple_of(nodes) {
                        push(&["--ntasks-per-node", &(order.ranks / nodes).to_string()]);
                    }
                }
                if order.oversubscribe {
                    push(&["--overcommit"]);
                }
                if order.label {
                    push(&["--label"]);
                }
            }
            Self::Template(template) => words = fill(template, ("{ranks}", &ranks), &hosts, order.command),
        }
        if !matches!(self, Self::Template(_)) {
            words.extend(order.command.iter().cloned());
        }
        let mut command = command_of(words);
        command.envs(order.environment.iter().map(|(name, value)| (name, value)));
        if matches!(self, Self::OpenMpi(..) | Self::Mpich(_)) && !order.nodes.is_empty() {
            // Inside of a Slurm job they start their daemons by `srun`, which would wait for what a dead step still holds.
            command.env("SLURM_OVERLAP", "1");
        }
        command
    }
}

/// Whether the words of a template make sense; it may name `{hosts}`, `{command}` and how many of what.
fn check_template(words: &[String], count: &'static str) -> Result<(), LauncherError> {
    for word in words {
        for piece in word.split('{').skip(1) {
            let name = piece.split('}').next().unwrap_or_default();
            if ![count, "hosts", "command"].contains(&name) {
                return Err(LauncherError::Placeholder(name.to_owned(), count));
            }
        }
    }
    match words.iter().skip(1).any(|word| word == "{command}") {
        true => Ok(()),
        false => Err(LauncherError::NoCommand),
    }
}

/// The words of a template, filled in.
fn fill(template: &[String], count: (&str, &str), hosts: &str, command: &[OsString]) -> Vec<OsString> {
    let mut words: Vec<OsString> = Vec::new();
    for word in template {
        match word.as_str() {
            "{command}" => words.extend(command.iter().cloned()),
            _ => words.push(word.replace(count.0, count.1).replace("{hosts}", hosts).into()),
        }
    }
    words
}

/// A command of these words.
pub(super) fn command_of(words: Vec<OsString>) -> Command {
    let mut words = words.into_iter();
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words);
    command
}

/// What starts an agent on each of several nodes: a template with `{nodes}`, `{hosts}` and `{command}`; it hands on the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentStarter(Vec<String>);

impl AgentStarter {
    /// What a user gives.
    ///
    /// # Errors
    /// [`LauncherError::NoCommand`], [`LauncherError::Placeholder`].
    pub fn named(text: &str) -> Result<Self, LauncherError> {
        let words: Vec<String> = text.split_ascii_whitespace().map(str::to_owned).collect();
        check_template(&words, "nodes").map(|()| Self(words))
    }

    /// `srun`: a step beside the ranks, with one agent for each node, which lives on when another node is lost.
    #[must_use]
    pub fn srun() -> Self {
        let words = "srun --overlap --mem=0 --mpi=none --no-kill --kill-on-bad-exit=0 \
                     -N {nodes} -n {nodes} --ntasks-per-node=1 -w {hosts} {command}";
        Self(words.split_ascii_whitespace().map(str::to_owned).collect())
    }

    /// What serves beside a launcher of ranks; `None`: nobody knows.
    #[must_use]
    pub fn beside(launcher: &Launcher) -> Option<Self> {
        let words = match launcher {
            Launcher::Srun(_) => return Some(Self::srun()),
            Launcher::OpenMpi(program, _) => {
                vec![program, "-n", "{nodes}", "--host", "{hosts}", "-x", Secret::VARIABLE, "{command}"]
            }
            Launcher::Mpich(program) => vec![program, "-n", "{nodes}", "-hosts", "{hosts}", "{command}"],
            Launcher::Direct | Launcher::Template(_) => return None,
        };
        Some(Self(words.into_iter().map(str::to_owned).collect()))
    }

    /// The command that starts `agent` on these nodes.
    #[must_use]
    pub fn command(&self, nodes: &[&str], agent: &[OsString]) -> Command {
        command_of(fill(&self.0, ("{nodes}", &nodes.len().to_string()), &nodes.join(","), agent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(launcher: &Launcher, nodes: &[&str], label: bool) -> String {
        let command: Vec<OsString> = ["./sea", "--size", "a b"].map(Into::into).to_vec();
        let nodes: Vec<String> = nodes.iter().map(|node| (*node).to_owned()).collect();
        let environment = [("PITON_INTERNAL_RUN".to_owned(), "7".to_owned())];
        let order = Order {
            command: &command,
            ranks: 4,
            nodes: &nodes,
            environment: &environment,
            label,
            oversubscribe: label,
        };
        let command = launcher.command(&order);
        assert!(command.get_envs().any(|(name, value)| name == "PITON_INTERNAL_RUN" && value == Some("7".as_ref())));
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join("|")
    }

    #[test]
    fn launchers_are_told_by_what_they_say() {
        let of = |said: &str| Launcher::of_words("mpirun", said);
        assert_eq!(of("mpirun (Open MPI) 4.1.4\n\nReport bugs to"), Some(Launcher::OpenMpi("mpirun".into(), 4)));
        assert_eq!(of("mpirun.openmpi (OpenRTE) 4.1.4\n"), Some(Launcher::OpenMpi("mpirun".into(), 4)));
        assert_eq!(of("mpirun (Open MPI) 5.0.11\n"), Some(Launcher::OpenMpi("mpirun".into(), 5)));
        assert_eq!(of("HYDRA build details:\n    Version: 4.0.2\n"), Some(Launcher::Mpich("mpirun".into())));
        assert_eq!(of("Intel(R) MPI Library for Linux"), None);
        assert!(matches!(Launcher::named("piton-no-such-mpirun"), Err(LauncherError::Missing(..))));
        assert_eq!(Launcher::named("true"), Err(LauncherError::Unknown("true".into())));
        assert_eq!(Launcher::named("direct"), Ok(Launcher::Direct));
    }

    #[test]
    fn command_lines_are_what_each_launcher_takes() {
        assert_eq!(line(&Launcher::Direct, &[], false), "./sea|--size|a b");
        let open4 = Launcher::OpenMpi("mpirun".into(), 4);
        assert_eq!(
            line(&open4, &[], true),
            "mpirun|-n|4|--oversubscribe|--tag-output|-x|PITON_INTERNAL_RUN|./sea|--size|a b"
        );
        let with_nodes = line(&open4, &["n1", "n2"], false);
        assert!(with_nodes.starts_with("mpirun|-n|4|--host|n1:2,n2:2|--mca|oob_tcp_keepalive_time|2|"), "{with_nodes}");
        let open5 = line(&Launcher::OpenMpi("mpirun".into(), 5), &["n1"], true);
        assert!(open5.contains("|--prtemca|oob_tcp_keepalive_time|2|") && open5.contains("|--output|tag|"), "{open5}");
        let mpich = Launcher::Mpich("mpiexec".into());
        assert_eq!(line(&mpich, &["n1"], true), "mpiexec|-n|4|-hosts|n1:4|-prepend-rank|./sea|--size|a b");
        let srun = Launcher::Srun("pmix".into());
        assert_eq!(
            line(&srun, &["n1", "n2"], true),
            "srun|--kill-on-bad-exit=1|--overlap|--mpi=pmix|-n|4|-N|2|-w|n1,n2|--ntasks-per-node|2|--overcommit|--label|./sea|--size|a b"
        );
        let template = Launcher::named("flux run -n {ranks} --requires=hosts:{hosts} {command}").expect("a template");
        assert_eq!(line(&template, &["n1", "n2"], false), "flux|run|-n|4|--requires=hosts:n1,n2|./sea|--size|a b");
    }

    #[test]
    fn an_agent_is_started_on_each_node() {
        let agent: Vec<OsString> = ["piton", "agent", "--run", "7"].map(Into::into).to_vec();
        let line = |starter: &AgentStarter| {
            let command = starter.command(&["n1", "n2"], &agent);
            let words = std::iter::once(command.get_program()).chain(command.get_args());
            words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
        };
        let srun = AgentStarter::beside(&Launcher::Srun("pmix".into())).expect("srun does");
        let ends = "-N 2 -n 2 --ntasks-per-node=1 -w n1,n2 piton agent --run 7";
        assert!(line(&srun).starts_with("srun --overlap --mem=0 ") && line(&srun).ends_with(ends), "{}", line(&srun));
        let mpich = AgentStarter::beside(&Launcher::Mpich("mpiexec".into())).expect("mpiexec does");
        assert_eq!(line(&mpich), "mpiexec -n 2 -hosts n1,n2 piton agent --run 7");
        let open = AgentStarter::beside(&Launcher::OpenMpi("mpirun".into(), 4)).expect("mpirun does");
        assert_eq!(line(&open), "mpirun -n 2 --host n1,n2 -x PITON_INTERNAL_SECRET piton agent --run 7");
        let site = AgentStarter::named("pdsh -w {hosts} {command}").expect("a template");
        assert_eq!(line(&site), "pdsh -w n1,n2 piton agent --run 7");
        assert_eq!(AgentStarter::named("pdsh -w {hosts}"), Err(LauncherError::NoCommand));
        assert_eq!(
            AgentStarter::named("x {ranks} {command}"),
            Err(LauncherError::Placeholder("ranks".into(), "nodes"))
        );
        assert_eq!(AgentStarter::beside(&Launcher::Template(vec!["flux".into()])), None);
    }

    #[test]
    fn a_template_must_make_sense() {
        assert_eq!(Launcher::named("flux run -n {ranks}"), Err(LauncherError::NoCommand));
        assert_eq!(
            Launcher::named("flux run -n {rank} {command}"),
            Err(LauncherError::Placeholder("rank".into(), "ranks"))
        );
    }
}
