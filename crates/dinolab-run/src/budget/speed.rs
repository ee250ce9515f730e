//! How fast this machine trains and evaluates: measured by doing both for some seconds.

use std::time::{Duration, Instant};

use dinolab_data::Loader;
use dinolab_nn::Device;
use dinolab_train::{Method, StepHyperparams, Views};

use super::Estimate;
use crate::error::Result;
use crate::evaluator::Evaluator;
use crate::settings::Config;
use crate::sources::Sources;

/// Steps before the clock: memory is taken, and batches wait that were made before.
const WARM_UP: usize = 2;
/// Steps that are timed at least, and at most for a second of timing: short ones are told sooner.
const LEAST_STEPS: usize = 3;
const STEPS_PER_SECOND: f64 = 15.0;
/// How long steps of a kind are timed, in seconds at least and at most, and as a share of the time of the run: others
/// that use the machine slow it down for moments.
const TIMED: (f64, f64) = (2.0, 10.0);
const TIMED_SHARE: f64 = 0.005;

/// Seconds that things take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Speed {
    /// A step on images that are read for the first time.
    pub first: f64,
    /// A step on images that were read before and may be kept in memory.
    pub later: f64,
    /// The same with the smaller crops of the first epochs, where there are such.
    pub early: f64,
    /// An evaluation.
    pub evaluation: f64,
}

impl Speed {
    /// Trains and evaluates for some seconds, with a `time` for the run for a share of it; nothing is kept.
    pub(super) fn measure(
        config: &Config,
        (sources, bytes): (&Sources, u64),
        device: &Device,
        time: Option<Duration>,
    ) -> Result<Self> {
        let enough = enough(time);
        let plan = config.train_config()?;
        let loader = Loader::new(sources.train.clone(), plan.crops, plan.loader)?;
        let mut method = config.method(device)?;
        let early = match plan.early_crops {
            Some((_, crops)) => Some(loader.with_crops(crops)?),
            None => None,
        };
        let mut timed = |loader: &Loader| steps(loader, &mut *method, config.accumulate, enough);
        // The same images twice: the second time they are in memory, where all images have room.
        let (first, cached) = (timed(&loader)?, timed(&loader)?);
        let early = early.map_or(Ok(cached), |loader| timed(&loader))?;
        let later = match bytes <= config.cache_mb << 20 {
            true => cached,
            false => first.max(cached),
        };
        let evaluation = match config.eval_every {
            0 => Duration::ZERO,
            _ => Evaluator::new(config, sources).estimate(method.backbone())?,
        };
        Ok(Self {
            first: first.max(later),
            later,
            // What reading costs, it costs small crops as well.
            early: early + (later - cached),
            evaluation: evaluation.as_secs_f64(),
        })
    }

    /// Of a network with `factor` times the operations.
    pub(super) fn scaled(&self, factor: f64) -> Self {
        Self {
            first: factor * self.first,
            later: factor * self.later,
            early: factor * self.early,
            evaluation: factor * self.evaluation,
        }
    }

    /// Seconds that so many epochs take, `early` of them with smaller crops: the first one reads the
    /// images.
    pub(super) fn epochs(&self, epochs: f64, early: f64, steps_per_epoch: f64) -> f64 {
        let early = early.min(epochs);
        let reading = epochs.min(1.0) * (self.first - self.later);
        steps_per_epoch * (early * self.early + (epochs - early) * self.later + reading)
    }

    pub(super) fn estimate(&self, total: f64, asked: Option<Duration>) -> Estimate {
        Estimate {
            total: Duration::from_secs_f64(total.max(0.0)),
            step: Duration::from_secs_f64(self.later),
            evaluation: Duration::from_secs_f64(self.evaluation),
            asked,
            larger: None,
        }
    }
}

/// How long steps of a kind are timed, for a run of `time` or one whose time is open.
fn enough(time: Option<Duration>) -> Duration {
    let share = time.map_or(0.0, |time| TIMED_SHARE * time.as_secs_f64());
    Duration::from_secs_f64(share.clamp(TIMED.0, TIMED.1))
}

/// Seconds of a step, the mean over some.
fn steps(
    loader: &Loader,
    method: &mut dyn Method,
    accumulate: usize,
    enough: Duration,
) -> Result<f64> {
    let most = (STEPS_PER_SECOND * enough.as_secs_f64()).round() as usize;
    let count = (WARM_UP + most) * accumulate;
    let mut batches = loader.train_batches(0, 0, usize::MAX, count);
    let mut began = Instant::now();
    let mut done = 0;
    loop {
        let mut views = Vec::with_capacity(accumulate);
        for _ in 0..accumulate {
            let Some(crops) = batches.next() else { break };
            let crops = crops?;
            views.push(Views::new(&crops, method.device()));
            loader.recycle(crops);
        }
        if views.len() < accumulate {
            break;
        }
        let hp = StepHyperparams {
            step: done as u64,
            epoch: 1,
            // A schedule so long that its values stand still, at a rate that changes no weight.
            steps: 1 << 40,
            lr: 0.0,
            weight_decay: 0.0,
            backbone_rate: 1.0,
        };
        method.step(&views, &hp)?;
        done += 1;
        if done == WARM_UP {
            began = Instant::now();
        }
        let timed = done.saturating_sub(WARM_UP);
        if timed >= LEAST_STEPS && began.elapsed() >= enough {
            break;
        }
    }
    let timed = done.saturating_sub(WARM_UP).max(1);
    Ok(began.elapsed().as_secs_f64() / timed as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_runs_are_timed_longer_within_limits() {
        let minutes = |minutes: u64| enough(Some(Duration::from_secs(60 * minutes))).as_secs_f64();
        assert_eq!(enough(None).as_secs_f64(), 2.0);
        assert_eq!(
            [1, 10, 20, 60, 480].map(minutes),
            [2.0, 3.0, 6.0, 10.0, 10.0]
        );
    }

    #[test]
    fn the_first_epoch_takes_longer_and_early_ones_less() {
        let speed = Speed {
            first: 2.0,
            later: 0.5,
            early: 0.25,
            evaluation: 1.0,
        };
        assert_eq!(speed.epochs(0.5, 0.0, 10.0), 10.0);
        assert_eq!(speed.epochs(3.0, 0.0, 10.0), 30.0);
        assert_eq!(speed.epochs(3.0, 2.0, 10.0), 25.0);
        // More early epochs than there are.
        assert_eq!(speed.epochs(3.0, 9.0, 10.0), 22.5);
    }
}
