//! Copying the state while the application waits, and nothing longer than that.
//!
//! Comes in: the bytes of every field, borrowed from the application. Goes out: a [`Frozen`] copy that belongs to us, from
//! which background threads encode.
//! What must hold: when [`Frozen::copy`] returns, every byte given was copied, and the application may change its own; memory
//! for the copy is mapped once, pre-faulted before it is needed, and kept; it never exceeds the limit that was set, the
//! rest of a larger state being left to the caller to write while the application waits ([`Plan::streamed`]).

mod arena;

pub(crate) use arena::{Arena, Staging};

use rayon::prelude::*;

/// What one thread copies at a time: large enough to stream, small enough to share out evenly.
const COPY_PIECE: usize = 2 << 20;

/// Where the bytes of each field go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    extents: Vec<Extent>,
    arena_bytes: u64,
}

/// The place of one field in the arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Extent {
    /// How many bytes of the field, from its start, do not go into the arena.
    streamed: u64,
    /// Where the rest starts in the arena.
    place: u64,
    /// The length of the rest.
    length: u64,
}

/// Fields start on cache lines in the arena.
const ALIGNMENT: u64 = 64;

impl Plan {
    /// Places fields of `sizes` bytes in an arena of at most `limit` bytes. What does not fit is cut off the front of the
    /// fields, in multiples of `chunk`.
    pub(crate) fn new(sizes: &[u64], chunk: u64, limit: u64) -> Self {
        let mut over = sizes.iter().map(|size| size.next_multiple_of(ALIGNMENT)).sum::<u64>().saturating_sub(limit);
        let mut place = 0;
        let extents = sizes.iter().map(|&size| {
            let streamed = over.next_multiple_of(chunk).min(size);
            over = over.saturating_sub(streamed);
            let extent = Extent { streamed, place, length: size - streamed };
            place += extent.length.next_multiple_of(ALIGNMENT);
            extent
        });
        let extents = extents.collect();
        Self { extents, arena_bytes: place }
    }

    /// How large an arena it needs.
    pub(crate) fn arena_bytes(&self) -> u64 {
        self.arena_bytes
    }

    /// How many bytes of field `field`, from its start, the caller has to write itself before it lets the application go.
    pub(crate) fn streamed(&self, field: usize) -> u64 {
        self.extents[field].streamed
    }
}

/// A copy of the state.
#[derive(Debug)]
pub(crate) struct Frozen {
    arena: Arena,
    plan: Plan,
}

impl Frozen {
    /// Copies `sources`, one slice a field, as `plan` says, with the threads of `pool`.
    ///
    /// # Errors
    /// Gives the arena back where the plan is not one for these sources and this arena.
    pub(crate) fn copy(
        mut arena: Arena,
        plan: Plan,
        sources: &[&[u8]],
        pool: Option<&rayon::ThreadPool>,
    ) -> Result<Self, Arena> {
        let sizes_match = plan.extents.len() == sources.len()
            && plan.extents.iter().zip(sources).all(|(e, s)| e.streamed + e.length == s.len() as u64);
        if !sizes_match || (arena.bytes().len() as u64) < plan.arena_bytes {
            return Err(arena);
        }
        let mut pieces: Vec<(&mut [u8], &[u8])> = Vec::new();
        let mut rest = arena.bytes_mut();
        let mut at = 0;
        for (extent, source) in plan.extents.iter().zip(sources) {
            // Lengths were compared with those of slices above, so they fit in usize.
            let skip = (extent.place - at) as usize;
            let (own, behind) = std::mem::take(&mut rest)[skip..].split_at_mut(extent.length as usize);
            rest = behind;
            at = extent.place + extent.length;
            let source = &source[extent.streamed as usize..];
            pieces.extend(own.chunks_mut(COPY_PIECE).zip(source.chunks(COPY_PIECE)));
        }
        match pool {
            Some(pool) if pieces.len() > 1 => {
                pool.install(|| pieces.into_par_iter().for_each(|(to, from)| to.copy_from_slice(from)));
            }
            // One thread: the caller's own is there already, and waits anyway.
            _ => pieces.into_iter().for_each(|(to, from)| to.copy_from_slice(from)),
        }
        Ok(Self { arena, plan })
    }

    /// The bytes of field `field` that were copied: those behind [`Plan::streamed`].
    pub(crate) fn bytes(&self, field: usize) -> &[u8] {
        let Extent { place, length, .. } = self.plan.extents[field];
        &self.arena.bytes()[place as usize..(place + length) as usize]
    }

    /// The plan by which it was copied.
    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The memory, for the next copy.
    pub(crate) fn into_arena(self) -> Arena {
        self.arena
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(fields: &[Vec<u8>], chunk: u64, limit: u64, pool: Option<&rayon::ThreadPool>) {
        let sizes: Vec<u64> = fields.iter().map(|field| field.len() as u64).collect();
        let plan = Plan::new(&sizes, chunk, limit);
        assert!(plan.arena_bytes() <= limit, "{plan:?}");
        let sources: Vec<&[u8]> = fields.iter().map(Vec::as_slice).collect();
        let arena = Arena::map(plan.arena_bytes()).unwrap();
        let frozen = Frozen::copy(arena, plan.clone(), &sources, pool).unwrap();
        for (index, field) in fields.iter().enumerate() {
            let streamed = plan.streamed(index);
            assert!(streamed.is_multiple_of(chunk) || streamed == field.len() as u64);
            assert_eq!(frozen.bytes(index), &field[streamed as usize..]);
        }
    }

    #[test]
    fn large_fields_are_copied_by_several_threads() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        let field = |seed: usize, n: usize| (0..n).map(|i| ((i * 31 + seed) >> 3) as u8).collect::<Vec<_>>();
        check(&[field(1, 5 << 20), field(2, 0), field(3, 3), field(4, (4 << 20) + 1)], 1 << 16, u64::MAX, Some(&pool));
    }

    #[test]
    fn a_plan_for_other_sizes_gives_the_arena_back() {
        let plan = Plan::new(&[10], 4, 1000);
        assert!(Frozen::copy(Arena::map(64).unwrap(), plan.clone(), &[&[0; 11]], None).is_err());
        assert!(Frozen::copy(Arena::map(0).unwrap(), plan, &[&[0; 10]], None).is_err());
    }

    proptest! {
        #[test]
        fn what_is_not_streamed_is_copied(
            lengths in proptest::collection::vec(0usize..5000, 0..8),
            chunk in prop_oneof![Just(64u64), Just(256), Just(1024)],
            limit in prop_oneof![Just(u64::MAX), 0u64..20_000],
        ) {
            let fields: Vec<Vec<u8>> = lengths.iter().map(|&n| (0..n).map(|i| (i * 7 + n) as u8).collect()).collect();
            check(&fields, chunk, limit, None);
        }
    }
}
