//! The containers of plain numbers that can be protected: vectors, slices, boxed slices, fixed arrays, ndarray.
//!
//! In comes a borrowed container; out go its memory as bytes, its local shape, and, for a `Vec`, another length. The
//! bytes are always the elements in row-major order, without gaps: `bytes().len()` is the product of the shape times
//! the element's size. The trait is sealed so that the rest of the library may rely on that.

use std::any::Any;
use std::collections::TryReserveError;

use super::element::{Element, Kind};

pub(crate) mod sealed {
    pub trait Sealed {}
}

/// An array of plain numbers that can be protected.
///
/// `Vec<T>`, [`PagedVec<T>`](crate::PagedVec), `Box<[T]>`, `[T; N]`, `[T]`, mutable borrows of them and, with the feature `ndarray`, ndarray's owned
/// arrays and mutable views are such arrays. Any other container can be protected as a slice of its memory with
/// [`Fields::slice`](super::Fields::slice).
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be protected as an array",
    label = "no array of plain numbers",
    note = "arrays are Vec<T>, Box<[T]>, [T; N], &mut [T] and (feature `ndarray`) ndarray::Array<T, D> of elements \
            `T: piton::Element`",
    note = "what serde can carry is protected with `#[piton(value)]` on the field, or `fields.value(…)`"
)]
pub trait Array: Send + sealed::Sealed {
    /// What one element consists of.
    fn kind(&self) -> Kind;

    /// The size of one element in memory, in bytes.
    fn element_bytes(&self) -> usize;

    /// How many elements there are along each dimension, slowest first.
    fn shape(&self) -> Vec<usize>;

    /// The elements' memory, row-major.
    fn bytes(&self) -> &[u8];

    /// The elements' memory, row-major.
    fn bytes_mut(&mut self) -> &mut [u8];

    /// Why the array cannot be protected as it lies in memory, if so; its bytes are empty then.
    fn unsuitable(&self) -> Option<&'static str> {
        None
    }

    /// Whether its length can be changed.
    fn resizable(&self) -> bool {
        false
    }

    /// Makes sure that [`resize`](Array::resize) to so many elements will not allocate. Changes no element.
    ///
    /// # Errors
    /// There is no memory for so many elements.
    fn reserve(&mut self, elements: usize) -> Result<(), TryReserveError> {
        let _ = elements;
        Ok(())
    }

    /// Gives it so many elements; new ones are zero. Does nothing where the length cannot be changed.
    fn resize(&mut self, elements: usize) {
        let _ = elements;
    }

    /// What the freeze notes about the pages of the memory, where they are the array's own. Opaque to all others.
    #[doc(hidden)]
    fn tracked(&self) -> Option<&(dyn Any + Send + Sync)> {
        None
    }
}

impl<T> sealed::Sealed for [T] {}
impl<T> sealed::Sealed for Vec<T> {}
impl<T> sealed::Sealed for Box<[T]> {}
impl<T, const N: usize> sealed::Sealed for [T; N] {}
impl<A: sealed::Sealed + ?Sized> sealed::Sealed for &mut A {}

macro_rules! array_as_slice {
    () => {
        fn kind(&self) -> Kind {
            T::KIND
        }

        fn element_bytes(&self) -> usize {
            size_of::<T>()
        }

        fn shape(&self) -> Vec<usize> {
            vec![self.len()]
        }

        fn bytes(&self) -> &[u8] {
            bytemuck::cast_slice(&self[..])
        }

        fn bytes_mut(&mut self) -> &mut [u8] {
            bytemuck::cast_slice_mut(&mut self[..])
        }
    };
}

impl<T: Element> Array for [T] {
    array_as_slice!();
}

impl<T: Element> Array for Box<[T]> {
    array_as_slice!();
}

impl<T: Element, const N: usize> Array for [T; N] {
    array_as_slice!();
}

impl<T: Element> Array for Vec<T> {
    array_as_slice!();

    fn resizable(&self) -> bool {
        true
    }

    fn reserve(&mut self, elements: usize) -> Result<(), TryReserveError> {
        self.try_reserve_exact(elements.saturating_sub(self.len()))
    }

    fn resize(&mut self, elements: usize) {
        self.resize(elements, bytemuck::Zeroable::zeroed());
    }
}

impl<A: Array + ?Sized> Array for &mut A {
    fn kind(&self) -> Kind {
        (**self).kind()
    }

    fn element_bytes(&self) -> usize {
        (**self).element_bytes()
    }

    fn shape(&self) -> Vec<usize> {
        (**self).shape()
    }

    fn bytes(&self) -> &[u8] {
        (**self).bytes()
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        (**self).bytes_mut()
    }

