//! The shape of patch tokens in a folder.

use std::{fmt, io};

use arrow_array::{Array, Int32Array, RecordBatch};

use super::Hash;
use crate::error::{Context, Result};

/// Rows and columns of patches of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Grid {
    /// Rows of patches.
    pub rows: usize,
    /// Columns of patches.
    pub columns: usize,
}

/// The patch tokens of an image, `[rows, columns, width]`; as JSON by [`Display`](fmt::Display), with `null` for what
/// differs between images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct TokenShape {
    /// Rows and columns, if all images have the same.
    #[serde(flatten)]
    pub grid: Option<Grid>,
    /// Width of a token, `D`.
    pub width: usize,
}

impl TokenShape {
    /// Number of values of an image with this grid.
    pub fn values(&self, grid: Grid) -> usize {
        grid.rows * grid.columns * self.width
    }
}

impl fmt::Display for TokenShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.grid {
            Some(Grid { rows, columns }) => write!(f, "[{rows}, {columns}, {}]", self.width),
            None => write!(f, "[null, null, {}]", self.width),
        }
    }
}

/// The columns of a part with the grids of its images, if they differ.
#[derive(Default)]
pub(super) struct GridColumns {
    rows: Vec<Int32Array>,
    columns: Vec<Int32Array>,
}

impl GridColumns {
    /// Those of images with these grids, by name.
    ///
    /// # Errors
    /// More patches than a column can count.
    pub fn of(&mut self, grids: &[Grid]) -> io::Result<[(&'static str, Int32Array); 2]> {
        let counts = |of: fn(&Grid) -> usize| {
            let counts = grids.iter().map(|grid| i32::try_from(of(grid)));
            let counts: Vec<i32> = counts.collect::<Result<_, _>>().map_err(io::Error::other)?;
            io::Result::Ok(Int32Array::from(counts))
        };
        let (rows, columns) = (counts(|grid| grid.rows)?, counts(|grid| grid.columns)?);
        self.rows.push(rows.clone());
        self.columns.push(columns.clone());
        Ok([("rows", rows), ("columns", columns)])
    }

    /// Those of a batch that was read, with images of as many values as `lengths`.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) for columns that are missing, or do not agree with `lengths`.
    pub fn add(&mut self, batch: &RecordBatch, lengths: &[usize], width: usize) -> Result<()> {
        let column = |name: &str| {
            let column = batch.column_by_name(name);
            let column = column.and_then(|column| column.as_any().downcast_ref::<Int32Array>());
            column
                .cloned()
                .with_context(|| format!("has no column {name}"))
        };
        let (rows, columns) = (column("rows")?, column("columns")?);
        let grids = rows.values().iter().zip(columns.values());
        let of_grids = grids.map(|(&rows, &columns)| i64::from(rows) * i64::from(columns));
        let of_grids = of_grids.map(|patches| patches.saturating_mul(width as i64));
        if !of_grids.eq(lengths.iter().map(|&length| length as i64)) {
            bail!("has patch tokens that do not fill their grids");
        }
        self.rows.push(rows);
        self.columns.push(columns);
        Ok(())
    }

    /// Adds them to a checksum.
    pub fn add_to(&self, checksum: &mut Hash) {
        for counts in self.rows.iter().chain(&self.columns) {
            for count in counts.values() {
                checksum.bytes(&count.to_le_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::ArrayRef;

    use super::*;

    #[test]
    fn a_manifest_has_the_grid_if_it_is_the_same_for_all() {
        let grid = Some(Grid {
            rows: 3,
            columns: 4,
        });
        for (grid, json, shape) in [
            (grid, r#"{"rows":3,"columns":4,"width":16}"#, "[3, 4, 16]"),
            (None, r#"{"width":16}"#, "[null, null, 16]"),
        ] {
            let tokens = TokenShape { grid, width: 16 };
            assert_eq!(serde_json::to_string(&tokens).unwrap(), json);
            assert_eq!(serde_json::from_str::<TokenShape>(json).unwrap(), tokens);
            assert_eq!(tokens.to_string(), shape);
        }
    }
    #[test]
    fn grids_are_those_that_the_values_fill() {
        let grid = |rows, columns| Grid { rows, columns };
        let mut written = GridColumns::default();
        let columns = written.of(&[grid(2, 3), grid(5, 1)]).unwrap();
        let columns = columns.map(|(name, counts)| (name, Arc::new(counts) as ArrayRef));
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let mut read = GridColumns::default();
        read.add(&batch, &[24, 20], 4).unwrap();
        let [mut a, mut b] = [Hash::default(), Hash::default()];
        written.add_to(&mut a);
        read.add_to(&mut b);
        assert_eq!(a.digits(), b.digits());
        for wrong in [&[24, 16][..], &[20, 24], &[24]] {
            let error = read.add(&batch, wrong, 4).unwrap_err().to_string();
            assert!(error.contains("do not fill their grids"), "{error}");
        }
        let lacking = batch.project(&[0]).unwrap();
        let error = read.add(&lacking, &[24, 20], 4).unwrap_err().to_string();
        assert!(error.contains("has no column columns"), "{error}");
    }
}
