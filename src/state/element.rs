//! What one element of an array looks like: the numbers in it, by width and place.
//!
//! In comes a Rust type that implements [`Element`]; out go its canonical text for the shard, its size, the width by
//! which the codec filters it, and its NumPy description. The text of a shard comes back as an [`OwnedKind`], parsed
//! within fixed bounds because a file may say anything.
//!
//! # The text
//!
//! ```text
//! kind    = scalar | complex | array | record
//! scalar  = "f32" | "f64" | "i8" | "i16" | "i32" | "i64" | "u8" | "u16" | "u32" | "u64"
//! complex = "complex<" ( "f32" | "f64" ) ">"
//! array   = "[" kind "; " count "]"
//! record  = "{" field { ", " field } "; " bytes "}"
//! field   = name ": " kind " @" offset
//! ```
//!
//! `count`, `bytes` and `offset` are decimal without leading zeros, in elements, bytes and bytes. Fields follow each
//! other by offset and do not overlap. A name has no white space, control character, or any of ``:;,@{}[]<>"'\``.
//! There is exactly one text for a kind, so texts may be compared. Numbers are little-endian, complex numbers real
//! part first.

use std::fmt;
use std::str::FromStr;

use num_complex::Complex;

// Arrays are stored as they lie in memory, and the format is little-endian.
#[cfg(target_endian = "big")]
compile_error!(
    "piton stores arrays as they lie in memory and its format is little-endian; big-endian is not supported"
);

/// How deep kinds may be nested in each other.
const MAX_DEPTH: usize = 16;
/// The longest text of a kind, in bytes.
const MAX_TEXT: usize = 16 << 10;
/// The largest element, in bytes.
const MAX_BYTES: u64 = 1 << 32;

/// A type whose values can be the elements of a protected array: plain numbers without padding, at known places.
///
/// It is there for `f32`, `f64`, `i8` … `i64`, `u8` … `u64`, `Complex<f32>`, `Complex<f64>` and fixed arrays `[T; N]`
/// of elements. `#[derive(piton::Element)]` implements it for `#[repr(C)]` structs with named fields.
///
/// ```
/// use piton::Element;
/// assert_eq!(<[f64; 2]>::KIND.to_string(), "[f64; 2]");
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an element of a protected array",
    label = "no plain number, nor made of such",
    note = "elements are f32, f64, i8 … i64, u8 … u64, Complex of floats, fixed arrays of elements, and `#[repr(C)]` \
            structs with `#[derive(Clone, Copy, piton::Element)]`",
    note = "what serde can carry is protected with `#[piton(value)]` on the field, or `fields.value(…)`"
)]
pub trait Element: bytemuck::Pod + Send + Sync {
    /// What the element consists of. Its size must be that of the type; descriptions are refused otherwise.
    const KIND: Kind;
}

/// A number as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scalar {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary64.
    F64,
    /// Signed, 8 bits.
    I8,
    /// Signed, 16 bits.
    I16,
    /// Signed, 32 bits.
    I32,
    /// Signed, 64 bits.
    I64,
    /// Unsigned, 8 bits.
    U8,
    /// Unsigned, 16 bits.
    U16,
    /// Unsigned, 32 bits.
    U32,
    /// Unsigned, 64 bits.
    U64,
}

impl Scalar {
    const ALL: [Scalar; 10] = [
        Scalar::F32,
        Scalar::F64,
        Scalar::I8,
        Scalar::I16,
        Scalar::I32,
        Scalar::I64,
        Scalar::U8,
        Scalar::U16,
        Scalar::U32,
        Scalar::U64,
    ];

    /// Its size in bytes.
    pub const fn bytes(self) -> usize {
        match self {
            Scalar::I8 | Scalar::U8 => 1,
            Scalar::I16 | Scalar::U16 => 2,
            Scalar::F32 | Scalar::I32 | Scalar::U32 => 4,
            Scalar::F64 | Scalar::I64 | Scalar::U64 => 8,
        }
    }

