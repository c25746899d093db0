//! Everything that is known of a job, in one value: what reports, pages and metrics are drawn from.
//!
//! Comes in: the journals of a job's attempts: of the first rank, of supervisors and agents, and of other ranks where they are few. Goes out: a [`Story`]. What
//! must hold: the parts of the time add up; memory and time are bounded by the constants below, however long the job has lived; what was
//! left out, damaged or missing is among the doubts.

use super::faults::{Fault, Sighted, Told, faults};
use piton::ids::{CheckpointName, Epoch};
use piton::journal::{self, Event, Reader, Record, Rule, WallTime};
use piton::schedule::{Account, Attempt, Ending, History, Moments, mtbf_bounds};
use piton::store::JobFolder;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Most attempts that are looked at, the newest ones.
const ATTEMPTS: usize = 1000;
/// Most bytes of journals that are read, of the newest attempts.
const BYTES: u64 = 256 << 20;
/// Ranks besides the first whose journals are read: of more, what agents say must do.
const RANKS: usize = 64;
/// Alerts that are kept, the newest ones.
const ALERTS: usize = 2000;
/// Critical findings that are kept of an attempt, the first ones.
const SIGHTED: usize = 64;
/// Points of progress, and of the schedule, that are kept of an attempt.
const POINTS: usize = 256;
/// A clock that was set by more than this is told of, seconds.
const CLOCK_SET: f64 = 1.0;
/// An alert is borne out by a failure that follows within this, seconds.
const BORNE_OUT: f64 = 600.0;

/// How a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Its newest attempt runs.
    Running,
    /// Its newest attempt has ended, and its supervisor is at work on the next one.
    Restarting,
    /// It came to its end.
    Finished,
    /// It stopped after a checkpoint, as it was asked to.
    Halted,
    /// Its newest attempt failed.
    Failed,
    /// Its newest attempt ended, and said nothing.
    Gone,
}

impl State {
    /// As JSON has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Restarting => "restarting",
            Self::Finished => "finished",
            Self::Halted => "halted",
            Self::Failed => "failed",
            Self::Gone => "gone",
        }
    }

    /// In words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Gone => "gone without a word",
            other => other.name(),
        }
    }
}

/// Where the time went: node seconds, those of every node that an attempt had, which add up to `all`.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Parts {
    /// All of it.
    pub all: f64,
    /// First-time work that was not lost.
    pub useful: f64,
    /// Standing still for checkpoints.
    pub blocked: f64,
    /// What steps lost while checkpoints were written.
    pub slowed: f64,
    /// Work that failures undid.
    pub lost: f64,
    /// From the last step of a failed attempt until that was known.
    pub detecting: f64,
    /// From there until the next attempt computed; also the start of the first.
    pub restarting: f64,
    /// No attempt ran, and none was on its way: in a queue, or after repeated failures.
    pub waiting: f64,
}

impl Parts {
    fn of(account: Account) -> Self {
        // Steps that were faster beside a checkpoint are no cost.
        let faster = account.slowed.min(0.0);
        Self {
            all: account.time,
            useful: account.useful + faster,
            blocked: account.blocked,
            slowed: account.slowed - faster,
            lost: account.lost,
            detecting: account.detecting,
            restarting: account.down + account.restarts,
            waiting: account.waiting,
        }
    }

    /// Each with its name, in the order in which they are shown.
    #[must_use]
    pub fn named(&self) -> [(&'static str, f64); 7] {
        [
            ("useful", self.useful),
            ("blocked", self.blocked),
            ("slowed", self.slowed),
            ("lost", self.lost),
            ("detecting", self.detecting),
            ("restarting", self.restarting),
            ("waiting", self.waiting),
        ]
    }

    /// A part's share of all, 0 to 1.
    #[must_use]
    pub fn share(&self, part: f64) -> f64 {
        if self.all > 0.0 { part / self.all } else { 0.0 }
    }
}

/// Where an attempt was at some moment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Progress {
    /// When.
    pub at: WallTime,
    /// The application's step.
    pub step: u64,
}

