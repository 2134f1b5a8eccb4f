//! Columns that are as wide as what stands in them.

use crate::print::Paint;

/// A table with a line of titles; columns without any content are left out.
#[derive(Debug)]
pub(super) struct Table<const COLUMNS: usize> {
    titles: [&'static str; COLUMNS],
    rows: Vec<[String; COLUMNS]>,
}

impl<const COLUMNS: usize> Table<COLUMNS> {
    pub(super) fn new(titles: [&'static str; COLUMNS]) -> Self {
        Self {
            titles,
            rows: Vec::new(),
        }
    }

    pub(super) fn row(&mut self, cells: [String; COLUMNS]) {
        // A line is a line, whatever an error says.
        self.rows.push(cells.map(|cell| cell.replace('\n', " ")));
    }

    /// The lines, without one at the end.
    pub(super) fn shown(&self, paint: Paint) -> String {
        let titles = self.titles.map(str::to_uppercase);
        let widths: Vec<usize> = (0..COLUMNS).map(|column| self.width(column)).collect();
        let line = |cells: &[String; COLUMNS]| {
            let cells = cells.iter().zip(&widths).filter(|(_, width)| **width > 0);
            let padded: Vec<_> = cells
                .map(|(cell, width)| format!("{cell:<width$}"))
                .collect();
            padded.join("  ").trim_end().to_owned()
        };
        let mut lines = vec![paint.dim(line(&titles))];
        lines.extend(self.rows.iter().map(line));
        lines.join("\n")
    }

    fn width(&self, column: usize) -> usize {
        let len =
            |cells: &[String; COLUMNS]| cells.get(column).map_or(0, |cell| cell.chars().count());
        let widest = self.rows.iter().map(len).max().unwrap_or(0);
        let title = self.titles.get(column).map_or(0, |title| title.len());
        if widest == 0 { 0 } else { widest.max(title) }
    }
}
