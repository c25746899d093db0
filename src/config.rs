//! Every setting of the library, from wherever the user gives it.
//!
//! Comes in: what the program's builder sets, the file `piton.toml`, `PITON_*` variables of the environment, and the
//! few arguments of the application that are ours. Goes out: [`Settings`], each value with its [`Origin`].
//! What must hold: [`SETTINGS`] is the only list of settings, and every consumer (parsing, the table of `piton config`,
//! the README, the sample file) is drawn from it; a later layer wins over an earlier one, in the order of [`Origin`];
//! what is unknown or nonsense is an error that names its place, never ignored; nothing of the user's is ever written.
//!
//! | layer | where |
//! | --- | --- |
//! | default | [`SETTINGS`] |
//! | builder | [`Layer::set`], by way of the checkpointer's builder |
//! | file | `piton.toml` in the current folder, or the file that `PITON_CONFIG` or `--piton.config=PATH` names |
//! | environment | `PITON_KEY`; an empty one counts as not set |
//! | command line | `--piton.KEY=VALUE`, `--resume`, `--resume=VALUE`, `--fresh`, `--take-over`; up to a lone `--` |
//!
//! The file has flat keys, and tables `[job.NAME]` whose keys win over the others for that job. A relative `dir` in it
//! is relative to the file.

use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

mod error;
mod interval;
mod source;
mod value;

pub use error::ConfigError;
pub use interval::{AllocationEnd, Every, MeanTime};
pub use source::reads_argument;
pub use value::{BoardPlace, Compression, Files, Listen, Log, Nice, Processors, ResumeRequest, StagingMax, Tracking};

pub(crate) use source::{line_at, read_text};
pub use value::parse_time;
pub(crate) use value::show_time;

use source::Assignment;
use value::{Form, FormValue};

/// The configuration file that is looked for in the current folder.
pub const FILE_NAME: &str = "piton.toml";

/// The variable that names another configuration file than [`FILE_NAME`].
pub const FILE_VARIABLE: &str = "PITON_CONFIG";

/// Variables that start so are not settings and are left alone: those of tests, of benchmarks, and those that Piton's
/// own processes hand to the ranks they start.
pub const RESERVED_VARIABLES: &[&str] = &["PITON_TEST_", "PITON_BENCH_", "PITON_INTERNAL_"];

/// Where a value came from; a later one wins over an earlier one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "layer", rename_all = "snake_case")]
pub enum Origin {
    /// The table of defaults.
    Default,
    /// The program itself, through the checkpointer's builder.
    Builder,
    /// A configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
    },
    /// The environment.
    Environment {
        /// The variable's name.
        variable: String,
    },
    /// The application's command line.
    CommandLine {
        /// The argument as it was given.
        argument: String,
    },
    /// The supervisor, which launched the job again.
    Supervisor,
}

impl Origin {
    fn layer(&self) -> u8 {
        match self {
            Self::Default => 0,
            Self::Builder => 1,
            Self::File { .. } => 2,
            Self::Environment { .. } => 3,
            Self::CommandLine { .. } => 4,
            Self::Supervisor => 5,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Builder => f.write_str("the program's builder"),
            Self::File { path, line } => write!(f, "{}, line {line}", path.display()),
            Self::Environment { variable } => write!(f, "environment variable {variable}"),
            Self::CommandLine { argument } => write!(f, "argument {argument}"),
            Self::Supervisor => f.write_str("the supervisor"),
        }
    }
}

/// What one setting is called, takes, and means.
#[derive(Debug)]
pub struct Setting {
    /// Its name in the file, on the command line and in the builder.
    pub key: &'static str,
    /// Its environment variable.
    pub environment: &'static str,
    /// The value in force where nobody says anything else, as one would write it.
    pub default: &'static str,
    /// What it means, in one line.
    pub doc: &'static str,
    form: Form,
    assign: fn(&mut Settings, &str) -> Result<(), String>,
    show: fn(&Settings) -> String,
}

impl Setting {
    /// What values it takes, in words.
    #[must_use]
    pub fn takes(&self) -> String {
        self.form.to_string()
    }