/// What the schedule was at some moment; seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Planned {
    /// When.
    pub at: WallTime,
    /// From one checkpoint to the next; none: none by time.
    pub interval: Option<f64>,
    /// What the formula says without bounds.
    pub optimum: Option<f64>,
    /// The mean time between failures that it was computed with.
    pub mtbf: f64,
    /// What a checkpoint costs.
    pub cost: f64,
}

/// A checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Taken {
    /// Its number.
    pub id: u64,
    /// The application's step.
    pub step: u64,
    /// When the state was copied.
    pub at: WallTime,
    /// How long the application stood still, seconds.
    pub blocked: f64,
    /// Until it was durable, seconds; none: it never was, as far as is known.
    pub latency: Option<f64>,
    /// What it takes in the store.
    pub bytes: Option<u64>,
}

/// An attempt of the job.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AttemptStory {
    /// Its number.
    pub epoch: u64,
    /// The node of its first rank.
    pub host: String,
    /// How many ranks it had.
    pub world: u32,
    /// How many nodes, where that is known.
    pub nodes: Option<u32>,
    /// Their names, where a supervisor launched it.
    pub node_names: Vec<String>,
    /// The batch system's job, and how often it was started again.
    pub batch_job: Option<String>,
    /// As in `batch_job`.
    pub batch_restarts: Option<u32>,
    /// Version of the library.
    pub version: String,
    /// Fingerprint of the program.
    pub program: String,
    /// The moments that divide its time.
    #[serde(flatten)]
    pub moments: Moments,
    /// How it ended.
    pub ending: Ending,
    /// The checkpoint that it went on from.
    pub resumed_from: Option<CheckpointName>,
    /// How long bringing the state back took, seconds.
    pub restore_seconds: Option<f64>,
    /// The last step that is known of.
    pub last_step: u64,
    /// Node seconds, until the next one started.
    pub parts: Parts,
    /// Its checkpoints, the newest 4096.
    pub checkpoints: Vec<Taken>,
    /// How many it took in all.
    pub taken: u64,
    /// How many of them came to nothing.
    pub dropped: u64,
    /// How it got on; a selection.
    pub progress: Vec<Progress>,
    /// When checkpoints were due; a selection.
    pub schedule: Vec<Planned>,
}

impl AttemptStory {
    /// Seconds, of node seconds of this attempt.
    #[must_use]
    pub fn seconds(&self, node_seconds: f64) -> f64 {
        node_seconds / counted(self.nodes)
    }
}

/// Something that was wrong for a while.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// Of which attempt.
    pub epoch: u64,
    /// What tells it from others.
    pub fingerprint: String,
    /// The rule.
    pub rule: String,
    /// `info`, `warning` or `critical`.
    pub severity: String,
    /// What it is about.
    pub labels: BTreeMap<String, String>,
    /// In words.
    pub summary: String,
    /// Since when.
    pub since: WallTime,
    /// Until when; none: still, or until the attempt's end.
    pub until: Option<WallTime>,
    /// Whether a failure of the attempt bore it out; none: it can't be told.
    pub borne_out: Option<bool>,
}

/// A node of the job.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NodeStory {
    /// Its name.
    pub name: String,
    /// In how many attempts.
    pub attempts: u64,
    /// How many failures were located there.
    pub failures: u64,
    /// How many alerts named it.
    pub alerts: u64,
    /// What speaks against it.
    pub reasons: Vec<String>,
}

/// The mean time between failures, from this job's own.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Mtbf {
    /// Failures.
    pub failures: u32,
    /// In so many seconds of running.
    pub observed_seconds: f64,
    /// Seconds between two; none: none was seen.
    pub seconds: Option<f64>,
    /// It lies above this with a confidence of 97.5 %.
    pub low_seconds: f64,
    /// It lies below this with a confidence of 97.5 %; none: nobody knows.
    pub high_seconds: Option<f64>,
}

