//! Everything that a journal can say.

use super::{Schedule, WallTime};
use crate::ids::{CheckpointId, Epoch};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How an attempt ended, where its end was its own doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// The application called `finish`: the job is done.
    Finished,
    /// It was asked to stop, and stopped after a checkpoint.
    Halted,
    /// The checkpointer was dropped without either.
    Dropped,
    /// The checkpointer was dropped by a panic.
    Panicked,
}

/// Something that happened. In the journal it is an object whose `kind` is the variant's name in snake case.
///
/// Durations whose names end in `_ns` are in nanoseconds, those in `seconds` in seconds; sizes are in bytes,
/// `raw_bytes` before compression.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
#[allow(missing_docs, reason = "the fields' names and the words above say what they are; the variants have their doc")]
pub enum Event {
    /// The attempt began.
    AttemptStarted {
        job: String,
        host: String,
        pid: u32,
        /// How many ranks there are.
        world: u32,
        /// Fingerprint of the program.
        program: String,
        /// Version of the library.
        version: String,
        /// What was asked for: `off`, `latest`, `required`, `fresh`, or a checkpoint.
        request: String,
        /// What tells this run of the node's system from others, where the system says so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        boot_id: Option<String>,
        /// The batch system's job, where there is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        batch_job: Option<String>,
        /// How often the batch system started that job again.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        batch_restarts: Option<u32>,
        /// When the batch system takes the nodes away, where it says so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        allocation_end: Option<WallTime>,
        /// The nodes that the ranks run on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        nodes: Option<u32>,
    },
    /// An older attempt of the job still seemed to run, and was taken over from.
    TookOver { epoch: Epoch },
    /// The settings in force that are not at their default, with where they came from.
    Configuration { settings: BTreeMap<String, String> },
    /// What was decided from the settings and the machine.
    Plan {
        threads: u32,
        state_bytes: u64,
        arena_bytes: u64,
        chunk_bytes: u64,
        mpi: Option<String>,
        /// Whether freezes copy only what was written: `on`, or why not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tracking: Option<String>,
    },
    /// How much memory this rank's copy of the state takes from now on; as it was planned first, and whenever that changes
    /// noticeably.
    StagingPlan {
        state_bytes: u64,
        /// What is copied, so that the application can go on.
        arena_bytes: u64,
        /// What is written while the application waits, since it does not fit.
        streamed_bytes: u64,
        /// Most that the copy may take; none is known where this is missing.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit_bytes: Option<u64>,
        /// Where the limit comes from.
        why: String,
    },
    /// The rank is alive and at this step.
    Beat { step: u64 },
    /// The state was restored, and the application goes on after `step`.
    Resumed {
        epoch: Epoch,
        id: CheckpointId,
        /// The step that the checkpoint was taken at: so many steps need not be computed again.
        step: u64,
        seconds: f64,
        bytes: u64,
        /// Whether the checkpoint was complete but not committed, and was committed now.
        rolled_forward: bool,
    },
    /// The application starts at its beginning.
    FreshStart { reason: String },
    /// The job had finished already: nothing is left to compute.
    AlreadyFinished { epoch: Epoch, id: CheckpointId, step: u64 },
    /// A checkpoint was tried for the resume and not taken.
    CandidateRejected { epoch: Epoch, id: CheckpointId, reason: String },
    /// A checkpoint was found damaged, and no attempt from now on will take it.
    SetAside { epoch: Epoch, id: CheckpointId, reason: String },
    /// A complete checkpoint of an attempt that died was committed by this one.
    RolledForward { epoch: Epoch, id: CheckpointId, step: u64 },
    /// A checkpoint began: all ranks freeze at this tick.
    CheckpointStarted { id: CheckpointId, tick: u64, step: u64, reason: String },
    /// The state of `bytes` was copied, and the application computes on.
    Frozen {
        id: CheckpointId,
        blocked_ns: u64,
        bytes: u64,
        /// How many of them were copied: fewer where only written pages are, or where some were streamed to the shard.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        copied_bytes: Option<u64>,
    },
    /// How this rank's fields are encoded, and the measurements that it was chosen by.
    Encoding {
        id: CheckpointId,
        /// The fields of each effort: `raw`, `fastest`, `auto`, `thorough` or `smallest`.
        efforts: BTreeMap<String, String>,
        /// The fields that get another effort while the storage has nothing to write, by that; missing: none.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        in_haste: BTreeMap<String, String>,
        storage_bytes_per_second: f64,
        /// Seconds that steps lose for each second of encoding and writing, 0 to 1.
        busy: f64,
        interval_seconds: f64,
        /// The threads that encode.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        threads: Option<u32>,
        /// Their priority: 0, that of the application, to 19, the lowest.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        nice: Option<u8>,
        /// What the shard is expected to take: stored bytes, and processor seconds of encoding.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expected_bytes: Option<u64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expected_seconds: Option<f64>,
    },
    /// This rank's shard is durable under its final name.
    ShardDurable {
        id: CheckpointId,
        bytes: u64,
        raw_bytes: u64,
        seconds: f64,
        /// The checkpoint whose chunks it refers to where they did not change; none: it is complete in itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        builds_on: Option<CheckpointId>,
        /// The share of the state that is not as in that one, 0 to 1, as far as it was compared.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        changed_share: Option<f64>,
    },
    /// This rank's part of the checkpoint holds numbers that the application said cannot be; it is kept. Chunks that did not change since the
    /// checkpoint that it builds on were not looked at.
    ValuesOutOfRange {
        id: CheckpointId,
        field: String,
        /// The first element that is wrong, by its number in the rank's own array.
        index: u64,
        /// Which of its numbers it is, where an element has several.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        component: Option<u64>,
        /// Where it lies in the global array, where the field is a block of one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        global: Option<Vec<u64>>,
        /// The number, as text: JSON has neither NaN nor infinity.
        value: String,
        /// How many numbers are wrong.
        count: u64,
        /// What they should be: `finite`, `within 0.0..=1.0`.
        bounds: String,
    },
    /// What writing the shard cost this rank's application besides the time it stood still: `lost_seconds` are what `steps` steps
    /// took more in these `seconds` than they would have at `step_seconds`, the time of a step when nothing is written.
    Slowed { id: CheckpointId, seconds: f64, steps: u64, step_seconds: f64, lost_seconds: f64 },
    /// The checkpoint is durable and committed.
    Committed {
        id: CheckpointId,
        step: u64,
        /// From the return of the call that froze it.
        commit_ns: u64,
        bytes: u64,
        raw_bytes: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        label: Option<String>,
    },
    /// When the next checkpoint is due by time, and what that follows from; at first, and whenever it changes noticeably.
    Scheduled(Box<Schedule>),
    /// What was measured on a node, by series as it is displayed: `node_load1`, `node_disk_io_now{device="sda"}`. What grows only,
    /// until whoever counts starts anew, is a counter.
    Sampled {
        node: String,
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        gauges: BTreeMap<String, f64>,
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        counters: BTreeMap<String, f64>,
    },
    /// Somebody foresees a failure of this rank's job, in `lead_seconds` where that is known.
    Predicted {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lead_seconds: Option<f64>,
        what: String,
    },
    /// Whoever started an earlier attempt knows how it ended: whether by a failure, whatever its journal suggests.
    EndExplained { epoch: Epoch, failure: bool, reason: String },
    /// Whoever watches found something wrong, with what speaks for it.
    Found {
        /// Which detector or rule says so: `RankDied`, `RanksDeadLocked`, and so on.
        rule: String,
        /// `info`, `warning` or `critical`.
        severity: String,
        /// Where: `node`, `rank`, and so on.
        labels: BTreeMap<String, String>,
        summary: String,
        /// What is to be done: `nothing`, `checkpoint`, `stop_attempt` or `mark_node`.
        action: String,
        /// Since its first sign, where there was one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        since_seconds: Option<f64>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        evidence: Vec<String>,
    },
    /// That is no longer so.
    Over { rule: String, labels: BTreeMap<String, String> },
    /// A checkpoint was due and not begun, on all ranks alike.
    Skipped { step: u64, reason: String },
    /// A checkpoint was begun and given up; the one before it stands.
    Dropped { id: CheckpointId, reason: String },
    /// Something went wrong; the job computes on.
    Problem {
        /// What was being done, in a few words.
        what: String,
        detail: String,
    },
    /// From now on everything is copied at each freeze: what the kernel says about written pages can't be relied on.
    TrackingOff { reason: String },
    /// A checkpoint was removed, since enough newer ones are committed.
    Retired { epoch: Epoch, id: CheckpointId },
    /// `piton compact` wrote a checkpoint once more, as this one, which is complete in itself.
    Compacted { from_epoch: Epoch, from: CheckpointId, id: CheckpointId, bytes: u64 },
    /// What an attempt that died left half-done was removed.
    Cleaned { epoch: Epoch, what: String },
    /// The checkpoints of the job were archived for a start afresh.
    Archived { epochs: Vec<Epoch> },
    /// Somebody asks for a checkpoint or a halt.
    RequestSeen { what: String },
    /// A supervisor launched the ranks of this attempt.
    Launched {
        /// The launch, from 1, in the supervisor's own count.
        launch: u32,
        /// By what.
        launcher: String,
        ranks: u32,
        nodes: Vec<String>,
    },
    /// A supervisor knows that the attempt has failed. Three more say of the same `failure`, a number that grows over a supervisor's run:
    /// where, what was done, and that it computes again.
    FailureDetected {
        failure: u32,
        /// The rule, or what the launcher did.
        class: String,
        summary: String,
    },
    /// Where the attempt has failed, as far as is known.
    FailureLocated {
        failure: u32,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rank: Option<u32>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        node: Option<String>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        evidence: Vec<String>,
    },
    /// What a supervisor does about a failure.
    FailureHandled {
        failure: u32,
        action: String,
        /// How long it lets the job rest before it launches it again; missing: not at all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        wait_seconds: Option<f64>,
    },
    /// A later attempt has computed a step, on all ranks, `seconds` after the failure was detected.
    FailureRecovered { failure: u32, step: u64, seconds: f64 },
    /// A supervisor launches the job no more: `outcome` says why.
    SupervisorEnded { outcome: String, launches: u32 },
    /// The ranks agree on nothing more in this attempt: there will be no further checkpoint.
    AgreementStopped { reason: String },
    /// The application was told to stop after this step.
    Halted { step: u64 },
    /// The job is done, with this as its final checkpoint.
    Finished {
        step: u64,
        /// Of the attempt that took the checkpoint: an earlier one where nothing was left to compute.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        epoch: Option<Epoch>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<CheckpointId>,
    },
    /// This writer's last record of the attempt, where its end was its own doing.
    AttemptEnded { how: End, step: u64 },
    /// Something is wrong: an alert began to fire.
    AlertFiring {
        /// What tells the alert from others, 16 hexadecimal digits.
        fingerprint: String,
        rule: String,
        /// `info`, `warning` or `critical`.
        severity: String,
        labels: BTreeMap<String, String>,
        summary: String,
        /// What is done besides telling: `nothing`, `checkpoint`, `stop_attempt` or `mark_node`.
        action: String,
    },
    /// It is no longer so, after `seconds`.
    AlertResolved { fingerprint: String, rule: String, labels: BTreeMap<String, String>, seconds: f64 },
    /// A receiver was told of these alerts, or not: the outcome says so.
    Notified {
        receiver: String,
        /// Their fingerprints.
        alerts: Vec<String>,
        outcome: String,
    },
    /// Lines up to this one were lost, because the journal could not be written.
    JournalGap { lost: u64 },
    /// A kind that this version does not know, or of another shape than it knows, as it stands in the journal.
    #[serde(untagged)]
    Unknown(serde_json::Value),
}

impl Event {
    /// A signal of this name came, and asked for something.
    ///
    /// ```
    /// let event = piton::journal::Event::of_signal("SIGTERM");
    /// assert!(event.is_of_signal("SIGTERM") && !event.is_of_signal("SIGUSR1"));
    /// ```
    #[must_use]
    pub fn of_signal(signal: &str) -> Self {
        Self::RequestSeen { what: format!("signal {signal}") }
    }

    /// Whether a signal of this name came, and asked for something.
    #[must_use]
    pub fn is_of_signal(&self, signal: &str) -> bool {
        matches!(self, Self::RequestSeen { what } if what.strip_prefix("signal ") == Some(signal))
    }

    /// The kind as the journal names it; empty where it names none.
    #[must_use]
    pub fn kind(&self) -> String {
        match self {
            Self::Unknown(value) => value.get("kind").and_then(|kind| kind.as_str()).unwrap_or_default().to_owned(),
            known => serde_json::to_value(known)
                .ok()
                .and_then(|value| value.get("kind")?.as_str().map(str::to_owned))
                .unwrap_or_default(),
        }
    }
}
