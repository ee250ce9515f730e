//! Convolutions, batch normalisation and pooling against double precision and finite differences.

use crate::common::{close, differences, numbers, same_on_any_threads, under_miri, wide};
use dinolab_kernels::*;

/// Odd sizes: of images, channels, kernels, strides and paddings.
const SHAPES: [[usize; 8]; 9] = [
    // images, height, width, inputs, outputs, kernel, stride, padding
    [2, 5, 7, 3, 5, 3, 1, 1],
    [1, 6, 5, 2, 3, 3, 2, 1],
    [2, 4, 3, 5, 7, 1, 1, 0],
    [3, 5, 4, 3, 2, 1, 2, 0],
    [1, 9, 11, 3, 4, 7, 2, 3],
    [2, 3, 2, 1, 1, 3, 1, 1],
    [1, 7, 6, 2, 2, 2, 3, 1],
    [1, 1, 1, 3, 2, 3, 2, 1],
    [1, 5, 5, 2, 3, 3, 1, 0],
];

fn shape(
    [
        images,
        height,
        width,
        inputs,
        outputs,
        kernel,
        stride,
        padding,
    ]: [usize; 8],
) -> ConvShape {
    ConvShape {
        images,
        height,
        width,
        inputs,
        outputs,
        kernel,
        stride,
        padding,
    }
}

fn input_len(s: &ConvShape) -> usize {
    s.images * s.height * s.width * s.inputs
}

fn weight_len(s: &ConvShape) -> usize {
    s.outputs * s.inputs * s.kernel * s.kernel
}

fn output_len(s: &ConvShape) -> usize {
    let (h, w) = s.output_size();
    s.images * h * w * s.outputs
}

/// Every product of the definition: places of the result, of the images and of the weights.
fn each_product(s: &ConvShape, mut f: impl FnMut(usize, usize, usize)) {
    let (rows, columns) = s.output_size();
    for b in 0..s.images {
        for (i, j) in (0..rows).flat_map(|i| (0..columns).map(move |j| (i, j))) {
            let pixel = (b * rows + i) * columns + j;
            for (v, u) in (0..s.kernel).flat_map(|v| (0..s.kernel).map(move |u| (v, u))) {
                let at = |place: usize, length: usize| {
                    place.checked_sub(s.padding).filter(|&at| at < length)
                };
                let (row, column) = (
                    at(i * s.stride + v, s.height),
                    at(j * s.stride + u, s.width),
                );
                let (Some(row), Some(column)) = (row, column) else {
                    continue;
                };
                let seen = ((b * s.height + row) * s.width + column) * s.inputs;
                for o in 0..s.outputs {
                    for c in 0..s.inputs {
                        let weight = ((o * s.inputs + c) * s.kernel + v) * s.kernel + u;
                        f(pixel * s.outputs + o, seen + c, weight);
                    }
                }
            }
        }
    }
}

/// By the definition.
fn exact_conv(x: &[f64], weight: &[f64], s: &ConvShape) -> Vec<f64> {
    let mut y = vec![0.0; output_len(s)];
    each_product(s, |at, seen, w| y[at] += x[seen] * weight[w]);
    y
}

/// The gradients of images and weights by the definition.
fn exact_gradients(dy: &[f64], x: &[f64], weight: &[f64], s: &ConvShape) -> [Vec<f64>; 2] {
    let (mut dx, mut dw) = (vec![0.0; x.len()], vec![0.0; weight.len()]);
    each_product(s, |at, seen, w| {
        dx[seen] += dy[at] * weight[w];
        dw[w] += dy[at] * x[seen];
    });
    [dx, dw]
}

#[test]
fn convolutions_of_all_shapes_and_their_gradients() {
    for sizes in SHAPES {
        let s = shape(sizes);
        let (x, weight) = (numbers(1, input_len(&s)), numbers(2, weight_len(&s)));
        let (xw, ww) = (wide(&x), wide(&weight));
        close(&conv(&x, &weight, &s), &exact_conv(&xw, &ww, &s), 1e-6);
        let dy = numbers(3, output_len(&s));
        let along = wide(&dy);
        let by_x = differences(&xw, &along, |x| exact_conv(x, &ww, &s));
        let by_weight = differences(&ww, &along, |w| exact_conv(&xw, w, &s));
        close(&conv_input_gradient(&dy, &weight, &s), &by_x, 1e-6);
        close(&conv_weight_gradient(&dy, &x, &s), &by_weight, 1e-6);
    }
}

