//! `dinolab completions`: scripts with which shells complete the command line.

use clap_complete::Shell;

/// Print a script with which a shell completes commands and flags
///
/// Example: dinolab completions bash > ~/.local/share/bash-completion/completions/dinolab
#[derive(clap::Args)]
pub struct Args {
    /// Shell to write it for
    shell: Shell,
}

/// Prints the script for this command line.
pub fn run(args: &Args, mut command: clap::Command) {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "dinolab", &mut script);
    out!("{}", String::from_utf8_lossy(&script));
}
