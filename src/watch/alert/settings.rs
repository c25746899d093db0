//! The `[alerts]` section of a rule file.
//!
//! Comes in: TOML. Goes out: receivers, routes, inhibit rules and times that make sense together. What must hold: what is unknown or
//! can't be meant is refused, naming the key; nothing in it can reach a header of a mail, a shell or a terminal as anything but
//! text; without a file the defaults hold, which are those of `defaults.toml`.

use super::group::{GroupKey, Times};
use super::matcher::{self, Matcher};
use super::mute::InhibitRule;
use crate::config::{line_at, parse_time};
use crate::watch::{Finding, Labels};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeSet;

const DEFAULTS: &str = include_str!("defaults.toml");

/// The name that stands for all receivers.
const EVERYBODY: &str = "*";
/// More of any of them are not meant.
const ENTRIES_MOST: usize = 100;
const LONGEST_TIME: f64 = 365.0 * 86_400.0;
/// As long as an address can be (RFC 5321, section 4.5.3.1.3).
const MAIL_LONGEST: usize = 254;
const URL_LONGEST: usize = 2048;
/// How long a receiver may take unless its settings say.
const TIMEOUT: f64 = 10.0;

/// What is wrong with the `[alerts]` section of a rule file. Whoever read the file knows its name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// It is not TOML, or has keys that are not known, or of another type.
    #[error("line {line}: {message}")]
    Syntax {
        /// Counted from 1.
        line: usize,
        /// What the parser says.
        message: String,
    },
    /// A value that a key does not take.
    #[error("`{key}` cannot be {value:?}: {expected}")]
    Invalid {
        /// The key, with the name or place of what it belongs to.
        key: String,
        /// The value, shortened.
        value: String,
        /// What is expected.
        expected: &'static str,
    },
}

/// How a webhook wants to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// As Prometheus's Alertmanager does, version 4 of its webhook.
    #[default]
    Alertmanager,
    /// `{"text": …}`, as chat services take it.
    Plain,
}

/// How a receiver is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// A program and its arguments, started without a shell; it gets JSON on standard input.
    Command(Vec<String>),
    /// An address that is posted to.
    Webhook {
        /// The address.
        url: String,
        /// What is posted.
        format: Format,
    },
    /// Addresses that get a mail.
    Mail(Vec<String>),
}

/// Whom to tell, and how.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Receiver {
    /// What routes call it.
    pub name: String,
    /// How it is told.
    pub way: Way,
    /// How long one try may take, seconds.
    pub timeout: f64,
    /// Whether it is told what is over.
    pub send_resolved: bool,
}

impl Receiver {
    /// Where it is, for people: of an address only the host, since chat services have their secret in the path.
    ///
    /// ```
    /// use piton::watch::alert::Settings;
    /// let text = "[[alerts.receivers]]\nname = \"chat\"\nwebhook = \"https://user:word@chat.site.org/secret\"\n";
    /// assert_eq!(Settings::from_toml(text)?.receivers[0].place(), "webhook https://chat.site.org/…");
    /// # Ok::<(), piton::watch::alert::SettingsError>(())
    /// ```
    #[must_use]
    pub fn place(&self) -> String {
        match &self.way {
            Way::Command(words) => format!("command {}", words.first().map_or("", String::as_str)),
            Way::Webhook { url, .. } => {
                let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
                let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
                let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
                format!("webhook {scheme}://{host}/…")
            }
            Way::Mail(addresses) => format!("mail to {}", addresses.join(", ")),
        }
    }
}

/// Which alerts go to which receivers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Route {
    /// All of these must match.
    pub matchers: Vec<Matcher>,
    /// The receivers' names.
    pub receivers: Vec<String>,
    /// The labels of which alerts are told together if they have the same.
    pub group_by: Vec<String>,
    /// How long its groups wait.
    pub times: Times,
    /// Whether routes after it are looked at, too, where it matches.
    pub go_on: bool,
}

/// How alerts are told, checked.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Settings {
    /// Whom to tell.
    pub receivers: Vec<Receiver>,
    /// Which alerts go to which of them: by the first that matches.
    pub routes: Vec<Route>,
    /// Which alerts explain which.
    pub inhibit: Vec<InhibitRule>,
    /// How many alerts are kept at the most.
    pub limit: usize,
    /// A page about the job; may be empty.
    pub external_url: String,
    /// The program that sends mails, and its arguments.
    pub sendmail: Vec<String>,
}

