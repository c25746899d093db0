//! Samples as the checks look at them: by name, with what belongs to the same thing, and with what has grown.

use crate::watch::{Labels, Sample, Series};
use std::borrow::Cow;
use std::collections::BTreeMap;

#[derive(Debug)]
pub(super) struct View<'a> {
    by_name: BTreeMap<&'a str, Vec<&'a Sample>>,
    earlier: BTreeMap<&'a Series, f64>,
    /// Between the samples; none where there is but one.
    seconds: Option<f64>,
}

impl<'a> View<'a> {
    pub(super) fn new(now: &'a [Sample], earlier: Option<(&'a [Sample], f64)>) -> Self {
        let mut by_name: BTreeMap<&str, Vec<&Sample>> = BTreeMap::new();
        for sample in now {
            by_name.entry(&sample.series.name).or_default().push(sample);
        }
        let seconds = earlier.map(|(_, seconds)| seconds).filter(|seconds| *seconds > 0.0);
        let earlier = earlier.map_or(&[][..], |(samples, _)| samples);
        Self { by_name, earlier: earlier.iter().map(|sample| (&sample.series, sample.value)).collect(), seconds }
    }

    /// All samples with this name.
    pub(super) fn all(&self, name: &str) -> &[&'a Sample] {
        self.by_name.get(name).map_or(&[], Vec::as_slice)
    }

    /// The value of what a node has once.
    pub(super) fn value(&self, name: &str) -> Option<f64> {
        self.all(name).first().map(|sample| sample.value)
    }

    /// The value of another series with the same labels.
    pub(super) fn beside(&self, sample: &Sample, name: &str) -> Option<f64> {
        self.all(name).iter().find(|other| other.series.labels == sample.series.labels).map(|other| other.value)
    }

    /// By how much it has grown. What counts anew has grown by what it has counted so far.
    pub(super) fn growth(&self, sample: &Sample) -> Option<f64> {
        self.seconds?;
        let earlier = *self.earlier.get(&sample.series)?;
        Some(if sample.value >= earlier { sample.value - earlier } else { sample.value })
    }

    /// By how much a second.
    pub(super) fn rate(&self, name: &str) -> Option<f64> {
        Some(self.growth(self.all(name).first()?)? / self.seconds?)
    }

    /// What a person calls a sensor, where its chip has a name for it.
    pub(super) fn sensor(&self, sample: &Sample) -> Labels {
        let mut labels = labels(sample);
        let same = |other: &&&Sample| {
            ["chip", "sensor"].iter().all(|label| other.series.label(label) == sample.series.label(label))
        };
        if let Some(named) = self.all("node_hwmon_sensor_label").iter().find(same) {
            labels.extend(named.series.label("label").map(|label| ("label".to_owned(), label.to_owned())));
        }
        labels
    }
}

/// The labels of a sample.
pub(super) fn labels(sample: &Sample) -> Labels {
    sample.series.labels.iter().map(|(label, value)| (Cow::clone(label).into_owned(), value.clone())).collect()
}
