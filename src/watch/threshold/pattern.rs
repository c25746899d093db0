//! Which series a rule is about, by their labels.
//!
//! Comes in: texts in which `*` stands for anything. Goes out: whether a label fits. What must hold: matching takes time in the product
//! of the lengths at the most, whatever the pattern.

use crate::watch::Labels;
use serde::Deserialize;
use std::collections::BTreeMap;

/// One text or several, any of which may fit; `*` stands for any number of any characters.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Pattern {
    /// This one.
    One(String),
    /// Any of these.
    Any(Vec<String>),
}

impl Pattern {
    /// The texts.
    #[must_use]
    pub fn texts(&self) -> &[String] {
        match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::Any(texts) => texts,
        }
    }

    /// Whether `value` fits.
    #[must_use]
    pub fn fits(&self, value: &str) -> bool {
        self.texts().iter().any(|text| fits(text, value))
    }
}

/// Whether `value` is what `pattern` says. The last `*` alone is ever gone back to: what an earlier one could match, it can, too.
fn fits(pattern: &str, value: &str) -> bool {
    let (pattern, value) = (pattern.as_bytes(), value.as_bytes());
    let (mut at, mut place) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while place < value.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, place));
                at += 1;
            }
            Some(byte) if *byte == value[place] => {
                at += 1;
                place += 1;
            }
            _ => match &mut star {
                Some((from, taken)) => {
                    *taken += 1;
                    (at, place) = (*from + 1, *taken);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

/// Which labels a series must have, and must not have.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// All of these must be there and fit.
    pub labels: BTreeMap<String, Pattern>,
    /// None of these may fit.
    pub except: BTreeMap<String, Pattern>,
}

impl Filter {
    /// Whether a series with these labels is meant.
    pub fn fits<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        let fits = |(name, pattern): (&String, &Pattern)| label(name).is_some_and(|value| pattern.fits(value));
        self.labels.iter().all(fits) && !self.except.iter().any(fits)
    }
}

/// A text for people with places in braces, which are filled in by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    // Text and the name of the place behind it.
    parts: Vec<(String, Option<String>)>,
}

impl Template {
    /// Reads it: `{{` and `}}` stand for braces.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (mut parts, mut plain) = (Vec::new(), String::new());
        let mut rest = text.chars().peekable();
        while let Some(next) = rest.next() {
            match next {
                '{' | '}' if rest.peek() == Some(&next) => {
                    rest.next();
                    plain.push(next);
                }
                '{' => {
                    let mut name = String::new();
                    loop {
                        match rest.next() {
                            Some('}') => break,
                            Some(next) => name.push(next),
                            None => return Err("a brace opens that none closes: write {{ for a brace".to_owned()),
                        }
                    }
                    let plain_name = name.strip_suffix('%').unwrap_or(&name);
                    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
                    if plain_name.is_empty() || !plain_name.chars().all(word) {
                        return Err(format!(
                            "{{{name}}} is no place: write {{value}}, {{limit}}, {{labels}} or a label"
                        ));
                    }
                    parts.push((std::mem::take(&mut plain), Some(name)));
                }
                '}' => return Err("a brace closes that none opens: write }} for a brace".to_owned()),
                _ => plain.push(next),
            }
        }
        parts.push((plain, None));
        Ok(Self { parts })
    }

    /// Fills it in: `value` and `limit` as numbers, or as percentages where they are written `{value%}`, `labels` all labels,
    /// and any other place what the label of that name says.
    #[must_use]
    pub fn fill(&self, value: f64, limit: f64, labels: &Labels) -> String {
        let mut text = String::new();
        for (plain, place) in &self.parts {
            text.push_str(plain);
            match place.as_deref() {
                None => {}
                Some("value") => text.push_str(&number(value)),
                Some("limit") => text.push_str(&number(limit)),
                Some("value%") => text.push_str(&format!("{} %", number(100.0 * value))),
                Some("limit%") => text.push_str(&format!("{} %", number(100.0 * limit))),
                Some("labels") => {
                    let labels: Vec<String> = labels.iter().map(|(label, value)| format!("{label} {value}")).collect();
                    text.push_str(&labels.join(", "));
                }
                Some(label) => text.push_str(labels.get(label).map_or("?", String::as_str)),
            }
        }
        // One line, whatever labels hold.
        text.replace(['\n', '\r'], " ")
    }
}

/// Three or four digits that count, and no exponent where people don't expect one.
fn number(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return format!("{value}");
    }
    let magnitude = value.abs().log10().floor();
    if !(-4.0..15.0).contains(&magnitude) {
        return format!("{value:.2e}");
    }
    let decimals = (3.0 - magnitude).clamp(0.0, 7.0) as usize;
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn stars_stand_for_anything() {
        for (pattern, value, expected) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("a*", "abc", true),
            ("*c", "abcc", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("/scratch*", "/home", false),
            ("**x**", "axb", true),
            ("\u{e9}*", "\u{e9}t\u{e9}", true),
        ] {
            assert_eq!(fits(pattern, value), expected, "{pattern} {value}");
        }
        // What takes a back-tracking matcher for ever.
        assert!(!fits(&format!("{}b", "a*".repeat(100)), &"a".repeat(4000)));
    }

    #[test]
    fn templates_are_filled_in_or_refused() {
        let labels = Labels::from([("mountpoint".into(), "/a\nb".into()), ("node".into(), "n1".into())]);
        let filled = |text: &str| Template::parse(text).map(|template| template.fill(0.02345, 0.03, &labels));
        assert_eq!(filled("{mountpoint}: {value%} < {limit} {{x}} {rank}").unwrap(), "/a b: 2.345 % < 0.03 {x} ?");
        assert_eq!(filled("{labels}").unwrap(), "mountpoint /a b, node n1");
        for text in ["{", "{}", "{a b}", "}", "{value"] {
            assert!(filled(text).is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_are_short() {
        let numbers = [0.0, 1.0, 85.25, 1234.56, 123_456_789.0, 0.000_123_4, 1e-9, -2.5, f64::INFINITY].map(number);
        assert_eq!(numbers, ["0", "1", "85.25", "1235", "123456789", "0.0001234", "1.00e-9", "-2.5", "inf"]);
    }

    proptest! {
        #[test]
        fn a_value_fits_what_was_made_of_it(parts in proptest::collection::vec("[a-c]{0,3}", 1..6), gaps in "[a-c]{0,4}") {
            prop_assert!(fits(&parts.join("*"), &parts.join(&gaps)));
        }

        #[test]
        fn any_template_is_read_or_refused(text: String) {
            if let Ok(template) = Template::parse(&text) {
                let _ = template.fill(1.0, 2.0, &Labels::new());
            }
        }
    }
}
