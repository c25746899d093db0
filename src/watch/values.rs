//! Values that cannot be: NaN, infinities and numbers out of range in protected arrays, which are the application's own fault.
//!
//! Comes in: which fields have bounds, and the bytes of a frozen state, chunk by chunk, on the threads that encode it. Goes out: for each
//! field with such values where the first of them is, what it is, and how many there are.
//! What must hold: a field without bounds is not looked at; looking costs one pass over bytes that are in cache, and where something is wrong a second
//! one over that chunk; what is found does not depend on the order in which chunks come.
//!
//! Measured (one thread on one of two busy cores, a chunk of 512 KiB in cache, `measure_bytes_per_second`): 24 GB/s of `f64` and of `f32`,
//! where encoding makes 2 to 4.

use crate::state::{Block, Bounds, FieldOutline, Kind, Outline, Scalar, uniform};
use std::sync::{Mutex, PoisonError};

/// Looks at the numbers of one frozen state.
#[derive(Debug)]
pub(crate) struct Values {
    /// By number; `None`: not to be looked at.
    fields: Vec<Option<Watched>>,
}

#[derive(Debug)]
struct Watched {
    bounds: Bounds,
    stride: usize,
    numbers: Numbers,
    found: Mutex<Found>,
}

/// Where the numbers are.
#[derive(Debug)]
enum Numbers {
    /// One after the other.
    Alike(Scalar),
    /// At these places of every element.
    At(Vec<(usize, Scalar)>),
}

#[derive(Debug, Default)]
struct Found {
    count: u64,
    /// The first by place, in bytes from the field's start, and what it is.
    first: Option<(u64, String)>,
}

/// What is wrong with the values of one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OutOfRange {
    /// The field.
    pub field: String,
    /// The number of the first element that is wrong, in the rank's own array.
    pub index: u64,
    /// Which of the element's numbers it is, where it has several.
    pub component: Option<u64>,
    /// Where the element lies in the global array, where the field is a block of one and it lies in that.
    pub global: Option<Vec<u64>>,
    /// What it is, as text.
    pub value: String,
    /// How many numbers are wrong.
    pub count: u64,
    /// What they should be.
    pub bounds: String,
}

impl Values {
    /// For fields with these kinds of elements and bounds; `None` where there is nothing to look at.
    pub(crate) fn new(fields: &[Option<(Kind, Bounds)>]) -> Option<Self> {
        let watched = |field: &Option<(Kind, Bounds)>| {
            let (kind, bounds) = (*field)?;
            let numbers = match uniform(&kind) {
                Some(scalar) => Numbers::Alike(Some(scalar).filter(|scalar| bounds.concern(*scalar))?),
                None => {
                    let mut places = Vec::new();
                    scalars(&kind, 0, &mut places);
                    places.retain(|(_, scalar)| bounds.concern(*scalar));
                    Numbers::At(Some(places).filter(|places| !places.is_empty())?)
                }
            };
            Some(Watched { bounds, stride: kind.bytes(), numbers, found: Mutex::default() })
                .filter(|watched| watched.stride > 0)
        };
        let fields: Vec<Option<Watched>> = fields.iter().map(watched).collect();
        fields.iter().any(Option::is_some).then_some(Self { fields })
    }

    /// Whether field number `field` is looked at.
    pub(crate) fn wants(&self, field: usize) -> bool {
        matches!(self.fields.get(field), Some(Some(_)))
    }

    /// Looks at the bytes of a field that begin at `offset`.
    pub(crate) fn look(&self, field: usize, offset: u64, bytes: &[u8]) {
        let Some(Some(watched)) = self.fields.get(field) else { return };
        let (count, first) = watched.outside(offset, bytes);
        let Some((place, value)) = first else { return };
        // Two plain values: whoever panicked left them whole.
        let mut found = watched.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.count += count;
        if found.first.as_ref().is_none_or(|(known, _)| place < *known) {
            found.first = Some((place, value));
        }
    }

