//! The drawings of a report.
//!
//! What must hold: axes are labelled with units; what is drawn does not grow with the job: more than fits is drawn as what most of it is.

use super::{offset, span};
use crate::observe::{Fault, Story};
use crate::picture::{Anchor, Picture, marks, time_marks};
use piton::journal::WallTime;
use piton::schedule::Ending;

const WIDTH: f64 = 960.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = 16.0;
/// Columns of the timeline: one for each unit of its width.
const COLUMNS: usize = (WIDTH - LEFT - RIGHT) as usize;
/// Wider ones, for what can't be told apart.
const BIN: f64 = 4.0;
const BINS: usize = COLUMNS / BIN as usize;
/// So many attempts or failures can be told apart.
const FEW: usize = 60;
/// Where the job's own lane lies.
const LANE: f64 = 54.0;
const LANE_HEIGHT: f64 = 34.0;
/// The parts of an attempt's time that a timeline can show, in the order of time; what was waited for at a halt stands in place of what was detected.
const SHOWN: [&str; 7] = ["restarting", "useful", "lost", "detecting", "restarting", "waiting", "blocked"];
const DETECTING: usize = 3;
const BLOCKED: usize = 6;

/// Where a moment lies.
struct Axis {
    from: WallTime,
    seconds: f64,
}

impl Axis {
    fn of(story: &Story) -> Self {
        // What runs still has its end where the report has.
        let last = story
            .attempts
            .iter()
            .flat_map(|attempt| [attempt.moments.known, attempt.moments.next.unwrap_or(attempt.moments.known)]);
        let last = last.max().unwrap_or(story.last).max(story.last);
        Self { from: story.started, seconds: story.started.until(last).as_secs_f64().max(1e-3) }
    }

    fn seconds(&self, at: WallTime) -> f64 {
        self.from.until(at).as_secs_f64()
    }

    fn x(&self, at: WallTime) -> f64 {
        self.place(self.seconds(at))
    }

    fn place(&self, seconds: f64) -> f64 {
        LEFT + (seconds / self.seconds).clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    }

    /// Marks below, with the time since the start.
    fn draw(&self, picture: &mut Picture, top: f64, bottom: f64) {
        for mark in time_marks(self.seconds, 8).into_iter().filter(|mark| *mark <= self.seconds) {
            let x = self.place(mark);
            picture.line((x, top), (x, bottom), "grid");
            let label = if mark == 0.0 { "start".to_owned() } else { format!("+{}", span(mark)) };
            let anchor = if x > WIDTH - RIGHT - 40.0 { Anchor::End } else { Anchor::Middle };
            picture.text((x, bottom + 16.0), anchor, "label", &label);
        }
    }
}

/// How many seconds of each part lie in each of so many columns of the timeline.
fn columns(story: &Story, axis: &Axis, count: usize) -> Vec<[f64; SHOWN.len()]> {
    let mut columns = vec![[0.0f64; SHOWN.len()]; count];
    let width = axis.seconds / count as f64;
    for attempt in &story.attempts {
        let at = &attempt.moments;
        let last = at.next.unwrap_or(at.known);
        let waiting = attempt.seconds(attempt.parts.waiting);
        let [started, computing, kept, computed, known, last] =
            [at.started, at.computing, at.kept, at.computed, at.known, last].map(|at| axis.seconds(at));
        let bounds = [started, computing, kept, computed, known, (last - waiting).max(known), last];
        for (part, pair) in bounds.windows(2).enumerate() {
            let (from, to) = (pair[0], pair[1]);
            if to <= from {
                continue;
            }
            let part = if part == DETECTING && attempt.ending == Ending::Halted { BLOCKED } else { part };
            let (first, end) = ((from / width) as usize, ((to / width).ceil() as usize).min(count));
            for (column, seconds) in columns.iter_mut().enumerate().take(end).skip(first) {
                let (left, right) = (column as f64 * width, (column + 1) as f64 * width);
                seconds[part] += (to.min(right) - from.max(left)).max(0.0);
            }
        }
    }
    columns
}

/// The lane of a job whose parts can be told apart: each as a stretch of its own.
fn stretches(picture: &mut Picture, story: &Story, axis: &Axis) {
    let greatest = |column: &[f64; SHOWN.len()]| {
        let most = (0..SHOWN.len()).max_by(|a, b| column[*a].total_cmp(&column[*b]))?;
        (column[most] > 0.0).then(|| SHOWN[most])
    };
    let columns: Vec<Option<&str>> = columns(story, axis, COLUMNS).iter().map(greatest).collect();
    let mut from = 0;
    while from < COLUMNS {
        let part = columns[from];
        let to = (from..COLUMNS).find(|column| columns[*column] != part).unwrap_or(COLUMNS);
        if let Some(part) = part {
            let at = axis.seconds * from as f64 / COLUMNS as f64;
            let seconds = axis.seconds * (to - from) as f64 / COLUMNS as f64;
            let tip = format!("{part}, {} from +{} on", span(seconds), span(at));
            let class = format!("part {part}");
            picture.rectangle((LEFT + from as f64, LANE), ((to - from) as f64, LANE_HEIGHT), &class, &tip);
        }
        from = to;
    }
    for attempt in &story.attempts {
        let x = axis.x(attempt.moments.started);
        picture.line((x, LANE - 4.0), (x, LANE + LANE_HEIGHT + 4.0), "edge");
    }
}

