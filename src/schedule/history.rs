//! What the journals of earlier attempts tell: when the job failed, what checkpoints cost, and where the time went.
//!
//! Comes in: the records of each attempt's first rank, in order. Goes out: what the scheduler of the next attempt starts with, and an
//! account of the job's time. What must hold: the end of an allocation, a user's halt, a requeue and a preemption are no
//! failures; what is not known of an attempt is left out, never made up.
//!
//! How an attempt ended, where it said nothing itself:
//!
//! | seen | ending |
//! | --- | --- |
//! | a later record that explains it (whoever started the ranks knows) | as that says |
//! | its last sign of life lies within a minute of its allocation's end | the allocation ended |
//! | the next attempt is of the same batch job, which was started again | requeued or preempted |
//! | none of these | failed |

use super::prediction::TrackRecord;
use super::scheduler::Scheduler;
use crate::ids::{CheckpointId, CheckpointName, Epoch};
use crate::journal::{End, Event, Record, WallTime};
use serde::Serialize;
use std::borrow::Borrow;
use std::time::Duration;

/// A last sign of life so close to the end of the allocation, or after it, is explained by that end.
const NEAR_THE_END: Duration = Duration::from_secs(60);
/// A prediction without a time counts as right where a failure follows so soon.
const PREDICTED_WITHIN: f64 = 3600.0;
/// Checkpoints of an attempt that are remembered; the newest say what one costs now.
const REMEMBERED: usize = 4096;

/// A checkpoint that an attempt took.
#[derive(Debug, Clone, PartialEq)]
struct Taken {
    id: CheckpointId,
    at: WallTime,
    blocked: f64,
    slowed: Option<f64>,
    latency: Option<f64>,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// It runs still, as far as its journal tells.
    Open,
    /// The job is done.
    Finished,
    /// A user halted it.
    Halted,
    /// Its allocation ended.
    AllocationEnded,
    /// The batch system started it again: requeued or preempted.
    Requeued,
    /// Something else that whoever started it does not call a failure.
    NoFailure,
    /// It failed.
    Failed,
}

/// One attempt, as its first rank's journal tells it.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    epoch: Epoch,
    started: WallTime,
    last: WallTime,
    computing: Option<WallTime>,
    resumed: Option<(CheckpointName, f64)>,
    last_step: u64,
    /// When a step was reached that was not known of before.
    progressed: WallTime,
    batch: Option<(String, u32)>,
    allocation_end: Option<WallTime>,
    nodes: Option<u32>,
    end: Option<End>,
    checkpoints: Vec<Taken>,
    step_seconds: Option<f64>,
    predictions: Vec<(WallTime, Option<f64>)>,
    /// What it knows of others' ends.
    explains: Vec<(Epoch, bool)>,
    schedule: Option<(WallTime, crate::journal::Schedule)>,
}

impl Attempt {
    /// From the records of its first rank; `None` where no attempt of the application began.
    #[must_use]
    pub fn of(records: impl IntoIterator<Item: Borrow<Record>>) -> Option<Self> {
        let mut attempt: Option<Self> = None;
        for record in records {
            match &mut attempt {
                None => attempt = Self::begin(record.borrow()),
                Some(attempt) => attempt.note(record.borrow()),
            }
        }
        attempt
    }

    /// The attempt that this record begins, if it does.
    fn begin(record: &Record) -> Option<Self> {
        let Event::AttemptStarted { batch_job, batch_restarts, allocation_end, nodes, .. } = &record.event else {
            return None;
        };
        Some(Self {
            epoch: record.epoch,
            started: record.at,
            last: record.at,
            computing: None,
            resumed: None,
            last_step: 0,
            progressed: record.at,
            batch: batch_job.clone().map(|job| (job, batch_restarts.unwrap_or(0))),
            allocation_end: *allocation_end,
            nodes: *nodes,
            end: None,
            checkpoints: Vec::new(),
            step_seconds: None,
            predictions: Vec::new(),
            explains: Vec::new(),
            schedule: None,
        })
    }