    /// Its name in Rust.
    pub const fn name(self) -> &'static str {
        match self {
            Scalar::F32 => "f32",
            Scalar::F64 => "f64",
            Scalar::I8 => "i8",
            Scalar::I16 => "i16",
            Scalar::I32 => "i32",
            Scalar::I64 => "i64",
            Scalar::U8 => "u8",
            Scalar::U16 => "u16",
            Scalar::U32 => "u32",
            Scalar::U64 => "u64",
        }
    }

    /// Its type string in NumPy's array interface.
    pub const fn numpy(self) -> &'static str {
        match self {
            Scalar::F32 => "<f4",
            Scalar::F64 => "<f8",
            Scalar::I8 => "|i1",
            Scalar::I16 => "<i2",
            Scalar::I32 => "<i4",
            Scalar::I64 => "<i8",
            Scalar::U8 => "|u1",
            Scalar::U16 => "<u2",
            Scalar::U32 => "<u4",
            Scalar::U64 => "<u8",
        }
    }

    pub(crate) const fn is_float(self) -> bool {
        matches!(self, Scalar::F32 | Scalar::F64)
    }
}

/// What an element consists of, as a constant of its type. [`OwnedKind`] is the same, read from a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One number.
    Scalar(Scalar),
    /// Two floating-point numbers: the real and the imaginary part.
    Complex(Scalar),
    /// A fixed array `[T; N]`.
    Array {
        /// What the array consists of.
        element: &'static Kind,
        /// How many of them.
        count: usize,
    },
    /// A record with named fields.
    Record {
        /// The fields, by offset.
        fields: &'static [KindField],
        /// The size of the whole record in bytes.
        bytes: usize,
    },
}

/// One field of a [`Kind::Record`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KindField {
    /// The field's name.
    pub name: &'static str,
    /// What it consists of.
    pub kind: Kind,
    /// Where it starts in the record, in bytes.
    pub offset: usize,
}

impl Kind {
    /// The size of one element in bytes.
    pub const fn bytes(&self) -> usize {
        match self {
            Kind::Scalar(scalar) => scalar.bytes(),
            Kind::Complex(scalar) => 2 * scalar.bytes(),
            Kind::Array { element, count } => element.bytes() * *count,
            Kind::Record { bytes, .. } => *bytes,
        }
    }

    /// How a codec may filter arrays of it: the size of one element, and the width of its numbers, both in bytes. The
    /// width is 1 where numbers of different widths are mixed.
    pub fn grain(&self) -> (usize, usize) {
        (self.bytes(), self.lane().unwrap_or(1))
    }

    /// The width that all numbers in it have, unless they differ or something else lies between them.
    fn lane(&self) -> Option<usize> {
        match self {
            Kind::Scalar(scalar) | Kind::Complex(scalar) => Some(scalar.bytes()),
            Kind::Array { element, .. } => element.lane(),
            Kind::Record { fields, bytes } => {
                let lane = fields.first()?.kind.lane()?;
                let all_alike = fields.iter().all(|field| field.kind.lane() == Some(lane));
                let covered: usize = fields.iter().map(|field| field.kind.bytes()).sum();
                (all_alike && covered == *bytes).then_some(lane)
            }
        }
    }
}

/// Prints the canonical text that the module describes.
impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Scalar(scalar) => formatter.write_str(scalar.name()),
            Kind::Complex(scalar) => write!(formatter, "complex<{}>", scalar.name()),
            Kind::Array { element, count } => write!(formatter, "[{element}; {count}]"),
            Kind::Record { fields, bytes } => {
                let parts = fields.iter().map(|field| (field.name, &field.kind, field.offset as u64));
                print_record(formatter, parts, *bytes as u64)
            }
        }
    }
}

fn print_record<'k, K: fmt::Display + 'k>(
    formatter: &mut fmt::Formatter<'_>,
    fields: impl Iterator<Item = (&'k str, &'k K, u64)>,
    bytes: u64,
) -> fmt::Result {
    formatter.write_str("{")?;
    for (position, (name, kind, offset)) in fields.enumerate() {
        let separator = if position == 0 { "" } else { ", " };
        write!(formatter, "{separator}{name}: {kind} @{offset}")?;
    }
    write!(formatter, "; {bytes}}}")
}