/// A job, from its beginning until now.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Story {
    /// The job.
    pub job: String,
    /// Its store.
    pub store: String,
    /// When this was put together.
    pub told: WallTime,
    /// How it is.
    pub state: State,
    /// The last step that is known of.
    pub step: u64,
    /// When its first attempt started.
    pub started: WallTime,
    /// The last sign of life.
    pub last: WallTime,
    /// Its attempts, oldest first.
    pub attempts: Vec<AttemptStory>,
    /// Where the time of its nodes went.
    pub parts: Parts,
    /// What failed.
    pub faults: Vec<Fault>,
    /// What was found wrong.
    pub alerts: Vec<Alert>,
    /// Its nodes, those first that something speaks against.
    pub nodes: Vec<NodeStory>,
    /// How often it fails.
    pub mtbf: Mtbf,
    /// What could not be read, is missing, or is not quite sure.
    pub doubts: Vec<String>,
}

/// Keeps a selection of points that is spread over all that came.
#[derive(Debug)]
struct Thinned<T> {
    points: Vec<T>,
    stride: usize,
    seen: usize,
    last: Option<T>,
}

impl<T: Copy> Thinned<T> {
    fn new() -> Self {
        Self { points: Vec::new(), stride: 1, seen: 0, last: None }
    }

    fn push(&mut self, point: T) {
        self.last = Some(point);
        if self.seen.is_multiple_of(self.stride) {
            if self.points.len() >= POINTS {
                let mut keep = false;
                self.points.retain(|_| {
                    keep = !keep;
                    keep
                });
                self.stride *= 2;
            }
            if self.seen.is_multiple_of(self.stride) {
                self.points.push(point);
                self.last = None;
            }
        }
        self.seen += 1;
    }

    /// The last one is among them.
    fn finish(mut self) -> Vec<T> {
        self.points.extend(self.last);
        self.points
    }
}

/// What the records of an attempt say besides what its schedule needs.
#[derive(Debug)]
struct Notes {
    epoch: Epoch,
    first: Option<Record>,
    launched: Vec<String>,
    /// The first rank has gone on from a checkpoint, or begun.
    begun: bool,
    progress: Thinned<Progress>,
    schedule: Thinned<Planned>,
    alerts: Vec<Alert>,
    told: Vec<Told>,
    sighted: Vec<Sighted>,
    /// A program had the number, and no attempt.
    by_program: bool,
    dropped: u64,
    damaged: u64,
    newer: u64,
    lost: u64,
    unread: u64,
}

impl Notes {
    fn new(epoch: Epoch) -> Self {
        Self {
            epoch,
            first: None,
            launched: Vec::new(),
            begun: false,
            progress: Thinned::new(),
            schedule: Thinned::new(),
            alerts: Vec::new(),
            told: Vec::new(),
            sighted: Vec::new(),
            by_program: false,
            dropped: 0,
            damaged: 0,
            newer: 0,
            lost: 0,
            unread: 0,
        }
    }