    /// Takes the next record of its first rank into account.
    fn note(&mut self, record: &Record) {
        // Clocks may be set back.
        self.last = self.last.max(record.at);
        match &record.event {
            Event::Plan { .. } => self.computing = self.computing.or(Some(record.at)),
            Event::Resumed { epoch, id, step, seconds, .. } => {
                self.resumed = Some((CheckpointName { epoch: *epoch, id: *id }, *seconds));
                self.last_step = *step;
            }
            Event::Beat { step } | Event::CheckpointStarted { step, .. } => {
                if *step > self.last_step {
                    self.progressed = self.last;
                }
                self.last_step = *step;
            }
            Event::Frozen { id, blocked_ns, .. } => {
                if self.checkpoints.len() >= REMEMBERED {
                    self.checkpoints.remove(0);
                }
                let blocked = *blocked_ns as f64 * 1e-9;
                self.checkpoints.push(Taken { id: *id, at: record.at, blocked, slowed: None, latency: None });
            }
            Event::Slowed { id, lost_seconds, step_seconds, .. } => {
                self.step_seconds = Some(*step_seconds);
                self.on(*id, |taken| taken.slowed = Some(*lost_seconds));
            }
            Event::Committed { id, commit_ns, .. } => {
                self.on(*id, |taken| taken.latency = Some(*commit_ns as f64 * 1e-9));
            }
            Event::Predicted { lead_seconds, .. } => self.predictions.push((record.at, *lead_seconds)),
            Event::EndExplained { epoch, failure, .. } => self.explains.push((*epoch, *failure)),
            Event::Scheduled(schedule) => self.schedule = Some((record.at, (**schedule).clone())),
            Event::AttemptEnded { how, step } => {
                self.end = Some(*how);
                if *step > self.last_step {
                    self.progressed = self.last;
                }
                self.last_step = *step;
            }
            _ => {}
        }
    }

    /// When it was last computing, to within half a step: when the last step was seen. Ranks that wait for one that died live on for a
    /// while; a rank that dies leaves a step unfinished, and the others finish theirs.
    fn computed_until(&self) -> WallTime {
        self.progressed.min(self.last)
    }

    fn on(&mut self, id: CheckpointId, change: impl FnOnce(&mut Taken)) {
        if let Some(taken) = self.checkpoints.iter_mut().rev().find(|taken| taken.id == id) {
            change(taken);
        }
    }

    /// Its number.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The last that it said of the next checkpoint's time, and when.
    #[must_use]
    pub fn schedule(&self) -> Option<(WallTime, &crate::journal::Schedule)> {
        self.schedule.as_ref().map(|(at, schedule)| (*at, schedule))
    }

    /// When it took its last checkpoint.
    #[must_use]
    pub fn last_checkpoint(&self) -> Option<WallTime> {
        self.checkpoints.last().map(|taken| taken.at)
    }

    /// When it began.
    #[must_use]
    pub fn started(&self) -> WallTime {
        self.started
    }

    /// From its start to its last sign of life, seconds.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.started.until(self.last).as_secs_f64()
    }

    /// How many checkpoints it took.
    #[must_use]
    pub fn checkpoints(&self) -> usize {
        self.checkpoints.len()
    }

    /// What its checkpoints cost, seconds: standing still, and what steps lost; of those of which both is known.
    pub fn costs(&self) -> impl Iterator<Item = f64> + '_ {
        self.checkpoints.iter().filter_map(|taken| Some(taken.blocked + taken.slowed?))
    }

    /// How long after their calls its checkpoints were durable, seconds; of those that were.
    pub fn latencies(&self) -> impl Iterator<Item = f64> + '_ {
        self.checkpoints.iter().filter_map(|taken| taken.latency)
    }

    /// What a step took while nothing was written, seconds, as measured last.
    #[must_use]
    pub fn step_seconds(&self) -> Option<f64> {
        self.step_seconds
    }

    /// How long bringing the state back took, where there was one; seconds.
    #[must_use]
    pub fn restart_seconds(&self) -> Option<f64> {
        self.resumed.map(|(_, seconds)| seconds)
    }
}

/// All attempts of a job, oldest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct History {
    attempts: Vec<Attempt>,
    successor: Option<Successor>,
}

/// Another attempt, which begins now.
#[derive(Debug, Clone, PartialEq)]
struct Successor {
    /// The batch job that it is of, if it is, and how often that one was started again.
    batch: Option<(String, u32)>,
    nodes: u32,
}

