//! Every field of a record must be an element.

#[derive(Clone, Copy, piton::Element)]
#[repr(C)]
struct Flagged {
    alive: bool,
}

fn main() {}
