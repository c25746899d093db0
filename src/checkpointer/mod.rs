//! The session that an application holds.
//!
//! Comes in: the application's ticks, and its state at some of them. Goes out: committed checkpoints, and the way back to
//! the newest.
//!
//! ```text
//! open ─► resume ─► tick ─► tick ─► … ─► finish
//!                    │ due? all ranks take it at one tick      (agreement)
//!                    ▼
//!                  freeze: copy, let the application go on      (freeze)
//!                    ▼ in the background
//!                  encode, write, commit, retire               (pipeline)
//! ```
//!
//! What must hold: a tick never fails and never waits for a file system; a checkpoint that goes wrong costs that checkpoint
//! and nothing else; all ranks freeze at one step or none does; an outcome that an error reports is the same on every rank.

use crate::comm::{CommError, IntoCommunicator};
use crate::config::{Files, Layer, Settings, Tracking};
use crate::freeze::{Budget, Mark, PAGES, Plan, Session, Staging, untouched};
use crate::ids::{CheckpointId, CheckpointName, Epoch};
use crate::journal::{End, Event};
use crate::medium::Medium;
use crate::shard::{EncodeOptions, Grain, Lineage, Piece, ShardIdentity};
use crate::state::{Fields, State};
use crate::store::{Finished, JobFolder, ManifestNotes, RankGroup};
use crate::watch::Values;
use crate::watch::board::Phase;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

mod agreement;
mod background;
mod chain;
mod due;
mod errors;
mod open;
mod pipeline;
mod recorder;
mod resume;
mod signals;
mod slowdown;
mod tuner;
mod values;
mod watching;

pub use errors::{CheckpointError, FinishError, OpenError, Refusal, ResumeError};
pub use watching::Phases;

use agreement::{Agreement, Verdict, Vote};
use chain::Chain;
use due::Due;
use pipeline::{CommitOrder, Fate, Pipeline, Task, begin_shard};
use recorder::Recorder;
use signals::Signals;
use slowdown::{Moment, Slowdown};
use watching::Watching;

/// How long a checkpointer that is dropped without [`Checkpointer::finish`] waits for what is in flight.
const LAST_WAIT: Duration = Duration::from_secs(20);
/// How long it waits for its journal at the least.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What a tick tells the application.
#[derive(Debug, Default)]
#[must_use = "a job that was asked to halt should stop"]
pub struct Tick {
    stop: bool,
    frozen: Option<CheckpointId>,
    problem: Option<Box<str>>,
}

impl Tick {
    /// Whether somebody asked the job to halt: leave the loop and call [`Checkpointer::finish`]. The same on every rank.
    #[must_use]
    pub fn should_stop(&self) -> bool {
        self.stop
    }

    /// The checkpoint for which the state was frozen in this tick.
    #[must_use]
    pub fn frozen(&self) -> Option<CheckpointId> {
        self.frozen
    }

    /// What went wrong with checkpoints in this tick. The simulation may go on; what is at stake stands in the text.
    #[must_use]
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }
}

/// Where a job goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Resumed {
    /// The application's step at the checkpoint.
    pub step: u64,
    /// The checkpoint.
    pub checkpoint: CheckpointName,
    /// Whether the application had come to its end there: chained jobs leave it at that.
    pub finished: bool,
}

/// What became of the checkpoint that was in flight.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Settled {
    /// Nothing was.
    Nothing,
    /// It is committed, and survives.
    Committed(CheckpointId),
    /// It was dropped; the one before it stands.
    Dropped {
        /// Which.
        id: CheckpointId,
        /// Why.
        reason: String,
    },
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// The checkpoint that holds the final state.
    pub checkpoint: CheckpointName,
    /// Its step.
    pub step: u64,
    /// Whether the job was asked to halt, and is to go on another time.
    pub halted: bool,
}

/// Settings that the program itself makes, before those of files, environment and command line, which win.
#[derive(Debug)]
pub struct Builder {
    job: String,
    layer: Layer,
    arguments: Vec<OsString>,
    medium: Option<Arc<dyn Medium>>,
}

macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident($type:ty) as $key:literal, $value:ident => $text:expr;)*) => {
        $($(#[$doc])*
        #[must_use]
        pub fn $name(mut self, $value: $type) -> Self {
            self.layer.set($key, $text);
            self
        })*
    };
}

