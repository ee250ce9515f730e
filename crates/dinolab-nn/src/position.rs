//! Position embeddings: learned ones for image sizes other than the trained one, and rotary ones.

mod rope;

use burn::tensor::{Device, Tensor, TensorData};

pub(crate) use self::rope::RotationBuilder;
pub use self::rope::{CoordinateChange, ROPE_THETA, Rope};

/// Which convention places the samples when position embeddings are resized.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PositionRule {
    /// The reference's: samples lie `side / (patches + 0.1)` apart, and nothing is resized
    /// where the number of patches is the trained one and the image is square.
    #[default]
    Dino,
    /// By the ratio of sizes, `side / patches`, as Hugging Face's ViT and DINOv2 do.
    Ratio,
    /// By the ratio of sizes, with an antialiasing filter (a = −0.5, as wide as the step where
    /// that is larger than 1), as timm and DINOv2 with registers do.
    #[serde(alias = "ratio-antialias")]
    RatioAntialias,
}

impl std::fmt::Display for PositionRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Dino => "dino",
            Self::Ratio => "ratio",
            Self::RatioAntialias => "ratio-antialias",
        })
    }
}

impl std::str::FromStr for PositionRule {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Dino, Self::Ratio, Self::RatioAntialias]
            .into_iter()
            .find(|rule| rule.to_string() == text)
            .ok_or_else(|| "one of dino, ratio, ratio-antialias".into())
    }
}

/// The cubic kernel with parameter `a` at distance `x`.
fn cubic(a: f64, x: f64) -> f64 {
    let x = x.abs();
    if x <= 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a
    } else {
        0.0
    }
}

/// Row-major `[to, from]` weights that resample `from` values to `to` by bicubic interpolation,
/// as PyTorch does it for each rule.
fn axis(from: usize, to: usize, rule: PositionRule) -> Vec<f64> {
    match rule {
        PositionRule::Dino => plain(from, to, from as f64 / (to as f64 + 0.1)),
        PositionRule::Ratio => plain(from, to, from as f64 / to as f64),
        PositionRule::RatioAntialias => antialiased(from, to),
    }
}

/// Samples `step` apart, four taps each (a = −0.75); beyond the edge they repeat it.
fn plain(from: usize, to: usize, step: f64) -> Vec<f64> {
    let mut weights = vec![0.0; to * from];
    for (o, row) in weights.chunks_exact_mut(from).enumerate() {
        let centre = (o as f64 + 0.5) * step - 0.5;
        let base = centre.floor();
        for tap in -1..=2 {
            let at = (base + f64::from(tap)).clamp(0.0, (from - 1) as f64) as usize;
            row[at] += cubic(-0.75, centre - base - f64::from(tap));
        }
    }
    weights
}

/// A kernel (a = −0.5) that widens with the step when there are fewer samples than values; what
/// would lie beyond the edge is left out and the rest brought to a sum of 1.
fn antialiased(from: usize, to: usize) -> Vec<f64> {
    let step = from as f64 / to as f64;
    let width = step.max(1.0);
    let mut weights = vec![0.0; to * from];
    for (o, row) in weights.chunks_exact_mut(from).enumerate() {
        let centre = (o as f64 + 0.5) * step;
        for (at, weight) in row.iter_mut().enumerate() {
            *weight = cubic(-0.5, (at as f64 + 0.5 - centre) / width);
        }
        let sum: f64 = row.iter().sum();
        row.iter_mut().for_each(|weight| *weight /= sum);
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
/// `side × side` patches to `h × w`. One matrix multiplication applies it, which every device has
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