/// The `[alerts]` section as it stands in a file.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Section {
    limit: Option<usize>,
    group_by: Option<Vec<String>>,
    group_wait: Option<Seconds>,
    group_wait_critical: Option<Seconds>,
    group_interval: Option<Seconds>,
    group_interval_critical: Option<Seconds>,
    repeat_interval: Option<Seconds>,
    external_url: Option<String>,
    sendmail: Option<Vec<String>>,
    inhibit_defaults: Option<bool>,
    receivers: Vec<ReceiverEntry>,
    routes: Vec<RouteEntry>,
    inhibit: Vec<InhibitRule>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReceiverEntry {
    name: String,
    command: Option<Vec<String>>,
    webhook: Option<String>,
    format: Option<Format>,
    mail: Option<Vec<String>>,
    timeout: Option<Seconds>,
    send_resolved: Option<bool>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct RouteEntry {
    #[serde(default, rename = "match")]
    matchers: Vec<Matcher>,
    receivers: Vec<String>,
    group_by: Option<Vec<String>>,
    group_wait: Option<Seconds>,
    group_wait_critical: Option<Seconds>,
    group_interval: Option<Seconds>,
    group_interval_critical: Option<Seconds>,
    repeat_interval: Option<Seconds>,
    #[serde(default, rename = "continue")]
    go_on: bool,
}

/// A time in a file: `30s`, `5min`.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Seconds(f64);

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let time = parse_time(&text).map_err(serde::de::Error::custom)?.as_secs_f64();
        if time > LONGEST_TIME {
            return Err(serde::de::Error::custom("at most 365d"));
        }
        Ok(Self(time))
    }
}

/// The section of a file; other sections are others' business.
#[derive(Deserialize)]
struct File {
    #[serde(default)]
    alerts: Section,
}

fn read(text: &str) -> Result<Section, SettingsError> {
    toml::from_str(text).map(|File { alerts }| alerts).map_err(|error| {
        let line = line_at(text, error.span().map_or(0, |span| span.start));
        SettingsError::Syntax { line, message: error.message().to_owned() }
    })
}

fn invalid<T>(key: impl Into<String>, value: &str, expected: &'static str) -> Result<T, SettingsError> {
    Err(SettingsError::Invalid { key: key.into(), value: value.chars().take(80).collect(), expected })
}

fn is_address(text: &str) -> bool {
    let allowed = |c: char| {
        c.is_ascii_graphic() && !matches!(c, ',' | ';' | ':' | '<' | '>' | '(' | ')' | '[' | ']' | '"' | '\\')
    };
    let (local, domain) = text.split_once('@').unwrap_or_default();
    text.len() <= MAIL_LONGEST
        && text.chars().all(allowed)
        && !local.is_empty()
        && !domain.is_empty()
        && !domain.contains('@')
        && !text.starts_with('-')
}

fn is_url(text: &str) -> bool {
    let host = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    host.is_some_and(|host| !host.is_empty() && !host.starts_with(['/', '?', '#']))
        && text.len() <= URL_LONGEST
        && text.chars().all(|c| c.is_ascii_graphic())
}

fn is_name(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !text.is_empty() && text.len() <= 64 && text.chars().all(allowed)
}

fn check_words(key: String, words: &[String]) -> Result<(), SettingsError> {
    if words.first().is_none_or(String::is_empty) {
        return invalid(key, "", "a program and its arguments, as in [\"/usr/bin/page\", \"--now\"]");
    }
    match words.iter().find(|word| word.contains('\0')) {
        Some(word) => invalid(key, word, "no word may hold a null character"),
        None => Ok(()),
    }
}

fn check_labels(key: impl Fn() -> String, labels: &[String]) -> Result<(), SettingsError> {
    match labels.iter().find(|label| !matcher::is_label(label)) {
        Some(label) => invalid(key(), label, "labels have letters, digits and underscores"),
        None => Ok(()),
    }
}

