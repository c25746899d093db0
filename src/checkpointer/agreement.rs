//! At which tick all ranks freeze, without a barrier in each.
//!
//! Comes in: every rank's ticks, and now and then its vote. Goes out: a verdict that is the same on every rank, at the same
//! tick of each.
//!
//! ```text
//! tick n            tick n + lag                 tick n + lag + gap
//!   │ post a vote     │ take the verdict, act       │ post the next vote
//!   └── reduction ────┘
//! ```
//!
//! What must hold:
//! - What is agreed on depends only on the count of ticks and on reduced values, never on when a test of a request happens
//!   to succeed. Every rank posts and takes at the same counts, since they follow from the verdicts alone.
//! - One reduction is in flight at the most. Other collective calls first [`Agreement::settle`] it; its verdict is kept for
//!   the tick at which it is due.
//! - After [`CommError::Lost`] nothing collective is entered again.
//!
//! A rank at tick n + lag waits at most for the others to enter tick n: the lag bounds how far ranks may run apart.

use crate::comm::{CommError, Communicator, ROUND_WIDTH, Round};
use std::time::{Duration, Instant};

/// Why a checkpoint is wanted: a set, since several reasons may come together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Wants {
    pub steps: bool,
    pub time: bool,
    pub request: bool,
    pub prediction: bool,
}

impl Wants {
    pub(super) fn any(self) -> bool {
        self.steps || self.time || self.request || self.prediction
    }

    pub(super) fn reason(self) -> &'static str {
        match self {
            Self { request: true, .. } => "request",
            Self { prediction: true, .. } => "prediction",
            Self { steps: true, .. } => "steps",
            Self { time: true, .. } => "time",
            _ => "none",
        }
    }
}

/// What one rank says in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Vote {
    /// Its step.
    pub step: u64,
    /// Why it wants a checkpoint.
    pub wants: Wants,
    /// Whether that one must be taken as soon as nothing is in flight, instead of being skipped.
    pub forced: bool,
    /// Whether the job shall stop.
    pub stop: bool,
    /// Whether a checkpoint of its is in flight.
    pub busy: bool,
    /// Whether it has entered `finish`.
    pub leaving: bool,
    /// The newest checkpoint that it could not write its part of.
    pub failed: u64,
    /// Whether the next checkpoint must be complete in itself.
    pub full: bool,
    /// Rank 0: the newest checkpoint that this attempt committed.
    pub committed: u64,
    /// Rank 0: how long until the next checkpoint is due by time.
    pub until_due: Option<Duration>,
    /// A failure that it foresees, with the time until then where that is known.
    pub predicted: Option<Option<Duration>>,
}

/// What all ranks said in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Verdict {
    pub min_step: u64,
    pub max_step: u64,
    pub min_tick: u64,
    pub max_tick: u64,
    pub wants: Wants,
    pub forced: bool,
    pub stop: bool,
    pub busy: bool,
    pub any_leaving: bool,
    pub all_leaving: bool,
    pub failed: u64,
    pub full: bool,
    pub committed: u64,
    pub nanoseconds_per_tick: u64,
    pub until_due: Option<Duration>,
    /// The soonest failure that a rank foresees.
    pub predicted: Option<Option<Duration>>,
}

// Places in a round. What is needed as a minimum is sent negated.
const STEP: usize = 0;
const MINUS_STEP: usize = 1;
const TICK: usize = 2;
const MINUS_TICK: usize = 3;
const STEPS: usize = 4;
const TIME: usize = 5;
const REQUEST: usize = 6;
const FORCED: usize = 7;
const STOP: usize = 8;
const BUSY: usize = 9;
const LEAVING: usize = 10;
const MINUS_LEAVING: usize = 11;
const FAILED: usize = 12;
const NANOSECONDS: usize = 13;
const FULL: usize = 14;
const COMMITTED: usize = 15;
const UNTIL_DUE: usize = 16;
const PREDICTION: usize = 17;
const PREDICTED: usize = 18;
const MINUS_LEAD: usize = 19;

