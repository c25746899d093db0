//! Which values the numbers of an array may have, as the application says it.
//!
//! Comes in: what was said on an [`ArrayField`](super::ArrayField). Goes out: bounds that whoever looks at the numbers can hold
//! them against. What must hold: a number is a NaN, or infinite, or too large only where the application said that such cannot be; bounds that
//! allow nothing, or mean nothing for the elements at hand, are refused when the state is described.

use super::{Kind, Scalar};
use std::fmt;
use std::ops::RangeInclusive;

/// Which values a number may have.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Bounds {
    finite: bool,
    within: Option<(f64, f64)>,
}

impl Bounds {
    pub(super) fn finite(&mut self) {
        self.finite = true;
    }

    pub(super) fn within(&mut self, range: &RangeInclusive<f64>) {
        self.within = Some((*range.start(), *range.end()));
    }

    /// Whether anything was said.
    pub(crate) fn are_there(&self) -> bool {
        self.finite || self.within.is_some()
    }

    /// Whether they can tell anything of such elements: every integer is finite.
    pub(crate) fn concern(&self, scalar: Scalar) -> bool {
        self.within.is_some() || (self.finite && scalar.is_float())
    }

    /// The smallest and the largest value that is allowed. A NaN never is.
    pub(crate) fn limits(&self) -> (f64, f64) {
        let (low, high) = self.within.unwrap_or((f64::NEG_INFINITY, f64::INFINITY));
        match self.finite {
            true => (low.max(f64::MIN), high.min(f64::MAX)),
            false => (low, high),
        }
    }

    /// Why they make no sense for elements of this kind, if so.
    pub(super) fn misfit(&self, kind: &Kind) -> Option<String> {
        let (low, high) = self.within?;
        if low.is_nan() || high.is_nan() || low > high {
            return Some(format!(
                "no value lies within {low:?}..={high:?}; say the smallest and the largest value that may be"
            ));
        }
        uniform(kind).is_none().then(|| {
            format!("`within` is about all numbers of an element, and those of `{kind}` differ in type: give them arrays of their own")
        })
    }
}

/// As a person would say it.
impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.finite, self.within) {
            (false, None) => f.write_str("anything"),
            (true, None) => f.write_str("finite"),
            (false, Some((low, high))) => write!(f, "within {low:?}..={high:?}"),
            (true, Some((low, high))) => write!(f, "finite and within {low:?}..={high:?}"),
        }
    }
}

/// The type of all numbers in an element, where it is made of nothing else.
pub(crate) fn uniform(kind: &Kind) -> Option<Scalar> {
    match kind {
        Kind::Scalar(scalar) | Kind::Complex(scalar) => Some(*scalar),
        Kind::Array { element, .. } => uniform(element),
        Kind::Record { fields, bytes } => {
            let first = uniform(&fields.first()?.kind)?;
            let all_alike = fields.iter().all(|field| uniform(&field.kind) == Some(first));
            let covered: usize = fields.iter().map(|field| field.kind.bytes()).sum();
            (all_alike && covered == *bytes).then_some(first)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::KindField;

    const MIXED: Kind = Kind::Record {
        fields: &[
            KindField { name: "x", kind: Kind::Scalar(Scalar::F64), offset: 0 },
            KindField { name: "id", kind: Kind::Scalar(Scalar::U64), offset: 8 },
        ],
        bytes: 16,
    };

    #[test]
    fn limits_are_those_of_all_that_was_said() {
        let mut bounds = Bounds::default();
        assert!(!bounds.are_there() && !bounds.concern(Scalar::F64));
        assert_eq!((bounds.limits(), bounds.to_string().as_str()), ((f64::NEG_INFINITY, f64::INFINITY), "anything"));
        bounds.finite();
        assert!(bounds.concern(Scalar::F32) && !bounds.concern(Scalar::I32));
        assert_eq!((bounds.limits(), bounds.to_string().as_str()), ((f64::MIN, f64::MAX), "finite"));
        bounds.within(&(0.0..=f64::INFINITY));
        assert!(bounds.concern(Scalar::I32));
        assert_eq!((bounds.limits(), bounds.to_string().as_str()), ((0.0, f64::MAX), "finite and within 0.0..=inf"));
    }

    #[test]
    fn bounds_that_mean_nothing_are_refused() {
        let misfit = |low: f64, high: f64, kind: &Kind| {
            let mut bounds = Bounds::default();
            bounds.finite();
            bounds.within(&(low..=high));
            bounds.misfit(kind)
        };
        let pair = Kind::Array { element: &Kind::Scalar(Scalar::F64), count: 2 };
        assert_eq!(misfit(0.0, 1.0, &pair), None);
        assert_eq!(misfit(1.0, 1.0, &Kind::Complex(Scalar::F32)), None);
        for (low, high) in [(1.0, 0.0), (f64::NAN, 1.0), (0.0, f64::NAN)] {
            assert!(misfit(low, high, &pair).is_some_and(|why| why.contains("no value")));
        }
        assert!(misfit(0.0, 1.0, &MIXED).is_some_and(|why| why.contains("differ in type")));
        let finite = Bounds { finite: true, within: None };
        assert_eq!(finite.misfit(&MIXED), None);
    }

    #[test]
    fn elements_of_one_type_are_told_from_others() {
        assert_eq!(uniform(&MIXED), None);
        const POINT: Kind = Kind::Record {
            fields: &[
                KindField { name: "x", kind: Kind::Scalar(Scalar::F32), offset: 0 },
                KindField { name: "rest", kind: Kind::Complex(Scalar::F32), offset: 4 },
            ],
            bytes: 12,
        };
        assert_eq!(uniform(&Kind::Array { element: &POINT, count: 3 }), Some(Scalar::F32));
    }
}
