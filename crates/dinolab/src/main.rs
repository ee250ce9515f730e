//! The command line of dinolab.

mod cli;
mod commands;
mod evaluator;
mod folder;
mod model;
mod pictures;
mod progress;
mod report;
mod settings;
mod sources;
mod values;
mod watch;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match cli::Cli::parse().run() {
        Ok(code) => code,
        Err(error) => {
            // One line: the context first, then the causes it was built from.
            eprintln!("dinolab: {error:#}");
            ExitCode::FAILURE
        }
    }
}
