//! What a rank says of itself on the board.
//!
//! Comes in: beats from a thread of the library, steps and phases from the application's. Goes out: numbers in this rank's slot. What must
//! hold: a step or a phase costs a few stores and a look at a coarse clock (no system call), and steps that are much shorter than the clock is
//! fine share that look (then `stepped_at` may be wrong by two beats, while steps become slow); phases may be named by any thread, but those of one thread only make sense; guards end in the order in which they began.

use super::layout::{Memory, NAME_BYTES, PHASES, Slot, WAITS};
use super::{Presence, now_ns};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The longest steps are forgotten by this power of two of them.
const FORGET: u32 = 14;
/// Steps share a look at the clock for so long, nanoseconds: a quarter of what the coarse clock is fine; and so many at the most.
const SHARED_FOR: u64 = 1_000_000;
const MOST_SHARED: u64 = 4096;

/// A rank's own place on the board.
#[derive(Debug, Clone)]
pub struct Place {
    memory: Arc<Memory>,
    slot: usize,
}

/// Adds to a number that nobody else writes.
fn add(word: &AtomicU64, more: u64) {
    word.store(word.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
}

/// The longest two of all times so far, of which each newer one lets the older ones fade.
fn longest(first: &AtomicU64, second: &AtomicU64, time: u64) {
    let fade = |word: &AtomicU64| {
        let value = word.load(Ordering::Relaxed);
        value - (value >> FORGET)
    };
    let (was_first, was_second) = (fade(first), fade(second));
    let (now_first, now_second) = if time > was_first { (time, was_first) } else { (was_first, was_second.max(time)) };
    first.store(now_first, Ordering::Relaxed);
    second.store(now_second, Ordering::Relaxed);
}

impl Place {
    /// Takes the slot for this process and thread.
    pub(super) fn take(memory: Arc<Memory>, slot: usize, rank: u32) -> Self {
        let place = Self { memory, slot };
        let (own, now) = (place.slot(), now_ns());
        own.presence.store(Presence::Absent.number(), Ordering::Release);
        for word in [&own.beats, &own.late_ns, &own.step, &own.phase, &own.phases, &own.errors] {
            word.store(0, Ordering::Relaxed);
        }
        for word in [&own.steps, &own.steps_ns, &own.waiting_ns, &own.longest_ns, &own.second_ns] {
            word.store(0, Ordering::Relaxed);
        }
        for word in [&own.share, &own.beat_step, &own.beat_steps, &own.skip, &own.since_clock] {
            word.store(0, Ordering::Relaxed);
        }
        own.error.set("");
        let pid = std::process::id();
        own.rank.store(u64::from(rank), Ordering::Relaxed);
        own.pid.store(u64::from(pid), Ordering::Relaxed);
        own.start_ticks.store(crate::watch::process::start_ticks(pid).unwrap_or(0), Ordering::Relaxed);
        own.thread.store(crate::watch::process::own_thread(), Ordering::Relaxed);
        for moment in [&own.beat_at, &own.stepped_at] {
            moment.store(now, Ordering::Relaxed);
        }
        own.presence.store(Presence::Arrived.number(), Ordering::Release);
        place
    }

    fn slot(&self) -> &Slot {
        self.memory.slot(self.slot)
    }

    /// This process lives; the beat comes `late` after it was due.
    pub fn beat(&self, late: Duration) {
        let (slot, now) = (self.slot(), now_ns());
        let since = now.saturating_sub(slot.beat_at.load(Ordering::Relaxed));
        slot.late_ns.store(u64::try_from(late.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        slot.beat_at.store(now, Ordering::Relaxed);
        add(&slot.beats, 1);
        self.share_the_clock(now, since);
    }

    /// Lets as many steps share a look at the clock as it takes them a moment to make, by what came in since the last beat.
    fn share_the_clock(&self, now: u64, since: u64) {
        let slot = self.slot();
        let (step, steps) = (slot.step.load(Ordering::Relaxed), slot.steps.load(Ordering::Relaxed));
        let moved = slot.beat_step.swap(step, Ordering::Relaxed) != step;
        let timed = steps.saturating_sub(slot.beat_steps.swap(steps, Ordering::Relaxed));
        let share = (timed.saturating_mul(SHARED_FOR) / since.max(SHARED_FOR)).min(MOST_SHARED);
        slot.share.store(share, Ordering::Relaxed);
        if share == 0 && slot.skip.load(Ordering::Relaxed) > 0 {
            // It became slow all of a sudden: a step since the last beat was made half-way between, as far as is known. Where the rank's
            // thread counts down at this very moment and this is lost, the next beat does it.
            if moved {
                slot.stepped_at.store(now - since / 2, Ordering::Relaxed);
            }
            slot.skip.store(0, Ordering::Relaxed);
        }
    }

    /// The application computes from now on, beginning with `step`.
    pub fn computing(&self, step: u64) {
        let slot = self.slot();
        slot.step.store(step, Ordering::Relaxed);
        self.resting();
        slot.presence.store(Presence::Computing.number(), Ordering::Release);
    }

    /// What came since the last step was none of the application's time: a checkpoint, say.
    pub fn resting(&self) {
        self.slot().stepped_at.store(now_ns(), Ordering::Relaxed);
    }

    /// The application has come to `step`.
    #[inline]
    pub fn step(&self, step: u64) {
        let slot = self.slot();
        if slot.step.load(Ordering::Relaxed) == step {
            return;
        }
        slot.step.store(step, Ordering::Relaxed);
        let skip = slot.skip.load(Ordering::Relaxed);
        if skip > 0 {
            slot.skip.store(skip - 1, Ordering::Relaxed);
            return add(&slot.since_clock, 1);
        }
        self.timed_step(slot);
    }

    /// Takes the time of the steps since the last look at the clock.
    #[inline]
    fn timed_step(&self, slot: &Slot) {
        let now = now_ns();
        let took = now.saturating_sub(slot.stepped_at.load(Ordering::Relaxed));
        slot.stepped_at.store(now, Ordering::Relaxed);
        add(&slot.steps, 1 + slot.since_clock.load(Ordering::Relaxed));
        slot.since_clock.store(0, Ordering::Relaxed);
        slot.skip.store(slot.share.load(Ordering::Relaxed), Ordering::Relaxed);
        add(&slot.steps_ns, took);
        longest(&slot.longest_ns, &slot.second_ns, took);
    }

    /// The longest step so far, slowly forgotten.
    #[must_use]
    pub fn longest_step(&self) -> Duration {
        Duration::from_nanos(self.slot().longest_ns.load(Ordering::Relaxed))
    }

    /// The step that the application has come to.
    #[must_use]
    pub fn at(&self) -> u64 {
        self.slot().step.load(Ordering::Relaxed)
    }

    /// Enters a phase until what comes back is dropped.
    pub fn enter(&self, name: &'static str, waits: bool) -> Phase {
        let (slot, now) = (self.slot(), now_ns());
        let (number, outer) = (self.number(name, waits), slot.phase.load(Ordering::Relaxed));
        slot.phase.store(number, Ordering::Relaxed);
        Phase { place: self.clone(), number, outer, since: now, waits }
    }

    /// The place of a phase among this rank's, from 1; a new one is noted. 0 where there is no place any more.
    fn number(&self, name: &str, waits: bool) -> u64 {
        let slot = self.slot();
        let known = (slot.phases.load(Ordering::Relaxed) as usize).min(PHASES);
        let name = cut(name);
        if let Some(at) = slot.named[..known].iter().position(|phase| phase.name.holds(name)) {
            return at as u64 + 1;
        }
        let Some(phase) = slot.named.get(known) else { return 0 };
        for word in [&phase.count, &phase.total_ns, &phase.longest_ns, &phase.second_ns] {
            word.store(0, Ordering::Relaxed);
        }
        phase.flags.store(if waits { WAITS } else { 0 }, Ordering::Relaxed);
        phase.name.set(name);
        slot.phases.store(known as u64 + 1, Ordering::Release);
        known as u64 + 1
    }

    /// Something is wrong here.
    pub fn error(&self, what: &str) {
        let slot = self.slot();
        slot.error.set(what);
        add(&slot.errors, 1);
    }

    /// The session is over.
    pub fn leave(&self) {
        self.slot().presence.store(Presence::Left.number(), Ordering::Release);
    }

    /// Whether all ranks of the node that ever came have left.
    #[must_use]
    pub fn is_last(&self) -> bool {
        (0..self.memory.slots())
            .all(|slot| Presence::of(self.memory.slot(slot).presence.load(Ordering::Acquire)) == Presence::Left)
    }

    /// The process that watches, where one has said so.
    #[must_use]
    pub fn watcher(&self) -> Option<u32> {
        self.watched().map(|(pid, _)| pid)
    }

    /// The process that watches, and when it last looked.
    #[must_use]
    pub fn watched(&self) -> Option<(u32, u64)> {
        self.memory.header().watcher()
    }

    /// Whether the rank has said that it computes.
    #[must_use]
    pub fn is_computing(&self) -> bool {
        self.slot().presence.load(Ordering::Relaxed) == Presence::Computing.number()
    }
}

/// As much of a name as a board keeps.
fn cut(name: &str) -> &str {
    let mut length = name.len().min(NAME_BYTES);
    while !name.is_char_boundary(length) {
        length -= 1;
    }
    &name[..length]
}

/// A rank is in a phase as long as this lives.
#[derive(Debug)]
#[must_use = "the phase ends when this is dropped"]
pub struct Phase {
    place: Place,
    number: u64,
    outer: u64,
    since: u64,
    waits: bool,
}

impl Drop for Phase {
    fn drop(&mut self) {
        let (slot, now) = (self.place.slot(), now_ns());
        let took = now.saturating_sub(self.since);
        slot.phase.store(self.outer, Ordering::Relaxed);
        if self.waits {
            add(&slot.waiting_ns, took);
        }
        if let Some(phase) = (self.number as usize).checked_sub(1).and_then(|at| slot.named.get(at)) {
            add(&phase.count, 1);
            add(&phase.total_ns, took);
            longest(&phase.longest_ns, &phase.second_ns, took);
        }
    }
}
