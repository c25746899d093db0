//! The command line of the examples, without a parser crate.

use super::Failure;
use piton::{FinishError, OpenError, ResumeError};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// What an example is called, does, and takes.
#[derive(Debug)]
pub struct Example {
    /// Its name, as `cargo run --example` takes it.
    pub name: &'static str,
    /// What it does, for `--help`.
    pub summary: &'static str,
    /// Cells along x and y unless `--size` says else; `None` where the example has no grid.
    pub size: Option<[usize; 2]>,
    /// What one step is, for `--help`.
    pub step_is: &'static str,
    /// How many steps unless `--steps` says else.
    pub steps: u64,
    /// Options of its own.
    pub own: &'static [Own],
    /// Command lines to try, for `--help`.
    pub try_these: &'static [&'static str],
}

/// An option that only one example has; it takes a value.
#[derive(Debug)]
pub struct Own {
    /// With its dashes.
    pub flag: &'static str,
    /// What the value is called in `--help`.
    pub value: &'static str,
    /// One line.
    pub help: &'static str,
}

/// What a run was asked to do.
#[derive(Debug, Clone, PartialEq)]
pub struct Arguments {
    /// Cells along x and y.
    pub size: [usize; 2],
    /// The step at which the run ends.
    pub steps: u64,
    /// Compute threads in each rank.
    pub threads: Option<usize>,
    /// The least wall time of a step.
    pub pace: Duration,
    /// Who is to die, and when.
    pub kill: Option<Kill>,
    own: BTreeMap<&'static str, String>,
    piton: Vec<String>,
}

/// A rank that sends itself SIGKILL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kill {
    /// Which.
    pub rank: usize,
    /// After which step.
    pub step: u64,
}

/// Why a run ends before its end.
#[derive(Debug)]
pub enum Stop {
    /// `--help` was asked for; the text.
    Help(String),
    /// The arguments make no sense; every rank finds the same.
    Refused(String),
    /// Something went wrong, and every rank knows.
    Agreed(String),
    /// Something went wrong in this rank.
    Failed(String),
}

impl Stop {
    /// Arguments that make no sense for this run.
    pub fn refused(message: impl Into<String>) -> Self {
        Self::Refused(message.into())
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Help(text) | Self::Refused(text) | Self::Agreed(text) | Self::Failed(text)) = self;
        formatter.write_str(text)
    }
}

impl std::error::Error for Stop {}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        let failure = match failure.downcast::<Self>() {
            Ok(stop) => return *stop,
            Err(failure) => failure,
        };
        let lost = |error: &Failure| {
            matches!(error.downcast_ref(), Some(OpenError::Communication(_)))
                || matches!(error.downcast_ref(), Some(ResumeError::Communication(_)))
                || matches!(error.downcast_ref(), Some(FinishError::Communication(_)))
        };
        let of_piton = failure.is::<OpenError>() || failure.is::<ResumeError>() || failure.is::<FinishError>();
        let agreed = of_piton && !lost(&failure);
        let mut message = failure.to_string();
        let mut cause = failure.source();
        while let Some(error) = cause {
            message.push_str(&format!(": {error}"));
            cause = error.source();
        }
        if agreed { Self::Agreed(message) } else { Self::Failed(message) }
    }
}

impl Arguments {
    /// Reads them; `given` does not hold the name of the program.
    ///
    /// # Errors
    /// [`Stop::Help`] and [`Stop::Refused`].
    pub fn parse(example: &Example, given: impl IntoIterator<Item = String>) -> Result<Self, Stop> {
        let mut arguments = Self {
            size: example.size.unwrap_or([1, 1]),
            steps: example.steps,
            threads: None,
            pace: Duration::ZERO,
            kill: None,
            own: BTreeMap::new(),
            piton: Vec::new(),
        };
        let mut given = given.into_iter();
        while let Some(argument) = given.next() {
            let (flag, attached) = match argument.split_once('=') {
                Some((flag, value)) => (flag, Some(value.to_owned())),
                None => (argument.as_str(), None),
            };
            // What Piton reads from a command line, it checks itself.
            let for_piton = matches!(flag, "--resume")
                || (matches!(flag, "--fresh" | "--take-over") && attached.is_none())
                || (flag.strip_prefix("--piton.").is_some_and(|key| !key.is_empty()) && attached.is_some());
            if for_piton {
                arguments.piton.push(argument);
                continue;
            }
            if matches!(flag, "--help" | "-h") {
                return Err(Stop::Help(example.help()));
            }
            let own = example.own.iter().find(|own| own.flag == flag);
            let known = matches!(flag, "--steps" | "--every" | "--dir" | "--threads" | "--pace" | "--inject")
                || (flag == "--size" && example.size.is_some());
            if !known && own.is_none() {
                return Err(Stop::Refused(format!("unknown argument '{argument}'")));
            }
            let value = match attached.or_else(|| given.next()) {
                Some(value) if !value.is_empty() => value,
                _ => return Err(Stop::Refused(format!("{flag} wants a value"))),
            };
            if let Some(own) = own {
                arguments.own.insert(own.flag, value);
                continue;
            }
            match flag {
                "--size" => arguments.size = size(&value)?,
                "--steps" => arguments.steps = number(flag, &value)?,
                // Said on the command line, so it goes before whatever a file or the environment says.
                "--every" => arguments.piton.push(format!("--piton.every_steps={}", at_least_one(flag, &value)?)),
                "--dir" => arguments.piton.push(format!("--piton.dir={value}")),
                "--threads" => arguments.threads = Some(at_least_one(flag, &value)?.min(1024) as usize),
                "--pace" => arguments.pace = Duration::from_millis(number(flag, &value)?),
                _ => arguments.kill = Some(kill(&value)?),
            }
        }
        Ok(arguments)
    }

