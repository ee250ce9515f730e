//! Maximum pooling over images with channels last.

use rayon::prelude::*;

use crate::conv::ConvShape;
use crate::simd::multiversioned;

/// The largest value of each window, `[B, H', W', C]`, and its place in the window. What is outside
/// of an image has no part in it. Of equal values the first counts.
///
/// `shape` has as many outputs as inputs; its kernel is at most 15 wide.
pub fn max_pool(x: &[f32], shape: &ConvShape) -> (Vec<f32>, Vec<u8>) {
    let ConvShape {
        height,
        width,
        inputs: channels,
        kernel,
        stride,
        padding,
        ..
    } = *shape;
    assert!(kernel <= 15 && padding < kernel && shape.outputs == channels);
    assert_eq!(x.len(), shape.images * height * width * channels);
    let (down, across) = shape.output_size();
    let len = shape.images * down * across * channels;
    let (mut y, mut places) = (vec![0.0; len], vec![0u8; len]);
    let line = across * channels;
    if len > 0 {
        y.par_chunks_exact_mut(line)
            .zip(places.par_chunks_exact_mut(line))
            .enumerate()
            .for_each(|(row, (y, places))| {
                let image =
                    &x[row / down * height * width * channels..][..height * width * channels];
                let top = row % down * stride;
                let pixels = y
                    .chunks_exact_mut(channels)
                    .zip(places.chunks_exact_mut(channels));
                for (column, (y, places)) in pixels.enumerate() {
                    y.fill(f32::NEG_INFINITY);
                    let left = column * stride;
                    for place in 0..kernel * kernel {
                        let (v, u) = (top + place / kernel, left + place % kernel);
                        let inside = (padding..height + padding).contains(&v)
                            && (padding..width + padding).contains(&u);
                        if inside {
                            let at = ((v - padding) * width + u - padding) * channels;
                            take_larger(y, places, &image[at..at + channels], place as u8);
                        }
                    }
                }
            });
    }
    (y, places)
}

/// The gradient of the images, `[B, H, W, C]`, from that of [`max_pool`]'s result and its places.
pub fn max_pool_backward(dy: &[f32], places: &[u8], shape: &ConvShape) -> Vec<f32> {
    let ConvShape {
        height,
        width,
        inputs: channels,
        kernel,
        stride,
        padding,
        ..
    } = *shape;
    let (down, across) = shape.output_size();
    assert!(dy.len() == places.len() && dy.len() == shape.images * down * across * channels);
    let mut dx = vec![0.0; shape.images * height * width * channels];
    if dy.is_empty() {
        return dx;
    }
    let part = down * across * channels;
    dx.par_chunks_exact_mut(height * width * channels)
        .zip(dy.par_chunks_exact(part).zip(places.par_chunks_exact(part)))
        .for_each(|(dx, (dy, places))| {
            for (i, (dy, &place)) in dy.iter().zip(places).enumerate() {
                let (pixel, channel) = (i / channels, i % channels);
                let v = pixel / across * stride + usize::from(place) / kernel - padding;
                let u = pixel % across * stride + usize::from(place) % kernel - padding;
                dx[(v * width + u) * channels + channel] += dy;
            }
        });
    dx
}

multiversioned! {
    fn take_larger(y: &mut [f32], places: &mut [u8], x: &[f32], place: u8) {
        for ((y, p), x) in y.iter_mut().zip(places).zip(x) {
            // NaN counts as larger, so that it is seen.
            let larger = *x > *y || x.is_nan();
            *y = if larger { *x } else { *y };
            *p = if larger { place } else { *p };
        }
    }
}
