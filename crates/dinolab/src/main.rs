//! The command line of dinolab.

#![deny(clippy::print_stdout, clippy::print_stderr)]

#[macro_use]
mod console;
#[macro_use]
mod usage;

mod advice;
mod class_masks;
mod cli;
mod commands;
mod evaluator;
mod exit_code;
mod explain;
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
mod result_names;
mod results;
mod run_commands;
mod settings;
mod signals;
mod sources;
mod values;
mod watch;

use cli::Request;

fn main() -> std::process::ExitCode {
    dinolab_kernels::keep_memory();
    signals::survive_file_size_limit();
    let request = match Request::parse() {
        Ok(request) => request,
        Err(refusal) => return cli::answer(&refusal).into(),
    };
    let Request { cli, flags } = request;
    console::when_unheard(cli.unheard());
    let code = cli.run().unwrap_or_else(|error| {
        errln!("dinolab: {}", explain::one_line(&error, &flags));
        exit_code::ExitCode::of(&error, &flags)
    });
    console::finish(code).into()
}
