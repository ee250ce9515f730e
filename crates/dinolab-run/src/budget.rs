//! How long a run takes on this machine, and which one takes a given time.

mod estimate;
mod images;
mod speed;

use std::time::{Duration, Instant};

use dinolab_nn::{BackboneConfig, Device};

pub use self::estimate::Estimate;
pub(crate) use self::images::facts;
use self::speed::Speed;
use crate::environment::Environment;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::settings::recipe::{ImageFacts, Scale};
use crate::settings::{Config, Settings};
use crate::sources::Sources;
use crate::values::{RecipeKind, TimeBudget};

/// Share of the time that evaluations may take, and how many there are at most and at least: the
/// first one is of the untrained network.
const EVALUATIONS_SHARE: f64 = 0.1;
const EVALUATIONS: (u64, u64) = (2, 11);
/// Seconds between checkpoints, at most one an epoch: what a power cut costs.
const CHECKPOINT_SECONDS: f64 = 60.0;
/// A run of fewer steps teaches nothing.
const LEAST_STEPS: f64 = 20.0;
/// Epochs from which on they are whole numbers.
const WHOLE_EPOCHS: f64 = 10.0;
/// More than anyone waits for.
const MOST_EPOCHS: f64 = 1e7;
/// Of the run that is measured: enough for a part with smaller crops.
const TRIAL_EPOCHS: f64 = 100.0;

/// What a run is chosen or measured for.
pub(crate) struct Question<'a> {
    pub env: &'a Environment<'a>,
    /// As given, before a recipe.
    pub settings: Settings,
    pub sources: &'a Sources,
    pub device: &'a Device,
    /// When the run began, for whoever waits for its end.
    pub began: Instant,
}

/// A question, and what a recipe goes by.
pub(crate) struct Plan<'a> {
    pub question: Question<'a>,
    pub recipe: RecipeKind,
    pub images: ImageFacts,
}