    /// What was found in the fields of `outline`, in their order.
    pub(crate) fn found(&self, outline: &Outline) -> Vec<OutOfRange> {
        let told = |(watched, field): (&Option<Watched>, &FieldOutline)| {
            let watched = watched.as_ref()?;
            let found = watched.found.lock().unwrap_or_else(PoisonError::into_inner);
            let (place, value) = found.first.clone()?;
            let index = place / watched.stride as u64;
            Some(OutOfRange {
                field: field.name.clone(),
                index,
                component: watched.component(place % watched.stride as u64),
                global: field.block.as_ref().and_then(|block| global(block, index)),
                value,
                count: found.count,
                bounds: watched.bounds.to_string(),
            })
        };
        self.fields.iter().zip(&outline.fields).filter_map(told).collect()
    }
}

/// The numbers in an element that lies at `offset`.
fn scalars(kind: &Kind, offset: usize, into: &mut Vec<(usize, Scalar)>) {
    match kind {
        Kind::Scalar(scalar) => into.push((offset, *scalar)),
        Kind::Complex(scalar) => into.extend([(offset, *scalar), (offset + scalar.bytes(), *scalar)]),
        Kind::Array { element, count } => {
            (0..*count).for_each(|number| scalars(element, offset + number * element.bytes(), into));
        }
        Kind::Record { fields, .. } => {
            fields.iter().for_each(|field| scalars(&field.kind, offset + field.offset, into))
        }
    }
}

/// The place in a global array of an element of the local one, which has a halo around its block. None where a copy of a neighbour's element
/// lies beyond the global array.
fn global(block: &Block, index: u64) -> Option<Vec<u64>> {
    let mut rest = index;
    let mut places = Vec::with_capacity(block.global.len());
    for dimension in (0..block.global.len()).rev() {
        let [before, after] = *block.halo.get(dimension)?;
        let length = before.checked_add(*block.extent.get(dimension)?)?.checked_add(after)?;
        let place = rest.checked_rem(length)?;
        rest /= length;
        let place = block.offset.get(dimension)?.checked_add(place)?.checked_sub(before)?;
        places.push(Some(place).filter(|place| *place < block.global[dimension])?);
    }
    places.reverse();
    Some(places)
}

/// The bounds in a number's own type: what lies within the given ones lies within these, and nothing else does.
trait Number<const N: usize>: Copy + PartialOrd + std::fmt::Debug {
    fn read(bytes: [u8; N]) -> Self;
    fn limits(low: f64, high: f64) -> (Self, Self);
}

macro_rules! integers {
    ($($type:ty),*) => {
        $(impl Number<{ size_of::<$type>() }> for $type {
            fn read(bytes: [u8; size_of::<$type>()]) -> Self {
                <$type>::from_le_bytes(bytes)
            }

            fn limits(low: f64, high: f64) -> (Self, Self) {
                // Conversions from floating-point numbers stop at the ends of the range.
                let low = (low.ceil() as i128).max(i128::from(<$type>::MIN));
                let high = (high.floor() as i128).min(i128::from(<$type>::MAX));
                match (<$type>::try_from(low), <$type>::try_from(high)) {
                    (Ok(low), Ok(high)) => (low, high),
                    // Nothing is.
                    _ => (1, 0),
                }
            }
        })*
    };
}

integers!(i8, i16, i32, i64, u8, u16, u32, u64);

impl Number<8> for f64 {
    fn read(bytes: [u8; 8]) -> Self {
        Self::from_le_bytes(bytes)
    }

    fn limits(low: f64, high: f64) -> (Self, Self) {
        (low, high)
    }
}

impl Number<4> for f32 {
    fn read(bytes: [u8; 4]) -> Self {
        Self::from_le_bytes(bytes)
    }

    fn limits(low: f64, high: f64) -> (Self, Self) {
        let (least, most) = (low as f32, high as f32);
        // The nearest one may lie outside.
        (
            if f64::from(least) < low { least.next_up() } else { least },
            if f64::from(most) > high { most.next_down() } else { most },
        )
    }
}

/// How many numbers there are outside of the limits, and the first of them with its place.
type Outside = (u64, Option<(u64, String)>);

