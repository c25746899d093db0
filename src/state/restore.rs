//! The way back: a saved outline and saved bytes into the state's own fields.
//!
//! Two phases, so that what can be refused is refused before anything is touched, on all ranks:
//!
//! 1. [`Fields::check`] compares the outlines, [`Fields::parse`] parses values and compares constants and files,
//!    [`Fields::reserve`] gets the memory. None of them changes what the application sees.
//! 2. [`Fields::array_targets`] gives the arrays' memory to the decoder, [`Fields::apply`] puts the values in
//!    place and cuts the files. From the first of these until both are done the state is neither the old one nor the
//!    saved one.
//!
//! The saved outline comes from a file and may say anything; `check` accepts it only if every array's bytes, shape and
//! element size agree with each other and with the memory here.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io;
use std::path::Path;

use super::fields::{Body, Fields, length_of};
use super::{Block, FieldClass, FieldOutline, Outline, Unfit};

const MISFIT: &str = "the checkpoint does not fit the state that is described; describe the state as it was saved";

/// Which saved field belongs to which described one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mapping {
    /// By own index: the index in the saved outline, and the field's class.
    saved: Vec<(usize, FieldClass)>,
}

impl Mapping {
    /// The index in the saved outline of the field that is described at `own`.
    pub fn saved_index(&self, own: usize) -> Option<usize> {
        self.saved.get(own).map(|&(saved, _)| saved)
    }

    /// The fields whose bytes [`Fields::parse`] wants, as (own index, saved index).
    pub fn to_parse(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let entries = self.saved.iter().enumerate();
        entries.filter(|(_, (_, class))| *class != FieldClass::Array).map(|(own, &(saved, _))| (own, saved))
    }
}

