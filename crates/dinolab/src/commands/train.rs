//! `dinolab train`.

mod messages;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};
use dinolab_data::{Pixels, statistics};
use dinolab_nn::weights::{self, LoadOptions};
use dinolab_nn::{Network, Parameters, device};
use dinolab_train::checkpoint;
use dinolab_train::run::{Ending, run as train};

use crate::evaluator::Evaluator;
use crate::exit_code::ExitCode;
use crate::folder::{Contents, RunFolder, absolute, parse_toml, read_settings};
use crate::model::{advised, weight_file};
use crate::report;
use crate::settings::{Config, Settings};
use crate::signals::Interrupts;
use crate::sources::Sources;
use crate::values::Numbers;
use crate::watch::Watch;

use self::messages::{diverged, nothing_to_resume, resumed};

/// Trains on images with no labels
///
/// Example: dinolab train photos --out runs/photos --arch vit_tiny --epochs 50
///
/// IMAGES is a folder (flat or nested), a list of paths, a .tar file or folder of tar shards,
/// a .parquet file or folder of them (in a program built with --features parquet), or a Pascal VOC
/// tree. A program built with --features remote reads them, Parquet apart, at s3://, gs://, az:// and
/// https:// locations as well, e.g. s3://bucket/photos --remote-cache DIR. Without IMAGES it trains on
/// the built-in shapes set, which takes a few
/// minutes and shows what to expect. A run that was stopped goes on where it was when the same
/// command is given again.
#[derive(clap::Args)]
#[command(args_override_self = true)]
pub struct Args {
    /// Images to learn from [default: the built-in shapes set]
    #[arg(value_name = "IMAGES")]
    source: Option<PathBuf>,
    /// The run's folder
    #[arg(long, default_value = "runs/latest")]
    out: PathBuf,
    /// Settings from a run's config.toml; flags override them
    #[arg(long)]
    config: Option<PathBuf>,
    /// Go on with the run in --out, with its own settings; an error where there is none
    #[arg(long, conflicts_with = "fresh")]
    resume: bool,
    /// With --resume: take settings that differ from the run's, such as --lr; they are recorded in the
    /// run. Resumes from the last sound checkpoint
    #[arg(long, requires = "resume")]
    change_settings: bool,
    /// Start over, removing the run in --out
    #[arg(long)]
    fresh: bool,
    #[command(flatten)]
    settings: Settings,
}

