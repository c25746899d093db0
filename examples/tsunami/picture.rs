//! The picture of a tsunami: how high the wave rose, over the shaded relief of land and sea floor, with lines where it
//! was after each ten minutes.

use crate::bathymetry::SeaFloor;
use crate::canvas::{Anchor, Canvas, Colour, Style, along, mix};
use crate::gauges::Gauge;
use rayon::prelude::*;

/// What the picture shows, of the whole sea.
pub struct Scene<'a> {
    /// The relief.
    pub floor: &'a SeaFloor,
    /// Cells from west to east and from south to north.
    pub size: [usize; 2],
    /// The greatest rise of the water (m).
    pub highest: &'a [f64],
    /// When the wave arrived (s), negative where it did not.
    pub arrival: &'a [f64],
    /// Where towns are.
    pub gauges: &'a [Gauge],
    /// Since the beginning (s).
    pub time: f64,
}

const MAP: [usize; 2] = [1440, 1089];
const MARGIN: [usize; 2] = [84, 104];
const CANVAS: [usize; 2] = [1440 + 84 + 44, 1089 + 104 + 156];

/// Least and greatest height of the scale (m); what is lower is left transparent.
const SCALE: [f64; 2] = [0.01, 3.0];
const TICKS: [(f64, &str); 6] =
    [(0.01, "1 cm"), (0.03, "3 cm"), (0.1, "10 cm"), (0.3, "30 cm"), (1.0, "1 m"), (3.0, "3 m")];
/// Seconds between two lines of arrival.
const LINES: f64 = 600.0;

const PAPER: Colour = [0.985, 0.982, 0.972];
const INK: Colour = [0.13, 0.15, 0.19];
const WHITE: Colour = [1.0, 1.0, 1.0];
/// From dark blue over green to yellow, ever lighter: also told apart by the colour-blind, and in grey (after
/// matplotlib's viridis).
const WAVE: [Colour; 11] = [
    [0.267, 0.005, 0.329],
    [0.283, 0.141, 0.458],
    [0.254, 0.265, 0.530],
    [0.207, 0.372, 0.553],
    [0.164, 0.471, 0.558],
    [0.128, 0.567, 0.551],
    [0.135, 0.659, 0.518],
    [0.267, 0.749, 0.441],
    [0.478, 0.821, 0.317],
    [0.741, 0.873, 0.150],
    [0.993, 0.906, 0.144],
];
const LAND: [Colour; 5] =
    [[0.760, 0.765, 0.715], [0.735, 0.725, 0.665], [0.770, 0.745, 0.690], [0.860, 0.850, 0.825], [0.975, 0.975, 0.970]];
const SEA: [Colour; 3] = [[0.600, 0.640, 0.690], [0.460, 0.510, 0.585], [0.330, 0.375, 0.460]];

