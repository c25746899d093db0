//! How much memory the copy of the state may take.
//!
//! Comes in: the setting `staging_max`, how many ranks share the node, what the node and the control groups have
//! ([`Memory`]), how large the state is, and what the arena holds already. Goes out: a limit for the [`Plan`], and an event
//! for the journal when the plan in force becomes another one.
//! What must hold: every rank decides for itself, and all of one node together stay within the memory; what is
//! decided by itself leaves a reserve, and what the user says is obeyed up to what the job may use at all; an arena in hand is
//! exchanged only where that gains something, since fresh memory costs tens of times as much as the copy; nothing is
//! refused, however little there is.
//!
//! ```text
//! auto    (arena in hand + what is free ÷ ranks − what the state has yet to touch), less the reserve
//! 512MiB  that for each rank  ┐ no more than the memory of the node, or the
//! 25%     of that ÷ ranks     ┘ least limit of a control group, ÷ ranks
//! ```

use super::Plan;
use super::memory::{Bound, Memory};
use crate::config::StagingMax;
use crate::journal::Event;
use std::io;

/// The least that is planned with, which is also the least that can be set.
const LEAST: u64 = 1 << 20;
/// What is left free at the least beside the arena: encoding takes some of it.
const RESERVE: u64 = 64 << 20;
/// An arena up to this size is kept without asking what is free: asking would take longer than the copy.
const SMALL: u64 = 16 << 20;

/// How much memory the copy may take, and why.
#[derive(Debug)]
pub(crate) struct Budget {
    setting: StagingMax,
    /// Those of the node, this one among them.
    ranks: u64,
    memory: Memory,
    limit: u64,
    why: String,
    /// Most that is asked of the system since it refused, and its words.
    refused: Option<(u64, String)>,
    told: Option<Told>,
}

/// What the journal knows of the plan in force.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    arena_bytes: u64,
    streams: bool,
    why: String,
}

impl Budget {
    /// By the setting, for one of `ranks_on_node` ranks.
    pub(crate) fn new(setting: StagingMax, ranks_on_node: usize, memory: Memory) -> Self {
        let ranks = (ranks_on_node as u64).max(1);
        let mut budget =
            Self { setting, ranks, memory, limit: u64::MAX, why: String::new(), refused: None, told: None };
        budget.obey();
        budget
    }

    /// What an explicit setting comes to.
    fn obey(&mut self) {
        let total = self.memory.total();
        let (asked, why) = match (self.setting, &total) {
            (StagingMax::Auto, _) => return,
            (StagingMax::Bytes(bytes), _) => (bytes, format!("{} for each rank", self.setting)),
            (StagingMax::Share(share), Some(total)) => {
                let part = u128::from(total.bytes) * u128::from(share) / StagingMax::WHOLE / u128::from(self.ranks);
                let part = u64::try_from(part).unwrap_or(u64::MAX);
                (part, format!("{} of the memory of {}{}", self.setting, total.of, self.shared()))
            }
            (StagingMax::Share(_), None) => (u64::MAX, format!("{} of a memory that is not known", self.setting)),
        };
        (self.limit, self.why) = match total {
            Some(Bound { bytes, of }) if bytes / self.ranks < asked => {
                (bytes / self.ranks, format!("{why}, lowered to the memory of {of}{}", self.shared()))
            }
            _ => (asked, why),
        };
        self.limit = self.limit.max(LEAST);
    }

    fn shared(&self) -> String {
        match self.ranks {
            1 => String::new(),
            ranks => format!(", shared by {ranks} ranks"),
        }
    }

    /// Most that an arena may hold now, where a copy of the whole state would take `wanted` bytes, the arena in hand holds
    /// `held`, and so much of the state is `untouched` yet, which is only asked where the arena would grow.
    pub(crate) fn limit(&mut self, wanted: u64, held: u64, untouched: impl FnOnce() -> u64) -> u64 {
        if self.setting == StagingMax::Auto {
            self.look(wanted.min(self.most()), held, untouched);
        }
        self.limit.min(self.most())
    }

    fn most(&self) -> u64 {
        self.refused.as_ref().map_or(u64::MAX, |(most, _)| *most)
    }

