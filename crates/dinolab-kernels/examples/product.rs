//! Speed of linear layers and attention on one thread, in GFLOP/s: `cargo run --release --example product`.

use std::time::Instant;

use dinolab_kernels::{
    AttentionShape, attention, attention_backward, input_gradient, linear, weight_gradient,
};

fn speed(name: &str, operations: usize, mut f: impl FnMut()) {
    let mut best = f64::MAX;
    for _ in 0..7 {
        let clock = Instant::now();
        f();
        best = best.min(clock.elapsed().as_secs_f64());
    }
    println!("{name:<42} {:>7.1}", operations as f64 / best / 1e9);
}

fn main() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
    pool.expect("a pool of one thread").install(|| {
        for [rows, inputs, outputs] in [
            [3152, 384, 1152],
            [3152, 384, 1536],
            [3152, 1536, 384],
            [3152, 192, 576],
            [80, 2048, 2048],
        ] {
            let x = vec![0.5; rows * inputs];
            let w = vec![0.25; outputs * inputs];
            let y = linear(&x, &w, None, inputs);
            let operations = 2 * rows * inputs * outputs;
            let size = format!("{rows} rows, {inputs} to {outputs}");
            speed(&format!("linear, {size}"), operations, || {
                linear(&x, &w, None, inputs);
            });
            speed(&format!("input gradient, {size}"), operations, || {
                input_gradient(&y, &w, inputs);
            });
            speed(&format!("weight gradient, {size}"), operations, || {
                weight_gradient(&y, &x, outputs, inputs);
            });
        }
        for (images, tokens) in [(8, 197), (32, 37)] {
            let shape = AttentionShape {
                images,
                tokens,
                width: 384,
                heads: 6,
            };
            let qkv = vec![0.01; images * tokens * 3 * 384];
            let (y, lse) = attention(&qkv, shape);
            let operations = 4 * images * tokens * tokens * 384;
            let size = format!("{images} images of {tokens} tokens");
            speed(&format!("attention, {size}"), operations, || {
                attention(&qkv, shape);
            });
            speed(
                &format!("attention backward, {size}"),
                operations * 5 / 2,
                || {
                    attention_backward(&qkv, &lse, &y, shape);
                },
            );
        }
    });
}
