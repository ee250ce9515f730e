//! What has to be known before a run begins: the channels' mean and deviation, the weights to start
//! from.

use std::path::Path;

use dinolab_data::{Pixels, statistics};
use dinolab_nn::weights::{LoadOptions, Weights};
use dinolab_nn::{BackboneConfig, VitConfig, device};
use dinolab_train::{BatchShape, Ranks, TrainConfig};

use crate::budget::{self, Estimate, Plan, Question};
use crate::environment::Environment;
use crate::error::{Context, Error, Result};
use crate::event::Event;
use crate::hub;
use crate::model::preprocess_of;
use crate::settings::adapt::GivenWeights;
use crate::settings::recipe::ImageFacts;
use crate::settings::{Config, Settings};
use crate::sources::Sources;
use crate::values::{MethodKind, Numbers, RecipeKind};
use crate::weights::read;

/// Images at most that are measured for the mean and deviation of their channels.
const MEASURED: usize = 1000;

/// With the mean and deviation of channels as they were measured when the run began or, for a new
/// run, are measured now; as given where they were given. 8-bit RGB has a default and needs none.
pub(super) fn measured(
    env: &Environment<'_>,
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
                bail!(
                    "channel {channel} has the same value everywhere: leave it out of the images, \
                     or give `mean` and `std`"
                );
            }
            let numbers =
                |values: &[f64]| Some(Numbers(values.iter().map(|&value| value as f32).collect()));
            let images = found.images;
            env.events.hear(Event::ChannelsMeasured { images });
            (numbers(&found.mean), numbers(&found.std))
        };
        settings.mean = settings.mean.or(mean);
        settings.std = settings.std.or(std);
    }
    if let (Some(mean), Some(std)) = (&settings.mean, &settings.std) {
        env.events.hear(Event::StoredChannels {
            channels,
            mean,
            std,
        });
    }
    Ok(settings)
}

/// With the network of the weights to start from, where none is asked for, their feature and the sizes
/// at which they are evaluated; and what they are, for a run that has not begun.
///
/// # Errors
/// Weights that cannot be read, or of no backbone.
pub(super) fn with_network_of_weights(
    settings: Settings,
    recorded: Option<&Settings>,
) -> Result<(Settings, Option<GivenWeights>)> {
    let path = settings.weights.clone().unwrap_or_default();
    if path.as_os_str().is_empty() {
        return Ok((settings, None));
    }
    // Whoever names sizes still has the registers and whatever else the weights have.
    let sizes = settings.names_sizes();
    let mut given = None;
    let network = match recorded {
        Some(recorded) if sizes => recorded.variant().over(recorded.adapting()),
        // The weights of a run that has begun may be gone.
        Some(recorded) => recorded.network().over(recorded.adapting()),
        None => {
            let weights = read_start(&path)?;
            // Only DINO and DINOv2 take over a head.
            let head = weights
                .head_config()
                .filter(|_| settings.method.is_none_or(MethodKind::has_prototypes));
            given = Some(GivenWeights {
                has_head: head.as_ref().is_some_and(|head| settings.may_have(head)),
            });
            let head = head.filter(|_| settings.method.is_some());
            let mut head = head.map_or_else(Settings::default, |head| Settings::of_head(&head));
            if settings.method != Some(MethodKind::Dino) {
                head.use_bn_in_head = None;
            }
            let preprocess = preprocess_of(&weights.metadata);
            let own = Settings::of_weights(weights.feature()?, preprocess.as_ref());
            let config = weights.backbone_config(None);
            let config = config.of_setting("weights", path.display())?;
            let network = match (sizes, &config) {
                (true, BackboneConfig::Vit(vit)) => Settings::of_variant(vit),
                (true, config) => Settings {
                    width: settings.is_convolutional().then(|| config.width()),
                    ..Settings::default()
                },
                (false, config) => Settings::of_network(config)?,
            };
            network.over(own).over(head)
        }
    };
    Ok((settings.over(network), given))
}

/// The weights to start from; those of the hub are in the cache when settings name them.
fn read_start(path: &Path) -> Result<Weights> {
    read(&hub::local(&Environment::default(), path)?, None)
}

/// What was said of a run before this session's choices.
pub(super) struct Before<'a> {
    /// Settings as given.
    pub given: &'a Settings,
    /// Those of a file, or of the run that is resumed, for what was not given.
    pub base: &'a Settings,
    /// Those of the run in the folder, if there is one.
    pub recorded: Option<&'a Settings>,
    /// Whether it is resumed with its own settings.
    pub resume: bool,
    /// Whether one process trains: speed is measured in one.
    pub alone: bool,
}

