//! `dinolab train`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use dinolab_run::{Environment, Processes, Session, Settings, Start, TrainRequest};
use dinolab_train::RunOutcome;

use crate::console;
use crate::exit_code::ExitCode;
use crate::run_commands::Commands;
use crate::signals::Interrupts;

/// Train a vision transformer on unlabelled images
///
/// Example: dinolab train photos --out runs/photos --time 8h
///
/// IMAGES is a folder (searched recursively), a text file of paths, a .tar file or folder of tar
/// shards, .parquet files (needs --features parquet) or a Pascal VOC tree; all but VOC trees can be
/// s3://, gs://, az:// or (no folders) https:// URLs (needs --features remote), e.g.
/// s3://bucket/photos --remote-cache DIR. Without IMAGES, train on a built-in synthetic dataset for a
/// few minutes. To resume a stopped run, run the same command again.
///
/// Defaults shown below are those of --recipe paper. --recipe small, the default for your own images on a CPU,
/// trains a transformer (width 192, 6 blocks, --stem conv) by LeJEPA with --optimizer muon, smaller crops (96 px
/// and 4 of 48 px), --drop-path-rate 0.05, --lr 0.012 and --patch-drop-rate 0.5 until it has seen 200,000 images
/// (10 to 400 epochs); crops have half the size in the first half of the epochs. With methods other than LeJEPA
/// and VISReg it has no stem and AdamW, and sees 400,000 images (DINO, DINOv2, SimDINO: --lr 0.002). --recipe
/// shapes (built-in set) has its own values. The run's config.toml lists all.
#[derive(clap::Args)]
#[command(args_override_self = true)]
pub struct Args {
    /// Training images [default: the built-in shapes set]
    #[arg(value_name = "IMAGES")]
    source: Option<PathBuf>,
    /// Run folder: checkpoints, metrics and report are written here
    #[arg(long, value_name = "PATH", default_value = "runs/latest")]
    out: PathBuf,
    /// Read settings from a run's config.toml; flags override them
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Resume the run in --out with its recorded settings; fails if there is none
    #[arg(long, conflicts_with = "fresh")]
    resume: bool,
    /// With --resume: apply settings that differ from the run's, such as --lr, and record them; resumes
    /// from the last sound checkpoint
    #[arg(long, requires = "resume")]
    change_settings: bool,
    /// Start over, removing the run in --out
    #[arg(long)]
    fresh: bool,
    /// Serve the page of `dinolab view` while the run trains, and print its address
    #[cfg(feature = "view")]
    #[arg(long)]
    view: bool,
    #[command(flatten)]
    settings: Settings,
}

impl Args {
    /// The run's folder, as it was named.
    pub fn run_folder(&self) -> &Path {
        &self.out
    }

    /// The run that is asked for.
    pub fn request(self) -> TrainRequest {
        let start = Start::asked(self.resume, self.change_settings, self.fresh);
        let mut settings = self.settings;
        settings.images = self.source.or(settings.images);
        TrainRequest {
            run: self.out,
            start,
            config: self.config,
            settings,
        }
    }
}

/// Runs the command.
pub fn run(env: &Environment<'_>, args: Args) -> Result<ExitCode> {
    let processes = Processes::launched()?;
    processes.ended(train(env, &processes, args))
}

fn train(env: &Environment<'_>, processes: &Processes, args: Args) -> Result<ExitCode> {
    #[cfg(feature = "view")]
    let view = args.view;
    let session = Session::among(processes, env, args.request())?;
    let stop = Arc::new(AtomicBool::new(false));
    let interrupts = Interrupts::listen(&stop)?;
    // A run that nobody follows any more is saved and stopped, as one whose terminal is closed.
    let stopped = || stop.load(Ordering::Relaxed) || console::reader_left();
    let code = |ending| match (ending, processes.count()) {
        (RunOutcome::Finished | RunOutcome::StoppedAsPlanned, _) => ExitCode::Success,
        (RunOutcome::Interrupted, 1) => interrupts.exit_code(),
        (RunOutcome::Interrupted, _) => ExitCode::TryAgain,
    };
    if !session.leads() {
        return Ok(code(session.follow(&stopped)?));
    }
    describe(&session)?;
    #[cfg(feature = "view")]
    let page = view.then(|| super::view::beside(session.folder()));
    #[cfg(feature = "view")]
    let _page = page.transpose()?;
    let outcome = session.train(&stopped).map_err(|error| {
        // Nothing is wrong with the run: it waits for the network.
        let waits =
            "the run was stopped; run the same command again to resume from its last checkpoint";
        match error.is_unreachable() {
            true => anyhow::Error::from(error).context(waits),
            false => error.into(),
        }
    })?;
    if let Some((count, list)) = &outcome.skipped {
        let list = list.display();
        outln!("{count} images could not be used; they are listed in {list}");
    }
    out!("{}", outcome.summary.comparison());
    outln!("{}", outcome.report.display());
    if outcome.ending == RunOutcome::Interrupted {
        outln!("stopped and saved; run the same command again to resume");
    }
    Ok(code(outcome.ending))
}

fn describe(session: &Session<'_>) -> Result<()> {
    let (sources, images) = (session.sources(), session.images());
    let all = " (--holdout 0 trains on all)";
    let hint = if sources.held_out { all } else { "" };
    outln!("{}{hint}", sources.description);
    for choice in session.choices() {
        outln!("  --{}", choice.in_words(images));
    }
    outln!("{}", session.headline()?);
    if let Some(estimate) = session.estimate() {
        let other = "; --time 8h chooses a run of 8 hours, --recipe paper the paper's settings";
        let hint = if estimate.asked.is_none() { other } else { "" };
        outln!("{estimate}{hint}");
    }
    let run = session.folder();
    let Some(position) = session.resumed() else {
        outln!("a new run in {}", run.display());
        return Ok(());
    };
    outln!("resuming {} from step {}", run.display(), position.step);
    for change in &position.changes {
        outln!("  --{change}");
    }
    if let Some((aside, remedies)) = session.diverged_before() {
        errln!(
            "warning: the run diverged after this step ({} is not used), and with the same settings \
             does so again; {}",
            aside.display(),
            Commands::new(run).remedies(&remedies, true)
        );
    }
    Ok(())
}
