//! Arrays assembled from the blocks of all ranks, and the parts of local arrays that are no halo.
//!
//! Comes in: the blocks that ranks say they hold. Goes out: the elements of the global array, in row-major order (slowest
//! dimension first). What must hold: the blocks make up the global array without gap or overlap, or it is refused;
//! whatever a block says is bounded before anything is read or allocated by it.

use super::{Checkpoint, ReadError, WINDOW_BYTES, reserve};
use crate::shard::ShardReader;
use crate::state::{Block, FieldOutline, OwnedKind};
use std::io;
use std::ops::Range;

/// A row of elements next to each other both in a rank's array and in the global one.
pub(super) struct Run<'a> {
    /// The number of its first element in the global array (of a local one without block, in that).
    pub place: u64,
    /// Its bytes.
    pub bytes: &'a [u8],
}

/// The product, where it can be counted.
fn product(numbers: &[u64]) -> Option<u64> {
    numbers.iter().try_fold(1u64, |product, number| product.checked_mul(*number))
}

/// What is wrong with the block that an array of this outline is said to be.
fn block_fault(outline: &FieldOutline, block: &Block) -> Option<String> {
    let dimensions = block.global.len();
    let lengths = [block.offset.len(), block.extent.len(), block.halo.len()];
    if dimensions == 0 || lengths.iter().any(|length| *length != dimensions) {
        return Some("has a block without a clear number of dimensions".into());
    }
    if outline.element_bytes == 0 || product(&block.global).is_none() {
        return Some("has a block of an array that can't be".into());
    }
    let mut local = 1u64;
    for dimension in 0..dimensions {
        let [before, after] = block.halo[dimension];
        let extent = block.extent[dimension];
        let inside = block.offset[dimension].checked_add(extent).is_some_and(|end| end <= block.global[dimension]);
        if !inside {
            return Some(format!("has a block that ends outside of the global array in dimension {dimension}"));
        }
        let length = before.checked_add(extent).and_then(|sum| sum.checked_add(after));
        // A `Vec` has one dimension, whatever its block has.
        if outline.shape.len() == dimensions && dimensions > 1 && length != Some(outline.shape[dimension]) {
            return Some(format!("does not have the length of block and halo in dimension {dimension}"));
        }
        match length.and_then(|length| local.checked_mul(length)) {
            Some(product) => local = product,
            None => return Some("has a block larger than can be counted".into()),
        }
    }
    if local.checked_mul(outline.element_bytes) != Some(outline.bytes) {
        return Some("does not have as many elements as its block and halo".into());
    }
    None
}

/// Where the own elements of a rank lie, in rows: in its array and in the global one.
#[derive(Debug, Clone)]
struct Rows {
    global: Vec<u64>,
    offset: Vec<u64>,
    extent: Vec<u64>,
    before: Vec<u64>,
    local: Vec<u64>,
}

impl Rows {
    fn new(outline: &FieldOutline) -> Result<Self, String> {
        match &outline.block {
            Some(block) => {
                if let Some(fault) = block_fault(outline, block) {
                    return Err(fault);
                }
                let halo = || block.halo.iter().zip(&block.extent);
                Ok(Self {
                    global: block.global.clone(),
                    offset: block.offset.clone(),
                    extent: block.extent.clone(),
                    before: block.halo.iter().map(|[before, _]| *before).collect(),
                    local: halo().map(|([before, after], extent)| before + extent + after).collect(),
                })
            }
            None => {
                let elements = match outline.element_bytes {
                    0 => return Err("has elements of no size".into()),
                    bytes if !outline.bytes.is_multiple_of(bytes) => {
                        return Err("does not hold a whole number of elements".into());
                    }
                    bytes => outline.bytes / bytes,
                };
                let whole = || vec![elements];
                Ok(Self { global: whole(), offset: vec![0], extent: whole(), before: vec![0], local: whole() })
            }
        }
    }

