//! Whole shards: there and back, and everything that can be done to a file in between.

use super::*;
use crate::medium::{Entry, Medium, MediumRead, MediumWrite, RealMedium, Stat};
use crate::state::{FieldClass, FieldOutline, Outline};
use proptest::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::collections::HashMap;
use std::io;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant, UNIX_EPOCH};

mod chain;

type Content = Arc<Mutex<Vec<u8>>>;

/// Files in memory, of which writes can be made to fail.
#[derive(Debug, Default)]
struct Memory {
    files: Mutex<HashMap<PathBuf, Content>>,
    /// Writes past this many bytes find no room.
    room: Option<u64>,
    sync_fails: bool,
}

#[derive(Debug)]
struct MemoryFile {
    bytes: Content,
    room: Option<u64>,
    sync_fails: bool,
}

impl Memory {
    fn holding(path: &Path, bytes: Vec<u8>) -> Self {
        let medium = Self::default();
        medium.files.lock().unwrap().insert(path.to_owned(), Arc::new(Mutex::new(bytes)));
        medium
    }

    fn bytes(&self, path: &Path) -> Vec<u8> {
        self.files.lock().unwrap()[path].lock().unwrap().clone()
    }
}

impl MediumWrite for MemoryFile {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let end = offset + bytes.len() as u64;
        if self.room.is_some_and(|room| end > room) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let mut file = self.bytes.lock().unwrap();
        if file.len() < end as usize {
            file.resize(end as usize, 0);
        }
        file[offset as usize..end as usize].copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.bytes.lock().unwrap().resize(len as usize, 0);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.sync_fails { Err(io::Error::from_raw_os_error(5)) } else { Ok(()) }
    }
}

impl MediumRead for MemoryFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let file = self.bytes.lock().unwrap();
        let part = file.get(offset as usize..).and_then(|rest| rest.get(..buffer.len()));
        buffer.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes.lock().unwrap().len() as u64)
    }
}

fn none<T>() -> io::Result<T> {
    Err(io::ErrorKind::Unsupported.into())
}

impl Medium for Memory {
    fn create(&self, path: &Path) -> io::Result<Box<dyn MediumWrite>> {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        if self.files.lock().unwrap().insert(path.to_owned(), Arc::clone(&bytes)).is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        Ok(Box::new(MemoryFile { bytes, room: self.room, sync_fails: self.sync_fails }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn MediumRead>> {
        let bytes = Arc::clone(self.files.lock().unwrap().get(path).ok_or(io::ErrorKind::NotFound)?);
        Ok(Box::new(MemoryFile { bytes, room: None, sync_fails: false }))
    }

    fn create_dir(&self, _: &Path) -> io::Result<bool> {
        none()
    }
    fn append(&self, _: &Path) -> io::Result<(Box<dyn MediumWrite>, u64)> {
        none()
    }
    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        none()
    }
    fn link(&self, _: &Path, _: &Path) -> io::Result<()> {
        none()
    }
    fn remove_file(&self, _: &Path) -> io::Result<()> {
        none()
    }
    fn remove_dir(&self, _: &Path) -> io::Result<()> {
        none()
    }
    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        none()
    }
    fn list(&self, _: &Path) -> io::Result<Vec<Entry>> {
        none()
    }
    fn stat(&self, _: &Path) -> io::Result<Stat> {
        none()
    }
    fn room(&self, _: &Path) -> io::Result<Option<u64>> {
        none()
    }
}

static POOL: LazyLock<ThreadPool> = LazyLock::new(|| ThreadPoolBuilder::new().num_threads(2).build().unwrap());

fn file() -> &'static Path {
    Path::new("rank-00003.shard")
}

fn identity() -> ShardIdentity {
    ShardIdentity {
        job: "tsunami".into(),
        epoch: Epoch(2),
        id: CheckpointId(17),
        tick: 400,
        step: 4000,
        rank: 3,
        world: 4,
    }
}