/// 3×3 kernels over many channels, which are computed by tiles: odd sizes and numbers of channels, and all
/// paddings.
#[test]
fn convolutions_by_tiles_and_their_gradients() {
    let shapes: &[[usize; 8]] = match cfg!(miri) {
        true => &[[2, 5, 4, 3, 5, 3, 1, 1], [1, 6, 5, 4, 3, 3, 1, 0]],
        false => &[
            [2, 6, 6, 32, 32, 3, 1, 1],
            [3, 7, 9, 33, 47, 3, 1, 1],
            [1, 9, 12, 50, 35, 3, 1, 0],
            [2, 8, 5, 37, 64, 3, 1, 2],
            [2, 15, 14, 128, 96, 3, 1, 1],
            [1, 6, 70, 64, 40, 3, 1, 1],
        ],
    };
    for &sizes in shapes {
        let s = shape(sizes);
        let (x, weight) = (numbers(1, input_len(&s)), numbers(2, weight_len(&s)));
        let dy = numbers(3, output_len(&s));
        let (xw, ww) = (wide(&x), wide(&weight));
        let y = conv(&x, &weight, &s);
        close(&y, &exact_conv(&xw, &ww, &s), 1e-6);
        let [dx, dw] = exact_gradients(&wide(&dy), &xw, &ww, &s);
        close(&conv_input_gradient(&dy, &weight, &s), &dx, 1e-6);
        close(&conv_weight_gradient(&dy, &x, &s), &dw, 1e-6);
        // An image's result does not depend on the others.
        let one = ConvShape { images: 1, ..s };
        let alone = conv(&x[..input_len(&one)], &weight, &one);
        assert_eq!(alone, y[..alone.len()]);
    }
}

/// Many blocks, tiles and partial sums: gradients satisfy `⟨dy, conv(x, w)⟩ = ⟨∂x, x⟩ = ⟨∂w, w⟩`, and
/// nothing depends on the number of threads.
#[test]
fn large_convolutions_are_linear_and_the_same_on_any_threads() {
    let large: &[[usize; 8]] = match cfg!(miri) {
        true => &[[2, 5, 6, 3, 9, 3, 2, 1]],
        false => &[
            [3, 29, 31, 40, 70, 3, 1, 1],
            [2, 57, 55, 3, 33, 7, 2, 3],
            [5, 28, 27, 65, 130, 1, 2, 0],
            [4, 30, 29, 64, 33, 1, 1, 0],
            [2, 15, 14, 130, 66, 3, 2, 1],
        ],
    };
    for &sizes in large {
        let s = shape(sizes);
        let (x, weight) = (numbers(4, input_len(&s)), numbers(5, weight_len(&s)));
        let dy = numbers(6, output_len(&s));
        let run = || {
            (
                conv_with_moments(&x, &weight, &s),
                conv_input_gradient(&dy, &weight, &s),
                conv_weight_gradient(&dy, &x, &s),
            )
        };
        same_on_any_threads(run);
        let ((y, _), dx, dw) = run();
        let dot = |a: &[f32], b: &[f32]| {
            let terms = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b));
            terms.sum::<f64>()
        };
        let size = wide(&dy).iter().map(|v| v * v).sum::<f64>().sqrt()
            * wide(&y).iter().map(|v| v * v).sum::<f64>().sqrt();
        let whole = dot(&dy, &y);
        assert!((dot(&dx, &x) - whole).abs() < 1e-6 * size, "{sizes:?}");
        assert!((dot(&dw, &weight) - whole).abs() < 1e-6 * size, "{sizes:?}");
        assert_eq!(y, conv(&x, &weight, &s));
        if !cfg!(miri) {
            close(&y, &exact_conv(&wide(&x), &wide(&weight), &s), 1e-6);
        }
    }
}

