//! The description of a state: which fields it has, where they lie, and what is wrong with it.
//!
//! In comes a [`State`], exclusively borrowed; out come its [`Fields`]: an outline, and for each field the bytes that
//! a shard holds of it. What must hold of `Fields` that [`Fields::of`] returned: there is a field, no two have one
//! name, each array's memory has the length that its outline says, and the outline does not change until the state is
//! restored.

use std::any::{Any, type_name};
use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::io::ErrorKind;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Array, Block, Bounds, Element, FieldClass, FieldOutline, Kind, Outline, OwnedKind, Unfit};

/// The longest name of a field, in bytes.
const MAX_NAME: usize = 255;

/// What a simulation protects.
///
/// One description serves both directions: a checkpoint reads the fields, a resume writes them.
/// `#[derive(piton::State)]` writes it for a struct with named fields; by hand it is
///
/// ```
/// struct Heat { temperature: Vec<f64>, time: f64, conductivity: f64 }
///
/// impl piton::State for Heat {
///     fn describe<'a>(&'a mut self, fields: &mut piton::Fields<'a>) {
///         fields.array("temperature", &mut self.temperature);
///         fields.value("time", &mut self.time);
///         fields.constant("conductivity", &self.conductivity);
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not describe its fields",
    label = "no `piton::State`",
    note = "derive it with `#[derive(piton::State)]`, or implement `describe` by hand"
)]
pub trait State {
    /// Names every field. It is called at each checkpoint and at a resume, and must name the same fields each time.
    fn describe<'a>(&'a mut self, fields: &mut Fields<'a>);

    /// Called on resume before [`describe`](State::describe), with the outline of what was saved: the place to allocate
    /// what depends on it, say the patches of an adaptive mesh.
    ///
    /// # Errors
    /// What was saved cannot be resumed from here: the resume is refused with this error.
    fn prepare(&mut self, saved: &Outline) -> Result<(), Unfit> {
        let _ = saved;
        Ok(())
    }

    /// Called on resume when all fields have their saved contents: the place to rebuild what is derived from them.
    fn restored(&mut self) {}
}

macro_rules! state_behind {
    ($(#[$doc:meta] $type:ty),*) => {
        $(#[$doc]
        impl<S: State + ?Sized> State for $type {
            fn describe<'a>(&'a mut self, fields: &mut Fields<'a>) {
                (**self).describe(fields);
            }

            fn prepare(&mut self, saved: &Outline) -> Result<(), Unfit> {
                (**self).prepare(saved)
            }

            fn restored(&mut self) {
                (**self).restored();
            }
        })*
    };
}

state_behind! {
    /// A boxed state, also a `Box<dyn State>`, is the state in the box.
    Box<S>,
    /// A borrowed state is the state itself.
    &mut S
}

/// The fields of a state, borrowed from it.
///
/// A field is named by at most 255 bytes; the fields of nested states have the names of the nests before theirs
/// (`ocean.depth`). Mistakes are collected while the state is described and reported together by [`Fields::of`].
pub struct Fields<'a> {
    pub(super) fields: Vec<Described<'a>>,
    /// As the fields were when they were described.
    pub(super) outline: Outline,
    problems: Vec<DescribeProblem>,
    /// The names of the nests that are being described, each with a dot.
    prefix: String,
}

/// One field as it was described.
pub(super) struct Described<'a> {
    name: String,
    place: Place,
    bounds: Bounds,
    pub(super) body: Body<'a>,
}

/// The place in a global array, as the application says it.
#[derive(Default)]
struct Place {
    block: Option<[Vec<usize>; 3]>,
    halo: Option<Vec<[usize; 2]>>,
}

pub(super) enum Body<'a> {
    Array(Box<dyn Array + 'a>),
    Value { kind: String, bytes: Vec<u8>, place: Box<dyn Carry + 'a> },
    Constant { kind: String, bytes: Vec<u8> },
    AppendFile { path: PathBuf, length: [u8; 8], staged: Option<u64> },
}

/// A value of a type that only the description knows.
pub(super) trait Carry: Send {
    /// Parses all of the bytes and keeps the result aside.
    fn stage(&mut self, bytes: &[u8]) -> Result<(), String>;
    /// Parses all of the bytes and drops the result.
    fn rehearse(&self, bytes: &[u8]) -> Result<(), String>;
    /// Puts the value that was kept aside into the state.
    fn apply(&mut self);
}

struct Carried<'a, T> {
    place: &'a mut T,
    staged: Option<T>,
}