/// The lane of a job that lived for long: of each column, how much was what.
fn shares(picture: &mut Picture, story: &Story, axis: &Axis) {
    for (column, seconds) in columns(story, axis, BINS).iter().enumerate() {
        let all = axis.seconds / BINS as f64;
        let mut y = LANE + LANE_HEIGHT;
        // The same part may come twice: at the start of an attempt and after one.
        for (place, part) in SHOWN.iter().enumerate() {
            let height = seconds[place] / all * LANE_HEIGHT;
            if height > 0.05 {
                y -= height;
                picture.rectangle((LEFT + column as f64 * BIN, y), (BIN, height), &format!("part {part}"), "");
            }
        }
    }
}

/// How many of these moments fall into each column, as bars on a line; a lone one as high as the most.
fn density(
    picture: &mut Picture,
    axis: &Axis,
    moments: impl Iterator<Item = WallTime>,
    bottom: f64,
    class: &str,
    what: &str,
) {
    let mut counts = vec![0u32; BINS];
    for at in moments {
        counts[(((axis.x(at) - LEFT) / BIN) as usize).min(BINS - 1)] += 1;
    }
    let most = f64::from(counts.iter().copied().max().unwrap_or(0).max(1));
    for (column, count) in counts.into_iter().enumerate().filter(|(_, count)| *count > 0) {
        let height = 4.0 + 20.0 * f64::from(count) / most;
        let at = (LEFT + column as f64 * BIN, bottom - height);
        picture.rectangle(at, (BIN - 0.5, height), class, &format!("{count} {what}"));
    }
}

/// How the time went: what the job did, when it failed, and its checkpoints.
pub(in crate::observe) fn timeline(story: &Story) -> String {
    let axis = Axis::of(story);
    let mut picture = Picture::new(WIDTH, 190.0, "Timeline: what the job did, when it failed, and its checkpoints");
    axis.draw(&mut picture, 20.0, 150.0);
    for (y, label) in [(38.0, "failures"), (76.0, "the job"), (122.0, "checkpoints")] {
        picture.text((LEFT - 10.0, y), Anchor::End, "label", label);
    }
    if story.attempts.len() <= FEW {
        stretches(&mut picture, story, &axis);
    } else {
        shares(&mut picture, story, &axis);
    }
    if story.faults.len() <= FEW {
        for (number, fault) in story.faults.iter().enumerate() {
            let x = axis.x(fault.at());
            let tip = format!("failure {}: {} at {}", number + 1, fault.class, offset(story, fault.at()));
            picture.path([(x - 4.0, 26.0), (x + 4.0, 26.0), (x, 42.0), (x - 4.0, 26.0)], "fault");
            picture.rectangle((x - 4.0, 24.0), (8.0, 18.0), "hit", &tip);
        }
    } else {
        density(&mut picture, &axis, story.faults.iter().map(Fault::at), 46.0, "fault", "failures");
    }
    let taken = story.attempts.iter().flat_map(|attempt| &attempt.checkpoints);
    if taken.clone().count() <= BINS {
        taken.for_each(|taken| {
            let x = axis.x(taken.at);
            picture.line((x, 108.0), (x, 132.0), "edge");
        });
    } else {
        density(&mut picture, &axis, taken.map(|taken| taken.at), 132.0, "taken", "checkpoints");
    }
    picture.text((f64::midpoint(LEFT, WIDTH), 184.0), Anchor::Middle, "label", "time since the job's start");
    picture.finish()
}

/// Where the node time went, as one bar.
pub(super) fn bar(story: &Story) -> String {
    let mut picture = Picture::new(WIDTH, 44.0, "Where the time of the job's nodes went");
    let mut x = 0.0;
    for (name, seconds) in story.parts.named() {
        let share = story.parts.share(seconds).max(0.0);
        let width = share * WIDTH;
        if width < 0.05 {
            continue;
        }
        let tip = format!("{name}: {}, {}", super::percent(share), span(seconds));
        picture.rectangle((x, 4.0), (width, 36.0), &format!("part {name}"), &tip);
        if width > 150.0 {
            picture.text(
                (x + 8.0, 27.0),
                Anchor::Start,
                &format!("on {name}"),
                &format!("{name} {}", super::percent(share)),
            );
        }
        x += width;
    }
    picture.finish()
}

