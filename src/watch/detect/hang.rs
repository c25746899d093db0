//! Ranks that live and get no further: who holds the others up, and how.
//!
//! Comes in: of each rank, its step and phase, since when, what they took so far, and what the kernel says it is doing. Goes out: nothing, or the
//! class of the hang and its suspects. What must hold: time is measured by what each rank's own steps and phases took; a rank that works
//! within its limits, and all that wait for it, are let be; where all ranks wait and none differs from the rest, none is named.
//!
//! ```text
//! any rank beyond its limit? ─no─► nothing
//!   │ yes
//!   ├─ ranks that a signal stopped ───────────────────────────────► Stopped: those
//!   ├─ ranks that don't wait for others (by their phases)
//!   │    ├─ one of them within its limit, or without a processor ─► nothing yet: it works
//!   │    ├─ the least advanced use the processor ─────────────────► LiveLock: those
//!   │    └─ they don't ───────────────────────────────────────────► Blocked: those
//!   └─ all wait ──────────────────────────────────────────────────► DeadLock: the smallest group that is elsewhere
//! ```
//!
//! An MPI library polls while it waits, so that the processor tells nothing of ranks inside it: phases do.

use super::super::board::Taken;
use serde::{Deserialize, Serialize};

/// When a rank has got no further for too long.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HangRules {
    /// So many times what its steps or phases take,
    pub factor: f64,
    /// but no less than so many seconds.
    pub floor: f64,
    /// In a phase that never ended before: so many times the limit of a step,
    pub unknown_factor: f64,
    /// but no less than so many seconds.
    pub unknown_floor: f64,
    /// Steps that must have been timed before anything is said.
    pub least_steps: u64,
}

impl Default for HangRules {
    /// Four and a half times the learnt time and at least 1.6 s: known within five times, or 2 s, whoever looks five times a second.
    fn default() -> Self {
        Self { factor: 4.5, floor: 1.6, unknown_factor: 10.0, unknown_floor: 60.0, least_steps: 3 }
    }
}

impl HangRules {
    /// After how long without another step a rank is taken to hang, seconds. `steps`: what its steps took; `phase`: what the
    /// phase took that it is in.
    #[must_use]
    pub fn limit(&self, steps: &Taken, phase: Option<&Taken>) -> f64 {
        if steps.count < self.least_steps {
            return f64::INFINITY;
        }
        let learnt = |taken: &Taken| (taken.total / taken.count.max(1) as f64).max(taken.long);
        let step = (self.factor * learnt(steps)).max(self.floor);
        match phase {
            None => step,
            Some(phase) if phase.count == 0 => (self.unknown_factor * step).max(self.unknown_floor),
            Some(phase) => step.max(self.factor * learnt(phase)),
        }
    }
}

/// What the kernel says that a rank is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activity {
    /// That is not known.
    Unknown,
    /// A signal, a debugger or the freezer has stopped it.
    Stopped,
    /// It uses a processor.
    Computing,
    /// It is ready and gets no processor.
    Starved,
    /// It reads or writes, and gets on with that.
    Transferring,
    /// It waits in the kernel, as a rule for storage.
    Blocked,
    /// It sleeps.
    Idle,
}

/// The phase that a rank is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InPhase {
    /// What the application calls it.
    pub name: String,
    /// Whether it waits for others there.
    pub waits: bool,
}

/// One rank at one look.
#[derive(Debug, Clone, PartialEq)]
pub struct RankView {
    /// Which.
    pub rank: u32,
    /// Its step.
    pub step: u64,
    /// For how long it has had that, seconds.
    pub since: f64,
    /// After how long that is too long, seconds.
    pub limit: f64,
    /// The phase that it is in, where the application names such.
    pub phase: Option<InPhase>,
    /// What it is doing.
    pub activity: Activity,
}

impl RankView {
    fn is_stuck(&self) -> bool {
        self.since > self.limit
    }

    fn waits(&self) -> bool {
        self.phase.as_ref().is_some_and(|phase| phase.waits)
    }

    /// Where it is: ranks at the same place wait for the same.
    fn place(&self) -> (u64, Option<&str>) {
        (self.step, self.phase.as_ref().map(|phase| phase.name.as_str()))
    }
}

