//! What `derive(State)` cannot do, and attributes that mean nothing.

#[derive(piton::State)]
enum Phase {
    Start,
}

#[derive(piton::State)]
struct Pair(f64, f64);

#[derive(piton::State)]
struct Misspelt {
    #[piton(constnat)]
    dx: f64,
}

#[derive(piton::State)]
struct TwoWays {
    #[piton(value, skip)]
    dx: f64,
}

#[derive(piton::State)]
struct Nameless {
    #[piton(rename = "")]
    dx: f64,
}

#[derive(piton::State)]
struct NoArray {
    #[piton(finite)]
    dx: f64,
}

#[derive(piton::State)]
struct NoRange {
    #[piton(within = "1.0")]
    depth: Vec<f64>,
}

#[derive(piton::State)]
struct WithoutAnEnd {
    #[piton(within = "0.0..1.0")]
    depth: Vec<f64>,
}

fn main() {}
