//! GELU, layer normalisation and the loss against double precision.

use crate::common::{
    close, differences, exact_layer_norm, normal, numbers, same_on_any_threads, under_miri, wide,
};
use dinolab_kernels::*;

#[test]
#[cfg_attr(miri, ignore = "too slow")]
fn gelu_and_its_derivative() {
    for n in [1, 7, 8, 1001] {
        let x: Vec<f32> = numbers(n as u64, n).iter().map(|x| 4.0 * x).collect();
        let exact: Vec<f64> = wide(&x).iter().map(|x| x * normal(*x)).collect();
        let (y, derivative) = gelu_with_derivative(&x);
        close(&y, &exact, 5e-7);
        close(&gelu(&x), &exact, 5e-7);
        let weights = wide(&numbers(3, n));
        let f = |x: &[f64]| x.iter().map(|x| x * normal(*x)).collect::<Vec<_>>();
        let dy: Vec<f32> = weights.iter().map(|&w| w as f32).collect();
        close(
            &gelu_backward(&dy, &derivative),
            &differences(&wide(&x), &weights, f),
            1e-6,
        );
    }
}

#[test]
#[cfg_attr(miri, ignore = "too slow")]
fn layer_norm_and_its_gradients() {
    let eps = 1e-6;
    for (rows, d) in [(1, 3), (5, 17), (3, 40), (2, 64)] {
        let (x, gamma, beta) = (numbers(1, rows * d), numbers(2, d), numbers(3, d));
        let (y, statistics) = layer_norm(&x, &gamma, &beta, eps as f32);
        let [xw, gw, bw] = [&x, &gamma, &beta].map(|v| wide(v));
        close(&y, &exact_layer_norm(&xw, &gw, &bw, eps), 1e-6);
        let dy = numbers(4, rows * d);
        let weights = wide(&dy);
        let ours = layer_norm_backward(&x, &gamma, &statistics, &dy);
        let by_x = differences(&xw, &weights, |x| exact_layer_norm(x, &gw, &bw, eps));
        let by_gamma = differences(&gw, &weights, |g| exact_layer_norm(&xw, g, &bw, eps));
        let by_beta = differences(&bw, &weights, |b| exact_layer_norm(&xw, &gw, b, eps));
        close(&ours.x, &by_x, 1e-5);
        close(&ours.gamma, &by_gamma, 1e-5);
        close(&ours.beta, &by_beta, 1e-5);
    }
}

fn exact_softmax(x: &[f64]) -> Vec<f64> {
    let max = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = x.iter().map(|x| (x - max).exp()).sum();
    x.iter().map(|x| (x - max).exp() / sum).collect()
}

fn exact_loss(student: &[f64], targets: &[f64], shape: LossShape, temperature: f64) -> f64 {
    let LossShape {
        batch,
        views,
        prototypes: k,
    } = shape;
    let mut total = 0.0;
    for global in 0..2 {
        for view in (0..views).filter(|&view| view != global) {
            for image in 0..batch {
                let row = &student[(view * batch + image) * k..][..k];
                let scaled: Vec<f64> = row.iter().map(|x| x / temperature).collect();
                let p = exact_softmax(&scaled);
                let q = &targets[(global * batch + image) * k..][..k];
                total -= q.iter().zip(&p).map(|(q, p)| q * p.ln()).sum::<f64>();
            }
        }
    }
    total / ((2 * views - 2) * batch) as f64
}

#[test]
#[cfg_attr(miri, ignore = "too slow")]
fn loss_and_its_gradient() {
    let temperature = 0.1;
    for (batch, views, prototypes) in [(1, 2, 3), (2, 4, 37), (3, 3, 16)] {
        let shape = LossShape {
            batch,
            views,
            prototypes,
        };
        let student = numbers(5, views * batch * prototypes);
        let logits = numbers(6, 2 * batch * prototypes);
        let centre = numbers(7, prototypes);
        let targets = softmax_rows(&logits, &centre, 1.0 / 0.04);
        let exact_targets: Vec<f64> = logits
            .chunks(prototypes)
            .flat_map(|row| {
                let z: Vec<f64> = row
                    .iter()
                    .zip(&centre)
                    .map(|(x, c)| (f64::from(*x) - f64::from(*c)) / 0.04)
                    .collect();
                exact_softmax(&z)
            })
            .collect();
        close(&targets, &exact_targets, 1e-5);
        let (loss, gradient) = dino_loss(&student, &targets, shape, temperature as f32);
        let f = |x: &[f64]| vec![exact_loss(x, &wide(&targets), shape, temperature)];
        close(&[loss], &f(&wide(&student)), 1e-6);
        close(&gradient, &differences(&wide(&student), &[1.0], f), 2e-5);
    }
}

#[test]
fn weighted_rows_and_their_gradient() {
    let temperature = 0.1;
    for (rows, prototypes) in [(1, 1), (1, 3), (7, 37), (33, 16), (2, 301)] {
        let student = numbers(5, rows * prototypes);
        let logits = numbers(6, rows * prototypes);
        let targets = softmax_rows(&logits, &vec![0.0; prototypes], 1.0 / 0.04);
        let weights: Vec<f32> = (0..rows).map(|row| 0.1 + 0.3 * (row % 4) as f32).collect();
        let exact = |x: &[f64]| {
            let each = x.chunks(prototypes).zip(
                wide(&targets)
                    .chunks(prototypes)
                    .map(<[f64]>::to_vec)
                    .collect::<Vec<_>>(),
            );
            let row = |((x, q), w): ((&[f64], Vec<f64>), &f32)| {
                let z: Vec<f64> = x.iter().map(|x| x / temperature).collect();
                let p = exact_softmax(&z);
                let sum: f64 = q.iter().zip(&p).map(|(q, p)| q * p.max(1e-300).ln()).sum();
                -f64::from(*w) * sum
            };
            vec![each.zip(&weights).map(row).sum::<f64>()]
        };
        let (loss, gradient) =
            weighted_cross_entropy(&student, &targets, &weights, temperature as f32);
        close(&[loss], &exact(&wide(&student)), 1e-6);
        if prototypes > 1 {
            close(
                &gradient,
                &differences(&wide(&student), &[1.0], exact),
                2e-5,
            );
        } else {
            // There is nothing to choose from.
            assert!(gradient.iter().all(|g| g.abs() < 1e-6));
        }
    }
    assert_eq!(weighted_cross_entropy(&[], &[], &[], 0.1), (0.0, vec![]));
}

#[test]
fn threads_do_not_show() {
    let (rows, d) = (under_miri(20, 777), under_miri(20, 200));
    let (x, dy) = (numbers(1, rows * d), numbers(2, rows * d));
    let (gamma, beta) = (numbers(3, d), numbers(4, d));
    same_on_any_threads(|| {
        let (y, statistics) = layer_norm(&x, &gamma, &beta, 1e-6);
        (layer_norm_backward(&x, &gamma, &statistics, &dy), y)
    });
    same_on_any_threads(|| gelu_with_derivative(&x));
    let shape = LossShape {
        batch: under_miri(2, 37),
        views: under_miri(3, 7),
        prototypes: under_miri(20, 600),
    };
    let row = shape.batch * shape.prototypes;
    let (student, targets) = (&x[..shape.views * row], &dy[..2 * row]);
    same_on_any_threads(|| dino_loss(student, targets, shape, 0.1));
    let weights = &x[..2 * shape.batch];
    let student = &student[..2 * row];
    same_on_any_threads(|| weighted_cross_entropy(student, targets, weights, 0.1));
}
