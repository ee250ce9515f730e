//! Grids of one size seen at another: a teacher's patches at the student's places, views in whole patches.

use burn::tensor::{Tensor, TensorData};
use dinolab_nn::ops;

/// Weights `[to, from]` of linear interpolation along one side, over as many places as fall into one of
/// the new ones: a triangle as wide as the larger of the two steps. Each row sums to 1.
fn weights(from: usize, to: usize) -> Vec<f64> {
    let step = from as f64 / to as f64;
    let reach = step.max(1.0);
    let mut all = Vec::with_capacity(from * to);
    for place in 0..to {
        let centre = (place as f64 + 0.5) * step;
        let mut row: Vec<f64> = (0..from)
            .map(|other| (1.0 - ((other as f64 + 0.5 - centre) / reach).abs()).max(0.0))
            .collect();
        let sum: f64 = row.iter().sum();
        row.iter_mut().for_each(|weight| *weight /= sum);
        all.append(&mut row);
    }
    all
}

fn matrix(values: &[f64], shape: [usize; 2], like: &Tensor<2>) -> Tensor<2> {
    let values: Vec<f32> = values.iter().map(|&value| value as f32).collect();
    Tensor::from_data(TensorData::new(values, shape), &like.device())
}

/// Patch tokens `[B, h·w, D]` of a grid `from` at the places of a grid `to`, `[B, h'·w', D]`.
pub(super) fn tokens(x: Tensor<3>, from: (usize, usize), to: (usize, usize)) -> Tensor<3> {
    if from == to {
        return x;
    }
    let [b, n, d] = x.dims();
    let (rows, columns) = (weights(from.0, to.0), weights(from.1, to.1));
    let places = to.0 * to.1;
    let mut both = Vec::with_capacity(places * n);
    for row in rows.chunks(from.0) {
        for column in columns.chunks(from.1) {
            both.extend(row.iter().flat_map(|r| column.iter().map(move |c| r * c)));
        }
    }
    let x = x.permute([1, 0, 2]).reshape([n, b * d]);
    let both = matrix(&both, [places, n], &x);
    ops::matmul(both, x)
        .reshape([places, b, d])
        .permute([1, 0, 2])
}

/// Images `[B, C, H, W]` at `height × width` pixels.
pub(super) fn images(x: Tensor<4>, height: usize, width: usize) -> Tensor<4> {
    let [b, c, h, w] = x.dims();
    if (h, w) == (height, width) {
        return x;
    }
    let along = |x: Tensor<4>, to: usize| {
        let [b, c, h, from] = x.dims();
        let x = x.reshape([b * c * h, from]);
        let change = matrix(&weights(from, to), [to, from], &x).transpose();
        ops::matmul(x, change).reshape([b, c, h, to])
    };
    let x = along(x, width).swap_dims(2, 3);
    along(x, height)
        .swap_dims(2, 3)
        .reshape([b, c, height, width])
}

#[cfg(test)]
mod tests {
    use dinolab_nn::device;

    use super::*;

    fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> Tensor<D> {
        let device = device::by_name("cpu").unwrap();
        Tensor::from_data(TensorData::new(values, shape), &device)
    }

    fn host<const D: usize>(x: Tensor<D>) -> Vec<f32> {
        x.into_data().try_to_vec().unwrap()
    }

    #[test]
    fn halving_averages_neighbours_and_doubling_interpolates() {
        // A triangle of width 2 around the border between two places: 1, 3, 3, 1 of 8 inside.
        let sevenths = [3.0 / 7.0, 3.0 / 7.0, 1.0 / 7.0, 0.0];
        for (weight, expected) in weights(4, 2).iter().zip(sevenths) {
            assert!((weight - expected).abs() < 1e-12);
        }
        assert_eq!(weights(2, 4), [1.0, 0.0, 0.75, 0.25, 0.25, 0.75, 0.0, 1.0]);
        for (from, to) in [(1, 5), (7, 6), (6, 14), (12, 6), (3, 3)] {
            for row in weights(from, to).chunks(from) {
                assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn a_slope_stays_a_slope_whichever_side_it_is_along() {
        for (h, w) in [(4, 6), (6, 4)] {
            let slope: Vec<f32> = (0..h * w)
                .map(|i| (i / w) as f32 + 10.0 * (i % w) as f32)
                .collect();
            let pixels = host(images(tensor(slope.clone(), [1, 1, h, w]), 2 * h, 2 * w));
            let patches = host(tokens(tensor(slope, [1, h * w, 1]), (h, w), (2 * h, 2 * w)));
            assert_eq!(pixels.len(), patches.len());
            for (i, (pixel, patch)) in pixels.iter().zip(&patches).enumerate() {
                assert!((pixel - patch).abs() < 1e-5);
                let (row, column) = (i / (2 * w), i % (2 * w));
                let inside = (1..2 * h - 1).contains(&row) && (1..2 * w - 1).contains(&column);
                let expected = (row as f32 - 0.5) / 2.0 + 10.0 * (column as f32 - 0.5) / 2.0;
                assert!(!inside || (pixel - expected).abs() < 1e-5, "{i}: {pixel}");
            }
        }
    }

    #[test]
    fn images_of_a_batch_are_apart() {
        let values: Vec<f32> = (0..2 * 9 * 2).map(|i| (i as f32 * 0.7).sin()).collect();
        let both = host(tokens(tensor(values.clone(), [2, 9, 2]), (3, 3), (2, 4)));
        for (image, values) in values.chunks(18).enumerate() {
            let alone = host(tokens(tensor(values.to_vec(), [1, 9, 2]), (3, 3), (2, 4)));
            assert_eq!(both[image * 16..][..16], alone);
        }
    }
}
