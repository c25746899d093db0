//! Opening a job: settings, claim, background threads.
//!
//! Comes in: a builder, on every rank. Goes out: a session on every rank, or the same refusal on every rank.
//! What must hold: only rank 0 reads settings and looks into the store, and all ranks work by what it says; nothing that is
//! in the store is changed before the claim.

use super::agreement::{Agreement, Pace};
use super::background::{Background, own_part_of_processors};
use super::chain::Chain;
use super::due::{self, Due, Evidence};
use super::pipeline::{Pipeline, PipelineOptions};
use super::recorder::Recorder;
use super::signals::Signals;
use super::slowdown::Slowdown;
use super::watching::{Node, Watching};
use super::{Builder, Checkpointer, OpenError, Refusal, Settled, decode, encode};
use crate::comm::Communicator;
use crate::config::{Compression, Files, Layer, Origin, ResumeRequest, Settings};
use crate::freeze::{Budget, Memory, Staging};
use crate::ids::{CheckpointId, Epoch};
use crate::journal::{Event, JournalWriter, WallTime};
use crate::medium::{Access, Medium, RealMedium, read_bounded};
use crate::schedule::read_site;
use crate::shard::{self, EncodeOptions};
use crate::store::{
    Claim, JobFolder, ProcessIdentity, RankGroup, RetentionPolicy, Store, StoreError, unix_milliseconds,
};
use crate::supervised::Supervised;
use crate::watch::board::{BoardName, store_path};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::io::Read;
use std::num::NonZeroU64;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use xxhash_rust::xxh3::Xxh3;

/// How long ranks wait for each other before settings say anything else.
const OPEN_TIMEOUT: Duration = Duration::from_secs(600);

/// No site has as many kinds of nodes as would fill more bytes.
const SITE_LIMIT: u64 = 1 << 20;

/// What rank 0 tells the others.
#[derive(Debug, Serialize, Deserialize)]
enum Decision {
    Go { settings: Box<Settings>, claimed: Claimed, mtbf: f64 },
    Refuse { refusal: Refusal, message: String },
}

fn refuse(refusal: Refusal, message: impl ToString) -> Decision {
    Decision::Refuse { refusal, message: message.to_string() }
}

