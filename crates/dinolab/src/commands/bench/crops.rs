//! `dinolab bench crops`.

use std::path::PathBuf;

use anyhow::Result;
use dinolab_data::Size;
use dinolab_run::Environment;
use dinolab_run::bench::crops::{CropsRequest, measure};

use crate::output::OutputArgs;

/// Time reading, decoding and augmenting images, without a network
///
/// Example: dinolab bench crops photos --threads 2
///
/// Measures one thread first, with the time of each stage, then the data loader of `train` on
/// --threads threads.
#[derive(clap::Args)]
pub struct Args {
    /// Images, as for `train` [default: the built-in shapes, which are drawn instead of decoded]
    images: Option<PathBuf>,
    /// Number of loader threads [default: all cores]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Duration of each of the two measurements, in seconds
    #[arg(long, value_name = "X", default_value_t = 5.0)]
    seconds: f64,
    /// Side of the two global crops, or HEIGHTxWIDTH
    #[arg(long, value_name = "PX", default_value = "224")]
    global_crops_size: Size,
    /// Side of the local crops, or HEIGHTxWIDTH
    #[arg(long, value_name = "PX", default_value = "96")]
    local_crops_size: Size,
    /// Number of local crops per image
    #[arg(long, value_name = "N", default_value_t = 8)]
    local_crops_number: usize,
    /// Batch size
    #[arg(long, value_name = "N", default_value_t = 32)]
    batch_size: usize,
    /// Decode large photographs at reduced size, as `train` does
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    scaled_decoding: bool,
    #[command(flatten)]
    output: OutputArgs,
}

/// Runs the command.
pub fn run(env: &Environment<'_>, args: &Args) -> Result<()> {
    let request = CropsRequest {
        images: args.images.as_deref(),
        threads: args.threads,
        seconds: args.seconds,
        global_crops_size: args.global_crops_size,
        local_crops_size: args.local_crops_size,
        local_crops_number: args.local_crops_number,
        batch_size: args.batch_size,
        scaled_decoding: args.scaled_decoding,
    };
    let report = measure(env, &request)?;
    args.output.print(&report)?;
    if !args.output.json {
        let (alone, together) = (report.images_per_s_one_thread, report.images_per_s);
        outln!(
            "\none thread {alone:.1} images/s; the loader on {} threads {together:.1} images/s \
             ({:.2} times)",
            report.threads,
            together / alone
        );
        if report.skipped > 0 {
            outln!("{} images could not be used", report.skipped);
        }
    }
    Ok(())
}
