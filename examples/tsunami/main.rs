//! A tsunami in the Salish Sea: off the mouth of the Fraser ground slides into the Strait of Georgia, and the wave runs
//! over the real sea floor.
//!
//! | file | what is in it |
//! | --- | --- |
//! | `bathymetry.rs` | the sea floor, from a file |
//! | `riemann.rs` | what flows between two cells |
//! | `solver.rs` | a band of the sea, step by step |
//! | `gauges.rs` | the towns, and the log of their tide gauges |
//! | `picture.rs`, `canvas.rs` | the picture of the wave |

#[path = "../common/mod.rs"]
mod common;

mod bathymetry;
mod canvas;
mod gauges;
mod picture;
mod riemann;
mod solver;

use bathymetry::SeaFloor;
use common::{Arguments, Between, Example, Failure, Fingerprint, Own, Stop, World};
use gauges::{Gauge, Log};
use picture::Scene;
use solver::{Edges, HALO, NEVER, Sea};
use std::fs::File;
use std::io::BufWriter;
use std::process::ExitCode;
use std::time::Instant;

const EXAMPLE: Example = Example {
    name: "tsunami",
    summary: "A tsunami runs over the real sea floor of the Salish Sea; protected by Piton.",
    size: Some([360, 273]),
    step_is: "as long as the fastest wave allows, 2.7 s of the sea's time at the default size",
    steps: 2000,
    own: &[
        Own { flag: "--source", value: "PLACE", help: "where: georgia, juan-de-fuca or ocean [georgia]" },
        Own { flag: "--picture", value: "FILE", help: "the picture [tsunami.png]" },
        Own { flag: "--gauges", value: "FILE", help: "the log of the tide gauges [tsunami-gauges.csv]" },
        Own {
            flag: "--sea-floor",
            value: "FILE",
            help: "longitude, latitude, elevation [examples/data/salish-sea.xyz]",
        },
    ],
    try_these: &[
        "cargo run --release --example tsunami",
        "cargo build --release --features mpi --example tsunami",
        "mpirun -n 4 target/release/examples/tsunami --inject kill-rank=2@step=1000",
        "mpirun -n 4 target/release/examples/tsunami --resume",
    ],
};

/// Where the water is set in motion: name, degrees east, degrees north, radius (m), height (m).
const SOURCES: [(&str, f64, f64, f64, f64); 3] = [
    ("georgia", 236.48, 49.22, 7e3, 4.0),
    ("juan-de-fuca", 235.98, 48.29, 7e3, 4.0),
    ("ocean", 234.45, 48.22, 12e3, 4.0),
];
/// Steps between two readings of the gauges.
const GAUGES_EVERY: u64 = 10;

/// What a rank computes and what is saved of it.
struct Simulation {
    sea: Sea,
    gauges: Vec<Gauge>,
    log: Log,
    /// Whether this rank writes the log.
    writes: bool,
}

impl Simulation {
    fn new(arguments: &Arguments, floor: &SeaFloor, world: &World) -> Result<Self, Stop> {
        let [nx, ny] = arguments.size;
        let rows = world.rows(ny, HALO)?;
        let wanted = arguments.own("--source").unwrap_or(SOURCES[0].0);
        let &(_, longitude, latitude, radius, height) =
            SOURCES.iter().find(|source| source.0 == wanted).ok_or_else(|| {
                Stop::refused(format!("--source wants {}, not '{wanted}'", SOURCES.map(|s| s.0).join(", ")))
            })?;
        let [east, north] = floor.share_of(longitude, latitude);
        let extent = floor.extent_metres();
        // Water heaped up on one side of where ground slid away from under the other.
        let surface = |x: f64, y: f64| {
            let (x, y) = ((x - east) * extent[0] / radius, (y - north) * extent[1] / radius);
            height * (1.2 * x + 0.45).clamp(-1.0, 1.0) * (-(x * x + y * y)).exp()
        };
        Ok(Self {
            sea: Sea::new(floor, nx, rows, Edges::Open, surface),
            gauges: gauges::gauges(floor, nx, ny),
            log: Log::new(arguments.own("--gauges").unwrap_or("tsunami-gauges.csv")),
            writes: world.rank() == 0,
        })
    }

    /// What only a run from the beginning does. Collective.
    fn begin(&self, world: &World) -> Result<(), Failure> {
        if self.writes {
            self.log.begin(&self.gauges).map_err(|error| format!("{}: {error}", self.log.path().display()))?;
        }
        self.read_gauges(world)
    }

    /// Computes the step that ends as number `step`. Collective.
    fn advance(&mut self, step: u64, world: &World) -> Result<(), Failure> {
        self.sea.advance(world);
        if step.is_multiple_of(GAUGES_EVERY) { self.read_gauges(world) } else { Ok(()) }
    }

