//! Reads committed checkpoints without MPI and without the application: what the program and other languages build on.
//!
//! Comes in: a store and the name of a job. Goes out: what checkpoints there are, what they hold, and their arrays,
//! of one rank or assembled from the blocks of all ranks.
//! What must hold: reading changes nothing in the store; nothing is handed out that is not what was written: every shard is
//! checked against the manifest, and every chunk against its checksums; memory is bounded whatever the size of the state,
//! but for what the caller asks for as a whole; what is damaged is told from what can't be read just now.
//!
//! ```
//! use piton::reader::{Reader, Selection};
//! use piton::{comm::Solo, medium::{Access, RealMedium}, store::Store, Checkpointer, State};
//!
//! #[derive(State)]
//! struct Rod { heat: Vec<f64> }
//!
//! # let folder = tempfile::tempdir()?;
//! # let folder = folder.path();
//! let mut rod = Rod { heat: vec![0.5; 1000] };
//! let mut checkpointer = Checkpointer::builder("rod").dir(folder).open(&Solo::default())?;
//! checkpointer.resume(&mut rod)?;
//! checkpointer.finish(&mut rod)?;
//!
//! let store = Store::new(std::sync::Arc::new(RealMedium::new(Access::Private)), folder);
//! let reader = Reader::open(&store, "rod")?;
//! let checkpoint = reader.checkpoint(reader.find(Selection::Latest)?)?;
//! assert_eq!(checkpoint.manifest().world, 1);
//! let bytes = checkpoint.local(0, "heat")?;
//! assert_eq!(bytes[..8], 0.5f64.to_le_bytes());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod global;
mod statistics;
mod verify;

pub use global::GlobalArray;
pub use statistics::{HISTOGRAM_BINS, MOST_COMPONENTS, Statistics};
pub use verify::{ShardProblem, Soundness, Verdict, Wrong};

use crate::ids::{CheckpointName, CheckpointSelector, Epoch};
use crate::shard::{ShardError, ShardIdentity, ShardReader};
use crate::state::{FieldClass, FieldOutline, OwnedKind};
use crate::store::{
    Catalogue, CheckpointState, FieldSummary, JobFolder, Manifest, ManifestNotes, Store, StoreError, shard_file,
};
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use thiserror::Error;

/// About so many bytes are held at a time where something is streamed.
// Tests use small arrays, which must not fit.
const WINDOW_BYTES: u64 = if cfg!(test) { 200 } else { 16 << 20 };

/// So many shards are kept open: files are a limited resource, and jobs have many ranks.
const OPEN_SHARDS: usize = 64;