pub(super) fn open(builder: Builder, mut communicator: Box<dyn Communicator>) -> Result<Checkpointer, OpenError> {
    let Builder { job, layer, arguments, medium } = builder;
    let (rank, world, nodes) = (communicator.rank(), communicator.size(), communicator.nodes());
    let (decision, evidence) = match rank {
        0 => {
            let (decision, evidence) = decide(&job, &layer, arguments, medium.as_ref(), world, nodes);
            (encode(&decision), evidence)
        }
        _ => (Vec::new(), None),
    };
    // Rank 0 may have to watch an older attempt, or wait for a slow file system.
    let told = communicator.broadcast(0, decision, OPEN_TIMEOUT)?;
    let (settings, claimed, mtbf) = match decode(&told) {
        Ok(Decision::Go { settings, claimed, mtbf }) => (*settings, claimed, mtbf),
        Ok(Decision::Refuse { refusal, message }) => return Err(OpenError::Refused { refusal, message }),
        Err(message) => return Err(OpenError::Refused { refusal: Refusal::Configuration, message }),
    };
    let medium = medium.unwrap_or_else(|| medium_of(&settings));
    let store = Store::new(Arc::clone(&medium), &settings.dir);
    // The name was checked by rank 0.
    let job =
        store.job(&job).map_err(|error| OpenError::Refused { refusal: Refusal::Store, message: error.to_string() })?;
    let Claimed { epoch, next_id, program, at } = claimed;
    let ranks_on_node = communicator.ranks_on_node();
    let node = Node {
        slot: communicator.node_ranks().iter().position(|other| *other == rank).unwrap_or(0),
        ranks: ranks_on_node,
        rank: u32::try_from(rank).unwrap_or(u32::MAX),
        world: u32::try_from(world).unwrap_or(u32::MAX),
    };
    let threads = threads(&settings, ranks_on_node);
    let budget = Budget::new(settings.staging_max, ranks_on_node, Memory::of_this_process());
    let group = match settings.files {
        Files::Rank => None,
        Files::Node => RankGroup::around(rank, communicator.node_ranks()),
    };
    let pace = Pace {
        target: settings.round_target,
        ticks_max: settings.round_ticks_max,
        timeout: settings.agreement_timeout,
    };
    let mut agreement = Agreement::new(communicator, u64::from(settings.lag), pace);
    let writer = u32::try_from(rank).unwrap_or(u32::MAX);
    let journal = JournalWriter::open_later(medium, &job.epoch_folder(epoch), epoch, writer);
    let recorder = Arc::new(Recorder::new(journal, settings.log, rank));
    let encode = EncodeOptions {
        compression: match settings.compression {
            Compression::Auto => shard::Compression::Auto,
            Compression::Raw => shard::Compression::Raw,
            Compression::Level(level) => shard::Compression::Zstd(i32::from(level)),
        },
        by_field: Vec::new(),
        in_haste: Vec::new(),
        threads: None,
        bandwidth: NonZeroU64::new(settings.bandwidth_max),
        chunk_bytes: usize::try_from(settings.chunk).unwrap_or(shard::DEFAULT_CHUNK_BYTES),
        created: None,
    };
    let options = PipelineOptions {
        encode: encode.clone(),
        background: Background::new(settings.nice, settings.cpus.clone(), world, ranks_on_node),
        retention: RetentionPolicy { keep: settings.keep as usize, keep_every: settings.keep_every },
        request_poll: settings.request_poll,
        journal_beat: settings.journal_beat,
        epoch,
        rank,
        world: u32::try_from(world).unwrap_or(u32::MAX),
        group,
        commit_timeout: settings.commit_timeout,
        mtbf,
    };
    // The moment of the claim tells the attempt from one of the same number in a store that was removed and made anew.
    let board = BoardName {
        job: job.name().to_owned(),
        store: store_path(&settings.dir),
        epoch,
        token: at,
        supervised: Supervised::of_process(),
    };
    let threads = Watching::start(&settings, &board, node, &recorder).and_then(|(watching, unseen)| {
        let pipeline = Pipeline::start(&job, &recorder, &options, watching.place(), threads)?;
        Ok((pipeline, watching, unseen))
    });
    let (failed, first) = agreement.worst(u32::from(threads.is_err()), settings.agreement_timeout)?;
    let (pipeline, watching, unseen) = match threads {
        Ok(threads) if failed == 0 => threads,
        Ok(_) => return Err(OpenError::Threads { rank: first, message: "see that rank's output".into() }),
        Err(error) => return Err(OpenError::Threads { rank, message: error.to_string() }),
    };
    let process = ProcessIdentity::current();
    let slurm_end = std::env::var("SLURM_JOB_END_TIME").ok();
    let allocation_end = due::allocation_end(&settings, WallTime::now(), slurm_end.as_deref());
    recorder.record(Event::AttemptStarted {
        job: job.name().to_owned(),
        host: process.host,
        pid: process.pid,
        world: options.world,
        program: program.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        request: if settings.fresh { "fresh".to_owned() } else { settings.resume.to_string() },
        boot_id: process.boot_id,
        batch_restarts: process.slurm_job.is_some().then_some(process.slurm_restarts),
        allocation_end,
        nodes: u32::try_from(nodes).ok(),
        batch_job: process.slurm_job,
    });
    recorder.tell_on(watching.place().clone());
    if let Some(detail) = unseen {
        recorder.record(Event::Problem { what: "nobody can watch this rank".to_owned(), detail });
    }
    let changed = settings.table().into_iter().filter(|row| row.origin != Origin::Default);
    let changed = changed.map(|row| (row.key.to_owned(), format!("{} ({})", row.value, row.origin)));
    recorder.record(Event::Configuration { settings: changed.collect() });
    let due = Due::new(&settings, evidence, allocation_end);
    let chain = Chain::new(settings.chain, settings.keep_every);
    let signals = settings.signals.then(Signals::listen);
    Ok(Checkpointer {
        pipeline,
        agreement,
        job,
        epoch,
        settings,
        program,
        recorder,
        encode,
        group,
        staging: Staging::default(),
        budget,
        next_id,
        step: 0,
        frozen: None,
        settled: Settled::Nothing,
        committed: 0,
        slowdown: Slowdown::default(),
        chain,
        resumed: None,
        due,
        signals,
        watching,
        stopping: false,
        ended: false,
    })
}

fn medium_of(settings: &Settings) -> Arc<dyn Medium> {
    Arc::new(RealMedium::new(if settings.group { Access::Group } else { Access::Private }))
}

/// How many threads copy and encode: what the setting says, or this rank's share of the processors.
fn threads(settings: &Settings, ranks_on_node: usize) -> usize {
    if settings.threads > 0 {
        return settings.threads as usize;
    }
    // The whole ones, and one at the least.
    (own_part_of_processors(ranks_on_node) as usize).max(1)
}