    fn read_gauges(&self, world: &World) -> Result<(), Failure> {
        let heights = gauges::read(&self.gauges, &self.sea, world);
        if self.writes {
            self.log.add(self.sea.time, &heights).map_err(|error| format!("{}: {error}", self.log.path().display()))?;
        }
        Ok(())
    }

    /// The whole sea, on rank 0. Collective.
    fn gather(&self, world: &World) -> Option<WholeSea> {
        let Sea { nx, rows, time, ref water, ref highest, ref arrival, .. } = self.sea;
        let own = HALO * nx..(HALO + rows.count) * nx;
        let fields = [&water.depth[own.clone()], &water.east[own.clone()], &water.north[own], highest, arrival];
        let [Some(depth), Some(east), Some(north), Some(highest), Some(arrival)] =
            fields.map(|field| world.gather(field, rows, nx))
        else {
            return None;
        };
        let fingerprint = [&depth, &east, &north, &highest, &arrival]
            .into_iter()
            .fold(Fingerprint::new(), |fingerprint, field| fingerprint.floats(field))
            .floats(&[time]);
        Some(WholeSea { highest, arrival, time, fingerprint })
    }

    /// Draws the picture, and tells when the wave arrived.
    fn report(&self, whole: &WholeSea, arguments: &Arguments, floor: &SeaFloor) -> Result<(), Failure> {
        println!("\n{:<16}{:>12}{:>18}", "place", "arrival", "greatest height");
        for Gauge { name, cell } in &self.gauges {
            let cell = cell[1] * self.sea.nx + cell[0];
            let when = match whole.arrival[cell] {
                NEVER => "not reached".to_owned(),
                seconds => minutes(seconds),
            };
            println!("{name:<16}{when:>12}{:>16.2} m", whole.highest[cell]);
        }
        let path = arguments.own("--picture").unwrap_or("tsunami.png");
        let scene = Scene {
            floor,
            size: arguments.size,
            highest: &whole.highest,
            arrival: &whole.arrival,
            gauges: &self.gauges,
            time: whole.time,
        };
        let file = File::create(path).map_err(|error| format!("{path}: {error}"))?;
        scene.draw().write_png(BufWriter::new(file)).map_err(|error| format!("{path}: {error}"))?;
        println!("picture: {path}");
        Ok(())
    }
}

/// What is told of the end, over all ranks.
struct WholeSea {
    highest: Vec<f64>,
    arrival: Vec<f64>,
    time: f64,
    fingerprint: Fingerprint,
}

impl piton::State for Simulation {
    fn describe<'a>(&'a mut self, fields: &mut piton::Fields<'a>) {
        self.sea.describe(fields);
        if self.writes {
            fields.append_file("gauges", self.log.path());
        }
    }
}

/// `minutes:seconds`.
fn minutes(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

fn simulate(arguments: &Arguments, world: &World) -> Result<(), Failure> {
    let path =
        arguments.own("--sea-floor").unwrap_or(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/salish-sea.xyz"));
    let text = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    let floor = SeaFloor::parse(&text).map_err(|error| format!("{path}: {error}"))?;
    let mut simulation = Simulation::new(arguments, &floor, world)?;
    let mut between = Between::new(arguments, world);

    let mut checkpointer = piton::Checkpointer::builder("tsunami").args(arguments.for_piton()).open(world)?;
    world.name_phases(checkpointer.phases());
    let resumed = checkpointer.resume(&mut simulation)?;
    if resumed.is_none() {
        simulation.begin(world)?;
    }
    let first = resumed.map_or(0, |at| at.step);
    let mut step = first;
    let started = Instant::now();
    while step < arguments.steps {
        simulation.advance(step + 1, world)?;
        step += 1;
        if checkpointer.tick(step, &mut simulation).should_stop() {
            break;
        }
        between.after(step);
        if world.rank() == 0 && (step.is_multiple_of(arguments.steps.div_ceil(10)) || step == arguments.steps) {
            let each = started.elapsed().as_secs_f64() * 1e3 / (step - first) as f64;
            println!("step {step}: {} after the slump; {each:.1} ms a step", minutes(simulation.sea.time));
        }
    }

    // The result stands, even where the end of the job cannot be saved.
    let whole = simulation.gather(world);
    let saved = checkpointer.finish(&mut simulation);
    if let Some(whole) = whole {
        simulation.report(&whole, arguments, &floor)?;
        whole.fingerprint.announce(step);
    }
    saved?;
    Ok(())
}

fn main() -> ExitCode {
    common::run(&EXAMPLE, simulate)
}
