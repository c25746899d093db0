//! The shallow water on one rank's band of the sea.
//!
//! Comes in: the floor, the water at the beginning, and the rows that the rank owns. Goes out: depth and flow after
//! each step, the greatest height of the wave, and when it arrived. What must hold: each cell is computed from the same
//! numbers in the same order whichever rank or thread does it, so that the result never depends on how many there are;
//! the time step is fixed by the still water, the same on every rank.

use crate::bathymetry::SeaFloor;
use crate::common::{Rows, World};
use crate::riemann::{DRY, Faces, FluxRow, Fluxes, GRAVITY, Stencil, all_wet, fluxes, slope};
use rayon::prelude::*;

/// Rows of the neighbours that a rank needs, and cells beyond the edges of the sea.
pub const HALO: usize = 2;
/// How far the fastest wave may run in a step, in cells of both directions together.
const COURANT: f64 = 0.8;
/// Drag of sand and mud on the water above it (no unit).
const DRAG: f64 = 0.0025;
/// How far from the still level the water must be for the wave to have arrived (m).
pub const ARRIVED: f64 = 0.05;
/// The arrival where the wave has not been (s).
pub const NEVER: f64 = -1.0;

/// What is beyond the edges of the sea.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edges {
    /// Still water as deep as at the edge: waves leave, none come in.
    Open,
    /// Walls: waves are thrown back, no water is lost.
    #[cfg_attr(not(test), allow(dead_code))]
    Walls,
}

/// Depth (m) and flow (depth times velocity, m²/s) of the water, by rows of cells.
#[derive(Debug, Clone, PartialEq)]
pub struct Water {
    /// From the floor to the surface.
    pub depth: Vec<f64>,
    /// Eastward.
    pub east: Vec<f64>,
    /// Northward.
    pub north: Vec<f64>,
}

/// One rank's band of the sea.
#[derive(Debug)]
pub struct Sea {
    /// Cells from west to east.
    pub nx: usize,
    /// Which rows the rank owns.
    pub rows: Rows,
    /// The sides of a cell, eastward and northward (m).
    pub cell: [f64; 2],
    /// Length of a step (s).
    pub time_step: f64,
    /// Since the beginning (s).
    pub time: f64,
    /// The water, with [`HALO`] rows before and after. They are overwritten before they are read.
    pub water: Water,
    /// The greatest rise above the still level, or depth over what was land, of the own rows (m).
    pub highest: Vec<f64>,
    /// When the water first was [`ARRIVED`] away from the still level, of the own rows (s), or [`NEVER`].
    pub arrival: Vec<f64>,
    /// Depth of the still water, of the own rows (m).
    pub still: Vec<f64>,
    /// Drag of the floor on the water above it (no unit).
    drag: f64,
    edges: Edges,
    /// Height of the floor with [`HALO`] cells more on every side (m).
    floor: Vec<f64>,
    work: Work,
}

/// What a step computes on its way; holds nothing between steps.
#[derive(Debug)]
struct Work {
    /// The water half-way through the step, as [`Sea::water`].
    half: Water,
    /// Depth, level, eastward and northward velocity, with [`HALO`] cells more on every side.
    depth: Vec<f64>,
    level: Vec<f64>,
    east: Vec<f64>,
    north: Vec<f64>,
    /// Through the southern faces of the own rows and the northern ones of the last.
    northward: Fluxes,
    /// What goes to the previous and the next rank and comes from them.
    messages: [Vec<f64>; 4],
}

impl Water {
    fn new(cells: usize) -> Self {
        Self { depth: vec![0.0; cells], east: vec![0.0; cells], north: vec![0.0; cells] }
    }
}

