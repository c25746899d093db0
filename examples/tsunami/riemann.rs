//! The flux between two cells of shallow water over an uneven floor.
//!
//! Second order in space: water level, depth and velocities are straight lines in a cell, with limited slopes. At each
//! face the depths on both sides are taken above the higher of the two floors (hydrostatic reconstruction: Audusse,
//! Bouchut, Bristeau, Klein and Perthame, SIAM J. Sci. Comput. 25, 2004), then an HLL flux carries mass and normal
//! momentum, and the tangential velocity goes with the mass. What each side gets is written as a difference to its own
//! hydrostatic pressure, so that water at rest over any floor gives exactly zero, not zero up to rounding.

/// Acceleration of gravity (m/s²).
pub const GRAVITY: f64 = 9.806_65;
/// Where the water is no deeper (m), it does not flow.
pub const DRY: f64 = 1e-3;

/// The same stretch of four rows of cells: two before the faces, two behind them.
pub type Stencil<'a> = [&'a [f64]; 4];

/// What flows through a row of faces. The momentum is what the cells before and behind the face lose and gain in the
/// direction of the face's normal (m³/s²); the rest is per metre of face.
#[derive(Debug, Clone, Default)]
pub struct Fluxes {
    /// Water (m²/s).
    pub mass: Vec<f64>,
    /// Normal momentum, less the pressure in the cell before the face.
    pub before: Vec<f64>,
    /// Normal momentum, less the pressure in the cell behind the face.
    pub behind: Vec<f64>,
    /// Tangential momentum.
    pub tangential: Vec<f64>,
}

impl Fluxes {
    /// Of no water.
    pub fn new(faces: usize) -> Self {
        let none = vec![0.0; faces];
        Self { mass: none.clone(), before: none.clone(), behind: none.clone(), tangential: none }
    }

    /// The `count` faces from `start` on.
    pub fn rows(&self, start: usize, count: usize) -> FluxRow<'_> {
        let range = start..start + count;
        FluxRow {
            mass: &self.mass[range.clone()],
            before: &self.before[range.clone()],
            behind: &self.behind[range.clone()],
            tangential: &self.tangential[range],
        }
    }
}

/// One row of [`Fluxes`], to be read.
#[derive(Debug, Clone, Copy)]
pub struct FluxRow<'a> {
    /// As in [`Fluxes`].
    pub mass: &'a [f64],
    /// As in [`Fluxes`].
    pub before: &'a [f64],
    /// As in [`Fluxes`].
    pub behind: &'a [f64],
    /// As in [`Fluxes`].
    pub tangential: &'a [f64],
}

/// One row of [`Fluxes`], to be written.
pub struct Faces<'a> {
    /// As in [`Fluxes`].
    pub mass: &'a mut [f64],
    /// As in [`Fluxes`].
    pub before: &'a mut [f64],
    /// As in [`Fluxes`].
    pub behind: &'a mut [f64],
    /// As in [`Fluxes`].
    pub tangential: &'a mut [f64],
}

// Comparisons compile to one instruction; f64::min and f64::max take care of NaN, which costs three.
#[inline(always)]
fn least(a: f64, b: f64) -> f64 {
    if a < b { a } else { b }
}

#[inline(always)]
fn most(a: f64, b: f64) -> f64 {
    if a > b { a } else { b }
}

/// The change of a quantity across the middle one of three cells: central, but at most twice either one-sided
/// difference, and none at an extremum (van Leer's monotonised central limiter).
#[inline(always)]
pub fn slope(before: f64, here: f64, behind: f64) -> f64 {
    let (left, right) = (here - before, behind - here);
    let limit = least(2.0 * least(left.abs(), right.abs()), 0.5 * (left + right).abs());
    if left * right > 0.0 { limit.copysign(left) } else { 0.0 }
}

/// 1 where three cells are wet, else 0: beside the shore the state is taken as constant in a cell, since a line through
/// the level of water and the height of a beach means nothing.
#[inline(always)]
pub fn all_wet(before: f64, here: f64, behind: f64) -> f64 {
    if least(least(before, here), behind) > DRY { 1.0 } else { 0.0 }
}

