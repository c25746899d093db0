//! A switch that turns one rank dead: from then on none of its calls has an effect.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Kills a rank of a test, at a call that the test chooses.
///
/// One switch is shared by everything that the rank does: its medium ([`RecordingMedium::for_rank`]) and its communicator
/// ([`ThreadsRank::with_switch`]). Every call asks the switch first. Once it is thrown, none of them, whichever thread makes
/// them, has an effect; all return errors.
///
/// [`RecordingMedium::for_rank`]: super::RecordingMedium::for_rank
/// [`ThreadsRank::with_switch`]: crate::comm::threads::ThreadsRank::with_switch
#[derive(Default)]
pub struct KillSwitch {
    /// The call at which it throws itself, from 1; 0 is never.
    at: u64,
    /// Seed of the delays; 0 is none.
    delays: u64,
    calls: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    thrown: Option<String>,
    places: BTreeSet<String>,
    listeners: Vec<Box<dyn Fn() + Send>>,
}

impl KillSwitch {
    /// A switch that only [`throw`](Self::throw) throws; it counts calls nevertheless.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A switch that throws itself at the `call`-th call, counted from 1, which has no effect any more.
    #[must_use]
    pub fn at(call: u64) -> Self {
        Self { at: call, ..Self::default() }
    }

    /// Delays calls by pseudo-random moments, a millisecond at most, so that ranks get out of step.
    #[must_use]
    pub fn delayed(mut self, seed: u64) -> Self {
        self.delays = seed.max(1);
        self
    }

    /// Counts a call made at `place`. Returns whether the rank is alive: the call may then have its effect.
    pub fn call(&self, place: impl FnOnce() -> String) -> bool {
        let call = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        if self.delays != 0 {
            delay(mix(self.delays.wrapping_add(call.wrapping_mul(0x9E37_79B9_7F4A_7C15))));
        }
        let place = place();
        if call == self.at {
            self.throw(&place);
        }
        let mut state = self.lock();
        let alive = state.thrown.is_none();
        if alive {
            state.places.insert(place);
        }
        alive
    }

    /// Kills the rank, if it is not dead yet, and remembers that it happened at `place`.
    pub fn throw(&self, place: &str) {
        let listeners = {
            let mut state = self.lock();
            if state.thrown.is_some() {
                return;
            }
            state.thrown = Some(place.to_owned());
            std::mem::take(&mut state.listeners)
        };
        // Without the lock, for a listener takes locks of its own under which others ask this switch.
        for listener in listeners {
            listener();
        }
    }

    /// Whether the rank is dead.
    #[must_use]
    pub fn is_thrown(&self) -> bool {
        self.lock().thrown.is_some()
    }

    /// How many calls there were, those after the rank's death included.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Where the rank died: the role of the medium's operation, or the communicator's call.
    #[must_use]
    pub fn place(&self) -> Option<String> {
        self.lock().thrown.clone()
    }

    /// All distinct places at which the rank made calls while it was alive.
    #[must_use]
    pub fn places(&self) -> BTreeSet<String> {
        self.lock().places.clone()
    }

    /// Has `listener` called when the rank dies; at once if it is dead already.
    pub fn on_throw(&self, listener: impl Fn() + Send + 'static) {
        let mut state = self.lock();
        if state.thrown.is_none() {
            state.listeners.push(Box::new(listener));
            return;
        }
        drop(state);
        listener();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for KillSwitch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KillSwitch")
            .field("at", &self.at)
            .field("calls", &self.calls())
            .field("place", &self.place())
            .finish_non_exhaustive()
    }
}

/// Half of the calls go on at once, most others yield, a few spin for up to a millisecond.
fn delay(random: u64) {
    match random % 16 {
        0..8 => {}
        8..14 => (0..random >> 60).for_each(|_| std::thread::yield_now()),
        _ => {
            let (start, micros) = (Instant::now(), u128::from((random >> 32) % 1000));
            while start.elapsed().as_micros() < micros {
                std::hint::spin_loop();
            }
        }
    }
}

/// SplitMix64's finaliser: a good random number from a counter.
pub(super) fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn it_throws_itself_at_the_call_it_was_told() {
        let switch = KillSwitch::at(3).delayed(7);
        let heard = Arc::new(AtomicUsize::new(0));
        let ear = Arc::clone(&heard);
        switch.on_throw(move || {
            ear.fetch_add(1, Ordering::Relaxed);
        });
        assert!(switch.call(|| "one".into()) && switch.call(|| "two".into()));
        assert!(!switch.is_thrown());
        assert!(!switch.call(|| "three".into()) && !switch.call(|| "four".into()));
        switch.throw("again");
        assert_eq!((switch.place().as_deref(), switch.calls()), (Some("three"), 4));
        assert_eq!(switch.places().into_iter().collect::<Vec<_>>(), ["one", "two"]);
        assert_eq!(heard.load(Ordering::Relaxed), 1);
        let ear = Arc::clone(&heard);
        switch.on_throw(move || {
            ear.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(heard.load(Ordering::Relaxed), 2, "a late listener is told at once");
    }
}
