//! What a simulation protects: its fields, described once for both directions.
//!
//! In comes a [`State`], the application's own; out go its [`Outline`] and the memory of its fields: to be read by a
//! freeze, or to be written by a restore. What must hold: the state stays exclusively borrowed for as long as its
//! fields are in use, and a restore writes nothing before everything that can be refused has been checked
//! (`Fields::check` and the methods after it).
//!
//! | file | what is in it |
//! | --- | --- |
//! | `element.rs` | what one element of an array consists of |
//! | `array.rs` | the containers of such elements |
//! | `bounds.rs` | which values the numbers of an array may have |
//! | `fields.rs` | the description: [`State`] and [`Fields`] |
//! | `restore.rs` | the other direction: compare, parse, resize, put in place |
//! | `outline.rs` | what is recorded of a description |
//! | `unfit.rs` | the refusal, as a table |

mod array;
mod bounds;
mod element;
mod fields;
mod outline;
mod restore;
mod unfit;

pub use array::Array;
pub use element::{Element, Kind, KindError, KindField, OwnedKind, OwnedKindField, Scalar};
pub use fields::{ArrayField, DescribeError, DescribeProblem, Fields, State};
pub use outline::{Block, FieldClass, FieldOutline, Outline};
pub use unfit::{Unfit, UnfitRow};

pub(crate) use array::sealed::Sealed;
pub(crate) use bounds::{Bounds, uniform};
pub(crate) use restore::Mapping;

/// What the code that the derive macros write needs to name.
#[doc(hidden)]
pub mod __private {
    pub use {bytemuck, serde};
}