fn parse_all<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(format!("{} of {} bytes are left over", rest.len(), bytes.len())),
        Err(error) => Err(error.to_string()),
    }
}

impl<T: DeserializeOwned + Send> Carry for Carried<'_, T> {
    fn stage(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.staged = Some(parse_all(bytes)?);
        Ok(())
    }

    fn rehearse(&self, bytes: &[u8]) -> Result<(), String> {
        parse_all::<T>(bytes).map(drop)
    }

    fn apply(&mut self) {
        if let Some(value) = self.staged.take() {
            *self.place = value;
        }
    }
}

/// What a shard holds of one field, and how it may be filtered.
pub(crate) struct Source<'f> {
    /// The bytes; those of an array are the application's own memory.
    pub bytes: Cow<'f, [u8]>,
    /// The size of one element in bytes; 1 where the field is no array.
    pub stride: usize,
    /// The width of the element's numbers in bytes, 1 where they differ.
    pub lane: usize,
    /// What the freeze notes about the pages of an array's memory ([`Array::tracked`]).
    pub tracked: Option<&'f (dyn Any + Send + Sync)>,
}

impl<'a> Fields<'a> {
    /// Describes a state.
    ///
    /// ```
    /// # #[derive(piton::State)] struct Heat { temperature: Vec<f64>, time: f64 }
    /// let mut heat = Heat { temperature: vec![0.; 100], time: 0. };
    /// let outline = piton::Fields::of(&mut heat)?.outline();
    /// assert_eq!(outline.fields[0].shape, [100]);
    /// # Ok::<(), piton::DescribeError>(())
    /// ```
    ///
    /// # Errors
    /// The description contradicts itself or the state, or a value cannot be serialised: [`DescribeProblem`].
    pub fn of<S: State + ?Sized>(state: &'a mut S) -> Result<Fields<'a>, DescribeError> {
        let mut fields =
            Fields { fields: Vec::new(), outline: Outline::default(), problems: Vec::new(), prefix: String::new() };
        state.describe(&mut fields);
        fields.settle();
        if fields.problems.is_empty() { Ok(fields) } else { Err(DescribeError { problems: fields.problems }) }
    }

    /// Protects an array of plain numbers. Its place in a global array can be said on what is returned.
    ///
    /// A `Vec` takes the length on resume that it had at the checkpoint; all else must have its saved shape already.
    pub fn array<A: Array + 'a>(&mut self, name: &str, array: &'a mut A) -> ArrayField<'_> {
        self.add_array(name, Box::new(array))
    }

    /// Protects a slice of plain numbers: part of a larger array, or the memory of a container that piton does not
    /// know.
    pub fn slice<T: Element>(&mut self, name: &str, slice: &'a mut [T]) -> ArrayField<'_> {
        self.add_array(name, Box::new(slice))
    }

    /// Protects a value that serde can carry: a scalar, a random number generator, a small struct.
    ///
    /// It is stored in a binary form that keeps NaN and infinities, but not the names of fields: a type that changed
    /// since may be refused. Types whose form differs from their content (`#[serde(untagged)]`, `flatten`,
    /// `skip_serializing_if`) cannot be read back from it. Large data belongs into arrays, which are not copied to be
    /// serialised.
    pub fn value<T: Serialize + DeserializeOwned + Send + 'a>(&mut self, name: &str, value: &'a mut T) {
        if let Some(bytes) = self.serialise(name, &*value) {
            let place = Box::new(Carried { place: value, staged: None });
            self.add(name, Body::Value { kind: short_type_name::<T>(), bytes, place });
        }
    }

    /// Records a value that must be the same on resume, say the mesh width; otherwise the resume is refused by name.
    pub fn constant<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) {
        if let Some(bytes) = self.serialise(name, value) {
            self.add(name, Body::Constant { kind: short_type_name::<T>(), bytes });
        }
    }

    /// Describes another state as part of this one; its fields are named `name.field`.
    ///
    /// Its [`prepare`](State::prepare) and [`restored`](State::restored) are for the outer state to call;
    /// [`Outline::nested`] is what the first of them wants. `#[derive(piton::State)]` does so.
    pub fn nest<S: State + ?Sized>(&mut self, name: &str, state: &'a mut S) {
        if name.is_empty() {
            self.problems.push(DescribeProblem::Name { field: self.prefix.clone(), reason: "has a nest without name" });
        }
        let outer = self.prefix.len();
        self.prefix.push_str(name);
        self.prefix.push('.');
        state.describe(self);
        self.prefix.truncate(outer);
    }

    /// Protects an output file that only grows: on resume it is cut back to where it was at the checkpoint, so that the
    /// restarted job repeats no line.
    ///
    /// What counts is the file's length when the checkpoint is taken: flush buffers before. The file should be open
    /// for appending (`O_APPEND`). One that does not exist yet has length zero.
    pub fn append_file(&mut self, name: &str, path: impl Into<PathBuf>) {
        let path = path.into();
        match length_of(&path) {
            Ok(length) => {
                let length = length.unwrap_or(0).to_le_bytes();
                self.add(name, Body::AppendFile { path, length, staged: None });
            }
            Err(reason) => {
                let field = format!("{}{name}", self.prefix);
                self.problems.push(DescribeProblem::File { field, path, reason });
            }
        }
    }

    /// What the fields were like when they were described.
    pub fn outline(&self) -> Outline {
        self.outline.clone()
    }

    /// Checks that the values can be read back, which some types that serde can write cannot. To be called once, when
    /// a job opens: the alternative is to learn it at the resume.
    ///
    /// # Errors
    /// A value cannot be read back.
    pub(crate) fn rehearse(&self) -> Result<(), DescribeError> {
        let problems: Vec<DescribeProblem> = self
            .fields
            .iter()
            .filter_map(|field| match &field.body {
                Body::Value { kind, bytes, place } => place.rehearse(bytes).err().map(|reason| {
                    DescribeProblem::Unreadable { field: field.name.clone(), kind: kind.clone(), reason }
                }),
                _ => None,
            })
            .collect();
        if problems.is_empty() { Ok(()) } else { Err(DescribeError { problems }) }
    }

    /// What a shard holds of each field, in the order of the outline.
    pub(crate) fn sources(&self) -> Vec<Source<'_>> {
        self.fields
            .iter()
            .map(|field| {
                let (bytes, (stride, lane)) = match &field.body {
                    Body::Array(array) => (array.bytes(), array.kind().grain()),
                    Body::Value { bytes, .. } | Body::Constant { bytes, .. } => (bytes.as_slice(), (1, 1)),
                    Body::AppendFile { length, .. } => (length.as_slice(), (1, 1)),
                };
                let tracked = match &field.body {
                    Body::Array(array) => array.tracked(),
                    _ => None,
                };
                Source { bytes: Cow::Borrowed(bytes), stride, lane, tracked }
            })
            .collect()
    }

    /// What the numbers of each field consist of and may be, where the application said that not every value can be.
    pub(crate) fn bounds(&self) -> Vec<Option<(Kind, Bounds)>> {
        let of = |field: &Described<'_>| match &field.body {
            Body::Array(array) => field.bounds.are_there().then(|| (array.kind(), field.bounds)),
            _ => None,
        };
        self.fields.iter().map(of).collect()
    }

    /// The files that only grow. What they hold must be durable before a checkpoint that records their length is
    /// committed.
    pub(crate) fn append_paths(&self) -> Vec<PathBuf> {
        let path = |field: &Described<'_>| match &field.body {
            Body::AppendFile { path, .. } => Some(path.clone()),
            _ => None,
        };
        self.fields.iter().filter_map(path).collect()
    }

    fn add(&mut self, name: &str, body: Body<'a>) {
        let name = format!("{}{name}", self.prefix);
        self.fields.push(Described { name, place: Place::default(), bounds: Bounds::default(), body });
    }

    fn add_array(&mut self, name: &str, array: Box<dyn Array + 'a>) -> ArrayField<'_> {
        self.add(name, Body::Array(array));
        let last = self.fields.len() - 1;
        let Described { place, bounds, .. } = &mut self.fields[last];
        ArrayField { place, bounds }
    }

    fn serialise<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Option<Vec<u8>> {
        match postcard::to_stdvec(value) {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                let field = format!("{}{name}", self.prefix);
                let (kind, reason) = (short_type_name::<T>(), error.to_string());
                self.problems.push(DescribeProblem::Value { field, kind, reason });
                None
            }
        }
    }

    /// Draws the outline, and collects what is wrong.
    fn settle(&mut self) {
        if self.fields.is_empty() && self.problems.is_empty() {
            self.problems.push(DescribeProblem::Nothing);
        }
        let mut names = HashSet::new();
        for field in &self.fields {
            let own_name = field.name.rsplit('.').next().unwrap_or_default();
            let wrong = match &field.name {
                _ if own_name.is_empty() => Some("is empty or ends in a dot"),
                name if name.len() > MAX_NAME => Some("is longer than 255 bytes"),
                name if name.chars().any(char::is_control) => Some("has control characters"),
                _ => None,
            };
            if let Some(reason) = wrong {
                self.problems.push(DescribeProblem::Name { field: field.name.clone(), reason });
            } else if !names.insert(field.name.as_str()) {
                self.problems.push(DescribeProblem::Twice { field: field.name.clone() });
            }
            match outline_of(field) {
                Ok(outline) => self.outline.fields.push(outline),
                Err(problem) => self.problems.push(problem),
            }
        }
    }
}

