//! `dinolab bench step`.

use anyhow::Result;
use dinolab_nn::Feature;
use dinolab_run::bench::step::{MethodOptions, StepBench, StepOptions};
use dinolab_run::bench::{mean_ms, median, peak_memory};
use dinolab_train::OptimiserKind;

use super::Common;

/// Time a training step on random images
///
/// Example: dinolab bench step --arch vit_small --batch-size 8 --out-dim 4096
///
/// Measures the whole step of a method: forward passes, loss, backward pass, clipping, optimiser and
/// moving average, without reading and cropping images.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// Side of the global crops
    #[arg(long, value_name = "PX", default_value_t = 224)]
    global_crops_size: usize,
    /// Side of the local crops
    #[arg(long, value_name = "PX", default_value_t = 96)]
    local_crops_size: usize,
    /// Number of local crops
    #[arg(long, value_name = "N", default_value_t = 8)]
    local_crops_number: usize,
    /// Images per step
    #[arg(long, value_name = "N", default_value_t = 8)]
    batch_size: usize,
    /// Stochastic depth rate of the network being trained
    #[arg(long, value_name = "X", default_value_t = 0.1)]
    drop_path_rate: f64,
    /// Clip each parameter's gradient to this norm; 0 disables
    #[arg(long, value_name = "X", default_value_t = 3.0)]
    clip_grad: f64,
    /// adamw, sgd, lars or muon
    #[arg(long, value_name = "NAME", value_parser = dinolab_run::values::optimizer, default_value = "adamw")]
    optimizer: OptimiserKind,
    /// Feature that the head is applied to: class (the class token), patches (the mean of the patch
    /// tokens) or both
    #[arg(long, value_name = "FEATURE", default_value_t)]
    feature: Feature,
    #[command(flatten)]
    method: MethodOptions,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    let (common, global_crops_size) = (&args.common.options, args.global_crops_size);
    let device = common.open_device()?;
    let options = StepOptions {
        backbone: common.backbone(global_crops_size)?,
        global_crops_size,
        feature: args.feature,
        method: args.method.method(),
        local_crops_size: args.local_crops_size,
        local_crops_number: args.local_crops_number,
        batch_size: args.batch_size,
        drop_path_rate: args.drop_path_rate,
        clip_grad: args.clip_grad,
        optimizer: args.optimizer,
        precision: common.precision,
    };
    let mut bench = StepBench::new(&options, &device)?;
    let nominal = bench.operations;
    dinolab_kernels::profile::start();
    let once = || {
        bench.once()?;
        if bench.timings.len() <= common.warmup {
            // What is measured starts after the warm-up.
            dinolab_kernels::profile::start();
        }
        Ok(())
    };
    let mut measured = Vec::new();
    let json = args.common.json();
    args.common.run(once, |durations| {
        measured = durations.to_vec();
        if json {
            let line = serde_json::json!({
                "ms": mean_ms(durations),
                "gflop_per_s": nominal / median(durations).as_secs_f64() / 1e9,
                "peak_rss_mb": peak_memory(),
            });
            outln!("{line}");
        }
    })?;
    if json {
        return Ok(());
    }
    let profile = dinolab_kernels::profile::stop();
    outln!(
        "{}, {}",
        common.network(),
        bench.figures(&measured, &profile)
    );
    Ok(())
}
