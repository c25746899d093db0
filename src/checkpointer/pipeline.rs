//! What happens to a frozen state behind the application's back.
//!
//! ```text
//! every rank   writer thread    encode → write → sync → rename → sync folder      = this rank's durable yes
//!              (ranks that share a file say so in it, and the first of them gives it its name)
//! rank 0       steward thread   all shards there? → manifest → retire the old
//!                               requests of users · beats in the journal
//! ```
//!
//! Comes in: frozen copies, one at a time. Goes out: what became of each, under one lock that the application's thread looks
//! at in passing.
//! What must hold: the application's thread never waits for a file system here, except where it asks to
//! ([`Pipeline::wait_for_writer`], [`Pipeline::wait_for_commit`]), and then no longer than it says; what encodes and writes
//! behind its back gives way to it, what it waits for (copies, and the way back) does not; whatever these threads
//! meet, errors and panics of ours included, costs the checkpoint in flight and nothing else; no communicator is used here.

use super::background::Background;
use super::recorder::Recorder;
use super::tuner::Tuner;
use super::values;
use crate::freeze::{Arena, Changed, Frozen};
use crate::ids::{CheckpointId, CheckpointName, Epoch};
use crate::journal::Event;
use crate::shard::{
    Base, Compression, EncodeOptions, Grain, Lineage, Piece, ShardError, ShardIdentity, ShardPlace, ShardSummary,
    ShardWriter,
};
use crate::state::Outline;
use crate::store::{
    JobFolder, Manifest, ManifestNotes, RankGroup, RequestKind, RetentionPolicy, ShardFacts, temporary,
};
use crate::watch::Values;
use crate::watch::board::Place;
use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// A state that was frozen, and all that is needed to write it.
#[derive(Debug)]
pub(super) struct Task {
    pub identity: ShardIdentity,
    pub outline: Outline,
    pub grains: Vec<Grain>,
    pub frozen: Frozen,
    /// What the shard builds on, and what may have changed of each field since.
    pub lineage: Lineage,
    pub changed: Vec<Changed>,
    /// Where the shard was begun while the application waited, since the state is larger than the arena may be.
    pub begun: Option<ShardWriter>,
    /// Who looks at the values of fields that not every value can be in.
    pub values: Option<Arc<Values>>,
    /// Output files whose length is part of the state: their content must last as long as the checkpoint does.
    pub appended: Vec<PathBuf>,
}

/// What rank 0 shall do about a checkpoint once its shards are there.
#[derive(Debug, Clone)]
pub(super) struct CommitOrder {
    pub name: CheckpointName,
    pub world: u32,
    pub step: u64,
    pub notes: ManifestNotes,
    pub since: Instant,
    pub deadline: Instant,
}

/// What became of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    Committed { stored_bytes: u64, raw_bytes: u64 },
    Dropped(String),
}

/// What a shard leaves for the one after it.
#[derive(Debug, Clone)]
pub(super) struct Written {
    pub id: CheckpointId,
    /// What the next one may build on, if this one's checkpoint is committed.
    pub base: Option<Arc<Base>>,
    /// The share of the state that was not as in the base.
    pub changed_share: Option<f64>,
}

/// What both sides see.
#[derive(Debug, Default)]
struct State {
    task: Option<Box<Task>>,
    writing: bool,
    failed: Option<(CheckpointId, String)>,
    arena: Option<Arena>,
    /// The newest checkpoint of which this rank's own part is durable, be it in a file that has no final name yet.
    part: Option<CheckpointId>,
    /// The newest shard that has its final name, which a crash may still take away.
    named: Option<CheckpointId>,
    /// What the newest shard that is durable leaves for the next, and what changed in it.
    written: Option<Written>,
    /// What the last complete shard took, for the check of room before the next.
    last_stored: Option<u64>,
    order: Option<CommitOrder>,
    /// Another rank could not write its part of this checkpoint.
    failed_elsewhere: Option<(CheckpointId, String)>,
    fate: Option<(CheckpointId, Fate)>,
    /// What the last shard cost the application's steps, in seconds; not yet taken into account.
    lost_seconds: Option<f64>,
    /// How many processors this rank keeps busy while nothing is written.
    processors: Option<f64>,
    committed: Option<CheckpointId>,
    /// How long after its call the newest one was durable, in seconds; not yet taken into account.
    commit_seconds: Option<f64>,
    /// The user's requests that were taken up.
    checkpoint_requested: bool,
    halt_requested: bool,
    stop: bool,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// Something for the application's thread to look at: spares it the lock.
    requested: AtomicBool,
    /// A shard was written, or given up, and the application's thread has not seen it yet.
    shard_done: AtomicBool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while the lock is held leaves simple values only, all of them valid.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the application's thread look at what is asked of it: a checkpoint, a halt.
    fn ask(&self, checkpoint: bool, halt: bool) {
        let mut state = self.lock();
        state.checkpoint_requested |= checkpoint;
        state.halt_requested |= halt;
        drop(state);
        self.requested.store(true, Ordering::Relaxed);
    }
}