    fn note(&mut self, record: &Record) {
        let at = record.at;
        match &record.event {
            Event::AttemptStarted { .. } if record.rank == Some(0) => self.first = Some(record.clone()),
            Event::FreshStart { .. } if record.rank == Some(0) => self.begun = true,
            Event::CheckpointStarted { step, .. } | Event::Resumed { step, .. } if record.rank == Some(0) => {
                self.begun = true;
                self.progress.push(Progress { at, step: *step });
            }
            // Before that the rank is at no step.
            Event::Beat { step } if record.rank == Some(0) && self.begun => {
                self.progress.push(Progress { at, step: *step });
            }
            Event::Scheduled(schedule) => self.schedule.push(Planned {
                at,
                // The one before the allocation ends is the last, whatever lies before it.
                interval: schedule.interval_seconds.filter(|_| !matches!(schedule.rule, Rule::Last | Rule::TooLate)),
                optimum: schedule.optimum_seconds,
                mtbf: schedule.mtbf_seconds,
                cost: schedule.cost_seconds,
            }),
            Event::Launched { nodes, .. } => self.launched.clone_from(nodes),
            Event::AlertFiring { fingerprint, rule, severity, labels, summary, .. } => {
                if self.alerts.len() >= ALERTS {
                    self.alerts.remove(0);
                }
                self.alerts.push(Alert {
                    epoch: self.epoch.0,
                    fingerprint: fingerprint.clone(),
                    rule: rule.clone(),
                    severity: severity.clone(),
                    labels: labels.clone(),
                    summary: summary.clone(),
                    since: at,
                    until: None,
                    borne_out: None,
                });
            }
            Event::AlertResolved { fingerprint, .. } => {
                let open = self.alerts.iter_mut().rev().find(|alert| alert.fingerprint == *fingerprint);
                if let Some(alert) = open {
                    alert.until = Some(at);
                }
            }
            Event::Found { rule, severity, labels, summary, evidence, .. }
                if severity == "critical" && self.sighted.len() < SIGHTED =>
            {
                self.sighted.push(Sighted {
                    epoch: self.epoch,
                    at,
                    rule: rule.clone(),
                    summary: summary.clone(),
                    labels: labels.clone(),
                    evidence: evidence.clone(),
                });
            }
            Event::FailureDetected { .. }
            | Event::FailureLocated { .. }
            | Event::FailureHandled { .. }
            | Event::FailureRecovered { .. } => {
                self.told.push(Told { epoch: self.epoch, at, event: record.event.clone() });
            }
            // All ranks say so; the first one's word is enough.
            Event::Dropped { .. } if record.rank == Some(0) => self.dropped += 1,
            Event::Compacted { .. } => self.by_program = true,
            Event::JournalGap { lost } => self.lost += lost,
            _ => {}
        }
    }
}

/// Whose journals of an attempt are read, the first rank's first.
fn writers(job: &JobFolder, epoch: Epoch) -> std::io::Result<Vec<String>> {
    let first = journal::rank_writer(0);
    let (ranks, others): (Vec<String>, Vec<String>) = journal::writers(&**job.medium(), &job.epoch_folder(epoch))?
        .into_iter()
        .partition(|writer| journal::is_rank(writer));
    let few = ranks.len() <= RANKS;
    let mut chosen: Vec<String> = ranks.iter().filter(|rank| **rank == first).cloned().collect();
    chosen.extend(others);
    chosen.extend(ranks.into_iter().filter(|rank| few && *rank != first));
    Ok(chosen)
}

/// Reads the journals of one attempt.
fn read(job: &JobFolder, epoch: Epoch, writers: &[String]) -> (Option<Attempt>, Notes) {
    let folder = job.epoch_folder(epoch);
    let mut notes = Notes::new(epoch);
    let mut attempt: Option<Attempt> = None;
    for writer in writers {
        let Ok(mut reader) = Reader::open(&**job.medium(), &folder.join(journal::file_name(writer))) else {
            notes.unread += 1;
            continue;
        };
        let mut failed = false;
        let mut next = || match reader.next_record() {
            Ok(record) => record,
            Err(_) => {
                failed = true;
                None
            }
        };
        let first = *writer == journal::rank_writer(0);
        if first {
            attempt = Attempt::of(std::iter::from_fn(|| next().inspect(|record| notes.note(record))));
        } else {
            while let Some(record) = next() {
                if *writer == journal::SUPERVISOR
                    && let Some(attempt) = &mut attempt
                {
                    attempt.supervised(&record);
                }
                notes.note(&record);
            }
        }
        notes.unread += u64::from(failed);
        notes.damaged += reader.damaged_lines();
        notes.newer += reader.newer_lines();
    }
    (attempt, notes)
}

