//! The ranks of a run, and how they exchange rows of numbers.
//!
//! A global grid is cut into bands of whole rows, one a rank, in the order of the ranks.

use super::Stop;
use piton::Phases;
use piton::comm::{CommError, IntoCommunicator};
use std::sync::OnceLock;

/// The ranks of this run, as one of them sees the others.
#[derive(Debug)]
pub struct World {
    rank: usize,
    size: usize,
    links: Links,
    /// Names what the rank waits for, once there is a session.
    phases: OnceLock<Phases>,
}

#[derive(Debug)]
enum Links {
    Alone,
    #[cfg(feature = "mpi")]
    Mpi(with_mpi::Mpi),
    #[cfg(test)]
    Channels(threads::Channels),
}

/// The rows of a global grid that one rank owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rows {
    /// The first.
    pub first: usize,
    /// How many.
    pub count: usize,
    /// How many all ranks have together.
    pub all: usize,
}

impl World {
    /// The ranks that MPI started; without feature `mpi`, this process alone.
    #[cfg(feature = "mpi")]
    pub fn new() -> Self {
        with_mpi::start()
    }

    /// The ranks that MPI started; without feature `mpi`, this process alone.
    #[cfg(not(feature = "mpi"))]
    pub fn new() -> Self {
        Self::alone()
    }

    /// One rank.
    pub fn alone() -> Self {
        Self { rank: 0, size: 1, links: Links::Alone, phases: OnceLock::new() }
    }

    /// From now on, whoever watches this rank sees what it waits for.
    #[allow(dead_code, reason = "an example whose ranks never wait names none")]
    pub fn name_phases(&self, phases: Phases) {
        // A second session of a process would be another job.
        let _ = self.phases.set(phases);
    }

    fn waiting(&self, name: &'static str) -> Option<piton::watch::board::Phase> {
        self.phases.get().map(|phases| phases.waiting(name))
    }

    /// This rank, from 0.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// The number of ranks.
    pub fn size(&self) -> usize {
        self.size
    }

    /// This rank's share of `all` rows.
    ///
    /// # Errors
    /// Where a rank would have fewer than `least` rows; every rank finds the same.
    pub fn rows(&self, all: usize, least: usize) -> Result<Rows, Stop> {
        if all / self.size < least {
            let ranks = (all / least).max(1);
            return Err(Stop::Refused(format!(
                "{all} rows are too few for {} ranks, each of which needs {least}: take at most {ranks} ranks or a \
                 larger --size",
                self.size
            )));
        }
        Ok(self.rows_of(self.rank, all))
    }

    fn rows_of(&self, rank: usize, all: usize) -> Rows {
        let (share, rest) = (all / self.size, all % self.size);
        Rows { first: rank * share + rank.min(rest), count: share + usize::from(rank < rest), all }
    }

    /// Sends numbers to the previous and the next rank, and takes as many from each. At the first and the last rank,
    /// what has no neighbour stays as it is. Collective.
    pub fn exchange(&self, send: [&[f64]; 2], receive: [&mut [f64]; 2]) {
        let _phase = self.waiting("halo exchange");
        match &self.links {
            Links::Alone => {
                let _ = (send, receive);
            }
            #[cfg(feature = "mpi")]
            Links::Mpi(mpi) => mpi.exchange(self.rank, self.size, send, receive),
            #[cfg(test)]
            Links::Channels(channels) => channels.exchange(self.rank, self.size, send, receive),
        }
    }

    /// The bands of all ranks, one after the other, on rank 0; `None` on the others. `row` is the length of a row.
    /// Collective.
    pub fn gather(&self, band: &[f64], rows: Rows, row: usize) -> Option<Vec<f64>> {
        debug_assert_eq!(band.len(), rows.count * row);
        let _phase = self.waiting("gather");
        if self.rank > 0 {
            self.send(0, band);
            return None;
        }
        let mut all = vec![0.0; rows.all * row];
        all[..band.len()].copy_from_slice(band);
        for other in 1..self.size {
            let Rows { first, count, .. } = self.rows_of(other, rows.all);
            self.receive(other, &mut all[first * row..(first + count) * row]);
        }
        Some(all)
    }

    /// The greatest of each number over all ranks, on every rank. Exact, whatever the order. Collective.
    pub fn max(&self, values: &mut [f64]) {
        let _phase = self.waiting("maximum");
        match &self.links {
            // The greatest of one is itself.
            Links::Alone => debug_assert!(values.iter().all(|value| !value.is_nan())),
            #[cfg(feature = "mpi")]
            Links::Mpi(mpi) => mpi.max(values),
            #[cfg(test)]
            Links::Channels(channels) => channels.max(self.rank, self.size, values),
        }
    }

    /// Ends all ranks, from one that cannot go on.
    pub fn abandon(&self) {
        #[cfg(feature = "mpi")]
        if let Links::Mpi(mpi) = &self.links {
            mpi.abandon();
        }
    }