impl fmt::Debug for Fields<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Fields").field("outline", &self.outline).finish_non_exhaustive()
    }
}

/// The length of a file, or none where there is no file.
pub(super) fn length_of(path: &Path) -> Result<Option<u64>, String> {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => Ok(Some(metadata.len())),
        Ok(_) => Err("is not a regular file".to_owned()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

/// A type's name without the modules, cut to a bounded length.
fn short_type_name<T: ?Sized>() -> String {
    let full = type_name::<T>();
    let mut name = String::new();
    let mut word = 0;
    for letter in full.chars().take(1000) {
        match letter {
            // The words of a path end in `::`; only the last one stays.
            ':' => name.truncate(word),
            _ => {
                name.push(letter);
                if !(letter.is_alphanumeric() || letter == '_') {
                    word = name.len();
                }
            }
        }
    }
    name.chars().take(120).collect()
}

fn outline_of(field: &Described<'_>) -> Result<FieldOutline, DescribeProblem> {
    let plain = |class, kind: &str, bytes: usize| FieldOutline {
        name: field.name.clone(),
        class,
        kind: kind.to_owned(),
        element_bytes: 1,
        shape: Vec::new(),
        resizable: false,
        bytes: bytes as u64,
        block: None,
    };
    match &field.body {
        Body::Array(array) => {
            let wrong = |reason: String| DescribeProblem::Array { field: field.name.clone(), reason };
            let misplaced = |reason: String| DescribeProblem::Block { field: field.name.clone(), reason };
            if let Some(reason) = array.unsuitable() {
                return Err(wrong(reason.to_owned()));
            }
            let kind = checked_kind(array.kind(), array.element_bytes()).map_err(wrong)?;
            let shape = array.shape();
            let block = global_place(&field.place, &shape).map_err(misplaced)?;
            if let Some(reason) = field.bounds.misfit(&array.kind()) {
                return Err(DescribeProblem::Bounds { field: field.name.clone(), reason });
            }
            Ok(FieldOutline {
                kind,
                element_bytes: array.element_bytes() as u64,
                resizable: array.resizable() && block.is_none(),
                shape: shape.into_iter().map(|extent| extent as u64).collect(),
                block,
                ..plain(FieldClass::Array, "", array.bytes().len())
            })
        }
        Body::Value { kind, bytes, .. } => Ok(plain(FieldClass::Value, kind, bytes.len())),
        Body::Constant { kind, bytes } => Ok(plain(FieldClass::Constant, kind, bytes.len())),
        Body::AppendFile { length, .. } => Ok(plain(FieldClass::AppendFile, "file", length.len())),
    }
}

/// The text of an element's kind, if readers will understand it and it is true: kinds may be written by hand.
fn checked_kind(kind: Kind, element_bytes: usize) -> Result<String, String> {
    let text = kind.to_string();
    match text.parse::<OwnedKind>() {
        Err(error) => Err(format!("its element type `{text}` cannot be recorded ({error}); correct `Element::KIND`")),
        Ok(parsed) if parsed != OwnedKind::from(kind) => {
            Err(format!("its element type `{text}` is ambiguous; correct the names in `Element::KIND`"))
        }
        Ok(parsed) if parsed.bytes() != element_bytes as u64 => Err(format!(
            "its element type `{text}` has {} bytes, but in memory it has {element_bytes}; correct `Element::KIND`",
            parsed.bytes()
        )),
        Ok(_) => Ok(text),
    }
}

/// The place in a global array, if it agrees with itself and with the local shape.
fn global_place(place: &Place, shape: &[usize]) -> Result<Option<Block>, String> {
    let Some([global, offset, extent]) = &place.block else {
        return match place.halo {
            Some(_) => Err("it has a halo but no block; say `.block_of(global, offset, extent)` too".to_owned()),
            None => Ok(None),
        };
    };
    let halo = place.halo.clone().unwrap_or_else(|| vec![[0, 0]; global.len()]);
    let dimensions = global.len();
    if dimensions == 0 || halo.len() != dimensions {
        return Err(format!("the block has {dimensions} dimensions, the halo {}", halo.len()));
    }
    let mut local = Vec::with_capacity(dimensions);
    for dimension in 0..dimensions {
        let (global, offset, extent) = (global[dimension], offset[dimension], extent[dimension]);
        if offset.checked_add(extent).is_none_or(|end| end > global) {
            return Err(format!(
                "dimension {dimension}: offset {offset} and extent {extent} reach beyond the global {global}"
            ));
        }
        let [before, after] = halo[dimension];
        let length = extent.checked_add(before).and_then(|sum| sum.checked_add(after));
        local.push(length.ok_or_else(|| format!("dimension {dimension}: the halo is too large"))?);
    }
    let elements = local.iter().try_fold(1usize, |product, &length| product.checked_mul(length));
    // A vector has no shape of its own; the block gives it one.
    let agrees = if let [length] = shape { elements == Some(*length) } else { local == shape };
    if !agrees {
        return Err(format!("extent and halo make a local array of {local:?}, but it has {shape:?} elements"));
    }
    let wide = |lengths: &Vec<usize>| lengths.iter().map(|&length| length as u64).collect();
    Ok(Some(Block {
        global: wide(global),
        offset: wide(offset),
        extent: wide(extent),
        halo: halo.iter().map(|&[before, after]| [before as u64, after as u64]).collect(),
    }))
}

/// An array that was just described; says where it lies in a global array, and what its numbers may be.
#[derive(Debug)]
pub struct ArrayField<'f> {
    place: &'f mut Place,
    bounds: &'f mut Bounds,
}

impl fmt::Debug for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Place").field("block", &self.block).field("halo", &self.halo).finish()
    }
}