    /// What is for Piton, as it reads it.
    pub fn for_piton(&self) -> &[String] {
        &self.piton
    }

    /// The value of an option of the example's own.
    pub fn own(&self, flag: &str) -> Option<&str> {
        self.own.get(flag).map(String::as_str)
    }
}

fn number(flag: &str, value: &str) -> Result<u64, Stop> {
    value.parse().map_err(|_| Stop::Refused(format!("{flag} wants a whole number, not '{value}'")))
}

fn at_least_one(flag: &str, value: &str) -> Result<u64, Stop> {
    match number(flag, value)? {
        0 => Err(Stop::Refused(format!("{flag} must be at least 1"))),
        more => Ok(more),
    }
}

fn size(value: &str) -> Result<[usize; 2], Stop> {
    let refused = || Stop::Refused(format!("--size wants NXxNY, as in 480x364, each from 4 to 65536; not '{value}'"));
    let (x, y) = value.split_once('x').ok_or_else(refused)?;
    let side = |text: &str| text.parse().ok().filter(|cells| (4..=65536).contains(cells)).ok_or_else(refused);
    Ok([side(x)?, side(y)?])
}

fn kill(value: &str) -> Result<Kill, Stop> {
    let parsed = || {
        let (rank, step) = value.strip_prefix("kill-rank=")?.split_once('@')?;
        Some(Kill { rank: rank.parse().ok()?, step: step.strip_prefix("step=")?.parse().ok()? })
    };
    parsed().ok_or_else(|| Stop::Refused(format!("--inject wants kill-rank=R@step=S, not '{value}'")))
}

impl Example {
    fn help(&self) -> String {
        let mut lines = vec![self.summary.to_owned(), String::new(), "Options:".to_owned()];
        let mut option = |flag: &str, help: String| lines.push(format!("  {flag:<34} {help}"));
        if let Some([nx, ny]) = self.size {
            option("--size NXxNY", format!("cells from west to east and from south to north [{nx}x{ny}]"));
        }
        option("--steps N", format!("where the run ends; a step is {} [{}]", self.step_is, self.steps));
        option("--every N", "steps between two checkpoints [when it wastes least]".to_owned());
        option("--dir DIR", "the store: where the checkpoints live [piton]".to_owned());
        for own in self.own {
            option(&format!("{} {}", own.flag, own.value), own.help.to_owned());
        }
        option("--threads N", "compute threads in each rank [its share of the cores]".to_owned());
        option("--pace MILLISECONDS", "the least wall time of a step, to watch it [0]".to_owned());
        option("--inject kill-rank=R@step=S", "rank R sends itself SIGKILL after step S".to_owned());
        option(
            "--resume[=ID|latest|required|off]",
            "go on from the newest checkpoint, or from the one named".to_owned(),
        );
        option("--fresh", "start anew; the checkpoints that are there are archived".to_owned());
        option("--take-over", "resume even though an older attempt seems to be alive".to_owned());
        option("--piton.KEY=VALUE", "any setting of Piton's, as in its configuration file".to_owned());
        option("--help", "this text".to_owned());
        lines.extend([String::new(), "Try:".to_owned()]);
        lines.extend(self.try_these.iter().map(|line| format!("  {line}")));
        lines.extend([String::new(), "The last line of output is 'final state: HASH (step N)'.".to_owned()]);
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: Example = Example {
        name: "sample",
        summary: "A sample.",
        size: Some([8, 6]),
        step_is: "one",
        steps: 10,
        own: &[Own { flag: "--picture", value: "FILE", help: "a picture" }],
        try_these: &["sample --steps 3"],
    };

    fn parse(line: &str) -> Result<Arguments, Stop> {
        Arguments::parse(&EXAMPLE, line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn reads_every_flag_in_both_spellings() {
        let line = "--size 480x364 --steps=7 --every 2 --dir=a/b --threads 3 --pace 20 --picture x.png \
                    --inject kill-rank=2@step=40 --resume=latest --fresh --take-over --piton.keep=3";
        let read = parse(line).expect("all are known");
        assert_eq!((read.size, read.steps, read.threads), ([480, 364], 7, Some(3)));
        assert_eq!(read.pace, Duration::from_millis(20));
        assert_eq!(read.kill, Some(Kill { rank: 2, step: 40 }));
        assert_eq!(read.own.get("--picture").map(String::as_str), Some("x.png"));
        let for_piton = ["every_steps=2", "dir=a/b"].map(|setting| format!("--piton.{setting}"));
        let said = ["--resume=latest", "--fresh", "--take-over", "--piton.keep=3"].map(str::to_owned);
        assert_eq!(read.for_piton(), [&for_piton[..], &said].concat());
        let nothing = parse("").expect("none is needed");
        assert_eq!((nothing.size, nothing.for_piton()), ([8, 6], &[][..]));
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        let lines = [
            "--sizes 4x4",
            "4x4",
            "--size 4",
            "--size 3x9",
            "--size -4x9",
            "--every 0",
            "--steps",
            "--steps many",
            "--inject kill-rank=1",
            "--inject 1@2",
            "--piton.=3",
            "--piton.key",
            "--fresh=yes",
        ];
        for line in lines {
            assert!(matches!(parse(line), Err(Stop::Refused(_))), "{line}");
        }
        assert!(matches!(parse("--help"), Err(Stop::Help(text)) if text.contains("--picture FILE")));
    }
}