impl Sea {
    /// The band `rows` of a sea of `nx` cells eastward over `floor`, whose surface is at first where `surface` says,
    /// given the shares of the way eastward and northward.
    pub fn new(floor: &SeaFloor, nx: usize, rows: Rows, edges: Edges, surface: impl Fn(f64, f64) -> f64) -> Self {
        let ny = rows.all;
        let share = |x: usize, y: usize| [(x as f64 + 0.5) / nx as f64, (y as f64 + 0.5) / ny as f64];
        let height = |x: usize, y: usize| {
            let [x, y] = share(x, y);
            floor.elevation(x, y)
        };
        let padded = (nx + 2 * HALO, rows.count + 2 * HALO);
        let floor_heights: Vec<f64> = (0..padded.0 * padded.1)
            .map(|index| {
                let x = beyond(index % padded.0, nx, edges).0;
                let y = beyond(index / padded.0 + rows.first, ny, edges).0;
                height(x, y)
            })
            .collect();

        let [width, length] = floor.extent_metres();
        let cell = [width / nx as f64, length / ny as f64];
        let mut water = Water::new(nx * padded.1);
        let mut still = vec![0.0; nx * rows.count];
        for row in 0..rows.count {
            for x in 0..nx {
                let floor = height(x, rows.first + row);
                if floor < 0.0 {
                    let [share_x, share_y] = share(x, rows.first + row);
                    still[row * nx + x] = -floor;
                    water.depth[(row + HALO) * nx + x] = (surface(share_x, share_y) - floor).max(0.0);
                }
            }
        }
        // Every rank looks at the whole sea, so that all take the same step.
        let deepest = (0..nx * ny).map(|index| -height(index % nx, index / nx)).fold(DRY, f64::max);
        let highest_surface =
            (0..nx * ny).map(|index| share(index % nx, index / nx)).map(|[x, y]| surface(x, y)).fold(0.0, f64::max);
        let speed = (GRAVITY * (deepest + highest_surface)).sqrt();
        let time_step = COURANT / (speed / cell[0] + speed / cell[1]);

        let row_pair = vec![0.0; 3 * HALO * nx];
        let none = vec![0.0; padded.0 * padded.1];
        let mut sea = Self {
            nx,
            rows,
            cell,
            time_step,
            time: 0.0,
            highest: vec![0.0; nx * rows.count],
            arrival: vec![NEVER; nx * rows.count],
            still,
            drag: DRAG,
            edges,
            floor: floor_heights,
            work: Work {
                half: Water::new(nx * padded.1),
                depth: none.clone(),
                level: none.clone(),
                east: none.clone(),
                north: none,
                northward: Fluxes::new(nx * (rows.count + 1)),
                messages: std::array::from_fn(|_| row_pair.clone()),
            },
            water,
        };
        sea.note_heights();
        sea
    }

    /// One step of Heun's method (the second-order strong-stability-preserving one). Collective.
    pub fn advance(&mut self, world: &World) {
        exchange(&mut self.water, self.nx, self.rows.count, &mut self.work.messages, world);
        self.stage(false);
        exchange(&mut self.work.half, self.nx, self.rows.count, &mut self.work.messages, world);
        self.stage(true);
        self.time += self.time_step;
        self.note_heights();
    }

    /// How far the water at a cell of the own rows is from the still level; over land, how deep it is (m).
    pub fn height(&self, cell: usize) -> f64 {
        self.water.depth[HALO * self.nx + cell] - self.still[cell]
    }