impl Story {
    /// The story of a job; `running`: the attempt that runs, where one does. `None` where no attempt has left a journal.
    ///
    /// # Errors
    /// Those of the store; a single journal that can't be read is a doubt, no error.
    pub fn of(reader: &piton::reader::Reader, running: Option<Epoch>) -> anyhow::Result<Option<Self>> {
        let job = reader.job();
        let claimed: BTreeSet<Epoch> = job.claims()?.into_iter().map(|(epoch, _)| epoch).collect();
        let all: BTreeSet<Epoch> = reader.epochs()?.into_iter().chain(claimed.iter().copied()).collect();
        let mut doubts = Vec::new();
        let (mut attempts, mut notes, mut missing) = (Vec::new(), Vec::new(), Vec::new());
        let mut left = BYTES;
        let mut looked = 0;
        for epoch in all.iter().copied().rev().take(ATTEMPTS) {
            let chosen = writers(job, epoch).unwrap_or_default();
            let folder = job.epoch_folder(epoch);
            let len = |writer: &String| {
                job.medium().stat(&folder.join(journal::file_name(writer))).map_or(0, |stat| stat.len)
            };
            let Some(rest) = left.checked_sub(chosen.iter().map(len).sum()) else { break };
            left = rest;
            looked += 1;
            let (attempt, noted) = read(job, epoch, &chosen);
            match attempt {
                Some(attempt) => attempts.push(attempt),
                // Programs take numbers, too, and say so; where there is no folder any more, it was retired.
                None if claimed.contains(&epoch) && folder.is_dir() && !noted.by_program => missing.push(epoch),
                None => {}
            }
            notes.push(noted);
        }
        if looked < all.len() {
            doubts.push(format!("the {} oldest attempts are left out: there is too much of them", all.len() - looked));
        }
        attempts.reverse();
        notes.reverse();
        if let (Some(first), Some(last)) = (notes.first(), notes.last()) {
            let gone = first.epoch.0..=last.epoch.0;
            missing.extend(gone.map(Epoch).filter(|epoch| !all.contains(epoch)));
        }
        missing.sort_unstable();
        if !missing.is_empty() {
            let names: Vec<String> = missing.iter().take(20).map(Epoch::to_string).collect();
            let more = if missing.len() > 20 { format!(" and {} more", missing.len() - 20) } else { String::new() };
            doubts.push(format!(
                "nothing is known of attempts {}{more}: their time counts as waiting, and their failures are not counted",
                names.join(", ")
            ));
        }
        if attempts.is_empty() {
            return Ok(None);
        }
        let history = History::new(attempts);
        Ok(Some(Self::put_together(job, &history, notes, running, doubts)))
    }

