//! Padding is uninitialised memory, which must not be stored.

#[derive(Clone, Copy, piton::Element)]
#[repr(C)]
struct Padded {
    x: f64,
    id: u32,
}

fn main() {}
