//! Records that are not plain old data with a fixed layout.

#[derive(Clone, Copy, piton::Element)]
struct NoLayout {
    x: f64,
}

#[derive(Clone, Copy, piton::Element)]
#[repr(C, packed)]
struct Packed {
    x: f64,
}

#[derive(Clone, Copy, piton::Element)]
#[repr(C)]
struct Generic<T> {
    x: T,
}

#[derive(Clone, Copy, piton::Element)]
#[repr(C)]
struct Tuple(f64);

#[derive(Clone, Copy, piton::Element)]
#[repr(u8)]
enum Choice {
    One,
}

fn main() {}