    fn unsuitable(&self) -> Option<&'static str> {
        (**self).unsuitable()
    }

    fn resizable(&self) -> bool {
        (**self).resizable()
    }

    fn reserve(&mut self, elements: usize) -> Result<(), TryReserveError> {
        (**self).reserve(elements)
    }

    fn resize(&mut self, elements: usize) {
        (**self).resize(elements);
    }

    fn tracked(&self) -> Option<&(dyn Any + Send + Sync)> {
        (**self).tracked()
    }
}

#[cfg(feature = "ndarray")]
mod with_ndarray {
    use ndarray::{ArrayBase, DataMut, Dimension};

    use super::{Array, Element, Kind, sealed};

    impl<S: DataMut, D: Dimension> sealed::Sealed for ArrayBase<S, D> {}

    impl<T: Element, S: DataMut<Elem = T> + Send, D: Dimension> Array for ArrayBase<S, D> {
        fn kind(&self) -> Kind {
            T::KIND
        }

        fn element_bytes(&self) -> usize {
            size_of::<T>()
        }

        fn shape(&self) -> Vec<usize> {
            ArrayBase::shape(self).to_vec()
        }

        fn bytes(&self) -> &[u8] {
            self.as_slice().map_or(&[], bytemuck::cast_slice)
        }

        fn bytes_mut(&mut self) -> &mut [u8] {
            self.as_slice_mut().map_or(&mut [], bytemuck::cast_slice_mut)
        }

        // The outline has no place for a memory order, and bytes in another order would be restored transposed.
        fn unsuitable(&self) -> Option<&'static str> {
            (!self.is_standard_layout()).then_some(
                "its elements do not lie in standard (row-major) order without gaps; make it so with \
                 `array.as_standard_layout().into_owned()`, or protect its memory with `fields.slice`",
            )
        }
    }

    #[cfg(test)]
    mod tests {
        use ndarray::{Array2, ShapeBuilder};

        use super::Array;

        #[test]
        fn standard_arrays_are_their_memory() {
            let mut array = Array2::from_shape_fn((2, 3), |(row, column)| (10 * row + column) as f64);
            assert_eq!(Array::shape(&array), [2, 3]);
            assert_eq!(bytemuck::cast_slice::<u8, f64>(array.bytes()), [0., 1., 2., 10., 11., 12.]);
            bytemuck::cast_slice_mut::<u8, f64>(array.bytes_mut())[5] = 7.;
            assert_eq!(array[[1, 2]], 7.);
            assert!(array.unsuitable().is_none() && !array.resizable());
        }

        #[test]
        fn other_orders_are_refused() {
            let columns_first = Array2::<f64>::zeros((2, 3).f());
            assert!(columns_first.unsuitable().is_some_and(|reason| reason.contains("row-major")));
            assert!(columns_first.bytes().is_empty());
            let mut whole = Array2::<f64>::zeros((4, 4));
            let part = whole.slice_mut(ndarray::s![.., 1..3]);
            assert!(part.unsuitable().is_some());
        }

        #[derive(crate::State)]
        struct Sea {
            depth: Array2<f64>,
        }

        #[test]
        fn fields_of_a_state_keep_their_shape_or_are_refused_by_name() {
            let outline = crate::Fields::of(&mut Sea { depth: Array2::zeros((2, 3)) }).unwrap().outline();
            assert_eq!((outline.fields[0].shape.as_slice(), outline.fields[0].resizable), ([2, 3].as_slice(), false));
            let error = crate::Fields::of(&mut Sea { depth: Array2::zeros((2, 3).f()) }).unwrap_err();
            assert!(error.to_string().contains("array \"depth\": its elements do not lie in standard"), "{error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_boxes_and_fixed_arrays_keep_their_length() {
        let mut numbers = [1u16, 2, 3];
        let mut borrowed: &mut [u16] = &mut numbers;
        Array::resize(&mut borrowed, 7);
        assert_eq!((Array::shape(&borrowed), Array::resizable(&borrowed)), (vec![3], false));
        let boxed: Box<[[f32; 2]]> = vec![[1., 2.]; 4].into();
        assert_eq!((boxed.bytes().len(), boxed.element_bytes(), boxed.resizable()), (32, 8, false));
    }

    #[test]
    fn a_vector_takes_another_length() {
        let mut numbers = vec![1u32, 2];
        Array::reserve(&mut numbers, 4).unwrap();
        assert_eq!(numbers, [1, 2]);
        Array::resize(&mut numbers, 4);
        assert_eq!(numbers, [1, 2, 0, 0]);
        Array::resize(&mut numbers, 1);
        assert_eq!(numbers, [1]);
    }

    #[test]
    fn too_much_memory_is_an_error() {
        let mut numbers = vec![1u64];
        assert!(Array::reserve(&mut numbers, usize::MAX / 8).is_err());
        assert_eq!(numbers, [1]);
    }
}
