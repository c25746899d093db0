//! Where checkpoints live: claims and epochs, manifest and commit, retention.
//!
//! Comes in: shards that the ranks of one attempt made durable. Goes out: committed checkpoints, in an order of age, and
//! the certainty that what was committed is still there.
//!
//! ```text
//! <store>/<job>/claims/<epoch>.json             exclusive creation (link): who this attempt is
//! <store>/<job>/<epoch>/<id>/rank-00003.shard   one rank's part; or, where the ranks of a node share a file,
//! <store>/<job>/<epoch>/<id>/ranks-00000-00003.shards
//! <store>/<job>/<epoch>/<id>/manifest.json      its presence commits the checkpoint
//! <store>/<job>/<epoch>/<id>/suspect.json       it holds values that cannot be
//! <store>/<job>/<epoch>/resumed.json            what the attempt resumed from
//! <store>/<job>/<epoch>/aside-<epoch>-<id>.json checkpoints found damaged by this attempt
//! <store>/<job>/<epoch>/finished.json           the application reached its end
//! <store>/<job>/<epoch>/journal.<rank>.jsonl    one writer a file
//! <store>/<job>/pins/<epoch>-<id>.json          kept because a user said so
//! <store>/<job>/requests/<nonce>.json           asked of the running job
//! ```
//!
//! What must hold:
//! - An attempt writes checkpoints only below its own epoch; folders are never renamed; order is (epoch, id).
//! - A manifest is written after every shard is durable under its final name, and removed, durably, before the first of
//!   its shards.
//! - Nothing is removed before enough newer checkpoints are committed, and nothing of other epochs by an attempt whose
//!   claim is not the newest.

use crate::ids::{CheckpointName, Epoch};
use crate::medium::{EntryKind, Medium, read_bounded};
use crate::shard::{MOST_SEATS, ShardPlace};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use thiserror::Error;

mod catalogue;
mod claim;
mod compact;
mod history;
mod liveness;
mod manifest;
mod records;
mod retention;
pub mod sealed;

pub use catalogue::{Catalogue, CheckpointEntry, CheckpointState, ManifestNotes, ShardFacts};
pub use claim::{Claim, Liveness, ProcessIdentity};
pub use manifest::{FieldSummary, MANIFEST_VERSION, Manifest, NamedBlock, ShardEntry};
pub use records::{Finished, Pin, Request, RequestKind, ResumedFrom, SetAside, Suspect};
pub use retention::RetentionPolicy;

/// The name of the record that commits a checkpoint.
pub const MANIFEST_FILE: &str = "manifest.json";

/// No manifest is longer: 10⁵ ranks with a dozen blocks each stay below.
const MANIFEST_LIMIT: u64 = 512 << 20;
/// No claim or other small record is longer.
const RECORD_LIMIT: u64 = 64 << 10;

/// What went wrong with a store.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The file system refused an operation.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was to be done.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is not what was written.
    #[error("{} is {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A file is of a version that this library does not know.
    #[error("{}: {what}", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Which, and what to do.
        what: String,
    },
    /// A job's name can't be a folder's.
    #[error("{0:?} can't name a job: use 1 to 64 letters, digits, dots, dashes and underscores, and no dot in front")]
    JobName(String),
    /// Others claimed every epoch that was tried.
    #[error("other attempts of job {job:?} claimed {tries} epochs in a row; is it being started in a loop?")]
    Contended {
        /// The job.
        job: String,
        /// How many were tried.
        tries: u32,
    },
}

