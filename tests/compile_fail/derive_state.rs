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

fn main() {}