impl Plan<'_> {
    /// The settings over those of the recipe, nothing measured.
    pub(crate) fn over_recipe(&self) -> Settings {
        let settings = self.question.settings.clone();
        settings.over_recipe(self.recipe, self.images, None)
    }

    /// The settings with the recipe's, in a scale and for a number of epochs; complete.
    pub(crate) fn config(&self, scale: Option<Scale>, epochs: Option<f64>) -> Result<Config> {
        let mut settings = self.question.settings.clone();
        settings.epochs = epochs.or(settings.epochs);
        let settings = settings.over_recipe(self.recipe, self.images, scale);
        Ok(settings.resolve(self.images.count)?.0)
    }

    fn measure(&self, config: &Config, time: Option<Duration>) -> Result<Speed> {
        self.question.env.events.hear(Event::MeasuringSpeed);
        let Question {
            sources, device, ..
        } = self.question;
        Speed::measure(config, (sources, self.images.bytes), device, time)
    }

    /// How long a complete configuration takes.
    pub(crate) fn estimate(&self, config: &Config) -> Result<Estimate> {
        let speed = self.measure(config, None)?;
        let steps = steps_per_epoch(config, self.images.count)?;
        let evaluations = evaluations_of(config.epochs, config.eval_every);
        let early = config.low_resolution_epochs as f64;
        let trained = speed.epochs(config.epochs, early, steps);
        let total = trained + evaluations * speed.evaluation;
        Ok(speed.estimate(total, None))
    }

    /// The settings over those of the recipe, so that the run takes `time`; and what was measured.
    pub(crate) fn fit(&self, time: Duration) -> Result<(Settings, Estimate)> {
        let scales = self.recipe.scales(&self.question.settings);
        let scales: Vec<Option<Scale>> = match scales {
            // One network, the recipe's or the user's.
            [] => vec![None],
            scales => scales.iter().copied().map(Some).collect(),
        };
        let spent = || self.question.began.elapsed();
        let left = || time.saturating_sub(spent()).as_secs_f64();
        let first = self.config(scales[0], Some(TRIAL_EPOCHS))?;
        let speed = self.measure(&first, Some(time))?;
        self.longest(scales[0], &speed, left())?;
        let mut best = (scales[0], speed);
        let mut larger = None;
        for &scale in scales[1..].iter().rev() {
            let config = self.config(scale, Some(TRIAL_EPOCHS))?;
            let worth = scale.map_or(0.0, |scale| scale.worth_from);
            let sees = |fit: &Fit| fit.epochs * self.images.count as f64;
            let expected = speed.scaled(operations(&config) / operations(&first));
            let mut found = self.longest(scale, &expected, left());
            let mut measured = expected;
            // Arithmetic alone is a guess: within sight of its worth it is measured.
            if found.as_ref().is_ok_and(|found| sees(found) > 0.7 * worth) {
                measured = self.measure(&config, Some(time))?;
                found = self.longest(scale, &measured, left());
            }
            match found {
                Ok(found) if sees(&found) >= worth => {
                    best = (scale, measured);
                    break;
                }
                found => {
                    let epochs = found.map_or(0.0, |found| found.epochs);
                    larger = Some((network_in_words(&config), epochs));
                }
            }
        }
        let (scale, speed) = best;
        // Measuring took time, too.
        let found = self.longest(scale, &speed, left())?;
        let settings = Settings {
            epochs: Some(found.epochs),
            eval_every: self.question.settings.eval_every.or(Some(found.eval_every)),
            checkpoint_every: (self.question.settings.checkpoint_every)
                .or(Some(found.checkpoint_every)),
            ..self.question.settings.clone()
        };
        let estimate = Estimate {
            larger,
            ..speed.estimate(found.total + spent().as_secs_f64(), Some(time))
        };
        Ok((
            settings.over_recipe(self.recipe, self.images, scale),
            estimate,
        ))
    }

    /// The longest run in a scale that takes `left` seconds at most, evaluations included.
    fn longest(&self, scale: Option<Scale>, speed: &Speed, left: f64) -> Result<Fit> {
        let config = self.config(scale, Some(TRIAL_EPOCHS))?;
        let steps = steps_per_epoch(&config, self.images.count)?;
        let seconds = |epochs: f64| {
            let early = self.config(scale, Some(epochs));
            let early = early.map_or(0.0, |config| config.low_resolution_epochs as f64);
            speed.epochs(epochs, early, steps)
        };
        let affordable = (EVALUATIONS_SHARE * left / speed.evaluation.max(1e-9)) as u64;
        let evaluations = affordable.clamp(EVALUATIONS.0, EVALUATIONS.1);
        let evaluated = |epochs: f64| match self.question.settings.eval_every {
            None => evaluations as f64 * speed.evaluation,
            Some(every) => evaluations_of(epochs, every) * speed.evaluation,
        };
        let all = |epochs: f64| seconds(epochs) + evaluated(epochs);
        let epochs = most_epochs(&all, left);
        if epochs * steps < LEAST_STEPS {
            let spent = (config.time.0.as_secs_f64() - left).max(0.0);
            let least = 1.2 * all(LEAST_STEPS / steps) + spent;
            return Err(Error::setting(
                "time",
                config.time,
                format!(
                    "too short for a run of these settings: a step takes {:.2} s and an evaluation \
                     {:.0} s on this machine; give at least {}",
                    speed.later,
                    speed.evaluation,
                    TimeBudget(Duration::from_secs(least.ceil() as u64))
                ),
            ));
        }
        let epoch = seconds(epochs) / epochs;
        Ok(Fit {
            epochs,
            eval_every: (epochs / (evaluations - 1) as f64).ceil().max(1.0) as u64,
            checkpoint_every: (CHECKPOINT_SECONDS / epoch).ceil().max(1.0) as u64,
            total: all(epochs),
        })
    }
}

/// The length of a run.
struct Fit {
    epochs: f64,
    eval_every: u64,
    checkpoint_every: u64,
    /// Seconds.
    total: f64,
}

