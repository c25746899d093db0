//! The supervisor itself: launches, agents, signals and the policy, together.
//!
//! Comes in: what to run, and how. Goes out: how it all ended. What must hold: one thread decides and acts; whatever takes time (waiting for a process,
//! passing output on, asking a node) is on another one and tells this one; at the end everything that was started is ended.

use super::agents::{Agents, Orders, Whose};
use super::allocation::END_VARIABLE;
use super::children::{self, Started};
use super::launcher::{AgentStarter, Launcher, Order};
use super::launcher_words::Named;
use super::node_file::{self, Entry, What};
use super::nodes::NodeBook;
use super::outlook::Outlook;
use super::output::{Telling, pass_on};
use super::policy::{Action, Input, Limits, Mark, Outcome, Policy, Wish};
use super::store::JobStore;
use crate::leftovers::{self, Places};
use crate::line::{Event as Line, Join, Life, RankRecord, Receiver, Report, Secret, ToAgent, by_connecting};
use crate::observe::{Live, NodeState};
use crate::signals::Signals;
use anyhow::Context;
use mio::Waker;
use nix::sys::signal::Signal;
use piton::journal::{Event, WallTime};
use piton::supervised::{LAUNCH_VARIABLE, RESUME_VARIABLE, RUN_VARIABLE};
use piton::watch::{Action as Wanted, Change, Rules, process};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::File;
use std::io::IsTerminal;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How long one turn may take.
const TURN: Duration = Duration::from_millis(250);
/// MPICH's launcher kills all ranks where one has died, and then tells which: it is told to end only after so long. OpenMPI's is told at once: in the
/// middle of its own abort the signal makes it crash.
const LAST_SAY: Duration = Duration::from_millis(500);
/// A launcher that was told to end gets so long, and is killed then.
const LAUNCHER_END: Duration = Duration::from_secs(5);
/// A rank that is its own launcher is left to the agent for so long.
const RANK_END: Duration = Duration::from_millis(500);
/// Agents that were told to leave may take so long.
const AGENTS_LEAVE: Duration = Duration::from_secs(3);
/// How long a node that says nothing has to answer on its agent's port: one that is there does so at once, and a lost packet is sent again only after a
/// second.
const ANSWERS: Duration = Duration::from_millis(500);
/// How long the answer may take in all, where many are asked.
const ANSWERS_MOST: f64 = 2.0;
/// Receivers of alerts get so long at the end.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// What is left to do at the end may take so long.
const LAST: Duration = Duration::from_secs(8);

/// What to run, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// The program with its arguments.
    pub command: Vec<OsString>,
    /// How many ranks.
    pub ranks: u32,
    /// Whether the job must have just so many: the launcher was told the number.
    pub exactly: bool,
    /// What launches them.
    pub launcher: Launcher,
    /// What starts agents on the nodes, where there is more than this one.
    pub agents: Option<AgentStarter>,
    /// The nodes at hand, spares last; none: this one.
    pub nodes: Vec<String>,
    /// How many of them a launch gets.
    pub nodes_per_launch: usize,
    /// Whether it may do with fewer, where they are short: nodes get more ranks then.
    pub oversubscribe: bool,
    /// Whether a batch system runs this, which kills everything a while after SIGTERM.
    pub in_batch: bool,
    /// When the batch system takes the nodes away, in seconds since the start of 1970, where that is known.
    pub end: Option<u64>,
    /// Whether agents are to give the job back where the batch script's own node is lost.
    pub rescue: bool,
    /// Whether the first launch goes on from the newest checkpoint, where there is one.
    pub resume: bool,
    /// Whether each line that the job prints begins with its rank.
    pub label: bool,
    /// Where to keep what each launch prints.
    pub logs: Option<PathBuf>,
    /// When enough is enough.
    pub limits: Limits,
    /// So many failures put a node in quarantine; 0: none do.
    pub quarantine_after: u32,
    /// The store by the settings, where the nodes' failures are kept for later runs.
    pub store: PathBuf,
    /// How long they count.
    pub quarantine_for: Duration,
    /// The program `piton`.
    pub piton: PathBuf,
    /// What is known of ranks and nodes, for whoever shows it.
    pub live: Live,
    /// What in the job's output tells of something wrong, what makes a node unlike the others, and who is told.
    pub rules: Rules,
}