/// Why something could not be read from a store.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The store has no such job.
    #[error("there is no job {job:?} in {}{}", store.display(), list("; it holds", known))]
    NoSuchJob {
        /// The name asked for.
        job: String,
        /// The store's folder.
        store: PathBuf,
        /// The jobs that are there.
        known: Vec<String>,
    },
    /// The job has no such checkpoint.
    #[error("job {job:?} has no checkpoint {wanted}{}", list("; it has", known))]
    NoSuchCheckpoint {
        /// The job.
        job: String,
        /// What was asked for.
        wanted: String,
        /// The checkpoints that are there, oldest first.
        known: Vec<String>,
    },
    /// Several attempts wrote a checkpoint of that number.
    #[error("several attempts of job {job:?} wrote a checkpoint {id}: name one of {}", known.join(", "))]
    Ambiguous {
        /// The job.
        job: String,
        /// The number asked for.
        id: String,
        /// As they can be named.
        known: Vec<String>,
    },
    /// The checkpoint is there, but was never completed.
    #[error("checkpoint {name} of job {job:?} is partial: {shards} shards and no manifest; it holds nothing to read")]
    Partial {
        /// The job.
        job: String,
        /// The checkpoint.
        name: CheckpointName,
        /// How many shards are there.
        shards: usize,
    },
    /// The checkpoint has no such field.
    #[error("checkpoint {name} has no field {field:?}{}", list("; it has", known))]
    NoSuchField {
        /// The checkpoint.
        name: CheckpointName,
        /// The field asked for.
        field: String,
        /// Those that it has.
        known: Vec<String>,
    },
    /// The checkpoint has no such rank.
    #[error("checkpoint {name} has no rank {rank}: it is of {world} ranks, counted from 0")]
    NoSuchRank {
        /// The checkpoint.
        name: CheckpointName,
        /// The rank asked for.
        rank: u32,
        /// How many ranks it has.
        world: u32,
    },
    /// The store refused, or what it holds beside the shards is damaged.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A rank's shard can't be read, or is damaged.
    #[error("rank {rank}: {source}")]
    Shard {
        /// The rank.
        rank: u32,
        /// What is wrong.
        source: ShardError,
    },
    /// A rank's shard is a sound one, but not that of which the manifest speaks.
    #[error("rank {rank}: {} is not the shard that was committed: {what}", path.display())]
    OtherShard {
        /// The rank.
        rank: u32,
        /// The file.
        path: PathBuf,
        /// In what it differs.
        what: String,
    },
    /// The field can't be read in this way.
    #[error("field {field:?} {what}")]
    Field {
        /// The field.
        field: String,
        /// Why not, and what can be done instead.
        what: String,
    },
    /// There is not enough memory now.
    #[error("no memory for {bytes} bytes of field {field:?}")]
    Memory {
        /// The field.
        field: String,
        /// How much was needed.
        bytes: u64,
    },
    /// Threads could not be started.
    #[error("cannot start threads: {0}")]
    Threads(String),
    /// Whoever took the bytes could not.
    #[error(transparent)]
    Output(io::Error),
}

impl ReadError {
    /// Whether what was asked for is not there.
    #[must_use]
    pub fn is_absence(&self) -> bool {
        matches!(
            self,
            Self::NoSuchJob { .. } | Self::NoSuchCheckpoint { .. } | Self::NoSuchField { .. } | Self::NoSuchRank { .. }
        )
    }

    /// Whether the store's content is known to be wrong, so that trying again is of no use.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Store(error) => error.is_damage(),
            Self::Shard { source, .. } => source.is_damage() || is_missing(source),
            Self::OtherShard { .. } => true,
            _ => false,
        }
    }
}

/// Whether a shard's file is not there.
fn is_missing(error: &ShardError) -> bool {
    matches!(error, ShardError::Read { source, .. } if source.kind() == io::ErrorKind::NotFound)
}

fn list(before: &str, known: &[String]) -> String {
    const MOST: usize = 12;
    match known.len() {
        0 => String::new(),
        1..=MOST => format!("{before} {}", known.join(", ")),
        more => format!("{before} {} and {} more", known[..MOST].join(", "), more - MOST),
    }
}

/// Which checkpoint a user means: `latest`, `ID` or `EPOCH/ID`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selection {
    /// The newest that may be resumed from.
    Latest,
    /// That one.
    Named(CheckpointSelector),
}

impl FromStr for Selection {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "latest" { Ok(Self::Latest) } else { text.parse().map(Self::Named) }
    }
}

/// How a user would name a checkpoint beyond doubt.
fn full(name: CheckpointName) -> String {
    CheckpointSelector { epoch: Some(name.epoch), id: name.id }.to_string()
}

/// Reads the checkpoints of one job.
#[derive(Debug, Clone)]
pub struct Reader {
    job: JobFolder,
    pool: Arc<ThreadPool>,
}

impl Reader {
    /// The job `job` of `store`, read with as many threads of its own as there are processors.
    ///
    /// # Errors
    /// [`ReadError::NoSuchJob`], [`ReadError::Threads`], and those of the store.
    pub fn open(store: &Store, job: &str) -> Result<Self, ReadError> {
        let folder = store.job(job)?;
        if !folder.exists()? {
            let (job, root) = (job.to_owned(), store.root().to_owned());
            return Err(ReadError::NoSuchJob { job, store: root, known: store.jobs().unwrap_or_default() });
        }
        let pool = ThreadPoolBuilder::new().thread_name(|number| format!("piton-read-{number}")).build();
        Ok(Self { job: folder, pool: Arc::new(pool.map_err(|error| ReadError::Threads(error.to_string()))?) })
    }