/// A name, a class, bytes, and a grain for each field.
type Fields = Vec<(&'static str, FieldClass, Vec<u8>, Grain)>;

fn outline_of(fields: &Fields) -> Outline {
    let outline = |(name, class, bytes, grain): &(&str, FieldClass, Vec<u8>, Grain)| FieldOutline {
        name: (*name).into(),
        class: *class,
        kind: "f64".into(),
        element_bytes: grain.stride as u64,
        shape: vec![(bytes.len() / grain.stride) as u64],
        resizable: false,
        bytes: bytes.len() as u64,
        block: None,
    };
    Outline { fields: fields.iter().map(outline).collect() }
}

fn options(chunk_bytes: usize, compression: Compression) -> EncodeOptions {
    EncodeOptions {
        compression,
        chunk_bytes,
        created: Some(UNIX_EPOCH + Duration::from_secs(1_750_000_000)),
        ..EncodeOptions::default()
    }
}

fn write(medium: &dyn Medium, fields: &Fields, options: &EncodeOptions) -> Result<ShardSummary, ShardError> {
    write_at(medium, &ShardPlace::own(file()), fields, options)
}

fn write_at(
    medium: &dyn Medium,
    place: &ShardPlace,
    fields: &Fields,
    options: &EncodeOptions,
) -> Result<ShardSummary, ShardError> {
    let grains: Vec<Grain> = fields.iter().map(|field| field.3).collect();
    let (outline, none) = (outline_of(fields), Lineage::default());
    let mut writer = ShardWriter::create_in(medium, place, &identity(), &outline, &grains, options, none)?;
    let pieces = fields.iter().enumerate();
    let pieces: Vec<_> =
        pieces.map(|(field, (_, _, bytes, _))| Piece { field, offset: 0, bytes, changed: None }).collect();
    writer.write(&POOL, &pieces)?;
    writer.finish()
}

/// A field of every class, and chunks of every codec.
fn every_kind(scale: usize) -> Fields {
    let eight = Grain { stride: 8, lane: 8 };
    let smooth = (0..8 * scale).flat_map(|i| (280.0 + (i as f64 * 0.01).sin()).to_le_bytes()).collect();
    let pairs = (0..8 * scale).flat_map(|i| [i as f32, 1.0 - i as f32]).flat_map(f32::to_le_bytes).collect();
    let mut state = 88_172_645_463_325_252u64;
    let noise = (0..5 * scale)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect();
    vec![
        ("depth", FieldClass::Array, smooth, eight),
        ("flow", FieldClass::Array, pairs, Grain { stride: 8, lane: 4 }),
        ("mask", FieldClass::Array, vec![0; 9 * scale], Grain { stride: 2, lane: 1 }),
        (
            "count",
            FieldClass::Array,
            (0..4 * scale).flat_map(|i| (i as u16).to_le_bytes()).collect(),
            Grain { stride: 2, lane: 2 },
        ),
        ("none", FieldClass::Array, Vec::new(), eight),
        ("rng", FieldClass::Value, noise, Grain::BYTES),
        ("dx", FieldClass::Constant, 1.5f64.to_le_bytes().to_vec(), Grain::BYTES),
        ("log.csv", FieldClass::AppendFile, 4711u64.to_le_bytes()[..7].to_vec(), Grain::BYTES),
    ]
}

fn assert_holds(reader: &ShardReader, fields: &Fields) {
    assert_eq!(reader.identity(), &identity());
    assert_eq!(reader.outline(), &outline_of(fields));
    assert_eq!(reader.verify(&POOL, &|_| {}).unwrap(), []);
    let mut targets: Vec<Vec<u8>> = fields.iter().map(|field| vec![0xaa; field.2.len()]).collect();
    let mut places: Vec<_> = targets.iter_mut().enumerate().map(|(field, bytes)| (field, &mut bytes[..])).collect();
    places.reverse();
    reader.read(&POOL, &mut places).unwrap();
    for (number, ((name, _, bytes, _), target)) in fields.iter().zip(&targets).enumerate() {
        assert!(bytes == target, "{name}");
        assert!(reader.read_field(&POOL, number).unwrap() == *bytes, "{name}");
    }
}

/// Whether anything at all is found wrong with `bytes` as a shard.
fn is_noticed(bytes: Vec<u8>) -> bool {
    match ShardReader::open(&Memory::holding(file(), bytes), file()) {
        Err(error) => {
            assert!(error.is_damage(), "{error}");
            true
        }
        Ok(reader) => !reader.verify(&POOL, &|_| {}).unwrap().is_empty(),
    }
}

#[test]
fn what_is_written_is_read() {
    for (scale, chunk_bytes) in [(1, 64), (100, 4096), (20_000, 64 << 10), (50_000, DEFAULT_CHUNK_BYTES)] {
        for compression in [Compression::Auto, Compression::Raw, Compression::Zstd(3)] {
            let (medium, fields) = (Memory::default(), every_kind(scale));
            let summary = write(&medium, &fields, &options(chunk_bytes, compression)).unwrap();
            let reader = ShardReader::open(&medium, file()).unwrap();
            assert_eq!((reader.digest(), reader.file_bytes()), (summary.digest, summary.bytes));
            assert_eq!(medium.bytes(file()).len() as u64, summary.bytes);
            assert_eq!(reader.raw_bytes(), fields.iter().map(|field| field.2.len() as u64).sum::<u64>());
            assert!(summary.stored_bytes <= summary.raw_bytes);
            let counts = summary.codecs;
            assert_eq!(reader.chunks().len() as u64, counts.raw + counts.constant + counts.planes);
            if compression != Compression::Raw && scale > 1 {
                assert!(counts.raw > 0 && counts.constant > 0 && counts.planes > 0, "{counts:?}");
            }
            assert_holds(&reader, &fields);
        }
    }
}

#[test]
fn real_files_hold_it_too_and_are_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shard.tmp");
    let (medium, fields) = (RealMedium::default(), every_kind(200_000));
    let grains: Vec<Grain> = fields.iter().map(|field| field.3).collect();
    let options = options(64 << 10, Compression::Raw);
    let create = || ShardWriter::create(&medium, &path, &identity(), &outline_of(&fields), &grains, &options);
    let mut writer = create().unwrap();
    for (field, (_, _, bytes, _)) in fields.iter().enumerate() {
        // In two calls, the later part first.
        let middle = bytes.len() / 2 / options.chunk_bytes * options.chunk_bytes;
        for (offset, bytes) in [(middle, &bytes[middle..]), (0, &bytes[..middle])] {
            writer.write(&POOL, &[Piece { field, offset: offset as u64, bytes, changed: None }]).unwrap();
        }
    }
    let summary = writer.finish().unwrap();
    assert!(summary.bytes > 8 << 20);
    assert_eq!(std::fs::metadata(&path).unwrap().len(), summary.bytes);
    assert_holds(&ShardReader::open(&medium, &path).unwrap(), &fields);
    assert!(matches!(create(), Err(ShardError::Write { .. })));
}

