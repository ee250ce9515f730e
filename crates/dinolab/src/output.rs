//! Results on standard output: a table for people, JSON for programs.

use anyhow::Result;
use dinolab_run::table::Report;

/// How results are printed: the same flags for all commands that have results.
#[derive(clap::Args)]
pub struct OutputArgs {
    /// Print the result as one line of JSON
    #[arg(long)]
    pub json: bool,
}

impl OutputArgs {
    /// Prints a report as one line of JSON, or its table.
    pub fn print(&self, report: &impl Report) -> Result<()> {
        if self.json {
            // By way of a value, so that single-precision numbers have all their digits.
            outln!("{}", serde_json::to_value(report)?);
        } else {
            out!("{}", report.table());
        }
        Ok(())
    }
}
