//! The ranks of an MPI job.
//!
//! Comes in: any intra-communicator that the application has. Goes out: a [`Communicator`] over a private duplicate of it, so
//! that nothing of ours can be taken for a message of the application's, or be aborted by its error handler.
//! What must hold: MPI is neither initialised nor finalised here; every return code is checked; calls are made from the
//! application's own thread only (the type is not [`Send`]), so that the lowest thread level is enough; no call waits longer
//! than its deadline, but for the creation of the duplicate; memory that MPI may still write to is never freed.

// Why not rsmpi's safe interface: it ignores return codes and takes outputs for initialised all the same, which is undefined
// behaviour as soon as errors return instead of aborting.
use super::{CommError, Communicator, IntoCommunicator, ROUND_WIDTH, Round};
use ::mpi::ffi;
use std::ffi::{c_char, c_int, c_void};
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::time::{Duration, Instant};

/// A broadcast of more bytes is refused: what ranks tell each other is lists and manifests, not data.
pub const MAX_BROADCAST: usize = 1 << 30;

/// Bytes that one call of the library carries. Its counts are 32-bit.
const PIECE: usize = 64 << 20;

/// What stands for the length of a broadcast that the root refuses.
const REFUSED: i64 = -1;

/// A private duplicate of an MPI communicator.
///
/// Made from a reference to any communicator of the `mpi` crate, through [`IntoCommunicator`], or from a raw handle.
///
/// Dropping it is local and gives nothing back: to free a communicator is collective, and a rank that is dropped because of
/// an error must not wait for the others. [`Communicator::release`] frees it.
#[derive(Debug)]
pub struct Mpi {
    duplicate: ffi::MPI_Comm,
    rank: usize,
    size: usize,
    node_ranks: Vec<usize>,
    nodes: usize,
    pending: Option<Reduction>,
    /// A call had no answer or failed: the ranks may be at different places, and nothing collective may follow.
    is_lost: bool,
    is_released: bool,
    /// MPI handles are plain integers in some libraries; the type belongs to one thread with all of them.
    not_send: PhantomData<*const ()>,
}

/// A reduction in flight.
#[derive(Debug)]
struct Reduction {
    request: ffi::MPI_Request,
    /// What this rank sends, and where the result comes; from `Box::into_raw`. A raw pointer, so that what is left in flight
    /// is leaked, and no reference of ours claims what MPI is writing to.
    buffers: *mut [Round; 2],
}

impl<C: ::mpi::traits::Communicator + ?Sized> IntoCommunicator for &C {
    type Communicator = Mpi;

    fn into_communicator(self) -> Result<Mpi, CommError> {
        // SAFETY: the borrow keeps the handle alive, and rsmpi's communicators are those of the library that we link.
        unsafe { Mpi::from_raw(self.as_raw()) }
    }
}

impl Mpi {
    /// Duplicates the communicator `handle`, which stays the caller's. Collective over its ranks.
    ///
    /// # Errors
    /// [`CommError::NotRunning`] before MPI is initialised and after it is finalised; [`CommError::Refused`] where `handle` is
    /// null or an inter-communicator, or the library fails.
    ///
    /// # Safety
    /// `handle` must be null or a live communicator of the MPI library that this program is linked to. The calling thread
    /// must be one that may call MPI.
    pub unsafe fn from_raw(handle: ffi::MPI_Comm) -> Result<Self, CommError> {
        check_running()?;
        let refused =
            |message: &str| CommError::Refused { rank: 0, call: "Mpi::from_raw", code: 0, message: message.to_owned() };
        // SAFETY: a constant of the library.
        if handle == unsafe { ffi::RSMPI_COMM_NULL } {
            return Err(refused("the communicator is null; this rank belongs to no group of the split, say"));
        }
        let mut is_inter: c_int = 0;
        // SAFETY: `handle` is live, says the caller; the output is ours.
        check(0, "MPI_Comm_test_inter", unsafe { ffi::MPI_Comm_test_inter(handle, &raw mut is_inter) })?;
        if is_inter != 0 {
            return Err(refused("it is an inter-communicator; merge it first, or give one of its sides"));
        }
        // SAFETY: a constant of the library.
        let mut duplicate = unsafe { ffi::RSMPI_COMM_NULL };
        // SAFETY: `handle` is live; the output is ours.
        check(0, "MPI_Comm_dup", unsafe { ffi::MPI_Comm_dup(handle, &raw mut duplicate) })?;
        // SAFETY: `duplicate` was just made; the handler is a constant of the library.
        let code = unsafe { ffi::MPI_Comm_set_errhandler(duplicate, ffi::RSMPI_ERRORS_RETURN) };
        check(0, "MPI_Comm_set_errhandler", code)?;
        let (mut rank, mut size): (c_int, c_int) = (0, 0);
        // SAFETY: `duplicate` is live; the output is ours.
        check(0, "MPI_Comm_rank", unsafe { ffi::MPI_Comm_rank(duplicate, &raw mut rank) })?;
        let rank = count(rank);
        // SAFETY: as above.
        check(rank, "MPI_Comm_size", unsafe { ffi::MPI_Comm_size(duplicate, &raw mut size) })?;
        let node_ranks = node_ranks(duplicate, rank)?;
        let nodes = node_count(duplicate, rank, &node_ranks)?;
        Ok(Self {
            duplicate,
            rank,
            size: count(size),
            node_ranks,
            nodes,
            pending: None,
            is_lost: false,
            is_released: false,
            not_send: PhantomData,
        })
    }