    /// The setting called `key`.
    #[must_use]
    pub fn find(key: &str) -> Option<&'static Self> {
        SETTINGS.iter().find(|setting| setting.key == key)
    }
}

/// One line of the table of the settings in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The setting's name.
    pub key: &'static str,
    /// The value in force, as one would write it.
    pub value: String,
    /// Where it came from.
    pub origin: Origin,
    /// What it means.
    pub doc: &'static str,
    /// Its environment variable.
    pub environment: &'static str,
}

macro_rules! settings {
    ($($key:ident: $type:ty = $default:literal, $environment:literal, $form:expr, $doc:literal;)*) => {
        /// All settings, in the order in which tables show them.
        pub static SETTINGS: &[Setting] = &[$(Setting {
            key: stringify!($key),
            environment: $environment,
            default: $default,
            doc: $doc,
            form: $form,
            assign: |settings, text| {
                settings.$key = <$type>::parse(&$form, text)?;
                Ok(())
            },
            show: |settings| settings.$key.show(&$form),
        },)*];

        /// The settings in force.
        ///
        /// They can be sent from one rank to the others (serde), so that all ranks work by the same values whatever
        /// each one's environment says.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        pub struct Settings {
            $(#[doc = $doc] pub $key: $type,)*
            /// The configuration file that was read, where there was one.
            pub file: Option<PathBuf>,
            // In the order of `SETTINGS`.
            origins: Vec<Origin>,
        }

        impl Default for Settings {
            fn default() -> Self {
                Self {
                    // A test reads every default with its own parser.
                    $($key: <$type>::parse(&$form, $default).unwrap_or_default(),)*
                    file: None,
                    origins: vec![Origin::Default; SETTINGS.len()],
                }
            }
        }
    };
}

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

