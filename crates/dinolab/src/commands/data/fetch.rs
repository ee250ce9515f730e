//! `dinolab data fetch`.

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use dinolab_run::data::fetch::{DATASETS, Dataset, Fetched, RetryPolicy, by_name, fetch};
use dinolab_run::{Environment, Error};

/// Download a public dataset and unpack it
///
/// Example: dinolab data fetch voc2012 voc
///
/// To resume an interrupted download, run the same command again. The size and SHA-256 of the
/// archive are verified before it is unpacked. DIR appears only when it is complete; until then
/// everything is in DIR.download. Datasets at https addresses need a build with `--features https`,
/// or an archive that was downloaded by another program:
///
/// dinolab data fetch imagenette160 imagenette --from imagenette2-160.tgz
#[derive(clap::Args)]
pub struct Args {
    /// Name of the dataset; see --list
    #[arg(value_name = "NAME", value_parser = by_name, required_unless_present = "list")]
    dataset: Option<&'static Dataset>,
    /// Folder to create
    #[arg(value_name = "DIR", required_unless_present = "list")]
    dir: Option<PathBuf>,
    /// Use the archive in this file, or download it from this address instead
    #[arg(long, value_name = "FILE|URL")]
    from: Option<String>,
    /// List the datasets with their sizes, checksums and addresses
    #[arg(long, conflicts_with_all = ["dataset", "dir", "from"])]
    list: bool,
}

/// Runs the command.
pub fn run(env: &Environment<'_>, args: &Args) -> Result<()> {
    let (Some(dataset), Some(dir)) = (args.dataset, &args.dir) else {
        for dataset in DATASETS {
            outln!("{}", dataset.line());
        }
        return Ok(());
    };
    let retry = RetryPolicy::default();
    let fetched = fetch(env, dataset, dir, args.from.as_deref(), &retry);
    let (name, place) = (dataset.name, dir.display());
    match fetched.map_err(|error| advised(error, dataset, dir))? {
        Fetched::Now => outln!("{name} is in {place}"),
        Fetched::Before => outln!("{name} is already complete in {place}; nothing to do"),
    }
    let images = match dataset.images {
        "" => dir.clone(),
        images => dir.join(images),
    };
    outln!("images: {}", images.display());
    Ok(())
}

/// An error, with the commands that do without https.
fn advised(error: Error, dataset: &Dataset, dir: &Path) -> anyhow::Error {
    match error {
        Error::NoHttps { url } => anyhow!(
            "this build has no https (cargo feature `https`); download the archive with another \
             program and continue with the file: curl -L -C - -o {archive} {url} && dinolab data fetch \
             {} {} --from {archive}",
            dataset.name,
            dir.display(),
            archive = dataset.archive(),
        ),
        error => error.into(),
    }
}