    /// Whether anything collective may be entered.
    fn admit(&self, what: &'static str) -> Result<(), CommError> {
        check_running()?;
        if self.is_released {
            return Err(self.refused(what, "the communicator has been released"));
        }
        if self.is_lost { Err(self.lost(what, Duration::ZERO)) } else { Ok(()) }
    }

    fn lost(&self, what: &'static str, waited: Duration) -> CommError {
        CommError::Lost { rank: self.rank, size: self.size, what, waited }
    }

    fn refused(&self, call: &'static str, message: &str) -> CommError {
        CommError::Refused { rank: self.rank, call, code: 0, message: message.to_owned() }
    }

    /// Whether `request` is complete; it is inactive then.
    fn test(&self, request: &mut ffi::MPI_Request) -> Result<bool, CommError> {
        let mut flag: c_int = 0;
        // SAFETY: `request` came from a call that started it on our communicator, and was not complete before; what it reads
        // and writes is alive until it is, or for ever.
        let code = unsafe { ffi::MPI_Test(request, &raw mut flag, ffi::RSMPI_STATUS_IGNORE) };
        check(self.rank, "MPI_Test", code)?;
        Ok(flag != 0)
    }

    /// Waits until `request` is complete, at most until `deadline` after `start`.
    fn complete(
        &self,
        request: &mut ffi::MPI_Request,
        what: &'static str,
        start: Instant,
        deadline: Duration,
    ) -> Result<(), CommError> {
        const SPIN: Duration = Duration::from_micros(20);
        const YIELD: Duration = Duration::from_millis(1);
        let begun = Instant::now();
        loop {
            if self.test(request)? {
                return Ok(());
            }
            let waited = start.elapsed();
            if waited >= deadline {
                return Err(self.lost(what, waited));
            }
            // Others may need this core to get here at all.
            let here = begun.elapsed();
            if here < SPIN {
                std::hint::spin_loop();
            } else if here < YIELD {
                std::thread::yield_now();
            } else {
                std::thread::sleep((here / 16).min(YIELD).min(deadline - waited));
            }
        }
    }

    /// Broadcasts `len` items of `datatype` at `buffer`, in place.
    ///
    /// # Safety
    /// `buffer` must be valid for reads and writes of so many items. After an error it must stay so for ever.
    #[allow(clippy::too_many_arguments, reason = "those of MPI_Ibcast, and the deadline")]
    unsafe fn broadcast_piece(
        &self,
        buffer: *mut c_void,
        len: usize,
        datatype: ffi::MPI_Datatype,
        root: c_int,
        start: Instant,
        deadline: Duration,
    ) -> Result<(), CommError> {
        let len = c_int::try_from(len).map_err(|_| self.refused("MPI_Ibcast", "more items than an int counts"))?;
        // SAFETY: a constant of the library.
        let mut request = unsafe { ffi::RSMPI_REQUEST_NULL };
        // SAFETY: the buffer is valid until the request is complete, says the caller; the communicator is live.
        let code = unsafe { ffi::MPI_Ibcast(buffer, len, datatype, root, self.duplicate, &raw mut request) };
        check(self.rank, "MPI_Ibcast", code)?;
        self.complete(&mut request, "a broadcast", start, deadline)
    }

