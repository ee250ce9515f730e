//! `dinolab data`: what images there are, and how they are kept.

pub mod inspect;
pub mod pack;

use clap::Subcommand;

/// The verbs below `dinolab data`.
#[derive(Subcommand)]
pub enum Data {
    Inspect(inspect::Args),
    Pack(pack::Args),
}

impl Data {
    /// Does what was asked.
    pub fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Inspect(args) => inspect::run(&args),
            Self::Pack(args) => pack::run(&args),
        }
    }
}
