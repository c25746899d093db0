//! The ranks of a world as threads of one process: for tests.
//!
//! Comes in: what each thread contributes. Goes out: the same answer in every thread, or an error at once when a rank is dead.
//! What must hold: collective calls are matched by their order on each rank, as MPI does; two ranks that enter different
//! calls at one place of that order are a fault of the program, which panics in both rather than hang.

use super::{CommError, Communicator, IntoCommunicator, Round};
use crate::medium::recording::KillSwitch;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Makes worlds of threads.
#[derive(Debug)]
pub struct Threads;

impl Threads {
    /// The `size` ranks of a new world, each to be moved into a thread of its own.
    ///
    /// A rank that is dropped without [`Communicator::release`] is dead, and the others are told at once.
    ///
    /// ```
    /// use piton::comm::{Communicator, ROUND_WIDTH, threads::Threads};
    /// use std::{thread, time::Duration};
    ///
    /// let ranks = Threads::world(3).into_iter().map(|mut rank| {
    ///     thread::spawn(move || {
    ///         let mine = [rank.rank() as i64; ROUND_WIDTH];
    ///         assert_eq!(rank.max(mine, Duration::from_secs(10)).unwrap()[0], 2);
    ///         rank.release().unwrap();
    ///     })
    /// });
    /// for rank in ranks.collect::<Vec<_>>() {
    ///     rank.join().unwrap();
    /// }
    /// ```
    #[must_use]
    pub fn world(size: usize) -> Vec<ThreadsRank> {
        let world = Arc::new(World {
            size,
            state: Mutex::new(State { calls: BTreeMap::new(), life: vec![Life::Alive; size], clash: None }),
            moved: Condvar::new(),
        });
        (0..size)
            .map(|rank| ThreadsRank {
                world: Arc::clone(&world),
                rank,
                node: (0..size).collect(),
                switch: None,
                next: 0,
                pending: None,
                refusals: Vec::new(),
                made: 0,
            })
            .collect()
    }
}

struct World {
    size: usize,
    state: Mutex<State>,
    moved: Condvar,
}

struct State {
    /// The collective calls that some rank has entered and not every rank has left, by their place in the order.
    calls: BTreeMap<u64, Call>,
    life: Vec<Life>,
    /// What a fault of the program was found to be; everybody panics with it.
    clash: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Alive,
    /// Has released its communicator; enters nothing any more.
    Released,
    Dead,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Max,
    Broadcast { root: usize },
    Release,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Max => f.write_str("max"),
            Self::Broadcast { root } => write!(f, "broadcast from rank {root}"),
            Self::Release => f.write_str("release"),
        }
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Max => "a reduction",
            Self::Broadcast { .. } => "a broadcast",
            Self::Release => "a release",
        }
    }
}

struct Call {
    kind: Kind,
    /// The rank that entered it first.
    first: usize,
    entered: Vec<bool>,
    left: usize,
    greatest: Round,
    bytes: Option<Arc<Vec<u8>>>,
}

impl Call {
    /// Whether what a rank waits for is there. A broadcast needs only its root, as in MPI.
    fn is_done(&self) -> bool {
        match self.kind {
            Kind::Broadcast { .. } => self.bytes.is_some(),
            Kind::Max | Kind::Release => self.entered.iter().all(|entered| *entered),
        }
    }

    /// Whether it can still be done, for all that is known of the ranks.
    fn is_hopeless(&self, life: &[Life]) -> bool {
        let gone = |rank: usize| !self.entered[rank] && life[rank] != Life::Alive;
        match self.kind {
            Kind::Broadcast { root } => gone(root),
            Kind::Max | Kind::Release => (0..life.len()).any(gone),
        }
    }
}

/// One rank of a [`Threads`] world.
pub struct ThreadsRank {
    world: Arc<World>,
    rank: usize,
    node: Vec<usize>,
    switch: Option<Arc<KillSwitch>>,
    /// The place of the next collective call in the order.
    next: u64,
    /// The place of the reduction in flight.
    pending: Option<u64>,
    /// The calls of this rank, counted from 1, that are to fail.
    refusals: Vec<u64>,
    made: u64,
}

