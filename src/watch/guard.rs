//! The guard of a node: everything that watches it, together.
//!
//! Comes in: the ranks on the board, samples of the node, lines of logs, and the rules that they are held against. Goes out: round by round, what was
//! found and why, and which alerts that makes. What must hold: ranks are looked at as often as asked, whatever a sample or a log takes: threads
//! of their own look at those; a file of rules that can't be used costs its rules only, and is told.

use super::alert::{Alerts, Turn};
use super::board::Board;
use super::detect::HangRules;
use super::logs::{KernelLog, LogFile};
use super::node::{Roots, Sampler};
use super::threshold::Evaluator;
use super::{Agent, Change, Finding, Labels, Observation, Rules, Sample};
use crate::config::Settings;
use crate::journal::Event;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::Builder;
use std::time::Duration;

/// How often logs are looked at.
const LINES: Duration = Duration::from_secs(1);

/// What is watched besides ranks.
#[derive(Debug, Clone)]
pub struct GuardOptions {
    /// What samples and lines are held against, and who is told.
    pub rules: Rules,
    /// How often the node is sampled; zero: never.
    pub sample: Duration,
    /// Places of checkpoints, whose file systems are looked at.
    pub tiers: Vec<PathBuf>,
    /// Files that the application's output goes to.
    pub logs: Vec<PathBuf>,
}

impl GuardOptions {
    /// What the settings say is to be watched, by these rules.
    #[must_use]
    pub fn by(settings: &Settings, rules: Rules) -> Self {
        let log = Some(settings.application_log.clone()).filter(|path| !path.as_os_str().is_empty());
        Self { rules, sample: settings.sample, tiers: vec![settings.dir.clone()], logs: log.into_iter().collect() }
    }
}

/// What one round brought.
#[derive(Debug, Default)]
pub struct Round {
    /// What was seen of ranks, with what speaks for it.
    pub seen: Vec<Observation>,
    /// The node's values, where a sample was due.
    pub samples: Option<Vec<Sample>>,
    /// What that means for alerts.
    pub turn: Turn,
}

impl Round {
    /// What the journal should hold of it: what was seen, then the alerts.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.seen.iter().cloned().map(Event::from).chain(self.turn.events()).collect()
    }
}

/// A thread that looks at something again and again, so that nobody waits for what may hang. It ends with the other end of `_stop`.
#[derive(Debug)]
struct Looker<T> {
    seen: Receiver<T>,
    _stop: Sender<()>,
}

impl<T: Send + 'static> Looker<T> {
    fn start(name: &str, every: Duration, mut look: impl FnMut() -> T + Send + 'static) -> std::io::Result<Self> {
        let (stop, stopped) = channel::<()>();
        let (give, seen) = channel();
        let run = move || {
            while give.send(look()).is_ok() {
                if !matches!(stopped.recv_timeout(every), Err(RecvTimeoutError::Timeout)) {
                    return;
                }
            }
        };
        Builder::new().name(name.to_owned()).spawn(run)?;
        Ok(Self { seen, _stop: stop })
    }
}

/// Watches a node.
#[derive(Debug)]
pub struct Guard {
    agent: Agent,
    sampling: Option<Looker<Vec<Sample>>>,
    reading: Option<Looker<Vec<Finding>>>,
    evaluator: Evaluator,
    alerts: Alerts,
    node: String,
}

impl Guard {
    /// One for the ranks on this board, and their node.
    #[must_use]
    pub fn new(board: Board, options: GuardOptions) -> Self {
        let GuardOptions { rules, sample, tiers, logs } = options;
        let (job, node) = (board.job(), board.host());
        let labels = Labels::from([("job".to_owned(), job), ("node".to_owned(), node.clone())]);
        // Where the system gives no thread, ranks are watched all the same.
        let mut sampler = Sampler::new(Roots::default(), tiers);
        let sampling = (!sample.is_zero())
            .then(|| Looker::start("piton-sampler", sample, move || sampler.sample()).ok())
            .flatten();
        let mut kernel = KernelLog::open(&rules.logs);
        let mut files: Vec<LogFile> = logs.iter().map(|path| LogFile::follow(path, &rules.logs)).collect();
        let read = move || kernel.poll().into_iter().chain(files.iter_mut().flat_map(LogFile::poll)).collect();
        let reading = Looker::start("piton-logs", LINES, read).ok();
        Self {
            agent: Agent::new(board, HangRules::default()),
            sampling,
            reading,
            evaluator: Evaluator::new(rules.thresholds),
            alerts: Alerts::new(rules.alerts).with_labels(labels),
            node,
        }
    }

