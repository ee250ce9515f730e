//! Commands and their flags.

use std::ffi::OsString;
use std::io::{self, Write};

use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser};
use dinolab_run::Environment;

use crate::commands::Command;
use crate::console::{self, Unheard};
use crate::exit_code::ExitCode;
use crate::flags::Flags;
use crate::terminal::Terminal;

/// Pretrain vision transformers on unlabelled images with DINO, DINOv2, LeJEPA, VISReg or SimDINO
#[derive(Parser)]
#[command(version, long_version = crate::version::long(), max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Print only results, warnings and errors; no progress or notes
    #[arg(short, long, global = true, display_order = 998)]
    quiet: bool,
    #[cfg(feature = "remote")]
    #[command(flatten)]
    remote: crate::args::RemoteArgs,
}

/// A command line that was understood.
pub struct Request {
    /// The command with its arguments.
    pub cli: Cli,
    /// What flags the command has.
    pub flags: Flags,
}

impl Request {
    /// Reads the command line; an error may also be the help that was asked for.
    pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let mut command = Cli::command();
        let matches = command.try_get_matches_from_mut(args)?;
        let flags = flags_of(&command, &matches);
        let cli = Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
        Ok(Self { cli, flags })
    }
}

/// The flags of the command that was given.
fn flags_of(command: &clap::Command, matches: &ArgMatches) -> Flags {
    let (mut command, mut matches) = (command, matches);
    while let Some((name, inner)) = matches.subcommand()
        && let Some(found) = command.find_subcommand(name)
    {
        (command, matches) = (found, inner);
    }
    Flags::of(command)
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
    /// What the command does once its standard output takes no more.
    pub fn unheard(&self) -> Unheard {
        self.command.unheard()
    }

    /// Does what was asked.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let terminal = Terminal::new(self.quiet);
        let terminal = match self.command.run_folder() {
            Some(run) => terminal.of_run(run.to_owned()),
            None => terminal,
        };
        #[cfg_attr(not(feature = "remote"), expect(unused_mut))]
        let mut env = Environment::new(&terminal);
        #[cfg(feature = "remote")]
        {
            env.remote = self.remote.options();
        }
        self.command.run(&env, Self::command())
    }
}
