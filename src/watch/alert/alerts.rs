//! All alerts together: what fires, who is told, what is done.
//!
//! Comes in: changes, with their times. Goes out: turns of what is new. What must hold: time never runs backwards here, whatever the
//! caller says; no more alerts are kept than the settings allow, and what finds no room is counted, and said once; texts are
//! cut to bounds before they are kept, the same way each time, so that what was raised can be cleared.

use super::fingerprint::{Alert, Fingerprint};
use super::group::{Group, GroupKey, Notification, Why};
use super::matcher;
use super::mute::{self, Inhibited, Silence};
use super::settings::Settings;
use crate::journal::Event;
use crate::watch::{Action, Change, Finding, Labels, Severity};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// The rule of the alert that says that others found no room.
pub const OVERFLOW_RULE: &str = "TooManyAlerts";

/// Of this many alerts, the last tenth is for critical ones.
const FOR_CRITICAL: usize = 10;
/// Bounds of what is kept of a finding, in characters and labels.
const RULE_LONGEST: usize = 128;
const LABELS_MOST: usize = 32;
const LABEL_LONGEST: usize = 256;
const SUMMARY_LONGEST: usize = 1024;
/// Silences that are kept.
const SILENCES_MOST: usize = 1000;

/// Something must be done, once.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DueAction {
    /// What.
    pub action: Action,
    /// Because of this alert.
    pub alert: Alert,
}

/// What is new since the last one.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Turn {
    /// Alerts that began to fire, in the order in which they did.
    pub firing: Vec<Alert>,
    /// Alerts that are over, in the order in which they ended; each was among those that fire before.
    pub resolved: Vec<Alert>,
    /// What must be done; each action of an alert comes due once from when it fires until it is over.
    pub actions: Vec<DueAction>,
    /// Whom to tell what.
    pub notifications: Vec<Notification>,
}

impl Turn {
    /// Whether nothing is new.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self == &Self::default()
    }

    /// What the journal should hold of it, in order.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        let firing = self.firing.iter().map(|alert| Event::AlertFiring {
            fingerprint: alert.fingerprint.to_string(),
            rule: alert.finding.rule.clone(),
            severity: matcher::severity(alert.finding.severity).to_owned(),
            labels: alert.finding.labels.clone(),
            summary: alert.finding.summary.clone(),
            action: matcher::action(alert.finding.action).to_owned(),
        });
        let resolved = self.resolved.iter().map(|alert| Event::AlertResolved {
            fingerprint: alert.fingerprint.to_string(),
            rule: alert.finding.rule.clone(),
            labels: alert.finding.labels.clone(),
            seconds: alert.seconds(alert.seen),
        });
        firing.chain(resolved).collect()
    }
}

#[derive(Debug)]
struct Kept {
    alert: Alert,
    inhibited: Inhibited,
    /// What came due since it fires.
    acted: Vec<Action>,
    /// It is new or worse since this time, and its groups don't know yet.
    news: Option<f64>,
    groups: Vec<GroupKey>,
}

/// Everything that is wrong at present, and who knows of it.
///
/// Whoever uses it calls [`Self::take`] with whatever is found, and [`Self::advance`] at least as often as [`Self::next`] says, once a
/// second, say. Both cost time in proportion to the number of alerts at most.
#[derive(Debug)]
pub struct Alerts {
    settings: Settings,
    labels: Labels,
    kept: BTreeMap<Fingerprint, Kept>,
    groups: BTreeMap<GroupKey, Group>,
    silences: BTreeMap<u64, Silence>,
    silenced: u64,
    now: f64,
    /// Whether what is inhibited must be found anew.
    changed: bool,
    left_out: u64,
    /// Of how many of them is known; the most there is while the alert fires that says so.
    said_out: u64,
    turn: Turn,
}

