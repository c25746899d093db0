//! Drawings that any browser shows: SVG.
//!
//! Comes in: shapes and words, in the drawing's own units. Goes out: an `<svg>` element. What must hold: every word is escaped; numbers that are not finite
//! draw nothing; colours come by class, so that whoever shows the drawing decides on light or dark.

use std::fmt::Write as _;

/// Text that stands in HTML or SVG, also as the value of an attribute in quotes.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // Whatever no text has: browsers would not show it, and some tools refuse it.
            c if c.is_control() && !matches!(c, '\n' | '\t') => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

/// Where a word begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    /// To the right of its place.
    Start,
    /// Around it.
    Middle,
    /// To the left of it.
    End,
}

/// A drawing.
#[derive(Debug)]
pub struct Picture {
    svg: String,
}

fn all_finite(numbers: &[f64]) -> bool {
    numbers.iter().all(|number| number.is_finite())
}

impl Picture {
    /// An empty one of this size; `title` is what is read to whoever does not see it.
    #[must_use]
    pub fn new(width: f64, height: f64, title: &str) -> Self {
        let title = escape(title);
        Self {
            svg: format!(
                "<svg viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\" aria-label=\"{title}\"><title>{title}</title>\n"
            ),
        }
    }

    /// A line.
    pub fn line(&mut self, from: (f64, f64), to: (f64, f64), class: &str) {
        if all_finite(&[from.0, from.1, to.0, to.1]) {
            let _ = writeln!(
                self.svg,
                "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" class=\"{class}\"/>",
                from.0, from.1, to.0, to.1
            );
        }
    }

    /// A rectangle, at least half a unit wide, so that it can be seen; `tip` is shown where a pointer rests on it.
    pub fn rectangle(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), class: &str, tip: &str) {
        if all_finite(&[x, y, width, height]) {
            let width = width.max(0.5);
            let _ = write!(
                self.svg,
                "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" class=\"{class}\""
            );
            self.end(tip, "rect");
        }
    }

    /// A circle.
    pub fn circle(&mut self, (x, y): (f64, f64), radius: f64, class: &str, tip: &str) {
        if all_finite(&[x, y, radius]) {
            let _ = write!(self.svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius:.1}\" class=\"{class}\"");
            self.end(tip, "circle");
        }
    }

    fn end(&mut self, tip: &str, element: &str) {
        let _ = match tip {
            "" => writeln!(self.svg, "/>"),
            tip => writeln!(self.svg, "><title>{}</title></{element}>", escape(tip)),
        };
    }

    /// Lines from point to point; points that are not finite break it.
    pub fn path(&mut self, points: impl IntoIterator<Item = (f64, f64)>, class: &str) {
        let mut path = String::new();
        let mut is_open = false;
        for (x, y) in points {
            if all_finite(&[x, y]) {
                let _ = write!(path, "{}{x:.1} {y:.1}", if is_open { 'L' } else { 'M' });
                is_open = true;
            } else {
                is_open = false;
            }
        }
        if !path.is_empty() {
            let _ = writeln!(self.svg, "<path d=\"{path}\" class=\"{class}\"/>");
        }
    }

    /// A word.
    pub fn text(&mut self, (x, y): (f64, f64), anchor: Anchor, class: &str, text: &str) {
        if all_finite(&[x, y]) {
            let anchor = match anchor {
                Anchor::Start => "start",
                Anchor::Middle => "middle",
                Anchor::End => "end",
            };
            let text = escape(text);
            let _ = writeln!(
                self.svg,
                "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" class=\"{class}\">{text}</text>"
            );
        }
    }

    /// The drawing as it stands in a page.
    #[must_use]
    pub fn finish(mut self) -> String {
        self.svg.push_str("</svg>\n");
        self.svg
    }
}

/// Round numbers from 0 to at least `most`, `count` steps at the most.
#[must_use]
pub fn marks(most: f64, count: usize) -> Vec<f64> {
    if !(most.is_finite() && most > 0.0) {
        return vec![0.0, 1.0];
    }
    let least = most / count.max(1) as f64;
    let power = 10f64.powf(least.log10().floor());
    let step =
        [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().map(|digit| digit * power).find(|step| *step >= least * 0.999_999);
    steps(step.unwrap_or(10.0 * power), most)
}

/// Round times from 0 to at least `most` seconds, `count` steps at the most.
#[must_use]
pub fn time_marks(most: f64, count: usize) -> Vec<f64> {
    const STEPS: [f64; 22] = [
        1.0,
        2.0,
        5.0,
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
        21_600.0,
        43_200.0,
        86_400.0,
        172_800.0,
        432_000.0,
        604_800.0,
        1_209_600.0,
        2_592_000.0,
        7_776_000.0,
    ];
    if !(most.is_finite() && most >= count as f64) {
        return marks(most, count);
    }
    let least = most / count.max(1) as f64;
    match STEPS.into_iter().find(|step| *step >= least) {
        Some(step) => steps(step, most),
        None => marks(most, count),
    }
}

fn steps(step: f64, most: f64) -> Vec<f64> {
    let count = (most / step).ceil().clamp(1.0, 1e3) as usize;
    (0..=count).map(|number| number as f64 * step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_never_markup() {
        let nasty = "</title><script>alert('x')</script>\"&\u{1b}[31m";
        let mut picture = Picture::new(10.0, 10.0, nasty);
        picture.text((1.0, 1.0), Anchor::Start, "label", nasty);
        picture.rectangle((0.0, 0.0), (1.0, 1.0), "part", nasty);
        let svg = picture.finish();
        assert!(!svg.contains("<script") && !svg.contains('\u{1b}') && svg.contains("&lt;script&gt;"), "{svg}");
        assert_eq!(svg.matches("</title>").count(), 2);
    }

    #[test]
    fn what_is_not_finite_draws_nothing() {
        let mut picture = Picture::new(10.0, 10.0, "");
        picture.line((0.0, f64::NAN), (1.0, 1.0), "a");
        picture.circle((f64::INFINITY, 0.0), 1.0, "a", "");
        picture.path([(0.0, 0.0), (1.0, 1.0), (f64::NAN, 1.0), (2.0, 2.0), (3.0, 3.0)], "a");
        let svg = picture.finish();
        assert!(
            !svg.contains("NaN") && !svg.contains("inf") && svg.contains("M0.0 0.0L1.0 1.0M2.0 2.0L3.0 3.0"),
            "{svg}"
        );
    }

    #[test]
    fn marks_are_round_and_reach_the_end() {
        assert_eq!(marks(7.3, 5), [0.0, 2.0, 4.0, 6.0, 8.0]);
        assert_eq!(marks(0.0, 5), [0.0, 1.0]);
        assert_eq!(
            time_marks(3.0 * 86_400.0, 6),
            [0.0, 43_200.0, 86_400.0, 129_600.0, 172_800.0, 216_000.0, 259_200.0]
        );
        assert_eq!(time_marks(50.0, 5), [0.0, 10.0, 20.0, 30.0, 40.0, 50.0]);
        for most in [1e-9, 0.3, 17.0, 1e5, 1e9, 1e12] {
            for marks in [marks(most, 6), time_marks(most, 6)] {
                assert!(marks.len() <= 8 && *marks.last().expect("some") >= most, "{most}: {marks:?}");
            }
        }
    }
}