    /// Half of a step: the first writes what one whole step gives into `work.half`; the second takes the mean of the
    /// beginning and of what one more whole step gives.
    fn stage(&mut self, second: bool) {
        let Self { nx, rows, cell, time_step, water, edges, floor, drag, work, .. } = self;
        let (nx, rows, edges) = (*nx, *rows, *edges);
        let width = nx + 2 * HALO;
        let Work { half, depth, level, east, north, northward, .. } = work;
        let (from, to) = if second { (&*half, water) } else { (&*water, half) };

        // Level and velocities, with what is beyond the edges.
        (depth.par_chunks_exact_mut(width), level.par_chunks_exact_mut(width))
            .into_par_iter()
            .zip((east.par_chunks_exact_mut(width), north.par_chunks_exact_mut(width)))
            .zip(floor.par_chunks_exact(width))
            .enumerate()
            .for_each(|(row, (((h, e), (u, v)), floor))| {
                let (y, outside) = beyond(row + rows.first, rows.all, edges);
                let at = (y + HALO - rows.first) * nx;
                let inner = HALO..HALO + nx;
                let own = [&from.depth, &from.east, &from.north].map(|all| &all[at..at + nx]);
                velocities(own, [&mut h[inner.clone()], &mut u[inner.clone()], &mut v[inner.clone()]]);
                let still = |floor: f64| (-floor).max(0.0);
                match (edges, outside) {
                    (Edges::Open, true) => {
                        u.fill(0.0);
                        v.fill(0.0);
                        h.iter_mut().zip(floor).for_each(|(depth, floor)| *depth = still(*floor));
                    }
                    (Edges::Walls, true) => v[inner].iter_mut().for_each(|v| *v = -*v),
                    (_, false) => {}
                }
                for x in (0..HALO).chain(nx + HALO..width) {
                    let mirrored = beyond(x, nx, edges).0 + HALO;
                    (h[x], u[x], v[x]) = match edges {
                        Edges::Open => (still(floor[x]), 0.0, 0.0),
                        Edges::Walls => (h[mirrored], -u[mirrored], v[mirrored]),
                    };
                }
                e.iter_mut().zip(h.iter().zip(floor)).for_each(|(level, (depth, floor))| *level = depth + floor);
            });
        let (depth, level, east, north) = (&depth[..], &level[..], &east[..], &north[..]);

        // What flows through the faces between rows.
        (northward.mass.par_chunks_exact_mut(nx), northward.before.par_chunks_exact_mut(nx))
            .into_par_iter()
            .zip((northward.behind.par_chunks_exact_mut(nx), northward.tangential.par_chunks_exact_mut(nx)))
            .enumerate()
            .for_each(|(face, ((mass, before), (behind, tangential)))| {
                let rows = |all| stencil(all, face * width + HALO, width, nx);
                let faces = Faces { mass, before, behind, tangential };
                fluxes(rows(depth), rows(level), rows(north), rows(east), faces);
            });
        let northward = &*northward;

        // What flows through the faces within a row, and what both make of it.
        let own = HALO * nx..(HALO + rows.count) * nx;
        let [to_depth, to_east, to_north] =
            [&mut to.depth, &mut to.east, &mut to.north].map(|all| &mut all[own.clone()]);
        let change = Change { step: *time_step, cell: *cell, drag: *drag, second };
        (to_depth.par_chunks_exact_mut(nx), to_east.par_chunks_exact_mut(nx), to_north.par_chunks_exact_mut(nx))
            .into_par_iter()
            .enumerate()
            .for_each_init(
                || Fluxes::new(nx + 1),
                |eastward, (row, (to_depth, to_east, to_north))| {
                    let at = (row + HALO) * width;
                    let cells = |all| stencil(all, at, 1, nx + 1);
                    let Fluxes { mass, before, behind, tangential } = &mut *eastward;
                    let faces = Faces { mass, before, behind, tangential };
                    fluxes(cells(depth), cells(level), cells(east), cells(north), faces);

                    let start = (row + HALO) * nx;
                    let from = [&from.depth, &from.east, &from.north].map(|all| &all[start..start + nx]);
                    let around = |all| -> [Stencil; 2] {
                        [stencil(all, at + 1, 1, nx), stencil(all, at + HALO - width, width, nx)]
                    };
                    let south = northward.rows(row * nx, nx);
                    let north = northward.rows((row + 1) * nx, nx);
                    let faces = [[eastward.rows(0, nx), eastward.rows(1, nx)], [south, north]];
                    change.apply(from, around(depth), around(level), faces, [to_depth, to_east, to_north]);
                },
            );
    }

    fn note_heights(&mut self) {
        let (nx, time) = (self.nx, self.time);
        let own = &self.water.depth[HALO * nx..];
        (self.highest.par_chunks_exact_mut(nx), self.arrival.par_chunks_exact_mut(nx))
            .into_par_iter()
            .zip((own.par_chunks_exact(nx), self.still.par_chunks_exact(nx)))
            .for_each(|((highest, arrival), (depth, still))| {
                for x in 0..nx {
                    let height = depth[x] - still[x];
                    highest[x] = if height > highest[x] { height } else { highest[x] };
                    let arrives = height.abs() > ARRIVED && arrival[x] == NEVER;
                    arrival[x] = if arrives { time } else { arrival[x] };
                }
            });
    }
}

impl piton::State for Sea {
    fn describe<'a>(&'a mut self, fields: &mut piton::Fields<'a>) {
        let (nx, Rows { first, count, all }) = (self.nx, self.rows);
        let (global, offset, extent) = ([all, nx], [first, 0], [count, nx]);
        let halo = [[HALO, HALO], [0, 0]];
        fields.array("depth", &mut self.water.depth).block_of(global, offset, extent).halo(halo);
        fields.array("flow_east", &mut self.water.east).block_of(global, offset, extent).halo(halo);
        fields.array("flow_north", &mut self.water.north).block_of(global, offset, extent).halo(halo);
        fields.array("max_height", &mut self.highest).block_of(global, offset, extent);
        fields.array("arrival", &mut self.arrival).block_of(global, offset, extent);
        fields.value("time", &mut self.time);
        fields.constant("cell", &self.cell);
        fields.constant("time_step", &self.time_step);
        fields.constant("drag", &self.drag);
    }
}