/// Where a job's time went, from its journals; seconds.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Account {
    /// From the first attempt's start to the last sign of life.
    pub time: f64,
    /// Work that was not lost.
    pub useful: f64,
    /// Standing still for checkpoints.
    pub blocked: f64,
    /// What steps lost while checkpoints were written.
    pub slowed: f64,
    /// Work that failures undid.
    pub lost: f64,
    /// Nothing was computed any more, and the attempt had not ended yet.
    pub detecting: f64,
    /// No attempt ran.
    pub down: f64,
    /// From an attempt's start until it computed.
    pub restarts: f64,
    /// Attempts that failed.
    pub failures: u64,
    /// Checkpoints taken.
    pub taken: u64,
}

impl Account {
    /// The share of the time that was not useful, 0 to 1.
    #[must_use]
    pub fn waste(&self) -> f64 {
        if self.time > 0.0 { 1.0 - self.useful / self.time } else { 0.0 }
    }
}

impl History {
    /// From the attempts of a job, oldest first.
    #[must_use]
    pub fn new(attempts: Vec<Attempt>) -> Self {
        Self { attempts, successor: None }
    }

    /// The same, where another attempt begins now: the newest of these is over. `batch`: the batch job of that one, and how often it was
    /// started again; `nodes`: how many it runs on.
    #[must_use]
    pub fn followed_by(self, batch: Option<(String, u32)>, nodes: u32) -> Self {
        Self { successor: Some(Successor { batch, nodes }), ..self }
    }

    /// The attempts, oldest first.
    #[must_use]
    pub fn attempts(&self) -> &[Attempt] {
        &self.attempts
    }

    /// How the attempt at this place ended.
    #[must_use]
    pub fn ending(&self, place: usize) -> Ending {
        let Some(attempt) = self.attempts.get(place) else { return Ending::Open };
        let later = &self.attempts[place + 1..];
        let mut explained = later.iter().flat_map(|later| &later.explains).filter(|(epoch, _)| *epoch == attempt.epoch);
        if let Some((_, failure)) = explained.next_back() {
            return if *failure { Ending::Failed } else { Ending::NoFailure };
        }
        match attempt.end {
            Some(End::Finished) => return Ending::Finished,
            Some(End::Halted) => return Ending::Halted,
            // By the application's own doing: what it computed since the last checkpoint is lost all the same.
            Some(End::Dropped | End::Panicked) => return Ending::Failed,
            None => {}
        }
        if let Some(end) = attempt.allocation_end
            && attempt.last.until(end) <= NEAR_THE_END
        {
            return Ending::AllocationEnded;
        }
        let next = later.first().map(|next| &next.batch).or(self.successor.as_ref().map(|next| &next.batch));
        match (next, &attempt.batch) {
            (None, _) => Ending::Open,
            (Some(Some((other, later))), Some((job, restarts))) if other == job && later > restarts => Ending::Requeued,
            _ => Ending::Failed,
        }
    }

    /// A moment in seconds since the first attempt's start: the time that [`Self::teach`] gives a scheduler. 0 where there was none.
    #[must_use]
    pub fn clock(&self, at: WallTime) -> f64 {
        self.attempts.first().map_or(0.0, |first| first.started.until(at).as_secs_f64())
    }

    /// Lets a scheduler live through all of it, as if it had been there.
    ///
    /// A second on twice as many nodes as the newest attempt has counts as two: nodes fail, and each does on its own.
    pub fn teach(&self, scheduler: &mut Scheduler) {
        let clock = |at: WallTime| self.clock(at);
        let newest =
            self.successor.as_ref().map(|next| next.nodes).or(self.attempts.last().and_then(|last| last.nodes));
        let size = |attempt: &Attempt| match (attempt.nodes, newest) {
            (Some(then), Some(now)) if then > 0 && now > 0 => f64::from(then) / f64::from(now),
            _ => 1.0,
        };
        for (place, attempt) in self.attempts.iter().enumerate() {
            scheduler.started(clock(attempt.started));
            scheduler.computing(clock(attempt.computing.unwrap_or(attempt.started)));
            if let Some((_, seconds)) = attempt.resumed {
                scheduler.restarted(seconds);
            }
            for taken in &attempt.checkpoints {
                // The record follows the copy.
                scheduler.taken(clock(taken.at) - taken.blocked);
                scheduler.cost(taken.blocked, taken.slowed.unwrap_or(0.0));
                if let Some(latency) = taken.latency {
                    scheduler.committed(latency);
                }
            }
            let failed = self.ending(place) == Ending::Failed;
            scheduler.over(clock(attempt.last), failed, size(attempt));
            if failed && let Some(next) = self.attempts.get(place + 1) {
                scheduler.was_down(attempt.last.until(next.started).as_secs_f64());
            }
        }
        scheduler.remember(self.track_record());
    }

