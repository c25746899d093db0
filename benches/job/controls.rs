//! What the machine does at best: the same work without Piton, or one part of Piton's alone.

use super::Outcome;
use super::arguments::Arguments;
use super::common::World;
use super::grown::Grown;
use super::medium::{InMemory, Nowhere};
use memmap2::{MmapMut, MmapOptions};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use piton::ids::{CheckpointId, Epoch};
use piton::shard::{Compression, EncodeOptions, Grain, Piece, ShardIdentity, ShardReader, ShardWriter};
use piton::state::{FieldClass, FieldOutline, Outline};
use rayon::prelude::*;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How much is copied, written or read by one call.
const PIECE: usize = 4 << 20;
const PAGE: usize = 4096;

/// How the controls write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writing {
    Buffered,
    Direct,
}

/// What the controls write and read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// The state.
    Raw,
    /// The shard that was taken.
    Stored,
}

/// One rank's memory and threads for the controls.
pub struct Controls {
    pool: rayon::ThreadPool,
    /// Where the state is copied to: mapped and touched like the arena of a checkpointer.
    copy: MmapMut,
    copied: usize,
    /// A whole shard, complete in itself.
    shard: Arc<MmapMut>,
    shard_len: usize,
    /// Where fields are decoded to.
    decoded: Vec<Vec<u8>>,
    /// The file that is written and read.
    raw: PathBuf,
    compression: Compression,
    /// By field, where the checkpoint chose; otherwise as `compression` says.
    efforts: Vec<Compression>,
    /// No more than this is written in a second.
    bytes_per_second: Option<u64>,
}

/// Memory of huge pages where the system has them, all of it touched.
fn map(bytes: usize) -> io::Result<MmapMut> {
    let mut map = MmapOptions::new().len(bytes.max(1).next_multiple_of(PAGE)).map_anon()?;
    // Only a wish.
    let _ = map.advise(memmap2::Advice::HugePage);
    map.iter_mut().step_by(PAGE).for_each(|byte| *byte = 1);
    Ok(map)
}

