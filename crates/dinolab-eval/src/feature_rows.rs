//! Features that are read some rows at a time, so that they need not be in memory.

use std::borrow::Cow;

use dinolab_data::slice::{check_finite, check_length};
use rayon::prelude::*;

use crate::Result;
use crate::knn::l2_normalise;
use crate::rows::rows_of;

/// Rows that protocols read at a time where they go through all of them; a multiple of the rows of a matrix
/// product, so that results are those of all rows at once.
pub(crate) const BLOCK: usize = 8192;

/// Features `[N, D]`, of which any rows can be read.
pub trait FeatureRows: Sync {
    /// Number of rows, `N`.
    fn len(&self) -> usize;

    /// Width of a row, `D`.
    fn dim(&self) -> usize;

    /// Whether there are no rows.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads the rows from `first` on into `out` (`[R, D]`).
    ///
    /// # Errors
    /// [`Error::Slice`](crate::Error::Slice) for an `out` that is not whole rows or ends behind the last one;
    /// [`Error::Io`](crate::Error::Io) for a file that cannot be read.
    fn read(&self, first: usize, out: &mut [f32]) -> Result<()>;

    /// Reads `rows`, in any order, into `out` (`[rows.len(), D]`).
    ///
    /// # Errors
    /// As [`read`](Self::read).
    fn gather(&self, rows: &[usize], out: &mut [f32]) -> Result<()> {
        check_length("features", rows.len() * self.dim(), out.len())?;
        let out = out.par_chunks_exact_mut(self.dim().max(1));
        out.zip(rows)
            .try_for_each(|(out, &row)| self.read(row, out))
    }
}

impl<T: FeatureRows + ?Sized> FeatureRows for &T {
    fn len(&self) -> usize {
        (**self).len()
    }

    fn dim(&self) -> usize {
        (**self).dim()
    }

    fn read(&self, first: usize, out: &mut [f32]) -> Result<()> {
        (**self).read(first, out)
    }

    fn gather(&self, rows: &[usize], out: &mut [f32]) -> Result<()> {
        (**self).gather(rows, out)
    }
}

/// Features with their labels, of which some rows are read at a time.
#[derive(Clone, Copy)]
pub struct LabelledRows<'a> {
    /// `[N, D]`.
    pub rows: &'a dyn FeatureRows,
    /// `[N]`.
    pub labels: &'a [usize],
}

/// Features in memory.
#[derive(Clone, Debug)]
pub struct RowsInMemory<'a> {
    features: Cow<'a, [f32]>,
    dim: usize,
}

impl<'a> RowsInMemory<'a> {
    /// The rows of `features` (`[N, dim]`).
    ///
    /// # Errors
    /// A `dim` of 0, a length that is not a multiple of it, values that are not finite.
    pub fn new(features: impl Into<Cow<'a, [f32]>>, dim: usize) -> Result<Self> {
        let features = features.into();
        rows_of("features", &features, dim)?;
        check_finite("features", &features)?;
        Ok(Self { features, dim })
    }
}

impl FeatureRows for RowsInMemory<'_> {
    fn len(&self) -> usize {
        self.features.len() / self.dim
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn read(&self, first: usize, out: &mut [f32]) -> Result<()> {
        let rows = rows_of("features", out, self.dim)?;
        let here = self
            .features
            .get(first * self.dim..(first + rows) * self.dim);
        let left = self.len().saturating_sub(first) * self.dim;
        check_length("features", out.len(), here.map_or(left, <[f32]>::len))?;
        out.copy_from_slice(here.unwrap_or_default());
        Ok(())
    }

    fn gather(&self, rows: &[usize], out: &mut [f32]) -> Result<()> {
        check_length("features", rows.len() * self.dim, out.len())?;
        let mut out = out.chunks_exact_mut(self.dim).zip(rows);
        out.try_for_each(|(out, &row)| self.read(row, out))
    }
}

/// Rows that are L2-normalised as they are read.
#[derive(Clone, Copy, Debug)]
pub struct UnitRows<R>(pub R);

impl<R: FeatureRows> FeatureRows for UnitRows<R> {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn dim(&self) -> usize {
        self.0.dim()
    }

    fn read(&self, first: usize, out: &mut [f32]) -> Result<()> {
        self.0.read(first, out)?;
        l2_normalise(out, self.dim())
    }

    fn gather(&self, rows: &[usize], out: &mut [f32]) -> Result<()> {
        self.0.gather(rows, out)?;
        l2_normalise(out, self.dim())
    }
}

/// Gives all rows to `each`, [`BLOCK`] or fewer at a time, with the number of the first.
pub(crate) fn for_blocks(
    rows: &dyn FeatureRows,
    mut each: impl FnMut(usize, &[f32]) -> Result<()>,
) -> Result<()> {
    let mut block = Vec::new();
    for first in (0..rows.len()).step_by(BLOCK) {
        block.resize(BLOCK.min(rows.len() - first) * rows.dim(), 0.0);
        rows.read(first, &mut block)?;
        each(first, &block)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_rows_are_read() {
        let features: Vec<f32> = (0..12).map(|i| i as f32).collect();
        let rows = RowsInMemory::new(features.as_slice(), 3).unwrap();
        assert_eq!((rows.len(), rows.dim(), rows.is_empty()), (4, 3, false));
        let mut two = [0.0; 6];
        rows.read(1, &mut two).unwrap();
        assert_eq!(two, features[3..9]);
        rows.gather(&[3, 0], &mut two).unwrap();
        assert_eq!(two, [9.0, 10.0, 11.0, 0.0, 1.0, 2.0]);
        assert!(rows.read(3, &mut two).is_err(), "beyond the last");
        assert!(rows.read(9, &mut two).is_err());
        assert!(rows.read(0, &mut [0.0; 4]).is_err(), "not whole rows");
        assert!(rows.gather(&[4], &mut two[..3]).is_err());
        assert!(rows.gather(&[1], &mut two).is_err());
        assert!(RowsInMemory::new(vec![f32::NAN, 0.0], 2).is_err());
        assert!(RowsInMemory::new(vec![1.0, 0.0], 0).is_err());
    }

    #[test]
    fn rows_of_unit_length_are_those_of_all_at_once() {
        let mut features: Vec<f32> = (0..40).map(|i| (i * i % 17) as f32 - 5.0).collect();
        let rows = UnitRows(RowsInMemory::new(features.clone(), 4).unwrap());
        l2_normalise(&mut features, 4).unwrap();
        let mut found = [0.0; 12];
        rows.read(5, &mut found).unwrap();
        assert_eq!(found, features[20..32]);
        rows.gather(&[9, 0, 3], &mut found).unwrap();
        assert_eq!(found[..4], features[36..]);
        assert_eq!(found[8..], features[12..16]);
    }
}
