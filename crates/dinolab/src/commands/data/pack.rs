//! `dinolab data pack`.

use std::path::PathBuf;

use anyhow::Result;
use dinolab_run::Environment;
use dinolab_run::data::pack::{PackRequest, pack};

/// Pack a dataset into tar shards
///
/// Example: dinolab data pack photos shards --longest-side 512
///
/// The shards hold every image of the source in the source's order (KEY.jpg, and KEY.cls with the
/// number of its class where there are classes), so that training on them makes the same crops. The
/// same source gives the same bytes. Files are copied as they are, damaged ones too, so that every
/// image keeps its number; one that cannot be read is named and becomes an empty file.
/// --longest-side decodes them, and names those that cannot be decoded.
#[derive(clap::Args)]
pub struct Args {
    /// The images: a folder, a list, tar shards, Parquet files or a Pascal VOC tree
    #[arg(value_name = "SOURCE")]
    source: PathBuf,
    /// Folder for the shards, which must not hold any yet
    #[arg(value_name = "OUT")]
    out: PathBuf,
    /// Begin another shard when one holds this many MiB of images
    #[arg(long, value_name = "N", default_value_t = 256)]
    shard_size: u64,
    /// Shrink images whose longest side is above this, in pixels; those of other channels or depths
    /// than 8-bit RGB are kept as they are, and counted
    #[arg(long, value_name = "PX")]
    longest_side: Option<usize>,
    /// Quality of images that are shrunk, as JPEG
    #[arg(long, value_name = "N", default_value_t = 92, requires = "longest_side", value_parser = clap::value_parser!(u8).range(1..=100))]
    quality: u8,
    /// Write images that are shrunk as PNG instead, which loses nothing more
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
