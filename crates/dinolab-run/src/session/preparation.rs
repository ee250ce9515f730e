//! What has to be known before a run begins: the channels' mean and deviation, the weights to start
//! from.

use dinolab_data::{Pixels, statistics};
use dinolab_nn::device;
use dinolab_nn::weights::LoadOptions;
use dinolab_train::{BatchShape, TrainConfig};

use crate::environment::Environment;
use crate::error::{Context, Error, Result};
use crate::event::Event;
use crate::settings::{Config, Settings};
use crate::sources::Sources;
use crate::values::Numbers;
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

/// What to do; with the weights to start from if the run is `new`.
pub(super) fn train_config(
    env: &Environment<'_>,
    config: &Config,
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
    if new && !config.weights.as_os_str().is_empty() {
        let place = config.weights.display();
        let weights = read(&config.weights, None)?;
        weights.check_trainable().of_setting("weights", place)?;
        let kernels = weights.arrays.get("backbone.patch_embed.proj.weight");
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