impl fmt::Debug for ThreadsRank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadsRank")
            .field("rank", &self.rank)
            .field("size", &self.world.size)
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

impl World {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A rank that panicked over a clash has left the state whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bury(&self, rank: usize) {
        let mut state = self.lock();
        if state.life[rank] == Life::Alive {
            state.life[rank] = Life::Dead;
        }
        drop(state);
        self.moved.notify_all();
    }
}

impl ThreadsRank {
    /// Puts the rank under `switch`: every call of it is counted there, and from the throw on every call is lost, a waiting
    /// one too.
    #[must_use]
    pub fn with_switch(mut self, switch: Arc<KillSwitch>) -> Self {
        let (world, rank) = (Arc::downgrade(&self.world), self.rank);
        switch.on_throw(move || {
            if let Some(world) = world.upgrade() {
                world.bury(rank);
            }
        });
        self.switch = Some(switch);
        self
    }

    /// Has the `call`-th call of this rank, counted from 1, fail with [`CommError::Refused`]. It is not entered; the other
    /// ranks are not told, and wait until their deadline.
    #[must_use]
    pub fn refusing(mut self, call: u64) -> Self {
        self.refusals.push(call);
        self
    }

    /// Puts `ranks` ranks in a row on each node; without this call, all ranks are on one. To be said of every rank alike.
    #[must_use]
    pub fn on_node_of(mut self, ranks: usize) -> Self {
        let ranks = ranks.max(1);
        let first = self.rank / ranks * ranks;
        self.node = (first..(first + ranks).min(self.world.size)).collect();
        self
    }

    /// Whether this rank has died. The switch itself is asked too: between its throw and the news of it, the others may
    /// already act on the death, and what they do must not reach this rank any more.
    fn is_dead(&self, state: &State) -> bool {
        state.life[self.rank] == Life::Dead || self.switch.as_ref().is_some_and(|switch| switch.is_thrown())
    }

    fn lost(&self, what: &'static str, since: Instant) -> CommError {
        CommError::Lost { rank: self.rank, size: self.world.size, what, waited: since.elapsed() }
    }

    /// Counts a call, and fails it where the test wants that.
    fn admit(&mut self, call: &'static str) -> Result<(), CommError> {
        self.made += 1;
        if self.switch.as_ref().is_some_and(|switch| !switch.call(|| call.to_owned())) {
            return Err(self.lost(call, Instant::now()));
        }
        if self.refusals.contains(&self.made) {
            let message = "refused by the test".to_owned();
            return Err(CommError::Refused { rank: self.rank, call, code: 1, message });
        }
        Ok(())
    }

    /// Enters the next collective call. Returns its place in the order.
    fn enter(&mut self, kind: Kind, contribute: impl FnOnce(&mut Call)) -> Result<u64, CommError> {
        let place = self.next;
        let mut state = self.world.lock();
        if self.is_dead(&state) {
            return Err(self.lost(kind.name(), Instant::now()));
        }
        let (rank, size) = (self.rank, self.world.size);
        let call = state.calls.entry(place).or_insert_with(|| Call {
            kind,
            first: rank,
            entered: vec![false; size],
            left: 0,
            greatest: [i64::MIN; super::ROUND_WIDTH],
            bytes: None,
        });
        if call.kind != kind {
            let clash = format!(
                "rank {rank} entered {kind} while rank {} entered {} (collective call {place})",
                call.first, call.kind
            );
            state.clash = Some(clash);
        } else {
            call.entered[rank] = true;
            contribute(call);
        }
        self.next += 1;
        self.world.moved.notify_all();
        drop(self.check_clash(state));
        Ok(place)
    }