settings! {
    dir: PathBuf = "piton", "PITON_DIR", Form::Folder,
        "the store: the folder that checkpoints of all jobs are kept in";
    resume: ResumeRequest = "off", "PITON_RESUME", Form::Resume,
        "whether to go on from a checkpoint; `latest` starts afresh where nothing was ever committed, `required` never";
    fresh: bool = "false", "PITON_FRESH", Form::Switch,
        "start afresh and archive the checkpoints that are there";
    take_over: bool = "false", "PITON_TAKE_OVER", Form::Switch,
        "start although an older attempt of the job still seems to run";
    every: Every = "auto", "PITON_EVERY", Form::Every,
        "time between checkpoints; `auto`: what wastes least, by what they cost and how often the job fails, as measured while it runs";
    min_interval: Duration = "off", "PITON_MIN_INTERVAL", Form::Time { least: Duration::ZERO, most: YEAR, zero: Some("off") },
        "no less than this between two checkpoints that `auto` chooses or a prediction asks for";
    max_interval: Duration = "off", "PITON_MAX_INTERVAL", Form::Time { least: Duration::ZERO, most: YEAR, zero: Some("off") },
        "no more than this between two checkpoints that `auto` chooses";
    every_steps: u64 = "off", "PITON_EVERY_STEPS", Form::Count { least: 0, most: u64::MAX, zero: Some("off") },
        "steps between checkpoints";
    mtbf: MeanTime = "auto", "PITON_MTBF", Form::MeanTime,
        "how often the whole job fails, until it has seen for itself; `auto`: from `site_failures` or `node_mtbf`, and the number of nodes";
    node_mtbf: MeanTime = "auto", "PITON_NODE_MTBF", Form::MeanTime,
        "how often one node fails; `auto`: once in 300 days";
    nodes: u32 = "auto", "PITON_NODES", Form::Count { least: 0, most: 10_000_000, zero: Some("auto") },
        "how many nodes the job has; `auto`: those that its ranks run on";
    site_failures: PathBuf = "off", "PITON_SITE_FAILURES", Form::File { none: "off" },
        "a file with the failures of the site's nodes: lines of nodes, days, failures, as in `400, 348, 584`";
    allocation_end: AllocationEnd = "auto", "PITON_ALLOCATION_END", Form::AllocationEnd,
        "when the nodes are taken away: a last checkpoint completes before; `auto`: when Slurm says so";
    keep: u32 = "2", "PITON_KEEP", Form::Count { least: 1, most: 1_000_000, zero: None },
        "how many of the newest checkpoints are kept";
    keep_every: u64 = "off", "PITON_KEEP_EVERY", Form::Count { least: 0, most: u64::MAX, zero: Some("off") },
        "checkpoints whose id is a multiple of this are kept for ever";
    chain: u32 = "8", "PITON_CHAIN", Form::Count { least: 1, most: 64, zero: None },
        "checkpoints in a row that may share what did not change between them; 1: each is complete in itself";
    files: Files = "rank", "PITON_FILES", Form::Files,
        "one file for each `rank`, or one for all ranks in a row on a `node`: fewer for the metadata servers of a parallel file system";
    group: bool = "false", "PITON_GROUP", Form::Switch,
        "the user's group may read the store";
    lag: u32 = "1", "PITON_LAG", Form::Count { least: 1, most: 64, zero: None },
        "ticks between asking all ranks and acting on the answer; pipelined codes whose ranks run apart raise it";
    round_target: Duration = "250ms", "PITON_ROUND_TARGET",
        Form::Time { least: Duration::from_millis(1), most: HOUR, zero: None },
        "how often the ranks ask each other whether a checkpoint is wanted";
    round_ticks_max: u64 = "10000", "PITON_ROUND_TICKS_MAX", Form::Count { least: 1, most: 1_000_000_000, zero: None },
        "at most this many ticks between two such rounds";
    agreement_timeout: Duration = "10min", "PITON_AGREEMENT_TIMEOUT",
        Form::Time { least: SECOND, most: WEEK, zero: None },
        "how long a rank waits for the others in a round before it gives up checkpoints for the rest of the attempt";
    commit_timeout: Duration = "30min", "PITON_COMMIT_TIMEOUT", Form::Time { least: SECOND, most: WEEK, zero: None },
        "how long a checkpoint may take until it is committed, or is dropped";
    threads: u32 = "auto", "PITON_THREADS", Form::Count { least: 0, most: 1024, zero: Some("auto") },
        "threads per rank that copy and encode; `auto`: the processors of the node shared among its ranks";
    cpus: Processors = "auto", "PITON_CPUS", Form::Processors,
        "processors that encoding and writing run on: a list as in `0-3,8`, those of the rank itself (`own`), or all that the job may use (`auto`)";
    nice: Nice = "auto", "PITON_NICE", Form::Nice,
        "how far encoding and writing give way to the application: 0 not at all, 19 most; `auto`: 5, but 0 where ranks leave no processor idle, since \
         they wait for each other";
    compression: Compression = "auto", "PITON_COMPRESSION", Form::Compression,
        "how hard to compress: `auto` decides from the data, the speed of the storage and how busy the processors are, `raw` never does, \
         a number is zstd's level";
    chunk: u64 = "512KiB", "PITON_CHUNK",
        Form::Size { least: 64 << 10, most: 16 << 20, zero: None, power_of_two: true },
        "size of the pieces that are compressed and checked alone";
    staging_max: StagingMax = "auto", "PITON_STAGING_MAX", Form::Staging { least: 1 << 20, most: 1 << 50 },
        "memory for the copy of the state: a size is that of each rank, a percentage is of the memory that the job may use on the node, \
         shared by its ranks there; `auto`: as large as the state, but no more than the node and its control groups have free. \
         What does not fit is written while the application waits";
    bandwidth_max: u64 = "off", "PITON_BANDWIDTH_MAX",
        Form::Size { least: 64 << 10, most: 1 << 50, zero: Some("off"), power_of_two: false },
        "bytes per second that each rank writes at most";
    tracking: Tracking = "auto", "PITON_TRACKING", Form::Tracking,
        "copy only the written pages of a `PagedVec`: `auto` where the kernel tells them and no RDMA, GPU or io_uring device is open, `on` asserts that none writes there";
    tracking_check: u64 = "16", "PITON_TRACKING_CHECK", Form::Count { least: 0, most: 1_000_000, zero: Some("never") },
        "every so many such copies, what was not copied is compared, to find what writes unseen";
    signals: bool = "true", "PITON_SIGNALS", Form::Switch,
        "SIGTERM asks for a checkpoint and to stop, SIGUSR1 for a checkpoint, unless the application or MPI handles or ignores them";
    request_poll: Duration = "500ms", "PITON_REQUEST_POLL",
        Form::Time { least: Duration::from_millis(10), most: HOUR, zero: None },
        "how often rank 0 looks for requests of `piton checkpoint` and `piton halt`";
    journal_beat: Duration = "5s", "PITON_JOURNAL_BEAT",
        Form::Time { least: Duration::from_millis(100), most: HOUR, zero: None },
        "how often a rank writes to the journal how far it is";
    board: BoardPlace = "auto", "PITON_BOARD", Form::BoardPlace,
        "where ranks say that they live and how far they are: a folder of the node's memory, `auto` (`/dev/shm`), or nowhere (`off`)";
    beat: Duration = "100ms", "PITON_BEAT", Form::Time { least: Duration::from_millis(10), most: HOUR, zero: None },
        "how often each rank says there that it lives";
    agent: bool = "true", "PITON_AGENT", Form::Switch,
        "a rank of each node watches the others, where no `piton agent` does";
    watch_period: Duration = "200ms", "PITON_WATCH_PERIOD", Form::Time { least: Duration::from_millis(10), most: HOUR, zero: None },
        "how often it looks at them";
    rules: PathBuf = "default", "PITON_RULES", Form::File { none: "default" },
        "a file of rules by which nodes and logs are judged, and who is told; the built-in ones hold beside it";
    sample: Duration = "10s", "PITON_SAMPLE", Form::Time { least: Duration::ZERO, most: HOUR, zero: Some("off") },
        "how often the node is looked at: processors, memory, disks, file systems, network, sensors";
    application_log: PathBuf = "off", "PITON_APPLICATION_LOG", Form::File { none: "off" },
        "a file that the application's output goes to, to be watched for messages of failures";
    launches_max: u32 = "100", "PITON_LAUNCHES_MAX", Form::Count { least: 0, most: 1_000_000, zero: Some("off") },
        "how often `piton run` launches a job at the most";
    launches_per_hour: u32 = "20", "PITON_LAUNCHES_PER_HOUR", Form::Count { least: 0, most: 1_000_000, zero: Some("off") },
        "and how often within an hour";
    quarantine_after: u32 = "2", "PITON_QUARANTINE_AFTER", Form::Count { least: 0, most: 1_000_000, zero: Some("off") },
        "a node that failed so often gets no ranks any more from `piton run`";
    quarantine_for: Duration = "7d", "PITON_QUARANTINE_FOR", Form::Time { least: Duration::from_secs(1), most: YEAR, zero: None },
        "for so long a failure of a node counts, also for other jobs of the store";
    linger_max: Duration = "off", "PITON_LINGER_MAX", Form::Time { least: Duration::from_secs(1), most: YEAR, zero: Some("off") },
        "`piton run` ends ranks that live on so long after their job has finished, as where they hang in `MPI_Finalize`; those that have stopped with a checkpoint within a minute anyway";
    http: Listen = "off", "PITON_HTTP", Form::Listen,
        "where `piton run` answers queries, and shows metrics and a live page: an address with a port, 0 for any that is free";
    http_token: PathBuf = "none", "PITON_HTTP_TOKEN", Form::File { none: "none" },
        "a file, readable for you alone, with the token that others must show; needed where other machines can reach that address";
    log: Log = "normal", "PITON_LOG", Form::Log,
        "what is printed to standard error: nothing, problems and resumes, or everything";
}

