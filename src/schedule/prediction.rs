//! Checkpoints ahead of failures that somebody foresees.
//!
//! Comes in: how predictions did so far: failures foreseen and not, and alarms that nothing followed. Goes out: how far they may
//! be trusted. What must hold: without a record they change nothing: the recall is 0 until it was measured.
//!
//! G. Aupy, Y. Robert, F. Vivien, D. Zaidouni, *Checkpointing algorithms and fault prediction*, JPDC 74 (2014): with a predictor that
//! foresees a share r of all failures (recall) and is right in a share p of its alarms (precision), the interval is √(2MC/(1−r)),
//! whatever p is; and an alarm is worth a checkpoint only where C/p has passed since the last one, for with probability p
//! it saves the work since then.

use serde::{Deserialize, Serialize};

/// No recall above this is believed: what was never foreseen must still find a recent checkpoint.
const RECALL_MOST: f64 = 0.9;

/// How predictions of this job did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TrackRecord {
    /// Failures that had been foreseen.
    pub foreseen: u32,
    /// Failures that had not.
    pub missed: u32,
    /// Predictions that nothing followed.
    pub false_alarms: u32,
}

impl TrackRecord {
    /// r: the share of failures that are foreseen; 0 until one was, and cautious after few.
    #[must_use]
    pub fn recall(&self) -> f64 {
        let (foreseen, missed) = (f64::from(self.foreseen), f64::from(self.missed));
        (foreseen / (foreseen + missed + 1.0)).min(RECALL_MOST)
    }

    /// p: the share of predictions that come true; a half before any did or did not.
    #[must_use]
    pub fn precision(&self) -> f64 {
        let (right, wrong) = (f64::from(self.foreseen), f64::from(self.false_alarms));
        (right + 0.5) / (right + wrong + 1.0)
    }
}

/// The interval √(2MC/(1−r)) with a predictor of recall `recall`; seconds.
///
/// ```
/// use piton::schedule::{young, young_with_prediction};
/// assert_eq!(young_with_prediction(600.0, 40_000.0, 0.0), young(600.0, 40_000.0));
/// assert_eq!(young_with_prediction(600.0, 40_000.0, 0.75), 2.0 * young(600.0, 40_000.0));
/// ```
#[must_use]
pub fn young_with_prediction(cost: f64, mtbf: f64, recall: f64) -> f64 {
    super::young(cost, unforeseen(mtbf, recall))
}

/// The mean time between failures that nobody foresees: M/(1−r).
pub(super) fn unforeseen(mtbf: f64, recall: f64) -> f64 {
    mtbf / (1.0 - recall.clamp(0.0, RECALL_MOST))
}

/// Whether a prediction is worth a checkpoint: at least C/p has passed since the last, and the checkpoint would be durable
/// (`latency` from now) before the failure (`lead` from now; unknown: it is hoped for). All in seconds.
///
/// ```
/// use piton::schedule::worth_acting;
/// assert!(worth_acting(100.0, 10.0, 0.5, Some(60.0), 5.0));
/// assert!(!worth_acting(10.0, 10.0, 0.5, Some(60.0), 5.0), "little is at stake");
/// assert!(!worth_acting(100.0, 10.0, 0.5, Some(3.0), 5.0), "it would come too late");
/// ```
#[must_use]
pub fn worth_acting(since_last: f64, cost: f64, precision: f64, lead: Option<f64>, latency: f64) -> bool {
    since_last * precision >= cost && lead.is_none_or(|lead| lead > latency)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_believed_before_it_is_measured() {
        let mut record = TrackRecord::default();
        assert_eq!((record.recall(), record.precision()), (0.0, 0.5));
        record.missed = 5;
        record.false_alarms = 3;
        assert_eq!(record.recall(), 0.0);
        assert!(record.precision() < 0.2);
        let good = TrackRecord { foreseen: 1000, missed: 0, false_alarms: 0 };
        assert_eq!(good.recall(), RECALL_MOST);
        assert!(good.precision() > 0.99);
    }
}