/// A [`Kind`] that was read from a file, for readers that do not know the application's types.
///
/// ```
/// let kind: piton::OwnedKind = "{x: f64 @0, id: u64 @8; 16}".parse()?;
/// assert_eq!(kind.bytes(), 16);
/// assert_eq!(kind.numpy(), ("[('x', '<f8'), ('id', '<u8')]".to_owned(), vec![]));
/// # Ok::<(), piton::KindError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OwnedKind {
    /// One number.
    Scalar(Scalar),
    /// Two floating-point numbers: the real and the imaginary part.
    Complex(Scalar),
    /// A fixed array `[T; N]`.
    Array {
        /// What the array consists of.
        element: Box<OwnedKind>,
        /// How many of them.
        count: u64,
    },
    /// A record with named fields.
    Record {
        /// The fields, by offset.
        fields: Vec<OwnedKindField>,
        /// The size of the whole record in bytes.
        bytes: u64,
    },
}

/// One field of an [`OwnedKind::Record`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedKindField {
    /// The field's name.
    pub name: String,
    /// What it consists of.
    pub kind: OwnedKind,
    /// Where it starts in the record, in bytes.
    pub offset: u64,
}

impl OwnedKind {
    /// The size of one element in bytes. Parsed kinds are at most 4 GiB large.
    pub fn bytes(&self) -> u64 {
        match self {
            OwnedKind::Scalar(scalar) => scalar.bytes() as u64,
            OwnedKind::Complex(scalar) => 2 * scalar.bytes() as u64,
            OwnedKind::Array { element, count } => element.bytes().saturating_mul(*count),
            OwnedKind::Record { bytes, .. } => *bytes,
        }
    }

    /// What a NumPy file calls it: the `descr` entry of the header as a Python literal, and the dimensions that a fixed
    /// array adds behind those of the array it is the element of.
    ///
    /// `[f64; 2]` gives `'<f8'` and `[2]`; bytes of a record that belong to no field become unnamed `|V` entries.
    pub fn numpy(&self) -> (String, Vec<u64>) {
        match self {
            OwnedKind::Scalar(scalar) => (format!("'{}'", scalar.numpy()), Vec::new()),
            OwnedKind::Complex(scalar) => (format!("'<c{}'", 2 * scalar.bytes()), Vec::new()),
            OwnedKind::Array { element, count } => {
                let (descr, inner) = element.numpy();
                (descr, std::iter::once(*count).chain(inner).collect())
            }
            OwnedKind::Record { fields, bytes } => {
                let mut entries = Vec::new();
                let mut reached = 0;
                for field in fields {
                    if field.offset > reached {
                        entries.push(format!("('', '|V{}')", field.offset - reached));
                    }
                    let (descr, dimensions) = field.kind.numpy();
                    entries.push(match dimensions.as_slice() {
                        [] => format!("('{}', {descr})", field.name),
                        [only] => format!("('{}', {descr}, ({only},))", field.name),
                        several => {
                            let texts: Vec<String> = several.iter().map(u64::to_string).collect();
                            format!("('{}', {descr}, ({}))", field.name, texts.join(", "))
                        }
                    });
                    reached = field.offset.saturating_add(field.kind.bytes());
                }
                if *bytes > reached {
                    entries.push(format!("('', '|V{}')", bytes - reached));
                }
                (format!("[{}]", entries.join(", ")), Vec::new())
            }
        }
    }
}

impl From<Kind> for OwnedKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Scalar(scalar) => OwnedKind::Scalar(scalar),
            Kind::Complex(scalar) => OwnedKind::Complex(scalar),
            Kind::Array { element, count } => {
                OwnedKind::Array { element: Box::new((*element).into()), count: count as u64 }
            }
            Kind::Record { fields, bytes } => {
                let owned = |field: &KindField| OwnedKindField {
                    name: field.name.to_owned(),
                    kind: field.kind.into(),
                    offset: field.offset as u64,
                };
                OwnedKind::Record { fields: fields.iter().map(owned).collect(), bytes: bytes as u64 }
            }
        }
    }
}