/// How far the job was at which time: it falls back where a failure undid work.
pub(in crate::observe) fn progress(story: &Story) -> String {
    const HEIGHT: f64 = 260.0;
    let (top, bottom) = (24.0, HEIGHT - 40.0);
    let axis = Axis::of(story);
    let mut picture = Picture::new(WIDTH, HEIGHT, "The application's step over time");
    let steps = story
        .attempts
        .iter()
        .flat_map(|attempt| attempt.progress.iter().map(|point| point.step).chain([attempt.last_step]));
    let most = steps.max().unwrap_or(0) as f64;
    let marks = marks(most, 4);
    let end = marks.last().copied().unwrap_or(1.0);
    let y = |step: f64| bottom - step / end * (bottom - top);
    axis.draw(&mut picture, top, bottom);
    for mark in marks {
        picture.line((LEFT, y(mark)), (WIDTH - RIGHT, y(mark)), "grid");
        picture.text((LEFT - 10.0, y(mark) + 4.0), Anchor::End, "label", &crate::human::number(mark));
    }
    picture.text((LEFT, 14.0), Anchor::Start, "label", "step of the application");
    for attempt in &story.attempts {
        // What began at the beginning says so by no record of its own.
        let began = attempt.resumed_from.is_none().then_some((axis.x(attempt.moments.computing), y(0.0)));
        let points = attempt.progress.iter().map(|point| (axis.x(point.at), y(point.step as f64)));
        let points = began.into_iter().chain(points);
        let last = (axis.x(attempt.moments.computed), y(attempt.last_step as f64));
        picture.path(points.chain([last]), "curve");
    }
    picture.text((f64::midpoint(LEFT, WIDTH), HEIGHT - 6.0), Anchor::Middle, "label", "time since the job's start");
    picture.finish()
}

/// The interval between checkpoints that was used, and the optimum as it was known then.
pub(super) fn intervals(story: &Story) -> Option<String> {
    const HEIGHT: f64 = 240.0;
    let (top, bottom) = (40.0, HEIGHT - 40.0);
    let planned = || story.attempts.iter().flat_map(|attempt| &attempt.schedule);
    let used: Vec<(WallTime, f64)> = planned().filter_map(|point| Some((point.at, point.interval?))).collect();
    let optimum: Vec<(WallTime, f64)> = planned().filter_map(|point| Some((point.at, point.optimum?))).collect();
    if used.len() + optimum.len() < 2 {
        return None;
    }
    let axis = Axis::of(story);
    let mut picture = Picture::new(WIDTH, HEIGHT, "The interval between checkpoints over time, and the optimum");
    // A guess at the start may be far off: what is drawn is what mattered.
    let mut all: Vec<f64> =
        used.iter().chain(&optimum).map(|(_, seconds)| *seconds).filter(|seconds| seconds.is_finite()).collect();
    all.sort_by(f64::total_cmp);
    let most = all.get(all.len() * 95 / 100).or(all.last()).copied().unwrap_or(1.0);
    let marks = time_marks(most, 4);
    let end = marks.last().copied().unwrap_or(1.0);
    let y = |seconds: f64| bottom - (seconds / end).min(1.0) * (bottom - top);
    axis.draw(&mut picture, top, bottom);
    for mark in marks {
        picture.line((LEFT, y(mark)), (WIDTH - RIGHT, y(mark)), "grid");
        picture.text((LEFT - 10.0, y(mark) + 4.0), Anchor::End, "label", &span(mark));
    }
    // Each holds until the next one.
    let stairs = |points: &[(WallTime, f64)]| {
        let mut stairs = Vec::new();
        let mut before: Option<f64> = None;
        for (at, seconds) in points {
            let x = axis.x(*at);
            stairs.extend(before.map(|before| (x, before)));
            stairs.push((x, y(*seconds)));
            before = Some(y(*seconds));
        }
        stairs.extend(before.map(|before| (axis.place(axis.seconds), before)));
        stairs
    };
    picture.path(stairs(&optimum), "curve second");
    picture.path(stairs(&used), "curve");
    picture.text((LEFT, 14.0), Anchor::Start, "label", "from one checkpoint to the next");
    picture.line((WIDTH - 330.0, 22.0), (WIDTH - 306.0, 22.0), "curve");
    picture.text((WIDTH - 300.0, 26.0), Anchor::Start, "label", "used");
    picture.line((WIDTH - 230.0, 22.0), (WIDTH - 206.0, 22.0), "curve second");
    picture.text((WIDTH - 200.0, 26.0), Anchor::Start, "label", "Daly's optimum, as known then");
    picture.text((f64::midpoint(LEFT, WIDTH), HEIGHT - 6.0), Anchor::Middle, "label", "time since the job's start");
    Some(picture.finish())
}
