//! The way back: choosing a checkpoint and restoring it, alike on all ranks.
//!
//! Comes in: the job's checkpoints, as rank 0 sees them, and the application's state. Goes out: the state as it was at the
//! newest checkpoint that all ranks can verify, or as it is, or the same error on every rank.
//!
//! What must hold:
//! - Rank 0 proposes, all ranks try, all ranks agree on the worst outcome, then all act on it.
//! - Only a wrong digest or format sets a checkpoint aside. What can't be read is tried again, then refused.
//! - Everything that can be refused is refused before the first byte of the application's state is written; once an
//!   array was touched, the outcome is success (from this checkpoint or an older one) or the same error on every rank.

use super::slowdown::Moment;
use super::{Checkpointer, CommError, ResumeError, Resumed, decode, encode};
use crate::config::ResumeRequest;
use crate::ids::{CheckpointName, CheckpointSelector};
use crate::journal::{End, Event};
use crate::shard::{ShardError, ShardIdentity, ShardReader};
use crate::state::{Fields, Mapping, Outline, State};
use crate::store::{
    Catalogue, CheckpointEntry, CheckpointState, Manifest, ManifestNotes, ResumedFrom, SetAside, StoreError,
};
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// After so many attempts that came to nothing on a checkpoint by the application's own doing, an older one is tried.
const STRIKES: usize = 3;
/// How often what can't be read is tried again, and after what pause.
const RETRIES: u32 = 3;
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// What rank 0 proposes.
#[derive(Debug, Serialize, Deserialize)]
enum Proposal {
    Try { manifest: Box<Manifest>, rolled_forward: bool, finished: bool },
    Fresh { reason: String },
    Refuse { message: String },
}

/// How a try went on one rank; the worst of all ranks decides.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Trouble {
    /// The checkpoint is not what was written: an older one.
    Damaged(String),
    /// It can't be read now: again, then refuse.
    Unreadable(String),
    /// It does not fit the application: refuse.
    Unfit(String),
    /// The application's description is at fault: refuse.
    Describe(String),
}

impl Trouble {
    fn code(&self) -> u32 {
        match self {
            Self::Damaged(_) => 1,
            Self::Unreadable(_) => 2,
            Self::Unfit(_) => 3,
            Self::Describe(_) => 4,
        }
    }

    fn text(&self) -> &str {
        match self {
            Self::Damaged(text) | Self::Unreadable(text) | Self::Unfit(text) | Self::Describe(text) => text,
        }
    }
}

impl From<ShardError> for Trouble {
    fn from(error: ShardError) -> Self {
        let text = error.to_string();
        match error {
            ShardError::Damaged { .. } => Self::Damaged(text),
            // The manifest says that it is there.
            ShardError::Read { source, .. } if source.kind() == std::io::ErrorKind::NotFound => Self::Damaged(text),
            _ => Self::Unreadable(text),
        }
    }
}

/// What all ranks say about a try.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Good,
    Bad { trouble: Trouble, rank: usize },
}

/// Rank 0's way through the candidates.
struct Search {
    candidates: Vec<CheckpointName>,
    catalogue: Catalogue,
    unreadable: u32,
    required: Option<String>,
}

impl Checkpointer {
    /// Brings `state` back to the newest checkpoint that all ranks can verify, if the job is to be resumed and there is one.
    /// `None`: start at the beginning. Collective; call it once, before the first tick.
    ///
    /// # Errors
    /// [`ResumeError`], the same on every rank. Where that happens after a damaged checkpoint was tried, the state is of no
    /// use any more.
    pub fn resume<S: State + ?Sized>(&mut self, state: &mut S) -> Result<Option<Resumed>, ResumeError> {
        let started = Instant::now();
        let resumed = match self.settings.resume {
            ResumeRequest::Off => None,
            request => self.search(request, state)?,
        };
        let restart = resumed.map(|_| started.elapsed().as_secs_f64());
        let prepared = self.prepare_staging(state).map_err(Trouble::Describe);
        match self.agree_on(prepared.as_ref().err())? {
            Verdict::Good => {}
            Verdict::Bad { trouble, rank } => {
                return Err(ResumeError::Describe { rank, message: trouble.text().to_owned() });
            }
        }
        if let Some(resumed) = resumed {
            self.step = resumed.step;
            self.due.passed(resumed.step);
            self.chain.goes_on();
        }
        self.watching.place().computing(self.step);
        self.due.computing(prepared.unwrap_or(0), restart);
        self.slowdown.begin(Moment::now(), self.step);
        self.resumed = resumed;
        Ok(resumed)
    }

