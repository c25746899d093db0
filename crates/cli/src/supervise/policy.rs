//! What a supervisor does about what happens: events in, actions out.
//!
//! Comes in: what agents found, how the launcher ended, what the user wants, and the time. Goes out: what to do, and how it all ends. What must
//! hold: one launch runs at a time; after every failure the job is launched again, or ends with the reason; it never goes round in circles: what
//! fails again and again at one step, or before its first, ends; nothing here reads a clock or touches a process.
//!
//! ```text
//!            launch                     a rank, a node or the launcher fails
//! (begin) ──────────► running ───────────────────────────────────────────────► ending ◄─┐
//!    ▲                 │  │ the launcher ends, and nobody says why                │     │
//!    │                 │  └──────────────────────────────► settling ─────────────┘     │
//!    │                 │ asked to stop                        │ it was in order         │
//!    │                 ├──────────► leaving ──────────────────┤        it fails meanwhile
//!    │                 │ finished      │ halted               ▼                         │
//!    │                 └───────────────┴───────────────────► over ◄─── limits, no nodes ┤
//!    │                                                                                  │
//!    └──── resting (longer each time that nothing new was computed) ◄──── ranks gone ───┘
//! ```
//!
//! In `ending` the ranks are killed wherever an agent can reach them; what can't be reached is not waited for.
//!
//! Ranks that have left their job and live on are asked about after a minute, and sooner where a batch system is about to kill everything: where they have stopped with a checkpoint they are ended, so that the job
//! can be given back; where the job has finished they may still have something to do, and only the user knows for how long.

use super::nodes::NodeBook;
use piton::journal::Event;
use piton::watch::{Action as Wanted, Finding};
use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::time::Duration;

/// How long agents get to say what has happened, once the launcher has ended by itself, seconds.
const SETTLE: f64 = 0.5;
/// How long ranks get to be gone once they were killed, seconds; what is not gone then can't be reached.
const END: f64 = 3.0;
/// Where all ranks of a node wait, somebody elsewhere may be to blame, or a node be lost: so long it takes until that is known, seconds.
const WAIT: f64 = 5.0;
/// How long ranks of a job that is to stop get to come, so that they can be asked for a checkpoint, seconds.
const COME: f64 = 5.0;
/// The first rest and the longest one, seconds.
const REST_FIRST: f64 = 1.0;
const REST_MOST: f64 = 60.0;
/// A launch that takes so many times what the first one took until its ranks came, and so many seconds, hangs; twice as many for each that did so
/// just before, since it may be the machine that is slow.
const START_FACTOR: f64 = 4.0;
const START_FLOOR: f64 = 15.0;
/// So many launches in a row that never computed a step are enough; so many where the program itself ended them.
const NEVER_COMPUTED: usize = 4;
const NEVER_COMPUTED_OWN: usize = 2;
/// So many launches in a row that the program itself ended at the same step are enough.
const SAME_STEP: usize = 3;
/// Ranks that have all left their job, and whose launcher does not end, get so long, seconds. MPICH before 4.2 hangs in `MPI_Finalize` now and then:
/// <https://github.com/pmodels/mpich/pull/6596>.
const LINGER: f64 = 60.0;
/// And so long where a batch system kills everything in a while, seconds: Slurm's `KillWait` is 30 s by default, and counts from its SIGTERM.
const LINGER_IN_HASTE: f64 = 3.0;
/// Launches that are remembered.
const REMEMBERED: usize = 64;
const HOUR: f64 = 3600.0;

/// When enough is enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Launches in all; 0: no limit.
    pub launches: u32,
    /// Launches within an hour; 0: no limit.
    pub launches_per_hour: u32,
    /// How long ranks may live on once their job has finished; none: as long as they want.
    pub linger: Option<Duration>,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// By itself.
    Exit(i32),
    /// By a signal.
    Signal(i32),
}

impl Status {
    /// As a shell has it.
    #[must_use]
    pub fn code(self) -> i32 {
        match self {
            Self::Exit(status) => status,
            Self::Signal(signal) => 128 + signal,
        }
    }

    /// What a launcher's status says of its ranks: shells and launchers pass a signal on as 128 and its number.
    #[must_use]
    pub fn of_launcher(self) -> Self {
        match self {
            Self::Exit(status @ 129..=192) => Self::Signal(status - 128),
            other => other,
        }
    }

    /// Whether it is the program's own doing: an end of its own will, or a signal that only faults of programs bring.
    #[must_use]
    pub fn is_own(self) -> bool {
        match self {
            Self::Exit(status) => status != 0,
            Self::Signal(signal) => {
                use nix::libc;
                [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGABRT, libc::SIGSYS, libc::SIGTRAP]
                    .contains(&signal)
            }
        }
    }

    /// What a finding's label `exit` says.
    #[must_use]
    pub fn of_label(label: &str) -> Option<Self> {
        if let Some(status) = label.strip_prefix("exit status ") {
            return status.parse().ok().map(Self::Exit);
        }
        label.strip_prefix("signal ")?.split(' ').next()?.parse().ok().map(Self::Signal)
    }
}

/// What the store says of an attempt whose launcher has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// The application has come to its end.
    Finished,
    /// It stopped after a checkpoint, as it was asked to.
    Halted {
        /// By a signal to its ranks, and not by somebody's request.
        signalled: bool,
    },
    /// Neither.
    Nothing,
}

/// What the user, or the batch system, wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// A checkpoint, and then the end.
    Stop,
    /// The same, since the time is nearly up: it is to go on as soon as it can.
    TimeUp,
    /// The same, and in haste: a batch system has told it to end, and kills it in a while.
    StopInHaste,
    /// The end, now.
    StopNow,
    /// A checkpoint.
    Checkpoint,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// The ranks of a launch have said who they are.
    Came {
        /// The launch.
        launch: u32,
        /// How many ranks the job has.
        world: u32,
    },
    /// All ranks of a launch have computed; the least step of theirs.
    Step {
        /// The launch.
        launch: u32,
        /// The step.
        step: u64,
    },
    /// An agent found something.
    Found {
        /// The launch.
        launch: u32,
        /// What.
        finding: Finding,
    },
    /// Something is wrong with a node, by a rule that wants it left out.
    Sick {
        /// Which.
        node: String,
        /// What.
        why: String,
    },
    /// All ranks of a launch that can be reached are gone.
    Gone {
        /// The launch.
        launch: u32,
    },
    /// What the store says of an attempt whose ranks have left, and whose launcher lives on.
    Lingers {
        /// The launch.
        launch: u32,
        /// What it says.
        mark: Mark,
    },
    /// Nothing is heard of a node any more.
    NodeLost {
        /// Which.
        node: String,
        /// What is known of it.
        why: String,
    },
    /// It is heard of again.
    NodeBack {
        /// Which.
        node: String,
    },
    /// The launcher of a launch says which rank ended first.
    Named {
        /// The launch.
        launch: u32,
        /// The rank.
        rank: u32,
        /// Its words.
        words: String,
    },
    /// The launcher of a launch has ended.
    Ended {
        /// The launch.
        launch: u32,
        /// How.
        status: Status,
        /// What the store says of the attempt.
        mark: Mark,
        /// The last of what it printed that tells of something wrong.
        evidence: Vec<String>,
    },
    /// The launcher could not be started.
    NoLauncher {
        /// Why.
        why: String,
    },
    /// Somebody wants something.
    Wanted(Wish),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Launch the job on these nodes.
    Launch {
        /// The number of the launch, from 1.
        launch: u32,
        /// Where.
        nodes: Vec<String>,
    },
    /// End the ranks of this launch and of all before it, and its launcher.
    End {
        /// The launch.
        launch: u32,
        /// Why.
        reason: String,
    },
    /// Look up what the store says of this launch's attempt, and tell by [`Input::Lingers`].
    Look {
        /// The launch.
        launch: u32,
    },
    /// Ask the ranks for a checkpoint, and whether they are to stop then.
    Ask {
        /// Whether they are to stop.
        halt: bool,
    },
    /// Write this to the journal of this launch's attempt.
    Tell {
        /// The launch.
        launch: u32,
        /// What.
        event: Event,
    },
    /// Write down why the attempt of this launch ended, and whether that was a failure, for the schedule of checkpoints.
    Explain {
        /// The launch.
        launch: u32,
        /// Whether it was a failure.
        failure: bool,
        /// What happened.
        reason: String,
    },
    /// Write down, for later runs, that an attempt failed by this node's doing.
    NodeFailed {
        /// Which.
        node: String,
        /// The class of the failure.
        class: String,
    },
    /// Tell the user.
    Say(String),
    /// It is over.
    Over(Outcome),
}