/// What other threads tell.
enum Heard {
    LauncherEnded(u32),
    AgentsEnded(Whose),
    Signal(Signal),
}

/// Tells the supervisor's thread something, and wakes it.
#[derive(Clone)]
struct Bell(mpsc::Sender<Heard>, Arc<Waker>);

impl Bell {
    fn ring(&self, heard: Heard) {
        // Where nobody listens any more, all is over.
        let _ = self.0.send(heard);
        let _ = self.1.wake();
    }
}

/// A launcher that runs.
struct Running {
    started: Started,
    telling: Telling,
    /// Threads that pass on what it prints.
    outputs: Vec<std::thread::JoinHandle<()>>,
    /// It is told to end then, where it has not ended by itself.
    tell_at: Option<Instant>,
    /// It is killed then.
    kill_at: Option<Instant>,
}

/// What an agent said last.
#[derive(Default)]
struct Seen {
    launch: u32,
    ranks: Vec<RankRecord>,
    /// The ranks of the launch before, whose launcher may still name one of them.
    former: Vec<RankRecord>,
}

struct Driver {
    options: Options,
    run: u64,
    here: String,
    bell: Bell,
    began: Instant,
    policy: Policy,
    store: JobStore,
    launch: u32,
    launchers: BTreeMap<u32, Running>,
    agents: Agents,
    /// The processes of the nodes' agents.
    agent_pids: BTreeMap<Arc<str>, u32>,
    outlook: Outlook,
    nodes: BTreeMap<Arc<str>, Seen>,
    lost: BTreeSet<Arc<str>>,
    interrupts: u32,
    outcome: Option<Outcome>,
    inputs: Vec<Input>,
}

fn say(text: &str) {
    // Nothing that a file or a rank holds reaches the terminal as it is.
    let safe: String = text.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect();
    eprintln!("piton run: {safe}");
}

/// What starts agents for this run, and how they find it.
fn agent_orders(options: &Options, address: &str, run: u64, secret: Secret) -> Orders {
    let mut command: Vec<OsString> = vec![options.piton.clone().into(), "agent".into(), "--supervisor".into()];
    command.extend([address.into(), "--run".into(), format!("{run:x}").into()]);
    if options.rescue {
        command.push("--rescue".into());
    }
    let starter = options.agents.clone().filter(|_| !options.nodes.is_empty());
    Orders { command, starter, nodes: options.nodes.clone(), secret }
}

