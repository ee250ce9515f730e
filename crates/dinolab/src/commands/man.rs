//! `dinolab man`: the manual pages.

use std::path::PathBuf;

use anyhow::{Context, Result};

/// Write the manual pages, one for each command
///
/// Example: dinolab man --out ~/.local/share/man/man1
#[derive(clap::Args)]
pub struct Args {
    /// Output folder
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Writes the pages of this command line.
pub fn run(args: &Args, command: clap::Command) -> Result<()> {
    let out = &args.out;
    std::fs::create_dir_all(out)
        .and_then(|()| clap_mangen::generate_to(command, out))
        .with_context(|| format!("cannot write manual pages to {}", out.display()))
}
