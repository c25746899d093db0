//! Telling people of alerts: by a command, a webhook, or mail.
//!
//! Comes in: notifications, as [`piton::watch::alert`] decides on them. Goes out: what each receiver wants to get; and, for the journal, what
//! came of it. What must hold: whoever hands in a notification never waits; each receiver has a thread and a short queue of its own,
//! so that one that hangs delays nobody else; every try ends in time, what it started with it; what finds no room is
//! counted, and said; text of an alert reaches a header, a shell or a terminal as text only; the secret part of an address is
//! never shown.
//!
//! | file | what is in it |
//! | --- | --- |
//! | `body.rs` | what is said, in each form |
//! | `command.rs` | a program gets it on standard input |
//! | `webhook.rs` | it is posted to an address |
//! | `mail.rs` | the site's `sendmail` gets it |

pub mod body;
mod command;
mod mail;
mod webhook;

use piton::journal::{Event, WallTime};
use piton::watch::alert::{Notification, Receiver, Settings, Way};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, SyncSender, TrySendError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Notifications that wait for a receiver.
const QUEUE_MOST: usize = 64;
/// Characters of what a receiver answers that are kept.
const ANSWER_LONGEST: usize = 500;

/// What came of telling a receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was told; whether only after so many tries, and what it said.
    Told {
        /// How often it was tried.
        tries: u32,
        /// What it said, shortened; empty where it said nothing.
        answer: String,
    },
    /// It was not told.
    Failed {
        /// Why.
        reason: String,
    },
    /// So many notifications were dropped before, since it was slower than they came.
    Dropped {
        /// How many.
        count: u64,
    },
}

/// Why a try came to nothing.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
enum DeliveryError {
    #[error("{program} cannot be started: {reason}")]
    Start { program: String, reason: String },
    #[error("{program} had not ended after {seconds} s, and was killed")]
    Late { program: String, seconds: f64 },
    #[error("{program} ended with {status}{}", said(.output))]
    Status { program: String, status: String, output: String },
    #[error("{place} cannot be reached: {reason}")]
    Unreachable { place: String, reason: String },
    #[error("{place} answered {status}{}", said(.body))]
    Refused { place: String, status: u16, body: String },
}

fn said(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(": {text}") }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Told { tries: 0 | 1, answer } => write!(f, "told{}", said(answer)),
            Self::Told { tries, answer } => write!(f, "told at the {tries}. try{}", said(answer)),
            Self::Failed { reason } => write!(f, "failed: {reason}"),
            Self::Dropped { count } => write!(f, "{count} notifications were dropped: it is slower than they come"),
        }
    }
}

/// A receiver was told, or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notified {
    /// Its name.
    pub receiver: String,
    /// The fingerprints of the alerts that it was told of.
    pub alerts: Vec<String>,
    /// What came of it.
    pub outcome: Outcome,
}

impl Notified {
    /// As the journal has it.
    #[must_use]
    pub fn event(&self) -> Event {
        let (receiver, alerts, outcome) = (self.receiver.clone(), self.alerts.clone(), self.outcome.to_string());
        Event::Notified { receiver, alerts, outcome }
    }
}

/// A notification with the time at which it was handed in.
#[derive(Debug, Clone)]
pub struct Letter {
    /// What to tell.
    pub notification: Notification,
    /// When, by the wall clock.
    pub at: WallTime,
}

impl Letter {
    /// The wall clock's time at `seconds` of the notification's clock.
    fn wall(&self, seconds: f64) -> WallTime {
        WallTime::from_unix_ms(self.at.unix_ms() + ((seconds - self.notification.at) * 1000.0) as i64)
    }
}

/// Called with what came of each notification, on the receivers' threads: it should not take long.
type Told = Arc<dyn Fn(Notified) + Send + Sync>;

struct Lane {
    queue: SyncSender<Arc<Letter>>,
    dropped: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

/// Tells receivers.
pub struct Notifier {
    lanes: BTreeMap<String, Lane>,
    dropped: AtomicU64,
}

impl fmt::Debug for Notifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notifier").field("receivers", &self.lanes.keys()).finish_non_exhaustive()
    }
}

impl Notifier {
    /// Starts a thread for each receiver. `told` hears what comes of each notification.
    ///
    /// # Errors
    /// Those of starting threads.
    pub fn start(settings: &Settings, told: impl Fn(Notified) + Send + Sync + 'static) -> io::Result<Self> {
        Self::with_pause(settings, told, Duration::from_secs(1))
    }