/// How the background works.
#[derive(Debug, Clone)]
pub(super) struct PipelineOptions {
    pub encode: EncodeOptions,
    pub background: Background,
    pub retention: RetentionPolicy,
    pub request_poll: Duration,
    pub journal_beat: Duration,
    pub epoch: Epoch,
    pub rank: usize,
    pub world: u32,
    /// The ranks that share a file with this one.
    pub group: Option<RankGroup>,
    pub commit_timeout: Duration,
    /// The mean time between failures that is expected, seconds.
    pub mtbf: f64,
}

/// The background threads of a rank.
#[derive(Debug)]
pub(super) struct Pipeline {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    pool: Arc<rayon::ThreadPool>,
    is_steward: bool,
}

impl Pipeline {
    /// Starts the threads. `place` tells the journal's beats how far the application is.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub(super) fn start(
        job: &JobFolder,
        recorder: &Arc<Recorder>,
        options: &PipelineOptions,
        place: &Place,
        threads: usize,
    ) -> io::Result<Self> {
        let rank = options.rank;
        let pool = pool_of(threads, rank, "copy").build().map_err(io::Error::other)?;
        let nice = options.background.nice(None);
        let encoders = encoders(threads, rank, &options.background, nice)?;
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            requested: AtomicBool::new(false),
            shard_done: AtomicBool::new(false),
        });
        let mut pipeline =
            Self { shared: Arc::clone(&shared), threads: Vec::new(), pool: Arc::new(pool), is_steward: rank == 0 };
        let writer = Writer {
            job: job.clone(),
            shared: Arc::clone(&shared),
            recorder: Arc::clone(recorder),
            encoders,
            nice,
            tuner: Tuner::new(options.mtbf),
            options: options.clone(),
        };
        pipeline.spawn("piton-writer", move || writer.run())?;
        if rank == 0 {
            let steward = Steward {
                job: job.clone(),
                shared,
                recorder: Arc::clone(recorder),
                options: options.clone(),
                place: place.clone(),
                last_beat: Instant::now(),
                last_poll: Instant::now(),
                facts: BTreeMap::new(),
                staged: None,
            };
            pipeline.spawn("piton-steward", move || steward.run())?;
        }
        Ok(pipeline)
    }

    fn spawn(&mut self, name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
        self.threads.push(thread::Builder::new().name(name.to_owned()).spawn(run)?);
        Ok(())
    }

    /// The threads that copy and decode while the application waits.
    pub(super) fn pool(&self) -> &Arc<rayon::ThreadPool> {
        &self.pool
    }

    /// Whether a shard was done since this was last taken. One load: every tick asks.
    #[inline]
    pub(super) fn shard_is_done(&self) -> bool {
        self.shared.shard_done.load(Ordering::Relaxed)
    }

    /// Whether a shard was done, once.
    pub(super) fn take_shard_done(&self) -> bool {
        self.shard_is_done() && self.shared.shard_done.swap(false, Ordering::Relaxed)
    }

    /// Whether a checkpoint is in flight on this rank: being written, or (rank 0) not yet committed or dropped.
    pub(super) fn is_busy(&self) -> bool {
        let state = self.shared.lock();
        state.writing || state.order.is_some()
    }

    /// The newest checkpoint that this rank could not write, or 0.
    pub(super) fn newest_failure(&self) -> u64 {
        self.shared.lock().failed.as_ref().map_or(0, |(id, _)| id.0)
    }

    /// The newest shard that this rank wrote.
    pub(super) fn written(&self) -> Option<Written> {
        self.shared.lock().written.clone()
    }

    /// Rank 0: the newest checkpoint that was committed, or 0.
    pub(super) fn newest_commit(&self) -> u64 {
        self.shared.lock().committed.map_or(0, |id| id.0)
    }

    /// Rank 0: how long after its call the newest checkpoint was durable, in seconds, once.
    pub(super) fn take_commit_seconds(&self) -> Option<f64> {
        if self.is_steward { self.shared.lock().commit_seconds.take() } else { None }
    }

    /// The memory of the last checkpoint, once it is written.
    pub(super) fn take_arena(&self) -> Option<Arena> {
        self.shared.lock().arena.take()
    }

    /// What a user asked of the job since this was last called: a checkpoint, a halt.
    pub(super) fn take_requests(&self) -> (bool, bool) {
        if !self.shared.requested.swap(false, Ordering::Relaxed) {
            return (false, false);
        }
        let mut state = self.shared.lock();
        (std::mem::take(&mut state.checkpoint_requested), std::mem::take(&mut state.halt_requested))
    }

    /// Notes what the last shard cost the application's steps.
    pub(super) fn note_lost(&self, seconds: f64) {
        self.shared.lock().lost_seconds = Some(seconds);
    }

    /// Rank 0: a checkpoint is under way, and will be committed when all shards are there.
    pub(super) fn expect(&self, order: CommitOrder) {
        if self.is_steward {
            self.shared.lock().order = Some(order);
            self.shared.changed.notify_all();
        }
    }

    /// Hands a frozen state to the writer. `processors`: how many this rank keeps busy while nothing is written.
    pub(super) fn write(&self, task: Task, processors: Option<f64>) {
        let mut state = self.shared.lock();
        state.processors = processors;
        state.task = Some(Box::new(task));
        state.writing = true;
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Notes that this rank has no part in checkpoint `id`.
    pub(super) fn fail(&self, id: CheckpointId, why: String) {
        self.shared.lock().failed = Some((id, why));
        self.shared.changed.notify_all();
    }

    /// Another rank has no part in checkpoint `id`, so that it will never be committed: nobody need wait for it.
    pub(super) fn fail_elsewhere(&self, id: CheckpointId, why: &str) {
        self.shared.lock().failed_elsewhere = Some((id, why.to_owned()));
        self.shared.changed.notify_all();
    }

    /// Waits until this rank's part of what is in flight is durable or has failed. Where checkpoint `id` failed here, or is
    /// not done at `deadline`, says so.
    pub(super) fn wait_for_writer(&self, id: CheckpointId, deadline: Instant) -> Result<(), String> {
        let state = self.wait_until(deadline, |state| !state.writing);
        match (&state.failed, state.writing) {
            (Some((failed, why)), _) if *failed == id => Err(why.clone()),
            (_, true) => Err("its shard was not written in time; the file system may hang".into()),
            _ => Ok(()),
        }
    }

    /// As [`Self::wait_for_writer`], but not until the other ranks' parts of the same file are durable, too.
    pub(super) fn wait_for_part(&self, id: CheckpointId, deadline: Instant) -> Result<(), String> {
        drop(self.wait_until(deadline, |state| !state.writing || state.part == Some(id)));
        if self.shared.lock().part == Some(id) { Ok(()) } else { self.wait_for_writer(id, deadline) }
    }

    /// Rank 0: waits until checkpoint `id` is committed or dropped.
    pub(super) fn wait_for_commit(&self, id: CheckpointId, deadline: Instant) -> Fate {
        let state = self.wait_until(deadline, |state| state.order.is_none());
        match &state.fate {
            Some((settled, fate)) if *settled == id => fate.clone(),
            _ => Fate::Dropped("it was not committed in time".into()),
        }
    }

    fn wait_until(&self, deadline: Instant, done: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        let mut state = self.shared.lock();
        while !done(&state) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state
    }

    /// Ends the threads, after what is in flight or at `deadline`, whatever comes first.
    pub(super) fn shut_down(&mut self, deadline: Instant) {
        drop(self.wait_until(deadline, |state| !state.writing && state.order.is_none()));
        self.shared.lock().stop = true;
        self.shared.changed.notify_all();
        let stuck = Instant::now() >= deadline;
        for thread in self.threads.drain(..) {
            // One that hangs in a file system is left behind: waiting for it would hang the application.
            if !stuck || thread.is_finished() {
                let _ = thread.join();
            }
        }
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        if !self.threads.is_empty() {
            self.shut_down(Instant::now());
        }
    }
}

