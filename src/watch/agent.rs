//! The agent: watches the ranks of one node.
//!
//! Comes in: the node's board, the ends of processes, and, on suspicion only, what `/proc` says of them. Goes out: changes (what is wrong, and what no longer
//! is) with the evidence for them. What must hold: looking costs a few reads of memory for each rank; `/proc` is read where a rank is
//! half-way to its limit, and its look is compared with a second one at the limit; whoever is accused stays accused until a step
//! shows the contrary; an agent that comes late stretches all limits by as much.
//!
//! | seen | finding |
//! | --- | --- |
//! | the process is gone, and its rank had not left | `RankDied`, or `RankQuit` where it ended with status 0 |
//! | no step for too long, and a signal stopped it | `RankStopped` |
//! | … and it is busy outside of communication | `RankLiveLocked` |
//! | … and it waits outside of communication | `RankBlocked` |
//! | … and all wait for each other | `RanksDeadLocked`; `RanksWait` where the job has ranks on other nodes, which may be to blame |
//! | no beat for too long, of a process that is there | `RankSilent` |
//! | a step takes longer than on the others | `RankSlow` |
//! | far fewer steps than the others | `RankBehind` |

use super::board::{Board, Presence, RankSeen};
use super::detect::{
    Activity, BeatRules, Beats, Hang, HangClass, HangRules, InPhase, Pace, RankView, Stragglers, judge,
};
use super::pidfd::{Exit, ProcessHandle, take_exit_record};
use super::process::{self, Process, State};
use super::{Action, Change, Finding, Labels, Severity};
use crate::journal::Event;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// A second look at a process comes so long after the first at the least, seconds: less says nothing of what it does.
const LEAST_LOOK: f64 = 0.1;
/// Of this share of a limit on, processes are looked at.
const SUSPICION: f64 = 0.5;
/// How long the kernel gets to tell how a process ended, once it has.
const EXIT_WAIT: Duration = Duration::from_millis(50);
/// Somebody else who looked so lately keeps the watch, nanoseconds.
const RELIEVED_WITHIN: u64 = 500_000_000;
/// Most lines of evidence for one finding.
const MOST_EVIDENCE: usize = 40;
/// A share of one processor above which a rank counts as busy, and one of its time without a processor above which it may be starved.
const BUSY: f64 = 0.2;
const STARVED: f64 = 0.5;

/// What the agent has to say, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    /// What is so, or no longer.
    pub change: Change,
    /// What speaks for it, line by line.
    pub evidence: Vec<String>,
    /// Seconds since the first sign of it, where there is one.
    pub since: Option<f64>,
}

