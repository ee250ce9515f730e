//! What a kernel sees of images, as rows of a matrix, and its products.

use std::ops::Range;

use rayon::prelude::*;

use super::len;
use crate::parallel::{Output, Parts, under_miri};
use crate::product::{Destination, Matrix, Packed, UNIT, equal_parts};
use crate::scratch::{Buffer, Scratch};

/// Values of a block of windows that are in cache together.
const BLOCK: usize = under_miri(256, 1 << 18);
/// Fewest and most windows of a block.
const LEAST_ROWS: usize = under_miri(8, 48);
const MOST_ROWS: usize = under_miri(16, 192);
/// Values of all windows that are gathered at once.
const ALL: usize = under_miri(1 << 10, 1 << 22);
/// Fewest tasks that a product is divided into, if it is large enough.
const TASKS: usize = 64;

/// Rectangular windows at regular distances over images with channels last. What is outside of an
/// image is 0.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    /// Rows and columns of an image.
    pub source: [usize; 2],
    /// Channels of an image.
    pub channels: usize,
    /// Rows and columns of a window.
    pub kernel: [usize; 2],
    /// Distance of windows.
    pub stride: usize,
    /// Row and column of the first window's first pixel.
    pub start: [isize; 2],
    /// Rows and columns of windows.
    pub windows: [usize; 2],
}

/// A part of a product that a task has just computed.
pub(crate) struct Block<'a> {
    /// Rows of the product.
    pub rows: Range<usize>,
    /// Columns of the product.
    pub columns: Range<usize>,
    width: usize,
    parts: Parts<'a>,
}

impl<'a> Block<'a> {
    /// Rows and columns of `parts`, `width` values wide, all of which the task has written, and which are
    /// its alone.
    pub(super) fn new(
        rows: Range<usize>,
        columns: Range<usize>,
        width: usize,
        parts: Parts<'a>,
    ) -> Self {
        Self {
            rows,
            columns,
            width,
            parts,
        }
    }

    /// The block's part of a row.
    pub fn row(&mut self, row: usize) -> &mut [f32] {
        assert!(self.rows.contains(&row));
        let start = row * self.width;
        // SAFETY: the part is this task's alone and has been written by the product; the slice
        // borrows the block.
        unsafe {
            self.parts
                .written(start + self.columns.start..start + self.columns.end)
        }
    }
}

impl Window {
    /// Values of a window.
    pub fn depth(&self) -> usize {
        self.kernel[0] * self.kernel[1] * self.channels
    }

    /// Whether the windows are the pixels themselves, in their order.
    pub fn is_identity(&self) -> bool {
        self.kernel == [1, 1]
            && self.stride == 1
            && self.start == [0, 0]
            && self.windows == self.source
    }

    /// Copies the values `columns` of the windows `rows`, counted over all images, into rows side by
    /// side: `[rows, columns]`, a window's values ordered by row, column and channel.
    pub fn gather(
        &self,
        images: &[f32],
        rows: Range<usize>,
        columns: Range<usize>,
        into: &mut [f32],
    ) {
        let [height, width] = self.source.map(|n| n as isize);
        let channels = self.channels as isize;
        let line = self.kernel[1] * self.channels;
        let [down, across] = self.windows;
        let image_len = self.source[0] * self.source[1] * self.channels;
        for (row, into) in rows.zip(into.chunks_exact_mut(len(&columns))) {
            let (image, place) = (row / (down * across), row % (down * across));
            let image = &images[image * image_len..][..image_len];
            let top = (place / across * self.stride) as isize + self.start[0];
            let left = (place % across * self.stride) as isize + self.start[1];
            // Positions in a line of the window that are inside of the image.
            let first = (-left * channels).clamp(0, line as isize) as usize;
            let last = ((width - left) * channels).clamp(0, line as isize) as usize;
            let lines = columns.start / line..columns.end.div_ceil(line);
            let mut into = into;
            for y in lines {
                let base = y * line;
                let from = columns.start.max(base) - base;
                let to = columns.end.min(base + line) - base;
                let (part, rest) = into.split_at_mut(to - from);
                into = rest;
                let at = top + y as isize;
                if at < 0 || at >= height || first >= last {
                    part.fill(0.0);
                    continue;
                }
                let (inner, outer) = (first.clamp(from, to), last.clamp(from, to));
                let (before, others) = part.split_at_mut(inner - from);
                let (middle, after) = others.split_at_mut(outer.max(inner) - inner);
                before.fill(0.0);
                after.fill(0.0);
                if !middle.is_empty() {
                    let start = (at * width + left) * channels + inner as isize;
                    middle.copy_from_slice(&image[start as usize..][..middle.len()]);
                }
            }
        }
    }

