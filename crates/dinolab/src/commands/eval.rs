//! `dinolab eval`: evaluations of a trained model.

pub mod attention;
pub mod copy;
pub mod knn;
pub mod linear;
pub mod retrieval;
pub mod segmentation;
pub mod transfer;
pub mod video;

use clap::Subcommand;
use dinolab_run::Environment;

use crate::console::Unheard;

/// The commands below `dinolab eval`.
#[allow(clippy::large_enum_variant)]
#[derive(Subcommand)]
pub enum Eval {
    Knn(knn::Args),
    Linear(linear::Args),
    Attention(attention::Args),
    Segmentation(segmentation::Args),
    Video(video::Args),
    Retrieval(retrieval::Args),
    Copy(copy::Args),
    Transfer(transfer::Args),
}

impl Eval {
    /// What it does once its standard output takes no more.
    pub fn unheard(&self) -> Unheard {
        match self {
            Self::Linear(_) | Self::Video(_) | Self::Copy(_) => Unheard::Finish,
            _ => Unheard::End,
        }
    }

    /// Does what was asked.
    pub fn run(self, env: &Environment<'_>) -> anyhow::Result<()> {
        match self {
            Self::Knn(args) => knn::run(env, &args),
            Self::Linear(args) => linear::run(env, &args),
            Self::Attention(args) => attention::run(env, &args),
            Self::Segmentation(args) => segmentation::run(env, &args),
            Self::Video(args) => video::run(env, &args),
            Self::Retrieval(args) => retrieval::run(env, &args),
            Self::Copy(args) => copy::run(env, &args),
            Self::Transfer(args) => transfer::run(env, &args),
        }
    }
}