fn pool_of(threads: usize, rank: usize, name: &'static str) -> rayon::ThreadPoolBuilder {
    let builder = rayon::ThreadPoolBuilder::new().num_threads(threads);
    builder.thread_name(move |index| format!("piton-{name}-{rank}-{index}"))
}

/// The threads that encode, with a priority that they keep: only root could raise it again.
fn encoders(threads: usize, rank: usize, background: &Background, nice: u8) -> io::Result<rayon::ThreadPool> {
    let background = background.clone();
    let builder = pool_of(threads, rank, "encode").start_handler(move |_| background.enter(nice));
    builder.build().map_err(io::Error::other)
}

/// The thread that writes this rank's shards.
struct Writer {
    job: JobFolder,
    shared: Arc<Shared>,
    recorder: Arc<Recorder>,
    encoders: rayon::ThreadPool,
    /// The priority of the threads that encode and write.
    nice: u8,
    tuner: Tuner,
    options: PipelineOptions,
}

impl Writer {
    fn run(mut self) {
        // What it starts begins where this thread may run: not on the one processor of a rank that is bound to it.
        self.options.background.enter(0);
        loop {
            let (task, last_stored, lost, processors) = {
                let mut state = self.shared.lock();
                loop {
                    if let Some(task) = state.task.take() {
                        break (task, state.last_stored, state.lost_seconds.take(), state.processors);
                    }
                    if state.stop {
                        return;
                    }
                    state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            };
            let (id, started) = (task.identity.id, Instant::now());
            let Task { identity, outline, grains, frozen, lineage, changed, begun, values, appended } = *task;
            let builds_on = lineage.base.as_ref().map(|base| base.id());
            let name = CheckpointName { epoch: identity.epoch, id };
            let work = Work {
                identity: &identity,
                outline: &outline,
                grains: &grains,
                frozen: &frozen,
                lineage: &lineage,
                changed: &changed,
                values: values.as_ref(),
                appended: &appended,
            };
            self.give_way(processors);
            let result = self.in_background(|writer| {
                writer.tune(&work, lost);
                writer.write(name, &work, begun, last_stored)
            });
            let mut state = self.shared.lock();
            // `finish` may have handed over the next one while this one hung.
            state.writing = state.task.is_some();
            state.arena = Some(frozen.into_arena());
            let event = match result {
                Ok(summary) => {
                    self.tuner.learn(&summary);
                    let ShardSummary { bytes, raw_bytes, changed_share, base, .. } = summary;
                    if builds_on.is_none() {
                        state.last_stored = Some(bytes);
                    }
                    state.written = Some(Written { id, base, changed_share });
                    let seconds = started.elapsed().as_secs_f64();
                    Event::ShardDurable { id, bytes, raw_bytes, seconds, builds_on, changed_share }
                }
                Err(why) => {
                    state.failed = Some((id, why.clone()));
                    Event::Problem { what: format!("cannot write this rank's part of checkpoint {id}"), detail: why }
                }
            };
            drop(state);
            self.shared.shard_done.store(true, Ordering::Relaxed);
            self.shared.changed.notify_all();
            self.recorder.record(event);
        }
    }

    /// Chooses the priority for the next shard by how many processors this rank keeps busy.
    fn give_way(&mut self, processors: Option<f64>) {
        let nice = self.options.background.nice(processors);
        if nice == self.nice {
            return;
        }
        let threads = self.encoders.current_num_threads();
        // Where the system gives no thread, those that are there do as well.
        if let Ok(encoders) = encoders(threads, self.options.rank, &self.options.background, nice) {
            (self.encoders, self.nice) = (encoders, nice);
        }
    }

    /// Does `work` on a thread of the background, which ends with it: the next one may have another priority.
    fn in_background<T: Send>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, String> + Send,
    ) -> Result<T, String> {
        let (background, nice) = (self.options.background.clone(), self.nice);
        thread::scope(|scope| {
            let work = || {
                background.enter(nice);
                work(self)
            };
            match thread::Builder::new().name("piton-shard".into()).spawn_scoped(scope, work) {
                Ok(thread) => thread
                    .join()
                    .unwrap_or_else(|_| Err("the writer panicked; please report this as a bug of Piton".into())),
                Err(error) => Err(format!("the system gives no thread to write on: {error}")),
            }
        })
    }

