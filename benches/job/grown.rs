//! The state that is saved: a rank's band of the tsunami, repeated until it is as large as asked for, of which a share of
//! the pages changes between checkpoints.
//!
//! Chunks of a shard are compressed alone, and a band is much larger than a chunk, so that the repetition is not seen.
//!
//! What a page holds follows from its place and from the round in which it changed last:
//!
//! | data | in round 0 | changed in round *n* |
//! | --- | --- | --- |
//! | tsunami | the band | the band, shifted by a number of cells that each round has for itself |
//! | random | random bits | others |
//! | zeros | zeros | the number *n* throughout: a page is as easy to compress as one of zeros, and another |
//!
//! So a state that changes as a whole is as smooth as the first one was. Where the shifted band is what a page holds already
//! (land is as dry everywhere), the lowest bit of its first number is turned over, so that every page that shall change does.

use super::Outcome;
use super::arguments::{Data, Pattern};
use super::bathymetry::SeaFloor;
use super::common::World;
use super::solver::{Edges, HALO, Sea};
use piton::PagedVec;
use rayon::prelude::*;
use std::io;
use xxhash_rust::xxh3::Xxh3;

const SEA_FLOOR: &str = include_str!("../../examples/data/salish-sea.xyz");
/// The water that is set in motion: degrees east and north of its middle, its radius (m).
const SOURCE: [f64; 3] = [236.48, 49.22, 7e3];

/// The simulation that computes.
pub struct Ocean {
    sea: Sea,
}

impl Ocean {
    /// Of `size` cells over all ranks, at its beginning. Collective.
    pub fn new(size: [usize; 2], world: &World) -> Outcome<Self> {
        let floor = SeaFloor::parse(SEA_FLOOR)?;
        let rows = world.rows(size[1], HALO).map_err(|_| "fewer rows than ranks need")?;
        let [longitude, latitude, radius] = SOURCE;
        let [east, north] = floor.share_of(longitude, latitude);
        let extent = floor.extent_metres();
        // The example's own: water heaped up on one side of where the ground slid away from under the other.
        let surface = |x: f64, y: f64| {
            let (x, y) = ((x - east) * extent[0] / radius, (y - north) * extent[1] / radius);
            4.0 * (1.2 * x + 0.45).clamp(-1.0, 1.0) * (-(x * x + y * y)).exp()
        };
        Ok(Self { sea: Sea::new(&floor, size[0], rows, Edges::Open, surface) })
    }

    /// One step. Collective.
    pub fn advance(&mut self, world: &World) {
        self.sea.advance(world);
    }
}

/// The names of the fields, which are the tsunami's.
const FIELDS: [&str; 5] = ["depth", "flow_east", "flow_north", "max_height", "arrival"];
/// Numbers in one page of the system, in which changes are counted.
const PAGE: usize = 4096 / size_of::<f64>();
/// By so many cells the band moves on from round to round: some rows, and not whole ones.
const SHIFT: u64 = 10_007;
/// Pages that a thread takes at once.
const SHARED_OUT: usize = 64;

/// Where the numbers of a page come from.
enum Origin {
    /// One band for each field.
    Bands([Vec<f64>; 5]),
    Random {
        rank: usize,
    },
    Zeros,
}

impl Origin {
    /// Writes what page number `page` of field number `field` holds from `round` on.
    fn fill(&self, field: usize, page: usize, round: u64, to: &mut [f64]) {
        match self {
            Self::Bands(bands) => {
                let band = &bands[field];
                let (mut at, mut rest) = ((page * PAGE + shift(round, band.len())) % band.len(), to);
                while !rest.is_empty() {
                    let (now, later) = rest.split_at_mut(rest.len().min(band.len() - at));
                    now.copy_from_slice(&band[at..at + now.len()]);
                    (rest, at) = (later, 0);
                }
            }
            Self::Random { rank } => {
                let place = [*rank, field, page].iter().fold(round, |seed, part| mixed(seed ^ *part as u64));
                // The generator stands still at 0.
                let mut random = place.max(1);
                to.fill_with(|| {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    f64::from_bits(random)
                });
            }
            Self::Zeros => to.fill(round as f64),
        }
    }
}

/// How far a band of `cells` is shifted: not at all in round 0, in all others by another number than in the one before.
fn shift(round: u64, cells: usize) -> usize {
    match cells as u64 {
        0 | 1 => 0,
        _ if round == 0 => 0,
        cells => (1 + round * SHIFT % (cells - 1)) as usize,
    }
}