#[test]
fn moments_are_those_of_the_channels() {
    let s = shape([3, 17, 13, 5, 37, 3, 1, 1]);
    // Channels far from 0: sums of squares would lose the variance.
    let x: Vec<f32> = numbers(1, input_len(&s))
        .iter()
        .map(|x| x + 300.0)
        .collect();
    let (y, moments) = conv_with_moments(&x, &numbers(2, weight_len(&s)), &s);
    let rows = y.len() / s.outputs;
    assert_eq!(moments.count, rows);
    let column = |c: usize| y.iter().skip(c).step_by(s.outputs).map(|&y| f64::from(y));
    let mean = |c| column(c).sum::<f64>() / rows as f64;
    let variance = |c| column(c).map(|y| (y - mean(c)).powi(2)).sum::<f64>() / rows as f64;
    close(
        &moments.mean,
        &(0..s.outputs).map(mean).collect::<Vec<_>>(),
        1e-6,
    );
    close(
        &moments.variance,
        &(0..s.outputs).map(variance).collect::<Vec<_>>(),
        1e-5,
    );
}

#[test]
fn an_epilogue_is_a_scale_a_shift_a_sum_and_a_relu() {
    for (residual, relu) in [(false, false), (false, true), (true, true), (true, false)] {
        let s = shape([2, 7, 5, 3, 35, 3, 1, 1]);
        let (x, weight) = (numbers(1, input_len(&s)), numbers(2, weight_len(&s)));
        let (scale, shift) = (numbers(3, s.outputs), numbers(4, s.outputs));
        let added = numbers(5, output_len(&s));
        let added = residual.then_some(added.as_slice());
        let epilogue = ConvEpilogue {
            scale: &scale,
            shift: &shift,
            residual: added,
            relu,
        };
        let y = conv(&x, &weight, &s);
        let apart = scale_shift(&y, &scale, &shift, added, relu);
        close(
            &conv_with_epilogue(&x, &weight, &epilogue, &s),
            &wide(&apart),
            1e-6,
        );
        let exact: Vec<f64> = wide(&y)
            .iter()
            .enumerate()
            .map(|(i, y)| {
                let c = i % s.outputs;
                let sum = y * f64::from(scale[c]) + f64::from(shift[c]);
                let sum = sum + added.map_or(0.0, |added| f64::from(added[i]));
                if relu { sum.max(0.0) } else { sum }
            })
            .collect();
        close(&apart, &exact, 1e-6);
    }
}

/// Rows `[R, C]` normalised by their own statistics, scaled and shifted; then the sum and ReLU.
fn exact_batch_norm(
    y: &[f64],
    gamma: &[f64],
    beta: &[f64],
    added: Option<&[f64]>,
    relu: bool,
) -> Vec<f64> {
    let channels = gamma.len();
    let rows = (y.len() / channels) as f64;
    let column = |c: usize| y.iter().skip(c).step_by(channels);
    let mean: Vec<f64> = (0..channels)
        .map(|c| column(c).sum::<f64>() / rows)
        .collect();
    let variance = |c: usize| column(c).map(|y| (y - mean[c]).powi(2)).sum::<f64>() / rows;
    let inverse: Vec<f64> = (0..channels)
        .map(|c| 1.0 / (variance(c) + 1e-5).sqrt())
        .collect();
    y.iter()
        .enumerate()
        .map(|(i, y)| {
            let c = i % channels;
            let z = (y - mean[c]) * inverse[c] * gamma[c] + beta[c] + added.map_or(0.0, |a| a[i]);
            if relu { z.max(0.0) } else { z }
        })
        .collect()
}