    /// How many rows there are in each layer of the slowest dimension: all but the first and the last dimension. A row is
    /// along the last one; of a one-dimensional array, the layers themselves are the row.
    fn rows_of_layer(&self) -> u64 {
        let dimensions = self.extent.len();
        if dimensions <= 2 { 1 } else { self.extent[1..dimensions - 1].iter().product() }
    }

    /// The places, local and global, of row number `row` of layer `layer` (both counted without halo), and its length; all
    /// in elements.
    fn row(&self, layer: u64, mut row: u64) -> (u64, u64, u64) {
        let dimensions = self.extent.len();
        let (mut local, mut global) = (self.before[0] + layer, self.offset[0] + layer);
        let mut index = vec![0; dimensions];
        for dimension in (1..dimensions.saturating_sub(1)).rev() {
            index[dimension] = row % self.extent[dimension];
            row /= self.extent[dimension];
        }
        for (dimension, index) in index.iter().enumerate().skip(1) {
            local = local * self.local[dimension] + self.before[dimension] + index;
            global = global * self.global[dimension] + self.offset[dimension] + index;
        }
        let length = if dimensions == 1 { 1 } else { self.extent[dimensions - 1] };
        (local, global, length)
    }
}

impl Checkpoint {
    /// Hands the own elements of `rank`'s array, halo left out, to `take`, in the order in which they lie in its memory.
    /// `layers`: of which layers of the slowest dimension, counted from the first own one.
    pub(super) fn for_each_run(
        &self,
        rank: u32,
        name: &str,
        layers: Option<Range<u64>>,
        take: &mut dyn FnMut(Run<'_>),
    ) -> Result<(), ReadError> {
        let (shard, number, outline) = self.required_field(rank, name)?;
        let refuse = |what: String| ReadError::Field { field: name.to_owned(), what: format!("of rank {rank} {what}") };
        let rows = Rows::new(&outline).map_err(refuse)?;
        if rows.extent.contains(&0) {
            return Ok(());
        }
        let element = outline.element_bytes;
        let layers = layers.unwrap_or(0..rows.extent[0]);
        let mut window = Window { checkpoint: self, shard: &shard, rank, number, bytes: Vec::new(), start: 0 };
        // Where nothing lies between, one run takes the place of many rows.
        let joined = rows.extent.iter().skip(1).zip(rows.local.iter().skip(1)).all(|(own, all)| own == all)
            && rows.extent.iter().skip(1).zip(rows.global.iter().skip(1)).all(|(own, all)| own == all);
        let mut run = |local: u64, global: u64, length: u64| -> Result<(), ReadError> {
            let mut done = 0;
            while done < length {
                let some = (WINDOW_BYTES / element).clamp(1, length - done);
                let bytes = window.get(&outline, (local + done) * element, some * element)?;
                take(Run { place: global + done, bytes });
                done += some;
            }
            Ok(())
        };
        if joined {
            let (local, global, _) = rows.row(layers.start, 0);
            let layer: u64 = rows.extent[1..].iter().product();
            return run(local, global, (layers.end - layers.start) * layer);
        }
        for layer in layers {
            for row in 0..rows.rows_of_layer() {
                let (local, global, length) = rows.row(layer, row);
                run(local, global, length)?;
            }
        }
        Ok(())
    }

    /// The array `name` of all ranks together.
    ///
    /// # Errors
    /// [`ReadError::Field`] where the application gave no global shape, or the ranks' blocks don't make up the global array;
    /// and those of reading every shard's header and index.
    pub fn global(&self, name: &str) -> Result<GlobalArray<'_>, ReadError> {
        let refuse = |what: String| ReadError::Field { field: name.to_owned(), what };
        let kind = self.kind(name)?;
        let Some(shape) = self.field(name)?.global.clone() else {
            return Err(refuse("has no global shape: read it rank by rank".into()));
        };
        let size = product(&shape).and_then(|elements| elements.checked_mul(kind.bytes()));
        let Some(bytes) = size.filter(|_| !shape.is_empty()) else {
            return Err(refuse(format!("has a global shape larger than can be counted: {shape:?}")));
        };
        let mut blocks = Vec::new();
        for rank in 0..self.manifest().world {
            let Some((_, outline)) = self.rank_field(rank, name)? else { continue };
            let Some(block) = &outline.block else {
                return Err(refuse(format!("of rank {rank} is no block of the global array")));
            };
            if block.global != shape || outline.kind != self.field(name)?.kind || outline.element_bytes != kind.bytes()
            {
                return Err(refuse(format!("of rank {rank} is a block of another array: {:?}", block.global)));
            }
            if let Some(fault) = block_fault(&outline, block) {
                return Err(refuse(format!("of rank {rank} {fault}")));
            }
            if !block.extent.contains(&0) {
                blocks.push(Place { rank, offset: block.offset.clone(), extent: block.extent.clone() });
            }
        }
        check_tiling(&shape, &mut blocks).map_err(refuse)?;
        Ok(GlobalArray { checkpoint: self, name: name.to_owned(), kind, shape, bytes, blocks })
    }
}