    /// Panics where ranks have entered different calls: the test's program is wrong, and no outcome of it means anything.
    fn check_clash<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        if let Some(clash) = state.clash.clone() {
            drop(state);
            panic!("{clash}");
        }
        state
    }

    /// Takes the result out of the call at `place`, if it is done.
    fn leave<T>(state: &mut State, place: u64, size: usize, result: impl FnOnce(&Call) -> T) -> Option<T> {
        let call = state.calls.get_mut(&place).filter(|call| call.is_done())?;
        let result = result(call);
        call.left += 1;
        if call.left == size {
            state.calls.remove(&place);
        }
        Some(result)
    }

    fn wait<T>(&self, place: u64, kind: Kind, deadline: Duration, result: impl Fn(&Call) -> T) -> Result<T, CommError> {
        let start = Instant::now();
        let mut state = self.world.lock();
        loop {
            state = self.check_clash(state);
            if self.is_dead(&state) {
                return Err(self.lost(kind.name(), start));
            }
            if let Some(result) = Self::leave(&mut state, place, self.world.size, &result) {
                return Ok(result);
            }
            let hopeless = state.calls.get(&place).is_none_or(|call| call.is_hopeless(&state.life));
            let left = deadline.saturating_sub(start.elapsed());
            if hopeless || left.is_zero() {
                return Err(self.lost(kind.name(), start));
            }
            state = self.world.moved.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for ThreadsRank {
    fn drop(&mut self) {
        self.world.bury(self.rank);
    }
}

impl Communicator for ThreadsRank {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.world.size
    }

    fn node_ranks(&self) -> &[usize] {
        &self.node
    }

    fn nodes(&self) -> usize {
        self.world.size.div_ceil(self.node.len().max(1))
    }

    fn start_max(&mut self, contribution: Round) -> Result<(), CommError> {
        self.admit("start a reduction")?;
        assert!(self.pending.is_none(), "rank {} started a second reduction while one is in flight", self.rank);
        let place = self.enter(Kind::Max, |call| {
            for (greatest, number) in call.greatest.iter_mut().zip(contribution) {
                *greatest = number.max(*greatest);
            }
        })?;
        self.pending = Some(place);
        Ok(())
    }

    fn test_max(&mut self) -> Result<Option<Round>, CommError> {
        self.admit("test a reduction")?;
        let Some(place) = self.pending else { return Ok(None) };
        let mut state = self.check_clash(self.world.lock());
        if self.is_dead(&state) {
            return Err(self.lost("a reduction", Instant::now()));
        }
        let result = Self::leave(&mut state, place, self.world.size, |call| call.greatest);
        if result.is_none() && state.calls.get(&place).is_none_or(|call| call.is_hopeless(&state.life)) {
            return Err(self.lost("a reduction", Instant::now()));
        }
        drop(state);
        if result.is_some() {
            self.pending = None;
        }
        Ok(result)
    }

    fn wait_max(&mut self, deadline: Duration) -> Result<Round, CommError> {
        self.admit("wait for a reduction")?;
        let Some(place) = self.pending else {
            return Err(self.lost("a reduction that was never started", Instant::now()));
        };
        let round = self.wait(place, Kind::Max, deadline, |call| call.greatest)?;
        self.pending = None;
        Ok(round)
    }

    fn broadcast(&mut self, root: usize, bytes: Vec<u8>, deadline: Duration) -> Result<Vec<u8>, CommError> {
        self.admit("broadcast")?;
        let (kind, is_root) = (Kind::Broadcast { root }, self.rank == root);
        assert!(root < self.world.size, "there is no rank {root}");
        let place = self.enter(kind, |call| {
            if is_root {
                call.bytes = Some(Arc::new(bytes));
            }
        })?;
        let bytes = self.wait(place, kind, deadline, |call| call.bytes.clone().unwrap_or_default())?;
        Ok(Arc::unwrap_or_clone(bytes))
    }

    fn release(&mut self) -> Result<(), CommError> {
        self.admit("release")?;
        // Collective, yet nobody waits: as the freeing of a communicator need not synchronise.
        self.enter(Kind::Release, |_| ())?;
        let mut state = self.world.lock();
        if state.life[self.rank] == Life::Alive {
            state.life[self.rank] = Life::Released;
        }
        drop(state);
        self.world.moved.notify_all();
        Ok(())
    }
}

impl IntoCommunicator for ThreadsRank {
    type Communicator = Self;

    fn into_communicator(self) -> Result<Self, CommError> {
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::super::ROUND_WIDTH;
    use super::*;
    use std::sync::mpsc;
    use std::thread;

    const BOUND: Duration = Duration::from_secs(60);

    /// Runs `body` as every rank; what each returned, or `None` where it panicked.
    fn run<T: Send + 'static>(
        ranks: Vec<ThreadsRank>,
        body: impl Fn(ThreadsRank) -> T + Send + Clone + 'static,
    ) -> Vec<Option<T>> {
        let (send, receive) = mpsc::channel();
        let size = ranks.len();
        for rank in ranks {
            let (send, body) = (send.clone(), body.clone());
            thread::spawn(move || {
                let number = rank.rank();
                let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| body(rank)));
                let _ = send.send((number, result.ok()));
            });
        }
        let mut results: Vec<_> = (0..size).map(|_| receive.recv_timeout(BOUND).expect("a rank hangs")).collect();
        results.sort_by_key(|(rank, _)| *rank);
        results.into_iter().map(|(_, result)| result).collect()
    }

    fn round(number: usize) -> Round {
        std::array::from_fn(|at| (number * 100 + at) as i64)
    }

    fn is_lost<T>(result: Result<T, CommError>) -> bool {
        matches!(result, Err(CommError::Lost { .. }))
    }

    #[test]
    fn all_ranks_have_the_same_answers_in_the_same_order() {
        for size in [1, 2, 5] {
            let switched =
                |(n, rank): (usize, ThreadsRank)| rank.with_switch(Arc::new(KillSwitch::new().delayed(n as u64 + 1)));
            let ranks = Threads::world(size).into_iter().enumerate().map(switched).collect();
            let results = run(ranks, move |mut rank| {
                for turn in 0..200 {
                    let mine = round(rank.rank() + turn);
                    assert_eq!(rank.max(mine, BOUND).unwrap(), round(size - 1 + turn));
                    let root = turn % size;
                    let bytes = if rank.rank() == root { vec![root as u8; turn] } else { Vec::new() };
                    assert_eq!(rank.broadcast(root, bytes, BOUND).unwrap(), vec![root as u8; turn]);
                }
                rank.release().unwrap();
                assert!(rank.world.lock().calls.len() <= 3, "finished calls are forgotten");
            });
            assert!(results.iter().all(Option::is_some));
        }
    }

    #[test]
    fn a_reduction_is_there_when_the_last_rank_has_entered_and_not_before() {
        let mut ranks = Threads::world(2);
        let (mut b, mut a) = (ranks.pop().unwrap(), ranks.pop().unwrap());
        a.start_max(round(1)).unwrap();
        assert_eq!(a.test_max().unwrap(), None);
        b.start_max(round(2)).unwrap();
        assert_eq!(a.test_max().unwrap(), Some(round(2)));
        assert_eq!(a.test_max().unwrap(), None, "taken");
        // A rank may be a whole call ahead.
        a.start_max(round(7)).unwrap();
        assert_eq!(b.wait_max(BOUND).unwrap(), round(2));
        b.start_max([i64::MIN; ROUND_WIDTH]).unwrap();
        assert_eq!((a.wait_max(BOUND).unwrap(), b.wait_max(BOUND).unwrap()), (round(7), round(7)));
        assert!(is_lost(a.wait_max(BOUND)));
    }

    #[test]
    fn the_deadline_is_honoured() {
        let mut ranks = Threads::world(2);
        let start = Instant::now();
        assert!(is_lost(ranks[0].max(round(0), Duration::from_millis(50))));
        assert!(start.elapsed() >= Duration::from_millis(50) && start.elapsed() < BOUND);
    }

    #[test]
    #[should_panic(expected = "rank 1 entered broadcast from rank 0 while rank 0 entered max")]
    fn different_calls_at_one_place_are_noticed() {
        let mut ranks = Threads::world(2);
        ranks[0].start_max(round(0)).unwrap();
        let _ = ranks[1].broadcast(0, Vec::new(), BOUND);
    }

    #[test]
    fn the_rank_that_waits_notices_the_clash_too() {
        let results = run(Threads::world(2), |mut rank| match rank.rank() {
            0 => drop(rank.max(round(0), BOUND)),
            _ => drop(rank.broadcast(0, Vec::new(), BOUND)),
        });
        assert_eq!(results, [None, None]);
    }

    #[test]
    fn a_dropped_rank_is_noticed_at_once() {
        let results = run(Threads::world(3), |mut rank| match rank.rank() {
            0 => true,
            _ => is_lost(rank.max(round(0), Duration::from_secs(3600))),
        });
        assert_eq!(results, [Some(true); 3]);
    }

    #[test]
    fn a_killed_rank_is_noticed_at_once_and_hears_nothing_itself() {
        let switch = Arc::new(KillSwitch::new());
        let switches = [Arc::clone(&switch), Arc::new(KillSwitch::new())];
        let world = Threads::world(2).into_iter().zip(switches);
        let ranks: Vec<_> = world.map(|(rank, switch)| rank.with_switch(switch)).collect();
        let results = run(ranks, move |mut rank| {
            rank.max(round(0), BOUND).unwrap();
            if rank.rank() == 0 {
                // Dies while it waits: another thread of the rank throws the switch.
                let switch = Arc::clone(&switch);
                let killer = thread::spawn(move || switch.throw("elsewhere"));
                let lost = is_lost(rank.max(round(0), Duration::from_secs(3600)));
                killer.join().unwrap();
                return lost && is_lost(rank.broadcast(0, vec![1], BOUND)) && is_lost(rank.release());
            }
            while !switch.is_thrown() {
                thread::yield_now();
            }
            // What rank 0 entered while it lived still counts; the next cannot.
            is_lost(rank.max(round(0), BOUND).and_then(|_| rank.max(round(0), Duration::from_secs(3600))))
        });
        assert_eq!(results, [Some(true); 2]);
    }

    #[test]
    fn a_rank_hears_nothing_between_its_death_and_the_news_of_it() {
        let switch = Arc::new(KillSwitch::new());
        let (heard, news) = mpsc::channel::<()>();
        let news = Mutex::new(news);
        // Called before the world's own listener: the news waits until the rank itself has noticed, or has heard too much.
        switch.on_throw(move || news.lock().unwrap().recv_timeout(BOUND).unwrap());
        let mut ranks = Threads::world(2);
        let mut dying = ranks.remove(0).with_switch(Arc::clone(&switch));
        dying.start_max(round(0)).unwrap();
        let killer = thread::spawn(move || switch.throw("elsewhere"));
        while !dying.switch.as_ref().unwrap().is_thrown() {
            thread::yield_now();
        }
        ranks[0].start_max(round(1)).unwrap();
        let place = dying.pending.unwrap();
        let outcome = dying.wait(place, Kind::Max, BOUND, |call| call.greatest);
        heard.send(()).unwrap();
        killer.join().unwrap();
        assert!(is_lost(outcome));
        assert!(ranks[0].wait_max(BOUND).is_ok(), "what was entered counts");
    }

    #[test]
    fn every_call_can_be_the_last() {
        let mut places = std::collections::BTreeSet::new();
        for call in 1..=7 {
            let switch = Arc::new(KillSwitch::at(call));
            let mut ranks = Threads::world(3);
            let dying = ranks.pop().unwrap().with_switch(Arc::clone(&switch));
            ranks.push(dying);
            let results = run(ranks, |mut rank| {
                rank.max(round(0), Duration::from_secs(3600))?;
                rank.broadcast(2, vec![1], Duration::from_secs(3600))?;
                rank.max(round(0), Duration::from_secs(3600))?;
                rank.release()
            });
            let lost: Vec<bool> = results.into_iter().map(|result| is_lost(result.expect("no panic"))).collect();
            assert_eq!(lost[2], call <= 6);
            assert_eq!(lost[0], call <= 4, "call {call}: what was entered counts");
            places.extend(switch.place());
        }
        assert_eq!(places.len(), 4, "{places:?}");
    }

    #[test]
    fn a_call_can_be_refused() {
        let mut ranks = Threads::world(2);
        let mut refused = ranks.remove(0).refusing(1).on_node_of(1);
        assert!(matches!(refused.start_max(round(0)), Err(CommError::Refused { rank: 0, .. })));
        assert_eq!((refused.ranks_on_node(), ranks[0].ranks_on_node()), (1, 2));
        ranks[0].start_max(round(0)).unwrap();
        assert!(is_lost(ranks[0].wait_max(Duration::from_millis(5))));
    }
}
