//! How fast and how small shards are: encoding, decoding, and writing against a plain write of the same bytes.
//!
//! `cargo bench --bench codec -- [--mib N] [--chunk-kib A,B,…] [--effort A,B,…] [--dir DIR] [--repeat N] [--only KIND]
//! [--file FILE]`
//!
//! Encoding and decoding are given for each second of processor time of one thread, so that other work on the machine
//! does not show; both go through the whole writer and reader, with files in memory. With `--dir`, shards are
//! written there, in wall-clock time, in turn with controls of the same run: the same stored bytes written and synced
//! plainly (through the page cache, and past it), and encoding alone. `--effort` names what is spent on compression:
//! `fastest`, `auto`, `thorough`, `smallest`, `raw`, or a level of zstd. `--file` adds a file of f64.

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use piton::ids::{CheckpointId, Epoch};
use piton::medium::{Medium, RealMedium};
use piton::shard::{Compression, EncodeOptions, Grain, Piece, ShardIdentity, ShardReader, ShardSummary, ShardWriter};
use piton::state::{FieldClass, FieldOutline, Outline};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Instant;

mod medium;

use medium::{Kept, Nowhere};

type Outcome<T> = Result<T, Box<dyn Error>>;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Between 0 and 1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// A wave field of 1024 columns.
fn wave(index: usize) -> f64 {
    let (x, y) = ((index % 1024) as f64, (index / 1024) as f64);
    10.0 + (x * 0.013).sin() * (y * 0.007).cos() + 0.3 * (x * 0.031 + y * 0.017).sin()
}

fn data(kind: &str, bytes: usize) -> (Vec<u8>, Grain) {
    let eight = Grain { stride: 8, lane: 8 };
    let mut random = Random(88_172_645_463_325_252);
    let lanes = 0..bytes / 8;
    match kind {
        "smooth f64" => (lanes.flat_map(|i| wave(i).to_le_bytes()).collect(), eight),
        // As a sensor or a single-precision model gives: 24 bits that mean something.
        "rounded f64" => (lanes.flat_map(|i| f64::from(wave(i) as f32).to_le_bytes()).collect(), eight),
        "noisy f64" => (lanes.flat_map(|i| (wave(i) + 0.01 * random.unit()).to_le_bytes()).collect(), eight),
        "random f64" => (lanes.flat_map(|_| random.unit().to_le_bytes()).collect(), eight),
        "smooth [f64; 2]" => {
            let pair = |i: usize| [wave(i), wave(i + 77) - 10.0];
            ((0..bytes / 16).flat_map(pair).flat_map(f64::to_le_bytes).collect(), Grain { stride: 16, lane: 8 })
        }
        "smooth f32" => {
            ((0..bytes / 4).flat_map(|i| (wave(i) as f32).to_le_bytes()).collect(), Grain { stride: 4, lane: 4 })
        }
        "integers i64" => (lanes.flat_map(|i| (i as u64 * 3 + random.next() % 100).to_le_bytes()).collect(), eight),
        "random bytes" => (lanes.flat_map(|_| random.next().to_le_bytes()).collect(), Grain::BYTES),
        _ => (vec![0; bytes], eight),
    }
}

const KINDS: [&str; 9] = [
    "smooth f64",
    "noisy f64",
    "rounded f64",
    "random f64",
    "smooth [f64; 2]",
    "smooth f32",
    "integers i64",
    "random bytes",
    "zeros",
];

fn processor_seconds() -> Outcome<f64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    Ok((usage.user_time().num_microseconds() + usage.system_time().num_microseconds()) as f64 * 1e-6)
}

fn write(
    medium: &dyn Medium,
    path: &Path,
    pool: &rayon::ThreadPool,
    bytes: &[u8],
    grain: Grain,
    options: &EncodeOptions,
) -> Outcome<ShardSummary> {
    let identity = ShardIdentity {
        job: "bench".into(),
        epoch: Epoch(1),
        id: CheckpointId(1),
        tick: 1,
        step: 1,
        rank: 0,
        world: 1,
    };
    let outline = Outline {
        fields: vec![FieldOutline {
            name: "field".into(),
            class: FieldClass::Array,
            kind: "f64".into(),
            element_bytes: grain.stride as u64,
            shape: vec![(bytes.len() / grain.stride) as u64],
            resizable: false,
            bytes: bytes.len() as u64,
            block: None,
        }],
    };
    let mut writer = ShardWriter::create(medium, path, &identity, &outline, &[grain], options)?;
    writer.write(pool, &[Piece { field: 0, offset: 0, bytes, changed: None }])?;
    Ok(writer.finish()?)
}

