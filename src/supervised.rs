//! What a supervisor hands to the ranks that it starts, through their environment.
//!
//! Comes in: variables that no user sets. Goes out: which launch of which supervisor this is. What must hold: without them, or with nonsense in
//! them, a rank runs as if there were no supervisor.

use std::ffi::OsString;

/// The variable that tells one run of a supervisor from all others: up to 16 hexadecimal digits, not all zero.
pub const RUN_VARIABLE: &str = "PITON_INTERNAL_RUN";
/// The variable with the number of the launch within that run, from 1.
pub const LAUNCH_VARIABLE: &str = "PITON_INTERNAL_LAUNCH";
/// The variable that says `latest` where the job has to go on from its newest checkpoint whatever its command line says: a run that was begun
/// with `--fresh`, or from a certain checkpoint, has got further since.
pub const RESUME_VARIABLE: &str = "PITON_INTERNAL_RESUME";

/// Which launch of which supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Supervised {
    /// The supervisor's run; 0: there is none.
    pub run: u64,
    /// The launch within it, from 1; 0: there is no supervisor.
    pub launch: u32,
}

impl Supervised {
    /// What the environment of this process says.
    #[must_use]
    pub fn of_process() -> Self {
        Self::of(|name| std::env::var_os(name))
    }

    /// What the variables say that `variable` looks up.
    ///
    /// ```
    /// use piton::supervised::{LAUNCH_VARIABLE, RUN_VARIABLE, Supervised};
    /// let of = |name: &str| match name {
    ///     RUN_VARIABLE => Some("beef".into()),
    ///     LAUNCH_VARIABLE => Some("3".into()),
    ///     _ => None,
    /// };
    /// assert_eq!(Supervised::of(of), Supervised { run: 0xbeef, launch: 3 });
    /// assert_eq!(Supervised::of(|_| Some("x".into())), Supervised::default());
    /// ```
    #[must_use]
    pub fn of(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let text = |name| variable(name)?.into_string().ok();
        let run = text(RUN_VARIABLE).and_then(|run| u64::from_str_radix(&run, 16).ok());
        let launch = text(LAUNCH_VARIABLE).and_then(|launch| launch.parse().ok());
        run.zip(launch).map_or_else(Self::default, |(run, launch)| Self { run, launch })
    }

    /// Whether there is a supervisor.
    #[must_use]
    pub fn is_supervised(self) -> bool {
        self.run != 0
    }
}
