//! Real ranks under a real `mpirun` that die, are stopped, and hang: are they found, in time, and the right ones? And is anybody accused who only suffers from
//! a busy machine?
//!
//! `PITON_TEST_LONG=1` injects 300 faults and watches a busy machine for an hour; `PITON_TEST_FAULTS=N` injects N, `PITON_TEST_SECONDS=N` watches so long.
#![cfg(feature = "mpi")]

mod common;

use common::{Family, Running, descendants, example, family, is_long, mpirun_command, said};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use piton::journal::Event;
use piton::watch::board::{Board, Presence, RankSeen, now_ns};
use piton::watch::detect::HangRules;
use piton::watch::{Agent, Change, Finding};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What a fault may take until it is known, whatever a step takes.
const BOUND: Duration = Duration::from_secs(2);
/// How often the watcher of these tests looks: as by default.
const PERIOD: Duration = Duration::from_millis(200);

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// A job of the test program.
struct Job {
    running: Running,
    program: PathBuf,
    control: PathBuf,
    boards: PathBuf,
    store: PathBuf,
    ranks: usize,
}

impl Job {
    fn start(program: &Path, folder: &Path, ranks: usize, step_ms: u64, agent: bool) -> Self {
        let [control, boards, store] = ["control", "boards", "store"].map(|name| folder.join(name));
        for folder in [&control, &boards] {
            std::fs::create_dir_all(folder).expect("a folder");
        }
        let mut command = mpirun_command(ranks, program);
        command.arg(&store).arg(step_ms.to_string()).arg(&control);
        command.arg(format!("--piton.board={}", boards.display())).arg(format!("--piton.agent={agent}"));
        let running = Running::start(command);
        Self { running, program: program.to_owned(), control, boards, store, ranks }
    }

    /// The board, once all ranks compute and have made so many steps.
    fn board(&mut self, steps: u64) -> Board {
        let since = Instant::now();
        loop {
            for (_, board) in Board::find(&self.boards, None) {
                let ready = |rank: &RankSeen| rank.presence == Presence::Computing && rank.steps.count >= steps;
                let ranks = board.ranks();
                if ranks.len() == self.ranks && ranks.iter().all(ready) {
                    return board;
                }
            }
            assert!(self.running.ended().is_none(), "it ended before it was on its way");
            assert!(since.elapsed() < common::BOUND, "it does not get on its way");
            std::thread::yield_now();
        }
    }

    /// What the journals of the ranks say was found.
    fn found(&self) -> Vec<Event> {
        let store = piton::store::Store::new(std::sync::Arc::new(piton::medium::RealMedium::default()), &self.store);
        let job = store.job("watched").expect("a good name");
        let journal =
            piton::journal::read(&**job.medium(), &job.epoch_folder(piton::ids::Epoch(1))).expect("a journal");
        journal
            .records
            .into_iter()
            .map(|record| record.event)
            .filter(|event| matches!(event, Event::Found { .. }))
            .collect()
    }

    /// Kills whatever is left of it.
    fn end(self) {
        for pid in descendants(self.running.id(), &self.program) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        drop(self.running);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    Kill,
    Stop,
    LiveLock,
    Blocked,
    DeadLock,
    Absent,
}

impl Fault {
    const ALL: [Self; 6] = [Self::Kill, Self::Stop, Self::LiveLock, Self::DeadLock, Self::Absent, Self::Blocked];

    /// What it is to be called, and whether the rank can be told.
    fn expected(self) -> (&'static str, bool) {
        match self {
            Self::Kill => ("RankDied", true),
            Self::Stop => ("RankStopped", true),
            Self::LiveLock => ("RankLiveLocked", true),
            Self::Blocked => ("RankBlocked", true),
            Self::DeadLock => ("RanksDeadLocked", false),
            Self::Absent => ("RanksDeadLocked", true),
        }
    }