impl Builder {
    /// The program's arguments, in which `--resume[=latest|required|off|ID]`, `--fresh`, `--take-over` and
    /// `--piton.KEY=VALUE` are looked for; all others are left alone.
    #[must_use]
    pub fn args(mut self, arguments: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.arguments = arguments.into_iter().map(Into::into).collect();
        self
    }

    /// Where checkpoints are stored in tests, instead of the file system.
    #[must_use]
    pub fn medium(mut self, medium: Arc<dyn Medium>) -> Self {
        self.medium = Some(medium);
        self
    }

    /// Any setting by its name, written as in the configuration file.
    #[must_use]
    pub fn set(mut self, key: &'static str, value: impl ToString) -> Self {
        self.layer.set(key, value);
        self
    }

    setters! {
        /// The store: the folder that checkpoints of all jobs are kept in.
        dir(&Path) as "dir", path => path.display();
        /// Steps between checkpoints; 0: not by steps.
        every_steps(u64) as "every_steps", steps => if steps == 0 { "off".into() } else { steps.to_string() };
        /// A fixed time between checkpoints, in place of what wastes least; zero: not by time.
        every(Duration) as "every", time => if time.is_zero() { "off".into() } else { format!("{}s", time.as_secs_f64()) };
        /// How many of the newest checkpoints are kept, at least 1.
        keep(u32) as "keep", count => count;
        /// Threads per rank that copy and encode.
        threads(u32) as "threads", count => count;
    }

    /// Opens the job for the ranks of `world`: `&world` of rsmpi (feature `mpi`), or [`crate::comm::Solo`]. Collective.
    ///
    /// # Errors
    /// [`OpenError`], the same on every rank: a setting is nonsense, the store can't be used, there are checkpoints and neither
    /// `--resume` nor `--fresh` was given, another attempt of the job still runs.
    pub fn open(self, world: impl IntoCommunicator) -> Result<Checkpointer, OpenError> {
        open::open(self, Box::new(world.into_communicator()?))
    }
}

/// Takes checkpoints of a job, and brings it back.
///
/// ```
/// # #[derive(piton::State)] struct Simulation { field: Vec<f64> }
/// # impl Simulation { fn advance(&mut self) { self.field[0] += 1.0 } }
/// # let folder = tempfile::tempdir()?;
/// # let mut simulation = Simulation { field: vec![0.0; 10] };
/// let mut checkpointer = piton::Checkpointer::builder("example")
///     .args(std::env::args())
/// #   .dir(folder.path()).set("log", "quiet")
///     .every_steps(3)
///     .open(&piton::comm::Solo::default())?;
/// let mut step = checkpointer.resume(&mut simulation)?.map_or(0, |at| at.step);
/// while step < 10 {
///     simulation.advance();
///     step += 1;
///     if checkpointer.tick(step, &mut simulation).should_stop() {
///         break;
///     }
/// }
/// let summary = checkpointer.finish(&mut simulation)?;
/// assert_eq!(summary.step, 10);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Checkpointer {
    // Dropped first: its threads use the rest.
    pipeline: Pipeline,
    agreement: Agreement,
    job: JobFolder,
    epoch: Epoch,
    settings: Settings,
    /// Of the program, for manifests.
    program: String,
    recorder: Arc<Recorder>,
    encode: EncodeOptions,
    group: Option<RankGroup>,
    staging: Staging,
    budget: Budget,
    next_id: CheckpointId,
    /// The step of the last tick.
    step: u64,
    /// The last freeze: which, and at which tick and step. The same on every rank.
    frozen: Option<(CheckpointId, u64, u64)>,
    /// What became of it, once all ranks know.
    settled: Settled,
    /// The newest checkpoint that this attempt committed, as all ranks know it; 0: none.
    committed: u64,
    chain: Chain,
    slowdown: Slowdown,
    resumed: Option<Resumed>,
    due: Due,
    /// Where the setting allows it.
    signals: Option<Signals>,
    watching: Watching,
    stopping: bool,
    ended: bool,
}

impl Checkpointer {
    /// A session for the job `name`: 1 to 64 letters, digits, dots, dashes and underscores.
    #[must_use]
    pub fn builder(name: impl Into<String>) -> Builder {
        Builder { job: name.into(), layer: Layer::default(), arguments: Vec::new(), medium: None }
    }

