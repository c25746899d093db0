//! The agents of a run's nodes: started, and started again where they end.
//!
//! Comes in: what starts them, which nodes are lost, and the end of what was started and of agents' connections. Goes out: processes. What must hold:
//! an agent that ends without its node is back before the node is missed; one that comes back by itself is left alone; whatever ends again and again
//! is started less and less often.

use super::children::{self, Started};
use super::launcher::{AgentStarter, command_of};
use super::policy::Status;
use crate::line::Secret;
use nix::sys::signal::Signal;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What ended by itself is started again after so long, twice as long each time that it lives no longer than it should.
const AGAIN: Duration = Duration::from_millis(500);
const LIVES: Duration = Duration::from_secs(10);
const REST_MOST: Duration = Duration::from_secs(60);
/// An agent whose connection broke may connect again by itself within this, or may have ended with all others, which is known by then.
const RETURNS: Duration = Duration::from_secs(1);

/// What starts agents.
#[derive(Debug, Clone)]
pub(super) struct Orders {
    /// An agent, with its arguments.
    pub command: Vec<OsString>,
    /// What starts it on nodes; `None`: it is started here.
    pub starter: Option<AgentStarter>,
    /// The nodes; none: this one.
    pub nodes: Vec<String>,
    /// What it proves with that it belongs to this run.
    pub secret: Secret,
}

/// For which nodes something was started.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Whose {
    /// For all that were not lost.
    All,
    /// For one whose agent had ended alone.
    Node(Arc<str>),
}

/// What starts agents for some nodes.
#[derive(Debug)]
struct Group {
    started: Option<Started>,
    /// When it is to be started.
    at: Option<Instant>,
    since: Instant,
    rest: Duration,
}

impl Group {
    fn new(at: Instant) -> Self {
        Self { started: None, at: Some(at), since: at, rest: AGAIN }
    }

    fn is_due(&self, now: Instant) -> bool {
        self.started.is_none() && self.at.is_some_and(|at| now >= at)
    }
}

/// All agents of a run.
pub(super) struct Agents {
    orders: Orders,
    ended: Arc<dyn Fn(Whose) + Send + Sync>,
    groups: BTreeMap<Whose, Group>,
}

impl Agents {
    /// None yet; `ended` is called, from another thread, when something that was started ends.
    pub fn new(orders: Orders, ended: impl Fn(Whose) + Send + Sync + 'static) -> Self {
        let groups = BTreeMap::from([(Whose::All, Group::new(Instant::now()))]);
        Self { orders, ended: Arc::new(ended), groups }
    }

    /// Starts what is due.
    pub fn start(&mut self, now: Instant, lost: &BTreeSet<Arc<str>>, say: impl Fn(&str)) {
        if !self.groups.values().any(|group| group.is_due(now)) {
            return;
        }
        let has_own = |group: (&Whose, &Group)| match group {
            (Whose::Node(node), group) if group.started.is_some() => Some(Arc::clone(node)),
            _ => None,
        };
        let own: BTreeSet<Arc<str>> = self.groups.iter().filter_map(has_own).collect();
        let common =
            self.orders.nodes.iter().map(String::as_str).filter(|node| !lost.contains(*node) && !own.contains(*node));
        for (whose, group) in &mut self.groups {
            if !group.is_due(now) {
                continue;
            }
            let nodes: Vec<&str> = match whose {
                // Each has its own, or is lost.
                Whose::All if !self.orders.nodes.is_empty() && common.clone().next().is_none() => {
                    group.at = None;
                    continue;
                }
                Whose::All => common.clone().collect(),
                Whose::Node(node) if lost.contains(node) => {
                    group.at = None;
                    continue;
                }
                Whose::Node(node) => {
                    say(&format!("the agent of node {node} has ended or hangs: another one is started"));
                    vec![node]
                }
            };
            let ended = Arc::clone(&self.ended);
            let bell = whose.clone();
            match children::start(self.orders.command(&nodes), move || ended(bell)) {
                Ok(started) => (group.started, group.at, group.since) = (Some(started), None, now),
                Err(error) => {
                    say(&format!("the agent can't be started: {error}"));
                    group.at = Some(now + AGAIN);
                }
            }
        }
    }