/// The question's settings over those of a recipe; for a new run whose length is open, chosen by its
/// time or with an estimate of it.
///
/// # Errors
/// [`Error::BadSetting`] for a time that is too short, or given with epochs.
pub(super) fn over_recipe(
    before: Before<'_>,
    mut question: Question<'_>,
) -> Result<(Settings, Option<Estimate>)> {
    let Before {
        given,
        base,
        recorded,
        resume,
        alone,
    } = before;
    let default = RecipeKind::default_of(&question.settings);
    let shapes = |recipe: RecipeKind| recipe == RecipeKind::Shapes;
    let recorded_recipe = recorded
        .and_then(|recorded| recorded.clone().with_recipe_of_before().recipe)
        .filter(|&recipe| shapes(recipe) == shapes(default));
    let named = question.settings.recipe;
    let recipe = named.or(recorded_recipe).unwrap_or(default);

    let time = question.settings.time.unwrap_or_default();
    let chosen_before = |by: &Settings| by.epochs.is_some() && by.time == Some(time);
    if !time.is_unlimited() {
        // The same command resumes with what was chosen when the run began.
        if let Some(recorded) = recorded.filter(|recorded| chosen_before(recorded)) {
            question.settings = question.settings.over(recorded.clone());
        }
        let decided = resume || chosen_before(base) || recorded.is_some_and(chosen_before);
        if !decided && question.settings.epochs.is_some() {
            let reason = "chooses `epochs`, which are given too; leave one of them out";
            return Err(Error::setting("time", time, reason));
        }
    }
    let open = question.settings.epochs.is_none();
    if !alone && !time.is_unlimited() && open {
        let reason = "is measured in one process; several need a number of epochs";
        return Err(Error::setting("time", time, reason));
    }
    // Images are looked at only where something depends on it.
    let images = match open || (recipe == RecipeKind::Small && !resume) {
        true => budget::facts(&*question.sources.train),
        false => ImageFacts::count(question.sources.train.len()),
    };
    let estimated = alone && recorded.is_none() && open && recipe == RecipeKind::Small;
    let plan = Plan {
        question,
        recipe,
        images,
    };
    if time.is_unlimited() && !estimated || !open {
        return Ok((plan.over_recipe(), None));
    }
    // Whatever is wrong with the settings is said before minutes are spent on them.
    let trial = plan.config(None, None)?;
    given.check_method(trial.method)?;
    given.check_network(&trial.arch)?;
    train_config(plan.question.env, &trial, &Ranks::default(), false)?;
    if !time.is_unlimited() {
        let (settings, estimate) = plan.fit(time.0)?;
        return Ok((settings, Some(estimate)));
    }
    let settings = plan.over_recipe();
    let (config, _) = settings.clone().resolve(images.count)?;
    let estimate = plan.estimate(&config)?;
    Ok((settings, Some(estimate)))
}

/// Checks that a network has the parts of the weights to start from, which would otherwise be left out,
/// and scales its branches only if they do.
fn check_variant(vit: &VitConfig, weights: &Weights) -> Result<()> {
    let theirs = weights.vit_config(Some(vit.heads))?;
    let fits = [
        ("stem", vit.conv_stem == theirs.conv_stem),
        ("layer-scale", vit.layer_scale == theirs.layer_scale),
        ("ffn", vit.gated_mlp == theirs.gated_mlp),
        ("positions", vit.rope.is_some() == theirs.rope.is_some()),
        ("registers", vit.registers >= theirs.registers),
    ];
    match fits.iter().find(|(_, fits)| !fits) {
        None => Ok(()),
        Some((setting, _)) => Err(Error::Invalid(format!(
            "the network in it differs in `{setting}`; leave that out to train it as it is"
        ))),
    }
}

/// What to do; with the weights to start from if the run is `new`.
pub(super) fn train_config(
    env: &Environment<'_>,
    config: &Config,
    ranks: &Ranks,
    new: bool,
) -> Result<TrainConfig> {
    let mut plan = config.train_config()?;
    plan.crops.validate()?;
    if let Some((_, crops)) = &plan.early_crops {
        crops.validate()?;
    }
    // A trial, so that what the method refuses ends it before the run begins.
    let mut method = config.method(&device::by_name("cpu")?)?;
    method.check(BatchShape {
        micro_batch: config.batch_size,
        accumulate: config.accumulate,
    })?;
    ranks.check_batch(config.batch_size)?;
    method.distribute(ranks)?;
    if new && !config.weights.as_os_str().is_empty() {
        let place = config.weights.display();
        let weights = read_start(&config.weights)?;
        if let BackboneConfig::Vit(vit) = &config.backbone() {
            check_variant(vit, &weights).of_setting("weights", place)?;
        }
        let first =
            ["stem.0.conv", "proj"].map(|layer| format!("backbone.patch_embed.{layer}.weight"));
        let kernels = first.iter().find_map(|name| weights.arrays.get(name));
        if let Some([_, channels, _, _]) = kernels.map(|kernels| &kernels.shape[..])
            && *channels != config.in_chans
        {
            let what = format!(
                "a network for images of {channels} channels, not of `in-chans` {}; start from \
                 others or leave `weights` out",
                config.in_chans
            );
            let place = config.weights.display();
            return Err(Error::Invalid(what)).of_setting("weights", place);
        }
        let options = LoadOptions {
            resize_positions: config.resize_pos_embed,
            allow_missing: true,
        };
        let report = method
            .start_from(&weights, options)
            .of_setting("weights", config.weights.display())?;
        env.events.hear(Event::Loaded(&report));
        plan.initial = Some((weights, options));
    }
    Ok(plan)
}
