//! Sinkhorn–Knopp against double precision.

use crate::common;
use crate::common::{close, numbers, same_on_any_threads, wide};
use dinolab_kernels::*;

/// Scales the columns and rows of a matrix in turn.
fn exact(logits: &[f64], k: usize, temperature: f64, iterations: usize) -> Vec<f64> {
    let rows = logits.len() / k;
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut q: Vec<f64> = logits
        .iter()
        .map(|x| ((x - largest) / temperature).exp())
        .collect();
    let row = |q: &mut Vec<f64>, to: f64| {
        for row in q.chunks_mut(k) {
            let sum: f64 = row.iter().sum();
            row.iter_mut().for_each(|q| *q *= to / sum);
        }
    };
    for _ in 0..iterations {
        for column in 0..k {
            let sum: f64 = (0..rows).map(|r| q[r * k + column]).sum();
            (0..rows).for_each(|r| q[r * k + column] /= sum * k as f64);
        }
        row(&mut q, 1.0 / rows as f64);
    }
    row(&mut q, 1.0);
    q
}

#[test]
fn targets() {
    for (rows, k, temperature, iterations) in [
        (2, 3, 0.5, 3),
        (7, 5, 0.06, 3),
        (12, 700, 0.04, 3),
        (5, 4, 0.1, 0),
        (33, 9, 0.05, 20),
    ] {
        let logits = numbers(7, rows * k);
        let found = sinkhorn(&logits, k, temperature, iterations);
        let expected = exact(&wide(&logits), k, temperature, iterations);
        close(&found, &expected, 2e-5);
        for row in found.chunks(k) {
            assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-4);
        }
    }
}

#[test]
fn prototypes_are_used_alike() {
    let (rows, k) = (64, 8);
    // One prototype is every image's favourite.
    let mut logits = numbers(9, rows * k);
    logits.iter_mut().step_by(k).for_each(|x| *x += 3.0);
    let shares = |targets: Vec<f32>| -> Vec<f32> {
        let column = |c: usize| targets.iter().skip(c).step_by(k).sum::<f32>() / rows as f32;
        (0..k).map(column).collect()
    };
    let softmax = shares(sinkhorn(&logits, k, 0.3, 0));
    let balanced = shares(sinkhorn(&logits, k, 0.3, 30));
    assert!(softmax[0] > 0.9, "{softmax:?}");
    assert!(
        balanced
            .iter()
            .all(|share| (share * k as f32 - 1.0).abs() < 0.1),
        "{balanced:?}"
    );
}

#[test]
fn one_image_equal_images_and_far_logits() {
    for targets in [
        sinkhorn(&numbers(1, 2 * 6), 6, 0.04, 3),
        sinkhorn(&[0.2, -0.1, 0.4].repeat(10), 3, 0.04, 3),
        sinkhorn(&[1e4, 0.0, -1e4, 0.0, -1e4, 1e4], 3, 0.01, 3),
    ] {
        assert!(targets.iter().all(|p| p.is_finite() && *p >= 0.0));
        assert!(targets.iter().sum::<f32>() > 0.9, "{targets:?}");
    }
}

#[test]
fn the_same_on_any_number_of_threads() {
    let (rows, k) = (common::under_miri(6, 40), common::under_miri(300, 3000));
    let logits = numbers(3, rows * k);
    same_on_any_threads(|| sinkhorn(&logits, k, 0.05, 3));
}
