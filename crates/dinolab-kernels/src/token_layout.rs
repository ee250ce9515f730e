//! The layout of the tokens of several images in one matrix, and which images take part in a
//! residual branch.

use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use crate::parallel::{Output, Parts, light_step};
use crate::rotation::Rotation;
use crate::scratch::Buffer;

/// Consecutive images with equal numbers of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenGroup {
    /// Number of images.
    pub images: usize,
    /// Tokens per image, class token included.
    pub tokens: usize,
}

/// Which rows of a token matrix `[R, D]` belong to which image, and which images take part in a
/// residual branch.
///
/// Stochastic depth (Huang et al.) drops the branch for some images: they cost nothing, and the
/// rows of the others are multiplied by a factor.
#[derive(Clone, Debug)]
pub struct TokenLayout {
    /// All images.
    groups: Vec<TokenGroup>,
    /// Those that take part.
    kept: Vec<TokenGroup>,
    /// Row and factor of each row that takes part; `None` if all do, with factor 1.
    rows: Option<Vec<(usize, f32)>>,
    /// Rows of the images that do not.
    dropped: Vec<Range<usize>>,
    /// The factor of each image.
    factors: Vec<f32>,
    /// Rotary position embeddings of all rows.
    rotation: Option<Arc<Rotation>>,
}

impl TokenLayout {
    /// The layout of `groups` in which all images take part, with factor 1.
    pub fn all(groups: &[TokenGroup]) -> Self {
        let images = groups.iter().map(|group| group.images).sum();
        let mut layout = Self::new(groups, &vec![1.0; images]);
        layout.rows = None;
        layout
    }

    /// The layout of `groups` in which the images take part whose factor is not 0. `factors` has
    /// one per image, in order.
    pub fn new(groups: &[TokenGroup], factors: &[f32]) -> Self {
        let images: usize = groups.iter().map(|group| group.images).sum();
        assert_eq!(factors.len(), images, "a factor per image");
        let mut each = factors.iter().copied();
        let (mut row, mut rows) = (0, Vec::new());
        let (mut kept, mut dropped) = (Vec::new(), Vec::new());
        for group in groups {
            let mut count = 0;
            for factor in each.by_ref().take(group.images) {
                let own = row..row + group.tokens;
                row = own.end;
                if factor == 0.0 {
                    dropped.push(own);
                } else {
                    count += 1;
                    rows.extend(own.map(|row| (row, factor)));
                }
            }
            kept.push(TokenGroup {
                images: count,
                ..*group
            });
        }
        Self {
            groups: groups.to_vec(),
            kept,
            rows: Some(rows),
            dropped,
            factors: factors.to_vec(),
            rotation: None,
        }
    }

    /// The same, with queries and keys of all rows turned by `rotation` in attention.
    ///
    /// # Panics
    /// If it is of another number of rows.
    pub fn with_rotation(mut self, rotation: Option<Arc<Rotation>>) -> Self {
        if let Some(rotation) = &rotation {
            assert_eq!(rotation.places().len(), self.all_rows(), "a place per row");
        }
        self.rotation = rotation;
        self
    }

    /// The rotation of queries and keys, if there is one.
    pub fn rotation(&self) -> Option<&Rotation> {
        self.rotation.as_deref()
    }

    /// All images.
    pub fn groups(&self) -> &[TokenGroup] {
        &self.groups
    }

    /// The factor of each image; `None` for a layout of [`TokenLayout::all`].
    pub fn factors(&self) -> Option<&[f32]> {
        self.rows.as_ref().map(|_| self.factors.as_slice())
    }

    /// Number of rows of the whole matrix.
    pub(crate) fn all_rows(&self) -> usize {
        self.groups
            .iter()
            .map(|group| group.images * group.tokens)
            .sum()
    }

    /// Number of images.
    pub(crate) fn all_images(&self) -> usize {
        self.factors.len()
    }

    /// Number of rows that take part.
    pub(crate) fn kept_rows(&self) -> usize {
        self.kept
            .iter()
            .map(|group| group.images * group.tokens)
            .sum()
    }

    /// Number of images that take part.
    pub(crate) fn kept_images(&self) -> usize {
        self.kept.iter().map(|group| group.images).sum()
    }

    /// The groups of images that take part, each with its first row among those rows.
    pub(crate) fn kept_groups(&self) -> impl Iterator<Item = (TokenGroup, usize)> {
        self.kept.iter().scan(0, |row, group| {
            let first = *row;
            *row += group.images * group.tokens;
            Some((*group, first))
        })
    }

    /// The rows of all images' class tokens.
    pub(crate) fn class_rows(&self) -> Vec<usize> {
        let mut row = 0;
        let mut rows = Vec::with_capacity(self.all_images());
        for group in &self.groups {
            rows.extend((0..group.images).map(|i| row + i * group.tokens));
            row += group.images * group.tokens;
        }
        rows
    }

    /// The index in the whole matrix of row `row` of those that take part, and its factor.
    #[inline(always)]
    pub(crate) fn place(&self, row: usize) -> (usize, f32) {
        self.rows.as_ref().map_or((row, 1.0), |rows| rows[row])
    }

    /// The layout of the same images' class tokens, `[B, D]`.
    pub fn class_tokens(&self) -> TokenLayout {
        let groups = [TokenGroup {
            images: self.all_images(),
            tokens: 1,
        }];
        match self.rows {
            None => Self::all(&groups),
            Some(_) => Self::new(&groups, &self.factors),
        }
    }

    /// The rows of `dy` `[R, D]` that take part, times their factors; `dy` itself if that is the
    /// same.
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

    /// Copies the rows of the images that do not take part from `x` to `out`.
    pub(crate) fn pass_through(&self, x: &[f32], width: usize, out: &mut Output) {
        let parts = out.parts();
        self.dropped.par_iter().for_each(|rows| {
            let range = rows.start * width..rows.end * width;
            // SAFETY: rows of an image that no branch writes.
            unsafe { copy(&x[range.clone()], parts, range) };
        });
    }

    /// Zeros in the rows of the images that do not take part.
    pub(crate) fn pass_nothing(&self, width: usize, out: &mut Output) {
        let parts = out.parts();
        self.dropped.par_iter().for_each(|rows| {
            // SAFETY: rows of an image that no branch writes.
            unsafe { parts.zeroed(rows.start * width..rows.end * width) };
        });
    }
}

/// Copies `x` to `range`, which need not have been written before.
///
/// # Safety
/// Nothing else reaches it in the meantime.
pub(crate) unsafe fn copy(x: &[f32], into: Parts, range: Range<usize>) {
    assert_eq!(x.len(), range.len());
    // SAFETY: `at` checks the extent; the rest is the caller's promise.
    unsafe {
        into.at(range.start, range.len())
            .copy_from_nonoverlapping(x.as_ptr(), x.len());
    }
}
