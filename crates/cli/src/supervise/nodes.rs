//! Which nodes there are, how they fared, and which of them the next launch gets.
//!
//! Comes in: the nodes at hand, and what happened on them. Goes out: nodes for a launch. What must hold: a node that is lost is not chosen before
//! it is back; one that has failed too often, or is sick, is chosen only where there is no other; who has the ranks keeps them, so that what lies on the
//! node is of use; spares come in only where others are missing.

use std::collections::BTreeMap;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Record {
    lost: bool,
    /// Something is wrong with it.
    sick: bool,
    failures: u32,
}

/// The nodes of a job.
#[derive(Debug, Clone)]
pub struct NodeBook {
    /// In the order in which they are used; the last ones are spares.
    names: Vec<String>,
    records: BTreeMap<String, Record>,
    /// So many failures of its own put a node in quarantine; 0: none do.
    quarantine_after: u32,
}

impl NodeBook {
    /// These nodes, of which the last ones are spares.
    #[must_use]
    pub fn new(names: Vec<String>, quarantine_after: u32) -> Self {
        Self { names, records: BTreeMap::new(), quarantine_after }
    }

    /// The nodes with what earlier runs have seen of them: how often each has failed.
    #[must_use]
    pub fn remembering(mut self, failures: impl IntoIterator<Item = (String, u32)>) -> Self {
        failures.into_iter().for_each(|(node, failures)| self.records.entry(node).or_default().failures = failures);
        self
    }

    /// Those that are in quarantine.
    pub fn quarantined(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str).filter(|name| {
            let failures = self.records.get(*name).map_or(0, |record| record.failures);
            self.quarantine_after > 0 && failures >= self.quarantine_after
        })
    }

    /// Nothing was heard of the node for too long.
    pub fn lost(&mut self, node: &str) {
        self.records.entry(node.to_owned()).or_default().lost = true;
    }

    /// It is there again.
    pub fn back(&mut self, node: &str) {
        self.records.entry(node.to_owned()).or_default().lost = false;
    }

    /// Something is wrong with it; whether that is news.
    pub fn sick(&mut self, node: &str) -> bool {
        !std::mem::replace(&mut self.records.entry(node.to_owned()).or_default().sick, true)
    }

    /// An attempt failed by this node's doing; whether that puts it in quarantine.
    pub fn failed(&mut self, node: &str) -> bool {
        let record = self.records.entry(node.to_owned()).or_default();
        record.failures += 1;
        self.quarantine_after > 0 && record.failures == self.quarantine_after
    }

    /// It was another node's doing.
    pub fn pardon(&mut self, node: &str) {
        if let Some(record) = self.records.get_mut(node) {
            record.failures = record.failures.saturating_sub(1);
        }
    }

    /// Whether it may be used.
    #[must_use]
    pub fn is_good(&self, node: &str) -> bool {
        let record = self.records.get(node).copied().unwrap_or_default();
        !record.lost && !record.sick && (self.quarantine_after == 0 || record.failures < self.quarantine_after)
    }

    /// The first `count` good nodes, and where they are fewer, some of those that are sick or in quarantine; `None` where there are too few that are not lost.
    #[must_use]
    pub fn choose(&self, count: usize) -> Option<Vec<String>> {
        let is_lost = |name: &String| self.records.get(name).is_some_and(|record| record.lost);
        let (good, rest): (Vec<&String>, Vec<&String>) =
            self.names.iter().filter(|name| !is_lost(name)).partition(|name| self.is_good(name));
        let chosen: Vec<String> = good.into_iter().chain(rest).take(count).cloned().collect();
        (chosen.len() == count).then_some(chosen)
    }

    /// Those that were chosen last come first next time, so that a spare which was brought in stays.
    pub fn used(&mut self, chosen: &[String]) {
        self.names.sort_by_key(|name| !chosen.contains(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book(quarantine_after: u32) -> NodeBook {
        NodeBook::new(["n1", "n2", "n3"].map(str::to_owned).to_vec(), quarantine_after)
    }

    #[test]
    fn a_spare_comes_in_for_a_lost_node_and_stays() {
        let mut book = book(2);
        assert_eq!(book.choose(2), Some(vec!["n1".into(), "n2".into()]));
        book.lost("n1");
        let chosen = book.choose(2).expect("two are left");
        assert_eq!(chosen, ["n2", "n3"]);
        book.used(&chosen);
        book.back("n1");
        assert_eq!(book.choose(2), Some(vec!["n2".into(), "n3".into()]));
        book.lost("n2");
        book.lost("n3");
        assert_eq!(book.choose(2), None);
        assert_eq!(book.choose(1), Some(vec!["n1".into()]));
    }

    #[test]
    fn who_is_sick_is_left_out() {
        let mut book = book(0);
        assert!(book.sick("n2") && !book.sick("n2"), "told once");
        assert_eq!(book.choose(2), Some(vec!["n1".into(), "n3".into()]));
        assert_eq!(book.choose(3), Some(vec!["n1".into(), "n3".into(), "n2".into()]), "it is better than none");
    }

    #[test]
    fn who_fails_twice_is_left_out() {
        let mut book = book(2);
        assert!(!book.failed("n1"));
        assert!(book.is_good("n1"));
        assert!(book.failed("n1"));
        assert!(!book.failed("n1"), "that was said");
        assert_eq!(book.choose(2), Some(vec!["n2".into(), "n3".into()]));
        assert_eq!(book.choose(3), Some(vec!["n2".into(), "n3".into(), "n1".into()]), "it is better than none");
        let book = self::book(2).remembering([("n1".to_owned(), 2), ("n9".to_owned(), 5)]);
        assert_eq!(book.quarantined().collect::<Vec<_>>(), ["n1"]);
        assert_eq!(book.choose(2), Some(vec!["n2".into(), "n3".into()]), "as an earlier run has seen");
        let mut book = self::book(2);
        book.failed("n1");
        book.failed("n1");
        book.pardon("n1");
        assert!(book.is_good("n1"));
        let mut book = self::book(0);
        (0..9).for_each(|_| assert!(!book.failed("n1")));
        assert!(book.is_good("n1"));
    }
}