    /// Chooses how the shard is encoded, unless the user did.
    fn tune(&mut self, work: &Work<'_>, lost_seconds: Option<f64>) {
        if self.options.encode.compression != Compression::Auto {
            return;
        }
        let chunk_bytes = self.options.encode.chunk_bytes;
        let bandwidth = self.options.encode.bandwidth;
        let Some(choice) = self.tuner.choose(work, chunk_bytes, &self.encoders, lost_seconds, bandwidth) else {
            return;
        };
        let names: Vec<&str> = work.outline.fields.iter().map(|field| field.name.as_str()).collect();
        self.recorder.record(Event::Encoding {
            id: work.identity.id,
            efforts: choice.by_effort(&names),
            in_haste: choice.by_effort_in_haste(&names),
            storage_bytes_per_second: choice.circumstances.storage,
            busy: choice.circumstances.busy,
            interval_seconds: choice.circumstances.interval,
            threads: u32::try_from(choice.threads).ok(),
            nice: Some(self.nice),
            expected_bytes: Some(choice.stored as u64),
            expected_seconds: Some(choice.seconds),
        });
        self.options.encode.by_field = choice.efforts;
        self.options.encode.in_haste = choice.in_haste;
        self.options.encode.threads = Some(choice.threads);
    }

    fn write(
        &self,
        name: CheckpointName,
        work: &Work<'_>,
        begun: Option<ShardWriter>,
        last_stored: Option<u64>,
    ) -> Result<ShardSummary, String> {
        let place = self.job.place(name, self.options.rank, self.options.group);
        let path = place.path();
        let unfinished = temporary(path);
        let written = self.write_durably(name, work, begun, last_stored);
        // Before the shard counts: a checkpoint is never seen committed and without its mark.
        if let (Some(values), Ok(_)) = (work.values, &written) {
            values::tell(values, work.outline, name, self.options.rank, &self.job, &self.recorder);
        }
        let published = written.and_then(|summary| {
            self.shared.lock().part = Some(name.id);
            self.shared.changed.notify_all();
            if self.gives_name() {
                self.wait_for_group(name.id, &place.in_file(&unfinished))?;
                self.job.give_name(&unfinished, path).map_err(|error| error.to_string())?;
                // The manifest can be prepared while the name becomes durable.
                self.shared.lock().named = Some(name.id);
                self.shared.changed.notify_all();
                self.job.confirm(name).map_err(|error| error.to_string())?;
            }
            Ok(summary)
        });
        if published.is_err() {
            // Its room is of more use than its remains, and whoever waits for this rank's part of it sees that none will come.
            let _ = self.job.medium().remove_file(&unfinished);
        }
        published
    }

