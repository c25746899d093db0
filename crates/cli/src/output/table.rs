//! Tables whose columns are as wide as what stands in them.

use super::{Style, safe};

/// One cell: text and how it looks.
#[derive(Debug, Clone, Default)]
pub struct Cell {
    text: String,
    style: Style,
    right: bool,
}

impl Cell {
    /// Text, at the left; whatever a terminal would obey is escaped.
    #[must_use]
    pub fn new(text: impl AsRef<str>) -> Self {
        Self { text: safe(text.as_ref()).replace('\n', " "), ..Self::default() }
    }

    /// In this style.
    #[must_use]
    pub fn styled(self, style: Style) -> Self {
        Self { style, ..self }
    }

    /// At the right of its column, as numbers are.
    #[must_use]
    pub fn right(self) -> Self {
        Self { right: true, ..self }
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

/// A table with headings.
#[derive(Debug, Clone, Default)]
pub struct Table {
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// An empty table with these headings.
    #[must_use]
    pub fn new(headings: &[&str]) -> Self {
        let headings = headings.iter().map(|heading| Cell::new(heading).styled(Style::Bold));
        Self { rows: vec![headings.collect()] }
    }

    /// Puts a row below the others.
    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The table as lines of text.
    #[must_use]
    pub fn render(&self, coloured: bool) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let cells = |column: usize| self.rows.iter().filter_map(move |row| row.get(column));
        let widths: Vec<usize> = (0..columns).map(|column| cells(column).map(Cell::width).max().unwrap_or(0)).collect();
        // A heading stands where the cells below it do.
        let rights: Vec<bool> = (0..columns).map(|column| cells(column).skip(1).any(|cell| cell.right)).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let space = " ".repeat(widths[column] - cell.width());
                let painted = cell.style.paint(&cell.text, coloured);
                let last = column + 1 == row.len();
                match (rights[column], last) {
                    (true, _) => line.push_str(&format!("{space}{painted}")),
                    (false, true) => line.push_str(&painted),
                    (false, false) => line.push_str(&format!("{painted}{space}")),
                }
                if !last {
                    line.push_str("  ");
                }
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["id", "size", "label"]);
        table.row([Cell::new("1").right(), Cell::new("12 MiB").right(), Cell::new("a\nb\u{1b}")]);
        table.row([Cell::new("123").right(), Cell::new("\u{e9}").right().styled(Style::Dim), Cell::new("")]);
        assert_eq!(table.render(false), " id    size  label\n  1  12 MiB  a b\\u{1b}\n123       \u{e9}\n");
        assert!(table.render(true).contains("     \u{1b}[2m\u{e9}\u{1b}[0m"));
    }
}