    /// How many threads a rank may keep busy without taking the cores of others on its node.
    pub fn fair_threads(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let ranks = match &self.links {
            #[cfg(feature = "mpi")]
            Links::Mpi(mpi) => mpi.ranks_on_node,
            _ => 1,
        };
        (cores / ranks).max(1)
    }

    fn send(&self, to: usize, values: &[f64]) {
        match &self.links {
            Links::Alone => unreachable!("rank 0 of 1 has nobody to send {} numbers to, not even {to}", values.len()),
            #[cfg(feature = "mpi")]
            Links::Mpi(mpi) => mpi.send(to, values),
            #[cfg(test)]
            Links::Channels(channels) => channels.send(to, values),
        }
    }

    fn receive(&self, from: usize, values: &mut [f64]) {
        match &self.links {
            Links::Alone => {
                unreachable!("rank 0 of 1 has nobody to get {} numbers from, not even {from}", values.len())
            }
            #[cfg(feature = "mpi")]
            Links::Mpi(mpi) => mpi.receive(from, values),
            #[cfg(test)]
            Links::Channels(channels) => channels.receive(from, values),
        }
    }
}

#[cfg(not(feature = "mpi"))]
impl IntoCommunicator for &World {
    type Communicator = piton::comm::Solo;

    fn into_communicator(self) -> Result<Self::Communicator, CommError> {
        piton::comm::Solo::default().into_communicator()
    }
}

#[cfg(feature = "mpi")]
impl IntoCommunicator for &World {
    type Communicator = piton::comm::mpi::Mpi;

    fn into_communicator(self) -> Result<Self::Communicator, CommError> {
        match &self.links {
            Links::Mpi(mpi) => (&mpi.communicator).into_communicator(),
            _ => Err(CommError::NotRunning("these ranks are not those of MPI")),
        }
    }
}

#[cfg(feature = "mpi")]
mod with_mpi {
    use super::{Links, World};
    use mpi::collective::SystemOperation;
    use mpi::environment::{Threading, Universe};
    use mpi::request::WaitGuard;
    use mpi::topology::SimpleCommunicator;
    use mpi::traits::*;

    /// MPI counts in `int`; longer messages go in pieces.
    const LONGEST: usize = 1 << 24;

    pub(super) struct Mpi {
        pub(super) communicator: SimpleCommunicator,
        pub(super) ranks_on_node: usize,
        // Ends MPI when it is dropped, so it comes after the communicator.
        _universe: Universe,
    }

    pub(super) fn start() -> World {
        // Threads compute, but only the main thread calls MPI.
        let Some((universe, _)) = mpi::initialize_with_threading(Threading::Funneled) else {
            unreachable!("nobody but the examples' main function starts MPI, once");
        };
        // A rank that panics would wait in MPI_Finalize for ranks that wait for it.
        let report = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            report(panic);
            SimpleCommunicator::world().abort(101);
        }));
        let communicator = universe.world();
        let (rank, size) = (communicator.rank() as usize, communicator.size() as usize);
        let ranks_on_node = communicator.split_shared(communicator.rank()).size() as usize;
        World {
            rank,
            size,
            links: Links::Mpi(Mpi { communicator, ranks_on_node, _universe: universe }),
            phases: super::OnceLock::new(),
        }
    }

    impl std::fmt::Debug for Mpi {
        fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            formatter.write_str("Mpi")
        }
    }

    impl Mpi {
        pub(super) fn exchange(&self, rank: usize, size: usize, send: [&[f64]; 2], receive: [&mut [f64]; 2]) {
            let previous = rank.checked_sub(1).map(|rank| self.communicator.process_at_rank(rank as i32));
            let next = (rank + 1 < size).then(|| self.communicator.process_at_rank(rank as i32 + 1));
            let [from_previous, from_next] = receive;
            mpi::request::scope(|scope| {
                let mut pending = Vec::with_capacity(4);
                if let Some(previous) = &previous {
                    pending.push(WaitGuard::from(previous.immediate_receive_into(scope, from_previous)));
                }
                if let Some(next) = &next {
                    pending.push(WaitGuard::from(next.immediate_receive_into(scope, from_next)));
                }
                let mut sent = Vec::with_capacity(2);
                if let Some(previous) = &previous {
                    sent.push(WaitGuard::from(previous.immediate_send(scope, send[0])));
                }
                if let Some(next) = &next {
                    sent.push(WaitGuard::from(next.immediate_send(scope, send[1])));
                }
            });
        }

        pub(super) fn abandon(&self) {
            if self.communicator.size() > 1 {
                self.communicator.abort(1);
            }
        }

        pub(super) fn send(&self, to: usize, values: &[f64]) {
            let to = self.communicator.process_at_rank(to as i32);
            values.chunks(LONGEST).for_each(|piece| to.send(piece));
        }

        pub(super) fn receive(&self, from: usize, values: &mut [f64]) {
            let from = self.communicator.process_at_rank(from as i32);
            values.chunks_mut(LONGEST).for_each(|piece| {
                from.receive_into(piece);
            });
        }

        pub(super) fn max(&self, values: &mut [f64]) {
            let own = values.to_vec();
            self.communicator.all_reduce_into(&own[..], values, SystemOperation::max());
        }
    }
}