    fn put_together(
        job: &JobFolder,
        history: &History,
        mut notes: Vec<Notes>,
        running: Option<Epoch>,
        mut doubts: Vec<String>,
    ) -> Self {
        doubts.extend(doubts_of(history, &notes));
        let told: Vec<Told> = notes.iter_mut().flat_map(|notes| std::mem::take(&mut notes.told)).collect();
        let mut sighted: Vec<Sighted> = notes.iter_mut().flat_map(|notes| std::mem::take(&mut notes.sighted)).collect();
        sighted.sort_by_key(|sighted| sighted.at);
        let faults = faults(history, &told, &sighted);
        let mut alerts: Vec<Alert> = notes.iter_mut().flat_map(|notes| std::mem::take(&mut notes.alerts)).collect();
        alerts.sort_by_key(|alert| alert.since);
        if alerts.len() > ALERTS {
            doubts.push(format!("of {} alerts, the newest {ALERTS} are listed", alerts.len()));
            alerts.drain(..alerts.len() - ALERTS);
        }
        let mut by_epoch: BTreeMap<Epoch, Notes> = notes.into_iter().map(|notes| (notes.epoch, notes)).collect();
        let mut all = Account::default();
        let mut attempts: Vec<AttemptStory> = Vec::new();
        for (place, attempt) in history.attempts().iter().enumerate() {
            let node_seconds = history.parts(place).times(counted(attempt.nodes()));
            all = all.and(node_seconds);
            attempts.extend(attempt_story(history, place, node_seconds, by_epoch.remove(&attempt.epoch())));
        }
        alerts.iter_mut().for_each(|alert| alert.borne_out = borne_out(alert, &faults, &attempts));
        let (first, newest) = (history.attempts().first(), history.attempts().last());
        let state = match (newest.map(|newest| newest.epoch()), history.ending(history.attempts().len() - 1)) {
            (Some(epoch), _) if running == Some(epoch) => State::Running,
            (_, Ending::Finished) => State::Finished,
            (_, Ending::Halted) => State::Halted,
            (_, Ending::Failed) => State::Failed,
            _ => State::Gone,
        };
        let nodes = node_stories(&attempts, &faults, &alerts);
        let failures = u32::try_from(faults.len()).unwrap_or(u32::MAX);
        let observed_seconds = history.attempts().iter().map(Attempt::seconds).sum();
        let (low_seconds, high_seconds) = mtbf_bounds(failures, observed_seconds, 0.95);
        let seconds = (failures > 0).then(|| observed_seconds / f64::from(failures));
        Self {
            job: job.name().to_owned(),
            store: job.folder().parent().unwrap_or(job.folder()).display().to_string(),
            told: WallTime::now(),
            state,
            step: newest.map_or(0, Attempt::last_step),
            started: first.map_or_else(WallTime::now, Attempt::started),
            last: newest.map_or_else(WallTime::now, Attempt::last),
            attempts,
            parts: Parts::of(all),
            faults,
            alerts,
            nodes,
            mtbf: Mtbf { failures, observed_seconds, seconds, low_seconds, high_seconds },
            doubts,
        }
    }
}

fn doubts_of(history: &History, notes: &[Notes]) -> Vec<String> {
    let mut doubts = Vec::new();
    let sum = |of: fn(&Notes) -> u64| notes.iter().map(of).sum::<u64>();
    let mut tell = |count: u64, what: &str| {
        if count > 0 {
            doubts.push(format!("{count} {what}"));
        }
    };
    tell(sum(|notes| notes.damaged), "lines of journals are damaged or cut off, and were passed over");
    tell(sum(|notes| notes.newer), "lines of journals are of a newer version of Piton, and were passed over");
    tell(sum(|notes| notes.lost), "lines of journals were never written, since the storage failed then");
    tell(sum(|notes| notes.unread), "journals could not be read to their end");
    for attempt in history.attempts() {
        let set = attempt.clock_set();
        if set.abs() > CLOCK_SET {
            doubts.push(format!(
                "the clock was set by {set:+.0} s during attempt {}: times of day are those of its start, spans are right",
                attempt.epoch()
            ));
        }
    }
    for pair in history.attempts().windows(2) {
        if pair[1].started() < pair[0].last() {
            let seconds = pair[1].started().until(pair[0].last()).as_secs_f64();
            doubts.push(format!(
                "attempt {} began {seconds:.0} s before attempt {} ended, by their clocks: what lies between is not known",
                pair[1].epoch(),
                pair[0].epoch()
            ));
        }
    }
    if history.attempts().iter().any(|attempt| attempt.nodes().is_none()) {
        doubts.push("some attempts do not say how many nodes they had: they count as one".to_owned());
    }
    doubts
}

/// As how many nodes an attempt counts.
fn counted(nodes: Option<u32>) -> f64 {
    f64::from(nodes.unwrap_or(1).max(1))
}