/// A rule, and where.
type Raised = (&'static str, Labels);

impl From<Observation> for Event {
    fn from(seen: Observation) -> Self {
        match seen.change {
            Change::Raised(Finding { rule, severity, labels, summary, action, .. }) => Self::Found {
                rule,
                severity: severity.to_string(),
                labels,
                summary,
                action: action.to_string(),
                since_seconds: seen.since,
                evidence: seen.evidence,
            },
            Change::Cleared { rule, labels } => Self::Over { rule, labels },
        }
    }
}

#[derive(Debug)]
struct Watched {
    pid: u32,
    start_ticks: u64,
    handle: Option<ProcessHandle>,
    beats: Beats,
    counted: u64,
    /// The process has ended, and nothing more is to be said of it.
    over: bool,
    first_look: Option<(f64, Process)>,
}

/// Watches the ranks on a board.
#[derive(Debug)]
pub struct Agent {
    board: Board,
    rules: HangRules,
    began: Instant,
    began_ns: u64,
    watched: BTreeMap<u32, Watched>,
    stragglers: Stragglers,
    /// What is raised, so that it can be cleared; and what of it is so still, by the present look.
    raised: BTreeSet<Raised>,
    still: BTreeSet<Raised>,
    /// What the last window said of slow ranks: it holds until the next one.
    slow: BTreeSet<Raised>,
    /// The ranks whose end was seen before all others'.
    ended_first: Vec<u32>,
    /// Whoever ends from now on was ended.
    ends_expected: bool,
    /// When it was to look next, and how late it was of late.
    due: Option<f64>,
    late: f64,
    host: String,
}

impl Agent {
    /// One for the ranks on this board.
    #[must_use]
    pub fn new(board: Board, rules: HangRules) -> Self {
        let host = board.host();
        Self {
            board,
            rules,
            began: Instant::now(),
            began_ns: super::board::now_ns(),
            watched: BTreeMap::new(),
            stragglers: Stragglers::default(),
            raised: BTreeSet::new(),
            still: BTreeSet::new(),
            slow: BTreeSet::new(),
            ended_first: Vec::new(),
            ends_expected: false,
            due: None,
            late: 0.0,
            host,
        }
    }

    /// What it looks at.
    #[must_use]
    pub fn board(&self) -> &Board {
        &self.board
    }

    /// Seconds since it began.
    #[must_use]
    pub fn now(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// A moment of the board on the agent's own clock.
    fn at(&self, board_ns: u64) -> f64 {
        (board_ns as f64 - self.began_ns as f64) * 1e-9
    }

    /// How late it was itself of late, seconds.
    #[must_use]
    pub fn late(&self) -> f64 {
        self.late
    }

    /// Whether another process watches now.
    #[must_use]
    pub fn is_relieved(&self) -> bool {
        self.board.watcher().is_some_and(|(pid, at)| {
            pid != std::process::id() && super::board::now_ns().saturating_sub(at) < RELIEVED_WITHIN
        })
    }

    /// Whether all ranks that ever came are gone.
    #[must_use]
    pub fn is_over(&self) -> bool {
        !self.watched.is_empty() && self.watched.values().all(|watched| watched.over)
    }

    /// Waits until a process ends, or for `period`; and says whether one did. `wake`: something else that ends the wait.
    #[must_use]
    pub fn wait(&mut self, period: Duration, wake: Option<BorrowedFd<'_>>) -> bool {
        self.due = Some(self.now() + period.as_secs_f64());
        let watched = self.watched.iter().filter(|(_, watched)| !watched.over);
        let handles: Vec<(u32, &ProcessHandle)> =
            watched.filter_map(|(rank, watched)| Some((*rank, watched.handle.as_ref()?))).collect();
        let mut polled: Vec<PollFd<'_>> = handles
            .iter()
            .map(|(_, handle)| handle.as_fd())
            .chain(wake)
            .map(|descriptor| PollFd::new(descriptor, PollFlags::POLLIN))
            .collect();
        let timeout = PollTimeout::try_from(period).unwrap_or(PollTimeout::MAX);
        let ended = poll(&mut polled, timeout).is_ok_and(|count| count > 0);
        let ready = |polled: &PollFd<'_>| polled.revents().is_some_and(|events| !events.is_empty());
        let first: Vec<u32> =
            handles.iter().zip(&polled).filter(|(_, polled)| ready(polled)).map(|((rank, _), _)| *rank).collect();
        if ended {
            self.due = None;
            self.ended_first = first;
        }
        ended
    }

    /// Looks at everything once.
    pub fn look(&mut self) -> Vec<Observation> {
        let now = self.now();
        // Lateness is forgotten by half each time that it comes in time.
        let late = self.due.take().map_or(0.0, |due| (now - due).max(0.0));
        self.late = late.max(self.late / 2.0);
        self.board.watched_by(std::process::id());
        let ranks: Vec<(usize, RankSeen)> =
            (0..self.board.slots()).filter_map(|slot| Some((slot, self.board.rank(slot)?))).collect();
        let mut said = Vec::new();
        for (_, seen) in &ranks {
            self.meet(seen, now);
        }
        said.extend(self.deaths(&ranks));
        // Once a rank has died, the others wait for it: nothing more is to be learnt of them.
        let living: Vec<&(usize, RankSeen)> = ranks
            .iter()
            .filter(|(_, seen)| seen.presence == Presence::Computing)
            .filter(|(_, seen)| self.watched.get(&seen.rank).is_some_and(|watched| !watched.over))
            .collect();
        let is_death = |raised: &&Raised| matches!(raised.0, "RankDied" | "RankQuit");
        self.still = self.raised.iter().filter(is_death).cloned().collect();
        if self.still.is_empty() && !self.ends_expected {
            said.extend(self.hangs(&living, now));
            said.extend(self.silent(&ranks, now));
            said.extend(self.slow(&living, now));
        }
        said.extend(self.clear());
        said
    }

    /// Takes note of a rank's process and its beats.
    fn meet(&mut self, seen: &RankSeen, now: f64) {
        let known = self.watched.get(&seen.rank);
        if known.is_none_or(|known| (known.pid, known.start_ticks) != (seen.pid, seen.start_ticks)) {
            let rules = BeatRules::every(self.board.beat().as_secs_f64().max(0.01));
            let handle = ProcessHandle::open(seen.pid).ok();
            self.watched.insert(
                seen.rank,
                Watched {
                    pid: seen.pid,
                    start_ticks: seen.start_ticks,
                    handle,
                    beats: Beats::new(rules, now),
                    counted: seen.beats,
                    over: false,
                    first_look: None,
                },
            );
        }
        let at = self.at(seen.beat_at);
        if let Some(watched) = self.watched.get_mut(&seen.rank)
            && seen.beats != watched.counted
        {
            // Several since the last look came evenly, as far as is known.
            let gaps = seen.beats.saturating_sub(watched.counted).clamp(1, 100);
            let (from, step) = (watched.beats.last(), (at - watched.beats.last()) / gaps as f64);
            for gap in 1..=gaps {
                watched.beats.seen(from + step * gap as f64);
            }
            watched.counted = seen.beats;
        }
    }

    /// Whether ranks of the job are on other nodes.
    fn has_ranks_elsewhere(&self) -> bool {
        self.board.world() as usize > self.board.slots()
    }

    fn labels(&self, rank: Option<u32>) -> Labels {
        let mut labels = Labels::from([("job".to_owned(), self.board.job()), ("node".to_owned(), self.host.clone())]);
        if let Some(rank) = rank {
            labels.insert("rank".to_owned(), rank.to_string());
        }
        labels
    }

    /// Something is so; nothing comes back where that was said before.
    fn raise(
        &mut self,
        raised: Raised,
        severity: Severity,
        summary: String,
        evidence: Vec<String>,
        since: Option<f64>,
    ) -> Option<Observation> {
        self.still.insert(raised.clone());
        let (rule, labels) = raised.clone();
        let action =
            if matches!(rule, "RankSlow" | "RankBehind" | "RanksWait") { Action::Nothing } else { Action::StopAttempt };
        let change = Change::Raised(Finding { rule: rule.to_owned(), severity, labels, summary, action, lasts: None });
        self.raised.insert(raised).then_some(Observation { change, evidence, since })
    }

    /// The ranks are being ended: that they do is nothing to tell of.
    pub fn expect_ends(&mut self) {
        self.ends_expected = true;
    }

    /// Nothing more is looked at: whatever was raised is no longer so.
    pub fn leave(&mut self) -> Vec<Observation> {
        self.still.clear();
        self.clear()
    }

    /// Clears what was raised and is no longer so.
    fn clear(&mut self) -> Vec<Observation> {
        let over: Vec<Raised> = self.raised.difference(&self.still).cloned().collect();
        self.raised = std::mem::take(&mut self.still);
        let cleared = |(rule, labels): Raised| Change::Cleared { rule: rule.to_owned(), labels };
        over.into_iter()
            .map(|raised| Observation { change: cleared(raised), evidence: Vec::new(), since: None })
            .collect()
    }

    /// The phase that a rank is in, in words.
    fn whereabouts(&self, slot: usize, seen: &RankSeen) -> String {
        let phase = seen.phase.and_then(|phase| self.board.phase(slot, phase));
        let step = (seen.presence != Presence::Arrived).then_some(seen.step);
        place(step, phase.as_ref().map(|phase| phase.name.as_str()))
    }

    fn deaths(&mut self, ranks: &[(usize, RankSeen)]) -> Vec<Observation> {
        let mut said = Vec::new();
        let mut gone: Vec<(usize, RankSeen)> = ranks
            .iter()
            .filter(|(_, seen)| self.watched.get(&seen.rank).is_some_and(|watched| !watched.over && has_ended(watched)))
            .cloned()
            .collect();
        // Launchers end all other ranks as soon as one has died: that one comes first.
        gone.sort_by_key(|(_, seen)| !self.ended_first.contains(&seen.rank));
        for (slot, seen) in gone {
            let folder = self.board.path().and_then(Path::parent).map(Path::to_path_buf);
            let exit = self.watched.get_mut(&seen.rank).and_then(|watched| {
                watched.over = true;
                exit_of(watched, folder.as_deref())
            });
            if seen.presence == Presence::Left || self.ends_expected {
                continue;
            }
            let how = exit.map_or_else(
                || "ended, nobody says how".to_owned(),
                |exit| match exit {
                    Exit::Status(_) => format!("ended with {exit}"),
                    Exit::Signal(_) => format!("was killed by {exit}"),
                },
            );
            let place = self.whereabouts(slot, &seen);
            let summary = format!("rank {} (process {} on {}) {how} {place}", seen.rank, seen.pid, self.host);
            let (rule, severity) = match exit {
                Some(exit) if exit.is_success() => ("RankQuit", Severity::Warning),
                _ => ("RankDied", Severity::Critical),
            };
            let mut labels = self.labels(Some(seen.rank));
            labels.extend(exit.map(|exit| ("exit".to_owned(), exit.to_string())));
            let raised = (rule, labels);
            let evidence = self.board.error(slot).map(|error| format!("the last problem that it told of: {error}"));
            said.extend(self.raise(raised, severity, summary, evidence.into_iter().collect(), None));
        }
        said
    }

    fn hangs(&mut self, ranks: &[&(usize, RankSeen)], now: f64) -> Vec<Observation> {
        let mut views = Vec::with_capacity(ranks.len());
        for (slot, seen) in ranks {
            let phase = seen.phase.and_then(|phase| self.board.phase(*slot, phase));
            let limit = self.rules.limit(&seen.steps, phase.as_ref().map(|phase| &phase.taken)) + self.late;
            views.push(RankView {
                rank: seen.rank,
                step: seen.step,
                since: now - self.at(seen.stepped_at),
                limit,
                phase: phase.map(|phase| InPhase { name: phase.name, waits: phase.waits }),
                activity: Activity::Unknown,
            });
        }
        if !views.iter().any(|view| view.since > SUSPICION * view.limit) {
            for watched in self.watched.values_mut() {
                watched.first_look = None;
            }
            return Vec::new();
        }
        let mut evidence = BTreeMap::new();
        for view in &mut views {
            if let Some(watched) = self.watched.get_mut(&view.rank) {
                // So much processor time would have been enough for what the limit allows.
                let enough = view.limit / self.rules.factor / view.since.max(1e-3);
                let (activity, lines) = examine(watched, now, enough);
                view.activity = activity;
                evidence.insert(view.rank, lines);
            }
        }
        let Some(hang) = judge(&views) else { return Vec::new() };
        self.tell_hang(&hang, &views, &evidence)
    }

    fn tell_hang(
        &mut self,
        hang: &Hang,
        views: &[RankView],
        evidence: &BTreeMap<u32, Vec<String>>,
    ) -> Vec<Observation> {
        let rule = match hang.class {
            HangClass::Stopped => "RankStopped",
            HangClass::LiveLock => "RankLiveLocked",
            HangClass::Blocked => "RankBlocked",
            HangClass::DeadLock if self.has_ranks_elsewhere() => "RanksWait",
            HangClass::DeadLock => "RanksDeadLocked",
        };
        let since =
            views.iter().filter(|view| hang.stuck.contains(&view.rank)).map(|view| view.since).fold(0.0, f64::max);
        let named = hang.suspects.iter().map(|rank| Some(*rank));
        let named: Vec<Option<u32>> = if hang.suspects.is_empty() { vec![None] } else { named.collect() };
        let mut said = Vec::new();
        for rank in named {
            let view = views.iter().find(|view| Some(view.rank) == rank);
            let place = view.map_or_else(String::new, |view| {
                format!(" {}", place(Some(view.step), view.phase.as_ref().map(|phase| phase.name.as_str())))
            });
            let stuck = hang.stuck.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
            let what = match (hang.class, rank) {
                (HangClass::Stopped, Some(rank)) => format!("rank {rank} is stopped{place}"),
                (HangClass::LiveLock, Some(rank)) => format!("rank {rank} is busy and gets no further{place}"),
                (HangClass::Blocked, Some(rank)) => {
                    format!("rank {rank} waits for something outside of communication{place}")
                }
                (HangClass::DeadLock, Some(rank)) => format!("rank {rank} waits elsewhere than the others{place}"),
                (_, None) if rule == "RanksWait" => {
                    "all ranks of this node wait, maybe for others elsewhere".to_owned()
                }
                (_, None) => "all ranks wait for each other".to_owned(),
            };
            let summary = format!("{what}; no step for {since:.1} s on ranks {stuck}");
            let mut lines: Vec<String> =
                views.iter().filter(|view| rank.is_none_or(|rank| rank == view.rank)).map(described).collect();
            lines.extend(rank.and_then(|rank| evidence.get(&rank)).into_iter().flatten().cloned());
            lines.truncate(MOST_EVIDENCE);
            let raised = (rule, self.labels(rank));
            let severity = if rule == "RanksWait" { Severity::Warning } else { Severity::Critical };
            said.extend(self.raise(raised, severity, summary, lines, Some(since)));
        }
        said
    }

    /// Processes that are there and give no sign of life, whatever their ranks do.
    fn silent(&mut self, ranks: &[(usize, RankSeen)], now: f64) -> Vec<Observation> {
        let mut said = Vec::new();
        for (slot, seen) in ranks {
            if !matches!(seen.presence, Presence::Arrived | Presence::Computing) {
                continue;
            }
            let late = self.late;
            let Some(watched) = self.watched.get_mut(&seen.rank).filter(|watched| !watched.over) else { continue };
            if !watched.beats.suspect(now, late) {
                continue;
            }
            let silence = now - watched.beats.last();
            let (activity, lines) = examine(watched, now, 1.0);
            let stopped = activity == Activity::Stopped;
            // Whoever gets no processor can't beat; only what nobody would survive is silence then.
            let hopeless = silence > watched.beats.limit().max(30.0);
            if !stopped && !hopeless {
                continue;
            }
            let rule = if stopped { "RankStopped" } else { "RankSilent" };
            let place = self.whereabouts(*slot, seen);
            let what = if stopped { "is stopped" } else { "gives no sign of life" };
            let summary = format!(
                "rank {} (process {} on {}) {what} {place}; no beat for {silence:.1} s",
                seen.rank, seen.pid, self.host
            );
            let raised = (rule, self.labels(Some(seen.rank)));
            said.extend(self.raise(raised, Severity::Critical, summary, lines, Some(silence)));
        }
        said
    }

    fn slow(&mut self, ranks: &[&(usize, RankSeen)], now: f64) -> Vec<Observation> {
        let paces: Vec<Pace> = ranks
            .iter()
            .map(|(_, seen)| Pace {
                rank: seen.rank,
                steps: seen.steps.count,
                seconds: seen.steps.total,
                waiting: seen.waiting,
                step: seen.step,
            })
            .collect();
        let Some(window) = self.stragglers.look(now, &paces) else {
            self.still.extend(self.slow.iter().cloned());
            return Vec::new();
        };
        let slow = window.slow.into_iter().map(|slow| {
            let summary = format!(
                "rank {} on {} takes {:.3} s for a step apart from waiting, the median rank {:.3} s",
                slow.rank, self.host, slow.seconds, slow.median
            );
            (("RankSlow", self.labels(Some(slow.rank))), summary)
        });
        let behind = window.behind.into_iter().map(|(rank, steps)| {
            let summary = format!("rank {rank} on {} is {steps} steps behind the median rank", self.host);
            (("RankBehind", self.labels(Some(rank))), summary)
        });
        let found: Vec<(Raised, String)> = slow.chain(behind).collect();
        self.slow = found.iter().map(|(raised, _)| raised.clone()).collect();
        let raise = |(raised, summary)| self.raise(raised, Severity::Warning, summary, Vec::new(), None);
        found.into_iter().filter_map(raise).collect()
    }
}

/// Where a rank is, in words; at no step: before its first.
fn place(step: Option<u64>, phase: Option<&str>) -> String {
    let step = step.map_or_else(|| "before its first step".to_owned(), |step| format!("at step {step}"));
    match phase {
        Some(phase) => format!("{step}, in phase {phase:?}"),
        None => step,
    }
}

fn has_ended(watched: &Watched) -> bool {
    match &watched.handle {
        Some(handle) => {
            let mut polled = [PollFd::new(handle.as_fd(), PollFlags::POLLIN)];
            poll(&mut polled, PollTimeout::ZERO).is_ok_and(|count| count > 0)
        }
        None => !process::lives(watched.pid, watched.start_ticks),
    }
}

/// How a process that has ended did; its parent may take a moment to take note of it.
fn exit_of(watched: &Watched, folder: Option<&Path>) -> Option<Exit> {
    let until = Instant::now() + EXIT_WAIT;
    let noted = || take_exit_record(folder?, watched.pid, watched.start_ticks);
    loop {
        match watched.handle.as_ref().and_then(ProcessHandle::exit).or_else(noted) {
            Some(exit) => return Some(exit),
            None if Instant::now() >= until => return None,
            None => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

/// What a process does that no signal stopped, by the shares of the time that its busiest thread had a processor, and that one was ready without.
fn activity(state: State, busy: f64, starved: f64, transferred: bool, enough: f64) -> Activity {
    if starved > STARVED && busy < enough {
        Activity::Starved
    } else if transferred {
        Activity::Transferring
    } else if busy + starved > BUSY {
        // Whoever is ready without a processor waits for nothing else.
        Activity::Computing
    } else if state == State::Blocked {
        Activity::Blocked
    } else {
        Activity::Idle
    }
}

/// What the process of a rank does, by two looks at it, and in words. `enough`: a share of a processor with which nobody counts as starved.
fn examine(watched: &mut Watched, now: f64, enough: f64) -> (Activity, Vec<String>) {
    let Some(process) = process::look(watched.pid).filter(|process| process.start_ticks == watched.start_ticks) else {
        return (Activity::Unknown, Vec::new());
    };
    let mut lines =
        vec![format!("process {}: {:?}{}", watched.pid, process.state, if process.frozen { ", frozen" } else { "" })];
    lines.extend(process.threads.iter().map(|thread| {
        let place = thread.waits_in.as_ref().map_or_else(String::new, |place| format!(" in {place}"));
        format!(
            "thread {} {:?}: {:?}{place}, {:.2} s of processor time",
            thread.id, thread.name, thread.state, thread.used
        )
    }));
    let does = match &watched.first_look {
        _ if process.frozen || process.state == State::Stopped => Activity::Stopped,
        Some((then, earlier)) if now - then >= LEAST_LOOK => {
            let span = now - then;
            // The thread that ticks, and those that it computes with: the busiest one says what the rank does.
            let share = |value: fn(&process::Thread) -> Option<f64>| {
                let mut most = 0.0f64;
                // What writes checkpoints may be busy, whatever the application does.
                for thread in process.threads.iter().filter(|thread| !thread.name.starts_with("piton-")) {
                    let before = earlier.threads.iter().find(|before| before.id == thread.id);
                    if let (Some(after), Some(before)) = (value(thread), before.and_then(value)) {
                        most = most.max((after - before) / span);
                    }
                }
                most
            };
            let (busy, starved) = (share(|thread| Some(thread.used)), share(|thread| thread.waited));
            let transferred = process
                .transferred
                .zip(earlier.transferred)
                .is_some_and(|(after, before)| after.is_work_since(&before));
            lines.push(format!(
                "in {span:.2} s: {:.0} % of a processor, {:.0} % ready without one",
                busy * 100.0,
                starved * 100.0
            ));
            activity(process.state, busy, starved, transferred, enough)
        }
        _ => Activity::Unknown,
    };
    if watched.first_look.is_none() {
        watched.first_look = Some((now, process));
    }
    lines.truncate(MOST_EVIDENCE);
    (does, lines)
}

fn described(view: &RankView) -> String {
    let phase = view.phase.as_ref().map_or_else(
        || "in no phase".to_owned(),
        |phase| format!("in phase {:?}{}", phase.name, if phase.waits { " (waiting for others)" } else { "" }),
    );
    format!(
        "rank {}: step {} for {:.2} s (limit {:.2} s), {phase}, {:?}",
        view.rank, view.step, view.since, view.limit, view.activity
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_ready_without_a_processor_waits_for_nothing_else() {
        let enough = 0.19;
        for (state, busy, starved, transferred, expected) in [
            (State::Running, 1.0, 0.0, false, Activity::Computing),
            (State::Running, 0.1, 0.9, false, Activity::Starved),
            // As much as the limit takes, but little: a live-lock on a crowded machine.
            (State::Running, 0.195, 0.8, false, Activity::Computing),
            (State::Running, 0.15, 0.4, false, Activity::Computing),
            (State::Blocked, 0.01, 0.01, true, Activity::Transferring),
            (State::Blocked, 0.01, 0.01, false, Activity::Blocked),
            (State::Sleeping, 0.01, 0.05, false, Activity::Idle),
        ] {
            assert_eq!(activity(state, busy, starved, transferred, enough), expected, "{state:?} {busy} {starved}");
        }
    }
}