impl Alerts {
    /// No alerts yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            labels: Labels::new(),
            kept: BTreeMap::new(),
            groups: BTreeMap::new(),
            silences: BTreeMap::new(),
            silenced: 0,
            now: f64::NEG_INFINITY,
            changed: false,
            left_out: 0,
            said_out: 0,
            turn: Turn::default(),
        }
    }

    /// Labels that every alert gets unless it has its own: `job`, `cluster`.
    #[must_use]
    pub fn with_labels(mut self, labels: Labels) -> Self {
        self.labels = labels;
        self
    }

    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Takes in what was found at `now`, in seconds of the caller's clock.
    pub fn take(&mut self, now: f64, change: Change) {
        let now = self.clock(now);
        match change {
            Change::Raised(finding) => {
                let finding = self.bounded(finding);
                self.raise(now, finding);
            }
            Change::Cleared { rule, labels } => {
                let labels = self.bounded_labels(labels);
                self.end(Fingerprint::of(&cut(&rule, RULE_LONGEST), &labels), now);
            }
        }
    }

    /// What is new at `now`, in seconds of the caller's clock.
    pub fn advance(&mut self, now: f64) -> Turn {
        let now = self.clock(now);
        let expired: Vec<(Fingerprint, f64)> = self.kept.values().filter_map(|kept| expiry(kept, now)).collect();
        for (fingerprint, at) in expired {
            self.end(fingerprint, at);
        }
        self.overflow(now);
        self.inhibit(now);
        self.act();
        self.tell(now);
        self.turn.resolved.sort_by(|a, b| a.ended.unwrap_or(now).total_cmp(&b.ended.unwrap_or(now)));
        std::mem::take(&mut self.turn)
    }

    /// When [`Self::advance`] has something to do at the latest if nothing else is found; `None`: never.
    #[must_use]
    pub fn next(&self) -> Option<f64> {
        let lasts = |kept: &Kept| Some(kept.alert.seen + kept.alert.finding.lasts?).filter(|_| kept.alert.fires());
        let expiries = self.kept.values().filter_map(lasts);
        let waiting = (self.changed || !self.turn.is_empty()).then_some(self.now);
        expiries.chain(self.groups.values().filter_map(|group| group.due)).chain(waiting).min_by(f64::total_cmp)
    }

    /// What fires at present, in no order that matters.
    pub fn firing(&self) -> impl Iterator<Item = &Alert> {
        self.kept.values().map(|kept| &kept.alert).filter(|alert| alert.fires())
    }

    /// Whether an alert is told to nobody at present, since another explains it or it is silenced.
    #[must_use]
    pub fn is_muted(&self, fingerprint: Fingerprint) -> bool {
        self.kept.get(&fingerprint).is_some_and(|kept| kept.inhibited.told || self.is_silenced(&kept.alert))
    }

    /// How many findings found no room in all.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Adds a silence and gives its number; of more than a thousand the oldest is dropped.
    pub fn silence(&mut self, silence: Silence) -> u64 {
        self.silenced += 1;
        self.silences.insert(self.silenced, silence);
        while self.silences.len() > SILENCES_MOST {
            self.silences.pop_first();
        }
        self.silenced
    }

    /// Takes a silence back; whether there was one of this number. What it covered is told when its group is looked at next.
    pub fn unsilence(&mut self, number: u64) -> bool {
        self.silences.remove(&number).is_some()
    }

    /// The silences in force or to come, with their numbers.
    pub fn silences(&self) -> impl Iterator<Item = (u64, &Silence)> {
        self.silences.iter().map(|(number, silence)| (*number, silence))
    }

    fn clock(&mut self, now: f64) -> f64 {
        // Not `max` of both: nothing has a time before the first call.
        if now.is_finite() && now > self.now {
            self.now = now;
        }
        if self.now.is_finite() { self.now } else { 0.0 }
    }

    fn is_silenced(&self, alert: &Alert) -> bool {
        self.silences.values().any(|silence| silence.covers(alert, self.now))
    }

    fn bounded_labels(&self, labels: Labels) -> Labels {
        let cut = |(label, value): (String, String)| (cut(&label, LABEL_LONGEST), cut(&value, LABEL_LONGEST));
        let mut bounded: Labels = labels.into_iter().take(LABELS_MOST).map(cut).collect();
        for (label, value) in &self.labels {
            bounded.entry(label.clone()).or_insert_with(|| value.clone());
        }
        // Without a value it is as good as absent, as in Prometheus.
        bounded.retain(|_, value| !value.is_empty());
        bounded
    }

    fn bounded(&self, finding: Finding) -> Finding {
        Finding {
            rule: cut(&finding.rule, RULE_LONGEST),
            labels: self.bounded_labels(finding.labels),
            summary: cut(&finding.summary, SUMMARY_LONGEST),
            lasts: finding.lasts.filter(|lasts| lasts.is_finite()).map(|lasts| lasts.max(0.0)),
            ..finding
        }
    }

    fn raise(&mut self, now: f64, finding: Finding) {
        let fingerprint = Fingerprint::of(&finding.rule, &finding.labels);
        // What was over by itself before it was found again is another firing of it.
        if let Some((_, at)) = self.kept.get(&fingerprint).and_then(|kept| expiry(kept, now)) {
            self.end(fingerprint, at);
        }
        if !self.kept.contains_key(&fingerprint) && !self.has_room(&finding) {
            self.left_out += 1;
            self.changed = true;
            return;
        }
        let groups = self.settings.groups(&finding);
        let kept = self.kept.entry(fingerprint).or_insert_with(|| Kept {
            alert: Alert { fingerprint, finding: finding.clone(), since: now, seen: now, ended: Some(now), times: 0 },
            inhibited: Inhibited::default(),
            acted: Vec::new(),
            news: None,
            groups: Vec::new(),
        });
        let begins = !kept.alert.fires();
        let told_of = |finding: &Finding| (finding.severity, finding.action);
        let differs = told_of(&kept.alert.finding) != told_of(&finding);
        if begins {
            kept.alert = Alert { fingerprint, finding, since: now, seen: now, ended: None, times: 1 };
            kept.acted.clear();
            self.turn.firing.push(kept.alert.clone());
        } else {
            kept.alert.finding = finding;
            kept.alert.seen = now;
            kept.alert.times = kept.alert.times.saturating_add(1);
        }
        if begins || differs {
            self.changed = true;
            kept.news = Some(now);
            // One that gets worse may go to others as well; those who know of it are still told when it is over.
            for key in groups {
                if !kept.groups.contains(&key) {
                    kept.groups.push(key);
                }
            }
            for key in &kept.groups {
                self.groups.entry(key.clone()).or_default().members.insert(fingerprint);
            }
        }
    }

    fn has_room(&self, finding: &Finding) -> bool {
        let most = self.settings.limit;
        let room = if finding.severity == Severity::Critical { most } else { most - most / FOR_CRITICAL };
        self.kept.len() < room || finding.rule == OVERFLOW_RULE
    }

    fn end(&mut self, fingerprint: Fingerprint, at: f64) {
        let Some(kept) = self.kept.get_mut(&fingerprint).filter(|kept| kept.alert.fires()) else { return };
        kept.alert.ended = Some(at.max(kept.alert.since));
        kept.news = None;
        self.changed = true;
        self.turn.resolved.push(kept.alert.clone());
        self.forget(fingerprint);
    }

    /// An alert that is over leaves the groups that were not told of it, and goes when it is in none.
    fn forget(&mut self, fingerprint: Fingerprint) {
        let Some(kept) = self.kept.get_mut(&fingerprint).filter(|kept| !kept.alert.fires()) else { return };
        kept.groups.retain(|key| {
            let Some(group) = self.groups.get_mut(key) else { return false };
            let stays = group.was_told(fingerprint);
            if !stays {
                group.members.remove(&fingerprint);
                if group.members.is_empty() {
                    self.groups.remove(key);
                }
            }
            stays
        });
        if kept.groups.is_empty() {
            self.kept.remove(&fingerprint);
        }
    }

    /// Says once that findings found no room, and takes it back when half of it is free again.
    fn overflow(&mut self, now: f64) {
        let most = self.settings.limit;
        let labels = self.bounded_labels(Labels::new());
        if self.left_out > self.said_out {
            // What is left out meanwhile is no news.
            self.said_out = u64::MAX;
            let summary = format!("{most} alerts are kept already: further findings are counted, not told");
            let (rule, severity) = (OVERFLOW_RULE.to_owned(), Severity::Warning);
            self.raise(now, Finding { rule, severity, labels, summary, action: Action::Nothing, lasts: None });
        } else if self.said_out == u64::MAX && self.kept.len() <= most / 2 {
            self.said_out = self.left_out;
            self.end(Fingerprint::of(OVERFLOW_RULE, &labels), now);
        }
    }

    fn inhibit(&mut self, now: f64) {
        if !std::mem::take(&mut self.changed) {
            return;
        }
        let firing = self.kept.values().map(|kept| &kept.alert).filter(|alert| alert.fires());
        let inhibited = mute::inhibited(&self.settings.inhibit, firing);
        for (fingerprint, kept) in &mut self.kept {
            let before =
                std::mem::replace(&mut kept.inhibited, inhibited.get(fingerprint).copied().unwrap_or_default());
            if !kept.alert.fires() || kept.inhibited.told {
                continue;
            }
            let news = if before.told { Some(now) } else { kept.news.take() };
            kept.news = None;
            for key in news.iter().flat_map(|_| &kept.groups) {
                if let Some(group) = self.groups.get_mut(key) {
                    let times = self.settings.times_of(key.route);
                    group.hasten(*fingerprint, kept.alert.finding.severity, &times, news.unwrap_or(now));
                }
            }
        }
    }

    fn act(&mut self) {
        for kept in self.kept.values_mut() {
            let action = kept.alert.finding.action;
            if kept.alert.fires()
                && action != Action::Nothing
                && !kept.inhibited.action
                && !kept.acted.contains(&action)
            {
                kept.acted.push(action);
                self.turn.actions.push(DueAction { action, alert: kept.alert.clone() });
            }
        }
    }

    fn tell(&mut self, now: f64) {
        self.silences.retain(|_, silence| !silence.is_over(now));
        let due: Vec<GroupKey> = self
            .groups
            .iter()
            .filter(|(_, group)| group.due.is_some_and(|due| due <= now))
            .map(|(key, _)| key.clone())
            .collect();
        for key in due {
            let Some(mut group) = self.groups.remove(&key) else { continue };
            let mut audible = BTreeMap::new();
            let mut over = BTreeSet::new();
            for fingerprint in &group.members {
                let Some(kept) = self.kept.get(fingerprint) else { continue };
                if !kept.alert.fires() {
                    over.insert(*fingerprint);
                } else if !kept.inhibited.told && !self.is_silenced(&kept.alert) {
                    audible.insert(*fingerprint, kept.alert.finding.severity);
                }
            }
            let said = group.look(&audible, &over, &self.settings.times_of(key.route), now);
            self.groups.insert(key.clone(), group);
            if let Some(said) = said {
                let alerts = |of: &[Fingerprint]| {
                    of.iter().filter_map(|of| Some(self.kept.get(of)?.alert.clone())).collect::<Vec<Alert>>()
                };
                let mut firing = alerts(&said.firing);
                firing.sort_by(|a, b| a.since.total_cmp(&b.since).then_with(|| a.labels().cmp(b.labels())));
                let mut resolved = alerts(&said.resolved);
                resolved.sort_by(|a, b| a.ended.unwrap_or(now).total_cmp(&b.ended.unwrap_or(now)));
                self.notify(now, &key, said.why, firing, resolved);
            }
            for fingerprint in over {
                self.forget(fingerprint);
            }
        }
    }

    fn notify(&mut self, at: f64, key: &GroupKey, why: Why, firing: Vec<Alert>, resolved: Vec<Alert>) {
        let receivers = self.settings.receivers_of(key.route);
        if !receivers.is_empty() {
            let (name, group) = (self.settings.group_name(key), key.labels.clone());
            self.turn.notifications.push(Notification { at, why, receivers, key: name, group, firing, resolved });
        }
    }
}

/// The alert and the time at which it was over by itself, where that is before `now`.
fn expiry(kept: &Kept, now: f64) -> Option<(Fingerprint, f64)> {
    let at = kept.alert.seen + kept.alert.finding.lasts?;
    (kept.alert.fires() && at <= now).then_some((kept.alert.fingerprint, at))
}

/// The first `most` characters.
fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => text[..end].to_owned(),
        None => text.to_owned(),
    }
}
