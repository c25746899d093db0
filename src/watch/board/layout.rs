//! The memory of a board, as all processes of a node see it.
//!
//! Comes in: a mapped file, or memory of this process alone. Goes out: the header and the slots, as atomic numbers. What must hold: every word
//! is an atomic number that any process may read at any time; a slot has one writer, its rank (but for what [`Header`] says); texts are
//! published by a number that is stored last.
//!
//! All numbers are the machine's own (a board never leaves its node):
//!
//! | bytes | what |
//! | --- | --- |
//! | 0 to 4096 | the [`Header`] |
//! | then 2048 for each slot | a [`Slot`]: lines of 64 bytes for who, alive, and progress; 16 phases; the last error |

use memmap2::{MmapOptions, MmapRaw};
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of the header.
pub(super) const HEADER_BYTES: usize = 4096;
/// Bytes of a slot.
pub(super) const SLOT_BYTES: usize = 2048;
/// Phases that a rank can name; all others count as one without a name.
pub(super) const PHASES: usize = 16;
/// How much of a phase's name is kept.
pub(super) const NAME_BYTES: usize = 32;
/// Most slots of a board: no node has so many processors.
pub(super) const MOST_SLOTS: usize = 8192;
/// What the first word says once the header is there.
pub(super) const MAGIC: u64 = u64::from_le_bytes(*b"PITONBRD");
/// The layout that this is.
pub(super) const VERSION: u64 = 2;

/// A short text as atomic words, its length in the first one; published whole by its writer before anybody is told of it.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Text<const WORDS: usize>([AtomicU64; WORDS]);

impl<const WORDS: usize> Text<WORDS> {
    /// As much of `text` as fits.
    pub(super) fn set(&self, text: &str) {
        let mut length = text.len().min((WORDS - 1) * 8);
        while !text.is_char_boundary(length) {
            length -= 1;
        }
        self.0[0].store(0, Ordering::Release);
        for (word, bytes) in self.0[1..].iter().zip(text.as_bytes()[..length].chunks(8)) {
            let mut padded = [0; 8];
            padded[..bytes.len()].copy_from_slice(bytes);
            word.store(u64::from_ne_bytes(padded), Ordering::Relaxed);
        }
        self.0[0].store(length as u64, Ordering::Release);
    }

    /// Whether it is this text, as far as it is kept.
    pub(super) fn holds(&self, text: &str) -> bool {
        let length = (self.0[0].load(Ordering::Acquire) as usize).min((WORDS - 1) * 8);
        text.len() == length
            && self.0[1..]
                .iter()
                .zip(text.as_bytes().chunks(8))
                .all(|(word, bytes)| word.load(Ordering::Relaxed).to_ne_bytes().starts_with(bytes))
    }

    /// The text; what is no text any more, or not yet, has other characters in it.
    pub(super) fn get(&self) -> String {
        let length = (self.0[0].load(Ordering::Acquire) as usize).min((WORDS - 1) * 8);
        let words = self.0[1..].iter().take(length.div_ceil(8));
        let mut bytes: Vec<u8> = words.flat_map(|word| word.load(Ordering::Relaxed).to_ne_bytes()).collect();
        bytes.truncate(length);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// What is said of all slots.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Header {
    /// [`MAGIC`], stored last.
    pub magic: AtomicU64,
    pub version: AtomicU64,
    pub slots: AtomicU64,
    pub world: AtomicU64,
    pub epoch: AtomicU64,
    /// Tells this attempt from others of the same job and number.
    pub token: AtomicU64,
    /// The supervisor's run and its launch, where there is one.
    pub run: AtomicU64,
    pub launch: AtomicU64,
    /// How often ranks beat, nanoseconds.
    pub beat_ns: AtomicU64,
    _rest: [AtomicU64; 7],
    /// Written by who watches: its process, and when it last looked.
    pub agent_pid: AtomicU64,
    pub agent_at: AtomicU64,
    _line: [AtomicU64; 6],
    pub job: Text<16>,
    pub host: Text<16>,
    pub store: Text<448>,
}

impl Header {
    pub(super) fn watcher(&self) -> Option<(u32, u64)> {
        let pid = u32::try_from(self.agent_pid.load(Ordering::Acquire)).ok().filter(|pid| *pid > 0)?;
        Some((pid, self.agent_at.load(Ordering::Relaxed)))
    }
}

/// One of the places in the code that a rank names.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Phase {
    /// How often it was left.
    pub count: AtomicU64,
    /// How long it took, all in all, and the longest two times (slowly forgotten), nanoseconds.
    pub total_ns: AtomicU64,
    pub longest_ns: AtomicU64,
    pub second_ns: AtomicU64,
    /// [`WAITS`] and the like.
    pub flags: AtomicU64,
    pub name: Text<5>,
}