/// Among numbers one after the other, the first of which lies at `offset`.
fn outside_of_all<const N: usize, T: Number<N>>(offset: u64, bytes: &[u8], low: f64, high: f64) -> Outside {
    let (low, high) = T::limits(low, high);
    // Without a branch, so that several numbers are compared at once; written so that a NaN is outside.
    let is_outside = |number: T| !((number >= low) & (number <= high));
    let (numbers, _) = bytes.as_chunks::<N>();
    // Short sums in a small type: the lanes of the processor stay as wide as the numbers.
    let count: u64 = numbers
        .chunks(128)
        .map(|some| match N {
            1 => u64::from(some.iter().map(|bytes| u8::from(is_outside(T::read(*bytes)))).sum::<u8>()),
            2 => u64::from(some.iter().map(|bytes| u16::from(is_outside(T::read(*bytes)))).sum::<u16>()),
            4 => u64::from(some.iter().map(|bytes| u32::from(is_outside(T::read(*bytes)))).sum::<u32>()),
            _ => some.iter().map(|bytes| u64::from(is_outside(T::read(*bytes)))).sum::<u64>(),
        })
        .sum();
    if count == 0 {
        return (0, None);
    }
    let first = numbers.iter().position(|bytes| is_outside(T::read(*bytes)));
    (count, first.map(|first| (offset + (first * N) as u64, format!("{:?}", T::read(numbers[first])))))
}

/// Among the numbers at `place` of every `stride` bytes, counted from the field's start. One that a chunk's end divides is left out, which
/// none is whose place is a multiple of its size.
fn outside_of_some<const N: usize, T: Number<N>>(
    offset: u64,
    bytes: &[u8],
    (stride, place): (usize, usize),
    (low, high): (f64, f64),
) -> Outside {
    let (low, high) = T::limits(low, high);
    let begin = offset.saturating_sub(place as u64);
    let mut at = begin.div_ceil(stride as u64) * stride as u64 + place as u64 - offset;
    let (mut count, mut first) = (0, None);
    while let Some(number) = usize::try_from(at).ok().and_then(|at| bytes.get(at..)?.first_chunk::<N>()) {
        let number = T::read(*number);
        if !((number >= low) & (number <= high)) {
            count += 1;
            first = first.or_else(|| Some((offset + at, format!("{number:?}"))));
        }
        at += stride as u64;
    }
    (count, first)
}

/// Calls a function for the Rust type of a scalar.
macro_rules! by_type {
    ($scalar:expr, $function:ident($($argument:expr),*)) => {
        match $scalar {
            Scalar::F32 => $function::<4, f32>($($argument),*),
            Scalar::F64 => $function::<8, f64>($($argument),*),
            Scalar::I8 => $function::<1, i8>($($argument),*),
            Scalar::I16 => $function::<2, i16>($($argument),*),
            Scalar::I32 => $function::<4, i32>($($argument),*),
            Scalar::I64 => $function::<8, i64>($($argument),*),
            Scalar::U8 => $function::<1, u8>($($argument),*),
            Scalar::U16 => $function::<2, u16>($($argument),*),
            Scalar::U32 => $function::<4, u32>($($argument),*),
            Scalar::U64 => $function::<8, u64>($($argument),*),
        }
    };
}

impl Watched {
    fn outside(&self, offset: u64, bytes: &[u8]) -> Outside {
        let (low, high) = self.bounds.limits();
        match &self.numbers {
            Numbers::Alike(scalar) => by_type!(scalar, outside_of_all(offset, bytes, low, high)),
            Numbers::At(places) => {
                let (mut count, mut first) = (0, None::<(u64, String)>);
                for (place, scalar) in places {
                    let (more, earliest) =
                        by_type!(scalar, outside_of_some(offset, bytes, (self.stride, *place), (low, high)));
                    count += more;
                    first = first.into_iter().chain(earliest).min_by_key(|(place, _)| *place);
                }
                (count, first)
            }
        }
    }