impl Fields<'_> {
    /// Compares what is described with what was saved.
    ///
    /// # Errors
    /// They differ in a way that a resume cannot bridge; the table names every field that does.
    pub(crate) fn check(&self, saved: &Outline) -> Result<Mapping, Unfit> {
        let mut unfit = Unfit::new(MISFIT);
        let mut by_name = HashMap::new();
        for (index, field) in saved.fields.iter().enumerate() {
            if by_name.insert(field.name.as_str(), index).is_some() {
                unfit = unfit.row(&field.name, "one field of this name", "two");
            }
        }
        let mut mapping = Mapping { saved: Vec::with_capacity(self.fields.len()) };
        for own in &self.outline.fields {
            let Some(index) = by_name.remove(own.name.as_str()) else {
                unfit = unfit.row(&own.name, look(own, own), "not there");
                continue;
            };
            let found = &saved.fields[index];
            mapping.saved.push((index, own.class));
            if let Some((expected, found)) = difference(own, found) {
                unfit = unfit.row(&own.name, expected, found);
            }
        }
        for field in saved.fields.iter().filter(|field| by_name.contains_key(field.name.as_str())) {
            unfit = unfit.row(&field.name, "not described", look(field, field));
        }
        if unfit.rows().is_empty() { Ok(mapping) } else { Err(unfit) }
    }

    /// Takes the saved bytes of a value, constant or append file: a value is parsed and kept aside, a constant
    /// compared, a file looked at. To be called for each field of [`Mapping::to_parse`].
    ///
    /// # Errors
    /// The bytes are not of that field's type, the constant is another one, or the file is shorter than it was.
    pub(crate) fn parse(&mut self, own: usize, bytes: &[u8]) -> Result<(), Unfit> {
        let (Some(field), Some(outline)) = (self.fields.get_mut(own), self.outline.fields.get(own)) else {
            return Err(Unfit::new(format!("there is no field {own}")));
        };
        let name = &outline.name;
        match &mut field.body {
            Body::Array(_) => Err(Unfit::new(format!("{name} is an array; arrays are not parsed"))),
            Body::Value { kind, place, .. } => place.stage(bytes).map_err(|reason| {
                let found = format!("{} bytes that are none: {reason}", bytes.len());
                Unfit::new(MISFIT).row(name, format!("value {kind}"), found)
            }),
            Body::Constant { bytes: own_bytes, .. } if own_bytes == bytes => Ok(()),
            Body::Constant { kind, bytes: own_bytes } => {
                let message = "a constant is not what it was at the checkpoint; resume with the same, or start afresh";
                Err(Unfit::new(message).row(name, printable(kind, own_bytes), printable(kind, bytes)))
            }
            Body::AppendFile { path, staged, .. } => {
                let refuse = |here: String, saved: String| {
                    let message = format!(
                        "{} cannot be cut back to where it was; bring the file back, or start afresh",
                        path.display()
                    );
                    Err(Unfit::new(message).row(name, here, saved))
                };
                let Ok(saved) = <[u8; 8]>::try_from(bytes).map(u64::from_le_bytes) else {
                    return refuse("a length of 8 bytes".to_owned(), format!("{} bytes", bytes.len()));
                };
                match length_of(path) {
                    Ok(None) if saved == 0 => {}
                    Ok(None) => return refuse("no such file".to_owned(), format!("{saved} bytes")),
                    Ok(Some(length)) if length < saved => {
                        return refuse(format!("a file of {length} bytes"), format!("{saved} bytes"));
                    }
                    Ok(Some(_)) => {}
                    Err(reason) => return refuse(reason, format!("{saved} bytes")),
                }
                *staged = Some(saved);
                Ok(())
            }
        }
    }

    /// Gets the memory for vectors that will grow.
    ///
    /// # Errors
    /// There is not enough of it.
    pub(crate) fn reserve(&mut self, mapping: &Mapping, saved: &Outline) -> Result<(), Unfit> {
        for (own, field) in self.fields.iter_mut().enumerate() {
            let Body::Array(array) = &mut field.body else { continue };
            let Some(length) = new_length(&self.outline.fields[own], mapping.saved_index(own), saved) else { continue };
            array.reserve(length).map_err(|error| {
                let outline = &self.outline.fields[own];
                let found = format!("{length} elements of {} bytes", outline.element_bytes);
                Unfit::new(format!("no memory for what was saved: {error}")).row(
                    &outline.name,
                    look(outline, outline),
                    found,
                )
            })?;
        }
        Ok(())
    }

    /// Gives vectors their saved length, and hands out the memory of all arrays, each with its index in the saved
    /// outline and as long as that says. To be called after [`reserve`](Fields::reserve).
    pub(crate) fn array_targets<'f>(&'f mut self, mapping: &Mapping, saved: &Outline) -> Vec<(usize, &'f mut [u8])> {
        let mut targets = Vec::new();
        for (own, field) in self.fields.iter_mut().enumerate() {
            let (Body::Array(array), Some(index)) = (&mut field.body, mapping.saved_index(own)) else { continue };
            if let Some(length) = new_length(&self.outline.fields[own], Some(index), saved) {
                array.resize(length);
            }
            targets.push((index, array.bytes_mut()));
        }
        targets
    }

    /// Puts the parsed values in place and cuts the files that only grow back to their saved length.
    ///
    /// # Errors
    /// A file cannot be cut, or became too short since it was looked at; the error names it.
    pub(crate) fn apply(self) -> io::Result<()> {
        for field in self.fields {
            match field.body {
                Body::Value { mut place, .. } => place.apply(),
                Body::AppendFile { path, staged: Some(length), .. } => {
                    let say = |error: io::Error| {
                        let text = format!("{} cannot be cut back to {length} bytes: {error}", path.display());
                        io::Error::new(error.kind(), text)
                    };
                    cut(&path, length).map_err(say)?;
                }
                Body::AppendFile { .. } | Body::Array(_) | Body::Constant { .. } => {}
            }
        }
        Ok(())
    }
}

fn cut(path: &Path, length: u64) -> io::Result<()> {
    let file = match OpenOptions::new().write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && length == 0 => return Ok(()),
        opened => opened?,
    };
    let now = file.metadata()?.len();
    if now < length {
        // Setting the length would fill it up with zeros.
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("it has only {now}")));
    }
    if now > length {
        file.set_len(length)?;
    }
    file.sync_all()
}

/// The length that a vector takes on resume, if it can take another.
fn new_length(own: &FieldOutline, index: Option<usize>, saved: &Outline) -> Option<usize> {
    if !own.resizable {
        return None;
    }
    let &[length] = saved.fields.get(index?)?.shape.as_slice() else { return None };
    usize::try_from(length).ok()
}