    /// The number of this attempt of the job.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The settings in force: those of rank 0.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    fn timeout(&self) -> Duration {
        self.settings.agreement_timeout
    }

    fn name_of(&self, id: CheckpointId) -> CheckpointName {
        CheckpointName { epoch: self.epoch, id }
    }

    /// To be called once a time step, at the same steps on every rank, with everything that was received into the state
    /// complete. Nearly always it only counts; when a checkpoint is due it copies the state and returns.
    ///
    /// It never fails: what goes wrong with a checkpoint is in the journal and in [`Tick::problem`], and the simulation goes on.
    #[inline]
    pub fn tick<S: State + ?Sized>(&mut self, step: u64, state: &mut S) -> Tick {
        self.step = step;
        self.watching.place().step(step);
        if self.agreement.idle_tick() && !self.pipeline.shard_is_done() {
            return Tick { stop: self.stopping, frozen: None, problem: None };
        }
        self.busy_tick(state)
    }

    #[cold]
    fn busy_tick<S: State + ?Sized>(&mut self, state: &mut S) -> Tick {
        let mut tick = Tick::default();
        if !self.watching.place().is_computing() {
            self.watching.place().computing(self.step);
        }
        if self.watching.take_request() {
            self.predict_failure(None);
        }
        if self.pipeline.take_shard_done() {
            self.note_slowdown();
        }
        if let Err(error) = self.play_round(state, &mut tick) {
            self.give_up_agreeing(&error, &mut tick);
        }
        tick.stop = self.stopping;
        tick
    }

    /// Writes down what the checkpoint that was just written cost the application's steps.
    fn note_slowdown(&mut self) {
        let slowed = self.slowdown.over(Moment::now(), self.step);
        self.due.slowed(slowed.map(|slowed| slowed.lost_seconds));
        if let Some(slowed) = slowed {
            self.pipeline.note_lost(slowed.lost_seconds);
            self.recorder.record(Event::Slowed {
                id: slowed.id,
                seconds: slowed.during.as_secs_f64(),
                steps: slowed.steps,
                step_seconds: slowed.step_seconds,
                lost_seconds: slowed.lost_seconds,
            });
        }
    }

    /// What a tick does when a verdict or a vote is due.
    fn play_round<S: State + ?Sized>(&mut self, state: &mut S, tick: &mut Tick) -> Result<(), CommError> {
        if self.agreement.verdict_is_due() {
            self.take_verdict(state, tick)?;
        }
        if self.agreement.vote_is_due() {
            let vote = self.vote();
            self.agreement.post(&vote)?;
            // A world of one has its verdict at once.
            if self.agreement.verdict_is_due() {
                self.take_verdict(state, tick)?;
            }
        }
        Ok(())
    }

    fn vote(&mut self) -> Vote {
        let (checkpoint, halt) = self.pipeline.take_requests();
        self.due.requested |= checkpoint;
        self.due.halt |= halt;
        for asked in self.signals.iter_mut().flat_map(Signals::take) {
            self.recorder.record(Event::of_signal(asked.signal));
            self.due.requested = true;
            self.due.halt |= asked.halt;
        }
        if let Some(seconds) = self.pipeline.take_commit_seconds() {
            self.due.committed(seconds);
        }
        let busy = self.pipeline.is_busy();
        let (wants, until_due) = self.due.wants(self.step, self.agreement.tick(), self.agreement.lag(), busy);
        Vote {
            step: self.step,
            wants,
            forced: self.due.requested,
            stop: self.due.halt,
            busy,
            leaving: false,
            failed: self.pipeline.newest_failure(),
            full: self.wants_full(),
            committed: self.pipeline.newest_commit(),
            until_due,
            predicted: self.due.predicted.take(),
        }
    }

    /// Whether this rank wants the next checkpoint to be complete in itself.
    fn wants_full(&self) -> bool {
        self.chain.wants_full(self.next_id, self.pipeline.written().as_ref())
    }

    fn take_verdict<S: State + ?Sized>(&mut self, state: &mut S, tick: &mut Tick) -> Result<(), CommError> {
        let (every_steps, lag) = (self.settings.every_steps, self.agreement.lag());
        // The next vote is cast so that its verdict falls on the step at which a checkpoint is due.
        let until_due = |verdict: &Verdict| {
            let now = verdict.max_step.saturating_add(lag);
            let by_steps = now.checked_rem(every_steps).map(|rest| (every_steps - rest).saturating_sub(lag));
            by_steps.into_iter().chain(verdict.ticks_until_due(lag)).min()
        };
        let verdict = {
            let _phase = self.watching.place().enter("agreement", true);
            self.agreement.take(until_due)?
        };
        for event in self.due.learn(&verdict) {
            self.recorder.record(event);
        }
        self.learn_of_failures(verdict.failed);
        self.committed = self.committed.max(verdict.committed);
        if verdict.any_leaving || !verdict.in_step() {
            let reason = match verdict.any_leaving {
                true => "a rank has called finish while others still tick".to_owned(),
                false => format!(
                    "ranks tick at different steps ({} to {}) or counts of ticks; call tick once a step on every rank",
                    verdict.min_step, verdict.max_step
                ),
            };
            self.agreement.stop();
            self.recorder.record(Event::AgreementStopped { reason: reason.clone() });
            tick.problem = Some(format!("no more checkpoints in this attempt: {reason}").into());
            return Ok(());
        }
        self.stopping |= verdict.stop;
        if !verdict.wants.any() {
            return Ok(());
        }
        if verdict.busy {
            // What was asked for is queued: every rank that asked asks again in the next round. So does the clock.
            if !verdict.forced && verdict.wants.steps {
                self.due.passed(self.step);
                let reason = "the one before it is still being written".to_owned();
                self.recorder.record(Event::Skipped { step: self.step, reason });
            }
            return Ok(());
        }
        let (id, frozen) = self.freeze(verdict.wants.reason(), None, verdict.full, state);
        match frozen {
            Ok(()) => tick.frozen = Some(id),
            Err(why) => tick.problem = Some(format!("checkpoint {id} is dropped: {why}").into()),
        }
        Ok(())
    }

    /// What another rank could not write will never be committed: whoever waits for it need not.
    fn learn_of_failures(&self, failed: u64) {
        if let Some((id, ..)) = self.frozen
            && failed == id.0
        {
            self.pipeline.fail_elsewhere(id, "another rank could not write its part; see its journal");
        }
    }

    fn give_up_agreeing(&mut self, error: &CommError, tick: &mut Tick) {
        let reason = error.to_string();
        self.recorder.record(Event::AgreementStopped { reason: reason.clone() });
        tick.problem = Some(format!("no more checkpoints in this attempt: {reason}").into());
    }

    /// Freezes the state for the next checkpoint. All ranks do this at the same tick; the number is used up on every rank,
    /// whatever happens on one.
    fn freeze<S: State + ?Sized>(
        &mut self,
        reason: &str,
        label: Option<&str>,
        full: bool,
        state: &mut S,
    ) -> (CheckpointId, Result<(), String>) {
        let (id, begun) = (self.next_id, Moment::now());
        let started = begun.time;
        let phase = self.watching.place().enter("checkpoint", false);
        self.next_id = id.next();
        self.frozen = Some((id, self.agreement.tick(), self.step));
        self.settled = Settled::Nothing;
        self.due.taken(started, self.step);
        let step = self.step;
        self.pipeline.expect(CommitOrder {
            name: self.name_of(id),
            world: u32::try_from(self.agreement.size()).unwrap_or(u32::MAX),
            step,
            notes: ManifestNotes {
                program: self.program.clone(),
                reason: reason.to_owned(),
                label: label.map(str::to_owned),
            },
            since: started,
            deadline: started + self.settings.commit_timeout,
        });
        let written = self.pipeline.written();
        if let Some(share) = written.as_ref().and_then(|written| written.changed_share) {
            self.staging.changed_share(share);
        }
        let lineage = self.chain.next(written, self.committed, full);
        let copied = self.copy(id, lineage, state);
        let blocked_ns = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        // Noted before the background can have anything to say about it.
        let tick = self.agreement.tick();
        self.due.blocked(blocked_ns as f64 * 1e-9, tick);
        self.recorder.record(Event::CheckpointStarted { id, tick, step, reason: reason.to_owned() });
        let result = match copied {
            Ok((task, bytes)) => {
                let copied_bytes = Some(task.frozen.copied_bytes());
                self.recorder.record(Event::Frozen { id, blocked_ns, bytes, copied_bytes });
                self.slowdown.frozen(id, begun, Instant::now(), step);
                self.pipeline.write(task, self.slowdown.processors());
                Ok(())
            }
            Err(why) => {
                let what = format!("cannot freeze this rank's state for checkpoint {id}");
                self.recorder.record(Event::Problem { what, detail: why.clone() });
                self.pipeline.fail(id, why.clone());
                self.due.slowed(None);
                Err(why)
            }
        };
        drop(phase);
        self.watching.place().resting();
        (id, result)
    }

    fn copy<S: State + ?Sized>(
        &mut self,
        id: CheckpointId,
        lineage: Lineage,
        state: &mut S,
    ) -> Result<(Task, u64), String> {
        if let Some(arena) = self.pipeline.take_arena() {
            self.staging.put(arena);
        }
        let fields = Fields::of(state).map_err(|error| error.to_string())?;
        let (outline, sources) = (fields.outline(), fields.sources());
        let bytes: Vec<&[u8]> = sources.iter().map(|source| &*source.bytes).collect();
        let grains: Vec<Grain> =
            sources.iter().map(|source| Grain { stride: source.stride, lane: source.lane }).collect();
        let values = Values::new(&fields.bounds()).map(Arc::new);
        let plan = self.plan_and_reserve(&bytes);
        let identity = ShardIdentity {
            job: self.job.name().to_owned(),
            epoch: self.epoch,
            id,
            tick: self.agreement.tick(),
            step: self.step,
            rank: u32::try_from(self.agreement.rank()).unwrap_or(u32::MAX),
            world: u32::try_from(self.agreement.size()).unwrap_or(u32::MAX),
        };
        let pool = self.pipeline.pool();
        // What does not fit into the arena is written while the application waits: slower, but never refused.
        let streamed: Vec<Piece<'_>> = bytes
            .iter()
            .enumerate()
            .map(|(field, bytes)| Piece {
                field,
                offset: 0,
                bytes: &bytes[..plan.streamed(field) as usize],
                changed: None,
            })
            .filter(|piece| !piece.bytes.is_empty())
            .collect();
        let begun = if streamed.is_empty() {
            None
        } else {
            self.job.begin_checkpoint_folder(self.name_of(id)).map_err(|error| error.to_string())?;
            let begun = begin_shard(&self.job, self.group, &identity, &outline, &grains, &self.encode, &lineage);
            let mut writer = begun.map_err(|error| error.to_string())?;
            values::watch(&mut writer, values.as_ref());
            writer.write(pool, &streamed).map_err(|error| error.to_string())?;
            Some(writer)
        };
        let pool = (pool.current_num_threads() > 1).then_some(&**pool);
        let marks: Vec<Option<&Mark>> =
            sources.iter().map(|source| source.tracked.and_then(|mark| mark.downcast_ref())).collect();
        let (frozen, off) = self.staging.freeze(plan, &bytes, &marks, pool).map_err(|error| error.to_string())?;
        if let Some(reason) = off {
            self.recorder.record(Event::TrackingOff { reason });
        }
        let total = total(&bytes);
        let appended = fields.append_paths();
        let changed = self.chain.since_committed(id, frozen.changed(), self.committed);
        Ok((Task { identity, outline, grains, frozen, lineage, changed, begun, values, appended }, total))
    }

    /// What of the fields is copied, and what is written while the application waits; and the most that an arena may hold.
    fn plan(&mut self, fields: &[&[u8]]) -> (Plan, u64) {
        let sizes: Vec<u64> = fields.iter().map(|field| field.len() as u64).collect();
        let wanted = Plan::new(&sizes, self.settings.chunk, u64::MAX).arena_bytes();
        let held = self.staging.held();
        let limit = self.budget.limit(wanted, held, || untouched(fields, Path::new(PAGES)));
        (Plan::new(&sizes, self.settings.chunk, limit), limit)
    }

    /// As [`Self::plan`], with the memory for it in hand: where the system does not give so much, less is copied.
    fn plan_and_reserve(&mut self, fields: &[&[u8]]) -> Plan {
        let (mut plan, mut limit) = self.plan(fields);
        if let Err(error) = self.staging.reserve(plan.arena_bytes(), limit) {
            let most = self.staging.half_of_what_is_given(plan.arena_bytes());
            self.budget.refused(most, &error);
            (plan, limit) = self.plan(fields);
            // Where even that is gone by now, the freeze says so.
            let _ = self.staging.reserve(plan.arena_bytes(), limit);
        }
        self.tell_plan(&plan, total(fields));
        plan
    }

    fn tell_plan(&mut self, plan: &Plan, state_bytes: u64) {
        if let Some(event) = self.budget.news(plan, state_bytes) {
            self.recorder.record(event);
        }
    }

    /// Maps and touches the memory that the first freeze will need, in the background. The size of the state comes back, in bytes.
    fn prepare_staging<S: State + ?Sized>(&mut self, state: &mut S) -> Result<u64, String> {
        let fields = Fields::of(state).map_err(|error| error.to_string())?;
        fields.rehearse().map_err(|error| error.to_string())?;
        let sources = fields.sources();
        let bytes: Vec<&[u8]> = sources.iter().map(|source| &*source.bytes).collect();
        let (plan, _) = self.plan(&bytes);
        let (arena_bytes, state_bytes) = (plan.arena_bytes(), total(&bytes));
        let any_pages = sources.iter().any(|source| source.tracked.is_some());
        drop(sources);
        let mut tracking = self.start_tracking();
        if !any_pages {
            tracking.push_str(" (no field is a PagedVec)");
        }
        self.staging.prepare(arena_bytes);
        self.recorder.record(Event::Plan {
            threads: u32::try_from(self.pipeline.pool().current_num_threads()).unwrap_or(u32::MAX),
            state_bytes,
            arena_bytes,
            chunk_bytes: self.settings.chunk,
            mpi: None,
            tracking: Some(tracking),
        });
        self.tell_plan(&plan, state_bytes);
        Ok(state_bytes)
    }

    /// Prepares to copy only what changes, where that can be; the text says whether.
    fn start_tracking(&mut self) -> String {
        let (session, outcome) = Session::start(self.settings.tracking, self.settings.tracking_check);
        if session.is_none() && self.settings.tracking == Tracking::On {
            let what = "cannot copy only what changed, as `tracking` demands".into();
            self.recorder.record(Event::Problem { what, detail: outcome.clone() });
        }
        self.staging.track(session);
        outcome
    }

    /// Names what this rank is doing until what comes back is dropped: a rank that hangs or is slow is told from the others by it.
    /// [`Self::phases`] gives a handle that does the same anywhere.
    pub fn phase(&self, name: &'static str) -> Phase {
        self.watching.place().enter(name, false)
    }

    /// A handle that names phases from anywhere in the application, also such in which the rank waits for others.
    #[must_use]
    pub fn phases(&self) -> Phases {
        self.watching.phases()
    }

    /// Asks for a checkpoint at the next agreement of the ranks. Local: one rank is enough.
    pub fn request_checkpoint(&mut self) {
        self.due.requested = true;
    }

    /// Asks all ranks to halt at their next agreement, after a checkpoint. Local: one rank is enough.
    pub fn request_halt(&mut self) {
        self.due.requested = true;
        self.due.halt = true;
    }

    /// Says that a failure is foreseen, in `lead` where that is known: by the application itself, or by something that watches the
    /// node. Local: one rank is enough. A checkpoint follows where it is expected to save more than it costs: where enough was
    /// computed since the last one, as measured by how many earlier predictions came true, and where there is time for it. No more often than
    /// the setting `min_interval` allows.
    pub fn predict_failure(&mut self, lead: Option<Duration>) {
        self.due.predicted = Some(match self.due.predicted {
            Some(Some(earlier)) => Some(lead.map_or(earlier, |lead| lead.min(earlier))),
            _ => lead,
        });
    }

    /// Freezes the state now. Collective: every rank calls it at the same step, between the same ticks. A checkpoint that is
    /// still in flight is waited for. A labelled one is never retired.
    ///
    /// # Errors
    /// [`CheckpointError`]; the simulation may go on.
    pub fn checkpoint_now<S: State + ?Sized>(
        &mut self,
        step: u64,
        label: Option<&str>,
        state: &mut S,
    ) -> Result<CheckpointId, CheckpointError> {
        self.step = step;
        self.watching.place().step(step);
        self.ensure_agreeing()?;
        self.settle_in_flight()?;
        // One that is kept for ever should not keep others.
        let full = label.is_some() || self.wants_full();
        let (busy, committed) = (self.pipeline.is_busy(), self.pipeline.newest_commit());
        let vote = Vote { step, busy, full, committed, ..Vote::default() };
        let verdict = self.agreement.round_now(&vote, self.timeout())?;
        self.committed = self.committed.max(verdict.committed);
        if !verdict.in_step() {
            return Err(CheckpointError::OutOfStep { min: verdict.min_step, max: verdict.max_step });
        }
        if verdict.busy {
            return Err(CheckpointError::Busy(self.frozen.map_or(self.next_id, |(id, ..)| id)));
        }
        let (id, frozen) = self.freeze("asked for by the application", label, verdict.full, state);
        frozen.map(|()| id).map_err(|message| CheckpointError::Freeze { id, message })
    }

    fn ensure_agreeing(&self) -> Result<(), CommError> {
        match self.agreement.is_lost() {
            false => Ok(()),
            true => Err(CommError::Lost {
                rank: self.agreement.rank(),
                size: self.agreement.size(),
                what: "an earlier round",
                waited: self.timeout(),
            }),
        }
    }

    /// Waits until the checkpoint in flight is committed or dropped. Collective.
    ///
    /// Where ranks were lost, it only waits for this rank's part.
    pub fn wait(&mut self) -> Settled {
        match self.settle_in_flight() {
            Ok(settled) => settled,
            Err(error) => {
                self.recorder.record(Event::AgreementStopped { reason: error.to_string() });
                match self.frozen {
                    Some((id, ..)) => Settled::Dropped { id, reason: error.to_string() },
                    None => Settled::Nothing,
                }
            }
        }
    }

    /// All ranks learn whether one of them has no part in checkpoint `id`.
    fn learn_the_worst(
        &mut self,
        id: CheckpointId,
        own: &Result<(), String>,
        timeout: Duration,
    ) -> Result<(), CommError> {
        let (failed, rank) = self.agreement.worst(u32::from(own.is_err()), timeout)?;
        if failed > 0 {
            self.pipeline.fail_elsewhere(id, &format!("rank {rank} could not write its part; see its journal"));
        }
        Ok(())
    }

    /// All ranks learn what became of the last checkpoint.
    fn settle_in_flight(&mut self) -> Result<Settled, CommError> {
        let Some((id, ..)) = self.frozen else { return Ok(Settled::Nothing) };
        let _phase = self.watching.place().enter("commit", true);
        if self.settled != Settled::Nothing {
            return Ok(self.settled.clone());
        }
        let deadline = Instant::now() + self.settings.commit_timeout;
        let shared = self.settings.files == Files::Node;
        let own = match shared {
            true => self.pipeline.wait_for_part(id, deadline),
            false => self.pipeline.wait_for_writer(id, deadline),
        };
        self.pipeline.take_shard_done();
        // Whatever is timed begins anew: the application waited.
        self.due.waited(self.agreement.tick());
        self.slowdown.begin(Moment::now(), self.step);
        self.ensure_agreeing()?;
        // Others may still wait for their file systems.
        let timeout = self.settings.commit_timeout + self.timeout();
        self.learn_the_worst(id, &own, timeout)?;
        if shared {
            // Only now it is known whether the first rank of a node waits for the others in vain.
            let own = self.pipeline.wait_for_writer(id, deadline);
            self.learn_the_worst(id, &own, timeout)?;
        }
        let settled = match self.agreement.rank() {
            0 => match self.pipeline.wait_for_commit(id, deadline + self.timeout()) {
                Fate::Committed { .. } => Settled::Committed(id),
                Fate::Dropped(reason) => Settled::Dropped { id, reason },
            },
            _ => Settled::Nothing,
        };
        let told = self.agreement.broadcast(0, encode(&settled), timeout)?;
        self.settled =
            decode(&told).unwrap_or(Settled::Dropped { id, reason: "rank 0 did not say what became of it".into() });
        if let Settled::Committed(id) = self.settled {
            self.committed = self.committed.max(id.0);
        }
        Ok(self.settled.clone())
    }

    /// Saves the final state, and notes that the job has come to its end (or was halted). Collective.
    ///
    /// # Errors
    /// [`FinishError`]: the end is not on record. The application's own results are not affected.
    pub fn finish<S: State + ?Sized>(mut self, state: &mut S) -> Result<Summary, FinishError> {
        let result = self.finish_in_step(state);
        let how = match &result {
            Ok(summary) if summary.halted => End::Halted,
            Ok(_) => End::Finished,
            Err(_) => End::Dropped,
        };
        self.end(how);
        if !self.agreement.is_lost()
            && let Err(error) = self.agreement.release()
            && result.is_ok()
        {
            return Err(error.into());
        }
        result
    }

    fn finish_in_step<S: State + ?Sized>(&mut self, state: &mut S) -> Result<Summary, FinishError> {
        self.ensure_agreeing()?;
        let _phase = self.watching.place().enter("finish", true);
        // A rank that still ticks learns from these rounds that others leave, and comes here as well.
        let verdict = loop {
            let vote = Vote { leaving: true, ..self.vote() };
            let verdict = self.agreement.round_now(&vote, self.timeout())?;
            self.stopping |= verdict.stop;
            self.committed = self.committed.max(verdict.committed);
            if verdict.all_leaving {
                break verdict;
            }
        };
        self.agreement.stop();
        if !verdict.in_step() {
            return Err(FinishError::OutOfStep { min: verdict.min_step, max: verdict.max_step });
        }
        let mut settled = self.settle_in_flight()?;
        let is_final = self.frozen.is_some_and(|(_, tick, step)| (tick, step) == (self.agreement.tick(), self.step));
        let saved_now = match self.resumed {
            // Nothing was computed: what was resumed from is the final state.
            Some(resumed) if self.frozen.is_none() && self.agreement.tick() == 0 => Some(resumed.checkpoint),
            _ => None,
        };
        if saved_now.is_none() && !(is_final && matches!(settled, Settled::Committed(_))) {
            // A local failure is in the fate that all ranks learn.
            let reason = if self.stopping { "halt" } else { "finish" };
            let _ = self.freeze(reason, None, verdict.full, state);
            settled = self.settle_in_flight()?;
        }
        let checkpoint = match (saved_now, settled) {
            (Some(checkpoint), _) => checkpoint,
            (None, Settled::Committed(id)) => self.name_of(id),
            (None, Settled::Dropped { reason, .. }) => return Err(FinishError::NotCommitted(reason)),
            (None, Settled::Nothing) => return Err(FinishError::NotCommitted("nothing was frozen".into())),
        };
        let step = match (saved_now, self.resumed) {
            (Some(_), Some(resumed)) => resumed.step,
            _ => self.step,
        };
        let halted = self.stopping;
        if !halted {
            self.note_the_end(Finished { checkpoint, step })?;
        }
        self.recorder.record(match halted {
            true => Event::Halted { step },
            false => Event::Finished { step, epoch: Some(checkpoint.epoch), id: Some(checkpoint.id) },
        });
        Ok(Summary { checkpoint, step, halted })
    }

    /// Rank 0 writes that the job is done; all ranks learn whether that went well.
    fn note_the_end(&mut self, finished: Finished) -> Result<(), FinishError> {
        let noted = match self.agreement.rank() {
            0 => self.job.note_finished(self.epoch, &finished).map_err(|error| error.to_string()),
            _ => Ok(()),
        };
        let told = self.agreement.broadcast(0, encode(&noted), self.settings.commit_timeout)?;
        match decode::<Result<(), String>>(&told) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(why)) | Err(why) => Err(FinishError::NotCommitted(why)),
        }
    }

    /// Ends the background, and says so in the journal. Local.
    fn end(&mut self, how: End) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let deadline = Instant::now() + LAST_WAIT;
        self.pipeline.shut_down(deadline);
        self.recorder.record(Event::AttemptEnded { how, step: self.step });
        self.watching.end();
        // Where writing shards has used up the time, the last words still get a little.
        self.recorder.close(deadline.max(Instant::now() + LAST_WORDS));
    }
}

impl Drop for Checkpointer {
    /// Local, never collective: the communicator is not given back, since that would have to wait for the other ranks.
    fn drop(&mut self) {
        self.end(if std::thread::panicking() { End::Panicked } else { End::Dropped });
    }
}

fn total(fields: &[&[u8]]) -> u64 {
    fields.iter().map(|field| field.len() as u64).sum()
}

/// What ranks tell each other: JSON, since it is short and rare.
fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    // Our own messages can always be encoded; an empty one is refused by `decode`.
    serde_json::to_vec(message).unwrap_or_default()
}

fn decode<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<T, String> {
    serde_json::from_slice(bytes).map_err(|error| format!("a message of rank 0 could not be read: {error}"))
}