/// How it all ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The application came to its end, with this status.
    Finished(i32),
    /// It stopped with a checkpoint, and is to be launched another time.
    Again {
        /// Why.
        why: String,
        /// Nobody wants it to rest: as soon as there are nodes and time again.
        soon: bool,
    },
    /// It was stopped at once, as the user wanted.
    Stopped,
    /// It failed for good.
    Failed {
        /// Why.
        why: String,
        /// The program's own status, where it had one.
        status: Option<i32>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    Running,
    /// The launcher has ended; agents may still say why.
    Settling {
        until: f64,
    },
    /// Ranks are being killed.
    Ending {
        until: f64,
    },
    /// Nothing runs until then.
    Resting {
        until: f64,
    },
    Over,
}

/// What is known of the failure of a launch.
#[derive(Debug, Clone, PartialEq)]
struct Failure {
    number: u32,
    summary: String,
    status: Option<Status>,
    own: bool,
    excused: bool,
    hung: bool,
}

/// The newest failure, as far as its place is still to be told, or told better.
#[derive(Debug, Clone)]
struct Located {
    launch: u32,
    number: u32,
    class: String,
    rank: Option<u32>,
    node: Option<String>,
    evidence: Vec<String>,
    /// The node that it counts against, which is written down when nothing more is to be learnt.
    blamed: Option<String>,
}

/// A failure that no later launch has computed after.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Open {
    number: u32,
    at: f64,
}

/// A launch.
#[derive(Debug, Clone)]
struct Launch {
    number: u32,
    at: f64,
    nodes: Vec<String>,
    came: Option<f64>,
    step: Option<u64>,
    ended: Option<Status>,
    /// The last of what it printed that tells of something wrong.
    evidence: Vec<String>,
    gone: bool,
    /// Since when all ranks have left while nothing was wrong, and when to look what they have left for.
    left: Option<(f64, f64)>,
    failure: Option<Failure>,
    /// All ranks of a node wait, and nobody has said for whom: what was found, by when it is taken at its word, and the step.
    waits: Option<(String, f64, Option<u64>)>,
}

impl Launch {
    fn new(number: u32, at: f64, nodes: Vec<String>) -> Self {
        let evidence = Vec::new();
        Self {
            number,
            at,
            nodes,
            came: None,
            step: None,
            ended: None,
            evidence,
            gone: false,
            left: None,
            failure: None,
            waits: None,
        }
    }
}

/// What became of a launch.
#[derive(Debug, Clone, PartialEq)]
struct Past {
    step: Option<u64>,
    own: bool,
    /// It came further than all before it.
    further: bool,
    /// It failed by the loss of a node, which waiting does not mend.
    excused: bool,
    /// Its ranks did not come in time.
    hung: bool,
}

/// The state machine.
#[derive(Debug)]
pub struct Policy {
    limits: Limits,
    nodes: NodeBook,
    /// Nodes that a launch gets, how few it can do with, and ranks that the job must have, where that is known.
    wanted: usize,
    least: usize,
    ranks: Option<u32>,
    phase: Phase,
    current: Launch,
    past: VecDeque<Past>,
    launched: VecDeque<f64>,
    furthest: Option<u64>,
    /// How long the first launch took until its ranks came.
    usual_start: Option<f64>,
    failures: u32,
    open: Option<Open>,
    located: Option<Located>,
    /// Ranks that died on their own in one launch, with their nodes: where a launcher has killed the others at once, all of them.
    deaths: (u32, Vec<(u32, Option<String>)>),
    /// The rank that the launcher of a launch named, with its words.
    named: Option<(u32, u32, String)>,
    leaving: bool,
    /// It is to stop for want of time, not of will.
    soon: bool,
    /// It is killed in a while.
    in_haste: bool,
    /// Where it is to stop, and its ranks have not come by then, it is ended.
    leave_by: f64,
    out: Vec<Action>,
}

impl Policy {
    /// One for a job that gets as many of the nodes as `wanted` says, from the least to the most, and is to have so many ranks where that is known.
    #[must_use]
    pub fn new(limits: Limits, nodes: NodeBook, wanted: RangeInclusive<usize>, ranks: Option<u32>) -> Self {
        Self {
            limits,
            nodes,
            wanted: *wanted.end(),
            least: *wanted.start(),
            ranks,
            phase: Phase::Over,
            current: Launch::new(0, 0.0, Vec::new()),
            past: VecDeque::new(),
            launched: VecDeque::new(),
            furthest: None,
            usual_start: None,
            failures: 0,
            open: None,
            located: None,
            deaths: (0, Vec::new()),
            named: None,
            leaving: false,
            soon: false,
            in_haste: false,
            leave_by: f64::INFINITY,
            out: Vec::new(),
        }
    }

    /// The first launch.
    pub fn begin(&mut self, now: f64) -> Vec<Action> {
        let left_out: Vec<&str> = self.nodes.quarantined().collect();
        if !left_out.is_empty() {
            let names = left_out.join(", ");
            self.say(format!("left out, as they have failed too often: {names} (`piton nodes`)"));
        }
        self.launch(now);
        std::mem::take(&mut self.out)
    }

    /// Something happened.
    pub fn take(&mut self, now: f64, input: Input) -> Vec<Action> {
        if self.phase != Phase::Over {
            self.handle(now, input);
        }
        std::mem::take(&mut self.out)
    }

    /// What comes with time; to be called now and then, and at [`Self::next`].
    pub fn advance(&mut self, now: f64) -> Vec<Action> {
        match self.phase {
            Phase::Settling { until } if now >= until => self.settle(now),
            Phase::Ending { until } if now >= until => self.after_the_end(now),
            Phase::Resting { until } if now >= until => self.launch(now),
            Phase::Running if self.leaving && self.current.came.is_none() && now >= self.leave_by => {
                let reason = "it is to stop, and its ranks have not come".to_owned();
                self.out.push(Action::End { launch: self.current.number, reason: reason.clone() });
                self.over_for_now(reason);
            }
            Phase::Running if self.current.waits.as_ref().is_some_and(|(_, until, _)| now >= *until) => {
                if let Some((summary, ..)) = self.current.waits.take() {
                    self.fail(now, "RanksDeadLocked", summary, Place::default());
                }
            }
            Phase::Running if self.current.left.is_some_and(|(_, look)| now >= look) => {
                if let Some((_, look)) = &mut self.current.left {
                    *look = f64::INFINITY;
                }
                self.out.push(Action::Look { launch: self.current.number });
            }
            Phase::Running if self.starts_too_long(now) => {
                let seconds = now - self.current.at;
                let summary = format!("the ranks have not come for {seconds:.0} s since they were launched");
                self.fail(now, "StartHangs", summary, Place::default());
            }
            _ => {}
        }
        std::mem::take(&mut self.out)
    }

