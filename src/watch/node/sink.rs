//! Where the topics put what they find.
//!
//! What must hold: every value is finite; labels are short and of one line, whatever a device calls itself; no more series come out of
//! one sample than whoever keeps them can bear.

use crate::watch::{Kind, Sample, Series};

/// Most values of one sample. A node with 256 processors, 16 memory modules, and 100 PCIe devices has about 1500.
const MOST: usize = 20_000;
/// Longest value of a label, in characters.
const LONGEST_LABEL: usize = 200;

/// The values of one sample so far.
#[derive(Debug, Default)]
pub(super) struct Sink {
    samples: Vec<Sample>,
}

impl Sink {
    pub(super) fn with_capacity(capacity: usize) -> Self {
        Self { samples: Vec::with_capacity(capacity) }
    }

    /// A value that goes up and down.
    pub(super) fn gauge(&mut self, name: &'static str, labels: &[(&'static str, &str)], value: f64) {
        self.push(Kind::Gauge, name, labels, value);
    }

    /// A count that only grows.
    pub(super) fn counter(&mut self, name: &'static str, labels: &[(&'static str, &str)], value: f64) {
        self.push(Kind::Counter, name, labels, value);
    }

    /// The same, of what may not be known.
    pub(super) fn gauge_of(&mut self, name: &'static str, labels: &[(&'static str, &str)], value: Option<f64>) {
        if let Some(value) = value {
            self.gauge(name, labels, value);
        }
    }

    /// The same, of what may not be known.
    pub(super) fn counter_of(&mut self, name: &'static str, labels: &[(&'static str, &str)], value: Option<f64>) {
        if let Some(value) = value {
            self.counter(name, labels, value);
        }
    }

    fn push(&mut self, kind: Kind, name: &'static str, labels: &[(&'static str, &str)], value: f64) {
        if !value.is_finite() || self.samples.len() >= MOST {
            return;
        }
        let labels = labels.iter().map(|(label, value)| ((*label).into(), tidy(value)));
        let series = Series { name: name.into(), labels: labels.collect() };
        self.samples.push(Sample { series, kind, value });
    }

    pub(super) fn into_samples(self) -> Vec<Sample> {
        self.samples
    }
}

/// A label of one short line.
fn tidy(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.trim().chars().take(LONGEST_LABEL).map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_kept_comes_out() {
        let mut sink = Sink::default();
        sink.gauge("piton_node_x", &[], f64::NAN);
        sink.counter("piton_node_x", &[], f64::INFINITY);
        sink.gauge_of("piton_node_x", &[], None);
        sink.gauge("piton_node_x", &[("label", &format!(" a\nb\u{1b}{}", "c".repeat(1000)))], 1.0);
        let samples = sink.into_samples();
        assert_eq!(samples.len(), 1);
        let label = samples[0].series.label("label").unwrap();
        assert!(label.starts_with("a b cc") && label.chars().count() == LONGEST_LABEL, "{label}");

        let mut sink = Sink::default();
        for _ in 0..MOST + 10 {
            sink.counter("piton_node_x", &[], 1.0);
        }
        assert_eq!(sink.into_samples().len(), MOST);
    }
}
