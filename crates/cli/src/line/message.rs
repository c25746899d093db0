//! What agents and supervisor say to each other.
//!
//! Comes in: values. Goes out: bytes in postcard's form, and back. What must hold: what is read is within bounds, and takes no more memory
//! than a small multiple of its bytes; numbers that are none are left out rather than passed on.

use super::frame::BODY_LIMIT;
use piton::watch::{Action, Change, Finding, Kind, Severity};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const NAME_LONGEST: usize = 255;
const PATH_LONGEST: usize = 4096;
const RANKS_MOST: usize = 8192;
const CHANGES_MOST: usize = 1024;
const SAMPLES_MOST: usize = 4096;
const LABELS_MOST: usize = 64;
const TEXT_LONGEST: usize = 128 << 10;

/// Why bytes are no message, or a message does not fit in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// The bytes are none.
    #[error("the bytes are no message")]
    Malformed,
    /// There is more in it than any message has.
    #[error("the message has more {0} than any may have")]
    TooMuch(&'static str),
    /// It does not fit in a frame.
    #[error("the message does not fit in a frame")]
    TooLong,
}

/// Who an agent is: the first that it says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// The node's name.
    pub node: String,
    /// What tells this run of the node's system from others.
    pub boot_id: String,
    /// The agent's process.
    pub pid: u32,
    /// A port of the agent's that takes connections, so that it can be asked a second way; none has it 0.
    pub port: u16,
    /// The library's version.
    pub version: String,
}

/// Whether a rank lives, as far as its agent sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Life {
    /// Its process runs.
    Alive,
    /// Its process is stopped, or waits in the kernel for long.
    Stuck,
    /// Its process ended.
    Ended,
    /// It has ended its session by itself; its process may still run.
    Left,
}

/// One rank as its agent sees it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RankRecord {
    /// The rank.
    pub rank: u32,
    /// Its process.
    pub pid: u32,
    /// Whether it lives.
    pub life: Life,
    /// How long ago it gave its last sign of life, in milliseconds.
    pub age_ms: u32,
    /// The step that it has reached.
    pub step: u64,
    /// Steps that it has computed in this attempt.
    pub steps: u64,
    /// What it is doing, by the number of the phase.
    pub phase: u16,
    /// How long its last step took, seconds; 0 where that is unknown.
    pub step_seconds: f32,
    /// How much of it was computing, seconds.
    pub compute_seconds: f32,
}

/// The attempt whose ranks an agent sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// The supervisor's launch that it belongs to.
    pub launch: u32,
    /// The job.
    pub job: String,
    /// The store.
    pub store: String,
    /// The attempt's number.
    pub epoch: u64,
    /// How many ranks the job has.
    pub world: u32,
}

/// What an agent says regularly.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Report {
    /// Counts the agent's reports, also those that were never sent.
    pub sequence: u64,
    /// When it was made, in nanoseconds of the node's monotonic clock.
    pub mono_ns: u64,
    /// By how much the agent itself was late, seconds: so much longer may the next one take.
    pub late: f32,
    /// The attempt that the node's ranks belong to, where there is one.
    pub attempt: Option<Attempt>,
    /// The node's ranks.
    pub ranks: Vec<RankRecord>,
    /// What the agent found.
    #[serde(with = "changes")]
    pub changes: Vec<Change>,
    /// What it measured that nodes are compared by: series as text, how they behave, and values.
    pub samples: Vec<(String, Kind, f64)>,
}

/// What an agent says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum FromAgent {
    /// Who it is.
    Join(Join),
    /// All that it has found and not taken back: whatever else it said before is over. Follows [`Self::Join`]; where it is too much
    /// for one message, [`Self::Changes`] follows with the rest.
    Standing(#[serde(with = "changes")] Vec<Change>),
    /// More of what it found.
    Changes(#[serde(with = "changes")] Vec<Change>),
    /// How its node and ranks are.
    Report(Report),
    /// The answer to [`ToAgent::Ping`].
    Pong {
        /// The ping's.
        token: u64,
    },
    /// The answer to [`ToAgent::DumpStacks`].
    Stacks {
        /// Of which rank.
        rank: u32,
        /// One line a frame.
        text: String,
    },
    /// It leaves because it was told to, or all is done.
    Bye,
}

/// What the supervisor says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ToAgent {
    /// To be answered at once.
    Ping {
        /// To be sent back.
        token: u64,
    },
    /// The ranks are to take a checkpoint as soon as they can.
    Checkpoint {
        /// Why.
        reason: String,
    },
    /// The ranks on this node are to be ended.
    StopAttempt {
        /// Those of this launch, and of all before it.
        launch: u32,
        /// Why.
        reason: String,
        /// How long they may take to end by themselves, seconds.
        grace: f32,
    },
    /// The stacks of a rank, or of all on this node, are wanted.
    DumpStacks {
        /// Of which; none: of all.
        rank: Option<u32>,
    },
    /// All is over: the agent is to end ranks that are left, say goodbye and leave.
    Leave,
    /// The agent takes the place of one that had fallen silent, which is to be ended.
    Succeed {
        /// The process of the one before, on the same node.
        pid: u32,
    },
}

/// Changes in a form that leaves nothing out: what journals leave out where it says nothing must stand in bytes that don't
/// describe themselves.
mod changes {
    use super::{Action, BTreeMap, Change, Deserialize, Finding, Serialize, Severity};
    use serde::{Deserializer, Serializer};

