//! What a simulation protects: its fields, described once for both directions.

mod outline;

pub use outline::{Block, FieldClass, FieldOutline, Outline};