    /// Whether this rank gives its file its final name: all do, but of those that share one only the first.
    fn gives_name(&self) -> bool {
        self.options.group.is_none_or(|group| group.leader() == self.options.rank)
    }

    /// Waits until the parts of other ranks in the file of `own`, where there are any, are durable.
    fn wait_for_group(&self, id: CheckpointId, own: &ShardPlace) -> Result<(), String> {
        let since = Instant::now();
        loop {
            match own.all_are_durable(&**self.job.medium()) {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Err("another rank of the node could not write its part; see its journal".into());
                }
                Err(error) => return Err(format!("cannot read {}: {error}", own.path().display())),
            }
            let waited = since.elapsed();
            if waited >= self.options.commit_timeout {
                return Err("the other ranks of the node did not write their parts in time".into());
            }
            let state = self.shared.lock();
            if let Some((failed, why)) = &state.failed_elsewhere
                && *failed == id
            {
                return Err(why.clone());
            }
            if state.stop {
                return Err("the session ended before the other ranks of the node had written their parts".into());
            }
            let pause = (waited / LOOK_SHARE).clamp(LOOK_LEAST, LOOK_MOST);
            drop(self.shared.changed.wait_timeout(state, pause).unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// Writes the shard under its temporary name. The folder it lies in becomes durable meanwhile: that takes about as long as
    /// a small shard.
    fn write_durably(
        &self,
        name: CheckpointName,
        work: &Work<'_>,
        begun: Option<ShardWriter>,
        last_stored: Option<u64>,
    ) -> Result<ShardSummary, String> {
        let mut writer = match begun {
            Some(writer) => writer,
            None => {
                self.job.begin_checkpoint_folder(name).map_err(|error| error.to_string())?;
                self.check_room(name, work.outline, last_stored)?;
                begin_shard(
                    &self.job,
                    self.options.group,
                    work.identity,
                    work.outline,
                    work.grains,
                    &self.options.encode,
                    work.lineage,
                )
                .map_err(|error| error.to_string())?
            }
        };
        values::watch(&mut writer, work.values);
        let confirm = || match self.gives_name() {
            true => self.job.confirm_checkpoint_folder(name).map_err(|error| error.to_string()),
            false => Ok(()),
        };
        thread::scope(|scope| {
            let confirming = thread::Builder::new().name("piton-folder".into()).spawn_scoped(scope, confirm);
            let summary = self.write_shard(writer, work)?;
            match confirming {
                Ok(confirming) => confirming.join().map_err(|_| "a thread of the writer panicked".to_owned())?,
                // Where the system gives no thread it takes longer.
                Err(_) => confirm(),
            }?;
            Ok(summary)
        })
    }

    fn write_shard(&self, mut writer: ShardWriter, work: &Work<'_>) -> Result<ShardSummary, String> {
        let plan = work.frozen.plan();
        let pieces: Vec<Piece<'_>> = (0..work.outline.fields.len())
            .map(|field| Piece {
                field,
                offset: plan.streamed(field),
                bytes: work.frozen.bytes(field),
                changed: work.changed.get(field).and_then(Changed::words),
            })
            .filter(|piece| !piece.bytes.is_empty())
            .collect();
        writer.write(&self.encoders, &pieces).map_err(|error| error.to_string())?;
        // Before the shard: where ranks share a file, this rank's part counts once it is durable.
        for path in work.appended {
            make_durable(path).map_err(|error| format!("cannot make {} durable: {error}", path.display()))?;
        }
        writer.finish().map_err(|error| error.to_string())
    }

    /// Refuses a checkpoint for which there is no room, before it fills the file system for everybody.
    fn check_room(&self, name: CheckpointName, outline: &Outline, last_stored: Option<u64>) -> Result<(), String> {
        let raw: u64 = outline.fields.iter().map(|field| field.bytes).sum();
        // What the last complete one took, and some more; the first may take as much as the state. What builds on others may
        // turn out to take as much, too: nobody knows yet how much changed.
        let own = last_stored.map_or(raw, |stored| (stored + stored / 10).min(raw)).saturating_add(64 << 10);
        let folder = self.job.checkpoint_folder(name);
        // Where the file system does not say, writing will tell.
        let Ok(Some(room)) = self.job.medium().room(&folder) else { return Ok(()) };
        if room < own {
            return Err(format!(
                "{} has room for {room} bytes; about {own} are needed. Free some, or let fewer checkpoints be kept (`keep`)",
                folder.display()
            ));
        }
        Ok(())
    }
}

/// What the writer reads of a task.
pub(super) struct Work<'a> {
    identity: &'a ShardIdentity,
    outline: &'a Outline,
    grains: &'a [Grain],
    frozen: &'a Frozen,
    lineage: &'a Lineage,
    changed: &'a [Changed],
    values: Option<&'a Arc<Values>>,
    appended: &'a [PathBuf],
}

impl Work<'_> {
    /// The bytes that were frozen of each field, and what its elements look like.
    pub(super) fn fields(&self) -> Vec<(&[u8], Grain)> {
        self.grains.iter().enumerate().map(|(field, grain)| (self.frozen.bytes(field), *grain)).collect()
    }
}