    fn broadcast_within(&self, root: usize, bytes: Vec<u8>, deadline: Duration) -> Result<Vec<u8>, CommError> {
        let start = Instant::now();
        let is_root = self.rank == root;
        let root = match c_int::try_from(root) {
            Ok(number) if root < self.size => number,
            _ => return Err(self.refused("broadcast", &format!("there is no rank {root}"))),
        };
        let refuses = bytes.len() > MAX_BROADCAST;
        let mine = if refuses { REFUSED } else { i64::try_from(bytes.len()).unwrap_or(REFUSED) };
        let len = Box::into_raw(Box::new(mine));
        // SAFETY: `len` is a leaked box of one `i64`; the datatype is a constant of the library.
        unsafe { self.broadcast_piece(len.cast(), 1, ffi::RSMPI_INT64_T, root, start, deadline)? };
        // SAFETY: from `Box::into_raw`; the request is complete, so that MPI is done with it. On errors it stays leaked.
        let len = *unsafe { Box::from_raw(len) };
        let len = match usize::try_from(len) {
            Ok(len) if len <= MAX_BROADCAST => len,
            // Every rank has the same length, so that every rank refuses.
            _ => return Err(self.refused("broadcast", &format!("more than {MAX_BROADCAST} bytes"))),
        };
        // Not dropped on errors: MPI may be writing to it.
        let mut buffer = ManuallyDrop::new(if is_root { bytes } else { vec![0; len] });
        let start_of_buffer = buffer.as_mut_ptr();
        for offset in (0..len).step_by(PIECE) {
            let piece = PIECE.min(len - offset);
            // SAFETY: `offset + piece` is at most the buffer's length, which was allocated; nobody else touches it until the
            // piece is complete, and on errors it is leaked.
            unsafe {
                let piece_start = start_of_buffer.add(offset).cast();
                self.broadcast_piece(piece_start, piece, ffi::RSMPI_UINT8_T, root, start, deadline)?;
            }
        }
        Ok(ManuallyDrop::into_inner(buffer))
    }
}

impl Communicator for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn node_ranks(&self) -> &[usize] {
        &self.node_ranks
    }

    fn nodes(&self) -> usize {
        self.nodes
    }

    fn start_max(&mut self, contribution: Round) -> Result<(), CommError> {
        self.admit("a reduction")?;
        if self.pending.is_some() {
            return Err(self.refused("MPI_Iallreduce", "a reduction is in flight already"));
        }
        let buffers = Box::into_raw(Box::new([contribution, [0; ROUND_WIDTH]]));
        let (send, receive) = (buffers.cast::<Round>(), buffers.cast::<Round>().wrapping_add(1));
        // SAFETY: constants of the library; the buffers are two leaked arrays of `ROUND_WIDTH` numbers each, apart from each
        // other, and freed only when the request is complete; the communicator is live.
        let (code, request) = unsafe {
            let mut request = ffi::RSMPI_REQUEST_NULL;
            let code = ffi::MPI_Iallreduce(
                send.cast(),
                receive.cast(),
                ROUND_WIDTH as c_int,
                ffi::RSMPI_INT64_T,
                ffi::RSMPI_MAX,
                self.duplicate,
                &raw mut request,
            );
            (code, request)
        };
        if let Err(error) = check(self.rank, "MPI_Iallreduce", code) {
            self.is_lost = true;
            return Err(error);
        }
        self.pending = Some(Reduction { request, buffers });
        Ok(())
    }

    fn test_max(&mut self) -> Result<Option<Round>, CommError> {
        self.admit("a reduction")?;
        // Taken out: whatever happens, an inactive request is never tested again.
        let Some(mut reduction) = self.pending.take() else { return Ok(None) };
        match self.test(&mut reduction.request) {
            Ok(true) => Ok(Some(reduction.result())),
            Ok(false) => {
                self.pending = Some(reduction);
                Ok(None)
            }
            Err(error) => {
                self.is_lost = true;
                Err(error)
            }
        }
    }

    fn wait_max(&mut self, deadline: Duration) -> Result<Round, CommError> {
        self.admit("a reduction")?;
        let Some(mut reduction) = self.pending.take() else {
            return Err(self.lost("a reduction that was never started", Duration::ZERO));
        };
        match self.complete(&mut reduction.request, "a reduction", Instant::now(), deadline) {
            Ok(()) => Ok(reduction.result()),
            Err(error) => {
                self.is_lost = true;
                Err(error)
            }
        }
    }

    fn broadcast(&mut self, root: usize, bytes: Vec<u8>, deadline: Duration) -> Result<Vec<u8>, CommError> {
        self.admit("a broadcast")?;
        let result = self.broadcast_within(root, bytes, deadline);
        // A refusal is the same on every rank, unless it is the library's own.
        self.is_lost = matches!(&result, Err(CommError::Lost { .. }))
            || matches!(&result, Err(CommError::Refused { code, .. }) if *code != 0);
        result
    }

    fn release(&mut self) -> Result<(), CommError> {
        // Finalised, MPI has nothing left to free; lost, the others would not come.
        if self.is_released || self.is_lost || check_running().is_err() {
            return Ok(());
        }
        self.is_released = true;
        // SAFETY: `duplicate` is live and our own, and never used again.
        let code = unsafe { ffi::MPI_Comm_free(&raw mut self.duplicate) };
        check(self.rank, "MPI_Comm_free", code)
    }
}