/// Rank 0: reads the settings, looks into the store, and claims an epoch.
fn decide(
    job: &str,
    layer: &Layer,
    arguments: Vec<OsString>,
    medium: Option<&Arc<dyn Medium>>,
    world: usize,
    nodes: usize,
) -> (Decision, Option<Evidence>) {
    let settings = match Settings::of_process(Some(job), layer, arguments) {
        Ok(settings) => settings,
        Err(error) => return (refuse(Refusal::Configuration, error), None),
    };
    let medium = medium.cloned().unwrap_or_else(|| medium_of(&settings));
    let job = match Store::new(medium, &settings.dir).job(job) {
        Ok(job) => job,
        Err(error) => return (refuse(Refusal::Configuration, error), None),
    };
    let site = match site(&settings) {
        Ok(site) => site,
        Err(message) => return (refuse(Refusal::Configuration, message), None),
    };
    match claim(&job, &settings, world) {
        Ok(Ok(claimed)) => {
            let process = ProcessIdentity::current();
            let batch = process.slurm_job.map(|job| (job, process.slurm_restarts));
            let history = job.history().followed_by(batch, u32::try_from(nodes).unwrap_or(u32::MAX));
            let nodes = if settings.nodes > 0 { f64::from(settings.nodes) } else { nodes as f64 };
            let evidence = Evidence::new(due::belief(&settings, site), nodes, &history);
            let mtbf = evidence.mtbf();
            (Decision::Go { settings: Box::new(settings), claimed, mtbf }, Some(evidence))
        }
        Ok(Err(decision)) => (decision, None),
        Err(error) => (refuse(Refusal::Store, error), None),
    }
}

/// The failures and node-seconds of the site's own record, where the user names one.
fn site(settings: &Settings) -> Result<Option<(f64, f64)>, String> {
    let path = &settings.site_failures;
    if path.as_os_str().is_empty() {
        return Ok(None);
    }
    let problem = |error: &dyn std::fmt::Display| format!("site_failures: {}: {error}", path.display());
    let bytes = read_bounded(&RealMedium::default(), path, SITE_LIMIT).map_err(|error| problem(&error))?;
    read_site(&String::from_utf8_lossy(&bytes)).map(Some).map_err(|error| problem(&error))
}

/// What rank 0 has claimed for all.
#[derive(Debug, Serialize, Deserialize)]
struct Claimed {
    epoch: Epoch,
    next_id: CheckpointId,
    program: String,
    /// When, in milliseconds since 1970.
    at: u64,
}

fn claim(job: &JobFolder, settings: &Settings, world: usize) -> Result<Result<Claimed, Decision>, StoreError> {
    let process = ProcessIdentity::current();
    let catalogue = job.catalogue()?;
    let wants_resume = settings.resume != ResumeRequest::Off;
    if catalogue.holds_anything() && !wants_resume && !settings.fresh {
        let newest = catalogue.entries.iter().rev().find_map(|entry| entry.manifest());
        let newest = newest
            .map_or_else(String::new, |manifest| format!(" (the newest: {} at step {})", manifest.id, manifest.step));
        return Ok(Err(refuse(
            Refusal::CheckpointsPresent,
            format!(
                "{} holds checkpoints of job {:?}{newest}: use --resume to go on from them, or --fresh to start anew \
                 (they are kept until the new run has its own)",
                job.folder().display(),
                job.name()
            ),
        )));
    }
    if !settings.take_over
        && let Some((epoch, Ok(old))) = job.claims()?.pop()
        && let Some(evidence) = job.evidence_of_life(&old, &process)
    {
        return Ok(Err(refuse(
            Refusal::StillRunning,
            format!(
                "job {:?} still runs in attempt {epoch}: {evidence}. Stop it, or use --take-over if it is known to be of no use",
                job.name()
            ),
        )));
    }
    job.prepare()?;
    // What was asked of an older attempt is not asked of this one.
    job.take_requests()?;
    let program = fingerprint();
    let at = unix_milliseconds();
    let claim = job.claim(|epoch| Claim {
        epoch,
        job: job.name().to_owned(),
        process: process.clone(),
        world: u32::try_from(world).unwrap_or(u32::MAX),
        created_unix_ms: at,
        fresh: settings.fresh,
        journal_beat_ms: u64::try_from(settings.journal_beat.as_millis()).unwrap_or(u64::MAX),
        library: env!("CARGO_PKG_VERSION").to_owned(),
        program: program.clone(),
    })?;
    Ok(Ok(Claimed { epoch: claim.epoch, next_id: catalogue.next_id(), program, at }))
}

/// A fingerprint of the running program, so that a checkpoint tells which one wrote it. Not security: XXH3-64 of the file.
/// Read once: the file of a running program does not change.
fn fingerprint() -> String {
    static FINGERPRINT: OnceLock<String> = OnceLock::new();
    let hash = || {
        let mut file = std::fs::File::open(std::env::current_exe().ok()?).ok()?;
        let (mut hasher, mut buffer) = (Xxh3::new(), vec![0; 1 << 20]);
        loop {
            match file.read(&mut buffer).ok()? {
                0 => return Some(format!("{:016x}", hasher.digest())),
                n => hasher.update(&buffer[..n]),
            }
        }
    };
    FINGERPRINT.get_or_init(|| hash().unwrap_or_else(|| "unknown".into())).clone()
}
