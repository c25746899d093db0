//! The one line that a finding says, with what the pattern captured in it.
//!
//! Comes in: a text such as `rank {rank} has aborted`. Goes out: the same with the captures of a line in place of their names.
//! What must hold: every name is one that the pattern can capture; what comes out is one line of bounded length without control
//! characters, whatever the line held.

/// Longer captures are cut, in characters.
pub(super) const LONGEST_CAPTURE: usize = 120;
/// Longer summaries are cut, in characters.
const LONGEST_SUMMARY: usize = 400;

/// A parsed text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Capture(String),
}

impl Template {
    /// Parses `text`, in which `{name}` is one of `captures`.
    pub(super) fn parse(text: &str, captures: &[&str]) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Err("`summary` is empty: say in one line what is wrong".into());
        }
        if text.chars().any(char::is_control) {
            return Err("`summary` has control characters: it is one line".into());
        }
        let (mut parts, mut rest) = (Vec::new(), text);
        while let Some(open) = rest.find(['{', '}']) {
            let (before, braced) = rest.split_at(open);
            let end = braced.starts_with('{').then(|| braced.find('}')).flatten();
            let Some(end) = end else {
                return Err(format!("`summary` has a brace without its other half: {text:?}"));
            };
            let name = &braced[1..end];
            if !captures.contains(&name) {
                return Err(format!("`summary` wants {{{name}}}, which `regex` does not capture: it has {captures:?}"));
            }
            parts.push(Part::Text(before.to_owned()));
            parts.push(Part::Capture(name.to_owned()));
            rest = &braced[end + 1..];
        }
        parts.push(Part::Text(rest.to_owned()));
        Ok(Self(parts))
    }

    /// The text with what `capture` gives for each name; what was not captured is `?`.
    pub(super) fn fill<'c>(&self, capture: impl Fn(&str) -> Option<&'c str>) -> String {
        let mut summary = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => summary.push_str(text),
                Part::Capture(name) => summary.push_str(capture(name).unwrap_or("?")),
            }
        }
        cut(&summary, LONGEST_SUMMARY)
    }
}

/// What was captured, as it may stand in a label: text without control characters, cut.
pub(super) fn clean(bytes: &[u8]) -> String {
    // A character has at most four bytes.
    let bytes = &bytes[..bytes.len().min(4 * LONGEST_CAPTURE + 4)];
    let text = String::from_utf8_lossy(bytes);
    let text: String = text.trim().chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    cut(&text, LONGEST_CAPTURE)
}

fn cut(text: &str, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captures_take_the_place_of_their_names() {
        let template = Template::parse("rank {rank} on {node} died", &["node", "rank"]).unwrap();
        let text = template.fill(|name| (name == "rank").then_some("3"));
        assert_eq!(text, "rank 3 on ? died");
        assert_eq!(Template::parse("plain", &[]).unwrap().fill(|_| None), "plain");
    }

    #[test]
    fn mistakes_are_named() {
        for (text, word) in
            [("", "empty"), ("a {b", "brace"), ("a } b", "brace"), ("{c}", "captures"), ("a\nb", "one line")]
        {
            let error = Template::parse(text, &["b"]).unwrap_err();
            assert!(error.contains(word) || error.contains("does not capture"), "{text:?}: {error}");
        }
    }

    #[test]
    fn captures_neither_flood_nor_steer_the_terminal() {
        assert_eq!(clean(b" \x1b[2Jnode01\n\xff "), "\u{fffd}[2Jnode01\n\u{fffd}".replace('\n', "\u{fffd}"));
        assert_eq!(clean(&[b'x'; 100_000]).chars().count(), LONGEST_CAPTURE + 1);
    }
}
