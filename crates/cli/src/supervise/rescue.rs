//! What an agent does when the supervisor is gone: it may have been on a node that is lost.
//!
//! A job that lives on when a node is lost (`--no-kill`) lives on without its script, too, where that node was the script's: Slurm holds its nodes
//! until the time is up, and nobody launches anything any more. Agents on the other nodes are all that is left of it.
//!
//! Comes in: what Slurm says of the job and of its script's node. Goes out: the job, given back to Slurm. What must hold: a job whose script lives is
//! never touched, nor one that Slurm has started again meanwhile; every agent may try, the first one does it.

use crate::slurm::{self, JobSeen};
use std::thread;
use std::time::{Duration, Instant};

/// How often Slurm is asked.
const EVERY: Duration = Duration::from_secs(5);
/// For how long: it takes a node for lost after five minutes by default, and its controller may be away.
const PATIENCE: Duration = Duration::from_secs(1800);

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// Look again later.
    Wait,
    /// Give it back.
    Requeue,
    /// Leave it alone for good.
    Leave,
}

/// `restarts`: how often the job had been started again when this agent was; `is_down`: whether Slurm takes a node for lost, where it says.
fn verdict(seen: &JobSeen, restarts: u32, is_down: impl FnOnce(&str) -> Option<bool>) -> Verdict {
    if seen.state != "RUNNING" || seen.restarts != restarts {
        return Verdict::Leave;
    }
    match &seen.batch_host {
        None => Verdict::Leave,
        Some(host) if is_down(host) == Some(true) => Verdict::Requeue,
        Some(_) => Verdict::Wait,
    }
}

/// Waits until Slurm takes the script's node for lost, and gives the job back then; whether it did. `enough` ends the wait.
pub fn requeue_if_lost(job: &str, restarts: u32, enough: impl Fn() -> bool) -> bool {
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until && !enough() {
        let verdict = slurm::job(job).map_or(Verdict::Wait, |seen| {
            // Whatever can't be asked just now is asked again.
            verdict(&seen, restarts, |host| slurm::is_down(host).ok())
        });
        match verdict {
            Verdict::Leave => return false,
            Verdict::Requeue if slurm::requeue(job).is_ok() => return true,
            Verdict::Requeue | Verdict::Wait => {}
        }
        let next = Instant::now() + EVERY;
        while Instant::now() < next && !enough() {
            thread::sleep(Duration::from_millis(200));
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_job_without_its_scripts_node_is_given_back() {
        let job = |state: &str, restarts, host: Option<&str>| JobSeen {
            state: state.to_owned(),
            restarts,
            batch_host: host.map(str::to_owned),
        };
        let lost = |host: &str| Some(host == "n1");
        assert_eq!(verdict(&job("RUNNING", 0, Some("n1")), 0, lost), Verdict::Requeue);
        assert_eq!(verdict(&job("RUNNING", 0, Some("n2")), 0, lost), Verdict::Wait, "its script lives");
        assert_eq!(verdict(&job("RUNNING", 0, Some("n1")), 0, |_| None), Verdict::Wait, "nobody knows");
        // Somebody else was first.
        assert_eq!(verdict(&job("RUNNING", 1, Some("n1")), 0, lost), Verdict::Leave);
        assert_eq!(verdict(&job("PENDING", 1, None), 0, lost), Verdict::Leave);
        assert_eq!(verdict(&job("COMPLETING", 0, Some("n1")), 0, lost), Verdict::Leave);
        assert_eq!(verdict(&job("RUNNING", 0, None), 0, lost), Verdict::Leave);
    }
}