/// Where a cell `index - HALO` of `count` is taken from, and whether it is beyond the edges.
fn beyond(index: usize, count: usize, edges: Edges) -> (usize, bool) {
    let inside = index.checked_sub(HALO).filter(|&inside| inside < count);
    let replaced = match (edges, index < HALO) {
        (Edges::Open, true) => 0,
        (Edges::Open, false) => count - 1,
        (Edges::Walls, true) => HALO - 1 - index,
        (Edges::Walls, false) => (2 * count + HALO - 1).saturating_sub(index),
    };
    (inside.unwrap_or(replaced), inside.is_none())
}

/// Four stretches of `count` cells, each `stride` behind the last.
fn stencil(all: &[f64], start: usize, stride: usize, count: usize) -> Stencil<'_> {
    std::array::from_fn(|cell| &all[start + cell * stride..start + cell * stride + count])
}

/// Depth and velocities from depth and flow. A film of water does not move.
fn velocities([depth, east, north]: [&[f64]; 3], [h, u, v]: [&mut [f64]; 3]) {
    h.copy_from_slice(depth);
    for (x, &depth) in depth.iter().enumerate() {
        let over = if depth > DRY { 1.0 / depth } else { 0.0 };
        u[x] = east[x] * over;
        v[x] = north[x] * over;
    }
}

/// Swaps [`HALO`] rows with the neighbours.
fn exchange(water: &mut Water, nx: usize, rows: usize, messages: &mut [Vec<f64>; 4], world: &World) {
    if world.size() == 1 {
        return;
    }
    let span = HALO * nx;
    let [to_previous, to_next, from_previous, from_next] = messages;
    for (index, all) in [&water.depth, &water.east, &water.north].into_iter().enumerate() {
        to_previous[index * span..][..span].copy_from_slice(&all[span..2 * span]);
        to_next[index * span..][..span].copy_from_slice(&all[rows * nx..][..span]);
    }
    world.exchange([to_previous, to_next], [from_previous, from_next]);
    for (index, all) in [&mut water.depth, &mut water.east, &mut water.north].into_iter().enumerate() {
        if world.rank() > 0 {
            all[..span].copy_from_slice(&from_previous[index * span..][..span]);
        }
        if world.rank() + 1 < world.size() {
            all[span + rows * nx..].copy_from_slice(&from_next[index * span..][..span]);
        }
    }
}

/// What makes new water of old and of what flows.
#[derive(Clone, Copy)]
struct Change {
    step: f64,
    cell: [f64; 2],
    drag: f64,
    second: bool,
}