    /// The job's folder.
    #[must_use]
    pub fn job(&self) -> &JobFolder {
        &self.job
    }

    /// The threads that it reads with.
    #[must_use]
    pub fn pool(&self) -> &ThreadPool {
        &self.pool
    }

    /// All checkpoints and in what state they are.
    ///
    /// # Errors
    /// Those of the store.
    pub fn catalogue(&self) -> Result<Catalogue, ReadError> {
        Ok(self.job.catalogue()?)
    }

    /// The checkpoint that `selection` means.
    ///
    /// # Errors
    /// [`ReadError::NoSuchCheckpoint`], [`ReadError::Ambiguous`], and those of the store.
    pub fn find(&self, selection: Selection) -> Result<CheckpointName, ReadError> {
        self.find_in(&self.catalogue()?, selection)
    }

    /// As [`Self::find`], among those that are known already.
    ///
    /// # Errors
    /// [`ReadError::NoSuchCheckpoint`], [`ReadError::Ambiguous`].
    pub fn find_in(&self, catalogue: &Catalogue, selection: Selection) -> Result<CheckpointName, ReadError> {
        let names: Vec<CheckpointName> = match selection {
            Selection::Latest => catalogue.candidates().map(|entry| entry.name).take(1).collect(),
            Selection::Named(selector) => {
                catalogue.entries.iter().map(|entry| entry.name).filter(|name| selector.selects(*name)).collect()
            }
        };
        match names.as_slice() {
            [] => Err(self.no_such_checkpoint(
                match selection {
                    Selection::Latest => "that could be resumed from".into(),
                    Selection::Named(selector) => selector.to_string(),
                },
                catalogue,
            )),
            [name] => Ok(*name),
            [first, ..] => Err(ReadError::Ambiguous {
                job: self.job.name().to_owned(),
                id: first.id.to_string(),
                known: names.iter().map(|name| full(*name)).collect(),
            }),
        }
    }

    fn no_such_checkpoint(&self, wanted: String, catalogue: &Catalogue) -> ReadError {
        let known = catalogue.entries.iter().map(|entry| full(entry.name)).collect();
        ReadError::NoSuchCheckpoint { job: self.job.name().to_owned(), wanted, known }
    }

    /// Opens a checkpoint that is committed, or complete though not committed.
    ///
    /// # Errors
    /// [`ReadError::Partial`], [`ReadError::NoSuchCheckpoint`], and those of the store.
    pub fn checkpoint(&self, name: CheckpointName) -> Result<Checkpoint, ReadError> {
        match self.job.manifest(name) {
            Ok(manifest) => return Ok(self.with_manifest(manifest, true)),
            Err(error) if error.is_absence() => {}
            Err(error) => return Err(error.into()),
        }
        let catalogue = self.catalogue()?;
        match catalogue.entries.iter().find(|entry| entry.name == name).map(|entry| &entry.state) {
            None => Err(self.no_such_checkpoint(full(name), &catalogue)),
            Some(CheckpointState::Complete { world, .. }) => {
                let manifest = self.job.draft_manifest(name, *world, &ManifestNotes::default())?;
                Ok(self.with_manifest(manifest, false))
            }
            Some(CheckpointState::Partial { shards }) => {
                Err(ReadError::Partial { job: self.job.name().to_owned(), name, shards: *shards })
            }
            // Committed, or damaged, in the meantime.
            Some(_) => Ok(self.with_manifest(self.job.manifest(name)?, true)),
        }
    }

