//! The Kozachenko–Leonenko regulariser (KoLeo; Sablayrolles et al., arXiv 1806.03198).

use crate::embedding_shape::EmbeddingShape;
use crate::parallel::{light_step, map_blocks};
use crate::simd::{multiversioned, squared_distance};

/// Keeps the logarithm of a distance of 0 finite.
const EPSILON: f64 = 1e-8;
/// Distances of unit vectors below this are rounding: they have no direction.
const NO_DIRECTION: f64 = 1e-6;
/// Shorter rows are not scaled up.
const SHORTEST: f64 = 1e-12;

multiversioned! {
    /// The row of `rows` `[B, D]` nearest to row `own`, itself apart: the first one of those at the least
    /// distance. Of almost equal unit vectors, dot products are equal up to rounding, which would choose among
    /// neighbours at different distances.
    fn nearest(rows: &[f32], width: usize, own: usize) -> usize {
        let mut best = (f32::INFINITY, usize::from(own == 0));
        let query = &rows[own * width..][..width];
        for (place, row) in rows.chunks_exact(width).enumerate() {
            let distance = squared_distance::<FMA>(query, row);
            if place != own && distance < best.0 {
                best = (distance, place);
            }
        }
        best.1
    }
}

/// How close the features of each view lie to their nearest neighbours, and its gradient.
///
/// `x` `[V·B, D]` are features, view-major. With `y` the rows scaled to length 1 and `n(i)` the
/// nearest other image of the same view, the value is `−mean_i log(‖y_i − y_n(i)‖ + 1e-8)` over
/// images and views. The choice of neighbours is not differentiated; neighbours have gradients,
/// too. Equal features have a distance, 0, but no direction in which to part, and so no gradient.
/// One image has no neighbour: the value is 0.
///
/// Returns the value and the gradient `[V·B, D]`.
pub fn koleo(x: &[f32], shape: EmbeddingShape) -> (f32, Vec<f32>) {
    let EmbeddingShape {
        batch,
        views,
        width,
    } = shape;
    assert!(batch > 0 && views > 0 && width > 0);
    assert_eq!(x.len(), views * batch * width);
    if batch == 1 {
        return (0.0, vec![0.0; x.len()]);
    }
    let mut lengths = Vec::with_capacity(views * batch);
    let mut y = Vec::with_capacity(x.len());
    for row in x.chunks_exact(width) {
        let squares: f64 = row.iter().map(|&v| f64::from(v).powi(2)).sum();
        let length = squares.sqrt().max(SHORTEST);
        lengths.push(length);
        y.extend(row.iter().map(|&v| (f64::from(v) / length) as f32));
    }
    let step = light_step(batch * width);
    let neighbours = map_blocks(views * batch, step, |range| {
        let find = |row: usize| {
            let first = row - row % batch;
            let view = &y[first * width..][..batch * width];
            first + nearest(view, width, row % batch)
        };
        range.map(find).collect::<Vec<_>>()
    });
    // Each row has few parts of the gradient; adding them in the rows' order keeps it the same at
    // any number of threads.
    let share = 1.0 / (views * batch) as f64;
    let (mut sum, mut slopes) = (0.0, vec![0.0f64; x.len()]);
    for (row, neighbour) in neighbours.into_iter().flatten().enumerate() {
        let [own, other] = [row, neighbour].map(|place| &y[place * width..][..width]);
        let difference = |at: usize| f64::from(own[at]) - f64::from(other[at]);
        let distance = (0..width).map(|at| difference(at).powi(2)).sum::<f64>();
        let distance = distance.sqrt();
        sum -= (distance + EPSILON).ln();
        if distance > NO_DIRECTION {
            let slope = -share / ((distance + EPSILON) * distance);
            for at in 0..width {
                let part = slope * difference(at);
                slopes[row * width + at] += part;
                slopes[neighbour * width + at] -= part;
            }
        }
    }
    // Through the scaling to length 1.
    let mut gradient = Vec::with_capacity(x.len());
    let rows = slopes.chunks_exact(width).zip(y.chunks_exact(width));
    for ((slope, y), length) in rows.zip(lengths) {
        let along: f64 = slope.iter().zip(y).map(|(s, &y)| s * f64::from(y)).sum();
        let turn = |(s, &y): (&f64, &f32)| ((s - along * f64::from(y)) / length) as f32;
        gradient.extend(slope.iter().zip(y).map(turn));
    }
    ((sum * share) as f32, gradient)
}