/// Settings given by one layer as text, before they are checked: what the checkpointer's builder collects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layer {
    values: Vec<(&'static str, String)>,
}

impl Layer {
    /// Gives the setting `key` the value `value`, written as in the file. Checked by [`Settings::load`].
    pub fn set(&mut self, key: &'static str, value: impl ToString) {
        self.values.push((key, value.to_string()));
    }
}

impl Settings {
    /// The settings in force for `job` (or for no job in particular), from everything that is given here and the
    /// configuration file that it leads to. Relative paths are taken from `folder`, the current one.
    ///
    /// # Errors
    /// The first setting that is unknown, or has a value that cannot be meant, and where it stands; a configuration
    /// file that cannot be read.
    pub fn load(
        job: Option<&str>,
        builder: &Layer,
        arguments: impl IntoIterator<Item = impl Into<OsString>>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        folder: &Path,
    ) -> Result<Self, ConfigError> {
        let command_line = source::from_arguments(arguments)?;
        let environment = source::from_environment(environment)?;
        let mut settings = Self::default();
        let builder = builder.values.iter().map(|(key, text)| Assignment::new(*key, text.clone(), Origin::Builder));
        let mut assignments: Vec<_> = builder.collect();
        let named = command_line.file.or(environment.file);
        if let Some(file) = source::from_file(job, named, folder)? {
            settings.file = Some(file.path);
            assignments.extend(file.assignments);
        }
        assignments.extend(environment.assignments);
        assignments.extend(command_line.assignments);
        assignments.extend(environment.supervisor);
        for assignment in assignments {
            settings.assign(assignment)?;
        }
        settings.dir = folder.join(&settings.dir);
        if !settings.site_failures.as_os_str().is_empty() {
            settings.site_failures = folder.join(&settings.site_failures);
        }
        settings.settle_fresh_or_resume()?;
        settings.check_bounds()?;
        Ok(settings)
    }

