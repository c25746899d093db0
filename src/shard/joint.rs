//! Several ranks' shards in one file.
//!
//! On a parallel file system every file costs its metadata servers something, however small it is. So the ranks of a node may
//! share one: each writes into extents of its own, at places that follow from its seat alone, so that no rank has to ask another
//! where to write.
//!
//! ```text
//! 0        4096     8192           4096 n
//! │ seat 0 │ seat 1 │ … │ seat n−1 │ extent 0 of seat 0 │ extent 0 of seat 1 │ … │ extent 1 of seat 0 │ …
//! ```
//! The first extents are of 64 KiB, each round's twice as large as those before, up to 4 MiB: what a small shard leaves free is
//! little, and a large one is written in large pieces.
//!
//! Comes in: a [`ShardPlace`]. Goes out: a file for the writer, or the reader, that looks like the shard's own.
//! What must hold: no two ranks write the same byte, or the same page of memory; that a part is
//! durable is said only after all of its bytes, and their number, are; a reader trusts nothing in the file.

use crate::medium::{Medium, MediumRead, MediumWrite};
use std::io;
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::xxh3_64;

/// Bytes of the first extents.
const FIRST: u64 = 64 << 10;
/// How often the next ones are larger.
const DOUBLINGS: u64 = 6;
/// Bytes of all further ones: what the writer writes at once, and a multiple of what file systems stripe by.
const LARGEST: u64 = FIRST << DOUBLINGS;
/// Where in a shard those begin.
const GROWN: u64 = LARGEST - FIRST;
/// Bytes at the start of the file for each seat.
const SEAT: u64 = 4096;
const MAGIC: [u8; 8] = *b"\x89PTNJNT\n";
const VERSION: u32 = 1;
/// Magic, version, seat, seats, zero, length, checksum.
const RECORD: usize = 40;
/// Where in a seat's page its rank tells the one that waits for it that its part is durable.
const WORD_AT: u64 = 2048;
const DURABLE: [u8; 8] = *b"durable\n";
/// More ranks than a node will ever have.
pub const MOST_SEATS: u32 = 1 << 16;

/// Where a shard is: in a file of its own, or in one that several ranks share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardPlace {
    path: PathBuf,
    /// Which of how many; `None`: the file is the shard's own.
    seat: Option<(u32, u32)>,
}

impl ShardPlace {
    /// A file of its own.
    #[must_use]
    pub fn own(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), seat: None }
    }

    /// Seat `seat` of the `seats` in the file `path`. `None` where there is no such seat, or there are more than
    /// [`MOST_SEATS`].
    #[must_use]
    pub fn shared(path: impl Into<PathBuf>, seat: u32, seats: u32) -> Option<Self> {
        (seat < seats && seats <= MOST_SEATS).then(|| Self { path: path.into(), seat: Some((seat, seats)) })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether other shards are in the same file.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.seat.is_some()
    }

    /// The same place in another file.
    #[must_use]
    pub fn in_file(&self, path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), seat: self.seat }
    }

    /// The file for writing. One of its own must not exist; a shared one is made by whoever comes first.
    pub(super) fn create(&self, medium: &dyn Medium) -> io::Result<Box<dyn MediumWrite>> {
        let Some((seat, seats)) = self.seat else { return medium.create(&self.path) };
        let file = medium.share(&self.path)?;
        Ok(Box::new(SharedWrite { file, seat, seats, len: 0 }))
    }

    /// The file for reading.
    pub(super) fn open(&self, medium: &dyn Medium) -> io::Result<Box<dyn MediumRead>> {
        let file = medium.open(&self.path)?;
        let Some((seat, seats)) = self.seat else { return Ok(file) };
        let len = length(&*file, seat, seats)?;
        Ok(Box::new(SharedRead { file, seat, seats, len }))
    }

    /// Whether the parts of all ranks of the file are durable, as they said themselves. Only a rank of theirs whose own part is can
    /// ask, while they run, and only before the file has its final name. A file that is not shared has nobody else to wait for.
    ///
    /// # Errors
    /// `NotFound` where a rank gave up, and removed the file; others of the system.
    pub fn all_are_durable(&self, medium: &dyn Medium) -> io::Result<bool> {
        let Some((own, seats)) = self.seat else { return Ok(true) };
        let file = medium.open(&self.path)?;
        // What a rank removed, one that comes later makes anew.
        if !is_durable(&*file, own)? {
            return Err(io::ErrorKind::NotFound.into());
        }
        for seat in 0..seats {
            if !is_durable(&*file, seat)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Whether the rank of seat `seat` said that its part is durable.
fn is_durable(file: &dyn MediumRead, seat: u32) -> io::Result<bool> {
    let mut word = [0; 8];
    match file.read_at(u64::from(seat) * SEAT + WORD_AT, &mut word) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        result => result.map(|()| word == DURABLE),
    }
}

/// A piece of a shard that lies together in the file.
struct Extent {
    /// Where in the shard it begins.
    start: u64,
    len: u64,
    /// Where in the file it begins.
    place: u64,
}

impl Extent {
    /// The one that byte `offset` of the shard is in.
    fn of(offset: u64, seat: u32, seats: u32) -> Self {
        let (start, len) = match offset.checked_sub(GROWN) {
            Some(beyond) => (GROWN + beyond / LARGEST * LARGEST, LARGEST),
            None => {
                let doublings = (offset / FIRST + 1).ilog2();
                ((FIRST << doublings) - FIRST, FIRST << doublings)
            }
        };
        // All earlier rounds take as much of every seat.
        Self { start, len, place: u64::from(seats) * (SEAT + start) + u64::from(seat) * len }
    }
}

/// The pieces of a shard's bytes from `offset` on that lie together in the file: place, and range of the bytes.
fn pieces(offset: u64, len: usize, seat: u32, seats: u32) -> impl Iterator<Item = (u64, std::ops::Range<usize>)> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let at = offset + start as u64;
        let extent = Extent::of(at, seat, seats);
        let within = at - extent.start;
        // Never more than `len`, which is a length in memory.
        let now = ((len - start) as u64).min(extent.len - within) as usize;
        let range = start..start + now;
        start = range.end;
        (now > 0).then_some((extent.place + within, range))
    })
}

