//! Limits that a series's own past sets.
//!
//! Comes in: the values of one series with their times. Goes out: whether the series is away from where it was, and by how much. What must
//! hold: a series raises no more false alarms than it may, whatever its distribution and however slowly it wanders; what has no scale
//! yet (too few values, never a change) raises none; nothing alarms for ever.
//!
//! 1. *Persistence*: what is compared is the median of the last minute (5 to 13 values), so that fewer than half of them may be anything
//!    at all; a change is seen once it has lasted half of that.
//! 2. *Two references*: the mean of about an hour, for changes of series that scatter, and the median a minute earlier, for jumps of
//!    series that wander by more than the jump in an hour, whether by autocorrelation or by the time of day.
//! 3. *A spread that is measured, not derived*: σ² is the mean square of the very deviation that is judged, remembered for half a day.
//!    Whatever autocorrelation does to a median, or a daily cycle to a mean that lags behind it, is in it.
//! 4. *k for the rate of false alarms*, from Student's t with as many degrees of freedom as independent deviations were seen: n values
//!    in windows of w with autocorrelation ρ from one window to the next count as n/w · (1 − ρ²)/(1 + ρ²) (M. S. Bartlett, *On the theoretical
//!    specification and sampling properties of autocorrelated time-series*, 1946). A young or slow series needs more to be believed.
//! 5. *The shape as it was seen*: k is no less than that of a Student's t with the same kurtosis, more by (k² − 1)γ/6 where the medians are
//!    skewed by γ (the first term of E. A. Cornish, R. A. Fisher, *Moments and cumulants in the specification of distributions*, 1938),
//!    and no less than what the series's own excursions ask for ([`Tail`]).
//! 6. *Logarithms* where they make the medians less skewed, as of latencies; they change nothing in which value is the median.
//!
//! While it alarms, nothing is learnt, so that a fault does not become normal; it ends when the deviation has been below k/2 for twice as
//! long as it takes to see one. After `relearn` the new level is taken for normal all the same, and learnt from the beginning: a job may
//! change for good (another phase, another neighbour), nobody reads an alarm that never ends, and 4 hours are as long as alert managers
//! wait before they repeat one, so that it was told twice.

use super::false_alarms::{Tail, probability, student_k};
use super::statistics::{Autocorrelation, Moments, Moving, WINDOW_MOST, Window, share};

/// Which way from normal is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// More than normal.
    Above,
    /// Less than normal.
    Below,
    /// Either.
    #[default]
    Both,
}

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// Logarithms where they are less skewed and all values are positive, the values themselves elsewhere.
    #[default]
    Auto,
    /// The values themselves.
    Linear,
    /// Logarithms; values that are not positive are left out.
    Log,
}

/// How much is too much.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Tolerance {
    /// So many false alarms a day, of all series of the rule on one node together.
    FalseAlarms(f64),
    /// So many standard deviations of a minute's median.
    Deviations(f64),
}

/// What an adaptive limit does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adaptive {
    /// How much is too much.
    pub tolerance: Tolerance,
    /// Which way is wrong.
    pub direction: Direction,
    /// What is compared.
    pub scale: Scale,
    /// A standard deviation less than this, in the series's unit, counts as this. One less than 2 % of the level counts as that.
    pub least_spread: f64,
    /// After how many seconds of alarm the new level is taken for normal.
    pub relearn: f64,
}

/// Alarms whose end nobody cared to set.
pub const RELEARN_DEFAULT: f64 = 4.0 * 3600.0;

/// What is compared spans about as many seconds.
const WINDOW_SECONDS: f64 = 60.0;
const WINDOW_LEAST: usize = 5;
const WINDOW_USUAL: usize = 13;
/// How long the slow reference remembers, seconds.
const LEVEL_MEMORY: f64 = 3600.0;
/// How long the spread does: long beside the level, so that it covers what the level follows.
const SPREAD_MEMORY: f64 = 12.0 * 3600.0;
/// Before so many values and windows nothing is judged.
const WARM_UP: f64 = 30.0;
const WARM_UP_WINDOWS: f64 = 10.0;
/// More degrees of freedom are never believed in: correlation that is longer than the measured one shows late.
const FREEDOM_MOST: f64 = 60.0;
/// The least spread, as a share of the level.
const SPREAD_SHARE: f64 = 0.02;
/// Skewness of the medians from which logarithms are tried, and which part of it they must leave at the most.
const SKEWED: f64 = 0.4;
const SKEW_LEFT: f64 = 0.6;
/// How far beyond k an excursion counts for the tail.
const TAIL_COUNTS: f64 = 2.0;