    /// What was started has ended.
    pub fn ended(&mut self, whose: &Whose, now: Instant, say: impl Fn(&str)) {
        let Some(group) = self.groups.get_mut(whose) else { return };
        let Some(mut started) = group.started.take() else { return };
        let status = started.reap();
        group.rest = if now.duration_since(group.since) > LIVES { AGAIN } else { (2 * group.rest).min(REST_MOST) };
        let rest = group.rest;
        if *whose != Whose::All {
            // It may never have come to connect.
            group.at.get_or_insert(now + rest);
            return;
        }
        let told = if self.run() { "" } else { ": nobody outside watches the ranks now" };
        say(&format!("the agent has ended ({}){told}", shown(status)));
        for (whose, group) in &mut self.groups {
            // Those that went with it come again with it.
            group.at = (*whose == Whose::All).then_some(now + rest);
        }
    }

    /// An agent's connection has broken.
    pub fn left(&mut self, node: &Arc<str>, now: Instant) {
        let with_all = self.groups.get(&Whose::All).is_none_or(|group| group.started.is_none() && group.at.is_some());
        if self.orders.starter.is_none() || with_all || !self.orders.nodes.iter().any(|name| **name == **node) {
            return;
        }
        let group = self.groups.entry(Whose::Node(Arc::clone(node))).or_insert_with(|| Group::new(now));
        group.at = Some(now + RETURNS.max(group.rest));
    }

    /// A node's agent says nothing, and its connection stands: another one takes its place.
    pub fn replace(&mut self, node: &Arc<str>, now: Instant) {
        match self.groups.get(&Whose::Node(Arc::clone(node))).and_then(|group| group.started.as_ref()) {
            // One that took another's place already. It comes again when it has ended.
            Some(started) => started.signal(Signal::SIGKILL),
            None if self.orders.starter.is_some() => {
                self.left(node, now);
                if let Some(group) = self.groups.get_mut(&Whose::Node(Arc::clone(node))) {
                    group.at = Some(now);
                }
            }
            None => self.signal(Signal::SIGKILL),
        }
    }

    /// A node's agent is connected.
    pub fn joined(&mut self, node: &Arc<str>) {
        if let Some(group) = self.groups.get_mut(&Whose::Node(Arc::clone(node))) {
            group.at = None;
        }
    }

    /// Whether any runs.
    pub fn run(&self) -> bool {
        self.groups.values().any(|group| group.started.is_some())
    }

    /// Sends a signal to all that was started.
    pub fn signal(&self, signal: Signal) {
        self.groups.values().filter_map(|group| group.started.as_ref()).for_each(|started| started.signal(signal));
    }
}

impl Orders {
    fn command(&self, nodes: &[&str]) -> Command {
        let mut command = match &self.starter {
            Some(starter) => starter.command(nodes, &self.command),
            None => command_of(self.command.clone()),
        };
        command.env(Secret::VARIABLE, self.secret.to_hex());
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }
}