    /// When [`Self::advance`] is to be called at the latest.
    #[must_use]
    pub fn next(&self) -> Option<f64> {
        match self.phase {
            Phase::Settling { until } | Phase::Ending { until } | Phase::Resting { until } => Some(until),
            Phase::Running if self.current.came.is_none() => {
                let start = self.start_limit().map_or(f64::INFINITY, |limit| self.current.at + limit);
                Some(start.min(self.leave_by)).filter(|next| next.is_finite())
            }
            Phase::Running => {
                let waits = self.current.waits.as_ref().map_or(f64::INFINITY, |(_, until, _)| *until);
                let look = self.current.left.map_or(f64::INFINITY, |(_, look)| look);
                Some(waits.min(look)).filter(|next| next.is_finite())
            }
            Phase::Over => None,
        }
    }

    /// Launches so far.
    #[must_use]
    pub fn launches(&self) -> u32 {
        self.current.number
    }

    fn start_limit(&self) -> Option<f64> {
        if self.current.came.is_some() {
            return None;
        }
        let hung = self.past.iter().rev().take_while(|past| past.hung).count();
        let patience = 2f64.powi(i32::try_from(hung.min(8)).unwrap_or(8));
        self.usual_start.map(|usual| patience * (START_FACTOR * usual).max(START_FLOOR))
    }

    fn starts_too_long(&self, now: f64) -> bool {
        self.start_limit().is_some_and(|limit| now - self.current.at > limit)
    }

    fn say(&mut self, text: impl Into<String>) {
        self.out.push(Action::Say(text.into()));
    }

    fn tell(&mut self, event: Event) {
        self.out.push(Action::Tell { launch: self.current.number, event });
    }

    fn over(&mut self, outcome: Outcome) {
        let text = match &outcome {
            Outcome::Finished(_) => "finished".to_owned(),
            Outcome::Again { why, .. } => format!("to be launched again: {why}"),
            Outcome::Stopped => "stopped at once".to_owned(),
            Outcome::Failed { why, .. } => format!("failed: {why}"),
        };
        self.write_blame();
        self.tell(Event::SupervisorEnded { outcome: text, launches: self.current.number });
        self.phase = Phase::Over;
        self.out.push(Action::Over(outcome));
    }

    fn over_for_now(&mut self, why: String) {
        self.over(Outcome::Again { why, soon: self.soon });
    }

    fn launch(&mut self, now: f64) {
        let (most, least) = (self.wanted, self.least);
        let Some(nodes) = (least..=most).rev().find_map(|count| self.nodes.choose(count)) else {
            let why = format!("fewer than {least} nodes are good");
            return self.over(Outcome::Again { why, soon: true });
        };
        if nodes.len() < most {
            self.say(format!("{} nodes are good and {most} are wanted: they get more ranks each", nodes.len()));
        }
        self.nodes.used(&nodes);
        let number = self.current.number + 1;
        self.current = Launch::new(number, now, nodes.clone());
        self.launched.push_back(now);
        self.phase = Phase::Running;
        self.out.push(Action::Launch { launch: number, nodes });
    }

    fn handle(&mut self, now: f64, input: Input) {
        let current = self.current.number;
        match input {
            Input::Came { launch, world } if launch == current => self.came(now, world),
            Input::Step { launch, step } if launch == current => self.stepped(now, step),
            Input::Found { launch, finding } => {
                self.note_death(launch, &finding);
                if launch == current {
                    self.found(now, &finding);
                }
                self.locate_again(launch);
            }
            Input::Named { launch, rank, words } => {
                self.named = Some((launch, rank, words));
                self.locate_again(launch);
            }
            Input::Gone { launch } if launch == current => {
                self.current.gone = true;
                match self.phase {
                    Phase::Ending { .. } => self.after_the_end(now),
                    Phase::Running => {
                        let look = now + self.linger_at_first();
                        self.current.left.get_or_insert((now, look));
                    }
                    _ => {}
                }
            }
            Input::Lingers { launch, mark } if launch == current && self.phase == Phase::Running => {
                self.linger(now, mark);
            }
            Input::NodeLost { node, why } => {
                self.nodes.lost(&node);
                if self.phase == Phase::Running && self.current.nodes.contains(&node) {
                    self.fail(now, "NodeLost", why, Place { node: Some(node), ..Place::default() });
                }
            }
            Input::NodeBack { node } => self.nodes.back(&node),
            // What computes there may well come to its end.
            Input::Sick { node, why } if self.nodes.sick(&node) => self.say(format!(
                "node {node} is not well ({why}): the next launch leaves it out where there is another one"
            )),
            Input::Ended { launch, status, mark, evidence } if launch == current => {
                self.launcher_ended(now, status, mark, evidence);
            }
            // It has said all that it had to say.
            Input::Ended { launch, .. } if self.located.as_ref().is_some_and(|of| of.launch == launch) => {
                self.write_blame()
            }
            // As shells have it for what can't be started.
            Input::NoLauncher { why } => self.over(Outcome::Failed { why, status: Some(127) }),
            Input::Wanted(wish) => self.wanted_by_the_user(now, wish),
            _ => {}
        }
    }

    fn came(&mut self, now: f64, world: u32) {
        if self.current.came.is_some() {
            return;
        }
        self.current.came = Some(now);
        self.usual_start.get_or_insert(now - self.current.at);
        if self.leaving {
            self.out.push(Action::Ask { halt: true });
        }
        if let Some(ranks) = self.ranks.filter(|ranks| *ranks != world) {
            let why = format!(
                "the job has {world} ranks and not {ranks}: most likely the launcher belongs to another MPI than the program is linked with"
            );
            self.out.push(Action::End { launch: self.current.number, reason: why.clone() });
            self.over(Outcome::Failed { why, status: None });
        }
    }

    fn stepped(&mut self, now: f64, step: u64) {
        let first = self.current.step.is_none();
        if self.current.waits.as_ref().is_some_and(|(_, _, at)| Some(step) > *at) {
            self.current.waits = None;
        }
        // A program may take up its job anew.
        if Some(step) > self.current.step {
            self.current.left = None;
        }
        self.current.step = Some(step);
        // What a launch did before it failed may be told of only now.
        if first
            && self.current.failure.is_none()
            && let Some(failure) = self.open.take()
        {
            let seconds = now - failure.at;
            self.tell(Event::FailureRecovered { failure: failure.number, step, seconds });
            self.say(format!("computing again at step {step}, {seconds:.1} s after the failure"));
        }
    }

    fn found(&mut self, now: f64, finding: &Finding) {
        if finding.rule == "RanksWait" && self.phase == Phase::Running {
            let summary = format!("ranks wait for each other: {}", finding.summary);
            self.current.waits.get_or_insert((summary, now + WAIT, self.current.step));
            return;
        }
        if finding.action != Wanted::StopAttempt || !matches!(self.phase, Phase::Running | Phase::Settling { .. }) {
            return;
        }
        let label = |name: &str| finding.labels.get(name);
        let place = Place {
            rank: label("rank").and_then(|rank| rank.parse().ok()),
            node: label("node").cloned(),
            status: label("exit").and_then(|exit| Status::of_label(exit)),
            evidence: Vec::new(),
        };
        if finding.rule == "RankQuit" {
            // It may be on purpose, without `finish`: the launcher tells.
            if self.phase == Phase::Running {
                self.phase = Phase::Settling { until: now + END };
            }
            return;
        }
        self.fail(now, &finding.rule, finding.summary.clone(), place);
    }