/// The part of a rank's array that was read last.
struct Window<'a> {
    checkpoint: &'a Checkpoint,
    shard: &'a ShardReader,
    rank: u32,
    number: usize,
    bytes: Vec<u8>,
    start: u64,
}

impl Window<'_> {
    /// The bytes from `start` on, read with what comes after them where they were not read already. Callers go forward.
    fn get(&mut self, outline: &FieldOutline, start: u64, len: u64) -> Result<&[u8], ReadError> {
        let have = self.start..self.start + self.bytes.len() as u64;
        if start < have.start || start + len > have.end {
            let wanted = WINDOW_BYTES.max(len).min(outline.bytes - start);
            if self.bytes.len() as u64 != wanted {
                self.bytes = Vec::new();
                self.bytes = reserve(&outline.name, wanted)?;
            }
            self.start = start;
            if let Err(source) = self.shard.read_part(&self.checkpoint.pool, self.number, start, &mut self.bytes) {
                self.bytes = Vec::new();
                return Err(ReadError::Shard { rank: self.rank, source });
            }
        }
        let skip = (start - self.start) as usize;
        Ok(&self.bytes[skip..skip + len as usize])
    }
}

#[derive(Debug)]
struct Place {
    rank: u32,
    offset: Vec<u64>,
    extent: Vec<u64>,
}

impl Place {
    fn end(&self, dimension: usize) -> u64 {
        self.offset[dimension] + self.extent[dimension]
    }
}

/// Checks that blocks, each inside of the global array and none empty, make it up; sorts them by their first layer.
fn check_tiling(shape: &[u64], blocks: &mut [Place]) -> Result<(), String> {
    blocks.sort_by_key(|block| (block.offset[0], block.rank));
    let mut covered = 0u64;
    let mut active: Vec<&Place> = Vec::new();
    for block in blocks.iter() {
        active.retain(|other| other.end(0) > block.offset[0]);
        let meets = |other: &&&Place| {
            (0..shape.len()).all(|d| other.offset[d] < block.end(d) && block.offset[d] < other.end(d))
        };
        if let Some(other) = active.iter().find(meets) {
            return Err(format!("cannot be assembled: the blocks of ranks {} and {} overlap", other.rank, block.rank));
        }
        active.push(block);
        covered += block.extent.iter().product::<u64>();
    }
    let all: u64 = shape.iter().product();
    if covered != all {
        return Err(format!("cannot be assembled: the ranks' blocks hold {covered} of its {all} elements"));
    }
    Ok(())
}

/// An array of all ranks together, without halos.
#[derive(Debug)]
pub struct GlobalArray<'a> {
    checkpoint: &'a Checkpoint,
    name: String,
    kind: OwnedKind,
    shape: Vec<u64>,
    bytes: u64,
    blocks: Vec<Place>,
}