    fn search<S: State + ?Sized>(
        &mut self,
        request: ResumeRequest,
        state: &mut S,
    ) -> Result<Option<Resumed>, ResumeError> {
        let started = Instant::now();
        let mut search = match self.agreement.rank() {
            0 => Some(self.begin_search(request)),
            _ => None,
        };
        loop {
            let proposal = match &mut search {
                Some(Ok(search)) => encode(&self.propose(search)),
                Some(Err(message)) => encode(&Proposal::Refuse { message: message.clone() }),
                None => Vec::new(),
            };
            let told = self.agreement.broadcast(0, proposal, self.patience())?;
            let (manifest, rolled_forward, finished) = match decode(&told) {
                Ok(Proposal::Try { manifest, rolled_forward, finished }) => (manifest, rolled_forward, finished),
                Ok(Proposal::Fresh { reason }) => {
                    self.recorder.record(Event::FreshStart { reason });
                    return Ok(None);
                }
                Ok(Proposal::Refuse { message }) | Err(message) => return Err(ResumeError::Refused(message)),
            };
            match self.try_checkpoint(&manifest, state)? {
                Verdict::Good => {
                    return self.settle_resume(&manifest, rolled_forward, finished, started).map(Some);
                }
                Verdict::Bad { trouble, rank } => self.learn(&manifest, trouble, rank, search.as_mut())?,
            }
        }
    }

    /// Rank 0 may verify many shards, or try again, before it answers.
    fn patience(&self) -> Duration {
        self.settings.commit_timeout + self.settings.agreement_timeout
    }

    fn settle_resume(
        &mut self,
        manifest: &Manifest,
        rolled_forward: bool,
        finished: bool,
        started: Instant,
    ) -> Result<Resumed, ResumeError> {
        let (checkpoint, step) = (manifest.name(), manifest.step);
        if self.agreement.rank() == 0 {
            self.secure(manifest, rolled_forward);
            if let Err(error) = self.job.note_resumed(self.epoch, &ResumedFrom { checkpoint, step }) {
                // Only the count of attempts that came to nothing depends on it.
                let what = "cannot note what was resumed from".into();
                self.recorder.record(Event::Problem { what, detail: error.to_string() });
            }
        }
        self.recorder.record(Event::Resumed {
            epoch: checkpoint.epoch,
            id: checkpoint.id,
            step,
            seconds: started.elapsed().as_secs_f64(),
            bytes: manifest.shard(self.agreement.rank()).map_or(0, |entry| entry.raw_bytes),
            rolled_forward,
        });
        Ok(Resumed { step, checkpoint, finished })
    }

    /// What follows from a try that went wrong; the same on every rank.
    fn learn(
        &mut self,
        manifest: &Manifest,
        trouble: Trouble,
        rank: usize,
        search: Option<&mut Result<Search, String>>,
    ) -> Result<(), ResumeError> {
        let name = manifest.name();
        match trouble {
            Trouble::Damaged(reason) => {
                let reason = format!("rank {rank}: {reason}");
                if let Some(Ok(search)) = search {
                    self.set_aside(name, &reason);
                    search.candidates.retain(|candidate| *candidate != name);
                }
                Ok(())
            }
            Trouble::Unreadable(reason) => {
                let Some(Ok(search)) = search else { return Ok(()) };
                search.unreadable += 1;
                if search.unreadable > RETRIES {
                    search.required = Some(format!(
                        "checkpoint {name} cannot be read on rank {rank} just now: {reason}. It may be sound: try again when \
                         the file system is well, or name an older one with --resume=ID"
                    ));
                    search.candidates.clear();
                } else {
                    std::thread::sleep(RETRY_PAUSE * search.unreadable);
                }
                Ok(())
            }
            Trouble::Unfit(message) => Err(ResumeError::Unfit { id: name.id, rank, message }),
            Trouble::Describe(message) => Err(ResumeError::Describe { rank, message }),
        }
    }