/// Prints the canonical text that the module describes.
impl fmt::Display for OwnedKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OwnedKind::Scalar(scalar) => formatter.write_str(scalar.name()),
            OwnedKind::Complex(scalar) => write!(formatter, "complex<{}>", scalar.name()),
            OwnedKind::Array { element, count } => write!(formatter, "[{element}; {count}]"),
            OwnedKind::Record { fields, bytes } => {
                let parts = fields.iter().map(|field| (field.name.as_str(), &field.kind, field.offset));
                print_record(formatter, parts, *bytes)
            }
        }
    }
}

/// A text is not that of an element type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an element type: {reason} at byte {at} of its text")]
pub struct KindError {
    reason: &'static str,
    at: usize,
}

impl FromStr for OwnedKind {
    type Err = KindError;

    fn from_str(text: &str) -> Result<Self, KindError> {
        if text.len() > MAX_TEXT {
            return Err(KindError { reason: "the text is longer than 16 KiB", at: 0 });
        }
        let mut parser = Parser { text, at: 0 };
        let kind = parser.kind(0)?;
        match parser.rest() {
            "" => Ok(kind),
            _ => Err(parser.error("nothing more is expected")),
        }
    }
}

/// Reads the grammar of the module. Every step consumes text, and the text and the depth are bounded, so that work and
/// memory are.
struct Parser<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Parser<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn error(&self, reason: &'static str) -> KindError {
        KindError { reason, at: self.at }
    }

    fn take(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn require(&mut self, token: &str, reason: &'static str) -> Result<(), KindError> {
        if self.take(token) { Ok(()) } else { Err(self.error(reason)) }
    }

    fn scalar(&mut self) -> Result<Scalar, KindError> {
        let found = Scalar::ALL.into_iter().find(|scalar| self.rest().starts_with(scalar.name()));
        let scalar = found.ok_or_else(|| self.error("a type is expected"))?;
        self.at += scalar.name().len();
        Ok(scalar)
    }

    fn number(&mut self) -> Result<u64, KindError> {
        let rest = self.rest();
        let digits = &rest[..rest.bytes().take_while(u8::is_ascii_digit).count()];
        if digits.len() > 1 && digits.starts_with('0') {
            return Err(self.error("a number without leading zeros is expected"));
        }
        let number = digits.parse::<u64>().map_err(|_| self.error("a number is expected"))?;
        if number > MAX_BYTES {
            return Err(self.error("a number of at most 4 Gi is expected"));
        }
        self.at += digits.len();
        Ok(number)
    }

    fn name(&mut self) -> Result<String, KindError> {
        let rest = self.rest();
        let ends = |c: char| c.is_whitespace() || c.is_control() || ":;,@{}[]<>\"'\\".contains(c);
        let name = &rest[..rest.find(ends).unwrap_or(rest.len())];
        if name.is_empty() {
            return Err(self.error("a field's name is expected"));
        }
        self.at += name.len();
        Ok(name.to_owned())
    }

    fn kind(&mut self, depth: usize) -> Result<OwnedKind, KindError> {
        if depth >= MAX_DEPTH {
            return Err(self.error("types are nested too deep"));
        }
        if self.take("[") {
            self.array(depth)
        } else if self.take("{") {
            self.record(depth)
        } else if self.take("complex<") {
            let scalar = self.scalar()?;
            if !scalar.is_float() {
                return Err(self.error("complex numbers of f32 or f64 are expected"));
            }
            self.require(">", "`>` is expected")?;
            Ok(OwnedKind::Complex(scalar))
        } else {
            self.scalar().map(OwnedKind::Scalar)
        }
    }

    fn array(&mut self, depth: usize) -> Result<OwnedKind, KindError> {
        let element = Box::new(self.kind(depth + 1)?);
        self.require("; ", "`; ` and the number of elements are expected")?;
        let count = self.number()?;
        self.require("]", "`]` is expected")?;
        match element.bytes().checked_mul(count) {
            Some(1..=MAX_BYTES) => Ok(OwnedKind::Array { element, count }),
            _ => Err(self.error("an array of 1 byte to 4 GiB is expected")),
        }
    }

    fn record(&mut self, depth: usize) -> Result<OwnedKind, KindError> {
        let mut fields: Vec<OwnedKindField> = Vec::new();
        let mut names = std::collections::HashSet::new();
        let mut reached = 0;
        loop {
            let name = self.name()?;
            if !names.insert(name.clone()) {
                return Err(self.error("field names that differ are expected"));
            }
            self.require(": ", "`: ` and a type are expected")?;
            let kind = self.kind(depth + 1)?;
            self.require(" @", "` @` and an offset are expected")?;
            let offset = self.number()?;
            if offset < reached {
                return Err(self.error("an offset behind the previous field is expected"));
            }
            // Both are at most MAX_BYTES.
            reached = offset + kind.bytes();
            fields.push(OwnedKindField { name, kind, offset });
            if !self.take(", ") {
                break;
            }
        }
        self.require("; ", "`; ` and the size of the record are expected")?;
        let bytes = self.number()?;
        if bytes < reached {
            return Err(self.error("a size that holds all fields is expected"));
        }
        self.require("}", "`}` is expected")?;
        Ok(OwnedKind::Record { fields, bytes })
    }
}

