//! What checkpoints a job has, and in what state.
//!
//! Comes in: the folders of a job. Goes out: one entry a checkpoint, oldest first, and which of them may be resumed.
//! What must hold: looking changes nothing; a checkpoint that can't be read now is told from one that is damaged.

use super::{
    Explain, FieldSummary, JobFolder, MANIFEST_FILE, Manifest, NamedBlock, RankGroup, ShardEntry, StoreError,
    shard_rank, unix_milliseconds,
};
use crate::ids::{CheckpointId, CheckpointName, Epoch};
use crate::medium::EntryKind;
use crate::shard::{ShardIdentity, ShardPlace, ShardReader};
use crate::state::FieldOutline;
use std::collections::{BTreeMap, BTreeSet};
use std::io;

/// What a checkpoint is, as far as its manifest and the names of its files tell.
#[derive(Debug)]
pub enum CheckpointState {
    /// It has a valid manifest.
    Committed(Box<Manifest>),
    /// It has no manifest, but every rank's shard under its final name: resume may roll it forward.
    Complete {
        /// The number of ranks.
        world: u32,
        /// The application's step.
        step: u64,
    },
    /// Shards are missing, and there is no manifest: being written, or left by an attempt that died.
    Partial {
        /// How many shards are there.
        shards: usize,
    },
    /// Its manifest is not what was written.
    Damaged(String),
    /// It can't be read now.
    Unreadable(String),
}

/// One checkpoint of a job.
#[derive(Debug)]
pub struct CheckpointEntry {
    /// Its place in the job's history.
    pub name: CheckpointName,
    /// What it is.
    pub state: CheckpointState,
    /// Why an attempt set it aside, if one did.
    pub set_aside: Option<String>,
    /// Whether a user pinned it.
    pub pinned: bool,
}

impl CheckpointEntry {
    /// Its manifest, where it is committed.
    #[must_use]
    pub fn manifest(&self) -> Option<&Manifest> {
        match &self.state {
            CheckpointState::Committed(manifest) => Some(manifest),
            _ => None,
        }
    }

    /// Whether resume may try it: committed or complete, and not set aside. One that can't be read now counts: it must not
    /// be passed over silently.
    #[must_use]
    pub fn is_candidate(&self) -> bool {
        let whole = !matches!(self.state, CheckpointState::Partial { .. });
        whole && self.set_aside.is_none()
    }

    /// Whether retention leaves it alone: a user pinned it, or the application gave it a label.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.pinned || self.manifest().is_some_and(|manifest| manifest.label.is_some())
    }
}

/// All checkpoints of a job.
#[derive(Debug)]
pub struct Catalogue {
    /// Oldest first.
    pub entries: Vec<CheckpointEntry>,
    /// The epoch in which the present lineage starts: the newest that was claimed with `--fresh`, or the first.
    pub lineage: Epoch,
    /// The epochs that were claimed or written below.
    pub epochs: BTreeSet<Epoch>,
}

impl Catalogue {
    /// The entries of the present lineage that may be resumed, newest first.
    pub fn candidates(&self) -> impl Iterator<Item = &CheckpointEntry> {
        self.entries.iter().rev().filter(|entry| entry.name.epoch >= self.lineage && entry.is_candidate())
    }

    /// The checkpoints that refer to `name`, directly or not, oldest first: without it they are lost.
    #[must_use]
    pub fn dependents(&self, name: CheckpointName) -> Vec<CheckpointName> {
        let needs = |entry: &&CheckpointEntry| {
            entry.name.epoch == name.epoch
                && entry.manifest().is_some_and(|manifest| manifest.parents.contains(&name.id))
        };
        self.entries.iter().filter(needs).map(|entry| entry.name).collect()
    }

    /// The id after all that the job's checkpoints have.
    #[must_use]
    pub fn next_id(&self) -> CheckpointId {
        self.entries.iter().map(|entry| entry.name.id).max().map_or(CheckpointId(1), CheckpointId::next)
    }

    /// Whether any checkpoint was ever committed, or could be rolled forward, in any lineage.
    #[must_use]
    pub fn holds_anything(&self) -> bool {
        self.entries.iter().any(|entry| !matches!(entry.state, CheckpointState::Partial { .. }))
    }
}

