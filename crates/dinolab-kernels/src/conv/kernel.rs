//! Weights `[O, I, k, k]` in the order of windows with channels last.

use rayon::prelude::*;

use super::ConvShape;
use crate::scratch::Buffer;

/// `[O, k, k, I]`, each output multiplied by its factor if there are any.
pub(super) fn forward<'a>(
    weight: &'a [f32],
    scale: Option<&[f32]>,
    shape: &ConvShape,
    buffer: &'a mut Buffer,
) -> &'a [f32] {
    let (inputs, area) = (shape.inputs, shape.kernel * shape.kernel);
    if scale.is_none() && (area == 1 || inputs == 1) {
        return weight;
    }
    *buffer = Buffer::new(weight.len());
    buffer
        .par_chunks_exact_mut(inputs * area)
        .zip(weight.par_chunks_exact(inputs * area))
        .enumerate()
        .for_each(|(output, (into, from))| {
            let factor = scale.map_or(1.0, |scale| scale[output]);
            for (place, line) in into.chunks_exact_mut(inputs).enumerate() {
                for (value, from) in line.iter_mut().zip(from.chunks_exact(area)) {
                    *value = factor * from[place];
                }
            }
        });
    buffer
}

/// Some places of the kernel, by row and column, as `[rows, columns, O, I]`.
pub(super) fn backward<'a>(
    weight: &[f32],
    shape: &ConvShape,
    [rows, columns]: [&[usize]; 2],
    buffer: &'a mut Buffer,
) -> &'a [f32] {
    let ConvShape {
        inputs,
        outputs,
        kernel,
        ..
    } = *shape;
    let area = kernel * kernel;
    *buffer = Buffer::new(rows.len() * columns.len() * outputs * inputs);
    buffer
        .par_chunks_exact_mut(inputs)
        .enumerate()
        .for_each(|(line, into)| {
            let (place, output) = (line / outputs, line % outputs);
            let at = rows[place / columns.len()] * kernel + columns[place % columns.len()];
            let from = &weight[output * inputs * area..][..inputs * area];
            for (value, from) in into.iter_mut().zip(from.chunks_exact(area)) {
                *value = from[at];
            }
        });
    buffer
}

/// `[O, k, k, I]` as `[O, I, k, k]`.
pub(super) fn reference_order(ordered: &[f32], shape: &ConvShape) -> Vec<f32> {
    let (inputs, area) = (shape.inputs, shape.kernel * shape.kernel);
    let mut weight = vec![0.0; ordered.len()];
    weight
        .par_chunks_exact_mut(inputs * area)
        .zip(ordered.par_chunks_exact(inputs * area))
        .for_each(|(into, from)| {
            for (input, line) in into.chunks_exact_mut(area).enumerate() {
                for (value, from) in line.iter_mut().zip(from.chunks_exact(inputs)) {
                    *value = from[input];
                }
            }
        });
    weight
}
