//! What the journals of earlier attempts tell: when the job failed, what checkpoints cost, and where the time went.
//!
//! Comes in: the records of each attempt's first rank, in order, and those of its supervisor, where it had one. Goes out: what the scheduler of the next
//! attempt starts with, and an account of the job's time. What must hold: the end of an allocation, a user's halt, a requeue and a preemption are no
//! failures; what is not known of an attempt is left out, never made up; a clock that is set while an attempt runs changes no span of time in it.
//!
//! Where the time of an attempt goes, and that until the next one starts:
//!
//! ```text
//!  started   computing        a checkpoint that the           computed  detected          next
//!     │          │              job went on from                until       │            started
//!     ├ restarts ┼─ useful, blocked, slowed ─┼─ lost, blocked, slowed ─┼ detecting ┼ down, waiting ┤
//! ```
//!
//! How an attempt ended, where it said nothing itself:
//!
//! | seen | ending |
//! | --- | --- |
//! | a record that explains it (whoever started the ranks knows) | failed, or without a failure |
//! | its last sign of life lies within a minute of its allocation's end | the allocation ended |
//! | the next attempt is of the same batch job, which was started again | requeued or preempted |
//! | none of these | failed |

use super::prediction::TrackRecord;
use super::scheduler::Scheduler;
use crate::ids::{CheckpointId, CheckpointName, Epoch};
use crate::journal::{End, Event, Record, WallTime};
use serde::Serialize;
use std::borrow::Borrow;
use std::collections::VecDeque;
use std::time::Duration;

/// A last sign of life so close to the end of the allocation, or after it, is explained by that end.
const NEAR_THE_END: Duration = Duration::from_secs(60);
/// A prediction without a time counts as right where a failure follows so soon.
const PREDICTED_WITHIN: f64 = 3600.0;
/// Checkpoints of an attempt that are remembered; the newest say what one costs now.
const REMEMBERED: usize = 4096;

/// A checkpoint that an attempt took.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Taken {
    /// Its number.
    pub id: CheckpointId,
    /// The application's step.
    pub step: u64,
    /// When the state was copied, and the application went on.
    pub at: WallTime,
    /// How long the application stood still, seconds.
    pub blocked: f64,
    /// What steps lost while it was written, seconds, where that is known; less than 0 where they were faster.
    pub slowed: Option<f64>,
    /// From the return of the call until it was durable, seconds; `None`: it never was, as far as is known.
    pub latency: Option<f64>,
    /// What it takes in the store, bytes, where it is durable.
    pub bytes: Option<u64>,
}