    /// As [`Self::load`], with the environment and the current folder of this process.
    ///
    /// # Errors
    /// Those of [`Self::load`], and a current folder that does not exist.
    pub fn of_process(
        job: Option<&str>,
        builder: &Layer,
        arguments: impl IntoIterator<Item = impl Into<OsString>>,
    ) -> Result<Self, ConfigError> {
        let folder = std::env::current_dir()
            .map_err(|source| ConfigError::File { path: PathBuf::from("."), source: source.into() })?;
        Self::load(job, builder, arguments, std::env::vars_os(), &folder)
    }

    fn assign(&mut self, assignment: Assignment) -> Result<(), ConfigError> {
        let Assignment { key, text, origin } = assignment;
        let Some(index) = SETTINGS.iter().position(|setting| setting.key == key) else {
            return Err(ConfigError::unknown_key(key, origin));
        };
        let setting = &SETTINGS[index];
        match (setting.assign)(self, &text) {
            Ok(()) => {
                // Paths in a file mean the same from wherever the job is started.
                if let Origin::File { path, .. } = &origin
                    && let Some(parent) = path.parent()
                {
                    match setting.key {
                        "dir" => self.dir = parent.join(&self.dir),
                        "site_failures" if !self.site_failures.as_os_str().is_empty() => {
                            self.site_failures = parent.join(&self.site_failures);
                        }
                        _ => {}
                    }
                }
                self.origins[index] = origin;
                Ok(())
            }
            Err(expected) => Err(ConfigError::Invalid { key: setting.key, value: text, origin, expected }),
        }
    }

    /// `fresh` and `resume` exclude each other: the later layer wins, and within one layer it is a contradiction.
    fn settle_fresh_or_resume(&mut self) -> Result<(), ConfigError> {
        if !self.fresh || self.resume == ResumeRequest::Off {
            return Ok(());
        }
        let (Some(fresh), Some(resume)) = (self.place("fresh"), self.place("resume")) else { return Ok(()) };
        let (of_fresh, of_resume) = (self.origins[fresh].clone(), self.origins[resume].clone());
        match of_fresh.layer().cmp(&of_resume.layer()) {
            std::cmp::Ordering::Equal => return Err(ConfigError::Contradiction { fresh: of_fresh, resume: of_resume }),
            std::cmp::Ordering::Greater => {
                self.resume = ResumeRequest::Off;
                self.origins[resume] = of_fresh;
            }
            std::cmp::Ordering::Less => {
                self.fresh = false;
                self.origins[fresh] = of_resume;
            }
        }
        Ok(())
    }

    fn check_bounds(&self) -> Result<(), ConfigError> {
        let (least, most) = (self.min_interval, self.max_interval);
        match (self.origin("min_interval"), self.origin("max_interval")) {
            (Some(of_least), Some(of_most)) if !most.is_zero() && least > most => Err(ConfigError::Bounds {
                least: of_least.clone(),
                least_value: value::show_time(least),
                most: of_most.clone(),
                most_value: value::show_time(most),
            }),
            _ => Ok(()),
        }
    }

