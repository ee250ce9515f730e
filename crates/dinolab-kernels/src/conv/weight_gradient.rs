//! The gradient of a convolution's weights.

use rayon::prelude::*;

use super::{ConvShape, kernel, winograd};
use crate::parallel::{Output, Parts, under_miri};
use crate::product::{Destination, Matrix, Packed, Store, UNIT, equal_parts};
use crate::scratch::{Buffer, Scratch};
use crate::simd::add_to;

/// Windows that are gathered at a time.
const ROWS: usize = under_miri(16, 384);
/// Windows of a partial sum, at least.
const ROWS_PER_PART: usize = under_miri(32, 1536);
/// Fewest tasks, if there are columns for them.
const TASKS: usize = 16;
/// Most values of all partial sums.
const MOST_PARTIAL_VALUES: usize = 1 << 22;

/// The gradient of the weights, `[O, I, k, k]`, from that of the result `dy` `[B, H', W', O]` and the
/// images `x` `[B, H, W, I]`.
///
/// Windows are divided into parts by the sizes alone, whose sums are added in order.
pub fn conv_weight_gradient(dy: &[f32], x: &[f32], shape: &ConvShape) -> Vec<f32> {
    shape.check(Some(x), None, Some(dy));
    let window = shape.windows();
    let (rows, depth, outputs) = (shape.output_rows(), window.depth(), shape.outputs);
    if rows == 0 {
        return vec![0.0; outputs * depth];
    }
    if winograd::applies(shape) {
        return winograd::weight_gradient(dy, x, shape);
    }
    let most = (MOST_PARTIAL_VALUES / (outputs * depth)).max(1);
    let step = rows.div_ceil(rows.div_ceil(ROWS_PER_PART).min(most));
    let parts = rows.div_ceil(step);
    // Enough tasks, of enough columns that the left operand is worth its packing.
    let widest = depth.div_ceil(TASKS.div_ceil(parts)).max(4 * UNIT);
    let column_step = equal_parts(depth, widest.min(under_miri(32, 576)), UNIT);
    let across = depth.div_ceil(column_step);
    let mut output = Output::new(outputs * depth);
    let mut partial = Buffer::new((parts - 1) * outputs * depth);
    let (result, others) = (output.parts(), Parts::of(&mut partial));
    let dy = Matrix::dense(dy, rows, outputs);
    (0..parts * across)
        .into_par_iter()
        .with_max_len(1)
        .for_each(|task| {
            let (part, left) = (task / across, task % across * column_step);
            let columns = left..depth.min(left + column_step);
            let (all, first) = match part {
                0 => (result, 0),
                _ => (others, (part - 1) * outputs * depth),
            };
            let size = [outputs, columns.len()];
            let mut into = Destination::new(all, first + left, size, depth);
            let (mut gathered, mut packed) = (Scratch::take(), Scratch::take());
            let end = rows.min((part + 1) * step);
            for top in (part * step..end).step_by(ROWS) {
                let some = top..end.min(top + ROWS);
                let values = if window.is_identity() {
                    Matrix::dense(x, rows, depth)
                        .rows(some.clone())
                        .columns(columns.clone())
                } else {
                    let values = gathered.room(some.len() * columns.len());
                    window.gather(x, some.clone(), columns.clone(), values);
                    Matrix::dense(values, some.len(), columns.len())
                };
                let right = Packed::new(values, packed.vec());
                let dy = dy.rows(some).transposed();
                // SAFETY: the tile is this task's alone, replaced by the first product and
                // written when others are added.
                unsafe { right.multiply(dy, 0..columns.len(), into) };
                into.store = Store::Add;
            }
        });
    // SAFETY: parts 0 of all tiles have written the result.
    let mut gradient = unsafe { output.finish() };
    let width = under_miri(64, 1 << 14);
    gradient
        .par_chunks_mut(width)
        .enumerate()
        .for_each(|(i, sum)| {
            for part in partial.chunks_exact(outputs * depth) {
                add_to(sum, &part[i * width..][..sum.len()]);
            }
        });
    match shape.kernel {
        1 => gradient,
        _ => kernel::reference_order(&gradient, shape),
    }
}
