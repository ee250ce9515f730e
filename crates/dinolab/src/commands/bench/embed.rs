//! `dinolab bench embed`.

use anyhow::Result;
use dinolab_run::bench::embed::EmbedBench;
use dinolab_run::bench::{mean_ms, median, ms, peak_memory};

use super::Common;

/// Time feature extraction on random images
///
/// Example: dinolab bench embed --arch vit_small --batch-size 32
///
/// Measures the forward pass of `dinolab embed`, without reading and decoding images.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// Side of the images in pixels
    #[arg(long, value_name = "PX", default_value_t = 224)]
    crop: usize,
    /// Batch size for inference
    #[arg(long, value_name = "N", default_value_t = 32)]
    batch_size: usize,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    let (common, batch) = (&args.common, args.batch_size);
    let options = &common.options;
    let device = options.open_device()?;
    let config = options.backbone(args.crop)?;
    let bench = EmbedBench::new(&config, options.precision, batch, args.crop, &device)?;
    common.run(
        || {
            bench.once();
            Ok(())
        },
        |durations| {
            let time = median(durations).as_secs_f64();
            let (rate, speed) = (batch as f64 / time, bench.operations / time / 1e9);
            if common.json() {
                let line = serde_json::json!({
                    "ms": mean_ms(durations),
                    "images_per_s": rate,
                    "gflop_per_s": speed,
                    "peak_rss_mb": peak_memory(),
                });
                outln!("{line}");
                return;
            }
            outln!(
                "{}, {batch} images of {} px: {:.1} ms (median of {}), {rate:.1} images/s, \
                 {speed:.1} nominal GFLOP/s",
                options.network(),
                args.crop,
                ms(median(durations)),
                durations.len()
            );
        },
    )
}