impl Change {
    /// A row of cells: `around` are depth and level of the cells before, here, and behind, eastward and northward;
    /// `faces` the fluxes through the western, eastern, southern and northern faces.
    fn apply(
        self,
        from: [&[f64]; 3],
        depth: [Stencil; 2],
        level: [Stencil; 2],
        faces: [[FluxRow; 2]; 2],
        to: [&mut [f64]; 3],
    ) {
        let count = from[0].len();
        let [old_depth, old_east, old_north] = from.map(|row| &row[..count]);
        let [to_depth, to_east, to_north] = to.map(|row| &mut row[..count]);
        let [[west, east], [south, north]] = faces;
        let [by_x, by_y] = [self.step / self.cell[0], self.step / self.cell[1]];
        // The pressure of the cell's own water on its sloping floor and surface.
        let weight = |axis: usize, x: usize| {
            let ([h, e], at) = ([depth[axis], level[axis]], x);
            let slope = slope(e[0][at], e[1][at], e[2][at]) * all_wet(h[0][at], h[1][at], h[2][at]);
            GRAVITY * h[1][at] * slope
        };
        for x in 0..count {
            let h = old_depth[x] - by_x * (east.mass[x] - west.mass[x]) - by_y * (north.mass[x] - south.mass[x]);
            let p = old_east[x]
                - by_x * (east.before[x] - west.behind[x] + weight(0, x))
                - by_y * (north.tangential[x] - south.tangential[x]);
            let q = old_north[x]
                - by_x * (east.tangential[x] - west.tangential[x])
                - by_y * (north.before[x] - south.behind[x] + weight(1, x));
            let (h, p, q) = if self.second {
                (0.5 * (to_depth[x] + h), 0.5 * (to_east[x] + p), 0.5 * (to_north[x] + q))
            } else {
                (h, p, q)
            };
            // A cell that runs dry may end a rounding error below nothing.
            let h = if h > 0.0 { h } else { 0.0 };
            let drag = if self.second { self.step * self.drag * (p * p + q * q).sqrt() } else { 0.0 };
            // q / (1 + drag / h²): implicit, so that it only ever slows the water down.
            let slowed = if h > DRY { h * h / (h * h + drag) } else { 0.0 };
            to_depth[x] = h;
            to_east[x] = p * slowed;
            to_north[x] = q * slowed;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALISH: &str = include_str!("../data/salish-sea.xyz");

    fn all(rows: usize) -> Rows {
        Rows { first: 0, count: rows, all: rows }
    }

    fn hump(x: f64, y: f64) -> f64 {
        2.0 * (-((x - 0.45).powi(2) + (y - 0.15).powi(2)) / 0.002).exp()
    }

    fn volume(sea: &Sea) -> f64 {
        let own = &sea.water.depth[HALO * sea.nx..(HALO + sea.rows.count) * sea.nx];
        own.chunks(sea.nx).map(|row| row.iter().sum::<f64>()).sum()
    }

    #[test]
    fn a_lake_at_rest_over_the_real_floor_stays_exactly_at_rest() {
        let floor = SeaFloor::parse(SALISH).expect("sound");
        for edges in [Edges::Open, Edges::Walls] {
            let mut sea = Sea::new(&floor, 97, all(71), edges, |_, _| 0.0);
            let before = sea.water.clone();
            assert!(before.depth.iter().filter(|&&depth| depth == 0.0).count() > 1000, "there is land");
            (0..100).for_each(|_| sea.advance(&World::alone()));
            assert_eq!(sea.water, before);
            assert!(sea.highest.iter().all(|&height| height == 0.0));
            assert!(sea.arrival.iter().all(|&time| time == NEVER));
        }
    }

    #[test]
    fn a_lake_at_another_level_stays_at_rest_to_rounding() {
        // Floor plus depth is then not exactly the level, and there are shoals above it.
        let floor = SeaFloor::parse(SALISH).expect("sound");
        let mut sea = Sea::new(&floor, 60, all(45), Edges::Walls, |_, _| -0.3);
        let own = HALO * 60..(HALO + 45) * 60;
        (0..200).for_each(|_| sea.advance(&World::alone()));
        for (cell, &depth) in sea.water.depth[own.clone()].iter().enumerate().filter(|(_, depth)| **depth > 0.0) {
            assert!((depth - sea.still[cell] + 0.3).abs() < 1e-11, "cell {cell}: {depth}");
        }
        let flow = sea.water.east[own.clone()].iter().chain(&sea.water.north[own]);
        assert!(flow.fold(0.0, |most: f64, flow| most.max(flow.abs())) < 1e-8);
    }

    #[test]
    fn no_water_is_lost_or_made_between_walls_though_shores_flood_and_dry() {
        let floor = SeaFloor::parse(SALISH).expect("sound");
        let mut sea = Sea::new(&floor, 90, all(68), Edges::Walls, |x, y| 4.0 * hump(x, y));
        let before = volume(&sea);
        let wet = |sea: &Sea| -> Vec<bool> { sea.water.depth.iter().map(|&depth| depth > DRY).collect() };
        let wet_before = wet(&sea);
        (0..300).for_each(|_| sea.advance(&World::alone()));
        let change = (volume(&sea) - before) / before;
        assert!(change.abs() < 1e-13, "{change:e}");
        assert_ne!(wet(&sea), wet_before);
        assert!(sea.water.depth.iter().all(|depth| depth.is_finite() && *depth >= 0.0));
    }

    #[test]
    fn waves_leave_through_open_edges() {
        let floor = SeaFloor::from_fn(2, 2, |_, _| -100.0);
        let energy = |edges| {
            let mut sea = Sea::new(&floor, 60, all(60), edges, |x, y| hump(x, y - 0.35));
            let steps = (1.5 * floor.extent_metres()[0] / (GRAVITY * 100.0).sqrt() / sea.time_step) as usize;
            (0..steps).for_each(|_| sea.advance(&World::alone()));
            (0..3600).map(|cell| sea.height(cell).powi(2)).sum::<f64>()
        };
        let (open, walls) = (energy(Edges::Open), energy(Edges::Walls));
        assert!(open < 0.01 * walls, "{open} {walls}");
    }

    #[test]
    fn a_small_wave_travels_at_the_speed_of_shallow_water() {
        let floor = SeaFloor::from_fn(2, 2, |_, _| -50.0);
        let mut sea = Sea::new(&floor, 400, all(4), Edges::Walls, |x, _| 1e-3 * (-(x / 0.05).powi(2)).exp());
        let speed = (GRAVITY * 50.0).sqrt();
        while sea.time * speed < 0.6 * floor.extent_metres()[0] {
            sea.advance(&World::alone());
        }
        let heights: Vec<f64> = (400..800).map(|cell| sea.height(cell)).collect();
        let moment: f64 = heights.iter().enumerate().map(|(x, height)| (x as f64 + 0.5) * sea.cell[0] * height).sum();
        let (middle, expected) = (moment / heights.iter().sum::<f64>(), sea.time * speed);
        assert!((middle / expected - 1.0).abs() < 0.003, "{middle} {expected}");
    }

    #[test]
    fn a_breaking_dam_follows_the_exact_solution() {
        // Stoker: 2 m of water against 0.5 m; the plateau between bore and rarefaction, and where the bore is.
        let floor = SeaFloor::from_fn(2, 2, |_, _| -0.5);
        let [width, _] = floor.extent_metres();
        let mut sea = Sea::new(&floor, 400, all(4), Edges::Walls, |x, _| if x < 0.5 { 1.5 } else { 0.0 });
        // The exact solution knows no drag, and in so wide a sea it would matter.
        sea.drag = 0.0;
        let bore_speed = |middle: f64| (GRAVITY * middle * (middle + 0.5) / (2.0 * 0.5)).sqrt();
        let mismatch = |middle: f64| {
            let behind_bore = bore_speed(middle) * (1.0 - 0.5 / middle);
            behind_bore - 2.0 * ((GRAVITY * 2.0).sqrt() - (GRAVITY * middle).sqrt())
        };
        let (mut low, mut high) = (0.5, 2.0);
        for _ in 0..60 {
            let middle = 0.5 * (low + high);
            *if mismatch(middle) > 0.0 { &mut high } else { &mut low } = middle;
        }
        while bore_speed(low) * sea.time < 0.3 * width {
            sea.advance(&World::alone());
        }
        let row = &sea.water.depth[HALO * 400..][..400];
        let bore = row.iter().rposition(|&depth| depth > 0.5 * (low + 0.5)).expect("a bore") as f64 / 400.0;
        let expected = 0.5 + bore_speed(low) * sea.time / width;
        assert!((bore - expected).abs() < 0.01, "bore at {bore}, not {expected}");
        let plateau = row[(400.0 * (expected - 0.03)) as usize];
        assert!((plateau - low).abs() < 0.01, "plateau {plateau}, not {low}");
    }

    #[test]
    fn the_result_depends_on_neither_ranks_nor_threads() {
        let floor = SeaFloor::parse(SALISH).expect("sound");
        let run = |ranks: usize, threads: usize| {
            let mut results = World::run(ranks, |world| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
                let rows = world.rows(45, HALO).expect("enough rows");
                let mut sea = Sea::new(&floor, 60, rows, Edges::Open, hump);
                // The world's channels belong to this thread, so only the parts that compute enter the pool.
                for _ in 0..60 {
                    exchange(&mut sea.water, 60, rows.count, &mut sea.work.messages, world);
                    pool.install(|| sea.stage(false));
                    exchange(&mut sea.work.half, 60, rows.count, &mut sea.work.messages, world);
                    pool.install(|| sea.stage(true));
                    sea.time += sea.time_step;
                    pool.install(|| sea.note_heights());
                }
                let own = HALO * 60..(HALO + rows.count) * 60;
                [&sea.water.depth[own.clone()], &sea.water.east[own.clone()], &sea.water.north[own]]
                    .into_iter()
                    .chain([&sea.highest[..], &sea.arrival[..]])
                    .map(|field| world.gather(field, rows, 60))
                    .collect::<Vec<_>>()
            });
            results.swap_remove(0)
        };
        let alone = run(1, 1);
        assert!(alone.iter().all(Option::is_some));
        for (ranks, threads) in [(1, 3), (2, 1), (3, 2), (7, 1), (22, 1)] {
            assert!(run(ranks, threads) == alone, "{ranks} ranks of {threads} threads");
        }
    }
}
