//! Position embeddings for image sizes other than the trained one.

use burn::tensor::{Device, Tensor, TensorData};

/// Which convention places the samples when position embeddings are resized.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PositionRule {
    /// The reference's: samples lie `side / (patches + 0.1)` apart, and nothing is resized
    /// where the number of patches is the trained one and the image is square.
    #[default]
    Dino,
    /// By the ratio of sizes, `side / patches`, as timm and later checkpoints do.
    Ratio,
}

/// PyTorch's cubic kernel (a = −0.75) at distance `x`.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.75;
    let x = x.abs();
    if x <= 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A
    } else {
        0.0
    }
}

/// Row-major `[to, from]` weights that resample `from` values to `to`, by bicubic
/// interpolation without antialiasing; samples beyond the edge repeat it.
fn axis(from: usize, to: usize, rule: PositionRule) -> Vec<f64> {
    let step = match rule {
        PositionRule::Dino => from as f64 / (to as f64 + 0.1),
        PositionRule::Ratio => from as f64 / to as f64,
    };
    let mut weights = vec![0.0; to * from];
    for (o, row) in weights.chunks_exact_mut(from).enumerate() {
        let centre = (o as f64 + 0.5) * step - 0.5;
        let base = centre.floor();
        for tap in -1..=2 {
            let at = (base + f64::from(tap)).clamp(0.0, (from - 1) as f64) as usize;
            row[at] += cubic(centre - base - f64::from(tap));
        }
    }
    weights
}

/// Row-major `[h·w, side·side]` weights that resample a `side × side` grid to `h × w`.
fn matrix(side: usize, h: usize, w: usize, rule: PositionRule) -> Vec<f32> {
    let (rows, columns) = (axis(side, h, rule), axis(side, w, rule));
    let n = side * side;
    let mut matrix = vec![0f32; h * w * n];
    for (i, out) in matrix.chunks_exact_mut(n).enumerate() {
        let (row, column) = (
            &rows[i / w * side..][..side],
            &columns[i % w * side..][..side],
        );
        for (y, line) in out.chunks_exact_mut(side).enumerate() {
            for (x, value) in line.iter_mut().enumerate() {
                *value = (row[y] * column[x]) as f32;
            }
        }
    }
    matrix
}

/// The fixed matrix `[h·w, side·side]` that resamples a grid of position embeddings of
/// `side × side` patches to `h × w`. One matrix product applies it, which every device has
/// and which differentiates exactly. `None` where the embeddings serve as they are.
pub fn resampling(
    side: usize,
    h: usize,
    w: usize,
    rule: PositionRule,
    device: &Device,
) -> Option<Tensor<2>> {
    // The count of patches and a square image, not the sides: as the reference asks it.
    if h * w == side * side && h == w {
        return None;
    }
    let data = TensorData::new(matrix(side, h, w, rule), [h * w, side * side]);
    Some(Tensor::from_data(data, device))
}

/// Resamples a grid of embeddings, row-major `[side·side, width]`, to `[h·w, width]`.
pub fn resample(
    grid: &[f32],
    width: usize,
    side: usize,
    h: usize,
    w: usize,
    rule: PositionRule,
) -> Vec<f32> {
    let mut out = vec![0f32; h * w * width];
    let matrix = matrix(side, h, w, rule);
    for (out, weights) in out
        .chunks_exact_mut(width)
        .zip(matrix.chunks_exact(side * side))
    {
        for (weight, token) in weights.iter().zip(grid.chunks_exact(width)) {
            if *weight != 0.0 {
                out.iter_mut()
                    .zip(token)
                    .for_each(|(o, t)| *o += weight * t);
            }
        }
    }
    out
}