    fn launcher_ended(&mut self, now: f64, status: Status, mark: Mark, evidence: Vec<String>) {
        self.current.ended = Some(status);
        self.current.evidence = evidence;
        match (self.phase, mark) {
            // Whatever failed just before: it has come to its end.
            (_, Mark::Finished) => self.over(Outcome::Finished(status.code())),
            (Phase::Running | Phase::Settling { .. }, Mark::Halted { signalled }) => self.halted(signalled),
            (Phase::Running | Phase::Settling { .. }, Mark::Nothing) => {
                self.phase = Phase::Settling { until: now + SETTLE };
            }
            (Phase::Ending { .. }, _) if self.current.gone => self.after_the_end(now),
            _ => {}
        }
    }

    /// The job has stopped with a checkpoint.
    fn halted(&mut self, signalled: bool) {
        // A batch system tells the ranks alone that a more important job wants their nodes.
        let taken_away = signalled && !self.leaving;
        self.soon |= taken_away;
        let why = if taken_away {
            "its ranks were told by a signal to stop, and did with a checkpoint"
        } else {
            "it stopped with a checkpoint, as it was asked to"
        };
        self.explain(false, why);
        self.over_for_now(why.to_owned());
    }

    /// How long ranks that have left may live on until somebody looks why.
    fn linger_at_first(&self) -> f64 {
        if self.in_haste {
            return LINGER_IN_HASTE;
        }
        self.limits.linger.map_or(LINGER, |most| most.as_secs_f64().min(LINGER))
    }

    /// All ranks have left, and their launcher lives on.
    fn linger(&mut self, now: f64, mark: Mark) {
        let Some((since, look)) = &mut self.current.left else { return };
        let seconds = now - *since;
        let end = |policy: &mut Self, what: &str| {
            let reason = format!("{what} {seconds:.0} s ago, and its ranks have not ended");
            policy.say(format!("{reason}: they are ended"));
            policy.out.push(Action::End { launch: policy.current.number, reason });
        };
        match (mark, self.limits.linger) {
            (Mark::Halted { signalled }, _) => {
                end(self, "the job has stopped with a checkpoint");
                self.halted(signalled);
            }
            (Mark::Finished, most) if self.in_haste || most.is_some_and(|most| seconds >= most.as_secs_f64()) => {
                end(self, "the job has finished");
                self.over(Outcome::Finished(0));
            }
            (Mark::Finished, most) => {
                let end = most.map(|most| *since + most.as_secs_f64());
                *look = end.unwrap_or(f64::INFINITY);
                let then = match most {
                    Some(most) => format!("they are ended after {:.0} s (setting `linger_max`)", most.as_secs_f64()),
                    None => "the setting `linger_max` says when they are to be ended".to_owned(),
                };
                self.say(format!(
                    "the job has finished {seconds:.0} s ago, and its ranks have not ended: they have more to do, or hang, in `MPI_Finalize` perhaps; {then}"
                ));
            }
            // A program may do without `finish`; or the store could not be asked.
            (Mark::Nothing, _) => *look = now + LINGER,
        }
    }

    /// Nobody has said why the launcher ended, or a rank: it is taken by its own word.
    fn settle(&mut self, now: f64) {
        match self.current.ended {
            None => {
                let summary = "a rank ended in order while others compute".to_owned();
                self.fail(now, "RankQuit", summary, Place::default());
            }
            // A program may do without `finish`.
            Some(Status::Exit(0)) => self.over(Outcome::Finished(0)),
            Some(status) => {
                let how = match status {
                    Status::Exit(status) => format!("with status {status}"),
                    Status::Signal(signal) => format!("by signal {signal}"),
                };
                let place = Place { status: Some(status.of_launcher()), ..Place::default() };
                self.fail(now, "LauncherEnded", format!("the launcher ended {how}"), place);
            }
        }
    }

    /// Why the attempt ended, for whoever counts failures.
    fn explain(&mut self, failure: bool, reason: &str) {
        self.out.push(Action::Explain { launch: self.current.number, failure, reason: reason.to_owned() });
    }

    /// Takes note of a rank that died on its own.
    fn note_death(&mut self, launch: u32, finding: &Finding) {
        let label = |name: &str| finding.labels.get(name);
        let Some(rank) = label("rank").and_then(|rank| rank.parse().ok()).filter(|_| finding.rule == "RankDied") else {
            return;
        };
        if self.deaths.0 < launch {
            self.deaths = (launch, Vec::new());
        }
        if self.deaths.0 == launch && !self.deaths.1.iter().any(|(other, _)| *other == rank) {
            self.deaths.1.push((rank, label("node").cloned()));
        }
    }

    /// Where an agent wakes up later than a launcher takes to kill all other ranks, it can't tell which one was first; the launcher can, a little
    /// later.
    fn locate_again(&mut self, launch: u32) {
        let Some((_, rank, words)) = self.named.as_ref().filter(|(of, ..)| *of == launch) else { return };
        let Some(located) = self.located.as_mut().filter(|of| of.launch == launch && of.class == "RankDied") else {
            return;
        };
        let death = self.deaths.1.iter().find(|(dead, _)| self.deaths.0 == launch && dead == rank);
        let Some((rank, node)) = death.filter(|(rank, _)| located.rank != Some(*rank)).cloned() else { return };
        located.evidence.push(format!("the launcher names rank {rank} as the first: {words}"));
        (located.rank, located.node) = (Some(rank), node.clone());
        let (failure, evidence) = (located.number, located.evidence.clone());
        if let (Some(before), Some(now)) = (&mut located.blamed, &node)
            && before != now
        {
            self.nodes.pardon(before);
            self.nodes.failed(now);
            before.clone_from(now);
        }
        self.say(format!("failure {failure}: it was rank {rank} that died first, as the launcher says"));
        self.out
            .push(Action::Tell { launch, event: Event::FailureLocated { failure, rank: Some(rank), node, evidence } });
    }

    /// Has it written down which node the newest failure counts against.
    fn write_blame(&mut self) {
        if let Some(located) = &mut self.located
            && let Some(node) = located.blamed.take()
        {
            self.out.push(Action::NodeFailed { node, class: located.class.clone() });
        }
    }

    fn fail(&mut self, now: f64, class: &str, summary: String, place: Place) {
        self.write_blame();
        self.failures += 1;
        let (number, Place { rank, node, status, mut evidence }) = (self.failures, place);
        evidence.append(&mut self.current.evidence);
        self.say(format!("failure {number}: {summary}"));
        evidence.iter().for_each(|line| self.out.push(Action::Say(format!("  {line}"))));
        self.tell(Event::FailureDetected { failure: number, class: class.to_owned(), summary: summary.clone() });
        self.tell(Event::FailureLocated { failure: number, rank, node: node.clone(), evidence: evidence.clone() });
        self.explain(true, &summary);
        self.out.push(Action::End { launch: self.current.number, reason: summary.clone() });
        // A program that faults does so wherever it runs.
        let own = status.is_some_and(Status::is_own);
        let blamed = node.clone().filter(|_| !own);
        if let Some(node) = &blamed
            && self.nodes.failed(node)
        {
            self.say(format!("node {node} has failed too often and is left out from now on; `piton nodes clear {node}` takes it in again"));
        }
        let (launch, class_name) = (self.current.number, class.to_owned());
        self.located = Some(Located { launch, number, class: class_name, rank, node, evidence, blamed });
        self.open.get_or_insert(Open { number, at: now });
        let (excused, hung) = (class == "NodeLost", class == "StartHangs");
        self.current.failure = Some(Failure { number, summary, status, own, excused, hung });
        self.phase = Phase::Ending { until: now + END };
        // Where no rank ever came, the launcher was all there was.
        if self.current.gone || (self.current.ended.is_some() && self.current.came.is_none()) {
            self.after_the_end(now);
        }
    }