fn shown(status: Option<Status>) -> String {
    match status {
        Some(Status::Exit(status)) => format!("status {status}"),
        Some(Status::Signal(signal)) => format!("signal {signal}"),
        None => "nobody knows how".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, channel};

    /// Agents that are sleeps, started by a shell that writes down for which nodes.
    fn agents(nodes: &[&str], told: &std::path::Path) -> (Agents, Receiver<Whose>) {
        let (tell, ended) = channel();
        let script = told.with_file_name("start");
        std::fs::write(&script, format!("echo $1 >> {}\nshift\nexec \"$@\"\n", told.display())).expect("a script");
        let starter = AgentStarter::named(&format!("sh {} {{nodes}}:{{hosts}} {{command}}", script.display()));
        let orders = Orders {
            command: vec!["sleep".into(), "600".into()],
            starter: Some(starter.expect("a template")),
            nodes: nodes.iter().map(|node| (*node).to_owned()).collect(),
            secret: Secret::generate().expect("a secret"),
        };
        (Agents::new(orders, move |whose| drop(tell.send(whose))), ended)
    }

    /// What was started, once there are so many.
    fn started(told: &std::path::Path, count: usize) -> Vec<String> {
        let since = Instant::now();
        loop {
            let lines: Vec<String> =
                std::fs::read_to_string(told).unwrap_or_default().lines().map(str::to_owned).collect();
            if lines.len() >= count {
                return lines;
            }
            assert!(since.elapsed() < Duration::from_secs(60), "{lines:?}");
            std::thread::yield_now();
        }
    }

    #[test]
    fn an_agent_that_ends_alone_is_started_again_on_its_node_and_nowhere_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let told = folder.path().join("told");
        let (mut agents, ended) = agents(&["a", "b", "c"], &told);
        let (now, lost, quiet) = (Instant::now(), BTreeSet::new(), |_: &str| {});
        let later = |seconds: u64| now + Duration::from_secs(seconds);
        let b: Arc<str> = "b".into();
        agents.start(now, &lost, quiet);
        assert_eq!(started(&told, 1), ["3:a,b,c"]);
        // One that connects again, and one of a node that nobody asked for.
        agents.left(&b, now);
        agents.joined(&b);
        agents.left(&"z".into(), now);
        agents.start(later(5), &lost, quiet);
        // One that does not.
        agents.left(&b, later(5));
        agents.start(later(5), &lost, quiet);
        agents.start(later(7), &lost, quiet);
        assert_eq!(started(&told, 2), ["3:a,b,c", "1:b"]);
        // All of the first start end, and with them the connection of `a`; the agent of `b` is none of them.
        agents.left(&"a".into(), later(20));
        agents.groups[&Whose::All].started.as_ref().expect("it runs").signal(Signal::SIGKILL);
        let whose = ended.recv_timeout(Duration::from_secs(60)).expect("it ends");
        agents.ended(&whose, later(20), quiet);
        agents.start(later(30), &lost, quiet);
        assert_eq!(started(&told, 3)[2], "2:a,c");
        // A node that is lost has no agent to start.
        agents.left(&"c".into(), later(40));
        agents.start(later(60), &BTreeSet::from(["c".into()]), quiet);
        assert!(agents.run());
        agents.signal(Signal::SIGKILL);
        for _ in 0..2 {
            let whose = ended.recv_timeout(Duration::from_secs(60)).expect("it ends");
            agents.ended(&whose, later(60), quiet);
        }
        assert!(!agents.run());
        assert_eq!(started(&told, 3).len(), 3);
    }

    #[test]
    fn where_every_node_has_an_agent_of_its_own_or_is_lost_no_other_is_started() {
        let folder = tempfile::tempdir().expect("a folder");
        let told = folder.path().join("told");
        let (mut agents, ended) = agents(&["a", "b", "c"], &told);
        let (now, mut lost) = (Instant::now(), BTreeSet::new());
        let later = |seconds: u64| now + Duration::from_secs(seconds);
        let said = std::cell::RefCell::new(Vec::new());
        let say = |text: &str| said.borrow_mut().push(text.to_owned());
        agents.start(now, &lost, say);
        started(&told, 1);
        // A launcher whose node `c` comes back breaks off: it kills its agents one after the other, and ends long after them.
        lost.insert("c".into());
        for (count, node) in [(2, "a"), (3, "b")] {
            agents.left(&node.into(), later(10));
            agents.start(later(20), &lost, say);
            assert_eq!(started(&told, count)[count - 1], format!("1:{node}"));
        }
        let end = |agents: &mut Agents, whose: &Whose, at: Instant| {
            agents.groups[whose].started.as_ref().expect("it runs").signal(Signal::SIGKILL);
            let ended = ended.recv_timeout(Duration::from_secs(60)).expect("it ends");
            assert_eq!(&ended, whose);
            agents.ended(&ended, at, say);
        };
        end(&mut agents, &Whose::All, later(30));
        agents.start(later(100), &lost, say);
        assert!(agents.groups[&Whose::All].started.is_none());
        let watched = |text: &String| !text.contains("nobody");
        assert!(said.borrow().iter().all(watched), "{:?}", said.borrow());
        // One of these ends: it is started again, whether or not it ever came to connect.
        let a = Whose::Node("a".into());
        agents.joined(&"a".into());
        agents.left(&"a".into(), later(110));
        end(&mut agents, &a, later(111));
        agents.start(later(120), &lost, say);
        assert_eq!(started(&told, 4)[3], "1:a");
        end(&mut agents, &a, later(121));
        agents.start(later(200), &lost, say);
        assert_eq!(started(&told, 5)[4], "1:a");
        agents.signal(Signal::SIGKILL);
        for _ in 0..2 {
            let whose = ended.recv_timeout(Duration::from_secs(60)).expect("it ends");
            agents.ended(&whose, later(210), say);
        }
        assert!(!agents.run());
    }

    #[test]
    fn what_ends_at_once_is_started_less_and_less_often() {
        let folder = tempfile::tempdir().expect("a folder");
        let told = folder.path().join("told");
        let (mut agents, ended) = agents(&["a"], &told);
        let (mut now, lost) = (Instant::now(), BTreeSet::new());
        let mut rests = Vec::new();
        for _ in 0..4 {
            agents.start(now, &lost, |_| {});
            agents.signal(Signal::SIGKILL);
            let whose = ended.recv_timeout(Duration::from_secs(60)).expect("it ends");
            agents.ended(&whose, now, |_| {});
            let at = agents.groups[&Whose::All].at.expect("it is due");
            rests.push(at.duration_since(now).as_millis());
            now = at;
        }
        assert_eq!(rests, [1000, 2000, 4000, 8000]);
    }
}