fn codec(pool: &rayon::ThreadPool, arguments: &Arguments) -> Outcome<()> {
    let Arguments { mib, chunks_kib, efforts, repeat, only, file, .. } = arguments;
    println!(
        "{:16} {:>10} {:>9} {:>7} {:>12} {:>12}  chunks raw/constant/planes",
        "data", "effort", "chunk KiB", "ratio", "encode GB/s", "decode GB/s"
    );
    let mut all: Vec<(&str, Vec<u8>, Grain)> = Vec::new();
    for kind in KINDS.into_iter().filter(|kind| only.as_deref().is_none_or(|only| only == *kind)) {
        let (bytes, grain) = data(kind, mib << 20);
        all.push((kind, bytes, grain));
    }
    if let Some(file) = file {
        all.push(("file", std::fs::read(file)?, Grain { stride: 8, lane: 8 }));
    }
    for (kind, bytes, grain) in all {
        for (&chunk_kib, &compression) in
            chunks_kib.iter().flat_map(|kib| efforts.iter().map(move |effort| (kib, effort)))
        {
            let options = EncodeOptions { chunk_bytes: chunk_kib << 10, compression, ..EncodeOptions::default() };
            let effort = format!("{compression:?}");
            let (mut encode, mut decode) = (f64::INFINITY, f64::INFINITY);
            let kept = Kept::default();
            let path = Path::new("shard");
            let summary = write(&kept, path, pool, &bytes, grain, &options)?;
            let reader = ShardReader::open(&kept.into_read()?, path)?;
            let mut back = vec![1; bytes.len()];
            for _ in 0..*repeat {
                let start = processor_seconds()?;
                write(&Nowhere, path, pool, &bytes, grain, &options)?;
                encode = encode.min(processor_seconds()? - start);
                let start = processor_seconds()?;
                reader.read(pool, &mut [(0, &mut back)])?;
                decode = decode.min(processor_seconds()? - start);
            }
            if back != bytes {
                return Err(format!("{kind}: it does not come back as it was").into());
            }
            let size = bytes.len() as f64;
            println!(
                "{kind:16} {effort:>10} {chunk_kib:9} {:7.3} {:12.2} {:12.2}  {}/{}/{}",
                size / summary.stored_bytes.max(1) as f64,
                size / encode / 1e9,
                size / decode / 1e9,
                summary.codecs.raw,
                summary.codecs.constant,
                summary.codecs.planes
            );
        }
    }
    Ok(())
}

/// Writes and syncs `bytes`, in parts that are aligned for the page cache to be bypassed, or not.
fn plain(path: &Path, bytes: &[u8], direct: bool) -> Outcome<f64> {
    const PART: usize = 4 << 20;
    let mut memory = vec![0; PART + 4096 + 1];
    let start = memory.as_ptr().align_offset(4096) + usize::from(!direct);
    memory[start..start + PART].copy_from_slice(&bytes[..PART]);
    let mut file = RealMedium::default().create(path)?;
    let clock = Instant::now();
    for number in 0..bytes.len() / PART {
        file.write_at((number * PART) as u64, &memory[start..start + PART])?;
    }
    file.sync()?;
    let seconds = clock.elapsed().as_secs_f64();
    std::fs::remove_file(path)?;
    Ok(seconds)
}

fn median(list: &mut [f64]) -> f64 {
    list.sort_by(f64::total_cmp);
    list[list.len() / 2]
}

fn disk(pool: &rayon::ThreadPool, mib: usize, folder: &Path, repeat: usize) -> Outcome<()> {
    println!(
        "\n{:16} {:>10} {:>10} {:>10} {:>10} {:>10}",
        "seconds for", "shard", "buffered", "direct", "encode", "overhead"
    );
    for kind in ["smooth f64", "rounded f64", "random f64"] {
        let (bytes, grain) = data(kind, mib << 20);
        let path = folder.join(format!("bench-{}.tmp", std::process::id()));
        let (mut shard, mut buffered, mut direct, mut encode) = (vec![], vec![], vec![], vec![]);
        let options = EncodeOptions { compression: Compression::Auto, ..EncodeOptions::default() };
        for _ in 0..repeat {
            let start = Instant::now();
            let summary = write(&RealMedium::default(), &path, pool, &bytes, grain, &options)?;
            shard.push(start.elapsed().as_secs_f64());
            std::fs::remove_file(&path)?;
            let stored = &bytes[..summary.bytes.min(bytes.len() as u64) as usize];
            buffered.push(plain(&path, stored, false)?);
            direct.push(plain(&path, stored, true)?);
            let start = Instant::now();
            write(&Nowhere, &path, pool, &bytes, grain, &options)?;
            encode.push(start.elapsed().as_secs_f64());
        }
        let [shard, buffered, direct, encode] =
            [&mut shard, &mut buffered, &mut direct, &mut encode].map(|list| median(list));
        let overhead = shard / buffered.min(direct).max(encode);
        println!("{kind:16} {shard:10.3} {buffered:10.3} {direct:10.3} {encode:10.3} {overhead:10.2}");
    }
    Ok(())
}

fn effort(name: &str) -> Result<Compression, std::num::ParseIntError> {
    Ok(match name {
        "fastest" => Compression::Fastest,
        "auto" => Compression::Auto,
        "thorough" => Compression::Thorough,
        "smallest" => Compression::Smallest,
        "raw" => Compression::Raw,
        level => Compression::Zstd(level.parse()?),
    })
}

struct Arguments {
    mib: usize,
    chunks_kib: Vec<usize>,
    efforts: Vec<Compression>,
    repeat: usize,
    folder: Option<PathBuf>,
    only: Option<String>,
    file: Option<PathBuf>,
}

fn main() -> Outcome<()> {
    let mut own = Arguments {
        mib: 64,
        chunks_kib: vec![512],
        efforts: vec![Compression::Auto],
        repeat: 5,
        folder: None,
        only: None,
        file: None,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--mib" => own.mib = value()?.parse()?,
            "--repeat" => own.repeat = value()?.parse()?,
            "--chunk-kib" => {
                own.chunks_kib = value()?.split(',').map(str::parse).collect::<Result<_, _>>()?;
            }
            "--effort" => own.efforts = value()?.split(',').map(effort).collect::<Result<_, _>>()?,
            "--dir" => own.folder = Some(value()?.into()),
            "--only" => own.only = Some(value()?),
            "--file" => own.file = Some(value()?.into()),
            // What cargo adds.
            "--bench" => {}
            _ => return Err(format!("unknown argument {argument}").into()),
        }
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    codec(&pool, &own)?;
    if let Some(folder) = &own.folder {
        disk(&pool, own.mib, folder, own.repeat)?;
    }
    Ok(())
}