/// Launches the job, and again whenever it fails, until it is done.
///
/// # Errors
/// Where there is no line for agents, no log folder, or no thread.
pub fn run(options: Options) -> anyhow::Result<Outcome> {
    let held = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2];
    let signals = Signals::hold(&held).context("cannot hold signals back")?;
    if let Some(folder) = &options.logs {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let secret = Secret::generate()?;
    let here = process::host_name();
    let elsewhere = !options.nodes.is_empty();
    let listen = SocketAddr::from((if elsewhere { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::LOCALHOST }, 0));
    let confirm = Some((by_connecting(ANSWERS), ANSWERS_MOST));
    let line = crate::line::Options { ping_every: 2.0, confirm, ..crate::line::Options::default() };
    let mut receiver = Receiver::bind(listen, secret.clone(), line).context("cannot listen for agents")?;
    let (sender, heard) = mpsc::channel();
    let bell = Bell(sender, receiver.waker());
    let ring = bell.clone();
    signals.listen(move |signal| ring.ring(Heard::Signal(signal))).context("no thread")?;
    let names = if elsewhere { options.nodes.clone() } else { vec![here.clone()] };
    options.live.nodes(names.clone());
    let mut nodes = NodeBook::new(names, options.quarantine_after);
    // A workstation has no other node, and a store that can't be read now is none of the job's business.
    if elsewhere && let Ok(fared) = node_file::read(&options.store, WallTime::now(), options.quarantine_for) {
        nodes = nodes.remembering(fared.into_iter().map(|(node, fared)| (node, fared.failures)));
    }
    let most = options.nodes_per_launch.max(1);
    let least = if options.oversubscribe { 1 } else { most };
    let policy = Policy::new(options.limits, nodes, least..=most, options.exactly.then_some(options.ranks));
    let port = receiver.address().port();
    let address = if elsewhere { format!("{here}:{port}") } else { receiver.address().to_string() };
    let mut run = [0; 8];
    getrandom::fill(&mut run).map_err(|error| anyhow::anyhow!("no random numbers: {error}"))?;
    let run = u64::from_ne_bytes(run).max(1);
    let agents = Agents::new(agent_orders(&options, &address, run, secret), {
        let bell = bell.clone();
        move |whose| bell.ring(Heard::AgentsEnded(whose))
    });
    let mut driver = Driver {
        run,
        here,
        bell,
        began: Instant::now(),
        policy,
        store: JobStore::start().context("no thread")?,
        launch: 0,
        launchers: BTreeMap::new(),
        agents,
        agent_pids: BTreeMap::new(),
        outlook: Outlook::new(&options.rules).context("no threads")?,
        nodes: BTreeMap::new(),
        lost: BTreeSet::new(),
        interrupts: 0,
        outcome: None,
        inputs: Vec::new(),
        options,
    };
    driver.agents.start(Instant::now(), &driver.lost, say);
    let first = driver.policy.begin(0.0);
    driver.act(first, &mut receiver);
    while driver.outcome.is_none() {
        driver.turn(&mut receiver, &heard)?;
    }
    driver.finish(&mut receiver, &heard)
}