    fn with_manifest(&self, manifest: Manifest, committed: bool) -> Checkpoint {
        Checkpoint {
            job: self.job.clone(),
            pool: Arc::clone(&self.pool),
            manifest,
            committed,
            shards: Mutex::default(),
        }
    }

    /// The attempts that were claimed or wrote something, oldest first.
    ///
    /// # Errors
    /// Those of the store.
    pub fn epochs(&self) -> Result<Vec<Epoch>, ReadError> {
        Ok(self.catalogue()?.epochs.into_iter().collect())
    }
}

/// One checkpoint, of which shards are opened as they are needed.
#[derive(Debug)]
pub struct Checkpoint {
    job: JobFolder,
    pool: Arc<ThreadPool>,
    manifest: Manifest,
    committed: bool,
    /// Those used last at the end.
    shards: Mutex<Vec<(u32, Arc<ShardReader>)>>,
}

impl Checkpoint {
    /// Its place in the history of the job.
    #[must_use]
    pub fn name(&self) -> CheckpointName {
        self.manifest.name()
    }

    /// What it consists of. Of a checkpoint that was not committed it is drawn up from the shards, and program, reason, label
    /// and time are not known.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Whether it has a manifest, as opposed to being only complete.
    #[must_use]
    pub fn is_committed(&self) -> bool {
        self.committed
    }

    /// The fields of all ranks.
    #[must_use]
    pub fn fields(&self) -> &[FieldSummary] {
        &self.manifest.fields
    }

    /// The field `name`.
    ///
    /// # Errors
    /// [`ReadError::NoSuchField`].
    pub fn field(&self, name: &str) -> Result<&FieldSummary, ReadError> {
        self.fields().iter().find(|field| field.name == name).ok_or_else(|| self.no_such_field(name))
    }

    fn no_such_field(&self, name: &str) -> ReadError {
        ReadError::NoSuchField {
            name: self.name(),
            field: name.to_owned(),
            known: self.fields().iter().map(|field| field.name.clone()).collect(),
        }
    }

    /// What the elements of the array `name` consist of.
    ///
    /// # Errors
    /// [`ReadError::NoSuchField`]; [`ReadError::Field`] where it is no array, or of a type that is not known here.
    pub fn kind(&self, name: &str) -> Result<OwnedKind, ReadError> {
        let field = self.field(name)?;
        let refuse = |what: String| ReadError::Field { field: name.to_owned(), what };
        if field.class != FieldClass::Array {
            return Err(refuse("is no array of plain numbers".into()));
        }
        field.kind.parse().map_err(|error| refuse(format!("has elements of type {:?}: {error}", field.kind)))
    }

    /// The shard of `rank`, checked against the manifest. It is kept open for later calls.
    ///
    /// # Errors
    /// [`ReadError::NoSuchRank`], [`ReadError::Shard`], [`ReadError::OtherShard`].
    pub fn shard(&self, rank: u32) -> Result<Arc<ShardReader>, ReadError> {
        let kept = || self.shards.lock().unwrap_or_else(PoisonError::into_inner);
        {
            let mut kept = kept();
            if let Some(place) = kept.iter().position(|(of, _)| *of == rank) {
                let (of, shard) = kept.remove(place);
                kept.push((of, Arc::clone(&shard)));
                return Ok(shard);
            }
        }
        let shard = Arc::new(self.open_shard(rank)?);
        let mut kept = kept();
        if kept.len() >= OPEN_SHARDS {
            kept.remove(0);
        }
        kept.push((rank, Arc::clone(&shard)));
        Ok(shard)
    }

