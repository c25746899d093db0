//! Waste over the interval, as text and as a picture.
//!
//! What must hold: both axes are labelled with units; the same study gives the same picture.

use super::Study;
use super::inputs::duration;
use super::study::Row;
use crate::output::human;
use piton_cli::picture::escape;
use std::fmt::Write as _;

/// A time for an axis or a table.
pub fn span(seconds: f64) -> String {
    match seconds {
        seconds if !seconds.is_finite() => "never".to_owned(),
        seconds if seconds < 600.0 => human::short(seconds),
        seconds => human::span(duration(seconds)),
    }
}

/// A share in per cent.
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent < 10.0 { format!("{percent:.2} %") } else { format!("{percent:.1} %") }
}

/// The greatest waste that is drawn: what lies above says no more than that it is too much.
fn top(study: &Study) -> f64 {
    let least = study.curve.iter().map(|row| row.waste).fold(1.0, f64::min);
    // Four marks of a round number each.
    let mark = least.max(1e-3);
    let power = 10f64.powf(mark.log10().floor());
    let round = [1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0].map(|digit| digit * power);
    (4.0 * round.into_iter().find(|round| *round >= mark * 0.999).unwrap_or(mark)).min(1.0)
}

/// The curve as lines of text, `width` columns of it.
pub fn text(study: &Study, width: usize) -> String {
    const HEIGHT: usize = 10;
    const EIGHTHS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let (curve, top) = (&study.curve, top(study));
    if curve.len() < 2 || width < 20 {
        return String::new();
    }
    let columns = (width - 10).min(curve.len());
    let at = |column: usize| curve[column * (curve.len() - 1) / (columns - 1).max(1)];
    let mut text = String::new();
    for line in (0..HEIGHT).rev() {
        let label = match line {
            _ if line == HEIGHT - 1 => percent(top),
            0 => percent(0.0),
            _ => String::new(),
        };
        let _ = write!(text, "{label:>8} ");
        for column in 0..columns {
            let eighths =
                (at(column).waste / top * (8 * HEIGHT) as f64).round().clamp(0.0, (8 * HEIGHT) as f64) as usize;
            text.push(EIGHTHS[eighths.saturating_sub(8 * line).min(8)]);
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    // Where Daly's interval lies.
    let near = |row: &Row| (row.interval_seconds / study.interval_seconds).ln().abs();
    let mark = (0..columns).min_by(|a, b| near(&at(*a)).total_cmp(&near(&at(*b)))).unwrap_or(0);
    let _ = writeln!(text, "{:>8} {}▲ {}", "", " ".repeat(mark), span(study.interval_seconds));
    let (first, last) = (span(at(0).interval_seconds), span(at(columns - 1).interval_seconds));
    let space = " ".repeat(columns.saturating_sub(first.chars().count() + last.chars().count()));
    let _ = writeln!(text, "{:>8} {first}{space}{last}", "waste");
    text
}

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 72.0;
const RIGHT: f64 = 24.0;
const ABOVE: f64 = 56.0;
const BELOW: f64 = 64.0;

/// Round times for the marks of an axis, seconds.
const MARKS: [f64; 20] = [
    0.1,
    0.3,
    1.0,
    3.0,
    10.0,
    30.0,
    60.0,
    120.0,
    300.0,
    600.0,
    1800.0,
    3600.0,
    7200.0,
    14_400.0,
    28_800.0,
    57_600.0,
    86_400.0,
    172_800.0,
    604_800.0,
    2_592_000.0,
];

/// The curve as an SVG picture.
pub fn svg(study: &Study, title: &str) -> String {
    let (curve, top) = (&study.curve, top(study));
    let (low, high) = match (curve.first(), curve.last()) {
        (Some(first), Some(last)) => (first.interval_seconds, last.interval_seconds),
        _ => (1.0, 2.0),
    };
    let x = |interval: f64| LEFT + (interval / low).ln() / (high / low).ln() * (WIDTH - LEFT - RIGHT);
    let y = |waste: f64| HEIGHT - BELOW - (waste / top).min(1.0) * (HEIGHT - ABOVE - BELOW);
    let (bottom, right) = (HEIGHT - BELOW, WIDTH - RIGHT);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n\
         <text x=\"{LEFT}\" y=\"24\" font-size=\"15\" fill=\"#1a1a1a\">{}</text>\n",
        escape(title)
    );
    let line = |svg: &mut String, x1: f64, y1: f64, x2: f64, y2: f64, style: &str| {
        let _ = writeln!(svg, "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" {style}/>");
    };
    let label = |svg: &mut String, x: f64, y: f64, anchor: &str, colour: &str, text: &str| {
        let text = escape(text);
        let _ =
            writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{colour}\">{text}</text>");
    };
    for quarter in 0..=4 {
        let waste = top * f64::from(quarter) / 4.0;
        line(&mut svg, LEFT, y(waste), right, y(waste), "stroke=\"#e3e3e3\"");
        label(&mut svg, LEFT - 8.0, y(waste) + 4.0, "end", "#555555", &percent(waste));
    }
    let mut last = f64::NEG_INFINITY;
    for mark in MARKS.into_iter().filter(|mark| (low..=high).contains(mark)) {
        line(&mut svg, x(mark), ABOVE, x(mark), bottom, "stroke=\"#e3e3e3\"");
        if x(mark) > last + 54.0 {
            label(&mut svg, x(mark), bottom + 18.0, "middle", "#555555", &span(mark));
            last = x(mark);
        }
    }
    let middle = f64::midpoint(LEFT, right);
    label(&mut svg, middle, HEIGHT - 20.0, "middle", "#1a1a1a", "time from one checkpoint to the next");
    label(&mut svg, LEFT, ABOVE - 10.0, "start", "#1a1a1a", "share of the time wasted");
    let points: Vec<String> =
        curve.iter().map(|row| format!("{:.1},{:.1}", x(row.interval_seconds), y(row.waste))).collect();
    let _ = writeln!(
        svg,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"#1f6fb4\" stroke-width=\"2.5\"/>",
        points.join(" ")
    );
    let inside = |interval: f64| (low..=high).contains(&interval);
    // Fixed intervals beside, each at its place on the curve.
    for row in study.fixed.iter().filter(|row| inside(row.interval_seconds)) {
        let (x, y) = (x(row.interval_seconds), y(row.waste));
        let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4.5\" fill=\"#c8622d\"/>");
        // Beyond the right edge nobody reads it.
        let (place, anchor) = if x > right - 110.0 { (x - 8.0, "end") } else { (x + 8.0, "start") };
        let text = format!("{}: {}", span(row.interval_seconds), percent(row.waste));
        // Beside the curve, not on it: it rises to the right of the best.
        let beside = if row.interval_seconds > study.interval_seconds { y + 16.0 } else { (y - 8.0).max(ABOVE + 10.0) };
        label(&mut svg, place, beside, anchor, "#a04a1c", &text);
    }
    if inside(study.interval_seconds) {
        let at = x(study.interval_seconds);
        line(&mut svg, at, ABOVE, at, bottom, "stroke=\"#2e8b57\" stroke-width=\"1.5\" stroke-dasharray=\"5 4\"");
        label(&mut svg, at + 6.0, bottom - 8.0, "start", "#1f6b40", &format!("Daly: {}", span(study.interval_seconds)));
    }
    if let Some(online) = study.online_waste {
        line(&mut svg, LEFT, y(online), right, y(online), "stroke=\"#7a4fa3\" stroke-width=\"1.5\"");
        label(&mut svg, right, y(online) - 6.0, "end", "#5f3b84", &format!("Piton, learning: {}", percent(online)));
    }
    svg.push_str("</svg>\n");
    svg
}