/// Steps and ids are carried as signed numbers; no application counts so far.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A time in nanoseconds; one that is too long to count is as long as can be.
fn nanoseconds(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

impl Vote {
    fn encode(&self, tick: u64, nanoseconds_per_tick: u64) -> Round {
        let mut round = [0; ROUND_WIDTH];
        (round[STEP], round[MINUS_STEP]) = (signed(self.step), -signed(self.step));
        (round[TICK], round[MINUS_TICK]) = (signed(tick), -signed(tick));
        let flags = [
            (STEPS, self.wants.steps),
            (TIME, self.wants.time),
            (REQUEST, self.wants.request),
            (FORCED, self.forced),
            (STOP, self.stop),
            (BUSY, self.busy),
            (LEAVING, self.leaving),
            (FULL, self.full),
            (PREDICTION, self.wants.prediction),
            (PREDICTED, self.predicted.is_some()),
        ];
        for (place, flag) in flags {
            round[place] = i64::from(flag);
        }
        round[MINUS_LEAVING] = -i64::from(self.leaving);
        round[FAILED] = signed(self.failed);
        round[COMMITTED] = signed(self.committed);
        round[NANOSECONDS] = signed(nanoseconds_per_tick);
        // Only the first rank's counts: the others say less than any.
        round[UNTIL_DUE] = self.until_due.map_or(-1, nanoseconds);
        round[MINUS_LEAD] = self.predicted.flatten().map_or(i64::MIN, |lead| -nanoseconds(lead));
        round
    }
}

impl Verdict {
    fn decode(round: &Round) -> Self {
        Self {
            min_step: round[MINUS_STEP].unsigned_abs(),
            max_step: round[STEP].unsigned_abs(),
            min_tick: round[MINUS_TICK].unsigned_abs(),
            max_tick: round[TICK].unsigned_abs(),
            wants: Wants {
                steps: round[STEPS] > 0,
                time: round[TIME] > 0,
                request: round[REQUEST] > 0,
                prediction: round[PREDICTION] > 0,
            },
            forced: round[FORCED] > 0,
            stop: round[STOP] > 0,
            busy: round[BUSY] > 0,
            any_leaving: round[LEAVING] > 0,
            all_leaving: round[MINUS_LEAVING] < 0,
            failed: round[FAILED].unsigned_abs(),
            full: round[FULL] > 0,
            committed: round[COMMITTED].unsigned_abs(),
            nanoseconds_per_tick: round[NANOSECONDS].unsigned_abs(),
            until_due: u64::try_from(round[UNTIL_DUE]).ok().map(Duration::from_nanos),
            predicted: (round[PREDICTED] > 0).then(|| {
                let lead = round[MINUS_LEAD];
                (lead > i64::MIN).then(|| Duration::from_nanos(lead.unsigned_abs()))
            }),
        }
    }

    /// How many ticks after this verdict, which came `lag` ticks after its vote, the next vote is to be cast so that its own verdict falls
    /// on the tick that is next to when a checkpoint is due by time.
    pub(super) fn ticks_until_due(&self, lag: u64) -> Option<u64> {
        let until_due = u64::try_from(self.until_due?.as_nanos()).ok()?;
        let half = self.nanoseconds_per_tick / 2;
        let ticks = until_due.saturating_add(half).checked_div(self.nanoseconds_per_tick)?;
        Some(ticks.saturating_sub(2 * lag))
    }

    /// Whether all ranks stand at the same step and tick.
    pub(super) fn in_step(&self) -> bool {
        self.min_step == self.max_step && self.min_tick == self.max_tick
    }
}

/// How often rounds are held.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// The time between two rounds that is aimed at.
    pub target: Duration,
    /// The most ticks between two rounds.
    pub ticks_max: u64,
    /// How long a rank waits for the others.
    pub timeout: Duration,
}

