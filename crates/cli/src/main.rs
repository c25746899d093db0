//! The program `piton`: looks at, verifies and steers the checkpoints of a job.
//!
//! Comes in: a command line. Goes out: text for people, or one JSON value with `--json`, on standard output; problems
//! on standard error; and an exit status that scripts can rely on (see [`exit`]).
//! What must hold: it never links MPI; commands are thin, what they do lives in the library; nothing that a file holds
//! reaches the terminal unescaped.

mod agent;
mod commands;
mod exit;
mod jobs;
mod npy;
mod output;
mod plan;

use clap::{Parser, Subcommand};
use exit::Outcome;
use output::{Colour, Output};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

/// Looks at, verifies and steers the checkpoints of a job
#[derive(Debug, Parser)]
#[command(name = "piton", version, arg_required_else_help = true, after_help = exit::HELP)]
struct Arguments {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Debug, clap::Args)]
pub struct Common {
    /// The store, in place of PITON_DIR and of what piton.toml says
    #[arg(long, global = true, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// One JSON value on standard output, for programs
    #[arg(long, global = true)]
    json: bool,
    /// Whether to colour what is printed
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    color: Colour,
}

impl Common {
    /// The settings in force for `job`, by the same rules as in the library.
    ///
    /// # Errors
    /// What is wrong with the configuration.
    pub fn settings(&self, job: Option<&str>) -> anyhow::Result<piton::config::Settings> {
        let argument = self.dir.as_ref().map(|dir| {
            let mut argument = OsString::from("--piton.dir=");
            argument.push(dir);
            argument
        });
        Ok(piton::config::Settings::of_process(job, &piton::config::Layer::default(), argument)?)
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    Ls(commands::ls::Ls),
    Latest(commands::latest::Latest),
    ShouldResume(commands::latest::ShouldResume),
    Show(commands::show::Show),
    Verify(commands::verify::Verify),
    Export(commands::export::Export),
    Pin(commands::pin::Pin),
    Prune(commands::prune::Prune),
    Compact(commands::compact::Compact),
    Rm(commands::rm::Rm),
    Checkpoint(commands::request::Checkpoint),
    Halt(commands::request::Halt),
    Journal(commands::journal::Journal),
    Status(commands::status::Status),
    Schedule(commands::schedule::Schedule),
    Report(commands::report::Report),
    Top(commands::top::Top),
    Serve(commands::serve::Serve),
    Metrics(commands::metrics::Metrics),
    Agent(commands::agent::Agent),
    Rank(commands::rank::Rank),
    Run(commands::run::Run),
    Clean(commands::clean::Clean),
    Nodes(commands::nodes::Nodes),
    Slurm(commands::slurm::SlurmCommand),
    Plan(Box<commands::plan::Plan>),
    Health(commands::health::Health),
    Rules(commands::rules::RulesCommand),
    Config(commands::config::Config),
    Alert(commands::alert::AlertCommand),
}

fn run(arguments: &Arguments, output: &mut Output) -> anyhow::Result<Outcome> {
    match &arguments.command {
        Command::Ls(command) => command.run(&arguments.common, output),
        Command::Latest(command) => command.run(&arguments.common, output),
        Command::ShouldResume(command) => command.run(&arguments.common, output),
        Command::Show(command) => command.run(&arguments.common, output),
        Command::Verify(command) => command.run(&arguments.common, output),
        Command::Export(command) => command.run(&arguments.common, output),
        Command::Pin(command) => command.run(&arguments.common, output),
        Command::Prune(command) => command.run(&arguments.common, output),
        Command::Compact(command) => command.run(&arguments.common, output),
        Command::Rm(command) => command.run(&arguments.common, output),
        Command::Checkpoint(command) => command.run(&arguments.common, output),
        Command::Halt(command) => command.run(&arguments.common, output),
        Command::Journal(command) => command.run(&arguments.common, output),
        Command::Status(command) => command.run(&arguments.common, output),
        Command::Schedule(command) => command.run(&arguments.common, output),
        Command::Report(command) => command.run(&arguments.common, output),
        Command::Top(command) => command.run(&arguments.common, output),
        Command::Serve(command) => command.run(&arguments.common, output),
        Command::Metrics(command) => command.run(&arguments.common, output),
        Command::Agent(command) => command.run(&arguments.common, output),
        Command::Rank(command) => command.run(&arguments.common),
        Command::Clean(command) => command.run(&arguments.common, output),
        Command::Nodes(command) => command.run(&arguments.common, output),
        Command::Slurm(command) => command.run(&arguments.common, output),
        Command::Run(command) => command.execute(&arguments.common, output),
        Command::Plan(command) => command.run(&arguments.common, output),
        Command::Health(command) => command.run(&arguments.common, output),
        Command::Rules(command) => command.run(&arguments.common, output),
        Command::Config(command) => command.run(&arguments.common, output),
        Command::Alert(command) => command.run(&arguments.common, output),
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut output = Output::new(arguments.common.json, arguments.common.color);
    let result = run(&arguments, &mut output);
    let result = result.and_then(|outcome| output.finish().map(|()| outcome).map_err(Into::into));
    exit::code(result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent_and_every_command_has_an_example() {
        let command = Arguments::command();
        command.clone().debug_assert();
        for command in command.get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Examples:\n  piton "), "{}", command.get_name());
        }
    }
}
