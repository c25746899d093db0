//! A hash of the whole state: two runs ended alike exactly where theirs are equal.

use std::fmt;
use xxhash_rust::xxh3::Xxh3;

/// XXH3-128 over numbers in a given order, by their bits.
#[derive(Default)]
pub struct Fingerprint(Xxh3);

impl Fingerprint {
    /// Of nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in an array of the assembled global state.
    pub fn floats(mut self, values: &[f64]) -> Self {
        values.iter().for_each(|value| self.0.update(&value.to_bits().to_le_bytes()));
        self
    }

    /// Takes in whole numbers.
    pub fn integers(mut self, values: &[u64]) -> Self {
        values.iter().for_each(|value| self.0.update(&value.to_le_bytes()));
        self
    }

    /// The last line of an example's output.
    pub fn announce(&self, step: u64) {
        println!("final state: {self} (step {step})");
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:032x}", self.0.digest128())
    }
}