/// What differs between a described field and the saved one of its name, as two texts.
fn difference(own: &FieldOutline, saved: &FieldOutline) -> Option<(String, String)> {
    let texts = || Some((look(own, saved), look(saved, own)));
    if own.class != saved.class {
        return texts();
    }
    match own.class {
        FieldClass::Array => {
            let shape_fits = own.shape == saved.shape || (own.resizable && saved.shape.len() == 1);
            if own.kind != saved.kind || own.block != saved.block || !shape_fits {
                return texts();
            }
            // A saved outline that contradicts itself must not reach the resizing.
            let elements = saved.shape.iter().try_fold(1u64, |product, &length| product.checked_mul(length));
            let bytes = elements.and_then(|elements| elements.checked_mul(own.element_bytes));
            if saved.element_bytes != own.element_bytes || bytes != Some(saved.bytes) || bytes > Some(isize::MAX as u64)
            {
                let claim = format!("{} bytes for {:?} of {} each", saved.bytes, saved.shape, saved.element_bytes);
                return Some((look(own, own), claim));
            }
            None
        }
        FieldClass::Value | FieldClass::Constant => {
            let (own_numbers, saved_numbers) = (numbers_in(&own.kind), numbers_in(&saved.kind));
            // The bytes of a value do not tell its type, and those of one number can often be read as another's.
            let other_type = !own_numbers.is_empty() && !saved_numbers.is_empty() && own_numbers != saved_numbers;
            if other_type { texts() } else { None }
        }
        FieldClass::AppendFile => None,
    }
}

/// The number types in the name of a Rust type, in their order. Names of other types change too easily to rely on.
fn numbers_in(kind: &str) -> Vec<&str> {
    let words = kind.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
    words
        .filter_map(|word| match word {
            // These two are stored alike wherever the application runs.
            "usize" => Some("u64"),
            "isize" => Some("i64"),
            "f32" | "f64" | "i8" | "i16" | "i32" | "i64" | "i128" | "u8" | "u16" | "u32" | "u64" | "u128" | "bool"
            | "char" => Some(word),
            _ => None,
        })
        .collect()
}

/// What a field is, in the words of a table; its block only where the other one has a different one.
fn look(field: &FieldOutline, other: &FieldOutline) -> String {
    match field.class {
        FieldClass::Array => {
            let lengths: Vec<String> = field.shape.iter().take(8).map(u64::to_string).collect();
            let array = format!("array {} [{}]", field.kind, lengths.join(", "));
            match &field.block {
                _ if field.block == other.block => array,
                None => format!("{array}, no block"),
                Some(Block { global, offset, extent, halo }) => {
                    format!("{array}, block {extent:?} at {offset:?} of {global:?}, halo {halo:?}")
                }
            }
        }
        FieldClass::Value => format!("value {}", field.kind),
        FieldClass::Constant => format!("constant {}", field.kind),
        FieldClass::AppendFile => "append file".to_owned(),
    }
}

