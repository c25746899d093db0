//! When tracking pays.
//!
//! Comes in: how much of the tracked memory was written between two freezes, and, while tracking is off, how much of the
//! data really changed. Goes out: whether the next freeze tracks. No clock, no kernel: only counts.
//! What must hold: what is off for good stays off; however the shares vary, switching on gets rarer, not more frequent.

/// Above this share of written pages a copy of everything is cheaper than the write faults and the scan: with 10 % of the
/// pages, spread over the memory, both together take about 0.6 of a whole copy, with 20 % a little more than it.
const TOO_MUCH: f64 = 0.15;
/// Below this share of changed data tracking is tried again.
const LITTLE: f64 = 0.12;
/// The longest pause, in freezes.
const LONGEST_PAUSE: u32 = 1024;

/// Whether tracking is on, and what would change that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Policy {
    mode: Mode,
    /// For how many freezes it will be off the next time.
    pause: u32,
    /// How many freezes in a row it paid.
    paid: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Mode {
    On,
    Off {
        /// So many freezes have to pass at least.
        left: u32,
        /// The last report said that little changed.
        quiet: bool,
    },
    Never,
}

impl Policy {
    /// Off, until it is known that little changes: protecting memory that is written as a whole costs more than its copy.
    pub(super) fn new() -> Self {
        Self { mode: Mode::Off { left: 0, quiet: false }, pause: 1, paid: 0 }
    }

    /// On from the first freeze.
    pub(super) fn on() -> Self {
        Self { mode: Mode::On, ..Self::new() }
    }

    /// At the beginning of each freeze: whether it tracks.
    pub(super) fn begin(&mut self) -> bool {
        if let Mode::Off { left, quiet } = &mut self.mode {
            *left = left.saturating_sub(1);
            if *left == 0 && *quiet {
                self.mode = Mode::On;
            }
        }
        self.mode == Mode::On
    }

    /// So large a share of the tracked pages was written since the last freeze. Whether tracking stays on.
    pub(super) fn written(&mut self, share: f64) -> bool {
        if self.mode != Mode::On {
            return false;
        }
        if share > TOO_MUCH {
            // One more than the pause, since the next freeze counts one off before it looks.
            self.mode = Mode::Off { left: self.pause + 1, quiet: false };
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
            self.paid = 0;
            return false;
        }
        self.paid += 1;
        if self.paid >= self.pause {
            (self.pause, self.paid) = (1, 0);
        }
        true
    }

    /// So large a share of the data was found changed, by whatever means, since the last freeze.
    pub(super) fn changed(&mut self, share: f64) {
        if let Mode::Off { quiet, .. } = &mut self.mode {
            *quiet = share < LITTLE;
        }
    }

    /// Off for good.
    pub(super) fn never(&mut self) {
        self.mode = Mode::Never;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn it_begins_when_little_changes() {
        let mut policy = Policy::new();
        assert!(!policy.begin());
        policy.changed(0.5);
        assert!(!policy.begin());
        policy.changed(0.05);
        assert!(policy.begin());
    }

    #[test]
    fn it_stays_on_while_little_is_written() {
        let mut policy = Policy::on();
        for share in [0.0, 0.01, 0.15, 0.1] {
            assert!(policy.begin() && policy.written(share), "{share}");
        }
    }

    /// How many freezes pass until it is on again, where everything says that little changes.
    fn freezes_until_on(policy: &mut Policy) -> usize {
        (0..5000)
            .position(|_| {
                policy.changed(0.01);
                policy.begin()
            })
            .unwrap()
    }

    #[test]
    fn each_disappointment_doubles_the_pause() {
        let mut policy = Policy::on();
        assert!(policy.begin());
        let pauses: Vec<usize> = (0..13)
            .map(|_| {
                assert!(!policy.written(0.5));
                freezes_until_on(&mut policy)
            })
            .collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 1024, 1024]);
        // Once it paid for as long as the pause, the next one is short again.
        for _ in 0..1024 {
            assert!(policy.begin() && policy.written(0.05));
        }
        assert!(policy.begin() && !policy.written(0.5));
        assert_eq!(freezes_until_on(&mut policy), 1);
    }

    #[test]
    fn it_waits_for_a_report_that_little_changes() {
        let mut policy = Policy::on();
        assert!(policy.begin() && !policy.written(0.21));
        for _ in 0..10 {
            assert!(!policy.begin());
            policy.changed(0.12);
        }
        policy.changed(0.05);
        policy.changed(0.5);
        assert!(!policy.begin(), "the newest report counts");
        policy.changed(0.05);
        assert!(policy.begin());
    }

    proptest! {
        #[test]
        fn never_is_for_ever(shares in proptest::collection::vec((0.0..1.0, 0.0..1.0), 0..50), at in 0usize..50) {
            let mut policy = Policy::on();
            for (index, (written, changed)) in shares.into_iter().enumerate() {
                if index == at {
                    policy.never();
                }
                let on = policy.begin();
                prop_assert!(!on || index < at);
                policy.written(written);
                policy.changed(changed);
            }
        }
    }
}