fn receiver(entry: ReceiverEntry) -> Result<Receiver, SettingsError> {
    let ReceiverEntry { name, command, webhook, format, mail, timeout, send_resolved } = entry;
    if !is_name(&name) {
        return invalid("receivers.name", &name, "up to 64 letters, digits, `-`, `_` and `.`");
    }
    let key = |key: &str| format!("receivers.{name}.{key}");
    let way = match (command, webhook, mail) {
        (Some(words), None, None) => {
            check_words(key("command"), &words)?;
            Way::Command(words)
        }
        (None, Some(url), None) if is_url(&url) => Way::Webhook { url, format: format.unwrap_or_default() },
        (None, Some(url), None) => {
            return invalid(key("webhook"), &url, "an address that begins with http:// or https://");
        }
        (None, None, Some(addresses)) => {
            if addresses.is_empty() || addresses.len() > ENTRIES_MOST {
                return invalid(key("mail"), "", "1 to 100 addresses");
            }
            if let Some(wrong) = addresses.iter().find(|address| !is_address(address)) {
                return invalid(key("mail"), wrong, "an address alone, as in name@site.org");
            }
            Way::Mail(addresses)
        }
        _ => return invalid(format!("receivers.{name}"), "", "it has one of `command`, `webhook` and `mail`"),
    };
    if format.is_some() && !matches!(way, Way::Webhook { .. }) {
        return invalid(key("format"), "", "only a webhook has one");
    }
    let timeout = timeout.map_or(TIMEOUT, |Seconds(seconds)| seconds);
    if !(0.1..=600.0).contains(&timeout) {
        return invalid(key("timeout"), &format!("{timeout}s"), "100ms to 10min");
    }
    Ok(Receiver { name, way, timeout, send_resolved: send_resolved.unwrap_or(true) })
}

impl Section {
    /// What holds if this is what the file says.
    ///
    /// # Errors
    /// [`SettingsError::Invalid`].
    pub fn settings(self) -> Result<Settings, SettingsError> {
        let defaults = read(DEFAULTS)?;
        for (key, count) in
            [("receivers", self.receivers.len()), ("routes", self.routes.len()), ("inhibit", self.inhibit.len())]
        {
            if count > ENTRIES_MOST {
                return invalid(key, &count.to_string(), "at most 100 of them");
            }
        }
        let limit = self.limit.or(defaults.limit).unwrap_or(0);
        if !(10..=1_000_000).contains(&limit) {
            return invalid("limit", &limit.to_string(), "10 to 1000000");
        }
        let external_url = self.external_url.or(defaults.external_url).unwrap_or_default();
        if !external_url.is_empty() && !is_url(&external_url) {
            return invalid("external_url", &external_url, "an address that begins with http:// or https://");
        }
        let sendmail = self.sendmail.or(defaults.sendmail).unwrap_or_default();
        check_words("sendmail".to_owned(), &sendmail)?;
        let mut receivers: Vec<Receiver> = Vec::new();
        for entry in self.receivers {
            let receiver = receiver(entry)?;
            if receivers.iter().any(|other| other.name == receiver.name) {
                return invalid("receivers.name", &receiver.name, "another receiver has that name");
            }
            receivers.push(receiver);
        }
        let group_by = self.group_by.or(defaults.group_by).unwrap_or_default();
        let seconds = |own: Option<Seconds>, default: Option<Seconds>| own.or(default).unwrap_or(Seconds(0.0)).0;
        let times = Times {
            wait: seconds(self.group_wait, defaults.group_wait),
            wait_critical: seconds(self.group_wait_critical, defaults.group_wait_critical),
            interval: seconds(self.group_interval, defaults.group_interval),
            interval_critical: seconds(self.group_interval_critical, defaults.group_interval_critical),
            repeat: seconds(self.repeat_interval, defaults.repeat_interval),
        };
        let entries = if self.routes.is_empty() { defaults.routes } else { self.routes };
        let routes =
            entries.into_iter().enumerate().map(|(place, entry)| route(place + 1, entry, &receivers, &group_by, times));
        let routes = routes.collect::<Result<Vec<Route>, SettingsError>>()?;
        let keep = self.inhibit_defaults.or(defaults.inhibit_defaults).unwrap_or(true);
        let mut inhibit = if keep { defaults.inhibit } else { Vec::new() };
        for (place, rule) in self.inhibit.iter().enumerate() {
            let key = |key: &str| format!("inhibit.{}.{key}", place + 1);
            check_labels(|| key("equal"), &rule.equal)?;
            if rule.source.is_empty() || rule.target.is_empty() {
                return invalid(
                    key("source"),
                    "",
                    "both `source` and `target` have conditions, as in [\"rule=NodeLost\"]",
                );
            }
        }
        inhibit.extend(self.inhibit);
        Ok(Settings { receivers, routes, inhibit, limit, external_url, sendmail })
    }
}