/// Checkpoints that are remembered by their sums only.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Forgotten {
    taken: u64,
    blocked: f64,
    slowed: f64,
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
    /// The monotonic clock at its start, nanoseconds, where the record has it.
    started_mono: u64,
    last: WallTime,
    /// The last sign of life by the wall clock of then.
    last_by_the_wall: WallTime,
    /// By how much the wall clock was set while it ran, seconds; the most at once.
    clock_set: f64,
    computing: Option<WallTime>,
    resumed: Option<(CheckpointName, f64)>,
    /// It began at the application's beginning.
    is_fresh: bool,
    last_step: u64,
    /// When a step was reached that was not known of before.
    progressed: WallTime,
    batch: Option<(String, u32)>,
    allocation_end: Option<WallTime>,
    nodes: Option<u32>,
    end: Option<End>,
    checkpoints: VecDeque<Taken>,
    forgotten: Forgotten,
    step_seconds: Option<f64>,
    predictions: Vec<(WallTime, Option<f64>)>,
    /// What it, or its supervisor, knows of its end and of others'.
    explains: Vec<(Epoch, bool)>,
    /// When its supervisor knew that it had failed.
    detected: Option<WallTime>,
    /// How long its supervisor let the job rest then, seconds.
    rested: f64,
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
            started_mono: record.mono_ns,
            last: record.at,
            last_by_the_wall: record.at,
            clock_set: 0.0,
            computing: None,
            resumed: None,
            is_fresh: false,
            last_step: 0,
            progressed: record.at,
            batch: batch_job.clone().map(|job| (job, batch_restarts.unwrap_or(0))),
            allocation_end: *allocation_end,
            nodes: *nodes,
            end: None,
            checkpoints: VecDeque::new(),
            forgotten: Forgotten::default(),
            step_seconds: None,
            predictions: Vec::new(),
            explains: Vec::new(),
            detected: None,
            rested: 0.0,
            schedule: None,
        })
    }

    /// When something was written down, by the wall clock at the start and the time that has passed since: the wall clock may be set meanwhile.
    fn moment(&mut self, record: &Record) -> WallTime {
        if self.started_mono == 0 || record.mono_ns < self.started_mono {
            return record.at;
        }
        let passed = i64::try_from((record.mono_ns - self.started_mono) / 1_000_000).unwrap_or(i64::MAX);
        let at = WallTime::from_unix_ms(self.started.unix_ms().saturating_add(passed));
        let set = record.at.unix_ms().saturating_sub(at.unix_ms()) as f64 / 1e3;
        if set.abs() > self.clock_set.abs() {
            self.clock_set = set;
        }
        at
    }

    /// Takes the next record of its first rank into account.
    fn note(&mut self, record: &Record) {
        let at = self.moment(record);
        // Clocks may be set back.
        self.last = self.last.max(at);
        self.last_by_the_wall = record.at;
        match &record.event {
            Event::Plan { .. } => self.computing = self.computing.or(Some(at)),
            Event::Resumed { epoch, id, step, seconds, .. } => {
                self.resumed = Some((CheckpointName { epoch: *epoch, id: *id }, *seconds));
                self.last_step = *step;
            }
            Event::FreshStart { .. } => self.is_fresh = true,
            Event::Beat { step } | Event::CheckpointStarted { step, .. } => {
                if *step > self.last_step {
                    self.progressed = self.last;
                }
                self.last_step = *step;
            }
            Event::Frozen { id, blocked_ns, .. } => {
                if self.checkpoints.len() >= REMEMBERED
                    && let Some(oldest) = self.checkpoints.pop_front()
                {
                    self.forgotten.taken += 1;
                    self.forgotten.blocked += oldest.blocked;
                    self.forgotten.slowed += oldest.slowed.unwrap_or(0.0);
                }
                let (blocked, step) = (*blocked_ns as f64 * 1e-9, self.last_step);
                let (slowed, latency, bytes) = (None, None, None);
                self.checkpoints.push_back(Taken { id: *id, step, at, blocked, slowed, latency, bytes });
            }
            Event::Slowed { id, lost_seconds, step_seconds, .. } => {
                self.step_seconds = Some(*step_seconds);
                self.on(*id, |taken| taken.slowed = Some(*lost_seconds));
            }
            Event::Committed { id, commit_ns, bytes, .. } => self.on(*id, |taken| {
                (taken.latency, taken.bytes) = (Some(*commit_ns as f64 * 1e-9), Some(*bytes));
            }),
            Event::Predicted { lead_seconds, .. } => self.predictions.push((at, *lead_seconds)),
            Event::EndExplained { epoch, failure, .. } => self.explains.push((*epoch, *failure)),
            Event::Scheduled(schedule) => self.schedule = Some((at, (**schedule).clone())),
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

    /// Takes a record of its supervisor into account.
    pub fn supervised(&mut self, record: &Record) {
        match &record.event {
            Event::EndExplained { epoch, failure, .. } => self.explains.push((*epoch, *failure)),
            // What befell launches that never came to an attempt is told with the next one that did.
            Event::FailureDetected { .. } if record.at >= self.started => self.detected = Some(record.at),
            Event::FailureHandled { wait_seconds: Some(seconds), .. } if self.detected.is_some() => {
                self.rested = seconds.max(0.0);
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
        self.checkpoints.back().map(|taken| taken.at)
    }

    /// When it began to compute, where it came to that.
    #[must_use]
    pub fn computing(&self) -> Option<WallTime> {
        self.computing
    }

    /// When its first rank gave its last sign of life.
    #[must_use]
    pub fn last(&self) -> WallTime {
        self.last
    }

    /// The last step that is known of.
    #[must_use]
    pub fn last_step(&self) -> u64 {
        self.last_step
    }

    /// The checkpoint that it went on from.
    #[must_use]
    pub fn resumed_from(&self) -> Option<CheckpointName> {
        self.resumed.map(|(from, _)| from)
    }

    /// How many nodes it ran on, where that is known.
    #[must_use]
    pub fn nodes(&self) -> Option<u32> {
        self.nodes
    }

    /// By how much the wall clock was set while it ran, seconds; the most at once. Spans of time are right all the same.
    #[must_use]
    pub fn clock_set(&self) -> f64 {
        self.clock_set
    }

    /// The checkpoints that it took, oldest first; the newest 4096.
    pub fn taken(&self) -> impl Iterator<Item = &Taken> {
        self.checkpoints.iter()
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
        self.checkpoints.len() + usize::try_from(self.forgotten.taken).unwrap_or(usize::MAX)
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

/// What divides the time of an attempt; none before the one above it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Moments {
    /// It started.
    pub started: WallTime,
    /// It began to compute.
    pub computing: WallTime,
    /// What it computed until then was of use: a later attempt went on from there.
    pub kept: WallTime,
    /// It computed until then.
    pub computed: WallTime,
    /// It was known to be over, or gave its last sign of life.
    pub known: WallTime,
    /// The next one started.
    pub next: Option<WallTime>,
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
    /// No attempt ran after a failure.
    pub down: f64,
    /// No attempt ran, and none was on its way: in a queue, or after repeated failures.
    pub waiting: f64,
    /// From an attempt's start until it computed.
    pub restarts: f64,
    /// Attempts that failed.
    pub failures: u64,
    /// Checkpoints taken.
    pub taken: u64,
}

impl Account {
    /// All that was not useful, seconds.
    #[must_use]
    pub fn wasted(&self) -> f64 {
        self.blocked + self.slowed + self.lost + self.detecting + self.down + self.waiting + self.restarts
    }

    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            time: self.time + other.time,
            useful: self.useful + other.useful,
            blocked: self.blocked + other.blocked,
            slowed: self.slowed + other.slowed,
            lost: self.lost + other.lost,
            detecting: self.detecting + other.detecting,
            down: self.down + other.down,
            waiting: self.waiting + other.waiting,
            restarts: self.restarts + other.restarts,
            failures: self.failures + other.failures,
            taken: self.taken + other.taken,
        }
    }

    /// Every part so many times: of an attempt on so many nodes.
    #[must_use]
    pub fn times(self, factor: f64) -> Self {
        Self {
            time: self.time * factor,
            useful: self.useful * factor,
            blocked: self.blocked * factor,
            slowed: self.slowed * factor,
            lost: self.lost * factor,
            detecting: self.detecting * factor,
            down: self.down * factor,
            waiting: self.waiting * factor,
            restarts: self.restarts * factor,
            ..self
        }
    }

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
        let all = self.attempts[place..].iter().flat_map(|attempt| &attempt.explains);
        let mut explained = all.filter(|(epoch, _)| *epoch == attempt.epoch);
        match (explained.next_back(), self.ending_by_itself(place)) {
            (Some((_, true)), _) => Ending::Failed,
            // What its own journal says besides is no less true.
            (Some((_, false)), Ending::Failed | Ending::Open) => Ending::NoFailure,
            (_, ending) => ending,
        }
    }

    /// How it ended where nobody explains it.
    fn ending_by_itself(&self, place: usize) -> Ending {
        let (attempt, later) = (&self.attempts[place], &self.attempts[place + 1..]);
        match attempt.end {
            Some(End::Finished) => return Ending::Finished,
            Some(End::Halted) => return Ending::Halted,
            // By the application's own doing: what it computed since the last checkpoint is lost all the same.
            Some(End::Dropped | End::Panicked) => return Ending::Failed,
            None => {}
        }
        if let Some(end) = attempt.allocation_end
            && attempt.last_by_the_wall.until(end) <= NEAR_THE_END
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

    /// Until when what the attempt at this place computed was of use: to the checkpoint that later ones went on from at last, or to none. Outer
    /// `None`: no later one has come so far.
    fn kept(&self, place: usize) -> Option<Option<CheckpointId>> {
        let attempt = &self.attempts[place];
        let mut kept: Option<Option<CheckpointId>> = None;
        for later in &self.attempts[place + 1..] {
            match later.resumed_from() {
                // It went on from before this attempt, whatever had been made of this one.
                Some(from) if from.epoch < attempt.epoch => kept = Some(None),
                Some(from) if from.epoch == attempt.epoch => {
                    // Only what all of them have kept.
                    kept = Some(match kept {
                        None => Some(from.id),
                        Some(before) => before.map(|before| before.min(from.id)),
                    });
                }
                Some(_) => {}
                None if later.is_fresh => kept = Some(None),
                // It never came to say.
                None => {}
            }
        }
        kept
    }

    /// The work of the attempt at this place that was lost, seconds; `None` where no later attempt says what it went on from.
    #[must_use]
    pub fn lost(&self, place: usize) -> Option<f64> {
        self.attempts.get(place)?;
        self.kept(place).map(|_| self.parts(place).lost)
    }

    /// The moments that divide the time of the attempt at this place; `None` where there is none.
    #[must_use]
    pub fn moments(&self, place: usize) -> Option<Moments> {
        let attempt = self.attempts.get(place)?;
        let started = attempt.started;
        let computing = attempt.computing.unwrap_or(attempt.last);
        let Some(next) = self.attempts.get(place + 1) else {
            let last = attempt.last;
            return Some(Moments { started, computing, kept: last, computed: last, known: last, next: None });
        };
        let computed = attempt.computed_until().max(computing);
        let kept = match self.kept(place) {
            None => computed,
            Some(None) => computing,
            Some(Some(id)) => {
                attempt.checkpoints.iter().find(|taken| taken.id == id).map_or(computing, |taken| taken.at)
            }
        };
        let kept = kept.max(computing);
        let computed = computed.max(kept);
        // Its supervisor knew when; without one, its ranks lived on until then.
        let known = attempt.detected.unwrap_or(attempt.last).clamp(computed, next.started.max(computed));
        Some(Moments { started, computing, kept, computed, known, next: Some(next.started.max(known)) })
    }

    /// Where the time of the attempt at this place went, and that until the next one started; nothing where there is none.
    #[must_use]
    pub fn parts(&self, place: usize) -> Account {
        let (Some(attempt), Some(moments)) = (self.attempts.get(place), self.moments(place)) else {
            return Account::default();
        };
        let Moments { started, computing, kept, computed, known, next } = moments;
        let ending = self.ending(place);
        let seconds = |from: WallTime, to: WallTime| from.until(to).as_secs_f64();
        // What checkpoints took of what was kept, and of what was lost; the one that was gone on from still slows the steps that follow it.
        let (mut of_kept, mut of_lost) = ((attempt.forgotten.blocked, attempt.forgotten.slowed), (0.0, 0.0));
        for taken in &attempt.checkpoints {
            if taken.at > kept { &mut of_lost } else { &mut of_kept }.0 += taken.blocked;
            let slows_what_is_lost = taken.at >= kept && next.is_some();
            if slows_what_is_lost { &mut of_lost } else { &mut of_kept }.1 += taken.slowed.unwrap_or(0.0);
        }
        // No more than there was: what steps lost is an estimate.
        let within = |(blocked, slowed): (f64, f64), span: f64| {
            let blocked = blocked.min(span);
            (blocked, slowed.min(span - blocked))
        };
        let (worked, undone) = (seconds(computing, kept), seconds(kept, computed));
        let (of_kept, of_lost) = (within(of_kept, worked), within(of_lost, undone));
        let mut account = Account {
            restarts: seconds(started, computing),
            useful: worked - of_kept.0 - of_kept.1,
            blocked: of_kept.0 + of_lost.0,
            slowed: of_kept.1 + of_lost.1,
            lost: undone - of_lost.0 - of_lost.1,
            failures: u64::from(ending == Ending::Failed),
            taken: attempt.checkpoints() as u64,
            time: seconds(started, next.unwrap_or(known)),
            ..Account::default()
        };
        match ending {
            // It was asked to stop, and waited for its last checkpoint.
            Ending::Halted => account.blocked += seconds(computed, known),
            _ => account.detecting = seconds(computed, known),
        }
        let gap = next.map_or(0.0, |next| seconds(known, next));
        account.waiting = if ending == Ending::Failed { attempt.rested.min(gap) } else { gap };
        account.down = gap - account.waiting;
        account
    }

    /// Where the time went.
    #[must_use]
    pub fn account(&self) -> Account {
        (0..self.attempts.len()).map(|place| self.parts(place)).fold(Account::default(), Account::and)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::{Belief, Guess, Rules};
    use proptest::prelude::*;

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
        // Whoever started it knows better whether it was a failure; how it ended otherwise, its own journal says.
        let mut halted = Told::new(1, 0.0, Some(("7", 0)), None);
        halted.say(9.0, Event::AttemptEnded { how: End::Halted, step: 5 });
        for (attempt, failure, restarts, ending) in [
            (&first, true, 1, Ending::Failed),
            (&first, false, 1, Ending::Requeued),
            (&first, false, 0, Ending::NoFailure),
            (&halted, false, 1, Ending::Halted),
        ] {
            let mut explains = Told::new(2, 60.0, Some(("7", restarts)), None);
            explains.say(61.0, Event::EndExplained { epoch: Epoch(1), failure, reason: "seen".into() });
            assert_eq!(endings(&[attempt, &explains])[0], ending);
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

    fn assert_sums(account: &Account) {
        assert!((account.useful + account.wasted() - account.time).abs() < 1e-9, "{account:?}");
    }

    #[test]
    fn what_later_attempts_went_on_from_says_what_was_lost() {
        let worked = |epoch: u64, from: f64, ids: [u64; 2]| {
            let mut told = Told::new(epoch, from, None, None);
            told.computes(from).checkpoint(from + 10.0, ids[0], 10).checkpoint(from + 20.0, ids[1], 20);
            told.say(from + 30.0, Event::Beat { step: 30 });
            told
        };
        let lost = |attempts: &[&Told]| {
            let history = History::new(attempts.iter().map(|told| told.attempt()).collect());
            let account = history.account();
            assert_sums(&account);
            (0..attempts.len()).map(|place| history.parts(place).lost).collect::<Vec<_>>()
        };
        let first = worked(1, 0.0, [1, 2]);
        // One that died before it had said what it goes on from says nothing of what is lost.
        let dead = Told::new(2, 40.0, None, None);
        let mut third = Told::new(3, 50.0, None, None);
        third.say(51.0, resumed(1, 2, 20)).computes(52.0);
        assert_eq!(lost(&[&first, &dead]), [0.0, 0.0]);
        assert_eq!(lost(&[&first, &dead, &third]), [9.5, 0.0, 0.0]);
        // A later one that goes on from an older checkpoint undoes more of the first, and all of those between.
        let mut second = worked(2, 40.0, [3, 4]);
        second.records.insert(1, Record { event: resumed(1, 2, 20), ..second.records[0].clone() });
        let mut last = Told::new(3, 80.0, None, None);
        last.say(81.0, resumed(1, 1, 10)).computes(82.0);
        assert_eq!(lost(&[&first, &second, &last]), [18.0, 27.0, 0.0]);
        // A start at the beginning undoes everything.
        let mut fresh = Told::new(4, 90.0, None, None);
        fresh.say(91.0, Event::FreshStart { reason: "asked for".into() }).computes(92.0);
        assert_eq!(lost(&[&first, &second, &last, &fresh])[..2], [27.0, 27.0]);
    }

    #[test]
    fn a_supervisor_knows_when_it_failed_and_how_long_the_job_rested() {
        let mut first = Told::new(1, 0.0, Some(("7", 0)), None);
        first.computes(1.0).say(20.0, Event::Beat { step: 20 });
        let mut attempt = first.attempt();
        let mut supervisor = Told::new(1, 0.0, None, None);
        supervisor.records.clear();
        let failure =
            |failure: u32| Event::FailureDetected { failure, class: "RankDied".into(), summary: String::new() };
        let handled =
            |failure, seconds| Event::FailureHandled { failure, action: "again".into(), wait_seconds: Some(seconds) };
        // Of a launch before it that never came to an attempt; then its own.
        supervisor.say(-5.0, failure(1)).say(-4.0, handled(1, 60.0));
        supervisor.say(22.0, failure(2)).say(23.0, handled(2, 8.0));
        supervisor.say(23.0, Event::EndExplained { epoch: Epoch(1), failure: true, reason: "a node".into() });
        supervisor.records.iter().for_each(|record| attempt.supervised(record));
        let mut second = Told::new(2, 40.0, Some(("7", 1)), None);
        second.say(41.0, Event::FreshStart { reason: String::new() }).computes(42.0);
        let history = History::new(vec![attempt, second.attempt()]);
        // By its batch job alone it would be a requeue.
        assert_eq!(history.ending(0), Ending::Failed);
        let parts = history.parts(0);
        assert_eq!((parts.detecting, parts.waiting, parts.down, parts.lost), (2.0, 8.0, 10.0, 19.0), "{parts:?}");
        assert_sums(&parts);
    }

    proptest! {
        #[test]
        fn an_account_adds_up_whatever_journals_say(
            attempts in prop::collection::vec(
                (0.0..200.0f64, prop::collection::vec((0.0..100.0f64, 0u8..7, 0u64..6, -20.0..20.0f64), 0..20)),
                1..6,
            ),
        ) {
            let (mut told, mut begins) = (Vec::new(), 0.0);
            for (epoch, (pause, records)) in attempts.iter().enumerate() {
                begins += pause - 50.0;
                let mut attempt = Told::new(epoch as u64 + 1, begins, None, None);
                for (at, what, id, seconds) in records {
                    let (at, id) = (begins + at, CheckpointId(*id));
                    attempt.say(at, match what {
                        0 => Event::Plan { threads: 1, state_bytes: 1, arena_bytes: 1, chunk_bytes: 1, mpi: None, tracking: None },
                        1 => resumed(id.0, id.0, id.0),
                        2 => Event::Frozen { id, blocked_ns: (seconds.abs() * 1e9) as u64, bytes: 1, copied_bytes: None },
                        3 => Event::Slowed { id, seconds: 1.0, steps: 1, step_seconds: 1.0, lost_seconds: *seconds },
                        4 => Event::AttemptEnded { how: End::Halted, step: id.0 },
                        5 => Event::FreshStart { reason: String::new() },
                        _ => Event::Beat { step: (at.abs() as u64) % 90 },
                    });
                }
                told.push(attempt.attempt());
            }
            let history = History::new(told);
            for place in 0..attempts.len() {
                let parts = history.parts(place);
                prop_assert!((parts.useful + parts.wasted() - parts.time).abs() < 1e-6, "{:?}", parts);
                let least = [parts.blocked, parts.lost, parts.detecting, parts.down, parts.waiting, parts.restarts];
                prop_assert!(least.iter().all(|part| *part >= -1e-9), "{:?}", parts);
            }
        }
    }

    #[test]
    fn what_is_no_failure_is_waited_for() {
        let mut halted = Told::new(1, 0.0, None, None);
        halted.computes(0.0).checkpoint(10.0, 1, 10).say(12.0, Event::Halted { step: 10 });
        halted.say(13.0, Event::AttemptEnded { how: End::Halted, step: 10 });
        let mut next = Told::new(2, 100.0, None, None);
        next.say(101.0, resumed(1, 1, 10)).computes(102.0);
        let parts = History::new(vec![halted.attempt(), next.attempt()]).parts(0);
        // The last checkpoint was waited for, and then a place in the queue.
        assert_eq!((parts.blocked, parts.waiting, parts.down, parts.detecting), (1.0 + 3.0, 87.0, 0.0, 0.0));
        assert_eq!(parts.lost, 0.0);
        assert_sums(&parts);
    }

    #[test]
    fn a_clock_that_is_set_changes_no_span_of_time() {
        let mut told = Told::new(1, 0.0, None, None);
        told.computes(2.0).checkpoint(10.0, 1, 8).say(30.0, Event::Beat { step: 28 });
        let right = told.attempt();
        let mono = |record: &Record| 1_000_000_000 + ((record.at.unix_ms() - time(0.0).unix_ms()) as u64) * 1_000_000;
        for record in &mut told.records {
            record.mono_ns = mono(record);
        }
        assert_eq!(told.attempt().clock_set(), 0.0);
        // An hour back after the checkpoint, or forward.
        for hour in [-3600.0, 3600.0] {
            let mut set = Told { epoch: 1, records: told.records.clone() };
            for record in set.records.iter_mut().skip(5) {
                record.at = WallTime::from_unix_ms(record.at.unix_ms() + (hour * 1e3) as i64);
            }
            let set = set.attempt();
            assert_eq!(set.clock_set(), hour);
            assert_eq!((set.seconds(), set.computed_until()), (right.seconds(), right.computed_until()));
        }
    }

    #[test]
    fn checkpoints_beyond_those_that_are_remembered_count_all_the_same() {
        let mut told = Told::new(1, 0.0, None, None);
        told.computes(0.0);
        let count = REMEMBERED as u64 + 10;
        for id in 1..=count {
            told.checkpoint(10.0 * id as f64, id, id);
        }
        let attempt = told.attempt();
        assert_eq!((attempt.checkpoints() as u64, attempt.taken().count()), (count, REMEMBERED));
        let account = History::new(vec![attempt]).account();
        assert_eq!((account.taken, account.blocked, account.slowed), (count, count as f64, 0.5 * count as f64));
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