    // ---- rank 0 ----

    /// Sees to it that what is resumed from now is there the next time as well, committed. It may have been found as its attempt
    /// left it when it was killed, before all of it was durable.
    fn secure(&self, manifest: &Manifest, rolled_forward: bool) {
        let CheckpointName { epoch, id } = manifest.name();
        let secured = match rolled_forward {
            true => self.job.roll_forward(self.epoch, manifest),
            false => self.job.confirm(manifest.name()),
        };
        match secured {
            Ok(()) if rolled_forward => {
                self.recorder.record(Event::RolledForward { epoch, id, step: manifest.step });
            }
            Ok(()) => {}
            Err(error) => {
                // It is good to go on from; only the next crash may find an older one.
                let what = format!("cannot make checkpoint {id} (epoch {epoch}) last");
                self.recorder.record(Event::Problem { what, detail: error.to_string() });
            }
        }
    }

    fn begin_search(&self, request: ResumeRequest) -> Result<Search, String> {
        let catalogue = self.patient_catalogue().map_err(|error| error.to_string())?;
        let mut required = None;
        let candidates: Vec<CheckpointName> = match request {
            ResumeRequest::Checkpoint(selector) => {
                let names = selected(&catalogue, selector)?;
                required = Some(format!("checkpoint {selector} cannot be resumed from; see `piton verify`"));
                names
            }
            _ => catalogue.candidates().map(|entry| entry.name).filter(|name| name.epoch < self.epoch).collect(),
        };
        if request == ResumeRequest::Required {
            required = Some(format!("there is no checkpoint of job {:?} to resume from", self.job.name()));
        }
        // What was there and is of no use must not be mistaken for nothing.
        let lost = |entry: &&CheckpointEntry| {
            entry.name.epoch >= catalogue.lineage && !matches!(entry.state, CheckpointState::Partial { .. })
        };
        let had_any = catalogue.entries.iter().any(|entry| lost(&entry));
        if had_any && required.is_none() {
            required = Some(format!(
                "every checkpoint of job {:?} is damaged or set aside; `piton verify` says how. Use --fresh to start anew",
                self.job.name()
            ));
        }
        let mut search = Search { candidates, catalogue, unreadable: 0, required };
        if !matches!(request, ResumeRequest::Checkpoint(_)) {
            self.pass_over_strikes(&mut search)?;
        }
        Ok(search)
    }

    /// The job's checkpoints; what can't be read at first is looked at again.
    fn patient_catalogue(&self) -> Result<Catalogue, StoreError> {
        let is_unreadable = |entry: &CheckpointEntry| matches!(entry.state, CheckpointState::Unreadable(_));
        for tries in 1..=RETRIES {
            match self.job.catalogue() {
                Ok(catalogue) if !catalogue.candidates().any(is_unreadable) => return Ok(catalogue),
                _ => std::thread::sleep(RETRY_PAUSE * tries),
            }
        }
        self.job.catalogue()
    }

    /// Leaves out the newest candidates on which the application itself came to nothing again and again.
    fn pass_over_strikes(&self, search: &mut Search) -> Result<(), String> {
        while let Some(&newest) = search.candidates.first() {
            let strikes = search.catalogue.epochs.iter().filter(|epoch| self.failed_on(**epoch, newest)).count();
            if strikes < STRIKES {
                return Ok(());
            }
            let reason = format!("{strikes} attempts ended by the application's own doing without passing its step");
            if search.candidates.len() == 1 {
                return Err(format!(
                    "job {:?} comes to nothing on checkpoint {newest}: {reason}, and there is no older one. The cause is most \
                     likely in the application: look at its output, then use --resume={} to try again or --fresh to start anew",
                    self.job.name(),
                    newest.id
                ));
            }
            self.recorder.record(Event::CandidateRejected { epoch: newest.epoch, id: newest.id, reason });
            search.candidates.remove(0);
        }
        Ok(())
    }

    /// Whether attempt `epoch` resumed from `name`, did not pass its step, and ended by the application's own doing.
    fn failed_on(&self, epoch: crate::ids::Epoch, name: CheckpointName) -> bool {
        let resumed = self.job.resumed_from(epoch).filter(|from| from.checkpoint == name);
        resumed.is_some_and(|from| {
            matches!(self.job.last_event(epoch), Some(Event::AttemptEnded { how: End::Dropped | End::Panicked, step })
                if step <= from.step)
        })
    }