macro_rules! scalar_elements {
    ($($type:ty => $scalar:ident),* $(,)?) => {
        $(impl Element for $type {
            const KIND: Kind = Kind::Scalar(Scalar::$scalar);
        })*
    };
}

scalar_elements! {
    f32 => F32, f64 => F64,
    i8 => I8, i16 => I16, i32 => I32, i64 => I64,
    u8 => U8, u16 => U16, u32 => U32, u64 => U64,
}

impl Element for Complex<f32> {
    const KIND: Kind = Kind::Complex(Scalar::F32);
}

impl Element for Complex<f64> {
    const KIND: Kind = Kind::Complex(Scalar::F64);
}

impl<T: Element, const N: usize> Element for [T; N] {
    const KIND: Kind = Kind::Array { element: &T::KIND, count: N };
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Copy, crate::Element)]
    #[repr(C)]
    struct Particle {
        position: [f64; 3],
        id: u32,
        r#type: u32,
    }

    #[derive(Clone, Copy, crate::Element)]
    #[repr(C)]
    struct Pair {
        first: Complex<f64>,
        second: [[f64; 2]; 3],
    }

    #[test]
    fn kinds_print_as_documented() {
        assert_eq!(f64::KIND.to_string(), "f64");
        assert_eq!(<[f64; 2]>::KIND.to_string(), "[f64; 2]");
        assert_eq!(Complex::<f32>::KIND.to_string(), "complex<f32>");
        assert_eq!(Particle::KIND.to_string(), "{position: [f64; 3] @0, id: u32 @24, type: u32 @28; 32}");
        assert_eq!(<[Pair; 2]>::KIND.to_string(), "[{first: complex<f64> @0, second: [[f64; 2]; 3] @16; 64}; 2]");
    }

    #[test]
    fn sizes_are_those_of_the_types() {
        assert_eq!(Particle::KIND.bytes(), size_of::<Particle>());
        assert_eq!(<[Pair; 2]>::KIND.bytes(), size_of::<[Pair; 2]>());
        for scalar in Scalar::ALL {
            assert_eq!(Kind::Scalar(scalar).grain(), (scalar.bytes(), scalar.bytes()));
        }
    }

    #[test]
    fn lanes_are_the_common_width_or_one() {
        assert_eq!(Complex::<f64>::KIND.grain(), (16, 8));
        assert_eq!(<[[f32; 3]; 2]>::KIND.grain(), (24, 4));
        assert_eq!(Particle::KIND.grain(), (32, 1));
        assert_eq!(Pair::KIND.grain(), (64, 8));
    }

    #[test]
    fn numpy_descriptions_follow_its_array_interface() {
        let owned = |kind: Kind| OwnedKind::from(kind).numpy();
        assert_eq!(owned(u8::KIND), ("'|u1'".to_owned(), vec![]));
        assert_eq!(owned(Complex::<f32>::KIND), ("'<c8'".to_owned(), vec![]));
        assert_eq!(owned(<[[i16; 3]; 2]>::KIND), ("'<i2'".to_owned(), vec![2, 3]));
        assert_eq!(
            owned(Particle::KIND),
            ("[('position', '<f8', (3,)), ('id', '<u4'), ('type', '<u4')]".to_owned(), vec![])
        );
        assert_eq!(owned(Pair::KIND).0, "[('first', '<c16'), ('second', '<f8', (3, 2))]");
        let gaps: OwnedKind = "{a: u8 @1, b: f64 @8; 24}".parse().unwrap();
        assert_eq!(gaps.numpy().0, "[('', '|V1'), ('a', '|u1'), ('', '|V6'), ('b', '<f8'), ('', '|V8')]");
    }

    #[test]
    fn hostile_texts_are_refused() {
        let deep = format!("{}f64{}", "[".repeat(2000), "; 1]".repeat(2000));
        let wide = format!("{{{}; 8}}", vec!["x: u8 @0"; 5000].join(", "));
        let huge = "[[[f64; 4294967296]; 4294967296]; 4294967296]";
        let refused = [
            "",
            " f64",
            "f64 ",
            "f16",
            "f644",
            "complex<u8>",
            "complex<f64",
            "[f64; 0]",
            "[f64;2]",
            "[f64; 02]",
            "[f64; -1]",
            "[f64; 2",
            "[f64; 99999999999999999999999]",
            "{; 0}",
            "{x: f64 @0}",
            "{x: f64 @0; 7}",
            "{x: f64 @0, x: f64 @8; 16}",
            "{x: f64 @0, y: f64 @4; 16}",
            "{: f64 @0; 8}",
            "{a b: f64 @0; 8}",
            "{x: f64 @4294967297; 8}",
            "{x: {y: f64 @0; 8} @0, z: u8 @18446744073709551615; 8}",
            "\u{e9}",
            "{\u{e9}: f64 @\u{661}; 8}",
            huge,
            &deep,
            &wide,
        ];
        for text in refused {
            assert!(text.parse::<OwnedKind>().is_err(), "{text:.80} was accepted");
        }
        assert_eq!(
            "[f64; 0]".parse::<OwnedKind>().unwrap_err().to_string(),
            "not an element type: an array of 1 byte to 4 GiB is expected at byte 8 of its text"
        );
    }

    fn any_kind() -> impl Strategy<Value = OwnedKind> {
        let scalar = prop::sample::select(Scalar::ALL.to_vec());
        let complex = prop::sample::select(vec![Scalar::F32, Scalar::F64]);
        let leaf = prop_oneof![scalar.prop_map(OwnedKind::Scalar), complex.prop_map(OwnedKind::Complex)];
        leaf.prop_recursive(4, 24, 5, |inner| {
            let record = (prop::collection::vec((inner.clone(), 0u64..9), 1..5), 0u64..9).prop_map(|(parts, tail)| {
                let mut fields = Vec::new();
                let mut reached = 0;
                for (position, (kind, gap)) in parts.into_iter().enumerate() {
                    let offset = reached + gap;
                    reached = offset + kind.bytes();
                    fields.push(OwnedKindField { name: format!("größe_{position}"), kind, offset });
                }
                OwnedKind::Record { fields, bytes: reached + tail }
            });
            let array =
                (inner, 1u64..9).prop_map(|(element, count)| OwnedKind::Array { element: Box::new(element), count });
            prop_oneof![array, record]
        })
    }

    proptest! {
        #[test]
        fn texts_come_back_as_they_went(kind in any_kind()) {
            prop_assert_eq!(kind.to_string().parse::<OwnedKind>(), Ok(kind));
        }

        #[test]
        fn what_is_accepted_is_canonical(text in "[\\[\\]{}a-f0-9:;,@ <>]{0,24}|\\{x: f64 @[0-9]{1,3}; [0-9]{1,3}\\}") {
            if let Ok(kind) = text.parse::<OwnedKind>() {
                prop_assert_eq!(kind.to_string(), text);
            }
        }

        #[test]
        fn no_text_breaks_the_parser(kind in any_kind(), place in any::<prop::sample::Index>(), with in any::<char>()) {
            let mut letters: Vec<char> = kind.to_string().chars().collect();
            let place = place.index(letters.len());
            letters[place] = with;
            let altered: String = letters.into_iter().collect();
            if let Ok(parsed) = altered.parse::<OwnedKind>() {
                prop_assert_eq!(parsed.to_string(), altered);
            }
        }
    }
}