fn record(seat: u32, seats: u32, len: u64) -> [u8; RECORD] {
    let mut bytes = [0; RECORD];
    bytes[..8].copy_from_slice(&MAGIC);
    for (at, number) in [VERSION, seat, seats, 0].into_iter().enumerate() {
        bytes[8 + 4 * at..12 + 4 * at].copy_from_slice(&number.to_le_bytes());
    }
    bytes[24..32].copy_from_slice(&len.to_le_bytes());
    let checksum = xxh3_64(&bytes[..32]);
    bytes[32..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// How many bytes of the shard are there, by its seat's record and the length of the file.
fn length(file: &dyn MediumRead, seat: u32, seats: u32) -> io::Result<u64> {
    let mut found = [0; RECORD];
    file.read_at(u64::from(seat) * SEAT, &mut found)?;
    let mut len = [0; 8];
    len.copy_from_slice(&found[24..32]);
    let len = u64::from_le_bytes(len);
    if found != record(seat, seats, len) {
        // As a file that is too short: nobody can know how much of it is the shard's.
        let what = format!("the record of seat {seat} of {seats} is damaged, or of a later version");
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, what));
    }
    // Of what a file lacks that was cut, nothing is there.
    let (end, mut there) = (file.len()?, 0);
    while there < len {
        let extent = Extent::of(there, seat, seats);
        let held = end.saturating_sub(extent.place).min(extent.len);
        there += held;
        if held < extent.len {
            break;
        }
    }
    Ok(len.min(there))
}

/// One rank's part of a shared file, as if it were a file of its own.
#[derive(Debug)]
struct SharedWrite {
    file: Box<dyn MediumWrite>,
    seat: u32,
    seats: u32,
    /// The end of what was written.
    len: u64,
}

impl MediumWrite for SharedWrite {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        for (place, range) in pieces(offset, bytes.len(), self.seat, self.seats) {
            self.file.write_at(place, &bytes[range])?;
        }
        self.len = self.len.max(offset + bytes.len() as u64);
        Ok(())
    }

    fn set_len(&mut self, _: u64) -> io::Result<()> {
        // The others' bytes are behind it.
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync(&mut self) -> io::Result<()> {
        let page = u64::from(self.seat) * SEAT;
        self.file.write_at(page, &record(self.seat, self.seats, self.len))?;
        self.file.sync()?;
        // Not before: whoever reads it may give the file the name that makes all of it count.
        self.file.write_at(page + WORD_AT, &DURABLE)
    }
}

#[derive(Debug)]
struct SharedRead {
    file: Box<dyn MediumRead>,
    seat: u32,
    seats: u32,
    len: u64,
}