impl Reduction {
    /// The result, once the request is complete.
    fn result(self) -> Round {
        // SAFETY: from `Box::into_raw`, freed nowhere else; the request is complete, so that MPI is done with it.
        let buffers = unsafe { Box::from_raw(self.buffers) };
        buffers[1]
    }
}

/// The ranks of `communicator` that share this one's node, in order. Collective.
fn node_ranks(communicator: ffi::MPI_Comm, rank: usize) -> Result<Vec<usize>, CommError> {
    // Ranks came from numbers of this type.
    let own = c_int::try_from(rank).unwrap_or(0);
    let mut ranks: Vec<c_int> = Vec::new();
    // SAFETY: `communicator` is live, the rest are constants of the library and outputs of ours, of which the last is as long as
    // there are ranks in `node`; what is made here is freed here.
    unsafe {
        let (kind, info) = (ffi::RSMPI_COMM_TYPE_SHARED, ffi::RSMPI_INFO_NULL);
        let mut node = ffi::RSMPI_COMM_NULL;
        let code = ffi::MPI_Comm_split_type(communicator, kind, 0, info, &raw mut node);
        check(rank, "MPI_Comm_split_type", code)?;
        let mut size: c_int = 0;
        let counted = check(rank, "MPI_Comm_size", ffi::MPI_Comm_size(node, &raw mut size));
        let gathered = counted.and_then(|()| {
            ranks.resize(count(size), 0);
            let (own, all, number) = ((&raw const own).cast(), ranks.as_mut_ptr().cast(), ffi::RSMPI_INT32_T);
            check(rank, "MPI_Allgather", ffi::MPI_Allgather(own, 1, number, all, 1, number, node))
        });
        check(rank, "MPI_Comm_free", ffi::MPI_Comm_free(&raw mut node))?;
        gathered?;
    }
    ranks.sort_unstable();
    Ok(ranks.into_iter().map(count).collect())
}

/// How many nodes the ranks of `communicator` run on: each node's first rank counts. Collective.
fn node_count(communicator: ffi::MPI_Comm, rank: usize, node_ranks: &[usize]) -> Result<usize, CommError> {
    let own = c_int::from(node_ranks.first() == Some(&rank));
    let mut all: c_int = 0;
    let (send, receive) = ((&raw const own).cast(), (&raw mut all).cast());
    // SAFETY: `communicator` is live, the rest are constants of the library, and one number of ours each way.
    let code = unsafe { ffi::MPI_Allreduce(send, receive, 1, ffi::RSMPI_INT32_T, ffi::RSMPI_SUM, communicator) };
    check(rank, "MPI_Allreduce", code)?;
    Ok(count(all).max(1))
}

/// A number of ranks, which MPI never has below zero.
fn count(number: c_int) -> usize {
    usize::try_from(number).unwrap_or(0)
}

/// Whether MPI can be called at all.
fn check_running() -> Result<(), CommError> {
    let (mut initialised, mut finalised): (c_int, c_int) = (0, 0);
    // SAFETY: these two may be called at any time, from any thread.
    unsafe {
        check(0, "MPI_Initialized", ffi::MPI_Initialized(&raw mut initialised))?;
        check(0, "MPI_Finalized", ffi::MPI_Finalized(&raw mut finalised))?;
    }
    match (initialised != 0, finalised != 0) {
        (true, false) => Ok(()),
        (false, _) => Err(CommError::NotRunning("MPI is not initialised yet")),
        (true, true) => Err(CommError::NotRunning("MPI is finalised already")),
    }
}

/// Makes an error of a return code, with what the library says about it.
fn check(rank: usize, call: &'static str, code: c_int) -> Result<(), CommError> {
    // `MPI_SUCCESS` is zero in every library.
    if code == 0 {
        return Ok(());
    }
    const LONGEST: usize = ffi::MPI_MAX_ERROR_STRING as usize;
    let mut text = [0u8; LONGEST + 1];
    let mut len: c_int = 0;
    // SAFETY: the buffer is longer than any message; the code came from the library itself.
    let known = unsafe { ffi::MPI_Error_string(code, text.as_mut_ptr().cast::<c_char>(), &raw mut len) };
    let message = if known == 0 {
        String::from_utf8_lossy(&text[..count(len).min(LONGEST)]).trim_end_matches('\0').trim().to_owned()
    } else {
        "the library has no text for it".to_owned()
    };
    Err(CommError::Refused { rank, call, code, message })
}