impl Scene<'_> {
    /// Draws it.
    pub fn draw(&self) -> Canvas {
        let mut canvas = Canvas::new(CANVAS[0], CANVAS[1], PAPER);
        let arrival = self.paint_map(&mut canvas);
        self.draw_arrival(&mut canvas, &arrival);
        self.draw_frame(&mut canvas);
        self.draw_gauges(&mut canvas);
        self.draw_words(&mut canvas);
        canvas
    }

    /// Paints relief and wave; returns when the wave was at each pixel of the map, NaN where it was not.
    fn paint_map(&self, canvas: &mut Canvas) -> Vec<f64> {
        let (width, pixels) = canvas.pixels_mut();
        let mut arrival = vec![f64::NAN; MAP[0] * MAP[1]];
        let rows = &mut pixels[MARGIN[1] * width..(MARGIN[1] + MAP[1]) * width];
        rows.par_chunks_exact_mut(width).zip(arrival.par_chunks_exact_mut(MAP[0])).enumerate().for_each(
            |(row, (pixels, arrival))| {
                for (column, pixel) in pixels[MARGIN[0]..MARGIN[0] + MAP[0]].iter_mut().enumerate() {
                    let mut sum = [0.0; 3];
                    for corner in 0..4 {
                        let x = (column as f64 + 0.25 + 0.5 * f64::from(corner % 2)) / MAP[0] as f64;
                        let y = 1.0 - (row as f64 + 0.25 + 0.5 * f64::from(corner / 2)) / MAP[1] as f64;
                        let colour = self.colour(x, y);
                        (0..3).for_each(|part| sum[part] += 0.25 * colour[part]);
                    }
                    *pixel = sum;
                    let x = (column as f64 + 0.5) / MAP[0] as f64;
                    let y = 1.0 - (row as f64 + 0.5) / MAP[1] as f64;
                    arrival[column] = self.arrival_at(x, y);
                }
            },
        );
        arrival
    }

    /// The colour of the map where the shares of the way eastward and northward are `x` and `y`.
    fn colour(&self, x: f64, y: f64) -> Colour {
        let elevation = self.floor.elevation(x, y);
        let [width, height] = self.floor.extent_metres();
        // Light from the north-west on a relief twice as steep as it is.
        let near = 0.75 / MAP[0] as f64;
        let rise = |dx: f64, dy: f64| self.floor.smooth_elevation(x + dx, y + dy);
        let east = 2.0 * (rise(near, 0.0) - rise(-near, 0.0)) / (2.0 * near * width);
        let north = 2.0 * (rise(0.0, near) - rise(0.0, -near)) / (2.0 * near * height);
        let light =
            (0.5 * east - 0.5 * north + std::f64::consts::FRAC_1_SQRT_2) / (1.0 + east * east + north * north).sqrt();
        let shade = light / std::f64::consts::FRAC_1_SQRT_2;
        if self.floor.looks_dry(x, y) {
            let tint = along(&LAND, (elevation.max(0.0) / 2000.0).sqrt());
            return tint.map(|part| (part * (0.35 + 0.65 * shade)).clamp(0.0, 1.0));
        }
        let tint = along(&SEA, (-elevation.min(0.0) / 500.0).sqrt()).map(|part| part * (0.75 + 0.25 * shade));
        match self.highest_at(x, y) {
            Some(height) if height > SCALE[0] => {
                let share = (height / SCALE[0]).ln() / (SCALE[1] / SCALE[0]).ln();
                let wave = along(&WAVE, share).map(|part| part * (0.85 + 0.15 * shade.min(1.3)));
                mix(tint, wave, (share * 12.0).min(0.94))
            }
            _ => tint,
        }
    }

    /// The four cells around a place, and how near each is.
    fn around(&self, x: f64, y: f64) -> [(usize, f64); 4] {
        let [nx, ny] = self.size;
        let split = |share: f64, count: usize| {
            let place = (share * count as f64 - 0.5).clamp(0.0, (count - 1) as f64);
            let index = (place as usize).min(count - 2);
            (index, place - index as f64)
        };
        let ((column, x), (row, y)) = (split(x, nx), split(y, ny));
        std::array::from_fn(|corner| {
            let (dx, dy) = (corner % 2, corner / 2);
            let weight = if dx == 0 { 1.0 - x } else { x } * if dy == 0 { 1.0 - y } else { y };
            ((row + dy) * nx + column + dx, weight)
        })
    }

    /// The greatest height between the cells that the wave came to: beside the shore, dry cells say nothing.
    fn highest_at(&self, x: f64, y: f64) -> Option<f64> {
        let (sum, weights) = self
            .around(x, y)
            .into_iter()
            .filter(|(cell, _)| self.highest[*cell] > 0.0)
            .fold((0.0, 0.0), |(sum, weights), (cell, weight)| (sum + weight * self.highest[cell], weights + weight));
        (weights > 1e-6).then(|| sum / weights)
    }

    fn arrival_at(&self, x: f64, y: f64) -> f64 {
        let around = self.around(x, y);
        if self.floor.looks_dry(x, y) || around.iter().any(|(cell, _)| self.arrival[*cell] < 0.0) {
            return f64::NAN;
        }
        around.iter().map(|(cell, weight)| weight * self.arrival[*cell]).sum()
    }

    fn draw_arrival(&self, canvas: &mut Canvas, arrival: &[f64]) {
        let mut candidates: Vec<(u64, f64, [f64; 2])> = Vec::new();
        for row in 1..MAP[1] - 1 {
            for column in 1..MAP[0] - 1 {
                let at = |dx: usize, dy: usize| arrival[(row + dy - 1) * MAP[0] + column + dx - 1] / LINES;
                let here = at(1, 1);
                let steep = (0.5 * (at(2, 1) - at(0, 1))).hypot(0.5 * (at(1, 2) - at(1, 0)));
                let line = here.round();
                // A jump is where two waves met or something dried: no line.
                if here.is_nan() || line < 1.0 || steep.is_nan() || steep <= 0.0 || steep > 0.12 {
                    continue;
                }
                let away = (here - line).abs() / steep;
                canvas.blend(MARGIN[0] + column, MARGIN[1] + row, WHITE, (1.35 - away).clamp(0.0, 1.0) * 0.9);
                if away < 0.5 {
                    let (x, y) = ((column as f64 + 0.5) / MAP[0] as f64, 1.0 - (row as f64 + 0.5) / MAP[1] as f64);
                    let depth = -self.floor.smooth_elevation(x, y);
                    candidates.push((line as u64, depth, [column as f64, row as f64]));
                }
            }
        }
        // Each line is labelled where it is deepest, as far from shores and other labels as may be.
        let mut taken: Vec<[f64; 2]> = self.gauges.iter().map(|gauge| self.pixel(gauge.cell)).collect();
        candidates.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.total_cmp(&a.1)));
        let mut last = 0;
        for (line, _, [x, y]) in candidates {
            let place = [x + MARGIN[0] as f64, y + MARGIN[1] as f64];
            let inside = x > 50.0 && x < MAP[0] as f64 - 50.0 && y > 30.0 && y < MAP[1] as f64 - 30.0;
            let free =
                taken.iter().all(|other| (other[0] - place[0]).abs() > 110.0 || (other[1] - place[1]).abs() > 34.0);
            if line == last || !inside || !free {
                continue;
            }
            last = line;
            taken.push(place);
            let text = format!("{} min", line * LINES as u64 / 60);
            let style = Style { size: 13.0, colour: WHITE, rim: Some([0.12, 0.16, 0.27]), anchor: Anchor::Middle };
            canvas.text([place[0], place[1] + 6.0], &text, style);
        }
    }

    /// Where a cell is in the picture.
    fn pixel(&self, [x, y]: [usize; 2]) -> [f64; 2] {
        let share = |index: usize, count: usize| (index as f64 + 0.5) / count as f64;
        [
            MARGIN[0] as f64 + share(x, self.size[0]) * MAP[0] as f64,
            MARGIN[1] as f64 + (1.0 - share(y, self.size[1])) * MAP[1] as f64,
        ]
    }

    fn draw_frame(&self, canvas: &mut Canvas) {
        let [left, top] = MARGIN.map(|margin| margin as f64);
        let [right, bottom] = [left + MAP[0] as f64, top + MAP[1] as f64];
        for (from, to) in [
            ([left, top], [right, top]),
            ([right, top], [right, bottom]),
            ([right, bottom], [left, bottom]),
            ([left, bottom], [left, top]),
        ] {
            canvas.line(from, to, 2.0, INK);
        }
        let style = |anchor| Style { size: 13.0, colour: INK, rim: None, anchor };
        let halves =
            |[from, to]: [f64; 2]| ((2.0 * from).ceil() as i64..=(2.0 * to).floor() as i64).map(|n| n as f64 / 2.0);
        for longitude in halves(self.floor.longitude_range()) {
            let x = left + self.floor.share_of(longitude, 0.0)[0] * MAP[0] as f64;
            canvas.line([x, bottom], [x, bottom + 7.0], 2.0, INK);
            canvas.text([x, bottom + 27.0], &format!("{:.1}° W", 360.0 - longitude), style(Anchor::Middle));
        }
        for latitude in halves(self.floor.latitude_range()) {
            let y = bottom - self.floor.share_of(0.0, latitude)[1] * MAP[1] as f64;
            canvas.line([left - 7.0, y], [left, y], 2.0, INK);
            canvas.text([left - 12.0, y + 6.5], &format!("{latitude:.1}° N"), style(Anchor::End));
        }
    }

    fn draw_gauges(&self, canvas: &mut Canvas) {
        for gauge in self.gauges {
            let [x, y] = self.pixel(gauge.cell);
            canvas.disc([x, y], 8.0, INK);
            canvas.disc([x, y], 6.0, WHITE);
            canvas.disc([x, y], 3.0, [0.80, 0.22, 0.16]);
            let right = x < (MARGIN[0] + MAP[0]) as f64 - 190.0;
            let (x, anchor) = if right { (x + 15.0, Anchor::Start) } else { (x - 15.0, Anchor::End) };
            canvas.text([x, y + 7.0], gauge.name, Style { size: 15.0, colour: INK, rim: Some(WHITE), anchor });
        }
    }

    fn draw_words(&self, canvas: &mut Canvas) {
        let left = MARGIN[0] as f64;
        let style = |size| Style { size, colour: INK, rim: None, anchor: Anchor::Start };
        canvas.text([left, 48.0], "Tsunami in the Salish Sea", style(27.0));
        let minutes = (self.time / 60.0).round();
        let [nx, ny] = self.size;
        let words = format!(
            "Greatest height of the wave within {minutes} minutes, and where it was every 10 minutes ({nx} × {ny} cells)"
        );
        canvas.text([left, 82.0], &words, style(15.0));

        let [width, height] = [900, 24];
        let [bar, top] = [MARGIN[0] + MAP[0] - width - 24, MARGIN[1] + MAP[1] + 74];
        canvas.fill([bar - 2, top - 2], [width + 4, height + 4], INK);
        for x in 0..width {
            let share = x as f64 / (width - 1) as f64;
            canvas.fill([bar + x, top], [1, height], mix(SEA[1], along(&WAVE, share), (share * 12.0).min(1.0)));
        }
        for (value, name) in TICKS {
            let x = bar as f64 + (value / SCALE[0]).ln() / (SCALE[1] / SCALE[0]).ln() * (width - 1) as f64;
            let below = (top + height) as f64;
            canvas.line([x, below], [x, below + 8.0], 2.0, INK);
            canvas.text([x, below + 28.0], name, Style { anchor: Anchor::Middle, ..style(13.0) });
        }
        let label = Style { anchor: Anchor::End, ..style(14.0) };
        canvas.text([bar as f64 - 22.0, top as f64 + 19.0], "Height above still water", label);
    }
}