    fn propose(&self, search: &mut Search) -> Proposal {
        while let Some(&name) = search.candidates.first() {
            let entry = search.catalogue.entries.iter().find(|entry| entry.name == name);
            let found = match entry.map(|entry| &entry.state) {
                Some(CheckpointState::Committed(_)) => self.job.manifest(name).map(|manifest| (manifest, false)),
                Some(CheckpointState::Complete { world, .. }) => {
                    let notes = ManifestNotes { reason: "rolled forward".into(), ..ManifestNotes::default() };
                    self.job.draft_manifest(name, *world, &notes).map(|manifest| (manifest, true))
                }
                Some(CheckpointState::Damaged(why)) => {
                    self.set_aside(name, why);
                    search.candidates.remove(0);
                    continue;
                }
                Some(CheckpointState::Unreadable(why)) => {
                    return Proposal::Refuse {
                        message: format!(
                            "checkpoint {name} cannot be read: {why}. Nothing is passed over silently: see to it, or name \
                             another with --resume=ID"
                        ),
                    };
                }
                Some(CheckpointState::Partial { .. }) | None => {
                    search.candidates.remove(0);
                    continue;
                }
            };
            match found {
                Ok((manifest, rolled_forward)) => {
                    if manifest.world as usize != self.agreement.size() {
                        return Proposal::Refuse {
                            message: format!(
                                "checkpoint {name} is of {} ranks, and this run has {}: start it with {} ranks",
                                manifest.world,
                                self.agreement.size(),
                                manifest.world
                            ),
                        };
                    }
                    let finished = self.job.is_end(search.catalogue.epochs.iter().copied(), name);
                    return Proposal::Try { manifest: Box::new(manifest), rolled_forward, finished };
                }
                Err(error) if error.is_damage() => {
                    self.set_aside(name, &error.to_string());
                    search.candidates.remove(0);
                }
                Err(error) => return Proposal::Refuse { message: error.to_string() },
            }
        }
        match &search.required {
            Some(message) => Proposal::Refuse { message: message.clone() },
            None => Proposal::Fresh { reason: "nothing was ever committed".into() },
        }
    }

    fn set_aside(&self, checkpoint: CheckpointName, reason: &str) {
        self.recorder.record(Event::SetAside { epoch: checkpoint.epoch, id: checkpoint.id, reason: reason.to_owned() });
        let record = SetAside { checkpoint, reason: reason.to_owned() };
        if let Err(error) = self.job.set_aside(self.epoch, &record) {
            // The next attempt will find it out again.
            let what = "cannot note that a checkpoint is damaged".into();
            self.recorder.record(Event::Problem { what, detail: error.to_string() });
        }
    }

    // ---- every rank ----

    /// All ranks' worst trouble, if any has one.
    fn agree_on(&mut self, own: Option<&Trouble>) -> Result<Verdict, CommError> {
        let (code, rank) = self.agreement.worst(own.map_or(0, Trouble::code), self.patience())?;
        if code == 0 {
            return Ok(Verdict::Good);
        }
        let text = own.filter(|_| rank == self.agreement.rank()).map_or_else(Vec::new, |own| own.text().into());
        let text = self.agreement.broadcast(rank, text, self.patience())?;
        let text = String::from_utf8_lossy(&text).into_owned();
        let trouble = match code {
            1 => Trouble::Damaged(text),
            2 => Trouble::Unreadable(text),
            3 => Trouble::Unfit(text),
            _ => Trouble::Describe(text),
        };
        Ok(Verdict::Bad { trouble, rank })
    }

    /// Restores one checkpoint, or finds out on which rank why not.
    fn try_checkpoint<S: State + ?Sized>(&mut self, manifest: &Manifest, state: &mut S) -> Result<Verdict, CommError> {
        let opened = self.open_shard(manifest);
        // The application is asked only when every rank has its shard: `prepare` may allocate.
        if let bad @ Verdict::Bad { .. } = self.agree_on(opened.as_ref().err())? {
            return Ok(bad);
        }
        let Ok(shard) = opened else { return Ok(Verdict::Good) };
        let verdict = self.try_fields(&shard, state)?;
        if verdict == Verdict::Good {
            state.restored();
        }
        Ok(verdict)
    }

