//! The command line of dinolab: flags, printing, exit codes and signals. The work is done by
//! `dinolab-run`.

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
mod library;
mod output;
mod run_advice;
mod run_commands;
mod signals;
mod terminal;

use cli::Request;

fn main() -> std::process::ExitCode {
    dinolab_kernels::keep_memory();
    signals::survive_file_size_limit();
    let Request { cli, flags } = match Request::parse() {
        Ok(request) => request,
        Err(refusal) => return cli::answer(&refusal).into(),
    };
    console::when_unheard(cli.unheard());
    let code = cli.run().unwrap_or_else(|error| {
        errln!("error: {}", explain::one_line(&error, &flags));
        exit_code::ExitCode::of(&error, &flags)
    });
    console::finish(code).into()
}