#[test]
fn the_file_does_not_depend_on_the_number_of_threads() {
    let (fields, options) = (every_kind(20_000), options(4096, Compression::Auto));
    let one = ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let (a, b, c) = (Memory::default(), Memory::default(), Memory::default());
    write(&a, &fields, &options).unwrap();
    let grains: Vec<Grain> = fields.iter().map(|field| field.3).collect();
    for (medium, inside) in [(&b, false), (&c, true)] {
        let mut writer =
            ShardWriter::create(medium, file(), &identity(), &outline_of(&fields), &grains, &options).unwrap();
        let pieces = fields.iter().enumerate();
        let pieces: Vec<_> =
            pieces.map(|(field, (_, _, bytes, _))| Piece { field, offset: 0, bytes, changed: None }).collect();
        if inside { one.install(|| writer.write(&one, &pieces)) } else { writer.write(&one, &pieces) }.unwrap();
        writer.finish().unwrap();
    }
    assert!(a.bytes(file()) == b.bytes(file()));
    assert!(a.bytes(file()) == c.bytes(file()));
}

#[test]
fn a_flip_of_any_byte_is_noticed() {
    let medium = Memory::default();
    write(&medium, &every_kind(12), &options(256, Compression::Auto)).unwrap();
    let bytes = medium.bytes(file());
    let reader = ShardReader::open(&medium, file()).unwrap();
    let codecs: std::collections::BTreeSet<_> = reader.chunks().map(|chunk| chunk.codec.name()).collect();
    assert_eq!(codecs.len(), 3, "all codecs are in the file");
    assert!(!is_noticed(bytes.clone()));
    for at in 0..bytes.len() {
        for flip in [1, 0x80, 0xff] {
            let mut bytes = bytes.clone();
            bytes[at] ^= flip;
            assert!(is_noticed(bytes), "byte {at} of the file, changed by {flip:#x}");
        }
    }
}

#[test]
fn truncation_and_additions_are_noticed() {
    let medium = Memory::default();
    write(&medium, &every_kind(2), &options(64, Compression::Auto)).unwrap();
    let bytes = medium.bytes(file());
    for len in 0..bytes.len() {
        assert!(is_noticed(bytes[..len].to_vec()), "cut to {len} bytes");
    }
    for added in [&[0][..], &[0; 4096], &bytes] {
        assert!(is_noticed([&bytes[..], added].concat()));
        assert!(is_noticed([added, &bytes[..]].concat()) || added == bytes);
    }
}

