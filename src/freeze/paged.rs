//! Vectors in memory of their own, of which a freeze can tell what changed.

use super::arena::whole_pages;
use super::tracking::Mark;
use crate::state::{Array, Element, Kind, Sealed};
use memmap2::{MmapMut, MmapOptions};
use std::any::Any;
use std::collections::TryReserveError;
use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// The alignment that every system gives a memory map.
const MAP_ALIGNMENT: usize = 4096;

/// A vector of plain numbers in pages of its own, for large fields of which little changes between checkpoints.
///
/// It is used as a slice, and protected like any array. Where the kernel tells which pages were written (Linux 6.7 and later;
/// the setting `tracking`), a freeze copies only those, and the rest is as cheap as not being touched. Where it does not,
/// everything is copied, as with a `Vec`.
///
/// ```
/// use piton::{PagedVec, State};
///
/// #[derive(State)]
/// struct Ocean {
///     depth: PagedVec<f64>,
///     time: f64,
/// }
///
/// let mut ocean = Ocean { depth: PagedVec::new(1000)?, time: 0.0 };
/// ocean.depth[3] = 2.5;
/// ocean.depth[10..20].fill(1.0);
/// assert_eq!(ocean.depth.iter().sum::<f64>(), 12.5);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// Its memory must be written through this process's own instructions and system calls: what a device writes into it
/// (RDMA, a GPU, a registered buffer of io_uring) or another process through a mapping of its own, and what `madvise` takes
/// out of it, is not seen. The setting `tracking` says what is done about that.
pub struct PagedVec<T: Element> {
    // The first `length` elements of the map, or nothing.
    start: NonNull<T>,
    length: usize,
    map: Option<Map>,
    /// What [`Array::reserve`] got for [`Array::resize`].
    spare: Option<Map>,
}

/// A memory map, and what is known about its pages.
struct Map {
    memory: MmapMut,
    mark: Mark,
}

// SAFETY: it owns the elements that it points to, like a `Vec`.
unsafe impl<T: Element> Send for PagedVec<T> {}
// SAFETY: as above; a shared reference gives shared elements only, and `Mark` is `Sync` itself.
unsafe impl<T: Element> Sync for PagedVec<T> {}

impl Map {
    /// Zeros for at least `bytes`, more than none, with huge pages where the system has them.
    fn new(bytes: usize) -> io::Result<Self> {
        let memory = MmapOptions::new().len(whole_pages(bytes)).map_anon()?;
        #[cfg(target_os = "linux")]
        {
            // Only a wish.
            let _ = memory.advise(memmap2::Advice::HugePage);
        }
        let mark = Mark::new(memory.as_ptr(), memory.len());
        Ok(Self { memory, mark })
    }

    /// One for so many elements; none where that needs no memory.
    fn of_elements<T: Element>(elements: usize) -> io::Result<Option<Self>> {
        if size_of::<T>() == 0 || align_of::<T>() > MAP_ALIGNMENT {
            let message = "elements of a PagedVec have a size, and an alignment of at most 4096 bytes";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        // What the language allows an allocation to have, less what rounding adds.
        let most = isize::MAX as usize - (4 << 20);
        match elements.checked_mul(size_of::<T>()).filter(|bytes| *bytes <= most) {
            Some(0) => Ok(None),
            Some(bytes) => Self::new(bytes).map(Some),
            None => Err(io::ErrorKind::OutOfMemory.into()),
        }
    }
}

impl<T: Element> PagedVec<T> {
    /// A vector of `length` elements, all zero. Memory is taken up as it is written to.
    ///
    /// # Errors
    /// There is no address space for so much; `T` has no size, or is aligned to more than 4096 bytes.
    pub fn new(length: usize) -> io::Result<Self> {
        let mut vector = Self { start: NonNull::dangling(), length: 0, map: None, spare: None };
        vector.adopt(Map::of_elements::<T>(length)?, length);
        Ok(vector)
    }

