//! A tsunami in the Salish Sea.
mod bathymetry;
#[path = "../common/mod.rs"]
mod common;
mod riemann;
mod solver;
fn main() {
    let n: Vec<usize> = std::env::args().skip(1).map(|a| a.parse().unwrap()).collect();
    let floor = bathymetry::SeaFloor::parse(include_str!("../data/salish-sea.xyz")).unwrap();
    let world = common::World::alone();
    rayon::ThreadPoolBuilder::new().num_threads(n[3]).build_global().unwrap();
    let mut sea = solver::Sea::new(
        &floor,
        n[0],
        common::Rows { first: 0, count: n[1], all: n[1] },
        solver::Edges::Open,
        |x, y| 3.0 * (-((x - 0.5).powi(2) + (y - 0.14).powi(2)) / 0.001).exp(),
    );
    println!("dt {} cells {:?}", sea.time_step, sea.cell);
    let t = std::time::Instant::now();
    for i in 0..n[2] {
        sea.advance(&world);
        if i % 500 == 0 {
            println!("{i} {:?}", sea.highest.iter().fold(0.0f64, |a, b| a.max(*b)))
        }
    }
    println!(
        "{:?} per step; umax {:?}",
        t.elapsed() / n[2] as u32,
        sea.water
            .east
            .iter()
            .zip(&sea.water.depth)
            .map(|(q, h)| if *h > 1e-3 { q.abs() / h } else { 0.0 })
            .fold(0.0f64, f64::max)
    );
}