#[test]
fn a_file_that_shrinks_while_it_is_open_is_damaged() {
    let (medium, fields) = (Memory::default(), every_kind(100));
    write(&medium, &fields, &options(256, Compression::Raw)).unwrap();
    let reader = ShardReader::open(&medium, file()).unwrap();
    medium.files.lock().unwrap()[file()].lock().unwrap().truncate(1000);
    assert!(reader.read_field(&POOL, 0).unwrap_err().is_damage());
    let broken = reader.verify(&POOL, &|_| {}).unwrap();
    assert!(broken.len() > 2 && broken.iter().any(|chunk| chunk.field == "depth"));
}

#[test]
fn a_broken_chunk_is_named() {
    let (medium, fields) = (Memory::default(), every_kind(1000));
    write(&medium, &fields, &options(4096, Compression::Auto)).unwrap();
    let reader = ShardReader::open(&medium, file()).unwrap();
    let chunk = *reader.chunks().find(|chunk| chunk.field == 1 && chunk.offset == 8192).unwrap();
    medium.files.lock().unwrap()[file()].lock().unwrap()[chunk.place as usize] ^= 4;
    let seen = AtomicU64::new(0);
    let broken = reader
        .verify(&POOL, &|bytes| {
            seen.fetch_add(bytes, Ordering::Relaxed);
        })
        .unwrap();
    assert_eq!(seen.into_inner(), reader.raw_bytes());
    assert_eq!(broken.len(), 1);
    assert_eq!((broken[0].field.as_str(), broken[0].offset, broken[0].place), ("flow", 8192, chunk.place));
    let error = reader.read_field(&POOL, 1).unwrap_err();
    assert!(error.is_damage() && error.to_string().contains("offset 8192 of field `flow`"), "{error}");
    assert!(reader.read_field(&POOL, 0).is_ok());
}

/// Recomputes every checksum outside the chunks, as somebody who wants to deceive us would.
fn forge(bytes: &mut [u8], change: impl FnOnce(&mut [u8])) {
    let sum = xxhash_rust::xxh3::xxh3_64;
    change(bytes);
    let (header, footer) = (512, bytes.len() - 88);
    let checksum = sum(&bytes[..header - 8]).to_le_bytes();
    bytes[header - 8..header].copy_from_slice(&checksum);
    let index = u64::from_le_bytes(bytes[footer + 16..footer + 24].try_into().unwrap()) as usize;
    if let Some(index) = bytes.get(index..footer) {
        let checksum = sum(index).to_le_bytes();
        bytes[footer + 32..footer + 40].copy_from_slice(&checksum);
    }
    let checksum = sum(&bytes[..header]).to_le_bytes();
    bytes[footer + 64..footer + 72].copy_from_slice(&checksum);
    let checksum = sum(&bytes[footer..footer + 80]).to_le_bytes();
    bytes[footer + 80..].copy_from_slice(&checksum);
}

fn forged(change: impl FnOnce(&mut [u8])) -> Result<ShardReader, ShardError> {
    let medium = Memory::default();
    write(&medium, &every_kind(12), &options(256, Compression::Auto)).unwrap();
    let mut bytes = medium.bytes(file());
    forge(&mut bytes, change);
    ShardReader::open(&Memory::holding(file(), bytes), file())
}

#[test]
fn what_is_unknown_is_refused_by_name() {
    let first_record = |bytes: &[u8]| {
        let footer = bytes.len() - 88;
        let chunks = u64::from_le_bytes(bytes[footer + 40..footer + 48].try_into().unwrap()) as usize;
        footer - chunks * 64
    };
    assert!(forged(|_| {}).is_ok());
    for (change, names) in [
        (Box::new(|bytes: &mut [u8]| bytes[8] = 9) as Box<dyn FnOnce(&mut [u8])>, "version 9"),
        (Box::new(|bytes: &mut [u8]| bytes[16] = 2), "flags 0x2"),
        (Box::new(move |bytes: &mut [u8]| bytes[first_record(bytes) + 4] = 77), "codec 77"),
    ] {
        let error = forged(change).unwrap_err();
        assert!(matches!(error, ShardError::Unsupported { .. }) && error.to_string().contains(names), "{error}");
    }
    // Two chunks that share a place, a gap, and two records of one chunk.
    for (at, part) in [(16, [1u8, 2, 0, 0]), (16, [0xff; 4]), (24, [0xff; 4]), (28, [0xff; 4]), (0, [0xff; 4])] {
        let error = forged(|bytes| {
            let record = first_record(bytes) + 64;
            bytes[record + at..record + at + 4].copy_from_slice(&part);
        });
        assert!(error.unwrap_err().is_damage(), "{at}");
    }
    let twice = forged(|bytes| {
        let record = first_record(bytes);
        bytes.copy_within(record..record + 4, record + 64);
        bytes.copy_within(record + 8..record + 16, record + 72);
    });
    assert!(twice.unwrap_err().is_damage());
}

