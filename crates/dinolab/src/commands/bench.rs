//! `dinolab bench`: how fast this machine is.

pub mod crops;
pub mod embed;
pub mod step;

use std::io::BufRead;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use dinolab_nn::{Device, Precision, VitConfig};
use dinolab_run::Environment;

/// The commands below `dinolab bench`.
#[derive(Subcommand)]
pub enum Bench {
    Step(step::Args),
    Embed(embed::Args),
    Crops(crops::Args),
}

impl Bench {
    /// Does what was asked.
    pub fn run(self, env: &Environment<'_>) -> Result<()> {
        match self {
            Self::Step(args) => step::run(&args),
            Self::Embed(args) => embed::run(&args),
            Self::Crops(args) => crops::run(env, &args),
        }
    }
}

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
    /// cpu, or cuda:N, metal, vulkan:N, rocm:N if compiled in
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Activations and matrix products in f32 or bf16
    #[arg(long, default_value_t)]
    precision: Precision,
    /// Number of repetitions before measuring
    #[arg(long, default_value_t = 2)]
    warmup: usize,
    /// Number of repetitions measured
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