/// What the newest value of a series means.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verdict {
    /// The median of the last minute.
    pub value: f64,
    /// What was expected.
    pub expected: f64,
    /// Beyond which value it is too far from that.
    pub limit: f64,
    /// How far it is from what was expected, in standard deviations.
    pub score: f64,
    /// From which score on it is too far.
    pub k: f64,
    /// Whether it is, or was and has not come back.
    pub alarming: bool,
}

/// The deviations from one reference.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Channel {
    moments: Moments,
    correlation: Autocorrelation,
    tail: Tail,
    // Student's k for what is below and above, of which degrees of freedom, shape, probability and skewness it is; and with the tail.
    student: [f64; 2],
    student_of: [f64; 5],
    k: [f64; 2],
}

impl Channel {
    fn add(&mut self, off: f64, share: f64, window_ends: bool) {
        self.moments.add(off, share);
        if window_ends {
            self.correlation.add(off, 0.0);
        }
    }

    /// Keeps k up to date, for so many false alarms a day. The quantile of Student's t costs microseconds, and changes little.
    fn renew_k(&mut self, per_day: f64, period: f64, window: f64, rule: &Adaptive) {
        let sides = if rule.direction == Direction::Both { 2.0 } else { 1.0 };
        // What never changed is of unknown correlation, unless the rule's spread is what counts.
        let unknown = if rule.least_spread > 0.0 { 0.0 } else { 0.999 };
        let rho = self.correlation.estimate().unwrap_or(unknown).powi(2);
        let seen = self.moments.count().min(2.0 * SPREAD_MEMORY / period) / window;
        let independent = (seen * (1.0 - rho) / (1.0 + rho)).max(1.0);
        let freedom = independent.min(FREEDOM_MOST);
        // How far estimates of skewness are off, and half as far as those of kurtosis are.
        let error = (6.0 / independent).sqrt();
        let shape = 4.0 + 6.0 / (self.moments.kurtosis().max(0.0) + error);
        // Only as far as it is no accident, for what is below and above.
        let skewness = self.moments.skewness();
        let skewed = [-skewness, skewness].map(|skewness| (skewness - error).max(0.0));
        let probability = probability(per_day, period) / sides;
        let now = [freedom, shape, probability, 1.0 + skewed[0], 1.0 + skewed[1]];
        let alike = |(a, b): (&f64, &f64)| *a < 1.1 * b && *b < 1.1 * a;
        if !now.iter().zip(&self.student_of).all(alike) {
            // Student's t with n degrees of freedom has the excess kurtosis 6/(n − 4), and the variance n/(n − 2).
            let heavy = student_k(probability, shape) * ((shape - 2.0) / shape).sqrt();
            let k = student_k(probability, freedom).max(heavy);
            self.student = skewed.map(|skewed| k + skewed * (k * k - 1.0) / 6.0);
            self.student_of = now;
        }
        let tail = self.tail.k(per_day);
        self.k = self.student.map(|student| student.max(tail));
    }
}

/// A series on one scale, with its two references.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Track {
    level: Moving,
    // The last medians, from `next` on.
    earlier: [f64; WINDOW_MOST],
    next: usize,
    channels: [Channel; 2],
}

impl Track {
    fn new() -> Self {
        Self { level: Moving::default(), earlier: [f64::NAN; WINDOW_MOST], next: 0, channels: [Channel::default(); 2] }
    }

    /// What the slow and the fast channel expect; NaN where they can't say yet.
    fn references(&self) -> [f64; 2] {
        let level = if self.level.count() > 0.0 { self.level.mean() } else { f64::NAN };
        [level, self.earlier[self.next]]
    }

