//! What the numbers in an array are like.
//!
//! Comes in: an array of all ranks, halos left out. Goes out: for each number in its elements (a field of a record, one of
//! a fixed array's, the parts of a complex one) the smallest, the largest, the mean, and how they are distributed.
//! What must hold: memory is bounded whatever the size; the same data gives the same figures.

use super::{Checkpoint, ReadError};
use crate::state::{OwnedKind, Scalar};
use serde::Serialize;

/// So many equal parts of what lies between the smallest and the largest number are counted.
pub const HISTOGRAM_BINS: usize = 16;

/// Elements with more numbers than this get no statistics.
pub const MOST_COMPONENTS: usize = 16;

/// What one number in the elements of an array is like, over all ranks.
///
/// Whole numbers beyond 2⁵³ are rounded to the next `f64`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Statistics {
    /// Which number it is: empty for arrays of plain numbers, otherwise such as `[0]`, `.re` or `.position[2]`.
    pub component: String,
    /// How many there are, those that are not finite too.
    pub count: u64,
    /// How many are not a number.
    pub nan: u64,
    /// How many are infinite.
    pub infinite: u64,
    /// The smallest finite one.
    pub min: Option<f64>,
    /// The largest finite one.
    pub max: Option<f64>,
    /// The mean of the finite ones, where it can be computed in `f64`.
    pub mean: Option<f64>,
    /// How many finite ones lie in each of equal parts between the smallest and the largest. All in the first where those
    /// are the same.
    pub histogram: [u64; HISTOGRAM_BINS],
}

struct Component {
    name: String,
    scalar: Scalar,
    offset: usize,
}

/// The numbers in an element of this kind, or `None` where there are too many.
fn components(kind: &OwnedKind) -> Option<Vec<Component>> {
    fn add(kind: &OwnedKind, name: String, offset: u64, into: &mut Vec<Component>) -> Option<()> {
        let mut leaf = |name: String, scalar: Scalar, offset: u64| {
            into.push(Component { name, scalar, offset: usize::try_from(offset).ok()? });
            (into.len() <= MOST_COMPONENTS).then_some(())
        };
        match kind {
            OwnedKind::Scalar(scalar) => leaf(name, *scalar, offset),
            OwnedKind::Complex(scalar) => {
                leaf(format!("{name}.re"), *scalar, offset)?;
                leaf(format!("{name}.im"), *scalar, offset.checked_add(scalar.bytes() as u64)?)
            }
            OwnedKind::Array { element, count } => (0..*count).try_for_each(|index| {
                let offset = element.bytes().checked_mul(index)?.checked_add(offset)?;
                add(element, format!("{name}[{index}]"), offset, into)
            }),
            OwnedKind::Record { fields, .. } => fields.iter().try_for_each(|field| {
                add(&field.kind, format!("{name}.{}", field.name), offset.checked_add(field.offset)?, into)
            }),
        }
    }
    let mut list = Vec::new();
    add(kind, String::new(), 0, &mut list).map(|()| list)
}

/// Gives `take` the number at `offset` of every `stride` bytes.
fn for_each(bytes: &[u8], stride: usize, component: &Component, mut take: impl FnMut(f64)) {
    macro_rules! numbers {
        ($type:ty, $convert:expr) => {{
            const BYTES: usize = size_of::<$type>();
            for element in bytes.chunks_exact(stride) {
                if let Some(number) = element.get(component.offset..).and_then(|rest| rest.first_chunk::<BYTES>()) {
                    take($convert(<$type>::from_le_bytes(*number)));
                }
            }
        }};
    }
    match component.scalar {
        Scalar::F32 => numbers!(f32, f64::from),
        Scalar::F64 => numbers!(f64, |number| number),
        Scalar::I8 => numbers!(i8, f64::from),
        Scalar::I16 => numbers!(i16, f64::from),
        Scalar::I32 => numbers!(i32, f64::from),
        Scalar::I64 => numbers!(i64, |number| number as f64),
        Scalar::U8 => numbers!(u8, f64::from),
        Scalar::U16 => numbers!(u16, f64::from),
        Scalar::U32 => numbers!(u32, f64::from),
        Scalar::U64 => numbers!(u64, |number| number as f64),
    }
}

/// A sum that keeps what addition rounds off (Neumaier).
#[derive(Default)]
struct Sum {
    sum: f64,
    lost: f64,
}

impl Sum {
    fn add(&mut self, number: f64) {
        let sum = self.sum + number;
        self.lost += if self.sum.abs() >= number.abs() { (self.sum - sum) + number } else { (number - sum) + self.sum };
        self.sum = sum;
    }
}

