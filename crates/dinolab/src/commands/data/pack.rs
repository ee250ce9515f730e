//! Any source to tar shards.

use std::path::PathBuf;

use anyhow::Result;

/// Packs a source of images into tar shards
///
/// Example: dinolab data pack photos shards
#[derive(clap::Args)]
pub struct Args {
    /// The images
    #[arg(value_name = "SOURCE")]
    source: PathBuf,
    /// Folder for the shards
    #[arg(value_name = "OUT")]
    out: PathBuf,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<()> {
    anyhow::bail!(
        "{} to {}: not yet",
        args.source.display(),
        args.out.display()
    )
}
