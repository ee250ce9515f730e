//! Times of the depthwise convolutions of a ConvNeXt-T, of one batch of images.

use std::hint::black_box;
use std::time::Instant;

use dinolab_kernels::*;

fn main() {
    keep_memory();
    let argument = |number: usize, usual: usize| {
        let given = std::env::args().nth(number);
        given.and_then(|n| n.parse().ok()).unwrap_or(usual)
    };
    let (images, side) = (argument(1, 8), argument(2, 224));
    println!(
        "{:>12} {:>14} {:>14} {:>14} GFLOP/s/ms",
        "", "forward", "input", "parameters"
    );
    for (divisor, channels) in [(4, 96), (8, 192), (16, 384), (32, 768)] {
        let shape = DepthwiseShape {
            images,
            height: side / divisor,
            width: side / divisor,
            channels,
        };
        let len = images * shape.height * shape.width * channels;
        let (x, dy) = (vec![0.5; len], vec![0.125; len]);
        let (weight, bias) = (vec![0.25; channels * 49], vec![0.5; channels]);
        let operations = 2.0 * 49.0 * len as f64;
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
            "{:>12} {:>14} {:>14} {:>14}",
            format!("{}² {channels}", shape.height),
            speed(&|| drop(black_box(depthwise_conv(&x, &weight, &bias, &shape)))),
            speed(&|| drop(black_box(depthwise_input_gradient(&dy, &weight, &shape)))),
            speed(&|| drop(black_box(depthwise_parameter_gradients(&dy, &x, &shape)))),
        );
    }
}