/// How ranks hang.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HangClass {
    /// Stopped by a signal, a debugger or the freezer.
    Stopped,
    /// Busy without getting on.
    LiveLock,
    /// Waiting outside of communication: for storage, a lock, a device.
    Blocked,
    /// Waiting for each other.
    DeadLock,
}

/// A job that gets no further.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hang {
    /// How.
    pub class: HangClass,
    /// Who holds the others up; empty where that can't be told.
    pub suspects: Vec<u32>,
    /// Everybody who got no further.
    pub stuck: Vec<u32>,
}

/// Tells whether ranks hang, and who is to blame.
#[must_use]
pub fn judge(ranks: &[RankView]) -> Option<Hang> {
    let stuck: Vec<u32> = ranks.iter().filter(|rank| rank.is_stuck()).map(|rank| rank.rank).collect();
    if stuck.is_empty() {
        return None;
    }
    let hang = |class, suspects| Some(Hang { class, suspects, stuck: stuck.clone() });
    let stopped: Vec<u32> = numbers(ranks.iter().filter(|rank| rank.activity == Activity::Stopped));
    if !stopped.is_empty() {
        return hang(HangClass::Stopped, stopped);
    }
    let free: Vec<&RankView> = ranks.iter().filter(|rank| !rank.waits()).collect();
    // Without phases nobody is known to wait: whoever is behind the others is looked at, or else all alike.
    let any_phases = ranks.iter().any(|rank| rank.phase.is_some());
    let least = free.iter().map(|rank| rank.step).min();
    let behind: Vec<&RankView> = free.iter().copied().filter(|rank| Some(rank.step) == least).collect();
    if behind.is_empty() {
        return hang(HangClass::DeadLock, elsewhere(ranks));
    }
    let works =
        |rank: &RankView| !rank.is_stuck() || matches!(rank.activity, Activity::Starved | Activity::Transferring);
    if behind.iter().any(|rank| works(rank)) {
        return None;
    }
    if !any_phases && ranks.len() > 1 && behind.len() == ranks.len() {
        // All at the same step, and nothing more is known.
        return hang(HangClass::DeadLock, Vec::new());
    }
    let busy: Vec<u32> = numbers(behind.iter().copied().filter(|rank| rank.activity == Activity::Computing));
    match busy.is_empty() {
        false => hang(HangClass::LiveLock, busy),
        true => hang(HangClass::Blocked, numbers(behind.into_iter())),
    }
}

fn numbers<'a>(ranks: impl Iterator<Item = &'a RankView>) -> Vec<u32> {
    ranks.map(|rank| rank.rank).collect()
}

