//! The smallest honest simulation: heat spreads over a plate with cold edges.
//!
//! Each rank owns a band of rows and one row of each neighbour (the halo), and the threads of a rank share its rows.
//! Every cell is computed from its neighbours' values alone, so the result is the same for any number of ranks and
//! threads, to the bit.

#[path = "common/mod.rs"]
mod common;

use common::{Arguments, Between, Example, Failure, Fingerprint, Rows, World};
use rayon::prelude::*;
use std::process::ExitCode;

const EXAMPLE: Example = Example {
    name: "heat",
    summary: "Heat spreads over a plate with cold edges; protected by Piton.",
    size: Some([512, 512]),
    step_is: "one explicit time step",
    steps: 2000,
    own: &[],
    try_these: &[
        "cargo run --release --example heat",
        "cargo run --release --example heat -- --inject kill-rank=0@step=900",
        "cargo run --release --example heat -- --resume",
        "mpirun -n 4 target/release/examples/heat --size 2048x2048   # built with --features mpi",
    ],
};

/// How much of the difference to its neighbours a cell takes over in a step; stable below 1/4.
const EXCHANGE: f64 = 0.2;

/// One rank's band of the plate.
struct Plate {
    nx: usize,
    rows: Rows,
    /// With a halo row before and after; at the plate's own edges these stay cold.
    temperature: Vec<f64>,
    /// What the next step writes; holds nothing between steps.
    next: Vec<f64>,
}

impl Plate {
    /// Cold, with two hot spots.
    fn new([nx, ny]: [usize; 2], rows: Rows) -> Self {
        let mut temperature = vec![0.0; nx * (rows.count + 2)];
        for (row, cells) in temperature.chunks_exact_mut(nx).skip(1).take(rows.count).enumerate() {
            let y = (rows.first + row) as f64 / ny as f64;
            for (column, cell) in cells.iter_mut().enumerate().take(nx - 1).skip(1) {
                let x = column as f64 / nx as f64;
                let spot = |x0: f64, y0: f64, width: f64| (-((x - x0).powi(2) + (y - y0).powi(2)) / width).exp();
                *cell = 100.0 * spot(0.3, 0.4, 0.02) + 60.0 * spot(0.7, 0.65, 0.01);
            }
        }
        Self { nx, rows, next: vec![0.0; temperature.len()], temperature }
    }

    fn advance(&mut self, world: &World) {
        let (nx, end) = (self.nx, self.temperature.len());
        let (before, rest) = self.temperature.split_at_mut(nx);
        let (own, after) = rest.split_at_mut(end - 2 * nx);
        world.exchange([&own[..nx], &own[own.len() - nx..]], [before, after]);

        let old = &self.temperature;
        self.next[nx..end - nx].par_chunks_exact_mut(nx).enumerate().for_each(|(row, new)| {
            let [south, here, north] = [row, row + 1, row + 2].map(|row| &old[row * nx..(row + 1) * nx]);
            for x in 1..nx - 1 {
                let around = (south[x] + north[x]) + (here[x - 1] + here[x + 1]);
                new[x] = here[x] + EXCHANGE * (around - 4.0 * here[x]);
            }
        });
        std::mem::swap(&mut self.temperature, &mut self.next);
    }

    /// Of the whole plate; on rank 0. Collective.
    fn fingerprint(&self, world: &World) -> Option<Fingerprint> {
        let own = &self.temperature[self.nx..self.temperature.len() - self.nx];
        world.gather(own, self.rows, self.nx).map(|plate| Fingerprint::new().floats(&plate))
    }
}

impl piton::State for Plate {
    fn describe<'a>(&'a mut self, fields: &mut piton::Fields<'a>) {
        let (nx, Rows { first, count, all }) = (self.nx, self.rows);
        fields
            .array("temperature", &mut self.temperature)
            .block_of([all, nx], [first, 0], [count, nx])
            .halo([[1, 1], [0, 0]]);
        fields.constant("exchange", &EXCHANGE);
    }
}

fn simulate(arguments: &Arguments, world: &World) -> Result<(), Failure> {
    let rows = world.rows(arguments.size[1], 1)?;
    let mut plate = Plate::new(arguments.size, rows);
    let mut between = Between::new(arguments, world);

    let mut checkpointer = piton::Checkpointer::builder("heat").args(arguments.for_piton()).open(world)?;
    world.name_phases(checkpointer.phases());
    let mut step = checkpointer.resume(&mut plate)?.map_or(0, |at| at.step);
    while step < arguments.steps {
        plate.advance(world);
        step += 1;
        if checkpointer.tick(step, &mut plate).should_stop() {
            break;
        }
        between.after(step);
    }

    // The result stands, even where the end of the job cannot be saved.
    let fingerprint = plate.fingerprint(world);
    let saved = checkpointer.finish(&mut plate);
    if let Some(fingerprint) = fingerprint {
        fingerprint.announce(step);
    }
    saved?;
    Ok(())
}

fn main() -> ExitCode {
    common::run(&EXAMPLE, simulate)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(ranks: usize, steps: usize) -> (Vec<f64>, String) {
        let mut results = World::run(ranks, |world| {
            let mut plate = Plate::new([20, 13], world.rows(13, 1).expect("enough rows"));
            (0..steps).for_each(|_| plate.advance(world));
            let own = &plate.temperature[20..plate.temperature.len() - 20];
            let all = world.gather(own, plate.rows, 20);
            (all, plate.fingerprint(world).map(|fingerprint| fingerprint.to_string()))
        });
        let (all, fingerprint) = results.swap_remove(0);
        (all.expect("rank 0 gathers"), fingerprint.expect("rank 0 knows"))
    }

    #[test]
    fn the_result_does_not_depend_on_the_number_of_ranks() {
        let alone = run(1, 50);
        assert_ne!(alone.1, run(1, 49).1);
        for ranks in [2, 3, 13] {
            assert_eq!(run(ranks, 50), alone);
        }
    }

    #[test]
    fn a_wave_of_heat_decays_as_the_scheme_says() {
        // sin·sin is an eigenvector of one step, with a known factor.
        let (nx, ny) = (17, 13);
        let mut plate = Plate::new([nx, ny], Rows { first: 0, count: ny, all: ny });
        let (kx, ky) = (std::f64::consts::PI / (nx - 1) as f64, std::f64::consts::PI / (ny + 1) as f64);
        let wave: Vec<f64> =
            (0..ny * nx).map(|cell| (kx * (cell % nx) as f64).sin() * (ky * (cell / nx + 1) as f64).sin()).collect();
        plate.temperature[nx..nx * (ny + 1)].copy_from_slice(&wave);
        (0..30).for_each(|_| plate.advance(&World::alone()));
        let factor = 1.0 - EXCHANGE * (4.0 - 2.0 * kx.cos() - 2.0 * ky.cos());
        for (row, (now, before)) in plate.temperature[nx..].chunks(nx).zip(wave.chunks(nx)).enumerate() {
            for x in 1..nx - 1 {
                assert!((now[x] - before[x] * factor.powi(30)).abs() < 1e-12, "row {row}, column {x}");
            }
        }
    }
}