impl StoreError {
    /// Whether the content of a file is at fault, as opposed to the access to it.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. })
    }

    /// Whether something is simply not there.
    #[must_use]
    pub fn is_absence(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// Says what was being done to which file when the system refused.
trait Explain<T> {
    fn explain(self, action: &'static str, path: &Path) -> Result<T, StoreError>;
}

impl<T> Explain<T> for io::Result<T> {
    fn explain(self, action: &'static str, path: &Path) -> Result<T, StoreError> {
        self.map_err(|source| StoreError::Io { action, path: path.to_owned(), source })
    }
}

/// Milliseconds since 1970, UTC.
#[must_use]
pub fn unix_milliseconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The name of `rank`'s file in a checkpoint's folder.
#[must_use]
pub fn shard_file(rank: usize) -> String {
    format!("rank-{rank:05}.shard")
}

/// The rank whose file has this name.
#[must_use]
pub fn shard_rank(file: &str) -> Option<usize> {
    let rank = file.strip_prefix("rank-")?.strip_suffix(".shard")?.parse().ok()?;
    (shard_file(rank) == file).then_some(rank)
}

/// Ranks in a row that run on one node and share a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RankGroup {
    first: u32,
    last: u32,
}

impl RankGroup {
    /// The ranks in a row around `rank` among those of its node, `None` where it is alone.
    #[must_use]
    pub fn around(rank: usize, of_node: &[usize]) -> Option<Self> {
        let among = |rank: &usize| of_node.contains(rank);
        let first = (0..=rank).rev().take_while(among).last()?;
        let last = (rank..).take_while(among).last()?;
        Self::of(first, last)
    }

    fn of(first: usize, last: usize) -> Option<Self> {
        let (first, last) = (u32::try_from(first).ok()?, u32::try_from(last).ok()?);
        (first < last && last - first < MOST_SEATS).then_some(Self { first, last })
    }

    /// The name of the file in a checkpoint's folder.
    #[must_use]
    pub fn file(&self) -> String {
        format!("ranks-{:05}-{:05}.shards", self.first, self.last)
    }

    /// The group whose file has this name.
    #[must_use]
    pub fn from_file(file: &str) -> Option<Self> {
        let (first, last) = file.strip_prefix("ranks-")?.strip_suffix(".shards")?.split_once('-')?;
        Self::of(first.parse().ok()?, last.parse().ok()?).filter(|group| group.file() == file)
    }

    /// Its ranks, in the order of their seats.
    pub fn ranks(&self) -> RangeInclusive<usize> {
        // Numbers of 32 bits fit.
        self.first as usize..=self.last as usize
    }

    fn has(&self, rank: usize) -> bool {
        self.ranks().contains(&rank)
    }

    /// The rank that gives the file its name.
    #[must_use]
    pub fn leader(&self) -> usize {
        self.first as usize
    }

    /// The part of `rank` of the file in `folder`.
    fn place(&self, folder: &Path, rank: usize) -> Option<ShardPlace> {
        let seat = u32::try_from(rank).ok()?.checked_sub(self.first)?;
        ShardPlace::shared(folder.join(self.file()), seat, self.last - self.first + 1)
    }
}

/// An epoch that somebody claimed, and the claim, where it can be read.
pub type FoundClaim = (Epoch, Result<Claim, StoreError>);

/// A folder that holds the checkpoints of any number of jobs.
#[derive(Debug, Clone)]
pub struct Store {
    medium: Arc<dyn Medium>,
    root: PathBuf,
}

impl Store {
    /// The store in folder `root` of `medium`. Nothing is read or made yet.
    #[must_use]
    pub fn new(medium: Arc<dyn Medium>, root: impl Into<PathBuf>) -> Self {
        Self { medium, root: root.into() }
    }

    /// Its folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The job `name` in it, whether there is such a one or not.
    ///
    /// # Errors
    /// [`StoreError::JobName`].
    pub fn job(&self, name: &str) -> Result<JobFolder, StoreError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if name.is_empty() || name.len() > 64 || name.starts_with('.') || !name.chars().all(plain) {
            return Err(StoreError::JobName(name.to_owned()));
        }
        Ok(JobFolder { medium: Arc::clone(&self.medium), name: name.to_owned(), folder: self.root.join(name) })
    }

    /// The names of the jobs in it.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn jobs(&self) -> Result<Vec<String>, StoreError> {
        let mut names = Vec::new();
        for entry in self.medium.list(&self.root).explain("list the store", &self.root)? {
            if entry.kind == EntryKind::Folder
                && let Ok(job) = self.job(&entry.name)
                && job.exists()?
            {
                names.push(entry.name);
            }
        }
        Ok(names)
    }
}

/// One job's part of a store.
#[derive(Debug, Clone)]
pub struct JobFolder {
    medium: Arc<dyn Medium>,
    name: String,
    folder: PathBuf,
}

impl JobFolder {
    /// The job's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What it is stored on.
    #[must_use]
    pub fn medium(&self) -> &Arc<dyn Medium> {
        &self.medium
    }