/// Of ranks that all wait, those who wait elsewhere than the most; nobody where no place has more than half of them.
fn elsewhere(ranks: &[RankView]) -> Vec<u32> {
    let at = |place: (u64, Option<&str>)| ranks.iter().filter(|rank| rank.place() == place).count();
    let Some(most) = ranks.iter().map(RankView::place).max_by_key(|place| at(*place)) else { return Vec::new() };
    if at(most) * 2 <= ranks.len() {
        return Vec::new();
    }
    numbers(ranks.iter().filter(|rank| rank.place() != most))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rank(rank: u32, step: u64, since: f64, phase: Option<(&str, bool)>, activity: Activity) -> RankView {
        let phase = phase.map(|(name, waits)| InPhase { name: name.into(), waits });
        RankView { rank, step, since, limit: 2.0, phase, activity }
    }

    const HALO: Option<(&str, bool)> = Some(("halo", true));
    const SUM: Option<(&str, bool)> = Some(("sum", true));
    const COMPUTE: Option<(&str, bool)> = Some(("compute", false));

    fn four(changed: u32, as_what: RankView) -> Vec<RankView> {
        let mut ranks: Vec<RankView> = (0..4).map(|r| rank(r, 9, 3.0, HALO, Activity::Computing)).collect();
        ranks[changed as usize] = as_what;
        ranks
    }

    #[test]
    fn limits_follow_what_was_learnt() {
        let rules = HangRules::default();
        let taken = |count, total, long| Taken { count, total, long };
        assert_eq!(rules.limit(&taken(2, 1.0, 0.5), None), f64::INFINITY, "nothing is known yet");
        assert_eq!(rules.limit(&taken(100, 1.0, 0.02), None), 1.6, "the floor");
        assert_eq!(rules.limit(&taken(100, 100.0, 1.0), None), 4.5);
        // Steps of a second, of which every tenth takes ten.
        assert_eq!(rules.limit(&taken(100, 190.0, 10.0), None), 45.0);
        assert_eq!(rules.limit(&taken(100, 1.0, 0.02), Some(&taken(3, 30.0, 10.0))), 45.0, "a phase that takes long");
        assert_eq!(
            rules.limit(&taken(100, 1.0, 0.02), Some(&taken(0, 0.0, 0.0))),
            60.0,
            "a phase that never ended yet"
        );
    }

    #[test]
    fn who_gets_on_is_not_accused() {
        let fine: Vec<RankView> = (0..4).map(|r| rank(r, 9, 1.0, HALO, Activity::Idle)).collect();
        assert_eq!(judge(&fine), None);
        assert_eq!(judge(&[]), None);
        // One works within a limit of its own, the others wait for it beyond theirs.
        let writes = RankView { limit: 60.0, ..rank(2, 9, 3.0, Some(("output", false)), Activity::Transferring) };
        assert_eq!(judge(&four(2, writes)), None);
        // One gets no processor, or is still reading.
        for activity in [Activity::Starved, Activity::Transferring] {
            assert_eq!(judge(&four(2, rank(2, 9, 3.0, COMPUTE, activity))), None);
        }
    }

    #[test]
    fn the_one_who_holds_the_others_up_is_named() {
        for (activity, class) in [
            (Activity::Stopped, HangClass::Stopped),
            (Activity::Computing, HangClass::LiveLock),
            (Activity::Idle, HangClass::Blocked),
            (Activity::Blocked, HangClass::Blocked),
        ] {
            let hang = judge(&four(2, rank(2, 9, 3.0, COMPUTE, activity))).expect("they hang");
            assert_eq!((hang.class, hang.suspects, hang.stuck.len()), (class, vec![2], 4));
        }
        // It is stopped while it waits, too.
        let hang = judge(&four(1, rank(1, 9, 3.0, HALO, Activity::Stopped))).expect("they hang");
        assert_eq!((hang.class, hang.suspects), (HangClass::Stopped, vec![1]));
    }

    #[test]
    fn a_dead_lock_has_a_culprit_only_where_one_differs() {
        let all: Vec<RankView> = (0..4).map(|r| rank(r, 9, 3.0, HALO, Activity::Computing)).collect();
        let hang = judge(&all).expect("they hang");
        assert_eq!((hang.class, hang.suspects, hang.stuck), (HangClass::DeadLock, vec![], vec![0, 1, 2, 3]));
        // One is absent from the collective that the others are in, at the same step or another.
        for absent in [rank(3, 9, 3.0, SUM, Activity::Computing), rank(3, 10, 3.0, HALO, Activity::Computing)] {
            let hang = judge(&four(3, absent)).expect("they hang");
            assert_eq!((hang.class, hang.suspects), (HangClass::DeadLock, vec![3]));
        }
        // Two against two.
        let halves: Vec<RankView> =
            (0..4).map(|r| rank(r, 9, 3.0, if r < 2 { HALO } else { SUM }, Activity::Computing)).collect();
        assert_eq!(judge(&halves).expect("they hang").suspects, Vec::<u32>::new());
    }

    #[test]
    fn without_phases_the_least_advanced_is_named() {
        let without = |step: [u64; 3]| -> Vec<RankView> {
            step.iter().zip(0..).map(|(step, r)| rank(r, *step, 3.0, None, Activity::Computing)).collect()
        };
        let hang = judge(&without([10, 9, 10])).expect("they hang");
        assert_eq!((hang.class, hang.suspects), (HangClass::LiveLock, vec![1]));
        let hang = judge(&without([9, 9, 9])).expect("they hang");
        assert_eq!((hang.class, hang.suspects), (HangClass::DeadLock, vec![]));
        // A job of one rank.
        let hang = judge(&[rank(0, 9, 3.0, None, Activity::Computing)]).expect("it hangs");
        assert_eq!((hang.class, hang.suspects), (HangClass::LiveLock, vec![0]));
    }
}
