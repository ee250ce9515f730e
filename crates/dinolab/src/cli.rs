//! Verbs and their flags.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::commands::{
    attend, attention, bench, classify, convert, copy, embed, knn, linear, neighbours, overfit,
    pca, retrieval, segmentation, train, transfer, video,
};

/// Learns vision features from images with no labels, by self-distillation (DINO).
#[derive(Parser)]
#[command(version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Train(Box<train::Args>),
    Embed(embed::Args),
    Attend(attend::Args),
    Pca(pca::Args),
    Classify(classify::Args),
    /// Judges what was learned
    #[command(subcommand)]
    Eval(Eval),
    Convert(convert::Args),
    Neighbours(Box<neighbours::Args>),
    Overfit(overfit::Args),
    /// Measures the speed of this machine
    #[command(subcommand)]
    Bench(Bench),
}

#[derive(Subcommand)]
enum Eval {
    Attention(attention::Args),
    Copy(Box<copy::Args>),
    Knn(knn::Args),
    Video(video::Args),
    Retrieval(Box<retrieval::Args>),
    Linear(linear::Args),
    Segmentation(segmentation::Args),
    Transfer(Box<transfer::Args>),
}

#[derive(Subcommand)]
enum Bench {
    Crops(bench::crops::Args),
    Step(bench::step::Args),
    Embed(bench::embed::Args),
}

impl Cli {
    /// Does what was asked.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self.verb {
            Verb::Train(args) => train::run(*args),
            Verb::Embed(args) => embed::run(&args).map(|()| ExitCode::SUCCESS),
            Verb::Attend(args) => attend::run(&args).map(|()| ExitCode::SUCCESS),
            Verb::Pca(args) => pca::run(&args).map(|()| ExitCode::SUCCESS),
            Verb::Classify(args) => classify::run(&args).map(|()| ExitCode::SUCCESS),
            Verb::Eval(Eval::Attention(args)) => attention::run(&args).map(|()| ExitCode::SUCCESS),
            Verb::Eval(Eval::Knn(args)) => knn::run(&args).map(|()| ExitCode::SUCCESS),
            Verb::Eval(Eval::Linear(args)) => linear::run(&args).map(|()| ExitCode::SUCCESS),
            Verb::Eval(Eval::Segmentation(args)) => {
                segmentation::run(&args).map(|()| ExitCode::SUCCESS)
            }
            Verb::Eval(Eval::Transfer(args)) => transfer::run(&args).map(|()| ExitCode::SUCCESS),
            Verb::Convert(args) => convert::run(&args).map(|()| ExitCode::SUCCESS),
            Verb::Eval(Eval::Video(args)) => video::run(&args).map(|()| ExitCode::SUCCESS),
            Verb::Eval(Eval::Copy(args)) => copy::run(&args).map(|()| ExitCode::SUCCESS),
            Verb::Eval(Eval::Retrieval(args)) => retrieval::run(&args).map(|()| ExitCode::SUCCESS),
            Verb::Neighbours(args) => neighbours::run(&args).map(|()| ExitCode::SUCCESS),
            Verb::Overfit(args) => overfit::run(&args),
            Verb::Bench(Bench::Crops(args)) => bench::crops::run(&args).map(|()| ExitCode::SUCCESS),
            Verb::Bench(Bench::Step(args)) => bench::step::run(&args).map(|()| ExitCode::SUCCESS),
            Verb::Bench(Bench::Embed(args)) => bench::embed::run(&args).map(|()| ExitCode::SUCCESS),
        }
    }
}
