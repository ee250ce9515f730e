//! The speed of this machine: what is measured, and figures of it.

pub mod crops;
pub mod embed;
pub mod step;

use std::io::BufRead;
use std::time::{Duration, Instant};

use burn::tensor::{Distribution, Tensor};
use dinolab_nn::position::Rope;
use dinolab_nn::{BackboneConfig, Device, Precision, VitConfig};

use crate::error::{Context, Error, Result};
use crate::settings::resolve::arch_names;
use crate::values::{FfnKind, PositionKind, StemKind};

/// What is measured, and how often.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
pub struct BenchOptions {
    /// A network as `--arch` of `train` names it, not custom
    #[cfg_attr(
        feature = "clap",
        arg(long, value_name = "NAME", default_value = "vit_small")
    )]
    pub arch: String,
    /// Width of the features of a convolutional network [default: as published]
    #[cfg_attr(feature = "clap", arg(long, value_name = "D"))]
    pub width: Option<usize>,
    /// Patch size in pixels, of a transformer
    #[cfg_attr(feature = "clap", arg(long, value_name = "PX", default_value_t = 16))]
    pub patch_size: usize,
    /// What makes tokens of a transformer's patches
    #[cfg_attr(
        feature = "clap",
        arg(long, value_name = "NAME", default_value = "patchify")
    )]
    pub stem: StemKind,
    /// Number of register tokens of a transformer
    #[cfg_attr(feature = "clap", arg(long, value_name = "N", default_value_t = 0))]
    pub registers: usize,
    /// Scale each residual branch of a transformer by a learned vector
    #[cfg_attr(
        feature = "clap",
        arg(long, value_name = "BOOL", default_value_t, action = clap::ArgAction::Set)
    )]
    pub layer_scale: bool,
    /// MLP of each block of a transformer
    #[cfg_attr(
        feature = "clap",
        arg(long, value_name = "NAME", default_value = "mlp")
    )]
    pub ffn: FfnKind,
    /// Learned or rotary positions of a transformer
    #[cfg_attr(
        feature = "clap",
        arg(long, value_name = "NAME", default_value = "learned")
    )]
    pub positions: PositionKind,
    /// Number of compute threads [default: all cores]
    #[cfg_attr(feature = "clap", arg(long, value_name = "N"))]
    pub threads: Option<usize>,
    /// cpu, or cuda:N, metal, vulkan:N, rocm:N if compiled in
    #[cfg_attr(feature = "clap", arg(long, default_value = "cpu"))]
    pub device: String,
    /// Precision of activations and matrix multiplications: f32 or bf16
    #[cfg_attr(feature = "clap", arg(long, value_name = "TYPE", default_value_t))]
    pub precision: Precision,
    /// Number of warm-up repetitions, not measured
    #[cfg_attr(feature = "clap", arg(long, value_name = "N", default_value_t = 2))]
    pub warmup: usize,
    /// Number of repetitions to measure
    #[cfg_attr(feature = "clap", arg(long, value_name = "N", default_value_t = 5))]
    pub steps: usize,
}

impl BenchOptions {
    /// The network for images of side `image_size`.
    ///
    /// # Errors
    /// A name that there is not; a width that it cannot have.
    pub fn backbone(&self, image_size: usize) -> Result<BackboneConfig> {
        let convolutional = BackboneConfig::convolutional(&self.arch, 3);
        if let (Some(width), None) = (self.width, &convolutional) {
            let reason = "a transformer has the width of its name; leave it out";
            return Err(Error::setting("width", width, reason));
        }
        if let Some(network) = convolutional {
            let width = self.width.unwrap_or(network.width());
            let step = network.width_step();
            let reason = || format!("of {} it must be a multiple of {step}", self.arch);
            let network = network.of_width(width);
            return network.ok_or_else(|| Error::setting("width", width, reason()));
        }
        let found = VitConfig::named(&self.arch, self.patch_size, image_size);
        let known = || format!("one of {}", arch_names());
        let vit = found.ok_or_else(|| Error::setting("arch", &self.arch, known()))?;
        let gated_mlp = self.ffn == FfnKind::SwiGlu;
        let vit = VitConfig {
            conv_stem: self.stem == StemKind::Conv,
            registers: self.registers,
            layer_scale: self.layer_scale,
            gated_mlp,
            mlp_width: match gated_mlp {
                true => VitConfig::gated_width(vit.width),
                false => vit.mlp_width,
            },
            rope: (self.positions == PositionKind::Rope).then(Rope::default),
            ..vit
        };
        Ok(vit.into())
    }

    /// The network in words.
    pub fn network(&self) -> String {
        match BackboneConfig::convolutional(&self.arch, 3) {
            Some(network) => {
                let width = self.width.unwrap_or(network.width());
                format!("{} of width {width}", self.arch)
            }
            None => format!("{} patch {}", self.arch, self.patch_size),
        }
    }

    /// Limits the threads that compute, of the whole process, and finds the device.
    ///
    /// # Errors
    /// A device that is not there, or does not have the precision; threads that run already.
    pub fn open_device(&self) -> Result<Device> {
        if let Some(threads) = self.threads {
            rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build_global()
                .of_setting("threads", "")?;
        }
        let device = dinolab_nn::device::by_name(&self.device)?;
        self.precision.check(&device)?;
        Ok(device)
    }

    /// Warms up and measures: once, or for each of the `requests`, lines `step N`. `once` does one
    /// repetition; `report` gets their durations.
    ///
    /// # Errors
    /// Those of `once`; a line that is not a request.
    pub fn repeat(
        &self,
        requests: Option<&mut dyn BufRead>,
        mut once: impl FnMut() -> Result<()>,
        mut report: impl FnMut(&[Duration]),
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
        let Some(requests) = requests else {
            report(&measure(self.steps)?);
            return Ok(());
        };
        for line in requests.lines() {
            let line = line.context("standard input")?;
            let count = line.trim().strip_prefix("step ").map(str::trim);
            let Some(count) = count.and_then(|count| count.parse().ok()) else {
                bail!("`{line}`: expected a line `step N`");
            };
            report(&measure(count)?);
        }
        Ok(())
    }
}

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
pub fn forward_operations(backbone: &BackboneConfig, side: usize) -> f64 {
    let vit = match backbone {
        BackboneConfig::Vit(vit) => vit,
        BackboneConfig::ResNet(resnet) => return resnet.forward_operations(side),
        BackboneConfig::ConvNext(convnext) => return convnext.forward_operations(side),
    };
    let patches = (side / vit.patch_size).pow(2) as f64;
    let (n, d) = (patches + 1.0, vit.width as f64);
    let maps = if vit.gated_mlp { 3.0 } else { 2.0 };
    let mlp = maps * vit.mlp_hidden() as f64;
    let block = 2.0 * n * d * (4.0 * d + mlp) + 4.0 * n * n * d;
    // Every convolution but the last has a grid of four times as many positions as the next.
    let mut stem = 0.0;
    let mut positions = patches;
    let kernels = vit.stem_kernels().into_iter();
    for shape in kernels.chain([vit.patch_kernel()]).rev() {
        stem += 2.0 * positions * shape.map(|size| size as f64).iter().product::<f64>();
        positions *= 4.0;
    }
    vit.depth as f64 * block + stem
}