    /// A copy of `elements`.
    ///
    /// # Errors
    /// Those of [`new`](Self::new).
    ///
    /// ```
    /// let numbers = piton::PagedVec::from_slice(&[1.0, 2.0])?;
    /// assert_eq!(numbers[..], [1.0, 2.0]);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn from_slice(elements: &[T]) -> io::Result<Self> {
        let mut vector = Self::new(elements.len())?;
        vector.copy_from_slice(elements);
        Ok(vector)
    }

    /// Gives it another length; new elements are zero. Growing beyond what its pages hold moves it.
    ///
    /// # Errors
    /// There is no memory for so much: it stays as it is.
    ///
    /// ```
    /// let mut numbers = piton::PagedVec::from_slice(&[1, 2, 3])?;
    /// numbers.resize(2)?;
    /// numbers.resize(4)?;
    /// assert_eq!(numbers[..], [1, 2, 0, 0]);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn resize(&mut self, length: usize) -> io::Result<()> {
        if length > self.capacity() {
            let spare = self.spare.take().filter(|spare| spare.memory.len() / size_of::<T>() >= length);
            let map = match spare {
                Some(map) => Some(map),
                None => Map::of_elements::<T>(length)?,
            };
            let mut larger = Self { start: NonNull::dangling(), length: 0, map: None, spare: None };
            larger.adopt(map, length);
            larger[..self.length].copy_from_slice(self);
            *self = larger;
            return Ok(());
        }
        let before = self.length;
        self.length = length;
        if before < length {
            // What was cut off earlier lies there.
            self[before..].fill(bytemuck::Zeroable::zeroed());
        }
        Ok(())
    }

    /// How many elements its pages hold.
    fn capacity(&self) -> usize {
        self.map.as_ref().map_or(0, |map| map.memory.len() / size_of::<T>())
    }

    /// Takes the map of `length` elements.
    fn adopt(&mut self, map: Option<Map>, length: usize) {
        self.map = map;
        match &mut self.map {
            Some(map) => {
                self.start = NonNull::new(map.memory.as_mut_ptr().cast()).unwrap_or(NonNull::dangling());
                self.length = length;
            }
            None => (self.start, self.length) = (NonNull::dangling(), 0),
        }
    }
}

impl<T: Element> Deref for PagedVec<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: `start` is the start of a map that is ours, aligned for `T`, and at least `length` elements long (or
        // dangling, with a length of 0). The map holds zeros or what was written as `T`, and any bytes are a `T`.
        // Nobody else uses the map's memory, and the borrow of `self` covers it.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl<T: Element> DerefMut for PagedVec<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }
    }
}

impl<T: Element + fmt::Debug> fmt::Debug for PagedVec<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self[..].fmt(formatter)
    }
}

impl<T: Element + PartialEq> PartialEq for PagedVec<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Element> Sealed for PagedVec<T> {}

impl<T: Element> Array for PagedVec<T> {
    fn kind(&self) -> Kind {
        T::KIND
    }

    fn element_bytes(&self) -> usize {
        size_of::<T>()
    }

    fn shape(&self) -> Vec<usize> {
        vec![self.length]
    }

    fn bytes(&self) -> &[u8] {
        bytemuck::cast_slice(&self[..])
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        bytemuck::cast_slice_mut(&mut self[..])
    }

    fn resizable(&self) -> bool {
        true
    }

    fn reserve(&mut self, elements: usize) -> Result<(), TryReserveError> {
        self.spare = None;
        if elements > self.capacity() {
            match Map::of_elements::<T>(elements) {
                Ok(map) => self.spare = map,
                // The error can't be made, only had: by asking for more than there can be.
                Err(_) => return Vec::<u8>::new().try_reserve_exact(usize::MAX),
            }
        }
        Ok(())
    }

