//! The state that is saved: a rank's band of the tsunami, repeated until it is as large as asked for.
//!
//! Chunks of a shard are compressed alone, and a band is much larger than a chunk, so that the repetition is not seen.

use super::Outcome;
use super::arguments::Data;
use super::bathymetry::SeaFloor;
use super::common::World;
use super::solver::{Edges, HALO, Sea};
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

/// What is saved.
pub struct Grown {
    fields: [Vec<f64>; 5],
    time: f64,
}

impl Grown {
    /// `bytes` of `data`, divided among the fields.
    pub fn new(ocean: &Ocean, data: Data, bytes: usize, rank: usize) -> Self {
        let sea = &ocean.sea;
        let own = HALO * sea.nx..(HALO + sea.rows.count) * sea.nx;
        let water = &sea.water;
        let bands =
            [&water.depth[own.clone()], &water.east[own.clone()], &water.north[own], &sea.highest, &sea.arrival];
        let cells = bytes / size_of::<f64>() / bands.len();
        let mut random = 88_172_645_463_325_252u64 ^ rank as u64;
        let fields = bands.map(|band| match data {
            Data::Tsunami => band.iter().copied().cycle().take(cells).collect(),
            // All pages there, and not the one page of zeros that the system has.
            Data::Zeros => std::iter::repeat_n(0.0, cells).map(std::hint::black_box).collect(),
            Data::Random => std::iter::repeat_with(|| {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                f64::from_bits(random)
            })
            .take(cells)
            .collect(),
        });
        Self { fields, time: sea.time }
    }

    pub fn fields(&self) -> impl ExactSizeIterator<Item = (&'static str, &[f64])> {
        std::iter::zip(FIELDS, self.fields.iter().map(Vec::as_slice))
    }

    pub fn bytes(&self) -> u64 {
        self.fields.iter().map(|field| size_of_val(&field[..]) as u64).sum()
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
