//! `dinolab view`.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::Result;
use dinolab_run::Environment;
use dinolab_serve::{Companion, Server, ViewRequest};

/// Watch and explore training runs in a browser
///
/// Example: dinolab view runs/photos
///
/// Prints the address of a page with curves as they grow, attention over time, a map of images,
/// clusters, near duplicates and outliers. Writes nothing. Ctrl-C ends it.
#[derive(clap::Args)]
pub struct Args {
    /// Run folders
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// Port to listen on [default: 8642, or any that is free]
    #[arg(long, value_name = "N")]
    port: Option<u16>,
    /// Address to listen on, such as 0.0.0.0; the printed one then has a token [default: 127.0.0.1]
    #[arg(long, value_name = "ADDR")]
    host: Option<IpAddr>,
    /// Features for the map, as written by `embed` [default: computed by the newest checkpoint]
    #[arg(long, value_name = "F")]
    features: Option<PathBuf>,
    /// Images that the features are of [default: those of the run]
    #[arg(long, value_name = "IMAGES")]
    images: Option<PathBuf>,
    /// End when standard input is closed
    #[arg(long, hide = true)]
    while_open: bool,
}

/// The page of a run, printing its address.
pub fn beside(run: &Path) -> Result<Companion> {
    let program = match crate::STARTED_BY.get() {
        Some(words) => words.clone(),
        None => vec![std::env::current_exe()?.into()],
    };
    let page = Companion::start(&program, run)?;
    outln!("{}", page.url());
    Ok(page)
}

/// Runs the command.
pub fn run(env: &Environment<'_>, args: &Args) -> Result<()> {
    let server = Server::open(&ViewRequest {
        runs: &args.runs,
        features: args.features.as_deref(),
        images: args.images.as_deref(),
        host: args.host,
        port: args.port,
        remote: env.remote.clone(),
    })?;
    outln!("{}", server.url());
    Ok(match args.while_open {
        true => server.run_while_open()?,
        false => server.run()?,
    })
}
