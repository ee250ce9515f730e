//! Norm, AdamW and the moving average against double precision.

mod common;

use common::{close, numbers, same_on_any_threads, wide};
use dinolab_kernels::*;

const STEP: AdamWStep = AdamWStep {
    beta1: 0.9,
    beta2: 0.999,
    eps: 1e-8,
    decay: 0.99,
    rate: 0.01,
    root_correction2: 0.05,
};

#[test]
fn adamw_moves_values_and_moments() {
    let n = 1001;
    let (value, grad) = (numbers(1, n), numbers(2, n));
    let (m, v) = (
        numbers(3, n),
        numbers(4, n).iter().map(|v| v.abs()).collect::<Vec<_>>(),
    );
    let (mut new_m, mut new_v) = (m.clone(), v.clone());
    let new = adamw(&value, &grad, &mut new_m, &mut new_v, &STEP);
    let (mut exact, mut exact_m, mut exact_v) = (vec![], vec![], vec![]);
    for i in 0..n {
        let (value, grad) = (f64::from(value[i]), f64::from(grad[i]));
        let m = f64::from(m[i]) * 0.9 + grad * 0.1;
        let v = f64::from(v[i]) * 0.999 + grad * grad * 0.001;
        exact.push(value * 0.99 - m / (v.sqrt() / 0.05 + 1e-8) * 0.01);
        exact_m.push(m);
        exact_v.push(v);
    }
    close(&new, &exact, 1e-6);
    close(&new_m, &exact_m, 1e-6);
    close(&new_v, &exact_v, 1e-6);
}

#[test]
fn norm_scale_and_moving_average() {
    for n in [1, 33, 70_001] {
        let (x, y) = (numbers(1, n), numbers(2, n));
        let exact = wide(&x).iter().map(|x| x * x).sum::<f64>().sqrt();
        assert!((f64::from(norm(&x)) / exact - 1.0).abs() < 1e-6);
        let average: Vec<f64> = x
            .iter()
            .zip(&y)
            .map(|(&x, &y)| 0.996 * f64::from(x) + 0.004 * f64::from(y))
            .collect();
        close(&ema(&x, &y, 0.996), &average, 1e-6);
        let mut scaled = x.clone();
        scale(&mut scaled, 0.5);
        assert!(scaled.iter().zip(&x).all(|(s, x)| *s == x * 0.5));
    }
}

#[test]
fn threads_do_not_show() {
    let n = 200_003;
    let (x, y) = (numbers(1, n), numbers(2, n));
    same_on_any_threads(|| norm(&x));
    same_on_any_threads(|| {
        let (mut m, mut v) = (vec![0.1; n], vec![0.2; n]);
        (adamw(&x, &y, &mut m, &mut v, &STEP), m, v)
    });
}