    /// The same with another pause before the second try of a webhook.
    ///
    /// # Errors
    /// Those of starting threads.
    pub fn with_pause(
        settings: &Settings,
        told: impl Fn(Notified) + Send + Sync + 'static,
        pause: Duration,
    ) -> io::Result<Self> {
        let told: Told = Arc::new(told);
        let mut lanes = BTreeMap::new();
        for receiver in &settings.receivers {
            let (queue, letters) = mpsc::sync_channel::<Arc<Letter>>(QUEUE_MOST);
            let dropped = Arc::new(AtomicU64::new(0));
            let (own, told, count) = (receiver.clone(), Arc::clone(&told), Arc::clone(&dropped));
            let mut post = Post::new(receiver, settings, pause);
            let thread = thread::Builder::new().name(format!("notify-{}", own.name)).spawn(move || {
                let say_dropped = || match count.swap(0, Ordering::Relaxed) {
                    0 => {}
                    count => {
                        let (receiver, alerts) = (own.name.clone(), Vec::new());
                        told(Notified { receiver, alerts, outcome: Outcome::Dropped { count } });
                    }
                };
                for letter in letters {
                    say_dropped();
                    if let Some(notified) = post.deliver(&own, &letter) {
                        told(notified);
                    }
                }
                say_dropped();
            })?;
            lanes.insert(receiver.name.clone(), Lane { queue, dropped, thread });
        }
        Ok(Self { lanes, dropped: AtomicU64::new(0) })
    }

    /// Hands in a notification for its receivers. Never waits.
    pub fn send(&self, notification: Notification) {
        let letter = Arc::new(Letter { notification, at: WallTime::now() });
        for lane in letter.notification.receivers.iter().filter_map(|name| self.lanes.get(name)) {
            if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = lane.queue.try_send(Arc::clone(&letter))
            {
                lane.dropped.fetch_add(1, Ordering::Relaxed);
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// How many notifications were dropped in all, counted once for each receiver.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Waits until everything is told, `within` at most; whether it is. Receivers that hang are left to themselves.
    pub fn finish(self, within: Duration) -> bool {
        let start = Instant::now();
        let threads: Vec<JoinHandle<()>> = self.lanes.into_values().map(|lane| lane.thread).collect();
        while start.elapsed() < within && !threads.iter().all(JoinHandle::is_finished) {
            thread::sleep(Duration::from_millis(2));
        }
        threads.iter().all(JoinHandle::is_finished)
    }
}

/// One receiver's way of being told, with what it keeps from one notification to the next.
struct Post {
    webhook: Option<webhook::Webhook>,
    sendmail: Vec<String>,
    external_url: String,
}

impl Post {
    fn new(receiver: &Receiver, settings: &Settings, pause: Duration) -> Self {
        let webhook = matches!(receiver.way, Way::Webhook { .. }).then(|| webhook::Webhook::new(receiver, pause));
        Self { webhook, sendmail: settings.sendmail.clone(), external_url: settings.external_url.clone() }
    }

    /// `None` where the receiver does not want to hear of it.
    fn deliver(&mut self, receiver: &Receiver, letter: &Letter) -> Option<Notified> {
        let mut letter = letter.clone();
        if !receiver.send_resolved {
            letter.notification.resolved.clear();
        }
        if letter.notification.firing.is_empty() && letter.notification.resolved.is_empty() {
            return None;
        }
        let limit = Duration::from_secs_f64(receiver.timeout);
        let result = match (&receiver.way, &self.webhook) {
            (Way::Command(words), _) => {
                let text = body::alertmanager(&letter, &receiver.name, &self.external_url).to_string();
                command::run(words, text.into_bytes(), &body::variables(&letter), limit).map(|answer| (1, answer))
            }
            (Way::Mail(addresses), _) => {
                let text = mail::message(addresses, &letter, &self.external_url);
                command::run(&self.sendmail, text.into_bytes(), &[], limit).map(|answer| (1, answer))
            }
            (Way::Webhook { format, .. }, Some(webhook)) => {
                let body = match format {
                    piton::watch::alert::Format::Alertmanager => {
                        body::alertmanager(&letter, &receiver.name, &self.external_url)
                    }
                    piton::watch::alert::Format::Plain => body::plain(&letter, &self.external_url),
                };
                webhook.post(&body).map(|tries| (tries, String::new()))
            }
            (Way::Webhook { .. }, None) => return None,
        };
        let outcome = match result {
            Ok((tries, answer)) => Outcome::Told { tries, answer },
            Err(error) => Outcome::Failed { reason: error.to_string() },
        };
        let told = letter.notification.firing.iter().chain(&letter.notification.resolved).take(body::ALERTS_MOST);
        let alerts = told.map(|alert| alert.fingerprint.to_string()).collect();
        Some(Notified { receiver: receiver.name.clone(), alerts, outcome })
    }
}

/// The start of what a receiver said, on one line.
fn shortened(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().filter(|c| !c.is_control()).take(ANSWER_LONGEST).collect()
}

#[cfg(test)]
mod tests;