/// Runs the verb.
pub fn run(args: Args) -> Result<ExitCode> {
    let folder = RunFolder::new(&args.out);
    let mut lock = folder.lock(false)?;
    let found = match args.fresh {
        true => None,
        false => folder.newest(args.change_settings)?,
    };
    if args.resume && found.is_none() {
        return Err(nothing_to_resume(&folder));
    }
    let recorded = match &found {
        Some(checkpoint) => Some(parse_toml(&checkpoint.position.config)?),
        None if args.fresh => None,
        // Unreadable, it is no one's but that of an attempt that made no checkpoint.
        None => folder.settings().ok().flatten(),
    };
    let mut settings = args.settings;
    settings.images = args.source.clone().or(settings.images);
    let base = match &args.config {
        Some(path) => read_settings(path)?,
        None if args.resume => recorded.clone().unwrap_or_default(),
        None => Settings::default(),
    };
    let mut settings = settings.over(base);
    if settings
        .images
        .as_ref()
        .is_none_or(|path| path.as_os_str().is_empty())
    {
        settings = settings.over_shapes();
    }
    let sources = match Sources::of(&settings) {
        Err(error) if args.resume && args.source.is_none() => {
            let hint = format!(
                "the run's images: if they lie elsewhere now, {}",
                folder.commands().resume_on("IMAGES")
            );
            return Err(error.context(hint));
        }
        sources => sources?,
    };
    let contents = settings
        .images
        .as_ref()
        .filter(|path| !path.as_os_str().is_empty())
        .map(|_| Contents::of(&sources));
    let mut settings = measured(settings, &sources, recorded.as_ref())?;
    if settings.scaled_decoding.is_none() {
        // A run goes on as it began, also one from before there was this setting.
        settings.scaled_decoding = recorded.map(|before| before.scaled_decoding.unwrap_or(false));
    }
    for path in [
        &mut settings.images,
        &mut settings.val,
        &mut settings.weights,
    ] {
        *path = path.take().map(|path| absolute(&path));
    }
    let (config, choices) = settings.resolve(sources.train.len())?;
    let plan = plan(&config, found.is_none())?;
    let device = device::by_name(&config.device)?;
    config
        .precision
        .check(&device)
        .with_context(|| format!("--device {}", config.device))?;
    let begun = lock.is_some();
    if !begun {
        lock = folder.lock(true)?;
        if !checkpoint::list(&folder.checkpoints()).is_empty() && !args.fresh {
            anyhow::bail!(
                "{} has become a run of another process in the meantime; give another --out",
                args.out.display()
            );
        }
    }
    if args.fresh {
        folder.clear()?;
    }
    let change = args.change_settings;
    let opened = folder.open(&config, found, change, contents.as_ref(), &plan.facts);
    let checkpoint = match opened {
        Err(error) if !begun => {
            folder.abandon(lock);
            return Err(error);
        }
        opened => opened?,
    };

    outln!("{}", sources.description);
    for choice in &choices {
        outln!("  {} for {} images", choice.0, sources.train.len());
    }
    describe(&config)?;
    match &checkpoint {
        Some(checkpoint) => resumed(&folder, checkpoint, &config, sources.train.len()),
        None => outln!("a new run in {}", args.out.display()),
    }
    if checkpoint.is_some() {
        folder.recheck_skipped(&sources.train, &plan.crops, &plan.loader)?;
    }
    let changes = checkpoint
        .as_ref()
        .map_or_else(Vec::new, |checkpoint| checkpoint.position.changes.clone());

    let stop = Arc::new(AtomicBool::new(false));
    let interrupts = Interrupts::listen(&stop)?;
    let evaluator = (config.eval_every > 0).then(|| Evaluator::new(&config, &sources));
    let images = sources.train.len();
    let mut watch = Watch::new(&config, &folder, evaluator, stop, images, changes);
    let ended = train(
        &plan,
        sources.train.clone(),
        &folder.checkpoints(),
        checkpoint,
        &mut watch,
        &device,
    );
    drop(watch);
    // Also of a run that failed: its curves tell why.
    let summary = report::write(&folder, &config, &sources.description);
    let (_, ending) = ended.map_err(|error| {
        // Nothing is wrong with the run: it waits for the network.
        let unreachable = error.is_unreachable();
        if error.is_divergence() {
            return diverged(&folder, &config, images, error);
        }
        let error = anyhow::Error::from(error);
        if unreachable {
            error.context("the run was stopped; the same command goes on from its last checkpoint")
        } else {
            error
        }
    })?;
    let summary = summary?;

    let skipped = folder.join("skipped.tsv");
    if skipped.exists() {
        let count = std::fs::read_to_string(&skipped)
            .unwrap_or_default()
            .lines()
            .count();
        outln!(
            "{count} images could not be used; they are listed in {}",
            skipped.display()
        );
    }
    if let (Some(first), Some(last)) = (summary.evaluations.first(), summary.evaluations.last()) {
        outln!("{:<20} {:>10} {:>10}", "", "untrained", "trained");
        for (name, a, b) in [
            ("k-NN accuracy", first.1, last.1),
            ("attention Jaccard", first.2, last.2),
        ] {
            if let (Some(a), Some(b)) = (a, b) {
                outln!("{name:<20} {a:>8.1} % {b:>8.1} %");
            }
        }
    }
    outln!("{}", folder.join("report.html").display());
    drop(lock);
    Ok(match ending {
        Ending::Finished | Ending::StoppedAsPlanned => ExitCode::Success,
        Ending::Interrupted => {
            outln!("stopped and saved; the same command goes on from here");
            interrupts.exit_code()
        }
    })
}

/// Images at most that are measured for the mean and deviation of their channels.
const MEASURED: usize = 1000;