impl ArrayField<'_> {
    /// The array is this rank's block of a global array: of shape `global`, `extent` elements from `offset` on, by
    /// dimension, slowest first. With the [halo](ArrayField::halo) they must make up the local array.
    ///
    /// A `Vec` that is a block keeps its length on resume.
    pub fn block_of<const D: usize>(self, global: [usize; D], offset: [usize; D], extent: [usize; D]) -> Self {
        self.place.block = Some([global.to_vec(), offset.to_vec(), extent.to_vec()]);
        self
    }

    /// Around the block the local array has copies of the neighbours' elements: so many layers before and after it
    /// along each dimension. They are saved and restored, but are no part of the global array.
    pub fn halo<const D: usize>(self, layers: [[usize; 2]; D]) -> Self {
        self.place.halo = Some(layers.to_vec());
        self
    }

    /// No number of the array may be NaN or infinite: one that is shows that the simulation has gone wrong.
    ///
    /// They are looked at behind the application's back, while a checkpoint is encoded. What is found is told on standard error and in the
    /// journal ([`ValuesOutOfRange`](crate::journal::Event::ValuesOutOfRange)) with the place of the first; the checkpoint is committed all the
    /// same and marked as suspect (`piton ls`, `piton show`), and a resume takes it like any other. What has not changed since the
    /// checkpoint that this one builds on is not looked at again. Integers are always finite; of other elements every floating-point number in
    /// them counts, the parts of a complex one too.
    ///
    /// ```
    /// struct Gas { pressure: Vec<f64>, share: Vec<[f32; 2]> }
    ///
    /// impl piton::State for Gas {
    ///     fn describe<'a>(&'a mut self, fields: &mut piton::Fields<'a>) {
    ///         fields.array("pressure", &mut self.pressure).finite();
    ///         fields.array("share", &mut self.share).within(0.0..=1.0);
    ///     }
    /// }
    /// ```
    pub fn finite(self) -> Self {
        self.bounds.finite();
        self
    }

    /// Every number of the array lies within `range`, ends included, and is no NaN: as [`ArrayField::finite`], for all that cannot be.
    ///
    /// All numbers of an element count, integers too; they must be of one type. The ends are meant exactly: an `f32` is held
    /// against the range as an `f64` would be.
    pub fn within(self, range: RangeInclusive<f64>) -> Self {
        self.bounds.within(&range);
        self
    }
}

