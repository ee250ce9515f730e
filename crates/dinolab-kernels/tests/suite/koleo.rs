//! KoLeo against double precision and finite differences.

use crate::common;
use crate::common::{close, differences, numbers, same_on_any_threads, wide};
use dinolab_kernels::*;

/// The definition, with the neighbours found by distance.
fn exact(x: &[f64], shape: EmbeddingShape) -> f64 {
    let EmbeddingShape {
        batch,
        views,
        width,
    } = shape;
    let mut total = 0.0;
    for view in x.chunks(batch * width) {
        let rows: Vec<Vec<f64>> = view
            .chunks(width)
            .map(|row| {
                let length = row.iter().map(|v| v * v).sum::<f64>().sqrt();
                row.iter().map(|v| v / length).collect()
            })
            .collect();
        for (i, own) in rows.iter().enumerate() {
            let distance = |other: &Vec<f64>| {
                let squares = own.iter().zip(other).map(|(a, b)| (a - b).powi(2));
                squares.sum::<f64>().sqrt()
            };
            let others = rows.iter().enumerate().filter(|(j, _)| *j != i);
            let nearest = others.map(|(_, other)| distance(other)).fold(9.0, f64::min);
            total -= (nearest + 1e-8).ln();
        }
    }
    total / (views * batch) as f64
}

#[test]
fn value_and_gradient() {
    for (batch, views, width) in [(2, 1, 2), (5, 2, 3), (9, 1, 17), (16, 2, 33)] {
        let shape = EmbeddingShape {
            batch,
            views,
            width,
        };
        let x = numbers(3, views * batch * width);
        let wide = wide(&x);
        let (value, gradient) = koleo(&x, shape);
        let expected = exact(&wide, shape);
        assert!(
            (f64::from(value) - expected).abs() < 1e-5,
            "{value} {expected}"
        );
        let slope = differences(&wide, &[1.0], |x| vec![exact(x, shape)]);
        close(&gradient, &slope, 1e-4);
    }
}

/// Features of a collapsing network: their dot products are 1 up to rounding.
#[test]
fn neighbours_among_almost_equal_features_are_the_nearest() {
    let (batch, width) = (12, 24);
    let shape = EmbeddingShape {
        batch,
        views: 1,
        width,
    };
    let centre = numbers(5, width);
    let mut x = numbers(6, batch * width);
    for (i, value) in x.iter_mut().enumerate() {
        *value = centre[i % width] + 1e-4 * *value;
    }
    let (value, expected) = (f64::from(koleo(&x, shape).0), exact(&wide(&x), shape));
    assert!((value - expected).abs() < 2e-3, "{value} {expected}");
}

#[test]
fn one_image_and_equal_images_have_no_gradient() {
    let shape = |batch| EmbeddingShape {
        batch,
        views: 2,
        width: 3,
    };
    assert_eq!(koleo(&numbers(1, 6), shape(1)), (0.0, vec![0.0; 6]));
    for row in [[0.3, -0.2, 0.9], [0.0; 3]] {
        let (value, gradient) = koleo(&row.repeat(2 * 4), shape(4));
        assert!((value - 18.42068).abs() < 1e-3, "{value}");
        assert_eq!(gradient, [0.0; 24]);
    }
}

#[test]
fn far_neighbours_score_better() {
    let shape = EmbeddingShape {
        batch: 3,
        views: 1,
        width: 2,
    };
    let spread = koleo(&[1.0, 0.0, -0.5, 0.9, -0.5, -0.9], shape).0;
    let close = koleo(&[1.0, 0.0, 1.0, 0.1, 1.0, -0.1], shape).0;
    assert!(spread < close - 1.0, "{spread} {close}");
}

#[test]
fn the_same_on_any_number_of_threads() {
    let shape = EmbeddingShape {
        batch: common::under_miri(5, 70),
        views: 2,
        width: common::under_miri(5, 130),
    };
    let x = numbers(5, shape.batch * shape.views * shape.width);
    same_on_any_threads(|| koleo(&x, shape));
}
