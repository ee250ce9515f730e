//! `dinolab data pack`.

use std::path::PathBuf;

use anyhow::Result;
use dinolab_run::Environment;
use dinolab_run::data::pack::{PackRequest, pack};

/// Pack a dataset into tar shards
///
/// Example: dinolab data pack photos shards --longest-side 512
///
/// The shards contain every image of the source in the same order (KEY.jpg, and KEY.cls with the
/// class number if there are classes), so that training on them yields the same crops. The same
/// source gives the same bytes.
///
/// Files are copied unchanged, including damaged ones, so that every image keeps its number; an
/// unreadable file is reported and becomes an empty one. With --longest-side, images are decoded,
/// and those that cannot be decoded are reported.
#[derive(clap::Args)]
pub struct Args {
    /// Images: a folder, list, tar file or shards, Parquet file or VOC tree
    #[arg(value_name = "SOURCE")]
    source: PathBuf,
    /// Output folder; must not contain shards yet
    #[arg(value_name = "OUT")]
    out: PathBuf,
    /// Start a new shard after this many MiB of images
    #[arg(long, value_name = "MIB", default_value_t = 256)]
    shard_size: u64,
    /// Shrink images so that the longer side is at most this; images other than 8-bit RGB are kept
    /// unchanged, and counted
    #[arg(long, value_name = "PX")]
    longest_side: Option<usize>,
    /// JPEG quality of shrunk images, 1–100
    #[arg(long, value_name = "N", default_value_t = 92, requires = "longest_side", value_parser = clap::value_parser!(u8).range(1..=100))]
    quality: u8,
    /// Write shrunk images as PNG (lossless) instead of JPEG
    #[arg(long, requires = "longest_side", conflicts_with = "quality")]
    png: bool,
}

/// Runs the command.
pub fn run(env: &Environment<'_>, args: &Args) -> Result<()> {
    let request = PackRequest {
        source: &args.source,
        out: &args.out,
        shard_size: args.shard_size,
        longest_side: args.longest_side,
        quality: (!args.png).then_some(args.quality),
    };
    outln!("{}", pack(env, &request)?);
    Ok(())
}