/// A state's description is wrong. Nothing was read or written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribeError {
    problems: Vec<DescribeProblem>,
}

impl DescribeError {
    /// Everything that is wrong with the description; never empty.
    pub fn problems(&self) -> &[DescribeProblem] {
        &self.problems
    }
}

impl fmt::Display for DescribeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the state cannot be described: ")?;
        for (position, problem) in self.problems.iter().enumerate() {
            let separator = if position == 0 { "" } else { "; " };
            write!(formatter, "{separator}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for DescribeError {}

/// One thing that is wrong with a description.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DescribeProblem {
    /// No field was described.
    #[error("it has no field: name at least one in `State::describe`")]
    Nothing,
    /// Two fields have one name.
    #[error("two fields are named {field:?}: give each a name of its own")]
    Twice {
        /// The name.
        field: String,
    },
    /// A name cannot be used.
    #[error("the name {field:?} {reason}: use 1 to 255 bytes without control characters")]
    Name {
        /// The name, with those of its nests.
        field: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An array cannot be protected as it is.
    #[error("array {field:?}: {reason}")]
    Array {
        /// The field.
        field: String,
        /// What is wrong with it and what to do.
        reason: String,
    },
    /// A block contradicts itself or its array.
    #[error("block of array {field:?}: {reason}")]
    Block {
        /// The field.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The values that an array may have make no sense.
    #[error("values of array {field:?}: {reason}")]
    Bounds {
        /// The field.
        field: String,
        /// What is wrong with them.
        reason: String,
    },
    /// A value or constant cannot be serialised.
    #[error("{field:?} of type {kind} cannot be serialised ({reason}): protect its parts, or correct its `Serialize`")]
    Value {
        /// The field.
        field: String,
        /// Its type.
        kind: String,
        /// What the serialiser says.
        reason: String,
    },
    /// A value could be saved but not be resumed from.
    #[error(
        "{field:?} of type {kind} cannot be read back ({reason}): serde's `untagged`, `flatten` and \
         `skip_serializing_if` do not work in a binary form; protect its parts, or serialise it without them"
    )]
    Unreadable {
        /// The field.
        field: String,
        /// Its type.
        kind: String,
        /// What the parser says.
        reason: String,
    },
    /// A file that only grows cannot be looked at.
    #[error("append file {field:?}: {}: {reason}", path.display())]
    File {
        /// The field.
        field: String,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    struct By<F>(F);

    impl<F: for<'a> FnMut(&mut Fields<'a>)> State for By<F> {
        fn describe<'a>(&'a mut self, fields: &mut Fields<'a>) {
            (self.0)(fields);
        }
    }

    fn problems(describe: impl for<'a> FnMut(&mut Fields<'a>)) -> Vec<DescribeProblem> {
        Fields::of(&mut By(describe)).unwrap_err().problems().to_vec()
    }

    struct Block2 {
        data: Vec<f64>,
        global: [usize; 2],
        offset: [usize; 2],
        extent: [usize; 2],
        halo: [[usize; 2]; 2],
    }

    impl State for Block2 {
        fn describe<'a>(&'a mut self, fields: &mut Fields<'a>) {
            fields.array("data", &mut self.data).block_of(self.global, self.offset, self.extent).halo(self.halo);
        }
    }

    // A freeze may describe on one thread and copy on others.
    const _: () = {
        const fn must_be_send<T: Send>() {}
        const fn must_be_sync<T: Sync>() {}
        must_be_send::<Fields<'static>>();
        must_be_sync::<Source<'static>>();
    };

    #[test]
    fn a_block_is_recorded() {
        let mut state =
            Block2 { data: vec![0.; 4 * 8], global: [6, 8], offset: [2, 0], extent: [2, 8], halo: [[1, 1], [0, 0]] };
        let outline = Fields::of(&mut state).unwrap().outline();
        let field = &outline.fields[0];
        let block = Block { global: vec![6, 8], offset: vec![2, 0], extent: vec![2, 8], halo: vec![[1, 1], [0, 0]] };
        assert_eq!(field.block, Some(block));
        assert_eq!((field.shape.as_slice(), field.resizable, field.bytes), ([32].as_slice(), false, 256));
    }

    #[test]
    fn blocks_that_do_not_fit_are_refused() {
        let fits =
            || Block2 { data: vec![0.; 16], global: [4, 4], offset: [0, 0], extent: [4, 4], halo: [[0, 0], [0, 0]] };
        assert!(Fields::of(&mut fits()).is_ok());
        let wrong: [Block2; 5] = [
            Block2 { data: vec![0.; 15], ..fits() },
            Block2 { offset: [1, 0], ..fits() },
            Block2 { offset: [usize::MAX, 0], ..fits() },
            Block2 { halo: [[1, 0], [0, 0]], ..fits() },
            Block2 { halo: [[usize::MAX, 0], [0, 0]], ..fits() },
        ];
        for mut state in wrong {
            let error = Fields::of(&mut state).unwrap_err();
            assert!(matches!(&error.problems()[0], DescribeProblem::Block { field, .. } if field == "data"), "{error}");
        }
    }

    struct Careless {
        data: Vec<f64>,
    }

    impl State for Careless {
        fn describe<'a>(&'a mut self, fields: &mut Fields<'a>) {
            fields.array("lonely", &mut self.data).halo([[1, 1]]);
        }
    }

    #[test]
    fn a_halo_without_block_is_refused() {
        let error = Fields::of(&mut Careless { data: vec![] }).unwrap_err();
        assert!(error.to_string().contains("\"lonely\": it has a halo but no block"), "{error}");
    }

    #[test]
    fn bounds_are_kept_with_their_field_and_checked() {
        struct Gas {
            pressure: Vec<f64>,
            share: Vec<[f32; 2]>,
            counts: Vec<u32>,
            range: (f64, f64),
        }
        impl State for Gas {
            fn describe<'a>(&'a mut self, fields: &mut Fields<'a>) {
                fields.array("pressure", &mut self.pressure).finite();
                fields.array("share", &mut self.share).within(self.range.0..=self.range.1);
                fields.array("counts", &mut self.counts);
            }
        }
        let gas = |range| Gas { pressure: vec![1.0], share: vec![[0.5; 2]], counts: vec![1], range };
        let mut sound = gas((0.0, 1.0));
        let bounds = Fields::of(&mut sound).unwrap().bounds();
        let texts: Vec<Option<String>> =
            bounds.iter().map(|field| field.map(|(kind, bounds)| format!("{kind} {bounds}"))).collect();
        assert_eq!(texts, [Some("f64 finite".into()), Some("[f32; 2] within 0.0..=1.0".into()), None]);
        let error = Fields::of(&mut gas((1.0, 0.0))).unwrap_err();
        assert!(matches!(&error.problems()[0], DescribeProblem::Bounds { field, .. } if field == "share"), "{error}");
    }

    #[test]
    fn names_are_checked() {
        assert_eq!(problems(|_| {}), [DescribeProblem::Nothing]);
        let twice = problems(|fields| {
            fields.constant("a", &1);
            fields.constant("b", &1);
            fields.constant("a", &2);
        });
        assert_eq!(twice, [DescribeProblem::Twice { field: "a".to_owned() }]);
        let long = "x".repeat(256);
        let bad = problems(|fields| {
            fields.constant("", &1);
            fields.constant("line\nbreak", &1);
            fields.constant(&long, &1);
            fields.constant(&long[1..], &1);
        });
        assert_eq!(bad.len(), 3, "{bad:?}");
        assert!(bad.iter().all(|problem| matches!(problem, DescribeProblem::Name { .. })));
    }

    #[test]
    fn values_that_cannot_be_stored_are_named() {
        struct Stubborn;
        impl Serialize for Stubborn {
            fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
                Err(serde::ser::Error::custom("no"))
            }
        }
        let error = Fields::of(&mut By(|fields: &mut Fields<'_>| fields.constant("mule", &Stubborn))).unwrap_err();
        assert!(matches!(&error.problems()[0], DescribeProblem::Value { field, .. } if field == "mule"), "{error}");
        assert!(error.to_string().contains("Stubborn"), "{error}");
    }

    #[test]
    fn values_that_cannot_be_read_back_are_found_in_time() {
        #[derive(serde::Serialize, serde::Deserialize)]
        #[serde(untagged)]
        enum Either {
            Number(f64),
        }
        #[derive(crate::State)]
        struct Holder {
            choice: Either,
        }
        let mut holder = Holder { choice: Either::Number(1.) };
        let error = Fields::of(&mut holder).unwrap().rehearse().unwrap_err();
        assert!(matches!(&error.problems()[0], DescribeProblem::Unreadable { field, .. } if field == "choice"));
    }

    #[test]
    fn elements_that_lie_about_themselves_are_refused() {
        #[derive(Clone, Copy)]
        #[repr(transparent)]
        struct Liar(u32);
        // SAFETY: a transparent u32.
        unsafe impl bytemuck::Zeroable for Liar {}
        // SAFETY: a transparent u32.
        unsafe impl bytemuck::Pod for Liar {}
        impl Element for Liar {
            const KIND: Kind = f64::KIND;
        }
        #[derive(crate::State)]
        struct Two {
            lies: Vec<Liar>,
            nothing: Vec<[f64; 0]>,
        }
        let error = Fields::of(&mut Two { lies: vec![Liar(1)], nothing: vec![] }).unwrap_err();
        let all_arrays = error.problems().iter().all(|problem| matches!(problem, DescribeProblem::Array { .. }));
        assert!(error.problems().len() == 2 && all_arrays, "{error}");
    }

    #[test]
    fn append_files_give_their_length() {
        let scratch = tempfile::tempdir().unwrap();
        let (log, missing) = (scratch.path().join("log"), scratch.path().join("missing"));
        std::fs::write(&log, b"0123456789").unwrap();
        let mut state = By(|fields: &mut Fields<'_>| {
            fields.append_file("log", &log);
            fields.append_file("missing", &missing);
        });
        let fields = Fields::of(&mut state).unwrap();
        let lengths: Vec<Vec<u8>> = fields.sources().iter().map(|source| source.bytes.to_vec()).collect();
        assert_eq!(lengths, [10u64.to_le_bytes().to_vec(), vec![0; 8]]);
        assert_eq!(fields.append_paths(), [log.clone(), missing.clone()]);
        let odd = problems(|fields| fields.append_file("directory", scratch.path()));
        assert!(matches!(&odd[0], DescribeProblem::File { field, .. } if field == "directory"), "{odd:?}");
    }

    #[test]
    fn type_names_lose_their_modules() {
        assert_eq!(short_type_name::<Vec<Option<std::path::PathBuf>>>(), "Vec<Option<PathBuf>>");
        assert_eq!(short_type_name::<(f64, [u8; 2])>(), "(f64, [u8; 2])");
        assert_eq!(short_type_name::<str>(), "str");
    }

    #[test]
    fn nests_name_their_fields() {
        #[derive(crate::State)]
        struct Inner {
            depth: Vec<f64>,
        }
        #[derive(crate::State)]
        struct Outer {
            #[piton(nest)]
            ocean: Inner,
            #[piton(nest, rename = "air")]
            atmosphere: Box<dyn State>,
            depth: f64,
        }
        let inner = || Inner { depth: vec![] };
        let mut outer = Outer { ocean: inner(), atmosphere: Box::new(inner()), depth: 1. };
        let outline = Fields::of(&mut outer).unwrap().outline();
        let names: Vec<&str> = outline.fields.iter().map(|field| field.name.as_str()).collect();
        assert_eq!(names, ["ocean.depth", "air.depth", "depth"]);
        assert_eq!(outline.nested("air").fields[0].name, "depth");
        assert!(outline.get("air.depth").is_some() && outline.nested("ai").fields.is_empty());
    }
}