fn attempt_story(history: &History, place: usize, node_seconds: Account, notes: Option<Notes>) -> Option<AttemptStory> {
    let attempt = history.attempts().get(place)?;
    let notes = notes.unwrap_or_else(|| Notes::new(attempt.epoch()));
    let first = notes.first.map(|record| record.event);
    let (mut host, mut world, mut batch_job, mut batch_restarts) = (String::new(), 0, None, None);
    let (mut version, mut program) = (String::new(), String::new());
    if let Some(Event::AttemptStarted {
        host: on,
        world: ranks,
        batch_job: job,
        batch_restarts: restarts,
        version: library,
        program: fingerprint,
        ..
    }) = first
    {
        (host, world, batch_job, batch_restarts) = (on, ranks, job, restarts);
        (version, program) = (library, fingerprint);
    }
    let taken = |taken: &piton::schedule::Taken| Taken {
        id: taken.id.0,
        step: taken.step,
        at: taken.at,
        blocked: taken.blocked,
        latency: taken.latency,
        bytes: taken.bytes,
    };
    let nodes = attempt.nodes();
    Some(AttemptStory {
        epoch: attempt.epoch().0,
        host,
        world,
        nodes,
        node_names: notes.launched,
        batch_job,
        batch_restarts,
        version,
        program,
        moments: history.moments(place)?,
        ending: history.ending(place),
        resumed_from: attempt.resumed_from(),
        restore_seconds: attempt.restart_seconds(),
        last_step: attempt.last_step(),
        parts: Parts::of(node_seconds),
        checkpoints: attempt.taken().map(taken).collect(),
        taken: attempt.checkpoints() as u64,
        dropped: notes.dropped,
        progress: notes.progress.finish(),
        schedule: notes.schedule.finish(),
    })
}

/// Whether an alert came true. Only those that say that a rank or node is gone or stuck can.
fn borne_out(alert: &Alert, faults: &[Fault], attempts: &[AttemptStory]) -> Option<bool> {
    if alert.severity != "critical" {
        return None;
    }
    let fits = |fault: &&Fault| {
        let soon = alert.since.until(fault.at()).as_secs_f64() <= BORNE_OUT;
        let rank = alert.labels.get("rank").and_then(|rank| rank.parse::<u32>().ok());
        let same = |a: Option<u32>, b: Option<u32>| a.is_none() || b.is_none() || a == b;
        fault.epoch == alert.epoch && soon && same(rank, fault.rank)
    };
    if faults.iter().any(|fault| fits(&fault)) {
        return Some(true);
    }
    let attempt = attempts.iter().find(|attempt| attempt.epoch == alert.epoch)?;
    // One that is open, or of an attempt that failed otherwise, may have been right.
    (alert.until.is_some() && !matches!(attempt.ending, Ending::Failed | Ending::Open)).then_some(false)
}

fn node_stories(attempts: &[AttemptStory], faults: &[Fault], alerts: &[Alert]) -> Vec<NodeStory> {
    let mut nodes: BTreeMap<String, NodeStory> = BTreeMap::new();
    fn entry<'a>(nodes: &'a mut BTreeMap<String, NodeStory>, name: &str) -> &'a mut NodeStory {
        nodes.entry(name.to_owned()).or_insert_with(|| NodeStory { name: name.to_owned(), ..NodeStory::default() })
    }
    for attempt in attempts {
        if attempt.node_names.is_empty() {
            entry(&mut nodes, &attempt.host).attempts += 1;
        }
        attempt.node_names.iter().for_each(|name| entry(&mut nodes, name).attempts += 1);
    }
    for fault in faults {
        if let Some(name) = &fault.node {
            let node = entry(&mut nodes, name);
            node.failures += 1;
            node.reasons.push(format!("{} in attempt {}", fault.class, fault.epoch));
        }
    }
    let mut said: BTreeMap<(String, String), u64> = BTreeMap::new();
    for alert in alerts {
        if let Some(name) = alert.labels.get("node") {
            entry(&mut nodes, name).alerts += 1;
            *said.entry((name.clone(), alert.rule.clone())).or_default() += 1;
        }
    }
    for ((name, rule), count) in said {
        entry(&mut nodes, &name).reasons.push(format!("{rule} ({count}×)"));
    }
    let mut nodes: Vec<NodeStory> = nodes.into_values().filter(|node| !node.name.is_empty()).collect();
    nodes.sort_by(|a, b| (b.failures, b.alerts).cmp(&(a.failures, a.alerts)).then_with(|| a.name.cmp(&b.name)));
    nodes
}