    /// All windows as rows, `[rows, depth]`.
    fn gathered(&self, images: &[f32], rows: usize) -> Buffer {
        let depth = self.depth();
        let mut all = Buffer::new(rows * depth);
        let step = (BLOCK / depth).clamp(1, MOST_ROWS);
        let chunks = all.par_chunks_mut(step * depth).enumerate();
        chunks.for_each(|(i, into)| {
            let rows = i * step..rows.min((i + 1) * step);
            self.gather(images, rows, 0..depth, into);
        });
        all
    }

    /// Windows over `images` as rows, times `right` `[depth, outputs]`: `[rows, outputs]`, and what
    /// `after` returned for each block, in a fixed order.
    pub fn product<R: Send>(
        &self,
        images: &[f32],
        count: usize,
        right: &Packed,
        outputs: usize,
        after: impl Fn(&mut Block) -> R + Sync,
    ) -> (Vec<f32>, Vec<R>) {
        let rows = count * self.windows[0] * self.windows[1];
        let depth = self.depth();
        let direct = self.is_identity();
        let mut all = Buffer::default();
        if !direct && rows * depth <= ALL {
            all = self.gathered(images, rows);
        }
        let there = direct
            .then_some(images)
            .or((!all.is_empty()).then_some(&*all));
        let [row_step, column_step] = match there {
            Some(_) => {
                // Few columns of the weights meet many rows while they are in cache.
                let row_step = equal_parts(rows, MOST_ROWS, 8);
                let parts = TASKS.div_ceil(rows.div_ceil(row_step));
                [row_step, outputs.div_ceil(parts).next_multiple_of(UNIT)]
            }
            None => {
                let most = (BLOCK / depth).clamp(LEAST_ROWS, MOST_ROWS);
                let row_step = equal_parts(rows, rows.div_ceil(TASKS).clamp(16, most), 8);
                let parts = TASKS.div_ceil(rows.div_ceil(row_step));
                let column_step = outputs.div_ceil(parts).max(4 * UNIT);
                [row_step, column_step.next_multiple_of(UNIT)]
            }
        };
        let across = outputs.div_ceil(column_step);
        let mut output = Output::new(rows * outputs);
        let parts = output.parts();
        let returned = (0..rows.div_ceil(row_step) * across)
            .into_par_iter()
            .with_max_len(1)
            .map(|task| {
                let (top, left) = (task / across * row_step, task % across * column_step);
                let some = top..rows.min(top + row_step);
                let columns = left..outputs.min(left + column_step);
                let mut scratch = Scratch::take();
                let operand = if let Some(values) = there {
                    Matrix::dense(values, rows, depth).rows(some.clone())
                } else {
                    let gathered = scratch.room(some.len() * depth);
                    self.gather(images, some.clone(), 0..depth, gathered);
                    Matrix::dense(gathered, some.len(), depth)
                };
                let size = [some.len(), columns.len()];
                let into = Destination::new(parts, top * outputs + left, size, outputs);
                // SAFETY: each block is one task's, and is replaced.
                unsafe { right.multiply(operand, columns.clone(), into) };
                after(&mut Block::new(some, columns, outputs, parts))
            })
            .collect();
        // SAFETY: the blocks cover the matrix, and each has been written.
        (unsafe { output.finish() }, returned)
    }
}