impl JobFolder {
    /// Looks at all checkpoints of the job.
    ///
    /// # Errors
    /// [`StoreError::Io`] where folders can't be listed.
    pub fn catalogue(&self) -> Result<Catalogue, StoreError> {
        let claims = self.claims()?;
        let lineage = claims.iter().rev().find(|(_, claim)| claim.as_ref().is_ok_and(|claim| claim.fresh));
        let lineage = lineage.map_or(Epoch(0), |(epoch, _)| *epoch);
        let folders = self.epoch_folders()?;
        let mut aside = BTreeMap::new();
        let mut entries = Vec::new();
        for &epoch in &folders {
            for record in self.set_aside_by(epoch)? {
                aside.insert(record.checkpoint, record.reason);
            }
            for id in self.checkpoint_ids(epoch)? {
                let name = CheckpointName { epoch, id };
                entries.push(CheckpointEntry {
                    name,
                    state: self.state_of(name),
                    set_aside: None,
                    pinned: self.is_pinned(name)?,
                });
            }
        }
        for entry in &mut entries {
            entry.set_aside = aside.remove(&entry.name);
        }
        let epochs = claims.iter().map(|(epoch, _)| *epoch).chain(folders).collect();
        Ok(Catalogue { entries, lineage, epochs })
    }