    /// Fits the limit to what is free.
    fn look(&mut self, wanted: u64, held: u64, untouched: impl FnOnce() -> u64) {
        let grows = wanted > held;
        if !grows && held <= SMALL {
            return;
        }
        // Below it the arena is in the way of whatever the application does next.
        let tight = (held / 16).max(RESERVE / 4);
        let untouched = if grows { untouched() } else { 0 };
        let missing = if grows { with_reserve(wanted).saturating_sub(held).saturating_add(untouched) } else { 0 };
        let Some(room) = self.memory.room(missing.max(tight).saturating_mul(self.ranks)) else {
            self.limit = u64::MAX;
            self.why = "auto; what is free is not known".into();
            return;
        };
        let share = (room.bytes / self.ranks).saturating_sub(untouched);
        // What is held would be free if it were given back: without it each look would take of what the last one left.
        let bound = without_reserve(held.saturating_add(share));
        self.limit = if grows && (bound >= wanted || bound >= held.saturating_add(held / 4)) {
            bound
        } else if share < tight && held > SMALL {
            bound.min(held)
        } else if grows {
            held.max(LEAST)
        } else {
            return;
        };
        self.why = format!("auto; what {} has free, but for a reserve{}", room.of, self.shared());
    }

    /// The system did not give so much as was planned: from now on `most` is the limit, however much seems to be free.
    pub(crate) fn refused(&mut self, most: u64, error: &io::Error) {
        self.refused = Some((most, format!("half of what the system gives: {error}")));
    }

    /// What the journal should know of `plan`, where it is noticeably another than the last.
    pub(crate) fn news(&mut self, plan: &Plan, state_bytes: u64) -> Option<Event> {
        let (arena_bytes, streamed_bytes) = (plan.arena_bytes(), plan.streamed_bytes());
        let (limit, why) = match &self.refused {
            Some((most, why)) if *most < self.limit => (*most, why.clone()),
            _ => (self.limit, self.why.clone()),
        };
        let told = Told { arena_bytes, streams: streamed_bytes > 0, why };
        // A state that grows a little at each step is no news.
        let same = self.told.as_ref().is_some_and(|last| {
            (last.streams, &last.why) == (told.streams, &told.why)
                && last.arena_bytes.abs_diff(arena_bytes) <= last.arena_bytes / 8
        });
        if same {
            return None;
        }
        let why = told.why.clone();
        self.told = Some(told);
        let limit_bytes = (limit < u64::MAX).then_some(limit);
        Some(Event::StagingPlan { state_bytes, arena_bytes, streamed_bytes, limit_bytes, why })
    }
}

/// What may be taken of `bytes`: a fifth of them is left, or the reserve where that is more.
fn without_reserve(bytes: u64) -> u64 {
    (bytes - bytes / 5).min(bytes.saturating_sub(RESERVE)).max(LEAST)
}