    fn place(&self, key: &str) -> Option<usize> {
        SETTINGS.iter().position(|setting| setting.key == key)
    }

    /// Where the value of the setting `key` came from, or `None` where there is no such setting.
    #[must_use]
    pub fn origin(&self, key: &str) -> Option<&Origin> {
        self.origins.get(self.place(key)?)
    }

    /// Every setting with the value in force and where it came from.
    #[must_use]
    pub fn table(&self) -> Vec<Row> {
        SETTINGS
            .iter()
            .zip(&self.origins)
            .map(|(setting, origin)| Row {
                key: setting.key,
                value: (setting.show)(self),
                origin: origin.clone(),
                doc: setting.doc,
                environment: setting.environment,
            })
            .collect()
    }
}

/// Reads a time as settings are written: `90s`, `250ms`, `5min`, `1h30min`, or bare seconds.
///
/// ```
/// assert_eq!(piton::config::read_time("1h30min")?.as_secs(), 5400);
/// # Ok::<(), String>(())
/// ```
///
/// # Errors
/// What is expected instead.
pub fn read_time(text: &str) -> Result<Duration, String> {
    value::parse_time(text)
}

/// Reads a size in bytes as settings are written: `64MiB`, `1.5GB`, or bare bytes.
///
/// ```
/// assert_eq!(piton::config::read_size("1.5KiB")?, 1536);
/// # Ok::<(), String>(())
/// ```
///
/// # Errors
/// What is expected instead.
pub fn read_size(text: &str) -> Result<u64, String> {
    u64::parse(&Form::Size { least: 0, most: u64::MAX, zero: None, power_of_two: false }, text)
}

/// Reads a mean time between failures as settings are written: a time (`8h`), or failures in a time (`3/day`).
///
/// ```
/// assert_eq!(piton::config::read_mean_time("3/day")?, piton::config::read_time("8h")?);
/// # Ok::<(), String>(())
/// ```
///
/// # Errors
/// What is expected instead.
pub fn read_mean_time(text: &str) -> Result<Duration, String> {
    MeanTime::parse(&Form::MeanTime, text)?.0.ok_or_else(|| format!("it takes {}", Form::MeanTime))
}

/// The table of all settings for the README, in Markdown.
#[must_use]
pub fn markdown() -> String {
    let mut table = String::from("| setting | default | takes | meaning |\n| --- | --- | --- | --- |\n");
    for setting in SETTINGS {
        let Setting { key, default, doc, .. } = setting;
        table.push_str(&format!("| `{key}` | `{default}` | {} | {doc} |\n", setting.takes()));
    }
    table
}

/// A configuration file with every setting at its default, commented out.
#[must_use]
pub fn sample() -> String {
    let mut text = String::from(
        "# A sample of Piton's configuration file: every setting with its default, commented out.\n\
         #\n\
         # Read from `piton.toml` in the current folder, or from the file that PITON_CONFIG or --piton.config=PATH\n\
         # names. What the program's builder sets gives way to this file; the environment (PITON_KEY) and the command line\n\
         # (--piton.KEY=VALUE) win over it. `piton config` shows the values in force and where they came from.\n",
    );
    for setting in SETTINGS {
        let Setting { key, default, doc, .. } = setting;
        let plain = matches!(setting.form, Form::Switch) || default.bytes().all(|byte| byte.is_ascii_digit());
        let quote = if plain { "" } else { "\"" };
        text.push_str(&format!("\n# {}{}.\n", doc[..1].to_uppercase(), &doc[1..]));
        text.push_str(&format!("# Takes {}; environment variable {}.\n", setting.takes(), setting.environment));
        text.push_str(&format!("# {key} = {quote}{default}{quote}\n"));
    }
    text.push_str(
        "\n# Settings of one job win over the ones above, for that job.\n# [job.tsunami]\n# every = \"2min\"\n",
    );
    text
}

#[cfg(test)]
mod tests;