impl Checkpoint {
    /// What the numbers in the array `name` are like, over all ranks and without halos: one entry for each number in an
    /// element, none where there are more than [`MOST_COMPONENTS`]. All of the array is read twice.
    ///
    /// # Errors
    /// [`ReadError`]; [`ReadError::Field`] where it is no array.
    pub fn statistics(&self, name: &str) -> Result<Vec<Statistics>, ReadError> {
        let kind = self.kind(name)?;
        let Some((components, stride)) = components(&kind).zip(usize::try_from(kind.bytes()).ok()) else {
            return Ok(Vec::new());
        };
        let new = |component: &Component| Statistics {
            component: component.name.clone(),
            count: 0,
            nan: 0,
            infinite: 0,
            min: None,
            max: None,
            mean: None,
            histogram: [0; HISTOGRAM_BINS],
        };
        let mut list: Vec<Statistics> = components.iter().map(new).collect();
        let mut sums: Vec<Sum> = components.iter().map(|_| Sum::default()).collect();
        self.for_each_rank(name, &kind, &mut |bytes| {
            for ((component, statistics), sum) in components.iter().zip(&mut list).zip(&mut sums) {
                let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
                for_each(bytes, stride, component, |number| {
                    statistics.count += 1;
                    if number.is_finite() {
                        least = least.min(number);
                        most = most.max(number);
                        sum.add(number);
                    } else if number.is_nan() {
                        statistics.nan += 1;
                    } else {
                        statistics.infinite += 1;
                    }
                });
                if least <= most {
                    statistics.min = Some(statistics.min.map_or(least, |before| before.min(least)));
                    statistics.max = Some(statistics.max.map_or(most, |before| before.max(most)));
                }
            }
        })?;
        for (statistics, sum) in list.iter_mut().zip(sums) {
            let finite = statistics.count - statistics.nan - statistics.infinite;
            let mean = (sum.sum + sum.lost) / finite as f64;
            statistics.mean = Some(mean).filter(|mean| finite > 0 && mean.is_finite());
            if statistics.min == statistics.max {
                statistics.histogram[0] = finite;
            }
        }
        if list.iter().all(|statistics| statistics.min == statistics.max) {
            return Ok(list);
        }
        self.for_each_rank(name, &kind, &mut |bytes| {
            for (component, statistics) in components.iter().zip(&mut list) {
                let (Some(min), Some(max)) = (statistics.min, statistics.max) else { continue };
                if min == max {
                    continue;
                }
                // Halved, since the whole range may be larger than the largest number.
                let range = max / 2.0 - min / 2.0;
                for_each(bytes, stride, component, |number| {
                    if number.is_finite() {
                        let part = (number / 2.0 - min / 2.0) / range * HISTOGRAM_BINS as f64;
                        statistics.histogram[(part as usize).min(HISTOGRAM_BINS - 1)] += 1;
                    }
                });
            }
        })?;
        Ok(list)
    }

    /// Hands the elements of all ranks to `take`, rank by rank, halos left out.
    fn for_each_rank(&self, name: &str, kind: &OwnedKind, take: &mut dyn FnMut(&[u8])) -> Result<(), ReadError> {
        for rank in 0..self.manifest().world {
            match self.rank_field(rank, name)? {
                None => {}
                Some((_, outline)) if outline.element_bytes != kind.bytes() || outline.kind != kind.to_string() => {
                    let what = format!("has elements of type {:?} on rank {rank}, and others elsewhere", outline.kind);
                    return Err(ReadError::Field { field: name.to_owned(), what });
                }
                Some(_) => self.for_each_run(rank, name, None, &mut |run| take(run.bytes))?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_of_an_element_is_named_and_found() {
        let kind: OwnedKind = "{at: [f64; 2] @0, phase: complex<f32> @16, id: u16 @24; 32}".parse().unwrap();
        let list = components(&kind).unwrap();
        let names: Vec<_> = list.iter().map(|component| (component.name.as_str(), component.offset)).collect();
        assert_eq!(names, [(".at[0]", 0), (".at[1]", 8), (".phase.re", 16), (".phase.im", 20), (".id", 24)]);
        let mut bytes = [0u8; 64];
        bytes[24..26].copy_from_slice(&7u16.to_le_bytes());
        bytes[56..58].copy_from_slice(&9u16.to_le_bytes());
        let mut seen = Vec::new();
        for_each(&bytes, 32, &list[4], |number| seen.push(number));
        assert_eq!(seen, [7.0, 9.0]);
    }

    #[test]
    fn too_many_numbers_are_given_up_at_once() {
        let kind: OwnedKind = "[[u8; 65536]; 65536]".parse().unwrap();
        assert!(components(&kind).is_none());
        assert_eq!(components(&"[u8; 16]".parse().unwrap()).map(|list| list.len()), Some(16));
    }
}
