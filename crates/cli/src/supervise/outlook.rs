//! What only whoever hears of all nodes can find: one that is lost, and one that is unlike the others; and who is told of it.
//!
//! Comes in: samples of the nodes, as their agents report them; what happened to nodes. Goes out: what was found, as events for the journal, actions, and
//! notifications to the receivers that the rule file names. What must hold: nothing here waits for a receiver; each node is judged by its newest
//! samples, and by rules that compare only: all others are its own agent's matter; before the job's name is known, which each alert
//! bears, what was found waits for it.

use crate::line::Report;
use crate::notify::{Notified, Notifier};
use piton::journal::Event;
use piton::watch::alert::{Alerts, Settings};
use piton::watch::threshold::Evaluator;
use piton::watch::{Action, Change, Finding, Labels, Rules, Sample, Severity};
use std::io;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// Nodes are measured at moments of their own; so many seconds apart they are compared.
const COMPARE_EVERY: f64 = 5.0;
/// Findings that wait for the job's name.
const WAITING: usize = 1000;
/// The rules of what is found here without samples.
const NODE_LOST: &str = "NodeLost";
const AGENT_SILENT: &str = "AgentSilent";

/// What is new.
#[derive(Debug, Default)]
pub(super) struct News {
    /// What nodes are accused of, each with the node.
    pub changes: Vec<(String, Change)>,
    /// For the journal.
    pub events: Vec<Event>,
    /// The summaries of alerts that ask for a checkpoint.
    pub checkpoints: Vec<String>,
}

/// Finds it, and has it told.
#[derive(Debug)]
pub(super) struct Outlook {
    evaluator: Evaluator,
    compared: f64,
    settings: Settings,
    /// Once the job's name is known.
    alerts: Option<Alerts>,
    waiting: Vec<(f64, Change)>,
    changes: Vec<(String, Change)>,
    notifier: Notifier,
    notified: Receiver<Notified>,
}

impl Outlook {
    /// By these rules.
    ///
    /// # Errors
    /// Where the system gives no threads for the receivers.
    pub fn new(rules: &Rules) -> io::Result<Self> {
        let (tell, notified) = channel();
        let notifier = Notifier::start(&rules.alerts, move |told| {
            // Whoever has ended writes nothing more down.
            let _ = tell.send(told);
        })?;
        Ok(Self {
            evaluator: Evaluator::new(rules.comparisons().cloned().collect()),
            compared: f64::NEG_INFINITY,
            settings: rules.alerts.clone(),
            alerts: None,
            waiting: Vec::new(),
            changes: Vec::new(),
            notifier,
            notified,
        })
    }

    /// Its name is known now.
    pub fn of_job(&mut self, job: &str) {
        if self.alerts.is_some() {
            return;
        }
        let labels = Labels::from([("job".to_owned(), job.to_owned())]);
        let mut alerts = Alerts::new(self.settings.clone()).with_labels(labels);
        self.waiting.drain(..).for_each(|(at, change)| alerts.take(at, change));
        self.alerts = Some(alerts);
    }

    /// A node's agent has reported.
    pub fn report(&mut self, now: f64, node: &str, report: &Report) {
        // What names no series is none that a rule is about.
        let sample = |(series, kind, value): &(String, _, f64)| {
            Some(Sample { series: series.parse().ok()?, kind: *kind, value: *value })
        };
        let samples: Vec<Sample> = report.samples.iter().filter_map(sample).collect();
        if !samples.is_empty() {
            // Rules that compare say nothing of one node alone; that there are too many series is said.
            let changes = self.evaluator.evaluate(now, node, &samples);
            changes.into_iter().for_each(|change| self.take(now, change));
        }
    }

    /// Nothing is heard of a node.
    pub fn lost(&mut self, now: f64, node: &str, summary: String) {
        self.clear(now, AGENT_SILENT, node);
        self.raise(now, NODE_LOST, Severity::Critical, node, summary);
    }

    /// Nothing is heard of a node's agent, and the node is up.
    pub fn silent(&mut self, now: f64, node: &str, summary: String) {
        self.raise(now, AGENT_SILENT, Severity::Warning, node, summary);
    }

    /// A node is heard of again.
    pub fn back(&mut self, now: f64, node: &str) {
        self.clear(now, NODE_LOST, node);
        self.clear(now, AGENT_SILENT, node);
    }

    fn raise(&mut self, now: f64, rule: &str, severity: Severity, node: &str, summary: String) {
        let (rule, labels) = (rule.to_owned(), of_node(node));
        // What is to be done about it is the policy's matter.
        let finding = Finding { rule, severity, labels, summary, action: Action::Nothing, lasts: None };
        self.alert(now, Change::Raised(finding));
    }

    fn clear(&mut self, now: f64, rule: &str, node: &str) {
        self.alert(now, Change::Cleared { rule: rule.to_owned(), labels: of_node(node) });
    }

    fn take(&mut self, now: f64, change: Change) {
        let (Change::Raised(Finding { labels, .. }) | Change::Cleared { labels, .. }) = &change;
        if let Some(node) = labels.get("node") {
            self.changes.push((node.clone(), change.clone()));
        }
        self.alert(now, change);
    }

    fn alert(&mut self, now: f64, change: Change) {
        match &mut self.alerts {
            Some(alerts) => alerts.take(now, change),
            None if self.waiting.len() < WAITING => self.waiting.push((now, change)),
            None => {}
        }
    }