/// Creates the file of a shard under its temporary name; what an earlier try left there is replaced.
pub(super) fn begin_shard(
    job: &JobFolder,
    group: Option<RankGroup>,
    identity: &ShardIdentity,
    outline: &Outline,
    grains: &[Grain],
    options: &EncodeOptions,
    lineage: &Lineage,
) -> Result<ShardWriter, ShardError> {
    let name = CheckpointName { epoch: identity.epoch, id: identity.id };
    let place = job.place(name, identity.rank as usize, group);
    let unfinished = place.in_file(temporary(place.path()));
    ShardWriter::create_in(&**job.medium(), &unfinished, identity, outline, grains, options, lineage.clone())
}

fn make_durable(path: &std::path::Path) -> io::Result<()> {
    match std::fs::File::open(path) {
        Ok(file) => file.sync_data(),
        // Its length is 0 in the checkpoint then.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// The thread of rank 0 that commits, retires, looks for requests and keeps the journal advancing.
struct Steward {
    job: JobFolder,
    shared: Arc<Shared>,
    recorder: Arc<Recorder>,
    options: PipelineOptions,
    place: Place,
    last_beat: Instant,
    last_poll: Instant,
    /// What was read of the shards of the checkpoint in flight, by rank: each is read as soon as it is there, since reading
    /// thousands of them at the end would take seconds.
    facts: BTreeMap<usize, ShardFacts>,
    /// The checkpoint whose manifest is written, but has no name yet.
    staged: Option<Manifest>,
}

/// The shortest and the longest pause between two looks for the other ranks' shards; in between, this share of the time
/// that the checkpoint has taken already, so that looking delays the commit by no more than that.
const LOOK_LEAST: Duration = Duration::from_micros(500);
const LOOK_MOST: Duration = Duration::from_millis(50);
const LOOK_SHARE: u32 = 64;

/// Why a checkpoint cannot be committed now.
enum Missing {
    /// Its shards may still come.
    Yet(String),
    ForEver(String),
}

/// Why an attempt with a newer one beside it commits nothing.
const TAKEN_OVER: &str = "a newer attempt of this job has taken over; this one is told to stop";

impl Steward {
    fn run(mut self) {
        let mut of = None;
        loop {
            let order = {
                let state = self.shared.lock();
                let idle = self.options.request_poll.min(self.options.journal_beat);
                let ready = state.stop || (state.order.is_some() && of != state.order.as_ref().map(|order| order.name));
                let pause = state
                    .order
                    .as_ref()
                    .map_or(idle, |order| (order.since.elapsed() / LOOK_SHARE).clamp(LOOK_LEAST, LOOK_MOST));
                let state = match ready {
                    true => state,
                    false => self.shared.changed.wait_timeout(state, pause).unwrap_or_else(PoisonError::into_inner).0,
                };
                if state.stop {
                    return;
                }
                state.order.clone()
            };
            self.keep_house();
            let Some(order) = order else {
                of = None;
                continue;
            };
            of = Some(order.name);
            let fate = catch_unwind(AssertUnwindSafe(|| self.look_after(&order))).unwrap_or_else(|_| {
                Some(Fate::Dropped("the steward panicked; please report this as a bug of Piton".into()))
            });
            if let Some(fate) = fate {
                self.settle(&order, fate);
            }
        }
    }

    /// Beats and requests, each when its time has come.
    fn keep_house(&mut self) {
        if self.last_beat.elapsed() >= self.options.journal_beat {
            self.last_beat = Instant::now();
            self.recorder.record(Event::Beat { step: self.place.at() });
        }
        if self.last_poll.elapsed() >= self.options.request_poll {
            self.last_poll = Instant::now();
            // A store that can't be read now may be the next time.
            for request in self.job.take_requests().unwrap_or_default() {
                self.shared.ask(true, request.kind == RequestKind::Halt);
                self.recorder.record(Event::RequestSeen { what: format!("{:?} by {}", request.kind, request.by) });
            }
        }
    }

    /// Commits the checkpoint if all its shards are there. `None`: not yet.
    fn look_after(&mut self, order: &CommitOrder) -> Option<Fate> {
        let id = order.name.id;
        let (named, durable) = {
            let state = self.shared.lock();
            for failed in [&state.failed, &state.failed_elsewhere] {
                if let Some((failed, why)) = failed
                    && *failed == id
                {
                    return Some(Fate::Dropped(why.clone()));
                }
            }
            (state.named == Some(id), state.written.as_ref().is_some_and(|written| written.id == id))
        };
        let late = Instant::now() >= order.deadline;
        if !named && !late {
            return None;
        }
        let staged = self.staged.as_ref().is_some_and(|staged| staged.name() == order.name);
        if !staged && let Some(missing) = self.shards_missing(order, named) {
            return match missing {
                Missing::Yet(why) => late.then_some(Fate::Dropped(why)),
                Missing::ForEver(why) => Some(Fate::Dropped(why)),
            };
        }
        if !staged && let Err(why) = self.stage(order) {
            return Some(Fate::Dropped(why));
        }
        // The others' shards count under their final names, which become durable with the manifest's. Of this rank's own, the
        // writer still says whether that failed.
        match durable {
            true => Some(self.commit(order).unwrap_or_else(Fate::Dropped)),
            false => late.then(|| Fate::Dropped("this rank's shard was not durable in time".into())),
        }
    }

    /// Which shards of a checkpoint are not there, and whether they may still come. `named`: this rank's own was.
    fn shards_missing(&mut self, order: &CommitOrder, named: bool) -> Option<Missing> {
        let present = self.job.shards_present(order.name);
        let of_world = |(rank, _): &(&usize, &ShardPlace)| **rank < order.world as usize && named;
        for (&rank, place) in present.iter().flatten().filter(of_world) {
            if self.facts.contains_key(&rank) {
                continue;
            }
            match self.job.shard_facts(place, rank) {
                Ok(facts) => drop(self.facts.insert(rank, facts)),
                // A newer attempt may have retired it.
                Err(_) if self.gives_way(order) => return Some(Missing::ForEver(TAKEN_OVER.into())),
                Err(error) => return Some(Missing::ForEver(error.to_string())),
            }
        }
        match present {
            Ok(ranks) if ranks.len() == order.world as usize && named => None,
            // Written and gone again: nobody will ever find all of them.
            Ok(ranks) if named && !ranks.contains_key(&self.options.rank) => {
                Some(Missing::ForEver("its folder was removed while it was written".into()))
            }
            // A newer attempt may have retired the others' shards: they would be waited for in vain.
            Ok(_) if named && self.gives_way(order) => Some(Missing::ForEver(TAKEN_OVER.into())),
            Ok(ranks) => Some(Missing::Yet(format!("{} of {} shards were written in time", ranks.len(), order.world))),
            Err(error) => Some(Missing::Yet(error.to_string())),
        }
    }

    /// Writes the manifest under a name that does not count yet.
    fn stage(&mut self, order: &CommitOrder) -> Result<(), String> {
        let shards = std::mem::take(&mut self.facts).into_values().collect();
        let draft = self.job.draft_from(order.name, &order.notes, shards);
        let staged = draft.and_then(|manifest| self.job.stage_manifest(&manifest).map(|()| manifest));
        self.staged = Some(staged.map_err(|error| error.to_string())?);
        Ok(())
    }

    fn commit(&self, order: &CommitOrder) -> Result<Fate, String> {
        // Not for safety, which rests on the order of epochs: a job that was taken over from should not fill the store.
        if self.gives_way(order) {
            return Err(TAKEN_OVER.into());
        }
        let Some(manifest) = &self.staged else { return Err("its manifest was not written".into()) };
        self.job.commit_staged(order.name).map_err(|error| error.to_string())?;
        Ok(Fate::Committed { stored_bytes: manifest.stored_bytes, raw_bytes: manifest.raw_bytes })
    }

    /// Whether a newer attempt of the job is known to have a claim. Then the ranks are told to stop: what they still compute is computed by another
    /// one, too.
    fn gives_way(&self, order: &CommitOrder) -> bool {
        let gives_way =
            self.job.newest_claim().is_ok_and(|newest| newest.is_some_and(|newest| newest > order.name.epoch));
        if gives_way {
            self.shared.ask(false, true);
        }
        gives_way
    }

    /// Makes known what became of a checkpoint, then tidies up.
    fn settle(&mut self, order: &CommitOrder, fate: Fate) {
        let id = order.name.id;
        self.staged = None;
        self.facts.clear();
        let committed = matches!(fate, Fate::Committed { .. });
        self.recorder.record(match &fate {
            Fate::Committed { stored_bytes, raw_bytes } => Event::Committed {
                id,
                step: order.step,
                commit_ns: u64::try_from(order.since.elapsed().as_nanos()).unwrap_or(u64::MAX),
                bytes: *stored_bytes,
                raw_bytes: *raw_bytes,
                label: order.notes.label.clone(),
            },
            Fate::Dropped(why) => Event::Dropped { id, reason: why.clone() },
        });
        let mut state = self.shared.lock();
        if committed {
            state.committed = Some(id);
            state.commit_seconds = Some(order.since.elapsed().as_secs_f64());
        }
        state.fate = Some((id, fate));
        state.order = None;
        drop(state);
        self.shared.changed.notify_all();
        if committed {
            self.retire(id);
        } else if let Err(error) = self.job.discard(order.name, self.options.rank) {
            // It will go with the next retirement.
            self.recorder
                .record(Event::Problem { what: format!("cannot clean up checkpoint {id}"), detail: error.to_string() });
        }
    }

    fn retire(&self, newest: CheckpointId) {
        let problem = match self.job.retire(&self.options.retention, self.options.epoch, newest) {
            Ok((gone, problem)) => {
                for name in gone {
                    self.recorder.record(Event::Retired { epoch: name.epoch, id: name.id });
                }
                problem
            }
            Err(error) => Some(error),
        };
        if let Some(error) = problem {
            let what = "cannot remove checkpoints that are no longer needed".into();
            self.recorder.record(Event::Problem { what, detail: error.to_string() });
        }
    }
}