    /// Takes a shard into the state, in two steps that all ranks agree on.
    fn try_fields<S: State + ?Sized>(&mut self, shard: &ShardReader, state: &mut S) -> Result<Verdict, CommError> {
        let saved = shard.outline().clone();
        let fitted = match state.prepare(&saved) {
            Ok(()) => self.fit(shard, &saved, state),
            Err(unfit) => Err(Trouble::Unfit(unfit.to_string())),
        };
        if let bad @ Verdict::Bad { .. } = self.agree_on(fitted.as_ref().err())? {
            return Ok(bad);
        }
        match fitted {
            Ok((fields, mapping)) => self.restore(shard, &saved, fields, &mapping),
            Err(_) => Ok(Verdict::Good),
        }
    }

    /// Writes the application's arrays, then its values and files.
    fn restore(
        &mut self,
        shard: &ShardReader,
        saved: &Outline,
        mut fields: Fields<'_>,
        mapping: &Mapping,
    ) -> Result<Verdict, CommError> {
        let mut targets = fields.array_targets(mapping, saved);
        let decoded = shard.read(self.pipeline.pool(), &mut targets).map_err(Trouble::from);
        drop(targets);
        if let bad @ Verdict::Bad { .. } = self.agree_on(decoded.as_ref().err())? {
            return Ok(bad);
        }
        let applied = fields.apply().map_err(|error| Trouble::Unreadable(error.to_string()));
        self.agree_on(applied.as_ref().err())
    }

    fn open_shard(&self, manifest: &Manifest) -> Result<ShardReader, Trouble> {
        let (rank, name) = (self.agreement.rank(), manifest.name());
        let place = match manifest.shard(rank) {
            Some(entry) => self.job.place_of(name, entry),
            None => self.job.place(name, rank, None),
        };
        let shard = ShardReader::open_at(&**self.job.medium(), &place)?;
        let expected = ShardIdentity {
            job: manifest.job.clone(),
            epoch: manifest.epoch,
            id: manifest.id,
            tick: manifest.tick,
            step: manifest.step,
            rank: u32::try_from(rank).unwrap_or(u32::MAX),
            world: manifest.world,
        };
        let named = manifest.shard(rank).map(|entry| (entry.bytes, entry.xxh3_128.clone()));
        if *shard.identity() != expected || named != Some((shard.file_bytes(), format!("{:032x}", shard.digest()))) {
            return Err(Trouble::Damaged(format!(
                "{} is not the shard that the manifest names",
                place.path().display()
            )));
        }
        Ok(shard)
    }

    /// Compares what was saved with what the application describes, and parses all values; nothing of it is changed.
    fn fit<'a, S: State + ?Sized>(
        &self,
        shard: &ShardReader,
        saved: &Outline,
        state: &'a mut S,
    ) -> Result<(Fields<'a>, Mapping), Trouble> {
        let mut fields = Fields::of(state).map_err(|error| Trouble::Describe(error.to_string()))?;
        let mapping = fields.check(saved).map_err(|unfit| Trouble::Unfit(unfit.to_string()))?;
        let to_parse: Vec<_> = mapping.to_parse().collect();
        for (own, index) in to_parse {
            let bytes = shard.read_field(self.pipeline.pool(), index)?;
            fields.parse(own, &bytes).map_err(|unfit| Trouble::Unfit(unfit.to_string()))?;
        }
        fields.reserve(&mapping, saved).map_err(|unfit| Trouble::Unfit(unfit.to_string()))?;
        Ok((fields, mapping))
    }
}

/// The checkpoints that a user's `ID` or `EPOCH/ID` may mean: the newest attempt's first.
fn selected(catalogue: &Catalogue, selector: CheckpointSelector) -> Result<Vec<CheckpointName>, String> {
    let fits = |entry: &&CheckpointEntry| selector.selects(entry.name);
    let name = catalogue.entries.iter().rev().find(fits).map(|entry| entry.name);
    match name {
        Some(name) => Ok(vec![name]),
        None => Err(format!("there is no checkpoint {selector}; `piton ls` lists those that are there")),
    }
}