    /// Whether anything was ever stored for the job.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn exists(&self) -> Result<bool, StoreError> {
        let claims = self.claims_folder();
        self.medium.exists(&claims).explain("look for", &claims)
    }

    fn claims_folder(&self) -> PathBuf {
        self.folder.join("claims")
    }

    fn claim_path(&self, epoch: Epoch) -> PathBuf {
        self.claims_folder().join(format!("{}.json", epoch.folder()))
    }

    /// The folder of one attempt.
    #[must_use]
    pub fn epoch_folder(&self, epoch: Epoch) -> PathBuf {
        self.folder.join(epoch.folder())
    }

    /// The folder of one checkpoint.
    #[must_use]
    pub fn checkpoint_folder(&self, name: CheckpointName) -> PathBuf {
        self.epoch_folder(name.epoch).join(name.id.folder())
    }

    /// The file of one rank in it.
    #[must_use]
    pub fn shard_path(&self, name: CheckpointName, rank: usize) -> PathBuf {
        self.checkpoint_folder(name).join(shard_file(rank))
    }

    /// Where the part of `rank` belongs: in the file of `group`, or one of its own.
    #[must_use]
    pub fn place(&self, name: CheckpointName, rank: usize, group: Option<RankGroup>) -> ShardPlace {
        let shared = group.and_then(|group| group.place(&self.checkpoint_folder(name), rank));
        shared.unwrap_or_else(|| ShardPlace::own(self.shard_path(name, rank)))
    }

    /// Where the part of a rank is, by the manifest of its checkpoint.
    #[must_use]
    pub fn place_of(&self, name: CheckpointName, entry: &ShardEntry) -> ShardPlace {
        self.place(name, entry.rank as usize, RankGroup::from_file(&entry.file))
    }

    fn manifest_path(&self, name: CheckpointName) -> PathBuf {
        self.checkpoint_folder(name).join(MANIFEST_FILE)
    }

    fn pin_path(&self, name: CheckpointName) -> PathBuf {
        self.folder.join("pins").join(format!("{}-{}.json", name.epoch.folder(), name.id.folder()))
    }

    fn requests_folder(&self) -> PathBuf {
        self.folder.join("requests")
    }

    /// Makes the folder `path`, and its name durable.
    fn make_folder(&self, path: &Path) -> Result<(), StoreError> {
        self.medium.create_dir(path).explain("make the folder", path)?;
        // Also where it was there already: whoever made it may not have come as far as this.
        match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => self.sync_folder(parent),
            _ => self.sync_folder(Path::new(".")),
        }
    }

    fn sync_folder(&self, path: &Path) -> Result<(), StoreError> {
        self.medium.sync_dir(path).explain("make durable the folder", path)
    }

    /// Makes the folder of a checkpoint, durably. Every rank does so before its shard.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn make_checkpoint_folder(&self, name: CheckpointName) -> Result<(), StoreError> {
        self.begin_checkpoint_folder(name)?;
        self.confirm_checkpoint_folder(name)
    }

    /// The first half of [`Self::make_checkpoint_folder`]: files can be written, but the folder may not outlive a crash yet.
    ///
    /// Where somebody removed the attempt's own folder it is made again, or the attempt could save nothing any more. Not so
    /// the job's: with it the claims are gone, and the epoch may be another's by now.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn begin_checkpoint_folder(&self, name: CheckpointName) -> Result<(), StoreError> {
        let folder = self.checkpoint_folder(name);
        let made = match self.medium.create_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.read_claim(name.epoch).is_ok() => {
                self.make_folder(&self.epoch_folder(name.epoch))?;
                self.medium.create_dir(&folder)
            }
            result => result,
        };
        made.map(drop).explain("make the folder", &folder)
    }

    /// The second half, also where the folder was there already: whoever made it may not have come as far as this.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn confirm_checkpoint_folder(&self, name: CheckpointName) -> Result<(), StoreError> {
        self.sync_folder(&self.epoch_folder(name.epoch))
    }

    /// Gives a file that is complete and synced under `temporary` its final name, durably.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn publish(&self, temporary: &Path, path: &Path) -> Result<(), StoreError> {
        self.give_name(temporary, path)?;
        self.sync_folder(path.parent().unwrap_or(&self.folder))
    }

    /// The first half of [`Self::publish`]: the name is there for everybody, but may not outlive a crash yet.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn give_name(&self, temporary: &Path, path: &Path) -> Result<(), StoreError> {
        self.medium.rename(temporary, path).explain("give its final name to", temporary)
    }

    /// Writes `bytes` to `path`, replacing what is there: in full or not at all, and durably.
    fn write_durably(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let temporary = temporary(path);
        self.write_new(&temporary, bytes)?;
        self.publish(&temporary, path)
    }

    /// Writes `bytes` to the new file `path` and syncs it; what an earlier try left there is replaced.
    fn write_new(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let mut file = match self.medium.create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.medium.remove_file(path).explain("remove the remains", path)?;
                self.medium.create(path)
            }
            result => result,
        }
        .explain("create", path)?;
        file.write_at(0, bytes).explain("write", path)?;
        file.sync().explain("make durable", path)
    }

    fn seal<T: Serialize>(&self, kind: &'static str, path: &Path, body: &T) -> Result<Vec<u8>, StoreError> {
        sealed::seal(kind, records::RECORD_VERSION, body).map_err(io::Error::other).explain("encode", path)
    }

    fn read_sealed<T: DeserializeOwned>(
        &self,
        kind: &'static str,
        version: u32,
        path: &Path,
        limit: u64,
    ) -> Result<T, StoreError> {
        let bytes = match read_bounded(&*self.medium, path, limit) {
            // Too long for what it should be, or shorter than it says.
            Err(error) if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) => {
                return Err(StoreError::Damaged { path: path.to_owned(), what: error.to_string() });
            }
            result => result.explain("read", path)?,
        };
        sealed::open(kind, version, &bytes).map_err(|error| match error {
            sealed::SealError::Damaged(what) => {
                StoreError::Damaged { path: path.to_owned(), what: format!("damaged: {what}") }
            }
            version @ sealed::SealError::Version { .. } => {
                StoreError::Version { path: path.to_owned(), what: version.to_string() }
            }
        })
    }

    // ---- claims ----

    /// Makes the job's folders, which [`Self::claim`] makes durable. Needed once before anything is written.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn prepare(&self) -> Result<(), StoreError> {
        if let Some(root) = self.folder.parent() {
            let made = self.make_folders_above(root)?;
            if self.claims()?.is_empty() {
                self.confirm_folders_above(root, made)?;
            }
        }
        self.make_folder(&self.folder)?;
        for folder in [self.claims_folder(), self.folder.join("pins"), self.requests_folder()] {
            // Their names become durable with that of the attempt's folder, before anybody relies on what is in them.
            self.medium.create_dir(&folder).explain("make the folder", &folder)?;
        }
        Ok(())
    }

    /// Makes the folder `path` and those above it. Returns how many of them were not there.
    fn make_folders_above(&self, path: &Path) -> Result<usize, StoreError> {
        if path.as_os_str().is_empty() {
            return Ok(0);
        }
        match self.medium.stat(path) {
            Ok(_) => return Ok(0),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(StoreError::Io { action: "look for", path: path.to_owned(), source }),
        }
        let above = path.parent().map_or(Ok(0), |parent| self.make_folders_above(parent))?;
        self.medium.create_dir(path).explain("make the folder", path)?;
        Ok(above + 1)
    }

    /// Makes durable the names of `path` and of all folders above it, the lowest `made` of which are new. The others may be
    /// those of an attempt that was killed before its claim, and did not come as far as this.
    fn confirm_folders_above(&self, path: &Path, made: usize) -> Result<(), StoreError> {
        for (above, parent) in path.ancestors().filter_map(Path::parent).enumerate() {
            let synced = self.sync_folder(if parent.as_os_str().is_empty() { Path::new(".") } else { parent });
            // What others made need not let us: it may be closed to us, a symbolic link, a strange file system.
            if above < made {
                synced?;
            }
        }
        Ok(())
    }

    /// All claims, oldest first; one that can't be read is given as the error it gave.
    ///
    /// # Errors
    /// [`StoreError::Io`] where they can't be listed.
    pub fn claims(&self) -> Result<Vec<FoundClaim>, StoreError> {
        Ok(self.claimed_epochs()?.into_iter().map(|epoch| (epoch, self.read_claim(epoch))).collect())
    }

    /// The epochs that have a claim, whether that can be read or not, oldest first.
    fn claimed_epochs(&self) -> Result<Vec<Epoch>, StoreError> {
        let folder = self.claims_folder();
        let entries = match self.medium.list(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            result => result.explain("list", &folder)?,
        };
        let named = entries.iter().filter_map(|entry| Epoch::from_folder(entry.name.strip_suffix(".json")?));
        let mut epochs: Vec<_> = named.collect();
        epochs.sort();
        Ok(epochs)
    }

    fn read_claim(&self, epoch: Epoch) -> Result<Claim, StoreError> {
        self.read_sealed("claim", claim::CLAIM_VERSION, &self.claim_path(epoch), RECORD_LIMIT)
    }

    /// The folders of attempts, oldest first.
    fn epoch_folders(&self) -> Result<Vec<Epoch>, StoreError> {
        let entries = match self.medium.list(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            result => result.explain("list", &self.folder)?,
        };
        let folders = entries.iter().filter(|entry| entry.kind == EntryKind::Folder);
        let mut epochs: Vec<_> = folders.filter_map(|entry| Epoch::from_folder(&entry.name)).collect();
        epochs.sort();
        Ok(epochs)
    }

    /// The newest epoch that anybody ever claimed or wrote below.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn newest_epoch(&self) -> Result<Option<Epoch>, StoreError> {
        Ok(self.newest_claim()?.max(self.epoch_folders()?.last().copied()))
    }

    /// Takes the next epoch. `claim` is asked for the record that goes with a number.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Contended`].
    pub fn claim(&self, claim: impl Fn(Epoch) -> Claim) -> Result<Claim, StoreError> {
        const TRIES: u32 = 100;
        let folder = self.claims_folder();
        for _ in 0..TRIES {
            let epoch = self.newest_epoch()?.map_or(Epoch(1), Epoch::next);
            let (claim, path) = (claim(epoch), self.claim_path(epoch));
            let process = &claim.process;
            let temporary =
                folder.join(format!("claim-{}-{}-{}.tmp", process.host.replace('/', "_"), process.pid, epoch));
            let bytes = sealed::seal("claim", claim::CLAIM_VERSION, &claim)
                .map_err(io::Error::other)
                .explain("encode", &path)?;
            self.write_new(&temporary, &bytes)?;
            match self.medium.link(&temporary, &path) {
                Ok(()) => {}
                // Another attempt has this epoch; it may also have tidied up behind us.
                Err(error) if matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) => {
                    let _ = self.medium.remove_file(&temporary);
                    continue;
                }
                Err(source) => return Err(StoreError::Io { action: "claim an epoch by", path, source }),
            }
            self.sync_folder(&folder)?;
            self.tidy_claims(epoch);
            // With it, all other folders of the job become durable.
            self.make_folder(&self.epoch_folder(epoch))?;
            return Ok(claim);
        }
        Err(StoreError::Contended { job: self.name.clone(), tries: TRIES })
    }

    /// Removes the temporary names of claims up to `epoch`, this one's and those of attempts that died over them.
    fn tidy_claims(&self, epoch: Epoch) {
        let folder = self.claims_folder();
        for entry in self.medium.list(&folder).unwrap_or_default() {
            let number = entry.name.strip_suffix(".tmp").and_then(|name| name.rsplit('-').next()?.parse().ok());
            if number.is_some_and(|number| Epoch(number) <= epoch) {
                // What stays is found again by the next attempt.
                let _ = self.medium.remove_file(&folder.join(&entry.name));
            }
        }
    }

    /// The newest epoch that has a claim, whether that can be read or not.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn newest_claim(&self) -> Result<Option<Epoch>, StoreError> {
        Ok(self.claimed_epochs()?.last().copied())
    }

    // ---- manifests ----

    /// Commits a checkpoint: from the return of this call on it exists, and survives.
    ///
    /// # Errors
    /// [`StoreError::Io`]; it is then not known to be committed.
    pub fn commit(&self, manifest: &Manifest) -> Result<(), StoreError> {
        self.stage_manifest(manifest)?;
        self.commit_staged(manifest.name())
    }

    /// The first half of [`Self::commit`]: the manifest is durable, but under no name that counts.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn stage_manifest(&self, manifest: &Manifest) -> Result<(), StoreError> {
        let path = self.manifest_path(manifest.name());
        self.write_manifest(manifest, &path, &temporary(&path))
    }

    /// The second half: with the manifest's name in its folder, all that was named in there before is durable as well.
    ///
    /// # Errors
    /// [`StoreError::Io`]; it is then not known to be committed.
    pub fn commit_staged(&self, name: CheckpointName) -> Result<(), StoreError> {
        let path = self.manifest_path(name);
        self.publish(&temporary(&path), &path)
    }

    /// Commits a complete checkpoint of an older attempt in the name of attempt `epoch`, which resumes from it.
    ///
    /// # Errors
    /// [`StoreError::Io`]; it is then not known to be committed.
    pub fn roll_forward(&self, epoch: Epoch, manifest: &Manifest) -> Result<(), StoreError> {
        let path = self.manifest_path(manifest.name());
        // Should the older attempt still run and commit it as well, then neither finds its file half written by the other.
        let temporary = path.with_file_name(format!("{MANIFEST_FILE}.{}.tmp", epoch.folder()));
        self.write_manifest(manifest, &path, &temporary)?;
        self.publish(&temporary, &path)
    }

    fn write_manifest(&self, manifest: &Manifest, path: &Path, temporary: &Path) -> Result<(), StoreError> {
        let bytes =
            sealed::seal("manifest", manifest.version(), manifest).map_err(io::Error::other).explain("encode", path)?;
        self.write_new(temporary, &bytes)
    }

    /// Makes durable that a checkpoint is committed, which whoever wrote its manifest may not have come to do.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn confirm(&self, name: CheckpointName) -> Result<(), StoreError> {
        self.sync_folder(&self.checkpoint_folder(name))
    }

    /// The manifest of a committed checkpoint, checked against its place and in itself.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn manifest(&self, name: CheckpointName) -> Result<Manifest, StoreError> {
        let path = self.manifest_path(name);
        let manifest: Manifest = self.read_sealed("manifest", MANIFEST_VERSION, &path, MANIFEST_LIMIT)?;
        if manifest.name() != name || manifest.job != self.name {
            let what = format!("that of checkpoint {} of job {:?}", manifest.name(), manifest.job);
            return Err(StoreError::Damaged { path, what });
        }
        if let Some(what) = manifest.inconsistency() {
            return Err(StoreError::Damaged { path, what: format!("inconsistent: {what}") });
        }
        Ok(manifest)
    }

    // ---- records ----

    fn write_record<T: Serialize>(&self, kind: &'static str, path: &Path, body: &T) -> Result<(), StoreError> {
        let bytes = self.seal(kind, path, body)?;
        self.write_durably(path, &bytes)
    }

    /// The record at `path`, or `None` where there is none that can be read.
    fn read_record<T: DeserializeOwned>(&self, kind: &'static str, path: &Path) -> Option<T> {
        self.read_sealed(kind, records::RECORD_VERSION, path, RECORD_LIMIT).ok()
    }

    /// Notes what attempt `epoch` resumed from.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn note_resumed(&self, epoch: Epoch, from: &ResumedFrom) -> Result<(), StoreError> {
        self.write_record("resumed", &self.epoch_folder(epoch).join("resumed.json"), from)
    }

    /// What attempt `epoch` resumed from.
    #[must_use]
    pub fn resumed_from(&self, epoch: Epoch) -> Option<ResumedFrom> {
        self.read_record("resumed", &self.epoch_folder(epoch).join("resumed.json"))
    }

    /// Notes that the application reached its end in attempt `epoch`.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn note_finished(&self, epoch: Epoch, finished: &Finished) -> Result<(), StoreError> {
        self.write_record("finished", &self.epoch_folder(epoch).join("finished.json"), finished)
    }

    /// How the application ended in attempt `epoch`, where it came to its end.
    #[must_use]
    pub fn finished(&self, epoch: Epoch) -> Option<Finished> {
        self.read_record("finished", &self.epoch_folder(epoch).join("finished.json"))
    }

    /// Whether one of the attempts `epochs` came to the application's end with checkpoint `name`.
    pub fn is_end(&self, epochs: impl IntoIterator<Item = Epoch>, name: CheckpointName) -> bool {
        epochs.into_iter().filter_map(|epoch| self.finished(epoch)).any(|end| end.checkpoint == name)
    }

    /// Notes that attempt `epoch` found a checkpoint damaged.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn set_aside(&self, epoch: Epoch, aside: &SetAside) -> Result<(), StoreError> {
        let CheckpointName { epoch: of, id } = aside.checkpoint;
        let file = format!("aside-{}-{}.json", of.folder(), id.folder());
        self.write_record("aside", &self.epoch_folder(epoch).join(file), aside)
    }

    /// What attempt `epoch` found damaged.
    fn set_aside_by(&self, epoch: Epoch) -> Result<Vec<SetAside>, StoreError> {
        let folder = self.epoch_folder(epoch);
        let entries = self.medium.list(&folder).explain("list", &folder)?;
        let files = entries.iter().filter(|entry| entry.name.starts_with("aside-") && entry.name.ends_with(".json"));
        Ok(files.filter_map(|entry| self.read_record("aside", &folder.join(&entry.name))).collect())
    }

    fn suspect_path(&self, name: CheckpointName) -> PathBuf {
        self.checkpoint_folder(name).join("suspect.json")
    }

    /// Notes that a checkpoint, whose folder is there, holds values that cannot be. Where a rank has noted it already, that stands: values go
    /// wrong on all ranks at once, and one file a rank would be many. It becomes durable with the next name in the folder.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn mark_suspect(&self, suspect: &Suspect) -> Result<(), StoreError> {
        let path = self.suspect_path(suspect.checkpoint);
        if self.medium.exists(&path).explain("look for", &path)? {
            return Ok(());
        }
        let own = path.with_file_name(format!("suspect-{:05}.tmp", suspect.rank));
        self.write_new(&own, &self.seal("suspect", &path, suspect)?)?;
        let linked = match self.medium.link(&own, &path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            result => result.explain("name", &path),
        };
        self.medium.remove_file(&own).explain("remove", &own)?;
        linked
    }

    /// What a rank noted about the values in a checkpoint, if one did.
    #[must_use]
    pub fn suspect(&self, name: CheckpointName) -> Option<Suspect> {
        self.read_record("suspect", &self.suspect_path(name)).filter(|suspect: &Suspect| suspect.checkpoint == name)
    }

    /// Keeps a checkpoint until it is unpinned.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn pin(&self, pin: &Pin) -> Result<(), StoreError> {
        self.write_record("pin", &self.pin_path(pin.checkpoint), pin)
    }

    /// Takes a pin away. `false` where there was none.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn unpin(&self, name: CheckpointName) -> Result<bool, StoreError> {
        let path = self.pin_path(name);
        match self.medium.remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            result => result.explain("remove", &path).map(|()| true),
        }
    }

    /// Whether a user pinned the checkpoint. A pin that can't be read still pins.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn is_pinned(&self, name: CheckpointName) -> Result<bool, StoreError> {
        let path = self.pin_path(name);
        self.medium.exists(&path).explain("look for", &path)
    }

    /// Asks something of the running job. Returns the name by which [`Self::request_is_open`] knows it.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn request(&self, request: &Request) -> Result<String, StoreError> {
        let folder = self.requests_folder();
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let name = format!("{:020}-{}.json", since.as_nanos(), std::process::id());
        self.write_record("request", &folder.join(&name), request)?;
        Ok(name)
    }

    /// Whether a request was not taken up yet.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn request_is_open(&self, name: &str) -> Result<bool, StoreError> {
        let path = self.requests_folder().join(name);
        self.medium.exists(&path).explain("look for", &path)
    }

    /// Takes a request back. `false` where it was taken up already.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn withdraw_request(&self, name: &str) -> Result<bool, StoreError> {
        let path = self.requests_folder().join(name);
        match self.medium.remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            result => result.explain("remove", &path).map(|()| true),
        }
    }

    /// Takes up all requests: they are removed. Those that can't be read are removed as well, and left out.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn take_requests(&self) -> Result<Vec<Request>, StoreError> {
        let folder = self.requests_folder();
        let entries = match self.medium.list(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            result => result.explain("list", &folder)?,
        };
        let mut requests = Vec::new();
        for entry in entries.iter().filter(|entry| entry.name.ends_with(".json")) {
            let path = folder.join(&entry.name);
            requests.extend(self.read_record("request", &path));
            match self.medium.remove_file(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                result => result.explain("remove", &path)?,
            }
        }
        Ok(requests)
    }

    // ---- removal ----

    /// Removes what is left of a checkpoint that this attempt gave up, unless somebody else committed it: a newer attempt that found
    /// all shards rolls it forward, and goes on from it. `rank` is that of the caller.
    ///
    /// First the caller's shard loses its name, then the manifest is looked for once more. Whoever writes a manifest before that
    /// look is noticed, and the shard gets its name back; whoever comes later finds a shard missing, and takes an older checkpoint.
    ///
    /// # Errors
    /// [`StoreError::Io`]; it may then be gone in part, and counts as partial.
    pub fn discard(&self, name: CheckpointName, rank: usize) -> Result<(), StoreError> {
        if self.has_manifest(name)? {
            return Ok(());
        }
        let present = self.shards_present(name)?;
        // Without it there is nothing that anybody could commit.
        let Some(shard) = present.get(&rank).map(ShardPlace::path) else { return self.remove(name) };
        match self.give_name(shard, &temporary(shard)) {
            Err(error) if error.is_absence() => return self.remove(name),
            result => result?,
        }
        match self.has_manifest(name) {
            Ok(false) => self.remove(name),
            noticed => {
                self.publish(&temporary(shard), shard)?;
                noticed.map(drop)
            }
        }
    }

    /// Removes a checkpoint: first, durably, its manifest, so that it is never seen half there; then the rest.
    ///
    /// # Errors
    /// [`StoreError::Io`]; it may then be gone in part, and counts as partial.
    pub fn remove(&self, name: CheckpointName) -> Result<(), StoreError> {
        let folder = self.checkpoint_folder(name);
        let manifest = self.manifest_path(name);
        match self.medium.remove_file(&manifest) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(StoreError::Io { action: "remove", path: manifest, source }),
        }
        let entries = match self.medium.list(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            result => result.explain("list", &folder)?,
        };
        // Also where there was no manifest: whoever removed it may not have come as far as this.
        self.sync_folder(&folder)?;
        for entry in entries {
            let path = folder.join(&entry.name);
            match self.medium.remove_file(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                result => result.explain("remove", &path)?,
            }
        }
        match self.medium.remove_dir(&folder) {
            // Somebody else was at it as well.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result.explain("remove the folder", &folder),
        }
    }
}

