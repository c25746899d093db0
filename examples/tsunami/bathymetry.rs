//! The floor of the sea and the land around it.
//!
//! Comes in: a text file of longitude, latitude and elevation on a regular grid. Goes out: elevations anywhere in it.

use std::f64::consts::PI;

/// Mean radius of the Earth (m).
const EARTH: f64 = 6_371_009.0;
/// No sensible file is anywhere near; bounds what a wrong one can make us hold.
const MOST_POINTS: usize = 1 << 24;

/// Elevations where meridians and parallels cross; these need not be evenly spaced (in a Mercator map they are not).
#[derive(Debug, Clone, PartialEq)]
pub struct SeaFloor {
    /// Of the columns, from west to east (degrees east).
    longitudes: Vec<f64>,
    /// Of the rows, from south to north (degrees north).
    latitudes: Vec<f64>,
    /// Metres above sea level, rows from south to north.
    elevation: Vec<f64>,
}

impl SeaFloor {
    /// Reads lines of `longitude latitude elevation`, each row from west to east, rows from south to north; lines with
    /// `#` are comments.
    ///
    /// # Errors
    /// Says which line is not what it should be.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut points: Vec<[f64; 3]> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let mut numbers = line.split_whitespace().map(|word| word.parse::<f64>().ok().filter(|x| x.is_finite()));
            match (numbers.next().flatten(), numbers.next().flatten(), numbers.next().flatten(), numbers.next()) {
                (Some(x), Some(y), Some(z), None) if points.len() < MOST_POINTS => points.push([x, y, z]),
                (Some(_), Some(_), Some(_), None) => return Err(format!("more than {MOST_POINTS} points")),
                _ => return Err(format!("line {}: expected 'longitude latitude elevation', not '{line}'", index + 1)),
            }
        }
        let Some(&[_, south, _]) = points.first() else {
            return Err("no points".to_owned());
        };
        let columns = points.iter().take_while(|point| point[1] == south).count();
        if columns < 2 || points.len() < 2 * columns || !points.len().is_multiple_of(columns) {
            return Err(format!("{} points in rows of {columns} are no grid", points.len()));
        }
        let floor = Self {
            longitudes: points[..columns].iter().map(|point| point[0]).collect(),
            latitudes: points.iter().step_by(columns).map(|point| point[1]).collect(),
            elevation: points.iter().map(|point| point[2]).collect(),
        };
        for (index, point) in points.iter().enumerate() {
            let expected = [floor.longitudes[index % columns], floor.latitudes[index / columns]];
            if point[..2] != expected {
                return Err(format!("point {} at {} {} is off the grid", index + 1, point[0], point[1]));
            }
        }
        if [&floor.longitudes, &floor.latitudes].iter().any(|axis| !axis.is_sorted_by(|a, b| a < b)) {
            return Err("points must go from west to east, and rows from south to north".to_owned());
        }
        Ok(floor)
    }

    /// A made-up floor of one degree each way at the equator, to test with.
    #[cfg(test)]
    pub fn from_fn(columns: usize, rows: usize, elevation: impl Fn(usize, usize) -> f64) -> Self {
        let axis = |points: usize| (0..points).map(|index| index as f64 / (points - 1) as f64 - 0.5).collect();
        let elevation = (0..columns * rows).map(|index| elevation(index % columns, index / columns)).collect();
        Self { longitudes: axis(columns), latitudes: axis(rows), elevation }
    }

    /// The westernmost and the easternmost longitude (degrees).
    pub fn longitude_range(&self) -> [f64; 2] {
        [self.longitudes[0], self.longitudes[self.longitudes.len() - 1]]
    }

    /// The southernmost and the northernmost latitude (degrees).
    pub fn latitude_range(&self) -> [f64; 2] {
        [self.latitudes[0], self.latitudes[self.latitudes.len() - 1]]
    }

    /// From west to east along the middle parallel, and from south to north (m).
    pub fn extent_metres(&self) -> [f64; 2] {
        let degree = EARTH * PI / 180.0;
        let ([west, east], [south, north]) = (self.longitude_range(), self.latitude_range());
        [(east - west) * degree * (0.5 * (south + north) * PI / 180.0).cos(), (north - south) * degree]
    }

    /// Where a place is, as shares of the way from west to east and from south to north.
    pub fn share_of(&self, longitude: f64, latitude: f64) -> [f64; 2] {
        let ([west, east], [south, north]) = (self.longitude_range(), self.latitude_range());
        [(longitude - west) / (east - west), (latitude - south) / (north - south)]
    }

    /// The elevation at shares `x` and `y` of the way, between the four points around (bilinear).
    pub fn elevation(&self, x: f64, y: f64) -> f64 {
        let ([column, row], [x, y]) = self.corner(x, y);
        let at = |dx: usize, dy: usize| self.elevation[(row + dy) * self.longitudes.len() + column + dx];
        (1.0 - y) * ((1.0 - x) * at(0, 0) + x * at(1, 0)) + y * ((1.0 - x) * at(0, 1) + x * at(1, 1))
    }

    /// A smooth surface near the points (cubic B-spline), whose slopes do not jump: for shading only.
    pub fn smooth_elevation(&self, x: f64, y: f64) -> f64 {
        let weights = |t: f64| {
            let s = 1.0 - t;
            [s * s * s, 3.0 * t * t * t - 6.0 * t * t + 4.0, 3.0 * s * s * s - 6.0 * s * s + 4.0, t * t * t]
                .map(|weight| weight / 6.0)
        };
        self.weighted(x, y, weights, |elevation| elevation)
    }

    /// Whether a map shows land. The shore is half-way between wet and dry points, in a smooth line (Catmull and Rom's
    /// through the elevations as far as they are small), however steep the land is: for drawing only.
    pub fn looks_dry(&self, x: f64, y: f64) -> bool {
        let weights = |t: f64| {
            let s = 1.0 - t;
            let (near, far) = (|t: f64| 1.0 - 2.5 * t * t + 1.5 * t * t * t, |s: f64, t: f64| -0.5 * t * s * s);
            [far(s, t), near(t), near(s), far(t, s)]
        };
        self.weighted(x, y, weights, |elevation| (elevation / 5.0).clamp(-1.0, 1.0)) >= 0.0
    }

    /// A sum over the 4 × 4 points around.
    fn weighted(&self, x: f64, y: f64, weights: impl Fn(f64) -> [f64; 4], value: impl Fn(f64) -> f64) -> f64 {
        let ([column, row], [x, y]) = self.corner(x, y);
        let (across, along) = (weights(x), weights(y));
        let near = |index: usize, offset: usize, count: usize| (index + offset).saturating_sub(1).min(count - 1);
        let (columns, rows) = (self.longitudes.len(), self.latitudes.len());
        let mut sum = 0.0;
        for (dy, along) in along.iter().enumerate() {
            for (dx, across) in across.iter().enumerate() {
                let at = near(row, dy, rows) * columns + near(column, dx, columns);
                sum += along * across * value(self.elevation[at]);
            }
        }
        sum
    }

    /// The point to the south-west, and how far from it towards the next ones.
    fn corner(&self, x: f64, y: f64) -> ([usize; 2], [f64; 2]) {
        let split = |share: f64, axis: &[f64]| {
            let [first, last] = [axis[0], axis[axis.len() - 1]];
            let at = first + share.clamp(0.0, 1.0) * (last - first);
            let index = axis.partition_point(|&mark| mark <= at).clamp(1, axis.len() - 1) - 1;
            (index, (at - axis[index]) / (axis[index + 1] - axis[index]))
        };
        let ((column, x), (row, y)) = (split(x, &self.longitudes), split(y, &self.latitudes));
        ([column, row], [x, y])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALISH: &str = include_str!("../data/salish-sea.xyz");

    #[test]
    fn the_real_sea_floor_is_read() {
        let floor = SeaFloor::parse(SALISH).expect("it is sound");
        assert_eq!((floor.longitudes.len(), floor.latitudes.len()), (120, 91));
        assert_eq!(floor.elevation(0.0, 0.0), -1405.0);
        assert_eq!(floor.elevation(1.0, 1.0), 1015.0);
        let [width, height] = floor.extent_metres();
        assert!((width - 289.4e3).abs() < 2e3 && (height - 218.8e3).abs() < 1e3, "{width} {height}");
        // The Strait of Juan de Fuca is deep; north-east of Vancouver there are mountains.
        let at = |longitude, latitude| {
            let [x, y] = floor.share_of(longitude, latitude);
            floor.elevation(x, y)
        };
        assert!(at(236.2, 48.3) < -50.0 && at(236.85, 49.6) > 300.0);
    }

    #[test]
    fn what_is_no_grid_is_refused_with_its_place() {
        let grid = "# a comment\n0 0 1\n1 0 2\n2 0 3\n0 1 4\n1 1 5\n2 1 6\n";
        assert_eq!(SeaFloor::parse(grid).expect("sound").elevation(0.25, 0.5), (1.5 + 4.5) / 2.0);
        for (from, to, message) in [
            ("1 0 2", "1 0", "line 3"),
            ("1 0 2", "1 0 nan", "line 3"),
            ("1 0 2", "1.4 0 2", "point 5"),
            ("2 1 6\n", "", "no grid"),
            ("0 1 4\n1 1 5\n2 1 6", "0 -1 4\n1 -1 5\n2 -1 6", "south to north"),
        ] {
            let error = SeaFloor::parse(&grid.replace(from, to)).expect_err("broken");
            assert!(error.contains(message), "{error}");
        }
        assert!(SeaFloor::parse("").is_err());
    }
}
