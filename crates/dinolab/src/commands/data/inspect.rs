//! `dinolab data inspect`.

use std::path::PathBuf;

use anyhow::Result;
use dinolab_run::data::inspect::inspect;
use dinolab_run::values::{Numbers, PixelKind};
use dinolab_run::{Environment, Settings};

use crate::output::OutputArgs;

/// Report what a dataset contains, and which files are unusable
///
/// Example: dinolab data inspect photos
///
/// Decodes every image and reports sizes (after EXIF rotation), file formats, the number of images
/// of each class, channels and bit depths, byte-identical duplicates, and unusable files with the
/// reason.
///
/// For images that are read as stored, with the mean and standard deviation of each channel:
/// dinolab data inspect bands --in-chans 4 --stats
#[derive(clap::Args)]
pub struct Args {
    /// Images: a folder, list, tar file or shards, Parquet file or VOC tree
    #[arg(value_name = "SOURCE")]
    source: PathBuf,
    /// Number of channels that images must have, as for `train` [default: 3]
    #[arg(long, value_name = "N", alias = "channels")]
    in_chans: Option<usize>,
    /// How to read pixels [default: rgb for 3 channels, else stored]
    #[arg(long, value_name = "KIND")]
    pixels: Option<PixelKind>,
    /// Measure the mean and standard deviation of each channel over all images
    #[arg(long)]
    stats: bool,
    #[command(flatten)]
    output: OutputArgs,
}

/// Runs the command.
pub fn run(env: &Environment<'_>, args: &Args) -> Result<()> {
    let kind = Settings {
        in_chans: args.in_chans,
        pixels: args.pixels,
        ..Settings::default()
    };
    let report = inspect(env, &args.source, kind.pixels(), args.stats)?;
    args.output.print(&report)?;
    if args.output.json {
        return Ok(());
    }
    if let (Some(mean), Some(std)) = (&report.mean, &report.std) {
        outln!("--mean {} --std {}", flag(mean), flag(std));
    }
    for note in &report.notes {
        outln!("note: {note}");
    }
    for names in &report.duplicates {
        outln!("duplicates: {}", names.join(", "));
    }
    for bad in &report.unreadable {
        outln!("unusable: {}: {}", bad.name, bad.reason);
    }
    Ok(())
}

/// As a flag of `train` takes it.
fn flag(values: &[f64]) -> Numbers {
    Numbers(values.iter().map(|&value| value as f32).collect())
}