impl MediumRead for SharedRead {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        if offset.checked_add(buffer.len() as u64).is_none_or(|end| end > self.len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for (place, range) in pieces(offset, buffer.len(), self.seat, self.seats) {
            self.file.read_at(place, &mut buffer[range])?;
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::medium::RealMedium;
    use proptest::prelude::*;

    const SEATS: u32 = 3;

    fn seat(path: &Path, seat: u32) -> ShardPlace {
        ShardPlace::shared(path, seat, SEATS).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        /// What each rank wrote, it reads; nothing of it is another's.
        #[test]
        fn ranks_do_not_meet(lens in prop::array::uniform3(0..9_000_000usize), from in any::<u64>()) {
            let folder = tempfile::tempdir().unwrap();
            let (medium, path) = (RealMedium::default(), folder.path().join("ranks.shards"));
            let content = |rank: u32| (0..lens[rank as usize]).map(|i| (i / 7) as u8 ^ (rank as u8 * 85)).collect::<Vec<u8>>();
            let mut files: Vec<_> = (0..SEATS).map(|rank| seat(&path, rank).create(&medium).unwrap()).collect();
            for (rank, file) in (0..).zip(&mut files) {
                for (number, piece) in content(rank).chunks(700_000).enumerate() {
                    file.write_at(number as u64 * 700_000, piece).unwrap();
                }
                prop_assert!(!is_durable(&*medium.open(&path).unwrap(), rank).unwrap());
                file.sync().unwrap();
                prop_assert!(is_durable(&*medium.open(&path).unwrap(), rank).unwrap());
                prop_assert_eq!(seat(&path, 0).all_are_durable(&medium).unwrap(), rank + 1 == SEATS);
            }
            for rank in 0..SEATS {
                let (file, expected) = (seat(&path, rank).open(&medium).unwrap(), content(rank));
                prop_assert_eq!(file.len().unwrap(), expected.len() as u64);
                let from = (from % (expected.len() as u64 + 1)) as usize;
                let mut found = vec![0; expected.len() - from];
                file.read_at(from as u64, &mut found).unwrap();
                prop_assert!(found == expected[from..]);
                prop_assert!(file.read_at(from as u64 + 1, &mut found).is_err() || found.is_empty());
            }
        }
    }

    #[test]
    fn a_damaged_record_and_a_cut_file_are_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let (medium, path) = (RealMedium::default(), folder.path().join("ranks.shards"));
        for rank in 0..SEATS {
            let mut file = seat(&path, rank).create(&medium).unwrap();
            file.write_at(0, &vec![1; FIRST as usize + 10]).unwrap();
            file.sync().unwrap();
        }
        let sound = std::fs::read(&path).unwrap();
        for at in 0..RECORD {
            let mut bytes = sound[..SEAT as usize * 2].to_vec();
            bytes[SEAT as usize + at] ^= 1;
            std::fs::write(&path, &bytes).unwrap();
            assert!(seat(&path, 1).open(&medium).is_err(), "byte {at}");
            assert!(seat(&path, 0).open(&medium).is_ok());
        }
        for (cut, left) in [(0, FIRST + 10), (1, FIRST + 9), (11, FIRST), (12 + FIRST as usize, FIRST)] {
            std::fs::write(&path, &sound[..sound.len() - cut]).unwrap();
            assert_eq!(seat(&path, 2).open(&medium).unwrap().len().unwrap(), left, "{cut} bytes cut off");
        }
        let first = Extent::of(0, 1, SEATS).place as usize;
        std::fs::write(&path, &sound[..first + 5]).unwrap();
        assert_eq!(seat(&path, 1).open(&medium).unwrap().len().unwrap(), 5);
        std::fs::write(&path, b"short").unwrap();
        assert_eq!(seat(&path, 1).open(&medium).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    proptest! {
        /// Every byte of every seat has a place of its own, and no gap is larger than what the seats have not written yet.
        #[test]
        fn extents_follow_each_other(offset in 0u64..1 << 40, seats in 1u32..300) {
            let extent = Extent::of(offset, 0, seats);
            prop_assert!(extent.start <= offset && offset < extent.start + extent.len && extent.len <= LARGEST);
            let last = Extent::of(offset, seats - 1, seats);
            prop_assert_eq!(last.place, extent.place + u64::from(seats - 1) * extent.len);
            let next = Extent::of(extent.start + extent.len, 0, seats);
            prop_assert_eq!((next.start, next.place), (extent.start + extent.len, last.place + last.len));
            prop_assert!(next.len == extent.len || next.len == 2 * extent.len);
        }
    }

    #[test]
    fn places_make_sense() {
        let folder = tempfile::tempdir().unwrap();
        let (medium, path) = (RealMedium::default(), folder.path().join("ranks.shards"));
        assert_eq!(seat(&path, 0).all_are_durable(&medium).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(ShardPlace::shared(&path, 3, SEATS), None);
        assert_eq!(ShardPlace::shared(&path, 0, MOST_SEATS + 1), None);
        let (own, other) = (ShardPlace::own(&path), folder.path().join("other"));
        assert!(!own.is_shared() && seat(&path, 1).is_shared());
        assert_eq!(seat(&path, 1).in_file(&other), seat(&other, 1));
    }
}
