//! `dinolab bench embed`.

use anyhow::Result;
use dinolab_run::bench::embed::EmbedBench;
use dinolab_run::bench::{mean_ms, median, ms, peak_memory};

use super::Common;

/// Time feature extraction on noise
///
/// Example: dinolab bench embed --arch vit_small --batch-size 32
///
/// The forward pass of `dinolab embed`, images decoded beforehand.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// Side of the images
    #[arg(long, default_value_t = 224)]
    crop: usize,
    /// Batch size for inference
    #[arg(long, default_value_t = 32)]
    batch_size: usize,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    let (common, batch) = (&args.common, args.batch_size);
    let device = common.device()?;
    let config = common.vit(args.crop)?;
    let bench = EmbedBench::new(&config, common.precision, batch, args.crop, &device)?;
    common.run(
        || {
            bench.once();
            Ok(())
        },
        |durations| {
            let time = median(durations).as_secs_f64();
            let (rate, speed) = (batch as f64 / time, bench.operations / time / 1e9);
            if common.json || common.serve {
                let line = serde_json::json!({
                    "ms": mean_ms(durations),
                    "images_per_s": rate,
                    "gflop_per_s": speed,
                    "peak_rss_mb": peak_memory(),
                });
                outln!("{line}");
                return Ok(());
            }
            outln!(
                "{} patch {}, {batch} images of {} px: {:.1} ms (median of {}), {rate:.1} images/s, \
                 {speed:.1} nominal GFLOP/s",
                common.arch,
                common.patch_size,
                args.crop,
                ms(median(durations)),
                durations.len()
            );
            Ok(())
        },
    )
}
