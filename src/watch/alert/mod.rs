//! Alerts: what is found wrong, told once, to whoever should know, and done something about.
//!
//! Comes in: [`Change`](super::Change)s, with the time at which they were found, and the `[alerts]` section of a rule file. Goes out: by
//! [`Alerts::advance`], what the journal should hold, what must be done, and whom to tell what. What must hold: nothing here reads a
//! clock, a file or the network: times are seconds of the caller's clock; the same finding again is the same alert; an alert's
//! action comes due once each time it fires; that it is over is told to whoever was told that it fires, and to nobody else;
//! nothing is told twice within the repeat interval; memory is bounded, and what finds no room is counted and said.
//!
//! The words and the rules are those of Prometheus's Alertmanager, so that nobody has to learn others:
//!
//! | word | meaning |
//! | --- | --- |
//! | firing, resolved | it is so; it is no longer so |
//! | fingerprint | what tells alerts from one another: the rule and the labels, hashed |
//! | route | which alerts go to which receivers; the first that matches, and those after it where it says `continue` |
//! | group | alerts of one route that are alike in the labels of `group_by`: told together |
//! | inhibition | while a *source* fires, its *targets* are not told: a lost node explains its silent ranks |
//! | silence | for a while, what matches is not told |
//!
//! | file | what is in it |
//! | --- | --- |
//! | `fingerprint.rs` | one alert, and what tells it from others |
//! | `matcher.rs` | which alerts are meant |
//! | `mute.rs` | inhibition and silences |
//! | `group.rs` | when a group is told, and what |
//! | `alerts.rs` | all of them together |
//! | `settings.rs`, `defaults.toml` | the `[alerts]` section |
//!
//! ```
//! use piton::watch::alert::{Alerts, Settings, Why};
//! use piton::watch::{Action, Change, Finding, Labels, Severity};
//!
//! let mut alerts = Alerts::new(Settings::from_toml("[[alerts.receivers]]\nname = \"me\"\nmail = [\"me@site.org\"]\n")?);
//! let labels = Labels::from([("node".to_owned(), "n1".to_owned())]);
//! let lost = Finding {
//!     rule: "NodeLost".into(),
//!     severity: Severity::Critical,
//!     labels: labels.clone(),
//!     summary: "n1 is silent for 5 s".into(),
//!     action: Action::StopAttempt,
//!     lasts: None,
//! };
//! alerts.take(10.0, Change::Raised(lost));
//! let turn = alerts.advance(10.0);
//! assert_eq!(turn.actions[0].action, Action::StopAttempt);
//! assert_eq!((turn.notifications[0].why, &turn.notifications[0].receivers[..]), (Why::New, &["me".to_owned()][..]));
//! // Until something changes there is nothing to say.
//! assert!(alerts.advance(60.0).is_empty());
//! # Ok::<(), piton::watch::alert::SettingsError>(())
//! ```

mod alerts;
mod fingerprint;
mod group;
mod matcher;
mod mute;
mod settings;

pub use alerts::{Alerts, DueAction, OVERFLOW_RULE, Turn};
pub use fingerprint::{Alert, Fingerprint};
pub use group::{Notification, Times, Why};
pub use matcher::{Matcher, MatcherError};
pub use mute::{InhibitRule, Silence};
pub use settings::{Format, Receiver, Route, Section, Settings, SettingsError, Way};

#[cfg(test)]
mod tests;