#[test]
fn batch_normalisation_and_its_gradients() {
    for (rows, channels) in [(4, 3), (9, 17), (23, 5)] {
        for (residual, relu) in [(false, false), (false, true), (true, true), (true, false)] {
            let y = numbers(1, rows * channels);
            let (gamma, beta) = (numbers(2, channels), numbers(3, channels));
            let added = numbers(4, rows * channels);
            let added_some = residual.then_some(added.as_slice());
            // A 1×1 convolution with the identity gives the moments.
            let s = shape([1, rows, 1, channels, channels, 1, 1, 0]);
            let identity: Vec<f32> = (0..channels * channels)
                .map(|i| f32::from(u8::from(i % (channels + 1) == 0)))
                .collect();
            let (same, moments) = conv_with_moments(&y, &identity, &s);
            assert_eq!(same, y);
            let inverse = moments.inverse_deviation(1e-5);
            let (scale, shift) = batch_norm_affine(&moments.mean, &inverse, &gamma, &beta);
            let z = scale_shift(&y, &scale, &shift, added_some, relu);
            let [yw, gw, bw, aw] = [&y, &gamma, &beta, &added].map(|v| wide(v));
            let aw_some = residual.then_some(aw.as_slice());
            close(&z, &exact_batch_norm(&yw, &gw, &bw, aw_some, relu), 1e-5);
            let dz = numbers(5, rows * channels);
            let along = wide(&dz);
            let ours = batch_norm_backward(
                &dz,
                relu.then_some(z.as_slice()),
                &y,
                [&moments.mean, &inverse, &gamma],
                residual,
            );
            let by = |x: &[f64], f: &dyn Fn(&[f64]) -> Vec<f64>| differences(x, &along, f);
            close(
                &ours.y,
                &by(&yw, &|y| exact_batch_norm(y, &gw, &bw, aw_some, relu)),
                1e-4,
            );
            close(
                &ours.gamma,
                &by(&gw, &|g| exact_batch_norm(&yw, g, &bw, aw_some, relu)),
                1e-4,
            );
            close(
                &ours.beta,
                &by(&bw, &|b| exact_batch_norm(&yw, &gw, b, aw_some, relu)),
                1e-4,
            );
            assert_eq!(ours.residual.is_some(), residual);
            if let Some(gradient) = &ours.residual {
                let expected = by(&aw, &|a| exact_batch_norm(&yw, &gw, &bw, Some(a), relu));
                close(gradient, &expected, 1e-4);
            }
        }
    }
}

#[test]
fn batch_normalisation_is_the_same_on_any_threads() {
    let (rows, channels) = (under_miri(40, 9001), 33);
    let (y, z, dz) = (
        numbers(1, rows * channels),
        numbers(2, rows * channels),
        numbers(3, rows * channels),
    );
    let of = [
        numbers(4, channels),
        vec![0.7; channels],
        numbers(5, channels),
    ];
    let of = of.each_ref().map(Vec::as_slice);
    same_on_any_threads(|| batch_norm_backward(&dz, Some(&z), &y, of, true).y);
    same_on_any_threads(|| batch_norm_backward(&dz, Some(&z), &y, of, false).gamma);
}

#[test]
fn pools_take_the_largest_and_give_their_gradient_to_it() {
    for [images, height, width, channels, kernel, stride, padding] in [
        [2, 7, 5, 3, 3, 2, 1],
        [1, 4, 6, 17, 2, 2, 0],
        [1, 1, 1, 2, 3, 2, 1],
    ] {
        let s = shape([
            images, height, width, channels, channels, kernel, stride, padding,
        ]);
        let exact = |x: &[f64]| -> Vec<f64> {
            let (rows, columns) = s.output_size();
            let mut y = Vec::new();
            for b in 0..images {
                for (i, j) in (0..rows).flat_map(|i| (0..columns).map(move |j| (i, j))) {
                    for c in 0..channels {
                        let inside = |at: usize, length: usize| {
                            at.checked_sub(padding).filter(|&at| at < length)
                        };
                        let seen = (0..kernel * kernel).filter_map(|p| {
                            let row = inside(i * stride + p / kernel, height)?;
                            let column = inside(j * stride + p % kernel, width)?;
                            Some(x[((b * height + row) * width + column) * channels + c])
                        });
                        y.push(seen.fold(f64::NEG_INFINITY, f64::max));
                    }
                }
            }
            y
        };
        let x = numbers(1, images * height * width * channels);
        let (y, places) = max_pool(&x, &s);
        close(&y, &exact(&wide(&x)), 0.0);
        let dy = numbers(2, y.len());
        let expected = differences(&wide(&x), &wide(&dy), exact);
        close(&max_pool_backward(&dy, &places, &s), &expected, 1e-6);
    }
}

#[test]
fn channels_come_last() {
    for channels in [1, 3, 5] {
        let x = numbers(1, 2 * channels * 6);
        let y = channels_last(&x, channels, 6);
        for (i, y) in y.iter().enumerate() {
            let (b, p, c) = (i / (6 * channels), i / channels % 6, i % channels);
            assert_eq!(*y, x[(b * channels + c) * 6 + p]);
        }
    }
}