    /// Which number of its element lies `place` bytes behind the element's start; none where there is only one.
    fn component(&self, place: u64) -> Option<u64> {
        match &self.numbers {
            Numbers::Alike(scalar) => {
                let width = scalar.bytes();
                (self.stride > width).then_some(place / width as u64)
            }
            // Others may lie between them: by those that are looked at.
            Numbers::At(places) => places.iter().position(|(at, _)| *at as u64 == place).map(|number| number as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{FieldClass, Fields, State};
    use proptest::prelude::*;

    /// Looks at all fields of a state in pieces of `chunk` bytes.
    fn found<S: State>(state: &mut S, chunk: usize) -> Vec<OutOfRange> {
        let fields = Fields::of(state).unwrap();
        let Some(values) = Values::new(&fields.bounds()) else { return Vec::new() };
        for (number, source) in fields.sources().iter().enumerate() {
            // Not in order, as threads would.
            for (place, bytes) in source.bytes.chunks(chunk).enumerate().collect::<Vec<_>>().into_iter().rev() {
                if values.wants(number) {
                    values.look(number, (place * chunk) as u64, bytes);
                }
            }
        }
        values.found(&fields.outline())
    }

    #[derive(piton::State)]
    struct Gas {
        #[piton(finite)]
        pressure: Vec<f64>,
        #[piton(within = "0.0..=1.0")]
        share: Vec<[f32; 2]>,
        #[piton(finite, within = "-5.0..=5.0")]
        spin: Vec<i16>,
        free: Vec<f64>,
        #[piton(finite)]
        ids: Vec<u64>,
    }

    fn gas() -> Gas {
        Gas {
            pressure: vec![1.0; 100],
            share: vec![[0.0, 1.0]; 100],
            spin: vec![-5; 100],
            free: vec![f64::NAN; 100],
            ids: vec![u64::MAX; 100],
        }
    }

    #[test]
    fn what_is_sound_and_what_has_no_bounds_is_passed_over() {
        assert_eq!(found(&mut gas(), 64), []);
        let mut gas = gas();
        let bounds = Fields::of(&mut gas).unwrap().bounds();
        let values = Values::new(&bounds).unwrap();
        assert_eq!([0, 1, 2, 3, 4, 5].map(|field| values.wants(field)), [true, true, true, false, false, false]);
        assert!(Values::new(&bounds[3..]).is_none(), "nothing to do: integers are finite");
    }

    #[test]
    fn the_first_is_named_and_all_are_counted() {
        let mut gas = gas();
        (gas.pressure[7], gas.pressure[99]) = (f64::NAN, f64::NEG_INFINITY);
        gas.share[50][1] = 1.000_000_1;
        gas.spin[3] = 6;
        let found = found(&mut gas, 64);
        let short: Vec<_> = found
            .iter()
            .map(|found| (found.field.as_str(), found.index, found.component, found.value.as_str(), found.count))
            .collect();
        assert_eq!(
            short,
            [("pressure", 7, None, "NaN", 2), ("share", 50, Some(1), "1.0000001", 1), ("spin", 3, None, "6", 1)]
        );
        assert_eq!(found[0].bounds, "finite");
    }

    #[derive(Clone, Copy, piton::Element)]
    #[repr(C)]
    struct Particle {
        place: [f64; 2],
        id: u64,
        charge: f32,
        kind: u32,
    }

    #[derive(piton::State)]
    struct Plasma {
        #[piton(finite)]
        particles: Vec<Particle>,
    }

    #[test]
    fn of_records_the_floating_point_numbers_are_looked_at() {
        let particle = Particle { place: [0.0; 2], id: u64::MAX, charge: 1.0, kind: u32::MAX };
        let mut plasma = Plasma { particles: vec![particle; 50] };
        for chunk in [64, 128, 1 << 20] {
            assert_eq!(found(&mut plasma, chunk), []);
        }
        plasma.particles[20].charge = f32::INFINITY;
        plasma.particles[20].place[1] = f64::NAN;
        plasma.particles[49].charge = f32::NAN;
        for chunk in [64, 128, 1 << 20] {
            let found = &found(&mut plasma, chunk)[0];
            assert_eq!((found.index, found.component, found.value.as_str(), found.count), (20, Some(1), "NaN", 3));
        }
    }

    #[test]
    fn places_are_those_of_the_global_array() {
        let block = Block { global: vec![6, 8], offset: vec![2, 0], extent: vec![2, 8], halo: vec![[1, 1], [0, 0]] };
        assert_eq!(global(&block, 0), Some(vec![1, 0]), "a copy of a neighbour's");
        assert_eq!(global(&block, 8), Some(vec![2, 0]));
        assert_eq!(global(&block, 8 + 8 + 7), Some(vec![3, 7]));
        let at_the_edge = Block { offset: vec![0, 0], ..block };
        assert_eq!(global(&at_the_edge, 3), None, "beyond the global array");
    }

    #[test]
    fn limits_of_narrow_types_are_exact() {
        assert_eq!(<u8 as Number<1>>::limits(-3.0, 1e9), (0, 255));
        assert_eq!(<u8 as Number<1>>::limits(0.5, 1.5), (1, 1));
        assert_eq!(<u8 as Number<1>>::limits(-9.0, -3.0), (1, 0));
        assert_eq!(<i64 as Number<8>>::limits(f64::MIN, f64::MAX), (i64::MIN, i64::MAX));
        assert_eq!(<u64 as Number<8>>::limits(1e30, 1e31), (1, 0));
        let (low, high) = <f32 as Number<4>>::limits(0.1, 0.3);
        assert!(f64::from(low) >= 0.1 && f64::from(low.next_down()) < 0.1);
        assert!(f64::from(high) <= 0.3 && f64::from(high.next_up()) > 0.3);
        assert_eq!(<f32 as Number<4>>::limits(f64::MIN, f64::MAX), (f32::MIN, f32::MAX));
        assert_eq!(<f32 as Number<4>>::limits(f64::NEG_INFINITY, 0.0).0, f32::NEG_INFINITY);
    }

    /// One field of bare bytes as numbers of a type.
    fn of_type(scalar: Scalar, bytes: &[u8], low: f64, high: f64) -> Outside {
        by_type!(scalar, outside_of_all(64, bytes, low, high))
    }

    proptest! {
        #[test]
        fn counts_and_places_are_those_of_a_plain_loop(
            numbers in proptest::collection::vec(prop_oneof![any::<f64>(), -2.0..2.0f64, Just(f64::NAN)], 0..400),
            low in -1.5..0.0f64,
            high in 0.0..1.5f64,
        ) {
            let outside = |number: &f64| !(low..=high).contains(number);
            let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
            let (count, first) = of_type(Scalar::F64, &bytes, low, high);
            prop_assert_eq!(count, numbers.iter().filter(|number| outside(number)).count() as u64);
            let place = numbers.iter().position(outside).map(|place| 64 + 8 * place as u64);
            prop_assert_eq!(first.map(|(place, _)| place), place);
            let narrow: Vec<f32> = numbers.iter().map(|number| *number as f32).collect();
            let bytes: Vec<u8> = narrow.iter().flat_map(|number| number.to_le_bytes()).collect();
            let expected = narrow.iter().filter(|number| outside(&f64::from(**number))).count() as u64;
            prop_assert_eq!(of_type(Scalar::F32, &bytes, low, high).0, expected);
        }

        #[test]
        fn integers_are_held_against_the_same_range(
            numbers in proptest::collection::vec(any::<i16>(), 0..600),
            low in -40000.0..100.0f64,
            width in 0.0..70000.0f64,
        ) {
            let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
            let range = low..=low + width;
            let expected = numbers.iter().filter(|number| !range.contains(&f64::from(**number))).count() as u64;
            prop_assert_eq!(of_type(Scalar::I16, &bytes, low, low + width).0, expected);
        }
    }

    #[test]
    fn nothing_is_said_of_fields_that_are_no_arrays() {
        let outline = FieldOutline {
            name: "x".into(),
            class: FieldClass::Value,
            kind: "f64".into(),
            element_bytes: 1,
            shape: vec![],
            resizable: false,
            bytes: 8,
            block: None,
        };
        assert!(Values::new(&[None]).is_none());
        let mut bounds = gas();
        let values = Values::new(&Fields::of(&mut bounds).unwrap().bounds()).unwrap();
        assert_eq!(values.found(&Outline { fields: vec![outline] }), []);
    }

    /// `cargo test --release --lib watch::values -- --ignored --nocapture`
    #[test]
    #[ignore = "measures and proves nothing: run it by name"]
    fn measure_bytes_per_second() {
        const CHUNK: usize = 512 << 10;
        let bytes: Vec<u8> = (0..CHUNK).map(|byte| (byte % 63) as u8).collect();
        for scalar in [Scalar::F64, Scalar::F32, Scalar::I64, Scalar::I32, Scalar::U8] {
            let begun = std::time::Instant::now();
            let rounds = 4000;
            for _ in 0..rounds {
                let (low, high) = std::hint::black_box((0.0, f64::MAX));
                let (count, _) = of_type(scalar, std::hint::black_box(&bytes), low, high);
                assert_eq!(count, 0);
            }
            println!("{}: {:.1} GB/s", scalar.name(), (rounds * CHUNK) as f64 / begun.elapsed().as_secs_f64() / 1e9);
        }
    }
}
