//! The Newton–Schulz iteration against double precision, and what it makes of singular values.

use crate::common::{close, numbers, same_on_any_threads, under_miri, wide};
use dinolab_kernels::{EmaStep, Matrices, MuonStep, muon, newton_schulz};

/// `a · b` or `a · bᵀ`, `a` `[n, k]`.
fn product(a: &[f64], b: &[f64], n: usize, k: usize, transposed: bool) -> Vec<f64> {
    let m = b.len() / k;
    let at = |p: usize, j: usize| {
        if transposed {
            b[j * k + p]
        } else {
            b[p * m + j]
        }
    };
    let value = |i: usize, j: usize| (0..k).map(|p| a[i * k + p] * at(p, j)).sum();
    (0..n * m).map(|at| value(at / m, at % m)).collect()
}

/// The definition, of a matrix of any proportions.
fn exact(x: &[f64], rows: usize, columns: usize) -> Vec<f64> {
    let length = x.iter().map(|x| x * x).sum::<f64>().sqrt();
    let mut x: Vec<f64> = x.iter().map(|x| x / length).collect();
    for _ in 0..5 {
        let gram = product(&x, &x, rows, columns, true);
        let once = product(&gram, &x, rows, rows, false);
        let twice = product(&gram, &once, rows, rows, false);
        for (x, (once, twice)) in x.iter_mut().zip(once.iter().zip(twice)) {
            *x = 3.4445 * *x - 4.775 * once + 2.0315 * twice;
        }
    }
    x
}

#[test]
fn singular_values_are_brought_near_to_one() {
    let sizes: &[[usize; 2]] = match cfg!(miri) {
        true => &[[2, 3], [4, 2]],
        false => &[
            [1, 1],
            [1, 9],
            [7, 1],
            [5, 5],
            [17, 23],
            [23, 17],
            [12, 50],
            [50, 12],
            [96, 96],
        ],
    };
    for &[rows, columns] in sizes {
        let x = numbers(3, rows * columns);
        let y = newton_schulz(&x, rows, columns);
        // The first steps multiply rounding by up to 3.4 each.
        close(&y, &exact(&wide(&x), rows, columns), 1e-4);
        // The mean of the squared singular values.
        let y = wide(&y);
        let least = rows.min(columns);
        let squares: f64 = y.iter().map(|y| y * y).sum();
        assert!(
            (0.45..=1.45).contains(&(squares / least as f64)),
            "{rows} x {columns}: {squares}"
        );
    }
}

/// As gradients are: most of them have fewer directions than rows.
#[test]
fn directions_that_are_missing_stay_missing() {
    let (rows, columns) = (under_miri(3, 40), under_miri(8, 160));
    let (u, v) = (numbers(1, rows), numbers(2, columns));
    let x: Vec<f32> = (0..rows * columns)
        .map(|at| u[at / columns] * v[at % columns])
        .collect();
    let y = wide(&newton_schulz(&x, rows, columns));
    let length = |x: &[f32]| wide(x).iter().map(|x| x * x).sum::<f64>().sqrt();
    let lengths = length(&u) * length(&v);
    // `x` and `y` have one direction, of the same sign.
    let along: f64 = y
        .iter()
        .zip(&x)
        .map(|(y, &x)| y * f64::from(x) / lengths)
        .sum();
    let beside = (y.iter().map(|y| y * y).sum::<f64>() - along * along)
        .max(0.0)
        .sqrt();
    assert!((0.65..=1.25).contains(&along), "{along}");
    assert!(beside < 1e-3, "{beside}");
}

#[test]
fn nothing_becomes_of_nothing_and_not_a_number_stays() {
    assert_eq!(newton_schulz(&[0.0; 6], 2, 3), [0.0; 6]);
    for value in [f32::NAN, f32::INFINITY] {
        let y = newton_schulz(&[1.0, value, 0.5, 2.0], 2, 2);
        assert!(y.iter().any(|y| !y.is_finite()), "{y:?}");
    }
}

#[test]
fn threads_make_no_difference() {
    let (rows, columns) = (under_miri(3, 70), under_miri(8, 200));
    let x = numbers(5, rows * columns);
    same_on_any_threads(|| newton_schulz(&x, rows, columns));
    let matrices = Matrices {
        count: 2,
        rows,
        columns,
    };
    let n = 2 * rows * columns;
    let step = MuonStep {
        clip: 0.5,
        momentum: 0.95,
        decay: 0.999,
        rate: 0.01,
    };
    let [value, buffer, average, grad] = [1, 2, 3, 4].map(|seed| numbers(seed, n));
    same_on_any_threads(|| {
        let (mut value, mut buffer, mut own) = (value.clone(), buffer.clone(), average.clone());
        let average = Some((&mut own[..], EmaStep { momentum: 0.9 }));
        muon([&mut value, &mut buffer], average, &grad, &step, matrices);
        (value, buffer, own)
    });
}
