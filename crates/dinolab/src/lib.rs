//! The command line of dinolab: flags, printing, exit codes and signals. The work is done by
//! `dinolab-run`.
//!
//! [`run`] is the whole program, [`command`] what it understands. [`TrainArgs`] and [`one_line`] are its flags and its words, for
//! callers that train by the same names and print nothing.

#![deny(clippy::print_stdout, clippy::print_stderr)]

#[macro_use]
mod console;
#[macro_use]
mod usage;

mod advice;
mod args;
mod cli;
mod commands;
mod exit_code;
mod explain;
mod flags;
mod output;
mod run_advice;
mod run_commands;
mod signals;
mod terminal;
mod version;

use std::ffi::OsString;
use std::sync::OnceLock;

use cli::Request;
pub use commands::train::Args as TrainArgs;
pub use exit_code::ExitCode;
pub use explain::one_line;
pub use flags::Flags;
pub use usage::Usage;

/// All commands and their flags.
pub fn command() -> clap::Command {
    <cli::Cli as clap::CommandFactory>::command()
}

/// How the program is started where it is a part of another, such as an interpreter.
static STARTED_BY: OnceLock<Vec<OsString>> = OnceLock::new();

/// As [`run`], in a process that is not this program's own: `program` are the words that start it.
pub fn run_within(program: Vec<OsString>, args: impl IntoIterator<Item = OsString>) -> u8 {
    let _ = STARTED_BY.set(program);
    run(args)
}

/// Runs a command line, which begins with the program's name, and returns the exit code.
pub fn run(args: impl IntoIterator<Item = OsString>) -> u8 {
    dinolab_kernels::keep_memory();
    signals::survive_file_size_limit();
    let Request { cli, flags } = match Request::parse(args) {
        Ok(request) => request,
        Err(refusal) => return cli::answer(&refusal) as u8,
    };
    console::when_unheard(cli.unheard());
    let code = cli.run().unwrap_or_else(|error| {
        errln!("error: {}", explain::one_line(&error, &flags));
        ExitCode::of(&error, &flags)
    });
    console::finish(code) as u8
}