    fn strike(self, job: &Job, rank: &RankSeen) {
        let order = match self {
            Self::Kill | Self::Stop => {
                let signal = if self == Self::Kill { Signal::SIGKILL } else { Signal::SIGSTOP };
                let pid = Pid::from_raw(i32::try_from(rank.pid).expect("a process number"));
                return kill(pid, signal).expect("a rank of ours");
            }
            Self::LiveLock => "live-lock",
            Self::Blocked => "blocked",
            Self::DeadLock => "dead-lock",
            Self::Absent => "absent",
        };
        // Whole or not at all: the rank reads it any time.
        let partial = job.control.join("order");
        std::fs::write(&partial, order).expect("an order");
        std::fs::rename(&partial, job.control.join(rank.rank.to_string())).expect("an order");
    }
}

/// What became of one fault.
struct Outcome {
    fault: Fault,
    seconds: f64,
    bound: f64,
    rule: String,
    rank: Option<u32>,
    struck: u32,
}

/// Strikes one rank of a new job, and watches.
fn inject(program: &Path, fault: Fault, ranks: usize, step_ms: u64, random: &mut fastrand::Rng) -> Outcome {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut job = Job::start(program, folder.path(), ranks, step_ms, false);
    let board = job.board(5);
    let mut agent = Agent::new(board, HangRules::default());
    // At any moment of the watcher's period, and of a step.
    let strike_at = Instant::now() + PERIOD + Duration::from_millis(random.u64(..400));
    let struck = random.u32(..u32::try_from(ranks).expect("few"));
    let mut struck_at = None;
    let mut learnt = 0.0f64;
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut look = Instant::now();
    loop {
        let left = look.saturating_duration_since(Instant::now());
        let left =
            if struck_at.is_none() { left.min(strike_at.saturating_duration_since(Instant::now())) } else { left };
        let ended = agent.wait(left, None);
        if struck_at.is_none() && Instant::now() >= strike_at {
            let seen = agent.board().ranks().into_iter().find(|seen| seen.rank == struck).expect("it has come");
            learnt = agent
                .board()
                .ranks()
                .iter()
                .map(|seen| seen.steps.long.max(seen.steps.total / seen.steps.count.max(1) as f64))
                .fold(0.0, f64::max);
            fault.strike(&job, &seen);
            struck_at = Some(Instant::now());
            continue;
        }
        if !ended && Instant::now() < look {
            continue;
        }
        look = Instant::now() + PERIOD;
        let seen = agent.look();
        let found: Vec<&Finding> = seen
            .iter()
            .filter_map(|seen| match &seen.change {
                Change::Raised(finding) => Some(finding),
                Change::Cleared { .. } => None,
            })
            .collect();
        let rank_of = |finding: &Finding| finding.labels.get("rank").and_then(|rank| rank.parse().ok());
        // Launchers kill the other ranks within a millisecond: on a busy machine all may be gone when the watcher wakes.
        let own = found.iter().find(|finding| fault == Fault::Kill && rank_of(finding) == Some(struck));
        if let Some(finding) = own.or(found.first()).copied() {
            let since =
                struck_at.unwrap_or_else(|| panic!("{} is accused before anything was done to it", finding.summary));
            let outcome = Outcome {
                fault,
                seconds: since.elapsed().as_secs_f64(),
                bound: (5.0 * learnt).max(BOUND.as_secs_f64()),
                rule: finding.rule.clone(),
                rank: rank_of(finding),
                struck,
            };
            job.end();
            return outcome;
        }
        assert!(Instant::now() < deadline, "{fault:?} of rank {struck} is not found: {:?}", agent.board().ranks());
    }
}

#[test]
fn whoever_dies_or_hangs_is_found_in_time_and_named() {
    let program = example("mpi-watched");
    let family = family(&program);
    let ranks = if family == Family::Mpich { 2 } else { 4 };
    let faults = number("PITON_TEST_FAULTS").unwrap_or(if is_long() { 300 } else { 12 });
    let mut random = fastrand::Rng::with_seed(20);
    let mut outcomes = Vec::new();
    for at in 0..faults {
        let fault = Fault::ALL[at as usize % Fault::ALL.len()];
        let step_ms = if at % 3 == 2 { 20 } else { 5 };
        outcomes.push(inject(&program, fault, ranks, step_ms, &mut random));
    }
    let mut by_fault: BTreeMap<Fault, Vec<&Outcome>> = BTreeMap::new();
    for outcome in &outcomes {
        by_fault.entry(outcome.fault).or_default().push(outcome);
    }
    println!("{family:?}, {ranks} ranks, {faults} faults");
    let (mut right_ranks, mut of) = (0, 0);
    let mut wrong = Vec::new();
    for (fault, outcomes) in &by_fault {
        let mut seconds: Vec<f64> = outcomes.iter().map(|outcome| outcome.seconds).collect();
        seconds.sort_by(f64::total_cmp);
        let (rule, names) = fault.expected();
        let class = outcomes.iter().filter(|outcome| outcome.rule == rule).count();
        // Two ranks that wait for each other differ in nothing.
        let names = names && (*fault != Fault::Absent || ranks > 2);
        let rank = outcomes.iter().filter(|outcome| outcome.rank == Some(outcome.struck)).count();
        println!(
            "{fault:?}: known in {:.3} s (median; most {:.3} s); right class {class} of {}, right rank {}",
            seconds[seconds.len() / 2],
            seconds[seconds.len() - 1],
            outcomes.len(),
            if names { format!("{rank} of {}", outcomes.len()) } else { "not to be told".into() }
        );
        if names {
            (right_ranks, of) = (right_ranks + rank, of + outcomes.len());
        }
        for outcome in outcomes {
            // Beside the other tests of this file, on machines that are not ours alone, time says less than when nothing else runs.
            let allowed = if is_long() { outcome.bound } else { 2.0 * outcome.bound };
            if outcome.rule != rule || outcome.seconds > allowed {
                wrong.push(format!(
                    "{fault:?} of rank {}: {} of rank {:?} after {:.3} s (bound {:.3} s)",
                    outcome.struck, outcome.rule, outcome.rank, outcome.seconds, outcome.bound
                ));
            }
            if names && outcome.rank != Some(outcome.struck) {
                println!("  rank {} was struck, {:?} named", outcome.struck, outcome.rank);
            }
        }
        if *fault == Fault::Kill {
            assert!(seconds[seconds.len() / 2] < 0.1, "a death is known in {seconds:?} s");
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(right_ranks as f64 >= 0.95 * of as f64, "{right_ranks} of {of} ranks were right");
}

#[test]
fn another_rank_takes_over_from_a_watcher_that_stands_still() {
    let program = example("mpi-watched");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut job = Job::start(&program, folder.path(), 2, 5, true);
    let board = job.board(5);
    let first = board.ranks().into_iter().find(|rank| rank.rank == 0).expect("it has come");
    let since = Instant::now();
    while board.watcher().map(|(pid, _)| pid) != Some(first.pid) {
        assert!(since.elapsed() < common::BOUND, "the first rank does not watch: {:?}", board.watcher());
        std::thread::yield_now();
    }
    Fault::Stop.strike(&job, &first);
    let struck = Instant::now();
    let found = loop {
        if let Some(found) = job.found().into_iter().next() {
            break found;
        }
        assert!(struck.elapsed() < common::BOUND, "nobody finds the watcher: {:?}", board.ranks());
        std::thread::sleep(Duration::from_millis(20));
    };
    let Event::Found { rule, labels, .. } = &found else { panic!("{found:?}") };
    assert_eq!((rule.as_str(), labels.get("rank").map(String::as_str)), ("RankStopped", Some("0")), "{found:?}");
    assert_ne!(board.watcher().map(|(pid, _)| pid), Some(first.pid));
    println!("the watcher was found by another rank after {:.2} s", struck.elapsed().as_secs_f64());
    job.end();
}

/// Processes and threads that make the machine busy, as long as this lives.
struct Load {
    stop: std::sync::Arc<std::sync::atomic::AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Load {
    /// As many busy loops as processors, and a storm of syncs.
    fn start(folder: &Path) -> Self {
        use std::sync::atomic::Ordering::Relaxed;
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let processors = std::thread::available_parallelism().map_or(2, usize::from);
        let mut threads: Vec<_> = (0..processors)
            .map(|_| {
                let stop = stop.clone();
                std::thread::spawn(move || {
                    while !stop.load(Relaxed) {
                        std::hint::spin_loop()
                    }
                })
            })
            .collect();
        for storm in 0..4 {
            let (stop, path) = (stop.clone(), folder.join(format!("storm-{storm}")));
            threads.push(std::thread::spawn(move || {
                use std::io::Write;
                while !stop.load(Relaxed) {
                    let mut file = std::fs::File::create(&path).expect("a file");
                    for _ in 0..16 {
                        file.write_all(&vec![storm; 1 << 20]).expect("room");
                        file.sync_all().expect("a disk");
                    }
                }
            }));
        }
        Self { stop, threads }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, std::sync::atomic::Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

#[test]
fn a_busy_machine_makes_nobody_guilty() {
    let program = example("mpi-watched");
    let seconds = number("PITON_TEST_SECONDS").unwrap_or(if is_long() { 3600 } else { 120 });
    let ranks = 2;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut job = Job::start(&program, folder.path(), ranks, 5, true);
    let board = job.board(20);
    let load = Load::start(folder.path());
    let until = Instant::now() + Duration::from_secs(seconds);
    // Beside the watch that a rank keeps, one from outside; both write down what they find.
    let mut agent = Agent::new(board, HangRules::default());
    let (mut longest_beat, mut longest_step) = (0.0f64, 0.0f64);
    while Instant::now() < until {
        assert!(job.running.ended().is_none(), "it ended by itself");
        let seen = agent.look();
        assert!(seen.is_empty(), "accused without fault: {seen:#?}");
        for rank in agent.board().ranks() {
            let since = |moment: u64| now_ns().saturating_sub(moment) as f64 * 1e-9;
            longest_beat = longest_beat.max(since(rank.beat_at));
            longest_step = longest_step.max(since(rank.stepped_at));
        }
        let _ = agent.wait(PERIOD, None);
    }
    let steps = agent.board().ranks().iter().map(|rank| rank.step).min().expect("ranks");
    drop(load);
    assert_eq!(job.found(), [], "accused without fault");
    std::fs::write(job.control.join("end"), "").expect("an order");
    let output = job.running.wait(common::BOUND);
    assert!(output.status.success(), "{}", said(&output));
    println!(
        "{:?}: {seconds} s, {steps} steps, nobody accused; longest silence {longest_beat:.2} s, longest step {longest_step:.2} s",
        family(&program)
    );
}
