//! Tracking for the length of one session: when it may be relied on, when it pays, and what happens when it lied.
//!
//! Comes in: at each freeze the marks of the fields. Goes out: what was written of each, and how the copy should go about it.
//! What must hold: where anything speaks against what the kernel says (a device that could write, a comparison that
//! found a difference), nothing is left uncopied in that freeze or any later one.

use super::devices::{OPEN_FILES, open_transports};
use super::policy::Policy;
use super::tracking::{Mark, Tracker, Written};
use super::{Frozen, Way};
use crate::config::Tracking;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The tracking of one session.
#[derive(Debug)]
pub(crate) struct Session {
    /// None while it is off.
    tracker: Option<Arc<Tracker>>,
    policy: Policy,
    /// The open files among which transports are looked for; none where the user says that no device writes.
    open_files: Option<PathBuf>,
    /// After so many freezes that left something uncopied, one that compares; 0: never.
    check_every: u64,
    partial: u64,
}

/// What is known at a freeze.
#[derive(Debug, Default)]
pub(super) struct Looked {
    /// By field; shorter where nothing is known of the rest.
    pub written: Vec<Option<Written>>,
    pub way: Way,
    /// Why tracking is off for good from now on.
    pub off: Option<String>,
}

impl Session {
    /// Begins as the setting says, if the machine allows it; the text, for the journal, says what came of it.
    pub(crate) fn start(setting: Tracking, check_every: u64) -> (Option<Self>, String) {
        Self::start_with(setting, check_every, Path::new(OPEN_FILES))
    }

    pub(super) fn start_with(setting: Tracking, check_every: u64, open_files: &Path) -> (Option<Self>, String) {
        let open_files = match setting {
            Tracking::Off => return (None, "off".into()),
            Tracking::On => None,
            Tracking::Auto => Some(open_files.to_owned()),
        };
        if let Some(reason) = open_files.as_deref().and_then(unsound) {
            return (None, format!("off: {reason}"));
        }
        match Tracker::probe() {
            Ok(tracker) => {
                let tracker = Some(Arc::new(tracker));
                // Whoever asks for it gets it at once.
                let (policy, outcome) = match setting {
                    Tracking::On => (Policy::on(), "on"),
                    _ => (Policy::new(), "on where little changes"),
                };
                (Some(Self { tracker, policy, open_files, check_every, partial: 0 }), outcome.into())
            }
            Err(reason) => (None, format!("unavailable: {reason}")),
        }
    }

    /// Asks which pages were written since the last freeze.
    pub(super) fn look(&mut self, bytes: &[&[u8]], marks: &[Option<&Mark>]) -> Looked {
        if !self.policy.begin() || marks.iter().all(Option::is_none) {
            return Looked::default();
        }
        // At every freeze, since a device may be opened at any time; here, so that what it wrote until now is copied.
        if let Some(reason) = self.open_files.as_deref().and_then(unsound) {
            return Looked { off: Some(self.end(reason)), ..Looked::default() };
        }
        let tracker = match &self.tracker {
            Some(tracker) => Arc::clone(tracker),
            None => match Tracker::probe() {
                Ok(tracker) => Arc::clone(self.tracker.insert(Arc::new(tracker))),
                Err(reason) => return Looked { off: Some(self.end(reason.to_string())), ..Looked::default() },
            },
        };
        let look = |(mark, bytes): (&Option<&Mark>, &&[u8])| {
            // What can't be tracked is copied.
            mark.and_then(|mark| mark.look(&tracker, bytes.len()).ok())
        };
        let written: Vec<Option<Written>> = marks.iter().zip(bytes).map(look).collect();
        let known = written.iter().flatten().filter(|written| written.since.is_some());
        let (some, all) =
            known.fold((0, 0), |(some, all), written| (some + written.pages.count(), all + written.pages.pages()));
        let mut way = Way::Written;
        if all > 0 && !self.policy.written(some as f64 / all as f64) {
            // Ends the tracking of all maps, so that writes cost nothing more.
            self.tracker = None;
            way = Way::Whole;
        } else if self.check_every > 0 && (self.partial + 1).is_multiple_of(self.check_every) {
            way = Way::Compared;
        }
        Looked { written, way, off: None }
    }

    /// What was found while copying: a text says why tracking is off for good from now on.
    pub(super) fn copied(&mut self, frozen: &Frozen) -> Option<String> {
        self.partial += u64::from(frozen.partial);
        let field = frozen.untrue?;
        Some(
            self.end(format!(
                "field {field} changed in pages that the kernel did not report as written; all was copied"
            )),
        )
    }

    /// So large a share of the data really changed.
    pub(super) fn changed_share(&mut self, share: f64) {
        self.policy.changed(share);
    }

    fn end(&mut self, reason: String) -> String {
        self.policy.never();
        self.tracker = None;
        reason
    }
}

/// Why the kernel's word cannot be relied on.
fn unsound(open_files: &Path) -> Option<String> {
    let open = open_transports(open_files);
    (!open.is_empty()).then(|| {
        format!("{} may write to memory unseen (`tracking = \"on\"` asserts that nothing does)", open.join(", "))
    })
}
