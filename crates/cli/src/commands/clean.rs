//! `piton clean`: removes what ended jobs have left on this node.

use crate::Common;
use crate::exit::Outcome;
use crate::output::Output;
use piton::watch::board::folder;
use piton_cli::leftovers::{Places, remove};

/// Remove what ended jobs of this user have left on this node: boards, shared memory of MPI libraries, session folders of mpirun
///
/// A job that was killed as a whole could not do so itself. What a process has open or mapped stays, and so does what is younger than ten seconds; stores are
/// never touched. `piton run` and its agents do the same when they end.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  piton clean\n  piton clean --json | jq length\n\n\
                  In an epilog of Slurm, which runs as root:\n  runuser -u \"$SLURM_JOB_USER\" -- piton clean")]
pub struct Clean {}

impl Clean {
    /// Removes it, and prints what.
    ///
    /// # Errors
    /// What is wrong with the configuration; where nothing can be printed.
    pub fn run(&self, common: &Common, output: &mut Output) -> anyhow::Result<Outcome> {
        let settings = common.settings(None)?;
        let removed = remove(&Places::of_node(folder(&settings.board)));
        if output.is_json() {
            output.json(&removed)?;
        } else {
            removed.iter().try_for_each(|path| output.line(format!("removed {}", path.display())))?;
        }
        Ok(Outcome::Done)
    }
}