/// What there must be so that `bytes` may be taken of it.
fn with_reserve(bytes: u64) -> u64 {
    bytes.saturating_add((bytes / 4).max(RESERVE) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;
    use tempfile::TempDir;

    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;

    /// A node with 16 GiB.
    struct Node(TempDir);

    impl Node {
        fn new(available: u64) -> Self {
            let node = Self(tempfile::tempdir().unwrap());
            fs::create_dir(node.0.path().join("proc")).unwrap();
            node.has(available);
            node
        }

        fn has(&self, available: u64) {
            let text = format!("MemTotal: {} kB\nMemAvailable: {} kB\n", 16 * MIB, available >> 10);
            fs::write(self.0.path().join("proc/meminfo"), text).unwrap();
        }

        /// A group around this process with that limit.
        fn limited(self, limit: u64) -> Self {
            let root = self.0.path();
            fs::create_dir_all(root.join("proc/self")).unwrap();
            fs::create_dir_all(root.join("groups/job")).unwrap();
            fs::write(root.join("proc/self/cgroup"), "0::/job\n").unwrap();
            fs::write(root.join("proc/self/mountinfo"), "1 2 0:3 / /groups rw - cgroup2 none rw\n").unwrap();
            fs::write(root.join("groups/job/memory.max"), limit.to_string()).unwrap();
            fs::write(root.join("groups/job/memory.current"), "0").unwrap();
            self
        }

        fn budget(&self, setting: StagingMax, ranks: usize) -> Budget {
            Budget::new(setting, ranks, Memory::below(self.0.path()))
        }
    }

    fn touched() -> u64 {
        0
    }

    /// The arena that is in hand afterwards.
    fn arena(budget: &mut Budget, wanted: u64, held: u64) -> u64 {
        let limit = budget.limit(wanted, held, touched);
        let bytes = wanted.min(limit);
        if (bytes..=limit).contains(&held) { held } else { bytes }
    }

    #[test]
    fn a_state_that_fits_is_copied_whole() {
        let node = Node::new(8 * GIB);
        let mut budget = node.budget(StagingMax::Auto, 2);
        assert!(budget.limit(3 * GIB, 0, touched) >= 3 * GIB);
        assert!(budget.limit(with_reserve(0), 0, touched) >= 64 * MIB);
    }

    #[test]
    fn a_state_that_does_not_fit_takes_four_fifths_of_a_share_once_and_not_of_what_is_left_again() {
        let node = Node::new(8 * GIB);
        let mut budget = node.budget(StagingMax::Auto, 2);
        let first = arena(&mut budget, 10 * GIB, 0);
        assert!(first.abs_diff(4 * GIB / 5 * 4) < MIB, "{first}");
        for _ in 0..10 {
            // Both ranks hold as much.
            node.has(8 * GIB - 2 * first);
            assert_eq!(arena(&mut budget, 10 * GIB, first), first);
        }
        // Of a little more nothing is made.
        node.has(8 * GIB - 2 * first + GIB);
        assert_eq!(arena(&mut budget, 10 * GIB, first), first);
        node.has(16 * GIB - 2 * first);
        assert!(arena(&mut budget, 10 * GIB, first) > 6 * GIB);
    }

    #[test]
    fn what_the_state_has_yet_to_touch_is_not_free() {
        let node = Node::new(8 * GIB);
        let mut budget = node.budget(StagingMax::Auto, 1);
        assert_eq!(budget.limit(7 * GIB, 0, || 7 * GIB), GIB - GIB / 5);
        let mut budget = node.budget(StagingMax::Auto, 1);
        assert_eq!(budget.limit(9 * GIB, 0, || 9 * GIB), LEAST);
    }

    #[test]
    fn an_arena_gives_back_what_the_application_needs() {
        let node = Node::new(8 * GIB);
        let mut budget = node.budget(StagingMax::Auto, 1);
        let held = arena(&mut budget, 4 * GIB, 0);
        assert_eq!(held, 4 * GIB);
        node.has(GIB);
        assert_eq!(arena(&mut budget, 4 * GIB, held), held, "kept while there is some room");
        node.has(200 * MIB);
        let less = arena(&mut budget, 4 * GIB, held);
        assert!(less < held - held / 8, "{less}");
        // And that is that.
        node.has(200 * MIB + held - less);
        assert_eq!(arena(&mut budget, 4 * GIB, less), less);
        // A small one is in nobody's way.
        node.has(0);
        assert_eq!(arena(&mut budget, SMALL, SMALL), SMALL);
    }

    #[test]
    fn explicit_settings_are_obeyed_up_to_what_the_job_may_use() {
        let free = 0;
        let node = Node::new(free).limited(4 * GIB);
        for (setting, ranks, limit, why) in [
            (StagingMax::Bytes(GIB), 4, GIB, "1GiB for each rank"),
            (
                StagingMax::Bytes(2 * GIB),
                4,
                GIB,
                "2GiB for each rank, lowered to the memory of control group /groups/job, shared by 4 ranks",
            ),
            (
                StagingMax::Bytes(5 * GIB),
                1,
                4 * GIB,
                "5GiB for each rank, lowered to the memory of control group /groups/job",
            ),
            (StagingMax::Share(2500), 1, GIB, "25% of the memory of control group /groups/job"),
            (StagingMax::Share(5000), 4, GIB / 2, "50% of the memory of control group /groups/job, shared by 4 ranks"),
            (StagingMax::Share(1), 4, LEAST, "0.01% of the memory of control group /groups/job, shared by 4 ranks"),
        ] {
            let mut budget = node.budget(setting, ranks);
            assert_eq!((budget.limit(u64::MAX / 2, 0, touched), budget.why.as_str()), (limit, why));
        }
        let node = Node::new(free);
        assert_eq!(node.budget(StagingMax::Share(10_000), 2).limit, 8 * GIB);
        let nowhere = Memory::below(&node.0.path().join("nowhere"));
        assert_eq!(Budget::new(StagingMax::Bytes(7 * GIB), 9, nowhere.clone()).limit, 7 * GIB);
        assert_eq!(Budget::new(StagingMax::Share(1), 9, nowhere.clone()).limit, u64::MAX);
        assert_eq!(Budget::new(StagingMax::Auto, 0, nowhere).limit(9 * GIB, 0, touched), u64::MAX);
    }

    #[test]
    fn the_least_of_the_groups_bounds_what_is_taken() {
        let node = Node::new(8 * GIB).limited(GIB);
        let mut budget = node.budget(StagingMax::Auto, 2);
        assert!(budget.limit(GIB, 0, touched).abs_diff(512 * MIB / 5 * 4) < MIB);
        assert_eq!(budget.why, "auto; what control group /groups/job has free, but for a reserve, shared by 2 ranks");
        // Two ranks of which each would take a whole share leave nothing for what encodes.
        assert_eq!(node.budget(StagingMax::Auto, 10).limit(GIB, 0, touched), GIB / 10 - RESERVE);
    }

    #[test]
    fn the_journal_hears_of_changes_only() {
        let node = Node::new(8 * GIB);
        let mut budget = node.budget(StagingMax::Auto, 1);
        let mut plan = |state: u64, held: u64| {
            let limit = budget.limit(state, held, touched);
            budget.news(&Plan::new(&[state], MIB, limit), state)
        };
        let expected = Event::StagingPlan {
            state_bytes: GIB,
            arena_bytes: GIB,
            streamed_bytes: 0,
            limit_bytes: Some(8 * GIB - 8 * GIB / 5),
            why: "auto; what the node has free, but for a reserve".into(),
        };
        assert_eq!(plan(GIB, 0), Some(expected));
        assert_eq!(plan(GIB, GIB), None);
        assert_eq!(plan(GIB + MIB, GIB), None);
        assert!(plan(2 * GIB, GIB + MIB).is_some());
        node.has(0);
        let Some(Event::StagingPlan { streamed_bytes, arena_bytes, .. }) = plan(2 * GIB, 2 * GIB) else { panic!() };
        assert!(streamed_bytes > 0 && arena_bytes < 2 * GIB && arena_bytes + streamed_bytes == 2 * GIB);
        let error = io::Error::from(io::ErrorKind::OutOfMemory);
        node.has(8 * GIB);
        for most in [3 * MIB, 0] {
            budget.refused(most, &error);
            assert_eq!(budget.limit(GIB, 0, touched), most);
        }
        let plan = Plan::new(&[GIB, 0, 5], MIB, budget.limit(GIB, 0, touched));
        let Some(Event::StagingPlan { streamed_bytes, arena_bytes, limit_bytes, why, .. }) = budget.news(&plan, GIB)
        else {
            panic!()
        };
        assert_eq!((streamed_bytes, arena_bytes, limit_bytes), (GIB + 5, 0, Some(0)));
        assert!(why.starts_with("half of what the system gives: "), "{why}");
    }

    proptest! {
        #[test]
        fn no_plan_takes_the_reserve(available in 0..8 * GIB, held in 0..8 * GIB, wanted in 0..20 * GIB, ranks in 1..9_usize, untouched in 0..2 * GIB) {
            let node = Node::new(available);
            let mut budget = node.budget(StagingMax::Auto, ranks);
            let limit = budget.limit(wanted, held, || untouched);
            if wanted > held {
                let share = (available / ranks as u64).saturating_sub(untouched);
                prop_assert!(limit <= held.max(LEAST) || limit <= without_reserve(held + share) && limit - held <= share);
            }
            prop_assert!(limit >= LEAST);
        }

        #[test]
        fn with_the_reserve_there_is_enough(bytes in LEAST..1 << 50_u64) {
            prop_assert!(without_reserve(with_reserve(bytes)) >= bytes);
            prop_assert!(without_reserve(with_reserve(bytes)) <= bytes + 3);
        }
    }
}