proptest! {
    #[test]
    fn forged_files_harm_nothing(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let outcome = forged(|bytes| {
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
        });
        if let Ok(reader) = outcome {
            let _ = reader.verify(&POOL, &|_| {});
        }
    }

    #[test]
    fn garbage_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        prop_assert!(is_noticed(bytes));
    }

    #[test]
    fn any_fields_come_back(
        fields in prop::collection::vec((prop::collection::vec(0u8..9, 0..3000), 0u32..4, 1usize..5), 0..6),
        chunk in 1usize..40,
    ) {
        let fields: Fields = fields
            .into_iter()
            .map(|(bytes, exponent, count)| {
                ("field", FieldClass::Array, bytes, Grain { stride: count << exponent, lane: 1 << exponent })
            })
            .collect();
        let medium = Memory::default();
        write(&medium, &fields, &options(64 * chunk, Compression::Auto)).unwrap();
        assert_holds(&ShardReader::open(&medium, file()).unwrap(), &fields);
    }
}

#[test]
fn no_more_is_written_in_a_second_than_is_allowed() {
    let fields: Fields = vec![("noise", FieldClass::Array, every_kind(4 << 20)[5].2.clone(), Grain::BYTES)];
    let bytes = fields[0].2.len() as u64;
    let limited = EncodeOptions { bandwidth: NonZeroU64::new(bytes * 4), ..options(64 << 10, Compression::Raw) };
    let start = Instant::now();
    write(&Memory::default(), &fields, &limited).unwrap();
    assert!(start.elapsed() >= Duration::from_millis(225), "{:?}", start.elapsed());
}

#[test]
fn fields_may_have_efforts_of_their_own() {
    let (medium, fields) = (Memory::default(), every_kind(50_000));
    let efforts = fields.iter().map(|field| if field.0 == "depth" { Compression::Raw } else { Compression::Auto });
    let options = EncodeOptions { by_field: efforts.collect(), ..options(64 << 10, Compression::Auto) };
    write(&medium, &fields, &options).unwrap();
    let reader = ShardReader::open(&medium, file()).unwrap();
    assert_holds(&reader, &fields);
    assert!(reader.chunks().filter(|chunk| chunk.field == 0).all(|chunk| chunk.codec == Codec::Raw));
    assert!(reader.chunks().any(|chunk| chunk.codec.name() == "planes"));
}

#[test]
fn a_full_disk_is_an_error_and_no_hang() {
    let fields = every_kind(300_000);
    for room in [0, 100, 5 << 20, 20 << 20] {
        let medium = Memory { room: Some(room), ..Memory::default() };
        let error = write(&medium, &fields, &options(DEFAULT_CHUNK_BYTES, Compression::Raw)).unwrap_err();
        let ShardError::Write { source, .. } = &error else { panic!("{error}") };
        assert_eq!(source.kind(), io::ErrorKind::StorageFull);
        assert!(error.is_transient() && !error.is_damage());
    }
    let medium = Memory { sync_fails: true, ..Memory::default() };
    let error = write(&medium, &every_kind(1), &EncodeOptions::default()).unwrap_err();
    assert!(error.to_string().contains("durable"), "{error}");
}

