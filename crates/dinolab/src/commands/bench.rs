//! `dinolab bench`: how fast this machine is.

pub mod crops;
pub mod embed;
pub mod step;

use std::io::BufRead;
use std::time::Duration;

use anyhow::Result;
use clap::Subcommand;
use dinolab_run::Environment;
use dinolab_run::bench::BenchOptions;

/// The commands below `dinolab bench`.
#[derive(Subcommand)]
pub enum Bench {
    Step(step::Args),
    Embed(embed::Args),
    Crops(crops::Args),
}

impl Bench {
    /// Does what was asked.
    pub fn run(self, env: &Environment<'_>) -> Result<()> {
        match self {
            Self::Step(args) => step::run(&args),
            Self::Embed(args) => embed::run(&args),
            Self::Crops(args) => crops::run(env, &args),
        }
    }
}

/// Flags that all benchmarks share.
#[derive(clap::Args)]
pub struct Common {
    #[command(flatten)]
    options: BenchOptions,
    /// Print the result as one line of JSON
    #[arg(long)]
    json: bool,
    /// Warm up; then, for each line `step N` on standard input, measure N repetitions and print a
    /// line of JSON, so that runs can alternate with another program
    #[arg(long)]
    serve: bool,
}

impl Common {
    /// Warms up and measures: once, or for each request.
    fn run(
        &self,
        once: impl FnMut() -> dinolab_run::Result<()>,
        report: impl FnMut(&[Duration]),
    ) -> Result<()> {
        let mut requests = std::io::stdin().lock();
        let requests = self.serve.then_some(&mut requests as &mut dyn BufRead);
        Ok(self.options.repeat(requests, once, report)?)
    }

    /// Whether figures are printed as JSON.
    fn json(&self) -> bool {
        self.json || self.serve
    }
}
