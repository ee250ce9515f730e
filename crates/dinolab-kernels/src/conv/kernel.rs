//! Weights `[O, I, k, k]` in the order of windows with channels last.

use rayon::prelude::*;

use super::ConvShape;
use crate::parallel::Parts;
use crate::scratch::Buffer;
use crate::simd::multiversioned;

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
            transpose(into, from, area);
            if let Some(scale) = scale {
                multiply(into, scale[output]);
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
    let places = || {
        rows.iter()
            .flat_map(|row| columns.iter().map(move |c| row * kernel + c))
    };
    *buffer = Buffer::new(rows.len() * columns.len() * outputs * inputs);
    let parts = Parts::of(buffer);
    weight
        .par_chunks_exact(inputs * area)
        .enumerate()
        .for_each(|(output, from)| {
            for (line, place) in places().enumerate() {
                let start = (line * outputs + output) * inputs;
                // SAFETY: initialised, and each line is of one output, which is one task's.
                let into = unsafe { parts.written(start..start + inputs) };
                column(into, from, area, place);
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
        .for_each(|(into, from)| transpose(into, from, inputs));
    weight
}

multiversioned! {
    fn multiply(values: &mut [f32], factor: f32) {
        for value in values {
            *value *= factor;
        }
    }

    /// Rows of `width` values become columns.
    fn transpose(into: &mut [f32], from: &[f32], width: usize) {
        match (width, from.len() / width) {
            (9, _) => transpose_narrow::<9>(into, from),
            (_, 9) => transpose_wide::<9>(into, from),
            (_, height) => {
                for (column, line) in into.chunks_exact_mut(height).enumerate() {
                    for (value, from) in line.iter_mut().zip(from.chunks_exact(width)) {
                        *value = from[column];
                    }
                }
            }
        }
    }

    /// One of `width` columns.
    fn column(into: &mut [f32], from: &[f32], width: usize, place: usize) {
        match width {
            9 => {
                let (from, _) = from.as_chunks::<9>();
                for (value, from) in into.iter_mut().zip(from) {
                    *value = from[place];
                }
            }
            _ => {
                for (value, from) in into.iter_mut().zip(from.chunks_exact(width)) {
                    *value = from[place];
                }
            }
        }
    }
}

/// Rows of `N` values become `N` rows, which are written side by side.
#[inline(always)]
fn transpose_narrow<const N: usize>(into: &mut [f32], from: &[f32]) {
    let (from, _) = from.as_chunks::<N>();
    let mut rest = into;
    let lines: [&mut [f32]; N] = std::array::from_fn(|_| {
        let (line, others) = std::mem::take(&mut rest).split_at_mut(from.len());
        rest = others;
        line
    });
    for (i, from) in from.iter().enumerate() {
        for n in 0..N {
            lines[n][i] = from[n];
        }
    }
}

/// `N` rows become rows of `N` values.
#[inline(always)]
fn transpose_wide<const N: usize>(into: &mut [f32], from: &[f32]) {
    let width = from.len() / N;
    let lines: [&[f32]; N] = std::array::from_fn(|n| &from[n * width..(n + 1) * width]);
    let (into, _) = into.as_chunks_mut::<N>();
    for (i, into) in into.iter_mut().enumerate() {
        for n in 0..N {
            into[n] = lines[n][i];
        }
    }
}