    /// The ranks are gone, or out of reach: what next?
    fn after_the_end(&mut self, now: f64) {
        let Some(failure) = self.current.failure.clone() else { return };
        let further = self.current.step > self.furthest;
        self.furthest = self.furthest.max(self.current.step);
        let Failure { own, excused, hung, .. } = failure;
        self.past.push_back(Past { step: self.current.step, own, further, excused, hung });
        if self.past.len() > REMEMBERED {
            self.past.pop_front();
        }
        if self.leaving {
            return self.over_for_now(format!("it failed while it was to stop: {}", failure.summary));
        }
        if let Some(why) = self.is_enough(now) {
            let status = failure.status.map(Status::code).filter(|_| failure.own);
            self.handled(&failure, format!("given up: {why}"), 0.0);
            return self.over(Outcome::Failed { why: format!("{why}; at last: {}", failure.summary), status });
        }
        let rest = self.rest();
        let words =
            if rest > 0.0 { format!("to be launched again in {rest:.0} s") } else { "launched again".to_owned() };
        self.handled(&failure, words.clone(), rest);
        if rest > 0.0 {
            self.say(words);
            self.phase = Phase::Resting { until: now + rest };
        } else {
            self.launch(now);
        }
    }

    fn handled(&mut self, failure: &Failure, action: String, rest: f64) {
        let wait_seconds = (rest > 0.0).then_some(rest);
        self.tell(Event::FailureHandled { failure: failure.number, action, wait_seconds });
    }

    /// How long to wait before the next launch: not at all while each gets further than those before.
    fn rest(&self) -> f64 {
        if self.past.back().is_some_and(|past| past.excused) {
            return 0.0;
        }
        let idle = self.past.iter().rev().take_while(|past| !past.further).count();
        match idle {
            0 => 0.0,
            idle => (REST_FIRST * 2f64.powi(i32::try_from(idle.min(16)).unwrap_or(16) - 1)).min(REST_MOST),
        }
    }

    /// Whether the job is to be launched no more, and why.
    fn is_enough(&self, now: f64) -> Option<String> {
        let idle = self.past.iter().rev().take_while(|past| past.step.is_none());
        let (mut never, mut never_own) = (0, 0);
        idle.for_each(|past| (never, never_own) = (never + 1, never_own + usize::from(past.own)));
        if never_own >= NEVER_COMPUTED_OWN || (never_own == 1 && self.past.len() == 1) {
            return Some("the program ends by itself before its first step".to_owned());
        }
        if never >= NEVER_COMPUTED {
            return Some(format!("{never} launches in a row have not come to a step"));
        }
        let last = self.past.back()?;
        let same = self.past.iter().rev().take_while(|past| past.own && past.step == last.step).count();
        if same >= SAME_STEP {
            let step = last.step.unwrap_or(0);
            return Some(format!(
                "the program itself has ended {same} times in a row at step {step}, which is a fault of its own"
            ));
        }
        let Limits { launches, launches_per_hour, .. } = self.limits;
        if launches > 0 && self.current.number >= launches {
            return Some(format!("it was launched {launches} times, which is the limit"));
        }
        let lately = self.launched.iter().filter(|at| now - **at < HOUR).count();
        if launches_per_hour > 0 && lately >= launches_per_hour as usize {
            return Some(format!("it was launched {lately} times within an hour, which is the limit"));
        }
        None
    }

    fn wanted_by_the_user(&mut self, now: f64, wish: Wish) {
        self.soon |= wish == Wish::TimeUp;
        match wish {
            Wish::Checkpoint if self.phase == Phase::Running && self.current.came.is_some() => {
                self.out.push(Action::Ask { halt: false });
            }
            Wish::Checkpoint => self.say("there is nobody now who could be asked for a checkpoint"),
            Wish::StopNow => {
                self.explain(false, "the user stopped it at once");
                self.out
                    .push(Action::End { launch: self.current.number, reason: "the user stops it at once".to_owned() });
                self.over(Outcome::Stopped);
            }
            Wish::Stop | Wish::TimeUp | Wish::StopInHaste if matches!(self.phase, Phase::Resting { .. }) => {
                self.over_for_now("it was stopped before it was launched again".to_owned());
            }
            Wish::Stop | Wish::TimeUp | Wish::StopInHaste => {
                self.leaving = true;
                self.in_haste |= wish == Wish::StopInHaste;
                let look = now + self.linger_at_first();
                // Ranks that it was told of by then are in haste, too.
                if let Some((_, at)) = &mut self.current.left {
                    *at = at.min(look);
                }
                match self.current.came {
                    // Whoever is being ended would leave the request to the next attempt.
                    _ if self.phase != Phase::Running => {}
                    Some(_) => self.out.push(Action::Ask { halt: true }),
                    // They are asked as soon as they come.
                    None => self.leave_by = self.leave_by.min(now + COME),
                }
            }
        }
    }
}

/// Where something has failed.
#[derive(Debug, Default)]
struct Place {
    rank: Option<u32>,
    node: Option<String>,
    status: Option<Status>,
    evidence: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use piton::watch::{Labels, Severity};

    const LIMITS: Limits = Limits { launches: 50, launches_per_hour: 20, linger: None };

    fn policy(names: &[&str], wanted: usize) -> Policy {
        let nodes = NodeBook::new(names.iter().map(|name| (*name).to_owned()).collect(), 2);
        Policy::new(LIMITS, nodes, wanted..=wanted, Some(4))
    }

    fn died(exit: &str, node: &str) -> Finding {
        Finding {
            rule: "RankDied".into(),
            severity: Severity::Critical,
            labels: Labels::from([
                ("rank".into(), "2".into()),
                ("node".into(), node.into()),
                ("exit".into(), exit.into()),
            ]),
            summary: "rank 2 died".into(),
            action: Wanted::StopAttempt,
            lasts: None,
        }
    }

    fn loses(node: &str) -> Input {
        Input::NodeLost { node: node.into(), why: format!("nothing is heard of node {node}") }
    }

    fn launches(actions: &[Action]) -> Vec<(u32, Vec<&str>)> {
        let mut found = Vec::new();
        for action in actions {
            if let Action::Launch { launch, nodes } = action {
                found.push((*launch, nodes.iter().map(String::as_str).collect()));
            }
        }
        found
    }

    fn outcome(actions: &[Action]) -> Option<&Outcome> {
        actions.iter().find_map(|action| match action {
            Action::Over(outcome) => Some(outcome),
            _ => None,
        })
    }

    /// Launch `launch` comes at `now`, computes to `step`, and rank 2 dies with `exit`; what follows when all ranks are gone.
    fn fails(policy: &mut Policy, now: f64, launch: u32, step: Option<u64>, exit: &str) -> Vec<Action> {
        policy.take(now, Input::Came { launch, world: 4 });
        if let Some(step) = step {
            policy.take(now + 1.0, Input::Step { launch, step });
        }
        let first = policy.take(now + 2.0, Input::Found { launch, finding: died(exit, "n1") });
        assert!(
            first.iter().any(|action| matches!(action, Action::End { launch: ended, .. } if *ended == launch)),
            "{first:?}"
        );
        assert!(launches(&first).is_empty(), "not before its ranks are gone");
        policy.take(now + 2.1, Input::Gone { launch })
    }

    #[test]
    fn a_step_that_is_told_of_after_the_failure_is_no_recovery() {
        let mut policy = policy(&["n1", "n2", "n3"], 2);
        policy.begin(0.0);
        policy.take(1.0, Input::Came { launch: 1, world: 4 });
        policy.take(2.0, loses("n1"));
        let recovers = |actions: &[Action]| {
            let told = |action: &Action| matches!(action, Action::Tell { event: Event::FailureRecovered { .. }, .. });
            actions.iter().any(told)
        };
        // The report was under way.
        assert!(!recovers(&policy.take(2.1, Input::Step { launch: 1, step: 23 })));
        assert_eq!(launches(&policy.take(3.0, Input::Gone { launch: 1 })).len(), 1);
        policy.take(4.0, Input::Came { launch: 2, world: 4 });
        assert!(recovers(&policy.take(5.0, Input::Step { launch: 2, step: 21 })));
    }

