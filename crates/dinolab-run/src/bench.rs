//! The speed of this machine: what is measured, and figures of it.

pub mod crops;
pub mod embed;
pub mod step;

use std::time::Duration;

use burn::tensor::{Distribution, Tensor};
use dinolab_nn::{Device, VitConfig};

/// Images `[B, 3, side, side]` of noise.
pub fn noise(images: usize, side: usize, device: &Device) -> Tensor<4> {
    let distribution = Distribution::Normal(0.0, 1.0);
    Tensor::<4>::random([images, 3, side, side], distribution, device)
}

/// Milliseconds.
pub fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// The middle one.
pub fn median(durations: &[Duration]) -> Duration {
    let mut sorted = durations.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}

/// The mean, in milliseconds.
pub fn mean_ms(durations: &[Duration]) -> f64 {
    ms(durations.iter().sum::<Duration>()) / durations.len() as f64
}

/// The most memory this process has held, in MiB, where the system tells.
pub fn peak_memory() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024.0)
}

/// Multiplications and additions of a forward pass of one image of side `side`, class-token
/// shortcuts not counted.
pub fn forward_operations(vit: &VitConfig, side: usize) -> f64 {
    let patches = (side / vit.patch_size).pow(2) as f64;
    let (n, d) = (patches + 1.0, vit.width as f64);
    let mlp = 2.0 * vit.mlp_ratio as f64;
    let block = 2.0 * n * d * d * (4.0 + mlp) + 4.0 * n * n * d;
    let pixels = (vit.channels * vit.patch_size.pow(2)) as f64;
    vit.depth as f64 * block + 2.0 * patches * pixels * d
}