    /// How predictions did.
    #[must_use]
    pub fn track_record(&self) -> TrackRecord {
        let mut record = TrackRecord::default();
        for (place, attempt) in self.attempts.iter().enumerate() {
            let ending = self.ending(place);
            let failed = ending == Ending::Failed;
            let came_true = |(at, lead): &&(WallTime, Option<f64>)| {
                // Twice the time that was foreseen: a time is harder to foresee than the failure.
                failed && at.until(attempt.last).as_secs_f64() <= lead.map_or(PREDICTED_WITHIN, |lead| 2.0 * lead)
            };
            let right = attempt.predictions.iter().filter(came_true).count();
            let wrong = attempt.predictions.len() - right;
            // The newest may still come true.
            if ending != Ending::Open {
                record.false_alarms += u32::try_from(wrong).unwrap_or(u32::MAX);
            }
            if failed {
                if right > 0 { record.foreseen += 1 } else { record.missed += 1 }
            }
        }
        record
    }

    /// Where the time went.
    #[must_use]
    pub fn account(&self) -> Account {
        let mut account = Account::default();
        for (place, attempt) in self.attempts.iter().enumerate() {
            let computing = attempt.computing.unwrap_or(attempt.last);
            account.restarts += attempt.started.until(computing).as_secs_f64();
            // What checkpoints took after `since`; the one that was taken then still slows the steps that follow it.
            let stolen = |since: WallTime| {
                let taken = attempt.checkpoints.iter().filter(move |taken| taken.at >= since);
                let seconds =
                    taken.map(|taken| if taken.at > since { taken.blocked } else { 0.0 } + taken.slowed.unwrap_or(0.0));
                seconds.sum::<f64>()
            };
            account.blocked += attempt.checkpoints.iter().map(|taken| taken.blocked).sum::<f64>();
            account.slowed += attempt.checkpoints.iter().filter_map(|taken| taken.slowed).sum::<f64>();
            account.taken += attempt.checkpoints.len() as u64;
            account.failures += u64::from(self.ending(place) == Ending::Failed);
            account.time += attempt.seconds();
            let Some(next) = self.attempts.get(place + 1) else { continue };
            let down = attempt.last.until(next.started).as_secs_f64();
            account.down += down;
            account.time += down;
            // What came after the checkpoint that the next one resumed from is lost; all of it where that is an older one.
            let kept = next.resumed.filter(|(from, _)| from.epoch == attempt.epoch);
            let kept = kept.and_then(|(from, _)| attempt.checkpoints.iter().find(|taken| taken.id == from.id));
            let since = kept.map_or(computing, |taken| taken.at);
            let until = attempt.computed_until().max(since);
            account.lost += (since.until(until).as_secs_f64() - stolen(since)).max(0.0);
            account.detecting += until.until(attempt.last).as_secs_f64();
        }
        let wasted =
            account.blocked + account.slowed + account.lost + account.detecting + account.down + account.restarts;
        account.useful = (account.time - wasted).max(0.0);
        account
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::{Belief, Guess, Rules};

    const SECOND: i64 = 1000;

    /// The records of an attempt, each so many seconds after a common beginning.
    struct Told {
        epoch: u64,
        records: Vec<Record>,
    }

    impl Told {
        fn new(epoch: u64, at: f64, batch: Option<(&str, u32)>, end: Option<f64>) -> Self {
            let mut told = Self { epoch, records: Vec::new() };
            told.say(
                at,
                Event::AttemptStarted {
                    job: "walk".into(),
                    host: "n1".into(),
                    pid: 1,
                    world: 1,
                    program: String::new(),
                    version: String::new(),
                    request: "latest".into(),
                    boot_id: None,
                    batch_job: batch.map(|(job, _)| job.to_owned()),
                    batch_restarts: batch.map(|(_, restarts)| restarts),
                    allocation_end: end.map(time),
                    nodes: Some(1),
                },
            );
            told
        }

        fn say(&mut self, at: f64, event: Event) -> &mut Self {
            let (v, seq) = (crate::journal::VERSION, self.records.len() as u64);
            self.records.push(Record {
                v,
                at: time(at),
                mono_ns: 0,
                epoch: Epoch(self.epoch),
                rank: Some(0),
                seq,
                event,
            });
            self
        }

        fn computes(&mut self, at: f64) -> &mut Self {
            self.say(
                at,
                Event::Plan { threads: 1, state_bytes: 1, arena_bytes: 1, chunk_bytes: 1, mpi: None, tracking: None },
            )
        }

        fn checkpoint(&mut self, at: f64, id: u64, step: u64) -> &mut Self {
            let id = CheckpointId(id);
            self.say(at, Event::CheckpointStarted { id, tick: step, step, reason: "time".into() });
            self.say(at, Event::Frozen { id, blocked_ns: 1_000_000_000, bytes: 1, copied_bytes: None });
            self.say(at + 3.0, Event::Slowed { id, seconds: 3.0, steps: 3, step_seconds: 1.0, lost_seconds: 0.5 });
            let commit_ns = 4_000_000_000;
            self.say(at + 3.0, Event::Committed { id, step, commit_ns, bytes: 1, raw_bytes: 1, label: None })
        }

        fn attempt(&self) -> Attempt {
            Attempt::of(&self.records).expect("it began")
        }
    }

    fn time(seconds: f64) -> WallTime {
        WallTime::from_unix_ms(1_800_000_000 * SECOND + (seconds * 1e3) as i64)
    }

    fn resumed(epoch: u64, id: u64, step: u64) -> Event {
        let (epoch, id) = (Epoch(epoch), CheckpointId(id));
        Event::Resumed { epoch, id, step, seconds: 2.0, bytes: 1, rolled_forward: false }
    }

    fn endings(attempts: &[&Told]) -> Vec<Ending> {
        let history = History::new(attempts.iter().map(|told| told.attempt()).collect());
        (0..attempts.len()).map(|place| history.ending(place)).collect()
    }

    #[test]
    fn only_failures_are_failures() {
        let beat = |told: &mut Told, at: f64| {
            told.say(at, Event::Beat { step: 1 });
        };
        // Killed without a word: nobody knows while it is the newest; a failure once there is another.
        let mut killed = Told::new(1, 0.0, None, None);
        beat(&mut killed, 50.0);
        let next = Told::new(2, 60.0, None, None);
        assert_eq!(endings(&[&killed]), [Ending::Open]);
        assert_eq!(endings(&[&killed, &next]), [Ending::Failed, Ending::Open]);
        // As the next one sees it that begins just now.
        let seen = |told: &Told, batch: Option<(&str, u32)>| {
            let batch = batch.map(|(job, restarts)| (job.to_owned(), restarts));
            History::new(vec![told.attempt()]).followed_by(batch, 1).ending(0)
        };
        assert_eq!(seen(&killed, None), Ending::Failed);
        let batch = Told::new(1, 0.0, Some(("7", 0)), None);
        assert_eq!([seen(&batch, Some(("7", 1))), seen(&batch, Some(("7", 0)))], [Ending::Requeued, Ending::Failed]);
        // By its own doing.
        for (how, ending) in
            [(End::Finished, Ending::Finished), (End::Halted, Ending::Halted), (End::Panicked, Ending::Failed)]
        {
            let mut ended = Told::new(1, 0.0, None, None);
            ended.say(9.0, Event::AttemptEnded { how, step: 5 });
            assert_eq!(endings(&[&ended, &next])[0], ending);
        }
        // At the end of its allocation, or well before it.
        for (last, ending) in
            [(3590.0, Ending::AllocationEnded), (3700.0, Ending::AllocationEnded), (2000.0, Ending::Failed)]
        {
            let mut limited = Told::new(1, 0.0, None, Some(3600.0));
            beat(&mut limited, last);
            assert_eq!(endings(&[&limited, &Told::new(2, 9000.0, None, None)])[0], ending, "{last}");
        }
        // Requeued or preempted: the same batch job, started again.
        let first = Told::new(1, 0.0, Some(("7", 0)), None);
        assert_eq!(endings(&[&first, &Told::new(2, 60.0, Some(("7", 1)), None)])[0], Ending::Requeued);
        assert_eq!(endings(&[&first, &Told::new(2, 60.0, Some(("7", 0)), None)])[0], Ending::Failed, "in the same run");
        assert_eq!(endings(&[&first, &Told::new(2, 60.0, Some(("8", 1)), None)])[0], Ending::Failed, "another job");
        // Whoever started it knows better.
        for (failure, ending) in [(true, Ending::Failed), (false, Ending::NoFailure)] {
            let mut explains = Told::new(2, 60.0, Some(("7", 1)), None);
            explains.say(61.0, Event::EndExplained { epoch: Epoch(1), failure, reason: "seen".into() });
            assert_eq!(endings(&[&first, &explains])[0], ending);
        }
    }

    #[test]
    fn the_account_adds_up_and_the_scheduler_has_lived_through_it() {
        let mut first = Told::new(1, 0.0, None, None);
        // Two seconds until it computes; checkpoints at 10 s and 20 s, the second never committed; killed at 25 s, seen at 27 s.
        first.computes(2.0).checkpoint(10.0, 1, 8);
        first.say(20.0, Event::CheckpointStarted { id: CheckpointId(2), tick: 18, step: 18, reason: "time".into() });
        first.say(20.0, Event::Frozen { id: CheckpointId(2), blocked_ns: 1_000_000_000, bytes: 1, copied_bytes: None });
        first.say(24.5, Event::Beat { step: 22 }).say(27.0, Event::Beat { step: 22 });
        let mut second = Told::new(2, 32.0, None, None);
        second.say(34.0, resumed(1, 1, 8)).computes(35.0).checkpoint(45.0, 3, 18);
        second.say(55.0, Event::Beat { step: 27 });
        let history = History::new(vec![first.attempt(), second.attempt()]);
        let account = history.account();
        let parts = [account.blocked, account.slowed, account.detecting, account.down, account.restarts];
        assert_eq!(parts, [3.0, 1.0, 2.5, 5.0, 5.0], "{account:?}");
        // From the copy at 10 s to the last step seen at 24.5 s, less the second that the second checkpoint blocked and the
        // half second that steps lost to the first.
        assert!((account.lost - 13.0).abs() < 1e-9, "{account:?}");
        assert_eq!((account.failures, account.taken, account.time), (1, 3, 55.0));
        assert!((account.useful + parts.iter().sum::<f64>() + account.lost - account.time).abs() < 1e-9);

        let mut scheduler = Scheduler::new(Rules::default(), Belief::Job(1000.0), 1.0, Guess::default());
        history.teach(&mut scheduler);
        let rate = scheduler.rate(100.0);
        assert_eq!((rate.failures(), rate.observed()), (1.0, 27.0 + 23.0));
        let costs = scheduler.costs();
        assert!((costs.cost - (1.0 + 0.5 * 2.0 / 3.0)).abs() < 1e-9 && costs.latency == 4.0, "{costs:?}");
        assert_eq!((costs.restart, costs.downtime), (2.0, 5.0));

        // On three times as many nodes, what was survived on one counts a third.
        let mut larger = Scheduler::new(Rules::default(), Belief::Job(1000.0), 3.0, Guess::default());
        history.followed_by(None, 3).teach(&mut larger);
        let rate = larger.rate(100.0);
        assert_eq!(rate.failures(), 2.0);
        assert!((rate.observed() - (27.0 + 23.0) / 3.0).abs() < 1e-9);
    }

    #[test]
    fn predictions_are_held_against_what_happened() {
        let predicted = |epoch: u64, from: f64, at: f64, last: f64| {
            let mut told = Told::new(epoch, from, None, None);
            told.say(from + at, Event::Predicted { lead_seconds: Some(60.0), what: "a test".into() });
            told.say(from + last, Event::Beat { step: 1 });
            told
        };
        // Came true; too early by far; none; still open.
        let (right, wrong) = (predicted(1, 0.0, 100.0, 150.0), predicted(2, 200.0, 10.0, 500.0));
        let (none, open) = (Told::new(3, 800.0, None, None), predicted(4, 900.0, 5.0, 10.0));
        let attempts = [&right, &wrong, &none, &open].map(Told::attempt).to_vec();
        assert_eq!(History::new(attempts).track_record(), TrackRecord { foreseen: 1, missed: 2, false_alarms: 1 });
    }
}
