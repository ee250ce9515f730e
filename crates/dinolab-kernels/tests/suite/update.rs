//! Norm, AdamW and the moving average against double precision.

use crate::common::{close, numbers, same_on_any_threads, under_miri, wide};
use dinolab_kernels::*;

const EMA: EmaStep = EmaStep { momentum: 0.996 };

const STEP: AdamWStep = AdamWStep {
    clip: 0.5,
    beta1: 0.9,
    beta2: 0.999,
    eps: 1e-8,
    decay: 0.99,
    rate: 0.01,
    root_correction2: 0.05,
};

#[test]
fn adamw_moves_values_and_moments() {
    let n = under_miri(101, 1001);
    let (value, grad) = (numbers(1, n), numbers(2, n));
    let (m, v) = (
        numbers(3, n),
        numbers(4, n).iter().map(|v| v.abs()).collect::<Vec<_>>(),
    );
    let teacher = numbers(5, n);
    let [mut new, mut new_teacher, mut new_m, mut new_v] =
        [&value, &teacher, &m, &v].map(|x| x.clone());
    let state = [&mut new, &mut new_teacher, &mut new_m, &mut new_v].map(|x| x.as_mut_slice());
    adamw_and_ema(state, &grad, &STEP, EMA);
    let [mut alone, mut alone_m, mut alone_v] = [&value, &m, &v].map(|x| x.clone());
    let state = [&mut alone, &mut alone_m, &mut alone_v].map(|x| x.as_mut_slice());
    adamw(state, &grad, &STEP);
    assert_eq!(
        [&alone, &alone_m, &alone_v],
        [&new, &new_m, &new_v],
        "without an average"
    );
    let [mut exact, mut exact_teacher, mut exact_m, mut exact_v] = [(); 4].map(|()| vec![]);
    for i in 0..n {
        let (value, grad) = (f64::from(value[i]), 0.5 * f64::from(grad[i]));
        let m = f64::from(m[i]) * 0.9 + grad * 0.1;
        let v = f64::from(v[i]) * 0.999 + grad * grad * 0.001;
        let value = value * 0.99 - m / (v.sqrt() / 0.05 + 1e-8) * 0.01;
        exact.push(value);
        exact_teacher.push(0.996 * f64::from(teacher[i]) + 0.004 * value);
        exact_m.push(m);
        exact_v.push(v);
    }
    close(&new, &exact, 1e-6);
    close(&new_teacher, &exact_teacher, 1e-6);
    close(&new_m, &exact_m, 1e-6);
    close(&new_v, &exact_v, 1e-6);
}

#[test]
fn norm_scale_and_moving_average() {
    for n in [1, 33, under_miri(101, 70_001)] {
        let (x, y) = (numbers(1, n), numbers(2, n));
        let exact = wide(&x).iter().map(|x| x * x).sum::<f64>().sqrt();
        assert!((f64::from(norm(&x)) / exact - 1.0).abs() < 1e-6);
        let average: Vec<f64> = x
            .iter()
            .zip(&y)
            .map(|(&x, &y)| 0.996 * f64::from(x) + 0.004 * f64::from(y))
            .collect();
        let mut teacher = x.clone();
        ema(&mut teacher, &y, EMA);
        close(&teacher, &average, 1e-6);
        let mut scaled = x.clone();
        scale(&mut scaled, 0.5);
        assert!(scaled.iter().zip(&x).all(|(s, x)| *s == x * 0.5));
    }
}

#[test]
fn threads_do_not_show() {
    let n = under_miri(301, 200_003);
    let (x, y) = (numbers(1, n), numbers(2, n));
    same_on_any_threads(|| norm(&x));
    same_on_any_threads(|| {
        let mut state = [x.clone(), y.clone(), vec![0.1; n], vec![0.2; n]];
        let parts = state.each_mut().map(|part| part.as_mut_slice());
        adamw_and_ema(parts, &y, &STEP, EMA);
        state
    });
}
