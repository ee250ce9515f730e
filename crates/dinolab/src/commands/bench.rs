//! `dinolab bench`: how fast this machine is.

pub mod crops;
pub mod embed;
pub mod step;

use std::io::BufRead;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use burn::tensor::{Distribution, Tensor};
use dinolab_nn::{Device, Precision, VitConfig};

/// Flags that all benchmarks share.
#[derive(clap::Args)]
pub struct Common {
    /// vit_tiny, vit_small or vit_base
    #[arg(long, default_value = "vit_small")]
    arch: String,
    /// Side of a patch in pixels
    #[arg(long, default_value_t = 16)]
    patch_size: usize,
    /// Threads that compute [default: all cores]
    #[arg(long)]
    threads: Option<usize>,
    /// cpu, or cuda:N, metal, vulkan:N, rocm:N where built with them
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Activations and matrix products in f32 or bf16
    #[arg(long, default_value_t)]
    precision: Precision,
    /// Repetitions before measuring
    #[arg(long, default_value_t = 2)]
    warmup: usize,
    /// Repetitions that are measured
    #[arg(long, default_value_t = 5)]
    steps: usize,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
    /// Warm up, then measure N repetitions for each line `step N` on standard input, answering
    /// each with a line of JSON: lets another program measure in alternation
    #[arg(long)]
    serve: bool,
}

impl Common {
    fn vit(&self, image_size: usize) -> Result<VitConfig> {
        match VitConfig::named(&self.arch, self.patch_size, image_size) {
            Some(vit) => Ok(vit),
            None => bail_usage!("--arch {}: one of vit_tiny, vit_small, vit_base", self.arch),
        }
    }

    /// Limits the threads that compute, and finds the device.
    fn device(&self) -> Result<Device> {
        if let Some(threads) = self.threads {
            rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build_global()
                .context("--threads")?;
        }
        let device = dinolab_nn::device::by_name(&self.device)?;
        self.precision.check(&device)?;
        Ok(device)
    }

    /// Warms up and measures: once, or for each request. `once` does one repetition; `report`
    /// gets their durations.
    fn run(
        &self,
        mut once: impl FnMut() -> Result<()>,
        mut report: impl FnMut(&[Duration]) -> Result<()>,
    ) -> Result<()> {
        let mut measure = |count: usize| -> Result<Vec<Duration>> {
            (0..count.max(1))
                .map(|_| {
                    let clock = Instant::now();
                    once()?;
                    Ok(clock.elapsed())
                })
                .collect()
        };
        if self.warmup > 0 {
            measure(self.warmup)?;
        }
        if !self.serve {
            return report(&measure(self.steps)?);
        }
        for line in std::io::stdin().lock().lines() {
            let line = line.context("standard input")?;
            let count = line.trim().strip_prefix("step ").map(str::trim);
            let Some(count) = count.and_then(|count| count.parse().ok()) else {
                bail!("`{line}`: expected a line `step N`");
            };
            report(&measure(count)?)?;
        }
        Ok(())
    }
}

/// Images `[B, 3, side, side]` of noise.
fn noise(images: usize, side: usize, device: &Device) -> Tensor<4> {
    let distribution = Distribution::Normal(0.0, 1.0);
    Tensor::<4>::random([images, 3, side, side], distribution, device)
}

/// Milliseconds.
fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// The middle one.
fn median(durations: &[Duration]) -> Duration {
    let mut sorted = durations.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}

/// The mean, in milliseconds.
fn mean_ms(durations: &[Duration]) -> f64 {
    ms(durations.iter().sum::<Duration>()) / durations.len() as f64
}

/// The most memory this process has held, in MiB, where the system tells.
fn peak_memory() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024.0)
}

/// Multiplications and additions of a forward pass of one image of side `side`, class-token
/// shortcuts not counted.
fn forward_operations(vit: &VitConfig, side: usize) -> f64 {
    let patches = (side / vit.patch_size).pow(2) as f64;
    let (n, d) = (patches + 1.0, vit.width as f64);
    let mlp = 2.0 * vit.mlp_ratio as f64;
    let block = 2.0 * n * d * d * (4.0 + mlp) + 4.0 * n * n * d;
    let pixels = (vit.channels * vit.patch_size.pow(2)) as f64;
    vit.depth as f64 * block + 2.0 * patches * pixels * d
}
