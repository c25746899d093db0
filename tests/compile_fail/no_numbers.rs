//! A vector of anything but plain numbers is a value, which its attribute must say.

#[derive(piton::State)]
struct Names {
    names: Vec<String>,
}

#[derive(piton::State)]
struct Nested {
    #[piton(nest)]
    inner: f64,
}

fn main() {}