/// The name under which a file is written before it gets its own.
#[must_use]
pub fn temporary(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".tmp");
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::CheckpointId;
    use crate::medium::recording::{OperationKind, RecordingMedium};

    #[test]
    fn folders_above_the_store_that_cannot_be_synced_are_no_obstacle() {
        let medium = RecordingMedium::with_folder("/home/user");
        medium.fail_when(nix::libc::EACCES, u64::MAX, |operation| {
            operation.kind == OperationKind::SyncDir && ["/", "/home"].map(Path::new).contains(&&*operation.path)
        });
        let job = |store: &str| Store::new(Arc::new(medium.clone()), store).job("job").unwrap();
        job("/home/user/some/store").prepare().unwrap();
        assert!(job("/home/store").prepare().is_err(), "one that was made must last");
    }

    #[test]
    fn the_first_rank_marks_a_checkpoint_and_the_mark_goes_with_it() {
        let medium = RecordingMedium::with_folder("/store/job/000001");
        let job = Store::new(Arc::new(medium.clone()), "/store").job("job").unwrap();
        let name = CheckpointName { epoch: Epoch(1), id: CheckpointId(1) };
        let suspect = |rank| Suspect { checkpoint: name, rank, reason: format!("rank {rank} says so") };
        assert!(job.mark_suspect(&suspect(0)).is_err(), "there is no such checkpoint");
        job.make_checkpoint_folder(name).unwrap();
        assert_eq!(job.suspect(name), None);
        for rank in [3, 0] {
            job.mark_suspect(&suspect(rank)).unwrap();
        }
        assert_eq!(job.suspect(name), Some(suspect(3)));
        let entries = medium.list(&job.checkpoint_folder(name)).unwrap();
        assert_eq!(entries.iter().map(|entry| entry.name.as_str()).collect::<Vec<_>>(), ["suspect.json"]);
        job.remove(name).unwrap();
        job.make_checkpoint_folder(name).unwrap();
        assert_eq!(job.suspect(name), None);
    }

    #[test]
    fn a_removal_that_was_interrupted_is_finished_without_a_crash_ever_showing_half_a_checkpoint() {
        let medium = RecordingMedium::with_folder("/store/job/000001");
        let job = Store::new(Arc::new(medium.clone()), "/store").job("job").unwrap();
        let name = CheckpointName { epoch: Epoch(1), id: CheckpointId(1) };
        job.make_checkpoint_folder(name).unwrap();
        let (shard, manifest) = (job.shard_path(name, 0), job.manifest_path(name));
        job.write_durably(&shard, b"shard").unwrap();
        job.write_durably(&manifest, b"manifest").unwrap();
        // The process that began is killed before it made this durable.
        medium.remove_file(&manifest).unwrap();
        job.remove(name).unwrap();
        let count = medium.for_each_crash(100, 1, |point, image| {
            let half = image.file(&manifest).is_some() && image.file(&shard).is_none();
            assert!(!half, "crash before {:?}", point.before());
        });
        assert!(count.images > 5);
    }
}