fn route(
    place: usize,
    entry: RouteEntry,
    receivers: &[Receiver],
    group_by: &[String],
    times: Times,
) -> Result<Route, SettingsError> {
    let key = |key: &str| format!("routes.{place}.{key}");
    let mut names = BTreeSet::new();
    for name in &entry.receivers {
        if name == EVERYBODY {
            names.extend(receivers.iter().map(|receiver| receiver.name.clone()));
        } else if receivers.iter().any(|receiver| receiver.name == *name) {
            names.insert(name.clone());
        } else {
            return invalid(key("receivers"), name, "the name of a receiver, or `*` for all");
        }
    }
    let group_by = entry.group_by.unwrap_or_else(|| group_by.to_vec());
    check_labels(|| key("group_by"), &group_by)?;
    let or = |own: Option<Seconds>, outer: f64| own.map_or(outer, |Seconds(seconds)| seconds);
    let times = Times {
        wait: or(entry.group_wait, times.wait),
        wait_critical: or(entry.group_wait_critical, times.wait_critical),
        interval: or(entry.group_interval, times.interval),
        interval_critical: or(entry.group_interval_critical, times.interval_critical),
        repeat: or(entry.repeat_interval, times.repeat),
    };
    // Less would tell over and over what is known.
    for (name, value, least) in [
        ("group_interval", times.interval, 1.0),
        ("group_interval_critical", times.interval_critical, 0.0),
        ("repeat_interval", times.repeat, 60.0),
    ] {
        if value < least {
            return invalid(key(name), &format!("{value}s"), "group_interval is 1s at the least, repeat_interval 1min");
        }
    }
    Ok(Route { matchers: entry.matchers, receivers: names.into_iter().collect(), group_by, times, go_on: entry.go_on })
}

impl Settings {
    /// What holds without a rule file: alerts are kept and written to the journal, and nobody is told.
    #[must_use]
    pub fn defaults() -> Self {
        Section::default().settings().expect("the defaults are checked by a test")
    }

    /// The text of the defaults, with comments, as a start for a rule file.
    #[must_use]
    pub const fn defaults_toml() -> &'static str {
        DEFAULTS
    }

    /// What holds with the rule file `text`, of which only `[alerts]` is looked at.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn from_toml(text: &str) -> Result<Self, SettingsError> {
        read(text)?.settings()
    }

    /// The receiver of this name.
    #[must_use]
    pub fn receiver(&self, name: &str) -> Option<&Receiver> {
        self.receivers.iter().find(|receiver| receiver.name == name)
    }

    /// The groups that an alert belongs to: one of each route that it takes.
    pub(super) fn groups(&self, finding: &Finding) -> Vec<GroupKey> {
        let mut groups = Vec::new();
        for (place, route) in self.routes.iter().enumerate() {
            if !route.matchers.iter().all(|matcher| matcher.matches(finding)) {
                continue;
            }
            let labels = route.group_by.iter().map(|label| (label.clone(), matcher::value(finding, label).to_owned()));
            groups.push(GroupKey {
                route: place,
                labels: labels.filter(|(_, value)| !value.is_empty()).collect::<Labels>(),
            });
            if !route.go_on {
                break;
            }
        }
        groups
    }

    pub(super) fn times_of(&self, route: usize) -> Times {
        self.routes[route].times
    }

    pub(super) fn receivers_of(&self, route: usize) -> Vec<String> {
        self.routes[route].receivers.clone()
    }

    /// As Alertmanager names groups: the route's conditions, and the labels.
    pub(super) fn group_name(&self, key: &GroupKey) -> String {
        let matchers: Vec<String> = self.routes[key.route].matchers.iter().map(ToString::to_string).collect();
        let labels: Vec<String> = key.labels.iter().map(|(label, value)| format!("{label}={value:?}")).collect();
        format!("{{}}/{{{}}}:{{{}}}", matchers.join(","), labels.join(","))
    }
}