/// The fluxes through a row of faces, from depth, water level, normal and tangential velocity of the cells around.
pub fn fluxes(depth: Stencil, level: Stencil, normal: Stencil, tangential: Stencil, faces: Faces) {
    let count = faces.mass.len();
    let [h, e, u, v] = [depth, level, normal, tangential].map(|rows| rows.map(|row| &row[..count]));
    let (before, behind, sideways) =
        (&mut faces.before[..count], &mut faces.behind[..count], &mut faces.tangential[..count]);
    for i in 0..count {
        // The state on both sides of the face.
        let (wet_l, wet_r) = (all_wet(h[0][i], h[1][i], h[2][i]), all_wet(h[1][i], h[2][i], h[3][i]));
        let left = |q: &Stencil| q[1][i] + 0.5 * wet_l * slope(q[0][i], q[1][i], q[2][i]);
        let right = |q: &Stencil| q[2][i] - 0.5 * wet_r * slope(q[1][i], q[2][i], q[3][i]);
        let (hl, el, ul, vl) = (left(&h), left(&e), left(&u), left(&v));
        let (hr, er, ur, vr) = (right(&h), right(&e), right(&u), right(&v));
        // Only water above the higher floor meets.
        let floor = most(el - hl, er - hr);
        let (hl, hr) = (most(0.0, el - floor), most(0.0, er - floor));
        let (cl, cr) = ((GRAVITY * hl).sqrt(), (GRAVITY * hr).sqrt());
        let slowest = least(0.0, least(ul - cl, ur - cr));
        let fastest = most(0.0, most(ul + cl, ur + cr));
        // Where both speeds vanish, so does all that is divided.
        let share = 1.0 / most(fastest - slowest, f64::MIN_POSITIVE);
        let (ql, qr) = (hl * ul, hr * ur);
        let mass = (fastest * ql - slowest * qr + slowest * fastest * (hr - hl)) * share;
        let pressure = 0.5 * GRAVITY * (hl + hr) * (hl - hr);
        let momentum = ql * ul - qr * ur + pressure;
        faces.mass[i] = mass;
        before[i] = ql * ul + slowest * share * (momentum + fastest * (qr - ql));
        behind[i] = qr * ur + fastest * share * (momentum + slowest * (qr - ql));
        sideways[i] = mass * if mass > 0.0 { vl } else { vr };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The flux at one face: mass, before, behind, tangential.
    fn one(h: [f64; 4], floor: [f64; 4], u: [f64; 4], v: [f64; 4]) -> [f64; 4] {
        let e: Vec<f64> = h.iter().zip(floor).map(|(h, z)| h + z).collect();
        let stencil = |values: &[f64]| -> Vec<[f64; 1]> { values.iter().map(|&value| [value]).collect() };
        let rows = [&h[..], &e, &u, &v].map(stencil);
        let [h, e, u, v] = std::array::from_fn(|quantity| std::array::from_fn(|cell| &rows[quantity][cell][..]));
        let mut out = [[0.0]; 4];
        let [mass, before, behind, tangential] = &mut out;
        fluxes(h, e, u, v, Faces { mass, before, behind, tangential });
        out.map(|value| value[0])
    }

    #[test]
    fn water_at_rest_gives_exactly_nothing() {
        let still = [0.0; 4];
        for floor in [[-3.1, -2.7, -9.3, -0.2], [-5.0, -0.1, 4.0, 2.0], [7.0, 3.0, -0.3, -9.0], [1.0, 2.0, 3.0, 1.0]] {
            let h = floor.map(|z: f64| (-z).max(0.0));
            assert_eq!(one(h, floor, still, still), [0.0; 4], "{floor:?}");
        }
    }

    #[test]
    fn a_wall_lets_nothing_through() {
        // The mirror image with the velocity turned round is what stands for a wall.
        let flux = one([2.0, 3.0, 3.0, 2.0], [-4.0, -3.5, -3.5, -4.0], [0.3, 0.7, -0.7, -0.3], [0.1, 0.2, 0.2, 0.1]);
        assert_eq!((flux[0], flux[3]), (0.0, 0.0));
        assert!(flux[1] > 0.0 && flux[1] == flux[2]);
    }

    #[test]
    fn uniform_flow_is_carried_exactly() {
        let [mass, before, behind, tangential] = one([4.0; 4], [-4.0; 4], [0.5; 4], [0.25; 4]);
        let close = |a: f64, b: f64| (a - b).abs() < 1e-14;
        assert!(close(mass, 2.0) && close(before, 1.0) && close(behind, 1.0) && close(tangential, 0.5));
    }

    #[test]
    fn turning_the_world_round_turns_the_flux_round() {
        let (h, z) = ([1.0, 2.0, 1.5, 3.0], [-2.0, -1.7, -1.9, -2.5]);
        let (u, v) = ([0.1, -0.4, 0.9, 0.2], [0.5, 0.1, -0.3, 0.7]);
        let reverse = |mut values: [f64; 4], sign: f64| {
            values.reverse();
            values.map(|value| sign * value)
        };
        let there = one(h, z, u, v);
        let back = one(reverse(h, 1.0), reverse(z, 1.0), reverse(u, -1.0), reverse(v, 1.0));
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-13, "{there:?} {back:?}");
        close(there[0], -back[0]);
        close(there[1], back[2]);
        close(there[2], back[1]);
        close(there[3], -back[3]);
    }
}