/// The most epochs of which `seconds` are not more than `left`: whole ones from [`WHOLE_EPOCHS`] on. Within an epoch
/// `seconds` grow, and they do from one whole epoch to the next from [`WHOLE_EPOCHS`] on; a shorter run may take longer
/// than one that begins with small crops.
fn most_epochs(seconds: &dyn Fn(f64) -> f64, left: f64) -> f64 {
    if seconds(WHOLE_EPOCHS) <= left {
        let (mut enough, mut too_many) = (WHOLE_EPOCHS, 2.0 * WHOLE_EPOCHS);
        while seconds(too_many) <= left && too_many < MOST_EPOCHS {
            (enough, too_many) = (too_many, 2.0 * too_many);
        }
        while too_many - enough > 1.0 {
            let middle = ((enough + too_many) / 2.0).floor();
            match seconds(middle) <= left {
                true => enough = middle,
                false => too_many = middle,
            }
        }
        return enough;
    }
    let mut enough = WHOLE_EPOCHS - 1.0;
    while enough > 0.0 && seconds(enough) > left {
        enough -= 1.0;
    }
    let mut too_many = enough + 1.0;
    for _ in 0..20 {
        let middle = (enough + too_many) / 2.0;
        match seconds(middle) <= left {
            true => enough = middle,
            false => too_many = middle,
        }
    }
    (100.0 * enough).floor() / 100.0
}

/// Evaluations of a run: before the first step, every N epochs, and at the end.
fn evaluations_of(epochs: f64, every: u64) -> f64 {
    match every {
        0 => 0.0,
        every => 1.0 + (epochs / every as f64).ceil(),
    }
}

fn network_in_words(config: &Config) -> String {
    match config.backbone() {
        BackboneConfig::Vit(vit) => format!("width {} and depth {}", vit.width, vit.depth),
        _ => format!("{} of width {}", config.arch, config.width),
    }
}

fn steps_per_epoch(config: &Config, images: usize) -> Result<f64> {
    let steps = dinolab_train::steps_per_epoch(images, config.batch_size, config.accumulate)?;
    Ok(steps as f64)
}

/// Operations of a step, up to a factor that methods and sizes share.
fn operations(config: &Config) -> f64 {
    let forward = |side: usize| crate::bench::forward_operations(&config.backbone(), side);
    let locals = config.local_crops_number as f64;
    let views = 2.0 * forward(config.global_crops_size.longest())
        + locals * forward(config.local_crops_size.longest());
    (config.batch_size * config.accumulate) as f64 * views
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_epochs_are_found() {
        for (epoch, left) in [(3.0, 1000.0), (0.001, 60.0), (7.0, 70.0), (30.0, 45.0)] {
            let seconds = |epochs: f64| epoch * epochs;
            let found = most_epochs(&seconds, left);
            assert!(seconds(found) <= left, "{epoch}: {found}");
            let step = if found < WHOLE_EPOCHS { 0.02 } else { 1.0 };
            assert!(seconds(found + step) > left, "{epoch}: {found}");
            assert!(found < WHOLE_EPOCHS || found.fract() == 0.0);
        }
        // Every second epoch is a cheap one, from four on.
        let halved = |epochs: f64| match epochs < 4.0 {
            true => epochs,
            false => {
                let cheap = (epochs / 2.0).floor();
                0.25 * cheap + (epochs - cheap)
            }
        };
        assert_eq!(most_epochs(&halved, 6.25), 10.0);
        // Nine epochs take all of it.
        assert_eq!(most_epochs(&halved, 6.0), 9.0);
        let few = most_epochs(&halved, 4.5);
        assert!((6.74..=6.75).contains(&few), "{few}");
        // Four epochs take 2.5, less than three.
        assert_eq!(most_epochs(&halved, 2.5), 4.0);
        assert_eq!(most_epochs(&halved, 25.0), 40.0);
        assert_eq!(most_epochs(&halved, 0.0), 0.0);
    }
}
