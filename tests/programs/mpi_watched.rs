//! A small coupled simulation with a fault on order, for `tests/mpi_watch.rs`.
//!
//! `mpi-watched STORE STEP_MS CONTROL [piton's arguments]`: every step computes for so long, exchanges halos around a ring, and adds up over all ranks, each in
//! a phase. A rank that finds a file `CONTROL/RANK` does what stands in it for as long as the file is there: `live-lock`, `blocked`, `dead-lock`,
//! `absent`. Ends after the step that stands in `CONTROL/end`, as soon as it finds that, and prints its final state then.

use mpi::collective::SystemOperation;
use mpi::traits::*;
use piton::{Checkpointer, State};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

#[derive(State)]
struct Ring {
    cells: Vec<f64>,
}

fn order(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// What the rank is to do now, where that is `kind`.
fn ordered(path: &Path, kind: &str) -> bool {
    order(path).is_some_and(|order| order == kind)
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, store, step_ms, control, rest @ ..] = arguments.as_slice() else {
        return Err("STORE STEP_MS CONTROL".into());
    };
    let (pause, control) = (Duration::from_millis(step_ms.parse()?), PathBuf::from(control));
    let universe = mpi::initialize().ok_or("MPI runs already")?;
    let world = universe.world();
    let (rank, size) = (world.rank(), world.size());
    let own = control.join(rank.to_string());
    let mut ring = Ring { cells: vec![f64::from(rank); 1000] };
    let mut checkpointer = Checkpointer::builder("watched")
        .args(rest.iter().cloned())
        .set("dir", store)
        .set("every", "off")
        .open(&world)?;
    let phases = checkpointer.phases();
    let resumed = checkpointer.resume(&mut ring)?;
    let (next, previous) = (world.process_at_rank((rank + 1) % size), world.process_at_rank((rank + size - 1) % size));
    // As a receive of what nobody sends: MPI polls.
    let wait_in_mpi = |kind: &str| {
        while ordered(&own, kind) {
            for _ in 0..1000 {
                let _ = world.any_process().immediate_probe_with_tag(999);
            }
        }
    };
    let end = control.join("end");
    let mut step = resumed.map_or(0, |resumed| resumed.step);
    loop {
        {
            let _phase = phases.phase("compute");
            let until = Instant::now() + pause;
            ring.cells.iter_mut().for_each(|cell| *cell = (*cell + 1.0).sqrt());
            while Instant::now() < until {
                std::hint::spin_loop();
            }
            while ordered(&own, "live-lock") {
                std::hint::spin_loop();
            }
            while ordered(&own, "blocked") {
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        {
            let _phase = phases.waiting("halo exchange");
            wait_in_mpi("dead-lock");
            let halo = ring.cells[0];
            let (received, _) = mpi::point_to_point::send_receive::<f64, _, _, _>(&halo, &next, &previous);
            ring.cells[999] = received;
        }
        if ordered(&own, "absent") {
            // It has missed the sum, and waits for the next halo.
            let _phase = phases.waiting("halo exchange");
            wait_in_mpi("absent");
        }
        let stop = {
            let _phase = phases.waiting("sum");
            let last = order(&end).map(|step| step.parse().unwrap_or(0));
            let wants = i32::from(rank == 0 && last.is_some_and(|last| step + 1 >= last));
            let mut stop = 0;
            world.all_reduce_into(&wants, &mut stop, SystemOperation::max());
            stop > 0
        };
        step += 1;
        if checkpointer.tick(step, &mut ring).should_stop() || stop {
            break;
        }
    }
    let sum: f64 = ring.cells.iter().sum();
    let mut total = 0.0;
    world.all_reduce_into(&sum, &mut total, SystemOperation::sum());
    if rank == 0 {
        println!("final state: {:016x} (step {step})", f64::to_bits(total));
    }
    checkpointer.finish(&mut ring)?;
    Ok(())
}
