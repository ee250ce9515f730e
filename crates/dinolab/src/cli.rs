//! Verbs and their flags.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::commands::{
    attend, attention, bench, classify, convert, copy, data, embed, knn, linear, neighbours,
    overfit, pca, retrieval, segmentation, train, transfer, video,
};

/// Learns vision features from images with no labels, by self-distillation (DINO).
#[derive(Parser)]
#[command(version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    verb: Verb,
    #[cfg(feature = "remote")]
    #[command(flatten)]
    remote: crate::remote::Args,
}

// One value lives as long as the program: its size does not matter.
#[allow(clippy::large_enum_variant)]
#[derive(Subcommand)]
enum Verb {
    Train(train::Args),
    Embed(embed::Args),
    Attend(attend::Args),
    Pca(pca::Args),
    Neighbours(neighbours::Args),
    /// Judges what was learned
    #[command(subcommand)]
    Eval(Eval),
    Classify(classify::Args),
    Convert(convert::Args),
    Overfit(overfit::Args),
    /// Looks at images and packs them
    #[command(subcommand)]
    Data(data::Data),
    /// Measures the speed of this machine
    #[command(subcommand)]
    Bench(Bench),
}

#[allow(clippy::large_enum_variant)]
#[derive(Subcommand)]
enum Eval {
    Knn(knn::Args),
    Linear(linear::Args),
    Attention(attention::Args),
    Segmentation(segmentation::Args),
    Video(video::Args),
    Retrieval(retrieval::Args),
    Copy(copy::Args),
    Transfer(transfer::Args),
}

#[derive(Subcommand)]
enum Bench {
    Step(bench::step::Args),
    Embed(bench::embed::Args),
    Crops(bench::crops::Args),
}

impl Cli {
    /// Does what was asked.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        #[cfg(feature = "remote")]
        self.remote.apply();
        match self.verb {
            // These two tell more by their exit code than success and failure.
            Verb::Train(args) => return train::run(args),
            Verb::Overfit(args) => return overfit::run(&args),
            Verb::Data(data) => data.run(),
            Verb::Embed(args) => embed::run(&args),
            Verb::Attend(args) => attend::run(&args),
            Verb::Pca(args) => pca::run(&args),
            Verb::Neighbours(args) => neighbours::run(&args),
            Verb::Eval(eval) => eval.run(),
            Verb::Classify(args) => classify::run(&args),
            Verb::Convert(args) => convert::run(&args),
            Verb::Bench(Bench::Step(args)) => bench::step::run(&args),
            Verb::Bench(Bench::Embed(args)) => bench::embed::run(&args),
            Verb::Bench(Bench::Crops(args)) => bench::crops::run(&args),
        }
        .map(|()| ExitCode::SUCCESS)
    }
}

impl Eval {
    fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Knn(args) => knn::run(&args),
            Self::Linear(args) => linear::run(&args),
            Self::Attention(args) => attention::run(&args),
            Self::Segmentation(args) => segmentation::run(&args),
            Self::Video(args) => video::run(&args),
            Self::Retrieval(args) => retrieval::run(&args),
            Self::Copy(args) => copy::run(&args),
            Self::Transfer(args) => transfer::run(&args),
        }
    }
}
