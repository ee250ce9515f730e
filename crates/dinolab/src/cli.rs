//! Verbs and their flags.

use std::io::{self, Write};

use clap::{ArgMatches, Command, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::commands::{
    attend, attention, bench, classify, convert, copy, data, embed, knn, linear, neighbours,
    overfit, pca, retrieval, segmentation, train, transfer, video,
};
use crate::console::{self, Unheard};
use crate::exit_code::ExitCode;
use crate::explain::Flags;

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

/// A command line that was understood.
pub struct Request {
    /// The verb with its arguments.
    pub cli: Cli,
    /// What flags the verb has.
    pub flags: Flags,
}

impl Request {
    /// Reads the command line; an error may also be the help that was asked for.
    pub fn parse() -> Result<Self, clap::Error> {
        let mut command = Cli::command();
        let matches = command.try_get_matches_from_mut(std::env::args_os())?;
        let flags = flags_of(&command, &matches);
        let cli = Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
        Ok(Self { cli, flags })
    }
}

/// The flags of the verb that was given.
fn flags_of(command: &Command, matches: &ArgMatches) -> Flags {
    let (mut command, mut matches) = (command, matches);
    while let Some((name, inner)) = matches.subcommand()
        && let Some(verb) = command.find_subcommand(name)
    {
        (command, matches) = (verb, inner);
    }
    Flags::new(command.get_arguments().filter_map(|arg| arg.get_long()))
}

/// Prints what clap has to say: help to standard output, or what is wrong with the command line.
pub fn answer(refusal: &clap::Error) -> ExitCode {
    let printed = refusal.print();
    if refusal.use_stderr() {
        return ExitCode::Usage;
    }
    console::note(printed.and_then(|()| io::stdout().flush()));
    console::finish(ExitCode::Success)
}

impl Cli {
    /// What the verb does once its standard output takes no more.
    pub fn unheard(&self) -> Unheard {
        match &self.verb {
            Verb::Train(_) => Unheard::Warn,
            // They write files, or their exit code is the answer.
            Verb::Embed(_)
            | Verb::Attend(_)
            | Verb::Pca(_)
            | Verb::Neighbours(_)
            | Verb::Classify(_)
            | Verb::Convert(_)
            | Verb::Overfit(_)
            | Verb::Eval(Eval::Linear(_) | Eval::Video(_) | Eval::Copy(_))
            | Verb::Data(data::Data::Fetch(_) | data::Data::Pack(_)) => Unheard::Finish,
            Verb::Eval(
                Eval::Knn(_)
                | Eval::Attention(_)
                | Eval::Segmentation(_)
                | Eval::Retrieval(_)
                | Eval::Transfer(_),
            )
            | Verb::Data(data::Data::Inspect(_))
            | Verb::Bench(_) => Unheard::End,
        }
    }

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
        .map(|()| ExitCode::Success)
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