    fn add(&mut self, value: f64, shares: [f64; 2], size: usize) {
        let ends = self.next + 1 == size;
        for (channel, reference) in self.channels.iter_mut().zip([self.level.mean(), self.earlier[self.next]]) {
            if self.level.count() > 0.0 {
                channel.add(value - reference, shares[1], ends);
            }
        }
        self.level.add(value, shares[0]);
        self.earlier[self.next] = value;
        self.next = (self.next + 1) % size;
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Alarm {
    log: bool,
    channel: usize,
    reference: f64,
    deviation: f64,
    k: f64,
    since: f64,
    calm_since: Option<f64>,
}

/// Learns one series, and says when it is away from where it was.
#[derive(Debug, Clone, PartialEq)]
pub struct Detector {
    rule: Adaptive,
    last: Option<f64>,
    period: Moving,
    window: Option<Window>,
    linear: Track,
    log: Track,
    // Until when logarithms are out of the question.
    barred_until: f64,
    use_log: bool,
    alarm: Option<Alarm>,
}

impl Detector {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(rule: Adaptive) -> Self {
        Self {
            rule,
            last: None,
            period: Moving::default(),
            window: None,
            linear: Track::new(),
            log: Track::new(),
            barred_until: f64::NEG_INFINITY,
            use_log: rule.scale == Scale::Log,
            alarm: None,
        }
    }

    /// Judges the value at `now` seconds, and learns it unless it is alarming. `series` is among how many series the false
    /// alarms are divided. `None` until enough was seen, and for what is no finite number.
    pub fn add(&mut self, now: f64, value: f64, series: usize) -> Option<Verdict> {
        let usable = value.is_finite() && (self.rule.scale != Scale::Log || value > 0.0);
        let last = self.last.filter(|last| now > *last && usable);
        if usable && self.last.is_none_or(|last| now > last) {
            self.last = Some(now);
        }
        let elapsed = now - last?;
        let period = match self.period.count() {
            0.0 => elapsed,
            // A gap is no period.
            _ => self.period.mean(),
        };
        let elapsed = elapsed.min(10.0 * period);
        self.period.add(elapsed, 0.02);
        let window = self.window.get_or_insert_with(|| {
            let size = (WINDOW_SECONDS / period).round().clamp(WINDOW_LEAST as f64, WINDOW_USUAL as f64);
            Window::new(size as usize)
        });
        window.add(value);
        let median = window.median()?;
        if median <= 0.0 {
            self.barred_until = now + SPREAD_MEMORY;
        }
        let positive = now >= self.barred_until;
        if !positive && self.use_log && self.alarm.is_none() {
            self.use_log = false;
            self.log = Track::new();
        }
        let verdict = match self.alarm {
            Some(alarm) => self.go_on(alarm, now, median, elapsed),
            None => self.judge(now, median, elapsed),
        };
        if self.alarm.is_none() {
            self.learn(median, positive, elapsed, series);
        }
        verdict
    }

    /// Whether the series was away from where it was when it was looked at last.
    #[must_use]
    pub fn alarms(&self) -> bool {
        self.alarm.is_some()
    }

    fn score(&self, off: f64, deviation: f64) -> f64 {
        if deviation <= 0.0 {
            return 0.0;
        }
        match self.rule.direction {
            Direction::Above => off / deviation,
            Direction::Below => -off / deviation,
            Direction::Both => (off / deviation).abs(),
        }
    }

    /// Whether what is so far from normal would be wrong by being too much.
    fn wrong_above(&self, off: f64) -> bool {
        match self.rule.direction {
            Direction::Above => true,
            Direction::Below => false,
            Direction::Both => off >= 0.0,
        }
    }

    /// What the newest median means by one of the references.
    fn assess(&self, channel: usize, now: f64, value: f64) -> (Alarm, f64) {
        let (log, least) = (self.use_log, self.rule.least_spread);
        let track = if log { &self.log } else { &self.linear };
        let (reference, seen) = (track.references()[channel], &track.channels[channel]);
        let k = match self.rule.tolerance {
            Tolerance::Deviations(k) => k,
            Tolerance::FalseAlarms(_) => seen.k[usize::from(self.wrong_above(value - reference))],
        };
        let floor = match log {
            // As far on the logarithms as k of them are on the values.
            true => SPREAD_SHARE.max((k * least / reference.exp()).ln_1p() / k),
            false => (SPREAD_SHARE * reference.abs()).max(least),
        };
        // What has never changed has no scale, unless the rule gives one.
        let measured = seen.moments.deviation();
        let deviation = if measured > 0.0 || least > 0.0 { measured.max(floor) } else { 0.0 };
        let alarm = Alarm { log, channel, reference, deviation, k, since: now, calm_since: None };
        (alarm, self.score(value - reference, deviation))
    }

    fn judge(&mut self, now: f64, median: f64, elapsed: f64) -> Option<Verdict> {
        let size = self.window.as_ref().map_or(1, Window::size) as f64;
        let track = if self.use_log { &self.log } else { &self.linear };
        if track.level.count() < WARM_UP.max(WARM_UP_WINDOWS * size) {
            return None;
        }
        let value = if self.use_log { median.ln() } else { median };
        let judged = [0, 1].map(|channel| self.assess(channel, now, value));
        let track = if self.use_log { &mut self.log } else { &mut self.linear };
        for (channel, (alarm, score)) in track.channels.iter_mut().zip(&judged) {
            channel.tail.add(*score, elapsed, TAIL_COUNTS * alarm.k);
        }
        let [slow, fast] = judged;
        let (alarm, score) = if fast.1 * slow.0.k > slow.1 * fast.0.k { fast } else { slow };
        if score > alarm.k {
            self.alarm = Some(alarm);
        }
        Some(self.verdict(&alarm, median, score))
    }

    /// Holds the newest median against what the alarm began with, and ends it where it is over.
    fn go_on(&mut self, mut alarm: Alarm, now: f64, median: f64, elapsed: f64) -> Option<Verdict> {
        let value = if alarm.log { median.max(f64::MIN_POSITIVE).ln() } else { median };
        let score = self.score(value - alarm.reference, alarm.deviation);
        let track = if alarm.log { &mut self.log } else { &mut self.linear };
        track.channels[alarm.channel].tail.add(score, elapsed, TAIL_COUNTS * alarm.k);
        alarm.calm_since = (score < alarm.k / 2.0).then(|| alarm.calm_since.unwrap_or(now));
        let size = self.window.as_ref().map_or(1, Window::size) as f64;
        let over = alarm.calm_since.is_some_and(|since| now - since >= size * self.period.mean());
        self.alarm = (!over).then_some(alarm);
        if now - alarm.since >= self.rule.relearn {
            let known = (self.last, self.period, self.window);
            *self = Self::new(self.rule);
            (self.last, self.period, self.window) = known;
        }
        Some(self.verdict(&alarm, median, score))
    }

    fn verdict(&self, alarm: &Alarm, median: f64, score: f64) -> Verdict {
        let plain = |value: f64| if alarm.log { value.exp() } else { value };
        let value = if alarm.log { median.max(f64::MIN_POSITIVE).ln() } else { median };
        let reach = alarm.k * alarm.deviation;
        let above = self.wrong_above(value - alarm.reference);
        let limit = plain(if above { alarm.reference + reach } else { alarm.reference - reach });
        let expected = plain(alarm.reference);
        Verdict { value: median, expected, limit, score, k: alarm.k, alarming: self.alarm.is_some() }
    }

    fn learn(&mut self, median: f64, positive: bool, elapsed: f64, series: usize) {
        let size = self.window.as_ref().map_or(1, Window::size);
        let shares = [share(elapsed, LEVEL_MEMORY), share(elapsed, SPREAD_MEMORY)];
        let auto = self.rule.scale == Scale::Auto;
        if self.rule.scale != Scale::Log {
            self.linear.add(median, shares, size);
        }
        if positive && (auto || self.rule.scale == Scale::Log) {
            self.log.add(median.ln(), shares, size);
        }
        let ends = if self.use_log { self.log.next == 0 } else { self.linear.next == 0 };
        if !ends {
            return;
        }
        // Once a window.
        if let Tolerance::FalseAlarms(per_day) = self.rule.tolerance {
            // Two references may each raise half of them.
            let per_day = per_day / (2.0 * series.max(1) as f64);
            for channel in self.linear.channels.iter_mut().chain(&mut self.log.channels) {
                channel.renew_k(per_day, self.period.mean(), size as f64, &self.rule);
            }
        }
        let enough = WARM_UP.max(WARM_UP_WINDOWS * size as f64);
        if auto && positive && self.log.level.count() >= enough {
            let (linear, log) =
                (self.linear.channels[0].moments.skewness().abs(), self.log.channels[0].moments.skewness().abs());
            let (skewed, other) = if self.use_log { (log, linear) } else { (linear, log) };
            if skewed > SKEWED && other < SKEW_LEFT * skewed {
                self.use_log = !self.use_log;
            }
        }
    }
}