/// A number that looks random and follows from `seed` (the last step of SplitMix64).
fn mixed(seed: u64) -> u64 {
    let seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let seed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let seed = (seed ^ (seed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    seed ^ (seed >> 31)
}

/// Which of `all` pages change in `round`: `share` of them, at least one.
fn chosen(all: usize, share: f64, pattern: Pattern, round: u64, rank: usize) -> Vec<bool> {
    let count = ((all as f64 * share).round() as usize).clamp(1.min(all), all);
    let mut chosen = vec![false; all];
    for number in 0..count {
        let page = match pattern {
            // Each round goes on where the last one ended.
            Pattern::Band => (round as usize * count + number) % all,
            // One of as many parts as there are pages to be chosen.
            Pattern::Scattered => {
                let (from, to) = (number * all / count, (number + 1) * all / count);
                from + mixed(mixed(round ^ rank as u64) ^ number as u64) as usize % (to - from)
            }
        };
        chosen[page] = true;
    }
    chosen
}

/// What becomes of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Stays,
    Changes,
    /// It gets what it holds, but for one bit.
    Turned,
}

/// What is to change, so that the same change can be made twice.
pub struct Change {
    round: u64,
    /// By field and page.
    pages: [Vec<Fate>; 5],
}

impl Change {
    /// How many pages get other contents.
    pub fn pages(&self) -> usize {
        self.pages.iter().flatten().filter(|fate| **fate != Fate::Stays).count()
    }
}

/// What is saved.
pub struct Grown {
    fields: [PagedVec<f64>; 5],
    time: f64,
    origin: Origin,
    rank: usize,
}

impl Grown {
    /// `bytes` of `data`, divided among the fields.
    pub fn new(ocean: &Ocean, data: Data, bytes: usize, rank: usize) -> io::Result<Self> {
        let sea = &ocean.sea;
        let own = HALO * sea.nx..(HALO + sea.rows.count) * sea.nx;
        let water = &sea.water;
        let bands =
            [&water.depth[own.clone()], &water.east[own.clone()], &water.north[own], &sea.highest, &sea.arrival];
        let cells = bytes / size_of::<f64>() / bands.len();
        let origin = match data {
            Data::Tsunami => Origin::Bands(bands.map(<[f64]>::to_vec)),
            Data::Random => Origin::Random { rank },
            Data::Zeros => Origin::Zeros,
        };
        let field = || PagedVec::new(cells);
        let fields = [field()?, field()?, field()?, field()?, field()?];
        let mut state = Self { fields, time: sea.time, origin, rank };
        // All pages there, zeros as well, and not the one page of zeros that the system has.
        let everything = Change { round: 0, pages: state.fates(|_, _, _| Fate::Changes) };
        state.apply(&everything);
        Ok(state)
    }

    pub fn fields(&self) -> impl ExactSizeIterator<Item = (&'static str, &[f64])> {
        std::iter::zip(FIELDS, self.fields.iter().map(|field| &field[..]))
    }

    pub fn bytes(&self) -> u64 {
        self.fields.iter().map(|field| size_of_val(&field[..]) as u64).sum()
    }

    /// Says for each page, by the number of its field, its own in the field, and what it holds, what becomes of it.
    fn fates(&self, fate: impl Fn(usize, usize, &[f64]) -> Fate + Sync) -> [Vec<Fate>; 5] {
        std::array::from_fn(|field| {
            let pages = self.fields[field].par_chunks(PAGE).enumerate().with_min_len(SHARED_OUT);
            pages.map(|(page, held)| fate(field, page, held)).collect()
        })
    }

    /// Finds a change of exactly `share` of the pages for `round`, from 1 on, in which no page gets what it holds. It reads
    /// the pages and changes nothing.
    pub fn plan(&self, share: f64, pattern: Pattern, round: u64) -> Change {
        let counts = self.fields.each_ref().map(|field| field.len().div_ceil(PAGE));
        let chosen = chosen(counts.iter().sum(), share, pattern, round, self.rank);
        let fate = |field: usize, page: usize, held: &[f64]| {
            if !chosen[counts[..field].iter().sum::<usize>() + page] {
                return Fate::Stays;
            }
            let mut next = [0.0; PAGE];
            let next = &mut next[..held.len()];
            self.origin.fill(field, page, round, next);
            let same = bytemuck::cast_slice::<f64, u8>(next) == bytemuck::cast_slice::<f64, u8>(held);
            if same { Fate::Turned } else { Fate::Changes }
        };
        Change { round, pages: self.fates(fate) }
    }

    /// Makes a change, with the threads that compute. Made twice, it leaves what it left at first.
    pub fn apply(&mut self, change: &Change) {
        let (origin, round) = (&self.origin, change.round);
        for (field, (numbers, fates)) in std::iter::zip(&mut self.fields, &change.pages).enumerate() {
            let pages = numbers.par_chunks_mut(PAGE).zip(fates).enumerate().with_min_len(SHARED_OUT);
            pages.filter(|(_, (_, fate))| **fate != Fate::Stays).for_each(|(page, (numbers, fate))| {
                origin.fill(field, page, round, numbers);
                if *fate == Fate::Turned {
                    numbers[0] = f64::from_bits(numbers[0].to_bits() ^ 1);
                }
            });
        }
        // As in every simulation; and where all pages change, nothing is shared with an earlier checkpoint.
        self.time = round as f64;
    }

    /// Gives exactly `share` of the pages, but at least one, other contents; how many these are.
    pub fn change(&mut self, share: f64, pattern: Pattern, round: u64) -> u64 {
        let change = self.plan(share, pattern, round);
        self.apply(&change);
        change.pages() as u64
    }

    /// Leaves nothing of the state, and all of its memory.
    pub fn spoil(&mut self) {
        for field in &mut self.fields {
            field.fill(f64::from_bits(0x5a5a_5a5a_5a5a_5a5a));
        }
        self.time = f64::NAN;
    }

    pub fn fingerprint(&self) -> u64 {
        let mut hasher = Xxh3::new();
        for (_, field) in self.fields() {
            hasher.update(bytemuck::cast_slice(field));
        }
        hasher.update(&self.time.to_le_bytes());
        hasher.digest()
    }
}

impl piton::State for Grown {
    fn describe<'a>(&'a mut self, fields: &mut piton::Fields<'a>) {
        for (name, field) in std::iter::zip(FIELDS, &mut self.fields) {
            fields.array(name, field);
        }
        fields.value("time", &mut self.time);
    }
}