    fn resize(&mut self, elements: usize) {
        // After `reserve` it can't fail; without, it keeps its length, which the trait allows.
        let _ = PagedVec::resize(self, elements);
        self.spare = None;
    }

    fn tracked(&self) -> Option<&(dyn Any + Send + Sync)> {
        self.map.as_ref().map(|map| &map.mark as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Fields;

    const _: () = {
        const fn must_be_send_and_sync<T: Send + Sync>() {}
        must_be_send_and_sync::<PagedVec<f64>>();
    };

    #[test]
    fn it_is_a_slice_of_zeros_at_first() {
        let mut numbers = PagedVec::<[f32; 3]>::new(5000).unwrap();
        assert!(numbers.len() == 5000 && numbers.iter().all(|element| *element == [0.; 3]));
        assert!(numbers.as_ptr().addr().is_multiple_of(4096));
        numbers[4999][2] = 1.;
        assert_eq!(numbers.bytes().len(), 60_000);
        assert!(format!("{:?}", PagedVec::from_slice(&[1u8, 2]).unwrap()) == "[1, 2]");
        assert!(PagedVec::<u64>::new(0).unwrap().is_empty());
    }

    #[test]
    fn it_takes_another_length() {
        let mut numbers = PagedVec::<u32>::new(0).unwrap();
        numbers.resize(3).unwrap();
        numbers.copy_from_slice(&[1, 2, 3]);
        let address = numbers.as_ptr();
        numbers.resize(1).unwrap();
        numbers.resize(2).unwrap();
        assert_eq!((&numbers[..], numbers.as_ptr()), ([1, 0].as_slice(), address));
        numbers.resize(100_000).unwrap();
        assert_eq!((numbers.len(), numbers[0], numbers[99_999]), (100_000, 1, 0));
        numbers.resize(0).unwrap();
        assert!(numbers.is_empty());
    }

    #[test]
    fn what_was_reserved_is_used() {
        let mut numbers = PagedVec::from_slice(&[7u64]).unwrap();
        Array::reserve(&mut numbers, 100_000).unwrap();
        assert_eq!(numbers[..], [7]);
        let reserved = numbers.spare.as_ref().map(|spare| spare.memory.as_ptr());
        Array::resize(&mut numbers, 100_000);
        assert_eq!(Some(numbers.as_ptr().cast()), reserved);
        assert_eq!((numbers.len(), numbers[0], numbers[99_999]), (100_000, 7, 0));
    }

    #[test]
    fn too_much_memory_is_an_error() {
        for elements in [usize::MAX, usize::MAX / 8, 1 << 59] {
            assert!(PagedVec::<u64>::new(elements).is_err(), "{elements}");
            let mut numbers = PagedVec::from_slice(&[1u64]).unwrap();
            assert!(Array::reserve(&mut numbers, elements).is_err() && numbers.resize(elements).is_err());
            Array::resize(&mut numbers, elements);
            assert_eq!(numbers[..], [1]);
        }
        assert!(PagedVec::<[f64; 0]>::new(1).is_err());
    }

    #[test]
    fn it_is_a_field_like_a_vector() {
        #[derive(crate::State)]
        struct Ocean {
            depth: PagedVec<f64>,
            flow: piton::PagedVec<[f64; 2]>,
        }
        let mut ocean = Ocean { depth: PagedVec::new(10).unwrap(), flow: PagedVec::new(0).unwrap() };
        let fields = Fields::of(&mut ocean).unwrap();
        let outline = fields.outline();
        assert_eq!((outline.fields[0].kind.as_str(), outline.fields[0].shape.as_slice()), ("f64", [10].as_slice()));
        assert!(outline.fields[0].resizable && outline.fields[1].kind == "[f64; 2]");
        let sources = fields.sources();
        assert!(sources[0].tracked.is_some_and(|mark| mark.is::<Mark>()), "seen through the borrow and the box");
        assert!(sources[1].tracked.is_none(), "no memory, no pages");
    }
}
