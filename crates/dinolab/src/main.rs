//! The command line of dinolab.

#[macro_use]
mod console;

mod class_masks;
mod cli;
mod commands;
mod evaluator;
mod folder;
mod image_files;
mod indexed;
mod inputs;
mod media;
mod model;
mod named;
mod output;
mod pictures;
mod progress;
mod remote;
mod report;
mod run_commands;
mod settings;
mod sources;
mod values;
mod watch;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    dinolab_kernels::keep_memory();
    match cli::Cli::parse().run() {
        Ok(code) => code,
        Err(error) => {
            errln!("dinolab: {}", in_one_line(&error));
            ExitCode::FAILURE
        }
    }
}

/// The context first, then the causes it was built from, those left out that it quotes already.
fn in_one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let words: Vec<String> = cause
            .to_string()
            .lines()
            .map(|part| part.trim().to_owned())
            .collect();
        let words = words.join(" ");
        if line.is_empty() {
            line = words;
        } else if !line.contains(&words) {
            line = format!("{line}: {words}");
        }
    }
    line
}
