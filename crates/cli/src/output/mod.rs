//! What the program prints: tables and sentences for people, or JSON for programs.
//!
//! What must hold: with `--json`, standard output holds one JSON value and nothing else (of the journal, one a line); text
//! from files is escaped before it reaches a terminal; a reader that goes away is no error.

pub mod events;
pub use piton_cli::human;
pub mod progress;
mod table;

pub use table::{Cell, Table};

use serde::Serialize;
use std::io::{self, BufWriter, IsTerminal, Stdout, Write};

/// When to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Colour {
    /// On a terminal, unless NO_COLOR is set
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// How a piece of text looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Style {
    /// As the terminal has it.
    #[default]
    Plain,
    /// A heading.
    Bold,
    /// What matters less.
    Dim,
    /// All is well.
    Good,
    /// Worth a look.
    Warning,
    /// Something is wrong.
    Bad,
}

impl Style {
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Bold => "\u{1b}[1m",
            Self::Dim => "\u{1b}[2m",
            Self::Good => "\u{1b}[32m",
            Self::Warning => "\u{1b}[33m",
            Self::Bad => "\u{1b}[31m",
        }
    }

    /// `text` in this style, where colours are on.
    #[must_use]
    pub fn paint(self, text: &str, coloured: bool) -> String {
        if coloured && self != Self::Plain { format!("{}{text}\u{1b}[0m", self.code()) } else { text.to_owned() }
    }
}

/// Standard output, in the form that was asked for.
#[derive(Debug)]
pub struct Output {
    out: BufWriter<Stdout>,
    json: bool,
    coloured: bool,
}

impl Output {
    /// Prints JSON if `json`, text for people otherwise.
    #[must_use]
    pub fn new(json: bool, colour: Colour) -> Self {
        let coloured = match colour {
            Colour::Always => true,
            Colour::Never => false,
            Colour::Auto => {
                let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
                io::stdout().is_terminal() && !unwanted
            }
        };
        Self { out: BufWriter::new(io::stdout()), json, coloured }
    }

    /// Whether colours are on.
    pub fn colours(&self) -> bool {
        self.coloured
    }

    /// Whether programs read what is printed.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Prints the one value of this run.
    ///
    /// # Errors
    /// Those of standard output.
    pub fn json(&mut self, value: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut self.out, value)?;
        self.out.write_all(b"\n")
    }

    /// Prints one value of many, on a line of its own.
    ///
    /// # Errors
    /// Those of standard output.
    pub fn json_line(&mut self, value: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, value)?;
        self.out.write_all(b"\n")
    }

    /// Prints a line that may hold text from files.
    ///
    /// # Errors
    /// Those of standard output.
    pub fn line(&mut self, text: impl AsRef<str>) -> io::Result<()> {
        writeln!(self.out, "{}", safe(text.as_ref()).replace('\n', " "))
    }

    /// `text`, which may be from a file, in `style`: for [`Self::text`].
    #[must_use]
    pub fn paint(&self, text: &str, style: Style) -> String {
        style.paint(&safe(text), self.coloured)
    }

    /// Prints a table.
    ///
    /// # Errors
    /// Those of standard output.
    pub fn table(&mut self, table: &Table) -> io::Result<()> {
        self.out.write_all(table.render(self.coloured).as_bytes())
    }

    /// Prints text of our own as it is.
    ///
    /// # Errors
    /// Those of standard output.
    pub fn text(&mut self, text: &str) -> io::Result<()> {
        self.out.write_all(text.as_bytes())
    }

    /// Shows what was printed so far.
    ///
    /// # Errors
    /// Those of standard output.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Hands everything to the system.
    ///
    /// # Errors
    /// Those of standard output.
    pub fn finish(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// `text` without anything that a terminal would obey.
#[must_use]
pub fn safe(text: &str) -> String {
    // Besides control characters, those that change the direction of what is shown after them.
    let obeyed = |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let escape = |c: char| if obeyed(c) && c != '\n' { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        assert_eq!(safe("a\u{1b}[31mb\r\u{202e}c\u{e9}\nd"), "a\\u{1b}[31mb\\r\\u{202e}c\u{e9}\nd");
    }

    #[test]
    fn only_what_has_a_style_is_painted() {
        assert_eq!(Style::Plain.paint("x", true), "x");
        assert_eq!(Style::Bold.paint("x", false), "x");
        assert_eq!(Style::Bold.paint("x", true), "\u{1b}[1mx\u{1b}[0m");
    }
}
