//! Tide gauges: how high the water stands at a few towns, as the simulation goes on.

use crate::bathymetry::SeaFloor;
use crate::common::World;
use crate::solver::Sea;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Towns by the sea: name, degrees east, degrees north.
const TOWNS: [(&str, f64, f64); 8] = [
    ("Neah Bay", 235.39, 48.37),
    ("Port Renfrew", 235.58, 48.55),
    ("Port Angeles", 236.57, 48.12),
    ("Victoria", 236.63, 48.42),
    ("Bellingham", 237.50, 48.75),
    ("Nanaimo", 236.06, 49.17),
    ("Vancouver", 236.85, 49.30),
    ("Powell River", 235.45, 49.83),
];
/// A gauge stands in water at least this deep (m).
const DEEP_ENOUGH: f64 = 5.0;

/// A gauge in the cell nearest to its town that is deep enough.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gauge {
    /// The town.
    pub name: &'static str,
    /// Its column and row in the whole sea.
    pub cell: [usize; 2],
}

/// The gauges in a sea of `nx` by `ny` cells; none where there is no water.
pub fn gauges(floor: &SeaFloor, nx: usize, ny: usize) -> Vec<Gauge> {
    let [width, height] = floor.extent_metres();
    let share = |index: usize, count: usize| (index as f64 + 0.5) / count as f64;
    let wet: Vec<[usize; 2]> = (0..nx * ny)
        .map(|cell| [cell % nx, cell / nx])
        .filter(|[x, y]| floor.elevation(share(*x, nx), share(*y, ny)) <= -DEEP_ENOUGH)
        .collect();
    TOWNS
        .iter()
        .filter_map(|&(name, longitude, latitude)| {
            let [east, north] = floor.share_of(longitude, latitude);
            let away = |[x, y]: [usize; 2]| ((share(x, nx) - east) * width).hypot((share(y, ny) - north) * height);
            let nearest = wet.iter().copied().min_by(|a, b| away(*a).total_cmp(&away(*b)))?;
            Some(Gauge { name, cell: nearest })
        })
        .collect()
}

/// How high the water stands above its still level at each gauge (m), on every rank. Collective.
pub fn read(gauges: &[Gauge], sea: &Sea, world: &World) -> Vec<f64> {
    let mut heights: Vec<f64> = gauges
        .iter()
        .map(|gauge| match gauge.cell[1].checked_sub(sea.rows.first) {
            Some(row) if row < sea.rows.count => sea.height(row * sea.nx + gauge.cell[0]),
            _ => f64::NEG_INFINITY,
        })
        .collect();
    world.max(&mut heights);
    heights
}

/// The file that the gauges write: a line each time they are read. It only grows.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
}

impl Log {
    /// At `path`; nothing is written yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Begins it anew.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn begin(&self, gauges: &[Gauge]) -> io::Result<()> {
        let names: String = gauges.iter().map(|gauge| format!(",{} (m)", gauge.name)).collect();
        File::create(&self.path)?.write_all(format!("time (s){names}\n").as_bytes())
    }

    /// Adds a line, at once and in one piece: a checkpoint records how long the file is.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn add(&self, time: f64, heights: &[f64]) -> io::Result<()> {
        let heights: String = heights.iter().map(|height| format!(",{height:.4}")).collect();
        let mut file = File::options().append(true).create(true).open(&self.path)?;
        file.write_all(format!("{time:.1}{heights}\n").as_bytes())
    }
}
