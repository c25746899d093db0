//! Writing a checkpoint that builds on others once more, complete in itself.
//!
//! Comes in: a committed checkpoint, read through its chain. Goes out: the same state as the first checkpoint of an epoch of
//! its own, committed as every other. What must hold: every byte that is written was verified as it was read; nothing of
//! what is there is changed or removed; memory is bounded whatever the size of the state.

use super::{JobFolder, Manifest, ManifestNotes, StoreError, Suspect, temporary};
use crate::ids::CheckpointName;
use crate::shard::{
    Codec, EncodeOptions, Grain, Piece, ShardError, ShardIdentity, ShardPlace, ShardReader, ShardWriter,
};
use rayon::ThreadPool;
use std::io;
use std::path::Path;

/// About so many bytes of a field are held at a time.
const WINDOW_BYTES: usize = 32 << 20;

impl JobFolder {
    /// Writes the checkpoint of `manifest` once more, complete, as checkpoint `to` of the attempt whose claim it is, and
    /// commits it. `progress` is told the raw bytes that were written, as they are.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] where the checkpoint is not what was written; [`StoreError::Io`] where it can't be read or
    /// the new one can't be written. Then nothing is committed.
    pub fn compact(
        &self,
        manifest: &Manifest,
        to: CheckpointName,
        pool: &ThreadPool,
        progress: &dyn Fn(u64),
    ) -> Result<Manifest, StoreError> {
        self.make_checkpoint_folder(to)?;
        for (rank, entry) in manifest.shards.iter().enumerate() {
            let (from, path) = (self.place_of(manifest.name(), entry), self.shard_path(to, rank));
            self.rewrite(&from, &temporary(&path), to, pool, progress).map_err(|error| match error {
                ShardError::Damaged { path, what } => StoreError::Damaged { path, what },
                error => {
                    let path = error.path().to_owned();
                    StoreError::Io { action: "write once more, by way of", path, source: io::Error::other(error) }
                }
            })?;
            self.publish(&temporary(&path), &path)?;
        }
        let notes = ManifestNotes {
            program: manifest.program.clone(),
            reason: format!("compacted from checkpoint {}", manifest.name()),
            label: manifest.label.clone(),
        };
        if let Some(suspect) = self.suspect(manifest.name()) {
            self.mark_suspect(&Suspect { checkpoint: to, ..suspect })?;
        }
        let compacted = self.draft_manifest(to, manifest.world, &notes)?;
        self.commit(&compacted)?;
        Ok(compacted)
    }

    /// Writes the shard `from` to the new file `path`, complete in itself.
    fn rewrite(
        &self,
        from: &ShardPlace,
        path: &Path,
        to: CheckpointName,
        pool: &ThreadPool,
        progress: &dyn Fn(u64),
    ) -> Result<(), ShardError> {
        let medium = &**self.medium();
        let shard = ShardReader::open_at(medium, from)?;
        let identity = ShardIdentity { epoch: to.epoch, id: to.id, ..shard.identity().clone() };
        let options = EncodeOptions { chunk_bytes: shard.chunk_bytes(), ..EncodeOptions::default() };
        let fields = &shard.outline().fields;
        let grains: Vec<Grain> = (0..fields.len()).map(|field| grain_of(&shard, field)).collect();
        let mut writer = ShardWriter::create(medium, path, &identity, shard.outline(), &grains, &options)?;
        let window = WINDOW_BYTES / options.chunk_bytes * options.chunk_bytes;
        let mut bytes = Vec::new();
        for (number, field) in fields.iter().enumerate() {
            let mut offset = 0;
            while offset < field.bytes {
                // At most a window.
                let len = (field.bytes - offset).min(window as u64) as usize;
                bytes.resize(len, 0);
                shard.read_part(pool, number, offset, &mut bytes)?;
                writer.write(pool, &[Piece { field: number, offset, bytes: &bytes, changed: None }])?;
                offset += len as u64;
                progress(len as u64);
            }
        }
        writer.finish().map(drop)
    }
}

/// What the elements of a field look like, by the filters that were chosen for it.
fn grain_of(shard: &ShardReader, field: usize) -> Grain {
    let planes = shard.chunks().filter(|chunk| chunk.field as usize == field).find_map(|chunk| match chunk.codec {
        Codec::Planes { lane, stride } => {
            Some(Grain { stride: stride.max(u32::from(lane)) as usize, lane: lane.into() })
        }
        _ => None,
    });
    planes.unwrap_or(Grain::BYTES)
}