/// The part of the rounds that every rank plays alike.
#[derive(Debug)]
pub(super) struct Agreement {
    communicator: Box<dyn Communicator>,
    pace: Pace,
    lag: u64,
    /// Ticks so far.
    tick: u64,
    /// The tick at which something is to be done; what makes a tick cheap.
    next: u64,
    /// `u64::MAX`: never.
    post_at: u64,
    take_at: u64,
    in_flight: bool,
    /// The verdict of the round in flight, where somebody had to wait for it before its tick.
    early: Option<Round>,
    lost: bool,
    timed: (Instant, u64),
    nanoseconds_per_tick: u64,
}

const NEVER: u64 = u64::MAX;

impl Agreement {
    /// The ranks of `communicator`, which agree with a lag of `lag` ticks (0 for one rank).
    pub(super) fn new(communicator: Box<dyn Communicator>, lag: u64, pace: Pace) -> Self {
        let lag = if communicator.size() == 1 { 0 } else { lag.max(1) };
        Self {
            communicator,
            pace,
            lag,
            tick: 0,
            next: 1,
            post_at: 1,
            take_at: NEVER,
            in_flight: false,
            early: None,
            lost: false,
            timed: (Instant::now(), 0),
            nanoseconds_per_tick: 0,
        }
    }

    /// Counts a tick. `true` where nothing is due, which is nearly always.
    #[inline]
    pub(super) fn idle_tick(&mut self) -> bool {
        self.tick += 1;
        self.tick < self.next
    }

    pub(super) fn tick(&self) -> u64 {
        self.tick
    }

    pub(super) fn lag(&self) -> u64 {
        self.lag
    }

    pub(super) fn rank(&self) -> usize {
        self.communicator.rank()
    }

    pub(super) fn size(&self) -> usize {
        self.communicator.size()
    }

    /// Whether a verdict is due at this tick.
    pub(super) fn verdict_is_due(&self) -> bool {
        self.tick == self.take_at
    }

    /// Whether a vote is due at this tick.
    pub(super) fn vote_is_due(&self) -> bool {
        self.tick == self.post_at
    }