    #[test]
    fn a_node_that_is_not_well_is_left_out_of_the_next_launch() {
        let mut policy = policy(&["n1", "n2", "n3"], 2);
        assert_eq!(launches(&policy.begin(0.0)), [(1, vec!["n1", "n2"])]);
        let sick = || Input::Sick { node: "n2".into(), why: "EccUncorrected: DIMM A1".into() };
        let told = policy.take(1.0, sick());
        assert!(matches!(told.as_slice(), [Action::Say(text)] if text.contains("EccUncorrected")), "{told:?}");
        assert!(policy.take(1.5, sick()).is_empty(), "once");
        policy.take(2.0, Input::Came { launch: 1, world: 4 });
        policy.take(2.5, Input::Step { launch: 1, step: 7 });
        policy.take(3.0, loses("n1"));
        let next = policy.take(3.5, Input::Gone { launch: 1 });
        assert_eq!(launches(&next), [(2, vec!["n3", "n2"])], "there is no other one");
    }

    #[test]
    fn a_dead_rank_brings_a_new_launch_as_soon_as_the_others_are_gone() {
        let mut policy = policy(&["n1"], 1);
        assert_eq!(launches(&policy.begin(0.0)), [(1, vec!["n1"])]);
        let next = fails(&mut policy, 1.0, 1, Some(10), "signal 9 (SIGKILL)");
        assert_eq!(launches(&next), [(2, vec!["n1"])]);
        // The old launcher ends only now, and says nothing more of who died first.
        let ended = Input::Ended { launch: 1, status: Status::Exit(137), mark: Mark::Nothing, evidence: vec![] };
        let blamed = Action::NodeFailed { node: "n1".into(), class: "RankDied".into() };
        assert_eq!(policy.take(4.0, ended), [blamed]);
        policy.take(4.5, Input::Came { launch: 2, world: 4 });
        let told = policy.take(5.0, Input::Step { launch: 2, step: 11 });
        assert!(
            told.iter().any(|action| matches!(action, Action::Tell { launch: 2, event: Event::FailureRecovered { failure: 1, step: 11, seconds } } if *seconds == 2.0)),
            "{told:?}"
        );
        let end = policy
            .take(9.0, Input::Ended { launch: 2, status: Status::Exit(0), mark: Mark::Finished, evidence: vec![] });
        assert_eq!(outcome(&end), Some(&Outcome::Finished(0)));
        assert_eq!(policy.next(), None);
    }

    #[test]
    fn ranks_out_of_reach_are_not_waited_for() {
        let mut policy = policy(&["n1", "n2", "n3"], 2);
        policy.begin(0.0);
        policy.take(1.0, Input::Came { launch: 1, world: 4 });
        policy.take(2.0, Input::Step { launch: 1, step: 5 });
        let lost = policy.take(3.0, loses("n2"));
        assert!(lost.iter().any(|action| matches!(action, Action::End { launch: 1, .. })));
        assert_eq!(policy.advance(3.1), []);
        let until = policy.next().expect("a limit");
        assert_eq!(launches(&policy.advance(until)), [(2, vec!["n1", "n3"])]);
        // The spare is lost as well.
        policy.take(9.0, loses("n3"));
        let end = policy.advance(20.0);
        assert!(
            matches!(outcome(&end), Some(Outcome::Again { why, soon: true }) if why.contains("fewer than 2")),
            "{end:?}"
        );
    }

    #[test]
    fn who_only_waits_is_accused_last() {
        let waits = || Finding { rule: "RanksWait".into(), action: Wanted::Nothing, ..died("", "n1") };
        // A node that is lost is known a little later than that others wait for it.
        let mut policy = policy(&["n1", "n2", "n3"], 2);
        policy.begin(0.0);
        policy.take(1.0, Input::Came { launch: 1, world: 4 });
        policy.take(2.0, Input::Step { launch: 1, step: 5 });
        assert_eq!(policy.take(3.0, Input::Found { launch: 1, finding: waits() }), []);
        let lost = policy.take(5.0, loses("n2"));
        let class = |actions: &[Action]| {
            actions.iter().find_map(|action| match action {
                Action::Tell { event: Event::FailureDetected { class, .. }, .. } => Some(class.clone()),
                _ => None,
            })
        };
        assert_eq!(class(&lost).as_deref(), Some("NodeLost"));
        // It was slow, no more.
        let mut policy = self::policy(&["n1", "n2"], 2);
        policy.begin(0.0);
        policy.take(1.0, Input::Came { launch: 1, world: 4 });
        policy.take(2.0, Input::Step { launch: 1, step: 5 });
        policy.take(3.0, Input::Found { launch: 1, finding: waits() });
        policy.take(4.0, Input::Step { launch: 1, step: 6 });
        assert_eq!((policy.next(), policy.advance(20.0)), (None, vec![]));
        // They do wait for each other.
        policy.take(21.0, Input::Found { launch: 1, finding: waits() });
        assert_eq!(policy.next(), Some(26.0));
        assert_eq!(class(&policy.advance(26.0)).as_deref(), Some("RanksDeadLocked"));
    }

    #[test]
    fn a_fault_of_the_program_itself_is_not_repeated_for_ever() {
        let mut policy = policy(&["n1"], 1);
        policy.begin(0.0);
        let mut now = 0.0;
        for launch in 1..=3 {
            let next = fails(&mut policy, now, launch, Some(70), "signal 11 (SIGSEGV)");
            if launch < 3 {
                // The first came further than all before; the second did not, and the third rests.
                now += 3.0;
                let rests = policy.next().filter(|_| launches(&next).is_empty());
                let rested = rests.map(|until| policy.advance(until)).unwrap_or_default();
                assert_eq!(launches(&next).len() + launches(&rested).len(), 1, "{launch}");
            } else {
                let Some(Outcome::Failed { why, status }) = outcome(&next) else { panic!("{next:?}") };
                assert!(why.contains("3 times in a row at step 70"), "{why}");
                assert_eq!(*status, Some(139));
            }
            now += 10.0;
        }
        // A node that kills its ranks is no fault of the program.
        let mut policy = self::policy(&["n1"], 1);
        policy.begin(0.0);
        assert_eq!(launches(&fails(&mut policy, 0.0, 1, None, "signal 9 (SIGKILL)")).len(), 0, "it rests");
    }

    #[test]
    fn what_never_computes_is_given_up() {
        // The program says at once that it can't: a wrong argument, say.
        let mut policy = policy(&["n1"], 1);
        policy.begin(0.0);
        policy.take(
            1.0,
            Input::Ended {
                launch: 1,
                status: Status::Exit(2),
                mark: Mark::Nothing,
                evidence: vec!["error: what?".into()],
            },
        );
        let until = policy.next().expect("it settles");
        let actions = policy.advance(until);
        let gone = policy.take(until + 0.1, Input::Gone { launch: 1 });
        let end = if gone.is_empty() { actions } else { gone };
        let Some(Outcome::Failed { why, status: Some(2) }) = outcome(&end) else { panic!("{end:?}") };
        assert!(why.contains("before its first step"), "{why}");
        // Killed again and again: four times.
        let mut policy = self::policy(&["n1", "n2"], 1);
        policy.begin(0.0);
        let mut now = 0.0;
        for launch in 1..=4 {
            let mut next = fails(&mut policy, now, launch, None, "signal 9 (SIGKILL)");
            if let Some(until) = policy.next() {
                next.extend(policy.advance(until));
            }
            assert_eq!(outcome(&next).is_some(), launch == 4, "{launch}: {next:?}");
            now += 100.0;
        }
    }

