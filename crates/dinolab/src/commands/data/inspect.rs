//! What a source holds: sizes, formats, classes, duplicates, and what cannot be read.

use std::path::PathBuf;

use anyhow::Result;

/// Tells what a source of images holds, and what in it cannot be used
///
/// Example: dinolab data inspect photos
#[derive(clap::Args)]
pub struct Args {
    /// The images
    #[arg(value_name = "SOURCE")]
    source: PathBuf,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<()> {
    anyhow::bail!("{} {}: not yet", args.source.display(), args.json)
}