/// A constant as a person would write it, where its type is a simple one; its bytes otherwise.
fn printable(kind: &str, bytes: &[u8]) -> String {
    fn show<'b, T: serde::Deserialize<'b> + std::fmt::Debug>(bytes: &'b [u8]) -> Option<String> {
        match postcard::take_from_bytes::<T>(bytes) {
            Ok((value, [])) => Some(format!("{value:?}")),
            _ => None,
        }
    }
    let shown = match kind {
        "f32" => show::<f32>(bytes),
        "f64" => show::<f64>(bytes),
        "bool" => show::<bool>(bytes),
        "u16" | "u32" | "u64" | "usize" => show::<u64>(bytes),
        "i16" | "i32" | "i64" | "isize" => show::<i64>(bytes),
        "String" | "str" | "&str" => show::<&str>(bytes),
        _ => None,
    };
    shown.unwrap_or_else(|| {
        let digits: String = bytes.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        let more = if bytes.len() > 16 { "…" } else { "" };
        format!("{} bytes {digits}{more}", bytes.len())
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use num_complex::Complex;
    use proptest::prelude::*;

    use super::super::State;
    use super::*;

    /// What a shard would hold.
    struct Saved {
        outline: Outline,
        bytes: Vec<Vec<u8>>,
    }

    fn save<S: State + ?Sized>(state: &mut S) -> Saved {
        let fields = Fields::of(state).unwrap();
        let sources = fields.sources();
        let bytes: Vec<Vec<u8>> = sources.iter().map(|source| source.bytes.to_vec()).collect();
        let outline = fields.outline();
        for (field, (bytes, source)) in outline.fields.iter().zip(bytes.iter().zip(&sources)) {
            assert_eq!((field.bytes, field.element_bytes), (bytes.len() as u64, source.stride as u64));
        }
        Saved { outline, bytes }
    }

    fn refusal<S: State + ?Sized>(state: &mut S, saved: &Saved) -> Unfit {
        try_restore(state, saved).unwrap_err()
    }

    fn try_restore<S: State + ?Sized>(state: &mut S, saved: &Saved) -> Result<(), Unfit> {
        state.prepare(&saved.outline)?;
        let mut fields = Fields::of(state).unwrap();
        let mapping = fields.check(&saved.outline)?;
        for (own, index) in mapping.to_parse() {
            fields.parse(own, &saved.bytes[index])?;
        }
        fields.reserve(&mapping, &saved.outline)?;
        for (index, target) in fields.array_targets(&mapping, &saved.outline) {
            target.copy_from_slice(&saved.bytes[index]);
        }
        fields.apply().unwrap();
        state.restored();
        Ok(())
    }

    #[derive(Clone, Copy, Debug, PartialEq, crate::Element)]
    #[repr(C)]
    struct Particle {
        position: [f64; 3],
        id: u64,
    }

    #[derive(Debug, Clone, PartialEq, crate::State)]
    struct Everything {
        depth: Vec<f64>,
        flow: Vec<[f64; 2]>,
        waves: Box<[Complex<f32>]>,
        wind: [f32; 3],
        particles: Vec<Particle>,
        time: f64,
        table: BTreeMap<String, Vec<u8>>,
        #[piton(value)]
        names: Vec<String>,
        #[piton(constant, rename = "dx")]
        spacing: f64,
        #[piton(skip)]
        scratch: u8,
        r#type: u32,
    }

    fn everything(seed: f64) -> Everything {
        Everything {
            depth: vec![seed, f64::NAN, f64::NEG_INFINITY],
            flow: vec![[seed, -0.0]; 4],
            waves: vec![Complex::new(seed as f32, 1.)].into(),
            wind: [seed as f32; 3],
            particles: vec![Particle { position: [seed; 3], id: seed as u64 }],
            time: seed,
            table: [("a".to_owned(), vec![seed as u8])].into(),
            names: vec![seed.to_string()],
            spacing: 0.5,
            scratch: seed as u8,
            r#type: seed as u32,
        }
    }

    #[test]
    fn everything_comes_back() {
        let mut before = everything(7.);
        let saved = save(&mut before);
        let mut after = everything(3.);
        try_restore(&mut after, &saved).unwrap();
        assert_eq!(after.scratch, 3);
        after.scratch = 7;
        // NaN is not equal to itself: compare how the states print.
        assert_eq!(format!("{after:?}"), format!("{before:?}"));
        assert!(saved.outline.get("dx").is_some() && saved.outline.get("type").is_some());
    }

    #[derive(crate::State)]
    struct Lone {
        value: f64,
    }

    proptest! {
        #[test]
        fn values_keep_every_bit(bits in any::<u64>()) {
            let saved = save(&mut Lone { value: f64::from_bits(bits) });
            let mut after = Lone { value: 0. };
            try_restore(&mut after, &saved).unwrap();
            prop_assert_eq!(after.value.to_bits(), bits);
        }

        #[test]
        fn paged_vectors_take_any_saved_length(saved_length in 0usize..50_000, own_length in 0usize..50_000) {
            #[derive(crate::State)]
            struct Particles { ids: crate::PagedVec<u16> }
            let ids: Vec<u16> = (0..saved_length as u16).collect();
            let saved = save(&mut Particles { ids: crate::PagedVec::from_slice(&ids).unwrap() });
            let mut after = Particles { ids: crate::PagedVec::new(own_length).unwrap() };
            after.ids.fill(9);
            try_restore(&mut after, &saved).unwrap();
            prop_assert!(after.ids[..] == ids);
        }

        #[test]
        fn vectors_take_any_saved_length(saved_length in 0usize..50, own_length in 0usize..50) {
            #[derive(crate::State)]
            struct Particles { ids: Vec<u16> }
            let ids: Vec<u16> = (0..saved_length as u16).collect();
            let saved = save(&mut Particles { ids: ids.clone() });
            let mut after = Particles { ids: vec![9; own_length] };
            try_restore(&mut after, &saved).unwrap();
            prop_assert_eq!(after.ids, ids);
        }

        #[test]
        fn hostile_bytes_of_values_are_errors(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            #[derive(crate::State)]
            struct Table { table: BTreeMap<String, Vec<u8>> }
            let mut state = Table { table: BTreeMap::new() };
            let mut fields = Fields::of(&mut state).unwrap();
            // Whatever the bytes say, the state itself stays as it is until `apply`.
            let _ = fields.parse(0, &bytes);
            drop(fields);
            prop_assert!(state.table.is_empty());
        }
    }

    #[test]
    fn borrowed_boxed_and_dyn_states_are_states() {
        let saved = save(&mut everything(7.));
        let mut owned = everything(3.);
        let borrowed: &mut Everything = &mut owned;
        try_restore(&mut { borrowed }, &saved).unwrap();
        assert_eq!(owned.time, 7.);
        let mut boxed: Box<dyn State> = Box::new(everything(3.));
        try_restore(&mut boxed, &saved).unwrap();
        assert_eq!(save(&mut boxed).bytes, saved.bytes);
        let mut plain = everything(3.);
        let reference: &mut dyn State = &mut plain;
        try_restore(reference, &saved).unwrap();
        assert_eq!(plain.time, 7.);
    }

    #[test]
    fn derived_generic_and_borrowing_states_work() {
        #[derive(crate::State)]
        struct Solver<'s, T: crate::Element, M, const N: usize>
        where
            M: Clone,
        {
            field: Vec<T>,
            edge: &'s mut [T],
            borrowed: &'s mut Vec<T>,
            #[piton(array)]
            fixed: [T; N],
            #[piton(nest)]
            model: M,
        }
        #[derive(Clone, crate::State)]
        struct Model {
            rate: f32,
            #[piton(skip)]
            doubled: f32,
        }
        let (mut edge, mut borrowed) = ([1u8, 2], vec![3u8]);
        let model = Model { rate: 1.5, doubled: 3. };
        let solver = Solver { field: vec![4u8], edge: &mut edge, borrowed: &mut borrowed, fixed: [5; 2], model };
        let saved = save(&mut { solver });
        let (mut edge, mut borrowed) = ([0u8; 2], vec![0u8; 8]);
        let model = Model { rate: 0., doubled: 0. };
        let mut solver = Solver { field: vec![], edge: &mut edge, borrowed: &mut borrowed, fixed: [0; 2], model };
        try_restore(&mut solver, &saved).unwrap();
        assert_eq!((solver.field, solver.fixed, solver.model.rate, solver.model.doubled), (vec![4], [5; 2], 1.5, 0.));
        assert_eq!((edge, borrowed), ([1, 2], vec![3]));
    }

    #[test]
    fn hooks_of_derived_nests_are_called() {
        struct Mesh {
            patches: Vec<Vec<f64>>,
            cells: usize,
        }
        impl State for Mesh {
            fn describe<'a>(&'a mut self, fields: &mut Fields<'a>) {
                for (index, patch) in self.patches.iter_mut().enumerate() {
                    fields.array(&format!("patch-{index}"), patch);
                }
                fields.constant("version", &1);
            }

            fn prepare(&mut self, saved: &Outline) -> Result<(), Unfit> {
                let patches = saved.fields.iter().filter(|field| field.name.starts_with("patch-")).count();
                if patches > 3 {
                    return Err(Unfit::new("too many patches"));
                }
                self.patches.resize(patches, Vec::new());
                Ok(())
            }

            fn restored(&mut self) {
                self.cells = self.patches.iter().map(Vec::len).sum();
            }
        }
        #[derive(crate::State)]
        struct Simulation {
            #[piton(nest)]
            mesh: Mesh,
            time: f64,
        }
        let with = |patches| Simulation { mesh: Mesh { patches, cells: 0 }, time: 0. };
        let mut after = with(vec![]);
        try_restore(&mut after, &save(&mut with(vec![vec![1.], vec![2., 3.]]))).unwrap();
        assert_eq!((after.mesh.cells, after.mesh.patches), (3, vec![vec![1.], vec![2., 3.]]));
        let saved = save(&mut with(vec![vec![]; 4]));
        assert_eq!(refusal(&mut with(vec![]), &saved).to_string(), "too many patches");
    }

    struct Grid {
        data: Vec<f64>,
        offset: usize,
    }

    impl State for Grid {
        fn describe<'a>(&'a mut self, fields: &mut Fields<'a>) {
            fields.array("data", &mut self.data).block_of([64, 4], [self.offset, 0], [2, 4]).halo([[1, 1], [0, 0]]);
        }
    }

    #[test]
    fn differences_are_a_table() {
        #[derive(crate::State)]
        struct Old {
            depth: Vec<f32>,
            bed: Box<[f64]>,
            time: f64,
            gone: f64,
            seed: u32,
        }
        #[derive(crate::State)]
        struct New {
            depth: Vec<f64>,
            bed: Box<[f64]>,
            time: u64,
            fresh: Vec<f64>,
            seed: Vec<u32>,
        }
        let saved = save(&mut Old { depth: vec![1.; 6], bed: Box::new([0.; 3]), time: 1., gone: 2., seed: 3 });
        let mut new = New { depth: vec![1.; 6], bed: Box::new([0.; 2]), time: 1, fresh: vec![], seed: vec![3] };
        let expected = "\
the checkpoint does not fit the state that is described; describe the state as it was saved
  field   described here    in the checkpoint
  depth   array f64 [6]     array f32 [6]
  bed     array f64 [2]     array f64 [3]
  time    value u64         value f64
  fresh   array f64 [0]     not there
  seed    array u32 [1]     value u32
  gone    not described     value f64";
        let lines = |text: &str| {
            text.lines()
                .map(|line| line.split_whitespace().collect())
                .collect::<Vec<Vec<_>>>()
                .iter()
                .map(|words: &Vec<&str>| words.join(" "))
                .collect::<Vec<_>>()
        };
        assert_eq!(lines(&refusal(&mut new, &saved).to_string()), lines(expected));
        assert_eq!((new.depth, new.time), (vec![1.; 6], 1));
    }

    #[test]
    fn another_block_is_refused() {
        let saved = save(&mut Grid { data: vec![1.; 16], offset: 8 });
        let mut moved = Grid { data: vec![0.; 16], offset: 10 };
        let text = refusal(&mut moved, &saved).to_string();
        assert!(text.contains("block [2, 4] at [10, 0] of [64, 4], halo [[1, 1], [0, 0]]"), "{text}");
        assert!(text.contains("block [2, 4] at [8, 0] of [64, 4], halo [[1, 1], [0, 0]]"), "{text}");
    }

    #[test]
    fn constants_must_be_the_same() {
        let saved = save(&mut everything(7.));
        let mut after = Everything { spacing: 0.25, ..everything(3.) };
        let unfit = refusal(&mut after, &saved);
        let row = &unfit.rows()[0];
        assert_eq!((row.field.as_str(), row.expected.as_str(), row.found.as_str()), ("dx", "0.25", "0.5"));
        assert_eq!(after.time, 3.);
        assert_eq!(printable("Odd", &[0xab; 20]), format!("20 bytes {}…", "ab".repeat(16)));
    }

    #[test]
    fn values_of_wrong_length_are_refused() {
        let mut saved = save(&mut Lone { value: 1. });
        saved.bytes[0].push(0);
        assert!(refusal(&mut Lone { value: 0. }, &saved).to_string().contains("1 of 9 bytes are left over"));
        saved.bytes[0].truncate(3);
        let mut after = Lone { value: 5. };
        assert_eq!(refusal(&mut after, &saved).rows()[0].field, "value");
        assert_eq!(after.value, 5.);
    }

    #[test]
    fn outlines_that_contradict_themselves_are_refused() {
        #[derive(crate::State)]
        struct Numbers {
            numbers: Vec<f64>,
        }
        let mut numbers = Numbers { numbers: vec![1.; 4] };
        let sound = save(&mut numbers).outline;
        type Change = fn(&mut FieldOutline);
        let changes: [Change; 7] = [
            |field| field.bytes = 31,
            |field| field.shape = vec![5],
            |field| field.shape = vec![u64::MAX / 4],
            |field| (field.shape, field.bytes) = (vec![1 << 61], 0),
            |field| (field.shape, field.bytes) = (vec![1 << 60], 1 << 63),
            |field| (field.element_bytes, field.bytes) = (4, 16),
            |field| field.shape = vec![2, 2],
        ];
        for (index, change) in changes.into_iter().enumerate() {
            let mut outline = sound.clone();
            change(&mut outline.fields[0]);
            assert!(Fields::of(&mut numbers).unwrap().check(&outline).is_err(), "change {index} was accepted");
        }
        let mut doubled = sound.clone();
        doubled.fields.push(sound.fields[0].clone());
        assert!(Fields::of(&mut numbers).unwrap().check(&doubled).is_err());
        // More than there is memory for, but consistent: refused when it is reserved, nothing changed.
        let mut large = sound.clone();
        (large.fields[0].shape, large.fields[0].bytes) = (vec![(1 << 60) - 1], (1 << 63) - 8);
        let mut fields = Fields::of(&mut numbers).unwrap();
        let mapping = fields.check(&large).unwrap();
        let unfit = fields.reserve(&mapping, &large).unwrap_err();
        assert!(unfit.to_string().starts_with("no memory for what was saved"), "{unfit}");
        drop(fields);
        assert_eq!(numbers.numbers, [1.; 4]);
    }

    struct Logged {
        path: std::path::PathBuf,
    }

    impl State for Logged {
        fn describe<'a>(&'a mut self, fields: &mut Fields<'a>) {
            fields.append_file("log", &self.path);
        }
    }

    #[test]
    fn append_files_are_cut_back() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("log.csv");
        let mut state = Logged { path: path.clone() };
        let empty = save(&mut state);
        // Neither there then nor now: nothing is created.
        try_restore(&mut state, &empty).unwrap();
        assert!(!path.exists());
        std::fs::write(&path, "1\n2\n").unwrap();
        let saved = save(&mut state);
        std::fs::write(&path, "1\n2\n3\n").unwrap();
        try_restore(&mut state, &saved).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"1\n2\n");
        std::fs::write(&path, "1\n").unwrap();
        let unfit = refusal(&mut state, &saved);
        assert_eq!(
            (unfit.rows()[0].expected.as_str(), unfit.rows()[0].found.as_str()),
            ("a file of 2 bytes", "4 bytes")
        );
        assert_eq!(std::fs::read(&path).unwrap(), b"1\n");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(refusal(&mut state, &saved).rows()[0].expected, "no such file");
        std::fs::write(&path, "1\n2\n").unwrap();
        try_restore(&mut state, &empty).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"");
    }

    #[test]
    fn a_file_that_shrinks_in_between_is_not_filled_up() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("log.csv");
        std::fs::write(&path, "1\n2\n").unwrap();
        let mut state = Logged { path: path.clone() };
        let mut fields = Fields::of(&mut state).unwrap();
        fields.parse(0, &4u64.to_le_bytes()).unwrap();
        std::fs::write(&path, "1\n").unwrap();
        let error = fields.apply().unwrap_err();
        assert!(error.to_string().contains("log.csv cannot be cut back to 4 bytes: it has only 2"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"1\n");
    }

    #[test]
    fn fields_are_matched_by_name_in_any_order() {
        #[derive(crate::State)]
        struct Forth {
            first: Vec<u8>,
            second: f64,
        }
        #[derive(crate::State)]
        struct Back {
            second: f64,
            first: Vec<u8>,
        }
        let saved = save(&mut Forth { first: vec![1, 2], second: 3. });
        let mut after = Back { second: 0., first: vec![] };
        try_restore(&mut after, &saved).unwrap();
        assert_eq!((after.first, after.second), (vec![1, 2], 3.));
    }
}
