//! What a rank's state looks like, apart from its bytes: names, types, shapes, and places in a global array.
//!
//! An outline comes out of `Fields` at every freeze and is written into the shard; on resume the saved one is
//! compared with the application's own before a byte of it is touched.

use serde::{Deserialize, Serialize};

/// The description of one rank's state, in the order in which the application describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outline {
    /// One entry a field.
    pub fields: Vec<FieldOutline>,
}

impl Outline {
    /// The field of that name.
    pub fn get(&self, name: &str) -> Option<&FieldOutline> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// The outline of the state that was nested under `name`, with its fields named as that state names them itself;
    /// empty if there is none. For passing [`State::prepare`](super::State::prepare) on.
    pub fn nested(&self, name: &str) -> Outline {
        let inner = |field: &FieldOutline| {
            let rest = field.name.strip_prefix(name)?.strip_prefix('.')?;
            Some(FieldOutline { name: rest.to_owned(), ..field.clone() })
        };
        Outline { fields: self.fields.iter().filter_map(inner).collect() }
    }
}

/// The description of one field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldOutline {
    /// The name that the application gave, with the names of the nested states before it (`ocean.depth`).
    pub name: String,
    /// What kind of field it is.
    pub class: FieldClass,
    /// The element type of an array as `Kind` prints it (`f64`, `[f64; 2]`); the Rust type's name of a value or
    /// constant, for people only; `file` for an appended file.
    pub kind: String,
    /// Bytes of one element; 1 for values, constants and files.
    pub element_bytes: u64,
    /// The local shape of an array, slowest dimension first; one dimension for a `Vec`. Empty for other classes.
    pub shape: Vec<u64>,
    /// Whether the array takes the saved length on resume (a `Vec` that is no block of a global array).
    pub resizable: bool,
    /// How many bytes the shard holds of it, before compression.
    pub bytes: u64,
    /// Its place in a global array, where the application said so.
    pub block: Option<Block>,
}

/// What kind of field a field is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FieldClass {
    /// An array of plain numbers.
    Array,
    /// A small value that serde carries.
    Value,
    /// A value that must be the same on resume.
    Constant,
    /// An output file that only grows; what is saved is its length.
    AppendFile,
}

/// The place of a local array in a global one. All vectors have one entry a dimension, slowest first.
///
/// The local array holds `halo[d][0] + extent[d] + halo[d][1]` elements along dimension `d`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Block {
    /// The shape of the global array.
    pub global: Vec<u64>,
    /// Where this rank's own part starts in it.
    pub offset: Vec<u64>,
    /// The shape of this rank's own part, without halo.
    pub extent: Vec<u64>,
    /// Layers of copies of the neighbours' elements before and after, by dimension.
    pub halo: Vec<[u64; 2]>,
}