impl GlobalArray<'_> {
    /// What its elements consist of.
    #[must_use]
    pub fn kind(&self) -> &OwnedKind {
        &self.kind
    }

    /// Its shape, slowest dimension first.
    #[must_use]
    pub fn shape(&self) -> &[u64] {
        &self.shape
    }

    /// Its size in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// All of it, in memory.
    ///
    /// # Errors
    /// [`ReadError::Memory`] where there is not enough, and those of reading.
    pub fn read(&self) -> Result<Vec<u8>, ReadError> {
        let mut bytes = reserve(&self.name, self.bytes)?;
        let mut at = 0;
        self.stream(&mut |part| {
            bytes[at..at + part.len()].copy_from_slice(part);
            at += part.len();
            Ok(())
        })?;
        Ok(bytes)
    }

    /// Hands its bytes to `take`, in row-major order, some MiB at a time; more where one layer of the slowest dimension is
    /// larger.
    ///
    /// # Errors
    /// [`ReadError`]; [`ReadError::Output`] where `take` fails.
    pub fn stream(&self, take: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> Result<(), ReadError> {
        if self.bytes == 0 {
            return Ok(());
        }
        let layer_bytes = self.bytes / self.shape[0];
        let layers = (2 * WINDOW_BYTES / layer_bytes).clamp(1, self.shape[0]);
        let mut slab = reserve(&self.name, layers * layer_bytes)?;
        let mut start = 0;
        while start < self.shape[0] {
            let end = (start + layers).min(self.shape[0]);
            // At most the slab's length.
            let len = ((end - start) * layer_bytes) as usize;
            for block in &self.blocks {
                let (from, to) = (start.max(block.offset[0]), end.min(block.end(0)));
                if from >= to {
                    continue;
                }
                let layers = from - block.offset[0]..to - block.offset[0];
                self.checkpoint.for_each_run(block.rank, &self.name, Some(layers), &mut |run| {
                    let at = (run.place * self.kind.bytes() - start * layer_bytes) as usize;
                    slab[at..at + run.bytes.len()].copy_from_slice(run.bytes);
                })?;
            }
            take(&slab[..len]).map_err(ReadError::Output)?;
            start = end;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(rank: u32, offset: [u64; 2], extent: [u64; 2]) -> Place {
        Place { rank, offset: offset.to_vec(), extent: extent.to_vec() }
    }

    #[test]
    fn gaps_and_overlaps_are_named() {
        let left = || place(0, [0, 0], [4, 3]);
        assert_eq!(check_tiling(&[4, 5], &mut [place(1, [0, 3], [4, 2]), left()]), Ok(()));
        let gap = check_tiling(&[4, 5], &mut [left(), place(1, [0, 3], [3, 2])]).unwrap_err();
        assert!(gap.contains("18 of its 20"), "{gap}");
        let overlap = check_tiling(&[4, 5], &mut [left(), place(1, [1, 2], [3, 3])]).unwrap_err();
        assert!(overlap.contains("ranks 0 and 1 overlap"), "{overlap}");
        // The right number of elements is not enough.
        let both = check_tiling(&[2, 2], &mut [place(0, [0, 0], [2, 1]), place(1, [0, 0], [2, 1])]).unwrap_err();
        assert!(both.contains("overlap"), "{both}");
    }

    #[test]
    fn a_block_that_lies_is_refused_before_anything_is_read() {
        let outline = |block: Block, bytes: u64| FieldOutline {
            name: "u".into(),
            class: crate::state::FieldClass::Array,
            kind: "f64".into(),
            element_bytes: 8,
            shape: vec![bytes / 8],
            resizable: false,
            bytes,
            block: Some(block),
        };
        let block = |global: u64, offset: u64, extent: u64, halo: u64| Block {
            global: vec![global, 2],
            offset: vec![offset, 0],
            extent: vec![extent, 2],
            halo: vec![[halo, 0], [0, 0]],
        };
        assert!(Rows::new(&outline(block(4, 1, 3, 1), 64)).is_ok());
        for lie in [block(4, 2, 3, 1), block(4, u64::MAX, 3, 1), block(4, 1, 3, 2), block(u64::MAX, 1, 3, u64::MAX)] {
            assert!(Rows::new(&outline(lie.clone(), 64)).is_err(), "{lie:?}");
        }
        let short = Block { halo: vec![], ..block(4, 1, 3, 1) };
        assert!(Rows::new(&outline(short, 64)).is_err());
    }
}