    /// Posts this rank's vote.
    ///
    /// # Errors
    /// [`CommError`]; nothing collective follows then.
    pub(super) fn post(&mut self, vote: &Vote) -> Result<(), CommError> {
        let (since, from) = self.timed;
        let elapsed = u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX);
        if let Some(mean) = elapsed.checked_div(self.tick - from) {
            self.nanoseconds_per_tick = mean;
        }
        self.timed = (Instant::now(), self.tick);
        self.start(vote)?;
        self.post_at = NEVER;
        self.take_at = self.tick.saturating_add(self.lag);
        self.next = self.take_at;
        Ok(())
    }

    fn start(&mut self, vote: &Vote) -> Result<(), CommError> {
        let round = vote.encode(self.tick, self.nanoseconds_per_tick);
        let started = self.communicator.start_max(round);
        self.watch(started)?;
        self.in_flight = true;
        Ok(())
    }

    /// Takes the verdict that is due. The next vote is cast after as many ticks as the pace asks for, no later than
    /// `limit` ticks from now, and no further ahead than ticks were counted so far; [`Self::stop`] prevents it.
    ///
    /// # Errors
    /// [`CommError`]; nothing collective follows then.
    pub(super) fn take(&mut self, limit: impl FnOnce(&Verdict) -> Option<u64>) -> Result<Verdict, CommError> {
        self.settle(self.pace.timeout)?;
        let Some(round) = self.early.take() else {
            return Err(CommError::Lost {
                rank: self.rank(),
                size: self.size(),
                what: "a verdict that nobody asked for",
                waited: Duration::ZERO,
            });
        };
        let verdict = Verdict::decode(&round);
        let target = u64::try_from(self.pace.target.as_nanos()).unwrap_or(u64::MAX);
        // Before the first timing there is nothing to go by: ask again soon. And few ticks tell little of those to come: one that is
        // called before the first step takes no time at all.
        let most = self.pace.ticks_max.min(self.tick);
        let gap = target.checked_div(verdict.nanoseconds_per_tick).unwrap_or(1).clamp(1, most.max(1));
        let gap = limit(&verdict).map_or(gap, |limit| gap.min(limit));
        // A vote may be cast at the very tick of a verdict, but not with no lag: that would be the same round again.
        let gap = if self.lag == 0 { gap.max(1) } else { gap };
        self.take_at = NEVER;
        self.post_at = self.tick.saturating_add(gap);
        self.next = self.post_at;
        Ok(verdict)
    }

    /// Waits for the round in flight, if there is one, and keeps its verdict.
    ///
    /// # Errors
    /// [`CommError`]; nothing collective follows then.
    pub(super) fn settle(&mut self, timeout: Duration) -> Result<(), CommError> {
        if self.in_flight {
            let waited = self.communicator.wait_max(timeout);
            self.early = Some(self.watch(waited)?);
            self.in_flight = false;
        }
        Ok(())
    }

    /// No more rounds in ticks. Other collective calls may follow.
    pub(super) fn stop(&mut self) {
        (self.post_at, self.take_at, self.next) = (NEVER, NEVER, NEVER);
    }

    /// Whether ranks were lost.
    pub(super) fn is_lost(&self) -> bool {
        self.lost
    }

    /// One round outside of ticks. Collective.
    ///
    /// # Errors
    /// [`CommError`]; nothing collective follows then.
    pub(super) fn round_now(&mut self, vote: &Vote, timeout: Duration) -> Result<Verdict, CommError> {
        self.settle(timeout)?;
        let kept = self.early.take();
        self.start(vote)?;
        self.settle(timeout)?;
        let round = self.early.take();
        self.early = kept;
        round.map(|round| Verdict::decode(&round)).ok_or(CommError::Lost {
            rank: self.rank(),
            size: self.size(),
            what: "a round",
            waited: timeout,
        })
    }

    /// The worst of all ranks' `code`s, with the lowest rank that has it. Collective.
    ///
    /// # Errors
    /// [`CommError`]; nothing collective follows then.
    pub(super) fn worst(&mut self, code: u32, timeout: Duration) -> Result<(u32, usize), CommError> {
        self.settle(timeout)?;
        let rank = u32::try_from(self.rank()).unwrap_or(u32::MAX);
        let mut round = [0; ROUND_WIDTH];
        round[0] = i64::from(code) << 32 | i64::from(u32::MAX - rank);
        let waited = self.communicator.max(round, timeout);
        let worst = self.watch(waited)?[0];
        let code = u32::try_from(worst >> 32).unwrap_or(u32::MAX);
        let rank = u32::MAX - u32::try_from(worst & i64::from(u32::MAX)).unwrap_or(u32::MAX);
        Ok((code, rank as usize))
    }

    /// Gives every rank the bytes of `root`. Collective.
    ///
    /// # Errors
    /// [`CommError`]; nothing collective follows then.
    pub(super) fn broadcast(&mut self, root: usize, bytes: Vec<u8>, timeout: Duration) -> Result<Vec<u8>, CommError> {
        self.settle(timeout)?;
        let sent = self.communicator.broadcast(root, bytes, timeout);
        self.watch(sent)
    }

    /// Gives the communicator back. Collective, last.
    ///
    /// # Errors
    /// [`CommError`].
    pub(super) fn release(&mut self) -> Result<(), CommError> {
        self.stop();
        let released = self.communicator.release();
        self.watch(released)
    }

    fn watch<T>(&mut self, result: Result<T, CommError>) -> Result<T, CommError> {
        if result.is_err() {
            self.lost = true;
            self.in_flight = false;
            self.stop();
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comm::Solo;
    use proptest::prelude::*;

    const PACE: Pace = Pace { target: Duration::from_millis(100), ticks_max: 7, timeout: Duration::from_secs(10) };

    proptest! {
        #[test]
        fn a_verdict_of_one_is_its_vote(
            step in 0..1u64 << 60, flags in any::<[bool; 9]>(), failed in 0..1u64 << 60, tick in 0..1u64 << 60,
            committed in 0..1u64 << 60, until_due: Option<u32>,
            predicted: Option<Option<u32>>,
        ) {
            let [steps, time, request, prediction, forced, stop, busy, leaving, full] = flags;
            let wants = Wants { steps, time, request, prediction };
            let time = |nanoseconds: u32| Duration::from_nanos(u64::from(nanoseconds));
            let (until_due, predicted) = (until_due.map(time), predicted.map(|lead| lead.map(time)));
            let vote =
                Vote { step, wants, forced, stop, busy, leaving, failed, full, committed, until_due, predicted };
            let verdict = Verdict::decode(&vote.encode(tick, 5));
            let expected = Verdict {
                min_step: step, max_step: step, min_tick: tick, max_tick: tick, wants, forced, stop, busy,
                any_leaving: leaving, all_leaving: leaving, failed, full, committed, nanoseconds_per_tick: 5, until_due, predicted,
            };
            prop_assert_eq!(verdict, expected);
            prop_assert!(verdict.in_step());
        }
    }

    #[test]
    fn the_next_verdict_falls_on_the_tick_next_to_when_one_is_due() {
        let ticks = |until_due: u64, lag: u64| {
            let vote = Vote { until_due: Some(Duration::from_nanos(until_due)), ..Vote::default() };
            Verdict::decode(&vote.encode(1, 100)).ticks_until_due(lag)
        };
        // At a vote; its verdict comes `lag` ticks later, and so does the next one's.
        assert_eq!(
            [ticks(1049, 0), ticks(1051, 0), ticks(1049, 1), ticks(120, 1)],
            [Some(10), Some(11), Some(8), Some(0)]
        );
        assert_eq!(Verdict::decode(&Vote::default().encode(1, 100)).ticks_until_due(1), None);
    }

    #[test]
    fn a_world_of_one_votes_and_takes_at_the_same_tick() {
        let mut agreement = Agreement::new(Box::<Solo>::default(), 5, PACE);
        let mut votes = Vec::new();
        for _ in 0..100 {
            if agreement.idle_tick() {
                continue;
            }
            assert!(agreement.vote_is_due());
            votes.push(agreement.tick());
            agreement.post(&Vote::default()).unwrap();
            assert!(agreement.verdict_is_due());
            agreement.take(|_| Some(3)).unwrap();
        }
        assert_eq!(votes[0], 1);
        assert!(votes.windows(2).all(|pair| (1..=3).contains(&(pair[1] - pair[0]))), "{votes:?}");
    }

    #[test]
    fn a_short_first_step_does_not_put_off_what_comes_after_it() {
        // A tick before the first step, say, while the steps themselves take minutes.
        let pace = Pace { target: Duration::from_secs(1000), ticks_max: 10_000, ..PACE };
        let mut agreement = Agreement::new(Box::<Solo>::default(), 0, pace);
        let mut votes = Vec::new();
        for _ in 0..40_000 {
            if !agreement.idle_tick() {
                votes.push(agreement.tick());
                agreement.post(&Vote::default()).unwrap();
                agreement.take(|_| None).unwrap();
            }
        }
        // A machine that is busy makes it ask sooner.
        assert!(votes[0] == 1 && votes.windows(2).all(|pair| pair[1] <= 2 * pair[0]), "{votes:?}");
    }

    #[test]
    fn the_worst_code_and_its_rank_come_back() {
        let mut agreement = Agreement::new(Box::<Solo>::default(), 0, PACE);
        for code in [0, 1, 2, 3] {
            assert_eq!(agreement.worst(code, Duration::from_secs(1)).unwrap(), (code, 0));
        }
    }
}
