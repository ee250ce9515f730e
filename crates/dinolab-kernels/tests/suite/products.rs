//! Linear maps and attention against double precision.

use crate::common::{
    close, differences, exact_attention, exact_linear, normal, numbers, same_on_any_threads,
    under_miri, wide,
};
use dinolab_kernels::*;

#[test]
#[cfg_attr(miri, ignore = "too slow")]
fn linear_and_its_gradients() {
    for (rows, inputs, outputs) in [(1, 1, 1), (3, 5, 7), (11, 8, 3), (2, 19, 33)] {
        let (x, weight) = (numbers(1, rows * inputs), numbers(2, outputs * inputs));
        let (bias, dy) = (numbers(3, outputs), numbers(4, rows * outputs));
        let [xw, ww, bw, weights] = [&x, &weight, &bias, &dy].map(|v| wide(v));
        close(
            &linear(&x, &weight, Some(&bias), inputs),
            &exact_linear(&xw, &ww, &bw),
            1e-6,
        );
        let no_bias = vec![0.0; outputs];
        close(
            &linear(&x, &weight, None, inputs),
            &exact_linear(&xw, &ww, &no_bias),
            1e-6,
        );
        let by_x = differences(&xw, &weights, |x| exact_linear(x, &ww, &bw));
        let by_weight = differences(&ww, &weights, |w| exact_linear(&xw, w, &bw));
        let by_bias = differences(&bw, &weights, |b| exact_linear(&xw, &ww, b));
        close(&input_gradient(&dy, &weight, inputs), &by_x, 1e-6);
        close(&weight_gradient(&dy, &x, outputs, inputs), &by_weight, 1e-6);
        close(&bias_gradient(&dy, outputs), &by_bias, 1e-6);
    }
}

#[test]
#[cfg_attr(miri, ignore = "too slow")]
fn linear_gelu_and_its_gradients() {
    let (rows, inputs, outputs) = (5, 9, 13);
    let (x, weight) = (numbers(1, rows * inputs), numbers(2, outputs * inputs));
    let (bias, dy) = (numbers(3, outputs), numbers(4, rows * outputs));
    let [xw, ww, bw, weights] = [&x, &weight, &bias, &dy].map(|v| wide(v));
    let exact = |x: &[f64], b: &[f64]| -> Vec<f64> {
        exact_linear(x, &ww, b)
            .iter()
            .map(|h| h * normal(*h))
            .collect()
    };
    let (y, derivative) = linear_gelu_with_derivative(&x, &weight, Some(&bias), inputs);
    close(&y, &exact(&xw, &bw), 1e-6);
    close(
        &linear_gelu(&x, &weight, Some(&bias), inputs),
        &exact(&xw, &bw),
        1e-6,
    );
    let (dh, db) = gelu_bias_gradient(&dy, &derivative, outputs);
    let by_x = differences(&xw, &weights, |x| exact(x, &bw));
    close(&input_gradient(&dh, &weight, inputs), &by_x, 2e-6);
    close(&db, &differences(&bw, &weights, |b| exact(&xw, b)), 2e-6);
}

/// Products that are cut into several tiles and parts.
#[test]
#[cfg_attr(miri, ignore = "too slow")]
fn large_products_are_whole() {
    let (rows, inputs, outputs) = (2_100, 70, 530);
    let (x, weight) = (numbers(1, rows * inputs), numbers(2, outputs * inputs));
    let bias = numbers(3, outputs);
    let [xw, ww, bw] = [&x, &weight, &bias].map(|v| wide(v));
    let y = linear(&x, &weight, Some(&bias), inputs);
    close(&y, &exact_linear(&xw, &ww, &bw), 1e-6);
    let transpose = |m: &[f64], columns: usize| -> Vec<f64> {
        (0..columns)
            .flat_map(|j| m.iter().skip(j).step_by(columns).copied())
            .collect()
    };
    let dy = wide(&y);
    let zeros = |n: usize| vec![0.0; n];
    let dx = exact_linear(&dy, &transpose(&ww, inputs), &zeros(inputs));
    close(&input_gradient(&y, &weight, inputs), &dx, 2e-6);
    let dw = exact_linear(
        &transpose(&dy, outputs),
        &transpose(&xw, inputs),
        &zeros(inputs),
    );
    close(&weight_gradient(&y, &x, outputs, inputs), &dw, 2e-6);
}

#[test]
#[cfg_attr(miri, ignore = "too slow")]
fn attention_and_its_gradient() {
    for (images, tokens, width, heads) in [(1, 1, 4, 1), (2, 5, 6, 2), (1, 13, 15, 3)] {
        let shape = AttentionShape {
            images,
            tokens,
            width,
            heads,
        };
        let qkv = numbers(9, images * tokens * 3 * width);
        let (y, lse) = attention(&qkv, shape);
        close(&y, &exact_attention(&wide(&qkv), shape), 1e-6);
        let dy = numbers(10, y.len());
        let exact = differences(&wide(&qkv), &wide(&dy), |x| exact_attention(x, shape));
        close(&attention_backward(&qkv, &lse, &dy, shape), &exact, 2e-6);
    }
}

/// More tokens than one block of queries: keys and values gather from all blocks.
#[test]
#[cfg_attr(miri, ignore = "too slow")]
fn attention_over_blocks_of_queries() {
    let shape = AttentionShape {
        images: 1,
        tokens: 301,
        width: 10,
        heads: 2,
    };
    let qkv = numbers(11, 301 * 30);
    let (y, lse) = attention(&qkv, shape);
    close(&y, &exact_attention(&wide(&qkv), shape), 1e-6);
    let dy = numbers(12, y.len());
    let ours = attention_backward(&qkv, &lse, &dy, shape);
    let (exact, weights) = (wide(&qkv), wide(&dy));
    for i in (0..qkv.len()).step_by(1_009) {
        let f = |x: &[f64]| {
            let mut all = exact.clone();
            all[i] = x[0];
            exact_attention(&all, shape)
        };
        let slope = differences(&exact[i..=i], &weights, f)[0];
        assert!(
            (f64::from(ours[i]) - slope).abs() < 1e-5,
            "{i}: {} {slope}",
            ours[i]
        );
    }
}

#[test]
fn threads_do_not_show() {
    let rows = under_miri(34, 1_500);
    let (inputs, outputs) = (under_miri(9, 100), under_miri(33, 600));
    let (x, weight) = (numbers(1, rows * inputs), numbers(2, outputs * inputs));
    let (bias, dy) = (numbers(3, outputs), numbers(4, rows * outputs));
    same_on_any_threads(|| linear_gelu_with_derivative(&x, &weight, Some(&bias), inputs));
    same_on_any_threads(|| input_gradient(&dy, &weight, inputs));
    same_on_any_threads(|| weight_gradient(&dy, &x, outputs, inputs));
    same_on_any_threads(|| bias_gradient(&dy, outputs));
    let (tokens, width) = (under_miri(9, 37), under_miri(6, 24));
    for images in [under_miri(1, 3), under_miri(3, 40)] {
        let shape = AttentionShape {
            images,
            tokens,
            width,
            heads: 3,
        };
        let qkv = numbers(5, images * tokens * 3 * width);
        let dy = numbers(6, images * tokens * width);
        same_on_any_threads(|| {
            let (y, lse) = attention(&qkv, shape);
            (attention_backward(&qkv, &lse, &dy, shape), y, lse)
        });
    }
}
