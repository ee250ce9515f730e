//! `dinolab overfit`: the one-image self-test.

use std::path::PathBuf;
use std::process::ExitCode;
use anyhow::Result;

/// Trains on one image, to show that learning works at all
#[derive(clap::Args)]
pub struct Args {
    /// An image [default: one of the built-in shapes]
    image: Option<PathBuf>,
}

/// Runs the verb.
pub fn run(_args: &Args) -> Result<ExitCode> {
    anyhow::bail!("later")
}
