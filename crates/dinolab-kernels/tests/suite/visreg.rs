//! VISReg's regulariser against double precision and finite differences.

use crate::common::{
    close, differences, normal, numbers, same_on_any_threads, under_miri, unit_rows, wide,
};
use dinolab_kernels::*;

/// The terms by their definition. `deviations` `[V, d]` are taken as given by the shape; without them
/// they are those of `z`.
fn exact(z: &[f64], directions: &[f64], shape: EmbeddingShape, given: Option<&[f64]>) -> [f64; 3] {
    let EmbeddingShape {
        batch,
        views,
        width,
    } = shape;
    let deviations = deviations(z, shape);
    let quantiles: Vec<f64> = normal_quantiles(batch).into_iter().map(f64::from).collect();
    let mut terms = [0.0; 3];
    for (view, z) in z.chunks(batch * width).enumerate() {
        let of = |given: &[f64]| given[view * width..(view + 1) * width].to_vec();
        let (own, given) = (of(&deviations), of(given.unwrap_or(&deviations)));
        let means: Vec<f64> = (0..width)
            .map(|j| z.iter().skip(j).step_by(width).sum::<f64>() / batch as f64)
            .collect();
        let cells = (views * width) as f64;
        terms[0] += means.iter().map(|m| m * m).sum::<f64>() / cells;
        terms[1] += own.iter().map(|s| (s - 1.0).powi(2)).sum::<f64>() / cells;
        for a in directions.chunks(width) {
            let mut u: Vec<f64> = z
                .chunks(width)
                .map(|row| {
                    (0..width)
                        .map(|j| a[j] * (row[j] - means[j]) / given[j])
                        .sum()
                })
                .collect();
            u.sort_by(f64::total_cmp);
            let distances = u.iter().zip(&quantiles).map(|(u, q)| (u - q).powi(2));
            terms[2] += distances.sum::<f64>() / (views * batch * directions.len() / width) as f64;
        }
    }
    terms
}

fn deviations(z: &[f64], shape: EmbeddingShape) -> Vec<f64> {
    let (batch, width) = (shape.batch as f64, shape.width);
    let of_view = |z: &[f64]| -> Vec<f64> {
        let column = |j: usize| z.iter().skip(j).step_by(width);
        (0..width)
            .map(|j| {
                let mean = column(j).sum::<f64>() / batch;
                let variance = column(j).map(|z| (z - mean).powi(2)).sum::<f64>() / batch;
                (variance + 1e-4).sqrt()
            })
            .collect()
    };
    z.chunks(shape.batch * width).flat_map(of_view).collect()
}

#[test]
fn terms_and_gradients() {
    for (batch, views, width, count) in [(1, 1, 1, 1), (5, 3, 6, 7), (3, 2, 4, 16), (9, 4, 5, 41)] {
        let shape = EmbeddingShape {
            batch,
            views,
            width,
        };
        let z = numbers(1, views * batch * width);
        let a = unit_rows(2, count, width);
        let (zw, aw) = (wide(&z), wide(&a));
        let (terms, gradients) = visreg(&z, &a, shape);
        let expected = exact(&zw, &aw, shape, None);
        for (term, expected) in terms.iter().zip(expected) {
            let error = (f64::from(*term) - expected).abs();
            assert!(error < 1e-5 * expected.max(1e-3), "{terms:?} {expected}");
        }
        let given = deviations(&zw, shape);
        for (term, gradient) in gradients.chunks(z.len()).enumerate() {
            let slope = differences(&zw, &[1.0], |z| {
                vec![exact(z, &aw, shape, Some(&given))[term]]
            });
            close(gradient, &slope, 2e-4);
        }
    }
}

#[test]
fn equal_rows_and_one_row_stay_finite() {
    for (batch, z) in [
        (1, numbers(3, 2 * 4)),
        (6, [0.7f32, -2.0, 3e4, 0.0].repeat(2 * 6)),
    ] {
        let shape = EmbeddingShape {
            batch,
            views: 2,
            width: 4,
        };
        let (terms, gradients) = visreg(&z, &unit_rows(2, 10, 4), shape);
        assert!(terms.iter().chain(&gradients).all(|v| v.is_finite()));
        // Rows without spread are far from scale 1, but no direction leads away from it.
        assert!(terms[1] > 0.9);
        assert!(gradients[z.len()..2 * z.len()].iter().all(|&g| g == 0.0));
    }
}

#[test]
fn normal_embeddings_score_better_than_others() {
    let shape = EmbeddingShape {
        batch: under_miri(32, 256),
        views: 1,
        width: 4,
    };
    let cells = shape.batch * 4;
    // Sums of twelve uniform numbers are nearly normal; these have variance 12 · 1.7² / 3.
    let spread = (12.0f32 * 1.7 * 1.7 / 3.0).sqrt();
    let normal: Vec<f32> = numbers(1, cells * 12)
        .chunks(12)
        .map(|x| x.iter().sum::<f32>() / spread)
        .collect();
    let a = unit_rows(2, 16, 4);
    let score = |z: &[f32]| visreg(z, &a, shape).0;
    let [location, scale, form] = score(&normal);
    let moved: Vec<f32> = normal.iter().map(|v| v + 1.0).collect();
    let wide: Vec<f32> = normal.iter().map(|v| v * 2.0).collect();
    let two_points: Vec<f32> = normal.iter().map(|v| v.signum()).collect();
    assert!(10.0 * location < score(&moved)[0]);
    assert!(10.0 * scale < score(&wide)[1]);
    assert!(2.0 * form < score(&two_points)[2]);
}

#[test]
fn quantiles_are_the_inverse_of_the_distribution() {
    for count in [1, 2, 5, 64, under_miri(65, 1000)] {
        let quantiles = normal_quantiles(count);
        for (i, &q) in quantiles.iter().enumerate() {
            let share = (i + 1) as f64 / (count + 1) as f64;
            assert!((normal(f64::from(q)) - share).abs() < 1e-7);
            assert_eq!(q, -quantiles[count - 1 - i]);
        }
    }
    assert_eq!(normal_quantiles(3)[1], 0.0);
}

#[test]
fn threads_do_not_show() {
    let shape = EmbeddingShape {
        batch: under_miri(3, 33),
        views: 5,
        width: 12,
    };
    let z = numbers(1, shape.batch * shape.views * shape.width);
    let a = unit_rows(2, under_miri(5, 100), 12);
    same_on_any_threads(|| visreg(&z, &a, shape));
}
