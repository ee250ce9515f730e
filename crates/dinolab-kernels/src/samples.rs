//! Tokens of images of several sizes in one matrix, and the images that take part in a branch.

use std::ops::Range;

use rayon::prelude::*;

use crate::parallel::{Output, Parts, light_step};
use crate::scratch::Buffer;

/// Images of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Number of images.
    pub images: usize,
    /// Tokens of each, class token included.
    pub tokens: usize,
}

/// The rows of `[R, D]` by image, and which of the images take part in a residual branch.
///
/// Stochastic depth (Huang et al.) drops the branch for some images: they cost nothing, and the
/// rows of the others are multiplied by a factor.
#[derive(Clone, Debug)]
pub struct Samples {
    /// All images.
    runs: Vec<Run>,
    /// Those that take part.
    kept: Vec<Run>,
    /// Row and factor of each row that takes part; `None` where all do, with factor 1.
    rows: Option<Vec<(usize, f32)>>,
    /// Rows of the images that do not.
    dropped: Vec<Range<usize>>,
    /// The factor of each image.
    factors: Vec<f32>,
}

impl Samples {
    /// All images of `runs`.
    pub fn all(runs: &[Run]) -> Self {
        let images = runs.iter().map(|run| run.images).sum();
        let mut samples = Self::new(runs, &vec![1.0; images]);
        samples.rows = None;
        samples
    }

    /// The images of `runs` whose factor, in their order, is not 0.
    pub fn new(runs: &[Run], factors: &[f32]) -> Self {
        let images: usize = runs.iter().map(|run| run.images).sum();
        assert_eq!(factors.len(), images, "a factor per image");
        let mut each = factors.iter().copied();
        let (mut row, mut rows) = (0, Vec::new());
        let (mut kept, mut dropped) = (Vec::new(), Vec::new());
        for run in runs {
            let mut count = 0;
            for factor in each.by_ref().take(run.images) {
                let own = row..row + run.tokens;
                row = own.end;
                if factor == 0.0 {
                    dropped.push(own);
                } else {
                    count += 1;
                    rows.extend(own.map(|row| (row, factor)));
                }
            }
            kept.push(Run {
                images: count,
                ..*run
            });
        }
        Self {
            runs: runs.to_vec(),
            kept,
            rows: Some(rows),
            dropped,
            factors: factors.to_vec(),
        }
    }

    /// All images.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// The factor of each image; `None` where all are 1.
    pub fn factors(&self) -> Option<&[f32]> {
        self.rows.as_ref().map(|_| self.factors.as_slice())
    }

    /// Rows of the whole matrix.
    pub(crate) fn all_rows(&self) -> usize {
        self.runs.iter().map(|run| run.images * run.tokens).sum()
    }

    /// Images in all.
    pub(crate) fn all_images(&self) -> usize {
        self.factors.len()
    }

    /// Rows that take part.
    pub(crate) fn kept_rows(&self) -> usize {
        self.kept.iter().map(|run| run.images * run.tokens).sum()
    }

    /// Images that take part.
    pub(crate) fn kept_images(&self) -> usize {
        self.kept.iter().map(|run| run.images).sum()
    }

    /// The runs of images that take part, each with its first row among those rows.
    pub(crate) fn kept_runs(&self) -> impl Iterator<Item = (Run, usize)> {
        self.kept.iter().scan(0, |row, run| {
            let first = *row;
            *row += run.images * run.tokens;
            Some((*run, first))
        })
    }

    /// The rows of all images' class tokens.
    pub(crate) fn class_rows(&self) -> Vec<usize> {
        let mut row = 0;
        let mut rows = Vec::with_capacity(self.all_images());
        for run in &self.runs {
            rows.extend((0..run.images).map(|i| row + i * run.tokens));
            row += run.images * run.tokens;
        }
        rows
    }

    /// The place of the row number `row` of those that take part, and its factor.
    #[inline(always)]
    pub(crate) fn place(&self, row: usize) -> (usize, f32) {
        self.rows.as_ref().map_or((row, 1.0), |rows| rows[row])
    }

    /// The same images by their class tokens alone, `[B, D]`.
    pub fn class_tokens(&self) -> Samples {
        let runs = [Run {
            images: self.all_images(),
            tokens: 1,
        }];
        match self.rows {
            None => Self::all(&runs),
            Some(_) => Self::new(&runs, &self.factors),
        }
    }

    /// The rows of `dy` `[R, D]` that take part, times their factors; `dy` itself where that
    /// is the same.
    pub(crate) fn gather<'a>(
        &self,
        dy: &'a [f32],
        width: usize,
        buffer: &'a mut Buffer,
    ) -> &'a [f32] {
        let Some(rows) = &self.rows else {
            return dy;
        };
        *buffer = Buffer::new(rows.len() * width);
        let step = light_step(width);
        buffer
            .par_chunks_mut(step * width)
            .zip(rows.par_chunks(step))
            .for_each(|(out, rows)| {
                for (out, (row, factor)) in out.chunks_exact_mut(width).zip(rows) {
                    for (out, dy) in out.iter_mut().zip(&dy[row * width..]) {
                        *out = dy * factor;
                    }
                }
            });
        buffer
    }

    /// Rows of the images that do not take part, copied from `x` to their place.
    pub(crate) fn pass_through(&self, x: &[f32], width: usize, out: &mut Output) {
        let parts = out.parts();
        self.dropped.par_iter().for_each(|rows| {
            let range = rows.start * width..rows.end * width;
            // SAFETY: rows of an image that no branch writes.
            unsafe { copy(&x[range.clone()], parts, range) };
        });
    }
}

/// Copies `x` to `range`, which need not have been written before.
///
/// # Safety
/// No other task reaches it.
pub(crate) unsafe fn copy(x: &[f32], into: Parts, range: Range<usize>) {
    assert_eq!(x.len(), range.len());
    // SAFETY: `at` checks the extent; the rest is the caller's promise.
    unsafe {
        into.at(range.start, range.len())
            .copy_from_nonoverlapping(x.as_ptr(), x.len());
    }
}