    /// Who looks at the ranks.
    #[must_use]
    pub fn agent(&self) -> &Agent {
        &self.agent
    }

    /// As [`Agent::expect_ends`].
    pub fn expect_ends(&mut self) {
        self.agent.expect_ends();
    }

    /// As [`Agent::leave`].
    pub fn leave(&mut self) -> Vec<Observation> {
        self.agent.leave()
    }

    /// The alerts as they stand.
    #[must_use]
    pub fn alerts(&self) -> &Alerts {
        &self.alerts
    }

    /// As [`Agent::wait`].
    #[must_use]
    pub fn wait(&mut self, period: Duration, wake: Option<BorrowedFd<'_>>) -> bool {
        self.agent.wait(period, wake)
    }

    /// Looks at everything once. `explain`: adds to what speaks for an observation.
    pub fn look(&mut self, mut explain: impl FnMut(Observation, &Board) -> Observation) -> Round {
        let seen = self.agent.look();
        let seen: Vec<Observation> = seen.into_iter().map(|seen| explain(seen, self.agent.board())).collect();
        let now = self.agent.now();
        let mut changes: Vec<Change> = seen.iter().map(|seen| seen.change.clone()).collect();
        // Of several, the newest says how things are.
        let samples = self.sampling.as_ref().and_then(|sampling| sampling.seen.try_iter().last());
        if let Some(samples) = &samples {
            changes.extend(self.evaluator.evaluate(now, &self.node, samples));
        }
        let lines = self.reading.iter().flat_map(|reading| reading.seen.try_iter().flatten());
        changes.extend(lines.map(Change::Raised));
        for change in changes {
            self.alerts.take(now, change);
        }
        Round { seen, samples, turn: self.alerts.advance(now) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Epoch;
    use crate::watch::board::BoardName;
    use std::time::Instant;

    #[test]
    fn ranks_samples_and_lines_come_together_as_alerts() {
        let folder = tempfile::tempdir().expect("a folder");
        let name = BoardName {
            job: "walk".into(),
            store: folder.path().into(),
            epoch: Epoch(1),
            token: 1,
            supervised: Default::default(),
        };
        let board = Board::make(folder.path(), &name, 1, 1, Duration::from_millis(100)).expect("a board");
        board.place(0, 0).computing(1);
        let log = folder.path().join("slurm-1.out");
        let rules = "[[threshold]]\nname = \"AnyMemory\"\nseries = \"node_memory_MemTotal_bytes\"\nabove = 1\nseverity = \"warning\"\nsummary = \"{value}\"\n";
        let rules = Rules::parse(rules, "rules.toml".as_ref()).expect("good rules");
        let options = GuardOptions {
            rules,
            sample: Duration::from_millis(20),
            tiers: vec![folder.path().into()],
            logs: vec![log.clone()],
        };
        let mut guard = Guard::new(board, options);
        std::fs::write(&log, "Fortran runtime error: End of file\n").expect("a file");
        let mut rules = std::collections::BTreeSet::new();
        let until = Instant::now() + Duration::from_secs(60);
        while rules.len() < 2 {
            assert!(Instant::now() < until, "{rules:?}");
            let round = guard.look(|seen, _| seen);
            for alert in &round.turn.firing {
                let labels = &alert.finding.labels;
                assert_eq!(labels.get("job").map(String::as_str), Some("walk"), "{labels:?}");
                rules.insert(alert.finding.rule.clone());
            }
            assert_eq!(round.events().len(), round.seen.len() + round.turn.firing.len() + round.turn.resolved.len());
            let _ = guard.wait(Duration::from_millis(10), None);
        }
        assert!(rules.contains("AnyMemory"), "{rules:?}");
    }
}
