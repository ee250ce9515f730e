//! Images with channels last.

use rayon::prelude::*;

/// Images `[B, C, H, W]` as `[B, H, W, C]`.
pub fn channels_last(x: &[f32], channels: usize, pixels: usize) -> Vec<f32> {
    assert!(channels > 0 && pixels > 0 && x.len().is_multiple_of(channels * pixels));
    let mut y = vec![0.0; x.len()];
    y.par_chunks_exact_mut(channels * pixels)
        .zip(x.par_chunks_exact(channels * pixels))
        .for_each(|(y, x)| match channels {
            3 => {
                let (red, rest) = x.split_at(pixels);
                let (green, blue) = rest.split_at(pixels);
                let (y, _) = y.as_chunks_mut::<3>();
                for (y, ((r, g), b)) in y.iter_mut().zip(red.iter().zip(green).zip(blue)) {
                    *y = [*r, *g, *b];
                }
            }
            _ => {
                for (channel, plane) in x.chunks_exact(pixels).enumerate() {
                    for (pixel, value) in y.chunks_exact_mut(channels).zip(plane) {
                        pixel[channel] = *value;
                    }
                }
            }
        });
    y
}