impl Driver {
    fn now(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// One round: hear, decide, act.
    fn turn(&mut self, receiver: &mut Receiver, heard: &mpsc::Receiver<Heard>) -> anyhow::Result<()> {
        let wait = self
            .policy
            .next()
            .map_or(TURN, |next| Duration::from_secs_f64((next - self.now()).clamp(0.0, TURN.as_secs_f64())));
        let line = receiver.turn(wait).context("the line to the agents broke")?;
        line.into_iter().for_each(|event| self.hear_line(event, receiver));
        heard.try_iter().for_each(|heard| self.hear(heard));
        let running: Vec<u32> = self.launchers.keys().copied().collect();
        running.into_iter().for_each(|launch| self.hear_whom_the_launcher_names(launch));
        self.look_around();
        self.kill_the_late();
        self.agents.start(Instant::now(), &self.lost, say);
        for input in std::mem::take(&mut self.inputs) {
            let actions = self.policy.take(self.now(), input);
            self.act(actions, receiver);
        }
        let actions = self.policy.advance(self.now());
        self.act(actions, receiver);
        Ok(())
    }

    fn hear(&mut self, heard: Heard) {
        match heard {
            Heard::LauncherEnded(launch) => {
                let Some(running) = self.launchers.get_mut(&launch) else { return };
                let Some(status) = running.started.reap() else { return };
                // What it printed last comes out before anything is said of its end.
                let until = Instant::now() + Duration::from_millis(200);
                while Instant::now() < until && !running.outputs.iter().all(std::thread::JoinHandle::is_finished) {
                    std::thread::sleep(Duration::from_millis(1));
                }
                self.hear_whom_the_launcher_names(launch);
                let Some(running) = self.launchers.remove(&launch) else { return };
                let mark = if launch == self.launch { self.store.mark(launch) } else { Mark::Nothing };
                self.inputs.push(Input::Ended { launch, status, mark, evidence: running.telling.lines() });
            }
            Heard::AgentsEnded(whose) => self.agents.ended(&whose, Instant::now(), say),
            Heard::Signal(Signal::SIGINT) => {
                self.interrupts += 1;
                let wish = if self.interrupts > 1 { Wish::StopNow } else { Wish::Stop };
                if wish == Wish::Stop {
                    say("a checkpoint, and then the end; once more to stop at once");
                }
                self.inputs.push(Input::Wanted(wish));
            }
            Heard::Signal(Signal::SIGUSR1) => {
                say("SIGUSR1: a checkpoint, and then the end, to go on another time");
                self.inputs.push(Input::Wanted(Wish::TimeUp));
            }
            Heard::Signal(Signal::SIGUSR2) => self.inputs.push(Input::Wanted(Wish::Checkpoint)),
            Heard::Signal(signal) => {
                say(&format!("{signal}: a checkpoint, and then the end"));
                let in_haste = self.options.in_batch && signal == Signal::SIGTERM;
                self.inputs.push(Input::Wanted(if in_haste { Wish::StopInHaste } else { Wish::Stop }));
            }
        }
    }

    fn hear_line(&mut self, event: Line, receiver: &mut Receiver) {
        match event {
            // Whoever was out of reach may still have ranks that were given up.
            Line::Joined { node, join, same_boot, .. } => {
                self.agents.joined(&node);
                self.succeed(&node, &join, same_boot, receiver);
                self.end_given_up(&node, receiver);
            }
            Line::Left { node, orderly: false } => self.agents.left(&node, Instant::now()),
            Line::Report { node, report, .. } => self.hear_report(&node, report),
            Line::Standing { node, changes } | Line::Changes { node, changes } => {
                self.hear_changes(&node, self.launch, changes);
            }
            Line::Lost { node, seconds, confirmed, .. } if *node != *self.here => {
                let how = if confirmed { ", and it can't be reached" } else { "" };
                let why = format!("nothing is heard of node {node} for {seconds:.1} s{how}");
                self.options.live.trouble(&node, NodeState::Lost, why.clone());
                self.outlook.lost(self.now(), &node, why.clone());
                self.lost.insert(Arc::clone(&node));
                self.inputs.push(Input::NodeLost { node: node.to_string(), why });
                self.see_whether_all_are_gone();
            }
            // This node is there, whatever its agent does.
            Line::Silent { node, seconds, .. } | Line::Lost { node, seconds, .. } => self.hear_silence(&node, seconds),
            Line::Back { node, .. } => {
                self.outlook.back(self.now(), &node);
                self.lost.remove(&node);
                self.end_given_up(&node, receiver);
                self.inputs.push(Input::NodeBack { node: node.to_string() });
            }
            Line::Refused { from, reason } => say(&format!("a connection from {from} was refused: {reason}")),
            _ => {}
        }
    }

    /// An agent says nothing, although its node is there: it hangs, is stopped, or gets no processor. Its ranks may be well.
    fn hear_silence(&mut self, node: &Arc<str>, seconds: f64) {
        let summary = format!(
            "nothing is heard of the agent of node {node} for {seconds:.1} s, and the node is there: another agent takes its place"
        );
        say(&summary);
        self.options.live.trouble(node, NodeState::Silent, summary.clone());
        self.outlook.silent(self.now(), node, summary);
        self.agents.replace(node, Instant::now());
    }

    /// Where an agent takes the place of another one on its node, that one is ended, so that the two do not take turns.
    fn succeed(&mut self, node: &Arc<str>, join: &Join, same_boot: Option<bool>, receiver: &mut Receiver) {
        let before = self.agent_pids.insert(Arc::clone(node), join.pid);
        if let Some(pid) = before.filter(|pid| *pid != join.pid && same_boot == Some(true)) {
            // Where that fails it joins once more.
            let _ = receiver.order(node, &ToAgent::Succeed { pid });
        }
    }

    /// Takes note of whom the launcher of a launch names as the process that ended first.
    fn hear_whom_the_launcher_names(&mut self, launch: u32) {
        let Some((named, words)) = self.launchers.get(&launch).and_then(|running| running.telling.take_named()) else {
            return;
        };
        let rank = match named {
            Named::Rank(rank) => Some(rank),
            Named::Process { pid, node } => self.nodes.get(node.as_str()).and_then(|seen| {
                let ranks = if seen.launch == launch { &seen.ranks } else { &seen.former };
                ranks.iter().find(|rank| rank.pid == pid).map(|rank| rank.rank)
            }),
        };
        self.inputs.extend(rank.map(|rank| Input::Named { launch, rank, words }));
    }

    /// What nodes are like compared with each other, and what that means for alerts.
    fn look_around(&mut self) {
        let news = self.outlook.turn(self.now());
        for (node, change) in news.changes {
            self.hear_changes(&node, self.launch, vec![change]);
        }
        news.events.into_iter().for_each(|event| self.store.tell(self.launch, event));
        for summary in news.checkpoints {
            say(&format!("an alert asks for a checkpoint: {summary}"));
            self.ask(false);
        }
    }

    /// Has the ranks of earlier launches ended that a node may still have.
    fn end_given_up(&self, node: &str, receiver: &mut Receiver) {
        if let Some(launch @ 1..) = self.launch.checked_sub(1) {
            let order = ToAgent::StopAttempt { launch, reason: "it was given up".to_owned(), grace: 0.0 };
            // Where that fails it joins once more.
            let _ = receiver.order(node, &order);
        }
    }

    fn hear_changes(&mut self, node: &str, launch: u32, changes: Vec<Change>) {
        for change in changes {
            if let Change::Raised(finding) = change {
                if finding.action == Wanted::MarkNode {
                    let why = format!("{}: {}", finding.rule, finding.summary);
                    self.inputs.push(Input::Sick { node: node.to_owned(), why });
                }
                self.inputs.push(Input::Found { launch, finding });
            }
        }
    }

    fn hear_report(&mut self, node: &Arc<str>, report: Report) {
        self.outlook.report(self.now(), node, &report);
        let launch = report.attempt.as_ref().map_or(0, |attempt| attempt.launch);
        self.options.live.reported(node, launch, report.ranks.clone());
        let Some(attempt) = report.attempt else { return self.hear_of_no_board(node) };
        self.outlook.of_job(&attempt.job);
        self.options.live.of_job(&attempt.job, &attempt.store);
        if launch == self.launch && self.store.epoch(launch).is_none() {
            self.store.learn(attempt.clone(), |error| say(&format!("the job's store can't be used: {error}")));
            self.inputs.push(Input::Came { launch, world: attempt.world });
        }
        let seen = self.nodes.entry(Arc::clone(node)).or_default();
        if seen.launch < launch {
            (seen.launch, seen.former) = (launch, std::mem::take(&mut seen.ranks));
        }
        // A report of an earlier launch has nothing new.
        if seen.launch == launch {
            seen.ranks = report.ranks;
        }
        if launch != self.launch {
            return;
        }
        let ranks = || self.nodes.values().filter(|seen| seen.launch == launch).flat_map(|seen| &seen.ranks);
        let computing = ranks().filter(|rank| rank.steps > 0).map(|rank| rank.rank).collect::<BTreeSet<_>>().len();
        if computing >= attempt.world as usize
            && let Some(step) = ranks().map(|rank| rank.step).min()
        {
            self.inputs.push(Input::Step { launch, step });
        }
        self.hear_changes(node, launch, report.changes);
        self.see_whether_all_are_gone();
    }

    /// The agent of a node sees no board of this run. It came after ranks had been there, in the place of one that saw them: the last of them took the board along.
    fn hear_of_no_board(&mut self, node: &Arc<str>) {
        let Some(seen) = self.nodes.get_mut(node).filter(|seen| seen.launch == self.launch) else { return };
        for rank in seen.ranks.iter_mut().filter(|rank| matches!(rank.life, Life::Alive | Life::Stuck)) {
            rank.life = Life::Left;
        }
        self.see_whether_all_are_gone();
    }

    /// Whether all ranks of the launch are gone, as far as nodes can be reached.
    fn see_whether_all_are_gone(&mut self) {
        let launch = self.launch;
        let in_reach = self.nodes.iter().filter(|(node, seen)| seen.launch == launch && !self.lost.contains(*node));
        let mut ranks = in_reach.flat_map(|(_, seen)| &seen.ranks).peekable();
        if ranks.peek().is_some() && ranks.all(|rank| matches!(rank.life, Life::Ended | Life::Left)) {
            self.inputs.push(Input::Gone { launch });
        }
    }

    fn act(&mut self, actions: Vec<Action>, receiver: &mut Receiver) {
        for action in actions {
            match action {
                Action::Launch { launch, nodes } => self.start(launch, &nodes),
                Action::End { launch, reason } => {
                    // A message has its bounds; an order must not fail by them.
                    let reason = reason.chars().take(500).collect();
                    receiver.order_all(&ToAgent::StopAttempt { launch, reason, grace: 0.0 });
                    self.end_launchers(launch, LAST_SAY);
                }
                Action::Look { launch } => {
                    let mark = self.store.mark(launch);
                    self.inputs.push(Input::Lingers { launch, mark });
                }
                Action::Ask { halt } => self.ask(halt),
                Action::Tell { launch, event } => self.store.tell(launch, event),
                Action::Explain { launch, failure, reason } => {
                    if let Some(epoch) = self.store.epoch(launch) {
                        self.store.tell(launch, Event::EndExplained { epoch, failure, reason });
                    }
                }
                Action::NodeFailed { node, class } if !self.options.nodes.is_empty() => {
                    let entry = Entry { at: WallTime::now(), node, what: What::Failed, why: class };
                    self.store.remember(self.options.store.clone(), entry);
                }
                Action::NodeFailed { .. } => {}
                Action::Say(text) => say(&text),
                Action::Over(outcome) => self.outcome = Some(outcome),
            }
        }
    }

    fn ask(&mut self, halt: bool) {
        let by = format!("piton run on {}", process::host_name());
        self.store.ask(halt, by, |why| say(&format!("the ranks can't be asked: {why}")));
    }

    fn start(&mut self, launch: u32, nodes: &[String]) {
        self.launch = launch;
        self.options.live.launched(launch);
        match self.spawn(launch, nodes) {
            Ok(running) => {
                say(&format!("launch {launch}: {} ranks by {}", self.options.ranks, self.options.launcher.name()));
                let launcher = self.options.launcher.name();
                let event = Event::Launched { launch, launcher, ranks: self.options.ranks, nodes: nodes.to_vec() };
                self.store.tell(launch, event);
                self.launchers.insert(launch, running);
            }
            Err(error) => self.inputs.push(Input::NoLauncher { why: crate::human::whole(&error) }),
        }
    }

    fn spawn(&mut self, launch: u32, nodes: &[String]) -> anyhow::Result<Running> {
        let mut environment = vec![
            (RUN_VARIABLE.to_owned(), format!("{:x}", self.run)),
            (LAUNCH_VARIABLE.to_owned(), launch.to_string()),
        ];
        if launch > 1 {
            environment.push(("PITON_TAKE_OVER".to_owned(), "true".to_owned()));
            if self.store.has_committed() {
                environment.push((RESUME_VARIABLE.to_owned(), "latest".to_owned()));
            }
        }
        if let Some(end) = self.options.end {
            // Older Slurms do not say it themselves.
            environment.push((END_VARIABLE.to_owned(), end.to_string()));
        }
        if self.options.resume {
            environment.push(("PITON_RESUME".to_owned(), "latest".to_owned()));
        }
        let order = Order {
            command: &self.options.command,
            ranks: self.options.ranks,
            nodes: if self.options.nodes.is_empty() { &[] } else { nodes },
            environment: &environment,
            label: self.options.label,
            oversubscribe: self.options.oversubscribe,
        };
        let mut command = self.options.launcher.command(&order);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        // In a group of its own it could not read from the terminal.
        if std::io::stdin().is_terminal() {
            command.stdin(Stdio::null());
        }
        let file = match &self.options.logs {
            Some(folder) => {
                let path = folder.join(format!("launch-{launch:04}.log"));
                Some(Arc::new(File::create(&path).with_context(|| format!("cannot write {}", path.display()))?))
            }
            None => None,
        };
        let bell = self.bell.clone();
        let program = command.get_program().to_string_lossy().into_owned();
        let mut started = children::start(command, move || bell.ring(Heard::LauncherEnded(launch)))
            .with_context(|| format!("cannot start {program}"))?;
        let (stdout, stderr) = started.outputs();
        let telling = Telling::default();
        let mut outputs = Vec::new();
        let rules = || self.options.rules.logs.clone();
        if let Some(stdout) = stdout {
            outputs.push(pass_on(stdout, std::io::stdout(), file.clone(), rules(), telling.clone())?);
        }
        if let Some(stderr) = stderr {
            outputs.push(pass_on(stderr, std::io::stderr(), file, rules(), telling.clone())?);
        }
        Ok(Running { started, telling, outputs, tell_at: None, kill_at: None })
    }

    /// Ends the launchers of this launch and of all before it, those that could tell something after a while.
    fn end_launchers(&mut self, last: u32, last_say: Duration) {
        let now = Instant::now();
        for (_, running) in self.launchers.range_mut(..=last) {
            if running.kill_at.is_none() {
                let mut patience = LAUNCHER_END;
                match self.options.launcher {
                    // A program that is its own rank would take SIGTERM for the wish for a checkpoint. The agent kills it, and knows then that it
                    // has not died by itself.
                    Launcher::Direct => patience = RANK_END,
                    // Its helper ends the step when it is gone, and not where both are killed.
                    Launcher::Srun(_) => running.started.kill_alone(),
                    Launcher::Mpich(_) => {
                        running.tell_at = Some(now + last_say);
                        patience += last_say;
                    }
                    _ => running.started.signal(Signal::SIGTERM),
                }
                running.kill_at = Some(now + patience);
            }
        }
    }

    fn kill_the_late(&mut self) {
        let now = Instant::now();
        for running in self.launchers.values_mut() {
            if running.tell_at.take_if(|at| now >= *at).is_some() {
                running.started.signal(Signal::SIGTERM);
            }
            if running.kill_at.is_some_and(|at| now >= at) {
                running.started.signal(Signal::SIGKILL);
            }
        }
    }

    /// Ends whatever is left, and says how it went.
    fn finish(mut self, receiver: &mut Receiver, heard: &mpsc::Receiver<Heard>) -> anyhow::Result<Outcome> {
        let outcome = self.outcome.take().unwrap_or(Outcome::Stopped);
        receiver.order_all(&ToAgent::Leave);
        self.end_launchers(u32::MAX, Duration::ZERO);
        let (mut ask_again, until) = (Some(Instant::now() + AGENTS_LEAVE), Instant::now() + LAST);
        while (self.agents.run() || !self.launchers.is_empty()) && Instant::now() < until {
            self.kill_the_late();
            receiver.turn(Duration::from_millis(50)).context("the line to the agents broke")?;
            for heard in heard.try_iter() {
                match heard {
                    Heard::LauncherEnded(launch) => {
                        if let Some(mut running) = self.launchers.remove(&launch) {
                            let _ = running.started.reap();
                        }
                    }
                    Heard::AgentsEnded(whose) => self.agents.ended(&whose, Instant::now(), |_| {}),
                    Heard::Signal(Signal::SIGINT) => {
                        self.launchers.values().for_each(|running| running.started.signal(Signal::SIGKILL))
                    }
                    Heard::Signal(_) => {}
                }
            }
            // Agents leave by themselves, if they have heard.
            if ask_again.is_some_and(|at| Instant::now() >= at) {
                ask_again = None;
                self.agents.signal(Signal::SIGTERM);
            }
        }
        self.launchers.values().for_each(|running| running.started.signal(Signal::SIGKILL));
        self.agents.signal(Signal::SIGKILL);
        // A launcher that was killed leaves its own; agents look after the ranks' on all nodes.
        let _ = leftovers::remove(&Places::of_node(None));
        self.outlook.finish(LAST_WORDS);
        self.store.close(LAST);
        Ok(outcome)
    }
}
