//! Who may write: claims, and whether the process behind one still lives.
//!
//! Comes in: the store's claims. Goes out: an epoch that nobody else has.
//! What must hold: two attempts never hold the same epoch, on any file system where a hard link can't be made twice;
//! epochs only grow, even across a crash right after a claim. Whether an old attempt still lives is only a courtesy to the
//! user (two runs of one job started by mistake): safety rests on the epochs.

use crate::ids::Epoch;
use crate::watch::process::{host_name, start_ticks};
use serde::{Deserialize, Serialize};
use std::fs;

/// Version of a claim.
pub(super) const CLAIM_VERSION: u32 = 1;

/// The process of an attempt's first rank, named so that no other process is taken for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessIdentity {
    /// The node's name.
    pub host: String,
    /// The kernel's number of this boot, where the system has one.
    pub boot_id: Option<String>,
    /// The name space that the process number belongs to, where the system has such.
    pub pid_namespace: Option<String>,
    /// The process number.
    pub pid: u32,
    /// When the process started, in clock ticks since boot, where the system says so.
    pub start_ticks: Option<u64>,
    /// The Slurm job, inside of one.
    pub slurm_job: Option<String>,
    /// How often Slurm has requeued the job.
    pub slurm_restarts: u32,
}

/// What the claimant can say about an older process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Liveness {
    /// It is there.
    Alive,
    /// It is gone for certain.
    Gone,
    /// It can't be seen from here.
    Unknown,
}

impl ProcessIdentity {
    /// That of this process.
    #[must_use]
    pub fn current() -> Self {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self {
            host: host_name(),
            boot_id: read_trimmed("/proc/sys/kernel/random/boot_id"),
            pid_namespace: pid_namespace(),
            pid: std::process::id(),
            start_ticks: start_ticks(std::process::id()),
            slurm_job: variable("SLURM_JOB_ID"),
            slurm_restarts: variable("SLURM_RESTART_COUNT").and_then(|count| count.parse().ok()).unwrap_or(0),
        }
    }

    /// Whether this process, seen from the process `observer`, is still there.
    #[must_use]
    pub fn liveness(&self, observer: &Self) -> Liveness {
        let same_job = self.slurm_job.is_some() && self.slurm_job == observer.slurm_job;
        if same_job && observer.slurm_restarts > self.slurm_restarts {
            // Slurm starts a requeued job only when the old run has ended.
            return Liveness::Gone;
        }
        if self.host != observer.host || self.boot_id.is_none() || observer.boot_id.is_none() {
            return Liveness::Unknown;
        }
        if self.boot_id != observer.boot_id {
            // The same name after another boot; containers may share a name, but then not the name space.
            return if self.pid_namespace == observer.pid_namespace { Liveness::Gone } else { Liveness::Unknown };
        }
        if self.pid_namespace != observer.pid_namespace || self.start_ticks.is_none() {
            return Liveness::Unknown;
        }
        if start_ticks(self.pid) == self.start_ticks { Liveness::Alive } else { Liveness::Gone }
    }
}

fn read_trimmed(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn pid_namespace() -> Option<String> {
    fs::read_link("/proc/self/ns/pid").ok().map(|link| link.to_string_lossy().into_owned())
}

/// One attempt's right to write below its epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// The attempt's number.
    pub epoch: Epoch,
    /// The job.
    pub job: String,
    /// The first rank's process.
    pub process: ProcessIdentity,
    /// The number of ranks.
    pub world: u32,
    /// When the claim was made, in milliseconds since 1970 (UTC).
    pub created_unix_ms: u64,
    /// Whether a new lineage starts here (`--fresh`): checkpoints of older epochs are not resumed from.
    pub fresh: bool,
    /// How often the attempt's journal advances at the least, in milliseconds.
    pub journal_beat_ms: u64,
    /// The version of the library.
    pub library: String,
    /// A fingerprint of the program.
    pub program: String,
}

impl Claim {
    /// That of a program which writes into the job's store for a moment, as opposed to an attempt of the application.
    #[must_use]
    pub fn of_program(epoch: Epoch, job: &str, world: u32) -> Self {
        Self {
            epoch,
            job: job.to_owned(),
            process: ProcessIdentity::current(),
            world,
            created_unix_ms: super::unix_milliseconds(),
            fresh: false,
            journal_beat_ms: 1000,
            library: env!("CARGO_PKG_VERSION").to_owned(),
            program: "piton".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_from_another_of_its_number() {
        let own = ProcessIdentity::current();
        if own.start_ticks.is_none() {
            return; // A system without /proc can tell nothing.
        }
        assert_eq!(own.liveness(&own), Liveness::Alive);
        let earlier = ProcessIdentity { start_ticks: own.start_ticks.map(|t| t + 1), ..own.clone() };
        assert_eq!(earlier.liveness(&own), Liveness::Gone);
        let elsewhere = ProcessIdentity { host: "other".into(), ..own.clone() };
        assert_eq!(elsewhere.liveness(&own), Liveness::Unknown);
        let contained = ProcessIdentity { pid_namespace: Some("pid:[1]".into()), ..own.clone() };
        assert_eq!(contained.liveness(&own), Liveness::Unknown);
        let rebooted = ProcessIdentity { boot_id: Some("before".into()), ..own.clone() };
        assert_eq!(rebooted.liveness(&own), Liveness::Gone);
        let slurm = ProcessIdentity { slurm_job: Some("7".into()), host: "other".into(), ..own.clone() };
        let requeued = ProcessIdentity { slurm_job: Some("7".into()), slurm_restarts: 1, ..own };
        assert_eq!(slurm.liveness(&requeued), Liveness::Gone);
    }
}
