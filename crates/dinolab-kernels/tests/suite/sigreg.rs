//! SIGReg against double precision and finite differences.

use crate::common::{close, differences, numbers, same_on_any_threads, unit_rows, wide};
use dinolab_kernels::*;

/// The definition, term by term.
fn exact(z: &[f64], directions: &[f64], shape: EmbeddingShape) -> f64 {
    let EmbeddingShape {
        batch,
        views,
        width,
    } = shape;
    let mut total = 0.0;
    for view in z.chunks(batch * width) {
        for a in directions.chunks(width) {
            let u: Vec<f64> = view
                .chunks(width)
                .map(|z| z.iter().zip(a).map(|(z, a)| z * a).sum())
                .collect();
            for knot in -16i32..=16 {
                let t = f64::from(knot) * 3.0 / 16.0;
                let mean =
                    |f: &dyn Fn(f64) -> f64| u.iter().map(|u| f(t * u)).sum::<f64>() / batch as f64;
                let gaussian = (-0.5 * t * t).exp();
                let distance = (mean(&f64::cos) - gaussian).powi(2) + mean(&f64::sin).powi(2);
                let end = if knot.abs() == 16 { 0.5 } else { 1.0 };
                total += batch as f64 * end * 3.0 / 16.0 * gaussian * distance;
            }
        }
    }
    total / (views * directions.len() / width) as f64
}

#[test]
fn statistic_and_gradient() {
    for (batch, views, width, count) in [(1, 1, 1, 1), (5, 3, 6, 7), (3, 2, 4, 16), (9, 4, 5, 41)] {
        let shape = EmbeddingShape {
            batch,
            views,
            width,
        };
        let z = numbers(1, views * batch * width);
        let a = unit_rows(2, count, width);
        let (zw, aw) = (wide(&z), wide(&a));
        let (value, gradient) = sigreg(&z, &a, shape);
        let expected = exact(&zw, &aw, shape);
        assert!(
            (f64::from(value) / expected - 1.0).abs() < 1e-5,
            "{value} {expected}"
        );
        let slope = differences(&zw, &[1.0], |z| vec![exact(z, &aw, shape)]);
        close(&gradient, &slope, 2e-5);
    }
}

#[test]
fn normal_embeddings_score_better_than_collapsed_ones() {
    let shape = EmbeddingShape {
        batch: 256,
        views: 1,
        width: 4,
    };
    // Sums of twelve uniform numbers are nearly normal; these have variance 12 · 1.7² / 3.
    let spread = (12.0f32 * 1.7 * 1.7 / 3.0).sqrt();
    let normal: Vec<f32> = numbers(1, 256 * 4 * 12)
        .chunks(12)
        .map(|x| x.iter().sum::<f32>() / spread)
        .collect();
    let a = unit_rows(2, 64, 4);
    let score = |z: &[f32]| sigreg(z, &a, shape).0;
    let (normal, constant) = (score(&normal), score(&vec![0.3; 256 * 4]));
    assert!(normal * 10.0 < constant, "{normal} {constant}");
    // Far-off values stay finite.
    let (value, gradient) = sigreg(&vec![1e6; 256 * 4], &a, shape);
    assert!(value.is_finite() && gradient.iter().all(|g| g.is_finite()));
}

#[test]
fn threads_do_not_show() {
    let shape = EmbeddingShape {
        batch: 33,
        views: 5,
        width: 12,
    };
    let (z, a) = (numbers(1, 33 * 5 * 12), unit_rows(2, 100, 12));
    same_on_any_threads(|| sigreg(&z, &a, shape));
}