    /// A job whose ranks have left at 100 s, while their launcher lives on; what is done at once when the store says this of it, and at what time.
    fn lingers(linger: Option<u64>, mark: Mark) -> (Policy, f64, Vec<Action>) {
        let nodes = NodeBook::new(vec!["n1".to_owned()], 2);
        let limits = Limits { linger: linger.map(Duration::from_secs), ..LIMITS };
        let mut policy = Policy::new(limits, nodes, 1..=1, Some(4));
        policy.begin(0.0);
        policy.take(1.0, Input::Came { launch: 1, world: 4 });
        policy.take(2.0, Input::Step { launch: 1, step: 5 });
        for at in [100.0, 101.0] {
            assert_eq!(policy.take(at, Input::Gone { launch: 1 }), []);
            // Reports go on, with the last step.
            assert_eq!(policy.take(at, Input::Step { launch: 1, step: 5 }), []);
        }
        let at = policy.next().expect("it is looked after");
        assert_eq!(policy.advance(at - 0.1), []);
        assert_eq!(policy.advance(at), [Action::Look { launch: 1 }]);
        assert_eq!(policy.advance(at), [], "once");
        let done = policy.take(at + 0.1, Input::Lingers { launch: 1, mark });
        (policy, at, done)
    }

    fn ends(actions: &[Action]) -> bool {
        actions.iter().any(|action| matches!(action, Action::End { launch: 1, .. }))
    }

    #[test]
    fn ranks_that_have_stopped_with_a_checkpoint_and_live_on_do_not_hold_up_the_job() {
        for (linger, at) in [(None, 160.0), (Some(20), 120.0), (Some(600), 160.0)] {
            let (_, asked, done) = lingers(linger, Mark::Halted { signalled: true });
            assert_eq!(asked, at);
            let again = matches!(outcome(&done), Some(Outcome::Again { soon: true, .. }));
            assert!(again && ends(&done), "given back as ever: {done:?}");
        }
    }

    #[test]
    fn ranks_that_live_on_after_the_end_are_ended_only_where_that_is_wanted() {
        let (mut policy, at, done) = lingers(None, Mark::Finished);
        assert!(at == 160.0 && matches!(&done[..], [Action::Say(_)]), "{done:?}");
        assert_eq!((policy.next(), policy.advance(1e6)), (None, vec![]), "they may have something to do");
        let end = Input::Ended { launch: 1, status: Status::Exit(0), mark: Mark::Finished, evidence: vec![] };
        assert_eq!(outcome(&policy.take(1e6, end)), Some(&Outcome::Finished(0)));
        // Told after a minute, ended after ten.
        let (mut policy, _, done) = lingers(Some(600), Mark::Finished);
        assert!(matches!(&done[..], [Action::Say(_)]), "{done:?}");
        assert_eq!(policy.next(), Some(700.0));
        assert_eq!(policy.advance(700.0), [Action::Look { launch: 1 }]);
        let done = policy.take(700.1, Input::Lingers { launch: 1, mark: Mark::Finished });
        assert!(ends(&done) && outcome(&done) == Some(&Outcome::Finished(0)), "{done:?}");
        let (_, at, done) = lingers(Some(20), Mark::Finished);
        assert!(at == 120.0 && outcome(&done) == Some(&Outcome::Finished(0)), "{done:?}");
    }

    #[test]
    fn where_all_is_killed_in_a_while_nobody_is_waited_for() {
        for (told, gone, look) in [(50.0_f64, 100.0_f64, 103.0), (100.0, 50.0, 103.0)] {
            for mark in [Mark::Halted { signalled: true }, Mark::Finished] {
                let mut policy = policy(&["n1"], 1);
                policy.begin(0.0);
                policy.take(1.0, Input::Came { launch: 1, world: 4 });
                let mut told = [(told, Input::Wanted(Wish::StopInHaste)), (gone, Input::Gone { launch: 1 })];
                told.sort_by(|one, other| one.0.total_cmp(&other.0));
                told.into_iter().for_each(|(at, input)| drop(policy.take(at, input)));
                assert_eq!(policy.next(), Some(look));
                assert_eq!(policy.advance(look), [Action::Look { launch: 1 }]);
                let done = policy.take(look, Input::Lingers { launch: 1, mark });
                assert!(ends(&done) && outcome(&done).is_some(), "{done:?}");
            }
        }
    }

    #[test]
    fn a_program_that_leaves_its_job_for_a_while_is_let_be() {
        let (mut policy, at, done) = lingers(Some(20), Mark::Nothing);
        assert_eq!((done, policy.next()), (vec![], Some(at + 0.1 + LINGER)), "it may do without `finish`");
        // Or the store was not to be asked then.
        assert_eq!(policy.advance(at + 100.0), [Action::Look { launch: 1 }]);
        assert!(ends(&policy.take(at + 100.0, Input::Lingers { launch: 1, mark: Mark::Finished })));
        let (mut policy, ..) = lingers(Some(600), Mark::Finished);
        policy.take(200.0, Input::Step { launch: 1, step: 6 });
        assert_eq!(policy.next(), None, "it computes again");
    }

    #[test]
    fn rests_grow_until_something_new_is_computed() {
        let mut policy = policy(&["n1"], 1);
        policy.begin(0.0);
        let mut rests = Vec::new();
        let mut now = 0.0;
        for (launch, step) in [(1, 5), (2, 5), (3, 4), (4, 6), (5, 6)] {
            let next = fails(&mut policy, now, launch, Some(step), "signal 9 (SIGKILL)");
            let rest =
                if launches(&next).is_empty() { policy.next().map(|until| until - (now + 2.1)) } else { Some(0.0) };
            rests.push(rest.map(f64::round));
            now += 10.0;
            policy.advance(now);
        }
        assert_eq!(rests, [0.0, 1.0, 2.0, 0.0, 1.0].map(Some));
    }

    #[test]
    fn limits_are_kept() {
        for (limits, most) in [
            (Limits { launches: 3, launches_per_hour: 0, ..LIMITS }, 3),
            (Limits { launches: 0, launches_per_hour: 5, ..LIMITS }, 5),
        ] {
            let mut policy = Policy::new(limits, NodeBook::new(vec!["n1".into()], 0), 1..=1, None);
            policy.begin(0.0);
            let mut now = 0.0;
            let end = loop {
                let launch = policy.launches();
                let actions = fails(&mut policy, now, launch, Some(u64::from(launch)), "signal 9 (SIGKILL)");
                if let Some(outcome) = outcome(&actions) {
                    break outcome.clone();
                }
                now += 10.0;
            };
            assert_eq!(policy.launches(), most);
            assert!(matches!(&end, Outcome::Failed { why, .. } if why.contains("the limit")), "{end:?}");
        }
    }