/// Ranks as threads of one process, to test that results do not depend on their number.
#[cfg(test)]
mod threads {
    use super::{Links, World};
    use std::sync::mpsc::{Receiver, Sender, channel};

    #[derive(Debug)]
    pub(super) struct Channels {
        to: Vec<Sender<Vec<f64>>>,
        from: Vec<Receiver<Vec<f64>>>,
    }

    impl World {
        /// Runs `body` in `size` ranks at once and returns what each made, in their order.
        pub fn run<T: Send>(size: usize, body: impl Fn(&World) -> T + Sync) -> Vec<T> {
            let mut from: Vec<Vec<Receiver<Vec<f64>>>> = (0..size).map(|_| Vec::new()).collect();
            let mut to: Vec<Vec<Sender<Vec<f64>>>> = (0..size).map(|_| Vec::new()).collect();
            for sender in &mut to {
                for receiver in &mut from {
                    let (enter, leave) = channel();
                    sender.push(enter);
                    receiver.push(leave);
                }
            }
            let body = &body;
            std::thread::scope(|scope| {
                let links = to.into_iter().zip(from).map(|(to, from)| Channels { to, from });
                // Each world is made where it is used: with MPI, worlds stay on their threads.
                let run = |(rank, links)| {
                    scope.spawn(move || {
                        body(&World { rank, size, links: Links::Channels(links), phases: super::OnceLock::new() })
                    })
                };
                let ranks: Vec<_> = links.enumerate().map(run).collect();
                ranks.into_iter().map(|rank| rank.join().expect("a rank panicked")).collect()
            })
        }
    }

    impl Channels {
        pub(super) fn send(&self, to: usize, values: &[f64]) {
            self.to[to].send(values.to_vec()).expect("the rank has gone");
        }

        pub(super) fn receive(&self, from: usize, values: &mut [f64]) {
            values.copy_from_slice(&self.from[from].recv().expect("the rank has gone"));
        }

        pub(super) fn exchange(&self, rank: usize, size: usize, send: [&[f64]; 2], receive: [&mut [f64]; 2]) {
            let [from_previous, from_next] = receive;
            if rank > 0 {
                self.send(rank - 1, send[0]);
            }
            if rank + 1 < size {
                self.send(rank + 1, send[1]);
                self.receive(rank + 1, from_next);
            }
            if rank > 0 {
                self.receive(rank - 1, from_previous);
            }
        }

        pub(super) fn max(&self, rank: usize, size: usize, values: &mut [f64]) {
            (0..size).filter(|&other| other != rank).for_each(|other| self.send(other, values));
            let mut theirs = vec![0.0; values.len()];
            for other in (0..size).filter(|&other| other != rank) {
                self.receive(other, &mut theirs);
                values.iter_mut().zip(&theirs).for_each(|(own, their)| *own = own.max(*their));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_cover_all_rows_in_order() {
        for (size, all) in [(1, 4), (3, 10), (4, 4), (5, 91)] {
            let shares = World::run(size, |world| world.rows(all, 1).expect("enough rows"));
            let mut next = 0;
            for share in shares {
                assert_eq!(share.first, next);
                next += share.count;
            }
            assert_eq!(next, all);
        }
        assert!(World::run(5, |world| world.rows(9, 2).is_err()).into_iter().all(|refused| refused));
    }

    #[test]
    fn neighbours_swap_and_rank_0_gathers_in_global_order() {
        let results = World::run(4, |world| {
            let rank = world.rank() as f64;
            let (mut below, mut above) = ([-1.0], [-1.0]);
            world.exchange([&[rank], &[rank + 0.5]], [&mut below, &mut above]);
            let rows = world.rows(7, 1).expect("enough rows");
            let band: Vec<f64> = (rows.first..rows.first + rows.count).map(|row| row as f64).collect();
            let mut greatest = [rank, -rank];
            world.max(&mut greatest);
            (below[0], above[0], world.gather(&band, rows, 1), greatest)
        });
        assert_eq!((results[0].0, results[0].1), (-1.0, 1.0));
        assert_eq!((results[2].0, results[2].1), (1.5, 3.0));
        assert_eq!((results[3].0, results[3].1), (2.5, -1.0));
        assert_eq!(results[0].2.as_deref(), Some(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0][..]));
        assert!(results.iter().all(|result| result.3 == [3.0, 0.0]));
    }
}
