//! Depthwise convolutions against double precision and finite differences.

use crate::common::{close, differences, numbers, same_on_any_threads, wide};
use dinolab_kernels::*;

/// Odd sizes: smaller than the kernel, of one and several tiles, blocks and chunks of channels.
const SHAPES: [[usize; 4]; 8] = [
    // images, height, width, channels
    [1, 1, 1, 1],
    [2, 3, 2, 5],
    [1, 4, 9, 3],
    [3, 7, 7, 2],
    [1, 5, 3, 17],
    [1, 9, 8, 16],
    [2, 2, 11, 4],
    [1, 2, 31, 2],
];

fn shape([images, height, width, channels]: [usize; 4]) -> DepthwiseShape {
    DepthwiseShape {
        images,
        height,
        width,
        channels,
    }
}

fn len(s: &DepthwiseShape) -> usize {
    s.images * s.height * s.width * s.channels
}

/// By the definition.
fn exact(x: &[f64], weight: &[f64], bias: &[f64], s: &DepthwiseShape) -> Vec<f64> {
    let mut y = Vec::with_capacity(x.len());
    for b in 0..s.images {
        for (i, j) in (0..s.height).flat_map(|i| (0..s.width).map(move |j| (i, j))) {
            for c in 0..s.channels {
                let mut sum = bias[c];
                for (v, u) in (0..7).flat_map(|v| (0..7).map(move |u| (v, u))) {
                    let at = |place: usize, length: usize| {
                        place.checked_sub(3).filter(|&place| place < length)
                    };
                    if let (Some(row), Some(column)) = (at(i + v, s.height), at(j + u, s.width)) {
                        let pixel = x[((b * s.height + row) * s.width + column) * s.channels + c];
                        sum += pixel * weight[(c * 7 + v) * 7 + u];
                    }
                }
                y.push(sum);
            }
        }
    }
    y
}

#[test]
fn convolutions_of_all_shapes_and_their_gradients() {
    for sizes in SHAPES {
        let s = shape(sizes);
        let (x, weight) = (numbers(1, len(&s)), numbers(2, s.channels * 49));
        let bias = numbers(3, s.channels);
        let (xw, ww, bw) = (wide(&x), wide(&weight), wide(&bias));
        let y = depthwise_conv(&x, &weight, &bias, &s);
        close(&y, &exact(&xw, &ww, &bw, &s), 1e-6);
        if cfg!(miri) {
            continue;
        }
        let dy = numbers(4, len(&s));
        let along = wide(&dy);
        let by_x = differences(&xw, &along, |x| exact(x, &ww, &bw, &s));
        let by_weight = differences(&ww, &along, |w| exact(&xw, w, &bw, &s));
        let by_bias = differences(&bw, &along, |b| exact(&xw, &ww, b, &s));
        close(&depthwise_input_gradient(&dy, &weight, &s), &by_x, 1e-6);
        let ours = depthwise_parameter_gradients(&dy, &x, &s);
        close(&ours.weight, &by_weight, 1e-6);
        close(&ours.bias, &by_bias, 1e-6);
    }
}

/// Many blocks, tiles, chunks and partial sums: gradients satisfy `⟨dy, conv(x, w)⟩ = ⟨∂x, x⟩ = ⟨∂w, w⟩`,
/// and nothing depends on the number of threads.
#[test]
fn large_convolutions_are_linear_and_the_same_on_any_threads() {
    let large: &[[usize; 4]] = match cfg!(miri) {
        true => &[[1, 9, 8, 17]],
        false => &[[19, 29, 31, 40], [9, 56, 56, 33], [20, 7, 6, 130]],
    };
    for &sizes in large {
        let s = shape(sizes);
        let (x, weight) = (numbers(4, len(&s)), numbers(5, s.channels * 49));
        let (none, dy) = (vec![0.0; s.channels], numbers(6, len(&s)));
        let run = || {
            (
                depthwise_conv(&x, &weight, &none, &s),
                depthwise_input_gradient(&dy, &weight, &s),
                depthwise_parameter_gradients(&dy, &x, &s),
            )
        };
        same_on_any_threads(run);
        let (y, dx, parameters) = run();
        let dot = |a: &[f32], b: &[f32]| {
            let terms = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b));
            terms.sum::<f64>()
        };
        let size = (dot(&dy, &dy) * dot(&y, &y)).sqrt();
        let whole = dot(&dy, &y);
        assert!((dot(&dx, &x) - whole).abs() < 1e-6 * size, "{sizes:?}");
        let by_weight = dot(&parameters.weight, &weight);
        assert!((by_weight - whole).abs() < 1e-6 * size, "{sizes:?}");
        let sums: Vec<f64> = (0..s.channels)
            .map(|c| {
                let of_channel = dy.iter().skip(c).step_by(s.channels);
                of_channel.map(|&dy| f64::from(dy)).sum()
            })
            .collect();
        close(&parameters.bias, &sums, 1e-5);
        if !cfg!(miri) {
            let (x, weight, none) = (wide(&x), wide(&weight), wide(&none));
            close(&y, &exact(&x, &weight, &none, &s), 1e-6);
        }
    }
}

#[test]
fn without_images_there_is_nothing_to_compute() {
    let s = shape([0, 5, 4, 3]);
    let (weight, bias) = (numbers(1, 3 * 49), numbers(2, 3));
    assert!(depthwise_conv(&[], &weight, &bias, &s).is_empty());
    assert!(depthwise_input_gradient(&[], &weight, &s).is_empty());
    let gradients = depthwise_parameter_gradients(&[], &[], &s);
    assert_eq!(gradients.weight, vec![0.0; 3 * 49]);
    assert_eq!(gradients.bias, vec![0.0; 3]);
}
