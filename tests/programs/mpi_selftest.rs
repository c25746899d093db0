//! Exercises the MPI communicator under `mpirun`; run by `tests/mpi.rs`.
//!
//! `mpi-selftest answers` goes through all calls with all ranks; `mpi-selftest absent` leaves rank 1 out and expects the
//! others to notice. Rank 0 prints `ok` at the end.

use mpi::ffi;
use mpi::traits::{AsRaw as _, Communicator as _};
use piton::comm::mpi::Mpi;
use piton::comm::{CommError, Communicator, IntoCommunicator, ROUND_WIDTH, Round};
use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

const BOUND: Duration = Duration::from_secs(60);

fn round(number: usize) -> Round {
    std::array::from_fn(|at| if at % 2 == 0 { number as i64 } else { -(number as i64) })
}

/// All calls, on one communicator.
fn exercise(comm: &mut Mpi) {
    let (rank, size) = (comm.rank(), comm.size());
    assert!((1..=size).contains(&comm.ranks_on_node()));
    assert!(comm.node_ranks().is_sorted() && comm.node_ranks().contains(&rank));
    assert_eq!(comm.test_max(), Ok(None), "nothing is in flight");
    for turn in 0..50 {
        let expected: Round =
            std::array::from_fn(|at| if at % 2 == 0 { (turn + size - 1) as i64 } else { -(turn as i64) });
        if turn % 2 == 0 {
            assert_eq!(comm.max(round(rank + turn), BOUND), Ok(expected));
            continue;
        }
        comm.start_max(round(rank + turn)).unwrap();
        assert!(matches!(comm.start_max(round(0)), Err(CommError::Refused { .. })), "one in flight at most");
        let start = Instant::now();
        let result = loop {
            if let Some(result) = comm.test_max().unwrap() {
                break result;
            }
            assert!(start.elapsed() < BOUND);
            std::thread::yield_now();
        };
        assert_eq!(result, expected);
        assert_eq!(comm.test_max(), Ok(None), "it was taken");
    }
    for root in 0..size {
        for len in [0, 1, 7, 4096, 1 << 20, 5 << 20] {
            let expected: Vec<u8> = (0..len).map(|at| (at * 31 + root) as u8).collect();
            let mine = if rank == root { expected.clone() } else { vec![1; rank] };
            assert!(comm.broadcast(root, mine, BOUND).unwrap() == expected, "{len} bytes from {root}");
        }
    }
    assert!(matches!(comm.broadcast(size, Vec::new(), BOUND), Err(CommError::Refused { .. })));
    assert_eq!(comm.max(round(rank), BOUND).map(|round| round[0]), Ok(size as i64 - 1), "a refusal is not a loss");
}

fn answers() {
    // SAFETY: a predefined communicator; calls before the initialisation are refused without MPI being called.
    let early = unsafe { Mpi::from_raw(ffi::RSMPI_COMM_WORLD) };
    assert!(matches!(early, Err(CommError::NotRunning(_))), "{early:?}");
    let universe = mpi::initialize().expect("MPI is not initialised yet");
    let world = universe.world();
    let mut comm = (&world).into_communicator().unwrap();
    assert_eq!((comm.rank(), comm.size()), (world.rank() as usize, world.size() as usize));
    exercise(&mut comm);

    // A part of the world, its ranks the other way round; both in use at once.
    // SAFETY: outputs of ours, a live communicator.
    let (half, empty) = unsafe {
        let (mut half, mut empty) = (ffi::RSMPI_COMM_NULL, ffi::RSMPI_COMM_NULL);
        assert_eq!(ffi::MPI_Comm_split(world.as_raw(), world.rank() % 2, -world.rank(), &raw mut half), 0);
        let color = if world.rank() == 0 { 0 } else { ffi::RSMPI_UNDEFINED };
        assert_eq!(ffi::MPI_Comm_split(world.as_raw(), color, 0, &raw mut empty), 0);
        (half, empty)
    };
    // SAFETY: a live communicator of this library.
    let mut part = unsafe { Mpi::from_raw(half) }.unwrap();
    let same = (0..world.size()).filter(|other| other % 2 == world.rank() % 2);
    assert_eq!(part.size(), same.clone().count());
    assert_eq!(part.rank(), same.filter(|other| *other > world.rank()).count());
    comm.start_max(round(comm.rank())).unwrap();
    exercise(&mut part);
    assert_eq!(comm.wait_max(BOUND).unwrap()[0], comm.size() as i64 - 1);
    // SAFETY: null, or live.
    let alone = unsafe { Mpi::from_raw(empty) };
    match world.rank() {
        0 => assert_eq!(alone.as_ref().map(Communicator::size), Ok(1)),
        _ => assert!(matches!(alone, Err(CommError::Refused { .. })), "a null communicator"),
    }
    part.release().unwrap();
    part.release().unwrap();
    assert!(matches!(part.start_max([0; ROUND_WIDTH]), Err(CommError::Refused { .. })), "released");
    // The application's own is untouched by what became of our duplicate.
    exercise(&mut (&world).into_communicator().unwrap());

    let is_first = world.rank() == 0;
    let mut released = (&world).into_communicator().unwrap();
    released.release().unwrap();
    drop(universe);
    assert!(matches!(comm.max(round(0), BOUND), Err(CommError::NotRunning(_))), "after the end");
    comm.release().unwrap();
    drop((comm, alone));
    if is_first {
        println!("ok");
    }
}

fn absent() {
    let universe = mpi::initialize().expect("MPI is not initialised yet");
    let world = universe.world();
    let mut comm = (&world).into_communicator().unwrap();
    let rank = comm.rank();
    comm.max(round(0), BOUND).unwrap();
    if rank == 1 {
        // Computes for ever; ended by rank 0.
        std::thread::sleep(BOUND);
        std::process::abort();
    }
    let deadline = Duration::from_millis(300);
    let start = Instant::now();
    let lost = comm.max(round(rank), deadline).unwrap_err();
    assert!(matches!(lost, CommError::Lost { .. }), "{lost:?}");
    assert!((deadline..deadline + Duration::from_secs(20)).contains(&start.elapsed()));
    let start = Instant::now();
    assert!(matches!(comm.start_max(round(0)), Err(CommError::Lost { .. })));
    assert!(matches!(comm.broadcast(0, vec![1], BOUND), Err(CommError::Lost { .. })));
    comm.release().unwrap();
    assert!(start.elapsed() < Duration::from_secs(20), "what is lost is not waited for again");
    if rank == 0 {
        println!("ok");
        std::io::stdout().flush().unwrap();
        // SAFETY: ends the job, rank 1 included, which no finalisation would.
        unsafe { ffi::MPI_Abort(ffi::RSMPI_COMM_WORLD, 7) };
    }
    std::thread::sleep(BOUND);
}

fn main() -> ExitCode {
    // A panic must end the job: unwinding would finalise MPI, and wait for the others for ever.
    std::panic::set_hook(Box::new(|info| {
        eprintln!("{info}");
        std::process::abort();
    }));
    match std::env::args().nth(1).as_deref() {
        Some("answers") => answers(),
        Some("absent") => absent(),
        _ => {
            eprintln!("usage: mpi-selftest answers|absent");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
