//! Results as text tables, for people.
//!
//! Sixty lines of our own, since numbers line up at their last digit and words at their first letter in
//! one column width, which is all that is needed of a crate for tables.

use serde::Serialize;

/// Results that are shown as a table, or written as JSON.
pub trait Report: Serialize {
    /// The figures that people look at.
    fn table(&self) -> Table;
}

/// A cell of a [`Table`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    /// Aligned to the left.
    Text(String),
    /// Aligned to the right, as formatted.
    Number(String),
    /// Not known, or of no meaning here.
    Empty,
}

impl Cell {
    /// A number with this many decimals; empty for `None`.
    pub fn number(value: impl Into<Option<f64>>, decimals: usize) -> Self {
        value.into().map_or(Self::Empty, |value| {
            Self::Number(format!("{value:.decimals$}"))
        })
    }

    /// A count.
    pub fn count(value: usize) -> Self {
        Self::Number(value.to_string())
    }

    fn text(&self) -> &str {
        match self {
            Self::Text(text) | Self::Number(text) => text,
            Self::Empty => "-",
        }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// Columns with a name each, and rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    columns: Vec<String>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table without rows.
    pub fn new<const N: usize>(columns: [&str; N]) -> Self {
        Self {
            columns: columns.iter().map(|&name| name.to_owned()).collect(),
            rows: Vec::new(),
        }
    }

    /// A table without rows, of columns known only now.
    pub fn named(columns: Vec<String>) -> Self {
        Self {
            columns,
            rows: Vec::new(),
        }
    }

    /// Adds a row; cells beyond the columns are a mistake of the program.
    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        let cells: Vec<Cell> = cells.into_iter().collect();
        debug_assert!(cells.len() <= self.columns.len());
        self.rows.push(cells);
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let cell = |row: &Vec<Cell>, column: usize| {
            let text = row.get(column).map_or("", Cell::text);
            (text.to_owned(), text.chars().count())
        };
        for line in std::iter::once(None).chain(self.rows.iter().map(Some)) {
            let mut out = String::new();
            for (column, name) in self.columns.iter().enumerate() {
                let width = self
                    .rows
                    .iter()
                    .map(|row| cell(row, column).1)
                    .chain([name.chars().count()])
                    .max()
                    .unwrap_or(0);
                let left = self
                    .rows
                    .iter()
                    .any(|row| matches!(row.get(column), Some(Cell::Text(_))));
                let (text, length) = match line {
                    None => (name.clone(), name.chars().count()),
                    Some(row) => cell(row, column),
                };
                let space = " ".repeat(width - length);
                let gap = if column == 0 { "" } else { "  " };
                out += &match left {
                    true => format!("{gap}{text}{space}"),
                    false => format!("{gap}{space}{text}"),
                };
            }
            writeln!(f, "{}", out.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(["class", "images", "IoU %"]);
        table.row(["Würfel".into(), Cell::count(12), Cell::number(7.25, 1)]);
        table.row(["x".into(), Cell::count(7), Cell::number(None, 1)]);
        let text = table.to_string();
        let expected = "class   images  IoU %\nWürfel      12    7.2\nx            7      -\n";
        assert_eq!(text, expected);
    }
}
