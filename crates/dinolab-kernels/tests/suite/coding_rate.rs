//! The coding rate against double precision and finite differences.

use crate::common::{
    close, differences, numbers, same_on_any_threads, under_miri, unit_rows, wide,
};
use dinolab_kernels::*;

/// The definition: `½ logdet(I + c·ZᵀZ)` by elimination.
fn exact(z: &[f64], shape: EmbeddingShape, scale: f64) -> f64 {
    let d = shape.width;
    let of_view = |z: &[f64]| {
        let mut m = vec![0.0; d * d];
        for row in z.chunks(d) {
            for i in 0..d {
                for j in 0..d {
                    m[i * d + j] += scale * row[i] * row[j];
                }
            }
        }
        (0..d).for_each(|i| m[i * d + i] += 1.0);
        let mut half = 0.0;
        for k in 0..d {
            half += 0.5 * m[k * d + k].ln();
            for i in k + 1..d {
                let share = m[i * d + k] / m[k * d + k];
                for j in k..d {
                    m[i * d + j] -= share * m[k * d + j];
                }
            }
        }
        half
    };
    z.chunks(shape.batch * d).map(of_view).sum::<f64>() / shape.views as f64
}

#[test]
fn rate_and_gradient() {
    for (batch, views, width, scale) in [
        (1, 1, 1, 0.5),
        (5, 2, 6, 2.4),
        (9, 2, 4, 0.9),
        (4, 3, 4, 30.0),
    ] {
        let shape = EmbeddingShape {
            batch,
            views,
            width,
        };
        let z = numbers(1, views * batch * width);
        let (value, gradient) = coding_rate(&z, shape, scale);
        let expected = exact(&wide(&z), shape, scale);
        assert!(
            (f64::from(value) / expected - 1.0).abs() < 1e-6,
            "{value} {expected}"
        );
        let slope = differences(&wide(&z), &[1.0], |z| vec![exact(z, shape, scale)]);
        close(&gradient, &slope, 1e-5);
    }
}

#[test]
fn features_in_all_directions_have_a_higher_rate_than_equal_ones() {
    let shape = EmbeddingShape {
        batch: 16,
        views: 1,
        width: 8,
    };
    let spread = unit_rows(3, 16, 8);
    let equal = spread[..8].repeat(16);
    let rate = |z: &[f32]| coding_rate(z, shape, 8.0 / (16.0 * 0.5));
    let (one, gradient) = rate(&equal);
    assert!(2.0 * one < rate(&spread).0);
    assert!(gradient.iter().all(|g| g.is_finite()));
    // Without features there is nothing to tell apart, and nothing breaks.
    let (none, gradient) = rate(&[0.0; 128]);
    assert!(none == 0.0 && gradient.iter().all(|&g| g == 0.0));
}

#[test]
fn threads_do_not_show() {
    let shape = EmbeddingShape {
        batch: under_miri(3, 33),
        views: 2,
        width: under_miri(5, 40),
    };
    let z = numbers(1, shape.batch * shape.views * shape.width);
    same_on_any_threads(|| coding_rate(&z, shape, 2.0));
}