    #[test]
    fn who_is_asked_to_stop_stops() {
        let mut policy = policy(&["n1"], 1);
        policy.begin(0.0);
        policy.take(1.0, Input::Came { launch: 1, world: 4 });
        assert_eq!(policy.take(2.0, Input::Wanted(Wish::Checkpoint)), [Action::Ask { halt: false }]);
        assert_eq!(policy.take(2.0, Input::Wanted(Wish::Stop)), [Action::Ask { halt: true }]);
        let end = policy.take(
            3.0,
            Input::Ended {
                launch: 1,
                status: Status::Exit(0),
                mark: Mark::Halted { signalled: false },
                evidence: vec![],
            },
        );
        assert!(matches!(outcome(&end), Some(Outcome::Again { soon: false, .. })));
        // A rank dies while it stops: it is not launched again.
        let mut policy = self::policy(&["n1"], 1);
        policy.begin(0.0);
        policy.take(1.0, Input::Came { launch: 1, world: 4 });
        policy.take(2.0, Input::Wanted(Wish::Stop));
        let end = fails(&mut policy, 3.0, 1, Some(9), "signal 9 (SIGKILL)");
        assert!(
            matches!(outcome(&end), Some(Outcome::Again { soon: false, .. })) && launches(&end).is_empty(),
            "{end:?}"
        );
        // Before its ranks have come they can't be asked.
        let mut policy = self::policy(&["n1"], 1);
        policy.begin(0.0);
        assert_eq!(policy.take(1.0, Input::Wanted(Wish::Stop)), []);
        assert_eq!(policy.take(2.0, Input::Came { launch: 1, world: 4 }), [Action::Ask { halt: true }]);
        let mut policy = self::policy(&["n1"], 1);
        policy.begin(0.0);
        policy.take(1.0, Input::Wanted(Wish::Stop));
        assert_eq!(policy.next(), Some(6.0));
        assert!(matches!(outcome(&policy.advance(6.0)), Some(Outcome::Again { soon: false, .. })));
        // At once.
        let mut policy = self::policy(&["n1"], 1);
        policy.begin(0.0);
        let end = policy.take(1.0, Input::Wanted(Wish::StopNow));
        assert_eq!(outcome(&end), Some(&Outcome::Stopped));
        assert!(end.iter().any(|action| matches!(action, Action::End { .. })));
    }

    #[test]
    fn a_program_without_finish_ends_in_order_and_another_mpi_is_told() {
        let mut policy = policy(&["n1"], 1);
        policy.begin(0.0);
        policy.take(1.0, Input::Ended { launch: 1, status: Status::Exit(0), mark: Mark::Nothing, evidence: vec![] });
        let until = policy.next().expect("it settles");
        assert_eq!(outcome(&policy.advance(until)), Some(&Outcome::Finished(0)));
        let mut policy = self::policy(&["n1"], 1);
        policy.begin(0.0);
        let end = policy.take(1.0, Input::Came { launch: 1, world: 1 });
        assert!(matches!(outcome(&end), Some(Outcome::Failed { why, .. }) if why.contains("another MPI")), "{end:?}");
    }

    #[test]
    fn a_launch_that_hangs_before_its_ranks_come_is_ended() {
        let mut policy = policy(&["n1"], 1);
        policy.begin(0.0);
        assert_eq!(policy.advance(10_000.0), [], "how long the first one may take is not known");
        policy.take(10_001.0, Input::Came { launch: 1, world: 4 });
        let mut policy = self::policy(&["n1"], 1);
        policy.begin(0.0);
        assert_eq!(launches(&fails(&mut policy, 2.0, 1, Some(5), "signal 9 (SIGKILL)")).len(), 1);
        assert_eq!(policy.advance(15.0), []);
        assert!(policy.advance(30.0).iter().any(|action| matches!(action, Action::End { launch: 2, .. })));
    }

    #[test]
    fn launches_that_hang_one_after_the_other_get_more_time_each() {
        let mut policy = policy(&["n1"], 1);
        policy.begin(0.0);
        fails(&mut policy, 2.0, 1, Some(5), "signal 9 (SIGKILL)");
        let mut limits = Vec::new();
        for _ in 0..3 {
            let (began, until) = (policy.current.at, policy.next().expect("a limit"));
            limits.push((until - began).round());
            policy.advance(until + 0.01);
            // Nothing came that could be gone; then it may rest.
            while policy.current.came.is_none() && policy.phase != Phase::Running {
                let until = policy.next().expect("it goes on");
                policy.advance(until);
            }
        }
        assert_eq!(limits, [15.0, 30.0, 60.0]);
    }

    #[test]
    fn the_launchers_words_tell_which_of_several_dead_ranks_was_the_first() {
        let death = |rank: u32, node: &str| {
            let mut finding = died("signal 9 (SIGKILL)", node);
            finding.labels.insert("rank".into(), rank.to_string());
            Input::Found { launch: 1, finding }
        };
        let named = |rank| Input::Named { launch: 1, rank, words: "PID 7 RUNNING AT n2".into() };
        let ended = || Input::Ended { launch: 1, status: Status::Exit(9), mark: Mark::Nothing, evidence: vec![] };
        let located = |actions: &[Action]| -> Vec<(Option<u32>, Option<String>)> {
            let of = |action: &Action| match action {
                Action::Tell { launch: 1, event: Event::FailureLocated { failure: 1, rank, node, .. } } => {
                    Some((*rank, node.clone()))
                }
                _ => None,
            };
            actions.iter().filter_map(of).collect()
        };
        let blamed = |actions: &[Action]| -> Vec<String> {
            let of = |action: &Action| match action {
                Action::NodeFailed { node, .. } => Some(node.clone()),
                _ => None,
            };
            actions.iter().filter_map(of).collect()
        };
        let start = || {
            let mut policy = policy(&["n1", "n2"], 2);
            policy.begin(0.0);
            policy.take(1.0, Input::Came { launch: 1, world: 4 });
            policy.take(2.0, Input::Step { launch: 1, step: 5 });
            policy
        };
        // The launcher had killed all when an agent woke up; its words come when the next launch is under way.
        let mut policy = start();
        assert_eq!(located(&policy.take(3.0, death(0, "n1"))), [(Some(0), Some("n1".into()))]);
        assert_eq!(located(&policy.take(3.0, death(2, "n2"))), []);
        assert_eq!(launches(&policy.take(3.1, Input::Gone { launch: 1 })).len(), 1);
        let told = policy.take(3.2, named(2));
        assert_eq!(located(&told), [(Some(2), Some("n2".into()))]);
        assert_eq!(blamed(&policy.take(3.3, ended())), ["n2"]);
        assert_eq!(policy.nodes.quarantined().count(), 0);
        // It names the one that is known, or one that our own agents killed: that is none that died first.
        for rank in [0, 3] {
            let mut policy = start();
            policy.take(3.0, death(0, "n1"));
            assert_eq!(located(&policy.take(3.2, named(rank))), [], "{rank}");
            assert_eq!(blamed(&policy.take(3.3, Input::Gone { launch: 1 })), [] as [String; 0]);
            assert_eq!(blamed(&policy.take(3.4, ended())), ["n1"]);
            assert_eq!(blamed(&policy.take(3.5, ended())), [] as [String; 0], "once");
        }
        // It comes first.
        let mut policy = start();
        policy.take(3.0, named(2));
        policy.take(3.0, death(0, "n1"));
        assert_eq!(located(&policy.take(3.0, death(2, "n2"))), [(Some(2), Some("n2".into()))]);
        // Nobody ever hears of the launcher's end.
        assert_eq!(blamed(&policy.take(4.0, Input::Wanted(Wish::StopNow))), ["n2"]);
    }

    #[test]
    fn statuses_are_read_from_labels() {
        for (label, status, own) in [
            ("signal 9 (SIGKILL)", Some(Status::Signal(9)), false),
            ("signal 11 (SIGSEGV)", Some(Status::Signal(11)), true),
            ("signal 64", Some(Status::Signal(64)), false),
            ("exit status 3", Some(Status::Exit(3)), true),
            ("nobody knows", None, false),
        ] {
            assert_eq!(Status::of_label(label), status);
            assert_eq!(status.is_some_and(Status::is_own), own);
        }
        assert_eq!(Status::Signal(9).code(), 137);
        assert_eq!(Status::Exit(143).of_launcher(), Status::Signal(15));
        assert_eq!(Status::Exit(101).of_launcher(), Status::Exit(101));
    }
}
