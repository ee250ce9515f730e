//! Times of the convolutions of a residual network, of one batch of images.

use std::hint::black_box;
use std::time::Instant;

use dinolab_kernels::*;

fn main() {
    keep_memory();
    let images: usize = std::env::args()
        .nth(1)
        .and_then(|n| n.parse().ok())
        .unwrap_or(8);
    let side: usize = std::env::args()
        .nth(2)
        .and_then(|n| n.parse().ok())
        .unwrap_or(96);
    println!(
        "{:>26} {:>8} {:>8} {:>8} {:>8} GFLOP/s",
        "", "forward", "moments", "input", "weight"
    );
    for (divisor, inputs, outputs, kernel, stride, padding) in [
        (1, 3, 64, 7, 2, 3),
        (4, 64, 64, 3, 1, 1),
        (4, 64, 128, 3, 2, 1),
        (8, 128, 128, 3, 1, 1),
        (16, 256, 256, 3, 1, 1),
        (16, 256, 512, 3, 2, 1),
        (32, 512, 512, 3, 1, 1),
        (4, 64, 256, 1, 1, 0),
        (4, 256, 64, 1, 1, 0),
        (32, 512, 2048, 1, 1, 0),
    ] {
        let shape = ConvShape {
            images,
            height: side / divisor,
            width: side / divisor,
            inputs,
            outputs,
            kernel,
            stride,
            padding,
        };
        let (height, width) = shape.output_size();
        let rows = images * height * width;
        let x = vec![0.5; images * shape.height * shape.width * inputs];
        let weight = vec![0.25; outputs * inputs * kernel * kernel];
        let dy = vec![0.125; rows * outputs];
        let operations = 2.0 * (rows * weight.len()) as f64;
        let speed = |f: &dyn Fn()| {
            f();
            let best = (0..7)
                .map(|_| {
                    let clock = Instant::now();
                    f();
                    clock.elapsed().as_secs_f64()
                })
                .fold(f64::INFINITY, f64::min);
            format!("{:.1}/{:.2}", operations / best / 1e9, 1e3 * best)
        };
        println!(
            "{:>26} {:>12} {:>12} {:>12} {:>12}",
            format!("{}² {inputs} → {outputs}, {kernel}²/{stride}", shape.height),
            speed(&|| drop(black_box(conv(&x, &weight, &shape)))),
            speed(&|| drop(black_box(conv_with_moments(&x, &weight, &shape)))),
            speed(&|| drop(black_box(conv_input_gradient(&dy, &weight, &shape)))),
            speed(&|| drop(black_box(conv_weight_gradient(&dy, &x, &shape)))),
        );
    }
}
