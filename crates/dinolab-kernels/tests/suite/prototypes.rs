//! Weight-normalised prototypes against double precision and finite differences.

use crate::common::{close, differences, numbers, same_on_any_threads, under_miri, wide};
use dinolab_kernels::*;

fn exact(x: &[f64], v: &[f64], g: &[f64]) -> Vec<f64> {
    let width = v.len() / g.len();
    x.chunks(width)
        .flat_map(|x| {
            v.chunks(width).zip(g).map(move |(v, g)| {
                let length = v.iter().map(|v| v * v).sum::<f64>().sqrt();
                g / length * x.iter().zip(v).map(|(x, v)| x * v).sum::<f64>()
            })
        })
        .collect()
}

#[test]
#[cfg_attr(miri, ignore = "too slow")]
fn similarities_and_their_gradients() {
    for (rows, width, k) in [(1, 1, 1), (3, 5, 7), (9, 17, 33), (2, 3, 201)] {
        let (x, v) = (numbers(1, rows * width), numbers(2, k * width));
        let (g, dy) = (numbers(3, k), numbers(4, rows * k));
        let (y, lengths) = prototypes(&x, &v, &g, width);
        let [xw, vw, gw, weights] = [&x, &v, &g, &dy].map(|x| wide(x));
        close(&y, &exact(&xw, &vw, &gw), 1e-6);
        let ours = prototypes_backward(&x, &v, &g, &lengths, &dy, width);
        let by_x = differences(&xw, &weights, |x| exact(x, &vw, &gw));
        let by_v = differences(&vw, &weights, |v| exact(&xw, v, &gw));
        let by_g = differences(&gw, &weights, |g| exact(&xw, &vw, g));
        close(&ours.x, &by_x, 2e-6);
        close(&ours.g, &by_g, 2e-6);
        if width > 1 {
            close(&ours.v, &by_v, 2e-6);
        } else {
            // The direction of a number does not change with its size.
            assert!(ours.v.iter().all(|dv| dv.abs() < 1e-6));
        }
    }
}

/// More prototypes than a task and than a part of the sum has.
#[test]
fn threads_do_not_show() {
    let (rows, width) = (under_miri(3, 13), under_miri(5, 20));
    let k = under_miri(300, 13_001);
    let (x, v) = (numbers(1, rows * width), numbers(2, k * width));
    let (g, dy) = (vec![1.0; k], numbers(4, rows * k));
    same_on_any_threads(|| {
        let (y, lengths) = prototypes(&x, &v, &g, width);
        let back = prototypes_backward(&x, &v, &g, &lengths, &dy, width);
        (y, back)
    });
    let (y, lengths) = prototypes(&x, &v, &g, width);
    close(&y, &exact(&wide(&x), &wide(&v), &wide(&g)), 1e-6);
    // The input's gradient by hand, over all prototypes.
    let back = prototypes_backward(&x, &v, &g, &lengths, &dy, width);
    let mut dx = vec![0.0; rows * width];
    for (row, dx) in dx.chunks_mut(width).enumerate() {
        for (i, v) in v.chunks(width).enumerate() {
            let length = v.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
            for (dx, v) in dx.iter_mut().zip(v) {
                *dx += f64::from(dy[row * k + i]) * f64::from(*v) / length;
            }
        }
    }
    close(&back.x, &dx, 3e-6);
}