    /// The ids of the checkpoints that attempt `epoch` has folders of, oldest first.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn checkpoint_ids(&self, epoch: Epoch) -> Result<Vec<CheckpointId>, StoreError> {
        let folder = self.epoch_folder(epoch);
        let entries = match self.medium.list(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            result => result.explain("list", &folder)?,
        };
        let folders = entries.iter().filter(|entry| entry.kind == EntryKind::Folder);
        Ok(folders.filter_map(|entry| CheckpointId::from_folder(&entry.name)).collect())
    }

    fn state_of(&self, name: CheckpointName) -> CheckpointState {
        match self.manifest(name) {
            Ok(manifest) => CheckpointState::Committed(Box::new(manifest)),
            Err(error) if error.is_absence() => self.state_without_manifest(name),
            Err(error) if error.is_damage() => CheckpointState::Damaged(error.to_string()),
            Err(error) => CheckpointState::Unreadable(error.to_string()),
        }
    }

    fn state_without_manifest(&self, name: CheckpointName) -> CheckpointState {
        let ranks = match self.shards_present(name) {
            Ok(ranks) => ranks,
            Err(error) => return CheckpointState::Unreadable(error.to_string()),
        };
        let partial = CheckpointState::Partial { shards: ranks.len() };
        let Some(first) = ranks.values().next() else { return partial };
        match ShardReader::open_at(&*self.medium, first) {
            Ok(shard) => {
                let ShardIdentity { world, step, .. } = *shard.identity();
                if ranks.len() == world as usize { CheckpointState::Complete { world, step } } else { partial }
            }
            Err(error) if error.is_damage() => partial,
            Err(error) => CheckpointState::Unreadable(error.to_string()),
        }
    }

    /// The ranks whose shards have their final names, and where they are.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn shards_present(&self, name: CheckpointName) -> Result<BTreeMap<usize, ShardPlace>, StoreError> {
        let folder = self.checkpoint_folder(name);
        let entries = match self.medium.list(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            result => result.explain("list", &folder)?,
        };
        let mut present = BTreeMap::new();
        for entry in &entries {
            let group = RankGroup::from_file(&entry.name);
            let ranks = group.iter().flat_map(RankGroup::ranks).chain(shard_rank(&entry.name));
            present.extend(ranks.map(|rank| (rank, self.place(name, rank, group))));
        }
        Ok(present)
    }

    /// Whether a checkpoint has a manifest, of whatever content.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn has_manifest(&self, name: CheckpointName) -> Result<bool, StoreError> {
        let path = self.checkpoint_folder(name).join(MANIFEST_FILE);
        self.medium.exists(&path).explain("look for", &path)
    }

    /// What a manifest says of the shard of `rank`, which is at `place`, from its header and index.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] where it is damaged, [`StoreError::Io`] where it is missing or can't be read.
    pub fn shard_facts(&self, place: &ShardPlace, rank: usize) -> Result<ShardFacts, StoreError> {
        let path = place.path().to_owned();
        let shard = ShardReader::open_at(&*self.medium, place).map_err(|error| match error.is_damage() {
            true => StoreError::Damaged { path: path.clone(), what: error.to_string() },
            false => StoreError::Io { action: "read", path: path.clone(), source: io::Error::other(error.to_string()) },
        })?;
        let fields = &shard.outline().fields;
        let block = |field: &FieldOutline| Some((field.name.clone(), field.block.clone()?));
        let named = |(field, block)| NamedBlock { field, block };
        let entry = ShardEntry {
            rank: u32::try_from(rank).unwrap_or(u32::MAX),
            file: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            bytes: shard.file_bytes(),
            raw_bytes: fields.iter().map(|field| field.bytes).sum(),
            xxh3_128: format!("{:032x}", shard.digest()),
            blocks: fields.iter().filter_map(block).map(named).collect(),
        };
        let summary = |field: &FieldOutline| FieldSummary {
            name: field.name.clone(),
            class: field.class,
            kind: field.kind.clone(),
            global: field.block.as_ref().map(|block| block.global.clone()),
            bytes: field.bytes,
        };
        Ok(ShardFacts {
            identity: shard.identity().clone(),
            entry,
            fields: fields.iter().map(summary).collect(),
            parents: shard.parents().iter().map(|parent| parent.id).collect(),
        })
    }

    /// The manifest that a checkpoint would have, from its shards' headers and indices: `world` of them, which must all be
    /// there and agree.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] where they don't agree or one is damaged, [`StoreError::Io`] where one is missing or can't be
    /// read.
    pub fn draft_manifest(
        &self,
        name: CheckpointName,
        world: u32,
        about: &ManifestNotes,
    ) -> Result<Manifest, StoreError> {
        let present = self.shards_present(name)?;
        let facts = (0..world as usize).map(|rank| {
            // That one is missing is said by the attempt to open it.
            let place = present.get(&rank).cloned().unwrap_or_else(|| self.place(name, rank, None));
            self.shard_facts(&place, rank)
        });
        self.draft_from(name, about, facts.collect::<Result<_, _>>()?)
    }

    /// As [`Self::draft_manifest`], from what was read of the shards of all ranks, in order.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] where they don't agree.
    pub fn draft_from(
        &self,
        name: CheckpointName,
        about: &ManifestNotes,
        shards: Vec<ShardFacts>,
    ) -> Result<Manifest, StoreError> {
        let world = u32::try_from(shards.len()).unwrap_or(u32::MAX);
        let (tick, step) = shards.first().map_or((0, 0), |first| (first.identity.tick, first.identity.step));
        let mut manifest = Manifest {
            job: self.name.clone(),
            epoch: name.epoch,
            id: name.id,
            tick,
            step,
            world,
            created_unix_ms: unix_milliseconds(),
            library: env!("CARGO_PKG_VERSION").to_owned(),
            program: about.program.clone(),
            reason: about.reason.clone(),
            label: about.label.clone(),
            parents: Vec::new(),
            raw_bytes: 0,
            stored_bytes: 0,
            fields: Vec::new(),
            shards: Vec::new(),
        };
        let mut places: BTreeMap<String, usize> = BTreeMap::new();
        let mut parents: BTreeSet<CheckpointId> = BTreeSet::new();
        for (rank, shard) in shards.into_iter().enumerate() {
            let (job, CheckpointName { epoch, id }) = (self.name.clone(), name);
            let rank = u32::try_from(rank).unwrap_or(u32::MAX);
            let expected = ShardIdentity { job, epoch, id, tick, step, rank, world };
            if shard.identity != expected {
                let what = format!("not the shard expected there: {:?} instead of {expected:?}", shard.identity);
                return Err(StoreError::Damaged { path: self.shard_path(name, rank as usize), what });
            }
            parents.extend(shard.parents);
            for field in shard.fields {
                match places.get(&field.name) {
                    Some(&place) => manifest.fields[place].bytes += field.bytes,
                    None => {
                        places.insert(field.name.clone(), manifest.fields.len());
                        manifest.fields.push(field);
                    }
                }
            }
            manifest.raw_bytes += shard.entry.raw_bytes;
            manifest.stored_bytes += shard.entry.bytes;
            manifest.shards.push(shard.entry);
        }
        manifest.parents = parents.into_iter().collect();
        Ok(manifest)
    }
}

/// What a manifest says of one shard.
#[derive(Debug, Clone)]
pub struct ShardFacts {
    identity: ShardIdentity,
    entry: ShardEntry,
    fields: Vec<FieldSummary>,
    parents: Vec<CheckpointId>,
}

/// What a manifest says that its shards don't know.
#[derive(Debug, Clone, Default)]
pub struct ManifestNotes {
    /// A fingerprint of the program.
    pub program: String,
    /// Why the checkpoint was taken.
    pub reason: String,
    /// The name that the application gave it.
    pub label: Option<String>,
}
