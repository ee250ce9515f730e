//! The commands, in folders as the user types them.

pub mod attend;
pub mod bench;
pub mod classify;
pub mod completions;
pub mod convert;
pub mod data;
pub mod doctor;
pub mod embed;
pub mod eval;
pub mod man;
pub mod neighbours;
pub mod overfit;
pub mod pca;
pub mod train;
#[cfg(feature = "view")]
pub mod view;

use std::path::Path;

use clap::Subcommand;
use dinolab_run::Environment;

use crate::console::Unheard;
use crate::exit_code::ExitCode;

// One value lives as long as the program: its size does not matter.
#[allow(clippy::large_enum_variant)]
#[derive(Subcommand)]
pub enum Command {
    Train(train::Args),
    Embed(embed::Args),
    Attend(attend::Args),
    Pca(pca::Args),
    #[command(alias = "neighbors")]
    Neighbours(neighbours::Args),
    /// Evaluate a trained model
    #[command(subcommand)]
    Eval(eval::Eval),
    Classify(classify::Args),
    #[cfg(feature = "view")]
    View(view::Args),
    Convert(convert::Args),
    Overfit(overfit::Args),
    Doctor(doctor::Args),
    /// Download, inspect and pack datasets
    #[command(subcommand)]
    Data(data::Data),
    /// Benchmark training steps, feature extraction and image loading
    #[command(subcommand)]
    Bench(bench::Bench),
    Completions(completions::Args),
    Man(man::Args),
}

impl Command {
    /// What it does once its standard output takes no more.
    pub fn unheard(&self) -> Unheard {
        match self {
            Self::Train(_) => Unheard::Warn,
            // They write files, or their exit code is the answer.
            Self::Embed(_)
            | Self::Attend(_)
            | Self::Pca(_)
            | Self::Neighbours(_)
            | Self::Classify(_)
            | Self::Convert(_)
            | Self::Overfit(_)
            | Self::Doctor(_) => Unheard::Finish,
            Self::Eval(eval) => eval.unheard(),
            Self::Data(data) => data.unheard(),
            #[cfg(feature = "view")]
            Self::View(_) => Unheard::Finish,
            Self::Bench(_) | Self::Completions(_) | Self::Man(_) => Unheard::End,
        }
    }

    /// The folder of the run that it trains.
    pub fn run_folder(&self) -> Option<&Path> {
        match self {
            Self::Train(args) => Some(args.run_folder()),
            _ => None,
        }
    }

    /// Does what was asked; `cli` is the whole command line.
    pub fn run(self, env: &Environment<'_>, cli: clap::Command) -> anyhow::Result<ExitCode> {
        match self {
            // These report more by their exit code than success and failure.
            Self::Train(args) => return train::run(env, args),
            Self::Overfit(args) => return overfit::run(&args),
            Self::Doctor(args) => return doctor::run(&args),
            Self::Data(data) => data.run(env),
            Self::Embed(args) => embed::run(env, &args),
            Self::Attend(args) => attend::run(env, &args),
            Self::Pca(args) => pca::run(env, &args),
            Self::Neighbours(args) => neighbours::run(env, &args),
            Self::Eval(eval) => eval.run(env),
            Self::Classify(args) => classify::run(env, &args),
            #[cfg(feature = "view")]
            Self::View(args) => view::run(env, &args),
            Self::Convert(args) => convert::run(env, &args),
            Self::Bench(bench) => bench.run(env),
            Self::Completions(args) => {
                completions::run(&args, cli);
                Ok(())
            }
            Self::Man(args) => man::run(&args, cli),
        }
        .map(|()| ExitCode::Success)
    }
}