impl Controls {
    /// With as many threads as a checkpointer, compressing and held back as one.
    pub fn new(state: &Grown, threads: usize, raw: PathBuf, arguments: &Arguments) -> Outcome<Self> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
        let copied = usize::try_from(state.bytes())?;
        Ok(Self {
            pool,
            copy: map(copied)?,
            copied,
            shard: Arc::new(map(0)?),
            shard_len: 0,
            decoded: state.fields().map(|(_, field)| vec![1; size_of_val(field)]).collect(),
            raw,
            compression: arguments.compression(),
            efforts: Vec::new(),
            bytes_per_second: arguments.bytes_per_second(),
        })
    }

    /// Copies the state with the threads that a checkpointer has.
    pub fn copy(&mut self, state: &Grown) -> Outcome<()> {
        let mut rest = &mut self.copy[..];
        let mut pieces = Vec::new();
        for (_, field) in state.fields() {
            let bytes: &[u8] = bytemuck::cast_slice(field);
            let (own, others) = rest.split_at_mut(bytes.len());
            rest = others;
            pieces.extend(own.chunks_mut(PIECE).zip(bytes.chunks(PIECE)));
        }
        if self.pool.current_num_threads() > 1 {
            self.pool.install(|| pieces.into_par_iter().for_each(|(to, from)| to.copy_from_slice(from)));
        } else {
            pieces.into_iter().for_each(|(to, from)| to.copy_from_slice(from));
        }
        Ok(())
    }

    /// Takes over a shard of a checkpoint that is complete in itself.
    pub fn take_shard(&mut self, path: &Path) -> Outcome<()> {
        let file = File::open(path)?;
        self.shard_len = usize::try_from(file.metadata()?.len())?;
        // Nobody else has it while nothing is decoded.
        let map = match Arc::get_mut(&mut self.shard) {
            Some(kept) if kept.len() >= self.shard_len => kept,
            _ => {
                self.shard = Arc::new(map(self.shard_len)?);
                Arc::get_mut(&mut self.shard).ok_or("the shard is in use")?
            }
        };
        Ok(file.read_exact_at(&mut map[..self.shard_len], 0)?)
    }

    /// Writes and syncs the state or the shard to a new file, no faster than allowed.
    pub fn write(&self, how: Writing, what: What) -> Outcome<()> {
        let (from, bytes) = match what {
            What::Raw => (&self.copy[..], self.copied),
            What::Stored => (&self.shard[..], self.shard_len),
        };
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        if how == Writing::Direct {
            options.custom_flags(nix::libc::O_DIRECT);
        }
        let (file, start) = (options.open(&self.raw)?, Instant::now());
        // Whole pages, past whose end the map reaches; what is too much is less than one.
        for (number, piece) in from[..bytes.next_multiple_of(PAGE)].chunks(PIECE).enumerate() {
            file.write_all_at(piece, (number * PIECE) as u64)?;
            self.pace(start, number * PIECE + piece.len());
        }
        Ok(file.sync_all()?)
    }

    /// Waits until so many bytes may have been written since `start`.
    fn pace(&self, start: Instant, written: usize) {
        if let Some(limit) = self.bytes_per_second {
            let least = Duration::from_secs_f64(written as f64 / limit as f64);
            std::thread::sleep(least.saturating_sub(start.elapsed()));
        }
    }

    /// Reads what was written.
    pub fn read(&mut self, what: What) -> Outcome<()> {
        let file = File::open(&self.raw)?;
        let to = match what {
            What::Raw => &mut self.copy[..self.copied],
            // Nobody else has it while nothing is decoded.
            What::Stored => &mut Arc::get_mut(&mut self.shard).ok_or("the shard is in use")?[..self.shard_len],
        };
        for (number, piece) in to.chunks_mut(PIECE).enumerate() {
            file.read_exact_at(piece, (number * PIECE) as u64)?;
        }
        Ok(())
    }

    pub fn forget_raw(&self, world: &World) -> Outcome<()> {
        forget(std::slice::from_ref(&self.raw), world)
    }

    pub fn remove_raw(&self) -> Outcome<()> {
        Ok(std::fs::remove_file(&self.raw)?)
    }

    /// Encoding will try as hard as this on each field.
    pub fn encode_as(&mut self, efforts: Vec<Compression>) {
        self.efforts = efforts;
    }

    /// Encodes the state as a checkpoint that is complete in itself would be, and throws the result away.
    pub fn encode(&self, state: &Grown) -> Outcome<()> {
        let outline = Outline { fields: state.fields().map(|(name, field)| outline_of(name, field)).collect() };
        let grains = vec![Grain { stride: 8, lane: 8 }; outline.fields.len()];
        let identity = ShardIdentity {
            job: "encode".into(),
            epoch: Epoch(1),
            id: CheckpointId(1),
            tick: 1,
            step: 1,
            rank: 0,
            world: 1,
        };
        let by_field = self.efforts.clone();
        let options = EncodeOptions { compression: self.compression, by_field, ..EncodeOptions::default() };
        let mut writer = ShardWriter::create(&Nowhere, Path::new("shard"), &identity, &outline, &grains, &options)?;
        let pieces: Vec<Piece<'_>> = state
            .fields()
            .enumerate()
            .map(|(field, (_, values))| Piece { field, offset: 0, bytes: bytemuck::cast_slice(values), changed: None })
            .collect();
        writer.write(&self.pool, &pieces)?;
        writer.finish()?;
        Ok(())
    }

    /// Decodes the shard from memory.
    pub fn decode(&mut self, state: &Grown) -> Outcome<()> {
        let medium = InMemory { bytes: Arc::clone(&self.shard), len: self.shard_len };
        let reader = ShardReader::open(&medium, Path::new("shard"))?;
        if reader.outline().fields.len() < state.fields().len() {
            return Err("the shard has too few fields".into());
        }
        let mut targets: Vec<(usize, &mut [u8])> = self.decoded.iter_mut().map(Vec::as_mut_slice).enumerate().collect();
        Ok(reader.read(&self.pool, &mut targets)?)
    }
}

fn outline_of(name: &str, field: &[f64]) -> FieldOutline {
    FieldOutline {
        name: name.into(),
        class: FieldClass::Array,
        kind: "f64".into(),
        element_bytes: 8,
        shape: vec![field.len() as u64],
        resizable: true,
        bytes: size_of_val(field) as u64,
        block: None,
    }
}

/// Takes files out of the page cache; and all others, where the system lets us. Collective.
pub fn forget(paths: &[PathBuf], world: &World) -> Outcome<()> {
    for path in paths {
        let file = File::open(path)?;
        file.sync_all()?;
        posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
    }
    world.max(&mut [0.0]);
    if world.rank() == 0 {
        // Only root may.
        let _ = std::fs::write("/proc/sys/vm/drop_caches", "3");
    }
    world.max(&mut [0.0]);
    Ok(())
}

/// Leaves files in the page cache.
pub fn recall(paths: &[PathBuf]) -> Outcome<()> {
    for path in paths {
        io::copy(&mut File::open(path)?, &mut io::sink())?;
    }
    Ok(())
}
