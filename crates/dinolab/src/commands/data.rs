//! `dinolab data`: what images there are, and how they are kept.

pub mod fetch;
pub mod inspect;
pub mod pack;

use clap::Subcommand;
use dinolab_run::Environment;

use crate::console::Unheard;

/// The commands below `dinolab data`.
#[derive(Subcommand)]
pub enum Data {
    Fetch(fetch::Args),
    Inspect(inspect::Args),
    Pack(pack::Args),
}

impl Data {
    /// What it does once its standard output takes no more.
    pub fn unheard(&self) -> Unheard {
        match self {
            Self::Fetch(_) | Self::Pack(_) => Unheard::Finish,
            Self::Inspect(_) => Unheard::End,
        }
    }

    /// Does what was asked.
    pub fn run(self, env: &Environment<'_>) -> anyhow::Result<()> {
        match self {
            Self::Fetch(args) => fetch::run(env, &args),
            Self::Inspect(args) => inspect::run(env, &args),
            Self::Pack(args) => pack::run(env, &args),
        }
    }
}