    /// Opens the shard of `rank` and checks that it is the one that the manifest names.
    fn open_shard(&self, rank: u32) -> Result<ShardReader, ReadError> {
        let Manifest { world, tick, step, .. } = self.manifest;
        let Some(entry) = self.manifest.shard(rank as usize) else {
            return Err(ReadError::NoSuchRank { name: self.name(), rank, world });
        };
        let place = self.job.place_of(self.name(), entry);
        let path = place.path();
        let shard =
            ShardReader::open_at(&**self.job.medium(), &place).map_err(|source| ReadError::Shard { rank, source })?;
        let CheckpointName { epoch, id } = self.name();
        let expected = ShardIdentity { job: self.job.name().to_owned(), epoch, id, tick, step, rank, world };
        let other = |what: String| Err(ReadError::OtherShard { rank, path: path.to_owned(), what });
        if *shard.identity() != expected {
            let ShardIdentity { job, epoch, id, step, rank, world, .. } = shard.identity();
            return other(format!(
                "it is that of rank {rank} of {world} in checkpoint {epoch}/{id} of job {job:?}, at step {step}"
            ));
        }
        if shard.file_bytes() != entry.bytes {
            return other(format!("it is {} bytes long instead of {}", shard.file_bytes(), entry.bytes));
        }
        if format!("{:032x}", shard.digest()) != entry.xxh3_128 {
            return other("its digest is not the one in the manifest".into());
        }
        Ok(shard)
    }

    /// The field `name` of `rank`: its number in the shard, and its description. `None` where the rank has no such field.
    ///
    /// # Errors
    /// As [`Self::shard`].
    pub fn rank_field(&self, rank: u32, name: &str) -> Result<Option<(usize, FieldOutline)>, ReadError> {
        let shard = self.shard(rank)?;
        let found = shard.outline().fields.iter().enumerate().find(|(_, field)| field.name == name);
        Ok(found.map(|(number, field)| (number, field.clone())))
    }

    fn required_field(&self, rank: u32, name: &str) -> Result<(Arc<ShardReader>, usize, FieldOutline), ReadError> {
        let Some((number, outline)) = self.rank_field(rank, name)? else {
            self.field(name)?;
            return Err(ReadError::Field {
                field: name.to_owned(),
                what: format!("is not in the state of rank {rank}"),
            });
        };
        Ok((self.shard(rank)?, number, outline))
    }

    /// The bytes of the field `name` as `rank` has it, halo included: of an array its elements as they lie in memory
    /// (little-endian), of others what the library stored.
    ///
    /// # Errors
    /// [`ReadError`]; [`ReadError::Shard`] where there is not enough memory, too.
    pub fn local(&self, rank: u32, name: &str) -> Result<Vec<u8>, ReadError> {
        let (shard, number, _) = self.required_field(rank, name)?;
        shard.read_field(&self.pool, number).map_err(|source| ReadError::Shard { rank, source })
    }

    /// As [`Self::local`], a few MiB at a time, in order.
    ///
    /// # Errors
    /// [`ReadError`]; [`ReadError::Output`] where `take` fails.
    pub fn stream_local(
        &self,
        rank: u32,
        name: &str,
        take: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), ReadError> {
        let (shard, number, outline) = self.required_field(rank, name)?;
        let mut at = 0;
        let mut window = reserve(name, WINDOW_BYTES.min(outline.bytes))?;
        while at < outline.bytes {
            let len = WINDOW_BYTES.min(outline.bytes - at);
            // At most the window's length.
            let part = &mut window[..len as usize];
            shard.read_part(&self.pool, number, at, part).map_err(|source| ReadError::Shard { rank, source })?;
            take(part).map_err(ReadError::Output)?;
            at += len;
        }
        Ok(())
    }

    /// The name of the file of `rank`, in the checkpoint's folder.
    #[must_use]
    pub fn shard_file(&self, rank: u32) -> String {
        shard_file(rank as usize)
    }
}

/// Zeroed memory for `bytes` bytes of a field, if there is so much.
fn reserve(field: &str, bytes: u64) -> Result<Vec<u8>, ReadError> {
    let memory = || ReadError::Memory { field: field.to_owned(), bytes };
    let len = usize::try_from(bytes).map_err(|_| memory())?;
    let mut buffer = Vec::new();
    buffer.try_reserve_exact(len).map_err(|_| memory())?;
    buffer.resize(len, 0);
    Ok(buffer)
}

#[cfg(test)]
mod tests;
