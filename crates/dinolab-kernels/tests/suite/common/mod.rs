//! Test data, comparison and finite differences.

/// `small` under Miri, which is thousands of times slower.
pub const fn under_miri(small: usize, normal: usize) -> usize {
    if cfg!(miri) { small } else { normal }
}

/// Deterministic values of about unit size.
pub fn numbers(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..n)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            ((state >> 40) as f32 / (1 << 23) as f32 - 1.0) * 1.7
        })
        .collect()
}

/// Unit vectors `[count, width]`.
pub fn unit_rows(seed: u64, count: usize, width: usize) -> Vec<f32> {
    let mut all = numbers(seed, count * width);
    for row in all.chunks_mut(width) {
        let length = row.iter().map(|v| v * v).sum::<f32>().sqrt();
        row.iter_mut().for_each(|v| *v /= length);
    }
    all
}

/// The values in double precision.
pub fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

/// ‖a − b‖ ≤ tolerance · ‖b‖, and no value far off by itself.
#[track_caller]
pub fn close(a: &[f32], b: &[f64], tolerance: f64) {
    assert_eq!(a.len(), b.len());
    let length = b.iter().map(|b| b * b).sum::<f64>().sqrt();
    let error = a
        .iter()
        .zip(b)
        .map(|(&a, b)| (f64::from(a) - b).powi(2))
        .sum::<f64>()
        .sqrt();
    assert!(
        error <= tolerance * length.max(1e-6),
        "error {error} of {length}"
    );
}

/// The gradient of `Σ weights · f(x)` in `x` by central differences.
pub fn differences(x: &[f64], weights: &[f64], f: impl Fn(&[f64]) -> Vec<f64>) -> Vec<f64> {
    let step = 1e-5;
    let at = |i: usize, shift: f64| {
        let mut x = x.to_vec();
        x[i] += shift;
        f(&x).iter().zip(weights).map(|(y, w)| y * w).sum::<f64>()
    };
    (0..x.len())
        .map(|i| (at(i, step) - at(i, -step)) / (2.0 * step))
        .collect()
}

/// Runs `f` on one, two and three threads and checks that nothing differs.
#[track_caller]
pub fn same_on_any_threads<R: PartialEq + Send>(f: impl Fn() -> R + Sync) {
    let on = |threads| {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap()
            .install(&f)
    };
    let one = on(1);
    for threads in 2..=under_miri(2, 3) {
        assert!(on(threads) == one, "{threads} threads differ from one");
    }
}

/// Φ(x) to double precision: its Taylor series, and the tail's continued fraction.
pub fn normal(x: f64) -> f64 {
    let density = (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
    if x.abs() < 4.0 {
        let (mut term, mut sum) = (x, x);
        for k in 1..200 {
            term *= x * x / f64::from(2 * k + 1);
            sum += term;
        }
        return 0.5 + density * sum;
    }
    let a = x.abs();
    let fraction = (1..60).rev().fold(a, |f, k| a + f64::from(k) / f);
    let tail = density / fraction;
    if x < 0.0 { tail } else { 1.0 - tail }
}

/// Rows of `x` through a layer normalisation.
pub fn exact_layer_norm(x: &[f64], gamma: &[f64], beta: &[f64], eps: f64) -> Vec<f64> {
    let d = gamma.len();
    x.chunks(d)
        .flat_map(|row| {
            let mean = row.iter().sum::<f64>() / d as f64;
            let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / d as f64;
            let scale = 1.0 / (variance + eps).sqrt();
            (0..d)
                .map(move |i| (row[i] - mean) * scale * gamma[i] + beta[i])
                .collect::<Vec<_>>()
        })
        .collect()
}

/// Rows of `x` through a linear layer.
pub fn exact_linear(x: &[f64], weight: &[f64], bias: &[f64]) -> Vec<f64> {
    let outputs = bias.len();
    let inputs = weight.len() / outputs;
    x.chunks(inputs)
        .flat_map(|row| {
            (0..outputs).map(move |o| {
                let w = &weight[o * inputs..(o + 1) * inputs];
                bias[o] + row.iter().zip(w).map(|(x, w)| x * w).sum::<f64>()
            })
        })
        .collect()
}

/// Attention of every token, from the joint buffer.
pub fn exact_attention(qkv: &[f64], shape: dinolab_kernels::AttentionShape) -> Vec<f64> {
    let dinolab_kernels::AttentionShape {
        images,
        tokens,
        width,
        heads,
    } = shape;
    let head_width = width / heads;
    let mut y = vec![0.0; images * tokens * width];
    for unit in 0..images * heads {
        let (image, head) = (unit / heads, unit % heads);
        let row = |part: usize, token: usize| {
            let start = (image * tokens + token) * 3 * width + part * width + head * head_width;
            &qkv[start..start + head_width]
        };
        for i in 0..tokens {
            let scores: Vec<f64> = (0..tokens)
                .map(|j| {
                    let dot: f64 = row(0, i).iter().zip(row(1, j)).map(|(q, k)| q * k).sum();
                    dot / (head_width as f64).sqrt()
                })
                .collect();
            let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = scores.iter().map(|s| (s - max).exp()).sum();
            for (j, score) in scores.iter().enumerate() {
                let p = (score - max).exp() / sum;
                let start = (image * tokens + i) * width + head * head_width;
                for (y, v) in y[start..].iter_mut().zip(row(2, j)) {
                    *y += p * v;
                }
            }
        }
    }
    y
}