    #[derive(Serialize, Deserialize)]
    enum Wire {
        Raised(String, Severity, BTreeMap<String, String>, String, Action, Option<f64>),
        Cleared(String, BTreeMap<String, String>),
    }

    pub fn serialize<S: Serializer>(changes: &[Change], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(changes.iter().map(|change| match change.clone() {
            Change::Raised(found) => {
                Wire::Raised(found.rule, found.severity, found.labels, found.summary, found.action, found.lasts)
            }
            Change::Cleared { rule, labels } => Wire::Cleared(rule, labels),
        }))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Change>, D::Error> {
        let wire = Vec::<Wire>::deserialize(deserializer)?;
        let change = |wire| match wire {
            Wire::Raised(rule, severity, labels, summary, action, lasts) => {
                let lasts = lasts.filter(|lasts: &f64| lasts.is_finite());
                Change::Raised(Finding { rule, severity, labels, summary, action, lasts })
            }
            Wire::Cleared(rule, labels) => Change::Cleared { rule, labels },
        };
        Ok(wire.into_iter().map(change).collect())
    }
}

fn within(count: usize, most: usize, what: &'static str) -> Result<(), MessageError> {
    if count <= most { Ok(()) } else { Err(MessageError::TooMuch(what)) }
}

fn check_changes(changes: &[Change]) -> Result<(), MessageError> {
    within(changes.len(), CHANGES_MOST, "findings")?;
    changes.iter().try_for_each(|change| match change {
        Change::Raised(Finding { labels, .. }) | Change::Cleared { labels, .. } => {
            within(labels.len(), LABELS_MOST, "labels")
        }
    })
}

impl FromAgent {
    /// As it is sent.
    ///
    /// # Errors
    /// [`MessageError::TooMuch`], [`MessageError::TooLong`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, MessageError> {
        self.check()?;
        to_bytes(self)
    }

    /// As it was sent, within bounds.
    ///
    /// # Errors
    /// [`MessageError::Malformed`], [`MessageError::TooMuch`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, MessageError> {
        let mut message: Self = from_bytes(bytes)?;
        message.check()?;
        if let Self::Report(report) = &mut message {
            report.samples.retain(|(.., value)| value.is_finite());
            let number = |value: &mut f32| *value = if value.is_finite() { value.max(0.0) } else { 0.0 };
            number(&mut report.late);
            for record in &mut report.ranks {
                number(&mut record.step_seconds);
                number(&mut record.compute_seconds);
            }
        }
        Ok(message)
    }

    fn check(&self) -> Result<(), MessageError> {
        match self {
            Self::Join(Join { node, boot_id, version, .. }) => {
                within(node.len(), NAME_LONGEST, "letters")?;
                within(boot_id.len().max(version.len()), NAME_LONGEST, "letters")?;
                let fit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
                if node.is_empty() || !node.chars().all(fit) { Err(MessageError::Malformed) } else { Ok(()) }
            }
            Self::Standing(changes) | Self::Changes(changes) => check_changes(changes),
            Self::Report(report) => {
                within(report.ranks.len(), RANKS_MOST, "ranks")?;
                within(report.samples.len(), SAMPLES_MOST, "samples")?;
                if let Some(attempt) = &report.attempt {
                    within(attempt.job.len(), NAME_LONGEST, "letters")?;
                    within(attempt.store.len(), PATH_LONGEST, "letters")?;
                }
                check_changes(&report.changes)
            }
            Self::Stacks { text, .. } => within(text.len(), TEXT_LONGEST, "letters"),
            Self::Pong { .. } | Self::Bye => Ok(()),
        }
    }
}

impl ToAgent {
    /// As it is sent.
    ///
    /// # Errors
    /// [`MessageError::TooMuch`], [`MessageError::TooLong`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, MessageError> {
        self.check()?;
        to_bytes(self)
    }

    /// As it was sent, within bounds.
    ///
    /// # Errors
    /// [`MessageError::Malformed`], [`MessageError::TooMuch`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, MessageError> {
        let mut message: Self = from_bytes(bytes)?;
        message.check()?;
        if let Self::StopAttempt { grace, .. } = &mut message
            && !(*grace >= 0.0 && grace.is_finite())
        {
            *grace = 0.0;
        }
        Ok(message)
    }

    fn check(&self) -> Result<(), MessageError> {
        match self {
            Self::Checkpoint { reason } | Self::StopAttempt { reason, .. } => within(reason.len(), 4096, "letters"),
            Self::Ping { .. } | Self::DumpStacks { .. } | Self::Leave | Self::Succeed { .. } => Ok(()),
        }
    }
}

fn to_bytes(message: &impl Serialize) -> Result<Vec<u8>, MessageError> {
    let bytes = postcard::to_stdvec(message).map_err(|_| MessageError::Malformed)?;
    if bytes.len() <= BODY_LIMIT { Ok(bytes) } else { Err(MessageError::TooLong) }
}

fn from_bytes<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, MessageError> {
    let (message, rest) = postcard::take_from_bytes(bytes).map_err(|_| MessageError::Malformed)?;
    if rest.is_empty() { Ok(message) } else { Err(MessageError::Malformed) }
}