/// With the mean and deviation of channels as they were measured when the run began or, for a new
/// run, are measured now; as given where they were given. 8-bit RGB has a default and needs none.
fn measured(
    mut settings: Settings,
    sources: &Sources,
    recorded: Option<&Settings>,
) -> Result<Settings> {
    let Pixels::Stored { channels } = settings.pixels() else {
        return Ok(settings);
    };
    if settings.mean.is_none() || settings.std.is_none() {
        let known = |numbers: &Option<Numbers>| {
            let numbers = numbers.as_ref();
            numbers.is_some_and(|numbers| numbers.0.len() == channels)
        };
        let before = recorded.cloned().unwrap_or_default();
        let (mean, std) = if known(&before.mean) && known(&before.std) {
            (before.mean, before.std)
        } else {
            let threads = std::thread::available_parallelism().map_or(1, usize::from);
            let seed = settings.seed.unwrap_or(0);
            let found = statistics::measure(&*sources.train, MEASURED, seed, threads, &|_| {})
                .context("measuring the channels' mean and deviation")?;
            if let Some(channel) = found.std.iter().position(|std| *std as f32 <= 0.0) {
                anyhow::bail!(
                    "channel {channel} has the same value everywhere: leave it out of the images, \
                     or give --mean and --std"
                );
            }
            let numbers =
                |values: &[f64]| Some(Numbers(values.iter().map(|&value| value as f32).collect()));
            outln!("channels measured over {} images", found.images);
            (numbers(&found.mean), numbers(&found.std))
        };
        settings.mean = settings.mean.or(mean);
        settings.std = settings.std.or(std);
    }
    if let (Some(mean), Some(std)) = (&settings.mean, &settings.std) {
        outln!("{channels} channels as stored: --mean {mean} --std {std}");
    }
    outln!(
        "views: each channel's brightness and contrast by itself, blur, solarisation at half of \
         the range; no hue, saturation or greyscale"
    );
    Ok(settings)
}

/// What to do; with the weights to start from where the run is `new`.
fn plan(config: &Config, new: bool) -> Result<dinolab_train::run::Plan> {
    let mut plan = config.plan()?;
    if new && !config.weights.as_os_str().is_empty() {
        let weights = weights::read(&weight_file(&config.weights)?, None)?;
        weights
            .check_trainable()
            .with_context(|| format!("--weights {}", config.weights.display()))?;
        let kernels = weights.arrays.get("backbone.patch_embed.proj.weight");
        if let Some([_, channels, _, _]) = kernels.map(|kernels| &kernels.shape[..]) {
            anyhow::ensure!(
                *channels == config.in_chans,
                "--weights {}: a network for images of {channels} channels, not of --in-chans {}; \
                 start from others or leave --weights out",
                config.weights.display(),
                config.in_chans
            );
        }
        let options = LoadOptions {
            resize_positions: config.resize_pos_embed,
            allow_missing: true,
        };
        // A trial, so that the table comes before the run and errors end it early.
        let mut network =
            Network::new(&plan.dino.vit, &plan.dino.head, 0, &device::by_name("cpu")?)?;
        let report = weights::load(&mut network, "", &weights, options)
            .map_err(advised)
            .with_context(|| format!("--weights {}", config.weights.display()))?;
        outln!("{report}");
        plan.initial = Some((weights, options));
    }
    Ok(plan)
}

fn describe(config: &Config) -> Result<()> {
    let plan = config.plan()?;
    let network = Network::new(&plan.dino.vit, &plan.dino.head, 0, &device::by_name("cpu")?)?;
    outln!(
        "{}: patch {}, {:.1} M parameters and {:.1} M in the head; views 2 × {} px and {} × {} px; \
         batch {}; learning rate {:.2e}; {} epochs",
        config.arch,
        config.patch_size,
        network.backbone.parameter_count() as f64 / 1e6,
        network.head.parameter_count() as f64 / 1e6,
        config.global_crops_size,
        config.local_crops_number,
        config.local_crops_size,
        config.batch_size * config.accumulate,
        config.scaled_lr(),
        config.epochs,
    );
    Ok(())
}
