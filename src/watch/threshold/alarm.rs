//! When an alarm begins and when it is over.
//!
//! Comes in: whether a value is wrong, or right again. Goes out: the two moments that count. What must hold: every beginning has one
//! end at the most; what is wrong must be so without a break, and so must what is right again (as Prometheus's `for` and
//! `keep_firing_for`), so that what hovers at the limit is one alarm or none.

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Beyond the limit.
    Wrong,
    /// Neither beyond it nor right again.
    Between,
    /// Well on the right side.
    Right,
}

/// What has changed with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// The alarm begins.
    Begins,
    /// It is over.
    Ends,
}

/// One series by one rule.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Alarm {
    /// All is well.
    #[default]
    Idle,
    /// It is wrong since then, not long enough yet.
    Pending(f64),
    /// There is an alarm; right again since then, not long enough yet.
    Firing(Option<f64>),
}

impl Alarm {
    /// Whether there is an alarm.
    #[must_use]
    pub fn fires(&self) -> bool {
        matches!(self, Self::Firing(_))
    }

    /// Takes the state at `now` into account: wrong for `hold` seconds it begins, right for `clear_hold` it ends.
    pub fn step(&mut self, now: f64, state: State, hold: f64, clear_hold: f64) -> Option<Turn> {
        match (*self, state) {
            (Self::Idle | Self::Pending(_), State::Wrong) => {
                let since = if let Self::Pending(since) = *self { since } else { now };
                let begins = now - since >= hold;
                *self = if begins { Self::Firing(None) } else { Self::Pending(since) };
                begins.then_some(Turn::Begins)
            }
            (Self::Idle | Self::Pending(_), _) => {
                *self = Self::Idle;
                None
            }
            (Self::Firing(since), State::Right) => {
                let since = since.unwrap_or(now);
                let ends = now - since >= clear_hold;
                *self = if ends { Self::Idle } else { Self::Firing(Some(since)) };
                ends.then_some(Turn::Ends)
            }
            (Self::Firing(_), _) => {
                *self = Self::Firing(None);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn turns(states: &[State], hold: f64, clear_hold: f64) -> Vec<(usize, Turn)> {
        let mut alarm = Alarm::default();
        let step = |(place, state): (usize, &State)| Some((place, alarm.step(place as f64, *state, hold, clear_hold)?));
        states.iter().enumerate().filter_map(step).collect()
    }

    #[test]
    fn it_takes_as_long_as_it_should() {
        use State::{Between, Right, Wrong};
        assert_eq!(turns(&[Wrong, Right, Wrong], 0.0, 0.0), [(0, Turn::Begins), (1, Turn::Ends), (2, Turn::Begins)]);
        assert_eq!(turns(&[Wrong, Wrong, Between, Wrong, Wrong, Wrong], 2.0, 0.0), [(5, Turn::Begins)]);
        let hovering = [Wrong, Right, Wrong, Right, Between, Right, Right, Right];
        assert_eq!(turns(&hovering, 0.0, 2.0), [(0, Turn::Begins), (7, Turn::Ends)]);
    }

    proptest! {
        #[test]
        fn beginnings_and_ends_take_turns(places in proptest::collection::vec(0..3u8, 0..60), hold in 0..4u8, clear in 0..4u8) {
            let states = places.iter().map(|place| [State::Wrong, State::Between, State::Right][usize::from(*place)]);
            let turns = turns(&states.collect::<Vec<_>>(), f64::from(hold), f64::from(clear));
            for (place, (_, turn)) in turns.iter().enumerate() {
                prop_assert_eq!(*turn, if place % 2 == 0 { Turn::Begins } else { Turn::Ends });
            }
        }
    }
}
