//! The head's last layer: weight-normalised prototypes, forward and backward.
//!
//! `y = x · (g · v / ‖v‖)ᵀ`. There may be 65,536 prototypes for a few dozen rows, so they are
//! read once in each direction, a group at a time, and the normalised ones are never written.

use crate::parallel::{Output, Parts, map_blocks, ordered_sum, under_miri};
use crate::product::{Matrix, Packed, Store};
use crate::scratch::{Buffer, Scratch};
use crate::simd::{dot, multiversioned};

/// Prototypes per task.
const GROUP: usize = under_miri(8, 192);
/// Maximum number of partial sums of the input's gradient.
const PARTS: usize = 32;

multiversioned! {
    /// The length of a prototype.
    fn length(v: &[f32]) -> f32 {
        dot::<FMA>(v, v).sqrt()
    }

    /// Writes the columns of `from` `[·, rows]`, times their factors, to rows of `into`, `stride`
    /// apart, starting at the column `column`.
    fn transpose_scaled(
        from: &[f32], rows: usize, factors: &[f32], into: Parts, stride: usize, column: usize,
    ) {
        for row in 0..rows {
            let start = row * stride + column;
            // SAFETY: the columns of this group in each row are one task's.
            let out = unsafe { into.unwritten(start..start + factors.len()) };
            for (i, (out, factor)) in out.iter_mut().zip(factors).enumerate() {
                out.write(from[i * rows + row] * factor);
            }
        }
    }

    /// Turns the gradient of a normalised prototype, `dw`, into that of its direction, in place:
    /// `g/‖v‖ · (dw − v̂ (v̂·dw))`. Returns the gradient of its length factor `g`, `v̂·dw`.
    fn through_length(dw: &mut [f32], v: &[f32], g: f32, length: f32) -> f32 {
        let along = dot::<FMA>(v, dw) / length;
        let (factor, share) = (g / length, along / length);
        for (dw, v) in dw.iter_mut().zip(v) {
            *dw = factor * (*dw - share * v);
        }
        along
    }

    /// `y ← x · factors`, element by element.
    fn scaled(x: &[f32], factors: &[f32], y: &mut [f32]) {
        for ((y, x), factor) in y.iter_mut().zip(x).zip(factors) {
            *y = x * factor;
        }
    }
}

/// Gradients of [`prototypes`].
#[derive(Clone, Debug, PartialEq)]
pub struct PrototypesGradients {
    /// Of the rows, `[R, W]`.
    pub x: Vec<f32>,
    /// Of the length factors, `[K]`.
    pub g: Vec<f32>,
    /// Of the directions, `[K, W]`.
    pub v: Vec<f32>,
}

/// Similarities of rows to prototypes: `x` `[R, W]`, directions `v` `[K, W]`, length factors
/// `g` `[K]` → `[R, K]`, and the lengths of the directions `[K]`.
///
/// A direction of length 0 gives NaN, as in the DINO reference implementation.
pub fn prototypes(x: &[f32], v: &[f32], g: &[f32], width: usize) -> (Vec<f32>, Vec<f32>) {
    let (rows, k) = (x.len() / width, g.len());
    assert!(width > 0 && x.len() == rows * width && v.len() == k * width);
    let (mut out, mut lengths) = (Output::new(rows * k), Output::new(k));
    if rows == 0 || k == 0 {
        return (Vec::new(), v.chunks_exact(width).map(length).collect());
    }
    let (out_parts, length_parts) = (out.parts(), lengths.parts());
    let mut packed = Buffer::default();
    let x = Packed::in_parallel(Matrix::dense(x, rows, width).transposed(), &mut packed);
    map_blocks(k, GROUP, |own| {
        let v = &v[own.start * width..own.end * width];
        // SAFETY: groups have disjoint prototypes.
        let lengths = unsafe { length_parts.zeroed(own.clone()) };
        let mut factors = [0.0; GROUP];
        let factors = &mut factors[..own.len()];
        let each = v.chunks_exact(width).zip(&g[own.clone()]);
        for ((v, g), (length_of, factor)) in each.zip(lengths.iter_mut().zip(&mut *factors)) {
            *length_of = length(v);
            *factor = g / *length_of;
        }
        let mut products = Scratch::take();
        let products = products.room(own.len() * rows);
        x.product(
            Matrix::dense(v, own.len(), width),
            products,
            rows,
            1.0,
            Store::Replace,
        );
        transpose_scaled(products, rows, factors, out_parts, k, own.start);
    });
    // SAFETY: the groups cover all prototypes, and write them for every row.
    unsafe { (out.finish(), lengths.finish()) }
}

/// The gradients of [`prototypes`] from that of its result, `dy` `[R, K]`, and the lengths.
pub fn prototypes_backward(
    x: &[f32],
    v: &[f32],
    g: &[f32],
    lengths: &[f32],
    dy: &[f32],
    width: usize,
) -> PrototypesGradients {
    let (rows, k) = (x.len() / width, g.len());
    assert!(v.len() == k * width && lengths.len() == k && dy.len() == rows * k);
    if rows == 0 || k == 0 {
        return PrototypesGradients {
            x: vec![0.0; x.len()],
            g: vec![0.0; k],
            v: vec![0.0; v.len()],
        };
    }
    let (mut g_grad, mut v_grad) = (Output::new(k), Output::new(k * width));
    let (g_parts, v_parts) = (g_grad.parts(), v_grad.parts());
    let mut packed = Buffer::default();
    let x = Packed::in_parallel(Matrix::dense(x, rows, width), &mut packed);
    let dy = Matrix::dense(dy, rows, k);
    let per_part = k.div_ceil(GROUP).div_ceil(PARTS) * GROUP;
    let shares = map_blocks(k, per_part, |part| {
        let mut share = vec![0.0; rows * width];
        for first in part.clone().step_by(GROUP) {
            let own = first..part.end.min(first + GROUP);
            let range = own.start * width..own.end * width;
            let v = &v[range.clone()];
            let own_dy = dy.columns(own.clone());
            // SAFETY: groups have disjoint prototypes.
            let (dv, dg) = unsafe { (v_parts.zeroed(range), g_parts.zeroed(own.clone())) };
            x.product(own_dy.transposed(), dv, width, 1.0, Store::Replace);
            let mut factors = [0.0; GROUP];
            let factors = &mut factors[..own.len()];
            let numbers = g[own.clone()].iter().zip(&lengths[own.clone()]);
            let each = dv.chunks_exact_mut(width).zip(v.chunks_exact(width));
            for (((dv, v), (g, length)), (dg, factor)) in
                each.zip(numbers).zip(dg.iter_mut().zip(&mut *factors))
            {
                *dg = through_length(dv, v, *g, *length);
                *factor = g / length;
            }
            let [mut scaled_dy, mut directions] = [(); 2].map(|()| Scratch::take());
            let scaled_dy = scaled_dy.room(rows * own.len());
            for (row, y) in scaled_dy.chunks_exact_mut(own.len()).enumerate() {
                scaled(own_dy.row(row), factors, y);
            }
            let directions = Packed::new(Matrix::dense(v, own.len(), width), directions.vec());
            let scaled_dy = Matrix::dense(scaled_dy, rows, own.len());
            directions.product(scaled_dy, &mut share, width, 1.0, Store::Add);
        }
        share
    });
    PrototypesGradients {
        x: ordered_sum(rows * width, shares),
        // SAFETY: the groups cover all prototypes.
        g: unsafe { g_grad.finish() },
        // SAFETY: as above.
        v: unsafe { v_grad.finish() },
    }
}
