//! Why a checkpoint does not fit the state that should be resumed from it, as a table that a person can act on.
//!
//! The texts in it come from a file in part: they are cut and cleaned of control characters when they are printed.

use std::fmt;

/// More rows than these are counted, not printed.
const PRINTED_ROWS: usize = 40;
/// Longer cells are cut, in characters.
const PRINTED_CELL: usize = 80;

/// A checkpoint does not fit the state that should be resumed from it. Nothing of the state was changed.
///
/// It prints as a message and a table with one row for each field that differs:
///
/// ```text
/// the checkpoint does not fit the state that is described
///   field   described here   in the checkpoint
///   depth   array f64 [6]    array f32 [6]
///   time    value            not there
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    message: String,
    rows: Vec<UnfitRow>,
}

/// What differs in one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnfitRow {
    /// The field's name.
    pub field: String,
    /// What the state that is described would have needed.
    pub expected: String,
    /// What the checkpoint holds.
    pub found: String,
}

impl Unfit {
    /// A refusal in the words of the application, say from [`State::prepare`](super::State::prepare).
    pub fn new(message: impl Into<String>) -> Self {
        Unfit { message: message.into(), rows: Vec::new() }
    }

    /// Adds what differs in one field.
    #[must_use]
    pub fn row(mut self, field: impl Into<String>, expected: impl Into<String>, found: impl Into<String>) -> Self {
        self.rows.push(UnfitRow { field: field.into(), expected: expected.into(), found: found.into() });
        self
    }

    /// What differs, field by field; empty where the message says it all.
    pub fn rows(&self) -> &[UnfitRow] {
        &self.rows
    }
}

impl fmt::Display for Unfit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)?;
        if self.rows.is_empty() {
            return Ok(());
        }
        let heading = ["field", "described here", "in the checkpoint"].map(str::to_owned);
        let cells = |row: &UnfitRow| [cell(&row.field), cell(&row.expected), cell(&row.found)];
        let table: Vec<[String; 3]> =
            std::iter::once(heading).chain(self.rows.iter().take(PRINTED_ROWS).map(cells)).collect();
        let width = |column: usize| table.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let (first, second) = (width(0), width(1));
        for [field, expected, found] in &table {
            write!(formatter, "\n  {field:first$}   {expected:second$}   {found}")?;
        }
        match self.rows.len().saturating_sub(PRINTED_ROWS) {
            0 => Ok(()),
            more => write!(formatter, "\n  … and {more} more"),
        }
    }
}

impl std::error::Error for Unfit {}

fn cell(text: &str) -> String {
    let clean = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let mut cell: String = text.chars().take(PRINTED_CELL).map(clean).collect();
    if text.chars().nth(PRINTED_CELL).is_some() {
        cell.push('…');
    }
    cell
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_an_aligned_table() {
        let unfit = Unfit::new("it does not fit").row("depth", "array f64 [6]", "array f32 [6]").row(
            "größe",
            "value",
            "not there",
        );
        let expected = "it does not fit
  field   described here   in the checkpoint
  depth   array f64 [6]    array f32 [6]
  größe   value            not there";
        assert_eq!(unfit.to_string(), expected);
        assert_eq!(Unfit::new("odd").to_string(), "odd");
    }

    #[test]
    fn hostile_texts_neither_flood_nor_steer_the_terminal() {
        let mut unfit = Unfit::new("no");
        for _ in 0..1000 {
            unfit = unfit.row("\u{1b}[2J\n", "x".repeat(100_000), "");
        }
        let text = unfit.to_string();
        assert!(text.len() < 10_000 && !text.contains('\u{1b}'), "{text}");
        assert!(text.ends_with("… and 960 more"));
    }
}
