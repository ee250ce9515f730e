//! `dinolab data`: what images there are, and how they are kept.

pub mod fetch;
pub mod inspect;
pub mod pack;

use clap::Subcommand;

/// The verbs below `dinolab data`.
#[derive(Subcommand)]
pub enum Data {
    Fetch(fetch::Args),
    Inspect(inspect::Args),
    Pack(pack::Args),
}

impl Data {
    /// Does what was asked.
    pub fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Fetch(args) => fetch::run(&args),
            Self::Inspect(args) => inspect::run(&args),
            Self::Pack(args) => pack::run(&args),
        }
    }
}