#[test]
fn misuse_is_refused() {
    let (medium, fields) = (Memory::default(), every_kind(1000));
    let outline = outline_of(&fields);
    let grains: Vec<Grain> = fields.iter().map(|field| field.3).collect();
    let good = options(4096, Compression::Auto);
    let create = |path: &str, identity: &ShardIdentity, grains: &[Grain], options: &EncodeOptions| {
        ShardWriter::create(&medium, Path::new(path), identity, &outline, grains, options)
    };
    let long = ShardIdentity { job: "x".repeat(256), ..identity() };
    assert!(matches!(create("a", &long, &grains, &good), Err(ShardError::Misuse { .. })));
    assert!(matches!(create("a", &identity(), &grains[1..], &good), Err(ShardError::Misuse { .. })));
    for chunk_bytes in [0, 100, 32 << 20] {
        let options = EncodeOptions { chunk_bytes, ..good.clone() };
        assert!(matches!(create("a", &identity(), &grains, &options), Err(ShardError::Misuse { .. })));
    }
    let mut odd = grains.clone();
    odd[0] = Grain { stride: 9, lane: 8 };
    assert!(matches!(create("a", &identity(), &odd, &good), Err(ShardError::Misuse { .. })));
    let bytes = &fields[0].2[..];
    for (number, (field, offset, len)) in
        [(0, 1, 10), (0, 0, 100), (0, 61_440, 4096), (0, u64::MAX, 8), (99, 0, 1)].into_iter().enumerate()
    {
        let mut writer = create(&format!("b{number}"), &identity(), &grains, &good).unwrap();
        let piece = Piece { field, offset, bytes: &bytes[..len], changed: None };
        assert!(matches!(writer.write(&POOL, &[piece]), Err(ShardError::Misuse { .. })), "{number}");
        assert!(matches!(writer.finish(), Err(ShardError::Misuse { .. })));
    }
    let mut writer = create("c", &identity(), &grains, &good).unwrap();
    let piece = Piece { field: 0, offset: 0, bytes: &bytes[..4096], changed: None };
    writer.write(&POOL, &[piece]).unwrap();
    assert!(matches!(writer.write(&POOL, &[piece]), Err(ShardError::Misuse { .. })));
    let mut writer = create("d", &identity(), &grains, &good).unwrap();
    writer.write(&POOL, &[piece]).unwrap();
    let error = writer.finish().unwrap_err().to_string();
    assert!(error.contains("offset 4096 of field number 0"), "{error}");
    assert!(ShardReader::open(&medium, Path::new("d")).unwrap_err().is_damage());

    write(&medium, &fields, &good).unwrap();
    let reader = ShardReader::open(&medium, file()).unwrap();
    let (mut short, mut right) = (vec![0; 10], vec![0; bytes.len()]);
    let mut again = right.clone();
    assert!(matches!(reader.read(&POOL, &mut [(0, &mut short)]), Err(ShardError::Misuse { .. })));
    assert!(matches!(reader.read(&POOL, &mut [(99, &mut short)]), Err(ShardError::Misuse { .. })));
    let twice = &mut [(0, &mut right[..]), (0, &mut again[..])];
    assert!(matches!(reader.read(&POOL, twice), Err(ShardError::Misuse { .. })));
    assert!(matches!(ShardReader::open(&medium, Path::new("e")), Err(ShardError::Read { .. })));
}

/// Shards of version 1 are read for ever: this one was made when the format was settled.
#[test]
fn the_shard_of_version_1_is_still_read() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/shard-v1.shard");
    let fields = every_kind(40);
    if std::env::var_os("PITON_WRITE_GOLDEN").is_some() {
        let medium = Memory::default();
        write(&medium, &fields, &options(256, Compression::Auto)).unwrap();
        std::fs::write(&path, medium.bytes(file())).unwrap();
    }
    let reader = ShardReader::open(&RealMedium::default(), &path).unwrap();
    assert_holds(&reader, &fields);
    let codecs: std::collections::BTreeSet<_> = reader.chunks().map(|chunk| chunk.codec.name()).collect();
    assert_eq!(codecs.into_iter().collect::<Vec<_>>(), ["constant", "planes", "raw"]);
    assert_eq!(reader.created(), UNIX_EPOCH + Duration::from_secs(1_750_000_000));
}

/// Files of several shards are read for ever: this one was made when the format was settled.
#[test]
fn the_shared_file_of_version_1_is_still_read() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/shared-v1.shards");
    let place = |path: &Path, seat: u32| ShardPlace::shared(path, seat, 2).unwrap();
    let fields = [every_kind(40), every_kind(50)];
    if std::env::var_os("PITON_WRITE_GOLDEN").is_some() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("shared");
        for (seat, fields) in (0..).zip(&fields) {
            write_at(&RealMedium::default(), &place(&file, seat), fields, &options(256, Compression::Auto)).unwrap();
        }
        std::fs::copy(file, &path).unwrap();
    }
    for (seat, fields) in (0..).zip(&fields) {
        assert_holds(&ShardReader::open_at(&RealMedium::default(), &place(&path, seat)).unwrap(), fields);
    }
}
