//! Every field of a record must be an element, and the record be `Copy`.

#[derive(Clone, Copy, piton::Element)]
#[repr(C)]
struct Flagged {
    alive: bool,
}

#[derive(piton::Element)]
#[repr(C)]
struct NotCopy {
    x: f64,
}

fn main() {}