    /// What is new since the last time; to be called several times a second.
    pub fn turn(&mut self, now: f64) -> News {
        if now - self.compared >= COMPARE_EVERY {
            self.compared = now;
            let changes = self.evaluator.compare(now);
            changes.into_iter().for_each(|change| self.take(now, change));
        }
        let mut news = News { changes: std::mem::take(&mut self.changes), ..News::default() };
        if let Some(alerts) = &mut self.alerts {
            let turn = alerts.advance(now);
            news.events = turn.events();
            let wanted = turn.actions.iter().filter(|due| due.action == Action::Checkpoint);
            news.checkpoints = wanted.map(|due| due.alert.finding.summary.clone()).collect();
            turn.notifications.into_iter().for_each(|notification| self.notifier.send(notification));
        }
        news.events.extend(self.notified.try_iter().map(|told| told.event()));
        news
    }

    /// Waits until receivers are told, `within` at most.
    pub fn finish(self, within: Duration) {
        self.notifier.finish(within);
    }
}

fn of_node(node: &str) -> Labels {
    Labels::from([("node".to_owned(), node.to_owned())])
}

#[cfg(test)]
mod tests {
    use super::*;
    use piton::watch::Kind;

    fn rules(more: &str) -> Rules {
        let text = format!(
            "defaults = false\n[[threshold]]\nname = \"Hot\"\nseries = \"heat\"\npeers = {{ k = 6, direction = \"above\" }}\n\
             for = \"10s\"\nseverity = \"warning\"\nsummary = \"{{value}} on {{node}}\"\n{more}"
        );
        Rules::parse(&text, "rules.toml".as_ref()).expect("good rules")
    }

    fn heat(value: f64) -> Report {
        let samples =
            vec![("heat{sensor=\"1\"}".to_owned(), Kind::Gauge, value), ("no series".into(), Kind::Gauge, 1.0)];
        Report { samples, ..Report::default() }
    }

    fn told(events: &[Event]) -> Vec<(&str, &str)> {
        let mut told = Vec::new();
        for event in events {
            let (what, rule, labels) = match event {
                Event::AlertFiring { rule, labels, .. } => ("firing", rule, labels),
                Event::AlertResolved { rule, labels, .. } => ("resolved", rule, labels),
                _ => continue,
            };
            assert_eq!(labels["job"], "sea");
            told.push((what, rule.as_str()));
        }
        told
    }

    #[test]
    fn a_node_that_is_unlike_the_others_is_found_and_what_its_rule_wants_is_done() {
        let mut outlook = Outlook::new(&rules("action = \"mark_node\"\n")).expect("no threads are needed");
        outlook.of_job("sea");
        let (mut found, mut events) = (Vec::new(), Vec::new());
        for second in 0..60 {
            let now = f64::from(second);
            for node in 1..=6 {
                let value = if node == 3 { 90.0 } else { 60.0 + f64::from(node) / 10.0 };
                outlook.report(now, &format!("n{node}"), &heat(value));
            }
            let news = outlook.turn(now);
            found.extend(news.changes);
            events.extend(news.events);
        }
        let [(node, Change::Raised(finding))] = &found[..] else { panic!("{found:?}") };
        assert_eq!((node.as_str(), finding.rule.as_str(), finding.action), ("n3", "Hot", Action::MarkNode));
        assert_eq!(told(&events), [("firing", "Hot")]);
    }

    #[test]
    fn checkpoints_are_asked_for_once() {
        let mut outlook = Outlook::new(&rules("action = \"checkpoint\"\n")).expect("no threads are needed");
        outlook.of_job("sea");
        let mut asked = Vec::new();
        for second in 0..60 {
            for node in 1..=5 {
                outlook.report(f64::from(second), &format!("n{node}"), &heat(if node == 5 { 99.0 } else { 60.0 }));
            }
            asked.extend(outlook.turn(f64::from(second)).checkpoints);
        }
        assert_eq!(asked, ["99 on n5"]);
    }

    #[test]
    fn lost_nodes_are_told_to_receivers_under_the_jobs_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let letter = folder.path().join("letter");
        let script = format!("cat > {0}.new && mv {0}.new {0}", letter.display());
        let receivers = format!(
            "\n[alerts]\ngroup_wait = \"1s\"\n[[alerts.receivers]]\nname = \"pager\"\ncommand = [\"sh\", \"-c\", {script:?}]\n"
        );
        let mut outlook = Outlook::new(&rules(&receivers)).expect("threads");
        outlook.silent(0.0, "n2", "its agent says nothing".into());
        assert!(outlook.turn(0.5).events.is_empty(), "whose alert it is is not known yet");
        outlook.of_job("sea");
        assert_eq!(told(&outlook.turn(1.0).events), [("firing", "AgentSilent")]);
        outlook.lost(60.0, "n2", "nothing is heard of n2".into());
        let mut events = outlook.turn(60.0).events;
        events.extend(outlook.turn(62.0).events);
        outlook.back(70.0, "n2");
        events.extend(outlook.turn(70.0).events);
        outlook.finish(Duration::from_secs(60));
        let text = std::fs::read_to_string(&letter).expect("it was told");
        assert!(text.contains("\"job\":\"sea\"") && text.contains("NodeLost"), "{text}");
        let mut all = told(&events);
        all.sort_unstable();
        assert_eq!(all, [("firing", "NodeLost"), ("resolved", "AgentSilent"), ("resolved", "NodeLost")]);
    }
}
