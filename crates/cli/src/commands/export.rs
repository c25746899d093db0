//! `piton export`: an array of a checkpoint as a NumPy file.

use crate::exit::Outcome;
use crate::output::{Output, human, progress};
use crate::{Common, jobs, npy};
use anyhow::{Context, bail};
use piton::reader::{Checkpoint, Selection};
use serde::Serialize;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Write an array of a checkpoint to a NumPy file
///
/// Where the application gave a global shape, the array is assembled over all ranks, halos left out. Otherwise, and with
/// --rank, it is that of one rank as it was in its memory, halos included.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  piton export tsunami latest --region depth\n  \
                  piton export 14 --region flow --rank 3 --output flow-3.npy\n  \
                  python3 -c 'import numpy; print(numpy.load(\"tsunami-14-depth.npy\").shape)'")]
pub struct Export {
    /// The job, which may be left out where the store holds one, and the checkpoint: ID, EPOCH/ID or latest
    #[arg(value_names = ["JOB", "ID"], num_args = 1..=2, required = true)]
    words: Vec<String>,
    /// The array, by the name that `piton show` lists
    #[arg(long, value_name = "NAME")]
    region: String,
    /// Only this rank's own array, halos included
    #[arg(long, value_name = "R")]
    rank: Option<u32>,
    /// The file to write; by default JOB-ID-REGION.npy in the current folder
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Overwrite the file
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Serialize)]
struct Exported {
    job: String,
    epoch: u64,
    id: u64,
    region: String,
    rank: Option<u32>,
    file: PathBuf,
    /// Of the array that NumPy sees.
    shape: Vec<u64>,
    r#type: String,
    bytes: u64,
}

impl Export {
    /// Writes the file.
    ///
    /// # Errors
    /// What is wrong with the configuration, the store or the file.
    pub fn run(&self, common: &Common, output: &mut Output) -> anyhow::Result<Outcome> {
        let (job, word) = jobs::split_one(&self.words);
        let Some(word) = word else { bail!("name the checkpoint as well: ID, EPOCH/ID or latest") };
        let selection: Selection = jobs::selection(word)?;
        let (reader, _) = jobs::open(common, job)?;
        let checkpoint = reader.checkpoint(reader.find(selection)?)?;
        let kind = checkpoint.kind(&self.region)?;
        let rank = self.rank_for(&checkpoint)?;
        let path = self.output.clone().unwrap_or_else(|| default_path(&checkpoint, &self.region, rank));
        if !self.force && fs::symlink_metadata(&path).is_ok() {
            bail!("{} is there already: use --force to overwrite it, or --output", path.display());
        }
        let mut file = NewFile::create(&path)?;
        let (shape, bytes) = match rank {
            None => {
                let array = checkpoint.global(&self.region)?;
                let bar = progress::of_bytes(array.bytes());
                file.write(&npy::head(array.kind(), array.shape()))?;
                array.stream(&mut |part| {
                    bar.inc(part.len() as u64);
                    file.file.write_all(part)
                })?;
                bar.finish_and_clear();
                (array.shape().to_vec(), array.bytes())
            }
            Some(rank) => {
                let Some((_, outline)) = checkpoint.rank_field(rank, &self.region)? else {
                    bail!("rank {rank} has no region {:?}", self.region);
                };
                let elements = outline.shape.iter().try_fold(1u64, |product, length| product.checked_mul(*length));
                if elements.and_then(|elements| elements.checked_mul(kind.bytes())) != Some(outline.bytes) {
                    bail!("region {:?} of rank {rank} does not have the size of its shape", self.region);
                }
                let bar = progress::of_bytes(outline.bytes);
                file.write(&npy::head(&kind, &outline.shape))?;
                checkpoint.stream_local(rank, &self.region, &mut |part| {
                    bar.inc(part.len() as u64);
                    file.file.write_all(part)
                })?;
                bar.finish_and_clear();
                (outline.shape, outline.bytes)
            }
        };
        file.finish(self.force)?;
        let name = checkpoint.name();
        let shape = shape.into_iter().chain(kind.numpy().1).collect();
        let exported = Exported {
            job: checkpoint.manifest().job.clone(),
            epoch: name.epoch.0,
            id: name.id.0,
            region: self.region.clone(),
            rank,
            file: path,
            shape,
            r#type: kind.to_string(),
            bytes,
        };
        if output.is_json() {
            output.json(&exported)?;
        } else {
            let shape: Vec<String> = exported.shape.iter().map(u64::to_string).collect();
            let of = rank.map_or_else(String::new, |rank| format!(" of rank {rank}"));
            output.line(format!(
                "{} {}/{}: {}{of}, {} of {}, to {} ({})",
                exported.job,
                name.epoch,
                name.id,
                self.region,
                shape.join(" × "),
                exported.r#type,
                exported.file.display(),
                human::size(bytes)
            ))?;
        }
        Ok(Outcome::Done)
    }

    /// The rank whose array it is; `None`: that of all ranks.
    fn rank_for(&self, checkpoint: &Checkpoint) -> anyhow::Result<Option<u32>> {
        let world = checkpoint.manifest().world;
        match (self.rank, &checkpoint.field(&self.region)?.global) {
            (Some(rank), _) => Ok(Some(rank)),
            (None, Some(_)) => Ok(None),
            (None, None) if world == 1 => Ok(Some(0)),
            (None, None) => bail!(
                "region {:?} has no global shape: choose one of the {world} ranks with --rank, or give the array a \
                 place with block_of in the program",
                self.region
            ),
        }
    }
}

fn default_path(checkpoint: &Checkpoint, region: &str, rank: Option<u32>) -> PathBuf {
    let plain = |c: char| if c.is_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '_' };
    let region: String = region.chars().map(plain).collect();
    let rank = match rank {
        Some(rank) if checkpoint.manifest().world > 1 => format!("-rank-{rank}"),
        _ => String::new(),
    };
    PathBuf::from(format!("{}-{}-{region}{rank}.npy", checkpoint.manifest().job, checkpoint.name().id))
}

/// A file that has its name only when it is whole, and vanishes otherwise.
struct NewFile {
    path: PathBuf,
    temporary: PathBuf,
    file: File,
    done: bool,
}

impl NewFile {
    fn create(path: &Path) -> anyhow::Result<Self> {
        let Some(name) = path.file_name() else { bail!("{} is no name for a file", path.display()) };
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}.tmp", std::process::id()));
        let temporary = path.with_file_name(hidden);
        let file = OpenOptions::new().write(true).create_new(true).open(&temporary);
        let file = file.with_context(|| format!("cannot write {}", temporary.display()))?;
        Ok(Self { path: path.to_owned(), temporary, file, done: false })
    }

    fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.file.write_all(bytes).with_context(|| format!("cannot write {}", self.temporary.display()))
    }

    fn finish(mut self, replace: bool) -> anyhow::Result<()> {
        let named = self.file.sync_all().and_then(|()| self.name(replace));
        named.with_context(|| format!("cannot write {}", self.path.display()))
    }

    fn name(&mut self, replace: bool) -> io::Result<()> {
        if !replace {
            // A second name is given only where there is none yet; renaming would replace what came meanwhile.
            match fs::hard_link(&self.temporary, &self.path) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(error),
                // A file system without hard links.
                Err(_) => {}
            }
        }
        fs::rename(&self.temporary, &self.path)?;
        self.done = true;
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.done {
            // There is nothing left to say it to.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}
