//! The findings of one poll, each once.
//!
//! Comes in: what single lines say. Goes out: one finding for each rule and place, with how often it was found.
//! What must hold: memory is bounded, whatever a log storm says; the first line's words are kept, since what follows is its echo.

use crate::watch::{Finding, Labels};
use std::collections::HashMap;

/// Most findings that one poll gives; later ones are only counted.
const MOST_FINDINGS: usize = 256;

/// What one poll has found so far.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    findings: Vec<(Finding, u64)>,
    places: HashMap<(String, Labels), usize>,
    /// Findings that there was no room for.
    dropped: u64,
}

impl Gathered {
    pub(super) fn add(&mut self, finding: Finding) {
        let key = (finding.rule.clone(), finding.labels.clone());
        if let Some(&place) = self.places.get(&key) {
            let (known, times) = &mut self.findings[place];
            // The same code in the same place, told more gravely.
            if finding.severity > known.severity {
                *known = finding;
            }
            *times += 1;
        } else if self.findings.len() < MOST_FINDINGS {
            self.places.insert(key, self.findings.len());
            self.findings.push((finding, 1));
        } else {
            self.dropped += 1;
        }
    }

    /// Adds what a line says, if it says anything.
    pub(super) fn extend(&mut self, finding: Option<Finding>) {
        if let Some(finding) = finding {
            self.add(finding);
        }
    }

    /// The findings in the order in which they were first made, and how many more there was no room for.
    pub(super) fn finish(self) -> (Vec<Finding>, u64) {
        let told = |(mut finding, times): (Finding, u64)| {
            if times > 1 {
                finding.summary.push_str(&format!(" ({times} times)"));
            }
            finding
        };
        (self.findings.into_iter().map(told).collect(), self.dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::{Action, Severity};

    fn finding(device: &str, severity: Severity) -> Finding {
        let labels = Labels::from([("device".to_owned(), device.to_owned())]);
        let summary = format!("{device} is {severity:?}");
        Finding { rule: "DiskErrors".into(), severity, labels, summary, action: Action::Nothing, lasts: None }
    }

    #[test]
    fn what_is_found_again_is_counted() {
        let mut gathered = Gathered::default();
        for (device, severity) in
            [("sda", Severity::Warning), ("sdb", Severity::Info), ("sda", Severity::Critical), ("sda", Severity::Info)]
        {
            gathered.add(finding(device, severity));
        }
        let (findings, dropped) = gathered.finish();
        let summaries: Vec<&str> = findings.iter().map(|finding| finding.summary.as_str()).collect();
        assert_eq!((summaries.as_slice(), dropped), (["sda is Critical (3 times)", "sdb is Info"].as_slice(), 0));
    }

    #[test]
    fn a_storm_of_different_findings_is_bounded() {
        let mut gathered = Gathered::default();
        (0..1000).for_each(|number| gathered.add(finding(&number.to_string(), Severity::Info)));
        let (findings, dropped) = gathered.finish();
        assert_eq!((findings.len(), dropped), (MOST_FINDINGS, 1000 - MOST_FINDINGS as u64));
    }
}
