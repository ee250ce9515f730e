//! `dinolab doctor`.

use std::path::PathBuf;

use anyhow::Result;
use dinolab_run::doctor::examine;

use crate::exit_code::ExitCode;
use crate::output::OutputArgs;

/// Tell from a run's figures what is wrong with it
///
/// Example: dinolab doctor runs/photos
///
/// RUN is a run folder, a log.txt of facebookresearch/dino, or a file of JSON lines with the figures
/// of metrics.jsonl, which other programs can write. Names collapse, divergence and
/// mistakes of an implementation, with the figures that show them, and what could not be judged. The
/// exit code is 0 only if nothing is wrong.
#[derive(clap::Args)]
pub struct Args {
    /// Run folder or log file
    run: PathBuf,
    /// Number of prototypes of a log.txt, which does not say it
    #[arg(long, value_name = "N")]
    out_dim: Option<usize>,
    #[command(flatten)]
    output: OutputArgs,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<ExitCode> {
    let examination = examine(&args.run, args.out_dim)?;
    match args.output.json {
        true => outln!("{}", serde_json::to_string(&examination)?),
        false => out!("{examination}"),
    }
    Ok(match examination.is_healthy() {
        true => ExitCode::Success,
        false => ExitCode::Failure,
    })
}