/// A phase in which a rank only waits for others.
pub(super) const WAITS: u64 = 1;

/// What one rank says of itself. Times are [`super::now_ns`].
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Slot {
    // Who.
    /// One of [`super::Presence`], stored last.
    pub presence: AtomicU64,
    pub rank: AtomicU64,
    pub pid: AtomicU64,
    /// When the process started, in clock ticks since boot.
    pub start_ticks: AtomicU64,
    /// The thread that ticks.
    pub thread: AtomicU64,
    pub phases: AtomicU64,
    _who: [AtomicU64; 2],
    // Alive.
    pub beats: AtomicU64,
    pub beat_at: AtomicU64,
    /// How late the last beat was.
    pub late_ns: AtomicU64,
    /// So many steps may share one look at the clock; the step, and how many were timed, at the last beat.
    pub share: AtomicU64,
    pub beat_step: AtomicU64,
    pub beat_steps: AtomicU64,
    _alive: [AtomicU64; 2],
    // Progress.
    pub step: AtomicU64,
    /// When the step changed.
    pub stepped_at: AtomicU64,
    /// The phase that it is in, from 1; 0: none.
    pub phase: AtomicU64,
    /// Steps that were timed, how long they took and how long of it was waiting, all in all.
    pub steps: AtomicU64,
    pub steps_ns: AtomicU64,
    pub waiting_ns: AtomicU64,
    /// Steps until the next look at the clock, and how many came since the last one.
    pub skip: AtomicU64,
    pub since_clock: AtomicU64,
    /// The longest two steps, slowly forgotten.
    pub longest_ns: AtomicU64,
    pub second_ns: AtomicU64,
    /// Something is wrong: how often that was said, and what, last.
    pub errors: AtomicU64,
    _error: [AtomicU64; 5],
    pub named: [Phase; PHASES],
    pub error: Text<32>,
}

const _: () = assert!(size_of::<Header>() <= HEADER_BYTES && size_of::<Slot>() <= SLOT_BYTES);
const _: () = assert!(align_of::<Header>() <= 64 && align_of::<Slot>() <= 64);

/// A board's memory.
#[derive(Debug)]
pub(super) struct Memory {
    map: MmapRaw,
    slots: usize,
}

/// The bytes of a board of so many slots.
pub(super) fn bytes(slots: usize) -> usize {
    HEADER_BYTES + slots * SLOT_BYTES
}

impl Memory {
    /// That of a file, which must be so long and have its blocks.
    pub(super) fn of_file(file: &File, slots: usize) -> io::Result<Self> {
        Ok(Self { map: MmapOptions::new().len(bytes(slots)).map_raw(file)?, slots })
    }

    /// Memory that no other process sees.
    pub(super) fn private(slots: usize) -> io::Result<Self> {
        Ok(Self { map: MmapOptions::new().len(bytes(slots)).map_anon()?.into(), slots })
    }

    pub(super) fn slots(&self) -> usize {
        self.slots
    }

    pub(super) fn header(&self) -> &Header {
        // SAFETY: the map is `bytes(slots)` long, page-aligned and lives as long as `self`; `Header` has only atomic numbers, for which
        // any bytes will do and which other processes may change.
        unsafe { &*self.map.as_ptr().cast::<Header>() }
    }

    pub(super) fn slot(&self, at: usize) -> &Slot {
        assert!(at < self.slots, "slot {at} of {}", self.slots);
        // SAFETY: as above; slot `at` lies within the map, at a multiple of 64 bytes.
        unsafe { &*self.map.as_ptr().add(HEADER_BYTES + at * SLOT_BYTES).cast::<Slot>() }
    }
}
